# SPDX-License-Identifier: ISC
"""Early pipelining (PIPECONNECT) and TCP Fast Open, as server and as client, against Debian's Exim and against servers that lie."""
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from bulkhead import Client, Sink, wait_for
from peers import Exim, Opensmtpd, Postfix

GROUP = b"EHLO early.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<joe@local.example>\r\nDATA\r\n"
ACL = "acl_check_rcpt:\n  accept\n"
BODY = b"Subject: early\r\n\r\nx\r\n.\r\n"
LOG = "log_selector = +pipelining\n"


class Raw:
    """A client that talks before it listens; `reads`: what came, read by read."""

    def __init__(self, port, first=b""):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reads = []
        if first:
            self.s.sendall(first)

    def send(self, octets):
        self.s.sendall(octets)

    def replies(self, n):
        """Until n replies are whole, or the end: their last lines."""
        got = b""
        while len(re.findall(rb"(?m)^\d\d\d .*\n", got)) < n:
            part = self.s.recv(65536)
            if not part:
                break
            self.reads.append(part)
            got += part
        return [line.decode() for line in re.findall(rb"(?m)^\d\d\d .*(?=\r\n)", got)]

    def all(self):
        got = b""
        try:
            while True:
                part = self.s.recv(65536)
                if not part:
                    return got
                got += part
        except ConnectionResetError:
            return got

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.s = context.wrap_socket(self.s)


def codes(replies):
    return " ".join(r[:3] for r in replies)


# ---- as server ----

def test_server_group(bulkhead):
    """EPL1, EPL2, EPL4: the replies go out in one write although policyd is asked in between; then the log."""
    # The delay makes sure that the group is here before the greeting goes out.
    b = bulkhead(main=LOG + "acl_smtp_connect = late\n", acl=ACL + "late:\n  accept delay = 1s\n")
    for i, (want, first, rest) in enumerate((
            ("L*", GROUP, ()),
            ("L.", b"", (GROUP[:20], GROUP[20:])),
            ("L.-", b"", tuple(line + b"\r\n" for line in GROUP.split(b"\r\n")[:-1])))):
        r = Raw(b.port, first)
        if first:
            assert codes(r.replies(5)) == "220 250 250 250 354"
            assert len(r.reads) == 1, r.reads
            assert b"250-PIPELINING\r\n250-PIPECONNECT\r\n" in r.reads[0]
        else:
            assert codes(r.replies(1)) == "220"
            for part in rest:
                r.send(part)
                r.replies(part.count(b"\r\n"))
        r.send(BODY)
        assert codes(r.replies(1)) == "250"
        r.send(b"QUIT\r\n")
        assert codes(r.replies(1)) == "221"
        lines = wait_for(lambda: (lambda v: v if len(v) > i else None)(re.findall(r" <= a@b.example .*", b.log())))
        assert re.search(r" P=esmtp %s S=" % re.escape(want), lines[i]), lines


def test_server_strict(bulkhead):
    """Who is not in the list is held to the order of turns, and is not told of the offer; nor where PIPELINING is not offered."""
    b = bulkhead(main=LOG + "pipelining_connect_advertise_hosts = !127.0.0.1 : *\nacl_smtp_connect = late\n", acl=ACL + "late:\n  accept delay = 1s\n")
    r = Raw(b.port, GROUP)
    assert r.all() == b"554 5.5.0 SMTP synchronization error\r\n"
    b.wait_log(r"input sent without waiting for greeting\): rejected connection from .*127.0.0.1")
    c = Client(b.port)
    assert "PIPECONNECT" not in c.ask("EHLO x.example", 250)
    assert c.mail("a@b.example", "joe@local.example", b"Subject: x\r\n\r\nx\r\n").startswith("250")
    b.wait_log(r"<= a@b.example .* P=esmtp L- S=")


@pytest.mark.parametrize("option", ["pipelining_advertise_hosts =\nacl_smtp_connect = late", "smtp_enforce_sync = false", "acl_smtp_connect = plain"])
def test_server_no_offer(bulkhead, option):
    acl = """
late:
  accept delay = 1s
plain:
  accept control = no_pipelining
         delay = 1s
"""
    b = bulkhead(main=LOG + option + "\n", acl=ACL + (acl if "acl_" in option else ""))
    c = Client(b.port)
    offers = c.ask("EHLO x.example", 250)
    assert "PIPECONNECT" not in offers
    assert ("PIPELINING" in offers) == ("enforce" in option)
    r = Raw(b.port, GROUP)
    assert r.all().startswith(b"554 ") if "enforce" not in option else codes(r.replies(5)) == "220 250 250 250 354"


@pytest.mark.parametrize("acl,option,want", [
    ("delay", "acl_smtp_connect = delay", "220 250 250 250 354"),
    ("delay", "acl_smtp_helo = delay", "220 250 250 250 354"),
    ("deny", "acl_smtp_helo = deny", "220 550 503 503 503"),
    ("defer", "acl_smtp_helo = defer", "220 451 503 503 503"),
    ("deny", "acl_smtp_connect = deny", "554"),
    ("defer", "acl_smtp_connect = defer", "421")])
