# SPDX-License-Identifier: ISC
"""Local transports beside Exim's: each case of tests/differential/transport is one transport that both sides run on the same messages.
What is compared: how each delivery ended (the flag and the words of its log line), every file, directory, mode and octet that came of
it, and the messages that were sent in turn. Ids, dates, unique names and the names of logins are made equal first. What differs on purpose is in
transport.differences: the case, a tab, what differs (result, files, sent), a tab, the reason."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest

from bulkhead import TOP, UID_BASE, Instance, read, wait_for
from oracle import Oracle

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="local deliveries under a uid of their own need root")

CORPUS = os.path.join(TOP, "tests/differential/transport")
CASES_LEAST = 190
UID = UID_BASE + 50
MESSAGE = b"""From: Ann <a@client.example>
To: joe@local.example
Subject: one
X-Secret: hidden
X-Fold: first
\tsecond
Date: Fri, 01 Mar 2024 10:00:00 +0000
Message-ID: <m1@client.example>

"""
BODIES = {
    "plain": b"line one\nline two\n",
    "from": b"From here\n>From there\nfrom\n.\n..\n.dot\nFrom\n\nFrom last\n",
    "empty": b"",
    "big": b"0123456789012345678901234567890123456789012345678901234567890123456789\n" * 400,
    "eight": b"caf\xc3\xa9 \xe9\n\ttab\n",
}
MAIN = """
primary_hostname = mx.test.example
qualify_domain = mx.test.example
received_header_text =
never_users = root
acl_smtp_rcpt = accept
log_selector = +all_parents
timezone = UTC
"""
OURS = """
spool_directory = {dir}/spool
run_directory = {dir}/run
hints_directory = {dir}/hints
log_file_path = {dir}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
lookup_directories = {dir}
store_directories = {dir}
{identity}
"""
THEIRS = """
log_file_path = {dir}/log/%slog
trusted_users = root
keep_environment =
unknown_login = mail
unknown_username = Mail
"""
ROUTER = """
r{case}:
  driver = accept
  domains = {case}.test
  transport = {case}
{more}
s{case}:
  driver = accept
  domains = {case}.client
  transport = s{case}
"""
SENT = """
s{case}:
  driver = appendfile
  file = {top}/sent/{case}
  message_prefix = "=== $sender_address > $local_part@$domain\\n"
  message_suffix =
  check_string =
  escape_string =
  user = {uid}
  group = {uid}
