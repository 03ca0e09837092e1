mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// A runtime whose threads see the file systems that this thread sees. Dropping it waits for them.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("runtime")
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

async fn open_at(folder: &Path) -> Snapshots {
    Snapshots::open(&url(folder)).await.expect("opens")
}

fn about(id: SnapshotId) -> About {
    About {
        id,
        agent_name: "hello".to_owned(),
        agent_version: "sha256:aa".to_owned(),
        runtime: "claude".to_owned(),
        runtime_version: "2.1.330".to_owned(),
        excludes: vec!["node_modules".to_owned()],
        reason: Reason::Turn,
    }
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// An archive with one file of this content.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "work/file", content).expect("appended");
    builder.into_inner().expect("finished")
}

async fn write(snapshots: &Snapshots, id: SnapshotId, tar: &[u8]) -> Result<Manifest, SnapshotError> {
    let mut writer = snapshots.begin(about(id)).await?;
    for chunk in tar.chunks(10_000) {
        writer.chunk(chunk.to_vec()).await?;
    }
    writer.finish(Some("conversation".to_owned())).await
}

async fn drain(mut reader: Reader) -> Result<Vec<u8>, SnapshotError> {
    let mut tar = Vec::new();
    while let Some(chunk) = reader.chunk().await? {
        tar.extend(chunk);
        assert!(tar.len() as u64 <= reader.manifest().tar_bytes, "more than was said");
    }
    assert!(matches!(reader.chunk().await, Ok(None)), "the end stays the end");
    Ok(tar)
}

async fn read(snapshots: &Snapshots, id: SnapshotId) -> Result<Vec<u8>, SnapshotError> {
    drain(snapshots.read(id).await?).await
}

fn damage<T: fmt::Debug>(result: Result<T, SnapshotError>) -> Damage {
    match result {
        Err(SnapshotError::Damaged { damage, .. }) => damage,
        other => panic!("{other:?}"),
    }
}

fn path_of(root: &Path, id: SnapshotId) -> PathBuf {
    root.join(id.session.to_string()).join(format!("{:019}", id.event))
}

/// Everything below a folder, by path: what each file holds.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for path in fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path()) {
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.strip_prefix(root).expect("inside").to_owned(), fs::read(&path).expect("reads"));
            }
        }
    }
    found
}

fn events(listed: &[Listed]) -> Vec<(i64, bool)> {
    listed.iter().map(|listed| (listed.id.event, listed.state.is_ok())).collect()
}

fn new_session() -> SessionId {
    SessionId::new()
}

#[tokio::test]
async fn what_was_written_is_read_back_byte_for_byte() {
    let dir = folder();
    let root = dir.path().join("a/b");
    let snapshots = open_at(&root).await;
    assert_eq!(fs::metadata(&root).expect("made").permissions().mode() & 0o777, 0o700);
    let session = new_session();
    for (event, content) in [(0, Vec::new()), (7, vec![b'x'; 3_000_000]), (1 << 40, noise(5, 1_000_000))] {
        let id = SnapshotId { session, event };
        let tar = tar(&content);
        let manifest = write(&snapshots, id, &tar).await.expect("written");
        assert_eq!((manifest.id(), manifest.tar_bytes), (id, tar.len() as u64));
        assert_eq!(manifest.conversation.as_deref(), Some("conversation"));
        assert_eq!((manifest.reason, &manifest.forked_from), (Reason::Turn, &None));
        assert_eq!(manifest.excludes, ["node_modules"]);
        let data = path_of(&root, id).join("data.tar.zst");
        let metadata = fs::metadata(&data).expect("there");
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (manifest.stored_bytes, 0o600));
        assert_eq!(zstd::decode_all(fs::File::open(&data).expect("opens")).expect("any tool reads it"), tar);
        let reader = snapshots.read(id).await.expect("opens");
        assert_eq!(reader.manifest(), &manifest);
        assert_eq!(drain(reader).await.expect("whole"), tar);
    }
    let listed = snapshots.list(session).await.expect("listed");
    assert_eq!(events(&listed), [(0, true), (7, true), (1 << 40, true)]);
    assert_eq!(snapshots.newest(session).await.expect("found").map(|manifest| manifest.event), Some(1 << 40));
    let bytes: usize = tree(&root).values().map(Vec::len).sum();
    assert_eq!(snapshots.usage(session).await.expect("counted"), bytes as u64);
    assert_eq!(snapshots.sessions().await.expect("listed"), [session]);

    // A daemon that starts later finds the same.
    let again = open_at(&root).await;
    assert_eq!(events(&again.list(session).await.expect("listed")), events(&listed));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let id = SnapshotId { session: new_session(), event: 3 };
    assert!(matches!(snapshots.read(id).await, Err(SnapshotError::NotFound(_))));
    assert!(matches!(snapshots.copy(id, id).await, Err(SnapshotError::NotFound(_))));
    assert!(snapshots.list(id.session).await.expect("listed").is_empty());
    assert!(snapshots.newest(id.session).await.expect("looked").is_none());
    assert!(snapshots.read_newest(id.session).await.expect("looked").reader.is_none());
    assert_eq!(snapshots.usage(id.session).await.expect("counted"), 0);
    snapshots.remove(id).await.expect("nothing to do");
    snapshots.remove_all(id.session).await.expect("nothing to do");
    assert!(snapshots.prune(id.session, 1, &[]).await.expect("nothing to do").is_empty());
    assert!(tree(dir.path()).is_empty() && fs::read_dir(dir.path()).expect("reads").next().is_none());
}

