//! Where log lines go: to the journal with their fields, or to standard error as text.
//!
//! In the journal every field of an event, and of the spans around it, becomes a field of the
//! entry: upper case with the prefix `ASH_`. `info!(session_id = %id, "turn started")` is found by
//! `journalctl ASH_SESSION_ID=…`, together with what the sandbox of that session printed, as its
//! unit carries the same key by `LogExtraFields=`. The text is `MESSAGE`; `TARGET`, `CODE_FILE`
//! and `CODE_LINE` say where it comes from, `SPAN_NAME` names the spans. A field that both a span
//! and its event carry is there twice.
//!
//! Levels are those of syslog: ERROR 3, WARN 4, INFO 6, DEBUG and TRACE 7.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Prefix of fields in the journal, without the underscore that follows it.
const FIELD_PREFIX: &str = "ASH";
/// Environment variable with the filter: a level, or `target=level` pairs, such as
/// `info,ash::session=debug`. Without it all from INFO on is logged.
pub const FILTER_VARIABLE: &str = "ASH_LOG";

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter can not be read.
    #[error("{FILTER_VARIABLE}={text:?} is not a filter such as \"info\" or \"info,ash::session=debug\"")]
    Filter {
        /// The filter.
        text: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something logs already.
    #[error("a log was set up before")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the whole process under the name of `program`.
///
/// # Errors
///
/// [`LogError::Filter`] for a bad `ASH_LOG`, [`LogError::Twice`] when called again.
pub fn init(program: &str) -> Result<(), LogError> {
    let filter = filter(std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let registry = tracing_subscriber::registry().with(filter);
    if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref(), std::io::stderr())
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal
            .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
            .with_syslog_identifier(program.to_owned())
            .with_priority_mappings(PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            });
        return Ok(registry.with(journal).try_init()?);
    }
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false);
    Ok(registry.with(text).try_init()?)
}

fn filter(text: Option<&str>) -> Result<Targets, LogError> {
    match text.map(str::trim) {
        None | Some("") => Ok(Targets::new().with_default(LevelFilter::INFO)),
        Some(text) => text.parse().map_err(|source| LogError::Filter { text: text.to_owned(), source }),
    }
}

/// Whether a descriptor is the stream that `$JOURNAL_STREAM` describes as `device:inode`. The
/// variable is inherited by processes whose output goes elsewhere, see systemd.exec(5).
fn is_journal(stream: Option<&str>, descriptor: impl AsFd) -> bool {
    let of_descriptor = || {
        let file = File::from(descriptor.as_fd().try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok()?;
        Some(format!("{}:{}", metadata.dev(), metadata.ino()))
    };
    stream.is_some_and(|stream| of_descriptor().as_deref() == Some(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().expect("makes a file");
        let metadata = file.metadata().expect("has one");
        let stream = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(is_journal(Some(&stream), &file));
        assert!(!is_journal(Some("8:1"), &file));
        assert!(!is_journal(Some(""), &file));
        assert!(!is_journal(None, &file));
    }

    #[test]
    fn the_filter_takes_levels_and_targets() {
        for text in [None, Some(""), Some("debug"), Some("info,ash::session=trace"), Some("off")] {
            assert!(filter(text).is_ok(), "{text:?}");
        }
        let quiet = filter(None).expect("is the default");
        assert!(quiet.would_enable("ash::session", &tracing::Level::INFO));
        assert!(!quiet.would_enable("ash::session", &tracing::Level::DEBUG));
        let error = filter(Some("ash=loud")).expect_err("is no level");
        assert!(error.to_string().contains("ASH_LOG"), "{error}");
    }
}
