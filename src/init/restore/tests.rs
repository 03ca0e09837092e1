use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use tar::{Builder, Header};

use super::*;
use crate::init::pack::tests::Folders;
use crate::report;

fn header(kind: EntryType, path: &str, target: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header
}

fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, content) in entries {
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            builder.append(&header(*kind, path, content, 0), io::empty()).expect("appended");
        } else {
            builder.append(&header(*kind, path, "", content.len() as u64), content.as_bytes()).expect("appended");
        }
    }
    builder.into_inner().expect("finished")
}

/// As releases packed holes of less than 32 KiB, and of files with very many of them larger ones.
#[test]
fn holes_that_were_packed_as_zeros_come_back_as_holes() {
    const SIZE: usize = (2 << 20) + 1000;
    let mut content = vec![0; SIZE];
    let block = |n: usize| n * BLOCK..(n + 1) * BLOCK;
    // In the first of the parts that are written at once, across its end, and in the last byte.
    content[block(3)].fill(7);
    content[block(63).end - 1] = 1;
    content[block(64).start] = 1;
    content[SIZE - 1] = 1;
    let mut builder = Builder::new(Vec::new());
    builder.append(&header(EntryType::Regular, "work/plain", "", SIZE as u64), content.as_slice()).expect("appended");
    // From a place that is no block's.
    let mut sparse = header(EntryType::GNUSparse, "work/sparse", "", (SIZE - 100) as u64);
    let gnu = sparse.as_gnu_mut().expect("GNU's");
    gnu.sparse[0].offset[..11].copy_from_slice(format!("{:011o}", 100).as_bytes());
    gnu.sparse[0].numbytes[..11].copy_from_slice(format!("{:011o}", SIZE - 100).as_bytes());
    gnu.realsize[..11].copy_from_slice(format!("{SIZE:011o}").as_bytes());
    sparse.set_cksum();
    builder.append(&sparse, &content[100..]).expect("appended");
    builder.append(&header(EntryType::Regular, "work/zeros", "", 700), [0; 700].as_slice()).expect("appended");
    let to = Folders::new();
    to.restore(&builder.into_inner().expect("finished")).expect("restored");
    for name in ["plain", "sparse"] {
        let path = to.work().join(name);
        assert!(fs::read(&path).expect("read") == content, "{name}");
        let taken = fs::metadata(&path).expect("there").blocks() * 512;
        assert!(taken <= 8 * BLOCK as u64, "{name} takes {taken} bytes");
    }
    let zeros = fs::metadata(to.work().join("zeros")).expect("there");
    assert_eq!((zeros.len(), zeros.blocks()), (700, 0));
}

