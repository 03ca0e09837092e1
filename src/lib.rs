//! Ash: a host agent that turns a folder with a `CLAUDE.md` into a production API.
//!
//! Modules stand here by layer. A module uses the layers above it in this list, never those
//! below; `tests/layers.rs` enforces that. Each program is a Cargo feature, and the feature
//! gates stand on the `mod` lines of this file and of the modules' own `mod.rs`, nowhere else but where
//! types of [`wire`] describe themselves for the OpenAPI document.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0, words: no I/O, no async, no clock | [`wire`], `lifecycle`; `hostile`, for tests |
//! | 1, tools: each usable alone | `report`, `folder`, `resolve`, `archive`, `cgroup`, `config`, `crypt`, `egress`, `fault`, `telemetry`, `systemd`, `link` |
//! | 2, ports and backends; the small programs | `store`, `snapshot`, `sandbox`, `launcher`, `runtime`, `init`, `shim`, `client` |
//! | 3, services | `auth`, `credential`, `agent`, `session`, `queue`, `eval`, `project_file`, `schedule`, `webhook`, `gc`, `doctor` |
//! | 4, edges | `http`, `daemon`, `cli` |

#[cfg(test)]
mod hostile;
#[cfg(feature = "daemon")]
pub mod lifecycle;
pub mod wire;

#[cfg(any(feature = "daemon", feature = "init"))]
pub mod archive;
#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod cgroup;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod crypt;
#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod egress;
#[cfg(feature = "daemon")]
pub mod fault;
#[cfg(feature = "daemon")]
mod folder;
#[cfg(any(feature = "daemon", feature = "launcher", feature = "shim", feature = "init"))]
pub mod link;
pub mod report;
#[cfg(any(feature = "daemon", feature = "shim"))]
mod resolve;
#[cfg(feature = "launcher")]
pub mod systemd;
#[cfg(any(feature = "daemon", feature = "launcher", feature = "shim"))]
pub mod telemetry;
#[cfg(all(test, feature = "daemon", feature = "shim"))]
mod testing;

#[cfg(feature = "cli")]
pub mod client;
#[cfg(feature = "init")]
pub mod init;
#[cfg(feature = "launcher")]
pub mod launcher;
#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod runtime;
#[cfg(feature = "daemon")]
pub mod sandbox;
#[cfg(feature = "shim")]
pub mod shim;
#[cfg(feature = "daemon")]
pub mod snapshot;
#[cfg(feature = "daemon")]
pub mod store;

#[cfg(feature = "daemon")]
pub mod agent;
#[cfg(feature = "daemon")]
pub mod auth;
#[cfg(feature = "daemon")]
pub mod credential;
#[cfg(feature = "daemon")]
pub mod doctor;
#[cfg(feature = "daemon")]
pub mod eval;
#[cfg(feature = "daemon")]
pub mod gc;
#[cfg(feature = "daemon")]
pub mod project_file;
#[cfg(feature = "daemon")]
pub mod queue;
#[cfg(feature = "daemon")]
pub mod schedule;
#[cfg(feature = "daemon")]
pub mod session;
#[cfg(feature = "daemon")]
pub mod webhook;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod http;
