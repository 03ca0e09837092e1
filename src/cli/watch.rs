//! `--watch`: a result again and again.
//!
//! On a terminal each look is painted over the one before. Elsewhere they follow each other: a line of
//! JSON or a document of YAML for each, or the text with an empty line between.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::args::Format;
use super::error::CliError;
use super::output::{RED, clean};
use crate::report;

/// Looks once, or every so many seconds until Ctrl-C. When the first look was good, one that fails for
/// a reason that passes is told, and the next may be good again.
pub(super) async fn repeat(
    every_secs: Option<u64>,
    context: &mut Context,
    mut look: impl AsyncFnMut(&mut Context) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let Some(secs) = every_secs else { return look(context).await };
    let heard = |kind| signal(kind).map_err(|source| CliError::Run { program: "a signal handler", source });
    let (mut interrupts, mut resized) = (heard(SignalKind::interrupt())?, heard(SignalKind::window_change())?);
    let mut ticks = tokio::time::interval(Duration::from_secs(secs));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let painted = context.output.out_is_terminal;
    context.output.is_stream = !painted;
    if painted {
        context.output.out.clear().map_err(CliError::Output)?;
    }
    let mut first = true;
    while due(&mut ticks, &mut resized, &mut interrupts).await {
        if painted {
            context.output.out.open_frame();
        } else if !first && context.output.format == Format::Table {
            context.output.line("")?;
        }
        let looked = tokio::select! {
            looked = look(context) => looked,
            _ = interrupts.recv() => return Ok(()),
        };
        let looked = match looked {
            Err(CliError::Client(error)) if !first && error.is_passing() => {
                let text = clean(&report::chain(&error));
                context.output.say(format_args!("{RED}error:{RED:#} {text}"));
                Ok(())
            }
            looked => looked,
        };
        // What is told of a failure stands below.
        context.output.out.paint().map_err(CliError::Output)?;
        looked?;
        first = false;
    }
    Ok(())
}

/// Waits for the next look; `false` if there is to be none.
async fn due(ticks: &mut tokio::time::Interval, resized: &mut Signal, interrupts: &mut Signal) -> bool {
    tokio::select! {
        _ = ticks.tick() => true,
        _ = resized.recv() => true,
        _ = interrupts.recv() => false,
    }
}
