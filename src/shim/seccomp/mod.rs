//! Which system calls run inside a sandbox, as filters of the kernel (seccomp(2)).
//!
//! Most of a kernel's faults are reached through calls that no agent needs. So the filters name what
//! is allowed, and all else is as if the kernel had never heard of it ([`calls`]): a call that a
//! later kernel brings is closed until somebody has looked at it. What is refused is refused as by
//! a kernel, since programs know what to do then: `ENOSYS` for what a kernel can lack, `EPERM` for
//! what takes rights, `EAFNOSUPPORT` for kinds of sockets. A filter has one answer to what it refuses
//! (seccompiler), so there is one for each; the kernel runs all of them, and the strictest counts.
//!
//! | filter | allows | else |
//! | --- | --- | --- |
//! | [`known`] | what is in one of the tables | `ENOSYS` |
//! | [`rights`] | all but what changes or shows the host, unmakes the sandbox, or reaches into another process | `EPERM` |
//! | [`sockets`] | Unix, TCP and UDP, and asking the kernel for addresses and routes | `EAFNOSUPPORT` |
//!
//! Each ends a process that calls in the way of another processor (32-bit calls on x86-64), whose
//! numbers mean other calls. The x32 numbers of x86-64 are not in the tables.
//!
//! Since Linux 5.11 the kernel knows which calls the filters allow whatever their arguments, and does
//! not run them for those; only calls with a condition cost anything.
//!
//! The shim has a filter of its own ([`own`]), which bubblewrap inherits. It can refuse only what
//! neither of them needs.

mod calls;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What each filter answers, as the kernel does in such a case.
const ABSENT: SeccompAction = SeccompAction::Errno(libc::ENOSYS as u32);
const REFUSED: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);
const NO_FAMILY: SeccompAction = SeccompAction::Errno(libc::EAFNOSUPPORT as u32);

/// Flags of clone(2) for new namespaces. Not `CLONE_NEWTIME`, whose bit is part of the signal there.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];
/// Requests of ioctl(2): `TIOCSTI` types into a terminal for whoever reads there next, `TIOCLINUX`
/// pastes into one, `TIOCSETD` has the kernel drive something else by it.
const TERMINALS: [libc::c_ulong; 3] = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD];
/// `personality` that asks for the present one, and that of Linux.
const PERSONALITIES: [u32; 2] = [u32::MAX, 0];
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Any, TCP, UDP. For others the kernel would load a module.
const PROTOCOLS: [libc::c_int; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];

/// Kinds of socket that the kernel would load a module for, though the protocol says nothing: RDM,
/// SEQPACKET (SCTP), DCCP and PACKET (linux/net.h). Flags stand beside them in the argument.
const KINDS: [libc::c_int; 4] = [libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, 10];
const KIND_MASK: u64 = 0xf;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It can not be compiled.
    #[error("compile system call filter")]
    Compile(#[from] BackendError),
    /// It can not be handed over.
    #[error("hand over system call filter")]
    File(#[from] std::io::Error),
    /// The kernel does not take it.
    #[error("take up system call filter")]
    Apply(#[source] seccompiler::Error),
}

impl SeccompError {
    /// Whether the kernel was built without filters.
    pub fn is_missing(&self) -> bool {
        let Self::Apply(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error)) = self else { return false };
        matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
    }
}

/// The filters for what runs inside, each as a file for bubblewrap to read. `trace` allows what
/// debuggers need.
pub fn inside(trace: bool) -> Result<Vec<OwnedFd>, SeccompError> {
    [known()?, rights(trace)?, sockets()?].iter().map(file).collect()
}

/// Puts the shim and all it starts under a filter, and lets none of them gain rights.
pub fn confine_self() -> Result<(), SeccompError> {
    seccompiler::apply_filter(&own()?).map_err(SeccompError::Apply)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Rules that match these calls whatever their arguments.
fn always(numbers: impl IntoIterator<Item = libc::c_long>) -> Rules {
    numbers.into_iter().map(|number| (number, Vec::new())).collect()
}

fn all(tables: &[&[libc::c_long]]) -> impl Iterator<Item = libc::c_long> {
    tables.concat().into_iter()
}

fn known() -> Result<BpfProgram, BackendError> {
    let mut rules = always(all(calls::ORDINARY));
    rules.extend(always(all(calls::OLDER)));
    rules.extend(always(all(calls::HOST)));
    rules.extend(always(all(&[calls::FENCE, calls::TRACE])));
    compile(rules, ABSENT, SeccompAction::Allow)
}

fn rights(trace: bool) -> Result<BpfProgram, BackendError> {
    let mut rules = always(all(calls::HOST));
    rules.extend(always(all(&[calls::FENCE])));
    if !trace {
        rules.extend(always(all(&[calls::TRACE])));
    }
    let flags = NAMESPACES.map(|flag| u64::from(flag.cast_unsigned()));
    rules.insert(libc::SYS_clone, any(flags, |flag| Ok(vec![argument(0, SeccompCmpOp::MaskedEq(flag), flag)?]))?);
    rules.insert(libc::SYS_ioctl, any(TERMINALS, |request| Ok(vec![argument(1, SeccompCmpOp::Eq, request)?]))?);
    let other = PERSONALITIES.map(|known| argument(0, SeccompCmpOp::Ne, known.into()));
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(other.into_iter().collect::<Result<_, _>>()?)?]);
    compile(rules, SeccompAction::Allow, REFUSED)
}

