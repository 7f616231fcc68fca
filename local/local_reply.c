/* SPDX-License-Identifier: ISC */
#include "local/local_reply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/conf/option.h"
#include "common/mail/addrlist.h"
#include "common/mail/date.h"
#include "common/mail/header.h"

enum { HEADER_READ_MAX = 256 * 1024, REFERENCES_MAX = 4000, RETURN_MAX = 16 * 1024 * 1024 };

struct making {
	struct local_job *job;
	const struct ipc_plan *plan;
	struct conf_opts_transport_autoreply o;
	struct conf_opts_transport generic;
	struct local_options text;       /* how the returned message is written */
	struct str header;               /* of the message that is answered */
	struct buf out;
	uint64_t return_limit;
};

static bool wrong(struct local_fault *f, const struct making *m, const char *what)
{
	return local_fault_set(f, RETRY_OTHER, "4.3.5", "transport %.*s: %s", STR_FMT(m->plan->transport), what);
}

/* ---- the message that is answered ---- */

static bool header_read(struct making *m, struct local_fault *f)
{
	const struct ipc_deliver *d = m->job->msg;
	size_t n = d->header_size < HEADER_READ_MAX ? (size_t)d->header_size : HEADER_READ_MAX, done = 0;
	char *p = arena_alloc(m->job->arena, n + 1);

	while (done < n) {
		ssize_t got = pread(m->job->fd, p + done, n - done, (off_t)(d->offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return local_fault_errno(f, got ? errno : EIO, "the message could not be read");
		done += (size_t)got;
	}
	m->header = str_make(p, n);
	return true;
}

static struct str field_value(const struct making *m, const char *name)
{
	struct header_field field;

	return header_find(m->header, name, 0, &field) ? header_unfold(m->job->arena, field.value) : STR_NULL;
}

/* RFC 3834, section 2: nobody answers a machine. */
static bool is_from_machine(const struct making *m)
{
	struct str value = str_trim(field_value(m, "Auto-Submitted"));

	return !m->job->msg->sender.len || (value.len && !str_isi(value, "no") && !str_beginsi(value, "no;") && !str_beginsi(value, "no "));
}

/* ---- recipients ---- */

static bool recipients_take(struct making *m, struct str list, struct str qualify, struct reply *out, struct local_fault *f)
{
	struct addrlist parsed;
	struct err err;

	if (!list.len)
		return true;
	if (addrlist_parse(list, ADDR_UNQUALIFIED | ADDR_UTF8 | ADDR_LITERALS, m->job->arena, &parsed, &err))
		return local_fault_set(f, RETRY_OTHER, "4.3.5", "transport %.*s: recipients: %s", STR_FMT(m->plan->transport), err.text);
	for (uint32_t i = 0; i < parsed.n; i++) {
		struct str addr = parsed.v[i].addr;

		if (out->n_recipients == REPLY_RECIPIENTS_MAX)
			return wrong(f, m, "too many recipients");
		if (str_rfind(addr, '@') < 0)
			addr = str_printf(m->job->arena, "%.*s@%.*s", STR_FMT(addr), STR_FMT(qualify));
		if (addr.len > 1000)
			return wrong(f, m, "a recipient is too long");
		out->recipients[out->n_recipients++].addr = addr;
	}
	return true;
}

/* ---- its header ---- */

/* Printable, but for line ends before a blank: a field can't begin another. */
static bool is_printable(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool folded = c == '\n' && i + 1 < s.len && (s.p[i + 1] == ' ' || s.p[i + 1] == '\t');

		if ((c < ' ' && c != '\t' && !folded) || c == 0x7f)
			return false;
	}
	return true;
}

static void text_crlf(struct buf *out, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		if (s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r'))
			buf_addc(out, '\r');
		buf_addc(out, s.p[i]);
	}
}

static bool field_add(struct making *m, const char *name, struct str value, struct local_fault *f)
{
	value = str_trim(value);
	if (!value.len)
		return true;
	if (!is_printable(value)) {
		char text[100];

		snprintf(text, sizeof text, "non-printing characters in the %s: field", name);
		return wrong(f, m, text);
	}
	buf_printf(&m->out, "%s: ", name);
	text_crlf(&m->out, value);
	buf_adds(&m->out, "\r\n");
	return true;
}

static void from_add(struct making *m, struct str qualify)
{
	if (!m->o.from.text.len)
		buf_printf(&m->out, "From: %.*s@%.*s\r\n", m->plan->user.len && !ascii_is_digit(m->plan->user.p[0]) ? (int)m->plan->user.len : 13,
			m->plan->user.len && !ascii_is_digit(m->plan->user.p[0]) ? m->plan->user.p : "MAILER-DAEMON", STR_FMT(qualify));
}

/* In-Reply-To: and References: as RFC 5322, section 3.6.4 has them. */
static void references_add(struct making *m)
{
	struct str id = str_trim(field_value(m, "Message-ID")), refs = str_trim(field_value(m, "References"));

	if (!refs.len)
		refs = str_trim(field_value(m, "In-Reply-To"));
	if (!id.len || id.len > REFERENCES_MAX / 4 || !is_printable(id))
		return;
	buf_printf(&m->out, "In-Reply-To: %.*s\r\n", STR_FMT(id));
	if (refs.len > REFERENCES_MAX || !is_printable(refs))
		refs = STR_NULL;
	buf_printf(&m->out, "References:");
	while (refs.len) { /* one to a line, so that no line is too long */
		struct str one;

		str_split(&refs, ' ', &one);
		if (str_trim(one).len && str_trim(one).len < 900)
			buf_printf(&m->out, " %.*s\r\n", STR_FMT(str_trim(one)));
	}
	buf_printf(&m->out, " %.*s\r\n", STR_FMT(id));
}

/* The option `headers`: whole fields. */
static bool headers_add(struct making *m, struct local_fault *f)
{
	struct str text = m->o.headers.text;
	struct buf b = BUF_INIT;
	bool ok;

	text = str_trim(text);
	if (!text.len)
		return true;
	text_crlf(&b, text);
	buf_adds(&b, "\r\n");
	ok = header_text_valid(buf_str(&b)) ? buf_add(&m->out, b.p, b.len) : wrong(f, m, "headers: these are no header fields");
	buf_clear(&b);
	return ok;
}

static bool head_make(struct making *m, struct str qualify, struct local_fault *f)
{
	char date[DATE_TEXT];

	from_add(m, qualify);
	if (!field_add(m, "From", m->o.from.text, f) || !field_add(m, "Reply-To", m->o.reply_to.text, f) || !field_add(m, "To", m->o.to.text, f) ||
		!field_add(m, "Cc", m->o.cc.text, f) || !field_add(m, "Subject", m->o.subject.text, f) || !headers_add(m, f))
		return false;
	references_add(m);
	date_format(date, m->job->now_us / 1000000, false);
	buf_printf(&m->out, "Auto-Submitted: auto-replied\r\nMessage-ID: <R%.*s.%lld.%u@%s>\r\nDate: %s\r\n\r\n", STR_FMT(m->job->msg->id),
		(long long)(m->job->now_us % 1000000), (unsigned)getpid(), m->job->host, date);
	return true;
}

/* ---- its body ---- */

static bool file_add(struct making *m, struct local_fault *f)
{
	const char *path = str_cstr(m->job->arena, m->o.file.text);
	struct buf b = BUF_LIMIT(REPLY_FILE_MAX);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char room[8192];
	ssize_t n = 0;
	int error = errno;

	if (fd < 0)
		return m->o.file_optional || local_fault_errno(f, error, "cannot open %s", path);
	while ((n = read(fd, room, sizeof room)) > 0 && buf_add(&b, room, (size_t)n))
		;
	error = errno;
	close(fd);
	if (n == 0)
		text_crlf(&m->out, buf_str(&b));
	buf_clear(&b);
	if (n == 0 || m->o.file_optional)
		return true;
	return n < 0 ? local_fault_errno(f, error, "cannot read %s", path) : wrong(f, m, "file: it is too large");
}

static ssize_t returned_write(void *arg, const char *p, size_t n)
{
	struct making *m = arg;

	return buf_add(&m->out, p, n) ? (ssize_t)n : (errno = ENOSPC, -1);
}

static bool message_add(struct making *m, struct local_fault *f)
{
	uint64_t most = m->return_limit ? m->return_limit : RETURN_MAX, size, written;
	struct local_job *job = m->job;

	m->text = (struct local_options){ .crlf = true, .has_prefix = true, .headers_only = m->generic.headers_only, .body_only = m->generic.body_only,
		.return_path_add = m->generic.return_path_add, .delivery_date_add = m->generic.delivery_date_add,
		.envelope_to_add = m->generic.envelope_to_add };
	job->options = &m->text;
	if (!local_message_begin(job, m->plan, f))
		return false;
	size = job->size;
	buf_printf(&m->out, "\r\n------ This is a copy of %s.\r\n", m->generic.headers_only ? "the message's header lines"
		: m->generic.body_only ? "the body of the message, without the headers" : "the message, including all the headers");
	if (size > most)
		buf_printf(&m->out, "------ The message is %llu octets long; only the first %llu or so are included here.\r\n", (unsigned long long)size,
			(unsigned long long)most);
	buf_adds(&m->out, "\r\n");
	for (uint32_t i = 0, n = job->n_pieces; i < n; i++) { /* as much of it as may be */
		if (job->pieces[i].len > most)
			job->pieces[i].len = most;
		most -= job->pieces[i].len;
		if (!job->pieces[i].len)
			job->n_pieces = i < job->n_pieces ? i : job->n_pieces;
	}
	job->write = returned_write;
	job->write_arg = m;
	return local_message_write(job, -1, &written, f);
}

static bool body_make(struct making *m, struct local_fault *f)
{
	text_crlf(&m->out, m->o.text.text);
	if (m->o.text.text.len && m->o.text.text.p[m->o.text.text.len - 1] != '\n')
		buf_adds(&m->out, "\r\n");
	return (!m->o.file.text.len || file_add(m, f)) && (!m->o.return_message || message_add(m, f));
}

/* ---- handing it over ---- */

static bool memory_make(const struct making *m, int *fd_out, struct local_fault *f)
{
	int fd = memfd_create("reply", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t at = 0;

	if (fd < 0)
		return local_fault_errno(f, errno, "no memory for the reply");
	while (at < m->out.len) {
		ssize_t n = write(fd, m->out.p + at, m->out.len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	if (at == m->out.len && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0) {
		*fd_out = fd;
		return true;
	}
	local_fault_errno(f, errno, "no memory for the reply");
	close(fd);
	return false;
}

static void log_add(const struct making *m)
{
	const char *path = str_cstr(m->job->arena, m->o.log.text);
	int fd = reply_file_open(path, O_WRONLY | O_APPEND, (mode_t)(m->o.mode & 0777));
	const struct { const char *name; struct str value; } fields[] = {
		{ "From", m->o.from.text }, { "To", m->o.to.text }, { "Cc", m->o.cc.text }, { "Bcc", m->o.bcc.text }, { "Subject", m->o.subject.text },
	};
	time_t now = (time_t)(m->job->now_us / 1000000);
	struct buf b = BUF_INIT;
	char date[64];
	struct tm tm;
	ssize_t n;

	if (fd < 0)
		return; /* as with Exim, the reply matters more than its record */
	localtime_r(&now, &tm);
	strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S\n", &tm);
	buf_adds(&b, date);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		if (str_trim(fields[i].value).len)
			buf_printf(&b, "  %s: %.*s\n", fields[i].name, STR_FMT(str_trim(fields[i].value)));
	n = write(fd, b.p, b.len);
	(void)n;
	buf_clear(&b);
	close(fd);
}

static bool once_ask(struct making *m, bool *due_out, struct local_fault *f)
{
	struct str repeat = str_trim(m->o.once_repeat.text);
	int64_t repeat_s = 0;
	struct err err;

	*due_out = true;
	if (!m->o.once.text.len || !m->o.to.text.len)
		return true;
	if (repeat.len && conf_time_parse(repeat, &repeat_s, &err))
		return wrong(f, m, "once_repeat is no time");
	return reply_once(str_cstr(m->job->arena, m->o.once.text), (mode_t)(m->o.mode & 0777), (uint64_t)m->o.once_file_size, m->o.to.text,
		m->job->now_us / 1000000, repeat_s, due_out, f);
}

/* *out.fd stays -1 where there is nobody to write to. */
static bool reply_work(struct making *m, struct str qualify, struct reply *out, struct local_fault *f)
{
	struct err err;
	bool due;
	int fd = -1;

	if (local_plan_options(m->plan, &conf_table_transport_autoreply, &m->o, &m->generic, m->job->arena, &err))
		return local_fault_set(f, RETRY_OTHER, "4.3.5", "%s", err.text);
	if (m->job->fd < 0)
		return local_fault_set(f, RETRY_OTHER, "4.3.0", "no descriptor came with the message");
	if (!header_read(m, f))
		return false;
	if (is_from_machine(m))
		return true;
	if (!recipients_take(m, m->o.to.text, qualify, out, f) || !recipients_take(m, m->o.cc.text, qualify, out, f) ||
		!recipients_take(m, m->o.bcc.text, qualify, out, f))
		return false;
	if (!out->n_recipients)
		return true;
	if (!head_make(m, qualify, f) || !body_make(m, f) || !memory_make(m, &fd, f))
		return false;
	if (!once_ask(m, &due, f) || !due) { /* last, so that only what is sent is remembered */
		close(fd);
		return !f->error;
	}
	out->fd = fd;
	if (m->o.log.text.len)
		log_add(m);
	return true;
}

bool reply_make(struct local_job *job, const struct ipc_plan *plan, uint64_t return_limit, struct str qualify, struct reply *out, struct local_fault *f)
{
	struct making *m = arena_alloc(job->arena, sizeof *m);
	bool ok;

	*m = (struct making){ .job = job, .plan = plan, .out = BUF_INIT, .return_limit = return_limit };
	*out = (struct reply){ .fd = -1, .recipients = arena_alloc(job->arena, REPLY_RECIPIENTS_MAX * sizeof *out->recipients) };
	ok = reply_work(m, qualify, out, f);
	buf_clear(&m->out);
	return ok;
}

/* ---- the warning of a quota ---- */

static bool warning_text(struct making *m, struct str text, struct str qualify, struct local_fault *f)
{
	char date[DATE_TEXT];
	struct header_field field;

	date_format(date, m->job->now_us / 1000000, false);
	text = header_crlf(m->job->arena, text);
	if (!header_find(text, "To", 0, &field) || header_end(text, &(bool){ false }) == 0)
		return wrong(f, m, "quota_warn_message has no To: field at its start");
	if (!header_find(text, "From", 0, &field))
		buf_printf(&m->out, "From: Mail Delivery System <mailer-daemon@%.*s>\r\n", STR_FMT(qualify));
	buf_printf(&m->out, "Auto-Submitted: auto-generated\r\nMessage-ID: <W%.*s.%lld.%u@%s>\r\nDate: %s\r\n", STR_FMT(m->job->msg->id),
		(long long)(m->job->now_us % 1000000), (unsigned)getpid(), m->job->host, date);
	buf_add_str(&m->out, text);
	if (!str_ends(text, "\n"))
		buf_adds(&m->out, "\r\n");
	m->header = text;
	return true;
}

bool reply_warning(struct local_job *job, struct str text, struct str transport, struct str qualify, struct reply *out, struct local_fault *f)
{
	struct ipc_plan plan = { .transport = transport };
	struct making m = { .job = job, .plan = &plan, .out = BUF_INIT };
	bool ok;

	*out = (struct reply){ .fd = -1, .recipients = arena_alloc(job->arena, REPLY_RECIPIENTS_MAX * sizeof *out->recipients) };
	ok = warning_text(&m, text, qualify, f) && recipients_take(&m, field_value(&m, "To"), qualify, out, f) &&
		(!out->n_recipients || memory_make(&m, &out->fd, f));
	buf_clear(&m.out);
	return ok;
}
