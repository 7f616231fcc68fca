/* SPDX-License-Identifier: ISC */
/* exim_format.c - a message as Exim 4.96 keeps it in its spool: ID-H and ID-D (its specification, chapter 57). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/enums.h"
#include "common/mail/edit.h"
#include "common/mail/header.h"
#include "queuefile/queuefile.h"

enum { CHUNK = 64 * 1024, HEADER_MAX = 8 * 1024 * 1024 };

/* ---- the body ---- */

static enum status content_read(const struct handover *h, uint64_t at, char *p, size_t n, struct err *err)
{
	while (n) {
		ssize_t got = pread(h->fd, p, n, (off_t)(h->msg->offset + at));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_set(err, ST_DEFER, "read the message: %s", strerror(got ? errno : EIO));
		p += got;
		at += (uint64_t)got;
		n -= (size_t)got;
	}
	return ST_OK;
}

/* CRLF becomes LF; *cr carries a CR over the end of a chunk. Returns the new length. */
static size_t lines_unix(char *p, size_t n, bool *cr, struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		if (*cr && p[i] != '\n')
			buf_addc(out, '\r');
		*cr = p[i] == '\r';
		if (!*cr)
			buf_addc(out, p[i]);
	}
	return out->len;
}

enum status exim_body_write(const struct handover *h, int out_fd, struct err *err)
{
	char *room = arena_alloc(h->arena, CHUNK);
	struct buf out = BUF_INIT;
	uint64_t at = h->msg->header_size;
	bool cr = false;
	enum status st = ST_OK;

	buf_printf(&out, "%.*s-D\n", STR_FMT(h->msg->id));
	while (st == ST_OK && at < h->msg->content) {
		size_t n = h->msg->content - at < CHUNK ? (size_t)(h->msg->content - at) : CHUNK;

		st = content_read(h, at, room, n, err);
		if (st != ST_OK)
			break;
		at += n;
		lines_unix(room, n, &cr, &out);
		st = out_add(out_fd, out.p, out.len, err);
		buf_reset(&out);
	}
	if (st == ST_OK && cr)
		buf_addc(&out, '\r');
	if (st == ST_OK)
		st = out_add(out_fd, out.p ? out.p : "", out.len, err);
	buf_clear(&out);
	return st;
}

struct body_facts {
	uint64_t lines, zeros;
};

static enum status body_count(const struct handover *h, struct body_facts *out, struct err *err)
{
	char *room = arena_alloc(h->arena, CHUNK);
	uint64_t at = h->msg->header_size;

	*out = (struct body_facts){ 0, 0 };
	while (at < h->msg->content) {
		size_t n = h->msg->content - at < CHUNK ? (size_t)(h->msg->content - at) : CHUNK;

		if (content_read(h, at, room, n, err) != ST_OK)
			return err->status;
		at += n;
		for (size_t i = 0; i < n; i++) {
			out->lines += room[i] == '\n';
			out->zeros += room[i] == 0;
		}
	}
	return ST_OK;
}

/* ---- the lines with a hyphen ---- */

/* One line: what would begin another is left out. */
static void fact_text(struct buf *out, const char *name, struct str value)
{
	if (!value.len)
		return;
	buf_printf(out, "-%s ", name);
	for (uint32_t i = 0; i < value.len; i++)
		if (value.p[i] != '\n' && value.p[i] != 0)
			buf_addc(out, value.p[i]);
	buf_addc(out, '\n');
}

static void fact_address(struct buf *out, const char *name, struct str ip, uint64_t port)
{
	if (ip.len)
		buf_printf(out, "-%s [%.*s]:%llu\n", name, STR_FMT(ip), (unsigned long long)port);
}

static void facts_acl(struct buf *out, char letter, const struct ipc_pair *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct str name = v[i].name;

		if (name.len > 1 && name.p[0] == letter) /* acl_m_x is "_x" in m's list */
			name = str_from(name, 1);
		if (str_has_ctl(name) || str_find(name, ' ') >= 0)
			continue;
		buf_printf(out, "-%sacl%c %.*s %u\n", v[i].tainted ? "-" : "", letter, STR_FMT(name), v[i].value.len);
		buf_add_str(out, v[i].value);
		buf_addc(out, '\n');
	}
}

static struct str pair_find(const struct ipc_pair *v, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (str_is(v[i].name, name))
			return v[i].value;
	return STR_NULL;
}

