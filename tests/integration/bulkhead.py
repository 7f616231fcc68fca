# SPDX-License-Identifier: ISC
"""What the scenarios stand on: a private Bulkhead instance, a plain SMTP sink that keeps every octet, a raw SMTP client,
and waiting for events instead of for time."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("BULKHEAD_BUILD", os.path.join(TOP, "build"))
BIN = os.path.join(BUILD, "bin", "bulkhead")
SENDMAIL = os.path.join(BUILD, "bin", "sendmail")
# Scenarios that run at the same time (pytest -n) have users of their own.
UID_BASE = 62000 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
USERS = ("x", "joe", "ann", "bob", "postmaster")
# Daemons with sanitizers (BULKHEAD_BUILD=build-san): their run time makes system calls of its own, so the filter is off; what it
# says goes to the panic log. The leak checker finds no /proc in the daemons' roots.
SANITIZED = "build-san" in os.path.basename(os.path.normpath(BUILD))
SANITIZER_REPORT = re.compile(r"ERROR: (?:Address|Leak|Undefined\w*)Sanitizer|: runtime error: |AddressSanitizer CHECK failed")
sanitizer_reports = []   # of instances that are gone; conftest makes them failures
if SANITIZED:
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0:handle_abort=1:detect_stack_use_after_return=1:strict_string_checks=1")
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")


def wait_for(what, limit=20.0, step=0.02, why=""):
    """Returns what() once it is true; fails after `limit` seconds."""
    end = time.monotonic() + limit
    while True:
        got = what()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("did not happen within %s s: %s" % (limit, why() if callable(why) else why or what))
        time.sleep(step)


def free_port(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family) as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def read(path, default=""):
    try:
        with open(path, errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return default


class Sink:
    """An SMTP (or LMTP) server that accepts everything and keeps (sender, recipients, octets of the content as sent, un-stuffed)."""

    def __init__(self, port=0, extensions=("PIPELINING", "8BITMIME", "SIZE 0"), lmtp=False, path=None, on_rcpt=None, on_data=None,
                 keep_content=True):
        self.extensions, self.lmtp, self.on_rcpt, self.on_data = extensions, lmtp, on_rcpt, on_data
        self.keep_content = keep_content
        self.messages, self.sessions, self.lock = [], 0, threading.Lock()
        if path:
            self.server = socket.socket(socket.AF_UNIX)
            self.server.bind(path)
            os.chmod(path, 0o666)
        else:
            self.server = socket.socket()
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.server.bind(("127.0.0.1", port))
            self.port = self.server.getsockname()[1]
        self.server.listen(1024)
        self.open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.open:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self._session, args=(c,), daemon=True).start()

    def _session(self, c):
        try:
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass
        f = c.makefile("rb")

        def say(text):
            c.sendall(text.encode() + b"\r\n")
        try:
            say("220 sink.example ESMTP")
            sender, rcpts = None, []
            while True:
                line = f.readline()
                if not line:
                    return
                assert line.endswith(b"\r\n"), line
                verb = line[:4].upper()
                if verb in (b"EHLO", b"LHLO"):
                    for e in self.extensions[:-1] if self.extensions else ():
                        say("250-" + e)
                    say("250 " + (self.extensions[-1] if self.extensions else "sink"))
                elif verb == b"MAIL":
                    sender, rcpts = line.decode("latin-1").strip(), []
                    say("250 2.1.0 ok")
                elif verb == b"RCPT":
                    reply = self.on_rcpt(line.decode("latin-1").strip()) if self.on_rcpt else None
                    if not reply:
                        rcpts.append(line.decode("latin-1").strip())
                    say(reply or "250 2.1.5 ok")
                elif verb == b"DATA":
                    if not rcpts:
                        say("503 no recipients")
                        continue
                    say("354 go on")
                    data = []
                    while True:
                        line = f.readline()
                        if not line:
                            return
                        if line == b".\r\n":
                            break
                        data.append(line[1:] if line.startswith(b".") else line)
                    content = b"".join(data)
                    reply = self.on_data(content) if self.on_data else None
                    if not reply:
                        with self.lock:
                            self.messages.append((re.search("<(.*?)>", sender).group(1),
                                                  [re.search("<(.*?)>", r).group(1) for r in rcpts],
                                                  content if self.keep_content else content[:4096]))
                    for _ in rcpts if self.lmtp else (1,):
                        say(reply or "250 2.0.0 kept")
                    rcpts = []
                elif verb == b"RSET":
                    rcpts = []
                    say("250 2.0.0 ok")
                elif verb == b"QUIT":
                    say("221 2.0.0 bye")
                    return
                elif verb == b"NOOP":
                    say("250 2.0.0 ok")
                else:
                    say("500 5.5.1 what?")
        except OSError:
            pass
        finally:
            f.close()
            c.close()

    def wait(self, n, limit=30.0):
        wait_for(lambda: len(self.messages) >= n, limit, why=lambda: "%d of %d messages came" % (len(self.messages), n))
        return self.messages

    def close(self):
        self.open = False
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.server.close()


class Client:
    """A raw SMTP client: says exactly what it is told."""

    def __init__(self, port, address="127.0.0.1", greet=True, timeout=30, source=None):
        self.sock = socket.create_connection((address, port), timeout, source_address=source)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.sock.makefile("rb")
        if greet:
            self.greeting = self.reply()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        """One reply, all its lines joined by LF; '' at the end of the connection."""
        lines = []
        while True:
            line = self.f.readline()
            if not line:
                return "\n".join(lines)
            assert line.endswith(b"\r\n"), line
            lines.append(line[:-2].decode("latin-1"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def ask(self, line, want=None):
        self.send(line.encode("latin-1") + b"\r\n" if isinstance(line, str) else line + b"\r\n")
        got = self.reply()
        if want:
            assert got.startswith(str(want)), "%r: got %r, want %s" % (line, got, want)
        return got

    def mail(self, sender, rcpts, content, helo="client.example", params=""):
        """A whole transaction; content has CRLF ends and is dot-stuffed here. Returns the last reply."""
        if helo:
            self.ask("EHLO " + helo, 250)
        self.ask("MAIL FROM:<%s>%s" % (sender, params), 250)
        for r in [rcpts] if isinstance(rcpts, str) else rcpts:
            self.ask("RCPT TO:<%s>" % r, 250)
        self.ask("DATA", 354)
        return self.data(content)

    def data(self, content):
        body = re.sub(rb"(?m)^\.", b"..", content) if isinstance(content, bytes) else re.sub(rb"(?m)^\.", b"..", content.encode())
        if not body.endswith(b"\r\n"):
            body += b"\r\n"
        self.send(body + b".\r\n")
        return self.reply()

    def at_end(self):
        """True when the other side has closed."""
        try:
            return self.f.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.f.close()
        self.sock.close()


class Instance:
    """A private Bulkhead: its own directory, ports and log. The text given replaces the parts of the plain configuration:
    main (added lines), acl, routers, transports, retry."""

    MAIN = """
