# SPDX-License-Identifier: ISC
"""Servers that misbehave at each point of the dialogue, in each way, beside what must become of the message: delivered, deferred (with
what Exim's log would call the error) and delivered at the next attempt, when the server behaves, or failed. Never lost, and never taken
twice unless the answer to the end of the data was lost. All rows are sent at once by one Bulkhead, each to a host of its own."""
import os
import re
import shutil
import ssl
import tempfile

import pytest

from bulkhead import Instance, wait_for
from certs import Authority
from scripted_server import Close, Endless, Late, Raw, Reset, Script, ScriptedHosts, Silent, Slow, Then

WAIT = 2            # command_timeout and its kin, in seconds
OK, DEFER, FAIL = "=>", "==", "**"
PIPELINING = ["PIPELINING", "SIZE", "8BITMIME"]
GOOD = {"banner": "220", "DATA": "354", "QUIT": "221", "AUTH": "235", "STARTTLS": "220", "prdr": "353"}

CLOSED = "Remote host closed connection|Connection reset by peer|Broken pipe"

# What is done in place of the reply (from the code that would be right), what becomes of the message, what the log says.
WAYS = {
    "4xx": (lambda code: "451 4.3.0 later", DEFER, r"451 4\.3\.0 later"),
    "421": (lambda code: Close("421 4.3.2 going away"), DEFER, r"421 4\.3\.2 going away"),
    "5xx": (lambda code: "550 5.1.1 never", FAIL, r"550 5\.1\.1 never"),
    "554": (lambda code: "554 5.7.1 never", FAIL, r"554 5\.7\.1 never"),
    "wrong class": (lambda code: "250 2.0.0 fine" if code == "354" else "354 go on", DEFER, "Malformed SMTP reply"),
    "1xx": (lambda code: "150 wait", DEFER, r"Malformed SMTP reply \(a code out of range\)"),
    "6xx": (lambda code: "650 what", DEFER, r"Malformed SMTP reply \(a code out of range\)"),
    "garbage": (lambda code: Raw(b"\x16\x03\x01\0\xff what is this?\r\n"), DEFER, r"Malformed SMTP reply \(no code at the start\)"),
    "two digits": (lambda code: Raw(b"25 ok\r\n"), DEFER, "Malformed SMTP reply"),
    "four digits": (lambda code: Raw(code.encode() + b"0 ok\r\n"), DEFER, r"Malformed SMTP reply \(no blank or hyphen"),
    "empty line": (lambda code: Raw(b"\r\n"), DEFER, r"Malformed SMTP reply \(an empty line\)"),
    "empty line first": (lambda code: Raw(b"\r\n" + code.encode() + b" ok\r\n"), DEFER, r"Malformed SMTP reply \(an empty line\)"),
    "blank first": (lambda code: Raw(b" " + code.encode() + b" ok\r\n"), DEFER, "Malformed SMTP reply"),
    "endless line": (lambda code: Endless(code.encode() + b" x" * 100), DEFER, r"Malformed SMTP reply \(a line of more than 2048 octets\)"),
    "endless reply": (lambda code: Endless(code.encode() + b"-x\r\n"), DEFER, r"Malformed SMTP reply \(more than 128 lines\)"),
    "codes that differ": (lambda code: Raw(code.encode() + b"-ok\r\n550 no\r\n"), DEFER, r"Malformed SMTP reply \(different codes"),
    "codes that differ, good at the end": (lambda code: Raw(b"550-no\r\n" + code.encode() + b" ok\r\n"), DEFER, r"Malformed SMTP reply \(different codes"),
    "close": (lambda code: Close(), DEFER, CLOSED),
    "reset": (lambda code: Reset(), DEFER, CLOSED),
    "silence": (lambda code: Silent(), DEFER, "SMTP timeout|Connection timed out"),
    "half a line, then silence": (lambda code: Then(code.encode()[:2], Silent()), DEFER, "SMTP timeout|Connection timed out"),
    "half a line, then close": (lambda code: Then(code.encode()[:2], Close()), DEFER, CLOSED),
    "a line without its end, then close": (lambda code: Then(code.encode() + b" ok", Close()), DEFER, CLOSED),
    "half a reply, then silence": (lambda code: Then(code.encode() + b"-ok\r\n", Silent()), DEFER, "SMTP timeout|Connection timed out"),
    "half a reply, then close": (lambda code: Then(code.encode() + b"-ok\r\n", Close()), DEFER, CLOSED),
    "dribbling": (lambda code: Slow(code + " " + "x" * 60, 0.1), DEFER, "SMTP timeout|Connection timed out"),
    "too much": (lambda code: Raw(code.encode() + b" ok\r\n" + code.encode() + b" ok\r\n"), DEFER, "Malformed SMTP reply"),
    # what is forgiven
    "slowly": (lambda code: Slow(code + " ok", 0.02), OK, "C="),
    "late": (lambda code: Late(code + " ok", 0.5), OK, "C="),
    "no text": (lambda code: code, OK, "C="),
    "NUL": (lambda code: Raw(code.encode() + b" o\0k\r\n"), OK, "C="),
    "8 bits": (lambda code: Raw(code.encode() + b" \xe4\xff\r\n"), OK, "C="),
    "escape sequences": (lambda code: Raw(code.encode() + b" \x1b[2J\x07\r\n"), OK, "C="),
    "bare LF": (lambda code: Raw(code.encode() + b" ok\n"), OK, "C="),
    "many lines": (lambda code: Raw((code.encode() + b"-ok\r\n") * 100 + code.encode() + b" ok\r\n"), OK, "C="),
}
# Manners of servers: what they offer, and the points of their dialogue at which something happens ("RCPT 2": the second time there).
MANNERS = {
    "piped": (PIPELINING, {}, ["banner", "EHLO", "MAIL", "RCPT", "DATA", "dot", "QUIT"]),
    "plain": (["SIZE"], {}, ["MAIL", "RCPT", "DATA", "dot"]),
    "helo": ([], {"EHLO": "502 5.5.1 what?"}, ["HELO", "MAIL"]),
    "chunks": (PIPELINING + ["CHUNKING"], {}, ["dot"]),
    "pieces": (PIPELINING + ["CHUNKING"], {}, ["BDAT", "BDAT 2", "dot"]),
    "prdr": (PIPELINING + ["PRDR"], {}, ["prdr", "prdr 2", "prdr 3", "dot"]),
    "both": (PIPELINING, {}, ["RCPT", "RCPT 2"]),
    "locals": (PIPELINING, {}, ["dot", "dot 2"]),
    "lmtp": (PIPELINING, {}, ["banner", "LHLO", "MAIL", "RCPT", "DATA", "dot"]),
    "auth": (PIPELINING + ["AUTH PLAIN"], {}, ["AUTH"]),
    "tls": (PIPELINING + ["STARTTLS"], {}, ["STARTTLS", "tls", "EHLO 2", "MAIL", "RCPT", "DATA", "dot", "QUIT"]),
    "required": (PIPELINING + ["STARTTLS"], {}, ["STARTTLS", "tls"]),
    "smtps": (PIPELINING, {}, ["tls", "banner", "EHLO", "MAIL", "dot"]),
}
# Where a point has a rule of its own: (manner or *, point, way): outcome, what the log says.
TWO = {"prdr", "both", "locals"}       # manners in which a message has two recipients
LMTP = {"lmtp", "locals"}
TLS = {"tls", "required", "smtps"}
LARGE = {"pieces"}
RULES = {
    ("*", "QUIT", "*"): (OK, "C="),
    # The session is of no use, though the host may only be busy: it is tried again; 5xx is its last word only where it is the last host.
    ("*", "banner", "5xx"): (FAIL, "550"), ("*", "banner", "554"): (FAIL, "554"),
    ("*", "LHLO", "5xx"): (FAIL, "550"), ("*", "LHLO", "554"): (FAIL, "554"),
    ("helo", "HELO", "5xx"): (FAIL, "550"), ("helo", "HELO", "554"): (FAIL, "554"),
    ("*", "EHLO", "5xx"): (OK, "C="), ("*", "EHLO", "554"): (OK, "C="),           # HELO is said then
    ("*", "banner", "wrong class"): (DEFER, "354 go on"), ("*", "EHLO", "wrong class"): (DEFER, "354 go on"),
    ("*", "HELO", "wrong class"): (DEFER, "354 go on"), ("*", "LHLO", "wrong class"): (DEFER, "354 go on"),
    # TLS that is not to be had is not insisted on, unless it is required: then the next host may have it.
    ("tls", "tls", "*"): (OK, "C="), ("required", "tls", "*"): (DEFER, "TLS session|handshake"), ("smtps", "tls", "*"): (DEFER, "TLS session|handshake"),
    ("tls", "STARTTLS", "4xx"): (OK, "C="), ("tls", "STARTTLS", "421"): (OK, "C="), ("tls", "STARTTLS", "5xx"): (OK, "C="), ("tls", "STARTTLS", "554"): (OK, "C="), ("tls", "STARTTLS", "wrong class"): (OK, "C="),
    ("required", "STARTTLS", "5xx"): (DEFER, "550 5"), ("required", "STARTTLS", "554"): (DEFER, "554 5"), ("required", "STARTTLS", "wrong class"): (DEFER, "354 go on"),
    ("tls", "STARTTLS", "too much"): (DEFER, "octets in clear"), ("required", "STARTTLS", "too much"): (DEFER, "octets in clear"),
    ("tls", "EHLO 2", "5xx"): (OK, "C="), ("tls", "EHLO 2", "554"): (OK, "C="), ("tls", "EHLO 2", "wrong class"): (DEFER, "354 go on"),
    # A reply too many is taken for that to the next piece: nothing tells them apart.
    ("pieces", "BDAT", "too much"): (OK, "C="), ("pieces", "BDAT 2", "too much"): (OK, "C="),
    ("prdr", "prdr 2", "too much"): (OK, "C="), ("prdr", "prdr 3", "too much"): (OK, "C="), ("locals", "dot 2", "too much"): (OK, "C="),
    # What was sent and not read resets the connection, and may take the reply with it.
    ("pieces", "BDAT", "421"): (DEFER, "421 4.3.2 going away|" + CLOSED), ("pieces", "BDAT 2", "421"): (DEFER, "421 4.3.2 going away|" + CLOSED),
    ("pieces", "BDAT", "wrong class"): (DEFER, "354 go on"), ("pieces", "BDAT 2", "wrong class"): (DEFER, "354 go on"),
    ("auth", "AUTH", "wrong class"): (DEFER, "authentication"), ("auth", "AUTH", "5xx"): (DEFER, "authentication"), ("auth", "AUTH", "554"): (DEFER, "authentication"),
    ("*", "dot", "too much"): (OK, "C="),      # the message has its answer; the connection is given up
}


