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
//! | `view`, `spinner` | a turn as it is shown |
//! | `desk` | requests for permission, and the person who answers them |
//! | `dialogue`, `keyboard` | what is asked and answered; the keys that do it |

mod desk;
mod dialogue;
mod keyboard;
mod line;
mod spinner;
mod view;

use std::io::{self, IsTerminal as _, Read as _};
use std::pin::{Pin, pin};

use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::desk::{Asks, Desk};
use self::line::{Editor, Line};
use self::view::{Ending, TurnView};
pub(super) use self::view::{gist, said};
use crate::cli::args::{Chat, SessionSend};
use crate::cli::error::{CliError, model_key_hint};
use crate::cli::output::{DIM, RED, clean};
use crate::cli::{Context, bill};
use crate::client::sse::Frame;
use crate::client::{Answer, Client, ClientError, SessionQuery};
use crate::report;
use crate::wire::message::{IfBusy, MessageBody, TurnOptions};
use crate::wire::session::{CreateSession, InterruptBody, PermissionMode, Session, SessionConfig, Status};

/// How far back `--last` looks for a session that still takes messages.
const LAST_AMONG: u32 = 100;

/// How frames are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    /// The answer.
    Answer,
    /// As they came.
    Frames,
    /// As JSON, one a line.
    Json,
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
    if prompt.is_none() && show == Show::Json {
        return Err(CliError::usage("there is no prompt", "give one as an argument, or on standard input"));
    }

    let session = match (args.session, agent) {
        (Some(id), _) => context.client.session(id).await?.body.session,
        (None, Some(agent)) => create(agent, args.model.clone(), args.permission_mode, context).await?,
        (None, None) => last(context).await?,
    };
    let id = session.id;
    let mut chat = Conversation::new(session, args.model, show)?;
    let result = match prompt {
        Some(prompt) => {
            context.output.say(format_args!("{DIM}Session: {id}{DIM:#}"));
            chat.once(prompt, context).await
        }
        None => chat.converse(context).await,
    };
    if args.end {
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
    let session = context.client.session(args.id).await?.body.session;
    Conversation::new(session, args.model, show)?.once(prompt, context).await
}

fn show(raw: bool, context: &Context) -> Show {
    match (raw, context.output.is_json()) {
        (_, true) => Show::Json,
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

/// The session that was active last, of those that take messages.
async fn last(context: &Context) -> Result<Session, CliError> {
    let query = SessionQuery { limit: Some(LAST_AMONG), ..SessionQuery::default() };
    let sessions = context.client.sessions(&query).await?.body.sessions.into_iter();
    let open = sessions.filter(|session| session.status != Status::Ended);
    open.max_by_key(|session| session.last_active_at).ok_or(CliError::NoSession)
}

struct Conversation {
    session: Session,
    model: Option<String>,
    show: Show,
    interrupts: Signal,
}

impl Conversation {
    /// From here on, Ctrl-C interrupts turns and does not end the process.
    fn new(session: Session, model: Option<String>, show: Show) -> Result<Self, CliError> {
        let interrupts =
            signal(SignalKind::interrupt()).map_err(|source| CliError::Run { program: "a signal handler", source })?;
        Ok(Self { session, model, show, interrupts })
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
        context.output.say(format_args!("{DIM}Session {id} with {agent}\nCtrl-C interrupts, Ctrl-D leaves.{DIM:#}"));
        let mut editor = Editor::new()?;
        loop {
            let line;
            (editor, line) = editor.read().await?;
            let prompt = match line {
                Line::Text(text) if text.trim().is_empty() => continue,
                Line::Text(text) => text,
                Line::Leave => break,
            };
            match self.turn(&prompt, context).await {
                Ok(Outcome::Ended(ending)) => remark(&ending, context),
                Ok(Outcome::Interrupted) => context.output.say(format_args!("{DIM}Interrupted.{DIM:#}")),
                Ok(Outcome::Left) => break,
                // What only this message met leaves the conversation as it is.
                Err(CliError::Client(error)) if survives(&error) => {
                    let text = clean(&report::chain(&error));
                    context.output.say(format_args!("{RED}error:{RED:#} {text}"));
                    if let Some(hint) = error.hint() {
                        context.output.say(format_args!("hint:  {hint}"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        context.output.say(format_args!("{DIM}Continue with: ashctl chat --session {id}{DIM:#}"));
        Ok(())
    }

    /// Sends a message and shows the turn until it ends or the user leaves.
    async fn turn(&mut self, prompt: &str, context: &mut Context) -> Result<Outcome, CliError> {
        let content = serde_json::value::to_raw_value(prompt).map_err(ClientError::Encode)?;
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
            Show::Frames | Show::Json => Asks::Nobody,
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
        let mut stream = loop {
            tokio::select! {
                stream = &mut post => break stream?,
                _ = ticks.tick(), if view.is_moving() => view.tick(),
                _ = self.interrupts.recv() => {
                    // It may be queued or running already.
                    client.interrupt(id).await?;
                    return Ok(Outcome::Left);
                }
            }
        };
        let mut ending = None;
        let mut interrupting: Option<Interrupting<'_>> = None;
        let mut asked = false;
        loop {
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
                        interrupting = Some(Box::pin(client.interrupt(id)));
                    }
                    answer = finished(&mut interrupting) => {
                        interrupting = None;
                        answer?;
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
            Show::Json => view.pass(&json_line(frame), frame),
        }
        .map_err(CliError::Output)
    }
}

/// Whether a conversation can go on after this failure of one message.
fn survives(error: &ClientError) -> bool {
    error.is_passing() || error.problem().is_some_and(|problem| matches!(problem.status_code, 409 | 413 | 500))
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

type Interrupting<'a> = Pin<Box<dyn Future<Output = Result<Answer<InterruptBody>, ClientError>> + 'a>>;

/// The request's answer; never comes where there is no request.
async fn finished(request: &mut Option<Interrupting<'_>>) -> Result<Answer<InterruptBody>, ClientError> {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// The frame as it stood on the stream.
fn raw(frame: &Frame) -> String {
    let id = frame.id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data: String = frame.data.split('\n').map(|line| format!("data: {line}\n")).collect();
    format!("{id}event: {}\n{data}\n", frame.event)
}

/// The frame as a line of JSON: `{"id":…,"event":…,"data":…}`.
pub(super) fn json_line(frame: &Frame) -> String {
    #[derive(Serialize)]
    struct Shown<'a> {
        id: Option<i64>,
        event: &'a str,
        data: Value,
    }
    let data = serde_json::from_str(&frame.data).unwrap_or_else(|_| Value::from(frame.data.as_str()));
    let line = serde_json::to_string(&Shown { id: frame.id, event: &frame.event, data });
    line.expect("texts and JSON can be written as JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_print_as_they_came_or_as_json() {
        let frame = Frame { id: Some(7), event: "done".into(), data: "{\"a\":1}".into() };
        assert_eq!(raw(&frame), "id: 7\nevent: done\ndata: {\"a\":1}\n\n");
        assert_eq!(json_line(&frame), "{\"id\":7,\"event\":\"done\",\"data\":{\"a\":1}}\n");
        let frame = Frame { id: None, event: "x".into(), data: "a\nb".into() };
        assert_eq!(raw(&frame), "event: x\ndata: a\ndata: b\n\n");
        assert_eq!(json_line(&frame), "{\"id\":null,\"event\":\"x\",\"data\":\"a\\nb\"}\n");
    }
}
