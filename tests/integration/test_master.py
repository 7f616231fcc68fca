# SPDX-License-Identifier: ISC
"""Supervision: who runs as whom and where; restarts; errors of the configuration; life without root."""
import os
import re
import signal
import subprocess
import time

import pytest

from bulkhead import BIN, TOP, UID_BASE, Client, Instance, free_port, read, wait_for

DAEMONS = ["smtpd", "policyd", "router", "qmgr", "smtp-out"]


@pytest.mark.skipif(os.geteuid() != 0, reason="uids and roots need root")
def test_each_daemon_has_its_own_uid_root_and_filter(bulkhead, sink):
    b = bulkhead(sink=sink)
    b.send("a@b.example", "joe@local.example")
    b.wait_maildir("joe")
    uids = {}
    for d in b.daemons():
        name = d["name"].split("/")[0]
        if name == "master":
            continue
        text = read("/proc/%d/status" % d["pid"])
        field = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))
        ids = set(field["Uid"].split()) | set(field["Gid"].split())
        assert len(ids) == 1 and "0" not in ids, (name, text)
        assert field["NoNewPrivs"] == "1" and field["Seccomp"] == "2", (name, text)
        assert int(field["CapEff"], 16) == 0 and int(field["CapPrm"], 16) == 0
        uids.setdefault(name, ids)
        assert os.readlink("/proc/%d/root" % d["pid"]) != "/", name
        if name in ("smtpd", "policyd", "smtp-out"):
            assert os.listdir("/proc/%d/root/" % d["pid"]) == [], name
    assert set(DAEMONS) <= set(uids), uids
    assert len({next(iter(u)) for u in uids.values()}) == len(uids), uids


@pytest.mark.skipif(os.geteuid() != 0, reason="the view is read from another uid's memory")
def test_a_secret_never_reaches_smtpd(bulkhead):
    secret = "hunter2-%d" % os.getpid()
    b = bulkhead(main="hide redis_servers = 127.0.0.1/0/" + secret)
    for d in b.daemons():
        name = d["name"].split("/")[0]
        found = False
        for line in read("/proc/%d/maps" % d["pid"]).splitlines():
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if not m or "[v" in line:
                continue
            start, end = int(m.group(1), 16), int(m.group(2), 16)
            try:
                with open("/proc/%d/mem" % d["pid"], "rb") as f:
                    while start < end and not found:
                        f.seek(start)
                        found = secret.encode() in f.read(min(end - start, 1 << 24))
                        start += 1 << 24
            except (OSError, ValueError):
                pass
        assert found == (name in ("router", "master")), name


def test_a_daemon_that_keeps_dying_is_restarted_more_slowly(bulkhead):
    b = bulkhead()
    for _ in range(4):
        d = wait_for(lambda: [d for d in b.daemons("router") if d["state"] == "ready"], 20, why=b.logs)[0]
        os.kill(d["pid"], signal.SIGKILL)
        wait_for(lambda: not os.path.exists("/proc/%d" % d["pid"]) or read("/proc/%d/stat" % d["pid"]).split()[2:3] == ["Z"], 10)
        time.sleep(0.02)
    wait_for(lambda: [d for d in b.daemons("router") if d["state"] == "ready" and d["restarts"] >= 4], 30, why=b.logs)
    assert b.log().count("router") >= 4


def test_restart_by_command(bulkhead, sink):
    b = bulkhead(sink=sink)
    for name in DAEMONS:
        before = {d["pid"] for d in b.daemons(name)}
        b.command("restart", name)
        wait_for(lambda: [d for d in b.daemons(name) if d["pid"] not in before and d["state"] == "ready"], 30, why=b.logs)
    b.send("a@b.example", "x@y.example")
    sink.wait(1)
    code, out, err = b.command("restart", "nosuch", check=False)
    assert code != 0 and "nosuch" in err


def test_second_start_is_refused(bulkhead):
    b = bulkhead()
    code, out, err = b.command("start", check=False)
    assert code != 0 and "running" in err
    assert b.daemons("qmgr")


def test_master_killed_daemons_end_and_start_works(bulkhead, sink):
    b = bulkhead(sink=sink)
    master = b.pids()[0]
    daemons = [d["pid"] for d in b.daemons() if d["pid"] != master]
    os.kill(master, signal.SIGKILL)
    wait_for(lambda: not [p for p in daemons if os.path.exists("/proc/%d" % p) and "Z" not in read("/proc/%d/stat" % p).split(")")[-1][:3]],
             20, why=lambda: str([read("/proc/%d/cmdline" % p) for p in daemons]))
    b.start()
    b.send("a@b.example", "x@y.example")
    sink.wait(1)


