//! Which system calls there are, sorted by what becomes of them inside a sandbox.
//!
//! What stands in no table is answered as a kernel does that has never heard of it (`ENOSYS`): the
//! calls of kernels newer than this list, obsolete ones, and those that a kernel can be built
//! without, for which programs are prepared: `io_uring`, the keyrings, `userfaultfd`, `bpf`, the mount
//! calls of Linux 5.2. Also `clone3`, whose flags no filter can read; libc then takes `clone`.
//!
//! The tables are those of Linux 6.18. From 424 on, numbers are the same on all processors
//! (`scripts/syscall.tbl` in the sources of Linux), and what libc does not name yet stands here by its
//! number.

use nix::libc;

/// Names of libc to their numbers.
macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// What a program may do, beside [`OLDER`].
pub const ORDINARY: &[&[libc::c_long]] = &[
    // Files and folders.
    calls!(
        SYS_close SYS_close_range SYS_copy_file_range SYS_chdir SYS_dup SYS_dup3 SYS_faccessat SYS_faccessat2 SYS_fadvise64
        SYS_fallocate SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr
        SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_getcwd
        SYS_getdents64 SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_ioctl SYS_lgetxattr
        SYS_linkat SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_mkdirat SYS_mknodat
        SYS_newfstatat SYS_openat SYS_openat2 SYS_pipe2 SYS_pread64 SYS_preadv SYS_preadv2 SYS_pwrite64 SYS_pwritev
        SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_removexattr SYS_renameat2 SYS_sendfile SYS_setxattr
        SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_syncfs SYS_tee SYS_truncate SYS_umask SYS_unlinkat
        SYS_utimensat SYS_vmsplice SYS_write SYS_writev
    ),
    // Memory.
    calls!(
        SYS_brk SYS_get_mempolicy SYS_madvise SYS_mbind SYS_membarrier SYS_memfd_create SYS_memfd_secret SYS_mincore
        SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mremap SYS_mseal SYS_msync SYS_munlock SYS_munlockall
        SYS_munmap SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_remap_file_pages SYS_set_mempolicy
        SYS_set_mempolicy_home_node SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget
    ),
    // Processes, threads, signals. `clone` with flags of namespaces is refused elsewhere.
    calls!(
        SYS_clone SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_futex SYS_futex_waitv SYS_get_robust_list SYS_getcpu
        SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrusage SYS_getsid SYS_gettid SYS_ioprio_get SYS_ioprio_set
        SYS_kill SYS_personality SYS_pidfd_open SYS_pidfd_send_signal SYS_prctl SYS_prlimit64 SYS_process_mrelease
        SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo
        SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
        SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
        SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler
        SYS_sched_yield SYS_set_robust_list SYS_set_tid_address SYS_setpgid SYS_setpriority SYS_setsid SYS_sigaltstack
        SYS_tgkill SYS_tkill SYS_wait4 SYS_waitid
    ),
    // Who it is. The kernel refuses what would need a capability.
    calls!(
        SYS_capget SYS_capset SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getresgid SYS_getresuid SYS_getuid
        SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_seccomp SYS_setfsgid SYS_setfsuid
        SYS_setgid SYS_setgroups SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setuid
    ),
    // Waiting, time, and talking to others.
    calls!(
        SYS_accept SYS_accept4 SYS_bind SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_connect SYS_epoll_create1
        SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_getitimer SYS_getpeername SYS_getrandom
        SYS_getsockname SYS_getsockopt SYS_gettimeofday SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup
        SYS_io_submit SYS_listen SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend
        SYS_mq_unlink SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_nanosleep SYS_ppoll SYS_pselect6 SYS_recvfrom
        SYS_recvmmsg SYS_recvmsg SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendmmsg SYS_sendmsg SYS_sendto
        SYS_setitimer SYS_setsockopt SYS_shutdown SYS_signalfd4 SYS_socket SYS_socketpair SYS_sysinfo SYS_timer_create
        SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime
        SYS_timerfd_settime SYS_times SYS_uname
    ),
    NEWER,
];

/// Calls since Linux 6.5 that libc has no name for on every processor.
const NEWER: &[libc::c_long] = &[
    451, // cachestat
    452, // fchmodat2
    453, // map_shadow_stack
    454, // futex_wake
    455, // futex_wait
    456, // futex_requeue
    457, // statmount
    458, // listmount
    463, // setxattrat
    464, // getxattrat
    465, // listxattrat
    466, // removexattrat
    468, // file_getattr
    469, // file_setattr
];

/// What newer processors never had, and the kernel's own probes (uretprobe, uprobe), which call in a
/// program's place.
#[cfg(target_arch = "x86_64")]
pub const OLDER: &[&[libc::c_long]] = &[
    calls!(
        SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait SYS_eventfd
        SYS_fork SYS_futimesat SYS_get_thread_area SYS_getdents SYS_getpgrp SYS_getrlimit SYS_inotify_init SYS_lchown SYS_link
        SYS_lstat SYS_mkdir SYS_mknod SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_renameat SYS_rmdir
        SYS_select SYS_set_thread_area SYS_setrlimit SYS_signalfd SYS_stat SYS_symlink SYS_sync_file_range SYS_time SYS_unlink
        SYS_utime SYS_utimes SYS_vfork
    ),
    &[335, 336],
];
/// `renameat` and `sync_file_range`, which every processor but the newest has.
#[cfg(not(target_arch = "x86_64"))]
pub const OLDER: &[&[libc::c_long]] = &[&[38, 84]];

/// What changes or shows the host. Neither a sandbox nor what makes one needs it.
pub const HOST: &[&[libc::c_long]] = &[
    calls!(
        SYS_acct SYS_adjtimex SYS_bpf SYS_clock_adjtime SYS_clock_settime SYS_delete_module SYS_fanotify_init
        SYS_fanotify_mark SYS_finit_module SYS_init_module SYS_kexec_file_load SYS_kexec_load SYS_migrate_pages SYS_move_pages
        SYS_name_to_handle_at SYS_open_by_handle_at SYS_perf_event_open SYS_quotactl SYS_quotactl_fd SYS_reboot
        SYS_settimeofday SYS_swapoff SYS_swapon SYS_syslog SYS_vhangup
    ),
    PORTS,
];

#[cfg(target_arch = "x86_64")]
const PORTS: &[libc::c_long] = calls!(SYS_ioperm SYS_iopl);
#[cfg(not(target_arch = "x86_64"))]
const PORTS: &[libc::c_long] = &[];

/// What neither a sandbox nor what makes one needs, and a kernel may be built without.
pub const OPTIONAL: &[libc::c_long] = calls!(
    SYS_add_key SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup SYS_keyctl SYS_request_key SYS_userfaultfd
);

/// What a sandbox is made with, and could be unmade with.
pub const FENCE: &[libc::c_long] = calls!(
    SYS_chroot SYS_mount SYS_pivot_root SYS_setdomainname SYS_sethostname SYS_setns SYS_umount2 SYS_unshare
);

/// What reaches into another process. All that runs inside has one user: with these, a tool could
/// speak with the runtime's voice.
pub const TRACE: &[libc::c_long] = calls!(
    SYS_kcmp SYS_pidfd_getfd SYS_process_madvise SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace
);
