/* SPDX-License-Identifier: ISC */
/* Deliveries into maildirs and mailboxes in a scratch directory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <signal.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "local/local.h"
#include "local/local_text.h"

/* ---- text ---- */

static const struct {
	const char *in, *check, *escape;
	bool crlf;
	const char *want;
} texts[] = {
	{ "", "", "", false, "" },
	{ "a\r\nb\r\n", "", "", false, "a\nb\n" },
	{ "a\r\nb", "", "", false, "a\nb\n" },
	{ "a\r\nb\r", "", "", false, "a\nb\n" },
	{ "a\nb\r\n", "", "", false, "a\nb\n" },
	{ "a\rb\r\r\n", "", "", false, "a\rb\r\n" },
	{ "\r\n\r\n", "", "", false, "\n\n" },
	{ "a\r\nb\n", "", "", true, "a\r\nb\r\n" },
	{ "a", "", "", true, "a\r\n" },
	{ "From a\r\nFrom b\r\nxFrom c\r\n", "From ", ">From ", false, ">From a\n>From b\nxFrom c\n" },
	{ "Fro\r\nFrom\r\nF", "From ", ">From ", false, "Fro\nFrom\nF\n" },
	{ "From ", "From ", ">From ", false, ">From \n" },
	{ "From", "From ", ">From ", false, "From\n" },
	{ "x\r\n\r\nFrom y", "From ", ">From ", false, "x\n\n>From y\n" },
	{ "FrFrom x\r\n", "From ", ">From ", false, "FrFrom x\n" },
	{ ".\r\n..\r\na.\r\n", ".", "..", true, "..\r\n...\r\na.\r\n" },
	{ "\001\001\001\001\r\na\r\n", "\001\001\001\001\n", "\001\001\001\001 \n", false, "\001\001\001\001 \na\n" },
};

static void test_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		size_t n = strlen(texts[i].in);

		for (size_t a = 0; a <= n; a++)
			for (size_t b = a; b <= n; b++) {
				struct local_text t;
				struct buf out = BUF_INIT;

				local_text_init(&t, str_of(texts[i].check), str_of(texts[i].escape), texts[i].crlf);
				local_text_add(&t, texts[i].in, a, &out);
				local_text_add(&t, texts[i].in + a, b - a, &out);
				local_text_add(&t, texts[i].in + b, n - b, &out);
				local_text_end(&t, &out);
				if (!str_is(buf_str(&out), texts[i].want))
					fail_msg("\"%s\" cut at %zu and %zu: \"%.*s\"", texts[i].in, a, b, STR_FMT(buf_str(&out)));
				buf_clear(&out);
			}
	}
}

