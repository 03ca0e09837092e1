//! `/api/sessions/{id}/files`.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;

use super::workspace::BASE64;
use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Ids, Params, json_text, parse};
use crate::http::kept;
use crate::http::list::{self, Source};
use crate::http::media_type::media_type;
use crate::http::places::{Growing, Places, mib};
use crate::http::problem::Failure;
use crate::session::SessionError;
use crate::session::files::{Content, FileError, List, Listed, checked};
use crate::store::StoreError;
use crate::wire::SessionId;
use crate::wire::file::{DeletedFile, FileBody, FileList, WorkspaceFile, WrittenFile, WrittenList};

/// Largest file in a body of JSON.
const JSON_MAX: u64 = 1 << 20;
/// Largest file as it is.
const RAW_MAX: u64 = 100 << 20;
/// Largest body with files to write.
const WRITE_BODY_MAX: usize = 200 << 20;
/// Files of one request.
const WRITE_FILES_MAX: usize = 500;
/// Largest file that is written, and all of a request.
const WRITE_FILE_MAX: usize = 50 << 20;
const WRITE_MAX: usize = 100 << 20;
/// Requests at a time that read. Each may keep a sandbox awake, hold a thread, or have its answer in memory.
static READS: Places = Places::new(64);
/// MiB of lists, which are in memory until they are taken: of a list of the usual size it is one.
static LISTS_MIB: Places = Places::new(512);
/// MiB of bodies with files to write, which are kept in memory.
static WRITES_MIB: Places = Places::new(512);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Which {
    /// Whether caches and the like are listed.
    #[serde(default = "yes")]
    include_hidden: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
pub struct How {
    #[serde(default)]
    format: Format,
}

/// How a file is sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As it is.
    #[default]
    Raw,
    /// As text in a JSON object.
    Json,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(which): Params<Which>,
) -> Result<Response, Failure> {
    let place = READS.take(&caller.tenant).ok_or_else(busy)?;
    let mib_of_list = Growing::new(&LISTS_MIB, &caller.tenant);
    let room = |bytes| mib_of_list.hold(mib(bytes));
    let list = app.sessions.list_files(&caller.tenant, id, which.include_hidden, &room).await?;
    in_pieces(list, (place, mib_of_list)).await
}

/// A list that becomes JSON as it is taken, which may be many times as long. What is `held` is dropped with it.
async fn in_pieces(list: List, held: impl Send + Sync + 'static) -> Result<Response, Failure> {
    let more = FileList { files: Vec::new(), source: list.source.as_str().to_owned(), truncated: list.truncated };
    let mut more = json!(more);
    more.as_object_mut().and_then(|members| members.remove("files"));
    let found = Found { left: Mutex::new(list.files.into_iter()), _held: held };
    list::respond_with("files", found, (), usize::MAX, &more).await
}

struct Found<H> {
    left: Mutex<std::vec::IntoIter<Listed>>,
    _held: H,
}

impl<H: Send + Sync + 'static> Source for Found<H> {
    type Place = ();
    type Row = Listed;
    type Shown = WorkspaceFile;

    async fn read(&self, (): &(), limit: usize, _bytes: usize) -> Result<Vec<Listed>, StoreError> {
        Ok(self.left.lock().unwrap_or_else(PoisonError::into_inner).by_ref().take(limit).collect())
    }

    fn show(&self, file: &Listed) -> ((), Option<WorkspaceFile>) {
        ((), Some(shown(file.clone())))
    }
}

fn busy() -> Failure {
    Failure::busy("Too many files are being read or written; try again")
}

fn shown(file: Listed) -> WorkspaceFile {
    let (path, path_base64) = match String::from_utf8(file.path) {
        Ok(path) => (path, None),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(STANDARD.encode(error.as_bytes()))),
    };
    WorkspaceFile { path, size: file.size, modified_at: file.modified_at, path_base64 }
}

/// A path that names nothing.
pub async fn no_path(_: Principal) -> Failure {
    SessionError::from(FileError::NoPath).into()
}

