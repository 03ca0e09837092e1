//! Gives up what the launcher does not need of root.

use caps::{CapSet, Capability, CapsHashSet};

/// What remains: giving folders to the uids of sandboxes, and working in and removing folders
/// that belong to them. systemd obeys this process because of its uid.
const NEEDED: [Capability; 3] = [Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];

/// A capability could not be given up, or is missing.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The process was started with less than it needs.
    #[error("missing capability {0}")]
    Missing(Capability),
    /// The kernel refused.
    #[error("give up capabilities of the {set} set")]
    Drop {
        /// Which set.
        set: &'static str,
        /// Why.
        source: caps::errors::CapsError,
    },
}

/// Drops all capabilities but the needed ones from all sets of the calling thread. Threads started
/// later inherit that, so it comes first in `main`.
///
/// # Errors
///
/// See [`PrivilegeError`].
pub fn drop_unneeded() -> Result<(), PrivilegeError> {
    let failed = |set| move |source| PrivilegeError::Drop { set, source };
    let needed = CapsHashSet::from(NEEDED);
    let held = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    if let Some(missing) = NEEDED.into_iter().find(|capability| !held.contains(capability)) {
        return Err(PrivilegeError::Missing(missing));
    }
    // The bounding set first: shrinking it takes CAP_SETPCAP, which goes with the others.
    let bounding = caps::read(None, CapSet::Bounding).map_err(failed("bounding"))?;
    for capability in bounding.difference(&needed) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(failed("bounding"))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &needed).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &needed).map_err(failed("permitted"))
}
