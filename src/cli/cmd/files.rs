//! `ashctl files`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::editor::Scratch;
use crate::cli::Context;
use crate::cli::args::FilesCommand;
use crate::cli::error::CliError;
use crate::cli::output::{ago, clean, now};
use crate::client::{ClientError, Download, NewFile};
use crate::wire::SessionId;

/// Standard input or output in place of a file.
const DASH: &str = "-";
/// Largest file that is edited: the largest that the API takes.
const EDIT_BYTES_MAX: usize = 50 << 20;

pub(super) async fn run(command: FilesCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        FilesCommand::Ls { session, no_hidden } => list(context.session(&session).await?, !no_hidden, context).await,
        FilesCommand::Get { session, path, file } => get(context.session(&session).await?, &path, file.as_deref(), context).await,
        FilesCommand::Put { session, files, to, as_path } => {
            put(context.session(&session).await?, &files, to, as_path, context).await
        }
        FilesCommand::Edit { session, path } => edit(context.session(&session).await?, &path, context).await,
        FilesCommand::Rm { session, paths } => remove(context.session(&session).await?, &paths, context).await,
    }
}

pub(super) async fn list(session: SessionId, hidden: bool, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.files(session, hidden).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    let list = answer.body;
    let rows = list.files.into_iter().map(|file| [file.path, file.size.to_string(), ago(file.modified_at, now())]);
    output.table(["PATH", "SIZE", "CHANGED"], rows.collect())?;
    if list.truncated {
        output.say("There are more files than are listed");
    }
    output.whisper(format_args!("Source: {}", clean(&list.source)));
    Ok(())
}

async fn get(session: SessionId, path: &str, file: Option<&Path>, context: &mut Context) -> Result<(), CliError> {
    let body = context.client.read_file(session, path).await?;
    save(body, file, context).await
}

/// Saves what comes in a file, or prints it.
pub(super) async fn save(mut body: Download, file: Option<&Path>, context: &mut Context) -> Result<(), CliError> {
    let Some(file) = file.filter(|file| file.as_os_str() != DASH) else {
        while let Some(bytes) = body.next().await? {
            // As they are: the stream for texts takes out what a terminal would act on.
            io::stdout().write_all(&bytes).map_err(CliError::Output)?;
        }
        return io::stdout().flush().map_err(CliError::Output);
    };
    let failed = |source| CliError::File { step: "write", path: file.to_owned(), source };
    // Under another name, so that what is not whole never has its own.
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    let mut part = File::create(&beside).map_err(failed)?;
    let received = async {
        while let Some(bytes) = body.next().await? {
            part.write_all(&bytes).map_err(failed)?;
        }
        part.sync_all().and_then(|()| std::fs::rename(&beside, file)).map_err(failed)
    };
    let received = received.await;
    if received.is_err() {
        // What failed is told; that this stays as well is seen.
        let _ = std::fs::remove_file(&beside);
    }
    received?;
    if context.output.is_json() {
        context.output.json(&serde_json::json!({"file": file}))
    } else {
        context.output.line(file.display())
    }
}

