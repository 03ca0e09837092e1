//! Process 1 inside a sandbox. The shim starts it; people have no use for it.
#![expect(clippy::print_stderr, reason = "standard error is where a program says why it failed")]

use std::process::ExitCode;

fn main() -> ExitCode {
    match ash::init::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ash-init: {}", ash::report::chain(&error));
            ExitCode::from(error.code())
        }
    }
}
