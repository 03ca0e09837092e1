//! `ashctl logs`: the journal, with the right matches.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cli::Context;
use crate::cli::args::Logs;
use crate::cli::error::CliError;

/// What runs as Ash, apart from sandboxes.
const UNITS: [&str; 2] = ["ash.service", "ash-launcher.service"];

pub(super) fn run(args: Logs, context: &mut Context) -> Result<(), CliError> {
    let server = context.client.server();
    if !server.is_local() {
        let problem = format!("logs reads the journal of this host, but the daemon is {server}");
        return Err(CliError::usage(problem, "run it there: ssh HOST ashctl logs"));
    }
    let arguments = arguments(&args, context.output.is_json(), context.output.out_is_terminal);
    // In place of this process, so that pager, signals and exit status are journalctl's own.
    let source = Command::new("journalctl").args(arguments).exec();
    Err(CliError::Run { program: "journalctl", source })
}

fn arguments(args: &Logs, json: bool, terminal: bool) -> Vec<String> {
    let mut arguments = Vec::new();
    if args.follow {
        arguments.push("--follow".to_owned());
    }
    if let Some(lines) = args.lines {
        arguments.push(format!("--lines={lines}"));
    } else if terminal && !args.follow {
        arguments.push("--pager-end".into());
    }
    if json {
        arguments.push("--output=json".into());
    }
    match args.session {
        Some(id) => arguments.push(format!("ASH_SESSION_ID={id}")),
        None => arguments.extend(UNITS.map(|unit| format!("--unit={unit}"))),
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SessionId;

    #[test]
    fn journalctl_is_asked_for_the_units_or_the_session() {
        let id = SessionId::new();
        let session = format!("ASH_SESSION_ID={id}");
        let cases: &[(Logs, bool, bool, &[&str])] = &[
            (
                Logs { session: None, follow: false, lines: None },
                false,
                false,
                &["--unit=ash.service", "--unit=ash-launcher.service"],
            ),
            (Logs { session: Some(id), follow: true, lines: Some(5) }, false, true, &["--follow", "--lines=5", &session]),
            (Logs { session: Some(id), follow: false, lines: None }, true, true, &["--pager-end", "--output=json", &session]),
        ];
        for (args, json, terminal, expected) in cases {
            assert_eq!(arguments(args, *json, *terminal), *expected);
        }
    }
}
