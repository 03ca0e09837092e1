//! Files of a tenant that are of no session: kept as they came, given to sessions, read by link, and gone when their time
//! is over.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::http::{self, Response, result};
use support::life::{UNDISTURBED, bash, start};
use support::{Daemon, MODEL_KEY, Model, base64, claude};

fn upload(daemon: &Daemon, body: &Value) -> Response {
    daemon.send("POST", "/api/files", body)
}

fn keep(daemon: &Daemon, name: &str, content: &[u8]) -> Value {
    let answer = upload(daemon, &json!({"filename": name, "content": base64(content)}));
    assert_eq!(answer.status, 201, "{}\n{}", answer.text(), daemon.log());
    answer.json()["file"].clone()
}

fn id(file: &Value) -> &str {
    file["id"].as_str().expect("an id")
}

fn listed(daemon: &Daemon, query: &str) -> Vec<String> {
    let answer = daemon.get(&format!("/api/files{query}"));
    assert!(answer.ok_status(), "{}", answer.text());
    let files = answer.json()["files"].as_array().expect("a list").clone();
    files.iter().map(|file| file["filename"].as_str().expect("a name").to_owned()).collect()
}

fn on_disk(daemon: &Daemon, file: &Value) -> PathBuf {
    daemon.data().join(file["storagePath"].as_str().expect("a path"))
}

fn header(answer: &Response, name: &str) -> String {
    let line = answer.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.and_then(|line| line.split_once(": ")).map_or_else(String::new, |(_, value)| value.to_owned())
}

#[test]
fn a_file_is_kept_as_it_came_listed_newest_first_and_deleted_with_its_bytes() {
    let Some((_model, mut daemon)) = start("") else { return };
    let bytes: Vec<u8> = (0..=255).collect();
    let body = json!({"filename": "../up/ä b.bin", "content": base64(&bytes), "mimeType": "image/x-test", "ttl": "7d", "projectId": "x"});
    let answer = upload(&daemon, &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let file = answer.json()["file"].clone();
    for (field, value) in [
        ("filename", json!("ä b.bin")),
        ("mimeType", json!("image/x-test")),
        ("size", json!(256)),
        ("ttl", json!("7d")),
        ("tenantId", json!("default")),
        ("storagePath", json!(format!("files/{}", id(&file)))),
    ] {
        assert_eq!(file[field], value, "{field}");
    }
    let time = |field: &str| file[field].as_str().expect("a time").to_owned();
    assert!(time("expiresAt")[..10] > time("createdAt")[..10], "{file}");
    let path = on_disk(&daemon, &file);
    for (path, mode) in [(path.as_path(), 0o600), (path.parent().expect("a folder"), 0o700)] {
        assert_eq!(std::fs::metadata(path).expect("is there").permissions().mode() & 0o777, mode, "{}", path.display());
    }

    let second = keep(&daemon, "second", b"2");
    assert_eq!((&second["ttl"], &second["expiresAt"]), (&json!("permanent"), &Value::Null));
    keep(&daemon, "third", b"3");
    daemon.kill();
    daemon.run();
    assert_eq!(listed(&daemon, ""), ["third", "second", "ä b.bin"]);
    assert_eq!(listed(&daemon, "?limit=1"), ["third"]);
    assert_eq!(listed(&daemon, &format!("?before={}", id(&second))), ["ä b.bin"]);
    assert_eq!(daemon.get(&format!("/api/files/{}", id(&file))).json()["file"], file);
    let content = daemon.get(&format!("/api/files/{}/content", id(&file)));
    assert_eq!((content.status, &content.body), (200, &bytes), "{}", content.text());
    assert_eq!(header(&content, "content-type"), "image/x-test");
    assert_eq!(header(&content, "content-disposition"), "attachment; filename*=UTF-8''%C3%A4%20b.bin");
    assert_eq!(header(&content, "x-content-type-options"), "nosniff");

    let gone = format!("/api/files/{}", id(&file));
    assert_eq!(daemon.send("DELETE", &gone, &json!({})).json(), json!({"ok": true}));
    assert!(!path.exists());
    for path in [gone.clone(), format!("{gone}/content"), format!("{gone}/url")] {
        let answer = daemon.get(&path);
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("File not found")), "{path}");
    }
    assert_eq!(daemon.send("DELETE", &gone, &json!({})).status, 404);
}

