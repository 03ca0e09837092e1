//! Snapshots that are damaged, of another release, or can not be written: what was lost is told,
//! and what was not lost is not given up.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::disk::{fill, mount, own_mounts, remount, unmount};
use support::http::result;
use support::life::{act, digest, edit_manifest, fork, furnish, good, lifecycle, newest_folder, remembered, show, snapshots};
use support::{Daemon, Model, shims, wait_for};

fn start() -> Option<(Model, Daemon)> {
    support::life::start("")
}

fn data(folder: &Path) -> std::path::PathBuf {
    folder.join("data.tar.zst")
}

fn cut(folder: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(data(folder)).expect("opens");
    let length = file.metadata().expect("there").len();
    file.set_len(length / 2).expect("cuts");
}

fn flip(folder: &Path) {
    let mut bytes = std::fs::read(data(folder)).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(data(folder), bytes).expect("writes");
}

fn events(daemon: &Daemon, session: &str) -> Vec<i64> {
    snapshots(daemon, session).iter().map(|one| one["eventId"].as_i64().expect("a number")).collect()
}

fn newest_resumed(daemon: &Daemon, session: &str) -> Value {
    lifecycle(daemon, session, "resumed").pop().expect("it was resumed")
}

#[test]
fn a_session_whose_newest_snapshot_is_damaged_goes_on_from_the_one_before_and_says_so() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    for (damage, word) in [(cut as fn(&Path), "cut"), (flip, "flipped")] {
        furnish(&daemon, &session);
        let (before, known) = (digest(&daemon, &session), remembered(&daemon, &session));
        good(&act(&daemon, &session, "stop"));
        good(&act(&daemon, &session, "resume"));
        daemon.say(&session, "bash: echo late > late");
        good(&act(&daemon, &session, "stop"));
        let [.., whole, newest] = events(&daemon, &session)[..] else { panic!("two snapshots") };
        damage(&newest_folder(&daemon, &session));
        good(&act(&daemon, &session, "resume"));
        let wanted = json!({"action": "resumed", "path": "cold", "source": "local", "event": whole, "skipped": [newest]});
        assert_eq!(newest_resumed(&daemon, &session), wanted, "{word}");
        assert_eq!(digest(&daemon, &session), before, "{word}");
        assert_eq!(remembered(&daemon, &session), known + 2, "{word}: of what is gone nothing is remembered");
    }
}

#[test]
fn a_session_without_any_whole_snapshot_begins_anew_and_says_so() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    good(&act(&daemon, &session, "stop"));
    let mut lost = events(&daemon, &session);
    for event in &lost {
        flip(&daemon.data().join("snapshots").join(&session).join(format!("{event:019}")));
    }
    good(&act(&daemon, &session, "resume"));
    lost.reverse();
    let wanted = json!({"action": "resumed", "path": "cold", "source": "fresh", "skipped": lost});
    assert_eq!(newest_resumed(&daemon, &session), wanted);
    assert_eq!(result(&daemon.say(&session, "bash: ls -A")), "result: CLAUDE.md");
    assert_eq!(remembered(&daemon, &session), 2, "the conversation begins with it");
}

