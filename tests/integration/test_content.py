# SPDX-License-Identifier: ISC
"""Conditions on content with real daemons: the ACL for MIME parts, scanners for malware and spam."""
import base64
import os
import re
import socket
import subprocess

import pytest

from bulkhead import BIN, SENDMAIL, Instance, free_port, wait_for
from scanners import CLOSE, EARLY, REFUSE, SILENT, SLOW, Scanner, rspamd_answer, spamd_answer

LOCAL = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
"""
PARTS = ("From: a@sender.example\r\nSubject: parts\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
         "--B\r\nContent-Type: application/octet-stream; name=%s\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--B--\r\n")
MIME_ACL = r"""
acl_check_rcpt:
  accept
acl_mime:
  deny condition = ${if match{$mime_filename}{\N\.exe$\N}}
       message = no $mime_filename here
       log_message = part $mime_part_count is $mime_filename
  discard mime_regex = ^hole
          log_message = part $mime_part_count
  defer mime_regex = ^wait
  drop mime_regex = ^bomb
       message = 554 5.7.9 away with it
  warn condition = $mime_is_multipart
       add_header = X-Outer: $mime_content_type
  accept set acl_m_parts = $acl_m_parts $mime_content_type
acl_data:
  accept add_header = X-Parts: $mime_part_count$acl_m_parts
"""


def send(b, content):
    """The last reply, without its enhanced code; the client."""
    c = b.client()
    reply = c.mail("a@sender.example", "ann@local.example", content)
    return re.sub(r"^(\d\d\d) \d\.\d+\.\d+ ", r"\1 ", reply), c


def lines(b, n):
    """The lines of the n messages that came."""
    return [m.decode("latin-1").replace("\r\n", "\n").split("\n") for m in b.wait_maildir("ann", n)]


def test_mime_parts_decide(bulkhead):
    b = bulkhead(main="acl_smtp_mime = acl_mime\nacl_smtp_data = acl_data\n", acl=MIME_ACL, routers=LOCAL)
    reply, c = send(b, PARTS % ("x.exe", "TVqQ"))
    assert reply.startswith("550") and "no x.exe here" in reply, reply
    reply, _ = send(b, PARTS % ("x", "d2FpdA=="))
    assert reply.startswith("451"), reply
    reply, c = send(b, PARTS % ("x", "Ym9tYg=="))
    assert reply.startswith("554 away with it"), reply
    assert c.at_end(), "drop leaves the connection open"
    reply, _ = send(b, PARTS % ("x", "aG9sZQ=="))
    assert reply.startswith("250"), reply
    reply, _ = send(b, PARTS % ("fine", "Zmluw7w="))
    assert reply.startswith("250"), reply
    mail, = lines(b, 1)
    assert "X-Outer: multipart/mixed" in mail
    assert "X-Parts: 2 multipart/mixed text/plain application/octet-stream" in mail
    b.wait_log("Completed")
    log = b.log()
    assert re.search(r"rejected during MIME ACL checks: part 2 is x.exe", log), log
    assert re.search(r"message discarded by the ACL for MIME: part 2", log), log
    assert len(re.findall(r"Completed", log)) == 1
    reply, _ = send(b, "Subject: plain\r\n\r\nno type\r\n")
    assert reply.startswith("250"), reply
    assert any("X-Parts: -1" in m for m in lines(b, 2))


def test_mime_parts_of_local_messages(bulkhead):
    b = bulkhead(main="acl_not_smtp_mime = acl_mime\n", acl=MIME_ACL, routers=LOCAL)
    for name, want in (("x.exe", 1), ("x.txt", 0)):
        done = subprocess.run([SENDMAIL, "-C", b.conf, "ann@local.example"], input=(PARTS % (name, "eHh4")).encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        assert (done.returncode != 0) == bool(want), done
        assert ("no x.exe here" in done.stdout.decode()) == bool(want), done
    mail, = lines(b, 1)
    assert "X-Outer: multipart/mixed" in mail


# ---- scanners ----

SCAN_ACL = r"""
acl_check_rcpt:
  accept add_header = X-Early: of the RCPT ACL
acl_data:
%s
  accept add_header = X-Scan: <$malware_name> $av_failed <$callout_address>
         add_header = X-Spam: $spam_score $spam_score_int $spam_bar <$spam_action>
         add_header = X-Report: $spam_report
