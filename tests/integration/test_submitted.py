# SPDX-License-Identifier: ISC
"""What is looked at when HELO comes, and what a message gets that was written here: its ids, names and the Received: of the configuration."""
import pwd
import re
import select
import subprocess

import pytest

from test_smtpd import SENDMAIL

@pytest.mark.parametrize("option, helo, want", [
    ("helo_verify_hosts = *", "[127.0.0.1]", r"550 .*verified=1 H=localhost"),
    ("helo_verify_hosts = *", "[127.0.0.2]", r"HELO 550 .*argument does not match calling host"),
    ("helo_verify_hosts = *", "not..a.name", r"HELO 501"),
    ("helo_verify_hosts = !127.0.0.1", "[127.0.0.2]", r"550 .*verified= H=\(\[127.0.0.2\]\)"),
    ("helo_try_verify_hosts = *", "[127.0.0.1]", r"550 .*verified=1 "),
    ("helo_try_verify_hosts = *", "[127.0.0.2]", r"550 .*verified= "),
    ("helo_lookup_domains = *.example", "some.example", r"550 .*verified= H=localhost \(some.example\)"),
    ("helo_lookup_domains = *.example", "some.other", r"550 .*verified= H=\(some.other\)"),
    ("", "mx.test.example", r"550 .*verified= H=localhost \(mx.test.example\)"),
    ("", "[127.0.0.1]", r"550 .*verified= H=localhost"),
    ("", "mx2.test.example", r"550 .*verified= H=\(mx2.test.example\)"),
    ("helo_lookup_domains =", "mx.test.example", r"550 .*verified= H=\(mx.test.example\)"),
])
def test_helo(bulkhead, option, helo, want):
    acl = "acl_check_rcpt:\n  deny message = verified=$sender_helo_verified\n"
    b = bulkhead(main="host_lookup =\nhost_lookup_order = byaddr\n%s\n" % option, acl=acl)
    c = b.client()
    answer = c.ask("EHLO " + helo).strip()
    if not answer.startswith("250"):
        assert re.match(want, "HELO " + answer), answer
        assert c.ask("MAIL FROM:<a@b.example>").startswith("503")
        return
    c.ask("MAIL FROM:<a@b.example>", 250)
    answer = c.ask("RCPT TO:<joe@local.example>").strip()
    logged = b.wait_log(r" (H=.*) \[127.0.0.1\] F=<a@b.example> rejected RCPT")
    assert re.match(want, "%s %s" % (answer, logged.group(1))), (answer, logged.group(1))


def submit(b, text, *args, to="joe@local.example"):
    subprocess.run([SENDMAIL, "-C", b.conf, *args, to], input=text.encode(), check=True, timeout=30)
    return b.wait_maildir("joe")[-1].decode()


def field(text, name):
    m = re.search(r"(?m)^%s: (.*(?:\n[ \t].*)*)" % name, text.replace("\r\n", "\n"))
    return m and m.group(1)


def test_message_ids(bulkhead):
    b = bulkhead(main="message_id_header_text = $tod_epoch x:$sender_ident\nmessage_id_header_domain = ids_of.$primary_hostname\n")
    got = submit(b, "Subject: s\n\nhello\n")
    assert re.fullmatch(r"<E\S{16,}\.\d+-x-root@ids-of\.mx\.test\.example>", field(got, "Message-Id")), got


def test_message_id_failing_expansion_is_the_usual_one(bulkhead):
    b = bulkhead(main="message_id_header_text = ${if eq{a}{b}{x}fail}\nmessage_id_header_domain =\n")
    got = submit(b, "Subject: s\n\nhello\n")
    assert re.fullmatch(r"<E[^.@]+@mx\.test\.example>", field(got, "Message-Id")), got


def test_own_received_without_a_data_acl(bulkhead):
    b = bulkhead(main="received_header_text = Received: (ours) of $sender_helo_name id $message_exim_id\n")
    assert "acl_smtp_data" not in open(b.conf).read()
    b.send("a@sender.example", "joe@local.example")
    assert re.match(r"\(ours\) of client\.example id \S+;", field(b.wait_maildir("joe")[0].decode(), "Received"))


GECOS = pwd.getpwuid(0).pw_gecos


@pytest.mark.parametrize("main, args, content, want", [
    ("", [], "Subject: s\n\nx\n", "%s <root@mx.test.example>" % GECOS),
    ("", ["-F", "A. Name"], "Subject: s\n\nx\n", '"A. Name" <root@mx.test.example>'),
    ("", ["-F", "J\u00fcrgen"], "Subject: s\n\nx\n", "=?UTF-8?Q?J=C3=BCrgen?= <root@mx.test.example>"),
    ("gecos_pattern = ^(..)\ngecos_name = <$1>", [], "Subject: s\n\nx\n", '"<%s>" <root@mx.test.example>' % GECOS[:2]),
    ("", [], "From: root\n\nx\n", "%s <root@mx.test.example>" % GECOS),
    ("", [], "From: Root User <root>\n\nx\n", "Root User <root@mx.test.example>"), # a name beside the login is kept, as Exim does
    ("", [], "From: other\n\nx\n", "other@mx.test.example"),
    ("", [], "From someone Sat Nov 21 16:00:00 2026\nFrom: me@else.example\n\nx\n", "me@else.example"),
])
def test_from(bulkhead, main, args, content, want):
    got = submit(bulkhead(main=main), content, *args)
    assert field(got, "From") == want, got
    assert "someone" not in got