"""


class Case:
    """name; before: shell commands run in its folder; router, transport: lines of options; messages: (body, recipients, sender)."""
    remote = False

    def __init__(self, name):
        self.name, self.before, self.router, self.transport, self.extra, self.messages = name, [], [], [], [], []

    def add(self, line):
        word, _, rest = line.partition(" ")
        if word in ("before", "router", "extra"):
            getattr(self, word).append(rest)
        elif word == "message":
            words = rest.split()
            body, to, sender = words + ["plain", "joe", "a"][len(words):]
            self.messages.append((body, to.split(","), sender))
        else:
            self.transport.append("  " + line)


def read_cases(corpus=CORPUS, make=Case):
    cases = []
    for line in open(corpus).read().split("\n"):
        if line.startswith("== "):
            cases.append(make(line[3:]))
        elif line.strip() and not line.startswith("#"):
            cases[-1].add(line)
    for c in cases:
        c.messages = c.messages or [("plain", ["joe"], "a")]
    return cases


def read_differences(corpus=CORPUS):
    known = {}
    path = corpus + ".differences"
    for line in open(path).read().split("\n") if os.path.exists(path) else []:
        if line.strip() and not line.startswith("#"):
            case, what, reason = line.split("\t")
            known[(case, what)] = reason
    return known


CASES, DIFFERENCES = read_cases(), read_differences()


def configuration(cases, head, top):
    routers, transports = "", ""
    for c in cases:
        box = os.path.join(top, c.name)
        values = {"case": c.name, "box": box, "uid": str(UID), "more": "".join("  %s\n" % r for r in c.router + ([] if any(r.startswith("local_parts") for r in c.router) else ["local_parts = joe : ann : bob"])), "top": top}

        def fill(text):
            return re.sub(r"\{(%s)\}" % "|".join(values), lambda m: values[m.group(1)], text)
        login = "" if c.remote or any(re.match(r"\s*user\b", t) for t in c.transport) else "  user = {uid}\n  group = {uid}\n"
        routers += fill(ROUTER)
        transports += fill("\n%s:\n%s\n%s%s%s" % (c.name, "\n".join(c.transport), login, SENT, "\n".join(e.replace("\\n", "\n") for e in c.extra)))
    return "%s%s\nbegin routers\n%s\nbegin transports\n%s\nbegin retry\n* * F,4d,1h\n" % (MAIN, head, routers, transports)


def prepare(cases, top):
    os.makedirs(top + "/sent")
    os.chown(top + "/sent", UID, UID)
    for c in cases:
        box = os.path.join(top, c.name)
        os.makedirs(box)
        os.chown(box, UID, UID)
        for command in c.before:
            subprocess.run(["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "sh", "-c", "umask 022\n" + command.replace("{box}", box)],
                           check=True, cwd=box)


def content(m):
    return MESSAGE + BODIES[m[0]]


# ---- the two sides ----

class Ours:
    def __init__(self, cases, top):
        self.top = top
        self.i = Instance(directory=top, config=configuration(cases, OURS, top))
        prepare(cases, top)
        self.i.start()
        for c in cases:
            for m in c.messages:
                self.deliver(c, m)
        self.rest()

    def deliver(self, c, m):
        sender = "%s@%s.client" % (m[2], c.name) if m[2] != "<>" else ""
        mid = self.i.send(sender, ["%s@%s.test" % (r, c.name) for r in m[1]], content(m).replace(b"\n", b"\r\n"))
        self.i.wait_log(r"%s (Completed|\S+ .* defer \()" % mid, limit=10)

    def rest(self):
        """Bounces and replies have gone out, too: what is left was put off."""
        wait_for(lambda: not [m for m in self.i.queue() if not re.search(r"%s == " % m["id"], self.i.log())], 40, 0.2)

    def log(self):
        return self.i.log()

    def close(self):
        self.i.stop()


class Theirs:
    def __init__(self, cases, top, tmp_path):
        self.top = top
        os.makedirs(top + "/log")
        prepare(cases, top)
        self.oracle = Oracle(tmp_path, [top])
        self.oracle.write("/etc/exim4/exim4.conf", configuration(cases, THEIRS, top).replace("{dir}", top))
        uid = subprocess.run(["chroot", self.oracle.lower, "id", "-u", "Debian-exim"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        subprocess.run(["chown", uid, top + "/log"], check=True)
        # One command for all: a mount namespace for each would take most of the time.
        script = ["cd /", "set -e"]
        for c in cases:
            for n, m in enumerate(c.messages):
                path = os.path.join(top, "log", "%s.%d" % (c.name, n))
                with open(path, "wb") as f:
                    f.write(content(m))
                sender = "%s@%s.client" % (m[2], c.name) if m[2] != "<>" else "<>"
                script.append("exim4 -odf -oi -f '%s' %s < %s" % (
                    sender, " ".join("%s@%s.test" % (r, c.name) for r in m[1]), path))
        script += ["sleep 1", "exim4 -q"]  # replies and reports may still be under way
        with open(top + "/log/script", "w") as f:
            f.write("\n".join(script) + "\n")
        done = self.oracle.run([top + "/log/script"], program="sh", timeout=600)
        assert done.returncode == 0, done.stderr.decode()[-3000:]

    def log(self):
        return read(self.top + "/log/mainlog")

    def close(self):
        pass


# ---- what came of it, made comparable ----

def plain(text, top):
    text = text.replace(top, "TOP")
    text = re.sub(r"\b[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}\b", "ID", text)
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), +\d+ \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}\b", "DATE", text)
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} +\d+ \d\d:\d\d:\d\d \d{4}\b", "DATE", text)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", text)


def file_name(name):
    name = re.sub(r"^\d{9,11}\.[MH][A-Z0-9]+\.mx\.test\.example", "NAME", name)
    name = re.sub(r"^in-(\d{2,})-\1-", "in-INODE-INODE-", name)
    return re.sub(r"^q[0-9A-Za-z]{6}-\d+", "QNAME", name)


def tree(top, case):
    box, found = os.path.join(top, case), []
    for base, folders, files in os.walk(box):
        for n in folders + files:
            p = os.path.join(base, n)
            st = os.lstat(p)
            shown = os.path.join(os.path.relpath(base, box), file_name(n))
            kind = "dir" if n in folders else "file"
            if os.path.islink(p) or not os.path.isfile(p):
                kind += " " + (os.readlink(p).replace(top, "TOP") if os.path.islink(p) else "")
                text = ""
            else:
                text = plain(open(p, "rb").read().decode("latin-1"), top)
            found.append("%s %s %04o %d\n%s" % (os.path.normpath(shown), kind, st.st_mode & 0o7777, st.st_uid == UID, text))
    return sorted(found)


def sent(top, case):
    """Recipients and, but for bounces, the text of what was sent in turn."""
    path = os.path.join(top, "sent", case)
    text = plain(open(path, "rb").read().decode("latin-1"), top) if os.path.exists(path) else ""
    out = []
    for m in re.split(r"(?m)^(?==== )", text):
        if re.search(r"(?m)^X-Failed-Recipients:", m):
            m = m.split("\n", 1)[0] + "\nreport"
        elif m:
            head, _, body = m.partition("\n\n")
            line, _, head = head.partition("\n")
            fields = [re.sub(r": +", ": ", f, count=1) for f in re.sub(r"\n[ \t]+", " ", head).split("\n")]
            fields = sorted(re.sub(r"^From: .*(MAILER-DAEMON|mail)@mx\.test\.example\W*$", "From: login", f) for f in fields
                            if not re.match(r"Message-Id:|Sender:", f, re.I))
            m = "\n".join([line] + fields) + "\n\n" + body
        out.append(m)
    return sorted(o for o in out if o)


def results(log, top, case):
    """How each delivery ended: flag, address, and for a success router, transport and shadow; what commands wrote, where it is logged."""
    out = []
    for line in plain(log, top).split("\n"):
        m = re.match(r"DATE ID (=>|->|\*\*|==|>>|\*>) (.*?) R=r%s( .*|:.*|$)" % case, line)
        if m and "Retry time not yet reached" not in line:
            out.append("%s %s%s" % (m.group(1), m.group(2), re.sub(r" \(.*\)$", " (error)", m.group(3)) if m.group(1) in ("=>", "->") else ""))
        m = re.match(r"DATE ID (<\S+@%s\.test>: .* transport output: .*)" % case, line)
        if m:
            out.append(m.group(1))
    return sorted(o for i, o in enumerate(out) if not (o.startswith("== ") and o in out[:i]))  # Exim may have tried again


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("transports")
    p = tmp
    while len(str(p)) > 4:
        os.chmod(str(p), 0o755)
        p = p.parent
    tops = [tempfile.mkdtemp(prefix="bulkhead-test-%s-" % w) for w in ("us", "ex")]
    for t in tops:
        os.chmod(t, 0o755)
    theirs = Theirs(CASES, tops[1], tmp)
    ours = Ours(CASES, tops[0])
    yield ours, theirs
    ours.close()
    if not os.environ.get("BULKHEAD_KEEP"):
        for t in tops:
            shutil.rmtree(t, ignore_errors=True)


def test_corpus_is_whole():
    names = [c.name for c in CASES]
    assert len(names) >= CASES_LEAST and len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+", n) for n in names)
    assert {case for case, _ in DIFFERENCES} <= set(names)


@pytest.mark.parametrize("case", [c.name for c in CASES])
def test_transport(both, case):
    ours, theirs = both
    wrong = []
    for what, us, ex in (("result", results(ours.log(), ours.top, case), results(theirs.log(), theirs.top, case)),
                         ("files", tree(ours.top, case), tree(theirs.top, case)),
                         ("sent", sent(ours.top, case), sent(theirs.top, case))):
        if (us == ex) == ((case, what) in DIFFERENCES):
            wrong.append("%s %s:\n--- ours\n%s\n--- Exim\n%s" % (what, "is equal now" if us == ex else "differs", "\n".join(us), "\n".join(ex)))
    assert results(theirs.log(), theirs.top, case), "Exim did nothing"
    assert not wrong, "\n".join(wrong)
