# SPDX-License-Identifier: ISC
"""The queue: retries, reports, freezing, and what an administrator may do to it."""
import email
import email.policy
import json
import os
import re

import pytest

from bulkhead import Instance, Sink, wait_for



def parse(content):
    return email.message_from_bytes(content, policy=email.policy.default)


def test_deferred_then_delivered(bulkhead):
    """A host that is down: the message waits, is tried again by the rule, and is delivered when the host is back."""
    s = Sink()
    port = s.port
    s.close()
    b = bulkhead(sink=port)
    b.send("a@b.example", "x@y.example")
    b.wait_log(r"== x@y\.example R=sink T=smtp defer \(111\): Connection refused")
    row = wait_for(lambda: [r for r in b.queue() if r["state"] == "deferred"])[0]
    assert row["sender"] == "a@b.example"
    s = Sink(port=port)
    try:
        s.wait(1)
        b.wait_log(r"=> x@y\.example R=sink T=smtp H=127\.0\.0\.1 \[127\.0\.0\.1\]")
        b.wait_log(r"Completed$")
        b.wait_empty()
    finally:
        s.close()


def test_refused_recipient_makes_a_report(bulkhead):
    s = Sink(on_rcpt=lambda line: "550 5.1.1 no such user here" if "<bad@" in line else None)
    try:
        b = bulkhead(sink=s)
        b.send("joe@local.example", ["good@y.example", "bad@y.example"], b"Subject: hello\r\n\r\nthe text\r\n")
        s.wait(1)
        assert s.messages[0][1] == ["good@y.example"]
        report = parse(b.wait_maildir("joe")[0])
        assert report.get_content_type() == "multipart/report"
        assert report.get_param("report-type") == "delivery-status"
        assert report["Auto-Submitted"].startswith("auto-replied")
        assert report["X-Failed-Recipients"] == "bad@y.example"
        text, status, original = list(report.iter_parts())
        fields = status.get_payload()
        assert fields[0]["Reporting-MTA"] == "dns; mx.test.example"
        assert fields[1]["Final-Recipient"].replace(" ", "") == "rfc822;bad@y.example"
        assert fields[1]["Action"] == "failed" and fields[1]["Status"] == "5.1.1"
        assert "no such user here" in fields[1]["Diagnostic-Code"]
        assert "bad@y.example" in text.get_content()
        assert original.get_content_type() == "message/rfc822"
        assert original.get_content()["Subject"] == "hello"
        b.wait_log(r"\*\* bad@y\.example R=sink T=smtp H=127\.0\.0\.1 \[127\.0\.0\.1\].*: SMTP error from remote mail server after RCPT TO")
        b.wait_empty()
    finally:
        s.close()


def test_report_never_goes_to_the_null_sender(bulkhead):
    s = Sink(on_rcpt=lambda line: "550 5.1.1 no")
    try:
        b = bulkhead(sink=s, main="ignore_bounce_errors_after = 0s")
        b.send("", "bad@y.example")
        b.wait_empty()
        assert not s.messages
        assert len(re.findall(r" <= ", b.log())) == 1
    finally:
        s.close()


def test_bounce_of_bounce_is_frozen(bulkhead):
    s = Sink(on_rcpt=lambda line: "550 5.1.1 no")
    try:
        b = bulkhead(sink=s, main="ignore_bounce_errors_after = 1d")
        b.send("", "bad@y.example")
        wait_for(lambda: [m for m in b.queue() if m["state"] == "frozen"], why=b.logs)
        assert "*** frozen ***" in b.command("queue", "list")
    finally:
        s.close()


def test_ultimate_timeout(bulkhead):
    b = bulkhead(sink=9, retry="* * F,1s,1s")
    b.send("joe@local.example", "x@y.example")
    b.wait_log(r"\*\* x@y\.example.*retry timeout exceeded", 30)
    assert b.wait_maildir("joe")
    b.wait_empty()


def test_no_retry_rule_fails_at_once(bulkhead):
    b = bulkhead(sink=9, retry="")
    b.send("joe@local.example", "x@y.example")
    assert b.wait_maildir("joe")
    b.wait_empty()


