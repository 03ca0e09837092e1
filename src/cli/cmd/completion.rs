//! `ashctl completion`.

use std::io::Write as _;

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::cli::args::{Completion, Shell};
use crate::cli::complete::VARIABLE;
use crate::cli::error::CliError;
use crate::cli::output::Output;

pub(in crate::cli) fn run(args: Completion, output: &mut Output) -> Result<(), CliError> {
    let out = &mut output.out;
    out.write_all(script(args.shell).as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// What makes a shell ask ashctl for completions.
pub fn script(shell: Shell) -> String {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    let written = completer.write_registration(VARIABLE, "ashctl", "ashctl", "ashctl", &mut script);
    written.expect("memory takes all");
    if shell == Shell::Zsh {
        // A shell that loads this file as the function _ashctl wants the first completions of it.
        script.extend(b"[[ $funcstack[1] == _ashctl ]] && _clap_dynamic_completer_ashctl\n");
    }
    String::from_utf8_lossy(&script).into_owned()
}
