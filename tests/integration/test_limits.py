# SPDX-License-Identifier: ISC
"""LIMITS (RFC 9422): what a server says of its limits, the client keeps to."""
import pytest

from bulkhead import Sink, wait_for

TO = ["a@x.example", "b@y.example", "c@x.example", "d@z.example", "e@y.example"]


# What is said; the recipients of each message that comes of one with five; sessions
@pytest.mark.parametrize("limits,want", [
    ("RCPTMAX=2", ["ab", "cd", "e"]), ("rcptmax=1 MAILMAX=5", ["a", "b", "c", "d", "e"]), ("RCPTMAX=5", ["abcde"]),
    ("RCPTDOMAINMAX=1", ["ac", "be", "d"]), ("RCPTDOMAINMAX=2 RCPTMAX=3", ["abc", "de"]), ("RCPTMAX=4 RCPTMAX=2 RCPTMAX=3", ["ab", "cd", "e"]),
    ("RCPTMAX=0", ["abcde"]), ("RCPTMAX=02", ["abcde"]), ("RCPTMAX=2x", ["abcde"]), ("RCPTMAX=+2", ["abcde"]), ("RCPTMAX=", ["abcde"]), ("RCPTMAX", ["abcde"]),
    ("RCPTMAX=1000000", ["abcde"]), ("", ["abcde"]), ("FOO=1 RCPTMAX=3", ["abc", "de"]),
])
@pytest.mark.parametrize("pipelining", [True, False])
def test_recipients(bulkhead, limits, want, pipelining):
    s = Sink(extensions=["8BITMIME", "LIMITS " + limits] + ["PIPELINING"] * pipelining)
    try:
        b = bulkhead(sink=s.port)
        b.send("f@f.example", TO)
        b.wait_empty()
        assert ["".join(r[0] for r in m[1]) for m in s.messages] == want
        assert s.sessions == 1
        assert b.log().count(" => ") + b.log().count(" -> ") == len(TO)
    finally:
        s.close()


def test_refusals_in_each_part(bulkhead):
    """A recipient that is deferred or refused is so once, whatever comes behind it."""
    asked = []

    def on_rcpt(line):
        asked.append(line.split("<")[1][0])
        return {"b": "550 5.1.1 no", "c": "450 4.2.0 later"}.get(asked[-1])
    s = Sink(extensions=["PIPELINING", "LIMITS RCPTMAX=2"], on_rcpt=on_rcpt)
    try:
        b = bulkhead(sink=s.port, retry="* * F,1d,1d")
        b.send("joe@local.example", TO)
        wait_for(lambda: " == c@x.example" in b.log() and " ** b@y.example" in b.log() and "> e@y.example" in b.log(), why=b.logs)
        assert "".join(asked) == "abcde"
        assert ["".join(r[0] for r in m[1]) for m in s.messages] == ["a", "d", "e"]
        wait_for(lambda: [m["sender"] for m in b.queue()] == ["joe@local.example"])
    finally:
        s.close()


def test_messages_on_a_connection(bulkhead):
    """MAILMAX: the connection is not used beyond it; what does not fit into it waits."""
    s = Sink(extensions=["PIPELINING", "LIMITS MAILMAX=1"])
    try:
        b = bulkhead(sink=s.port)
        for i in range(3):
            b.send("f@f.example", "a@x.example")
        b.wait_empty()
        assert len(s.messages) == 3 and s.sessions == 3
    finally:
        s.close()
    s = Sink(extensions=["PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=2"])
    try:
        b = bulkhead(sink=s.port, retry="* * F,1d,1d")
        b.send("f@f.example", TO)
        wait_for(lambda: " == e@y.example" in b.log(), why=b.logs)
        assert "the remote host takes no more recipients at a time" in b.log()
        assert ["".join(r[0] for r in m[1]) for m in s.messages] == ["ab", "cd"]
    finally:
        s.close()


def test_to_ourselves(bulkhead, sink):
    far = bulkhead(sink=sink, main="recipients_max = 2", name="far.test.example")
    near = bulkhead(sink=far.port)
    near.send("f@f.example", TO)
    near.wait_empty()
    far.wait_empty()
    assert sorted(r for m in sink.messages for r in m[1]) == TO
    assert "too many recipients" not in far.log() + near.log()
    assert far.log().count(" <= ") == 3


def test_for_whom_it_is_offered(bulkhead):
    b = bulkhead(main="limits_advertise_hosts = 127.0.0.2\nsmtp_accept_max_per_connection = 7\nrecipients_max = 1000000")
    assert "LIMITS" not in b.client().ask("EHLO c.example", 250)
    assert "LIMITS MAILMAX=7\n" in b.client(source=("127.0.0.2", 0)).ask("EHLO c.example", 250).replace("\r\n", "\n") + "\n"
