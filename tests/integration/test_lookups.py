# SPDX-License-Identifier: ISC
"""Lookups against the real thing: Redis over TCP and socket, LMDB files from mdb_load, aliases that change under our feet;
servers that are down or slow defer, and hold up nobody else."""
import dbm.ndbm
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from bulkhead import BIN, Client, free_port, wait_for
from oracle import Oracle
from redis_server import redis


ACL = """
acl_check_rcpt:
  accept domains = ${lookup redis{SMEMBERS relay_to}{${sg{$value}{\\n}{:}}}}
  deny message = not in the set
"""


def rcpt(b, addr):
    c = b.client()
    try:
        c.ask("EHLO x.example", 250)
        c.ask("MAIL FROM:<a@b.example>", 250)
        return c.ask("RCPT TO:<%s>" % addr)
    finally:
        c.close()


def test_redis_decides(bulkhead, redis, sink):
    redis.cli("SADD", "relay_to", "good.example", "fine.example")
    b = bulkhead(sink=sink, acl=ACL, main="hide redis_servers = 127.0.0.1::%d/2/%s" % (redis.port, redis.password))
    assert rcpt(b, "x@good.example").startswith("250")
    assert rcpt(b, "x@bad.example").startswith("550")
    redis.cli("SADD", "relay_to", "bad.example")
    wait_for(lambda: rcpt(b, "x@bad.example").startswith("250"), 10)
    # Down: a temporary answer, never a wrong one; back: all is well again.
    redis.stop()
    assert rcpt(b, "x@good.example").startswith("451")
    redis.start()
    redis.cli("SADD", "relay_to", "good.example")
    wait_for(lambda: rcpt(b, "x@good.example").startswith("250"), 15, why=b.logs)
    assert redis.password not in b.logs()


def test_a_slow_redis_holds_up_nobody_else(bulkhead, redis, sink):
    redis.cli("SADD", "relay_to", "good.example")
    acl = "acl_check_rcpt:\n  accept domains = quick.example\n" + ACL.split(":\n", 1)[1]
    b = bulkhead(sink=sink, acl=acl, main="hide redis_servers = 127.0.0.1::%d/2/%s\nredis_timeout = 2s" % (redis.port, redis.password))
    assert rcpt(b, "x@good.example").startswith("250")
    threading.Thread(target=redis.cli, args=("DEBUG", "SLEEP", "8"), daemon=True).start()
    time.sleep(0.3)
    got = []
    slow = [threading.Thread(target=lambda: got.append(rcpt(b, "x@good.example")), daemon=True) for _ in range(3)]
    for t in slow:
        t.start()
    time.sleep(0.2)
    assert rcpt(b, "x@quick.example").startswith("250")
    assert not got, "the slow ones were to be still waiting: %s" % got
    for t in slow:
        t.join(30)
    assert got and all(g.startswith("451") for g in got), got


def test_redis_by_socket(bulkhead, redis):
    redis.cli("SET", "k", "value by socket")
    b = bulkhead(main="hide redis_servers = localhost(%s/redis.sock)/2/%s" % (redis.dir, redis.password))
    assert b.command("expand", "${lookup redis{GET k}}").strip() == "value by socket"
    assert b.command("expand", "${lookup redis{GET none}}<").strip() == "<"
    assert b.command("expand", "${lookup redis{EXISTS k}}").strip() == "true"
    assert b.command("expand", "${lookup redis{NONSENSE}}", check=False)[1].startswith("Failed: ")
    redis.cli("SET", "a b\\c", "odd key")
    assert b.command("expand", "${lookup redis{GET ${quote_redis:a b\\\\c}}}").strip() == "odd key"


def test_lmdb_made_by_mdb_load(bulkhead, sink, tmp_path):
    os.chmod(tmp_path, 0o755)
    b = bulkhead(sink=sink, acl="""
acl_check_rcpt:
  accept domains = lmdb;{dir}/domains.mdb
  deny message = not in the file
""")

    def load(text):
        subprocess.run(["mdb_load", "-T", "-n", b.dir + "/new.mdb"], input=text.encode(), check=True)
        os.chmod(b.dir + "/new.mdb", 0o644)
        os.rename(b.dir + "/new.mdb", b.dir + "/domains.mdb")
    assert rcpt(b, "x@one.example").startswith("451"), "no file yet: a temporary error"
    load("one.example\nyes\n")
    wait_for(lambda: rcpt(b, "x@one.example").startswith("250"), 10, why=b.logs)
    assert rcpt(b, "x@two.example").startswith("550")
    load("two.example\nyes\n")
    wait_for(lambda: rcpt(b, "x@two.example").startswith("250"), 10, why=b.logs)
    assert rcpt(b, "x@one.example").startswith("550")