# What EHLO's reply says of numbers (RFC 1870, RFC 9422): the line, in how many transactions two recipients go, and how it ends. What is
# no number as it should be says nothing.
OFFERS = [
    ("LIMITS RCPTMAX=1", 2, OK), ("limits rcptmax=1", 2, OK), ("LIMITS MAILMAX=9 RCPTMAX=1 X=y", 2, OK), ("LIMITS RCPTMAX=2", 1, OK), ("LIMITS RCPTMAX=1000000", 1, OK),
    ("LIMITS RCPTMAX=0", 1, OK), ("LIMITS RCPTMAX=+1", 1, OK), ("LIMITS RCPTMAX=-1", 1, OK), ("LIMITS RCPTMAX=1x", 1, OK), ("LIMITS RCPTMAX=01", 1, OK),
    ("LIMITS RCPTMAX=", 1, OK), ("LIMITS RCPTMAX", 1, OK), ("LIMITS RCPTMAX=0x1", 1, OK), ("LIMITS RCPTMAX=1.5", 1, OK), ("LIMITS RCPTMAX =1", 1, OK),
    ("LIMITS RCPTMAX=4294967297", 1, OK), ("LIMITS RCPTMAX=18446744073709551617", 1, OK), ("LIMITS XRCPTMAX=1", 1, OK), ("LIMITS=RCPTMAX=1", 1, OK),
    ("LIMITS RCPTMAX=5 RCPTMAX=1", 2, OK), ("LIMITS", 1, OK), ("LIMITS " + "X=1 " * 400, 1, OK),
    ("SIZE 10", 0, FAIL), ("SIZE 0", 1, OK), ("SIZE", 1, OK), ("SIZE 100000", 1, OK), ("SIZE -1", 1, OK), ("SIZE +10", 1, OK), ("SIZE 10x", 1, OK), ("SIZE 0x10", 1, OK),
    ("SIZE 18446744073709551626", 1, OK), ("SIZE 99999999999999999999999999", 1, OK), ("SIZE 1 2", 1, OK), ("XSIZE 10", 1, OK),
]


