//! Limits of a session: what it may use of the host, of time and of the model.
//!
//! One type says what somebody asks for, what the operator allows at most, and what counts in the end:
//! a field that says nothing leaves the thing to somebody else, or unlimited.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::quantity::{ByteCount, Dollars, Percent, TimeSpan};
use super::usage::Spent;

/// `limits` of a new session, and what its sandboxes go by. In JSON, sizes are whole MiB, times whole
/// seconds, processor time percent of one processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of all processes with their page cache. Over it the kernel ends one of them.
    #[serde(rename = "memoryMb", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub memory: Option<ByteCount>,
    /// Memory above which the kernel slows the processes down and takes back what it can.
    #[serde(rename = "memoryHighMb", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub memory_high: Option<ByteCount>,
    /// Swap beside the memory.
    #[serde(rename = "swapMb", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub swap: Option<ByteCount>,
    /// Processor time.
    #[serde(rename = "cpuPercent", with = "percent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u32>))]
    pub cpu: Option<Percent>,
    /// Processes and threads.
    #[serde(rename = "maxProcesses", skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// Workspace and HOME together.
    #[serde(rename = "diskMb", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub disk: Option<ByteCount>,
    /// Share of the disk's time beside others that want it; 100 is the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// Bytes read from the disk in a second.
    #[serde(rename = "ioReadMbPerSecond", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub io_read: Option<ByteCount>,
    /// Bytes written to the disk in a second.
    #[serde(rename = "ioWriteMbPerSecond", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub io_write: Option<ByteCount>,
    /// Open files of one process.
    #[serde(rename = "maxOpenFiles", skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    /// Size of one file.
    #[serde(rename = "maxFileMb", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub file_size: Option<ByteCount>,
    /// Bytes that the runtime writes in a second.
    #[serde(rename = "outputMbPerSecond", with = "mib", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub output_rate: Option<ByteCount>,
    /// How long a sandbox may live. Then its processes end behind a snapshot, and the next message
    /// starts another one.
    #[serde(rename = "lifetimeSeconds", with = "seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub lifetime: Option<TimeSpan>,
    /// How long a sandbox is idle before its processes end.
    #[serde(rename = "idleSeconds", with = "seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub idle: Option<TimeSpan>,
    /// How long a turn may take.
    #[serde(rename = "turnSeconds", with = "seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<u64>))]
    pub turn: Option<TimeSpan>,
    /// Tokens of all turns of the session together, of every kind.
    #[serde(rename = "maxTokens", skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// What all turns of the session may cost together.
    #[serde(rename = "maxCostUsd", skip_serializing_if = "Option::is_none")]
    pub cost: Option<Dollars>,
}

/// A field of [`Limits`] that can not be as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitFault {
    /// Its name in JSON.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The least and the most of each field in JSON; the same as of the configuration.
pub const BOUNDS: &[(&str, f64, f64)] = &[
    ("memoryMb", 128.0, (1_u64 << 30) as f64),
    ("memoryHighMb", 64.0, (1_u64 << 30) as f64),
    ("swapMb", 0.0, (1_u64 << 30) as f64),
    ("cpuPercent", 1.0, 100_000.0),
    ("maxProcesses", 24.0, 4_000_000.0),
    ("diskMb", 16.0, (1_u64 << 35) as f64),
    ("ioWeight", 1.0, 10_000.0),
    ("ioReadMbPerSecond", 1.0, (1_u64 << 20) as f64),
    ("ioWriteMbPerSecond", 1.0, (1_u64 << 20) as f64),
    ("maxOpenFiles", 256.0, 16_384.0),
    ("maxFileMb", 16.0, (1_u64 << 35) as f64),
    ("outputMbPerSecond", 1.0, (1_u64 << 20) as f64),
    ("lifetimeSeconds", 1.0, 315_360_000.0),
    ("idleSeconds", 0.0, 315_360_000.0),
    ("turnSeconds", 1.0, 31_536_000.0),
    ("maxTokens", 0.0, (1_u64 << 53) as f64),
    ("maxCostUsd", 0.0, 1e9),
];

/// The fields which the next process of the runtime takes up, before the next turn begins.
pub const AT_NEXT_TURN: [&str; 2] = ["maxOpenFiles", "maxFileMb"];

/// Puts two sets together, field by field.
macro_rules! merge {
    ($with:ident, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        Limits {
            memory: $with(a.memory, b.memory),
            memory_high: $with(a.memory_high, b.memory_high),
            swap: $with(a.swap, b.swap),
            cpu: $with(a.cpu, b.cpu),
            tasks: $with(a.tasks, b.tasks),
            disk: $with(a.disk, b.disk),
            io_weight: $with(a.io_weight, b.io_weight),
            io_read: $with(a.io_read, b.io_read),
            io_write: $with(a.io_write, b.io_write),
            open_files: $with(a.open_files, b.open_files),
            file_size: $with(a.file_size, b.file_size),
            output_rate: $with(a.output_rate, b.output_rate),
            lifetime: $with(a.lifetime, b.lifetime),
            idle: $with(a.idle, b.idle),
            turn: $with(a.turn, b.turn),
            tokens: $with(a.tokens, b.tokens),
            cost: $with(a.cost, b.cost),
        }
    }};
}

