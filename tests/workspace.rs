//! The workspace out of a session and into one, with the real runtime: whole or not at all, whatever
//! is sent and whatever dies in between.

mod support;

use std::io::{Read, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use support::http::{self, Open, Response, result};
use support::life::{self, UNDISTURBED, bash, end};
use support::{Daemon, Model, base64, memory, wait_for};
use tar::{EntryType, Header};

fn start() -> Option<(Model, Daemon)> {
    life::start(UNDISTURBED)
}

fn act(daemon: &Daemon, session: &str, verb: &str) {
    let done = daemon.send("POST", &format!("/api/sessions/{session}/{verb}"), &json!({}));
    assert!(done.ok_status(), "{}", done.text());
}

fn path(session: &str) -> String {
    format!("/api/sessions/{session}/workspace")
}

/// What the workspace is: names, modes, targets, contents.
fn digest(daemon: &Daemon, session: &str) -> String {
    let command = "cd /work && find . -printf '%P %m %y %l %n\\n' | LC_ALL=C sort | sha256sum; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum";
    result(&daemon.say(session, &format!("bash: {command}")))
}

fn furnish(daemon: &Daemon, session: &str) {
    bash(
        daemon,
        session,
        "mkdir -p a/b .hidden empty && echo one > a/b/one && ln -s a/b/one link && ln -s /work/a absolute && chmod 640 a/b/one \
         && ln a/b/one hard && head -c 300000 /dev/urandom > random && : > .hidden/none && printf x > \"$(printf 'b\\377d\\nname')\" \
         && truncate -s 1M holes && printf end >> holes && chmod 750 empty && printf x > run && chmod 755 run",
    );
}

/// A download, to its proper end.
fn download(daemon: &Daemon, session: &str, query: &str) -> (String, Vec<u8>) {
    let mut open = http::open(&daemon.control(), "GET", &format!("{}{query}", path(session)), &[], None).expect("answers");
    assert!(open.head.starts_with("HTTP/1.1 200"), "{}", open.head);
    let body = all(&mut open).expect("a body that is whole");
    (open.head.to_ascii_lowercase(), body)
}

fn all(open: &mut Open) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let chunk = open.chunk()?;
        if chunk.is_empty() {
            return Ok(body);
        }
        body.extend(chunk);
    }
}

fn names(bundle: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(GzDecoder::new(bundle));
    let names = archive.entries().expect("a tar").map(|entry| entry.expect("an entry").path_bytes().into_owned());
    names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
}

fn upload(daemon: &Daemon, session: &str, query: &str, bundle: &[u8]) -> Response {
    let kind = [("content-type", "application/gzip")];
    http::request(&daemon.control(), "POST", &format!("{}{query}", path(session)), &kind, Some(bundle))
}

fn good(response: &Response) -> String {
    assert!(response.ok_status(), "{}", response.text());
    response.json()["message"].as_str().expect("a message").to_owned()
}

fn header(kind: EntryType, name: &str, target: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    header
}

/// A bundle of entries: files with their content, links with their target.
fn bundle(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    for (kind, name, content) in entries {
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let (target, content) = if is_link { (std::str::from_utf8(content).expect("text"), &b""[..]) } else { ("", *content) };
        gzip.write_all(header(*kind, name, target, content.len() as u64).as_bytes()).expect("packs");
        gzip.write_all(content).expect("packs");
        gzip.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()]).expect("packs");
    }
    gzip.write_all(&[0; 1024]).expect("packs");
    gzip.finish().expect("packs")
}

fn file<'a>(name: &'a str, content: &'a str) -> (EntryType, &'a str, &'a [u8]) {
    (EntryType::Regular, name, content.as_bytes())
}

fn snapshots(daemon: &Daemon, session: &str) -> usize {
    daemon.get(&format!("/api/sessions/{session}/snapshots")).json()["snapshots"].as_array().expect("a list").len()
}

fn show(daemon: &Daemon, session: &str) -> Value {
    daemon.get(&format!("/api/sessions/{session}")).json()["session"].clone()
}

/// Bytes that can not be made smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    std::fs::File::open("/dev/urandom").and_then(|mut from| from.read_exact(&mut bytes)).expect("reads");
    bytes
}

