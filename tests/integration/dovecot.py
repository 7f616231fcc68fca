# SPDX-License-Identifier: ISC
"""A Dovecot of its own: the auth service alone, by Unix socket and TCP, in a temporary directory. Its auth process does not speak TLS
itself, whatever inet_listener says of ssl: a small terminator stands before it, as stunnel or HAProxy would."""
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

import pytest

from bulkhead import free_port, read, wait_for

CONF = """
base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/dovecot.log
auth_verbose = yes
protocols =
ssl = no
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
disable_plaintext_auth = no
auth_failure_delay = 0
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {{
  driver = passwd-file
  args = {d}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener {d}/sock/auth-client {{
    mode = 0666
  }}
  unix_listener {d}/sock/auth-master {{
    mode = 0666
  }}
  inet_listener plain {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class Dovecot:
    def __init__(self, users):
        if os.geteuid() != 0 or not shutil.which("dovecot"):
            pytest.skip("needs Dovecot, and root for it")
        self.d = tempfile.mkdtemp(prefix="bulkhead-dovecot-")
        self.port = free_port()
        for name in ("run", "state", "sock"):
            os.makedirs(os.path.join(self.d, name), exist_ok=True)
        for d in (self.d, os.path.join(self.d, "sock")):
            os.chmod(d, 0o755)
        self.certificate("cert")
        with open(os.path.join(self.d, "users"), "w") as f:
            f.writelines("%s:{PLAIN}%s\n" % u for u in users.items())
        with open(os.path.join(self.d, "dovecot.conf"), "w") as f:
            f.write(CONF.format(d=self.d, port=self.port))
        self.process = None
        self.start()
        self.tls = Terminator(os.path.join(self.d, "cert.pem"), os.path.join(self.d, "key.pem"), self.port)
        self.tls_port = self.tls.port

    def certificate(self, name):
        """Self-signed, for 127.0.0.1 and localhost; its own trust anchor."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", os.path.join(self.d, name.replace("cert", "key") + ".pem"),
                        "-out", os.path.join(self.d, name + ".pem")], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.chmod(os.path.join(self.d, name + ".pem"), 0o644)

    @property
    def socket(self):
        return os.path.join(self.d, "sock", "auth-client")

    def start(self):
        self.process = subprocess.Popen(["dovecot", "-F", "-c", os.path.join(self.d, "dovecot.conf")], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: os.path.exists(self.socket), why=self.log)

    def stop(self):
        if self.process:
            # Its auth process would serve those that are connected for as long as they are.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
        self.process = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def destroy(self):
        self.tls.close()
        self.stop()
        shutil.rmtree(self.d, ignore_errors=True)

    def log(self):
        return read(os.path.join(self.d, "dovecot.log"))


class Terminator:
    """Takes TLS off connections and passes them on to a port of this machine."""

    def __init__(self, cert, key, to):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.to, self.sessions = to, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(c,), daemon=True).start()

    def _session(self, c):
        try:
            with self.context.wrap_socket(c, server_side=True) as client, socket.create_connection(("127.0.0.1", self.to)) as server:
                self.sessions += 1
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
                self._pump(client, server)
        except OSError:
            c.close()

    @staticmethod
    def _pump(a, b):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.server.close()