fn first<T>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.or(b)
}

fn lesser<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Limits {
    /// Takes from the other set what this one does not say.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        merge!(first, self, other)
    }

    /// The lesser of both, where nothing is without a limit.
    #[must_use]
    pub fn at_most(self, bound: Self) -> Self {
        merge!(lesser, self, bound)
    }

    /// The fields that say something, by their names in JSON.
    pub fn said(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // A set of numbers is nothing else.
            _ => Map::new(),
        }
    }

    /// Checks each field against what can be at all.
    ///
    /// # Errors
    ///
    /// The first field that can not be.
    pub fn check(&self) -> Result<(), LimitFault> {
        for (field, value) in self.said() {
            let Some((_, least, most)) = BOUNDS.iter().find(|(name, ..)| *name == field) else { continue };
            // Beyond 2^53, a float would round to what is allowed.
            let is_within = match value.as_u64() {
                Some(number) => (*least as u64..=*most as u64).contains(&number),
                None => value.as_f64().is_some_and(|number| (*least..=*most).contains(&number)),
            };
            if !is_within {
                return Err(LimitFault { field, reason: format!("{value} is not between {least} and {most}") });
            }
        }
        Ok(())
    }

    /// The first field that asks for more than `bound` allows.
    pub fn first_beyond(&self, bound: &Self) -> Option<LimitFault> {
        let bound = bound.said();
        self.said().into_iter().find_map(|(field, value)| {
            let most = bound.get(&field)?;
            (value.as_f64() > most.as_f64()).then(|| LimitFault {
                reason: format!("{value} is more than {most}, the most that the operator of this host allows"),
                field,
            })
        })
    }

    /// The set after a change of some fields, of which `null` takes back what it said.
    ///
    /// # Errors
    ///
    /// The first field that is unknown or of a wrong type.
    pub fn changed(&self, change: Map<String, Value>) -> Result<Self, LimitFault> {
        let mut fields = self.said();
        for (field, value) in change {
            let one = Map::from_iter([(field.clone(), value.clone())]);
            if let Err(error) = serde_json::from_value::<Self>(Value::Object(one)) {
                return Err(LimitFault { field, reason: error.to_string() });
            }
            if value.is_null() {
                fields.remove(&field)
            } else {
                fields.insert(field, value)
            };
        }
        serde_json::from_value(Value::Object(fields))
            .map_err(|error| LimitFault { field: "limits".to_owned(), reason: error.to_string() })
    }
}

/// Answer of `GET` and `PATCH /api/sessions/{id}/limits`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LimitsBody {
    /// What counts; a field that is not there is not limited.
    pub limits: Limits,
    /// What of it the session itself says.
    pub session: Limits,
    /// The most that a session of this host can say.
    pub max: Limits,
    /// What the session has spent of its budgets.
    pub spent: Spent,
    /// Changed fields that do not count in the present sandbox, by their names: those of
    /// [`AT_NEXT_TURN`] count from the next turn on, others from the next sandbox on.
    #[serde(default)]
    pub pending: Vec<String>,
}

/// A limit that ended a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "daemon", schema(as = LimitReached))]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// The memory of the sandbox, or of the host.
    OutOfMemory,
    /// The time of a turn.
    TurnTime,
    /// The life time of a sandbox.
    Lifetime,
    /// The tokens or the money of the session.
    Budget,
    /// What is on the disk, or how many files.
    Disk,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Reached {
    const ALL: [Self; 5] = [Self::OutOfMemory, Self::TurnTime, Self::Lifetime, Self::Budget, Self::Disk];

    /// With what the cause of a turn begins that it ended.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out of memory",
            Self::TurnTime => "turn_time",
            Self::Lifetime => "lifetime",
            Self::Budget => "budget",
            Self::Disk => "disk",
            Self::Unknown => "unknown",
        }
    }

    /// The cause of a turn that it ended.
    pub fn cause(self, detail: impl std::fmt::Display) -> String {
        format!("{}: {detail}", self.prefix())
    }

    /// The limit that a cause names, at its beginning or behind what the runtime said.
    pub fn of_cause(cause: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| {
            let begins = |part: &str| part.strip_prefix(limit.prefix()).is_some_and(|rest| rest.starts_with(": "));
            begins(cause) || cause.rsplit_once("; ").is_some_and(|(_, last)| begins(last))
        })
    }
}

/// Sizes as whole MiB.
mod mib {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ByteCount;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(size: &Option<ByteCount>, serializer: S) -> Result<S::Ok, S::Error> {
        size.map(|size| size.0 >> 20).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteCount>, D::Error> {
        let size = |mib: u64| mib.checked_mul(1 << 20).map(ByteCount).ok_or_else(|| too_large(mib));
        Option::<u64>::deserialize(deserializer)?.map(size).transpose()
    }

