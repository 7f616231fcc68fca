# SPDX-License-Identifier: ISC
"""Local transports at work: programs, replies, files and hand-over directories, each checked by what came out of it."""
import email
import glob
import os
import re
import signal
import time

import pytest

from bulkhead import UID_BASE, Client, read, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="local deliveries under a uid of their own need root")

ROUTER = """
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  transport = t
sink:
  driver = manualroute
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""
HEAD = """
smtp:
  driver = smtp
  allow_localhost
"""
PIPE = HEAD + """
t:
  driver = pipe
  user = {mail_uid}
  group = {mail_uid}
"""
DEFERRED = r"== joe@\S+ R=local T=t defer \(-1\): "
FAILED = r"\*\* joe@\S+ R=local T=t: "


def box(i, name="out"):
    return read(os.path.join(i.dir, "mail", name))


def pipe(bulkhead, command, more="", **kw):
    return bulkhead(routers=ROUTER, transports=PIPE + "  command = %s\n%s" % (command, more), **kw)


# ---- pipe ----

def test_pipe_program_gets_message_arguments_and_environment(bulkhead):
    i = pipe(bulkhead, '/bin/sh -c "cat > {dir}/mail/out; env > {dir}/mail/env; id > {dir}/mail/id; pwd >> {dir}/mail/id; '
             'ls -l /proc/self/fd > {dir}/mail/fd; printf \'%s|\' \\"\\\\$@\\" > {dir}/mail/args" zero "a  b" \'$domain_data c\' $pipe_addresses',
             "  environment = COLOUR=blue : EMPTY=\n  home_directory = {dir}/mail\n  return_path_add\n  umask = 027\n")
    i.send("a@client.example", "joe@local.example", b"Subject: one\r\n\r\nFrom here\r\n.dot\r\nend\r\n")
    i.wait_log("Completed")
    out = box(i)
    assert out.startswith("From a@client.example ") and "\nReturn-path: <a@client.example>\n" in out
    assert out.endswith("Subject: one\n\nFrom here\n.dot\nend\n\n"), out
    assert box(i, "args") == "a  b|local.example c|joe@local.example|"
    env = dict(line.split("=", 1) for line in box(i, "env").splitlines())
    assert {k: env.get(k) for k in ("LOCAL_PART", "LOGNAME", "USER", "DOMAIN", "RECIPIENT", "SENDER", "HOME", "PATH", "SHELL", "COLOUR", "EMPTY",
                                    "LOCAL_PART_PREFIX", "QUALIFY_DOMAIN")} == {
        "LOCAL_PART": "joe", "LOGNAME": "joe", "USER": "joe", "DOMAIN": "local.example", "RECIPIENT": "joe@local.example",
        "SENDER": "a@client.example", "HOME": i.dir + "/mail", "PATH": "/bin:/usr/bin", "SHELL": "/bin/sh", "COLOUR": "blue", "EMPTY": "",
        "LOCAL_PART_PREFIX": "", "QUALIFY_DOMAIN": "mx.test.example"}
    assert re.fullmatch(r"\w{6}-\w{6}-\w{2}|\w{6}-\w{11}-\w{4}", env["MESSAGE_ID"])
    assert box(i, "id").splitlines() == ["uid=%d gid=%d groups=%d" % ((i.mail_uid,) * 3), i.dir + "/mail"]
    # nothing but its three, and what ls itself opens
    assert len(re.findall(r" -> ", box(i, "fd"))) == 4, box(i, "fd")
    assert os.stat(i.dir + "/mail/out").st_mode & 0o777 == 0o640
    assert re.search(r"=> joe <joe@local.example> R=local T=t", i.log())


@pytest.mark.parametrize("command, more, log, mail", [
    ("/bin/cat", "", r"=> joe ", None),
    ("cat", "", r"=> joe ", None),
    ("/bin/false", "", FAILED + r"Child process of t transport returned 1 from command: /bin/false", "local delivery failed"),
    ("/bin/false", "  ignore_status\n", r"=> joe ", None),
    ("/bin/false", "  temp_errors = 1 : 2\n", DEFERRED + "Child process of t transport returned 1 from command", None),
    ('/bin/sh -c "exit 75"', "", DEFERRED + r"Child process of t transport returned 75 \(could mean temporary error\)", None),
    ('/bin/sh -c "exit 73"', "", DEFERRED, None),
    ('/bin/sh -c "exit 75"', "  temp_errors = 3\n", FAILED, "local delivery failed"),
    ('/bin/sh -c "exit 9"', "  temp_errors = *\n", DEFERRED, None),
    ('/bin/sh -c "exit 67"', "", FAILED + r"Child process of t transport returned 67 \(could mean no such user\)", "Status: 5.1.1"),
    ('/bin/sh -c "kill -9 \\\\$\\\\$"', "", FAILED + r"Child process of t transport \(running command .*\) was terminated by signal 9", "local delivery failed"),
    ('/bin/sh -c "kill -9 \\\\$\\\\$"', "  freeze_signal\n", r"(?s)" + DEFERRED + r".*Frozen", None),
    ("/no/such/program", "", FAILED + r"Child process of t transport returned 127 \(could mean unable to exec or command does not exist\)", "failed"),
    ("/no/such/program", "  freeze_exec_fail\n", r"(?s)" + DEFERRED + r".*Frozen", None),
    ("no-such-program", "", FAILED + r'"no-such-program" command not found for t transport', "failed"),
    ('/bin/sh -c "echo one; echo two"', "  return_output\n", FAILED, "  one\r\n  two\r\n"),
    ('/bin/sh -c "echo one; echo two"', "", r"=> joe ", None),
    ('/bin/sh -c "echo one; exit 1"', "  return_fail_output\n  log_fail_output\n", r"(?s)transport output: one.*" + FAILED, "  one\r\n"),
    ('/bin/sh -c "echo one; exit 75"', "  log_defer_output\n", r"<joe@local.example>: t transport output: one", None),
    ('/bin/sh -c "echo one"', "  log_output\n", r"<joe@local.example>: t transport output: one", None),
    ("/usr/bin/yes", "  max_output = 10K\n", FAILED + "Too much output from pipe - killed: /usr/bin/yes", "local delivery failed"),
    ("/bin/sleep 1000", "  timeout = 1s\n", FAILED + "pipe delivery process timed out: /bin/sleep 1000", "local delivery failed"),
    ("/bin/sleep 1000", "  timeout = 1s\n  timeout_defer\n", DEFERRED + "pipe delivery process timed out", None),
    ("/bin/cat", "  allow_commands = /bin/true : cat\n", FAILED.replace(" T=t", "") + r'"/bin/cat" command not permitted by t transport', "not permitted"),
    ("cat", "  allow_commands = /bin/true : cat\n", r"=> joe ", None),
    ("/bin/cat", "  restrict_to_path\n", FAILED.replace(" T=t", "") + r'"/" found in "/bin/cat" \(command for t transport\)', "security"),
    ("/bin/cat", "  restrict_to_path\n  allow_commands = /bin/cat\n", r"=> joe ", None),
    ("cat", "  restrict_to_path\n", r"=> joe ", None),
    ("cat", "  path = /nowhere\n", FAILED + '"cat" command not found', "failed"),
    ("/bin/echo $local_part", "", r'"joe" in the command is tainted', None),
    ('case $local_part_data in joe) exit 0;; *) exit 1;; esac', "  use_shell\n", r"=> joe ", None),
    ('/bin/cat "${if eq{a}{b}{x}fail}"', "", r"command: ", None),
    ("/bin/cat", "  current_directory = /nowhere/at/all\n", DEFERRED + "failed to chdir to /nowhere/at/all", None),
])
def test_pipe_ends(bulkhead, sink, command, more, log, mail):
    """What the end of a command means for the delivery, the log and the report."""
    i = pipe(bulkhead, command, more, sink=sink)
    i.send("a@client.example", "joe@local.example")
    i.wait_log(log)
    if mail is None:
        i.wait_log(r"Completed" if log.startswith("=> ") or " output: one" in log and "75" not in command else log)
        assert not sink.messages
    else:
        sender, rcpts, content = sink.wait(1)[0]
        assert sender == "" and rcpts == ["a@client.example"] and mail.encode() in content, content
        assert b"Child process" not in content
        assert i.daemons("pipe") or "not permitted" in log or '"/"' in log


def test_pipe_command_that_reads_nothing(bulkhead):
    """A large message for a program that looks at none of it: its end counts, not the octets it left."""
    i = pipe(bulkhead, "/bin/true")
    i.send("a@client.example", "joe@local.example", b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 40000)
    i.wait_log(r"=> joe ")


def test_pipe_big_message_whole(bulkhead):
    i = pipe(bulkhead, '/bin/sh -c "sleep 1; cat > {dir}/mail/out"', "  message_prefix =\n  message_suffix =\n")
    body = b"".join(b"%d line\r\n" % n for n in range(60000))
    i.send("a@client.example", "joe@local.example", b"Subject: big\r\n\r\n" + body)
    i.wait_log(r"=> joe ")
    assert box(i).split("\n\n", 1)[1].encode() == body.replace(b"\r\n", b"\n")


def test_pipe_timeout_kills_the_whole_group(bulkhead):
    mark = str(4000000 + os.getpid())
    i = pipe(bulkhead, '/bin/sh -c "sleep %s & sleep %s"' % (mark, mark), "  timeout = 1s\n")
    i.send("", "joe@local.example")
    i.wait_log("pipe delivery process timed out")
    wait_for(lambda: not any(mark in read(p) for p in glob.glob("/proc/[0-9]*/cmdline") if read(p).startswith("sleep")))


def test_pipe_background_child_does_not_hold_the_delivery(bulkhead):
    i = pipe(bulkhead, '/bin/sh -c "sleep 30 & exit 0"')
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"=> joe ", limit=15)


def test_pipe_worker_killed_in_the_middle_loses_nothing(bulkhead):
    """The worker dies while its command runs: the command goes with it, and the message is tried again."""
    i = pipe(bulkhead, '/bin/sh -c "cat > {dir}/mail/new; test -f {dir}/mail/go || exec sleep 1000; mv {dir}/mail/new {dir}/mail/out"')
    i.send("a@client.example", "joe@local.example", b"Subject: kept\r\n\r\nbody\r\n")
    wait_for(lambda: "Subject: kept" in box(i, "new"))
    with open(i.dir + "/mail/go", "w"):
        pass
    sleeper = wait_for(lambda: [p.split("/")[2] for p in glob.glob("/proc/[0-9]*/cmdline") if read(p) == "sleep\x001000\x00"
                                and int(re.search(r"^Uid:\s+(\d+)", read(p.replace("cmdline", "status")), re.M).group(1)) == i.mail_uid])
    parent = int(re.search(r"^PPid:\s*(\d+)", read("/proc/%s/status" % sleeper[0]), re.M).group(1))
    os.kill(parent, signal.SIGKILL)
    i.wait_log(r"=> joe ")
    assert "Subject: kept" in box(i)
    assert re.search(r"^State:\s+Z", read("/proc/%s/status" % sleeper[0], "State: Z"), re.M)


def test_pipe_never_runs_as_root(bulkhead):
    i = bulkhead(routers=ROUTER, transports=HEAD + "t:\n  driver = pipe\n  command = /usr/bin/touch {dir}/mail/out\n  user = root\n  group = root\n")
    i.send("a@client.example", "joe@local.example")
    i.wait_log("no delivery under uid 0")
    assert not os.path.exists(i.dir + "/mail/out") and len(i.queue()) == 1


def test_pipe_several_recipients_in_one_run(bulkhead):
    i = pipe(bulkhead, '/bin/sh -c "echo run \\"\\\\$*\\" >> {dir}/mail/out" x $pipe_addresses', "  batch_max = 10\n  max_parallel = 1\n")
    i.send("a@client.example", ["joe@local.example", "ann@local.example", "bob@local.example"])
    i.wait_log("Completed")
    assert sorted(box(i).split()) == ["ann@local.example", "bob@local.example", "joe@local.example", "run"]


def test_pipe_as_shell_filter_of_bsmtp(bulkhead):
    i = pipe(bulkhead, '/bin/sh -c "cat > {dir}/mail/out"', "  use_bsmtp\n  use_crlf\n")
    i.send("a@client.example", "joe@local.example", b"Subject: x\r\n\r\n.dot\r\n")
    i.wait_log("Completed")
    raw = open(i.dir + "/mail/out", "rb").read()
    assert raw.startswith(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<joe@local.example>\r\nDATA\r\n") and raw.endswith(b"\r\n\r\n..dot\r\n.\r\n"), raw


# ---- redirections to programs and files ----

REDIRECT = """
alias:
  driver = redirect
  domains = +local_domains
  data = ${lookup{$local_part}lsearch{{dir}/aliases}}
  pipe_transport = address_pipe
  file_transport = address_file
  directory_transport = address_directory
