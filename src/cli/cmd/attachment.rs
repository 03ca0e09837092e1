//! `ashctl attachment`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::confirm::confirm;
use super::files::save;
use crate::cli::args::AttachmentCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::cli::{Context, watch};
use crate::client::{Answer, Client};
use crate::wire::attachment::{AttachBody, AttachmentBody};
use crate::wire::{AttachmentId, FileId, SessionId};

/// What files are whose names end so: what the model can be shown.
const TYPES: [(&str, &str); 17] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("json", "application/json"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("xml", "application/xml"),
    ("js", "application/javascript"),
];

pub(super) async fn run(command: AttachmentCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        AttachmentCommand::Add { session, files, copies, mime_type } => {
            let session = context.session(&session).await?;
            add(session, &files, &copies, mime_type.as_deref(), context).await
        }
        AttachmentCommand::List { session, watch } => {
            let session = context.session(&session).await?;
            watch::repeat(watch.every_secs, context, async |context: &mut Context| list(session, context).await).await
        }
        AttachmentCommand::Get { id, file } => {
            let body = context.client.read_attachment(id).await?;
            save(body, file.as_deref(), context).await
        }
        AttachmentCommand::Rm { ids, yes } => {
            let what = if let [id] = ids[..] { format!("attachment {id}") } else { format!("{} attachments", ids.len()) };
            confirm(&format!("Forget {what}? No message can name it any more."), yes, &mut context.output)?;
            remove(&ids, context).await
        }
    }
}

async fn add(
    session: SessionId,
    files: &[PathBuf],
    copies: &[FileId],
    mime_type: Option<&str>,
    context: &mut Context,
) -> Result<(), CliError> {
    let mut added = Vec::new();
    for file in files {
        let answer = upload(session, file, mime_type, &context.client).await?;
        tell(answer, &mut added, context)?;
    }
    for id in copies {
        let mime_type = mime_type.map(str::to_owned);
        let body = AttachBody { filename: None, content: None, file_id: Some(*id), mime_type, message_id: None };
        let answer = context.client.attach(session, &body).await?;
        tell(answer, &mut added, context)?;
    }
    context.output.documents(added)
}

fn tell(answer: Answer<AttachmentBody>, added: &mut Vec<Value>, context: &mut Context) -> Result<(), CliError> {
    if context.output.is_json() {
        added.push(answer.json["attachment"].clone());
        return Ok(());
    }
    context.output.line(answer.body.attachment.id)?;
    context.output.whisper(format_args!("It lies in the workspace: {}", answer.body.attachment.path));
    Ok(())
}

/// Gives a file to a session.
pub(super) async fn upload(
    session: SessionId,
    file: &Path,
    mime_type: Option<&str>,
    client: &Client,
) -> Result<Answer<AttachmentBody>, CliError> {
    let Sent { filename, content, mime_type } = Sent::read(file, mime_type)?;
    let (filename, content) = (Some(filename), Some(content.into()));
    let body = AttachBody { filename, content, file_id: None, mime_type, message_id: None };
    Ok(client.attach(session, &body).await?)
}

/// A file as it is sent.
pub(super) struct Sent {
    /// Its name.
    pub filename: String,
    /// What is in it, in base64.
    pub content: String,
    /// What it is, if that is known.
    pub mime_type: Option<String>,
}

impl Sent {
    /// Reads it, and takes it for what is said or its name says.
    pub fn read(file: &Path, mime_type: Option<&str>) -> Result<Self, CliError> {
        let Some(filename) = file.file_name().and_then(|name| name.to_str()) else {
            let problem = format!("{} has no name that can be sent", file.display());
            return Err(CliError::usage(problem, "name a file whose name is UTF-8"));
        };
        let failed = |source| CliError::File { step: "read", path: file.to_owned(), source };
        let content = STANDARD.encode(std::fs::read(file).map_err(failed)?);
        let mime_type = mime_type.or_else(|| type_of(file)).map(str::to_owned);
        Ok(Self { filename: filename.to_owned(), content, mime_type })
    }
}

fn type_of(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    TYPES.iter().find(|(end, _)| *end == extension).map(|(_, name)| *name)
}

async fn list(session: SessionId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.attachments(session).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["attachments"]);
    }
    if answer.body.attachments.is_empty() {
        output.say("No attachments");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.attachments.into_iter();
    let rows = rows.map(|one| [one.id.to_string(), one.path, one.mime_type, one.size.to_string(), ago(one.created_at, now)]);
    output.table(["ID", "PATH", "TYPE", "SIZE", "CREATED"], rows.collect())
}

async fn remove(ids: &[AttachmentId], context: &mut Context) -> Result<(), CliError> {
    let mut removed = Vec::new();
    for id in ids {
        let answer = context.client.delete_attachment(*id).await?;
        if context.output.is_json() {
            removed.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted attachment {id}"))?;
        }
    }
    context.output.documents(removed)
}
