# SPDX-License-Identifier: ISC
"""Routing, case by case, through `exim -bt` (-bv, -bvs) of Debian and through `bulkhead route`: tests/differential/route. Both run in
a network namespace of the test's own, where nsd serves the zones on 127.0.0.1:53, with the same logins and host table."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

import pytest

from bulkhead import BIN, TOP
from oracle import Oracle

CASES = os.path.join(TOP, "tests/differential/route")
MODES = {"bt": ["-bt"], "bv": ["-bv"], "bvs": ["-bvs"]}
OURS = {"bt": [], "bv": ["--verify-recipient"], "bvs": ["--verify-sender"]}

pytestmark = pytest.mark.skipif(not (os.geteuid() == 0 and shutil.which("nsd") and shutil.which("ip") and shutil.which("unshare")),
                                reason="root, nsd, ip and unshare are needed")


class Group:
    """A configuration and what is asked of it."""
    def __init__(self, file, name):
        self.file, self.name = file, name
        self.parts = {"main": "", "routers": "", "transports": "", "rewrite": ""}
        self.runs = []          # (mode, sender, addresses)


def groups_read(path):
    groups, part = [], None
    for line in open(path):
        head = re.match(r"==== (\S.*)$", line)
        mark = re.match(r"\[(\w+)(?: -f (\S+))?\]$", line)
        if head:
            groups.append(Group(os.path.basename(path), head.group(1)))
            part = None
        elif mark and mark.group(1) in MODES:
            part = []
            groups[-1].runs.append((mark.group(1), mark.group(2), part))
        elif mark:
            part = mark.group(1)
            assert part in groups[-1].parts, "%s: [%s]" % (path, part)
        elif isinstance(part, list):
            if line.strip() and not line.startswith("#"):
                part.append(line.strip())
        elif part:
            groups[-1].parts[part] += line
    return groups


def config(group, folder):
    def common(name):
        return open(os.path.join(CASES, name)).read()
    text = common("main.conf") + group.parts["main"] + "begin routers\n" + group.parts["routers"] + "begin transports\n" + common("transports.conf") + \
        group.parts["transports"]
    if group.parts["rewrite"]:
        text += "begin rewrite\n" + group.parts["rewrite"]
    return text.replace("DIR", folder)


# ---- what was said, in one form: a list of lines for each address asked ----

def reasons_read():
    """What is the same, worded differently: Exim's words, ours (regular expressions)."""
    out = []
    for line in open(os.path.join(CASES, "route.reasons")):
        if line.strip() and not line.startswith("#"):
            theirs, ours = line.rstrip("\n").split(" ## ")
            out.append((theirs, ours))
    return out


REASONS = reasons_read()


def reasons_agree(theirs, ours):
    return any(re.fullmatch(t, theirs) and re.fullmatch(o, ours) for t, o in REASONS)


PORTS = {"smtp2": "2525"}                      # of the transports; others: 25
LOCAL = ("local", "local2", "homed", "tofile", "todir", "topipe")


def hosts_plain(transport, hosts):
    """Without what one side alone says: the transport's own port, hosts of a local transport, hosts that were not found."""
    if transport in LOCAL:
        return []
    return [[h[0], h[1], "" if h[2] == PORTS.get(transport, "25") else h[2]] for h in hosts if h[1] != "unknown"]


