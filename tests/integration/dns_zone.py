# SPDX-License-Identifier: ISC
"""A name server for tests of ACLs: nsd on a loopback address of its own, port 53, so that Exim's resolver finds it too."""
import os
import shutil
import socket
import subprocess

from bulkhead import wait_for

EXAMPLE = r"""$ORIGIN example.
$TTL 300
@ IN SOA ns admin 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
client IN A 192.0.2.1
other IN A 192.0.2.99
mail.remote IN A 192.0.2.50
remote IN MX 10 mail.remote
; short.example is nothing, short.example.wide.example is here
short.example.wide IN A 127.0.0.1
; DNS lists: 192.0.2.1 has 127.0.0.2, 192.0.2.2 two values, 192.0.2.3 a value outside of 127/8
1.2.0.192.one.dnsbl IN A 127.0.0.2
1.2.0.192.one.dnsbl IN TXT "T:listed, see http://one.example/"
2.2.0.192.one.dnsbl IN A 127.0.0.2
2.2.0.192.one.dnsbl IN A 127.0.0.3
2.2.0.192.one.dnsbl IN TXT "T:twice"
3.2.0.192.one.dnsbl IN A 192.0.2.77
4.2.0.192.one.dnsbl IN A 127.0.0.7
1.2.0.192.merged IN A 127.0.0.10
1.2.0.192.merged IN TXT "T:merged text"
1.2.0.192.part.merged IN A 127.0.0.99
1.2.0.192.part.merged IN TXT "T:part text"
bad.example.names.dnsbl IN A 127.0.0.4
bad.example.names.dnsbl IN TXT "T:bad name"
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.six.dnsbl IN A 127.0.0.6
"""
REVERSE = r"""$ORIGIN 2.0.192.in-addr.arpa.
$TTL 300
@ IN SOA ns.example. admin.example. 1 3600 600 86400 60
@ IN NS ns.example.
1 IN PTR client.example.
2 IN PTR forged.example.
"""


def have_nsd():
    return bool(shutil.which("nsd"))


class Zone:
    def __init__(self, directory, address="127.73.%d.53" % (os.getpid() % 250 + 1)):
        self.address, self.dir = address, os.path.join(directory, "nsd")
        os.makedirs(self.dir)
        for name, text in (("example", EXAMPLE), ("reverse", REVERSE)):
            with open(os.path.join(self.dir, name), "w") as f:
                f.write(text)
        conf = os.path.join(self.dir, "nsd.conf")
        with open(conf, "w") as f:
            f.write("server:\n ip-address: %s\n port: 53\n zonesdir: \"%s\"\n database: \"\"\n pidfile: \"%s/pid\"\n xfrdfile: \"%s/xfrd\"\n"
                    " zonelistfile: \"%s/list\"\n username: \"\"\n chroot: \"\"\nremote-control:\n control-enable: no\n"
                    "zone:\n name: example\n zonefile: example\nzone:\n name: 2.0.192.in-addr.arpa\n zonefile: reverse\n" %
                    (address, self.dir, self.dir, self.dir, self.dir))
        self.out = open(os.path.join(self.dir, "out"), "wb")
        self.child = subprocess.Popen(["nsd", "-d", "-c", conf], stdout=self.out, stderr=subprocess.STDOUT)

        def up():
            assert self.child.poll() is None, open(os.path.join(self.dir, "out")).read()
            with socket.socket() as s:
                return s.connect_ex((address, 53)) == 0
        wait_for(up, 20)

    def close(self):
        self.child.terminate()
        self.child.wait(20)
        self.out.close()
