# SPDX-License-Identifier: ISC
"""REQUIRETLS and TLS-Required: No (RFC 8689). No server of Debian's speaks it: two of ours, and a scripted one written from the RFC."""
import email
import re
import shutil

import pytest

from scripted_server import ScriptedServer
from test_smtputf8 import sendmail
from test_tls import TlsClient, context
from test_tls_out import Place, TRANSPORTS

ACL = """
acl_check_rcpt:
  accept
mark:
  accept condition = ${if match{$sender_address_local_part}{^marked}}
         control = requiretls
         log_message = now $requiretls
  accept
"""
OFFER = "250-x\r\n250-PIPELINING\r\n250 REQUIRETLS"
BARE = "250-x\r\n250 PIPELINING"
CLEAR = "250-x\r\n250 STARTTLS"
MESSAGE = b"From: a@local.example\r\nSubject: s\r\n\r\nsecret\r\n"


@pytest.fixture(scope="module")
def place():
    p = Place()
    yield p
    shutil.rmtree(p.dir, ignore_errors=True)


def relay(bulkhead, place, sink, *options, main="", **kw):
    """Marks what comes from marked@..., whoever sends it, and passes it on to the port."""
    pem, key = place.ours()
    main = "tls_directories = %s\ntls_certificate = %s\ntls_privatekey = %s\nacl_smtp_mail = mark\nlog_selector = +outgoing_port\n%s" % (place.dir, pem, key, main)
    options = ("tls_verify_certificates = %s" % place.ca.pem,) + options
    kw.setdefault("retry", "* * F,2h,1m")
    return bulkhead(sink=getattr(sink, "port", sink), main=main, acl=ACL, transports=TRANSPORTS % "\n  ".join(options), **kw)


def send(b, sender="marked@local.example", to="box@peer.example", content=MESSAGE):
    assert b.client().mail(sender, to, content).startswith("250")


# ---- as the server ----

def test_offered_inside_only(bulkhead, place):
    b = relay(bulkhead, place, 9, users=("box",))
    c = TlsClient(b.port)
    assert "REQUIRETLS" not in c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<a@b.example> REQUIRETLS", "555 5.5.4 unadvertised MAIL option: REQUIRETLS")
    c.starttls(context(place.ca.pem), name="client.example", helo=None)
    assert "REQUIRETLS" in c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<a@b.example> REQUIRETLS=yes", 501)
    c.ask("MAIL FROM:<a@b.example> REQUIRETLS REQUIRETLS", 501)
    c.ask("MAIL FROM:<a@b.example> SIZE=10 REQUIRETLS BODY=8BITMIME", 250)
    c.ask("RSET", 250)
    assert c.mail("a@b.example", "joe@local.example", MESSAGE, helo=None, params=" REQUIRETLS").startswith("250")
    got = b.wait_maildir("joe")[0].decode()
    assert re.search(r"with esmtpS\s", got), got
    b.wait_log(r"<= a@b.example .* P=esmtpS ")


def test_not_offered(bulkhead, place):
    b = relay(bulkhead, place, 9, main="tls_advertise_requiretls = !127.0.0.1\n")
    c = TlsClient(b.port).starttls(context(place.ca.pem), name="client.example")
    assert "REQUIRETLS" not in c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<a@b.example> REQUIRETLS", 555)


# ---- hop by hop ----

def test_two_hops(bulkhead, place):
    """Through one Bulkhead to another, which keeps it; then the mark of an ACL takes the same way."""
    last = relay(bulkhead, place, 9, name="last.example")
    b = relay(bulkhead, place, last.port)
    c = TlsClient(b.port).starttls(context(place.ca.pem), name="client.example")
    c.ask("EHLO client.example", 250)
    assert c.mail("a@b.example", "joe@local.example", MESSAGE, helo=None, params=" REQUIRETLS").startswith("250")
    b.wait_maildir("joe")
    assert c.mail("a@b.example", "box@peer.example", MESSAGE, helo=None, params=" REQUIRETLS").startswith("250")
    b.wait_log(r"=> box@peer.example .* X=TLS1.3:\S+ CV=yes")
    last.wait_log(r"<= a@b.example .* P=esmtpS ")
    send(b)
    b.wait_log(r"<= marked@local.example .* P=esmtp ")
    last.wait_log(r"<= marked@local.example .* P=esmtpS ")


