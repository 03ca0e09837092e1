//! Lines from the keyboard, with editing and a history.
//!
//! The history is in `~/.local/state/ash/chat_history`, which only its owner can read. A line that begins
//! with a space is not kept.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use rustyline::config::{Behavior, Configurer as _};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use crate::cli::error::CliError;
use crate::cli::output::columns;

/// Most lines that are kept.
const HISTORY_LINES: usize = 1000;

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
    inner: rustyline::Editor<(), FileHistory>,
    /// Where its history is kept.
    history: Option<PathBuf>,
    prompt: &'static str,
}

impl Editor {
    pub(super) fn new() -> Result<Self, CliError> {
        let config = rustyline::Config::builder()
            .behavior(Behavior::PreferTerm)
            .bracketed_paste(true)
            .auto_add_history(true)
            .history_ignore_space(true);
        let config = config.max_history_size(HISTORY_LINES).map_err(input)?.build();
        let history = FileHistory::with_config(&config);
        let mut inner = rustyline::Editor::with_history(config, history).map_err(input)?;
        inner.set_history_ignore_dups(true).map_err(input)?;
        let history = history_file().filter(|file| file.parent().is_some_and(|folder| made(folder).is_ok()));
        if let Some(file) = &history {
            // There is none before the first line, and one that can not be read is no reason not to talk.
            drop(inner.load_history(file));
        }
        // On a narrow terminal every column is needed for the text.
        Ok(Self { inner, history, prompt: if columns() < 40 { "› " } else { "you › " } })
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
                Ok(text) => {
                    if let Some(file) = &self.history {
                        // At once, as a conversation may end in any way. Without room for it, it is short.
                        drop(self.inner.append_history(file));
                    }
                    return Ok(Line::Text(text));
                }
                Err(ReadlineError::Eof) => return Ok(Line::Leave),
                Err(ReadlineError::Interrupted) if interrupted => return Ok(Line::Leave),
                // Takes back the line, as in a shell.
                Err(ReadlineError::Interrupted) => interrupted = true,
                Err(error) => return Err(input(error)),
            }
        }
    }
}

/// XDG Base Directory Specification 0.8: state, which is not worth a copy.
fn history_file() -> Option<PathBuf> {
    let given = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = given("XDG_STATE_HOME").or_else(|| Some(given("HOME")?.join(".local/state")))?;
    Some(state.join("ash/chat_history"))
}

fn made(folder: &std::path::Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn input(error: ReadlineError) -> CliError {
    CliError::Input(match error {
        ReadlineError::Io(error) => error,
        error => io::Error::other(error),
    })
}
