# SPDX-License-Identifier: ISC
"""The smtp and lmtp transports beside Exim's: each case of tests/differential/smtp is one transport with which both sides send the same
messages to a server of their own. What is compared: every command and every octet of content on every connection, and the lines of the
log. What differs on purpose is in smtp.differences: the case, a tab, what differs (result, dialogue), a tab, the reason."""
import os
import re
import shutil
import socket
import tempfile
import threading

import pytest

import test_differential_transport as base
from bulkhead import TOP

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Exim's root needs chroot, thus root")

CORPUS = os.path.join(TOP, "tests/differential/smtp")
CASES_LEAST = 65


class Server:
    """Says what it was told to, and writes down all that it hears. One for each address; all of a case share the port."""

    def __init__(self, case):
        self.case, self.heard, self.lock = case, [], threading.Lock()
        self.sockets, self.port = [], 0
        if case.unix:
            s = socket.socket(socket.AF_UNIX)
            s.bind(case.unix)
            os.chmod(case.unix, 0o666)
            self.begin(s)
        for address in case.listen:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, self.port))
            self.port = s.getsockname()[1]
            self.begin(s)

    def begin(self, s):
        s.listen(50)
        self.sockets.append(s)
        threading.Thread(target=self.accept, args=(s,), daemon=True).start()

    def accept(self, s):
        while True:
            try:
                c, peer = s.accept()
            except OSError:
                return
            lines = ["-- at %s" % (c.getsockname()[0] if c.family == socket.AF_INET else "socket")]
            with self.lock:
                self.heard.append(lines)
            threading.Thread(target=self.session, args=(c, lines), daemon=True).start()

    def reply(self, verb, line, default):
        for what, text in self.case.replies:
            if what.split(None, 1)[0] == verb and (" " not in what or what.split(None, 1)[1] in line):
                return text
        return default

    def session(self, c, lines):
        c.settimeout(30)
        f = c.makefile("rb")

        def say(text):
            c.sendall(text.replace("\\n", "\r\n").encode() + b"\r\n")
        try:
            self.talk(f, say, lines)
        except OSError:
            pass
        finally:
            c.close()

    def talk(self, f, say, lines):
        accepted, prdr, chunks = [], False, []
        say(self.reply("banner", "", "220 server.example ESMTP"))
        while True:
            line = f.readline().decode("latin-1")
            if not line:
                lines.append("(closed)")
                return
            lines.append(line if not line.endswith("\r\n") else line[:-2])
            line = line.strip()
            verb = line[:4].upper()
            if verb in ("EHLO", "LHLO"):
                say(self.reply(verb, line, "\\n".join("250%s%s" % ("-" if i < len(self.case.offer) else " ", w)
                                                       for i, w in enumerate(["server.example"] + self.case.offer))))
            elif verb == "MAIL":
                accepted, prdr = [], "PRDR" in line.split()
                say(self.reply(verb, line, "250 ok"))
            elif verb == "RCPT":
                text = self.reply(verb, line, "250 ok")
                accepted += [line] if text[0] == "2" else []
                say(text)
            elif verb == "DATA":
                text = self.reply(verb, line, "354 go" if accepted else "503 nobody")
                say(text)
                if text[0] == "3":
                    while True:
                        line = f.readline().decode("latin-1")
                        if not line:
                            return
                        lines.append(repr(line))
                        if line == ".\r\n":
                            break
                    self.end(say, accepted, prdr)
            elif verb == "BDAT":
                words = line.split()
                chunks.append(f.read(int(words[1])).decode("latin-1"))
                lines[-1] = "BDAT" # how it is cut up is the client's affair
                text = self.reply(verb, line, "250 ok" if accepted else "503 nobody")
                if text[0] != "2" or words[-1] != "LAST":
                    say(text)
                    lines.pop()
                else:
                    lines += ["BDAT"] + [repr(line) for line in "".join(chunks).splitlines(True)]
                    lines.pop(-len("".join(chunks).splitlines(True)) - 1)
                    chunks = []
                    self.end(say, accepted, prdr)
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say(self.reply(verb, line, "250 ok" if verb in ("RSET", "NOOP", "HELO") else "500 what?"))

    def end(self, say, accepted, prdr):
        if prdr:
            say("353 one by one")
            for line in accepted:
                say(self.reply("prdr", line, "250 ok for " + re.search("<(.*?)@", line).group(1)))
            say(self.reply("end", "", "250 ok for all"))
        elif self.case.lmtp:
            for line in accepted:
                say(self.reply("end", line, "250 ok for " + re.search("<(.*?)@", line).group(1)))
        else:
            say(self.reply("end", "", "250 kept"))

    def close(self):
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class Case(base.Case):
    """offer: what EHLO's reply has; listen: addresses of the server; reply WHAT = TEXT: other replies; lmtp: LMTP's replies;
    unordered: which recipient goes first, and over which connection, is either side's affair."""

    def __init__(self, name):
        super().__init__(name)
        self.offer, self.listen, self.replies, self.lmtp, self.unix = [], ["127.0.0.1"], [], False, None
        self.unordered = False

    def add(self, line):
        word, _, rest = line.partition(" ")
        if word == "offer":
            self.offer = [w.strip() for w in rest.split(",")]
        elif word == "listen":
            self.listen = rest.split()
        elif word == "reply":
            self.replies.append(tuple(t.strip() for t in rest.split(" = ", 1)))
        elif word == "lmtp" and not rest:
            self.lmtp = True
        elif word == "unordered":
            self.unordered = True
        elif word == "unix":
            self.listen = []
        else:
            super().add(line)