def exim_answers(text, mode):
    """[(final, parents, router, transport, hosts, state, reason)] of all addresses, in the order said."""
    out, now = [], None
    for line in text.split("\n"):
        if line.startswith("    <-- "):
            now["parents"].append(line[8:])
        elif re.match(r"\s+router = ", line) or re.match(r"\s+transport = ", line):
            m = re.match(r"\s+(?:router = (\S+), )?transport = (\S+)", line)
            now["router"], now["transport"] = m.group(1), m.group(2)
        elif re.match(r"\s+host ", line):
            m = re.match(r"\s+host (\S+)\s+\[([^\]]*)\](.*)", line) or re.match(r"\s+host (\S+)()(.*)", line)
            now["hosts"].append([m.group(1).rstrip(".").strip("[]"), m.group(2), (re.findall(r"port=(\d+)", m.group(3)) or [""])[0]])
        elif line.startswith("*** Error in setting up"):
            now.update(state="defer", reason="transport")
        elif line.startswith(("LOG: ", "Address rewritten as: ")) or re.match(r"(\w+_transport unset|failed to expand transport|transport \".*\" not found) ", line) or line.startswith("     ") or not line.strip():
            continue
        else:
            now = {"parents": [], "router": None, "transport": None, "hosts": [], "state": "deliver", "reason": ""}
            m = re.match(r"(.*?) is undeliverable(?:: (.*))?$", line) or re.match(r"(.*?) failed to verify(?:: (.*))?$", line)
            if m:
                now.update(state="fail", final=m.group(1), reason=m.group(2) or "")
            elif re.match(r"(.*?) cannot be resolved at this time", line):
                m = re.match(r"(.*?) cannot be resolved at this time(?:: (.*))?$", line)
                now.update(state="defer", final=m.group(1), reason=m.group(2) or "")
            elif line.startswith("mail to "):
                now.update(state="discard", final=re.match(r"mail to (.*) is discarded", line).group(1))
            elif line.startswith("syntax error: "):
                now.update(state="fail", final="", reason=line)
            elif line.endswith(" verified"):
                now.update(final=line[:-9], state="deliver")
            else:
                final = re.sub(r"\s+\[duplicate, would not be delivered\]$", "", line)
                if final.endswith(" *** forbidden ***"):
                    final = final[:-18]
                    now.update(state="defer", reason="forbidden")
                now["final"] = final
                if " -> " in final:
                    parent, final = final.split(" -> ", 1)
                    now["final"] = final
                    now["parents"].insert(0, parent)
            out.append(now)
    return out


def ours_answers(rows, mode):
    out = []
    for r in rows:
        now = {"final": r["parents"][0] if mode != "bt" and r["parents"] else r["address"], "parents": list(reversed(r["parents"])), "router": r["router"] or None, "transport": r.get("transport"),
               "hosts": [], "state": r["outcome"], "reason": r["text"] or ""}
        for h in r["hosts"]:
            now["hosts"].append([h["name"], h["ip"], str(h["port"])])
        out.append(now)
    return out


def lines(answers, mode):
    """Order among the children of an address is the queue's affair; that of hosts is not."""
    out = set()
    for n in answers:
        # a copy by `unseen` is a child of the same name there
        chain = [n["final"]] + n["parents"]
        n["parents"] = [p for i, p in enumerate(chain) if i and p != chain[i - 1]]
        if n["reason"].startswith("syntax error: "):
            n["final"] = ""
        if n["final"][:1] not in "/|" and "@" in n["final"]:
            local, domain = n["final"].rsplit("@", 1)
            n["final"] = local + "@" + domain.lower()
        if n["final"][:1] in ("/", "|") and n["state"] == "defer" and n["parents"]:
            n["final"], n["parents"] = n["parents"][0], n["parents"][1:]
        if mode != "bt":
            reason = " | " + " ".join(n["reason"].split()) if n["state"] not in ("deliver", "discard") else ""
            out.add("%s %s%s" % ("ok" if n["state"] in ("deliver", "discard") else n["state"], n["final"], reason))
        elif n["state"] == "deliver":
            hosts = " ".join("%s[%s]%s" % (h[0], h[1], ":" + h[2] if h[2] else "") for h in hosts_plain(n["transport"], n["hosts"]))
            path = n["final"][:1] in "/|"
            out.add("deliver %s%s %s/%s %s" % (n["final"], "".join(" < " + p for p in (n["parents"][:1] if path else n["parents"])),
                                               "-" if path else n["router"], n["transport"], hosts))
        elif n["state"] == "discard":
            out.add("discard %s" % n["final"])
        else:
            out.add("%s %s%s | %s" % (n["state"], n["final"], "".join(" < " + p for p in n["parents"]), " ".join(n["reason"].split())))
    return out


