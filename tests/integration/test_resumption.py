# SPDX-License-Identifier: ISC
"""TLS sessions are resumed: with real servers and clients, by other processes, and never where more is demanded than was found."""
import os
import re
import shutil
import ssl
import subprocess

import pytest

from bulkhead import Client, free_port, wait_for
from peers import Exim, Postfix, TlsPostfix
from scripted_server import Close, ScriptedServer
from redis_server import redis
from test_tls import NAME, Place as ServerPlace, context, main as tls_main
from test_tls_out import RETRY, TRANSPORTS, Place, exim_with, place, send

STAR = r"X=TLS1.[23]:[^ *]+:\d+\* "
NO_STAR = r"X=TLS1.[23]:[^ *]+:\d+ "
MAIN = "log_selector = +tls_resumption +tls_certificate_verified +outgoing_port\n"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def client(bulkhead, place, server, *options, main="", selectors=MAIN, trust=True, **kw):
    main = "tls_directories = %s\n%s%s" % (place.dir, selectors, main)
    options = (("tls_verify_certificates = %s" % place.ca.pem,) if trust else ()) + options
    kw.setdefault("retry", RETRY)
    return bulkhead(sink=getattr(server, "port", server), main=main, transports=TRANSPORTS % "\n  ".join(options), **kw)


def sender(bulkhead, place, server, *options, main="", **kw):
    # A connection for each message.
    return client(bulkhead, place, server, "tls_resumption_hosts = *", "connection_max_messages = 1", *options, main=main, **kw)


def lines(b):
    return re.findall(r"=> box@peer.example.*", b.log())


def mail(b, n=1):
    """Sends so many, one after the other; returns whether each was resumed."""
    for _ in range(n):
        before = len(lines(b))
        send(b)
        wait_for(lambda: len(lines(b)) > before, 30, why=b.logs)
    got = [re.search(r"X=TLS1.[23]:[^ *]+:\d+(\*?) ", line) for line in lines(b)[-n:]]
    assert all(got), lines(b)
    return [bool(g.group(1)) for g in got]


@pytest.mark.parametrize("version", [V12, V13])
def test_resumed(bulkhead, place, version):
    """By every process, from the second on, after reload and restart of smtp-out and of router too; what was verified stays verified."""
    with ScriptedServer(tls=place.context(version=version)) as server:
        b = sender(bulkhead, place, server, main="smtp_out_processes = 3\n")
        assert mail(b, 5) == [False, True, True, True, True]
        for command in (["reload"], ["restart", "smtp-out"], ["restart", "router"]):
            b.command(*command)
            assert mail(b) == [True], command
        assert all(" CV=yes " in line for line in lines(b))
        assert [s.resumed for s in server.sessions] == [False] + [True] * 7


def test_not_without_the_option(bulkhead, place):
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, "connection_max_messages = 1")
        assert mail(b, 2) == [False, False]


def test_the_star_is_selected(bulkhead, place):
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, "connection_max_messages = 1", "tls_resumption_hosts = *", selectors="")
        assert mail(b, 2) == [False, False]


def test_smtps(bulkhead, place):
    with ScriptedServer(tls=place.context(), smtps=True) as server:
        b = sender(bulkhead, place, server, "protocol = smtps")
        assert mail(b, 2) == [False, True]


def test_a_ticket_of_13_serves_once(bulkhead, place):
    """Of two connections at one time with one ticket, one is resumed: the ticket is gone from the hints while it is used."""
    ctx = place.context(version=V13)
    ctx.num_tickets = 1
    with ScriptedServer(tls=ctx) as server:
        b = sender(bulkhead, place, server)
        assert mail(b) == [False]
        ctx.num_tickets = 0
        assert mail(b, 2) == [True, False]


def test_a_server_that_forgets(bulkhead, place):
    """Another server with other keys at the same address: a whole handshake, no error."""
    port = free_port()
    for version in (V12, V13):
        with ScriptedServer(tls=place.context(version=version), port=port) as server:
            b = sender(bulkhead, place, server)
            assert mail(b, 2) == [False, True]
        with ScriptedServer(tls=place.context(version=version), port=port) as server:
            assert mail(b, 2) == [False, True]
        b.stop()


# ---- what is demanded ----

