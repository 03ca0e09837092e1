//! `ashctl permission`.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::request::{Asked, outcome, visible};
use crate::cli::Context;
use crate::cli::args::{PermissionAllow, PermissionCommand};
use crate::cli::error::CliError;
use crate::cli::output::{ago, now, one_line};
use crate::client::Page;
use crate::wire::permission::{Behavior, Permission, PermissionAnswer, Resolver, Scope};
use crate::wire::{PermissionId, SessionId};

/// Rows asked for at once: the most that the daemon gives.
const PAGE_ROWS: u32 = 1000;

/// Longest gist of a request in a table.
const GIST_LETTERS: usize = 60;

pub(super) async fn run(command: PermissionCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        PermissionCommand::List { session, all } => list(context.session(&session).await?, all, context).await,
        PermissionCommand::Show { session, id } => show(context.session(&session).await?, id, context).await,
        PermissionCommand::Allow(args) => allow(args, context).await,
        PermissionCommand::Deny { session, id, message, interrupt } => {
            let answer = PermissionAnswer { message, interrupt, ..plain(Behavior::Deny) };
            send(context.session(&session).await?, id, &answer, context).await
        }
    }
}

/// An answer for this once and with nothing beside.
pub(super) fn plain(behavior: Behavior) -> PermissionAnswer {
    PermissionAnswer { behavior, scope: Scope::Once, updated_input: None, answers: None, message: None, interrupt: false }
}

async fn list(session: SessionId, all: bool, context: &mut Context) -> Result<(), CliError> {
    let (mut permissions, mut json, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let answer = context.client.permissions(session, !all, Page { after, limit: Some(PAGE_ROWS) }).await?;
        let full = answer.body.permissions.len() >= PAGE_ROWS as usize;
        after = answer.body.permissions.last().map(|permission| permission.event_id);
        permissions.extend(answer.body.permissions);
        json.extend(answer.json["permissions"].as_array().cloned().unwrap_or_default());
        if !full {
            break;
        }
    }
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&Value::Array(json));
    }
    if permissions.is_empty() {
        output.say(if all { "Nothing was asked." } else { "Nothing waits for an answer." });
        return Ok(());
    }
    let now = now();
    let rows = permissions.iter().map(|permission| {
        let asked = Asked::listed(permission);
        let (tool, gist) = asked.map(|asked| (visible(&asked.tool), asked.gist())).unwrap_or_default();
        [id_of(permission), state(permission).to_owned(), tool, one_line(&gist, GIST_LETTERS), ago(permission.created_at, now)]
    });
    output.table(["ID", "STATE", "TOOL", "WHAT", "ASKED"], rows.collect())
}

fn id_of(permission: &Permission) -> String {
    permission.request.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn state(permission: &Permission) -> &'static str {
    match &permission.resolved {
        None => "waits",
        Some(resolved) => match (resolved.by, resolved.behavior) {
            (Resolver::TurnEnd, _) => "dropped",
            (_, Behavior::Allow) => "allowed",
            (_, Behavior::Deny) => "denied",
        },
    }
}

async fn show(session: SessionId, id: PermissionId, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.permission(session, id).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["permission"]);
    }
    let permission = answer.body.permission;
    let mut fields = vec![("Request", id.to_string()), ("State", state(&permission).to_owned())];
    if let Some(resolved) = &permission.resolved {
        fields.push(("Outcome", outcome(resolved, "a caller")));
        fields.extend(resolved.message.clone().map(|message| ("Message", message)));
    }
    fields.push(("Asked", ago(permission.created_at, now())));
    output.fields(&fields)?;
    let Some(asked) = Asked::listed(&permission) else { return Ok(()) };
    let questions = asked.questions();
    if questions.is_empty() {
        return output.line(asked.text(true));
    }
    questions.iter().try_for_each(|question| output.line(question.text_with_options()))
}

async fn allow(args: PermissionAllow, context: &mut Context) -> Result<(), CliError> {
    let session = context.session(&args.session).await?;
    let mut answer = plain(Behavior::Allow);
    if args.for_session {
        answer.scope = Scope::Session;
    }
    if let Some(input) = &args.input {
        answer.updated_input = Some(changed_input(input)?);
    }
    if !args.answer.is_empty() {
        let permission = context.client.permission(session, args.id).await?.body.permission;
        let questions: Vec<String> =
            Asked::listed(&permission).iter().flat_map(Asked::questions).map(|question| question.text).collect();
        answer.answers = Some(answers(&questions, &args.answer)?);
    }
    send(session, args.id, &answer, context).await
}

async fn send(session: SessionId, id: PermissionId, answer: &PermissionAnswer, context: &mut Context) -> Result<(), CliError> {
    let taken = context.client.answer_permission(session, id, answer).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&taken.json["permission"]);
    }
    let done = if answer.behavior == Behavior::Allow { "Allowed" } else { "Denied" };
    let asked = Asked::listed(&taken.body.permission);
    let what = asked.map(|asked| format!("{} {}", visible(&asked.tool), asked.gist())).unwrap_or_default();
    output.line(format_args!("{done} {}", one_line(&what, 200)))
}

/// The input of a tool from the command line: JSON, or a file that holds it.
fn changed_input(text: &str) -> Result<Box<RawValue>, CliError> {
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| CliError::usage(format!("{path}: {error}"), "write --input @FILE with a file that can be read"))?,
        None => text.to_owned(),
    };
    input_of(&text)
        .map_err(|problem| CliError::usage(format!("the input {problem}"), "it is an object, as permission show prints it"))
}

/// A tool's input that somebody wrote, or what is wrong with it.
pub(super) fn input_of(text: &str) -> Result<Box<RawValue>, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => RawValue::from_string(value.to_string()).map_err(|error| error.to_string()),
        Ok(_) => Err("is no JSON object".into()),
        Err(error) => Err(format!("is no JSON: {error}")),
    }
}

/// Answers by question. A question may hold a `=` itself, so those that were asked decide.
fn answers(questions: &[String], given: &[String]) -> Result<Map<String, Value>, CliError> {
    let mut answers = Map::new();
    for text in given {
        let found =
            questions.iter().find_map(|question| Some((question, text.strip_prefix(question.as_str())?.strip_prefix('=')?)));
        let Some((question, answer)) = found else {
            let asked: Vec<String> = questions.iter().map(|question| format!("--answer '{}=…'", visible(question))).collect();
            let hint = if asked.is_empty() { "it asks no questions".into() } else { asked.join(" ") };
            return Err(CliError::usage(format!("{text:?} answers no question of the request"), hint));
        };
        answers.insert(question.clone(), answer.into());
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_questions() {
        let questions = ["Is a=b?".to_owned(), "Why?".to_owned()];
        let given = |texts: &[&str]| answers(&questions, &texts.iter().map(|text| text.to_string()).collect::<Vec<_>>());
        let found = given(&["Is a=b?=no=never", "Why?="]).expect("answers");
        assert_eq!(Value::Object(found), serde_json::json!({"Is a=b?": "no=never", "Why?": ""}));
        for wrong in ["Why", "Who?=me", "=x"] {
            let error = given(&[wrong]).expect_err("no answer");
            assert!(error.hint().is_some_and(|hint| hint.contains("--answer 'Why?=…'")), "{wrong}");
        }
    }

    #[test]
    fn inputs_are_objects() {
        assert_eq!(input_of(" {\"a\":\n1} ").expect("an object").get(), "{\"a\":1}");
        for text in ["", "1", "[1]", "{"] {
            assert!(input_of(text).is_err(), "{text}");
        }
    }
}
