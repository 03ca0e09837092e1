//! `ashctl chat` and `ashctl session send`.
//!
//! ```text
//!   prompt (argument, standard input) ──▶ one turn ──▶ exit code of the turn
//!   terminal ──▶ line ──▶ turn ──▶ line ──▶ … ──▶ Ctrl-D
//!                           │ Ctrl-C: interrupt the turn; again: leave
//! ```
//!
//! The turn goes on when the connection breaks or `ashctl` leaves: it belongs to the session.
//!
//! | module | job |
//! | --- | --- |
//! | `line` | the line that becomes a message |
//! | `command` | lines that are commands |
//! | `view`, `spinner` | a turn as it is shown |
//! | `desk` | requests for permission, and the person who answers them |
//! | `dialogue`, `keyboard` | what is asked and answered; the keys that do it |

mod command;
mod desk;
mod dialogue;
mod keyboard;
mod line;
mod spinner;
mod view;

use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::pin::{Pin, pin};

use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::command::Command;
use self::desk::{Asks, Desk};
use self::line::{Editor, Line};
use self::view::{Ending, TurnView};
pub(super) use self::view::{gist, said};
use super::attachment;
use crate::cli::args::{Chat, Format, SessionSend};
use crate::cli::error::{CliError, model_key_hint};
use crate::cli::output::{DIM, RED, clean, item};
use crate::cli::patience::Patience;
use crate::cli::{Context, bill};
use crate::client::sse::Frame;
use crate::client::{Client, ClientError};
use crate::report;
use crate::wire::message::{IfBusy, MessageBody, TurnOptions};
use crate::wire::session::{CreateSession, PermissionMode, Session, SessionConfig};
use crate::wire::{AttachmentId, SessionId, TurnId};

/// How frames are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    /// The answer.
    Answer,
    /// As they came.
    Frames,
    /// As objects of this format.
    Objects(Format),
}

/// What became of a turn.
#[derive(Debug)]
enum Outcome {
    Ended(Ending),
    /// It ended because the user wanted it to.
    Interrupted,
    /// The user left while it ran.
    Left,
}

pub(super) async fn run(args: Chat, context: &mut Context) -> Result<(), CliError> {
    let (agent, prompt) = if args.session.is_some() || args.last {
        (None, args.agent.into_iter().chain(args.prompt).collect())
    } else {
        (args.agent, args.prompt)
    };
    if agent.is_none() && args.session.is_none() && !args.last {
        return Err(CliError::usage(
            "whom to talk to?",
            "ashctl chat AGENT, --session ID or --last; ashctl agent list shows agents",
        ));
    }
    let show = show(args.raw, context);
    let prompt = prompt_text(&prompt)?;
    if prompt.is_none() && matches!(show, Show::Objects(_)) {
        return Err(CliError::usage("there is no prompt", "give one as an argument, or on standard input"));
    }

    let session = match (args.session, agent) {
        (Some(named), _) => context.client.session(context.session(&named).await?).await?.body.session,
        (None, Some(agent)) => create(agent, args.model.clone(), args.permission_mode, context).await?,
        (None, None) => context.last_session().await?,
    };
    let id = session.id;
    let mut chat = Conversation::new(session, args.model, show)?;
    chat.attach(&args.attach, &context.client).await?;
    let result = match prompt {
        Some(prompt) => {
            context.output.say(format_args!("{DIM}Session: {id}{DIM:#}"));
            chat.once(prompt, context).await
        }
        None => chat.converse(context).await,
    };
    if args.end {
        let id = chat.session.id;
        context.client.end_session(id).await?;
        context.output.whisper(format_args!("Ended session {id}"));
    }
    result
}

/// `ashctl session send`.
pub(super) async fn send(args: SessionSend, context: &mut Context) -> Result<(), CliError> {
    let show = show(args.raw, context);
    let prompt = match prompt_text(&args.prompt)? {
        Some(prompt) => prompt,
        None => typed(context)?,
    };
    let session = context.client.session(context.session(&args.id).await?).await?.body.session;
    let mut chat = Conversation::new(session, args.model, show)?;
    chat.attach(&args.attach, &context.client).await?;
    chat.once(prompt, context).await
}

fn show(raw: bool, context: &Context) -> Show {
    match (raw, context.output.is_json()) {
        (_, true) => Show::Objects(context.output.format),
        (true, false) => Show::Frames,
        (false, false) => Show::Answer,
    }
}