@pytest.mark.parametrize("acl", ["acl_smtp_predata", "acl_smtp_data", "acl_not_smtp"])
def test_each_acl_may_mark(bulkhead, place, acl):
    """Also of programs of this machine; redirection hands the mark on."""
    with ScriptedServer({"EHLO": [CLEAR, OFFER]}, tls=place.context()) as server:
        b = relay(bulkhead, place, server, main="%s = accept control = requiretls\n" % acl, routers="""
alias:
  driver = redirect
  local_parts = alias
  data = box@peer.example
all:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
""")
        if acl == "acl_not_smtp":
            sendmail(b, ["-f", "a@b.example", "alias@peer.example"], MESSAGE.decode().replace("\r", ""))
        else:
            send(b, "a@b.example", "alias@peer.example")
        server.wait_messages(1)
        assert "RCPT TO:<box@peer.example>" in server.sessions[0].commands
        assert any(re.match("MAIL FROM.* REQUIRETLS", c) for c in server.sessions[0].commands), server.sessions[0].commands


def test_mark_is_kept(bulkhead, place, tmp_path):
    """In the queue, and in a file that goes to another machine; "a" in the protocol stands behind the capital S."""
    path = str(tmp_path / "message")
    b = relay(bulkhead, place, 9, retry="""* * F,2h,1h

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = true
  server_set_id = $auth2
""")
    c = TlsClient(b.port).starttls(context(place.ca.pem), name="client.example")
    c.ask("EHLO client.example", 250)
    c.ask("AUTH PLAIN AGpvZQB3b3Jk", 235)
    assert c.mail("a@b.example", "box@peer.example", MESSAGE, helo=None, params=" REQUIRETLS").startswith("250")
    id = re.search(r" (\S+) <= a@b.example .* P=esmtpSa ", b.log()).group(1)
    b.wait_log(r"== box@peer.example ")
    b.command("queue", "hold", id)
    b.command("queue", "export", id, path)
    with ScriptedServer({"EHLO": [CLEAR, OFFER]}, tls=place.context()) as server:
        other = relay(bulkhead, place, server, name="other.example")
        other.command("queue", "import", path)
        other.command("queue", "release", "--all")
        other.command("queue", "retry", "--all")
        server.wait_messages(1)
        assert any(re.match("MAIL FROM.* REQUIRETLS", c) for c in server.sessions[0].commands), server.sessions[0].commands


# What the next host is: script of EHLO in clear and inside, certificate, options; what becomes of the message: "sent", or the report's status.
HOSTS = {
    "all is well": ([CLEAR, OFFER], "server", [], "sent"),
    "inside it does not promise": ([CLEAR, BARE], "server", [], "5.7.30"),
    "it promises in clear alone": (["250-REQUIRETLS\r\n250 STARTTLS", BARE], "server", [], "5.7.30"),
    "no STARTTLS": ([OFFER, OFFER], "server", [], "5.7.10"),
    "another authority's certificate": ([CLEAR, OFFER], "foreign", [], "5.7.10"),
    "another host's certificate": ([CLEAR, OFFER], "elsewhere", [], "5.7.10"),
    "names are not looked at otherwise": ([CLEAR, OFFER], "elsewhere", ["tls_verify_cert_hostnames ="], "5.7.10"),
    "nothing is verified otherwise": ([CLEAR, OFFER], "foreign", ["tls_try_verify_hosts ="], "5.7.10"),
    "it need not be verified": ([CLEAR, OFFER], "foreign", ["hosts_requiretls_unauthenticated = *"], "sent"),
    "it need not be verified, but must promise": ([CLEAR, BARE], "foreign", ["hosts_requiretls_unauthenticated = *"], "5.7.30"),
    "TLS is avoided": ([CLEAR, OFFER], "server", ["hosts_avoid_tls = *"], "5.7.10"),
}


def leaf(place, kind):
    return {"server": dict(), "foreign": dict(name="foreign", ca=place.other), "elsewhere": dict(name="elsewhere", names=["DNS:elsewhere.example"])}[kind]


