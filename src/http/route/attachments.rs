//! `/api/sessions/{id}/attachments` and `/api/attachments/{id}`.

use axum::Json as JsonBody;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use serde_json::{Value, json};

use super::files::in_body;
use super::project_files;
use super::workspace::BASE64;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, json_text, parse};
use crate::http::kept;
use crate::http::places::{Place, Places};
use crate::http::problem::Failure;
use crate::session::SessionError;
use crate::session::attachments::AttachmentError;
use crate::store::{AttachmentRow, NewAttachment};
use crate::wire::attachment::{AttachBody, Attachment, AttachmentBody, AttachmentList, UNLINKED};
use crate::wire::{AttachmentId, SessionId};

/// Bytes of a body beside the content.
const REST_MAX: usize = 64 << 10;
/// Bytes of a name, as in Linux's file systems.
const FILENAME_MAX: usize = 255;
const MIME_TYPE_MAX: usize = 255;
const MIME_TYPE_DEFAULT: &str = "application/octet-stream";
/// MiB of bodies and answers, which are kept in memory.
static MIB: Places = Places::new(512);

fn busy() -> Failure {
    Failure::busy("Too many files are being read or written; try again")
}

/// Places for so many bytes.
fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20).max(1)).unwrap_or(u32::MAX)
}

fn shown(row: AttachmentRow, tenant: &str) -> Attachment {
    Attachment {
        id: row.id,
        session_id: row.session,
        filename: row.filename,
        mime_type: row.mime_type,
        size: row.size,
        created_at: row.created_at,
        tenant_id: tenant.to_owned(),
        message_id: row.message.map_or_else(|| UNLINKED.to_owned(), |message| message.to_string()),
        path: row.path,
        placed: row.placed.is_some(),
    }
}

/// A body with the content of a file in base64, which is taken up to a size.
pub(super) struct Sent {
    /// The body.
    pub body: Bytes,
    max: u64,
    /// Kept until what was sent is written.
    pub place: Place,
}

/// Reads one.
pub(super) async fn sent(app: &App, caller: &Principal, request: Request) -> Result<Sent, Failure> {
    let max = app.sessions.attachment_bytes();
    let body_max = usize::try_from(max.div_ceil(3) * 4).unwrap_or(usize::MAX).saturating_add(REST_MAX);
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = length.unwrap_or(body_max as u64).min(body_max as u64);
    let place = place_of(&caller.tenant, length)?;
    Ok(Sent { body: json_text(request, body_max).await?, max, place })
}

impl Sent {
    /// What this content is.
    pub fn decode(&self, content: &str, what: &str) -> Result<Vec<u8>, Failure> {
        let bytes = BASE64.decode(content.as_bytes()).map_err(|_| Failure::field("content", "is not base64"))?;
        if bytes.is_empty() {
            return Err(Failure::invalid(format!("Empty {} content", what.to_lowercase())));
        }
        self.check(bytes.len() as u64, what)?;
        Ok(bytes)
    }

    /// Whether so many bytes may be.
    fn check(&self, size: u64, what: &str) -> Result<(), Failure> {
        let too_large = || Failure::too_large(format!("{what} too large (max {} bytes)", self.max));
        (size <= self.max).then_some(()).ok_or_else(too_large)
    }
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Id(session): Id<SessionId>,
    request: Request,
) -> Result<(StatusCode, JsonBody<AttachmentBody>), Failure> {
    let sent = sent(&app, &caller, request).await?;
    let AttachBody { filename, content, file_id, mime_type, message_id } = parse(&sent.body)?;
    let mut copied = None;
    let (bytes, named, kind) = match (content, file_id) {
        (Some(content), None) => (sent.decode(&content, "Attachment")?, filename, mime_type),
        (None, Some(id)) => {
            let row = project_files::known(&app, &caller, id).await?;
            sent.check(row.size, "Attachment")?;
            copied = Some(place_of(&caller.tenant, row.size)?);
            let bytes = app.files.read(id).await?;
            (bytes, filename.or(Some(row.filename)), mime_type.or(Some(row.mime_type)))
        }
        (Some(_), Some(_)) => return Err(Failure::field("fileId", "can not stand beside content")),
        (None, None) => return Err(Failure::field("content", "is missing")),
    };
    let filename = checked_filename(&named.ok_or_else(|| Failure::field("filename", "is missing"))?)?;
    let mime_type = checked_mime_type(kind)?;
    let (id, size) = (AttachmentId::new(), bytes.len() as u64);
    let new = NewAttachment { id, session, filename, mime_type, size, message: message_id };
    let held = (sent.place, copied);
    let row = app.sessions.attach(&caller.tenant, &caller.name, new, bytes, held).await?;
    tracing::info!(session_id = %session, attachment = %id, bytes = size, principal = caller.name, "attachment taken");
    Ok((StatusCode::CREATED, JsonBody(AttachmentBody { attachment: shown(row, &caller.tenant) })))
}

