use std::os::unix::fs::{PermissionsExt, symlink};

use tar::{Builder, Header};

use super::*;
use crate::report;

fn header(kind: EntryType, path: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    // Set by hand, as the library refuses the paths that matter here.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o640);
    header.set_size(size);
    header.set_cksum();
    header
}

fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, content) in entries {
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            let mut header = header(*kind, path, 0);
            header.set_link_name_literal(content).expect("fits");
            header.set_cksum();
            builder.append(&header, io::empty()).expect("appended");
        } else {
            builder.append(&header(*kind, path, content.len() as u64), content.as_bytes()).expect("appended");
        }
    }
    builder.into_inner().expect("finished")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

#[test]
fn files_folders_and_links_arrive() {
    let dir = folder();
    let long = "n".repeat(200) + "/" + &"m".repeat(200);
    let mut builder = Builder::new(Vec::new());
    let mut plain = Header::new_gnu();
    plain.set_size(4);
    plain.set_mode(0o4755);
    builder.append_data(&mut plain, "a/run", &b"text"[..]).expect("appended");
    builder.append_data(&mut plain.clone(), &long, &b"deep"[..]).expect("appended");
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "a/link", "/usr/bin/python3").expect("appended");
    builder.append_dir("empty", ".").expect("appended");
    unpack(builder.into_inner().expect("finished").as_slice(), dir.path()).expect("unpacked");
    assert_eq!(fs::read(dir.path().join("a/run")).expect("there"), b"text");
    assert_eq!(fs::read(dir.path().join(&long)).expect("there"), b"deep");
    let mode = fs::metadata(dir.path().join("a/run")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no setuid bit comes along");
    assert_eq!(fs::read_link(dir.path().join("a/link")).expect("a link"), Path::new("/usr/bin/python3"));
    assert!(dir.path().join("empty").is_dir());
}

#[test]
fn pax_names_are_read() {
    let dir = folder();
    let path = "p/".to_owned() + &"q".repeat(180);
    let record = format!(" path={path}\n");
    let length = record.len() + 3;
    let record = format!("{length}{record}");
    let tar = archive(&[(EntryType::XHeader, "x", &record), (EntryType::Regular, "short", "text")]);
    unpack(tar.as_slice(), dir.path()).expect("unpacked");
    assert_eq!(fs::read(dir.path().join(path)).expect("there"), b"text");
    assert!(!dir.path().join("short").exists());
}

#[test]
fn the_folder_is_emptied_first_and_links_in_it_are_not_followed() {
    let (dir, outside) = (folder(), folder());
    fs::write(outside.path().join("kept"), "x").expect("written");
    symlink(outside.path(), dir.path().join("link")).expect("linked");
    fs::create_dir_all(dir.path().join("old/read-only")).expect("made");
    fs::write(dir.path().join("old/read-only/file"), "x").expect("written");
    fs::set_permissions(dir.path().join("old/read-only"), fs::Permissions::from_mode(0o500)).expect("set");
    unpack(archive(&[(EntryType::Regular, "new", "x")]).as_slice(), dir.path()).expect("unpacked");
    let names: Vec<_> = fs::read_dir(dir.path()).expect("read").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names, ["new"]);
    assert!(outside.path().join("kept").exists());
}

