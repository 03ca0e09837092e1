//! A snapshot's way out of a sandbox and into another one: through a real shim, bubblewrap and init.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ash::link::frame::CHUNK;
use ash::link::shim::{EndState, PACK_CREDIT};
use tar::EntryType;

use crate::support::{Daemon, Host, Shim, UID, descendants, is_root, until};

const NOWHERE: &str = "http://127.0.0.1:1";
const EVERY_KIND: &str = include_str!("../fixtures/every-kind.py");

/// What is known of a file: type and mode, time of its change, contents or target, how many names it
/// has, and whether there are holes in it.
type Known = (u32, i64, i64, Vec<u8>, u64, bool);

fn tree(root: &Path) -> BTreeMap<PathBuf, Known> {
    let (mut found, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let data = fs::symlink_metadata(&path).expect("there");
        let has_holes = data.is_file() && data.blocks() * 512 + (1 << 20) < data.len();
        let content = match () {
            () if data.is_symlink() => fs::read_link(&path).expect("a link").into_os_string().into_vec(),
            // It has a gigabyte, mostly of nothing.
            () if has_holes => data.len().to_le_bytes().to_vec(),
            () if data.is_file() => fs::read(&path).expect("read"),
            () => Vec::new(),
        };
        if data.is_dir() {
            left.extend(fs::read_dir(&path).expect("read").map(|entry| entry.expect("entry").path()));
        }
        let links = if data.is_file() { data.nlink() } else { 0 };
        let known = (data.mode(), data.mtime(), data.mtime_nsec(), content, links, has_holes);
        found.insert(path.strip_prefix(root).expect("inside").to_owned(), known);
    }
    found
}

/// Compares without printing megabytes.
fn assert_same(before: &BTreeMap<PathBuf, Known>, after: &BTreeMap<PathBuf, Known>) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, known) in before {
        let (a, b) = (known, &after[path]);
        assert!(a.3 == b.3, "the contents of {}", path.display());
        assert_eq!((a.0, a.1, a.2, a.4, a.5), (b.0, b.1, b.2, b.4, b.5), "{}", path.display());
    }
}

fn work(host: &Host) -> PathBuf {
    host.path("state/workspace")
}

/// Runs a script inside, in the workspace; gives back its output.
async fn inside(host: &Host, daemon: &mut Daemon, script: &str) -> String {
    // As a file that is no part of the workspace, so that nothing has to be escaped on its way.
    fs::write(host.path("state/home/commands"), script).expect("written");
    let (_, end) = daemon.turn("run: bash /home/agent/commands").await;
    assert_eq!(end.state, EndState::Completed, "{script}: {end:?}");
    host.out()
}

async fn every_kind(host: &Host, daemon: &mut Daemon, verb: &str) -> String {
    fs::write(host.path("state/home/every-kind.py"), EVERY_KIND).expect("written");
    inside(host, daemon, &format!("python3 /home/agent/every-kind.py {verb}")).await
}

/// Bytes that can not be made smaller, in a file of the sandbox.
async fn fill(host: &Host, daemon: &mut Daemon, chunks: usize) {
    inside(host, daemon, &format!("head -c {} /dev/urandom >big", chunks * CHUNK)).await;
}

/// A sandbox that is open and not set up yet, as one that gets a snapshot.
async fn open(host: &Host, shim: &Shim) -> Daemon {
    let mut daemon = shim.connect().await;
    assert!(!daemon.hello().await.unpacked);
    daemon.open(host).await.expect("opened");
    daemon
}

/// Whether something inside works on a snapshot.
fn works(shim: &Shim, command: &str) -> bool {
    let below = descendants(i32::try_from(shim.child.0.id()).expect("a pid"));
    let lines = below.iter().filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| line.contains(&format!("ash-init\0{command}\0")))
}

fn entries(archive: &[u8]) -> Vec<(PathBuf, EntryType)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (entry.path().expect("a path").into_owned(), entry.header().entry_type())).collect()
}

