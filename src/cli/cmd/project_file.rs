//! `ashctl project-file`.

use super::attachment::Sent;
use super::confirm::confirm;
use super::files::save;
use crate::cli::args::ProjectFileCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::cli::{Context, watch};
use crate::wire::FileId;
use crate::wire::project_file::UploadFile;

pub(super) async fn run(command: ProjectFileCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        ProjectFileCommand::Add { files, mime_type, ttl } => {
            let mut added = Vec::new();
            for file in files {
                let Sent { filename, content, mime_type } = Sent::read(&file, mime_type.as_deref())?;
                let body = UploadFile { filename, content: content.into(), mime_type, ttl };
                let answer = context.client.upload_file(&body).await?;
                if context.output.is_json() {
                    added.push(answer.json["file"].clone());
                } else {
                    context.output.line(answer.body.file.id)?;
                }
            }
            context.output.documents(added)
        }
        ProjectFileCommand::List { limit, before, watch } => {
            watch::repeat(watch.every_secs, context, async |context: &mut Context| list(before, limit, context).await).await
        }
        ProjectFileCommand::Get { id, file } => {
            let body = context.client.read_project_file(id).await?;
            save(body, file.as_deref(), context).await
        }
        ProjectFileCommand::Url { id, expires } => {
            let answer = context.client.file_link(id, expires.map(|span| span.0)).await?;
            if context.output.is_json() {
                return context.output.json(&answer.json);
            }
            if answer.body.url.starts_with('/') {
                context.output.whisper("It begins with the address of a listener, which [http] public_url says to the daemon");
            }
            context.output.line(answer.body.url)
        }
        ProjectFileCommand::Rm { ids, yes } => {
            let what = if let [id] = ids[..] { format!("file {id}") } else { format!("{} files", ids.len()) };
            confirm(&format!("Delete {what}? No session can be given it any more."), yes, &mut context.output)?;
            remove(&ids, context).await
        }
    }
}

async fn list(before: Option<FileId>, limit: u32, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.files_of_tenant(before, limit).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["files"]);
    }
    if answer.body.files.is_empty() {
        output.say("No files");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.files.into_iter().map(|file| {
        [
            file.id.to_string(),
            file.filename,
            file.mime_type,
            file.size.to_string(),
            file.ttl.as_str().to_owned(),
            ago(file.created_at, now),
        ]
    });
    output.table(["ID", "NAME", "TYPE", "SIZE", "KEPT", "CREATED"], rows.collect())
}

async fn remove(ids: &[FileId], context: &mut Context) -> Result<(), CliError> {
    let mut removed = Vec::new();
    for id in ids {
        let answer = context.client.delete_project_file(*id).await?;
        if context.output.is_json() {
            removed.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted file {id}"))?;
        }
    }
    context.output.documents(removed)
}
