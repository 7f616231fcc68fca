# SPDX-License-Identifier: ISC
"""Rewriting rules with real daemons: the envelope, header fields at reception, and the argument of MAIL and RCPT."""
import re
import subprocess

from bulkhead import SENDMAIL, Instance, wait_for

RULES = r"""
begin rewrite
*@old.example          $1@local.example     Ttcbf
\N^<([^!@]+)!([^!@]+)>$\N  <$2@$1>          S
from@src.example       real@src.example     F
*@hdr.example          "Name <$1@local.example>" fw
stop@local.example     *                    h
bad@hdr2.example       "not an address@"    f
*@local.example        "${if eq{$1}{alias}{alice@local.example}fail}"  T
"""


def started(bulkhead, rules=RULES, main="log_selector = +address_rewrite +received_recipients", **kw):
    return bulkhead(main=main, retry=Instance.RETRY + "\n" + rules, users=("alice", "bob"), **kw)


def header(message):
    return message.split(b"\r\n\r\n" if b"\r\n\r\n" in message else b"\n\n", 1)[0].replace(b"\r\n", b"\n").decode()


def test_envelope_and_header(bulkhead):
    b = started(bulkhead)
    b.send("from@src.example", ["alice@old.example"],
           b"From: \"A (x) B\" <me@old.example> (note)\r\nTo: G: alice@old.example,\r\n bob@other.example;\r\nCc: keep@other.example\r\n"
           b"X-Other: alice@old.example\r\nSubject: s\r\n\r\nalice@old.example\r\n")
    got = b.wait_maildir("alice")[0]
    h = header(got)
    assert "From: \"A (x) B\" <me@local.example> (note)\n" in h
    assert "To: G: alice@local.example,\n bob@other.example;\n" in h
    assert "Cc: keep@other.example\n" in h and "X-Other: alice@old.example\n" in h
    assert got.replace(b"\r\n", b"\n").endswith(b"\n\nalice@old.example\n"), "the body stays as it is"
    assert h.index("From:") < h.index("To:") < h.index("Cc:") < h.index("X-Other:"), "fields keep their places"
    b.wait_log(r"<= real@src\.example .*")
    b.wait_log(r'"from@src\.example" from env-from rewritten as "real@src\.example" by rule 3')
    b.wait_log(r'"alice@old\.example" from env-to rewritten as "alice@local\.example" by rule 1')


def test_whole_items_and_what_is_not_used(bulkhead):
    b = started(bulkhead)
    b.send("a@src.example", ["alias@local.example"], b"From: Somebody <u@hdr.example>, bad@hdr2.example\r\nTo: x@y.example\r\n\r\nb\r\n")
    h = header(b.wait_maildir("alice")[0])
    assert "From: Name <u@local.example>, bad@hdr2.example\n" in h
    b.wait_log(r"Rewrite of bad@hdr2\.example yielded unparseable address")
    b.wait_log(r"=> alice <alias@local\.example> |=> alice@local\.example <alias@local\.example> ")


def test_argument(bulkhead):
    b = started(bulkhead)
    c = b.client()
    c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<src.example!joe> SIZE=100", 250)
    c.ask("RCPT TO:<local.example!alice>", 250)
    c.ask("DATA", 354)
    c.data(b"Subject: bang\r\n\r\nb\r\n")
    assert "bang" in header(b.wait_maildir("alice")[0])
    b.wait_log(r"<= joe@src\.example .* for alice@local\.example")
    c.ask("MAIL FROM:<x@y.example>", 250)
    c.ask("RCPT TO:<bob@local.example>", 250)
    c.close()


def test_acl_sees_it(bulkhead):
    acl = """
acl_check_rcpt:
  accept condition = ${if eq{$local_part@$domain}{alice@old.example}}
acl_data:
  accept add_header = X-Saw: $sender_address / $h_from: / $recipients
         remove_header = To
"""
    b = started(bulkhead, main="acl_smtp_data = acl_data", acl=acl)
    b.send("from@src.example", ["alice@old.example"], b"From: me@old.example\r\nTo: alice@old.example\r\n\r\nb\r\n")
    h = header(b.wait_maildir("alice")[0])
    assert "X-Saw: real@src.example / me@local.example / alice@local.example" in h
    assert "From: me@local.example\n" in h and "\nTo:" not in h


