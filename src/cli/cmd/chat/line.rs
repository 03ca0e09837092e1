//! Lines from the keyboard, with editing and a history that lives as long as the conversation.

use std::io;

use rustyline::config::{Behavior, Configurer as _};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;

use crate::cli::error::CliError;
use crate::cli::output::columns;

/// What the user did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Typed something, which may have several lines if it was pasted.
    Text(String),
    /// Pressed Ctrl-D, or Ctrl-C twice.
    Leave,
}

/// Reads lines. Reading blocks a thread, so the editor travels there and back.
pub(super) struct Editor {
    inner: rustyline::Editor<(), MemHistory>,
    prompt: &'static str,
}

impl Editor {
    pub(super) fn new() -> Result<Self, CliError> {
        let config =
            rustyline::Config::builder().behavior(Behavior::PreferTerm).bracketed_paste(true).auto_add_history(true).build();
        let mut inner = rustyline::Editor::with_history(config, MemHistory::new()).map_err(input)?;
        inner.set_history_ignore_dups(true).map_err(input)?;
        // On a narrow terminal every column is needed for the text.
        Ok(Self { inner, prompt: if columns() < 40 { "› " } else { "you › " } })
    }

    /// Reads a line.
    pub(super) async fn read(self) -> Result<(Self, Line), CliError> {
        let read = tokio::task::spawn_blocking(move || {
            let mut editor = self;
            let line = editor.read_here();
            line.map(|line| (editor, line))
        });
        read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn read_here(&mut self) -> Result<Line, CliError> {
        let mut interrupted = false;
        loop {
            match self.inner.readline(self.prompt) {
                Ok(text) => return Ok(Line::Text(text)),
                Err(ReadlineError::Eof) => return Ok(Line::Leave),
                Err(ReadlineError::Interrupted) if interrupted => return Ok(Line::Leave),
                // Takes back the line, as in a shell.
                Err(ReadlineError::Interrupted) => interrupted = true,
                Err(error) => return Err(input(error)),
            }
        }
    }
}

fn input(error: ReadlineError) -> CliError {
    CliError::Input(match error {
        ReadlineError::Io(error) => error,
        error => io::Error::other(error),
    })
}
