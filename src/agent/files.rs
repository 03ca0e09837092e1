//! Single files of an agent: read out of its newest version, and changed by making another one.

use std::io::Read;

use super::entry::{EntryFault, clean_file_path};
use super::service::{AgentError, Agents};
use super::{ContentError, Digest, FileInfo, Version, decode_files};
use crate::store::AgentRow;
use crate::wire::agent::FileBody;

/// Names that are not listed, and what is below them.
const HIDDEN: [&str; 11] =
    ["node_modules", ".git", "__pycache__", ".cache", ".npm", ".pnpm-store", ".yarn", ".venv", "venv", ".tmp", "tmp"];

impl Agents {
    /// The files of an agent's newest version, by path, without caches and the like.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::NoFolder`].
    pub async fn files(&self, tenant: &str, name: &str) -> Result<Vec<FileInfo>, AgentError> {
        let version = self.newest(tenant, name).await?.1;
        let files = tokio::task::spawn_blocking(move || version.list()).await??;
        let is_shown = |file: &FileInfo| !file.path.split('/').any(|name| HIDDEN.contains(&name));
        Ok(files.into_iter().filter(is_shown).collect())
    }

    /// What is in a file of an agent's newest version, of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], and those that are about a file.
    pub async fn read_file(&self, tenant: &str, name: &str, path: &str, max: u64) -> Result<Vec<u8>, AgentError> {
        let version = self.newest(tenant, name).await?.1;
        let path = checked(path)?;
        let reading = move || {
            let (mut file, size) = open(&version, &path)?;
            if size > max {
                return Err(AgentError::FileTooLarge { size, max });
            }
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(ContentError::host("read", version.path().join(&path)))?;
            Ok(content)
        };
        tokio::task::spawn_blocking(reading).await?
    }

    /// Makes a version with these files put in or over those of the newest one.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], [`AgentError::Escapes`], [`AgentError::Content`].
    pub async fn write_files(&self, tenant: &str, name: &str, files: &[FileBody]) -> Result<AgentRow, AgentError> {
        let decoded = decode_files(files)?;
        let clean = |(path, content): (String, Vec<u8>)| match checked(&path) {
            Ok(clean) => Ok((clean, content)),
            Err(_) => Err(AgentError::Escapes(path)),
        };
        let files = decoded.into_iter().map(clean).collect::<Result<Vec<_>, _>>()?;
        self.change(tenant, name, files, None).await
    }

    /// Makes a version without this file.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotFound`], and those that are about a file.
    pub async fn delete_file(&self, tenant: &str, name: &str, path: &str) -> Result<AgentRow, AgentError> {
        let path = match checked(path) {
            Err(AgentError::Path) => return Err(AgentError::Escapes(path.to_owned())),
            path => path?,
        };
        self.change(tenant, name, Vec::new(), Some(path)).await
    }

    async fn change(
        &self,
        tenant: &str,
        name: &str,
        files: Vec<(String, Vec<u8>)>,
        removed: Option<String>,
    ) -> Result<AgentRow, AgentError> {
        // It is never closed.
        let _alone = self.changing.acquire().await;
        let (digest, version) = self.newest(tenant, name).await?;
        let versions = self.versions.clone();
        let making = move || {
            if let Some(path) = &removed {
                open(&version, path)?;
            }
            Ok::<_, AgentError>(versions.deploy_changed(&digest, &files, removed.as_slice())?)
        };
        let version = tokio::task::spawn_blocking(making).await??;
        Ok(self.store.deploy_agent(tenant, name, &version.digest().to_string(), None).await?)
    }

    async fn newest(&self, tenant: &str, name: &str) -> Result<(Digest, Version), AgentError> {
        let digest: Digest = self.get(tenant, name).await?.digest.parse().map_err(|_| AgentError::NoFolder)?;
        let version = self.versions.get(&digest).ok_or(AgentError::NoFolder)?;
        Ok((digest, version))
    }
}

fn checked(path: &str) -> Result<String, AgentError> {
    if path.is_empty() {
        return Err(AgentError::NoPath);
    }
    clean_file_path(path.as_bytes()).map_err(|_| AgentError::Path)
}

fn open(version: &Version, path: &str) -> Result<(std::fs::File, u64), AgentError> {
    match version.open(path) {
        Ok(found) => found.ok_or(AgentError::NoFile),
        Err(ContentError::Entry { fault: EntryFault::NotAFile, .. }) => Err(AgentError::NotFile),
        Err(error) => Err(error.into()),
    }
}