@pytest.mark.parametrize("case", HOSTS)
def test_next_host(bulkhead, place, case):
    ehlo, certificate, options, want = HOSTS[case]
    with ScriptedServer({"EHLO": ehlo}, tls=place.context(**leaf(place, certificate))) as server:
        b = relay(bulkhead, place, server, *options, users=("marked",))
        send(b)
        if want == "sent":
            server.wait_messages(1)
            assert server.messages[0].sender.split() == ["<marked@local.example>", "REQUIRETLS"]
            assert server.sessions[0].tls
            return
        report = email.message_from_bytes(b.wait_maildir("marked")[0])
        assert "Status: %s\n" % want in report.get_payload(1).as_string().replace("\r", "")
        assert report.get_payload(2).get_content_type() == "text/rfc822-headers"
        assert "secret" not in report.as_string() and not server.messages
        b.wait_empty()
        # Without the mark the same host is good enough, and what the mark found out holds for marked messages alone.
        send(b, sender="other@local.example")
        server.wait_messages(1)


def test_full_report_is_not_to_be_had(bulkhead, place):
    """RET=FULL is disregarded; the report is marked itself, and goes on as well protected as it can be."""
    with ScriptedServer({"EHLO": [CLEAR, BARE]}, tls=place.context()) as server:
        b = relay(bulkhead, place, server, main="dsn_advertise_hosts = *\n")
        c = b.client()
        assert c.mail("marked@peer.example", "box@peer.example", MESSAGE, params=" RET=FULL").startswith("250")
        server.wait_messages(1)
        assert server.messages[0].sender.split()[0] == "<>" and "REQUIRETLS" not in server.messages[0].sender
        assert b"secret" not in server.messages[0].content and b"5.7.30" in server.messages[0].content


def test_report_carries_the_mark(bulkhead, place):
    with ScriptedServer({"EHLO": [CLEAR, OFFER, CLEAR, OFFER], "RCPT": ["550 no such user", "250 ok"]}, tls=place.context()) as server:
        b = relay(bulkhead, place, server)
        send(b, sender="marked@peer.example")
        server.wait_messages(1)
        assert server.messages[0].sender.split() == ["<>", "REQUIRETLS"]


def test_second_host(bulkhead, place):
    """The first one has no promise to give: QUIT, and on."""
    with ScriptedServer({"EHLO": [CLEAR, OFFER]}, tls=place.context(name="both", names=["IP:127.0.0.1", "IP:127.0.0.2"])) as good, \
            ScriptedServer(host="127.0.0.2", port=good.port) as bad:
        b = relay(bulkhead, place, good, "hosts = 127.0.0.2 : 127.0.0.1\n  port = {sink}", routers="all:\n driver = accept\n transport = smtp\n")
        send(b)
        good.wait_messages(1)
        assert not bad.messages and bad.sessions[0].commands[-1].startswith("QUIT")


def test_one_may_come_back(bulkhead, place):
    """A host that is down may be one for it: the message waits; its mark outlives a restart."""
    with ScriptedServer(host="127.0.0.2") as bad:
        b = relay(bulkhead, place, bad, "hosts = 127.0.0.1 : 127.0.0.2\n  port = {sink}", routers="all:\n driver = accept\n transport = smtp\n",
                  retry="* * F,2h,1s")
        send(b)
        b.wait_log(r"== box@peer.example .*Encryption needed")
        b.stop()
        with ScriptedServer({"EHLO": [CLEAR, OFFER]}, port=bad.port, tls=place.context()) as good:
            b.start()
            good.wait_messages(1)
            assert good.messages[0].sender.split()[-1] == "REQUIRETLS" and not bad.messages


def test_marks_share_no_connection(bulkhead, place):
    """One marked and one not, at once, to the same host: each on its own; two marked ones may share."""
    with ScriptedServer({"EHLO": ["250-x\r\n250 STARTTLS", OFFER, "250-x\r\n250 STARTTLS", OFFER]}, tls=place.context()) as server:
        b = relay(bulkhead, place, server)
        for n, sender in enumerate(("marked1@local.example", "marked2@local.example", "other@local.example")):
            send(b, sender=sender)
            server.wait_messages(n + 1)   # so that its connection waits for the next one
        of = [[m.sender.startswith("<marked") for m in s.messages] for s in server.sessions]
        assert [x for x in of if x] == [[True, True], [False]], of


