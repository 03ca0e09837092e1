//! Completions: what shells are offered.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use super::fake::{ENDED, Fake, SESSION};
use super::{ashctl, text};

/// What bash itself makes of the script and a line whose last word is being typed.
fn bash(server: &str, words: &[&str]) -> Vec<String> {
    let script = r#"
        source <(ashctl completion bash)
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        # The function that `complete` has registered, called as readline does.
        registered=$(complete -p ashctl)
        registered=${registered##*-F }
        "${registered%% *}" ashctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let folder = Path::new(env!("CARGO_BIN_EXE_ashctl")).parent().expect("a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path"));
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash"]).args(words).env("PATH", path).env("ASH_SERVER_URL", server);
    command.env_remove("ASH_API_KEY").env_remove("ASH_CONTEXT").env("ASHCTL_CONFIG", "/nonexistent/contexts.toml");
    let output = command.output().expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// What another shell is told.
fn told(server: &str, shell: &str, words: &[&str]) -> Output {
    let mut command = ashctl(server);
    command.env("ASHCTL_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string()).env("_CLAP_IFS", "\n");
    command.arg("--").args(words).output().expect("it runs")
}

#[test]
fn bash_is_offered_what_there_is() {
    let fake = Fake::start();
    let server = fake.server();
    for (words, offered) in [
        (&["ashctl", "agent", "show", ""][..], &["hello", "qa-bot"][..]),
        (&["ashctl", "agent", "show", "q"], &["qa-bot"]),
        (&["ashctl", "chat", "h"], &["hello"]),
        (&["ashctl", "session", "show", "0198"], &[SESSION, ENDED]),
        (&["ashctl", "session", "end", SESSION, "0198"], &[SESSION, ENDED]),
        (&["ashctl", "exec", "01"], &[SESSION, ENDED]),
        (&["ashctl", "credential", "delete", "0"], &[SESSION]),
        (&["ashctl", "key", "revoke", "0"], &[SESSION, SESSION]),
        (&["ashctl", "sess"], &["session"]),
        (&["ashctl", "session", "list", "--status", "st"], &["starting", "stopped"]),
        (&["ashctl", "session", "list", "--agent", "h"], &["hello"]),
    ] {
        let found = bash(&server, words);
        // Where nothing is typed yet, options follow.
        let (values, options) = found.split_at(offered.len().min(found.len()));
        assert_eq!(values, offered, "{words:?}");
        assert!(options.iter().all(|option| words.ends_with(&[""]) && option.starts_with("--")), "{words:?}: {options:?}");
    }
}

#[test]
fn the_line_says_which_daemon_is_asked() {
    let fake = Fake::start();
    let offered = bash("unix:/nonexistent/ash.sock", &["ashctl", "--server", &fake.server(), "agent", "show", "q"]);
    assert_eq!(offered, ["qa-bot"]);
}

#[test]
fn contexts_are_offered_without_a_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("contexts.toml");
    std::fs::write(&file, "[contexts.prod]\nserver = \"https://prod\"\n[contexts.lab]\nserver = \"http://lab:1\"\n")
        .expect("written");
    let mut command = ashctl("unix:/nonexistent/ash.sock");
    command.env("ASHCTL_CONFIG", &file).env("ASHCTL_COMPLETE", "fish");
    let output = command.args(["--", "ashctl", "context", "use", ""]).output().expect("it runs");
    let shown = text(&output.stdout);
    assert!(shown.contains("prod\thttps://prod") && shown.contains("lab\thttp://lab:1"), "{shown}");
}

#[test]
fn zsh_and_fish_are_told_what_each_is() {
    let fake = Fake::start();
    let words = ["ashctl", "session", "show", "0198"];
    for (shell, between) in [("fish", "\t"), ("zsh", ":")] {
        let shown = told(&fake.server(), shell, &words);
        let shown = text(&shown.stdout);
        assert!(shown.contains(&format!("{SESSION}{between}active hello, 1h ago")), "{shell}: {shown}");
        assert!(shown.contains(&format!("{ENDED}{between}ended hello, 1h ago")), "{shell}: {shown}");
    }
    let shown = told(&fake.server(), "fish", &["ashctl", "credential", "delete", ""]);
    assert!(text(&shown.stdout).contains(&format!("{SESSION}\topenai the team's")), "{}", text(&shown.stdout));
}

#[test]
fn a_daemon_that_is_away_or_says_nothing_is_passed_over_in_silence() {
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    for server in ["unix:/nonexistent/ash.sock", "http://127.0.0.1:1", &silent, "nonsense"] {
        for shell in ["bash", "zsh", "fish"] {
            let output = told(server, shell, &["ashctl", "agent", "show", "q"]);
            assert!(output.status.success(), "{server} {shell}");
            assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{server} {shell}: {output:?}");
        }
    }
}
