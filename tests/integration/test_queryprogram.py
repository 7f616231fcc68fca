# SPDX-License-Identifier: ISC
"""queryprogram routers with real daemons: under whose login their programs run, with what, and what becomes of mail when they don't end."""
import glob
import os
import re
import signal

import pytest

from bulkhead import UID_BASE, read, wait_for
from program import Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="programs under a login of their own need root")

SCRIPT = """#!/bin/sh
# What is in the file named by the first word is done; each run leaves a line.
echo "$2" >> DIR/runs
. DIR/$1
"""
ROUTER = """
ask:
  driver = queryprogram
  domains = asked.example
  command = %(dir)s/ask script "${if eq{$local_part}{a}{first}{second}}"
  command_user = {mail_uid}
  command_group = {mail_uid}
  %(more)s
sink:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
  headers_add = X-Data: $address_data
"""
VERIFY = "acl_check_rcpt:\n  accept domains = unverified.example\n  require verify = recipient\n  accept\n"


class Asked(Program):
    def __init__(self):
        super().__init__("ask", SCRIPT)
        self.does("echo pass")

    def routers(self, more="pass_router = sink"):
        return ROUTER % {"dir": self.dir, "more": more}


@pytest.fixture
def program():
    p = Asked()
    yield p
    p.remove()


def test_login_words_and_surroundings(bulkhead, sink, program):
    program.does("id -u > {0}/id; id -g >> {0}/id; id -G >> {0}/id; pwd >> {0}/id; umask >> {0}/id; cat | wc -c >> {0}/id; env > {0}/env;"
                 " ls -l /proc/self/fd > {0}/fd; grep NoNewPrivs /proc/self/status > {0}/privs\n"
                 "echo 'ACCEPT transport=smtp hosts=127.0.0.1::{1} data=\"some words\"'".format(program.dir, sink.port))
    i = bulkhead(main="add_environment = COLOUR=blue\n", acl=VERIFY, routers=program.routers("current_directory = /usr\n  self = send\n  headers_add = X-Data: $address_data"),
                 sink=sink)
    i.send("a@client.example", "a@asked.example")
    sender, rcpts, content = sink.wait(1)[0]
    assert rcpts == ["a@asked.example"] and b"X-Data: some words\r\n" in content
    assert program.read("id").split() == [str(i.mail_uid)] * 3 + ["/usr", "0077", "0"]
    assert program.runs() == ["first", "first"], "once for RCPT, once for the delivery"
    env = dict(line.split("=", 1) for line in program.read("env").splitlines())
    assert env.pop("PATH") == "/usr/bin:/bin" and env.pop("COLOUR") == "blue"
    assert not set(env) - {"PWD", "SHLVL", "_", "OLDPWD", "TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"}, env
    assert re.findall(r" (\d+) -> ", program.read("fd")) == ["0", "1", "2", "3"], "3 is the folder that ls reads"
    assert program.read("privs").split() == ["NoNewPrivs:", "1"]
    assert len(i.daemons("query")) == 1


def test_verified_by_the_program(bulkhead, sink, program):
    i = bulkhead(acl=VERIFY, routers=program.routers(), sink=sink)
    c = i.client()
    c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<s@client.example>", 250)
    for does, code, text in [("echo fail nobody of that name", 550, "nobody of that name"), ("echo defer come back", 451, ""), ("echo accept transport=smtp", 250, ""),
                             ("echo decline", 250, ""), ("exit 1", 451, ""), ("echo redirect x@unverified.example", 250, "")]:
        program.does(does)
        said = c.ask("RCPT TO:<b@asked.example>", code)
        assert text in said and "come back" not in said and "non-zero" not in said
    c.close()
    i.wait_log("come back")
    i.wait_log("command returned non-zero code 1")


