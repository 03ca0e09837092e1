"""Files that are not the sandbox's own."""

import ctypes
import os
import socket
import stat
import subprocess

from trying import Answers, case, main, parents, processes, read


@case
def of_the_host():
    said = Answers()
    for path in ("/etc/shadow", "/etc/ssh", "/etc/machine-id", "/root/.ssh", "/home/root", "/var/log", "/var/lib", "/boot/grub",
                 "/srv/x", "/run/systemd", "/sys/kernel", "/proc/acpi/x", "/lib/modules/x"):
        said.attempt(path, read, path)
    return said


@case
def of_the_daemon(data):
    said = Answers()
    for path in (data, data + "/ash.db", data + "/../credentials/anthropic_api_key", data + "/../log", data + "/snapshots",
                 "/var/lib/ash", "/etc/ash", "/run/ash"):
        said.attempt(path, read, path)
    return said


@case
def of_another_sandbox(folder):
    """By the path that they have on the host, from every root that a process here has."""
    said = Answers()
    for start in ["", "/..", "/work/../.."] + ["/proc/%s/root" % pid for pid in processes()]:
        for name in ("workspace/secret", "workspace", "home", "spool"):
            said.attempt(start + name, read, "%s%s/%s" % (start, folder, name))
    return said


@case
def of_other_processes(data):
    """What stands for the files of a process in /proc, of init and of all that can be seen."""
    said = Answers()
    for pid in ["1"] + processes():
        said.attempt("root of " + pid, read, "/proc/%s/root%s" % (pid, data))
        said.attempt("cwd of " + pid, read, "/proc/%s/cwd/../../../../../..%s" % (pid, data))
    for name in ("root", "cwd", "exe", "fd", "map_files", "environ", "maps", "mem", "ns/mnt"):
        path = "/proc/1/" + name
        said.attempt(path, os.readlink if name in ("root", "cwd", "exe", "ns/mnt") else read, path)
    return said


@case
def by_hard_link():
    said = Answers()
    for path in ("/usr/bin/env", "/etc/passwd", "/proc/1/exe", "/proc/self/exe", "/dev/full"):
        said.attempt(path, os.link, path, "/work/hard")
    descriptor = os.open("/usr/bin/env", os.O_PATH)
    said.attempt("by descriptor", os.link, "/proc/self/fd/%d" % descriptor, "/work/hard")
    return said


@case
def by_descriptors():
    """Folders and sockets that were inherited, by this process or by those above it."""
    said, root = Answers(), os.stat("/")
    for pid in ["self"] + parents()[:-1]:
        for number in os.listdir("/proc/%s/fd" % pid):
            path = "/proc/%s/fd/%s" % (pid, number)
            try:
                kind = os.stat(path)
            except OSError:
                continue
            if stat.S_ISDIR(kind.st_mode):
                # Up from there as far as it goes.
                top = os.stat(path + "/.." * 40)
                if (top.st_dev, top.st_ino) != (root.st_dev, root.st_ino):
                    said.through.append("%s leads to another root" % path)
                said.note("all lead to this root")
            if stat.S_ISBLK(kind.st_mode):
                said.through.append("%s is a disk" % path)
    said.attempt("those of init", os.listdir, "/proc/1/fd")
    return said


@case
def by_handle():
    """open_by_handle_at(2) opens by inode, whatever is mounted where."""
    libc, said = ctypes.CDLL(None, use_errno=True), Answers()
    handle = ctypes.create_string_buffer(b"\x08\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0", 128)

    def opened(call, *arguments):
        if call(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    mount = ctypes.c_int()
    said.attempt("name", opened, libc.name_to_handle_at, -100, b"/work", handle, ctypes.byref(mount), 0)
    for path in ("/work", "/usr", "/"):
        said.attempt("open", opened, libc.open_by_handle_at, os.open(path, os.O_RDONLY), handle, 0)
    return said


@case
def devices():
    said = Answers()
    for path in ("/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/port", "/dev/fuse", "/dev/kvm",
                 "/dev/net/tun", "/dev/loop0", "/dev/dm-0", "/dev/mapper", "/dev/input", "/dev/snd", "/dev/tty1", "/dev/vhost-vsock"):
        said.attempt(path, read, path)
    for kind in (stat.S_IFBLK, stat.S_IFCHR):
        for place in ("/work", "/tmp", "/dev"):
            said.attempt("mknod in " + place, os.mknod, place + "/disk", kind | 0o600, os.makedev(8, 0))
    return said


@case
def written_outside():
    said = Answers()
    for path in ("/usr/bin/env", "/etc/passwd", "/etc/claude-code/managed-settings.json", "/new", "/usr/new", "/etc/new",
                 "/home/new", "/opt/new", "/proc/new"):
        said.attempt(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)))
    said.attempt("/usr/bin", os.chmod, "/usr/bin", 0o777)
    said.attempt("/usr renamed", os.rename, "/usr", "/usr2")
    return said


@case
def setuid_programs():
    """A program with the bit set, of one's own and of the host's, changes nobody's user."""
    said = Answers()
    subprocess.run(["cp", "/usr/bin/id", "/tmp/id"], check=True)
    os.chmod("/tmp/id", 0o6755)
    for program in (["/tmp/id", "-u"], ["su", "-c", "id -u"], ["sudo", "-n", "id", "-u"], ["mount"], ["passwd", "-S"]):
        try:
            ran = subprocess.run(program, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        except OSError:
            continue
        if ran.stdout.strip() == "0":
            said.through.append(" ".join(program))
    said.attempt("setuid", os.setuid, 0)
    said.attempt("setgid", os.setgid, 0)
    said.attempt("setgroups", os.setgroups, [0])
    said.attempt("chown", os.chown, "/tmp/id", 0, 0)
    with open("/proc/self/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    if any(int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")) or status["NoNewPrivs"] != "1":
        said.through.append("there are rights to gain")
    return said


@case
def links_for_the_host(data, other):
    """Plants what the host's file routes may be asked for afterwards."""
    os.makedirs("/work/planted/deep", exist_ok=True)
    for name, target in {
        "shadow": "/etc/shadow",
        "key": data + "/../credentials/anthropic_api_key",
        "database": data + "/ash.db",
        "other": other + "/workspace/secret",
        "root": "/",
        "up": "../../../../../../../..",
        "proc": "/proc/self/environ",
        "chain": "deep/next",
        "deep/next": "../root",
        "home": "/home/agent",
        "loop": "loop",
    }.items():
        os.symlink(target, "/work/planted/" + name)
    os.mkfifo("/work/planted/pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("/work/planted/socket")
    return "planted"


main()
