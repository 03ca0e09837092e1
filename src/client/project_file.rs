//! Files of the tenant.

use hyper::Method;

use super::{Answer, Client, ClientError, Done, Download, Path};
use crate::wire::FileId;
use crate::wire::project_file::{FileLink, ProjectFileBody, ProjectFileList, UploadFile};

impl Client {
    /// `POST /api/files`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn upload_file(&self, body: &UploadFile<'_>) -> Result<Answer<ProjectFileBody>, ClientError> {
        self.send(Method::POST, "/api/files", body).await
    }

    /// `GET /api/files`: the newest before one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn files_of_tenant(&self, before: Option<FileId>, limit: u32) -> Result<Answer<ProjectFileList>, ClientError> {
        let path = Path::new("/api/files").with("before", before).with("limit", Some(limit));
        self.get(&path.0).await
    }

    /// `GET /api/files/{id}/content`: what is in it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn read_project_file(&self, id: FileId) -> Result<Download, ClientError> {
        let answer = self.exchange(&format!("/api/files/{id}/content"), self.request(Method::GET, None)).await?;
        Ok(Download { body: answer.into_body(), server: self.server().clone() })
    }

    /// `GET /api/files/{id}/url`: a link that is good for so many seconds.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn file_link(&self, id: FileId, seconds: Option<u64>) -> Result<Answer<FileLink>, ClientError> {
        self.get(&Path::new(format!("/api/files/{id}/url")).with("expiresIn", seconds).0).await
    }

    /// `DELETE /api/files/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_project_file(&self, id: FileId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/files/{id}"), None).await
    }
}
