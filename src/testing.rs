//! What the unit tests of several modules need.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// A file system of so many bytes, that only this thread and those it starts see. `None`, having
/// said so, for whoever is not root.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn small_disk(bytes: usize) -> Option<TempDir> {
    if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        eprintln!("skipped: only root has disks to fill");
        return None;
    }
    let dir = tempfile::tempdir().expect("temporary folder");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
    mount(Some("none"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(format!("size={bytes}").as_str())).expect("mounted");
    Some(dir)
}
