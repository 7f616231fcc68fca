/* SPDX-License-Identifier: ISC */
#include "common/mail/header.h"

#include <string.h>

void header_scan_init(struct header_scan *scan, struct str text)
{
	*scan = (struct header_scan){ .text = text };
}

/* Offset behind the line that begins at `at`. */
static size_t line_end(struct str text, size_t at)
{
	const char *nl = memchr(text.p + at, '\n', text.len - at);

	return nl ? (size_t)(nl - text.p) + 1 : text.len;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool header_scan_next(struct header_scan *scan, struct header_field *out)
{
	struct str text = scan->text;
	size_t at = scan->at, name_end, colon, end, cut;

	if (scan->ended || at >= text.len) {
		scan->ended = true;
		return false;
	}
	if (text.p[at] == '\n' || (text.p[at] == '\r' && at + 1 < text.len && text.p[at + 1] == '\n')) {
		scan->ended = scan->empty_line = true;
		scan->at = at + (text.p[at] == '\n' ? 1 : 2);
		return false;
	}
	for (name_end = at; name_end < text.len && header_name_octet(text.p[name_end]); name_end++)
		;
	for (colon = name_end; colon < text.len && is_blank(text.p[colon]); colon++)
		;
	if (name_end == at || colon >= text.len || text.p[colon] != ':' || colon - at > HEADER_NAME_MAX) {
		scan->ended = true;
		return false;
	}
	for (end = line_end(text, colon); end < text.len && is_blank(text.p[end]); end = line_end(text, end))
		;
	for (cut = end; cut > colon + 1 && (text.p[cut - 1] == '\n' || text.p[cut - 1] == '\r'); cut--)
		;
	out->at = at;
	out->raw = str_sub(text, at, end - at);
	out->name = str_sub(text, at, name_end - at);
	out->value = str_sub(text, colon + 1, cut - colon - 1);
	scan->at = end;
	return true;
}

bool header_find(struct str text, const char *name, unsigned nth, struct header_field *out)
{
	struct header_scan scan;

	header_scan_init(&scan, text);
	while (header_scan_next(&scan, out))
		if (str_isi(out->name, name) && !nth--)
			return true;
	return false;
}

unsigned header_count(struct str text, const char *name)
{
	struct header_scan scan;
	struct header_field field;
	unsigned n = 0;

	header_scan_init(&scan, text);
	while (header_scan_next(&scan, &field))
		n += str_isi(field.name, name);
	return n;
}

size_t header_end(struct str text, bool *closed_out)
{
	struct header_scan scan;
	struct header_field field;

	header_scan_init(&scan, text);
	while (header_scan_next(&scan, &field))
		;
	if (closed_out)
		*closed_out = scan.empty_line;
	return scan.at;
}

bool header_name_valid(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.p[i] <= 32 || (unsigned char)name.p[i] >= 127 || name.p[i] == ':')
			return false;
	return name.len > 0;
}

bool header_text_valid(struct str text)
{
	struct header_scan scan;
	struct header_field field;

	if (!text.len || text.p[text.len - 1] != '\n' || memchr(text.p, 0, text.len))
		return false;
	header_scan_init(&scan, text);
	while (header_scan_next(&scan, &field))
		if (!header_name_valid(field.name))
			return false;
	return !scan.empty_line && scan.at == text.len;
}

struct str header_unfold(struct arena *a, struct str value)
{
	char *p;
	size_t n = 0;

	value = str_trim(value);
	if (!memchr(value.p ? value.p : "", '\n', value.len) && !memchr(value.p ? value.p : "", '\r', value.len))
		return value;
	p = arena_alloc(a, (size_t)value.len + 1);
	for (size_t i = 0; i < value.len; i++)
		if (value.p[i] != '\n' && value.p[i] != '\r')
			p[n++] = value.p[i];
	return (struct str){ p, (uint32_t)n, value.tainted };
}

struct str header_crlf(struct arena *a, struct str text)
{
	size_t lone = 0, n = 0;
	char *p;

	for (size_t i = 0; i < text.len; i++)
		lone += text.p[i] == '\n' ? !i || text.p[i - 1] != '\r' : text.p[i] == '\r' && (i + 1 == text.len || text.p[i + 1] != '\n');
	if (!lone)
		return text;
	p = arena_alloc(a, text.len + lone + 1);
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] == '\r' || text.p[i] == '\n') {
			p[n++] = '\r';
			p[n++] = '\n';
			i += text.p[i] == '\r' && i + 1 < text.len && text.p[i + 1] == '\n';
		} else {
			p[n++] = text.p[i];
		}
	}
	return (struct str){ p, (uint32_t)n, text.tainted };
}

struct str header_msgid(struct str value)
{
	struct str s = str_trim(value);

	if (s.len < 3 || s.p[0] != '<' || s.p[s.len - 1] != '>')
		return STR_NULL;
	s = str_sub(s, 1, s.len - 2);
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] <= 32 || s.p[i] == 127 || s.p[i] == '<' || s.p[i] == '>')
			return STR_NULL;
	return s;
}
