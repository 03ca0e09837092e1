//! Terminals in the sandbox of a session, over a WebSocket and with `ashctl exec -it`: they behave as terminals
//! do, and end with whoever sits before them.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use ash::client::terminal::{Shown, TerminalNews, Typed};
use ash::client::{Client, ClientError};
use ash::wire::SessionId;
use ash::wire::exec::{ExecQuery, ExecSaid, ExecTold};
use ash::wire::terminal::TerminalSize;
use serde_json::json;
use support::http::Response;
use support::life::{runs, start};
use support::{Daemon, memory, wait_for};
use tokio::runtime::Runtime;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

struct Terminal {
    runtime: Runtime,
    typed: Typed,
    shown: Shown,
    /// What was shown and not waited for yet.
    text: String,
}

impl Terminal {
    fn open(daemon: &Daemon, session: &str, query: &ExecQuery) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = format!("unix:{}", daemon.data().join("ash.sock").display()).parse().expect("a server");
        let client = Client::new(server, None, None).expect("a client");
        let session: SessionId = session.parse().expect("an id");
        let (typed, shown) = runtime.block_on(client.terminal(session, query))?;
        Ok(Self { runtime, typed, shown, text: String::new() })
    }

    fn type_in(&mut self, text: &str) {
        let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
        assert!(self.runtime.block_on(self.typed.bytes(bytes)), "the connection is there");
    }

    fn say(&mut self, said: &ExecSaid) {
        assert!(self.runtime.block_on(self.typed.say(said)), "the connection is there");
    }

    fn next(&mut self) -> TerminalNews {
        let next = async { tokio::time::timeout(DEADLINE, self.shown.next()).await };
        self.runtime.block_on(next).expect("in time").expect("reads")
    }

    /// Waits until this is shown, and forgets all up to it.
    fn until(&mut self, wanted: &str) -> String {
        loop {
            if let Some(at) = self.text.find(wanted) {
                let rest = self.text.split_off(at + wanted.len());
                return std::mem::replace(&mut self.text, rest);
            }
            match self.next() {
                TerminalNews::Bytes(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                TerminalNews::Told(told) => panic!("{told:?} instead of {wanted:?} after {:?}", self.text),
            }
        }
    }

    fn told(&mut self) -> ExecTold {
        loop {
            if let TerminalNews::Told(told) = self.next() {
                return told;
            }
        }
    }

    fn exit_code(&mut self) -> i32 {
        match self.told() {
            ExecTold::Exit(end) => end.exit_code,
            ExecTold::Error(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_shell_has_a_terminal_with_size_kind_and_job_control() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let query = ExecQuery { rows: Some(31), cols: Some(101), term: Some("vt220".to_owned()), ..ExecQuery::default() };
    let mut terminal = Terminal::open(&daemon, &session, &query).expect("opens");
    // The mark is split, so that the echo of the keys is not taken for it.
    terminal.type_in("tty; stty size; echo $TERM; id -u; pwd; echo ma''rk\n");
    let said = terminal.until("mark");
    for wanted in ["/dev/pts/", "31 101", "vt220", "1000", "/work"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    terminal.say(&ExecSaid::Resize(TerminalSize { rows: 50, cols: 120 }));
    terminal.type_in("until stty size | grep '50 120'; do read -t 0.05 < <(:) || :; done; echo ma''rk\n");
    terminal.until("mark");
    terminal.type_in("echo beg''un; sleep 4711201; echo broken ''off\n");
    terminal.until("begun");
    wait_for("it runs", || runs("4711201").then_some(()));
    terminal.type_in("\u{3}");
    wait_for("Ctrl-C ends it", || (!runs("4711201")).then_some(()));
    terminal.type_in("sleep 4711202 & echo $! is''beside; stty -echo; cat -u\n");
    terminal.until("isbeside");
    terminal.type_in("ä\n");
    terminal.until("ä");
    terminal.type_in("\u{4}exit 7\n");
    assert_eq!(terminal.exit_code(), 7);
    let events = daemon.get(&format!("/api/sessions/{session}/events?type=lifecycle&limit=1000")).text();
    assert!(events.contains(r#"\"exitCode\":7"#), "{events}");
}

#[test]
fn it_ends_when_its_user_goes_and_when_its_time_is_over() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let open = |command: &str, timeout| {
        let query = ExecQuery { command: Some(command.to_owned()), timeout, ..ExecQuery::default() };
        Terminal::open(&daemon, &session, &query).expect("opens")
    };
    let left = open("trap '' HUP; sleep 4711203", None);
    wait_for("it runs", || runs("4711203").then_some(()));
    drop(left);
    wait_for("it is gone", || (!runs("4711203")).then_some(()));
    // Each job of a shell has a process group of its own.
    let mut shell = Terminal::open(&daemon, &session, &ExecQuery::default()).expect("opens");
    shell.type_in("nohup sleep 4711207 & sleep 4711208\n");
    wait_for("they run", || (runs("4711207") && runs("4711208")).then_some(()));
    drop(shell);
    wait_for("they are gone", || (!runs("4711207") && !runs("4711208")).then_some(()));
    let mut late = open("sleep 4711204", Some(300));
    let ExecTold::Exit(end) = late.told() else { panic!("an end") };
    assert!(end.timed_out && end.signal.as_deref() == Some("SIGKILL"), "{end:?}");
    // Far more than any buffer between holds, to nobody who reads it.
    let mut deaf = open("stty -echo; sleep 4711205", None);
    let paste = "x".repeat(64 << 10);
    let typing = async {
        for _ in 0..64 {
            if !deaf.typed.bytes(bytes::Bytes::from(paste.clone())).await {
                return;
            }
        }
    };
    // Stuck or not, the command ends with its user.
    let _stuck = deaf.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(500), typing).await });
    drop(deaf);
    wait_for("it is gone", || (!runs("4711205")).then_some(()));
}

#[test]
fn without_a_terminal_both_streams_come_and_the_input_ends() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let command = Some("tty; cat; echo end >&2; exit 3".to_owned());
    let mut pipes =
        Terminal::open(&daemon, &session, &ExecQuery { command, tty: Some(false), ..ExecQuery::default() }).expect("opens");
    pipes.until("not a tty");
    pipes.type_in("in");
    pipes.until("in");
    pipes.say(&ExecSaid::End(true));
    pipes.until("end");
    assert_eq!(pipes.exit_code(), 3);
    // The end of what is typed ends a shell on a terminal.
    let mut shell = Terminal::open(&daemon, &session, &ExecQuery::default()).expect("opens");
    shell.type_in("echo he''re\n");
    shell.until("here");
    shell.say(&ExecSaid::End(true));
    assert_eq!(shell.exit_code(), 0);
}

fn ask(daemon: &Daemon, session: &str, query: &str) -> Response {
    daemon.get(&format!("/api/sessions/{session}/exec?{query}"))
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    for (query, field) in
        [("rows=0", "rows"), ("cols=0", "cols"), ("term=a%20b", "term"), ("timeout=0", "timeout"), ("command=", "command")]
    {
        let refused = ask(&daemon, &session, query);
        assert_eq!((refused.status, refused.json()["details"][0]["field"].as_str()), (400, Some(field)), "{}", refused.text());
    }
    assert_eq!(ask(&daemon, &session, "colour=red").status, 400);
    assert!(ask(&daemon, &session, "").json()["error"].as_str().expect("a sentence").contains("WebSocket"));
    let refused = |session: &str| match Terminal::open(&daemon, session, &ExecQuery::default()) {
        Err(ClientError::Problem(problem)) => (problem.status_code, problem.error),
        other => panic!("{:?}", other.err()),
    };
    assert_eq!(refused("00000000-0000-4000-8000-000000000000"), (404, "Session not found".to_owned()));
    assert_eq!(daemon.send("POST", &format!("/api/sessions/{session}/pause"), &json!({})).status, 200);
    assert_eq!(refused(&session), (400, "Session is paused".to_owned()));
}

#[test]
fn nonsense_is_answered_and_ends_it() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let mut terminal = Terminal::open(&daemon, &session, &ExecQuery::default()).expect("opens");
    terminal.say(&ExecSaid::Resize(TerminalSize { rows: 0, cols: 1 }));
    assert_eq!(terminal.told(), ExecTold::Error("resize: rows and cols have to be at least 1".to_owned()));
    let mut terminal = Terminal::open(&daemon, &session, &ExecQuery::default()).expect("opens");
    let _refused = terminal.runtime.block_on(terminal.typed.bytes(bytes::Bytes::from(vec![b'x'; 2 << 20])));
    let ExecTold::Error(error) = terminal.told() else { panic!("an error") };
    assert!(error.contains("1048576"), "names the bound: {error}");
}

