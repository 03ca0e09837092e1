//! Layers: what `install.sh` of a version made of the workspace, kept for all of its sessions.
//!
//! A layer is made by the first session that needs it, in a sandbox of its own which is no session's: it
//! has what belongs to the version, and neither the caller's variables nor a key. Others wait for it, and
//! share its failure. It is kept like a snapshot, whole or not at all, and each session begins with a copy
//! of it. What is left of one that was broken off is a sandbox of no session, which the next start or
//! sweep removes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::interval;

use super::driver::{about, write};
use super::farewell::listening;
use super::open::{OPEN_SILENCE, OpenError, options, send_version, while_it_moves};
use super::scripts::{self, BEAT, Ran, Script};
use super::{Context, Sessions, limits, security};
use crate::agent::manifest::INSTALL;
use crate::agent::{ContentError, Digest, Version};
use crate::crypt::env::KeptEnv;
use crate::link::daemon::{Connection, connect};
use crate::link::shim::{Gateway, Room, Setup, ToShim};
use crate::report::chain;
use crate::sandbox::Spec;
use crate::snapshot::{Reader, Reason, SnapshotError, SnapshotId, Snapshots};
use crate::store::SessionRow;
use crate::wire::session::SessionConfig;
use crate::wire::{SandboxId, SessionId};

/// What a call of the model is told.
const NO_MODEL: &str = "no call of the model leaves while an agent is installed";
/// Layers have no events.
const EVENT: i64 = 0;

/// How making a layer ended, once it has.
type Outcome = watch::Receiver<Option<Result<(), String>>>;

/// The layers of all versions.
#[derive(Debug)]
pub(super) struct Layers {
    kept: Snapshots,
    making: Mutex<HashMap<Digest, Outcome>>,
}

impl Layers {
    /// Keeps them there.
    pub fn new(kept: Snapshots) -> Self {
        Self { kept, making: Mutex::default() }
    }
}

/// The name under which the layer of a version is kept. Digests are longer, and as good as random.
fn id(digest: &Digest) -> SnapshotId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.bytes()[..16]);
    SnapshotId { session: SessionId::from_uuid(uuid::Uuid::from_bytes(bytes)), event: EVENT }
}

