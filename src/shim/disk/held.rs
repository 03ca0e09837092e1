//! Files that have no name any more, and take their place on the disk as long as a process has them open.

use std::collections::HashSet;
use std::fs;

use nix::libc;
use nix::sys::stat::stat;

/// Descriptors that are looked at, so that one look is bounded whatever is open inside.
const LOOKED_AT_MAX: usize = 256 << 10;

/// Bytes of blocks of such files on a device that processes below this one have open; `None` if more is open
/// than can be looked at.
pub fn bytes(device: libc::dev_t) -> Option<u64> {
    bytes_of(below(std::process::id()), device)
}

/// The same of these processes.
pub(super) fn bytes_of(processes: impl IntoIterator<Item = u32>, device: libc::dev_t) -> Option<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    let open = processes.into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    for (looked_at, entry) in open.flatten().flatten().enumerate() {
        if looked_at == LOOKED_AT_MAX {
            return None;
        }
        // What the descriptor is of, and not the link that stands for it.
        let Ok(stat) = stat(&entry.path()) else { continue };
        let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        if is_file && stat.st_nlink == 0 && stat.st_dev == device && seen.insert(stat.st_ino) {
            bytes = bytes.saturating_add((stat.st_blocks as u64).saturating_mul(512));
        }
    }
    Some(bytes)
}

/// All processes below one.
fn below(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let more = children(*pid);
        found.extend(more);
        next += 1;
    }
    found
}

/// Of each thread those that it started.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
