# SPDX-License-Identifier: ISC
"""Mail goes in by SMTP, comes out by SMTP and into maildirs; every octet as it was."""
import os
import random
import re
import subprocess

import pytest

from bulkhead import SENDMAIL, Client, Sink, wait_for

HEADER = b"From: a@b.example\r\nTo: x@y.example\r\nSubject: bytes\r\nMessage-ID: <1@b.example>\r\nDate: Sat, 21 Nov 2026 08:00:00 +0000\r\n\r\n"

BODIES = {
    "plain": b"one\r\ntwo\r\n",
    "empty-body": b"",
    "eight-bit": bytes(range(128, 256)) * 4 + b"\r\n" + bytes(range(1, 9)) + bytes(range(14, 32)) + b"\r\n",
    "dots": b".\r\n..\r\n...\r\n.one\r\n..two\r\n. \r\nx.\r\n\r\n.\r\n",
    "long-line": b"x" * 200000 + b"\r\n" + b"y" * 998 + b"\r\n",
    "blank-lines": b"\r\n" * 50,
    "tabs-and-spaces": b" \t \r\n\t\r\n trailing \t\r\n",
}


def after_received(message):
    """The message without the Received: field that we put on top."""
    assert message.startswith(b"Received: from "), message[:200]
    m = re.match(rb"Received: .*?\r?\n(?![ \t])", message, re.S)
    return message[m.end():]


@pytest.mark.parametrize("name", BODIES)
def test_relayed_byte_for_byte(bulkhead, sink, name):
    b = bulkhead(sink=sink)
    b.send("a@b.example", "x@y.example", HEADER + BODIES[name])
    sender, rcpts, content = sink.wait(1)[0]
    assert (sender, rcpts) == ("a@b.example", ["x@y.example"])
    want = HEADER + BODIES[name]
    assert after_received(content) == want
    b.wait_empty()


def test_bodies_into_maildir(bulkhead):
    b = bulkhead(users=BODIES)
    for name, body in BODIES.items():
        b.send("a@b.example", name + "@local.example", HEADER + body)
    for name, body in BODIES.items():
        got = b.wait_maildir(name)[0]
        assert got.endswith((HEADER + body).replace(b"\r\n", b"\n")), name
        assert b"\nReceived: from " in b"\n" + got


