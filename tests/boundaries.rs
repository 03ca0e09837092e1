//! What runs as root, or beside strangers, is small by construction: it is built without what it
//! does not need.

use std::collections::BTreeSet;
use std::process::Command;

/// The crates that a program is made of when it is built with its own feature alone.
fn crates_of(feature: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--no-default-features", "--edges", "normal", "--prefix", "none"])
        .args(["--features", feature, "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let crates: BTreeSet<_> = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(crates.contains("ash") && crates.contains("nix"), "{text}");
    crates
}

fn assert_without(feature: &str, unwanted: &[&str]) {
    let crates = crates_of(feature);
    let found: Vec<_> = unwanted.iter().filter(|name| crates.contains(**name)).collect();
    assert!(found.is_empty(), "{feature} is built with {found:?}");
}

#[test]
fn the_launcher_has_no_http_no_database_no_json_of_requests() {
    assert_without("launcher", &["hyper", "axum", "rustls", "rusqlite", "toml", "tar", "clap", "regex", "regex-automata"]);
}

#[test]
fn the_shim_has_no_database_and_no_http_framework() {
    assert_without("shim", &["axum", "rusqlite", "toml", "tar", "clap", "zbus", "regex", "regex-automata"]);
}

#[test]
fn the_init_has_no_network_stack_and_no_async_runtime() {
    assert_without("init", &["tokio", "hyper", "axum", "rustls", "rusqlite", "toml", "clap", "zbus", "regex"]);
}

#[test]
fn no_program_of_the_package_has_fault_points() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("reads");
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let features = manifest["features"].as_table().expect("features");
    assert!(features.contains_key("failpoints"));
    for (feature, parts) in features {
        let brings = parts.as_array().expect("a list").iter().any(|part| part.as_str() == Some("failpoints"));
        assert!(!brings, "{feature} brings failpoints");
    }
    assert!(read("debian/rules").contains("--no-default-features --features $(1)"));
    assert!(!read("debian/rules").contains("failpoints"));
}

#[test]
fn the_packaged_daemon_sends_traces_and_that_adds_few_crates() {
    let rules = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/debian/rules")).expect("reads");
    assert!(rules.contains("$(call cargo_build,daemon$(comma)otel,ashd)"));
    let (without, with) = (crates_of("daemon"), crates_of("daemon,otel"));
    let added: Vec<_> = with.difference(&without).collect();
    assert!(with.contains("opentelemetry-proto") && added.len() <= 15, "{added:?}");
    assert_without("daemon,otel", &["tonic", "reqwest", "opentelemetry-otlp"]);
}

#[test]
fn one_tls_implementation_and_nothing_that_links_the_hosts() {
    for feature in ["daemon", "daemon,otel", "cli", "launcher", "shim", "init"] {
        assert_without(feature, &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"]);
    }
}
