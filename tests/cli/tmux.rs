//! Conversations and tables on the screens that people have: a wide one, and a narrow one.
#![expect(clippy::print_stderr, reason = "says on standard error what it skips")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::fake::{ENDED, Fake, SESSION};
use super::text;

const WIDE: (u16, u16) = (120, 30);
const NARROW: (u16, u16) = (36, 20);

/// What stands on the screen before the exit code.
const ENDED_WITH: &str = "ended with ";

/// How long something may take to appear on the screen.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A terminal multiplexer with one `ashctl` in it.
struct Screen {
    folder: tempfile::TempDir,
}

impl Screen {
    /// `None` where there is no tmux, which CI does not accept.
    fn start(fake: &Fake, (columns, rows): (u16, u16), arguments: &[&str]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "tmux is missing: scripts/setup check");
            eprintln!("skipped: there is no tmux");
            return None;
        }
        let screen = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::write(screen.folder.path().join("tmux.conf"), "set -g status off\n").expect("written");
        let size = [columns.to_string(), rows.to_string()];
        let state = screen.folder.path().join("state");
        let variables = [
            format!("ASH_SERVER_URL={}", fake.server()),
            format!("XDG_STATE_HOME={}", state.display()),
            "ASHCTL_CONFIG=/nonexistent/contexts.toml".to_owned(),
            "ASH_API_KEY=".to_owned(),
            "ASH_CONTEXT=".to_owned(),
        ];
        let mut words = vec!["new-session", "-d", "-x", &size[0], "-y", &size[1]];
        words.extend(variables.iter().flat_map(|variable| ["-e", variable.as_str()]));
        // The screen stays when ashctl ends, and tells its exit code: tmux 3.3a forgets it now and then.
        let script = format!("trap : INT; \"$@\"; echo \"{ENDED_WITH}$?\"; read _");
        words.extend(["sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_ashctl")]);
        words.extend(arguments);
        screen.tmux(&words);
        Some(screen)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(path("socket")).arg("-f").arg(path("tmux.conf")).args(words);
        let output = command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").output().expect("tmux runs");
        assert!(output.status.success(), "tmux {words:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.keys(&["Enter"]);
    }

    /// The lines of the screen, without those below the last.
    fn lines(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).trim_end().lines().map(str::to_owned).collect()
    }

    /// Waits until the screen looks so, and returns it.
    fn wait(&self, what: &str, looks: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let lines = self.lines();
            if looks(&lines) {
                return lines;
            }
            assert!(begun.elapsed() < DEADLINE, "no {what} on the screen:\n{}", lines.join("\n"));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn wait_for(&self, words: &str) {
        // A narrow screen cuts lines anywhere.
        let bare = |text: &str| text.split_whitespace().collect::<String>();
        self.wait(words, |lines| bare(&lines.concat()).contains(&bare(words)));
    }

    /// Waits for the end; returns the exit code.
    fn end(&self) -> String {
        let code =
            |lines: &[String]| lines.iter().rev().find_map(|line| line.split_once(ENDED_WITH).map(|(_, code)| code.to_owned()));
        code(&self.wait("end", |lines| code(lines).is_some())).expect("it ended")
    }

    fn history(&self) -> PathBuf {
        self.folder.path().join("state/ash/chat_history")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let socket = self.folder.path().join("socket");
        // It may be gone already.
        drop(Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output());
    }
}

#[test]
fn a_conversation_with_its_commands_fits_wide_and_narrow_screens() {
    for (size, prompt) in [(WIDE, "you ›"), (NARROW, "›")] {
        let fake = Fake::start();
        let Some(screen) = Screen::start(&fake, size, &["chat", "hello"]) else { return };
        let prompts = |count: usize| {
            let at_prompt = |lines: &[String]| lines.iter().filter(|line| line.starts_with(prompt)).count() >= count;
            screen.wait("prompt", at_prompt);
        };
        prompts(1);
        screen.enter("hi");
        screen.wait_for("Hello there.");
        prompts(2);
        screen.enter("/cost");
        screen.wait_for("1200 tokens · $0.2500");
        prompts(3);
        screen.enter("/model opus");
        screen.wait_for("opus answers from now on.");
        prompts(4);
        // The line before the last.
        screen.keys(&["Up", "Up", "Up", "Enter"]);
        prompts(5);
        let last = fake.seen().into_iter().rfind(|seen| seen.line.ends_with("/messages")).expect("a message");
        let body: serde_json::Value = serde_json::from_slice(&last.body).expect("JSON");
        assert_eq!((&body["content"], &body["model"]), (&"hi".into(), &"opus".into()), "{size:?}");
        screen.keys(&["C-l"]);
        screen.enter("/fork");
        screen.wait_for(&format!("Session {ENDED} goes on from here; {SESSION} stays as it is."));
        screen.enter("/rewind x");
        screen.wait_for("\"x\" is no event; /rewind alone lists the snapshots");
        screen.enter("/new");
        screen.wait_for(&format!("Session {SESSION}; the one before stays: {ENDED}"));
        screen.keys(&["C-l"]);
        screen.enter("/files");
        screen.wait_for("notes.md");
        screen.enter("/interrupt");
        screen.wait_for("Interrupted turn");
        screen.keys(&["C-l"]);
        screen.enter(" a secret");
        // What is typed while an answer comes is not read.
        screen.wait_for("Hello there.");
        prompts(2);
        screen.enter("/exit");
        assert_eq!(screen.end(), "0", "{size:?}");
        fake.wait_for(&format!("POST /api/sessions/{ENDED}/resume"));

        let kept = fs::read_to_string(screen.history()).expect("a history");
        assert!(kept.lines().any(|line| line == "hi") && kept.contains("/cost") && !kept.contains("secret"), "{kept}");
        let mode = fs::metadata(screen.history()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn tables_that_are_painted_again_and_again_fit_the_screen_also_when_it_changes() {
    for arguments in [&["top", "--interval", "1"][..], &["session", "list", "--watch=1"]] {
        let fake = Fake::start();
        let Some(screen) = Screen::start(&fake, WIDE, arguments) else { return };
        let rows = |lines: &[String]| {
            // One line for each session, whatever is said below.
            let sessions = |line: &&String| line.starts_with("0198");
            lines.first().is_some_and(|head| head.starts_with("ID")) && lines.iter().filter(sessions).count() == 2
        };
        let wide = screen.wait("table", |lines| rows(lines) && lines[1].contains(SESSION));
        assert!(wide.iter().all(|line| !line.contains('…')), "{wide:?}");
        let (columns, height) = NARROW;
        screen.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &height.to_string()]);
        let narrow = screen.wait("narrow table", |lines| rows(lines) && lines[1].contains('…'));
        assert!(narrow.iter().all(|line| line.chars().count() <= usize::from(columns)), "{narrow:?}");
        let whole = |word: &str| wide[0].split_whitespace().any(|head| head == word);
        assert!(narrow[0].split_whitespace().all(whole), "{narrow:?}");
        screen.keys(&["C-c"]);
        assert_eq!(screen.end(), "0", "{arguments:?}");
    }
}