def test_time_over_freezes(bulkhead, sink, program):
    mark = str(5000000 + os.getpid())
    program.does("sleep %s & sleep %s" % (mark, mark))
    i = bulkhead(routers=program.routers("timeout = 1s"), sink=sink)
    i.send("a@client.example", "a@asked.example")
    i.wait_log("== a@asked.example R=ask .*command timed out")
    wait_for(lambda: "frozen" in i.command("queue", "list"))
    wait_for(lambda: not any(mark in read(p) for p in glob.glob("/proc/[0-9]*/cmdline") if read(p).startswith("sleep")))


def test_frozen_by_its_word(bulkhead, sink, program):
    program.does("echo freeze look at this first")
    i = bulkhead(routers=program.routers(), sink=sink)
    i.send("a@client.example", "a@asked.example")
    i.wait_log("== a@asked.example R=ask .*look at this first")
    wait_for(lambda: "frozen" in i.command("queue", "list"))


def test_other_mail_goes_on_meanwhile(bulkhead, sink, program):
    program.does("while ! test -f %s/go; do sleep 0.1; done; echo pass" % program.dir)
    i = bulkhead(routers=program.routers(), sink=sink)
    for n in range(3):
        i.send("a@client.example", "a@asked.example")
    wait_for(lambda: len(program.runs()) == 3)
    i.send("a@client.example", "x@elsewhere.example")
    assert sink.wait(1)[0][1] == ["x@elsewhere.example"]
    program.write("go", "")
    assert len(sink.wait(4)) == 4
    assert program.runs() == ["first"] * 3


@pytest.mark.parametrize("which", ["worker", "manager"])
def test_killed_in_the_middle(bulkhead, sink, program, which):
    program.does("test -f %s/go && echo pass || exec sleep 1000" % program.dir)
    i = bulkhead(routers=program.routers(), sink=sink, retry="* * F,1h,1s\n")
    i.send("a@client.example", "a@asked.example")
    wait_for(lambda: len(program.runs()) == 1)
    manager = i.daemons("query")[0]["pid"]
    program.write("go", "")
    victim = manager
    if which == "worker":
        victim = wait_for(lambda: [int(p.split("/")[2]) for p in glob.glob("/proc/[0-9]*/status")
                                   if re.search(r"^PPid:\s*%d$" % manager, read(p), re.M)])[0]
    os.kill(victim, signal.SIGKILL)
    assert sink.wait(1)[0][1] == ["a@asked.example"]
    i.wait_empty()


@pytest.mark.parametrize("user,why", [(0, "no delivery under uid 0"), ("smtpd", "it is smtpd's")])
def test_logins_that_run_nothing(bulkhead, sink, program, user, why):
    i = bulkhead(routers=program.routers().replace("{mail_uid}", str(UID_BASE if user == "smtpd" else user)), sink=sink)
    i.send("a@client.example", "a@asked.example")
    i.wait_log("== a@asked.example .*" + why)
    assert program.runs() == []


def test_reload_changes_the_command(bulkhead, sink, program):
    """The process of the old configuration refuses the new command; the one of the new generation runs it."""
    i = bulkhead(routers=program.routers(), sink=sink)
    i.send("a@client.example", "a@asked.example")
    sink.wait(1)
    text = read(i.conf)
    program.write("other", "echo 'fail by the other'\n")
    with open(i.conf, "w") as f:
        f.write(text.replace("/ask script", "/ask other"))
    i.command("reload")
    i.send("", "a@asked.example")
    i.wait_log(r"\*\* a@asked.example R=ask.*by the other")
    assert "refused" not in i.log()


def test_offline(bulkhead, sink, program):
    """`bulkhead route` and `bulkhead session` ask the program, too: root under its login, others not at all."""
    program.does("echo fail uid `id -u`")
    i = bulkhead(acl=VERIFY, routers=program.routers(), sink=sink)
    code, out, err = i.command("route", "a@asked.example", check=False)
    assert code == 2 and "is undeliverable: uid %d\n" % i.mail_uid in out, out + err
    said = i.command("session", "192.0.2.1", input=b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@asked.example>\r\nQUIT\r\n")
    assert re.search(r"^550[ -].*uid %d\r?$" % i.mail_uid, said, re.M), said
    assert program.runs() == ["first", "first"]
