//! What may be deployed, and that a version comes out as it went in.
#![cfg(feature = "daemon")]

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ash::agent::{Blame, ContentError, ContentLimits, Digest, Overlay, Version, Versions, decode_files};
use ash::wire::agent::FileBody;
use ash::wire::quantity::ByteCount;
use proptest::prelude::*;

const LIMITS: ContentLimits = ContentLimits { max_bytes: ByteCount(1 << 20), max_files: 200 };

struct Host {
    folder: tempfile::TempDir,
    versions: Versions,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let versions = Versions::open(folder.path(), LIMITS).expect("opens");
        Self { folder, versions }
    }

    fn tar(&self, archive: &[u8]) -> Result<Version, ContentError> {
        self.versions.deploy_tar(archive)
    }

    fn files(&self, files: &[(&str, &str)]) -> Result<Version, ContentError> {
        self.versions.deploy_files(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
    }

    /// Versions, and folders that are being written.
    fn on_disk(&self) -> (usize, usize) {
        let count = |path: PathBuf| std::fs::read_dir(path).expect("folder").count();
        let agents = self.folder.path().join("agents");
        (count(agents.clone()) - 1, count(agents.join(".staging")))
    }

    /// Deploys what has to be refused, and makes sure that nothing is left of it.
    fn refused(&self, archive: impl Read) -> ContentError {
        let error = self.versions.deploy_tar(archive).expect_err("refused");
        assert_eq!(self.on_disk(), (0, 0), "after {error}");
        error
    }
}

/// One header with its content, as hostile as one likes.
fn entry(kind: u8, path: &[u8], link: &[u8], size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_mode(0o644);
    header.set_size(size);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(path: &str, content: &str) -> Vec<u8> {
    entry(b'0', path.as_bytes(), b"", content.len() as u64, content.as_bytes())
}

fn link(path: &str, target: &str) -> Vec<u8> {
    entry(b'2', path.as_bytes(), target.as_bytes(), 0, b"")
}

fn extension(kind: u8, content: &[u8]) -> Vec<u8> {
    entry(kind, b"extension", b"", content.len() as u64, content)
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let body = format!(" {key}={value}\n");
    let length = (1..).map(|digits| body.len() + digits).find(|length| length.to_string().len() == length - body.len());
    extension(b'x', format!("{}{body}", length.expect("a length")).as_bytes())
}

/// An archive of a prompt and these entries.
fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [file("CLAUDE.md", "prompt"), entries.concat(), vec![0; 1024]].concat()
}

/// Counts what is asked of it.
struct Counting<R>(R, u64);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1 += count as u64;
        Ok(count)
    }
}

