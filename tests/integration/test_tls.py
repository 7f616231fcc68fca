# SPDX-License-Identifier: ISC
"""TLS as the server: handshakes of all kinds, keys that only keyd has, certificates that change, clients that prove who they are."""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import pytest

from bulkhead import SANITIZED, UID_BASE, Client, free_port, wait_for
from certs import Authority, fingerprint
from peers import Exim, Postfix

KEYD = UID_BASE + 6
NAME = "mx.test.example"
MAIN = """
tls_directories = {dir}/tls
tls_certificate = {dir}/tls/mx.pem
tls_privatekey = {dir}/tls/mx.key
log_selector = +tls_peerdn +tls_sni +smtp_protocol_error
"""


class TlsClient(Client):
    def wrap(self, ctx, name=NAME):
        """Into TLS, at once; what comes after is encrypted."""
        self.f.close()
        self.sock = ctx.wrap_socket(self.sock, server_hostname=name)
        self.f = self.sock.makefile("rb")
        return self

    def starttls(self, ctx, name=NAME, helo="client.example"):
        if helo:
            assert "STARTTLS" in self.ask("EHLO " + helo, 250)
        self.ask("STARTTLS", "220 ")
        return self.wrap(ctx, name)

    def theirs(self):
        return fingerprint(ssl.DER_cert_to_PEM_cert(self.sock.getpeercert(True)))


def context(ca=None, version=None, cert=None, ciphers=None):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        ctx.load_verify_locations(ca)
    else:
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    if version:
        ctx.minimum_version = ctx.maximum_version = version
    if cert:
        ctx.load_cert_chain(*cert)
    if ciphers:
        ctx.set_ciphers(ciphers)
    return ctx


