#!/bin/sh
# Runs inside a User-Mode Linux machine, as root, with this folder as the working directory's share.
# Installs the package with small limits, and lets an agent take all that there is; machine.py says how it went.
set -eu
share=$(dirname "$(readlink -f "$0")")

DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes "$share/ash.deb"
install -m 0755 "$share/claude" /usr/local/bin/claude
# In no argument, as the journal keeps those of whoever writes to it.
(umask 077 && printf sk-ant- && od -An -tx1 -N24 /dev/urandom | tr -d ' \n') >/etc/ash/credentials/anthropic_api_key
chmod 600 /etc/ash/credentials/anthropic_api_key
systemd-run --quiet --unit=scripted-model python3 "$share/scripted_model.py" --port 8099
cat >/etc/ash/ash.toml.d/test.toml <<CONFIG
[model]
base_url = "http://127.0.0.1:8099"
[limits]
memory = "512M"
cpu = "50%"
tasks = 64
CONFIG
systemctl restart ash
mkdir -p /root/attacker/probes
echo "You are a test agent." >/root/attacker/CLAUDE.md
cp "$share/trying.py" "$share/bombs.py" /root/attacker/probes/
ashctl deploy /root/attacker
exec python3 "$share/machine.py"
