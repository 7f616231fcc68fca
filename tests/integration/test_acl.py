# SPDX-License-Identifier: ISC
"""ACLs with real daemons: what is counted and remembered over processes and reloads, DNS lists from a real name server, and where
the messages end that controls are about."""
import os
import re
import time

import pytest

from bulkhead import wait_for
from dns_zone import Zone, have_nsd

LOCAL = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
"""


def rcpt(b, address, sender="s@sender.example"):
    c = b.client()
    try:
        c.ask("EHLO client.example", 250)
        c.ask("MAIL FROM:<%s>" % sender, 250)
        return c.ask("RCPT TO:<%s>" % address)
    finally:
        c.close()


def test_ratelimit_counts_over_processes_and_reloads(bulkhead):
    b = bulkhead(main="smtpd_processes = 2\npolicyd_workers_min = 3\nrouter_workers_min = 2\n", routers=LOCAL, acl="""
acl_check_rcpt:
  defer ratelimit = 30 / 1h / per_rcpt / leaky
        message = rate $sender_rate is over $sender_rate_limit in $sender_rate_period
  deny local_parts = ann
       ratelimit = 0 / 1h / per_rcpt / strict / unique=$sender_address / senders
       message = senders $sender_rate
  accept
""")
    clients = [b.client() for _ in range(6)]
    for c in clients:
        c.ask("EHLO client.example", 250)
        c.ask("MAIL FROM:<s@sender.example>", 250)
    # Six sessions at the same time, on all processes: none of the events may be lost, and none counted twice.
    for _ in range(4):
        for c in clients:
            c.send("RCPT TO:<bob@local.example>\r\n")
        for c in clients:
            assert c.reply().startswith("250")
    for c in clients:
        c.close()
    b.command("reload")
    got = [rcpt(b, "bob@local.example") for _ in range(8)]
    assert [g[:3] for g in got] == ["250"] * 6 + ["451"] * 2, got
    assert re.search(r"rate 3[01]\.\d is over 30 in 1h", got[-1]), got[-1]
    wait_for(lambda: len(b.daemons("smtpd")) >= 2, 20)


def test_unique_events_count_once(bulkhead):
    b = bulkhead(routers=LOCAL, acl="""
acl_check_rcpt:
  deny ratelimit = 0 / 1h / per_rcpt / strict / unique=$sender_address / senders
       message = senders $sender_rate
  accept
""")
    rates = [re.search(r"senders (\S+)", rcpt(b, "ann@local.example", s + "@sender.example")).group(1) for s in ("a", "b", "a", "b", "c")]
    assert rates == ["1.0", "2.0", "2.0", "2.0", "3.0"]


def test_seen_greylists(bulkhead):
    b = bulkhead(routers=LOCAL, acl="""
acl_check_rcpt:
  accept seen = -0s / key=${sender_host_address}_${sender_address}_$local_part@$domain
  defer message = come again
""")
    assert rcpt(b, "ann@local.example").startswith("451")
    b.command("reload")
    wait_for(lambda: rcpt(b, "ann@local.example").startswith("250"), 10, 0.3)
    assert rcpt(b, "bob@local.example").startswith("451")
    assert rcpt(b, "ann@local.example", "other@sender.example").startswith("451")


@pytest.mark.skipif(not have_nsd() or os.geteuid() != 0, reason="nsd on port 53 of a loopback address")
def test_dnslists(bulkhead, tmp_path):
    zone = Zone(str(tmp_path), "127.73.251.53")
    try:
        b = bulkhead(main="dns_resolvers = %s\n" % zone.address, routers=LOCAL, acl="""
acl_check_rcpt:
  deny local_parts = ann
       dnslists = names.dnsbl.example : one.dnsbl.example=127.0.0.2/192.0.2.1
       message = $dnslist_matched at $dnslist_domain: $dnslist_value, $dnslist_text
  deny local_parts = bob
       dnslists = one.dnsbl.example/192.0.2.200
  deny local_parts = joe
       dnslists = +defer_unknown : list.elsewhere.invalid
  warn local_parts = x
       dnslists = list.elsewhere.invalid
       message = not reached
  accept
""")
        assert "192.0.2.1 at one.dnsbl.example: 127.0.0.2, T:listed, see" in rcpt(b, "ann@local.example")
        assert rcpt(b, "bob@local.example").startswith("250")
        assert rcpt(b, "joe@local.example").startswith("451")
        b.wait_log(r"DNS list lookup defer \(probably timeout\) for list\.elsewhere\.invalid: returned DEFER")
        assert rcpt(b, "x@local.example").startswith("250")
        b.wait_log(r"list\.elsewhere\.invalid: assumed not in list")
    finally:
        zone.close()


def test_delay_holds_one_session_only(bulkhead):
    b = bulkhead(main="smtpd_processes = 1\npolicyd_workers_max = 1\npolicyd_workers_min = 1\n", routers=LOCAL, acl="""
