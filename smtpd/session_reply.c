/* SPDX-License-Identifier: ISC */
/* Replies: lines with code and enhanced code; the counting of errors. */
#include <stdio.h>
#include <string.h>

#include "smtpd/session_priv.h"

enum {
	REPLY_LINE = 480, /* octets of text in a line; RFC 5321 section 4.5.3.1.5 gives 512 to the whole */
	REPLY_MAX = 16384,
};

/* "2.1.0 " in front: RFC 2034. */
static size_t enhanced_len(struct str text)
{
	size_t i = 0;

	for (int part = 0; part < 3; part++) {
		size_t digits = 0;

		while (i < text.len && ascii_is_digit(text.p[i]) && digits < 3) {
			i++;
			digits++;
		}
		if (!digits || (part == 0 && (digits != 1 || !strchr("245", text.p[0]))))
			return 0;
		if (part < 2 && (i >= text.len || text.p[i++] != '.'))
			return 0;
	}
	return i == text.len || text.p[i] == ' ' ? i : 0;
}

bool reply_has_enhanced(struct str text)
{
	return enhanced_len(text) > 0;
}

static void line_put(struct buf *b, unsigned code, bool more, struct str esc, struct str text)
{
	buf_printf(b, "%03u%c%.*s%s", code, more ? '-' : ' ', STR_FMT(esc), esc.len && text.len ? " " : "");
	for (size_t i = 0; i < text.len; i++)
		buf_addc(b, (unsigned char)text.p[i] < 32 || text.p[i] == 127 ? ' ' : text.p[i]);
	buf_adds(b, "\r\n");
}

void reply(struct session *s, unsigned code, const char *esc, struct str text)
{
	struct buf b = BUF_LIMIT(REPLY_MAX);
	struct str own = str_of(esc), line;
	size_t n = enhanced_len(text);
	bool single = (s->flags & MSG_NO_MULTILINE) && code >= 400;

	if (n) {
		own = str_sub(text, 0, n);
		text = str_from(text, n + (n < text.len));
	}
	if (!text.len)
		line_put(&b, code, false, own, text);
	while (str_split(&text, '\n', &line)) {
		line = str_trim(line);
		while (line.len > REPLY_LINE && !single && b.len < REPLY_MAX / 2) {
			line_put(&b, code, true, own, str_sub(line, 0, REPLY_LINE));
			line = str_from(line, REPLY_LINE);
		}
		if (single || b.len > REPLY_MAX / 2) {
			line_put(&b, code, false, own, str_sub(line, 0, REPLY_LINE));
			break;
		}
		line_put(&b, code, text.p != NULL, own, line);
	}
	s->server->ops->output(s, b.p, b.len);
	buf_clear(&b);
}

void replyf(struct session *s, unsigned code, const char *esc, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = arena_vprintf(&s->server->scratch, fmt, ap);
	va_end(ap);
	reply(s, code, esc, str_of(text));
}

/* Replies; the error that is one too many ends the session with the same reply. */
static void reply_counted(struct session *s, unsigned code, const char *esc, const char *text)
{
	struct settings *set = &s->server->settings;

	if (++s->synprot <= set->max_synprot || !set->max_synprot || s->local) {
		replyf(s, code, esc, "%s", text);
		return;
	}
	session_logf(s, LOG_MAIN, "SMTP call from %.*s dropped: too many syntax or protocol errors (last command was \"%.*s\")", STR_FMT(log_peer(s)),
		STR_FMT(log_printable(s, str_of(s->line))));
	session_drop(s, code, esc, arena_printf(&s->server->scratch, "%s\nToo many syntax or protocol errors", text));
}

void reply_syntax(struct session *s, unsigned code, const char *esc, const char *text)
{
	if (s->server->settings.log & LOG_SEL(smtp_syntax_error))
		session_logf(s, LOG_MAIN, "SMTP syntax error in \"%.*s\" %.*s %s", STR_FMT(log_printable(s, str_of(s->line))), STR_FMT(log_host(s)), text);
	reply_counted(s, code, esc, text);
}

void reply_protocol(struct session *s, unsigned code, const char *esc, const char *text, bool expected)
{
	if (expected || s->early_group) { /* it could not know what became of EHLO */
		replyf(s, code, esc, "%s", text);
		return;
	}
	if (s->server->settings.log & LOG_SEL(smtp_protocol_error))
		session_logf(s, LOG_MAIN, "SMTP protocol error in \"%.*s\" %.*s %s", STR_FMT(log_printable(s, str_of(s->line))), STR_FMT(log_host(s)), text);
	reply_counted(s, code, esc, text);
}