def test_aliases(bulkhead, sink):
    b = bulkhead(sink=sink, routers="""
aliases:
  driver = redirect
  domains = +local_domains
  data = ${lookup{$local_part}lsearch{{dir}/aliases}}
  allow_fail
  allow_defer
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
sink:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
""", main="qualify_domain = local.example")
    with open(os.path.join(b.dir, "aliases"), "w") as f:
        f.write("team: ann, bob@local.example, far@y.example\nloop1: loop2\nloop2: loop1\ngone: :fail: has left us\n"
                "hole: :blackhole:\nwait: :defer: come back later\n")
    b.send("a@b.example", ["team@local.example", "hole@local.example"])
    assert b.wait_maildir("ann") and b.wait_maildir("bob")
    sink.wait(1)
    b.wait_log(r"=> ann <team@local\.example> R=local T=maildir|=> ann@local\.example <team@local\.example> R=local T=maildir")
    b.wait_log(r"=> :blackhole: <hole@local\.example> R=aliases")
    b.wait_empty()
    b.send("joe@local.example", "gone@local.example")
    assert b"has left us" in b.wait_maildir("joe")[0]
    b.send("joe@local.example", "wait@local.example")
    b.wait_log(r"== wait@local\.example R=aliases defer.*come back later")


@pytest.fixture
def waiting(bulkhead):
    """An instance whose messages wait: their host refuses."""
    b = bulkhead(sink=9)
    ids = [b.send("s%d@b.example" % i, "r%d@y%d.example" % (i, i % 2)) for i in range(6)]
    wait_for(lambda: len([m for m in b.queue() if m["state"] == "deferred"]) == 6, why=b.logs)
    return b, ids


def test_queue_verbs(waiting):
    b, ids = waiting
    assert [m["id"] for m in b.queue()] == ids
    assert [m["id"] for m in b.queue("--sender", "s3@*")] == [ids[3]]
    assert [m["id"] for m in b.queue("--recipient", "*@y1.example")] == ids[1::2]
    assert b.queue("--older", "1h") == []
    assert b.command("queue", "count").strip() == "6"
    b.command("queue", "hold", ids[0])
    assert b.queue("--state", "held")[0]["id"] == ids[0]
    b.command("queue", "release", ids[0])
    assert not b.queue("--state", "held")
    b.command("queue", "remove", ids[1])
    assert ids[1] not in [m["id"] for m in b.queue()]
    b.wait_log(r"%s (removed|cancelled) by" % ids[1])
    shown = b.command("queue", "show", ids[2])
    assert "s2@b.example" in shown and "r2@y0.example" in shown and "Subject: test" in shown
    assert "6" not in b.command("queue", "count")
    code, out, err = b.command("queue", "remove", check=False)
    assert code == 64
    code, out, err = b.command("queue", "show", "1aaaaa-000000-00", check=False)
    assert code != 0 and err


def test_queue_survives_restart(waiting):
    b, ids = waiting
    b.command("queue", "hold", ids[0])
    b.stop()
    b.start()
    wait_for(lambda: len(b.queue()) == 6, why=b.logs)
    assert b.queue("--state", "held")[0]["id"] == ids[0]


def test_export_and_import(waiting, bulkhead, sink, tmp_path):
    b, ids = waiting
    path = str(tmp_path / "message")
    b.command("queue", "hold", ids[4])
    b.command("queue", "export", ids[4], path)
    other = bulkhead(sink=sink, name="other.example")
    other.command("queue", "import", path)
    other.command("queue", "release", "--all")
    sender, rcpts, content = sink.wait(1)[0]
    assert (sender, rcpts) == ("s4@b.example", ["r4@y0.example"])
    assert content.endswith(b"\r\n\r\nbody\r\n") and content.count(b"Received:") == 1
    with open(path, "r+b") as f:
        f.seek(80)
        f.write(b"\xff")
    code, out, err = other.command("queue", "import", path, check=False)
    assert code != 0 and err


def test_bounce_by_administrator(bulkhead):
    b = bulkhead(sink=9)
    id = b.send("joe@local.example", "x@y.example")
    b.wait_log(r"== x@y")
    b.command("queue", "bounce", id)
    assert b"x@y.example" in b.wait_maildir("joe")[0]
    b.wait_empty()


def test_mailq_looks_like_everyone_knows_it(waiting):
    b, ids = waiting
    out = b.command("queue", "list")
    assert re.search(r"^ *0m +\d+ %s <s0@b\.example>\n +r0@y0\.example" % ids[0], out, re.M), out


