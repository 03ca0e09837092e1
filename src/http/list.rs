//! Long lists, written while they are read. Their rows are of any size, such as what a tool printed,
//! so a list as a whole is never in memory: a batch is read from the store when the one before is on
//! its way.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Failure;
use crate::store::StoreError;

/// Rows read at a time, and their bytes, which one row may exceed.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 1 << 20;

/// Reads a list.
pub trait Source: Send + 'static {
    /// A place in the list.
    type Place: Send;
    /// A row of the store.
    type Row: Send;
    /// What the list shows of it.
    type Shown: Serialize;

    /// The rows that follow `after`, at most `limit` of them and `bytes` of data, but one in any case
    /// if there is one.
    fn read(
        &self,
        after: &Self::Place,
        limit: usize,
        bytes: usize,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Where a row stands, and what is shown of it, if anything is.
    fn show(&self, row: &Self::Row) -> (Self::Place, Option<Self::Shown>);
}

struct Writer<S: Source> {
    source: S,
    after: S::Place,
    /// Rows that the caller still wants.
    left: usize,
    /// What was read and is to be written next; empty at the end of the list.
    batch: Vec<S::Row>,
    /// What goes before the next item.
    before: String,
    /// What goes behind the list.
    behind: String,
    over: bool,
}

/// Answers `{"<name>":[…]}` with at most `limit` rows that follow `after`.
///
/// # Errors
///
/// Those of the first batch. A later one breaks the answer off.
pub async fn respond<S: Source>(name: &str, source: S, after: S::Place, limit: usize) -> Result<Response, Failure> {
    respond_with(name, source, after, limit, &json!({})).await
}

/// The same, with the members of `more`, an object, behind the list.
///
/// # Errors
///
/// As of [`respond`].
pub async fn respond_with<S: Source>(
    name: &str,
    source: S,
    after: S::Place,
    limit: usize,
    more: &Value,
) -> Result<Response, Failure> {
    let behind = match more.to_string() {
        none if none == "{}" => "]}".to_owned(),
        more => format!("],{}", &more[1..]),
    };
    let before = format!("{{\"{name}\":[");
    let mut writer = Writer { source, after, left: limit, batch: Vec::new(), before, behind, over: false };
    writer.read().await?;
    let pieces = stream::unfold(writer, |mut writer| async move {
        let piece = writer.next().await?;
        Some((piece, writer))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl<S: Source> Writer<S> {
    async fn read(&mut self) -> Result<(), StoreError> {
        self.batch = match self.left {
            0 => Vec::new(),
            left => self.source.read(&self.after, left.min(BATCH), BATCH_BYTES).await?,
        };
        self.left -= self.batch.len().min(self.left);
        Ok(())
    }

    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        if self.over {
            return None;
        }
        let mut text = Vec::new();
        for row in std::mem::take(&mut self.batch) {
            let (at, shown) = self.source.show(&row);
            self.after = at;
            let Some(shown) = shown else { continue };
            text.extend_from_slice(self.before.as_bytes());
            if let Err(error) = serde_json::to_writer(&mut text, &shown) {
                return self.broken(error.into());
            }
            ",".clone_into(&mut self.before);
        }
        if let Err(error) = self.read().await {
            return self.broken(std::io::Error::other(error));
        }
        if self.batch.is_empty() {
            self.over = true;
            // Of an empty list, nothing was written yet.
            text.extend_from_slice(if self.before == "," { "" } else { &self.before }.as_bytes());
            text.extend_from_slice(self.behind.as_bytes());
        }
        Some(Ok(Bytes::from(text)))
    }

    /// The answer ends in the middle, as a list that is not whole would be a lie.
    fn broken(&mut self, error: std::io::Error) -> Option<std::io::Result<Bytes>> {
        self.over = true;
        tracing::warn!(error = %error, "a list was broken off, as its rows can not be read");
        Some(Err(error))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    /// Rows 1 to 300; some are not shown, and reading fails from `broken` on.
    struct Numbers {
        broken: i64,
    }

    impl Source for Numbers {
        type Place = i64;
        type Row = i64;
        type Shown = i64;

        async fn read(&self, &after: &i64, limit: usize, _bytes: usize) -> Result<Vec<i64>, StoreError> {
            if after + 1 >= self.broken {
                return Err(StoreError::Unavailable("gone".to_owned()));
            }
            // One less than asked for, as if the bytes were bounded.
            Ok((after + 1..=300).take(limit.max(2) - 1).collect())
        }

        fn show(&self, row: &i64) -> (i64, Option<i64>) {
            (*row, (row % 10 != 0).then_some(*row))
        }
    }

    async fn list(broken: i64, after: i64, limit: usize) -> Result<Value, String> {
        let response = respond("numbers", Numbers { broken }, after, limit).await.map_err(|failure| format!("{failure:?}"))?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_list_has_what_was_asked_for_however_it_is_read() {
        for (after, limit) in [(0, 1), (0, 5), (0, 127), (0, 128), (0, 129), (0, 1000), (295, 10), (300, 10), (9, 1), (40, 0)] {
            let wanted: Vec<i64> = (after + 1..=300).take(limit).filter(|number| number % 10 != 0).collect();
            assert_eq!(list(i64::MAX, after, limit).await, Ok(json!({"numbers": wanted})), "{limit} after {after}");
        }
    }

    #[tokio::test]
    async fn a_list_that_can_not_be_read_whole_is_no_list() {
        let first = list(0, 0, 10).await.expect_err("fails before its head");
        assert!(first.contains("Failure"), "{first}");
        let later = list(200, 0, 1000).await.expect_err("fails in the middle");
        assert!(later.contains("gone"), "{later}");
    }
}
