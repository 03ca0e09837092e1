use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

const MIB: u64 = 1 << 20;

fn taken(folder: &Path, most: Option<Taken>) -> Taken {
    let mut taken = Taken::default();
    walk::add(
        folder.parent().expect("a parent"),
        folder.file_name().and_then(|name| name.to_str()).expect("text"),
        most,
        &mut taken,
    )
    .expect("looked at");
    taken
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("made");
    (dir, root)
}

fn blocks(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("there").blocks() * 512
}

fn fill(path: &Path, bytes: u64) {
    let mut file = File::create(path).expect("created");
    file.write_all(&vec![7; usize::try_from(bytes).expect("fits")]).expect("written");
    file.sync_all().expect("synced");
}

#[test]
fn blocks_count_and_not_sizes_and_a_file_with_several_names_once() {
    let (_dir, root) = folder();
    fill(&root.join("real"), MIB);
    File::create(root.join("sparse")).and_then(|file| file.set_len(1 << 40)).expect("a file with holes");
    fs::create_dir(root.join("below")).expect("made");
    for name in ["again", "below/and again"] {
        fs::hard_link(root.join("real"), root.join(name)).expect("linked");
    }
    fs::create_dir(root.join("elsewhere")).expect("made");
    symlink("/", root.join("elsewhere/link")).expect("linked");
    let all = taken(&root, None);
    assert_eq!(all.files, 8, "root, three names, what has holes, two folders, the link");
    let wanted = blocks(&root.join("real"))
        + [&root, &root.join("below"), &root.join("elsewhere")].map(|path| blocks(path)).iter().sum::<u64>();
    let more = all.bytes - wanted;
    assert!(wanted >= MIB && more < 64 << 10, "{all:?}, {wanted} without the small ones");
}

#[test]
fn what_is_closed_deep_or_unusual_is_counted_and_stays_as_it_is() {
    let (_dir, root) = folder();
    let closed = root.join("closed");
    fs::create_dir(&closed).expect("made");
    fill(&closed.join("big"), MIB);
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("closed");
    // Deeper than any path that the kernel takes.
    let mut at = nix::fcntl::open(&root, nix::fcntl::OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty()).expect("opened");
    for _ in 0..3000 {
        nix::sys::stat::mkdirat(&at, "deep", nix::sys::stat::Mode::S_IRWXU).expect("made");
        at = nix::fcntl::openat(&at, "deep", nix::fcntl::OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty()).expect("entered");
    }
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    fs::write(root.join(std::ffi::OsStr::new("new\nline")), "").expect("written");
    let all = taken(&root, None);
    assert_eq!(all.files, 1 + 2 + 3000 + 2);
    assert!(all.bytes >= MIB, "{all:?}");
    assert_eq!(fs::metadata(&closed).expect("there").mode() & 0o7777, 0);
    drop(at);
}

#[test]
fn folders_that_move_while_they_are_looked_at_cost_no_more_than_the_way_back() {
    let (_dir, root) = folder();
    let deep = (0..200).fold(root.clone(), |at, _| at.join("d"));
    fs::create_dir_all(&deep).expect("made");
    fill(&root.join("last"), MIB);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (here, there) = (root.join("d/d/d"), root.join("away"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // One of both is there.
                let _moved = fs::rename(&here, &there);
                let _back = fs::rename(&there, &here);
            }
        });
        for _ in 0..200 {
            assert!(taken(&root, None).bytes >= MIB, "what stays is counted");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(taken(&root, None).files, 202);
}

#[test]
fn a_look_ends_where_it_is_too_much() {
    let (_dir, root) = folder();
    for name in 0..3000 {
        fs::create_dir(root.join(name.to_string())).expect("made");
    }
    let most = Taken { bytes: u64::MAX, files: 100 };
    assert_eq!(taken(&root, Some(most)).files, 101);
    assert_eq!(taken(&root, None).files, 3001);
}

#[test]
fn a_file_without_a_name_counts_while_a_process_has_it_open() {
    let (_dir, root) = folder();
    let path = root.join("gone");
    fill(&path, MIB);
    let device = fs::metadata(&path).expect("there").dev();
    let file = File::open(&path).expect("opened");
    let mut child = std::process::Command::new("/bin/cat");
    let mut child = child.stdin(file).stdout(std::process::Stdio::piped()).spawn().expect("started");
    let child_id = child.id();
    // Only of this one, as other tests start others.
    let held = || held::bytes_of([child_id], device).expect("few are open") / MIB;
    assert_eq!(held(), 0, "it has a name");
    // It waits for somebody to read.
    fs::remove_file(&path).expect("removed");
    assert_eq!(held(), 1);
    assert!(held::bytes(device).is_some_and(|all| all >= MIB), "it is below this process");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(held(), 0);
}

