//! Ash: a host agent that turns a folder with a `CLAUDE.md` into a production API.
//!
//! Modules stand here by layer. A module uses the layers above it in this list, never those
//! below; `tests/layers.rs` enforces that. Each program is a Cargo feature, and the feature
//! gates stand on the `mod` lines of this file and of the modules' own `mod.rs`, nowhere else.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0, words: no I/O, no async, no clock | [`wire`], `lifecycle`; `hostile`, for tests |
//! | 1, tools: each usable alone | `report`, `archive`, `cgroup`, `config`, `crypt`, `fault`, `telemetry`, `systemd`, `link` |
//! | 2, ports and backends; the small programs | `store`, `snapshot`, `sandbox`, `launcher`, `runtime`, `init`, `shim`, `client` |
//! | 3, services | `auth`, `credential`, `agent`, `session`, `gc`, `doctor` |
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
#[cfg(feature = "daemon")]
pub mod fault;
#[cfg(any(feature = "daemon", feature = "launcher", feature = "shim", feature = "init"))]
pub mod link;
pub mod report;
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
#[cfg(feature = "shim")]
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
pub mod gc;
#[cfg(feature = "daemon")]
pub mod session;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod http;
