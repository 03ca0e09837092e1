//! What is lost is named, and asked about where somebody can answer.

use super::fake::{Fake, SCHEDULE, SESSION};
use super::terminal::Terminal;

#[test]
fn what_is_lost_is_named_and_asked_about_on_a_terminal() {
    let end = format!("DELETE /api/sessions/{SESSION}");
    let revoke = format!("DELETE /api/api-keys/{SESSION}");
    let forget = format!("DELETE /api/credentials/{SESSION}");
    let unplan = format!("DELETE /api/schedules/{SCHEDULE}");
    let replace = format!("POST /api/sessions/{SESSION}/workspace?replace=true");
    for (arguments, question, request) in [
        (&["session", "end", SESSION][..], "for good? Its log and a last snapshot stay", end.as_str()),
        (&["session", "end", SESSION, "@last"], "End 2 sessions for good?", &end),
        (&["agent", "delete", "hello"], "agent \"hello\", with its 7 sessions?", "DELETE /api/agents/hello"),
        (&["key", "revoke", SESSION], "are refused at once", &revoke),
        (&["credential", "delete", SESSION], "It can not be read back", &forget),
        (&["schedule", "delete", "@last"], "Nothing is queued for it any more", &unplan),
        (&["session", "upload", SESSION, "/proc/version", "--replace"], "Only its snapshots keep it.", &replace),
    ] {
        for (answer, code) in [("n\r", 1), ("\r", 1), ("y\r", 0)] {
            let fake = Fake::start();
            let mut terminal = Terminal::start(&fake.server(), arguments);
            terminal.wait_for(question);
            terminal.wait_for("[y/N]");
            terminal.type_keys(answer);
            assert_eq!(terminal.end(), Some(code), "{arguments:?} {answer:?}");
            assert_eq!(fake.seen().iter().any(|seen| seen.line == request), code == 0, "{arguments:?} {answer:?}");
        }
        let fake = Fake::start();
        let mut terminal = Terminal::start(&fake.server(), &[arguments, &["--yes"]].concat());
        assert_eq!(terminal.end(), Some(0), "{arguments:?}");
        assert!(fake.seen().iter().any(|seen| seen.line == request), "{arguments:?}");
    }
}

#[test]
fn what_gc_would_remove_is_counted_before_it_does() {
    for (answer, asked) in [("n\r", vec!["true"]), ("y\r", vec!["true", "false"])] {
        let fake = Fake::start();
        let mut terminal = Terminal::start(&fake.server(), &["gc"]);
        terminal.wait_for("Remove what --dry-run lists: 1 with 4096 bytes?");
        terminal.type_keys(answer);
        terminal.end();
        let bodies: Vec<String> = fake.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
        let expected: Vec<String> = asked.iter().map(|dry| format!("{{\"dryRun\":{dry}}}")).collect();
        assert_eq!(bodies, expected);
    }
}
