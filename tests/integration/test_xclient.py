# SPDX-License-Identifier: ISC
"""XCLIENT against a whole instance: who may say for whom it speaks, and that the session is that client's from then on. swaks and
Postfix's own server as judges of the forms."""
import subprocess


from bulkhead import Client, wait_for
from peers import PEERS

MAIN = "hosts_xclient = 127.0.0.1\nlog_selector = +proxy\nacl_smtp_connect = acl_connect\nacl_smtp_helo = acl_helo\n"
ACL = r"""acl_connect:
  deny    hosts = 198.51.100.66
          message = not you
  accept  logwrite = CONNECT $sender_host_address:$sender_host_port $sender_host_name
          set acl_c_who = $sender_host_address
acl_helo:
  accept  logwrite = HELO $sender_helo_name $acl_c_who
acl_check_rcpt:
  accept  authenticated = *
          logwrite = LOGIN $authenticated_id by $sender_host_authenticated
  deny    hosts = <; !198.51.100.0/24 ; !2001:db8::/32
          message = relay not permitted for $sender_host_address
  accept  logwrite = RCPT $sender_host_address $sender_host_name $received_protocol $proxy_session $proxy_local_address $proxy_external_address:$proxy_external_port
"""


def send(c):
    return [c.ask("MAIL FROM:<a@b.example>")[:3], c.ask("RCPT TO:<x@far.example>")[:3]]


def test_another_client(bulkhead, sink):
    b = bulkhead(sink=sink, main=MAIN, acl=ACL)
    c = b.client()
    assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in c.ask("EHLO filter.example", 250)
    assert send(c) == ["250", "550"]
    c.ask("XCLIENT ADDR=198.51.100.7", 503)
    c.ask("RSET", 250)
    assert c.ask("XCLIENT NAME=spike.example ADDR=198.51.100.7 PORT=4711 DESTADDR=203.0.113.9 DESTPORT=25").startswith("220")
    c.ask("MAIL FROM:<a@b.example>", 503)
    assert "Hello spike.example [198.51.100.7]" in c.ask("EHLO spike.example", 250)
    assert send(c) == ["250", "250"]
    c.ask("DATA", 354)
    assert c.ask("Subject: x\r\n\r\nx\r\n.").startswith("250")
    assert b"from spike.example ([198.51.100.7]" in sink.wait(1)[0][2]
    c.ask("XCLIENT ADDR=IPV6:2001:db8::7", 220)
    c.ask("EHLO six.example", 250)
    assert send(c) == ["250", "250"]
    log = b.log()
    assert "CONNECT 198.51.100.7:4711 spike.example" in log and "CONNECT 2001:db8::7:0 \n" in log
    assert "HELO spike.example 198.51.100.7" in log and "HELO six.example 2001:db8::7" in log
    assert "RCPT 198.51.100.7 spike.example esmtp yes 127.0.0.1 203.0.113.9:25" in log
    b.wait_log(r"<= a@b.example H=spike.example \[198.51.100.7\] P=esmtp PRX=127.0.0.1 S=")


def test_login_and_refusals(bulkhead):
    b = bulkhead(main=MAIN, acl=ACL)
    c = b.client()
    c.ask("XCLIENT ADDR=192.0.2.1 LOGIN=joe", 220)
    c.ask("EHLO c.example", 250)
    assert send(c) == ["250", "250"]
    c.ask("RSET", 250)
    c.ask("XCLIENT ADDR=192.0.2.1", 220)
    c.ask("EHLO c.example", 250)
    assert send(c) == ["250", "550"]
    c.ask("RSET", 250)
    assert c.ask("XCLIENT ADDR=198.51.100.66").startswith("554") and c.at_end()
    assert "LOGIN joe by xclient" in b.log()
    c = b.client(source=("127.0.0.2", 0))
    assert "XCLIENT" not in c.ask("EHLO c.example", 250)
    c.ask("XCLIENT ADDR=198.51.100.7", 550)
    assert send(c) == ["250", "550"]


def test_connections_are_counted_for_the_client(bulkhead):
    b = bulkhead(main=MAIN + "smtp_accept_max_per_host = ${if eq{$sender_host_address}{198.51.100.7}{1}{20}}", acl=ACL)
    one, two = b.client(), b.client()
    one.ask("XCLIENT ADDR=198.51.100.7", 220)
    assert two.ask("XCLIENT ADDR=198.51.100.7").startswith("421")
    one.close()
    wait_for(lambda: b.client().ask("XCLIENT ADDR=198.51.100.7").startswith("220"))


def test_swaks(bulkhead, sink):
    b = bulkhead(sink=sink, main=MAIN, acl=ACL)
    p = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(b.port), "--from", "a@b.example", "--to", "x@far.example", "--helo", "s.example",
                        "--xclient-name", "spike.example", "--xclient-addr", "198.51.100.9", "--xclient-port", "77", "--xclient-proto", "ESMTP",
                        "--xclient-helo", "h.example", "--xclient-destaddr", "203.0.113.9", "--xclient-destport", "25"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == 0, p.stdout.decode()
    sink.wait(1)
    assert "RCPT 198.51.100.9 spike.example esmtp" in b.log()


# The line, and the code of the reply; where Postfix (which speaks IPv4 alone here) differs, its own.
FORMS = [
    ("XCLIENT ADDR=198.51.100.7", "220", None), ("XCLIENT ADDR=IPV6:2001:db8::1", "220", "501"), ("XCLIENT ADDR=[UNAVAILABLE]", "220", None),
    ("XCLIENT NAME=[TEMPUNAVAIL] ADDR=198.51.100.7", "220", None), ("XCLIENT NAME=[UNAVAILABLE]", "220", None),
    ("XCLIENT NAME=a+2Eexample", "220", None), ("xclient name=a.example addr=198.51.100.7 port=25 proto=smtp", "220", None),
    ("XCLIENT", "501", None), ("XCLIENT ADDR", "501", None), ("XCLIENT FOO=1", "501", None), ("XCLIENT ADDR=1.2.3", "501", None),
    ("XCLIENT PORT=x", "501", None), ("XCLIENT PORT=65536", "501", "220"), ("XCLIENT PROTO=LMTP", "501", None), ("XCLIENT NAME=a_b!", "501", None),
    ("XCLIENT ADDR=2001:db8::1", "501", None),
    ("XCLIENT PORT=1 PORT=2", "501", "220"), ("XCLIENT HELO=h.example LOGIN=joe", "220", None), ("XCLIENT DESTADDR=203.0.113.9 DESTPORT=25", "220", None),
]


def test_forms_are_those_of_postfix(bulkhead):
    b = bulkhead(main=MAIN, acl=ACL)
    peer = PEERS["postfix"](None)
    try:
        subprocess.run(["chroot", peer.root, "postconf", "-e", "smtpd_authorized_xclient_hosts=127.0.0.1"], check=True)
        subprocess.run(["chroot", peer.root, "postfix", "reload"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        def authorized():
            return "XCLIENT" in Client(peer.port).ask("EHLO c.example")
        wait_for(authorized)
        wrong = []
        for line, want, theirs in FORMS:
            for who, port, code in (("we", b.port, want), ("Postfix", peer.port, theirs or want)):
                c = Client(port)
                c.ask("EHLO c.example", 250)
                got = c.ask(line)
                if not got.startswith(code):
                    wrong.append("%s: %s: %s, not %s" % (who, line, got, code))
                c.close()
        assert not wrong, "\n".join(wrong)
    finally:
        peer.close()
