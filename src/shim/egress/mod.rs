//! The egress proxy: the way out of a sandbox for everything but the model.
//!
//! One listener on the inner loopback speaks HTTP (absolute form and `CONNECT`) and SOCKS5; the first
//! byte of a connection tells which. Whatever is asked for goes the same way:
//!
//! ```text
//! target ─▶ policy names it? ─▶ look up, outside ─▶ address may be reached? ─▶ connect to that address
//!             │ no                                    │ no                        │
//!             └──────────▶ refused, with a sentence ◀─┘                           ▼
//!                              ▲                             first bytes: TLS asks for that name?
//!                              └───────────────── no ─────── HTTP, each request, for that host?
//! ```
//!
//! A name is looked up once for a connection, and only an address that was checked is connected to,
//! so an answer that changes in between changes nothing. The policy may change at any time; a
//! connection whose target is not allowed any more is cut.
//!
//! What passes is bounded: connections, the time without a byte, bytes in a second and in all. What
//! is refused and what is let out goes to the driver as a [`Note`], which makes events of it.
//!
//! A request in origin form for `/NAME/…`, where `NAME` is a credential that is [`bound`] to a host, is
//! forwarded to that host alone, over TLS, with the credential put in.
//!
//! A TLS connection is not opened, so what is said in it is not seen: a server that answers for
//! several names may be asked for another one there than in the ClientHello.

mod bound;
mod fold;
mod hello;
mod http;
mod meter;
mod socks;
mod stream;
#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use self::bound::Bindings;
pub use self::fold::Fold;
pub use self::meter::Meter;
use self::stream::Guarded;
use crate::egress::fetch::{Fetches, Note};
use crate::egress::policy::{Policy, Refusal};
use crate::link::shim::{Binding, Egress as Settings};
use crate::resolve::{self, LookUps};
use crate::shim::accept::accept;
use crate::wire::egress::{Host, Target, Verdict};

/// How long the head of a request, or what is before it, may take to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long all of looking up and connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
/// Addresses of one name that are tried.
const TRIES: usize = 4;
/// Names that are looked up at the same time, each in a thread, which is one of the sandbox's tasks.
const LOOK_UPS: usize = 8;
/// Notes that may wait for the driver. A connection waits for it to take its note.
const NOTES: usize = 16;

/// What the host knows of names and addresses.
pub trait Resolve: std::fmt::Debug + Send + Sync {
    /// The addresses of a name.
    fn look_up(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

    /// Whether an address is one of the host itself, where what listens expects callers of this host.
    fn is_own(&self, address: IpAddr) -> bool;
}

/// The host's resolver.
#[derive(Debug)]
struct OfHost(LookUps);

impl Resolve for OfHost {
    fn look_up(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let addresses = self.0.look_up(name.to_owned());
        Box::pin(async move { Ok(addresses.await?.into_iter().map(|address| address.ip()).collect()) })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        resolve::is_own(address)
    }
}

/// Why somebody inside gets no connection.
#[derive(Debug)]
enum Failure {
    /// It is not allowed.
    Denied(Refusal),
    /// It is allowed, but can not be reached.
    Unreachable(String),
}

/// A connection to a target that is allowed.
#[derive(Debug)]
struct Outside {
    target: Target,
    way: Way,
    stream: Guarded<TcpStream>,
}

/// On whose word something is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The list of the agent or the session names it.
    Listed,
    /// A credential is bound to it.
    Bound,
}

/// The proxy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Egress {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: Mutex<Arc<Policy>>,
    bindings: Mutex<Arc<Bindings>>,
    /// How bound hosts are spoken to. Made at the first call, since the host's certificates take memory and
    /// time.
    tls: OnceLock<rustls::ClientConfig>,
    /// What is open: the target, its address, and what cuts it when it is dropped.
    open: Mutex<Open>,
    slots: Slots,
    meter: Arc<Meter>,
    resolver: Box<dyn Resolve>,
    notes: mpsc::Sender<Note>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    connections: HashMap<u64, (Target, Way, IpAddr, oneshot::Sender<()>)>,
}

