//! Where requests for permission wait for the person at the terminal.
//!
//! ```text
//!   permission_request ──▶ waits ──▶ prompt ──line──▶ POST ──▶ taken: the next one
//!                                      │                └ not taken: prompt again
//!                 permission_resolved ─┴─▶ says who was faster: the next one
//! ```
//!
//! The stream is read all the time. What it brings while a prompt is open is held back until the
//! answer is typed, as it would be written over the prompt; that is little, for the agent waits.
//! Where nobody can be asked, requests are named on standard error with the command that answers.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::pin::Pin;

use super::dialogue::{Dialogue, Step};
use super::keyboard::Keyboard;
use super::view::TurnView;
use crate::cli::cmd::editor::edit;
use crate::cli::cmd::request::{Asked, outcome};
use crate::cli::error::CliError;
use crate::cli::output::clean;
use crate::client::sse::Frame;
use crate::client::{Answer, Client, ClientError};
use crate::report;
use crate::wire::SessionId;
use crate::wire::permission::{PermissionAnswer, PermissionBody, PermissionResolved, Resolver};

/// Who answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// The person at the terminal.
    Here,
    /// Somebody else, who is told how.
    Elsewhere,
    /// Whoever reads the frames.
    Nobody,
}

pub(super) struct Desk {
    client: Client,
    session: SessionId,
    asks: Asks,
    /// The first one is asked about, or being answered.
    waiting: VecDeque<Dialogue>,
    /// Whether the prompt of the first one stands on the terminal.
    open: bool,
    answering: Option<Answering>,
    /// Whether the stream says that the one being answered is resolved.
    resolved: bool,
    keyboard: Keyboard,
    held: Vec<Frame>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer<PermissionBody>, ClientError>>>>;

/// What happened at the desk.
pub(super) enum Event {
    Typed(io::Result<Option<String>>),
    Answered(Result<Answer<PermissionBody>, ClientError>),
}

impl Desk {
    pub(super) fn new(client: Client, session: SessionId, asks: Asks) -> Self {
        let (waiting, held, keyboard) = (VecDeque::new(), Vec::new(), Keyboard::default());
        Self { client, session, asks, waiting, open: false, answering: None, resolved: false, keyboard, held }
    }

    /// Takes a frame; [`Self::release`] gives back what is to be shown.
    pub(super) fn take<O: Write, T: Write>(&mut self, frame: Frame, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        match (self.asks, frame.event.as_str()) {
            (Asks::Nobody, _) => self.held.push(frame),
            (_, "permission_request") => self.request(&frame, view)?,
            (_, "permission_resolved") => self.resolved(&frame, view)?,
            (_, "done") => {
                self.close(view)?;
                self.held.push(frame);
            }
            _ => self.held.push(frame),
        }
        Ok(())
    }

    /// The frames that can be shown now.
    pub(super) fn release(&mut self) -> Vec<Frame> {
        if self.open { Vec::new() } else { std::mem::take(&mut self.held) }
    }

    /// Takes the prompt away, and asks nothing more.
    pub(super) fn close<O: Write, T: Write>(&mut self, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        self.waiting.clear();
        self.answering = None;
        self.withdraw(view)
    }

    /// As [`Self::close`], for the rest of the turn.
    pub(super) fn give_up<O: Write, T: Write>(&mut self, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        if self.asks != Asks::Nobody {
            self.asks = Asks::Elsewhere;
        }
        self.close(view)
    }

    /// What happens next at the desk; never comes where nothing is asked.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn event(&mut self) -> Event {
        if let Some(answering) = &mut self.answering {
            return Event::Answered(answering.await);
        }
        if self.open {
            return Event::Typed(self.keyboard.line().await);
        }
        std::future::pending().await
    }

    /// Goes on from what happened. Returns whether an editor had the terminal meanwhile.
    pub(super) async fn heard<O: Write, T: Write>(&mut self, event: Event, view: &mut TurnView<O, T>) -> Result<bool, CliError> {
        let step = match event {
            Event::Answered(result) => {
                self.answering = None;
                self.answered(result, view)?;
                return Ok(false);
            }
            Event::Typed(Ok(Some(line))) => match self.waiting.front_mut() {
                Some(dialogue) => dialogue.line(&line),
                None => return Ok(false),
            },
            // Ctrl-D, or a terminal that is gone.
            Event::Typed(Ok(None) | Err(_)) => {
                self.withdraw(view)?;
                if let Some(dialogue) = self.waiting.pop_front() {
                    view.note(&dialogue.asked.notice(self.session)).map_err(CliError::Output)?;
                }
                self.ask(view)?;
                return Ok(false);
            }
        };
        let Step::Edit(text) = step else {
            self.follow(step, view)?;
            return Ok(false);
        };
        let edited = edit(&text).await;
        if let Some(dialogue) = self.waiting.front_mut() {
            let step = match edited {
                Ok(text) => dialogue.edited(&text),
                Err(error) => Step::Ask(format!("Nothing was sent: {error}")),
            };
            self.follow(step, view)?;
        }
        Ok(true)
    }