#[test]
fn a_workspace_goes_into_another_session_byte_by_byte() {
    let Some((_model, daemon)) = start() else { return };
    let from = daemon.session();
    furnish(&daemon, &from);
    let before = digest(&daemon, &from);
    let (head, bytes) = download(&daemon, &from, "");
    for line in [
        "content-type: application/gzip",
        &format!("content-disposition: attachment; filename=\"{from}.tar.gz\""),
        "x-ash-source: sandbox",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let to = daemon.create(&json!({"agent": "test"}));
    bash(&daemon, &to, "echo old > old");
    assert_eq!(good(&upload(&daemon, &to, "?replace=true", &bytes)), "Workspace restored to live sandbox");
    assert_eq!(digest(&daemon, &to), before);

    act(&daemon, &from, "stop");
    let (head, cold) = download(&daemon, &from, "");
    assert!(head.contains("x-ash-source: snapshot"), "{head}");
    let text = json!({"bundle": base64(&cold)});
    let third = daemon.create(&json!({"agent": "test"}));
    assert_eq!(good(&daemon.send("POST", &path(&third), &text)), "Workspace restored to live sandbox");
    assert_eq!(digest(&daemon, &third), before, "also as JSON, and over a workspace that has nothing else");
}

#[test]
fn a_bundle_lies_over_what_is_there_and_the_conversation_goes_on() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    bash(&daemon, &session, "mkdir dir && echo old > dir/kept && echo old > dir/changed && echo old > file");
    let over = bundle(&[file("dir/changed", "new"), file("file/now/deep", "new"), file("added", "new")]);
    assert_eq!(good(&upload(&daemon, &session, "", &over)), "Workspace restored to live sandbox");
    let said = bash(&daemon, &session, "cat dir/kept dir/changed file/now/deep added | tr '\\n' ' '; ls CLAUDE.md");
    assert!(said.contains("old new") && said.contains("newnew") && said.contains("CLAUDE.md"), "{said}");
    good(&upload(&daemon, &session, "?replace=true", &bundle(&[file("only", "x")])));
    assert_eq!(bash(&daemon, &session, "ls -A").trim(), "only");
    let said = result(&daemon.say(&session, "remember?"));
    assert!(said.starts_with("user messages: 4"), "{said}");
    let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle")).json().to_string();
    assert_eq!(events.matches("runtime_started").count(), 1, "the runtime goes on");
    assert_eq!(events.matches("uploaded").count(), 2, "{events}");
}

#[test]
fn sessions_without_processes_give_and_take_by_their_snapshots() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    bash(&daemon, &session, "echo one > one");
    act(&daemon, &session, "stop");
    let new = bundle(&[file("two", "two")]);
    assert_eq!(good(&upload(&daemon, &session, "", &new)), "Workspace saved as snapshot");
    assert_eq!(show(&daemon, &session)["status"], "stopped");
    wait_for("its processes are gone", || support::shims(&daemon).is_empty().then_some(()));
    let (head, bytes) = download(&daemon, &session, "");
    assert!(head.contains("x-ash-source: snapshot"), "{head}");
    let found = names(&bytes);
    assert!(found.contains(&"./one".to_owned()) && found.contains(&"./two".to_owned()), "{found:?}");
    act(&daemon, &session, "resume");
    assert_eq!(bash(&daemon, &session, "cat one two").trim(), "one\ntwo");
    assert!(result(&daemon.say(&session, "remember?")).starts_with("user messages: 3"), "with its conversation");

    // Without systemd nothing is frozen, so the folder of what is paused waits without processes, and
    // may be newer than the snapshot.
    act(&daemon, &session, "pause");
    assert!(download(&daemon, &session, "").0.contains("x-ash-source: sandbox"));
    wait_for("it rests again", || (show(&daemon, &session)["sandboxState"] == "cold").then_some(()));
    assert_eq!(good(&upload(&daemon, &session, "", &bundle(&[file("three", "3")]))), "Workspace saved as snapshot");
    assert_eq!(show(&daemon, &session)["status"], "paused");

    end(&daemon, &session);
    let (head, bytes) = download(&daemon, &session, "");
    assert!(head.contains("x-ash-source: snapshot") && names(&bytes).contains(&"./three".to_owned()), "{head}");
    let over = upload(&daemon, &session, "", &new);
    assert_eq!((over.status, over.json()["error"].as_str()), (410, Some("Session has ended — create a new session")));
    let short = daemon.create(&json!({"agent": "test"}));
    end(&daemon, &short);
    let (head, bytes) = download(&daemon, &short, "");
    assert!(head.contains("x-ash-source: snapshot") && names(&bytes).contains(&"./CLAUDE.md".to_owned()), "its last one: {head}");
    std::fs::remove_dir_all(daemon.data().join("snapshots").join(&short)).expect("removes its snapshots");
    // As long as its folder is there, it could still be packed.
    let none = wait_for("its folder is gone", || Some(daemon.get(&path(&short))).filter(|answer| answer.status != 503));
    assert_eq!((none.status, none.json()["error"].as_str()), (404, Some("No workspace available for this session")));
    let unknown = daemon.get(&path("01900000-0000-7000-8000-000000000000"));
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("Session not found")));
}

