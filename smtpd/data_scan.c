/* SPDX-License-Identifier: ISC */
#include "smtpd/data_scan.h"

#include <string.h>

#include "common/mail/header.h"

void data_scan_init(struct data_scan *d, const struct data_limits *limits)
{
	*d = (struct data_scan){ .limits = *limits, .in_header = true, .line_start = true, .message_id = BUF_LIMIT(DATA_CAPTURE_MAX),
		.subject = BUF_LIMIT(DATA_CAPTURE_MAX), .tls_required = BUF_LIMIT(DATA_CAPTURE_MAX) };
}

void data_scan_clear(struct data_scan *d)
{
	buf_clear(&d->message_id);
	buf_clear(&d->subject);
	buf_clear(&d->tls_required);
}

static const struct { const char *name; uint8_t field; } field_names[] = {
	{ "Received", DATA_FIELD_RECEIVED }, { "Message-ID", DATA_FIELD_MESSAGE_ID }, { "Subject", DATA_FIELD_SUBJECT }, { "Date", DATA_FIELD_DATE },
	{ "From", DATA_FIELD_FROM }, { "Sender", DATA_FIELD_SENDER }, { "Return-path", DATA_FIELD_RETURN_PATH },
	{ "Envelope-to", DATA_FIELD_ENVELOPE_TO }, { "Delivery-date", DATA_FIELD_DELIVERY_DATE }, { "Resent-Date", DATA_FIELD_RESENT },
	{ "Resent-From", DATA_FIELD_RESENT }, { "Resent-To", DATA_FIELD_RESENT }, { "Resent-Message-ID", DATA_FIELD_RESENT },
	{ "TLS-Required", DATA_FIELD_TLS_REQUIRED },
};

static uint8_t field_of(struct str name)
{
	for (size_t i = 0; i < sizeof field_names / sizeof *field_names; i++)
		if (str_isi(name, field_names[i].name))
			return field_names[i].field;
	return DATA_FIELD_OTHER;
}

/* Remembers the start of a field's value for the log, on one line. */
static void capture(struct data_scan *d, const char *p, size_t n)
{
	struct buf *b = d->field == DATA_FIELD_MESSAGE_ID ? &d->message_id : d->field == DATA_FIELD_SUBJECT ? &d->subject :
		d->field == DATA_FIELD_TLS_REQUIRED ? &d->tls_required : NULL;

	if (!b || d->fields & 1u << (d->field + 16)) /* the first of its kind counts */
		return;
	while (n && (p[n - 1] == '\r' || p[n - 1] == '\n'))
		n--;
	if (n > DATA_CAPTURE_MAX - b->len)
		n = DATA_CAPTURE_MAX - b->len;
	buf_add(b, p, n);
}

static void scan_header_end(struct data_scan *d, bool closed, size_t with)
{
	d->in_header = false;
	d->header_closed = closed;
	d->header_size = d->kept + with;
}

/* The first octets of a line of the header: which field is it, or is the header over? The same rules as header_scan_next(). */
static void scan_header_line(struct data_scan *d, const char *p, size_t n)
{
	size_t name = 0, colon;

	if (n >= 2 && p[0] == '\r' && p[1] == '\n') {
		scan_header_end(d, true, 2);
		return;
	}
	if (n && (p[0] == ' ' || p[0] == '\t') && d->kept) {
		if (d->field != DATA_FIELD_OTHER)
			capture(d, p, n);
		return;
	}
	while (name < n && header_name_octet(p[name]))
		name++;
	for (colon = name; colon < n && (p[colon] == ' ' || p[colon] == '\t'); colon++)
		;
	if (!name || colon >= n || p[colon] != ':' || colon > HEADER_NAME_MAX) {
		scan_header_end(d, false, 0);
		return;
	}
	/* The field before is complete: a second of its kind is not captured into it. */
	if (d->field != DATA_FIELD_OTHER)
		d->fields |= 1u << (d->field + 16);
	d->field = field_of(str_make(p, name));
	d->field_size = 0;
	d->fields |= 1u << d->field;
	d->received += d->field == DATA_FIELD_RECEIVED;
	d->tls_required_n += d->field == DATA_FIELD_TLS_REQUIRED;
	capture(d, p + colon + 1, n - colon - 1);
}
_Static_assert(DATA_FIELDS <= 16, "two bits for each field");

/* Counts what is kept, and says whether it still is to be written. */
static void keep(struct data_scan *d, const char *p, size_t n, struct iovec *iov, unsigned *n_iov)
{
	d->kept += n;
	if (d->limits.size && d->kept > d->limits.size)
		d->faults |= DATA_SIZE;
	if (d->in_header) {
		for (size_t i = 0; i < n && !d->header_8bit; i++)
			d->header_8bit = (unsigned char)p[i] > 127;
		d->field_size += n;
		if (d->limits.header && d->kept > d->limits.header)
			d->faults |= DATA_HEADER_SIZE;
		if (d->limits.header_line && d->field_size > d->limits.header_line)
			d->faults |= DATA_HEADER_LINE;
	}
	if (*n_iov && (const char *)iov[*n_iov - 1].iov_base + iov[*n_iov - 1].iov_len == p)
		iov[*n_iov - 1].iov_len += n;
	else
		iov[(*n_iov)++] = (struct iovec){ (void *)(uintptr_t)p, n };
}

