# SPDX-License-Identifier: ISC
"""An SMTP or LMTP server that misbehaves on purpose, for what smtp-out must live with.

    with ScriptedServer({"RCPT": ["250 ok", "450 later"], "dot": Close()}) as server:
        ... deliver to 127.0.0.1 port server.port ...
        server.wait_messages(1)
        assert server.messages[0].rcpts == ["<a@example>"]

A script maps a point of the dialogue to what happens there. Points: banner EHLO HELO LHLO STARTTLS tls AUTH MAIL RCPT DATA BDAT (a
piece that is not the last), prdr (353, and each recipient), dot (the end of the content, in whatever form) RSET QUIT NOOP other.
What happens is a reply ("550 no", "250-a\\r\\n250 b"), an Action, or a list of these, one for each time the point is reached (over
all connections); the last one stays. Points that are not named behave well. Everything is bounded in time. ScriptedHosts serves many
scripts on one port, each at an address of its own. With `tls` (a context of ssl) STARTTLS is offered; with `smtps` TLS comes first."""
import re
import socket
import struct
import threading
import time

PATIENCE = 30   # seconds that a connection may be silent
GREETING = ["PIPELINING", "SIZE 104857600", "8BITMIME", "DSN"]


class Action:
    """What is done in place of a reply; returns False when the connection is over."""
    def run(self, session):
        raise NotImplementedError


class Reply(Action):
    def __init__(self, text):
        self.text = text

    def run(self, session):
        return session.say(self.text.encode("latin-1") + b"\r\n")


class Raw(Action):
    """Octets as they are: malformed replies, bare line ends, half a reply."""
    def __init__(self, octets):
        self.octets = octets

    def run(self, session):
        return session.say(self.octets)


class Slow(Action):
    """A reply octet by octet, `delay` seconds apart."""
    def __init__(self, text, delay):
        self.text, self.delay = text, delay

    def run(self, session):
        for c in self.text.encode("latin-1") + b"\r\n":
            if not session.say(bytes([c])):
                return False
            time.sleep(self.delay)
        return True


class Late(Action):
    """A reply (or another action) after `delay` seconds."""
    def __init__(self, what, delay):
        self.what, self.delay = action(what), delay

    def run(self, session):
        time.sleep(self.delay)
        return self.what.run(session)


class Silent(Action):
    """No reply; the connection stays open until the client gives up."""
    def run(self, session):
        session.sock.settimeout(PATIENCE)
        try:
            while session.sock.recv(65536):
                pass
        except OSError:
            pass
        return False


