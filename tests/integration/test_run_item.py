# SPDX-License-Identifier: ISC
"""${run} with real daemons, in an ACL (policyd) and in a router's condition: under whose login programs run, with what, and what becomes of
those that hang, are killed, print too much, or may not be run."""
import glob
import os
import re

import pytest

from bulkhead import UID_BASE, Instance, read, wait_for
from program import Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="programs under a login of their own need root")

MAIN = "run_commands = %(dir)s/prog : %(dir)s/absent\nrun_user = {mail_uid}\nrun_group = {mail_uid}\n%(more)s"
ACL = """
acl_check_rcpt:
  accept domains = routed.example
  deny condition = ${run{%(dir)s/prog acl "$local_part" '' "a b"}{no}{yes}}
    message = code $runrc
    log_message = said: ${tr{$value}{\\n}{;}}
  accept
"""
ROUTERS = """
asked:
  driver = accept
  condition = ${run,preexpand{%(dir)s/prog router ${lc:ONE  TWO}}{yes}{no}}
  domains = routed.example
  transport = smtp
asked2:
  driver = manualroute
  domains = routed.example
  condition = ${if eq{${run{%(dir)s/prog router $sender_address}{${sg{$value}{\\n}{}}}{no}}}{pass}}
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
refused:
  driver = redirect
  domains = routed.example
  allow_fail
  data = :fail: not asked
"""
SCRIPT = """#!/bin/sh
for w; do printf '<%s>' "$w"; done >> DIR/runs
echo >> DIR/runs
. DIR/script
"""


class Run(Program):
    def __init__(self):
        super().__init__("prog", SCRIPT)
        self.does("true")

    def fill(self, text, **more):
        return text % {"dir": self.dir, "more": more.get("more", "")}


@pytest.fixture
def program():
    p = Run()
    yield p
    p.remove()


@pytest.fixture
def instance(bulkhead, sink, program):
    def make(more="", acl=ACL, main=MAIN):
        return bulkhead(main=program.fill(main, more=more), acl=program.fill(acl), routers=program.fill(ROUTERS), sink=sink)
    return make


@pytest.fixture
def rcpt():
    """Asks for a recipient in a session of its own."""
    open_now = []

    def ask(i, address="x@local.example", want=None):
        c = i.client()
        open_now.append(c)
        c.ask("EHLO client.example", 250)
        c.ask("MAIL FROM:<s@client.example>", 250)
        return c.ask("RCPT TO:<%s>" % address, want)
    yield ask
    for c in open_now:
        c.close()


