"""What the probes share. A case is a function that tries something and says what it was refused with."""

import errno
import os
import sys

CASES = {}


def case(function):
    """Makes a function callable by its name from the command line."""
    CASES[function.__name__] = function
    return function


class Answers:
    """What each attempt was answered with; what got through is told by name."""

    def __init__(self):
        self.refused, self.through = set(), []

    def attempt(self, what, call, *arguments):
        try:
            call(*arguments)
            self.through.append(what)
        except OSError as error:
            self.refused.add(errno.errorcode.get(error.errno, str(error)))

    def note(self, answer):
        self.refused.add(answer)

    def __str__(self):
        if self.through:
            return "GOT THROUGH: " + ", ".join(self.through[:20])
        return ", ".join(sorted(self.refused)) or "nothing was there to try"


def read(path):
    """Reads one byte of a file, or the names in a folder."""
    if os.path.isdir(path):
        os.listdir(path)
        return
    with open(path, "rb", 0) as file:
        file.read(1)


def processes():
    """Numbers of all processes that can be seen, but this one."""
    return [pid for pid in filter(str.isdigit, os.listdir("/proc")) if int(pid) != os.getpid()]


def parents():
    """This process's parent, that one's, and so on: a shell, the runtime, init."""
    pid, found = os.getppid(), []
    while pid > 0:
        found.append(pid)
        with open("/proc/%d/stat" % pid) as file:
            pid = int(file.read().rsplit(")", 1)[1].split()[1])
    return found


def main():
    name, *arguments = sys.argv[1:]
    print(CASES[name](*arguments))
