//! Which session or schedule is meant by the beginning of an id, or as the last one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Context;
use super::args::{ScheduleRef, SessionRef};
use super::error::CliError;
use crate::client::SessionQuery;
use crate::wire::schedule::Schedule;
use crate::wire::session::{Session, Status};
use crate::wire::{ScheduleId, SessionId};

/// How far back the session that was active last is looked for.
const LAST_AMONG: u32 = 100;
/// Sessions asked for at once: the most that the daemon gives.
const PAGE_ROWS: u32 = 1000;
/// How often it is asked for more.
const PAGES_MAX: u32 = 10;
/// Schedules asked for at once. Each has a prompt of up to 20 000 characters.
const SCHEDULES_AT_ONCE: u32 = 100;

impl Context {
    /// The id of the session that is meant. A whole id is taken as it is.
    ///
    /// # Errors
    /// [`CliError::NoSuch`] and [`CliError::Ambiguous`] for the beginning of an id, [`CliError::NoSession`]
    /// for the last one, [`CliError::Client`].
    pub(super) async fn session(&self, named: &SessionRef) -> Result<SessionId, CliError> {
        match named {
            SessionRef::Id(id) => Ok(*id),
            SessionRef::Last => Ok(self.last_session().await?.id),
            SessionRef::Prefix(prefix) => self.begins_with(prefix).await,
        }
    }

    /// As [`Self::session`], of several.
    ///
    /// # Errors
    /// See [`Self::session`].
    pub(super) async fn sessions(&self, named: &[SessionRef]) -> Result<Vec<SessionId>, CliError> {
        let mut ids = Vec::new();
        for one in named {
            ids.push(self.session(one).await?);
        }
        Ok(ids)
    }

    /// The session that was active last, of those that take messages.
    ///
    /// # Errors
    /// [`CliError::NoSession`], [`CliError::Client`].
    pub(super) async fn last_session(&self) -> Result<Session, CliError> {
        let query = SessionQuery { limit: Some(LAST_AMONG), ..SessionQuery::default() };
        let sessions = self.client.sessions(&query).await?.body.sessions.into_iter();
        let open = sessions.filter(|session| session.status != Status::Ended);
        open.max_by_key(|session| session.last_active_at).ok_or(CliError::NoSession)
    }

    /// The id of the schedule that is meant. A whole id is taken as it is.
    ///
    /// # Errors
    /// [`CliError::NoSchedule`] and [`CliError::Ambiguous`], [`CliError::Client`].
    pub(super) async fn schedule(&self, named: &ScheduleRef) -> Result<ScheduleId, CliError> {
        let prefix = match named {
            ScheduleRef::Id(id) => return Ok(*id),
            ScheduleRef::Prefix(prefix) => prefix.as_str(),
            // All begin so, and the newest is asked for alone.
            ScheduleRef::Last => "",
        };
        let mut found = if prefix.is_empty() {
            self.client.schedules(None, 1).await?.body.schedules
        } else {
            self.all_schedules().await?.into_iter().map(|(schedule, _)| schedule).collect()
        };
        found.retain(|schedule| begins(&schedule.id, schedule.id.as_uuid(), prefix));
        match (found.pop(), found.as_slice()) {
            (None, _) => {
                Err(CliError::NoSchedule(if prefix.is_empty() { "yet".to_owned() } else { format!("begins with {prefix}") }))
            }
            (Some(one), []) => Ok(one.id),
            (Some(one), others) => {
                let candidates = others.iter().chain([&one]).map(|one| format!("{}  {}", one.id, one.name)).collect();
                Err(CliError::Ambiguous { what: "schedules", prefix: prefix.to_owned(), candidates })
            }
        }
    }

    /// As [`Self::schedule`], of several.
    ///
    /// # Errors
    /// See [`Self::schedule`].
    pub(super) async fn schedules(&self, named: &[ScheduleRef]) -> Result<Vec<ScheduleId>, CliError> {
        let mut ids = Vec::new();
        for one in named {
            ids.push(self.schedule(one).await?);
        }
        Ok(ids)
    }