/* Octets over 127 and zeros, eight at a time. */
static void octets_check(struct data_scan *d, const char *p, size_t n)
{
	uint64_t high = 0, word;

	if (!n)
		return;
	if (memchr(p, 0, n))
		d->faults |= DATA_NUL;
	if (d->eightbit)
		return;
	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&word, p, 8);
		high |= word;
	}
	while (n--)
		high |= (unsigned char)*p++;
	d->eightbit = (high & 0x8080808080808080u) != 0;
}

/* A line that begins with a dot and does not end the data: is it something that others take for the end? */
static bool false_end(const struct data_scan *d, const char *p, size_t n)
{
	if (n >= 2 && p[1] == '\n')
		return true; /* "." LF, whatever came before */
	return n >= 3 && p[1] == '\r' && p[2] == '\n' && d->after_bare; /* LF "." CR LF */
}

/* CR in the middle of p[0..n), or at its end when the line goes on. */
static void line_count(struct data_scan *d, const char *p, size_t n, bool ended)
{
	size_t text = n;

	if (ended) {
		text--;
		if (text && p[text - 1] == '\r')
			text--;
		else
			d->faults |= DATA_BARE_LF;
		d->after_bare = text == n - 1;
	}
	if (memchr(p, '\r', text))
		d->faults |= DATA_BARE_CR;
	d->line += text;
	if (d->line > d->longest)
		d->longest = d->line;
}

/* At the start of a line; returns false if more octets are needed to tell. *skip_out: octets to leave out. */
static bool line_begin(struct data_scan *d, const char *p, size_t n, size_t line_len, bool complete, size_t *skip_out)
{
	*skip_out = 0;
	if (p[0] == '.' && !d->counted) {
		if (n < 2 || (p[1] == '\r' && n < 3))
			return false;
		if (p[1] == '\r' && p[2] == '\n' && !d->after_bare) {
			d->done = true;
			*skip_out = 3;
			return true;
		}
		if (false_end(d, p, n)) {
			d->faults |= DATA_FALSE_END;
			d->done = true;
			*skip_out = n;
			return true;
		}
		*skip_out = 1;
	}
	if (d->in_header) {
		if (!complete && n < DATA_LINE_HEAD && !d->ending)
			return false;
		if (d->limits.fromline && !d->kept && complete && line_len > 5 && !memcmp(p, "From ", 5)) {
			line_count(d, p, line_len, true); /* its end counts like any other */
			*skip_out = line_len;
			return true;
		}
		scan_header_line(d, p + *skip_out, line_len - *skip_out);
	}
	d->line = 0;
	d->line_start = false;
	return true;
}

size_t data_scan_take(struct data_scan *d, const char *p, size_t n, struct iovec iov[DATA_IOV_MAX], unsigned *n_iov)
{
	size_t at = 0;

	*n_iov = 0;
	while (at < n && !d->done && *n_iov < DATA_IOV_MAX) {
		const char *nl = memchr(p + at, '\n', n - at);
		size_t end = nl ? (size_t)(nl - p) + 1 : n, skip = 0;

		/* A CR that may be followed by its LF waits for it. */
		if (!nl && p[end - 1] == '\r' && !d->ending)
			end--;
		if (at == end)
			break;
		if (!d->line_start && d->in_header && d->field != DATA_FIELD_OTHER)
			capture(d, p + at, end - at);
		if (d->line_start && !line_begin(d, p + at, n - at, end - at, nl != NULL, &skip))
			break;
		at += skip;
		if (d->done)
			break;
		if (at == end)
			continue;
		line_count(d, p + at, end - at, nl != NULL);
		keep(d, p + at, end - at, iov, n_iov);
		d->line_start = nl != NULL;
		at = end;
	}
	octets_check(d, p, at);
	if (d->done && d->in_header)
		scan_header_end(d, false, 0);
	return at;
}

size_t data_scan_end(struct data_scan *d, const char *p, size_t n, struct iovec iov[DATA_IOV_MAX], unsigned *n_iov)
{
	static const char crlf[] = "\r\n";
	size_t taken;

	d->ending = true;
	taken = data_scan_take(d, p, n, iov, n_iov);
	if (taken < n)
		return taken;
	if (!d->line_start) {
		keep(d, crlf, 2, iov, n_iov);
		d->line_start = true;
	}
	d->done = true;
	if (d->in_header)
		scan_header_end(d, false, 0);
	return taken;
}