class Endless(Action):
    """The same octets, until the client has had enough."""
    def __init__(self, octets, limit=8000000):
        self.octets, self.limit = octets * (65536 // len(octets)), limit

    def run(self, session):
        for _ in range(self.limit // len(self.octets)):
            if not session.say(self.octets):
                return False
        return Silent().run(session)


class Then(Action):
    """Octets, then another action."""
    def __init__(self, octets, then):
        self.octets, self.then = octets, then

    def run(self, session):
        session.say(self.octets)
        return self.then.run(session)


class Close(Action):
    """Closes, after a last reply if one is given."""
    def __init__(self, text=None):
        self.text = text

    def run(self, session):
        if self.text:
            session.say(self.text.encode("latin-1") + b"\r\n")
        return False


class Reset(Action):
    """Closes with a TCP reset."""
    def run(self, session):
        session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


class CloseInContent(Action):
    """For DATA: says 354, reads so many octets of the content, then does `then`."""
    def __init__(self, octets, then=None):
        self.octets, self.then = octets, action(then) if then else Close()

    def run(self, session):
        session.say(b"354 go\r\n")
        left = self.octets - len(session.pending)
        while left > 0:
            got = session.sock.recv(min(left, 65536))
            if not got:
                return False
            left -= len(got)
        return self.then.run(session) and False


def says_yes(what):
    """Has a client that heard all of it been told that all is well?"""
    said = what.text.encode() + b"\r\n" if hasattr(what, "text") and what.text else getattr(what, "octets", b"")
    if isinstance(what, Late):
        return says_yes(what.what)
    return not isinstance(what, (Endless, Then)) and re.match(rb"(2\d\d-[^\n]*\n)*2\d\d( [^\n]*)?\r?\n", said) is not None


def action(what):
    return what if isinstance(what, Action) else Reply(what)


class Message:
    def __init__(self, sender):
        self.sender = sender      # argument of MAIL, with its parameters
        self.rcpts = []           # accepted arguments of RCPT
        self.content = None       # octets, dots taken off; None: the end has not come
        self.prdr = False
        self.kept = False         # a positive reply was said behind its end (with LMTP: to one at least)


class Session:
    def __init__(self, server, sock):
        self.server, self.sock, self.pending = server, sock, b""
        self.commands = []        # lines as received, in order
        self.message, self.chunks, self.tls = None, b"", False
        self.peercert = self.alpn = self.resumed = None      # of the client, behind the handshake
        self.messages = []        # those that came by this connection
        sock.settimeout(PATIENCE)

    def say(self, octets):
        try:
            self.sock.sendall(octets)
            return True
        except OSError:
            return False

    def until(self, mark):
        """Octets before the mark, which is taken too; None when the client is gone."""
        while mark not in self.pending:
            try:
                got = self.sock.recv(65536)
            except OSError:
                return None
            if not got:
                return None
            self.pending += got
        before, self.pending = self.pending.split(mark, 1)
        return before

    def do(self, point, default):
        return (self.server.take(point) or action(default)).run(self)

    def content(self):
        if self.pending.startswith(b".\r\n"):
            self.pending = self.pending[3:]
            body = b""
        else:
            body = self.until(b"\r\n.\r\n")
            if body is None:
                return False
            body += b"\r\n"
        return self.kept(b"\r\n".join(l[1:] if l.startswith(b".") else l for l in body.split(b"\r\n")))

    def chunk(self, words):
        """BDAT: the octets are taken first, whatever is said then."""
        n = int(words[1])
        while len(self.pending) < n:
            got = self.sock.recv(65536)
            if not got:
                return False
            self.pending += got
        octets, self.pending = self.pending[:n], self.pending[n:]
        if not self.message or not self.message.rcpts:
            return self.say(b"503 5.5.1 no recipients\r\n")
        self.chunks += octets
        if words[-1].upper() != "LAST":
            what = self.server.take("BDAT") or action("250 2.0.0 %d octets" % n)
            if not says_yes(what):
                self.message = None     # what comes next is refused, as RFC 3030 has it
            return what.run(self)
        body, self.chunks = self.chunks, b""
        return self.kept(body)

    def kept(self, body):
        message, self.message = self.message, None
        message.content = body
        with self.server.changed:
            self.messages.append(message)
            self.server.messages.append(message)
            self.server.changed.notify_all()
        if message.prdr:
            what = self.server.take("prdr") or action("353 one by one")
            if not what.run(self) or (isinstance(what, Reply) and not what.text.startswith("353")):
                return isinstance(what, Reply)
            if not all(self.do("prdr", "250 2.1.5 %s" % r) for r in message.rcpts):
                return False
        return all(self.final(message, r) for r in (message.rcpts if self.server.lmtp else ["all"]))

    def final(self, message, rcpt):
        what = self.server.take("dot") or action("250 2.0.0 %s queued" % rcpt)
        heard = what.run(self)
        message.kept |= heard and says_yes(what)
        return heard

    def command(self, line):
        text = line.decode("latin-1")
        self.commands.append(text)
        verb = text.split(" ", 1)[0].upper()
        if verb in ("EHLO", "LHLO"):
            lines = ["scripted.example"] + [o for o in self.server.offers if o != "STARTTLS" or not self.tls]
            return self.do(verb, "\r\n".join("250%s%s" % (" " if i == len(lines) - 1 else "-", l) for i, l in enumerate(lines)))
        if verb == "MAIL":
            self.message, self.chunks = Message(text[len("MAIL FROM:"):]), b""
            self.message.prdr = text.upper().endswith(" PRDR")
            return self.do("MAIL", "250 2.1.0 ok")
        if verb == "RCPT":
            what = self.server.take("RCPT") or action("250 2.1.5 ok")
            if self.message and (not isinstance(what, Reply) or what.text.startswith("2")):
                self.message.rcpts.append(text[len("RCPT TO:"):])
            return what.run(self)
        if verb == "DATA":
            what = self.server.take("DATA")
            if what is None:
                what = action("354 go" if self.message and self.message.rcpts else "503 5.5.1 no recipients")
            if not what.run(self):
                return False
            return True if isinstance(what, Reply) and not what.text.startswith("354") else self.content()
        if verb == "BDAT":
            return self.chunk(text.split())
        if verb == "STARTTLS":
            what = self.server.take("STARTTLS") or action("220 2.0.0 go")
            return what.run(self) and (not says_yes(what) or self.handshake())
        if verb == "AUTH":
            return self.do("AUTH", "235 2.7.0 welcome")
        if verb == "RSET":
            self.message = None
        if verb == "QUIT":
            self.do("QUIT", "221 2.0.0 bye")
            return False
        return self.do(verb if verb in ("HELO", "RSET", "NOOP") else "other", "250 ok")

    def handshake(self):
        what = self.server.take("tls")
        if what:     # in place of an answer to the client's hello, and not before it
            return bool(self.sock.recv(1, socket.MSG_PEEK)) and what.run(self)
        self.pending = b""
        self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)
        self.tls, self.peercert, self.alpn = True, self.sock.getpeercert(), self.sock.selected_alpn_protocol()
        self.resumed = self.sock.session_reused
        return True

    def run(self):
        try:
            if (not self.server.smtps or self.handshake()) and self.do("banner", "220 scripted.example ready"):
                while True:
                    line = self.until(b"\r\n")
                    if line is None or not self.command(line):
                        break
        except OSError:
            pass
        finally:
            self.sock.close()
            with self.server.changed:
                self.server.closed += 1
                self.server.changed.notify_all()


class Script:
    """What happens at one server, and what came to it."""

    def __init__(self, script=None, lmtp=False, offers=None, tls=None, smtps=False):
        self.script = {k: list(v) if isinstance(v, list) else [v] for k, v in (script or {}).items()}
        self.lmtp, self.offers, self.tls, self.smtps = lmtp, offers, tls, smtps
        if offers is None:
            self.offers = GREETING + ["STARTTLS"] * bool(tls)
        self.sessions, self.messages, self.closed = [], [], 0
        self.changed = threading.Condition()

    def begin(self, sock):
        session = Session(self, sock)
        with self.changed:
            self.sessions.append(session)
            self.changed.notify_all()
        threading.Thread(target=session.run, daemon=True).start()

    def take(self, point):
        with self.changed:
            steps = self.script.get(point)
            if not steps:
                return None
            what = steps.pop(0) if len(steps) > 1 else steps[0]
            return None if what is None else action(what)

    def wait(self, condition, seconds=10):
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise AssertionError("waited in vain: %d sessions, %d messages; %s" %
                                     (len(self.sessions), len(self.messages), [s.commands for s in self.sessions]))

    def wait_messages(self, n, seconds=10):
        self.wait(lambda: len(self.messages) >= n, seconds)

    def wait_sessions(self, n, seconds=10):
        self.wait(lambda: len(self.sessions) >= n, seconds)

    def wait_closed(self, n, seconds=10):
        self.wait(lambda: self.closed >= n, seconds)

    def hang_up(self):
        for s in list(self.sessions):
            try:
                s.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Listener:
    def __init__(self, address, begin):
        """address: (host, port) or a path; begin(socket): what is done with each connection."""
        unix = isinstance(address, str)
        self.sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if not unix:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(address)
        self.sock.listen(1024)
        self.port = None if unix else self.sock.getsockname()[1]
        self.begin = begin
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.begin(sock)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class ScriptedServer(Script):
    def __init__(self, script=None, port=0, host="127.0.0.1", path=None, lmtp=False, offers=None, tls=None, smtps=False):
        super().__init__(script, lmtp, offers, tls, smtps)
        self.listener = Listener(path or (host, port), self.begin)
        self.port = self.listener.port

    def close(self):
        self.listener.close()
        self.hang_up()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class ScriptedHosts:
    """Scripts by address (127.x.y.z), all on one port."""

    def __init__(self, scripts):
        self.scripts = scripts
        self.listener = Listener(("0.0.0.0", 0), self.begin)
        self.port = self.listener.port

    def begin(self, sock):
        script = self.scripts.get(sock.getsockname()[0])
        if script:
            script.begin(sock)
        else:
            sock.close()

    def close(self):
        self.listener.close()
        for s in self.scripts.values():
            s.hang_up()
