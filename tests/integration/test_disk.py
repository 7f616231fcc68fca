# SPDX-License-Identifier: ISC
"""The disk: full, and holding what it should not. Nothing that was answered 250 is lost, and all recovers by itself."""
import os
import shutil
import subprocess

import pytest

from bulkhead import Client, wait_for
from test_flow import HEADER

MAIN = "check_spool_space = 1M\ncheck_spool_inodes = 0"


def taken(b, rcpt, body):
    c = b.client()
    try:
        c.ask("EHLO x.example", 250)
        return c.ask("MAIL FROM:<a@b.example>").startswith("250") and c.mail("a@b.example", rcpt, body).startswith("250")
    finally:
        c.close()


def test_full_disk(tmpfs, bulkhead, sink):
    """A spool on a small file system: 452 when it is full, no message lost, and intake opens again by itself."""
    small = tmpfs("96M")
    b = bulkhead(sink=9, directory=small, main=MAIN, retry="* * F,1d,1s")
    accepted, refused = [], []
    body = HEADER + b"x" * 70 * 1000 + b"\r\n"
    for i in range(3000):
        c = b.client()
        try:
            c.ask("EHLO x.example", 250)
            got = c.ask("MAIL FROM:<a@b.example> SIZE=%d" % len(body))
            if got.startswith("250"):
                got = c.ask("RCPT TO:<r%d@y.example>" % i)
            if got.startswith("250"):
                got = c.ask("DATA")
            if got.startswith("354"):
                got = c.data(body)
            (accepted if got.startswith("250") else refused).append((i, got))
        finally:
            c.close()
        if len(refused) >= 5:
            break
    assert accepted and refused, (len(accepted), len(refused))
    # The message that fills the disk before the gate has seen it may be told 451 at its end; all later ones 452 at once.
    assert refused[0][1].startswith(("451", "452")) and all(r.startswith("452") for _, r in refused[1:]), refused
    wait_for(lambda: int(b.command("queue", "count")) == len(accepted), why=b.logs)
    # What lies in the way of the last octet: fill it up, then let go.
    ballast = os.path.join(small, "ballast")
    subprocess.run(["dd", "if=/dev/zero", "of=" + ballast, "bs=64k"], stderr=subprocess.DEVNULL)
    assert not b.client().ask("NOOP").startswith("5")
    os.unlink(ballast)
    # Deliver all of it: a full disk must not stand in the way of finishing.
    text = open(b.conf).read().replace("127.0.0.1::9", "127.0.0.1::%d" % sink.port)
    with open(b.conf, "w") as f:
        f.write(text)
    b.command("reload")
    b.command("queue", "retry", "--all")
    sink.wait(len(accepted), 90)
    assert sorted(m[1][0] for m in sink.messages) == sorted("r%d@y.example" % i for i, _ in accepted)
    assert all(m[2].endswith(body) for m in sink.messages)
    b.wait_empty()
    # Intake opens again within the interval of the gate, without anybody's doing.
    wait_for(lambda: taken(b, "again@y.example", body), 30, 0.5, why=b.logs)
    sink.wait(len(accepted) + 1)


def test_store_that_is_full_defers(tmpfs, bulkhead):
    """A maildir on a full file system: deferred, nothing partial left, delivered when there is room."""
    small = tmpfs("2M")
    b = bulkhead(retry="* * F,1d,1s", transports="""
smtp:
  driver = smtp
maildir:
  driver = appendfile
  directory = %s/mail/$local_part_data
  maildir_format
  create_directory
  user = {mail_uid}
  group = {mail_uid}
""" % small)
    b.stop()
    text = open(b.conf).read().replace("store_directories = " + b.dir, "store_directories = " + small)
    with open(b.conf, "w") as f:
        f.write(text)
    os.makedirs(small + "/mail")
    shutil.chown(small + "/mail", b.mail_uid, b.mail_uid)
    with open(small + "/ballast", "wb") as f:
        try:
            while f.write(b"\0" * 65536):
                f.flush()
        except OSError:
            pass
    b.start()
    b.send("a@b.example", "joe@local.example", HEADER + b"y" * 60000 + b"\r\n")
    b.wait_log(r"== joe@local\.example R=local T=maildir defer \(28\)")
    left = [n for base, _, names in os.walk(small + "/mail") for n in names]
    assert left == [], left
    os.unlink(small + "/ballast")
    wait_for(lambda: os.path.isdir(small + "/mail/joe/new") and os.listdir(small + "/mail/joe/new"), 30, why=b.logs)
    b.wait_empty()


def spool_files(b):
    return [os.path.join(base, n) for base, _, names in os.walk(os.path.join(b.dir, "spool", "queue")) for n in names]


def test_damaged_and_foreign_files(bulkhead, sink):
    """Damaged, cut off and foreign files in the spool: set aside, frozen or left alone, and reported; all others are delivered.
    The journal, which may have them whole, is taken away."""
    b = bulkhead(sink=9, retry="* * F,1d,1s")
    body = {i: HEADER + b"z" * 1000 * (i + 1) + b"\r\n" for i in range(8)}
    ids = [b.send("s%d@b.example" % i, "r%d@y.example" % i, body[i]) for i in range(8)]
    wait_for(lambda: len(b.queue()) == 8)
    b.stop()
    shutil.rmtree(os.path.join(b.dir, "spool", "journal")) # allowed after an orderly stop (docs/SPOOL.md)
    files = {i: [f for f in spool_files(b) if os.path.basename(f) == i][0] for i in ids}
    with open(files[ids[1]], "r+b") as f:          # the last record
        f.seek(-20, 2)
        f.write(b"\xff\xff\xff\xff")
    os.truncate(files[ids[2]], 100)                # cut off within the content
    os.truncate(files[ids[3]], 0)                  # as if it had never been accepted
    with open(files[ids[4]], "r+b") as f:          # the content
        f.seek(600)
        f.write(b"y")
    directory = os.path.dirname(files[ids[0]])
    with open(os.path.join(directory, "README"), "w") as f:
        f.write("what is this doing here\n")
    with open(os.path.join(directory, "1aaaaa-000001-00"), "wb") as f:
        f.write(os.urandom(5000))
    os.mkdir(os.path.join(directory, "1aaaaa-000002-00"))
    text = open(b.conf).read().replace("127.0.0.1::9", "127.0.0.1::%d" % sink.port)
    with open(b.conf, "w") as f:
        f.write(text)
    b.start()
    b.command("queue", "retry", "--all")
    want = {"r%d@y.example" % i for i in (0, 5, 6, 7)}
    wait_for(lambda: want <= {m[1][0] for m in sink.messages}, 60, why=b.logs)
    damaged = os.path.join(b.dir, "spool", "damaged")
    for i in (1, 2):
        wait_for(lambda: any(n.startswith(ids[i]) for n in os.listdir(damaged)), 20, why=lambda: "%d\n%s" % (i, b.logs()))
    wait_for(lambda: [(m["id"], m["state"]) for m in b.queue()] == [(ids[4], "frozen")], why=lambda: str(b.queue()))
    for i in (1, 2, 4):
        assert ids[i] in b.log("panic"), b.log("panic")
    b.command("queue", "remove", ids[4])
    b.wait_empty()
    assert {m[1][0] for m in sink.messages} == want and len(sink.messages) == len(want)
    for m in sink.messages:
        assert m[2].endswith(body[int(m[1][0][1])]), "a message is delivered whole or not at all"
    for name in ("README", "1aaaaa-000001-00", "1aaaaa-000002-00"):
        assert os.path.exists(os.path.join(directory, name)) and name in b.log("panic")
