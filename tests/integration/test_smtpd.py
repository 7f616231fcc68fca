# SPDX-License-Identifier: ISC
"""Hostile dialogues against a whole instance: what a client sends octet by octet, what it is told, and that nothing comes through
that should not."""
import os
import re
import select
import socket
import time

import pytest

from bulkhead import SENDMAIL, Client, Instance, wait_for

EHLO = b"EHLO c.example\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@local.example>\r\n"
INNER = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<ann@local.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n"

# End of data as others see it: name, octets, whether the connection must be gone
SMUGGLING = [
    ("LF.LF", b"\n.\n", True), ("LF.CRLF", b"\n.\r\n", True), ("CRLF.LF", b"\r\n.\n", True),
    ("CR.CR", b"\r.\r", False), ("CR.CRLF", b"\r.\r\n", False), ("CRLF.CR", b"\r\n.\r", False), ("CRLF.CRCRLF", b"\r\n.\r\r\n", False),
    ("CRCRLF.CRCRLF", b"\r\r\n.\r\r\n", False), ("LFCR.CRLF", b"\n\r.\r\n", False), ("NUL before the end", b"\r\n\0.\r\n", False),
    ("NUL behind the dot", b"\r\n.\0\r\n", False),
]


@pytest.fixture(scope="module")
def one():
    """An instance for all dialogues of this file that change nothing in it."""
    from bulkhead import Instance
    b = Instance(main="log_selector = +smtp_syntax_error +smtp_protocol_error\nsmtp_accept_max = 200\nsmtp_accept_max_nonmail = 100").start()
    yield b
    b.destroy()


