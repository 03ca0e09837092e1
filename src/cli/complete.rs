//! What a shell offers for names and ids: those that there are, asked of the daemon that the line so far
//! means.
//!
//! The shell runs `ashctl` with a variable that names it, and waits. So there is a deadline, nothing is said
//! of a daemon that does not answer, and no command is run to get a key, as it could ask for a passphrase.

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::args::{Cli, Global};
use super::contexts::Contexts;
use super::output::{ago, now, one_line};
use super::target::{self, KeyCommands};
use crate::client::{Client, ClientError, SessionQuery};

/// Names the shell that asks.
pub(super) const VARIABLE: &str = "ASHCTL_COMPLETE";
/// Longest that a shell waits for names and ids.
const DEADLINE: Duration = Duration::from_secs(2);
/// Most sessions that are offered: the newest.
const SESSIONS_OFFERED: u32 = 100;
/// Most schedules that are offered: the newest.
const SCHEDULES_OFFERED: u32 = 100;
/// Most letters of a description.
const HELP_LETTERS: usize = 60;

/// Answers a shell that asks for completions, which ends the process; else does nothing.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Names of agents.
pub(super) fn agents() -> ArgValueCandidates {
    offer(async |client| {
        let agents = client.agents().await?.body.agents;
        Ok(agents.into_iter().map(|agent| candidate(agent.name, &format!("v{}", agent.version))).collect())
    })
}

/// Ids of sessions, with status and agent.
pub(super) fn sessions() -> ArgValueCandidates {
    offer(async |client| {
        let query = SessionQuery { limit: Some(SESSIONS_OFFERED), ..SessionQuery::default() };
        let (sessions, now) = (client.sessions(&query).await?.body.sessions, now());
        let one = |session: crate::wire::session::Session| {
            let help = format!("{} {}, {}", session.status.as_str(), session.agent_name, ago(session.last_active_at, now));
            candidate(session.id.to_string(), &help)
        };
        Ok(sessions.into_iter().map(one).collect())
    })
}

/// Ids of schedules, with their names.
pub(super) fn schedules() -> ArgValueCandidates {
    offer(async |client| {
        let schedules = client.schedules(None, SCHEDULES_OFFERED).await?.body.schedules;
        Ok(schedules.into_iter().map(|one| candidate(one.id.to_string(), &one.name)).collect())
    })
}

/// Ids of credentials, with their types and labels.
pub(super) fn credentials() -> ArgValueCandidates {
    offer(async |client| {
        let credentials = client.credentials().await?.body.credentials;
        let help = |kind: &str, label: &str| format!("{kind} {label}").trim_end().to_owned();
        Ok(credentials.into_iter().map(|one| candidate(one.id.to_string(), &help(one.r#type.as_str(), &one.label))).collect())
    })
}

/// Ids of API keys, with their labels.
pub(super) fn keys() -> ArgValueCandidates {
    offer(async |client| {
        let keys = client.keys(None).await?.body.keys;
        Ok(keys.into_iter().map(|key| candidate(key.id.to_string(), &key.label)).collect())
    })
}

/// Ids of eval cases of the agent that was named before, with their questions.
pub(super) fn eval_cases() -> ArgValueCandidates {
    offer(async |client| {
        let Some(agent) = agent(env::args_os()) else { return Ok(Vec::new()) };
        let cases = client.eval_cases(&agent, None, None).await?.body.cases.into_iter().rev();
        Ok(cases.map(|case| candidate(case.id.to_string(), &case.content.question)).collect())
    })
}

/// Ids of eval runs of the agent that was named before, with what they came to.
pub(super) fn eval_runs() -> ArgValueCandidates {
    offer(async |client| {
        let Some(agent) = agent(env::args_os()) else { return Ok(Vec::new()) };
        let (runs, now) = (client.eval_runs(&agent, None).await?.body.runs, now());
        Ok(runs
            .into_iter()
            .map(|run| candidate(run.id.to_string(), &format!("{}, {}", run.status, ago(run.created_at, now))))
            .collect())
    })
}

/// The agent on the line that is being typed.
fn agent(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let line = arguments.skip_while(|word| word != "--").skip(1);
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
    let mut at = &matches;
    while let Some((_, below)) = at.subcommand() {
        at = below;
    }
    at.try_get_one::<String>("agent").ok().flatten().cloned()
}

/// Names of contexts, with their daemons.
pub(super) fn contexts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let contexts = Contexts::read().ok();
        let all = contexts.iter().flat_map(Contexts::all);
        all.map(|(name, entry)| candidate(name.to_owned(), &entry.server.to_string())).collect::<Vec<_>>()
    })
}

fn candidate(value: String, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(one_line(help, HELP_LETTERS).into()))
}

fn offer(
    ask: impl AsyncFn(Client) -> Result<Vec<CompletionCandidate>, ClientError> + Send + Sync + 'static,
) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let (Some(client), Ok(runtime)) =
            (client(env::args_os()), tokio::runtime::Builder::new_current_thread().enable_all().build())
        else {
            return Vec::new();
        };
        let found = runtime.block_on(async { tokio::time::timeout(DEADLINE, ask(client)).await });
        // A name may still be looked up.
        runtime.shutdown_background();
        found.ok().and_then(Result::ok).unwrap_or_default()
    })
}

/// The client that the line which is being typed would use, as far as it tells.
fn client(arguments: impl Iterator<Item = OsString>) -> Option<Client> {
    let line = arguments.skip_while(|word| word != "--").skip(1);
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
    target::client(&Global::from_arg_matches(&matches).ok()?, &matches, KeyCommands::Refused).ok()
}
