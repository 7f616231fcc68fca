# SPDX-License-Identifier: ISC
"""MIME parts: `bulkhead session` beside `exim -bh`. Each file of tests/differential/mime/ is a message; an ACL logs each part's variables and
what it decodes to. The whole of a part is a case, FILE/N; and so is FILE/data, what the data ACL sees afterwards. Decoded parts are
compared with the files that Exim wrote, octet by octet. What differs on purpose is in mime.differences: the case, two blanks, the reason."""
import concurrent.futures
import hashlib
import os
import re
import subprocess

import pytest

from bulkhead import BIN, TOP
from oracle import Oracle

FOLDER = os.path.join(TOP, "tests/differential/mime")
VARIABLES = ("part_count is_rfc822 is_multipart is_coverletter content_type boundary charset content_transfer_encoding content_disposition "
             "content_id content_description filename anomaly_level anomaly_text content_size").split()
CONF = r"""
primary_hostname = mx.test.example
acl_smtp_rcpt = accept
acl_smtp_mime = acl_mime
acl_smtp_data = acl_data
host_lookup =
{main}
begin acl
acl_mime:
{acl}  warn decode = default
       logwrite = T:{variables}
  warn regex = ^(.*)
       logwrite = T:first raw line ${escape:$regex1}
  warn mime_regex = \N(?s)^(.{0,10})\N
       logwrite = T:decoded begins ${hexquote:$regex1}
  warn mime_regex = \N(?s)^(.*)\z\N
       logwrite = T:sha256 ${sha256:$regex1} ${sg{$mime_decoded_filename}{^.*-}{}}
  accept logwrite = T:end
acl_data:
  accept logwrite = T:parts $mime_part_count
         logwrite = T:end
begin routers
r:
  driver = accept
  transport = t
begin transports
t:
  driver = appendfile
  file = /var/mail/t
  user = nobody
""".replace("{variables}", " ".join("%s=<${escape:$mime_%s}>" % (v, v) for v in VARIABLES))
KEEP = "  warn control = no_mbox_unspool\n"
OURS = "spool_directory = {dir}/spool\nrun_directory = {dir}/run\nhints_directory = {dir}/hints\nlog_file_path = {dir}/%slog\n"
THEIRS = "log_file_path = /var/log/exim4/%slog\n"


def blocks(text):
    """What ACLs logged, part by part."""
    out, block = [], []
    for line in text.replace("\r", "").split("\n"):
        if line.startswith("LOG: ") and "T:" in line:
            block.append(line[line.index("T:") + 2:].rstrip())
            if block[-1] == "end":
                out.append(block[:-1])
                block = []
    assert not block, "a part without its end: %s" % block
    return out


def decoded_by_exim(oracle):
    """{number: octets} of the files that Exim left."""
    top, out = os.path.join(oracle.base, "upper/var/spool/exim4/scan"), {}
    for folder, _, names in os.walk(top):
        for n in names:
            path = os.path.join(folder, n)
            if not n.endswith(".eml"):
                with open(path, "rb") as f:
                    out[n.rsplit("-", 1)[1]] = f.read()
            os.unlink(path)
    return out


def with_file(block, files):
    """Exim's regular expressions end at a NUL: what it decoded is in its file."""
    out = []
    for line in block:
        if line.startswith(("sha256 ", "decoded begins")):
            continue
        out.append(line)
    number = [line.split()[-1] for line in block if line.startswith("sha256 ")]
    octets = files.get(number[0]) if number and len(number[0].split()) else None
    return out, octets


