# SPDX-License-Identifier: ISC
"""What the scenarios of DANE stand on: zones on nsd, signed and then broken on purpose, behind a validating unbound; certificates; servers
that speak STARTTLS. One host is one server at an address of its own, all at one port, and all that is said of it is in struct Host."""
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

from bulkhead import free_port, wait_for
from certs import Authority, run

STATUS_REQUEST = b"\x00\x05\x00\x05\x01\x00\x00\x00\x00"   # the extension of a hello, without responders and extensions
PORT_ADDRESS = "127.88.%d.%d"
HEAD = """$TTL 300
@ IN SOA ns admin 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
"""
SIGNED = ("dane.test", "bogus.test", "expired.test", "wrongkey.test")
ZONES = SIGNED + ("plain.test", "child.dane.test")
VALID = ["*.mx.dane.test", "*.mx.plain.test"]


def have_servers():
    return all(shutil.which(p) for p in ("nsd", "unbound", "ldns-signzone", "ldns-keygen", "openssl"))


class Certs:
    """Certificates by name: pem, key, the chain that is sent. `wrong` is none that any server has."""
    def __init__(self, directory):
        self.ca = Authority(os.path.join(directory, "ca"), "Anchor")
        other = Authority(os.path.join(directory, "other"), "Another anchor")
        self.dir, self.of = directory, {}
        for name, names, days in (("valid", VALID, None), ("othername", ["elsewhere.test"], None), ("domain", ["ta-domain.dane.test"], None)):
            pem, key = self.ca.leaf(name, "x", "ec" if name == "valid" else "rsa", ["DNS:" + n for n in names])
            self.keep(name, pem, key)
        self.keep("expired", *self.expired())
        self.keep("wrong", *other.leaf("wrong", "x"))
        self.anchor = open(self.ca.pem).read()

    def keep(self, name, pem, key):
        text = open(pem).read()
        chain = os.path.join(self.dir, name + ".chain")
        with open(chain, "w") as f:
            f.write(text + open(self.ca.pem).read())
        lone = os.path.join(self.dir, name + ".lone")
        with open(lone, "w") as f:
            f.write(text)
        self.of[name] = (text, key, chain, lone)

    def expired(self):
        """Valid last year."""
        pem, key = self.ca.path("expired.pem"), self.ca.path("expired.key")
        self.ca.key_make("expired.key", "ec")
        run("req", "-new", "-config", self.ca.cnf, "-key", key, "-subj", "/CN=x", "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in VALID),
            "-out", self.ca.path("expired.csr"))
        run("ca", "-batch", "-notext", "-config", self.ca.cnf, "-startdate", "20240101000000Z", "-enddate", "20240201000000Z", "-in",
            self.ca.path("expired.csr"), "-out", pem)
        return pem, key

    def record(self, spec):
        """"3 1 1 valid" as it stands in a zone; "3 1 1 =abcd": these octets; "anchor": the authority's certificate."""
        usage, selector, matching, of = spec.split()
        if of.startswith("="):
            return "%s %s %s %s" % (usage, selector, matching, of[1:])
        pem = self.anchor if of == "anchor" else self.of[of][0]
        if selector == "0":
            der = run("x509", "-outform", "der", input=pem.encode())
        else:
            der = run("pkey", "-pubin", "-outform", "der", input=run("x509", "-noout", "-pubkey", input=pem.encode()))
        data = {"0": der, "1": hashlib.sha256(der).digest(), "2": hashlib.sha512(der).digest()}[matching]
        return "%s %s %s %s" % (usage, selector, matching, data.hex())