static void test_quota_words(void **state)
{
	static const struct { const char *in; int status; uint64_t want; bool no_check; } cases[] = {
		{ "", ST_OK, 0, false }, { "0", ST_OK, 0, false }, { "100", ST_OK, 100, false }, { "10K", ST_OK, 10240, false },
		{ "1.5M", ST_OK, 1572864, false }, { " 2g ", ST_OK, 2147483648, false }, { "1M/no_check", ST_OK, 1048576, true },
		{ "x", ST_ERROR, 0, false }, { "1.x", ST_ERROR, 0, false }, { "-1", ST_ERROR, 0, false }, { "1M/what", ST_ERROR, 0, false },
		{ "99999999999999999999", ST_ERROR, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err;
		uint64_t got;
		bool no_check;
		enum status st = local_quota_parse(str_of(cases[i].in), &got, &no_check, &err);

		if ((int)st != cases[i].status || (!st && (got != cases[i].want || no_check != cases[i].no_check)))
			fail_msg("\"%s\": %d, %llu", cases[i].in, st, (unsigned long long)got);
	}
}

static void test_paths(void **state)
{
	static const struct { const char *path; bool safe; } cases[] = {
		{ "/a/b", true }, { "/a/..b", true }, { "", false }, { "a/b", false }, { "/a/../b", false }, { "/..", false }, { "/a\nb", false },
		{ "../a", false }, { "/a/..", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (local_path_is_safe(str_of(cases[i].path)) != cases[i].safe)
			fail_msg("\"%s\"", cases[i].path);
}

/* ---- deliveries ---- */

struct box {
	char top[64];
	struct arena arena;
	char scratch[LOCAL_SCRATCH];
	struct local_fault fault;
	const char *options[10][2];
	const char *home;
	struct str content;
	uint64_t header_size;
	rlim_t file_limit;       /* 0: none */
	int64_t ahead_s;         /* the delivery's clock is ahead of the machine's */
};

#define HEADER "From: a@x\r\n\r\n"

static int box_open(void **state)
{
	struct box *b = mem_new(sizeof *b);

	snprintf(b->top, sizeof b->top, "/tmp/local_test.XXXXXX");
	assert_non_null(mkdtemp(b->top));
	b->content = STR_LIT(HEADER "hello\r\nFrom here\r\n.dot\r\nend");
	b->header_size = sizeof HEADER - 1;
	*state = b;
	return 0;
}

static int box_close(void **state)
{
	struct box *b = *state;
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", b->top);
	assert_int_equal(system(command), 0);
	arena_clear(&b->arena);
	mem_free(b);
	return 0;
}

static const char *in_box(struct box *b, const char *name)
{
	return arena_printf(&b->arena, "%s/%s", b->top, name);
}

static void option(struct box *b, unsigned i, const char *name, const char *value)
{
	b->options[i][0] = name;
	b->options[i][1] = value;
}

static bool deliver(struct box *b)
{
	struct ipc_recipient rcpts[2] = { { .addr = STR_LIT("u@y"), .parent = STR_LIT("alias@y") }, { .addr = STR_LIT("v@y"), .index = 1 } };
	struct ipc_edit edit = { .op = EDIT_ADD_TOP, .text = STR_LIT("Received: here\r\n") };
	struct ipc_deliver m = {
		.sender = STR_LIT("s@x"), .recipients = rcpts, .n_recipients = 2, .edits = &edit, .n_edits = 1, .content = b->content.len,
		.header_size = b->header_size,
	};
	struct ipc_pair options[10] = { { .name = STR_NULL } };
	struct ipc_plan plan = { .transport = STR_LIT("box"), .driver = STR_LIT("appendfile"), .options = options, .home = str_of(b->home) };
	struct local_job job = {
		.msg = &m, .fd = memfd_create("m", MFD_CLOEXEC), .host = "me.example", .scratch = b->scratch, .now_us = clock_wall_us() + b->ahead_s * 1000000, .arena = &b->arena,
	};
	struct rlimit limit, small;
	bool ok;

	assert_int_equal(write(job.fd, b->content.p, b->content.len), b->content.len);
	for (unsigned i = 0; i < 10 && b->options[i][0]; i++, plan.n_options++)
		options[i] = (struct ipc_pair){ .name = str_of(b->options[i][0]), .value = str_of(b->options[i][1]) };
	memset(&b->fault, 0, sizeof b->fault);
	getrlimit(RLIMIT_FSIZE, &limit);
	small = limit;
	if (b->file_limit)
		small.rlim_cur = b->file_limit;
	setrlimit(RLIMIT_FSIZE, &small);
	ok = local_deliver(&job, &plan, &b->fault);
	setrlimit(RLIMIT_FSIZE, &limit);
	close(job.fd);
	assert_true(ok || (b->fault.err.text[0] && b->fault.error && b->fault.status[0] == '4'));
	return ok;
}

static void delivered(struct box *b)
{
	if (!deliver(b))
		fail_msg("%s", b->fault.err.text);
}

static void refused(struct box *b, const char *why)
{
	if (deliver(b))
		fail_msg("delivered, want a fault with \"%s\"", why);
	if (!strstr(b->fault.err.text, why))
		fail_msg("fault \"%s\", want \"%s\" in it", b->fault.err.text, why);
}

static struct str slurp(struct box *b, const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *p;

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(fstat(fd, &st), 0);
	p = arena_alloc(&b->arena, (size_t)st.st_size + 1);
	assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
	close(fd);
	return str_make(p, (size_t)st.st_size);
}

/* How many files; the name of the last one. */
static unsigned files_in(const char *dir, char *name)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	if (!d)
		return 0;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
			n++;
			if (name)
				snprintf(name, 256, "%s", e->d_name);
		}
	closedir(d);
	return n;
}

static bool has_name(const char *dir, const char *end)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	while (d && (e = readdir(d)))
		found |= str_ends(str_of(e->d_name), end);
	if (d)
		closedir(d);
	return found;
}