class Place:
    """A directory of certificates beside the instance's own; {tls} in configurations."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-tls-")
        os.chmod(self.dir, 0o755)
        self.owner = KEYD if os.geteuid() == 0 else None
        self.ca = Authority(self.dir)

    def leaf(self, name="mx", cn=NAME, **kw):
        kw.setdefault("names", ["DNS:" + cn])
        return self.ca.leaf(name, cn, owner=self.owner, **kw)

    def path(self, name):
        return os.path.join(self.dir, name)


@pytest.fixture
def place():
    p = Place()
    yield p
    shutil.rmtree(p.dir, ignore_errors=True)


def main(place, more="", cert=True):
    text = "tls_directories = %s\nlog_selector = +tls_peerdn +tls_sni +smtp_protocol_error +tls_resumption +tls_on_connect\n" % place.dir
    if cert:
        text += "tls_certificate = %s\ntls_privatekey = %s\n" % (place.path("mx.pem"), place.path("mx.key"))
    return text + more


def client(b, **kw):
    return TlsClient(b.port, **kw)


def secure(b, ctx, **kw):
    c = client(b)
    c.starttls(ctx, **kw)
    return c


def s_client(port, *argv, input=b"QUIT\r\n", starttls=True, check=True):
    p = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, *(["-starttls", "smtp"] if starttls else []), *argv],
                       input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    out = p.stdout.decode("latin-1")
    assert not check or "Server certificate" in out, out
    return out


# ---- the handshake, and what follows from it ----

@pytest.mark.parametrize("version,ver,cipher", [
    (ssl.TLSVersion.TLSv1_3, "TLS1.3", "TLS_AES_256_GCM_SHA384"), (ssl.TLSVersion.TLSv1_2, "TLS1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")])
def test_starttls(bulkhead, place, version, ver, cipher):
    place.leaf()
    b = bulkhead(main=main(place))
    c = secure(b, context(place.ca.pem, version))
    assert c.sock.version() == ver.replace("TLS", "TLSv")
    assert c.ask("MAIL FROM:<a@b.example>").startswith("503"), "EHLO was forgotten"
    offer = c.ask("EHLO inside.example", 250)
    assert "STARTTLS" not in offer and "PIPELINING" in offer
    assert c.ask("STARTTLS").startswith("503")
    assert c.mail("a@b.example", "joe@local.example", b"Subject: x\r\n\r\nsecret\r\n", helo=None).startswith("250")
    c.ask("QUIT", 221)
    assert c.at_end()
    got = b.wait_maildir("joe")[0].decode()
    std = cipher if ver == "TLS1.3" else "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    assert re.search(r"with esmtps\s+\(%s\) tls %s" % (ver, std), got), got
    b.wait_log(r"<= a@b.example H=\(inside.example\) \[127.0.0.1\] P=esmtps X=%s:%s:256 CV=no SNI=\"%s\" S=" % (ver, cipher, NAME))
    assert " DN=" not in b.log()


def test_self_signed(bulkhead):
    """Nothing is configured: STARTTLS is offered all the same, with a certificate made at start, for our name."""
    b = bulkhead()
    c = secure(b, context())
    text = subprocess.run(["openssl", "x509", "-noout", "-subject", "-ext", "subjectAltName"], stdout=subprocess.PIPE,
                          input=ssl.DER_cert_to_PEM_cert(c.sock.getpeercert(True)).encode()).stdout.decode()
    assert "CN = mx.test.example" in text and "DNS:mx.test.example" in text
    c.ask("EHLO x.example", 250)
    c.ask("QUIT", 221)
    assert secure(b, context()).theirs() == c.theirs()


def test_not_advertised(bulkhead):
    b = bulkhead(main="tls_advertise_hosts = ! 127.0.0.1 : *\n")
    c = client(b)
    assert "STARTTLS" not in c.ask("EHLO x.example", 250)
    assert c.ask("STARTTLS") == "503 5.5.1 STARTTLS command used when not advertised"
    c.mail("a@b.example", "joe@local.example", b"x\r\n")


def test_clients_that_leave(bulkhead, place):
    """With a farewell of TLS or without one: the session ends, and the log says so."""
    place.leaf()
    b = bulkhead(main=main(place))
    for name, leave in (("bye.example", lambda c: c.sock.unwrap()), ("gone.example", lambda c: c.sock.shutdown(socket.SHUT_WR))):
        c = secure(b, context(place.ca.pem))
        c.ask("EHLO " + name, 250)
        c.f.close()
        leave(c)
        b.wait_log(r"unexpected disconnection while reading SMTP command from \(%s\) \[127.0.0.1\]" % name)
        c.sock.close()
    wait_for(lambda: b.daemons("smtpd")[0]["counters"]["open"] == 0, why=lambda: b.command("status"))


def test_half_a_record(bulkhead, place):
    """The rest of a record comes later, or never: others are served meanwhile, and its own time runs."""
    place.leaf()
    b = bulkhead(main=main(place, "smtp_command_timeout = 20s\nsmtp_receive_timeout = 8s\n"))

    def halves():
        """A session, and the two halves of a record with a command."""
        c = client(b)
        c.ask("EHLO half.example", 250)
        c.ask("STARTTLS", 220)
        incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context(place.ca.pem).wrap_bio(incoming, out, server_hostname=NAME)
        while True:
            try:
                tls.do_handshake()
                c.sock.sendall(out.read())
                break
            except ssl.SSLWantReadError:
                c.sock.sendall(out.read())
                incoming.write(c.sock.recv(65536))
        tls.write(b"EHLO half.example\r\n")
        record = out.read()
        return c, tls, incoming, record[:len(record) // 2], record[len(record) // 2:]
    for cut in (1, 3, 5, 6, None):
        c, tls, incoming, one, two = halves()
        one, two = (one, two) if cut is None else ((one + two)[:cut], (one + two)[cut:])
        c.send(one)
        secure(b, context(place.ca.pem)).ask("EHLO other.example", 250)
        c.send(two)
        incoming.write(c.sock.recv(65536))
        assert tls.read(1000).startswith(b"250-")
        c.close()
    c, tls, incoming, one, two = halves()
    c.send(one)
    assert c.sock.recv(65536)             # 421 in TLS
    b.wait_log(r"SMTP command timeout on connection from \[127.0.0.1\]")
    assert b.daemons("smtpd")[0]["state"] == "ready"


def test_large_message(bulkhead, place):
    """Many records, both ways, pipelined; octet by octet what was sent."""
    place.leaf()
    b = bulkhead(main=main(place, "smtp_accept_max_per_connection = 0\n"))
    c = secure(b, context(place.ca.pem))
    c.ask("EHLO x.example", 250)
    c.send("".join("MAIL FROM:<a@b.example>\r\nRSET\r\n" for _ in range(500)) + "MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@local.example>\r\nDATA\r\n")
    for _ in range(1002):
        assert c.reply().startswith("250")
    assert c.reply().startswith("354")
    body = b"Subject: large\r\n\r\n" + b"".join(b"%07d %s\r\n" % (i, b"x" * (i % 900)) for i in range(20000))
    assert c.data(body).startswith("250")
    assert b.wait_maildir("joe")[0].split(b"\n", 8)[-1].replace(b"\r\n", b"\n").endswith(body[-5000:].replace(b"\r\n", b"\n"))
    assert len(b.maildir("joe")[0].replace(b"\r\n", b"\n")) > len(body) - 20100
    # All there at once, and more than fits into one read, whose end falls into the last record: nothing more comes that would wake anybody.
    pid = b.daemons("smtpd")[0]["pid"]
    for size in (10000, 13000, 15000):
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200000)
        c.ask("MAIL FROM:<a@b.example>", 250)
        c.ask("RCPT TO:<joe@local.example>", 250)
        c.ask("DATA", 354)
        os.kill(pid, signal.SIGSTOP)
        count = 131072 // size + 1
        try:
            for i in range(count):
                line = b"x" * 998 + b"\r\n"
                c.send(line * (size // 1000) if i < count - 1 else line * (size // 1000 - 1) + b"x" * 993 + b"\r\n.\r\n")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert c.reply().startswith("250"), size
    # The same with commands, one of which is cut by the end of the read.
    text = b"MAIL FROM:<a@b.example>\r\nRSET\r\n" * 4290
    os.kill(pid, signal.SIGSTOP)
    try:
        for i in range(0, len(text), 15000):
            c.send(text[i:i + 15000])
    finally:
        os.kill(pid, signal.SIGCONT)
    for i in range(8580):
        assert c.reply().startswith("250"), i


def test_chunks_inside(bulkhead, sink, place):
    """BDAT under TLS: records and chunks do not end at the same octets, and none of a refused chunk is a command."""
    place.leaf()
    b = bulkhead(sink=sink, main=main(place))
    c = secure(b, context(place.ca.pem))
    c.ask("EHLO x.example", 250)
    body = b"Subject: x\r\n\r\n" + b"".join(b"line %d\r\n" % i for i in range(40000))
    pieces = [body[i:i + 9973] for i in range(0, len(body), 9973)]
    c.send(b"BDAT 20000\r\n" + b"QUIT\r\n" * 3333 + b"\r\n" + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@far.example>\r\n" +
           b"".join(b"BDAT %d\r\n" % len(p) + p for p in pieces) + b"BDAT 0 LAST\r\n")
    assert [c.reply()[:3] for _ in range(len(pieces) + 4)] == ["503", "250", "250"] + ["250"] * len(pieces) + ["250"]
    assert sink.wait(1)[0][2].endswith(body)
    b.wait_log(r"<= a@b.example .* P=esmtps X=\S+ CV=no .*K S=%d" % len(body))


def test_on_connect(bulkhead, place):
    """The port of smtps: TLS before the first word; the greeting and the connect ACL come inside."""
    place.leaf()
    tls_port = free_port()
    port = free_port()
    b = bulkhead(port="%d : %d" % (port, tls_port), main=main(place, """
tls_on_connect_ports = %d
acl_smtp_connect = acl_connect
""" % tls_port), acl="""
acl_connect:
  accept logwrite = connect cipher=$tls_in_cipher port=$received_port
acl_check_rcpt:
  accept encrypted = * : !*
  deny
""")
    b.port = port
    c = TlsClient(tls_port, greet=False)
    c.wrap(context(place.ca.pem))
    assert c.reply().startswith("220 " + NAME)
    assert "STARTTLS" not in c.ask("EHLO x.example", 250)
    assert c.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
    b.wait_log(r"connect cipher=TLS1.3:\S+ port=%d$" % tls_port)
    b.wait_log(r"<= a@b.example .* P=esmtps X=\S+ tls_on_connect CV=no ")
    plain = client(b)
    b.wait_log(r"connect cipher= port=%d$" % b.port)
    assert "STARTTLS" in plain.ask("EHLO x.example", 250)
    # HELO instead: smtps
    c = TlsClient(tls_port, greet=False).wrap(context(place.ca.pem))
    c.reply()
    c.ask("HELO x.example", 250)
    c.mail("b@b.example", "joe@local.example", b"x\r\n", helo=None)
    b.wait_log(r"<= b@b.example .* P=smtps X=")
    # Somebody who speaks SMTP there hears nothing in clear.
    c = TlsClient(tls_port, greet=False)
    c.send("EHLO x.example\r\n")
    try:
        rest = c.sock.recv(1000)
    except ConnectionResetError:
        rest = b""
    assert b"220" not in rest and b"250" not in rest
    b.wait_log(r"TLS error on connection from \[127.0.0.1\] \(SSL_accept\): ")


def test_facts(bulkhead, place):
    """What ACLs and routers can know of a session, in clear and in TLS."""
    place.leaf()
    place.leaf("client", "the client", names=())
    text = ("ver=$tls_in_ver bits=$tls_in_bits cipher=$tls_in_cipher std=$tls_in_cipher_std sni=$tls_in_sni dn=$tls_in_peerdn cv=$tls_in_certificate_verified "
            "ocsp=$tls_in_ocsp "
            "ours=${certextract{subject}{$tls_in_ourcert}} theirs=${certextract{subject}{$tls_in_peercert}} proto=$received_protocol")
    b = bulkhead(main=main(place, "tls_try_verify_hosts = *\ntls_verify_certificates = %s\nacl_smtp_mail = acl_mail\n" % place.ca.pem), acl="""
