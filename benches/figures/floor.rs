//! The physical floor of a cold start: a bare transient unit that does what every sandbox has to
//! have done, and nothing of Ash.
//!
//! The unit has the properties that the launcher gives, and executes setpriv and bubblewrap with
//! the arguments of a sandbox that lives, with a shell in place of init, which says at once that it
//! is up. So what a sandbox takes longer than that is Ash's own.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ash::systemd::property::Property;
use ash::systemd::proxy::ManagerProxy;

use crate::machine;

/// Starts bare units.
#[derive(Debug)]
pub struct Floor {
    runtime: tokio::runtime::Runtime,
    manager: ManagerProxy<'static>,
    argv: Vec<String>,
    count: u32,
}

impl Floor {
    /// Takes the arguments of this sandbox, which has to live as long as this does.
    pub fn like(sandbox: &str) -> anyhow::Result<Self> {
        let processes = machine::processes_of(sandbox)?;
        let bwrap = processes.iter().find(|process| process.name == "bwrap").context("the sandbox has no bubblewrap")?;
        let uid = bwrap.uid()?;
        let mut argv: Vec<String> = [
            "/usr/bin/setpriv",
            &format!("--reuid={uid}"),
            &format!("--regid={uid}"),
            "--clear-groups",
            "--bounding-set=-setgid,-setuid,-setpcap",
            "--inh-caps=-setgid,-setuid,-setpcap",
            "--",
            "/usr/bin/bwrap",
        ]
        .map(str::to_owned)
        .into();
        let mut arguments = bwrap.arguments()?.into_iter().skip(1).take_while(|argument| argument != "--");
        while let Some(argument) = arguments.next() {
            // The filters of system calls came in descriptors that are closed by now. A floor has none.
            if argument == "--add-seccomp-fd" {
                arguments.next();
            } else {
                argv.push(argument);
            }
        }
        argv.extend(["--", "/bin/sh", "-c", "echo up >&0"].map(str::to_owned));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let manager = runtime.block_on(async {
            let bus = zbus::connection::Builder::system().build().await?;
            ManagerProxy::new(&bus).await
        })?;
        Ok(Self { runtime, manager, argv, count: 0 })
    }

    /// How long one takes from the call of systemd to the first word from inside.
    pub fn start(&mut self) -> anyhow::Result<Duration> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(Duration::from_secs(30)))?;
        self.count += 1;
        let name = format!("ash-bench-floor-{}.service", self.count);
        let properties = [
            Property::Description("Floor of a cold start".to_owned()),
            Property::Slice("ash-sandbox.slice"),
            Property::ExecType,
            Property::ExecStart(self.argv.clone()),
            Property::UMask(0o077),
            Property::NoNewPrivileges,
            Property::CapabilityBoundingSet(1 << 6 | 1 << 7 | 1 << 8),
            Property::MemoryMax(1 << 30),
            Property::MemorySwapMax(0),
            Property::CpuQuota(200),
            Property::TasksMax(256),
            Property::LimitNoFile(16_384),
            Property::KillMode("control-group"),
            Property::OomPolicy("continue"),
            Property::StandardInput(theirs.into()),
            Property::StandardOutputToJournal,
            Property::StandardErrorToJournal,
        ];
        let before = Instant::now();
        self.runtime.block_on(async {
            let properties: Vec<_> = properties.iter().map(Property::to_dbus).collect();
            self.manager.start_transient_unit(&name, "fail", &properties, &[]).await
        })?;
        let mut said = [0; 3];
        ours.read_exact(&mut said).with_context(|| format!("{name} said nothing, see its journal"))?;
        let took = before.elapsed();
        machine::wait_for("the bare unit is gone", || !machine::unit_folder(&name).exists())?;
        Ok(took)
    }
}
