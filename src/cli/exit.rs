//! Exit codes. They are part of the interface: scripts may rely on them.

use std::process::ExitCode;

/// How `ashctl` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The server refused or failed, the turn failed, a run of evals did not pass, or a check of `doctor` or `security` failed.
    Failed = 1,
    /// The command line, a file named on it or the environment is wrong; nothing was sent.
    Usage = 2,
    /// There is no connection to the server, or it broke.
    NoConnection = 3,
    /// There is no such agent, session or key.
    NotFound = 4,
    /// No API key, not a good one, or not allowed.
    Denied = 5,
    /// The server has no room or no dependency right now: the same call may succeed later.
    Unavailable = 6,
    /// Interrupted from the keyboard: 128 + SIGINT.
    Interrupted = 130,
    /// Whoever read the output went away: 128 + SIGPIPE, as a shell shows it.
    OutputClosed = 141,
}

impl Exit {
    /// Every code with its meaning, for manual pages.
    pub const TABLE: &[(Self, &str)] = &[
        (Self::Ok, "Success."),
        (
            Self::Failed,
            "The server refused or failed, the turn failed, a run of evals did not come to what was asked for, or a check of \"ashctl doctor\" or \"ashctl security\" failed.",
        ),
        (Self::Usage, "The command line, a file that it names or the environment is wrong. Nothing was sent."),
        (Self::NoConnection, "There is no connection to the server, or it broke."),
        (Self::NotFound, "There is no such agent, session or API key."),
        (Self::Denied, "No API key, not a good one, or not allowed."),
        (Self::Unavailable, "The server can not do it right now. The same command may succeed later."),
        (Self::Interrupted, "Interrupted from the keyboard."),
        (Self::OutputClosed, "The reader of standard output went away."),
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_released() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 130, 141]);
    }
}