fn at(files: u64, mib: u64) -> Taken {
    Taken { bytes: mib * MIB, files }
}

/// A watch of 100 MiB and 1000 files, that does not look by itself.
fn watch() -> Watch {
    Watch { limit: Some(at(1000, 100)), ..Watch::new() }
}

fn found(taken: Taken, filled: Taken, began: Instant, took: Duration) -> Found {
    let filled = Some(Filled { bytes: filled.bytes, files: Some(filled.files) });
    Found { taken, is_whole: true, is_all: true, filled, began, ended: began + took }
}

#[tokio::test]
async fn files_are_looked_through_only_where_it_may_be_too_much_and_never_for_long() {
    let now = Instant::now();
    let filled = |files, mib| Some(Filled { bytes: mib * MIB, files: Some(files) });
    let mut watch = watch();
    assert!(watch.is_due(now, Work::Busy, filled(50_000, 5000)), "the first look");
    let took = Duration::from_millis(200);
    assert_eq!(watch.found(found(at(10, 10), at(50_000, 5000), now, took)), Verdict::Fine);
    let later = |millis| now + took + Duration::from_millis(millis);
    assert!(!watch.is_due(later(2000), Work::Busy, filled(50_000, 5000)));
    assert!(
        !watch.is_due(later(2000), Work::Busy, filled(50_900, 5090)),
        "even if all of it were ours, it would not be too much"
    );
    assert!(watch.is_due(later(2000), Work::Busy, filled(50_000, 5091)));
    assert!(watch.is_due(later(2000), Work::Busy, filled(50_991, 5000)), "files count, too");
    assert!(!watch.is_due(later(999), Work::Busy, filled(60_000, 6000)), "a look that takes long comes seldom");
    assert!(watch.is_due(later(10_000), Work::Busy, filled(0, 0)), "others may have freed what we took");
    assert!(!watch.is_due(later(10_000), Work::Idle, filled(0, 0)));
    assert!(watch.is_due(later(60_000), Work::Idle, filled(0, 0)));
    let unknown = |mib| Some(Filled { bytes: mib * MIB, files: None });
    assert!(!watch.is_due(later(1_999), Work::Busy, unknown(5000)) && watch.is_due(later(2_000), Work::Busy, unknown(5000)));
    assert!(watch.is_due(later(1_000), Work::Busy, unknown(5091)), "bytes are counted everywhere");
    // While all of it is packed there is a look where there may be too much, and otherwise none.
    for long_later in [filled(50_900, 5090), unknown(5090)] {
        assert!(!watch.is_due(later(600_000), Work::Packing, long_later));
    }
    assert!(watch.is_due(later(1_000), Work::Packing, filled(50_000, 5091)));
    assert!(watch.is_due(later(1_000), Work::Packing, unknown(5091)));
}

#[tokio::test]
async fn over_the_limit_others_may_run_as_long_as_they_take_no_more() {
    let now = Instant::now();
    let mut watch = watch();
    let see = |watch: &mut Watch, taken| watch.found(found(taken, taken, now, Duration::ZERO));
    assert_eq!(see(&mut watch, at(1000, 100)), Verdict::Fine, "all of it is no more than all of it");
    assert_eq!(see(&mut watch, at(10, 101)), Verdict::TooMuch);
    assert_eq!(watch.most(), None, "how much it is has to be known");
    assert_eq!(see(&mut watch, at(10, 130)), Verdict::StillOver(false), "it is more than when it was found out");
    assert_eq!(see(&mut watch, at(10, 133)), Verdict::StillOver(false), "within the slack");
    assert_eq!(see(&mut watch, at(10, 120)), Verdict::StillOver(false));
    assert_eq!(see(&mut watch, at(10, 125)), Verdict::TooMuch, "what was freed is not taken again");
    assert_eq!(see(&mut watch, at(10, 125)), Verdict::StillOver(false));
    assert!(!watch.is_far_over());
    for (mib, verdict) in [(1000, Verdict::TooMuch), (1000, Verdict::StillOver(false)), (2200, Verdict::TooMuch)] {
        assert_eq!((see(&mut watch, at(10, mib)), watch.is_far_over()), (verdict, false));
    }
    assert_eq!((see(&mut watch, at(10, 2200)), watch.is_far_over()), (Verdict::StillOver(false), true), "it grew step by step");
    assert_eq!(see(&mut watch, at(10, 99)), Verdict::Fine);
    assert!(!watch.is_over() && !watch.is_far_over());
    assert_eq!(see(&mut watch, at(1001, 1)), Verdict::TooMuch);
    assert!(watch.cause(at(1001, 1)).starts_with("disk: workspace and HOME have more than the 1000 files"));
    assert!(watch.cause(at(1, 101)).starts_with("disk: workspace and HOME take more than the 100 MiB"));
}