STRICTER = [
    ("tls_sni = other.example", True), ("tls_require_ciphers = ECDHE+AESGCM", True), ("tls_alpn = smtp", True),
    ("interface = 127.0.0.2", True), ("tls_verify_cert_hostnames =", True), ("tls_verify_cert_hostnames =\n  hosts_request_ocsp =", True),
    ("tls_verify_hosts = *\n  tls_verify_cert_hostnames = *", False),     # the last: no other is tried then
]


def test_never_where_more_is_demanded(bulkhead, place):
    """What one transport's sessions verified is nothing to another that demands more, or just something else."""
    routers = "\n".join("r%d:\n  driver = manualroute\n  domains = d%d.example\n  route_list = * 127.0.0.1::{sink}\n  transport = %s\n  self = send\n" % (i, i, t)
                        for i, t in enumerate(["smtp"] + ["t%d" % i for i in range(len(STRICTER))]))
    more = "".join("t%d:\n  driver = smtp\n  allow_localhost\n  tls_resumption_hosts = *\n  connection_max_messages = 1\n  %s\n%s" % (
        i, o, "  tls_verify_certificates = %s\n" % place.other.pem) for i, (o, _) in enumerate(STRICTER))
    with ScriptedServer(tls=place.context()) as server:
        b = client(bulkhead, place, server, "tls_resumption_hosts = *", "connection_max_messages = 1", "tls_verify_certificates = %s\n\n%s" % (place.other.pem, more),
                   trust=False, routers=routers)

        def go(i):
            done = r"(=>|==) box@d%d.example.*" % i
            before = len(re.findall(done, b.log()))
            send(b, to="box@d%d.example" % i)
            wait_for(lambda: len(re.findall(done, b.log())) > before, 30)
            return [m.group(0) for m in re.finditer(done, b.log())][-1]
        assert re.search(NO_STAR + "CV=no", go(0)) and re.search(STAR + "CV=no", go(0))
        for i, (option, delivers) in enumerate(STRICTER):
            line = go(i + 1)
            assert bool(re.search(NO_STAR, line)) == delivers, (option, line)
            assert delivers or "certificate verification failed" in line
            if delivers:
                assert re.search(STAR, go(i + 1)), option
                assert re.search(STAR, go(0)), "its own session is untouched"


def test_certificates_that_were_not_valid_stay_so(bulkhead, place):
    """CV= of a resumed session is that of the handshake that made it."""
    with ScriptedServer(tls=place.context(name="foreign", ca=place.other)) as server:
        b = sender(bulkhead, place, server)
        assert mail(b, 2) == [False, True]
        assert all(" CV=no " in line for line in lines(b))


# ---- forged entries ----

@pytest.mark.parametrize("version", [V12, V13])
def test_forged_entries_are_harmless(bulkhead, place, redis, version):
    """Cut, altered, of another host, of nobody: whole handshakes, and then it goes on as before. Nothing in the store is a session in clear."""
    ctx = place.context(version=version)
    with ScriptedServer(tls=ctx) as server, ScriptedServer(tls=place.context(version=version)) as other:
        b = sender(bulkhead, place, server, main="hide hints = %s\n" % redis.url)
        o = sender(bulkhead, place, other, main="hide hints = %s\n" % redis.url)
        assert mail(b, 2) == [False, True]
        key, = redis.keys("bulkhead:tls:*")
        assert mail(o) == [False]
        foreign, = [k for k in redis.keys("bulkhead:tls:*") if k != key]
        assert 0 < int(redis.cli("TTL", key)) <= 86400
        size = int(redis.cli("STRLEN", key))
        assert size > 300 and "server.example" not in redis.cli("GET", key)
        for forge in (["SETRANGE", key, "200", "xyz"], ["SETRANGE", key, str(size - 1), "x"], ["SETRANGE", key, "0", "\x02"], ["COPY", foreign, key, "REPLACE"],
                      ["SET", key, "1 1 9999999999999 0 4 3\nx"], ["SET", key, ""], ["APPEND", key, "x"], ["SET", key, "x" * 70000]):
            before = redis.cli("GET", key)
            redis.cli(*forge)
            assert redis.cli("GET", key) != before, forge
            assert mail(b) == [False], forge
            assert mail(b) == [True], forge
        redis.cli("DEL", key)
        redis.cli("LPUSH", key, "x")
        assert mail(b) == [False]
        redis.cli("DEL", key)
        # The store dies, and mail flows.
        redis.stop()
        assert mail(b, 2) == [False, False]


