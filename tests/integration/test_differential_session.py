# SPDX-License-Identifier: ISC
"""ACLs in whole sessions: `bulkhead session` beside `exim -bh`. Each file of tests/differential/session/ is a configuration with sessions;
each command of a session is a case. Codes must be equal, and so must texts and log lines that the configuration sets: they begin with
"T:". What differs on purpose is in session.differences: the case, two blanks, the reason."""
import concurrent.futures
import os
import re
import subprocess

import pytest

from bulkhead import BIN, TOP
from dns_zone import Zone, have_nsd
from oracle import Oracle

FOLDER = os.path.join(TOP, "tests/differential/session")
CASES_LEAST = 150

MAIN = """
primary_hostname = mx.test.example
domainlist local_domains = local.example
host_lookup =
smtp_accept_max_nonmail = 1000
smtp_max_unknown_commands = 100
smtp_max_synprot_errors = 1000
log_selector = +all_parents
"""
ROUTERS = """
forward:
  driver = redirect
  domains = +local_domains
  local_parts = alias : broken
  data = ${if eq{$local_part}{alias}{ann@local.example}{nobody@local.example}}
two:
  driver = redirect
  domains = +local_domains
  local_parts = two
  data = ann@local.example, bob@local.example
gone:
  driver = redirect
  domains = +local_domains
  local_parts = gone : later
  allow_fail
  allow_defer
  data = ${if eq{$local_part}{gone}{:fail: T:moved away}{:defer: T:come later}}
local:
  driver = accept
  domains = +local_domains
  local_parts = ann : bob : cyd : postmaster
  address_data = T:data of $local_part
  transport = t
"""
OURS = """
spool_directory = {dir}/spool
run_directory = {dir}/run
hints_directory = {dir}/hints
log_file_path = {dir}/%slog
dns_resolvers = {dns}
lookup_directories = {files}
"""
THEIRS = """
log_file_path = /var/log/exim4/%slog
dns_retry = 1
dns_retrans = 1s
"""


def sections(path):
    """[(name, argument, lines)] of a file; lines before the first section are comments."""
    out = []
    for line in open(path).read().split("\n"):
        m = re.match(r"\[(\w+) ?(.*)\]$", line)
        if m:
            out.append((m.group(1), m.group(2), []))
        elif out:
            out[-1][2].append(line)
    return out


def configuration(parts, ours, **values):
    own = {name: "\n".join(lines) for name, _, lines in parts if name != "session"}
    text = "%s%s%s\nbegin acl\n%s\nbegin routers\n%s\nbegin transports\nt:\n  driver = appendfile\n  file = /var/mail/test\n  user = nobody\n" \
        "begin retry\n* * F,1h,1h\n" % (MAIN, OURS if ours else THEIRS, own.get("main", ""), own["acl"], own.get("routers", ROUTERS))
    for k, v in values.items():
        text = text.replace("{%s}" % k, v)
    return text