/// The prompt, unless it is to be typed on the terminal. Standard input is read only if it is
/// asked for with `-` or there are no words and it is no terminal: a script's standard input may
/// never end.
fn prompt_text(words: &[String]) -> Result<Option<String>, CliError> {
    let read = match words {
        [dash] if dash == "-" => true,
        [] if io::stdin().is_terminal() => return Ok(None),
        [] => true,
        _ => false,
    };
    let text = if read { read_input()? } else { words.join(" ") };
    if text.trim().is_empty() {
        return Err(CliError::usage("the prompt is empty", "give one as an argument, or on standard input"));
    }
    Ok(Some(text))
}

fn read_input() -> Result<String, CliError> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(CliError::Input)?;
    // The end of the last line is the shell's, not the writer's.
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// A prompt typed on the terminal for a command that is no conversation.
fn typed(context: &mut Context) -> Result<String, CliError> {
    context.output.whisper("Type the message; Ctrl-D on a line of its own sends it.");
    let text = read_input()?;
    if text.trim().is_empty() {
        return Err(CliError::usage("the prompt is empty", "give one as an argument, or on standard input"));
    }
    Ok(text)
}

async fn create(
    agent: String,
    model: Option<String>,
    permission_mode: Option<PermissionMode>,
    context: &Context,
) -> Result<Session, CliError> {
    let config = SessionConfig { permission_mode, ..SessionConfig::default() };
    let body = CreateSession { agent, model, config, ..CreateSession::default() };
    Ok(context.client.create_session(&body).await?.body.session)
}

struct Conversation {
    session: Session,
    model: Option<String>,
    show: Show,
    interrupts: Signal,
    /// What goes with the next message.
    attached: Vec<AttachmentId>,
}

impl Conversation {
    /// From here on, Ctrl-C interrupts turns and does not end the process.
    fn new(session: Session, model: Option<String>, show: Show) -> Result<Self, CliError> {
        let interrupts =
            signal(SignalKind::interrupt()).map_err(|source| CliError::Run { program: "a signal handler", source })?;
        Ok(Self { session, model, show, interrupts, attached: Vec::new() })
    }

    /// Gives the session files, which go with the next message.
    async fn attach(&mut self, files: &[PathBuf], client: &Client) -> Result<(), CliError> {
        for file in files {
            let answer = attachment::upload(self.session.id, file, None, client).await?;
            self.attached.push(answer.body.attachment.id);
        }
        Ok(())
    }

    /// One turn, whose outcome is the command's.
    async fn once(&mut self, prompt: String, context: &mut Context) -> Result<(), CliError> {
        match self.turn(&prompt, context).await? {
            Outcome::Ended(ending) if ending.is_good() => Ok(()),
            Outcome::Ended(Ending { state, cause, .. }) => {
                let state = if state.is_empty() { "failed" } else { &state };
                let state = if state == "failed" { state.to_owned() } else { format!("was {state}") };
                Err(CliError::Turn { state, cause })
            }
            Outcome::Interrupted | Outcome::Left => Err(CliError::Interrupted),
        }
    }

    /// Turns until the user leaves.
    async fn converse(&mut self, context: &mut Context) -> Result<(), CliError> {
        let (agent, id) = (&self.session.agent_name, self.session.id);
        context
            .output
            .say(format_args!("{DIM}Session {id} with {agent}\nCtrl-C interrupts, Ctrl-D leaves, /help lists commands.{DIM:#}"));
        let mut editor = Editor::new()?;
        loop {
            let line;
            (editor, line) = editor.read().await?;
            let prompt = match line {
                Line::Text(text) if text.trim().is_empty() => continue,
                Line::Text(text) => match Command::parse(&text) {
                    Some(Command::Exit) => break,
                    Some(command) => {
                        self.obey(command, context).await?;
                        continue;
                    }
                    None => text,
                },
                Line::Leave => break,
            };
            match self.turn(&prompt, context).await {
                Ok(Outcome::Ended(ending)) => remark(&ending, context),
                Ok(Outcome::Interrupted) => context.output.say(format_args!("{DIM}Interrupted.{DIM:#}")),
                Ok(Outcome::Left) => break,
                // What only this message met leaves the conversation as it is.
                Err(CliError::Client(error)) if survives(&error) => tell(&error, context),
                Err(error) => return Err(error),
            }
        }
        let id = self.session.id;
        context.output.say(format_args!("{DIM}Continue with: ashctl chat --session {id}{DIM:#}"));
        Ok(())
    }

    /// Does what a command asks for, unless the user has enough of it. What fails leaves the conversation
    /// as it is.
    async fn obey(&mut self, command: Command, context: &mut Context) -> Result<(), CliError> {
        let obeyed = tokio::select! {
            obeyed = command.obey(&mut self.session, &mut self.model, context) => obeyed,
            _ = self.interrupts.recv() => Ok(()),
        };
        match obeyed {
            Err(CliError::Client(error)) => tell(&error, context),
            obeyed => obeyed?,
        }
        Ok(())
    }

