# SPDX-License-Identifier: ISC
"""What routers do to mail on its way: lists that change between tries, copies, addresses for errors, codes of refusals, notices."""
import email
import os
import re

import pytest

from bulkhead import Client, Sink, wait_for
from dns_zone import Zone, have_nsd
from oracle import Oracle

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="deliveries under a uid of their own need root")

LOCAL = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
"""
FAR = """
sink:
  driver = manualroute
  domains = ! +local_domains
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""
LIST = """
list:
  driver = redirect
  domains = +local_domains
  local_parts = list
  qualify_preserve_domain
  data = :include:{dir}/list
%s
"""


def write(i, name, text):
    with open(os.path.join(i.dir, name), "w") as f:
        f.write(text)
    os.chmod(os.path.join(i.dir, name), 0o644)


@pytest.fixture
def deferring():
    """A server that says 451 to RCPT until told otherwise."""
    state = {"defer": True}
    s = Sink(on_rcpt=lambda rcpt, *more: "451 4.2.1 later" if state["defer"] else None)
    s.state = state
    yield s
    s.close()


@pytest.mark.parametrize("one_time", [True, False])
def test_list_that_changes_between_tries(bulkhead, deferring, one_time):
    """one_time: who joins the list later gets nothing; without it, he does."""
    i = bulkhead(routers=LIST % ("  one_time" if one_time else "") + LOCAL + FAR, sink=deferring, users=["joe", "late"])
    write(i, "list", "joe, far@away.example\n")
    i.send("a@client.example", "list@local.example")
    i.wait_log(r"== far@away.example .*451 4.2.1 later")
    write(i, "list", "joe, far@away.example, late\n")
    deferring.state["defer"] = False
    i.command("queue", "retry", "--all")
    sender, rcpts, _ = deferring.wait(1)[0]
    assert rcpts == ["far@away.example"]
    i.wait_empty()
    assert len(i.maildir("joe")) == 1
    assert len(i.maildir("late")) == (0 if one_time else 1)


def test_unseen_copy_and_its_own_fields(bulkhead, sink):
    """The copy has the fields that its router adds; what goes on does not."""
    i = bulkhead(routers="""
archive:
  driver = redirect
  unseen
  domains = +local_domains
  local_parts = ! archive
  headers_add = X-Copy: of $local_part
  data = archive@local.example, far@away.example
""" + LOCAL + FAR, sink=sink, users=["joe", "archive"])
    i.send("a@client.example", "joe@local.example")
    i.wait_empty()
    assert b"X-Copy" not in i.maildir("joe")[0]
    assert b"X-Copy: of joe\n" in i.maildir("archive")[0]
    assert b"X-Copy: of joe\r\n" in sink.wait(1)[0][2]
    assert len(i.maildir("joe")) == len(i.maildir("archive")) == 1


def test_unseen_copy_that_fails_is_reported(bulkhead, sink):
    """The copy is a delivery like another: the sender hears of its failure, and the message goes its way."""
    i = bulkhead(routers="""
archive:
  driver = redirect
  unseen
  domains = +local_domains
  local_parts = ! archive
  data = archive@local.example
""" + LOCAL + FAR, sink=sink, users=["joe"])
    i.send("a@client.example", "joe@local.example")
    sender, rcpts, report = sink.wait(1)[0]
    i.wait_empty()
    assert (sender, rcpts) == ("", ["a@client.example"]) and b"archive@local.example" in report
    assert len(i.maildir("joe")) == 1 and len(sink.messages) == 1


def test_errors_to_takes_reports_and_is_the_sender(bulkhead, sink):
    i = bulkhead(routers=LIST % "  errors_to = owner@local.example" + LOCAL + FAR, sink=sink, users=["joe", "owner"])
    write(i, "list", "joe, nobody@local.example, far@away.example\n")
    i.send("a@client.example", "list@local.example")
    assert sink.wait(1)[0][:2] == ("owner@local.example", ["far@away.example"])
    report = i.wait_maildir("owner")[0]
    i.wait_empty()
    assert b"nobody@local.example" in report and b"Auto-Submitted: auto-" in report
    assert len(sink.wait(1)) == 1, "the first sender hears nothing"


def test_errors_to_that_leads_nowhere_is_ignored(bulkhead, sink):
    i = bulkhead(routers=LIST % "  errors_to = gone@local.example" + LOCAL + FAR, sink=sink, users=["joe"])
    write(i, "list", "far@away.example\n")
    i.send("a@client.example", "list@local.example")
    assert sink.wait(1)[0][0] == "a@client.example"


ACL = """
acl_check_rcpt:
  require verify = recipient
  accept
"""


