#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Side-by-side load for mail relays: Bulkhead from the build tree; Postfix, Exim
and OpenSMTPD, each in its own Debian root (tests/peers/setup.sh); all relaying
from one loopback port to smtp-sink on another.

    bench.py CASE [--peers a,b] [--repeats N] [options]

CASE: relay tls idle many queue loss syncs.  Every result is one JSON line on stdout and
in $WORKDIR/results.jsonl; report.py makes the tables.  Runs as root (chroot,
low-level process accounting).  Every load is bounded in count and in time, and
only processes of the peer itself are ever signalled.
"""
import argparse
import json
import os
import random
import re
import shutil
import signal
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
WORKDIR = os.environ.get("WORKDIR") or "/var/tmp/bulkhead-bench"
ROOTS = os.environ.get("BULKHEAD_PEERS", "/var/tmp/bulkhead-peers")
SINK_PORT = int(os.environ.get("SINK_PORT", "2525"))
CGROUP = "/sys/fs/cgroup/cpuacct"
TOOLS = os.path.join(ROOTS, "postfix/usr/sbin")
TOOL_ENV = dict(os.environ, LD_LIBRARY_PATH=os.path.join(ROOTS, "postfix/usr/lib/postfix"))


def now():
    return time.monotonic()


def emit(**row):
    line = json.dumps(row)
    print(line, flush=True)
    with open(os.path.join(WORKDIR, "results.jsonl"), "a") as f:
        f.write(line + "\n")


def read(path, default=""):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return default


def wait_until(what, limit, step=0.02):
    end = now() + limit
    while now() < end:
        if what():
            return True
        time.sleep(step)
    return False


def port_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def count_files(top, match=lambda n: True):
    return sum(1 for _, _, names in os.walk(top) for n in names if match(n))


def empty_dir(top):
    for base, _, names in os.walk(top):
        for n in names:
            try:
                os.unlink(os.path.join(base, n))
            except OSError:
                pass


# ---- peers -----------------------------------------------------------------

class Peer:
    """One relay in its own root.  `subst` fills the @NAME@s of its templates."""
    root_name = ""
    port = 0
    templates = {}
    subst = {}
    tls_key = "rsa"

    def __init__(self, name, **subst):
        self.name = name
        self.root = os.path.join(ROOTS, self.root_name)
        self.subst = dict(self.subst, PORT=str(self.port), SINK=str(SINK_PORT), **subst)
        self.proc = None
        self.cgroup = os.path.join(CGROUP, "mta-bench-%d" % os.getpid())

    def path(self, p):
        return os.path.join(self.root, p.lstrip("/"))

    def chroot(self, *argv, **kw):
        return subprocess.run(["chroot", self.root, *argv], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=300, **kw)

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

    def configure(self):
        for src, dst in self.templates.items():
            text = read(os.path.join(HERE, "peers", src))
            for k, v in self.subst.items():
                text = text.replace("@%s@" % k, v)
            left = re.findall(r"^[^#\n]*(@[A-Z]+@)", text, re.M)
            assert not left, left
            with open(self.path(dst), "w") as f:
                f.write(text)
            os.chmod(self.path(dst), 0o644)
        with open(self.path("/etc/resolv.conf"), "w") as f:
            f.write("nameserver 127.0.0.1\nlookup file\noptions timeout:1 attempts:1\n")
        with open(self.path("/etc/hosts"), "w") as f:
            f.write("127.0.0.1 localhost bench.invalid\n")
        with open(self.path("/etc/mailname"), "w") as f:
            f.write("bench.invalid\n")
        for ext in "crt", "key":
            shutil.copy(os.path.join(WORKDIR, "%s.%s" % (self.tls_key, ext)), self.path("/etc/bench." + ext))
            os.chmod(self.path("/etc/bench." + ext), self.key_mode if ext == "key" else 0o644)

    key_mode = 0o600

    def spawn(self, argv):
        """Runs argv in the root; its processor time counts as the peer's where the kernel allows."""
        try:
            os.makedirs(self.cgroup, exist_ok=True)
            procs = os.open(os.path.join(self.cgroup, "cgroup.procs"), os.O_WRONLY)
        except OSError:
            procs = None
        with open(os.path.join(WORKDIR, self.name + ".out"), "a") as log:
            p = subprocess.Popen(["chroot", self.root, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 preexec_fn=procs is not None and (lambda: os.write(procs, b"0")) or None,
                                 start_new_session=True)
        if procs is not None:
            os.close(procs)
        return p

    def start(self):
        self.configure()
        self.proc = self.spawn(self.command)
        if not wait_until(lambda: port_open(self.port), 20):
            self.kill9()
            raise SystemExit("%s did not start; see %s.out in WORKDIR" % (self.name, self.name))
        return self

    def cpu(self):
        t = read(os.path.join(self.cgroup, "cpuacct.usage"))
        return int(t) / 1e9 if t else None

    def stop(self):
        if self.proc:
            self.proc.terminate()
        for sig, limit in ((None, 5), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            if sig:
                self.signal_all(sig)
            if wait_until(lambda: self.reap() or not self.pids(), limit):
                break
        self.reap()
        try:
            os.rmdir(self.cgroup)
        except OSError:
            pass

    def reap(self):
        if self.proc and self.proc.poll() is not None:
            self.proc = None
        return False

    def signal_all(self, sig):
        for p in self.pids():
            try:
                os.kill(p, sig)
            except OSError:
                pass

    def kill9(self):
        while self.pids():
            self.signal_all(signal.SIGKILL)
            self.reap()
            time.sleep(0.01)

    def wipe(self):
        """Empties the queue; the peer is stopped."""
        for d in self.queue_dirs:
            empty_dir(self.path(d))
        for d in self.log_files:
            try:
                os.truncate(self.path(d), 0)
            except OSError:
                pass

    log_files = ()

    def queued(self):
        raise NotImplementedError

    def flush(self):
        """Starts delivery of everything that is queued, without waiting."""
        raise NotImplementedError

    def named(self):
        return {}

    def manager(self):
        """Pids whose peak memory is the queue manager's."""
        raise NotImplementedError


class Postfix(Peer):
    root_name, port = "postfix", 2625
    templates = {"postfix-main.cf": "/etc/postfix/main.cf", "postfix-master.cf": "/etc/postfix/master.cf"}
    command = ("postfix", "start-fg")
    subst = {"FLOW": "1s", "LINES": ""}
    spool = "/var/spool/postfix"
    queue_dirs = tuple("/var/spool/postfix/" + d for d in
                       ("maildrop", "incoming", "active", "deferred", "defer", "bounce", "corrupt"))
    log_files = ("/var/log/postfix.log",)

    def configure(self):
        super().configure()
        # postsuper logs as user postfix when it finds what a kill left behind.
        self.chroot("install", "-o", "postfix", "-m", "644", "/dev/null", "/var/log/postfix.log")

    def queued(self):
        return sum(count_files(self.path(self.spool + "/" + d)) for d in ("incoming", "active", "deferred"))

    def settled(self, n):
        return count_files(self.path(self.spool + "/deferred")) >= n

    def flush(self):
        self.chroot("postqueue", "-f")

    def manager(self):
        return [p for p in self.pids() if read("/proc/%d/comm" % p).strip() == "qmgr"]


class Exim(Peer):
    root_name, port = "exim", 2725
    templates = {"exim.conf": "/etc/exim4/exim4.conf"}
    command = ("exim4", "-bdf", "-q30m")
    subst = {"LINES": ""}
    queue_dirs = ("/var/spool/exim4/input", "/var/spool/exim4/msglog", "/var/spool/exim4/db")
    log_files = ("/var/log/exim4/mainlog", "/var/log/exim4/rejectlog", "/var/log/exim4/paniclog")
    key_mode = 0o644
    run = ("-qff",)
    runners = 1

    def configure(self):
        super().configure()
        shutil.rmtree(self.path("/run/exim4"), ignore_errors=True)
        self.chroot("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", "/run/exim4", "/var/log/exim4")

    def queued(self):
        return count_files(self.path("/var/spool/exim4/input"), lambda n: n.endswith("-H"))

    def settled(self, n):
        return self.queued() >= n

    def flush(self):
        self.runs = [self.spawn(("exim4", *self.run)) for _ in range(self.runners)]

    def manager(self):
        return [r.pid for r in self.runs]


class Opensmtpd(Peer):
    root_name, port = "opensmtpd", 2825
    templates = {"smtpd.conf": "/etc/smtpd.conf"}
    command = ("smtpd", "-d")
    subst = {"LINES": ""}
    queue_dirs = ("/var/spool/smtpd/queue", "/var/spool/smtpd/incoming", "/var/spool/smtpd/temporary",
                  "/var/spool/smtpd/purge", "/var/spool/smtpd/corrupt")

    def wipe(self):
        for d in self.queue_dirs:
            p = self.path(d)
            for n in os.listdir(p) if os.path.isdir(p) else ():
                shutil.rmtree(os.path.join(p, n), ignore_errors=True)

    def queued(self):
        return count_files(self.path("/var/spool/smtpd/queue"), lambda n: n != "message")

    def settled(self, n):
        # Tried once: every envelope was rewritten with a retry count.
        return self.queued() >= n

    def flush(self):
        self.chroot("smtpctl", "schedule", "all")

    def manager(self):
        return [p for p in self.pids() if re.search(r"smtpd: (queue|scheduler|pony)", self.title(p))]

    def title(self, p):
        return read("/proc/%d/cmdline" % p).replace("\0", " ")


class Bulkhead(Peer):
    """From the build tree, with its daemons' own uids, roots and filters: nothing is switched off."""
    root_name, port = "bulkhead", 2925

    def __init__(self, name, **subst):
        super().__init__(name, **subst)
        self.root = os.path.join(WORKDIR, "bulkhead")
        self.conf = os.path.join(self.root, "bulkhead.conf")
        self.bin = os.path.join(TOP, "build/bin/bulkhead")
        self.command = (os.path.join(TOP, "build/libexec/master"), "-C", self.conf, "-F")

    def configure(self):
        os.makedirs(os.path.join(self.root, "log"), exist_ok=True)
        os.chmod(self.root, 0o755)
        text = read(os.path.join(HERE, "peers", "bulkhead.conf"))
        for k, v in dict(self.subst, DIR=self.root, LINES=self.subst.get("LINES", "")).items():
            text = text.replace("@%s@" % k, v)
        with open(self.conf, "w") as f:
            f.write(text)
        for ext in "crt", "key":
            shutil.copy(os.path.join(WORKDIR, "%s.%s" % (self.tls_key, ext)), os.path.join(self.root, "bench." + ext))
            os.chmod(os.path.join(self.root, "bench." + ext), 0o644)

    def spawn(self, argv):
        if argv[0].startswith("/"):
            plain, self.chrooted = subprocess.Popen, True
            try:
                os.makedirs(self.cgroup, exist_ok=True)
                procs = os.open(os.path.join(self.cgroup, "cgroup.procs"), os.O_WRONLY)
            except OSError:
                procs = None
            with open(os.path.join(WORKDIR, self.name + ".out"), "a") as log:
                p = plain(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                          preexec_fn=procs is not None and (lambda: os.write(procs, b"0")) or None)
            if procs is not None:
                os.close(procs)
            return p
        return super().spawn(argv)

    def pids(self):
        parents, mine = {}, set()
        for d in os.listdir("/proc"):
            if d.isdigit():
                m = re.search(r"^PPid:\s*(\d+)", read("/proc/%s/status" % d), re.M)
                if m:
                    parents[int(d)] = int(m.group(1))
                line = read("/proc/%s/cmdline" % d).split("\0")
                if self.conf in line and os.path.basename(line[0]) == "master":
                    mine.add(int(d))
        grown = True
        while grown:
            more = {p for p, pp in parents.items() if pp in mine and p not in mine}
            mine |= more
            grown = bool(more)
        return sorted(mine)

    def wipe(self):
        for d in ("spool", "hints"):
            shutil.rmtree(os.path.join(self.root, d), ignore_errors=True)
        empty_dir(os.path.join(self.root, "log"))

    def ctl(self, *argv):
        return subprocess.run([self.bin, "-C", self.conf, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60).stdout.decode()

    def queued(self):
        out = self.ctl("queue", "count").strip()
        return int(out) if out.isdigit() else -1

    def settled(self, n):
        out = self.ctl("queue", "count", "--state", "deferred").strip()
        return out.isdigit() and int(out) >= n

    def flush(self):
        self.ctl("queue", "retry", "--all")

    def named(self):
        """Processor milliseconds so far, (user, system), by daemon."""
        tick = 1000 / os.sysconf("SC_CLK_TCK")
        out = {}
        for p in self.pids():
            f = read("/proc/%d/stat" % p)
            name, f = f[f.find("(") + 1:f.rfind(")")], f[f.rfind(")") + 2:].split()
            u, k = out.get(name, (0, 0))
            out[name] = (u + int(f[11]) * tick, k + int(f[12]) * tick)
        return out

    def manager(self):
        return [p for p in self.pids() if read("/proc/%d/comm" % p).strip() == "qmgr"]


def exim_q(name, run, runners=1, lines="queue_only = true\n"):
    e = Exim(name, LINES=lines)
    e.run, e.runners = run, runners
    e.command = ("exim4", "-bdf")
    return e


# Keywords that smtpd.conf(5) of 6.8 does not mention, but smtpd takes.
OPENSMTPD_TUNED = """mta limit max-conn-per-host 100
mta limit max-conn-per-route 100
mta limit max-conn-per-source 100
mta limit max-conn-per-connector 100
mta limit max-conn-per-relay 100
mta limit max-conn-per-domain 100
mta limit session-mail-max 10000
"""


def make_peers():
    queued = Exim("exim-queued", LINES="queue_only = true\n")
    queued.command = ("exim4", "-bdf", "-q1s")
    fast = Exim("exim-qq", LINES="queue_only = true\nqueue_fast_ramp = true\n")
    fast.command = ("exim4", "-bdf", "-qq1s")
    peers = [
        Bulkhead("bulkhead"),
        Postfix("postfix"),
        Postfix("postfix-noflow", FLOW="0"),
        Postfix("postfix-nolog", FLOW="0", LINES="maillog_file ="),
        Exim("exim"),
        queued,
        fast,
        exim_q("exim-qff", ("-qff",)),
        exim_q("exim-4xqff", ("-qff",), 4),
        exim_q("exim-qqff", ("-qqff",)),
        exim_q("exim-qqff-ramp", ("-qqff",), 1, "queue_only = true\nqueue_fast_ramp = true\n"),
        Opensmtpd("opensmtpd"),
        Opensmtpd("opensmtpd-tuned", LINES=OPENSMTPD_TUNED),
    ]
    return {p.name: p for p in peers}


# ---- sink and source ---------------------------------------------------------

class Sink:
    """smtp-sink -c, with the times of its first and its latest message."""

    def __init__(self):
        self.count, self.first, self.last = 0, None, None
        r, w = os.pipe()
        self.proc = subprocess.Popen([os.path.join(TOOLS, "smtp-sink"), "-u", "nobody", "-c",
                                      "127.0.0.1:%d" % SINK_PORT, "4096"],
                                     stdin=subprocess.DEVNULL, stdout=w, env=TOOL_ENV)
        os.close(w)
        self.fd = r
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        if not wait_until(lambda: port_open(SINK_PORT), 5):
            raise SystemExit("smtp-sink did not start")
        time.sleep(0.05)
        self.reset()

    def reset(self):
        self.base = self.seen
        self.count, self.first, self.last = 0, None, None

    seen = base = 0

    def watch(self):
        tail = b""
        while True:
            data = os.read(self.fd, 65536)
            t = now()
            if not data:
                return
            tail = (tail + data)[-200:]
            m = re.findall(rb"mesg=(\d+)", tail[:tail.rfind(b"\r") + 1] or tail)
            if m and int(m[-1]) != self.seen:
                self.seen = int(m[-1])
                if self.seen > self.base:
                    self.count = self.seen - self.base
                    self.first = self.first or t
                    self.last = t
                    time.sleep(0.01)

    def wait(self, n, limit):
        return wait_until(lambda: self.count >= n, limit, 0.005)

    def stop(self):
        self.proc.terminate()
        self.proc.wait()
        self.thread.join(2)
        os.close(self.fd)


def source(port, sessions, size, count, keep, limit=300):
    """smtp-source: wall seconds, or None with what it said."""
    argv = [os.path.join(TOOLS, "smtp-source"), *(["-d"] if keep else []), "-s", str(sessions), "-l", str(size),
            "-m", str(count), "-f", "a@bench.invalid", "-t", "b@sink.invalid", "127.0.0.1:%d" % port]
    t0 = now()
    try:
        p = subprocess.run(argv, env=TOOL_ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
    except subprocess.TimeoutExpired:
        return None, "timeout"
    took = now() - t0
    return (took, "") if p.returncode == 0 else (None, p.stdout.decode(errors="replace")[-200:])


# ---- cases -------------------------------------------------------------------

def relay_once(peer, sessions, size, count, keep, case, wait=True):
    sink = Sink()
    row, cpu = {}, None
    try:
        if peer is None:
            t0 = now()
            took, why = source(SINK_PORT, sessions, size, count, keep)
            ok = took is not None and sink.wait(count, 5)
        else:
            peer.wipe()
            peer.start()
            c0, n0 = peer.cpu(), peer.named()
            t0 = now()
            took, why = source(peer.port, sessions, size, count, keep)
            # Delivery may lag: wait while the sink still makes progress.
            limit = t0 + 240
            while wait and took is not None and sink.count < count and now() < limit:
                had = sink.count
                if not sink.wait(count, 30) and sink.count == had:
                    break
            ok = sink.count >= count
            c1, n1 = peer.cpu(), peer.named()
            cpu = c1 - c0 if c0 is not None else None
            for name in n1:
                row["cpu_" + name] = [round((n1[name][i] - n0.get(name, (0, 0))[i]) / count, 4) for i in (0, 1)]
        end = sink.last
        emit(case=case, peer=peer.name if peer else "direct", sessions=sessions, size=size, count=count, keep=keep,
             accept=round(count / took, 1) if took else None,
             e2e=round(count / (end - t0), 1) if ok else None, delivered=sink.count, error=why or None,
             cpu_ms=round(1000 * cpu / count, 3) if ok and cpu is not None else None, **row)
    finally:
        if peer:
            peer.stop()
            peer.wipe()
        sink.stop()


def case_relay(peers, o):
    for _ in range(o.repeats):
        for keep in o.keep:
            for s in o.sessions:
                for p in [None] * (not o.nodirect) + peers:
                    relay_once(p, s, o.size, min(o.count, o.count1) if s == 1 else o.count, keep, "relay",
                               not o.acceptonly)


def case_syncs(peers, o):
    """System calls that make things durable, per message, from strace."""
    for p in peers:
        sink = Sink()
        trace = os.path.join(WORKDIR, "strace.out")
        try:
            p.wipe()
            p.start()
            source(p.port, 1, 4096, 5, False)
            sink.wait(5, 30)
            time.sleep(1)
            sink.reset()
            calls = "fsync,fdatasync,sync_file_range,syncfs,sync,rename,renameat,renameat2,unlink,unlinkat,link,linkat," \
                    "clone,clone3,fork,vfork,execve"
            st = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=" + calls, "-o", trace] +
                                  [a for pid in p.pids() for a in ("-p", str(pid))])
            time.sleep(1)
            source(p.port, 1, 4096, 100, False)
            done = sink.wait(100, 60)
            time.sleep(2)
            st.send_signal(signal.SIGINT)
            st.wait(10)
            n = {}
            for m in re.finditer(r"^\d+ +(\w+)\(.*(?<!unfinished \.\.\.>)$", read(trace), re.M):
                n[m.group(1)] = n.get(m.group(1), 0) + 1
            for m in re.finditer(r"<\.\.\. (\w+) resumed", read(trace)):
                n[m.group(1)] = n.get(m.group(1), 0) + 1
            emit(case="syncs", peer=p.name, delivered=sink.count, ok=done, per_message={k: v / 100 for k, v in n.items()})
        finally:
            p.stop()
            p.wipe()
            sink.stop()


def pss(pids):
    total = private = 0
    for p in pids:
        t = read("/proc/%d/smaps_rollup" % p)
        m = re.search(r"^Pss: +(\d+)", t, re.M)
        total += int(m.group(1)) if m else 0
        private += sum(int(x) for x in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", t, re.M))
    return total, private


def slab():
    m = re.findall(r"^(?:Slab|PageTables|KernelStack): +(\d+)", read("/proc/meminfo"), re.M)
    return sum(map(int, m))


def say(s, f, line, code):
    if line:
        s.sendall(line + b"\r\n")
    while True:
        got = f.readline()
        if got[3:4] != b"-":
            break
    if not got.startswith(code):
        raise OSError(got.decode(errors="replace") or "closed")


def idle_session(port, tls):
    """One that has said EHLO, inside TLS where `tls` is a context; what keeps it open."""
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.settimeout(20)
    f = s.makefile("rb")
    say(s, f, None, b"220")
    say(s, f, b"EHLO idle.invalid", b"250")
    if tls:
        say(s, f, b"STARTTLS", b"220")
        f.close()
        s = tls.wrap_socket(s)
        f = s.makefile("rb")
        say(s, f, b"EHLO idle.invalid", b"250")
    f.close()
    return s


def client_tls():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c


def case_idle(peers, o):
    for _ in range(o.repeats):
        for p in peers:
            for tls in (None, client_tls()):
                if tls and p.name.startswith("opensmtpd"):
                    continue    # Debian 12's can't finish a handshake as the server
                idle_once(p, o, tls)


def idle_once(p, o, tls):
    socks, why = [], None
    try:
        p.wipe()
        p.start()
        time.sleep(1)
        p0, k0 = p.pids(), slab()
        base, _ = pss(p0)
        t0 = now()
        try:
            for _ in range(o.conns):
                socks.append(idle_session(p.port, tls))
        except OSError as e:
            why = str(e)
        took = now() - t0
        time.sleep(1)
        p1 = p.pids()
        full, _ = pss(p1)
        emit(case="idle", peer=p.name, tls=bool(tls), conns=len(socks), base_kb=base, full_kb=full,
             per_conn_kb=round((full - base) / max(1, len(socks)), 2), processes=len(p1), base_processes=len(p0),
             kernel_per_conn_kb=round((slab() - k0) / max(1, len(socks)), 2), open_seconds=round(took, 2), error=why)
    finally:
        for s in socks:
            s.close()
        p.stop()
        p.wipe()


def case_many(peers, o):
    """Mail flows while one smtpd process holds o.conns idle sessions: the rate before and during, and what the process weighs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, o.conns + 1000)), hard))
    for _ in range(o.repeats):
        p = Bulkhead("bulkhead", LINES="smtpd_processes = 1\n")
        sink, socks = Sink(), []
        try:
            p.wipe()
            p.start()
            rates = []

            def flow():
                sink.reset()
                t0 = now()
                took, why = source(p.port, 10, 4096, o.count, False)
                if took is None or not sink.wait(o.count, 60):
                    raise OSError(why or "%d of %d delivered" % (sink.count, o.count))
                rates.append(round(o.count / (sink.last - t0), 1))
            flow()
            base, _ = pss([q for q in p.pids() if read("/proc/%d/comm" % q).strip() == "smtpd"])
            for _ in range(o.conns):
                socks.append(idle_session(p.port, None))
            full, _ = pss([q for q in p.pids() if read("/proc/%d/comm" % q).strip() == "smtpd"])
            flow()
            alive = 0
            for s in socks:
                s.sendall(b"NOOP\r\n")
            for s in socks:
                alive += s.recv(100).startswith(b"250")
            emit(case="many", peer=p.name, conns=len(socks), alive=alive, rate_without=rates[0], rate_with=rates[1], smtpd_base_kb=base,
                 smtpd_full_kb=full)
        finally:
            for s in socks:
                s.close()
            p.stop()
            p.wipe()
            sink.stop()


# ---- TLS ---------------------------------------------------------------------

def case_tls(peers, o):
    """STARTTLS on a new connection each time: handshakes alone, and messages; fresh and resumed, RSA and ECDSA."""
    load = os.path.join(TOP, "build/bench/tlsload")
    for _ in range(o.repeats):
        for key, mode in [("rsa", "plain")] + [(k, m) for k in ("rsa", "ec") for m in ("shake", "reshake", "tls", "resume")]:
            for p in peers:
                p.tls_key = key
                tls_once(p, o, load, key, mode)


def tls_once(p, o, load, key, mode):
    count = o.count * (1 if "shake" not in mode or p.name == "exim" else 3)
    sink = Sink()
    try:
        p.wipe()
        p.start()
        c0, t0 = p.cpu(), now()
        r = subprocess.run([load, "127.0.0.1", str(p.port), str(o.sessions[-1]), str(count), "4096", mode], stdout=subprocess.PIPE, timeout=300)
        took, f = now() - t0, r.stdout.split()
        done = "shake" not in mode and int(f[1]) and sink.wait(int(f[1]), 120)
        c1 = p.cpu()
        emit(case="tls", peer=p.name, key=key, mode=mode, rate=float(f[3]), count=int(f[1]), resumed=int(f[4]), errors=int(f[6]),
             client_cpu=round(float(f[5]) / took, 3), e2e=round(int(f[1]) / (sink.last - t0), 1) if done else None,
             cpu_ms=round(1000 * (c1 - c0) / count, 3) if c0 is not None else None)
    finally:
        p.stop()
        p.wipe()
        sink.stop()


def case_queue(peers, o):
    for _ in range(o.repeats):
        for p in peers:
            peak = {}
            stop = threading.Event()
            sink = None
            try:
                p.wipe()
                p.start()
                took, why = source(p.port, 20, 4096, o.count, True)
                if took is None:
                    emit(case="queue", peer=p.name, error=why)
                    continue
                if not wait_until(lambda: p.settled(o.count), 120, 1):
                    print("not all deferred:", p.queued(), file=sys.stderr)
                time.sleep(5)
                c0 = p.cpu()
                sink = Sink()
                t0 = now()
                p.flush()

                def watch():
                    while not stop.is_set():
                        for pid in p.manager():
                            m = re.search(r"^VmHWM:\s+(\d+)", read("/proc/%d/status" % pid), re.M)
                            if m:
                                peak[pid] = int(m.group(1))
                        time.sleep(0.1)
                w = threading.Thread(target=watch, daemon=True)
                w.start()
                limit = t0 + o.limit
                while sink.count < o.count and now() < limit:
                    had = sink.count
                    if not sink.wait(o.count, min(60, max(0.1, limit - now()))) and sink.count == had:
                        break
                stop.set()
                w.join()
                c1 = p.cpu()
                emit(case="queue", peer=p.name, count=o.count, inject=round(o.count / took, 1), delivered=sink.count,
                     first_s=round(sink.first - t0, 3) if sink.first else None,
                     drain_s=round(sink.last - t0, 2) if sink.last else None,
                     rate=round(sink.count / (sink.last - t0), 1) if sink.last else None,
                     peak_kb=max(peak.values(), default=None), peak_sum_kb=sum(peak.values()),
                     left=p.queued(), cpu_ms=round(1000 * (c1 - c0) / o.count, 3) if c0 is not None else None)
            finally:
                stop.set()
                p.stop()
                for r in getattr(p, "runs", ()):
                    r.wait()
                p.runs = []
                p.wipe()
                if sink:
                    sink.stop()


# ---- loss --------------------------------------------------------------------

class IdSink:
    """A small sink that counts each X-Bench-Id it took responsibility for."""

    def __init__(self):
        self.got, self.lock = {}, threading.Lock()
        self.sock = socket.create_server(("127.0.0.1", SINK_PORT), backlog=1024)
        self.stopping = False
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            c.settimeout(120)
            f = c.makefile("rb")
            c.sendall(b"220 sink\r\n")
            while True:
                line = f.readline()
                verb = line[:4].upper()
                if not line:
                    return
                if verb == b"DATA":
                    c.sendall(b"354 go\r\n")
                    ident = None
                    while True:
                        line = f.readline()
                        if not line:
                            return
                        if line == b".\r\n":
                            break
                        if line.lower().startswith(b"x-bench-id:"):
                            ident = int(line.split(b":")[1])
                    with self.lock:
                        self.got[ident] = self.got.get(ident, 0) + 1
                    c.sendall(b"250 taken\r\n")
                elif verb == b"QUIT":
                    c.sendall(b"221 bye\r\n")
                    return
                else:
                    c.sendall(b"250 ok\r\n")
        except OSError:
            pass
        finally:
            c.close()

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)    # wakes accept()
        self.sock.close()


def send_one(port, ident):
    """'acked', 'no' (the server cannot have it: no end of data was sent) or 'unknown'."""
    sent = False
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.settimeout(20)
            f = s.makefile("rb")

            def expect(code):
                while True:
                    line = f.readline()
                    if not line:
                        raise OSError("closed")
                    if line[3:4] != b"-":
                        break
                if not line.startswith(code):
                    raise OSError(line.decode(errors="replace"))
            expect(b"220")
            for cmd, code in ((b"EHLO bench.invalid", b"250"), (b"MAIL FROM:<a@bench.invalid>", b"250"),
                              (b"RCPT TO:<b@sink.invalid>", b"250"), (b"DATA", b"354")):
                s.sendall(cmd + b"\r\n")
                expect(code)
            sent = True
            s.sendall(b"From: a@bench.invalid\r\nTo: b@sink.invalid\r\nX-Bench-Id: %d\r\n\r\n" % ident + (b"x" * 70 + b"\r\n") * 56 + b".\r\n")
            expect(b"250")
            try:
                s.sendall(b"QUIT\r\n")
            except OSError:
                pass
            return "acked"
    except OSError:
        return "unknown" if sent else "no"


def case_loss(peers, o):
    for _ in range(o.repeats):
        for p in peers:
            sink = IdSink()
            fate, lock = {}, threading.Lock()
            todo = iter(range(o.count))
            pause = threading.Event()
            try:
                p.wipe()
                p.start()

                def worker():
                    while True:
                        with lock:
                            i = next(todo, None)
                        if i is None:
                            return
                        for _ in range(3000):
                            r = send_one(p.port, i)
                            if r != "no":
                                break
                            time.sleep(0.02)
                        with lock:
                            fate[i] = r
                threads = [threading.Thread(target=worker, daemon=True) for _ in range(10)]
                for t in threads:
                    t.start()
                for k in range(5):
                    mark = int(o.count * (k + 1) / 6.5)
                    wait_until(lambda: len(fate) >= mark, 120, 0.002)
                    time.sleep(random.uniform(0, 0.02))
                    p.kill9()
                    time.sleep(0.1)
                    p.start()
                for t in threads:
                    t.join(300)
                acked = {i for i, r in fate.items() if r == "acked"}
                unknown = {i for i, r in fate.items() if r == "unknown"}
                # Let it finish: wait while deliveries come in, then ask for a queue run, up to three times.
                for attempt in range(4):
                    end = now() + 180
                    while acked - set(sink.got) and now() < end:
                        had = len(sink.got)
                        if not wait_until(lambda: not (acked - set(sink.got)), 15, 0.2) and len(sink.got) == had:
                            break
                    if not (acked - set(sink.got)):
                        break
                    p.flush()
                time.sleep(2)
                dup = {i: n for i, n in sink.got.items() if n > 1}
                emit(case="loss", peer=p.name, count=o.count, acked=len(acked), unknown=len(unknown),
                     lost=len(acked - set(sink.got)), unknown_delivered=len(unknown & set(sink.got)),
                     duplicates=len(dup), extra_copies=sum(n - 1 for n in dup.values()), left_in_queue=p.queued(),
                     failed=sum(1 for r in fate.values() if r == "no"))
            finally:
                p.stop()
                for r in getattr(p, "runs", ()):
                    r.wait()
                p.runs = []
                p.wipe()
                sink.stop()


def main():
    cases = {"relay": case_relay, "syncs": case_syncs, "idle": case_idle, "many": case_many, "tls": case_tls, "queue": case_queue,
             "loss": case_loss}
    a = argparse.ArgumentParser()
    a.add_argument("case", choices=list(cases))
    a.add_argument("--peers", default="bulkhead,postfix,exim,opensmtpd")
    a.add_argument("--repeats", type=int, default=3)
    a.add_argument("--sessions", type=lambda s: [int(x) for x in s.split(",")], default=[1, 10, 50])
    a.add_argument("--size", type=int, default=4096)
    a.add_argument("--count", type=int, default=5000)
    a.add_argument("--count1", type=int, default=10**9, help="fewer messages where there is 1 session")
    a.add_argument("--keep", type=lambda s: [x == "d" for x in s.split(",")], default=[False, True],
                   help="n: new session per message; d: smtp-source -d; n,d: both")
    a.add_argument("--nodirect", action="store_true", help="leave out smtp-source straight into smtp-sink")
    a.add_argument("--acceptonly", action="store_true", help="do not wait for delivery")
    a.add_argument("--conns", type=int, default=1000)
    a.add_argument("--limit", type=float, default=240, help="seconds allowed to drain the queue")
    o = a.parse_args()
    os.makedirs(WORKDIR, exist_ok=True)
    all_peers = make_peers()
    cases[o.case]([all_peers[n] for n in o.peers.split(",")], o)


if __name__ == "__main__":
    main()