def test_server_acl(bulkhead, acl, option, want):
    """What comes too early waits for the ACL, and gets its replies after it."""
    b = bulkhead(main=LOG + option + "\n", acl=ACL + {"delay": "delay:\n  accept delay = 1s\n", "deny": "deny:\n  deny\n",
                                                                 "defer": "defer:\n  defer\n"}[acl])
    r = Raw(b.port, GROUP)
    assert codes(r.replies(len(want.split()))) == want
    if want.endswith("354"):
        r.send(BODY)
        assert codes(r.replies(1)) == "250"
        b.wait_log(r"<= a@b.example .* L\* ")
    elif "503" in want: # the session is alive, and starts anew
        r.send(b"EHLO x.example\r\n")
        assert codes(r.replies(1)) == want[4:7]
    else:
        assert r.all() == b""


# ---- as client ----

class Relay:
    """Hands on what two sides say, and keeps it read by read: [("c", octets), ("s", octets) ...] a connection. The first read from the
    client waits a little, so that a client that waits for the greeting is told apart from one that does not: `early` is what came
    before a word of the server was handed on."""

    def __init__(self, port, wait=0.5):
        self.port_to, self.wait = port, wait
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.sessions = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            session = []
            self.sessions.append(session)
            threading.Thread(target=self.talk, args=(c, session), daemon=True).start()

    def talk(self, c, session):
        import select
        try:
            s = socket.create_connection(("127.0.0.1", self.port_to), timeout=20)
        except OSError:
            c.close()
            return
        if select.select([c], [], [], self.wait)[0]:
            data = c.recv(65536)
            session.append(("c", data))
            s.sendall(data)
        while True:
            for x in select.select([c, s], [], [])[0]:
                try:
                    data = x.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    c.close(), s.close()
                    return
                session.append(("c" if x is c else "s", data))
                try:
                    (s if x is c else c).sendall(data)
                except OSError:
                    pass

    def early(self, i):
        """The client's first words in session i, if they came first."""
        session = self.sessions[i]
        return session[0][1] if session and session[0][0] == "c" else b""

    def close(self):
        self.server.close()


TRANSPORTS = """
smtp:
  driver = smtp
  allow_localhost
  hosts_pipe_connect = *
{options}
maildir:
  driver = appendfile
  directory = {{dir}}/mail/$local_part_data
  maildir_format
  create_directory
  user = {{mail_uid}}
  group = {{mail_uid}}
"""


def client(bulkhead, port, options="", main="", **kw):
    """An instance that sends to the port; connections are not kept."""
    options = "  connection_max_messages = 1\n" + options
    return bulkhead(main=LOG + main, sink=port, transports=TRANSPORTS.format(options=options), **kw)


def send(b, n=1, to="box@peer.example", content=b"Subject: early\r\n\r\nx\r\n"):
    """One message after the other; the log lines of their deliveries."""
    for _ in range(n):
        done = len(delivered(b))
        b.send("a@b.example", to, content)
        wait_for(lambda: len(delivered(b)) > done, 30, why=b.logs)
    return delivered(b)


def delivered(b):
    return re.findall(r" => \S+@peer.example .*", b.log())


class EximEarly(Exim):
    more, transport, rcpt = "", "", ""

    def configure(self):
        super().configure()
        conf = open(self.path("/etc/exim4/exim4.conf")).read()
        conf = conf.replace("keep_environment =", "log_selector = +pipelining\n" + self.more + "\nkeep_environment =")
        self.write("/etc/exim4/exim4.conf", conf.replace("  hosts_avoid_tls = *\n", self.transport or "  hosts_avoid_tls = *\n"))


@pytest.fixture
def exim():
    made = []

    def make(relay_to=None, more="", transport=""):
        EximEarly.more, EximEarly.transport = more, transport
        made.append(EximEarly(relay_to))
        return made[-1]
    yield make
    for e in made:
        e.close()


@pytest.mark.parametrize("chunking", [False, True])
def test_client_exim(bulkhead, exim, chunking):
    """EPL3, samples 55 and 56: the second connection's first segment has all the commands, with BDAT the content too."""
    peer = exim(more="" if chunking else "chunking_advertise_hosts =")
    relay = Relay(peer.port)
    b = client(bulkhead, relay.port)
    lines = send(b, 3)
    assert " L*" not in lines[0] and " L* " in lines[1] and " L* " in lines[2], lines
    assert relay.early(0) == b""
    for i in (1, 2):
        want = (rb"EHLO mx\.test\.example\r\nMAIL FROM:<a@b\.example> SIZE=\d+\r\nRCPT TO:<box@peer\.example>\r\n" +
                (rb"BDAT \d+ LAST\r\n(.*\r\n)+x\r\n\Z" if chunking else rb"DATA\r\n\Z"))
        assert re.match(want, relay.early(i)), relay.sessions[i]
    assert len(relay.sessions) == 3
    marks = wait_for(lambda: (lambda v: v if len(v) == 3 else None)(re.findall(r"<= a@b.example .* P=esmtp (L\S*)", peer.log())), why=peer.log)
    assert marks == ["L.", "L*", "L*"], peer.log()
    wait_for(lambda: peer.mailbox().count(b"Subject: early") == 3, why=peer.log)
    relay.close()