def test_codes_of_refusals_are_those_of_the_reply(bulkhead):
    i = bulkhead(acl=ACL, routers="""
aliases:
  driver = redirect
  domains = +local_domains
  allow_fail
  allow_defer
  data = ${lookup{$local_part}lsearch{{dir}/aliases}}
""" + LOCAL, users=["joe"])
    write(i, "aliases", "gone: :fail: 553 5.2.1 moved, to the sea\nlater: :defer: 452 4.3.9 at noon\nplain: :fail: simply no\nodd: :fail: 421 4.0.0 not this code\n")
    c = Client(i.port)
    c.ask("EHLO client.example")
    c.ask("MAIL FROM:<a@client.example>", 250)
    for rcpt, code, text in [("gone", 553, "5.2.1 moved, to the sea"), ("later", 452, "4.3.9 at noon"), ("plain", 550, "simply no"),
                             ("odd", 550, "not this code")]:
        said = c.ask("RCPT TO:<%s@local.example>" % rcpt, code)
        assert text in said, (rcpt, said)
    c.ask("RCPT TO:<joe@local.example>", 250)
    c.close()


def test_errors_in_a_list_are_told_once(bulkhead, deferring):
    i = bulkhead(routers=LIST % "  skip_syntax_errors\n  syntax_errors_to = owner@$domain\n  syntax_errors_text = Dear owner of $local_part,\\n" +
                 LOCAL + FAR, sink=deferring, users=["joe", "owner"])
    write(i, "list", "joe\nbad@@address\nfar@away.example\n<>\n")
    i.send("a@client.example", "list@local.example")
    notice = email.message_from_bytes(i.wait_maildir("owner")[0])
    i.wait_log(r"== far@away.example .*451 4.2.1 later")
    deferring.state["defer"] = False
    i.command("queue", "retry", "--all")
    i.wait_empty()
    assert len(i.maildir("owner")) == 1 and len(i.maildir("joe")) == 1
    assert notice["To"] == "owner@local.example" and notice["Auto-Submitted"] == "auto-generated" and notice["Date"] and notice["Message-ID"]
    text = notice.get_payload()
    assert text.startswith("Dear owner of list,") and "bad@@address" in text and "list@local.example (router list)" in text, text
    assert "list: list@local.example: skipped" in i.log()


def test_hide_child_in_errmsg(bulkhead, sink):
    i = bulkhead(routers=LIST % "  hide_child_in_errmsg" + LOCAL + FAR, sink=sink)
    write(i, "list", "secret@local.example\n")
    i.send("a@client.example", "list@local.example")
    sender, rcpts, report = sink.wait(1)[0]
    assert (sender, rcpts) == ("", ["a@client.example"])
    assert b"list@local.example" in report and b"secret" not in report, report


@pytest.mark.parametrize("option, line", [("", "=> joe <joe@local.example> "), ("  no_log_as_local\n", "=> joe@local.example ")])
def test_log_as_local(bulkhead, option, line):
    i = bulkhead(routers=LOCAL.rstrip() + "\n" + option, users=["joe"])
    i.send("a@client.example", "joe@local.example")
    i.wait_log("Completed")
    assert line in i.log(), i.log()


def test_first_delivery_while_routing(bulkhead, deferring):
    i = bulkhead(routers="""
first:
  driver = accept
  domains = +local_domains
  condition = ${if !first_delivery}
  local_parts = lsearch;{dir}/users
  transport = maildir
""" + FAR.replace("! +local_domains", "*"), sink=deferring, users=["joe"])
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"== joe@local.example R=sink .*451 4.2.1 later(.*\n)+.* => joe <joe@local.example> R=first ")


def test_expn_tells_one_level(bulkhead):
    i = bulkhead(main="acl_smtp_expn = acl_expn\n", acl="acl_check_rcpt:\n  accept\nacl_expn:\n  accept condition = ${if !match{$smtp_command_argument}{refused}}\n", routers="""
aliases:
  driver = redirect
  domains = +local_domains
  qualify_preserve_domain
  data = ${lookup{$local_part}lsearch{{dir}/aliases}}
untested:
  driver = redirect
  no_address_test
  local_parts = untested
  data = joe@local.example
hidden:
  driver = redirect
  no_expn
  local_parts = joe
  data = elsewhere@away.example
""" + LOCAL, users=["joe"])
    write(i, "aliases", "list: joe, sub, far@away.example\nsub: joe\n")
    c = Client(i.port)
    c.ask("EHLO client.example", 250)
    c.ask("EXPN refused@local.example", 550)
    assert c.ask("EXPN list@local.example", 250).count("@") == 3
    said = c.ask("EXPN <list@local.example>", 250)
    assert all("<%s>" % a in said for a in ("joe@local.example", "sub@local.example", "far@away.example")), said
    assert "<joe@local.example>" in c.ask("EXPN joe@local.example", 250)
    assert "<nobody@local.example> is undeliverable" in c.ask("EXPN nobody@local.example", 550)
    c.ask("EXPN untested@local.example", 550)
    c.ask("EXPN a@@b", 501)
    c.close()


