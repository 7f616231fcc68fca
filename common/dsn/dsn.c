/* SPDX-License-Identifier: ISC */
#include "common/dsn/dsn.h"

#include <stdio.h>
#include <string.h>

#include "common/mail/address.h"
#include "common/mail/date.h"

/* ---- small parts ---- */

bool dsn_xtext_decode(struct buf *out, struct str xtext)
{
	struct arena a = ARENA_INIT;
	struct str text;
	bool ok = address_xtext_decode(&a, xtext, &text);

	for (uint32_t i = 0; ok && i < text.len; i++)
		ok = text.p[i] >= ' ' && text.p[i] <= '~';
	ok = ok && buf_add_str(out, text);
	arena_clear(&a);
	return ok;
}

bool dsn_status_valid(struct str s)
{
	struct str part;
	unsigned n = 0;
	uint64_t v;

	while (str_split(&s, '.', &part)) {
		if (!part.len || part.len > 3 || !str_u64(part, 999, &v) || (n == 0 && v != 2 && v != 4 && v != 5))
			return false;
		n++;
	}
	return n == 3;
}

struct str dsn_status_find(struct str answer)
{
	uint32_t end;

	if (answer.len < 4 || !ascii_is_digit(answer.p[0]) || !ascii_is_digit(answer.p[1]) || !ascii_is_digit(answer.p[2]) ||
		(answer.p[3] != ' ' && answer.p[3] != '-'))
		return STR_NULL;
	for (end = 4; end < answer.len && (ascii_is_digit(answer.p[end]) || answer.p[end] == '.'); end++)
		;
	answer = str_sub(answer, 4, end - 4);
	return dsn_status_valid(answer) ? answer : STR_NULL;
}

/* A stranger's octet as it may stand in a report: no controls, 8-bit only where the report may hold it. */
static char octet_clean(char c, bool utf8)
{
	unsigned char u = (unsigned char)c;

	return u < ' ' || u == 0x7f || (u > 0x7f && !utf8) ? '?' : c;
}

/* An octet of UTF-8 that begins no character. */
static bool is_inside(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* "NAME: prefix text" folded at blanks; LF in the text becomes a new line with a blank; cut at max octets. */
static void field_add(struct buf *out, const char *name, const char *prefix, struct str text, size_t max, bool utf8)
{
	size_t line, last_blank = 0, n = 0;

	utf8 = utf8 && address_utf8_valid(text);
	buf_printf(out, "%s: %s", name, prefix);
	line = out->len - strlen(name) - strlen(prefix) - 2;
	for (uint32_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (c == '\r')
			continue;
		if (n++ >= max && !is_inside(c)) {
			buf_adds(out, "[truncated]");
			break;
		}
		if (c == '\n') {
			if (i + 1 == text.len)
				break;
			buf_adds(out, "\r\n ");
			line = out->len - 1;
			last_blank = 0;
			continue;
		}
		c = c == '\t' ? ' ' : octet_clean(c, utf8);
		buf_addc(out, c);
		if (c == ' ' && out->len - 1 > line + 1)
			last_blank = out->len - 1;
		if (out->len - line > DSN_FOLD && last_blank) {
			char tail[DSN_LINE_MAX + 2];
			size_t k = out->len - last_blank; /* at most one line */

			if (k < sizeof tail) {
				memcpy(tail, out->p + last_blank, k);
				out->len = last_blank;
				buf_adds(out, "\r\n");
				line = out->len;
				buf_add(out, tail, k); /* begins with the blank */
				last_blank = 0;
			}
		}
		if (out->len - line > DSN_LINE_MAX - 32 && (i + 1 == text.len || !is_inside(text.p[i + 1]))) { /* one endless word */
			buf_adds(out, "\r\n ");
			line = out->len - 1;
			last_blank = 0;
		}
	}
	buf_adds(out, "\r\n");
}

/* Text for people: blanks instead of line ends, nothing else but printable octets, cut. */
static void text_add(struct buf *out, const char *indent, struct str text, bool utf8)
{
	size_t line = out->len;

	utf8 = utf8 && address_utf8_valid(text);
	buf_adds(out, indent);
	for (uint32_t i = 0; i < text.len && (i < 2 * DSN_EXTRA_MAX || is_inside(text.p[i])); i++) {
		char c = text.p[i];

		if (c == '\r')
			continue;
		if (c == '\n' || (c == ' ' && out->len - line > DSN_FOLD - 6) || (out->len - line > DSN_LINE_MAX - 32 && !is_inside(c))) {
			buf_adds(out, "\r\n");
			line = out->len;
			buf_adds(out, indent);
			if (c == '\n' || c == ' ')
				continue;
		}
		buf_addc(out, c == '\t' ? ' ' : octet_clean(c, utf8));
	}
	buf_adds(out, "\r\n");
}

static bool str_is_ascii(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] > 0x7f)
			return false;
	return true;
}