class OfferRow:
    """Two recipients to a server that offers one thing."""
    manner = "piped"

    def __init__(self, number, line, transactions, outcome):
        self.line, self.transactions, self.outcome = line, transactions, outcome
        self.domain, self.address = "o%d.piped.example" % number, "127.41.0.%d" % (number + 1)
        self.rcpts = ["a@" + self.domain, "b@" + self.domain]
        self.id, self.content = "offer/%d" % number, b"Subject: x\r\n\r\nx\r\n"
        self.script = Script({}, offers=["PIPELINING", line])


class Row:
    def __init__(self, number, manner, point, way, tls=None):
        self.manner, self.point, self.way = manner, point, way
        self.domain = "r%d.%s.example" % (number, manner)
        self.address = "127.40.%d.%d" % (number // 200, number % 200 + 1)
        make, self.outcome, self.says = WAYS[way]
        for key in ((manner, point, way), (manner, point, "*"), ("*", point, way), ("*", point, "*")):
            if key in RULES:
                self.outcome, self.says = RULES[key]
                break
        offers, script, _ = MANNERS[manner]
        script = dict(script)
        # once, and then as it should be
        self.point, _, times = point.partition(" ")
        code = GOOD.get(self.point, "250")
        script[self.point] = [None] * (int(times or 1) - 1) + [make("250" if times and self.point == "prdr" else code), None]
        self.rcpts = ["a@" + self.domain, "b@" + self.domain] if manner in TWO else ["a@" + self.domain]
        # whom it happens to
        self.victim = self.rcpts[1 if times and self.point in ("RCPT", "dot") or times == "3" else 0]
        self.name = point
        self.script = Script(script, lmtp=manner in LMTP, offers=offers, tls=tls if manner in TLS else None, smtps=manner == "smtps")
        self.content = b"Subject: %s\r\n\r\n" % self.id.encode() + b"a line of the body\r\n" * (20000 if manner in LARGE else 20)

    @property
    def id(self):
        return "%s/%s/%s" % (self.manner, self.name.replace(" ", "_"), self.way.replace(" ", "_").replace(",", ""))

    @property
    def number(self):
        """Exim's number for the trouble, by which retry rules are chosen."""
        if (self.point, self.way) in (("BDAT", "421"), ("banner", "reset")):
            return None     # which of two it is, is a matter of which octet is faster
        if self.point == "tls" or self.manner == "required" and (self.way in ("4xx", "5xx", "554", "421", "wrong class", "too much")):
            return -38
        fourxx = {"MAIL": -45, "RCPT": -44, "DATA": -46, "BDAT": -46, "dot": -46, "prdr": -46}
        if self.point == "AUTH" and self.way in ("4xx", "5xx", "554", "wrong class"):
            return -42
        if "closed connection" in self.says or self.way == "421" and self.point not in ("RCPT", "dot", "prdr", "BDAT"):
            return -18
        if "timeout" in self.says:
            return 110
        return fourxx.get(self.point, -1) if self.way in ("4xx", "421") or (self.point, self.way) == ("BDAT", "wrong class") else -1


def all_rows(tls=None):
    return [Row(n, *key, tls) for n, key in enumerate((m, p, w) for m in MANNERS for p in MANNERS[m][2] for w in WAYS)]


ROWS = all_rows()
ROUTER = """
%s:
  driver = manualroute
  domains = *.%s.example
  route_data = ${lookup{$domain}lsearch{{dir}/routes}}
  transport = %s
  self = send
"""
GONE = """
gone:
  driver = redirect
  data = :blackhole:
"""
TRANSPORT = """
%s:
  driver = smtp
  allow_localhost
  port = %d
  command_timeout = %ds
  data_timeout = %ds
  final_timeout = %ds
  connect_timeout = %ds
  connection_idle_timeout = 0s
  %s
"""
OPTIONS = {"lmtp": "protocol = lmtp", "locals": "protocol = lmtp", "auth": "hosts_require_auth = *", "required": "hosts_require_tls = *", "smtps": "protocol = smtps"}


class Played:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-tls-")
        Authority(self.dir).leaf("mx", "mx.test.example", names=["DNS:mx.test.example"])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.dir + "/mx.pem", self.dir + "/mx.key")
        self.offers = [OfferRow(n, *o) for n, o in enumerate(OFFERS)]
        rows = all_rows(tls) + self.offers
        self.rows = {r.id: r for r in rows}
        self.hosts = ScriptedHosts({r.address: r.script for r in rows})
        self.b = Instance(main="remote_max_parallel = 1000\nsmtp_accept_max = 0\nlog_selector = +smtp_confirmation\n"
                               "qualify_domain = home.test\nsmtp_accept_max_per_connection = 0\n",
                          acl="acl_check_rcpt:\n  accept\n", routers="".join(ROUTER % (m, m, m) for m in MANNERS) + GONE,
                          transports="".join(TRANSPORT % (m, self.hosts.port, WAIT, WAIT, WAIT, WAIT, OPTIONS.get(m, "")) for m in MANNERS),
                          retry="* * F,1h,2s\nbegin authenticators\nplain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^joe^secret\n")
        with open(os.path.join(self.b.dir, "routes"), "w") as f:
            f.writelines("%s: %s\n" % (r.domain, r.address) for r in rows)
        try:
            self.play(rows)
        except BaseException:
            self.close()
            raise

    def play(self, rows):
        self.b.start()
        c = self.b.client()
        c.ask("EHLO c.example", 250)
        for r in rows:
            c.mail("sender@home.test", r.rcpts, r.content, helo=None)
        c.close()
        # What is said at the end comes after the last delivery.
        wait_for(lambda: not self.b.queue(), 90, 0.5, why=lambda: "%s\n%s" % (self.b.queue()[:5], self.b.logs()))
        self.lines = {}
        for line in self.b.log().split("\n"):
            m = re.search(r" (=>|->|==|\*\*) ([ab]@[ro]\d+\.\w+\.example)", line)
            if m:
                self.lines.setdefault(m.group(2), []).append(line)

    def close(self):
        self.hosts.close()
        self.b.destroy()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module")
