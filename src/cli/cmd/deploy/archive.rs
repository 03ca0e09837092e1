//! A folder as a tar stream, made while it is read.
//!
//! The same folder always gives the same bytes: names are sorted, and owner, times and all but the
//! executable bit are left out. Links are written as links and never followed, not even for an
//! instant: files are opened with `O_NOFOLLOW`.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::OFlag;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

/// Bytes that travel as one piece.
const PIECE_BYTES: usize = 64 << 10;

/// 2000-01-01T00:00:00Z for everything. Not 0, which zip can not write and some tools take for
/// "unknown".
const MTIME_SECS: u64 = 946_684_800;

/// Files at the top of the folder which become environment variables instead.
pub(in crate::cli::cmd) const DOTENV_FILES: [&str; 2] = [".env", ".env.local"];

/// Folders, or files in worktrees, that hold the history of the agent and not the agent.
const HISTORY: &str = ".git";

/// A folder that can not be packed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something in it can not be read.
    #[error("can not read {path}", path = .path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in it is no file, folder or link.
    #[error("{path} is a {kind}", path = .path.display())]
    Special {
        /// What.
        path: PathBuf,
        /// A socket, a pipe or a device.
        kind: &'static str,
    },
    /// A file became another while it was read.
    #[error("{path} changed while it was read", path = .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The archive can not be passed on.
    #[error("can not write the archive")]
    Write(#[source] io::Error),
}

impl ArchiveError {
    /// The next step, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Special { .. } => Some("an agent is made of files, folders and links: move it elsewhere".into()),
            Self::Changed { .. } => Some("deploy again when the folder is at rest".into()),
            Self::Read { .. } | Self::Write(_) => None,
        }
    }

    /// Whether it only means that nobody takes the archive any longer.
    pub(in crate::cli::cmd) fn is_hang_up(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What will be in the archive.
#[derive(Debug, Default)]
pub(in crate::cli::cmd) struct Plan {
    root: PathBuf,
    entries: Vec<Entry>,
    /// How many files there are.
    pub(in crate::cli::cmd) files: usize,
    /// How long they are together.
    pub(in crate::cli::cmd) bytes: u64,
    /// What is left out on purpose, relative to the folder.
    pub(in crate::cli::cmd) left_out: Vec<PathBuf>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    File { len: u64, executable: bool },
    Link { target: PathBuf },
}

impl Plan {
    /// Looks at all that the folder holds.
    pub(in crate::cli::cmd) fn of(root: &Path) -> Result<Self, ArchiveError> {
        let mut plan = Self { root: root.to_owned(), ..Self::default() };
        plan.walk(Path::new(""))?;
        Ok(plan)
    }

    fn walk(&mut self, folder: &Path) -> Result<(), ArchiveError> {
        let full = self.root.join(folder);
        let failed = |source| ArchiveError::Read { path: full.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&full).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(&name);
            if name == OsStr::new(HISTORY) {
                self.left_out.push(path);
                continue;
            }
            if folder.as_os_str().is_empty() && DOTENV_FILES.iter().any(|file| name == OsStr::new(file)) {
                continue;
            }
            self.add(path)?;
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf) -> Result<(), ArchiveError> {
        let full = self.root.join(&path);
        let failed = |source| ArchiveError::Read { path: full.clone(), source };
        let found = fs::symlink_metadata(&full).map_err(failed)?;
        let kind = found.file_type();
        if kind.is_dir() {
            self.entries.push(Entry { path: path.clone(), kind: Kind::Folder });
            return self.walk(&path);
        }
        let kind = if kind.is_symlink() {
            Kind::Link { target: fs::read_link(&full).map_err(failed)? }
        } else if kind.is_file() {
            self.files += 1;
            self.bytes += found.len();
            Kind::File { len: found.len(), executable: found.mode() & 0o111 != 0 }
        } else {
            let kind = if kind.is_socket() {
                "socket"
            } else if kind.is_fifo() {
                "pipe"
            } else {
                "device"
            };
            return Err(ArchiveError::Special { path: full, kind });
        };
        self.entries.push(Entry { path, kind });
        Ok(())
    }

    /// Writes the archive and returns what it was written to. `progress` hears of every piece of
    /// every file.
    pub(in crate::cli::cmd) fn write<W: Write>(&self, out: W, mut progress: impl FnMut(u64)) -> Result<W, ArchiveError> {
        let mut builder = Builder::new(Gate { out, shut: false });
        for entry in &self.entries {
            let written = self.append(&mut builder, entry, &mut progress);
            if written.is_err() {
                // Or the builder would write the mark that ends an archive.
                builder.get_mut().shut = true;
                written?;
            }
        }
        Ok(builder.into_inner().map_err(ArchiveError::Write)?.out)
    }

    fn append<W: Write>(
        &self,
        builder: &mut Builder<W>,
        entry: &Entry,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let mut header = Header::new_gnu();
        header.set_mtime(MTIME_SECS);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, &entry.path, io::empty()).map_err(ArchiveError::Write)
            }
            Kind::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, &entry.path, target).map_err(ArchiveError::Write)
            }
            Kind::File { len, executable } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*len);
                self.append_file(builder, &mut header, entry, *len, progress)
            }
        }
    }

    fn append_file<W: Write>(
        &self,
        builder: &mut Builder<W>,
        header: &mut Header,
        entry: &Entry,
        len: u64,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let path = self.root.join(&entry.path);
        // Not blocking, in case a pipe has taken the file's place.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path);
        let file = opened.map_err(|source| ArchiveError::Read { path: path.clone(), source })?;
        let mut source = Exactly { file, left: len, failure: None, progress };
        let written = builder.append_data(header, &entry.path, &mut source);
        match (source.failure, written) {
            (Some(Failure::Read(source)), _) => Err(ArchiveError::Read { path, source }),
            (Some(Failure::Changed), _) => Err(ArchiveError::Changed { path }),
            (None, written) => written.map_err(ArchiveError::Write),
        }
    }
}