def test_what_was_given_up_is_marked(bulkhead, sink):
    sink.on_rcpt = lambda line: "550 5.1.1 nobody" if "bad@" in line else "451 4.2.1 later" if "later@" in line else None
    b = bulkhead(sink=sink)
    b.send("joe@local.example", ["bad@y.example", "later@y.example", "good@y.example"])
    b.wait_log("== later@y.example")
    out = b.command("queue", "list")
    assert re.search(r"^        F bad@y\.example\n +\(.*550 5\.1\.1 nobody\)\n          later@y\.example\n +\(.*\)\n        D good@y\.example$", out, re.M), out
    shown = b.command("queue", "show", b.queue()[0]["id"])
    assert re.search(r"^looked at next \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, tried 1 times$", shown, re.M), shown


def test_stats(waiting):
    b, ids = waiting
    stats = json.loads(b.command("queue", "stats", "--json"))
    assert stats["count"] == 6 and stats["counters"]


def test_etrn(bulkhead):
    """A site that has been away asks for its mail (RFC 1985); nobody else may."""
    s = Sink()
    port = s.port
    s.close()
    b = bulkhead(sink=port, main="acl_smtp_etrn = check_etrn\n", retry="* * F,1d,1d", acl=Instance.ACL + """
check_etrn:
  deny message = not for you
       condition = ${if match{$smtp_command_argument}{secret}}
  accept hosts = 127.0.0.1
""")
    for to in ("x@here.example", "y@there.example"):
        b.send("a@b.example", to)
    wait_for(lambda: [r["state"] for r in b.queue()] == ["deferred"] * 2)
    c = b.client()
    assert "ETRN" in c.ask("EHLO client.example", 250)
    for line, want in (("ETRN here.example", "501 5.5.4 argument must begin with #"), ("ETRN", "501 5.5.4 "), ("ETRN #*", "501 5.5.4 argument is no part"), ("ETRN #secret.example", "458 4.7.1 not for you")):
        assert c.ask(line).startswith(want), line
    s = Sink(port=port)
    try:
        c.ask("ETRN #nobody.example", "250 2.0.0 OK")
        b.wait_log("End queue run")
        assert [r["state"] for r in b.queue()] == ["deferred"] * 2, "only what has the text in an address"
        c.ask("ETRN #HERE.example", "250 2.0.0 OK")
        assert ["x@here.example"] in [m[1] for m in s.wait(1)]
        b.wait_log(r"ETRN #HERE\.example received from .*\[127\.0\.0\.1\]")
        b.wait_empty()   # the host is back: what else waited for it goes, too
    finally:
        s.close()
    c = b.client(source=("127.0.0.2", 0))
    c.ask("EHLO client.example", 250)
    c.ask("ETRN #there.example", "458 ")


def test_etrn_of_a_domain(bulkhead):
    """@domain: that domain and its subdomains, and nothing that merely ends like it."""
    s = Sink()
    port = s.port
    s.close()
    b = bulkhead(sink=port, main="acl_smtp_etrn = check_etrn\n", retry="* * F,1d,1d", acl=Instance.ACL + "\ncheck_etrn:\n  accept\n")
    for to in ("x@sub.here.example", "y@nothere.example"):
        b.send("a@b.example", to)
    wait_for(lambda: [r["state"] for r in b.queue()] == ["deferred"] * 2)
    c = b.client()
    c.ask("EHLO client.example", 250)
    for line in ("ETRN @", "ETRN @*.example", "ETRN @a..b"):
        assert c.ask(line).startswith("501 5.5.4"), line
    c.close()
    c = b.client()
    c.ask("EHLO client.example", 250)
    for n, line in enumerate(("ETRN @ere.example", "ETRN @y", "ETRN @deeper.sub.here.example")):
        c.ask(line, "250 2.0.0 OK")
        wait_for(lambda: b.log().count("End queue run") == n + 1, why=b.logs)
    before = b.log().count(" == ")
    c.ask("ETRN @HERE.example", "250 2.0.0 OK")
    wait_for(lambda: b.log().count(" == ") > before, why=b.logs)
    assert "x@sub.here.example" in [line for line in b.log().splitlines() if " == " in line][-1]
    assert b.log().count(" == y@nothere") == 1


def test_etrn_without_an_acl(bulkhead):
    c = bulkhead().client()
    assert "ETRN" not in c.ask("EHLO client.example", 250)
    c.ask("ETRN #here.example", "458 4.7.1 Administrative prohibition")
