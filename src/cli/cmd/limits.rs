//! `ashctl session limits`, and the options for limits of a new session.

use serde_json::Value;

use crate::cli::Context;
use crate::cli::args::{LimitArgs, SessionLimits};
use crate::cli::error::CliError;
use crate::wire::limits::{Limits, LimitsBody};
use crate::wire::quantity::ByteCount;

/// Names of limits as options have them, and as the API does.
const NAMES: [(&str, &str); 17] = [
    ("memory", "memoryMb"),
    ("memory-high", "memoryHighMb"),
    ("swap", "swapMb"),
    ("cpu", "cpuPercent"),
    ("tasks", "maxProcesses"),
    ("disk", "diskMb"),
    ("io-weight", "ioWeight"),
    ("io-read", "ioReadMbPerSecond"),
    ("io-write", "ioWriteMbPerSecond"),
    ("open-files", "maxOpenFiles"),
    ("file-size", "maxFileMb"),
    ("output-rate", "outputMbPerSecond"),
    ("lifetime", "lifetimeSeconds"),
    ("idle", "idleSeconds"),
    ("turn", "turnSeconds"),
    ("tokens", "maxTokens"),
    ("cost", "maxCostUsd"),
];

pub(super) async fn run(args: SessionLimits, context: &mut Context) -> Result<(), CliError> {
    let mut change = asked(&args.limits)?.said();
    for name in args.reset {
        let Some((_, field)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let all = NAMES.map(|(name, _)| name).join(", ");
            return Err(CliError::usage(format!("--reset: there is no limit {name:?}"), format!("the limits are {all}")));
        };
        change.insert((*field).to_owned(), Value::Null);
    }
    let id = context.session(&args.id).await?;
    let answer =
        if change.is_empty() { context.client.limits(id).await? } else { context.client.change_limits(id, &change).await? };
    if context.output.is_json() {
        return context.output.json(&answer.json);
    }
    show(&answer.body, context)
}

/// The limits that options ask for.
pub(super) fn asked(args: &LimitArgs) -> Result<Limits, CliError> {
    let limits = Limits {
        memory: args.memory,
        memory_high: args.memory_high,
        swap: args.swap,
        cpu: args.cpu,
        tasks: args.tasks,
        disk: args.disk,
        io_weight: args.io_weight,
        io_read: args.io_read,
        io_write: args.io_write,
        open_files: args.open_files,
        file_size: args.file_size,
        output_rate: args.output_rate,
        lifetime: args.lifetime,
        idle: args.idle,
        turn: args.turn,
        tokens: args.tokens,
        cost: args.cost,
    };
    let rates = [limits.io_read, limits.io_write, limits.output_rate];
    let sizes = [limits.memory, limits.memory_high, limits.swap, limits.disk, limits.file_size];
    // The API has them in MiB.
    match sizes.into_iter().chain(rates).flatten().find(|size| !size.0.is_multiple_of(1 << 20)) {
        Some(size) => Err(CliError::usage(format!("{size} is not a whole number of MiB"), "write it like 512M or 2G")),
        None => Ok(limits),
    }
}

/// As they are written as options, in the order of [`NAMES`].
fn written(limits: &Limits) -> [Option<String>; 17] {
    let size = |size: Option<ByteCount>| size.map(|size| size.to_string());
    [
        size(limits.memory),
        size(limits.memory_high),
        size(limits.swap),
        limits.cpu.map(|share| share.to_string()),
        limits.tasks.map(|count| count.to_string()),
        size(limits.disk),
        limits.io_weight.map(|weight| weight.to_string()),
        size(limits.io_read),
        size(limits.io_write),
        limits.open_files.map(|count| count.to_string()),
        size(limits.file_size),
        size(limits.output_rate),
        limits.lifetime.map(|time| time.to_string()),
        limits.idle.map(|time| time.to_string()),
        limits.turn.map(|time| time.to_string()),
        limits.tokens.map(|count| count.to_string()),
        limits.cost.map(|cost| cost.to_string()),
    ]
}

fn show(body: &LimitsBody, context: &mut Context) -> Result<(), CliError> {
    let none = || "-".to_owned();
    let columns = [written(&body.limits), written(&body.session), written(&body.max)];
    let rows = NAMES.iter().enumerate().map(|(at, (name, _))| {
        let [counts, session, most] = columns.each_ref().map(|column| column[at].clone().unwrap_or_else(none));
        [(*name).to_owned(), counts, session, most]
    });
    context.output.table(["LIMIT", "COUNTS", "SESSION", "AT MOST"], rows.collect())?;
    let cost = body.spent.cost_usd.map_or_else(|| "at a price that is not known".to_owned(), |cost| format!("{cost} US dollars"));
    context.output.line(format_args!("Spent: {} tokens, {cost}", body.spent.tokens))?;
    if !body.pending.is_empty() {
        let is_pending = |field: &str| body.pending.iter().any(|one| one == field);
        let names: Vec<_> = NAMES.iter().filter(|(_, field)| is_pending(field)).map(|(name, _)| *name).collect();
        context.output.whisper(format_args!("Not yet in effect: {}", names.join(", ")));
    }
    Ok(())
}