acl_mail:
  warn logwrite = FACTS %s
  warn encrypted = *
       logwrite = IS encrypted
  warn encrypted = TLS1.3::TLS_AES_256_GCM_SHA384::256
       logwrite = IS that cipher
  warn encrypted = DES-CBC3-SHA
       logwrite = IS another cipher
  warn verify = certificate
       logwrite = IS verified
  accept
acl_check_rcpt:
  accept
""" % text, routers="""
all:
  driver = redirect
  data = :blackhole:
  address_data = x
  condition = ${if eq{$tls_in_cipher}{}{no}{yes}}
clear:
  driver = redirect
  data = :fail: in clear
""")
    client(b).mail("clear@b.example", "x@y.example", b"x\r\n")
    b.wait_log(r"FACTS ver= bits=0 cipher= std= sni= dn= cv=0 ocsp=0 ours= theirs= proto=esmtp$")
    assert "IS " not in b.log()
    c = secure(b, context(place.ca.pem, cert=(place.path("client.pem"), place.path("client.key"))))
    c.mail("secure@b.example", "x@y.example", b"x\r\n")
    b.wait_log(r"FACTS ver=TLS1.3 bits=256 cipher=TLS1.3:TLS_AES_256_GCM_SHA384:256 std=TLS_AES_256_GCM_SHA384 sni=mx.test.example dn=CN=the client cv=1 ocsp=0 "
               r"ours=CN=mx.test.example theirs=CN=the client proto=esmtps$")
    assert "IS encrypted" in b.log() and "IS that cipher" in b.log() and "IS verified" in b.log() and "IS another" not in b.log()
    b.wait_log(r"<= secure@b.example .* P=esmtps X=\S+ CV=yes DN=\"CN=the client\" SNI=")
    b.wait_log(r"=> :blackhole: <x@y.example>")


# ---- nothing that came before counts after ----

def test_injection(bulkhead, place):
    """Commands behind STARTTLS in clear are neither answered in TLS nor taken: 554, and the connection goes."""
    place.leaf()
    b = bulkhead(main=main(place, "smtp_enforce_sync = false\nacl_smtp_starttls = acl_tls\n"), acl="""
acl_tls:
  accept condition = ${if eq{$sender_helo_name}{slow.example}}
         delay = 2s
  accept
acl_check_rcpt:
  accept
""")
    for helo, pieces in (("x.example", [b"STARTTLS\r\nRSET\r\n"]), ("x.example", [b"STARTTLS\r\n\0"]), ("x.example", [b"STARTTLS\r\nSTARTTLS\r\n"]),
                         ("slow.example", [b"STARTTLS\r\n", b"MAIL FROM:<evil@x.example>\r\n"]), ("slow.example", [b"START", b"TLS\r\nNO", b"OP\r\n"])):
        c = client(b)
        c.ask("EHLO " + helo, 250)
        for p in pieces:
            c.send(p)
            time.sleep(0.1 if len(pieces) > 1 else 0)
        got = c.reply()
        assert got.startswith("554 5.5.0"), (pieces, got)
        assert c.at_end()
        c.close()
    b.wait_log(r"SMTP protocol synchronization error \(input behind STARTTLS before the handshake\): dropped connection from ", which="reject")
    # In pieces, but nothing behind it: fine.
    c = client(b)
    c.ask("EHLO x.example", 250)
    c.send(b"STAR")
    time.sleep(0.1)
    c.send(b"TTLS\r\n")
    assert c.reply().startswith("220")
    c.wrap(context(place.ca.pem)).ask("EHLO x.example", 250)


def test_starttls_acl(bulkhead, place):
    place.leaf()
    b = bulkhead(main=main(place, "acl_smtp_starttls = acl_tls\n"), acl="""
acl_tls:
  deny message = not you
       condition = ${if eq{$sender_helo_name}{bad.example}}
  defer condition = ${if eq{$sender_helo_name}{later.example}}
  accept
acl_check_rcpt:
  accept