#[test]
fn pings_of_a_client_that_reads_nothing_take_no_memory() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let mut stream = UnixStream::connect(daemon.data().join("ash.sock")).expect("connects");
    // One that is not read from any more has told of its bound in its own way.
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("sets");
    let head = format!(
        "GET /api/sessions/{session}/exec HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("asks");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("answers");
    assert_eq!(&answer, b"HTTP/1.1 101");
    // RFC 6455 §5.2: a whole ping, masked with zeros, with the most that one may have.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let (before, pings) = (memory(daemon.pid(), "VmRSS"), ping.repeat(500));
    let sent = (0..500).take_while(|_| stream.write_all(&pings).is_ok()).count() * pings.len();
    let grown = memory(daemon.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for {sent} of pings");
    assert!(sent > 1 << 20, "{sent} bytes came through");
}

#[test]
fn many_terminals_are_open_at_once_and_no_more_than_may() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    let open = || Terminal::open(&daemon, &session, &ExecQuery::default());
    let mut all: Vec<_> = (0..8).map(|_| open().expect("opens")).collect();
    let ExecTold::Error(error) = open().expect("opens").told() else { panic!("one too many") };
    assert!(error.contains("8 programs are running"), "{error}");
    for (number, terminal) in all.iter_mut().enumerate() {
        terminal.type_in(&format!("echo {number}''mark; exit {number}\n"));
    }
    for (number, mut terminal) in all.into_iter().enumerate() {
        terminal.until(&format!("{number}mark"));
        assert_eq!(terminal.exit_code(), i32::try_from(number).expect("small"));
    }
}