/// Takes exactly what may come without being asked for; what the shim is asked meanwhile it answers.
async fn stall(host: &Host, daemon: &mut Daemon) {
    daemon.takes = false;
    daemon.begin_pack(&[]).await;
    let packing = daemon.op();
    while daemon.chunks < PACK_CREDIT {
        daemon.open(host).await.expect("answered while it packs");
    }
    daemon.set_op(packing);
}

#[tokio::test]
async fn every_kind_of_file_comes_back_as_it_was() {
    let from = Host::new();
    let shim = from.shim();
    let mut daemon = shim.ready(&from, NOWHERE).await;
    assert_eq!(every_kind(&from, &mut daemon, "make").await, "");
    let seen = every_kind(&from, &mut daemon, "show").await;
    let mut before = tree(&work(&from));
    let archive = daemon.pack(&[]).await.expect("packed");
    assert_same(&before, &tree(&work(&from)));
    assert!(entries(&archive).iter().all(|(_, kind)| !matches!(kind, EntryType::Fifo | EntryType::Char | EntryType::Block)));

    let to = Host::new();
    let old = ["state/home/.claude", "state/home/.claude/projects", "state/home/.claude/projects/old"];
    for folder in old.map(|folder| to.path(folder)) {
        fs::create_dir(&folder).expect("made");
        if is_root() {
            chown(&folder, Some(UID), Some(UID)).expect("owned");
        }
    }
    let second = to.shim();
    let mut other = open(&to, &second).await;
    other.restore(&archive).await.expect("restored");
    for name in ["pipe", "socket"] {
        assert!(before.remove(Path::new(name)).is_some());
    }
    assert_same(&before, &tree(&work(&to)));
    let inode = |path: &str| fs::metadata(work(&to).join(path)).expect("there").ino();
    assert!(inode("a/run") == inode("again") && inode("again") == inode("deep/again"));
    other.setup(to.setup(NOWHERE)).await.expect("set up");
    assert_eq!(seen.replace("True", "False"), every_kind(&to, &mut other, "show").await);
    assert!(!to.path(old[2]).exists());
    // A newer connection takes the place of the older one.
    let mut other = second.connect().await;
    assert!(other.hello().await.unpacked);

    // Once more from there, over what is there now.
    inside(&to, &mut other, "chmod -R u+rwX . && rm -rf a deep && mkdir a && echo x >a/run").await;
    other.restore(&archive).await.expect("restored again");
    assert_same(&before, &tree(&work(&to)));
    assert!(other.pack(&[]).await.expect("packed") == archive, "equal trees give equal archives");
}

#[tokio::test]
async fn what_is_left_out_is_not_packed() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    inside(&host, &mut daemon, "mkdir -p cache/x src/cache && touch cache/x/f src/cache/f src/kept").await;
    let archive = daemon.pack(&["/cache", "out"]).await.expect("packed");
    let names: Vec<_> = entries(&archive).into_iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(names, ["work/", "work/src/", "work/src/cache/", "work/src/cache/f", "work/src/kept"]);
    let error = daemon.pack(&["a\0b"]).await.expect_err("refused");
    assert_eq!(error, "a pattern has a NUL in it");
}

#[tokio::test]
async fn a_daemon_that_takes_no_chunks_holds_up_the_packing_and_nothing_else() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    fill(&host, &mut daemon, 40).await;
    stall(&host, &mut daemon).await;
    let packing = daemon.op();
    // A turn waits for the packing, and all else goes on.
    let turn = daemon.begin("hello").await;
    for _ in 0..20 {
        daemon.open(&host).await.expect("answered");
    }
    assert_eq!(daemon.chunks, PACK_CREDIT, "no more than may come");
    assert!(works(&shim, "pack") && daemon.events.iter().all(|event| event.turn != Some(turn)));
    daemon.set_op(packing);
    daemon.take(3).await;
    while daemon.chunks < PACK_CREDIT + 3 {
        daemon.open(&host).await.expect("answered");
    }
    daemon.set_op(packing);
    daemon.takes = true;
    daemon.take(PACK_CREDIT).await;
    let archive = daemon.packed().await.expect("packed");
    assert!(archive.len() > 40 * CHUNK && entries(&archive).iter().any(|(path, _)| path == Path::new("work/big")));
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
}