class Target:
    """An SMTP server with STARTTLS (cert None: without) that keeps what it gets: (recipient, inside TLS?, SNI, cipher)."""
    def __init__(self, address, port, chain=None, key=None, starttls="220 go on", hide=False, tls12=False):
        self.got, self.sessions, self.sni, self.starttls, self.hide = [], 0, None, starttls, hide
        self.asked_ocsp = []   # whether each hello did
        self.ctx = None
        if chain:
            self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.ctx.load_cert_chain(chain, key)
            self.ctx.sni_callback = self.on_sni
            if tls12:
                self.ctx.maximum_version = ssl.TLSVersion.TLSv1_2
        self.server = socket.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.bind((address, port))
        self.server.listen(64)
        self.snis = []
        threading.Thread(target=self.accept, daemon=True).start()

    def on_sni(self, sock, name, ctx):
        self.snis.append(name)

    def accept(self):
        while True:
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self.session, args=(c,), daemon=True).start()

    def session(self, c):
        c.settimeout(60)
        try:
            self.talk(c)
        except (OSError, ValueError):
            pass
        finally:
            c.close()

    def talk(self, c):
        f = c.makefile("rb")
        tls = None
        rcpts = []

        def say(text):
            (tls or c).sendall(text.encode() + b"\r\n")
        say("220 target ESMTP")
        while True:
            line = f.readline().decode("latin-1").strip()
            verb = line[:4].upper()
            if not line:
                return
            if verb == "EHLO":
                say("250-target" + ("\r\n250-STARTTLS" if self.ctx and not tls and not self.hide else "") + "\r\n250 8BITMIME")
            elif verb == "STAR" and self.ctx and not tls:
                say(self.starttls)
                if self.starttls.startswith("220"):
                    f.close()
                    self.asked_ocsp.append(STATUS_REQUEST in c.recv(16384, socket.MSG_PEEK))
                    tls = self.ctx.wrap_socket(c, server_side=True)
                    f = tls.makefile("rb")
            elif verb == "MAIL":
                rcpts = []
                say("250 ok")
            elif verb == "RCPT":
                rcpts.append(line[line.index("<") + 1:line.index(">")])
                say("250 ok")
            elif verb == "DATA":
                say("354 go on")
                while f.readline() not in (b".\r\n", b""):
                    pass
                for r in rcpts:
                    self.got.append((r, bool(tls), self.snis[-1] if self.snis else None, tls.cipher()[0] if tls else None))
                say("250 kept")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")

    def close(self):
        self.server.close()


