//! Damage, lies, faults of the disk, and death at every step.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::snapshot::file::Folder;
use crate::snapshot::format::seal;
use crate::snapshot::location::{Draft, Location, Object, Parts};
use crate::testing::small_disk;

/// A snapshot in a folder, and what is in it.
struct World {
    dir: TempDir,
    snapshots: Snapshots,
    id: SnapshotId,
    tar: Vec<u8>,
    manifest: Manifest,
}

impl World {
    async fn new(content: &[u8]) -> Self {
        let dir = folder();
        let snapshots = open_at(dir.path()).await;
        let id = SnapshotId { session: new_session(), event: 5 };
        let tar = tar(content);
        let manifest = write(&snapshots, id, &tar).await.expect("written");
        Self { dir, snapshots, id, tar, manifest }
    }

    fn path(&self, part: &str) -> PathBuf {
        path_of(self.dir.path(), self.id).join(part)
    }

    fn put(&self, part: &str, bytes: &[u8]) {
        fs::write(self.path(part), bytes).expect("written");
    }

    /// Writes a manifest that is right in itself, with one thing in it changed.
    fn lie(&self, field: &str, value: serde_json::Value) {
        let mut json = serde_json::to_value(&self.manifest).expect("JSON");
        json[field] = value;
        let mut text = json.to_string();
        text.pop();
        self.put("manifest.json", seal(text).as_bytes());
    }

    /// Makes the data this, with a manifest that knows it.
    fn replace_data(&self, data: &[u8]) {
        use sha2::{Digest as _, Sha256};
        let sum = format::Checksum::of(Sha256::new_with_prefix(data));
        let manifest = Manifest { stored_bytes: data.len() as u64, stored_sha256: sum, ..self.manifest.clone() };
        self.put("manifest.json", &manifest.encode().expect("small"));
        self.put("data.tar.zst", data);
    }

    /// It is refused before anything of it is handed out, is not copied, and is not the newest.
    async fn refused(&self) -> Damage {
        let damage = damage(self.snapshots.read(self.id).await);
        assert_eq!(super::damage(self.snapshots.copy(self.id, SnapshotId { event: 6, ..self.id }).await), damage);
        assert!(self.snapshots.newest(self.id.session).await.expect("looked").is_none());
        assert_eq!(self.snapshots.list(self.id.session).await.expect("listed").len(), 1, "a failed copy leaves nothing");
        damage
    }

    async fn state(&self) -> Result<Manifest, SnapshotError> {
        self.snapshots.list(self.id.session).await.expect("listed").remove(0).state
    }
}

#[tokio::test]
async fn a_part_that_is_cut_off_at_any_byte_is_refused() {
    let world = World::new(&noise(3, 300)).await;
    for part in ["manifest.json", "data.tar.zst"] {
        let whole = fs::read(world.path(part)).expect("reads");
        for bytes in 0..whole.len() {
            world.put(part, &whole[..bytes]);
            damage(world.snapshots.read(world.id).await);
            damage(world.state().await);
        }
        world.put(part, &[&whole[..], b"\0"].concat());
        world.refused().await;
        world.put(part, &whole);
    }
    assert!(read(&world.snapshots, world.id).await.expect("whole again") == world.tar);
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_refused() {
    let world = World::new(&noise(3, 300)).await;
    for part in ["manifest.json", "data.tar.zst"] {
        let whole = fs::read(world.path(part)).expect("reads");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            world.put(part, &bytes);
            damage(world.snapshots.read(world.id).await);
        }
        world.put(part, &whole);
    }
    assert!(read(&world.snapshots, world.id).await.expect("whole again") == world.tar);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_of_a_large_one_are_refused(at in any::<prop::sample::Index>(), by in 1..=255_u8, in_data: bool) {
        runtime().block_on(async {
            let world = World::new(&noise(4, 200_000)).await;
            let path = world.path(if in_data { "data.tar.zst" } else { "manifest.json" });
            let mut bytes = fs::read(&path).expect("reads");
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            fs::write(&path, bytes).expect("written");
            world.refused().await;
        });
    }
}

