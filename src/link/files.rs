//! How `ash-init files` tells of the files of a workspace.
//!
//! `list` writes a record for each file, `SIZE MTIME PATH` and a NUL, with the time in nanoseconds since
//! 1970; `read` writes `SIZE MTIME` and a line feed, and then so many bytes. What can not be done for a
//! reason that a caller can act on ends with an exit code of its own.

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// There is no such file.
    Missing = 64,
    /// It is a folder, or what else is no file.
    NotFile = 65,
    /// A link leads out of the workspace.
    Outside = 66,
    /// It is larger than allowed; its size is on standard output.
    TooLarge = 67,
    /// One of the folders on the way is a file.
    NotFolder = 68,
    /// Its mode, or that of a folder on the way, keeps the sandbox's own user out.
    Closed = 69,
}

impl Refusal {
    /// What an exit code says.
    pub const fn of(code: i32) -> Option<Self> {
        match code {
            64 => Some(Self::Missing),
            65 => Some(Self::NotFile),
            66 => Some(Self::Outside),
            67 => Some(Self::TooLarge),
            68 => Some(Self::NotFolder),
            69 => Some(Self::Closed),
            _ => None,
        }
    }

    /// The sentence of the wire contract, or one like it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "File not found",
            Self::NotFile => "Path is not a file",
            Self::Outside => "Path leads out of the workspace",
            Self::TooLarge => "File too large",
            Self::NotFolder => "A folder on the way to the path is a file",
            Self::Closed => "Path is closed to the agent by its mode",
        }
    }
}