class Names:
    """nsd with the zones, unbound in front. `lines`: zone -> more of its text; `refuse`, `silent`: names that unbound refuses, or does not
    answer at all."""
    def __init__(self, directory, lines, refuse=(), silent=()):
        self.dir, self.children = os.path.join(directory, "dns"), []
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        self.nsd_port = free_port()
        with socket.socket() as s:   # a second one of the same process
            base = os.getpid() % 250 + 1
            taken = s.connect_ex(("127.74.%d.53" % base, 53)) == 0
        self.address = "127.%d.%d.53" % (75 if taken else 74, base)
        self.keys = {}
        for zone in ZONES:
            with open(self.path(zone), "w") as f:
                f.write("$ORIGIN %s.\n" % zone + HEAD + lines.get(zone, ""))
        for zone in SIGNED:
            self.sign(zone)
        # as if it had been signed by somebody else
        stranger = self.shell("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", "wrongkey.test").split()[-1]
        self.keys["wrongkey.test"] = open(self.path(stranger + ".key")).read()
        # changed behind the signature
        text = open(self.path("bogus.test.signed")).read()
        assert "\t127.0.0.66\n" in text or " 127.0.0.66\n" in text
        with open(self.path("bogus.test.signed"), "w") as f:
            f.write(text.replace("127.0.0.66\n", "127.0.0.67\n").replace("aaaaaaaa", "bbbbbbbb"))
        with open(self.path("anchors"), "w") as f:
            f.writelines(self.keys.values())
        self.start(refuse, silent)

    def path(self, name):
        return os.path.join(self.dir, name)

    def shell(self, *argv):
        p = subprocess.run(argv, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert p.returncode == 0, p.stdout.decode()
        return p.stdout.decode()

    def sign(self, zone):
        key = self.shell("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone).split()[-1]
        dates = ["-i", "20200101000000", "-e", "20200201000000"] if zone == "expired.test" else []
        self.shell("ldns-signzone", *dates, "-f", self.path(zone + ".signed"), self.path(zone), key)
        self.keys[zone] = open(self.path(key + ".key")).read()

    def start(self, refuse, silent):
        with open(self.path("nsd.conf"), "w") as f:
            f.write("server:\n ip-address: 127.0.0.1\n port: %d\n zonesdir: \"%s\"\n database: \"\"\n pidfile: \"%s\"\n xfrdfile: \"%s\"\n"
                    " zonelistfile: \"%s\"\n username: \"\"\n chroot: \"\"\nremote-control:\n control-enable: no\n" %
                    (self.nsd_port, self.dir, self.path("nsd.pid"), self.path("xfrd"), self.path("zonelist")))
            for zone in ZONES:
                f.write("zone:\n name: %s\n zonefile: %s%s\n" % (zone, zone, ".signed" if zone in SIGNED else ""))
        self.spawn(["nsd", "-d", "-c", self.path("nsd.conf")], "127.0.0.1", self.nsd_port)
        with open(self.path("unbound.conf"), "w") as f:
            f.write("server:\n interface: %s\n port: 53\n do-not-query-localhost: no\n chroot: \"\"\n username: \"\"\n directory: \"%s\"\n"
                    " pidfile: \"\"\n use-syslog: no\n trust-anchor-file: \"%s\"\n do-daemonize: no\n access-control: 127.0.0.0/8 allow\n"
                    " root-hints: \"\"\n local-zone: \"test.\" nodefault\n" % (self.address, self.dir, self.path("anchors")))
            for kind, names in (("always_refuse", refuse), ("always_deny", silent)):
                for n in names:
                    f.write(" local-zone: \"%s.\" %s\n" % (n, kind))
            f.write("remote-control:\n control-enable: no\n")
            for zone in ZONES:
                f.write("stub-zone:\n name: %s\n stub-addr: 127.0.0.1@%d\n stub-prime: no\n" % (zone, self.nsd_port))
        self.spawn(["unbound", "-d", "-c", self.path("unbound.conf")], self.address, 53)

    def spawn(self, argv, address, port):
        out = open(self.path("out-" + argv[0]), "ab")
        child = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, cwd=self.dir)
        self.children.append(child)

        def is_up():
            assert child.poll() is None, "%s: %s" % (argv, open(self.path("out-" + argv[0])).read())
            with socket.socket() as s:
                return s.connect_ex((address, port)) == 0
        wait_for(is_up, 20)

    def stop(self):
        for c in self.children:
            c.send_signal(signal.SIGTERM)
        for c in self.children:
            try:
                c.wait(10)
            except subprocess.TimeoutExpired:
                c.kill()
                c.wait(10)


class Host:
    """One row: a domain NAME.dane.test with one MX, NAME.mx.dane.test (or `mx`, a list of other hosts' names).
    tlsa: records of the host, None: none. cert: what the server shows, None: no TLS. zone: text added to dane.test ({tlsa}: its name).
    want, want_required: what becomes of a message, plainly and where DANE is required."""
    def __init__(self, name, tlsa=(), cert="valid", lone=False, want=None, required=None, mx=None, zone="", hide=False, starttls="220 go on",
                 domain=None, server=True, address=True, tls12=False, silent=False, refuse=False, only=None):
        self.name, self.tlsa, self.cert, self.lone, self.want, self.required = name, tlsa, cert, lone, want, required
        self.mx, self.zone, self.hide, self.starttls, self.domain, self.server = mx, zone, hide, starttls, domain, server
        self.address, self.tls12, self.silent, self.refuse = address, tls12, silent, refuse
        self.only = only   # the local part that is written to; "": none
        self.ip = self.target = None

    def locals(self):
        return ("tried", "required") if self.only is None else tuple(filter(None, [self.only]))

    def host(self):
        return self.name + ".mx"

    def rcpt_domain(self):
        return self.domain or self.name + ".dane.test"


class World:
    def __init__(self, directory, rows, certs=None, port=None, address=None):
        """address: of every host, which then is a server of somebody else's."""
        os.chmod(directory, 0o755)
        self.dir, self.rows, self.port = directory, rows, port or free_port()
        self.certs = certs or Certs(directory)
        pid = os.getpid() % 200 + 1
        lines = {"dane.test": "", "plain.test": "", "child.dane.test": "", "bogus.test": "@ IN MX 10 mx\nmx IN A 127.0.0.66\n"}
        refuse, silent = [], []
        for i, r in enumerate(rows):
            r.ip = address or PORT_ADDRESS % (pid, i + 1)
            fqdn = r.host() + ".dane.test"
            tlsa = "_%d._tcp.%s" % (self.port, r.host())
            lines["dane.test"] += "%s IN MX 10 %s\n" % (r.name, r.host()) if r.mx is None else "".join(
                "%s IN MX %d %s\n" % (r.name, 10 * (k + 1), m) for k, m in enumerate(r.mx))
            if r.address:
                lines["dane.test"] += "%s IN A %s\n" % (r.host(), r.ip)
            for spec in r.tlsa or ():
                lines["dane.test"] += "%s IN TLSA %s\n" % (tlsa, self.certs.record(spec))
            values = dict(tlsa=tlsa, host=r.host(), name=r.name, ip=r.ip, port=self.port)
            for zone, text in (r.zone.items() if isinstance(r.zone, dict) else [("dane.test", r.zone)]):
                for word in text.split("\n"):
                    if "TLSA!" in word:   # a record of a certificate
                        head, spec = word.split("TLSA!")
                        word = head + "TLSA " + self.certs.record(spec.strip())
                    lines.setdefault(zone, "")
                    lines[zone] += word.format(**values) + "\n"
            if r.refuse:
                refuse.append(tlsa + ".dane.test")
            if r.silent:
                silent.append(tlsa + ".dane.test")
            if r.server:
                chain = self.certs.of[r.cert][3 if r.lone else 2] if r.cert else None
                r.target = Target(r.ip, self.port, chain, self.certs.of[r.cert][1] if r.cert else None, r.starttls, r.hide, r.tls12)
        lines["dane.test"] += "child IN NS ns.child\nns.child IN A 127.0.0.1\n"
        self.names = Names(directory, lines, refuse, silent)
        self.of = {r.name: r for r in rows}

    def close(self):
        self.names.stop()
        for r in self.rows:
            if r.target:
                r.target.close()
