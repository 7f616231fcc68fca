# SPDX-License-Identifier: ISC
"""Every configuration sample of Exim's experimental specification, in its own place of a whole configuration, is taken by check-config.
Numbers are those of the feature list. Samples of features that are still to come load with a warning that names them."""
import subprocess

import pytest

from bulkhead import BIN

HEAD = """primary_hostname = m.example.com
acl_smtp_connect = c
acl_smtp_rcpt = r
acl_smtp_data = d
domainlist local_domains = example.com
domainlist relay_to_domains = example.net
domainlist screwed_up_dmarc_records = example.org
hostlist dmarc_exempt = 192.0.2.0/24
"""


def place(where, text):
    """A whole configuration with the text where it belongs."""
    parts = dict(main="", connect="", rcpt="", data="", router="", transport="", auth="")
    parts[where] = text
    parts["scan"] = "scan:\n  driver = accept\n  transport = scan\n  unseen\n" if text.startswith("scan:") else ""
    return HEAD + parts["main"] + """
begin acl
c:
%(connect)s
  accept
r:
%(rcpt)s
  accept domains = +local_domains : +relay_to_domains
d:
%(data)s
  accept
begin routers
%(router)s
%(scan)s
last:
  driver = dnslookup
  transport = remote_smtp
begin transports
%(transport)s
remote_smtp:
  driver = smtp
begin authenticators
%(auth)s
begin retry
* * F,2h,15m
""" % parts


