# SPDX-License-Identifier: ISC
"""verify = recipient/callout, sender/callout and header_sender/callout with real daemons: scripted servers, Debian's Postfix and Exim."""
import os
import re
import signal
import threading
import time

import pytest

from bulkhead import Client, read, wait_for
from peers import PEERS
from scripted_server import Close, Late, Raw, ScriptedServer, Silent

ROUTERS = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
many:
  driver = redirect
  domains = list.example
  data = a@far.example, b@far.example
one:
  driver = redirect
  domains = alias.example
  data = real@far.example
refused:
  driver = manualroute
  domains = refused.example
  route_list = * 127.0.0.1
  transport = smtp
  self = send
  fail_verify
not_for_verifying:
  driver = manualroute
  domains = quiet.example
  route_list = * 127.0.0.1
  transport = smtp
  self = send
  no_verify
only_for_verifying:
  driver = manualroute
  domains = only.example
  route_list = * 127.0.0.1::{sink}
  self = send
  verify_only
out:
  driver = manualroute
  domains = !+local_domains : !nowhere.example : !quiet.example : !only.example
  route_list = * 127.0.0.1
  transport = smtp
  self = send
"""
TRANSPORTS = """
smtp:
  driver = smtp
  port = {sink}
  allow_localhost
maildir:
  driver = appendfile
  directory = {dir}/mail/$local_part_data
  maildir_format
  create_directory
  user = {mail_uid}
  group = {mail_uid}
"""


def acl(rcpt="", data=""):
    return """
acl_check_rcpt:
%s
  accept
acl_check_data:
%s
  accept