#[tokio::test]
async fn a_second_packing_and_an_unpacking_are_refused_by_name_while_one_is_under_way() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    fill(&host, &mut daemon, 20).await;
    stall(&host, &mut daemon).await;
    let packing = daemon.op();
    let (archive, chunks) = (std::mem::take(&mut daemon.archive), daemon.chunks);
    assert_eq!(daemon.pack(&[]).await.expect_err("refused"), "the sandbox is being packed");
    assert_eq!(daemon.restore(b"").await.expect_err("refused"), "the sandbox is being packed");
    (daemon.archive, daemon.chunks, daemon.takes) = (archive, chunks, true);
    daemon.set_op(packing);
    daemon.take(PACK_CREDIT).await;
    let archive = daemon.packed().await.expect("packed");
    assert!(archive.len() > 20 * CHUNK && !entries(&archive).is_empty());

    daemon.begin_restore().await;
    let restoring = daemon.op();
    assert_eq!(daemon.pack(&[]).await.expect_err("refused"), "the workspace is being unpacked");
    daemon.set_op(restoring);
    daemon.send_archive(&archive).await.expect("restored");
    let turn = daemon.begin("run: until [ -e /work/go ]; do read -t 0.05 _ <> <(:); done").await;
    daemon.event("its beginning", |event| event.turn == Some(turn)).await;
    assert_eq!(daemon.pack(&[]).await.expect_err("refused"), "a turn is running");
    fs::write(work(&host).join("go"), "").expect("written");
    assert_eq!(daemon.end(turn).await.state, EndState::Completed);
}

#[tokio::test]
async fn a_packing_whose_connection_breaks_is_let_go_and_the_next_connection_packs_again() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    // What nobody may read is open to its owner while it is packed.
    inside(&host, &mut daemon, "mkdir shut && chmod 700 shut").await;
    inside(&host, &mut daemon, &format!("head -c {} /dev/urandom >shut/big; chmod 0 shut", 40 * CHUNK)).await;
    let before = tree(&work(&host));
    stall(&host, &mut daemon).await;
    let mode = || fs::metadata(work(&host).join("shut")).expect("there").permissions().mode() & 0o777;
    assert_ne!(mode(), 0, "it is open now");
    drop(daemon);
    until("nothing packs any more", || (!works(&shim, "pack")).then_some(())).await;
    assert_eq!(mode(), 0, "it is as it was");
    let mut daemon = shim.connect().await;
    daemon.hello().await;
    let archive = daemon.pack(&[]).await.expect("packed");
    assert!(entries(&archive).iter().any(|(path, _)| path == Path::new("work/shut/big")));
    assert_same(&before, &tree(&work(&host)));
    let (_, end) = daemon.turn("hello").await;
    assert_eq!(end.state, EndState::Completed);
}

/// A daemon that dies between two parts is followed by one that asks.
#[tokio::test]
async fn a_workspace_is_whole_with_the_last_of_its_parts() {
    let from = Host::new();
    let shim = from.shim();
    let mut daemon = shim.ready(&from, NOWHERE).await;
    fill(&from, &mut daemon, 1).await;
    let archive = daemon.pack(&[]).await.expect("packed");

    let host = Host::new();
    {
        let shim = host.shim();
        let mut daemon = open(&host, &shim).await;
        daemon.restore_part(&archive).await.expect("restored");
        let mut next = shim.connect().await;
        assert!(!next.hello().await.unpacked, "something is still to be laid over it");
        next.lay_conversation(&archive).await.expect("laid");
        assert!(!shim.connect().await.hello().await.unpacked, "a conversation alone is no workspace");
    }
    let shim = host.shim();
    assert!(!shim.connect().await.hello().await.unpacked, "another shim on the same folder knows");
    let mut daemon = open(&host, &shim).await;
    daemon.restore(&archive).await.expect("restored");
    assert!(shim.connect().await.hello().await.unpacked);
}

