# SPDX-License-Identifier: ISC
"""DANE as the client: docs/TLS.md's table row by row, with DANE tried and with DANE required. Zones on nsd, signed and broken on purpose,
behind unbound; every host is a server of its own. One message for each row, then one look at what became of it."""
import json
import re
import subprocess

import pytest

import dane_world
from bulkhead import BIN, Client, Instance, wait_for
from dane_world import Host, World
from peers import Postfix

pytestmark = pytest.mark.skipif(not dane_world.have_servers(), reason="nsd, unbound and ldnsutils are not installed")

NO_MATCH = r"DANE attempt failed; TLS connection to {host} \[{ip}\]: certificate verification failed: no matching DANE TLSA records"
NO_STARTTLS = "a TLS session is required, but the server did not offer TLS support"
UNUSABLE = "DANE error: No usable TLSA records"
LOOKUP = "DANE error: tlsa lookup DEFER"
NOT_SECURE = r"DANE error: {host} lookup not DNSSEC"
TLSA_NOT_SECURE = r"DANE error: TLSA lookup for {host} not DNSSEC"
NO_RECORDS = r"DANE error: tlsa lookup FAIL: {host} has no TLSA records"
REFUSED = "DANE error: tlsa lookup FAIL: refused for {host}"
MANY = ["3 1 1 =ff%062x" % i for i in range(45)]



def both(name, first, second, want, required):
    """A domain with two MX, once for each way, since what one message learns of a host holds for the next."""
    for local, result in (("tried", want), ("required", required)):
        n = "%s-%s" % (name, local)
        yield Host(n + "-a", only="", **first)
        yield Host(n + "-b", only="", **second)
        if isinstance(result, str):
            result = result.replace("via ", "via %s-" % n)
        yield Host(n, mx=[n + "-a.mx", n + "-b.mx"], address=False, server=False, only=local, want=result)


