# SPDX-License-Identifier: ISC
"""SMTPUTF8 (RFC 6530 to 6533) with real daemons: scripted servers with and without it, Debian's Postfix and Exim, Dovecot's LMTP."""
import email
import email.policy
import os
import re
import subprocess
import unicodedata

import pytest

from bulkhead import SENDMAIL, UID_BASE, read, wait_for
from peers import Exim, Postfix
from scripted_server import ScriptedHosts, ScriptedServer, Script

WITH = ["PIPELINING", "8BITMIME", "DSN", "SMTPUTF8"]
WITHOUT = ["PIPELINING", "8BITMIME", "DSN"]
ASCII_HEADER = b"Subject: hello\r\n\r\nbody\r\n"
UTF8_HEADER = "Subject: Grüße\r\n\r\nbody\r\n".encode()
ADDRESSES = ["jürgen@bücher.example", "用户@例え.example", "مثال@مثال.example", "😀@x.example",
             unicodedata.normalize("NFD", "é") + "@x.example", "é@x.example"]
ALABELS = ["xn--jrgen-kva@xn--bcher-kva.example", "xn--zouo53b@xn--r8jz45g.example", "xn--mgbh0fb@xn--mgbh0fb.example", "xn--e28h@x.example",
           "xn--e-xbb@x.example", "xn--9ca@x.example"]


def raw(text):
    """As scripted servers show octets."""
    return text.encode().decode("latin-1")


def say(b, sender, rcpts, content=ASCII_HEADER, params=" SMTPUTF8"):
    c = b.client()
    try:
        got = c.mail(raw(sender), [raw(r) for r in rcpts], content, params=params)
        assert got.startswith("250"), got
    finally:
        c.close()


def commands(server, verb):
    return [c.encode("latin-1").decode() for s in server.sessions for c in s.commands if c.upper().startswith(verb)]


def logged(b, pattern, **kw):
    return b.wait_log(pattern.encode().decode("utf-8"), **kw)


# ---- as a server ----

def test_offer_and_refusals(bulkhead, sink):
    b = bulkhead(sink=sink, main="hostlist no = 127.0.0.2\nsmtputf8_advertise_hosts = !+no : *\n")
    c = b.client()
    assert "250-SMTPUTF8" in c.ask("EHLO x.example", 250)
    assert c.ask("MAIL FROM:<a@" + raw("ü.example") + ">", 501).startswith("501 5.6.7 a@??.example")
    c.ask(b"MAIL FROM:<\xc0\xaf@x.example> SMTPUTF8", 501)
    c.ask(b"MAIL FROM:<\xed\xa0\x80@x.example> SMTPUTF8", 501)
    c.ask("MAIL FROM:<a@x.example> SMTPUTF8", 250)
    c.ask(b"RCPT TO:<a@\xe2\x80\xae.example>", 501)
    c.close()
    c = b.client(source=("127.0.0.2", 0))
    assert "SMTPUTF8" not in c.ask("EHLO x.example", 250)
    assert "SMTPUTF8 used when not advertised" in c.ask("MAIL FROM:<a@x.example> SMTPUTF8", 501)
    c.close()


def test_no_offer_without_8bitmime(bulkhead, sink):
    b = bulkhead(sink=sink, main="accept_8bitmime = false\n")
    c = b.client()
    assert "SMTPUTF8" not in c.ask("EHLO x.example", 250)
    c.ask("MAIL FROM:<a@x.example> SMTPUTF8", 501)
    c.close()