#[tokio::test]
async fn a_lost_folder_is_not_made_anew() {
    let dir = folder();
    let root = dir.path().join("disk");
    let snapshots = open_at(&root).await;
    fs::remove_dir(&root).expect("removed");
    let id = SnapshotId { session: new_session(), event: 3 };
    assert!(matches!(write(&snapshots, id, &tar(b"x")).await, Err(SnapshotError::Unavailable { .. })));
    assert!(!root.exists());
}

#[tokio::test]
async fn only_folders_are_known_as_places() {
    for url in ["s3://bucket/x", "file://relative", "/var/lib", ""] {
        assert!(matches!(Snapshots::open(url).await, Err(SnapshotError::Location(said)) if said == url));
    }
}

#[tokio::test]
async fn an_archive_that_breaks_off_makes_no_snapshot() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let id = SnapshotId { session: new_session(), event: 3 };
    let whole = tar(b"hello");
    for bytes in [0, 1, 511, 512, 1024, 1536, whole.len() - 512, whole.len() - 1] {
        let result = write(&snapshots, id, &whole[..bytes]).await;
        assert!(matches!(result, Err(SnapshotError::Incomplete { bytes: said, .. }) if said == bytes as u64), "{result:?}");
        assert!(tree(dir.path()).is_empty(), "{bytes} bytes");
    }
    let negative = SnapshotId { event: -1, ..id };
    assert!(matches!(write(&snapshots, negative, &whole).await, Err(SnapshotError::Event(_))));
    assert!(matches!(snapshots.copy(id, negative).await, Err(SnapshotError::Event(_))));

    // However its zeros are cut into chunks.
    let mut writer = snapshots.begin(about(id)).await.expect("begins");
    for byte in &whole {
        writer.chunk(vec![*byte]).await.expect("taken");
    }
    writer.chunk(Vec::new()).await.expect("taken");
    writer.finish(None).await.expect("whole");
}

#[tokio::test]
async fn the_writer_that_finishes_last_wins_and_a_reader_of_the_other_reads_on() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let id = SnapshotId { session: new_session(), event: 3 };
    let [a, b, c] = [noise(1, 2_000_000), noise(2, 2_000_000), noise(3, 100)].map(|content| tar(&content));
    let mut first = snapshots.begin(about(id)).await.expect("begins");
    let mut second = snapshots.begin(about(id)).await.expect("begins");
    first.chunk(a.clone()).await.expect("taken");
    second.chunk(b.clone()).await.expect("taken");
    second.finish(None).await.expect("written");
    assert!(read(&snapshots, id).await.expect("whole") == b);
    let mut reader = snapshots.read(id).await.expect("opens");
    let mut seen = reader.chunk().await.expect("whole").expect("some");
    first.finish(None).await.expect("written");
    assert!(read(&snapshots, id).await.expect("whole") == a);
    write(&snapshots, id, &c).await.expect("written");
    snapshots.remove(id).await.expect("removed");
    seen.extend(drain(reader).await.expect("whole"));
    assert!(seen == b);
    assert!(tree(dir.path()).is_empty());
}