primary_hostname = {name}
spool_directory = {dir}/spool
run_directory = {dir}/run
hints_directory = {dir}/hints
log_file_path = {dir}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
lookup_directories = {dir}
store_directories = {dir}
{identity}
domainlist local_domains = local.example
hostlist relay_from_hosts = 127.0.0.1
acl_smtp_rcpt = acl_check_rcpt
never_users = root
{main}
"""
    ACL = """
acl_check_rcpt:
  accept hosts = : +relay_from_hosts
  accept domains = +local_domains
  deny message = relay not permitted
"""
    ROUTERS = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
sink:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""
    TRANSPORTS = """
smtp:
  driver = smtp
  allow_localhost
maildir:
  driver = appendfile
  directory = {dir}/mail/$local_part_data
  maildir_format
  create_directory
  user = {mail_uid}
  group = {mail_uid}
"""
    RETRY = "* * F,2h,1s; F,4d,1m"

    def __init__(self, name="mx.test.example", main="", acl=None, routers=None, transports=None, retry=None, sink=9, config=None,
                 directory=None, privileged=None, port=None, users=(), **subst):
        self.dir = directory or tempfile.mkdtemp(prefix="bulkhead-test-")
        os.chmod(self.dir, 0o755)
        self.port = port or free_port()
        self.privileged = os.geteuid() == 0 if privileged is None else privileged
        self.mail_uid = UID_BASE + 50 if self.privileged else os.geteuid()
        self.conf = os.path.join(self.dir, "bulkhead.conf")
        values = dict(dir=self.dir, port=self.port, sink=sink.port if isinstance(sink, Sink) else sink, name=name, mail_uid=self.mail_uid,
                      identity="daemon_uid_base = %d" % UID_BASE if self.privileged else "", **subst)

        def fill(text):
            return re.sub(r"\{(\w+)\}", lambda m: str(values[m.group(1)]) if m.group(1) in values else m.group(0), text)
        values["main"] = fill(main)
        text = config and fill(config) or "%s\nbegin acl\n%s\nbegin routers\n%s\nbegin transports\n%s\nbegin retry\n%s\n" % tuple(
            fill(t) for t in (self.MAIN, acl if acl is not None else self.ACL, routers if routers is not None else self.ROUTERS,
                              transports if transports is not None else self.TRANSPORTS, retry if retry is not None else self.RETRY))
        if SANITIZED:
            text = "seccomp = off\n" + text
        with open(self.conf, "w") as f:
            f.write(text)
        # Who may have a maildir: what strangers say may not name a directory, what this file says may.
        with open(os.path.join(self.dir, "users"), "w") as f:
            f.writelines("%s: %s\n" % (u, u) for u in [*USERS, *users])
        for d in ("log", "mail", "run"):
            os.makedirs(os.path.join(self.dir, d), exist_ok=True)
        if self.privileged:
            os.chown(os.path.join(self.dir, "mail"), self.mail_uid, self.mail_uid)

    def command(self, *argv, check=True, input=None, timeout=120):
        p = subprocess.run([BIN, "-C", self.conf, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=input, timeout=timeout)
        out, err = p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")
        if check:
            assert p.returncode == 0, "%s: exit %d\n%s%s\n%s" % (argv, p.returncode, out, err, self.logs())
            return out
        return p.returncode, out, err

    def start(self):
        self.command("start")
        return self

    def stop(self):
        self.command("stop", check=False)
        wait_for(lambda: not self.pids(), 30, why=lambda: "still running: %s" % self.pids())

    def status(self):
        return json.loads(self.command("status", "--json"))

    def daemons(self, name=None):
        return [d for d in self.status()["daemons"] if name is None or d["name"].split("/")[0] == name]

    def pids(self):
        """Every process of this instance: those whose command line or parentage names our directory."""
        found = []
        for p in os.listdir("/proc"):
            if p.isdigit():
                line = read("/proc/%s/cmdline" % p).split("\0")
                if self.conf in line and line and os.path.basename(line[0]) == "master":
                    found.append(int(p))
        more = True
        while more:
            more = False
            for p in os.listdir("/proc"):
                if p.isdigit() and int(p) not in found:
                    m = re.search(r"^PPid:\s*(\d+)", read("/proc/%s/status" % p), re.M)
                    if m and int(m.group(1)) in found:
                        found.append(int(p))
                        more = True
        return found

    def kill_all(self, sig=signal.SIGKILL):
        for p in self.pids():
            try:
                os.kill(p, sig)
            except ProcessLookupError:
                pass

    def log(self, which="main"):
        return read(os.path.join(self.dir, "log", which + "log"))

    def logs(self):
        return "".join("--- %s\n%s" % (w, self.log(w)[-6000:]) for w in ("main", "reject", "panic"))

    def wait_log(self, pattern, limit=20.0, which="main"):
        return wait_for(lambda: re.search(pattern, self.log(which), re.M), limit, why=lambda: "%r in\n%s" % (pattern, self.logs()))

    def client(self, **kw):
        return Client(self.port, **kw)

    def send(self, sender, rcpts, content=b"Subject: test\r\n\r\nbody\r\n", **kw):
        c = self.client()
        try:
            got = c.mail(sender, rcpts, content, **kw)
            assert got.startswith("250"), got
            return re.search(r"id=(\S+)", got).group(1)
        finally:
            c.close()

    def queue(self, *selectors):
        return json.loads(self.command("queue", "list", "--json", *selectors))["messages"]

    def wait_empty(self, limit=60.0):
        wait_for(lambda: not self.queue(), limit, 0.1, why=lambda: "the queue still has %s\n%s" % (self.queue()[:3], self.logs()))

    def maildir(self, user):
        new = os.path.join(self.dir, "mail", user, "new")
        try:
            return [open(os.path.join(new, n), "rb").read() for n in sorted(os.listdir(new))]
        except FileNotFoundError:
            return []

    def wait_maildir(self, user, n=1, limit=20.0):
        return wait_for(lambda: len(self.maildir(user)) >= n and self.maildir(user), limit,
                        why=lambda: "%d of %d messages for %s\n%s" % (len(self.maildir(user)), n, user, self.logs()))

    def destroy(self):
        try:
            self.stop()
        except AssertionError:
            pass
        self.kill_all()
        wait_for(lambda: not self.pids(), 10)
        if SANITIZED and SANITIZER_REPORT.search(self.log("panic")):
            sanitizer_reports.append(self.log("panic"))
        shutil.rmtree(self.dir, ignore_errors=True)
