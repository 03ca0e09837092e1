//! The workspace's way out while the sandbox works on.
//!
//! Each export is a task, which packs with the sandbox's rights and sends what comes as parts with the
//! number of its request: no more of them than were asked for, so that a slow reader holds up nothing
//! but its own packing.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::snapshot::refuse_excludes;
use super::{Driver, Input};
use crate::link::frame;
use crate::link::shim::{EXPORTS_MAX, HOME_INSIDE, Op, PACK_CREDIT, WORKSPACE_INSIDE};
use crate::report;
use crate::shim::bwrap::INIT_INSIDE;
use crate::shim::connection::ConnectionId;
use crate::shim::inner::{Inner, InnerError};
use crate::shim::pack::{self, FromPack, PackError};

/// An export that is under way.
#[derive(Debug)]
pub struct Export {
    connection: ConnectionId,
    op: Op,
    /// Parts that may be sent; closed, it ends the export.
    credit: Arc<Semaphore>,
}

impl Driver {
    pub(super) fn export(&mut self, connection: ConnectionId, op: Op, excludes: &[String]) {
        let refusal = match () {
            () if self.unpacking.is_some() => Some("the workspace is being unpacked"),
            () if self.stop_at.is_some() => Some("the sandbox is being stopped"),
            () if self.exports.len() >= EXPORTS_MAX => Some("too many are reading the workspace"),
            () => refuse_excludes(excludes),
        };
        let out = self.link.as_ref().filter(|link| link.id == connection).map(|link| link.out.clone());
        let (Some(inner), Some(out), None) = (self.inner(), out, refusal) else {
            return self.reply(connection, op, Err(refusal.unwrap_or("the sandbox is not open").to_owned()));
        };
        let mut argv = [INIT_INSIDE, "pack", WORKSPACE_INSIDE, HOME_INSIDE].map(str::to_owned).to_vec();
        argv.extend(excludes.iter().flat_map(|pattern| ["--exclude".to_owned(), pattern.clone()]));
        let credit = Arc::new(Semaphore::new(PACK_CREDIT as usize));
        self.exports.push(Export { connection, op, credit: credit.clone() });
        self.later(async move { Input::Exported(connection, op, send(inner, argv, op, out, &credit).await) });
    }

    pub(super) fn export_more(&self, op: Op, parts: u32) {
        if let Some(export) = self.exports.iter().find(|export| export.op == op) {
            // One that asks for more than it can need gets no more than the semaphore holds.
            let room = Semaphore::MAX_PERMITS - export.credit.available_permits();
            export.credit.add_permits(room.min(parts as usize));
        }
    }

    pub(super) fn export_stop(&self, op: Op) {
        if let Some(export) = self.exports.iter().find(|export| export.op == op) {
            export.credit.close();
        }
    }

    /// Ends exports whose connection is not the one that counts any more.
    pub(super) fn export_unlinked(&self) {
        let link = self.link.as_ref().map(|link| link.id);
        self.exports.iter().filter(|export| link != Some(export.connection)).for_each(|export| export.credit.close());
    }

    /// An export has ended, and what it had to send was sent.
    pub(super) fn exported(&mut self, connection: ConnectionId, op: Op, result: Result<(), PackError>) {
        self.exports.retain(|export| (export.connection, export.op) != (connection, op));
        let result = result.map_err(|error| report::chain(&error));
        if let Err(error) = &result {
            tracing::info!(error, "workspace was not sent whole");
        }
        self.reply(connection, op, result);
    }
}

/// Sends an archive part by part.
async fn send(inner: Inner, argv: Vec<String>, op: Op, out: mpsc::Sender<Vec<u8>>, credit: &Semaphore) -> Result<(), PackError> {
    let mut archive = pack::start(inner, argv);
    loop {
        match credit.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(PackError::Failed("nobody wants it any more".to_owned())),
        }
        match archive.recv().await.unwrap_or_else(FromPack::lost) {
            FromPack::Chunk(chunk) => {
                let part = frame::encode_part(op, &chunk).map_err(|error| PackError::Failed(error.to_string()))?;
                out.send(part).await.map_err(|_| InnerError::Gone)?;
            }
            FromPack::Ended(result) => return result,
        }
    }
}