"""
VIRUS = "  deny malware = %s\n       message = virus <$malware_name>\n"
SPAM = "  deny spam = %s\n       message = spam $spam_score ($spam_score_int) $spam_bar: $spam_action\n"


def scanning(bulkhead, main, statements):
    return bulkhead(main="acl_smtp_data = acl_data\n" + main, acl=SCAN_ACL % statements, routers=LOCAL)


CONTENT = "From: a@sender.example\r\nSubject: scanned\r\n\r\n.line\r\nlast\r\n"


def scan_cases(b, cases, scanner):
    """Each message meets the scanner's next answer."""
    for answer, want, log in cases:
        before = len(b.log())
        reply, _ = send(b, CONTENT)
        assert reply.startswith(want), (answer, reply)
        if log:
            wait_for(lambda: re.search(log, b.log()[before:]), why=lambda: "%r: %r not in\n%s" % (answer, log, b.log()[before:]))


CLAMD = [
    (b"stream: OK\0", "250", None),
    (b"stream: Eicar-Test FOUND\0", "550 virus <Eicar-Test>", "rejected after DATA: virus <Eicar-Test>"),
    (b"stream: Eicar-Test FOUND\n", "550 virus <Eicar-Test>", None),
    (b"stream: a: b FOUND\0", "550 virus <a: b>", None),
    (b"INSTREAM size limit exceeded. ERROR\0", "451", r"malware acl condition: \[127\.0\.0\.1\]:\d+: malformed result \"INSTREAM size limit exceeded. ERROR\""),
    (EARLY(b"INSTREAM size limit exceeded. ERROR\0"), "451", "malformed result"),
    (b"nonsense\0", "451", "malformed result \"nonsense\""),
    (b"stream: FOUND\0", "451", "malformed result"),
    (b"\0", "451", "malformed result"),
    (b"x" * 300000, "451", "its answer is longer than 262144 octets"),
    (CLOSE, "451", "it closed the connection without an answer"),
    (b"stream: OK", "250", None),
]


def test_clamd_answers(bulkhead):
    with Scanner("clamd", *[a for a, _, _ in CLAMD]) as s:
        b = scanning(bulkhead, "av_scanner = clamd:127.0.0.1 %d\n" % s.port, VIRUS % "*")
        scan_cases(b, CLAMD, s)
        shown = s.content(0).decode().replace("\r\n", "\n")
    assert "X-Scan: <> 0 <[127.0.0.1]:%d>" % s.port in sum(lines(b, 2), [])
    assert re.fullmatch(r"X-Envelope-From: <a@sender\.example>\nX-Envelope-To: ann@local\.example\nReceived: from \[127\.0\.0\.1\] \(helo=client\.example\)\n"
                        r"\tby mx\.test\.example .*?for ann@local\.example;\n\t[^\n]*\nFrom: a@sender\.example\nSubject: scanned\nX-Early: of the RCPT ACL\n\n"
                        r"\.line\nlast\n", shown, re.S), shown


def test_clamd_over_a_unix_socket(bulkhead, tmp_path):
    os.chmod(str(tmp_path), 0o755)
    for d in [str(tmp_path)] + [str(p) for p in tmp_path.parents if str(p).startswith("/tmp/")]:
        os.chmod(d, 0o755)
    path = str(tmp_path / "clamd.ctl")
    with Scanner("clamd", b"stream: Worm FOUND\0", path=path) as s:
        b = scanning(bulkhead, "av_scanner = clamd:%s\n" % path, VIRUS % "^Wor")
        reply, _ = send(b, "Subject: big\r\n\r\n" + "0123456789abcdef\r\n" * 200000)
        assert reply.startswith("550 virus <Worm>"), reply
        assert len(s.content()) > 3600000
    reply, _ = send(b, CONTENT)
    assert reply.startswith("451"), reply
    b.wait_log(r"malware acl condition: %s: connection failed \(Connection refused\)" % re.escape(path))