/// The last name of a path.
pub(super) fn checked_filename(path: &str) -> Result<String, Failure> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if name.is_empty() || matches!(name, "." | "..") || name.len() > FILENAME_MAX || name.chars().any(char::is_control) {
        let reason = format!("has to be the name of a file, 1 to {FILENAME_MAX} bytes without control characters");
        return Err(Failure::field("filename", reason));
    }
    Ok(name.to_owned())
}

/// `type/subtype`, perhaps with parameters. Browsers send an empty one of what they do not know.
pub(super) fn checked_mime_type(given: Option<String>) -> Result<String, Failure> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(MIME_TYPE_DEFAULT.to_owned()) };
    let is_type = given.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty());
    if !is_type || given.len() > MIME_TYPE_MAX || given.chars().any(|c| !c.is_ascii_graphic() && c != ' ') {
        let reason = format!("has to be a type like text/plain, at most {MIME_TYPE_MAX} visible ASCII characters");
        return Err(Failure::field("mimeType", reason));
    }
    Ok(given)
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(session): Id<SessionId>,
) -> Result<JsonBody<AttachmentList>, Failure> {
    let rows = app.sessions.attachments(&caller.tenant, session).await?;
    Ok(JsonBody(AttachmentList { attachments: rows.into_iter().map(|row| shown(row, &caller.tenant)).collect() }))
}

/// An attachment that the caller may know of: a key for one agent knows those of its sessions.
async fn known(app: &App, caller: &Principal, id: AttachmentId) -> Result<AttachmentRow, Failure> {
    let row = app.sessions.attachment(&caller.tenant, id).await?;
    let session = app.sessions.get(&caller.tenant, row.session).await?;
    if caller.knows(&session.agent) { Ok(row) } else { Err(SessionError::from(AttachmentError::NotFound).into()) }
}

/// Bytes as they came, and never so that a browser shows them.
pub(super) fn as_it_came(filename: &str, mime_type: &str, length: u64, body: Body) -> Response {
    let mut response = in_body(filename, length, body);
    if let Ok(kind) = HeaderValue::from_str(mime_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// A place for an answer of so many bytes.
fn place_of(tenant: &str, bytes: u64) -> Result<Place, Failure> {
    MIB.take_many(tenant, mib(bytes)).ok_or_else(busy)
}

pub async fn read(State(app): State<App>, caller: Principal, Id(id): Id<AttachmentId>) -> Result<Response, Failure> {
    let row = known(&app, &caller, id).await?;
    let place = place_of(&caller.tenant, row.size)?;
    let bytes = app.sessions.read_attachment(&row).await?;
    Ok(as_it_came(&row.filename, &row.mime_type, bytes.len() as u64, kept::body(bytes.into(), place)))
}

pub async fn delete(State(app): State<App>, caller: Principal, Id(id): Id<AttachmentId>) -> Result<JsonBody<Value>, Failure> {
    known(&app, &caller, id).await?;
    let row = app.sessions.detach(&caller.tenant, id).await?;
    tracing::info!(session_id = %row.session, attachment = %id, principal = caller.name, "attachment deleted");
    Ok(JsonBody(json!({"ok": true})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filename_is_the_last_part_of_what_came() {
        for (path, name) in [("a.txt", "a.txt"), ("/etc/passwd", "passwd"), ("../../x", "x"), ("a/b/", "b"), ("ä b", "ä b")] {
            assert_eq!(checked_filename(path).expect(path), name);
        }
        for path in ["", "/", ".", "a/..", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(checked_filename(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_type_can_be_a_header() {
        assert_eq!(checked_mime_type(None).expect("default"), MIME_TYPE_DEFAULT);
        assert_eq!(checked_mime_type(Some(String::new())).expect("default"), MIME_TYPE_DEFAULT);
        let text = "text/plain; charset=utf-8";
        assert_eq!(checked_mime_type(Some(text.to_owned())).expect("passes"), text);
        for other in ["text", "/", "text/", "a/b\r\nx: y", "a/ä", &format!("a/{}", "b".repeat(254))] {
            assert!(checked_mime_type(Some(other.to_owned())).is_err(), "{other:?}");
        }
    }
}
