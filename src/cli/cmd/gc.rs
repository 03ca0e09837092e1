//! `ashctl gc`.

use super::confirm::{confirm, is_asked};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::wire::gc::GcRemoval;

pub(super) async fn run(dry_run: bool, yes: bool, context: &mut Context) -> Result<(), CliError> {
    if !dry_run && is_asked(yes, &context.output) {
        let planned = context.client.gc(true).await?.body;
        let (count, bytes) = (planned.removals.len(), planned.bytes);
        if count > 0 {
            let question = format!("Remove what --dry-run lists: {count} with {bytes} bytes?");
            confirm(&question, yes, &mut context.output)?;
        }
    }
    let answer = context.client.gc(dry_run).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json);
    }
    let report = answer.body;
    let row = |removal: &GcRemoval| {
        let why = match &removal.error {
            Some(error) => format!("still there: {error}"),
            None => removal.reason.clone(),
        };
        [removal.kind.as_str().replace('_', " "), removal.name.clone(), removal.bytes.to_string(), why]
    };
    if !report.removals.is_empty() {
        output.table(["KIND", "NAME", "BYTES", "WHY"], report.removals.iter().map(row).collect())?;
    }
    let (done, gone) =
        (if dry_run { "Would remove" } else { "Removed" }, report.removals.iter().filter(|one| one.error.is_none()));
    output.say(format_args!("{done} {} with {} bytes", gone.count(), report.bytes));
    if report.over_bytes > 0 {
        output.say(format_args!(
            "Snapshots that are needed have {} bytes more than retention.snapshot_bytes allows",
            report.over_bytes
        ));
    }
    Ok(())
}
