# SPDX-License-Identifier: ISC
"""The log is Exim's: Debian's exigrep and eximstats read it; trace shows a life."""
import re

import pytest

from bulkhead import Sink
from oracle import Oracle


@pytest.fixture
def busy(bulkhead):
    s = Sink(on_rcpt=lambda line: "550 5.1.1 no such user" if "<bad@" in line else None)
    b = bulkhead(sink=s)
    ids = [b.send("joe@local.example", ["x%d@y.example" % i, "ann@local.example"]) for i in range(5)]
    ids.append(b.send("joe@local.example", "bad@y.example"))
    c = b.client()
    c.ask("EHLO stranger.example", 250)
    c.ask("RSET", 250)
    b.wait_maildir("joe")
    b.wait_maildir("ann", 5)
    b.wait_empty()
    yield b, ids
    s.close()


def exim_tool(b, tmp_path, program, *args):
    """One of the log tools of Debian's exim4-base, in the root of the peer, over this instance's log."""
    done = Oracle(tmp_path, shared=[b.dir + "/log"]).run([*args, b.dir + "/log/mainlog"], program=program)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.decode()


def test_exigrep(busy, tmp_path):
    b, ids = busy
    out = exim_tool(b, tmp_path, "exigrep", "-l", ids[0])
    assert len(re.findall(r"%s <= joe@local\.example H=" % ids[0], out)) == 1
    assert re.search(r"%s => x0@y\.example R=sink T=smtp H=127\.0\.0\.1 \[127\.0\.0\.1\]" % ids[0], out), out
    assert re.search(r"%s Completed" % ids[0], out)
    assert ids[1] not in out


def test_eximstats(busy, tmp_path):
    b, ids = busy
    text = exim_tool(b, tmp_path, "eximstats", "-nr", "-ne")
    received = re.search(r"^\s*Received\s+\S+\s+(\d+)", text, re.M)
    delivered = re.search(r"^\s*Delivered\s+\S+\s+(\d+)", text, re.M)
    assert received and int(received.group(1)) == 7, text           # six and the report
    assert delivered and int(delivered.group(1)) == 11, text


def test_trace(busy):
    b, ids = busy
    out = b.command("trace", ids[5])
    assert re.search(r"%s \*\* bad@y\.example" % ids[5], out), out
    assert re.search(r"<= <> R=%s " % ids[5], out)
    assert re.search(r"=> joe(@local\.example)? ", out), "the report's own life is part of it: " + out
    code, out, err = b.command("trace", "1aaaaa-000000-00", check=False)
    assert code == 1


def test_logs_reopen(busy):
    import os
    b, ids = busy
    os.rename(b.dir + "/log/mainlog", b.dir + "/log/mainlog.1")
    b.command("logs")
    id = b.send("a@b.example", "ann@local.example")
    b.wait_log(id + " Completed")
    assert id not in open(b.dir + "/log/mainlog.1").read()


def test_strangers_words_are_escaped(busy):
    b, ids = busy
    c = b.client()
    c.send(b"EHLO evil\x1b[31m\x07.example\r\n")
    c.reply()
    c.send(b"VRFY \xff\xfe\r\n")
    c.reply()
    c.ask("QUIT")
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", open(b.dir + "/log/mainlog", "rb").read())