acl_check_rcpt:
  accept local_parts = ann
         delay = 1h
  accept
""")
    held = b.client()
    held.ask("EHLO client.example", 250)
    held.ask("MAIL FROM:<s@sender.example>", 250)
    held.send("RCPT TO:<ann@local.example>\r\n")
    for _ in range(3):
        assert rcpt(b, "bob@local.example").startswith("250")
    held.sock.settimeout(0.5)
    with pytest.raises(OSError):
        held.reply()
    held.close()


CONTROLS = """
acl_mail:
  warn senders = freeze@sender.example
       control = freeze
  warn senders = queue@sender.example
       control = queue
  warn senders = reject@sender.example
       control = fakereject/not today
  warn senders = defer@sender.example
       control = fakedefer
  warn senders = sub@sender.example
       control = submission/domain=sub.example/name=Joe O'Neil, Jr.
  accept
acl_check_rcpt:
  accept add_header = X-End: one
         add_header = :at_start:X-Start: $sender_address
         add_header = :after_received:X-After: r
         remove_header = X-Gone
acl_data:
  accept
"""


def sent(b, sender, content=b"From: x@y.example\r\nX-Gone: 1\r\nSubject: s\r\n\r\nbody\r\n", user="ann"):
    c = b.client()
    try:
        return c.mail(sender, user + "@local.example", content)
    finally:
        c.close()


def test_controls_end_as_they_should(bulkhead):
    b = bulkhead(main="acl_smtp_mail = acl_mail\nacl_smtp_data = acl_data\n", routers=LOCAL, acl=CONTROLS)
    assert sent(b, "freeze@sender.example").startswith("250")
    assert sent(b, "queue@sender.example").startswith("250")
    assert sent(b, "reject@sender.example", user="bob").startswith("550 5.7.1 not today")
    assert sent(b, "defer@sender.example", user="joe").startswith("450")
    # The client heard no; the mail came.
    assert b.wait_maildir("bob") and b.wait_maildir("joe")
    queue = {m["sender"]: m for m in b.queue()}
    assert set(queue) == {"freeze@sender.example", "queue@sender.example"}, queue
    assert queue["freeze@sender.example"]["state"] == "frozen"
    assert not b.maildir("ann")
    b.command("queue", "release", "--all")
    b.command("queue", "retry", "--all")
    text = b.wait_maildir("ann", 2)[0].decode()
    assert text.startswith("X-Start: "), text
    assert "X-Gone" not in text and "X-End: one\n" in text
    assert text.index("Received:") < text.index("X-After: r") < text.index("From:"), text
    assert not b.log("panic"), b.log("panic")


def test_submission_mends(bulkhead):
    b = bulkhead(main="acl_smtp_mail = acl_mail\nacl_smtp_data = acl_data\n", routers=LOCAL, acl=CONTROLS)
    assert sent(b, "sub@sender.example", b"Subject: s\r\nSender: liar@y.example\r\n\r\nbody\r\n").startswith("250")
    text = b.wait_maildir("ann")[0].decode()
    assert "liar@y.example" not in text, text
    assert re.search(r'^From: "?Joe O\'Neil, Jr\."? <sub@sender\.example>$', text, re.M), text
    assert re.search(r"^Date: ", text, re.M) and re.search(r"^Message-Id: <E\S+@mx\.test\.example>$", text, re.M | re.I), text
    # Nobody asked for it here: it stays as it came.
    assert sent(b, "plain@sender.example", b"Subject: s\r\nSender: liar@y.example\r\n\r\nbody\r\n", user="bob").startswith("250")
    text = b.wait_maildir("bob")[0].decode()
    assert "Sender: liar@y.example" in text and "\nDate:" not in text and "\nFrom:" not in text, text


def test_received_header_text(bulkhead):
    b = bulkhead(main="acl_smtp_data = acl_data\nreceived_header_text = Received: by $primary_hostname for ${local_part:$recipients}\\n\\tid $message_exim_id\n",
                 routers=LOCAL, acl="acl_check_rcpt:\n  accept\nacl_data:\n  accept\n")
    assert sent(b, "s@sender.example").startswith("250")
    assert re.search(r"^Received: by mx\.test\.example for ann\n\tid \S+\n", b.wait_maildir("ann")[0].decode(), re.M)


def test_notquit(bulkhead):
    b = bulkhead(main="acl_smtp_notquit = acl_notquit\nacl_smtp_quit = acl_quit\nsmtp_max_unknown_commands = 1\nsmtp_command_timeout = 1s\n"
                 "smtp_receive_timeout = 1s\n", routers=LOCAL, acl="""
acl_check_rcpt:
  drop local_parts = bomb
       message = boom
  accept set acl_c_n = $acl_c_n x
acl_quit:
  warn logwrite = quit after$acl_c_n
acl_notquit:
  accept logwrite = notquit $smtp_notquit_reason after$acl_c_n
         message = ${if eq{$smtp_notquit_reason}{bad-commands}{enough of that}}
