//! `ashctl doctor`: what Ash needs, and whether it is there.
//!
//! What needs no daemon is looked at here, the rest is asked of the daemon; where both know a
//! check of the same name, the daemon's counts, as it is the one that has to live with it.

mod bubblewrap;
mod host;

use serde_json::json;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::{BOLD, DIM, GREEN, RED, YELLOW, clean};
use crate::client::connect::CONTROL_SOCKET;
use crate::client::{Client, ClientError, Server};
use crate::report;
use crate::wire::health::{Check, CheckStatus};

pub(super) async fn run(context: &mut Context) -> Result<(), CliError> {
    let mut checks = Vec::new();
    let local = context.client.server().is_local();
    if local {
        let socket = match context.client.server() {
            Server::Unix(path) => path.clone(),
            Server::Http { .. } => CONTROL_SOCKET.into(),
        };
        checks = tokio::task::spawn_blocking(move || {
            let mut checks = host::checks(&socket);
            checks.extend(bubblewrap::checks());
            checks
        })
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    } else {
        let server = context.client.server().to_string();
        context.output.say(format_args!("Only what {server} says of itself; run ashctl doctor there for its host."));
    }
    let (reach, daemon) = daemon(&context.client).await;
    checks.push(reach);
    merge(&mut checks, daemon);
    show(&checks, context)?;
    let failed = checks.iter().filter(|check| check.status == CheckStatus::Failed).count();
    match failed {
        0 => Ok(()),
        1 => Err(CliError::Unwell("1 check failed".into())),
        count => Err(CliError::Unwell(format!("{count} checks failed"))),
    }
}

/// Whether the daemon can be reached, and what it says of itself.
async fn daemon(client: &Client) -> (Check, Vec<Check>) {
    let reached = match client.health().await {
        Ok(health) => ok("daemon", format!("ash {} answers on {}", health.body.version, client.server())),
        Err(error) => return (unreached(&error, client.server()), Vec::new()),
    };
    match client.doctor().await {
        Ok(report) => (reached, report.body.checks),
        // An older daemon, or a caller that it knows not.
        Err(error) => (warning("daemon", format!("{}, but says no more: {error}", reached.detail), error.hint()), Vec::new()),
    }
}

fn unreached(error: &ClientError, server: &Server) -> Check {
    let gone = matches!(error, ClientError::Connect { cause, .. } if cause.kind != Some(std::io::ErrorKind::PermissionDenied));
    // The question of the hint is what was just looked into.
    let fix = if gone && *server == Server::default() {
        Some("sudo systemctl start ash; if it does not stay: journalctl --unit=ash --lines=20".to_owned())
    } else {
        error.hint()
    };
    failed("daemon", report::chain(error), fix)
}

/// Adds the daemon's checks, in place of those of the same name.
fn merge(checks: &mut Vec<Check>, daemon: Vec<Check>) {
    for check in daemon {
        match checks.iter_mut().find(|known| known.name == check.name) {
            Some(known) => *known = check,
            None => checks.push(check),
        }
    }
}

fn show(checks: &[Check], context: &mut Context) -> Result<(), CliError> {
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&json!({ "checks": checks }));
    }
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let (style, sign) = match check.status {
            CheckStatus::Ok => (GREEN, '✓'),
            CheckStatus::Warning | CheckStatus::Unknown => (YELLOW, '!'),
            CheckStatus::Failed => (RED, '✗'),
        };
        let (name, detail) = (clean(&check.name), clean(&check.detail));
        output.line(format_args!("{style}{sign}{style:#} {BOLD}{name:width$}{BOLD:#}  {detail}"))?;
        if let Some(fix) = check.fix.as_ref().filter(|_| check.status != CheckStatus::Ok) {
            output.line(format_args!("  {:width$}  {DIM}fix:{DIM:#} {}", "", clean(fix)))?;
        }
    }
    Ok(())
}

fn check(name: &str, status: CheckStatus, detail: impl Into<String>, fix: Option<String>) -> Check {
    Check { name: name.into(), status, detail: detail.into(), fix }
}

fn ok(name: &str, detail: impl Into<String>) -> Check {
    check(name, CheckStatus::Ok, detail, None)
}

fn warning(name: &str, detail: impl Into<String>, fix: impl Into<Option<String>>) -> Check {
    check(name, CheckStatus::Warning, detail, fix.into())
}

fn failed(name: &str, detail: impl Into<String>, fix: impl Into<Option<String>>) -> Check {
    check(name, CheckStatus::Failed, detail, fix.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_knows_better() {
        let mut checks = vec![ok("systemd", "257"), failed("runtime", "not found", None)];
        merge(&mut checks, vec![ok("runtime", "claude 2.1"), ok("database", "fine")]);
        let details: Vec<&str> = checks.iter().map(|check| check.detail.as_str()).collect();
        assert_eq!(details, ["257", "claude 2.1", "fine"]);
    }
}
