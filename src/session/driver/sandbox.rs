//! The session's sandbox: brought up, connected to, lost, and what is told of its end.
//!
//! A sandbox is up for the log from [`Advance::sandbox`] on until its one `sandbox_ended` event,
//! which names the cause. A turn that runs while the log has no sandbox up has lost its sandbox:
//! it is never given to another one, but ends `interrupted`, once the next shim in the sandbox's
//! folder has delivered what the last one could not ([`Settling`]).

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;
use crate::link::daemon::Connection;
use crate::link::shim::ShimEvent;
use crate::sandbox::{Ended, Listed};
use crate::session::open::{Opened, open};

/// How long a shim may leave a message unread. One that is frozen from outside must not keep its
/// driver from ending the session.
pub(super) const TELL_DEADLINE: Duration = Duration::from_secs(30);
/// How often in a row a connection may be lost before anything came over it. Beyond that the
/// sandbox says what this daemon can not read, and would say it again for ever.
const FRUITLESS_MAX: u32 = 5;
/// How long a running turn waits for a launcher that can not be asked whether its sandbox lives.
const LAUNCHER_PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait before the launcher is asked again.
const LAUNCHER_PAUSE: Duration = Duration::from_millis(500);
/// How long to wait before the store is asked again what turns took.
const SPENT_PAUSE: Duration = Duration::from_millis(500);
/// How long a new shim may take to deliver what the last one left.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);
/// What is told of a sandbox of an earlier boot.
const HOST: &str = "the host was started anew";
/// What is told of one that was put away before.
pub(super) const HOST_STOPS: &str = "the host was shut down";

#[derive(Debug)]
pub(super) enum Sandbox {
    Cold,
    Opening(oneshot::Receiver<Result<Opened, OpenError>>),
    Up(Box<Connection>),
}

/// A sandbox that came up in the place of one that ended.
#[derive(Debug)]
pub(super) struct Settling {
    /// Number of the newest event that the last shim left.
    pub(super) through: i64,
    until: Instant,
}

/// Why a sandbox ended, in a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its session is over.
    Finished,
    /// The kernel killed it for its memory.
    OutOfMemory,
    /// It lived as long as it may.
    Time,
    /// Somebody stopped its unit.
    Operator,
    /// The host went down, or was reset.
    Host,
    /// It broke, or had to be killed since it was broken.
    Crash,
}

impl Cause {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::OutOfMemory => "out_of_memory",
            Self::Time => "time",
            Self::Operator => "operator",
            Self::Host => "host",
            Self::Crash => "crash",
        }
    }
}

/// What a sandbox has to say.
pub(super) enum News {
    Opened(Box<Result<Opened, OpenError>>),
    Events(Vec<ShimEvent>),
    Lost,
    /// What the last shim left did not come.
    Unsettled,
}

/// Waits for it; for ever while there is no sandbox.
pub(super) async fn news(sandbox: &mut Sandbox, settling: Option<&Settling>) -> News {
    match sandbox {
        Sandbox::Cold => std::future::pending().await,
        // The task that opens always says how it ended, unless it panicked.
        Sandbox::Opening(opened) => News::Opened(Box::new(opened.await.unwrap_or(Err(OpenError::Slow)))),
        Sandbox::Up(connection) => {
            let events = async { connection.events.recv().await.map_or(News::Lost, News::Events) };
            match settling {
                Some(settling) => tokio::time::timeout_at(settling.until, events).await.unwrap_or(News::Unsettled),
                None => events.await,
            }
        }
    }
}

impl Driver {
    /// How the sandbox is confined, if one is up.
    pub(super) fn made(&self) -> Option<Made> {
        let Sandbox::Up(connection) = &self.sandbox else { return None };
        Some(Made(connection.state.confined.clone()))
    }

