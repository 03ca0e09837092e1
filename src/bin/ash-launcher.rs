//! `ash-launcher [--socket PATH]`: started by `ash-launcher.socket`, as root.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use ash::launcher::{self, privilege};
use ash::telemetry::log;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    log::init("ash-launcher").context("log")?;
    let mut socket = None;
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--socket") => socket = Some(PathBuf::from(args.next().context("read arguments: --socket needs a path")?)),
            _ => bail!("read arguments: unknown argument {arg:?}"),
        }
    }
    privilege::drop_unneeded().context("drop privileges")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    Ok(runtime.block_on(launcher::run(socket.as_deref()))?)
}
