//! `/api/sessions`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as JsonBody};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::agent::ContentError;
use crate::agent::name::check_env;
use crate::auth::Principal;
use crate::http::App;
use crate::http::body::Room;
use crate::http::extract::{Flat, Id, IdempotencyKey, MESSAGE_MAX, Params, in_range, page};
use crate::http::guard::Object;
use crate::http::list::{self, Source};
use crate::http::problem::Failure;
use crate::http::sse::{self, Wanted};
use crate::session::SessionError;
use crate::session::view::{self, FrameFilter};
use crate::store::{EventFilter, EventRow, MessageRow, SessionFilter, SessionPage, SessionRow, Store, StoreError};
use crate::wire::event::{Kind, SessionEvent};
use crate::wire::message::{Message, MessageBody, TurnOptions};
use crate::wire::session::{CreateSession, InterruptBody, Session, SessionBody, SessionConfig, SessionList, Status};
use crate::wire::{SessionId, Timestamp, TurnId};

/// Largest body of a new session: a prompt, and the definitions of subagents and MCP servers.
const CREATE_MAX: usize = 4 << 20;
const TEXT_MAX: usize = 500_000;
const BLOCKS_MAX: usize = 20;
const MODEL_MAX: usize = 100;
const NAME_MAX: usize = 255;
const PROMPT_MAX: usize = 1_000_000;

fn shown(app: &App, row: SessionRow) -> Session {
    Session {
        limits: None,
        spent: None,
        sandbox_state: app.sessions.phase(row.id).as_str().to_owned(),
        id: row.id,
        agent_name: row.agent,
        agent_version: row.digest,
        prompt_version: row.prompt_version,
        sandbox_id: row.sandbox.to_string(),
        status: row.status,
        created_at: row.created_at,
        last_active_at: row.last_active_at,
        tenant_id: row.tenant,
        runner_id: None,
        parent_session_id: row.parent.map(|parent| parent.to_string()),
        model: row.model,
        config: row.config,
        weaknesses: app.sessions.weaknesses(),
    }
}

