//! `ashctl exec`.

mod terminal;

use std::io::{self, IsTerminal, Read, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::deploy;
use crate::cli::Context;
use crate::cli::args::Exec;
use crate::cli::error::CliError;
use crate::client::exec::ExecNews;
use crate::wire::exec::{ExecBody, ExecEnd, ExecResult, TIMEOUT_DEFAULT_MS};

/// Bytes of standard input that are read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of it that wait to be sent.
const PIECES_AHEAD: usize = 4;
/// Seconds that a command without a terminal may take where nothing is said.
const TIMEOUT_SECS: u64 = TIMEOUT_DEFAULT_MS / 1000;
/// How timeout(1) ends.
const TIMED_OUT: u8 = 124;

pub(super) async fn run(args: Exec, context: &mut Context) -> Result<(), CliError> {
    let command = match &args.command[..] {
        [] => None,
        [line] => Some(line.clone()),
        words => Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
    };
    let end = if args.tty { terminal::run(&args, command, context).await? } else { piped(&args, command, context).await? };
    let code = code(&end);
    if end.timed_out {
        context.output.say(format_args!("The command was killed after {} s", args.timeout.unwrap_or(TIMEOUT_SECS)));
    } else if end.limit.is_some() {
        context.output.say("The command was killed: the session has more on its disk than it may; \"ashctl session limits\" says how much that is");
    }
    if code == 0 { Ok(()) } else { Err(CliError::Command(code)) }
}

/// Runs it between pipes.
async fn piped(args: &Exec, command: Option<String>, context: &mut Context) -> Result<ExecEnd, CliError> {
    let timeout = Some(args.timeout.unwrap_or(TIMEOUT_SECS).saturating_mul(1000));
    let body = ExecBody { command: command.unwrap_or_default(), timeout, ..ExecBody::default() };
    let session = context.session(&args.session).await?;
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    if !args.no_stdin && (args.interactive || !io::stdin().is_terminal()) {
        // Nobody waits for its end: whoever writes may go on when the command has ended.
        std::thread::spawn(move || read(&sender));
    }
    let mut news = context.client.exec(session, &body, deploy::body(receiver)).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let is_json = context.output.is_json();
    // As they are: the streams for texts take out what a terminal would act on.
    let write = |to: &mut dyn Write, bytes: &[u8]| to.write_all(bytes).and_then(|()| to.flush()).map_err(CliError::Output);
    let end = loop {
        match news.next().await? {
            ExecNews::Stdout(bytes) if is_json => stdout.extend(bytes),
            ExecNews::Stderr(bytes) if is_json => stderr.extend(bytes),
            ExecNews::Stdout(bytes) => write(&mut io::stdout().lock(), &bytes)?,
            ExecNews::Stderr(bytes) => write(&mut io::stderr().lock(), &bytes)?,
            ExecNews::Exit(end) => break end,
            ExecNews::Failed(error) => return Err(CliError::Exec(error)),
        }
    };
    if is_json {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let result = ExecResult { end: end.clone(), stdout: text(&stdout), stderr: text(&stderr), truncated: false };
        context.output.json(&serde_json::to_value(result).unwrap_or_default())?;
    }
    Ok(end)
}

/// As a shell would show the end.
fn code(end: &ExecEnd) -> u8 {
    let signal = || end.signal.as_ref().map(|name| name.parse::<nix::sys::signal::Signal>().map_or(0, |signal| signal as i32));
    match end {
        ExecEnd { timed_out: true, .. } => TIMED_OUT,
        end => u8::try_from(signal().map_or(end.exit_code, |number| 128 + number)).unwrap_or(1),
    }
}

/// One word, as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Hands standard input on, until its end or until nobody takes it.
fn read(to: &mpsc::Sender<io::Result<Bytes>>) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let piece = match io::stdin().lock().read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_error = piece.is_err();
        if to.blocking_send(piece).is_err() || is_error {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        for (word, wanted) in
            [("ls", "ls"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$HOME", "'$HOME'"), ("~", "'~'")]
        {
            assert_eq!(quoted(word), wanted);
        }
    }

    #[test]
    fn ends_have_the_codes_that_shells_give_them() {
        let end = |exit_code, signal: Option<&str>, timed_out| {
            code(&ExecEnd { exit_code, signal: signal.map(str::to_owned), timed_out, limit: None })
        };
        assert_eq!((end(0, None, false), end(3, None, false)), (0, 3));
        assert_eq!((end(1, Some("SIGSEGV"), false), end(1, Some("SIGKILL"), true)), (139, 124));
    }
}
