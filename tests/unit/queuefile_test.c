/* SPDX-License-Identifier: ISC */
/* Hand-overs: what the files say, and that a second one of the same message keeps the recipients of the first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "queuefile/queuefile.h"

static const struct found {
	const char *text, *want; /* NULL: none is found */
} founds[] = {
	{ "id-H\nx 1 1\n<>\n1 0\n-local\nXX\n1\na@b\n\n013  X: y\n", "a@b" },
	{ "id-H\nXX\n2\na@b x 1,2  0,-1#3\nc@d\n\n", "a@b x 1,2  0,-1#3\nc@d" },
	{ "id-H\nXX\n0\n\n", "" },
	{ "id-H\nXX\n3\na@b\nc@d\n\n", NULL },
	{ "id-H\nXX\nmany\na@b\n\n", NULL },
	{ "id-H\nXX\n1", NULL },
	{ "id-H\nYN a@b\n1\na@b\n\n", NULL },
	{ "", NULL },
};

static void test_recipients_find(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof founds / sizeof *founds; i++) {
		struct str lines = STR_NULL;
		struct err err = ERR_INIT;
		enum status st = exim_recipients_find(str_of(founds[i].text), &lines, &err);

		assert_int_equal(st == ST_OK, founds[i].want != NULL);
		if (founds[i].want && !str_is(lines, founds[i].want))
			fail_msg("%s: \"%.*s\"", founds[i].text, STR_FMT(lines));
	}
}

static char *file_text(const char *dir, const char *name, char *room, size_t size)
{
	char path[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		fail_msg("%s is not there", path);
	n = read(fd, room, size - 1);
	room[n > 0 ? n : 0] = '\0';
	close(fd);
	return room;
}

static void test_handover(void **state)
{
	static const char content[] = "Subject: a\r\n b\r\nTo: x@y\r\n\r\nbo\rdy\r\n\r\nend\r\n";
	char top[] = "/tmp/queuefile.XXXXXX", room[8192], command[128];
	struct ipc_recipient one[] = { { .addr = STR_LIT("a@b") }, { .addr = STR_LIT("c@d"), .notify = 2 | 4, .orcpt = STR_LIT("rfc822;c@d") } };
	struct ipc_recipient two[] = { { .addr = STR_LIT("e@f") }, { .addr = STR_LIT("a@b") } };
	struct ipc_facts facts = { .has_sender = true, .sender = STR_LIT("s@t"), .helo = STR_LIT("evil\nXX\n9"), .client_ip = STR_LIT("192.0.2.1"),
		.client_port = 77 };
	struct ipc_deliver m = { .id = STR_LIT("1tEabc-000123-XY"), .sender = STR_LIT("s@t"), .recipients = one, .n_recipients = 2, .content = sizeof content - 1,
		.header_size = 27, .received = 1700000000, .facts = &facts, .longest_line = 10 };
	struct arena a = ARENA_INIT;
	struct handover h = { .msg = &m, .login = "x", .directory = top, .arena = &a, .fd = memfd_create("m", 0) };
	struct err err = ERR_INIT;

	(void)state;
	assert_non_null(mkdtemp(top));
	assert_int_equal(write(h.fd, content, sizeof content - 1), sizeof content - 1);
	if (handover_exim(&h, &err))
		fail_msg("%s", err.text);
	assert_string_equal(file_text(top, "1tEabc-000123-XY-D", room, sizeof room), "1tEabc-000123-XY-D\nbo\rdy\n\nend\n");
	file_text(top, "1tEabc-000123-XY-H", room, sizeof room);
	assert_non_null(strstr(room, "\n<s@t>\n1700000000 0\n"));
	assert_non_null(strstr(room, "\n--helo_name evilXX9\n--host_address [192.0.2.1]:77\n")); /* no line of a stranger's */
	assert_non_null(strstr(room, "\nXX\n2\na@b\nc@d rfc822;c@d 10,12  0,-1#3\n\n014  Subject: a\n b\n008T To: x@y\n"));
	/* others of the same message, with a sender of their own */
	m.recipients = two;
	m.sender = STR_LIT("errors@t");
	if (handover_exim(&h, &err))
		fail_msg("%s", err.text);
	file_text(top, "1tEabc-000123-XY-H", room, sizeof room);
	assert_non_null(strstr(room, "\n<s@t>\n"));
	assert_non_null(strstr(room, "\nXX\n3\na@b\nc@d rfc822;c@d 10,12  0,-1#3\ne@f  0,0 errors@t 8,-1#3\n\n"));
	/* what is no file of ours is left alone, and nothing of the attempt stays */
	snprintf(command, sizeof command, "echo hello > %s/1tEabc-000123-XY-H", top);
	assert_int_equal(system(command), 0);
	assert_int_equal(handover_exim(&h, &err), ST_DEFER);
	assert_string_equal(file_text(top, "1tEabc-000123-XY-H", room, sizeof room), "hello\n");
	snprintf(command, sizeof command, "test $(ls -A %s | wc -l) = 2 && rm -r %s", top, top);
	assert_int_equal(system(command), 0);
	close(h.fd);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_recipients_find), cmocka_unit_test(test_handover) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
