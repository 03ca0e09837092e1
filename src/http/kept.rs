//! Answers that are in memory as a whole. Each keeps its place until the connection has taken it.

use std::convert::Infallible;
use std::task::Poll;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;

use super::places::Place;

/// Bytes that a connection gets at a time. It asks for more when little waits to be sent.
const PIECE: usize = 64 << 10;

/// A body of these bytes. Its length is not known to the connection: the answer has to have a header that tells.
pub fn body(mut bytes: Bytes, place: Place) -> Body {
    Body::from_stream(stream::poll_fn(move |_| {
        // Moved into the body with this.
        let _place = &place;
        let piece = bytes.split_to(bytes.len().min(PIECE));
        Poll::Ready((!piece.is_empty()).then_some(Ok::<_, Infallible>(piece)))
    }))
}

/// An answer of JSON.
pub async fn json(value: impl Serialize, place: Place) -> Response {
    let (mut head, bytes) = Json(value).into_response().into_parts();
    // It is whole, and no error comes out of it.
    let bytes = to_bytes(bytes, usize::MAX).await.unwrap_or_default();
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Response::from_parts(head, body(bytes, place))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::http::places::Places;

    #[tokio::test]
    async fn an_answer_keeps_its_place_until_it_is_taken() {
        static PLACES: Places = Places::new(4);
        let text = "x".repeat(3 * PIECE);
        let answer = json(&text, PLACES.take_many("a", 3).expect("room")).await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], (text.len() + 2).to_string());
        let mut body = answer.into_body();
        let mut taken = Vec::new();
        while taken.len() < text.len() + 2 {
            assert!(PLACES.take("a").is_none());
            let piece = body.frame().await.expect("more").expect("no error").into_data().expect("data");
            assert!(piece.len() <= PIECE);
            taken.extend(piece);
        }
        assert!(body.frame().await.is_none());
        drop(body);
        assert!(PLACES.take("a").is_some());
        assert_eq!(taken, format!("\"{text}\"").into_bytes());
        // Nor does one stay that nobody reads.
        drop(json(&text, PLACES.take_many("a", 3).expect("room")).await);
        assert!(PLACES.take("a").is_some());
    }
}
