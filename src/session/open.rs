//! Bringing up the sandbox of a session: processes, connection, setup, workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::driver::PackError;
use super::scripts::{self, Script, ScriptError};
use super::{Context, SessionError, Times, attachments, binding, egress, gateway, layer, limits, security};
use crate::agent::manifest::{MCP_SERVERS, STARTUP, ScriptRules};
use crate::agent::{ContentError, Definition, Digest, Overlay, Version};
use crate::archive::entry::{self, Entry};
use crate::archive::{HOME, WORK};
use crate::config::runtime::{self, RuntimeError};
use crate::config::settings::SnapshotPolicy;
use crate::credential::CredentialError;
use crate::crypt::env::EnvOwner;
use crate::crypt::master::SealError;
use crate::fault::{self, Point};
use crate::link::daemon::{Connection, LinkError, ShimHandle, connect};
use crate::link::frame::CHUNK;
use crate::link::shim::{Gateway, RawValueEq, Room, SessionOptions, Setup, ShimState, ToShim};
use crate::report::chain;
use crate::runtime::claude::transcript;
use crate::sandbox::spec::bounds;
use crate::sandbox::walls::WallError;
use crate::sandbox::{LaunchError, Limits, Spec};
use crate::snapshot::{Reader, SnapshotError};
use crate::store::{NewEvent, SessionRow, StoreError, now};
use crate::telemetry::trace::{self, TraceContext};
use crate::wire::eval::ChatMessage;
use crate::wire::quantity::{ByteCount, TimeSpan};
use crate::wire::session::{McpServer, PermissionMode, Status};

/// How long a sandbox may take to end by itself before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long it may take until a sandbox is open and set up, and from one piece of a snapshot that is put
/// into it to the next: all of them take as long as there are files.
pub(super) const OPEN_SILENCE: Duration = Duration::from_secs(60);
/// Pieces of an archive that wait between the folder and the socket.
pub(super) const PIECES: usize = 4;
/// What a byte of an archive takes on the disk at most, of which so many bytes come with a file (8 KiB): each file has
/// a header of 512.
const ON_DISK_MAX: u64 = 16;
/// The environment variable that is never given to a sandbox: its value becomes the key that the
/// gateway sends.
pub(super) const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";

/// The runtime's program as it was when its version was last asked for.
#[derive(Debug, Default)]
pub struct Runtime {
    asked: tokio::sync::Mutex<Option<(PathBuf, SystemTime, u64)>>,
    version: std::sync::Mutex<String>,
}

impl Runtime {
    /// Finds the program and makes sure that it is one whose language the shim speaks. It is
    /// looked for each time, so that one which was just installed is found, and asked for its
    /// version when it is another file than the last time.
    pub(super) async fn find(&self, configured: Option<&Path>) -> Result<PathBuf, RuntimeError> {
        let path = runtime::find(configured)?;
        let inspect = |source| RuntimeError::Inspect { path: path.clone(), source };
        let metadata = std::fs::metadata(&path).map_err(inspect)?;
        let found = Some((path.clone(), metadata.modified().map_err(inspect)?, metadata.len()));
        let mut asked = self.asked.lock().await;
        if *asked != found {
            let version = runtime::version(&path, runtime::VERSION_DEADLINE).await?;
            tracing::info!(path = %path.display(), version = %version, "runtime found");
            *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = version.to_string();
            *asked = found;
        }
        Ok(path)
    }
}

