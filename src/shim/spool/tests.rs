use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::segment::HEADER;
use super::*;
use crate::testing::small_disk;
use crate::wire::event::Kind;

const BOOT: Uuid = Uuid::from_u128(1);
/// Small enough that a few events pass every bound.
const SMALL: Limits = Limits { full: 6_000, segment: 1_500, window: 700, unflushed: usize::MAX, unwritten: 3_000 };

fn event(bytes: usize) -> Event {
    Event::new(None, Kind::Text, &"x".repeat(bytes))
}

fn read(record: &Record) -> ShimEvent {
    serde_json::from_slice(record.body()).expect("an event")
}

fn numbers(batch: Vec<&Record>) -> Vec<u64> {
    for record in &batch {
        assert_eq!(read(record).n, record.n);
    }
    batch.iter().map(|record| record.n).collect()
}

fn small(folder: &Path) -> Spool {
    Spool::open_with(folder, SMALL, BOOT)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// The files, oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("events")) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("read").path()).collect();
    files.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()).expect("a number"));
    files
}

fn bytes(folder: &Path) -> u64 {
    files(folder).iter().map(|path| path.metadata().expect("there").len()).sum()
}

/// What the daemon's store does with events that may come twice.
#[derive(Debug, Default)]
struct Store {
    incarnation: Uuid,
    through: u64,
    texts: Vec<String>,
}

impl Store {
    fn take(&mut self, incarnation: Uuid, events: &[ShimEvent]) {
        let Some(first) = events.first() else { return };
        if incarnation != self.incarnation {
            (self.incarnation, self.through) = (incarnation, 0);
        }
        assert!(first.n <= self.through + 1, "events {} to {} are missing", self.through + 1, first.n - 1);
        for (event, n) in events.iter().zip(first.n..) {
            assert_eq!(event.n, n);
            if n > self.through {
                self.through = n;
                self.texts.push(serde_json::from_str(event.data.get()).expect("a text"));
            }
        }
    }
}

#[test]
fn very_many_events_are_written_as_they_come() {
    let dir = folder();
    let mut spool = Spool::open_with(dir.path(), Limits { unflushed: 1_000, ..SMALL }, Uuid::from_u128(1));
    for n in 1..=50 {
        spool.push(0, event(100));
        assert!(spool.unwritten_bytes < 1_000, "{} bytes after {n}", spool.unwritten_bytes);
    }
    assert!(spool.written > 40);
    assert_eq!(numbers(spool.batch(0, 1_000))[..2], [1, 2]);
}

#[test]
fn events_are_numbered_without_gaps_and_kept_until_acknowledged() {
    let dir = folder();
    let mut spool = Spool::open(dir.path(), FULL);
    for _ in 0..5 {
        spool.push(0, event(1));
    }
    assert_eq!(numbers(spool.batch(0, 1 << 20)), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(spool.batch(3, 1 << 20)), [4, 5]);
    assert!(spool.has_after(4) && !spool.has_after(5));
    spool.ack(2);
    assert_eq!(numbers(spool.batch(0, 1 << 20)), [3, 4, 5]);
    assert_eq!(numbers(spool.batch(4, 1 << 20)), [5]);
    spool.ack(1);
    spool.ack(99);
    assert!(spool.is_empty() && !spool.has_after(0));
    assert_eq!(numbers(spool.batch(0, 1 << 20)), [0; 0]);
    spool.push(0, event(1));
    assert_eq!((numbers(spool.batch(5, 1 << 20)), spool.newest()), (vec![6], 6));
}

#[test]
fn a_batch_is_bounded_but_never_empty() {
    let dir = folder();
    let mut spool = Spool::open(dir.path(), FULL);
    for bytes in [1000, 10, 10, 10] {
        spool.push(0, event(bytes));
    }
    assert_eq!(numbers(spool.batch(0, 100)), [1]);
    assert_eq!(numbers(spool.batch(1, 400)), [2, 3]);
    assert_eq!(numbers(spool.batch(3, 1 << 20)), [4]);
    assert!(spool.batch(4, 100).is_empty());
}