/* The administrator's own words for the first part are in UTF-8, and need more than ASCII. */
static bool words_are_8bit(const struct dsn_report *r)
{
	return (!str_is_ascii(r->intro) || !str_is_ascii(r->last)) && address_utf8_valid(r->intro) && address_utf8_valid(r->last);
}

/* Such words, as they stand but for what can't be sent. */
static void words_add(struct buf *out, struct str text, bool utf8)
{
	struct str line;

	while (str_split(&text, '\n', &line)) {
		size_t n = 0;

		if (!text.p && !line.len)
			break; /* behind the last line end */
		for (uint32_t i = 0; i < line.len; i++, n++) {
			if (line.p[i] == '\r')
				continue;
			if (n > DSN_LINE_MAX - 32 && ((unsigned char)line.p[i] & 0xc0) != 0x80) {
				buf_adds(out, "\r\n");
				n = 0;
			}
			buf_addc(out, line.p[i] == '\t' ? '\t' : octet_clean(line.p[i], utf8));
		}
		buf_adds(out, "\r\n");
	}
}

/* ---- what each kind of report says ---- */

static const struct kind_text {
	const char *auto_submitted, *intro[2]; /* one recipient, several */
} kind_texts[DSN_KINDS_END] = {
	[DSN_FAILED_REPORT] = { "auto-replied",
		{ "Your message could not be delivered to the recipient below. It was given up;\r\nno further attempt will be made.\r\n",
		  "Your message could not be delivered to the recipients below. It was given up for\r\nthem; no further attempt will be made.\r\n" } },
	[DSN_DELAYED_REPORT] = { "auto-replied",
		{ "Your message has not yet reached the recipient below. Nothing is lost, and you\r\n"
		  "need do nothing: delivery will be tried again. You will be told if it is given up.\r\n",
		  "Your message has not yet reached the recipients below. Nothing is lost, and you\r\n"
		  "need do nothing: delivery will be tried again. You will be told if it is given up.\r\n" } },
	[DSN_SUCCESS_REPORT] = { "auto-generated",
		{ "This is the notice of delivery that you asked for.\r\n", "This is the notice of delivery that you asked for.\r\n" } },
};

static const char *const action_words[DSN_ACTIONS_END] = {
	[DSN_ACTION_FAILED] = "failed",
	[DSN_ACTION_DELAYED] = "delayed",
	[DSN_ACTION_DELIVERED] = "delivered",
	[DSN_ACTION_RELAYED] = "relayed",
	[DSN_ACTION_EXPANDED] = "expanded",
};
static const char *const action_status[DSN_ACTIONS_END] = {
	[DSN_ACTION_FAILED] = "5.0.0",
	[DSN_ACTION_DELAYED] = "4.0.0",
	[DSN_ACTION_DELIVERED] = "2.0.0",
	[DSN_ACTION_RELAYED] = "2.0.0",
	[DSN_ACTION_EXPANDED] = "2.0.0",
};

static enum dsn_action action_of(const struct dsn_recipient *c)
{
	return c->action > 0 && c->action < DSN_ACTIONS_END ? c->action : DSN_ACTION_FAILED;
}

static enum dsn_kind kind_of(const struct dsn_report *r)
{
	return r->kind > 0 && r->kind < DSN_KINDS_END ? r->kind : DSN_FAILED_REPORT;
}

/* The boundary holds both ids and no octet that could need quoting; no content can know the report's id beforehand. */
static void boundary_add(const struct dsn_report *r, struct buf *out)
{
	for (uint32_t i = 0; i < r->own_id.len && i < 32; i++)
		buf_addc(out, ascii_is_alnum(r->own_id.p[i]) || r->own_id.p[i] == '-' ? r->own_id.p[i] : '_');
	buf_printf(out, "-dsn-%llx", (unsigned long long)(uint64_t)r->now * 2654435761u % 0xffffffffffu);
}

