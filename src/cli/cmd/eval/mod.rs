//! `ashctl eval`.

mod case;
mod run;

use std::fmt::Display;

use crate::cli::Context;
use crate::cli::args::{CaseRef, EvalCommand, Ref, ResultRef, RunRef};
use crate::cli::error::CliError;
use crate::cli::output::one_line;
use crate::wire::{EvalCaseId, EvalResultId, EvalRunId};

/// Runs among which one is looked for by the beginning of its id: the most that the daemon gives.
const RUNS_AMONG: u32 = 1000;
/// Letters of a question in a list.
const QUESTION_SHOWN: usize = 40;

pub(super) async fn run(command: EvalCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        EvalCommand::Case(command) => case::run(command, context).await,
        EvalCommand::Run(command) => run::run(command, context).await,
    }
}

/// The case that is meant. A whole id is taken as it is.
async fn case_id(agent: &str, named: &CaseRef, context: &Context) -> Result<EvalCaseId, CliError> {
    if let Ref::Id(id) = named {
        return Ok(*id);
    }
    let cases = context.client.eval_cases(agent, None, None).await?.body.cases;
    let all = cases.into_iter().map(|case| (case.id, one_line(&case.content.question, QUESTION_SHOWN)));
    // The last was made last.
    let all: Vec<_> = all.rev().collect();
    meant(named, &all, "case", &format!("ashctl eval case list {agent}"))
}

/// The run that is meant. A whole id is taken as it is.
async fn run_id(agent: &str, named: &RunRef, context: &Context) -> Result<EvalRunId, CliError> {
    if let Ref::Id(id) = named {
        return Ok(*id);
    }
    let limit = if *named == Ref::Last { 1 } else { RUNS_AMONG };
    let runs = context.client.eval_runs(agent, Some(limit)).await?.body.runs;
    let all: Vec<_> = runs.into_iter().map(|run| (run.id, run.status.to_string())).collect();
    meant(named, &all, "run", &format!("ashctl eval run list {agent}"))
}

/// The result of a run that is meant.
async fn result_id(agent: &str, run: EvalRunId, named: &ResultRef, context: &Context) -> Result<EvalResultId, CliError> {
    if let Ref::Id(id) = named {
        return Ok(*id);
    }
    let results = context.client.eval_results(agent, run).await?.body.results;
    let all: Vec<_> = results.into_iter().rev().map(|result| (result.id, one_line(&result.question, QUESTION_SHOWN))).collect();
    meant(named, &all, "result", &format!("ashctl eval run results {agent} {run}"))
}

/// The one that is meant of these, the newest first, each with what tells it apart.
fn meant<T: Copy + Display>(named: &Ref<T>, all: &[(T, String)], what: &'static str, list: &str) -> Result<T, CliError> {
    let none = |problem: String| CliError::NoEval { problem, list: list.to_owned() };
    match named {
        Ref::Id(id) => Ok(*id),
        Ref::Last => all.first().map(|(id, _)| *id).ok_or_else(|| none(format!("there is no {what} yet"))),
        Ref::Prefix(prefix) => {
            let plain = |id: &str| id.replace('-', "");
            let begins =
                |id: &T| id.to_string().starts_with(prefix.as_str()) || plain(&id.to_string()).starts_with(prefix.as_str());
            let found: Vec<_> = all.iter().filter(|(id, _)| begins(id)).collect();
            match found[..] {
                [] => Err(none(format!("no {what} begins with {prefix}"))),
                [(id, _)] => Ok(*id),
                _ => {
                    let lines: Vec<_> = found.iter().take(10).map(|(id, about)| format!("  {id}  {about}")).collect();
                    let problem = format!("{prefix} is the beginning of {} {what}s:\n{}", found.len(), lines.join("\n"));
                    Err(CliError::usage(problem, "give more of it"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_or_the_only_one_that_begins_so_is_meant() {
        let id = |text: &str| text.parse::<EvalRunId>().expect("an id");
        let [new, old] = [id("0198c0df-0000-7000-8000-000000000001"), id("0198c0de-0000-7000-8000-000000000001")];
        let all = [(new, "completed".to_owned()), (old, "failed".to_owned())];
        let find = |named: &str, all: &[(EvalRunId, String)]| meant(&named.parse().expect("names one"), all, "run", "list");
        for (named, wanted) in [("@last", new), ("0198c0de", old), ("0198c0df0000", new)] {
            assert_eq!(find(named, &all).expect("found"), wanted, "{named}");
        }
        assert!(find("0198", &all).expect_err("two").to_string().contains("is the beginning of 2 runs"));
        assert_eq!(find("0199", &all).expect_err("none").to_string(), "no run begins with 0199");
        assert_eq!(find("@last", &[]).expect_err("none").to_string(), "there is no run yet");
    }
}