def test_local_submission(bulkhead):
    b = started(bulkhead)
    subprocess.run([SENDMAIL, "-C", b.conf, "-f", "from@src.example", "alice@old.example"], check=True, timeout=60,
                   input=b"From: me@old.example\nTo: alice\nCc: x@old.example\n\nb\n")
    h = header(b.wait_maildir("alice")[0])
    assert "From: me@local.example\n" in h and "To: alice@mx.test.example\n" in h and "Cc: x@local.example\n" in h
    b.wait_log(r"<= real@src\.example ")


def test_unqualified_without_rules(bulkhead):
    """Addresses without a domain get one in local messages, and in those of hosts that may send them; nowhere else."""
    b = bulkhead(main="qualify_recipient = local.example", users=("alice", "bob"))
    subprocess.run([SENDMAIL, "-C", b.conf, "-f", "a@src.example", "alice"], check=True, timeout=60, input=b"From: me\nTo: alice, <bob>\n\nb\n")
    h = header(b.wait_maildir("alice")[0])
    assert "From: me@mx.test.example\n" in h and "To: alice@local.example, <bob@local.example>\n" in h
    b.send("a@src.example", ["bob@local.example"], b"From: me\r\nTo: alice\r\n\r\nb\r\n")
    h = header(b.wait_maildir("bob")[0])
    assert "From: me\n" in h and h.endswith("To: alice")


def test_reload(bulkhead):
    b = bulkhead(users=("alice", "bob"))
    b.send("a@src.example", ["alice@local.example"], b"From: u@hdr.example\r\n\r\nb\r\n")
    assert header(b.wait_maildir("alice")[0]).endswith("From: u@hdr.example")
    with open(b.conf, "a") as f:
        f.write(RULES)
    b.command("reload")

    def rewritten():
        b.send("a@src.example", ["bob@local.example"], b"From: u@hdr.example\r\n\r\nb\r\n")
        return any(b"Name <u@local.example>" in m for m in b.maildir("bob"))
    wait_for(rewritten, 20, 0.2, why=b.logs)


def test_command(bulkhead):
    b = started(bulkhead)
    assert b.command("rewrite", "me@old.example") == ("  sender: me@old.example\n    from: me@local.example\n      to: me@local.example\n      cc: me@local.example\n"
                    "     bcc: me@local.example\nreply-to: me@old.example\nenv-from: me@old.example\n  env-to: me@local.example\n")


TRANSPORT = r"""
smtp:
  driver = smtp
  allow_localhost
  headers_rewrite = *@inner.example "$1@outer.example" fr : boss@outer.example "The Boss <boss@outer.example>" wf : \N^(.*)@list\.example$\N $1::x@outer.example t
  headers_add = X-Router: r@inner.example
  return_path = bounce+${local_part:$sender_address}@outer.example
"""


def test_transport(bulkhead, sink):
    """headers_rewrite: the message's fields, those of ACLs too, as they leave; the queue keeps what came in."""
    acl = "acl_check_rcpt:\n  accept add_header = Reply-To: acl@inner.example\n"
    b = bulkhead(sink=sink, acl=acl, transports=TRANSPORT + "maildir:" + Instance.TRANSPORTS.split("maildir:")[1],
                 retry=Instance.RETRY + "\nbegin rewrite\nfirst@src.example  second@inner.example  f\n")
    for n, who in enumerate((b"ann@inner.example", b"boss@inner.example", b"first@src.example")):
        b.send("me@src.example", ["u@far.example"], b"From: X <" + who + b">\r\nTo: t@inner.example\r\n\r\nb\r\n")
        sink.wait(n + 1)
    got = sorted(re.search(rb"^From: .*$", m[2].replace(b"\r\n", b"\n"), re.M).group().decode() for m in sink.messages)
    assert got == ["From: The Boss <boss@outer.example>", "From: X <ann@outer.example>", "From: X <second@outer.example>"]
    for m in sink.messages:
        h = header(m[2])
        assert "To: t@inner.example" in h and "Reply-To: acl@outer.example" in h and "X-Router: r@inner.example" in h
        assert m[0] == "bounce+me@outer.example"
