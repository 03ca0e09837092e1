//! `ashctl audit`.

use crate::cli::Context;
use crate::cli::args::Audit;
use crate::cli::error::CliError;
use crate::cli::output::{ago, now};
use crate::client::AuditQuery;

pub(super) async fn run(asked: Audit, context: &mut Context) -> Result<(), CliError> {
    let now = now();
    let since = asked.since.map(|since| since.at(now));
    let query = AuditQuery {
        action: asked.action,
        principal: asked.by,
        object: asked.object,
        since,
        limit: Some(asked.limit),
        tenant: asked.tenant,
    };
    let answer = context.client.audit(&query).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["entries"]);
    }
    if answer.body.entries.is_empty() {
        output.say("Nothing of that kind is in the audit log.");
        return Ok(());
    }
    let rows = answer.body.entries.into_iter().map(|entry| {
        let from = entry.peer.unwrap_or_else(|| "here".to_owned());
        let object = entry.object.unwrap_or_default();
        let outcome = entry.outcome.as_str();
        // Refused acts before it, of which there were too many to write each down.
        let outcome = if entry.unwritten > 0 { format!("{outcome} (+{})", entry.unwritten) } else { outcome.to_owned() };
        [ago(entry.at, now), entry.action.to_string(), object, outcome, entry.principal, from]
    });
    output.table(["WHEN", "ACTION", "OBJECT", "OUTCOME", "BY", "FROM"], rows.collect())
}
