//! One id type for each kind of thing, so that one can not be passed for another.
//!
//! All of them are UUIDs on the wire. New ones are version 7, which sort by the time of their
//! making and so keep the database's indexes local.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text which is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a UUID")]
pub struct IdError {
    text: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID that is known to name a thing of this kind.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Makes a fresh id from the present time and random bits (UUID version 7).
            #[expect(clippy::new_without_default, reason = "a default id would hide that each one is fresh")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID itself.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Reads the hyphenated form (36 characters) and no other, since ids become parts of
            /// unit and file names and must have one spelling only.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let refuse = || IdError { text: text.chars().take(64).collect() };
                if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(refuse());
                }
                Uuid::try_parse(text).map(Self).map_err(|_| refuse())
            }
        }
    };
}

id_type! {
    /// Names a session: one conversation with one agent version.
    SessionId
}
id_type! {
    /// Names a sandbox: the folder, uid and unit in which a session's processes live.
    SandboxId
}
id_type! {
    /// Names a turn: one user message to its final answer. It is also the uuid under which the
    /// message is given to the runtime.
    TurnId
}
id_type! {
    /// Names a request for permission.
    PermissionId
}
id_type! {
    /// Names an API key, without being secret.
    KeyId
}
id_type! {
    /// Names a credential, without being secret.
    CredentialId
}
id_type! {
    /// Names a version of an agent's prompt.
    PromptVersionId
}
id_type! {
    /// Names a file that was given to a session.
    AttachmentId
}
id_type! {
    /// Names a file of a tenant.
    FileId
}
id_type! {
    /// Names an item of the queue. It is also the key by which its message is known in a session.
    QueueId
}
id_type! {
    /// Names a question with which an agent is evaluated.
    EvalCaseId
}
id_type! {
    /// Names a run of an agent's evals.
    EvalRunId
}
id_type! {
    /// Names what one case came to in one run. It is also the key by which its message is known in a session.
    EvalResultId
}
id_type! {
    /// Names a webhook, without being secret.
    WebhookId
}
id_type! {
    /// Names a schedule.
    ScheduleId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_spelling_is_read() {
        let id = SessionId::new();
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        for text in ["", "x", &id.to_string().to_uppercase(), &id.to_string().replace('-', ""), &format!("{{{id}}}")] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_sort_by_their_making() {
        let (a, b) = (TurnId::new(), TurnId::new());
        assert!(a < b);
    }
}
