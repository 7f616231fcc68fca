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


def rcpt(b, to="u@far.example", sender="s@from.example", client=None):
    c = client or b.client()
    if not client:
        c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<%s>" % sender, 250)
    got = c.ask("RCPT TO:<%s>" % to)
    c.ask("RSET", 250)
    if not client:
        c.close()
    return got


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
