//! `ashctl files edit`: what was written is put back, or kept.

use std::fs;

use super::fake::{Fake, SESSION};
use super::{ashctl, text};

fn edit(fake: &Fake, editor: &str, path: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = ashctl(&fake.server());
    command.env("XDG_RUNTIME_DIR", folder.path()).env_remove("VISUAL").env("EDITOR", editor);
    let output = command.args(["files", "edit", SESSION, path]).output().expect("it runs");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("reads").map(|entry| entry.expect("reads").path()).collect();
    let left = left.iter().map(|path| fs::read_to_string(path).expect("text")).collect();
    (output.status.code(), text(&output.stderr).to_owned(), left)
}

fn written(fake: &Fake) -> Vec<serde_json::Value> {
    let writes = fake.seen().into_iter().filter(|seen| seen.line == format!("POST /api/sessions/{SESSION}/files"));
    writes.map(|seen| serde_json::from_slice(&seen.body).expect("JSON")).collect()
}

#[test]
fn a_file_is_edited_and_put_back() {
    let fake = Fake::start();
    let (code, talk, left) = edit(&fake, "sed -i s/hello/bye/", "notes.md");
    assert_eq!((code, left.as_str()), (Some(0), ""), "{talk}");
    // "bye" and a line feed.
    assert_eq!(written(&fake), [serde_json::json!({"files": [{"path": "notes.md", "content": "YnllCg=="}]})]);
}

#[test]
fn a_file_that_is_not_there_yet_is_made_and_one_that_stays_the_same_is_not_written() {
    let fake = Fake::start();
    let (code, talk, _) = edit(&fake, "echo new >", "new.md");
    assert_eq!((code, written(&fake).len()), (Some(0), 1), "{talk}");
    let (code, talk, left) = edit(&fake, "true", "other.md");
    assert!(code == Some(0) && talk.contains("Nothing was changed") && left.is_empty(), "{talk}");
    assert_eq!(written(&fake).len(), 1);
}

#[test]
fn a_file_that_was_changed_meanwhile_is_left_and_the_text_is_kept() {
    let fake = Fake::start();
    // The editor of one is open while another one writes.
    let other = format!(
        "{} --server {} files put {SESSION} /proc/version --as notes.md >/dev/null && sed -i s/hello/mine/",
        env!("CARGO_BIN_EXE_ashctl"),
        fake.server()
    );
    let (code, talk, left) = edit(&fake, &other, "notes.md");
    assert_eq!((code, left.as_str()), (Some(1), "mine\n"), "{talk}");
    assert!(talk.contains("notes.md was changed meanwhile") && talk.contains("What you wrote is in "), "{talk}");
    assert_eq!(written(&fake).len(), 1, "only that of the other one");
}

#[test]
fn an_editor_that_fails_changes_nothing() {
    let fake = Fake::start();
    let (code, talk, left) = edit(&fake, "false", "notes.md");
    assert!(code == Some(1) && talk.contains("can not run the editor: false failed") && left.is_empty(), "{talk}");
    assert!(written(&fake).is_empty());
}
