//! `/api/sessions/{id}/logs`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Params, in_range};
use crate::http::kept;
use crate::http::places::Places;
use crate::http::problem::Failure;
use crate::link::shim::{LogLevel, LogLine};
use crate::wire::log::{LogEntry, LogList};
use crate::wire::{SessionId, Timestamp};

/// Requests at a time. Each has the lines of one session in memory until its answer is taken.
static READS: Places = Places::new(64);

#[derive(Debug, Default, Deserialize)]
pub struct Which {
    after: Option<i64>,
    /// Whether a sandbox that is frozen is thawed for it.
    #[serde(default)]
    wake: bool,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(which): Params<Which>,
) -> Result<Response, Failure> {
    let after = in_range("after", which.after, -1..=i64::MAX)?.and_then(|after| u64::try_from(after).ok());
    let place = READS.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many logs are being read; try again"))?;
    let lines = app.sessions.logs(&caller.tenant, id, after, which.wake).await?;
    let list = LogList { logs: lines.into_iter().map(shown).collect(), source: "sandbox".to_owned() };
    Ok(kept::json(list, place).await)
}

fn shown(line: LogLine) -> LogEntry {
    let level = match line.level {
        LogLevel::Stdout => "stdout",
        LogLevel::Stderr => "stderr",
        LogLevel::System => "system",
    };
    LogEntry { index: line.index, level: level.to_owned(), text: line.text, ts: Timestamp(line.at) }
}
