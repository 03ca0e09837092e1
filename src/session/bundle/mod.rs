//! Workspace bundles: the workspace as a `tar.gz`, out of a session and into one.
//!
//! ```text
//! out:  sandbox ─ packed by init, parts over the link ─┐
//!       snapshot ─ Reader ─────────────────────────────┴▶ export ─▶ gzip ─▶ client
//! in:   client ─▶ Spool (a nameless file) ─▶ lay, thrown away: may it come in?
//!                                        └─▶ lay, again ─▶ link ─▶ init, which writes it
//! ```
//!
//! No path of the daemon opens a file of a workspace. What comes in is read twice by the same code:
//! before anything is touched, to know that all of it may come in, and then in the form of Ash's own
//! archives to the sandbox. What goes out is read as well, since it comes from inside: whatever a
//! sandbox sends, a client gets an archive whose names stay inside.

mod download;
mod export;
mod lay;
#[cfg(test)]
mod tests;
mod upload;

pub(super) use download::{Chunks, from_snapshot};
pub use download::{Download, Source};
pub use lay::{BundleError, Contents, ENTRIES_MAX};
pub(super) use upload::{Bundle, lay_over};
pub use upload::{Placed, Spool};

/// What a bundle has not, unless it is to have everything: what is made again by installing, and what
/// holds secrets. The same as in the system whose clients are served.
const EXCLUDES: [&str; 16] = [
    "node_modules",
    ".git",
    "__pycache__",
    ".cache",
    ".npm",
    ".pnpm-store",
    ".yarn",
    ".venv",
    "venv",
    ".tmp",
    "tmp",
    ".env",
    ".env.local",
    ".env.production",
    ".env.development",
    ".DS_Store",
];

/// Why the target of a link, which lies so many folders below the workspace, leads out of it; `None`
/// if it stays inside, as far as names tell.
///
/// A target may climb at its beginning only: what lies above a link in a bundle are true folders, so
/// each climb starts from a known place, and from there on the way goes down, or over another link of
/// the same kind. An absolute one is of the workspace as it lies in each sandbox.
fn outward(depth: usize, target: &[u8]) -> Option<&'static str> {
    let inside = crate::link::shim::WORKSPACE_INSIDE.as_bytes();
    let (mut above, target) = match target.strip_prefix(inside) {
        Some(rest) if rest.first().is_none_or(|byte| *byte == b'/') => (0, rest),
        _ if target.starts_with(b"/") => return Some("is a link that leads out of the workspace"),
        _ => (depth, target),
    };
    let mut descended = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if descended => return Some("is a link with '..' after other names"),
            b".." if above == 0 => return Some("is a link that leads out of the workspace"),
            b".." => above -= 1,
            _ => descended = true,
        }
    }
    None
}
