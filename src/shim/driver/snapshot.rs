//! A snapshot's way out of the sandbox, and what is left to do when one came in.
//!
//! No turn begins while the sandbox is packed; a runtime that is up stays so, and is idle as far as
//! it is asked. Should it begin a turn of its own, its transcript only grows at its end.
//!
//! What else runs inside goes on, and may see to it that an archive has no end: a file that is moved from a folder that
//! was packed into one that is still to come is packed again. So an archive has a bound ([`packed_most`]). It follows from
//! what the session may have; of one that has more, and goes on as it is, from what it has, which is measured when the
//! first bound is reached.

use tokio::sync::mpsc;

use super::{Driver, Session};
use crate::link::shim::{EXCLUDES_BYTES_MAX, EXCLUDES_MAX, FromShim, HOME_INSIDE, Op, PACK_CREDIT, WORKSPACE_INSIDE};
use crate::report;
use crate::runtime::{Adapter, claude::Claude};
use crate::shim::bwrap::INIT_INSIDE;
use crate::shim::connection::ConnectionId;
use crate::shim::disk::{Found, Seen, Taken};
use crate::shim::pack::{self, FromPack};
use crate::wire::limits::Reached;

/// What an archive has for a file beside the blocks of its contents, and more: three headers of 512 bytes, up to 4 KiB of a
/// hole at its end that is not worth a piece, the end of a block. It is also what a limit gives for a file.
const PACKED_PER_FILE: u64 = 8 << 10;
/// Where the pieces of files with holes are takes 24 bytes for at least 4 KiB: less than one part in so many.
const PACKED_PIECES_PART: u64 = 128;
/// What may come beyond that: what is written, packed and removed by those who work meanwhile.
const PACKED_MARGIN: u64 = 64 << 20;

/// Longest id of a conversation; usual is a UUID.
const CONVERSATION_MAX: usize = 128;

/// The packing that is under way.
#[derive(Debug)]
pub struct Packing {
    connection: ConnectionId,
    op: Op,
    /// What comes of it.
    archive: mpsc::Receiver<FromPack>,
    /// Chunks that may be sent.
    credit: u32,
    /// Bytes that came of it.
    bytes: u64,
    /// How many may come; `None` where the disk has no limit.
    most: Option<u64>,
    /// Whether so many came, and what is there is being measured.
    is_held: bool,
}

impl Packing {
    /// What comes of it, if more was asked for.
    pub fn sendable(&mut self) -> Option<&mut mpsc::Receiver<FromPack>> {
        (self.credit > 0 && !self.is_held).then_some(&mut self.archive)
    }

    /// Names it.
    pub const fn op(&self) -> Op {
        self.op
    }
}

impl Driver {
    pub(super) fn pack(&mut self, connection: ConnectionId, op: Op, excludes: &[String]) {
        let refusal = match () {
            () if self.unpacking.is_some() => "the workspace is being unpacked",
            () if self.packing.is_some() => "the sandbox is being packed",
            () if self.stop_at.is_some() => "the sandbox is being stopped",
            () if self.has_turn() => "a turn is running",
            () => refuse_excludes(excludes).unwrap_or(""),
        };
        let refused = |driver: &mut Self, reason: &str| driver.reply(connection, op, Err(reason.to_owned()));
        let Some(inner) = self.inner().filter(|_| refusal.is_empty()) else {
            return refused(self, if refusal.is_empty() { "the sandbox is not open" } else { refusal });
        };
        let mut argv = snapshot_argv("pack");
        argv.extend(excludes.iter().flat_map(|pattern| ["--exclude".to_owned(), pattern.clone()]));
        tracing::debug!("packing begins");
        let (archive, most) = (pack::start(inner, argv), self.disk.most_allowed().map(packed_most));
        self.packing = Some(Packing { connection, op, archive, credit: PACK_CREDIT, bytes: 0, most, is_held: false });
    }

    pub(super) fn pack_more(&mut self, op: Op, chunks: u32) {
        if let Some(packing) = self.packing.as_mut().filter(|packing| packing.op == op) {
            packing.credit = packing.credit.saturating_add(chunks);
        }
    }

    pub(super) fn pack_stop(&mut self, op: Op, reason: &str) {
        if let Some(packing) = self.packing.take_if(|packing| packing.op == op) {
            tracing::info!(reason, "packing is stopped");
            self.reply(packing.connection, op, Err(reason.to_owned()));
        }
    }

