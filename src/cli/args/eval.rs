//! The command line of `ashctl eval`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, ValueHint};

use super::{CaseRef, ResultRef, RunRef, Watch};
use crate::cli::complete;

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum EvalCommand {
    /// Cases: questions, with what is expected of the answers
    ///
    /// A case is named by its id, by the beginning of it, or as "@last": the one that was made last.
    #[command(subcommand, arg_required_else_help = true)]
    Case(CaseCommand),
    /// Runs: what an agent answered, and what that is worth
    ///
    /// A run is named by its id, by the beginning of it, or as "@last": the one that was started last.
    #[command(subcommand, arg_required_else_help = true)]
    Run(RunCommand),
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum CaseCommand {
    /// List the cases of an agent, oldest first
    #[command(visible_alias = "ls")]
    List {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// Only of this category
        #[arg(long)]
        category: Option<String>,
        /// Only those that runs ask
        #[arg(long)]
        active: bool,
        /// Only those that runs do not ask
        #[arg(long, conflicts_with = "active")]
        inactive: bool,
    },
    /// Make a case and print its id
    ///
    /// What was said before the question can be given to "ashctl eval case import".
    Create(CaseCreate),
    /// Show a case
    Show {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// The case
        #[arg(value_name = "CASE", add = complete::eval_cases())]
        case: CaseRef,
    },
    /// Change a case; runs that have begun ask what it was
    Edit(CaseEdit),
    /// Delete cases; results of runs keep what was asked
    Delete {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// The cases
        #[arg(required = true, value_name = "CASE", add = complete::eval_cases())]
        cases: Vec<CaseRef>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make cases of a file: all of them, or none if one is wrong
    ///
    /// JSON or YAML: a list of cases, or what "ashctl eval case export" prints.
    Import {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// The file; "-" is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print all cases of an agent, for an import
    ///
    /// As JSON, or with --output yaml as YAML.
    Export {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct CaseContentArgs {
    /// A text that is to be in the answer; can be given more than once
    #[arg(long = "topic", short = 't', value_name = "TEXT")]
    pub topics: Option<Vec<String>>,
    /// A text that is not to be in it; can be given more than once
    #[arg(long = "not-topic", value_name = "TEXT")]
    pub not_topics: Option<Vec<String>>,
    /// A good answer, which a judge is shown
    #[arg(long, value_name = "TEXT")]
    pub reference: Option<String>,
    /// What kind of question it is
    #[arg(long, short, value_name = "NAME")]
    pub category: Option<String>,
    /// A word about it; can be given more than once
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Option<Vec<String>>,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct CaseCreate {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// What it is told; "-" reads it from standard input
    #[arg(required = true, value_name = "QUESTION")]
    pub question: Vec<String>,
    #[command(flatten)]
    pub content: CaseContentArgs,
    /// Do not have it asked by runs
    #[arg(long)]
    pub inactive: bool,
}

/// A field that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are those of the options")]
pub enum CaseField {
    Topics,
    NotTopics,
    Reference,
    Category,
    Tags,
    History,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").args(["question", "topics", "not_topics", "reference", "category", "tags", "clear", "active", "inactive"]).required(true).multiple(true))]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct CaseEdit {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// The case
    #[arg(value_name = "CASE", add = complete::eval_cases())]
    pub case: CaseRef,
    /// What the agent is told from now on
    #[arg(long, value_name = "TEXT")]
    pub question: Option<String>,
    #[command(flatten)]
    pub content: CaseContentArgs,
    /// Take this away; can be given more than once
    #[arg(long, value_name = "FIELD")]
    pub clear: Vec<CaseField>,
    /// Have it asked by runs
    #[arg(long)]
    pub active: bool,
    /// Do not have it asked by runs
    #[arg(long, conflicts_with = "active")]
    pub inactive: bool,
}

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum RunCommand {
    /// Have an agent asked its cases, and print the id of the run
    Start(RunStart),
    /// List the runs of an agent, newest first
    #[command(visible_alias = "ls")]
    List {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// At most so many
        #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show a run
    Show {
        #[command(flatten)]
        which: WhichRun,
        #[command(flatten)]
        gate: Gate,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show what each case of a run came to
    Results {
        #[command(flatten)]
        which: WhichRun,
        /// Only those that did not pass
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show two runs side by side: the cases that came to something else
    Compare {
        /// The agent
        #[arg(add = complete::agents())]
        agent: String,
        /// The one run
        #[arg(value_name = "RUN", add = complete::eval_runs())]
        first: RunRef,
        /// The other
        #[arg(value_name = "OTHER", default_value = "@last", add = complete::eval_runs())]
        second: RunRef,
        /// Show the other cases, too
        #[arg(long, short)]
        all: bool,
    },
    /// Say what answers of a run are worth
    #[command(group = ArgGroup::new("what").args(["score", "notes"]).required(true).multiple(true))]
    Score {
        #[command(flatten)]
        which: WhichRun,
        /// Only this result, by its id or the beginning of it [default: all of the run]
        #[arg(long, value_name = "RESULT")]
        result: Option<ResultRef>,
        /// From 1, useless, to 5, as good as can be
        #[arg(long, short, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..=5))]
        score: Option<i64>,
        /// What to say of it
        #[arg(long, value_name = "TEXT")]
        notes: Option<String>,
    },
    /// Cancel a run: what waits is not asked, and what is being asked is interrupted
    Cancel {
        #[command(flatten)]
        which: WhichRun,
    },
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct WhichRun {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// The run
    #[arg(value_name = "RUN", default_value = "@last", add = complete::eval_runs())]
    pub run: RunRef,
}

/// Whether to wait, and what for.
#[derive(Debug, Args)]
pub struct Gate {
    /// Wait until it is over
    #[arg(long)]
    pub wait: bool,
    /// Wait until it is over, and fail if a smaller share of the cases passed: 0.9 or 90%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub min_pass_rate: Option<f64>,
}

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct RunStart {
    /// The agent
    #[arg(add = complete::agents())]
    pub agent: String,
    /// The version of its prompt that is asked [default: the active one]
    #[arg(long = "agent-version", value_name = "NUMBER")]
    pub version: Option<i64>,
    /// Only cases of this category; can be given more than once
    #[arg(long = "category", short, value_name = "NAME")]
    pub categories: Option<Vec<String>>,
    /// Only cases with this tag, or another that is given
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Option<Vec<String>>,
    /// An agent that is asked how good each answer is
    #[arg(long, value_name = "AGENT", add = complete::agents())]
    pub judge: Option<String>,
    /// Cases that are asked at the same time [default: as many as the host allows]
    #[arg(long, value_name = "NUMBER")]
    pub concurrency: Option<u32>,
    /// The least that each score of a case has to be [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub threshold: Option<f64>,
    #[command(flatten)]
    pub gate: Gate,
}

/// A share of one, or in per cent.
fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match text.strip_suffix('%') {
        Some(text) => number(text).map(|number| number / 100.0),
        None => number(text),
    };
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "has to be from 0 to 1, or from 0% to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn a_share_is_of_one_or_in_per_cent() {
        for (text, wanted) in
            [("0.9", Some(0.9)), ("90%", Some(0.9)), ("1", Some(1.0)), ("0", Some(0.0)), ("90", None), ("x", None)]
        {
            assert_eq!(share(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn every_command_parses() {
        let id = crate::wire::EvalRunId::new();
        for line in [
            "case ls hello --category c --inactive".to_owned(),
            "case create hello what is this -t a -t b --not-topic c --reference r --tag x --inactive".to_owned(),
            "case show hello @last".to_owned(),
            "case edit hello 0198c0de --clear topics --clear history --active".to_owned(),
            format!("case delete hello {id} @last -y"),
            "case import hello -".to_owned(),
            "case export hello -o yaml".to_owned(),
            "run start hello --agent-version 2 -c geo --tag x --judge judge --threshold 80% --min-pass-rate 0.9".to_owned(),
            "run ls hello -n 3 --watch".to_owned(),
            "run show hello --wait".to_owned(),
            format!("run results hello {id} --failed --watch=5"),
            format!("run compare hello {id}"),
            "run score hello --score 5 --notes good".to_owned(),
            format!("run cancel hello {id}"),
        ] {
            assert!(Cli::try_parse_from(format!("ashctl eval {line}").split_whitespace()).is_ok(), "{line}");
        }
        for line in ["case edit hello @last", "run score hello", "run score hello --score 6", "run start", "case show hello x"] {
            assert!(Cli::try_parse_from(format!("ashctl eval {line}").split_whitespace()).is_err(), "{line}");
        }
    }
}
