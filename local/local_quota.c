/* SPDX-License-Identifier: ISC */
/* local_quota.c - how full a mailbox is: by its file maildirsize, or by looking at every file. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local/local.h"

enum {
	SCAN_DEPTH_MAX = 8,
	SIZE_FILE_MAX = 5120,       /* a longer maildirsize is made anew (Maildir++) */
	SIZE_FILE_FRESH_S = 900,    /* one that says "full" is believed so long */
	REGEX_STEPS_MAX = 100000,
};

enum local_regex local_regex_match(struct str pattern, const char *subject, uint64_t *capture_out)
{
	int error;
	PCRE2_SIZE offset, *v;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.len, 0, &error, &offset, NULL);
	pcre2_match_context *limits;
	pcre2_match_data *data;
	int n;

	if (!re)
		return LOCAL_REGEX_BAD;
	limits = pcre2_match_context_create(NULL);
	pcre2_set_match_limit(limits, REGEX_STEPS_MAX);
	data = pcre2_match_data_create_from_pattern(re, NULL);
	n = pcre2_match(re, (PCRE2_SPTR)subject, strlen(subject), 0, 0, data, limits);
	if (capture_out) {
		v = pcre2_get_ovector_pointer(data);
		if (n < 2 || !str_u64(str_make(subject + v[2], v[3] - v[2]), UINT64_MAX / 2, capture_out))
			*capture_out = UINT64_MAX;
	}
	pcre2_match_data_free(data);
	pcre2_match_context_free(limits);
	pcre2_code_free(re);
	return n > 0 ? LOCAL_REGEX_YES : LOCAL_REGEX_NO;
}

/* ---- looking at every file ---- */

struct scan {
	const struct local_options *options;
	bool folders;               /* Maildir++: at the top only directories that maildir_quota_directory_regex names */
	uint64_t size, files;
};

static void entry_count(struct scan *s, int dir, const char *name, const struct stat *st)
{
	uint64_t size = UINT64_MAX;

	(void)dir;
	if (s->options->quota_size_regex.len && local_regex_match(s->options->quota_size_regex, name, &size) != LOCAL_REGEX_YES)
		size = UINT64_MAX;
	if (size == UINT64_MAX)
		size = (uint64_t)st->st_size / (st->st_nlink ? st->st_nlink : 1);
	s->size += size;
	s->files++;
}

static void directory_scan(struct scan *s, int at, const char *name, unsigned depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			if (s->folders && (depth ? strcmp(e->d_name, "cur") && strcmp(e->d_name, "new")
						: local_regex_match(s->options->quota_directory_regex, e->d_name, NULL) != LOCAL_REGEX_YES))
				continue;
			if (depth < SCAN_DEPTH_MAX)
				directory_scan(s, fd, e->d_name, depth + 1);
		} else if (S_ISREG(st.st_mode) && (!s->folders || depth)) {
			entry_count(s, fd, e->d_name, &st);
		}
	}
	closedir(d);
}

/* ---- maildirsize ---- */

static void size_head(const struct local_job *job, char *out, size_t size)
{
	snprintf(out, size, "%" PRIu64 "S,%" PRIu64 "C\n", job->options->quota, job->options->quota_files);
}

/* False when the file can't be relied on: missing, for another quota, too long, damaged. */
static bool size_file_read(const struct local_job *job, const char *path, struct local_quota *q, int64_t *age_s)
{
	char text[SIZE_FILE_MAX + 1], head[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int64_t size = 0, files = 0;
	struct stat st;
	char *line, *rest;
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text);
	if (fstat(fd, &st) < 0)
		n = -1;
	close(fd);
	if (n <= 0 || n > SIZE_FILE_MAX)
		return false;
	text[n] = '\0';
	size_head(job, head, sizeof head);
	if (strncmp(text, head, strlen(head)))
		return false;
	for (rest = text + strlen(head); (line = strsep(&rest, "\n")) && *line;) {
		long long a, b;

		if (sscanf(line, "%18lld %18lld", &a, &b) != 2)
			return false;
		size += a;
		files += b;
	}
	if (size < 0 || files < 0)
		return false;
	q->size = (uint64_t)size;
	q->files = (uint64_t)files;
	*age_s = job->now_us / 1000000 - st.st_mtime;
	return true;
}

