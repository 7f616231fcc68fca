# SPDX-License-Identifier: ISC
"""malware and spam: `bulkhead session` beside `exim -bh`, with stand-ins for clamd, spamd and rspamd that give both the same answers."""
import os
import re
import subprocess

from bulkhead import BIN
from oracle import Oracle
from scanners import Scanner

CONF = r"""
primary_hostname = mx.test.example
acl_smtp_rcpt = accept
acl_smtp_data = acl_data
host_lookup =
{main}
begin acl
acl_data:
  warn {condition}
       logwrite = T:held
  warn logwrite = T:$spam_score $spam_score_int $spam_bar <$spam_action> <${escape:$spam_report}> <${escape:$malware_name}> $callout_address
  accept
begin routers
r:
  driver = accept
  transport = t
begin transports
t:
  driver = appendfile
  file = /var/mail/t
  user = nobody
"""
SPAMD = "SPAMD/1.1 0 EX_OK\r\nSpam: True ; %s / %s\r\n\r\n%s"
RSPAMD = "RSPAMD/1.3 0 EX_OK\r\nMetric: default; True; %s / %s / 15.0\r\n%s"
SPAMD_CASES = [SPAMD % c for c in (("15.06", "5.0", "Line 1\nline 2\n\nline 4\n"), ("-3.46", "5.0", "x"), ("0.2", "5.0", "x\r\n"), ("5.0", "5.0", "x"),
                                   ("4.99", "5.0", "x\n\n\n"), ("0.99", "1", ""), ("-0.9", "1", "x"), ("60.5", "5", "x"))] + ["nonsense", "SPAMD/1.1 76 Bad header line\r\n"]
RSPAMD_CASES = [RSPAMD % c for c in (("15.06", "5.0", "Action: reject\r\nSymbol: A(1.00)\r\nSymbol: B\r\n"), ("1.5", "6.0", "Action: no action\r\n"),
                                     ("7.00", "6.0", "Symbol: A\r\n"))] + ["RSPAMD/1.3 0 EX_OK\r\n\r\n"]
CLAMD_CASES = ["stream: OK\0", "stream: Eicar-Test FOUND\0", "stream: a: b FOUND\n", "/x/y: W FOUND\0", "stream:OK\0", "nonsense\0", "OK\0"]
GROUPS = [
    ("spamd", "spamd_address = 127.0.0.1 {port}", SPAMD_CASES, ["spam = joe", "spam = joe:true", "spam = joe : x", "spam = 0:true", "spam = JOE:TRUE/defer_ok"]),
    ("spamd", "spamd_address = 127.0.0.1 {port} variant=rspamd", RSPAMD_CASES, ["spam = nobody"]),
    ("clamd", "av_scanner = clamd:127.0.0.1 {port}", CLAMD_CASES, ["malware = *", "malware = ^W", "malware = eicar", "malware = false", "malware = TRUE/defer_ok"]),
]
# What differs on purpose: the score, why.
KNOWN = {
    "; -0.9 /": "-0.9 times ten is -9; Exim adds a thousandth first, and says -8",
    "; 60.5 /": "the bar has 50 signs at most, as the manual says; Exim makes 51",
}
SESSION = "EHLO client.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n"


def facts(stderr):
    """What the ACL said, of which the port is not compared."""
    return [re.sub(r":\d+$", ":PORT", line[line.index("T:"):].rstrip()) for line in stderr.decode("latin-1").replace("\r", "").split("\n")
            if line.startswith("LOG: ") and " T:" in line]


def test_scanners(tmp_path):
    os.chmod(str(tmp_path), 0o755)
    oracle = Oracle(tmp_path)
    path, wrong, n = os.path.join(str(tmp_path), "conf"), [], 0
    for kind, option, answers, conditions in GROUPS:
        # every answer with the first condition, and every condition with the first two answers
        for answer, condition in [(a, conditions[0]) for a in answers] + [(a, c) for c in conditions[1:] for a in answers[:2]]:
            with Scanner(kind, answer.encode("latin-1")) as s:
                main = option.replace("{port}", str(s.port))
                conf = CONF.replace("{condition}", condition)
                theirs = oracle.run(["-bh", "192.0.2.1"], SESSION, conf.replace("{main}", main + "\nlog_file_path = /var/log/exim4/%slog"))
                asked = s.connections
                with open(path, "w") as f:
                    f.write(conf.replace("{main}", main + "".join("\n%s = %s/%s" % (o, tmp_path, d) for o, d in (
                        ("spool_directory", "spool"), ("run_directory", "run"), ("hints_directory", "hints"), ("log_file_path", "%slog")))))
                ours = subprocess.run([BIN, "-C", path, "session", "192.0.2.1"], input=SESSION.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
                n += 1
                same = (facts(theirs.stderr), asked) == (facts(ours.stderr), s.connections - asked) and facts(theirs.stderr)
                if bool(same) == any(k in answer for k in KNOWN):
                    wrong.append("%s, %r:\n  Exim %s (%d)\n  ours %s (%d)" % (condition, answer, facts(theirs.stderr), asked, facts(ours.stderr), s.connections - asked))
    assert not wrong and n > 30, "%d of %d:\n%s" % (len(wrong), n, "\n".join(wrong))
