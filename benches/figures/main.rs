//! Measures the figures that the design promises, of the Ash that is installed on this machine.
//!
//! `make bench` builds the package, installs it in a throw-away machine, copies this program there
//! and runs it. Against the scripted model, so that what is measured is Ash; never fails by time.
//!
//! Environment: `ASH_BENCH_MODEL` and `ASH_BENCH_KEY`, address and key of the scripted model;
//! `ASH_BENCH_BURST`, how many sessions are made at once (20). With `--json` it prints JSON. Words
//! choose what is measured: all whose name has one of them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people")]

mod client;
mod floor;
#[expect(dead_code, reason = "tests use more of it")]
#[path = "../../tests/support/http.rs"]
mod http;
mod lives;
mod machine;
mod runtime;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Ash, Session, Turn};
use floor::Floor;
use table::{Figure, Of, Unit};

/// The control socket of an installed Ash.
const SOCKET: &str = "/run/ash/ash.sock";
/// Where this program can be started as the runtime's stand-in.
const STAND_IN_CONFIG: &str = "/etc/ash/ash.toml.d/zz-bench.toml";

const COLD_STARTS: usize = 40;
const FIRST_TURNS: usize = 5;
const LATER_TURNS: usize = 40;
const FLOODS: usize = 3;
/// Pieces of text in a flood of the real runtime; the scripted model makes them of 8 characters.
const FLOOD_PIECES: usize = 4_000;
/// The same for its stand-in.
const STAND_IN_PIECES: usize = 20_000;
const RESTARTS: usize = 5;
const LIVE: usize = 100;
/// Sandboxes whose memory is looked at, of those that live.
const LOOKED_AT: usize = 10;
/// Clients that follow a session in which nothing happens.
const LISTENERS: usize = 500;
/// Clients that follow a flood.
const FOLLOWERS: usize = 10;
const MESSAGE: &str = "say: hello there";

struct Bench {
    ash: Ash,
    model: String,
    key: String,
    burst: usize,
    figures: Vec<Figure>,
    /// What is measured; nothing: everything.
    wanted: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(stood_in) = runtime::stands_in(&arguments) {
        return stood_in;
    }
    // Whoever runs `cargo bench` on a machine of his own does not mean the Ash that serves there.
    let (Ok(model), Ok(key)) = (std::env::var("ASH_BENCH_MODEL"), std::env::var("ASH_BENCH_KEY")) else {
        eprintln!("skipped: ASH_BENCH_MODEL and ASH_BENCH_KEY are not set; make bench measures in a machine of its own");
        return Ok(());
    };
    let burst = std::env::var("ASH_BENCH_BURST").ok().map(|text| text.parse()).transpose().context("ASH_BENCH_BURST")?;
    let wanted = arguments.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
    let mut bench = Bench { ash: Ash::at(SOCKET), model, key, burst: burst.unwrap_or(20), figures: Vec::new(), wanted };
    let facts = machine::facts();
    bench.run()?;
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{}", table::json(&facts, &bench.figures));
    } else {
        print!("{}", table::text(&facts, &bench.figures));
    }
    Ok(())
}

type Step = fn(&mut Bench) -> anyhow::Result<()>;

