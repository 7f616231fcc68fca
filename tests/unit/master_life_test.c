/* SPDX-License-Identifier: ISC */
/* master with stand-ins for the daemons: start, channels, death, reload, stop; as root (own uids, chroots, namespaces) and not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/daemon/jail.h"
#include "master/master.h"
#include "tests/unit/master_stub.h"

enum { UID_BASE = 64100, UID_LOCAL = 64200, UID_NOBODY = 65534 };

/* ---- small ones ---- */

static void test_backoff(void **state)
{
	static const struct {
		uint64_t last, ready, want;
	} cases[] = {
		{ 0, 0, 100 }, { 100, 0, 200 }, { 200, 5000, 400 }, { 20000, 0, 30000 }, { 30000, 9999, 30000 }, { 30000, 10000, 0 }, { 0, 60000, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t got = backoff_next(cases[i].last, cases[i].ready, 30000);

		if (got != cases[i].want)
			fail_msg("after %llu ms, ready for %llu ms: got %llu, want %llu", (unsigned long long)cases[i].last,
				(unsigned long long)cases[i].ready, (unsigned long long)got, (unsigned long long)cases[i].want);
	}
}

static void test_jail_arguments(void **state)
{
	static const struct {
		const char *argv[10];
		const char *want; /* part of the error; NULL: fine */
	} cases[] = {
		{ { "d", "--name", "x/1", "--uid", "5", "--gid", "6", "--root", "/r" }, NULL },
		{ { "d", "--name", "x/1", "--unprivileged" }, NULL },
		{ { "d" }, "not started by master" },
		{ { "d", "--uid", "5" }, "not started by master" },
		{ { "d", "--name", "x/1" }, "--uid and --gid are needed" },
		{ { "d", "--name", "x/1", "--uid", "0", "--gid", "6", "--root", "/r" }, "are not 0" },
		{ { "d", "--name", "x/1", "--uid", "5", "--gid", "6" }, "--root" },
		{ { "d", "--name", "x/1", "--uid", "-5", "--gid", "6" }, "no uid" },
		{ { "d", "--name", "x/1", "--uid", "5x" }, "no uid" },
		{ { "d", "--name", "x/1", "--root" }, "lacks its value" },
		{ { "d", "--name", "x/1", "--wrong", "y" }, "unknown argument" },
	};
	struct jail in = { .name = "local/3", .root = "/somewhere", .uid = 7, .gid = 8, .groups = { 9, 10 }, .n_groups = 2 }, out;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	char **argv = jail_format(&in, "/x/local", &a);
	int argc = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int n = 0;

		err_clear(&err);
		while (n < 10 && cases[i].argv[n])
			n++;
		if (jail_parse(n, (char **)(uintptr_t)cases[i].argv, &out, &err) ? !cases[i].want || !strstr(err.text, cases[i].want) : cases[i].want != NULL)
			fail_msg("case %zu: got \"%s\", want \"%s\"", i, err.text, cases[i].want ? cases[i].want : "");
	}
	while (argv[argc])
		argc++;
	assert_int_equal(jail_parse(argc, argv, &out, &err), ST_OK);
	assert_string_equal(out.name, in.name);
	assert_string_equal(out.root, in.root);
	assert_int_equal(out.uid, 7);
	assert_int_equal(out.gid, 8);
	assert_int_equal(out.n_groups, 2);
	assert_int_equal(out.groups[1], 10);
	arena_clear(&a);
}

/* ---- an instance ---- */

struct instance {
	char dir[64], conf[96], libexec[96];
	unsigned port;
	bool root;
	struct arena arena;
	struct ipc_cmd_answer status;
};

