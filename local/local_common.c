/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/err.h"
#include "local/local.h"
#include "local/local_text.h"

/* ---- faults ---- */

bool local_fault_set(struct local_fault *f, enum retry_error error, const char *status, const char *fmt, ...)
{
	va_list ap;

	f->error = error;
	f->error_no = 0;
	snprintf(f->status, sizeof f->status, "%s", status);
	va_start(ap, fmt);
	err_vset(&f->err, ST_DEFER, fmt, ap);
	va_end(ap);
	return false;
}

bool local_fault_errno(struct local_fault *f, int error_no, const char *fmt, ...)
{
	char sight[80] = "";
	struct err what;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&what, ST_DEFER, fmt, ap);
	va_end(ap);
	/* What root sees may not be there for us. */
	if (error_no == EACCES || error_no == ENOENT || error_no == EROFS)
		snprintf(sight, sizeof sight, " (uid %u, which sees store_directories alone)", (unsigned)geteuid());
	if (error_no == EDQUOT)
		local_fault_set(f, RETRY_QUOTA, "4.2.2", "mailbox is full: %s: %s", what.text, strerror(error_no));
	else
		local_fault_set(f, RETRY_OTHER, error_no == ENOSPC ? "4.3.1" : "4.3.0", "%s: %s%s", what.text, strerror(error_no), sight);
	f->error_no = error_no;
	return false;
}

void local_sleep_ms(uint64_t ms)
{
	struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* ---- directories ---- */

static bool path_below(const char *path, struct str top)
{
	while (top.len > 1 && top.p[top.len - 1] == '/')
		top.len--;
	return top.len && !strncmp(path, top.p, top.len) && (path[top.len] == '/' || top.p[top.len - 1] == '/');
}

bool local_may_create(const struct local_job *job, const char *path, struct local_fault *f)
{
	struct str where = job->options->create_file;
	struct str home = job->options->home;

	if (!where.len || str_is(where, "anywhere"))
		return true;
	if (where.p[0] == '/')
		home = where;
	else if (!home.len)
		return local_fault_set(f, RETRY_OTHER, "4.3.5", "create_file = %.*s, but there is no home directory", STR_FMT(where));
	if (path_below(path, home)) /* ".." was refused before */
		return true;
	return local_fault_set(f, RETRY_OTHER, "4.3.5", "%s may not be created: it is not in %.*s", path, STR_FMT(home));
}

bool local_directory_make(const struct local_job *job, const char *path, struct local_fault *f)
{
	char part[LOCAL_PATH_MAX + 64];
	size_t len = strlen(path);

	if (!job->options->create_directory)
		return local_fault_errno(f, ENOENT, "directory %s", path);
	if (len >= sizeof part)
		return local_fault_errno(f, ENAMETOOLONG, "directory %s", path);
	if (!local_may_create(job, path, f))
		return false;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, job->options->directory_mode) == 0) {
			chmod(part, job->options->directory_mode); /* whatever the umask */
			part[strrchr(part, '/') - part + (strrchr(part, '/') == part)] = '\0';
			local_directory_sync(part);
		} else if (errno != EEXIST && errno != EROFS && errno != EACCES && errno != EPERM) {
			return local_fault_errno(f, errno, "cannot create directory %s", part);
		} else if (errno != EEXIST && access(part, F_OK) < 0) {
			return local_fault_errno(f, EACCES, "cannot create directory %s", part);
		}
	}
	return true;
}

bool local_directory_sync(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* ---- writing ---- */

struct sink {
	const struct local_job *job;
	int fd;
	struct buf out;
	uint64_t written;
	int error;
};

static bool sink_flush(struct sink *s)
{
	size_t at = 0;

	while (at < s->out.len && !s->error) {
		ssize_t n = s->job->write ? s->job->write(s->job->write_arg, s->out.p + at, s->out.len - at) : write(s->fd, s->out.p + at, s->out.len - at);

		if (n > 0)
			at += (size_t)n;
		else if (n == 0 || errno != EINTR)
			s->error = n ? errno : ENOSPC;
	}
	s->written += at;
	buf_reset(&s->out);
	return !s->error;
}

static bool content_copy(const struct local_job *job, const struct edit_piece *p, struct local_text *t, struct sink *s, struct local_fault *f)
{
	uint64_t done = 0;

	while (done < p->len) {
		uint64_t left = p->len - done;
		ssize_t n = pread(job->fd, job->scratch, left < LOCAL_SCRATCH ? left : LOCAL_SCRATCH, (off_t)(job->msg->offset + p->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return local_fault_errno(f, n ? errno : EIO, "the message could not be read");
		local_text_add(t, job->scratch, (size_t)n, &s->out);
		done += (uint64_t)n;
		if (s->out.len >= LOCAL_SCRATCH && !sink_flush(s))
			return true; /* the caller looks at s->error */
	}
	return true;
}

/* A mailbox's separator, "From SENDER DATE". */
static void from_line_add(const struct local_job *job, struct buf *out)
{
	char date[64];
	time_t now = (time_t)(job->now_us / 1000000);
	struct tm tm;

	buf_adds(out, "From ");
	if (!job->sender.len)
		buf_adds(out, "MAILER-DAEMON");
	for (uint32_t i = 0; i < job->sender.len; i++) {
		unsigned char ch = (unsigned char)job->sender.p[i];

		buf_addc(out, ch <= ' ' || ch == 0x7f ? '_' : (char)ch); /* the line ends at the first blank behind the address */
	}
	localtime_r(&now, &tm);
	strftime(date, sizeof date, " %a %b %e %H:%M:%S %Y\n", &tm);
	buf_adds(out, date);
}

static void bsmtp_add(const struct local_job *job, struct buf *out)
{
	const char *end = job->options->crlf ? "\r\n" : "\n";

	buf_printf(out, "MAIL FROM:<%.*s>%s", STR_FMT(job->sender), end);
	for (uint32_t i = 0; i < job->msg->n_recipients; i++)
		buf_printf(out, "RCPT TO:<%.*s>%s", STR_FMT(job->msg->recipients[i].addr), end);
	buf_printf(out, "DATA%s", end);
}

bool local_message_write(const struct local_job *job, int out_fd, uint64_t *written_out, struct local_fault *f)
{
	const struct local_options *o = job->options;
	struct sink s = { .job = job, .fd = out_fd, .out = BUF_INIT };
	struct local_text t;
	bool ok = true;

	local_text_init(&t, o->check_string, o->escape_string, o->crlf);
	if (!o->has_prefix)
		from_line_add(job, &s.out);
	buf_add_str(&s.out, o->message_prefix);
	if (o->bsmtp)
		bsmtp_add(job, &s.out);
	for (uint32_t i = 0; i < job->n_pieces && ok && !s.error; i++) {
		const struct edit_piece *p = &job->pieces[i];

		if (p->text)
			local_text_add(&t, p->text, p->len, &s.out);
		else
			ok = content_copy(job, p, &t, &s, f);
	}
	local_text_end(&t, &s.out);
	if (o->bsmtp)
		buf_adds(&s.out, o->crlf ? ".\r\n" : ".\n");
	buf_add_str(&s.out, o->message_suffix);
	if (ok)
		sink_flush(&s);
	buf_clear(&s.out);
	*written_out = s.written;
	if (job->size_written)
		*job->size_written = s.written;
	if (ok && s.error)
		return local_fault_errno(f, s.error, "while writing to %.*s", STR_FMT(job->store));
	return ok;
}
