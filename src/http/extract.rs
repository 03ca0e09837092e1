//! Taking requests apart, with errors that name the field.

use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::body::{self, Room};
use super::problem::Failure;
use crate::auth::Principal;
use crate::store::TurnKey;
use crate::wire::problem::Code;

/// Largest JSON body, unless the route says otherwise.
pub const JSON_MAX: usize = 1 << 20;
/// Largest body of a message: a PDF of 32 MB (the model API's own limit) in base64.
pub const MESSAGE_MAX: usize = 50 << 20;
/// Largest body of a deploy as JSON. Larger agents are uploaded as an archive.
pub const DEPLOY_MAX: usize = 64 << 20;

/// A JSON body of at most `MAX` bytes. No body is `{}`, with or without a content type.
#[derive(Debug)]
pub struct Json<T, const MAX: usize = JSON_MAX>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Json<T, MAX> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        parse(&json_of(request, MAX).await?).map(Self)
    }
}

/// A JSON body like [`Json`] whose type takes some of its fields from `F` (`serde(flatten)`), where
/// an error in them would not name the field.
#[derive(Debug)]
pub struct Flat<T, F, const MAX: usize = JSON_MAX>(pub T, pub PhantomData<F>);

impl<S: Send + Sync, T: DeserializeOwned, F: DeserializeOwned, const MAX: usize> FromRequest<S> for Flat<T, F, MAX> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let text = json_of(request, MAX).await?;
        match parse(&text) {
            Ok(value) => Ok(Self(value, PhantomData)),
            Err(failure) => Err(parse::<F>(&text).err().unwrap_or(failure)),
        }
    }
}

/// The text of a body of JSON, in the room of its request.
async fn json_of(request: Request, max: usize) -> Result<Bytes, Failure> {
    let room = request.extensions().get::<Room>().cloned();
    text(request, max, room.as_ref()).await
}

/// The text of a body of JSON, at most so many bytes; of no body, that of an empty object. Its caller has seen to
/// the memory that it takes.
pub async fn json_text(request: Request, max: usize) -> Result<Bytes, Failure> {
    text(request, max, None).await
}

async fn text(request: Request, max: usize, room: Option<&Room>) -> Result<Bytes, Failure> {
    let is_json = is_json(&request);
    let body = body::read(request, max, room).await?;
    if body.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    if !is_json {
        let sentence = "The body has to be JSON, with Content-Type: application/json";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, sentence));
    }
    Ok(body)
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json")
}

/// Reads a JSON value that is no list, all of the text.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    // Derived types read their fields from a list as well, one after the other.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Failure::invalid("The body has to be a JSON object, and is a list"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        // serde names it in its sentence alone, and takes its parent for the place.
        let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", Some(name)) => Failure::field(name, "is missing"),
            (path, Some(name)) => Failure::field(format!("{path}.{name}"), "is missing"),
            (".", None) => Failure::invalid(format!("The body is not what this route takes: {reason}")),
            _ => Failure::field(path, reason),
        }
    })?;
    reader.end().map_err(|error| Failure::invalid(format!("The body goes on after its JSON value: {error}")))?;
    Ok(value)
}

/// A part of the path, read into its type.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<S: Send + Sync, T> FromRequestParts<S> for Id<T>
where
    T: std::str::FromStr + Send,
    T::Err: std::fmt::Display,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|e| Failure::field("id", e.body_text()))?;
        text.parse().map(Self).map_err(|e: T::Err| Failure::field("id", e.to_string()))
    }
}

/// Two parts of the path, the second within the first.
#[derive(Debug)]
pub struct Ids<T, U>(pub T, pub U);

impl<S: Send + Sync, T, U> FromRequestParts<S> for Ids<T, U>
where
    T: std::str::FromStr + Send,
    T::Err: std::fmt::Display,
    U: std::str::FromStr + Send,
    U::Err: std::fmt::Display,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let texts = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let texts = texts.map_err(|e| match e.body_text() {
            text if text.contains("UTF-8") => Failure::field("path", "is not UTF-8"),
            text => Failure::field("id", text),
        })?;
        let texts = texts.0;
        let [(first, one), (second, other)] = &texts[..] else { return Err(Failure::field("id", "is missing")) };
        let one = one.parse().map_err(|e: T::Err| Failure::field(first, e.to_string()))?;
        let other = other.parse().map_err(|e: U::Err| Failure::field(second, e.to_string()))?;
        Ok(Self(one, other))
    }
}