/// Passes bytes on until it is shut.
struct Gate<W> {
    out: W,
    shut: bool,
}

impl<W: Write> Write for Gate<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.shut { Err(io::ErrorKind::BrokenPipe.into()) } else { self.out.write(buffer) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads exactly as many bytes as the header in front of them says, or fails: a file that grows
/// or shrinks meanwhile would shift all that follows.
struct Exactly<'a, P> {
    file: File,
    left: u64,
    failure: Option<Failure>,
    progress: &'a mut P,
}

enum Failure {
    Read(io::Error),
    Changed,
}

impl<P: FnMut(u64)> Read for Exactly<'_, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stop = |failure: &mut Option<Failure>, why| {
            *failure = Some(why);
            Err(io::Error::other("the file can not be read"))
        };
        match self.file.read(buffer) {
            Ok(0) if self.left == 0 => Ok(0),
            Ok(count) if count > 0 && count as u64 <= self.left => {
                self.left -= count as u64;
                (self.progress)(count as u64);
                Ok(count)
            }
            Ok(_) => stop(&mut self.failure, Failure::Changed),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => stop(&mut self.failure, Failure::Read(error)),
        }
    }
}

/// A writer whose bytes come out of a channel, in pieces.
pub(in crate::cli::cmd) fn pieces(sender: mpsc::Sender<io::Result<Bytes>>) -> impl Write {
    BufWriter::with_capacity(PIECE_BYTES, Pieces(sender))
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(buffer))).map_err(gone)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for name in [".git/objects", ".claude/skills", "sub/.git", "empty"] {
            fs::create_dir_all(root.join(name)).expect("made");
        }
        for (name, text) in [
            ("CLAUDE.md", "Be kind."),
            (".env", "A=1"),
            (".env.local", "B=2"),
            ("sub/.env", "C=3"),
            (".git/config", "x"),
            (".claude/settings.json", "{}"),
            ("install.sh", "#!/bin/sh\n"),
        ] {
            fs::write(root.join(name), text).expect("written");
        }
        fs::set_permissions(root.join("install.sh"), fs::Permissions::from_mode(0o750)).expect("changed");
        symlink("/etc/passwd", root.join("link")).expect("linked");
        fs::write(root.join("a".repeat(150)), "long name").expect("written");
        folder
    }

    fn listing(archive: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("entries");
        let line = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string().replace(&"a".repeat(150), "<long>");
            let header = entry.header();
            let (kind, mode) = (header.entry_type(), header.mode().expect("a mode"));
            assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(0), Some(0), Some(MTIME_SECS)));
            let target = entry.link_name().expect("a name").map(|target| format!(" -> {}", target.display()));
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            format!("{kind:?} {mode:o} {path}{} {text}", target.unwrap_or_default()).trim_end().to_owned()
        };
        entries.map(line).collect()
    }

    #[test]
    fn a_folder_is_packed_sorted_and_without_what_stays_here() {
        let folder = folder();
        let plan = Plan::of(folder.path()).expect("a plan");
        let mut seen = 0;
        let archive = plan.write(Vec::new(), |count| seen += count).expect("an archive");
        assert_eq!(
            listing(&archive),
            [
                "Directory 755 .claude",
                "Regular 644 .claude/settings.json {}",
                "Directory 755 .claude/skills",
                "Regular 644 CLAUDE.md Be kind.",
                "Regular 644 <long> long name",
                "Directory 755 empty",
                "Regular 755 install.sh #!/bin/sh",
                "Symlink 777 link -> /etc/passwd",
                "Directory 755 sub",
                "Regular 644 sub/.env C=3",
            ]
        );
        assert_eq!((plan.files, plan.bytes, seen), (5, 32, 32));
        assert_eq!(plan.left_out, [Path::new(".git"), Path::new("sub/.git")]);
        let again = Plan::of(folder.path()).expect("a plan").write(Vec::new(), |_| ()).expect("an archive");
        assert_eq!(archive, again);
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = folder();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("run.sock")).expect("a socket");
        let error = Plan::of(folder.path()).expect_err("refused");
        assert!(matches!(&error, ArchiveError::Special { path, kind: "socket" } if path.ends_with("run.sock")), "{error}");
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_refused() {
        for text in ["", "Be kind. Be quick."] {
            let folder = folder();
            let plan = Plan::of(folder.path()).expect("a plan");
            fs::write(folder.path().join("CLAUDE.md"), text).expect("written");
            let mut archive = Vec::new();
            let error = plan.write(&mut archive, |_| ()).expect_err("refused");
            assert!(matches!(&error, ArchiveError::Changed { path } if path.ends_with("CLAUDE.md")), "{error}");
            assert!(!archive.ends_with(&[0; 1024]), "a torn archive has the mark of a whole one");
        }
    }

    #[test]
    fn a_link_that_takes_a_files_place_is_not_followed() {
        let folder = folder();
        let plan = Plan::of(folder.path()).expect("a plan");
        let file = folder.path().join("CLAUDE.md");
        fs::remove_file(&file).expect("removed");
        symlink("/etc/hostname", &file).expect("linked");
        assert!(matches!(plan.write(Vec::new(), |_| ()), Err(ArchiveError::Read { .. })));
    }

    #[test]
    fn a_reader_that_hangs_up_ends_the_walk() {
        let folder = folder();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let written = Plan::of(folder.path()).expect("a plan").write(pieces(sender), |_| ());
        let flushed = written.and_then(|mut out| out.flush().map_err(ArchiveError::Write));
        assert!(flushed.is_err_and(|error| error.is_hang_up()));
    }
}