/* Fields that a report has already, or that would change what it is. */
static bool field_is_ours(struct str line)
{
	static const char *const names[] = { "from", "sender", "to", "cc", "bcc", "reply-to", "date", "message-id", "references", "in-reply-to", "received",
		"return-path", "auto-submitted", "mime-version", "x-failed-recipients", NULL };
	ptrdiff_t colon = str_find(line, ':');
	struct str name = str_trim(str_sub(line, 0, (size_t)colon));

	for (const char *const *n = names; *n; n++)
		if (str_isi(name, *n))
			return true;
	return str_beginsi(name, "content-") || str_beginsi(name, "resent-");
}

static bool line_is_field(struct str line)
{
	ptrdiff_t colon = str_find(line, ':');

	for (ptrdiff_t i = 0; i < colon; i++)
		if (line.p[i] <= ' ' || line.p[i] > '~')
			return false;
	return colon > 0;
}

/* Reports to addresses in ASCII have an ASCII header, so that they find a way through hosts without SMTPUTF8. */
static bool head_is_utf8(const struct dsn_report *r)
{
	return r->utf8 && (!str_is_ascii(r->to) || !str_is_ascii(r->from) || !str_is_ascii(r->reply_to));
}

/* The administrator's fields: a line that is none continues the one before it, so that no text can end the header. */
static void head_fields_add(const struct dsn_report *r, struct buf *out)
{
	struct str text = r->head, line;
	bool begun = false, skip = false;

	while (str_split(&text, '\n', &line)) {
		line = line.len && line.p[line.len - 1] == '\r' ? str_sub(line, 0, line.len - 1) : line;
		if (!str_trim(line).len)
			continue;
		if (line_is_field(line)) {
			skip = field_is_ours(line);
			begun = begun || !skip;
		} else if (!begun) {
			continue;
		}
		if (skip)
			continue;
		if (!line_is_field(line))
			buf_addc(out, ' ');
		line = line_is_field(line) ? line : str_trim(line);
		for (uint32_t i = 0; i < line.len && i < DSN_LINE_MAX - 2; i++)
			buf_addc(out, line.p[i] == '\t' ? ' ' : octet_clean(line.p[i], head_is_utf8(r)));
		buf_adds(out, "\r\n");
	}
}

static void subject_add(const struct dsn_report *r, struct buf *out)
{
	int64_t hours = (r->now - r->arrived + 1800) / 3600;

	if (r->head.len) {
		head_fields_add(r, out);
		return;
	}
	switch (kind_of(r)) {
	case DSN_DELAYED_REPORT:
		buf_printf(out, "Subject: Warning: message %.*s delayed %lld %s\r\n", STR_FMT(r->id), (long long)(hours < 1 ? 1 : hours),
			hours <= 1 ? "hour" : "hours");
		break;
	case DSN_SUCCESS_REPORT:
		buf_adds(out, "Subject: Delivery Status Notification\r\n");
		break;
	case DSN_FAILED_REPORT:
	case DSN_KINDS_END:
		buf_adds(out, "Subject: Mail delivery failed: returning message to sender\r\n");
	}
}

static void failed_add(const struct dsn_report *r, struct buf *out)
{
	size_t n = 0, line = 0;

	for (size_t i = 0; i < r->n_rcpt; i++) {
		struct str a = r->rcpt[i].addr;

		/* An address that does not fit an ASCII header is told in the parts only. */
		if (str_has_ctl(a) || a.len > DSN_LINE_MAX / 2 || (!head_is_utf8(r) && !str_is_ascii(a)))
			continue;
		if (n % DSN_FAILED_A_FIELD == 0) {
			buf_printf(out, "%sX-Failed-Recipients: ", n ? "\r\n" : "");
			line = out->len - 21;
		} else {
			buf_adds(out, ",");
			if (out->len - line + a.len > DSN_FOLD) {
				buf_adds(out, "\r\n");
				line = out->len;
			}
			buf_adds(out, " ");
		}
		buf_add_str(out, a);
		n++;
	}
	if (n)
		buf_adds(out, "\r\n");
}