#[test]
fn ashctl_gives_its_terminal_to_a_program_and_takes_it_back() {
    let Some((_model, daemon)) = start("") else { return };
    let session = daemon.session();
    // script(1) makes the terminal on which ashctl runs.
    let ashctl = format!("{} exec -it {session}", env!("CARGO_BIN_EXE_ashctl"));
    let line = format!("stty rows 33 cols 99; {ashctl}; echo exit code $?; stty -a");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env("ASH_SERVER_URL", format!("unix:{}", daemon.data().join("ash.sock").display())).env("SHELL", "/bin/bash");
    let mut script = command.spawn().expect("script(1) of bsdutils starts");
    let mut typed = script.stdin.take().expect("piped");
    typed.write_all(b"stty size; sleep 4711206\n").expect("writes");
    wait_for("it runs", || runs("4711206").then_some(()));
    typed.write_all(b"\x03").expect("writes");
    wait_for("Ctrl-C ends what runs there, and not ashctl", || (!runs("4711206")).then_some(()));
    typed.write_all(b"exit 5\n").expect("writes");
    let mut said = String::new();
    script.stdout.take().expect("piped").read_to_string(&mut said).expect("reads");
    script.wait().expect("ends");
    assert!(said.contains("33 99") && said.contains("exit code 5"), "{said}");
    let after = said.split("exit code 5").nth(1).expect("there");
    assert!(after.contains(" icanon") && after.contains(" echo "), "the terminal is as it was: {after}");
}
