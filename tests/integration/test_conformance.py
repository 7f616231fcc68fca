# SPDX-License-Identifier: ISC
"""The rows of tests/conformance against one Bulkhead: each over a connection and from an address of its own, in three ways: as they
are, octet by octet, and under TLS. All are played at once; the tests then look at what each of them got."""
import concurrent.futures
import os
import re
import shutil
import tempfile

import pytest

from bulkhead import UID_BASE, Instance, wait_for
from certs import Authority
from dialogue import WAYS, Player, groups, rows_of

GROUPS = groups()
ROWS_LEAST = 796

MAIN = """
smtp_accept_max = 0
smtp_connect_backlog = 500
smtp_accept_max_nonmail = 100
smtp_max_synprot_errors = 20
smtp_max_unknown_commands = 20
message_size_limit = 100000
dsn_advertise_hosts = *
chunking_advertise_hosts = *
pipelining_connect_advertise_hosts = 127.19.0.0/16
qualify_recipient = local.example
hosts_proxy = 127.2.0.0/16
smtp_accept_max_per_connection = ${if match_ip{$sender_host_address}{127.22.0.0/16}{7}{1000}}
recipients_max = 5
prdr_enable
acl_smtp_data_prdr = acl_prdr
hosts_xclient = 127.23.0.0/16
limits_advertise_hosts = 127.22.0.0/16
auth_advertise_hosts = 127.16.0.0/16 : 127.17.0.0/16
host_lookup =
tls_directories = {tls}
tls_certificate = {tls}/mx.pem
tls_privatekey = {tls}/mx.key
log_selector = +smtp_syntax_error +smtp_protocol_error +smtp_incomplete_transaction
"""
ACL = """
acl_check_rcpt:
  accept domains = +local_domains
  accept authenticated = *
  deny message = relay not permitted
acl_prdr:
  deny local_parts = ann
  defer local_parts = bob
  accept
"""
RETRY = """* * F,2h,1s; F,4d,1m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{joe}}{eq{$auth3}{secret}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{joe}}{eq{$auth2}{secret}}}}
  server_set_id = $auth1
"""


def make_instance(directory, main="", **kw):
    Authority(directory).leaf("mx", "mx.test.example", names=["DNS:mx.test.example"], owner=UID_BASE + 6 if os.geteuid() == 0 else None)
    return Instance(main=MAIN + main, acl=ACL, retry=RETRY, tls=directory, **kw).start()


def play_all(b, workers=12):
    """(row, way) to the player that has played it."""
    todo = [(r, way) for way in WAYS for r in rows_of(GROUPS, way)]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return dict(zip(((r.id, way) for r, way in todo), pool.map(lambda t: Player(t[0], b.port, t[1]).play(), todo)))


class Played:
    def __init__(self, b):
        self.players = play_all(b)
        wait_for(lambda: not b.queue(), 60)
        self.log = b.log() + b.log("reject")
        self.lines = {}
        for line in self.log.split("\n"):
            for address in set(re.findall(r"\[(127\.\d+\.\d+\.\d+)\]", line)):
                self.lines.setdefault(address, []).append(line)
        self.content = {}
        for content in b.maildir("joe"):
            head, _, body = content.partition(b"\r\n\r\n" if b"\r\n\r\n" in content else b"\n\n")
            source = re.search(rb"\[(127\.\d+\.\d+\.\d+)\]", head).group(1).decode()
            self.content.setdefault(source, []).append(body.replace(b"\r\n", b"\n"))


@pytest.fixture(scope="module")
def played():
    directory = tempfile.mkdtemp(prefix="bulkhead-tls-")
    b = make_instance(directory)
    yield Played(b)
    b.destroy()
    shutil.rmtree(directory, ignore_errors=True)


def test_corpus_is_whole():
    rows = [r for g in GROUPS for r in g.rows]
    ids = [r.id for r in rows]
    assert len(rows) >= ROWS_LEAST and len(set(ids)) == len(ids)
    assert len({(g.net, r.number) for g in GROUPS for r in g.rows}) == len(rows), "two rows have one address"
    assert all(r.steps or r.begin for r in rows)


@pytest.mark.parametrize("row", [r for g in GROUPS for r in g.rows], ids=lambda r: r.id)
def test_row(played, row):
    wrong = []
    for way in WAYS:
        if row.only and way not in row.only:
            continue
        source, got = row.source(way), played.players[row.id, way]
        lines = played.lines.get(source, [])
        taken = sum(1 for line in lines if " <= " in line)
        faults = list(got.wrong)
        if taken != row.mail:
            faults.append("%d messages were taken, not %d" % (taken, row.mail))
        if row.body is not None and row.body.replace(b"\r\n", b"\n") not in played.content.get(source, []):
            faults.append("delivered: %r" % [c[:200] for c in played.content.get(source, [])])
        faults += ["no line of the log has %r" % want for want in row.logs if not any(re.search(want, line) for line in lines)]
        wrong += ["%s: %s" % (way, f) for f in faults]
        if faults:
            wrong += ["    " + line[:300] for line in lines[:6]]
    assert not wrong, "\n".join(wrong)
