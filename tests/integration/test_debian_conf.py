# SPDX-License-Identifier: ISC
"""Debian's stock Exim configuration, as its update-exim4.conf makes it, carries mail here after nothing but path changes."""
import ctypes
import os
import subprocess
import threading

import pytest

from bulkhead import BIN, UID_BASE, Instance, Sink, read, wait_for
from oracle import Oracle

OURS = """
run_directory = {dir}/run
hints_directory = {dir}/hints
lookup_directories = {dir} : /etc
store_directories = {dir}/mail
daemon_uid_base = %d
""" % UID_BASE
USER = "games"  # a login that every Debian has, with no .forward


@pytest.fixture(scope="module")
def generate(tmp_path_factory):
    """The configuration for a set of answers to debconf's questions."""
    oracle = Oracle(tmp_path_factory.mktemp("debian"))

    def make(**answers):
        values = dict(configtype="internet", other_hostnames="mail.example.com", local_interfaces="127.0.0.1", readhost="", relay_domains="",
                      minimaldns="false", relay_nets="", smarthost="", CFILEMODE="644", use_split_config="false", hide_mailname="",
                      mailname_in_oh="true", localdelivery="mail_spool")
        values.update(answers)
        oracle.write("/etc/mailname", "mail.example.com\n")
        oracle.write("/etc/exim4/update-exim4.conf.conf", "".join(
            "%s='%s'\n" % ("dc_eximconfig_configtype" if k == "configtype" else "dc_" + k if k not in ("CFILEMODE",) else k, v) for k, v in values.items()))
        done = oracle.run(["--output", "/etc/exim4/made"], program="update-exim4.conf")
        text = read(os.path.join(oracle.base, "upper/etc/exim4/made"))
        assert "begin acl" in text, done.stderr.decode()
        return text
    return make


@pytest.fixture
def debian(generate):
    """Starts an instance on the stock configuration; `macros` as an administrator of Debian would set them."""
    made = []

    def start(macros="", **answers):
        i = Instance(config=" ")
        made.append(i)
        text = generate(**answers)
        for old, new in (("/etc/exim4", "/exim4"), ("/etc/aliases", "/aliases"), ("/etc/email-addresses", "/email-addresses"),
                         ("/var/mail", "/mail"), ("/var/spool/exim4", "/spool")):
            assert old in text
            text = text.replace(old, i.dir + new)
        macros += "\nMAIN_LOCAL_INTERFACES = 127.0.0.1.%d\nMAIN_HARDCODE_PRIMARY_HOSTNAME = mail.example.com\n" % i.port
        with open(i.conf, "w") as f:
            f.write(macros + OURS.replace("{dir}", i.dir) + "log_file_path = %s/log/%%slog\n" % i.dir + text)
        os.makedirs(i.dir + "/exim4")
        os.chmod(i.dir + "/mail", 0o1777)
        with open(i.dir + "/aliases", "w") as f:
            f.write("postmaster: %s\ninfo: %s, %s\nnobody-home: :fail: moved away\n" % (USER, USER, "stranger@elsewhere.example"))
        with open(i.dir + "/email-addresses", "w") as f:
            f.write("%s: Fun@players.example\n" % USER)
        return i.start()
    yield start
    for i in made:
        i.destroy()


class Elsewhere:
    """Another host: a network namespace with an address of its own, and a sink in it."""

    def __init__(self):
        self.ns, self.ours, self.theirs = "bh-deb-%d" % os.getpid(), "198.51.100.1", "198.51.100.2"
        for c in ("ip netns add NS", "ip link add bhd0 type veth peer name bhd1 netns NS", "ip addr add 198.51.100.1/30 dev bhd0",
                  "ip link set bhd0 up", "ip -n NS addr add 198.51.100.2/30 dev bhd1", "ip -n NS link set bhd1 up"):
            subprocess.run(c.replace("NS", self.ns).split(), check=True)

    def sink(self, port):
        """The sockets of a thread that went into the namespace stay there."""
        got = []

        def make():
            with open("/run/netns/" + self.ns) as f:
                if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), 0x40000000):
                    raise OSError(ctypes.get_errno(), "setns")
            s = Sink.__new__(Sink)
            import socket
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.theirs, port))
            s.__dict__.update(extensions=("PIPELINING", "8BITMIME", "SIZE 0"), lmtp=False, on_rcpt=None, on_data=None, keep_content=True,
                              messages=[], sessions=0, lock=threading.Lock(), server=listening, port=port, open=True)
            listening.listen(64)
            got.append(s)
        t = threading.Thread(target=make)
        t.start()
        t.join()
        threading.Thread(target=got[0]._accept, daemon=True).start()
        return got[0]

    def close(self):
        subprocess.run(["ip", "link", "del", "bhd0"], check=False)
        subprocess.run(["ip", "netns", "del", self.ns], check=False)


