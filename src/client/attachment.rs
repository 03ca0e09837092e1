//! Files that are given to a session.

use hyper::Method;

use super::{Answer, Client, ClientError, Done, Download};
use crate::wire::attachment::{AttachBody, AttachmentBody, AttachmentList};
use crate::wire::{AttachmentId, SessionId};

impl Client {
    /// `POST /api/sessions/{id}/attachments`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn attach(&self, id: SessionId, body: &AttachBody<'_>) -> Result<Answer<AttachmentBody>, ClientError> {
        self.send(Method::POST, &format!("/api/sessions/{id}/attachments"), body).await
    }

    /// `GET /api/sessions/{id}/attachments`: oldest first.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn attachments(&self, id: SessionId) -> Result<Answer<AttachmentList>, ClientError> {
        self.get(&format!("/api/sessions/{id}/attachments")).await
    }

    /// `GET /api/attachments/{id}`: what is in it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn read_attachment(&self, id: AttachmentId) -> Result<Download, ClientError> {
        let answer = self.exchange(&format!("/api/attachments/{id}"), self.request(Method::GET, None)).await?;
        Ok(Download { body: answer.into_body(), server: self.server().clone() })
    }

    /// `DELETE /api/attachments/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_attachment(&self, id: AttachmentId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/attachments/{id}"), None).await
    }
}
