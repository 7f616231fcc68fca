/* SPDX-License-Identifier: ISC */
/* The agent as a process, under its filter of system calls, against a small server in another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/unit/agent_world.h"
#include "smtp-out/out_daemon.h"

static int run(int argc, char **argv)
{
	return daemon_main(&out_daemon_spec, argc, argv);
}

/* Takes one connection and answers each line with what fits; no pipelining. */
static pid_t server_begin(int family, unsigned *port)
{
	union { struct sockaddr sa; struct sockaddr_in in; struct sockaddr_in6 in6; } addr;
	socklen_t len = family == AF_INET ? sizeof addr.in : sizeof addr.in6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	bool content = false;
	char line[1000];
	pid_t pid;
	FILE *f;

	memset(&addr, 0, sizeof addr);
	addr.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		addr.in6.sin6_addr = in6addr_loopback;
	if (fd < 0 || bind(fd, &addr.sa, len) < 0)
		return -1;
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, &addr.sa, &len), 0);
	*port = ntohs(family == AF_INET ? addr.in.sin_port : addr.in6.sin6_port);
	pid = fork();
	if (pid) {
		close(fd);
		return pid;
	}
	alarm(30);
	peer = accept(fd, NULL, NULL);
	f = fdopen(peer, "r+");
	fputs("220 server\r\n", f);
	fflush(f);
	while (fgets(line, sizeof line, f)) {
		fseek(f, 0, SEEK_CUR);
		if (content && strcmp(line, ".\r\n"))
			continue;
		fputs(!content && !strncmp(line, "DATA", 4) ? "354 go\r\n" : "250 ok\r\n", f);
		fflush(f);
		content = !content && !strncmp(line, "DATA", 4);
		if (!strncmp(line, "QUIT", 4))
			break;
	}
	_exit(0);
}

static void deliver_over(int family, const char *ip)
{
	struct ipc_pair options[2] = {
		{ .name = STR_LIT("dscp"), .value = STR_LIT("af21") }, { .name = STR_LIT("interface"), .value = str_of(ip) },
	};
	struct ipc_host host = { .name = STR_LIT("h.example"), .ip = str_of(ip) };
	struct ipc_plan plan = {
		.transport = STR_LIT("remote"), .driver = STR_LIT("smtp"), .hosts = &host, .n_hosts = 1, .options = options, .n_options = 2,
	};
	struct ipc_delivered d;
	struct agent a;
	unsigned port;
	int status;
	pid_t server = server_begin(family, &port);

	if (server < 0) {
		print_message("  this machine has no %s: left out\n", ip);
		return;
	}
	host.port = port;
	agent_begin(&a, "smtp-out/1", V_SMTP_OUT, run);
	d = agent_deliver(&a, &plan);
	if (d.outcomes[0].result != DELIVERY_OK)
		fail_msg("%.*s", STR_FMT(d.outcomes[0].text));
	assert_true(str_is(d.local_ip, ip));
	assert_true(d.connection != 0);
	agent_end(&a); /* which ends the waiting connection with QUIT */
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_int_equal(status, 0);
}

static void test_ipv4(void **state)
{
	(void)state;
	deliver_over(AF_INET, "127.0.0.1");
}

static void test_ipv6(void **state)
{
	(void)state;
	deliver_over(AF_INET6, "::1");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ipv4), cmocka_unit_test(test_ipv6) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
