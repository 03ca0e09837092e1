//! `ashctl eval run`.

use super::{QUESTION_SHOWN, result_id, run_id};
use crate::cli::args::{Gate, ResultRef, RunCommand, RunRef, RunStart, WhichRun};
use crate::cli::bill::price;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now, one_line, short_digest};
use crate::cli::patience::Patience;
use crate::cli::{Context, watch};
use crate::client::Answer;
use crate::wire::EvalRunId;
use crate::wire::eval::{EvalResult, EvalRun, EvalRunBody, ResultStatus, RunStatus, ScoreEvalResult, ScoreEvalRun, StartEvalRun};

/// Seconds that the daemon is asked to wait at a time, so that progress is seen.
const WAIT: u32 = 2;
/// Letters of an answer in a list.
const ANSWER_SHOWN: usize = 40;

pub(super) async fn run(command: RunCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        RunCommand::Start(args) => start(args, context).await,
        RunCommand::List { agent, limit, watch } => {
            let look = async |context: &mut Context| list(&agent, limit, context).await;
            watch::repeat(watch.every_secs, context, look).await
        }
        RunCommand::Show { which, gate, watch } => {
            let id = run_id(&which.agent, &which.run, context).await?;
            let look = async |context: &mut Context| show(&which.agent, id, &gate, context).await;
            watch::repeat(watch.every_secs, context, look).await
        }
        RunCommand::Results { which, failed, watch } => {
            let id = run_id(&which.agent, &which.run, context).await?;
            let look = async |context: &mut Context| results(&which.agent, id, failed, context).await;
            watch::repeat(watch.every_secs, context, look).await
        }
        RunCommand::Compare { agent, first, second, all } => compare(&agent, [&first, &second], all, context).await,
        RunCommand::Score { which, result, score, notes } => score_results(&which, result, score, notes, context).await,
        RunCommand::Cancel { which } => cancel(&which, context).await,
    }
}

async fn start(args: RunStart, context: &mut Context) -> Result<(), CliError> {
    let body = StartEvalRun {
        version_number: args.version,
        categories: args.categories,
        tags: args.tags,
        judge_agent: args.judge,
        concurrency: args.concurrency,
        pass_threshold: args.threshold,
    };
    let answer = context.client.start_eval_run(&args.agent, &body).await?;
    let id = answer.body.run.id;
    if waits(&args.gate) {
        return show(&args.agent, id, &args.gate, context).await;
    }
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["run"]);
    }
    output.line(id)?;
    output.whisper(format_args!("What it comes to: ashctl eval run show {} --wait", args.agent));
    Ok(())
}

const fn waits(gate: &Gate) -> bool {
    gate.wait || gate.min_pass_rate.is_some()
}

async fn list(agent: &str, limit: Option<u32>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.eval_runs(agent, limit).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["runs"]);
    }
    if answer.body.runs.is_empty() {
        output.say(format_args!("No runs yet. Start one: ashctl eval run start {agent} --wait"));
        return Ok(());
    }
    let now = now();
    let row = |run: EvalRun| {
        let cases = format!("{}/{}", run.completed_cases, run.total_cases);
        let passed = run.summary.map(|summary| percent(summary.pass_rate)).unwrap_or_default();
        let version = run.version_number.map(|number| number.to_string()).unwrap_or_default();
        [run.id.to_string(), standing(&run).to_owned(), cases, passed, version, ago(run.created_at, now)]
    };
    output.table(["ID", "STATUS", "CASES", "PASSED", "VERSION", "STARTED"], answer.body.runs.into_iter().map(row).collect())
}

const fn standing(run: &EvalRun) -> &'static str {
    if run.cancelling { "cancelling" } else { run.status.as_str() }
}

fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

/// A run, when it is over if that is wanted.
async fn looked_at(agent: &str, id: EvalRunId, wait: bool, context: &mut Context) -> Result<Answer<EvalRunBody>, CliError> {
    let mut answer = context.client.eval_run(agent, id, None).await?;
    let (mut told, mut patience) = (None, Patience::default());
    while wait && !answer.body.run.status.is_over() {
        let (done, all) = (answer.body.run.completed_cases, answer.body.run.total_cases);
        if told.replace(done) != Some(done) {
            context.output.whisper(format_args!("{done} of {all} cases are over"));
        }
        let next = context.client.eval_run(agent, id, Some(WAIT)).await;
        answer = patience.bear(next).await?.unwrap_or(answer);
    }
    Ok(answer)
}

async fn show(agent: &str, id: EvalRunId, gate: &Gate, context: &mut Context) -> Result<(), CliError> {
    let answer = looked_at(agent, id, waits(gate), context).await?;
    let run = answer.body.run;
    if context.output.is_json() {
        context.output.json(&answer.json["run"])?;
    } else {
        context.output.fields(&fields(&run))?;
    }
    judged(&run, gate)
}