# What becomes of a message: "dane" (verified), "tls" (encrypted, no DANE), "clear"; ("defer", text), ("fail", text).
ROWS = [
    # records that can be used, and that fit
    Host("ee-spki-256", ["3 1 1 valid"], want="dane"),
    Host("ee-spki-512", ["3 1 2 valid"], want="dane"),
    Host("ee-cert-256", ["3 0 1 valid"], want="dane"),
    Host("ee-cert-full", ["3 0 0 valid"], want="dane"),
    Host("ee-key-full", ["3 1 0 valid"], want="dane"),
    Host("ee-lone", ["3 1 1 valid"], lone=True, want="dane"),
    Host("ee-expired", ["3 1 1 expired"], cert="expired", want="dane"),
    Host("ee-othername", ["3 1 1 othername"], cert="othername", want="dane"),
    Host("ta-spki-256", ["2 1 1 anchor"], want="dane"),
    Host("ta-cert-512", ["2 0 2 anchor"], want="dane"),
    Host("ta-cert-full", ["2 0 0 anchor"], lone=True, want="dane"),
    Host("ta-key-full", ["2 1 0 anchor"], lone=True, want="dane"),
    Host("ta-domain", ["2 1 1 anchor"], cert="domain", want="dane"),     # the certificate is for the next-hop domain
    Host("mixed", ["2 1 1 wrong", "3 1 1 valid"], want="dane"),
    Host("mixed-pkix", ["0 0 1 anchor", "1 1 1 valid", "3 1 1 valid"], want="dane"),
    Host("roll", ["3 1 1 wrong", "3 1 1 valid"], want="dane"),
    Host("agility", ["3 1 1 wrong", "3 1 2 valid"], want="dane"),
    Host("many", MANY + ["3 1 1 valid"], want="dane"),
    Host("old", ["3 1 1 valid"], tls12=True, want="dane"),
    Host("old-none", tls12=True, want="tls", required=("fail", NO_RECORDS)),
    # ... and that do not fit
    Host("mismatch", ["3 1 1 wrong"], want=("defer", NO_MATCH)),
    Host("mismatch-ta", ["2 1 1 wrong"], want=("defer", NO_MATCH)),
    Host("agility-no", ["3 1 1 valid", "3 1 2 wrong"], want=("defer", NO_MATCH)),
    Host("ta-not-sent", ["2 1 1 anchor"], lone=True, want=("defer", "DANE attempt failed; TLS connection to {host} ")),
    Host("ta-expired", ["2 1 1 anchor"], cert="expired", want=("defer", "DANE attempt failed; TLS connection to .*expired")),
    Host("ta-othername", ["2 1 1 anchor"], cert="othername", want=("defer", "DANE attempt failed; TLS connection to .*ostname mismatch")),
    Host("no-starttls", ["3 1 1 valid"], cert=None, want=("defer", NO_STARTTLS)),
    Host("hidden", ["3 1 1 valid"], hide=True, want=("defer", NO_STARTTLS)),
    Host("refused-starttls", ["3 1 1 valid"], starttls="454 not now", want=("defer", "454 not now")),
    Host("refused-starttls5", ["3 1 1 valid"], starttls="554 never", want=("defer", "554 never")),
    # secure, but none can be used
    Host("pkix-only", ["0 0 1 anchor", "1 1 1 valid"], want=("defer", UNUSABLE)),
    Host("selector-7", ["3 7 1 =" + "ab" * 32], want=("defer", UNUSABLE)),
    Host("matching-9", ["3 1 9 =" + "ab" * 32], want=("defer", UNUSABLE)),
    Host("short", ["3 1 1 =abcd", "3 1 2 =" + "ab" * 32], want=("defer", UNUSABLE)),
    Host("not-der", ["3 1 0 =" + "ab" * 60], want=("defer", UNUSABLE)),
    # none at all
    Host("none", want="tls", required=("fail", NO_RECORDS)),
    Host("none-clear", cert=None, want="clear", required=("fail", NO_RECORDS)),
    # records whose answer is not secure, is bogus, or does not come
    Host("insecure-tlsa", zone={"dane.test": "{tlsa} IN CNAME {name}.child", "child.dane.test": "{name} IN TLSA!3 1 1 wrong"}, want="tls",
         required=("fail", TLSA_NOT_SECURE)),
    Host("bogus-tlsa", zone={"dane.test": "{tlsa} IN CNAME {name}.bogus.test.", "bogus.test": "{name} IN TLSA 3 1 1 " + "aaaaaaaa" * 8},
         want=("defer", LOOKUP)),
    Host("expired-tlsa", zone={"dane.test": "{tlsa} IN CNAME {name}.expired.test.", "expired.test": "{name} IN TLSA!3 1 1 valid"},
         want=("defer", LOOKUP)),
    Host("wrongkey-tlsa", zone={"dane.test": "{tlsa} IN CNAME {name}.wrongkey.test.", "wrongkey.test": "{name} IN TLSA!3 1 1 valid"},
         want=("defer", LOOKUP)),
    Host("bogus-denial", zone={"dane.test": "{tlsa} IN CNAME nothing.{name}.expired.test."}, want=("defer", LOOKUP)),
    Host("refused", ["3 1 1 valid"], refuse=True, want=("defer", LOOKUP), required=("fail", REFUSED)),
    Host("silent", ["3 1 1 valid"], silent=True, want=("defer", LOOKUP)),
    # addresses and MX that are not secure
    Host("insecure-host", address=False, mx=["insecure-host.mx.plain.test."], zone={"plain.test": "{host} IN A {ip}\n{tlsa} IN TLSA!3 1 1 wrong"},
         want="tls", required=("fail", NOT_SECURE)),
    Host("insecure-mx", ["3 1 1 wrong"], domain="insecure-mx.plain.test", zone={"plain.test": "{name} IN MX 10 {host}.dane.test."},
         want="tls", required=("fail", NOT_SECURE)),
    Host("child-host", address=False, mx=["child-host.child"], zone={"child.dane.test": "{name} IN A {ip}\n_{port}._tcp.{name} IN TLSA!3 1 1 wrong"},
         want="tls", required=("fail", NOT_SECURE)),
    # aliases (RFC 7672, section 2.2.2)
    Host("tlsa-alias", zone="{tlsa} IN CNAME records.{name}\nrecords.{name} IN TLSA!3 1 1 valid", want="dane"),
    Host("alias", address=False, zone="{host} IN CNAME real.mx\nreal.mx IN A {ip}\n_{port}._tcp.real.mx IN TLSA!2 1 1 anchor", want="dane"),
    Host("alias-own", ["2 1 1 anchor"], address=False, zone="{host} IN CNAME real2.mx\nreal2.mx IN A {ip}", want="dane"),
    Host("alias-out", ["3 1 1 valid"], address=False, zone={"dane.test": "{host} IN CNAME real3.mx.plain.test.", "plain.test": "real3.mx IN A {ip}"},
         want="dane"),
    Host("alias-out-bad", ["3 1 1 wrong"], address=False,
         zone={"dane.test": "{host} IN CNAME real4.mx.plain.test.", "plain.test": "real4.mx IN A {ip}"}, want=("defer", NO_MATCH)),
    # without MX: the domain is the host
    Host("bare", mx=[], address=False, zone="{name} IN A {ip}\n_{port}._tcp.{name} IN TLSA!3 1 1 valid", want="dane"),
    # several hosts, each under its own facts: an MX of these, and another of those
    *both("broken-then-good", dict(tlsa=["3 1 1 wrong"]), dict(tlsa=["3 1 1 valid"]), "dane via b", "dane via b"),
    *both("unusable-then-good", dict(tlsa=["1 1 1 valid"]), dict(tlsa=["2 1 1 anchor"]), "dane via b", "dane via b"),
    *both("bogus-then-good", dict(zone="{tlsa} IN CNAME nothing.expired.test."), dict(tlsa=["3 1 1 valid"]), "dane via b", "dane via b"),
    *both("stripped-then-none", dict(tlsa=["3 1 1 valid"], hide=True), dict(), "tls via b", ("defer", NO_RECORDS)),
    *both("broken-then-clear", dict(tlsa=["3 1 1 wrong"]), dict(cert=None), "clear via b", ("defer", NO_RECORDS)),
    *both("broken-then-broken", dict(tlsa=["3 1 1 wrong"]), dict(tlsa=["2 1 1 wrong"]), ("defer", NO_MATCH), ("defer", NO_MATCH)),
    *both("none-then-good", dict(), dict(tlsa=["3 1 1 valid"]), "tls via a", "dane via b"),
    *both("none-then-none", dict(), dict(cert=None), "tls via a", ("fail", NO_RECORDS)),
    *both("none-then-broken", dict(), dict(tlsa=["3 1 1 wrong"]), "tls via a", ("defer", NO_MATCH)),
]