impl Bench {
    fn run(&mut self) -> anyhow::Result<()> {
        self.ash.deploy()?;
        let steps: [(&str, Step); 9] = [
            ("cold starts", Self::cold_starts),
            ("a burst", Self::burst),
            ("first turns", Self::first_turns),
            ("later turns", Self::later_turns),
            ("restarts and memory", Self::restarts),
            ("listeners", Self::listeners),
            ("snapshots", Self::lives),
            ("events of the runtime", Self::events),
            ("events of a stand-in", Self::stand_in_events),
        ];
        let is_wanted = |name: &str| self.wanted.is_empty() || self.wanted.iter().any(|word| name.contains(word.as_str()));
        let steps: Vec<_> = steps.into_iter().filter(|(name, _)| is_wanted(name)).collect();
        ensure!(!steps.is_empty(), "nothing of that name is measured: {}", self.wanted.join(" "));
        for (name, step) in steps {
            let before = Instant::now();
            step(self).with_context(|| format!("measure {name}"))?;
            eprintln!("measured {name} in {:.0} s", before.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn end(&self, sessions: &[Session], left: usize) -> anyhow::Result<()> {
        for session in sessions {
            self.ash.end(session)?;
        }
        machine::wait_for("ended sandboxes are gone", || machine::live_sandboxes() <= left)
    }

    fn cold_starts(&mut self) -> anyhow::Result<()> {
        let (_, kept) = self.ash.create()?;
        let mut floor = Floor::like(&kept.sandbox)?;
        // The first of each pays for caches.
        floor.start()?;
        let (mut created, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..COLD_STARTS {
            bare.push(floor.start()?);
            let (took, session) = self.ash.create()?;
            created.push(took);
            self.end(&[session], 1)?;
        }
        self.end(&[kept], 0)?;
        let created = Figure::times("create session, cold, HTTP in to 201", &created).bound(Of::P50, 25.0);
        let bare = Figure::times("  floor: bare unit, setpriv, bwrap", &bare);
        let ratio = Figure::ratio("  ratio to the floor", &created, &bare).bound(Of::P50, 1.5);
        self.figures.extend([created, bare, ratio]);
        Ok(())
    }

    fn burst(&mut self) -> anyhow::Result<()> {
        let (ash, before) = (&self.ash, Instant::now());
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let creating: Vec<_> = (0..self.burst).map(|_| scope.spawn(|| ash.create())).collect();
            creating.into_iter().filter_map(|one| one.join().ok()).collect()
        });
        let all = before.elapsed();
        let (mut took, mut sessions) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok((time, session)) => {
                    took.push(time);
                    sessions.push(session);
                }
                Err(error) => eprintln!("burst: {error:#}"),
            }
        }
        self.end(&sessions, 0)?;
        let name = format!("burst of {} creates, cold", self.burst);
        let failed = (self.burst - sessions.len()) as f64;
        self.figures.extend([
            // The design's bound is for 100; fewer have to be proportionally faster.
            Figure::times(name, &took).bound(Of::P99, 15.0 * self.burst as f64),
            Figure::times("  all of them", &[all]),
            Figure::new("  failed", Unit::Number, &[failed]).bound(Of::P50, 0.0),
        ]);
        Ok(())
    }

    fn first_turns(&mut self) -> anyhow::Result<()> {
        let (mut through, mut own) = (Vec::new(), Vec::new());
        for _ in 0..FIRST_TURNS {
            let (_, session) = self.ash.create()?;
            through.push(self.ash.turn(&session, MESSAGE)?);
            let like = runtime::Like::runtime_of(&session, &self.model, &self.key)?;
            self.end(&[session], 0)?;
            let before = Instant::now();
            let mut direct = like.start()?;
            let started = before.elapsed();
            let turn = direct.turn(MESSAGE)?;
            own.push(started + turn.first_delta);
        }
        let first = Figure::times("first message to first text_delta", &pick(&through, |turn| turn.first_delta));
        let own = Figure::times("  the runtime alone, start to text_delta", &own);
        let over = Figure::over("  overhead of Ash", &first, &own);
        self.figures.extend([first, own, over]);
        Ok(())
    }

