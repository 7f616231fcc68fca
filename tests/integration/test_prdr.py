# SPDX-License-Identifier: ISC
"""PRDR: a verdict for each recipient behind the data. As the server with Exim as the client, as the client of Exim, and to ourselves."""
import re

import pytest

from bulkhead import wait_for
from peers import PEERS
from test_flow import HEADER

MAIN = "prdr_enable = true\nacl_smtp_data_prdr = acl_prdr\nacl_smtp_data = acl_data\n"
ACL = r"""acl_check_rcpt:
  discard local_parts = gone
  accept logwrite = RCPT $local_part prdr=$prdr_requested
acl_prdr:
  deny    local_parts = bad
          message = not for $local_part of $domain
  defer   local_parts = later
  accept  logwrite = PRDR $local_part at $domain, $recipients_count, $message_size, $smtp_command, $h_subject:, $prdr_requested
acl_data:
  deny    condition = ${if match{$h_subject:}{all}}
  accept  logwrite = DATA $recipients prdr=$prdr_requested
"""


def begin(b, rcpts, params=" PRDR"):
    c = b.client()
    assert "250-PRDR" in c.ask("EHLO c.example", 250)
    assert c.ask("MAIL FROM:<a@b.example>" + params, 250).startswith("250 2.1.0 OK, PRDR Requested" if params else "250 2.1.0 OK")
    for r in rcpts:
        c.ask("RCPT TO:<%s@far.example>" % r, 250)
    return c


def test_replies(bulkhead, sink):
    b = bulkhead(sink=sink, main=MAIN, acl=ACL)
    c = begin(b, ["x", "bad", "gone", "later", "y"])
    c.ask("DATA", 354)
    c.send(HEADER + b"text\r\n.\r\n")
    replies = [c.reply() for _ in range(7)]
    assert [r[:3] for r in replies] == ["353", "250", "550", "250", "450", "250", "250"]
    assert "R=<x@far.example> acceptance" in replies[1]
    assert "not for bad of far.example" in replies[2]
    assert "accepted for some recipients" in replies[6]
    assert sorted(sink.wait(1)[0][1]) == ["x@far.example", "y@far.example"]
    b.wait_log(r"<= a@b.example .* P=esmtp PRDR S=")
    log = b.log()
    assert "RCPT x prdr=yes" in log and re.search(r"PRDR x at far.example, 4, %d, DATA, \S.*, yes" % (len(HEADER) + 6), log)
    assert "DATA x@far.example, y@far.example prdr=yes" in log
    assert "rejected PRDR <bad@far.example>: not for bad" in log and "temporarily rejected PRDR <later@far.example>" in log
    b.wait_empty()


@pytest.mark.parametrize("rcpts,subject,want", [
    (["bad", "bad"], "x", ["353", "550", "550", "550"]), (["bad", "later"], "x", ["353", "550", "450", "450"]),
    (["x", "y"], "all", ["353", "250", "250", "550"]), (["bad"], "x", ["250"]), (["bad", "gone"], "x", ["250"]),
])
def test_refusals(bulkhead, sink, rcpts, subject, want):
    b = bulkhead(sink=sink, main=MAIN, acl=ACL)
    c = begin(b, rcpts)
    data = b"Subject: %s\r\n\r\nx\r\n" % subject.encode()
    c.send(b"BDAT %d LAST\r\n" % len(data) + data)
    assert [c.reply()[:3] for _ in want] == want
    c.ask("NOOP", 250)
    if want[-1] == "250":
        sink.wait(1)
    b.wait_empty()
    assert len(sink.messages) == (want[-1] == "250")


def test_exim_is_the_client(bulkhead, sink):
    """Exim believes each reply; what is deferred for one stays with it."""
    b = bulkhead(sink=sink, main=MAIN, acl=ACL)
    peer = PEERS["exim"](b.port)
    try:
        from bulkhead import Client
        assert Client(peer.port).mail("a@b.example", ["x@far.example", "bad@far.example", "y@far.example", "later@far.example"],
                                      HEADER + b"from exim\r\n").startswith("250")
        assert sorted(sink.wait(1)[0][1]) == ["x@far.example", "y@far.example"]
        wait_for(lambda: "** bad@far.example" in peer.log(), 30, why=peer.log)
        wait_for(lambda: "== later@far.example" in peer.log(), 30, why=peer.log)
        assert re.search(r"=> x@far.example .*PRDR", peer.log())
        assert re.search(r"not for bad of far.example", peer.log())
        b.wait_log(r"<= a@b.example .* P=esmtp PRDR K S=")
    finally:
        peer.close()


def test_we_are_the_client(bulkhead, sink):
    far = bulkhead(sink=sink, main=MAIN, acl=ACL, name="far.test.example")
    near = bulkhead(sink=far.port)
    near.send("joe@local.example", ["x@far.example", "bad@far.example", "y@far.example"], HEADER + b"to ourselves\r\n")
    assert sorted(sink.wait(1)[0][1]) == ["x@far.example", "y@far.example"]
    near.wait_log(r"=> x@far.example .* PRDR")
    near.wait_log(r"\*\* bad@far.example .*not for bad of far.example")
    near.wait_log(r"-> y@far.example .* PRDR")
    near.wait_empty()
