"""Lets an agent's bombs explode where every limit is enforced, while a neighbour answers turns.

Runs as root in a machine with Ash. Prints a line for each case, `torture: NAME | ANSWER | MS`,
with the longest of the neighbour's turns meanwhile.
"""

import json
import os
import subprocess
import time


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def session():
    return json.loads(run("ashctl", "--output", "json", "session", "create", "attacker"))["id"]


def send(to, text):
    """Starts a turn, whose answer is read later."""
    return subprocess.Popen(["ashctl", "session", "send", to, text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def answer(turn):
    """Its last line: before it are the tools that it called."""
    lines = turn.communicate()[0].replace("result: ", "").strip().splitlines()
    return lines[-1].strip() if lines else ""


def group(of):
    """The control group of a session's unit: the unit's journal fields name the session."""
    for unit in run("systemctl", "list-units", "--plain", "--no-legend", "ash-sandbox-*.service").split("\n"):
        unit = unit.split(" ")[0]
        if unit and of in run("systemctl", "show", "--property=LogExtraFields,Description,Environment,ExecStart", unit):
            return "/sys/fs/cgroup" + run("systemctl", "show", "--value", "--property=ControlGroup", unit).strip()
    raise SystemExit("no unit of " + of)


def count(folder, file, name):
    with open("%s/%s" % (folder, file)) as lines:
        return next(int(line.split()[1]) for line in lines if line.split()[0] == name)


def during(text):
    """Sends a message to the attacker; its answer, and the neighbour's longest turn meanwhile."""
    attack, longest = send(attacker, text), 0.0
    while True:
        begun = time.monotonic()
        said = answer(send(neighbour, "say: well"))
        longest = max(longest, time.monotonic() - begun)
        if said != "well":
            raise SystemExit("the neighbour said %r" % said)
        if attack.poll() is not None:
            break
    return answer(attack), longest


def bomb(arguments):
    return "bash: python3 probes/bombs.py %s 2>&1; echo" % arguments


def told(name, said, longest):
    print("torture: %s | %s | %d" % (name, said.replace("\n", " "), longest * 1000), flush=True)


def forks():
    before = count(folder, "pids.events", "max")
    said, longest = during(bomb("forks 1000"))
    refused = count(folder, "pids.events", "max") - before
    told("forks", said if refused > 0 else "the kernel refused none: " + said, longest)


def memory():
    before = count(folder, "memory.events", "oom_kill")
    said, longest = during(bomb("memory_at_once 800"))
    killed = count(folder, "memory.events", "oom_kill") - before
    told("memory", "killed for memory" if killed > 0 and "held" not in said else "not killed: " + said, longest)


def descriptors():
    told("descriptors", *during(bomb("descriptors_everywhere 20")))


def words():
    said, longest = during(bomb("words 100"))
    told("words", "cut short, and the turn completes" if len(said) < 1 << 20 else "%d bytes came" % len(said), longest)


def processor():
    # Below the share that the neighbour, the daemon and the model leave it when all of them are busy,
    # as what never gets its quota is never throttled.
    run("ashctl", "session", "limits", attacker, "--cpu", "10%")
    before = count(folder, "cpu.stat", "nr_throttled")
    said, longest = during(bomb("processor 4 30"))
    throttled = count(folder, "cpu.stat", "nr_throttled") - before
    run("ashctl", "session", "limits", attacker, "--cpu", "50%")
    told("processor", "throttled" if throttled > 0 and "ended" in said else "throttled %d times: %s" % (throttled, said), longest)


def zombies():
    told("zombies", *during(bomb("zombies 100")))


def canary():
    """The key in all that the host keeps but its own file, the daemon's copy, and the memory of who uses it."""
    with open("/etc/ash/credentials/anthropic_api_key", "rb") as file:
        key, found, looked_at = file.read(), [], 0
    if len(key) < 50:
        raise SystemExit("there is no key to look for")
    for what, command in (("journal", ["journalctl", "--no-pager", "--output=export"]),
                          ("units", ["sh", "-c", "systemctl show 'ash*'; systemctl show ash.service; systemctl cat 'ash*'"]),
                          ("answers", ["sh", "-c", "ashctl session list; ashctl doctor; ashctl status; ashctl session logs %s" % attacker])):
        text = subprocess.run(command, capture_output=True).stdout
        looked_at += len(text)
        found += [what] if key in text else []
    for top in ("/var/lib/ash", "/run/ash", "/var/log", "/tmp", "/etc/ash/ash.toml.d"):
        for at, _, names in os.walk(top):
            for path in (os.path.join(at, name) for name in names):
                try:
                    if os.path.isfile(path) and not os.path.islink(path):
                        text = open(path, "rb").read()
                        looked_at += len(text)
                        found += [path] if key in text else []
                except FileNotFoundError:
                    continue    # it was removed meanwhile
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                text = open("/proc/%s/%s" % (pid, name), "rb").read()
            except OSError:
                continue
            found += ["%s of %s" % (name, pid)] if key in text else []
    if looked_at < 1 << 20:
        found.append("too little was looked at: %d bytes" % looked_at)
    told("canary", "found in " + ", ".join(found) if found else "not there", 0)


attacker, neighbour = session(), session()
for who in (attacker, neighbour):
    if answer(send(who, "say: ready")) != "ready":
        raise SystemExit("not ready")
folder = group(attacker)
# Memory last, as what is killed may be the runtime itself.
for case in (forks, descriptors, words, processor, zombies, memory):
    case()
canary()
if answer(send(attacker, "say: usable")) != "usable":
    raise SystemExit("the attacker's session can not be used any more")
print("all bombs exploded", flush=True)
