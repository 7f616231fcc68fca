# SPDX-License-Identifier: ISC
"""Debian's Exim as the reference for what the language means: one command at a time (-be, -bt, -bh, -brw, -brt ...), in a root of
its own. The root (tests/peers/setup.sh exim) stays as it is: each command sees it through an overlay in a mount namespace that
ends with the command. Folders that are shared have the same path inside, so that one configuration serves both sides."""
import os
import shlex
import subprocess

import pytest

from bulkhead import BIN, TOP
from peers import ROOTS

MARK = "=-=mark=-="


def split_marked(text, n, prompt=""):
    """The answers between n marks, each without its last line end."""
    parts = text.split(prompt + MARK + "\n")
    assert len(parts) == n + 1, "%d answers to %d questions; the end of them:\n%s" % (len(parts) - 1, n, text[-2000:])
    answers = []
    for p in parts[:n]:
        p = p[:-1] if p.endswith("\n") else p
        answers.append(p[len(prompt):] if p.startswith(prompt) else p)
    return answers


class Oracle:
    def __init__(self, tmp_path, shared=()):
        """`shared`: folders (absolute paths, readable by all) that Exim sees under their own names, read-write."""
        if os.geteuid() != 0:
            pytest.skip("Exim's root needs chroot, thus root")
        self.lower = os.path.join(ROOTS, "exim")
        if not os.path.exists(os.path.join(self.lower, ".complete")):
            subprocess.run([os.path.join(TOP, "tests/peers/setup.sh"), "exim"], check=True, timeout=600)
        self.base = os.path.join(str(tmp_path), "oracle")
        self.shared = [str(s) for s in shared]
        for d in ("upper", "work", "root"):
            os.makedirs(os.path.join(self.base, d), exist_ok=True)
        self.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    def write(self, path, text, mode=0o644):
        """A file in Exim's root alone."""
        p = os.path.join(self.base, "upper", path.lstrip("/"))
        os.makedirs(os.path.dirname(p), exist_ok=True)
        with open(p, "w") as f:
            f.write(text)
        os.chmod(p, mode)

    def run(self, args, stdin="", conf=None, timeout=120, program="exim4", netns=None):
        """Exim's CompletedProcess, output as text; `conf`: the text of its configuration; `netns`: name of a network namespace."""
        args = list(args)
        if conf is not None:
            self.write("/etc/exim4/oracle.conf", conf)
            args = ["-C", "/etc/exim4/oracle.conf"] + args
        root = os.path.join(self.base, "root")
        steps = ["mount -t overlay overlay -o lowerdir=%s,upperdir=%s/upper,workdir=%s/work %s" % (self.lower, self.base, self.base, root),
                 "mkdir -p %s/dev && mount --bind /dev %s/dev" % (root, root)]
        for s in self.shared:
            steps.append("mkdir -p %s%s && mount --bind %s %s%s" % (root, s, s, root, s))
        steps.append("exec chroot %s %s" % (root, " ".join(shlex.quote(a) for a in [program] + args)))
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", " && ".join(steps)]
        if netns:
            command = ["ip", "netns", "exec", netns] + command
        return subprocess.run(command, input=stdin.encode("utf-8", "surrogateescape"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=timeout, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def expand(self, lines, conf=None, args=()):
        """What `exim -be` says to each line; an answer may have several lines."""
        stdin = "".join("%s\n%s\n" % (line, MARK) for line in lines)
        done = self.run(["-be", *args], stdin, conf)
        out = done.stdout.decode("utf-8", "surrogateescape")
        assert MARK in out or not lines, done.stderr.decode("utf-8", "replace")[-2000:]
        return split_marked(out, len(lines), "> ")


def bulkhead_expand(lines, conf_path=None, args=(), timeout=120):
    """What `bulkhead expand` says to each line."""
    stdin = "".join("%s\n%s\n" % (line, MARK) for line in lines)
    done = subprocess.run([BIN, *(["-C", conf_path] if conf_path else []), "expand", *args], input=stdin.encode("utf-8", "surrogateescape"),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    out = done.stdout.decode("utf-8", "surrogateescape")
    assert MARK in out or not lines, done.stderr.decode("utf-8", "replace")[-2000:]
    return split_marked(out, len(lines))
