# SPDX-License-Identifier: ISC
"""A private certification authority for the scenarios: certificates with RSA and ECDSA keys, lists of revoked ones, OCSP answers.
All by the openssl command, so that what is tested is not what makes it."""
import os
import re
import subprocess

CNF = """
[ca]
default_ca = own
[own]
database = {dir}/index.txt
serial = {dir}/serial
new_certs_dir = {dir}
certificate = {dir}/ca.pem
private_key = {dir}/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
copy_extensions = copy
unique_subject = no
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier = hash
"""


def run(*argv, **kw):
    p = subprocess.run(["openssl", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    assert p.returncode == 0, "%s\n%s" % (argv, p.stderr.decode())
    return p.stdout


def fingerprint(pem):
    """SHA-256 of a certificate (PEM text, or the name of a file)."""
    data = open(pem, "rb").read() if isinstance(pem, str) and os.path.exists(pem) else pem if isinstance(pem, bytes) else pem.encode()
    return run("x509", "-noout", "-fingerprint", "-sha256", input=data).decode().split("=")[1].strip()


class Authority:
    def __init__(self, directory, name="Test CA"):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)
        self.cnf = self.path("ca.cnf")
        open(self.path("index.txt"), "w").close()
        with open(self.path("serial"), "w") as f:
            f.write("1000\n")
        with open(self.cnf, "w") as f:
            f.write(CNF.format(dir=directory))
        self.key_make("ca.key", "ec")
        run("req", "-new", "-x509", "-config", self.cnf, "-extensions", "authority", "-key", self.path("ca.key"), "-subj", "/CN=" + name, "-days",
            "60", "-out", self.path("ca.pem"))
        self.pem = self.path("ca.pem")
        os.chmod(self.pem, 0o644)

    def path(self, name):
        return os.path.join(self.dir, name)

    def key_make(self, file, kind):
        if kind == "rsa":
            run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.path(file))
        else:
            run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path(file))

    def leaf(self, name, cn, kind="ec", names=(), owner=None, days="30"):
        """name.pem and name.key; the key is readable by `owner` (a uid) alone. Written beside, then moved into place."""
        pem, key = self.path(name + ".pem"), self.path(name + ".key")
        self.key_make(name + ".key.new", kind)
        argv = ["req", "-new", "-config", self.cnf, "-key", key + ".new", "-subj", "/CN=" + cn, "-out", self.path(name + ".csr")]
        if names:
            argv += ["-addext", "subjectAltName=" + ",".join(names)]
        run(*argv)
        run("ca", "-batch", "-notext", "-config", self.cnf, "-days", days, "-in", self.path(name + ".csr"), "-out", pem + ".new")
        os.chmod(pem + ".new", 0o644)
        os.chmod(key + ".new", 0o600)
        if owner is not None:
            os.chown(key + ".new", owner, owner)
        os.rename(pem + ".new", pem)
        os.rename(key + ".new", key)
        return pem, key

    def revoke(self, pem):
        run("ca", "-config", self.cnf, "-revoke", pem)

    def crl(self):
        run("ca", "-config", self.cnf, "-gencrl", "-out", self.path("crl.pem"))
        os.chmod(self.path("crl.pem"), 0o644)
        return self.path("crl.pem")

    def ocsp(self, pem, name, days=2):
        """An answer that says how the certificate is, in DER; days < 0: one that is out of date."""
        der, request = self.path(name), self.path(name + ".req")
        run("ocsp", "-issuer", self.pem, "-cert", pem, "-no_nonce", "-reqout", request)
        argv = ["ocsp", "-index", self.path("index.txt"), "-CA", self.pem, "-rsigner", self.pem, "-rkey", self.path("ca.key"), "-reqin", request,
                "-respout", der + ".new"]
        run(*argv, *(["-ndays", str(days)] if days else []))
        os.chmod(der + ".new", 0o644)
        os.rename(der + ".new", der)
        return der


def subject(text):
    m = re.search(r"subject=(.*)", text)
    return m.group(1).strip() if m else None
