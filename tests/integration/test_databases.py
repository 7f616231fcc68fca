# SPDX-License-Identifier: ISC
"""Lookups in databases, from the jail of a running system: PostgreSQL, MariaDB, SQLite, a cluster of Redis, LMDB files that are
written. Each server is the real one, started here; and servers that are dead, silent or mad."""
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import pytest

from bulkhead import BIN, free_port, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="servers of other users need root")

NASTY = "it's \"a\" b@x\\.example"


def acl_of(lookup):
    """An ACL that answers RCPT with what the lookup gives."""
    return "acl_check_rcpt:\n  accept domains = quick.example\n  deny set acl_m_got = %s\n       message = got <$acl_m_got>\n" % lookup


def rcpt(b, local_part="k", domain="x.example", want=None):
    c = b.client()
    try:
        c.ask("EHLO x.example", 250)
        c.ask("MAIL FROM:<a@b.example>", 250)
        got = c.ask("RCPT TO:<%s@%s>" % (local_part, domain)).replace("550 5.7.1 ", "550 ")
        if want is not None:
            assert got == "550 got <%s>" % want, got + "\n" + b.logs()
        return got
    finally:
        c.close()


def expand(b, text):
    """The expansion, or why there is none."""
    return b.command("expand", text, check=False)[1]


def demote(user):
    p = pwd.getpwnam(user)

    def run():
        os.setgroups([])
        os.setgid(p.pw_gid)
        os.setuid(p.pw_uid)
    return run


class Server:
    END = signal.SIGTERM

    def spawn(self, argv, user=None):
        self.log = open(os.path.join(self.dir, "server.log"), "ab")
        self.proc = subprocess.Popen(argv, stdout=self.log, stderr=self.log, cwd=self.dir, preexec_fn=demote(user) if user else None)

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(self.END)
        self.proc.wait(30)

    def words(self):
        with open(os.path.join(self.dir, "server.log"), errors="replace") as f:
            return f.read()[-3000:]


def newest(pattern):
    import glob
    found = sorted(glob.glob(pattern))
    return found[-1] if found else None


