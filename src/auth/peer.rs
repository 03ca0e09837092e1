//! Callers on the control socket, known by the credentials that the kernel gives.

use nix::unistd::{Gid, Group, Uid, User};

use super::{DEFAULT_TENANT, Principal};
use crate::wire::scope::Scopes;

/// The group whose members may use the control socket.
pub const GROUP: &str = "ash";

/// A caller who may not use the control socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("user {user} is neither root nor in group {GROUP}: run \"usermod -aG {GROUP} {user}\" as root, then log in again")]
pub struct PeerRefused {
    user: String,
}

/// Decides once for each connection: root, the daemon's own user, and members of group `ash`.
pub fn admit(uid: Uid, gid: Gid) -> Result<Principal, PeerRefused> {
    let user = User::from_uid(uid).ok().flatten();
    let name = user.as_ref().map_or_else(|| uid.to_string(), |user| user.name.clone());
    if uid.is_root() || uid == nix::unistd::geteuid() || is_member(user.as_ref(), gid) {
        Ok(Principal {
            tenant: DEFAULT_TENANT.to_owned(),
            name: format!("uid:{uid}"),
            local: true,
            scopes: Scopes::ADMIN,
            agent: None,
            key: None,
            expires_at: None,
        })
    } else {
        Err(PeerRefused { user: name })
    }
}

fn is_member(user: Option<&User>, gid: Gid) -> bool {
    let Ok(Some(group)) = Group::from_name(GROUP) else { return false };
    // The credentials name the primary group only; the others are looked up.
    gid == group.gid || user.is_some_and(|user| group.mem.contains(&user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_own_user_are_admitted_and_strangers_are_told_how() {
        assert!(admit(Uid::from_raw(0), Gid::from_raw(0)).is_ok());
        assert!(admit(nix::unistd::geteuid(), Gid::from_raw(64_999)).is_ok());
        let refused = admit(Uid::from_raw(64_999), Gid::from_raw(64_999)).expect_err("no member");
        assert!(refused.to_string().contains("usermod -aG ash 64999"), "{refused}");
    }
}