def test_names_in_log_and_received_field(bulkhead):
    with ScriptedServer(offers=WITH) as server:
        b = bulkhead(sink=server.port, acl="acl_check_rcpt:\n  accept logwrite = seen $message_smtputf8 $received_protocol\n")
        say(b, ADDRESSES[0], ADDRESSES[1:2], ASCII_HEADER)
        say(b, ADDRESSES[0], ADDRESSES[1:2], UTF8_HEADER)
        say(b, "a@x.example", ["b@x.example"], params="")
        server.wait_messages(3)
        logged(b, "<= jürgen@bücher.example .*P=utf8esmtp ")
        logged(b, "=> 用户@例え.example R=sink")
        logged(b, "seen yes utf8esmtp")
        logged(b, "seen no esmtp")
        by_subject = {bool(re.search(rb"Gr\xc3", m.content)): m.content.split(b"\r\n\r\n")[0] for m in server.messages if b"utf8esmtp" in m.content}
        assert sorted(by_subject) == [False, True]
        # our own field does not make an ASCII header need SMTPUTF8
        assert by_subject[False].isascii() and b"with utf8esmtp" in by_subject[False]
        assert "for 用户@例え.example".encode() in by_subject[True] and "envelope-from <jürgen@".encode() in by_subject[True]


@pytest.mark.parametrize("word", ["print_topbitchars = false\n", ""])
def test_log_in_ascii(bulkhead, word):
    with ScriptedServer(offers=WITH) as server:
        b = bulkhead(sink=server.port, main=word)
        say(b, "jürgen@x.example", ["b@x.example"])
        b.wait_log("Completed")
        assert ("<= j\\303\\274rgen@x.example" in b.log()) == bool(word) and ("<= jürgen@x.example" in b.log()) != bool(word)


# ---- as a client ----

@pytest.mark.parametrize("header", [ASCII_HEADER, UTF8_HEADER], ids=["ascii", "utf8"])
def test_next_host_has_it(bulkhead, header):
    with ScriptedServer(offers=WITH) as server:
        b = bulkhead(sink=server.port)
        say(b, ADDRESSES[0], ADDRESSES, header)
        b.wait_empty()
        assert all(c.startswith("MAIL FROM:<jürgen@bücher.example>") and c.endswith(" SMTPUTF8") for c in commands(server, "MAIL"))
        assert sorted(commands(server, "RCPT")) == sorted("RCPT TO:<%s>" % a for a in ADDRESSES)


def test_next_host_lacks_it_envelope_is_converted(bulkhead):
    with ScriptedServer(offers=WITHOUT) as server:
        b = bulkhead(sink=server.port)
        say(b, ADDRESSES[0], ADDRESSES)
        b.wait_empty()
        assert all(c.startswith("MAIL FROM:<%s>" % ALABELS[0]) and "SMTPUTF8" not in c for c in commands(server, "MAIL"))
        assert sorted(commands(server, "RCPT")) == sorted("RCPT TO:<%s>" % a for a in ALABELS)


def test_marked_but_ascii_goes_anywhere(bulkhead):
    for offers in WITH, WITHOUT:
        with ScriptedServer(offers=offers) as server:
            b = bulkhead(sink=server.port)
            say(b, "a@x.example", ["b@x.example"])
            server.wait_messages(1)
            assert "SMTPUTF8" not in commands(server, "MAIL")[0]


def test_header_that_nobody_can_take_is_returned(bulkhead):
    with ScriptedServer(offers=WITHOUT) as server:
        b = bulkhead(sink=server.port)
        say(b, "sender@x.example", [ADDRESSES[1], "plain@x.example"], UTF8_HEADER)
        logged(b, r"\*\* 用户@例え.example .*utf8 support required but not offered for forwarding")
        # the report's own header is ASCII, since its addressee is: it finds its way
        server.wait_messages(1)
        assert commands(server, "RCPT") == ["RCPT TO:<sender@x.example>" + c.partition(">")[2] for c in commands(server, "RCPT")]
        content = server.messages[0].content
        assert content.split(b"\r\n\r\n")[0].isascii()
        parts = rfc6533(content)
        assert "Final-Recipient: utf-8;用户@例え.example" in parts["message/global-delivery-status"]
        assert "Status: 5.6.7" in parts["message/global-delivery-status"] and "Action: failed" in parts["message/global-delivery-status"]
        assert "Subject: Grüße" in parts["message/global"]