static void facts_tls(struct buf *out, const struct ipc_facts *f)
{
	static const struct { const char *fact, *name; } rows[] = {
		{ "cipher", "tls_cipher" }, { "peerdn", "-tls_peerdn" }, { "sni", "-tls_sni" }, { "ver", "tls_ver" }, { "ocsp", "tls_ocsp" },
		{ "resumption", "tls_resumption" },
	};

	if (str_is(pair_find(f->tls, f->n_tls, "certificate_verified"), "1"))
		buf_adds(out, "-tls_certificate_verified\n");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		fact_text(out, rows[i].name, pair_find(f->tls, f->n_tls, rows[i].fact));
}

static void facts_message(const struct handover *h, const struct body_facts *body, struct buf *out)
{
	const struct ipc_deliver *m = h->msg;

	buf_printf(out, "-body_linecount %llu\n", (unsigned long long)body->lines);
	if (body->zeros)
		buf_printf(out, "-body_zerocount %llu\n", (unsigned long long)body->zeros);
	buf_printf(out, "-max_received_linelength %llu\n", (unsigned long long)m->longest_line);
	buf_adds(out, "-deliver_firsttime\n");
	if (m->flags & MSG_LOCAL)
		buf_adds(out, "-local\n");
	if (m->flags & MSG_BOUNCE)
		buf_adds(out, "-localerror\n");
	fact_text(out, "dsn_envid", m->envid);
	if (m->ret.len)
		buf_printf(out, "-dsn_ret %d\n", str_isi(m->ret, "HDRS") ? 2 : 1);
	if (m->flags & MSG_SMTPUTF8)
		buf_adds(out, "-smtputf8\n");
}

static void facts_add(const struct handover *h, const struct ipc_facts *f, const struct body_facts *body, struct buf *out)
{
	buf_printf(out, "-received_time_usec .%06lld\n", (long long)(f->received_us > 0 ? f->received_us % 1000000 : 0));
	fact_text(out, "-helo_name", f->helo);
	fact_address(out, "-host_address", f->client_ip, f->client_port);
	fact_text(out, "-host_name", f->client_name);
	if (f->name_looked && !f->client_name.len)
		buf_adds(out, "-host_lookup_failed\n");
	fact_text(out, "host_auth", f->auth_method);
	fact_text(out, "-auth_id", f->auth_id);
	fact_text(out, "-auth_sender", f->auth_sender);
	fact_address(out, "-interface_address", f->client_ip.len ? f->server_ip : STR_NULL, f->server_port);
	fact_text(out, "-ident", f->ident);
	fact_text(out, "received_protocol", f->protocol);
	facts_acl(out, 'c', f->acl_c, f->n_acl_c);
	facts_acl(out, 'm', f->acl_m, f->n_acl_m);
	facts_tls(out, f);
	fact_text(out, "bmi_verdicts", pair_find(f->results, f->n_results, "bmi_verdicts"));
	facts_message(h, body, out);
}

/* ---- recipients ---- */

/* Exim's bits: never 2, success 4, failure 8, delay 16. */
static unsigned notify_bits(uint64_t notify)
{
	return (notify & DSN_NEVER ? 2 : 0) | (notify & DSN_SUCCESS ? 4 : 0) | (notify & DSN_FAILURE ? 8 : 0) | (notify & DSN_DELAY ? 16 : 0);
}

static bool line_has(struct str lines, struct str addr)
{
	struct str line, first;

	while (str_split(&lines, '\n', &line))
		if (str_split(&line, ' ', &first) && str_eq(first, addr))
			return true;
	return false;
}

static enum status recipients_add(const struct handover *h, const struct ipc_facts *f, struct str old, struct buf *out, struct err *err)
{
	const struct ipc_deliver *m = h->msg;
	struct str errors_to = f->has_sender && !str_eq(m->sender, f->sender) ? m->sender : STR_NULL, rest = old, line;
	struct buf lines = BUF_INIT;
	uint32_t n = 0;

	while (str_split(&rest, '\n', &line))
		if (line.len) {
			buf_printf(&lines, "%.*s\n", STR_FMT(line));
			n++;
		}
	for (uint32_t i = 0; i < m->n_recipients; i++) {
		const struct ipc_recipient *r = &m->recipients[i];
		struct str addr = r->addr, orcpt = str_has_ctl(r->orcpt) || str_find(r->orcpt, ' ') >= 0 ? STR_NULL : r->orcpt;

		if (str_has_ctl(addr)) {
			buf_clear(&lines);
			return err_set(err, ST_DEFER, "write recipients: an address has control characters");
		}
		if (line_has(old, addr))
			continue;
		n++;
		buf_add_str(&lines, addr);
		if (r->notify || orcpt.len || errors_to.len)
			buf_printf(&lines, " %.*s %u,%u %.*s %u,-1#3", STR_FMT(orcpt), orcpt.len, notify_bits(r->notify), STR_FMT(errors_to), errors_to.len);
		buf_addc(&lines, '\n');
	}
	buf_printf(out, "XX\n%u\n", n);
	buf_add(out, lines.p ? lines.p : "", lines.len);
	buf_addc(out, '\n');
	buf_clear(&lines);
	return ST_OK;
}