pub fn body(app: &App, row: SessionRow) -> JsonBody<SessionBody> {
    let limits = Some(app.sessions.limits_that_count(&row));
    JsonBody(SessionBody { session: Session { limits, ..shown(app, row) } })
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Flat(request, _): Flat<CreateSession, SessionConfig, CREATE_MAX>,
) -> Result<(StatusCode, Extension<Object>, JsonBody<SessionBody>), Failure> {
    if !(1..=NAME_MAX).contains(&request.agent.chars().count()) {
        return Err(Failure::field("agent", format!("has to be the name of an agent, 1 to {NAME_MAX} characters")));
    }
    if !caller.knows(&request.agent) {
        return Err(SessionError::NoAgent(request.agent).into());
    }
    check_model(request.model.as_deref())?;
    if request.system_prompt.as_ref().is_some_and(|prompt| prompt.len() > PROMPT_MAX) {
        return Err(Failure::field("systemPrompt", format!("has to be at most {PROMPT_MAX} bytes")));
    }
    if let Some(env) = &request.extra_env {
        check_env("extraEnv", env).map_err(ContentError::from)?;
    }
    for (name, server) in request.config.mcp_servers.iter().flatten() {
        if server.url.is_none() && server.command.is_none() {
            return Err(Failure::field(format!("mcpServers.{name}"), "needs url or command"));
        }
    }
    let row = app.sessions.create(&caller.tenant, request).await?;
    tracing::info!(session_id = %row.id, agent = row.agent, principal = caller.name, "session created");
    let object = Object(row.id.to_string());
    Ok((StatusCode::CREATED, Extension(object), body(&app, row)))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListParams {
    agent: Option<String>,
    status: Option<Status>,
    limit: Option<i64>,
    offset: Option<i64>,
    #[serde(default)]
    include_total: bool,
}

/// Sessions that one answer lists when the caller names no limit. Clients of the contract know
/// nothing of pages, so it is large.
const LIST_DEFAULT: i64 = 1000;

pub async fn list(State(app): State<App>, caller: Principal, Params(params): Params<ListParams>) -> Result<Response, Failure> {
    let limit = in_range("limit", params.limit, 1..=LIST_DEFAULT)?.unwrap_or(LIST_DEFAULT);
    let offset = in_range("offset", params.offset, 0..=i64::MAX)?.unwrap_or(0);
    if params.status == Some(Status::Unknown) {
        return Err(Failure::field("status", "has to be starting, active, paused, stopped, ended or error"));
    }
    // Of other agents, a key for one finds none.
    if params.agent.as_ref().is_some_and(|agent| !caller.knows(agent)) {
        return Ok(JsonBody(SessionList { sessions: Vec::new(), total: params.include_total.then_some(0) }).into_response());
    }
    let filter = SessionFilter { agent: params.agent.or(caller.agent), status: params.status };
    let more = match params.include_total {
        true => json!({"total": app.store.count_sessions(&caller.tenant, filter.clone()).await?}),
        false => json!({}),
    };
    let source = Listed { app, tenant: caller.tenant, filter };
    list::respond_with("sessions", source, ListPlace { after: None, offset }, limit as usize, &more).await
}

/// Where a list of sessions is read on: behind one of them, so that it has each of them once whatever is made
/// meanwhile, or at its beginning.
struct ListPlace {
    after: Option<(Timestamp, SessionId)>,
    offset: i64,
}

struct Listed {
    app: App,
    tenant: String,
    filter: SessionFilter,
}

impl Source for Listed {
    type Place = ListPlace;
    type Row = SessionRow;
    type Shown = Session;

    async fn read(&self, place: &ListPlace, limit: usize, bytes: usize) -> Result<Vec<SessionRow>, StoreError> {
        let page = SessionPage { after: place.after, limit: limit as i64, offset: place.offset, bytes };
        self.app.store.list_sessions(&self.tenant, self.filter.clone(), page).await
    }

    fn show(&self, row: &SessionRow) -> (ListPlace, Option<Session>) {
        (ListPlace { after: Some((row.created_at, row.id)), offset: 0 }, Some(shown(&self.app, row.clone())))
    }
}

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<SessionBody>, Failure> {
    let row = app.sessions.get(&caller.tenant, id).await?;
    let spent = Some(app.sessions.spent(id).await?);
    let JsonBody(SessionBody { session }) = body(&app, row);
    Ok(JsonBody(SessionBody { session: Session { spent, ..session } }))
}

pub async fn end(State(app): State<App>, caller: Principal, Id(id): Id<SessionId>) -> Result<JsonBody<SessionBody>, Failure> {
    let row = app.sessions.end(&caller.tenant, id).await?;
    tracing::info!(session_id = %id, agent = row.agent, principal = caller.name, "session ended");
    Ok(body(&app, row))
}

/// What of a session's turns is to change.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = UpdateSession)]
pub struct ConfigBody {
    /// Model of the turns.
    #[schema(min_length = 1, max_length = 100)]
    model: Option<String>,
    #[serde(flatten)]
    config: SessionConfig,
}

pub async fn configure(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Flat(request, _): Flat<ConfigBody, SessionConfig>,
) -> Result<JsonBody<SessionBody>, Failure> {
    check_model(request.model.as_deref())?;
    if request.config.egress.is_some() {
        return Err(Failure::field("egress", "is changed by PATCH /api/sessions/{id}/egress"));
    }
    if request.config.limits.is_some() {
        return Err(Failure::field("limits", "is changed by PATCH /api/sessions/{id}/limits"));
    }
    let row = app.sessions.configure(&caller.tenant, id, request.model, request.config).await?;
    Ok(body(&app, row))
}

pub async fn post_message(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    key: IdempotencyKey,
    Extension(room): Extension<Room>,
    Flat(request, _): Flat<MessageBody, TurnOptions, MESSAGE_MAX>,
) -> Result<Response, Failure> {
    check_model(request.options.model.as_deref())?;
    if request.options.max_turns == Some(0) {
        return Err(Failure::field("maxTurns", "has to be at least 1"));
    }
    if request.options.max_budget_usd.is_some_and(|budget| budget.is_nan() || budget < 0.0) {
        return Err(Failure::field("maxBudgetUsd", "has to be at least 0"));
    }
    let partials = request.options.include_partial_messages;
    let message = MessageBody { content: check_content(&request.content)?, ..request };
    let key = key.of(&message);
    let posted = app.sessions.post_held(&caller.tenant, id, message, key, room).await?;
    tracing::debug!(session_id = %id, turn = %posted.turn, principal = caller.name, "message taken");
    let filter = EventFilter { turn: Some(posted.turn), ..EventFilter::default() };
    let cursor = app.sessions.cursor(&caller.tenant, id, posted.first_event - 1, filter).await?;
    let filter = FrameFilter { partials, whole_log: false };
    Ok(sse::respond(cursor, Wanted { filter, until: Some(posted.turn) }, app.stop))
}

/// The content on one line, exactly as it came otherwise. It is written to the runtime as a part
/// of a line; a line break in JSON can only be white space, since in strings it is escaped.
fn check_content(content: &RawValue) -> Result<Box<RawValue>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Blocks(Vec<Block>),
    }
    #[derive(Deserialize)]
    struct Block {
        r#type: String,
    }
    let wanted = format!("has to be a text, or a list of 1 to {BLOCKS_MAX} blocks of type text, image, document or attachment");
    match serde_json::from_str(content.get()) {
        Ok(Content::Text(text)) if text.chars().count() > TEXT_MAX => {
            return Err(Failure::field("content", format!("has to be at most {TEXT_MAX} characters")));
        }
        Ok(Content::Text(_)) => {}
        Ok(Content::Blocks(blocks)) if (1..=BLOCKS_MAX).contains(&blocks.len()) => {
            let is_block = |block: &Block| matches!(block.r#type.as_str(), "text" | "image" | "document" | "attachment");
            if let Some(at) = blocks.iter().position(|block| !is_block(block)) {
                return Err(Failure::field(format!("content[{at}].type"), "has to be text, image, document or attachment"));
            }
        }
        _ => return Err(Failure::field("content", wanted)),
    }
    let line = content.get().replace(['\n', '\r'], " ");
    RawValue::from_string(line).map_err(|e| Failure::field("content", e.to_string()))
}