async fn put(
    session: SessionId,
    files: &[PathBuf],
    to: Option<String>,
    as_path: Option<String>,
    context: &mut Context,
) -> Result<(), CliError> {
    if as_path.is_some() && files.len() > 1 {
        return Err(CliError::usage(
            "--as names one path, and there are several files",
            "--to FOLDER puts several into a folder",
        ));
    }
    let mut all = Vec::new();
    for file in files {
        let is_input = file.as_os_str() == DASH;
        let name = file.file_name().filter(|_| !is_input).and_then(|name| name.to_str());
        let path = match (&as_path, &to, name) {
            (Some(path), ..) => path.clone(),
            (None, Some(folder), Some(name)) => format!("{}/{name}", folder.trim_end_matches('/')),
            (None, None, Some(name)) => name.to_owned(),
            (None, _, None) => {
                let problem = format!("{} has no name for the workspace", file.display());
                return Err(CliError::usage(problem, "--as PATH says what it is called there"));
            }
        };
        let mut bytes = Vec::new();
        let failed = |source| CliError::File { step: "read", path: file.clone(), source };
        if is_input {
            io::stdin().lock().read_to_end(&mut bytes).map_err(CliError::Input)?;
        } else {
            bytes = std::fs::read(file).map_err(failed)?;
        }
        all.push(NewFile { path, content: STANDARD.encode(bytes) });
    }
    let answer = context.client.write_files(session, &all).await?;
    let output = &mut context.output;
    let mut failed = Vec::new();
    for file in &answer.body.files {
        match &file.error {
            None if output.is_json() => {}
            None => output.line(clean(&file.path))?,
            Some(error) => {
                output.say(clean(&format!("{}: {error}", file.path)));
                failed.push(clean(&file.path));
            }
        }
    }
    if output.is_json() {
        output.json(&answer.json)?;
    }
    if failed.is_empty() { Ok(()) } else { Err(CliError::Files(failed.join(", "))) }
}

async fn edit(session: SessionId, path: &str, context: &mut Context) -> Result<(), CliError> {
    let editor = |source| CliError::Run { program: "the editor", source };
    let before = content(session, path, context).await?;
    let ending = Path::new(path).extension().and_then(|ending| ending.to_str()).unwrap_or("txt");
    let scratch = Scratch::new(before.as_deref().unwrap_or_default(), ending).map_err(editor)?;
    let after = scratch.edit().await.map_err(editor)?;
    if after == before.as_deref().unwrap_or_default() {
        context.output.say("Nothing was changed");
        return Ok(());
    }
    let written = write_back(session, path, before, &after, context).await;
    if written.is_err() {
        context.output.say(format_args!("What you wrote is in {}", scratch.keep().display()));
    }
    written
}

/// Writes a file, unless there is something else than `before` in it.
async fn write_back(
    session: SessionId,
    path: &str,
    before: Option<Vec<u8>>,
    after: &[u8],
    context: &mut Context,
) -> Result<(), CliError> {
    if content(session, path, context).await? != before {
        return Err(CliError::Changed(clean(path)));
    }
    let file = NewFile { path: path.to_owned(), content: STANDARD.encode(after) };
    let answer = context.client.write_files(session, &[file]).await?;
    if let Some(error) = answer.body.files.iter().find_map(|file| file.error.as_ref()) {
        return Err(CliError::Files(clean(&format!("{path}: {error}"))));
    }
    if context.output.is_json() { context.output.json(&answer.json) } else { context.output.line(clean(path)) }
}

/// What is in a file; `None` if there is none.
async fn content(session: SessionId, path: &str, context: &Context) -> Result<Option<Vec<u8>>, CliError> {
    let mut body = match context.client.read_file(session, path).await {
        Err(ClientError::Problem(problem)) if problem.status_code == 404 && problem.error.starts_with("File") => {
            return Ok(None);
        }
        body => body?,
    };
    let mut content = Vec::new();
    while let Some(bytes) = body.next().await? {
        content.extend_from_slice(&bytes);
        if content.len() > EDIT_BYTES_MAX {
            let problem = format!("{} has more than {} MiB", clean(path), EDIT_BYTES_MAX >> 20);
            return Err(CliError::usage(problem, "what is larger can not be put back as one file"));
        }
    }
    Ok(Some(content))
}

async fn remove(session: SessionId, paths: &[String], context: &mut Context) -> Result<(), CliError> {
    let mut removed = Vec::new();
    for path in paths {
        let answer = context.client.delete_file(session, path).await?;
        if !context.output.is_json() {
            context.output.line(format_args!("Deleted {}", clean(path)))?;
        }
        removed.push(answer.json);
    }
    context.output.documents(removed)
}