#[test]
fn entries_that_no_version_can_hold_are_refused_by_name_and_reason() {
    let host = Host::new();
    for (entries, said) in [
        (vec![file("../x", "")], "Entry \"../x\" has \"..\" in its path"),
        (vec![file("a/../../x", "")], "Entry \"a/../../x\" has \"..\" in its path"),
        (vec![entry(b'5', b"..", b"", 0, b"")], "Entry \"..\" has \"..\" in its path"),
        (vec![file("/etc/cron.d/x", "")], "Entry \"/etc/cron.d/x\" has an absolute path"),
        (vec![file("", "")], "Entry \"\" has an empty path"),
        (vec![file(".", "x")], "Entry \".\" has an empty path"),
        (vec![file("a/", "x")], "Entry \"a/\" ends with a slash, but is not a folder"),
        (vec![file("a\nb", "")], "Entry \"a\\nb\" has a control character in its path"),
        (vec![pax("path", "a\0b"), file("x", "")], "Entry \"a\\0b\" has a control character in its path"),
        (vec![entry(b'0', b"a\xff", b"", 0, b"")], "Entry \"a\u{fffd}\" has a path that is not UTF-8"),
        (vec![file("a", ""), file("a", "")], "Entry \"a\" is there twice"),
        (vec![file("a", ""), file("./a", "")], "Entry \"a\" is there twice"),
        (vec![file("a", ""), entry(b'5', b"a", b"", 0, b"")], "Entry \"a\" is there twice"),
        (vec![file("a/b", ""), file("a", "")], "Entry \"a\" is there twice"),
        (vec![file("a", ""), file("a/b", "")], "Entry \"a/b\" lies below \"a\", which is not a folder"),
        // The way out over a link, in each order.
        (vec![link("a", "."), file("a/b", "")], "Entry \"a/b\" lies below \"a\", which is not a folder"),
        (vec![file("a/b", ""), link("a", "b")], "Entry \"a\" is there twice"),
        (vec![link("a", "CLAUDE.md"), file("a", "")], "Entry \"a\" is there twice"),
        (vec![link("a", "/etc")], "Entry \"a\" is a link to the absolute path \"/etc\""),
        (vec![link("d/a", "../../x")], "Entry \"d/a\" is a link to \"../../x\", which lies outside of the folder"),
        (vec![link("a", "b/../..")], "Entry \"a\" is a link to \"b/../..\": \"..\" is allowed only at its beginning"),
        (vec![link("a", "")], "Entry \"a\" is a link whose target is empty, longer than 1024 bytes or not plain UTF-8"),
        (vec![entry(b'3', b"a", b"", 0, b"")], "Entry \"a\" is a device"),
        (vec![entry(b'4', b"a", b"", 0, b"")], "Entry \"a\" is a device"),
        (vec![entry(b'6', b"a", b"", 0, b"")], "Entry \"a\" is a named pipe"),
        (
            vec![entry(b'1', b"a", b"none", 0, b"")],
            "Entry \"a\" is a hard link to \"none\", which is not a file before it in the archive",
        ),
        (
            vec![entry(b'1', b"a", b"/etc/shadow", 0, b"")],
            "Entry \"a\" is a hard link to \"/etc/shadow\", which is not a file before it in the archive",
        ),
        (vec![entry(b'1', b"a", b"CLAUDE.md", 1, b"x")], "Entry \"a\" has content, but is not a file"),
        (vec![entry(b'2', b"a", b"b", 1, b"x")], "Entry \"a\" has content, but is not a file"),
        (vec![entry(b'5', b"a", b"", 1, b"x")], "Entry \"a\" has content, but is not a file"),
        (vec![entry(b'M', b"a", b"", 0, b"")], "Entry \"a\" is of a kind that can not be deployed (tar type 'M')"),
        (
            vec![entry(b'S', b"a", b"", 0, b"")],
            "Entry \"a\" is packed as a sparse file; pack it without that (tar without --sparse)",
        ),
        (
            vec![pax("GNU.sparse.major", "1"), file("a", "x")],
            "Entry \"a\" is packed as a sparse file; pack it without that (tar without --sparse)",
        ),
        (vec![pax("path", &"n".repeat(256)), file("x", "")], "has a name of more than 255 bytes in its path"),
        (vec![pax("path", &"n/".repeat(600)), file("x", "")], "has a path of more than 1024 bytes"),
        (vec![pax("path", &format!("{}x", "n/".repeat(64))), file("x", "")], "lies more than 64 folders deep"),
    ] {
        let error = host.refused(archive(&entries).as_slice());
        assert!(error.to_string().ends_with(said), "{error} is not {said}");
        assert_eq!(error.blame(), Blame::Content, "{error}");
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let host = Host::new();
    let mut broken = file("a", "x");
    broken[0] = b'b';
    let mut no_number = entry(b'0', b"a", b"", 0, b"");
    no_number[124..136].copy_from_slice(b"not a number");
    let mut header = tar::Header::from_byte_slice(&no_number).clone();
    header.set_cksum();
    for (bytes, said) in [
        (Vec::new(), "The archive is empty"),
        (vec![b'x'; 2048], "The archive is not a tar archive"),
        ([&[0x1f, 0x8b, 8][..], &[7; 2000]].concat(), "The archive is compressed; send a plain tar archive"),
        (b"too short for a header".to_vec(), "The archive ends too early, after entry 0"),
        (archive(&[broken]), "The archive has a broken header after entry 1"),
        (archive(&[header.as_bytes().to_vec()]), "The archive has a broken header after entry 1"),
        (archive(&[pax("size", "1"), file("a", "xx")]), "The archive gives an entry two sizes, after entry 3"),
        (
            archive(&[pax("size", "many"), file("a", "xx")]),
            "The archive has a header extension that is too large or malformed, after entry 2",
        ),
        (
            archive(&[extension(b'x', b"nonsense")]),
            "The archive has a header extension that is too large or malformed, after entry 2",
        ),
        (
            archive(&[extension(b'g', b"17 path=elsewhere\n"), file("a", "")]),
            "The archive has a header extension that is too large or malformed, after entry 2",
        ),
        ([archive(&[]), file("a", "")].concat(), "The archive has more data after its end"),
    ] {
        assert_eq!(host.refused(bytes.as_slice()).to_string(), said);
    }
    // An archive without entries has no prompt.
    assert_eq!(host.refused([0; 1024].as_slice()).to_string(), "Agent directory must contain CLAUDE.md");
}

#[test]
fn an_archive_cut_anywhere_is_no_version() {
    let host = Host::new();
    let whole = archive(&[pax("path", "d/long"), file("x", &"y".repeat(600)), link("l", "d"), entry(b'5', b"e", b"", 0, b"")]);
    let end = whole.len() - 1024;
    for length in (0..end + 512).step_by(7).chain([end - 1, end, end + 1, end + 511]) {
        let error = host.refused(&whole[..length]);
        assert_eq!(error.blame(), Blame::Content, "{length}: {error}");
    }
    assert!(host.tar(&whole[..end + 512]).is_ok());
}

#[test]
fn a_stream_that_fails_is_the_senders_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("connection reset"))
        }
    }
    let host = Host::new();
    let error = host.refused(file("CLAUDE.md", "x").chain(Failing));
    assert_eq!(error.blame(), Blame::Sender, "{error}");
}

