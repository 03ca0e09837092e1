//! Bringing up the sandbox of a session: processes, connection, setup, workspace.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Context, SessionError};
use crate::agent::manifest::{LimitRequest, MCP_SERVERS};
use crate::agent::{ContentError, Definition, Digest, Overlay, Version};
use crate::config::runtime::{self, RuntimeError};
use crate::link::daemon::{Connection, LinkError, ShimHandle, connect};
use crate::link::frame::CHUNK;
use crate::link::shim::{Gateway, RawValueEq, Room, SessionOptions, Setup, ToShim};
use crate::sandbox::{LaunchError, Limits, Spec};
use crate::store::{SessionRow, StoreError};
use crate::wire::session::{McpServer, PermissionMode, SessionConfig};

/// How long a sandbox may take to end by itself before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long everything from the first request to an unpacked workspace may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);
/// Pieces of an archive that wait between the folder and the socket.
const PIECES: usize = 4;
/// The environment variable that is never given to a sandbox: its value becomes the key that the
/// gateway sends.
const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";

/// The runtime's program as it was when its version was last asked for.
#[derive(Debug, Default)]
pub struct Runtime {
    asked: tokio::sync::Mutex<Option<(PathBuf, SystemTime, u64)>>,
}

impl Runtime {
    /// Finds the program and makes sure that it is one whose language the shim speaks. It is
    /// looked for each time, so that one which was just installed is found, and asked for its
    /// version when it is another file than the last time.
    async fn find(&self, configured: Option<&Path>) -> Result<PathBuf, RuntimeError> {
        let path = runtime::find(configured)?;
        let inspect = |source| RuntimeError::Inspect { path: path.clone(), source };
        let metadata = std::fs::metadata(&path).map_err(inspect)?;
        let found = Some((path.clone(), metadata.modified().map_err(inspect)?, metadata.len()));
        let mut asked = self.asked.lock().await;
        if *asked != found {
            let version = runtime::version(&path, runtime::VERSION_DEADLINE).await?;
            tracing::info!(path = %path.display(), version = %version, "runtime found");
            *asked = found;
        }
        Ok(path)
    }
}

/// Why a sandbox could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
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
    /// The agent's files are not here.
    #[error(transparent)]
    Session(#[from] Box<SessionError>),
    /// The session's configuration can not be passed on.
    #[error("{0}")]
    Config(String),
    /// It took too long.
    #[error("the sandbox did not come up within {} seconds", OPEN_DEADLINE.as_secs())]
    Slow,
}

/// Brings up the sandbox of a session, or finds it up.
pub async fn open(context: Arc<Context>, session: SessionRow) -> Result<Connection, OpenError> {
    tokio::time::timeout(OPEN_DEADLINE, open_unbounded(&context, &session)).await.unwrap_or(Err(OpenError::Slow))
}