#[test]
fn a_snapshot_of_another_version_of_the_runtime_is_resumed_with_a_word() {
    let Some((_model, daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    let mut is = String::new();
    edit_manifest(&newest_folder(&daemon, &session), |manifest| {
        is = manifest["runtimeVersion"].as_str().expect("text").to_owned();
        manifest["runtimeVersion"] = json!("1.0.0");
    });
    good(&act(&daemon, &session, "resume"));
    assert_eq!(newest_resumed(&daemon, &session)["runtimeVersion"], json!({"packed": "1.0.0", "now": is}));
    assert_eq!(digest(&daemon, &session), before);
    assert_eq!(remembered(&daemon, &session), 4);
}

#[test]
fn a_snapshot_of_a_newer_release_is_refused_by_name_and_loses_nothing() {
    let Some((_model, mut daemon)) = start() else { return };
    let session = daemon.session();
    furnish(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    let before = digest(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    let folder = newest_folder(&daemon, &session);
    edit_manifest(&folder, |manifest| manifest["format"] = json!(2));
    let word = "has format 2, which needs a newer release of Ash";
    for round in 0..2 {
        let refused = act(&daemon, &session, "resume");
        let sentence = refused.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(refused.status, 500, "{sentence}");
        assert!(sentence.starts_with("Failed to resume session: ") && sentence.contains(word), "{sentence}");
        let failed = lifecycle(&daemon, &session, "resume_failed");
        assert_eq!(failed.len(), round + 1, "{failed:?}");
        assert!(failed[round]["error"].as_str().is_some_and(|error| error.contains(word)), "{failed:?}");
        assert!(lifecycle(&daemon, &session, "resumed").len() == 1, "it was not");
        assert_eq!(show(&daemon, &session)["status"], "stopped", "it is as it was");
    }
    let refused = act(&daemon, &session, "fork");
    assert!(refused.status >= 400 && refused.text().contains(word), "{}", refused.text());
    daemon.stop();
    daemon.run();
    // The release that reads it.
    edit_manifest(&folder, |manifest| manifest["format"] = json!(1));
    good(&act(&daemon, &session, "resume"));
    assert_eq!(digest(&daemon, &session), before);
}

#[test]
fn a_stop_without_room_for_its_snapshot_keeps_the_folder_and_loses_nothing() {
    if !own_mounts() {
        return;
    }
    let Some((_model, mut daemon)) = start() else { return };
    daemon.stop();
    let store = daemon.data().join("snapshots");
    mount(&store, "size=16m,mode=0700");
    daemon.run();
    let session = daemon.session();
    furnish(&daemon, &session);
    good(&act(&daemon, &session, "stop"));
    good(&act(&daemon, &session, "resume"));
    let ballast = store.join("ballast");
    let full = |is: bool| {
        if is { fill(&ballast) } else { std::fs::remove_file(&ballast).expect("removes") }
    };
    let read_only = |is: bool| remount(&store, if is { "ro" } else { "rw" });
    let causes: [(&dyn Fn(bool), &str); 2] = [(&full, "no room left"), (&read_only, "Read-only file system")];
    for (number, (spoil, word)) in causes.into_iter().enumerate() {
        daemon.say(&session, &format!("bash: echo {number} > newest"));
        let before = digest(&daemon, &session);
        let taken = events(&daemon, &session);
        spoil(true);
        assert_eq!(good(&act(&daemon, &session, "stop"))["status"], "stopped", "{word}");
        wait_for("its processes are gone", || shims(&daemon).is_empty().then_some(()));
        let failed = lifecycle(&daemon, &session, "snapshot_failed");
        assert_eq!(failed.len(), 2 * number + 1, "{failed:?}");
        assert!(failed[2 * number]["error"].as_str().is_some_and(|error| error.contains(word)), "{failed:?}");
        let left = || std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").count();
        assert_eq!((left(), events(&daemon, &session)), (1, taken), "the folder is kept, and the snapshots are");
        let refused = act(&daemon, &session, "fork");
        assert!(refused.status >= 400, "not from an older snapshot without a word: {}", refused.text());
        spoil(false);
        // Now there is room for what the older snapshot has not.
        let child = fork(&daemon, &session);
        good(&act(&daemon, &child, "resume"));
        assert_eq!(result(&daemon.say(&child, "bash: cat newest")), format!("result: {number}"));
        daemon.send("DELETE", &format!("/api/sessions/{child}"), &json!({}));
        good(&act(&daemon, &session, "resume"));
        assert_eq!(digest(&daemon, &session), before, "{word}");
    }
    good(&act(&daemon, &session, "stop"));
    wait_for("a whole snapshot takes the place of the folder", || {
        std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").next().is_none().then_some(())
    });
    daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({}));
    unmount(&store);
}

#[test]
fn an_end_without_room_for_its_snapshot_keeps_the_folder_until_there_is_room() {
    if !own_mounts() {
        return;
    }
    let Some((_model, mut daemon)) = support::life::start("[sessions]\nsweep_every = \"1s\"") else { return };
    daemon.stop();
    let store = daemon.data().join("snapshots");
    mount(&store, "size=16m,mode=0700");
    daemon.run();
    let session = daemon.session();
    furnish(&daemon, &session);
    let before = digest(&daemon, &session);
    let ballast = store.join("ballast");
    fill(&ballast);
    assert!(daemon.send("DELETE", &format!("/api/sessions/{session}"), &json!({})).ok_status());
    let tries = || daemon.log().matches("an ended session can not be packed now").count();
    wait_for("it was tried again", || (tries() > 1).then_some(()));
    let refused = act(&daemon, &session, "fork");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").count(), 1, "the folder is kept");
    std::fs::remove_file(&ballast).expect("removes");
    wait_for("it is packed, and the folder gone", || {
        std::fs::read_dir(daemon.data().join("sandboxes")).expect("reads").next().is_none().then_some(())
    });
    let taken = snapshots(&daemon, &session);
    assert_eq!(taken.iter().map(|one| &one["reason"]).collect::<Vec<_>>(), ["end"]);
    assert!(lifecycle(&daemon, &session, "snapshot_failed").is_empty(), "in the end it did not fail");
    let child = fork(&daemon, &session);
    good(&act(&daemon, &child, "resume"));
    assert_eq!(digest(&daemon, &child), before);
    daemon.send("DELETE", &format!("/api/sessions/{child}"), &json!({}));
    wait_for("nothing is left", || shims(&daemon).is_empty().then_some(()));
    unmount(&store);
}
