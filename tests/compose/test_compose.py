# SPDX-License-Identifier: ISC
"""Several hosts: mail crosses between all of them; hosts and daemons go and come back; every daemon's uid, root, filter and
capabilities are what the table in docs/ARCHITECTURE.md says. Run by tests/compose/run."""
import json
import os
import re
import subprocess
import time

import pytest

PROJECT = os.environ.get("COMPOSE_PROJECT", "bulkheadtest")
HOSTS = ["one", "two", "postfix", "exim"]
USER = {"one": "alice", "two": "bob", "postfix": "box", "exim": "box"}


def container(host):
    out = subprocess.run(["docker", "ps", "-aq", "-f", "label=com.docker.compose.project=" + PROJECT,
                          "-f", "label=com.docker.compose.service=" + host], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    assert len(out) == 1, out
    return out[0]


def run(host, *argv, check=True, input=None):
    p = subprocess.run(["docker", "exec", "-i", container(host), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, input=input,
                       timeout=120)
    out = p.stdout.decode("utf-8", "replace")
    if check:
        assert p.returncode == 0, "%s %s: %s" % (host, argv, out)
    return out


def processes(host):
    """The processes of a host by their number there: their directories in our own /proc. (Inside, even root may not look at
    the root and the descriptors of other users' processes: containers have no CAP_SYS_PTRACE.)"""
    init = subprocess.run(["docker", "inspect", "-f", "{{.State.Pid}}", container(host)], stdout=subprocess.PIPE,
                          check=True).stdout.decode().strip()
    space, found = os.readlink("/proc/%s/ns/pid" % init), {}
    for p in os.listdir("/proc"):
        try:
            if p.isdigit() and os.readlink("/proc/%s/ns/pid" % p) == space:
                inside = re.search(r"^NSpid:.*?(\d+)$", open("/proc/%s/status" % p).read(), re.M).group(1)
                found[int(inside)] = "/proc/" + p
        except OSError:
            pass
    return found


def wait_for(what, limit=60, why=""):
    end = time.monotonic() + limit
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < end, why() if callable(why) else why or what
        time.sleep(0.25)


def mail_of(host):
    if host in ("one", "two"):
        return run(host, "sh", "-c", "cat /var/mail/%s/new/* 2>/dev/null || true" % USER[host])
    return run(host, "sh", "-c", "cat /var/mail/box 2>/dev/null || true")


def log_of(host):
    if host in ("one", "two"):
        return run(host, "sh", "-c", "tail -n 40 /var/log/bulkhead/mainlog; cat /var/log/bulkhead/paniclog 2>/dev/null; true")
    return subprocess.run(["docker", "logs", "--tail", "40", container(host)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout.decode("utf-8", "replace")


def status(host):
    return json.loads(run(host, "bulkhead", "status", "--json"))["daemons"]


def up(host):
    return "220" in run(host, "swaks", "--server", "127.0.0.1", "--quit-after", "CONNECT", check=False)


@pytest.fixture(scope="module", autouse=True)
def ready():
    for h in ("one", "two"):
        wait_for(lambda: up(h), 60, lambda: log_of(h) + subprocess.run(["docker", "logs", container(h)], stdout=subprocess.PIPE,
                                                                       stderr=subprocess.STDOUT).stdout.decode())


def submit(host, to, text):
    message = "From: tester@%s.test\nTo: %s\nSubject: %s\n\n%s\n" % (host, to, text, text)
    program = "sendmail" if host in ("one", "two", "postfix") else "/usr/sbin/exim4"
    run(host, program, "-f", "tester@%s.test" % host, to, input=message.encode())


@pytest.mark.parametrize("source", HOSTS)
@pytest.mark.parametrize("target", HOSTS)
def test_mail_crosses(source, target):
    text = "from %s to %s" % (source, target)
    submit(source, "%s@%s.test" % (USER[target], target), text)
    wait_for(lambda: "Subject: " + text in mail_of(target), 60, lambda: "%s\n---\n%s" % (log_of(source), log_of(target)))


def test_second_mx_when_the_first_is_dead():
    submit("one", "bob@backup.test", "by the second host")
    wait_for(lambda: "Subject: by the second host" in mail_of("two"), 60, lambda: log_of("one"))


def test_null_mx_and_unknown_domain_are_reported():
    submit("one", "x@nomail.test", "nobody takes mail")
    submit("one", "x@none.test", "no such domain")
    for to in ("x@nomail.test", "x@none.test"):
        wait_for(lambda: re.search(r"\*\* %s" % re.escape(to), log_of("one")), 60, lambda: log_of("one"))


def test_a_host_is_stopped_and_started():
    c = container("two")
    subprocess.run(["docker", "stop", "-t", "30", c], check=True, stdout=subprocess.DEVNULL)
    submit("one", "bob@two.test", "while two was away")
    submit("postfix", "bob@two.test", "postfix while two was away")
    wait_for(lambda: "== bob@two.test" in log_of("one"), 60, lambda: log_of("one"))
    subprocess.run(["docker", "start", c], check=True, stdout=subprocess.DEVNULL)
    for text in ("while two was away", "postfix while two was away"):
        wait_for(lambda: "Subject: " + text in mail_of("two"), 90, lambda: log_of("one") + log_of("two"))


@pytest.mark.parametrize("daemon", ["smtpd", "policyd", "router", "qmgr", "smtp-out"])
def test_a_killed_daemon_comes_back(daemon):
    before = {d["pid"] for d in status("one") if d["name"].split("/")[0] == daemon}
    assert before
    run("one", "kill", "-9", *[str(p) for p in before])
    wait_for(lambda: [d for d in status("one") if d["name"].split("/")[0] == daemon and d["pid"] not in before and d["state"] == "ready"],
             30, lambda: str(status("one")))
    wait_for(lambda: up("one"), 30)
    text = "after %s was killed" % daemon
    submit("two", "alice@one.test", text)
    wait_for(lambda: "Subject: " + text in mail_of("one"), 60, lambda: log_of("one") + log_of("two"))


# The design's table: uid by name, a root of its own, and what it must not have.
TABLE = {
    "smtpd": "bulkhead-smtpd",
    "policyd": "bulkhead-policyd",
    "router": "bulkhead-router",
    "qmgr": "bulkhead-qmgr",
    "smtp-out": "bulkhead-smtp-out",
}


@pytest.mark.parametrize("daemon", TABLE)
def test_privileges_are_what_the_table_says(daemon):
    uid = run("one", "id", "-u", TABLE[daemon]).strip()
    found = [d for d in status("one") if d["name"].split("/")[0] == daemon]
    assert found
    for d in found:
        text = run("one", "cat", "/proc/%d/status" % d["pid"])
        field = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))
        assert set(field["Uid"].split()) == {uid}, text
        assert "0" not in field["Gid"].split(), text
        assert field["NoNewPrivs"] == "1"
        assert field["Seccomp"] == "2"
        for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(field[cap], 16) == 0, text
        here = processes("one")[d["pid"]]
        seen = os.listdir(here + "/root/")
        assert not os.path.samefile(here + "/root/", processes("one")[1] + "/root/"), (daemon, seen)
        if daemon in ("smtpd", "policyd", "smtp-out"):
            assert seen == [], (daemon, seen)
        elif daemon == "qmgr":
            assert "queue" in seen and "etc" not in seen, seen
        else:
            assert not {"root", "home", "usr", "bin"} & set(seen), seen
        files = [os.readlink(here + "/fd/" + n) for n in os.listdir(here + "/fd")]
        assert len(files) > 3 and (daemon == "qmgr" or not [f for f in files if "spool" in f]), files


def test_master_alone_is_root():
    out = run("one", "ps", "-eo", "uid=,pid=,comm=")
    roots = [l.split()[2] for l in out.splitlines() if l.split()[0] == "0"]
    assert "master" in roots
    assert not set(roots) & set(TABLE), roots
