//! Those who read the workspace, and files that are put into it.
//!
//! An upload has a snapshot of what was before it. From the first byte to the last the shim remembers,
//! also over its death, that the workspace is not whole; whoever connects to it then restores the
//! snapshot. So an upload that breaks off leaves nothing of itself, wherever it breaks off.

use super::*;
use crate::session::bundle::lay_over;

/// What became of an upload.
pub(in crate::session) type Filled = Result<(), PackError>;

/// What somebody wants in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Purpose {
    /// To read it.
    Read,
    /// To change files.
    Write,
    /// To run a command, as long as the session is active.
    Exec,
}

impl Purpose {
    fn refusal(self) -> SessionError {
        let reason = "its sandbox did not come up or has ended".to_owned();
        match self {
            Self::Read => SessionError::Download(reason),
            Self::Write => SessionError::Upload(reason),
            Self::Exec => SessionError::Exec(reason),
        }
    }
}

/// The right to be in a workspace: its sandbox is kept awake for it.
#[derive(Debug, Clone)]
pub(in crate::session) struct Visit {
    /// Its shim.
    pub shim: ShimHandle,
    _guest: watch::Receiver<()>,
    /// What packs the workspace waits for those who write files.
    writing: Option<watch::Receiver<()>>,
}

impl Visit {
    /// All is written: who packs the workspace now has it.
    pub fn is_done_writing(&mut self) {
        self.writing = None;
    }
}

impl Driver {
    /// Takes somebody who wants into the workspace.
    pub(super) async fn visit(&mut self, purpose: Purpose, reply: Reply<Visit>) {
        if purpose == Purpose::Exec && self.session.status != Status::Active {
            return answer(reply, Err(SessionError::Status(self.session.status)));
        }
        self.life.visitors.push((purpose, reply));
        self.live(Input::GuestCame).await;
    }

    /// Lets in those who wait, if the sandbox is up; or tells them that it did not come up. Who changes
    /// something waits until nothing is done to the session as a whole, which may be to pack the workspace; who reads waits, too,
    /// where the sandbox goes with that.
    pub(super) fn receive_guests(&mut self) {
        use crate::lifecycle::Sandbox::Up;
        self.refuse_commands();
        if self.life.visitors.is_empty() {
            return;
        }
        let is_up = self.life.state.sandbox == Up && self.settling.is_none();
        let shim = match &self.sandbox {
            Sandbox::Up(connection) if is_up => Some(connection.handle.clone()),
            _ if !self.life.state.guests => None,
            _ => return,
        };
        let goes = self.session.status == Status::Stopped;
        for (purpose, reply) in std::mem::take(&mut self.life.visitors) {
            let visit = match &shim {
                Some(_) if (purpose != Purpose::Read || goes) && self.life.state.change.is_some() => {
                    self.life.visitors.push((purpose, reply));
                    continue;
                }
                Some(shim) => Ok(Visit {
                    shim: shim.clone(),
                    _guest: self.life.guests.subscribe(),
                    writing: (purpose == Purpose::Write).then(|| self.life.writers.subscribe()),
                }),
                None => Err(purpose.refusal()),
            };
            self.life.changed |= visit.is_ok() && purpose != Purpose::Read;
            answer(reply, visit);
        }
    }

    /// Commands that wait are not for a session that is put away meanwhile.
    fn refuse_commands(&mut self) {
        let status = self.session.status;
        if status != Status::Active {
            for (_, reply) in self.life.visitors.extract_if(.., |(purpose, _)| *purpose == Purpose::Exec) {
                answer(reply, Err(SessionError::Status(status)));
            }
        }
    }

    /// Those who still wait when a sandbox was put away want the next one.
    pub(super) fn guests_wait(&mut self) -> Option<Input> {
        self.refuse_commands();
        // Who has gone meanwhile wants nothing.
        self.life.visitors.retain(|(_, reply)| !reply.is_closed());
        (!self.life.visitors.is_empty() && !self.life.state.closing).then_some(Input::GuestCame)
    }

