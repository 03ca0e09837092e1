//! The shim with real bubblewrap and real init: what it promises to the daemon and to the
//! operator. `claude` has the same with the real runtime.

mod attack;
mod bill;
mod bindings;
mod claude;
mod confinement;
mod disk;
mod egress;
mod mechanics;
mod permissions;
mod sandbox;
mod snapshot;
mod spool;
mod support;
#[path = "../support/tls.rs"]
mod tls;