def test_machines_share_sessions(bulkhead, place, redis):
    """Two machines with one Redis and one secret; without the secret each has its own."""
    with ScriptedServer(tls=place.context()) as server:
        text = "hide hints = %s\nhide tls_ticket_secret = 0123456789abcdef\n" % redis.url
        a, b = (sender(bulkhead, place, server, main=text) for _ in range(2))
        c = sender(bulkhead, place, server, main=text.split("\n")[0] + "\n")
        assert mail(a) == [False]
        assert mail(b) == [True]
        assert mail(c) == [False]
        assert mail(c) == [True]


def test_hints_in_a_file_are_sealed(bulkhead, place):
    with ScriptedServer(tls=place.context(version=V12)) as server:
        b = sender(bulkhead, place, server)
        assert mail(b, 2) == [False, True]
        path = os.path.join(b.dir, "hints", "hints.mdb")
        with open(path, "rb") as f:
            octets = f.read()
        assert b"tls:" in octets and b"server.example" not in octets
        assert os.stat(path).st_mode & 0o077 == 0


def test_a_server_that_chokes_on_a_session(bulkhead, place):
    """It is not offered once more."""
    with ScriptedServer({}, tls=place.context(version=V12)) as server:
        b = sender(bulkhead, place, server, "hosts_require_tls = *", retry="* * F,2h,1s")
        assert mail(b, 2) == [False, True]
        server.script["tls"] = [Close()]
        send(b)
        b.wait_log(r"== box@peer.example .*TLS session")
        server.script["tls"] = []
        wait_for(lambda: len(lines(b)) == 3, 30)
        assert re.search(NO_STAR, lines(b)[-1])


# ---- a required status (OCSP) ----

def test_ocsp_of_a_resumed_session(bulkhead, place):
    """Exim staples an answer; where one is required a resumed session has it still. One that was made without does not serve where it is required."""
    pem, _ = place.leaf("stapled")
    files = ((place.ca.ocsp(pem, "good.der"), "ocsp.der"),)
    exim = exim_with(place, "stapled", files, "tls_ocsp_file = /etc/exim4/ocsp.der\ntls_resumption_hosts = *\n")
    try:
        b = sender(bulkhead, place, exim, "hosts_require_tls = *", "hosts_require_ocsp = *")
        assert mail(b, 3) == [False, True, True]
        b.stop()
    finally:
        exim.close()
    exim = exim_with(place, "stapled", (), "tls_resumption_hosts = *\n")
    try:
        both = "hosts_require_ocsp = ${if eq{$h_subject:}{strict}{*}{}}"
        b = sender(bulkhead, place, exim, "hosts_require_tls = *", both)
        assert mail(b, 2) == [False, True]
        send(b, "strict")
        b.wait_log(r"== box@peer.example .*certificate status \(OCSP\), which is required")
        b.stop()
    finally:
        exim.close()


# ---- real servers and clients ----

def test_postfix_as_the_server(bulkhead, place):
    pem, key = place.leaf()
    postfix = TlsPostfix(pem, key)
    try:
        b = sender(bulkhead, place, postfix, "tls_verify_hosts = *")
        # It gives no ticket where one was taken, and we take none twice.
        assert mail(b, 4) == [False, True, False, True]
    finally:
        postfix.close()


@pytest.mark.parametrize("version", ["", "tls_require_ciphers = NORMAL:-VERS-TLS1.3\n"])
def test_exim_as_the_server(bulkhead, place, version):
    """GnuTLS, TLS 1.3 and 1.2."""
    place.leaf()
    exim = exim_with(place, more="tls_resumption_hosts = *\n" + version)
    try:
        b = sender(bulkhead, place, exim, "hosts_require_tls = *", "tls_verify_hosts = *")
        assert mail(b, 3) == [False, True, True]
    finally:
        exim.close()


@pytest.fixture
def server_place():
    p = ServerPlace()
    yield p
    shutil.rmtree(p.dir, ignore_errors=True)


