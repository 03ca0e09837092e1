//! What is told of turns and their tools in traces.
//!
//! The span of a turn is a part of that of the message, lasts from its being queued to its end, and is told of when it
//! is over and that is stored, by whichever daemon is there: its place in the trace is stored with the turn. A tool's span has
//! an id that follows from its turn and its call, so that one which is told twice, as a daemon died before it had stored
//! that, is one all the same.
//!
//! Ids and names of calls come from inside, and may be anything of any length: none is kept but as a digest, or as what
//! [`word`] leaves of it.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::*;
use crate::link::shim::ShimEvent;
use crate::store::EventFilter;
use crate::telemetry::trace::{Attributes, Finished, SpanId, TraceContext, Tracer, Value as Said};
use crate::wire::Timestamp;
use crate::wire::limits::Reached;
use crate::wire::usage::Usage;

/// Tools of one turn that are followed at a time. A runtime runs some ten beside each other.
const TOOLS_MAX: usize = 256;
/// Tools of one turn that are told of, so that no turn fills the place of what all others tell.
const TOLD_MAX: u64 = 1000;
/// Events of a turn's tools that are read again after a restart, and bytes of them: at a time, though one alone may have
/// more, and in all. Of a turn that has more, the tools that run then are not told of.
const REREAD_MAX: usize = 10_000;
const REREAD_BYTES: usize = 1 << 20;
const REREAD_BYTES_MAX: usize = 64 << 20;

/// Longest name of a tool, or id of a call of one, that is told.
const NAME_MAX: usize = 128;

/// What a driver is asked, and by whom in which trace.
#[derive(Debug)]
pub(in crate::session) struct Asked {
    pub request: Request,
    pub trace: Option<TraceContext>,
}

impl From<Request> for Asked {
    /// Nobody is told of it.
    fn from(request: Request) -> Self {
        Self { request, trace: None }
    }
}

/// A turn's place in a trace that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The turn's own span.
    context: TraceContext,
    /// The one that it is a part of.
    parent: SpanId,
}

impl Place {
    /// Below whoever posted it.
    pub(super) fn below(tracer: &Tracer, asker: Option<&TraceContext>) -> Option<Self> {
        let context = tracer.place_below(asker)?;
        asker.map(|asker| Self { context, parent: asker.span })
    }

    /// As it is stored.
    pub(super) fn to_text(&self) -> String {
        let asker = TraceContext { span: self.parent, state: None, ..self.context.clone() };
        format!("{} {}", asker.parent(), self.context.to_text())
    }

    fn from_text(text: &str) -> Option<Self> {
        let (asker, own) = text.split_once(' ')?;
        Some(Self { context: TraceContext::from_text(own)?, parent: TraceContext::from_text(asker)?.span })
    }
}

/// A turn that is told of when it is over.
#[derive(Debug)]
struct Traced {
    place: Place,
    queued: u64,
    started: Option<u64>,
    first_event: Option<u64>,
    /// Whether nothing came of it yet, as far as is known.
    awaits_first: bool,
    model: Option<String>,
    /// Those that run.
    tools: BTreeMap<SpanId, Tool>,
    /// How many were told of, and how many were not, as there were too many.
    told: u64,
    untold: u64,
}

impl Traced {
    /// The span of a call of a tool.
    fn span_of(&self, call: &str) -> SpanId {
        let digest: [u8; 32] = Sha256::new().chain_update(self.place.context.span.0).chain_update(call).finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        SpanId([a, b, c, d, e, f, g, h])
    }

    /// Takes in that a tool runs, or returns one that is over, with what came of it.
    fn note_tool(&mut self, kind: &Kind, at: u64, data: &str) -> Option<(SpanId, Tool, &'static str)> {
        #[derive(serde::Deserialize)]
        struct Use<'a> {
            #[serde(borrow)]
            id: Cow<'a, str>,
            #[serde(borrow)]
            name: Cow<'a, str>,
        }
        #[derive(serde::Deserialize)]
        struct Result<'a> {
            #[serde(borrow)]
            tool_use_id: Cow<'a, str>,
            #[serde(default)]
            is_error: Option<bool>,
        }
        match kind {
            Kind::ToolUse if self.tools.len() < TOOLS_MAX => {
                let Use { id, name } = serde_json::from_str(data).ok()?;
                self.tools.insert(self.span_of(&id), Tool { name: word(&name), call: word(&id), began: at });
                None
            }
            Kind::ToolUse => {
                self.untold += 1;
                None
            }
            Kind::ToolResult => {
                let Result { tool_use_id, is_error } = serde_json::from_str(data).ok()?;
                let span = self.span_of(&tool_use_id);
                let tool = self.tools.remove(&span)?;
                Some((span, tool, if is_error == Some(true) { "failed" } else { "completed" }))
            }
            _ => None,
        }
    }

    /// Counts a tool that is over. Whether it is told of.
    const fn takes_tool(&mut self) -> bool {
        let is_told = self.told < TOLD_MAX;
        if is_told {
            self.told += 1;
        } else {
            self.untold += 1;
        }
        is_told
    }
}