def test_slow_and_silent_scanners(bulkhead):
    """Within the time that the condition gives them, and no longer; defer_ok lets mail pass."""
    with Scanner("clamd", SILENT, SLOW(b"stream: OK and so on, for more than a minute, and it never ends, since that is all that it does\0")) as s:
        b = scanning(bulkhead, "av_scanner = clamd:127.0.0.1 %d\n" % s.port, VIRUS % "* / tmo=3s")
        for _ in range(2):
            reply, _ = send(b, CONTENT)
            assert reply.startswith("451"), reply
        wait_for(lambda: len(re.findall(r"malware acl condition: \[127\.0\.0\.1\]:\d+: timeout", b.log())) == 2, why=b.log)
    with Scanner("clamd", SILENT) as s:
        b = scanning(bulkhead, "av_scanner = clamd:127.0.0.1 %d\n" % s.port, VIRUS % "* / defer_ok / tmo=2s")
        reply, _ = send(b, CONTENT)
        assert reply.startswith("250"), reply
        assert "X-Scan: <> 1 <[127.0.0.1]:%d>" % s.port in lines(b, 1)[0]
        b.wait_log("timeout")


def test_another_scanner_is_tried(bulkhead):
    with Scanner("clamd", REFUSE) as down, Scanner("clamd", b"stream: OK\0") as up:
        b = scanning(bulkhead, "av_scanner = clamd:127.0.0.1 %d:127.0.0.1 %d\n" % (down.port, up.port), VIRUS % "*")
        for _ in range(8):
            assert send(b, CONTENT)[0].startswith("250")
        assert up.connections == 8
        # it is chosen at random whom to ask first: of eight, at least one met the one that is down
        b.wait_log(r"malware acl condition: \[127\.0\.0\.1\]:%d: connection failed \(Connection refused\)" % down.port)
    with Scanner("spamd", REFUSE) as down, Scanner("spamd", spamd_answer("0.0", "5.0")) as up:
        b = scanning(bulkhead, "spamd_address = 127.0.0.1 %d pri=9 retry=1s : 127.0.0.1 %d : 127.0.0.1 %d time=0-0\n" % (down.port, up.port, down.port),
                     SPAM % "nobody")
        assert send(b, CONTENT)[0].startswith("250")
        assert up.connections == 1