""")
    c = client(b)
    c.ask("EHLO bad.example", 250)
    assert c.ask("STARTTLS") == "550 5.7.1 not you"
    b.wait_log(r"H=\(bad.example\) \[127.0.0.1\] rejected STARTTLS: not you$")
    c.ask("EHLO later.example", 250)
    assert c.ask("STARTTLS").startswith("451")
    c.ask("EHLO good.example", 250)
    assert c.ask("STARTTLS").startswith("220")
    c.wrap(context(place.ca.pem)).ask("EHLO good.example", 250)


# ---- handshakes that do not come about ----

def hello():
    """A ClientHello as OpenSSL makes it."""
    out = ssl.MemoryBIO()
    c = context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=NAME)
    try:
        c.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def test_broken_handshakes(bulkhead, place):
    """Each costs its own connection only; others go on meanwhile, and the log says why."""
    place.leaf()
    b = bulkhead(main=main(place, "smtp_command_timeout = 5s\nshutdown_timeout = 30s\n"))
    whole = hello()
    held = []
    good = secure(b, context(place.ca.pem))
    good.ask("EHLO good.example", 250)
    for what in (b"", whole[:1], whole[:len(whole) // 2]):           # half a hello, then silence
        c = client(b)
        c.ask("EHLO slow.example", 250)
        c.ask("STARTTLS", 220)
        c.send(what)
        held.append(c)
    for what in (b"MAIL FROM:<a@b>\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x80" * 200, whole[:40] + b"\0" * (len(whole) - 40),
                 b"\x15\x03\x01\x00\x02\x02\x28"):                    # no hello at all
        c = client(b)
        c.ask("EHLO wrong.example", 250)
        c.ask("STARTTLS", 220)
        try:
            c.send(what)
            assert b"250" not in c.sock.recv(4096)
        except OSError:
            pass
        c.close()
    c = client(b)                                                     # gone in the middle
    c.ask("EHLO gone.example", 250)
    c.ask("STARTTLS", 220)
    c.send(whole)
    c.close()
    b.wait_log(r"TLS error on connection from \(wrong.example\) \[127.0.0.1\] \(SSL_accept\): ")
    b.wait_log(r"TLS error on connection from \(gone.example\) \[127.0.0.1\] \(SSL_accept\): ")
    good.ask("NOOP", 250)
    assert secure(b, context(place.ca.pem)).ask("EHLO other.example", 250)
    for c in held:                                                    # they are told nothing, for nothing can be told
        assert c.at_end()
    wait_for(lambda: b.log().count("(slow.example) [127.0.0.1] (SSL_accept): timed out") == 3, why=b.logs)
    assert b.daemons("smtpd")[0]["state"] == "ready"
    # One that hangs in the middle does not keep Bulkhead from stopping.
    c = client(b)
    c.ask("EHLO stop.example", 250)
    c.ask("STARTTLS", 220)
    b.command("stop")
    assert "the time to finish is over" not in b.log()


def test_dribble(bulkhead, place):
    """An octet now and then does not hold a handshake beyond its time; all of it in small pieces within it is fine."""
    place.leaf()
    b = bulkhead(main=main(place, "smtp_command_timeout = 4s\n"))
    c = client(b)
    c.ask("EHLO slow.example", 250)
    c.ask("STARTTLS", 220)
    data, sent = hello(), 0
    try:
        while sent < len(data):
            c.send(data[sent:sent + 1])
            sent += 1
            time.sleep(0.2)
    except OSError:
        pass
    assert sent < len(data)
    b.wait_log(r"\(slow.example\) \[127.0.0.1\] \(SSL_accept\): timed out")

    # All there, in pieces of 7 octets, by way of a small proxy.
    c = client(b)
    c.ask("EHLO x.example", 250)
    c.ask("STARTTLS", 220)
    one, two = socket.socketpair()

    def carry(source, to, at_once, piece):
        try:
            while data := source.recv(at_once):
                for i in range(0, len(data), piece):
                    to.sendall(data[i:i + piece])
        except OSError:   # the other end is closed: the test is over
            pass
    for args in ((two, c.sock, 65536, 7), (c.sock, two, 3, 3)):
        threading.Thread(target=carry, args=args, daemon=True).start()
    s = context(place.ca.pem).wrap_socket(one, server_hostname=NAME)
    s.sendall(b"EHLO x.example\r\n")
    assert s.recv(100).startswith(b"250-")


def test_old_versions(bulkhead, place):
    """Below 1.2 there is nothing; renegotiation and compression are refused."""
    place.leaf()
    place.leaf("rsa", kind="rsa")
    b = bulkhead(main=main(place))
    for argv in (["-tls1_1"], ["-tls1"]):
        out = s_client(b.port, *argv, "-cipher", "DEFAULT@SECLEVEL=0", check=False)
        assert "Server certificate" not in out
    out = s_client(b.port, "-tls1_2", "-comp")
    assert "Compression: NONE" in out and "Secure Renegotiation IS supported" in out
    p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % b.port, "-starttls", "smtp", "-tls1_2"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: b"Verify return code" in p.stdout.readline())
    p.stdin.write(b"R\n")
    p.stdin.flush()
    out = p.stdout.read().decode()
    p.wait(30)
    assert "RENEGOTIATING" in out and "no renegotiation" in out, out


# ---- keys: keyd's, and nobody else's ----

def test_key_stays(bulkhead, place):
    """smtpd's root has no file at all, and its memory no key; keyd's has (so that the search is seen to find one)."""
    if os.geteuid() != 0:
        pytest.skip("looking into processes needs root")
    if SANITIZED:
        pytest.skip("a sanitizer's shadow memory is too large to be searched")
    place.leaf(kind="rsa")
    b = bulkhead(main=main(place))
    secure(b, context(place.ca.pem)).ask("EHLO x.example", 250)
    text = subprocess.run(["openssl", "rsa", "-in", place.path("mx.key"), "-noout", "-text"], stdout=subprocess.PIPE).stdout.decode()
    prime = bytes.fromhex(re.sub(r"[^0-9a-f]", "", text.split("prime1:")[1].split("prime2:")[0])).lstrip(b"\0")
    assert len(prime) == 128

    def memory_has(pid):
        needles = (prime[:32], prime[:32][::-1], prime[-32:], prime[-32:][::-1], b"PRIVATE KEY-----\n")
        with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
            for line in maps:
                m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if not m:
                    continue
                start, end = (int(x, 16) for x in m.groups())
                try:
                    mem.seek(start)
                    block = mem.read(end - start)
                except OSError:
                    continue
                if any(n in block for n in needles[:4]):
                    return True
        return False
    smtpd, keyd = b.daemons("smtpd")[0]["pid"], b.daemons("keyd")[0]["pid"]
    assert memory_has(keyd)
    assert not memory_has(smtpd)
    assert os.listdir("/proc/%d/root" % smtpd) == []
    assert os.path.exists("/proc/%d/root%s" % (keyd, place.path("mx.key")))
    assert os.listdir("/proc/%d/root/tmp" % keyd) == [os.path.basename(place.dir)]
    # ... read-only, and by its own uid only
    with pytest.raises(OSError):
        open("/proc/%d/root%s" % (keyd, place.path("new")), "w")
    assert os.stat("/proc/%d" % keyd).st_uid == KEYD


def test_keyd_killed(bulkhead, place):
    """It dies in the middle of a handshake: that one fails and says why; the next one works."""
    place.leaf()
    b = bulkhead(main=main(place))
    secure(b, context(place.ca.pem)).ask("EHLO x.example", 250)
    pid = b.daemons("keyd")[0]["pid"]
    c = client(b)
    c.ask("EHLO middle.example", 250)
    c.ask("STARTTLS", 220)                 # the certificate is known, the signature is still to come
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises((ssl.SSLError, OSError)):
        c.wrap(context(place.ca.pem))
    b.wait_log(r"TLS error on connection from \(middle.example\) \[127.0.0.1\] \(SSL_accept\): no signature: keyd does not answer")
    wait_for(lambda: [d for d in b.daemons("keyd") if d["state"] == "ready" and d["pid"] != pid], why=b.logs)
    c = secure(b, context(place.ca.pem))
    c.ask("EHLO x.example", 250)
    assert c.theirs() == fingerprint(place.path("mx.pem"))
    assert b.send("a@b.example", "joe@local.example")


def test_keyd_hangs(bulkhead, place):
    """It is there, but does not answer: the session goes on in clear after two seconds; later ones do not wait again; then it works again."""
    place.leaf()
    b = bulkhead(main=main(place))
    pid = b.daemons("keyd")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        c = client(b)
        c.ask("EHLO x.example", 250)
        assert c.ask("STARTTLS") == "454 4.7.0 TLS currently unavailable"
        assert c.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
        b.wait_log(r"TLS error on connection from \(x.example\) \[127.0.0.1\] keyd does not answer: nothing came within 2000 ms")
        assert c.ask("STARTTLS").startswith("454")
        b.wait_log(r"keyd is not there")
    finally:
        os.kill(pid, signal.SIGCONT)

    def works():
        c = client(b)
        c.ask("EHLO x.example", 250)
        return c.ask("STARTTLS").startswith("220")
    wait_for(works, 30, 0.5, why=b.logs)


def test_restart_and_reload(bulkhead, place):
    """Sessions in TLS go on through a reload, and through restarts of keyd; new ones work at every moment."""
    place.leaf()
    b = bulkhead(main=main(place))
    old = secure(b, context(place.ca.pem))
    old.ask("EHLO old.example", 250)
    b.command("restart", "keyd")
    secure(b, context(place.ca.pem)).ask("EHLO x.example", 250)
    b.command("reload")
    secure(b, context(place.ca.pem)).ask("EHLO x.example", 250)
    assert old.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
    assert "TLS error" not in b.log()
    b.command("stop")
    wait_for(lambda: not b.pids(), 30)


# ---- certificates ----

def test_two_kinds(bulkhead, place):
    """RSA and ECDSA: each client gets what it can verify; both in TLS 1.2 and 1.3; each with its own OCSP answer."""
    rsa, ec = place.leaf("rsa", kind="rsa")[0], place.leaf("ec", kind="ec")[0]
    place.ca.ocsp(rsa, "rsa.ocsp")
    place.ca.ocsp(ec, "ec.ocsp")
    b = bulkhead(main=main(place, """
