# SPDX-License-Identifier: ISC
"""TLS as the client: what is offered, demanded, verified and logged, against real servers and against one that misbehaves."""
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile

import pytest

from bulkhead import UID_BASE, free_port, wait_for
from certs import Authority
from dns_zone import have_nsd
from peers import Exim, TlsPostfix
from scripted_server import Close, Raw, Reset, ScriptedServer, Silent

KEYD = UID_BASE + 6
RETRY = "* * F,2h,1m"
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


class Place:
    """Certificates of servers and of ours, in a directory beside the instances' own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-tlsout-")
        os.chmod(self.dir, 0o755)
        self.ca = Authority(os.path.join(self.dir, "ca"))
        self.other = Authority(os.path.join(self.dir, "other"), "Other CA")
        self.made = {}

    def leaf(self, name="server", cn="server.example", ca=None, **kw):
        kw.setdefault("names", ["DNS:" + cn, "IP:127.0.0.1"])
        if name not in self.made:
            self.made[name] = (ca or self.ca).leaf(name, cn, **kw)
        return self.made[name]

    def ours(self):
        """The client's: its key is for keyd alone."""
        return self.leaf("ours", "client.example", owner=KEYD if os.geteuid() == 0 else None)

    def context(self, ask=None, version=None, ciphers=None, **kw):
        """A server's."""
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(*self.leaf(**kw))
        if version:
            ctx.minimum_version = ctx.maximum_version = version
        if ciphers:
            ctx.set_ciphers(ciphers)
        if ask:
            ctx.verify_mode = ask
            ctx.load_verify_locations(self.ca.pem)
        return ctx


@pytest.fixture(scope="module")
def place():
    p = Place()
    yield p
    shutil.rmtree(p.dir, ignore_errors=True)


def client(bulkhead, place, server, *options, main="", trust=True, **kw):
    """An instance whose mail goes to this server."""
    main = "tls_directories = %s\nlog_selector = +tls_peerdn +tls_sni +outgoing_port\n%s" % (place.dir, main)
    options = (("tls_verify_certificates = %s" % place.ca.pem,) if trust else ()) + options
    kw.setdefault("retry", RETRY)
    return bulkhead(sink=getattr(server, "port", server), main=main, transports=TRANSPORTS % "\n  ".join(options), **kw)


def send(b, subject="x", to="box@peer.example"):
    b.send("a@b.example", to, b"Subject: %s\r\n\r\nx\r\n" % subject.encode())


def verbs(session):
    return [c.split()[0] for c in session.commands]


def delivered(b, how):
    """The log line of the one delivery has this between address and confirmation."""
    return b.wait_log(r"=> box@peer.example R=sink T=smtp H=\S+ \[127.0.0.1\]:\d+ (?:TFO )?%s" % how)


X = r"X=TLS1.[23]:\S+:\d+ "
CLEAR = r"(?!.*X=)"


# ---- the dialogue ----

@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_dialogue(bulkhead, place, version):
    """EHLO, STARTTLS, EHLO again; what the log says of it."""
    with ScriptedServer(tls=place.context(version=getattr(ssl.TLSVersion, version))) as server:
        b = client(bulkhead, place, server, "tls_sni = server.example")
        send(b)
        server.wait_messages(1)
        delivered(b, r"X=TLS1.%s:\S+:256 CV=yes DN=\"CN=server.example\" SNI=\"server.example\"" % version[-1])
        server.wait_closed(1)
        assert verbs(server.sessions[0]) == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


def test_offers_are_read_anew(bulkhead, place):
    """What was offered in clear is forgotten: here SIZE and PIPELINING are, inside, no more."""
    with ScriptedServer({"EHLO": ["250-x\r\n250-SIZE 1\r\n250-PIPELINING\r\n250 STARTTLS", "250 x"]}, tls=place.context()) as server:
        b = client(bulkhead, place, server)
        send(b)
        server.wait_messages(1)
        assert server.messages[0].sender == "<a@b.example>"


