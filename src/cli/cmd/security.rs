//! `ashctl security`.

use crate::cli::Context;
use crate::cli::args::{Required, Security};
use crate::cli::error::CliError;
use crate::cli::output::{BOLD, GREEN, RED, YELLOW, clean};
use crate::wire::security::{Of, WallState};

pub(super) async fn run(args: Security, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.security(context.session(&args.id).await?).await?;
    let output = &mut context.output;
    let body = answer.body;
    if output.is_json() {
        output.json(&answer.json)?;
    } else {
        let width = body.walls.iter().map(|wall| wall.name.chars().count()).max().unwrap_or(0);
        for wall in &body.walls {
            let style = match wall.state {
                WallState::Ok => GREEN,
                WallState::Weak | WallState::Unknown => YELLOW,
                WallState::Off => RED,
            };
            let (name, state, detail) = (clean(&wall.name), wall.state.as_str(), clean(&wall.detail));
            output.line(format_args!("{style}{state:4}{style:#} {BOLD}{name:width$}{BOLD:#}  {detail}"))?;
        }
        if body.of == Of::Next {
            output.say(format_args!("It has no processes now; this is of the sandbox that the next message starts."));
        }
    }
    match args.require {
        Some(Required::Strict) if !body.strict => Err(CliError::Unwell("the session is not confined by every wall".to_owned())),
        _ => Ok(()),
    }
}
