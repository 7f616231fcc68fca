# SPDX-License-Identifier: ISC
"""AUTH as the server: mechanisms, replies, log, Dovecot; as the client: plans, hosts that refuse, what is said of it."""
import base64
import hashlib
import hmac
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import pytest

from bulkhead import wait_for
from dovecot import Dovecot

PASSWORD = "s3cret-Wort"
WRONG = "wr0ng-Wort"
RETRY = "* * F,2h,1s; F,4d,1m"
MAIN = """
log_selector = +smtp_protocol_error +smtp_syntax_error
acl_smtp_mail = acl_mail
"""
ACL = """
acl_mail:
  accept logwrite = MAIL proto=$received_protocol by=$sender_host_authenticated id=$authenticated_id as=$authenticated_sender failed=$authentication_failed/$authenticated_fail_id cmd=$smtp_command
acl_check_rcpt:
  accept authenticated = plain : login : cram
         logwrite = authenticated
  deny message = relay not permitted
"""
AUTHENTICATORS = """
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if eq{$auth2}{later}{come back}{${if and{{eq{$auth2}{joe}}{eq{$auth3}{s3cret-Wort}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{joe}}{eq{$auth2}{s3cret-Wort}}}}
  server_set_id = $auth1
  server_mail_auth_condition = ${if match{$authenticated_sender}{^good}}
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${lookup{$auth1}lsearch{{dir}/secrets}{$value}fail}
  server_set_id = $auth1
secure:
  driver = plaintext
  public_name = X-SECURE
  server_condition = true
  server_advertise_condition = ${if def:tls_in_cipher}
"""


def b64(text):
    return base64.b64encode(text.encode("latin-1")).decode()


def plain(user, password, authz=""):
    return b64("%s\0%s\0%s" % (authz, user, password))


def server(bulkhead, authenticators=AUTHENTICATORS, main=MAIN, acl=ACL, **kw):
    b = bulkhead(main=main, acl=acl, retry=RETRY + "\n\nbegin authenticators\n" + authenticators, **kw)
    path = os.path.join(b.dir, "secrets")
    with open(path, "w") as f:
        f.write("joe: %s\n" % PASSWORD)
    os.chmod(path, 0o644)
    return b


def no_passwords(b):
    """Neither as they are nor encoded, in any log."""
    text = b.log() + b.log("reject") + b.log("panic")
    for word in (PASSWORD, WRONG):
        for form in (word, b64(word), plain("joe", word), b64("joe\0" + word)):
            assert form not in text, "%r is in the log:\n%s" % (form, text)


def test_dialogue(bulkhead):
    """Every reply, word by word: as Debian's Exim gives them, with enhanced codes."""
    b = server(bulkhead)
    c = b.client()
    assert c.ask("AUTH PLAIN") == "503 5.5.1 AUTH command used when not advertised"
    assert "AUTH PLAIN LOGIN CRAM-MD5" in [line[4:] for line in c.ask("EHLO c.example", 250).split("\n")]
    assert c.ask("AUTH FOO") == "504 5.5.4 FOO authentication mechanism not supported"
    assert c.ask("AUTH X-SECURE") == "504 5.5.4 X-SECURE authentication mechanism not supported"
    c.ask("QUIT", 221)
    c = b.client()
    c.ask("EHLO c.example", 250)
    assert c.ask("AUTH") == "501 5.5.4 AUTH needs the name of a mechanism"
    assert c.ask("AUTH PLAIN " + plain("later", "x")) == "435 4.7.0 Unable to authenticate at present: come back"
    assert c.ask("AUTH CRAM-MD5 " + b64("x")) == "553 5.5.4 Initial data not expected"
    assert c.ask("AUTH PLAIN") == "334 "
    assert c.ask("*") == "501 5.7.0 Authentication cancelled"
    assert c.ask("AUTH LOGIN") == "334 " + b64("Username:")
    assert c.ask(b64("joe")) == "334 " + b64("Password:")
    assert c.ask(b64(WRONG)) == "535-5.7.8 Incorrect authentication data\n535 5.7.8 Too many authentication failures"
    assert c.reply() == ""
    b.wait_log(r"plain authenticator failed for \(c.example\) \[127.0.0.1\]: 435 Unable to authenticate at present \(set_id=later\): come back$")
    b.wait_log(r"cram authenticator failed for \(c.example\) \[127.0.0.1\]: 553 Initial data not expected$")
    b.wait_log(r"plain authenticator failed for \(c.example\) \[127.0.0.1\]: 501 Authentication cancelled$")
    b.wait_log(r"login authenticator failed for \(c.example\) \[127.0.0.1\]: 535 Incorrect authentication data \(set_id=joe\)$", which="reject")
    b.wait_log(r"SMTP call from \(c.example\) \[127.0.0.1\] dropped: too many authentication failures$")

    c = b.client()
    c.ask("EHLO c.example", 250)
    assert c.ask("AUTH PLAIN =") == "535 5.7.8 Incorrect authentication data"
    assert c.ask("AUTH PLAIN !!!!") == "501 5.5.2 Invalid base64 data"
    assert c.ask("auth login " + b64("joe")) == "334 " + b64("Password:")
    assert c.ask(b64(PASSWORD)) == "235 2.7.0 Authentication succeeded"
    assert c.ask("AUTH PLAIN " + plain("joe", PASSWORD)) == "503 5.5.1 already authenticated"
    assert "AUTH" not in c.ask("EHLO c.example", 250)
    c.ask("MAIL FROM:<a@b.example>", 250)
    b.wait_log(r"MAIL proto=esmtpa by=login id=joe as= failed=1/")
    no_passwords(b)


