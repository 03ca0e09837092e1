//! The audit log: who did what that others have to be able to ask about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Hash)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $word)] $variant,)*
            /// One that this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl $name {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown => "unknown",
                }
            }
        }
    };
}

words! {
    /// What was done. The list is closed: programs may match on it.
    Action {
        /// An API key was made; the object is its id.
        KeyCreate = "key.create",
        /// An API key was revoked.
        KeyRevoke = "key.revoke",
        /// A credential was kept; the object is its id.
        CredentialCreate = "credential.create",
        /// A credential was given another label or secret.
        CredentialChange = "credential.change",
        /// A credential was forgotten.
        CredentialDelete = "credential.delete",
        /// All credentials were sealed under the newest master key.
        CredentialReseal = "credential.reseal",
        /// A sandbox, or the shim beside it, was given a credential; the principal is `session:<id>`.
        CredentialUse = "credential.use",
        /// A version of an agent was deployed; the object is the agent's name.
        AgentDeploy = "agent.deploy",
        /// Files, environment or configuration of an agent were changed.
        AgentChange = "agent.change",
        /// An agent was deleted.
        AgentDelete = "agent.delete",
        /// A session was made; the object is its id.
        SessionCreate = "session.create",
        /// A message was queued, for which a session is made; the object is the item.
        QueueAdd = "queue.add",
        /// Eval cases of an agent were made, changed or deleted.
        EvalChange = "eval.change",
        /// A run of evals was started, for which sessions are made; the object is the run.
        EvalStart = "eval.start",
        /// A run of evals was cancelled; the object is the agent.
        EvalCancel = "eval.cancel",
        /// Answers of a run of evals were scored; the object is the agent.
        EvalScore = "eval.score",
        /// A session was forked; the object is the parent.
        SessionFork = "session.fork",
        /// A session was ended.
        SessionEnd = "session.end",
        /// What a session may reach was changed.
        SessionEgress = "session.egress",
        /// What a session may use was changed.
        SessionLimits = "session.limits",
        /// A file of the tenant was kept; the object is its id.
        FileUpload = "file.upload",
        /// A link was made with which a file is read without a key.
        FileLink = "file.link",
        /// A file of the tenant was deleted.
        FileDelete = "file.delete",
        /// A webhook was made; the object is its id.
        WebhookCreate = "webhook.create",
        /// A webhook was changed, or given another secret.
        WebhookChange = "webhook.change",
        /// A webhook was deleted.
        WebhookDelete = "webhook.delete",
        /// A webhook was sent a test, or a delivery of it once more.
        WebhookSend = "webhook.send",
        /// A schedule was made; the object is its id.
        ScheduleCreate = "schedule.create",
        /// A schedule was changed.
        ScheduleChange = "schedule.change",
        /// A schedule was deleted.
        ScheduleDelete = "schedule.delete",
        /// A schedule was run by hand.
        ScheduleRun = "schedule.run",
        /// What is not needed any more was removed, or a dry run asked for.
        GcRun = "gc.run",
    }
}

words! {
    /// What came of it.
    Outcome {
        /// It was done.
        Ok = "ok",
        /// It was refused: a status from 400 to 499.
        Refused = "refused",
        /// It failed, or nobody waited for its end.
        Failed = "failed",
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no [`Action`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an action of the audit log, such as key.create")]
pub struct ActionError(String);

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let refuse = || ActionError(text.chars().take(32).collect());
        Self::ALL.iter().find(|action| action.as_str() == text).copied().ok_or_else(refuse)
    }
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Grows with each entry of the daemon.
    pub id: i64,
    /// When it was over.
    pub at: Timestamp,
    /// Of whose things.
    pub tenant: String,
    /// Who did it: `uid:<number>`, `key:<id>` or `session:<id>`.
    pub principal: String,
    /// What was done.
    pub action: Action,
    /// To what: the id or name of the thing, as far as there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The request, as its answer and the journal name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The address that the request came from; `None` for the control socket and for what no request did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// How many refused acts of the same principal before this one were not written down, as there were too many.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unwritten: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

/// `{"entries": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditList {
    /// The entries.
    pub entries: Vec<AuditEntry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_back_and_others_are_unknown() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse().as_ref(), Ok(action));
            assert_eq!(serde_json::to_value(action).ok(), Some(action.as_str().into()));
        }
        assert!("key.steal".parse::<Action>().is_err());
        assert_eq!(serde_json::from_value::<Action>("key.steal".into()).ok(), Some(Action::Unknown));
    }
}
