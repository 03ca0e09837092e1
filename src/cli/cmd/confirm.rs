//! Asks before something is lost.

use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::error::CliError;
use crate::cli::output::Output;

/// Whether [`confirm`] would ask. Scripts are not asked: without a terminal on standard input and
/// standard error, and with `yes`, all goes on.
pub(super) fn is_asked(yes: bool, output: &Output) -> bool {
    !yes && output.talk_is_terminal && io::stdin().is_terminal()
}

/// Asks a question, which says what will be lost, unless nobody is to be asked.
///
/// # Errors
/// [`CliError::Declined`] unless the answer is yes.
pub(super) fn confirm(question: &str, yes: bool, output: &mut Output) -> Result<(), CliError> {
    if !is_asked(yes, output) {
        return Ok(());
    }
    let talk = &mut output.talk;
    write!(talk, "{question} [y/N] ").and_then(|()| talk.flush()).map_err(CliError::Output)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::Input)?;
    let yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    yes.then_some(()).ok_or(CliError::Declined)
}