    /// The shim, if it would answer.
    pub(super) fn peek(&self) -> Option<ShimHandle> {
        match &self.sandbox {
            Sandbox::Up(connection) if self.life.state.sandbox == crate::lifecycle::Sandbox::Up => {
                Some(connection.handle.clone())
            }
            _ => None,
        }
    }

    /// Writes down what somebody did in the workspace.
    pub(super) async fn note(&mut self, data: String) -> Result<(), SessionError> {
        self.life.changed = true;
        let events = vec![event(Kind::Lifecycle, None, data)];
        let stored = self.store(Advance { events, ..Advance::default() }).await?;
        self.publish(stored);
        Ok(())
    }

    /// Writes the upload under way in a task of its own.
    pub(super) fn fill(&mut self) {
        let (done, filling) = tokio::sync::oneshot::channel();
        self.life.filling = Some(filling);
        let (Sandbox::Up(connection), Some(bundle)) = (&self.sandbox, self.life.bundle()) else { return };
        let shim = connection.handle.clone();
        tokio::spawn(async move {
            // If the driver is gone, so is its interest.
            let _ = done.send(lay_over(&shim, bundle).await.map_err(PackError::Link));
        });
    }

    pub(super) async fn filled(&mut self, filled: Filled) {
        self.life.filling = None;
        let data = match (&filled, self.life.bundle()) {
            (Ok(()), Some(bundle)) => {
                let contents = bundle.contents;
                tracing::info!(session_id = %self.session.id, files = contents.files, bytes = contents.bytes, "workspace uploaded");
                serde_json::json!({
                    "action": "uploaded", "files": contents.files, "bytes": contents.bytes, "replaced": bundle.replace,
                })
            }
            (Err(error), _) => {
                let reason = chain(error);
                tracing::warn!(session_id = %self.session.id, error = reason, "an upload broke off, going back to what was before");
                serde_json::json!({"action": "upload_failed", "error": reason})
            }
            (Ok(()), None) => serde_json::json!({"action": "uploaded"}),
        };
        let events = vec![event(Kind::Lifecycle, None, data.to_string())];
        self.advance_or_log(Advance { events, ..Advance::default() }).await;
        let is_good = filled.is_ok();
        self.life.changed |= is_good;
        self.life.filled = Some(filled.map_err(|error| chain(&error)));
        // The next connection brings the workspace back. That of a stopped session is for whoever wants it.
        if !is_good && matches!(self.sandbox, Sandbox::Up(_)) && self.session.status != Status::Stopped {
            self.sandbox = Sandbox::Cold;
            self.open();
        }
        self.live(Input::Filled(is_good)).await;
    }

    /// Where the files of the upload are that is over.
    pub(super) fn placed(&mut self, packed: Option<&Result<Manifest, String>>) -> Result<Placed, String> {
        const BEFORE: &str = "the workspace is as it was before";
        match (self.life.filled.take(), packed) {
            (Some(Ok(())), Some(Err(reason))) => Err(format!("they are there, but no snapshot could be taken of it: {reason}")),
            // Of a stopped session, whose next sandbox may be on its way up already, for somebody who waited.
            (Some(Ok(())), Some(Ok(_))) if self.session.status == Status::Stopped => Ok(Placed::Saved),
            (Some(Ok(())), _) if self.life.state.sandbox == crate::lifecycle::Sandbox::Cold => Ok(Placed::Saved),
            (Some(Ok(())), _) => Ok(Placed::Live),
            (Some(Err(reason)), _) => Err(format!("{reason}; {BEFORE}")),
            (None, Some(Err(reason))) => Err(format!("no snapshot could be taken to go back to: {reason}; {BEFORE}")),
            (None, _) => Err(format!("the sandbox has ended; {BEFORE}")),
        }
    }
}