tls_certificate = %(d)s/rsa.pem : %(d)s/ec.pem
tls_privatekey = %(d)s/rsa.key : %(d)s/ec.key
tls_ocsp_file = %(d)s/rsa.ocsp : DER %(d)s/ec.ocsp
""" % {"d": place.dir}, cert=False))
    for cert, argv in ((rsa, ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]), (ec, ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]),
                       (rsa, ["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"]), (ec, ["-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"]),
                       (rsa, ["-tls1_2", "-sigalgs", "RSA+SHA256"]), (rsa, ["-tls1_2", "-sigalgs", "RSA-PSS+SHA384"])):
        out = s_client(b.port, *argv, "-status", "-CAfile", place.ca.pem)
        assert "Verify return code: 0 (ok)" in out, out
        pem = re.search(r"Server certificate\n(-----BEGIN CERT.*?END CERTIFICATE-----)", out, re.S).group(1)
        assert fingerprint(pem) == fingerprint(cert), argv
        assert "OCSP Response Status: successful" in out and "Cert Status: good" in out
        serial = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", cert], stdout=subprocess.PIPE).stdout.decode().strip().split("=")[1]
        assert "Serial Number: " + serial in out
    # Without being asked it is not sent.
    assert "OCSP Response Status" not in s_client(b.port)


def test_no_static_rsa(bulkhead, place):
    """A key exchange without forward secrecy is none."""
    place.leaf(kind="rsa")
    b = bulkhead(main=main(place, "tls_require_ciphers = ALL\n"))
    assert "Server certificate" not in s_client(b.port, "-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA", check=False)
    b.wait_log(r"\(SSL_accept\): no shared cipher")


def test_changed(bulkhead, place):
    """A new certificate is shown without a reload; while its files do not fit together the old one serves, and the log says so."""
    old = fingerprint(place.leaf()[0])
    b = bulkhead(main=main(place))
    assert secure(b, context(place.ca.pem)).theirs() == old
    shutil.copy(place.path("mx.key"), place.path("old.key"))
    if place.owner is not None:
        os.chown(place.path("old.key"), place.owner, place.owner)
    new = fingerprint(place.leaf()[0])
    assert new != old
    wait_for(lambda: secure(b, context(place.ca.pem)).theirs() == new, 20, 0.3, why=b.logs)
    os.rename(place.path("old.key"), place.path("mx.key"))
    b2 = lambda: (secure(b, context(place.ca.pem)).theirs(), re.search(r"keyd/1: .*mx.key: the key does not fit the certificate.*goes on serving", b.log()))
    wait_for(lambda: b2()[1], 20, 0.3, why=b.logs)
    assert secure(b, context(place.ca.pem)).theirs() == new


def test_unusable(bulkhead, place):
    """No such file, no right to read it, no key: 454 and a line, and mail goes on in clear. It is put right without a reload."""
    b = bulkhead(main=main(place))
    c = client(b)
    c.ask("EHLO x.example", 250)
    assert c.ask("STARTTLS") == "454 4.7.0 TLS currently unavailable"
    assert c.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
    b.wait_log(r"TLS error on connection from \(x.example\) \[127.0.0.1\] %s: No such file or directory" % re.escape(place.path("mx.pem")))
    place.leaf()
    if os.geteuid() == 0:
        os.chown(place.path("mx.key"), 0, 0)
        c.ask("EHLO x.example", 250)
        wait_for(lambda: c.ask("STARTTLS").startswith("454") and "mx.key: Permission denied" in b.log(), 20, 0.3, why=b.logs)
        os.chown(place.path("mx.key"), KEYD, KEYD)
    c.close()

    def works():
        c = client(b)
        c.ask("EHLO x.example", 250)
        return c.ask("STARTTLS").startswith("220")
    wait_for(works, 20, 0.3, why=b.logs)


def test_sni(bulkhead, place):
    """The certificate by the name that the client asks for; the name itself is no path."""
    for n in ("mx", "one", "two"):
        place.leaf(n, n + ".example")
    b = bulkhead(main=main(place, """