def rfc6533(content):
    """The parts of a report by type, as text; each must be what its type and encoding say."""
    m = email.message_from_bytes(content, policy=email.policy.SMTPUTF8)
    assert m.get_content_type() == "multipart/report" and m.get_param("report-type") == "delivery-status"
    boundary = m.get_boundary().encode()
    found = {}
    for part in content.split(b"--" + boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        kind = re.search(rb"(?i)content-type: ([\w/.-]+)", head).group(1).decode()
        if not body.isascii():
            assert b"Content-Transfer-Encoding: 8bit" in head
        found[kind] = body.decode()
    return found


def test_report_in_ascii_for_a_message_without_smtputf8(bulkhead):
    with ScriptedServer({"RCPT": ["550 5.1.1 no", "250 ok"]}, offers=WITH) as server:
        b = bulkhead(sink=server.port, routers="alias:\n  driver = redirect\n  domains = alias.example\n  data = jürgen@x.example\n" + SINK)
        say(b, "s@x.example", ["a@alias.example"], params="")
        server.wait_messages(1)
        parts = rfc6533(server.messages[0].content)
        assert server.messages[0].content.isascii()
        assert r"Final-Recipient: utf-8;j\x{FC}rgen@x.example" in parts["message/delivery-status"]
        assert r"j\x{FC}rgen@x.example" in parts["text/plain"]


SINK = """
sink:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""


@pytest.mark.parametrize("option, control, offers, want", [
    ("1", "", WITH, "a"), ("1", "", WITHOUT, "a"), ("1", "/0", WITH, "a"), ("0", "", WITH, "u"), ("0", "", WITHOUT, None), ("0", "/1", WITH, "u"),
    ("-1", "", WITH, "u"), ("-1", "", WITHOUT, "a"), ("", None, WITH, "u"), ("", None, WITHOUT, None), ("", "", WITH, "a"), ("", "/1", WITHOUT, "a"),
    ("", "/0", WITHOUT, None), ("", "/-1", WITH, "u"), ("", "/-1", WITHOUT, "a"), ("${if eq{$domain}{bücher.example}{1}{0}}", "", WITH, "a"),
])
def test_utf8_downconvert(bulkhead, option, control, offers, want):
    with ScriptedServer(offers=offers) as server:
        b = bulkhead(sink=server.port, routers=SINK, transports="smtp:\n  driver = smtp\n  allow_localhost\n  utf8_downconvert = %s\n" % option,
                     acl="acl_check_rcpt:\n  accept %s\n" % ("" if control is None else "control = utf8_downconvert" + control))
        say(b, "a@x.example", ADDRESSES[:1])
        if want:
            b.wait_empty()
            assert commands(server, "RCPT") == ["RCPT TO:<%s>" % (ALABELS[0] if want == "a" else ADDRESSES[0])]
        else:
            logged(b, r"\*\* jürgen@bücher.example .*utf8 support required but not offered for forwarding")


def test_bad_value_of_utf8_downconvert_defers(bulkhead):
    b = bulkhead(routers=SINK, transports="smtp:\n  driver = smtp\n  allow_localhost\n  utf8_downconvert = ${if eq{$domain}{y}{1}{maybe}}\n")
    say(b, "a@x.example", ADDRESSES[:1])
    logged(b, "== jürgen@bücher.example .*utf8_downconvert")


def test_host_without_it_is_passed_over(bulkhead):
    hosts = ScriptedHosts({"127.0.3.1": Script(offers=WITHOUT), "127.0.3.2": Script(offers=WITH)})
    try:
        b = bulkhead(sink=hosts.port, routers="sink:\n  driver = manualroute\n  route_list = * 127.0.3.1::{sink}:127.0.3.2::{sink}\n  transport = smtp\n  self = send\n",
                     transports="smtp:\n  driver = smtp\n  allow_localhost\n  utf8_downconvert = 0\n")
        say(b, "a@x.example", [ADDRESSES[0], "b@x.example"])
        b.wait_empty()
        first, second = hosts.scripts["127.0.3.1"], hosts.scripts["127.0.3.2"]
        assert commands(first, "RCPT") == ["RCPT TO:<b@x.example>"]
        assert commands(second, "RCPT") == ["RCPT TO:<%s>" % ADDRESSES[0]]
    finally:
        hosts.close()


def test_original_recipient_in_both_forms(bulkhead):
    for offers, want in (WITH, "utf-8;用户@z.example"), (WITHOUT, r"utf-8;\x{7528}\x{6237}@z.example"):
        with ScriptedServer(offers=offers) as server:
            b = bulkhead(sink=server.port, main="dsn_advertise_hosts = *\n")
            c = b.client()
            c.ask("EHLO x.example", 250)
            c.ask("MAIL FROM:<a@x.example> SMTPUTF8", 250)
            c.ask("RCPT TO:<" + raw("用户@z.example") + "> ORCPT=" + raw(r"utf-8;\x{7528}户@z.example"), 250)
            c.ask("DATA", 354)
            assert c.data(ASCII_HEADER).startswith("250")
            c.close()
            server.wait_messages(1)
            assert commands(server, "RCPT")[0].endswith(" ORCPT=" + want)


def test_alias_from_ascii_to_utf8_and_back(bulkhead):
    aliases = """
alias:
  driver = redirect
  domains = alias.example : bücher.example
  data = ${{lookup{{$local_part}}lsearch{{{dir}/aliases}}}}
"""
    for offers, params, rcpt, want in ((WITH, "", "plain@alias.example", "用户@x.example"), (WITHOUT, "", "plain@alias.example", "xn--zouo53b@x.example"),
                                       (WITHOUT, " SMTPUTF8", "jürgen@bücher.example", "joe@x.example"),
                                       (WITH, " SMTPUTF8", unicodedata.normalize("NFD", "jürgen") + "@xn--bcher-kva.example", "joe@x.example")):
        with ScriptedServer(offers=offers) as server:
            b = bulkhead(sink=server.port, routers=aliases.replace("{{", "{").replace("}}", "}") + SINK)
            with open(os.path.join(b.dir, "aliases"), "w") as f:
                f.write("plain: 用户@x.example\njürgen: joe@x.example\n")
            say(b, "a@x.example", [rcpt], params=params)
            b.wait_empty()
            assert commands(server, "RCPT") == ["RCPT TO:<%s>" % want]
            assert commands(server, "MAIL")[0].endswith(" SMTPUTF8") == (not want.isascii())


def test_local_delivery_by_any_form_of_the_name(bulkhead, sink):
    b = bulkhead(sink=sink, main="domainlist ours = bücher.example\n", users=("用户", "é"),
                 routers="local:\n  driver = accept\n  domains = +ours\n  local_parts = lsearch;{dir}/users\n  transport = maildir\n")
    say(b, ADDRESSES[0], ["用户@bücher.example", "é@xn--bcher-kva.example", unicodedata.normalize("NFD", "é@bücher.example"), "joe@BÜCHER.example"])
    b.wait_maildir("用户")
    b.wait_maildir("é", 2)
    b.wait_maildir("joe")


def test_mark_survives_queue_and_restart(bulkhead):
    with ScriptedServer({"RCPT": ["451 later", "451 later", "250 ok"]}, offers=WITH) as server:
        b = bulkhead(sink=server.port, retry="* * F,2h,1s", main="queue_interval = 1s\n")
        say(b, ADDRESSES[0], ADDRESSES[1:2], UTF8_HEADER)
        logged(b, "== 用户@例え.example .*451 later")
        b.stop()
        b.start()
        b.command("queue", "retry")
        server.wait_messages(1, 30)
        assert commands(server, "MAIL")[-1].endswith(" SMTPUTF8") and commands(server, "RCPT")[-1] == "RCPT TO:<用户@例え.example>"
        b.wait_empty()


# ---- callouts ----

def test_callout_to_a_server_without_it(bulkhead):
    with ScriptedServer(offers=WITHOUT) as server:
        b = bulkhead(sink=server.port, routers=SINK, transports="smtp:\n  driver = smtp\n  allow_localhost\n  utf8_downconvert = 0\n",
                     acl="acl_check_rcpt:\n  require verify = recipient/callout=5s\n  accept\n")
        c = b.client()
        c.ask("EHLO x.example", 250)
        c.ask("MAIL FROM:<a@x.example> SMTPUTF8", 250)
        for _ in range(2): # it is not remembered of the address
            assert c.ask("RCPT TO:<" + raw(ADDRESSES[0]) + ">", 533).endswith("no support for internationalised mailbox name")
        c.ask("RCPT TO:<b@x.example>", 250)
        c.close()
        logged(b, 'response to "EHLO" did not include SMTPUTF8')


# ---- LMTP ----

@pytest.mark.parametrize("unix", [False, True])
def test_lmtp(bulkhead, tmp_path, unix):
    for offers in WITH, WITHOUT:
        path = "/tmp/bh-utf8-%d-%d" % (os.getpid(), len(offers)) if unix else None
        with ScriptedServer(offers=offers, lmtp=True, path=path) as server:
            if unix:
                os.chmod(path, 0o666)
            b = bulkhead(sink=server.port or 9, routers="all:\n  driver = accept\n  transport = t\n" if unix else SINK.replace("smtp", "t"),
                         transports="t:\n  driver = lmtp\n  socket = %s\n" % path if unix else "t:\n  driver = smtp\n  protocol = lmtp\n  allow_localhost\n")
            say(b, "a@x.example", ADDRESSES[:1])
            b.wait_empty()
            assert commands(server, "LHLO")
            assert commands(server, "RCPT")[0].startswith("RCPT TO:<%s>" % (ADDRESSES[0] if offers is WITH else ALABELS[0]))
        if unix and os.path.exists(path):
            os.unlink(path)


DOVECOT = """
base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/dovecot.log
protocols = lmtp
ssl = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
mail_location = maildir:{d}/mail/%u
mail_home = {d}/mail/%u
userdb {{
  driver = static
  args = uid={uid} gid={uid} allow_all_users=yes
}}
passdb {{
  driver = static
  args = nopassword=yes
}}
service lmtp {{
  unix_listener {d}/sock/lmtp {{
    mode = 0666
  }}
}}
"""


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/usr/lib/dovecot/lmtp"), reason="needs Dovecot's LMTP server, and root for it")
def test_dovecot_lmtp(bulkhead):
    import shutil
    import signal
    import tempfile
    d = tempfile.mkdtemp(prefix="bulkhead-dovecot-")
    os.chmod(d, 0o755)
    uid = UID_BASE + 50
    for name in ("run", "state", "sock", "mail"):
        os.makedirs(os.path.join(d, name))
    os.chown(os.path.join(d, "mail"), uid, uid)
    with open(os.path.join(d, "dovecot.conf"), "w") as f:
        f.write(DOVECOT.format(d=d, uid=uid))
    p = subprocess.Popen(["dovecot", "-F", "-c", os.path.join(d, "dovecot.conf")], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(os.path.join(d, "sock/lmtp")), 20, why=lambda: read(os.path.join(d, "dovecot.log")))
        b = bulkhead(routers="all:\n  driver = accept\n  transport = t\n", transports="t:\n  driver = lmtp\n  socket = %s/sock/lmtp\n" % d)
        say(b, "jürgen@x.example", [ADDRESSES[0], "plain@x.example"])
        b.wait_empty()
        got = [m for base, _, names in os.walk(os.path.join(d, "mail")) for m in names if base.endswith("/new")]
        assert len(got) == 2, (got, read(os.path.join(d, "dovecot.log")), b.logs())
        logged(b, r"=> .*jürgen@bücher.example.* C=.250 ")
    finally:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait(30)
        shutil.rmtree(d, ignore_errors=True)


# ---- Postfix and Exim ----

class Utf8Postfix(Postfix):
    enable = "yes"

    def configure(self):
        super().configure()
        path = self.path("/etc/postfix/main.cf")
        with open(path, "a") as f:
            f.write("smtputf8_enable = %s\nlocal_recipient_maps =\nluser_relay = box\n" % self.enable)


class PlainPostfix(Utf8Postfix):
    enable = "no"


@pytest.mark.parametrize("peer, header", [(Utf8Postfix, ASCII_HEADER), (Utf8Postfix, UTF8_HEADER), (PlainPostfix, ASCII_HEADER), (Exim, ASCII_HEADER), (Exim, UTF8_HEADER)],
                         ids=["postfix", "postfix-header", "postfix-without", "exim", "exim-header"])
def test_to_a_peer(bulkhead, peer, header):
    p = peer(None)
    try:
        b = bulkhead(sink=p.port)
        locals_ = [a.partition("@")[0] for a in ADDRESSES[:3]]
        say(b, ADDRESSES[0], ["%s@peer.example" % l for l in locals_], header.replace(b"body", b"to " + peer.__name__.encode()))
        b.wait_empty()
        for l in locals_:
            logged(b, "[=-]> %s@peer.example .*C=.250" % l)
        wait_for(lambda: p.mailbox().count(b"to " + peer.__name__.encode()) >= (3 if peer is Exim else 1), 30, why=lambda: p.log())
    finally:
        p.close()


def test_header_to_postfix_without_it_is_returned(bulkhead):
    p = PlainPostfix(None)
    try:
        b = bulkhead(sink=p.port)
        say(b, "box@peer.example", [ADDRESSES[0].replace("bücher", "peer"), "a@peer.example"], UTF8_HEADER)
        logged(b, r"\*\* jürgen@peer.example .*utf8 support required but not offered for forwarding")
        content = p.wait_mailbox(b"multipart/report")
        assert "Final-Recipient: utf-8;jürgen@peer.example".encode() in content
    finally:
        p.close()


@pytest.mark.parametrize("peer", [Utf8Postfix, Exim])
def test_from_a_peer(bulkhead, peer):
    """The peer takes it from us and relays it back to another of us."""
    with ScriptedServer(offers=WITH) as server:
        last = bulkhead(sink=server.port)
        p = peer(last.port)
        try:
            first = bulkhead(sink=p.port)
            say(first, ADDRESSES[0], ADDRESSES[1:2], UTF8_HEADER)
            server.wait_messages(1, 60)
            assert commands(server, "MAIL")[0].startswith("MAIL FROM:<jürgen@bücher.example>") and " SMTPUTF8" in commands(server, "MAIL")[0]
            assert commands(server, "RCPT")[0].startswith("RCPT TO:<用户@例え.example>")
            logged(last, "<= jürgen@bücher.example .*P=utf8esmtp")
        finally:
            p.close()


# ---- submission on this machine ----

def sendmail(b, args, text):
    p = subprocess.run([SENDMAIL, "-C", b.conf, *args], input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 0, p.stderr
    return p.stdout


@pytest.mark.parametrize("args, text, marked", [
    (["-t"], "To: 用户@例え.example\n\nx\n", True), (["-f", "jürgen@x.example", "b@x.example"], "Subject: x\n\nx\n", True),
    (["用户@例え.example"], "Subject: x\n\nx\n", True), (["b@x.example"], "Subject: Grüße\n\nx\n", True),
    (["b@x.example"], "Subject: x\n\nGrüße\n", False), (["-O", "SMTPUTF8=yes", "b@x.example"], "Subject: x\n\nGrüße\n", True),
    (["-bs"], "EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<用户@例え.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n", True),
], ids=["t", "sender", "recipient", "header", "body", "option", "session"])
def test_sendmail(bulkhead, args, text, marked):
    with ScriptedServer(offers=WITH) as server:
        b = bulkhead(sink=server.port, main="acl_not_smtp = not_smtp\n", acl="acl_check_rcpt:\n  accept\nnot_smtp:\n  accept\n")
        sendmail(b, args, text)
        server.wait_messages(1)
        assert commands(server, "MAIL")[0].endswith(" SMTPUTF8") == marked
        logged(b, "<= .* P=%s" % ("utf8local" if marked else "local"))