fn sockets() -> Result<BpfProgram, BackendError> {
    let none_of = |at: u8, values: &[libc::c_int]| -> Result<Vec<SeccompCondition>, BackendError> {
        values.iter().map(|value| argument(at, SeccompCmpOp::Ne, u64::from(value.cast_unsigned()))).collect()
    };
    let of_family = |family: libc::c_int, protocols: &[libc::c_int]| {
        let mut conditions = vec![argument(0, SeccompCmpOp::Eq, u64::from(family.cast_unsigned()))?];
        conditions.extend(none_of(2, protocols)?);
        SeccompRule::new(conditions)
    };
    let of_kind = |family: libc::c_int, kind: libc::c_int| {
        SeccompRule::new(vec![
            argument(0, SeccompCmpOp::Eq, u64::from(family.cast_unsigned()))?,
            argument(1, SeccompCmpOp::MaskedEq(KIND_MASK), u64::from(kind.cast_unsigned()))?,
        ])
    };
    let refused = || -> Result<Vec<SeccompRule>, BackendError> {
        let mut rules = vec![
            SeccompRule::new(none_of(0, &FAMILIES)?)?,
            of_family(libc::AF_NETLINK, &[libc::NETLINK_ROUTE])?,
            of_family(libc::AF_INET, &PROTOCOLS)?,
            of_family(libc::AF_INET6, &PROTOCOLS)?,
        ];
        for family in [libc::AF_INET, libc::AF_INET6] {
            for kind in KINDS {
                rules.push(of_kind(family, kind)?);
            }
        }
        Ok(rules)
    };
    let rules = BTreeMap::from([(libc::SYS_socket, refused()?), (libc::SYS_socketpair, refused()?)]);
    compile(rules, SeccompAction::Allow, NO_FAMILY)
}

fn own() -> Result<BpfProgram, BackendError> {
    let mut rules = always(all(calls::HOST));
    rules.extend(always(all(&[calls::OPTIONAL])));
    compile(rules, SeccompAction::Allow, REFUSED)
}

/// A rule for each value, of which any has to match.
fn any<T, const N: usize>(
    values: [T; N],
    conditions: impl Fn(T) -> Result<Vec<SeccompCondition>, BackendError>,
) -> Result<Vec<SeccompRule>, BackendError> {
    values.into_iter().map(|value| SeccompRule::new(conditions(value)?)).collect()
}

/// A condition on an argument, of which the kernel, too, reads 32 bits: what stands in the others
/// does not make another value of it (CVE-2019-10063).
fn argument(at: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(at, SeccompCmpArgLen::Dword, compare, value)
}

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// A file in memory with the filter as the kernel reads it (`struct sock_filter`). Who is started
/// next inherits it.
fn file(program: &BpfProgram) -> Result<OwnedFd, SeccompError> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for step in program {
        bytes.extend_from_slice(&step.code.to_ne_bytes());
        bytes.extend([step.jt, step.jf]);
        bytes.extend_from_slice(&step.k.to_ne_bytes());
    }
    let mut file = File::from(memfd_create(c"seccomp", MFdFlags::empty()).map_err(std::io::Error::from)?);
    file.write_all(&bytes)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests;
