//! `/api/sessions/{id}/workspace`.

use std::io::{self, Read, Write};

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::read::DecoderReader;
use futures_util::stream;
use serde::Deserialize;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Params};
use crate::http::field::{self, FieldError};
use crate::http::places::Places;
use crate::http::problem::Failure;
use crate::http::upload::Upload;
use crate::session::SessionError;
use crate::session::bundle::{Placed, Spool};
use crate::wire::SessionId;
use crate::wire::problem::Code;
use crate::wire::snapshot::UploadedBody;

/// Largest body of JSON, in which a bundle has a third more than its bytes.
const JSON_MAX: u64 = 134 << 20;
/// Downloads at a time. Each holds a thread, and may keep a sandbox awake.
static DOWNLOADS: Places = Places::new(32);

/// Base64 as the clients of these routes write it: padded, or not.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What of a workspace to send.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct What {
    /// Also what is left out otherwise.
    #[serde(default)]
    all: bool,
}

/// How to put a bundle into a workspace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// Whether what is there goes.
    #[serde(default)]
    replace: bool,
}

/// A body that ends before its end breaks off the connection, so that nobody takes a part for the
/// whole.
pub async fn download(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(what): Params<What>,
) -> Result<Response, Failure> {
    let place =
        DOWNLOADS.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many workspaces are being downloaded; try again"))?;
    let download = app.sessions.download(&caller.tenant, id, what.all).await?;
    let source = download.source;
    let pieces = stream::unfold((download, place), |(mut download, place)| async move {
        let piece = download.next().await?;
        Some((piece, (download, place)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{id}.tar.gz\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    headers.insert("x-ash-source", HeaderValue::from_static(source.as_str()));
    Ok(response)
}

pub async fn upload(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(how): Params<How>,
    headers: HeaderMap,
    body: Body,
) -> Result<JsonBody<UploadedBody>, Failure> {
    app.sessions.takes_uploads(&caller.tenant, id).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let is_json = match kind.split(';').next().unwrap_or("").trim() {
        "application/json" => true,
        "application/gzip" | "application/x-gzip" => false,
        _ => {
            let sentence = "The body has to be JSON (Content-Type: application/json) or the bundle itself (application/gzip)";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, sentence));
        }
    };
    let (upload, spool) = (Upload::begin(&caller.tenant, body)?, app.sessions.spool()?);
    let receiving = tokio::task::spawn_blocking(move || receive(upload, is_json, spool));
    let spool = receiving.await.map_err(|_| SessionError::Closing)??;
    let placed = app.sessions.upload(&caller.tenant, id, spool, how.replace).await?;
    tracing::info!(session_id = %id, principal = caller.name, ?placed, "workspace uploaded");
    let message = match placed {
        Placed::Live => "Workspace restored to live sandbox",
        Placed::Saved => "Workspace saved as snapshot",
    };
    Ok(JsonBody(UploadedBody { message: message.to_owned() }))
}

/// Keeps the bundle of a body. Blocks.
fn receive(body: impl Read, is_json: bool, spool: Spool) -> Result<Spool, Failure> {
    // Of a bundle as it is, its keeper has a bound.
    let max = if is_json { JSON_MAX } else { u64::MAX - 1 };
    let mut body = body.take(max + 1);
    let mut spool = Kept { spool, failure: None };
    let received = if is_json {
        let mut text = field::Bundle::new(&mut body);
        let read = io::copy(&mut DecoderReader::new(&mut text, &BASE64), &mut spool);
        // What the decoder makes of a text that broke off says less than why it did.
        let undecoded = read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData);
        match text.finish(if undecoded { Ok(0) } else { read }) {
            Ok(_) if undecoded => Err(FieldError::Escape),
            other => other.map(drop),
        }
    } else {
        io::copy(&mut body, &mut spool).map(drop).map_err(FieldError::Read)
    };
    match spool.failure {
        Some(failure) if failure.kind() == io::ErrorKind::FileTooLarge => {
            let sentence =
                format!("The bundle is larger than {}, which is all that this host takes (http.upload_bytes)", spool.spool.max());
            return Err(Failure::too_large(sentence));
        }
        Some(failure) => return Err(Failure::internal(&failure)),
        None => {}
    }
    if body.limit() == 0 {
        return Err(Failure::too_large(format!("The body is larger than {max} bytes")));
    }
    match received {
        Ok(()) => Ok(spool.spool),
        Err(FieldError::Escape) => Err(Failure::field("bundle", "is not base64")),
        Err(FieldError::NoText(error)) => Err(Failure::field("bundle", error.to_string())),
        Err(error) => Err(Failure::invalid(error.to_string())),
    }
}

/// Notes that it was the disk that failed.
struct Kept {
    spool: Spool,
    failure: Option<io::Error>,
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spool.write(bytes).map_err(|error| {
            let kind = error.kind();
            self.failure = Some(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.flush()
    }
}
