# SPDX-License-Identifier: ISC
"""What the smtp transport makes of its sockets: class of service, keepalive, address to send from."""
import socket
import subprocess
import threading

import pytest

from bulkhead import wait_for
from scripted_server import ScriptedServer, Silent
from test_socks import ROUTERS, TRANSPORTS


class Capture:
    """The second field of the IP headers (TOS, or IPv6's traffic class) of what goes to this TCP port on loopback."""

    def __init__(self, port):
        self.port, self.seen, self.open = port, set(), True
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            self.socket.bind(("lo", 0))
        except OSError as e:
            pytest.skip("no packets to be seen here: %s" % e)
        self.socket.settimeout(0.2)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.open:
            try:
                p = self.socket.recv(65536)
            except OSError:
                continue
            if p[0] >> 4 == 4 and p[9] == 6 and int.from_bytes(p[(p[0] & 15) * 4 + 2:][:2], "big") == self.port:
                self.seen.add(p[1])
            elif p[0] >> 4 == 6 and p[6] == 6 and int.from_bytes(p[42:44], "big") == self.port:
                self.seen.add((p[0] & 15) << 4 | p[1] >> 4)

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()


def start(bulkhead, server, options, host="127.0.0.1", main=""):
    return bulkhead(transports=TRANSPORTS % options, routers=ROUTERS % ('"</ [%s]:%d"' % (host, server.port)), main=main, retry="* * F,2h,10m")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("value, octet", [("af21", 0x48), ("0x2e", 0xb8), ("${if eq{$host_port}{1}{ef}{throughput}}", 8), (None, 0)])
def test_class_of_service(bulkhead, host, value, octet):
    """On every packet, the first one included."""
    with ScriptedServer(host=host) as server:
        capture = Capture(server.port)
        b = start(bulkhead, server, "dscp = %s" % value if value else "", host)
        b.send("s@x.example", ["a@far.example"])
        server.wait_messages(1, 20)
        b.wait_log("=> a@far.example")
        wait_for(lambda: capture.seen)
        capture.close()
        assert capture.seen == {octet}


def test_unknown_class(bulkhead):
    """Made by an expansion: the delivery waits, and the log says why."""
    with ScriptedServer() as server:
        b = start(bulkhead, server, "dscp = ${if eq{1}{1}{af99}}")
        b.send("s@x.example", ["a@far.example"])
        b.wait_log("== a@far.example .*transport smtp: dscp: .af99. is neither")
        assert not server.sessions


@pytest.mark.parametrize("option, on", [("", True), ("no_keepalive", False)])
def test_keepalive(bulkhead, option, on):
    with ScriptedServer({"banner": Silent()}) as server:
        b = start(bulkhead, server, option)
        b.send("s@x.example", ["a@far.example"])
        server.wait_sessions(1, 20)
        lines = wait_for(lambda: subprocess.run(["ss", "-tnoH", "dst", "127.0.0.1:%d" % server.port], stdout=subprocess.PIPE, check=True).stdout.decode())
        assert ("keepalive" in lines) == on, lines


@pytest.mark.parametrize("value, host, want", [
    ("127.0.0.5", "127.0.0.1", "127.0.0.5"), ("<; ::1 ; 127.0.0.6 ; 127.0.0.7", "127.0.0.1", "127.0.0.6"), ("::::1 : 127.0.0.8", "127.0.0.1", "127.0.0.8"),
    ("::1", "::1", "::1"), ("127.0.0.9", "::1", "::1"), ("${if eq{$host_address}{127.0.0.1}{127.0.0.10}}", "127.0.0.1", "127.0.0.10"),
])
def test_interface(bulkhead, value, host, want):
    with ScriptedServer(host=host) as server:
        b = start(bulkhead, server, "interface = " + value, host, main="log_selector = +incoming_interface +outgoing_interface")
        b.send("s@x.example", ["a@far.example"])
        server.wait_messages(1, 20)
        b.wait_log(r"=> a@far.example .* I=\[%s\]" % want)