BMI, SPF, SRS, DCC, DMARC, ARC, EVENT = ("bmi_", "spf", "srs", "dcc", "dmarc_", "arc", "event_action")
# number, where, text, what a warning names (None: all of it is served)
SAMPLES = [
    ("2a", "rcpt", "  accept domains = +local_domains\n    endpass\n    verify = recipient\n    control = bmi_run\n", "bmi_run"),
    ("2b", "rcpt", "  accept domains = +relay_to_domains\n    endpass\n    verify = recipient\n    control = bmi_run\n", "bmi_run"),
    ("3", "router", "bmi_blackhole:\n  driver = redirect\n  bmi_dont_deliver\n  data = :blackhole:\n", BMI),
    ("4", "router", "rules:\n  driver = redirect\n  bmi_rule = 5:8:11\n  data = trash@example.com\n", BMI),
    ("5", "router", "add:\n  driver = accept\n  domains = +local_domains\n  headers_add = X-Brightmail-Verdict: $bmi_base64_verdict\n"
     "  transport = remote_smtp\n", None),
    ("6", "router", "add:\n  driver = accept\n  domains = +local_domains\n  headers_add = X-Brightmail-Tracker: $bmi_base64_tracker_verdict\n"
     "  transport = remote_smtp\n", None),
    ("8", "rcpt", "  warn bmi_optin = ${lookup{$local_part@$domain}lsearch{/etc/bmi/optin}}\n    control = bmi_run\n", "bmi_optin"),
    ("9", "rcpt", "  deny spf = fail\n    message = $sender_host_address is not allowed to send mail from "
     "${if def:sender_address_domain {$sender_address_domain}{$sender_helo_name}}.  \\\n    Why: https://spf.example.com/\n", SPF),
    ("10", "rcpt", "  deny message = no\n    sender_domains = aol.com\n    spf = fail:neutral\n", SPF),
    ("11", "rcpt", "  deny spf_guess = fail\n", "spf_guess"),
    ("12", "main", "spf_guess = v=spf1 a/16 mx/16 ptr ?all\n", "spf_guess"),
    ("14", "main", "SRS_SECRET = sesame\n", None),
    ("15", "router", "outbound:\n  driver = dnslookup\n  domains = ! +local_domains\n  transport = ${if eq {$local_part@$domain} "
     "{$original_local_part@$original_domain} {remote_smtp}{remote_smtp}}\n", None),
    ("16", "router", "SRS_SECRET = sesame\ninbound_srs:\n  driver = redirect\n  senders = :\n  domains = example.com\n"
     "  condition = ${if inbound_srs {$local_part}{SRS_SECRET}}\n  data = $srs_recipient\n", None),
    ("17", "router", "inbound_srs_failure:\n  driver = redirect\n  senders = :\n  domains = example.com\n"
     "  condition = ${if inbound_srs {$local_part}{}}\n  allow_fail\n  data = :fail: Invalid SRS recipient address\n", None),
    ("18", "transport", "SRS_SECRET = sesame\nremote_forwarded_smtp:\n  driver = smtp\n  max_rcpt = 1\n"
     "  return_path = ${srs_encode {SRS_SECRET} {$return_path} {$original_domain}}\n", None),
    ("18b", "router", "forwarding_router:\n  driver = redirect\n  srs = forward\n  data = x@example.net\n", SRS),
    ("18c", "router", "srs_router:\n  driver = redirect\n  srs = reverseandforward\n  data = ${srs_recipient}\n", SRS),
    ("18d", "main", "hide srs_config = mysecret:60:5\n", "srs_config"),
    ("19", "main", "dccifd_address = /usr/local/dcc/var/dccifd\n", "dccifd_address"),
    ("20", "main", "dccifd_address = 192.0.2.1 3333\n", "dccifd_address"),
    ("21", "data", "  deny dcc = *\n", DCC),
    ("22", "data", "  deny dcc = */defer_ok\n", DCC),
    ("23", "data", "  defer !dcc = *\n", DCC),
    ("24", "main", "dcc_direct_add_header = true\n", "dcc_direct_add_header"),
    ("25", "data", "  warn set acl_m_dcc_override_client_ip = ${lookup{$sender_helo_name}nwildlsearch{/etc/mail/multipleip_sites}{$value}{}}\n"
     "    condition = ${if def:acl_m_dcc_override_client_ip}\n    log_message = dbg: acl_m_dcc_override_client_ip set to \\\n"
     "      $acl_m_dcc_override_client_ip\n", None),
    ("27", "rcpt", "  warn control = dmarc_disable_verify\n", None),
    ("28", "rcpt", "  warn control = dmarc_enable_forensic\n", "dmarc_enable_forensic"),
    ("29a", "rcpt", "  warn domains = +local_domains\n    hosts = +dmarc_exempt\n    control = dmarc_disable_verify\n", None),
    ("29b", "rcpt", "  warn !domains = +screwed_up_dmarc_records\n    control = dmarc_enable_forensic\n", "dmarc_enable_forensic"),
    ("29c", "rcpt", "  warn condition = ${if eq{$sender_address_local_part}{list}}\n    set acl_m_mailing_list = 1\n", None),
    ("30", "data", "  warn dmarc_status = accept : none : off\n    !authenticated = *\n    log_message = DMARC DEBUG: $dmarc_status $dmarc_used_domain\n"
     "  warn dmarc_status = !accept\n    !authenticated = *\n    log_message = DMARC DEBUG: '$dmarc_status' for $dmarc_used_domain\n"
     "  warn dmarc_status = quarantine\n    !authenticated = *\n    set $acl_m_quarantine = 1\n"
     "  deny condition = ${if eq{$dmarc_domain_policy}{reject}}\n    condition = ${if eq{$acl_m_mailing_list}{1}}\n"
     "    message = Messages from $dmarc_used_domain break mailing lists\n"
     "  deny dmarc_status = reject\n    !authenticated = *\n    message = Message from $dmarc_used_domain failed sender's DMARC policy, REJECT\n"
     "  warn add_header = :at_start:${authresults {$primary_hostname}}\n", DMARC),
    ("31", "data", "  accept verify = arc/none:fail:pass\n", ARC),
    ("32", "data", "  warn add_header = :at_start:${authresults {m.example.com}}\n", None),
    ("33", "data", "  warn logwrite = oldest-p-ams: <${reduce {$lh_ARC-Authentication-Results:} {} {${if = {$arc_oldest_pass} "
     "{${extract {i}{${extract {1}{;}{$item}}}}} {$item}{$value}}} }>\n", None),
    ("34", "transport", "signing:\n  driver = smtp\n  arc_sign = example.com : sel : /etc/keys/arc.pem : timestamps\n", "arc_sign"),
    ("35", "main", "dsn_advertise_hosts = *\n", None),
    ("36", "router", "here:\n  driver = accept\n  domains = +local_domains\n  dsn_lasthop\n  transport = remote_smtp\n", None),
    ("41", "rcpt", "  accept condition = ${lookup{$sender_address_domain}lmdb{/etc/mail/relaydomains.mdb}{$value}}\n", None),
    ("42", "rcpt", "  accept condition = ${lookup{$sender_address_domain}lmdb{/etc/mail/relaydomains.mdb}{$value}fail}\n", None),
    ("43", "rcpt", "  accept condition = ${lookup{$sender_address_domain}lmdb{/etc/mail/relaydomains.mdb}}\n", None),
    ("44", "main", "redis_servers = 127.0.0.1/10/\n", None),
    ("45", "main", "redis_servers = 127.0.0.1/10/:192.0.2.1/10/using_a_password\n", None),
    ("46", "main", "redis_servers = (/run/redis/redis.sock)/10/password\n", None),
    ("47", "main", "hostlist relay_from_ips = <\\n ${lookup redis{SMEMBERS relay_from_ips}}\n", None),
    ("48", "main", "domainlist virtual_domains = ${lookup redis {HGET ${quote_redis:$domain} domain}}\n", None),
    ("49", "rcpt", "  warn set acl_c_spammer = ${if eq{${lookup redis{SET SPAMMER <${quote_redis:$sender_host_address}>}}}{OK}}\n", None),
    ("50", "rcpt", "  warn set acl_c_spam_host = ${lookup redis{GET ${quote_redis:$sender_host_address}}}\n", None),
    ("51-52", "transport", "scan:\n  driver = queuefile\n  directory = /var/spool/baruwa-scanner/input\n", None),
    ("54", "transport", "named:\n  driver = smtp\n  helo_data = ${if def:sending_ip_address {${lookup dnsdb{>! ptr=$sending_ip_address} "
     "{${sg{$value} {^([^!]*).*\\$} {\\$1}}} fail}} {$primary_hostname}}\n", None),
    ("60", "auth", "dovecot-plain:\n  driver = dovecot\n  public_name = PLAIN\n  server_socket = dovecot_server_name 12345\n"
     "  server_tls = true\n  server_set_id = $auth1\n", None),
    ("61", "main", "pgsql_servers = 127.0.0.1/mail/mail/secret\nevent_action = ${if eq {msg:delivery}{$event_name} "
     "{${lookup pgsql {SELECT * FROM record_Delivery('${quote_pgsql:$sender_address_domain}', "
     "'${quote_pgsql:${lc:$sender_address_local_part}}', '${quote_pgsql:$domain}', '${quote_pgsql:${lc:$local_part}}', "
     "'${quote_pgsql:$host_address}', '${quote_pgsql:${lc:$host}}', '${quote_pgsql:$message_exim_id}')}}} {}}\n", EVENT),
    ("62", "main", "proxy_required_hosts = 192.0.2.0/24\n", None),
    ("63", "main", "log_selector = +proxy\n", None),
    ("64", "connect", "  warn condition = ${if and{ {bool{$proxy_session}} {eq{$proxy_host_address}{}} } }\n"
     "    log_message = Failed required proxy protocol negotiation\n", None),
    ("65", "connect", "  warn condition = ${if and{ {bool{$proxy_session}} {!eq{$proxy_host_address}{}} } }\n"
     "    condition = ${if eq{$proxy_host_address}{$sender_host_address} {false}{true}}\n    log_message = Successfully proxied from host:$sender_host_address\n",
     None),
    ("66", "connect", "  warn logwrite = Sender Address/Port: $sender_host_address:$sender_host_port\n"
     "    logwrite = Proxy target: $proxy_target_address:$proxy_target_port\n    logwrite = Proxy host: $proxy_host_address:$proxy_host_port\n"
     "    logwrite = Received: $received_ip_address:$received_port\n", None),
    ("67", "rcpt", "LIMIT = 5\n  defer message = Too many connections from this IP right now\n    ratelimit = LIMIT / 5m / per_conn / strict\n", None),
    ("69", "transport", "proxied:\n  driver = smtp\n  socks_proxy = 192.0.2.1 auth=name name=u pass=p port=1081 tmo=3 : 192.0.2.2\n", None),
    ("71", "transport", "dane:\n  driver = smtp\n  hosts_request_ocsp = ${if or { {= {0}{$tls_out_tlsa_usage}} {= {4}{$tls_out_tlsa_usage}} } {*}{}}\n", None),
    ("73", "transport", "certs:\n  driver = smtp\n  tls_verify_cert_hostnames = *\n", None),
]