ROUTERS = """
required:
  driver = dnslookup
  local_parts = required
  self = send
  transport = required
reports:
  driver = redirect
  domains = local.example
  data = :blackhole:
tried:
  driver = dnslookup
  self = send
  transport = tried
"""
# What DANE does not heed stands here, too: none of it may matter.
TRANSPORTS = """
tried:
  driver = smtp
  port = {target}
  allow_localhost
  command_timeout = 20s
  hosts_max_try = 9
required:
  driver = smtp
  port = {target}
  allow_localhost
  hosts_require_dane = *
  command_timeout = 20s
  hosts_max_try = 9
"""
MAIN = """
dns_resolvers = {resolver}
dns_retrans = 1s
dns_retry = 1
dns_again_means_nonexist = *.test
log_selector = +tls_certificate_verified +tls_cipher +tls_sni +dnssec
remote_max_parallel = 20
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(str(tmp_path_factory.mktemp("dane")), ROWS)
    yield w
    w.close()


def started(world, **kw):
    kw.setdefault("routers", ROUTERS)
    kw.setdefault("transports", TRANSPORTS)
    i = Instance(main=MAIN + kw.pop("main", ""), retry="* * F,2h,1h", target=world.port, resolver=world.names.address, **kw)
    return i.start()


def lines_of(log, address):
    return [line for line in log.splitlines() if re.search(r" (=>|->|\*\*|==) <?%s[ >]" % re.escape(address), line)]


@pytest.fixture(scope="module")
def sent(world):
    """One message to each row, from one instance tried and from another required (what one learns of a host, it knows for the next
    message); both logs once all are settled."""
    log = ""
    for local in ("tried", "required"):
        i = started(world)
        addresses = ["%s@%s" % (local, r.rcpt_domain()) for r in world.rows if local in r.locals()]
        c = Client(i.port)
        c.ask("EHLO client.example", 250)
        for a in addresses:
            c.ask("MAIL FROM:<s@local.example>", 250)
            c.ask("RCPT TO:<%s>" % a, 250)
            c.ask("DATA", 354)
            assert c.data("Subject: x\r\n\r\nx\r\n").startswith("250")
        wait_for(lambda: all(lines_of(i.log(), a) for a in addresses), 120,
                 why=lambda: "no result for %s\n%s" % ([a for a in addresses if not lines_of(i.log(), a)], i.logs()))
        log += i.log()
        i.destroy()
    return log


def check(world, sent, row, address, want):
    line = lines_of(sent, address)[0]
    if isinstance(want, tuple):
        kind, text = want
        text = text.replace("{host}", r"\S+").replace("{ip}", r"[\d.]+") if row.mx is not None else \
            text.replace("{host}", re.escape(row.host() + ".dane.test")).replace("{ip}", re.escape(row.ip))
        assert (" == " if kind == "defer" else " ** ") in line, line
        assert re.search(text, line), line
        assert not any(got[0] == address for r in world.rows if r.target for got in r.target.got)
        return
    how, _, via = want.partition(" via ")
    server = world.of[via] if via else row
    got = [g for g in server.target.got if g[0] == address]
    assert " => " in line and len(got) == 1, line
    assert got[0][1] == (how != "clear"), got
    assert ("CV=dane" in line) == (how == "dane"), line
    assert (" X=TLS" in line) == (how != "clear"), line
    if how == "tls" and server.cert == "valid":
        assert "CV=no" in line, line


@pytest.mark.parametrize("row", [r for r in ROWS if "tried" in r.locals()], ids=lambda r: r.name)
def test_dan1_tried(world, sent, row):
    check(world, sent, row, "tried@" + row.rcpt_domain(), row.want)


@pytest.mark.parametrize("row", [r for r in ROWS if "required" in r.locals()], ids=lambda r: r.name)
def test_dan2_required(world, sent, row):
    check(world, sent, row, "required@" + row.rcpt_domain(), row.required or row.want)


@pytest.mark.parametrize("name, sni", [("ee-spki-256", "ee-spki-256.mx.dane.test"), ("tlsa-alias", "tlsa-alias.mx.dane.test"), ("alias", "real.mx.dane.test"),
                                       ("alias-own", "alias-own.mx.dane.test"), ("alias-out", "alias-out.mx.dane.test"), ("bare", "bare.dane.test")])
def test_dan_sni_is_the_base_name(world, sent, name, sni):
    assert set(g[2] for g in world.of[name].target.got) == {sni}


def test_dan_insecure_tlsa_is_told(world, sent):
    """Mail goes as without DANE, and somebody may want to know."""
    assert re.search("DANE error: TLSA lookup for insecure-tlsa.mx.dane.test not DNSSEC", sent)


def test_dan9_dnssec_in_the_log(world, sent):
    assert re.search(r"H=ee-spki-256\.mx\.dane\.test DS \[", lines_of(sent, "tried@ee-spki-256.dane.test")[0])
    assert " DS" not in lines_of(sent, "tried@insecure-mx.plain.test")[0]


def test_dan_more_than_forty(world, sent):
    assert re.search("DANE: many.mx.dane.test has 46 TLSA records: 40 of them are used", sent)


def test_dan10_ocsp_is_asked_where_it_tells_something(world, sent):
    """By default: without DANE, and with anchors alone; not where the zone itself has the key."""
    for name, asked in (("ee-spki-256", False), ("ta-spki-256", True), ("mixed", False), ("none", True)):
        assert set(world.of[name].target.asked_ocsp) == {asked}, name


def test_dan10_sample_71(world, tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("primary_hostname = mail.here.example\nlocal_interfaces = 127.0.0.1\nacl_smtp_rcpt = all\n" + MAIN.format(resolver=world.names.address) +
                    "begin acl\nall:\n accept\nbegin routers\n" + ROUTERS + "begin transports\n" + TRANSPORTS.replace("{target}", str(world.port)).replace(
                        "tried:\n  driver = smtp\n", "tried:\n  driver = smtp\n  hosts_request_ocsp = ${if or { {= {0}{$tls_out_tlsa_usage}} {= {4}{$tls_out_tlsa_usage}} } {*}{}}\n"
                        "  tls_alpn = usage$tls_out_tlsa_usage\n"))
    for name, usage, value in (("ee-spki-256", 8, ""), ("ta-spki-256", 4, "*"), ("mixed", 12, ""), ("none", 0, "*"), ("pkix-only", 0, "*")):
        p = subprocess.run([BIN, "-C", str(conf), "route", "--json", "tried@%s.dane.test" % name], stdout=subprocess.PIPE, timeout=60)
        leaf, = json.loads(p.stdout)
        assert (leaf["options"]["tls_alpn"], leaf["options"]["hosts_request_ocsp"]) == ("usage%d" % usage, value), name


def delivered(instance, world, name):
    """The line of the log for a message to that row, and what its server saw."""
    address = "tried@" + world.of[name].rcpt_domain()
    before = len(world.of[name].target.got)
    instance.send("s@local.example", address)
    line = wait_for(lambda: lines_of(instance.log(), address), 30, why=instance.logs)[-1]
    return line, world.of[name].target.got[before:]


def test_dan_options_that_do_not_hold(world):
    """None of what says how TLS is done without DANE makes a difference with it; tls_tempfail_tryclear is on by default."""
    i = started(world, transports=TRANSPORTS.replace("tried:\n  driver = smtp\n", "tried:\n  driver = smtp\n  hosts_avoid_tls = *\n  tls_verify_hosts = *\n  tls_verify_cert_hostnames = *\n"
                                                     "  tls_sni = other.example\n  tls_crl = /nowhere/crl.pem\n  tls_verify_certificates = /nowhere/ca.pem\n", 1))
    try:
        line, got = delivered(i, world, "ee-othername")
        assert "CV=dane" in line and got[0][1] and got[0][2] == "ee-othername.mx.dane.test", line
        line, got = delivered(i, world, "ta-spki-256")
        assert "CV=dane" in line, line
        line, got = delivered(i, world, "none")   # the same options hold there
        assert " => " in line and not got[0][1], line
        line, got = delivered(i, world, "mismatch")
        assert " == " in line and not got, line
    finally:
        i.destroy()


def test_dan3_ciphers(world):
    i = started(world, transports=TRANSPORTS.replace("tried:\n  driver = smtp\n", "tried:\n  driver = smtp\n  tls_require_ciphers = ECDHE-ECDSA-AES128-GCM-SHA256\n"
                                                     "  dane_require_tls_ciphers = ECDHE-ECDSA-AES256-GCM-SHA384\n", 1))
    try:
        assert delivered(i, world, "old")[1][0][3] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        assert delivered(i, world, "old-none")[1][0][3] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    finally:
        i.destroy()


def test_dan1_lists(world):
    """hosts_try_dane without the host: its records are not asked for; dnssec_request_domains without the domain: nothing is secure."""
    i = started(world, transports=TRANSPORTS.replace("tried:\n  driver = smtp\n", "tried:\n  driver = smtp\n  hosts_try_dane = !mismatch.mx.dane.test : *\n", 1),
                routers=ROUTERS.replace("tried:\n", "tried:\n  dnssec_request_domains = !mismatch-ta.dane.test : *\n", 1))
    try:
        assert delivered(i, world, "mismatch")[1][0][1]
        assert delivered(i, world, "mismatch-ta")[1][0][1]
        assert "CV=dane" in delivered(i, world, "ee-spki-256")[0]
    finally:
        i.destroy()


def test_dan_tls_required_no(world):
    """RFC 8689: the sender waives what the recipient's side has published, for TLS as good as it comes."""
    i = started(world)
    try:
        for address in ("tried@mismatch.dane.test", "tried@pkix-only.dane.test"):   # what would fail, and what would not even be tried
            i.send("s@local.example", address, b"TLS-Required: No\r\nSubject: x\r\n\r\nx\r\n")
            line = wait_for(lambda: lines_of(i.log(), address), 30, why=i.logs)[-1]
            assert " => " in line and " X=TLS" in line and "CV=dane" not in line, line
        address = "required@mismatch.dane.test"
        i.send("s@local.example", address, b"TLS-Required: No\r\nSubject: x\r\n\r\nx\r\n")
        assert " == " in wait_for(lambda: lines_of(i.log(), address), 30, why=i.logs)[-1]
    finally:
        i.destroy()


