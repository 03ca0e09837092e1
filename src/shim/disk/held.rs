//! Files that have no name any more, and take their place on the disk as long as a process has them open.

use std::collections::HashSet;
use std::fs;

use nix::libc;
use nix::sys::stat::stat;

/// Descriptors that are looked at, so that one look is bounded whatever is open inside.
const LOOKED_AT_MAX: usize = 32 << 10;

/// Bytes of blocks of such files on a device that processes below this one have open.
pub fn bytes(device: libc::dev_t) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    let open = below(std::process::id()).into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    for entry in open.flatten().take(LOOKED_AT_MAX).flatten() {
        // What the descriptor is of, and not the link that stands for it.
        let Ok(stat) = stat(&entry.path()) else { continue };
        let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        if is_file && stat.st_nlink == 0 && stat.st_dev == device && seen.insert(stat.st_ino) {
            bytes = bytes.saturating_add((stat.st_blocks as u64).saturating_mul(512));
        }
    }
    bytes
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