    /// Sends a message and shows the turn until it ends or the user leaves.
    async fn turn(&mut self, prompt: &str, context: &mut Context) -> Result<Outcome, CliError> {
        let content = match std::mem::take(&mut self.attached) {
            attached if attached.is_empty() => serde_json::value::to_raw_value(prompt),
            attached => {
                let block = |id| json!({"type": "attachment", "attachmentId": id});
                let text = json!({"type": "text", "text": prompt});
                let blocks: Vec<_> = attached.into_iter().map(block).chain([text]).collect();
                serde_json::value::to_raw_value(&blocks)
            }
        };
        let content = content.map_err(ClientError::Encode)?;
        let options = TurnOptions { include_partial_messages: true, model: self.model.clone(), ..TurnOptions::default() };
        let body = MessageBody { content, options, if_busy: IfBusy::Queue };
        let (client, output) = (context.client.clone(), &mut context.output);

        let mut view = TurnView::new(&mut output.out, &mut output.talk);
        if output.out_is_terminal {
            view = view.on_terminal();
        }
        if output.talk_is_terminal && self.show == Show::Answer {
            view = view.with_signs_of_life();
        }
        view.working("waiting for the agent");

        let asks = match self.show {
            Show::Frames | Show::Objects(_) => Asks::Nobody,
            Show::Answer if io::stdin().is_terminal() && output.talk_is_terminal => Asks::Here,
            Show::Answer => Asks::Elsewhere,
        };
        let desk = Desk::new(client.clone(), self.session.id, asks);
        let outcome = self.follow(&client, &body, desk, &mut view).await;
        view.end().map_err(CliError::Output)?;
        drop(view);
        if let Ok(Outcome::Ended(Ending { usage: Some(usage), .. })) = &outcome
            && self.show == Show::Answer
            && output.out_is_terminal
        {
            output.whisper(bill::summary(usage));
        }
        outcome
    }

    async fn follow<O: io::Write, T: io::Write>(
        &mut self,
        client: &Client,
        body: &MessageBody,
        mut desk: Desk,
        view: &mut TurnView<O, T>,
    ) -> Result<Outcome, CliError> {
        let id = self.session.id;
        let mut ticks = tokio::time::interval(spinner::TICK);
        let mut post = pin!(client.send_message(id, body));
        // Whether the user has interrupted, once.
        let mut asked = false;
        let mut stream = loop {
            tokio::select! {
                stream = &mut post => break stream?,
                _ = ticks.tick(), if view.is_moving() => view.tick(),
                _ = self.interrupts.recv() => {
                    if asked {
                        return Ok(Outcome::Left);
                    }
                    asked = true;
                    view.interrupting();
                }
            }
        };
        if asked {
            desk.give_up(view)?;
        }
        let mut ending = None;
        let mut interrupting = Interrupting::Wanted(asked);
        loop {
            let turn = stream.turn();
            interrupting.go_on(client, id, turn);
            // Kept over ticks and keys: it may be connecting again, which takes its time.
            let mut next = pin!(stream.next());
            let frame = loop {
                tokio::select! {
                    frame = &mut next => break frame?,
                    event = desk.event() => {
                        if desk.heard(event, view).await? {
                            // Ctrl-C was meant for the editor.
                            while self.interrupts.recv().now_or_never().flatten().is_some() {}
                        }
                        for frame in desk.release() {
                            ending = self.frame(&frame, view)?.or(ending);
                        }
                    }
                    _ = ticks.tick(), if view.is_moving() => view.tick(),
                    _ = self.interrupts.recv() => {
                        if asked {
                            return Ok(Outcome::Left);
                        }
                        asked = true;
                        desk.give_up(view)?;
                        view.interrupting();
                        interrupting = Interrupting::Wanted(true);
                        interrupting.go_on(client, id, turn);
                    }
                    outcome = interrupting.done() => {
                        interrupting = Interrupting::Wanted(false);
                        outcome?;
                    }
                }
            };
            let Some(frame) = frame else {
                let ending: Ending = ending.unwrap_or_default();
                return Ok(if asked && !ending.is_good() { Outcome::Interrupted } else { Outcome::Ended(ending) });
            };
            desk.take(frame, view)?;
            for frame in desk.release() {
                ending = self.frame(&frame, view)?.or(ending);
            }
        }
    }