#[test]
fn what_can_be_no_file_is_refused_by_field_and_leaves_nothing() {
    let limits = "[http]\nattachment_bytes = \"1M\"\n[files]\nmax = 2\nmax_bytes = \"1M\"\n";
    let Some((_model, daemon)) = start(limits) else { return };
    let content = base64(b"x");
    for (body, status, told) in [
        (json!({"filename": "", "content": content}), 400, "filename: has to be"),
        (json!({"filename": "..", "content": content}), 400, "filename: has to be"),
        (json!({"content": content}), 400, "filename: is missing"),
        (json!({"filename": "a"}), 400, "content: is missing"),
        (json!({"filename": "a", "content": "?"}), 400, "content: is not base64"),
        (json!({"filename": "a", "content": ""}), 400, "Empty file content"),
        (json!({"filename": "a", "content": content, "mimeType": "a\r\nb: c"}), 400, "mimeType: has to be"),
        (json!({"filename": "a", "content": content, "ttl": "2h"}), 400, "ttl: "),
        (json!({"filename": "a", "content": base64(&vec![0; (1 << 20) + 1])}), 413, "File too large (max 1048576 bytes)"),
    ] {
        let answer = upload(&daemon, &body);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && error.contains(told), "{told}: {}", answer.text());
    }
    let folder = daemon.data().join("files");
    let count = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
    assert_eq!(count(), 0);
    keep(&daemon, "half", &vec![1; 600 << 10]);
    let over = upload(&daemon, &json!({"filename": "other half", "content": base64(&vec![1; 600 << 10])}));
    let told =
        "The tenant has 2 files or 1048576 bytes of them, the most that one may have (files.max, files.max_bytes); delete some";
    assert_eq!((over.status, &over.json()["error"]), (409, &json!(told)));
    keep(&daemon, "small", b"x");
    assert_eq!(upload(&daemon, &json!({"filename": "third", "content": content})).status, 409);
    assert_eq!(count(), 2, "no bytes stay of what was refused");
    for bad in ["/api/files?limit=0", "/api/files?before=x", "/api/files/x", "/api/files/x/url"] {
        assert_eq!(daemon.get(bad).status, 400, "{bad}");
    }
}

#[test]
fn a_link_needs_no_key_and_is_good_for_one_file_until_its_end() {
    let Some((_model, daemon)) = start("[http]\nfailure_limit = \"20/min\"\n") else { return };
    let bearer = daemon.bearer(&json!({"scopes": ["read", "run"]}));
    let file = keep(&daemon, "shared.txt", b"for everybody");
    let other = keep(&daemon, "other.txt", b"for nobody");
    let link = |query: &str| {
        let path = format!("/api/files/{}/url{query}", id(&file));
        let answer = http::request(&daemon.tcp(), "GET", &path, &[("authorization", &bearer)], None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["url"].as_str().expect("a link").to_owned()
    };
    let url = link("");
    let path = url.strip_prefix("http://localhost").unwrap_or_else(|| panic!("{url}"));
    let read = |path: &str| http::request(&daemon.tcp(), "GET", path, &[], None);
    let answer = read(path);
    assert_eq!((answer.status, answer.text().as_str()), (200, "for everybody"));
    assert_eq!(header(&answer, "content-disposition"), "attachment; filename*=UTF-8''shared.txt");
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let acts = daemon.get("/api/audit?action=file.link").json();
    assert_eq!(acts["entries"][0]["object"], file["id"], "{acts}");
    let reads = daemon.bearer(&json!({"scopes": ["read"]}));
    let refused =
        http::request(&daemon.tcp(), "GET", &format!("/api/files/{}/url", id(&file)), &[("authorization", &reads)], None);
    assert_eq!(refused.status, 403, "{}", refused.text());
    let relative = daemon.get(&format!("/api/files/{}/url", id(&file))).json();
    assert!(relative["url"].as_str().is_some_and(|url| url.starts_with("/api/files/")), "{relative}");

    let (base, query) = path.split_once('?').expect("a query");
    let signature = query.split_once("signature=").expect("signed").1;
    let end: i64 = query.split(['=', '&']).nth(1).and_then(|end| end.parse().ok()).expect("an end");
    let past = format!("{base}?expires=1&signature={signature}");
    for bad in [
        base.to_owned(),
        format!("{base}?expires={}&signature={signature}", end + 1),
        format!("{base}?expires={end}&signature="),
        format!("{base}?expires={end}&signature={}", &signature[1..]),
        path.replace(id(&file), id(&other)),
        past.clone(),
    ] {
        let answer = read(&bad);
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("File not found")), "{bad}");
    }
    for bad in ["?expiresIn=0", "?expiresIn=604801"] {
        let answer = daemon.get(&format!("/api/files/{}/url{bad}", id(&file)));
        assert_eq!((answer.status, &answer.json()["details"][0]["field"]), (400, &json!("expiresIn")), "{bad}");
    }

    // Guesses are counted by their address, and good links are not held up by them.
    let refused = (0..40).map(|_| read(&past).status).find(|status| *status == 429);
    assert_eq!(refused, Some(429));
    assert_eq!(read(path).status, 200);
    assert_eq!(daemon.send("DELETE", &format!("/api/files/{}", id(&file)), &json!({})).status, 200);
    assert!(matches!(read(path).status, 404 | 429), "a link ends with its file");
    assert!(!daemon.log().contains(signature), "a link is a secret");
}

