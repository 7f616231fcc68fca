# SPDX-License-Identifier: ISC
"""Debian's Postfix, Exim and OpenSMTPD as separate processes, each in its own root (tests/peers/setup.sh), on loopback.
Each accepts mail for peer.example into its own mailbox or relays everything to `relay_to`."""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from bulkhead import TOP, free_port, read, wait_for

ROOTS = os.environ.get("BULKHEAD_PEERS", "/var/tmp/bulkhead-peers")


class Peer:
    def __init__(self, relay_to):
        if os.geteuid() != 0:
            pytest.skip("the peers' roots need chroot, thus root")
        self.template = os.path.join(ROOTS, self.name)
        if not os.path.exists(os.path.join(self.template, ".complete")):
            subprocess.run([os.path.join(TOP, "tests/peers/setup.sh"), self.name], check=True, timeout=600)
        self.root = self.template
        self.port = free_port()
        self.relay_to = relay_to
        self.clean()
        self.configure()
        self.proc = subprocess.Popen(["chroot", self.root, *self.command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for(self.listens, 30, why=lambda: "%s does not listen; %s" % (self.name, self.log()))

    def listens(self):
        import socket
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def path(self, p):
        return os.path.join(self.root, p.lstrip("/"))

    def write(self, p, text, mode=0o644):
        with open(self.path(p), "w") as f:
            f.write(text)
        os.chmod(self.path(p), mode)

    def common(self):
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.write("/etc/hosts", "127.0.0.1 localhost peer.example\n::1 localhost\n")
        self.write("/etc/mailname", "peer.example\n")
        for p in ("/var/mail/box", "/var/mail/box.lock", "/var/spool/mail/box"):  # a lock of one that was killed in the middle
            try:
                os.unlink(self.path(p))
            except OSError:
                pass
        subprocess.run(["chroot", self.root, "sh", "-c", "id box >/dev/null 2>&1 || useradd -m -u 3456 box"], check=True)

    def pids(self):
        found = []
        for d in os.listdir("/proc"):
            if d.isdigit():
                try:
                    r = os.readlink("/proc/%s/root" % d)
                except OSError:
                    continue
                if r == self.root or r.startswith(self.root + "/"):
                    found.append(int(d))
        return found

    def clean(self):
        def none_left():
            left = self.pids()
            for p in left:      # one that is killed may have forked just before
                try:
                    os.kill(p, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not left
        wait_for(none_left, 10)
        for d in self.queues:
            for base, _, names in os.walk(self.path(d)):
                for n in names:
                    try:
                        os.unlink(os.path.join(base, n))
                    except OSError:
                        pass

    def log(self):
        return "".join(read(self.path(p))[-3000:] for p in self.logs)

    def mailbox(self):
        return open(self.path("/var/mail/box"), "rb").read() if os.path.exists(self.path("/var/mail/box")) else b""

    def wait_mailbox(self, text, limit=30):
        return wait_for(lambda: text in self.mailbox() and self.mailbox(), limit, why=lambda: "%s\n%r" % (self.log(), self.mailbox()[-500:]))

    def close(self):
        self.clean()
        self.proc.wait(10)


class Postfix(Peer):
    name, queues = "postfix", ["/var/spool/postfix/" + d for d in ("incoming", "active", "deferred", "maildrop", "hold")]
    command, logs = ("postfix", "start-fg"), ("/var/log/postfix.log",)

    def configure(self):
        self.common()
        self.write("/etc/postfix/main.cf", """compatibility_level = 3.6
myhostname = peer.example
mydestination = peer.example
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = /var/log/postfix.log
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
alias_maps =
alias_database =
message_size_limit = 100000000
mailbox_size_limit = 0
smtpd_recipient_limit = 2000
smtpd_recipient_overshoot_limit = 2000
smtpd_relay_restrictions = permit_mynetworks, reject
%s
""" % ("relayhost = [127.0.0.1]:%d" % self.relay_to if self.relay_to else ""))
        master = read(self.path("/etc/postfix/master.cf.orig"))
        if not master:
            master = read(self.path("/usr/share/postfix/master.cf.dist"))
            self.write("/etc/postfix/master.cf.orig", master)
        master = re.sub(r"(?m)^smtp\s+inet .*$", "127.0.0.1:%d inet n - n - - smtpd" % self.port, master)
        master = re.sub(r"(?m)^(\S+\s+(?:unix|unix-dgram|fifo|inet)\s+\S+\s+\S+\s+)y", r"\1n", master)
        if not re.search(r"(?m)^postlog", master):
            master += "postlog unix-dgram n - n - 1 postlogd\n"
        self.write("/etc/postfix/master.cf", master)
        subprocess.run(["chroot", self.root, "install", "-o", "postfix", "-m", "644", "/dev/null", "/var/log/postfix.log"], check=True)


class TlsPostfix(Postfix):
    """As a server that demands TLS, with this certificate."""
    def __init__(self, pem, key):
        self.pem, self.key = pem, key
        super().__init__(None)

    def configure(self):
        super().configure()
        for src, dst in ((self.pem, "server.pem"), (self.key, "server.key")):
            shutil.copy(src, self.path("/etc/postfix/" + dst))
        with open(self.path("/etc/postfix/main.cf"), "a") as f:
            f.write("smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = /etc/postfix/server.pem\nsmtpd_tls_key_file = /etc/postfix/server.key\n"
                    "smtpd_tls_loglevel = 2\n")


class Exim(Peer):
    name, queues = "exim", ("/var/spool/exim4/input", "/var/spool/exim4/msglog", "/var/spool/exim4/db")
    command, logs = ("exim4", "-bdf", "-q1m"), ("/var/log/exim4/mainlog", "/var/log/exim4/paniclog")

    def configure(self):
        self.common()
        shutil.rmtree(self.path("/run/exim4"), ignore_errors=True)
        subprocess.run(["chroot", self.root, "install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", "/run/exim4", "/var/log/exim4"],
                       check=True)
        for p in self.logs:
            try:
                os.truncate(self.path(p), 0)
            except OSError:
                pass
        self.write("/etc/exim4/exim4.conf", """primary_hostname = peer.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = %d
keep_environment =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = accept
acl_smtp_data = accept
message_size_limit = 100M
recipients_max = 2000
tls_advertise_hosts =
begin routers
box:
  driver = accept
  domains = peer.example
  transport = box
out:
  driver = manualroute
  route_list = * 127.0.0.1
  transport = smtp
  self = send
begin transports
box:
  driver = appendfile
  file = /var/mail/box
  user = box
  group = mail
  mode_fail_narrower = false
smtp:
  driver = smtp
  port = %d
  allow_localhost
  hosts_avoid_tls = *
begin retry
* * F,1h,2s
""" % (self.port, self.relay_to or 9))


class Opensmtpd(Peer):
    name, queues = "opensmtpd", ["/var/spool/smtpd/" + d for d in ("queue", "incoming", "temporary", "purge")]
    command, logs = ("smtpd", "-d"), ()

    def configure(self):
        self.common()
        shutil.rmtree(self.path("/var/spool/smtpd/queue"), ignore_errors=True)
        self.write("/etc/smtpd.conf", """listen on 127.0.0.1 port %d
smtp max-message-size 100M
action "box" mbox
action "out" relay host smtp://127.0.0.1:%d
match from any for domain "peer.example" action "box"
match from any for any action "out"
""" % (self.port, self.relay_to or 9))


PEERS = {"postfix": Postfix, "exim": Exim, "opensmtpd": Opensmtpd}