def run_file(oracle, tmp_path, name):
    """{case: (Exim's, ours)}"""
    with open(os.path.join(FOLDER, name), "rb") as f:
        message = f.read().decode("latin-1")
    stdin = "EHLO client.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n%s%s.\r\nQUIT\r\n" \
        % (message, "" if message.endswith("\n") else "\r\n")
    stdin = stdin.encode("latin-1")
    conf = os.path.join(str(tmp_path), name + ".conf")
    with open(conf, "w") as f:
        f.write(CONF.replace("{main}", OURS.replace("{dir}", str(tmp_path))).replace("{acl}", ""))
    e = oracle.run(["-bh", "192.0.2.1"], stdin.decode("utf-8", "surrogateescape"), CONF.replace("{main}", THEIRS).replace("{acl}", KEEP))
    b = subprocess.run([BIN, "-C", conf, "session", "192.0.2.1"], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    exim_said, ours_said = e.stderr.decode("latin-1"), b.stderr.decode("latin-1")
    assert b.returncode == 0, "%s: %s" % (name, ours_said)
    assert re.search(r"^250 OK id=", e.stdout.decode("latin-1"), re.M), e.stdout
    if os.environ.get("MIME_SHOW"):
        print(e.stdout.decode("latin-1"), exim_said, b.stdout.decode("latin-1"), ours_said, sep="\n=====\n")
    files = decoded_by_exim(oracle)
    exim, ours, out = blocks(exim_said), blocks(ours_said), {}
    assert exim and exim[-1][0].startswith("parts "), exim_said
    assert ours and ours[-1][0].startswith("parts "), ours_said
    base = name.replace(".eml", "")
    out[base + "/data"] = (exim.pop(), ours.pop())
    for i in range(max(len(exim), len(ours))):
        theirs, mine = exim[i] if i < len(exim) else ["no part"], ours[i] if i < len(ours) else ["no part"]
        theirs, octets = with_file(theirs, files)
        if octets: # of what is empty, Exim's mime_regex says nothing
            theirs.append("decoded begins " + octets[:10].hex())
            theirs.append("sha256 " + hashlib.sha256(octets[:32768]).hexdigest().upper())
        if octets == b"":
            mine = [line for line in mine if not line.startswith(("decoded begins", "sha256"))]
        mine = [re.sub(r"^(sha256 \S+) .*", r"\1", line) for line in mine]
        mine = [re.sub(r"^(decoded begins )(.*)", lambda m: m.group(1) + unhex(m.group(2)), line) for line in mine]
        out["%s/%d" % (base, i)] = (theirs, mine)
    return out


def unhex(quoted):
    """${hexquote:...} as plain hexadecimal digits."""
    return "".join(c if len(c) == 2 else "%02x" % ord(c) for c in (m.group(1) or m.group(0) for m in re.finditer(r"\\x([0-9a-f]{2})|.", quoted)))


def differences():
    table = {}
    for line in open(os.path.join(FOLDER, "mime.differences")):
        if line.strip() and not line.startswith("#"):
            case, reason = line.rstrip("\n").split("  ", 1)
            table[case] = reason.strip()
    return table


def test_parts(tmp_path):
    os.chmod(str(tmp_path), 0o755)
    names = sorted(n for n in os.listdir(FOLDER) if n.endswith(".eml"))
    only = os.environ.get("MIME_ONLY")
    names = [n for n in names if not only or only in n]
    oracles = []
    for i in range(2):
        d = tmp_path / ("oracle%d" % i)
        d.mkdir(mode=0o755)
        oracles.append(Oracle(d))

    def work(i):
        mine = {}
        for n in names[i::2]:
            mine.update(run_file(oracles[i], tmp_path, n))
        return mine
    known, wrong, results = differences(), [], {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for mine in pool.map(work, range(2)):
            results.update(mine)
    for case, (exim, ours) in sorted(results.items()):
        if exim == ours:
            if case in known:
                wrong.append("%s: no longer different, take it out of the table" % case)
        elif case not in known:
            lines = ["     Exim %s\n     ours %s" % (a, b) for a, b in zip(exim + [""] * 5, ours + [""] * 5) if a != b]
            wrong.append("%s:\n%s" % (case, "\n".join(lines)))
    assert not wrong, "%d of %d cases:\n%s" % (len(wrong), len(results), "\n".join(wrong))
    assert only or len(results) > 150, len(results)
    assert only or not set(known) - set(results), "in the table, but no case: %s" % (set(known) - set(results))