@pytest.mark.parametrize("rules, args, want", [
    ("root@mx.test.example boss@else.example f", [], "boss@else.example"),
    ("root@mx.test.example boss@else.example t", [], "root@mx.test.example"),
    ("*@given.example $1@changed.example f", ["-f", "someone@given.example"], "someone@changed.example"),
])
def test_added_from_is_rewritten(bulkhead, rules, args, want):
    b = bulkhead(retry="* * F,2h,1s\n\nbegin rewrite\n\n" + rules)
    assert field(submit(b, "Subject: s\n\nx\n", *args), "From").endswith("<%s>" % want)


@pytest.mark.parametrize("main, sender, added", [
    ("", "list-nobody@mx.test.example", True),
    ("local_from_prefix = list- : *+", "list-nobody@mx.test.example", False),
    ("local_from_prefix = list- : *+", "any+nobody@mx.test.example", False),
    ("local_from_prefix = list- : *+", "any-nobody@mx.test.example", True),
    ("local_from_suffix = -*", "nobody-x@mx.test.example", False),
    ("local_from_suffix = -*", "somebody-x@mx.test.example", True),
])
def test_sender(bulkhead, main, sender, added):
    b = bulkhead(main=main)
    subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", SENDMAIL, "-C", b.conf, "joe@local.example"],
                   input=b"From: <%s>\n\nx\n" % sender.encode(), check=True, timeout=30)
    got = b.wait_maildir("joe")[0].decode()
    assert (field(got, "Sender") is not None) == added, got
    if added:
        assert field(got, "Sender").endswith("<nobody@mx.test.example>")


@pytest.mark.parametrize("hosts, dropped", [("127.0.0.1", True), ("!127.0.0.1", False)])
def test_fromline(bulkhead, hosts, dropped):
    b = bulkhead(main="ignore_fromline_hosts = %s\n" % hosts)
    b.send("a@sender.example", "joe@local.example", b"From someone Sat Nov 21 16:00:00 2026\r\nSubject: here\r\n\r\nbody\r\n")
    got = b.wait_maildir("joe")[0].decode().replace("\r\n", "\n")
    head, body = got.split("\n\n", 1)
    assert ("Subject: here" in head) == dropped and ("From someone" in got) != dropped, got


@pytest.mark.parametrize("main, args, header, got", [
    ("", [], "To: joe@local.example, ann@local.example", {"joe", "ann"}),
    ("", ["ann@local.example"], "To: joe@local.example, ann@local.example", {"joe"}),
    ("no_extract_addresses_remove_arguments", ["ann@local.example"], "To: joe@local.example", {"joe", "ann"}),
    ("", ["ann@local.example"], "To: ann@local.example", "nobody is left"),
])
def test_recipients_of_the_header(bulkhead, main, args, header, got):
    b = bulkhead(main=main)
    done = subprocess.run([SENDMAIL, "-C", b.conf, "-t", *args], input=b"Subject: s\n%s\n\nx\n" % header.encode(), stderr=subprocess.PIPE, timeout=30)
    if isinstance(got, str):
        assert done.returncode == 65 and got in done.stderr.decode(), done
        return
    assert done.returncode == 0, done.stderr
    for u in got:
        b.wait_maildir(u)
    b.wait_empty()
    assert {u for u in ("joe", "ann") if b.maildir(u)} == got


def test_refused_by_the_acl(bulkhead):
    """The message is refused, not a recipient: 69, as the manual has it."""
    b = bulkhead(main="acl_not_smtp = deny message = not today")
    done = subprocess.run([SENDMAIL, "-C", b.conf, "joe@local.example"], input=b"Subject: s\n\nx\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 69 and b"not today" in done.stderr, done
    assert subprocess.run([SENDMAIL, "-C", b.conf, "-bi"], timeout=30).returncode == 0, "newaliases has nothing to do, and says so to no script"


def test_silent_submitter(bulkhead):
    b = bulkhead(main="receive_timeout = 1s\n")
    with subprocess.Popen([SENDMAIL, "-C", b.conf, "joe@local.example"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        p.stdin.write(b"Subject: s\n")
        p.stdin.flush()
        assert p.wait(30) == 74
        assert b"timed out" in p.stderr.read()
    assert not b.maildir("joe")


def test_slowing(bulkhead):
    b = bulkhead(main="smtp_ratelimit_hosts = 127.0.0.1\nsmtp_ratelimit_mail = 1,2s,1,2s\nsmtp_ratelimit_rcpt = 1,2s,1,2s\n")
    for source, slowed in (("127.0.0.1", True), ("127.0.0.2", False)):
        c = b.client(source=(source, 0))
        c.ask("EHLO client.example", 250)
        for sender in ("a", "b"):
            c.send(b"MAIL FROM:<%s@sender.example>\r\n" % sender.encode())
            assert silent(c) == (slowed and sender == "b")
            assert c.reply().startswith("250")
            c.ask("RCPT TO:<joe@local.example>", 250)
            c.send(b"RCPT TO:<ann@local.example>\r\n")
            assert silent(c) == slowed
            assert c.reply().startswith("250")
            c.ask("RSET", 250)


def silent(c):
    """Nothing comes for a second: the two seconds of a delay are far from it."""
    return not select.select([c.sock], [], [], 1)[0]
