#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""The language's speed beside Exim's: `make bench-lang` (root; Exim's root comes from tests/peers/setup.sh).

Expansions: lines a second in one process; Exim's by `exim -be` with many lines, less what it takes with none.
ACL runs: a RCPT ACL of three list conditions and a lookup (LMDB here, lsearch for Exim, which Debian builds without LMDB): CPU of
policyd and router together for each RCPT of a running instance; CPU of `exim -bh` for each."""
import os
import resource
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests/integration"))
import bulkhead  # noqa: E402
import oracle  # noqa: E402

LINES = r"""
plain text without anything to expand
$local_part@$domain
${lc:$sender_helo_name} ${uc:$sender_helo_name}
${if eq{$local_part}{postmaster}{yes}{no}}
${if and{{eq{$sender_host_address}{192.0.2.1}}{!def:sender_host_name}}{a}{b}}
${if match{$sender_address}{\N^([^@]+)@(.*)$\N}{$1 at $2}{none}}
${sg{$sender_address}{@}{ at }}
${extract{2}{:}{a:b:c:d}}
${extract{key}{a=1 b=2 key=value}}
${if match_domain{$domain}{a.example : *.b.example : !x.c.example}{yes}{no}}
${if match_ip{192.0.2.1}{10.0.0.0/8 : 192.168.0.0/16 : 192.0.2.0/24}{yes}{no}}
${map{a:b:c:d:e:f:g:h}{<$item>}}
${reduce{1:2:3:4:5:6:7:8}{0}{${eval:$value+$item}}}
${sort{h:g:f:e:d:c:b:a}{lt}{$item}}
${md5:$sender_address}
${hmac{sha1}{secret}{$sender_address}}
${if inlist{c}{a:b:c:d}{yes}{no}}
${length_60:${tr{$tod_full}{:}{.}}}
""".strip().split("\n")

ACL = """
acl_check_rcpt:
  deny domains = nowhere.example : *.spam.example : +local_domains
  deny senders = bad@bad.example : *@spam.example
  deny hosts = 10.0.0.0/8 : 192.168.0.0/16
  deny condition = ${lookup{$domain}%s{%s}{no}{yes}}
  accept
"""


def cpu_children():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def cpu_of(pid):
    """Seconds of the process and of those children of it that have ended."""
    fields = bulkhead.read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK") if len(fields) > 14 else 0


def exim_rate(exim, line, n=20000):
    def run(count):
        begin = cpu_children()
        exim.run(["-be"], (line + "\n") * count)
        return cpu_children() - begin
    empty = min(run(0) for _ in range(3))
    return n / max(run(n) - empty, 1e-6)


def expansions(exim):
    ours = subprocess.run([os.path.join(TOP, "build/bench/lang_bench"), "200"], input="\n".join(LINES) + "\n", stdout=subprocess.PIPE,
                          text=True, check=True).stdout.strip().split("\n")
    print("%-86s %12s %12s %12s %8s" % ("expansions a second", "compiled", "from text", "exim -be", "ratio"))
    for row in ours:
        compiled, text, line = row.split("\t", 2)
        theirs = exim_rate(exim, line)
        print("%-86s %12s %12s %12.0f %8.1f" % (line, compiled, text, theirs, float(compiled) / theirs))


def our_acl(n=30000, each=500):
    b = bulkhead.Instance(main="recipients_max = 0\nsmtp_accept_max_per_connection = 0",
                          acl=ACL % ("lmdb", "{dir}/domains.mdb"))
    with open(os.path.join(b.dir, "dump"), "w") as f:
        f.write("VERSION=3\nformat=print\ntype=btree\nmapsize=10485760\nHEADER=END\n")
        f.writelines(" d%05d.example\n yes\n" % i for i in range(10000))
        f.write("DATA=END\n")
    subprocess.run(["mdb_load", "-n", "-f", os.path.join(b.dir, "dump"), os.path.join(b.dir, "domains.mdb")], check=True)
    for p in os.listdir(b.dir):
        if p.startswith("domains.mdb"):
            os.chmod(os.path.join(b.dir, p), 0o644)
    b.start()
    try:
        def spent():
            pids = [int(p) for p in b.pids() if os.path.basename(bulkhead.read("/proc/%s/cmdline" % p).split("\0")[0]) in ("policyd", "router")]
            return sum(cpu_of(p) for p in pids)

        def drive(count):
            c = b.client()
            c.ask("EHLO client.example")
            c.ask("MAIL FROM:<s@from.example>")
            accepted = 0
            for at in range(0, count, each):
                c.send("".join("RCPT TO:<u@d%05d.example>\r\n" % ((at + i) % 10000) for i in range(each)).encode())
                for _ in range(each):
                    code = str(c.reply())
                    accepted += "250" in code[:12]
            c.close()
            assert accepted == count, "%d of %d accepted" % (accepted, count)
        drive(each)
        begin, wall = spent(), time.monotonic()
        drive(n)
        return (spent() - begin) / n, (time.monotonic() - wall) / n
    finally:
        b.stop()
        b.destroy()


def exim_acl(exim, shared, n=3000):
    with open(os.path.join(shared, "domains"), "w") as f:
        f.writelines("d%05d.example: yes\n" % i for i in range(10000))
    os.chmod(os.path.join(shared, "domains"), 0o644)
    conf = "primary_hostname = mail.example.test\ndomainlist local_domains = local.example\nrecipients_max = 0\n" \
        "acl_smtp_rcpt = acl_check_rcpt\nbegin acl\n" + ACL % ("lsearch", os.path.join(shared, "domains"))

    def run(count):
        talk = "EHLO client.example\r\nMAIL FROM:<s@from.example>\r\n" + "".join("RCPT TO:<u@d%05d.example>\r\n" % (i % 10000) for i in range(count)) \
            + "QUIT\r\n"
        begin = cpu_children()
        done = exim.run(["-bh", "192.0.2.1"], talk, conf)
        assert done.stdout.count(b"250 Accepted") == count, done.stdout[-500:]
        return cpu_children() - begin
    empty = run(0)
    return (run(n) - empty) / n


def main():
    with tempfile.TemporaryDirectory(prefix="bulkhead-lang-") as base:
        os.chmod(base, 0o755)
        shared = os.path.join(base, "shared")
        os.mkdir(shared)
        os.chmod(shared, 0o755)
        exim = oracle.Oracle(base, [shared])
        expansions(exim)
        cpu, wall = our_acl()
        theirs = exim_acl(exim, shared)
        print("\nRCPT ACL, three lists and a lookup: %.1f us of CPU in policyd and router (%.1f us from RCPT to RCPT); exim -bh %.1f us; ratio %.1f"
              % (cpu * 1e6, wall * 1e6, theirs * 1e6, theirs / cpu))


if __name__ == "__main__":
    main()
