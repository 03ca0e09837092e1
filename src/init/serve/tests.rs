use std::io::Read;
use std::time::{Duration, Instant};

use super::*;

/// Starts a process that starts another one and ends, and so on, in a session of their own; ends it all by itself when the
/// folder goes.
const CHAIN: &str = "
import os, sys
os.setsid()
print(os.getpid(), flush=True)
os.close(1)
while os.path.exists(sys.argv[1]):
    if os.fork():
        os._exit(0)
";

fn of_session(session: i32) -> usize {
    let listed = fs::read_dir("/proc").expect("listed").flatten();
    let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_dead = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
    };
    numbers.filter(|pid| getsid(Some(Pid::from_raw(*pid))).is_ok_and(|of| of.as_raw() == session) && !is_dead(*pid)).count()
}

#[test]
fn processes_that_are_never_there_for_long_are_killed() {
    for _ in 0..10 {
        let lives = tempfile::tempdir().expect("a folder");
        let mut first = Command::new("python3")
            .args(["-c", CHAIN])
            .arg(lives.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut said = String::new();
        first.stdout.take().expect("piped").read_to_string(&mut said).expect("read");
        let session: i32 = said.trim().parse().expect("a number");
        kill_those(|of| of == Some(session));
        let deadline = Instant::now() + Duration::from_secs(10);
        // What was killed takes a moment to go; what was not goes on for ever.
        while of_session(session) > 0 {
            assert!(Instant::now() < deadline, "the session goes on");
        }
        first.wait().expect("ended");
    }
}

#[test]
fn one_that_went_by_itself_may_have_left_another_and_one_that_was_killed_has_not() {
    let mut killed = HashSet::new();
    let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("cat runs");
    let pid = i32::try_from(child.id()).expect("a number");
    assert!(!is_new_to(&mut killed, pid, |_| false), "it is none of those");
    assert!(is_new_to(&mut killed, pid, |_| true));
    assert!(!is_new_to(&mut killed, pid, |_| true), "it may still be listed, and starts nothing");
    child.wait().expect("ended");
    assert!(is_new_to(&mut killed, pid, |_| true), "it is not there any more");
}

#[test]
fn a_single_look_that_finds_nobody_is_not_the_last() {
    // As of a chain of which each link is between two looks, but for some.
    let mut seen = [false, false, true, false, true, true, false, false, false, true].into_iter();
    look_until_quiet(|| seen.next().expect("ends in time"));
    assert_eq!(seen.len(), 1);
    let mut looks = 0;
    look_until_quiet(|| {
        looks += 1;
        true
    });
    assert_eq!(looks, LOOKS_MAX, "it is bounded");
}
