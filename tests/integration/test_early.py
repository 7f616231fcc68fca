# SPDX-License-Identifier: ISC
"""Early pipelining (PIPECONNECT) and TCP Fast Open, as server and as client, against Debian's Exim and against servers that lie."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from bulkhead import UID_BASE, Client, wait_for
from certs import Authority
from peers import ROOTS, Exim, Opensmtpd, Postfix
from socks_proxy import Microsocks

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
        data = b""
        if select.select([c], [], [], self.wait)[0]:   # before the server can greet
            data = c.recv(65536)
            session.append(("c", data))
        try:
            s = socket.create_connection(("127.0.0.1", self.port_to), timeout=20)
            s.sendall(data)
        except OSError:
            c.close()
            return
        open_ = [c, s]
        while open_:
            for x in select.select(open_, [], [])[0]:
                to = s if x is c else c
                try:
                    data = x.recv(65536)
                    if data:
                        session.append(("c" if x is c else "s", data))
                        to.sendall(data)
                    else: # Exim closes its half behind QUIT
                        open_.remove(x)
                        to.shutdown(socket.SHUT_WR)
                except OSError:
                    open_ = []
        c.close()
        s.close()

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


def client(bulkhead, port, options="", main="", hosts="*", **kw):
    """An instance that sends to the port; connections are not kept."""
    options = "  connection_max_messages = 1\n" + options
    return bulkhead(main=LOG + main, sink=port, transports=TRANSPORTS.format(options=options).replace("= *\n  connection", "= " + hosts + "\n  connection"), **kw)


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
        conf = conf.replace("keep_environment =", "log_selector = +pipelining +tls_cipher\n" + self.more.replace("tls_advertise_hosts = *\n", "") + "\nkeep_environment =")
        if "tls_advertise_hosts = *" in self.more:
            conf = conf.replace("tls_advertise_hosts =\n", "tls_advertise_hosts = *\n")
        self.write("/etc/exim4/exim4.conf", conf.replace("  hosts_avoid_tls = *\n", self.transport or "  hosts_avoid_tls = *\n") + self.rcpt)


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


def test_client_harmless(bulkhead, exim):
    """An Exim that has come to dislike our EHLO reads content as commands: what a stranger wrote does not go ahead of its replies where
    nothing of ours stands before it."""
    content = b"EHLO evil.example\r\nMAIL FROM:<ceo@bank.example>\r\nRCPT TO:<box@peer.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n..\r\nQUIT\r\n"
    peer = exim(more="acl_smtp_helo = ${if exists{/tmp/deny}{${if eq{$sender_helo_name}{mx.test.example}{deny}{accept}}}{accept}}\n")
    relay = Relay(peer.port)
    b = client(bulkhead, relay.port, main="received_header_text =\n")
    assert " L* " in send(b, 2, content=content)[1]
    assert re.search(rb"RCPT TO:<box@peer\.example>\r\n\Z", relay.early(1)), relay.sessions[1]
    open(peer.path("/tmp/deny"), "w").close()
    try:
        b.send("a@b.example", "box@peer.example", content)
        b.wait_log(r"after (pipelined )?(EHLO|HELO) mx.test.example: 550")
    finally:
        os.unlink(peer.path("/tmp/deny"))
    wait_for(lambda: peer.mailbox().count(b"Subject: smuggled") == 2, why=peer.log)
    assert "ceo@bank.example" not in peer.log()
    relay.close()


EXIM_TLS = """tls_advertise_hosts = *
tls_certificate = /etc/exim4/mx.pem
tls_privatekey = /etc/exim4/mx.key
"""
EXIM_AUTH = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{me}}{eq{$auth3}{secret}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = User Name : Password
  server_condition = ${if and{{eq{$auth1}{me}}{eq{$auth2}{secret}}}}
  server_set_id = $auth1
"""


@pytest.fixture
def certificates(tmp_path):
    os.chmod(str(tmp_path), 0o755)
    ca = Authority(str(tmp_path))
    ca.leaf("mx", "peer.example", names=["DNS:peer.example"])
    return ca


def tls_peer(exim, ca, more="", auth=False):
    """Debian's Exim with TLS; and with AUTH."""
    for n in ("mx.pem", "mx.key"):
        shutil.copy(ca.path(n), os.path.join(ROOTS, "exim/etc/exim4", n))
        os.chmod(os.path.join(ROOTS, "exim/etc/exim4", n), 0o644)
    EximEarly.rcpt = EXIM_AUTH if auth else ""
    return exim(more=EXIM_TLS + more)


