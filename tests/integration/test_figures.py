# SPDX-License-Identifier: ISC
"""Figures of the queue and the disks: $queue_size, $spool_space and their kin, in ACLs and routers; check_log_space."""
import os
import re

from bulkhead import Client, wait_for

ACL = """
check_mail:
  accept
    logwrite = figures q=$queue_size s=$spool_space i=$spool_inodes l=$log_space j=$log_inodes
acl_check_rcpt:
  defer
    message = the queue is long
    condition = ${if >{$queue_size}{2}}
  accept
"""


def figures(b):
    c = b.client()
    before = len(re.findall("figures", b.log()))
    c.ask("EHLO x", 250)
    c.ask("MAIL FROM:<a@b.example>", 250)
    c.close()
    lines = wait_for(lambda: re.findall(r"figures (.*)\n", b.log())[before:])
    return {k: int(v) for k, v in re.findall(r"(\w)=(-?\d+)", lines[-1])}


def test_in_acls(bulkhead):
    b = bulkhead(sink=9, main="acl_smtp_mail = check_mail\n", acl=ACL)
    fs = os.statvfs(b.dir)
    got = wait_for(lambda: figures(b), 20)
    assert got["q"] == 0
    assert abs(got["s"] - fs.f_bavail * fs.f_frsize // 1024) < 4 << 20 and abs(got["l"] - fs.f_bavail * fs.f_frsize // 1024) < 4 << 20
    assert got["i"] > 0 and got["j"] > 0
    for i in range(3):
        b.send("", "u%d@far.example" % i)
    wait_for(lambda: figures(b)["q"] == 3, 30)
    c = b.client()
    c.ask("EHLO x", 250)
    c.ask("MAIL FROM:<a@b.example>", 250)
    assert re.fullmatch(r"45\d (4\S+ )?the queue is long", c.ask("RCPT TO:<x@far.example>"))
    c.close()


def test_in_routers(bulkhead):
    """The queue's own size counts the message that is being routed."""
    b = bulkhead(sink=9, routers="r:\n  driver = redirect\n  data = :fail: q=$queue_size s=${if >{$spool_space}{0}{some}}\n  allow_fail\n")
    for i in range(2):
        b.command("queue", "stats")
        b.send("", "u%d@far.example" % i)
    b.wait_log(r"\*\* u0@far\.example R=r: q=\d s=some")


def test_the_command_knows_the_disks(bulkhead):
    b = bulkhead()
    out = b.command("expand", "$queue_size:$spool_space:$log_inodes").strip()
    assert re.fullmatch(r":\d+:\d+", out), out


def test_check_log_space(bulkhead):
    """Too little room for the logs: nothing is taken; with a limit that is met again it is."""
    b = bulkhead(main="check_log_space = 1000000G\n")
    c = Client(b.port)
    c.ask("EHLO x", 250)
    assert c.ask("MAIL FROM:<a@b.example>").startswith("452 ")
    c.close()
    text = open(b.conf).read()
    with open(b.conf, "w") as f:
        f.write(text.replace("1000000G", "1K"))
    b.command("reload")

    def taken():
        c = Client(b.port)
        c.ask("EHLO x", 250)
        got = c.ask("MAIL FROM:<a@b.example>")
        c.close()
        return got.startswith("250")
    wait_for(taken, 20)


def test_connections(bulkhead):
    """$smtp_count_at_connection_start: as many as were open, itself among them, and for good."""
    b = bulkhead(main="acl_smtp_mail = check_mail\n", acl="check_mail:\n  deny message = n=$smtp_count_at_connection_start\nacl_check_rcpt:\n  accept\n")
    open_ = [b.client() for _ in range(3)]
    for n, c in enumerate(open_, 1):
        c.ask("EHLO x", 250)
        assert re.fullmatch(r"550 (5\S+ )?n=%d" % n, c.ask("MAIL FROM:<a@b.example>")), n
    for c in open_:
        c.close()