impl Runtime {
    /// The version that was found last; empty before the first.
    pub fn version(&self) -> String {
        self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Why a sandbox could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// This host can not confine one.
    #[error(transparent)]
    Walls(#[from] WallError),
    /// Its processes could not be started.
    #[error("start sandbox")]
    Launch(#[from] LaunchError),
    /// Its shim can not be spoken to, or could not do its part.
    #[error("set up sandbox")]
    Link(#[from] LinkError),
    /// The database failed.
    #[error("read agent")]
    Store(#[from] StoreError),
    /// The agent's files can not be read.
    #[error("read agent")]
    Content(#[from] ContentError),
    /// The snapshot can not be read.
    #[error("read the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The agent's files are not here.
    #[error(transparent)]
    Session(#[from] Box<SessionError>),
    /// The session's credential can not be used.
    #[error("the session's credential can not be used (PATCH …/config gives it another credentialId, or \"\" for none)")]
    Credential(#[from] CredentialError),
    /// The environment of the session or its agent can not be opened.
    #[error("open the environment")]
    Env(#[from] SealError),
    /// The session's configuration can not be passed on.
    #[error("{0}")]
    Config(String),
    /// A script of the agent did not do its work.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// What the agent installs could not be kept.
    #[error("keep what the agent installed")]
    Pack(#[source] PackError),
    /// The agent could not be installed, by another task.
    #[error("{0}")]
    Layer(String),
    /// It took too long.
    #[error("the sandbox did not come up, and nothing came of it for {} seconds", OPEN_SILENCE.as_secs())]
    Slow,
}

/// A sandbox that is up.
#[derive(Debug)]
pub struct Opened {
    /// Speaks with it.
    pub connection: Connection,
    /// What is in it.
    pub source: Source,
    /// The event of the script that was run in it, if it is new and its agent has one.
    pub startup: Option<NewEvent>,
}

/// Where the workspace and the conversation in a sandbox came from.
#[derive(Debug)]
pub enum Source {
    /// They were there, and so were its processes.
    Alive,
    /// They were there, as its last processes left them.
    Folder,
    /// A snapshot.
    Snapshot {
        /// Its event.
        event: i64,
        /// The event as of which its content is: that of the snapshot of which it is a copy, if it is one.
        content: i64,
        /// Events of newer ones, which are damaged.
        skipped: Vec<i64>,
        /// The version of the runtime that its conversation is of, if that is another one than now.
        runtime: Option<(String, String)>,
    },
    /// Nothing was left: the agent's files are there as they were deployed.
    Fresh {
        /// Events of its snapshots, all of which are damaged.
        skipped: Vec<i64>,
    },
}

impl Source {
    /// Whether its processes were there: `warm` or `cold`, as the wire contract says.
    pub const fn path(&self) -> &'static str {
        if matches!(self, Self::Alive) { "warm" } else { "cold" }
    }

    /// Where a cold one came from, as the wire contract says.
    pub const fn cold_source(&self) -> Option<&'static str> {
        match self {
            Self::Alive => None,
            Self::Folder | Self::Snapshot { .. } => Some("local"),
            Self::Fresh { .. } => Some("fresh"),
        }
    }

    /// The same in the words of the metrics.
    const fn start(&self) -> Option<&'static str> {
        match self {
            Self::Alive => None,
            Self::Folder => Some("folder"),
            Self::Snapshot { .. } => Some("snapshot"),
            Self::Fresh { .. } => Some("fresh"),
        }
    }

    /// Data of the event that tells of it. `action` is what was done with the session.
    pub fn describe(&self, action: &str) -> Value {
        let mut data = serde_json::json!({"action": action, "path": self.path()});
        if let Some(source) = self.cold_source() {
            data["source"] = source.into();
        }
        if let Self::Snapshot { event, runtime, .. } = self {
            data["event"] = (*event).into();
            if let Some((packed, now)) = runtime {
                data["runtimeVersion"] = serde_json::json!({"packed": packed, "now": now});
            }
        }
        if let Self::Snapshot { skipped, .. } | Self::Fresh { skipped } = self
            && !skipped.is_empty()
        {
            data["skipped"] = skipped.clone().into();
        }
        data
    }
}

/// Brings up the sandbox of a session, or finds it up. It is told of at this place of a trace.
pub async fn open(context: Arc<Context>, session: SessionRow, place: Option<TraceContext>) -> Result<Opened, OpenError> {
    let moves = watch::Sender::new(());
    let began = tokio::time::Instant::now();
    let mut span = context.settings.tracer.child("ash.sandbox.start", place.as_ref());
    let opening = while_it_moves(open_unbounded(&context, &session, &moves), moves.subscribe(), OPEN_SILENCE);
    let opened = trace::within(span.context().cloned(), opening).await;
    let opened = opened.unwrap_or(Err(OpenError::Slow));
    if span.is_kept() {
        span.set("ash.session.id", session.id.to_string());
        span.set("ash.sandbox.id", session.sandbox.to_string());
        span.set("gen_ai.agent.name", session.agent.as_str());
        span.set("ash.sandbox.source", opened.as_ref().map_or("none", |opened| opened.source.start().unwrap_or("alive")));
        span.heed(&opened);
    }
    drop(span);
    match opened.as_ref().map(|opened| opened.source.start()) {
        Ok(Some(source)) => {
            context.metrics.sandbox_start_seconds.with_label_values(&[source]).observe(began.elapsed().as_secs_f64());
        }
        Ok(None) => {}
        Err(_) => context.metrics.sandbox_start_failures.inc(),
    }
    opened
}

/// Waits for work that may take as long as it moves; `None` when it did not for so long.
pub(super) async fn while_it_moves<T>(
    work: impl Future<Output = T>,
    mut moves: watch::Receiver<()>,
    silence: Duration,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            Ok(()) = moves.changed() => {}
            () = tokio::time::sleep(silence) => return None,
        }
    }
}

async fn open_unbounded(context: &Arc<Context>, session: &SessionRow, moves: &watch::Sender<()>) -> Result<Opened, OpenError> {
    let version = version(context, &session.agent, &session.digest).map_err(Box::new)?;
    let definition = version.definition()?;
    let limits = limits::of_unit(&limits::of(context, session));
    let spec = Spec { sandbox: session.sandbox, session: session.id, agent: session.agent.clone(), limits };
    let tracer = &context.settings.tracer;
    let started = tracer.here("ash.sandbox.launch").around(context.launcher.start(&spec)).await?;
    if started.running {
        // One that is frozen would not answer.
        context.launcher.thaw(session.sandbox).await?;
    } else {
        fault::at(Point::OpenStarted);
    }
    let mut connection = tracer.here("ash.sandbox.connect").around(connect(&started.socket)).await?;
    let Connection { state, handle, events } = &mut connection;
    let prepared = prepare(context, session, version, definition, (state, handle), moves);
    let (source, startup) = events.held_during(prepared).await?;
    Ok(Opened { connection, source, startup })
}

/// Brings up what is in a sandbox whose shim is connected.
async fn prepare(
    context: &Arc<Context>,
    session: &SessionRow,
    version: Version,
    definition: Definition,
    (state, shim): (&mut ShimState, &ShimHandle),
    moves: &watch::Sender<()>,
) -> Result<(Source, Option<NewEvent>), OpenError> {
    // Whoever brings up a session that has ended wants its files alone, and they are nowhere else.
    let is_over = session.status == Status::Ended;
    let startup = (!is_over && version.has_file(STARTUP)).then(|| definition.startup.clone());
    if let Some((_, through)) = session.heard.filter(|(life, _)| *life == state.incarnation) {
        // Before anything that makes events: a shim that lost some of its spool goes on counting
        // after these, and so gives no number twice.
        shim.send(&ToShim::Ack { through: through.unsigned_abs() }).await?;
    }
    if state.session.is_some() && state.unpacked {
        // Otherwise a daemon ended before the script did, which ended with its connection.
        let is_started = state.started.unwrap_or(true);
        if !is_over {
            attachments::lay(context, session, shim, &Source::Alive, moves).await;
        }
        let startup = start_up(context, session, shim, startup.filter(|_| !is_started).as_ref(), moves).await?;
        return Ok((Source::Alive, startup));
    }
    // Only now, since a sandbox that lives needs neither to be connected to.
    if !is_over {
        security::admit(context, session).await.map_err(Box::new)?;
    }
    let weaknesses = context.settings.walls.weaknesses().await?;
    let runtime = context.runtime.find(context.settings.runtime.as_deref()).await?;
    let without = weaknesses.clone();
    let room = Room { runtime: runtime.display().to_string(), tmp_bytes: context.settings.tmp_bytes, weaknesses };
    shim.call(|op| ToShim::Open { op, room }).await?;
    fault::at(Point::OpenRoom);
    // The conversation has to be there when the shim hears of it.
    let tracer = &context.settings.tracer;
    let source = if state.unpacked {
        Source::Folder
    } else {
        tracer.here("ash.sandbox.restore").around(restore(context, session, shim, moves)).await?
    };
    if !state.unpacked && !matches!(source, Source::Fresh { .. }) {
        fault::at(Point::OpenRestored);
    }
    let (layer, history) = match source {
        Source::Fresh { .. } if !is_over => {
            let layer = tracer.here("ash.sandbox.install").around(layer::open(context, session, &version, moves)).await?;
            (layer, context.store.history_of(session.id).await?)
        }
        _ => (None, None),
    };
    let over = if matches!(source, Source::Fresh { .. }) { over(&version, session)? } else { Vec::new() };
    let has_layer = layer.is_some();
    // It is whole when the last part is there: whoever comes after this daemon begins anew before that.
    let more = history.is_some() || !over.is_empty();
    if let Some(reader) = layer {
        feed(context, session, reader, (None, more), shim, moves).await?;
    }
    let mut setup = Box::new(setup(context, session, definition).await?);
    if let Some(history) = history {
        lay_history(context, session, &history, shim).await?;
        setup.resume = true;
        fault::at(Point::OpenLaid);
    }
    if let Some(rules) = &startup {
        setup.egress = scripts::egress(context, session, rules);
    }
    tracer.here("ash.sandbox.setup").around(shim.call(|op| ToShim::Setup { op, setup })).await?;
    fault::at(Point::OpenSetUp);
    if matches!(source, Source::Fresh { .. }) {
        let unpacking = async {
            match has_layer {
                false => send_version(version, shim, over).await,
                true if !more => Ok(()),
                true => lay_over(&over, shim).await,
            }
        };
        tracer.here("ash.sandbox.unpack").around(unpacking).await?;
    }
    if !is_over {
        attachments::lay(context, session, shim, &source, moves).await;
    }
    let startup = start_up(context, session, shim, startup.as_ref(), moves).await?;
    fault::at(Point::OpenDone);
    if let Some(confined) = &mut state.confined {
        confined.without = Some(without);
    }
    Ok((source, startup))
}

/// Runs the script of a new sandbox, which after it may reach what its session may. Where it fails, no
/// session is made; one that is there goes on without, as it has no other version of the script to
/// go on with.
async fn start_up(
    context: &Context,
    session: &SessionRow,
    shim: &ShimHandle,
    rules: Option<&ScriptRules>,
    moves: &watch::Sender<()>,
) -> Result<Option<NewEvent>, OpenError> {
    let Some(rules) = rules else { return Ok(None) };
    let script = Script { name: STARTUP, rules, starts: true };
    let outcome = match context.settings.tracer.here("ash.sandbox.startup").around(script.run(shim, moves)).await {
        Err(error @ ScriptError::Failed { .. }) if session.status != Status::Starting => {
            tracing::warn!(session_id = %session.id, agent = session.agent, error = chain(&error), "the sandbox goes on without");
            Err(error)
        }
        outcome => Ok(outcome?),
    };
    if rules.egress.is_some() {
        let egress = Box::new(egress::settings(context, session));
        shim.call(|op| ToShim::Egress { op, egress }).await?;
    }
    Ok(Some(scripts::started(&outcome)))
}

/// Brings the workspace and the conversation back from the newest snapshot, if there is one. It `moves`
/// with each piece.
async fn restore(
    context: &Context,
    session: &SessionRow,
    shim: &ShimHandle,
    moves: &watch::Sender<()>,
) -> Result<Source, OpenError> {
    let looked_through = moves.clone();
    let moves_on = move || {
        looked_through.send_replace(());
    };
    let newest = context.snapshots.read_newest_telling(session.id, moves_on).await?;
    let skipped = newest.skipped;
    let Some(reader) = newest.reader else { return Ok(Source::Fresh { skipped }) };
    let manifest = reader.manifest().clone();
    // Where the runtime's name of the conversation is that of the session it was packed from.
    let origin = manifest.forked_from.map(|origin| origin.session.to_string());
    let conversation = manifest.conversation.or(origin);
    let began = tokio::time::Instant::now();
    feed(context, session, reader, (conversation, false), shim, moves).await?;
    context.metrics.snapshot_restore_seconds.observe(began.elapsed().as_secs_f64());
    tracing::info!(session_id = %session.id, event = manifest.event, bytes = manifest.tar_bytes, "workspace and conversation restored");
    let now = context.runtime.version();
    let runtime = (manifest.runtime_version != now).then_some((manifest.runtime_version, now));
    if let Some((packed, now)) = &runtime {
        tracing::info!(session_id = %session.id, packed, now, "the conversation is of another version of the runtime");
    }
    let content = manifest.forked_from.map_or(manifest.event, |origin| origin.event);
    Ok(Source::Snapshot { event: manifest.event, content, skipped, runtime })
}

/// Has a shim restore what was packed. It `moves` with each piece.
///
/// What was packed may be more than the session may have, as a session is put away as it is: it comes back, and its
/// shim says so. So a quota of the file system counts from when all is there. Until then it is lifted as far as so large an
/// archive can need it, and no further. Nothing else runs inside meanwhile.
async fn feed(
    context: &Context,
    session: &SessionRow,
    reader: Reader,
    how: (Option<String>, bool),
    shim: &ShimHandle,
    moves: &watch::Sender<()>,
) -> Result<(), OpenError> {
    let limits = limits::of_unit(&limits::of(context, session));
    let most = reader.manifest().tar_bytes.saturating_mul(ON_DISK_MAX).min(*bounds::DISK.end());
    if most <= limits.disk.0 || !context.launcher.quota(Some(session.sandbox)).await? {
        return feed_all(reader, how, shim, moves).await;
    }
    let all = Limits { disk: ByteCount(most), ..limits };
    context.launcher.limit(session.sandbox, &all).await?;
    feed_all(reader, how, shim, moves).await?;
    Ok(context.launcher.limit(session.sandbox, &limits).await?)
}

async fn feed_all(
    mut reader: Reader,
    (conversation, more): (Option<String>, bool),
    shim: &ShimHandle,
    moves: &watch::Sender<()>,
) -> Result<(), OpenError> {
    let (pieces, received) = mpsc::channel(PIECES);
    let moved = moves.clone();
    let reading = tokio::spawn(async move {
        loop {
            let piece = match reader.chunk().await {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return,
                Err(error) => Err(std::io::Error::other(error)),
            };
            let is_error = piece.is_err();
            // If the other end is gone, nobody needs to know.
            if pieces.send(piece).await.is_err() || is_error {
                return;
            }
            moved.send_replace(());
            fault::at(Point::OpenRestoring);
        }
    });
    let restored = shim.restore(conversation, more, received).await;
    // It ends with its channel, and reports through it.
    let _ = reading.await;
    Ok(restored?)
}

/// What becomes of a session when nothing happens in it, and of its snapshots: the host's rules, and
/// what its agent asks for.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The lesser times of both.
    pub times: Times,
    /// The agent's, or else the host's.
    pub policy: SnapshotPolicy,
    /// What the agent wants left out.
    pub excludes: Vec<String>,
    /// How long a sandbox may live.
    pub lifetime: Option<TimeSpan>,
}

/// The rules for a session. An agent whose files are missing asks for nothing.
pub fn rules(context: &Context, session: &SessionRow) -> Rules {
    let definition = version(context, &session.agent, &session.digest).ok().and_then(|version| version.definition().ok());
    let (host, policy) = (context.settings.times, context.settings.snapshots.policy);
    let lifetime = limits::said(context, session, definition.as_ref()).lifetime;
    let own = session.config.limits.and_then(|limits| limits.idle);
    let host = Times { park_after: own.map_or(host.park_after, |own| host.park_after.min(Duration::from_secs(own.0))), ..host };
    let Some(definition) = definition else { return Rules { times: host, policy, excludes: Vec::new(), lifetime } };
    let least = |host: Duration, asked: Option<TimeSpan>| asked.map_or(host, |asked| host.min(Duration::from_secs(asked.0)));
    let times = Times {
        freeze_after: least(host.freeze_after, definition.sessions.freeze_after),
        park_after: least(host.park_after, definition.sessions.park_after),
    };
    let policy = definition.snapshots.policy.unwrap_or(policy);
    Rules { times, policy, excludes: definition.snapshots.exclude, lifetime }
}

/// The files of a session's agent.
pub fn version(context: &Context, agent: &str, digest: &str) -> Result<Version, SessionError> {
    let folder = match digest.parse::<Digest>() {
        Ok(digest) => match context.versions.get(&digest) {
            Some(version) => return Ok(version),
            None => context.versions.path_of(&digest).display().to_string(),
        },
        Err(_) => digest.to_owned(),
    };
    Err(SessionError::NoVersion { agent: agent.to_owned(), path: folder })
}

/// What agent, deploy and session say of the environment. `env` is what the agent's own file says, and
/// `kept` what the session's credential does.
pub(super) async fn environment(
    context: &Context,
    session: &SessionRow,
    mut env: BTreeMap<String, String>,
    kept: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, OpenError> {
    let (tenant, credentials) = (session.tenant.clone(), &context.settings.credentials);
    // An agent that was deleted since leaves its sessions without its environment, not unusable.
    match context.store.get_agent(&session.tenant, &session.agent).await {
        Ok(agent) => env.extend(credentials.open_env(&EnvOwner::Agent { tenant, name: agent.name }, &agent.env)?),
        Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    env.extend(kept);
    env.extend(own_environment(context, session)?);
    Ok(env)
}

/// What the session itself says of it.
pub(super) fn own_environment(context: &Context, session: &SessionRow) -> Result<BTreeMap<String, String>, SealError> {
    context.settings.credentials.open_env(&session.env_owner(), &session.extra_env)
}

async fn setup(context: &Context, session: &SessionRow, definition: Definition) -> Result<Setup, OpenError> {
    // Whoever brings up one that has ended wants its files alone.
    let kept = match session.config.credential_id.as_ref().filter(|_| session.status != Status::Ended) {
        Some(credential) => context.settings.credentials.environment(&session.tenant, credential, session.id).await?,
        None => BTreeMap::new(),
    };
    let mut env = environment(context, session, definition.env, kept).await?;
    let bindings = binding::of(context, session, &BTreeSet::new()).await?;
    let gateway = Gateway { bindings, ..gateway::of(context, &mut env) };
    let mut options = options(context, session, definition.model)?;
    // Also of a session without a conversation, which may be one whose turns were all cut off.
    options.limits.budget.before = Some(context.store.spent(session.id).await?);
    Ok(Setup {
        session: session.id,
        agent: session.agent.clone(),
        env,
        gateway,
        options,
        resume: session.conversed,
        egress: egress::settings(context, session),
    })
}

/// A session's configuration in the words of its shim. `model` is the agent's.
pub(super) fn options(context: &Context, session: &SessionRow, model: Option<String>) -> Result<SessionOptions, OpenError> {
    let config = &session.config;
    let mode = config.permission_mode.unwrap_or(PermissionMode::BypassPermissions);
    let (permission_mode, asks) = match mode {
        PermissionMode::BypassPermissions => ("bypassPermissions", false),
        PermissionMode::PermissionsByAgent | PermissionMode::Default => ("default", false),
        PermissionMode::Ask => ("default", true),
        PermissionMode::AcceptEdits => ("acceptEdits", true),
        PermissionMode::Plan => ("plan", true),
    };
    let subagents = config.subagents.as_ref().map(serde_json::value::to_raw_value).transpose();
    let subagents = subagents.map_err(|e| OpenError::Config(format!("subagents: {e}")))?;
    Ok(SessionOptions {
        model: session.model.clone().or(model),
        permission_mode: permission_mode.to_owned(),
        allowed_tools: config.allowed_tools.clone().unwrap_or_default(),
        disallowed_tools: config.disallowed_tools.clone().unwrap_or_default(),
        betas: config.betas.clone().unwrap_or_default(),
        subagents: subagents.map(|subagents| Box::new(RawValueEq(subagents))),
        initial_agent: config.initial_agent.clone(),
        ask: asks.then_some(context.settings.ask),
        granted: session.granted.clone(),
        limits: limits::of_turns(context, session),
    })
}

/// What a session's turns may use now. An agent whose files are missing names no model.
pub fn current_options(context: &Context, session: &SessionRow) -> Result<SessionOptions, OpenError> {
    let definition = version(context, &session.agent, &session.digest).ok().and_then(|version| version.definition().ok());
    options(context, session, definition.and_then(|definition| definition.model))
}

/// What the session puts over the agent's files.
fn over(version: &Version, session: &SessionRow) -> Result<Vec<(&'static str, Vec<u8>)>, OpenError> {
    let servers = session.config.mcp_servers.as_ref().filter(|servers| !servers.is_empty());
    let servers = servers.map(|servers| with_servers(version, servers)).transpose()?;
    let prompt = session.system_prompt.clone().map(|text| ("CLAUDE.md", text.into_bytes()));
    Ok(prompt.into_iter().chain(servers.map(|file| (MCP_SERVERS, file))).collect())
}

/// Lays these over a workspace, which is whole then.
async fn lay_over(files: &[(&str, Vec<u8>)], shim: &ShimHandle) -> Result<(), OpenError> {
    let (pieces, received) = mpsc::channel(PIECES);
    // All of it has room in the channel.
    pieces.send(Ok(bundle_of(files).map_err(LinkError::Source)?)).await.map_err(|_| LinkError::Closed)?;
    drop(pieces);
    Ok(shim.lay(false, received).await?)
}

/// Puts what was said before a session began where the runtime takes it for the beginning of its conversation.
async fn lay_history(
    context: &Context,
    session: &SessionRow,
    history: &[ChatMessage],
    shim: &ShimHandle,
) -> Result<(), OpenError> {
    let id = session.id.to_string();
    let text = transcript::write(session.id, history, session.created_at, &context.runtime.version());
    let (pieces, received) = mpsc::channel(PIECES);
    let archive = archive_of(HOME, 0o600, &[(&transcript::path(&id), text)]).map_err(LinkError::Source)?;
    pieces.send(Ok(archive)).await.map_err(|_| LinkError::Closed)?;
    drop(pieces);
    Ok(shim.lay_conversation(received).await?)
}

/// An archive of these files that can be laid over a workspace.
fn bundle_of(files: &[(&str, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    archive_of(WORK, 0o644, files)
}

/// An archive of these files below one of its roots.
fn archive_of(root: &str, mode: u32, files: &[(&str, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (path, content) in files {
        let (path, size) = (format!("{root}/{path}"), content.len() as u64);
        let kind = tar::EntryType::Regular;
        let mtime = i128::from(now().millis()) * 1_000_000;
        Entry { kind, path: path.as_bytes(), target: b"", mode, mtime, attributes: &[], size }.write(&mut archive)?;
        archive.write_all(content)?;
        entry::pad(&mut archive, size)?;
    }
    entry::end(&mut archive)?;
    Ok(archive)
}

/// Sends a version's files, with others in or over them.
pub(super) async fn send_version(
    version: Version,
    shim: &ShimHandle,
    over: Vec<(&'static str, Vec<u8>)>,
) -> Result<(), OpenError> {
    let (pieces, received) = mpsc::channel(PIECES);
    let packing = tokio::task::spawn_blocking(move || {
        let overlays: Vec<_> = over.iter().map(|(path, content)| Overlay { path, content }).collect();
        let mut writer = PieceWriter::new(pieces.clone());
        let packed = version.write_tar(&mut writer, &overlays).map_err(std::io::Error::other).and_then(|()| writer.flush());
        if let Err(error) = packed {
            // The other end is told in place of the rest; if it is gone, nobody needs to know.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let unpacked = shim.unpack(received).await;
    // The packer ends with its channel, and reports through it.
    let _ = packing.await;
    Ok(unpacked?)
}

/// The agent's MCP servers with those of the session, which win.
fn with_servers(version: &Version, servers: &BTreeMap<String, McpServer>) -> Result<Vec<u8>, OpenError> {
    let config = |e: serde_json::Error| OpenError::Config(format!("mcpServers: {e}"));
    let mut file: serde_json::Map<String, Value> = match version.mcp_servers()? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(config)?,
        None => serde_json::Map::new(),
    };
    let all = file.entry("mcpServers").or_insert_with(|| Value::Object(serde_json::Map::new()));
    for (name, server) in servers {
        all[name] = serde_json::to_value(server).map_err(config)?;
    }
    serde_json::to_vec_pretty(&file).map_err(config)
}

/// Hands what is written to a channel, in pieces of [`CHUNK`].
pub(super) struct PieceWriter {
    pieces: mpsc::Sender<std::io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl PieceWriter {
    pub(super) fn new(pieces: mpsc::Sender<std::io::Result<Vec<u8>>>) -> Self {
        Self { pieces, piece: Vec::with_capacity(CHUNK) }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = CHUNK - self.piece.len();
        let taken = bytes.len().min(room);
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(CHUNK));
        self.pieces.blocking_send(Ok(piece)).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(60);

    /// Moves so often, with this pause before each time and after the last.
    async fn work(times: u32, pause: Duration, moves: &watch::Sender<()>) -> u32 {
        for _ in 0..times {
            tokio::time::sleep(pause).await;
            moves.send_replace(());
        }
        tokio::time::sleep(pause).await;
        times
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_may_take_long_and_what_does_not_is_given_up() {
        let moves = watch::Sender::new(());
        let done = while_it_moves(work(100, SILENCE / 2, &moves), moves.subscribe(), SILENCE).await;
        assert_eq!(done, Some(100), "50 minutes");
        let begun = tokio::time::Instant::now();
        let stalled = while_it_moves(work(1, SILENCE * 2, &moves), moves.subscribe(), SILENCE).await;
        assert_eq!((stalled, begun.elapsed()), (None, SILENCE));
    }
}