static void spill(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	fchmod(fd, mode);
	close(fd);
}

static void maildir(struct box *b)
{
	option(b, 0, "directory", in_box(b, "a/b/Maildir"));
	option(b, 1, "maildir_format", "true");
}

static void test_maildir(void **state)
{
	struct box *b = *state;
	char name[256], want[64];
	struct stat st;
	struct str got;

	maildir(b);
	option(b, 2, "return_path_add", "true");
	option(b, 3, "envelope_to_add", "true");
	delivered(b);
	delivered(b);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/new"), name), 2);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/tmp"), NULL), 0);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir"), NULL), 3);
	got = slurp(b, arena_printf(&b->arena, "%s/a/b/Maildir/new/%s", b->top, name));
	assert_string_equal(got.p, "Return-path: <s@x>\nEnvelope-to: alias@y,\n v@y\nReceived: here\nFrom: a@x\n\nhello\nFrom here\n.dot\nend\n");
	assert_true(str_ends(str_of(name), ".me.example")); /* no tag that nobody asked for */
	option(b, 4, "maildir_tag", ",S=\001,x"); /* the router's mark for $message_size */
	delivered(b);
	snprintf(want, sizeof want, ".me.example,S=%u,x", got.len);
	assert_true(has_name(in_box(b, "a/b/Maildir/new"), want));
	b->options[4][0] = NULL;
	assert_int_equal(stat(in_box(b, "a/b"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(arena_printf(&b->arena, "%s/a/b/Maildir/new/%s", b->top, name), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_maildir_tag(void **state)
{
	struct box *b = *state;
	char name[256];

	maildir(b);
	option(b, 2, "maildir_tag", ",x=1 2\002");
	delivered(b);
	files_in(in_box(b, "a/b/Maildir/new"), name);
	assert_true(str_ends(str_of(name), "me.example,x=12"));
	option(b, 2, "maildir_tag", "tag");
	delivered(b);
	assert_true(has_name(in_box(b, "a/b/Maildir/new"), "me.example:tag"));
	option(b, 2, "maildir_tag", ",a/b"); /* the slash is left out */
	delivered(b);
	assert_true(has_name(in_box(b, "a/b/Maildir/new"), "me.example,ab"));
	b->options[2][0] = NULL;
}

static void test_maildir_damaged(void **state)
{
	struct box *b = *state;

	maildir(b);
	delivered(b);
	assert_int_equal(system(arena_printf(&b->arena, "rm -rf %s/a/b/Maildir/tmp", b->top)), 0);
	delivered(b);
	assert_int_equal(system(arena_printf(&b->arena, "rm -rf %s/a/b/Maildir/new", b->top)), 0);
	delivered(b);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/new"), NULL), 1);
	assert_int_equal(system(arena_printf(&b->arena, "rm -rf %s/a/b/Maildir/tmp && touch %s/a/b/Maildir/tmp", b->top, b->top)), 0);
	refused(b, "cannot create");
}

static void test_maildir_not_made(void **state)
{
	struct box *b = *state;

	maildir(b);
	option(b, 2, "create_directory", "false");
	refused(b, "No such file");
	option(b, 2, "create_file", "belowhome");
	refused(b, "no home directory");
	b->home = in_box(b, "home");
	refused(b, "may not be created");
	b->home = in_box(b, "a");
	delivered(b);
	option(b, 0, "directory", in_box(b, "a/../x"));
	refused(b, "directory");
	option(b, 0, "directory", "x");
	refused(b, "directory");
}

static void test_maildir_leftovers(void **state)
{
	struct box *b = *state;

	maildir(b);
	option(b, 0, "directory", in_box(b, "left"));
	delivered(b);
	spill(in_box(b, "left/tmp/1.old"), "x", 0600);
	b->ahead_s = 35 * 3600;
	delivered(b); /* not yet old enough */
	assert_int_equal(files_in(in_box(b, "left/tmp"), NULL), 1);
	b->ahead_s = 37 * 3600;
	delivered(b);
	assert_int_equal(files_in(in_box(b, "left/tmp"), NULL), 0);
	assert_int_equal(files_in(in_box(b, "left/new"), NULL), 3);
}

static void test_maildir_quota(void **state)
{
	struct box *b = *state;

	maildir(b);
	option(b, 2, "quota", "200");
	for (int i = 0; i < 3; i++)
		delivered(b);
	refused(b, "mailbox is full");
	assert_int_equal(b->fault.error, RETRY_QUOTA);
	assert_string_equal(b->fault.status, "4.2.2");
	assert_true(b->fault.quota_age > 0);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/new"), NULL), 3);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/tmp"), NULL), 0);
	option(b, 3, "quota_is_inclusive", "false");
	delivered(b);
	refused(b, "mailbox is full");
	option(b, 2, "quota", "200/no_check");
	delivered(b);
	option(b, 2, "quota", "1M");
	option(b, 4, "quota_filecount", "4");
	refused(b, "mailbox is full");
	option(b, 4, "quota_filecount", "6");
	delivered(b);
	option(b, 4, "mailbox_size", "2M");
	refused(b, "mailbox is full");
	option(b, 4, "quota_size_regex", ",S=(\\d+)");
	delivered(b);
}

static void test_maildirsize(void **state)
{
	struct box *b = *state;
	struct str got;
	struct timespec old[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
	const char *path = in_box(b, "a/b/Maildir/maildirsize");

	maildir(b);
	option(b, 2, "quota", "200");
	option(b, 3, "maildir_use_size_file", "true");
	delivered(b);
	delivered(b);
	got = slurp(b, path);
	if (strcmp(got.p, "200S,0C\n0 0\n51 1\n51 1\n"))
		fail_msg("maildirsize: \"%s\"", got.p);
	/* believed, though wrong */
	spill(path, "200S,0C\n0 0\n190 1\n", 0600);
	refused(b, "mailbox is full");
	/* full and old: counted again */
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	delivered(b);
	got = slurp(b, path);
	assert_string_equal(got.p, "200S,0C\n102 2\n51 1\n");
	/* another quota, or nonsense: counted again */
	option(b, 2, "quota", "350");
	delivered(b);
	assert_string_equal(slurp(b, path).p, "350S,0C\n153 3\n51 1\n");
	spill(path, "350S,0C\nwhat\n", 0600);
	delivered(b);
	assert_string_equal(slurp(b, path).p, "350S,0C\n204 4\n51 1\n");
	/* a folder counts for the maildir above */
	option(b, 0, "directory", in_box(b, "a/b/Maildir/.folder"));
	option(b, 4, "maildirfolder_create_regex", "/\\.[^/]+$");
	delivered(b);
	assert_string_equal(slurp(b, path).p, "350S,0C\n204 4\n51 1\n51 1\n");
	refused(b, "mailbox is full");
	assert_int_equal(access(in_box(b, "a/b/Maildir/.folder/maildirfolder"), F_OK), 0);
	/* one that does not count */
	option(b, 0, "directory", in_box(b, "a/b/Maildir/.Trash"));
	option(b, 5, "maildir_quota_directory_regex", "^(?:cur|new|\\.(?!Trash).*)$");
	delivered(b);
}

static void test_newfile(void **state)
{
	struct box *b = *state;
	char name[256];

	option(b, 0, "directory", in_box(b, "dir"));
	delivered(b);
	assert_int_equal(files_in(in_box(b, "dir"), name), 1);
	assert_true(name[0] == 'q' && strchr(name, '-'));
	option(b, 1, "directory_file", "same");
	delivered(b);
	refused(b, "cannot rename");
	assert_int_equal(files_in(in_box(b, "dir"), NULL), 2);
}

/* ---- mailboxes ---- */

static void mbox(struct box *b)
{
	option(b, 0, "file", in_box(b, "box"));
	option(b, 1, "lock_interval", "0s");
	option(b, 2, "lock_retries", "2");
}

static void test_mbox(void **state)
{
	struct box *b = *state;
	struct str got;
	struct stat st;
	ptrdiff_t end;

	mbox(b);
	delivered(b);
	got = slurp(b, in_box(b, "box"));
	assert_true(str_begins(got, "From s@x "));
	end = str_find(got, '\n');
	assert_string_equal(got.p + end, "\nReceived: here\nFrom: a@x\n\nhello\n>From here\n.dot\nend\n\n");
	delivered(b);
	assert_int_equal(slurp(b, in_box(b, "box")).len, 2 * got.len);
	assert_int_equal(stat(in_box(b, "box"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(files_in(b->top, NULL), 1); /* no lock is left */
}

static void test_mbox_forms(void **state)
{
	struct box *b = *state;

	mbox(b);
	option(b, 3, "message_prefix", "");
	option(b, 4, "message_suffix", "");
	option(b, 5, "check_string", "");
	option(b, 6, "escape_string", "");
	option(b, 7, "use_crlf", "true");
	delivered(b);
	assert_string_equal(slurp(b, in_box(b, "box")).p, "Received: here\r\nFrom: a@x\r\n\r\nhello\r\nFrom here\r\n.dot\r\nend\r\n");
	unlink(in_box(b, "box"));
	option(b, 8, "use_bsmtp", "true");
	delivered(b);
	assert_string_equal(slurp(b, in_box(b, "box")).p,
		"MAIL FROM:<s@x>\r\nRCPT TO:<u@y>\r\nRCPT TO:<v@y>\r\nDATA\r\nReceived: here\r\nFrom: a@x\r\n\r\nhello\r\nFrom here\r\n..dot\r\nend\r\n.\r\n");
	unlink(in_box(b, "box"));
	option(b, 8, "headers_only", "true");
	delivered(b);
	assert_string_equal(slurp(b, in_box(b, "box")).p, "Received: here\r\nFrom: a@x\r\n\r\n");
	unlink(in_box(b, "box"));
	option(b, 8, "body_only", "true");
	delivered(b);
	assert_string_equal(slurp(b, in_box(b, "box")).p, "hello\r\nFrom here\r\n.dot\r\nend\r\n");
	option(b, 0, "file", "/dev/null");
	delivered(b);
}

static void test_mbox_refusals(void **state)
{
	struct box *b = *state;
	const char *path = in_box(b, "box");

	mbox(b);
	option(b, 3, "file_must_exist", "true");
	refused(b, "No such file");
	b->options[3][0] = NULL;
	assert_int_equal(symlink("/tmp/elsewhere", path), 0);
	refused(b, "not a regular file (symlink)");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refused(b, "not a regular file");
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(b, "not a regular file");
	unlink(path);
	spill(path, "old", 0400);
	refused(b, "wrong mode 0400 (0600 expected)");
	assert_string_equal(slurp(b, path).p, "old");
	chmod(path, 0644);
	delivered(b);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(link(path, in_box(b, "other")), 0);
	refused(b, "several names");
	unlink(in_box(b, "other"));
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1, 1), 0);
		refused(b, "wrong uid (1 != 0)");
		option(b, 3, "check_owner", "false");
		delivered(b);
		option(b, 4, "check_group", "true");
		refused(b, "wrong gid (1 != 0)");
	}
	b->options[3][0] = NULL;
	option(b, 3, "use_lockfile", "false");
	option(b, 4, "use_fcntl_lock", "false");
	refused(b, "no kind of lock");
	option(b, 0, "directory", "/x");
	option(b, 5, "file", "/y");
	refused(b, "only one of");
	option(b, 0, "mode", "0600");
	option(b, 5, "mode", "0600");
	refused(b, "neither file");
	option(b, 0, "no_such", "1");
	refused(b, "no_such");
}

static void test_mbox_fifo(void **state)
{
	struct box *b = *state;
	const char *path = in_box(b, "box");
	char got[2000];
	ssize_t n;
	int fd;

	option(b, 0, "file", path);
	option(b, 1, "allow_fifo", "true");
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(b, "could mean no process is reading it");
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	delivered(b);
	n = read(fd, got, sizeof got - 1);
	assert_true(n > 0);
	got[n] = '\0';
	assert_true(str_begins(str_of(got), "From s@x ") && strstr(got, "\n\nhello\n>From here\n.dot\nend\n\n"));
	close(fd);
	assert_int_equal(files_in(b->top, NULL), 1); /* no lock file, nor another mailbox */
	assert_int_equal(unlink(path), 0);
	delivered(b); /* a plain file, where there is no fifo */
}

static void test_mbox_symlink_allowed(void **state)
{
	struct box *b = *state;

	mbox(b);
	option(b, 3, "allow_symlink", "true");
	spill(in_box(b, "real"), "", 0600);
	assert_int_equal(symlink(in_box(b, "real"), in_box(b, "box")), 0);
	delivered(b);
	assert_true(slurp(b, in_box(b, "real")).len > 0);
	assert_int_equal(unlink(in_box(b, "real")), 0); /* a link to what is not there yet: made */
	delivered(b);
	assert_true(slurp(b, in_box(b, "real")).len > 0);
	assert_int_equal(unlink(in_box(b, "real")), 0);
	option(b, 4, "file_must_exist", "true");
	refused(b, "No such file");
	b->options[4][0] = NULL;
}

static void test_mbox_lockfile(void **state)
{
	struct box *b = *state;
	const char *lock = in_box(b, "box.lock");

	mbox(b);
	spill(lock, "", 0600);
	refused(b, "failed to lock mailbox");
	assert_int_equal(access(lock, F_OK), 0); /* somebody else's stays */
	assert_int_equal(files_in(b->top, NULL), 1);
	option(b, 3, "lockfile_timeout", "1s");
	local_sleep_ms(2100);
	delivered(b); /* too old to be true */
	assert_int_equal(access(lock, F_OK), -1);
}

/* Another process holds the lock for a while. */
static void test_mbox_fcntl(void **state)
{
	struct box *b = *state;
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int ready[2], fd, status;
	pid_t pid;
	char c;

	mbox(b);
	delivered(b);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fd = open(in_box(b, "box"), O_RDWR);
		if (fd < 0 || fcntl(fd, F_SETLK, &l) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		local_sleep_ms(600);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	refused(b, "failed to lock mailbox");
	option(b, 3, "lock_fcntl_timeout", "5s");
	delivered(b);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(ready[1]);
}

static void test_mbox_quota(void **state)
{
	struct box *b = *state;
	struct str before;

	mbox(b);
	option(b, 3, "quota", "180");
	delivered(b);
	before = slurp(b, in_box(b, "box"));
	delivered(b);
	refused(b, "mailbox is full");
	assert_int_equal(b->fault.error, RETRY_QUOTA);
	assert_int_equal(slurp(b, in_box(b, "box")).len, 2 * before.len);
}

/* A limit on file sizes stands for a disk that fills up in the middle of a message. */
static void test_write_fails(void **state)
{
	struct box *b = *state;
	char *big = arena_alloc(&b->arena, 300000);
	struct str before;

	signal(SIGXFSZ, SIG_IGN);
	memset(big, 'x', 300000);
	memcpy(big, HEADER, sizeof HEADER - 1);
	mbox(b);
	delivered(b);
	before = slurp(b, in_box(b, "box"));
	b->file_limit = 200000;
	b->content = str_make(big, 300000);
	refused(b, "while writing");
	assert_true(str_eq(slurp(b, in_box(b, "box")), before));
	maildir(b);
	b->options[2][0] = NULL;
	refused(b, "while writing");
	b->file_limit = 0;
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/tmp"), NULL), 0);
	assert_int_equal(files_in(in_box(b, "a/b/Maildir/new"), NULL), 0);
	delivered(b);
}

/* The real thing, where we may mount. */
static void test_disk_full(void **state)
{
	struct box *b = *state;
	char *big = arena_alloc(&b->arena, 300000);
	const char *mnt = in_box(b, "mnt");

	mkdir(mnt, 0700);
	if (geteuid() != 0 || mount("tmpfs", mnt, "tmpfs", 0, "size=128k") < 0) {
		print_message("  not allowed to mount: left out\n");
		return;
	}
	memset(big, 'x', 300000);
	memcpy(big, HEADER, sizeof HEADER - 1);
	maildir(b);
	option(b, 0, "directory", in_box(b, "mnt/Maildir"));
	delivered(b);
	b->content = str_make(big, 300000);
	refused(b, "No space left");
	assert_string_equal(b->fault.status, "4.3.1");
	assert_int_equal(files_in(in_box(b, "mnt/Maildir/tmp"), NULL), 0);
	memset(b->options, 0, sizeof b->options);
	mbox(b);
	option(b, 0, "file", in_box(b, "mnt/box"));
	refused(b, "No space left");
	assert_int_equal(slurp(b, in_box(b, "mnt/box")).len, 0);
	b->content = STR_LIT(HEADER "small\r\n");
	delivered(b);
	assert_int_equal(umount2(mnt, MNT_DETACH), 0);
}

static void test_message_unreadable(void **state)
{
	struct box *b = *state;

	maildir(b);
	b->header_size = 100000;
	refused(b, "larger than the message");
}

/* Octet for octet: 8-bit, a very long line, many dots, NUL. */
static void test_content(void **state)
{
	struct box *b = *state;
	struct buf in = BUF_INIT, want = BUF_INIT;
	char name[256];

	buf_adds(&in, HEADER);
	buf_adds(&want, "Received: here\nFrom: a@x\n\n");
	for (int i = 0; i < 200000; i++) {
		char c = (char)(i * 7919 >> 3);

		if (c == '\r' || c == '\n')
			c = 0;
		buf_addc(&in, c);
		buf_addc(&want, c);
		if (i % 77777 == 0) {
			buf_adds(&in, "\r\n");
			buf_adds(&want, "\n");
		}
	}
	buf_adds(&in, "\r\n");
	buf_adds(&want, "\n");
	b->content = buf_str(&in);
	maildir(b);
	delivered(b);
	files_in(in_box(b, "a/b/Maildir/new"), name);
	assert_true(str_eq(slurp(b, arena_printf(&b->arena, "%s/a/b/Maildir/new/%s", b->top, name)), buf_str(&want)));
	buf_clear(&in);
	buf_clear(&want);
}

#define BOX(test) cmocka_unit_test_setup_teardown(test, box_open, box_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text), cmocka_unit_test(test_quota_words), cmocka_unit_test(test_paths),
		BOX(test_maildir), BOX(test_maildir_tag), BOX(test_maildir_damaged), BOX(test_maildir_not_made), BOX(test_maildir_leftovers),
		BOX(test_maildir_quota), BOX(test_maildirsize), BOX(test_newfile),
		BOX(test_mbox), BOX(test_mbox_forms), BOX(test_mbox_refusals), BOX(test_mbox_symlink_allowed), BOX(test_mbox_fifo), BOX(test_mbox_lockfile),
		BOX(test_mbox_fcntl), BOX(test_mbox_quota), BOX(test_write_fails), BOX(test_disk_full), BOX(test_message_unreadable),
		BOX(test_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
