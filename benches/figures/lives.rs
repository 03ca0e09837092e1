//! Sessions that are frozen, put away, brought back and copied.

use std::time::Instant;

use anyhow::ensure;
use ash::systemd::proxy::ManagerProxy;

use crate::Bench;
use crate::machine;
use crate::table::{Figure, Of};

/// Freezes and thaws.
const FREEZES: usize = 40;
/// Rounds with a large workspace.
const ROUNDS: usize = 10;
/// Makes 4 000 files of 25 000 bytes, in 40 folders. They are of random hexadecimal digits, of which
/// half the bits can be saved: less than of source code. The scripted model takes one line.
const FILES: &str = concat!(
    r#"bash: python3 -c 'import os; [os.makedirs("d%d" % n) for n in range(40)]; "#,
    r#"[open("d%d/f%d" % (n % 40, n), "w").write(os.urandom(12500).hex()) for n in range(4000)]' "#,
    "&& du --apparent-size -sm . | cut -f1",
);

impl Bench {
    pub(crate) fn lives(&mut self) -> anyhow::Result<()> {
        self.freezes()?;
        self.large()
    }

    fn freezes(&mut self) -> anyhow::Result<()> {
        let (_, session) = self.ash.create()?;
        self.ash.turn(&session, crate::MESSAGE)?;
        let unit = format!("ash-sandbox-{}.service", session.sandbox);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let manager = runtime.block_on(async {
            let bus = zbus::connection::Builder::system().build().await?;
            ManagerProxy::new(&bus).await
        })?;
        let (mut frozen, mut thawed, mut paused, mut resumed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..FREEZES {
            let before = Instant::now();
            runtime.block_on(manager.freeze_unit(&unit))?;
            frozen.push(before.elapsed());
            let before = Instant::now();
            runtime.block_on(manager.thaw_unit(&unit))?;
            thawed.push(before.elapsed());
            paused.push(self.ash.change(&session, "pause")?);
            resumed.push(self.ash.change(&session, "resume")?);
        }
        let told = self.ash.told(&session, "resumed")?;
        ensure!(told.iter().all(|one| one["path"] == "warm") && told.len() == FREEZES, "not all were thawed: {told:?}");
        self.end(&[session], 0)?;
        self.figures.extend([
            Figure::times("freeze a sandbox, systemd alone", &frozen).bound(Of::P50, 10.0),
            Figure::times("thaw it", &thawed).bound(Of::P50, 10.0),
            Figure::times("pause, small workspace: snapshot and freeze", &paused),
            Figure::times("resume it: thaw, HTTP in to 200", &resumed).bound(Of::P50, 10.0),
        ]);
        Ok(())
    }

    fn large(&mut self) -> anyhow::Result<()> {
        let (_, session) = self.ash.create()?;
        self.ash.turn(&session, FILES)?;
        let (mut stopped, mut resumed, mut both) = (Vec::new(), Vec::new(), Vec::new());
        let (mut paused, mut warm, mut forked) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            paused.push(self.ash.change(&session, "pause")?);
            warm.push(self.ash.change(&session, "resume")?);
            let stop = self.ash.change(&session, "stop")?;
            let (took, child) = self.ash.fork(&session)?;
            forked.push(took);
            let resume = self.ash.change(&session, "resume")?;
            stopped.push(stop);
            resumed.push(resume);
            both.push(stop + resume);
            self.ash.end(&child)?;
        }
        let bytes = self.ash.told(&session, "snapshot")?.iter().filter_map(|one| one["bytes"].as_u64()).max().unwrap_or(0);
        ensure!(bytes > 40 << 20, "the workspace was not made: its snapshot has {bytes} bytes");
        self.end(&[session], 0)?;
        machine::wait_for("ended sandboxes are gone", || machine::live_sandboxes() == 0)?;
        self.figures.extend([
            Figure::times("stop and resume, 100 MB in 4 000 files", &both).bound(Of::P50, 1000.0),
            Figure::times("  stop: snapshot, processes end, folder goes", &stopped),
            Figure::times("  resume from the snapshot", &resumed),
            Figure::times("  pause: snapshot and freeze", &paused),
            Figure::times("  resume: thaw", &warm),
            Figure::times("  fork of it while it is stopped", &forked),
        ]);
        Ok(())
    }
}
