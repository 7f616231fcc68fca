# SPDX-License-Identifier: ISC
"""Clients that mean no good, each from an address of its own and all at once, against one Bulkhead with short time-outs: what each is
told, what the log says of it, that it is bounded, and that others are served all the while. The forms of lines and commands are in
test_conformance.py, handshakes that fail one by one in test_tls.py."""
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

import pytest

from bulkhead import SANITIZED, UID_BASE, Client, Instance, wait_for
from certs import Authority

MAIN = """
smtp_accept_max = 500
smtp_connect_backlog = 1000
smtp_receive_timeout = 3s
smtp_command_timeout = 3s
smtp_data_timeout = 4s
message_size_limit = 1M
header_maxsize = 64K
recipients_max = 50
dsn_advertise_hosts = *
chunking_advertise_hosts = *
pipelining_connect_advertise_hosts =
smtp_accept_max_per_host = ${if match_ip{$sender_host_address}{<, 127.61.0.0/16, 192.0.2.7}{3}{0}}
smtp_accept_max_per_connection = 20
auth_advertise_hosts = *
host_lookup =
tls_directories = {tls}
tls_certificate = {tls}/mx.pem
tls_privatekey = {tls}/mx.key
hosts_proxy = 127.61.9.0/24
proxy_protocol_timeout = 3s
log_selector = +smtp_syntax_error +smtp_protocol_error
acl_smtp_vrfy = acl_vrfy
acl_smtp_mail = acl_mail
"""
ACL = Instance.ACL.replace("accept hosts = : +relay_from_hosts\n", "") + """
acl_vrfy:
  accept
acl_mail:
  defer message = slow down
        hosts = 192.0.2.0/24 : 127.62.0.0/16
        ratelimit = 5 / 1h / per_mail / strict
  accept
"""
RETRY = Instance.RETRY + """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if eq{$auth3}{secret}}
"""
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<ann@local.example>\r\n"
STREAM = 400 * 1024 * 1024      # octets that a flood would send if nobody stopped it


