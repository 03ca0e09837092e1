use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::init::restore::{self, restore};

const STATE: &str = ".claude/projects";

pub struct Folders {
    pub dir: tempfile::TempDir,
}

impl Folders {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(dir.path().join("work")).expect("made");
        fs::create_dir(dir.path().join("home")).expect("made");
        Self { dir }
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn pack_without(&self, patterns: &[&str]) -> (Vec<u8>, LeftOut) {
        let excludes = Excludes::new(patterns.iter().map(|pattern| pattern.as_bytes()));
        let state = [PathBuf::from(STATE)];
        let mut archive = Vec::new();
        let plan = Plan { work: &self.work(), home: &self.home(), state: &state, excludes: &excludes };
        let left_out = pack(&plan, &mut archive).expect("packed");
        (archive, left_out)
    }

    pub fn pack(&self) -> Vec<u8> {
        self.pack_without(&[]).0
    }

    pub fn restore(&self, archive: &[u8]) -> Result<u64, restore::RestoreError> {
        let state = [PathBuf::from(STATE)];
        restore(&restore::Plan { work: &self.work(), home: &self.home(), state: &state, over: false }, archive)
    }

    pub fn lay_over(&self, archive: &[u8]) -> Result<u64, restore::RestoreError> {
        restore(&restore::Plan { work: &self.work(), home: &self.home(), state: &[], over: true }, archive)
    }
}

/// What is known of a file: type and mode, time, contents or target, names of the same file.
type Known = (u32, i64, i64, Vec<u8>, u64);

fn tree(root: &Path) -> BTreeMap<PathBuf, Known> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let mut note = |path: &Path| {
            let data = fs::symlink_metadata(path).expect("there");
            let content = match () {
                () if data.is_symlink() => fs::read_link(path).expect("a link").into_os_string().into_vec(),
                () if data.is_file() => fs::read(path).expect("read"),
                () => Vec::new(),
            };
            let links = if data.is_file() { data.nlink() } else { 0 };
            let known = (data.mode(), data.mtime(), data.mtime_nsec(), content, links);
            found.insert(path.strip_prefix(root).expect("inside").to_owned(), known);
            data.is_dir()
        };
        if folder == root {
            note(root);
        }
        for entry in fs::read_dir(&folder).expect("read") {
            let path = entry.expect("entry").path();
            if note(&path) {
                folders.push(path);
            }
        }
    }
    found
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("entries");
    entries.map(|entry| String::from_utf8_lossy(&entry.expect("entry").path_bytes()).into_owned()).collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let from = Folders::new();
    let work = from.work();
    fs::create_dir_all(work.join("a/empty")).expect("made");
    fs::create_dir_all(work.join("shut")).expect("made");
    fs::write(work.join("a/run"), "#!/bin/sh\n").expect("written");
    set_mode(&work.join("a/run"), 0o751);
    fs::write(work.join(".hidden"), "x").expect("written");
    fs::write(work.join(OsStr::from_bytes(b"a/\xff\n'\"")), "odd").expect("written");
    fs::write(work.join("n".repeat(200)), "long").expect("written");
    fs::write(work.join("secret"), "s").expect("written");
    set_mode(&work.join("secret"), 0);
    fs::hard_link(work.join("a/run"), work.join("again")).expect("linked");
    fs::hard_link(work.join("a/run"), work.join("shut/again")).expect("linked");
    symlink("/etc/passwd", work.join("out")).expect("linked");
    symlink("t".repeat(300), work.join("far")).expect("linked");
    fs::create_dir_all(from.home().join(".claude/projects/-work")).expect("made");
    fs::write(from.home().join(".claude/projects/-work/c.jsonl"), "{}").expect("written");
    fs::write(from.home().join(".claude.json"), "no part of it").expect("written");
    let old = nix::sys::time::TimeSpec::new(-3, 500_000_001);
    let file = File::open(work.join(".hidden")).expect("open");
    nix::sys::stat::futimens(&file, &old, &old).expect("set");
    let has_attributes = sys::set_attribute(&file, c"user.ash.test", b"\0value=").is_ok();
    set_mode(&work.join("shut"), 0o500);
    nix::unistd::mkfifo(&work.join("pipe"), Mode::S_IRWXU).expect("made");

    let (archive, left_out) = from.pack_without(&[]);
    assert_eq!(left_out.special, 1);
    fs::remove_file(work.join("pipe")).expect("removed");
    let to = Folders::new();
    fs::write(to.work().join("old"), "x").expect("written");
    fs::create_dir_all(to.home().join(".claude/projects/old")).expect("made");
    fs::write(to.home().join("kept"), "x").expect("written");
    to.restore(&archive).expect("restored");
    let (mut before, mut after) = (tree(&work), tree(&to.work()));
    // The pipe was removed since.
    before.remove(Path::new(""));
    assert!(after.remove(Path::new("")).is_some());
    assert_eq!(before, after);
    let inode = |path: &str| fs::metadata(to.work().join(path)).expect("there").ino();
    assert_eq!((inode("a/run"), inode("a/run")), (inode("again"), inode("shut/again")));
    if has_attributes {
        let mut value = [0; 16];
        let file = File::open(to.work().join(".hidden")).expect("open");
        assert_eq!(sys::get_attribute(&file, c"user.ash.test", &mut value), Ok(7));
        assert_eq!(&value[..7], b"\0value=");
    }
    assert_eq!(tree(&from.home().join(STATE)), tree(&to.home().join(STATE)));
    assert!(to.home().join("kept").exists() && !to.home().join(".claude.json").exists());
    // Once more, over what is there, with folders that are closed.
    let again = to.pack();
    to.restore(&again).expect("restored");
    assert!(to.pack() == again, "equal trees give equal archives");
}

