//! `ashctl`: the command line of Ash.

use std::process::ExitCode;

fn main() -> ExitCode {
    ash::cli::run()
}