/// Whether a run that was waited for is as it should be.
fn judged(run: &EvalRun, gate: &Gate) -> Result<(), CliError> {
    let rate = run.summary.map_or(0.0, |summary| summary.pass_rate);
    match gate.min_pass_rate {
        _ if !waits(gate) => Ok(()),
        _ if run.status != RunStatus::Completed => Err(CliError::Eval(format!("the run is {}", run.status))),
        Some(least) if rate < least => {
            Err(CliError::Eval(format!("{} of the cases passed, and not {}", percent(rate), percent(least))))
        }
        _ => Ok(()),
    }
}

fn fields(run: &EvalRun) -> Vec<(&'static str, String)> {
    let now = now();
    let mut fields = vec![("Run", run.id.to_string()), ("Agent", run.agent_name.clone()), ("Status", standing(run).to_owned())];
    fields.push(("Cases", format!("{} of {} over", run.completed_cases, run.total_cases)));
    if let Some(summary) = run.summary {
        fields.push(("Passed", format!("{} ({} of {})", percent(summary.pass_rate), summary.passed, run.total_cases)));
        fields.extend((summary.errors > 0).then(|| ("Errors", summary.errors.to_string())));
        fields.extend(summary.avg_topic_score.map(|mean| ("Topics", format!("{mean:.2}"))));
        fields.extend(summary.avg_safety_score.map(|mean| ("Safety", format!("{mean:.2}"))));
        fields.extend(summary.avg_llm_judge_score.map(|mean| ("Judge", format!("{mean:.2}"))));
        fields.extend(summary.avg_latency_ms.map(|mean| ("Latency", format!("{mean:.0} ms"))));
        fields.extend(summary.cost_usd.filter(|cost| *cost > 0.0).map(|cost| ("Price", price(cost))));
    }
    fields.push(("Version", run.version_number.map_or_else(|| "that of CLAUDE.md".to_owned(), |number| number.to_string())));
    fields.push(("Files", short_digest(&run.agent_digest)));
    fields.extend(run.judge_agent.clone().map(|judge| ("Judged by", judge)));
    fields.push(("Threshold", percent(run.pass_threshold)));
    fields.push(("Started", ago(run.created_at, now)));
    fields.extend(run.completed_at.map(|at| ("Over", ago(at, now))));
    fields
}

async fn results(agent: &str, id: EvalRunId, failed: bool, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.eval_results(agent, id).await?;
    let output = &mut context.output;
    let is_shown = |result: &EvalResult| !failed || result.passed == Some(false);
    if output.is_json() {
        let all = answer.json["results"].as_array().cloned().unwrap_or_default();
        let shown = all.into_iter().zip(&answer.body.results).filter(|(_, result)| is_shown(result));
        return output.json(&shown.map(|(json, _)| json).collect::<Vec<_>>().into());
    }
    let rows: Vec<_> = answer.body.results.iter().filter(|result| is_shown(result)).map(row).collect();
    if rows.is_empty() {
        output.say("No such results.");
        return Ok(());
    }
    output.table(["RESULT", "OUTCOME", "TOPICS", "SAFETY", "JUDGE", "HUMAN", "LATENCY", "QUESTION", "ANSWER"], rows)
}

fn row(result: &EvalResult) -> [String; 9] {
    let score = |score: Option<f64>| score.map(|score| format!("{score:.2}")).unwrap_or_default();
    let judge = if result.llm_judge_error.is_some() { "error".to_owned() } else { score(result.llm_judge_score) };
    let answer = result.error.as_ref().or(result.agent_response.as_ref());
    [
        result.id.to_string(),
        outcome(result).to_owned(),
        score(result.topic_score),
        score(result.safety_score),
        judge,
        result.human_score.map(|score| score.to_string()).unwrap_or_default(),
        result.latency_ms.map(|latency| format!("{latency} ms")).unwrap_or_default(),
        one_line(&result.question, QUESTION_SHOWN),
        one_line(answer.map_or("", String::as_str), ANSWER_SHOWN),
    ]
}

const fn outcome(result: &EvalResult) -> &'static str {
    match (result.status, result.passed) {
        (ResultStatus::Completed, Some(true)) => "passed",
        (ResultStatus::Completed, _) => "failed",
        (status, _) => status.as_str(),
    }
}