@pytest.fixture
def elsewhere():
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    e = Elsewhere()
    yield e
    e.close()


def mailbox(i):
    return read(os.path.join(i.dir, "mail", USER))


def test_local_delivery_and_aliases(debian):
    i = debian()
    c = i.client(source=("127.0.0.2", 0))  # not one of the hosts that may relay, which are not checked so closely
    c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<a@client.example>", 250)
    c.ask("RCPT TO:<%s@mail.example.com>" % USER, 250)
    c.ask("RCPT TO:<postmaster@mail.example.com>", 250)
    assert "moved away" in c.ask("RCPT TO:<nobody-home@mail.example.com>", 550)
    c.ask("RCPT TO:<no-such-login@mail.example.com>", 550)
    c.ask("RCPT TO:<x/y@mail.example.com>", 550)
    assert "relay not permitted" in c.ask("RCPT TO:<x@far.example>", 550)
    c.ask("DATA", 354)
    c.send("From: A <a@client.example>\r\nSubject: hello\r\nTo: %s\r\n\r\nbody\r\n.\r\n" % USER)
    assert c.reply().startswith("250")
    c.close()
    wait_for(lambda: mailbox(i).count("Subject: hello") == 1, 20, why=i.logs)  # one mailbox, one copy
    assert "Envelope-to: " in mailbox(i) and "Delivery-date: " in mailbox(i) and "Return-path: <a@client.example>" in mailbox(i)
    i.wait_empty()
    assert os.stat(os.path.join(i.dir, "mail", USER)).st_mode & 0o777 == 0o660


def test_header_and_line_checks(debian):
    i = debian()
    for content, reply in ((b"From: @bad\r\n\r\nx\r\n", "550"), (b"From: a@b.example\r\n\r\n" + b"x" * 1200 + b"\r\n", "550"),
                           (b"From: a@b.example\r\n\r\nfine\r\n", "250")):
        c = i.client()
        assert c.mail("a@b.example", USER + "@mail.example.com", content).startswith(reply), (content[:40], i.logs())
        c.close()


def test_smarthost(debian, elsewhere):
    sink = elsewhere.sink(2525)
    i = debian(configtype="smarthost", smarthost="198.51.100.2::2525", relay_nets="127.0.0.0/8")
    i.send(USER + "@mail.example.com", "far@elsewhere.example", b"From: %s@mail.example.com\r\nSubject: out\r\n\r\nbody\r\n" % USER.encode())
    sender, rcpts, content = sink.wait(1)[0]
    assert (sender, rcpts) == ("Fun@players.example", ["far@elsewhere.example"]), "rewritten by /etc/email-addresses"
    assert b"From: Fun@players.example\r\n" in content
    i.wait_empty()


def test_satellite_and_hidden_name(debian, elsewhere):
    sink = elsewhere.sink(2525)
    i = debian(configtype="satellite", smarthost="198.51.100.2::2525", relay_nets="127.0.0.0/8", readhost="visible.example", hide_mailname="true")
    i.send("root@mail.example.com", "far@elsewhere.example", b"From: root@mail.example.com\r\nSubject: out\r\n\r\nbody\r\n")
    sender, rcpts, content = sink.wait(1)[0]
    assert (sender, rcpts) == ("root@visible.example", ["far@elsewhere.example"])
    assert b"From: root@visible.example\r\n" in content
    i.send("a@b.example", USER + "@mail.example.com")
    assert sink.wait(2)[1][1] == [USER + "@visible.example"], "local mail goes to the hub"


@pytest.mark.parametrize("kind", ["internet", "smarthost", "satellite", "local"])
def test_report_on_the_stock_configuration(generate, tmp_path, kind):
    p = tmp_path / "exim.conf"
    p.write_text(generate(configtype=kind, smarthost="198.51.100.2", readhost="visible.example"))
    done = subprocess.run([BIN, "check-config", "--exim", str(p)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"not supported:" not in done.stdout and b", 0 are not supported\n" in done.stdout, done.stdout.decode()
    assert done.returncode == 0
