//! File systems that are small, full or read-only, which only the test and what it starts see.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Gives this thread, and what it starts from now on, mounts of its own. False, having said so,
/// where that can not be.
pub fn own_mounts() -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return false;
    }
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS) {
        eprintln!("skipped: no namespace for a small file system: {error}");
        return false;
    }
    let private = Command::new("mount").args(["--make-rprivate", "/"]).status();
    if !private.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounts can not be made private below a chroot");
        return false;
    }
    true
}

/// Mounts a file system in memory.
pub fn mount(folder: &Path, options: &str) {
    std::fs::create_dir_all(folder).expect("folder");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "mounts {}", folder.display());
}

/// Changes how one is mounted: its size, or whether it can be written.
pub fn remount(folder: &Path, options: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "remounts {}", folder.display());
}

/// Unmounts it with all below. A folder that something is mounted on can not be removed.
pub fn unmount(folder: &Path) {
    let status = Command::new("umount").args(["--recursive", "--lazy"]).arg(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "unmounts {}", folder.display());
}

/// Fills a file system to the last byte.
pub fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("makes");
    for size in [1 << 16, 1] {
        let block = vec![0; size];
        while file.write(&block).is_ok_and(|written| written > 0) {}
    }
}