def test_smtps(bulkhead, place):
    with ScriptedServer(tls=place.context(), smtps=True) as server:
        b = client(bulkhead, place, server, "protocol = smtps")
        send(b)
        server.wait_messages(1)
        delivered(b, X + "CV=yes")
        assert verbs(server.sessions[0])[:2] == ["EHLO", "MAIL"]


def test_smtps_port(bulkhead, place):
    """465, where nothing else is said."""
    routers = "all:\n driver = manualroute\n route_list = * 127.0.0.1\n transport = smtp\n self = send\n"
    b = client(bulkhead, place, 9, "protocol = smtps\n  command_timeout = 1s\n  connect_timeout = 1s", routers=routers)
    send(b)
    b.wait_log(r"\[127.0.0.1\]:465")


def test_large_message(bulkhead, place):
    """Several records in each direction, to a server that is slow to take them."""
    body = b"".join(b"line %d, and some words so that it is long enough to matter\r\n" % i for i in range(60000))
    for offers in (["PIPELINING", "STARTTLS"], ["PIPELINING", "CHUNKING", "STARTTLS"]):
        with ScriptedServer(tls=place.context(), offers=offers) as server:
            b = client(bulkhead, place, server, "")
            b.send("a@b.example", "box@peer.example", b"Subject: large\r\n\r\n" + body)
            server.wait_messages(1, 30)
            assert server.messages[0].content.endswith(body)
            delivered(b, X)
            b.stop()


# ---- TLS that is not to be had ----

class AfterHello(Raw):
    """Octets when the client has begun its handshake: sent before, they would be in clear behind the reply."""
    def run(self, session):
        session.sock.recv(1)
        return super().run(session)


