use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

struct Work {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Work {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().canonicalize().expect("a path").join("work");
        fs::create_dir(&path).expect("made");
        fs::write(path.with_file_name("secret"), "outside").expect("written");
        Self { _dir: dir, path }
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn list(&self, excludes: &[&str], max: u64) -> Vec<String> {
        let excludes = Excludes::new(excludes.iter().map(|pattern| pattern.as_bytes()));
        let mut listed = Vec::new();
        list(&self.path, &excludes, max, &mut listed).expect("lists");
        let records = listed.split(|byte| *byte == 0).filter(|record| !record.is_empty());
        records
            .map(|record| {
                let text = String::from_utf8_lossy(record).into_owned();
                let mut parts = text.splitn(3, ' ');
                let (size, _, path) =
                    (parts.next().expect("a size"), parts.next().expect("a time"), parts.next().expect("a path"));
                format!("{path}={size}")
            })
            .collect()
    }

    fn read(&self, path: &str) -> Result<String, FilesError> {
        let mut bytes = Vec::new();
        read(&self.path, Path::new(path), 10, &mut bytes)?;
        let text = String::from_utf8(bytes).expect("text");
        Ok(text.split_once('\n').expect("a head").1.to_owned())
    }

    fn write(&self, path: &str, content: &str) -> Result<(), FilesError> {
        write(&self.path, Path::new(path), content.as_bytes())
    }

    fn names(&self) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(&self.path).expect("reads").map(|entry| entry.expect("one").file_name()).collect();
        names.sort();
        names
    }
}

fn refused<T>(result: Result<T, FilesError>) -> Refusal {
    match result {
        Err(FilesError::Refused(refusal)) => refusal,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn files_are_listed_with_links_that_stay_inside_and_without_what_is_left_out() {
    let work = Work::new();
    for path in ["a/b/deep", "a/Cargo.lock", "node_modules/x", "a/node_modules/y/z", ".hidden", "z", ".env"] {
        work.put(path, path);
    }
    fs::write(work.path.join(OsString::from_vec(b"b\xffd\nname".to_vec())), "").expect("written");
    symlink("a/b/deep", work.path.join("inward")).expect("linked");
    symlink(work.path.join("z"), work.path.join("absolute")).expect("linked");
    symlink("../secret", work.path.join("outward")).expect("linked");
    symlink("/etc/passwd", work.path.join("passwd")).expect("linked");
    symlink("a", work.path.join("folder")).expect("linked");
    symlink("loop", work.path.join("loop")).expect("linked");
    nix::unistd::mkfifo(&work.path.join("pipe"), Mode::S_IRWXU).expect("made");
    let wanted = [".env=4", ".hidden=7", "a/Cargo.lock=12", "a/b/deep=8", "absolute=1", "b\u{fffd}d\nname=0", "inward=8", "z=1"];
    assert_eq!(work.list(&["node_modules"], 100), wanted);
    assert_eq!(work.list(&["node_modules"], 2), wanted[..3], "one more tells that there are more");
}

#[test]
fn a_file_is_read_within_the_workspace_and_its_bound() {
    let work = Work::new();
    work.put("a/b", "content");
    work.put("large", "more than ten bytes");
    symlink("a", work.path.join("way")).expect("linked");
    symlink("../secret", work.path.join("outward")).expect("linked");
    symlink("..", work.path.join("up")).expect("linked");
    nix::unistd::mkfifo(&work.path.join("pipe"), Mode::S_IRWXU).expect("made");
    assert_eq!(work.read("a/b").expect("reads"), "content");
    assert_eq!(work.read("./way/b").expect("reads"), "content");
    for (path, refusal) in [
        ("missing", Refusal::Missing),
        ("a/b/c", Refusal::Missing),
        ("a", Refusal::NotFile),
        ("pipe", Refusal::NotFile),
        ("outward", Refusal::Outside),
        ("up/secret", Refusal::Outside),
        ("large", Refusal::TooLarge),
    ] {
        assert_eq!(refused(work.read(path)), refusal, "{path}");
    }
    for path in ["../secret", "/etc/passwd", "a/../../secret"] {
        assert!(matches!(work.read(path), Err(FilesError::Path(_))), "{path}");
    }
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let work = Work::new();
    work.write("new/folder/file", "one").expect("writes");
    let file = work.path.join("new/folder/file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).expect("set");
    work.write("new/folder/file", "two").expect("writes");
    assert_eq!(fs::read_to_string(&file).expect("reads"), "two");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o750);
    symlink("../secret", work.path.join("link")).expect("linked");
    work.write("link", "mine").expect("writes");
    assert_eq!(fs::read_to_string(work.path.with_file_name("secret")).expect("reads"), "outside");
    assert!(fs::symlink_metadata(work.path.join("link")).expect("there").is_file());
    symlink("..", work.path.join("up")).expect("linked");
    symlink("nowhere", work.path.join("dangling")).expect("linked");
    for (path, refusal) in [
        ("up/secret", Refusal::Outside),
        ("link/below", Refusal::NotFolder),
        ("new", Refusal::NotFile),
        ("dangling/below", Refusal::Missing),
    ] {
        assert_eq!(refused(work.write(path, "x")), refusal, "{path}");
    }

    struct Breaks;
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let before = work.names();
    assert!(write(&work.path, Path::new("broken"), b"some".chain(Breaks)).is_err());
    assert_eq!(work.names(), before);
}

#[test]
fn files_and_links_are_deleted_and_nothing_else() {
    let work = Work::new();
    work.put("a/b", "x");
    symlink("../secret", work.path.join("link")).expect("linked");
    symlink("..", work.path.join("up")).expect("linked");
    let gone = |path: &str| delete(&work.path, Path::new(path));
    gone("a/b").expect("deletes");
    gone("link").expect("deletes");
    for (path, refusal) in
        [("a/b", Refusal::Missing), ("a", Refusal::NotFile), ("", Refusal::NotFile), ("up/secret", Refusal::Outside)]
    {
        assert_eq!(refused(gone(path)), refusal, "{path}");
    }
    assert!(work.path.with_file_name("secret").exists());
}
