# SPDX-License-Identifier: ISC
"""Reports in the administrator's words, their copies, and who is told of frozen messages, with real daemons; Exim reads the same files."""
import email
import email.policy
import os
import re

import pytest

from bulkhead import wait_for
from oracle import Oracle
from test_auth_client import Server, TRANSPORTS, only

BOUNCE = """Subject: Bounced $bounce_recipient
X-Note: size $bounce_return_size_limit s=$sender_address
 h=$h_subject:
****
Intro for <$bounce_recipient> ${if eq{a}{b}{x}{multi
line}}

second paragraph
****
Output follows
****
ignored
****
ignored
****
"""
COPIES = "errors_copy = *@nomatch.example x@y.z : s@x.example root@adm.example, $local_part-copy@$domain : *@x.example late@adm.example\n"
ROUTERS = """
bad:
  driver = redirect
  domains = bad.example
  allow_fail
  data = :fail: no such person
"""
SINK = """
sink:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""


def parse(content):
    return email.message_from_bytes(content, policy=email.policy.default)


def words(content):
    """Fields and beginning of the text that the file gives."""
    m = parse(content)
    text = next(m.iter_parts()).get_content().replace("\r\n", "\n")
    return m["Subject"], re.sub(r"\s+", " ", m["X-Note"]), m["Auto-Submitted"], text.split("a@bad.example")[0].rstrip()


@pytest.fixture(scope="module")
def exim_report(tmp_path_factory):
    """The report that Exim makes of it, and its log."""
    oracle = Oracle(str(tmp_path_factory.mktemp("exim")))
    oracle.write("/etc/exim4/bounce", BOUNCE)
    oracle.write("/etc/exim4/oracle.conf", COPIES + """
bounce_message_file = /etc/exim4/bounce
primary_hostname = mx.test.example
keep_environment =
log_selector = +received_recipients
queue_only
begin routers
""" + ROUTERS + """
box:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  file = /tmp/box/b
  create_file = anywhere
  user = mail
begin retry
* * F,2h,1h
""")
    done = oracle.run(["-c", "mkdir -p /tmp/box /var/spool/exim4/input /var/log/exim4; chmod 777 /tmp/box;"
                             "chown -R Debian-exim /var/spool/exim4 /var/log/exim4;"
                             "printf 'Subject: hello\\nFrom: s@x.example\\n\\nb\\n' | exim4 -C /etc/exim4/oracle.conf -f s@x.example a@bad.example;"
                             "exim4 -C /etc/exim4/oracle.conf -qff; exim4 -C /etc/exim4/oracle.conf -qff;"
                             "cat /tmp/box/b; echo =====; cat /var/log/exim4/mainlog"], program="sh", timeout=60)
    box, log = done.stdout.decode().split("=====")
    return box.split("\n", 1)[1].encode(), log


def test_bounce_message_file_as_exim(bulkhead, sink, exim_report):
    b = bulkhead(sink=sink, main="bounce_message_file = {dir}/words/bounce\n" + COPIES, routers=ROUTERS + SINK)
    os.mkdir(os.path.join(b.dir, "words"))
    with open(os.path.join(b.dir, "words", "bounce"), "w") as f:
        f.write(BOUNCE)
    b.command("restart", "router")
    b.command("reload")
    b.send("s@x.example", "a@bad.example", b"Subject: hello\r\nFrom: s@x.example\r\n\r\nb\r\n")
    sender, rcpts, content = sink.wait(1)[0]
    theirs, log = exim_report
    assert sender == "" and sorted(rcpts) == sorted(re.search(r"<= <> .* for (.*)", log).group(1).split()), log
    assert words(content) == words(theirs)
    assert str(parse(content)["To"]) == str(parse(theirs)["To"]) == "s@x.example"
    assert b"root@adm.example" not in content and b"copy@" not in content
    assert [p.get_content_type() for p in parse(content).iter_parts()] == [p.get_content_type() for p in parse(theirs).iter_parts()]
    b.wait_empty()


def test_no_file(bulkhead, sink):
    """The usual words, and a line in both logs; the file is found when it is there, without a reload."""
    b = bulkhead(sink=sink, main="bounce_message_file = {dir}/bounce\n", routers=ROUTERS + SINK)
    b.send("s@x.example", "a@bad.example")
    assert b"Subject: Mail delivery failed" in sink.wait(1)[0][2]
    for which in ("main", "panic"):
        b.wait_log(r"its report: bounce_message_file: opening \".*/bounce\": No such file", which=which)
    with open(os.path.join(b.dir, "bounce"), "w") as f:
        f.write("Subject: found\n****\nF\u00fcr Sie\n")
    b.send("s@x.example", "a@bad.example")
    m = parse(sink.wait(2)[1][2])
    assert m["Subject"] == "found" and "F\u00fcr Sie" in next(m.iter_parts()).get_content()


def test_warn_message_file(bulkhead, sink):
    b = bulkhead(sink=sink, main="warn_message_file = {dir}/warn\ndelay_warning = 1s:99d\n", routers="""
