/* SPDX-License-Identifier: ISC */
#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { LOG_LINE_MAX = 8192, LOG_PENDING_MAX = 32768 };

void log_init(struct log *log)
{
	*log = (struct log){ .fd = { -1, -1, -1, -1 } };
}

void log_set_fd(struct log *log, unsigned i, int fd)
{
	log_flush(log);
	if (log->fd[i] >= 0)
		close(log->fd[i]);
	log->fd[i] = fd;
}

static void log_write(struct log *log, int i)
{
	struct buf *b = &log->pending[i];
	int fd = log->fd[i] >= 0 ? log->fd[i] : 1 << i == LOG_PANIC ? STDERR_FILENO : -1;
	ssize_t n;

	if (!b->len)
		return;
	do
		n = fd < 0 ? (ssize_t)b->len : write(fd, b->p, b->len);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)b->len)
		log->lost++;
	buf_reset(b);
}

void log_flush(struct log *log)
{
	for (int i = 0; i < LOG_TARGETS; i++)
		log_write(log, i);
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. */
static size_t log_utf8(const unsigned char *p, size_t n)
{
	size_t k = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	if (!k || k > n)
		return 0;
	for (size_t i = 1; i < k; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f) || (p[0] == 0xc2 && p[1] < 0xa0))
		return 0;
	return k;
}

static void log_put(struct buf *b, struct str text, bool ascii)
{
	const unsigned char *p = (const unsigned char *)text.p;
	size_t n = text.len > LOG_LINE_MAX ? LOG_LINE_MAX : text.len, plain = 0;

	for (size_t i = 0; i < n;) {
		size_t k = p[i] >= 0x20 && p[i] < 0x7f ? 1 : p[i] >= 0x80 && !ascii ? log_utf8(p + i, n - i) : 0;

		if (k) {
			plain += k;
			i += k;
			continue;
		}
		buf_add(b, p + i - plain, plain);
		plain = 0;
		if (p[i] == '\n')
			buf_adds(b, "\\n");
		else if (p[i] == '\t')
			buf_addc(b, '\t');
		else
			buf_printf(b, "\\%03o", p[i]);
		i++;
	}
	buf_add(b, p + n - plain, plain);
	buf_adds(b, n < text.len ? "...\n" : "\n");
}

/* One datagram, as syslogd takes them (RFC 3164 section 4.1, without the host). */
static void syslog_send(struct log *log, int severity, struct str line)
{
	const struct log_syslog *sys = &log->syslog;
	time_t now = time(NULL);
	char stamp[32], pid[16] = "";
	struct buf b = BUF_INIT;
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(stamp, sizeof stamp, "%b %e %H:%M:%S", &tm);
	if (sys->pid)
		snprintf(pid, sizeof pid, "[%d]", (int)getpid());
	buf_printf(&b, "<%d>%s %s%s: ", sys->facility << 3 | severity, stamp, sys->name, pid);
	buf_add_str(&b, line);
	if (write(log->fd[LOG_TO_SYSLOG], b.p, b.len) < 0)
		log->lost++;
	buf_clear(&b);
}

static void syslog_text(struct log *log, unsigned targets, struct str stamp, struct str line)
{
	/* info, notice, alert: the way Exim tells its three logs apart */
	static const int severity[LOG_TARGETS] = { 6, 5, 1 };
	struct buf b = BUF_INIT;

	if (log->syslog.stamp)
		buf_printf(&b, "%.*s ", STR_FMT(stamp));
	buf_add_str(&b, line);
	for (int i = LOG_TARGETS; i-- > 0;) {
		if (!(targets & (1u << i)))
			continue;
		syslog_send(log, severity[i], buf_str(&b));
		if (!log->syslog.twice)
			break;
	}
	buf_clear(&b);
}

void log_text(struct log *log, unsigned targets, struct str text)
{
	char stamp[CLOCK_TEXT];
	size_t n = clock_log_format(stamp, clock_wall_us(), log->millisec, log->zone, log->utc);
	struct buf line = BUF_INIT;

	if (log->pid)
		buf_printf(&line, "[%d] ", (int)getpid());
	log_put(&line, text, log->ascii);
	for (int i = 0; i < LOG_TARGETS; i++) {
		struct buf *b = &log->pending[i];

		if (!(targets & (1u << i)))
			continue;
		buf_add(b, stamp, n);
		buf_addc(b, ' ');
		buf_add_str(b, buf_str(&line));
		if (b->len > LOG_PENDING_MAX || 1 << i == LOG_PANIC)
			log_write(log, i);
	}
	if (log->syslog.on && log->fd[LOG_TO_SYSLOG] >= 0)
		syslog_text(log, targets, str_make(stamp, n), str_sub(buf_str(&line), 0, line.len - 1));
	buf_clear(&line);
}

void log_vline(struct log *log, unsigned targets, const char *fmt, va_list ap)
{
	struct buf b = BUF_INIT;

	buf_vprintf(&b, fmt, ap);
	log_text(log, targets, buf_str(&b));
	buf_clear(&b);
}

void log_line(struct log *log, unsigned targets, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline(log, targets, fmt, ap);
	va_end(ap);
}

void log_clear(struct log *log)
{
	for (int i = 0; i < LOG_TARGETS; i++) {
		log_write(log, i);
		buf_clear(&log->pending[i]);
		if (log->fd[i] >= 0)
			close(log->fd[i]);
		log->fd[i] = -1;
	}
	if (log->fd[LOG_TO_SYSLOG] >= 0)
		close(log->fd[LOG_TO_SYSLOG]);
	log->fd[LOG_TO_SYSLOG] = -1;
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint32_t period_ms, uint32_t *skipped_out)
{
	if (limit->next_ms && now_ms < limit->next_ms) {
		limit->skipped++;
		return false;
	}
	*skipped_out = limit->skipped;
	limit->skipped = 0;
	limit->next_ms = now_ms + period_ms;
	return true;
}