def test_malformed(bulkhead):
    """What is no base64, lines without end, responses that are none: refused, and never an exchange half done."""
    b = server(bulkhead)
    for data, codes in ((b"YW\r\n", "501"), (b"YWI\r\n", "501"), (b"YW==YW==\r\n", "501"), (b"YWJ=\r\n", "501"), (b"Y W=\r\n", "501"), (b"=\r\n", "501"),
                        (b"YWJj\nYWJj\r\n", "500"), (b"A" * 13000 + b"\r\n", "500"), (b"\xff\xfe\r\n", "501"), (b"\0\r\n", "501")):
        c = b.client()
        c.ask("EHLO c.example", 250)
        assert c.ask("AUTH LOGIN").startswith("334 ")
        c.send(data)
        assert c.reply()[:3] == codes, data[:20]
        assert c.ask("NOOP")[:3] == "250", data[:20]
        c.close()
    c = b.client()
    c.ask("EHLO c.example", 250)
    # 12288 octets are the limit of a line, which is more than a command may have.
    assert c.ask("AUTH PLAIN " + base64.b64encode(b"\0joe\0" + b"x" * 9000).decode()) == "535 5.7.8 Incorrect authentication data"
    assert c.ask("AUTH PLAIN " + "A" * 13000) == "500 5.5.2 line too long"
    c.ask("AUTH PLAIN", 334)
    c.close()
    no_passwords(b)


def test_sync(bulkhead):
    """More than the command in one packet: the session ends, and the log does not show what was in it."""
    b = server(bulkhead)
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.send("AUTH PLAIN %s\r\nMAIL FROM:<a@b.example>\r\n" % plain("joe", PASSWORD))
    assert c.reply().startswith("554")
    b.wait_log('rejected "AUTH PLAIN" ')
    no_passwords(b)


@pytest.mark.parametrize("mechanism,name", (("PLAIN", "plain"), ("LOGIN", "login"), ("CRAM-MD5", "cram")))
def test_swaks(bulkhead, sink, mechanism, name):
    """A client of others: let in with the right password alone; the message's log line and its Received: field say so."""
    b = server(bulkhead, sink=sink)

    def swaks(password):
        p = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(b.port), "--from", "joe@sender.example", "--to", "x@remote.example",
                            "--auth", mechanism, "--auth-user", "joe", "--auth-password", password, "--ehlo", "c.example"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return p.returncode, p.stdout.decode("latin-1")
    code, text = swaks(WRONG)
    assert code == 28 and " 535 5.7.8 Incorrect authentication data" in text, text
    code, text = swaks(PASSWORD)
    assert code == 0 and " 235 2.7.0 Authentication succeeded" in text, text
    b.wait_log(r"<= joe@sender.example .* P=esmtpa A=%s:joe " % name)
    assert b"with esmtpa" in sink.wait(1)[0][2]
    b.wait_log(r"%s authenticator failed for \(c.example\) \[127.0.0.1\]: 535 Incorrect authentication data \(set_id=joe\)" % name)
    no_passwords(b)