/// Prompt, then one header, then as much as anybody will read.
fn endless(header: Vec<u8>) -> Counting<impl Read> {
    Counting(std::io::Cursor::new([file("CLAUDE.md", ""), header].concat()).chain(std::io::repeat(b'x')), 0)
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let host = Host::new();
    for (header, blame) in [
        (entry(b'0', b"huge", b"", 10 << 30, b""), Blame::TooLarge),
        (entry(b'S', b"sparse", b"", 10 << 30, b""), Blame::Content),
        (entry(b'L', b"name", b"", 1 << 30, b""), Blame::Content),
        (entry(b'K', b"name", b"", 1 << 30, b""), Blame::Content),
        (entry(b'x', b"pax", b"", 1 << 30, b""), Blame::Content),
        (entry(b'g', b"pax", b"", 1 << 30, b""), Blame::Content),
        (entry(b'5', b"folder", b"", 1 << 30, b""), Blame::Content),
    ] {
        let mut stream = endless(header);
        let error = host.refused(&mut stream);
        assert_eq!(error.blame(), blame, "{error}");
        assert!(stream.1 <= 128 << 10, "{} bytes were read before: {error}", stream.1);
    }
    let error = host.refused(endless(entry(b'0', b"huge", b"", 10 << 30, b"")));
    assert_eq!(error.to_string(), "File \"huge\" has 10737418240 bytes, an agent may have 1M in all");
}

#[test]
fn the_sum_of_all_files_is_bounded_while_they_arrive() {
    let host = Host::new();
    let part = "x".repeat(300 << 10);
    let parts: Vec<_> = (0..10).map(|n| file(&format!("part-{n}"), &part)).collect();
    let bytes = archive(&parts);
    let mut stream = Counting(bytes.as_slice(), 0);
    let error = host.refused(&mut stream);
    assert_eq!(error.blame(), Blame::TooLarge);
    assert!(error.to_string().contains("\"part-3\" does not fit any more"), "{error}");
    assert!(stream.1 <= LIMITS.max_bytes.0, "{} bytes were read", stream.1);

    let copies: Vec<_> = (0..9).map(|n| entry(b'1', format!("copy-{n}").as_bytes(), b"part-0", 0, b"")).collect();
    let error = host.refused(archive(&[parts[0].clone(), copies.concat()]).as_slice());
    assert_eq!(error.blame(), Blame::TooLarge, "hard links count: {error}");
}

/// Makes entries as long as somebody reads.
struct Entries<F> {
    next: F,
    made: u64,
    ahead: std::io::Cursor<Vec<u8>>,
}

impl<F: FnMut(u64) -> Vec<u8>> Read for Entries<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.ahead.position() as usize == self.ahead.get_ref().len() && self.made < 1_000_000 {
            self.ahead = std::io::Cursor::new((self.next)(self.made));
            self.made += 1;
        }
        self.ahead.read(buffer)
    }
}

#[test]
fn a_million_entries_are_refused_early() {
    let host = Host::new();
    let kinds: [fn(u64) -> Vec<u8>; 6] = [
        |n| file(&format!("f{n}"), "x"),
        |n| entry(b'5', format!("d{n}").as_bytes(), b"", 0, b""),
        |n| link(&format!("l{n}"), "x"),
        // Folders that no entry names.
        |n| file(&format!("{n}/{}f", "d/".repeat(40)), ""),
        // The same folder, or no entry at all, again and again.
        |_| entry(b'5', b"d", b"", 0, b""),
        |_| extension(b'x', b"6 a=b\n"),
    ];
    for (index, next) in kinds.into_iter().enumerate() {
        let mut stream = Entries { next, made: 0, ahead: std::io::Cursor::default() };
        let error = host.refused(&mut stream);
        assert!(matches!(error, ContentError::TooMany { max: 200 }), "{index}: {error}");
        assert!(stream.made < 1000, "{index}: {} entries were read", stream.made);
    }
}