#[tokio::test]
async fn missing_and_foreign_parts_are_told() {
    for part in ["manifest.json", "data.tar.zst"] {
        let world = World::new(b"x").await;
        fs::rename(world.path(part), world.path("other")).expect("renamed");
        assert_eq!(world.refused().await, Damage::Missing(part));
        fs::create_dir(world.path(part)).expect("made");
        assert_eq!(world.refused().await, Damage::NotAFile(part));
        fs::remove_dir(world.path(part)).expect("removed");
        symlink("other", world.path(part)).expect("linked");
        assert_eq!(world.refused().await, Damage::NotAFile(part));
        fs::remove_file(world.path(part)).expect("removed");
        // Nobody writes to it, and opening does not wait for that.
        nix::unistd::mkfifo(&world.path(part), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(world.refused().await, Damage::NotAFile(part));
        let _socket = fs::remove_file(world.path(part)).map(|()| std::os::unix::net::UnixListener::bind(world.path(part)));
        assert_eq!(world.refused().await, Damage::NotAFile(part));
        world.snapshots.usage(world.id.session).await.expect("counted");
        world.snapshots.remove(world.id).await.expect("damaged ones can be removed");
        assert!(world.snapshots.sessions().await.expect("listed").is_empty());
    }
    let world = World::new(b"x").await;
    fs::remove_dir_all(world.path("")).expect("removed");
    fs::write(path_of(world.dir.path(), world.id), "a file").expect("written");
    assert_eq!(world.refused().await, Damage::Missing("manifest.json"));
    // What has other names is not ours.
    fs::create_dir(world.dir.path().join("lost+found")).expect("made");
    fs::create_dir(world.dir.path().join(world.id.session.to_string()).join("6")).expect("made");
    let snapshots = open_at(world.dir.path()).await;
    assert_eq!(snapshots.sessions().await.expect("listed"), [world.id.session]);
    assert_eq!(snapshots.list(world.id.session).await.expect("listed").len(), 1);
}

#[tokio::test]
async fn a_manifest_that_lies_is_found_out() {
    let world = World::new(&noise(3, 300_000)).await;
    let Manifest { tar_bytes, stored_bytes, .. } = world.manifest;
    let other = "ab".repeat(32);
    for said in [0, 1, stored_bytes - 1, stored_bytes + 1, u64::MAX] {
        world.lie("storedBytes", said.into());
        assert_eq!(world.refused().await, Damage::Size { said, found: stored_bytes });
        assert_eq!(damage(world.state().await), Damage::Size { said, found: stored_bytes });
    }
    world.lie("storedSha256", other.as_str().into());
    assert!(matches!(world.refused().await, Damage::Data { .. }));
    for said in [0, 1, tar_bytes - 1] {
        world.lie("tarBytes", said.into());
        assert_eq!(damage(read(&world.snapshots, world.id).await), Damage::TooLong(said));
    }
    for said in [tar_bytes + 1, u64::MAX] {
        world.lie("tarBytes", said.into());
        assert_eq!(damage(read(&world.snapshots, world.id).await), Damage::TooShort { said, found: tar_bytes });
    }
    world.lie("tarSha256", other.as_str().into());
    assert!(matches!(damage(read(&world.snapshots, world.id).await), Damage::Content { .. }));
    world.lie("tarSha256", 3.into());
    assert!(matches!(world.refused().await, Damage::Manifest(_)));
}

#[tokio::test]
async fn a_newer_one_is_refused_and_not_passed_over() {
    let world = World::new(b"x").await;
    write(&world.snapshots, SnapshotId { event: 1, ..world.id }, &world.tar).await.expect("written");
    world.lie("format", 2.into());
    let session = world.id.session;
    assert!(matches!(world.snapshots.read(world.id).await, Err(SnapshotError::Newer { format: 2, .. })));
    assert!(matches!(world.snapshots.newest(session).await, Err(SnapshotError::Newer { .. })));
    assert!(matches!(world.snapshots.read_newest(session).await, Err(SnapshotError::Newer { .. })));
    assert!(matches!(world.snapshots.copy(world.id, world.id).await, Err(SnapshotError::Newer { .. })));
    assert!(matches!(world.snapshots.prune(session, 1, &[]).await, Err(SnapshotError::Newer { .. })));
    let listed = world.snapshots.list(session).await.expect("listed");
    assert_eq!(events(&listed), [(1, true), (5, false)]);
}

#[tokio::test]
async fn one_that_was_moved_here_is_refused() {
    let world = World::new(b"x").await;
    let (other, later) = (SnapshotId { session: new_session(), event: 5 }, SnapshotId { event: 6, ..world.id });
    for id in [other, later] {
        write(&world.snapshots, id, &tar(b"y")).await.expect("written");
        for part in ["manifest.json", "data.tar.zst"] {
            fs::copy(path_of(world.dir.path(), id).join(part), world.path(part)).expect("copied");
        }
        world.snapshots.remove(id).await.expect("removed");
        assert_eq!(world.refused().await, Damage::Moved(id));
    }
}

#[tokio::test]
async fn data_that_is_no_zstd_or_a_bomb_stops_at_what_the_manifest_says() {
    let world = World::new(b"x").await;
    for data in [noise(2, 5000), b"".to_vec(), fs::read(world.path("data.tar.zst")).expect("reads")[..50].to_vec()] {
        world.replace_data(&data);
        let found = damage(read(&world.snapshots, world.id).await);
        assert!(matches!(found, Damage::Compression(_) | Damage::TooShort { found: 0, .. }), "{found}");
    }
    // 256 MiB of zeros in some kilobytes: reading stops at the third kilobyte.
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("begins");
    std::io::copy(&mut std::io::repeat(0).take(256 << 20), &mut bomb).expect("written");
    let bomb = bomb.finish().expect("finished");
    assert!(bomb.len() < 200_000);
    world.replace_data(&bomb);
    assert_eq!(damage(read(&world.snapshots, world.id).await), Damage::TooLong(world.manifest.tar_bytes));
    // A second frame behind the first one counts too.
    let frame = zstd::encode_all(&world.tar[..], 1).expect("packed");
    world.replace_data(&[&frame[..], &bomb].concat());
    assert_eq!(damage(read(&world.snapshots, world.id).await), Damage::TooLong(world.manifest.tar_bytes));
    world.replace_data(&[&frame[..], b"rest"].concat());
    assert!(matches!(damage(read(&world.snapshots, world.id).await), Damage::Compression(_)));
    // A window that would take half a gigabyte of memory.
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("begins");
    wide.window_log(29).expect("set");
    wide.write_all(&world.tar).expect("written");
    world.replace_data(&wide.finish().expect("finished"));
    let found = damage(read(&world.snapshots, world.id).await);
    assert!(matches!(&found, Damage::Compression(reason) if reason.contains("memory")), "{found}");
}

#[test]
fn a_writer_or_reader_that_is_dropped_leaves_nothing() {
    let dir = folder();
    let id = SnapshotId { session: new_session(), event: 5 };
    let tar = tar(&noise(3, 3_000_000));
    let runtime = runtime();
    runtime.block_on(async {
        let snapshots = open_at(dir.path()).await;
        drop(snapshots.begin(about(id)).await.expect("begins"));
        let mut writer = snapshots.begin(about(id)).await.expect("begins");
        writer.chunk(tar.clone()).await.expect("taken");
        drop(writer);
        let second = SnapshotId { event: 6, ..id };
        write(&snapshots, second, &tar).await.expect("written");
        let mut reader = snapshots.read(second).await.expect("opens");
        reader.chunk().await.expect("whole").expect("some");
        drop(reader);
    });
    drop(runtime);
    assert_eq!(tree(dir.path()).len(), 2);
    assert_eq!(fs::read_dir(dir.path().join(id.session.to_string())).expect("reads").count(), 1);
}

#[tokio::test]
async fn a_chunk_that_may_be_lost_spoils_the_writer() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let mut writer = snapshots.begin(about(SnapshotId { session: new_session(), event: 5 })).await.expect("begins");
    let mut cancelled = false;
    while !cancelled {
        // Polled once, it is dropped when the thread has not kept up.
        tokio::select! {
            biased;
            result = writer.chunk(vec![0; 1 << 20]) => result.expect("taken"),
            () = std::future::ready(()) => cancelled = true,
        }
    }
    assert!(matches!(writer.chunk(vec![0; 512]).await, Err(SnapshotError::GivenUp)));
    assert!(matches!(writer.finish(None).await, Err(SnapshotError::GivenUp)));
}

