# SPDX-License-Identifier: ISC
"""The dnsdb lookup against nsd behind a validating unbound: every type, separators, modifiers, lists of names."""
import socket
import subprocess

import pytest

from bulkhead import BIN
from test_dns import pytestmark, servers  # noqa: F401  (fixtures)

ns = "ns.lookup.example"
CASES = [
    ("a=both.lookup.example", "192.0.2.1"), ("aaaa=both.lookup.example", "2001:db8::1"), ("A = both.lookup.example", "192.0.2.1"),
    ("a+=both.lookup.example", "2001:db8::1\n192.0.2.1"), (">; a+=both.lookup.example", "2001:db8::1;192.0.2.1"),
    ("cname=alias.lookup.example", "both.lookup.example"), ("a=alias.lookup.example", "192.0.2.1"),
    (">: mx=lookup.example", {"10 mx1.lookup.example:20 mx2.lookup.example", "20 mx2.lookup.example:10 mx1.lookup.example"}),
    (">:,/ mx=lookup.example", {"10/mx1.lookup.example:20/mx2.lookup.example", "20/mx2.lookup.example:10/mx1.lookup.example"}),
    (">: mxh=lookup.example", {"mx1.lookup.example:mx2.lookup.example", "mx2.lookup.example:mx1.lookup.example"}),
    ("ns=lookup.example", ns), ("zns=deep.er.name.lookup.example", ns), ("ns=deep.er.name.lookup.example", None),
    ("ptr=p.lookup.example", "name.lookup.example"), ("soa=lookup.example", ns), ("soa=deep.er.name.lookup.example", ns),
    (">:,; soa=lookup.example", "ns.lookup.example;admin.lookup.example;1;3600;600;86400;60"),
    ("srv=_sip._tcp.lookup.example", "1 2 5060 sip.lookup.example"), (">\\n,: srv=_sip._tcp.lookup.example", "1:2:5060:sip.lookup.example"),
    ("tlsa=_25._tcp.mx1.lookup.example", "3 1 1 " + "0123456789abcdef" * 4),
    ("t1.lookup.example", "one"), ("txt=t1.lookup.example", "one"), (">\\n,: txt=t1.lookup.example", "one:two"), (">\\n; txt=t1.lookup.example", "onetwo"),
    ("txt=t2.lookup.example", "v=spf1 "), ("spf=s1.lookup.example", "v=spf1 -all"),
    ("a=none.lookup.example", None), ("a=both.lookup.example:none.lookup.example", "192.0.2.1"), ("a=<; both.lookup.example ; none.lookup.example", "192.0.2.1"),
    (">, a=both.lookup.example:mx1.lookup.example", "192.0.2.1,192.0.2.1"), ("a=bogus.example", None), ("mx=bogus.example", "defer"),
    ("defer_never,mx=bogus.example", None), ("defer_strict,a=both.lookup.example:mx1.bogus.example", "defer"),
    ("defer_lax,a=both.lookup.example:mx1.bogus.example", "192.0.2.1"), ("a=both.lookup.example:mx1.bogus.example", "192.0.2.1"),
    ("dnssec_strict,mx=lookup.example", "defer"), ("dnssec_strict,ns=good.example", "ns.good.example"), ("dnssec_never,ns=good.example", "ns.good.example"),
    ("dnssec_lax,ns=lookup.example", ns), ("retrans_2s,retry_1,a=both.lookup.example", "192.0.2.1"), ("retry_1, dnssec_lax, defer_lax, a=both.lookup.example", "192.0.2.1"),
    ("retrans_never,a=both.lookup.example", "error"), ("retry_x,a=both.lookup.example", "error"), ("hinfo=both.lookup.example", "error"),
    ("csa=yes.lookup.example", "Y mx1.lookup.example"), ("csa=no.lookup.example", "N "), ("csa=sub.strict.lookup.example", "X mx1.lookup.example"),
    ("csa=a.sub.loose.lookup.example", "? mx1.lookup.example"), ("csa=nobody.lookup.example", None),
]


def expand(servers, *texts, resolvers=None):
    conf = servers.path("dnsdb.conf")
    with open(conf, "w") as f:
        f.write("primary_hostname = mail.here.example\ndns_resolvers = <; %s\ndns_retrans = 5s\n" % (resolvers or "127.0.0.1#%d" % servers.unbound_port))
    p = subprocess.run([BIN, "-C", conf, "expand", "--", *texts], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert p.returncode in (0, 1), p.stderr.decode()
    return p.stdout.decode()


def test_dnsdb(servers):  # noqa: F811
    wrong = []
    for query, want in CASES:
        got = expand(servers, "${lookup dnsdb{%s}{<$value>}{no}}" % query)
        if want in ("defer", "error"):
            ok = got.startswith("Failed: ") and ("dnsdb: " in got)
        elif want is None:
            ok = got == "no\n"
        else:
            ok = got in {"<%s>\n" % w for w in (want if isinstance(want, set) else [want])}
        if not ok:
            wrong.append("%s: got %r, want %r" % (query, got, want))
    assert not wrong, "\n".join(wrong)


def test_patience_is_the_query_s(servers):  # noqa: F811
    """A resolver that never answers is asked as often as the query says."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    got = expand(servers, "${lookup dnsdb{retrans_1s,retry_2,a=x.example}}", resolvers="127.0.0.1#%d" % s.getsockname()[1])
    assert got.startswith("Failed: "), got
    s.setblocking(False)
    asked = 0
    with pytest.raises(BlockingIOError):
        while True:
            s.recv(2000)
            asked += 1
    assert asked == 2
    s.close()
