"""What stands for the network in the suite: a resolver and servers, on addresses of a network namespace of its own.

Prints `ready`, and then a line for each name that it was asked for and for all bytes that a server heard:
`asked NAME` and `heard ADDRESS:PORT BYTES`.
"""

import socket
import socketserver
import struct
import sys
import threading

GOOD, EVIL = "11.0.0.7", "11.0.0.66"
LOOP, A, AAAA = "127.0.0.1", 1, 28
PRIVATE = {
    "private": "10.1.2.3", "loop": LOOP, "meta": "169.254.169.254", "link": "169.254.1.1", "carrier": "100.64.0.1",
    "multicast": "224.0.0.1", "broadcast": "255.255.255.255", "zero": "0.0.0.0", "own": "10.99.0.1", "loop6": "::1",
    "mapped": "::ffff:127.0.0.1", "nat64": "64:ff9b::7f00:1", "sixtofour": "2002:7f00:1::", "teredo": "2001:0:7f00:1::",
    "unique": "fd00:ec2::254", "link6": "fe80::1",
}
LOCK = threading.Lock()
TIMES = {}


def say(*words):
    with LOCK:
        print(*words, flush=True)


def addresses(name):
    """All addresses of a name."""
    if name == "both.example":
        return [GOOD, LOOP]
    if name == "rebind.example":
        # The resolver of C asks for both kinds at once.
        with LOCK:
            TIMES[name] = TIMES.get(name, 0) + 1
            return [GOOD] if TIMES[name] <= 2 else [LOOP]
    if name.endswith(".inner.example"):
        return [PRIVATE[name.split(".")[0]]]
    return [EVIL if "evil" in name else GOOD]


class Resolver(socketserver.BaseRequestHandler):
    def handle(self):
        query, sock = self.request
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        kind = struct.unpack_from(">H", query, at + 1)[0]
        name = ".".join(labels).lower()
        say("asked", name)
        records = b""
        found = [text for text in addresses(name) if kind == (AAAA if ":" in text else A)]
        for text in found:
            packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
            records += struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed
        sock.sendto(query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0) + query[12:at + 5] + records, self.client_address)


class Server(socketserver.BaseRequestHandler):
    """Of HTTP, and keeps what it heard. `/to?URL` sends to another URL, `/upgrade` would change the protocol."""

    def handle(self):
        self.request.settimeout(10)
        heard, where = b"", "%s:%d" % self.server.server_address
        try:
            while b"\r\n\r\n" not in heard and (piece := self.request.recv(65536)):
                say("heard", where, repr(piece))
                heard += piece
        except OSError:
            return
        path = heard.split(b" ")[1] if heard.count(b" ") > 1 else b""
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhere\n"
        if path.startswith(b"/to?"):
            answer = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % path[4:]
        if path == b"/upgrade" and b"upgrade:" in heard.lower():
            answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        try:
            self.request.sendall(answer)
        except OSError:
            pass


class Threaded(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True


servers = [socketserver.ThreadingUDPServer((LOOP, 53), Resolver)]
for address, port in [(GOOD, 80), (GOOD, 443), (GOOD, 8080), (EVIL, 80), (EVIL, 443), (EVIL, 53), (LOOP, 80), (LOOP, 443), (LOOP, 8099)]:
    servers.append(Threaded((address, port), Server))
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
say("ready")
# Ends with whoever started it.
sys.stdin.read()