def to_data(b):
    c = b.client()
    c.ask("EHLO c.example", 250)
    c.send(ENVELOPE + b"DATA\r\n")
    assert [c.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
    return c


@pytest.mark.parametrize("name,end,gone", SMUGGLING, ids=[s[0] for s in SMUGGLING])
@pytest.mark.parametrize("pieces", [0, 1], ids=["whole", "octets"])
def test_smuggling(one, name, end, gone, pieces):
    c = to_data(one)
    data = b"Subject: outer\r\n\r\nouter" + end + INNER
    try:
        if pieces:
            for i in range(len(data)):
                c.send(data[i:i + 1])
        else:
            c.send(data)
    except OSError:
        assert gone
    assert c.reply().startswith("550 5.6."), name
    if gone:
        assert c.at_end()
    else:
        assert c.ask("NOOP", 250)  # and the dialogue is in step
    c.close()
    assert not one.queue()
    assert not one.maildir("ann") and not one.maildir("joe")


COMMANDS = [
    ("bare LF", b"NOOP\n", "500"), ("bare CR", b"NO\rOP\r\n", "500"), ("NUL", b"NO\0OP\r\n", "500"), ("tab", b"MAIL\tFROM:<a@b>\r\n", "500"),
    ("8 bit", b"MAIL FROM:<\xc3\xa4@b>\r\n", "501"), ("control", b"MAIL FROM:<a\x01@b>\r\n", "500"), ("long", b"NOOP " + b"x" * 5000 + b"\r\n", "500"),
    ("unknown", b"FOO\r\n", "500"), ("no brackets", b"MAIL FROM:a@b\r\n", "501"), ("two addresses", b"MAIL FROM:<a@b><c@d>\r\n", "501"),
    ("address with a LF", b"MAIL FROM:<\"a\nb\"@c>\r\nRSET\r\n", "500"), ("no domain", b"MAIL FROM:<a>\r\n", "501"), ("parameter", b"MAIL FROM:<a@b> X=1\r\n", "555"),
    ("too large", b"MAIL FROM:<a@b> SIZE=99999999999\r\n", "552"), ("RCPT first", b"RCPT TO:<a@b>\r\n", "503"), ("DATA first", b"DATA\r\n", "503"),
]


@pytest.mark.parametrize("name,line,want", COMMANDS, ids=[c[0] for c in COMMANDS])
def test_refused_commands(one, name, line, want):
    c = one.client()
    c.ask("EHLO c.example", 250)
    c.send(line)
    assert c.reply().startswith(want)
    c.send(b"\r\n" if name == "bare LF" else b"")
    assert name != "address with a LF" or c.reply().startswith("250")
    c.ask("NOOP", 250)
    c.close()


def test_commands_behind_a_bare_lf_are_not_obeyed(one):
    c = one.client()
    c.ask("EHLO c.example", 250)
    c.send(b"NOOP\nMAIL FROM:<a@b.example>\r\nRCPT TO:<joe@local.example>\r\n")
    assert c.reply().startswith("500")
    assert c.reply().startswith("503")
    c.close()


def test_early_talker(one):
    c = Client(one.port, greet=False)
    c.send(EHLO)
    got = c.reply()
    # If the greeting was faster, EHLO was in order.
    assert got.startswith("554") and c.at_end() or got.startswith("220")
    c.close()


def test_data_before_354(one):
    c = one.client()
    c.ask("EHLO c.example", 250)
    c.send(ENVELOPE + b"DATA\r\nx\r\n.\r\n")
    assert [c.reply()[:3] for _ in range(3)] == ["250", "250", "554"]
    assert c.at_end()


def test_pipelining_is_answered_in_order(one):
    c = one.client()
    c.ask("EHLO c.example", 250)
    n = 200
    c.send(b"MAIL FROM:<a@b.example>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % (b"bad" if i % 3 == 0 else b"r%d@x.example" % i) for i in range(n)) + b"RSET\r\nNOOP\r\n")
    replies = [c.reply()[:3] for _ in range(4)]
    assert replies == ["250", "501", "250", "250"]
    got = replies + [c.reply()[:3] for _ in range(n - 1)]
    # too many syntax errors end it: smtp_max_synprot_errors
    assert got[4] == "501" and "" in got
    c.close()


def test_too_many_errors(one):
    c = one.client()
    c.ask("EHLO c.example", 250)
    for _ in range(3):
        c.ask("MAIL", 501)
    assert "Too many syntax or protocol errors" in c.ask("MAIL")
    assert c.at_end()
    one.wait_log(r"SMTP call from .* dropped: too many syntax or protocol errors")


def test_limits(bulkhead):
    b = bulkhead(main="smtp_accept_max = 3\nsmtp_accept_max_per_host = 2\nmessage_size_limit = 10K\nreceived_headers_max = 3\nrecipients_max = 2\n"
                      "smtp_accept_max_per_connection = 3\nheader_maxsize = 2K")
    one, two = b.client(), b.client()
    three = b.client()
    assert three.greeting.startswith("421") and three.at_end()
    two.ask("QUIT", 221)
    two.close()
    one.ask("EHLO c.example", 250)

    def send(rcpts, content):
        one.send("MAIL FROM:<a@b.example>\r\n" + "".join("RCPT TO:<%s@local.example>\r\n" % r for r in rcpts) + "DATA\r\n")
        codes = [one.reply()[:3] for _ in range(len(rcpts) + 2)]
        return codes, one.data(content)[:3]
    assert send(["joe", "ann", "bob"], b"x" * 20000) == (["250", "250", "250", "452", "354"], "552")
    assert send(["joe"], b"Received: x\r\n" * 4 + b"\r\n") == (["250", "250", "354"], "550")
    assert send(["joe"], b"X: " + b"y" * 3000 + b"\r\n\r\n") == (["250", "250", "354"], "552")
    assert one.ask("MAIL FROM:<a@b.example>").startswith("421") and one.at_end()
    assert not b.queue()


def test_deadlines(bulkhead):
    b = bulkhead(main="smtp_receive_timeout = 2s\nsmtp_command_timeout = 3s")
    silent, dribbler = b.client(), b.client()
    start = time.monotonic()
    while not select.select([dribbler.sock], [], [], 0.2)[0]:
        assert time.monotonic() < start + 7
        dribbler.send(b"N")
    assert dribbler.reply().startswith("421")
    assert silent.reply().startswith("421")
    b.wait_log("SMTP command timeout on connection from ")


def test_lost_connections_leave_nothing(one):
    for data in (b"", b"Subject: x\r\n\r\n" + b"y" * 500000):
        c = to_data(one)
        c.send(data)
        c.close()
    one.wait_log("lost while reading message data")
    assert not one.queue()


def test_many_sessions(bulkhead):
    b = bulkhead(main="smtp_accept_max = 0")
    clients = [b.client() for _ in range(400)]
    for c in clients:
        c.ask("EHLO c.example", 250)
    for c in clients[::40]:
        assert c.mail("a@b.example", "joe@local.example", b"x\r\n", helo=None).startswith("250")
    b.wait_maildir("joe", 10)
    for c in clients:
        c.close()


def test_local_submission(bulkhead):
    import subprocess
    b = bulkhead()
    subprocess.run([SENDMAIL, "-C", b.conf, "-f", "boss@else.example", "joe@local.example"], input=b"Subject: s\n\nhello\n", check=True, timeout=30)
    got = b.wait_maildir("joe")[0]
    assert b"\nMessage-Id: <E" in got and b"\nDate: " in got and b"\nFrom: " in got
    assert b" with local (" in got
    b.wait_log(r"<= boss@else\.example U=root P=local ")  # root may


@pytest.mark.parametrize("option, claimed, sender", [
    (None, "boss@else.example", "nobody@mx.test.example"),
    ("*", "boss@else.example", "boss@else.example"),
    ("^$sender_ident- : *@mine.example", "nobody-x@else.example", "nobody-x@else.example"),
    ("^$sender_ident- : *@mine.example", "x@mine.example", "x@mine.example"),
    ("^$sender_ident- : *@mine.example", "boss@else.example", "nobody@mx.test.example"),
    ("${lookup{x}lsearch{/nosuch/file}}", "boss@else.example", "nobody@mx.test.example"),
    ("*@mine.example", "<>", "<>"),
])
def test_untrusted_set_sender(bulkhead, option, claimed, sender):
    import pwd
    import subprocess
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    b = bulkhead(main="untrusted_set_sender = %s\nacl_not_smtp_start = start" % option if option else "acl_not_smtp_start = start",
                 acl=Instance.ACL + "start:\n  accept logwrite = seen [$sender_address]\n")
    os.chmod(b.conf, 0o644)
    uid = pwd.getpwnam("nobody").pw_uid
    subprocess.run([SENDMAIL, "-C", b.conf, "-f", claimed, "joe@local.example"], input=b"Subject: s\n\nhello\n", check=True, timeout=30,
                   preexec_fn=lambda: os.setuid(uid))
    b.wait_log(r"<= %s(?: R=\S+)? U=nobody P=local " % re.escape(sender))
    b.wait_log(r"seen \[%s\]" % re.escape(sender.strip("<>")))


def test_half_closed_session_gets_its_answer(one):
    c = to_data(one)
    c.send(b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
    c.sock.shutdown(socket.SHUT_WR)
    assert c.reply().startswith("250") and c.reply().startswith("221")
    wait_for(lambda: not one.queue(), 20)
    for u in ("joe",):
        d = os.path.join(one.dir, "mail", u, "new")
        for f in os.listdir(d):
            os.unlink(os.path.join(d, f))