#[test]
fn what_a_bundle_leaves_out_comes_with_all() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    bash(
        &daemon,
        &session,
        "mkdir -p node_modules/x .git a/tmp && touch node_modules/x/y .git/z a/tmp/w .env kept && ln -s /etc/passwd out && ln -s kept in",
    );
    let (_, some) = download(&daemon, &session, "");
    let found = names(&some);
    for name in ["./", "./CLAUDE.md", "./a/", "./in", "./kept"] {
        assert!(found.contains(&name.to_owned()), "{name} in {found:?}");
    }
    let is_left_out = |name: &String| ["node_modules", ".git", "tmp", ".env", "out"].iter().any(|part| name.contains(part));
    assert!(!found.iter().any(is_left_out), "{found:?}");
    let (_, all) = download(&daemon, &session, "?all=true");
    let found = names(&all);
    for name in ["./node_modules/x/y", "./.git/z", "./a/tmp/w", "./.env", "./out", "./in"] {
        assert!(found.contains(&name.to_owned()), "{name} in {found:?}");
    }
    act(&daemon, &session, "stop");
    let (_, cold) = download(&daemon, &session, "");
    assert_eq!(names(&cold), names(&some), "a snapshot gives the same");
    let refused = daemon.get(&format!("{}?al=true", path(&session)));
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[test]
fn hostile_bundles_are_refused_before_anything_is_touched() {
    use EntryType as T;
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    let kept = file("random", "overwritten");
    let whole = bundle(&[kept]);
    let mut plain = Vec::new();
    GzDecoder::new(&whole[..]).read_to_end(&mut plain).expect("gzip");
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(header(T::Regular, "bomb", "", 1 << 40).as_bytes()).expect("packs");
    bomb.write_all(&vec![0; 1 << 20]).expect("packs");
    for (bytes, status, reason) in [
        (bundle(&[kept, file("../climbs", "x")]), 400, "Entry \"../climbs\" climbs out with '..'"),
        (bundle(&[kept, file("/absolute", "x")]), 400, "Entry \"/absolute\" is absolute"),
        (bundle(&[kept, (T::Symlink, "l", b"/etc/passwd")]), 400, "Entry \"l\" is a link that leads out of the workspace"),
        (bundle(&[kept, (T::Symlink, "l", b"a"), file("l/x", "x")]), 400, "Entry \"l/x\" lies below something that is no folder"),
        (bundle(&[kept, (T::Link, "h", b"/etc/passwd")]), 400, "Entry \"h\" is a hard link to something outside of the bundle"),
        (bundle(&[kept, (T::Link, "h", b"a/b/one")]), 400, "Entry \"h\" is a hard link to no file before it"),
        (bundle(&[kept, (T::Char, "c", b"")]), 400, "Entry \"c\" is a device"),
        (bundle(&[kept, (T::Block, "c", b"")]), 400, "Entry \"c\" is a device"),
        (bundle(&[kept, (T::Fifo, "p", b"")]), 400, "Entry \"p\" is a named pipe"),
        (bundle(&[kept, kept]), 400, "Entry \"random\" comes twice"),
        (bundle(&[kept, file(&"n".repeat(100), "x"), (T::XHeader, "x", b"13 path=../y\n"), file("y", "x")]), 400, "climbs out"),
        (bomb.finish().expect("packs"), 413, "The bundle unpacks to more than"),
        (whole[..whole.len() - 9].to_vec(), 400, "The bundle ends too early"),
        ([&whole[..], b"garbage behind the end"].concat(), 400, "The bundle has more data after its end"),
        (plain, 400, "The bundle is not a tar archive compressed by gzip"),
        (Vec::new(), 400, "Empty bundle"),
    ] {
        let refused = upload(&daemon, &session, "", &bytes);
        let said = refused.json()["error"].as_str().expect("a sentence").to_owned();
        assert!(
            refused.status == status && said.starts_with(reason) || said.contains(reason),
            "{} {said}: {reason}",
            refused.status
        );
    }
    for (body, reason) in [
        (json!({"bundle": ""}), "Empty bundle"),
        (json!({"bundle": "no base64!"}), "bundle: is not base64"),
        (json!({}), "missing field `bundle`"),
        (json!({"bundle": base64(b"text")}), "The bundle is not a tar archive compressed by gzip"),
    ] {
        let refused = daemon.send("POST", &path(&session), &body);
        assert!(refused.status == 400 && refused.text().contains(reason), "{}: {reason}", refused.text());
    }
    let kind = http::request(&daemon.control(), "POST", &path(&session), &[("content-type", "application/zip")], Some(b"PK"));
    assert_eq!(kind.status, 415, "{}", kind.text());
    assert_eq!(digest(&daemon, &session), before);
    assert_eq!(snapshots(&daemon, &session), 0, "nothing began");
    let left = std::fs::read_dir(daemon.data().join("uploads")).expect("reads").count();
    assert_eq!(left, 0, "nothing stays of what was sent");
}

