# SPDX-License-Identifier: ISC
"""Lookups and lists, compared with Debian's Exim: the cases of tests/differential/lists."""
import dbm.ndbm
import glob
import os
import shutil
import sqlite3
import subprocess

import pytest

from bulkhead import TOP
from oracle import MARK, Oracle, bulkhead_expand

CASES = os.path.join(TOP, "tests/differential/lists")
LISTS = """
primary_hostname = mx.test.example
local_interfaces = 127.0.0.1
domainlist named = a.example : *.sub.example
domainlist nested = +named : third.example
domainlist neg = !a.example
addresslist people = *@a.example : boss@top.example
localpartlist names = ann : bob
hostlist hosts = 1.2.3.4 : 10.0.0.0/8
"""


def text_of(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def dbm_make(oracle, d):
    """t.dbm and nozero.dbm by Exim's own program; joined.db with keys like those of Cyrus SASL."""
    for options, name in (([], "t.dbm"), (["-nolc", "-nozero"], "nozero.dbm")):
        done = oracle.run([*options, "%s/keys.dbm" % d, "%s/%s" % (d, name)], program="exim_dbmbuild")
        assert done.returncode == 0, done.stderr
    with dbm.ndbm.open("%s/joined" % d, "n") as db:
        for key, value in ((b"u\0r\0userPassword", b"secret"), (b"z\0r\0", b"zero behind"), (b"plain", b"p"), (b"closed\0", b"c"),
                           (b"a\0\0b", b"hole"), (b"value", b"first\0second")):
            db[key] = value
    for name in ("t.dbm", "nozero.dbm", "joined.db"):
        os.chmod(d / name, 0o644)
    whole = (d / "t.dbm").read_bytes()
    (d / "short.dbm").write_bytes(whole[:5000])
    (d / "garbage.dbm").write_bytes(bytes(range(256)) * 48)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    base = tmp_path_factory.mktemp("lists")
    for p in (base, base.parent, base.parent.parent):
        os.chmod(p, 0o755)
    d = base / "files"
    (d / "sub").mkdir(parents=True)
    for path in glob.glob(CASES + "/files/*"):
        (d / os.path.basename(path)).write_text(text_of(path).replace("FILES", str(d)), encoding="utf-8")
    if not shutil.which("cdb"):
        pytest.skip("tinycdb is not installed")
    subprocess.run(["cdb", "-c", str(d / "t.cdb"), str(d / "cdb.txt")], check=True)
    db = sqlite3.connect(str(d / "t.db"))
    db.executescript((d / "sqlite.sql").read_text())
    db.close()
    os.chmod(d / "t.db", 0o644)
    (base / "bulkhead.conf").write_text(LISTS + "spool_directory = %s/spool\n" % base)
    oracle = Oracle(base, shared=[d])
    dbm_make(oracle, d)
    return oracle, str(base / "bulkhead.conf"), str(d)


def exim_expand(oracle, lines):
    """As oracle.expand(), but a case that ends Exim is one that fails: the rest is asked of another."""
    answers = []
    while len(answers) < len(lines):
        rest = lines[len(answers):]
        done = oracle.run(["-be"], "".join("%s\n%s\n" % (line, MARK) for line in rest), LISTS)
        parts = done.stdout.decode("utf-8", "surrogateescape").split("> " + MARK + "\n")
        answers += [p[2:-1] if p.startswith("> ") else p[:-1] for p in parts[:-1]]
        if len(parts) <= len(rest):
            answers.append("Failed: " + done.stderr.decode("utf-8", "replace"))
    return answers


def differences(name):
    path = os.path.join(CASES, name + ".differences")
    if not os.path.exists(path):
        return {}
    return dict(line.split("\t", 1) for line in text_of(path).splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("name", sorted(os.path.basename(p)[:-4] for p in glob.glob(CASES + "/*.txt")))
def test_as_exim_has_it(world, name):
    oracle, conf, d = world
    cases = [line for line in text_of(os.path.join(CASES, name + ".txt")).splitlines() if line and not line.startswith("#")]
    known, told = differences(name), []
    lines = [c.replace("D/", d + "/") for c in cases]
    for case, want, got in zip(cases, exim_expand(oracle, lines), bulkhead_expand(lines, conf)):
        # What fails is to fail on both sides; in which words is each one's own affair.
        same = want == got or (want.startswith("Failed: ") and got.startswith("Failed: "))
        if same == (case in known):
            told.append("%s\n   Exim: %r\n   ours: %r%s" % (case, want, got, "\n   listed as different, but it is not" if same else ""))
    assert not told, "%d of %d\n%s" % (len(told), len(cases), "\n".join(told))
    assert not set(known) - set(cases), "differences without a case: %s" % (set(known) - set(cases))