def restart(peer, old, new):
    """Another configuration, on the same port."""
    text = open(peer.path("/etc/exim4/exim4.conf")).read()
    assert old in text
    peer.clean()
    peer.write("/etc/exim4/exim4.conf", text.replace(old, new))
    peer.proc.wait(10)
    peer.proc = subprocess.Popen(["chroot", peer.root, *peer.command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 start_new_session=True)
    wait_for(peer.listens, 30, why=peer.log)


def marks(peer, n):
    return wait_for(lambda: (lambda v: v if len(v) == n else None)(re.findall(r"<= a@b.example .* (L\S*) ", peer.log())), why=peer.log)


def test_client_starttls(bulkhead, exim, certificates):
    """Sample 57: EHLO and STARTTLS in one segment, and inside all the rest. The peer's log says that it was so there."""
    peer = tls_peer(exim, certificates)
    relay = Relay(peer.port)
    b = client(bulkhead, relay.port)
    lines = send(b, 3)
    assert relay.early(0) == b""
    assert " L* " not in lines[0]
    for i in (1, 2):
        assert relay.early(i) == b"EHLO mx.test.example\r\nSTARTTLS\r\n", relay.sessions[i]
        assert " X=TLS1." in lines[i] and " L* " in lines[i], lines
        # inside: what the client says before the server has said more than the handshake needs
        assert len(turns(relay.sessions[i])) < len(turns(relay.sessions[0])) - 3, (turns(relay.sessions[i]), turns(relay.sessions[0]))
    assert marks(peer, 3) == ["L.", "L*", "L*"], peer.log()
    wait_for(lambda: peer.mailbox().count(b"Subject: early") == 3, why=peer.log)
    relay.close()


def turns(session):
    """Who spoke, one letter for as long as it was the same."""
    return re.sub(r"(.)\1+", r"\1", "".join(side for side, _ in session))


def test_client_smtps(bulkhead, exim, certificates):
    """Sample 58: TLS on connect, and the group at once behind the handshake."""
    peer = tls_peer(exim, certificates, "tls_on_connect_ports = 1 : 2 : 3\n")
    restart(peer, "tls_on_connect_ports = 1 : 2 : 3", "tls_on_connect_ports = %d" % peer.port)
    relay = Relay(peer.port)
    b = client(bulkhead, relay.port, "  protocol = smtps\n  port = %d\n" % relay.port)
    lines = send(b, 3)
    assert " L* " not in lines[0] and " L* " in lines[1] and " L* " in lines[2], lines
    assert all(" X=TLS1." in line for line in lines), lines
    assert marks(peer, 3) == ["L.", "L*", "L*"], peer.log()
    assert len(turns(relay.sessions[2])) < len(turns(relay.sessions[0])) - 3
    relay.close()


def test_client_auth(bulkhead, exim, certificates):
    """AUTH with a remembered mechanism goes with EHLO, in clear where the authenticator lets it; and the server that has other ones now."""
    peer = tls_peer(exim, certificates, auth=True)
    relay = Relay(peer.port)
    b = client(bulkhead, relay.port, "  hosts_try_auth = *\n  hosts_avoid_tls = *\n", retry="""* * F,2h,1s

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^me^secret
login:
  driver = plaintext
  public_name = LOGIN
  client_send = : me : secret
""")
    lines = send(b, 2)
    assert relay.early(1) == b"EHLO mx.test.example\r\nAUTH PLAIN AG1lAHNlY3JldA==\r\n", relay.sessions[1]
    assert " A=plain " in lines[1] and " L* " in lines[1], lines
    # without PLAIN, the group is in vain; the message goes all the same, and the next one by what holds now
    restart(peer, "public_name = PLAIN", "public_name = XPLAIN")
    lines = send(b, 2)
    assert " A=login " in lines[2] and " L* " not in lines[2], lines
    assert relay.early(2).startswith(b"EHLO mx.test.example\r\nAUTH PLAIN ")
    assert relay.early(3) == b""
    assert relay.early(4) == b"EHLO mx.test.example\r\nAUTH LOGIN\r\n", relay.sessions[4]
    assert " A=login " in lines[3], lines
    assert len(re.findall(r"<= a@b.example .* A=(?:plain|login):me", peer.log())) == 4, peer.log()
    relay.close()


# ---- Exim as the client ----

def test_server_exim(bulkhead, exim, certificates):
    """Debian's Exim with hosts_pipe_connect as our client, in clear and through STARTTLS; Exim's log and ours agree."""
    owner = UID_BASE + 6 if os.geteuid() == 0 else None
    tls = Authority(str(certificates.dir))
    tls.leaf("ours", "mx.test.example", names=["DNS:mx.test.example"], owner=owner)
    for secure in (False, True):
        b = bulkhead(main="log_selector = +pipelining +tls_cipher\n" + ("""tls_directories = %s
tls_certificate = %s
tls_privatekey = %s
""" % (tls.dir, tls.path("ours.pem"), tls.path("ours.key")) if secure else ""))
        relay = Relay(b.port)
        peer = exim(relay.port, transport="  hosts_pipe_connect = *\n" + ("  hosts_require_tls = *\n  tls_verify_certificates =\n  tls_try_verify_hosts =\n"
                                                                        if secure else "  hosts_avoid_tls = *\n"))
        for i in range(3):
            c = Client(peer.port)
            assert c.mail("a@b.example", "joe@local.example", b"Subject: by exim\r\n\r\nx\r\n").startswith("250")
            c.ask("QUIT", 221)
            wait_for(lambda: len(b.maildir("joe")) > i, 10, why=lambda: b.logs() + peer.log() + str(relay.sessions))
        ours = re.findall(r"<= a@b.example .* P=esmtps? (?:X=\S+ CV=no )?(L\S*)", b.log())
        theirs = wait_for(lambda: (lambda v: v if len(v) == 3 else None)(re.findall(r"=> joe@local.example .* (L\S*)", peer.log())), why=peer.log)
        # Exim may need a second look before it believes its own memory.
        assert ours[0] == "L." and ours[2] == "L*", b.logs() + peer.log()
        assert [m == "L*" for m in theirs] == [m == "L*" for m in ours], b.logs() + peer.log()
        assert relay.early(0) == b""
        assert re.match(rb"EHLO \S+\r\nSTARTTLS\r\n\Z" if secure else rb"EHLO \S+\r\nMAIL FROM.*\r\nRCPT TO.*\r\n(BDAT|DATA)", relay.early(2)), relay.sessions[2]
        peer.close()
        relay.close()


# ---- servers that lie ----

OFFER = ["PIPELINING", "PIPECONNECT", "SIZE 100000"]


class Liar:
    """A server with its own mind for each connection: `script(i)` gives the offers of connection i, and what it says at "banner", "ehlo",
    "starttls", "mail", "rcpt", "data", "dot" in place of the usual; "" closes."""

    def __init__(self, script, host="127.0.0.1"):
        self.script, self.messages, self.sessions = script, [], []
        self.server = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            self.sessions.append([])
            threading.Thread(target=self.session, args=(c, len(self.sessions) - 1), daemon=True).start()

    def session(self, c, i):
        offers, says = self.script(i)
        usual = {"banner": "220 liar", "ehlo": "\r\n".join(["250-liar"] + ["250-" + o for o in offers] + ["250 HELP"]), "helo": "250 liar", "mail": "250 ok",
                 "rcpt": "250 ok", "data": "354 go", "dot": "250 got it", "rset": "250 ok", "quit": "221 bye", "auth": "235 ok", "bdat": "250 got it"}
        f = c.makefile("rb")

        def say(what):
            text = says.get(what, usual.get(what, "500 what"))
            if not text:
                raise OSError
            c.sendall(text.encode() + b"\r\n")
            return text

        def keep(what, body):
            if says.get(what, usual[what]).startswith("2"):
                self.messages.append(body)   # before the client hears of it
            say(what)
        try:
            say("banner")
            while True:
                line = f.readline()
                if not line:
                    break
                self.sessions[i].append(line.decode().strip())
                verb = line[:4].decode().lower().strip()
                if verb == "bdat":
                    keep(verb, f.read(int(line.split()[1])))
                    continue
                text = say(verb)
                if verb == "data" and text.startswith("354"):
                    body = b""
                    while not body.endswith(b"\r\n.\r\n"):
                        body += f.readline()
                    keep("dot", body)
                elif verb == "quit":
                    break
        except OSError:
            pass
        try:
            c.shutdown(socket.SHUT_WR)
            while c.recv(65536):
                pass
        except OSError:
            pass
        f.close()
        c.close()


LIES = {
    "no longer": ((["PIPELINING", "SIZE 100000"], {}), None),
    "no PIPELINING": ((["PIPECONNECT", "SIZE 100000"], {}), None),
    "other offers": ((OFFER + ["8BITMIME"], {}), True),
    "no SIZE": ((OFFER[:2], {}), None),
    "EHLO refused": ((OFFER, {"ehlo": "550 not you"}), None),
    "EHLO deferred": ((OFFER, {"ehlo": "421 later"}), None),
    "greets 554": ((OFFER, {"banner": "554 no"}), None),
    "greets 421": ((OFFER, {"banner": "421 no"}), None),
    "closes": ((OFFER, {"banner": ""}), None),
    "closes at EHLO": ((OFFER, {"ehlo": ""}), None),
    "closes at RCPT": ((OFFER, {"rcpt": ""}), None),
    "garbage": ((OFFER, {"banner": "hello there", "bdat": "hello"}), None),
    "garbage at EHLO": ((OFFER, {"ehlo": "250 x\r\nxyz", "bdat": "what"}), None),
    "garbage at MAIL": ((OFFER, {"mail": "xyz", "bdat": "zyx"}), None),
    "asks for AUTH": ((OFFER + ["AUTH PLAIN"], {}), None),
}


@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("name", sorted(LIES))
def test_client_liar(bulkhead, name, chunking):
    """The host has another mind the second time: the message is delivered once, at the first attempt, over one more connection in clear
    order; and what is remembered is what was seen last."""
    (offers, says), carries_on = LIES[name]
    more = ["CHUNKING"] if chunking else []
    liar = Liar(lambda i: (offers + more, says) if i == 1 else (OFFER + more, {}))
    b = client(bulkhead, liar.port, "  hosts_try_auth = *\n", retry="* * F,2h,1h\n\nbegin authenticators\nplain:\n  driver = plaintext\n  public_name = PLAIN\n"
               "  client_send = ^me^secret\n")
    lines = send(b, 4)
    assert " == " not in b.log() and " ** " not in b.log(), b.log()
    assert len(liar.messages) == 4, liar.sessions
    if carries_on:
        assert len(liar.sessions) == 4 and " L*" in lines[1], (lines, liar.sessions)
    elif " L*" in lines[1]: # the content went with the group, and the server took it for all that
        assert chunking and liar.sessions[1][-1].startswith("BDAT"), liar.sessions
    else:
        assert len(liar.sessions) == 5 and " L*" not in lines[1], (lines, liar.sessions)
    assert " L*" in lines[3], lines


def test_client_utf8(bulkhead):
    """SMTPUTF8 is said early, too, where it is known and needed; where it is offered no more, the ASCII form goes by another connection."""
    liar = Liar(lambda i: (OFFER + ["SMTPUTF8", "8BITMIME"] * (i < 2), {}))
    b = client(bulkhead, liar.port)
    for n in range(3):
        assert b.client().mail("a@b.example", "b\u00fccher@peer.example".encode().decode("latin-1"), b"Subject: early\r\n\r\nx\r\n", params=" SMTPUTF8").startswith("250")
        wait_for(lambda: len(liar.messages) > n, 30, why=b.logs)
        wait_for(lambda: len(delivered(b)) > n, 30, why=b.logs)
    mails = [[l for l in session if re.match("MAIL|RCPT", l)] for session in liar.sessions]
    said = ["MAIL FROM:<a@b.example> SIZE=", "SMTPUTF8"]
    assert [all(w in m[0] for w in said) for m in mails[:2]] == [True, True] and "L*" in delivered(b)[1], liar.sessions
    assert "SMTPUTF8" not in mails[-1][0] and mails[-1][1] == "RCPT TO:<xn--bcher-kva@peer.example>" and len(mails) == 4, liar.sessions
    liar.server.close()


def test_client_socks(bulkhead, tmp_path):
    """Through a proxy the group goes as soon as the tunnel is there."""
    liar = Liar(lambda i: (OFFER, {}))
    relay = Relay(liar.port)
    proxy = Microsocks(str(tmp_path / "proxy"), None)
    try:
        b = client(bulkhead, relay.port, "  socks_proxy = 127.0.0.1 port=%d\n" % proxy.port)
        lines = send(b, 2)
        assert " L*" not in lines[0] and " L* " in lines[1] and relay.early(1).startswith(b"EHLO "), (lines, relay.sessions)
    finally:
        proxy.close()
        relay.close()


def test_client_partly(bulkhead):
    """Of two recipients one is refused: with BDAT in the first segment, the other gets the message once."""
    liar = Liar(lambda i: (OFFER + ["CHUNKING"], {}))
    b = client(bulkhead, liar.port)
    send(b)
    usual = liar.script
    liar.script = lambda i: (usual(i)[0], {"rcpt": "550 no"})
    c = b.client()
    c.mail("", ["no@peer.example", "none@peer.example"], b"Subject: x\r\n\r\nx\r\n")
    for who in ("no", "none"):
        b.wait_log(r"\*\* %s@peer.example .*550 no" % who)
    assert len(liar.messages) == 2 # one of them without recipients: the server said 250 to it for all that
    assert liar.sessions[1][-1] == "QUIT" or liar.sessions[1][-1].startswith("BDAT"), liar.sessions


def test_client_restart(bulkhead):
    """What one smtp-out has learned another one knows; `bulkhead hints forget` makes both start anew."""
    liar = Liar(lambda i: (OFFER, {}))
    b = client(bulkhead, liar.port)
    send(b)
    pid = b.pids()
    b.command("restart", "smtp-out")
    wait_for(lambda: b.pids() != pid)
    assert " L*" in send(b)[1]
    assert b.command("hints", "forget", "192.0.2.77") == ""
    assert b.command("hints", "forget", "127.0.0.1") == "127.0.0.1:%d.EHLO\n" % liar.port
    lines = send(b, 2)
    assert " L*" not in lines[2] and " L*" in lines[3], lines


def test_client_ipv6(bulkhead):
    """EPL6: the key has brackets about the address."""
    liar = Liar(lambda i: (OFFER, {}), "::1")
    b = client(bulkhead, liar.port, routers="out:\n  driver = manualroute\n  route_list = * \"</ [::1]:%d\"\n  transport = smtp\n  self = send\n" % liar.port)
    assert " L*" in send(b, 2)[1]
    assert b.command("hints", "forget", "::1") == "[::1]:%d.EHLO\n" % liar.port


def test_client_expire(bulkhead):
    """EPL5: an offer older than retry_data_expire is dropped."""
    liar = Liar(lambda i: (OFFER, {}))
    b = client(bulkhead, liar.port, main="retry_data_expire = 1s\n")
    send(b)
    import time
    time.sleep(2.1)
    assert " L*" not in send(b)[1]


@pytest.mark.parametrize("options,hosts", [("  helo_data = [$sending_ip_address]\n", "*"), ("  hosts_avoid_pipelining = *\n", "*"), ("  protocol = lmtp\n", "*"),
                                          ("", "!127.0.0.1 : *"), ("  hosts_avoid_esmtp = *\n", "*")])
def test_client_never(bulkhead, options, hosts):
    """Hosts and settings with which nothing goes early."""
    liar = Liar(lambda i: (OFFER, {"lhlo": "\r\n".join(["250-" + o for o in OFFER] + ["250 ok"])}))
    relay = Relay(liar.port)
    b = client(bulkhead, relay.port, options, hosts=hosts)
    lines = send(b, 2)
    assert relay.early(1) == b"" and " L*" not in "".join(lines), (relay.sessions, lines)
    relay.close()


def test_client_interface(bulkhead):
    """With `interface` the address is known before the connection is."""
    liar = Liar(lambda i: (OFFER, {}))
    relay = Relay(liar.port)
    b = client(bulkhead, relay.port, "  helo_data = [$sending_ip_address]\n  interface = 127.0.0.1\n")
    assert " L*" in send(b, 2)[1]
    assert relay.early(1).startswith(b"EHLO [127.0.0.1]\r\nMAIL "), relay.sessions
    relay.close()


@pytest.mark.parametrize("peer", [Postfix, Opensmtpd])
def test_client_peers(bulkhead, peer):
    """Servers without the offer never see a word before their greeting."""
    p = peer(None)
    relay = Relay(p.port)
    try:
        b = client(bulkhead, relay.port, "  hosts_avoid_tls = *\n")
        lines = send(b, 3)
        assert [relay.early(i) for i in range(3)] == [b""] * 3, relay.sessions
        assert " L*" not in "".join(lines)
    finally:
        relay.close()
        p.close()


def test_client_callout(bulkhead):
    """Callouts use what is known, and remember what they see."""
    liar = Liar(lambda i: (OFFER, {}))
    relay = Relay(liar.port)
    b = client(bulkhead, relay.port, acl="acl_check_rcpt:\n  require verify = recipient/callout=no_cache\n  accept\n")
    for i in range(2):
        c = b.client()
        c.ask("EHLO x.example", 250)
        c.ask("MAIL FROM:<a@b.example>", 250)
        c.ask("RCPT TO:<box%d@peer.example>" % i, 250)
        c.close()
    assert relay.early(0) == b""
    assert re.match(rb"EHLO mx\.test\.example\r\nMAIL FROM:<>\r\nRCPT TO:<box1@peer\.example>\r\n\Z", relay.early(1)), relay.sessions
    assert liar.messages == []
    relay.close()


def test_server_injection(bulkhead, certificates):
    """What stands behind STARTTLS in an early group is never taken as said inside TLS, whoever sends it."""
    owner = UID_BASE + 6 if os.geteuid() == 0 else None
    certificates.leaf("ours", "mx.test.example", names=["DNS:mx.test.example"], owner=owner)
    b = bulkhead(main="tls_directories = %s\ntls_certificate = %s\ntls_privatekey = %s\n" % (certificates.dir, certificates.path("ours.pem"),
                                                                                        certificates.path("ours.key")))
    for behind in (b"EHLO evil.example\r\n", b"MAIL FROM:<evil@b.example>\r\n", b"\x16\x03\x01", b"x"):
        r = Raw(b.port, b"EHLO early.example\r\nSTARTTLS\r\n" + behind)
        got = r.all()
        assert re.search(rb"(?m)^554 5\.5\.0 Security failure", got) and b"TLS go ahead" not in got, got
    r = Raw(b.port, b"EHLO early.example\r\nSTARTTLS\r\n")
    assert codes(r.replies(3)) == "220 250 220"
    r.tls()
    r.send(GROUP)
    assert codes(r.replies(4)) == "250 250 250 354"
    r.send(BODY)
    assert codes(r.replies(1)) == "250"


# ---- TCP Fast Open ----

@pytest.fixture
def netns():
    """A network of its own, where the kernel's settings can be changed."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    name = "bulkhead-early-%d" % os.getpid()
    if subprocess.run(["ip", "netns", "add", name], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no network namespaces here")
    run = ["ip", "netns", "exec", name]
    subprocess.run(run + ["ip", "link", "set", "lo", "up"], check=True)
    if subprocess.run(run + ["sysctl", "-q", "-w", "net.ipv4.tcp_fastopen=3"], stderr=subprocess.DEVNULL).returncode:
        subprocess.run(["ip", "netns", "del", name])
        pytest.skip("net.ipv4.tcp_fastopen can't be set here")
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


SCENARIO = r"""
import sys
sys.path.insert(0, %(tests)r)
import re
from bulkhead import Instance, free_port, wait_for
import test_early
b = Instance(main="log_selector = +pipelining\n")
a = Instance(main="log_selector = +pipelining\n", sink=b.port, transports=test_early.TRANSPORTS.format(options="  connection_max_messages = 1\n%(options)s"))
try:
    b.start(), a.start()
    for i in range(4):
        a.send("a@b.example", "ann@other.example")
        wait_for(lambda: len(re.findall(" => ann@", a.log())) > i, 20, why=a.logs)
    print("\n".join(re.findall(r"=> ann@.*", a.log()) + re.findall(r"<= a@b.example H=\(mx.*", b.log())))
finally:
    a.destroy()
    b.destroy()
"""


@pytest.mark.parametrize("options,want", [("", "TFO*"), ("  hosts_try_fastopen =\n", "")])
def test_fastopen(netns, options, want):
    """EPL8: once there is a cookie, the first group goes with the SYN, and both sides say so."""
    text = SCENARIO % {"tests": os.path.dirname(os.path.abspath(__file__)), "options": options.replace("\n", "\\n")}
    p = subprocess.run(["ip", "netns", "exec", netns, "/usr/bin/python3", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    out = p.stdout.decode()
    assert p.returncode == 0, out
    sent, received = re.findall(r"(?m)^=>.*", out), re.findall(r"(?m)^<=.*", out)
    assert len(sent) == 4 and len(received) == 4, out
    if want:
        assert re.search(r"\] TFO\* .* L\* ", sent[3]) and re.search(r"\] TFO\* P=esmtps? .*L\* ", received[3]), out
        assert " TFO*" not in sent[0], out
    else:
        assert "TFO" not in out, out