SPAMD = [
    (spamd_answer("15.06", "5.0", "Report line 1\r\nline 2\n\nline 4\n"), "550 spam 15.1 (150) +++++++++++++++: reject", None),
    (spamd_answer("4.99", "5.0", "Two\nlines\n"), "250", None),
    (spamd_answer("5.0", "5.0"), "550 spam 5.0 (50) +++++: reject", None),
    (spamd_answer("-3.46", "5.0", ""), "250", None),
    (spamd_answer("120", "5", word="Yes"), "550 spam 120.0 (1200) " + "+" * 50 + ": reject", None),
    (b"SPAMD/1.1 0 EX_OK\nSpam: False ; 0.2 / 5.0\nContent-length: 4\n\nRep\n", "250", None),
    (b"SPAMD/1.1 76 Bad header line: x\r\n", "451", "cannot parse its answer \"SPAMD/1.1 76 Bad header line: x\""),
    (b"SPAMD/1.1 0 EX_OK\r\n\r\nSpam: True ; 9 / 5\r\n", "451", "there is no score"),
    (b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; nan / 5\r\n\r\n", "451", "there is no score"),
    (b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1e9 / 5\r\n\r\n", "451", "there is no score"),
    (b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 99999999999999999999 / 5\r\n\r\n", "451", "there is no score"),
    (b"nonsense", "451", "cannot parse its answer \"nonsense\""),
    (CLOSE, "451", r"spam acl condition: \[127\.0\.0\.1\]:\d+: it closed the connection without an answer"),
]


def test_spamd_answers(bulkhead):
    with Scanner("spamd", *[a for a, _, _ in SPAMD]) as s:
        b = scanning(bulkhead, "spamd_address = 127.0.0.1 %d\n" % s.port, SPAM % "joe")
        scan_cases(b, SPAMD, s)
        assert s.requests[0].startswith(b"REPORT SPAMC/1.2\r\nUser: joe\r\nContent-length: %d\r\n\r\nX-Envelope-From: <a@sender.example>" % len(s.content(0)))
    got = sum(lines(b, 3), [])
    assert "X-Spam: 5.0 49 ++++ <no action>" in got and "X-Spam: -3.5 -34 --- <no action>" in got and "X-Spam: 0.2 2 / <no action>" in got, got
    assert "X-Report: Two" in got and " lines" in got, got


def test_spam_is_asked_once_a_user(bulkhead):
    statements = "  warn spam = joe:true\n       add_header = X-Always: $spam_score_int\n  warn spam = joe\n       add_header = X-Over: yes\n" \
        "  warn spam = 0\n       add_header = X-Never: yes\n  warn !spam = ann/defer_ok\n       add_header = X-Ann: $spam_score_int\n"
    with Scanner("spamd", spamd_answer("2.0", "5.0"), spamd_answer("3.0", "5.0")) as s:
        b = scanning(bulkhead, "spamd_address = 127.0.0.1 %d\n" % s.port, statements)
        assert send(b, CONTENT)[0].startswith("250")
        assert [re.search(rb"User: (\w+)", r).group(1) for r in s.requests] == [b"joe", b"ann"]
    mail, = lines(b, 1)
    assert "X-Always: 20" in mail and "X-Ann: 30" in mail and "X-Over: yes" not in mail and "X-Never: yes" not in mail, mail


def test_scores_are_known_at_delivery(bulkhead):
    transports = Instance.TRANSPORTS + "  headers_add = X-At-Delivery: $spam_score $spam_score_int $spam_bar $spam_action $malware_name\n"
    with Scanner("spamd", spamd_answer("2.1", "5.0")) as s, Scanner("clamd", b"stream: V FOUND\0") as c:
        b = bulkhead(main="acl_smtp_data = acl_data\nspamd_address = 127.0.0.1 %d\nav_scanner = clamd:127.0.0.1 %d\n" % (s.port, c.port),
                     acl=SCAN_ACL % "  warn spam = nobody:true\n       malware = *", routers=LOCAL, transports=transports)
        assert send(b, CONTENT)[0].startswith("250")
    assert "X-At-Delivery: 2.1 21 ++ no action V" in lines(b, 1)[0]


def test_an_acl_in_line_opens_no_sockets(bulkhead):
    """What nobody announced is refused before the filter of system calls would end the worker."""
    b = bulkhead(main="acl_smtp_data = deny spam = nobody\n", routers=LOCAL)
    assert send(b, CONTENT)[0].startswith("451")
    b.wait_log("spam acl condition: an ACL that is not in the configuration file needs spamd_address to be set")
    assert len(b.daemons("policyd")) >= 1 and "SIGSYS" not in b.log()


def test_offline_sessions_ask_scanners(bulkhead, tmp_path):
    with Scanner("clamd", b"stream: V FOUND\0") as s:
        b = bulkhead(main="acl_smtp_data = acl_data\nav_scanner = clamd:127.0.0.1 %d\n" % s.port, acl=SCAN_ACL % (VIRUS % "*"), routers=LOCAL)
        said = "EHLO c\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<ann@local.example>\r\nDATA\r\n%s.\r\nQUIT\r\n" % CONTENT
        done = subprocess.run([BIN, "-C", b.conf, "session", "192.0.2.1"], input=said.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert b"550 5.7.1 virus <V>" in done.stdout, done.stdout


@pytest.mark.skipif(not os.path.exists("/usr/sbin/clamd"), reason="needs clamav-daemon")
def test_real_clamd(bulkhead, tmp_path):
    """Debian's clamd, with one signature of our own; over a Unix socket, and with a limit that is too small for one message."""
    folder = str(tmp_path)
    for d in [folder] + [str(p) for p in tmp_path.parents if str(p).startswith("/tmp/")]:
        os.chmod(d, 0o755)
    with open(os.path.join(folder, "own.ndb"), "w") as f:
        f.write("Own.Test:0:*:%s\n" % b"this is malware, they say".hex())
    conf, path = os.path.join(folder, "clamd.conf"), os.path.join(folder, "ctl")
    with open(conf, "w") as f:
        f.write("DatabaseDirectory %s\nLocalSocket %s\nLocalSocketMode 666\nForeground yes\nUser root\nStreamMaxLength 1M\n" % (folder, path))
    clamd = subprocess.Popen(["/usr/sbin/clamd", "-c", conf], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: os.path.exists(path), 60)
        b = scanning(bulkhead, "av_scanner = clamd:%s\n" % path, VIRUS % "*")
        assert send(b, CONTENT)[0].startswith("250")
        reply, _ = send(b, CONTENT + "well, this is malware, they say\r\n")
        assert reply.startswith("550 virus <Own.Test"), reply
        reply, _ = send(b, PARTS % ("x", base64.b64encode(b"well, this is malware, they say").decode()))
        assert reply.startswith("550 virus <Own.Test"), reply
        reply, _ = send(b, CONTENT + "0123456789abcdef0123456789abcdef\r\n" * 60000)
        assert reply.startswith("451"), reply
        b.wait_log("malware acl condition: .*(malformed result \"INSTREAM size limit|closed)")
    finally:
        clamd.terminate()
        clamd.wait(30)


GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.mark.skipif(not os.path.exists("/usr/sbin/spamd"), reason="needs spamd")
def test_real_spamd(bulkhead, tmp_path):
    """Debian's spamd without the network; GTUBE is what every SpamAssassin takes for spam."""
    port = free_port()
    spamd = subprocess.Popen(["/usr/sbin/spamd", "-L", "-x", "-m", "1", "-u", "nobody", "-H", str(tmp_path), "-i", "127.0.0.1", "-p", str(port),
                              "-s", "stderr"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def up():
        with socket.socket() as c:
            return c.connect_ex(("127.0.0.1", port)) == 0
    try:
        wait_for(up, 120)
        b = scanning(bulkhead, "spamd_address = 127.0.0.1 %d\n" % port, SPAM % "nobody")
        reply, _ = send(b, CONTENT)
        assert reply.startswith("250"), (reply, b.logs())
        reply, _ = send(b, CONTENT + GTUBE + "\r\n")
        assert re.match(r"550 spam \d{3,4}\.\d \(\d{4,5}\) \+{50}: reject", reply), (reply, b.logs())
        mail, = lines(b, 1)
        score = [m for m in (re.match(r"X-Spam: (-?\d+)\.\d -?\d+ \S+ <no action>$", line) for line in mail) if m]
        assert score and -10 < int(score[0].group(1)) < 10, mail
        assert any(re.match(r"X-Report: .*Spam detection software", line) for line in mail) or any("pts rule name" in line for line in mail), mail
    finally:
        spamd.terminate()
        spamd.wait(30)


def test_rspamd(bulkhead):
    with Scanner("spamd", rspamd_answer("7.00", "6.0", "add header"), rspamd_answer("1.5", "6.0", "no action"), b"RSPAMD/1.3 0 EX_OK\r\n\r\n") as s:
        b = scanning(bulkhead, "spamd_address = 127.0.0.1 %d variant=rspamd\n" % s.port, SPAM % "nobody")
        reply, _ = send(b, CONTENT)
        assert reply.startswith("550 spam 7.0 (70) +++++++: add header"), reply
        assert send(b, CONTENT)[0].startswith("250")
        assert send(b, CONTENT)[0].startswith("451")
        question = s.requests[0].decode().split("\r\n\r\n")[0]
    assert re.match(r"CHECK RSPAMC/1.3\r\nQueue-Id: \S+\r\nFrom: <a@sender\.example>\r\nRecipient-Number: 1\r\nRcpt: <ann@local\.example>\r\n"
                    r"Helo: client\.example\r\n(Hostname: \S+\r\n)?IP: 127\.0\.0\.1\r\nContent-length: \d+$", question), question
    assert "X-Spam: 1.5 15 + <no action>" in lines(b, 1)[0]
    assert "X-Report: Action: no action" in lines(b, 1)[0]


def test_scanner_from_a_variable(bulkhead):
    """An option that begins with a dollar is expanded each time, and nothing is kept."""
    statements = "  deny set acl_m_scanner = clamd:127.0.0.1 {one}\n       malware = *\n  deny set acl_m_scanner = clamd:127.0.0.1 {two}\n       malware = *\n" \
        "       message = second: $malware_name\n  deny set acl_m_scanner = clamdd:x\n       malware = */defer_ok\n"
    with Scanner("clamd", b"stream: OK\0") as one, Scanner("clamd", b"stream: V FOUND\0", b"stream: OK\0") as two:
        b = scanning(bulkhead, "av_scanner = $acl_m_scanner\n", statements.replace("{one}", str(one.port)).replace("{two}", str(two.port)))
        assert send(b, CONTENT)[0].startswith("550 second: V")
        assert send(b, CONTENT)[0].startswith("250")
        b.wait_log("unknown scanner \"clamdd\": did you mean \"clamd\"")
        assert one.connections == 2 and two.connections == 2
