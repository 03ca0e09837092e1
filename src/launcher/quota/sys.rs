//! The calls of the kernel that have no safe wrapper.
#![expect(unsafe_code, reason = "quotactl_fd and the ioctls of attributes take pointers")]

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

use super::Amount;

/// What is made in a folder belongs to its project (`FS_XFLAG_PROJINHERIT`, linux/fs.h).
pub const INHERIT: u32 = 0x200;

/// Quotas of projects (`PRJQUOTA`, linux/quota.h).
const PROJECTS: libc::c_int = 2;
/// `Q_GETQUOTA` and `Q_SETQUOTA` of linux/quota.h, which XFS takes as well.
const GET: libc::c_int = 0x80_0007;
const SET: libc::c_int = 0x80_0008;
/// `Q_XGETQSTATV` of linux/dqblk_xfs.h, which ext4 answers as well, and everybody may ask.
const STATE: libc::c_int = (('X' as libc::c_int) << 8) + 8;
/// `FS_QSTATV_VERSION1` and `FS_QUOTA_PDQ_ENFD` of the same.
const STATE_VERSION: u8 = 1;
const ENFORCED: u16 = 1 << 5;
/// Blocks are counted in so many bytes (`QIF_DQBLKSIZE`).
const BLOCK: u64 = 1024;

/// `struct fsxattr`, linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Attributes {
    pub flags: u32,
    extent_size: u32,
    extents: u32,
    pub project: u32,
    copy_extent_size: u32,
    rest: [u8; 8],
}

/// `struct fs_quota_statv`, linux/dqblk_xfs.h.
#[repr(C)]
#[derive(Default)]
struct State {
    version: u8,
    pad: u8,
    flags: u16,
    in_core: u32,
    rest: [u64; 19],
}

mod request {
    use super::Attributes;

    // FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR, linux/fs.h.
    nix::ioctl_read!(get_attributes, b'X', 31, Attributes);
    nix::ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);
}

/// The attributes of an open folder.
pub fn attributes(folder: impl AsFd) -> nix::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open, and the kernel writes one such structure, which outlives the call.
    unsafe { request::get_attributes(folder.as_fd().as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes)
}

/// Changes them.
pub fn set_attributes(folder: impl AsFd, attributes: &Attributes) -> nix::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads one such structure, which outlives the call.
    unsafe { request::set_attributes(folder.as_fd().as_raw_fd(), attributes) }.map(drop)
}

/// Whether the file system of a folder refuses a project what is beyond its limit.
pub fn enforces(folder: impl AsFd) -> bool {
    let mut state = State { version: STATE_VERSION, ..State::default() };
    // SAFETY: the kernel writes one such structure, which outlives the call.
    let asked = unsafe { quotactl(folder, STATE, 0, (&raw mut state).cast()) };
    asked.is_ok() && state.flags & ENFORCED != 0
}

/// What a project has taken, and what it may.
pub fn get(folder: impl AsFd, project: u32) -> nix::Result<(Amount, Amount)> {
    let mut quota = limits(Amount::default());
    // SAFETY: the kernel writes one such structure, which outlives the call.
    unsafe { quotactl(folder, GET, project, (&raw mut quota).cast()) }?;
    let taken = Amount { bytes: quota.dqb_curspace, files: quota.dqb_curinodes };
    Ok((taken, Amount { bytes: quota.dqb_bhardlimit.saturating_mul(BLOCK), files: quota.dqb_ihardlimit }))
}

/// Sets what a project may take; zero is no limit.
pub fn set(folder: impl AsFd, project: u32, most: Amount) -> nix::Result<()> {
    let mut quota = limits(most);
    // SAFETY: the kernel reads one such structure, which outlives the call.
    unsafe { quotactl(folder, SET, project, (&raw mut quota).cast()) }
}

fn limits(most: Amount) -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: most.bytes.div_ceil(BLOCK),
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: most.files,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: libc::QIF_LIMITS,
    }
}

/// quotactl_fd(2), Linux 5.14, on quotas of projects.
///
/// # Safety
///
/// `data` has to point to what the command reads or writes.
unsafe fn quotactl(folder: impl AsFd, command: libc::c_int, project: u32, data: *mut libc::c_void) -> nix::Result<()> {
    let command = command << 8 | PROJECTS;
    // SAFETY: as the caller promises.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, folder.as_fd().as_raw_fd(), command, project, data) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<State>()), (28, 160));
    }
}
