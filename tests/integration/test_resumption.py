# SPDX-License-Identifier: ISC
"""TLS sessions are resumed: with real servers and clients, by other processes, and never where more is demanded than was found."""
import os
import re
import ssl
import subprocess

import pytest

from bulkhead import free_port, wait_for
from peers import Exim, Postfix
from scripted_server import Close, ScriptedServer
from test_hints_redis import Redis, redis
from test_tls_out import RETRY, TRANSPORTS, Place, place, send

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