async fn compare(agent: &str, named: [&RunRef; 2], all: bool, context: &mut Context) -> Result<(), CliError> {
    let runs = [run_id(agent, named[0], context).await?, run_id(agent, named[1], context).await?];
    let answer = context.client.compare_eval_runs(agent, runs).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["comparison"]);
    }
    let comparison = answer.body.comparison;
    let rate = |run: &EvalRun| run.summary.map_or_else(|| run.status.to_string(), |summary| percent(summary.pass_rate));
    output.fields(&[
        ("Run", format!("{}  {}", comparison.run_a.id, rate(&comparison.run_a))),
        ("Other", format!("{}  {}", comparison.run_b.id, rate(&comparison.run_b))),
    ])?;
    let side = |result: &Option<EvalResult>| result.as_ref().map_or("", outcome);
    let cases = comparison.results.iter().filter(|case| all || side(&case.result_a) != side(&case.result_b));
    let rows: Vec<_> = cases
        .map(|case| {
            let question = one_line(&case.question, QUESTION_SHOWN);
            [case.case_id.to_string(), side(&case.result_a).to_owned(), side(&case.result_b).to_owned(), question]
        })
        .collect();
    if rows.is_empty() {
        output.say("All cases came to the same.");
        return Ok(());
    }
    output.line("")?;
    output.table(["CASE", "RUN", "OTHER", "QUESTION"], rows)
}

async fn score_results(
    which: &WhichRun,
    result: Option<ResultRef>,
    score: Option<i64>,
    notes: Option<String>,
    context: &mut Context,
) -> Result<(), CliError> {
    let id = run_id(&which.agent, &which.run, context).await?;
    let (human_score, human_notes) = (score.map(Some), notes.map(Some));
    if let Some(result) = result {
        let result = result_id(&which.agent, id, &result, context).await?;
        let body = ScoreEvalResult { human_score, human_notes };
        let answer = context.client.score_eval_result(&which.agent, result, &body).await?;
        if context.output.is_json() {
            return context.output.json(&answer.json["result"]);
        }
        return context.output.line(format_args!("Scored result {result}"));
    }
    let body = ScoreEvalRun { result_id: None, human_score, human_notes };
    let answer = context.client.score_eval_run(&which.agent, id, &body).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["results"]);
    }
    context.output.line(format_args!("Scored {} results of run {id}", answer.body.scored))
}

async fn cancel(which: &WhichRun, context: &mut Context) -> Result<(), CliError> {
    let id = run_id(&which.agent, &which.run, context).await?;
    let answer = context.client.cancel_eval_run(&which.agent, id).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["run"]);
    }
    let done = if answer.body.run.status.is_over() { "Cancelled" } else { "Interrupting" };
    context.output.line(format_args!("{done} run {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Timestamp;
    use crate::wire::eval::EvalSummary;

    #[test]
    fn a_gate_lets_only_a_run_through_that_is_completed_and_as_good_as_it_has_to_be() {
        let run = |status: RunStatus, rate: Option<f64>| EvalRun {
            id: EvalRunId::new(),
            tenant_id: "default".to_owned(),
            agent_name: "a".to_owned(),
            version_number: None,
            status,
            total_cases: 10,
            completed_cases: 10,
            summary: rate.map(|pass_rate| EvalSummary { pass_rate, ..EvalSummary::default() }),
            created_at: Timestamp(1),
            started_at: None,
            completed_at: None,
            agent_digest: String::new(),
            judge_agent: None,
            concurrency: 1,
            pass_threshold: 0.5,
            cancelling: false,
        };
        let gate = |wait, min_pass_rate| Gate { wait, min_pass_rate };
        for (status, rate, gate, is_good) in [
            (RunStatus::Completed, Some(0.9), gate(false, Some(0.9)), true),
            (RunStatus::Completed, Some(0.89), gate(true, Some(0.9)), false),
            (RunStatus::Completed, Some(0.0), gate(true, None), true),
            (RunStatus::Failed, Some(0.0), gate(true, None), false),
            (RunStatus::Failed, Some(0.0), gate(false, Some(0.0)), false),
            (RunStatus::Cancelled, Some(1.0), gate(false, Some(0.5)), false),
            (RunStatus::Cancelled, Some(1.0), gate(true, None), false),
            (RunStatus::Unknown, Some(1.0), gate(false, Some(0.5)), false),
            (RunStatus::Failed, None, gate(false, None), true),
        ] {
            assert_eq!(judged(&run(status, rate), &gate).is_ok(), is_good, "{status} {rate:?} {gate:?}");
        }
    }

    #[test]
    fn shares_are_told_as_they_are() {
        for (share, wanted) in [(1.0, "100%"), (0.9, "90%"), (1.0 / 3.0, "33.3%"), (0.0, "0%"), (0.999, "99.9%")] {
            assert_eq!(percent(share), wanted);
        }
    }
}