/* Logins for deliveries, and for programs: each group of these is the user's number and one. */
static const char routers[] = "run_commands = /bin/x\nrun_user = 64600\nrun_group = 64601\nbegin routers\n"
	"ask:\n driver = queryprogram\n command = /bin/x\n command_user = 64400\n command_group = 64401\n"
	"root:\n driver = queryprogram\n command = /bin/x\n command_user = 0\n command_group = 1\n"
	"never:\n driver = queryprogram\n command = /bin/x\n command_user = 64300\n command_group = 64301\n"
	"daemon:\n driver = queryprogram\n command = /bin/x\n command_user = 64103\n command_group = 64104\n"
	"group:\n driver = queryprogram\n command = /bin/x\n command_user = 64500\n command_group = 64400\n"
	"begin transports\nt1:\n driver = appendfile\n file = /x\n user = 64200\n group = 64200\n"
	"t2:\n driver = appendfile\n file = /x\n user = 64201\n group = ${if eq{a}{a}{64205}}\n"
	"t3:\n driver = appendfile\n file = /x\n user = nobody\n";

static void conf_write(struct instance *i, const char *domain, const char *more)
{
	FILE *f = fopen(i->conf, "w");

	assert_non_null(f);
	fprintf(f, "primary_hostname = test.example\nqualify_domain = %s\nspool_directory = %s/spool\nrun_directory = %s/run\n"
		"hints_directory = %s/hints\nlog_file_path = %s/log/%%slog\nlookup_directories = %s\nstore_directories = %s/mail\n"
		"local_interfaces = 127.0.0.1\ndaemon_smtp_ports = %u\nshutdown_timeout = 5s\nseccomp = %s\n%s%s\n%s", domain, i->dir, i->dir, i->dir,
		i->dir, i->dir, i->dir, i->port,
#if defined(__SANITIZE_ADDRESS__)
		"off",
#else
		"enforce",
#endif
		i->root ? "daemon_uid_base = 64100\nnever_users = 64300\n" : "", more, i->root ? routers : "");
	fclose(f);
}

static char running[64]; /* directory of the instance that runs, for the teardown of a test that failed */

static int leftovers_kill(void **state)
{
	char path[128];
	FILE *f;
	int pid = 0;

	(void)state;
	snprintf(path, sizeof path, "%s/run/master.pid", running);
	f = running[0] ? fopen(path, "r") : NULL;
	if (f && fscanf(f, "%d", &pid) == 1 && pid > 1)
		kill(pid, SIGKILL); /* the daemons end by themselves */
	if (f)
		fclose(f);
	running[0] = '\0';
	return 0;
}

static void instance_make(struct instance *i, bool root)
{
	static const char *const names[] = { "smtpd", "policyd", "router", "qmgr", "smtp-out", "local", "keyd" };
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sa;
	char self[4096], path[200];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(i, 0, sizeof *i);
	i->root = root;
	strcpy(i->dir, "/tmp/master-test-XXXXXX");
	assert_non_null(mkdtemp(i->dir));
	strcpy(running, i->dir);
	chmod(i->dir, 0755);
	assert_true(n > 0);
	self[n] = '\0';
	snprintf(i->conf, sizeof i->conf, "%s/bulkhead.conf", i->dir);
	snprintf(i->libexec, sizeof i->libexec, "%s/libexec", i->dir);
	mkdir(i->libexec, 0755);
	for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
		snprintf(path, sizeof path, "%s/%s", i->libexec, names[k]);
		assert_int_equal(symlink(self, path), 0);
	}
	snprintf(path, sizeof path, "%s/mail", i->dir);
	mkdir(path, 0755);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	i->port = ntohs(sa.sin_port);
	close(fd);
	conf_write(i, "one.example", "");
	if (!root && geteuid() == 0)
		assert_int_equal(chown(i->dir, UID_NOBODY, UID_NOBODY), 0);
}