/* Written whole beside the old one, then renamed. Failing that the next delivery counts again. */
static void size_file_write(const struct local_job *job, const char *path, const struct local_quota *q)
{
	char text[160], fresh[LOCAL_PATH_MAX + 128];
	size_t len;
	int fd;

	size_head(job, text, sizeof text);
	len = strlen(text);
	len += (size_t)snprintf(text + len, sizeof text - len, "%" PRIu64 " %" PRIu64 "\n", q->size, q->files);
	snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid());
	unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, len) != (ssize_t)len || rename(fresh, path) < 0)
		unlink(fresh);
	close(fd);
}

void local_quota_note(const struct local_job *job, const struct local_quota *q, uint64_t size)
{
	char line[64];
	int len = snprintf(line, sizeof line, "%" PRIu64 " 1\n", size), fd;

	(void)job;
	if (!q->size_file)
		return;
	fd = open(q->size_file, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (write(fd, line, (size_t)len) != len)
		unlink(q->size_file); /* counted anew next time */
	close(fd);
}

/* ---- the check ---- */

static const char *quota_directory(const struct local_job *job)
{
	struct str dir = job->options->directory;
	char *path;
	struct stat st;

	if (job->options->quota_directory.len)
		return str_cstr(job->arena, job->options->quota_directory);
	path = arena_printf(job->arena, "%.*s/maildirfolder", STR_FMT(dir));
	if (job->options->maildir && stat(path, &st) == 0) { /* a folder: the quota is that of the maildir above */
		while (dir.len > 1 && dir.p[dir.len - 1] == '/')
			dir.len--;
		dir.len = (uint32_t)(str_rfind(dir, '/') > 0 ? str_rfind(dir, '/') : 1);
	}
	return str_cstr(job->arena, dir);
}

static bool is_over(const struct local_job *job, const struct local_quota *q)
{
	const struct local_options *o = job->options;
	uint64_t more = o->quota_inclusive ? job->size : 0, one = o->quota_inclusive ? 1 : 0;

	return (o->quota && !o->quota_no_check && q->size + more > o->quota) ||
		(o->quota_files && !o->files_no_check && q->files + one > o->quota_files);
}

static bool fault_full(struct local_fault *f, const char *path, int64_t read_age_s)
{
	local_fault_set(f, RETRY_QUOTA, "4.2.2", "mailbox is full (MTA-imposed quota exceeded while writing to %s)", path);
	f->quota_age = read_age_s >= 0 ? (uint64_t)read_age_s + 1 : 0;
	return false;
}

/* Whether the directory given is one that counts; Maildir++ leaves out folders by the expression. */
static bool directory_counts(const struct local_job *job, const char *top)
{
	const char *dir = job->options->directory.p;
	size_t len = strlen(top);

	if (strncmp(dir, top, len) || dir[len] != '/' || !job->options->size_file)
		return true;
	return local_regex_match(job->options->quota_directory_regex, dir + len + 1, NULL) == LOCAL_REGEX_YES;
}

bool local_quota_check(const struct local_job *job, struct local_quota *q, struct local_fault *f)
{
	const struct local_options *o = job->options;
	struct scan scan = { .options = o, .folders = o->maildir && o->size_file };
	int64_t age = 0;
	const char *top;
	struct stat st;
	char *path;

	if (!o->quota && !o->size_file && !o->warn_at)
		return true;
	top = quota_directory(job);
	if (!directory_counts(job, top))
		return true;
	if (scan.folders) {
		q->size_file = arena_printf(job->arena, "%s/maildirsize", top);
		if (size_file_read(job, q->size_file, q, &age) && (!is_over(job, q) || age < SIZE_FILE_FRESH_S))
			goto counted;
	}
	if (!o->has_size || (o->quota_files && !o->has_count)) {
		directory_scan(&scan, AT_FDCWD, top, 0);
		q->size = scan.size;
		q->files = scan.files;
	}
	if (q->size_file)
		size_file_write(job, q->size_file, q);
counted:
	if (o->has_size)
		q->size = o->mailbox_size;
	if (o->has_count)
		q->files = o->mailbox_count;
	if (job->size_before)
		*job->size_before = q->size;
	if (!is_over(job, q))
		return true;
	path = arena_printf(job->arena, "%s/new", o->directory.p);
	return fault_full(f, o->directory.p, stat(o->maildir ? path : top, &st) < 0 ? -1 : job->now_us / 1000000 - st.st_atime);
}

bool local_quota_check_file(const struct local_job *job, uint64_t size, int64_t read_age_s, struct local_fault *f)
{
	struct local_quota q = { .size = job->options->has_size ? job->options->mailbox_size : size };

	if (job->size_before)
		*job->size_before = q.size;
	return !job->options->quota || !is_over(job, &q) || fault_full(f, job->options->file.p, read_age_s);
}