/// Opens the layer of a version, which is made if it is not there; `None` if the version needs none.
pub(super) async fn open(
    context: &Arc<Context>,
    session: &SessionRow,
    version: &Version,
    moves: &watch::Sender<()>,
) -> Result<Option<Reader>, OpenError> {
    if !version.has_file(INSTALL) {
        return Ok(None);
    }
    let digest = *version.digest();
    match read(context, &digest, moves).await {
        Ok(reader) => return Ok(Some(reader)),
        Err(SnapshotError::NotFound(_) | SnapshotError::Damaged { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut outcome = outcome(context, session, version);
    let mut beat = interval(BEAT);
    let made = loop {
        tokio::select! {
            made = outcome.wait_for(Option::is_some) => break made.ok().and_then(|made| made.clone()),
            // It ends in time by itself.
            _ = beat.tick() => { moves.send_replace(()); }
        }
    };
    match made {
        Some(Ok(())) => Ok(Some(read(context, &digest, moves).await?)),
        Some(Err(reason)) => Err(OpenError::Layer(reason)),
        None => Err(OpenError::Layer("it was broken off".to_owned())),
    }
}

/// Opens a layer, all of which is read before, and `moves` with each piece.
async fn read(context: &Context, digest: &Digest, moves: &watch::Sender<()>) -> Result<Reader, SnapshotError> {
    let moves = moves.clone();
    context.layers.kept.read_telling(id(digest), move || moves.send_replace(())).await
}

/// How making a layer ends. It is begun if nobody makes it.
fn outcome(context: &Arc<Context>, session: &SessionRow, version: &Version) -> Outcome {
    // A map is whole after a panic between two of its operations.
    let mut making = context.layers.making.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = *version.digest();
    if let Some(outcome) = making.get(&digest) {
        return outcome.clone();
    }
    let (told, outcome) = watch::channel(None);
    making.insert(digest, outcome.clone());
    let (context, version) = (context.clone(), version.clone());
    let maker = SessionRow {
        id: id(&digest).session,
        sandbox: SandboxId::new(),
        model: None,
        system_prompt: None,
        prompt_version: None,
        extra_env: KeptEnv::default(),
        config: SessionConfig::default(),
        parent: None,
        conversed: false,
        tail: 0,
        granted: Vec::new(),
        sandbox_boot: None,
        heard: None,
        ..session.clone()
    };
    tokio::spawn(async move {
        let closing = context.closing.clone();
        let made = tokio::select! {
            made = make(&context, &maker, &version) => made.map_err(|error| chain(&error)),
            () = closing.cancelled() => Err("the daemon is stopping".to_owned()),
        };
        if let Err(error) = &made {
            tracing::warn!(agent = maker.agent, version = %version.digest(), error, "an agent could not be installed");
        }
        context.layers.making.lock().unwrap_or_else(PoisonError::into_inner).remove(version.digest());
        // Those who wait may have given up.
        told.send_replace(Some(made));
    });
    outcome
}

async fn make(context: &Arc<Context>, maker: &SessionRow, version: &Version) -> Result<(), OpenError> {
    // Somebody else may have made it since it was looked for.
    match context.layers.kept.check(id(version.digest())).await {
        Ok(_) => return Ok(()),
        Err(SnapshotError::NotFound(_) | SnapshotError::Damaged { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let _installing = context.sweeping.install(maker.sandbox);
    let made = fill_and_keep(context, maker, version).await;
    context.clear_later(maker.sandbox);
    made
}

async fn fill_and_keep(context: &Context, maker: &SessionRow, version: &Version) -> Result<(), OpenError> {
    let moves = watch::Sender::new(());
    let filled = while_it_moves(fill(context, maker, version, &moves), moves.subscribe(), OPEN_SILENCE).await;
    let (mut connection, ran) = filled.unwrap_or(Err(OpenError::Slow))?;
    let about = about(context, maker, EVENT, Vec::new(), Reason::Install);
    // Bounded by itself, as far as the disk is not waited for.
    let packing = write(&context.layers.kept, connection.handle.clone(), about);
    let packed = listening(&mut connection, packing).await.map_err(OpenError::Pack)?;
    tracing::info!(
        agent = maker.agent, version = %version.digest(), millis = ran.took.as_millis(), bytes = packed.stored_bytes,
        output = ran.said, "agent installed"
    );
    Ok(())
}

/// Brings up a sandbox with the version's files, and runs the script in it.
async fn fill(
    context: &Context,
    maker: &SessionRow,
    version: &Version,
    moves: &watch::Sender<()>,
) -> Result<(Connection, Ran), OpenError> {
    let mut definition = version.definition()?;
    let rules = std::mem::take(&mut definition.install);
    let limits = limits::of_unit(&limits::of(context, maker));
    security::admit(context, maker).await.map_err(Box::new)?;
    let weaknesses = context.settings.walls.weaknesses().await?;
    let runtime = context.runtime.find(context.settings.runtime.as_deref()).await?;
    let spec = Spec { sandbox: maker.sandbox, session: maker.id, agent: maker.agent.clone(), limits };
    let started = context.launcher.start(&spec).await?;
    let mut connection = connect(&started.socket).await?;
    let room = Room { runtime: runtime.display().to_string(), tmp_bytes: context.settings.tmp_bytes, weaknesses };
    let setup = Box::new(Setup {
        session: maker.id,
        agent: maker.agent.clone(),
        env: scripts::environment(definition),
        gateway: Gateway { refusal: Some(NO_MODEL.to_owned()), ..context.settings.gateway.clone() },
        options: options(context, maker, None)?,
        resume: false,
        egress: scripts::egress(context, maker, &rules),
    });
    let shim = connection.handle.clone();
    let filled = async {
        shim.call(|op| ToShim::Open { op, room }).await?;
        shim.call(|op| ToShim::Setup { op, setup }).await?;
        send_version(version.clone(), &shim, Vec::new()).await?;
        moves.send_replace(());
        Ok::<_, OpenError>(Script { name: INSTALL, rules: &rules, starts: false }.run(&shim, moves).await?)
    };
    // What happens belongs to no log.
    let ran = listening(&mut connection, filled).await?;
    Ok((connection, ran))
}

/// Why layers that nobody needs could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The versions can not be listed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Layers can not be listed or removed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A task was broken off.
    #[error("the work was broken off")]
    Broken(#[from] tokio::task::JoinError),
}

impl Sessions {
    /// Removes the layers of versions that are not here any more.
    ///
    /// # Errors
    ///
    /// See [`LayerError`].
    pub async fn remove_old_layers(&self) -> Result<(), LayerError> {
        let layers = &self.context.layers.kept;
        // In the opposite order of making.
        let there = layers.sessions().await?;
        let versions = self.context.versions.clone();
        let versions = tokio::task::spawn_blocking(move || versions.list()).await??;
        let kept: HashSet<_> = versions.iter().map(|version| id(&version.digest).session).collect();
        for layer in there.into_iter().filter(|layer| !kept.contains(layer)) {
            layers.remove_all(layer).await?;
            tracing::info!(layer = %layer, "what was installed for a version that is gone was removed");
        }
        Ok(layers.sweep().await?)
    }
}