DECODE = """
acl_mail:
  accept logwrite = BITS $tls_in_resumption ${listextract{${eval:$tls_in_resumption+1}}{_RESUME_DECODE}}
acl_check_rcpt:
  accept
"""


def s_client(b, *argv):
    """A mail by openssl's client; its output, and what it was logged as."""
    dialogue = [b"EHLO x.example", b"MAIL FROM:<a@b.example>", b"RCPT TO:<joe@local.example>", b"QUIT"]
    p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % b.port, "-starttls", "smtp", "-quiet", *argv], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    replies = []
    for line in dialogue:
        p.stdin.write(line + b"\r\n")
        p.stdin.flush()
        while True:
            replies.append(p.stdout.readline())
            if not replies[-1] or replies[-1][3:4] == b" ":
                break
    out, err = p.communicate(timeout=30)
    return b"".join(replies) + out


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_as_the_client(bulkhead, server_place, tmp_path, version):
    """The bits of $tls_in_resumption, and their names, for a first and a resumed session; a client that is not in the list gets no ticket."""
    server_place.leaf()
    b = bulkhead(main=tls_main(server_place, "tls_resumption_hosts = !127.0.0.2 : *\nacl_smtp_mail = acl_mail\n"), acl=DECODE)
    keep = str(tmp_path / "session")
    s_client(b, version, "-sess_out", keep)
    assert os.path.getsize(keep) > 0
    b.wait_log(r"BITS 11 client requested new ticket, server provided$")
    s_client(b, version, "-sess_in", keep)
    # TLS 1.3: each ticket serves once, so there is a new one with each handshake.
    b.wait_log(r"BITS %s$" % ("23 session resumed" if version == "-tls1_2" else "31 session resumed, also new ticket"))
    s_client(b, version, "-bind", "127.0.0.2:0", "-sess_in", keep)
    b.wait_log(r"BITS [0-7] client offered session")


def test_reconnect(bulkhead, server_place):
    """openssl s_client -reconnect: five more handshakes by one session."""
    server_place.leaf()
    b = bulkhead(main=tls_main(server_place, "tls_resumption_hosts = *\ntls_on_connect_ports = {port}\n"))
    p = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % b.port, "-tls1_2", "-reconnect"], input=b"QUIT\r\n", stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=60)
    out = p.stdout.decode("latin-1")
    assert out.count("\nNew, ") == 1 and out.count("\nReused, ") == 5, out


def test_exim_as_the_client(bulkhead, server_place):
    server_place.leaf()
    b = bulkhead(main=tls_main(server_place, "tls_resumption_hosts = *\n"))

    class TlsExim(Exim):
        def configure(self):
            super().configure()
            text = open(self.path("/etc/exim4/exim4.conf")).read()
            self.write("/etc/exim4/exim4.conf", text.replace("hosts_avoid_tls = *", "hosts_require_tls = *\n  tls_resumption_hosts = *\n  tls_verify_hosts =\n"
                       "  tls_try_verify_hosts =\n  hosts_try_chunking =\n  connection_max_messages = 1"))
    exim = TlsExim(b.port)
    try:
        for i in range(2):
            c = Client(exim.port)
            assert c.mail("p%d@b.example" % i, "joe@local.example", b"Subject: by exim\r\n\r\nx\r\n").startswith("250")
            c.ask("QUIT", 221)
            b.wait_log(r"<= p%d@b.example .* P=esmtps X=TLS1.3:\S+" % i)
        assert re.search(r"<= p1@b.example .* X=TLS1.3:[^ *]+\* ", b.log()), b.log()
        assert not re.search(r"<= p0@b.example .* X=TLS1.3:\S+\* ", b.log())
    finally:
        exim.close()


