//! `ashctl eval case`.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{QUESTION_SHOWN, case_id};
use crate::cli::Context;
use crate::cli::args::{CaseCommand, CaseContentArgs, CaseCreate, CaseEdit, CaseField, CaseRef};
use crate::cli::cmd::confirm::confirm;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now, one_line};
use crate::wire::eval::{ChangeEvalCase, CreateEvalCase, EvalCase};

pub(super) async fn run(command: CaseCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        CaseCommand::List { agent, category, active, inactive } => {
            let is_active = (active || inactive).then_some(active);
            list(&agent, category.as_deref(), is_active, context).await
        }
        CaseCommand::Create(args) => create(args, context).await,
        CaseCommand::Show { agent, case } => show(&agent, &case, context).await,
        CaseCommand::Edit(args) => edit(args, context).await,
        CaseCommand::Delete { agent, cases, yes } => {
            let what = if let [case] = &cases[..] { format!("case {case}") } else { format!("{} cases", cases.len()) };
            let question = format!("Delete {what} of agent \"{agent}\"? Results of runs keep what was asked.");
            confirm(&question, yes, &mut context.output)?;
            delete(&agent, &cases, context).await
        }
        CaseCommand::Import { agent, file } => import(&agent, &file, context).await,
        CaseCommand::Export { agent } => export(&agent, context).await,
    }
}

async fn list(agent: &str, category: Option<&str>, is_active: Option<bool>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.eval_cases(agent, category, is_active).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["cases"]);
    }
    if answer.body.cases.is_empty() {
        output.say(format_args!("No such cases. Make one: ashctl eval case create {agent} \"What is 2 + 2?\" --topic 4"));
        return Ok(());
    }
    let row = |case: EvalCase| {
        let (content, active) = (case.content, if case.is_active { "yes" } else { "no" });
        let tags = content.tags.unwrap_or_default().join(", ");
        let question = one_line(&content.question, QUESTION_SHOWN);
        [case.id.to_string(), active.to_owned(), content.category.unwrap_or_default(), tags, question]
    };
    output.table(["ID", "ACTIVE", "CATEGORY", "TAGS", "QUESTION"], answer.body.cases.into_iter().map(row).collect())
}

async fn create(args: CaseCreate, context: &mut Context) -> Result<(), CliError> {
    let question = match args.question.as_slice() {
        [dash] if dash == "-" => read(Path::new("-"))?.trim_end().to_owned(),
        words => words.join(" "),
    };
    let CaseContentArgs { topics, not_topics, reference, category, tags } = args.content;
    let body = CreateEvalCase {
        question,
        expected_topics: topics,
        expected_not_topics: not_topics,
        reference_answer: reference,
        category,
        tags,
        chat_history: None,
        is_active: args.inactive.then_some(false),
    };
    let answer = context.client.create_eval_case(&args.agent, &body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["case"]);
    }
    output.line(answer.body.case.id)?;
    output.whisper(format_args!("Have it asked: ashctl eval run start {} --wait", args.agent));
    Ok(())
}

async fn show(agent: &str, case: &CaseRef, context: &mut Context) -> Result<(), CliError> {
    let id = case_id(agent, case, context).await?;
    let answer = context.client.eval_case(agent, id).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["case"]);
    }
    context.output.fields(&fields(answer.body.case))
}

fn fields(case: EvalCase) -> Vec<(&'static str, String)> {
    let (content, now) = (case.content, now());
    let mut fields = vec![("Case", case.id.to_string()), ("Active", if case.is_active { "yes" } else { "no" }.to_owned())];
    fields.extend(content.category.map(|category| ("Category", category)));
    fields.extend(content.tags.map(|tags| ("Tags", tags.join(", "))));
    fields.push(("Created", ago(case.created_at, now)));
    fields.push(("Updated", ago(case.updated_at, now)));
    fields.extend(
        content
            .chat_history
            .into_iter()
            .flatten()
            .map(|said| (if said.role.as_str() == "user" { "User" } else { "Agent" }, said.content)),
    );
    fields.push(("Question", content.question));
    fields.extend(content.expected_topics.map(|topics| ("Topics", topics.join(", "))));
    fields.extend(content.expected_not_topics.map(|topics| ("Not", topics.join(", "))));
    fields.extend(content.reference_answer.map(|answer| ("Reference", answer)));
    fields
}

