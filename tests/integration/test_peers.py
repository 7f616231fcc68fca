# SPDX-License-Identifier: ISC
"""Both ways with Debian's Postfix, Exim and OpenSMTPD; submission by swaks and smtp-source."""
import os
import subprocess

import pytest

from bulkhead import wait_for
from peers import PEERS, ROOTS
from test_flow import BODIES, HEADER, after_received


@pytest.fixture(params=PEERS)
def make_peer(request):
    made = []

    def make(relay_to=None):
        made.append(PEERS[request.param](relay_to))
        return made[-1]
    yield make
    for p in made:
        p.close()


def test_we_deliver_to_it(bulkhead, make_peer):
    peer = make_peer()
    b = bulkhead(sink=peer.port)
    for i in range(5):
        b.send("a@b.example", "box@peer.example", HEADER + b"number %d to the peer\r\n" % i)
    for i in range(5):
        peer.wait_mailbox(b"number %d to the peer" % i)
    b.send("joe@local.example", ["nobody-here@peer.example", "box@peer.example"], HEADER + b"half of it\r\n")
    peer.wait_mailbox(b"half of it")
    b.wait_empty()


@pytest.mark.parametrize("size", [4096, 50 * 1024 * 1024])
def test_it_relays_to_us_and_we_to_a_sink(bulkhead, make_peer, sink, size):
    """In through the peer, out through us: what the sink has is what the peer got, but for Received: fields."""
    b = bulkhead(sink=sink, main="message_size_limit = 100M")
    peer = make_peer(relay_to=b.port)
    body = b"".join(b"line %09d\r\n" % i for i in range(size // 16)) + (BODIES["dots"] if size < 10000 else b"")
    from bulkhead import Client
    c = Client(peer.port)
    assert c.mail("a@b.example", "x@far.example", HEADER + body).startswith("250")
    content = sink.wait(1, 120)[0][2]
    assert after_received(after_received(content)).endswith(body)
    b.wait_empty()


def test_swaks_submits(bulkhead, sink):
    b = bulkhead(sink=sink)
    p = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(b.port), "--from", "a@b.example", "--to", "x@y.example,z@y.example",
                        "--helo", "swaks.example", "--header", "Subject: by swaks", "--body", "hello", "--pipeline"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == 0, p.stdout.decode()
    assert b"Subject: by swaks" in sink.wait(1)[0][2]
    p = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(b.port), "--from", "a@b.example", "--to", "x@y.example",
                        "--quit-after", "RCPT", "--lhlo", "x"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


@pytest.mark.skipif(os.geteuid() != 0, reason="smtp-source comes from Postfix's root, which needs chroot")
@pytest.mark.parametrize("kept", [False, True])
def test_smtp_source_submits(bulkhead, sink, kept):
    b = bulkhead(sink=sink)
    PEERS["postfix"].name  # the root that has the tool
    root = os.path.join(ROOTS, "postfix")
    args = ["chroot", root, "smtp-source", "-s", "20", "-l", "4096", "-m", "500", "-f", "a@b.example", "-t", "x@y.example"]
    p = subprocess.run(args + (["-d"] if kept else []) + ["127.0.0.1:%d" % b.port], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert p.returncode == 0, p.stdout.decode()
    sink.wait(500, 60)
    b.wait_empty()
    wait_for(lambda: b.log().count(" Completed\n") == 500, why=b.logs)
