//! The languages in which Ash's own processes talk to each other.
//!
//! | module | between | carried by |
//! | --- | --- | --- |
//! | [`launch`] | `ashd` and `ash-launcher` | lines of ASCII on a Unix stream socket |
//! | [`shim`] | `ashd` and `ash-shim` | length-prefixed frames ([`frame`]) on a Unix stream socket |
//! | [`inner`] | `ash-shim` and `ash-init` | datagrams with descriptors ([`datagram`]) on a socket pair |
//!
//! And [`control`]: the environment variables that are Ash's own, which both ends of [`shim`] keep;
//! [`files`]: how `ash-init` tells of the files of a workspace, through the shim.

#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod control;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(any(feature = "shim", feature = "init"))]
pub mod datagram;
#[cfg(any(feature = "daemon", feature = "init"))]
pub mod files;
#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod frame;
#[cfg(any(feature = "shim", feature = "init"))]
pub mod inner;
#[cfg(any(feature = "daemon", feature = "launcher"))]
pub mod launch;
#[cfg(any(feature = "daemon", feature = "shim"))]
pub mod shim;