#[test]
fn hostile_entries_are_refused_by_name() {
    use EntryType as T;
    type Case = (&'static [(T, &'static str, &'static str)], &'static str);
    const OUTSIDE: &str = "lies neither in the workspace nor in the state of the runtime";
    let cases: &[Case] = &[
        (&[(T::Regular, "work/../../x", "x")], "entry \"work/../../x\" climbs out with '..'"),
        (&[(T::Regular, "/work/x", "x")], "entry \"/work/x\" is absolute"),
        (&[(T::Regular, "x", "x")], OUTSIDE),
        (&[(T::Regular, "works/x", "x")], OUTSIDE),
        (&[(T::Regular, "home/.bashrc", "x")], OUTSIDE),
        (&[(T::Directory, "home/.claude/", "")], OUTSIDE),
        (&[(T::Regular, "home/.claude/projects2", "x")], OUTSIDE),
        (
            &[(T::Symlink, "work/l", "OUTSIDE"), (T::Regular, "work/l/x", "x")],
            "entry \"work/l/x\" lies below something that is no folder",
        ),
        (
            &[(T::Symlink, "work/l", "OUTSIDE"), (T::Directory, "work/l/", "")],
            "entry \"work/l/\" lies below something that is no folder",
        ),
        (&[(T::Symlink, "work/l", "OUTSIDE/x"), (T::Regular, "work/l", "x")], "entry \"work/l\" comes twice"),
        (
            &[(T::Symlink, "home/.claude/projects", "OUTSIDE"), (T::Regular, "home/.claude/projects/x", "x")],
            "lies below something that is no folder",
        ),
        (&[(T::Regular, "work/f", "x"), (T::Regular, "work/f", "y")], "entry \"work/f\" comes twice"),
        (&[(T::Link, "work/h", "/etc/passwd")], "entry \"work/h\" is a hard link to something outside"),
        (&[(T::Link, "work/h", "work/../x")], "entry \"work/h\" is a hard link to something outside"),
        (
            &[(T::Regular, "home/.claude/projects/x", "x"), (T::Link, "work/h", "home/.claude/projects/x")],
            "is a hard link to something outside",
        ),
        (&[(T::Link, "work/h", "work/nothing")], "entry \"work/h\" is a hard link to no file before it"),
        (&[(T::Symlink, "work/l", "OUTSIDE"), (T::Link, "work/h", "work/l/kept")], "is a hard link to no file before it"),
        (&[(T::Symlink, "work/l", "OUTSIDE/kept"), (T::Link, "work/h", "work/l")], "is a hard link to no file before it"),
        (&[(T::Char, "work/c", "")], "entry \"work/c\" is a device or a pipe"),
        (&[(T::Fifo, "work/p", "")], "entry \"work/p\" is a device or a pipe"),
        (&[(T::GNULongName, "work/p", "x")], "entry \"work/p\" has contents, and is no file"),
        (&[(T::Continuous, "work/p", "")], "entry \"work/p\" is of an unknown type"),
        (&[(T::Regular, "work", "x")], "entry \"work\" is no folder"),
        (&[(T::Symlink, "work/l", "")], "entry \"work/l\" is a link to nothing"),
        (&[(T::XHeader, "x", "11 size=99\n")], "entry \"x\" is an extended header that can not be read"),
        (&[(T::XHeader, "x", "14 mtime=1.2.3\n")], "entry \"x\" is an extended header that can not be read"),
        (&[(T::XHeader, "x", "33 SCHILY.xattr.security.thing=x\n")], "entry \"x\" is an extended header that can not be read"),
    ];
    for (entries, reason) in cases {
        let (to, outside) = (Folders::new(), tempfile::tempdir().expect("temporary folder"));
        fs::write(outside.path().join("kept"), "x").expect("written");
        let outside_path = outside.path().to_str().expect("text").to_owned();
        let entries: Vec<_> = entries.iter().map(|(t, p, c)| (*t, *p, c.replace("OUTSIDE", &outside_path))).collect();
        let entries: Vec<_> = entries.iter().map(|(t, p, c)| (*t, *p, c.as_str())).collect();
        let error = report::chain(&to.restore(&archive(&entries)).expect_err(reason));
        assert!(error.contains(reason), "{error}: {reason}");
        assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 1, "{reason}");
    }
}