def test_mail_auth(bulkhead):
    """AUTH= of MAIL: believed from who has authenticated, unless the condition says no; malformed is an error."""
    b = server(bulkhead)
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.ask("MAIL FROM:<a@b.example> AUTH=one@x.example", 250)
    c.ask("RSET", 250)
    b.wait_log(r"ignoring AUTH=one@x.example from H=\(c.example\) \[127.0.0.1\] \(client not authenticated\)")
    b.wait_log(r"MAIL proto=esmtp by= id= as= failed=0/")
    c.ask("AUTH PLAIN " + plain("joe", PASSWORD), 235)
    assert c.ask("MAIL FROM:<a@b.example> AUTH=a+4") == "501 5.5.4 invalid data for AUTH"
    c.ask("MAIL FROM:<a@b.example> AUTH=two+40x.example", 250)
    c.ask("RSET", 250)
    b.wait_log(r"as=two@x.example")
    c.ask("MAIL FROM:<a@b.example> AUTH=<>", 250)
    b.wait_log(r"as= failed=0/ cmd=MAIL FROM:<a@b.example> AUTH=<>")
    c.close()
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.ask("AUTH LOGIN " + b64("joe"), 334)
    c.ask(b64(PASSWORD), 235)
    c.ask("MAIL FROM:<a@b.example> AUTH=good@x.example", 250)
    b.wait_log(r"by=login id=joe as=good@x.example")
    c.ask("RSET", 250)
    c.ask("MAIL FROM:<a@b.example> AUTH=bad@x.example", 250)
    b.wait_log(r"ignoring AUTH=bad@x.example from .*server_mail_auth_condition")
    c.close()


def test_acls(bulkhead):
    """acl_smtp_auth sees the mechanism and no more; acl_smtp_mailauth may believe or refuse."""
    acl = ACL + """
acl_auth:
  deny condition = ${if match{$smtp_command}{LOGIN}}
       message = not this one
  accept logwrite = AUTH cmd=$smtp_command arg=$smtp_command_argument
acl_mailauth:
  defer condition = ${if match{$authenticated_sender}{^wait}}
  accept condition = ${if match{$authenticated_sender}{^yes}}
"""
    b = server(bulkhead, main=MAIN + "acl_smtp_auth = acl_auth\nacl_smtp_mailauth = acl_mailauth\n", acl=acl)
    c = b.client()
    c.ask("EHLO c.example", 250)
    assert c.ask("AUTH LOGIN " + b64(PASSWORD)) == "550 5.7.1 not this one"
    c.ask("MAIL FROM:<a@b.example> AUTH=yes@x.example", 250)
    b.wait_log(r"by= id= as=yes@x.example")
    c.ask("RSET", 250)
    c.ask("MAIL FROM:<a@b.example> AUTH=no@x.example", 250)
    b.wait_log("ignoring AUTH=no@x.example from .*refused by acl_smtp_mailauth")
    c.ask("RSET", 250)
    assert c.ask("MAIL FROM:<a@b.example> AUTH=wait@x.example")[:3] == "451"
    c.ask("AUTH PLAIN " + plain("joe", PASSWORD), 235)
    b.wait_log(r"AUTH cmd=AUTH PLAIN arg=PLAIN$")
    b.wait_log(r"rejected AUTH LOGIN: not this one")
    no_passwords(b)


def test_advertised_to_some(bulkhead):
    b = server(bulkhead, main=MAIN + "auth_advertise_hosts = ! 127.0.0.1\n")
    c = b.client()
    assert "AUTH" not in c.ask("EHLO c.example", 250)
    assert c.ask("AUTH PLAIN").startswith("503")


def test_workers_die(bulkhead):
    """Between two steps every worker is killed: the exchange goes on with another."""
    b = server(bulkhead)
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.ask("AUTH LOGIN", 334)
    c.ask(b64("joe"), 334)
    old = {d["pid"] for d in b.daemons("policyd")}
    b.command("restart", "policyd")
    wait_for(lambda: not old & {d["pid"] for d in b.daemons("policyd")})
    c.ask(b64(PASSWORD), 235)


# ---- Dovecot ----

DOVECOT = """
dov_plain:
  driver = dovecot
  public_name = PLAIN
  server_socket = {socket}
  server_set_id = $auth1
dov_login:
  driver = dovecot
  public_name = LOGIN
  server_socket = {socket}
  server_set_id = $auth1
dov_cram:
  driver = dovecot
  public_name = CRAM-MD5
  server_socket = {socket}
  server_set_id = $auth1
dov_scram:
  driver = dovecot
  public_name = SCRAM-SHA-256
  server_socket = {socket}
  server_set_id = $auth1
dov_none:
  driver = dovecot
  public_name = NTLM
  server_socket = {socket}
"""


@pytest.fixture
def dovecot():
    d = Dovecot({"joe": PASSWORD, "bob": "x"})
    yield d
    d.destroy()


def login(c, user, password):
    if c.ask("AUTH LOGIN", 334) == "334 " + b64("Username:"):
        assert c.ask(b64(user)) == "334 " + b64("Password:")
    return c.ask(b64(password))


