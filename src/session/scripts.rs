//! The scripts of an agent: `install.sh`, whose outcome is kept for all sessions of a version
//! ([`layer`](super::layer)), and `startup.sh`, which is run in each new sandbox of a session. Both run
//! inside, as the agent's own tools do, each with its time and its list of what may be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval};

use super::Context;
use super::exec::signal_name;
use super::open::KEY_VARIABLE;
use crate::agent::Definition;
use crate::agent::manifest::ScriptRules;
use crate::link::daemon::{LinkError, ShimHandle};
use crate::link::shim::{Egress, Job, Run, RunEnd};
use crate::report::chain;
use crate::store::{NewEvent, SessionRow, now};
use crate::wire::event::Kind;
use crate::wire::quantity::TimeSpan;

/// Bytes of what a script wrote last that are told.
const TOLD_MAX: usize = 4096;
/// How often it is said that a script still runs.
pub const BEAT: Duration = Duration::from_secs(10);
/// What a shim may take beyond a script's time.
const OVERTIME: Duration = Duration::from_secs(30);

/// Why a script did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It could not be run.
    #[error("run {script}")]
    Link {
        /// The script.
        script: &'static str,
        /// Why.
        source: LinkError,
    },
    /// It did not end well.
    #[error("{script} {how}{}", told(.said))]
    Failed {
        /// The script.
        script: &'static str,
        /// How it ended, as the rest of a sentence.
        how: String,
        /// What it wrote last.
        said: String,
    },
}

fn told(said: &str) -> String {
    if said.is_empty() { ", and wrote nothing".to_owned() } else { format!("; it wrote: {said}") }
}

/// A script that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How long it took.
    pub took: Duration,
    /// What it wrote last.
    pub said: String,
}

/// The event that tells how a sandbox was started.
pub fn started(outcome: &Result<Ran, ScriptError>) -> NewEvent {
    let data = match outcome {
        Ok(Ran { took, said }) => {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            serde_json::json!({"action": "startup", "durationMs": millis, "output": said})
        }
        Err(error) => serde_json::json!({"action": "startup", "error": chain(error)}),
    };
    NewEvent { at: now(), turn: None, kind: Kind::Lifecycle, data: data.to_string() }
}

/// A script to run.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a> {
    /// Its file, in the workspace.
    pub name: &'static str,
    /// How it is run.
    pub rules: &'a ScriptRules,
    /// Whether the sandbox counts as started when it has ended.
    pub starts: bool,
}

impl Script<'_> {
    /// Runs it in the workspace to its end; `moves` again and again meanwhile.
    pub async fn run(self, shim: &ShimHandle, moves: &watch::Sender<()>) -> Result<Ran, ScriptError> {
        let Self { name, rules, starts } = self;
        let link = |source| ScriptError::Link { script: name, source };
        // What it wrote is told as it wrote it: over two pipes the order would be lost. One without the right to be
        // executed is one for the shell.
        let command = format!("exec 2>&1; if [ -x ./{name} ]; then exec ./{name}; else exec /bin/sh ./{name}; fi");
        let timeout = rules.timeout();
        let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let run = Run { job: Job::Shell { command }, input: false, timeout_ms, output_max: None, starts, terminal: None };
        let begun = Instant::now();
        let mut running = shim.run(run).await.map_err(link)?;
        let end = async move {
            let mut said = Vec::new();
            while let Some((_, bytes)) = running.output.next().await {
                said.extend_from_slice(&bytes);
                said.drain(..said.len().saturating_sub(TOLD_MAX));
            }
            (running.end.await, said)
        };
        let mut beat = interval(BEAT);
        let late = tokio::time::sleep(timeout + OVERTIME);
        tokio::pin!(end, late);
        let (end, said) = loop {
            tokio::select! {
                (end, said) = &mut end => break (end.map_err(link)?, said),
                () = &mut late => break (RunEnd { timed_out: true, ..RunEnd::default() }, Vec::new()),
                _ = beat.tick() => { moves.send_replace(()); }
            }
        };
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match how(&end, timeout) {
            None => Ok(Ran { took: begun.elapsed(), said }),
            Some(how) => Err(ScriptError::Failed { script: name, how, said }),
        }
    }
}

/// How a script ended, if not well.
fn how(end: &RunEnd, timeout: Duration) -> Option<String> {
    match *end {
        RunEnd { limit: Some(limit), .. } => Some(format!("was ended at a limit of the session: {}", limit.prefix())),
        RunEnd { timed_out: true, .. } => Some(format!("took longer than {}", TimeSpan(timeout.as_secs()))),
        RunEnd { code: Some(0), .. } => None,
        RunEnd { code: Some(code), .. } => Some(format!("ended with exit code {code}")),
        RunEnd { signal: Some(signal), .. } => Some(format!("was ended by {}", signal_name(signal))),
        RunEnd { .. } => Some("ended, and it is not known how".to_owned()),
    }
}

/// What a script may reach: what it says itself, else what the session may.
pub fn egress(context: &Context, session: &SessionRow, rules: &ScriptRules) -> Egress {
    let Some(allow) = &rules.egress else { return super::egress::settings(context, session) };
    let mut asks = session.clone();
    asks.config.egress = Some(crate::wire::egress::Egress { allow: allow.clone() });
    super::egress::settings(context, &asks)
}

/// The variables of a version's own file that reach what runs inside.
pub fn environment(definition: Definition) -> BTreeMap<String, String> {
    let mut env = definition.env;
    env.remove(KEY_VARIABLE);
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_a_script_ended_and_what_it_wrote() {
        let minute = Duration::from_secs(60);
        let how = |code, signal, timed_out| how(&RunEnd { code, signal, timed_out, ..RunEnd::default() }, minute);
        assert_eq!(how(Some(0), None, false), None);
        assert_eq!(how(Some(3), None, false).as_deref(), Some("ended with exit code 3"));
        assert_eq!(how(None, Some(9), false).as_deref(), Some("was ended by SIGKILL"));
        assert_eq!(how(None, Some(9), true).as_deref(), Some("took longer than 1m"));
        assert_eq!(how(Some(0), None, true).as_deref(), Some("took longer than 1m"), "even if it caught the signal");
        let failed =
            |said: &str| ScriptError::Failed { script: "install.sh", how: "x".to_owned(), said: said.to_owned() }.to_string();
        assert_eq!(
            (failed("a b"), failed("")),
            ("install.sh x; it wrote: a b".to_owned(), "install.sh x, and wrote nothing".to_owned())
        );
    }
}