/// The query, read into its type.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|e| Failure::invalid(format!("The query can not be read: {}", inner_text(&e))))
    }
}

fn inner_text(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // The layer before every route that takes one has put it there.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Failure::unauthorized("Missing Authorization header"))
    }
}

/// A whole number of the query within its bounds.
pub fn in_range(field: &str, value: Option<i64>, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, Failure> {
    match value {
        Some(value) if !range.contains(&value) => {
            let reason = if *range.end() == i64::MAX {
                format!("has to be at least {}", range.start())
            } else {
                format!("has to be from {} to {}", range.start(), range.end())
            };
            Err(Failure::field(field, reason))
        }
        value => Ok(value),
    }
}

/// A text of the query, read into its type.
pub fn read<T: std::str::FromStr>(field: &str, text: Option<&str>) -> Result<Option<T>, Failure>
where
    T::Err: std::fmt::Display,
{
    text.map(str::parse).transpose().map_err(|error: T::Err| Failure::field(field, error.to_string()))
}

/// `after` and `limit` of a list that is read in pages: what follows the id `after` (default 0, from
/// the start), at most `limit` of it (1 to 1000).
pub fn page(after: Option<i64>, limit: Option<i64>, default: i64) -> Result<(i64, usize), Failure> {
    let limit = in_range("limit", limit, 1..=1000)?.unwrap_or(default);
    let after = in_range("after", after, 0..=i64::MAX)?.unwrap_or(0);
    Ok((after, limit as usize))
}

/// The header `Idempotency-Key`: 1 to 255 printable ASCII characters, also spaces.
#[derive(Debug)]
pub struct IdempotencyKey(Option<String>);

/// Longest key; what other services take.
const KEY_MAX: usize = 255;

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let key = value.to_str().ok().filter(|key| (1..=KEY_MAX).contains(&key.len()));
        let reason = format!("has to be 1 to {KEY_MAX} printable ASCII characters");
        key.map(|key| Self(Some(key.to_owned()))).ok_or_else(|| Failure::field("Idempotency-Key", reason))
    }
}

impl IdempotencyKey {
    /// The key with the message or the item that it came with.
    pub fn of<T: serde::Serialize>(self, message: &T) -> Option<TurnKey> {
        let body = serde_json::to_vec(message).unwrap_or_default();
        self.0.map(|key| TurnKey { key, message: Sha256::digest(body).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::session::CreateSession;

    async fn read<T: DeserializeOwned>(kind: Option<&str>, body: &'static str) -> Result<T, Failure> {
        let mut request = Request::builder().uri("/");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(axum::body::Body::from(body)).expect("a request");
        Json::<T, 100>::from_request(request, &()).await.map(|Json(value)| value)
    }

    #[tokio::test]
    async fn no_body_is_an_empty_object() {
        for kind in [None, Some("application/json")] {
            let value: serde_json::Value = read(kind, "").await.expect("reads");
            assert_eq!(value, serde_json::json!({}));
        }
    }

    #[tokio::test]
    async fn errors_name_the_field_and_the_limit() {
        let error = format!(
            "{:?}",
            read::<crate::wire::agent::DeployBody>(Some("application/json"), r#"{"name":"x","files":[{"path":1}]}"#).await
        );
        assert!(error.contains("files[0].path"), "{error}");
        let error = format!("{:?}", read::<CreateSession>(Some("text/plain"), "{}x").await);
        assert!(error.contains("415"), "{error}");
        let long = concat!(
            "\"",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "\""
        );
        let error = format!("{:?}", read::<serde_json::Value>(Some("application/json"), long).await);
        assert!(error.contains("413"), "{error}");
    }

    #[tokio::test]
    async fn too_deep_and_trailing_json_is_refused() {
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        let error = parse::<serde_json::Value>(deep.as_bytes()).expect_err("too deep");
        assert!(format!("{error:?}").contains("recursion limit"), "{error:?}");
        assert!(parse::<serde_json::Value>(b"{} {}").is_err());
    }

    #[test]
    fn a_list_is_no_object() {
        for list in ["[]", " [null, null]", "[\"x\"]"] {
            let error = format!("{:?}", parse::<crate::wire::agent::AgentPatch>(list.as_bytes()).expect_err(list));
            assert!(error.contains("and is a list"), "{error}");
        }
    }
}
