//! Waits for the manager's jobs.
//!
//! One task reads the signal `JobRemoved` for all; whoever waits registers the unit *before* the
//! call that makes the job, as the signal may be read before the call's reply. systemd tells those
//! who queued a job about its end without `Subscribe()`, which would make it announce every
//! change of every unit on the bus.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zbus::OwnedObjectPath;

use super::proxy::ManagerProxy;

/// Why a job did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The unit went into a failed state instead.
    #[error("its job failed")]
    Failed,
    /// It took longer than the unit's own timeout.
    #[error("its job timed out")]
    Timeout,
    /// Another job took its place.
    #[error("its job was cancelled by another one")]
    Canceled,
    /// A unit that it needs did not start.
    #[error("a unit it depends on failed")]
    Dependency,
    /// Any other result of systemd.
    #[error("its job ended with the result {0:?}")]
    Other(String),
    /// The connection to the manager ended, so nobody will tell.
    #[error("the connection to systemd was lost")]
    Lost,
}

/// A job left the queue.
struct Removed {
    job: OwnedObjectPath,
    result: String,
}

/// Units and those who wait for a job of them. Entries are few: one for each request under way.
type Waiting = Arc<Mutex<HashMap<String, Vec<UnboundedSender<Removed>>>>>;

/// Hands ended jobs to those who wait for them.
#[derive(Debug)]
pub struct Jobs {
    waiting: Waiting,
    lost: watch::Receiver<bool>,
    reader: JoinHandle<()>,
}

impl Jobs {
    /// Begins to listen. Returns when no signal can be missed any more.
    ///
    /// # Errors
    ///
    /// The bus refused.
    pub async fn listen(manager: &ManagerProxy<'_>) -> zbus::Result<Self> {
        let mut signals = manager.receive_job_removed().await?;
        let waiting = Waiting::default();
        let (told, lost) = watch::channel(false);
        let by_unit = Arc::clone(&waiting);
        let reader = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                let args = match signal.args() {
                    Ok(args) => args,
                    Err(error) => {
                        tracing::warn!(error = %error, "malformed JobRemoved signal, ignoring");
                        continue;
                    }
                };
                let mut by_unit = by_unit.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(waiters) = by_unit.get_mut(&args.unit) {
                    waiters.retain(|waiter| waiter.send(Removed { job: args.job.clone(), result: args.result.clone() }).is_ok());
                }
            }
            // Whoever waits learns it by the end of their channel.
            by_unit.lock().unwrap_or_else(PoisonError::into_inner).clear();
            told.send_replace(true);
        });
        Ok(Self { waiting, lost, reader })
    }

    /// Notes from now on which jobs of `unit` end.
    pub fn watch(&self, unit: &str) -> Watch {
        let (sender, ended) = unbounded_channel();
        if !*self.lost.borrow() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.entry(unit.to_owned()).or_default().push(sender);
        }
        Watch { unit: unit.to_owned(), ended, waiting: Arc::clone(&self.waiting) }
    }

    /// Returns when the connection to the manager is lost.
    pub async fn lost(&self) {
        // An error means that the reader is gone, which is the same.
        self.lost.clone().wait_for(|lost| *lost).await.ok();
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Somebody waits for a job of a unit.
#[derive(Debug)]
pub struct Watch {
    unit: String,
    ended: UnboundedReceiver<Removed>,
    waiting: Waiting,
}

impl Watch {
    /// Returns when this job ended.
    ///
    /// # Errors
    ///
    /// [`JobError`] when it ended otherwise than done.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: called again for the same job it goes on waiting.
    pub async fn finished(&mut self, job: &OwnedObjectPath) -> Result<(), JobError> {
        while let Some(removed) = self.ended.recv().await {
            if removed.job == *job {
                // The words are those of systemd's job_result_table, v252.
                return match removed.result.as_str() {
                    "done" => Ok(()),
                    "failed" => Err(JobError::Failed),
                    "timeout" => Err(JobError::Timeout),
                    "canceled" => Err(JobError::Canceled),
                    "dependency" => Err(JobError::Dependency),
                    _ => Err(JobError::Other(removed.result)),
                };
            }
        }
        Err(JobError::Lost)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.close();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiters) = waiting.get_mut(&self.unit) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                waiting.remove(&self.unit);
            }
        }
    }
}

impl std::fmt::Debug for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.job, self.result)
    }
}