"""
REDIRECTED = HEAD + """
address_pipe:
  driver = pipe
  user = {mail_uid}
  group = {mail_uid}
  return_fail_output
%s
address_file:
  driver = appendfile
  user = {mail_uid}
  group = {mail_uid}
address_directory:
  driver = appendfile
  maildir_format
  user = {mail_uid}
  group = {mail_uid}
"""


def redirected(bulkhead, aliases, more="", **kw):
    i = bulkhead(routers=REDIRECT + ROUTER.replace("transport = t", "transport = address_directory"), transports=REDIRECTED % more, **kw)
    with open(i.dir + "/aliases", "w") as f:
        f.write(re.sub(r"\{dir\}", i.dir, aliases))
    return i


def test_redirection_to_program_file_and_directory(bulkhead):
    i = redirected(bulkhead, """joe: "|/bin/sh -c 'cat > {dir}/mail/out; echo $LOCAL_PART $RECIPIENT >> {dir}/mail/who'", {dir}/mail/box, {dir}/mail/dir/\n""")
    i.send("a@client.example", "joe@local.example", b"Subject: three\r\n\r\nbody\r\n")
    i.wait_log("Completed")
    assert "Subject: three" in box(i) and "Subject: three" in box(i, "box")
    assert box(i, "who") == "joe joe@local.example\n"
    assert len(glob.glob(i.dir + "/mail/dir/new/*")) == 1
    assert re.search(r"=> \|/bin/sh -c .* <joe@local.example> R=alias T=address_pipe", i.log()), i.log()
    assert re.search(r"=> \S+/mail/box <joe@local.example> R=alias T=address_file", i.log())


def test_redirection_to_program_through_force_command(bulkhead):
    i = redirected(bulkhead, "joe: \"|prog 'one two' three\"\n", """  force_command
  command = /bin/sh -c "printf '%s,' \\"\\\\$@\\" > {dir}/mail/out" x $address_pipe end