/// A body that ends before its end breaks off the connection, so that nobody takes a part for the
/// whole.
pub async fn read(
    State(app): State<App>,
    caller: Principal,
    Ids(id, path): Ids<SessionId, String>,
    Params(how): Params<How>,
) -> Result<Response, Failure> {
    let place = READS.take(&caller.tenant).ok_or_else(busy)?;
    let max = if how.format == Format::Json { JSON_MAX } else { RAW_MAX };
    let content = app.sessions.read_file(&caller.tenant, id, &path, max).await?;
    let source = content.source.as_str();
    if how.format == Format::Json {
        let size = content.size;
        let content = text(content).await?;
        return Ok(kept::json(FileBody { path, content, size, source: source.to_owned() }, place).await);
    }
    let length = content.size;
    let pieces = stream::unfold((content, place), |(mut content, place)| async move {
        let piece = content.next().await?;
        Some((piece, (content, place)))
    });
    let mut response = in_body(&path, length, Body::from_stream(pieces));
    response.headers_mut().insert("x-ash-source", HeaderValue::from_static(source));
    Ok(response)
}

/// A file as it is.
pub fn in_body(path: &str, length: u64, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename*=UTF-8''{}", in_percent(name))) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn text(mut content: Content) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = content.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A name as a header has it: all but letters, digits and `-._~` in percent (RFC 8187 §3.2.1).
fn in_percent(name: &str) -> String {
    let shown = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(shown).collect()
}

/// Files to write, whose contents stay where they are in the body.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WriteFiles)]
pub struct WriteBody<'a> {
    /// The files.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 500)]
    files: Vec<NewFile<'a>>,
    /// The folder of the workspace that their paths are relative to. Default: the workspace itself.
    target_path: Option<String>,
}

/// A file to write.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = WriteFile)]
pub struct NewFile<'a> {
    /// Its path.
    path: String,
    /// What is in it, in base64.
    #[serde(borrow)]
    #[schema(value_type = String, content_encoding = "base64")]
    content: Cow<'a, str>,
}

pub async fn write(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    request: Request,
) -> Result<JsonBody<WrittenList>, Failure> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mib = length.unwrap_or(WRITE_BODY_MAX).min(WRITE_BODY_MAX).div_ceil(1 << 20).max(1);
    let _place = WRITES_MIB.take_many(&caller.tenant, u32::try_from(mib).unwrap_or(u32::MAX)).ok_or_else(busy)?;
    let body = json_text(request, WRITE_BODY_MAX).await?;
    let body: WriteBody<'_> = parse(&body)?;
    if !(1..=WRITE_FILES_MAX).contains(&body.files.len()) {
        return Err(Failure::field("files", format!("has to be a list of 1 to {WRITE_FILES_MAX} files")));
    }
    let target = match body.target_path.as_deref() {
        None | Some("" | ".") => None,
        Some(target) => Some(checked(target).map_err(|error| Failure::field("targetPath", error.to_string()))?),
    };
    let mut total = 0;
    let files = body.files.iter().map(|file| decode(file, target.as_deref(), &mut total));
    let written = app.sessions.write_files(&caller.tenant, id, &caller.name, files).await?;
    let files = body.files.iter().zip(written).map(|(file, written)| WrittenFile {
        path: file.path.clone(),
        written: written.is_ok(),
        size: written.as_ref().ok().copied(),
        error: written.err(),
    });
    Ok(JsonBody(WrittenList { files: files.collect() }))
}

