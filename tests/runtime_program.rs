//! The runtime's program is asked for its version before it is trusted with anything.
#![cfg(feature = "daemon")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ash::config::runtime::{RuntimeError, Version, version};

const DEADLINE: Duration = Duration::from_secs(20);

fn program(folder: &tempfile::TempDir, name: &str, script: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    path
}

/// One test, as a program can not be started while another thread's fork holds it open for writing.
#[tokio::test]
async fn only_claude_of_a_known_version_is_taken() {
    let folder = tempfile::tempdir().expect("folder");

    let good = program(&folder, "good", "[ \"$*\" = --version ] && echo '2.1.330 (Claude Code)'");
    assert_eq!(version(&good, DEADLINE).await.expect("good"), Version { major: 2, minor: 1, patch: 330 });

    let old = program(&folder, "old", "echo '1.0.128 (Claude Code)'");
    let error = version(&old, DEADLINE).await.expect_err("old");
    assert!(matches!(error, RuntimeError::TooOld { found: Version { major: 1, .. }, .. }), "{error}");
    assert!(error.to_string().contains("npm install"), "{error}");

    let other = program(&folder, "other", "echo 'claude, a cloud editor'; yes");
    let error = version(&other, DEADLINE).await.expect_err("another program");
    assert!(matches!(&error, RuntimeError::WrongProgram { said, .. } if said.starts_with("claude, a cloud editor")), "{error}");

    let silent = program(&folder, "silent", "exit 3");
    assert!(matches!(version(&silent, DEADLINE).await, Err(RuntimeError::WrongProgram { said, .. }) if said.is_empty()));

    let slow = program(&folder, "slow", "exec sleep 1000");
    let error = version(&slow, Duration::from_millis(50)).await.expect_err("slow");
    assert!(matches!(error, RuntimeError::Slow { .. }), "{error}");

    let broken = folder.path().join("broken");
    std::fs::write(&broken, [0x7f, b'E', b'L', b'F', 0, 0]).expect("file");
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).expect("mode");
    assert!(matches!(version(&broken, DEADLINE).await, Err(RuntimeError::Start { .. })));

    // The daemon's environment, in which its credentials are named, does not reach the program.
    let nosy = program(&folder, "nosy", "echo \"${CARGO_MANIFEST_DIR-none} (Claude Code)\"");
    assert!(matches!(version(&nosy, DEADLINE).await, Err(RuntimeError::WrongProgram { said, .. }) if said.starts_with("none")));
}