""")
    i.send("a@client.example", "joe@local.example")
    i.wait_log("Completed")
    assert box(i) == "prog,one two,three,end,"


# ---- autoreply ----

REPLY = HEAD + """
box:
  driver = appendfile
  directory = {dir}/mail/box
  maildir_format
  user = {mail_uid}
  group = {mail_uid}
vacation:
  driver = autoreply
  user = {mail_uid}
  group = {mail_uid}
  to = $sender_address
  from = $local_part_data@$domain
  subject = Away: ${quote:$h_subject:}
"""
VACATION = """
vacation:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;{dir}/users
  unseen
  transport = vacation
""" + ROUTER.replace("transport = t", "transport = box")


def vacation(bulkhead, sink, more="  text = I am away.\\n\n", **kw):
    return bulkhead(routers=VACATION, transports=REPLY + more, sink=sink, **kw)


def test_autoreply_answers_and_the_message_is_delivered(bulkhead, sink):
    i = vacation(bulkhead, sink, """  text = I am away.\\n.dot\\n
  cc = boss@client.example
  reply_to = other@local.example
  headers = "X-One: 1\\nX-Two: 2\\n  folded"
  log = {dir}/mail/log
  return_message
""")
    i.send("a@client.example", "joe@local.example",
           b"Message-ID: <m1@client.example>\r\nReferences: <m0@client.example>\r\nSubject: lunch \"now\"\r\n\r\nthe body\r\n")
    sender, rcpts, content = sink.wait(1)[0]
    m = email.message_from_bytes(content)
    assert sender == "" and sorted(rcpts) == ["a@client.example", "boss@client.example"]
    assert (m["From"], m["To"], m["Cc"], m["Reply-To"]) == ("joe@local.example", "a@client.example", "boss@client.example", "other@local.example")
    assert m["Subject"] == r'Away: "lunch \"now\""' and m["Auto-Submitted"] == "auto-replied" and m["X-Two"].split() == ["2", "folded"]
    assert m["In-Reply-To"] == "<m1@client.example>" and m["References"].split() == ["<m0@client.example>", "<m1@client.example>"]
    assert m["Message-ID"] and m["Date"] and m["Received"] is None or m["Message-ID"]
    body = content.split(b"\r\n\r\n", 1)[1]
    assert body.startswith(b"I am away.\r\n.dot\r\n\r\n------ This is a copy of the message, including all the headers.\r\n\r\n"), body
    assert b"Subject: lunch \"now\"\r\n\r\nthe body\r\n" in body and b"\n\n" not in body
    wait_for(lambda: len(glob.glob(i.dir + "/mail/box/new/*")) == 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n  From: joe@local.example\n  To: a@client.example\n  Cc: boss@client.example\n"
                        r"  Subject: Away: \S.*\n", box(i, "log")), box(i, "log")
    i.wait_empty()
    assert re.search(r"<= <> R=\S+ U=\S* ?P=local", i.log()), i.log()
    assert re.search(r"=> joe <joe@local.example> R=vacation T=vacation", i.log())


@pytest.mark.parametrize("sender, head", [
    ("", b""), ("a@client.example", b"Auto-Submitted: auto-replied\r\n"), ("a@client.example", b"auto-submitted: auto-generated; x=1\r\n"),
    ("never@client.example", b"")])
def test_autoreply_stays_silent(bulkhead, sink, sender, head):
    i = vacation(bulkhead, sink, "  text = away\n  never_mail = never@client.example : *@other.example\n")
    i.send(sender, "joe@local.example", head + b"Subject: x\r\n\r\nbody\r\n")
    i.wait_log(r"R=vacation T=vacation")
    i.wait_empty()
    i.send("b@client.example", "joe@local.example", b"Auto-Submitted: no\r\nSubject: x\r\n\r\nbody\r\n")
    assert [m[1] for m in sink.wait(1)] == [["b@client.example"]]
    i.wait_empty()
    assert len(sink.messages) == 1


def test_autoreply_once(bulkhead, sink):
    i = vacation(bulkhead, sink, "  text = away\n  once = {dir}/mail/once\n")
    for sender in ("a@client.example", "A@client.example", "b@client.example", "a@client.example"):
        i.send(sender, "joe@local.example")
        i.wait_empty()
    assert sorted(m[1][0] for m in sink.messages) == ["a@client.example", "b@client.example"]
    assert re.fullmatch(r"\d{12} a@client.example\n\d{12} b@client.example\n", box(i, "once"))
    assert os.stat(i.dir + "/mail/once").st_mode & 0o777 == 0o600


def test_autoreply_once_repeat_and_size(bulkhead, sink):
    i = vacation(bulkhead, sink, "  text = away\n  once = {dir}/mail/once\n  once_repeat = 7d\n  once_file_size = 70\n")
    old = "000000000100 a@client.example\n"
    with open(i.dir + "/mail/once", "w") as f:
        f.write(old)
    os.chown(i.dir + "/mail/once", i.mail_uid, i.mail_uid)
    for sender in ("a@client.example", "a@client.example", "b@client.example", "c@client.example"):
        i.send(sender, "joe@local.example")
        i.wait_empty()
    assert sorted(m[1][0] for m in sink.messages) == ["a@client.example", "b@client.example", "c@client.example"]
    assert re.fullmatch(r"\d{12} b@client.example\n\d{12} c@client.example\n", box(i, "once")), box(i, "once")


def test_autoreply_text_from_files(bulkhead, sink):
    i = vacation(bulkhead, sink, "  text = first\n  file = {dir}/mail/text\n")
    with open(i.dir + "/mail/text", "w") as f:
        f.write("second $local_part\n")
    i.send("a@client.example", "joe@local.example")
    assert sink.wait(1)[0][2].endswith(b"\r\n\r\nfirst\r\nsecond $local_part\r\n"), sink.messages
    os.remove(i.dir + "/mail/text")
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"R=vacation T=vacation defer \(2\): cannot open \S+/mail/text")


def test_autoreply_file_expanded_and_optional(bulkhead, sink):
    i = vacation(bulkhead, sink, "  text = first\\n\n  file = {dir}/expanded\n  file_expand\n  file_optional\n")
    i.send("a@client.example", "joe@local.example")
    assert sink.wait(1)[0][2].endswith(b"\r\n\r\nfirst\r\n")
    with open(i.dir + "/expanded", "w") as f:
        f.write("for $sender_address about $h_subject:\n")
    i.send("a@client.example", "joe@local.example", b"Subject: lunch\r\n\r\nx\r\n")
    assert sink.wait(2)[1][2].endswith(b"\r\n\r\nfirst\r\nfor a@client.example about lunch\r\n")


def test_autoreply_two_vacations_do_not_play_pingpong(bulkhead):
    i = bulkhead(routers=VACATION, transports=REPLY + "  text = away\n")
    i.send("ann@local.example", "joe@local.example")
    wait_for(lambda: len(glob.glob(i.dir + "/mail/box/new/*")) == 2)
    i.wait_empty()
    assert len(glob.glob(i.dir + "/mail/box/new/*")) == 2 and i.log().count(" <= ") == 2


def test_autoreply_header_injection_is_deferred(bulkhead, sink):
    i = vacation(bulkhead, sink, '  text = x\n  reply_to = "a@b.example\\nBcc: victim@c.example"\n')
    i.send("a@client.example", "joe@local.example")
    i.wait_log("non-printing characters in the Reply-To: field")
    assert not sink.messages


# ---- queuefile ----

SCAN = """
scan:
  driver = accept
  condition = ${if !eq{$sender_host_address}{127.0.0.9}}
  transport = scan