def test_no_final_newline_gets_one(bulkhead, sink):
    """SMTP has no message without a last line end: what comes by sendmail without one leaves with one."""
    b = bulkhead(sink=sink)
    p = subprocess.run([SENDMAIL, "-C", b.conf, "-f", "a@b.example", "x@y.example"], input=HEADER.replace(b"\r\n", b"\n") + b"no end",
                       stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 0, p.stderr
    assert sink.wait(1)[0][2].endswith(b"\r\n\r\nno end\r\n")


def test_fifty_megabytes(bulkhead, sink):
    b = bulkhead(sink=sink, main="message_size_limit = 60M")
    rng = random.Random(50)
    lines = [bytes(rng.choices(range(32, 127), k=76)) + b"\r\n" for _ in range(1000)]
    body = b"".join(lines) * (50 * 1024 * 1024 // 78000 + 1)
    assert len(body) > 50 * 1024 * 1024
    b.send("a@b.example", "x@y.example", HEADER + body)
    content = sink.wait(1, 120)[0][2]
    assert after_received(content) == HEADER + body
    b.wait_empty()


def test_thousand_recipients(bulkhead, sink):
    b = bulkhead(sink=sink, main="recipients_max = 2000", users=["r%d" % i for i in range(400)])
    rcpts = ["r%d@y.example" % i for i in range(600)] + ["r%d@local.example" % i for i in range(400)]
    c = b.client()
    c.ask("EHLO x.example", 250)
    c.send("MAIL FROM:<a@b.example>\r\n" + "".join("RCPT TO:<%s>\r\n" % r for r in rcpts) + "DATA\r\n")
    replies = [c.reply() for _ in range(len(rcpts) + 2)]
    assert all(r.startswith("250") for r in replies[:-1]), [r for r in replies if not r.startswith("250")][:3]
    assert c.data(HEADER + b"to many\r\n").startswith("250")
    wait_for(lambda: sum(len(m[1]) for m in sink.messages) == 600, 60, why=lambda: str(sum(len(m[1]) for m in sink.messages)))
    assert sorted(r for m in sink.messages for r in m[1]) == sorted(rcpts[:600])
    wait_for(lambda: sum(len(os.listdir(os.path.join(b.dir, "mail", u, "new"))) for u in os.listdir(os.path.join(b.dir, "mail"))
                         if os.path.isdir(os.path.join(b.dir, "mail", u, "new"))) == 400, 60)
    b.wait_empty()


def test_received_header_names_who_and_how(bulkhead, sink):
    b = bulkhead(sink=sink)
    id = b.send("a@b.example", "x@y.example", helo="who.example")
    text = sink.wait(1)[0][2].decode()
    assert re.match(r"Received: from \[127\.0\.0\.1\] \(helo=who\.example\)\r\n\tby mx\.test\.example with esmtp \(Bulkhead [^)]*\)\r\n"
                    r"\t\(envelope-from <a@b\.example>\)\r\n\tid %s\r\n\tfor x@y\.example;\r\n\t\w{3}, \d\d \w{3} \d{4} [\d:]{8} [+-]\d{4}\r\n"
                    % re.escape(id), text), text[:400]


def test_two_instances(bulkhead):
    last = bulkhead(name="last.example")
    first = bulkhead(name="first.example", sink=last.port)
    first.send("a@b.example", "x@local.example")
    first.send("a@b.example", "joe@elsewhere.example")
    assert first.wait_maildir("x")
    last.wait_log(r"relay not permitted|=> .*elsewhere|<= a@b.example")


def test_connection_is_reused(bulkhead, sink):
    b = bulkhead(sink=sink)
    c = b.client()
    c.ask("EHLO x.example", 250)
    for i in range(40):
        assert c.mail("a@b.example", "x%d@y.example" % i, HEADER + b"n\r\n", helo=None).startswith("250")
    sink.wait(40)
    assert sink.sessions < 40
    b.wait_empty()


def test_lmtp_over_unix_socket(bulkhead, tmp_path):
    path = "/tmp/bh-lmtp-%d" % os.getpid()
    answers = {"bad": "550 5.1.1 no such user", "later": "450 4.2.0 busy"}
    s = Sink(lmtp=True, path=path, on_rcpt=lambda line: answers.get(re.search("<(.*?)@", line).group(1)))
    try:
        b = bulkhead(routers="all:\n  driver = accept\n  transport = lmtp\n", transports="lmtp:\n  driver = lmtp\n  socket = %s\n" % path,
                     main="bounce_return_message = true")
        b.send("a@b.example", ["good@y.example", "bad@y.example", "later@y.example"])
        s.wait(1)
        assert s.messages[0][1] == ["good@y.example"]
        b.wait_log(r"\*\* bad@y\.example .*no such user")
        b.wait_log(r"== later@y\.example .*busy")
    finally:
        s.close()
        os.unlink(path)


def test_client_source_over_ipv6(bulkhead, sink):
    import socket
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    b = bulkhead(sink=sink, config=None, main="hostlist six = <; ::1", acl="acl_check_rcpt:\n  accept hosts = +six\n  deny message = no\n",
                 port=None)
    b.stop()
    text = open(b.conf).read().replace("local_interfaces = 127.0.0.1", "local_interfaces = <; 127.0.0.1 ; ::1")
    open(b.conf, "w").write(text)
    b.start()
    c = Client(b.port, address="::1")
    assert c.mail("a@b.example", "x@y.example", HEADER + b"six\r\n").startswith("250")
    assert b"[IPv6:::1]" in sink.wait(1)[0][2] or b"[::1]" in sink.wait(1)[0][2]
