//! Contexts: which daemon is asked, with which key, and the file they are in.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::fake::{Fake, KEY};
use super::{ashctl, text};

/// A home without a context in use.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ash/contexts.toml")
    }

    /// A command of whom nothing but the file of contexts says where the daemon is.
    fn ashctl(&self, arguments: &[&str]) -> Command {
        let mut command = ashctl("");
        command.env_remove("ASHCTL_CONFIG").env("XDG_CONFIG_HOME", self.folder.path()).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.ashctl(arguments).output().expect("it runs")
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    fn write(&self, content: &str) {
        fs::create_dir_all(self.file().parent().expect("a folder")).expect("made");
        fs::write(self.file(), content).expect("written");
        fs::set_permissions(self.file(), fs::Permissions::from_mode(0o600)).expect("closed");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn options_go_before_the_environment_before_the_context_in_use() {
    let (one, two, three, home) = (Fake::start(), Fake::start(), Fake::start(), Home::new());
    for (name, fake) in [("one", &one), ("two", &two), ("three", &three)] {
        home.good(&["context", "add", name, &fake.server()]);
    }
    home.good(&["context", "use", "one"]);
    let url = two.server();
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a Fake);
    let cases: &[Case<'_>] = &[
        (&[], &[], &one),
        (&[], &[("ASH_CONTEXT", "two")], &two),
        (&[], &[("ASH_CONTEXT", "three"), ("ASH_SERVER_URL", &url)], &two),
        (&["--context", "three"], &[("ASH_SERVER_URL", &url), ("ASH_CONTEXT", "two")], &three),
        (&["--server", &url], &[("ASH_CONTEXT", "three")], &two),
    ];
    for (options, variables, asked) in cases {
        let before = asked.seen().len();
        let output = home.ashctl(options).args(["agent", "list"]).envs(variables.iter().copied()).output().expect("it runs");
        assert!(output.status.success(), "{options:?} {variables:?}: {}", text(&output.stderr));
        assert_eq!(asked.seen().len(), before + 1, "{options:?} {variables:?}");
    }
    home.good(&["context", "use", "--none"]);
    assert!(!fs::read_to_string(home.file()).expect("reads").contains("current"));
}

#[test]
fn keys_come_from_the_file_another_file_or_a_command_and_are_never_printed() {
    let (fake, home) = (Fake::start(), Home::new());
    let key_file = home.folder.path().join("key");
    fs::write(&key_file, format!("{KEY}\n")).expect("written");
    let path = key_file.to_str().expect("text");
    let command = format!("cat {path}");
    home.good(&["context", "add", "file", &fake.url, "--key-file", path]);
    home.good(&["context", "add", "command", &fake.url, "--key-command", &command]);
    home.good(&["context", "add", "none", &fake.url]);
    let mut add = home.ashctl(&["context", "add", "stored", &fake.url, "--key", "--use"]);
    let mut child = add.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(KEY.as_bytes()).expect("written");
    assert!(child.wait().expect("ended").success());

    let key_of = |arguments: &[&str], variable: Option<&str>| {
        let output = home.ashctl(arguments).args(["agent", "list"]).envs(variable.map(|key| ("ASH_API_KEY", key))).output();
        let code = output.expect("it runs").status.code();
        (code, fake.seen().last().expect("a request").authorization.clone())
    };
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    for name in ["file", "command", "stored"] {
        assert_eq!(key_of(&["--context", name], None), (Some(0), bearer(KEY)), "{name}");
        // The key of a context that is named on the command line is its own.
        assert_eq!(key_of(&["--context", name], Some("ash_other")), (Some(0), bearer(KEY)), "{name}");
        assert_eq!(key_of(&["--context", name, "--api-key", "ash_bad"], None), (Some(5), bearer("ash_bad")), "{name}");
    }
    assert_eq!(key_of(&[], None), (Some(0), bearer(KEY)));
    assert_eq!(key_of(&[], Some("ash_other")), (Some(5), bearer("ash_other")));
    assert_eq!(key_of(&["--context", "none"], Some(KEY)), (Some(0), bearer(KEY)));

    assert_eq!((mode(&home.file()), mode(home.file().parent().expect("a folder"))), (0o600, 0o700));
    assert!(fs::read_to_string(home.file()).expect("reads").contains(KEY));
    for arguments in
        [&["context", "list"][..], &["context", "show"], &["context", "list", "-o", "json"], &["context", "show", "stored"]]
    {
        let shown = home.good(arguments);
        assert!(shown.contains("stored") && !shown.contains(KEY), "{shown}");
    }
}

#[test]
fn a_file_of_no_use_is_told_by_place_and_left_as_it_is() {
    let home = Home::new();
    let path = home.file().display().to_string();
    for (content, words) in [
        ("current = \"a\"\n", format!("{path}:1: current: there is no context \"a\"")),
        ("\n[contexts.a]\nsever = \"https://a\"\n", format!("{path}:3: unknown field `sever`")),
    ] {
        home.write(content);
        for arguments in [&["agent", "list"][..], &["context", "list"], &["context", "add", "b", "https://b"]] {
            let output = home.run(arguments);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(text(&output.stderr).contains(&words), "{arguments:?}: {}", text(&output.stderr));
        }
        assert_eq!(fs::read_to_string(home.file()).expect("reads"), content);
    }
    home.write("[contexts.a]\nserver = \"https://a\"\nkey = \"ash_secret\"\n");
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o644)).expect("opened");
    let output = home.run(&["--context", "a", "agent", "list"]);
    let talk = text(&output.stderr);
    assert!(output.status.code() == Some(2) && talk.contains("others may read it") && talk.contains("chmod 600"), "{talk}");
    assert!(!talk.contains("ash_secret"), "{talk}");
}

#[test]
fn a_key_that_can_not_be_had_is_told_with_its_context() {
    let home = Home::new();
    home.write(concat!(
        "[contexts.gone]\nserver = \"http://127.0.0.1:1\"\nkey_file = \"gone\"\n",
        "[contexts.fails]\nserver = \"http://127.0.0.1:1\"\nkey_command = \"exit 3\"\n",
        "[contexts.empty]\nserver = \"http://127.0.0.1:1\"\nkey_command = \"true\"\n",
    ));
    let gone = home.file().with_file_name("gone").display().to_string();
    for (name, words) in [
        ("gone", format!("can not read {gone}")),
        ("fails", "the key_command of context \"fails\" failed (exit status: 3)".to_owned()),
        ("empty", "the key of context \"empty\" is empty".to_owned()),
    ] {
        let output = home.run(&["--context", name, "agent", "list"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(text(&output.stderr).contains(&words), "{name}: {}", text(&output.stderr));
    }
}
