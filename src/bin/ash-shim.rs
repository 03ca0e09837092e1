//! The trusted process beside a sandbox. The launcher starts it; people have no use for it.
#![expect(clippy::print_stderr, reason = "standard error is where a program says why it failed")]

use std::process::ExitCode;

fn main() -> ExitCode {
    match ash::shim::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ash-shim: {}", ash::report::chain(&error));
            ExitCode::FAILURE
        }
    }
}
