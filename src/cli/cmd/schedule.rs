//! `ashctl schedule`.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::confirm::confirm;
use super::queue;
use crate::cli::args::{ScheduleCommand, ScheduleCreate, ScheduleEdit, ScheduleRef};
use crate::cli::error::CliError;
use crate::cli::output::{ago, duration, now, one_line};
use crate::cli::{Context, watch};
use crate::wire::schedule::{ChangeSchedule, CreateSchedule, Schedule};
use crate::wire::{QueueId, ScheduleId, Timestamp};

/// Letters of a prompt that are a name, where none is given.
const NAME_LETTERS: usize = 40;
/// Times that a new schedule is shown with.
const TIMES_SHOWN: u32 = 3;

pub(super) async fn run(command: ScheduleCommand, context: &mut Context) -> Result<(), CliError> {
    match command {
        ScheduleCommand::Create(args) => create(*args, context).await,
        ScheduleCommand::List(watch) => watch::repeat(watch.every_secs, context, list).await,
        ScheduleCommand::Show { id } => show(&id, context).await,
        ScheduleCommand::Edit(edit) => change(*edit, context).await,
        ScheduleCommand::Enable { ids } => enable(&ids, true, context).await,
        ScheduleCommand::Disable { ids } => enable(&ids, false, context).await,
        ScheduleCommand::Delete { ids, yes } => delete(&ids, yes, context).await,
        ScheduleCommand::Run { id, wait } => run_now(&id, wait, context).await,
        ScheduleCommand::Runs { id, limit, before, watch } => {
            let id = context.schedule(&id).await?;
            let look = async |context: &mut Context| runs(id, before, limit, context).await;
            watch::repeat(watch.every_secs, context, look).await
        }
        ScheduleCommand::Preview { calendar, timezone, count } => preview(&calendar, timezone.as_deref(), count, context).await,
    }
}

async fn create(args: ScheduleCreate, context: &mut Context) -> Result<(), CliError> {
    let prompt = queue::prompt(&args.prompt)?;
    let session_id = match &args.session {
        Some(session) => Some(context.session(session).await?),
        None => None,
    };
    let body = CreateSchedule {
        name: args.name.unwrap_or_else(|| one_line(&prompt, NAME_LETTERS)),
        agent_name: args.agent,
        prompt,
        calendar: args.calendar,
        timezone: args.timezone,
        session_id,
        keep_session: args.keep_session.then_some(true),
        priority: args.rules.priority,
        max_retries: args.rules.retries,
        catch_up: args.rules.catch_up,
        jitter_seconds: args.rules.jitter,
        overlap: args.rules.overlap,
        enabled: args.disabled.then_some(false),
    };
    let answer = context.client.create_schedule(&body).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["schedule"]);
    }
    let schedule = answer.body.schedule;
    context.output.line(schedule.id)?;
    if !schedule.enabled {
        context.output.whisper(format_args!("It does not fire before: ashctl schedule enable {}", schedule.id));
        return Ok(());
    }
    let times = context.client.preview(&schedule.calendar, Some(&schedule.timezone), TIMES_SHOWN).await?.body.times;
    for (word, time) in ["Next:", "then:", "then:"].iter().zip(times) {
        context.output.say(format_args!("{word} {}", on_the_wall(time, &schedule.timezone)));
    }
    Ok(())
}

/// A time as a clock shows it there.
fn on_the_wall(time: Timestamp, timezone: &str) -> String {
    let zone = TimeZone::get(timezone).unwrap_or(TimeZone::UTC);
    let moment = jiff::Timestamp::from_millisecond(time.millis()).unwrap_or(jiff::Timestamp::MAX);
    moment.to_zoned(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}

/// How far off a time is.
fn until(then: Timestamp, now: Timestamp) -> String {
    match (then.millis() - now.millis()) / 1000 {
        secs if secs <= 0 => "now".to_owned(),
        secs => format!("in {}", duration(secs)),
    }
}

const fn state(schedule: &Schedule) -> &'static str {
    match (schedule.enabled, schedule.next_at, schedule.failures_in_row) {
        (false, _, _) => "disabled",
        (true, None, _) => "over",
        (true, Some(_), 0) => "enabled",
        (true, Some(_), _) => "failing",
    }
}

async fn list(context: &mut Context) -> Result<(), CliError> {
    let schedules = context.all_schedules().await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&schedules.into_iter().map(|(_, written)| written).collect::<Value>());
    }
    if schedules.is_empty() {
        output.say("No schedules yet. Make one: ashctl schedule create AGENT PROMPT --calendar \"Mon..Fri 09:00\"");
        return Ok(());
    }
    let now = now();
    let rows = schedules.into_iter().map(|(schedule, _)| {
        let next = schedule.next_at.map_or_else(String::new, |next| until(next, now));
        let last = schedule.last_at.map_or_else(|| "never".to_owned(), |last| ago(last, now));
        [schedule.id.to_string(), state(&schedule).to_owned(), next, last, schedule.agent_name, schedule.calendar, schedule.name]
    });
    output.table(["ID", "STATE", "NEXT", "LAST", "AGENT", "CALENDAR", "NAME"], rows.collect())
}

async fn show(id: &ScheduleRef, context: &mut Context) -> Result<(), CliError> {
    let id = context.schedule(id).await?;
    let answer = context.client.schedule(id).await?;
    if context.output.is_json() {
        return context.output.json(&answer.json["schedule"]);
    }
    context.output.fields(&fields(answer.body.schedule, now()))
}

