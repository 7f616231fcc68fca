# SPDX-License-Identifier: ISC
"""PROXY headers: who the client is, what a bad header leads to, haproxy in front of us."""
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import time

import pytest

from bulkhead import Client, free_port, wait_for

MAIN = """
hosts_proxy = 127.0.0.1 : ::1
log_selector = +proxy +incoming_interface +smtp_connection
acl_smtp_connect = acl_connect
host_lookup =
"""
ACL = r"""
acl_connect:
  warn logwrite = session=$proxy_session local=$proxy_local_address/$proxy_local_port target=$proxy_external_address/$proxy_external_port \
                  host=$sender_host_address/$sender_host_port received=$received_ip_address/$received_port
  accept
acl_check_rcpt:
  accept domains = +local_domains
  deny message = relay not permitted
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(family="TCP4", source="192.0.2.1", target="198.51.100.2", sport=40000, dport=25):
    return ("PROXY %s %s %s %s %s\r\n" % (family, source, target, sport, dport)).encode()


def v2(source="192.0.2.1", target="198.51.100.2", sport=40000, dport=25, tlvs=b"", command=0x21):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    payload = socket.inet_pton(family, source) + socket.inet_pton(family, target) + struct.pack(">HH", sport, dport) + tlvs
    return SIGNATURE + struct.pack(">BBH", command, 0x21 if family == socket.AF_INET6 else 0x11, len(payload)) + payload


@pytest.fixture
def proxied(bulkhead):
    return bulkhead(main=MAIN, acl=ACL)


def connected(b, header, source=("127.0.0.1", 0)):
    c = b.client(greet=False, source=source)
    c.send(header)
    return c


def acl_line(b, pattern="session="):
    return b.wait_log("%s.*" % pattern).group(0)


@pytest.mark.parametrize("header, host, target", [
    (v1(), "192.0.2.1/40000", "198.51.100.2/25"),
    (v1("TCP6", "2001:db8::1", "2001:db8::2", 1, 65535), "2001:db8::1/1", "2001:db8::2/65535"),
    (v2(), "192.0.2.1/40000", "198.51.100.2/25"),
    (v2("2001:db8::1", "2001:db8::2", 5, 6), "2001:db8::1/5", "2001:db8::2/6"),
    (v2("::ffff:192.0.2.9", "::ffff:192.0.2.10", 5, 6), "192.0.2.9/5", "::ffff:192.0.2.10/6"),
    (v2(tlvs=b"\x04\x07\xd0" + b"x" * 2000), "192.0.2.1/40000", "198.51.100.2/25"),
    (b"PROXY UNKNOWN\r\n", None, "/0"), (v2(command=0x20), None, "/0"),
])
@pytest.mark.parametrize("pieces", [False, True])
def test_who_the_client_is(proxied, header, host, target, pieces):
    c = proxied.client(greet=False)
    if pieces and len(header) < 200:
        for octet in header:
            c.send(bytes([octet]))
            time.sleep(0.002)
    else:
        c.send(header)
    assert c.reply().startswith("220 ")
    line = acl_line(proxied)
    peer = "127.0.0.1/%d" % c.sock.getsockname()[1]
    assert " local=%s " % peer in line and "session=yes" in line and " target=%s " % target in line, line
    assert " host=%s " % (host or peer) in line and line.endswith("received=127.0.0.1/%d" % proxied.port), line
    c.ask("EHLO client.example", 250)
    c.mail("a@sender.example", ["joe@local.example"], b"Subject: s\r\n\r\nx\r\n")
    got = proxied.wait_maildir("joe")[0].decode()
    address = (host or peer).rsplit("/", 1)[0]
    assert "[%s]" % address in got.split("Subject:")[0]
    proxied.wait_log(r"<= a@sender\.example H=\(client\.example\) \[%s\] I=\[127\.0\.0\.1\]:%d P=esmtp PRX=127\.0\.0\.1 S=" % (re.escape(address), proxied.port))


def test_who_need_not_send_a_header(proxied):
    c = proxied.client(source=("127.0.0.2", 0))
    assert "session=no local=/0 target=/0 host=127.0.0.2/" in acl_line(proxied)
    c.ask("EHLO client.example", 250)


def test_who_must_not_send_a_header(proxied):
    c = connected(proxied, v1(), ("127.0.0.2", 0))
    said = c.reply()
    if said.startswith("220"):   # the header came after the greeting had gone
        said = c.reply()
    assert re.match("5", said), said


@pytest.mark.parametrize("header, why", [
    (v1(sport=0), "a port is no number"), (v1("TCP6"), "an address is not of the family"), (v1("UDP4"), "the family is none of"),
    (b"PROXY TCP4 192.0.2.1\r\n", "five words"), (b"EHLO client.example\r\n", "no PROXY header"), (SIGNATURE + b"\x31\x11\0\0", "unknown version"),
    (v2()[:13] + b"\x12" + v2()[14:], "the family is none"),
])
def test_bad_headers(proxied, header, why):
    c = connected(proxied, header)
    reply = c.reply()
    proxied.wait_log(r"H=\[127\.0\.0\.1\] I=\S+ proxy header refused: .*%s" % why)
    assert reply.startswith("554 "), "what is no header is input before the greeting"
    assert "session=yes local=/0 target=/0 host=127.0.0.1/" in acl_line(proxied)


def test_no_header_in_time(bulkhead):
    b = bulkhead(main=MAIN + "proxy_protocol_timeout = 1s\n", acl=ACL)
    for part in (b"", b"PROXY TCP4 192.0.2.1 ", v2()[:20]):
        c = connected(b, part)
        assert c.reply().startswith("220 ")
        for command in ("EHLO client.example", "MAIL FROM:<a@b.example>", "RSET", "NOOP", "STARTTLS"):
            assert c.ask(command).startswith("503 5.5.1 Command refused, required Proxy negotiation failed"), command
        c.ask("QUIT", 221)
    assert len(re.findall("proxy header refused: it did not come in time", b.log())) == 3


def test_closing_instead(proxied):
    connected(proxied, b"PROXY TCP4").close()
    proxied.wait_log("unexpected disconnection while waiting for the proxy's header from .*127.0.0.1")

@pytest.mark.parametrize("early", [True, False])
def test_commands_behind_the_header_are_early(bulkhead, early):
    """The client's, so that PIPECONNECT may permit them."""
    b = bulkhead(main=MAIN + "pipelining_connect_advertise_hosts = %s\n" % ("192.0.2.1" if early else ""), acl=ACL)
    c = connected(b, v2() + b"EHLO client.example\r\n")
    if early:
        assert c.reply().startswith("220 ") and "PIPECONNECT" in c.reply()
        return
    assert c.reply().startswith("554 ")
    b.wait_log(r"synchronization error \(input sent without waiting for greeting\).*\[192\.0\.2\.1\]")


