"""Takes as much as it can. Every bomb here is bounded by its argument."""

import errno
import os
import resource
import signal
import sys
import time

from trying import Answers, case, main


@case
def forks(most):
    """Until there is no room, or `most` are there; none of them outlives this case."""
    made, answer = [], "%s were made, and ended" % most
    for _ in range(int(most)):
        try:
            child = os.fork()
        except OSError as error:
            answer = errno.errorcode[error.errno]
            break
        if child == 0:
            signal.pause()
            os._exit(0)
        made.append(child)
    for child in made:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return answer


@case
def memory(megabytes):
    held = []
    try:
        for _ in range(int(megabytes) // 16):
            # Of its own kind each, so that every page is really there.
            held.append(os.urandom(1 << 20) * 16)
    except MemoryError:
        return "ENOMEM"
    return "%s MB were held, and given back" % megabytes


@case
def memory_at_once(megabytes):
    """In one piece, which costs the machine of `box_torture` one mapping and not one for each page."""
    return "%d bytes were held" % len(bytearray(int(megabytes) << 20))


@case
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened, said = [], Answers()
    try:
        while len(opened) < 100000:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        said.note(errno.errorcode[error.errno])
    else:
        said.through.append("%d were opened" % len(opened))
    for descriptor in opened:
        os.close(descriptor)
    said.attempt("a higher limit", lambda: set_limit(hard + 1))
    return said


@case
def descriptors_everywhere(many):
    """In so many processes at once."""
    said = Answers()
    for _ in range(int(many)):
        if os.fork() == 0:
            os._exit(0 if "EMFILE" in str(descriptors()) else 1)
    for _ in range(int(many)):
        said.note("EMFILE" if os.wait()[1] == 0 else "another answer")
    return said


def set_limit(most):
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except ValueError:
        raise PermissionError(errno.EPERM, "refused")


@case
def file_size(megabytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said = Answers()
    said.attempt("a file of %s MB" % megabytes, write, "/work/large", int(megabytes))
    os.unlink("/work/large")
    return said


@case
def memory_as_files(megabytes):
    """File systems in memory have limits of their own."""
    said = Answers()
    for folder in ("/tmp", "/dev/shm"):
        names = ["%s/full-%d" % (folder, number) for number in range(int(megabytes) // 16)]
        said.attempt(folder, lambda: [write(name, 16) for name in names])
        for name in filter(os.path.exists, names):
            os.unlink(name)
    said.attempt("/dev", write, "/dev/full-of-it", 1)
    said.attempt("/", write, "/full", 1)
    return said


def write(path, megabytes):
    with open(path, "wb", 0) as file:
        for _ in range(megabytes):
            if file.write(b"x" * (1 << 20)) < 1 << 20:
                raise OSError(errno.ENOSPC if os.statvfs(path).f_bavail == 0 else errno.EFBIG, "cut short")


@case
def processor(seconds, many):
    for _ in range(int(many)):
        if os.fork() == 0:
            until = time.monotonic() + float(seconds)
            while time.monotonic() < until:
                pass
            os._exit(0)
    for _ in range(int(many)):
        os.wait()
    return "%s burnt for %s s, and ended" % (many, seconds)


@case
def words(megabytes):
    """On standard output and standard error."""
    line = b"x" * 8190 + b"\n"
    for descriptor in (1, 2):
        for _ in range(int(megabytes) << 20 >> 13):
            os.write(descriptor, line)
    return "said"


@case
def zombies(most):
    """Children that nobody waits for, whose parent is gone: init has to."""
    for _ in range(int(most)):
        middle = os.fork()
        if middle == 0:
            for _ in range(2):
                if os.fork() == 0:
                    os._exit(0)
            os._exit(0)
        os.waitpid(middle, 0)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        left = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if dead(pid)]
        if not left:
            return "init took them all"
    return "GOT THROUGH: %d stay" % len(left)


def dead(pid):
    try:
        with open("/proc/%s/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return False


@case
def full_disk(most):
    os.mkdir("bomb")
    for number in range(int(most)):
        with open(f"bomb/{number}", "wb") as file:
            file.write(os.urandom(8 << 20))


@case
def many_files(most):
    os.mkdir("bomb")
    for number in range(int(most)):
        if number % 1000 == 0:
            os.mkdir(f"bomb/{number // 1000}")
        os.close(os.open(f"bomb/{number // 1000}/{number}", os.O_CREAT | os.O_WRONLY, 0o600))


@case
def asleep():
    while True:
        signal.pause()


main()
