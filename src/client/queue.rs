//! The queue.

use hyper::Method;

use super::{Answer, Client, ClientError, Path};
use crate::wire::QueueId;
use crate::wire::queue::{Enqueue, QueueItemBody, QueueList, QueueResult, QueueStatsBody, QueueStatus};

impl Client {
    /// `POST /api/queue`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn enqueue(&self, body: &Enqueue) -> Result<Answer<QueueItemBody>, ClientError> {
        self.send(Method::POST, "/api/queue", body).await
    }

    /// `GET /api/queue`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn queue(&self, status: Option<QueueStatus>, limit: Option<u32>) -> Result<Answer<QueueList>, ClientError> {
        let path = Path::new("/api/queue").with("status", status.map(QueueStatus::as_str)).with("limit", limit);
        self.get(&path.0).await
    }

    /// `GET /api/queue/stats`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn queue_stats(&self) -> Result<Answer<QueueStatsBody>, ClientError> {
        self.get("/api/queue/stats").await
    }

    /// `GET /api/queue/{id}`: as soon as it is over, or after so many seconds as it is then.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn queue_item(&self, id: QueueId, wait: Option<u32>) -> Result<Answer<QueueItemBody>, ClientError> {
        let path = Path::new(format!("/api/queue/{id}")).with("wait", wait);
        self.call(Method::GET, &path.0, None).await
    }

    /// `GET /api/queue/{id}/result`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn queue_result(&self, id: QueueId) -> Result<Answer<QueueResult>, ClientError> {
        self.get(&format!("/api/queue/{id}/result")).await
    }

    /// `DELETE /api/queue/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn cancel_item(&self, id: QueueId, force: bool) -> Result<Answer<QueueItemBody>, ClientError> {
        let path = Path::new(format!("/api/queue/{id}")).with("force", force.then_some(true));
        self.call(Method::DELETE, &path.0, None).await
    }
}