#[test]
fn a_prompt_has_to_be_there() {
    let host = Host::new();
    for bytes in [
        [file("other.md", ""), vec![0; 1024]].concat(),
        [file("claude.md", ""), vec![0; 1024]].concat(),
        [file("sub/CLAUDE.md", ""), vec![0; 1024]].concat(),
        [entry(b'5', b"CLAUDE.md", b"", 0, b""), vec![0; 1024]].concat(),
        [link("CLAUDE.md", "none"), vec![0; 1024]].concat(),
        [link("CLAUDE.md", "CLAUDE.md"), vec![0; 1024]].concat(),
    ] {
        assert_eq!(host.refused(bytes.as_slice()).to_string(), "Agent directory must contain CLAUDE.md");
    }
    let linked = [link("CLAUDE.md", "AGENTS.md"), file("AGENTS.md", "prompt"), vec![0; 1024]].concat();
    assert!(host.tar(&linked).is_ok());
}

#[test]
fn broken_settings_are_told_by_file_line_and_key() {
    let host = Host::new();
    for (path, content, said) in [
        (".claude/settings.json", "{\n  \"env\": {\n}", ".claude/settings.json:3:1: EOF while parsing an object"),
        (
            ".claude/settings.local.json",
            "{\"env\": {\"A\": 1}}",
            ".claude/settings.local.json:1:15: \"env.A\": invalid type: integer `1`, expected a string",
        ),
        (
            ".mcp.json",
            "{\"mcpServers\": {\"a\": {}}}",
            ".mcp.json:1:24: \"mcpServers.a\": a server needs a \"command\" or a \"url\"",
        ),
        ("ash.toml", "[agent]\nmodle = \"x\"", "ash.toml:2: unknown key \"agent.modle\", did you mean \"model\"?"),
        ("ash.toml", "[agent\n", "ash.toml:1: "),
        ("ash.toml/x", "", "ash.toml is not a file"),
    ] {
        let error = host.refused(archive(&[file(path, content)]).as_slice());
        assert!(error.to_string().starts_with(said), "{error} is not {said}");
    }
    let not_text = host.refused(archive(&[entry(b'0', b".mcp.json", b"", 3, b"\n\n\xff")]).as_slice());
    assert_eq!(not_text.to_string(), ".mcp.json:3: not UTF-8");
    // Found where a link leads, too.
    let linked = archive(&[link(".claude", "conf"), file("conf/settings.json", "[]")]);
    assert!(host.refused(linked.as_slice()).to_string().starts_with(".claude/settings.json:1:"));
    let nowhere = archive(&[link(".mcp.json", "none")]);
    assert_eq!(host.refused(nowhere.as_slice()).to_string(), ".mcp.json is a link that leads to no file");

    let roomy = Versions::open(host.folder.path(), ContentLimits { max_bytes: ByteCount(1 << 30), ..LIMITS }).expect("opens");
    let error = roomy.deploy_tar(archive(&[file("ash.toml", &"#".repeat((1 << 20) + 1))]).as_slice()).expect_err("large");
    assert_eq!(error.to_string(), "ash.toml has more than 1 MiB");
}

#[test]
fn files_of_json_are_named_by_their_field() {
    let host = Host::new();
    let error = host.files(&[("CLAUDE.md", "x"), ("a", ""), ("../x", "")]).expect_err("climbs");
    assert_eq!(error.field().as_deref(), Some("files[2].path"));
    assert_eq!(error.to_string(), "Entry \"../x\" has \"..\" in its path");
    assert_eq!(
        host.files(&[("CLAUDE.md", "x"), ("CLAUDE.md", "")]).expect_err("twice").field().as_deref(),
        Some("files[1].path")
    );

    let body = |content: &str| FileBody { path: "a".to_owned(), content: content.to_owned() };
    assert_eq!(decode_files(&[body("YWI="), body("YWI"), body("")]).expect("good").len(), 3);
    let error = decode_files(&[body(""), body("YWI=!")]).expect_err("bad");
    assert_eq!(
        (error.field().as_deref(), error.to_string().as_str()),
        (Some("files[1].content"), "files[1].content is not base64")
    );

    let version = host.files(&[("CLAUDE.md", "x"), ("run", "#!/bin/sh\n")]).expect("good");
    let mode = |path: &str| std::fs::metadata(version.path().join(path)).expect("file").permissions().mode() & 0o111;
    assert_eq!((mode("CLAUDE.md"), mode("run") & 0o100), (0, 0o100));
}