def played():
    p = Played()
    yield p
    p.close()


def kind(line):
    return re.search(r" (=>|->|==|\*\*) ", line).group(1).replace("->", "=>")


@pytest.mark.parametrize("id", [r.id for r in ROWS])
def test_row(played, id):
    row = played.rows[id]
    lines = {r: played.lines.get(r, []) for r in row.rcpts}
    own = lines[row.victim]
    shown = "\n".join(line[:400] for r in row.rcpts for line in lines[r][:4]) + "\n" + "\n".join(str(s.commands[:8]) for s in row.script.sessions)
    assert own, "lost"
    assert kind(own[0]) == row.outcome, "%s in place of %s\n%s" % (kind(own[0]), row.outcome, shown)
    assert re.search(row.says, own[0]), "%s is not in\n%s" % (row.says, shown)
    if row.outcome == DEFER and row.number is not None:
        assert "defer (%d)" % row.number in own[0], "not %d\n%s" % (row.number, shown)
    # Never lost: each recipient has one end.
    ends = {r: [kind(line) for line in lines[r] if kind(line) != DEFER] for r in row.rcpts}
    assert all(len(e) == 1 for e in ends.values()), shown
    assert ends[row.victim] == [FAIL if row.outcome == FAIL else OK], shown
    # Never taken twice, but where the server never said that it had it, or had it for another recipient.
    kept = [m for m in row.script.messages if m.kept]
    least = 0 if row.outcome == FAIL and (len(row.rcpts) == 1 or row.name == "prdr" or (row.manner, row.name) == ("prdr", "dot")) else 1
    most = 2 if row.outcome == DEFER and len(row.rcpts) > 1 else least
    assert least <= len(kept) <= most, shown
    assert len(row.script.messages) <= (2 if row.outcome == DEFER and row.point in ("dot", "prdr") else max(most, 1)), shown
    for m in kept:
        assert m.content.endswith(row.content), shown


@pytest.mark.parametrize("number", range(len(OFFERS)), ids=[o[0][:40].replace(" ", "_") for o in OFFERS])
def test_offer(played, number):
    row = played.offers[number]
    for rcpt in row.rcpts:
        lines = played.lines.get(rcpt, [])
        assert [kind(line) for line in lines] == [row.outcome], "\n".join(lines)
    assert len(row.script.messages) == row.transactions, [s.commands for s in row.script.sessions]
    assert sum(len(m.rcpts) for m in row.script.messages) == (2 if row.outcome == OK else 0)


def test_table_is_whole():
    ids = [r.id for r in ROWS]
    assert len(ids) >= 1600 and len(set(ids)) == len(ids) and len({r.address for r in ROWS}) == len(ids)
