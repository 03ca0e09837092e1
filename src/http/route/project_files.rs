//! `/api/files`, and `/api/files/{id}/download` for whoever has a link.

use std::sync::Arc;

use axum::Extension;
use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::attachments::{as_it_came, checked_filename, checked_mime_type, sent};
use crate::auth::Principal;
use crate::http::extract::{Id, Params, in_range, parse};
use crate::http::guard::Object;
use crate::http::list::{self, Source};
use crate::http::places::Places;
use crate::http::problem::Failure;
use crate::http::{App, Origin, Scheme};
use crate::project_file::{NewFile, ProjectFileError, link, storage_path};
use crate::store::project_file::ProjectFileRow;
use crate::store::{Store, StoreError, now};
use crate::wire::project_file::{FileLink, ProjectFile, ProjectFileBody, UploadFile};
use crate::wire::{FileId, Timestamp};

/// Files that are listed when the caller names no limit, and most of them.
const LIST_DEFAULT: i64 = 100;
const LIST_MAX: i64 = 1000;
/// Files that are read at a time, with a key and by link. Each is open for so long.
static READS: Places = Places::new(256);
static LINKED: Places = Places::new(256);
/// Bytes of a file that are in memory at a time.
const PIECE: usize = 64 << 10;
/// How long a link is good when the caller does not say, and at most, in seconds. The most is that of links to objects
/// at Amazon S3 (Signature Version 4, `X-Amz-Expires`).
const LINK_DEFAULT: i64 = 3600;
const LINK_MAX: i64 = 604_800;

fn shown(row: ProjectFileRow) -> ProjectFile {
    ProjectFile {
        id: row.id,
        tenant_id: row.tenant,
        filename: row.filename,
        storage_path: storage_path(row.id),
        mime_type: row.mime_type,
        size: row.size,
        ttl: row.ttl,
        expires_at: row.expires_at,
        created_at: row.created_at,
    }
}

pub async fn upload(
    State(app): State<App>,
    caller: Principal,
    request: Request,
) -> Result<(StatusCode, Extension<Object>, JsonBody<ProjectFileBody>), Failure> {
    let sent = sent(&app, &caller, request).await?;
    let UploadFile { filename, content, mime_type, ttl } = parse(&sent.body)?;
    let (filename, mime_type) = (checked_filename(&filename)?, checked_mime_type(mime_type)?);
    let bytes = sent.decode(&content, "File")?;
    let new = NewFile { filename, mime_type, ttl: ttl.unwrap_or_default() };
    let row = app.files.add(&caller.tenant, new, bytes, sent.place).await?;
    tracing::info!(file = %row.id, bytes = row.size, principal = caller.name, "file taken");
    Ok((StatusCode::CREATED, Extension(Object(row.id.to_string())), JsonBody(ProjectFileBody { file: shown(row) })))
}

#[derive(Debug, Deserialize)]
pub struct ListParams {
    limit: Option<i64>,
    before: Option<FileId>,
}

pub async fn list(State(app): State<App>, caller: Principal, Params(params): Params<ListParams>) -> Result<Response, Failure> {
    let limit = in_range("limit", params.limit, 1..=LIST_MAX)?.unwrap_or(LIST_DEFAULT) as usize;
    // The newest has the highest place.
    let after = match params.before {
        Some(id) => match app.files.get(&caller.tenant, id).await {
            Err(ProjectFileError::NotFound) => return Err(Failure::field("before", "names no file")),
            found => -found?.place,
        },
        None => -i64::MAX,
    };
    list::respond("files", Files { store: app.store, tenant: caller.tenant }, after, limit).await
}

struct Files {
    store: Arc<dyn Store>,
    tenant: String,
}

impl Source for Files {
    type Place = i64;
    type Row = ProjectFileRow;
    type Shown = ProjectFile;

    async fn read(&self, &after: &i64, limit: usize, _bytes: usize) -> Result<Vec<ProjectFileRow>, StoreError> {
        self.store.files(&self.tenant, -after, now(), limit).await
    }

    fn show(&self, row: &ProjectFileRow) -> (i64, Option<ProjectFile>) {
        (-row.place, Some(shown(row.clone())))
    }
}

