# SPDX-License-Identifier: ISC
"""TLS as the client: what is offered, demanded, verified and logged, against real servers and against one that misbehaves."""
import os
import re
import shutil
import ssl
import tempfile

import pytest

from bulkhead import UID_BASE, wait_for
from certs import Authority
from peers import Exim, Postfix
from scripted_server import Close, Late, Raw, Reset, ScriptedServer, Silent

KEYD = UID_BASE + 6
RETRY = "* * F,2h,1m"
TRANSPORTS = """
smtp:
  driver = smtp
  allow_localhost
  %s
maildir:
  driver = appendfile
  directory = {dir}/mail/$local_part_data
  maildir_format
  create_directory
  user = {mail_uid}
  group = {mail_uid}
"""


class Place:
    """Certificates of servers and of ours, in a directory beside the instance's own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-tlsout-")
        os.chmod(self.dir, 0o755)
        self.ca = Authority(os.path.join(self.dir, "ca"))
        self.other = Authority(os.path.join(self.dir, "other"), "Other CA")

    def leaf(self, name="server", cn="server.example", **kw):
        kw.setdefault("names", ["DNS:" + cn, "IP:127.0.0.1"])
        return kw.pop("ca", self.ca).leaf(name, cn, **kw)

    def context(self, **kw):
        """A server's."""
        ask, version = kw.pop("ask", None), kw.pop("version", None)
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(*self.leaf(**kw))
        if version:
            ctx.minimum_version = ctx.maximum_version = version
        if ask:
            ctx.verify_mode = ask
            ctx.load_verify_locations(self.ca.pem)
        return ctx


@pytest.fixture
def place():
    p = Place()
    yield p
    shutil.rmtree(p.dir, ignore_errors=True)


def client(bulkhead, place, server, *options, main="", **kw):
    """An instance whose mail goes to this server."""
    main = "tls_directories = %s\nlog_selector = +tls_peerdn +tls_sni +outgoing_port\n%s" % (place.dir, main)
    options = ("tls_verify_certificates = %s" % place.ca.pem,) + options
    kw.setdefault("retry", RETRY)
    return bulkhead(sink=getattr(server, "port", server), main=main, transports=TRANSPORTS % "\n  ".join(options), **kw)


def send(b, subject="x", to="box@peer.example"):
    b.send("a@b.example", to, b"Subject: %s\r\n\r\nx\r\n" % subject.encode())


# ---- real servers ----

@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_scripted(bulkhead, place, version):
    ctx = place.context(version=getattr(ssl.TLSVersion, version))
    with ScriptedServer(tls=ctx) as server:
        b = client(bulkhead, place, server)
        send(b)
        server.wait_messages(1)
        b.wait_log(r"=> box@peer.example R=sink T=smtp H=127.0.0.1 \[127.0.0.1\]:\d+ X=TLS1.%s:\S+:256 CV=yes DN=\"CN=server.example\"" % version[-1])
        wait_for(lambda: "QUIT" in server.sessions[0].commands)
        assert [c.split()[0] for c in server.sessions[0].commands] == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
        assert server.sessions[0].tls