def test_stop_leaves_nothing_behind(bulkhead):
    b = bulkhead()
    b.stop()
    assert not os.path.exists(os.path.join(b.dir, "run", "control"))
    assert not [l for l in read("/proc/mounts").splitlines() if b.dir in l]
    code, out, err = b.command("status", check=False)
    assert code == 69 and "not running" in err


ERRORS = [
    ("smtp_acept_max = 5", r"bulkhead\.conf:\d+: .*smtp_acept_max.*smtp_accept_max"),
    ("smtp_accept_max = many", r"bulkhead\.conf:\d+: .*smtp_accept_max.*many"),
    ("message_size_limit = 5M\nmessage_size_limit = 6M", r"bulkhead\.conf:\d+: .*message_size_limit"),
    ("acl_smtp_mail = no_such_acl", r"no_such_acl"),
    ("domainlist a = +nosuchlist", r"nosuchlist"),
]


@pytest.mark.parametrize("line,want", ERRORS)
def test_errors_name_file_line_and_what_would_be_right(line, want):
    i = Instance(main=line)
    try:
        code, out, err = i.command("check-config", check=False)
        assert code == 78 and re.search(want, err), err
        code, out, err = i.command("start", check=False)
        assert code == 78 and re.search(want, err), err
        assert not i.pids()
    finally:
        i.destroy()


def test_undefined_transport_is_named():
    i = Instance(routers="r:\n  driver = accept\n  transport = maildri\n")
    try:
        code, out, err = i.command("check-config", check=False)
        assert code == 78 and re.search(r"bulkhead\.conf:\d+: .*maildri.*maildir", err), err
    finally:
        i.destroy()


def test_port_in_use_is_said():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(1)
        i = Instance(port=s.getsockname()[1])
        try:
            code, out, err = i.command("start", check=False)
            assert code != 0 and str(i.port) in err and "in use" in err, err
            assert not i.pids()
        finally:
            i.destroy()


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become somebody without rights")
def test_without_root(sink):
    """All in one uid, saying plainly what protection is missing; mail flows all the same."""
    i = Instance(privileged=False, sink=sink)
    d = i.dir
    text = open(i.conf).read().replace("user = 0", "user = 65534").replace("group = 0", "group = 65534").replace("never_users = root", "")
    open(i.conf, "w").write(text)
    for base, dirs, names in os.walk(d):
        for n in [base] + [os.path.join(base, x) for x in dirs + names]:
            os.chown(n, 65534, 65534)
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", BIN, "-C", i.conf]
    try:
        p = subprocess.run(as_nobody + ["start"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert p.returncode == 0, p.stdout.decode()
        i.send("a@b.example", ["x@y.example", "joe@local.example"])
        sink.wait(1)
        i.wait_maildir("joe")
        out = subprocess.run(as_nobody + ["status"], stdout=subprocess.PIPE, timeout=60).stdout.decode()
        assert re.search(r"not started by root: .*without chroot", out), out
        assert {d["uid"] for d in i.daemons()} == {65534}
    finally:
        subprocess.run(as_nobody + ["stop"], timeout=90)
        i.destroy()


def test_samples_load():
    """Each sample in conf/ is read without an error."""
    for name in sorted(os.listdir(os.path.join(TOP, "conf"))):
        if name.endswith(".conf") and name != "quickstart.conf":
            p = subprocess.run([BIN, "-C", os.path.join(TOP, "conf", name), "check-config"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, timeout=60)
            assert p.returncode == 0, "%s: %s" % (name, p.stderr.decode())


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_unit_is_hardened(tmp_path):
    unit = tmp_path / "bulkhead.service"
    text = open(os.path.join(TOP, "conf/bulkhead.service")).read()
    unit.write_text(text.replace("@LIBEXECDIR@", "/usr/libexec/bulkhead").replace("@SYSCONFDIR@", "/etc").replace("@PREFIX@", "/usr"))
    p = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=45", str(unit)], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == 0, p.stdout.decode()[-2000:]
    assert "exposure level" in p.stdout.decode()


def test_idle_sessions_are_cheap_and_many(bulkhead):
    b = bulkhead(main="smtp_accept_max = 0\nsmtp_accept_max_per_host = 0")
    clients = [Client(b.port) for _ in range(500)]
    for c in clients:
        c.ask("EHLO idle.example", 250)
    assert b.send("a@b.example", "joe@local.example")
    b.wait_maildir("joe")
    for c in clients:
        c.ask("NOOP", 250)
        c.close()