# ---- the world that both see ----

class World:
    def __init__(self):
        # not below pytest's folder, which each other run of pytest closes to other logins
        self.dir = tempfile.mkdtemp(prefix="bulkhead-route-")
        os.chmod(self.dir, 0o755)
        self.files = os.path.join(self.dir, "files")
        shutil.copytree(os.path.join(CASES, "files"), self.files)
        for base, _, names in os.walk(self.files):
            os.chmod(base, 0o755)
            for n in names:
                p = os.path.join(base, n)
                text = open(p).read().replace("DIR", self.files)
                open(p, "w").write(text)
                os.chmod(p, 0o644)
        special = {"open.forward": 0o666, "group.forward": 0o664, "ask": 0o755}
        for name, mode in special.items():
            os.chmod(os.path.join(self.files, name), mode)
        os.chown(os.path.join(self.files, "joe.forward"), 1001, 1001)
        os.chown(os.path.join(self.files, "group.forward"), 1001, 1001)
        self.netns = "bhroute%d" % os.getpid()
        self.nsd = None

    def start(self):
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        subprocess.run(["ip", "netns", "exec", self.netns, "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "netns", "exec", self.netns, "ip", "addr", "add", "192.0.2.99/32", "dev", "lo"], check=True)
        conf = os.path.join(self.dir, "nsd.conf")
        with open(conf, "w") as f:
            f.write("server:\n ip-address: 127.0.0.1\n port: 53\n username: \"\"\n chroot: \"\"\n zonesdir: %s\n pidfile: %s/nsd.pid\n"
                    " xfrdfile: %s/xfrd\n zonelistfile: %s/zonelist\n database: \"\"\n verbosity: 0\n server-count: 1\n"
                    "remote-control:\n control-enable: no\n"
                    "zone:\n name: .\n zonefile: zone\n"
                    "zone:\n name: servfail.test\n zonefile: missing\n" % (CASES, self.dir, self.dir, self.dir))
        self.log = open(os.path.join(self.dir, "nsd.log"), "wb")
        self.nsd = subprocess.Popen(["ip", "netns", "exec", self.netns, "nsd", "-d", "-c", conf], stdout=self.log, stderr=self.log)
        for _ in range(200):
            probe = subprocess.run(["ip", "netns", "exec", self.netns, "/usr/bin/python3", "-c",
                                    "import socket; s = socket.create_connection(('127.0.0.1', 53), 1)"], stderr=subprocess.DEVNULL)
            if probe.returncode == 0:
                return
            assert self.nsd.poll() is None, open(os.path.join(self.dir, "nsd.log")).read()
            time.sleep(0.05)
        raise AssertionError("nsd does not answer")

    def stop(self):
        if self.nsd:
            self.nsd.terminate()
            self.nsd.wait()
        subprocess.run(["ip", "netns", "del", self.netns])
        shutil.rmtree(self.dir, ignore_errors=True)

    def system_file(self, name):
        return open(os.path.join(CASES, "system", name)).read()

    def ours(self, conf, args):
        """`bulkhead route`, with the machine's files replaced in a mount namespace that ends with it."""
        steps = ["mount --bind %s/system/%s /etc/%s" % (CASES, n, n) for n in ("passwd", "group", "resolv.conf", "hosts")]
        steps.append('exec "$0" "$@"')
        return subprocess.run(["ip", "netns", "exec", self.netns, "unshare", "-m", "--propagation", "private", "sh", "-c", " && ".join(steps), BIN, "-C", conf,
                               "route"] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


@pytest.fixture(scope="module")
def world():
    w = World()
    try:
        w.start()
        w.oracle = Oracle(w.dir, shared=[w.files])
        for n in ("passwd", "group", "resolv.conf", "hosts"):
            w.oracle.write("/etc/" + n, w.system_file(n))
        yield w
    finally:
        w.stop()


def differences_read():
    """GROUP | MODE | what Exim says | what we say (regular expressions both; - for nothing) | reason"""
    out = []
    path = os.path.join(CASES, "route.differences")
    for line in open(path):
        if line.strip() and not line.startswith("#"):
            parts = [p.strip() for p in line.rstrip("\n").split(" ## ")]
            assert len(parts) == 4, line
            out.append(parts)
    return out


USED = set()


def allowed(diffs, group, exim, ours):
    """A line of one side, or a pair of them, that a row explains."""
    for row in diffs:
        if not re.fullmatch(row[0], group.file.split(".")[0] + "/" + group.name):
            continue
        e = [x for x in exim if re.fullmatch(row[1], x)] if row[1] != "-" else []
        o = [x for x in ours if re.fullmatch(row[2], x)] if row[2] != "-" else []
        if (e or row[1] == "-") and (o or row[2] == "-"):
            exim -= set(e)
            ours -= set(o)
            USED.add(tuple(row))


def agree(e, o):
    """What remains of both sides."""
    only_e, only_o = e - o, o - e
    same = [(x, y) for x in only_e for y in only_o if " | " in x and " | " in y and x.split(" | ", 1)[0] == y.split(" | ", 1)[0] and
            reasons_agree(x.split(" | ", 1)[1], y.split(" | ", 1)[1])]
    only_e -= {x for x, _ in same}
    only_o -= {y for _, y in same}
    # one address by two ways from one recipient: theirs are both shown, ours is the first
    def ends(x):
        chain = x.split(" | ")[0].split(" < ")
        return chain[0], chain[-1]
    known = {ends(x) for x in o if " < " in x}
    return {x for x in only_e if not (x.startswith("deliver ") and ends(x) in known)}, only_o


RUN = set()
ALL = sorted(glob.glob(os.path.join(CASES, "*.groups")))


@pytest.mark.parametrize("path", ALL, ids=[os.path.basename(p) for p in ALL])
def test_route(world, path):
    wrong, n, diffs = [], 0, differences_read()
    RUN.add(path)
    for group in groups_read(path):
        text = config(group, world.files)
        conf = os.path.join(world.dir, "bulkhead.conf")
        for mode, sender, addresses in group.runs:
            n += len(addresses)
            done = world.oracle.run(MODES[mode] + (["-f", sender] if sender else []) + addresses, conf=text, netns=world.netns)
            said = done.stdout.decode("utf-8", "surrogateescape")
            with open(conf, "w") as f:
                f.write(text)
            ours = world.ours(conf, OURS[mode] + ["--json"] + (["-s", sender] if sender else []) + ["--"] + addresses)
            where = "%s: %s [%s]" % (group.file, group.name, mode)
            try:
                rows = json.loads(ours.stdout)
            except ValueError:
                rows = None
            if rows is None or not said:
                wrong.append("%s: no answer; exim: %s%s; ours: %s" % (where, said[:200], done.stderr.decode()[-300:], ours.stderr.decode()[-800:]))
                continue
            e, o = lines(exim_answers(said, mode), mode), lines(ours_answers(rows, mode), mode)
            only_e, only_o = agree(e, o)
            allowed(diffs, group, only_e, only_o)
            if only_e or only_o:
                wrong.append("\n".join([where] + ["  exim: " + x for x in sorted(only_e)] + ["  ours: " + x for x in sorted(only_o)]))
            elif done.returncode != ours.returncode and not (only_e or only_o) and e == o:
                wrong.append("%s: exit code: exim %d, ours %d" % (where, done.returncode, ours.returncode))
    assert n > 0
    assert not wrong, "%d of the runs differ:\n%s" % (len(wrong), "\n".join(wrong))


def test_differences_are_needed():
    """A row that explains nothing hides the next real difference."""
    if RUN != set(ALL):
        pytest.skip("not all groups were run")
    assert [row for row in differences_read() if tuple(row) not in USED] == []


def test_corpus_size():
    n = sum(len(addresses) for path in ALL for group in groups_read(path) for _, _, addresses in group.runs)
    assert n >= 150, n
