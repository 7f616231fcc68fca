# SPDX-License-Identifier: ISC
"""The command's verbs about a configuration: what is surprising in it, what it comes to, what an Exim configuration means here."""
import subprocess

import pytest

from bulkhead import BIN

REST = """
begin routers
out:
  driver = dnslookup
  transport = smtp
begin transports
smtp:
  driver = smtp
begin retry
* * F,1h,5m
"""


def run(*args):
    done = subprocess.run([BIN, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def conf(tmp_path, text):
    p = tmp_path / "b.conf"
    p.write_text("primary_hostname = m.example.com\n" + text)
    return str(p)


@pytest.mark.parametrize("open_relay, acl", [
    (True, "accept"),
    (True, "accept verify = recipient"),
    (True, "accept hosts = !192.0.2.0/24"),
    (True, "accept condition = ${lookup{$domain}lsearch{/etc/hosts}{no}{yes}}"),
    (True, "warn set acl_m_a = 1\n accept condition = $acl_m_a"),
    (False, "accept hosts = 192.0.2.0/24"),
    (False, "accept domains = example.com"),
    (False, "accept authenticated = *"),
    (False, "deny"),
    (False, "require domains = ${lookup{$domain}lsearch{/etc/hosts}{$domain}}\n accept"),
])
def test_open_relay(tmp_path, open_relay, acl):
    code, out, err = run("-C", conf(tmp_path, "acl_smtp_rcpt = r\nbegin acl\nr:\n " + acl + "\n" + REST), "check-config")
    assert code == 0
    assert ("relays for everybody" in err) == open_relay, err


@pytest.mark.parametrize("acl, why", [
    ("accept encrypted = *", "that uses TLS may send to somebody@elsewhere.invalid"),
    ("accept condition = ${if eq{$received_port}{587}}", "to port 587"),
    ("accept condition = ${if eq{$interface_port}{465}}", "to port 465"),
    ("accept senders = :", "that gives the null sender"),
    ("accept senders = *@here.example", "that gives stranger@here.example for its sender"),
    ("accept sender_domains = +ours", "for its sender may send to"),
    ("accept sender_domains = @", "that gives stranger@m.example.com for its sender"),
    ("accept local_parts = postmaster", "may send to postmaster@elsewhere.invalid"),
    ("accept local_parts = postmaster\n domains = +ours", None),
    ("accept authenticated = *\n encrypted = *\n senders = *@here.example", None),
    ("accept encrypted = *\n verify = certificate", None),
    ("accept senders = *@here.example\n domains = +ours", None),
])
def test_open_relay_for_some(tmp_path, acl, why):
    """What anybody can do or say opens a relay to anybody."""
    code, out, err = run("-C", conf(tmp_path, "domainlist ours = @ : lsearch;/etc/hosts : here.example\nacl_smtp_rcpt = r\nbegin acl\nr:\n " + acl + "\n" + REST),
                         "check-config")
    assert code == 0, err
    assert (why in err) if why else "relays for everybody" not in err, err


def test_relay_checked_over_all_stages(tmp_path):
    text = "acl_smtp_mail = m\nacl_smtp_rcpt = r\nbegin acl\nm:\n %s\nr:\n accept condition = ${if def:acl_c_fine}\n" + REST
    code, out, err = run("-C", conf(tmp_path, text % "accept set acl_c_fine = 1"), "check-config")
    assert "relays for everybody" in err
    code, out, err = run("-C", conf(tmp_path, text % "deny set acl_c_fine = 1"), "check-config")
    assert "relays for everybody" not in err


@pytest.mark.parametrize("router,why", [
    ("driver = dnslookup\n transport = smtp\n set = foo = 1", "r_NAME = value"),
    ("driver = dnslookup\n transport = smtp\n self = reroute:", "self"),
    ("driver = manualroute\n transport = smtp\n route_list = * mx.example nosuch", "neither an option nor a transport"),
    ("driver = redirect\n data = x\n one_time\n headers_add = X: y", "one_time excludes"),
])
def test_what_the_router_alone_sees(tmp_path, router, why):
    """check-config says no less than a start or reload would."""
    text = "acl_smtp_rcpt = deny\n" + REST.replace("begin routers\n", "begin routers\nfirst:\n %s\n domains = a.example\n" % router, 1)
    code, out, err = run("-C", conf(tmp_path, text), "check-config")
    assert code == 78 and "no errors" not in out and why in err and "router first" in err, (code, out, err)


def test_files_of_tls_are_looked_for(tmp_path):
    (tmp_path / "have.pem").write_text("")
    text = "tls_directories = %s\ntls_certificate = %s/have.pem\ntls_privatekey = %s/gone.key : ${if eq{a}{b}{/nowhere}}\n" % ((tmp_path,) * 3)
    code, out, err = run("-C", conf(tmp_path, text + "acl_smtp_rcpt = deny\n" + REST), "check-config")
    assert code == 0 and "No such file" not in err, err  # what is expanded is keyd's affair
    code, out, err = run("-C", conf(tmp_path, text.replace(" : ${if eq{a}{b}{/nowhere}}", "") + "acl_smtp_rcpt = deny\n" + REST), "check-config")
    assert code == 0 and 'b.conf:4: warning: option "tls_privatekey": %s/gone.key: No such file or directory' % tmp_path in err, err
    assert "have.pem: No such" not in err


def test_config_show(tmp_path):
    path = conf(tmp_path, "acl_smtp_rcpt = deny\nhide redis_servers = 127.0.0.1/0/sesame\nsmtp_accept_max = 77\n" + REST)
    code, out, err = run("-C", path, "config", "show")
    assert code == 0 and "smtp_accept_max = 77\n" in out and "sesame" not in out and "hide redis_servers = <value not displayable>" in out
    assert "recipients_max = " in out, "defaults are shown, too"
    code, out, err = run("-C", path, "config", "show", "--set", "--places")
    assert "recipients_max" not in out and "# %s:4\nsmtp_accept_max = 77\n" % path in out
    code, out, err = run("-C", path, "config", "show", "smtp_accept_max", "out", "nosuch")
    assert code == 1 and out.startswith("smtp_accept_max = 77\nout:\n  driver = dnslookup\n") and "nosuch" in err
    code, out, err = run("-C", path, "config", "show", "--secrets", "redis_servers")
    assert (code, out) == (0, "hide redis_servers = 127.0.0.1/0/sesame\n")


def test_config_show_as_a_daemon(tmp_path):
    path = conf(tmp_path, "acl_smtp_rcpt = deny\nredis_servers = 127.0.0.1/0/sesame\nsmtp_accept_max = 77\n" + REST)
    for daemon, sees, sees_not in (("smtpd", "smtp_accept_max", "redis_servers"), ("router", "redis_servers", "smtp_accept_max"),
                                   ("smtp-out", "begin transports", "begin routers")):
        code, out, err = run("-C", path, "config", "show", "--secrets", "--daemon", daemon)
        assert code == 0 and sees in out and sees_not not in out, (daemon, out)
    assert run("-C", path, "config", "show", "--daemon", "nobody")[0] == 64


def test_migration_report(tmp_path):
    p = tmp_path / "exim.conf"
    p.write_text("""primary_hostname = m.example.com
exim_user = Debian-exim
system_filter = /etc/exim/filter
acl_smtp_rcpt = r
nonsense = 1
begin acl
r:
  accept hosts = 192.0.2.1
    control = wellknown
begin routers
a:
  driver = iplookup
b:
  driver = redirect
  data = ${perl{f}}
c:
  driver = dnslookup
  transport = t
begin transports
t:
  driver = smtp
begin retry
* * F,1h,5m
""")
    code, out, err = run("check-config", "--exim", str(p))
    lines = dict()
    for line in out.splitlines():
        assert line.startswith(str(p)), line
        lines.setdefault(line[len(str(p)):].split(":")[1] if ":" in line[len(str(p)):] else "", []).append(line)
    verdict = {n: v[0].split(": ")[1] for n, v in lines.items() if n.isdigit()}
    assert code == 78
    assert verdict == {"1": "same", "2": "differs", "3": "not supported", "4": "same", "5": "not supported", "8": "same", "9": "not supported",
                       "12": "not supported", "13": "same", "15": "not supported", "16": "same", "18": "same", "20": "same", "23": "same"}, out
    assert "acl_smtp_data" in lines["3"][0], "it says what to write instead"
    assert "redirect router" in lines["12"][0]
    assert out.splitlines()[-1] == "%s: 8 settings mean the same, 1 differ, 5 are not supported" % p


def test_an_exim_configuration_that_only_needs_care(tmp_path):
    """What is without effect is said once, files outside of lookup_directories are named, and nothing of it is an error."""
    p = tmp_path / "exim.conf"
    p.write_text("""queue_run_max = 5
split_spool_directory = true
rfc1413_hosts = *
rfc1413_query_timeout = 5s
domainlist d = lsearch;/var/lib/domains
acl_smtp_rcpt = accept
begin routers
c:
  driver = dnslookup
  domains = +d
  transport = t
begin transports
t:
  driver = smtp
  message_linelength_limit = 2147483647
begin retry
* * F,1h,5m
""")
    code, out, err = run("check-config", "--exim", str(p))
    lines = {line[len(str(p)) + 1:].split(":")[0]: line for line in out.splitlines()}
    assert code == 0, out
    assert lines["1"].count("there are no queue runs") == 1
    assert all("differs: " in lines[n] and "ident is not asked" in lines[n] for n in "34"), out
    assert "differs: list d: router will not see /var/lib/domains: name its directory in lookup_directories" in lines["5"]
