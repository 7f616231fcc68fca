# SPDX-License-Identifier: ISC
"""ACLs as they run in policyd: lookups and files through the router, verification, what is kept, what is logged."""
import os
import re

from bulkhead import wait_for

MAIN = """
acl_smtp_connect = acl_connect
acl_smtp_mail = acl_mail
acl_smtp_data = acl_data
smtp_banner = $smtp_active_hostname greets $sender_host_address at $tod_full
domainlist refused = {dir}/refused
"""
ACL = r"""
acl_connect:
  warn set acl_c_seen = $sender_host_address/$interface_port
  accept
acl_mail:
  deny senders = bad@sender.example
       message = 553 5.7.1 go away, $sender_address
  accept
acl_check_rcpt:
  warn set acl_m_n = ${eval:0$acl_m_n+1}
  deny domains = +refused
       message = refused by file: $domain_data
  deny condition = ${lookup{$local_part}lsearch{{dir}/blocked}{yes}{no}}
       message = blocked: $local_part
       log_message = $local_part is in the table
  drop local_parts = bomb
       message = that was enough
  defer local_parts = wait
       message = 451 4.3.0 come again
  discard local_parts = hole
  require message = relay not permitted
          domains = +local_domains
  require verify = recipient
  accept add_header = X-Policy: $acl_c_seen ${uc:$sender_helo_name} n=$acl_m_n
         logwrite = accepted $local_part
acl_data:
  deny condition = ${if match{$h_subject:}{(?i)lottery}}
       message = no such thing
  accept remove_header = X-Secret
         add_header = :at_start:X-Seen: $recipients_count of $rcpt_count
"""


ROUTERS = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = maildir
"""


def started(bulkhead):
    b = bulkhead(main=MAIN, acl=ACL, routers=ROUTERS)
    for name, text in (("refused", "# refused domains\n*.refused.example\n"), ("blocked", "mallory: 1\n")):
        path = os.path.join(b.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o644)
    return b


def session(b):
    c = b.client()
    c.ask("EHLO client.example", 250)
    return c


def test_verdicts_and_texts(bulkhead):
    b = started(bulkhead)
    c = session(b)
    assert c.ask("MAIL FROM:<bad@sender.example>").startswith("553 5.7.1 go away, bad@sender.example")
    c.ask("MAIL FROM:<a@b.example>", 250)
    assert "refused by file: *.refused.example" in c.ask("RCPT TO:<u@x.refused.example>", 550)
    assert "blocked: mallory" in c.ask("RCPT TO:<mallory@local.example>", 550)
    assert c.ask("RCPT TO:<wait@local.example>").startswith("451 4.3.0 come again")
    assert "relay not permitted" in c.ask("RCPT TO:<u@elsewhere.example>", 550)
    c.ask("RCPT TO:<nobody@local.example>", 550)
    c.ask("RCPT TO:<ann@local.example>", 250)
    assert "that was enough" in c.ask("RCPT TO:<bomb@local.example>", 550)
    assert c.at_end()
    c.close()
    b.wait_log(r"rejected RCPT <mallory@local\.example>: mallory is in the table")
    b.wait_log(r"^\S+ \S+ accepted ann$")
    assert not b.log("panic"), b.log("panic")


def test_headers_and_variables(bulkhead):
    b = started(bulkhead)
    c = session(b)
    c.ask("MAIL FROM:<a@b.example>", 250)
    c.ask("RCPT TO:<ann@local.example>", 250)
    c.ask("RCPT TO:<hole@local.example>", 250)
    c.ask("RCPT TO:<mallory@local.example>", 550)
    c.ask("DATA", 354)
    c.send(b"X-Secret: gone\r\nSubject: hello\r\n\r\nbody\r\n.\r\n")
    assert c.reply().startswith("250")
    c.ask("MAIL FROM:<a@b.example>", 250)
    c.ask("RCPT TO:<bob@local.example>", 250)
    c.ask("DATA", 354)
    c.send(b"Subject: Lottery\r\n\r\nbody\r\n.\r\n")
    assert "no such thing" in c.reply()
    c.close()
    text = b.wait_maildir("ann")[0].decode()
    assert re.match(r"X-Seen: 1 of 3\n|X-Seen: 2 of 3\n", text), text
    assert "X-Secret" not in text
    assert "X-Policy: 127.0.0.1/%d CLIENT.EXAMPLE n=1\n" % b.port in text, text
    b.wait_empty()
    assert not b.maildir("hole") and not b.maildir("bob")
    assert not b.log("panic"), b.log("panic")


def test_banner_is_dated(bulkhead):
    b = started(bulkhead)
    c = b.client()
    assert re.match(r"220 mx\.test\.example greets 127\.0\.0\.1 at \w{3}, \d\d \w{3} \d{4} [\d:]{8} [-+]\d{4}", c.greeting), c.greeting
    c.close()


def test_files_change_under_our_feet(bulkhead):
    b = started(bulkhead)

    def rcpt():
        c = session(b)
        c.ask("MAIL FROM:<a@b.example>", 250)
        got = c.ask("RCPT TO:<ann@local.example>")
        c.close()
        return got
    assert rcpt().startswith("250")
    with open(os.path.join(b.dir, "refused"), "w") as f:
        f.write("local.example\n" + "".join("d%d.example\n" % i for i in range(20000)))
    wait_for(lambda: "refused by file: local.example" in rcpt(), 10, 0.2)
    os.unlink(os.path.join(b.dir, "refused"))
    # A list that can't be read is nobody's "no": the client comes again.
    wait_for(lambda: rcpt().startswith("451"), 10, 0.2)
    b.wait_log("list file .* does not exist", which="panic")


def test_killed_workers_are_asked_again(bulkhead):
    import signal
    b = started(bulkhead)
    c = session(b)
    c.ask("MAIL FROM:<a@b.example>", 250)
    for _ in range(3):
        for d in b.daemons("policyd"):
            if d["pid"] > 1:
                os.kill(d["pid"], signal.SIGKILL)
        assert c.ask("RCPT TO:<ann@local.example>").startswith("250")
    c.close()
