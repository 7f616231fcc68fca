# SPDX-License-Identifier: ISC
"""master with the real daemons: private roots, restarts without loss, listeners, logs, who may ask, readiness."""
import os
import signal
import socket
import subprocess
import time

import pytest

from bulkhead import BIN, UID_BASE, Client, Instance, free_port, read, wait_for

UIDS = {"smtpd": 0, "policyd": 1, "router": 2, "qmgr": 3, "smtp-out": 4, "keyd": 6}


def proc(pid, field):
    for line in read("/proc/%d/status" % pid).splitlines():
        if line.startswith(field + ":"):
            return line.split(":", 1)[1].split()
    return None


def test_each_daemon_has_its_protection(bulkhead, sink):
    b = bulkhead(sink=sink)
    b.send("a@b.example", "x@local.example")
    b.wait_maildir("x")
    seen = set()
    for d in b.daemons():
        name, pid = d["name"].split("/")[0], d["pid"]
        if name == "master":
            continue
        seen.add(name)
        assert proc(pid, "NoNewPrivs") == ["1"], name
        assert proc(pid, "Seccomp") == ["2"], name
        assert proc(pid, "CapEff") == ["0000000000000000"], name
        fds = [os.readlink("/proc/%d/fd/%s" % (pid, f)) for f in os.listdir("/proc/%d/fd" % pid)]
        assert not [f for f in fds if f.startswith("/") and not f.startswith(("/dev/null", b.dir))], (name, fds)
        if b.privileged:
            want = UID_BASE + UIDS[name] if name in UIDS else b.mail_uid
            assert proc(pid, "Uid") == [str(want)] * 4 and proc(pid, "Gid") == [str(want)] * 4, name
            assert proc(pid, "Groups") == [], name
            assert os.readlink("/proc/%d/root" % pid) == d["root"] != "/", name
    assert seen == set(UIDS) | {"local"}


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_private_roots_show_only_what_is_configured(bulkhead, sink, tmp_path):
    b = bulkhead(sink=sink)
    b.send("a@b.example", "x@local.example")
    b.wait_maildir("x")
    top = b.dir.strip("/").split("/")[0]
    for name, extra in (("router", {"etc"}), ("local", set())):
        root = "/proc/%d/root" % b.daemons(name)[0]["pid"]
        assert set(os.listdir(root)) <= {top, "run", "usr"} | extra, (name, os.listdir(root))
        assert b.dir.split("/")[-1] in os.listdir(os.path.join(root, *b.dir.strip("/").split("/")[:-1]))
        assert not os.path.exists(root + "/root") and not os.path.exists(root + "/home") and not os.path.exists(root + "/proc")
    mounts = [l.split() for l in read("/proc/%d/mountinfo" % b.daemons("router")[0]["pid"]).splitlines()]
    modes = {m[4]: m[5].split(",") for m in mounts}
    at = {p: o for p, o in modes.items() if p in (b.dir, b.dir + "/hints", "/")}
    assert "ro" in at[b.dir] and "nosuid" in at[b.dir], at
    assert "rw" in at[b.dir + "/hints"], at
    empty = "/proc/%d/root" % b.daemons("smtpd")[0]["pid"]
    assert os.listdir(empty) == []


@pytest.mark.parametrize("daemon", ["smtpd", "policyd", "router", "smtp-out", "qmgr", "local"])
def test_restart_of_one_loses_nothing(bulkhead, sink, daemon):
    b = bulkhead(sink=sink)
    b.send("a@b.example", ["x@local.example", "x@y.example"])
    b.wait_maildir("x")
    before = {d["pid"] for d in b.daemons(daemon)}
    c = b.client()
    c.ask("EHLO client.example", 250)
    b.command("restart", daemon)
    wait_for(lambda: daemon == "local" or {d["pid"] for d in b.daemons(daemon) if d["state"] == "ready"} - before, why=b.logs)
    wait_for(lambda: not [p for p in before if daemon != "smtpd" and os.path.exists("/proc/%d" % p)], why=b.logs)
    sent = 0
    for _ in range(5):
        b.send("a@b.example", ["x@local.example", "x@y.example"])
        sent += 1
    b.wait_maildir("x", 1 + sent)
    sink.wait(1 + sent)
    if daemon != "smtpd":
        assert c.mail("a@b.example", "x@y.example", b"Subject: old\r\n\r\nsession\r\n", helo=None).startswith("250")
        sink.wait(2 + sent)
    c.close()
    assert b.log("panic") == ""


