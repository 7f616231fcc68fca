# SPDX-License-Identifier: ISC
"""CHUNKING (RFC 3030) against a whole instance: octets of chunks never become commands, what comes in is what goes out."""
import pytest

from bulkhead import Client, Instance, wait_for
from peers import PEERS
from test_flow import BODIES, HEADER, after_received

EHLO = b"EHLO c.example\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@far.example>\r\n"


def chunk(data, last=False):
    return b"BDAT %d%s\r\n" % (len(data), b" LAST" if last else b"") + data


def begin(b, envelope=ENVELOPE):
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.send(envelope)
    for _ in range(envelope.count(b"\n")):
        c.reply()
    return c


@pytest.mark.parametrize("size", [1, 7, 1000, 70000, 10**9])
def test_content(bulkhead, sink, size):
    """Whatever the chunks, all in one packet: the content is the content, in memory and in a file."""
    body = HEADER + BODIES["dots"] + b".\r\nRSET\r\nQUIT\r\n" + b"line of it all\r\n" * (300 if size < 10 else 20000)
    if size == 1:
        body = body[:900]
        body = body[:body.rindex(b"\r\n") + 2]
    b = bulkhead(sink=sink)
    c = begin(b)
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    c.send(b"".join(chunk(p) for p in pieces) + chunk(b"", True) + b"NOOP\r\n")
    for p in pieces:
        assert c.reply().startswith("250 2.0.0 %d octets received" % len(p))
    assert "OK id=" in c.reply()
    assert c.reply().startswith("250")
    assert after_received(sink.wait(1)[0][2]) == body
    b.wait_empty()
    b.wait_log(r"<= a@b.example H=.* P=esmtp K S=%d " % len(body))


def test_connection_lost_in_a_chunk(bulkhead, sink):
    b = bulkhead(sink=sink)
    c = begin(b)
    c.send(b"BDAT 1000 LAST\r\n" + HEADER)
    c.close()
    b.wait_log(r"lost while reading message data")
    c = begin(b)
    c.send(chunk(HEADER) + b"BDAT 10")
    assert c.reply().startswith("250")
    c.close()
    wait_for(lambda: b.log().count("unexpected disconnection") == 1, why=b.logs)
    b.send("a@b.example", "x@far.example")
    assert len(sink.wait(1)) == 1
    b.wait_empty()
    assert b.log().count("<= ") == 1


def test_variables_and_acls(bulkhead, sink):
    """The predata ACL is not asked, the data ACL is, once; $smtp_command is the last BDAT."""
    b = bulkhead(sink=sink, main="acl_smtp_predata = acl_pre\nacl_smtp_data = acl_data",
                 acl="acl_check_rcpt:\n  accept\nacl_pre:\n  deny\nacl_data:\n  accept add_header = X-Said: $smtp_command|$smtp_command_argument|$message_size\n")
    c = begin(b)
    c.send(chunk(HEADER) + chunk(b"text\r\n", True))
    assert c.reply().startswith("250") and "OK id" in c.reply()
    assert b"X-Said: BDAT 6 LAST|6 LAST|%d\r\n" % (len(HEADER) + 6) in sink.wait(1)[0][2]
    assert c.ask("MAIL FROM:<a@b.example>").startswith("250") and c.ask("RCPT TO:<x@far.example>").startswith("250")
    assert c.ask("DATA").startswith("550")


def test_for_whom_it_is_offered(bulkhead):
    b = bulkhead(main="chunking_advertise_hosts = 127.0.0.2")
    for source, offered in (("127.0.0.1", False), ("127.0.0.2", True)):
        c = b.client(source=(source, 0))
        assert ("CHUNKING" in c.ask("EHLO c.example", 250)) == offered
        c.send(ENVELOPE.replace(b"x@far", b"joe@local") + chunk(b"QUIT\r\n", True))
        assert [c.reply()[:3] for _ in range(3)] == ["250", "250", "250" if offered else "503"]
        assert c.ask("NOOP").startswith("250")


@pytest.mark.parametrize("name", ["exim", "postfix", "opensmtpd"])
@pytest.mark.parametrize("size", [4096, 20 * 1024 * 1024])
def test_through_a_peer(bulkhead, sink, name, size):
    """In through the peer, out through us: Exim sends by BDAT what is offered to it."""
    b = bulkhead(sink=sink, main="message_size_limit = 100M")
    peer = PEERS[name](b.port)
    try:
        body = b"".join(b"line %09d\r\n" % i for i in range(size // 16)) + (BODIES["dots"] if size < 10000 else b"")
        assert Client(peer.port).mail("a@b.example", "x@far.example", HEADER + body).startswith("250")
        content = sink.wait(1, 120)[0][2]
        assert after_received(after_received(content)).endswith(body)
        b.wait_empty()
        b.wait_log(r"<= a@b.example .* P=esmtps?( X=\S+ CV=no)?%s S=" % (" K" if name == "exim" else ""))
    finally:
        peer.close()


@pytest.mark.parametrize("size", [4096, 20 * 1024 * 1024])
def test_to_exim(bulkhead, size):
    """We are the client, Exim the server: one chunk after the other, and the mailbox has it all."""
    peer = PEERS["exim"](None)
    try:
        b = bulkhead(sink=peer.port, main="message_size_limit = 100M")
        body = b"".join(b"line %09d\r\n" % i for i in range(size // 16)) + BODIES["dots"]
        b.send("a@b.example", "box@peer.example", HEADER + body)
        b.wait_log(r"=> box@peer.example .* K C=\"250")
        kept = body.replace(b"\r\n", b"\n").rstrip()
        wait_for(lambda: kept in peer.mailbox(), 30, step=0.2)
        b.wait_empty()
    finally:
        peer.close()