def test_vrfy_asks_the_routers(bulkhead):
    """Codes and texts of every kind of answer; what a router says of itself is the log's alone, what it says to clients is told."""
    i = bulkhead(main="acl_smtp_vrfy = acl_vrfy\nacl_smtp_expn = acl_expn\nsmtp_accept_max_nonmail = 100\n", acl="acl_check_rcpt:\n  require verify = recipient\n  accept\n"
                 "acl_vrfy:\n  deny local_parts = hidden\n  accept\nacl_expn:\n  accept\n", routers="""
said:
  driver = redirect
  local_parts = gone : later
  allow_fail
  allow_defer
  data = ${if eq{$local_part}{gone}{:fail: moved away}{:defer: come again}}
broken:
  driver = accept
  local_parts = broken
  address_data = ${lookup{x}lsearch{{dir}/secret-file}}
  transport = maildir
umlaut:
  driver = redirect
  local_parts = umlaut
  data = j\u00fcrgen@local.example
""" + LOCAL, users=["joe"])
    c = Client(i.port)
    c.ask("EHLO client.example", 250)
    assert c.ask("VRFY Joe <joe@local.example>", 250) == "250 2.1.5 <joe@local.example> is deliverable"
    assert c.ask("VRFY nobody@local.example", 550).endswith("<nobody@local.example> Unrouteable address")
    assert c.ask("VRFY gone@local.example", 550).endswith("<gone@local.example> moved away")
    assert c.ask("VRFY later@local.example", 451).endswith("<later@local.example> come again")
    assert c.ask("VRFY broken@local.example", 451).endswith("Cannot resolve <broken@local.example> at this time")
    assert "hidden" not in c.ask("VRFY hidden@local.example", 252)
    c.ask("VRFY joe", 501)
    c.ask("VRFY joe@@local.example", 501)
    assert c.ask("VRFY joe@local.example SMTPUTF8", 250).endswith("<joe@local.example> is deliverable")
    assert "needs SMTPUTF8" in c.ask("EXPN umlaut@local.example", 550)
    assert c.ask("EXPN umlaut@local.example smtputf8", 250).encode("latin-1").decode() == "250 2.1.5 <j\u00fcrgen@local.example>"
    c.ask("MAIL FROM:<s@client.example>", 250)
    assert "secret" not in c.ask("RCPT TO:<broken@local.example>", 451)
    assert "come again" in c.ask("RCPT TO:<later@local.example>", 451)
    c.close()
    i.wait_log(r"VRFY failed for nobody@local.example H=\(client.example\) \[127.0.0.1\]$")
    i.wait_log("VRFY failed for broken@local.example .*secret-file")
    i.wait_log("temporarily rejected RCPT <broken@local.example>: .*secret-file")


HEADER = (b"From: x@{0}\r\nReply-To: \"<x@{0}>\" <me@{0}>\r\nTo: G: a@{0} (a@{0}),\r\n b@away.example;\r\nCc: a@sub.{0}\r\n"
          b"X-To: a@{0}\r\nSubject: a@{0}\r\n\r\na@{0}\r\n")


def header(domain):
    return HEADER.replace(b"{0}", domain)


def check_fields(message, old, new):
    lines = message.replace(b"\r\n", b"\n")
    if new != old:
        assert b"From: x@" + new + b"\n" in lines
    for text in (b'Reply-To: "<x@%s>" <me@%s>\n' % (old, new), b"To: G: a@%s (a@%s),\n b@away.example;\n" % (new, old), b"Cc: a@sub.%s\n" % old,
                 b"X-To: a@%s\nSubject: a@%s\n" % (old, old)):
        assert text in lines, text
    assert lines.endswith(b"\n\na@%s\n" % old), "the body stays as it is"


@pytest.mark.parametrize("word,new", [("rewrite: there.example", b"there.example"), ("there.example", b"self.example")])
def test_reroute_rewrites_fields(bulkhead, sink, word, new):
    """In every copy of the message, also one whose plan was made before the domain was changed."""
    i = bulkhead(acl="acl_check_rcpt:\n  accept add_header = Cc: acl@self.example\n", routers=LOCAL + """
moved:
  driver = manualroute
  domains = self.example
  route_list = * 127.0.0.1
  transport = smtp
  self = reroute: %s
""" % word + FAR, sink=sink, users=["joe"])
    i.send("a@client.example", ["joe@local.example", "a@self.example", "b@away.example"], header(b"self.example"))
    i.wait_empty()
    assert sorted(r for m in sink.messages for r in m[1]) == ["a@there.example", "b@away.example"]
    for m in [m[2] for m in sink.messages] + i.maildir("joe"):
        check_fields(m, b"self.example", new)
        assert b"Cc: acl@" + new in m


