# SPDX-License-Identifier: ISC
"""SCRAM as the client (driver gsasl): Postfix and our own smtpd with Dovecot behind them, and a server that lies."""
import base64
import hashlib
import hmac
import re
import socket
import threading

import pytest

from bulkhead import wait_for
from dovecot import Dovecot
from peers import Postfix
from test_auth import PASSWORD, RETRY, no_passwords
from test_auth_client import client, only

SCRAM = """
scram:
  driver = gsasl
  public_name = SCRAM-SHA-%s
  client_username = joe
  client_password = %s
  client_set_id = joe
"""


def scram(digest="256", password=PASSWORD):
    return SCRAM % (digest, password)


@pytest.fixture
def dovecot():
    d = Dovecot({"joe": PASSWORD})
    yield d
    d.destroy()


@pytest.fixture
def postfix(dovecot):
    class AuthPostfix(Postfix):
        def configure(self):
            super().configure()
            with open(self.path("/etc/postfix/main.cf"), "a") as f:
                f.write("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = inet:127.0.0.1:%d\n"
                        "smtpd_relay_restrictions = permit_sasl_authenticated, reject\nsmtpd_recipient_restrictions =\n" % dovecot.port)
    p = AuthPostfix(None)
    yield p
    p.close()


def test_postfix_with_dovecot_serves(bulkhead, postfix):
    for digest in ("1", "256"):
        b = client(bulkhead, postfix.port, authenticators=scram(digest))
        b.send("a@b.example", "box@peer.example", b"Subject: by %s\r\n\r\nx\r\n" % digest.encode())
        postfix.wait_mailbox(b"by " + digest.encode())
        b.wait_log(r"=> box@peer.example .* A=scram:joe ")
        wait_for(lambda: "sasl_method=SCRAM-SHA-%s, sasl_username=joe" % digest in postfix.log(), why=postfix.log)
        no_passwords(b)
        b.stop()


def test_wrong_password(bulkhead, postfix):
    """Refused: as with any authenticator, the next one is tried."""
    b = client(bulkhead, postfix.port, authenticators=scram(password="wr0ng") + only("plain"))
    b.send("a@b.example", "box@peer.example", b"Subject: by the second\r\n\r\nx\r\n")
    postfix.wait_mailbox(b"by the second")
    b.wait_log(r"=> box@peer.example .* A=plain:joe ")


def test_our_own_server(bulkhead, dovecot, sink):
    there = bulkhead(acl="acl_check_rcpt:\n  accept authenticated = *\n", retry=RETRY + "\n\nbegin authenticators\ndove:\n  driver = dovecot\n  public_name = SCRAM-SHA-256\n"
                     "  server_socket = 127.0.0.1 %d\n  server_set_id = $auth1\n" % dovecot.port, sink=sink)
    b = client(bulkhead, there.port, authenticators=scram())
    b.send("a@b.example", "x@far.example", b"Subject: ours\r\n\r\nx\r\n")
    b.wait_log(r"=> x@far.example .* A=scram:joe ")
    there.wait_log(r"<= a@b.example .* A=dove:joe ")


class Liar:
    """Speaks SCRAM-SHA-256 with `password`, wrong in the way that `how` says: "" (rightly), count, nonce, silent (a success without proof)."""

    def __init__(self, how="", password=PASSWORD):
        self.how, self.password, self.lines = how, password, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.session, args=(c,), daemon=True).start()

    def session(self, c):
        f = c.makefile("rb")

        def say(text):
            c.sendall(text.encode() + b"\r\n")

        def hear():
            line = f.readline().decode("latin-1").rstrip("\r\n")
            self.lines.append(line)
            return line

        def mac(key, text):
            return hmac.new(key, text, hashlib.sha256).digest()
        try:
            say("220 scripted")
            while True:
                line = hear()
                verb = line[:4]
                if verb == "EHLO":
                    say("250-scripted\r\n250 AUTH SCRAM-SHA-256 PLAIN")
                elif line.startswith("AUTH SCRAM"):
                    bare = base64.b64decode(line.split()[2]).split(b",", 2)[2]
                    nonce = re.search(b"r=(.*)", bare).group(1) + b"server"
                    first = b"r=%s,s=%s,i=%d" % (b"other" + nonce if self.how == "nonce" else nonce, base64.b64encode(b"salt"),
                                                 1 if self.how == "count" else 4096)
                    say("334 " + base64.b64encode(first).decode())
                    answer = hear()
                    if answer == "*":
                        say("501 cancelled")
                        continue
                    if self.how != "silent":
                        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), b"salt", 4096)
                        message = b",".join((bare, first, base64.b64decode(answer).rsplit(b",p=", 1)[0]))
                        say("334 " + base64.b64encode(b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), message))).decode())
                        if hear() == "*":
                            say("501 cancelled")
                            continue
                    say("235 welcome")
                elif verb == "AUTH":
                    say("235 thank you")
                elif verb == "DATA":
                    say("354 go on")
                    while f.readline() not in (b".\r\n", b""):
                        pass
                    say("250 kept")
                elif verb == "QUIT" or not line:
                    say("221 bye")
                    return
                else:
                    say("250 ok")
        except OSError:
            pass
        finally:
            c.close()

    def close(self):
        self.server.close()


@pytest.mark.parametrize("how, password, why", [
    ("", PASSWORD, None),
    ("", "guessed", "the server does not know the password"),
    ("silent", PASSWORD, "the server has not proved that it knows the password"),
    ("nonce", PASSWORD, "the server's nonce does not begin with ours"),
    ("count", PASSWORD, "the server's iteration count is not between 4096 and 100000"),
])
def test_server_that_lies(bulkhead, how, password, why, request):
    """It gets neither the message nor the password by the next authenticator, though authentication is not required."""
    s = Liar(how, password)
    request.addfinalizer(s.close)
    b = client(bulkhead, s.port, "hosts_try_auth = *", authenticators=scram() + only("plain"))
    b.send("a@b.example", "x@far.example")
    if why is None:
        b.wait_log(r"=> x@far.example .* A=scram:joe ")
        return
    b.wait_log(r"== x@far.example .*scram authenticator failed: " + why)
    assert not [line for line in s.lines if line.startswith(("MAIL", "AUTH PLAIN"))]
    no_passwords(b)


@pytest.mark.parametrize("text, why", [
    (scram("256-PLUS"), "driver gsasl has no mechanism SCRAM-SHA-256-PLUS in this build"),
    (scram().replace("public_name = SCRAM-SHA-256", "public_name = DIGEST-MD5"), "driver gsasl has no mechanism DIGEST-MD5 in this build"),
    (scram() + "  server_condition = yes\n", "driver gsasl does not serve clients in this build"),
    (scram() + "  server_password = x\n", "server_password"),
    (scram() + "  client_channelbinding = true\n", "client_channelbinding"),
    (scram().replace("  client_password = %s\n" % PASSWORD, ""), "driver gsasl needs client_username and client_password"),
])
def test_refused_at_load(bulkhead, text, why):
    with pytest.raises(AssertionError, match=why):
        client(bulkhead, 9, authenticators=text)
