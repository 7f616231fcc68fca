# SPDX-License-Identifier: ISC
"""`bulkhead expand` beside `exim -be`: every line of tests/differential/expand/*.txt, answers compared. What is to differ stands in
tests/differential/expand.differences: the line, a tab, the reason. @DIR@ in a line is a folder that both sides see."""
import glob
import os
import subprocess

import pytest

import oracle
from bulkhead import BIN, TOP, wait_for

CORPUS = os.path.join(TOP, "tests/differential/expand")
DIFFERENCES = os.path.join(TOP, "tests/differential/expand.differences")
SHARE_MAX = 0.04    # of the lines may be listed as different
LINES_MIN = 1500

# What ours alone needs to be told of ${run}.
RUN = """
run_commands = /bin/echo : /bin/false : /bin/true : /bin/sh : /bin/cat : /bin/printf : /nosuch/program
run_user = nobody
run_group = nogroup
"""

CONF = """
primary_hostname = mail.example.test
qualify_domain = example.test
MACRO_ONE = one
MACRO_TWO = <MACRO_ONE two>
domainlist dl = a.example : *.b.example : !x.c.example : *.c.example
domainlist outer = q.example : +dl
domainlist empty =
addresslist al = user@a.example : *@b.example
hostlist hl = 10.0.0.0/8 : 192.0.2.1
localpartlist ll = alice : bob : ^x.*y\\$
begin acl
yes_acl:
  accept message = got $acl_narg: $acl_arg1, $acl_arg2
no_acl:
  deny message = no ($acl_arg1)
quiet_acl:
  accept
wait_acl:
  defer message = later
"""

FILES = {
    "users": "# comment\nalice: Alice A.\nbob:\n\"quoted key\": value with blanks\ncarol:   spaces before\n"
             "long: first\n  second\n  third\ndup: one\ndup: two\nCase: upper\ncolon:a:b:c\n*: anybody\n*@star.example: all of star\n",
    "partial": "example.com: exact\n*.example.com: wild\n*.example.org: org\n*: star\n",
    "nets": "10.0.0.0/8: ten\n192.0.2.1: one\n192.0.2.0/24: net\n\"2001:db8::1\": six\n\"2001:db8::/32\": sixnet\n",
    "wild": "^ab.*z: regex\n*.tail.example: tail\nplain: plain\n*: rest\n",
    "text": "line 1\nline 2\n",
    "empty": "",
    "nonl": "no newline",
    "list": "# comment\na.example\n!b.example\n*.b.example # more\n",
    "object.json": "{\"a\": \"x\", \"b\": [1, 2], \"c\": {\"d\": \"deep\"}, \"n\": 5}\n",
}

MESSAGE = """Received: from a.example by b.example; Tue, 1 Mar 2022 10:00:00 +0000
Received: from c.example by a.example;
\tTue, 1 Mar 2022 09:00:00 +0000
From: =?utf-8?Q?J=C3=B6rg?= Test <jorg@from.example>
To: One <one@to.example>,
 two@to.example
Cc: Group: three@to.example, Four <four@to.example>;
To: five@to.example
Subject: =?iso-8859-1?Q?Gr=FC=DFe?= and more
 on a second line
Reply-To: reply@from.example
Message-ID: <id.1@from.example>
X-Empty:
X-Blank:   
X-Twice: first
X-Twice: second
X-Colons: a:b:c
X-Long: 0123456789 0123456789 0123456789 0123456789 0123456789
Date: Tue, 1 Mar 2022 10:00:00 +0000

Body line 1
Body line 2 with ä

Last line: the longest of the body, by far, as anybody can see here
"""


def corpus(name):
    with open(name, encoding="utf-8", errors="surrogateescape") as f:
        return [line.rstrip("\n") for line in f if line.strip("\n") and not line.startswith("#")]


def names():
    return sorted(os.path.basename(n)[:-4] for n in glob.glob(os.path.join(CORPUS, "*.txt")))


def listed():
    table = {}
    for line in corpus(DIFFERENCES):
        text, tab, reason = line.partition("\t")
        assert tab and reason.strip(), "a difference without a reason: " + line
        assert text not in table, "listed twice: " + text
        table[text] = reason
    return table


def same(theirs, ours):
    """Failures agree when both are; their words need not, but forced failures are told apart."""
    if theirs.startswith("Failed: ") != ours.startswith("Failed: "):
        return False
    if theirs.startswith("Failed: "):
        forced = '"fail" requested'
        return (forced in theirs) == (forced in ours)
    return theirs == ours


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    base = tmp_path_factory.mktemp("expand")
    os.chmod(base, 0o755)
    for d in (base, *base.parents):
        if str(d).startswith("/tmp/"):
            os.chmod(d, 0o755)
    shared = base / "shared"
    shared.mkdir()
    (shared / "dir").mkdir()
    for name, text in FILES.items():
        (shared / name).write_text(text)
        os.chmod(shared / name, 0o644)
    (shared / "message").write_text(MESSAGE)
    (base / "conf").write_text(RUN + CONF)
    return oracle.Oracle(base, [shared]), str(base / "conf"), str(shared)