/// The path and the bytes of a file, or why it is not written.
fn decode(file: &NewFile<'_>, target: Option<&str>, total: &mut usize) -> Result<(String, Vec<u8>), String> {
    let path = checked(&file.path).map_err(|_| FileError::Path.to_string())?;
    if path.rsplit('/').next() == Some(".DS_Store") {
        return Err("Skipped: .DS_Store".to_owned());
    }
    let too_large = |size: usize| FileError::TooLarge { size: size as u64, max: WRITE_FILE_MAX as u64 }.to_string();
    let about = file.content.len() / 4 * 3;
    if about > WRITE_FILE_MAX + 3 {
        return Err(too_large(about));
    }
    let content = BASE64.decode(file.content.as_bytes()).map_err(|_| "Content is not base64".to_owned())?;
    if content.len() > WRITE_FILE_MAX {
        return Err(too_large(content.len()));
    }
    *total += content.len();
    if *total > WRITE_MAX {
        return Err("Batch size limit exceeded".to_owned());
    }
    Ok((target.map_or_else(|| path.clone(), |target| format!("{target}/{path}")), content))
}

pub async fn delete(
    State(app): State<App>,
    caller: Principal,
    Ids(id, path): Ids<SessionId, String>,
) -> Result<JsonBody<DeletedFile>, Failure> {
    app.sessions.delete_file(&caller.tenant, id, &caller.name, &path).await?;
    Ok(JsonBody(DeletedFile { path, deleted: true }))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::session::bundle::Source;
    use crate::wire::Timestamp;

    fn try_decode(path: &str, content: &str) -> Result<(String, Vec<u8>), String> {
        decode(&NewFile { path: path.to_owned(), content: content.into() }, Some("sub"), &mut 0)
    }

    #[test]
    fn files_to_write_are_checked_one_by_one() {
        assert_eq!(try_decode("a/./b", "eA=="), Ok(("sub/a/b".to_owned(), b"x".to_vec())));
        assert_eq!(try_decode("a..b", "eA"), Ok(("sub/a..b".to_owned(), b"x".to_vec())));
        for path in ["", "/a", "../a", "a/../b", ".", "a\0"] {
            assert_eq!(try_decode(path, ""), Err("Invalid file path".to_owned()), "{path}");
        }
        assert_eq!(try_decode("a/.DS_Store", ""), Err("Skipped: .DS_Store".to_owned()));
        assert_eq!(try_decode("a", "%"), Err("Content is not base64".to_owned()));
        let error = try_decode("a", &"A".repeat((WRITE_FILE_MAX + 100) / 3 * 4));
        assert!(error.is_err_and(|error| error == "File too large (52428900 bytes, max 52428800)"));
        let mut total = WRITE_MAX;
        let file = NewFile { path: "a".to_owned(), content: "eA==".into() };
        assert_eq!(decode(&file, None, &mut total), Err("Batch size limit exceeded".to_owned()));
    }

    #[tokio::test]
    async fn a_list_comes_in_pieces_and_keeps_what_is_held_until_it_is_taken() {
        static PLACES: Places = Places::new(4);
        for (count, truncated) in [(0, false), (1, true), (3000, false)] {
            let file =
                |n: usize| Listed { path: format!("{n}\u{1}").repeat(20).into_bytes(), size: 1, modified_at: Timestamp(0) };
            let files: Vec<_> = (0..count).map(file).collect();
            let wanted: Vec<_> = files.iter().cloned().map(shown).collect();
            let list = List { files, truncated, source: Source::Snapshot };
            let mut body = in_pieces(list, PLACES.take_many("a", 3)).await.expect("a list").into_body();
            let mut taken = Vec::new();
            while let Some(frame) = body.frame().await {
                assert!(PLACES.take("a").is_none());
                let piece = frame.expect("no error").into_data().expect("data");
                assert!(piece.len() < 128 << 10, "it comes in parts: {}", piece.len());
                taken.extend(piece);
            }
            drop(body);
            assert!(PLACES.take("a").is_some());
            let list: FileList = serde_json::from_slice(&taken).expect("JSON");
            assert_eq!(list, FileList { files: wanted, source: "snapshot".to_owned(), truncated });
        }
    }

    #[test]
    fn names_in_headers_are_ascii() {
        assert_eq!(in_percent("a b-ä\"\n.txt"), "a%20b-%C3%A4%22%0A.txt");
    }
}
