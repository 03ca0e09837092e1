//! The sockets of sandboxes: `<folder>/<id>.sock`, made here so that `ashd` can connect before the
//! shim runs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, fchownat, unlinkat};

use super::folders::{FolderError, open_trusted};
use crate::wire::SandboxId;

/// End of the name of a socket.
const SUFFIX: &str = ".sock";

/// Why a socket can not be made.
#[derive(Debug, thiserror::Error)]
#[error("{step} {path}")]
pub struct SocketError {
    step: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// All sockets of sandboxes.
#[derive(Debug)]
pub struct Sockets {
    path: PathBuf,
    folder: OwnedFd,
    owner: Uid,
}

impl Sockets {
    /// Opens the folder, making it if it is missing. Sockets in it will belong to `owner`.
    ///
    /// # Errors
    ///
    /// See [`open_trusted`].
    pub fn open(path: &Path, owner: u32) -> Result<Self, FolderError> {
        Ok(Self { path: path.to_owned(), folder: open_trusted(path)?, owner: Uid::from_raw(owner) })
    }

    /// Whether there is one for this sandbox.
    pub fn exists(&self, sandbox: SandboxId) -> bool {
        fstatat(&self.folder, name(sandbox).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Every sandbox that has a socket.
    ///
    /// # Errors
    ///
    /// [`SocketError`] when the folder can not be read.
    pub fn list(&self) -> Result<Vec<SandboxId>, SocketError> {
        let failed = |error: std::io::Error| SocketError { step: "list", path: self.path.clone(), source: error };
        // By this path it is the folder that was opened.
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", self.folder.as_raw_fd())).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok(names.iter().filter_map(|name| name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()).collect())
    }

    /// Makes the socket and listens on it. Only its owner (and root) may connect.
    ///
    /// # Errors
    ///
    /// [`SocketError`] says which step failed.
    pub fn bind(&self, sandbox: SandboxId) -> Result<UnixListener, SocketError> {
        let name = name(sandbox);
        let failed = |step| {
            let path = self.path.join(&name);
            move |source| SocketError { step, path, source }
        };
        // bind(2) knows no folder to start from; by this path it is the one that was opened.
        let path = format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd());
        let listener = UnixListener::bind(path).map_err(failed("bind"))?;
        // The umask kept everyone else out until here, and only we can change names in the folder.
        let open_up = || -> nix::Result<()> {
            fchmodat(&self.folder, name.as_str(), Mode::from_bits_truncate(0o600), FchmodatFlags::FollowSymlink)?;
            fchownat(&self.folder, name.as_str(), Some(self.owner), None, AtFlags::AT_SYMLINK_NOFOLLOW)
        };
        open_up().map_err(|error| failed("hand over")(error.into()))?;
        Ok(listener)
    }

    /// Removes the socket of a sandbox. None is no error.
    ///
    /// # Errors
    ///
    /// [`SocketError`] when it can not be removed.
    pub fn remove(&self, sandbox: SandboxId) -> Result<(), SocketError> {
        let name = name(sandbox);
        match unlinkat(&self.folder, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(SocketError { step: "remove", path: self.path.join(name), source: error.into() }),
        }
    }
}

fn name(sandbox: SandboxId) -> String {
    format!("{sandbox}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_takes_connections_at_once_and_is_its_owners_only() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let path = dir.path().join("sandboxes");
        let sockets = Sockets::open(&path, nix::unistd::geteuid().as_raw()).expect("opens");
        let sandbox = SandboxId::new();
        assert!(!sockets.exists(sandbox));
        let listener = sockets.bind(sandbox).expect("binds");
        assert!(sockets.exists(sandbox));
        assert_eq!(sockets.list().expect("lists"), [sandbox]);
        let socket = path.join(format!("{sandbox}.sock"));
        assert_eq!(std::fs::metadata(&socket).expect("is there").permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(&socket).expect("is queued");
        drop(listener);
        let error = sockets.bind(sandbox).expect_err("is taken");
        assert!(error.to_string().ends_with(&format!("bind {}", socket.display())), "{error}");
        sockets.remove(sandbox).expect("removes");
        sockets.remove(sandbox).expect("is gone already");
        sockets.bind(sandbox).expect("is free");
    }
}