def cram(c, user, password):
    text = base64.b64decode(c.ask("AUTH CRAM-MD5", 334)[4:])
    return c.ask(b64(user + " " + hmac.new(password.encode(), text, "md5").hexdigest()))


def scram(c, user, password):
    """RFC 5802, RFC 7677; the server proves itself, too."""
    bare = "n=%s,r=fyko+d2lbbFgONRv9qkxdawL" % user
    first = base64.b64decode(c.ask("AUTH SCRAM-SHA-256 " + b64("n,," + bare), 334)[4:]).decode()
    r, s, i = [f[2:] for f in first.split(",")]
    final = "c=biws,r=" + r
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(s), int(i))
    message = ",".join((bare, first, final)).encode()
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    proof = base64.b64encode(bytes(x ^ y for x, y in zip(key, signature))).decode()
    got = c.ask(b64(final + ",p=" + proof))
    if not got.startswith("334 "):
        return got
    want = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    assert base64.b64decode(got[4:]) == b"v=" + base64.b64encode(want)
    return c.ask("")


MECHANISMS = {
    "dov_plain": lambda c, user, password: c.ask("AUTH PLAIN " + plain(user, password)),
    "dov_plain without initial response": lambda c, user, password: (c.ask("AUTH PLAIN", "334 "), c.ask(plain(user, password)))[1],
    "dov_login": login, "dov_cram": cram, "dov_scram": scram,
}


def each_mechanism(b, mechanisms=MECHANISMS):
    for name, run in mechanisms.items():
        driver = name.split()[0]
        c = b.client()
        c.ask("EHLO c.example", 250)
        assert run(c, "joe", WRONG) == "535 5.7.8 Incorrect authentication data", name
        assert run(c, "joe", PASSWORD) == "235 2.7.0 Authentication succeeded", name
        c.ask("MAIL FROM:<a@b.example>", 250)
        b.wait_log(r"MAIL proto=esmtpa by=%s id=joe " % driver)
        c.close()
        b.wait_log(r"%s authenticator failed for \(c.example\) \[127.0.0.1\]: 535 Incorrect authentication data \(set_id=joe\)" % driver)
    no_passwords(b)


def test_dovecot_unix(bulkhead, dovecot):
    b = server(bulkhead, DOVECOT, socket=dovecot.socket)
    each_mechanism(b)
    c = b.client()
    c.ask("EHLO c.example", 250)
    if c.ask("AUTH NTLM")[:3] == "435":  # Dovecot's list may be known by now: then it is not offered
        b.wait_log(r'dov_none authenticator failed for .*: 435 Unable to authenticate at present: Dovecot did not advertise mechanism "NTLM" to us')


def test_dovecot_inet(bulkhead, dovecot):
    each_mechanism(server(bulkhead, DOVECOT, socket="127.0.0.1 %d" % dovecot.port))


def test_dovecot_tls(bulkhead, dovecot):
    """PLAIN and LOGIN with TLS, the certificate checked; with a foreign one nobody is let in, nor refused for good."""
    one = DOVECOT.split("dov_cram")[0]
    tls = re.sub(r"(server_socket.*)", r"\1\n  server_tls\n  server_tls_verify_certificates = {anchors}", one)
    b = server(bulkhead, tls, socket="127.0.0.1 %d" % dovecot.tls_port, anchors=os.path.join(dovecot.d, "cert.pem"))
    each_mechanism(b, {k: v for k, v in MECHANISMS.items() if "cram" not in k})
    dovecot.certificate("other-cert")
    b = server(bulkhead, tls, socket="127.0.0.1 %d" % dovecot.tls_port, anchors=os.path.join(dovecot.d, "other-cert.pem"))
    c = b.client()
    c.ask("EHLO c.example", 250)
    assert c.ask("AUTH PLAIN " + plain("joe", PASSWORD)) == "435 4.7.0 Unable to authenticate at present"
    b.wait_log(r"dov_plain authenticator failed for .*: TLS with Dovecot's authentication socket: certificate for 127.0.0.1: ")


def test_dovecot_restarts(bulkhead, dovecot):
    """Kept connections are dead after it: the next client does not notice. While it is away: 435."""
    b = server(bulkhead, DOVECOT, socket=dovecot.socket)
    c = b.client()
    c.ask("EHLO c.example", 250)
    assert MECHANISMS["dov_plain"](c, "joe", WRONG)[:3] == "535"
    dovecot.stop()
    assert MECHANISMS["dov_plain"](c, "joe", PASSWORD) == "435 4.7.0 Unable to authenticate at present"
    dovecot.start()
    assert MECHANISMS["dov_plain"](c, "joe", PASSWORD)[:3] == "235"
    b.wait_log(r"435 Unable to authenticate at present: cannot connect to Dovecot's authentication socket .*auth-client: ")