    fn frame<O: io::Write, T: io::Write>(&self, frame: &Frame, view: &mut TurnView<O, T>) -> Result<Option<Ending>, CliError> {
        match self.show {
            Show::Answer => view.frame(frame),
            Show::Frames => view.pass(&raw(frame), frame),
            Show::Objects(format) => view.pass(&item(&Shown::of(frame), format), frame),
        }
        .map_err(CliError::Output)
    }
}

/// Whether a conversation can go on after this failure of one message.
fn survives(error: &ClientError) -> bool {
    error.is_passing() || error.problem().is_some_and(|problem| matches!(problem.status_code, 409 | 413 | 500))
}

/// Says what failed, and the next step.
fn tell(error: &ClientError, context: &mut Context) {
    let text = clean(&report::chain(error));
    context.output.say(format_args!("{RED}error:{RED:#} {text}"));
    if let Some(hint) = error.hint() {
        context.output.say(format_args!("hint:  {hint}"));
    }
}

/// Says how a turn ended, if not well.
fn remark(ending: &Ending, context: &mut Context) {
    if ending.is_good() {
        return;
    }
    let cause = ending.cause.as_deref().map(clean).unwrap_or_default();
    let hint = model_key_hint(&cause);
    match ending.state.as_str() {
        "" | "failed" => context.output.say(format_args!("{RED}error:{RED:#} {cause}")),
        state => context.output.say(format_args!("{RED}The turn was {state}:{RED:#} {cause}")),
    }
    if let Some(hint) = hint {
        context.output.say(format_args!("hint:  {hint}"));
    }
}

/// The end that the user wishes for the turn of a message: for no other, which may be another's and run before it.
enum Interrupting<'a> {
    /// Whether it is to be asked for as soon as the turn has a name.
    Wanted(bool),
    /// It is asked for.
    Asked(Pin<Box<dyn Future<Output = Result<(), ClientError>> + 'a>>),
}

impl<'a> Interrupting<'a> {
    fn go_on(&mut self, client: &'a Client, session: SessionId, turn: Option<TurnId>) {
        if let (Self::Wanted(true), Some(turn)) = (&*self, turn) {
            *self = Self::Asked(Box::pin(cancel(client, session, turn)));
        }
    }

    /// The outcome of the request; never comes where there is none.
    async fn done(&mut self) -> Result<(), ClientError> {
        match self {
            Self::Asked(request) => request.await,
            Self::Wanted(_) => std::future::pending().await,
        }
    }
}

/// Ends a turn, also while the daemon restarts.
async fn cancel(client: &Client, session: SessionId, turn: TurnId) -> Result<(), ClientError> {
    let mut patience = Patience::default();
    loop {
        match client.cancel_turn(session, turn).await {
            // It or its session has ended meanwhile, and the stream says how.
            Err(ClientError::Problem(problem)) if matches!(problem.status_code, 400 | 409 | 410) => return Ok(()),
            answer => {
                if patience.bear(answer).await?.is_some() {
                    return Ok(());
                }
            }
        }
    }
}

/// The frame as it stood on the stream.
fn raw(frame: &Frame) -> String {
    let id = frame.id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data: String = frame.data.split('\n').map(|line| format!("data: {line}\n")).collect();
    format!("{id}event: {}\n{data}\n", frame.event)
}

/// The frame as an object.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    id: Option<i64>,
    event: &'a str,
    data: Value,
}

impl<'a> Shown<'a> {
    /// The object of this frame.
    pub(super) fn of(frame: &'a Frame) -> Self {
        let data = serde_json::from_str(&frame.data).unwrap_or_else(|_| Value::from(frame.data.as_str()));
        Self { id: frame.id, event: &frame.event, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_print_as_they_came_or_as_objects() {
        let json_line = |frame: &Frame| item(&Shown::of(frame), Format::Json);
        let frame = Frame { id: Some(7), event: "done".into(), data: "{\"a\":1}".into() };
        assert_eq!(raw(&frame), "id: 7\nevent: done\ndata: {\"a\":1}\n\n");
        assert_eq!(json_line(&frame), "{\"id\":7,\"event\":\"done\",\"data\":{\"a\":1}}\n");
        assert_eq!(item(&Shown::of(&frame), Format::Yaml), "---\nid: 7\nevent: done\ndata:\n  a: 1\n");
        let frame = Frame { id: None, event: "x".into(), data: "a\nb".into() };
        assert_eq!(raw(&frame), "event: x\ndata: a\ndata: b\n\n");
        assert_eq!(json_line(&frame), "{\"id\":null,\"event\":\"x\",\"data\":\"a\\nb\"}\n");
    }
}