/// A tool that runs.
#[derive(Debug)]
struct Tool {
    name: String,
    call: String,
    began: u64,
}

/// The turns of one session that are told of.
#[derive(Debug, Default)]
pub(super) struct Traces(Mutex<BTreeMap<TurnId, Traced>>);

impl Traces {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TurnId, Traced>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a turn that was queued then.
    pub(super) fn follow(&self, turn: TurnId, place: Option<Place>, queued: Timestamp, model: Option<String>) {
        if let Some(place) = place {
            let traced = Traced {
                place,
                queued: nanos(queued),
                started: None,
                first_event: None,
                awaits_first: true,
                model,
                tools: BTreeMap::new(),
                told: 0,
                untold: 0,
            };
            self.lock().insert(turn, traced);
        }
    }

    /// A turn was given to the runtime.
    pub(super) fn started(&self, turn: TurnId, at: Timestamp) {
        if let Some(traced) = self.lock().get_mut(&turn) {
            traced.started = Some(nanos(at));
        }
    }

    /// The place of a turn, for what is done for it.
    pub(super) fn context(&self, turn: TurnId) -> Option<TraceContext> {
        self.lock().get(&turn).map(|traced| traced.place.context.clone())
    }

    /// The ends of turns that a change has, and when they were, of those that are told of.
    pub(super) fn ends(&self, change: &Advance) -> Vec<(Timestamp, TurnEnd)> {
        let turns = self.lock();
        if turns.is_empty() {
            return Vec::new();
        }
        let events = change.shim.iter().flat_map(|batch| &batch.events).chain(&change.events);
        let ends = events.filter(|event| event.kind == Kind::TurnEnded).filter_map(|event| {
            let turn_id = event.turn.filter(|turn| turns.contains_key(turn))?;
            let end = serde_json::from_str::<TurnEnd>(&event.data).ok()?;
            Some((event.at, TurnEnd { turn_id, ..end }))
        });
        ends.collect()
    }
}

impl Driver {
    /// Where the sandbox belongs that comes up now: to who asked for it, or to the first turn that needs it.
    pub(super) fn place_of_start(&self) -> Option<TraceContext> {
        let turn = self.running.as_ref().or(self.queue.front());
        turn.and_then(|turn| self.traces.context(turn.id)).or_else(|| self.asked_in.clone())
    }

    /// Takes up a turn that an earlier daemon or driver took. That the log can not be read costs spans, and nothing else.
    pub(super) async fn follow_found(&self, turn: &TurnRow) {
        let place = turn.trace.as_deref().and_then(Place::from_text);
        if place.is_none() || !self.context.settings.tracer.is_on() {
            return;
        }
        self.traces.follow(turn.id, place, turn.created_at, self.model_of(&turn.options));
        let Some(started) = turn.started_at else { return };
        self.traces.started(turn.id, started);
        if let Some(traced) = self.traces.lock().get_mut(&turn.id) {
            traced.awaits_first = false;
        }
        let why = match self.reread(turn).await {
            Ok(true) => return,
            Ok(false) => "it has too many of them".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            session_id = %self.session.id, turn_id = %turn.id, error = why,
            "a turn's tools can not be looked up, leaving those that run out of its trace"
        );
        if let Some(traced) = self.traces.lock().get_mut(&turn.id) {
            traced.untold += traced.tools.len() as u64;
            traced.tools.clear();
        }
    }

    /// Reads what a turn's tools did until now. `false` if that is too much.
    async fn reread(&self, turn: &TurnRow) -> Result<bool, StoreError> {
        let (mut after, mut count, mut bytes) = (turn.first_event, 0, 0);
        while count < REREAD_MAX && bytes < REREAD_BYTES_MAX {
            let kinds = vec![Kind::ToolUse, Kind::ToolResult];
            let filter = EventFilter { turn: Some(turn.id), kinds, bytes: Some(REREAD_BYTES) };
            // One at a time: after a restart, all sessions that have turns come here.
            let _place = self.context.rereads.acquire().await;
            let events = self.context.store.events(self.session.id, after, REREAD_MAX - count, filter).await?;
            let Some(last) = events.last() else { return Ok(true) };
            after = last.id;
            count += events.len();
            if let Some(traced) = self.traces.lock().get_mut(&turn.id) {
                for event in events {
                    bytes += event.data.len();
                    // What was over then was told of then.
                    if traced.note_tool(&event.kind, nanos(event.at), &event.data).is_some() {
                        traced.takes_tool();
                    }
                }
            }
        }
        Ok(false)
    }