#[test]
fn an_upload_without_an_end_is_refused_at_its_bound_and_touches_nothing() {
    let Some((_model, daemon)) = life::start(&format!("[http]\nupload_bytes = \"1M\"\n{UNDISTURBED}")) else { return };
    let session = daemon.session();
    let content = noise(3 << 20);
    let (fits, large) =
        (bundle(&[(EntryType::Regular, "x", &content[..1 << 19])]), bundle(&[(EntryType::Regular, "x", &content)]));
    let sentence = "The bundle is larger than 1M, which is all that this host takes (http.upload_bytes)";
    // Whoever sends without an end and listens is told.
    let address = daemon.http.clone();
    let key = daemon.send("POST", "/api/api-keys", &json!({})).json()["key"].as_str().expect("a key").to_owned();
    let mut endless = std::net::TcpStream::connect(&address).expect("connects");
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/gzip\r\ntransfer-encoding: chunked\r\n\r\n",
        path(&session)
    );
    endless.write_all(head.as_bytes()).expect("writes");
    let mut answer = endless.try_clone().expect("clones");
    let told = std::thread::spawn(move || {
        let mut said = Vec::new();
        // The connection may break behind the answer.
        let _ = answer.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let chunk = [b"10000\r\n", &content[..1 << 16], b"\r\n"].concat();
    // It does not end by itself.
    while !told.is_finished() && endless.write_all(&chunk).is_ok() {}
    let told = told.join().expect("no panic");
    assert!(told.starts_with("HTTP/1.1 413") && told.contains(sentence), "{told}");

    let refused = daemon.send("POST", &path(&session), &json!({"bundle": base64(&large)}));
    assert_eq!((refused.status, refused.json()["error"].as_str()), (413, Some(sentence)));
    assert_eq!(snapshots(&daemon, &session), 0, "nothing began");
    assert_eq!(std::fs::read_dir(daemon.data().join("uploads")).expect("reads").count(), 0, "nothing stays of what was sent");
    good(&upload(&daemon, &session, "", &fits));
}

#[test]
fn uploads_wait_for_each_other_and_for_a_turn_and_downloads_for_nobody() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    let mut slow = daemon.post(&session, "slow: 60");
    slow.until("\"subtype\":\"init\"");
    assert!(download(&daemon, &session, "").0.contains("x-ash-source: sandbox"));
    assert_eq!(show(&daemon, &session)["sandboxState"], "running", "the turn goes on");
    let (one, two) = (noise(2 << 20), noise(2 << 20));
    let bundles = [&one, &two].map(|content| bundle(&[(EntryType::Regular, "x", content), (EntryType::Regular, "y", content)]));
    let (daemon, session) = (&daemon, &session);
    std::thread::scope(|scope| {
        let uploads = bundles.each_ref().map(|bundle| scope.spawn(move || upload(daemon, session, "", bundle)));
        // They have come, and wait.
        wait_for("both are there", || {
            assert!(!daemon.log().contains("workspace uploaded"));
            (open_uploads(daemon) == 2).then_some(())
        });
        daemon.send("POST", &format!("/api/sessions/{session}/interrupt"), &json!({}));
        slow.until("event: done");
        for upload in uploads {
            assert_eq!(good(&upload.join().expect("answers")), "Workspace restored to live sandbox");
        }
    });
    assert!(bash(daemon, session, "cmp x y && echo same").contains("same"), "one after the other");
}

