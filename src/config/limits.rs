//! `[limits]` and `[max_limits]`, and `[limits]` of an agent: what is written, and how it is checked.

use std::ops::RangeInclusive;

use serde::Deserialize;
use toml::Spanned;

use super::text::{Whole, count_in, size_in, within};
use crate::wire::limits::Limits;
use crate::wire::quantity::{ByteCount, Dollars, Percent, TimeSpan, bounds};

const CPU: RangeInclusive<Percent> = Percent(*bounds::CPU.start())..=Percent(*bounds::CPU.end());
/// Tokens that JSON can say exactly everywhere.
const TOKENS: u64 = 1 << 53;

/// A value and where it stands in its file; `None` when the file does not say.
type Entry<T> = Option<Spanned<T>>;

/// The table, exactly as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Written {
    cost: Entry<Dollars>,
    cpu: Entry<Percent>,
    disk: Entry<ByteCount>,
    file_size: Entry<ByteCount>,
    io_read: Entry<ByteCount>,
    io_weight: Entry<Whole>,
    io_write: Entry<ByteCount>,
    lifetime: Entry<TimeSpan>,
    memory: Entry<ByteCount>,
    memory_high: Entry<ByteCount>,
    open_files: Entry<Whole>,
    output_rate: Entry<ByteCount>,
    swap: Entry<ByteCount>,
    tasks: Entry<Whole>,
    tokens: Entry<Whole>,
    turn: Entry<TimeSpan>,
}

/// Where a value stands that is one of a table's, or why it can not be one.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Byte of the text at which it begins.
    pub(crate) at: usize,
    /// Why it is refused.
    pub(crate) fault: Option<String>,
}

impl Written {
    /// The values that are good, and what was said of each, in the order of their names.
    pub(crate) fn read(&self) -> (Limits, Vec<Said>) {
        let mut limits = Limits::default();
        let mut said = Vec::new();
        take("cost", &self.cost, &mut limits.cost, &mut said, |cost| Ok(*cost));
        take("cpu", &self.cpu, &mut limits.cpu, &mut said, |share| within(*share, CPU));
        take("disk", &self.disk, &mut limits.disk, &mut said, |size| size_in(*size, bounds::DISK));
        take("file_size", &self.file_size, &mut limits.file_size, &mut said, |size| size_in(*size, bounds::FILE_SIZE));
        take("io_read", &self.io_read, &mut limits.io_read, &mut said, |rate| size_in(*rate, bounds::IO_RATE));
        take("io_weight", &self.io_weight, &mut limits.io_weight, &mut said, |weight| count_in(*weight, bounds::IO_WEIGHT));
        take("io_write", &self.io_write, &mut limits.io_write, &mut said, |rate| size_in(*rate, bounds::IO_RATE));
        take("lifetime", &self.lifetime, &mut limits.lifetime, &mut said, |time| within(*time, bounds::LIFETIME));
        take("memory", &self.memory, &mut limits.memory, &mut said, |size| size_in(*size, bounds::MEMORY));
        take("memory_high", &self.memory_high, &mut limits.memory_high, &mut said, |size| size_in(*size, bounds::MEMORY_HIGH));
        take("open_files", &self.open_files, &mut limits.open_files, &mut said, |count| count_in(*count, bounds::OPEN_FILES));
        take("output_rate", &self.output_rate, &mut limits.output_rate, &mut said, |rate| size_in(*rate, bounds::IO_RATE));
        take("swap", &self.swap, &mut limits.swap, &mut said, |size| size_in(*size, bounds::SWAP));
        take("tasks", &self.tasks, &mut limits.tasks, &mut said, |count| count_in(*count, bounds::TASKS));
        take("tokens", &self.tokens, &mut limits.tokens, &mut said, |count| within(count.0, 0..=TOKENS));
        take("turn", &self.turn, &mut limits.turn, &mut said, |time| within(*time, bounds::TURN));
        (limits, said)
    }
}

fn take<T, U>(
    name: &'static str,
    entry: &Entry<T>,
    to: &mut Option<U>,
    said: &mut Vec<Said>,
    check: impl FnOnce(&T) -> Result<U, String>,
) {
    let Some(entry) = entry else { return };
    let checked = check(entry.get_ref());
    said.push(Said { name, at: entry.span().start, fault: checked.as_ref().err().cloned() });
    *to = checked.ok();
}
