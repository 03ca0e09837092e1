//! Commands of a conversation: lines that begin with "/" and a word that is known here. Other such lines
//! are messages, as the runtime has commands of its own.

use crate::cli::cmd::{files, session, turn};
use crate::cli::error::CliError;
use crate::cli::output::{BOLD, DIM};
use crate::cli::{Context, bill};
use crate::wire::session::{CreateSession, Session, SessionConfig};
use crate::wire::snapshot::{ForkSession, RewindIfBusy, RewindSession};

/// Names with what they take and do.
const HELP: [(&str, &str); 10] = [
    ("/help", "list these commands"),
    ("/status", "how the session is"),
    ("/cost", "what the session has spent"),
    ("/files", "list the files of the workspace"),
    ("/model [NAME]", "the model that answers from now on; without a name, the session's"),
    ("/interrupt", "interrupt a turn that runs"),
    ("/fork", "go on in a copy of the session; this one stays as it is"),
    ("/rewind [EVENT]", "take the session back to a snapshot; without one, list them"),
    ("/new", "go on in a new session with the same agent"),
    ("/exit", "leave, as Ctrl-D does; the session stays"),
];

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Status,
    Cost,
    Files,
    Model(Option<String>),
    Interrupt,
    Fork,
    Rewind(Option<i64>),
    New,
    Exit,
    /// What is wrong with it.
    Wrong(String),
}

impl Command {
    /// The command of a line, if it is one.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let rest = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
        let command = match (word, rest) {
            ("/model", name) => return Some(Self::Model(name)),
            ("/rewind", None) => return Some(Self::Rewind(None)),
            ("/rewind", Some(event)) => {
                let wrong = || Self::Wrong(format!("{event:?} is no event; /rewind alone lists the snapshots"));
                return Some(event.parse().map_or_else(|_| wrong(), |event| Self::Rewind(Some(event))));
            }
            ("/help" | "/?", rest) => (Self::Help, rest),
            ("/status", rest) => (Self::Status, rest),
            ("/cost", rest) => (Self::Cost, rest),
            ("/files", rest) => (Self::Files, rest),
            ("/interrupt", rest) => (Self::Interrupt, rest),
            ("/fork", rest) => (Self::Fork, rest),
            ("/new", rest) => (Self::New, rest),
            ("/exit" | "/quit", rest) => (Self::Exit, rest),
            _ => return None,
        };
        Some(match command {
            (command, None) => command,
            (_, Some(_)) => Self::Wrong(format!("{word} takes nothing")),
        })
    }

    /// Does what is asked for, in the place of the session and the model of the conversation.
    pub(super) async fn obey(
        self,
        session: &mut Session,
        model: &mut Option<String>,
        context: &mut Context,
    ) -> Result<(), CliError> {
        let id = session.id;
        match self {
            Self::Help => {
                let width = HELP.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                HELP.iter().for_each(|(name, text)| context.output.say(format_args!("{BOLD}{name:width$}{BOLD:#}  {text}")));
            }
            Self::Status => session::show(id, context).await?,
            Self::Cost => match context.client.session(id).await?.body.session.spent {
                Some(spent) => {
                    let dollars = spent.cost_usd.map_or_else(|| "no price is known".to_owned(), bill::price);
                    context.output.say(format_args!("{} tokens · {dollars}", spent.tokens));
                }
                None => context.output.say("The daemon does not say what it has spent."),
            },
            Self::Files => files::list(id, false, context).await?,
            Self::Model(name) => {
                context.output.say(match &name {
                    Some(name) => format!("{name} answers from now on."),
                    None => "The model of the session answers from now on.".to_owned(),
                });
                *model = name;
            }
            Self::Interrupt => turn::interrupt(id, context).await?,
            Self::Fork => {
                let fork = context.client.fork_session(id, &ForkSession { event_id: None }).await?.body.session.id;
                // It is made paused, and takes no messages so.
                *session = context.client.resume_session(fork).await?.body.session;
                context.output.say(format_args!("{DIM}Session {fork} goes on from here; {id} stays as it is.{DIM:#}"));
            }
            Self::Rewind(None) => session::snapshots(id, false, context).await?,
            Self::Rewind(Some(event)) => {
                let body = RewindSession { event_id: event, if_busy: RewindIfBusy::Reject };
                *session = context.client.rewind_session(id, &body).await?.body.session;
                context.output.say(format_args!("Took the session back to event {event}."));
            }
            Self::New => {
                let config = SessionConfig { permission_mode: session.config.permission_mode, ..SessionConfig::default() };
                let body = CreateSession {
                    agent: session.agent_name.clone(),
                    model: session.model.clone(),
                    config,
                    ..CreateSession::default()
                };
                *session = context.client.create_session(&body).await?.body.session;
                context.output.say(format_args!("{DIM}Session {}; the one before stays: {id}{DIM:#}", session.id));
            }
            Self::Exit => {}
            Self::Wrong(problem) => context.output.say(problem),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_commands_and_other_lines_are_messages() {
        for (line, command) in [
            ("/help", Some(Command::Help)),
            (" /exit ", Some(Command::Exit)),
            ("/quit", Some(Command::Exit)),
            ("/model opus", Some(Command::Model(Some("opus".to_owned())))),
            ("/model", Some(Command::Model(None))),
            ("/rewind", Some(Command::Rewind(None))),
            ("/rewind 12", Some(Command::Rewind(Some(12)))),
            ("/compact", None),
            ("/new-command", None),
            ("/etc/passwd has what?", None),
            ("help", None),
            ("", None),
        ] {
            assert_eq!(Command::parse(line), command, "{line}");
        }
        for line in ["/rewind x", "/new session", "/exit now"] {
            assert!(matches!(Command::parse(line), Some(Command::Wrong(_))), "{line}");
        }
    }
}