""")
    c = b.client()
    c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<s@sender.example>", 250)
    c.ask("RCPT TO:<ann@local.example>", 250)
    assert "boom" in c.ask("RCPT TO:<bomb@local.example>", 550)
    assert c.at_end()
    b.wait_log(r"notquit acl-drop after x")
    c = b.client()
    c.ask("NONSENSE", 500)
    assert "enough of that" in c.ask("NONSENSE", 500)
    assert c.at_end()
    b.wait_log(r"notquit bad-commands after$")
    c = b.client()
    c.ask("EHLO client.example", 250)
    c.close()
    b.wait_log(r"notquit connection-lost after$")
    c = b.client()
    c.ask("EHLO client.example", 250)
    assert c.reply().startswith("421")
    b.wait_log(r"notquit command-timeout after$")
    c = b.client()
    c.ask("QUIT", 221)
    assert c.at_end()
    b.wait_log(r"quit after$")
    assert len(re.findall(r"notquit", b.log())) == 4


def test_debug_goes_to_the_log(bulkhead):
    b = bulkhead(main="acl_smtp_mail = acl_mail\n", routers=LOCAL, acl="""
acl_mail:
  warn senders = trace@sender.example
       control = debug
  accept
acl_check_rcpt:
  accept domains = +local_domains
""")
    assert rcpt(b, "ann@local.example").startswith("250")
    assert ">>>" not in b.log()
    assert rcpt(b, "ann@local.example", "trace@sender.example").startswith("250")
    b.wait_log(r'>>> using ACL "acl_check_rcpt"')
    b.wait_log(r">>> check domains = \+local_domains")


def test_a_fake_session_changes_nothing(bulkhead):
    b = bulkhead(routers=LOCAL, acl="""
acl_check_rcpt:
  deny local_parts = ann
       message = $sender_host_address:$sender_host_port to $received_ip_address:$received_port as $sender_helo_name
  warn ratelimit = 0 / 1h / per_rcpt / strict / fake
       logwrite = rate $sender_rate
  accept control = freeze
""")
    said = b"MAIL FROM:<s@sender.example>\nRCPT TO:<ann@local.example>\nRCPT TO:<bob@local.example>\nDATA\nSubject: s\n\nbody\n.\nQUIT\n"
    for _ in range(2):
        code, out, err = b.command("session", "--trace", "--helo", "named.example", "--interface", "192.0.2.25.587", "198.51.100.7.4711",
                                   check=False, input=said)
        assert code == 0, err
        assert "550 5.7.1 198.51.100.7:4711 to 192.0.2.25:587 as named.example" in out.replace("\r", ""), out
        assert "LOG: rate 1.0" in err, err
        assert 'deny: condition test succeeded in ACL "acl_check_rcpt"\n>>>   message: 198.51.100.7:4711' in err, err
        assert 'deny: condition test failed in ACL "acl_check_rcpt"\n>>> processing "warn"' in err, err
        assert re.search(r">>> message \S+ would be queued: from <s@sender\.example>, \d+ octets, freeze\n>>>   to <bob@local\.example>", err), err
    assert not b.queue() and not b.maildir("bob")
    code, out, err = b.command("session", "nobody.example", check=False, input=b"")
    assert code == 64 and "address" in err
    code, out, err = b.command("session", "2001:db8::1", check=False, input=b"EHLO six.example\nQUIT\n")
    assert code == 0 and "Hello six.example [2001:db8::1]" in out, out + err


def test_udpsend(bulkhead):
    """What an ACL sends arrives, to an address and to a name; a fake session sends nothing; what can't be sent stops nobody's mail."""
    import socket
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(20)
    b = bulkhead(routers=LOCAL, acl="""
acl_check_rcpt:
  accept local_parts = postmaster
         udpsend = 127.0.0.1:%d:${length_66000:${sg{X}{X}{${sg{%s}{x}{0123456789012345678901234567890123456789}}}}}
  accept domains = +local_domains
         udpsend = <; 127.0.0.1 ; %d ; to $local_part; from $sender_address: $sender_host_address
  deny
""" % (sock.getsockname()[1], "x" * 1700, sock.getsockname()[1]))
    code, out, err = b.command("session", "--trace", "198.51.100.7", check=False, input=b"HELO x\nMAIL FROM:<s@x.example>\nRCPT TO:<ann@local.example>\nQUIT\n")
    assert code == 0 and "udpsend [127.0.0.1]:%d" % sock.getsockname()[1] in err and "not sent" in err, err
    b.send("s@sender.example", "joe@local.example")
    assert sock.recv(2000) == b" to joe; from s@sender.example: 127.0.0.1"
    b.send("s@sender.example", "postmaster@local.example")
    b.wait_log(r"udpsend to \[127.0.0.1\]:\d+: 66000 octets are too many")
    sock.close()