async fn open_unbounded(context: &Context, session: &SessionRow) -> Result<Connection, OpenError> {
    let version = version(context, &session.agent, &session.digest).map_err(Box::new)?;
    let definition = version.definition()?;
    let limits = narrowed(context.settings.limits, &definition.limits);
    let spec = Spec { sandbox: session.sandbox, session: session.id, agent: session.agent.clone(), limits };
    let started = context.launcher.start(&spec).await?;
    let connection = connect(&started.socket).await?;
    let shim = &connection.handle;
    if connection.state.session.is_some() && connection.state.unpacked {
        return Ok(connection);
    }
    // Only now, since a sandbox that lives needs no runtime to be connected to.
    let runtime = context.runtime.find(context.settings.runtime.as_deref()).await?;
    let room = Room { runtime: runtime.display().to_string(), tmp_bytes: context.settings.tmp_bytes };
    shim.call(|op| ToShim::Open { op, room }).await?;
    let setup = Box::new(setup(context, session, definition).await?);
    shim.call(|op| ToShim::Setup { op, setup }).await?;
    if !connection.state.unpacked {
        unpack(version, session, shim).await?;
    }
    Ok(connection)
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

/// An agent may ask for less than the host gives, never for more.
fn narrowed(host: Limits, asked: &LimitRequest) -> Limits {
    Limits {
        memory: asked.memory.map_or(host.memory, |memory| memory.min(host.memory)),
        cpu: asked.cpu.map_or(host.cpu, |cpu| cpu.min(host.cpu)),
        tasks: asked.tasks.map_or(host.tasks, |tasks| tasks.min(host.tasks)),
        disk: asked.disk.map_or(host.disk, |disk| disk.min(host.disk)),
    }
}

async fn setup(context: &Context, session: &SessionRow, definition: Definition) -> Result<Setup, OpenError> {
    let mut env = definition.env;
    // An agent that was deleted since leaves its sessions without its environment, not unusable.
    match context.store.get_agent(&session.tenant, &session.agent).await {
        Ok(agent) => env.extend(agent.env),
        Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    env.extend(session.extra_env.clone());
    let own_key = env.remove(KEY_VARIABLE).filter(|key| !key.is_empty());
    let gateway = Gateway {
        base_url: context.settings.gateway.base_url.clone(),
        api_key: own_key.or_else(|| context.settings.gateway.api_key.clone()),
    };
    Ok(Setup {
        session: session.id,
        agent: session.agent.clone(),
        env,
        gateway,
        options: options(session.model.clone().or(definition.model), &session.config)?,
        resume: session.conversed,
    })
}

/// A session's configuration in the words of its shim.
fn options(model: Option<String>, config: &SessionConfig) -> Result<SessionOptions, OpenError> {
    let permission_mode = match config.permission_mode.unwrap_or(PermissionMode::BypassPermissions) {
        PermissionMode::BypassPermissions => "bypassPermissions",
        PermissionMode::PermissionsByAgent | PermissionMode::Default => "default",
    };
    let subagents = config.subagents.as_ref().map(serde_json::value::to_raw_value).transpose();
    let subagents = subagents.map_err(|e| OpenError::Config(format!("subagents: {e}")))?;
    Ok(SessionOptions {
        model,
        permission_mode: permission_mode.to_owned(),
        allowed_tools: config.allowed_tools.clone().unwrap_or_default(),
        disallowed_tools: config.disallowed_tools.clone().unwrap_or_default(),
        betas: config.betas.clone().unwrap_or_default(),
        subagents: subagents.map(|subagents| Box::new(RawValueEq(subagents))),
        initial_agent: config.initial_agent.clone(),
    })
}

/// What a session's turns may use now. An agent whose files are missing names no model.
pub fn current_options(context: &Context, session: &SessionRow) -> Result<SessionOptions, OpenError> {
    let definition = version(context, &session.agent, &session.digest).ok().and_then(|version| version.definition().ok());
    options(session.model.clone().or(definition.and_then(|definition| definition.model)), &session.config)
}

/// Sends the agent's files, with what the session puts over them.
async fn unpack(version: Version, session: &SessionRow, shim: &ShimHandle) -> Result<(), OpenError> {
    let (pieces, received) = mpsc::channel(PIECES);
    let servers = session.config.mcp_servers.as_ref().filter(|servers| !servers.is_empty());
    let servers = servers.map(|servers| with_servers(&version, servers)).transpose()?;
    let prompt = session.system_prompt.clone();
    let packing = tokio::task::spawn_blocking(move || {
        let prompt = prompt.iter().map(|text| Overlay { path: "CLAUDE.md", content: text.as_bytes() });
        let servers = servers.iter().map(|file| Overlay { path: MCP_SERVERS, content: file });
        let overlays: Vec<_> = prompt.chain(servers).collect();
        let mut writer = PieceWriter { pieces: pieces.clone(), piece: Vec::with_capacity(CHUNK) };
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
struct PieceWriter {
    pieces: mpsc::Sender<std::io::Result<Vec<u8>>>,
    piece: Vec<u8>,
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