def test_limits_are_the_clients(bulkhead):
    b = bulkhead(main=MAIN + "smtp_accept_max_per_host = 2\n", acl=ACL.replace(
        "  accept\n", "  defer message = slow down\n        ratelimit = 3 / 1h / per_conn / strict\n  accept\n", 1))
    kept = []
    for source, want in (("192.0.2.1", "220"), ("192.0.2.1", "220"), ("192.0.2.1", "421"), ("192.0.2.2", "220"), ("192.0.2.2", "220")):
        c = connected(b, v1(source=source))
        assert c.reply().startswith(want), source
        kept.append(c)
    for c in kept:
        c.close()
    for source, want in (("192.0.2.1", "421 4.3.0 slow down"), ("192.0.2.3", "220")):
        assert connected(b, v1(source=source)).reply().startswith(want), source


def test_headers_that_do_not_come_hold_nobody_up(bulkhead):
    b = bulkhead(main=MAIN + "smtp_accept_max = 2000\nproxy_protocol_timeout = 5m\nsmtpd_processes = 1\n", acl=ACL)
    waiting = [connected(b, b"PROXY ") for _ in range(300)]
    c = connected(b, v1())
    assert c.reply().startswith("220 ")
    assert not select.select([w.sock for w in waiting], [], [], 0.2)[0]
    for w in waiting:
        w.close()


@pytest.mark.parametrize("header", [v1(), v2()])
def test_tls_begins_behind_the_header(bulkhead, header):
    b = bulkhead(main=MAIN + "tls_on_connect_ports = {port}\n", acl=ACL)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    ours, wire = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ctx.wrap_bio(ours, wire)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    c = b.client(greet=False)
    c.send(header + wire.read())   # in one piece: not an octet of the handshake may be read with the header
    while True:
        ours.write(c.sock.recv(65536))
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            c.send(wire.read())
    c.send(wire.read())
    greeting = b""
    while not greeting.endswith(b"\n"):
        try:
            greeting += tls.read(1000)
        except ssl.SSLWantReadError:
            ours.write(c.sock.recv(65536))
    assert greeting.startswith(b"220 ")
    assert "host=192.0.2.1/40000" in acl_line(b)


HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
frontend f
  bind 127.0.0.1:%(front)d
  bind ::1:%(front)d
  default_backend b
backend b
  server s 127.0.0.1:%(back)d %(send)s %(check)s
"""


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_haproxy(proxied, tmp_path, send, address):
    front = free_port()
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(HAPROXY % dict(front=front, back=proxied.port, send=send, check="check inter 200ms check-send-proxy"))
    with subprocess.Popen(["haproxy", "-db", "-f", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        try:
            c = wait_for(lambda: reached(address, front))
            c.ask("EHLO client.example", 250)
            c.mail("a@sender.example", ["joe@local.example"], b"Subject: s\r\n\r\nx\r\n")
            proxied.wait_log(r"<= a@sender\.example H=\(client\.example\) \[%s\] I=\[127\.0\.0\.1\]:%d P=esmtp PRX=127\.0\.0\.1 " % (
                re.escape(address), proxied.port))
            own = c.sock.getsockname()[1]
            assert re.search(r"target=%s/%d host=%s/%d " % (re.escape(address), front, re.escape(address), own), proxied.log())
            # health checks are its own: LOCAL in version 2, its own addresses in version 1
            proxied.wait_log(r"session=yes local=127\.0\.0\.1/(\d+) target=%s host=127\.0\.0\.1/\1 " % ("/0" if "v2" in send else r"127\.0\.0\.1/\d+"))
        finally:
            p.terminate()


def reached(address, port):
    try:
        return Client(port, address)
    except (OSError, AssertionError):
        return None
