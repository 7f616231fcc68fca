# SPDX-License-Identifier: ISC
"""Rows of tests/conformance: what a client says, octet by octet, and what must come back. One reader and one player for them.

A file is one group. Its first lines say what holds for all of its rows, then each row is a block:

    == name                      what it is about
    > MAIL FROM:<a@b.example>    a line to send, CR LF behind it
    >> NOOP\\nQUIT                octets to send, nothing behind them
    < 250 2.1.0                  the reply that must come: a regular expression for the beginning of its last line
    has SIZE 102400              a regular expression that some line of that reply has, code taken off; `hasnot`: none has it
    log refused: why             a regular expression for the log: a line of this connection
    mail 1                       so many messages have been taken (default 0)
    body text\\r\\n                what was delivered behind the header, octet by octet
    dead                         the server has closed; without this the session must live: NOOP is answered, and by nothing before it
    raw                          neither greeting nor EHLO are read and said beforehand
    helo                         HELO in place of EHLO
    ehlo                         EHLO, for a row in a group that begins otherwise
    end                          the client sends no more (a half-closed connection)
    tls                          the handshake, here
    only whole                   not in other ways of sending: whole, octets (one by one), tls (all of it under TLS)
    peers no                     not for other servers: about something of ours

Escapes in what is sent: \\r \\n \\t \\0 \\xHH \\\\, and \\{text*N} for N times the text. `net N` in a group's head gives the client's
network, 127.N.0.0/16, by which the configuration tells groups apart; `head` lines there belong to every row."""
import os
import re
import socket
import ssl

from bulkhead import TOP

CORPUS = os.path.join(TOP, "tests/conformance")
PATIENCE = 15   # seconds for a reply: not what is tested, only a bound


def octets(text):
    out, i = bytearray(), 0
    plain = {"r": 13, "n": 10, "t": 9, "0": 0, "\\": 92}
    while i < len(text):
        if text[i] != "\\":
            out += text[i].encode()
            i += 1
        elif text[i + 1] == "x":
            out.append(int(text[i + 2:i + 4], 16))
            i += 4
        elif text[i + 1] == "{":
            end = text.index("}", i)
            what, times = text[i + 2:end].rsplit("*", 1)
            out += octets(what) * int(times)
            i = end + 1
        else:
            out.append(plain[text[i + 1]])
            i += 2
    return bytes(out)