#[derive(Debug, Deserialize)]
pub struct AfterParams {
    limit: Option<i64>,
    after: Option<i64>,
    r#type: Option<String>,
}

pub async fn messages(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(params): Params<AfterParams>,
) -> Result<Response, Failure> {
    let (after, limit) = page(params.after, params.limit, 100)?;
    let row = app.sessions.get(&caller.tenant, id).await?;
    list::respond("messages", Messages { store: app.store, id, tenant: row.tenant }, after, limit).await
}

struct Messages {
    store: Arc<dyn Store>,
    id: SessionId,
    tenant: String,
}

impl Source for Messages {
    type Place = i64;
    type Row = MessageRow;
    type Shown = Message;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<MessageRow>, StoreError> {
        self.store.messages(self.id, after, limit, bytes).await
    }

    fn show(&self, row: &MessageRow) -> (i64, Option<Message>) {
        (row.sequence, Some(view::message(self.id, &self.tenant, row)))
    }
}

pub async fn events(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(params): Params<AfterParams>,
) -> Result<Response, Failure> {
    let (after, limit) = page(params.after, params.limit, 200)?;
    let row = app.sessions.get(&caller.tenant, id).await?;
    let kinds = match params.r#type.as_deref() {
        None => Kind::of_any_timeline(),
        Some(name) => Kind::of_timeline(name),
    };
    if kinds.is_empty() {
        return Err(Failure::field("type", "is not a type of event"));
    }
    list::respond("events", Timeline { store: app.store, id, tenant: row.tenant, kinds }, after, limit).await
}

struct Timeline {
    store: Arc<dyn Store>,
    id: SessionId,
    tenant: String,
    kinds: Vec<Kind>,
}

impl Source for Timeline {
    type Place = i64;
    type Row = EventRow;
    type Shown = SessionEvent;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<EventRow>, StoreError> {
        let filter = EventFilter { turn: None, kinds: self.kinds.clone(), bytes: Some(bytes) };
        self.store.events(self.id, after, limit, filter).await
    }

    fn show(&self, row: &EventRow) -> (i64, Option<SessionEvent>) {
        (row.id, view::timeline(self.id, &self.tenant, row))
    }
}