#[test]
fn the_same_bytes_are_the_same_version_and_a_crash_leaves_nothing() {
    let host = Host::new();
    let first = host.files(&[("CLAUDE.md", "x"), ("a/b", "y")]).expect("good");
    let again = host.tar(&archive(&[])).expect("good");
    assert_ne!(first, again);
    let again = host.tar(&[file("a/b", "y"), file("CLAUDE.md", "x"), vec![0; 1024]].concat()).expect("good");
    assert_eq!(first, again);
    assert_eq!(host.on_disk(), (2, 0));
    assert_eq!(first.path(), host.folder.path().join("agents").join(first.digest().hex()));
    assert_eq!(host.versions.get(first.digest()), Some(first.clone()));
    assert_eq!(first.digest().to_string().parse::<Digest>().as_ref(), Ok(first.digest()));

    let left = host.folder.path().join("agents/.staging/left-over/deep");
    std::fs::create_dir_all(&left).expect("folder");
    let opened = Versions::open(host.folder.path(), LIMITS).expect("opens");
    assert!(!left.exists());
    assert_eq!(opened.get(first.digest()), Some(first.clone()));

    assert_eq!(opened.path_of(first.digest()), first.path());
    opened.remove(first.digest()).expect("removed");
    assert_eq!(opened.get(first.digest()), None);
    assert!(!first.path().exists());
    opened.remove(first.digest()).expect("removed before");
    assert_eq!(host.on_disk(), (1, 0));
}

#[test]
fn many_at_once_make_one_version() {
    let host = Host::new();
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let deploy = || *host.files(&[("CLAUDE.md", "x"), ("a", "b")]).expect("good").digest();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(deploy)).collect();
        threads.into_iter().map(|thread| thread.join().expect("joins")).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(host.on_disk(), (1, 0));
    assert!(host.versions.get(&digests[0]).expect("there").verify().expect("reads"));
}

#[test]
fn a_prompt_alone_keeps_the_other_files() {
    let host = Host::new();
    let alone = host.versions.deploy_prompt(None, "one").expect("good");
    assert_eq!(alone, host.files(&[("CLAUDE.md", "one")]).expect("good"));
    let full = archive(&[file("a/b", "y"), link("l", "a"), entry(b'5', b"empty", b"", 0, b"")]);
    let full = host.tar(&full).expect("good");
    let next = host.versions.deploy_prompt(Some(full.digest()), "two").expect("good");
    assert_eq!(next.read("CLAUDE.md").expect("reads").as_deref(), Some(&b"two"[..]));
    assert_eq!(next.read("a/b").expect("reads").as_deref(), Some(&b"y"[..]));
    assert!(next.path().join("l").is_symlink() && next.path().join("empty").is_dir());
    let back = host.versions.deploy_prompt(Some(next.digest()), "prompt").expect("good");
    assert_eq!(back, full);
    host.versions.remove(full.digest()).expect("removed");
    let error = host.versions.deploy_prompt(Some(full.digest()), "x").expect_err("gone");
    assert!(matches!(&error, ContentError::NoVersion(digest) if digest == full.digest()));
}

#[test]
fn a_version_is_read_without_following_links() {
    let host = Host::new();
    let version =
        host.tar(&archive(&[file("d/a", "12345"), link("l", "d/a"), link("e", "d"), file("ash.toml", "[limits]\ntasks = 99")]));
    let version = version.expect("good");
    let names: Vec<_> = version.list().expect("lists").into_iter().map(|file| (file.path, file.size)).collect();
    assert_eq!(names, [("CLAUDE.md".to_owned(), 6), ("ash.toml".to_owned(), 19), ("d/a".to_owned(), 5)]);
    assert!(version.list().expect("lists").iter().all(|file| file.modified.millis() > 1_600_000_000_000));
    assert_eq!(version.read("d/a").expect("reads").as_deref(), Some(&b"12345"[..]));
    assert_eq!(version.read("./d//a").expect("reads").map(|content| content.len()), Some(5));
    assert_eq!(version.definition().expect("reads").limits.tasks, Some(99));
    assert_eq!(version.mcp_servers().expect("reads"), None);
    let linked = [link(".mcp.json", "d/servers"), file("d/servers", "{\"mcpServers\": {}}")];
    let linked = host.tar(&archive(&linked)).expect("good").mcp_servers().expect("reads");
    assert_eq!(linked.as_deref(), Some(&b"{\"mcpServers\": {}}"[..]));
    for none in ["none", "d/none", "d/a/x"] {
        assert_eq!(version.read(none).expect("reads"), None, "{none}");
    }
    for (path, said) in [
        ("l", "Entry \"l\" is not a file"),
        ("e", "Entry \"e\" is not a file"),
        ("e/a", "Entry \"e/a\" is not a file"),
        ("d", "Entry \"d\" is not a file"),
        ("../x", "Entry \"../x\" has \"..\" in its path"),
        ("/etc/passwd", "Entry \"/etc/passwd\" has an absolute path"),
        ("d/", "Entry \"d/\" ends with a slash, but is not a folder"),
        ("", "Entry \"\" has an empty path"),
    ] {
        assert_eq!(version.read(path).expect_err(path).to_string(), said);
    }
}