/// A place that stops for good before its nth operation, as if the process had died there.
#[derive(Debug, Clone)]
struct Mortal {
    folder: Folder,
    left: Arc<AtomicUsize>,
}

impl Mortal {
    fn step(&self) -> Result<(), SnapshotError> {
        let counted = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        counted.map(drop).map_err(|_| SnapshotError::GivenUp)
    }
}

impl Location for Mortal {
    fn begin(&self, session: SessionId) -> Result<Box<dyn Draft>, SnapshotError> {
        self.step()?;
        Ok(Box::new(MortalDraft { place: self.clone(), draft: Some(self.folder.begin(session)?) }))
    }

    fn begin_copy(&self, from: SnapshotId, session: SessionId) -> Result<(Vec<u8>, Box<dyn Draft>), SnapshotError> {
        self.step()?;
        let (manifest, draft) = self.folder.begin_copy(from, session)?;
        Ok((manifest, Box::new(MortalDraft { place: self.clone(), draft: Some(draft) })))
    }

    fn open(&self, id: SnapshotId) -> Result<Parts, SnapshotError> {
        self.folder.open(id)
    }

    fn list(&self, session: SessionId) -> Result<Vec<i64>, SnapshotError> {
        self.folder.list(session)
    }

    fn sessions(&self) -> Result<Vec<SessionId>, SnapshotError> {
        self.folder.sessions()
    }

