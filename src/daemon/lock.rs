//! One daemon for each state folder.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held while the daemon runs; released by the kernel however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: Flock<std::fs::File>,
}

/// Why the state folder can not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("{} is in use by another ashd ({holder})", folder.display())]
    Held {
        /// The folder.
        folder: PathBuf,
        /// What that daemon wrote of itself.
        holder: String,
    },
    /// It can not be made or written.
    #[error("{} can not be used as state folder", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Makes the folder if it is not there, and takes it.
pub fn acquire(folder: &Path) -> Result<DataLock, LockError> {
    let io = |source| LockError::Io { folder: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(folder.join("lock")).map_err(io)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
            writeln!(file, "pid {}", std::process::id()).map_err(io)?;
            Ok(DataLock { _file: file })
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            // Whether or not it says who it is, it is there.
            if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                holder = "it has not said its pid yet".to_owned();
            }
            Err(LockError::Held { folder: folder.to_owned(), holder: holder.trim().to_owned() })
        }
        Err((_, errno)) => Err(io(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().expect("folder");
        let first = acquire(folder.path()).expect("free");
        let error = acquire(folder.path()).expect_err("held").to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        drop(first);
        // The child that a test beside this one forks holds it, too, until it runs its program.
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = acquire(folder.path()) {
            assert!(Instant::now() < end, "{error}");
            std::thread::yield_now();
        }
    }
}
