# SPDX-License-Identifier: ISC
"""`bulkhead rewrite` beside `exim -brw`: each case of tests/differential/rewrite/, line by line."""
import glob
import os
import subprocess

import pytest

from bulkhead import BIN, TOP
from oracle import Oracle

FOLDER = os.path.join(TOP, "tests/differential/rewrite")
HEAD = "primary_hostname = host.test.example\nqualify_domain = q.example\nqualify_recipient = qr.example\n"
LISTS = "addresslist alist = a@al.example : *@al2.example\ndomainlist dlist = d1.example : *.d2.example\n"
FILES = {
    "addresses": "whole@look.example: 1\n",
    "domains": "dom.example: 1\n",
    "partial": "*.baz.example: 1\nfixed.example: 1\n",
    "locals": "loc.example: joe : ann : prefix-*\n",
}


def read_blocks(path):
    """[(name, configuration lines, cases)]"""
    blocks = []
    state = None
    with open(path) as f:
        for line in f.read().split("\n"):
            if line.startswith("== "):
                blocks.append((line[3:], [], []))
                state = 1
            elif line == "--" and state == 1:
                state = 2
            elif state and line.strip() and not line.startswith("#"):
                blocks[-1][state].append(line)
    return blocks


def read_differences(path):
    """{(block, case): reason}"""
    known = {}
    if os.path.exists(path):
        for line in open(path).read().split("\n"):
            if line.strip() and not line.startswith("#"):
                block, case, reason = line.split("\t")
                known[(block, case)] = reason
    return known


def files(tmp_path):
    for name, text in FILES.items():
        p = tmp_path / name
        p.write_text(text)
        p.chmod(0o644)
    tmp_path.chmod(0o755)
    p = tmp_path
    while str(p) != "/tmp" and len(str(p)) > 4:
        os.chmod(p, os.stat(p).st_mode | 0o055)
        p = p.parent
    return str(tmp_path)


def compare(mode, blocks, known, run_ours, run_theirs):
    wrong, stale = [], []
    n = 0
    for name, conf, cases in blocks:
        assert len(set(cases)) == len(cases), "a case of %r is there twice" % name
        ours, theirs = run_ours(conf, cases), run_theirs(conf, cases)
        for case, o, t in zip(cases, ours, theirs):
            n += 1
            if o == t and (name, case) in known:
                stale.append((name, case))
            elif o != t and (name, case) not in known:
                wrong.append("%s: %s\n--- exim\n%s\n--- ours\n%s" % (name, case, t, o))
    assert not wrong, "%d of %d cases differ:\n%s" % (len(wrong), n, "\n".join(wrong))
    assert not stale, "these differ no more: %s" % stale
    return n


@pytest.mark.parametrize("path", sorted(glob.glob(os.path.join(FOLDER, "*.txt"))), ids=os.path.basename)
def test_rewrite(path, tmp_path):
    folder = files(tmp_path)
    oracle = Oracle(tmp_path, shared=[folder])
    ours_conf = str(tmp_path / "ours.conf")

    def text(conf):
        return HEAD + LISTS + "begin rewrite\n" + "\n".join(conf).replace("@D@", folder) + "\n"

    def ours(conf, cases):
        with open(ours_conf, "w") as f:
            f.write(text(conf).replace("begin rewrite", "lookup_directories = %s\nspool_directory = %s/spool\nbegin rewrite" % (folder, folder)))
        out = []
        for case in cases:
            p = subprocess.run([BIN, "-C", ours_conf, "rewrite", case], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            assert p.returncode == 0, p.stderr.decode() + p.stdout.decode()
            out.append(p.stdout.decode())
        return out

    def theirs(conf, cases):
        return [oracle.run(["-brw", case], conf=text(conf)).stdout.decode() for case in cases]

    assert compare("rewrite", read_blocks(path), read_differences(path.replace(".txt", ".differences")), ours, theirs) >= 50
