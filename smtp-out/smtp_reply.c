/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_reply.h"

#include <string.h>

static enum smtp_reply_state reply_bad(struct smtp_reply *r, const char *why)
{
	r->why = why;
	return SMTP_REPLY_BAD;
}

static void reply_start(struct smtp_reply *r)
{
	buf_reset(&r->text);
	r->last = 0;
	r->code = 0;
	r->lines = 0;
	r->why = NULL;
}

/* Keeps the line for the log and reports: one line, printable. */
static void reply_keep(struct smtp_reply *r, struct str line)
{
	size_t start;

	if (r->text.len + line.len + 1 > SMTP_REPLY_TEXT_MAX)
		return;
	if (r->text.len)
		buf_addc(&r->text, '\n');
	start = r->text.len;
	r->last = (uint32_t)start;
	buf_add_str(&r->text, line);
	for (size_t i = start; i < r->text.len; i++)
		if ((unsigned char)r->text.p[i] < ' ' || r->text.p[i] == 0x7f)
			r->text.p[i] = r->text.p[i] == '\t' ? ' ' : '?';
}

/* One line, its end taken off. */
static enum smtp_reply_state reply_take(struct smtp_reply *r, struct str line)
{
	unsigned code;

	if (line.len && line.p[line.len - 1] == '\r')
		line.len--;
	if (!line.len)
		return reply_bad(r, "an empty line");
	if (r->lines >= SMTP_REPLY_LINES_MAX)
		return reply_bad(r, "more than 128 lines");
	reply_keep(r, line);
	if (line.len < 3 || !ascii_is_digit(line.p[0]) || !ascii_is_digit(line.p[1]) || !ascii_is_digit(line.p[2]))
		return reply_bad(r, "no code at the start");
	if (line.len > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return reply_bad(r, "no blank or hyphen behind the code");
	code = (unsigned)(line.p[0] - '0') * 100 + (unsigned)(line.p[1] - '0') * 10 + (unsigned)(line.p[2] - '0');
	if (code < 200 || code > 599)
		return reply_bad(r, "a code out of range");
	if (r->lines && code != r->code)
		return reply_bad(r, "different codes in one reply");
	r->code = (uint16_t)code;
	r->lines++;
	return line.len > 3 && line.p[3] == '-' ? SMTP_REPLY_MORE : SMTP_REPLY_DONE;
}

enum smtp_reply_state smtp_reply_read(struct smtp_reply *r, const char *p, size_t n, size_t *used_out)
{
	size_t used = 0;

	if (r->why)
		return SMTP_REPLY_BAD;
	while (used < n) {
		const char *from = p + used, *lf = memchr(from, '\n', n - used);
		size_t len = lf ? (size_t)(lf - from) : n - used;
		enum smtp_reply_state state;

		*used_out = used += len + (lf != NULL);
		if (!r->lines && !r->line.len)
			reply_start(r);
		if (r->line.len + len > SMTP_REPLY_LINE_MAX) {
			reply_keep(r, str_sub(r->line.len ? buf_str(&r->line) : str_make(from, len), 0, 60));
			return reply_bad(r, "a line of more than 2048 octets");
		}
		if (!lf) {
			buf_add(&r->line, from, len);
			return SMTP_REPLY_MORE;
		}
		if (r->line.len) {
			buf_add(&r->line, from, len);
			state = reply_take(r, buf_str(&r->line));
			buf_reset(&r->line);
		} else {
			state = reply_take(r, str_make(from, len));
		}
		if (state == SMTP_REPLY_DONE)
			r->lines = 0;
		if (state != SMTP_REPLY_MORE)
			return state;
	}
	*used_out = used;
	return SMTP_REPLY_MORE;
}

struct str smtp_reply_status(const struct smtp_reply *r)
{
	struct str s = str_from(buf_str(&r->text), r->last + 4);
	uint32_t i = 0, digits = 0, dots = 0;

	for (; i < s.len && i < 10; i++) {
		if (ascii_is_digit(s.p[i])) {
			if (++digits > 3)
				return STR_NULL;
		} else if (s.p[i] == '.' && digits && dots < 2) {
			dots++;
			digits = 0;
		} else {
			break;
		}
	}
	if (dots != 2 || !digits || (i < s.len && s.p[i] != ' ') || s.p[1] != '.' || s.p[0] != r->code / 100 + '0')
		return STR_NULL;
	return str_sub(s, 0, i);
}

bool smtp_reply_line(const struct smtp_reply *r, size_t *at, struct str *line_out)
{
	struct str rest = str_from(buf_str(&r->text), *at);
	ptrdiff_t lf;

	if (!rest.len)
		return false;
	lf = str_find(rest, '\n');
	if (lf >= 0)
		rest.len = (uint32_t)lf;
	*at += rest.len + (lf >= 0);
	*line_out = str_from(rest, 4);
	return true;
}

bool smtp_reply_is_partial(const struct smtp_reply *r)
{
	return r->lines || r->line.len;
}

void smtp_reply_clear(struct smtp_reply *r)
{
	buf_clear(&r->line);
	buf_clear(&r->text);
	reply_start(r);
}