tls_certificate = ${lookup{$tls_in_sni}lsearch{{dir}/names}{$value}{%(d)s/mx}}.pem
tls_privatekey = ${lookup{$tls_in_sni}lsearch{{dir}/names}{$value}{%(d)s/mx}}.key
""" % {"d": place.dir}, cert=False))
    with open(os.path.join(b.dir, "names"), "w") as f:
        f.write("one.example: %s/one\ntwo.example: %s/two\nnone.example: %s/none\n" % ((place.dir,) * 3))
    os.chmod(f.name, 0o644)
    ctx = context(place.ca.pem)
    ctx.check_hostname = False
    for name, want in (("one.example", "one"), ("two.example", "two"), ("TWO.example", "two"), ("other.example", "mx"), (None, "mx")):
        assert secure(b, ctx, name=name).theirs() == fingerprint(place.path(want + ".pem")), name
    c = client(b)
    c.ask("EHLO x.example", 250)
    c.ask("STARTTLS", 220)
    with pytest.raises((ssl.SSLError, OSError)):
        c.wrap(ctx, "none.example")
    b.wait_log(r"none.pem: No such file")


def test_sni_is_no_path(bulkhead, place):
    place.leaf()
    b = bulkhead(main=main(place, "tls_certificate = %s/$tls_in_sni.pem\n" % place.dir, cert=False))
    c = client(b)
    c.ask("EHLO x.example", 250)
    c.ask("STARTTLS", 220)
    with pytest.raises((ssl.SSLError, OSError)):
        c.wrap(context(), "mx")
    b.wait_log(r"TLS error on connection from \(x.example\) \[127.0.0.1\] tls_certificate: the name of the file comes from strangers")


# ---- clients' certificates ----

def test_verify(bulkhead, place):
    """tls_verify_hosts: no valid certificate, no session. tls_try_verify_hosts: it goes on, and is known to be unverified."""
    place.leaf()
    place.leaf("good", "good client", names=())
    place.leaf("revoked", "revoked client", names=())
    other = Authority(place.path("other"), "Other CA")
    other.leaf("alien", "alien client")
    place.ca.revoke(place.path("revoked.pem"))
    place.ca.crl()
    b = bulkhead(main=main(place, """
tls_verify_hosts = 127.0.0.2
tls_try_verify_hosts = 127.0.0.3
tls_verify_certificates = %s
tls_crl = %s
acl_smtp_mail = acl_mail
""" % (place.ca.pem, place.path("crl.pem"))), acl="""
acl_mail:
  accept verify = certificate
         logwrite = VERIFIED $tls_in_peerdn
  accept logwrite = UNVERIFIED $tls_in_peerdn
acl_check_rcpt:
  accept
""")
    certs = {"none": None, "good": (place.path("good.pem"), place.path("good.key")), "revoked": (place.path("revoked.pem"), place.path("revoked.key")),
             "alien": (other.path("alien.pem"), other.path("alien.key"))}

    def try_it(source, cert, version):
        c = client(b, source=(source, 0))
        c.ask("EHLO %s.example" % cert, 250)
        c.ask("STARTTLS", 220)
        try:
            c.wrap(context(place.ca.pem, version, certs[cert]))
            c.ask("EHLO %s.example" % cert, 250)
            c.ask("MAIL FROM:<%s@x.example>" % cert, 250)
            return True
        except (AssertionError, OSError):
            return False
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        got = {cert: try_it("127.0.0.2", cert, version) for cert in certs}
        assert got == {"none": False, "good": True, "revoked": False, "alien": False}
        assert all(try_it("127.0.0.3", cert, version) for cert in certs)
        assert all(try_it("127.0.0.1", cert, version) for cert in certs)
    b.wait_log(r"\(none.example\) \[127.0.0.2\] \(SSL_accept\): peer did not return a certificate")
    b.wait_log(r"\(revoked.example\) \[127.0.0.2\] certificate verification failed: certificate revoked")
    b.wait_log(r"\(alien.example\) \[127.0.0.2\] certificate verification failed: unable to get local issuer certificate")
    assert b.log().count("VERIFIED CN=good client") == 4 and "UNVERIFIED CN=good" not in b.log()
    for n, dn in (("revoked", "revoked client"), ("alien", "alien client")):
        assert b.log().count("UNVERIFIED CN=" + dn) == 2, b.log()
    # Whom nobody asks shows nothing.
    wait_for(lambda: len(re.findall(r"UNVERIFIED $", b.log(), re.M)) == 2 + 8, why=b.logs)
    out = s_client(b.port, "-bind", "127.0.0.3", "-tls1_2")
    assert "Acceptable client certificate CA names\nCN = Test CA" in out
    assert "No client certificate CA names sent" in s_client(b.port)
    # A directory says no names, and is trusted all the same.
    os.makedirs(place.path("anchors"))
    shutil.copy(place.ca.pem, place.path("anchors/ours.pem"))
    with open(b.conf) as f:
        text = f.read()
    with open(b.conf, "w") as f:
        f.write(text.replace("tls_verify_certificates = " + place.ca.pem, "tls_verify_certificates = " + place.path("anchors")))
    b.command("reload")
    assert "No client certificate CA names sent" in s_client(b.port, "-bind", "127.0.0.3", "-tls1_2")
    assert try_it("127.0.0.2", "good", ssl.TLSVersion.TLSv1_3) and not try_it("127.0.0.2", "alien", ssl.TLSVersion.TLSv1_3)


def test_client_names(bulkhead, place):
    """tls_verify_client_hostnames: whom a certificate does not name, it does not verify; the name is the one of EHLO behind the handshake."""
    place.leaf()
    place.leaf("client", "one.example")
    b = bulkhead(main=main(place, """
tls_try_verify_hosts = *
tls_verify_certificates = %s
tls_verify_client_hostnames = ! 127.0.0.9 : *
acl_smtp_helo = acl_helo
""" % place.ca.pem), acl="""
acl_helo:
  accept verify = certificate
         logwrite = HELO $sender_helo_name verified
  accept logwrite = HELO $sender_helo_name not verified
acl_check_rcpt:
  accept
""")
    cert = (place.path("client.pem"), place.path("client.key"))
    c = secure(b, context(place.ca.pem, cert=cert), helo="clear.example")
    c.ask("EHLO two.example", 250)
    c.ask("EHLO one.example", 250)
    c.mail("yes@x.example", "joe@local.example", b"x\r\n", helo=None)
    c.mail("no@x.example", "joe@local.example", b"x\r\n", helo="three.example")
    c = client(b, source=("127.0.0.9", 0)).starttls(context(place.ca.pem, cert=cert))
    c.ask("EHLO other.example", 250)
    b.wait_log(r"HELO other.example verified")
    for want in ("clear.example not", "two.example not", "one.example", "three.example not"):
        b.wait_log("HELO %s verified$" % want)
    b.wait_log(r"<= yes@x.example .* CV=yes ")
    b.wait_log(r"<= no@x.example .* CV=no ")


def test_authenticators(bulkhead, place):
    """A certificate lets the client in without AUTH (driver tls); passwords are asked for in TLS only."""
    place.leaf()
    place.leaf("client", "joe", names=())
    b = bulkhead(main=main(place, "tls_try_verify_hosts = *\ntls_verify_certificates = %s\n" % place.ca.pem), acl="""