#[tokio::test]
async fn a_copy_shares_bytes_and_outlives_its_original() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let (from, to) = (SnapshotId { session: new_session(), event: 30 }, SnapshotId { session: new_session(), event: 2 });
    let tar = tar(&noise(9, 300_000));
    let original = write(&snapshots, from, &tar).await.expect("written");
    let copy = snapshots.copy(from, to).await.expect("copied");
    assert_eq!(copy.forked_from, Some(Origin { session: from.session, event: 30 }));
    assert_eq!((copy.id(), copy.reason, copy.tar_sha256), (to, Reason::Fork, original.tar_sha256));
    assert_eq!(copy.conversation, original.conversation);
    let inode = |id| fs::metadata(path_of(dir.path(), id).join("data.tar.zst")).expect("there").ino();
    assert_eq!(inode(from), inode(to), "no second copy on the disk");
    snapshots.remove_all(from.session).await.expect("removed");
    assert_eq!(snapshots.sessions().await.expect("listed"), [to.session]);
    assert!(read(&snapshots, to).await.expect("whole") == tar);
    // Of a copy of a copy too, and over itself.
    let third = SnapshotId { session: to.session, event: 3 };
    assert_eq!(snapshots.copy(to, third).await.expect("copied").forked_from, Some(Origin { session: to.session, event: 2 }));
    snapshots.copy(third, third).await.expect("copied");
    assert!(read(&snapshots, third).await.expect("whole") == tar);
    assert_eq!(tree(dir.path()).len(), 4);
}

#[tokio::test]
async fn where_links_are_not_possible_a_copy_has_bytes_of_its_own() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let (from, to) = (SnapshotId { session: new_session(), event: 30 }, SnapshotId { session: new_session(), event: 2 });
    let tar = tar(&noise(9, 300_000));
    write(&snapshots, from, &tar).await.expect("written");
    // A file takes 65000 names on ext4, and about so many forks no one makes; so use them up.
    let data = path_of(dir.path(), from).join("data.tar.zst");
    let names = folder();
    let mut count = 0;
    while count < 70_000 && fs::hard_link(&data, names.path().join(count.to_string())).is_ok() {
        count += 1;
    }
    if count == 70_000 {
        eprintln!("skipped: this file system has no bound of names that is near");
        return;
    }
    snapshots.copy(from, to).await.expect("copied");
    let inode = |id| fs::metadata(path_of(dir.path(), id).join("data.tar.zst")).expect("there").ino();
    assert_ne!(inode(from), inode(to));
    assert!(read(&snapshots, to).await.expect("whole") == tar);
}

#[tokio::test]
async fn a_sweep_removes_forgotten_drafts_and_none_that_is_being_written() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let id = SnapshotId { session: new_session(), event: 5 };
    write(&snapshots, id, &tar(b"whole")).await.expect("writes");
    let mut writer = snapshots.begin(about(SnapshotId { event: 6, ..id })).await.expect("begins");
    writer.chunk(tar(b"under way")).await.expect("takes");
    let before = tree(dir.path()).len();
    let forgotten = [
        dir.path().join(id.session.to_string()).join(".new-1"),
        dir.path().join(".old-2"),
        dir.path().join(new_session().to_string()),
    ];
    forgotten.iter().for_each(|path| fs::create_dir_all(path.join(".old-3")).expect("makes"));
    snapshots.sweep().await.expect("sweeps");
    assert!(forgotten.iter().all(|path| !path.exists()));
    assert_eq!(tree(dir.path()).len(), before);
    writer.finish(None).await.expect("is whole");
    let listed = snapshots.list(id.session).await.expect("lists");
    assert_eq!(events(&listed), [(5, true), (6, true)]);
}

