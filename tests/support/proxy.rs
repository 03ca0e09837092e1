//! A relay that cuts connections after a random number of bytes: between a client and the daemon,
//! in the head, before the first id, in mid frame, wherever it falls.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Random;
use super::http::{Stream, Target, connect};

/// Bounds of the bytes that pass before a cut; one of them is chosen for each connection, and then
/// a number below it. The small ones end in the head of an answer, the large ones in a later batch.
const DOWN: [u64; 5] = [120, 400, 2_000, 20_000, 120_000];
/// Most bytes of a request that pass before a cut.
const UP: u64 = 120;

/// What a proxy cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuts {
    /// Requests and answers.
    Both,
    /// Answers. Every request arrives whole.
    Answers,
}

/// A relay. It ends when dropped, with all of its connections that are not in use.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub target: Target,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    upstream: Target,
    cuts: Cuts,
    stop: AtomicBool,
    cut: AtomicU64,
}

impl Proxy {
    /// Starts one.
    pub fn start(upstream: Target, cuts: Cuts, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let target = Target::Tcp(listener.local_addr().expect("an address").to_string());
        let state = Arc::new(State { upstream, cuts, stop: AtomicBool::new(false), cut: AtomicU64::new(0) });
        let (relays, mut random) = (state.clone(), Random(seed));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if relays.stop.load(Ordering::Relaxed) {
                    return;
                }
                // One that can not be made is one more cut.
                let _ = relays.relay(client, &mut random);
            }
        });
        Self { target, state }
    }

    /// How many connections it has cut.
    pub fn cut(&self) -> u64 {
        self.state.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // It looks when somebody comes.
        let _ = connect(&self.target);
    }
}

impl State {
    fn relay(self: &Arc<Self>, client: TcpStream, random: &mut Random) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let server = connect(&self.upstream)?;
        let bound = DOWN[random.below(DOWN.len() as u64) as usize];
        let (down, up) = match self.cuts {
            Cuts::Both if random.below(8) == 0 => (random.below(bound), random.below(UP)),
            Cuts::Both => (random.below(bound), u64::MAX),
            // A server that says something has read the request.
            Cuts::Answers => (1 + random.below(bound), u64::MAX),
        };
        let (from_client, to_server) = (client.again()?, server.again()?);
        let (upward, downward) = (self.clone(), self.clone());
        std::thread::spawn(move || upward.pass(from_client, to_server, up));
        std::thread::spawn(move || downward.pass(server, Box::new(client), down));
        Ok(())
    }

    /// Passes this many bytes on, then cuts both connections.
    fn pass(&self, mut from: Box<dyn Stream>, mut to: Box<dyn Stream>, mut left: u64) {
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match from.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(bytes) if to.write_all(&buffer[..bytes]).is_ok() => left -= bytes as u64,
                // The limit of a connection that waits; a session may be quiet.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                _ => break,
            }
        }
        if left == 0 {
            self.cut.fetch_add(1, Ordering::Relaxed);
        }
        from.cut();
        to.cut();
    }
}