#[test]
fn memory_holds_a_window_and_the_disk_the_rest_up_to_its_bound() {
    let dir = folder();
    let mut spool = Spool::open(dir.path(), 8 << 20);
    while !spool.is_full() {
        spool.push(0, event(100 << 10));
        spool.flush();
        assert!(spool.window_bytes < 2 << 20 && spool.tail.capacity() == 0);
    }
    assert!(bytes(dir.path()) >= 8 << 20);
    spool.push(0, event(1));
    let newest = spool.newest();
    assert_eq!(spool.batch(0, usize::MAX).len(), 11, "no more than a window is under way");
    let mut sent = 0;
    while let Some(last) = numbers(spool.batch(sent, 256 << 10)).last() {
        assert!(spool.window_bytes < 2 << 20);
        spool.ack(*last);
        sent = *last;
    }
    assert_eq!((sent, spool.is_empty(), spool.is_full()), (newest, true, false));
    assert_eq!((bytes(dir.path()), files(dir.path()).len()), (HEADER, 1));
    assert_eq!((spool.window.capacity(), spool.tail.capacity()), (0, 0), "an idle shim holds nothing");
}

#[test]
fn an_event_larger_than_the_window_passes_alone() {
    let dir = folder();
    let mut spool = small(dir.path());
    for bytes in [500, 500, 100_000, 10, 10] {
        spool.push(0, event(bytes));
        spool.flush();
    }
    let mut spool = small(dir.path());
    let mut seen = Vec::new();
    while let [first, ..] = numbers(spool.batch(0, 1000))[..] {
        seen.push(first);
        spool.ack(first);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[test]
fn another_life_goes_on_where_the_one_before_ended() {
    let dir = folder();
    let mut spool = small(dir.path());
    assert!(files(dir.path()).is_empty(), "nothing is made before there is something to keep");
    let incarnation = spool.incarnation();
    for _ in 0..20 {
        spool.push(7, event(100));
    }
    spool.flush();
    spool.ack(3);
    spool.push(8, event(100));
    drop(spool);
    let mut spool = small(dir.path());
    assert_eq!((spool.incarnation(), spool.newest()), (incarnation, 20), "the last one was not written yet");
    let first = spool.batch(0, 1).first().map(|record| read(record)).expect("one");
    assert!(first.n <= 4, "what was not acknowledged is there");
    assert_eq!((first.at, first.data.get().len()), (7, 102));
    spool.ack(20);
    drop(spool);
    let mut spool = small(dir.path());
    assert_eq!((spool.incarnation(), spool.newest(), spool.is_empty()), (incarnation, 20, true));
    assert_eq!(bytes(dir.path()), HEADER);
    spool.push(0, event(1));
    assert_eq!(numbers(spool.batch(0, 1)), [21]);
}

#[test]
fn an_end_that_is_cut_off_at_any_byte_costs_the_last_event_only() {
    let source = folder();
    let mut spool = small(source.path());
    let incarnation = spool.incarnation();
    for _ in 0..3 {
        spool.push(0, event(10));
        spool.flush();
    }
    let whole = fs::read(&files(source.path())[0]).expect("read");
    let record = (whole.len() - HEADER as usize) / 3;
    for cut in 1..=record {
        for filler in [0, 40] {
            let dir = folder();
            fs::create_dir(dir.path().join("events")).expect("made");
            let mut bytes = whole[..whole.len() - cut].to_vec();
            // After a power cut, the room of what was not written may be there as zeros.
            if cut == record {
                bytes.resize(bytes.len() + filler, 0);
            }
            fs::write(dir.path().join("events/1"), bytes).expect("written");
            let mut spool = small(dir.path());
            assert_eq!((spool.incarnation(), spool.newest()), (incarnation, 2), "{cut} bytes");
            spool.push(0, event(10));
            assert_eq!(numbers(spool.batch(0, 1000)), [1, 2, 3]);
            drop(spool);
            assert_eq!(small(dir.path()).newest(), 3);
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_never_gives_wrong_events() {
    let source = folder();
    let limits = Limits { segment: 300, ..SMALL };
    let mut spool = Spool::open_with(source.path(), limits, BOOT);
    let incarnation = spool.incarnation();
    for _ in 0..5 {
        spool.push(0, event(20));
        spool.flush();
    }
    let paths = files(source.path());
    assert_eq!(paths.len(), 2);
    // With its checksum, which only it can contradict.
    let last_body = 4 + 20 + br#"{"n":5,"at":0,"turn":null,"kind":"text","data":""}"#.len() as u64;
    for (i, path) in paths.iter().enumerate() {
        let whole = fs::read(path).expect("read");
        for at in 0..whole.len() {
            let dir = folder();
            fs::create_dir(dir.path().join("events")).expect("made");
            for (j, path) in paths.iter().enumerate() {
                let mut bytes = fs::read(path).expect("read");
                if i == j {
                    bytes[at] ^= 0x20;
                }
                fs::write(dir.path().join("events").join((j + 1).to_string()), bytes).expect("written");
            }
            let mut spool = small(dir.path());
            if i == 1 && at as u64 >= whole.len() as u64 - last_body {
                assert_eq!((spool.incarnation(), spool.newest()), (incarnation, 4), "byte {at} of {path:?}");
            } else {
                assert_ne!(spool.incarnation(), incarnation, "byte {at} of {path:?}");
                assert_eq!((spool.newest(), spool.is_empty()), (0, true));
                assert!(dir.path().join("damaged/1").exists() && files(dir.path()).is_empty());
                spool.push(0, event(1));
                assert_eq!(numbers(spool.batch(0, 1)), [1]);
            }
        }
    }
}

#[test]
fn what_can_not_be_read_is_set_aside_once() {
    let dir = folder();
    let mut newer = [0; 100];
    newer[..8].copy_from_slice(b"ashspool");
    newer[8] = 2;
    let last = u64::MAX.to_string();
    let foreign: [(&str, &[u8]); 6] = [
        ("1", &[b'x'; 100]),
        ("1", &newer),
        ("note.txt", b"hello"),
        ("7", &[0; 200]),
        (&last, b""),
        ("18446744073709551614", &newer),
    ];
    for (name, content) in foreign {
        fs::create_dir_all(dir.path().join("events")).expect("made");
        fs::write(dir.path().join("events").join(name), content).expect("written");
        let mut spool = small(dir.path());
        spool.push(0, event(1));
        spool.flush();
        assert!(!spool.is_failing());
        assert_eq!(fs::read_dir(dir.path().join("damaged")).expect("there").count(), 1, "{name}");
        assert_eq!(fs::read(dir.path().join("damaged").join(name)).expect("kept"), content);
        fs::remove_dir_all(dir.path().join("events")).expect("removed");
    }
}

#[test]
fn something_else_in_the_place_of_the_folder_is_set_aside_again_and_again() {
    let dir = folder();
    let events = dir.path().join("events");
    let file = |path: &Path| fs::write(path, "x");
    let pipe = |path: &Path| Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?);
    for (i, is_pipe) in [false, false, true, false].into_iter().enumerate() {
        let put: io::Result<()> = if is_pipe { pipe(&events) } else { file(&events) };
        put.expect("put there");
        let mut spool = small(dir.path());
        spool.push(0, event(1));
        spool.flush();
        spool.retry();
        assert!(!spool.is_failing(), "the {i}th");
        drop(spool);
        assert_eq!(small(dir.path()).newest(), 1, "the {i}th");
        fs::remove_dir_all(&events).expect("removed");
    }
}

#[test]
fn a_file_that_was_never_finished_is_none() {
    let dir = folder();
    let mut spool = small(dir.path());
    let incarnation = spool.incarnation();
    spool.push(0, event(10));
    spool.flush();
    drop(spool);
    fs::write(dir.path().join("events/2"), b"ashsp").expect("written");
    let mut spool = small(dir.path());
    assert_eq!((spool.incarnation(), spool.newest(), files(dir.path()).len()), (incarnation, 1, 1));
    spool.ack(1);
    drop(spool);
    fs::write(dir.path().join("events/1"), b"").expect("written");
    assert_ne!(small(dir.path()).incarnation(), incarnation, "nothing says which it was");
    assert!(!dir.path().join("damaged").exists());
}

#[test]
fn a_death_while_the_file_is_begun_anew_loses_no_number() {
    let dir = folder();
    let mut spool = small(dir.path());
    let incarnation = spool.incarnation();
    for _ in 0..3 {
        spool.push(0, event(10));
    }
    spool.flush();
    let path = files(dir.path()).pop().expect("one");
    let before = fs::read(&path).expect("read");
    spool.ack(3);
    // The new header is there, the records still are, too.
    let mut between = fs::read(&path).expect("read");
    between.extend_from_slice(&before[between.len()..]);
    fs::write(&path, between).expect("written");
    let mut spool = small(dir.path());
    assert_eq!((spool.incarnation(), spool.newest(), spool.is_empty()), (incarnation, 3, true));
    spool.push(0, event(10));
    spool.flush();
    let mut spool = small(dir.path());
    assert_eq!(numbers(spool.batch(0, 1000)), [4]);
}

#[test]
fn after_a_boot_only_what_waits_keeps_its_incarnation() {
    let dir = folder();
    let boot = Uuid::from_u128(2);
    let mut spool = small(dir.path());
    let incarnation = spool.incarnation();
    spool.push(0, event(10));
    spool.flush();
    let mut spool = Spool::open_with(dir.path(), SMALL, boot);
    assert_eq!((spool.incarnation(), numbers(spool.batch(0, 1))), (incarnation, vec![1]));
    spool.ack(1);
    assert_eq!(Spool::open_with(dir.path(), SMALL, boot).incarnation(), incarnation);
    let spool = small(dir.path());
    assert_ne!(spool.incarnation(), incarnation, "its numbers are not certain");
    assert_eq!(spool.newest(), 0);
}

#[test]
fn the_daemon_may_know_of_more_than_an_earlier_life_left() {
    let dir = folder();
    let mut spool = small(dir.path());
    spool.push(0, event(10));
    spool.flush();
    spool.ack(99);
    assert_eq!(spool.newest(), 1, "not in the life that numbered them");
    spool.push(0, event(10));
    spool.flush();
    let mut spool = small(dir.path());
    spool.ack(5);
    assert_eq!((spool.newest(), spool.is_empty()), (5, true));
    assert_eq!(small(dir.path()).newest(), 5);
    spool.push(0, event(10));
    spool.ack(9);
    assert_eq!(spool.newest(), 6);
}

#[test]
fn what_can_not_be_read_back_ends_the_incarnation_and_nothing_else() {
    let dir = folder();
    let mut spool = small(dir.path());
    let incarnation = spool.incarnation();
    for n in 0..10 {
        spool.push(n, event(200));
        spool.flush();
    }
    for path in files(dir.path()) {
        let file = File::options().write(true).open(path).expect("opened");
        file.write_all_at(&[0xff; 8], HEADER + 20 + 70).expect("damaged");
    }
    let window = numbers(spool.batch(0, 10_000));
    assert_eq!(window, [1, 2, 3], "what is in memory goes out");
    spool.ack(2);
    spool.push(10, event(10));
    spool.push(11, event(10));
    assert_eq!((spool.incarnation(), numbers(spool.batch(2, 10_000))), (incarnation, vec![3]));
    spool.ack(3);
    assert_ne!(spool.incarnation(), incarnation);
    let batch = spool.batch(0, 10_000);
    assert_eq!(batch.iter().map(|record| (record.n, read(record).at)).collect::<Vec<_>>(), [(1, 10), (2, 11)]);
    let incarnation = spool.incarnation();
    assert!(dir.path().join("damaged/1").exists());
    drop(spool);
    let spool = small(dir.path());
    assert_eq!((spool.incarnation(), spool.newest()), (incarnation, 2));
}

#[test]
fn without_its_folder_events_stay_in_memory_until_it_is_there() {
    let dir = folder();
    let path = dir.path().join("spool");
    let mut spool = small(&path);
    let mut count = 0;
    while !spool.is_full() {
        spool.push(0, event(100));
        spool.flush();
        count += 1;
    }
    assert!(spool.is_failing() && spool.unwritten_bytes >= SMALL.unwritten && count > 10);
    assert_eq!(numbers(spool.batch(0, 1)), [1], "delivery goes on");
    spool.ack(1);
    spool.retry();
    assert!(spool.is_failing());
    fs::create_dir(&path).expect("made");
    spool.retry();
    assert!(!spool.is_failing() && !spool.is_full());
    let mut spool = small(&path);
    assert_eq!((spool.newest(), numbers(spool.batch(0, 1))), (count, vec![2]));
}

/// What happens to a spool.
#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Flush,
    /// The store takes a batch of about so many bytes.
    Deliver(usize),
    /// The daemon acknowledges what it stored.
    Ack,
    /// The daemon connects again.
    Connect,
    /// The shim is killed, and there is another.
    Kill,
    /// The shim is killed in the middle of a write, so many bytes before its end.
    KillInWrite(usize),
    /// Somebody else takes all room on the disk.
    Fill,
    /// And gives it back.
    Free,
    Retry,
}

/// A spool, its daemon, and what should have come out in the end.
struct World {
    folder: PathBuf,
    spool: Spool,
    store: Store,
    sent: u64,
    said: Vec<String>,
    /// How much of it was said in earlier incarnations.
    base: usize,
    /// What makes each text another.
    count: usize,
}

impl World {
    fn new(folder: PathBuf) -> Self {
        Self { spool: small(&folder), folder, store: Store::default(), sent: 0, said: Vec::new(), base: 0, count: 0 }
    }

    fn push(&mut self, bytes: usize) {
        self.count += 1;
        let text = format!("{}{}", self.count, "x".repeat(bytes));
        self.spool.push(0, Event::new(None, Kind::Text, &text));
        self.said.push(text);
    }

    fn deliver(&mut self, bytes: usize) -> usize {
        let incarnation = self.spool.incarnation();
        let events: Vec<_> = self.spool.batch(self.sent, bytes).into_iter().map(read).collect();
        self.store.take(incarnation, &events);
        self.sent = events.last().map_or(self.sent, |last| last.n);
        events.len()
    }

    fn connect(&mut self) {
        self.sent = 0;
        self.ack();
    }

    fn ack(&mut self) {
        // A connection hears of one incarnation only.
        if self.store.incarnation == self.spool.incarnation() {
            self.spool.ack(self.store.through);
        }
    }

    fn kill(&mut self) {
        let incarnation = self.spool.incarnation();
        let stored = if self.store.incarnation == incarnation { self.store.through } else { 0 };
        let on_disk = self.spool.disk.range().1 - 1;
        // The daemon may have what never came to the disk. What neither has is gone with the process.
        self.said.truncate(self.base + usize::try_from(stored.max(on_disk)).expect("fits"));
        let has_file = !files(&self.folder).is_empty();
        self.spool = small(&self.folder);
        if has_file {
            assert_eq!(self.spool.incarnation(), incarnation);
        } else {
            self.base = self.said.len();
        }
        self.connect();
    }

    fn kill_in_write(&mut self, cut: usize) {
        self.spool.flush();
        let (before, length) = (bytes(&self.folder), files(&self.folder).len());
        self.push(50);
        self.spool.flush();
        let after = bytes(&self.folder);
        if self.spool.is_failing() || files(&self.folder).len() != length {
            return self.kill();
        }
        let path = files(&self.folder).pop().expect("one");
        let size = path.metadata().expect("there").len();
        let kept = (size - cut as u64 % (after - before)).max(size - (after - before) + 1) - 1;
        File::options().write(true).open(path).expect("opened").set_len(kept).expect("cut");
        self.said.pop();
        self.kill();
    }

    fn perform(&mut self, step: &Step) {
        match *step {
            Step::Push(bytes) => self.push(bytes),
            Step::Flush => self.spool.flush(),
            Step::Deliver(bytes) => {
                self.deliver(bytes);
            }
            Step::Ack => self.ack(),
            Step::Connect => self.connect(),
            Step::Kill => self.kill(),
            Step::KillInWrite(cut) => self.kill_in_write(cut),
            Step::Fill => {
                let ballast = File::options().create(true).append(true).open(self.folder.join("ballast")).expect("made");
                let mut at = ballast.metadata().expect("there").len();
                while ballast.write_all_at(&[1; 512], at).is_ok() {
                    at += 512;
                }
            }
            Step::Free => match fs::remove_file(self.folder.join("ballast")) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            },
            Step::Retry => self.spool.retry(),
        }
        assert!(self.spool.window_bytes < SMALL.window + 1_300);
        assert_eq!(self.spool.newest(), (self.said.len() - self.base) as u64);
    }

    /// Everything that was said has come out once and in order, and nothing of it stays.
    fn finish(mut self) {
        self.perform(&Step::Free);
        self.spool.retry();
        assert!(!self.spool.is_failing());
        self.connect();
        while self.deliver(500) > 0 {
            self.spool.ack(self.store.through);
        }
        assert_eq!(self.store.texts, self.said);
        assert!(self.spool.is_empty());
        assert!(bytes(&self.folder) <= HEADER);
        let (incarnation, newest) = (self.spool.incarnation(), self.spool.newest());
        let spool = small(&self.folder);
        if newest > 0 {
            assert_eq!((spool.incarnation(), spool.newest(), spool.is_empty()), (incarnation, newest, true));
        }
    }
}

fn steps(with_full_disk: bool) -> impl Strategy<Value = Vec<Step>> {
    let usual = prop_oneof![
        6 => (0..400_usize).prop_map(Step::Push),
        1 => (900..1_100_usize).prop_map(Step::Push),
        4 => Just(Step::Flush),
        4 => (1..2_000_usize).prop_map(Step::Deliver),
        3 => Just(Step::Ack),
        1 => Just(Step::Connect),
        1 => Just(Step::Kill),
        1 => any::<usize>().prop_map(Step::KillInWrite),
    ];
    let full = prop_oneof![Just(Step::Fill), Just(Step::Free), Just(Step::Retry)];
    prop::collection::vec(prop_oneof![12 => usual, u32::from(with_full_disk) * 4 => full], 1..120)
}

proptest! {
    #[test]
    fn what_comes_out_is_what_went_in_once_and_in_order(steps in steps(false)) {
        let dir = folder();
        let mut world = World::new(dir.path().to_owned());
        for step in &steps {
            world.perform(step);
            prop_assert!(!world.spool.is_failing());
        }
        world.finish();
    }
}

#[test]
fn a_full_disk_at_any_time_loses_nothing() {
    let Some(disk) = small_disk(64 << 10) else { return };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { failure_persistence: None, ..Default::default() });
    let result = runner.run(&steps(true), |steps| {
        let folder = tempfile::tempdir_in(disk.path()).expect("temporary folder");
        let mut world = World::new(folder.path().to_owned());
        for step in &steps {
            world.perform(step);
        }
        world.finish();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