fn pack(version: &Version, overlays: &[Overlay<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    version.write_tar(&mut bytes, overlays).expect("packs");
    bytes
}

#[test]
fn overlays_come_over_what_is_packed() {
    let host = Host::new();
    let version = host.tar(&archive(&[link("l", "d"), file("d/a", "old"), link("m", "CLAUDE.md")])).expect("good");
    let over = |path, content: &'static str| Overlay { path, content: content.as_bytes() };
    let bytes =
        pack(&version, &[over("CLAUDE.md", "new"), over("m", "now a file"), over("new/deep/file", "x"), over(".mcp.json", "{}")]);
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().expect("tar") {
        let mut entry = entry.expect("entry");
        let mut content = String::new();
        entry.read_to_string(&mut content).expect("content");
        let header = entry.header();
        assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(1000), Some(1000), Some(946_684_800)));
        seen.insert(entry.path().expect("path").to_string_lossy().into_owned(), (entry.header().mode().expect("mode"), content));
    }
    let file = |content: &str| (0o644, content.to_owned());
    assert_eq!(
        seen,
        BTreeMap::from([
            (".mcp.json".to_owned(), file("{}")),
            ("CLAUDE.md".to_owned(), file("new")),
            ("d".to_owned(), (0o755, String::new())),
            ("d/a".to_owned(), file("old")),
            ("l".to_owned(), (0o777, String::new())),
            ("m".to_owned(), file("now a file")),
            ("new".to_owned(), (0o755, String::new())),
            ("new/deep".to_owned(), (0o755, String::new())),
            ("new/deep/file".to_owned(), file("x")),
        ])
    );
    for (path, obstacle) in [("d", "d"), ("l/x", "l"), ("CLAUDE.md/x", "CLAUDE.md")] {
        let error = version.write_tar(std::io::sink(), &[over(path, "")]).expect_err(path);
        assert!(matches!(&error, ContentError::Overlay { obstacle: there, .. } if there == obstacle), "{error}");
    }
    assert!(version.write_tar(std::io::sink(), &[over("../x", "")]).is_err());
}

#[test]
fn a_changed_version_does_not_verify() {
    let host = Host::new();
    let version = host.files(&[("CLAUDE.md", "x"), ("a", "y")]).expect("good");
    assert!(version.verify().expect("reads"));
    std::fs::write(version.path().join("a"), "z").expect("written");
    assert!(!version.verify().expect("reads"));
}

/// A folder of somebody's, in a root that the configuration allows.
struct Author {
    root: tempfile::TempDir,
}

impl Author {
    fn new() -> Self {
        let author = Self { root: tempfile::tempdir().expect("folder") };
        std::fs::create_dir(author.folder()).expect("folder");
        std::fs::write(author.path("CLAUDE.md"), "prompt").expect("file");
        author
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("agent")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder().join(path)
    }

    fn deploy(&self, host: &Host) -> Result<Version, ContentError> {
        host.versions.deploy_folder(&self.folder(), &[self.root.path().to_owned()])
    }
}

#[test]
fn a_folder_on_the_server_is_copied() {
    let (host, author) = (Host::new(), Author::new());
    std::fs::create_dir_all(author.path("empty/deep")).expect("folder");
    std::fs::write(author.path("run"), "#!").expect("file");
    std::fs::set_permissions(author.path("run"), std::fs::Permissions::from_mode(0o700)).expect("mode");
    symlink("../CLAUDE.md", author.path("empty/l")).expect("link");
    let version = author.deploy(&host).expect("good");
    let mut script = entry(b'0', b"run", b"", 2, b"#!");
    let mut header = tar::Header::from_byte_slice(&script[..512]).clone();
    header.set_mode(0o755);
    header.set_cksum();
    script[..512].copy_from_slice(header.as_bytes());
    let same = archive(&[script, entry(b'5', b"empty/deep/", b"", 0, b""), link("empty/l", "../CLAUDE.md")]);
    assert_eq!(host.tar(&same).expect("good"), version);
    // The copy is the version's own.
    std::fs::write(author.path("CLAUDE.md"), "changed").expect("file");
    assert!(version.verify().expect("reads"));
    assert_ne!(author.deploy(&host).expect("good"), version);
}

