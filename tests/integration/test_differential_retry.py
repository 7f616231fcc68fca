# SPDX-License-Identifier: ISC
"""`bulkhead retry-rule` beside `exim -brt`: each case of tests/differential/retry/, line by line."""
import glob
import os
import shlex
import subprocess

import pytest

from bulkhead import BIN, TOP
from oracle import Oracle
from test_differential_rewrite import HEAD, LISTS, compare, files, read_blocks, read_differences

FOLDER = os.path.join(TOP, "tests/differential/retry")


@pytest.mark.parametrize("path", sorted(glob.glob(os.path.join(FOLDER, "*.txt"))), ids=os.path.basename)
def test_retry(path, tmp_path):
    folder = files(tmp_path)
    oracle = Oracle(tmp_path, shared=[folder])
    ours_conf = str(tmp_path / "ours.conf")

    def text(conf, extra=""):
        return HEAD + LISTS + extra + "begin retry\n" + "\n".join(conf).replace("@D@", folder) + "\n"

    def ours(conf, cases):
        with open(ours_conf, "w") as f:
            f.write(text(conf, "lookup_directories = %s\nspool_directory = %s/spool\n" % (folder, folder)))
        out = []
        for case in cases:
            p = subprocess.run([BIN, "-C", ours_conf, "retry-rule", *shlex.split(case)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            assert p.returncode in (0, 1), p.stderr.decode() + p.stdout.decode()
            out.append(p.stdout.decode())
        return out

    def theirs(conf, cases):
        out = []
        for case in cases:
            words = shlex.split(case)
            sender = []
            if words[0] == "-f":
                sender, words = words[:2], words[2:]
            out.append(oracle.run([*sender, "-brt", *words], conf=text(conf)).stdout.decode())
        return out

    assert compare("retry", read_blocks(path), read_differences(path.replace(".txt", ".differences")), ours, theirs) >= 150