class Abuser(Client):
    def __init__(self, port, source, greet=True):
        super().__init__(port, greet=greet, source=(source, 0), timeout=40)
        self.sent = 0

    def hello(self):
        self.ask("EHLO c.example", 250)
        return self

    def to_data(self):
        self.hello().send(ENVELOPE + b"DATA\r\n")
        assert [self.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        return self

    def starttls(self):
        self.hello().ask("STARTTLS", 220)
        return self

    def tls(self, **kw):
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        for k, v in kw.items():
            setattr(ctx, k, v)
        self.starttls()
        self.raw = os.dup(self.sock.fileno())
        self.sock = ctx.wrap_socket(self.sock)
        self.f = self.sock.makefile("rb")
        return self

    def flood(self, data):
        """The same again and again, without reading, until the server has had enough; then all that it said."""
        data *= max(1, 65536 // len(data))
        try:
            while self.sent < STREAM:
                self.sent += self.sock.send(data)
        except OSError:
            pass
        return self.rest()

    def dribble(self, data, every):
        """One octet at a time."""
        try:
            while True:
                for i in range(len(data)):
                    self.sock.send(data[i:i + 1])
                    self.sent += 1
                    if select.select([self.sock], [], [], every)[0]:
                        return self.rest()
        except OSError:
            return self.rest()

    def rest(self):
        out = b""
        try:
            while got := self.sock.recv(65536):
                out += got
        except OSError:
            pass
        return out.decode("latin-1")


def repeated(line, opening=()):
    """A command again and again, each after the answer to the one before."""
    def run(b, source):
        c = Abuser(b.port, source).hello()
        for o in opening:
            c.ask(o)
        said = ""
        for _ in range(500):
            got = c.ask(line)
            if not got:
                break
            c.sent, said = c.sent + 1, got
        return c, said
    return run


def flooded(data, opening=lambda c: c.hello()):
    def run(b, source):
        c = opening(Abuser(b.port, source))
        return c, c.flood(data)
    return run


def dribbled(data, opening=lambda c: c.hello(), every=0.1, greet=True):
    def run(b, source):
        c = opening(Abuser(b.port, source, greet))
        return c, c.dribble(data, every)
    return run


def silent(data=b"", opening=lambda c: c):
    def run(b, source):
        c = opening(Abuser(b.port, source))
        c.send(data)
        return c, c.rest()
    return run


def unread(data):
    """Commands without end whose replies are never read, through a window that is small."""
    def run(b, source):
        c = Abuser(b.port, source).hello()
        c.ask("MAIL FROM:<a@b.example>", 250)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        block = data * (65536 // len(data))
        try:
            while c.sent < STREAM:
                c.sent += c.sock.send(block)
        except OSError:
            pass
        return c, ""
    return run


def garbage_in_tls(b, source):
    """Octets that are no record, behind a good handshake."""
    c = Abuser(b.port, source).tls()
    c.ask("EHLO c.example", 250)
    os.write(c.raw, b"MAIL FROM:<a@b.example>\r\n" * 4)
    said = c.rest()
    os.close(c.raw)
    return c, said


def handshakes(b, source):
    """Begun by the dozen and left in the middle."""
    ours, wire = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ours, wire, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = wire.read()
    kept = []
    for i in range(100):
        c = Abuser(b.port, source).starttls()
        c.send(hello[:len(hello) // 2] if i % 2 else hello)
        kept.append(c)
    c = kept[1]
    said = c.rest()
    for k in kept:
        k.sock.close()
    return c, said


def s_client(*argv, lines=()):
    def run(b, source):
        c = Abuser(b.port, source)
        p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % b.port, "-bind", source, "-starttls", "smtp", "-crlf", *argv],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out = []
        for line in iter(p.stdout.readline, b""):
            out.append(line.decode("latin-1"))
            if b"Verify return code" in line:
                break
        try:
            for line in lines:
                p.stdin.write(line)
                p.stdin.flush()
            p.stdin.close()
        except OSError:
            pass
        out.append(p.stdout.read().decode("latin-1"))
        p.wait(60)
        c.close()
        return c, "".join(out)
    return run


def connections(n, begin=b""):
    """As many at once as the address may have, and one more."""
    def run(b, source):
        kept, said = [], ""
        for _ in range(n):
            c = Abuser(b.port, source, greet=False)
            c.send(begin)
            said = c.reply()
            c.sent = len(kept)
            kept.append(c)
            if not said.startswith("220"):
                break
        for k in kept:
            k.sock.close()
        return c, said
    return run


def rated(begin=b""):
    def run(b, source):
        for n in range(30):     # a new connection for each: it's the address that counts
            c = Abuser(b.port, source, greet=False)
            c.send(begin)
            assert c.reply().startswith("220")
            said = c.hello().ask("MAIL FROM:<a@b.example>")
            c.sent = n
            c.close()
            if not said.startswith("250"):
                break
        return c, said
    return run


V1 = b"PROXY TCP4 192.0.2.%d 198.51.100.2 40000 25\r\n"
# What never ends is too large or takes too long, whichever comes first.
ENDS, LONG = r"552 5\.3\.4|421 4\.4\.2|^$", "message too big, still coming|data too slow"
HEADER = b"X-Header: value\r\n"
# Who does it, what the last reply is (the end of all that was said, where nobody read meanwhile), what the log has of this client, how
# much it could send at the most.
ABUSES = {
    "unknown commands, one by one": (repeated("FOO"), r"500 5\.5\.2 Too many unrec", "dropped: too many unrecognized commands", 4),
    "unknown commands, flood": (flooded(b"FOO\r\n"), r"(500 5\.5\.2 unrecognized command\r\n){3}500 5\.5\.2 Too many unrec|^$", "dropped: too many unrecognized commands", 1 << 24),
    "syntax errors, one by one": (repeated("MAIL"), "(?s)501.*Too many syntax or protocol errors", "dropped: too many syntax or protocol errors", 4),
    "syntax errors, flood": (flooded(b"RSET x\r\n"), "Too many syntax or protocol errors|^$", "dropped: too many syntax or protocol errors", 1 << 24),
    "protocol errors": (repeated("RCPT TO:<ann@local.example>"), "(?s)503.*Too many syntax or protocol errors", "dropped: too many syntax or protocol errors", 4),
    "8 bits, flood": (flooded(b"\xe4\xff\r\n"), "Too many|^$", "dropped: too many", 1 << 24),
    "NUL, flood": (flooded(b"\0\0\0\0\r\n"), "Too many|^$", "dropped: too many syntax or protocol errors", 1 << 24),
    "empty lines, flood": (flooded(b"\r\n"), "Too many|^$", "dropped: too many unrecognized commands", 1 << 24),
    "bare LF, flood": (flooded(b"NOOP\n"), "500 5.5.2 bare line feed|^$", "dropped: a command line without an end", 1 << 24),
    "NOOP, one by one": (repeated("NOOP"), r"421 4\.7\.0 \S+ Too many non-mail", r'dropped: too many nonmail commands \(last was "NOOP"\)', 11),
    "RSET, one by one": (repeated("RSET"), r"421 4\.7\.0 \S+ Too many non-mail", r'dropped: too many nonmail commands \(last was "RSET"\)', 12),
    "RSET, flood": (flooded(b"RSET\r\n"), r"421 4\.7\.0 \S+ Too many non-mail|^$", "dropped: too many nonmail commands", 1 << 24),
    "VRFY": (repeated("VRFY ann@local.example"), r"421 4\.7\.0 \S+ Too many non-mail", r'dropped: too many nonmail commands \(last was "VRFY"\)', 11),
    "EXPN": (repeated("EXPN list"), r"421 4\.7\.0 \S+ Too many non-mail", "dropped: too many nonmail commands", 11),
    "HELP": (repeated("HELP"), r"421 4\.7\.0 \S+ Too many non-mail", "dropped: too many nonmail commands", 11),
    "EHLO": (repeated("EHLO c.example"), r"421 4\.7\.0 \S+ Too many non-mail", "dropped: too many nonmail commands", 11),
    "transactions that come to nothing": (repeated("MAIL FROM:<a@b.example> SIZE=99999999"), r"421 4\.7\.0 .*too many messages", "incomplete|too many|rejected MAIL", 21),
    "wrong passwords": (repeated("AUTH PLAIN AGpvZQB3cm9uZw=="), "(?s)535.*Too many authentication failures", "dropped: too many authentication failures", 3),
    "half an AUTH": (silent(b"AUTH PLAIN\r\n", lambda c: c.hello()), r"(?s)334 \r\n421 4\.4\.2", "SMTP command timeout", 0),
    "recipients": (flooded(b"RCPT TO:<ann@local.example>\r\n", lambda c: (c.hello().ask("MAIL FROM:<a@b.example>", 250), c)[1]), "452 4.5.3 too many recipients|^$",
                   ".", STREAM),
    "a line that does not end": (flooded(b"x" * 100), r"500 5\.5\.2 line too long|^$", "dropped: a command line without an end", 1 << 24),
    "a chunk that is too large": (silent(ENVELOPE + b"BDAT 999999999999 LAST\r\n", lambda c: c.hello()), r"(?s)250.*250.*552 5\.3\.4", "Message size exceeds", 0),
    "chunks that are too small": (flooded(b"BDAT 1\r\nx", lambda c: (c.hello().ask("MAIL FROM:<a@b.example>", 250), c.ask("RCPT TO:<ann@local.example>", 250), c)[2]),
                                  "421 4.7.0 .*too many small chunks|^$", "too many small chunks", 1 << 24),
    "a header that does not end": (flooded(HEADER, lambda c: c.to_data()), ENDS, LONG, 200 << 20),
    "a body that does not end": (flooded(b"x" * 70 + b"\r\n", lambda c: (c.to_data().send(b"\r\n"), c)[1]), ENDS, LONG, 200 << 20),
    "a body of one line": (flooded(b"x" * 100, lambda c: (c.to_data().send(b"\r\n"), c)[1]), ENDS, LONG, 200 << 20),
    "silence": (silent(), r"421 4\.4\.2", "SMTP command timeout", 0),
    "silence after EHLO": (silent(b"", lambda c: c.hello()), r"421 4\.4\.2", "SMTP command timeout", 0),
    "silence after the envelope": (silent(ENVELOPE, lambda c: c.hello()), r"421 4\.4\.2", "SMTP command timeout", 0),
    "half a line": (silent(b"NOO"), r"421 4\.4\.2", "SMTP command timeout", 0),
    "silence in data": (silent(b"Subject: x\r\n", lambda c: c.to_data()), r"421 4\.4\.2", r"SMTP data timeout \(message abandoned\)", 0),
    "silence in a chunk": (silent(ENVELOPE + b"BDAT 1000 LAST\r\nx", lambda c: c.hello()), r"(?s)250.*250.*421 4\.4\.2", r"SMTP data timeout \(message abandoned\)", 0),
    "a command octet by octet": (dribbled(b"N"), r"421 4\.4\.2", "SMTP command timeout", 60),
    "a command octet by octet before EHLO": (dribbled(b"N", lambda c: c), r"421 4\.4\.2", "SMTP command timeout", 60),
    "data octet by octet": (dribbled(b"line\r\n", lambda c: c.to_data()), r"421 4\.4\.2", "SMTP data too slow", 80),
    "replies that nobody reads": (unread(b"RCPT TO:<ann@local.example>\r\n"), "", "SMTP command timeout", 1 << 24),
    "errors that nobody reads": (unread(b"FOO\r\n"), "", "dropped: too many unrecognized commands", 64 << 20),
    "no handshake": (silent(b"", lambda c: c.starttls()), "^$", r"TLS error on connection .*\(SSL_accept\): timed out", 0),
    "half a record": (silent(b"\x16\x03\x01\x40\x00\x01", lambda c: c.starttls()), "^$", r"\(SSL_accept\): timed out", 0),
    "a handshake octet by octet": (dribbled(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, lambda c: c.starttls()), "^$", r"\(SSL_accept\): timed out", 60),
    "a huge hello": (flooded(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03" + b"\0" * 16373, lambda c: c.starttls()), "(?s).*", r"TLS error on connection", 1 << 24),
    "records without content": (flooded(b"\x16\x03\x01\x00\x00", lambda c: c.starttls()), "(?s).*", "TLS error on connection", 1 << 24),
    "garbage for a hello": (flooded(b"GET / HTTP/1.1\r\n", lambda c: c.starttls()), "(?s).*", "TLS error on connection", 1 << 24),
    "garbage behind the handshake": (garbage_in_tls, "^$", "unexpected disconnection|TLS error", 0),
    "silence under TLS": (lambda b, source: (lambda c: (c, c.rest()))(Abuser(b.port, source).tls()), r"421 4\.4\.2", "SMTP command timeout", 0),
    "errors under TLS, flood": (flooded(b"FOO\r\n", lambda c: (c.tls().ask("EHLO c.example", 250), c)[1]), "Too many unrec|^$", "dropped: too many unrecognized commands", 1 << 24),
    "data under TLS octet by octet": (dribbled(b"line\r\n", lambda c: (c.tls().ask("EHLO c.example", 250), c.to_data())[1]), r"421 4\.4\.2", "SMTP data too slow", 80),
    "handshakes by the dozen": (handshakes, "^$", r"\(SSL_accept\): timed out", 0),
    "early data": (s_client("-tls1_3", lines=[b"EHLO c.example\n", b"QUIT\n"]), r"(?s)(Max Early Data: 0|^(?!.*Max Early Data))", ".", 0),
    "TLS 1.1": (s_client("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), "(?s)^(?!.*BEGIN CERT)", "TLS error on connection", 0),
    "TLS 1.0": (s_client("-tls1", "-cipher", "DEFAULT@SECLEVEL=0"), "(?s)^(?!.*BEGIN CERT)", "TLS error on connection", 0),
    "no forward secrecy": (s_client("-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384@SECLEVEL=0"), "(?s)^(?!.*BEGIN CERT)", "TLS error on connection", 0),
    "a finite field that is small": (s_client("-tls1_2", "-cipher", "DHE-RSA-AES128-SHA@SECLEVEL=0"), "(?s)^(?!.*BEGIN CERT)", "TLS error on connection", 0),
    "a signature by SHA-1": (s_client("-tls1_2", "-sigalgs", "RSA+SHA1:ECDSA+SHA1", "-cipher", "DEFAULT@SECLEVEL=0"), "(?s)^(?!.*BEGIN CERT)", "TLS error on connection", 0),
    "connections of one address": (connections(10), r"421 4\.3\.2", "refused: too many connections from that IP address", 3),
    "connections of one address behind a proxy": (connections(10, V1 % 7), r"421 4\.3\.2", r"\[192\.0\.2\.7\].*refused: too many connections from|refused: too many connections", 3),
    "messages of one address": (rated(), "451 4.*slow down|450|421", "slow down|temporarily rejected MAIL", 5),
    "messages of one address behind a proxy": (rated(V1 % 8), "451 4.*slow down|450|421", "slow down|temporarily rejected MAIL", 5),
    "no PROXY header": (lambda b, source: (lambda c: (c, c.rest()))(Abuser(b.port, source, greet=False)), r"(?s)220 .*421 4\.4\.2", "proxy header refused: it did not come in time", 0),
    "a PROXY header octet by octet": (dribbled(b"PROXY TCP4 192.0.2.1 ", lambda c: c, greet=False), "220|554 5.5.0 SMTP synchronization error", "proxy header refused: it did not come in time|proxy header refused", 60),
}
# The networks for which the configuration has rules of its own.
NETWORK = {"connections of one address": "127.61.1.%d", "connections of one address behind a proxy": "127.61.9.%d", "messages of one address": "127.62.1.%d",
           "messages of one address behind a proxy": "127.61.9.%d", "no PROXY header": "127.61.9.%d", "a PROXY header octet by octet": "127.61.9.%d"}
BEHIND = {"connections of one address behind a proxy": r"192\.0\.2\.7", "messages of one address behind a proxy": r"192\.0\.2\.8"}


class Outcome:
    def __init__(self, name, source):
        self.name, self.source, self.said, self.sent, self.error = name, source, None, 0, None

    def run(self, b):
        try:
            c, self.said = ABUSES[self.name][0](b, self.source)
            self.sent = c.sent
            c.sock.close()
        except Exception as e:      # it is shown where the row is looked at
            self.error = e


class Abused:
    def __init__(self, b):
        self.b, self.served, self.refused = b, 0, []
        self.outcomes = {name: Outcome(name, NETWORK.get(name, "127.63.1.%d") % (i + 1)) for i, name in enumerate(ABUSES)}
        threads = [threading.Thread(target=o.run, args=(b,), daemon=True) for o in self.outcomes.values()]
        self.before = self.memory()
        for t in threads:
            t.start()
        # Others are served meanwhile.
        while any(t.is_alive() for t in threads):
            c = Client(b.port, source=("127.64.0.1", 0), timeout=60)
            got = c.mail("a@b.example", "joe@local.example", b"Subject: x\r\n\r\nx\r\n")
            c.ask("QUIT", 221)
            c.close()
            if got.startswith("250"):
                self.served += 1
            else:
                self.refused.append(got)
            threads[-1].join(0.05)
        for t in threads:
            t.join(60)
        self.after = self.memory()
        self.log = b.log() + b.log("reject")

    def memory(self):
        """Kilobytes that smtpd has in memory."""
        pids = [d["pid"] for d in self.b.daemons("smtpd")]
        return sum(int(re.search(r"VmRSS:\s*(\d+)", open("/proc/%d/status" % p).read()).group(1)) for p in pids)


@pytest.fixture(scope="module")
def abused():
    directory = tempfile.mkdtemp(prefix="bulkhead-tls-")
    Authority(directory).leaf("mx", "mx.test.example", names=["DNS:mx.test.example"], owner=UID_BASE + 6 if os.geteuid() == 0 else None)
    b = Instance(main=MAIN, acl=ACL, retry=RETRY, tls=directory)
    try:
        yield Abused(b.start())
    finally:
        b.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("name", ABUSES)
def test_abuse(abused, name):
    _, says, log, most = ABUSES[name]
    o = abused.outcomes[name]
    assert o.error is None, "%s: %s" % (type(o.error).__name__, o.error)
    assert o.said is not None, "it still goes on"
    assert re.search(says, o.said), o.said[-500:]
    assert o.sent <= most, "%d were taken" % o.sent
    source = BEHIND.get(name, re.escape(o.source))
    lines = [line for line in abused.log.split("\n") if re.search(r"\[%s\]" % source, line)]
    assert log == "." or any(re.search(log, line) for line in lines), "\n".join(lines[:10])


def test_others_are_served(abused):
    assert abused.served >= 10 and not abused.refused
    assert len(abused.b.wait_maildir("joe", abused.served)) == abused.served
    assert not abused.b.maildir("ann"), "what was broken off has come through"
    assert not re.search("signal|restart", abused.b.log("panic")), abused.b.log("panic")


def test_nothing_is_left(abused):
    """The sessions are gone, and what they took in memory."""
    wait_for(lambda: sum(d["sessions"] if "sessions" in d else 0 for d in abused.b.daemons("smtpd")) == 0, 20)
    if not SANITIZED:   # which keep what was freed
        assert abused.after < abused.before + 40000, "%d KB before, %d KB after" % (abused.before, abused.after)
