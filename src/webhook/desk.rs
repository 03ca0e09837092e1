//! The one task that decides what is sent when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::attempt::After;
use super::due::{BOUNDS, Key, Stage, due};
use crate::session::{Grown, Moved};
use crate::store::{StoreError, WebhookRow, now};
use crate::wire::{SessionId, Timestamp, WebhookId};

/// How long logs may grow before they are looked at again: a turn grows many times a second.
const LINGER: Duration = Duration::from_millis(100);
/// Wait after the database failed.
const BROKEN: Duration = Duration::from_secs(5);
/// How long attempts may take to end when the daemon stops. One that is cut off is sent again.
const STOP_DEADLINE: Duration = Duration::from_secs(3);
/// Sessions read at a time.
const PAGE: usize = 1000;

/// A webhook and a session, while there may be something to send.
#[derive(Debug)]
struct Lane {
    tenant: String,
    agent: String,
    stage: Stage,
    /// Whether something happened since the attempt under way began.
    again: bool,
    /// The webhook as it was then.
    tried: Option<Arc<WebhookRow>>,
}

/// What [`run`] knows.
struct Desk {
    shared: Arc<Shared>,
    hooks: HashMap<WebhookId, Arc<WebhookRow>>,
    lanes: BTreeMap<Key, Lane>,
    tries: JoinSet<After>,
    trying: HashMap<task::Id, Key>,
}

/// Sends what there is to send until the daemon stops.
pub(super) async fn run(shared: Arc<Shared>, moved: Arc<Moved>, stop: CancellationToken) {
    let mut desk = Desk {
        shared: shared.clone(),
        hooks: HashMap::new(),
        lanes: BTreeMap::new(),
        tries: JoinSet::new(),
        trying: HashMap::new(),
    };
    desk.reload().await;
    let mut look = Instant::now();
    loop {
        let due = due(desk.lanes.iter().map(|(key, lane)| (*key, &*lane.tenant, lane.stage)), now(), BOUNDS);
        for key in due.start {
            desk.start(key);
        }
        let grown = async {
            tokio::time::sleep_until(look).await;
            moved.take().await
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = desk.tries.join_next_with_id() => desk.finish(done),
            () = shared.changed.notified() => desk.reload().await,
            grown = grown => {
                look = Instant::now() + LINGER;
                desk.enlist(&grown);
            }
            () = sleep_until(due.next) => {}
        }
    }
    let ending = async { while desk.tries.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, ending).await.is_err() {
        tracing::info!("some events were still being sent to webhooks; they are sent again");
    }
}