never:
  driver = redirect
  domains = far.example
  allow_defer
  data = :defer: not today
""" + SINK, retry="* * F,2h,2s")
    with open(os.path.join(b.dir, "warn"), "w") as f:
        f.write("Subject: late by $warn_message_delay\n****\nTo $warn_message_recipients about $h_subject:\n****\nThat is all.\n")
    b.send("s@x.example", ["u@far.example", "v@far.example"], b"Subject: hello\r\nFrom: s@x.example\r\n\r\nb\r\n")
    m = parse(sink.wait(1)[0][2])
    assert m["Subject"] == "late by 0 minutes"
    text = next(m.iter_parts()).get_content().replace("\r\n", "\n")
    assert text.startswith("To s@x.example about hello\n") and text.rstrip().endswith("That is all.")
    assert "u@far.example" in text and "v@far.example" in text


def test_delay_warning_condition_knows_the_domain(bulkhead, sink):
    """$domain is that of all that waits, if they have just one."""
    b = bulkhead(sink=sink, main="delay_warning = 1s:99d\ndelay_warning_condition = ${if eq{$domain}{far.example}{yes}{no}}\n", routers="""
never:
  driver = redirect
  domains = *far.example
  allow_defer
  data = :defer: not today
""" + SINK, retry="* * F,2h,2s")
    b.send("two@x.example", ["u@far.example", "v@off.far.example"])
    b.send("one@x.example", ["u@far.example", "v@far.example"])
    b.wait_log(r"(?s)(== .*){12}")
    sink.wait(1)
    assert [m[1] for m in sink.messages] == [["one@x.example"]]


def test_bounce_sender_authentication(bulkhead):
    s = Server(script=("235 welcome", "235 welcome"))
    try:
        b = bulkhead(sink=s.port, routers=ROUTERS + SINK, transports=TRANSPORTS % "hosts_require_auth = *",
                     main="bounce_sender_authentication = daemon@mx.test.example\n", retry="* * F,2h,1s\n\nbegin authenticators\n" + only("plain"))
        b.send("s@x.example", "a@bad.example")
        wait_for(lambda: [line for line in s.lines if line.startswith("MAIL")], why=b.logs)
        assert re.match(r"MAIL FROM:<> .*AUTH=daemon@mx\.test\.example", [line for line in s.lines if line.startswith("MAIL")][0])
    finally:
        s.close()


def test_freeze_tell(bulkhead, sink):
    b = bulkhead(sink=sink, main="freeze_tell = root@adm.example, joe@adm.example\n", acl="""
acl_check_rcpt:
  accept domains = quiet.example
    control = freeze/no_tell
  accept domains = cold.example
    control = freeze
  accept
""")
    id = b.send("s@x.example", "u@quiet.example")
    b.wait_log(r"%s Frozen" % id)
    id = b.send("s@x.example", "u@cold.example")
    sender, rcpts, content = sink.wait(1)[0]
    m = parse(content)
    assert (sender, sorted(rcpts)) == ("", ["joe@adm.example", "root@adm.example"])
    assert m["Subject"] == "Message frozen on arrival" and m["Auto-Submitted"] == "auto-replied"
    assert m.get_content().replace("\r\n", "\n").startswith("Message %s was frozen on arrival by ACL.\nThe sender is <s@x.example>.\n" % id)
    wait_for(lambda: len(b.queue()) == 2, why=b.logs)
    assert len(sink.messages) == 1