def answers(sides, name):
    exim, conf, shared = sides
    lines = corpus(os.path.join(CORPUS, name + ".txt"))
    sent = [line.replace("@DIR@", shared) for line in lines]
    if name == "headers":
        theirs = exim.expand(sent, CONF, ["-bem", shared + "/message"])
        ours = oracle.bulkhead_expand(sent, conf, ["--message", shared + "/message"])
    else:
        theirs = exim.expand(sent, CONF)
        ours = oracle.bulkhead_expand(sent, conf)
    return list(zip(lines, theirs, ours))


@pytest.mark.parametrize("name", names())
def test_lines(sides, name):
    known = listed()
    wrong = []
    for line, theirs, ours in answers(sides, name):
        if same(theirs, ours) == (line in known):
            what = "no longer different, but listed" if line in known else "different"
            wrong.append("%s: %s\n  Exim: %r\n  ours: %r" % (what, line, theirs, ours))
    assert not wrong, "%d lines:\n%s" % (len(wrong), "\n".join(wrong))


def test_corpus():
    lines = [line for name in names() for line in corpus(os.path.join(CORPUS, name + ".txt"))]
    assert len(set(lines)) >= LINES_MIN
    known = listed()
    assert not set(known) - set(lines), "listed differences that no corpus has"
    assert len(known) <= SHARE_MAX * len(lines)


def expand(conf, *args, stdin=""):
    done = subprocess.run([BIN, "-C", conf, "expand", *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stdout


def test_command(sides):
    """What `exim -be` has no words for: variables set, one answer a string, the exit code."""
    conf, shared = sides[1], sides[2]
    assert expand(conf, "$local_part@$domain", "${uc:MACRO_ONE}")[:2] == (0, "@\nONE\n")
    assert expand(conf, "--set", "local_part=user", "--set", "domain=d.example", "$local_part@$domain") == (0, "user@d.example\n")
    assert expand(conf, "--set", "acl_m_x=one", "--set", "acl_c0=two", "--set", "r_y=three", "$acl_m_x $acl_c0 $r_y") == (0, "one two three\n")
    assert expand(conf, "--set", "sender_host_address=192.0.2.1", "--set", "sender_helo_name=h.example",
                  "${mask:$sender_host_address/24} $sender_helo_name") == (0, "192.0.2.0/24 h.example\n")
    assert expand(conf, "--set", "sender_helo_name=x", "${expand:$sender_helo_name}")[0] == 1
    code, out = expand(conf, "--set", "sender_helo_name=text", "${readfile{%s/$sender_helo_name}}" % shared)
    assert code == 1 and out.startswith("Failed: ") and "tainted" in out and shared + "/text" in out
    assert expand(conf, "-D", "OTHER=a", "OTHER") == (0, "a\n")
    code, out = expand(conf, "a", "$nosuch", "b")
    assert code == 1 and out.split("\n")[0] == "a" and out.split("\n")[1].startswith("Failed: ") and out.split("\n")[2] == "b"
    assert expand(conf, stdin="$nosuch\n")[0] == 0
    assert expand(conf, "--set", "primary_hostname=x", "y")[0] == 64
    assert expand(conf, "--message", shared + "/nosuch", "y")[0] == 65
    assert expand(conf, "--message", shared + "/message", "$h_reply-to: $message_size")[1] == "reply@from.example %d\n" % len(MESSAGE.encode())


def test_message_of_the_queue(bulkhead):
    """--queue-id: envelope, header with its edits, and body of a message that waits."""
    b = bulkhead()
    b.send("s@from.example", ["u@to.example", "v@to.example"], b"Subject: waits\r\n\r\nbody text\r\n")
    wait_for(lambda: b.queue(), 20)
    mid = b.queue()[0]["id"]
    out = b.command("expand", "--queue-id", mid, "$message_id $sender_address $sender_host_address", "$recipients", "$h_subject:/$message_body",
                    "${if match{$h_received:}{by mx.test.example}{stamped}{no}} $received_protocol $body_linecount")
    assert out.split("\n") == [mid + " s@from.example 127.0.0.1", "u@to.example, v@to.example", "waits/body text ", "stamped esmtp 1", ""]
    assert b.command("expand", "--queue-id", "1zzzzz-000000-00", "x", check=False)[0] != 0
