"""Processes that are not the agent's own to command, and its own that should not be."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from trying import Answers, case, main, parents, processes


def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *[ctypes.c_long(argument) for argument in arguments]) < 0:
        raise OSError(ctypes.get_errno(), "refused")


INTEL = os.uname().machine == "x86_64"
PTRACE, READV, WRITEV, PIDFD_OPEN, GETFD = (101, 310, 311, 434, 438) if INTEL else (117, 270, 271, 434, 438)


@case
def seen(marker):
    """What runs on the host: daemon, shims, and what another sandbox was given to run."""
    said = Answers()
    for pid in processes():
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                line = file.read().decode(errors="replace")
        except OSError:
            continue
        # The argument alone is also one of this process's own.
        if any(word in line for word in ("ashd", "ash-shim", "scripted_model", "sleep\0" + marker)):
            said.through.append("%s: %s" % (pid, line))
    # A kernel thread has number 2 where all processes are seen.
    if os.path.exists("/proc/2/comm") and open("/proc/2/comm").read().strip() == "kthreadd":
        said.through.append("threads of the kernel")
    said.note("none is seen")
    return said


@case
def signalled(*pids):
    said = Answers()
    for pid in map(int, pids):
        # 0 asks for the right alone, and would be told of a process that is there.
        said.attempt("signal to %d" % pid, os.kill, pid, 0)
        said.attempt("pidfd of %d" % pid, call, PIDFD_OPEN, pid, 0)
    return said


@case
def traced(*pids):
    said = Answers()
    for pid in parents() + list(map(int, pids)):
        for request in (16, 0x4206):       # PTRACE_ATTACH, PTRACE_SEIZE
            said.attempt("ptrace of %d" % pid, call, PTRACE, request, pid, 0, 0)
    return said


@case
def memory_of_the_runtime():
    """The one above this one holds the conversation, and has the same user."""
    said = Answers()
    for pid in parents():
        said.attempt("read of %d" % pid, call, READV, pid, 0, 0, 0, 0, 0)
        said.attempt("write of %d" % pid, call, WRITEV, pid, 0, 0, 0, 0, 0)
        said.attempt("mem of %d" % pid, lambda: os.close(os.open("/proc/%d/mem" % pid, os.O_RDWR)))
    return said


@case
def descriptors_of_the_runtime():
    """Its own words go through them."""
    said = Answers()
    for pid in parents():
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        for number in range(8):
            said.attempt("descriptor %d of %d" % (number, pid), call, GETFD, pidfd, number, 0)
    return said


@case
def priorities():
    """More of the processor than others, or the last place when memory runs out."""
    said = Answers()
    said.attempt("nice", os.setpriority, os.PRIO_PROCESS, 0, -5)
    said.attempt("real time", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
    for pid in ["self"] + parents():
        for name, value in {"oom_score_adj": "-900", "oom_adj": "-15", "timerslack_ns": "1", "coredump_filter": "0x7f"}.items():
            said.attempt("%s of %s" % (name, pid), lambda: open("/proc/%s/%s" % (pid, name), "w").write(value))
    return said


@case
def core_patterns():
    """What the kernel runs as root when a process dies, or when it looks for a module."""
    said = Answers()
    for path in ("kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "kernel/poweroff_cmd", "fs/binfmt_misc/register",
                 "kernel/usermodehelper/bset", "kernel/yama/ptrace_scope", "kernel/unprivileged_bpf_disabled", "vm/drop_caches"):
        said.attempt(path, lambda: open("/proc/sys/" + path, "w").write("|/work/x"))
    for path in ("/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent"):
        said.attempt(path, lambda: open(path, "w").write("b"))
    return said


@case
def kept_after_the_turn(marker):
    """Leaves the process group, the session of terminals and the parent, and stays."""
    for how in ("setsid", "double", "ignoring"):
        code = "import signal, sys\n[signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 19)]\nsignal.pause()"
        if os.fork() == 0:
            os.setsid()
            if how != "setsid" and os.fork() > 0:
                os._exit(0)
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            os.closerange(3, 100)
            os.execv(sys.executable, [sys.executable, "-c", code, marker])
    return "left running"


@case
def all_of_them():
    """Every process that this one may signal: the runtime is one, init and the shim are not."""
    os.kill(-1, signal.SIGKILL)
    return "survived"


main()
