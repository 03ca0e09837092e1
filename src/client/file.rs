//! Files of the workspace of a session, and what was said in its sandbox.

use hyper::Method;
use serde::Serialize;

use super::{Answer, Client, ClientError, Download, Path, segment};
use crate::wire::SessionId;
use crate::wire::file::{DeletedFile, FileList, WrittenList};
use crate::wire::log::LogList;

/// A file to write.
#[derive(Debug, Clone, Serialize)]
pub struct NewFile {
    /// Its path in the workspace.
    pub path: String,
    /// What is in it, in base64.
    pub content: String,
}

#[derive(Serialize)]
struct WriteBody<'a> {
    files: &'a [NewFile],
}

/// The address of a file, of which each name is a segment.
fn path_of(id: SessionId, path: &str) -> String {
    let names: Vec<_> = path.split('/').map(segment).collect();
    format!("/api/sessions/{id}/files/{}", names.join("/"))
}

impl Client {
    /// `GET /api/sessions/{id}/logs`: what was said in the sandbox, behind the line of this index. With
    /// `wake`, one that is frozen is thawed for it.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn logs(&self, id: SessionId, after: Option<u64>, wake: bool) -> Result<Answer<LogList>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/logs")).with("after", after).with("wake", wake.then_some(true));
        self.call(Method::GET, &path.0, None).await
    }

    /// `GET /api/sessions/{id}/files`: the files of the workspace; without `hidden`, without caches and the
    /// like.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn files(&self, id: SessionId, hidden: bool) -> Result<Answer<FileList>, ClientError> {
        let path = Path::new(format!("/api/sessions/{id}/files")).with("includeHidden", (!hidden).then_some(false));
        self.call(Method::GET, &path.0, None).await
    }

    /// `GET /api/sessions/{id}/files/{path}`: what is in a file.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn read_file(&self, id: SessionId, path: &str) -> Result<Download, ClientError> {
        let answer = self.exchange(&path_of(id, path), self.request(Method::GET, None)).await?;
        Ok(Download { body: answer.into_body(), server: self.server().clone() })
    }

    /// `POST /api/sessions/{id}/files`: writes files, with the folders on the way to them.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn write_files(&self, id: SessionId, files: &[NewFile]) -> Result<Answer<WrittenList>, ClientError> {
        self.send(Method::POST, &format!("/api/sessions/{id}/files"), &WriteBody { files }).await
    }

    /// `DELETE /api/sessions/{id}/files/{path}`: deletes a file.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_file(&self, id: SessionId, path: &str) -> Result<Answer<DeletedFile>, ClientError> {
        self.call(Method::DELETE, &path_of(id, path), None).await
    }
}