def test_dan11_status_beside_a_key_of_its_own(world):
    """hosts_require_ocsp is the administrator's affair; that it adds nothing to usage 3 is told."""
    i = started(world, transports=TRANSPORTS.replace("allow_localhost\n", "allow_localhost\n  hosts_require_ocsp = *\n"))
    try:
        i.send("s@local.example", "tried@ee-spki-256.dane.test", b"Subject: x\r\n\r\nx\r\n")
        line = wait_for(lambda: lines_of(i.log(), "tried@ee-spki-256.dane.test"), 30, why=i.logs)[-1]
        assert " == " in line and "certificate status" in line, line
        i.wait_log(r"DANE: the TLSA records of ee-spki-256.mx.dane.test name its own key: .*hosts_require_ocsp")
    finally:
        i.destroy()


def test_dan_and_requiretls(world):
    """RFC 8689: a host's name that an unsigned MX record gave is none for a marked message; under DANE only the promise is missing."""
    i = started(world, main="acl_smtp_data = accept control = requiretls\n")
    try:
        for address, why in (("tried@insecure-mx.plain.test", "comes from an MX record that is not signed"),
                                     ("tried@ee-spki-256.dane.test", "REQUIRETLS support required")):
            i.send("s@local.example", address, b"Subject: x\r\n\r\nx\r\n")
            line = wait_for(lambda: lines_of(i.log(), address), 30, why=i.logs)[-1]
            assert " ** " in line and why in line, line
            assert not [g for r in world.rows if r.target for g in r.target.got if g[0] == address and not g[1]], "nothing in clear"
    finally:
        i.destroy()