    fn follow<O: Write, T: Write>(&mut self, step: Step, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        match step {
            Step::Answer(answer) => self.answer(answer, view),
            Step::Ask(text) | Step::Edit(text) => {
                if !text.is_empty() {
                    view.block(&text).map_err(CliError::Output)?;
                }
                self.prompt(view);
            }
        }
        Ok(())
    }

    fn answer<O: Write, T: Write>(&mut self, answer: PermissionAnswer, view: &mut TurnView<O, T>) {
        let Some(dialogue) = self.waiting.front() else { return };
        let (client, session, id) = (self.client.clone(), self.session, dialogue.asked.id);
        self.open = false;
        self.resolved = false;
        self.answering = Some(Box::pin(async move { client.answer_permission(session, id, &answer).await }));
        view.working("working");
    }

    fn answered<O: Write, T: Write>(
        &mut self,
        result: Result<Answer<PermissionBody>, ClientError>,
        view: &mut TurnView<O, T>,
    ) -> Result<(), CliError> {
        if let Err(error) = result {
            let too_late = error.problem().is_some_and(|problem| matches!(problem.status_code, 404 | 409));
            let text = if too_late { "An answer came before yours.".into() } else { clean(&report::chain(&error)) };
            view.note(&text).map_err(CliError::Output)?;
            let again = error.is_passing() || error.problem().is_some_and(|problem| matches!(problem.status_code, 400 | 422));
            if again && !self.resolved {
                self.waiting.iter_mut().take(1).for_each(Dialogue::restart);
                return self.ask(view);
            }
        }
        self.waiting.pop_front();
        self.ask(view)
    }

    fn request<O: Write, T: Write>(&mut self, frame: &Frame, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        // One of a later version that this one can not read is listed by its commands.
        let Some(asked) = Asked::parse(&frame.data) else { return Ok(()) };
        if self.asks == Asks::Elsewhere {
            return view.note(&asked.notice(self.session)).map_err(CliError::Output);
        }
        self.waiting.push_back(Dialogue::new(asked));
        if self.waiting.len() == 1 { self.ask(view) } else { Ok(()) }
    }

    fn resolved<O: Write, T: Write>(&mut self, frame: &Frame, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        let Ok(resolved) = serde_json::from_str::<PermissionResolved>(&frame.data) else { return Ok(()) };
        if self.asks == Asks::Elsewhere && resolved.by == Resolver::Timeout {
            return view.note(&outcome(&resolved, "somebody else")).map_err(CliError::Output);
        }
        let Some(at) = self.waiting.iter().position(|dialogue| dialogue.asked.id == resolved.id) else { return Ok(()) };
        if at == 0 && self.answering.is_some() {
            // The answer to the POST tells whose it was.
            self.resolved = true;
            return Ok(());
        }
        self.waiting.remove(at);
        if at == 0 {
            self.withdraw(view)?;
            view.note(&outcome(&resolved, "somebody else")).map_err(CliError::Output)?;
            self.ask(view)?;
        }
        Ok(())
    }

    /// Takes the prompt away, with what was typed at it.
    fn withdraw<O: Write, T: Write>(&mut self, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        if std::mem::take(&mut self.open) {
            self.keyboard.forget();
            view.block("").map_err(CliError::Output)?;
        }
        Ok(())
    }

    /// Asks about the first request that waits, if there is one.
    fn ask<O: Write, T: Write>(&mut self, view: &mut TurnView<O, T>) -> Result<(), CliError> {
        let Some(dialogue) = self.waiting.front() else {
            view.working("working");
            return Ok(());
        };
        view.block(&dialogue.opening()).map_err(CliError::Output)?;
        self.keyboard.forget();
        self.prompt(view);
        Ok(())
    }

    fn prompt<O: Write, T: Write>(&mut self, view: &mut TurnView<O, T>) {
        if let Some(dialogue) = self.waiting.front() {
            view.prompt(&dialogue.prompt());
            self.open = true;
        }
    }
}