acl_check_rcpt:
  accept authenticated = *
  deny message = relay not permitted
""", retry="""* * F,1h,1s

begin authenticators
cert:
  driver = tls
  server_param1 = ${certextract{subject,CN}{$tls_in_peercert}}
  server_condition = ${if and{{eq{$tls_in_certificate_verified}{1}}{def:auth1}}}
  server_set_id = $auth1
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${if def:tls_in_cipher}
  server_prompts = :
  server_condition = ${if eq{$auth3}{word}}
  server_set_id = $auth2
""")
    c = client(b)
    assert "AUTH" not in c.ask("EHLO x.example", 250)
    assert c.ask("AUTH PLAIN AGpvZQB3b3Jk").startswith("503")
    c.starttls(context(place.ca.pem), helo=None)
    assert "AUTH PLAIN" in c.ask("EHLO x.example", 250)
    assert c.ask("AUTH PLAIN AGpvZQB3b3Jk").startswith("235")
    assert c.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
    b.wait_log(r"<= a@b.example .* P=esmtpsa X=\S+ CV=no .*A=plain:joe ")
    c = secure(b, context(place.ca.pem, cert=(place.path("client.pem"), place.path("client.key"))))
    assert "AUTH" not in c.ask("EHLO x.example", 250)
    assert c.mail("b@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
    b.wait_log(r"<= b@b.example .* P=esmtpsa X=\S+ CV=yes DN=\"CN=joe\" .*A=cert:joe ")


# ---- resumption ----

def test_resumption(bulkhead, place):
    """A ticket of one process serves with every other, through reload and restart; a rotated key is taken once more, then no more."""
    place.leaf()
    b = bulkhead(main=main(place, "tls_resumption_hosts = *\nsmtpd_processes = 3\nacl_smtp_mail = acl_mail\n"), acl="""
acl_mail:
  accept logwrite = RESUMPTION $tls_in_resumption
acl_check_rcpt:
  accept
""")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        ctx = context(place.ca.pem, version)
        c = secure(b, ctx)
        c.ask("EHLO x.example", 250)
        session = c.sock.session
        assert session.has_ticket and not c.sock.session_reused

        def resumed():
            c = client(b)
            c.ask("EHLO x.example", 250)
            c.ask("STARTTLS", 220)
            c.f.close()
            c.sock = ctx.wrap_socket(c.sock, server_hostname=NAME, session=session)
            c.f = c.sock.makefile("rb")
            c.ask("EHLO x.example", 250)
            c.ask("MAIL FROM:<a@b.example>", 250)
            return c.sock.session_reused
        assert all(resumed() for _ in range(12))
        b.command("reload")
        assert resumed()
        b.command("restart", "smtpd")
        assert resumed()
    b.wait_log(r"RESUMPTION 2[0-9]$|RESUMPTION 3[01]$")
    c.mail("r@b.example", "joe@local.example", b"x\r\n", helo=None)


def test_rotation(bulkhead, place):
    place.leaf()
    b = bulkhead(main=main(place, "tls_resumption_hosts = *\ntls_ticket_key_time = 3s\n"))
    ctx = context(place.ca.pem, ssl.TLSVersion.TLSv1_2)

    def resumed(session):
        c = client(b)
        c.ask("EHLO x.example", 250)
        c.ask("STARTTLS", 220)
        return ctx.wrap_socket(c.sock, server_hostname=NAME, session=session).session_reused
    c = secure(b, ctx)
    session = c.sock.session
    assert resumed(session)
    wait_for(lambda: not resumed(session), 30, 0.5)
    c = secure(b, ctx)
    assert resumed(c.sock.session)


def test_no_resumption(bulkhead, place):
    """Off by default; and a session that was made without a certificate is none where one is demanded."""
    place.leaf()
    b = bulkhead(main=main(place))
    c = secure(b, context(place.ca.pem, ssl.TLSVersion.TLSv1_2))
    assert not c.sock.session.has_ticket
    b.destroy()
    b = bulkhead(main=main(place, "tls_resumption_hosts = *\ntls_verify_hosts = 127.0.0.2\ntls_verify_certificates = %s\n" % place.ca.pem))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        ctx = context(place.ca.pem, version)
        c = secure(b, ctx)
        c.ask("EHLO x.example", 250)
        session = c.sock.session
        assert session.has_ticket
        c = client(b, source=("127.0.0.2", 0))
        c.ask("EHLO x.example", 250)
        c.ask("STARTTLS", 220)
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            s = ctx.wrap_socket(c.sock, server_hostname=NAME, session=session)
            s.sendall(b"EHLO x.example\r\n")
            assert s.recv(100)


# ---- the rest of the options ----

def test_ciphers(bulkhead, place):
    place.leaf(kind="rsa")
    subprocess.run(["openssl", "dhparam", "-dsaparam", "-out", place.path("dh.pem"), "2048"], check=True, stderr=subprocess.DEVNULL)
    b = bulkhead(main=main(place, """
