//! The shim with real bubblewrap and real init: what it promises to the daemon and to the
//! operator. `claude` has the same with the real runtime.

mod attack;
mod claude;
mod mechanics;
mod sandbox;
mod support;
