//! `ashd`: the daemon. Arguments, then [`ash::daemon::run`], then the exit status.

use std::path::PathBuf;
use std::process::ExitCode;

use ash::config::Sources;
use ash::daemon::{DEFAULT_CONTROL, DEFAULT_DATA, DirectOptions, Options, run};
use ash::sandbox::walls::BWRAP;
use clap::Parser;

/// Exit status for a wrong configuration (`EX_CONFIG` of sysexits.h); the unit does not restart then.
const EXIT_CONFIG: u8 = 78;

/// Host agent that runs AI agents in sandboxes and fronts them with an API
#[derive(Debug, Parser)]
#[command(name = "ashd", version)]
struct Arguments {
    /// Read this file instead of /etc/ash/ash.toml and its drop-ins
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep state in this folder
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,
    /// Control socket, where the service manager passes none [default: /run/ash/ash.sock, with --dev DIR/ash.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Run sandboxes as child processes, without systemd, limits or users of their own
    #[arg(long)]
    dev: bool,
    /// With --dev: the shim [default: beside this program]
    #[arg(long, value_name = "PATH", requires = "dev")]
    shim: Option<PathBuf>,
    /// With --dev: the init [default: beside this program]
    #[arg(long, value_name = "PATH", requires = "dev")]
    init: Option<PathBuf>,
    /// With --dev: folder of the files that become /etc in sandboxes
    #[arg(long, value_name = "DIR", requires = "dev", default_value = "/usr/share/ash/etc")]
    etc: PathBuf,
    /// With --dev: bubblewrap
    #[arg(long, value_name = "PATH", requires = "dev", default_value = BWRAP)]
    bwrap: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = ash::telemetry::log::init("ashd") {
        return fail(&ash::report::chain(&error), EXIT_CONFIG);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("start threads: {error}"), 1),
    };
    match runtime.block_on(run(options(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = if error.is_config() { EXIT_CONFIG } else { 1 };
            fail(&ash::report::chain(&error), status)
        }
    }
}

fn options(arguments: Arguments) -> Options {
    let beside = |name: &str| std::env::current_exe().map_or_else(|_| name.into(), |program| program.with_file_name(name));
    let direct = arguments.dev.then(|| DirectOptions {
        shim: arguments.shim.unwrap_or_else(|| beside("ash-shim")),
        init: arguments.init.unwrap_or_else(|| beside("ash-init")),
        etc: arguments.etc,
        bwrap: arguments.bwrap,
    });
    // What is named after it, such as the place of snapshots, is absolute.
    let data = std::path::absolute(&arguments.data).unwrap_or(arguments.data);
    let default_control = if arguments.dev { data.join("ash.sock") } else { DEFAULT_CONTROL.into() };
    Options {
        sources: arguments.config.map_or_else(|| Sources::Root("/".into()), Sources::File),
        data,
        control: arguments.control.unwrap_or(default_control),
        direct,
    }
}

fn fail(reason: &str, status: u8) -> ExitCode {
    tracing::error!("{reason}");
    ExitCode::from(status)
}