def test_dan_command_prints_records(world, tmp_path):
    """`bulkhead tlsa`: what openssl makes of the same certificate, and a server that shows it is verified by it."""
    chain = world.certs.of["valid"][2]
    p = subprocess.run([BIN, "tlsa", "--cert", chain, "--port", "26", "mx.a.test", "mx.b.test"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    want = ["_26._tcp.%s. IN TLSA %s" % (h, world.certs.record(spec)) for h in ("mx.a.test", "mx.b.test") for spec in ("3 1 1 valid", "2 1 1 anchor")]
    assert (p.returncode, p.stdout.decode().splitlines()) == (0, want), p.stderr
    p = subprocess.run([BIN, "tlsa", "--cert", world.certs.of["valid"][3], "mx.a.test"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout.decode().splitlines() == ["_25._tcp.mx.a.test. IN TLSA " + world.certs.record("3 1 1 valid")]
    assert b"no record 2 1 1" in p.stderr
    for argv, code in ((["--cert", "/nowhere"], 74), ([], 64), (["--port", "0", "--cert", chain], 64), (["--cert", __file__], 65)):
        assert subprocess.run([BIN, "tlsa", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE).returncode == code, argv


# ---- the oracle: Debian's Exim as the client of the same servers, through the same resolver ----

EXIM = """
primary_hostname = mail.here.example
log_file_path = {dir}/%slog
spool_directory = {dir}/spool-{way}
exim_user = Debian-exim
exim_group = Debian-exim
dns_dnssec_ok = 1
dns_retrans = 1s
dns_retry = 1
keep_environment =
smtp_accept_max = 0
queue_run_max = 1
begin routers
required:
  driver = dnslookup
  local_parts = required
  self = send
  transport = required
tried:
  driver = dnslookup
  self = send
  transport = tried
begin transports
tried:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_try_dane = *
  command_timeout = 20s
required:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_dane = *
  command_timeout = 20s
begin retry
* * F,2h,1h
"""
# Where the verdicts differ: what Exim 4.96 does with DANE tried and required, and why we do not.
WHOLE = "its GnuTLS takes no record that holds the whole certificate or key of an anchor"
DOMAIN = "it compares the certificate with the host's name alone; RFC 7672, section 3.2.2, has the domain, too"
AGILITY = "its GnuTLS lets the weaker digest count beside the stronger one; RFC 7671, section 9, does not"
NONE_USABLE = "its GnuTLS goes on without DANE, even where that is required, when no record can be used"
ALIAS = "it knows the end of an alias alone; RFC 7672, section 2.2.2, has the alias, too"
DIFFERENCES = {
    "ta-cert-full": ("defer", "defer", WHOLE), "ta-key-full": ("defer", "defer", WHOLE), "ta-domain": ("defer", "defer", DOMAIN),
    "agility-no": ("dane", "dane", AGILITY), "pkix-only": ("tls", "tls", NONE_USABLE), "selector-7": ("tls", "tls", NONE_USABLE),
    "matching-9": ("tls", "tls", NONE_USABLE), "short": ("tls", "tls", NONE_USABLE), "alias-own": ("tls", "fail", ALIAS),
    "refused": ("defer", "defer", "its resolver library gives a refusal as no answer"), "alias-out": ("tls", "fail", ALIAS), "alias-out-bad": ("tls", "fail", ALIAS),
}


def verdict(line):
    if " => " in line:
        return "dane" if "CV=dane" in line else "tls" if " X=" in line else "clear"
    return "defer" if " == " in line else "fail"


def test_dan_verdicts_beside_exim(world, tmp_path):
    from oracle import Oracle
    shared = tmp_path / "exim"
    shared.mkdir()
    shared.chmod(0o777)
    tmp_path.chmod(0o755)
    exim = Oracle(tmp_path, [shared])
    exim.write("/etc/resolv.conf", "nameserver %s\noptions trust-ad edns0 timeout:1 attempts:1\n" % world.names.address)
    differs = []
    for way, local in enumerate(("tried", "required")):
        rows = [r for r in world.rows if local in r.locals() and r.server]
        addresses = ["%s@%s" % (local, r.rcpt_domain()) for r in rows]
        exim.run(["-odi", "-f", "", *addresses], "Subject: x\n\nx\n", EXIM.format(dir=shared, port=world.port, way=local), timeout=240)
        log = (shared / "mainlog").read_text()
        for r, a in zip(rows, addresses):
            want = (r.required or r.want) if local == "required" else r.want
            want = want[0] if isinstance(want, tuple) else want
            lines = [line for line in lines_of(log, a) if "retry timeout" not in line]
            got = verdict(lines[0]) if lines else "nothing"
            if got != DIFFERENCES.get(r.name, (want, want))[way]:
                differs.append((r.name, local, "want " + want, got, lines[:1]))
    assert not differs, "\n".join(map(str, differs)) + "\n"


# ---- other real servers ----

def own(name, records, want):
    return Host(name, records, server=False, want=want)


PEER_ROWS = [("ee", ["3 1 1 valid"], "dane"), ("ta", ["2 1 1 anchor"], "dane"), ("full", ["2 0 0 anchor"], "dane"), ("mixed", ["3 1 2 valid", "2 1 1 wrong"], "dane"),
             ("wrong", ["3 1 1 wrong"], "defer"), ("none", [], "tls")]


def peer_with_tls(kind, certs):
    text, key, chain, _ = certs.of["valid"]

    class Tls(kind):
        def configure(self):
            super().configure()
            for src, dst in ((chain, "server.pem"), (key, "server.key")):
                with open(src) as f:
                    self.write("/etc/ssl/" + dst, f.read())
            if kind is Postfix:
                with open(self.path("/etc/postfix/main.cf"), "a") as f:
                    f.write("smtpd_tls_security_level = may\nsmtpd_tls_cert_file = /etc/ssl/server.pem\nsmtpd_tls_key_file = /etc/ssl/server.key\n"
                            "smtpd_relay_restrictions = permit_mynetworks, reject\nmydestination = peer.example, $mydomain, dane.test, "
                            "ee.dane.test, ta.dane.test, full.dane.test, mixed.dane.test, wrong.dane.test, none.dane.test\n")
    return Tls(None)


def test_dan_postfix(world, tmp_path):
    peer = peer_with_tls(Postfix, world.certs)
    w = None
    try:
        w = World(str(tmp_path), [own(*r) for r in PEER_ROWS], certs=world.certs, port=peer.port, address="127.0.0.1")
        i = started(w)
        try:
            for name, _, want in PEER_ROWS:
                address = "box@%s.dane.test" % name
                i.send("s@local.example", address)
                line = wait_for(lambda a=address: lines_of(i.log(), a), 30, why=i.logs)[-1]
                assert verdict(line) == want, line
        finally:
            i.destroy()
    finally:
        if w:
            w.close()
        peer.close()