@pytest.mark.parametrize("number, where, text, pending", SAMPLES, ids=[s[0] for s in SAMPLES])
def test_sample_loads(tmp_path, number, where, text, pending):
    p = tmp_path / "sample.conf"
    if where == "rcpt" and text.startswith("LIMIT"):  # macros stand outside of an ACL
        macro, text = text.split("\n", 1)
        p.write_text(macro + "\n" + place(where, text))
    else:
        p.write_text(place(where, text))
    done = subprocess.run([BIN, "-C", str(p), "check-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    warned = [l for l in done.stderr.decode().splitlines() if "in this build" in l]
    if pending:
        assert warned and any(pending in l for l in warned), done.stderr.decode()
    else:
        assert not warned, warned


@pytest.mark.parametrize("line, want", [
    ("${lookup {username@example.com} spf {192.0.2.1}}", None),                                    # 13
    ("${utf8_domain_to_alabel:straße.example}", "xn--strae-oqa.example"),                           # 72
    ("${utf8_domain_from_alabel:xn--strae-oqa.example}", "straße.example"),
    ("${utf8_localpart_to_alabel:straße}", "xn--strae-oqa"),
    ("${utf8_localpart_from_alabel:xn--strae-oqa}", "straße"),
])
def test_sample_expansion(tmp_path, line, want):
    conf = tmp_path / "b.conf"
    conf.write_text(place("main", ""))
    done = subprocess.run([BIN, "-C", str(conf), "expand", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    if want is None:
        assert b"Failed" in done.stdout and b"not " in done.stdout, "it is told what is missing"
    else:
        assert done.stdout.decode() == want + "\n", done.stderr


def test_older_names_are_warned_of(tmp_path):
    p = tmp_path / "b.conf"
    p.write_text(place("connect", "  warn logwrite = $proxy_host_address ${lc:$proxy_target_port}\n"))
    err = subprocess.run([BIN, "-C", str(p), "check-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE).stderr.decode()
    assert '%s:12: warning: "$proxy_host_address" is an older name: write $proxy_local_address' % p in err
    assert "$proxy_external_port" in err
    p.write_text(place("main", "proxy_required_hosts = 192.0.2.1\n"))
    err = subprocess.run([BIN, "-C", str(p), "check-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE).stderr.decode()
    assert "hosts_proxy" in err and "proxy_required_hosts" in err
    for slip, near in (("$sender_address_host", "$sender_host_address"), ("$domain_used_domain", "$dmarc_used_domain")):
        p.write_text(place("data", "  warn logwrite = %s\n" % slip))
        done = subprocess.run([BIN, "-C", str(p), "check-config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 78 and ("unknown variable \"%s\"" % slip) in done.stderr.decode(), done.stderr
