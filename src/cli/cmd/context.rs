//! `ashctl context`. It speaks to no daemon.

use serde_json::{Value, json};

use super::confirm::confirm;
use super::credential::read_key;
use crate::cli::args::{ContextAdd, ContextCommand};
use crate::cli::contexts::{Contexts, Entry, Key};
use crate::cli::error::CliError;
use crate::cli::output::Output;

/// Runs a command to its end.
pub(in crate::cli) fn run(command: ContextCommand, output: &mut Output) -> Result<(), CliError> {
    match command {
        ContextCommand::List => list(output),
        ContextCommand::Add(args) => add(args, output),
        ContextCommand::Use { name, .. } => select(name.as_deref(), output),
        ContextCommand::Show { name } => show(name, output),
        ContextCommand::Delete { name, yes } => delete(&name, yes, output),
    }
}

fn list(output: &mut Output) -> Result<(), CliError> {
    let contexts = Contexts::read()?;
    let is_current = |name: &str| contexts.current() == Some(name);
    if output.is_json() {
        let all = contexts.all().map(|(name, entry)| object(name, entry, is_current(name)));
        return output.json(&Value::Array(all.collect()));
    }
    let row = |(name, entry): (&str, &Entry)| {
        let mark = if is_current(name) { "*" } else { "" };
        [mark.to_owned(), name.to_owned(), entry.server.to_string(), where_key_is(entry)]
    };
    let rows: Vec<_> = contexts.all().map(row).collect();
    if rows.is_empty() {
        output.say("No contexts yet. Keep a daemon under a name: ashctl context add NAME URL");
        return Ok(());
    }
    output.table(["", "NAME", "SERVER", "KEY"], rows)
}

fn add(args: ContextAdd, output: &mut Output) -> Result<(), CliError> {
    let server = args.address.parse()?;
    let key = match (args.key, args.key_file, args.key_command) {
        (true, ..) => Some(Key::Stored(read_key("ashctl context add NAME URL --key <FILE", output)?)),
        (_, Some(file), _) => {
            let absolute = std::path::absolute(&file);
            Some(Key::File(absolute.map_err(|source| CliError::File { step: "find", path: file, source })?))
        }
        (.., Some(command)) => Some(Key::Command(command)),
        (false, None, None) => None,
    };
    Contexts::add(&args.name, Entry { server, key }, args.replace, args.in_use)?;
    if output.is_json() {
        return describe(&args.name, output);
    }
    output.line(format_args!("Added context \"{}\"", args.name))?;
    if !args.in_use {
        output.whisper(format_args!("Use it: ashctl context use {0}, or --context {0}", args.name));
    }
    Ok(())
}

fn select(name: Option<&str>, output: &mut Output) -> Result<(), CliError> {
    Contexts::select(name)?;
    match name {
        Some(name) if output.is_json() => describe(name, output),
        Some(name) => output.line(format_args!("Using context \"{name}\"")),
        None if output.is_json() => output.json(&Value::Null),
        None => output.line("Using no context"),
    }
}

fn show(name: Option<String>, output: &mut Output) -> Result<(), CliError> {
    let in_use = || Contexts::read().map(|contexts| contexts.current().map(str::to_owned));
    let Some(name) = name.map_or_else(in_use, |name| Ok(Some(name)))? else {
        return Err(CliError::usage("no context is in use", "ashctl context use NAME, or name one"));
    };
    describe(&name, output)
}

fn describe(name: &str, output: &mut Output) -> Result<(), CliError> {
    let contexts = Contexts::read()?;
    let (entry, is_current) = (contexts.get(name)?, contexts.current() == Some(name));
    if output.is_json() {
        return output.json(&object(name, entry, is_current));
    }
    let used = if is_current { "yes" } else { "no" };
    output.fields(&[
        ("Name", name.to_owned()),
        ("Server", entry.server.to_string()),
        ("Key", where_key_is(entry)),
        ("In use", used.to_owned()),
    ])
}

fn delete(name: &str, yes: bool, output: &mut Output) -> Result<(), CliError> {
    let is_stored = matches!(Contexts::read()?.get(name)?.key, Some(Key::Stored(_)));
    let lost = if is_stored { "Its API key is stored nowhere else." } else { "Its API key stays where it is." };
    confirm(&format!("Forget context \"{name}\"? {lost}"), yes, output)?;
    Contexts::remove(name)?;
    if output.is_json() { output.json(&json!({ "ok": true })) } else { output.line(format_args!("Deleted context \"{name}\"")) }
}

fn where_key_is(entry: &Entry) -> String {
    match &entry.key {
        None => "-".to_owned(),
        Some(Key::Stored(_)) => "stored".to_owned(),
        Some(Key::File(path)) => format!("file {}", path.display()),
        Some(Key::Command(command)) => format!("command {command}"),
    }
}

fn object(name: &str, entry: &Entry, is_current: bool) -> Value {
    let key = match &entry.key {
        None => Value::Null,
        Some(Key::Stored(_)) => "stored".into(),
        Some(Key::File(_)) => "file".into(),
        Some(Key::Command(_)) => "command".into(),
    };
    json!({ "name": name, "server": entry.server.to_string(), "key": key, "current": is_current })
}
