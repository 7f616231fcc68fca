# SPDX-License-Identifier: ISC
"""Domains and messages that wait though nothing is wrong with them, with real daemons; and what Exim does with the same options."""
import os
import re

import pytest

from bulkhead import wait_for
from oracle import Oracle

OPTIONS = """
hold_domains = held.example
queue_domains = queued.example
queue_smtp_domains = pass.example
"""
RCPTS = ["h@held.example", "q@queued.example", "p@pass.example", "o@other.example"]


def deferred(log):
    """recipient -> (number, words) of the lines with ==."""
    return {m.group(1): (m.group(2), m.group(3)) for m in re.finditer(r"== (\S+) .*?\((-?\d+)\)(?: DT=\S+)?: (.*?)\.?$", log, re.M)}


@pytest.fixture(scope="module")
def exim_log(tmp_path_factory):
    """What Exim's log has for one message to all of them, delivered on arrival."""
    oracle = Oracle(str(tmp_path_factory.mktemp("exim")))
    oracle.write("/etc/exim4/oracle.conf", OPTIONS + """
primary_hostname = mx.test.example
keep_environment =
begin routers
discard:
  driver = redirect
  domains = other.example
  data = :blackhole:
sink:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  port = 9
begin retry
* * F,2h,1h
""")
    done = oracle.run(["-c", "mkdir -p /var/spool/exim4/input /var/log/exim4; chown -R Debian-exim /var/spool/exim4 /var/log/exim4;"
                             "printf 'Subject: x\\n\\nb\\n' | exim4 -C /etc/exim4/oracle.conf -odi -f s@x.example %s; cat /var/log/exim4/mainlog"
                       % " ".join(RCPTS)], program="sh")
    return done.stdout.decode()


def test_as_exim(bulkhead, sink, exim_log):
    b = bulkhead(sink=sink, main=OPTIONS)
    b.send("", RCPTS)
    b.wait_log(r"=> o@other\.example ")
    b.wait_log(r"== p@pass\.example ")
    ours, theirs = deferred(b.log()), deferred(exim_log)
    assert set(theirs) == set(RCPTS[:3]), exim_log
    assert set(ours) == set(theirs), b.log()
    assert ours["h@held.example"] == theirs["h@held.example"]
    assert ours["q@queued.example"][1] == theirs["q@queued.example"][1]
    assert ours["p@pass.example"][1].split(" due ")[0] == theirs["p@pass.example"][1].split(" due ")[0] == "first-pass only routing"
    assert [r for m in sink.messages for r in m[1]] == ["o@other.example"]


def test_an_administrator_lets_them_go(bulkhead, sink):
    b = bulkhead(sink=sink, main=OPTIONS)
    id = b.send("", RCPTS)
    wait_for(lambda: [m for m in b.queue() if m["state"] == "deferred"], why=b.logs)
    b.command("queue", "retry", id)
    b.wait_empty()
    assert sorted(r for m in sink.messages for r in m[1]) == sorted(RCPTS)


def test_the_queue_run_comes(bulkhead, sink):
    """queue_interval is the time between queue runs: what was queued goes then, what is held does not."""
    b = bulkhead(sink=sink, main=OPTIONS + "queue_interval = 2s\n")
    b.send("", RCPTS)
    wait_for(lambda: sorted(r for m in sink.messages for r in m[1]) == sorted(RCPTS[1:]), why=b.logs)
    b.wait_log(r"(?s)== h@held\.example .*== h@held\.example ")
    assert [m["state"] for m in b.queue()] in (["deferred"], ["active"])


def test_queue_only_file(bulkhead, sink):
    """While the file is there mail waits; the router's own view of the disk has its directory."""
    b = bulkhead(sink=sink, main="queue_only_file = smtp{dir}/flags/smtp : {dir}/flags/all\n")
    os.mkdir(os.path.join(b.dir, "flags"))
    b.command("reload")
    flag = os.path.join(b.dir, "flags", "smtp")
    open(flag, "w").close()
    b.send("", ["u@far.example", "joe@local.example"])
    b.wait_maildir("joe")
    b.wait_log(r"== u@far\.example R=sink T=smtp defer \(-1\): first-pass only routing")
    os.rename(flag, os.path.join(b.dir, "flags", "all"))
    b.send("", "ann@local.example")
    b.wait_log(r"== ann@local\.example defer \(-1\): a file of queue_only_file exists")
    os.unlink(os.path.join(b.dir, "flags", "all"))
    b.send("", ["v@far.example"])
    sink.wait(1)
    assert sink.messages[0][1] == ["v@far.example"] and not b.maildir("ann")


def test_one_at_a_time_in_order(bulkhead, sink):
    """remote_max_parallel = 1 and remote_sort_domains: the order in which the hosts see the domains is the list's."""
    b = bulkhead(sink=sink, main="remote_max_parallel = 1\nremote_sort_domains = *.c.example : b.example\n")
    b.send("", ["1@a.example", "2@b.example", "3@x.c.example", "4@d.example", "5@y.c.example"])
    b.wait_empty()
    order = re.findall(r"[=-]> (\S+)@", b.log())
    assert sorted(order[:2]) == ["3", "5"] and order[2] == "2" and sorted(order[3:]) == ["1", "4"], b.log()


def test_first_pass_route(bulkhead, sink):
    b = bulkhead(sink=sink, acl="acl_check_rcpt:\n  accept domains = far.example\n    control = queue/first_pass_route\n  accept\n")
    b.send("", ["u@far.example", "joe@local.example"])
    b.wait_maildir("joe")
    b.wait_log(r"== u@far\.example R=sink T=smtp defer \(-1\): first-pass only routing")
    assert not sink.messages


def test_queue_only_load(bulkhead, sink):
    """Any load is more than none: everything waits; a load that no machine has changes nothing."""
    if os.getloadavg()[0] < 0.02:
        pytest.skip("nothing else runs here")
    b = bulkhead(sink=sink, main="queue_only_load = 0\nsmtp_load_reserve = 100000\ndeliver_queue_load_max = 100000\nqueue_interval = 1s\n")
    b.send("", "u@far.example")
    b.wait_log(r"no immediate delivery: load average \d+\.\d\d")
    sink.wait(1)
    b = bulkhead(sink=sink, main="queue_only_load = 100000\n")
    b.send("", "v@far.example")
    sink.wait(2)
    assert "no immediate delivery" not in b.log()