#[test]
fn hostile_entries_are_refused_by_name() {
    use EntryType as T;
    type Case = (&'static [(T, &'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        (&[(T::Regular, "a/../../x", "x")], "entry \"a/../../x\" climbs out with '..'"),
        (&[(T::Regular, "/etc/x", "x")], "entry \"/etc/x\" is absolute"),
        (&[(T::Symlink, "l", "OUTSIDE"), (T::Regular, "l/x", "x")], "entry \"l/x\" lies below something that is no folder"),
        (&[(T::Symlink, "l", "OUTSIDE"), (T::Directory, "l", "")], "entry \"l\" lies below something that is no folder"),
        (&[(T::Symlink, "l", "OUTSIDE/x"), (T::Regular, "l", "x")], "entry \"l\" comes twice"),
        (&[(T::Regular, "f", "x"), (T::Regular, "f/g", "x")], "entry \"f/g\" lies below something that is no folder"),
        (&[(T::Regular, "f", "x"), (T::Regular, "f", "y")], "entry \"f\" comes twice"),
        (&[(T::Link, "h", "/etc/passwd")], "entry \"h\" is a hard link"),
        (&[(T::Char, "c", "")], "entry \"c\" is a device or a pipe"),
        (&[(T::Block, "b", "")], "entry \"b\" is a device or a pipe"),
        (&[(T::Fifo, "p", "")], "entry \"p\" is a device or a pipe"),
        (&[(T::Regular, ".", "x")], "entry \".\" has no name"),
        (&[(T::Symlink, "l", "")], "entry \"l\" is a link to nothing"),
        (&[(T::XHeader, "x", "11 size=99\n")], "entry \"x\" is an extended header that can not be read"),
        (&[(T::XHeader, "x", "99 path=a\n")], "entry \"x\" is an extended header that can not be read"),
    ];
    for (entries, reason) in cases {
        let (dir, outside) = (folder(), folder());
        let outside_path = outside.path().to_str().expect("text").to_owned();
        let entries: Vec<_> = entries.iter().map(|(t, p, c)| (*t, *p, c.replace("OUTSIDE", &outside_path))).collect();
        let entries: Vec<_> = entries.iter().map(|(t, p, c)| (*t, *p, c.as_str())).collect();
        let error = unpack(archive(&entries).as_slice(), dir.path()).expect_err(reason);
        assert_eq!(&report::chain(&error), reason);
        assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0, "{reason}");
    }
}

#[test]
fn names_and_files_that_lie_about_their_size_end_it() {
    let dir = folder();
    let long = header(EntryType::GNULongName, "x", 1 << 30);
    let error = unpack(long.as_bytes().as_slice(), dir.path()).expect_err("too long");
    assert_eq!(error.to_string(), "entry \"x\" has a name that is too long");
    let mut cut = header(EntryType::Regular, "f", 10 << 30).as_bytes().to_vec();
    cut.extend_from_slice(b"few bytes");
    let error = unpack(cut.as_slice(), dir.path()).expect_err("cut");
    assert_eq!(error.to_string(), "entry \"f\" is cut short");
    let error = unpack(&b"no archive at all"[..], dir.path()).expect_err("no archive");
    assert!(matches!(error, UnpackError::Read(_)), "{error:?}");
}

#[test]
fn no_bytes_are_too_much_for_what_unpacks_agents() {
    use EntryType as T;
    let seeds = [
        archive(&[
            (T::Directory, "d", ""),
            (T::Regular, "d/f", "text"),
            (T::Symlink, "l", "d/f"),
            (T::Regular, "z", &"x".repeat(900)),
        ]),
        archive(&[(T::Symlink, "out", "/"), (T::Regular, "a", "x"), (T::Link, "hard", "a"), (T::Regular, "b/c/d", "x")]),
    ];
    let target = crate::hostile::Target {
        name: "agents that are unpacked",
        seeds: seeds.to_vec(),
        words: &[b"../kept", b"/", b"l/../../kept", b"out/x", b"\0\0\0\0"],
        // The sum of the first header is made right.
        mend: |bytes, _| {
            if let Some(block) = bytes.first_chunk_mut::<512>() {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        },
        costs: 5,
        ..Default::default()
    };
    let around = folder();
    let (inside, kept) = (around.path().join("inside"), around.path().join("kept"));
    fs::create_dir(&inside).expect("made");
    fs::write(&kept, "x").expect("written");
    target.attack(|bytes| {
        let _refused_or_not = unpack(bytes, &inside);
        let names: Vec<_> = fs::read_dir(around.path()).expect("read").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(names.len(), 2, "beside the folder nothing is made: {names:?}");
        assert_eq!(fs::read(&kept).expect("there"), b"x");
    });
}
