# SPDX-License-Identifier: ISC
"""SOCKS5 as the client: dante, microsocks, and proxies that are dead, silent, or say no."""
import re

import pytest

from bulkhead import Client, free_port, wait_for
from peers import Exim
from scripted_server import ScriptedServer
from socks_proxy import Dante, Microsocks, Scripted

LOGIN = ("proxyuser", "pr0xy-Secret")
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
ROUTERS = """
out:
  driver = manualroute
  route_list = * %s
  transport = smtp
  self = send
"""
LOG = "log_selector = +proxy +outgoing_port"


def start(bulkhead, sink, options, main=LOG, host=None, retry=None, **kw):
    port = sink if isinstance(sink, int) else sink.port
    return bulkhead(sink=port, transports=TRANSPORTS % options, main=main, routers=ROUTERS % (host if host else "127.0.0.1::%d" % port),
                    retry=retry or "* * F,2h,10m", **kw)


def send(b, rcpt="a@far.example"):
    b.send("s@x.example", [rcpt])


def closing(request, what):
    request.addfinalizer(what.close)
    return what


@pytest.fixture
def proxy(request):
    return lambda *a, **kw: closing(request, Scripted(*a, **kw))


@pytest.fixture(params=[Dante, Microsocks], ids=["dante", "microsocks"])
def server(request, tmp_path):
    return lambda login=None: closing(request, request.param(str(tmp_path / "proxy"), login))


def test_through(bulkhead, sink, server):
    p = server()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % p.port)
    send(b)
    sink.wait(1)
    line = b.wait_log("=> a@far.example")
    assert " H=127.0.0.1 [127.0.0.1]:%d PRX=[127.0.0.1]:%d " % (sink.port, p.port) in [l for l in b.log().split("\n") if "=> a@" in l][0], line


def test_login(bulkhead, sink, server):
    p = server(LOGIN)
    b = start(bulkhead, sink, "hide socks_proxy = 127.0.0.1 port=%d auth=name name=%s pass=%s" % (p.port, *LOGIN), main="log_selector = +proxy")
    send(b)
    sink.wait(1)
    b.wait_log(r"=> a@far.example .* PRX=\[127.0.0.1\] ")
    assert LOGIN[1] not in b.logs() and LOGIN[0] not in b.logs()


def test_wrong_login(bulkhead, sink, server):
    p = server(LOGIN)
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d auth=name name=%s pass=wrong-Secret" % (p.port, LOGIN[0]))
    send(b)
    b.wait_log(r"== a@far.example .* defer \(111\): Connection refused H=127.0.0.1 \[127.0.0.1\]:%d PRX=\[127.0.0.1\]:%d: proxy \[127.0.0.1\]:%d: it refused user "
               "name or password" % (sink.port, p.port, p.port))
    assert not sink.sessions
    assert "wrong-Secret" not in b.logs() and LOGIN[0] not in b.logs()


def test_login_wanted(bulkhead, sink, server):
    p = server(LOGIN)
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % p.port)
    send(b)
    b.wait_log("proxy .127.0.0.1.:%d: it wants authentication" % p.port)
    assert not sink.sessions


def test_not_logged_unless_selected(bulkhead, sink, proxy):
    p = proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % p.port, main="")
    send(b)
    b.wait_log("=> a@far.example")
    assert p.asked == [("127.0.0.1", sink.port)]
    assert "PRX" not in b.log()