class Row:
    def __init__(self, group, name, number):
        self.group, self.name, self.number = group, name, number
        self.steps, self.logs, self.body = [], [], None
        self.mail, self.dead, self.only, self.begin, self.peers = 0, False, None, "EHLO", True

    @property
    def id(self):
        return "%s/%s" % (self.group.name, self.name.replace(" ", "_"))

    def source(self, way):
        """An address of the row's own in this way of sending: by it the log is told apart."""
        return "127.%d.%d.%d" % (self.group.net, 64 * WAYS.index(way) + self.number // 250, self.number % 250 + 1)

    def take(self, line):
        word, _, rest = line.partition(" ")
        if word == ">":
            self.steps.append(("send", octets(rest) + b"\r\n"))
        elif word == ">>":
            self.steps.append(("send", octets(rest)))
        elif word == "<":
            self.steps.append(("reply", rest))
        elif word in ("has", "hasnot", "tls", "end"):
            self.steps.append((word, rest))
        elif word == "log":
            self.logs.append(rest)
        elif word == "mail":
            self.mail = int(rest)
        elif word == "body":
            self.body = octets(rest)
        elif word == "dead":
            self.dead = True
        elif word in ("raw", "helo", "ehlo"):
            self.begin = None if word == "raw" else word.upper()
        elif word == "only":
            self.only = rest.split()
        elif word == "peers":
            self.peers = rest != "no"
        else:
            raise AssertionError("%s: no such line: %s" % (self.id, line))


WAYS = ("whole", "octets", "tls")


class Group:
    def __init__(self, path):
        self.name, self.net, self.rows = os.path.basename(path)[:-len(".txt")], 1, []
        head, row = [], None
        for line in open(path):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            if line.startswith("== "):
                row = Row(self, line[3:], len(self.rows))
                self.rows.append(row)
                for h in head:
                    row.take(h)
            elif line.startswith("net "):
                self.net = int(line[4:])
            elif line.startswith("head "):
                head.append(line[5:])
            else:
                row.take(line)


def groups():
    return [Group(os.path.join(CORPUS, n)) for n in sorted(os.listdir(CORPUS)) if n.endswith(".txt")]


def rows_of(groups, way):
    return [r for g in groups for r in g.rows if not r.only or way in r.only]


def classes(pattern):
    """The first digits that a pattern for replies allows."""
    if pattern[0] == "(":
        return {p[0] for p in pattern[1:pattern.index(")")].split("|")}
    return set(re.match(r"\[(\d+)\]|(\d)", pattern).group(1) or pattern[0])


class Player:
    """One connection that plays one row. What came is kept: replies, whether the session lives. Not `strict`: no more is looked at than the
    class of each reply, so that other servers may be measured by the same rows."""

    def __init__(self, row, port, way="whole", source=None, strict=True, patience=PATIENCE):
        self.row, self.way, self.strict, self.patience = row, way, strict, patience
        self.wrong, self.replies, self.last, self.alive, self.buffer = [], [], "", None, b""
        self.enhanced = False
        self.sock = socket.create_connection(("127.0.0.1", port), 2 * PATIENCE, source_address=(source or row.source(way), 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fault(self, text):
        self.wrong.append(text)

    def line(self):
        while b"\n" not in self.buffer:
            try:
                got = self.sock.recv(65536) if self.sock.fileno() >= 0 else b""
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                got = b""
            except socket.timeout:
                self.fault("nothing came in %d s" % self.patience)
                self.sock.close()   # nothing more is waited for
                return None
            if not got:
                return None
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r") and self.strict:
            self.fault("a line of a reply ends in a bare LF: %r" % line)
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")

    def reply(self):
        """All lines of a reply; [] at the end of the connection. What every reply must be, is looked at here."""
        lines = []
        while True:
            line = self.line()
            if line is None:
                if lines:
                    self.fault("the connection ended within a reply: %r" % lines)
                return []
            lines.append(line)
            if line[3:4] != "-":
                break
        if self.strict:
            self.look(lines)
        return lines

    def look(self, lines):
        for line in lines:
            if not re.match(r"[2345]\d\d[ -]", line) or line[:3] != lines[0][:3]:
                self.fault("no reply, or codes that differ: %r" % lines)
            if len(line) + 2 > 512:
                self.fault("a line of a reply has more than 512 octets")
            # RFC 2034 section 4: all but the greeting (XCLIENT brings another), the answer to HELO and EHLO, and 3yz; the class is the same.
            if self.enhanced and line[0] in "245" and not re.match(r"220 \S+ ESMTP", line) and not re.match(r"%s\.\d{1,3}\.\d{1,3}( |$)" % line[0], line[4:]):
                self.fault("no enhanced status code, or one of another class: %r" % line)

    def send(self, data):
        try:
            if self.way != "octets":
                self.sock.sendall(data)
            elif len(data) <= 400:
                for i in range(len(data)):
                    self.sock.sendall(data[i:i + 1])
            else:   # in pieces that fall between any two octets of a line end sooner or later
                for i in range(0, len(data), 97):
                    self.sock.sendall(data[i:i + 97])
        except OSError:
            pass    # the server had enough: what it said is still to be read

    def expect(self, pattern, what):
        lines = self.reply()
        got = lines[-1] if lines else "(closed)"
        self.replies.append(got)
        self.last = "\n".join(l[4:] for l in lines)
        if not (re.match(pattern, got) if self.strict else got[0] in classes(pattern)):
            self.fault("%s: wanted %s, got %r" % (what, pattern, got))
        return got

    def hello(self, word):
        self.send(("%s c.example\r\n" % word).encode())
        self.expect("250", word)
        self.replies.pop()
        self.enhanced = word == "EHLO"

    def handshake(self):
        # In clear is over: octets that came behind the reply would be somebody else's.
        if self.buffer:
            self.fault("octets in clear before the handshake: %r" % self.buffer)
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        try:
            self.sock = ctx.wrap_socket(self.sock, suppress_ragged_eofs=True)
        except (ssl.SSLError, OSError) as e:
            self.fault("handshake: %s" % e)
            return False
        self.enhanced = False
        return True

    def opening(self):
        row = self.row
        if row.begin:
            self.expect("220", "greeting")
            self.replies.pop()
            if self.way == "tls":
                self.hello("EHLO")
                self.send(b"STARTTLS\r\n")
                self.expect("220", "STARTTLS")
                self.replies.pop()
                if not self.handshake():
                    return False
            self.hello(row.begin)
        return not self.wrong

    def play(self):
        row = self.row
        try:
            if self.opening():
                self.sock.settimeout(self.patience)
                self.steps()
                self.end()
        except OSError as e:
            self.fault("%s: %s" % (type(e).__name__, e))
        finally:
            self.sock.close()
        return self

    def steps(self):
        said = "greeting"
        for what, arg in self.row.steps:
            if what == "send":
                said = repr(arg if len(arg) < 90 else arg[:80] + b"...")
                self.send(arg)
                if re.match(rb"(?i)(EHLO|HELO) ", arg):
                    self.enhanced = False
                    self.hello_due = arg[:1] in b"Ee"
            elif what == "reply":
                got = self.expect(arg, said)
                if getattr(self, "hello_due", False) and got.startswith("250"):
                    self.enhanced, self.hello_due = True, False
            elif what == "has" and self.strict:
                if not re.search(arg, self.last, re.M):
                    self.fault("%s: %r is not in %r" % (said, arg, self.last))
            elif what == "hasnot" and self.strict:
                if re.search(arg, self.last, re.M):
                    self.fault("%s: %r is in %r" % (said, arg, self.last))
            elif what == "tls":
                if not self.handshake():
                    return
            elif what == "end":
                self.sock.shutdown(socket.SHUT_WR)

    def end(self):
        if self.row.dead or any(s == ("end", "") for s in self.row.steps):
            got = self.reply()
            self.alive = bool(got)
            if got:
                self.fault("the session lives: %r" % got)
            return
        self.send(b"NOOP\r\n")
        got = self.reply()
        self.alive = bool(got) and got[-1].startswith("250")
        if not self.alive:
            self.fault("the session does not live: NOOP was answered by %r" % got)
        self.send(b"QUIT\r\n")
        if self.alive and not (self.reply() or [""])[-1].startswith("221"):
            self.fault("QUIT has no answer")
