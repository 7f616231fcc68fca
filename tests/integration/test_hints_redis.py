# SPDX-License-Identifier: ISC
"""Two machines (two instances) with one Redis: what one has learned the other knows; without Redis each goes on alone, and mail flows."""
import os
import re
import ssl
import subprocess

import pytest

from bulkhead import BIN, free_port, wait_for
from redis_server import redis
from test_tls import NAME, client, context, main as tls_main, place, secure

REDIS_PASSWORD = "s3same/@:x"
LIMIT = """
acl_check_rcpt:
  deny ratelimit = 4.5 / 1h / per_rcpt / strict / %s
  accept
"""


def refused(b, n, at="local.example"):
    c = b.client()
    c.ask("EHLO x.example", 250)
    c.ask("MAIL FROM:<a@b.example>", 250)
    return [not c.ask("RCPT TO:<joe@%s>" % at).startswith("250") for _ in range(n)]


def test_rates_are_shared(bulkhead, redis):
    a, b = (bulkhead(main="hide hints = " + redis.url, acl=LIMIT % "all") for _ in range(2))
    assert sum(refused(a, 3) + refused(b, 1)) == 0
    assert refused(a, 1) + refused(b, 2) == [True] * 3, "the fifth, wherever it comes"
    keys = redis.keys("*")
    assert keys and all(k.startswith("bulkhead:ratelimit:") for k in keys), keys
    assert all(int(redis.cli("TTL", k)) > 0 for k in keys)
    assert not os.path.exists(os.path.join(a.dir, "hints", "hints.mdb"))
    for i in (a, b):
        assert redis.password not in i.logs() and redis.password not in i.command("config", "show")


def test_redis_dies_and_mail_flows(bulkhead, redis):
    """Limits are not known then and hold nobody up; afterwards they count again."""
    a = bulkhead(main="hide hints = %s\nredis_timeout = 2s" % redis.url, acl=LIMIT % "all")
    assert refused(a, 6) == [False] * 4 + [True] * 2
    redis.stop()
    assert a.client().mail("r@b.example", "joe@local.example", b"x\r\n").startswith("250")
    a.wait_maildir("joe")
    a.wait_log(r"hints: .*127.0.0.1:\d+/2: .*: going on without")
    a.wait_log(r"ratelimit: hints: .*: statement passed over")
    redis.start()
    wait_for(lambda: refused(a, 1) == [True], 40, 0.5)
    assert "hints: within reach again" in a.log() and redis.password not in a.logs()


ROUTERS = """
away:
  driver = manualroute
  domains = far.example
  route_list = * 127.0.0.1
  transport = smtp
  self = send
"""


def test_retry_times_are_shared(bulkhead, redis):
    """A host that one machine found dead is not tried by the next one that comes up."""
    port = free_port()
    kw = dict(routers=ROUTERS, transports="smtp:\n  driver = smtp\n  port = %d\n" % port,
              retry="* * F,1d,1h\n")
    kw["acl"] = "acl_check_rcpt:\n  accept\n"
    a = bulkhead(main="hide hints = " + redis.url, **kw)
    a.client().mail("a@b.example", "x@far.example", b"x\r\n")
    a.wait_log(r"== x@far.example .*(Connection refused|refused)")
    wait_for(lambda: redis.keys("bulkhead:retry:T:*"), 20)
    b = bulkhead(main="hide hints = " + redis.url, **kw)
    b.client().mail("a@b.example", "x@far.example", b"x\r\n")
    line = b.wait_log(r"== x@far.example.*").group(0)
    assert "retry time not reached" in line and "refused" not in b.log(), line


# ---- keys of session tickets ----

SECRET = "0123456789abcdef-by-chance"


def resumed(b, ctx, session):
    c = client(b)
    c.ask("EHLO x.example", 250)
    c.ask("STARTTLS", 220)
    c.f.close()
    return ctx.wrap_socket(c.sock, server_hostname=NAME, session=session).session_reused


def session_of(b, ctx):
    return secure(b, ctx).sock.session


def tickets(redis):
    return sorted(redis.keys("bulkhead:tickets:*"))