/// A file of the caller's.
pub(super) async fn known(app: &App, caller: &Principal, id: FileId) -> Result<ProjectFileRow, Failure> {
    // Files are of no agent, so keys for one have none.
    if caller.agent.is_some() {
        return Err(ProjectFileError::NotFound.into());
    }
    Ok(app.files.get(&caller.tenant, id).await?)
}

pub async fn show(State(app): State<App>, caller: Principal, Id(id): Id<FileId>) -> Result<JsonBody<ProjectFileBody>, Failure> {
    Ok(JsonBody(ProjectFileBody { file: shown(known(&app, &caller, id).await?) }))
}

pub async fn read(State(app): State<App>, caller: Principal, Id(id): Id<FileId>) -> Result<Response, Failure> {
    let row = known(&app, &caller, id).await?;
    content(&app, row, &READS).await
}

/// The bytes of a file from the disk, so that slow readers hold no memory.
async fn content(app: &App, row: ProjectFileRow, places: &'static Places) -> Result<Response, Failure> {
    let place = places.take(&row.tenant).ok_or_else(|| Failure::busy("Too many files are being read; try again"))?;
    let file = tokio::fs::File::from_std(app.files.open(row.id).await?);
    let pieces = ReaderStream::with_capacity(file.take(row.size), PIECE).inspect(move |_| {
        // Moved into the body with this.
        let _place = &place;
    });
    Ok(as_it_came(&row.filename, &row.mime_type, row.size, Body::from_stream(pieces)))
}

pub async fn delete(State(app): State<App>, caller: Principal, Id(id): Id<FileId>) -> Result<JsonBody<Value>, Failure> {
    app.files.remove(&caller.tenant, id).await?;
    tracing::info!(file = %id, principal = caller.name, "file deleted");
    Ok(JsonBody(json!({"ok": true})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkParams {
    expires_in: Option<i64>,
}

pub async fn link(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<FileId>,
    Params(params): Params<LinkParams>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<JsonBody<FileLink>, Failure> {
    let seconds = in_range("expiresIn", params.expires_in, 1..=LINK_MAX)?.unwrap_or(LINK_DEFAULT);
    let row = known(&app, &caller, id).await?;
    // Up to the whole second, and not longer than the file or the key.
    let ends = [row.expires_at, caller.expires_at].into_iter().flatten().map(Timestamp::millis);
    let end = ends.fold(now().millis() + seconds * 1000, i64::min).div_euclid(1000);
    let base = app.about.public_url.clone().or_else(|| as_called(&headers, &extensions)).unwrap_or_default();
    let url = base + &link::path(&row.secret, id, end);
    Ok(JsonBody(FileLink { url, expires_at: Timestamp(end * 1000) }))
}

/// Where the caller has reached a listener for programs. The control socket is none.
fn as_called(headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
    let Some(Origin::Remote(_)) = extensions.get() else { return None };
    let Scheme(scheme) = extensions.get()?;
    let host: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    Some(format!("{scheme}://{host}"))
}

#[derive(Debug, Deserialize)]
pub struct Signed {
    #[serde(default)]
    expires: Option<i64>,
    #[serde(default)]
    signature: Option<String>,
}

/// A file for whoever has a link. One that is no good is answered as a file that is not there, and counted as a
/// failure to authenticate.
pub async fn read_linked(
    State(app): State<App>,
    Id(id): Id<FileId>,
    Params(Signed { expires, signature }): Params<Signed>,
    extensions: Extensions,
) -> Response {
    let linked = app.files.linked(id, expires.unwrap_or_default(), &signature.unwrap_or_default()).await;
    let answer = match linked {
        Ok(row) => content(&app, row, &LINKED).await,
        Err(error) => Err(error.into()),
    };
    let failure = match answer {
        Ok(mut response) => {
            // Neither the link nor the file is to outlive its end elsewhere.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return response;
        }
        Err(failure) => failure,
    };
    let address = match extensions.get() {
        Some(Origin::Remote(address)) if failure.status() == StatusCode::NOT_FOUND => Some(address.ip()),
        _ => None,
    };
    let wait = address.and_then(|address| app.limits.count_failure(address)).and_then(|verdict| verdict.wait());
    wait.map_or(failure, Failure::too_often).into_response()
}