def commands(lines):
    """What the client says, and for each reply the command that it answers (the greeting comes first)."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    asked, data = ["(connect)"], False
    for i, line in enumerate(lines):
        if data:
            data = line != "."
            if not data:
                asked.append("(end of data)")
            continue
        asked.append(line)
        # Behind a DATA that is refused there is no content, but the next command.
        data = line == "DATA" and not re.match(r"(RCPT|RSET|NOOP|QUIT|MAIL|DATA)", lines[i + 1] if i + 1 < len(lines) else "QUIT")
    return lines, asked


def replies(text):
    """[(code, text)]: several lines joined by LF, enhanced codes taken off."""
    out, rest = [], []
    for line in text.replace("\r", "").split("\n"):
        m = re.match(r"(\d\d\d)([ -]|$)(.*)", line)
        if not m or line.endswith("lost input connection"): # Exim's word to nobody, at the end of the input
            continue
        rest.append(re.sub(r"^[245]\.\d+\.\d+ ", "", m.group(3)).rstrip())
        if m.group(2) != "-":
            out.append((m.group(1), "\n".join(rest)))
            rest = []
    return out


def log_lines(text):
    """What ACLs wrote: from "T:" on."""
    lines = []
    for line in text.replace("\r", "").split("\n"):
        if line.startswith("LOG: ") and "T:" in line:
            lines.append(line[line.index("T:"):].rstrip())
    return sorted(lines) # those of smtpd and those of policyd may come in either order


def answers(asked, got):
    """A reply for each command, and none that nobody asked for."""
    asked = asked + ["(unasked)"] * (len(got) - len(asked))
    return {(i, c): got[i] if i < len(got) else ("none", "") for i, c in enumerate(asked)}


class Reference:
    def __init__(self, tmp_path):
        self.zone = Zone(str(tmp_path))
        self.files = os.path.join(str(tmp_path), "files")
        os.makedirs(self.files)
        os.chmod(str(tmp_path), 0o755)
        for name, text in (("domains", "one.example\n*.two.example\n"), ("table", "ann: T:table ann\nbob: no\n"),
                           ("included", "  deny message = T:from a file\n       local_parts = infile\n  accept\n")):
            with open(os.path.join(self.files, name), "w") as f:
                f.write(text)
        self.oracles = []
        for i in range(2):
            d = os.path.join(str(tmp_path), "oracle%d" % i)
            os.makedirs(d)
            o = Oracle(d, [self.files])
            o.write("/etc/resolv.conf", "nameserver %s\noptions timeout:1 attempts:1\n" % self.zone.address)
            self.oracles.append(o)

    def close(self):
        self.zone.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    if os.geteuid() != 0 or not have_nsd():
        pytest.skip("needs root and nsd")
    r = Reference(tmp_path_factory.mktemp("session"))
    yield r
    r.close()


def run_file(reference, oracle, tmp_path, name):
    """{case: (Exim's, ours)} of a file."""
    parts = sections(os.path.join(FOLDER, name))
    values = dict(dir=str(tmp_path), files=reference.files, dns=reference.zone.address)
    conf = os.path.join(str(tmp_path), name + ".conf")
    with open(conf, "w") as f:
        f.write(configuration(parts, True, **values))
    theirs = configuration(parts, False, **values)
    out = {}
    for number, (_, argument, lines) in enumerate([p for p in parts if p[0] == "session"], 1):
        words = argument.split()
        ip = words[0] if words else "192.0.2.1"
        said, asked = commands(lines)
        stdin = "".join(line + "\r\n" for line in said)
        e = oracle.run(["-bh", ip], stdin, theirs)
        b = subprocess.run([BIN, "-C", conf, "session", ip], input=stdin.encode("latin-1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        ours_err, exim_err = b.stderr.decode("utf-8", "replace"), e.stderr.decode("utf-8", "replace")
        assert b.returncode == 0, "%s: %s" % (name, ours_err)
        exim = replies(e.stdout.decode("latin-1"))
        assert exim, "%s: %s" % (name, exim_err)
        if os.environ.get("SESSION_SHOW"):
            print(e.stdout.decode("latin-1"), exim_err, b.stdout.decode("latin-1"), ours_err, sep="\n=====\n")
        ours = replies(b.stdout.decode("latin-1"))
        base = "%s/%d" % (name.replace(".session", ""), number)
        theirs_by, ours_by = answers(asked, exim), answers(asked, ours)
        for i, command in {**theirs_by, **ours_by}:
            nothing = ("none", "")
            out["%s/%d %s" % (base, i, command)] = (theirs_by.get((i, command), nothing), ours_by.get((i, command), nothing))
        out[base + " log"] = (("log", "\n".join(log_lines(exim_err))), ("log", "\n".join(log_lines(ours_err))))
    return out


def same(exim, ours, case=""):
    if exim[0] != ours[0]:
        return False
    if exim[0] == "log":
        return exim[1] == ours[1]
    if " EHLO " in case: # the extensions are each server's own
        return exim[1].split("\n")[0] == ours[1].split("\n")[0]
    return exim[1] == ours[1] if "T:" in exim[1] + ours[1] else True


def differences():
    table = {}
    for line in open(os.path.join(FOLDER, "session.differences")):
        if line.strip() and not line.startswith("#"):
            case, reason = line.rstrip("\n").split("  ", 1)
            table[case] = reason.strip()
    return table


def test_sessions(reference, tmp_path):
    names = sorted(n for n in os.listdir(FOLDER) if n.endswith(".session"))
    only = os.environ.get("SESSION_ONLY")
    names = [n for n in names if not only or only in n]
    known, wrong, cases, results = differences(), [], 0, {}

    def work(i):
        mine = {}
        for n in names[i::2]:
            mine.update(run_file(reference, reference.oracles[i], tmp_path, n))
        return mine
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for mine in pool.map(work, range(2)):
            results.update(mine)
    for case, (exim, ours) in sorted(results.items()):
        cases += 1
        if same(exim, ours, case):
            if case in known:
                wrong.append("%s: no longer different, take it out of the table" % case)
        elif case not in known:
            wrong.append("%s:\n   Exim %s\n   ours %s" % (case, exim, ours))
    assert not wrong, "%d of %d cases:\n%s" % (len(wrong), cases, "\n".join(wrong))
    assert only or cases >= CASES_LEAST, cases
    assert only or not set(known) - set(results), "in the table, but no case: %s" % (set(known) - set(results))
