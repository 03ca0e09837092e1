"""New namespaces, other ones, and what is mounted."""

import ctypes
import os
import subprocess

from trying import Answers, case, main, parents

LIBC = ctypes.CDLL(None, use_errno=True)
KINDS = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000,
         "cgroup": 0x2000000, "time": 0x80}


def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


@case
def made():
    said = Answers()
    for name, flag in KINDS.items():
        said.attempt("unshare " + name, call, LIBC.unshare, flag)
        said.attempt("unshare user and " + name, call, LIBC.unshare, flag | KINDS["user"])
    for program in (["unshare", "--user", "true"], ["unshare", "--map-root-user", "true"], ["bwrap", "--ro-bind", "/", "/", "true"]):
        try:
            if subprocess.run(program, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                said.through.append(" ".join(program))
        except FileNotFoundError:
            continue
    return said


@case
def entered():
    said = Answers()
    for pid in ["self", "1"] + parents():
        for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            path = "/proc/%s/ns/%s" % (pid, name)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                said.attempt(path, os.open, path, os.O_RDONLY)
                continue
            said.attempt("setns to " + path, call, LIBC.setns, descriptor, 0)
    return said


@case
def mounts():
    said = Answers()
    for name, source, target, kind, flags in (
        ("/usr writable", b"none", b"/usr", None, 32 | 4096), ("/ writable", b"none", b"/", None, 32), ("tmpfs", b"none", b"/work", b"tmpfs", 0),
        ("proc", b"none", b"/proc", b"proc", 0), ("bind", b"/work", b"/etc", None, 4096), ("disk", b"/dev/sda", b"/work", b"ext4", 0),
        ("cgroup", b"none", b"/work", b"cgroup2", 0), ("overlay", b"none", b"/work", b"overlay", 0),
        ("fuse", b"none", b"/work", b"fuse", 0), ("propagation", b"none", b"/", None, 1 << 20),
    ):
        said.attempt(name, call, LIBC.mount, source, target, kind, flags, None)
    # What hides parts of /proc is a mount.
    for path in (b"/proc/kcore", b"/proc/keys", b"/proc", b"/usr", b"/tmp", b"/work"):
        for flags in (0, 2, 8):
            said.attempt("umount " + path.decode(), call, LIBC.umount2, path, flags)
    said.attempt("chroot", os.chroot, "/work")
    said.attempt("pivot_root", call, LIBC.syscall, 155 if os.uname().machine == "x86_64" else 41, b"/work", b"/work")
    return said


@case
def by_descriptor():
    """The newer calls, which make and move mounts without a path."""
    said = Answers()
    for name, number, arguments in (("open_tree", 428, (-100, b"/", 1)), ("move_mount", 429, (-100, b"/work", -100, b"/etc", 0)),
                                    ("fsopen", 430, (b"tmpfs", 0)), ("fsconfig", 431, (0, 0, None, None, 0)), ("fsmount", 432, (0, 0, 0)),
                                    ("fspick", 433, (-100, b"/", 0)), ("mount_setattr", 442, (-100, b"/usr", 0, None, 0))):
        said.attempt(name, call, LIBC.syscall, number, *arguments)
    return said


@case
def names_and_maps():
    said = Answers()
    said.attempt("host name", call, LIBC.sethostname, b"x", 1)
    for name in ("uid_map", "gid_map", "setgroups", "projid_map"):
        said.attempt(name, lambda: open("/proc/self/" + name, "w").write("0 0 1"))
    said.attempt("namespaces allowed", lambda: open("/proc/sys/user/max_user_namespaces", "w").write("100"))
    return said


@case
def control_groups():
    """Limits are there."""
    said = Answers()
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids/tasks"):
        said.attempt(path, lambda: open(path, "w").write("max"))
    with open("/proc/self/cgroup") as file:
        if ".." in file.read():
            said.through.append("the host's groups are named")
    return said


main()
