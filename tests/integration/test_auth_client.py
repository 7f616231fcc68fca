# SPDX-License-Identifier: ISC
"""AUTH as the client: against Debian's Exim, Postfix with Dovecot, and a server that does what it is told."""
import base64
import os
import re
import socket
import threading

import pytest

from bulkhead import wait_for
from dovecot import Dovecot
from peers import Exim, Postfix
from test_auth import AUTHENTICATORS, MAIN, PASSWORD, RETRY, ACL, b64, no_passwords, plain

TRANSPORTS = """
smtp:
  driver = smtp
  allow_localhost
  %s
maildir:
  driver = appendfile
  directory = {dir}/mail/$local_part_data
  maildir_format
  create_directory
  user = {mail_uid}
  group = {mail_uid}
"""
CLIENT = """
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  client_name = joe
  client_secret = s3cret-Wort
  client_set_id = joe
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^joe^s3cret-Wort
  client_set_id = joe
login:
  driver = plaintext
  public_name = LOGIN
  client_send = : joe : s3cret-Wort
  client_set_id = joe
"""


def client(bulkhead, port, options="hosts_require_auth = *", authenticators=CLIENT, retry=RETRY, main=""):
    return bulkhead(sink=port, transports=TRANSPORTS % options, main=main, retry=retry + "\n\nbegin authenticators\n" + authenticators)


def only(*names):
    """These authenticators of CLIENT."""
    return "".join(re.search(r"(?ms)^%s:\n.*?(?=^\w+:|\Z)" % n, CLIENT).group(0) for n in names)


class AuthExim(Exim):
    def configure(self):
        super().configure()
        text = open(self.path("/etc/exim4/exim4.conf")).read()
        text = text.replace("acl_smtp_rcpt = accept", "acl_smtp_rcpt = rcpt\nlog_selector = +smtp_mailauth")
        text = text.replace("begin routers", "begin acl\nrcpt:\n  require authenticated = *\n  accept\nbegin routers", 1)
        self.write("/etc/exim4/exim4.conf", text + """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{joe}}{eq{$auth3}{s3cret-Wort}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{joe}}{eq{$auth2}{s3cret-Wort}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = s3cret-Wort
  server_set_id = $auth1
ext:
  driver = external
  public_name = EXTERNAL
  server_condition = ${if eq{$auth1}{joe}}
  server_set_id = $auth1
""")


@pytest.fixture
def exim():
    p = AuthExim(None)
    yield p
    p.close()


def test_exim_serves(bulkhead, exim):
    """Each mechanism; both logs say who was let in."""
    external = "ext:\n  driver = external\n  public_name = EXTERNAL\n  client_send = joe\n  client_set_id = joe\n"
    for name, text in (("cram", only("cram")), ("plain", only("plain")), ("login", only("login")), ("ext", external)):
        b = client(bulkhead, exim.port, authenticators=text)
        b.send("a@b.example", "box@peer.example", b"Subject: by %s\r\n\r\nx\r\n" % name.encode())
        exim.wait_mailbox(b"by " + name.encode())
        b.wait_log(r"=> box@peer.example .* A=%s:joe " % name)
        wait_for(lambda: re.search(r"<= a@b.example .* A=%s:joe " % name, exim.log()), why=exim.log)
        no_passwords(b)
        b.stop()


def test_exim_refuses_the_first(bulkhead, exim):
    """A wrong password with the first mechanism: the next one is tried."""
    b = client(bulkhead, exim.port, authenticators=only("cram").replace("s3cret", "wr0ng") + only("login"))
    b.send("a@b.example", "box@peer.example", b"Subject: second\r\n\r\nx\r\n")
    exim.wait_mailbox(b"Subject: second")
    b.wait_log(r"=> box@peer.example .* A=login:joe ")


def test_authenticated_sender(bulkhead, exim):
    b = client(bulkhead, exim.port, "hosts_try_auth = 127.0.0.1\n  authenticated_sender = boss+$sender_address_domain@x.example")
    b.send("a@b.example", "box@peer.example", b"Subject: for the boss\r\n\r\nx\r\n")
    exim.wait_mailbox(b"for the boss")
    wait_for(lambda: "A=cram:joe:boss+b.example@x.example" in exim.log(), why=exim.log)