/* Runs master as `bulkhead start` does; its exit code, its stderr in `said`. */
static int instance_start(struct instance *i, char *said, size_t size)
{
	int status, fds[2];
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		char *argv[] = { (char *)"master", (char *)"-C", i->conf, (char *)"-L", i->libexec, NULL };

		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		if (!i->root && geteuid() == 0 && (setgid(UID_NOBODY) < 0 || setuid(UID_NOBODY) < 0))
			_exit(99);
		optind = 1;
		_exit(master_main(5, argv));
	}
	close(fds[1]);
	while (n < size - 1 && (got = read(fds[0], said + n, size - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static enum status command(struct instance *i, const char *verb, const char *argument, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct ipc_cmd_ask ask = { .verb = str_of(verb), .argument = str_of(argument) };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	enum status st;

	err_clear(err);
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s/run/control", i->dir);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		close(fd);
		return err_set(err, ST_DEFER, "connect: %s", strerror(errno));
	}
	st = ipc_call(fd, &ipc_type_cmd_ask, &ask, NULL, 0, &ipc_type_cmd_answer, &i->arena, &i->status, 30000, err);
	close(fd);
	if (!st && i->status.status)
		st = err_set(err, (enum status)i->status.status, "%.*s", STR_FMT(i->status.text));
	return st;
}

static const struct ipc_daemon *daemon_get(struct instance *i, const char *name)
{
	struct err err = ERR_INIT;

	arena_reset(&i->arena);
	if (command(i, "status", NULL, &err))
		fail_msg("status: %s", err.text);
	for (uint32_t k = 0; k < i->status.n_daemons; k++)
		if (str_is(i->status.daemons[k].name, name) && !str_is(i->status.daemons[k].state, "draining"))
			return &i->status.daemons[k];
	return NULL;
}

static pid_t pid_of(struct instance *i, const char *name)
{
	const struct ipc_daemon *d = daemon_get(i, name);

	return d ? (pid_t)d->pid : 0;
}

static bool log_has(struct instance *i, const char *text)
{
	static char all[1 << 20];
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/log/mainlog", i->dir);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : read(fd, all, sizeof all - 1);
	if (fd >= 0)
		close(fd);
	all[n > 0 ? n : 0] = '\0';
	return strstr(all, text) != NULL;
}

static bool log_wait(struct instance *i, const char *text, int ms)
{
	for (; ms > 0 && !log_has(i, text); ms -= 20)
		usleep(20000);
	return ms > 0;
}

static bool new_pid_wait(struct instance *i, const char *name, pid_t before, int ms)
{
	for (; ms > 0; ms -= 20) {
		const struct ipc_daemon *d = daemon_get(i, name);

		if (d && d->pid && (pid_t)d->pid != before && str_is(d->state, "ready"))
			return true;
		usleep(20000);
	}
	return false;
}

static int client_open(struct instance *i)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)i->port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

/* One word to a stub, its answer. */
static const char *say(int fd, const char *line)
{
	static char got[512];
	struct pollfd p = { fd, POLLIN, 0 };
	ssize_t n;

	dprintf(fd, "%s\n", line);
	if (poll(&p, 1, 10000) != 1)
		return "(nothing came)";
	n = read(fd, got, sizeof got - 1);
	if (n <= 0)
		return "(closed)";
	got[n] = '\0';
	got[strcspn(got, "\n")] = '\0';
	return got;
}

static void expect(int fd, const char *line, const char *want)
{
	const char *got = say(fd, line);

	if (!strstr(got, want))
		fail_msg("%s: got \"%s\", want \"%s\"", line, got, want);
}

static void instance_stop(struct instance *i)
{
	char path[128], line[200];
	struct err err = ERR_INIT;

	if (command(i, "stop", NULL, &err))
		fail_msg("stop: %s", err.text);
	snprintf(path, sizeof path, "%s/run/control", i->dir);
	for (int k = 0; k < 100 && access(path, F_OK) == 0; k++)
		usleep(20000);
	assert_int_not_equal(access(path, F_OK), 0);
	arena_clear(&i->arena);
	running[0] = '\0';
	snprintf(line, sizeof line, "rm -rf --one-file-system %s", i->dir);
	assert_int_equal(system(line), 0);
}

/* ---- the scenario, as root and not ---- */

static void proc_line(pid_t pid, const char *name, char *out, size_t size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(out, (int)size, f))
		if (!strncmp(out, name, strlen(name)))
			break;
	fclose(f);
	out[strcspn(out, "\n")] = '\0';
}