#[tokio::test]
async fn nothing_that_is_half_restored_counts() {
    let from = Host::new();
    let shim = from.shim();
    let mut daemon = shim.ready(&from, NOWHERE).await;
    fill(&from, &mut daemon, 20).await;
    let archive = daemon.pack(&[]).await.expect("packed");
    let before = tree(&work(&from));

    let host = Host::new();
    let shim = host.shim();
    let mut daemon = open(&host, &shim).await;
    for round in 0..2 {
        daemon.begin_restore().await;
        for chunk in archive[..archive.len() / 2].chunks(CHUNK) {
            daemon.send_chunk(chunk).await;
        }
        until("some of it is there", || work(&host).join("big").exists().then_some(())).await;
        drop(daemon);
        until("nothing restores any more", || (!works(&shim, "restore")).then_some(())).await;
        daemon = shim.connect().await;
        // In the second round something was whole before.
        assert!(!daemon.hello().await.unpacked, "round {round}");
        daemon.restore(&archive).await.expect("restored");
        assert_same(&before, &tree(&work(&host)));
        daemon = shim.connect().await;
        assert!(daemon.hello().await.unpacked);
    }

    // Nor does it for the next shim, when this one is killed in the middle.
    daemon.begin_restore().await;
    for chunk in archive[..archive.len() / 2].chunks(CHUNK) {
        daemon.send_chunk(chunk).await;
    }
    until("some of it is there", || fs::metadata(work(&host).join("big")).is_ok_and(|data| data.len() > 0).then_some(())).await;
    let mut shim = shim;
    shim.child.0.kill().expect("killed");
    shim.ended().await;
    let shim = host.shim();
    let mut daemon = open(&host, &shim).await;
    daemon.restore(&archive).await.expect("restored");
    assert_same(&before, &tree(&work(&host)));
    // An archive that ends before its end is none either.
    let error = daemon.restore(&archive[..archive.len() / 2]).await.expect_err("refused");
    assert_eq!(error, "restore: the archive is cut short");
    assert!(!shim.connect().await.hello().await.unpacked);
}

#[tokio::test]
async fn what_is_whole_is_not_touched_while_it_can_not_be_noted_that_it_is_not() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = open(&host, &shim).await;
    daemon.restore(&hostile(&[(EntryType::Regular, "work/first", "x")])).await.expect("restored");
    let spool = host.path("state/spool");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o555)).expect("set");
    let second = hostile(&[(EntryType::Regular, "work/second", "x")]);
    let error = daemon.restore(&second).await.expect_err("refused");
    assert!(error.starts_with("write to the spool folder: "), "{error}");
    assert!(work(&host).join("first").exists() && !work(&host).join("second").exists());
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o755)).expect("set");
    daemon.restore(&second).await.expect("restored");
    assert!(!work(&host).join("first").exists() && work(&host).join("second").exists());
}

fn hostile(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Past the library, which would not write such names.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_mtime(1);
        let content = if is_link { &[][..] } else { content.as_bytes() };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).expect("appended");
    }
    builder.into_inner().expect("finished")
}

