//! `ashctl status`: how the daemon is doing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::session;
use crate::cli::args::Watch;
use crate::cli::error::CliError;
use crate::cli::output::{BOLD, GREEN, YELLOW, duration};
use crate::cli::{Context, watch};
use crate::client::{Server, SessionQuery};
use crate::wire::health::Health;
use crate::wire::session::Status;

/// Most sessions that are shown; `session list` shows all.
const SESSIONS_SHOWN: u32 = 10;

const CONFIG: &str = "etc/ash/ash.toml";
/// Weakest first. A drop-in hides those of its name in weaker folders.
const DROP_INS: [&str; 3] = ["usr/lib/ash/ash.toml.d", "run/ash/ash.toml.d", "etc/ash/ash.toml.d"];
const DEFAULT_LISTEN: &str = "127.0.0.1:4100";
const PROBE_TIMEOUT_MS: u64 = 500;

pub(super) async fn run(args: Watch, context: &mut Context) -> Result<(), CliError> {
    watch::repeat(args.every_secs, context, show).await
}

async fn show(context: &mut Context) -> Result<(), CliError> {
    let health = context.client.health().await?;
    let query = SessionQuery { status: Some(Status::Active), limit: Some(SESSIONS_SHOWN), ..SessionQuery::default() };
    // Whoever has no key for it still sees whether the daemon lives.
    let sessions = context.client.sessions(&query).await;
    if context.output.is_json() {
        let sessions = sessions.as_ref().ok().map(|answer| &answer.json["sessions"]);
        let server = context.client.server().to_string();
        return context.output.json(&json!({ "server": server, "health": health.json, "sessions": sessions }));
    }
    summary(&health.body, context)?;
    match sessions {
        Ok(answer) if answer.body.sessions.is_empty() => {}
        Ok(answer) => {
            context.output.line("")?;
            session::table(&answer.body.sessions, context)?;
            let more = health.body.active_sessions - i64::from(SESSIONS_SHOWN);
            if more > 0 {
                context.output.line(format_args!("… and {more} more: ashctl session list --status active"))?;
            }
        }
        Err(error) => {
            context.output.say(format_args!("sessions are not shown: {error}"));
            if let Some(hint) = error.hint() {
                context.output.say(format_args!("hint:  {hint}"));
            }
        }
    }
    Ok(())
}

fn summary(health: &Health, context: &mut Context) -> Result<(), CliError> {
    let style = if health.status == "ok" { GREEN } else { YELLOW };
    let state = if health.status == "ok" { "running" } else { &health.status };
    let output = &mut context.output;
    output.line(format_args!(
        "{style}●{style:#} {BOLD}ash {}{BOLD:#}: {style}{state}{style:#} for {}",
        health.version,
        duration(health.uptime)
    ))?;
    let mut fields = vec![("Server", context.client.server().to_string())];
    // The configuration of this host is that of the daemon behind the usual socket.
    if *context.client.server() == Server::default() {
        fields.push(("API", listeners()));
    }
    let pool = &health.pool;
    fields.push(("Sessions", format!("{} active", health.active_sessions)));
    let states = [
        ("running", pool.running),
        ("waiting", pool.waiting),
        ("warm", pool.warm),
        ("warming", pool.warming),
        ("cold", pool.cold),
    ];
    let states = states.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}"));
    let states = states.collect::<Vec<_>>().join(", ");
    let states = if states.is_empty() { String::new() } else { format!(" ({states})") };
    let capacity = if pool.max_capacity > 0 { format!(" of {}", pool.max_capacity) } else { String::new() };
    fields.push(("Sandboxes", format!("{}{capacity}{states}", health.active_sandboxes)));
    if health.remote_runners > 0 {
        fields.push(("Runners", format!("{} beside this host", health.remote_runners)));
    }
    output.fields(&fields)
}

/// Where the daemon of this host listens for HTTP, and whether it answers there.
fn listeners() -> String {
    let listen = configured(Path::new("/")).unwrap_or_else(|| vec![DEFAULT_LISTEN.into()]);
    if listen.is_empty() {
        return "on the control socket only".into();
    }
    listen.iter().map(|address| listener(address)).collect::<Vec<_>>().join(", ")
}

fn listener(listen: &str) -> String {
    let Ok(mut address) = listen.parse::<SocketAddr>() else { return listen.into() };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    match TcpStream::connect_timeout(&address, Duration::from_millis(PROBE_TIMEOUT_MS)) {
        Ok(_) => format!("http://{listen}"),
        Err(error) => format!("http://{listen}, but nothing answers there ({})", error.kind()),
    }
}

/// `[http] listen` of the configuration below `root`, if any file that can be read names it.
fn configured(root: &Path) -> Option<Vec<String>> {
    let mut files = BTreeMap::new();
    for folder in DROP_INS {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten();
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let tomls = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.extend(tomls.filter_map(|path| Some((path.file_name()?.to_owned(), path))));
    }
    let listen = |path: &PathBuf| {
        let table: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
        match table.get("http")?.get("listen")? {
            toml::Value::String(one) => Some(vec![one.clone()]),
            toml::Value::Array(all) => Some(all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()),
            _ => None,
        }
    };
    std::iter::once(root.join(CONFIG)).chain(files.into_values()).filter_map(|path| listen(&path)).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_strongest_file_says_where_it_listens() {
        let root = tempfile::tempdir().expect("a folder");
        let listens = |expected: Option<&[&str]>| {
            let found = configured(root.path());
            assert_eq!(
                found.as_deref(),
                expected.map(|all| all.iter().map(|one| one.to_string()).collect::<Vec<_>>()).as_deref()
            );
        };
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        listens(None);
        write("etc/ash/ash.toml", "[http]\nlisten = \"127.0.0.1:1\"\n");
        listens(Some(&["127.0.0.1:1"]));
        write("usr/lib/ash/ash.toml.d/20.toml", "[http]\nlisten = [\"127.0.0.1:2\", \"[::1]:2\"]");
        listens(Some(&["127.0.0.1:2", "[::1]:2"]));
        write("etc/ash/ash.toml.d/10.toml", "[http]\nlisten = \"127.0.0.1:3\"");
        write("etc/ash/ash.toml.d/30.toml", "[limits]\nmemory = \"1G\"");
        listens(Some(&["127.0.0.1:2", "[::1]:2"]));
        write("etc/ash/ash.toml.d/20.toml", "[http]\nlisten = []");
        listens(Some(&[]));
    }
}
