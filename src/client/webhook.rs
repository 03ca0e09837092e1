//! Webhooks.

use hyper::Method;

use super::{Answer, Client, ClientError, Done, Path};
use crate::wire::WebhookId;
use crate::wire::webhook::{ChangeWebhook, CreateWebhook, DeliveryBody, DeliveryList, WebhookBody, WebhookList};

impl Client {
    /// `POST /api/webhooks`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_webhook(&self, body: &CreateWebhook) -> Result<Answer<WebhookBody>, ClientError> {
        self.send(Method::POST, "/api/webhooks", body).await
    }

    /// `GET /api/webhooks`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn webhooks(&self) -> Result<Answer<WebhookList>, ClientError> {
        self.get("/api/webhooks").await
    }

    /// `GET /api/webhooks/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn webhook(&self, id: WebhookId) -> Result<Answer<WebhookBody>, ClientError> {
        self.get(&format!("/api/webhooks/{id}")).await
    }

    /// `PATCH /api/webhooks/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_webhook(&self, id: WebhookId, body: &ChangeWebhook) -> Result<Answer<WebhookBody>, ClientError> {
        self.send(Method::PATCH, &format!("/api/webhooks/{id}"), body).await
    }

    /// `DELETE /api/webhooks/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_webhook(&self, id: WebhookId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/webhooks/{id}"), None).await
    }

    /// `POST /api/webhooks/{id}/test`: sends a test, and tells what came of it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn test_webhook(&self, id: WebhookId) -> Result<Answer<DeliveryBody>, ClientError> {
        self.call(Method::POST, &format!("/api/webhooks/{id}/test"), None).await
    }

    /// `GET /api/webhooks/{id}/deliveries`: the newest deliveries before one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn deliveries(&self, id: WebhookId, before: Option<i64>, limit: u32) -> Result<Answer<DeliveryList>, ClientError> {
        let path = Path::new(format!("/api/webhooks/{id}/deliveries")).with("before", before).with("limit", Some(limit));
        self.get(&path.0).await
    }

    /// `POST /api/webhooks/{id}/deliveries/{delivery}/redeliver`: sends it once more.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn redeliver(&self, id: WebhookId, delivery: i64) -> Result<Answer<DeliveryBody>, ClientError> {
        self.call(Method::POST, &format!("/api/webhooks/{id}/deliveries/{delivery}/redeliver"), None).await
    }
}