def test_listeners_follow_a_reload(bulkhead, sink):
    b = bulkhead(sink=sink)
    old, new = b.port, free_port()
    text = read(b.conf)
    with open(b.conf, "w") as f:
        f.write(text.replace("daemon_smtp_ports = %d" % old, "daemon_smtp_ports = %d : %d" % (old, new)))
    b.command("reload")
    assert Client(new).greeting.startswith("220")
    assert Client(old).greeting.startswith("220")
    with open(b.conf, "w") as f:
        f.write(text.replace("daemon_smtp_ports = %d" % old, "daemon_smtp_ports = %d" % new))
    b.command("reload")
    assert Client(new).greeting.startswith("220")

    def refused():
        try:
            socket.create_connection(("127.0.0.1", old), 1).close()
        except ConnectionRefusedError:
            return True
    wait_for(refused)
    with socket.socket() as taken:      # an address that can't be bound: everything stays
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with open(b.conf, "w") as f:
            f.write(text.replace("daemon_smtp_ports = %d" % old, "daemon_smtp_ports = %d : %d" % (new, taken.getsockname()[1])))
        code, out, err = b.command("reload", check=False)
        assert code != 0 and str(taken.getsockname()[1]) in err
    assert Client(new).greeting.startswith("220")


def test_logs_are_opened_again(bulkhead, sink):
    b = bulkhead(sink=sink)
    b.send("a@b.example", "x@y.example")
    b.wait_log("Completed")
    log = os.path.join(b.dir, "log", "mainlog")
    for how in ("command", "signal"):
        os.rename(log, log + "." + how)
        if how == "command":
            b.command("logs")
        else:
            os.kill([d for d in b.daemons() if d["name"] == "master"][0]["pid"], signal.SIGUSR1)
            wait_for(lambda: os.path.exists(log))
        b.send("a@b.example", "x@y.example")
        b.wait_log("Completed")
        assert b.log().count("<=") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs several users")
def test_who_may_ask_master(bulkhead, sink):
    b = bulkhead(sink=sink)

    def ask_as(uid, *argv):
        return subprocess.run([BIN, "--run", os.path.join(b.dir, "run"), *argv], user=uid, group=uid, extra_groups=[], capture_output=True, text=True,
                              timeout=30)
    p = ask_as(65534, "stop")
    assert p.returncode != 0 and "permission denied" in p.stderr
    p = ask_as(65534, "queue", "list")
    assert p.returncode != 0 and "permission denied" in p.stderr
    assert ask_as(0, "queue", "list").returncode == 0
    assert b.daemons("smtpd")


def test_readiness_is_told(bulkhead, sink, tmp_path):
    """READY=1 when all serve, STOPPING=1 at the end, as a service manager wants it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(20)
        b = Instance(sink=sink)
        os.environ["NOTIFY_SOCKET"] = path
        try:
            b.start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        try:
            assert s.recv(512) == b"READY=1"
            b.command("reload")
            assert s.recv(512) == b"RELOADING=1"
            assert s.recv(512) == b"READY=1"
            b.stop()
            assert s.recv(512) == b"STOPPING=1"
        finally:
            b.destroy()


def test_stop_is_quick_with_idle_sessions(bulkhead, sink):
    b = bulkhead(sink=sink)
    clients = [b.client() for _ in range(20)]
    began = time.monotonic()
    b.stop()
    assert time.monotonic() - began < 10
    for c in clients:
        assert c.reply().startswith("421")
        c.close()
    assert sorted(os.listdir(os.path.join(b.dir, "run"))) == ["empty", "root"]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a right away from root")
@pytest.mark.parametrize("how", ["try", "require"])
def test_system_without_mount_namespaces(sink, how):
    """try: goes without, and says so; require: does not start, and says why."""
    b = Instance(sink=sink, main="namespaces = " + how)
    p = subprocess.run(["setpriv", "--bounding-set", "-sys_admin", BIN, "-C", b.conf, "start"], capture_output=True, text=True, timeout=60)
    try:
        if how == "require":
            assert p.returncode == 69 and "no namespace of its own" in p.stderr, (p.returncode, p.stderr)
            return
        assert p.returncode == 0, p.stderr
        assert "mount namespaces are refused" in b.status()["note"]
        b.send("a@b.example", ["x@local.example", "x@y.example"])
        sink.wait(1)
        b.wait_maildir("x")
    finally:
        b.destroy()