""" % (rcpt, data)


@pytest.fixture
def make(bulkhead):
    """make(server, "recipient/callout=2s"): an instance that requires it of every recipient."""
    def f(port, what=None, rcpt=None, data="", main="", **kw):
        return bulkhead(sink=port.port if isinstance(port, ScriptedServer) else port, routers=kw.pop("routers", ROUTERS),
                        transports=kw.pop("transports", TRANSPORTS), acl=acl(rcpt or "  require verify = " + what, data),
                        main="acl_smtp_data = acl_check_data\n" + main, **kw)
    return f


def rcpt(b, to="u@far.example", sender="s@from.example"):
    """The reply to RCPT, without our own enhanced status."""
    c = b.client()
    try:
        c.ask("EHLO client.example", 250)
        c.ask("MAIL FROM:<%s>" % sender, 250)
        got = c.ask("RCPT TO:<%s>" % to)
        c.ask("QUIT", 221)
        return re.sub(r"(?m)^(\d{3}[- ])\d\.\d+\.\d+ ", r"\1", got)
    finally:
        c.close()


def commands(server):
    return [[re.sub(r"<mx[^<>]*-testing@", "<RANDOM@", line) for line in s.commands] for s in server.sessions]


HELLO = "EHLO mx.test.example"
TAKEN = [HELLO, "MAIL FROM:<>", "RCPT TO:<u@far.example>", "QUIT"]


# ---- verdicts ----

def test_taken_and_remembered(make):
    with ScriptedServer() as server:
        b = make(server, "recipient/callout=5s")
        assert rcpt(b).startswith("250")
        server.wait_closed(1)
        assert commands(server) == [TAKEN]
        assert rcpt(b).startswith("250")
        assert rcpt(b, "u@FAR.example").startswith("250")
        assert len(server.sessions) == 1, "the second question came from the cache"
        assert rcpt(b, "other@far.example").startswith("250")
        server.wait_closed(2)
        assert commands(server)[1] == [HELLO, "MAIL FROM:<>", "RCPT TO:<other@far.example>", "QUIT"]
        assert not server.messages


REFUSED = {"RCPT": "550 5.1.1 no such user"}


def test_refused_and_remembered(make):
    with ScriptedServer(REFUSED) as server:
        b = make(server, "recipient/callout=5s")
        assert rcpt(b) == "550-Callout verification failed:\n550 550 5.1.1 no such user"
        b.wait_log(r"rejected RCPT <u@far.example>: 127.0.0.1 \[127.0.0.1\] : SMTP error from remote mail server after RCPT TO:<u@far.example>: "
                   r"550 5.1.1 no such user$")
        assert rcpt(b) == "550 Previous (cached) callout verification failure"
        b.wait_log(r"rejected RCPT <u@far.example>: Previous \(cached\) callout verification failure$")
        assert commands(server) == [TAKEN]


def test_more_than_one_line_is_passed_on(make):
    with ScriptedServer({"RCPT": "550-5.1.1 no such\r\n550 user \x01"}) as server:
        b = make(server, "recipient/callout=5s")
        assert rcpt(b) == "550-Callout verification failed:\n550-550-5.1.1 no such\n550 550 user ?"
        b.wait_log(r"after RCPT TO:<u@far.example>: 550-5.1.1 no such\\n550 user \?$")


@pytest.mark.parametrize("script,why,seen", [
    ({"RCPT": "450 4.2.1 later"}, "SMTP error from remote mail server after RCPT TO:<u@far.example>: 450 4.2.1 later", TAKEN),
    ({"MAIL": "451 busy"}, "SMTP error from remote mail server after MAIL FROM:<>: 451 busy", TAKEN[:2] + ["QUIT"]),
    ({"banner": "421 busy"}, "SMTP error from remote mail server after initial connection: 421 busy", []),
    ({"RCPT": Close()}, "Remote host closed connection in response to RCPT TO:<u@far.example>", TAKEN[:3]),
    ({"banner": Close()}, "Remote host closed connection in response to initial connection", []),
    ({"EHLO": Close()}, "Remote host closed connection in response to EHLO mx.test.example", TAKEN[:1]),
    ({"RCPT": Raw(b"hello\r\n")}, "Malformed SMTP reply (no code at the start) in response to RCPT TO:<u@far.example>: hello", TAKEN[:3]),
    ({"RCPT": "354 go"}, "Malformed SMTP reply", TAKEN[:3]),
    ({"RCPT": Silent()}, "SMTP timeout after RCPT TO:<u@far.example>", TAKEN[:3]),
    ({"banner": Silent()}, "SMTP timeout after initial connection", []),
    ({"RCPT": Raw(b"250-" + b"x" * 3000)}, "Malformed SMTP reply", TAKEN[:3]),
])
def test_no_answer_defers_and_is_not_remembered(make, script, why, seen):
    with ScriptedServer(script) as server:
        b = make(server, "recipient/callout=1s")
        for n in (1, 2):
            assert rcpt(b) == "451 Could not complete recipient verify callout"
            server.wait_closed(n)
        b.wait_log(r"temporarily rejected RCPT <u@far.example>: Could not complete recipient verify callout: 127.0.0.1 \[127.0.0.1\] : " + re.escape(why))
        assert commands(server) == [seen, seen]


def test_nobody_there(make):
    from bulkhead import free_port
    b = make(free_port(), "recipient/callout=2s")
    assert rcpt(b).startswith("451 Could not complete recipient verify callout")
    b.wait_log(r"127.0.0.1 \[127.0.0.1\] : Connection refused")


def test_defer_ok_of_the_callout_and_of_the_whole(make):
    with ScriptedServer({"RCPT": "450 later"}) as server:
        b = make(server, rcpt="  accept domains = whole.example\n verify = recipient/defer_ok/callout=2s\n"
                              "  deny !verify = recipient/callout=2s,defer_ok\n message = no")
        assert rcpt(b).startswith("250")
        assert rcpt(b, "u@whole.example").startswith("250")
        assert rcpt(b).startswith("250")
        assert len(server.sessions) == 3, "nothing of it was remembered"
        assert rcpt(b, "u@nowhere.example").startswith("550")


@pytest.mark.parametrize("script,text", [({"banner": "554 5.7.1 go away"}, "554 5.7.1 go away"),
                                         ({"EHLO": "550 x", "HELO": "550 not you"}, "550 not you"),
                                         ({"MAIL": "550 5.7.1 no bounces"}, "550 5.7.1 no bounces")])
def test_a_domain_that_takes_no_callouts(make, script, text):
    with ScriptedServer(script) as server:
        b = make(server, "recipient/callout=2s")
        assert rcpt(b) == "550-Callout verification failed:\n550 " + text
        assert rcpt(b, "other@far.example") == "550 (result of an earlier callout reused)."
        assert len(server.sessions) == 1
        assert rcpt(b, "other@else.example").startswith("550-Callout"), "another domain"


def test_null_sender_refused_is_no_word_about_others(make):
    with ScriptedServer({"MAIL": ["550 no bounces", "250 ok"]}) as server:
        b = make(server, rcpt="  accept local_parts = s\n verify = recipient/callout=use_sender\n  require verify = recipient/callout=2s")
        assert rcpt(b).startswith("550-")
        assert rcpt(b, "s@far.example").startswith("250")
        assert server.sessions[1].commands[1:3] == ["MAIL FROM:<s@from.example>", "RCPT TO:<s@far.example>"]
        assert rcpt(b, "v@far.example") == "550 (result of an earlier callout reused)."
        assert len(server.sessions) == 2


# ---- options ----

def test_no_cache(make):
    with ScriptedServer() as server:
        b = make(server, "recipient/callout=2s,no_cache")
        assert rcpt(b).startswith("250") and rcpt(b).startswith("250")
        assert len(server.sessions) == 2


def test_expiry(make):
    with ScriptedServer({"RCPT": ["550 no", "250 yes", "550 no"]}) as server:
        b = make(server, "recipient/callout=2s", main="callout_negative_expire = 1s\ncallout_positive_expire = 0s\n")
        assert rcpt(b).startswith("550-")
        wait_for(lambda: rcpt(b).startswith("250"))
        assert rcpt(b).startswith("550-"), "a positive answer lasts no time at all"
        assert len(server.sessions) == 3


def test_use_sender_and_use_postmaster(make):
    with ScriptedServer() as server:
        b = make(server, rcpt="  require local_parts = !p\n verify = recipient/callout=use_sender\n")
        for sender in ("s@from.example", "s@from.example", "t@from.example", ""):
            assert rcpt(b, sender=sender).startswith("250")
        assert [c[1] for c in commands(server)] == ["MAIL FROM:<s@from.example>", "MAIL FROM:<t@from.example>", "MAIL FROM:<>"]
    with ScriptedServer() as server:
        b = make(server, "recipient/callout=use_postmaster", main="qualify_domain = q.example\n")
        assert rcpt(b).startswith("250") and rcpt(b).startswith("250")
        assert [c[1] for c in commands(server)] == ["MAIL FROM:<postmaster@q.example>"]


RANDOM = [HELLO, "MAIL FROM:<>", "RCPT TO:<RANDOM@far.example>"]


def test_random_taken(make):
    with ScriptedServer() as server:
        b = make(server, rcpt="  require verify = recipient/callout=2s,random\n  warn logwrite = is <$recipient_verify_failure> <$local_part_data>\n")
        assert rcpt(b).startswith("250") and rcpt(b, "other@far.example").startswith("250")
        server.wait_closed(1)
        assert commands(server) == [RANDOM + ["QUIT"]]
        wait_for(lambda: b.log().count("is <random> <>") == 2, why=b.logs)


def test_random_refused(make):
    with ScriptedServer({"RCPT": ["550 r", "250 ok", "550 no"]}) as server:
        b = make(server, "recipient/callout=2s,random")
        assert rcpt(b).startswith("250")
        assert rcpt(b, "other@far.example").startswith("550-Callout verification failed:\n550 550 no")
        server.wait_closed(2)
        assert commands(server) == [RANDOM + ["RSET", "MAIL FROM:<>", "RCPT TO:<u@far.example>", "QUIT"],
                                    [HELLO, "MAIL FROM:<>", "RCPT TO:<other@far.example>", "QUIT"]], "random was tried once"


def test_random_deferred(make):
    with ScriptedServer({"RCPT": "450 r"}) as server:
        b = make(server, "recipient/callout=2s,random", main="callout_random_local_part = none-$tod_epoch\n")
        assert rcpt(b).startswith("451")
        server.wait_closed(1)
        assert re.fullmatch(r"RCPT TO:<none-\d+@far.example>", server.sessions[0].commands[2])


POSTMASTER = ["RSET", "MAIL FROM:<>", "RCPT TO:<postmaster@far.example>"]


def test_postmaster(make):
    with ScriptedServer({"RCPT": ["250 ok", "550 no pm"]}) as server:
        b = make(server, rcpt="  require verify = recipient/callout=2s,postmaster\n")
        assert rcpt(b) == "550-Callout verification failed:\n550 550 no pm"
        assert rcpt(b, "other@far.example") == "550 (result of earlier verification reused)."
        server.wait_closed(1)
        assert commands(server) == [TAKEN[:3] + POSTMASTER + ["QUIT"]]
    with ScriptedServer() as server:
        b = make(server, "recipient/callout=2s,postmaster_mailfrom=pm@from.example")
        assert rcpt(b).startswith("250") and rcpt(b, "other@far.example").startswith("250")
        assert commands(server)[0][:6] == TAKEN[:3] + ["RSET", "MAIL FROM:<pm@from.example>", "RCPT TO:<postmaster@far.example>"]
        assert commands(server)[1][2] == "RCPT TO:<other@far.example>" and len(server.sessions[1].commands) <= 4


@pytest.mark.parametrize("last,verdict", [("250 ok", "250"), ("550 no", "550")])
def test_fullpostmaster(make, last, verdict):
    with ScriptedServer({"RCPT": ["250 ok", "550 no", last]}) as server:
        b = make(server, "recipient/callout=2s,fullpostmaster")
        assert rcpt(b).startswith(verdict)
        server.wait_closed(1)
        assert commands(server) == [TAKEN[:3] + POSTMASTER + ["RSET", "MAIL FROM:<>", "RCPT TO:<postmaster>", "QUIT"]]


def test_variables_and_trust(make):
    with ScriptedServer({"RCPT": ["250 ok", "550 no"]}) as server:
        b = make(server, rcpt="""  warn !verify = recipient/callout=2s
    logwrite = failed <$recipient_verify_failure> <$acl_verify_message> <$callout_address>
  warn logwrite = after <$recipient_verify_failure> <$callout_address> <$local_part_data> <$domain_data>""")
        rcpt(b, "UsEr@Far.Example")
        rcpt(b, "v@far.example")
        rcpt(b, "v@nowhere.example")
        b.wait_log(r"after <> <\[127.0.0.1\]:%d> <user> <far.example>$" % server.port)
        b.wait_log(r"failed <recipient> <Callout verification failed:")
        b.wait_log(r"failed <route> <Unrouteable address> <>$")


def test_hosts_are_tried_in_order(make):
    dead = ScriptedServer({"RCPT": "450 not now"}, host="127.0.0.2")
    with dead, ScriptedServer(REFUSED, host="127.0.0.3") as server:
        routers = ROUTERS.replace("route_list = * 127.0.0.1\n", "route_list = * 127.0.0.2::%d:127.0.0.3::%d\n" % (dead.port, server.port))
        b = make(server, "recipient/callout=2s", routers=routers)
        assert rcpt(b) == "550-Callout verification failed:\n550 550 5.1.1 no such user"
        assert len(dead.sessions) == 1


def test_maxwait_ends_the_round_of_hosts(make):
    servers = [ScriptedServer({"RCPT": Silent()}, host="127.0.0.%d" % i) for i in (2, 3, 4, 5)]
    routers = ROUTERS.replace("route_list = * 127.0.0.1\n", "route_list = * " + ":".join("127.0.0.%d::%d" % (i + 2, s.port) for i, s in
                                                                                        enumerate(servers)) + "\n")
    try:
        b = make(servers[0], "recipient/callout=2s,maxwait=1s", routers=routers)
        assert rcpt(b).startswith("451")
        assert [len(s.sessions) for s in servers] == [1, 0, 0, 0]
    finally:
        for s in servers:
            s.close()


def test_refused_options(make):
    from bulkhead import Instance
    for what in ("recipient/callout=frobnicate", "recipient/callout=0s", "recipient/quota", "sender/callout=use_sender", "recipient/callout=mailfrom=a@b",
                 "recipient/callout=connect", "recipient/surely"):
        i = Instance(acl=acl("  require verify = " + what))
        try:
            code, _, err = i.command("check-config", check=False)
            assert code and "verify" in err, (what, err)
        finally:
            i.destroy()


def test_replies_before_it_are_sent(make):
    with ScriptedServer({"RCPT": Silent()}) as server:
        b = make(server, "recipient/callout=20s")
        c = b.client()
        c.ask("EHLO client.example", 250)
        c.send("MAIL FROM:<s@from.example>\r\nRCPT TO:<u@far.example>\r\n")
        assert c.reply().startswith("250"), "MAIL is answered while the server is silent about RCPT"
        c.close()


# ---- routing ----

def test_what_is_not_called_out(make):
    with ScriptedServer(REFUSED) as server:
        b = make(server, "recipient/callout=2s")
        assert rcpt(b, "joe@local.example").startswith("250"), "delivered here"
        assert rcpt(b, "nobody@local.example").startswith("550")
        assert rcpt(b, "x@list.example").startswith("250"), "several children: nothing more is asked"
        assert rcpt(b, "x@nowhere.example").startswith("550"), "not routeable"
        assert rcpt(b, "x@refused.example").startswith("550"), "fail_verify"
        assert rcpt(b, "x@quiet.example").startswith("550"), "no router that verifies"
        assert not server.sessions
        assert rcpt(b, "x@alias.example").startswith("550-Callout"), "the only child is asked about"
        assert commands(server)[0][2] == "RCPT TO:<real@far.example>"


def test_success_on_redirect(make):
    with ScriptedServer(REFUSED) as server:
        b = make(server, "recipient/success_on_redirect/callout=2s")
        assert rcpt(b, "x@alias.example").startswith("250")
        assert not server.sessions


def test_a_router_without_transport(make):
    with ScriptedServer(REFUSED) as server:
        b = make(server, "recipient/callout=2s", main="smtp_active_hostname = active.example\n")
        assert rcpt(b, "u@only.example").startswith("550-Callout")
        assert server.sessions[0].commands[0] == "EHLO active.example"


def test_lmtp(make, tmp_path):
    with ScriptedServer({"RCPT": ["250 ok", "550 5.1.1 no"]}, lmtp=True) as server:
        b = make(server, "recipient/callout=2s", transports=TRANSPORTS.replace("  allow_localhost", "  allow_localhost\n  protocol = lmtp\n  helo_data = me.example"))
        assert rcpt(b).startswith("250")
        assert rcpt(b, "v@far.example").startswith("550-Callout")
        assert commands(server)[0][0] == "LHLO me.example"


# ---- senders ----

def test_sender(make):
    with ScriptedServer({"RCPT": ["550 5.1.1 no such user"]}) as server:
        b = make(server, "sender/callout=2s")
        assert rcpt(b) == ("550-Verification failed for <s@from.example>\n550-Called:   127.0.0.1\n550-Sent:     RCPT TO:<s@from.example>\n"
                           "550-Response: 550 5.1.1 no such user\n550 Sender verify failed")
        b.wait_log(r"sender verify fail for <s@from.example>: 127.0.0.1 \[127.0.0.1\] : SMTP error from remote mail server after RCPT TO:")
        b.wait_log(r"F=<s@from.example> rejected RCPT <u@far.example>: Sender verify failed$")
        assert rcpt(b) == "550-Verification failed for <s@from.example>\n550-Previous (cached) callout verification failure\n550 Sender verify failed"
        assert rcpt(b, sender="").startswith("250"), "a report has no sender"
        assert len(server.sessions) == 1


def test_sender_details_are_told_once_a_message(make):
    with ScriptedServer({"RCPT": ["550 5.1.1 no such user"]}) as server:
        b = make(server, "sender/callout=2s")
        c = b.client()
        c.ask("EHLO client.example", 250)
        for _ in range(2):
            c.ask("MAIL FROM:<s@from.example>", 250)
            assert c.ask("RCPT TO:<u@far.example>").startswith("550-")
            assert re.fullmatch(r"550 (5\.7\.1 )?Sender verify failed", c.ask("RCPT TO:<v@far.example>"))
            c.ask("RSET", 250)
        c.close()


def test_sender_whose_server_refuses_bounces(make):
    with ScriptedServer({"MAIL": "550 no bounces"}) as server:
        b = make(server, "sender/callout=2s")
        got = rcpt(b)
        assert got.startswith("550-Callback setup failed while verifying <s@from.example>\n550-Called:   127.0.0.1\n550-Sent:     MAIL FROM:<>\n"
                              "550-Response: 550 no bounces\n550-The initial connection, or a HELO")
        assert got.endswith("550-refuse bounces.\n550 Sender verify failed")


def test_sender_without_details(make):
    with ScriptedServer({"MAIL": "550 no bounces"}) as server:
        b = make(server, "sender/callout=2s/no_details")
        assert rcpt(b) == "550 Sender verify failed"
        assert "sender verify fail for" not in b.log()
    with ScriptedServer({"RCPT": ["250 ok", "550 no"]}) as server:
        b = make(server, "sender/callout=2s,postmaster")
        assert rcpt(b).startswith("550-Postmaster verification failed while checking <s@from.example>\n550-Called:")


def test_sender_deferred(make):
    with ScriptedServer({"RCPT": "450 later"}) as server:
        b = make(server, "sender/callout=2s")
        assert rcpt(b) == "451 Could not complete sender verify callout"
        b.wait_log(r"sender verify defer for <s@from.example>: Could not complete sender verify callout: 127.0.0.1 \[127.0.0.1\] : ")


def header(b, fields):
    c = b.client()
    got = c.mail("s@from.example", "joe@local.example", fields.encode() + b"\r\n\r\nbody\r\n")
    c.close()
    return got


def test_header_sender(make):
    with ScriptedServer({"RCPT": ["550 no", "250 yes", "550 no", "450 later"]}) as server:
        b = make(server, rcpt="  accept", data="  require verify = header_sender/callout=2s,mailfrom=probe@here.example", main="smtp_return_error_details\n")
        assert header(b, "From: A <a@y.example>, b@z.example").startswith("250"), "one of them is good"
        assert [c[1:3] for c in commands(server)] == [["MAIL FROM:<probe@here.example>", "RCPT TO:<%s>" % a] for a in ("a@y.example", "b@z.example")]
        assert header(b, "From: c@y.example\r\nSender: x@nowhere.example").startswith("550")
        b.wait_log("rejected after DATA: there is no valid sender in any header line")
        assert header(b, "From: d@y.example").startswith("451")
        b.wait_log("temporarily rejected after DATA: all attempts to verify a sender in a header line deferred")
        assert header(b, "From: broken@@x").startswith("550")
        b.wait_log("rejected after DATA: syntax error in 'From:' header when scanning for sender: ")
        assert header(b, "Subject: x").startswith("550")


# ---- real servers ----

@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_real_server(make, name):
    peer = PEERS[name](None)
    try:
        if name == "exim":
            text = read(peer.path("/etc/exim4/exim4.conf")).replace("acl_smtp_rcpt = accept", "acl_smtp_rcpt = check").replace(
                "begin routers", "begin acl\ncheck:\n  require verify = recipient\n  accept\nbegin routers").replace(
                "domains = peer.example\n", "domains = peer.example\n  local_parts = box : postmaster\n").replace("out:\n", "out:\n  domains = !peer.example\n")
            peer.write("/etc/exim4/exim4.conf", text)
            os.kill(peer.proc.pid, signal.SIGHUP)
            wait_for(lambda: probe(peer.port, "none@peer.example").startswith("550"), why=peer.log)
        b = make(peer.port, "recipient/callout=20s,random")
        assert rcpt(b, "box@peer.example").startswith("250"), b.logs()
        got = rcpt(b, "nobody-here@peer.example")
        assert re.match(r"550-Callout verification failed:\n550 550 .*(nobody-here|Unrouteable)", got), got
        assert rcpt(b, "nobody-here@peer.example") == "550 Previous (cached) callout verification failure"
    finally:
        peer.close()


def probe(port, to):
    try:
        c = Client(port)
    except OSError:
        return ""
    try:
        c.ask("EHLO probe.example", 250)
        c.ask("MAIL FROM:<>", 250)
        return c.ask("RCPT TO:<%s>" % to)
    finally:
        c.close()


# ---- what may go wrong on our side ----

def test_smtp_out_dies_in_the_middle(make):
    with ScriptedServer({"RCPT": [Silent(), "250 ok"]}) as server:
        b = make(server, "recipient/callout=20s")
        got = []
        t = threading.Thread(target=lambda: got.append(rcpt(b)))
        t.start()
        server.wait(lambda: server.sessions and "RCPT TO:<u@far.example>" in server.sessions[0].commands)
        os.kill(b.daemons("smtp-out")[0]["pid"], signal.SIGKILL)
        t.join(15)
        assert got == ["451 Could not complete recipient verify callout"]
        b.wait_log("smtp-out did not answer")
        assert rcpt(b).startswith("250"), "the next one goes over a new channel"


def test_the_client_goes_away_in_the_middle(make):
    with ScriptedServer({"RCPT": [Late("250 ok", 1), "250 ok"]}) as server:
        b = make(server, "recipient/callout=20s")
        c = b.client()
        c.ask("EHLO client.example", 250)
        c.send("MAIL FROM:<s@from.example>\r\nRCPT TO:<u@far.example>\r\n")
        server.wait_sessions(1)
        c.close()
        server.wait_closed(1)
        assert rcpt(b, "v@far.example").startswith("250")


def test_after_a_reload(make):
    with ScriptedServer() as server:
        b = make(server, "recipient/callout=5s")
        assert rcpt(b).startswith("250")
        b.command("reload")
        assert rcpt(b, "v@far.example").startswith("250")
        assert rcpt(b).startswith("250")
        assert len(server.sessions) == 2, "the cache lives through it"


def test_silent_servers_starve_nobody(make, sink):
    """As many callouts as the router allows hang; further ones are put off, mail is still routed and delivered."""
    with ScriptedServer({"RCPT": Silent()}) as server:
        routers = ROUTERS.replace("out:\n", "flows:\n  driver = manualroute\n  domains = flows.example\n  route_list = * 127.0.0.1::%d\n  transport = smtp\n  self = send\nout:\n"
                                  % sink.port)
        b = make(server, rcpt="  accept domains = flows.example\n  require verify = recipient/callout=25s", routers=routers,
                 main="router_workers_max = 6\nrouter_workers_min = 1\npolicyd_workers_max = 30\n")
        clients = [b.client() for _ in range(8)]
        for i, c in enumerate(clients):
            c.ask("EHLO client.example", 250)
            c.ask("MAIL FROM:<s@from.example>", 250)
            c.send("RCPT TO:<u%d@far.example>\r\n" % i)
        server.wait_sessions(3)
        wait_for(lambda: b.log().count("too many callouts at once") == 5, why=b.logs)
        assert len(server.sessions) == 3
        for i in range(20):
            b.send("s@from.example", "x%d@flows.example" % i)
        sink.wait(20)
        for c in clients:
            c.close()


def test_a_callout_outlives_the_stuck_limit(make):
    with ScriptedServer({"RCPT": Late("250 ok", 4)}) as server:
        b = make(server, "recipient/callout=20s", main="worker_stuck_after = 1s\n")
        assert rcpt(b).startswith("250")
        assert "stuck" not in b.log() and len(server.sessions) == 1
