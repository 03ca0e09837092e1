//! Gives up what the launcher does not need of root.

use caps::{CapSet, Capability, CapsHashSet};

/// What remains: giving folders to the uids of sandboxes, and working in and removing folders
/// that belong to them. systemd obeys this process because of its uid.
const NEEDED: [Capability; 3] = [Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];
/// What a quota takes to be set. Kept, but not in effect: see [`with_admin`].
const ADMIN: Capability = Capability::CAP_SYS_ADMIN;

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
    /// The kernel did not put a capability into effect, or out of it.
    #[error("take up {ADMIN} for a call, or lay it down")]
    Admin(#[source] caps::errors::CapsError),
}

/// Drops all capabilities but the needed ones from all sets of the calling thread, and that for quotas, if it
/// is there, from those in effect. Threads started later inherit that, so it comes first in `main`.
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
    let mut kept = needed.clone();
    kept.extend(held.contains(&ADMIN).then_some(ADMIN));
    // The bounding set first: shrinking it takes CAP_SETPCAP, which goes with the others.
    let bounding = caps::read(None, CapSet::Bounding).map_err(failed("bounding"))?;
    for capability in bounding.difference(&kept) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(failed("bounding"))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &needed).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("permitted"))
}

/// Does something with the capability for quotas in effect, which it is for this thread and this time
/// alone. Without it, does it all the same: the kernel refuses what takes it.
///
/// # Errors
///
/// [`PrivilegeError::Admin`].
pub fn with_admin<T>(act: impl FnOnce() -> T) -> Result<T, PrivilegeError> {
    if !caps::has_cap(None, CapSet::Permitted, ADMIN).map_err(PrivilegeError::Admin)? {
        return Ok(act());
    }
    caps::raise(None, CapSet::Effective, ADMIN).map_err(PrivilegeError::Admin)?;
    let done = act();
    caps::drop(None, CapSet::Effective, ADMIN).map_err(PrivilegeError::Admin)?;
    Ok(done)
}

/// Gives up the capability for quotas for good, also for threads to come: nothing is started that could give
/// it back (`NoNewPrivileges=`).
///
/// # Errors
///
/// [`PrivilegeError::Drop`].
pub fn drop_admin() -> Result<(), PrivilegeError> {
    let drop = |set, name| caps::drop(None, set, ADMIN).map_err(|source| PrivilegeError::Drop { set: name, source });
    drop(CapSet::Effective, "effective")?;
    drop(CapSet::Permitted, "permitted")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_effect() -> bool {
        caps::has_cap(None, CapSet::Effective, ADMIN).expect("reads")
    }

    #[test]
    fn the_capability_for_quotas_is_in_effect_for_a_call_at_a_time_and_can_be_given_up_for_good() {
        // Capabilities are a thread's own.
        let tried = std::thread::spawn(|| {
            if !caps::has_cap(None, CapSet::Permitted, ADMIN).expect("reads") {
                // Who has none does without.
                return assert!(!with_admin(is_in_effect).expect("is tried"));
            }
            caps::drop(None, CapSet::Effective, ADMIN).expect("lays it down");
            assert!(with_admin(is_in_effect).expect("takes it up"));
            assert!(!is_in_effect(), "and lays it down");
            drop_admin().expect("gives it up");
            assert!(!with_admin(is_in_effect).expect("is tried"));
            caps::raise(None, CapSet::Effective, ADMIN).expect_err("is gone");
        });
        tried.join().expect("holds");
    }
}
