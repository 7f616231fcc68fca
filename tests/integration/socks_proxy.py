# SPDX-License-Identifier: ISC
"""SOCKS5 proxies on loopback: Debian's dante-server and microsocks, and one that does what it is told."""
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from bulkhead import free_port, read, wait_for


def listens(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


class Process:
    def begin(self, *argv):
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True)
        wait_for(lambda: listens(self.port), 20, why=lambda: "%s does not listen: %s" % (argv, self.log()))

    def log(self):
        return read(self.path + "/log") + read(self.path + "/output")

    def make(self, path):
        os.makedirs(path, exist_ok=True)
        self.path, self.port = str(path), free_port()
        self.output = open(self.path + "/output", "wb")

    def close(self):
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.proc.wait(10)
        self.output.close()


class Dante(Process):
    """With `login` (name, password) it wants one: a user of this machine, who exists for it alone."""

    def __init__(self, path, login=None):
        if not shutil.which("danted") or os.geteuid() != 0:
            pytest.skip("needs dante-server, and root")
        self.make(path)
        with open(self.path + "/conf", "w") as f:
            f.write("""logoutput: %s/log
internal: 127.0.0.1 port = %d
internal: ::1 port = %d
external: 127.0.0.1
external: ::1
clientmethod: none
socksmethod: %s
user.privileged: root
user.unprivileged: nobody
client pass {
  from: 0/0 to: 0/0
}
socks pass {
  from: 0/0 to: 0/0
  command: connect
}
""" % (self.path, self.port, self.port, "username" if login else "none"))
        if not login:
            self.begin("danted", "-f", self.path + "/conf")
            return
        crypted = subprocess.run(["openssl", "passwd", "-6", login[1]], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        with open(self.path + "/passwd", "w") as f:
            f.write(read("/etc/passwd") + "%s:x:64999:64999::/nonexistent:/usr/sbin/nologin\n" % login[0])
        with open(self.path + "/shadow", "w") as f:
            f.write("root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n%s:%s:19000:0:99999:7:::\n" % (login[0], crypted))
        # Only this process and its children see these files in place of the machine's.
        self.begin("unshare", "-m", "sh", "-c", 'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/shadow" /etc/shadow && exec danted -f "$1/conf"',
                   "sh", self.path)


class Microsocks(Process):
    def __init__(self, path, login=None):
        if not shutil.which("microsocks"):
            pytest.skip("needs microsocks")
        self.make(path)
        self.begin("microsocks", "-i", "127.0.0.1", "-p", str(self.port), *(("-u", login[0], "-P", login[1]) if login else ()))


GREETED = b"\x05\x00"
THROUGH = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"


class Scripted:
    """Answers the greeting and the request with the octets given (None: is silent, "": closes) and then joins the connection to the target
    asked for, whose first words go along with the last answer (`glued`)."""

    def __init__(self, method=GREETED, reply=THROUGH, glued=False, host="127.0.0.1", login=b"\x01\x00"):
        self.method, self.answer, self.glued, self.login = method, reply, glued, login
        self.asked, self.peers, self.sockets = [], [], []
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.bind((host, 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, peer = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            self.sockets.append(s)
            threading.Thread(target=self.session, args=(s,), daemon=True).start()

    def say(self, s, octets):
        """False: it is over."""
        if octets is None:
            s.recv(1)               # until the other side has enough
            return False
        if octets:
            s.sendall(octets)
        return bool(octets)

    def session(self, s):
        try:
            s.settimeout(60)
            f = s.makefile("rb", buffering=0)
            head = f.read(2)
            if not head:
                return
            f.read(head[1])
            if not self.say(s, self.method):
                return
            if self.method == b"\x05\x02":
                user = f.read(f.read(2)[1])
                self.asked.append(("login", user, f.read(f.read(1)[0])))
                if not self.say(s, self.login):
                    return
            request = f.read(4)
            if len(request) < 4:
                return
            family = socket.AF_INET if request[3] == 1 else socket.AF_INET6
            target = socket.inet_ntop(family, f.read(4 if request[3] == 1 else 16)), int.from_bytes(f.read(2), "big")
            self.asked.append(target)
            if not self.answer or self.answer[1]:
                self.say(s, self.answer)
                return
            t = socket.create_connection(target, 10)
            if self.glued:
                s.sendall(self.answer + t.recv(4096))
            else:
                for i in range(len(self.answer)):   # octet by octet
                    s.sendall(self.answer[i:i + 1])
            threading.Thread(target=self.carry, args=(t, s), daemon=True).start()
            self.carry(s, t)
        except OSError:
            pass
        finally:
            s.close()

    def carry(self, a, b):
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
        self.listener.close()
        for s in self.sockets:
            s.close()