def test_postfix_as_the_client(bulkhead, server_place):
    server_place.leaf()
    b = bulkhead(main=tls_main(server_place, "tls_resumption_hosts = *\n"))
    peer = Postfix(b.port)
    try:
        with open(peer.path("/etc/postfix/main.cf"), "a") as f:
            f.write("smtp_tls_security_level = encrypt\nsmtp_tls_loglevel = 2\nsmtp_tls_session_cache_database = btree:/var/lib/postfix/smtp_scache\n")
        subprocess.run(["chroot", peer.root, "postfix", "reload"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for i in range(2):
            c = Client(peer.port)
            assert c.mail("p%d@b.example" % i, "joe@local.example", b"Subject: by postfix\r\n\r\nx\r\n").startswith("250")
            c.ask("QUIT", 221)
            b.wait_log(r"<= p%d@b.example .* P=esmtps X=TLS1.3:" % i)
        assert re.search(r"<= p1@b.example .* X=TLS1.3:[^ *]+\* ", b.log()), b.log() + peer.log()
    finally:
        peer.close()


# ---- machines behind one address ----

@pytest.fixture
def balanced(place, tmp_path):
    """Two servers, which share no keys, in turns behind one port."""
    servers = [ScriptedServer({"EHLO": "250-m%d.lb.example hello\r\n250 STARTTLS" % i}, tls=place.context()) for i in (1, 2)]
    port, conf = free_port(), tmp_path / "haproxy.cfg"
    conf.write_text("defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\nlisten smtp\n bind 127.0.0.1:%d\n balance roundrobin\n%s" % (
        port, "".join(" server s%d 127.0.0.1:%d\n" % (i, s.port) for i, s in enumerate(servers))))
    p = subprocess.Popen(["haproxy", "-db", "-f", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with servers[0], servers[1]:
        wait_for(lambda: ":%04X " % port in open("/proc/net/tcp").read(), 20)
        yield port
    p.terminate()
    p.wait(10)


@pytest.mark.parametrize("rule,resumed", [
    ("host_name_extract = ${if match{$item}{\\N^250-([\\w.]+)\\s\\N}{$1}}", [False, False, True, True, True]), ("", [False] * 5), ("host_name_extract =", [False] * 5),
    ("host_name_extract = ${if eq{$host}{127.0.0.1}{${lookup{$item}nothing{/x}}}}", None)])
def test_behind_a_load_balancer(bulkhead, place, balanced, rule, resumed):
    """Which machine it is tells its reply to EHLO. Without that each is offered the other's session, in vain."""
    if resumed is None:
        with pytest.raises(AssertionError, match="host_name_extract"):
            sender(bulkhead, place, balanced, rule)
        return
    b = sender(bulkhead, place, balanced, rule, "hosts_require_tls = *")
    first = mail(b)      # the channel to router is asked for: nothing is kept where the name is asked there
    got = first + mail(b, 5)
    assert [] not in (got,) and (got[-4:] == resumed[-4:] or got[-3:] == resumed[-3:]), got


def test_a_name_that_cannot_be_expanded(bulkhead, place):
    """Then nothing is kept and nothing offered, and mail flows."""
    with ScriptedServer(tls=place.context()) as server:
        b = sender(bulkhead, place, server, "host_name_extract = ${if eq{$item}{}{x}fail}")
        assert mail(b, 3) == [False, False, False]


@pytest.mark.parametrize("version", [V12, V13])
def test_the_clients_certificate_in_a_resumed_session(bulkhead, server_place, version):
    """It is not shown again, and known all the same: verified, with its name."""
    server_place.leaf()
    pem, key = server_place.ca.leaf("ann", "ann", names=())
    b = bulkhead(main=tls_main(server_place, "tls_resumption_hosts = *\ntls_try_verify_hosts = *\ntls_verify_certificates = %s\nacl_smtp_mail = acl_mail\n"
                               % server_place.ca.pem), acl="""
acl_mail:
  require verify = certificate
  accept logwrite = DN=$tls_in_peerdn V=$tls_in_certificate_verified R=${if >{$tls_in_resumption}{15}{yes}{no}} P=${length_27:$tls_in_peercert}
acl_check_rcpt:
  accept
""")
    ctx = context(server_place.ca.pem, version, cert=(pem, key))
    session = None
    for resumed in ("no", "yes"):
        c = Client(b.port)
        c.ask("EHLO x.example", 250)
        c.ask("STARTTLS", 220)
        c.f.close()
        c.sock = ctx.wrap_socket(c.sock, server_hostname=NAME, session=session)
        c.f = c.sock.makefile("rb")
        c.ask("EHLO x.example", 250)
        c.ask("MAIL FROM:<a@b.example>", 250)
        session = c.sock.session
        b.wait_log(r"DN=CN=ann V=1 R=%s P=-----BEGIN CERTIFICATE-----" % resumed)
        c.close()