static void head_add(const struct dsn_report *r, struct buf *out)
{
	char date[DATE_TEXT];

	date_format(date, r->now, false);
	buf_printf(out, "Received: by %.*s id %.*s;\r\n\t%s\r\n", STR_FMT(r->host), STR_FMT(r->own_id), date);
	if (kind_of(r) == DSN_FAILED_REPORT)
		failed_add(r, out);
	buf_printf(out, "Auto-Submitted: %s\r\n", kind_texts[kind_of(r)].auto_submitted);
	field_add(out, "From", "", r->from, DSN_LINE_MAX, r->utf8);
	if (r->reply_to.len)
		field_add(out, "Reply-To", "", r->reply_to, DSN_LINE_MAX, r->utf8);
	field_add(out, "To", "", r->to, DSN_LINE_MAX * 2, r->utf8);
	if (r->references.len)
		field_add(out, "References", "", r->references, DSN_LINE_MAX, r->utf8);
	buf_adds(out, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"");
	boundary_add(r, out);
	buf_adds(out, "\"\r\n");
	if (r->utf8 || r->eightbit || words_are_8bit(r))
		buf_adds(out, "Content-Transfer-Encoding: 8bit\r\n");
	subject_add(r, out);
	buf_printf(out, "Message-ID: <E%.*s@%.*s>\r\nDate: %s\r\n\r\n", STR_FMT(r->own_id), STR_FMT(r->host), date);
}

/* ---- the parts ---- */

static void part_begin(const struct dsn_report *r, struct buf *out, const char *type, bool eightbit)
{
	buf_adds(out, "\r\n--");
	boundary_add(r, out);
	buf_printf(out, "\r\nContent-Type: %s\r\n", type);
	if (eightbit)
		buf_adds(out, "Content-Transfer-Encoding: 8bit\r\n");
}

/* An address for people to read. */
static void address_text_add(const struct dsn_report *r, struct buf *out, const char *indent, struct str addr)
{
	struct arena a = ARENA_INIT;
	bool ascii_form = !r->utf8 && !str_is_ascii(addr) && address_utf8_valid(addr);

	text_add(out, indent, ascii_form ? address_unitext_encode(&a, addr, true) : addr, r->utf8);
	arena_clear(&a);
}

static void person_recipient_add(const struct dsn_report *r, struct buf *out, const struct dsn_recipient *c)
{
	buf_adds(out, "\r\n");
	address_text_add(r, out, "  ", c->addr);
	if (c->parent.len && !str_eq(c->parent, c->addr)) {
		buf_adds(out, "    (the message was sent to)\r\n");
		address_text_add(r, out, "    ", c->parent);
	}
	if (c->note.len)
		text_add(out, "    ", c->note, r->utf8);
	if (c->host.len)
		buf_printf(out, "    host %.*s%s%.*s%s\r\n", STR_FMT(c->host), c->ip.len ? " [" : "", STR_FMT(c->ip), c->ip.len ? "]" : "");
	if (c->error.len)
		text_add(out, "    ", c->error, r->utf8);
	else if (c->diagnostic.len)
		text_add(out, "    ", c->diagnostic, r->utf8);
}

/* What a command wrote: each line by itself, so that none of them can end the part. */
static void output_add(const struct dsn_report *r, struct buf *out, const struct dsn_recipient *c, bool first, bool utf8)
{
	struct str text = c->output, line;

	if (!r->last.len) {
		buf_adds(out, "\r\nThe following text was generated during the delivery attempt:\r\n");
	} else if (first) {
		buf_adds(out, "\r\n");
		words_add(out, r->last, utf8);
	}
	buf_adds(out, "\r\n------ ");
	address_text_add(r, out, "", c->addr);
	buf_adds(out, "\r\n");
	while (str_split(&text, '\n', &line)) {
		if (line.len && line.p[line.len - 1] == '\r')
			line.len--;
		if (line.len)
			text_add(out, "  ", line, r->utf8);
		else
			buf_adds(out, "\r\n");
	}
}

static void person_intro_add(const struct dsn_report *r, struct buf *out, bool utf8)
{
	if (r->intro.len) {
		words_add(out, r->intro, utf8);
		return;
	}
	buf_printf(out, "This report was written by the mail system at %.*s.\r\n\r\n", STR_FMT(r->host));
	buf_adds(out, kind_texts[kind_of(r)].intro[r->n_rcpt > 1]);
	if (r->text.len) {
		buf_adds(out, "\r\n");
		text_add(out, "", r->text, r->utf8);
	}
}