class Postgres(Server):
    END = signal.SIGINT  # it does not wait for its clients

    def __init__(self, directory):
        self.bin = newest("/usr/lib/postgresql/*/bin")
        if not self.bin:
            pytest.skip("postgresql is not installed")
        self.dir, self.port = directory, free_port()
        os.makedirs(directory)
        shutil.chown(directory, "postgres", "postgres")
        os.chmod(directory, 0o755)
        with open(directory + "/pw", "w") as f:
            f.write("sesame\n")
        os.chmod(directory + "/pw", 0o644)
        subprocess.run([self.bin + "/initdb", "-D", directory + "/data", "-U", "mail", "--pwfile", directory + "/pw", "-A", "scram-sha-256", "-N",
                        "-E", "UTF8", "--locale=C.UTF-8"], check=True, preexec_fn=demote("postgres"), stdout=subprocess.DEVNULL, cwd=directory)
        os.makedirs(directory + "/sock")
        shutil.chown(directory + "/sock", "postgres", "postgres")
        self.start()
        self.sql("create table t(k text, v text, w text)")
        self.sql("insert into t values('k','value one','w1'),('two','a',''),('two','b c','w''2')")
        self.sql("insert into t values('%s','nasty',null)" % "it''s")

    def start(self):
        self.spawn([self.bin + "/postgres", "-D", self.dir + "/data", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c",
                    "unix_socket_directories=" + self.dir + "/sock", "-c", "fsync=off"], "postgres")
        wait_for(lambda: self.sql("select 1", False) == "1", 30, why=self.words)

    def sql(self, text, check=True):
        p = subprocess.run(["psql", "-At", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mail", "postgres", "-c", text], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, env={"PGPASSWORD": "sesame", "PATH": os.environ["PATH"]})
        assert p.returncode == 0 or not check, p.stdout
        return p.stdout.decode().strip()

    tcp = property(lambda self: "127.0.0.1::%d/postgres/mail/sesame" % self.port)
    socket = property(lambda self: "(%s/sock/.s.PGSQL.%d)/postgres/mail/sesame" % (self.dir, self.port))


class MariaDB(Server):
    def __init__(self, directory):
        if not shutil.which("mariadbd"):
            pytest.skip("mariadb-server is not installed")
        self.dir, self.port = directory, free_port()
        os.makedirs(directory)
        shutil.chown(directory, "mysql", "mysql")
        os.chmod(directory, 0o755)
        subprocess.run(["mariadb-install-db", "--no-defaults", "--datadir=" + directory + "/data", "--user=mysql", "--auth-root-authentication-method=normal",
                        "--skip-test-db"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.start()
        self.sql("create database mail; create user 'm'@'%' identified by 'sesame'; create user 'm'@'localhost' identified by 'sesame'; "
                 "grant all on mail.* to 'm'@'%'; grant all on mail.* to 'm'@'localhost'; "
                 "create table mail.t(k varchar(200), v varchar(200), w varchar(200)); "
                 "insert into mail.t values('k','value one','w1'),('two','a',''),('two','b c','w''2'),('it''s','nasty',null)")

    def start(self):
        self.spawn(["mariadbd", "--no-defaults", "--datadir=" + self.dir + "/data", "--port=%d" % self.port, "--bind-address=127.0.0.1",
                    "--socket=" + self.dir + "/m.sock", "--pid-file=" + self.dir + "/data/pid", "--user=mysql", "--skip-log-bin", "--skip-name-resolve"])
        wait_for(lambda: self.sql("select 1", False), 60, why=self.words)

    def sql(self, text, check=True):
        p = subprocess.run(["mariadb", "--no-defaults", "-N", "-S", self.dir + "/m.sock", "-u", "root", "-e", text], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        assert p.returncode == 0 or not check, p.stdout
        return p.stdout.decode().strip() if p.returncode == 0 else ""

    tcp = property(lambda self: "127.0.0.1::%d/mail/m/sesame" % self.port)
    socket = property(lambda self: "localhost(%s/m.sock)/mail/m/sesame" % self.dir)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    d = tmp_path_factory.mktemp("pg")
    for p in (d, d.parent, d.parent.parent):
        os.chmod(p, 0o755)
    s = Postgres(str(d / "pg"))
    yield s
    s.stop()


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory):
    d = tmp_path_factory.mktemp("my")
    for p in (d, d.parent, d.parent.parent):
        os.chmod(p, 0o755)
    s = MariaDB(str(d / "my"))
    yield s
    s.stop()


KINDS = [("pgsql", "postgres"), ("mysql", "mariadb")]


@pytest.mark.parametrize("kind,server", KINDS)
@pytest.mark.parametrize("way", ["tcp", "socket"])
def test_sql(bulkhead, request, kind, server, way):
    s = request.getfixturevalue(server)
    b = bulkhead(main="hide %s_servers = %s" % (kind, getattr(s, way)),
                 acl=acl_of("${lookup %s{select v from t where k='${quote_%s:$local_part}'}{$value}{none}}" % (kind, kind)))
    rcpt(b, "k", want="value one")
    rcpt(b, "it's", want="nasty")
    rcpt(b, "absent", want="none")
    rcpt(b, "x'or'1'='1", want="none")
    assert "sesame" not in b.logs()
    # The command asks the same server, outside of any jail but with the same filter.
    one = expand(b, "${lookup %s{select v,w from t where k='two' order by v}}" % kind)
    assert one == 'v=a w="" \nv="b c" w=w\'2 \n', one
    assert expand(b, "${lookup %s{select v from t where k='two' order by v}}" % kind) == "a\nb c\n"
    assert expand(b, "${lookup %s{update t set w=w where k='none'}}" % kind) == "0\n"
    assert expand(b, "${lookup %s{insert into t values('new','x','')}}" % kind) == "1\n"
    assert expand(b, "${lookup %s{delete from t where k='new'}}" % kind) == "1\n"
    assert expand(b, "${lookup %s{select nothing}}" % kind).startswith("Failed: ")
    assert expand(b, "${lookup %s{select v from t where k='k';}{$value}{no}}" % kind) == "value one\n"


def test_quotes_hold_in_every_mode(bulkhead, mariadb):
    """A server to which a backslash is nothing special: what a stranger quotes does not end where his quote is."""
    before = mariadb.sql("select @@global.sql_mode")
    mariadb.sql("set global sql_mode = 'NO_BACKSLASH_ESCAPES,%s'" % before)
    try:
        b = bulkhead(main="hide mysql_servers = %s" % mariadb.tcp,
                     acl=acl_of("${lookup mysql{select v from t where k='${quote_mysql:$local_part}'}{$value}{none}}"))
        rcpt(b, "k", want="value one")
        rcpt(b, "it's", want="nasty")
        rcpt(b, "\"' or 1=1 -- \"", want="none")
        assert expand(b, "${lookup mysql{select @@session.sql_mode}}").strip() == before
    finally:
        mariadb.sql("set global sql_mode = '%s'" % before)


@pytest.mark.parametrize("kind,server", KINDS)
def test_sql_servers_of_the_query(bulkhead, request, kind, server):
    s = request.getfixturevalue(server)
    dead = free_port()
    b = bulkhead(main="hide %s_servers = 127.0.0.1::%d/none/none/none : %s" % (kind, dead, s.tcp))
    q = "select v from t where k='k'"
    assert expand(b, "${lookup %s{%s}}" % (kind, q)) == "value one\n"
    assert expand(b, "${lookup %s,servers=%s{%s}}" % (kind, s.tcp, q)) == "value one\n"
    assert expand(b, "${lookup %s{servers=%s; %s}}" % (kind, s.tcp, q)) == "value one\n"
    assert expand(b, "${lookup %s,servers=127.0.0.1::%d/none/none/none{%s}}" % (kind, dead, q)).startswith("Failed: ")
    assert "slashes are required" in expand(b, "${lookup %s,servers=x/y{%s}}" % (kind, q))


@pytest.mark.parametrize("kind,server", KINDS)
def test_sql_server_restarts(bulkhead, request, kind, server):
    s = request.getfixturevalue(server)
    b = bulkhead(main="hide %s_servers = %s\nsql_timeout = 3s\nrouter_workers_max = 2" % (kind, s.tcp),
                 acl=acl_of("${lookup %s{select v from t where k='${quote_%s:$local_part}'}{$value}{none}}" % (kind, kind)))
    rcpt(b, "k", want="value one")
    s.stop()
    assert rcpt(b).startswith("451"), b.logs()
    assert rcpt(b, domain="quick.example").startswith("250")
    s.start()
    wait_for(lambda: rcpt(b).startswith("550"), 20, why=b.logs)
    # One that was up again before anybody noticed: no question is lost.
    for _ in range(2):
        s.stop()
        s.start()
        rcpt(b, "k", want="value one")


class Stub:
    """A server that accepts and says `words`, or nothing."""

    def __init__(self, words=b""):
        self.words, self.seen = words, 0
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(50)
        self.port = self.listener.getsockname()[1]
        self.kept = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.kept.append(c)
            self.seen += 1
            if self.words:
                try:
                    c.sendall(self.words)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
        for c in self.kept:
            c.close()


WORDS = {"silent": b"", "mad": b"\x00\xff" * 50 + b"HTTP/1.0 400 Bad\r\n\r\n" * 20}
SERVERS = {"pgsql": ("pgsql_servers = 127.0.0.1::%d/d/u/p", "select 1"), "mysql": ("mysql_servers = 127.0.0.1::%d/d/u/p", "select 1"),
           "redis": ("redis_servers = 127.0.0.1::%d/0/", "GET k")}


@pytest.mark.parametrize("words", sorted(WORDS))
@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_a_silent_or_mad_server_holds_up_nobody_else(bulkhead, kind, words):
    stub = Stub(WORDS[words])
    option, query = SERVERS[kind]
    b = bulkhead(main="%s\nredis_timeout = 3s\nsql_timeout = 3s" % (option % stub.port), acl=acl_of("${lookup %s{%s}}" % (kind, query)))
    got, threads = [], []
    for _ in range(6):
        t = threading.Thread(target=lambda: got.append(rcpt(b)), daemon=True)
        t.start()
        threads.append(t)
    wait_for(lambda: stub.seen, 20, why=b.logs)
    for _ in range(3):
        assert rcpt(b, domain="quick.example").startswith("250"), b.logs()
    if words == "silent":
        assert not got, "they were to be waiting still: %s" % got
    for t in threads:
        t.join(60)
    assert len(got) == 6 and all(g.startswith("451") for g in got), "%s\n%s" % (got, b.logs())
    stub.close()


def test_sqlite(bulkhead):
    b = bulkhead(main="sqlite_dbfile = {dir}/m.db\nsqlite_lock_timeout = 1s",
                 acl=acl_of("${lookup sqlite{select v from t where k='${quote_sqlite:$local_part}'}{$value}{none}}"))

    def make(path, value):
        db = sqlite3.connect(path + ".new")
        db.execute("create table t(k text, v text)")
        db.execute("insert into t values('k', ?)", (value,))
        db.execute("insert into t values(?, 'nasty')", ("it's",))
        db.commit()
        db.close()
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)
    assert rcpt(b).startswith("451"), "no file yet"
    make(b.dir + "/m.db", "one")
    wait_for(lambda: rcpt(b) == "550 got <one>", 10, why=b.logs)
    rcpt(b, "it's", want="nasty")
    rcpt(b, "absent", want="none")
    # Written by another process, then replaced: seen at once.
    db = sqlite3.connect(b.dir + "/m.db")
    db.execute("update t set v='two' where k='k'")
    db.commit()
    rcpt(b, "k", want="two")
    make(b.dir + "/m.db", "three")
    rcpt(b, "k", want="three")
    # Somebody holds a lock: a temporary answer.
    db = sqlite3.connect(b.dir + "/m.db", isolation_level=None)
    db.execute("begin exclusive")
    assert "locked" in expand(b, "${lookup sqlite,file=%s/m.db{select v from t}}" % b.dir)
    db.execute("rollback")
    assert "readonly database (sqlite_writable does not name its directory)" in expand(b, "${lookup sqlite{update t set v='x'}}")


def test_sqlite_is_written_where_the_configuration_says_so(bulkhead, tmp_path):
    from bulkhead import UID_BASE
    os.chmod(tmp_path, 0o755)
    rw = tmp_path / "rw"
    rw.mkdir()
    os.chmod(rw, 0o777)
    acl = acl_of("${lookup sqlite,file=%s/g.db{insert or ignore into seen values('${quote_sqlite:$local_part}'); "
                 "select count(*) from seen}}" % rw)
    b = bulkhead(main="sqlite_writable = %s" % rw, acl=acl)
    db = sqlite3.connect(str(rw / "g.db"))
    db.execute("create table seen(k text primary key)")
    db.commit()
    os.chmod(rw / "g.db", 0o666)
    rcpt(b, "a", want="1")
    rcpt(b, "b", want="2")
    rcpt(b, "a", want="2")
    assert sorted(db.execute("select k from seen").fetchall()) == [("a",), ("b",)]
    # Root's fake session writes, too, and leaves nothing that is root's to those who write later.
    code, out, err = b.command("session", "192.0.2.1", check=False,
                               input=b"EHLO x.example\nMAIL FROM:<s@x.example>\nRCPT TO:<c@local.example>\nQUIT\n")
    assert "got <3>" in out, out + err
    rcpt(b, "d", want="4")


def test_lmdb_is_written_where_the_configuration_says_so(bulkhead):
    acl = """
acl_check_rcpt:
  warn condition = ${if eq{$domain}{put.example}}
       set acl_m_done = ${lookup{<; $local_part ; seen at ;; once} lmdb,put {{dir}/seen.mdb}}
  warn condition = ${if eq{$domain}{del.example}}
       set acl_m_done = ${lookup{$local_part} lmdb,del {{dir}/seen.mdb} {$value}{not there}}
  warn condition = ${if eq{$domain}{other.example}}
       set acl_m_done = ${lookup{<; a ; b} lmdb,put {{dir}/other.mdb}}
  deny message = got <$acl_m_done $acl_m_x${lookup{$local_part} lmdb {{dir}/seen.mdb}{$value}{none}}>
"""
    b = bulkhead(main="lmdb_writable = {dir}/seen.mdb", acl=acl)
    assert rcpt(b, "ann", "get.example") == "550 got < none>", b.logs()
    assert rcpt(b, "ann", "put.example") == "550 got <OK seen at ; once>", b.logs()
    assert rcpt(b, "bob", "put.example") == "550 got <OK seen at ; once>"
    assert rcpt(b, "ann", "get.example") == "550 got < seen at ; once>"
    # What others see, with Debian's own reader.
    dump = subprocess.run(["mdb_dump", "-n", "-p", b.dir + "/seen.mdb"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert " ann\n seen at ; once\n bob\n" in dump
    assert rcpt(b, "ann", "del.example") == "550 got <OK none>"
    assert rcpt(b, "ann", "del.example") == "550 got <not there none>"
    # No other file, even where its directory is shown.
    subprocess.run(["mdb_load", "-T", "-n", b.dir + "/other.mdb"], input=b"a\nkept\n", check=True)
    os.chmod(b.dir + "/other.mdb", 0o666)
    assert "OK" not in rcpt(b, "x", "other.example")
    b.wait_log("other.mdb is not named by lmdb_writable")
    assert expand(b, "${lookup{a}lmdb{%s/other.mdb}}" % b.dir) == "kept\n"


def test_lmdb_while_it_is_written(bulkhead):
    """A writer that changes the value all the time: each lookup sees a whole old or new one."""
    b = bulkhead(acl=acl_of("${lookup{k}lmdb{{dir}/w.mdb}{${length_1:$value}${strlen:$value}}{none}}"))

    def load(letter):
        subprocess.run(["mdb_load", "-T", "-n", b.dir + "/w.mdb"], input=("k\n%s\n" % (letter * 1500)).encode(), check=True)
        os.chmod(b.dir + "/w.mdb", 0o644)
    load("a")
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            load("ab"[n % 2])
            n += 1
    t = threading.Thread(target=write, daemon=True)
    t.start()
    try:
        for _ in range(40):
            assert rcpt(b) in ("550 got <a1500>", "550 got <b1500>"), b.logs()
    finally:
        stop.set()
        t.join(20)


class Cluster:
    def __init__(self, directory):
        self.nodes = []
        for i in range(3):
            d = "%s/n%d" % (directory, i)
            os.makedirs(d)
            port = free_port()
            while port > 55000:
                port = free_port()
            p = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", d, "--save", "", "--cluster-enabled", "yes",
                                  "--requirepass", "sesame", "--masterauth", "sesame", "--cluster-config-file", d + "/nodes.conf"],
                                 stdout=subprocess.DEVNULL)
            self.nodes.append((port, p))
        for port, _ in self.nodes:
            wait_for(lambda: "PONG" in self.cli("PING", port=port), 20)
        done = subprocess.run(["redis-cli", "-a", "sesame", "--no-auth-warning", "--cluster", "create", *["127.0.0.1:%d" % n[0] for n in self.nodes], "--cluster-yes"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, done.stdout
        wait_for(lambda: all("cluster_state:ok" in self.cli("CLUSTER", "INFO", port=p) for p, _ in self.nodes), 30)

    def cli(self, *words, port=None):
        return subprocess.run(["redis-cli", "-c", "-p", str(port or self.nodes[0][0]), "-a", "sesame", "--no-auth-warning", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout.decode()

    def stop(self):
        for _, p in self.nodes:
            p.kill()
            p.wait(10)


@pytest.fixture
def cluster(tmp_path):
    c = Cluster(str(tmp_path))
    yield c
    c.stop()


def test_redis_cluster(bulkhead, cluster):
    """One node is listed; keys that others hold are found there."""
    keys = ["k%d" % i for i in range(12)]
    for k in keys:
        cluster.cli("SET", k, "v" + k)
    b = bulkhead(main="hide redis_servers = 127.0.0.1::%d//sesame" % cluster.nodes[0][0],
                 acl=acl_of("${lookup redis{GET ${quote_redis:$local_part}}{$value}{none}}"))
    moved = 0
    for k in keys:
        moved += "MOVED" in subprocess.run(["redis-cli", "-p", str(cluster.nodes[0][0]), "-a", "sesame", "--no-auth-warning", "GET", k],
                                           stdout=subprocess.PIPE).stdout.decode()
        rcpt(b, k, want="v" + k)
    assert moved, "no key was on another node: nothing was tried"
    assert expand(b, "${lookup redis{SET k3 changed}}") == "OK\n"
    rcpt(b, "k3", want="changed")
    rcpt(b, "absent", want="")


def test_redis_replies(bulkhead, tmp_path):
    port = free_port()
    p = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""], stdout=subprocess.DEVNULL)
    try:
        def cli(*words):
            return subprocess.run(["redis-cli", "-p", str(port), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
        wait_for(lambda: "PONG" in cli("PING"), 20)
        cli("RPUSH", "list", "one", "two words", "")
        cli("HSET", "hash", "a", "1")
        cli("SADD", "set", "m")
        b = bulkhead(main="redis_servers = 127.0.0.1::%d//" % port)
        for query, want in [("PING", "PONG"), ("LRANGE list 0 -1", "one\ntwo words\n"), ("HGETALL hash", "a\n1"), ("SMEMBERS set", "m"),
                            ("EXISTS list", "true"), ("EXISTS none", "false"), ("GET none", ""), ("EVAL return{1,{2,3},'x'} 0", "1\n2\n3\nx"),
                            ("SET k a\\\\ b", "OK"), ("GET k", "a b"), ("INCR n", "true"), ("STRLEN k", "true")]:
            assert expand(b, "${lookup redis{%s}}" % query.replace("{", "\\{").replace("}", "\\}")) == want + "\n", query
        assert expand(b, "${lookup redis{GET list}}").startswith("Failed: ")
        assert "two slashes" in expand(b, "${lookup redis,servers=127.0.0.1/0{GET k}}")
        # The database and the password are asked for by the server; its words come out, the password does not.
        got = expand(b, "${lookup redis,servers=127.0.0.1::%d/0/hush{GET k}}" % port)
        assert got.startswith("Failed: ") and "AUTH" in got and "hush" not in got, got
        got = expand(b, "${lookup redis,servers=127.0.0.1::%d/99/{GET k}}" % port)
        assert got.startswith("Failed: ") and "SELECT" in got, got
    finally:
        p.kill()
        p.wait(10)


def test_servers_are_checked_when_the_configuration_is(tmp_path):
    """What can't be a server is told with its line, and without the password."""
    conf = tmp_path / "bulkhead.conf"
    for option, value, bad in [("redis_servers", "127.0.0.1/10/ : 127.0.0.1/secret", "127.0.0.1..."), ("redis_servers", "127.0.0.1//secret", None),
                               ("redis_servers", "localhost(/run/a/b)/secret", "localhost(..."), ("pgsql_servers", "a/d/u/secret", None),
                               ("pgsql_servers", "(/run/.s.PGSQL.1)/d/secret", "(..."), ("mysql_servers", "a/d/secret", "a..."), ("mysql_servers", "/d/u/secret", None)]:
        conf.write_text("spool_directory = %s/spool\nhide %s = %s\n" % (tmp_path, option, value))
        p = subprocess.run([BIN, "-C", str(conf), "check-config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = p.stdout.decode()
        assert "secret" not in said
        assert ("incomplete server data: \"%s" % bad in said and ":2: " in said) if bad else "incomplete" not in said, (value, said)
