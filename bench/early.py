#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""What early pipelining saves: messages over a link with delay, one connection each, by Bulkhead and by Debian's Exim as the client, in clear
and through STARTTLS, with hosts_pipe_connect and without. The server is a Bulkhead; the link is a relay of ours on loopback, which holds
every octet back for half a round trip (the handshake of TCP itself is not delayed: it costs the same in all rows). Needs root.
    bench/early.py [ROUND-TRIP-MS [MESSAGES]]"""
import os
import re
import socket
import statistics
import sys
import tempfile
import threading
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
sys.path.insert(0, os.path.join(TOP, "tests", "integration"))

from bulkhead import UID_BASE, Client, Instance, wait_for  # noqa: E402
from certs import Authority  # noqa: E402
from peers import Exim  # noqa: E402

RTT = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.1
N = int(sys.argv[2]) if len(sys.argv) > 2 else 7


class Link:
    """Each direction has a reader, which notes when an octet is due, and a writer, which waits for that."""

    def __init__(self, port):
        self.to = port
        self.server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            s = socket.create_connection(("127.0.0.1", self.to))
            for x in (c, s):
                x.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for a, b in ((c, s), (s, c)):
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    @staticmethod
    def carry(a, b):
        queue, more = [], threading.Condition()

        def write():
            while True:
                with more:
                    while not queue:
                        more.wait()
                    due, data = queue.pop(0)
                time.sleep(max(0, due - time.monotonic()))
                try:
                    b.sendall(data) if data else b.shutdown(socket.SHUT_WR)
                except OSError:
                    return
                if not data:
                    return
        threading.Thread(target=write, daemon=True).start()
        data = b"x"
        while data:
            try:
                data = a.recv(65536)
            except OSError:
                data = b""
            with more:
                queue.append((time.monotonic() + RTT / 2, data))
                more.notify()


def seconds(text):
    return [float(x) for x in re.findall(r"(?m)^.* => \S+@other\.example.* DT=([\d.]+)s", text)]


def feed(port, log):
    """One message after the other; the times of all but the first, which has nothing to remember."""
    for i in range(N + 1):
        c = Client(port)
        assert c.mail("a@b.example", "x@other.example", b"Subject: bench\r\n\r\nx\r\n").startswith("250")
        c.ask("QUIT", 221)
        wait_for(lambda: len(seconds(log())) > i, 60, why=log)
    return seconds(log())[1:]


def by_bulkhead(link, tls, early):
    b = Instance(sink=link.port, main="log_selector = +deliver_time +millisec\n", transports="""
smtp:
  driver = smtp
  allow_localhost
  connection_max_messages = 1
  %s = *
  hosts_pipe_connect = %s
maildir:
  driver = appendfile
  directory = {dir}/mail/$local_part_data
  maildir_format
  user = {mail_uid}
  group = {mail_uid}
""" % ("hosts_require_tls" if tls else "hosts_avoid_tls", "*" if early else ""))
    b.start()
    try:
        return feed(b.port, b.log)
    finally:
        b.destroy()


class Peer(Exim):
    tls = early = False

    def configure(self):
        super().configure()
        conf = open(self.path("/etc/exim4/exim4.conf")).read()
        conf = conf.replace("keep_environment =", "log_selector = +deliver_time +millisec\nkeep_environment =")
        conf = conf.replace("  hosts_avoid_tls = *\n", ("  hosts_require_tls = *\n  tls_verify_certificates =\n  tls_try_verify_hosts =\n" if self.tls else
                                                      "  hosts_avoid_tls = *\n") + ("  hosts_pipe_connect = *\n" if self.early else ""))
        self.write("/etc/exim4/exim4.conf", conf)


def by_exim(link, tls, early):
    Peer.tls, Peer.early = tls, early
    p = Peer(link.port)
    try:
        return feed(p.port, lambda: open(p.path("/var/log/exim4/mainlog")).read())
    finally:
        p.close()


def main():
    tmp = tempfile.mkdtemp(prefix="bulkhead-bench-")
    ca = Authority(tmp)
    ca.leaf("mx", "mx.test.example", names=["DNS:mx.test.example"], owner=UID_BASE + 6)
    server = Instance(main="tls_directories = %s\ntls_certificate = %s/mx.pem\ntls_privatekey = %s/mx.key\n" % (tmp, tmp, tmp),
                      routers="all:\n  driver = accept\n  transport = maildir\n", transports="""
maildir:
  driver = appendfile
  directory = {dir}/mail/all
  maildir_format
  create_directory
  user = {mail_uid}
  group = {mail_uid}
""")
    server.start()
    link = Link(server.port)
    print("round trip %.0f ms, %d messages, median of DT= in seconds" % (RTT * 1000, N))
    print("%-10s %-9s %8s %8s %14s" % ("client", "", "without", "early", "saved (trips)"))
    try:
        for name, by in (("Bulkhead", by_bulkhead), ("Exim", by_exim)):
            for tls in (False, True):
                plain, early = (statistics.median(by(link, tls, e)) for e in (False, True))
                print("%-10s %-9s %8.3f %8.3f %14.1f" % (name, "STARTTLS" if tls else "clear", plain, early, (plain - early) / RTT), flush=True)
    finally:
        server.destroy()


if __name__ == "__main__":
    main()