""" + ROUTER
HANDOVER = HEAD + """
scan:
  driver = queuefile
  directory = {dir}/scan
%s
t:
  driver = appendfile
  directory = {dir}/mail/box
  maildir_format
  user = {mail_uid}
  group = {mail_uid}
"""
QUEUEFILE_UID = UID_BASE + 5


def scanner(bulkhead, more="", **kw):
    import tempfile
    d = tempfile.mkdtemp(prefix="bulkhead-test-")
    os.chmod(d, 0o755)
    os.mkdir(d + "/scan")
    os.chown(d + "/scan", QUEUEFILE_UID, QUEUEFILE_UID)
    return bulkhead(routers=SCAN, transports=HANDOVER % more, directory=d, **kw)


def exim(tmp_path, i, args, **kw):
    """Debian's Exim with the directory as its input directory."""
    from oracle import Oracle
    spool = tmp_path / "spool"
    if not spool.exists():
        (spool / "input").mkdir(parents=True)
        for f in glob.glob(i.dir + "/scan/*"):
            with open(f, "rb") as src, open(str(spool / "input" / os.path.basename(f)), "wb") as dst:
                dst.write(src.read())
        for p in [tmp_path, *tmp_path.parents][:3]:
            os.chmod(str(p), 0o755)
        os.makedirs(str(tmp_path / "box"))
        os.chmod(str(tmp_path / "box"), 0o777)
    conf = ("spool_directory = %s/spool\nkeep_environment =\nprimary_hostname = x.example\ndomainlist local = *\nlog_file_path = %s/spool/%%slog\n"
            "begin routers\nall:\n driver = accept\n transport = file\nbegin transports\nfile:\n driver = appendfile\n file = %s/box/all\n"
            " user = Debian-exim\n group = Debian-exim\n message_prefix = \"=== $sender_address $local_part $acl_m_x $sender_host_address "
            "$sender_helo_name $received_protocol\\n\"\n message_suffix =\n check_string =\n escape_string =\n mode = 0666\n") % (
                tmp_path, tmp_path, tmp_path)
    o = Oracle(tmp_path, shared=[str(tmp_path / "spool"), str(tmp_path / "box")])
    import subprocess
    import shutil
    ids = subprocess.run(["chroot", o.lower, "id", "-u", "Debian-exim"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    subprocess.run(["chown", "-R", "%s:%s" % (ids, ids), str(spool), str(tmp_path / "box")], check=True)
    del shutil
    return o.run(args, conf=conf, **kw)


def test_queuefile_is_read_and_delivered_by_exim(bulkhead, tmp_path):
    """QFT1, QFT2, QFT3, QFT5: what we hand over is Exim's own form."""
    i = scanner(bulkhead, main="dsn_advertise_hosts = *", acl="acl_check_rcpt:\n  warn set acl_m_x = two words\n       add_header = X-Added: yes\n  accept\n")
    body = b"From here\r\n.dot\r\n\r\nlast line \xe4\r\n"
    c = i.client()
    c.ask("EHLO client.example", 250)
    c.ask("MAIL FROM:<a@client.example> RET=HDRS ENVID=QQ314", 250)
    c.ask("RCPT TO:<joe@local.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;joe@local.example", 250)
    c.ask("RCPT TO:<ann@local.example> NOTIFY=NEVER", 250)
    c.ask("RCPT TO:<bob@local.example>", 250)
    c.ask("DATA", 354)
    got = c.data(b"From: a@client.example\r\nTo: joe@local.example\r\nSubject: folded\r\n  subject\r\nMessage-ID: <m1@client.example>\r\n\r\n" + body)
    mid = re.search(r"id=(\S+)", got).group(1)
    i.wait_log("Completed")
    head, data = i.dir + "/scan/" + mid + "-H", i.dir + "/scan/" + mid + "-D"
    assert sorted(os.listdir(i.dir + "/scan")) == [mid + "-D", mid + "-H"]
    for f in head, data:
        st = os.stat(f)
        assert (st.st_mode & 0o7777, st.st_uid) == (0o640, QUEUEFILE_UID)
    assert len(re.findall(r"[-=]> \S+@local.example R=scan T=scan", i.log())) == 3, i.log()
    assert open(data, "rb").read() == (mid + "-D\n").encode() + body.replace(b"\r\n", b"\n")
    text = open(head, "rb").read().decode("latin-1")
    lines = text.split("\n")
    assert lines[0] == mid + "-H" and lines[2] == "<a@client.example>"
    for line in ("--helo_name client.example", "-received_protocol esmtp", "-body_linecount 4", "-dsn_envid QQ314", "-dsn_ret 2",
                 "joe@local.example rfc822;joe@local.example 24,24  0,-1#3", "ann@local.example  0,2  0,-1#3", "bob@local.example"):
        assert line in lines, text
    assert re.search(r"-aclm", text), text
    assert "XX\n3\n" in text and re.search(r"-?-aclm _x 9\ntwo words\n", text) and re.search(r"\n\d{3}P Received: from", text)
    assert "026  Subject: folded\n  subject\n" in text
    seen = exim(tmp_path, i, ["-Mvh", mid])
    assert seen.returncode == 0 and b"X-Added: yes" in seen.stdout, seen.stderr
    assert b"last line \xe4" in exim(tmp_path, i, ["-Mvb", mid]).stdout
    listed = exim(tmp_path, i, ["-bp"]).stdout
    assert mid.encode() in listed and b"joe@local.example" in listed and b"spool format error" not in listed, listed
    done = exim(tmp_path, i, ["-M", mid])
    out = open(str(tmp_path / "box" / "all"), "rb").read()
    assert out.count(b"=== a@client.example ") == 3, (out, done)
    assert b"=== a@client.example joe two words 127.0.0.1 client.example esmtp\n" in out
    assert out.count(b"Subject: folded\n  subject\n") == 3 and out.count(b"\n\nFrom here\n.dot\n\nlast line \xe4\n") == 3, out


def test_queuefile_directory_that_goes_and_comes_back(bulkhead):
    i = scanner(bulkhead)
    os.rmdir(i.dir + "/scan")
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"== joe@local.example R=scan T=scan defer \(-1\): queuefile transport scan: open \S+/scan: it was removed")
    i.wait_log("queuefile transport scan: open", which="panic")
    os.mkdir(i.dir + "/scan")
    os.chown(i.dir + "/scan", QUEUEFILE_UID, QUEUEFILE_UID)
    i.command("reload")
    i.wait_log("Completed")
    assert len(os.listdir(i.dir + "/scan")) == 2


def test_queuefile_symlink_is_refused(bulkhead):
    i = scanner(bulkhead)
    i.stop()
    os.rmdir(i.dir + "/scan")
    os.mkdir(i.dir + "/real", 0o777)
    os.symlink(i.dir + "/real", i.dir + "/scan")
    i.start()
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"== joe@local.example R=scan T=scan defer \(-1\): queuefile transport scan: open \S+/scan: ")
    assert len(i.queue()) == 1 and not os.listdir(i.dir + "/real")