    fn later_turns(&mut self) -> anyhow::Result<()> {
        let (_, session) = self.ash.create()?;
        self.ash.turn(&session, MESSAGE)?;
        let starts = self.ash.runtime_starts(&session)?;
        let mut direct = runtime::Like::runtime_of(&session, &self.model, &self.key)?.start()?;
        direct.turn(MESSAGE)?;
        let (mut through, mut own) = (Vec::new(), Vec::new());
        for round in 0..LATER_TURNS {
            // Who comes second would find warmer caches.
            if round % 2 == 0 {
                own.push(direct.turn(MESSAGE)?);
                through.push(self.ash.turn(&session, MESSAGE)?);
            } else {
                through.push(self.ash.turn(&session, MESSAGE)?);
                own.push(direct.turn(MESSAGE)?);
            }
        }
        let more = self.ash.runtime_starts(&session)? - starts;
        self.end(&[session], 0)?;
        let first = Figure::times("later message: HTTP in to first event", &pick(&through, |turn| turn.first_event));
        let delta = Figure::times("  to first text_delta", &pick(&through, |turn| turn.first_delta));
        let own_delta = Figure::times("    the runtime alone", &pick(&own, |turn| turn.first_delta));
        let over_delta = Figure::over("    overhead of Ash", &delta, &own_delta).bound(Of::P50, 1.0).bound(Of::P99, 3.0);
        let done = Figure::times("  to done", &pick(&through, |turn| turn.done));
        let own_done = Figure::times("    the runtime alone", &pick(&own, |turn| turn.done));
        let over_done = Figure::over("    overhead of Ash", &done, &own_done);
        let starts = Figure::new("  runtime starts in them", Unit::Number, &[more as f64]).bound(Of::P50, 0.0);
        self.figures.extend([
            first.bound(Of::P50, 1.0).bound(Of::P99, 3.0),
            delta,
            own_delta,
            over_delta,
            done,
            own_done,
            over_done,
            starts,
        ]);
        Ok(())
    }

    fn restarts(&mut self) -> anyhow::Result<()> {
        let mut sessions = Vec::new();
        for _ in 0..LIVE {
            sessions.push(self.ash.create()?.1);
        }
        self.memory(&sessions[..LOOKED_AT])?;
        let (mut serving, mut connected) = (Vec::new(), Vec::new());
        for _ in 0..RESTARTS {
            let before = Instant::now();
            machine::output("systemctl", &["restart", "ash.service"])?;
            machine::wait_for("the daemon serves", || self.ash.connected_sandboxes().is_some())?;
            serving.push(before.elapsed());
            machine::wait_for("all sandboxes are connected", || self.ash.connected_sandboxes() == Some(LIVE as i64))?;
            connected.push(before.elapsed());
        }
        self.end(&sessions, 0)?;
        let name = format!("restart with {LIVE} live sandboxes, to /health");
        self.figures.push(Figure::times(name, &serving).bound(Of::P50, 300.0));
        self.figures.push(Figure::times("  to all of them connected", &connected));
        Ok(())
    }

    fn memory(&mut self, sessions: &[Session]) -> anyhow::Result<()> {
        let (daemon, daemon_share) = machine::main_process("ash.service")?.memory()?;
        let (mut resident, mut share) = (Vec::new(), Vec::new());
        for session in sessions {
            let processes = machine::processes_of(&session.sandbox)?;
            let ours = processes.iter().filter(|process| matches!(process.name.as_str(), "ash-shim" | "ash-init"));
            let (mut rss, mut pss) = (0.0, 0.0);
            for process in ours {
                let memory = process.memory()?;
                (rss, pss) = (rss + memory.0, pss + memory.1);
            }
            resident.push(rss);
            share.push(pss);
        }
        self.figures.extend([
            Figure::new("resident: ashd", Unit::MiB, &[daemon]).bound(Of::P50, 40.0),
            Figure::new("  its proportional share (PSS)", Unit::MiB, &[daemon_share]),
            Figure::new("resident: shim and init, idle", Unit::MiB, &resident).bound(Of::P50, 4.0),
            Figure::new("  their proportional share (PSS)", Unit::MiB, &share),
        ]);
        Ok(())
    }

    fn listeners(&mut self) -> anyhow::Result<()> {
        let (_, session) = self.ash.create()?;
        self.ash.turn(&session, MESSAGE)?;
        let daemon = machine::main_process("ash.service")?;
        let listen = || (0..LISTENERS).map(|_| self.ash.listen(&session)).collect::<anyhow::Result<Vec<_>>>();
        // The first of them fill what the daemon then keeps for all that come later.
        drop(listen()?);
        let before = daemon.memory()?.0;
        let listening = listen()?;
        let more = (daemon.memory()?.0 - before).max(0.0);
        drop(listening);
        self.end(&[session], 0)?;
        let each = more * 1024.0 / LISTENERS as f64;
        self.figures.push(Figure::new("idle SSE client, memory of ashd", Unit::KiB, &[each]).bound(Of::P50, 8.0));
        Ok(())
    }