@pytest.mark.parametrize("what, options, kind", [
    ("dead", "", None),
    ("silent", "tmo=1", dict(method=None)),
    ("closes", "", dict(method=b"")),
    ("no_method", "", dict(method=b"\x05\xff")),
    ("no_login", "auth=name name=u pass=p", dict(method=b"\x05\x00")),
    ("garbage", "", dict(method=b"220 smtp\r\n")),
    ("wrong_password", "auth=name name=u pass=p", dict(method=b"\x05\x02", login=b"\x01\x01")),
    ("general_failure", "", dict(reply=b"\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00")),
    ("not_allowed", "", dict(reply=b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")),
    ("no_connect", "", dict(reply=b"\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00")),
    ("closes_late", "", dict(reply=b"")),
])
def test_next_proxy(bulkhead, sink, proxy, what, options, kind):
    first = proxy(**kind).port if kind is not None else free_port()
    second = proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d %s : 127.0.0.1 port=%d" % (first, options, second.port))
    send(b)
    b.wait_log(r"=> a@far.example .* PRX=\[127.0.0.1\]:%d " % second.port)
    assert second.asked == [("127.0.0.1", sink.port)]


def test_priority(bulkhead, sink, proxy):
    low, high = proxy(), proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d weight=100 : 127.0.0.1 port=%d pri=2" % (low.port, high.port))
    for i in range(3):
        send(b, "a%d@far.example" % i)
    sink.wait(3)
    assert high.asked and not low.asked


@pytest.mark.parametrize("code, text, number", [(3, "network unreachable", 101), (4, "host unreachable", 113), (5, "connection refused", 111),
                                                (6, "TTL expired", -1)])
def test_target_is_at_fault(bulkhead, sink, proxy, code, text, number):
    first, second = proxy(reply=bytes([5, code]) + b"\x00\x01\x00\x00\x00\x00\x00\x00"), proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d : 127.0.0.1 port=%d" % (first.port, second.port))
    send(b)
    b.wait_log(r"== a@far.example .* defer \(%d\).* PRX=\[127.0.0.1\]:%d.*: %s, says the proxy \[127.0.0.1\]:%d" % (number, first.port, text, first.port))
    assert not second.peers and not sink.sessions


def test_target_refuses_dante(bulkhead, request, tmp_path, proxy):
    dead, second = free_port(), proxy()
    p = closing(request, Dante(str(tmp_path / "proxy")))
    b = start(bulkhead, dead, "socks_proxy = 127.0.0.1 port=%d : 127.0.0.1 port=%d" % (p.port, second.port))
    send(b)
    b.wait_log(r"== a@far.example .* defer \(111\): Connection refused H=127.0.0.1 \[127.0.0.1\]:%d PRX=.*: connection refused, says the proxy" % dead)
    assert not second.peers


def test_next_host(bulkhead, sink, proxy):
    """What a proxy says of one host holds for that host alone."""
    p = proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % p.port, host="127.0.0.2::%d:127.0.0.3::%d" % (sink.port, sink.port))
    p.answer = b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"
    send(b)
    b.wait_log("== a@far.example")
    assert [a[0] for a in p.asked] == ["127.0.0.2", "127.0.0.3"]


def test_each_host_has_its_own(bulkhead, sink, proxy):
    one, two = proxy(reply=b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"), proxy()
    b = start(bulkhead, sink, "socks_proxy = ${if eq{$host_address}{127.0.0.2}{127.0.0.1 port=%d}{localhost port=%d}}" % (one.port, two.port),
              host="127.0.0.2::%d:127.0.0.3::%d" % (sink.port, sink.port))
    two.answer = b"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"
    send(b)
    b.wait_log("== a@far.example .*host unreachable, says the proxy")
    assert [a[0] for a in one.asked] == ["127.0.0.2"] and [a[0] for a in two.asked] == ["127.0.0.3"]


def test_all_fail(bulkhead, sink, proxy):
    dead, closes = free_port(), proxy(method=b"")
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d : 127.0.0.1 port=%d" % (dead, closes.port))
    send(b)
    b.wait_log(r"== a@far.example .* defer \(111\): Connection refused .*: proxy \[127.0.0.1\]:%d: Connection refused; proxy \[127.0.0.1\]:%d: it closed the "
               "connection" % (dead, closes.port))


def test_retry_rules(bulkhead, sink, proxy):
    """All proxies out of reach: as a host that refuses, in the terms of retry rules."""
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % free_port(), retry="* refused\n* * F,2h,10m")
    send(b)
    b.wait_log(r"\*\* a@far.example .*proxy")


def test_connect_timeout_is_for_all(bulkhead, sink, proxy):
    silent = proxy(method=None)
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d tmo=60 : 127.0.0.1 port=%d tmo=60\n  connect_timeout = 1s" % (silent.port, silent.port))
    send(b)
    b.wait_log(r"== a@far.example .* defer \(110\): Connection timed out .*: no connection within connect_timeout; the last was the proxy "
               r"\[127.0.0.1\]:%d" % silent.port)


def test_ipv6(bulkhead, request, tmp_path):
    with ScriptedServer(host="::1") as target:
        p = closing(request, Dante(str(tmp_path / "proxy")))
        b = start(bulkhead, target.port, "socks_proxy = <; ::1 port=%d" % p.port, host='"</ [::1]:%d"' % target.port)
        send(b)
        target.wait_messages(1, 20)
        b.wait_log(r"=> a@far.example .* H=::1 \[::1\]:%d PRX=\[::1\]:%d " % (target.port, p.port))


@pytest.mark.parametrize("glued", [False, True])
@pytest.mark.parametrize("bound", [b"\x01\x7f\x00\x00\x01", b"\x04" + bytes(15) + b"\x01", b"\x03\x09proxy.far", b"\x03\x00", b"\x03\xff" + b"x" * 255])
def test_bound_addresses(bulkhead, sink, proxy, bound, glued):
    """A reply's address of any kind is read exactly: what the target says right behind it is not lost, nor taken for a part of it."""
    p = proxy(reply=b"\x05\x00\x00" + bound + b"\x00\x19", glued=glued)
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % p.port)
    send(b)
    sink.wait(1)
    b.wait_log("=> a@far.example")


def test_named_proxy(bulkhead, sink, request, tmp_path):
    p = closing(request, Dante(str(tmp_path / "proxy")))
    b = start(bulkhead, sink, "socks_proxy = nowhere.invalid : localhost port=%d" % p.port)
    send(b)
    b.wait_log(r"=> a@far.example .* PRX=\[(127.0.0.1|::1)\]:%d " % p.port)