# ---- callouts ----

CALLOUT_ACL = """
acl_check_rcpt:
  require verify = recipient/callout=5s,no_cache
  accept
mark:
  accept control = requiretls
"""


@pytest.mark.parametrize("inside,code", [(OFFER, "250"), (BARE, "530 5.7.4 REQUIRETLS support required")])
def test_callout(bulkhead, place, inside, code):
    with ScriptedServer({"EHLO": [CLEAR, inside]}, tls=place.context()) as server:
        b = bulkhead(sink=server.port, main="tls_directories = %s\nacl_smtp_mail = mark\n" % place.dir, acl=CALLOUT_ACL,
                     transports=TRANSPORTS % ("tls_verify_certificates = %s" % place.ca.pem))
        c = b.client()
        c.ask("EHLO client.example", 250)
        c.ask("MAIL FROM:<a@b.example>", 250)
        assert c.ask("RCPT TO:<box@peer.example>").startswith(code)
        if code != "250":
            b.wait_log(r"rejected RCPT <box@peer.example>: .*REQUIRETLS support required")


# ---- TLS-Required: No ----

FIELDS = {
    "one": (b"TLS-Required: No\r\n", True), "in any case": (b"tls-required:  NO \r\n", True), "folded": (b"TLS-Required:\r\n No\r\n", True),
    "yes": (b"TLS-Required: Yes\r\n", False), "two": (b"TLS-Required: No\r\nTLS-Required: No\r\n", False), "more": (b"TLS-Required: No, really\r\n", False),
}


@pytest.mark.parametrize("case", FIELDS)
def test_waived(bulkhead, place, case):
    """A certificate that our own side would refuse is no obstacle any more; without effect it is one, and the log says why."""
    field, works = FIELDS[case]
    with ScriptedServer(tls=place.context(name="foreign", ca=place.other)) as server:
        b = relay(bulkhead, place, server, "tls_verify_hosts = *")
        send(b, sender="a@b.example", content=field + MESSAGE)
        if works:
            server.wait_messages(1)
            b.wait_log(r"<= a@b.example .* TLSREQ=no ")
            b.wait_log(r"=> box@peer.example .* X=TLS\S+ CV=no")
        else:
            b.wait_log(r"TLS-Required: is without effect: (there is more than one|its value is not \"No\")")
            b.wait_log(r"== box@peer.example .*certificate verification failed")
            assert not server.messages and "TLSREQ" not in b.log()


@pytest.mark.parametrize("field, works", [(b"", False), (b"TLS-Required: No\r\n", True)])
def test_status_is_waived(bulkhead, place, field, works):
    """That the server staples none, though it should, is a certificate that can't be verified."""
    with ScriptedServer(tls=place.context()) as server:
        b = relay(bulkhead, place, server, "hosts_require_ocsp = *\n  tls_tempfail_tryclear = false")
        send(b, sender="a@b.example", content=field + MESSAGE)
        b.wait_log(r"=> box@peer.example .* X=TLS" if works else r"== box@peer.example .*certificate status")


@pytest.mark.parametrize("required", [False, True])
def test_waived_without_starttls(bulkhead, place, required):
    """hosts_require_tls is the administrator's, and stays."""
    with ScriptedServer() as server:
        b = relay(bulkhead, place, server, "hosts_require_tls = %s\n  tls_verify_hosts = *" % ("*" if required else ""))
        send(b, sender="a@b.example", content=b"TLS-Required: No\r\n" + MESSAGE)
        if required:
            b.wait_log(r"== box@peer.example .*a TLS session is required")
        else:
            server.wait_messages(1)


def test_the_mark_is_stronger(bulkhead, place):
    with ScriptedServer({"EHLO": [CLEAR, BARE]}, tls=place.context()) as server:
        b = relay(bulkhead, place, server, users=("marked",))
        send(b, content=b"TLS-Required: No\r\n" + MESSAGE)
        assert b"5.7.30" in b.wait_maildir("marked")[0]
        assert "TLSREQ" not in b.log() and not server.messages
