# SPDX-License-Identifier: ISC
"""Routing by DNS against real servers: nsd with zones written and signed here, unbound that validates them; and servers that are dead.
All questions go through `bulkhead route`, that is through the router's own executable."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from bulkhead import BIN, free_port, wait_for

pytestmark = pytest.mark.skipif(not (shutil.which("nsd") and shutil.which("unbound") and shutil.which("ldns-signzone")),
                                reason="nsd, unbound and ldnsutils are not installed")

HEAD = """$TTL 300
@ IN SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 60
@ IN NS ns.{zone}.
ns IN A 127.0.0.1
"""
MAIL = """@ IN MX 10 mx1
@ IN MX 20 mx2
mx1 IN A 192.0.2.1
mx2 IN A 192.0.2.2
mx2 IN AAAA 2001:db8::2
"""
ZONES = {
    "plain.example": MAIL + """
only-a IN A 192.0.2.3
null IN MX 0 .
null IN A 192.0.2.4
self IN MX 10 me
self IN MX 20 mx1
backup IN MX 10 mx1
backup IN MX 20 me
me IN A 127.0.0.1
alias IN CNAME only-mx
only-mx IN MX 10 mx1
chain1 IN CNAME chain2
chain2 IN CNAME chain3
chain3 IN A 192.0.2.5
loop1 IN CNAME loop2
loop2 IN CNAME loop1
literal IN MX 10 192.0.2.9.
ghost IN MX 10 nothing
text IN TXT "no mail here"
equal IN MX 10 mx1
equal IN MX 10 mx2
""" + "".join("many IN MX %d host-with-a-rather-long-name-%d.plain.example.\nhost-with-a-rather-long-name-%d IN A 192.0.2.%d\n" % (i, i, i, i)
              for i in range(10, 60)),
    "good.example": MAIL + "weak IN MX 10 mx1.plain.example.\nalias IN CNAME only-mx\nonly-mx IN MX 10 mx1\n",
    "lookup.example": MAIL + """