#[tokio::test]
async fn hostile_archives_are_refused_with_entry_and_reason() {
    use EntryType as T;
    type Case = (&'static [(T, &'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        (&[(T::Regular, "work/../../x", "x")], "entry \"work/../../x\" climbs out with '..'"),
        (&[(T::Regular, "/etc/x", "x")], "entry \"/etc/x\" is absolute"),
        (&[(T::Regular, "etc/x", "x")], "entry \"etc/x\" lies neither in the workspace nor in the state of the runtime"),
        (
            &[(T::Regular, "home/.bashrc", "x")],
            "entry \"home/.bashrc\" lies neither in the workspace nor in the state of the runtime",
        ),
        (&[(T::Char, "work/null", "")], "entry \"work/null\" is a device or a pipe"),
        (
            &[(T::Symlink, "work/l", "/home/agent"), (T::Regular, "work/l/x", "x")],
            "entry \"work/l/x\" lies below something that is no folder",
        ),
        (&[(T::Symlink, "work/l", "/home/agent/kept"), (T::Regular, "work/l", "x")], "entry \"work/l\" comes twice"),
        (&[(T::Link, "work/h", "/home/agent/kept")], "entry \"work/h\" is a hard link to something outside"),
        (
            &[(T::Symlink, "work/l", "/home/agent/kept"), (T::Link, "work/h", "work/l")],
            "entry \"work/h\" is a hard link to no file before it",
        ),
    ];
    let host = Host::new();
    fs::write(host.path("state/home/kept"), "kept").expect("written");
    let shim = host.shim();
    let mut daemon = open(&host, &shim).await;
    for (entries, reason) in cases {
        let error = daemon.restore(&hostile(entries)).await.expect_err(reason);
        assert_eq!(error, format!("restore: {reason}"));
        assert_eq!(fs::read(host.path("state/home/kept")).expect("there"), b"kept", "{reason}");
        for path in ["state/home/x", "state/home/.bashrc", "state/x", "x"] {
            assert!(!host.path(path).exists(), "{path}: {reason}");
        }
        assert!(!shim.connect().await.hello().await.unpacked, "{reason}");
        daemon = shim.connect().await;
        daemon.hello().await;
    }
    daemon.restore(&hostile(&[(T::Regular, "work/f", "x")])).await.expect("restored");
    assert_eq!(fs::read(work(&host).join("f")).expect("there"), b"x");
}

#[tokio::test]
async fn files_that_change_while_they_are_packed_leave_the_archive_whole() {
    let host = Host::new();
    let shim = host.shim();
    let mut daemon = shim.ready(&host, NOWHERE).await;
    let writer = "
        mkdir steady && seq 1000 >steady/file && touch alive
        while [ -e alive ]; do
            for n in 1 2 3 4 5 6 7 8; do
                head -c ${RANDOM}0 /dev/zero >grows-$n; : >grows-$n; mkdir -p folder-$n/a/b; mv folder-$n moved-$n
                ln -sfn /etc swapped-$n; rm -f swapped-$n; rm -rf moved-$n; seq 20000 >>grows-$n
            done
            echo >>rounds
        done
    ";
    fs::write(host.path("state/home/writer"), writer).expect("written");
    inside(&host, &mut daemon, "setsid bash /home/agent/writer </dev/null >/dev/null 2>&1 &").await;
    let rounds = || fs::metadata(work(&host).join("rounds")).map_or(0, |data| data.len());
    until("it writes", || (rounds() > 0).then_some(())).await;
    let to = Host::new();
    let second = to.shim();
    let mut other = open(&to, &second).await;
    for _ in 0..8 {
        let before = rounds();
        let archive = daemon.pack(&[]).await.expect("packed");
        assert!(!entries(&archive).is_empty());
        other.restore(&archive).await.expect("restored");
        let steady = fs::read_to_string(work(&to).join("steady/file")).expect("there");
        assert_eq!(steady.lines().count(), 1000);
        until("it goes on", || (rounds() > before).then_some(())).await;
    }
    fs::remove_file(work(&host).join("alive")).expect("removed");
}

#[tokio::test]
async fn twenty_thousand_small_files_go_through() {
    let from = Host::new();
    let shim = from.shim();
    let mut daemon = shim.ready(&from, NOWHERE).await;
    let make = "for d in $(seq 200); do mkdir $d; for f in $(seq 100); do echo $d $f >$d/$f; done; done";
    inside(&from, &mut daemon, make).await;
    let archive = daemon.pack(&[]).await.expect("packed");
    let to = Host::new();
    let second = to.shim();
    let mut other = open(&to, &second).await;
    other.restore(&archive).await.expect("restored");
    let after = tree(&work(&to));
    assert!(after.len() > 20_200, "{}", after.len());
    assert_same(&tree(&work(&from)), &after);
}