@pytest.mark.parametrize("word,new", [("rewrite: there.example", b"there.example"), ("there.example", b"self.example")])
def test_exim_rewrites_the_same_fields(tmp_path, word, new):
    """The reference for check_fields: what Exim writes into both copies of that message."""
    tmp_path.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    exim = Oracle(tmp_path, shared=[out])
    done = exim.run(["-odi", "b@away.example", "a@self.example"], header(b"self.example").replace(b"\r", b"").decode(), """
primary_hostname = mx.client.example
acl_not_smtp = accept
begin routers
moved:
  driver = manualroute
  domains = self.example
  route_list = * 127.0.0.1
  self = reroute: %s
  transport = smtp
all:
  driver = accept
  transport = file
begin transports
smtp:
  driver = smtp
file:
  driver = appendfile
  file = %s/box
  user = Debian-exim
  group = Debian-exim
  message_suffix =
""" % (word, out))
    assert done.returncode == 0, done.stderr
    copies = re.split(rb"^From \S+ .*\n", (out / "box").read_bytes(), flags=re.M)[1:]
    assert len(copies) == 2
    for message in copies:
        check_fields(message, b"self.example", new)


@pytest.mark.skipif(not have_nsd(), reason="nsd on port 53 of a loopback address")
@pytest.mark.parametrize("option,new", [("", b"short.example.wide.example"), ("no_rewrite_headers", b"short.example")])
def test_widened_domain_in_fields(bulkhead, sink, tmp_path, option, new):
    """And a transport's headers_rewrite sees the widened one."""
    zone = Zone(str(tmp_path), "127.73.250.53")
    try:
        i = bulkhead(main="dns_resolvers = %s\n" % zone.address, routers="""
wide:
  driver = dnslookup
  widen_domains = nothing.example : wide.example
  %s
  transport = smtp
  self = send
""" % option, transports="smtp:\n  driver = smtp\n  allow_localhost\n  port = {sink}\n  headers_rewrite = x@*.wide.example y@z.example f\n", sink=sink)
        i.send("a@client.example", "a@short.example", header(b"short.example"))
        sender, rcpts, message = sink.wait(1)[0]
        assert rcpts == ["a@short.example.wide.example"]
        check_fields(message.replace(b"From: y@z.example", b"From: x@" + new), b"short.example", new)
        assert (b"From: y@z.example" in message) == (not option)
    finally:
        zone.close()


@pytest.mark.parametrize("ignore", [False, True])
def test_forward_file_that_router_may_not_read(bulkhead, ignore):
    """A home of mode 0700: the mail waits, and the log says for whom; ignore_eacces passes the file over."""
    i = bulkhead(routers="""
forward:
  driver = redirect
  domains = +local_domains
  local_parts = joe
  file = {dir}/home/.forward
""" + ("  ignore_eacces\n" if ignore else "") + LOCAL, users=["joe"])
    os.mkdir(os.path.join(i.dir, "home"), 0o700)
    write(i, "home/.forward", "ann@local.example\n")
    i.send("a@client.example", "joe@local.example")
    if ignore:
        i.wait_maildir("joe")
    else:
        i.wait_log(r"== joe@local.example .*/home/\.forward: Permission denied for router's user, uid \d+ \(ignore_eacces passes over such files\)")


def test_route_tells_fallback_hosts_apart(bulkhead):
    i = bulkhead(routers="r:\n  driver = manualroute\n  route_list = * 127.0.0.2:127.0.0.3\n  transport = smtp\n  fallback_hosts = 127.0.0.4\n")
    hosts = [line.split(" ", 3)[3] for line in i.command("route", "x@y.example").splitlines() if line.startswith("  host ")]
    assert hosts == ["127.0.0.2 [127.0.0.2] port=25", "127.0.0.3 [127.0.0.3] port=25", "127.0.0.4 [127.0.0.4] port=25 fallback"]


def test_mail_store_outside_of_store_directories(bulkhead):
    """Nothing is made there, and the reason names the option: what root sees is not there for local."""
    i = bulkhead(routers=LOCAL.replace("transport = maildir", "transport = out"), users=["joe"],
                 transports="out:\n  driver = appendfile\n  directory = /srv/elsewhere/$local_part_data\n  maildir_format\n  user = {mail_uid}\n  group = {mail_uid}\n")
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"== joe@local.example .*: cannot create directory /srv: Permission denied \(uid \d+, which sees store_directories alone\)")
    assert not os.path.exists("/srv/elsewhere")
