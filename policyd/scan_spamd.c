/* SPDX-License-Identifier: ISC */
/* SpamAssassin's spamd, and rspamd in the dialect of that protocol which Exim speaks. */
#include "policyd/scan.h"

#include <string.h>

enum { SCORE_MAX = 1000000000 /* thousandths */ };

/* ---- answers ---- */

/* "-3.46" in thousandths; behind it blanks are taken, too. */
static bool score_take(struct str *s, int64_t *out)
{
	int64_t n = 0, unit = 1000;
	bool minus, digits = false, point = false;

	*s = str_trim(*s);
	minus = str_begins(*s, "-");
	if (minus)
		*s = str_from(*s, 1);
	for (; s->len; *s = str_from(*s, 1)) {
		char c = s->p[0];

		if (c == '.' && !point) {
			point = true;
			continue;
		}
		if (!ascii_is_digit(c))
			break;
		digits = true;
		if (point)
			unit /= 10;
		n = point ? n + (c - '0') * unit : n * 10 + (c - '0') * 1000;
		if (n > SCORE_MAX)
			return false;
	}
	*s = str_trim(*s);
	*out = minus ? -n : n;
	return digits;
}

/* "SCORE / THRESHOLD", and for rspamd a third number, which is not used. */
static bool scores_read(struct arena *a, struct str text, struct lang_scan_answer *out)
{
	int64_t score, threshold, tenths;

	if (!score_take(&text, &score) || !str_begins(text, "/"))
		return false;
	text = str_from(text, 1);
	if (!score_take(&text, &threshold) || (text.len && text.p[0] != '/'))
		return false;
	out->found = score >= threshold;
	out->score_int = score / 100;
	tenths = (score + (score < 0 ? -50 : 50)) / 100;
	out->score = str_printf(a, "%s%lld.%lld", tenths < 0 ? "-" : "", (long long)(tenths < 0 ? -tenths : tenths) / 10,
		(long long)(tenths < 0 ? -tenths : tenths) % 10);
	return true;
}

/* Fit for a header field: line ends are LF with a blank behind, none at the end. */
static struct str report_make(struct arena *a, struct str text)
{
	struct buf b = BUF_LIMIT(SCAN_REPORT_MAX);
	struct str out;

	while (text.len && ascii_is_space(text.p[text.len - 1]))
		text.len--;
	for (uint32_t i = 0; i < text.len && b.len + 2 <= SCAN_REPORT_MAX; i++) {
		if (text.p[i] != '\r' && text.p[i] != '\0')
			buf_addc(&b, text.p[i]);
		if (text.p[i] == '\n')
			buf_addc(&b, ' ');
	}
	out = str_dup(a, buf_str(&b));
	buf_clear(&b);
	return out;
}

static struct str line_take(struct str *rest)
{
	struct str line = STR_NULL;