    fn too_large<E: serde::de::Error>(mib: u64) -> E {
        E::custom(format_args!("{mib} MiB are more than any host has"))
    }
}

/// Times as whole seconds.
mod seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::TimeSpan;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(time: &Option<TimeSpan>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.0).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TimeSpan>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(TimeSpan))
    }
}

/// Processor time as a number.
mod percent {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Percent;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(share: &Option<Percent>, serializer: S) -> Result<S::Ok, S::Error> {
        share.map(|share| share.0).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Percent>, D::Error> {
        Ok(Option::<u32>::deserialize(deserializer)?.map(Percent))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(value: Value) -> Limits {
        serde_json::from_value(value).expect("limits")
    }

    #[test]
    fn fields_have_their_units_and_say_nothing_where_they_are_not() {
        let all = json!({
            "memoryMb": 512, "memoryHighMb": 400, "swapMb": 0, "cpuPercent": 150, "maxProcesses": 100, "diskMb": 1024,
            "ioWeight": 50, "ioReadMbPerSecond": 10, "ioWriteMbPerSecond": 20, "maxOpenFiles": 1024, "maxFileMb": 64, "outputMbPerSecond": 5,
            "lifetimeSeconds": 3600, "idleSeconds": 60, "turnSeconds": 30, "maxTokens": 1000, "maxCostUsd": 0.5,
        });
        let read = limits(all.clone());
        assert_eq!((read.memory, read.cpu), (Some(ByteCount(512 << 20)), Some(Percent(150))));
        assert_eq!((read.turn, read.cost), (Some(TimeSpan(30)), Some(Dollars(500_000))));
        assert_eq!(serde_json::to_value(read).expect("JSON"), all);
        assert_eq!(read.said().len(), BOUNDS.len(), "every field has its bounds");
        assert!(read.said().keys().all(|field| BOUNDS.iter().any(|(name, ..)| name == field)));
        assert_eq!(
            (read.check(), limits(json!({})), limits(json!({"memoryMb": null}))),
            (Ok(()), Limits::default(), Limits::default())
        );
    }

    #[test]
    fn what_can_not_be_is_named_by_its_field() {
        for (field, value) in [
            ("memoryMb", json!(127)),
            ("maxProcesses", json!(3)),
            ("turnSeconds", json!(0)),
            ("maxOpenFiles", json!(99_999)),
            ("maxTokens", json!((1_u64 << 53) + 1)),
        ] {
            let said = Limits::default().changed(Map::from_iter([(field.to_owned(), value)])).expect("a number");
            assert_eq!(said.check().map_err(|fault| fault.field), Err(field.to_owned()));
        }
        for (field, value) in [
            ("memoryMb", json!("1G")),
            ("memoryMb", json!(-1)),
            ("memoryMb", json!(u64::MAX)),
            ("cpu", json!(1)),
            ("maxCostUsd", json!(-0.5)),
        ] {
            let fault = Limits::default().changed(Map::from_iter([(field.to_owned(), value)])).expect_err(field);
            assert_eq!(fault.field, field);
        }
    }

    #[test]
    fn a_change_keeps_the_rest_and_null_takes_back() {
        let before = limits(json!({"memoryMb": 512, "maxProcesses": 64}));
        let change = |value: Value| before.changed(value.as_object().expect("an object").clone()).expect("good");
        assert_eq!(
            change(json!({"memoryMb": 256, "diskMb": 100})),
            limits(json!({"memoryMb": 256, "maxProcesses": 64, "diskMb": 100}))
        );
        assert_eq!(change(json!({"memoryMb": null})), limits(json!({"maxProcesses": 64})));
        assert_eq!(change(json!({})), before);
    }

    #[test]
    fn the_first_that_says_something_counts_and_the_bound_above_all() {
        let host = limits(json!({"memoryMb": 1024, "cpuPercent": 200}));
        let session = limits(json!({"memoryMb": 4096, "turnSeconds": 10}));
        let bound = limits(json!({"memoryMb": 2048, "maxTokens": 5}));
        let counts = session.or(host).at_most(bound);
        assert_eq!(counts, limits(json!({"memoryMb": 2048, "cpuPercent": 200, "turnSeconds": 10, "maxTokens": 5})));
        let fault = session.first_beyond(&bound).expect("too much");
        assert_eq!(fault.field, "memoryMb");
        assert_eq!(fault.reason, "4096 is more than 2048, the most that the operator of this host allows");
        assert_eq!(host.first_beyond(&bound), None);
    }

    #[test]
    fn a_cause_names_its_limit() {
        let cause = Reached::TurnTime.cause("the turn took 30 s, the most that it may");
        assert_eq!(cause, "turn_time: the turn took 30 s, the most that it may");
        for (cause, limit) in [
            (cause.as_str(), Some(Reached::TurnTime)),
            ("API Error: 400; budget: 10 of 5 tokens are spent", Some(Reached::Budget)),
            ("out of memory: the host had none left for the sandbox", Some(Reached::OutOfMemory)),
            ("out of memory", None),
            ("the disk: is full", None),
            ("disk: there is too much", Some(Reached::Disk)),
            ("interrupted", None),
        ] {
            assert_eq!(Reached::of_cause(cause), limit, "{cause}");
        }
    }
}