def test_acl(instance, program, rcpt):
    i = instance()
    program.does("id -u; id -G; pwd; wc -c; echo to stderr >&2; exit 7")
    assert rcpt(i, "a|`id`&$x@local.example", 550) == "550 5.7.1 code 7"
    i.wait_log("said: %d;%d;/;0;to stderr;" % (i.mail_uid, i.mail_uid))
    assert program.runs() == ["<acl><a|`id`&$x><><a b>"]
    program.does("env > %s/env; ls -l /proc/self/fd > %s/fd; grep NoNewPrivs /proc/self/status" % (program.dir, program.dir))
    rcpt(i, want=250)
    env = dict(line.split("=", 1) for line in read(os.path.join(program.dir, "env")).splitlines())
    assert not set(env) - {"PATH", "PWD", "SHLVL", "_", "OLDPWD", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"}, env
    assert re.findall(r" (\d+) -> ", read(os.path.join(program.dir, "fd"))) == ["0", "1", "2", "3"], "3 is the folder that ls reads"
    assert len(i.daemons("query")) == 1


def test_router_condition(instance, program, sink):
    i = instance()
    program.does('test "$*" = "router s@client.example" && echo pass')
    i.send("s@client.example", "x@routed.example")
    assert sink.wait(1)[0][1] == ["x@routed.example"]
    assert program.runs() == ["<router><one><two>", "<router><s@client.example>"]
    program.does("exit 1")
    i.send("s@client.example", "y@routed.example")
    i.wait_log(r"\*\* y@routed.example .*not asked")


def test_hangs(instance, program, rcpt):
    mark = str(5000000 + os.getpid())
    program.does("sleep %s & sleep %s" % (mark, mark))
    i = instance("run_timeout = 1s\n")
    rcpt(i, want=451)
    i.wait_log("run: %s/prog timed out" % program.dir)
    wait_for(lambda: not any(mark in read(p) for p in glob.glob("/proc/[0-9]*/cmdline") if read(p).startswith("sleep")))
    i.send("s@client.example", "x@routed.example")
    i.wait_log("== x@routed.example R=asked .*timed out")
    program.does("true")
    rcpt(i, want=250)


@pytest.mark.parametrize("does,why", [("kill -9 $$", "was killed by signal 9"), ("head -c 65537 /dev/zero; exec sleep 1000", "wrote more than 65536 octets")])
def test_ends_badly(instance, program, rcpt, does, why):
    program.does(does)
    i = instance()
    rcpt(i, want=451)
    i.wait_log("run: %s/prog %s" % (program.dir, why))
    i.send("s@client.example", "x@routed.example")
    i.wait_log("== x@routed.example R=asked .*" + why)
    program.does("true")
    rcpt(i, want=250)


def test_as_much_as_there_may_be(instance, program, rcpt):
    program.does("head -c 65536 /dev/zero | tr '\\0' x; exit 1")
    i = instance(acl="acl_check_rcpt:\n  deny message = ${run{%(dir)s/prog}{}{${strlen:$value}}}\n")
    assert rcpt(i, want=550) == "550 5.7.1 65536"


def test_program_that_is_not_there(instance, program, rcpt):
    i = instance(acl="acl_check_rcpt:\n  deny message = code ${run{%(dir)s/absent}{yes}{$runrc}}\n")
    assert rcpt(i, want=550) == "550 5.7.1 code 127"
    i.wait_log("run: %s/absent: No such file" % program.dir)


@pytest.mark.parametrize("name,why", [('"${if eq{1}{1}{/bin/sh}}" -c "id > %(dir)s/runs"', '"/bin/sh" is not in run_commands'),
                                      ("$sender_address_domain", "the command's name is tainted")])
def test_names_made_at_run_time(instance, program, rcpt, name, why):
    i = instance(acl="acl_check_rcpt:\n  accept condition = ${run{" + name + "}{yes}}\n")
    rcpt(i, want=451)
    i.wait_log(why)
    assert program.runs() == []


@pytest.mark.parametrize("main,command,why", [
    ("", "/bin/true", 'item "run" may start no program: run_commands is not set'),
    ("run_commands = /bin/false\nrun_user = nobody\n", "/bin/true", 'run: "/bin/true" is not in run_commands'),
    ("run_commands = /bin/true\n", "/bin/true", "run_user must be set, too"),
    ("run_commands = /bin/true\nrun_user = 65534\n", "/bin/true", "so run_group must be set"),
    ("run_commands = /bin/true : true\nrun_user = nobody\n", "/bin/true", '"true" must be an absolute path'),
    ("run_commands = /bin/true\nrun_user = $primary_hostname\n", "/bin/true", '"run_user" is not expanded')])
def test_refused_at_load(main, command, why):
    i = Instance(main=main, acl="acl_check_rcpt:\n  accept condition = ${run{%s}{yes}{no}}\n" % command)
    try:
        code, out, err = i.command("check-config", check=False)
        assert code and why in out + err, out + err
    finally:
        i.destroy()


@pytest.mark.parametrize("user,why", [(0, "no delivery under uid 0"), ("smtpd", "it is smtpd's")])
def test_logins_that_run_nothing(instance, program, rcpt, user, why):
    i = instance(main=MAIN.replace("{mail_uid}", str(UID_BASE if user == "smtpd" else user)))
    rcpt(i, want=451)
    i.wait_log(why)
    assert program.runs() == []


def test_offline(instance, program):
    program.does("id -u; exit 3")
    i = instance()
    said = i.command("session", "192.0.2.1", input=b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@local.example>\r\nQUIT\r\n")
    assert re.search(r"^550 5.7.1 code 3\r?$", said, re.M), said
    assert i.command("expand", "${run{%s/prog}{}{$value$runrc}}" % program.dir).split() == [str(i.mail_uid), "3"]