    fn usage(&self, session: SessionId) -> Result<u64, SnapshotError> {
        self.folder.usage(session)
    }

    fn remove(&self, id: SnapshotId) -> Result<(), SnapshotError> {
        self.folder.remove(id)
    }

    fn remove_all(&self, session: SessionId) -> Result<(), SnapshotError> {
        self.folder.remove_all(session)
    }

    fn sweep(&self) -> Result<(), SnapshotError> {
        self.folder.sweep()
    }
}

struct MortalDraft {
    place: Mortal,
    draft: Option<Box<dyn Draft>>,
}

impl MortalDraft {
    fn step(&mut self) -> Result<&mut Box<dyn Draft>, SnapshotError> {
        self.place.step()?;
        Ok(self.draft.as_mut().expect("alive"))
    }
}

impl std::io::Write for MortalDraft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.step().map_err(std::io::Error::other)?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Draft for MortalDraft {
    fn place(&self) -> String {
        "here".to_owned()
    }

    fn read_back(&mut self) -> Result<Box<dyn Object>, SnapshotError> {
        self.step()?.read_back()
    }

    fn publish(mut self: Box<Self>, event: i64, manifest: &[u8]) -> Result<(), SnapshotError> {
        self.step()?;
        self.draft.take().expect("alive").publish(event, manifest)
    }
}

impl Drop for MortalDraft {
    fn drop(&mut self) {
        // The dead do not clean up.
        std::mem::forget(self.draft.take());
    }
}