static void person_part_add(const struct dsn_report *r, struct buf *out)
{
	bool utf8 = r->utf8 || words_are_8bit(r), first = true;
	char date[DATE_TEXT];

	part_begin(r, out, utf8 ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii", utf8);
	buf_adds(out, "\r\n");
	person_intro_add(r, out, utf8);
	for (size_t i = 0; i < r->n_rcpt; i++)
		person_recipient_add(r, out, &r->rcpt[i]);
	for (size_t i = 0; i < r->n_rcpt; i++)
		if (r->rcpt[i].output.len) {
			output_add(r, out, &r->rcpt[i], first, utf8);
			first = false;
		}
	if (kind_of(r) == DSN_DELAYED_REPORT && r->last.len) {
		buf_adds(out, "\r\n");
		words_add(out, r->last, utf8);
	}
	if (r->intro.len)
		return;
	date_format(date, r->arrived, false);
	buf_printf(out, "\r\nThe message has the id %.*s here and came in on\r\n%s.\r\n", STR_FMT(r->id), date);
}

/* In ASCII reports an address that is not ASCII has the form of RFC 6533 for those (utf-8-addr-xtext). */
static void address_field_add(const struct dsn_report *r, struct buf *out, const char *name, struct str addr)
{
	struct arena a = ARENA_INIT;

	if (str_is_ascii(addr) || !address_utf8_valid(addr))
		field_add(out, name, str_is_ascii(addr) ? "rfc822;" : "unknown;", addr, DSN_DIAGNOSTIC_MAX, false);
	else
		field_add(out, name, "utf-8;", r->utf8 ? addr : address_unitext_encode(&a, addr, true), DSN_DIAGNOSTIC_MAX, r->utf8);
	arena_clear(&a);
}

/* ORCPT decoded; where that gives what can't stand here, as it was received. */
static void original_add(const struct dsn_report *r, struct buf *out, struct str orcpt)
{
	ptrdiff_t semicolon = str_find(orcpt, ';');
	struct buf text = BUF_LIMIT(2 * DSN_LINE_MAX);
	struct arena a = ARENA_INIT;
	struct str addr;

	if (semicolon <= 0)
		return;
	buf_add(&text, orcpt.p, (size_t)semicolon + 1);
	if (str_beginsi(orcpt, "utf-8;") && address_unitext_decode(&a, str_from(orcpt, 6), &addr))
		buf_add_str(&text, r->utf8 ? address_unitext_encode(&a, addr, false) : address_unitext_encode(&a, addr, true));
	else if (!dsn_xtext_decode(&text, str_from(orcpt, (size_t)semicolon + 1)))
		buf_add_str(&text, str_from(orcpt, (size_t)semicolon + 1));
	field_add(out, "Original-Recipient", "", buf_str(&text), DSN_DIAGNOSTIC_MAX, r->utf8);
	arena_clear(&a);
	buf_clear(&text);
}

static void extra_add(const struct dsn_report *r, struct buf *out, const struct dsn_recipient *c)
{
	char port[16] = "";

	if (!r->extra)
		return;
	if (c->ip.len) {
		struct buf ip = BUF_LIMIT(128);

		if (c->port && c->port != 25)
			snprintf(port, sizeof port, ":%u", c->port);
		buf_printf(&ip, "[%.*s]%s", STR_FMT(c->ip), port);
		field_add(out, "Remote-MTA", "X-ip; ", buf_str(&ip), DSN_EXTRA_MAX, false);
		buf_clear(&ip);
	}
	if (c->greeting.len)
		field_add(out, "X-Remote-MTA-smtp-greeting", "X-str; ", c->greeting, DSN_EXTRA_MAX, r->utf8);
	if (c->helo.len)
		field_add(out, "X-Remote-MTA-helo-response", "X-str; ", c->helo, DSN_EXTRA_MAX, r->utf8);
	if (c->error.len)
		field_add(out, "X-Exim-Diagnostic", "X-str; ", c->error, DSN_EXTRA_MAX, r->utf8);
}

static void status_recipient_add(const struct dsn_report *r, struct buf *out, const struct dsn_recipient *c)
{
	enum dsn_action action = action_of(c);
	struct str status = c->status;

	if (!dsn_status_valid(status))
		status = dsn_status_find(c->diagnostic);
	/* 2.x.x in a failure, or 5.x.x in a delay, would contradict the action. */
	if (!status.len || (status.p[0] == '2') != (action_status[action][0] == '2') || (action == DSN_ACTION_DELAYED && status.p[0] == '5'))
		status = str_of(action_status[action]);
	buf_adds(out, "\r\n");
	original_add(r, out, c->orcpt);
	address_field_add(r, out, "Final-Recipient", c->addr);
	buf_printf(out, "Action: %s\r\nStatus: %.*s\r\n", action_words[action], STR_FMT(status));
	if (c->host.len)
		field_add(out, "Remote-MTA", "dns; ", c->host, 255, false);
	if (kind_of(r) != DSN_SUCCESS_REPORT)
		extra_add(r, out, c);
	if (c->diagnostic.len)
		field_add(out, "Diagnostic-Code", "smtp; ", c->diagnostic, DSN_DIAGNOSTIC_MAX, r->utf8);
	if (action == DSN_ACTION_DELAYED && c->retry_until) {
		char date[DATE_TEXT];

		date_format(date, c->retry_until, false);
		buf_printf(out, "Will-Retry-Until: %s\r\n", date);
	}
}

/* RFC 6533's type where it is needed: its fields may hold UTF-8. */
static bool status_is_utf8(const struct dsn_report *r)
{
	for (size_t i = 0; r->utf8 && i < r->n_rcpt; i++) {
		const struct dsn_recipient *c = &r->rcpt[i];

		if (!str_is_ascii(c->addr) || str_beginsi(c->orcpt, "utf-8;") || !str_is_ascii(c->diagnostic) ||
			(r->extra && (!str_is_ascii(c->greeting) || !str_is_ascii(c->helo) || !str_is_ascii(c->error))))
			return true;
	}
	return false;
}

static void status_part_add(const struct dsn_report *r, struct buf *out)
{
	bool utf8 = status_is_utf8(r);
	char date[DATE_TEXT];

	part_begin(r, out, utf8 ? "message/global-delivery-status" : "message/delivery-status", utf8);
	buf_adds(out, "\r\n");
	field_add(out, "Reporting-MTA", "dns; ", r->host, 255, false);
	if (r->envid.len) {
		struct buf envid = BUF_LIMIT(1024);

		if (!dsn_xtext_decode(&envid, r->envid))
			buf_add_str(&envid, r->envid);
		field_add(out, "Original-Envelope-Id", "", buf_str(&envid), DSN_LINE_MAX, false);
		buf_clear(&envid);
	}
	date_format(date, r->arrived, false);
	buf_printf(out, "Arrival-Date: %s\r\n", date);
	for (size_t i = 0; i < r->n_rcpt; i++)
		status_recipient_add(r, out, &r->rcpt[i]);
}

bool dsn_report_begin(const struct dsn_report *r, struct buf *out, size_t *header_out)
{
	size_t before = out->len;
	bool all = r->what == DSN_RETURN_ALL;

	head_add(r, out);
	if (header_out)
		*header_out = out->len - before;
	person_part_add(r, out);
	status_part_add(r, out);
	if (r->utf8 && r->header_8bit)
		part_begin(r, out, all ? "message/global" : "message/global-headers", true);
	else
		part_begin(r, out, all ? "message/rfc822" : "text/rfc822-headers", r->eightbit);
	if (r->limited)
		buf_adds(out, "X-Exim-DSN-Information: Due to administrative limits only headers are returned\r\n");
	buf_adds(out, "\r\n");
	return !out->full;
}

bool dsn_report_end(const struct dsn_report *r, struct buf *out)
{
	buf_adds(out, "\r\n--");
	boundary_add(r, out);
	buf_adds(out, "--\r\n");
	return !out->full;
}

bool dsn_header_add(struct buf *out, struct str header, size_t limit)
{
	struct str line;

	while (str_split(&header, '\n', &line)) {
		if (line.len && line.p[line.len - 1] == '\r')
			line.len--;
		if (!line.len)
			break;
		buf_add_str(out, limit ? str_sub(line, 0, limit) : line);
		buf_adds(out, "\r\n");
	}
	return !out->full;
}