#[test]
fn an_archive_that_lies_over_replaces_what_it_names_and_nothing_else() {
    use EntryType as T;
    let (to, outside) = (Folders::new(), tempfile::tempdir().expect("temporary folder"));
    let work = to.work();
    let write = |path: &str| fs::write(work.join(path), "old").expect("written");
    for folder in ["both", "folder/deep", "kept"] {
        fs::create_dir_all(work.join(folder)).expect("made");
    }
    for file in ["both/kept", "both/file", "file", "folder/deep/x", "kept/x"] {
        write(file);
    }
    fs::write(outside.path().join("x"), "outside").expect("written");
    for link in ["link", "way"] {
        std::os::unix::fs::symlink(outside.path(), work.join(link)).expect("made");
    }
    fs::hard_link(outside.path().join("x"), work.join("both/hard")).expect("made");
    fs::create_dir_all(to.home().join(".claude/projects")).expect("made");
    fs::write(to.home().join(".claude/projects/c"), "conversation").expect("written");
    let over = archive(&[
        (T::Directory, "work/both/", ""),
        (T::Regular, "work/both/file", "new"),
        (T::Regular, "work/both/hard", "new"),
        (T::Regular, "work/file/now a folder", "new"),
        (T::Regular, "work/folder", "now a file"),
        (T::Symlink, "work/link", "both"),
        (T::Regular, "work/way/x", "new"),
        (T::Link, "work/kept/h", "work/both/file"),
    ]);
    to.lay_over(&over).expect("restored");
    let read = |path: &str| fs::read_to_string(work.join(path)).expect(path);
    assert_eq!(["both/kept", "kept/x"].map(read), ["old", "old"]);
    let new = ["both/file", "both/hard", "file/now a folder", "way/x", "kept/h", "link/file"];
    assert_eq!(new.map(read), ["new"; 6]);
    assert_eq!(read("folder"), "now a file");
    assert_eq!(fs::read_to_string(outside.path().join("x")).expect("read"), "outside", "nothing is written through a link");
    assert_eq!(fs::read_to_string(to.home().join(".claude/projects/c")).expect("read"), "conversation");
    let home = archive(&[(T::Regular, "home/.claude/projects/c", "forged")]);
    assert!(to.lay_over(&home).is_err(), "it has the workspace only");
}

#[test]
fn an_archive_that_is_cut_anywhere_is_an_error() {
    let whole = archive(&[
        (EntryType::Directory, "work/", ""),
        (EntryType::Regular, "work/f", "text"),
        (EntryType::Regular, "work/g", ""),
    ]);
    let to = Folders::new();
    to.restore(&whole).expect("whole");
    let end = whole.len() - 1;
    for length in (0..=end).filter(|length| length % 256 == 0 || *length == end) {
        let error = to.restore(&whole[..length]).expect_err("cut");
        assert_eq!(error.to_string(), "the archive is cut short", "{length} of {end}");
    }
}

#[test]
fn any_byte_that_is_wrong_does_no_harm() {
    let whole = archive(&[
        (EntryType::Directory, "work/a/", ""),
        (EntryType::Regular, "work/a/f", "text"),
        (EntryType::Link, "work/h", "work/a/f"),
    ]);
    let to = Folders::new();
    for at in 0..whole.len() {
        let mut spoiled = whole.clone();
        spoiled[at] ^= 0x55;
        // Contents and padding can be anything; a header that is wrong is told by its sum.
        let _either = to.restore(&spoiled);
    }
    assert_eq!(fs::read_dir(to.dir.path()).expect("read").count(), 2);
}

#[test]
fn files_with_holes_that_lie_are_refused() {
    let sparse = |whole: u64, pieces: &[(u64, u64)], size: u64| {
        let mut header = header(EntryType::GNUSparse, "work/s", "", size);
        let gnu = header.as_gnu_mut().expect("gnu");
        let put =
            |field: &mut [u8; 12], number: u64| field.copy_from_slice(&[&[0x80, 0, 0, 0][..], &number.to_be_bytes()].concat());
        put(&mut gnu.realsize, whole);
        for (field, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
            put(&mut field.offset, *offset);
            put(&mut field.numbytes, *length);
        }
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(512 * (2 + 1 + 1), 0);
        bytes
    };
    let to = Folders::new();
    to.restore(&sparse(1 << 30, &[(1 << 20, 4)], 4)).expect("sound");
    for (whole, pieces, size) in [
        (10, &[(8, 4)][..], 4),
        (100, &[(8, 4), (4, 4)], 8),
        (100, &[(8, 4), (10, 4)], 8),
        (100, &[(8, 4)], 5),
        (100, &[(u64::MAX, 4)], 4),
    ] {
        let error = to.restore(&sparse(whole, pieces, size)).expect_err("senseless");
        assert_eq!(error.to_string(), "entry \"work/s\" has holes that make no sense");
    }
    let error = to.restore(&sparse(u64::MAX, &[], 0)).expect_err("too large");
    assert_eq!(error.to_string(), "write \"work/s\"");
}