#[test]
fn a_folder_on_the_server_gives_nothing_from_outside() {
    let host = Host::new();
    let secret = tempfile::tempdir().expect("folder");
    std::fs::write(secret.path().join("CLAUDE.md"), "secret").expect("file");

    let author = Author::new();
    symlink(secret.path().join("CLAUDE.md"), author.path("l")).expect("link");
    assert!(author.deploy(&host).expect_err("link").to_string().contains("is a link to the absolute path"));

    std::fs::remove_file(author.path("l")).expect("removed");
    symlink("../../x", author.path("l")).expect("link");
    assert!(author.deploy(&host).expect_err("link").to_string().ends_with("which lies outside of the folder"));

    // The folder itself, and one above it, may not be links out of the root either.
    let root = [author.root.path().to_owned()];
    symlink(secret.path(), author.root.path().join("out")).expect("link");
    std::fs::create_dir(secret.path().join("below")).expect("folder");
    for path in ["out", "out/.", "out/below"] {
        let error = host.versions.deploy_folder(&author.root.path().join(path), &root).expect_err(path);
        assert!(matches!(error, ContentError::NotAllowed { .. }), "{error}");
        assert_eq!((error.field().as_deref(), error.blame()), (Some("path"), Blame::Content));
    }
    for path in [secret.path(), Path::new("/nonexistent"), Path::new("relative"), &author.path("../../.."), Path::new("")] {
        let error = host.versions.deploy_folder(path, &root).expect_err("outside");
        assert!(matches!(error, ContentError::NotAllowed { .. }), "{error}");
    }
    assert!(matches!(host.versions.deploy_folder(&author.folder(), &[]), Err(ContentError::NotAllowed { .. })));
    for path in ["none", "agent/CLAUDE.md"] {
        let error = host.versions.deploy_folder(&author.root.path().join(path), &root).expect_err(path);
        assert!(matches!(error, ContentError::Folder { .. }), "{error}");
    }
    assert_eq!(host.on_disk(), (0, 0));
}

#[test]
fn a_root_may_be_a_link_and_be_deployed_itself() {
    let (host, author) = (Host::new(), Author::new());
    let link = author.root.path().join("link");
    symlink(author.folder(), &link).expect("link");
    let version = host.versions.deploy_folder(&link, std::slice::from_ref(&link)).expect("good");
    assert_eq!(version, author.deploy(&host).expect("good"));
}

#[test]
fn a_folder_on_the_server_has_the_same_limits() {
    let host = Host::new();
    let refused = |prepare: &dyn Fn(&Author), said: &str| {
        let author = Author::new();
        prepare(&author);
        let error = author.deploy(&host).expect_err(said);
        assert!(error.to_string().contains(said), "{error} is not {said}");
        assert_eq!(host.on_disk(), (0, 0));
    };
    refused(&|author| std::fs::remove_file(author.path("CLAUDE.md")).expect("removed"), "Agent directory must contain CLAUDE.md");
    refused(
        &|author| nix::unistd::mkfifo(&author.path("p"), nix::sys::stat::Mode::S_IRWXU).expect("pipe"),
        "Entry \"p\" is a named pipe",
    );
    refused(&|author| drop(std::os::unix::net::UnixListener::bind(author.path("s")).expect("socket")), "Entry \"s\" is a socket");
    refused(
        &|author| std::fs::File::create(author.path("sparse")).and_then(|file| file.set_len(10 << 30)).expect("file"),
        "File \"sparse\" has 10737418240 bytes, an agent may have 1M in all",
    );
    refused(
        &|author| (0..300).for_each(|n| std::fs::write(author.path(&n.to_string()), "").expect("file")),
        "There are more than 200 files, folders and links",
    );
    refused(&|author| std::fs::create_dir_all(author.path(&"d/".repeat(80))).expect("folders"), "lies more than 64 folders deep");
    refused(
        &|author| std::fs::write(author.path("a\nb"), "").expect("file"),
        "Entry \"a\\nb\" has a control character in its path",
    );
}

