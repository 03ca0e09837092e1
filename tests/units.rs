//! The units of the package: no more exposed than `docs/security.md` says.

#![allow(clippy::print_stderr, reason = "says on standard error what it skips")]

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// The most that systemd-analyze may count, in tenths of its scale from 0 (nothing is exposed) to 10.
const EXPOSURE_MAX: u32 = 15;

#[test]
fn daemon_and_launcher_are_confined_by_their_units() {
    for unit in ["ash.service", "ash-launcher.service"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit);
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--no-pager", "--offline=true", &format!("--threshold={EXPOSURE_MAX}")]).arg(path);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
                eprintln!("skipped: there is no systemd-analyze");
                return;
            }
            Err(error) => panic!("systemd-analyze: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Overall exposure level"), "{unit}: {problems}");
        let open: Vec<_> = said.lines().filter(|line| line.starts_with('✗') || line.contains("Overall")).collect();
        assert!(output.status.success(), "{unit} is more exposed than {EXPOSURE_MAX} tenths:\n{}", open.join("\n"));
    }
}