#[tokio::test]
async fn a_turn_is_refused_by_a_look_that_began_behind_it_alone() {
    let now = Instant::now();
    let mut watch = watch();
    let see = |watch: &mut Watch, began| watch.found(found(at(1, 200), at(1, 200), began, Duration::ZERO));
    see(&mut watch, now);
    watch.want(now + Duration::from_secs(2));
    assert_eq!(see(&mut watch, now + Duration::from_secs(1)), Verdict::StillOver(false));
    assert_eq!(see(&mut watch, now + Duration::from_secs(3)), Verdict::StillOver(true));
    assert_eq!(see(&mut watch, now + Duration::from_secs(4)), Verdict::StillOver(false), "nobody waits any more");
}

#[tokio::test]
async fn nothing_is_measured_until_what_was_too_much_is_killed() {
    let (_dir, root) = folder();
    let (to, mut measured) = mpsc::channel(4);
    let mut watch = watch();
    watch.begin(&root, &to).expect("a thread");
    assert!(watch.next(Work::Busy).is_some());
    watch.ending();
    let now = Instant::now();
    watch.want(now);
    watch.tick(now, Work::Busy, None);
    assert!(watch.next(Work::Busy).is_none() && !watch.is_looking);
    assert!(watch.measure(), "it will be");
    watch.ended();
    assert!(watch.is_looking);
    assert!(matches!(measured.recv().await, Some(Input::Measured(found)) if found.began >= now));
}

#[tokio::test]
async fn a_limit_that_is_raised_counts_at_once_and_one_that_is_lowered_is_looked_at() {
    let now = Instant::now();
    let mut watch = watch();
    for _ in 0..2 {
        watch.found(found(at(1, 200), at(1, 200), now, Duration::ZERO));
    }
    assert!(watch.is_over());
    watch.limit(Some(at(1000, 300)));
    assert!(!watch.is_over());
    watch.limit(Some(at(1000, 150)));
    assert!(watch.is_due(now, Work::Idle, None));
    watch.limit(None);
    assert_eq!((watch.is_over(), watch.next(Work::Busy)), (false, None));
}

#[tokio::test]
async fn a_look_that_failed_says_nothing_and_a_turn_is_not_given_for_it() {
    let now = Instant::now();
    let mut watch = watch();
    let failed = |began| Found { is_whole: false, ..found(at(0, 0), at(0, 0), began, Duration::ZERO) };
    assert_eq!(watch.found(failed(now)), Verdict::Fine);
    assert!(watch.is_due(now, Work::Busy, None), "as if there had been none");
    for _ in 0..2 {
        watch.found(found(at(1, 200), at(1, 200), now, Duration::ZERO));
    }
    watch.want(now);
    assert_eq!(watch.found(failed(now)), Verdict::StillOver(true));
    assert!(watch.is_over());
    watch.limit(Some(at(1000, 300)));
    let verdicts: Vec<_> = (0..10).map(|_| watch.found(failed(now))).collect();
    let ends: Vec<_> = (1..=10).filter(|look| verdicts[look - 1] == Verdict::TooMuch).collect();
    assert_eq!(ends.len(), 2, "who sees to it that nobody can look is ended: {verdicts:?}");
    assert!(watch.cause(at(0, 0)).starts_with("disk: what workspace and HOME take can not be measured"));
    let (_dir, root) = folder();
    assert!(!look(&root, None).is_whole, "there is nothing");
    FOLDERS.iter().for_each(|name| fs::create_dir(root.join(name)).expect("made"));
    assert!(look(&root, None).is_whole && look(&root, None).taken.files == 2);
    assert_eq!(look(&root, Some(at(2, 1))).seen(), Seen::All(look(&root, None).taken));
    assert_eq!(look(&root, Some(at(1, 1))).seen(), Seen::Part, "a look that ended early");
    assert_eq!(failed(now).seen(), Seen::Unknown);
}