two-a IN A 192.0.2.1
two-a IN A 192.0.2.2
both IN A 192.0.2.1
both IN AAAA 2001:db8::1
t1 IN TXT "one" "two"
t2 IN TXT "v=spf1 " "-all"
s1 IN TYPE99 \\# 12 0b763d73706631202d616c6c
_sip._tcp IN SRV 1 2 5060 sip
_25._tcp.mx1 IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
alias IN CNAME both
p IN PTR name.lookup.example.
_client._smtp.yes IN SRV 1 2 0 mx1
_client._smtp.no IN SRV 1 1 0 .
_client._smtp.strict IN SRV 1 2 1 mx1
_client._smtp.loose IN SRV 1 2 0 mx1
deep.er.name IN A 192.0.2.9
""",
    "bogus.example": MAIL,
    "expired.example": MAIL,
}
SIGNED = ("good.example", "bogus.example", "expired.example")


class Servers:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-dns-")
        os.chmod(self.dir, 0o755)
        self.children = []
        self.nsd_port, self.unbound_port = free_port(), free_port()
        for zone, text in ZONES.items():
            with open(self.path(zone), "w") as f:
                f.write("$ORIGIN %s.\n" % zone + HEAD.format(zone=zone) + text)
        anchors = [self.sign(z) for z in SIGNED]
        with open(self.path("anchors"), "w") as f:
            f.writelines(anchors)
        # somebody changed the zone after it had been signed
        signed = open(self.path("bogus.example.signed")).read()
        assert "192.0.2.1\n" in signed
        with open(self.path("bogus.example.signed"), "w") as f:
            f.write(signed.replace("192.0.2.1\n", "203.0.113.1\n").replace("10 mx1.bogus", "11 mx1.bogus"))
        self.start_nsd()
        self.start_unbound()

    def path(self, name):
        return os.path.join(self.dir, name)

    def run(self, *argv):
        return subprocess.run(argv, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=60).stdout.decode()

    def sign(self, zone):
        key = self.run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone).split()[-1]
        dates = ["-i", "20200101000000", "-e", "20200201000000"] if zone == "expired.example" else []
        self.run("ldns-signzone", *dates, "-f", self.path(zone + ".signed"), self.path(zone), key)
        return open(self.path(key + ".key")).read()

    def spawn(self, argv, port):
        self.children.append(subprocess.Popen(argv, stdout=open(self.path("out"), "ab"), stderr=subprocess.STDOUT, cwd=self.dir))
        child = self.children[-1]

        def is_up():
            assert child.poll() is None, "%s: %s" % (argv, open(self.path("out")).read())
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_for(is_up, 20)

    def start_nsd(self):
        with open(self.path("nsd.conf"), "w") as f:
            f.write("server:\n ip-address: 127.0.0.1\n port: %d\n zonesdir: \"%s\"\n database: \"\"\n pidfile: \"%s\"\n xfrdfile: \"%s\"\n"
                    " zonelistfile: \"%s\"\n username: \"\"\n chroot: \"\"\nremote-control:\n control-enable: no\n" %
                    (self.nsd_port, self.dir, self.path("nsd.pid"), self.path("xfrd"), self.path("zonelist")))
            for zone in ZONES:
                f.write("zone:\n name: %s\n zonefile: %s%s\n" % (zone, zone, ".signed" if zone in SIGNED else ""))
        self.spawn(["nsd", "-d", "-c", self.path("nsd.conf")], self.nsd_port)

    def start_unbound(self):
        with open(self.path("unbound.conf"), "w") as f:
            f.write("server:\n interface: 127.0.0.1\n port: %d\n do-not-query-localhost: no\n chroot: \"\"\n username: \"\"\n directory: \"%s\"\n"
                    " pidfile: \"\"\n use-syslog: no\n trust-anchor-file: \"%s\"\n do-daemonize: no\n access-control: 127.0.0.0/8 allow\n"
                    " private-domain: example\n root-hints: \"\"\nremote-control:\n control-enable: no\n" %
                    (self.unbound_port, self.dir, self.path("anchors")))
            for zone in ZONES:
                f.write("stub-zone:\n name: %s\n stub-addr: 127.0.0.1@%d\n stub-prime: no\n" % (zone, self.nsd_port))
        self.spawn(["unbound", "-d", "-c", self.path("unbound.conf")], self.unbound_port)

    def stop(self):
        for c in self.children:
            c.send_signal(signal.SIGTERM)
        for c in self.children:
            try:
                c.wait(10)
            except subprocess.TimeoutExpired:
                c.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module")
def servers():
    s = Servers()
    yield s
    s.stop()


def route(servers, *addresses, resolvers=None, main="", router=""):
    """What `bulkhead route --json` says: a list of leaves."""
    conf = servers.path("conf-%d" % time.monotonic_ns())
    with open(conf, "w") as f:
        f.write("primary_hostname = mail.here.example\nlocal_interfaces = 127.0.0.1\nacl_smtp_rcpt = all\n"
                "dns_resolvers = <; %s\n%s\nbegin acl\nall:\n accept\nbegin routers\nremote:\n driver = dnslookup\n transport = smtp\n"
                " no_more\n%s\nbegin transports\nsmtp:\n driver = smtp\n" %
                (resolvers or "127.0.0.1#%d" % servers.unbound_port, main, router))
    p = subprocess.run([BIN, "-C", conf, "route", "--json", *addresses], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert p.returncode in (0, 1, 2), p.stderr.decode()
    return json.loads(p.stdout)


def hosts(leaf):
    return [(h["name"], h["ip"], h["dnssec"]) for h in leaf["hosts"]]


def test_mx_in_order(servers):
    leaf, = route(servers, "a@plain.example")
    assert leaf["outcome"] == "deliver"
    assert hosts(leaf) == [("mx1.plain.example", "192.0.2.1", False), ("mx2.plain.example", "2001:db8::2", False),
                           ("mx2.plain.example", "192.0.2.2", False)]


def test_options_of_addresses(servers):
    leaf, = route(servers, "a@plain.example", router=" ipv4_prefer = true\n")
    assert [h[1] for h in hosts(leaf)] == ["192.0.2.1", "192.0.2.2", "2001:db8::2"]
    leaf, = route(servers, "a@plain.example", main="disable_ipv6 = true\n")
    assert [h[1] for h in hosts(leaf)] == ["192.0.2.1", "192.0.2.2"]


def test_secure(servers):
    leaf, alias, weak = route(servers, "a@good.example", "a@alias.good.example", "a@weak.good.example")
    assert hosts(leaf) == [("mx1.good.example", "192.0.2.1", True), ("mx2.good.example", "2001:db8::2", True), ("mx2.good.example", "192.0.2.2", True)]
    assert hosts(alias) == [("mx1.good.example", "192.0.2.1", True)]
    assert hosts(weak) == [("mx1.plain.example", "192.0.2.1", False)]


def test_not_secure_without_asking(servers):
    leaf, = route(servers, "a@good.example", main="dns_dnssec_ok = 0\n")
    assert not any(h[2] for h in hosts(leaf))


@pytest.mark.parametrize("domain", ["bogus.example", "expired.example"])
def test_bogus_waits(servers, domain):
    leaf, = route(servers, "a@" + domain)
    assert leaf["outcome"] == "defer" and "SERVFAIL" in leaf["text"]


def test_dnssec_required(servers):
    plain, good = route(servers, "a@plain.example", "a@good.example", router=" dnssec_require_domains = *\n")
    assert plain["outcome"] == "defer" and "DNSSEC" in plain["text"]
    assert good["outcome"] == "deliver"


def test_definite_no(servers):
    unknown, text, null, ghost, literal = route(servers, "a@nowhere.plain.example", "a@text.plain.example", "a@null.plain.example",
                                                "a@ghost.plain.example", "a@literal.plain.example")
    for leaf in (unknown, text, null, ghost, literal):
        assert leaf["outcome"] == "fail" and leaf["text"].startswith("Unrouteable address"), leaf
    assert "does not exist" in unknown["text"]
    assert "null MX" in null["text"]
    assert "allow_mx_to_ip" in literal["text"]
    leaf, = route(servers, "a@literal.plain.example", main="allow_mx_to_ip = true\n")
    assert [h[1] for h in hosts(leaf)] == ["192.0.2.9"]


def test_aliases(servers):
    alias, chain, loop = route(servers, "a@alias.plain.example", "a@chain1.plain.example", "a@loop1.plain.example")
    assert hosts(alias) == [("mx1.plain.example", "192.0.2.1", False)]
    assert [h[1] for h in hosts(chain)] == ["192.0.2.5"]
    assert loop["outcome"] == "defer"


def test_no_mx_means_the_address(servers):
    leaf, = route(servers, "a@only-a.plain.example")
    assert hosts(leaf) == [("only-a.plain.example", "192.0.2.3", False)]
    leaf, = route(servers, "a@only-a.plain.example", router=" mx_domains = *\n")
    assert leaf["outcome"] == "fail"


def test_this_host_among_the_mx(servers):
    leaf, backup = route(servers, "a@self.plain.example", "a@backup.plain.example")
    assert leaf["outcome"] == "defer" and "local host" in leaf["text"]
    assert hosts(backup) == [("mx1.plain.example", "192.0.2.1", False)]
    leaf, = route(servers, "a@self.plain.example", router=" self = send\n")
    assert hosts(leaf)[0] == ("me.plain.example", "127.0.0.1", False)


def test_equal_preference_is_shared(servers):
    first = {hosts(route(servers, "a@equal.plain.example", router=" ipv4_only = true\n")[0])[0][1] for _ in range(24)}
    assert first == {"192.0.2.1", "192.0.2.2"}


def test_truncated_comes_by_tcp(servers):
    leaf, = route(servers, "a@many.plain.example")
    assert len(leaf["hosts"]) == 50
    assert [h[1] for h in hosts(leaf)][:3] == ["192.0.2.10", "192.0.2.11", "192.0.2.12"]


def test_without_edns(servers):
    leaf, = route(servers, "a@many.plain.example", main="dns_use_edns0 = 0\n")
    assert len(leaf["hosts"]) == 50


def test_second_server(servers):
    """The first name server is dead: nothing listens there, or it is silent."""
    leaf, = route(servers, "a@plain.example", resolvers="127.0.0.1#1 ; 127.0.0.1#%d" % servers.unbound_port)
    assert leaf["outcome"] == "deliver"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        start = time.monotonic()
        leaf, = route(servers, "a@plain.example", main="dns_retrans = 1s\n",
                      resolvers="127.0.0.1#%d ; 127.0.0.1#%d" % (silent.getsockname()[1], servers.unbound_port))
        assert leaf["outcome"] == "deliver"
        assert time.monotonic() - start < 8


def test_dead_servers(servers):
    """Nobody answers: the address waits, and not for ever is it waited for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        start = time.monotonic()
        leaf, again = route(servers, "a@plain.example", "b@plain.example", main="dns_retrans = 1s\ndns_retry = 2\n",
                            resolvers="127.0.0.1#%d" % silent.getsockname()[1])
        assert leaf["outcome"] == "defer" and again["outcome"] == "defer"
        assert 2.5 < time.monotonic() - start < 12


def test_server_that_does_not_resolve(servers):
    """nsd refuses what it has no zone for: cannot know, not a no."""
    leaf, = route(servers, "a@somewhere.test", resolvers="127.0.0.1#%d" % servers.nsd_port)
    assert leaf["outcome"] == "defer"
    leaf, = route(servers, "a@plain.example", resolvers="127.0.0.1#%d" % servers.nsd_port)
    assert leaf["outcome"] == "deliver"


def test_again_means_nonexist(servers):
    leaf, = route(servers, "a@bogus.example", main="dns_again_means_nonexist = bogus.example\n")
    assert leaf["outcome"] == "fail"


def test_international_domain(servers):
    leaf, = route(servers, "a@stra\u00dfe.example")
    assert leaf["outcome"] in ("fail", "defer") and "xn--strae-oqa.example" in leaf["text"]