    /// The model that a turn with these options asks for.
    pub(super) fn model_of(&self, options: &TurnOptions) -> Option<String> {
        options.model.clone().or_else(|| self.session.model.clone())
    }

    /// Takes in an event of a turn that is told of.
    pub(super) fn trace_event(&self, event: &ShimEvent) {
        let mut turns = self.traces.lock();
        let Some(traced) = event.turn.and_then(|turn| turns.get_mut(&turn)) else { return };
        let at = nanos(Timestamp(event.at));
        if std::mem::take(&mut traced.awaits_first) {
            traced.first_event = Some(at);
        }
        if let Some((span, tool, outcome)) = traced.note_tool(&event.kind, at, event.data.get())
            && traced.takes_tool()
        {
            self.tell_tool(&traced.place, (span, tool), at, outcome);
        }
    }

    fn tell_tool(&self, place: &Place, (span, tool): (SpanId, Tool), end: u64, outcome: &'static str) {
        let mut attributes: Attributes = vec![
            ("ash.session.id", self.session.id.to_string().into()),
            ("gen_ai.operation.name", "execute_tool".into()),
            ("gen_ai.tool.name", tool.name.into()),
            ("gen_ai.tool.call.id", tool.call.into()),
            ("ash.tool.outcome", outcome.into()),
        ];
        if outcome == "failed" {
            attributes.push(("error.type", "tool_error".into()));
        }
        self.context.settings.tracer.tell(Finished {
            context: TraceContext { span, ..place.context.clone() },
            parent: Some(place.context.span),
            name: "ash.tool.use".to_owned(),
            kind: crate::telemetry::trace::Kind::Internal,
            start: tool.began,
            end: end.max(tool.began),
            attributes,
            events: Vec::new(),
            is_failed: outcome == "failed",
        });
    }

    /// Tells of turns that are over since then, each once.
    pub(super) fn tell_ends(&self, ends: Vec<(Timestamp, TurnEnd)>) {
        for (at, end) in ends {
            let traced = self.traces.lock().remove(&end.turn_id);
            if let Some(traced) = traced {
                self.tell_turn(traced, nanos(at), &end);
            }
        }
    }

    fn tell_turn(&self, mut traced: Traced, at: u64, end: &TurnEnd) {
        for (span, tool) in std::mem::take(&mut traced.tools) {
            if traced.takes_tool() {
                self.tell_tool(&traced.place, (span, tool), at, "unfinished");
            }
        }
        let (outcome, is_failed) = (measure::outcome(end.state), end.state == EndState::Failed);
        let mut attributes: Attributes = vec![
            ("ash.session.id", self.session.id.to_string().into()),
            ("ash.turn.id", end.turn_id.to_string().into()),
            ("ash.turn.outcome", outcome.into()),
            ("ash.tenant", self.session.tenant.as_str().into()),
            ("gen_ai.operation.name", "invoke_agent".into()),
            ("gen_ai.agent.name", self.session.agent.as_str().into()),
            ("gen_ai.conversation.id", self.session.id.to_string().into()),
        ];
        let limit = end.cause.as_deref().and_then(Reached::of_cause);
        if let Some(Value::String(limit)) = limit.map(|limit| serde_json::json!(limit)) {
            attributes.push(("ash.turn.limit", limit.into()));
        }
        if is_failed {
            attributes.push(("error.type", "turn_failed".into()));
        }
        attributes.extend(traced.model.map(|model| ("gen_ai.request.model", model.into())));
        attributes.extend(traced.started.map(|started| ("ash.turn.queue_ms", millis(started.saturating_sub(traced.queued)))));
        if traced.untold > 0 {
            attributes.push(("ash.turn.tools_untold", traced.untold.into()));
        }
        attributes.extend(end.usage.iter().flat_map(bill));
        let started = traced.started.map(|at| ("ash.turn.started", at));
        let first = traced.first_event.map(|at| ("ash.turn.first_event", at));
        let events = [("ash.turn.queued", traced.queued)].into_iter().chain(started).chain(first).collect();
        self.context.settings.tracer.tell(Finished {
            context: traced.place.context,
            parent: Some(traced.place.parent),
            name: "ash.agent.turn".to_owned(),
            kind: crate::telemetry::trace::Kind::Internal,
            start: traced.queued,
            end: at.max(traced.queued),
            attributes,
            events,
            is_failed,
        });
    }
}