/* The key of TLS session tickets: it comes right behind the start. */
static void tickets_ask(int fd, char *said, size_t size)
{
	for (int k = 0; k < 200; k++) {
		snprintf(said, size, "%s", say(fd, "tickets"));
		if (strncmp(said, "none", 4))
			return;
		usleep(20000);
	}
	fail_msg("no ticket keys");
}

static void protection_check(struct instance *i)
{
	static const char *const names[] = { "smtpd/1", "policyd/1", "router/1", "qmgr/1", "smtp-out/1", "keyd/1" };
	static const uid_t uids[] = { UID_BASE, UID_BASE + 1, UID_BASE + 2, UID_BASE + 3, UID_BASE + 4, UID_BASE + 6 };

	for (size_t k = 0; k < 6; k++) {
		const struct ipc_daemon *d = daemon_get(i, names[k]);
		char line[256], want[64], path[64], root[4096];
		ssize_t n;

		assert_non_null(d);
		assert_true(str_is(d->state, "ready"));
		proc_line((pid_t)d->pid, "NoNewPrivs:", line, sizeof line);
		assert_string_equal(line, "NoNewPrivs:\t1");
#if !defined(__SANITIZE_ADDRESS__)
		proc_line((pid_t)d->pid, "Seccomp:", line, sizeof line);
		assert_string_equal(line, "Seccomp:\t2");
#endif
		proc_line((pid_t)d->pid, "CapEff:", line, sizeof line);
		assert_string_equal(line, "CapEff:\t0000000000000000");
		if (!i->root)
			continue;
		snprintf(want, sizeof want, "Uid:\t%u\t%u\t%u\t%u", uids[k], uids[k], uids[k], uids[k]);
		proc_line((pid_t)d->pid, "Uid:", line, sizeof line);
		assert_string_equal(line, want);
		snprintf(path, sizeof path, "/proc/%d/root", (int)d->pid);
		n = readlink(path, root, sizeof root - 1);
		assert_true(n > 0);
		root[n] = '\0';
		snprintf(line, sizeof line, "%.*s", STR_FMT(d->root));
		assert_string_equal(root, line);
		assert_true(strlen(root) > 1);
	}
}