tls_require_ciphers = ${if eq{$sender_host_address}{127.0.0.2}{ECDHE-RSA-CHACHA20-POLY1305}{DHE-RSA-AES128-GCM-SHA256}}
tls_dhparam = %s/dh.pem
tls_eccurve = P-384:X25519
openssl_options = +no_tlsv1_3
""" % place.dir))
    assert "Server certificate" not in s_client(b.port, "-tls1_3", check=False)
    out = s_client(b.port, "-cipher", "DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305")
    assert "Cipher is DHE-RSA-AES128-GCM-SHA256" in out and "Server Temp Key: DH, 2048 bits" in out
    other = bulkhead(main=main(place, "tls_dhparam = %s/dh.pem\ntls_dh_max_bits = 2047\nopenssl_options = +no_tlsv1_3\n" % place.dir))
    assert "Server certificate" not in s_client(other.port, "-cipher", "DHE-RSA-AES128-GCM-SHA256", check=False), "a larger group is none"
    out = s_client(b.port, "-bind", "127.0.0.2", "-groups", "P-256:P-384")
    assert "Cipher is ECDHE-RSA-CHACHA20-POLY1305" in out and "Server Temp Key: ECDH, secp384r1, 384 bits" in out


def test_nonsense(bulkhead, place):
    """What OpenSSL does not take is told when a client wants TLS, and mail goes on."""
    place.leaf()
    for text, want in (("tls_require_ciphers = NOSUCHCIPHER\n", "tls_require_ciphers: no cipher match"), ("tls_eccurve = nosuch\n", "tls_eccurve"),
                       ("tls_dhparam = %s/mx.key\n" % place.dir, "mx.key: nothing in it that is public")):
        b = bulkhead(main=main(place, text))
        c = client(b)
        c.ask("EHLO x.example", 250)
        assert c.ask("STARTTLS").startswith("454")
        b.wait_log(r"TLS error on connection from .*" + re.escape(want))
        assert c.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
        b.destroy()


def test_alpn(bulkhead, place):
    place.leaf()
    b = bulkhead(main=main(place, "hosts_require_alpn = 127.0.0.2\n"))
    assert "ALPN protocol: smtp" in s_client(b.port, "-alpn", "smtp")
    assert "No ALPN negotiated" in s_client(b.port)
    assert "Server certificate" not in s_client(b.port, "-alpn", "http/1.1", check=False)
    assert "Server certificate" not in s_client(b.port, "-alpn", "smtp,h2", check=False)
    ctx = context(place.ca.pem)
    ctx.set_alpn_protocols(["esmtp"])
    c = client(b, source=("127.0.0.2", 0)).starttls(ctx)
    assert c.sock.selected_alpn_protocol() == "esmtp"
    c.ask("EHLO x.example", 250)
    s_client(b.port, "-bind", "127.0.0.2")
    b.wait_log(r"\[127.0.0.2\] no ALPN name was negotiated")


def test_ocsp_changes(bulkhead, place):
    """An answer comes, grows old, comes anew; the certificate serves all the while."""
    cert = place.leaf()[0]
    b = bulkhead(main=main(place, "tls_ocsp_file = %s/mx.ocsp\nacl_smtp_notquit = told\n" % place.dir), acl="""
told:
  warn logwrite = OCSP $tls_in_ocsp
  accept
acl_check_rcpt:
  accept
""")

    def stapled():
        return "OCSP Response Status: successful" in s_client(b.port, "-status")
    assert not stapled()
    b.wait_log("OCSP 1$")                                       # asked for, and none there
    place.ca.ocsp(cert, "mx.ocsp")
    wait_for(stapled, 20, 0.3)
    b.wait_log("OCSP 4$")
    place.ca.ocsp(cert, "mx.ocsp", days=0)                      # without an end
    wait_for(lambda: not stapled(), 20, 0.3)
    b.wait_log(r"mx.ocsp: the OCSP answer is out of date, or does not say")


# ---- clients that are not ours ----

def test_swaks(bulkhead, place):
    place.leaf()
    b = bulkhead(main=main(place))
    for argv, log in ((["-tls"], "esmtps"), (["-tlso"], "esmtps"), ([], "esmtp")):
        p = subprocess.run(["swaks", "-s", "127.0.0.1", "-p", str(b.port), "-f", "a@b.example", "-t", "joe@local.example", "-h", "swaks.example", *argv],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert p.returncode == 0, p.stdout.decode()
        b.wait_log(r"H=\(swaks.example\) \[127.0.0.1\] P=%s " % log)


def test_postfix(bulkhead, place):
    """Debian's Postfix, which verifies our certificate and sends nothing in clear."""
    place.leaf(kind="rsa")
    place.leaf("ec")
    b = bulkhead(main=main(place, """
tls_certificate = %(d)s/mx.pem : %(d)s/ec.pem
tls_privatekey = %(d)s/mx.key : %(d)s/ec.key
tls_resumption_hosts = *
""" % {"d": place.dir}, cert=False))
    peer = Postfix(b.port)
    try:
        shutil.copy(place.ca.pem, peer.path("/etc/postfix/ca.pem"))
        with open(peer.path("/etc/postfix/main.cf"), "a") as f:
            f.write("smtp_tls_security_level = secure\nsmtp_tls_CAfile = /etc/postfix/ca.pem\nsmtp_tls_secure_cert_match = %s\nsmtp_tls_loglevel = 1\n"
                    "smtp_tls_session_cache_database = btree:/var/lib/postfix/smtp_scache\n" % NAME)
        subprocess.run(["chroot", peer.root, "postfix", "reload"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for i in range(2):
            c = Client(peer.port)
            assert c.mail("p%d@b.example" % i, "joe@local.example", b"Subject: by postfix\r\n\r\nx\r\n").startswith("250")
            c.ask("QUIT", 221)
            b.wait_log(r"<= p%d@b.example .* P=esmtps X=TLS1.3:" % i)
        assert "Verified TLS connection established" in peer.log(), peer.log()
    finally:
        peer.close()


def test_exim(bulkhead, place):
    """Debian's Exim (GnuTLS), with a certificate of its own."""
    place.leaf()
    place.leaf("client", "exim client", names=())
    b = bulkhead(main=main(place, "tls_verify_hosts = *\ntls_verify_certificates = %s\n" % place.ca.pem))
    peer = Exim(b.port)
    try:
        for n, to in (("ca.pem", "ca.pem"), ("client.pem", "client.pem"), ("client.key", "client.key")):
            shutil.copy(place.path(n), peer.path("/etc/exim4/" + to))
            os.chmod(peer.path("/etc/exim4/" + to), 0o644)
        conf = open(peer.path("/etc/exim4/exim4.conf")).read()
        peer.write("/etc/exim4/exim4.conf", conf.replace("  hosts_avoid_tls = *\n", """  hosts_require_tls = *
  tls_verify_hosts = *
  tls_verify_certificates = /etc/exim4/ca.pem
  tls_verify_cert_hostnames =
  tls_certificate = /etc/exim4/client.pem
  tls_privatekey = /etc/exim4/client.key
"""))
        c = Client(peer.port)
        assert c.mail("e@b.example", "joe@local.example", b"Subject: by exim\r\n\r\nx\r\n").startswith("250")
        c.ask("QUIT", 221)
        wait_for(lambda: re.search(r"<= e@b.example .* P=esmtps X=TLS1.3:\S+ CV=yes DN=\"CN=exim client\"", b.log()), 30, why=lambda: b.logs() + peer.log())
        wait_for(lambda: re.search(r"=> joe@local.example .* X=TLS1.3:\S+ CV=yes", peer.log()), 30, why=peer.log)
    finally:
        peer.close()