enum status exim_recipients_find(struct str header, struct str *lines_out, struct err *err)
{
	ptrdiff_t at = str_find_str(header, STR_LIT("\nXX\n"));
	struct str rest, line;
	const char *from;
	uint64_t n;

	if (at < 0)
		return err_set(err, ST_FAIL, "no list of finished recipients");
	rest = str_from(header, (size_t)at + 4);
	if (!str_split(&rest, '\n', &line) || !str_u64(line, 1000000, &n))
		return err_set(err, ST_FAIL, "no number of recipients");
	from = rest.p;
	for (uint64_t i = 0; i < n; i++)
		if (!str_split(&rest, '\n', &line) || !line.len)
			return err_set(err, ST_FAIL, "fewer recipients than it says");
	*lines_out = str_make(from, n ? (size_t)(line.p + line.len - from) : 0);
	return ST_OK;
}

/* ---- the header ---- */

static char field_letter(struct str name)
{
	static const struct { const char *name; char letter; } letters[] = {
		{ "Bcc", 'B' }, { "Cc", 'C' }, { "From", 'F' }, { "Message-ID", 'I' }, { "Received", 'P' }, { "Reply-To", 'R' }, { "Sender", 'S' },
		{ "To", 'T' },
	};

	for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
		if (str_isi(name, letters[i].name))
			return letters[i].letter;
	return ' ';
}

static enum status fields_add(const struct handover *h, struct buf *out, struct err *err)
{
	const struct ipc_deliver *m = h->msg;
	struct edit_input in = { .edits = m->edits, .n_edits = m->n_edits, .fd = h->fd, .offset = m->offset, .header_size = m->header_size,
		.flags = m->flags };
	struct header_field field;
	struct header_scan scan;
	struct str text;
	enum status st = edit_text(&in, h->arena, &text, err);

	if (st != ST_OK)
		return err_set(err, ST_DEFER, "read the message: %s", (str_of(err->text).len ? err->text : "?"));
	header_scan_init(&scan, text);
	while (header_scan_next(&scan, &field)) {
		struct buf one = BUF_INIT;
		bool cr = false;

		lines_unix((char *)(uintptr_t)field.raw.p, field.raw.len, &cr, &one);
		if (!one.len || one.p[one.len - 1] != '\n')
			buf_addc(&one, '\n');
		buf_printf(out, "%03zu%c ", one.len, field_letter(field.name));
		buf_add(out, one.p, one.len);
		buf_clear(&one);
	}
	return out->len > HEADER_MAX ? err_set(err, ST_DEFER, "the header is too large") : ST_OK;
}

enum status exim_header_make(const struct handover *h, struct str recipients_old, struct buf *out, struct err *err)
{
	static const struct ipc_facts none;
	const struct ipc_facts *f = h->msg->facts ? h->msg->facts : &none;
	bool from_here = f->local && f->uid && f->gid && f->ident.len && !str_has_ctl(f->ident) && str_find(f->ident, ' ') < 0;
	struct str sender = f->has_sender ? f->sender : h->msg->sender;
	struct body_facts body;
	enum status st = body_count(h, &body, err);

	if (st != ST_OK)
		return st;
	buf_printf(out, "%.*s-H\n", STR_FMT(h->msg->id));
	if (from_here)
		buf_printf(out, "%.*s %llu %llu\n", STR_FMT(f->ident), (unsigned long long)f->uid - 1, (unsigned long long)f->gid - 1);
	else
		buf_printf(out, "%s %u %u\n", h->login, (unsigned)geteuid(), (unsigned)getegid());
	if (str_has_ctl(sender))
		return err_set(err, ST_DEFER, "write the sender: it has control characters");
	buf_printf(out, "<%.*s>\n%lld 0\n", STR_FMT(sender), (long long)h->msg->received);
	facts_add(h, f, &body, out);
	st = recipients_add(h, f, recipients_old, out, err);
	return st == ST_OK ? fields_add(h, out, err) : st;
}