async fn sleep_until(next: Option<Timestamp>) {
    match next {
        Some(next) => {
            let wait = (next.millis() - now().millis()).max(1).unsigned_abs();
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        None => std::future::pending().await,
    }
}

impl Desk {
    /// Reads which webhooks there are, and what waits for those that are not as they were.
    async fn reload(&mut self) {
        if let Err(error) = self.try_reload().await {
            tracing::warn!(error = %error, "webhooks can not be read now, retrying in {} s", BROKEN.as_secs());
            let shared = self.shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(BROKEN).await;
                shared.changed.notify_one();
            });
        }
    }

    async fn try_reload(&mut self) -> Result<(), StoreError> {
        let mut hooks = HashMap::new();
        for row in self.shared.store.enabled_webhooks().await? {
            // It changes with attempts, and makes no other webhook.
            let row = WebhookRow { failing_since: None, ..row };
            let known = self.hooks.get(&row.id).filter(|known| ***known == row).cloned();
            let hook = match known {
                Some(known) => known,
                None => {
                    self.take_up(&row).await?;
                    Arc::new(row)
                }
            };
            hooks.insert(hook.id, hook);
        }
        self.hooks = hooks;
        self.lanes.retain(|(id, _), lane| lane.stage == Stage::Trying || self.hooks.contains_key(id));
        Ok(())
    }

    /// Takes up what waits for a webhook that is new or not as it was: all of it anew, with what is being sent after
    /// that.
    async fn take_up(&mut self, hook: &WebhookRow) -> Result<(), StoreError> {
        self.lanes.retain(|(id, _), lane| *id != hook.id || lane.stage == Stage::Trying);
        let mut after = None;
        loop {
            let waiting = self.shared.store.waiting_for_webhook(hook.clone(), after, PAGE).await?;
            let Some(last) = waiting.last() else { return Ok(()) };
            after = Some(last.session);
            for one in waiting {
                let stage = one.next_at.map_or(Stage::Ready(now()), Stage::Waiting);
                self.want(hook, one.session, one.agent, stage);
            }
        }
    }

    /// There may be something to send.
    fn want(&mut self, hook: &WebhookRow, session: SessionId, agent: String, stage: Stage) {
        let new = || Lane { tenant: hook.tenant.clone(), agent, stage, again: false, tried: None };
        self.lanes.entry((hook.id, session)).or_insert_with(new).again = true;
    }

    fn enlist(&mut self, grown: &HashMap<SessionId, Grown>) {
        for (session, grown) in grown {
            let hooks: Vec<_> = self.hooks.values().filter(|hook| hook.tenant == grown.tenant).cloned().collect();
            for hook in hooks.iter().filter(|hook| hook.agent.as_ref().is_none_or(|agent| *agent == grown.agent)) {
                self.want(hook, *session, grown.agent.clone(), Stage::Ready(now()));
            }
        }
    }

    fn start(&mut self, key: Key) {
        let (Some(hook), Some(lane)) = (self.hooks.get(&key.0), self.lanes.get_mut(&key)) else {
            self.lanes.remove(&key);
            return;
        };
        (lane.stage, lane.again, lane.tried) = (Stage::Trying, false, Some(hook.clone()));
        let (shared, hook, agent) = (self.shared.clone(), hook.clone(), lane.agent.clone());
        let task = self.tries.spawn(async move { shared.attempt(&hook, key.1, &agent).await });
        self.trying.insert(task.id(), key);
    }

    fn finish(&mut self, done: Result<(task::Id, After), JoinError>) {
        let (task, after) = done.unwrap_or_else(|error| {
            tracing::error!(error = %error, "an attempt of a webhook broke off");
            (error.id(), After::Broken)
        });
        let Some(key) = self.trying.remove(&task) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(hook) = self.hooks.get(&key.0) else { return drop(self.lanes.remove(&key)) };
        let is_other = lane.tried.take().is_none_or(|tried| !Arc::ptr_eq(&tried, hook));
        lane.stage = match after {
            // It says nothing of the webhook as it is now.
            _ if is_other => Stage::Ready(now()),
            After::More => Stage::Ready(now()),
            After::Nothing if lane.again => Stage::Ready(now()),
            After::Nothing => return drop(self.lanes.remove(&key)),
            After::Wait(next) => Stage::Waiting(next),
            After::Broken => Stage::Waiting(Timestamp(now().millis() + BROKEN.as_millis() as i64)),
            After::Gone => {
                self.lanes.remove(&key);
                // Nothing more is sent meanwhile.
                self.hooks.remove(&key.0);
                return self.shared.changed.notify_one();
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypt::master::Sealed;
    use crate::store::sqlite::Sqlite;
    use crate::telemetry::metrics::Metrics;
    use crate::webhook::{Rules, Webhooks};

    #[tokio::test]
    async fn an_attempt_that_breaks_off_is_made_again() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Arc::new(Sqlite::open(&folder.path().join("ash.db")).expect("opens"));
        let Webhooks { shared } = Webhooks::new(store, None, Rules::default(), Metrics::default());
        let hook = Arc::new(WebhookRow {
            id: WebhookId::new(),
            tenant: "a".to_owned(),
            url: "https://example.com/".to_owned(),
            events: Vec::new(),
            agent: None,
            description: String::new(),
            enabled: true,
            disabled_reason: None,
            failing_since: None,
            sealed: Sealed { master: String::new(), bytes: Vec::new() },
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
        });
        let hooks = HashMap::from([(hook.id, hook.clone())]);
        let mut desk = Desk { shared, hooks, lanes: BTreeMap::new(), tries: JoinSet::new(), trying: HashMap::new() };
        let key = (hook.id, SessionId::new());
        let lane = Lane { tenant: "a".to_owned(), agent: "b".to_owned(), stage: Stage::Trying, again: false, tried: Some(hook) };
        desk.lanes.insert(key, lane);
        let task = desk.tries.spawn(async { panic!("an attempt") });
        desk.trying.insert(task.id(), key);
        let done = desk.tries.join_next_with_id().await.expect("one");
        let begun = now();
        desk.finish(done);
        assert!(matches!(desk.lanes[&key].stage, Stage::Waiting(next) if next > begun), "{:?}", desk.lanes);
        assert!(desk.trying.is_empty());
    }
}