    fn events(&mut self) -> anyhow::Result<()> {
        let (_, session) = self.ash.create()?;
        self.ash.turn(&session, MESSAGE)?;
        let mut direct = runtime::Like::runtime_of(&session, &self.model, &self.key)?.start()?;
        direct.turn(MESSAGE)?;
        let message = format!("say: {}", "1234567 ".repeat(FLOOD_PIECES));
        let (mut through, mut own) = (Vec::new(), Vec::new());
        for _ in 0..FLOODS {
            own.push(direct.turn(&message)?);
            through.push(self.ash.turn(&session, &message)?);
        }
        self.end(&[session], 0)?;
        self.figures.extend([
            Figure::new("events stored and delivered, in a turn", Unit::PerSecond, &rates(&through)),
            Figure::new("  lines of the runtime alone", Unit::PerSecond, &rates(&own)),
        ]);
        Ok(())
    }

    fn stand_in_events(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe()?;
        std::fs::write(STAND_IN_CONFIG, format!("[runtime.claude]\npath = \"{}\"\n", program.display()))?;
        machine::output("systemctl", &["restart", "ash.service"])?;
        let (_, session) = self.ash.create()?;
        self.ash.turn(&session, "warm up")?;
        let (mut through, mut again) = (Vec::new(), Vec::new());
        for _ in 0..FLOODS {
            let turn = self.ash.turn(&session, &format!("flood: {STAND_IN_PIECES}"))?;
            ensure!(turn.events > 2 * STAND_IN_PIECES, "only {} events of the stand-in came", turn.events);
            through.push(turn);
            let all = through.iter().map(|turn| turn.events).sum();
            let (events, took) = self.ash.replay(&session, all)?;
            again.push(events as f64 / took.as_secs_f64());
        }
        let tail = self.ash.tail(&session)?;
        let (delivered, took) = std::thread::scope(|scope| {
            let following: Vec<_> = (0..FOLLOWERS).map(|_| scope.spawn(|| self.ash.follow(&session, tail))).collect();
            let before = Instant::now();
            self.ash.turn(&session, &format!("flood: {STAND_IN_PIECES}"))?;
            let seen = following.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("a follower panicked"))?);
            let seen = seen.collect::<anyhow::Result<Vec<usize>>>()?;
            ensure!(seen.iter().all(|seen| *seen > 2 * STAND_IN_PIECES), "followers saw {seen:?} events");
            Ok::<_, anyhow::Error>((seen.iter().sum::<usize>(), before.elapsed()))
        })?;
        let fanned = delivered as f64 / took.as_secs_f64();
        self.end(&[session], 0)?;
        std::fs::remove_file(STAND_IN_CONFIG)?;
        self.figures.extend([
            Figure::new("  with a runtime that only prints", Unit::PerSecond, &rates(&through)).bound(Of::P50, 20_000.0),
            Figure::new("  read again from the store", Unit::PerSecond, &again),
            Figure::new(format!("  delivered to {FOLLOWERS} clients together"), Unit::PerSecond, &[fanned])
                .bound(Of::P50, 20_000.0),
        ]);
        Ok(())
    }
}

fn pick(turns: &[Turn], part: impl Fn(&Turn) -> Duration) -> Vec<Duration> {
    turns.iter().map(part).collect()
}

/// Events in a second, from the request to the result: they come in batches, so that counting from
/// the first one would leave out the time of its batch.
fn rates(turns: &[Turn]) -> Vec<f64> {
    turns.iter().map(|turn| turn.events as f64 / turn.result.as_secs_f64()).collect()
}