#[tokio::test]
async fn pruning_keeps_the_newest_and_what_is_asked_for() {
    let dir = folder();
    let snapshots = open_at(dir.path()).await;
    let session = new_session();
    let tar = tar(b"hello");
    let spoil = |event: i64| {
        let data = path_of(dir.path(), SnapshotId { session, event }).join("data.tar.zst");
        let mut bytes = fs::read(&data).expect("reads");
        bytes[20] ^= 1;
        fs::write(&data, bytes).expect("written");
    };
    for event in 1..=9 {
        write(&snapshots, SnapshotId { session, event }, &tar).await.expect("written");
    }
    assert_eq!(snapshots.prune(session, 9, &[]).await.expect("pruned"), [0_i64; 0]);
    assert_eq!(snapshots.prune(session, 6, &[2]).await.expect("pruned"), [1, 3]);
    // The newest are damaged in a way that only reading all of them shows.
    spoil(9);
    spoil(8);
    assert_eq!(snapshots.newest(session).await.expect("found").map(|manifest| manifest.event), Some(7));
    let reader = snapshots.read_newest(session).await.expect("found").reader.expect("some");
    assert_eq!(reader.manifest().event, 7);
    assert_eq!(snapshots.prune(session, 2, &[]).await.expect("pruned"), [2, 4, 5]);
    assert_eq!(snapshots.prune(session, 0, &[]).await.expect("pruned"), [6]);
    spoil(7);
    assert_eq!(snapshots.prune(session, 1, &[]).await.expect("pruned"), [0_i64; 0], "nothing whole is left to prefer");
    assert!(snapshots.newest(session).await.expect("looked").is_none());
    write(&snapshots, SnapshotId { session, event: 10 }, &tar).await.expect("written");
    assert_eq!(snapshots.prune(session, 1, &[8]).await.expect("pruned"), [7, 9]);
    assert_eq!(events(&snapshots.list(session).await.expect("listed")), [(8, true), (10, true)]);
}

proptest! {
    #[test]
    fn pruning_never_takes_the_newest_whole_one(
        present in prop::collection::btree_map(0..40_i64, any::<bool>(), 0..10),
        keep in 0..6_usize,
        but_never in prop::collection::vec(0..40_i64, 0..4),
    ) {
        let dir = folder();
        let session = new_session();
        runtime().block_on(async {
            let snapshots = open_at(dir.path()).await;
            for (&event, &is_whole) in &present {
                let id = SnapshotId { session, event };
                write(&snapshots, id, &tar(b"x")).await.expect("written");
                if !is_whole {
                    let data = path_of(dir.path(), id).join("data.tar.zst");
                    let mut bytes = fs::read(&data).expect("reads");
                    bytes[event as usize] ^= 1;
                    fs::write(&data, bytes).expect("written");
                }
            }
            let removed = snapshots.prune(session, keep, &but_never).await.expect("pruned");
            let left: Vec<_> = snapshots.list(session).await.expect("listed").iter().map(|listed| listed.id.event).collect();
            let newest = present.iter().rev().find(|(_, is_whole)| **is_whole).map(|(event, _)| *event);
            assert_eq!(removed.len() + left.len(), present.len());
            assert_eq!(snapshots.newest(session).await.expect("looked").map(|manifest| manifest.event), newest);
            for event in but_never.iter().filter(|event| present.contains_key(event)) {
                assert!(left.contains(event));
            }
            let kept = left.iter().filter(|event| present[event] && !but_never.contains(event)).count();
            assert!(kept <= keep.max(1) + 1, "{left:?}");
        });
    }

    #[test]
    fn any_archive_comes_back_however_it_is_cut(
        parts in prop::collection::vec((any::<u64>(), 0..60_000_usize, any::<bool>()), 0..6),
        cuts in prop::collection::vec(1..40_000_usize, 1..8),
    ) {
        let content: Vec<u8> = parts.iter().flat_map(|&(seed, bytes, is_noise)| {
            if is_noise { noise(seed, bytes) } else { vec![seed as u8; bytes] }
        }).collect();
        let tar = tar(&content);
        let dir = folder();
        let id = SnapshotId { session: new_session(), event: 1 };
        let back = runtime().block_on(async {
            let snapshots = open_at(dir.path()).await;
            let mut writer = snapshots.begin(about(id)).await.expect("begins");
            let (mut rest, mut cuts) = (&tar[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rest.len().min(*cuts.next().expect("endless")));
                writer.chunk(chunk.to_vec()).await.expect("taken");
                rest = after;
            }
            writer.finish(None).await.expect("written");
            read(&snapshots, id).await.expect("whole")
        });
        prop_assert!(back == tar);
    }
}