def test_tickets_are_taken_by_the_other_machine(bulkhead, redis, place):
    place.leaf()
    more = "tls_resumption_hosts = *\nhide hints = %s\nhide tls_ticket_secret = %s\ntls_ticket_key_time = 20s\n" % (redis.url, SECRET)
    a, b = (bulkhead(main=tls_main(place, more)) for _ in range(2))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        ctx = context(place.ca.pem, version)

        def both_ways():
            one, two = secure(a, ctx), secure(b, ctx)
            for c in (one, two):
                c.ask("EHLO x.example", 250)   # TLS 1.3: the ticket comes behind the handshake
            return resumed(b, ctx, one.sock.session) and resumed(a, ctx, two.sock.session)
        wait_for(both_ways, 20, 0.5)
    # After the next rotation: what was made before, and what is made now.
    ctx = context(place.ca.pem, ssl.TLSVersion.TLSv1_2)
    old, before = session_of(a, ctx), tickets(redis)
    wait_for(lambda: tickets(redis)[-1] != before[-1], 40, 0.2)
    assert resumed(b, ctx, old) and resumed(a, ctx, old)
    wait_for(lambda: resumed(b, ctx, session_of(a, ctx)) and resumed(a, ctx, session_of(b, ctx)), 15, 0.5)
    # The key lies wrapped, and not for ever.
    last = tickets(redis)[-1]
    assert 0 < int(redis.cli("TTL", last)) <= 40 and int(redis.cli("STRLEN", last)) == 109
    assert SECRET not in a.logs() + b.logs() and SECRET not in a.command("config", "show")


def test_tickets_without_the_same_secret(bulkhead, redis, place):
    """No secret: nothing is shared. Another secret, or garbage in Redis: said once; each resumes its own sessions."""
    place.leaf()
    base = "tls_resumption_hosts = *\nhide hints = %s\n" % redis.url
    ctx = context(place.ca.pem, ssl.TLSVersion.TLSv1_2)
    a = bulkhead(main=tls_main(place, base + "hide tls_ticket_secret = %s\n" % SECRET))
    wait_for(lambda: tickets(redis), 20)
    b = bulkhead(main=tls_main(place, base + "hide tls_ticket_secret = %s\n" % SECRET[::-1]))
    c = bulkhead(main=tls_main(place, base))
    b.wait_log("was not wrapped with our tls_ticket_secret")
    for one in (a, b, c):
        session = session_of(one, ctx)
        assert [resumed(other, ctx, session) for other in (a, b, c)] == [other is one for other in (a, b, c)]
    redis.cli("-x", "SET", tickets(redis)[-1], input=b"\0" * 109)
    b.command("restart", "router")
    assert resumed(b, ctx, session_of(b, ctx))
    assert b.log().count("was not wrapped") == 1


def test_tickets_when_redis_is_away(bulkhead, redis, place):
    place.leaf()
    more = "tls_resumption_hosts = *\nhide hints = %s\nhide tls_ticket_secret = %s\nredis_timeout = 1s\n" % (redis.url, SECRET)
    ctx = context(place.ca.pem, ssl.TLSVersion.TLSv1_2)
    redis.stop()
    a, b = (bulkhead(main=tls_main(place, more)) for _ in range(2))
    old = session_of(a, ctx)
    assert resumed(a, ctx, old) and not resumed(b, ctx, old)
    redis.start()
    wait_for(lambda: resumed(b, ctx, session_of(a, ctx)), 60, 1)


def test_a_secret_that_is_none(tmp_path):
    conf = tmp_path / "c"
    for text, want in (("tls_ticket_secret = short\nhints = redis://h", ":1: .*at least 16 octets"), ("\nhints = memcached://h", ":2: .*write lmdb, or redis"),
                       ("tls_ticket_secret = " + SECRET, ":1: warning: .*does nothing"), ("\nhints = redis://:secret@h:0", ":2: .*the port is no number")):
        conf.write_text(text + "\nprimary_hostname = m.a.example\nacl_smtp_rcpt = accept\n")
        out = subprocess.run([BIN, "-C", str(conf), "check-config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
        assert re.search(want, out), out
        assert "secret@" not in out