    /// Takes what came of the packing.
    pub(super) fn packed(&mut self, came: FromPack) {
        let Some(packing) = &mut self.packing else { return };
        let (connection, op) = (packing.connection, packing.op);
        match came {
            FromPack::Chunk(chunk) => {
                packing.credit -= 1;
                packing.bytes = packing.bytes.saturating_add(chunk.len() as u64);
                packing.is_held = packing.most.is_some_and(|most| packing.bytes > most);
                let is_held = packing.is_held;
                if let Some(link) = self.link.as_mut().filter(|link| link.id == connection) {
                    link.chunk(&chunk);
                }
                if is_held && !self.disk.measure() {
                    self.pack_stop(op, &self.disk.cause(Taken::default()));
                }
            }
            FromPack::Ended(result) => {
                self.packing = None;
                let conversation = self.memory.conversation();
                match result {
                    Ok(()) => {
                        if let Some(link) = self.link.as_mut().filter(|link| link.id == connection) {
                            link.end_chunks();
                            let leftover = self.gateway.leftover();
                            link.answer(&FromShim::Packed { op, conversation, leftover });
                        }
                    }
                    Err(error) => {
                        let error = report::chain(&error);
                        tracing::warn!(error, "sandbox was not packed");
                        self.reply(connection, op, Err(error));
                    }
                }
            }
        }
    }

    /// Lets a packing go on that brought more than the session may have, if what is there makes as much; or ends it.
    pub(super) fn weigh_packing(&mut self, found: &Found) {
        let Some(packing) = self.packing.as_mut().filter(|packing| packing.is_held) else { return };
        let op = packing.op;
        let cause = match (found.seen(), self.disk.most_allowed()) {
            // Meanwhile there is no limit any more.
            (_, None) => {
                (packing.most, packing.is_held) = (None, false);
                return;
            }
            // That look was under way already, and ended where it was too much.
            (Seen::Part, _) if self.disk.measure() => return,
            (Seen::All(all), Some(limit)) => {
                let most = packed_most(all).max(packed_most(limit));
                packing.most = Some(most);
                packing.is_held = packing.bytes > most;
                if !packing.is_held {
                    return;
                }
                Reached::Disk.cause(format!(
                    "more than {} MiB were packed, and workspace and HOME do not make as much: they change while they are packed",
                    most >> 20
                ))
            }
            _ => self.disk.cause(Taken::default()),
        };
        self.pack_stop(op, &cause);
    }

    /// Ends a packing whose connection is not the one that counts any more.
    pub(super) fn pack_unlinked(&mut self) {
        let link = self.link.as_ref().map(|link| link.id);
        if self.packing.take_if(|packing| link != Some(packing.connection)).is_some() {
            tracing::info!(reason = "its connection is gone", "packing is stopped");
        }
    }

    pub(super) fn has_turn(&mut self) -> bool {
        self.turns.current().is_some() || self.session.as_ref().is_some_and(|session| session.adapter.running().is_some())
    }

    /// Takes over the conversation of a snapshot that was restored.
    pub(super) fn adopt(&mut self, conversation: Option<String>) -> Result<(), String> {
        let remembered = match &conversation {
            Some(id) => self.memory.set_conversation(id),
            None => self.memory.forget_conversation(),
        };
        remembered.map_err(|error| format!("write to the spool folder: {error}"))?;
        if let Some(Session { setup, adapter }) = &mut self.session {
            *adapter = Box::new(Claude::new(setup.session, conversation, true));
        }
        Ok(())
    }
}

/// How many bytes an archive has at most of what takes so much of the disk.
fn packed_most(taken: Taken) -> u64 {
    let files = taken.files.saturating_mul(PACKED_PER_FILE);
    let parts = [taken.bytes / PACKED_PIECES_PART, files, PACKED_MARGIN];
    parts.into_iter().fold(taken.bytes, u64::saturating_add)
}

/// A command of `ash-init` that works on a snapshot.
pub fn snapshot_argv(command: &str) -> Vec<String> {
    let mut argv = [INIT_INSIDE, command, WORKSPACE_INSIDE, HOME_INSIDE].map(str::to_owned).to_vec();
    argv.extend(state_options());
    argv
}

/// Names what the runtime keeps of its conversation to such a command.
pub fn state_options() -> Vec<String> {
    Claude::state().iter().flat_map(|path| ["--state", path]).map(str::to_owned).collect()
}

/// Why these can not be the patterns of what is left out.
pub fn refuse_excludes(excludes: &[String]) -> Option<&'static str> {
    if excludes.len() > EXCLUDES_MAX || excludes.iter().map(String::len).sum::<usize>() > EXCLUDES_BYTES_MAX {
        return Some("there are too many patterns of what to leave out");
    }
    excludes.iter().any(|pattern| pattern.contains('\0')).then_some("a pattern has a NUL in it")
}

/// Why a conversation can not have this id.
pub fn refuse_conversation(id: &str) -> Option<&'static str> {
    let is_id =
        !id.is_empty() && id.len() <= CONVERSATION_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (!is_id).then_some("the id of the conversation is not one")
}