def test_dbm_made_by_exim_dbmbuild(bulkhead, sink, tmp_path):
    for d in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        os.chmod(d, 0o755)
    b = bulkhead(sink=sink, acl="""
acl_check_rcpt:
  accept domains = partial-dbm;{dir}/domains.dbm
  accept condition = ${lookup {$local_part:$domain} dbmjz {{dir}/joined.db} {yes}}
  deny message = not in the file
""")
    exim = Oracle(tmp_path / "exim", shared=[b.dir])
    with dbm.ndbm.open(b.dir + "/joined", "n") as db:
        db[b"x\0joined.example"] = b"yes"
    os.chmod(b.dir + "/joined.db", 0o644)

    def make(text):
        with open(b.dir + "/domains.txt", "w") as f:
            f.write(text)
        done = exim.run([b.dir + "/domains.txt", b.dir + "/domains.dbm"], program="exim_dbmbuild")
        assert done.returncode == 0, done.stderr
        os.chmod(b.dir + "/domains.dbm", 0o644)
    assert rcpt(b, "x@one.example").startswith("451"), "no file yet: a temporary error"
    make("one.example: yes\n*.below.example: yes\n" + "".join("d%d.example: yes\n" % i for i in range(60000)))
    for domain in ("one.example", "a.below.example", "d59999.example", "joined.example"):
        wait_for(lambda: rcpt(b, "x@" + domain).startswith("250"), 10, why=b.logs)
    assert rcpt(b, "x@two.example").startswith("550")
    assert rcpt(b, "y@joined.example").startswith("550")
    make("two.example: yes\n")
    wait_for(lambda: rcpt(b, "x@two.example").startswith("250"), 10, why=b.logs)
    assert rcpt(b, "x@one.example").startswith("550")
    # Cut short, then nonsense: temporary errors, from workers that live on.
    size = os.path.getsize(b.dir + "/domains.dbm")
    os.truncate(b.dir + "/domains.dbm", size - 4096)
    assert rcpt(b, "x@two.example").startswith("451")
    b.wait_log("domains.dbm: damaged or cut short")
    with open(b.dir + "/domains.dbm", "wb") as f:
        f.write(b"two.example: yes\n" * 1000)
    assert rcpt(b, "x@two.example").startswith("451")
    b.wait_log("domains.dbm: no hash and no B-tree of Berkeley DB")
    make("one.example: yes\n")
    wait_for(lambda: rcpt(b, "x@one.example").startswith("250"), 10, why=b.logs)
    assert "was killed" not in b.logs() and "SIGSYS" not in b.logs()


def test_aliases_change_under_our_feet(bulkhead, sink):
    b = bulkhead(sink=sink, routers="""
aliases:
  driver = redirect
  data = ${lookup{$local_part}lsearch{{dir}/aliases}}
""" + "sink:\n  driver = manualroute\n  route_list = * 127.0.0.1::{sink}\n  transport = smtp\n  self = send\n")
    for i in range(3):
        with open(b.dir + "/aliases", "w") as f:
            f.write("list: new%d@y.example\n" % i)
        b.send("a@b.example", "list@local.example")
        wait_for(lambda: "new%d@y.example" % i in [r for m in sink.messages for r in m[1]], why=b.logs)


def test_a_file_outside_of_lookup_directories(bulkhead, tmp_path):
    """It is there for root, not for the daemons: the log says which option is meant, and so does the check."""
    os.chmod(tmp_path, 0o755)
    (tmp_path / "relay").write_text("good.example\n")
    b = bulkhead(acl="acl_check_rcpt:\n  accept domains = lsearch;%s/relay\n  deny local_parts = wildlsearch;%s/relay\n"
                 "  deny condition = ${lookup sqlite,file=%s/db{select 1}}\n" % (tmp_path, tmp_path, tmp_path))
    checked = subprocess.run([BIN, "-C", b.conf, "check-config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
    assert "warning: router will not see %s/relay: name its directory in lookup_directories" % tmp_path in checked
    assert rcpt(b, "x@good.example").startswith("451")
    wait_for(lambda: "failed to open %s/relay: No such file or directory (it is not in lookup_directories)" % tmp_path in b.logs(), why=b.logs)
    # Nor is it seen by one who may not read it.
    b = bulkhead(acl="acl_check_rcpt:\n  accept domains = lsearch;{dir}/relay\n")
    with open(b.dir + "/relay", "w") as f:
        f.write("good.example\n")
    os.chmod(b.dir + "/relay", 0o600)
    assert rcpt(b, "x@good.example").startswith("451")
    wait_for(lambda: re.search(r"relay: Permission denied \(it must be readable for router's user, uid \d{5}\)", b.logs()), why=b.logs)


def test_dns_down_defers(bulkhead):
    """A resolver that never answers: mail waits, other mail does not."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    b = bulkhead(main="dns_resolvers = 127.0.0.1#%d\ndns_retrans = 1s\ndns_retry = 1" % s.getsockname()[1], routers="""
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
far:
  driver = dnslookup
  transport = smtp
""")
    b.send("a@b.example", "x@far.example")
    b.send("a@b.example", "joe@local.example")
    assert b.wait_maildir("joe")
    b.wait_log(r"== x@far\.example R=far defer", 40)
    s.close()