#[test]
fn links_begin_with_the_address_that_is_configured() {
    let Some((_model, daemon)) = start("[http]\npublic_url = \"https://ash.example/below/\"\n") else { return };
    let file = keep(&daemon, "a", b"x");
    let url = daemon.get(&format!("/api/files/{}/url?expiresIn=60", id(&file))).json()["url"].clone();
    let wanted = format!("https://ash.example/below/api/files/{}/download?expires=", id(&file));
    assert!(url.as_str().is_some_and(|url| url.starts_with(&wanted)), "{url}");
}

#[test]
fn a_session_is_given_a_copy_that_the_model_is_shown() {
    let Some(claude) = claude() else { return };
    let model = Model::start_with(&["--require-key", MODEL_KEY, "--log-bodies"]);
    let daemon = Daemon::start_with(&claude, &model.url, UNDISTURBED);
    let session = daemon.session();
    let pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj 3 0 obj<</Type/Page/MediaBox[0 0 9 9]/Parent 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n";
    let file = upload(&daemon, &json!({"filename": "a.pdf", "content": base64(pdf), "mimeType": "application/pdf"}));
    let file = file.json()["file"].clone();
    let path = format!("/api/sessions/{session}/attachments");
    let attach = |body: Value| daemon.send("POST", &path, &body);
    let answer = attach(json!({"fileId": file["id"]}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let attached = answer.json()["attachment"].clone();
    assert_eq!(
        [&attached["filename"], &attached["mimeType"], &attached["size"], &attached["path"]],
        [&json!("a.pdf"), &json!("application/pdf"), &json!(pdf.len()), &json!("attachments/a.pdf")]
    );
    let renamed =
        attach(json!({"fileId": file["id"], "filename": "b.txt", "mimeType": "text/plain"})).json()["attachment"].clone();
    assert_eq!((&renamed["path"], &renamed["mimeType"]), (&json!("attachments/b.txt"), &json!("text/plain")));
    assert_eq!(bash(&daemon, &session, "cmp attachments/a.pdf attachments/b.txt && echo same"), "same");

    let block = json!({"type": "attachment", "attachmentId": attached["id"]});
    let content = json!([block, {"type": "text", "text": "say: seen"}]);
    assert_eq!(result(&daemon.turn(&session, &json!({"content": content}))), "seen");
    let requests = model.requests();
    let shown = requests.iter().rev().find(|request| request["user"] == "say: seen").expect("the message came");
    let messages = shown["body"]["messages"].as_array().expect("messages");
    let mut blocks = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
    let document = blocks.find(|block| block["type"] == "document").expect("the document");
    assert_eq!(
        (&document["source"]["media_type"], &document["source"]["data"]),
        (&json!("application/pdf"), &json!(base64(pdf)))
    );

    // What was given stays, whatever becomes of the file.
    assert_eq!(daemon.send("DELETE", &format!("/api/files/{}", id(&file)), &json!({})).status, 200);
    assert_eq!(daemon.get(&format!("/api/attachments/{}", id(&attached))).body, pdf);
    let stranger = uuid::Uuid::now_v7();
    for (body, status, told) in [
        (json!({"fileId": file["id"]}), 404, "File not found"),
        (json!({"fileId": stranger}), 404, "File not found"),
        (json!({"fileId": "x"}), 400, "fileId: "),
        (json!({"fileId": stranger, "content": "eA=="}), 400, "fileId: can not stand beside content"),
    ] {
        let answer = attach(body);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && error.contains(told), "{told}: {}", answer.text());
    }
}

#[test]
fn a_key_for_one_agent_has_no_files_and_no_copy_of_one() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let file = keep(&daemon, "a", b"x");
    let bearer = daemon.bearer(&json!({"agent": "test", "scopes": ["read", "run"]}));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for path in ["/api/files".to_owned(), format!("/api/files/{}", id(&file)), format!("/api/files/{}/url", id(&file))] {
        assert_eq!(http::request(&daemon.tcp(), "GET", &path, &headers, None).status, 403, "{path}");
    }
    let body = json!({"fileId": file["id"]}).to_string();
    let path = format!("/api/sessions/{session}/attachments");
    let answer = http::request(&daemon.tcp(), "POST", &path, &headers, Some(body.as_bytes()));
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[test]
fn what_nobody_needs_is_removed() {
    let Some((_model, mut daemon)) = start("") else { return };
    let (kept, lost) = (keep(&daemon, "kept", b"x"), keep(&daemon, "lost", b"x"));
    let expires = upload(&daemon, &json!({"filename": "old", "content": base64(b"xx"), "ttl": "1h"})).json()["file"].clone();
    std::fs::remove_file(on_disk(&daemon, &lost)).expect("removes");
    let strays = [false, true].map(|is_old| {
        let path = daemon.data().join("files").join(uuid::Uuid::now_v7().to_string());
        std::fs::write(&path, b"stray").expect("writes");
        if is_old {
            let file = std::fs::File::options().write(true).open(&path).expect("opens");
            file.set_modified(SystemTime::now() - Duration::from_secs(7200)).expect("ages");
        }
        path
    });
    let gc = |daemon: &Daemon, dry: bool| {
        let answer = daemon.send("POST", "/api/gc", &json!({"dryRun": dry}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let removals = answer.json()["removals"].as_array().expect("a list").clone();
        let mut removed: Vec<_> = removals
            .into_iter()
            .filter(|one| one["kind"] == "project_file")
            .map(|one| {
                format!(
                    "{}: {} ({})",
                    one["name"].as_str().expect("a name"),
                    one["reason"].as_str().expect("a reason"),
                    one["bytes"]
                )
            })
            .collect();
        removed.sort();
        removed
    };
    let stray = strays[1].file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(gc(&daemon, true), [format!("{stray}: it belongs to nobody (5)")]);
    let content = daemon.get(&format!("/api/files/{}/content", id(&lost)));
    assert_eq!((content.status, &content.json()["error"]), (404, &json!("The bytes of the file are not on the disk")));

    // Its hour passes while the daemon is down.
    daemon.kill();
    let database = rusqlite::Connection::open(daemon.data().join("ash.db")).expect("opens");
    let changed = database.execute("update project_files set expires_at = 1 where id = $1", [id(&expires)]);
    assert_eq!(changed.expect("changes"), 1);
    drop(database);
    daemon.run();
    assert_eq!(daemon.get(&format!("/api/files/{}", id(&expires))).status, 404, "nobody finds it any more");
    let told = support::wait_for("the daemon has looked at its start", || {
        let log = daemon.log();
        (log.contains("it has expired") && log.contains("it belongs to nobody")).then_some(log)
    });
    assert!(told.contains(id(&expires)), "{told}");
    assert_eq!(gc(&daemon, true), Vec::<String>::new());
    assert_eq!(listed(&daemon, ""), ["lost", "kept"], "bytes that are missing may come back");
    std::fs::write(on_disk(&daemon, &lost), b"x").expect("writes");
    assert_eq!(daemon.get(&format!("/api/files/{}/content", id(&lost))).body, b"x");
    assert!(strays[0].exists() && !strays[1].exists() && !on_disk(&daemon, &expires).exists());
    assert!(on_disk(&daemon, &kept).exists());
}
