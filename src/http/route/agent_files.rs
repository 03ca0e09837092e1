//! `/api/agents/{name}/files` and `/api/agents/{name}/config`.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::files::{Format, in_body};
use crate::agent::service::AgentError;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{DEPLOY_MAX, Id, Ids, Json, Params};
use crate::http::kept;
use crate::http::places::Places;
use crate::http::problem::Failure;
use crate::store::AgentRow;
use crate::wire::agent::{AgentFile, AgentFileList, AgentFilesBody};

/// Largest file in a body of JSON.
const JSON_MAX: u64 = 1 << 20;
/// Largest file as it is.
const RAW_MAX: u64 = 100 << 20;
/// Files that are read at a time, each of which is in memory until its answer is taken.
static READS: Places = Places::new(8);

pub async fn list(State(app): State<App>, caller: Principal, Id(name): Id<String>) -> Result<JsonBody<AgentFileList>, Failure> {
    let files = app.agents.files(&caller.tenant, &name).await?;
    let shown = |file: crate::agent::FileInfo| AgentFile { path: file.path, size: file.size, modified_at: file.modified };
    Ok(JsonBody(AgentFileList { files: files.into_iter().map(shown).collect() }))
}

/// A path that names nothing.
pub async fn no_path(_: Principal) -> Failure {
    AgentError::NoPath.into()
}

#[derive(Debug, Deserialize)]
pub struct How {
    format: Option<Format>,
}

pub async fn read(
    State(app): State<App>,
    caller: Principal,
    Ids(name, path): Ids<String, String>,
    Params(how): Params<How>,
) -> Result<Response, Failure> {
    let place = READS.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many files are being read; try again"))?;
    let raw = how.format == Some(Format::Raw);
    let content = app.agents.read_file(&caller.tenant, &name, &path, if raw { RAW_MAX } else { JSON_MAX }).await?;
    if raw {
        return Ok(in_body(&path, content.len() as u64, kept::body(content.into(), place)));
    }
    let size = content.len();
    let content = String::from_utf8(content).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok(kept::json(json!({"path": path, "content": content, "size": size}), place).await)
}

pub async fn write(
    State(app): State<App>,
    caller: Principal,
    Id(name): Id<String>,
    Json(body): Json<AgentFilesBody, DEPLOY_MAX>,
) -> Result<JsonBody<Value>, Failure> {
    let row = app.agents.write_files(&caller.tenant, &name, &body.files).await?;
    told(&caller, &row);
    Ok(JsonBody(json!({"written": body.files.len(), "version": row.deploys, "digest": row.digest})))
}

pub async fn delete(
    State(app): State<App>,
    caller: Principal,
    Ids(name, path): Ids<String, String>,
) -> Result<JsonBody<Value>, Failure> {
    let row = match app.agents.delete_file(&caller.tenant, &name, &path).await {
        Err(AgentError::Escapes(_)) => return Err(Failure::invalid("Path escapes agent directory")),
        row => row?,
    };
    told(&caller, &row);
    Ok(JsonBody(json!({"deleted": true, "version": row.deploys, "digest": row.digest})))
}

fn told(caller: &Principal, row: &AgentRow) {
    tracing::info!(agent = row.name, version = row.deploys, digest = row.digest, principal = caller.name, "agent changed");
}

pub async fn config(State(app): State<App>, caller: Principal, Id(name): Id<String>) -> Result<JsonBody<Value>, Failure> {
    let row = app.agents.get(&caller.tenant, &name).await?;
    Ok(JsonBody(json!({"config": row.config})))
}

/// No body, and an empty one, changes nothing.
pub async fn configure(
    State(app): State<App>,
    caller: Principal,
    Id(name): Id<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<JsonBody<Value>, Failure> {
    let row = if body.is_empty() {
        app.agents.get(&caller.tenant, &name).await?
    } else {
        app.agents.patch(&caller.tenant, &name, None, Some(body)).await?
    };
    Ok(JsonBody(json!({"config": row.config})))
}