def test_queuefile_warns_of_options_that_mean_nothing(bulkhead):
    """QFT4."""
    i = scanner(bulkhead, "  headers_add = X-A: b\n  return_path_add\n")
    _, out, err = i.command("check-config", check=False)
    for name in "headers_add", "return_path_add":
        assert 'transport scan: option "%s" means nothing to queuefile' % name in out + err


def test_queuefile_full_disk_leaves_nothing(bulkhead, tmpfs):
    small = tmpfs("64k")
    os.chown(small, QUEUEFILE_UID, QUEUEFILE_UID)
    i = bulkhead(routers=SCAN, transports=HANDOVER.replace("{dir}/scan", small) % "")
    i.send("a@client.example", "joe@local.example", b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" + b"0123456789\r\n" * 20000)
    i.wait_log(r"defer \(-1\): queuefile transport scan: write \S+: No space left on device")
    assert os.listdir(small) == []
    i.send("a@client.example", "joe@local.example")
    i.wait_log("Completed")
    assert len(os.listdir(small)) == 2


def test_queuefile_our_own_format_can_be_imported(bulkhead):
    """QFT3: one file, which `bulkhead queue import` takes in."""
    i = scanner(bulkhead, "  format = bulkhead\n")
    mid = i.send("a@client.example", ["joe@local.example", "ann@local.example"], b"Subject: ours\r\n\r\nbody\r\n")
    i.wait_log("Completed")
    assert os.listdir(i.dir + "/scan") == [mid]
    other = bulkhead(routers=ROUTER, transports=HANDOVER % "", privileged=None)
    other.command("queue", "import", i.dir + "/scan/" + mid)
    if other.queue():
        other.command("queue", "release", "--all", check=False)
    wait_for(lambda: len(glob.glob(other.dir + "/mail/box/new/*")) == 2, why=other.logs)
    assert "Subject: ours" in read(glob.glob(other.dir + "/mail/box/new/*")[0])


def test_queuefile_killed_in_the_middle_is_handed_over_once(bulkhead):
    i = scanner(bulkhead)
    stop = []
    for n in range(30):
        i.send("a@client.example", "joe@local.example", b"Subject: %d\r\n\r\n" % n + b"line\r\n" * 3000)
        for d in i.daemons("queuefile") if n % 5 == 0 else stop:
            if d["pid"]:
                os.kill(d["pid"], signal.SIGKILL)
    i.wait_empty()
    heads = glob.glob(i.dir + "/scan/*-H")
    assert len(heads) == 30 and len(glob.glob(i.dir + "/scan/*-D")) == 30
    assert {re.search(r"Subject: (\d+)", read(h)).group(1) for h in heads} == {str(n) for n in range(30)}
    assert all(len(open(h[:-1] + "D", "rb").read()) == len(os.path.basename(h)) + 1 + 5 * 3000 for h in heads)


# ---- options of every transport, and of the stores ----

def test_quota_warning_is_sent_once_when_the_threshold_is_passed(bulkhead, sink):
    i = bulkhead(routers=ROUTER, sink=sink, transports=HEAD + """
t:
  driver = appendfile
  file = {dir}/mail/box
  user = {mail_uid}
  group = {mail_uid}
  quota = 1M
  quota_warn_threshold = 1%
  quota_warn_message = "To: owner@client.example\\nSubject: large: $local_part_data\\n\\nIt is large.\\n"
""")
    for n in range(4):
        i.send("a@client.example", "joe@local.example", b"Subject: x\r\n\r\n" + b"0123456789" * 60 + b"\r\n" + b"y" * 70 + b"\r\n" * 4000)
        i.wait_empty()
    assert len(sink.messages) == 1
    sender, rcpts, content = sink.messages[0]
    assert sender == "" and rcpts == ["owner@client.example"]
    m = email.message_from_bytes(content)
    assert m["Subject"] == "large: joe" and m["From"] == "Mail Delivery System <mailer-daemon@mx.test.example>"
    assert content.endswith(b"\r\n\r\nIt is large.\r\n") and m["Auto-Submitted"] == "auto-generated"


AFFIX = """
affix:
  driver = manualroute
  domains = client.example
  local_part_suffix = -*
  local_part_suffix_optional
  route_list = * 127.0.0.1::{sink}
  transport = smtp
  self = send
"""


@pytest.mark.parametrize("option, rcpt", [("", "joe@client.example"), ("  rcpt_include_affixes\n", "joe-list@client.example")])
def test_affixes_in_rcpt(bulkhead, sink, option, rcpt):
    i = bulkhead(routers=AFFIX, sink=sink, transports=HEAD + option)
    i.send("a@client.example", "joe-list@client.example")
    assert sink.wait(1)[0][1] == [rcpt]
    i.wait_log(r"=> %sjoe-list@client.example%s R=affix T=smtp" % (("", "") if option else ("joe@client.example <", ">")))


def test_disable_logging(bulkhead):
    i = pipe(bulkhead, '/bin/sh -c "cat > {dir}/mail/out"', "  disable_logging\n")
    i.send("a@client.example", "joe@local.example")
    i.wait_log("Completed")
    assert "Subject: test" in box(i) and "=>" not in i.log()


def test_max_parallel(bulkhead):
    """Each run finds out whether another is under way."""
    i = pipe(bulkhead, "mkdir {dir}/mail/lock || echo together >> {dir}/mail/out; sleep 0.2; rmdir {dir}/mail/lock; echo done >> {dir}/mail/out",
             "  use_shell\n  max_parallel = 1\n")
    i.send("a@client.example", ["%s@local.example" % u for u in ("joe", "ann", "bob", "x", "postmaster")])
    i.wait_log("Completed")
    assert box(i) == "done\n" * 5


def test_message_size_limit_and_fields(bulkhead, sink):
    i = pipe(bulkhead, '/bin/sh -c "cat > {dir}/mail/out"', """  message_size_limit = 1K
  headers_add = X-For: $local_part_data
  headers_remove = X-Secret
  return_path = bounces+$local_part_data@local.example
  return_path_add
  envelope_to_add
  delivery_date_add
  headers_only
""", sink=sink)
    i.send("a@client.example", "joe@local.example", b"X-Secret: 1\r\nSubject: x\r\n\r\nbody\r\n")
    i.wait_log("Completed")
    out = box(i)
    for part in ("Return-path: <bounces+joe@local.example>\n", "Envelope-to: joe@local.example\n", "Delivery-date: ", "X-For: joe\n"):
        assert part in out, out
    assert "X-Secret" not in out and "body" not in out
    i.send("a@client.example", "joe@local.example", b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 200)
    assert sink.wait(1)[0][1] == ["a@client.example"]
    i.wait_log(r"message is too big \(transport limit = 1024\)")


def test_initgroups(bulkhead):
    """With all groups of the user: those of the system's group database."""
    import grp
    import pwd
    found = [(pwd.getpwnam(g.gr_mem[0]), g) for g in grp.getgrall() if g.gr_mem and g.gr_gid and g.gr_mem[0] != "root"
             and g.gr_mem[0] in {p.pw_name for p in pwd.getpwall()}]
    if not found:
        pytest.skip("nobody here has a second group")
    user, group = found[0]
    for option, there in (("", False), ("  initgroups\n", True)):
        i = bulkhead(routers=ROUTER, transports=HEAD + "t:\n  driver = pipe\n  command = /bin/sh -c \"id -G > {dir}/mail/out\"\n  user = %s\n%s"
                     % (user.pw_name, option))
        os.chmod(i.dir + "/mail", 0o777)
        i.send("a@client.example", "joe@local.example")
        i.wait_log("Completed")
        assert (str(group.gr_gid) in box(i).split()) == there, box(i)


def test_transports_own_hosts_are_not_this_machine(bulkhead, sink):
    routers = "all:\n  driver = accept\n  transport = t\n"
    i = bulkhead(routers=routers, sink=sink, transports="t:\n  driver = smtp\n  hosts = 127.0.0.1\n  port = {sink}\n")
    i.send("a@client.example", "joe@local.example")
    i.wait_log(r"127.0.0.1 \[127.0.0.1\] is this host, and allow_localhost is not set")
    j = bulkhead(routers=routers, sink=sink, transports="t:\n  driver = smtp\n  hosts = 127.0.0.1\n  port = {sink}\n  allow_localhost\n")
    j.send("a@client.example", "joe@local.example")
    sink.wait(1)


@pytest.mark.parametrize("option, tried", [("", False), ("  no_delay_after_cutoff\n", True)])
def test_delay_after_cutoff(bulkhead, option, tried):
    """A host that has been dead past its cutoff: a new message is tried at once only without that option."""
    i = bulkhead(routers=ROUTER, transports=HEAD + option + PIPE[len(HEAD):] + "  command = /bin/true\n", retry="* * F,2s,8s", sink=9)
    i.send("", "x@client.example")
    i.wait_log(r"\*\* x@client.example .*retry timeout exceeded", limit=40)
    time.sleep(1.1)  # the try and the arrival in the same second are taken for one after the other
    i.send("", "y@client.example")
    i.wait_log(r"\*\* y@client.example ")
    assert bool(re.search(r"== y@client.example .*Connection refused", i.log())) == tried, i.log()
    assert bool(re.search(r"\*\* y@client.example .*have been failing for a long time", i.log())) != tried, i.log()
