//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use super::driver::SAID_MAX;
use super::spool::FULL;
use crate::wire::SandboxId;

/// What the shim is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// The sandbox it is the shim of.
    pub sandbox: SandboxId,
    /// The user that may connect, beside root.
    pub daemon_uid: u32,
    /// The sandbox's folder, with `home`, `workspace` and `spool`.
    pub state: PathBuf,
    /// The init program, on the host.
    pub init: PathBuf,
    /// The folder with the made-up files for `/etc`.
    pub etc: PathBuf,
    /// Bubblewrap.
    pub bwrap: PathBuf,
    /// Bytes of events on disk beyond which the runtime is not read; tests ask for less than
    /// the default.
    pub spool_max: u64,
    /// Bytes that the runtime may say from one message on to the next; tests ask for less than the default.
    pub said_max: u64,
}

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// There is no such option.
    #[error("unknown option {0:?}")]
    Unknown(OsString),
    /// An option has no value, or none of its kind.
    #[error("option {0} needs {1}")]
    Value(&'static str, &'static str),
}

impl Args {
    /// Reads the arguments, without the name of the program.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ArgsError> {
        let mut args = args.into_iter();
        let (mut sandbox, mut daemon_uid, mut state, mut init, mut etc, mut bwrap) = (None, None, None, None, None, None);
        let (mut spool_max, mut said_max) = (None, None);
        while let Some(name) = args.next() {
            let (slot, option) = match name.to_str() {
                Some("--sandbox") => (&mut sandbox, "--sandbox"),
                Some("--daemon-uid") => (&mut daemon_uid, "--daemon-uid"),
                Some("--state") => (&mut state, "--state"),
                Some("--init") => (&mut init, "--init"),
                Some("--etc") => (&mut etc, "--etc"),
                Some("--bwrap") => (&mut bwrap, "--bwrap"),
                Some("--spool-max") => (&mut spool_max, "--spool-max"),
                Some("--said-max") => (&mut said_max, "--said-max"),
                _ => return Err(ArgsError::Unknown(name)),
            };
            *slot = Some(args.next().ok_or(ArgsError::Value(option, "a value"))?);
        }
        let text = |value: Option<OsString>| value.and_then(|value| value.into_string().ok());
        let sandbox: SandboxId =
            text(sandbox).and_then(|id| id.parse().ok()).ok_or(ArgsError::Value("--sandbox", "a UUID in its hyphenated form"))?;
        let daemon_uid =
            text(daemon_uid).and_then(|uid| uid.parse().ok()).ok_or(ArgsError::Value("--daemon-uid", "the number of a user"))?;
        let bytes = |value: Option<OsString>, option, default| match value {
            Some(value) => text(Some(value)).and_then(|bytes| bytes.parse().ok()).ok_or(ArgsError::Value(option, "bytes")),
            None => Ok(default),
        };
        let (spool_max, said_max) = (bytes(spool_max, "--spool-max", FULL)?, bytes(said_max, "--said-max", SAID_MAX)?);
        let path = |value: Option<OsString>, default: String| value.map_or_else(|| PathBuf::from(default), PathBuf::from);
        Ok(Self {
            sandbox,
            daemon_uid,
            state: path(state, format!("/var/lib/ash/sandboxes/{sandbox}")),
            init: path(init, "/usr/libexec/ash/ash-init".to_owned()),
            etc: path(etc, "/usr/share/ash/etc".to_owned()),
            bwrap: path(bwrap, "/usr/bin/bwrap".to_owned()),
            spool_max,
            said_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190a0b0-0000-7000-8000-000000000001";

    fn parse(args: &[&str]) -> Result<Args, ArgsError> {
        Args::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn only_sandbox_and_user_have_to_be_said() {
        let args = parse(&["--sandbox", ID, "--daemon-uid", "990"]).expect("enough");
        assert_eq!(args.state, PathBuf::from(format!("/var/lib/ash/sandboxes/{ID}")));
        let args =
            parse(&["--daemon-uid", "990", "--state", "/s", "--init", "/i", "--etc", "/e", "--bwrap", "/b", "--sandbox", ID]);
        let args = args.expect("all");
        assert_eq!((args.spool_max, args.said_max), (FULL, SAID_MAX));
        assert_eq!([args.state, args.init, args.etc, args.bwrap], ["/s", "/i", "/e", "/b"].map(PathBuf::from));
    }

    #[test]
    fn mistakes_are_named() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "option --sandbox needs a UUID in its hyphenated form"),
            (&["--sandbox", "x", "--daemon-uid", "1"], "option --sandbox needs a UUID in its hyphenated form"),
            (&["--sandbox", ID], "option --daemon-uid needs the number of a user"),
            (&["--sandbox", ID, "--daemon-uid", "-1"], "option --daemon-uid needs the number of a user"),
            (&["--state"], "option --state needs a value"),
            (&["--sandbox", ID, "--daemon-uid", "1", "--spool-max", "much"], "option --spool-max needs bytes"),
            (&["--sandbox", ID, "--daemon-uid", "1", "--said-max", "-1"], "option --said-max needs bytes"),
            (&["--help"], "unknown option \"--help\""),
        ];
        for (args, message) in cases {
            assert_eq!(parse(args).map_err(|error| error.to_string()).err().as_deref(), Some(*message));
        }
    }
}