REFUSALS = {
    "not offered": ({}, False), "454": ({"STARTTLS": "454 later"}, True), "502": ({"STARTTLS": "502 no"}, True),
    "closed": ({"tls": [Close(), Close()]}, True), "reset": ({"tls": Reset()}, True),
    "nonsense": ({"tls": AfterHello(b"what is this? " * 20)}, True),
    "slow": ({"tls": Silent()}, True),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("demand", ["none", "no tryclear", "require", "verify"])
def test_refusal(bulkhead, place, case, demand):
    """The table of specification 43.10."""
    script, offered = REFUSALS[case]
    option = {"none": "", "no tryclear": "tls_tempfail_tryclear = false", "require": "hosts_require_tls = *", "verify": "tls_verify_hosts = *"}[demand]
    handshake = "tls" in script
    clear = demand == "none" or case in ("not offered", "502") and demand != "require" or demand == "verify" and not handshake
    with ScriptedServer(script, tls=place.context() if offered else None) as server:
        b = client(bulkhead, place, server, "command_timeout = 1s", option)
        send(b)
        if clear:
            server.wait_messages(1)
            delivered(b, CLEAR)
            assert len(server.sessions) == (2 if handshake else 1)
            assert ("TLS session failure: delivering unencrypted to 127.0.0.1 [127.0.0.1] (not in hosts_require_tls): " in b.log()) == handshake
            if handshake:
                assert "STARTTLS" not in verbs(server.sessions[1])
        else:
            why = {"not offered": "a TLS session is required, but the server did not offer TLS support",
                   "454": "SMTP error from remote mail server after STARTTLS: 454 later", "502": "after STARTTLS: 502 no"}.get(case, "TLS session: ")
            b.wait_log(r"== box@peer.example R=sink T=smtp defer \(-?\d+\).*" + re.escape(why))
            assert not server.messages and all("MAIL" not in verbs(s) for s in server.sessions)
            assert len(server.sessions) == 1


def test_tls_required_is_a_retry_error(bulkhead, place):
    with ScriptedServer() as server:
        b = client(bulkhead, place, server, "hosts_require_tls = *", retry="* tls_required F,1s,1s\n* * F,2h,1h")
        send(b)
        server.wait_sessions(2, 20)
        b.wait_log(r"\*\* box@peer.example .*retry timeout exceeded")


@pytest.mark.parametrize("octets", [b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n", b"220 go\r\n\x16"])
def test_injected(bulkhead, place, octets):
    """More in clear behind the reply to STARTTLS: never taken as said inside, and no reason to go on in clear."""
    with ScriptedServer({"STARTTLS": Raw(octets)}, tls=place.context()) as server:
        b = client(bulkhead, place, server)
        send(b)
        b.wait_log(r"== box@peer.example .*octets in clear behind the reply to STARTTLS")
        server.wait_closed(1)
        assert len(server.sessions) == 1 and verbs(server.sessions[0]) == ["EHLO", "STARTTLS"]


def test_next_host(bulkhead, place):
    """The first host has no TLS, the second one has."""
    routers = "all:\n driver = accept\n transport = smtp\n"
    with ScriptedServer(tls=place.context()) as good, ScriptedServer(host="127.0.0.2", port=good.port) as bad:
        b = client(bulkhead, place, good, "hosts_require_tls = *\n  hosts = 127.0.0.2 : 127.0.0.1\n  port = {sink}", routers=routers)
        send(b)
        good.wait_messages(1)
        assert len(bad.sessions) == 1 and not bad.messages
        b.wait_log(r"=> box@peer.example .* H=127.0.0.1 \[127.0.0.1\]:\d+ " + X)


def test_avoided(bulkhead, place):
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, "hosts_avoid_tls = 127.0.0.1")
        send(b)
        server.wait_messages(1)
        delivered(b, CLEAR)
        assert "STARTTLS" not in verbs(server.sessions[0])


# ---- certificates ----

def test_client_certificate(bulkhead, place):
    """The server asks for one; keyd signs."""
    pem, key = place.ours()
    with ScriptedServer(tls=place.context(ask=ssl.CERT_REQUIRED)) as server:
        b = client(bulkhead, place, server, "hosts_require_tls = *\n  tls_certificate = %s\n  tls_privatekey = %s" % (pem, key))
        send(b)
        server.wait_messages(1)
        assert (("commonName", "client.example"),) in server.sessions[0].peercert["subject"]
        delivered(b, X + "CV=yes")


def test_no_client_certificate(bulkhead, place):
    """TLS 1.2: the handshake fails; asked for, but not demanded: it goes without."""
    with ScriptedServer(tls=place.context(ask=ssl.CERT_REQUIRED, version=ssl.TLSVersion.TLSv1_2)) as server:
        b = client(bulkhead, place, server, "hosts_require_tls = *")
        send(b)
        b.wait_log(r"== box@peer.example .*TLS session: SSL_connect: ")
        b.stop()
    with ScriptedServer(tls=place.context(ask=ssl.CERT_OPTIONAL)) as server:
        b = client(bulkhead, place, server, "hosts_require_tls = *")
        send(b)
        server.wait_messages(1)


def test_certificate_file_missing(bulkhead, place):
    """Said with its name; in clear where that may be."""
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, "tls_certificate = %s/nothing.pem" % place.dir)
        send(b)
        server.wait_messages(1)
        b.wait_log(r"TLS session failure: delivering unencrypted to .*nothing.pem")
        b.stop()
        b = client(bulkhead, place, server, "hosts_require_tls = *\n  tls_certificate = %s/nothing.pem" % place.dir)
        send(b)
        b.wait_log(r"== box@peer.example .*nothing.pem")
        assert len(server.messages) == 1


def test_keyd_killed(bulkhead, place):
    """Nothing goes in clear for it; mail is only late."""
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, retry="* * F,2h,1s")
        send(b, "one")
        server.wait_messages(1)
        for i in range(3):
            os.kill(wait_for(lambda: b.daemons("keyd")[0]["pid"]), signal.SIGKILL)   # 0: it waits for its restart
            send(b, "again %d" % i)
            server.wait_messages(2 + i, 30)
        assert all(s.tls for s in server.sessions if s.messages), [s.commands for s in server.sessions]
        b.wait_empty()