/// Real archives of each form that GNU tar writes, with what only some can say in a header.
#[test]
fn all_forms_of_tar_give_one_version() {
    let (host, author) = (Host::new(), Author::new());
    let deep = format!("{0}/{0}/{0}", "directory-with-a-long-name-".repeat(3));
    let long = format!("{deep}/file");
    std::fs::create_dir_all(author.path(&deep)).expect("folder");
    std::fs::write(author.path("ä ö"), "umlaut").expect("file");
    std::fs::hard_link(author.path("ä ö"), author.path("twin")).expect("link");
    symlink("ä ö", author.path("soft")).expect("link");
    let mut digests = Vec::new();
    for long_names in [false, true] {
        let mut forms = vec!["gnu", "oldgnu", "pax", "ustar", "v7"];
        if long_names {
            std::fs::write(author.path(&long), "deep").expect("file");
            symlink("d".repeat(200), author.path("long link")).expect("link");
            forms.truncate(3);
        } else {
            std::fs::rename(author.path("directory-with-a-long-name-".repeat(3).as_str()), author.root.path().join("aside"))
                .expect("moved");
        }
        let mut same: Vec<(String, Digest)> = forms
            .iter()
            .map(|form| {
                let mut tar = Command::new("tar");
                tar.arg(format!("--format={form}")).arg("-C").arg(author.folder()).args(["-cf", "-", "."]);
                let output = tar.output().expect("tar runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                ((*form).to_owned(), *host.tar(&output.stdout).unwrap_or_else(|error| panic!("{form}: {error}")).digest())
            })
            .collect();
        same.push(("folder".to_owned(), *author.deploy(&host).expect("good").digest()));
        assert!(same.iter().all(|(_, digest)| *digest == same[0].1), "{same:?}");
        digests.push(same[0].1);
        if !long_names {
            std::fs::rename(author.root.path().join("aside"), author.path("directory-with-a-long-name-".repeat(3).as_str()))
                .expect("moved");
        }
    }
    assert_ne!(digests[0], digests[1]);
}

#[derive(Debug, Clone)]
enum Thing {
    Folder,
    File(Vec<u8>, bool),
    Link(String),
}

/// Trees over few names, so that paths meet; entries that do not fit together are left out.
fn trees() -> impl Strategy<Value = BTreeMap<String, Thing>> {
    let name = prop_oneof![
        Just("a"),
        Just("b"),
        Just(".c"),
        Just("d e"),
        Just("ü"),
        Just("a-name-so-long-that-no-header-of-the-oldest-form-can-hold-three-of-it-in-a-row")
    ];
    let path = prop::collection::vec(name, 1..5).prop_map(|parts| parts.join("/"));
    let thing = prop_oneof![
        Just(Thing::Folder),
        (prop::collection::vec(any::<u8>(), 0..1500), any::<bool>())
            .prop_map(|(bytes, executable)| Thing::File(bytes, executable)),
        path.clone().prop_map(Thing::Link),
    ];
    prop::collection::vec((path, thing), 0..12).prop_map(|entries| {
        let mut tree: BTreeMap<String, Thing> = BTreeMap::from([("CLAUDE.md".to_owned(), Thing::File(b"x".to_vec(), false))]);
        for (path, thing) in entries {
            let parents_fit =
                path.match_indices('/').all(|(slash, _)| matches!(tree.get(&path[..slash]), None | Some(Thing::Folder)));
            let below = format!("{path}/");
            let free = !tree.contains_key(&path) && !tree.keys().any(|other| other.starts_with(&below));
            if parents_fit && free {
                tree.insert(path, thing);
            }
        }
        tree
    })
}

fn pack_tree(tree: &[(String, Thing)], time: u64, owner: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, thing) in tree {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(time);
        header.set_uid(owner);
        header.set_size(0);
        header.set_mode(0o750 | u32::try_from(time % 8).expect("small"));
        match thing {
            Thing::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, std::io::empty()).expect("packs");
            }
            Thing::File(content, executable) => {
                header.set_size(content.len() as u64);
                header.set_mode(if *executable { 0o744 } else { 0o655 });
                builder.append_data(&mut header, path, content.as_slice()).expect("packs");
            }
            Thing::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).expect("packs");
            }
        }
    }
    builder.into_inner().expect("packs")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tree_comes_out_as_it_went_in(tree in trees(), seed in any::<u64>()) {
        let (host, other) = (Host::new(), Host::new());
        let ordered: Vec<(String, Thing)> = tree.into_iter().collect();
        let mut mixed = ordered.clone();
        let count = mixed.len();
        mixed.rotate_left(usize::try_from(seed % count as u64).expect("small"));
        mixed.reverse();

        let version = host.tar(&pack_tree(&ordered, 1, 0)).expect("good");
        let shuffled = host.tar(&pack_tree(&mixed, seed >> 32, 4711)).expect("good");
        prop_assert_eq!(&version, &shuffled);
        prop_assert!(version.verify().expect("reads"));

        let packed = pack(&version, &[]);
        let unpacked = other.tar(&packed).expect("good");
        prop_assert_eq!(version.digest(), unpacked.digest());
        prop_assert_eq!(&packed, &pack(&unpacked, &[]));

        let copied = other.versions.deploy_folder(version.path(), &[host.folder.path().to_owned()]).expect("good");
        prop_assert_eq!(version.digest(), copied.digest());
    }

    #[test]
    fn no_bytes_are_more_than_refused(bytes in prop::collection::vec(any::<u8>(), 0..4000), at in 0usize..2048, byte in any::<u8>()) {
        let host = Host::new();
        let mut flipped = archive(&[file("a", "content"), link("l", "a")]);
        flipped[at] = byte;
        for bytes in [bytes, flipped] {
            match host.tar(&bytes) {
                Ok(version) => prop_assert!(version.verify().expect("reads")),
                Err(error) => prop_assert_eq!(error.blame(), Blame::Content, "{}", error),
            }
        }
    }
}