/// The kinds of a list of types, separated by commas.
fn kinds_of(types: &str) -> Result<Vec<Kind>, Failure> {
    let mut kinds = Vec::new();
    for name in types.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let found = Kind::of_frame(name);
        if found.is_empty() {
            return Err(Failure::field("types", format!("{name:?} is not a type of event")));
        }
        kinds.extend(found);
    }
    if kinds.is_empty() { Err(Failure::field("types", "names no type of event")) } else { Ok(kinds) }
}

/// A stream of one turn ends with the turn's end, also if that was not asked for.
fn with_end(mut kinds: Vec<Kind>, one_turn: bool) -> Vec<Kind> {
    if one_turn && !kinds.is_empty() && !kinds.contains(&Kind::TurnEnded) {
        kinds.push(Kind::TurnEnded);
    }
    kinds
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamParams {
    after: Option<i64>,
    turn: Option<String>,
    partials: Option<bool>,
    types: Option<String>,
}

pub async fn stream(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let last_seen = headers.get("last-event-id").map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    let last_seen =
        last_seen.map(|id| id.ok_or_else(|| Failure::field("Last-Event-ID", "has to be the id of an event"))).transpose()?;
    // A browser that reconnects sends the header and repeats the query of its first request.
    let after = in_range("after", params.after, 0..=i64::MAX)?;
    let after = in_range("Last-Event-ID", last_seen, 0..=i64::MAX)?.or(after).unwrap_or(0);
    let turn = params.turn.map(|turn| turn.parse::<TurnId>()).transpose().map_err(|e| Failure::field("turn", e.to_string()))?;
    let kinds = params.types.as_deref().map(kinds_of).transpose()?.unwrap_or_default();
    let row = match turn {
        Some(turn) => Some(app.sessions.turn(&caller.tenant, id, turn).await?),
        None => None,
    };
    // Nothing before its first event can be of the turn, and the end of the turn ends the stream.
    let from = row.as_ref().map_or(after, |row| after.max(row.first_event - 1));
    let kinds = with_end(kinds, turn.is_some());
    let mut cursor = app.sessions.cursor(&caller.tenant, id, after, EventFilter { turn, kinds, bytes: None }).await?;
    cursor.skip_to(from);
    if row.is_some_and(|row| row.state.is_over()) {
        cursor.end_at_tail();
    }
    let filter = FrameFilter { partials: params.partials.unwrap_or(true), whole_log: turn.is_none() };
    Ok(sse::respond(cursor, Wanted { filter, until: turn }, app.stop))
}

pub async fn interrupt(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
) -> Result<JsonBody<InterruptBody>, Failure> {
    let turn_id = app.sessions.interrupt(&caller.tenant, id).await?;
    Ok(JsonBody(InterruptBody { turn_id }))
}

fn check_model(model: Option<&str>) -> Result<(), Failure> {
    match model {
        Some(model) if !(1..=MODEL_MAX).contains(&model.len()) || model.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err(Failure::field("model", format!("has to be 1 to {MODEL_MAX} characters without spaces")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str) -> Result<String, Failure> {
        let raw = RawValue::from_string(content.to_owned()).expect("JSON");
        check_content(&raw).map(|content| content.get().to_owned())
    }

    #[test]
    fn content_passes_as_it_came_but_on_one_line() {
        for content in [r#""hello""#, r#"[{"type":"text","text":"a","x":1.0}]"#, r#""""#] {
            assert_eq!(check(content).expect("passes"), content);
        }
        assert_eq!(check("[{\"type\":\n\"text\"}]").expect("passes"), r#"[{"type": "text"}]"#);
    }

    #[test]
    fn other_content_is_refused_by_name() {
        let long = format!("\"{}\"", "x".repeat(TEXT_MAX + 1));
        let many = format!("[{}]", vec![r#"{"type":"text"}"#; BLOCKS_MAX + 1].join(","));
        for content in ["1", "null", "{}", "[]", r#"["x"]"#, r#"[{"text":"x"}]"#, &long, &many] {
            let error = format!("{:?}", check(content).expect_err(content));
            assert!(error.contains("\"content\""), "{error}");
        }
        let error = format!("{:?}", check(r#"[{"type":"text"},{"type":"tool_use"}]"#).expect_err("no tool"));
        assert!(error.contains("content[1].type"), "{error}");
    }
}