    pub(super) async fn hear(&mut self, news: News) {
        if self.context.closing.is_cancelled() {
            // It is the daemon that ends, and with it the tasks that would know better.
            return;
        }
        match news {
            News::Opened(opened) => self.opened(*opened).await,
            News::Events(events) => self.store_events(events).await,
            News::Lost => self.lost().await,
            News::Unsettled => {
                tracing::warn!(session_id = %self.session.id, "the last events of the ended sandbox did not come, going on without");
                self.settled().await;
            }
        }
        if matches!(self.sandbox, Sandbox::Cold) && self.life.is_resuming() {
            // It came up, but ended before anybody could use it.
            self.not_resumed("the sandbox has ended").await;
        }
    }

    pub(super) fn open(&mut self) {
        self.open_after(Duration::ZERO);
    }

    fn open_after(&mut self, pause: Duration) {
        if matches!(self.sandbox, Sandbox::Cold) {
            let (done, opened) = oneshot::channel();
            let (context, session) = (self.context.clone(), self.session.clone());
            let place = self.place_of_start();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                // If the driver is gone, so is its interest.
                let _ = done.send(open(context, session, place).await);
            });
            self.sandbox = Sandbox::Opening(opened);
            self.life.state.sandbox = crate::lifecycle::Sandbox::Opening;
        }
    }

    async fn opened(&mut self, outcome: Result<Opened, OpenError>) {
        match outcome {
            Ok(Opened { connection, source, startup }) => {
                tracing::info!(
                    session_id = %self.session.id, agent = self.session.agent, sandbox_id = %self.session.sandbox,
                    shim = connection.state.version, "sandbox is up"
                );
                self.waiting_since = None;
                // A shim which was set up only now is not the one that ran the turn, and neither is
                // one that the log does not know to be up.
                let is_new = connection.state.session.is_none() || self.session.sandbox_boot.is_none();
                if is_new {
                    // If one is up for the log, it ended before this start, which made the host
                    // forget how.
                    let crash = (Cause::Crash, "it ended before the host could be asked how");
                    let (cause, detail) = if self.is_of_this_boot() { crash } else { (Cause::Host, HOST) };
                    self.record_end(cause, detail).await;
                } else {
                    self.note_boot().await;
                    if let Some(tasks) = connection.state.background {
                        self.background = tasks as usize;
                    }
                }
                self.unheard = true;
                self.started = startup;
                let age = Duration::from_millis(connection.state.age_ms.unwrap_or(0));
                self.up_since = Some(Instant::now().checked_sub(age).unwrap_or_else(Instant::now));
                if let Some(acked) = connection.state.acked {
                    self.pass_over_lost(&connection.state, acked).await;
                }
                let left = self.left_behind(&connection);
                self.sandbox = Sandbox::Up(Box::new(connection));
                self.pass_settings().await;
                // One that outlived a daemon may have a key that was changed while there was none.
                if !is_new || self.key.is_stale {
                    self.pass_gateway_on().await;
                }
                self.catch_up_limits().await;
                if let Some(reply) = self.creating.take() {
                    let created = self.created().await;
                    self.live(Input::Created).await;
                    answer(reply, created);
                    self.next_turn(None).await;
                } else if !is_new {
                    self.live(Input::Opened).await;
                    self.tell_source(&source).await;
                    self.tell_resuming(None);
                    self.take_up_turn().await;
                } else if let Some(through) = left {
                    self.source = Some(source);
                    self.settling = Some(Settling { through, until: Instant::now() + SETTLE_DEADLINE });
                } else {
                    self.source = Some(source);
                    self.settled().await;
                }
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(session_id = %self.session.id, agent = self.session.agent, error = reason, "sandbox did not come up");
                self.sandbox = Sandbox::Cold;
                if matches!(error, OpenError::Launch(_)) && self.has_patience() {
                    return self.open_after(LAUNCHER_PAUSE);
                }
                self.waiting_since = None;
                if !matches!(error, OpenError::Launch(_)) {
                    // What can not be spoken to now can not be later, and must not go on with a
                    // turn that is about to be called interrupted.
                    self.kill(&reason).await;
                }
                self.fail_answers("the sandbox did not come up");
                if let Some(reply) = self.creating.take() {
                    answer(reply, Err(SessionError::Open(reason)));
                } else if self.life.is_resuming() {
                    self.not_resumed(&reason).await;
                } else if self.life.state.closing {
                    // A host that goes down starts nothing. What waits is for the next boot.
                    self.live(Input::NotOpened).await;
                } else {
                    self.fail_turns(&reason).await;
                    self.life.not_packed(&reason);
                    self.live(Input::Emptied).await;
                    self.live(Input::NotOpened).await;
                }
            }
        }
    }

    /// Number of the newest event in a new shim, if one of the last shim's is not stored yet.
    fn left_behind(&self, connection: &Connection) -> Option<i64> {
        let newest = connection.state.newest as i64;
        (newest > self.heard_of(connection.state.incarnation)).then_some(newest)
    }

    /// Nothing of the last shim is missing: its turns are over, and the new sandbox is up.
    pub(super) async fn settled(&mut self) {
        if self.settling.is_some() {
            // The shim was told before these came what turns took. It begins none without: it would take
            // the budget for larger than it is.
            match self.context.store.spent(self.session.id).await {
                Ok(before) => self.pass_options(Some(before)).await,
                Err(error) => {
                    tracing::warn!(session_id = %self.session.id, error = chain(&error), "what turns took can not be read, trying again");
                    if let Some(settling) = &mut self.settling {
                        settling.until = Instant::now() + SPENT_PAUSE;
                    }
                    return;
                }
            }
            self.settling = None;
        }
        let cause = self.end_cause.take().unwrap_or_else(|| "the sandbox ended while the turn ran".to_owned());
        let events = self.end_of_begun(&cause).await;
        self.session.sandbox_boot = Some(self.context.boot.clone());
        self.advance_or_log(Advance { events, sandbox: Some(self.session.sandbox_boot.clone()), ..Advance::default() }).await;
        fault::at(Point::OpenLogged);
        self.refuse_answers();
        if let Some(source) = self.source.take() {
            self.tell_source(&source).await;
        }
        self.live(Input::Opened).await;
        self.tell_resuming(None);
        self.next_turn(None).await;
    }

    /// Whether a turn runs that may still run when the launcher is back.
    fn has_patience(&mut self) -> bool {
        if self.running.is_none() && self.own.is_empty() {
            return false;
        }
        self.waiting_since.get_or_insert_with(Instant::now).elapsed() < LAUNCHER_PATIENCE
    }

    /// Ends a sandbox that is broken.
    pub(super) async fn kill(&mut self, why: &str) {
        self.sandbox = Sandbox::Cold;
        self.settling = None;
        if let Err(error) = self.context.launcher.kill(self.session.sandbox).await {
            tracing::warn!(session_id = %self.session.id, error = chain(&error), "a broken sandbox can not be killed, ignoring");
        }
        self.record_end(Cause::Crash, why).await;
    }

    async fn created(&mut self) -> Result<(), SessionError> {
        let mut data = serde_json::json!({"action": "created", "agentName": self.session.agent});
        if let Some(model) = &self.session.model {
            data["model"] = model.as_str().into();
        }
        let created = event(Kind::Lifecycle, None, data.to_string());
        let events = [created].into_iter().chain(self.started.take()).collect();
        let boot = Some(self.context.boot.clone());
        let change = Advance { events, status: Some(Status::Active), sandbox: Some(boot.clone()), ..Advance::default() };
        let stored = self.store(change).await?;
        fault::at(Point::CreateActive);
        self.session.status = Status::Active;
        self.session.sandbox_boot = boot;
        self.publish(stored);
        Ok(())
    }

    /// They may have changed while the sandbox opened, or before a message about them was sent.
    pub(super) async fn pass_settings(&mut self) {
        self.pass_options(None).await;
        // What comes after it is read after it, so its answer is not waited for.
        if let Some(counts) = self.pass_egress().await {
            tokio::spawn(counts);
        }
    }

    /// Passes on what turns may use. A shim that has run none is also told what those `before` it took.
    async fn pass_options(&mut self, before: Option<BTreeMap<String, ModelUsage>>) {
        match current_options(&self.context, &self.session) {
            Ok(mut options) => {
                options.limits.budget.before = before;
                self.tell(ToShim::Configure { options }).await;
            }
            Err(error) => {
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "settings can not be passed on, ignoring")
            }
        }
    }

    /// After a connection to a sandbox that outlived the last one: the running turn may be over, or
    /// unknown to the shim, which ignores one that it has seen.
    async fn take_up_turn(&mut self) {
        self.send_answers();
        let Some(turn) = &self.running else { return self.next_turn(None).await };
        let (id, message) = (turn.id, turn.to_shim(&self.context, self.session.id).await);
        self.tell(message).await;
        if self.interrupting {
            self.tell(ToShim::Interrupt { turn: Some(id) }).await;
        }
    }

    /// The connection ended. Either the shim replaced it, or its processes are gone.
    pub(super) async fn lost(&mut self) {
        self.sandbox = Sandbox::Cold;
        self.settling = None;
        let listed = match self.context.launcher.list().await {
            Ok(all) => all.into_iter().find(|one| one.sandbox == self.session.sandbox),
            Err(error) if self.has_patience() => {
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "whether the sandbox lives can not be asked, asking again");
                return self.open_after(LAUNCHER_PAUSE);
            }
            Err(error) if self.begun().next().is_none() => {
                // It may live, so its end is not told. The next sweep sees how it is.
                tracing::warn!(session_id = %self.session.id, error = chain(&error), "whether the sandbox lives can not be asked, leaving it");
                self.fail_answers("the connection to the sandbox was lost");
                return self.live(Input::Lost).await;
            }
            Err(_) => None,
        };
        let alive = listed.as_ref().is_some_and(|one| one.running);
        self.fruitless += 1;
        if alive && self.fruitless <= FRUITLESS_MAX {
            tracing::warn!(session_id = %self.session.id, "connection to the sandbox was lost, connecting again");
            return self.open_after(LAUNCHER_PAUSE * (self.fruitless - 1));
        }
        self.fruitless = 0;
        if alive {
            tracing::error!(session_id = %self.session.id, "connections to the sandbox break again and again, ending it");
            self.kill("connections to it broke again and again").await;
            self.live(Input::Lost).await;
        } else {
            let (cause, detail) = self.cause_of_end(listed.as_ref());
            self.record_end(cause, &detail).await;
            self.live(Input::Lost).await;
        }
        self.fail_answers("the sandbox has ended");
        // Also if it was not up for the log: what a shim left is delivered by the next one.
        if !self.life.state.closing && self.has_work() {
            self.open();
        }
    }

    /// Whether a sandbox has to come up: for what the last one left of its turns, or for those that wait.
    pub(super) fn has_work(&self) -> bool {
        self.begun().next().is_some() || (self.session.status == Status::Active && !self.queue.is_empty())
    }

    /// Whether the sandbox came up in this boot of the host, as far as is known.
    fn is_of_this_boot(&self) -> bool {
        self.session.sandbox_boot.as_ref().is_none_or(|boot| *boot == self.context.boot)
    }

    /// A sandbox that lives is one of this boot, which an earlier version did not write down.
    async fn note_boot(&mut self) {
        if !self.is_of_this_boot() {
            self.session.sandbox_boot = Some(self.context.boot.clone());
            let sandbox = Some(self.session.sandbox_boot.clone());
            self.advance_or_log(Advance { sandbox, ..Advance::default() }).await;
        }
    }

    fn cause_of_end(&self, listed: Option<&Listed>) -> (Cause, String) {
        // What the host can tell is of this boot.
        match listed.and_then(|one| one.ended.as_ref()) {
            Some(Ended::OutOfMemory) => (Cause::OutOfMemory, "it was killed for its memory".to_owned()),
            Some(Ended::Timeout) => (Cause::Time, "it lived as long as it may".to_owned()),
            Some(Ended::Exited { code }) => (Cause::Crash, format!("its shim exited with status {code}")),
            Some(Ended::Signal { number }) => (Cause::Crash, format!("its shim was ended by signal {number}")),
            Some(Ended::Failed { result }) => (Cause::Crash, format!("systemd says {result}")),
            None if !self.is_of_this_boot() => (Cause::Host, HOST.to_owned()),
            None => (Cause::Operator, "its unit was stopped".to_owned()),
        }
    }

    /// The one event that tells of the end of a sandbox; `None` if none is up. It names the `snapshot`
    /// that takes the place of its folder.
    pub(super) fn sandbox_ended(&self, cause: Cause, detail: &str, snapshot: Option<i64>) -> Option<NewEvent> {
        self.session.sandbox_boot.as_ref()?;
        let mut data = serde_json::json!({
            "action": "sandbox_ended", "sandboxId": self.session.sandbox, "cause": cause.as_str(), "detail": detail,
        });
        if let Some(snapshot) = snapshot {
            data["snapshot"] = snapshot.into();
        }
        Some(event(Kind::Lifecycle, None, data.to_string()))
    }

    /// Tells of the end of the sandbox. What runs has lost it from here on.
    pub(super) async fn record_end(&mut self, cause: Cause, detail: &str) {
        self.record_end_with(cause, detail, None, BTreeMap::new()).await;
    }

    /// [`Self::record_end`] of a sandbox whose folder goes, since it is in this snapshot, and with it what its
    /// shim has not told. `leftover` is what model calls took of that.
    pub(super) async fn record_end_with(
        &mut self,
        cause: Cause,
        detail: &str,
        snapshot: Option<i64>,
        leftover: BTreeMap<String, ModelUsage>,
    ) {
        let Some(ended) = self.sandbox_ended(cause, detail, snapshot) else { return };
        let (session_id, agent, sandbox_id, cause_name) =
            (self.session.id, &self.session.agent, self.session.sandbox, cause.as_str());
        if cause == Cause::Finished {
            tracing::info!(%session_id, agent, %sandbox_id, cause = cause_name, detail, "sandbox ended");
        } else {
            tracing::warn!(%session_id, agent, %sandbox_id, cause = cause_name, detail, "sandbox ended");
        }
        self.context.metrics.sandbox_ends.with_label_values(&[cause_name]).inc();
        self.session.sandbox_boot = None;
        self.background = 0;
        self.end_cause = Some(format!("the sandbox ended while the turn ran ({}: {detail})", cause.as_str()));
        let leftover = (!leftover.is_empty()).then(|| event(Kind::Lifecycle, None, self.leftover_data(leftover)));
        let events = leftover.into_iter().chain([ended]).collect();
        self.advance_or_log(Advance { events, sandbox: Some(None), ..Advance::default() }).await;
    }

    /// A message that does not arrive is no loss: the connection has ended or is ended here, the
    /// driver sees that next, and the next connection begins with what is stored.
    pub(super) async fn tell(&mut self, message: ToShim) {
        let Sandbox::Up(connection) = &mut self.sandbox else { return };
        match tokio::time::timeout(TELL_DEADLINE, connection.handle.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(session_id = %self.session.id, error = chain(&error), "a message to the sandbox was not sent, ignoring");
            }
            Err(_) => {
                tracing::warn!(session_id = %self.session.id, "the sandbox does not read its messages, connecting again");
                connection.events.close();
            }
        }
    }
}