def test_dovecot_cancelled(bulkhead, dovecot):
    b = server(bulkhead, DOVECOT, socket=dovecot.socket)
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.ask("AUTH CRAM-MD5", 334)
    assert c.ask("*") == "501 5.7.0 Authentication cancelled"
    assert cram(c, "joe", PASSWORD)[:3] == "235"


def test_dovecot_wrong_socket(bulkhead, dovecot):
    b = server(bulkhead, DOVECOT, socket=os.path.join(dovecot.d, "sock", "auth-master"))
    c = b.client()
    c.ask("EHLO c.example", 250)
    assert MECHANISMS["dov_plain"](c, "joe", PASSWORD)[:3] == "435"
    b.wait_log(r"435 Unable to authenticate at present: authentication socket type mismatch \(connected to auth-master instead of auth-client\)")


class FalseDovecot:
    """Says what it is told on a Unix socket, whatever it is asked: "%d" becomes the id of the question."""

    def __init__(self, path, greeting, reply=None, close=False):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        os.chmod(path, 0o666)
        self.server.listen(8)
        self.greeting, self.reply, self.close_after = greeting, reply, close
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(c,), daemon=True).start()

    def _session(self, c):
        try:
            c.sendall(self.greeting)
            for line in c.makefile("rb"):
                if line.startswith((b"AUTH", b"CONT")) and self.reply is not None:
                    c.sendall(self.reply.replace(b"%d", line.split(b"\t")[1].strip()))
                    if self.close_after:
                        break
        except OSError:
            pass
        c.close()

    def close(self):
        self.server.close()


GREETING = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t2\nCOOKIE\t00ff\nDONE\n"


@pytest.mark.parametrize("greeting,reply,close,words", (
    (b"VERSION\t2\t0\n", None, False, "authentication socket protocol version mismatch"),
    (b"220 mail.example ESMTP\r\n", None, False, "does not begin with VERSION"),
    (GREETING.replace(b"00ff", b"not hex"), None, False, "malformed cookie"),
    (GREETING.replace(b"CUID\t2", b"CUID\t-2"), None, False, "no number"),
    (b"VERSION\t1\t2\n" + b"X\n" * 1000, None, False, "the greeting does not end"),
    (b"A" * 100000, None, False, "authentication socket protocol line too long"),
    (GREETING[:20], None, False, "authentication socket is silent: timeout"),
    (GREETING, None, False, "authentication socket is silent: timeout"),
    (GREETING, b"", True, "authentication socket read error or premature eof"),
    (GREETING, b"OK\t99\tuser=joe\n", False, "authentication socket connection id mismatch"),
    (GREETING, b"OK\t%d\n", False, "authentication socket protocol error, username missing"),
    (GREETING, b"WHAT\t%d\n", False, "authentication socket protocol error, a reply that is none"),
    (GREETING, b"OK\t%d\tuser=" + b"j" * 9000 + b"\n", False, "authentication socket protocol line too long"),
    (GREETING, b"FAIL\t%d\tuser=joe\ttemp\treason=later\n", False, r"\(set_id=joe\): later"),
    (GREETING, b"CONT\t%d\t!!!\n", False, "a challenge that is no base64"),
    (GREETING, b"CONT\t%d\tYQ==\nOK\t%d\tuser=joe\n", False, "more than a challenge came"),
))
def test_dovecot_misbehaves(bulkhead, greeting, reply, close, words):
    """Whatever it says: 435, a line in the log that tells, and nobody is let in."""
    d = tempfile.mkdtemp(prefix="bulkhead-false-")
    os.chmod(d, 0o755)
    false = FalseDovecot(os.path.join(d, "auth"), greeting, reply, close)
    try:
        b = server(bulkhead, "dov:\n  driver = dovecot\n  public_name = PLAIN\n  server_socket = %s/auth\n  server_set_id = $auth1\n"
                             "  server_timeout = 1s\n" % d)
        c = b.client()
        c.ask("EHLO c.example", 250)
        assert c.ask("AUTH PLAIN " + plain("joe", PASSWORD)) == "435 4.7.0 Unable to authenticate at present"
        b.wait_log("dov authenticator failed for .*: 435 Unable to authenticate at present.*" + words)
        assert c.ask("NOOP")[:3] == "250"
        no_passwords(b)
    finally:
        false.close()
        shutil.rmtree(d)
