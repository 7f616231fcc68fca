# SPDX-License-Identifier: ISC
"""Debian's Postfix and Exim by the rows of tests/conformance: the class of each reply, whether the session lives, how many messages were
taken. Where one of them differs from what the row demands, the row and the reason are in conformance.differences: the row, a tab, who
differs (postfix, exim, both), a tab, the reason."""
import concurrent.futures
import os
import re

import pytest

from bulkhead import TOP, Client, read, wait_for
from dialogue import PATIENCE, Player, groups
from peers import Exim, Postfix

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the peers' roots need chroot, thus root")

DIFFERENCES = os.path.join(TOP, "tests/conformance/conformance.differences")
# Groups that need nothing of us but what the others can be told, too.
GROUPS = [g for g in groups() if g.name in ("addresses", "chunking", "commands", "data", "dsn", "pipelining", "size", "utf8")]
ROWS = [r for g in GROUPS for r in g.rows if not r.only or "whole" in r.only]



def differences():
    table = {}
    for line in open(DIFFERENCES):
        if line.strip() and not line.startswith("#"):
            row, who, _ = line.rstrip("\n").split("\t")
            assert row not in table, "%s is there twice" % row
            table[row] = {"postfix", "exim"} if who == "both" else {who}
    return table


TABLE = differences()
SILENCE = 4     # seconds after which a peer that is known to differ is taken for silent


class OurPostfix(Postfix):
    def mark(self):
        """A last connection, whose end is the last line of the log."""
        c = Client(self.port, source=("127.200.0.1", 0))
        c.ask("QUIT", 221)
        c.close()
        wait_for(lambda: re.search(r"disconnect from \S+\[127\.200\.0\.1\]", read(self.path("/var/log/postfix.log"))))

    def configure(self):
        super().configure()
        own = """
mydestination = local.example
myorigin = local.example
mynetworks = 127.255.255.255/32
local_recipient_maps =
local_transport = discard:
message_size_limit = 100000
smtpd_helo_required = yes
strict_rfc821_envelopes = yes
smtpd_relay_restrictions = reject_unauth_destination
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1001
smtpd_junk_command_limit = 1000
smtpd_client_connection_count_limit = 0
smtpd_discard_ehlo_keywords =
"""
        # Nothing is said twice: the warnings of all processes, of postlogd too, would fill the log's socket before anybody reads it.
        names = set(re.findall(r"(?m)^\w+", own))
        base = read(self.path("/etc/postfix/main.cf"))
        self.write("/etc/postfix/main.cf", "".join(line + "\n" for line in base.split("\n") if line.split(" ")[0] not in names) + own)

    def taken(self):
        """Messages by the client's address."""
        log, clients, found = read(self.path("/var/log/postfix.log")), {}, {}
        for qid, ip in re.findall(r"smtpd\[\d+\]: (\w+): client=\S+?\[([\d.]+)\]", log):
            clients[qid] = ip
        for qid in re.findall(r"qmgr\[\d+\]: (\w+): from=", log):
            found.setdefault(clients.get(qid), set()).add(qid)
        return {ip: len(qids) for ip, qids in found.items()}


class OurExim(Exim):
    def mark(self):
        pass

    def configure(self):
        super().configure()
        self.write("/etc/exim4/exim4.conf", """primary_hostname = peer.example
qualify_domain = local.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = %d
keep_environment =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
message_size_limit = 100000
smtp_accept_max = 0
smtp_connect_backlog = 500
smtp_accept_max_nonmail = 100
smtp_max_synprot_errors = 20
smtp_max_unknown_commands = 20
tls_advertise_hosts =
dsn_advertise_hosts = *
begin acl
rcpt:
  accept domains = local.example
  deny message = relay not permitted
begin routers
all:
  driver = redirect
  data = :blackhole:
""" % self.port)

    def taken(self):
        found = {}
        for ip in re.findall(r" <= .*? \[([\d.]+)\]", read(self.path("/var/log/exim4/mainlog"))):
            found[ip] = found.get(ip, 0) + 1
        return found


class Played:
    def __init__(self, peer):
        p = peer(None)
        try:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                players = list(pool.map(lambda r: Player(r, p.port, strict=False, patience=SILENCE if peer.name in TABLE.get(r.id, ()) else PATIENCE).play(), ROWS))
            # A message is in the log once it has been answered; Postfix writes by way of another process, in order.
            p.mark()
            taken = p.taken()
        finally:
            p.close()
        self.wrong = {}
        for row, got in zip(ROWS, players):
            faults = list(got.wrong)
            if taken.get(row.source("whole"), 0) != row.mail:
                faults.append("%d messages were taken, not %d" % (taken.get(row.source("whole"), 0), row.mail))
            if faults:
                self.wrong[row.id] = faults


@pytest.fixture(scope="module")
def played():
    return {"postfix": Played(OurPostfix), "exim": Played(OurExim)}


def test_table_names_rows():
    assert set(TABLE) <= {r.id for r in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_row(played, row):
    differs = {who for who in played if row.id in played[who].wrong}
    assert differs == TABLE.get(row.id, set()), "\n".join("%s: %s" % (who, f) for who in sorted(differs) for f in played[who].wrong[row.id]) or "nobody differs now"