def test_postfix_with_dovecot_serves(bulkhead):
    dovecot = Dovecot({"joe": PASSWORD})

    class AuthPostfix(Postfix):
        def configure(self):
            super().configure()
            with open(self.path("/etc/postfix/main.cf"), "a") as f:
                f.write("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = inet:127.0.0.1:%d\n"
                        "smtpd_relay_restrictions = permit_sasl_authenticated, reject\nsmtpd_recipient_restrictions =\n" % dovecot.port)
    try:
        postfix = AuthPostfix(None)
        try:
            for name in ("cram", "plain", "login"):
                b = client(bulkhead, postfix.port, authenticators=only(name))
                b.send("a@b.example", "box@peer.example", b"Subject: by %s\r\n\r\nx\r\n" % name.encode())
                postfix.wait_mailbox(b"by " + name.encode())
                b.wait_log(r"=> box@peer.example .* A=%s:joe " % name)
                b.stop()
            assert "sasl_method=CRAM-MD5, sasl_username=joe" in postfix.log()
        finally:
            postfix.close()
    finally:
        dovecot.destroy()


def test_exim_is_our_client(bulkhead):
    """Debian's Exim authenticates to us, mechanism by mechanism."""
    acl = ACL.replace("accept authenticated", "accept condition = ${if eq{$received_protocol}{esmtpa}}\n         authenticated")
    for name in ("plain", "login", "cram"):
        b = bulkhead(main=MAIN, acl=acl, routers="local:\n  driver = accept\n  local_parts = x\n  transport = maildir\n",
                     transports="maildir:\n  driver = appendfile\n  directory = {dir}/mail/x\n  maildir_format\n  create_directory\n"
                                "  user = {mail_uid}\n  group = {mail_uid}\n",
                     retry=RETRY + "\n\nbegin authenticators\n" + AUTHENTICATORS)
        with open(os.path.join(b.dir, "secrets"), "w") as f:
            f.write("joe: %s\n" % PASSWORD)
        os.chmod(os.path.join(b.dir, "secrets"), 0o644)

        class ClientExim(Exim):
            def configure(self):
                super().configure()
                text = open(self.path("/etc/exim4/exim4.conf")).read()
                self.write("/etc/exim4/exim4.conf", text.replace("  hosts_avoid_tls = *", "  hosts_avoid_tls = *\n  hosts_require_auth = *") +
                           "\nbegin authenticators\n" + only(name))
        peer = ClientExim(b.port)
        try:
            from bulkhead import Client
            Client(peer.port).mail("a@b.example", "x@far.example", b"Subject: through Exim\r\n\r\nx\r\n")
            assert b"through Exim" in b.wait_maildir("x")[0]
            b.wait_log(r"<= a@b.example .* P=esmtpa A=%s:joe " % name)
        finally:
            peer.close()
        b.stop()


class Server:
    """Says EHLO's keywords, then answers each line of AUTH from the script; other commands are taken. Keeps what came."""

    def __init__(self, auth="AUTH PLAIN LOGIN CRAM-MD5", script=()):
        self.auth, self.script, self.lines, self.dialogues, self.sessions = auth, script, [], [], 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self._session, args=(c,), daemon=True).start()

    def _session(self, c):
        f, script, content, auth = c.makefile("rb"), list(self.script), False, False
        dialogue = []
        self.dialogues.append(dialogue)
        try:
            c.sendall(b"220 scripted\r\n")
            for line in f:
                line = line.decode("latin-1").rstrip("\r\n")
                self.lines.append(line)
                dialogue.append(line)
                verb = line[:4].upper()
                if content:
                    content = line != "."
                    reply = None if content else "250 kept"
                elif verb == "AUTH" or auth:
                    reply = script.pop(0) if script else "535 no"
                    if reply is None:
                        return
                    auth = reply.startswith("3")
                elif verb == "EHLO":
                    reply = "250-scripted\r\n" + ("250-%s\r\n" % self.auth if self.auth else "") + "250 PIPELINING"
                elif verb == "DATA":
                    content, reply = True, "354 go on"
                elif verb == "QUIT":
                    c.sendall(b"221 bye\r\n")
                    return
                else:
                    reply = "250 ok"
                if reply:
                    c.sendall(reply.encode() + b"\r\n")
        except OSError:
            pass
        finally:
            f.close()
            c.close()

    def close(self):
        self.server.close()


@pytest.fixture
def scripted():
    made = []

    def make(**kw):
        made.append(Server(**kw))
        return made[-1]
    yield make
    for s in made:
        s.close()


def test_try_goes_on_without(bulkhead, scripted):
    s = scripted(script=("535 no", "504 no", "535 no"))
    b = client(bulkhead, s.port, "hosts_try_auth = *", only("plain", "login"))
    b.send("a@b.example", "x@y.example")
    b.wait_log(r"=> x@y.example ")
    assert " A=" not in b.log().split("=> x@y.example")[1].split("\n")[0]
    assert [line for line in s.lines if line.startswith("AUTH")] == ["AUTH PLAIN " + plain("joe", PASSWORD), "AUTH LOGIN"]
    for line in ("plain authenticator failed H=127.0.0.1 [127.0.0.1]: 535 no", "login authenticator failed H=127.0.0.1 [127.0.0.1]: 504 no"):
        assert b.log().count(line) == 1, b.log()
    assert not [line for line in s.lines if "AUTH=" in line]