#[tokio::test]
async fn death_between_any_two_steps_leaves_a_whole_snapshot_or_none() {
    let (session, fork) = (new_session(), new_session());
    let [old, new] = [noise(1, 500_000), noise(2, 500_000)].map(|content| tar(&content));
    let id = SnapshotId { session, event: 5 };
    let mut died = 0;
    for lives in 0.. {
        let dir = folder();
        // The earlier one of this name is there throughout.
        write(&open_at(dir.path()).await, id, &old).await.expect("written");
        let folder = Folder::open(dir.path().to_owned()).expect("opens");
        let mortal = Snapshots::at(Mortal { folder, left: Arc::new(AtomicUsize::new(lives)) });
        let written = write(&mortal, id, &new).await.is_ok();
        let copied = mortal.copy(id, SnapshotId { session: fork, event: 5 }).await.is_ok();

        let survivors = open_at(dir.path()).await;
        assert!(read(&survivors, id).await.expect("whole") == if written { &new[..] } else { &old });
        assert_eq!(events(&survivors.list(session).await.expect("listed")), [(5, true)]);
        assert_eq!(survivors.newest(fork).await.expect("looked").is_some(), copied);
        assert_eq!(tree(dir.path()).len(), if copied { 4 } else { 2 }, "nothing else is left");
        if copied {
            assert!(written);
            break;
        }
        died += 1;
    }
    assert!(died > 8, "it died {died} times");
}

