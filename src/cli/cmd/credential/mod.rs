//! `ashctl credential`.

mod rotate;

use std::io::{self, IsTerminal as _, Read as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::confirm::confirm;
use crate::cli::Context;
use crate::cli::args::CredentialCommand;
use crate::cli::error::CliError;
use crate::cli::output::{Output, ago, now};
use crate::wire::CredentialId;
use crate::wire::credential::{ChangeCredential, CreateCredential, CredentialType};
use crate::wire::secret::Secret;

/// More than the daemon takes, so that it is the one to say no.
const KEY_MAX: u64 = 64 << 10;
const FROM_FILE: &str = "ashctl credential create anthropic <FILE";

pub(super) async fn run(command: CredentialCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        CredentialCommand::Create { kind, label } => create(kind, label, context).await,
        CredentialCommand::List => list(context).await,
        CredentialCommand::Update { id, label, key } => update(id, label, key, context).await,
        CredentialCommand::Delete { ids, yes } => {
            let what = if let [id] = ids[..] { format!("credential {id}") } else { format!("{} credentials", ids.len()) };
            let lost = "It can not be read back, and sessions that name it do not start again without another one.";
            confirm(&format!("Forget {what}? {lost}"), yes, &mut context.output)?;
            delete(&ids, context).await
        }
        CredentialCommand::RotateMaster { file } => rotate::run(&file, context).await,
    }
}

async fn create(kind: CredentialType, label: Option<String>, context: &mut Context) -> Result<(), CliError> {
    let key = read_key(FROM_FILE, &mut context.output)?;
    let answer = context.client.create_credential(&CreateCredential { r#type: kind, key, label }).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["credential"]);
    }
    let id = answer.body.credential.id;
    output.line(id)?;
    output.whisper(format_args!("Give it to a session: ashctl session create AGENT --credential {id}"));
    Ok(())
}

async fn list(context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.credentials().await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["credentials"]);
    }
    if answer.body.credentials.is_empty() {
        output.say("No credentials yet. Keep one: ashctl credential create anthropic");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.credentials.into_iter().map(|credential| {
        let used = credential.last_used_at.map_or_else(|| "never".to_owned(), |at| ago(at, now));
        let kind = credential.r#type.as_str().to_owned();
        [credential.id.to_string(), kind, credential.label, ago(credential.created_at, now), used]
    });
    output.table(["ID", "TYPE", "LABEL", "CREATED", "USED"], rows.collect())
}

async fn update(id: CredentialId, label: Option<String>, key: bool, context: &mut Context) -> Result<(), CliError> {
    let key = if key { Some(read_key(FROM_FILE, &mut context.output)?) } else { None };
    let answer = context.client.change_credential(id, &ChangeCredential { key, label }).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["credential"]);
    }
    output.line(format_args!("Changed credential {id}"))
}

async fn delete(ids: &[CredentialId], context: &mut Context) -> Result<(), CliError> {
    let mut deleted = Vec::new();
    for id in ids {
        let answer = context.client.delete_credential(*id).await?;
        if context.output.is_json() {
            deleted.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted credential {id}"))?;
        }
    }
    context.output.documents(deleted)
}

/// The secret from standard input, on a terminal without showing it. `hint` helps where there is none.
pub(super) fn read_key(hint: &str, output: &mut Output) -> Result<Secret, CliError> {
    let mut text = String::new();
    if io::stdin().is_terminal() {
        output.say("Paste the key, then Enter (it is not shown):");
        let _silent = Silence::begin().map_err(CliError::Input)?;
        io::stdin().read_line(&mut text).map_err(CliError::Input)?;
    } else {
        io::stdin().take(KEY_MAX).read_to_string(&mut text).map_err(CliError::Input)?;
    }
    let key = text.trim();
    if key.is_empty() {
        let problem = "there is no key on standard input";
        return Err(CliError::usage(problem, hint));
    }
    Ok(Secret::new(key))
}

/// While this lives, the terminal does not show what is typed.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Where it fails the terminal is gone.
        tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0).unwrap_or_default();
    }
}
