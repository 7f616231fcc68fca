# SPDX-License-Identifier: ISC
"""The log is Exim's: Debian's exigrep and eximstats read it; trace shows a life."""
import os
import re
import socket

import pytest

from bulkhead import Instance, Sink, wait_for
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


class Syslog:
    """What listens where syslogd would."""
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        os.chmod(path, 0o666)
        self.sock.settimeout(0.2)
        self.lines = []

    def read(self):
        try:
            while True:
                self.lines.append(self.sock.recv(65536).decode())
        except socket.timeout:
            return self.lines

    def wait(self, pattern):
        return wait_for(lambda: [x for x in self.read() if re.search(pattern, x)], why=lambda: "%r in %r" % (pattern, self.lines))


def with_syslog(request, tmp_path, place, main=""):
    path = str(tmp_path / "log.socket")
    b = Instance(main="syslog_socket = %s\n%s\n" % (path, main))
    request.addfinalizer(b.destroy)
    text = open(b.conf).read()
    with open(b.conf, "w") as f:
        f.write(re.sub(r"(?m)^log_file_path = (.*)$", lambda m: "log_file_path = " + place.replace("FILES", m.group(1)), text))
    return b, path


@pytest.mark.parametrize("place, main, files, rcpt", [
    ("syslog : FILES", "", True, [r"<22>\w{3} [ \d]\d \d\d:\d\d:\d\d bulkhead\[\d+\]: 20\d\d-\d\d-\d\d .* rejected RCPT <x@y", r"<21>.*rejected RCPT <x@y"]),
    ("syslog", "", False, [r"<22>.*rejected RCPT <x@y", r"<21>.*rejected RCPT <x@y"]),
    ("syslog", "syslog_duplication = false\nsyslog_facility = local3\nsyslog_timestamp = false\nsyslog_pid = false\nsyslog_processname = post",
     False, [r"^<157>\w{3} [ \d]\d \d\d:\d\d:\d\d post: H=.* rejected RCPT <x@y"]),
])
def test_syslog(request, tmp_path, place, main, files, rcpt):
    b, path = with_syslog(request, tmp_path, place, main)
    log = Syslog(path)
    b.start()
    b.send("joe@local.example", "ann@local.example")
    b.wait_maildir("ann")
    c = b.client(source=("127.0.0.9", 0))
    c.ask("EHLO stranger.example", 250)
    c.ask("MAIL FROM:<a@b.example>", 250)
    c.ask("RCPT TO:<x@y.example>", 550)
    log.wait(r"=> ann")
    assert len(log.wait(r"<= joe@local\.example H=")) == 1
    got = log.wait("rejected RCPT")
    assert len(got) == len(rcpt) and all(any(re.search(p, x) for x in got) for p in rcpt), got
    assert bool(re.search("=> ann", b.log())) == files
    if not files:
        code, out, err = b.command("trace", "1aaaaa-000000-00", check=False)
        assert code == 69 and "syslog" in err


def test_syslog_that_is_not_there(request, tmp_path):
    b, path = with_syslog(request, tmp_path, "syslog")
    code, out, err = b.command("start", check=False)
    assert code != 0 and path in err + out, err + out


def test_syslog_that_went_away_loses_no_mail(request, tmp_path):
    b, path = with_syslog(request, tmp_path, "syslog : FILES")
    log = Syslog(path)
    b.start()
    log.sock.close()
    b.send("joe@local.example", "ann@local.example")
    b.wait_maildir("ann")
    b.wait_log("=> ann")
    os.unlink(path)
    log = Syslog(path)
    b.command("logs")
    b.send("joe@local.example", "ann@local.example")
    log.wait("=> ann")


def test_syslog_facility_unknown(request, tmp_path):
    b, path = with_syslog(request, tmp_path, "syslog", "syslog_facility = post")
    log = Syslog(path)
    code, out, err = b.command("start", check=False)
    assert code != 0 and "local0 to local7" in err + out
    log.sock.close()
