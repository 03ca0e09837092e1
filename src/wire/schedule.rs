//! Schedules: messages that are queued at the times of a calendar.

use serde::{Deserialize, Serialize};

use super::webhook::told;
use super::{QueueId, ScheduleId, SessionId, Timestamp};

/// What becomes of times that came while the daemon was down or the host slept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out.
    None,
    /// The newest of them runs, the others are left out.
    #[default]
    Once,
    /// The newest 100 of them run.
    All,
}

/// What becomes of a time that comes before the item of the one before is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It is queued all the same.
    Queue,
}

macro_rules! words {
    ($name:ident, $($variant:ident = $word:literal),*) => {
        impl $name {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|known| known.as_str() == text);
                found.copied().ok_or_else(|| format!("{text:?} is none of {}", [$($word),*].join(", ")))
            }
        }
    };
}

words!(CatchUp, None = "none", Once = "once", All = "all");
words!(Overlap, Skip = "skip", Queue = "queue");

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The schedule.
    pub id: ScheduleId,
    /// What its maker calls it.
    pub name: String,
    /// Its agent.
    pub agent_name: String,
    /// What the agent is told.
    pub prompt: String,
    /// When: an expression of systemd or of cron.
    pub calendar: String,
    /// The time zone of its times, unless `calendar` names one.
    pub timezone: String,
    /// The session that the messages go into; `null`: each has one of its own.
    pub session_id: Option<SessionId>,
    /// Whether a session of its own stays when it is over.
    pub keep_session: bool,
    /// Of its items: the highest goes first.
    pub priority: i64,
    /// How often an item may be tried again.
    pub max_retries: i64,
    /// What becomes of times that came while the daemon was down.
    pub catch_up: CatchUp,
    /// Firings are late by up to so many seconds, each by another number, and never so many that the next one is due.
    pub jitter_seconds: u32,
    /// What becomes of a time that comes before the last item is over.
    pub overlap: Overlap,
    /// Whether it fires by itself.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody changed it.
    pub updated_at: Timestamp,
    /// When it fires next, with its jitter; `null` if it is disabled or never does again.
    pub next_at: Option<Timestamp>,
    /// When it last made an item.
    pub last_at: Option<Timestamp>,
    /// That item.
    pub last_item_id: Option<QueueId>,
    /// Why it last made none, or why an item failed; `null` since one was completed.
    pub last_error: Option<String>,
    /// How many of its items failed since one was completed.
    pub failures_in_row: i64,
    /// What became of its times.
    pub counts: ScheduleCounts,
}

/// What became of the times of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ScheduleCounts {
    /// Items that were made.
    pub queued: i64,
    /// Times that were left out.
    pub skipped: i64,
    /// Items that were completed.
    pub completed: i64,
    /// Items that failed.
    pub failed: i64,
}

/// Body of `POST /api/schedules`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSchedule {
    /// 1 to 100 characters.
    pub name: String,
    /// The agent.
    pub agent_name: String,
    /// What it is told.
    pub prompt: String,
    /// When, such as `Mon..Fri 09:00` (systemd.time(7), "Calendar Events") or `0 9 * * 1-5` (crontab(5)).
    pub calendar: String,
    /// A name of the IANA database. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The session that the messages go into. Default: each has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Default: no, a session of its own is ended when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_session: Option<bool>,
    /// Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
    /// Default: `once`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// From 0 to 86400; default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_seconds: Option<u32>,
    /// Default: `skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// Default: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Body of `PATCH /api/schedules/{id}`. What is left out stays.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeSchedule {
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The new agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// What it is told from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The new times, which count from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<String>,
    /// The new time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The new session; `null`: each message has one of its own.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Option<SessionId>>,
    /// Whether a session of its own stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_session: Option<bool>,
    /// The new priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// How often items are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
    /// What becomes of times that are missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// The new jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_seconds: Option<u32>,
    /// What becomes of times that come too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// Whether it fires from now on. What came while it did not is not caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// `{"schedule": …}`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ScheduleBody {
    /// The schedule.
    pub schedule: Schedule,
}

/// `{"schedules": […]}`, newest first.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<Schedule>,
}

/// The next times of an expression, without their jitter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct SchedulePreview {
    /// The times, soonest first; none if it is over.
    pub times: Vec<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_no_other_is_one() {
        for word in CatchUp::ALL {
            assert_eq!(word.as_str().parse().as_ref(), Ok(word));
            assert_eq!(serde_json::to_value(word).ok(), Some(word.as_str().into()));
        }
        for word in Overlap::ALL {
            assert_eq!(word.as_str().parse().as_ref(), Ok(word));
            assert_eq!(serde_json::to_value(word).ok(), Some(word.as_str().into()));
        }
        assert!("twice".parse::<CatchUp>().is_err_and(|error| error.contains("none, once, all")));
    }

    #[test]
    fn a_change_tells_null_from_nothing() {
        let read = |text| serde_json::from_str::<ChangeSchedule>(text).expect(text).session_id;
        assert_eq!((read("{}"), read(r#"{"sessionId":null}"#)), (None, Some(None)));
        assert!(serde_json::from_str::<ChangeSchedule>(r#"{"cron":""}"#).is_err());
    }
}