static void scenario(bool root)
{
	struct instance i;
	struct err err = ERR_INIT;
	char said[4096], want[128], tickets[64];
	int old, fd;
	pid_t pid, router;

	instance_make(&i, root);
	assert_int_equal(instance_start(&i, said, sizeof said), 0);
	assert_null(strstr(said, "bulkhead: "));
	assert_true(log_has(&i, "Bulkhead is ready"));
	protection_check(&i);
	if (!root)
		assert_true(str_find_str(i.status.text, STR_LIT("not started by root")) >= 0);

	/* who reaches whom */
	old = client_open(&i);
	snprintf(want, sizeof want, "smtpd/1 1 %d", (int)pid_of(&i, "smtpd/1"));
	expect(old, "who", want);
	expect(old, "ask key", "key router g1 policyd g1");
	if (root) {
		expect(old, "deliver 64200", "delivered by uid 64200, gid 64200");
		expect(old, "deliver 64201 64205", "delivered by uid 64201, gid 64205");
		expect(old, "deliver 64200 6", "no delivery under gid 6");
		expect(old, "deliver 64200 64100", "no delivery under gid 64100");
		expect(old, "deliver 64202", "no transport for local has that user");
		snprintf(want, sizeof want, "delivered by uid %d, gid %d", UID_NOBODY, UID_NOBODY);
		expect(old, "deliver 65534 65534", want); /* nobody's own */
		expect(old, "deliver 65534 42", "no delivery under gid 42");
		expect(old, "deliver 0", "no delivery under uid 0");
		expect(old, "deliver 64300", "never_users");
		expect(old, "deliver 64103", "it is qmgr's");
		assert_true(log_wait(&i, "never_users", 1000));
		/* programs: under the logins of queryprogram routers and of ${run} alone, user and group */
		expect(old, "ask query 64400", "ran as uid 64400 gid 64401");
		expect(old, "ask query 64600", "ran as uid 64600 gid 64601");
		expect(old, "ask query 64601", "nor ${run} that run_user");
		expect(old, "ask query 64401", "no queryprogram router has that");
		expect(old, "ask query 64500", "no queryprogram router has that");
		expect(old, "ask query 64200", "no queryprogram router has that");
		expect(old, "ask query 0", "no delivery under uid 0");
		expect(old, "ask query 64300", "never_users");
		expect(old, "ask query 64103", "it is qmgr's");
	} else {
		snprintf(want, sizeof want, "deliver %d", geteuid() == 0 ? UID_NOBODY : (int)geteuid());
		expect(old, want, "delivered by uid ");
		expect(old, "deliver 1", "does not run as root");
	}
	for (int k = 0; k < 200 && daemon_get(&i, "local/1"); k++) /* ends itself when nobody uses it */
		usleep(20000);
	assert_null(daemon_get(&i, "local/1"));

	/* a second master is kept away */
	assert_int_equal(instance_start(&i, said, sizeof said), 69);
	assert_non_null(strstr(said, "already running"));

	tickets_ask(old, tickets, sizeof tickets);

	/* deaths: each comes back, and the others find it again */
	router = pid_of(&i, "router/1");
	kill(router, SIGKILL);
	assert_true(new_pid_wait(&i, "router/1", router, 5000));
	expect(old, "ask after", "after router g1 policyd g1");
	pid = pid_of(&i, "policyd/1");
	kill(pid, SIGUSR2); /* the sanitizers take the usual ones */
	assert_true(new_pid_wait(&i, "policyd/1", pid, 5000));
	expect(old, "ask again", "again router g1 policyd g1");
	pid = pid_of(&i, "qmgr/1");
	kill(pid, SIGKILL);
	assert_true(new_pid_wait(&i, "qmgr/1", pid, 5000));
	if (root)
		expect(old, "deliver 64201", "delivered by uid 64201");
	assert_true(log_has(&i, "qmgr/1") && log_has(&i, "was killed by SIGKILL") && log_has(&i, "was killed by SIGUSR2"));
	pid = pid_of(&i, "smtpd/1");
	fd = client_open(&i);
	expect(fd, "die", "(closed)");
	close(fd);
	close(old);
	assert_true(new_pid_wait(&i, "smtpd/1", pid, 5000));
	assert_true(log_has(&i, "was killed by SIGABRT"));
	fd = client_open(&i);
	tickets_ask(fd, said, sizeof said);
	assert_string_equal(said, tickets);
	close(fd);

	/* reload: the old session goes on with its generation, new ones see the new */
	old = client_open(&i);
	expect(old, "who", "one.example");
	conf_write(&i, "two.example", "");
	if (command(&i, "reload", NULL, &err))
		fail_msg("reload: %s", err.text);
	fd = client_open(&i);
	expect(fd, "who", "two.example");
	expect(fd, "ask new", "new router g2 policyd g2");
	expect(old, "who", "one.example");
	expect(old, "ask old", "old router g1 policyd g1");
	tickets_ask(fd, said, sizeof said);
	assert_string_equal(said, tickets);
	assert_true(log_wait(&i, "new view: two.example", 2000));
	close(old);

	/* a reload that fails changes nothing: an error in the file, a daemon that can't start */
	pid = pid_of(&i, "smtpd/1");
	conf_write(&i, "three.example", "no_such_option = 1\n");
	assert_int_equal(command(&i, "reload", NULL, &err), ST_FAIL);
	assert_non_null(strstr(err.text, "no_such_option"));
	conf_write(&i, "broken.example", "");
	assert_int_equal(command(&i, "reload", NULL, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "this configuration breaks smtpd"));
	assert_true(log_wait(&i, "everything stays as it was", 1000));
	expect(fd, "ask still", "still router g2 policyd g2");
	close(fd);
	fd = client_open(&i);
	expect(fd, "who", "two.example");
	for (int k = 0; k < 200 && pid_of(&i, "smtpd/1") != pid; k++)
		usleep(20000);
	assert_int_equal(pid_of(&i, "smtpd/1"), pid);

	/* restart of one */
	pid = pid_of(&i, "policyd/1");
	if (command(&i, "restart", "policyd", &err))
		fail_msg("restart: %s", err.text);
	for (int k = 0; k < 200 && kill(pid, 0) == 0; k++)
		usleep(20000);
	assert_int_equal(kill(pid, 0), -1);
	expect(fd, "ask restarted", "restarted router g2 policyd g2");
	assert_int_equal(command(&i, "restart", "nobody", &err), ST_ERROR);
	assert_int_equal(command(&i, "channel", "qmgr", &err), ST_OK);
	assert_int_equal(command(&i, "channel", "smtpd", &err), ST_ERROR);
	close(fd);
	instance_stop(&i);
}