@pytest.mark.parametrize("server,words", (
    (dict(auth=None), "authentication required but server did not advertise AUTH support"),
    (dict(auth="AUTH GSSAPI"), "authentication required but no common mechanisms were found"),
    (dict(script=("535 no", "535 no")), r"authentication required but authentication attempt\(s\) failed"),
    (dict(script=("435 4.7.0 come again",)), "plain authenticator failed: 435 4.7.0 come again"),
    (dict(script=("334 !!!!", "501 cancelled", "334 !!!!", "501 cancelled")), r"authentication required but authentication attempt\(s\) failed"),
    (dict(script=("334 ", "501 cancelled", "334 ", "334 ", "334 ", "501 cancelled")), r"authentication required but authentication attempt\(s\) failed"),
    (dict(script=(None,)), "Remote host closed connection in response to AUTH PLAIN"),
))
def test_required(bulkhead, scripted, server, words):
    """Deferred, and nothing of the message is said to the server."""
    s = scripted(**server)
    b = client(bulkhead, s.port, authenticators=only("plain", "login"))
    b.send("a@b.example", "x@y.example")
    b.wait_log(r"== x@y.example .*" + words)
    assert not [line for line in s.lines if line.startswith("MAIL")]
    no_passwords(b)


def test_retry_rule(bulkhead, scripted):
    """auth_failed is a class of its own: without a step, the message comes back."""
    s = scripted(script=("535 no",) * 3)
    b = client(bulkhead, s.port, authenticators=only("plain"), retry="* auth_failed\n* * F,2h,1m")
    b.send("joe@local.example", "x@y.example")
    b.wait_log(r"\*\* x@y.example .*authentication attempt\(s\) failed")


def test_conditions(bulkhead, scripted):
    """client_condition that asks for TLS; forced failure; an expansion that fails: passed over, passed over, deferred."""
    secure = only("plain").replace("client_send", "client_condition = ${if def:tls_out_cipher}\n  client_send")
    forced = only("login").replace("login:", "forced:").replace("client_send = : joe", "client_send = : ${if eq{1}{2}{joe}fail}")
    s = scripted(script=("334 " + b64("Username:"), "334 " + b64("Password:"), "235 ok"))
    b = client(bulkhead, s.port, authenticators=secure + forced + only("login"))
    b.send("a@b.example", "x@y.example")
    b.wait_log(r"=> x@y.example .* A=login:joe ")
    assert [line for line in s.lines if line.startswith("AUTH")] == ["AUTH LOGIN"]
    assert b64(PASSWORD) in s.lines
    broken = only("plain").replace("^joe^", "^${lookup{joe}lsearch{{dir}/nothing-here}}^")
    b = client(bulkhead, s.port, authenticators=broken)
    b.send("a@b.example", "x@y.example")
    b.wait_log(r"== x@y.example .*client_send: ")


def test_circumflexes(bulkhead, scripted):
    s = scripted(script=("334 !!!!", "235 ok"))
    b = client(bulkhead, s.port, authenticators="odd:\n  driver = plaintext\n  public_name = PLAIN\n  client_ignore_invalid_base64\n"
                                                "  client_send = a^^b^c : d\n")
    b.send("a@b.example", "x@y.example")
    b.wait_log(r"=> x@y.example .* A=odd ")
    assert [base64.b64decode(line.split()[-1]) for line in s.lines[1:3]] == [b"a^b\0c", b"d"]


def test_credentials_are_not_mixed(bulkhead, scripted):
    """Each sender has credentials of its own: no connection carries the mail of two."""
    s = scripted(script=("235 ok",) * 9)
    b = client(bulkhead, s.port, authenticators=only("plain").replace("^joe^", "^$sender_address_local_part^"))
    for _ in range(3):
        for sender in ("ann", "bob"):
            b.send(sender + "@b.example", "x@y.example")
    wait_for(lambda: b.log().count("=> x@y.example") == 6, why=b.logs)
    for lines in s.dialogues:
        who = [base64.b64decode(line.split()[-1]).split(b"\0")[1].decode() for line in lines if line.startswith("AUTH")]
        senders = {re.search("<(.*)@", line).group(1) for line in lines if line.startswith("MAIL")}
        assert {*who} == senders and len(senders) == 1, lines