/// Takes a connection from the list of what is open, when it ends.
#[derive(Debug)]
struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.shared.open).connections.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in one of the short sections here leaves the state whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Egress {
    /// A proxy that lets nothing out yet, and where its notes come.
    pub fn new() -> (Self, mpsc::Receiver<Note>) {
        Self::with_resolver(Box::new(OfHost(LookUps::new(LOOK_UPS))))
    }

    fn with_resolver(resolver: Box<dyn Resolve>) -> (Self, mpsc::Receiver<Note>) {
        let (notes, noted) = mpsc::channel(NOTES);
        let policy = Policy::new(&Settings::default()).0;
        let limits = policy.limits;
        let shared = Shared {
            policy: Mutex::new(Arc::new(policy)),
            bindings: Mutex::default(),
            tls: OnceLock::new(),
            open: Mutex::default(),
            slots: Slots::new(limits.connections),
            meter: Arc::new(Meter::new(limits.bytes_per_second, limits.bytes, Instant::now())),
            resolver,
            notes,
        };
        (Self { shared: Arc::new(shared) }, noted)
    }

    /// Sets what may be reached from now on, and cuts what may not.
    pub fn apply(&self, settings: &Settings) {
        let (policy, unread) = Policy::new(settings);
        if !unread.is_empty() {
            tracing::warn!(rules = unread.join(" "), "egress rules can not be read, they allow nothing");
        }
        let policy = Arc::new(policy);
        self.shared.meter.set(policy.limits.bytes_per_second, policy.limits.bytes, Instant::now());
        self.shared.slots.set(policy.limits.connections);
        *lock(&self.shared.policy) = Arc::clone(&policy);
        let cut = self.cut();
        tracing::info!(rules = settings.allow.len(), cut, "egress policy set");
    }

    /// Sets which credentials are bound to which hosts from now on, and cuts what was open by others.
    pub fn bind(&self, settings: &[Binding]) {
        let (bindings, unread) = bound::read(settings);
        if !unread.is_empty() {
            tracing::warn!(names = unread.join(" "), "bindings can not be read, they reach nothing");
        }
        *lock(&self.shared.bindings) = Arc::new(bindings);
        let cut = self.cut();
        if !settings.is_empty() || cut > 0 {
            tracing::info!(bindings = settings.len(), cut, "bindings set");
        }
    }

    /// Cuts what is not allowed any more; how many that were.
    fn cut(&self) -> usize {
        let mut open = lock(&self.shared.open);
        let before = open.connections.len();
        open.connections.retain(|_, (target, way, address, _)| self.is_allowed(&self.policy_of(target, *way), target, *address));
        before - open.connections.len()
    }

    /// Serves the listener until it fails, which it does when the sandbox is gone.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            // A slot first: connections beyond them wait in the listener's queue.
            let slot = Slots::take(&self.shared).await;
            let Some(stream) = accept(&listener, "egress proxy").await else { return };
            let egress = self.clone();
            tokio::spawn(async move {
                if let Err(error) = egress.connection(stream).await {
                    tracing::debug!(%error, "connection to the egress proxy broke");
                }
                drop(slot);
            });
        }
    }

    async fn connection(&self, stream: TcpStream) -> io::Result<()> {
        // Small pieces of a stream have to leave at once.
        let _best_effort = stream.set_nodelay(true);
        let mut first = [0];
        let seen = timeout(HEAD_DEADLINE, stream.peek(&mut first)).await??;
        if seen == 0 {
            return Ok(());
        }
        let stream = Guarded::inside(stream, self.idle());
        match first[0] {
            socks::VERSION => socks::serve(self, stream).await,
            _ => http::serve(self, stream).await,
        }
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&lock(&self.shared.policy))
    }

    /// What counts for a target. A bound credential allows its host, within all else that the operator says.
    fn policy_of(&self, target: &Target, way: Way) -> Arc<Policy> {
        match way {
            Way::Listed => self.policy(),
            Way::Bound => {
                let is_bound = lock(&self.shared.bindings).values().any(|bound| bound.target == *target);
                Arc::new(self.policy().for_bound(is_bound.then_some(target)))
            }
        }
    }

    /// Whether what is open to a target may stay so.
    fn is_allowed(&self, policy: &Policy, target: &Target, address: IpAddr) -> bool {
        let is_checked = policy.choose(target, &[address]).is_ok_and(|chosen| !chosen.is_empty());
        let is_foreign = policy.opens_own(target, address) || !self.shared.resolver.is_own(address);
        policy.admit(target).is_ok() && is_checked && is_foreign
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.policy().limits.idle_ms.max(1))
    }

    /// Connects to a target, if it is allowed.
    async fn connect(&self, target: &Target, way: Way) -> Result<Outside, Failure> {
        let policy = self.policy_of(target, way);
        if let Err(refusal) = policy.admit(target) {
            return Err(self.deny(target, refusal).await);
        }
        if let Err(spent) = self.shared.meter.check() {
            return Err(self.deny(target, Refusal::new(target, spent)).await);
        }
        let connected = timeout(CONNECT_DEADLINE, self.connect_admitted(&policy, target, way)).await;
        connected.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!("{target} did not answer within {} seconds", CONNECT_DEADLINE.as_secs())))
        })
    }

    async fn connect_admitted(&self, policy: &Policy, target: &Target, way: Way) -> Result<Outside, Failure> {
        let addresses = match &target.host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => {
                let looked_up = self.shared.resolver.look_up(name).await;
                looked_up.map_err(|error| Failure::Unreachable(format!("{name} can not be looked up: {error}")))?
            }
        };
        let chosen = match policy.choose(target, &addresses) {
            Ok(chosen) => chosen,
            Err(refusal) => return Err(self.deny(target, refusal).await),
        };
        let mut failure = Failure::Unreachable(format!("{target} has no address"));
        let mut is_told = false;
        for address in chosen.into_iter().take(TRIES) {
            if !policy.opens_own(target, address) && self.shared.resolver.is_own(address) {
                let refusal = Refusal::new(target, format!("it leads to {address}, an address of this host"));
                failure = self.deny(target, refusal).await;
                continue;
            }
            if !std::mem::replace(&mut is_told, true) {
                self.note(Verdict::Allowed, target, None).await;
            }
            match TcpStream::connect(SocketAddr::new(address, target.port)).await {
                Ok(stream) => return self.register(target, way, address, stream).await,
                Err(error) => failure = Failure::Unreachable(format!("{target} can not be reached at {address}: {error}")),
            }
        }
        Err(failure)
    }

    /// Puts a connection on the list of what is open, from where it can be cut.
    async fn register(&self, target: &Target, way: Way, address: IpAddr, stream: TcpStream) -> Result<Outside, Failure> {
        let _best_effort = stream.set_nodelay(true);
        let (cutter, cut) = oneshot::channel();
        let entry = {
            let mut open = lock(&self.shared.open);
            open.last += 1;
            let number = open.last;
            open.connections.insert(number, (target.clone(), way, address, cutter));
            Entry { shared: Arc::clone(&self.shared), number }
        };
        // The policy may have changed meanwhile: whoever changed it before sees nothing to cut.
        let policy = self.policy_of(target, way);
        if !self.is_allowed(&policy, target, address) {
            let refusal = policy.admit(target).err();
            let refusal = refusal.unwrap_or_else(|| Refusal::new(target, "the policy was changed"));
            return Err(self.deny(target, refusal).await);
        }
        let stream = Guarded::outside(stream, self.idle(), Arc::clone(&self.shared.meter), cut, entry);
        Ok(Outside { target: target.clone(), way, stream })
    }

    /// Whether the policy that counts now lets all of it out. Both are told.
    ///
    /// # Errors
    ///
    /// The sentence about the first that it does not.
    pub async fn admit_fetches(&self, fetches: &Fetches) -> Result<(), String> {
        if fetches.is_empty() {
            return Ok(());
        }
        match fetches.judge(&self.policy()) {
            Ok(notes) => {
                for note in notes {
                    self.send(note).await;
                }
                Ok(())
            }
            Err((note, refusal)) => {
                self.send(note).await;
                Err(refusal.to_string())
            }
        }
    }

    async fn deny(&self, target: &Target, refusal: Refusal) -> Failure {
        self.note(Verdict::Denied, target, Some(&refusal)).await;
        Failure::Denied(refusal)
    }

    /// Refuses what is no target.
    async fn deny_text(&self, asked: &str, why: impl std::fmt::Display) -> Failure {
        let host: String = asked.escape_debug().take(80).collect();
        let refusal = Refusal::new(&host, why);
        let note = Note { verdict: Verdict::Denied, host, port: None, reason: Some(refusal.to_string()) };
        self.send(note).await;
        Failure::Denied(refusal)
    }

    async fn note(&self, verdict: Verdict, target: &Target, refusal: Option<&Refusal>) {
        let reason = refusal.map(ToString::to_string);
        self.send(Note { verdict, host: target.host.to_string(), port: Some(target.port), reason }).await;
    }

    async fn send(&self, note: Note) {
        tracing::debug!(verdict = ?note.verdict, host = note.host, port = note.port, reason = note.reason, "egress");
        // Without a driver nobody is left to hear.
        let _ending = self.shared.notes.send(note).await;
    }
}

/// Counts connections, with a bound that can change.
#[derive(Debug)]
struct Slots {
    state: Mutex<(u32, u32)>,
    freed: Notify,
}

/// A connection that is counted.
#[derive(Debug)]
struct Slot(Arc<Shared>);

impl Slots {
    fn new(most: u32) -> Self {
        Self { state: Mutex::new((0, most.max(1))), freed: Notify::new() }
    }

    fn set(&self, most: u32) {
        lock(&self.state).1 = most.max(1);
        self.freed.notify_one();
    }

    /// Waits for room. One waits at a time.
    async fn take(shared: &Arc<Shared>) -> Slot {
        loop {
            {
                let mut state = lock(&shared.slots.state);
                if state.0 < state.1 {
                    state.0 += 1;
                    return Slot(Arc::clone(shared));
                }
            }
            shared.slots.freed.notified().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.0.slots.state).0 -= 1;
        self.0.slots.freed.notify_one();
    }
}