/// Uploads that the daemon holds: nameless files.
fn open_uploads(daemon: &Daemon) -> usize {
    let folder = daemon.data().join("uploads");
    let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("reads");
    files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).filter(|path| path.starts_with(&folder)).count()
}

/// The workspace of the only session, on this host.
fn folder(daemon: &Daemon) -> PathBuf {
    let sandboxes = std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads");
    let mut found: Vec<_> = sandboxes.map(|entry| entry.expect("reads").path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).join("workspace")
}

#[test]
fn an_upload_whose_daemon_or_sandbox_dies_leaves_the_old_workspace_or_the_new_one() {
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    let large = noise(60 << 20);
    let bytes = bundle(&[file("aaa", "first"), (EntryType::Regular, "random", &large), file("zzz", "last")]);
    for (round, kills_daemon) in [true, false, true].into_iter().enumerate() {
        let first = folder(&daemon).join("aaa");
        let target = daemon.control();
        let sent = std::thread::scope(|scope| {
            let upload = scope.spawn(|| {
                let kind = [("content-type", "application/gzip")];
                http::request(&target, "POST", &path(&session), &kind, Some(&bytes))
            });
            wait_for("the first file is there", || first.exists().then_some(()));
            if kills_daemon {
                daemon.kill()
            } else {
                support::kill_shims(&daemon)
            }
            upload.join().expect("ends")
        });
        if kills_daemon {
            daemon.run();
        }
        let now = bash(&daemon, &session, "ls aaa zzz 2>/dev/null; stat -c %s random");
        let whole = now.contains("aaa\nzzz") && now.contains(&large.len().to_string());
        assert!(whole || digest(&daemon, &session) == before, "round {round}: neither the old nor the new one: {now}");
        assert!(!sent.ok_status() || whole, "round {round}: what was confirmed is there");
        good(&upload(&daemon, &session, "", &bundle(&[file("again", "x")])));
        bash(&daemon, &session, "rm -f aaa zzz again");
        if whole {
            return;
        }
        assert_eq!(digest(&daemon, &session), before);
    }
}

#[test]
fn a_session_that_ends_during_an_upload_keeps_the_old_workspace_or_the_new_one() {
    let Some((_model, daemon)) = start() else { return };
    let bytes = bundle(&[file("aaa", "first"), (EntryType::Regular, "large", &noise(60 << 20)), file("zzz", "last")]);
    for kills_sandbox in [false, true] {
        let session = daemon.session();
        let first = folder(&daemon).join("aaa");
        std::thread::scope(|scope| {
            let upload = scope.spawn(|| upload(&daemon, &session, "", &bytes));
            wait_for("the first file is there", || first.exists().then_some(()));
            end(&daemon, &session);
            if kills_sandbox {
                support::kill_shims(&daemon);
            }
            upload.join().expect("ends")
        });
        let (_, bytes) = download(&daemon, &session, "");
        let found = names(&bytes);
        let has = |name: &str| found.contains(&name.to_owned());
        assert!(has("./CLAUDE.md") && has("./aaa") == has("./zzz"), "neither the old nor the new one: {found:?}");
        let sandboxes = daemon.data().join("sandboxes");
        wait_for("its sandbox is gone", || std::fs::read_dir(&sandboxes).expect("reads").next().is_none().then_some(()));
    }
}

#[test]
fn a_body_that_breaks_off_is_no_upload() {
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.session();
    let before = digest(&daemon, &session);
    let content = noise(200_000);
    let bytes = bundle(&[(EntryType::Regular, "x", &content)]);
    let mut stream = http::connect(&daemon.control()).expect("connects");
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: h\r\ncontent-type: application/gzip\r\ncontent-length: {}\r\n\r\n",
        path(&session),
        bytes.len() + 1
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes)).expect("sends");
    wait_for("the upload is being received", || (open_uploads(&daemon) == 1).then_some(()));
    daemon.kill();
    daemon.run();
    assert_eq!(digest(&daemon, &session), before);
    assert_eq!(std::fs::read_dir(daemon.data().join("uploads")).expect("reads").count(), 0);
}