	if (str_split(rest, '\n', &line) && line.len && line.p[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* The value behind "Name:", or false. */
static bool field_value(struct str line, const char *name, struct str *out)
{
	size_t n = strlen(name);

	if (!str_beginsi(line, name) || line.len <= n || line.p[n] != ':')
		return false;
	*out = str_trim(str_from(line, n + 1));
	return true;
}

/* "SPAMD/1.1 0 EX_OK" */
static enum status first_line(struct str line, const char *protocol, struct err *err)
{
	ptrdiff_t blank = str_find(line, ' ');
	struct str rest = blank < 0 ? STR_NULL : str_trim(str_from(line, (size_t)blank));

	if (!str_begins(line, protocol) || !str_begins(rest, "0 "))
		return err_set(err, ST_DEFER, "cannot parse its answer \"%.*s\"", STR_FMT(str_sub(line, 0, 200)));
	return ST_OK;
}

static enum status no_score(struct err *err) { return err_set(err, ST_DEFER, "cannot parse its answer: there is no score"); }

/* Fields, one of them "Spam: True ; 15.1 / 5.0"; an empty line; the report. */
static enum status spamd_read(struct arena *a, struct str rest, struct lang_scan_answer *out, struct err *err)
{
	struct str line, value;
	bool scored = false;

	while ((line = line_take(&rest)).len) {
		ptrdiff_t semicolon = field_value(line, "Spam", &value) ? str_find(value, ';') : -1;

		if (!scored && semicolon >= 0)
			scored = scores_read(a, str_from(value, (size_t)semicolon + 1), out);
	}
	out->report = report_make(a, rest);
	out->action = out->found ? STR_LIT("reject") : STR_LIT("no action");
	return scored ? ST_OK : no_score(err);
}

/* "Metric: default; True; 15.1 / 5.0 / 7.0", perhaps behind fields and an empty line; what follows is the report, and says "Action:". */
static enum status rspamd_read(struct arena *a, struct str rest, struct lang_scan_answer *out, struct err *err)
{
	struct str value = STR_NULL;
	ptrdiff_t semicolon;

	while (rest.len && !value.len)
		field_value(line_take(&rest), "Metric", &value);
	semicolon = str_rfind(value, ';');
	if (semicolon < 0 || !scores_read(a, str_from(value, (size_t)semicolon + 1), out))
		return no_score(err);
	out->report = report_make(a, rest);
	while (rest.len && !out->action.len)
		field_value(line_take(&rest), "Action", &out->action);
	out->action = str_dup(a, out->action);
	return ST_OK;
}

enum status scan_spamd_read(struct arena *a, struct str text, bool rspamd, struct lang_scan_answer *out, struct err *err)
{
	struct str line = line_take(&text);

	if (first_line(line, rspamd ? "RSPAMD/" : "SPAMD/", err))
		return err->status;
	return (rspamd ? rspamd_read : spamd_read)(a, text, out, err);
}

/* ---- questions ---- */

/* Strangers' words can't end the line. */
static void field_add(struct buf *b, const char *name, struct str value)
{
	buf_printf(b, "%s: ", name);
	for (uint32_t i = 0; i < value.len; i++)
		buf_addc(b, (unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f ? '?' : value.p[i]);
	buf_adds(b, "\r\n");
}

static enum status question_ask(struct scan_talk *t, struct buf *b, struct str *answer, struct err *err)
{
	struct err ignored = ERR_INIT;
	enum status st;

	buf_printf(b, "Content-length: %llu\r\n\r\n", (unsigned long long)(t->content.head.len + t->content.len));
	st = b->full ? err_set(err, ST_ERROR, "the question is too long") : scan_send(t, buf_str(b), err);
	buf_clear(b);
	if (!st)
		st = scan_send_content(t, false, err);
	if (st == ST_FAIL && scan_read_all(t, false, answer, &ignored) == ST_OK)
		return ST_OK;
	return st ? st : scan_read_all(t, false, answer, err);
}

enum status scan_spamd(struct scan_talk *t, struct lang_scan_answer *out, struct err *err)
{
	struct buf b = BUF_LIMIT(65536);
	struct str answer;
	enum status st;

	buf_adds(&b, "REPORT SPAMC/1.2\r\n");
	field_add(&b, "User", t->ask->user);
	st = question_ask(t, &b, &answer, err);
	return st ? st : scan_spamd_read(t->arena, answer, false, out, err);
}

enum status scan_rspamd(struct scan_talk *t, struct lang_scan_answer *out, struct err *err)
{
	const struct ipc_facts *f = t->ask->ev->facts;
	struct buf b = BUF_LIMIT(262144);
	struct str answer;
	enum status st;

	buf_adds(&b, "CHECK RSPAMC/1.3\r\n");
	field_add(&b, "Queue-Id", f->message_id);
	field_add(&b, "From", str_printf(t->arena, "<%.*s>", STR_FMT(f->sender)));
	buf_printf(&b, "Recipient-Number: %u\r\n", f->recipients.n);
	for (uint32_t i = 0; i < f->recipients.n; i++)
		field_add(&b, "Rcpt", str_printf(t->arena, "<%.*s>", STR_FMT(f->recipients.v[i])));
	if (f->helo.len)
		field_add(&b, "Helo", f->helo);
	if (t->ask->ev->client_name.len)
		field_add(&b, "Hostname", t->ask->ev->client_name);
	if (f->client_ip.len)
		field_add(&b, "IP", f->client_ip);
	if (f->auth_id.len)
		field_add(&b, "User", f->auth_id);
	st = question_ask(t, &b, &answer, err);
	return st ? st : scan_spamd_read(t->arena, answer, true, out, err);
}