async fn edit(args: CaseEdit, context: &mut Context) -> Result<(), CliError> {
    let clears = |field: CaseField| args.clear.contains(&field);
    let CaseContentArgs { topics, not_topics, reference, category, tags } = args.content;
    let body = ChangeEvalCase {
        question: args.question,
        expected_topics: changed(topics, clears(CaseField::Topics)),
        expected_not_topics: changed(not_topics, clears(CaseField::NotTopics)),
        reference_answer: changed(reference, clears(CaseField::Reference)),
        category: changed(category, clears(CaseField::Category)),
        tags: changed(tags, clears(CaseField::Tags)),
        chat_history: changed(None, clears(CaseField::History)),
        is_active: (args.active || args.inactive).then_some(args.active),
    };
    let id = case_id(&args.agent, &args.case, context).await?;
    let answer = context.client.change_eval_case(&args.agent, id, &body).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["case"]);
    }
    context.output.line(format_args!("Changed case {id} of \"{}\"", args.agent))
}

/// What becomes of a field: what is given wins over taking it away.
fn changed<T>(given: Option<T>, clears: bool) -> Option<Option<T>> {
    if given.is_some() { Some(given) } else { clears.then_some(None) }
}

async fn delete(agent: &str, cases: &[CaseRef], context: &mut Context) -> Result<(), CliError> {
    let mut ids = Vec::new();
    for case in cases {
        ids.push(case_id(agent, case, context).await?);
    }
    let mut deleted = Vec::new();
    for id in ids {
        let answer = context.client.delete_eval_case(agent, id).await?;
        if context.output.is_json() {
            deleted.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted case {id} of \"{agent}\""))?;
        }
    }
    context.output.documents(deleted)
}

/// What is in a file, or on standard input.
fn read(file: &Path) -> Result<String, CliError> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(CliError::Input)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|source| CliError::File { step: "read", path: file.to_owned(), source })
}

async fn import(agent: &str, file: &Path, context: &mut Context) -> Result<(), CliError> {
    let body = cases(&read(file)?).map_err(|error| {
        CliError::usage(
            format!("{}: {error}", file.display()),
            "write what \"ashctl eval case export\" prints, or a list of cases",
        )
    })?;
    let answer = context.client.import_eval_cases(agent, &body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    let cases = if answer.body.imported == 1 { "case" } else { "cases" };
    output.line(format_args!("Imported {} {cases} for \"{agent}\"", answer.body.imported))
}

/// The body of an import: a list of cases, or an object that has it, in JSON or YAML. What the cases are is for the daemon
/// to say.
fn cases(text: &str) -> Result<Value, String> {
    let value: Value = match text.trim_start().chars().next() {
        Some('{' | '[') => serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?,
        _ => serde_saphyr::from_str(text).map_err(|error| format!("is no YAML: {error}"))?,
    };
    match value {
        Value::Array(cases) => Ok(json!({"cases": cases})),
        Value::Object(mut fields) => match fields.remove("cases") {
            Some(Value::Array(cases)) => Ok(json!({"cases": cases})),
            _ => Err("has no list \"cases\"".to_owned()),
        },
        _ => Err("is no list of cases".to_owned()),
    }
}

async fn export(agent: &str, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.export_eval_cases(agent).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json);
    }
    // What is meant for a file is written for a file.
    let text = serde_json::to_string_pretty(&answer.json).unwrap_or_default();
    context.output.line(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_from_json_and_yaml() {
        let wanted = json!({"cases": [{"question": "a\nb", "tags": ["x"], "isActive": false}]});
        for text in [
            r#"[{"question": "a\nb", "tags": ["x"], "isActive": false}]"#,
            r#" {"cases": [{"question": "a\nb", "tags": ["x"], "isActive": false}]}"#,
            "cases:\n  - question: |-\n      a\n      b\n    tags: [x]\n    isActive: false\n",
            "- question: \"a\\nb\"\n  tags:\n    - x\n  isActive: false\n",
        ] {
            assert_eq!(cases(text), Ok(wanted.clone()), "{text}");
        }
        for (text, reason) in [("{", "is no JSON"), ("a: [", "is no YAML"), ("a: 1", "has no list"), ("7", "is no list")] {
            assert!(cases(text).expect_err(text).starts_with(reason), "{text}");
        }
    }

    #[test]
    fn what_is_given_wins_over_taking_it_away() {
        assert_eq!(changed(Some(1), true), Some(Some(1)));
        assert_eq!(changed(None::<i32>, true), Some(None));
        assert_eq!(changed(None::<i32>, false), None);
    }
}