#[test]
fn large_workspaces_stream_through_little_memory_and_break_loudly() {
    const SIZE: usize = 200 << 20;
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.session();
    let bytes = bundle(&[(EntryType::Regular, "large", &noise(SIZE))]);
    let before = memory(daemon.pid(), "VmRSS");
    assert_eq!(good(&upload(&daemon, &session, "", &bytes)), "Workspace restored to live sandbox");
    let (_, back) = download(&daemon, &session, "");
    assert!(back.len() > SIZE / 2);
    let most = memory(daemon.pid(), "VmHWM");
    assert!(most < before + (64 << 20), "{most} bytes at its highest, {before} before");

    let open = |daemon: &Daemon| {
        let mut open = http::open(&daemon.control(), "GET", &path(&session), &[], None).expect("answers");
        assert!(open.head.starts_with("HTTP/1.1 200") && !open.chunk().expect("begins").is_empty(), "{}", open.head);
        open
    };
    let mut cut = open(&daemon);
    support::kill_shims(&daemon);
    assert!(all(&mut cut).is_err(), "its sandbox died");
    assert!(bash(&daemon, &session, "stat -c %s large").contains(&SIZE.to_string()));
    let mut cut = open(&daemon);
    daemon.kill();
    assert!(all(&mut cut).is_err(), "its daemon died");
    daemon.run();
    // A client that goes leaves nothing behind.
    drop(open(&daemon));
    assert!(bash(&daemon, &session, "stat -c %s large").contains(&SIZE.to_string()));
}

#[test]
fn ashctl_saves_a_workspace_and_puts_files_and_folders_in() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    bash(&daemon, &session, "echo one > one");
    let folder = tempfile::tempdir().expect("folder");
    let http::Target::Unix(socket) = daemon.control() else { panic!("the control socket is a Unix socket") };
    let ashctl = |arguments: &[&str], input: &[u8]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ashctl"));
        command.arg("--server").arg(format!("unix:{}", socket.display())).args(["session"]).args(arguments);
        command.current_dir(folder.path()).stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("ashctl starts");
        // One that refuses reads nothing.
        let _ = child.stdin.take().expect("piped").write_all(input);
        child.wait_with_output().expect("ends")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let saved = ashctl(&["download", &session], b"");
    assert!(saved.status.success(), "{}", text(&saved.stderr));
    assert_eq!(text(&saved.stdout).trim(), format!("{session}.tar.gz"));
    let bytes = std::fs::read(folder.path().join(format!("{session}.tar.gz"))).expect("is there");
    assert!(names(&bytes).contains(&"./one".to_owned()));
    let piped = ashctl(&["download", &session, "-"], b"");
    assert_eq!(names(&piped.stdout), names(&bytes));

    let local = folder.path().join("local");
    std::fs::create_dir_all(local.join("sub/.git")).expect("made");
    std::fs::write(local.join("sub/two"), "two\n").expect("written");
    let sent = ashctl(&["upload", &session, "local"], b"");
    assert_eq!(text(&sent.stdout).trim(), "Workspace restored to live sandbox", "{}", text(&sent.stderr));
    assert!(text(&sent.stderr).contains("Left out: sub/.git"), "{}", text(&sent.stderr));
    assert_eq!(bash(&daemon, &session, "cat one sub/two").trim(), "one\ntwo");
    let other = daemon.create(&json!({"agent": "test"}));
    assert!(ashctl(&["upload", &other, "-", "--replace"], &bytes).status.success());
    assert_eq!(bash(&daemon, &other, "ls | sort | tr '\\n' ' '").trim(), "CLAUDE.md one");
    let refused = ashctl(&["upload", &other, "-"], &bundle(&[file("../x", "x")]));
    assert!(!refused.status.success() && text(&refused.stderr).contains("climbs out with '..'"), "{}", text(&refused.stderr));
    let unread = ashctl(&["upload", &other, "nothing"], b"");
    assert!(text(&unread.stderr).contains("can not read nothing"), "{}", text(&unread.stderr));
}
