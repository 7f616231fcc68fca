# SPDX-License-Identifier: ISC
"""TLS with more of other people's programs: OpenSMTPD both ways, `openssl s_server` as the server."""
import os
import re
import shutil
import subprocess
import threading

import pytest

from bulkhead import Client, free_port, wait_for
from peers import Opensmtpd
from test_resumption import client as keeper
from test_tls import Place as ServerPlace, main as tls_main
from test_tls_out import client, place, send


@pytest.fixture
def server_place():
    p = ServerPlace()
    yield p
    shutil.rmtree(p.dir, ignore_errors=True)


class TlsOpensmtpd(Opensmtpd):
    def __init__(self, relay_to, pem, key, ca):
        self.files = ((pem, "server.pem", 0o644), (key, "server.key", 0o600), (ca, "ca.pem", 0o644))
        super().__init__(relay_to)

    def configure(self):
        super().configure()
        for src, name, mode in self.files:
            shutil.copy(src, self.path("/etc/" + name))
            os.chown(self.path("/etc/" + name), 0, 0)
            os.chmod(self.path("/etc/" + name), mode)
        conf = open(self.path("/etc/smtpd.conf")).read()
        conf = conf.replace("port %d\n" % self.port, "port %d tls pki own\n" % self.port if not self.relay_to else "port %d\n" % self.port)
        conf = conf.replace("host smtp://", "host smtp+tls://")
        self.write("/etc/smtpd.conf", "pki own cert \"/etc/server.pem\"\npki own key \"/etc/server.key\"\nca trust cert \"/etc/ca.pem\"\n" +
                   conf.replace("action \"out\" relay ", "action \"out\" relay tls ca trust "))


def test_opensmtpd_as_the_server(bulkhead, place):
    """Debian 12's offers STARTTLS, and fails in each handshake (its keys in another process and OpenSSL 3 do not go together): then mail goes
    in clear, on another connection, and the log says why."""
    pem, key = place.leaf("rsa", kind="rsa")
    peer = TlsOpensmtpd(None, pem, key, place.ca.pem)
    try:
        b = client(bulkhead, place, peer, "tls_verify_certificates = %s" % place.ca.pem, trust=False)
        send(b, "to opensmtpd")
        peer.wait_mailbox(b"to opensmtpd")
        b.wait_log(r"=> box@peer.example ")
        if " X=TLS" not in b.log():
            b.wait_log(r"TLS session failure: delivering unencrypted to 127.0.0.1 \[127.0.0.1\] .*SSL_connect: ")
    finally:
        peer.close()


def test_opensmtpd_as_the_client(bulkhead, server_place):
    """It verifies our certificate."""
    pem, key = server_place.leaf(names=("DNS:mx.test.example", "IP:127.0.0.1", "DNS:localhost"))
    b = bulkhead(main=tls_main(server_place))
    peer = TlsOpensmtpd(b.port, pem, key, server_place.ca.pem)
    try:
        c = Client(peer.port)
        assert c.mail("o@b.example", "joe@local.example", b"Subject: by opensmtpd\r\n\r\nx\r\n").startswith("250")
        c.ask("QUIT", 221)
        b.wait_log(r"<= o@b.example .* P=esmtps X=TLS1.[23]:")
    finally:
        peer.close()


class SServer:
    """`openssl s_server`, through whose standard input and output a server's side of SMTP is said, one connection after the other."""
    def __init__(self, pem, key, *argv):
        self.port, self.subjects, self.reused = free_port(), [], 0
        self.p = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:%d" % self.port, "-cert", pem, "-key", key, *argv],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self.talk, daemon=True).start()

    def say(self, text):
        self.p.stdin.write(text.encode() + b"\r\n")
        self.p.stdin.flush()

    def talk(self):
        answers = {b"EHLO": "250 s_server", b"DATA": "354 go on", b"MAIL": "250 ok", b"RCPT": "250 ok", b"QUIT": "221 bye"}
        for line in self.p.stdout:
            if line.startswith(b"Secure Renegotiation IS"):   # the last that it says of a new connection
                self.say("220 s_server")
            elif line.startswith(b"Reused session-id"):
                self.reused += 1
            elif line.startswith(b"Subject: "):
                self.subjects.append(line[9:].strip().decode())
            elif line == b".\r\n":
                self.say("250 kept")
            elif line[:4].upper() in answers:
                self.say(answers[line[:4].upper()])

    def close(self):
        self.p.kill()
        self.p.wait(10)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_s_server(bulkhead, place, version):
    """TLS on connect: a whole handshake, then one that is resumed."""
    pem, key = place.leaf()
    server = SServer(pem, key, version)
    try:
        b = keeper(bulkhead, place, server, "protocol = smtps\n  tls_verify_hosts = *\n  tls_resumption_hosts = *\n  connection_max_messages = 1")
        for i, star in enumerate(("", r"\*")):
            send(b, "message %d" % i)
            wait_for(lambda: len(server.subjects) > i, 30, why=b.logs)
            wait_for(lambda: len(re.findall("Completed", b.log())) > i, 30, why=b.logs)
        lines = re.findall(r"=> box@peer.example .* X=TLS1.%s:[^ :]+:\d+(\*?) CV=yes" % version[-1], b.log())
        assert lines == ["", "*"] and server.subjects == ["message 0", "message 1"] and server.reused == 1, b.log()
    finally:
        server.close()