#[test]
fn other_programs_read_it() {
    let from = Folders::new();
    fs::write(from.work().join("x".repeat(150)), "long").expect("written");
    let holes = File::create(from.work().join("holes")).expect("made");
    holes.write_all_at(b"end", 8 << 20).expect("written");
    let archive = from.dir.path().join("archive");
    fs::write(&archive, from.pack()).expect("written");
    let to = tempfile::tempdir().expect("temporary folder");
    let status = std::process::Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(to.path()).status();
    assert!(status.expect("tar runs").success());
    assert_eq!(fs::read(to.path().join("work").join("x".repeat(150))).expect("there"), b"long");
    assert!(fs::read(to.path().join("work/holes")).expect("there") == fs::read(from.work().join("holes")).expect("there"));
}

#[test]
fn holes_stay_holes() {
    let from = Folders::new();
    let file = File::create(from.work().join("holes")).expect("made");
    // More pieces than one header holds.
    for n in 0..40 {
        file.write_all_at(b"data", n << 20).expect("written");
    }
    file.set_len(1 << 40).expect("set");
    File::create(from.work().join("nothing")).expect("made").set_len(1 << 30).expect("set");
    let archive = from.pack();
    assert!(archive.len() < 4 << 20, "{} bytes", archive.len());
    let to = Folders::new();
    to.restore(&archive).expect("restored");
    let data = fs::metadata(to.work().join("holes")).expect("there");
    assert_eq!(data.len(), 1 << 40);
    assert!(data.blocks() * 512 < 4 << 20, "{} blocks", data.blocks());
    let file = File::open(to.work().join("holes")).expect("open");
    let mut read = [0; 8];
    file.read_exact_at(&mut read, 39 << 20).expect("read");
    assert_eq!(&read, b"data\0\0\0\0");
    assert_eq!(fs::metadata(to.work().join("nothing")).expect("there").len(), 1 << 30);
}

#[test]
fn small_holes_cost_nothing_either() {
    const BLOCK: u64 = 4 << 10;
    let from = Folders::new();
    let file = File::create(from.work().join("holes")).expect("made");
    for n in 0..256 {
        file.write_all_at(&[7; BLOCK as usize], n * 2 * BLOCK).expect("written");
    }
    let before = file.metadata().expect("there");
    let archive = from.pack();
    let data = 256 * BLOCK;
    assert!(archive.len() as u64 - data < data / 8, "{} bytes", archive.len());
    let to = Folders::new();
    to.restore(&archive).expect("restored");
    let after = fs::metadata(to.work().join("holes")).expect("there");
    // What the file system keeps of where they are counts, too.
    assert!(after.len() == before.len() && after.blocks() * 512 < data + data / 8, "{} blocks", after.blocks());
    assert!(to.pack() == archive);
}

