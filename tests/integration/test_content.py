# SPDX-License-Identifier: ISC
"""Conditions on content with real daemons: the ACL for MIME parts."""
import re
import subprocess

from bulkhead import SENDMAIL

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
    c = b.client()
    return c.mail("a@sender.example", "ann@local.example", content), c


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
    assert reply.startswith("554 5.7.9 away with it"), reply
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
