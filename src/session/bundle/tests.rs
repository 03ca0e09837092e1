//! Bundles that come in and go out, byte by byte.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{EntryType as T, Header};

use super::export::export;
use super::lay::lay;
use crate::archive::exclude::Excludes;
use crate::archive::stream::{Dialect, Stream};

fn header(kind: T, path: &[u8], target: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(kind);
    header.set_mode(0o640);
    header.set_mtime(7);
    header.set_size(size);
    header.set_cksum();
    header
}

fn archive(entries: &[(T, &[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, content) in entries {
        if matches!(kind, T::Symlink | T::Link) {
            bytes.extend_from_slice(header(*kind, path, content, 0).as_bytes());
        } else {
            bytes.extend_from_slice(header(*kind, path, b"", content.len() as u64).as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("compressed");
    gzip.finish().expect("compressed")
}

fn laid(bundle: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let done = lay(bundle, bundle.len() as u64, 1 << 30, &mut out);
    done.map(|_| out).map_err(|error| crate::report::chain(&error))
}

fn refused(bundle: &[u8], reason: &str) {
    let said = laid(bundle).expect_err(reason);
    assert!(said.contains(reason), "{said:?} says {reason:?}");
}

fn paths(archive: &[u8]) -> Vec<String> {
    let mut stream = Stream::new(archive, Dialect::Own);
    let mut found = Vec::new();
    while let Some(entry) = stream.next().expect("reads") {
        let target = String::from_utf8_lossy(&entry.target);
        let arrow = if target.is_empty() { "" } else { " > " };
        found.push(format!("{}{arrow}{target} {:o}", entry.path.to_string_lossy(), entry.mode));
    }
    found
}

#[test]
fn hostile_entries_are_refused_by_name_and_reason() {
    type Case = (&'static [(T, &'static [u8], &'static [u8])], &'static str);
    let cases: &[Case] = &[
        (&[(T::Regular, b"../x", b"x")], "Entry \"../x\" climbs out with '..'"),
        (&[(T::Regular, b"a/../../x", b"x")], "Entry \"a/../../x\" climbs out with '..'"),
        (&[(T::Regular, b"/etc/x", b"x")], "Entry \"/etc/x\" is absolute"),
        (&[(T::Regular, b".", b"x")], "Entry \".\" has no name"),
        (&[(T::Symlink, b"l", b"/etc/passwd")], "Entry \"l\" is a link that leads out of the workspace"),
        (&[(T::Symlink, b"l", b"..")], "Entry \"l\" is a link that leads out"),
        (&[(T::Symlink, b"a/l", b"../../x")], "Entry \"a/l\" is a link that leads out"),
        (&[(T::Symlink, b"l", b"/work/../etc")], "Entry \"l\" is a link that leads out"),
        (&[(T::Symlink, b"l", b"/workshop")], "Entry \"l\" is a link that leads out"),
        (&[(T::Symlink, b"l", b"a/../../x")], "Entry \"l\" is a link with '..' after other names"),
        (&[(T::Symlink, b"l", b"")], "Entry \"l\" is a link whose target is empty"),
        (&[(T::Symlink, b"l", b"a"), (T::Regular, b"l/x", b"x")], "Entry \"l/x\" lies below something that is no folder"),
        (&[(T::Regular, b"l", b"a"), (T::Directory, b"l/x/", b"")], "Entry \"l/x/\" lies below something that is no folder"),
        (&[(T::Regular, b"f", b"a"), (T::Regular, b"./f", b"b")], "Entry \"./f\" comes twice"),
        (&[(T::Symlink, b"f", b"a"), (T::Regular, b"f", b"b")], "Entry \"f\" comes twice"),
        (&[(T::Directory, b"f/", b""), (T::Regular, b"f", b"b")], "Entry \"f\" comes twice"),
        (&[(T::Link, b"h", b"/etc/passwd")], "Entry \"h\" is a hard link to something outside"),
        (&[(T::Link, b"h", b"../x")], "Entry \"h\" is a hard link to something outside"),
        (&[(T::Link, b"h", b"nothing")], "Entry \"h\" is a hard link to no file before it"),
        (&[(T::Link, b"h", b"h")], "Entry \"h\" is a hard link to no file before it"),
        (&[(T::Symlink, b"l", b"a"), (T::Link, b"h", b"l")], "Entry \"h\" is a hard link to no file before it"),
        (&[(T::Char, b"c", b"")], "Entry \"c\" is a device"),
        (&[(T::Block, b"c", b"")], "Entry \"c\" is a device"),
        (&[(T::Fifo, b"p", b"")], "Entry \"p\" is a named pipe"),
        (&[(T::Symlink, b"s", b"a"), (T::XHeader, b"x", b"12 size=99x\n")], "is an extended header that can not be read"),
        (&[(T::XHeader, b"x", b"11 size=99\n"), (T::Regular, b"f", b"x")], "Entry \"f\" has two sizes"),
        (
            &[(T::XHeader, b"x", b"22 GNU.sparse.major=1\n"), (T::Regular, b"f", b"x")],
            "is an extended header that can not be read",
        ),
        (&[(T::XGlobalHeader, b"x", b"10 path=b\n"), (T::Regular, b"f", b"x")], "is an extended header that can not be read"),
        (&[(T::XHeader, b"x", b"13 path=../x\n"), (T::Regular, b"f", b"x")], "climbs out with '..'"),
    ];
    for (entries, reason) in cases {
        refused(&gzip(&archive(entries)), reason);
    }
    refused(&gzip(&archive(&[(T::new(b'V'), b"v", b"")])), "Entry \"v\" is of a kind that a workspace can not have");
}

#[test]
fn what_other_programs_write_is_understood() {
    let long = "d/".repeat(120) + "f";
    let entries: &[(T, &[u8], &[u8])] = &[
        (T::XGlobalHeader, b"g", b"18 comment=a text\n"),
        (T::Directory, b"./", b""),
        (T::Regular, b"./a", b"text"),
        (T::GNULongName, b"././@LongLink", &[long.as_bytes(), b"\0"].concat()),
        (T::Regular, b"short", b"text"),
        (T::XHeader, b"p", b"20 atime=1700000000\n12 path=e/f\n"),
        (T::Regular, b"other", b""),
        (T::Continuous, b"c", b"x"),
        (T::Regular, b"old/", b""),
        (T::Regular, b"b\xff\n", b"any bytes"),
        (T::Link, b"h", b"./a"),
        (T::Symlink, b"l", b"/work/a"),
    ];
    let bytes = laid(&gzip(&archive(entries))).expect("taken");
    let names = [
        "work/ 740",
        "work/a 640",
        &format!("work/{long} 640"),
        "work/e/f 640",
        "work/c 640",
        "work/old/ 640",
        "work/b\u{fffd}\n 640",
        "work/h > work/a 640",
        "work/l > /work/a 777",
    ];
    let mut found = paths(&bytes);
    // Of a link the mode says nothing.
    if let Some(last) = found.last_mut() {
        *last = last.replace(" 640", " 777");
    }
    assert_eq!(found, names);
}

#[test]
fn a_bundle_that_is_none_or_not_whole_is_refused() {
    let whole = gzip(&archive(&[(T::Regular, b"f", &[7; 5000])]));
    assert!(laid(&whole).is_ok());
    refused(b"", "Empty bundle");
    refused(b"PK\x03\x04 zip", "not a tar archive compressed by gzip");
    refused(&archive(&[(T::Regular, b"f", b"x")]), "not a tar archive compressed by gzip");
    refused(&gzip(b"some text that is no archive"), "holds no tar archive");
    refused(&gzip(&[b'x'; 2048]), "holds no tar archive");
    for length in 1..whole.len() {
        assert!(laid(&whole[..length]).is_err(), "{length} of {}", whole.len());
    }
    let mut flipped = whole.clone();
    let sum = whole.len() - 8;
    flipped[sum] ^= 1;
    refused(&flipped, "The bundle is damaged");
    refused(&[&whole[..], b"garbage behind the end"].concat(), "more data after its end");
    refused(&[&whole[..], &whole[..]].concat(), "more data after its end");
    let tar = archive(&[(T::Regular, b"f", b"x")]);
    refused(&gzip(&[&tar[..], &[1; 512]].concat()), "more data after its end");
    refused(&gzip(&tar[..tar.len() - 512]), "ends too early");
    refused(&gzip(&tar[..600]), "ends too early");
    assert!(laid(&gzip(&[&tar[..], &[0; 9 << 10]].concat())).is_ok(), "padded to a record");
}

#[test]
fn bombs_are_refused_before_they_take_more_than_they_may() {
    let mut entry = header(T::Regular, b"f", b"", 2 << 30).as_bytes().to_vec();
    entry.extend_from_slice(&[0; 512]);
    refused(&gzip(&entry), "unpacks to more than");
    // Holes take no room, and are counted all the same.
    let mut sparse = header(T::GNUSparse, b"s", b"", 0);
    let gnu = sparse.as_gnu_mut().expect("gnu");
    gnu.realsize.copy_from_slice(&[&[0x80, 0, 0, 0][..], &u64::MAX.to_be_bytes()].concat());
    sparse.set_cksum();
    refused(&gzip(&[sparse.as_bytes().as_slice(), &[0; 1024]].concat()), "unpacks to more than");
    // Zeros come to a thousand times the size of what they are packed into.
    let (zeros, count) = (vec![0; 1 << 20], 600);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(header(T::Regular, b"z", b"", count << 20).as_bytes()).expect("compressed");
    (0..count).for_each(|_| gzip.write_all(&zeros).expect("compressed"));
    gzip.write_all(&[0; 1024]).expect("compressed");
    refused(&gzip.finish().expect("compressed"), "times its size");
}

fn exported(archive: &[u8], excludes: &[&str], all: bool) -> Vec<u8> {
    let excludes = Excludes::new(excludes.iter().map(|pattern| pattern.as_bytes()));
    let mut out = Vec::new();
    export(archive, &excludes, all, &mut out).expect("exported");
    let mut tar = Vec::new();
    GzDecoder::new(&out[..]).read_to_end(&mut tar).expect("gzip");
    tar
}

#[test]
fn what_goes_out_is_the_workspace_alone_and_may_come_in_again() {
    let snapshot = archive(&[
        (T::Directory, b"work/", b""),
        (T::Regular, b"work/a\xff", b"text"),
        (T::Directory, b"work/node_modules/", b""),
        (T::Regular, b"work/node_modules/x", b"x"),
        (T::Link, b"work/n", b"work/node_modules/x"),
        (T::Regular, b"work/node_modules2", b"x"),
        (T::Link, b"work/h", b"work/a\xff"),
        (T::Symlink, b"work/in", b"a"),
        (T::Symlink, b"work/out", b"/etc/passwd"),
        (T::Regular, b"home/.claude/projects/c", b"secret"),
    ]);
    let some = exported(&snapshot, &["node_modules"], false);
    let names: Vec<_> = paths(&some).iter().map(|line| line.rsplit_once(' ').map_or("", |(name, _)| name).to_owned()).collect();
    assert_eq!(names, ["./", "./a\u{fffd}", "./node_modules2", "./h > ./a\u{fffd}", "./in > a"]);
    assert!(laid(&gzip(&some)).is_ok());
    let all = exported(&snapshot, &[], true);
    assert!(paths(&all).iter().any(|line| line.starts_with("./out > /etc/passwd")), "{:?}", paths(&all));
    assert!(!String::from_utf8_lossy(&all).contains("secret"));
    refused(&gzip(&all), "Entry \"./out\" is a link that leads out");
}

#[test]
fn what_is_not_whole_does_not_go_out_as_if_it_were() {
    let whole = archive(&[(T::Directory, b"work/", b""), (T::Regular, b"work/a", &[1; 3000])]);
    for length in (0..whole.len()).step_by(256) {
        assert!(export(&whole[..length], &Excludes::default(), true, std::io::sink()).is_err(), "{length}");
    }
    let more = [&whole[..], b"x"].concat();
    assert!(export(&more[..], &Excludes::default(), true, std::io::sink()).is_err());
    // Whatever a sandbox sends, names stay inside.
    for path in [&b"work/../../x"[..], b"/work/x", b"works/x"] {
        let bad = exported(&archive(&[(T::Regular, path, b"x")]), &[], true);
        assert!(paths(&bad).is_empty(), "{:?}", paths(&bad));
    }
}
