//! `ashctl session egress`.

use crate::cli::Context;
use crate::cli::args::SessionEgress;
use crate::cli::error::CliError;
use crate::wire::egress::{Applied, Egress, List, Source};

pub(super) async fn run(args: SessionEgress, context: &mut Context) -> Result<(), CliError> {
    let id = context.session(&args.id).await?;
    let answer = if args.allow.is_empty() && !args.none {
        context.client.egress(id).await?
    } else {
        let allow = List::new(args.allow).map_err(|error| {
            CliError::usage(format!("--allow {error}"), "\"*.example.com\" is one entry for all names below one")
        })?;
        context.client.change_egress(id, &Egress { allow }).await?
    };
    if context.output.is_json() {
        return context.output.json(&answer.json);
    }
    let body = answer.body;
    let list = |list: &List| if list.entries().is_empty() { "nothing but the model".to_owned() } else { list.to_string() };
    let source = match body.source {
        Source::Session => "the session",
        Source::Agent => "the agent",
        Source::Default => "nobody",
        Source::Unknown => "somebody",
    };
    let mut fields = vec![("Allowed", list(&body.allow)), ("Said by", source.to_owned()), ("At most", list(&body.operator))];
    if body.applied.is_some_and(|applied| applied != Applied::Now) {
        fields.push(("Counts", "not yet: the sandbox has not said so, and is told before its next turn".to_owned()));
    }
    context.output.fields(&fields)
}
