//! The filters, run as the kernel runs them (Documentation/networking/filter.rst). That the kernel
//! agrees, `tests/shim/confinement.rs` shows with some calls of each kind.

use std::sync::LazyLock;

use super::*;

const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
/// 32-bit programs of x86.
const I386: u32 = 0x4000_0003;

/// What a filter says to a call (`struct seccomp_data`).
fn run(program: &BpfProgram, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number.to_ne_bytes(), arch.to_ne_bytes(), [0; 4], [0; 4]].concat();
    data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let step = &program[at];
        let compared = match step.code {
            // Load a word.
            0x20 => {
                let offset = step.k as usize;
                accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().expect("a word"));
                None
            }
            0x54 => {
                accumulator &= step.k;
                None
            }
            0x05 => {
                at += step.k as usize;
                None
            }
            0x15 => Some(accumulator == step.k),
            0x25 => Some(accumulator > step.k),
            0x35 => Some(accumulator >= step.k),
            0x06 => return step.k,
            other => panic!("step {other:#x}"),
        };
        at += 1 + compared.map_or(0, |is_so| usize::from(if is_so { step.jt } else { step.jf }));
    }
}

/// What a sandbox's filters say together: the strictest, and of several errors that of the newest.
fn verdict_of(trace: bool, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    static FILTERS: LazyLock<[[BpfProgram; 3]; 2]> =
        LazyLock::new(|| [false, true].map(|trace| [known(), rights(trace), sockets()].map(|filter| filter.expect("compiles"))));
    let filters = &FILTERS[usize::from(trace)];
    // Being killed is the least as a signed number, to allow the greatest.
    let say = |filter: &BpfProgram| run(filter, arch, number, arguments);
    filters.iter().rev().map(say).min_by_key(|said| (said & libc::SECCOMP_RET_ACTION_FULL).cast_signed()).expect("three")
}

fn verdict(number: libc::c_long, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    verdict_of(false, ARCH, u32::try_from(number).expect("a number"), all)
}

fn errno(error: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | error.cast_unsigned()
}

#[test]
fn every_call_has_the_answer_of_its_table() {
    let refused: Vec<_> = all(calls::HOST).chain(all(&[calls::FENCE, calls::TRACE])).collect();
    let ordinary: Vec<_> = all(calls::ORDINARY).chain(all(calls::OLDER)).collect();
    for number in 0..1200 {
        let wanted = match (refused.contains(&number), ordinary.contains(&number)) {
            (true, false) => errno(libc::EPERM),
            (false, true) => ALLOW,
            (false, false) => errno(libc::ENOSYS),
            (true, true) => panic!("{number} is in two tables"),
        };
        // As arguments that none of the conditions minds.
        let arguments: &[u64] = if [libc::SYS_socket, libc::SYS_socketpair].contains(&number) { &[1] } else { &[] };
        assert_eq!(verdict(number, arguments), wanted, "{number}");
    }
    for number in calls::OPTIONAL.iter().chain(&[libc::SYS_clone3]) {
        assert_eq!(verdict(*number, &[]), errno(libc::ENOSYS), "{number}");
    }
}

#[test]
fn a_call_in_the_way_of_another_processor_kills() {
    for number in 0..500 {
        assert_eq!(verdict_of(false, I386, number, [0; 6]), KILL);
        // x32 on x86-64, and nothing on others.
        assert_eq!(verdict(0x4000_0000 + libc::c_long::from(number), &[1]), errno(libc::ENOSYS));
    }
}

#[test]
fn a_new_namespace_is_refused_whatever_stands_beside_its_flag() {
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    for flags in [0, libc::SIGCHLD, thread, libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD] {
        let flags = u64::from(flags.cast_unsigned());
        assert_eq!(verdict(libc::SYS_clone, &[flags]), ALLOW, "{flags:#x}");
        for namespace in NAMESPACES.map(|flag| u64::from(flag.cast_unsigned())) {
            for above in [0, 1 << 32, u64::MAX << 32] {
                assert_eq!(verdict(libc::SYS_clone, &[flags | namespace | above]), errno(libc::EPERM), "{namespace:#x}");
            }
        }
    }
}

#[test]
fn of_an_argument_the_same_bits_count_as_for_the_kernel() {
    for above in [0, 1 << 32, 1 << 63, u64::MAX << 32] {
        for request in TERMINALS {
            assert_eq!(verdict(libc::SYS_ioctl, &[0, request | above]), errno(libc::EPERM), "{request:#x}");
            assert_eq!(verdict(libc::SYS_ioctl, &[0, (request + 64) | above]), ALLOW);
        }
        assert_eq!(verdict(libc::SYS_personality, &[0xffff_ffff | above]), ALLOW);
        assert_eq!(verdict(libc::SYS_personality, &[0x0400_0000 | above]), errno(libc::EPERM));
        assert_eq!(verdict(libc::SYS_socket, &[40 | above, 1, 0]), errno(libc::EAFNOSUPPORT));
    }
}

#[test]
fn sockets_are_of_four_families_and_of_no_rare_protocol() {
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        for family in 0..64 {
            let known = [1, 2, 10, 16].contains(&family);
            assert_eq!(verdict(call, &[family, 1, 0]) == ALLOW, known, "{family}");
        }
        for family in [2, 10] {
            for kind in 0..16 {
                let known = ![4, 5, 6, 10].contains(&kind);
                assert_eq!(verdict(call, &[family, kind | 0o200_0000, 0]) == ALLOW, known, "{family} {kind}");
            }
        }
        for (family, protocols) in [(2, &[0, 6, 17][..]), (10, &[0, 6, 17]), (16, &[0])] {
            for protocol in 0..300 {
                assert_eq!(verdict(call, &[family, 3, protocol]) == ALLOW, protocols.contains(&protocol), "{family} {protocol}");
            }
        }
    }
}

#[test]
fn where_debuggers_may_work_nothing_else_opens() {
    for number in 0..1200 {
        let (with, without) = (verdict_of(true, ARCH, number, [1; 6]), verdict_of(false, ARCH, number, [1; 6]));
        let is_trace = calls::TRACE.contains(&libc::c_long::from(number));
        assert_eq!((with != without, with == ALLOW && without != ALLOW), (is_trace, is_trace), "{number}");
    }
}

#[test]
fn the_shims_own_filter_leaves_bubblewrap_what_it_needs() {
    let own = own().expect("compiles");
    for number in all(&[calls::FENCE, calls::TRACE]).chain(all(calls::ORDINARY)).chain([libc::SYS_clone3]) {
        assert_eq!(run(&own, ARCH, u32::try_from(number).expect("a number"), [0; 6]), ALLOW, "{number}");
    }
    for number in all(calls::HOST).chain(all(&[calls::OPTIONAL])) {
        assert_eq!(run(&own, ARCH, u32::try_from(number).expect("a number"), [0; 6]), errno(libc::EPERM), "{number}");
    }
}