static void test_as_root(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	scenario(true);
}

static void test_not_as_root(void **state)
{
	(void)state;
	scenario(false);
}

static void test_starts_that_fail(void **state)
{
	struct instance i;
	char said[4096], line[200];

	(void)state;
	instance_make(&i, false);
	conf_write(&i, "one.example", "no_such_option = 1\n");
	assert_int_equal(instance_start(&i, said, sizeof said), 78);
	assert_non_null(strstr(said, "bulkhead.conf:"));
	conf_write(&i, "one.example", "local_interfaces = 192.0.2.77\n");
	assert_int_not_equal(instance_start(&i, said, sizeof said), 0);
	assert_true(strlen(said) > 10);
	snprintf(line, sizeof line, "rm -rf --one-file-system %s", i.dir);
	assert_int_equal(system(line), 0);
	if (geteuid() != 0)
		return;
	/* Root, but neither users nor numbers for the daemons. */
	instance_make(&i, true);
	i.root = false;
	conf_write(&i, "one.example", "daemon_user_prefix = surely-no-such-user-\n");
	i.root = true;
	assert_int_equal(instance_start(&i, said, sizeof said), 69);
	assert_non_null(strstr(said, "daemon_uid_base"));
	snprintf(line, sizeof line, "rm -rf --one-file-system %s", i.dir);
	assert_int_equal(system(line), 0);
}

/* SIGKILL of master alone: the daemons end by themselves, and another master takes over. */
static void test_killed_master(void **state)
{
	struct instance i;
	char said[4096];
	pid_t master, qmgr;

	(void)state;
	instance_make(&i, false);
	assert_int_equal(instance_start(&i, said, sizeof said), 0);
	master = pid_of(&i, "master");
	qmgr = pid_of(&i, "qmgr/1");
	kill(master, SIGKILL);
	for (int k = 0; k < 500 && kill(qmgr, 0) == 0; k++)
		usleep(20000);
	assert_int_equal(kill(qmgr, 0), -1);
	assert_int_equal(instance_start(&i, said, sizeof said), 0);
	instance_stop(&i);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backoff),
		cmocka_unit_test(test_jail_arguments),
		cmocka_unit_test_teardown(test_not_as_root, leftovers_kill),
		cmocka_unit_test_teardown(test_as_root, leftovers_kill),
		cmocka_unit_test_teardown(test_starts_that_fail, leftovers_kill),
		cmocka_unit_test_teardown(test_killed_master, leftovers_kill),
	};
	int code;

	if (stub_main(argc, argv, &code))
		return code;
	return cmocka_run_group_tests_name("master", tests, NULL, NULL);
}
