//! `ashctl deploy`: from a folder to an agent.

mod archive;
mod dotenv;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

pub use self::archive::ArchiveError;
pub(super) use self::archive::Plan;
use self::archive::{DOTENV_FILES, pieces};
pub use self::dotenv::DotenvError;
use crate::cli::Context;
use crate::cli::args::Deploy;
use crate::cli::error::CliError;
use crate::client::{Body, ClientError};
use crate::wire::agent::AgentPatch;

/// Pieces of the archive that wait to be sent.
const PIECES_AHEAD: usize = 4;

pub(super) async fn run(args: Deploy, context: &mut Context) -> Result<(), CliError> {
    let folder = folder(&args.dir)?;
    let name = name(args.name.as_deref(), &folder, context)?;
    let env = loaded_environment(&folder, &args.env, context)?;
    let plan = Plan::of(&folder)?;
    for path in &plan.left_out {
        context.output.say(format_args!("Left out: {}", path.display()));
    }

    let mut answer = upload(&name, plan, context).await?;
    if !env.is_empty() {
        answer = context.client.patch_agent(&name, &AgentPatch { env: Some(env.clone()), config: None }).await?;
    }

    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["agent"]);
    }
    let agent = answer.body.agent;
    output.line(format_args!("Deployed agent \"{}\" (v{})", agent.name, agent.version))?;
    output.line(format_args!("  digest: {}", agent.digest))?;
    if !env.is_empty() {
        output.line(format_args!("  env: {}", env.into_keys().collect::<Vec<_>>().join(", ")))?;
    }
    output.whisper(format_args!("Talk to it: ashctl chat {}", agent.name));
    Ok(())
}

/// The folder by its real name, if it is one that can be an agent.
fn folder(dir: &Path) -> Result<PathBuf, CliError> {
    let refuse = |problem, hint: Option<&str>| CliError::Folder { path: dir.into(), problem, hint: hint.map(Into::into) };
    let folder = dir.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refuse("there is no such folder", None),
        io::ErrorKind::PermissionDenied => refuse("permission denied", None),
        _ => refuse("it can not be opened", None),
    })?;
    if !folder.is_dir() {
        return Err(refuse("it is not a folder", Some("name the folder that holds CLAUDE.md")));
    }
    if !folder.join("CLAUDE.md").is_file() {
        return Err(refuse("it has no CLAUDE.md", Some("write what the agent is to do into a file CLAUDE.md in that folder")));
    }
    Ok(folder)
}

/// The agent's name: as given, or the folder's, made of letters that a name may have.
fn name(given: Option<&str>, folder: &Path, context: &mut Context) -> Result<String, CliError> {
    let wanted = given.map_or_else(|| folder.file_name().unwrap_or_default().to_string_lossy(), Into::into);
    let name = fold(&wanted);
    if name.is_empty() || name.len() > 255 {
        let problem = format!("{wanted:?} can not be an agent's name");
        return Err(CliError::usage(problem, "give it one of at most 255 letters, digits, - and _: --name NAME"));
    }
    if name != wanted {
        if given.is_some() {
            let problem = format!("{wanted:?} can not be an agent's name");
            return Err(CliError::usage(problem, format!("a name has letters, digits, - and _ only: --name {name}")));
        }
        context.output.say(format_args!("Normalized agent name: \"{wanted}\" → \"{name}\""));
    }
    Ok(name)
}

/// Every run of letters that a name may not have becomes one hyphen.
fn fold(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.split(|c| !allowed(c)).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Variables from the folder's files, and from the command line, which win.
fn loaded_environment(folder: &Path, arguments: &[String], context: &mut Context) -> Result<BTreeMap<String, String>, CliError> {
    for file in DOTENV_FILES {
        if let Some(found) = dotenv::read(&folder.join(file))? {
            let plural = if found.len() == 1 { "" } else { "s" };
            context.output.say(format_args!("Loaded {} env var{plural} from {file}", found.len()));
        }
    }
    environment(Some(folder), arguments)
}

/// Variables from `.env` and `.env.local` of a folder, then from arguments; what comes later wins.
pub(super) fn environment(folder: Option<&Path>, arguments: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut env = BTreeMap::new();
    for file in folder.iter().flat_map(|folder| DOTENV_FILES.map(|file| folder.join(file))) {
        env.extend(dotenv::read(&file)?.unwrap_or_default());
    }
    for argument in arguments {
        env.extend([dotenv::argument(argument)?]);
    }
    Ok(env)
}

/// Sends the archive while it is being made.
async fn upload(
    name: &str,
    plan: Plan,
    context: &Context,
) -> Result<crate::client::Answer<crate::wire::agent::AgentBody>, CliError> {
    let bar = progress(&format!("Deploying {name}"), &plan, context);
    send(plan, false, bar, |body| context.client.deploy_archive(name, body)).await
}

/// Packs a folder, compressed by gzip or not, and sends it meanwhile.
pub(super) async fn send<T, F>(plan: Plan, gzip: bool, bar: ProgressBar, call: impl FnOnce(Body) -> F) -> Result<T, CliError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let meter = bar.clone();
    let walk = tokio::task::spawn_blocking(move || {
        let (to, count) = (pieces(sender.clone()), |count| meter.inc(count));
        let packed = if gzip {
            let packed = plan.write(GzEncoder::new(to, Compression::fast()), count);
            packed.and_then(|gzip| gzip.finish().map_err(ArchiveError::Write))
        } else {
            plan.write(to, count)
        };
        let packed = packed.and_then(|mut out| out.flush().map_err(ArchiveError::Write));
        meter.set_message("storing");
        packed.inspect_err(|_| {
            // A stream that merely ended would look like a smaller folder.
            drop(sender.blocking_send(Err(io::Error::other("the folder can not be packed"))));
        })
    });

    let mut call = std::pin::pin!(call(body(receiver)));
    let mut walk = std::pin::pin!(walk);
    let walked = tokio::select! {
        // The server may answer before it has all; then what it says is what counts.
        answer = &mut call => match answer {
            Err(ClientError::Broken { server, cause }) => walk.await.map(|walked| match walked {
                Err(error) if !error.is_hang_up() => Err(error.into()),
                _ => Err(ClientError::Broken { server, cause }.into()),
            }),
            answer => Ok(answer.map_err(CliError::from)),
        },
        walked = &mut walk => match walked {
            Ok(Err(error)) if !error.is_hang_up() => Ok(Err(error.into())),
            Ok(_) => Ok(call.await.map_err(CliError::from)),
            Err(panic) => Err(panic),
        },
    };
    let result = walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    bar.finish_and_clear();
    result
}

/// A body of pieces as they come.
pub(super) fn body(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    StreamBody::new(pieces).boxed()
}

/// Shows how far the folder has gone.
pub(super) fn progress(what: &str, plan: &Plan, context: &Context) -> ProgressBar {
    let visible = context.output.talk_is_terminal && !context.output.is_json();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(plan.bytes), target);
    let style =
        ProgressStyle::with_template("{spinner:.green} {prefix} {bar:24.green/dim} {bytes}/{total_bytes} {wide_msg:.dim}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar.set_prefix(what.to_owned());
    let plural = if plan.files == 1 { "" } else { "s" };
    bar.set_message(format!("{} file{plural}", plan.files));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_to_what_a_name_may_have() {
        for (text, name) in
            [("hello", "hello"), ("My Agent (v2)", "My-Agent-v2"), ("qa_bot", "qa_bot"), ("äöü", ""), ("a.b", "a-b")]
        {
            assert_eq!(fold(text), name);
        }
    }
}