def test_chain_fails(bulkhead, place):
    """Of another authority: taken with CV=no, or refused; the log says that it is the chain."""
    with ScriptedServer(tls=place.context(name="foreign", ca=place.other)) as server:
        b = client(bulkhead, place, server)
        send(b)
        server.wait_messages(1)
        delivered(b, X + "CV=no DN=\"CN=server.example\"")
        assert re.search(r" [\w-]{16} \[127.0.0.1\] SSL verify error: depth=0 error=unable to get local issuer certificate cert=CN=server.example\n", b.log())
        assert b.log().count("SSL verify error") == 1
        b.stop()
        b = client(bulkhead, place, server, "tls_verify_hosts = *")
        send(b)
        b.wait_log(r"== box@peer.example .*TLS session: certificate verification failed: unable to get local issuer")
        assert len(server.messages) == 1
        b.stop()
        b = client(bulkhead, place, server, "tls_try_verify_hosts =")
        send(b)
        server.wait_messages(2)
        delivered(b, X + "CV=no")
        assert "SSL verify error" not in b.log()


def test_revoked(bulkhead, place):
    pem, _ = place.leaf("gone")
    place.ca.revoke(pem)
    crl = place.ca.crl()
    for name, ok in (("gone", False), ("server", True)):
        with ScriptedServer(tls=place.context(name=name)) as server:
            b = client(bulkhead, place, server, "tls_verify_hosts = *\n  tls_crl = %s" % crl)
            send(b)
            if ok:
                server.wait_messages(1)
            else:
                b.wait_log(r"== box@peer.example .*certificate verification failed: certificate revoked")
            b.stop()