/// The bill of a turn, in the names that OpenTelemetry gives to what generative models take.
fn bill(usage: &Usage) -> Attributes {
    let mut all = ModelUsage::default();
    usage.models.values().for_each(|model| all.add(model));
    let cache_write = all.cache_write_tokens.saturating_add(all.cache_write_1h_tokens);
    let input = all.input_tokens.saturating_add(all.cache_read_tokens).saturating_add(cache_write);
    let mut bill: Attributes = vec![
        ("ash.turn.model_calls", all.calls.into()),
        ("ash.turn.tool_calls", usage.tool_calls.into()),
        ("gen_ai.usage.input_tokens", input.into()),
        ("gen_ai.usage.output_tokens", all.output_tokens.into()),
        ("gen_ai.usage.cache_read.input_tokens", all.cache_read_tokens.into()),
        ("gen_ai.usage.cache_creation.input_tokens", cache_write.into()),
    ];
    // That of the call is one of several, where a turn calls several.
    if let [model] = &usage.models.keys().collect::<Vec<_>>()[..] {
        bill.push(("gen_ai.response.model", model.as_str().into()));
    }
    bill.extend(usage.cost_usd.map(|cost| ("ash.turn.cost_usd", cost.into())));
    bill.extend(usage.cpu_ms.map(|cpu| ("ash.turn.cpu_ms", cpu.into())));
    bill
}

/// A name that comes from inside a sandbox, if it is one: whatever else is in its place is not passed on.
fn word(name: &str) -> String {
    let is_word = (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':' | b'/'));
    if is_word { name.to_owned() } else { "other".to_owned() }
}

fn nanos(at: Timestamp) -> u64 {
    at.millis().unsigned_abs().saturating_mul(1_000_000)
}

fn millis(nanos: u64) -> Said {
    (nanos / 1_000_000).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_told() {
        for name in ["Bash", "mcp__files__read-file", "toolu_01", "a.b:c/d"] {
            assert_eq!(word(name), name);
        }
        for other in ["", "the key is x", "a\nb", "\u{e4}", &"x".repeat(129)] {
            assert_eq!(word(other), "other");
        }
    }

    #[test]
    fn tools_are_over_with_their_results() {
        let asker = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", []).expect("good");
        let traces = Traces::default();
        let turn = TurnId::new();
        traces.follow(turn, Some(Place { context: asker.clone(), parent: asker.span }), Timestamp(1), None);
        let mut turns = traces.lock();
        let traced = turns.get_mut(&turn).expect("followed");
        let mut note =
            |kind: Kind, data: &str| traced.note_tool(&kind, 5, data).map(|(_, tool, how)| (tool.call, tool.name, how));
        assert_eq!(note(Kind::ToolUse, r#"{"id":"a","name":"Bash","input":{"x":1}}"#), None);
        assert_eq!(note(Kind::ToolUse, r#"{"id":"b","name":"no name"}"#), None);
        assert_eq!(note(Kind::ToolUse, "[]"), None);
        assert_eq!(note(Kind::Text, r#"{"id":"c","name":"Bash"}"#), None);
        assert_eq!(note(Kind::ToolResult, r#"{"tool_use_id":"c"}"#), None);
        let over = |call: &str, name: &str, how| Some((call.to_owned(), name.to_owned(), how));
        assert_eq!(note(Kind::ToolResult, r#"{"tool_use_id":"b","is_error":true}"#), over("b", "other", "failed"));
        assert_eq!(
            note(Kind::ToolResult, r#"{"tool_use_id":"a","is_error":null,"content":"x"}"#),
            over("a", "Bash", "completed")
        );
        assert_eq!(note(Kind::ToolResult, r#"{"tool_use_id":"a"}"#), None, "once");
        let long = "x".repeat(1 << 20);
        assert_eq!(note(Kind::ToolUse, &format!(r#"{{"id":"{long}","name":"{long}"}}"#)), None);
        assert_eq!(note(Kind::ToolResult, &format!(r#"{{"tool_use_id":"{long}"}}"#)), over("other", "other", "completed"));
        for n in 0..=TOOLS_MAX {
            note(Kind::ToolUse, &format!(r#"{{"id":"{n}{long}","name":"Bash"}}"#));
        }
        assert_eq!((traced.tools.len(), traced.untold), (TOOLS_MAX, 1));
        let kept = |tool: &Tool| tool.call.len() + tool.name.len();
        assert!(traced.tools.values().all(|tool| kept(tool) <= 2 * NAME_MAX), "of what comes from inside, little is kept");
    }

    #[test]
    fn a_place_is_stored_with_what_it_is_a_part_of() {
        let asker = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ["a=1,b=2 3"]).expect("good");
        let context = TraceContext { span: SpanId([7; 8]), ..asker.clone() };
        let place = Place { context, parent: asker.span };
        assert_eq!(
            place.to_text(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 \
             00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-01 a=1,b=2 3"
        );
        assert_eq!(Place::from_text(&place.to_text()), Some(place));
        for bad in ["", "x", "x y", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] {
            assert_eq!(Place::from_text(bad), None, "{bad}");
        }
    }
}
