//! The quotas of sandboxes, where the file system has them by project (ext4, XFS).
//!
//! Each workspace and each HOME belongs to a project with the number of the sandbox's uid, and so does
//! whatever is made in them. The kernel takes a change of that from nobody inside: it looks at the user
//! namespace of the caller first, and answers EINVAL in any but the host's (Linux 4.5,
//! `fileattr_set_prepare` in fs/ioctl.c today). The spool beside them belongs to none, as no event
//! may be lost to a workspace that is full.
//!
//! The shim's accounting comes first and names the cause, so the kernel's limit lies somewhat above
//! ([`Amount::wall`]). It holds what the accounting does not see or not in time.
//!
//! Asking takes no right, and setting takes CAP_SYS_ADMIN, which is in effect for that one call
//! alone ([`privilege`]). The calls are those of quotactl(2) on an open folder, Linux 5.14, so that no
//! block device has to be found and opened.

mod sys;

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::privilege::{self, PrivilegeError};
use crate::link::launch::files_of;
use crate::wire::quantity::ByteCount;

/// A part of the limit that lies between it and the kernel's: one in so many.
const MARGIN_PART: u64 = 20;
/// What lies between them at least. It is what a fast disk takes from one look of the shim to the next.
const MARGIN_LEAST: Amount = Amount { bytes: 64 << 20, files: 4096 };
/// What may be added to more than the limit: what the shim lets programs take that make room, and more.
const SLACK: Amount = Amount { bytes: 16 << 20, files: 1024 };

/// What is taken of a file system, or may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Files, folders and links.
    pub files: u64,
}

impl Amount {
    /// What the kernel is to refuse more than, for a session's limit.
    ///
    /// Where more is `taken` already, as by a snapshot of a session that was over its limit, there is
    /// some slack to work with, but never more than there was before (`now`, zero for no limit): who
    /// hides files from the accounting gains nothing by asking for limits again and again.
    pub fn wall(disk: ByteCount, taken: Self, now: Self) -> Self {
        let one = |limit: u64, least: u64, taken: u64, slack: u64, now: u64| {
            let wall = limit.saturating_add((limit / MARGIN_PART).max(least));
            let now = if now == 0 { u64::MAX } else { now };
            wall.max(taken.saturating_add(slack).min(now))
        };
        Self {
            bytes: one(disk.0, MARGIN_LEAST.bytes, taken.bytes, SLACK.bytes, now.bytes),
            files: one(files_of(disk), MARGIN_LEAST.files, taken.files, SLACK.files, now.files),
        }
    }
}

/// Why a quota could not be set.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The right to could not be taken up or given back.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The kernel refused.
    #[error("{step} of project {project}")]
    Call {
        /// What was tried.
        step: &'static str,
        /// Of which project.
        project: u32,
        /// Why it failed.
        source: Errno,
    },
}

fn call(step: &'static str, project: u32) -> impl FnOnce(Errno) -> QuotaError {
    move |source| QuotaError::Call { step, project, source }
}

/// Whether the file system of a folder holds projects to limits, and this process may set them: those of this
/// project are read, which takes the same right.
pub fn is_enforced(folder: impl AsFd, project: u32) -> bool {
    if !sys::enforces(&folder) {
        return false;
    }
    let read = read(&folder, project);
    if let Err(error) = &read {
        tracing::warn!(error = crate::report::chain(error), "quotas of the file system can not be used, going on without");
    }
    read.is_ok()
}

/// Puts an empty folder into a project, and with it what will be made in it.
///
/// # Errors
///
/// What the kernel says: EINVAL in a user namespace.
pub fn assign(folder: impl AsFd, project: u32) -> nix::Result<()> {
    let mut attributes = sys::attributes(&folder)?;
    attributes.project = project;
    attributes.flags |= sys::INHERIT;
    sys::set_attributes(folder, &attributes)
}

/// Whether a folder is in a project with whatever is made in it.
///
/// # Errors
///
/// What the kernel says, which is ENOTTY where the file system has no projects.
pub fn belongs(folder: impl AsFd, project: u32) -> nix::Result<bool> {
    let attributes = sys::attributes(folder)?;
    Ok(attributes.project == project && attributes.flags & sys::INHERIT != 0)
}

/// Holds a project to a session's limit.
///
/// # Errors
///
/// See [`QuotaError`].
pub fn hold(folder: impl AsFd, project: u32, disk: ByteCount) -> Result<(), QuotaError> {
    let (taken, now) = read(&folder, project)?;
    set(folder, project, Amount::wall(disk, taken, now))
}

/// Forgets the limits of a project.
///
/// # Errors
///
/// See [`QuotaError`].
pub fn release(folder: impl AsFd, project: u32) -> Result<(), QuotaError> {
    set(folder, project, Amount::default())
}

/// What a project has taken, and what it may; zero is no limit.
fn read(folder: impl AsFd, project: u32) -> Result<(Amount, Amount), QuotaError> {
    match privilege::with_admin(|| sys::get(folder, project))? {
        // XFS, of a project that nothing is known of.
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(Default::default()),
        answer => answer.map_err(call("read the quota", project)),
    }
}

fn set(folder: impl AsFd, project: u32, most: Amount) -> Result<(), QuotaError> {
    privilege::with_admin(|| sys::set(folder, project, most))?.map_err(call("set the quota", project))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn wall(disk: u64, taken: u64, now: u64) -> u64 {
        let of = |mib: u64| Amount { bytes: mib * MIB, files: 0 };
        Amount::wall(ByteCount(disk * MIB), of(taken), of(now)).bytes / MIB
    }

    #[test]
    fn the_kernels_limit_lies_above_that_which_is_accounted() {
        for (disk, above) in [(16, 80), (64, 128), (1280, 1344), (5120, 5376), (1 << 30, (1 << 30) + (1 << 30) / 20)] {
            assert_eq!(wall(disk, 0, 0), above, "{disk} MiB");
        }
        let files = |disk| Amount::wall(ByteCount(disk), Amount::default(), Amount::default()).files;
        assert_eq!(files(16 * MIB), 16_384 + 4096);
        assert_eq!(files(5 << 30), 655_360 + 32_768);
        assert_eq!(files(u64::MAX), (u64::MAX >> 13) + (u64::MAX >> 13) / 20);
        assert_eq!(Amount::wall(ByteCount(u64::MAX), Amount::default(), Amount::default()).bytes, u64::MAX);
    }

    #[test]
    fn who_is_over_may_work_on_and_never_gets_more_than_before() {
        assert_eq!(wall(64, 1000, 0), 1016, "as a snapshot that was restored without a limit");
        assert_eq!(wall(64, 1000, 5000), 1016, "as one that was restored under a larger one");
        assert_eq!(wall(64, 1010, 1016), 1016, "nothing is added to what was");
        assert_eq!(wall(64, 1016, 1016), 1016);
        assert_eq!(wall(64, 20, 1016), 128, "what was removed is gone");
        assert_eq!(wall(2048, 20, 1016), 2150, "a larger limit is one");
        assert_eq!(wall(16, 90, 128), 106, "and so is a smaller one");
        let files = Amount { bytes: 0, files: 30_000 };
        assert_eq!(Amount::wall(ByteCount(16 * MIB), files, Amount::default()).files, 31_024);
    }

    #[test]
    fn a_file_system_without_quotas_is_told_from_one_that_holds() {
        // Of memory there are none by project, and of processes there are none.
        for path in ["/proc", "/dev/shm"] {
            let Ok(folder) = std::fs::File::open(path) else { continue };
            assert!(!is_enforced(&folder, 1_900_000_000), "{path}");
        }
    }
}