    /// All schedules, oldest first, each also as the daemon wrote it.
    ///
    /// # Errors
    /// [`CliError::Client`].
    pub(super) async fn all_schedules(&self) -> Result<Vec<(Schedule, Value)>, CliError> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let mut answer = self.client.schedules(before, SCHEDULES_AT_ONCE).await?;
            let page = answer.body.schedules;
            let is_last = page.len() < SCHEDULES_AT_ONCE as usize;
            before = page.last().map(|schedule| schedule.id);
            let Value::Array(written) = answer.json["schedules"].take() else { unreachable!("it was read as a list") };
            all.extend(page.into_iter().zip(written));
            if is_last {
                all.reverse();
                return Ok(all);
            }
        }
    }

    async fn begins_with(&self, prefix: &str) -> Result<SessionId, CliError> {
        // The list grows at its beginning while it is read: some may come twice.
        let mut found = BTreeMap::new();
        let mut whole = false;
        for page in 0..PAGES_MAX {
            let query = SessionQuery { limit: Some(PAGE_ROWS), offset: Some(page * PAGE_ROWS), ..SessionQuery::default() };
            let sessions = self.client.sessions(&query).await?.body.sessions;
            whole = sessions.len() < PAGE_ROWS as usize;
            let alike = sessions.into_iter().filter(|session| begins(&session.id, session.id.as_uuid(), prefix));
            found.extend(alike.map(|session| (session.id, session)));
            if whole {
                break;
            }
        }
        match found.len() {
            1 if whole => Ok(found.into_keys().next().expect("there is one")),
            0 if whole => Err(CliError::NoSuch(prefix.to_owned())),
            0 | 1 => Err(CliError::usage(
                format!("there are too many sessions to know the one that begins with {prefix}"),
                "give the whole id",
            )),
            _ => {
                let line = |one: &Session| format!("{}  {} {}", one.id, one.status.as_str(), one.agent_name);
                Err(CliError::Ambiguous {
                    what: "sessions",
                    prefix: prefix.to_owned(),
                    candidates: found.values().map(line).collect(),
                })
            }
        }
    }
}

/// Whether an id begins so, with its hyphens or without.
fn begins(id: &impl ToString, uuid: uuid::Uuid, prefix: &str) -> bool {
    id.to_string().starts_with(prefix) || uuid.simple().to_string().starts_with(prefix)
}

/// As many letters of ids as tell these apart, and a few at least.
pub(super) fn short_letters(ids: impl Iterator<Item = SessionId>) -> usize {
    const LETTERS_MIN: usize = 8;
    let mut ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    ids.sort();
    let alike = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    ids.windows(2).map(|two| alike(&two[0], &two[1]) + 1).max().unwrap_or(0).clamp(LETTERS_MIN, 36)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        text.parse().expect("an id")
    }

    #[test]
    fn ids_are_as_short_as_tells_them_apart() {
        let [a, b, c] = [
            id("0198c0de-0000-7000-8000-000000000001"),
            id("0198c0de-0000-7000-8001-000000000001"),
            id("0198c0df-0000-7000-8000-000000000001"),
        ];
        assert_eq!(short_letters([a].into_iter()), 8);
        assert_eq!(short_letters([c, a].into_iter()), 8);
        assert_eq!(short_letters([a, c, b].into_iter()), 23);
        assert_eq!(short_letters([a, a].into_iter()), 36);
        assert_eq!(short_letters([].into_iter()), 8);
    }

    #[test]
    fn hyphens_need_not_be_typed() {
        let a = id("0198c0de-0000-7000-8000-000000000001");
        assert!(
            ["0198", "0198c0de-00", "0198c0de00"].iter().all(|prefix| begins(&a, a.as_uuid(), prefix))
                && !begins(&a, a.as_uuid(), "98c0")
        );
    }
}