def test_ciphers(bulkhead, place):
    with ScriptedServer(tls=place.context(version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")) as server:
        b = client(bulkhead, place, server, "hosts_require_tls = *\n  tls_require_ciphers = ECDHE-ECDSA-AES128-GCM-SHA256")
        send(b)
        server.wait_messages(1)
        delivered(b, "X=TLS1.2:ECDHE-ECDSA-AES128-GCM-SHA256:128")
        b.stop()
        b = client(bulkhead, place, server, "hosts_require_tls = *\n  tls_require_ciphers = ECDHE-ECDSA-AES256-GCM-SHA384")
        send(b)
        b.wait_log(r"== box@peer.example .*TLS session: SSL_connect: ")
        b.stop()
        b = client(bulkhead, place, server, "hosts_require_tls = *\n  tls_require_ciphers = no-such-cipher")
        send(b)
        b.wait_log(r"== box@peer.example .*TLS session: tls_require_ciphers: no cipher match")


def test_openssl_options(bulkhead, place):
    """The main option holds for the client, too."""
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, main="openssl_options = +no_tlsv1_3\n")
        send(b)
        server.wait_messages(1)
        delivered(b, "X=TLS1.2:")


def test_alpn(bulkhead, place):
    for chosen, require, ok in ((["smtp"], True, True), ([], True, False), ([], False, True)):
        ctx = place.context()
        ctx.set_alpn_protocols(chosen)
        with ScriptedServer(tls=ctx) as server:
            b = client(bulkhead, place, server, "hosts_require_tls = *\n  tls_alpn = smtp" + ("\n  hosts_require_alpn = *" if require else ""))
            send(b)
            if ok:
                server.wait_messages(1)
                assert server.sessions[0].alpn == (chosen[0] if chosen else None)
            else:
                b.wait_log(r"== box@peer.example .*the server chose no protocol \(ALPN\)")
            b.stop()


# ---- several messages, callouts, AUTH ----

def test_reuse(bulkhead, place):
    """A connection that waits is used again with its TLS; not where hosts_nopass_tls says so."""
    for option, sessions in (("", 1), ("hosts_nopass_tls = *", 3), ("hosts_noproxy_tls = *", 3)):
        with ScriptedServer(tls=place.context()) as server:
            b = client(bulkhead, place, server, "connection_idle_timeout = 20s", option, main="remote_max_parallel = 1\n")
            for i in range(3):
                send(b, "m%d" % i)
                server.wait_messages(i + 1)
                b.wait_empty()
            assert len(server.sessions) == sessions
            assert len(re.findall(r"=> box@peer.example .* X=TLS", b.log())) == 3
            b.stop()


def test_no_reuse_across_demands(bulkhead, place):
    """Two transports that differ in what they demand share no connection."""
    routers = """
strict:
  driver = manualroute
  domains = strict.example
  route_list = * 127.0.0.1::{sink}
  transport = strict
  self = send
lax:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""
    strict = "strict:\n  driver = smtp\n  allow_localhost\n  connection_idle_timeout = 20s\n  tls_verify_hosts = *\n  tls_verify_certificates = %s\n" % place.ca.pem
    with ScriptedServer(tls=place.context(name="foreign", ca=place.other)) as server:
        b = client(bulkhead, place, server, "connection_idle_timeout = 20s\n\n" + strict, routers=routers)
        send(b)
        server.wait_messages(1)
        b.wait_empty()
        send(b, to="box@strict.example")
        b.wait_log(r"== box@strict.example .*certificate verification failed")
        assert len(server.messages) == 1


def test_callout(bulkhead, place):
    """verify = recipient/callout speaks TLS as a delivery does; hosts_verify_avoid_tls is for it alone."""
    acl = "acl_check_rcpt:\n  require verify = recipient/callout=10s\n  accept\n"
    for option, secure in (("", True), ("hosts_verify_avoid_tls = *", False), ("hosts_require_tls = *\n  hosts_verify_avoid_tls = *", True)):
        with ScriptedServer(tls=place.context()) as server:
            b = client(bulkhead, place, server, option, acl=acl)
            send(b)
            server.wait_messages(1)
            assert server.sessions[0].tls == secure and server.sessions[-1].tls
            assert "DATA" not in verbs(server.sessions[0])
            b.stop()
    for kind, acl2 in (("R", acl), ("S", acl.replace("recipient/", "sender/"))):
        with ScriptedServer(tls=place.context(name="named", names=["DNS:other.example"])) as server:
            b = client(bulkhead, place, server, acl=acl2)
            send(b)
            server.wait_messages(1)
            b.wait_log(r"\d \[127.0.0.1\] SSL verify error \(during %s-verify for \[127.0.0.1\]\): certificate name mismatch: DN=\"CN=server.example\" H=\"127.0.0.1\"" % kind)
            b.stop()
    with ScriptedServer({"tls": Close()}, tls=place.context()) as server:
        b = client(bulkhead, place, server, acl=acl)
        send(b)
        server.wait_messages(1)
        assert [s.tls for s in server.sessions] == [False] * len(server.sessions)


AUTH = """
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^joe^s3cret
  client_condition = ${if def:tls_out_cipher}
  client_set_id = joe
"""


def test_auth_under_tls_only(bulkhead, place):
    """client_condition lets the password go under TLS alone."""
    for ctx, said in ((place.context(), True), (None, False)):
        with ScriptedServer(tls=ctx, offers=["AUTH PLAIN"] + ["STARTTLS"] * bool(ctx)) as server:
            b = client(bulkhead, place, server, "hosts_try_auth = *", retry=RETRY + "\n\nbegin authenticators\n" + AUTH)
            send(b)
            server.wait_messages(1)
            assert ("AUTH" in verbs(server.sessions[0])) == said
            delivered(b, X + r"CV=yes DN=\S+ A=plain:joe " if said else CLEAR)
            b.stop()


def test_external(bulkhead, place):
    """The certificate says who we are, EXTERNAL that it is meant so."""
    pem, key = place.ours()
    auth = """
ext:
  driver = external
  public_name = EXTERNAL
  client_send = joe
  client_set_id = joe
  client_condition = ${if def:tls_out_cipher}
"""
    with ScriptedServer(tls=place.context(ask=ssl.CERT_REQUIRED), offers=["STARTTLS", "AUTH EXTERNAL"]) as server:
        b = client(bulkhead, place, server, "hosts_require_auth = *\n  tls_certificate = %s\n  tls_privatekey = %s" % (pem, key),
                   retry=RETRY + "\n\nbegin authenticators\n" + auth)
        send(b)
        server.wait_messages(1)
        assert server.sessions[0].peercert and "AUTH EXTERNAL am9l" in server.sessions[0].commands
        delivered(b, X + r"CV=yes DN=\S+ A=ext:joe ")


# ---- names (features, section 23) ----

ZONE = """$ORIGIN names.example.
$TTL 300
@ IN SOA ns admin 1 3600 600 86400 60
@ IN NS ns
@ IN A 127.0.0.1
* IN A 127.0.0.1
a.b IN A 127.0.0.1
alias IN CNAME mail
xn--bcher-kva IN A 127.0.0.1
"""


@pytest.fixture(scope="module")
def nsd(place):
    if not have_nsd():
        pytest.skip("nsd is not installed")
    port, d = free_port(), os.path.join(place.dir, "nsd")
    os.makedirs(d)
    with open(os.path.join(d, "zone"), "w") as f:
        f.write(ZONE)
    with open(os.path.join(d, "nsd.conf"), "w") as f:
        f.write("server:\n ip-address: 127.0.0.1\n port: %d\n zonesdir: \"%s\"\n database: \"\"\n pidfile: \"%s/pid\"\n xfrdfile: \"%s/xfrd\"\n"
                " zonelistfile: \"%s/list\"\n username: \"\"\n chroot: \"\"\nremote-control:\n control-enable: no\n"
                "zone:\n name: names.example\n zonefile: zone\n" % (port, d, d, d, d))
    child = subprocess.Popen(["nsd", "-d", "-c", os.path.join(d, "nsd.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield port
    child.terminate()
    child.wait(20)


MAIL = "mail.names.example"


def san_der(name):
    """A dNSName of octets that the openssl command would not write."""
    return "DER:30%02x82%02x%s" % (len(name) + 2, len(name), name.hex())


SANS = ["DNS:h%d.many.example" % i for i in range(999)]
# what the certificate is called: (subject, alternative names), the host that we connect to, whether it is the host's
NAMES = {
    "right SAN": (("x", ["DNS:" + MAIL]), MAIL, True),
    "other case": (("x", ["DNS:MAIL.Names.EXAMPLE"]), MAIL, True),
    "wrong SAN, right CN": ((MAIL, ["DNS:other.example"]), MAIL, False),
    "CN only": ((MAIL, []), MAIL, True),
    "wrong CN": (("other.example", []), MAIL, False),
    "SAN of an address only, right CN": ((MAIL, ["IP:192.0.2.1"]), MAIL, True),
    "wildcard": (("x", ["DNS:*.names.example"]), MAIL, True),
    "wildcard, two labels": (("x", ["DNS:*.names.example"]), "a.b.names.example", False),
    "wildcard in CN": (("*.names.example", []), MAIL, True),
    "part of a label": (("x", ["DNS:m*.names.example"]), MAIL, False),
    "too wide": (("x", ["DNS:*.example"]), "names.example", False),
    "second label": (("x", ["DNS:mail.*.example"]), MAIL, False),
    "NUL": (("x", [san_der(MAIL.encode() + b"\0.evil.example")]), MAIL, False),
    "1000 SANs": (("x", SANS + ["DNS:" + MAIL]), MAIL, True),
    "1000 SANs, not ours": (("x", SANS + ["DNS:other.example"]), MAIL, False),
    "IDN": (("x", ["DNS:xn--bcher-kva.names.example"]), "xn--bcher-kva.names.example", True),
    "CNAME: the head of the chain": (("x", ["DNS:alias.names.example"]), "alias.names.example", True),
    "CNAME: its end": (("x", ["DNS:mail.names.example"]), "alias.names.example", False),
    "address": (("x", ["IP:127.0.0.1"]), "127.0.0.1", True),
    "address as a name": (("127.0.0.1", ["DNS:127.0.0.1"]), "127.0.0.1", False),
    "other address": (("x", ["IP:127.0.0.2"]), "127.0.0.1", False),
}


def test_names(bulkhead, place, nsd):
    """Each certificate under try, must, and with the host left out of tls_verify_cert_hostnames."""
    routers = """local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
""" + "\n".join("""%s:
  driver = manualroute
  domains = %s.test.example
  route_list = * $local_part_data::{sink}
  local_parts = mail.names.example : a.b.names.example : names.example : alias.names.example : xn--bcher-kva.names.example : 127.0.0.1
  transport = %s
  self = send
""" % (n, n, n) for n in ("try", "must", "unnamed"))
    transports = "".join("""%s:
  driver = smtp
  allow_localhost
  tls_verify_certificates = %s
  hosts_require_tls = *
  connection_max_messages = 1
  %s
""" % (n, place.ca.pem, o) for n, o in (("try", ""), ("must", "tls_verify_hosts = *"), ("unnamed", "tls_verify_hosts = *\n  tls_verify_cert_hostnames =")))
    # Without retry rules a failure is for good, and the host is tried again for the next certificate.
    with ScriptedServer(offers=["STARTTLS"]) as server:
        b = bulkhead(sink=server.port, routers=routers, transports=transports + TRANSPORTS[TRANSPORTS.index("maildir:"):], retry="",
                     main="tls_directories = %s\nlog_selector = +tls_peerdn\ndns_resolvers = 127.0.0.1#%d\nremote_max_parallel = 1\n" % (place.dir, nsd))
        for i, (case, ((cn, sans), host, ok)) in enumerate(NAMES.items()):
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(*place.ca.leaf("name%d" % i, cn, names=sans))
            server.tls = ctx
            before, n = b.log(), len(server.messages)
            for kind in ("try", "must", "unnamed"):
                b.send("joe@local.example", "%s@%s.test.example" % (host, kind), b"Subject: x\r\n\r\nx\r\n")
            want = [r"=> \S+@try.test.example.* CV=%s" % ("yes" if ok else "no"), r"=> \S+@unnamed.test.example.* CV=yes",
                    r"=> \S+@must.test.example.* CV=yes" if ok else r"\*\* \S+@must.test.example.*certificate verification failed: name mismatch: DN=\"CN="]

            def new():
                return b.log()[len(before):]
            for w in want:
                wait_for(lambda: re.search(w, new()), why=lambda: "%s: %s\n%s" % (case, w, new()))
            lines = re.findall(r"\S+ \[127.0.0.1\] SSL verify error: certificate name mismatch: DN=\"CN=%s\" H=\"%s\"" % (re.escape(cn), re.escape(host)), new())
            assert len(lines) == (0 if ok else 2), (case, new())
            assert len(server.messages) == n + (3 if ok else 2), case


# ---- stapled OCSP answers: Debian's Exim gives them ----

class OcspExim(Exim):
    more = ""

    def configure(self):
        super().configure()
        text = open(self.path("/etc/exim4/exim4.conf")).read()
        self.write("/etc/exim4/exim4.conf", text.replace("tls_advertise_hosts =\n", "tls_advertise_hosts = *\nlog_selector = +tls_peerdn +tls_sni\n"
                   "tls_certificate = /etc/exim4/server.pem\ntls_privatekey = /etc/exim4/server.key\n" + self.more))


def exim_with(place, name="server", files=(), more=""):
    class Here(OcspExim):
        def configure(self):
            self.more = more
            super().configure()
            pem, key = place.made[name]
            for src, dst in ((pem, "server.pem"), (key, "server.key"), (place.ca.pem, "ca.pem"), *files):
                shutil.copy(src, self.path("/etc/exim4/" + dst))
                os.chmod(self.path("/etc/exim4/" + dst), 0o644)
    return Here(None)


def test_exim(bulkhead, place):
    """Debian's Exim asks for a certificate, and lets nobody in without."""
    place.leaf()
    pem, key = place.ours()
    exim = exim_with(place, more="tls_verify_hosts = *\ntls_verify_certificates = /etc/exim4/ca.pem\n")
    try:
        b = client(bulkhead, place, exim, "hosts_require_tls = *\n  tls_verify_hosts = *\n  tls_sni = server.example\n  tls_certificate = %s\n  tls_privatekey = %s" % (pem, key))
        send(b, "by exim")
        exim.wait_mailbox(b"by exim")
        delivered(b, X + "CV=yes DN=\"CN=server.example\" SNI=\"server.example\" ")
        wait_for(lambda: re.search(r"<= a@b.example .* P=esmtps X=TLS1.3:\S+ CV=yes DN=\"CN=client.example\" SNI=\"?server.example", exim.log()), why=exim.log)
    finally:
        exim.close()


def test_ocsp(bulkhead, place):
    """hosts_require_ocsp: only with an answer; without the demand nobody minds."""
    pem, _ = place.leaf("stapled")
    for case in ("good", "none"):
        files, more = (), ""
        if case == "good":
            files, more = ((place.ca.ocsp(pem, "good.der"), "ocsp.der"),), "tls_ocsp_file = /etc/exim4/ocsp.der\n"
        exim = exim_with(place, "stapled", files, more)
        try:
            b = client(bulkhead, place, exim, "hosts_require_tls = *\n  hosts_require_ocsp = *")
            send(b, "ocsp " + case)
            if case == "good":
                exim.wait_mailbox(b"ocsp good")
            else:
                b.wait_log(r"== box@peer.example .*TLS session: the server gave no certificate status \(OCSP\), which is required")
                assert not exim.mailbox()
            b.stop()
            b = client(bulkhead, place, exim, "hosts_require_tls = *")
            send(b, "plainly " + case)
            exim.wait_mailbox(b"plainly " + case.encode())
            b.stop()
        finally:
            exim.close()


class SServer:
    """openssl s_server: TLS at once, and no word of SMTP behind it."""

    def __init__(self, pem, key, *argv):
        self.port = free_port()
        self.proc = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:%d" % self.port, "-cert", pem, "-key", key, *argv],
                                     stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.listens)

    def listens(self):
        """Without a connection, which would be its first."""
        return "0100007F:%04X" % self.port in open("/proc/net/tcp").read()

    def close(self):
        self.proc.kill()
        self.proc.wait(10)


def test_ocsp_revoked(bulkhead, place):
    """A certificate's own authority says that it holds no more; and the answer for another certificate."""
    bad, key = place.leaf("stapled_bad")
    place.ca.revoke(bad)
    good, _ = place.leaf("stapled")
    for of in (bad, good):
        server = SServer(bad, key, "-status_file", place.ca.ocsp(of, "revoked.der"))
        try:
            b = client(bulkhead, place, server, "protocol = smtps\n  hosts_require_ocsp = *")
            send(b)
            b.wait_log(r"== box@peer.example .*TLS session: the certificate's status \(OCSP\) is not good")
            b.stop()
        finally:
            server.close()


# ---- other real servers ----

def test_postfix(bulkhead, place):
    pem, key = place.leaf()
    postfix = TlsPostfix(pem, key)
    try:
        b = client(bulkhead, place, postfix, "tls_verify_hosts = *")
        for i in range(3):
            send(b, "to postfix %d" % i)
            postfix.wait_mailbox(b"to postfix %d" % i)
        delivered(b, X + "CV=yes")
        assert "TLS connection established from localhost" in postfix.log() or "TLS connection established" in postfix.log(), postfix.log()
    finally:
        postfix.close()