fn fields(schedule: Schedule, now: Timestamp) -> Vec<(&'static str, String)> {
    let counts = schedule.counts;
    let mut fields =
        vec![("Schedule", schedule.id.to_string()), ("Name", schedule.name.clone()), ("State", state(&schedule).to_owned())];
    fields.extend(schedule.last_error.map(|error| ("Error", error)));
    fields.extend([("Agent", schedule.agent_name), ("Calendar", schedule.calendar), ("Time zone", schedule.timezone.clone())]);
    let at = |time| format!("{} ({})", on_the_wall(time, &schedule.timezone), until(time, now));
    fields.extend(schedule.next_at.map(|next| ("Next", at(next))));
    fields.extend(schedule.last_at.map(|last| ("Last", ago(last, now))));
    fields.extend(schedule.last_item_id.map(|item| ("Last item", item.to_string())));
    fields.push((
        "Items",
        format!("{} queued, {} completed, {} failed, {} skipped", counts.queued, counts.completed, counts.failed, counts.skipped),
    ));
    if schedule.failures_in_row > 0 {
        fields.push(("Failing", format!("{} in a row", schedule.failures_in_row)));
    }
    let own = if schedule.keep_session { "one of its own each, which stays" } else { "one of its own each" };
    fields.push(("Session", schedule.session_id.map_or_else(|| own.to_owned(), |id| id.to_string())));
    fields.extend([("Catch up", schedule.catch_up.as_str().to_owned()), ("Overlap", schedule.overlap.as_str().to_owned())]);
    if schedule.jitter_seconds > 0 {
        fields.push(("Jitter", format!("up to {} s", schedule.jitter_seconds)));
    }
    fields.extend([("Priority", schedule.priority.to_string()), ("Retries", schedule.max_retries.to_string())]);
    fields.extend([("Created", ago(schedule.created_at, now)), ("Changed", ago(schedule.updated_at, now))]);
    fields.push(("Prompt", schedule.prompt));
    fields
}

async fn change(edit: ScheduleEdit, context: &mut Context) -> Result<(), CliError> {
    let id = context.schedule(&edit.id).await?;
    let session_id = match &edit.session {
        Some(session) => Some(Some(context.session(session).await?)),
        None => edit.own_sessions.then_some(None),
    };
    let body = ChangeSchedule {
        name: edit.name,
        agent_name: edit.agent,
        prompt: edit.prompt,
        calendar: edit.calendar,
        timezone: edit.timezone,
        session_id,
        keep_session: (edit.keep_session || edit.end_session).then_some(edit.keep_session),
        priority: edit.rules.priority,
        max_retries: edit.rules.retries,
        catch_up: edit.rules.catch_up,
        jitter_seconds: edit.rules.jitter,
        overlap: edit.rules.overlap,
        enabled: None,
    };
    let answer = context.client.change_schedule(id, &body).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["schedule"]);
    }
    output.line(format_args!("Changed schedule {id}"))?;
    next(&answer.body.schedule, context);
    Ok(())
}

/// Says when a schedule fires next.
fn next(schedule: &Schedule, context: &mut Context) {
    if let Some(next) = schedule.next_at {
        context.output.whisper(format_args!("Next: {}", on_the_wall(next, &schedule.timezone)));
    }
}

async fn enable(ids: &[ScheduleRef], enabled: bool, context: &mut Context) -> Result<(), CliError> {
    let mut changed = Vec::new();
    for id in context.schedules(ids).await? {
        let body = ChangeSchedule { enabled: Some(enabled), ..ChangeSchedule::default() };
        let answer = context.client.change_schedule(id, &body).await?;
        if context.output.is_json() {
            changed.push(answer.json["schedule"].clone());
        } else {
            let done = if enabled { "Enabled" } else { "Disabled" };
            context.output.line(format_args!("{done} schedule {id}"))?;
            next(&answer.body.schedule, context);
        }
    }
    context.output.documents(changed)
}

async fn delete(ids: &[ScheduleRef], yes: bool, context: &mut Context) -> Result<(), CliError> {
    let ids = context.schedules(ids).await?;
    let what = if let [id] = ids[..] { format!("schedule {id}") } else { format!("{} schedules", ids.len()) };
    confirm(&format!("Delete {what}? Nothing is queued for it any more; its items stay."), yes, &mut context.output)?;
    let mut deleted = Vec::new();
    for id in ids {
        let answer = context.client.delete_schedule(id).await?;
        if context.output.is_json() {
            deleted.push(answer.json);
        } else {
            context.output.line(format_args!("Deleted schedule {id}"))?;
        }
    }
    context.output.documents(deleted)
}

async fn run_now(id: &ScheduleRef, wait: bool, context: &mut Context) -> Result<(), CliError> {
    let id = context.schedule(id).await?;
    let answer = context.client.run_schedule(id).await?;
    queue::added(&answer, wait, context).await
}

async fn runs(id: ScheduleId, before: Option<QueueId>, limit: Option<u32>, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.runs(id, before, limit).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["items"]);
    }
    if answer.body.items.is_empty() {
        output.say("It has not fired yet.");
        return Ok(());
    }
    let now = now();
    let rows = answer.body.items.into_iter().map(|item| {
        let of = item.scheduled_for.map_or_else(|| "by hand".to_owned(), |time| time.to_string());
        let (status, error) = (queue::standing(&item), item.error.unwrap_or_default());
        [item.id.to_string(), of, ago(item.created_at, now), status, one_line(&error, NAME_LETTERS)]
    });
    output.table(["ITEM", "FOR", "CREATED", "STATUS", "ERROR"], rows.collect())
}

async fn preview(calendar: &str, timezone: Option<&str>, count: u32, context: &mut Context) -> Result<(), CliError> {
    let answer = context.client.preview(calendar, timezone, count).await?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&answer.json["times"]);
    }
    if answer.body.times.is_empty() {
        output.say("It never comes again.");
    }
    answer.body.times.iter().try_for_each(|time| output.line(on_the_wall(*time, timezone.unwrap_or("UTC"))))
}