CASES, DIFFERENCES = base.read_cases(CORPUS, Case), base.read_differences(CORPUS)


def with_servers(top):
    """The cases of one side, each with its server; ports and sockets filled in."""
    cases, servers = base.read_cases(CORPUS, Case), {}
    os.makedirs(top + "/sock")
    for c in cases:
        if not c.listen:
            c.unix = "%s/sock/%s" % (top, c.name)
        servers[c.name] = Server(c)
        words = " ".join(c.transport)
        if "driver" not in words:
            c.transport.insert(0, "  driver = smtp")
        c.remote = "driver = lmtp" not in words
        if c.remote:
            c.transport += ["  hosts = " + " : ".join(c.listen)] if not re.search(r" hosts\b", words) else []
            c.transport += ["  port = {port}"] if not re.search(r" port\b", words) else []
            c.transport += ["  allow_localhost"] if "allow_localhost" not in words else []
        c.transport = [t.replace("{port}", str(servers[c.name].port)).replace("{socket}", c.unix or "") for t in c.transport]
        c.router = [t.replace("{port}", str(servers[c.name].port)) for t in c.router]
    return cases, servers


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("smtp")
    p = tmp
    while len(str(p)) > 4:
        os.chmod(str(p), 0o755)
        p = p.parent
    tops = [tempfile.mkdtemp(prefix="bulkhead-test-%s-" % w) for w in ("us", "ex")]
    for t in tops:
        os.chmod(t, 0o755)
    cases, theirs_servers = with_servers(tops[1])
    theirs = base.Theirs(cases, tops[1], tmp)
    cases, ours_servers = with_servers(tops[0])
    ours = base.Ours(cases, tops[0])
    ours.close()
    yield (ours, ours_servers), (theirs, theirs_servers)
    for s in [*ours_servers.values(), *theirs_servers.values()]:
        s.close()
    if not os.environ.get("BULKHEAD_KEEP"):
        for t in tops:
            shutil.rmtree(t, ignore_errors=True)


def dialogue(servers, top, case):
    """All connections, in the order of their beginnings."""
    out = [re.sub(r"(?<= SIZE=)(\d+)", lambda m: m.group(1)[:-2] + "..", base.plain(line, top)) for lines in servers[case].heard for line in lines if line != "(closed)"]
    if not servers[case].case.unordered:
        return out
    parts = re.split(r"(?m)^(?=MAIL )", "\n".join(out))[1:]
    return sorted(re.sub(r"<(joe|ann|bob)@", "<someone@", re.split(r"(?m)^(?:RSET|QUIT|--.*)$", p)[0].rstrip()) for p in parts)


def results(side, servers, case):
    out = base.results(side.log(), side.top, case)
    return [re.sub(r":%d\b" % servers[case].port, ":PORT", o) for o in out]


def test_corpus_is_whole():
    names = [c.name for c in CASES]
    assert len(names) >= CASES_LEAST and len(set(names)) == len(names)
    assert {case for case, _ in DIFFERENCES} <= set(names)


@pytest.mark.parametrize("case", [c.name for c in CASES])
def test_transport(both, case):
    (ours, os_), (theirs, ts) = both
    wrong = []
    for what, us, ex in (("result", results(ours, os_, case), results(theirs, ts, case)),
                         ("dialogue", dialogue(os_, ours.top, case), dialogue(ts, theirs.top, case))):
        if (us == ex) == ((case, what) in DIFFERENCES):
            wrong.append("%s %s:\n--- ours\n%s\n--- Exim\n%s" % (what, "is equal now" if us == ex else "differs", "\n".join(us), "\n".join(ex)))
    assert results(theirs, ts, case), "Exim did nothing"
    assert not wrong, "\n".join(wrong)
