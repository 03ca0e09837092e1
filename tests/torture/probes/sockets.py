"""Sockets that lead somewhere."""

import ctypes
import os
import socket
import struct
import subprocess
import sys

from trying import Answers, case, main


def connects(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as client:
        client.settimeout(5)
        client.connect(address)


@case
def of_services():
    said = Answers()
    for path in ("/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify",
                 "/run/systemd/journal/socket", "/run/systemd/journal/stdout", "/run/systemd/journal/dev-log", "/dev/log",
                 "/run/systemd/io.system.ManagedOOM", "/run/systemd/userdb/io.systemd.DynamicUser", "/run/user/0/bus",
                 "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
                 "/run/snapd.socket", "/tmp/.X11-unix/X0", "/run/nscd/socket", "/run/acpid.socket"):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            said.attempt(path, connects, socket.AF_UNIX, path, kind)
    return said


@case
def of_ash(*paths):
    said = Answers()
    for path in paths + ("/run/ash/ash.sock", "/run/ash/launcher.sock", "/run/ash-launcher.sock"):
        said.attempt(path, connects, socket.AF_UNIX, path[:107])
    return said


@case
def abstract(*names):
    """They have no path, and belong to the network namespace."""
    said = Answers()
    for name in names + ("/org/freedesktop/systemd1/notify", "/tmp/.X11-unix/X0", "/containerd-shim/x.sock"):
        said.attempt(name, connects, socket.AF_UNIX, "\0" + name)
    return said


@case
def of_the_hosts_loopback(*ports):
    said = Answers()
    for port in map(int, ports + ("22", "53", "111", "631", "5432")):
        said.attempt("127.0.0.1:%d" % port, connects, socket.AF_INET, ("127.0.0.1", port))
        said.attempt("[::1]:%d" % port, connects, socket.AF_INET6, ("::1", port))
    return said


@case
def of_another_sandbox(port, name, key):
    """Its port, its abstract socket, its memory of System V: all of them were opened there."""
    said, libc = Answers(), ctypes.CDLL(None, use_errno=True)
    said.attempt("its port", connects, socket.AF_INET, ("127.0.0.1", int(port)))
    said.attempt("its abstract socket", connects, socket.AF_UNIX, "\0" + name)

    def shared():
        if libc.shmget(int(key), 4096, 0) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    said.attempt("its memory", shared)
    said.attempt("its file in /tmp", os.stat, "/tmp/of-the-other")
    said.attempt("its file in /dev/shm", os.stat, "/dev/shm/of-the-other")
    return said


@case
def serve_as_the_other(port, name, key):
    """What the case before tries to reach; stays."""
    code = """
import ctypes, signal, socket, sys
tcp = socket.socket(); tcp.bind(("127.0.0.1", int(sys.argv[1]))); tcp.listen()
unix = socket.socket(socket.AF_UNIX); unix.bind("\\0" + sys.argv[2]); unix.listen()
assert ctypes.CDLL(None).shmget(int(sys.argv[3]), 4096, 0o1666) >= 0
for path in "/tmp/of-the-other", "/dev/shm/of-the-other": open(path, "w").write("x")
print("serving", flush=True); signal.pause()
"""
    child = subprocess.Popen([sys.executable, "-c", code, port, name, key], stdout=subprocess.PIPE, start_new_session=True)
    return child.stdout.readline().decode().strip()


@case
def raw():
    said = Answers()
    for name, family, kind, protocol in (
        ("raw", 2, 3, 255), ("raw icmp", 2, 3, 1), ("raw tcp", 2, 3, 6), ("raw 6", 10, 3, 58), ("packet", 17, 3, 0),
        ("packet dgram", 17, 2, 0x0300), ("xdp", 44, 3, 0), ("ping", 2, 2, 1),
    ):
        said.attempt(name, lambda: socket.socket(family, kind, protocol))
    return said


@case
def rare():
    """Families that few need and in which faults are found: virtual machines, ciphers, radios, clusters."""
    said = Answers()
    for family in (3, 4, 5, 9, 19, 21, 29, 30, 31, 35, 37, 38, 39, 40, 41, 42, 43, 45):
        for kind in (1, 2, 3, 5):
            said.attempt("family %d" % family, lambda: socket.socket(family, kind, 0))
    return said


@case
def netlink():
    said = Answers()
    for protocol in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21):
        said.attempt("netlink %d" % protocol, lambda: socket.socket(16, 3, protocol))
    return said


@case
def routes():
    """Netlink for routes may be asked; it may not be told."""
    said = Answers()
    # New: link, address, route, neighbour, rule; with a request for an answer.
    for kind, body in ((16, struct.pack("BxHiII", 0, 1, 0, 1, 1)), (20, struct.pack("BBBBi", 2, 8, 0, 0, 1)),
                       (24, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0)), (28, struct.pack("BxxxiHBB", 2, 1, 2, 0, 1)),
                       (32, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0))):
        with socket.socket(16, 3, 0) as client:
            client.bind((0, 0))
            client.send(struct.pack("IHHII", 16 + len(body), kind, 0x605, 1, 0) + body)
            error = -struct.unpack_from("i", client.recv(4096), 16)[0]
            said.attempt("message %d" % kind, lambda: (_ for _ in ()).throw(OSError(error, "refused")) if error else None)
    return said


main()