def test_silent_proxy_holds_up_nobody(bulkhead, sink, proxy):
    silent = proxy(method=None)
    b = start(bulkhead, sink, "socks_proxy = ${if eq{$domain}{slow.example}{127.0.0.1 port=%d tmo=60}{}}" % silent.port)
    send(b, "a@slow.example")
    wait_for(lambda: silent.peers)
    send(b, "b@far.example")
    sink.wait(1)
    b.wait_log("=> b@far.example")
    assert "PRX" not in b.log(), "expanded to nothing: no proxy"
    assert "== a@slow.example" not in b.log()


def test_interface_binds_the_way_to_the_proxy(bulkhead, sink, proxy):
    p = proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d\n  interface = <; ::1 ; 127.0.0.3" % p.port)
    send(b)
    sink.wait(1)
    assert p.peers == ["127.0.0.3"]


def test_callout(bulkhead, sink, proxy):
    p = proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d" % p.port, acl="acl_check_rcpt:\n  accept verify = recipient/callout\n")
    c = b.client()
    c.ask("EHLO client.example", "250")
    c.ask("MAIL FROM:<s@x.example>", "250")
    c.ask("RCPT TO:<a@far.example>", "250")
    c.close()
    assert p.asked == [("127.0.0.1", sink.port)]


def test_waiting_connection_is_used_again(bulkhead, sink, proxy):
    p = proxy()
    b = start(bulkhead, sink, "socks_proxy = 127.0.0.1 port=%d\n  connection_idle_timeout = 30s" % p.port)
    send(b, "a@far.example")
    b.wait_log("=> a@far.example")
    send(b, "b@far.example")
    line = b.wait_log("=> b@far.example")
    sink.wait(2)
    assert len(p.peers) == 1
    assert re.search(r"=> b@far.example .*\]:%d\* PRX=\[127.0.0.1\]:%d " % (sink.port, p.port), b.log()), line


@pytest.mark.parametrize("value, why", [
    ("192.0.2.1 user=x", "there is no option .user=."),
    ("192.0.2.1 auth=name name=u", "auth=name needs name= and pass="),
    ("192.0.2.1 auth=name name=u pass=s3cret port=x", "port=: a number from 1 to 65535 is wanted"),
])
def test_mistakes(bulkhead, sink, value, why):
    """At load where the value is a constant, else when it is needed; passwords are not repeated."""
    b = start(bulkhead, sink, "socks_proxy = ${if eq{1}{1}{%s}}" % value)
    send(b)
    b.wait_log("== a@far.example .*transport smtp: socks_proxy: proxy 192.0.2.1: " + why)
    assert "s3cret" not in b.logs()


@pytest.mark.parametrize("way", ["starttls", "smtps"])
def test_tls_through_the_tunnel(bulkhead, sink, request, tmp_path, way):
    """What the target says behind the proxy's reply is TLS, or its banner."""
    there = bulkhead(sink=sink, main="tls_on_connect_ports = {port}" if way == "smtps" else "")
    p = closing(request, Dante(str(tmp_path / "proxy")))
    b = start(bulkhead, there.port, "socks_proxy = 127.0.0.1 port=%d\n  protocol = %s\n  hosts_require_tls = *" % (p.port, "smtps" if way == "smtps" else "smtp"))
    send(b)
    sink.wait(1)
    b.wait_log(r"=> a@far.example .* PRX=\[127.0.0.1\]:%d X=TLS" % p.port)
    there.wait_log(r"<= s@x.example .* P=esmtps ")


class SocksExim(Exim):
    socks = ""

    def configure(self):
        super().configure()
        text = open(self.path("/etc/exim4/exim4.conf")).read()
        self.write("/etc/exim4/exim4.conf", text.replace("hosts_avoid_tls = *", "hosts_avoid_tls = *\n  socks_proxy = " + self.socks).replace(
            "tls_advertise_hosts =", "tls_advertise_hosts =\nlog_selector = +proxy +outgoing_port"))


def test_exim_says_the_same(bulkhead, sink, request, tmp_path):
    """Debian's Exim through the same proxy: the same field at the same place in the line."""
    p = closing(request, Dante(str(tmp_path / "proxy"), LOGIN))
    value = "127.0.0.1 port=%d auth=name name=%s pass=%s" % (p.port, *LOGIN)
    kind = type("E", (SocksExim,), {"socks": value})
    e = closing(request, kind(sink.port))
    b = start(bulkhead, sink, "socks_proxy = " + value)
    send(b)
    c = Client(e.port)
    c.mail("s@x.example", ["a@far.example"], b"Subject: x\r\n\r\nbody\r\n")
    c.close()
    sink.wait(2)
    ours = wait_for(lambda: re.search(r"=> a@far.example .* (H=.*?) C=", b.log()))
    theirs = wait_for(lambda: re.search(r"=> a@far.example .* (H=.*?) C=", e.log()), why=e.log)
    ours, theirs = (re.sub(r" (L|K)\b", "", x.group(1)) for x in (ours, theirs))
    assert "PRX=[127.0.0.1]:%d" % p.port in ours
    # 4.96 takes the port for a number with a sign.
    assert ours == re.sub(r":(-\d+)$", lambda m: ":%d" % (int(m.group(1)) + 65536), theirs)
