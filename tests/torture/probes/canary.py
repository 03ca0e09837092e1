"""Looks for a secret in all that can be read inside. It comes in two parts, so that the search does not find itself."""

import os
import subprocess
import sys

from trying import Answers, case, main, processes


def secret(head, tail):
    return (head + tail).encode()


@case
def in_environments(head, tail):
    wanted, said = secret(head, tail), Answers()
    for pid in processes() + ["1"]:
        for name in ("environ", "cmdline", "auxv"):
            try:
                with open("/proc/%s/%s" % (pid, name), "rb") as file:
                    if wanted in file.read():
                        said.through.append("%s of %s" % (name, pid))
            except OSError:
                continue
    if wanted in "\n".join("%s=%s" % pair for pair in os.environ.items()).encode():
        said.through.append("its own environment")
    said.note("not there")
    return said


@case
def in_files(head, tail):
    wanted, said, looked_at = secret(head, tail), Answers(), 0
    for top in ("/etc", "/run", "/home", "/tmp", "/work", "/dev/shm", "/var", "/opt"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if os.path.isfile(path) and wanted in open(path, "rb").read():
                        said.through.append(path)
                    looked_at += 1
                except OSError:
                    continue
    if looked_at < 5:
        said.through.append("no files were looked at")
    said.note("not there")
    return said


@case
def in_memory(head, tail):
    """Of all processes that let themselves be read; and the gateway tells nobody what it holds."""
    wanted, said = secret(head, tail), Answers()
    for pid in processes() + ["1"]:
        try:
            with open("/proc/%s/mem" % pid, "rb", 0) as memory, open("/proc/%s/maps" % pid) as maps:
                for line in maps:
                    start, end = (int(word, 16) for word in line.split()[0].split("-"))
                    if line.split()[1][0] != "r" or "[v" in line or end - start > 1 << 30:
                        continue
                    try:
                        memory.seek(start)
                        if wanted in memory.read(end - start):
                            said.through.append("memory of " + pid)
                    except (OSError, ValueError, OverflowError):
                        continue
        except OSError:
            continue
    said.note("not there")
    return said


main()
