//! `--watch`: documents that follow each other in a pipe, one picture on a terminal.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::fake::{Fake, SESSION};
use super::terminal::Terminal;
use super::{ashctl, interrupt, text};

#[test]
fn looks_follow_each_other_in_a_pipe_until_ctrl_c() {
    let fake = Fake::start();
    for (arguments, lines) in [
        (&["session", "list", "-w=1", "-o", "json"][..], &["[{", "[{"][..]),
        (&["session", "show", SESSION, "--watch=1", "-o", "json"], &["{", "{"]),
        (&["status", "-w=1", "-o", "json"], &["{", "{"]),
        (&["agent", "list", "-w=1"], &["NAME", "hello", "qa-bot", "", "NAME"]),
        (&["turn", "list", SESSION, "-s", "queued", "-w=1", "-o", "yaml"], &["---", "- cause: null"]),
    ] {
        let mut child = ashctl(&fake.server()).args(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        for beginning in lines {
            let line = out.next().expect("another look").expect("text");
            assert!(line.starts_with(beginning) && (!beginning.is_empty() || line.is_empty()), "{arguments:?}: {line}");
            if beginning.starts_with(['{', '[']) {
                serde_json::from_str::<serde_json::Value>(&line).expect("a line is a document");
            }
        }
        interrupt(&child);
        assert_eq!(child.wait().expect("ended").code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn looks_are_painted_over_each_other_on_a_terminal() {
    let fake = Fake::start();
    for arguments in [&["session", "list", "-w=1"][..], &["top", "--interval", "1"]] {
        let mut terminal = Terminal::start(&fake.server(), arguments);
        terminal.wait_for("\u{1b}[2J\u{1b}[H");
        for _ in 0..2 {
            terminal.wait_for("\u{1b}[?7l\u{1b}[H\u{1b}[KID");
            terminal.wait_for("hello");
            terminal.wait_for("\u{1b}[J\u{1b}[?7h");
        }
        terminal.type_keys("\u{3}");
        assert_eq!(terminal.end(), Some(0), "{arguments:?}");
    }
}

#[test]
fn the_first_look_fails_as_any_and_a_later_one_that_fails_in_passing_is_told() {
    let output = ashctl("unix:/nonexistent/ash.sock").args(["agent", "list", "-w=1"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));

    let mut terminal = Terminal::start("unix:/nonexistent/ash.sock", &["agent", "list", "-w=1"]);
    terminal.wait_for("can not connect");
    assert_eq!(terminal.end(), Some(3));

    let fake = Fake::start();
    let mut terminal = Terminal::start(&fake.server(), &["agent", "list", "-w=1"]);
    terminal.wait_for("qa-bot");
    let away = fake.socket.with_extension("away");
    std::fs::rename(&fake.socket, &away).expect("moved");
    // The connection stays as long as it is used.
    fake.hang_up();
    terminal.wait_for("error:");
    std::fs::rename(&away, &fake.socket).expect("moved back");
    terminal.wait_for("qa-bot");
    terminal.type_keys("\u{3}");
    assert_eq!(terminal.end(), Some(0));
}