#[tokio::test]
async fn what_death_leaves_in_the_middle_of_a_step_is_put_right_at_the_next_start() {
    let id = SnapshotId { session: new_session(), event: 5 };
    let name = "0000000000000000005";
    let (new, was, old) = (".new-1", ".was-0000000000000000005-1", ".old-1");
    let rename = |folder: &Path, from: &str, to: &str| fs::rename(folder.join(from), folder.join(to)).expect("renamed");
    // What is there, made of a whole snapshot, and whether one comes of it.
    type State<'a> = (&'a str, &'a dyn Fn(&Path), bool);
    let states: &[State<'_>] = &[
        ("an empty draft", &|folder| fs::create_dir(folder.join(new)).expect("made"), true),
        (
            "a draft with some data",
            &|folder| {
                fs::create_dir(folder.join(new)).expect("made");
                fs::write(folder.join(new).join("data.tar.zst"), "some").expect("written");
            },
            true,
        ),
        ("a whole draft without a name", &|folder| rename(folder, name, new), false),
        ("the old one set aside, the new one not in its place", &|folder| rename(folder, name, was), true),
        (
            "the old one set aside, the new one in its place",
            &|folder| fs::create_dir_all(folder.join(was).join("x")).expect("made"),
            true,
        ),
        ("a removal that began", &|folder| rename(folder, name, old), false),
        (
            "a removal of the session that began",
            &|folder| fs::rename(folder, folder.with_file_name(".old-2")).expect("renamed"),
            false,
        ),
    ];
    for (what, arrange, is_there) in states {
        let dir = folder();
        write(&open_at(dir.path()).await, id, &tar(b"x")).await.expect("written");
        arrange(&dir.path().join(id.session.to_string()));
        let snapshots = open_at(dir.path()).await;
        assert_eq!(read(&snapshots, id).await.is_ok(), *is_there, "{what}");
        assert_eq!(tree(dir.path()).len(), if *is_there { 2 } else { 0 }, "{what}");
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_what_was_there() {
    let Some(disk) = small_disk(2 << 20) else { return };
    let session = new_session();
    let id = |event| SnapshotId { session, event };
    runtime().block_on(async {
        let snapshots = open_at(disk.path()).await;
        let small = tar(&noise(1, 200_000));
        write(&snapshots, id(1), &small).await.expect("there is room");
        let before = tree(disk.path());
        // In the middle of the data.
        let result = write(&snapshots, id(2), &tar(&noise(2, 8_000_000))).await;
        assert!(matches!(&result, Err(SnapshotError::Full { step: "write", .. })), "{result:?}");
        assert!(tree(disk.path()) == before);
        // Anywhere: with any number of pages left.
        let ballast = disk.path().join("ballast");
        let mut failed = 0;
        for pages in 0..80 {
            let mut file = fs::File::create(&ballast).expect("made");
            while file.write_all(&[1; 4096]).is_ok() {}
            let bytes = file.metadata().expect("there").len();
            file.set_len(bytes.saturating_sub(pages * 4096)).expect("cut");
            let result = write(&snapshots, id(1), &small).await;
            fs::remove_file(&ballast).expect("removed");
            match result {
                Ok(_) => break,
                Err(SnapshotError::Full { .. }) => failed += 1,
                Err(error) => panic!("{error:?}"),
            }
            assert!(tree(disk.path()) == before, "{pages} pages");
        }
        assert!(failed > 40, "{failed}");
        // And it works again when there is room.
        write(&snapshots, id(2), &small).await.expect("there is room");
        assert_eq!(events(&snapshots.list(session).await.expect("listed")), [(1, true), (2, true)]);
    });
}

#[test]
fn a_read_only_disk_can_be_read() {
    use nix::mount::{MsFlags, mount};
    let Some(disk) = small_disk(2 << 20) else { return };
    let id = SnapshotId { session: new_session(), event: 1 };
    runtime().block_on(async {
        let root = disk.path().join("snapshots");
        let snapshots = open_at(&root).await;
        let tar = tar(b"hello");
        write(&snapshots, id, &tar).await.expect("written");
        // Something that can not be removed now.
        fs::create_dir(path_of(&root, id).with_file_name(".new-1")).expect("made");
        let none: Option<&str> = None;
        mount(none, disk.path(), none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).expect("read-only");
        let again = open_at(&root).await;
        for snapshots in [&snapshots, &again] {
            assert!(read(snapshots, id).await.expect("whole") == tar);
            let later = SnapshotId { event: 2, ..id };
            let is_refused = |error| matches!(error, Some(SnapshotError::Unavailable { .. }));
            assert!(is_refused(snapshots.begin(about(later)).await.err()));
            assert!(is_refused(snapshots.copy(id, later).await.err()));
            assert!(is_refused(snapshots.remove(id).await.err()));
            assert!(is_refused(snapshots.remove_all(id.session).await.err()));
            assert_eq!(events(&snapshots.list(id.session).await.expect("listed")), [(1, true)]);
        }
    });
}

#[test]
fn what_may_not_be_read_is_not_taken_for_damaged_or_missing() {
    use std::os::unix::fs::chown;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    const NOBODY: u32 = 65534;
    let dir = folder();
    let id = SnapshotId { session: new_session(), event: 1 };
    runtime().block_on(async {
        write(&open_at(dir.path()).await, id, &tar(b"hello")).await.expect("written");
    });
    let (event, location) = (path_of(dir.path(), id), Folder::open(dir.path().to_owned()).expect("opens"));
    let found = |location: Folder| {
        let thread = std::thread::spawn(move || {
            // Of this thread alone.
            nix::unistd::setfsuid(NOBODY.into());
            location.open(id).err()
        });
        thread.join().expect("no panic")
    };
    let folders = [dir.path(), event.parent().expect("one"), &event];
    for (step, path) in folders.into_iter().enumerate() {
        let error = found(location.clone());
        assert!(matches!(&error, Some(SnapshotError::Unavailable { step: "read", .. })), "{step}: {error:?}");
        chown(path, Some(NOBODY), None).expect("given away");
    }
    for part in ["manifest.json", "data.tar.zst"] {
        let error = found(location.clone());
        assert!(matches!(&error, Some(SnapshotError::Unavailable { step: "read", .. })), "{part}: {error:?}");
        chown(event.join(part), Some(NOBODY), None).expect("given away");
    }
    assert!(found(location).is_none());
}