#[test]
fn of_too_many_pieces_those_become_one_that_are_next_to_each_other() {
    const MIB: u64 = 1 << 20;
    let mut map = Map::of(8);
    for n in 0..7 {
        map.add(n * MIB, 10);
    }
    map.add(6 * MIB + 5000, 10);
    // The eighth; then the smallest hole goes.
    assert_eq!(
        map.end(7 * MIB),
        [0, 1, 2, 3, 4, 5].map(|n| (n * MIB, 10)).into_iter().chain([(6 * MIB, 5010), (7 * MIB, 0)]).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_left_out_is_left_out_with_all_below() {
    let from = Folders::new();
    for folder in ["node_modules/x", "src/node_modules", "data/cache", "src/data/cache", "logs"] {
        fs::create_dir_all(from.work().join(folder)).expect("made");
        fs::write(from.work().join(folder).join("f.tmp"), "").expect("written");
        fs::write(from.work().join(folder).join("f"), "").expect("written");
    }
    let (archive, _) = from.pack_without(&["node_modules/", "*.tmp", "/data/cache", "logs/**"]);
    assert_eq!(
        names(&archive),
        ["work/", "work/data/", "work/logs/", "work/src/", "work/src/data/", "work/src/data/cache/", "work/src/data/cache/f"]
    );
}

#[test]
fn a_state_that_leads_elsewhere_is_an_error_with_its_name() {
    for link in [".claude", STATE] {
        let from = Folders::new();
        let link = from.home().join(link);
        fs::create_dir_all(link.parent().expect("one")).expect("made");
        symlink(from.work(), &link).expect("linked");
        let state = [PathBuf::from(STATE)];
        let plan = Plan { work: &from.work(), home: &from.home(), state: &state, excludes: &Excludes::default() };
        let error = pack(&plan, io::sink()).expect_err("a link").to_string();
        assert!(error.starts_with("\"home/.claude") && error.contains(" is n"), "{error}");
    }
}

#[test]
fn thousands_of_folders_in_one_another_are_no_trouble() {
    const DEPTH: usize = 3000;
    let from = Folders::new();
    let mut place = Place::new(open(&from.work(), FOLDER, Mode::empty()).expect("open"), place::CHANGE, ()).expect("begun");
    let name = OsStr::new("deep");
    for _ in 0..DEPTH {
        nix::sys::stat::mkdirat(place.at(), name, Mode::S_IRWXU).expect("made");
        let entered = Entered::below(place.at(), name, place::CHANGE).expect("entered");
        place.down(name, entered, ());
    }
    place.leave();
    let archive = from.pack();
    let to = Folders::new();
    to.restore(&archive).expect("restored");
    assert!(to.pack() == archive);
    // The temporary folder's own end could not take it away.
    for folders in [&from, &to] {
        place::clear(&open(&folders.work(), FOLDER, Mode::empty()).expect("open")).expect("emptied");
        assert_eq!(fs::read_dir(folders.work()).expect("read").count(), 0);
    }
}

#[test]
fn a_hundred_thousand_files_go_through() {
    let from = Folders::new();
    for folder in 0..100 {
        let folder = from.work().join(format!("d{folder}"));
        fs::create_dir(&folder).expect("made");
        for file in 0..1000 {
            fs::write(folder.join(format!("f{file}")), "x").expect("written");
        }
    }
    let archive = from.pack();
    let to = Folders::new();
    to.restore(&archive).expect("restored");
    assert!(to.pack() == archive);
}

#[test]
fn files_that_change_meanwhile_do_not_break_the_archive() {
    let from = Folders::new();
    for n in 0..50 {
        fs::write(from.work().join(format!("f{n}")), vec![b'x'; 300_000]).expect("written");
    }
    let (done, work) = (AtomicBool::new(false), from.work());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..50).cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let path = work.join(format!("f{n}"));
                match n % 4 {
                    // Up to a size, as this goes round for as long as the packing takes.
                    0 if fs::metadata(&path).is_ok_and(|data| data.len() > 1 << 20) => {
                        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)).expect("cut");
                    }
                    0 => {
                        let mut file = OpenOptions::new().append(true).open(path).expect("open");
                        file.write_all(&[b'y'; 70_000]).expect("written");
                    }
                    1 => OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(n * 1000)).expect("cut"),
                    2 => {
                        // It may have gone in the round before.
                        let _gone = fs::remove_file(&path);
                        let _there = fs::create_dir(&path);
                    }
                    _ => {
                        let _gone = fs::remove_file(&path);
                        let _there = symlink("/etc/passwd", &path);
                    }
                }
            }
        });
        for _ in 0..10 {
            let archive = from.pack();
            let to = Folders::new();
            to.restore(&archive).expect("restored");
        }
        done.store(true, Ordering::Relaxed);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_tree_comes_back(items in prop::collection::vec(
        (prop::collection::vec(prop::collection::vec(1u8.., 1..40), 1..5), 0..4u8, 0..0o1000u32, prop::collection::vec(any::<u8>(), 0..2000), -9i64..4_000_000_000, 0..1_000_000_000i64),
        0..25,
    )) {
        let from = Folders::new();
        let mut made: Vec<PathBuf> = Vec::new();
        for (parts, kind, mode, content, seconds, nanos) in items {
            let mut path = from.work();
            for part in &parts {
                let part: Vec<u8> = part.iter().map(|byte| if *byte == b'/' { b'_' } else { *byte }).collect();
                path.push(OsStr::from_bytes(if part == b"." || part == b".." { b"_" } else { &part }));
            }
            if fs::create_dir_all(path.parent().expect("one")).is_err() || fs::symlink_metadata(&path).is_ok() {
                continue;
            }
            match kind {
                0 => fs::create_dir(&path).expect("made"),
                1 if content.first().is_some_and(|byte| *byte != 0) => {
                    let target: Vec<u8> = content.iter().copied().filter(|byte| *byte != 0).collect();
                    symlink(OsStr::from_bytes(&target), &path).expect("linked");
                }
                2 if !made.is_empty() => fs::hard_link(&made[content.len() % made.len()], &path).expect("linked"),
                _ => {
                    fs::write(&path, &content).expect("written");
                    made.push(path.clone());
                }
            }
            if kind != 1 {
                // Root reads it all the same; what others may not read is tested with a sandbox.
                set_mode(&path, mode | 0o700);
            }
            let time = nix::sys::time::TimeSpec::new(seconds, nanos);
            nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &path, &time, &time, nix::sys::stat::UtimensatFlags::NoFollowSymlink).expect("set");
        }
        let archive = from.pack();
        let to = Folders::new();
        to.restore(&archive).expect("restored");
        prop_assert_eq!(tree(&from.work()), tree(&to.work()));
        prop_assert!(to.pack() == archive);
    }
}
