/* SPDX-License-Identifier: ISC */
/* Encoded words of header fields (RFC 2047). Charsets: UTF-8, US-ASCII, ISO-8859-1 and -15, Windows-1252; a word in another one stays as
 * it is, since there is no table and no iconv in a daemon without files. */
#include <string.h>

#include "common/lang/exp_text.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_priv.h"

const char *header_charset(struct eval *ev)
{
	const struct conf *conf = ev->lang->conf;

	return conf && conf->main.headers_charset.text.len ? str_cstr(ev->arena, conf->main.headers_charset.text) : "UTF-8";
}

enum charset { CHARSET_NONE, CHARSET_ASIS, CHARSET_LATIN1, CHARSET_LATIN9, CHARSET_CP1252 };

static enum charset charset_find(struct str name)
{
	static const struct { const char *name; enum charset set; } known[] = {
		{ "utf-8", CHARSET_ASIS }, { "utf8", CHARSET_ASIS }, { "us-ascii", CHARSET_ASIS }, { "ascii", CHARSET_ASIS },
		{ "iso-8859-1", CHARSET_LATIN1 }, { "latin1", CHARSET_LATIN1 }, { "iso-8859-15", CHARSET_LATIN9 }, { "windows-1252", CHARSET_CP1252 },
		{ "cp1252", CHARSET_CP1252 },
	};
	ptrdiff_t star = str_find(name, '*'); /* RFC 2231: language */

	if (star >= 0)
		name = str_sub(name, 0, (size_t)star);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (str_isi(name, known[i].name))
			return known[i].set;
	return CHARSET_NONE;
}

static uint32_t charset_code(enum charset set, unsigned char c)
{
	static const uint16_t cp1252[32] = {
		0x20ac, '?', 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, '?', 0x017d, '?',
		'?', 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, '?', 0x017e, 0x0178,
	};
	static const struct { unsigned char c; uint16_t code; } latin9[] = {
		{ 0xa4, 0x20ac }, { 0xa6, 0x160 }, { 0xa8, 0x161 }, { 0xb4, 0x17d }, { 0xb8, 0x17e }, { 0xbc, 0x152 }, { 0xbd, 0x153 }, { 0xbe, 0x178 },
	};

	if (set == CHARSET_CP1252 && c >= 0x80 && c < 0xa0)
		return cp1252[c - 0x80];
	for (size_t i = 0; set == CHARSET_LATIN9 && i < sizeof latin9 / sizeof *latin9; i++)
		if (latin9[i].c == c)
			return latin9[i].code;
	return c;
}

static void utf8_add(struct buf *b, uint32_t code)
{
	if (code < 0x80) {
		buf_addc(b, (char)code);
	} else if (code < 0x800) {
		buf_addc(b, (char)(0xc0 | code >> 6));
		buf_addc(b, (char)(0x80 | (code & 0x3f)));
	} else {
		buf_addc(b, (char)(0xe0 | code >> 12));
		buf_addc(b, (char)(0x80 | (code >> 6 & 0x3f)));
		buf_addc(b, (char)(0x80 | (code & 0x3f)));
	}
}

/* A text from one charset into another; false: a character is not in it. Line ends and NULs would make fields of their own where the value is
 * put into another field. */
static bool text_convert(struct str s, enum charset from, enum charset to, struct buf *b)
{
	while (s.len) {
		uint32_t code = (unsigned char)s.p[0], n = 1, c = 0;

		if (from != CHARSET_ASIS)
			code = charset_code(from, (unsigned char)s.p[0]);
		else if (to != CHARSET_ASIS && !(n = text_utf8(s, &code)))
			return false;
		s = str_from(s, n);
		code = code == '\n' || code == '\r' ? ' ' : code ? code : '?';
		if (to == CHARSET_ASIS && from == CHARSET_ASIS) {
			buf_addc(b, (char)code);
		} else if (to == CHARSET_ASIS) {
			utf8_add(b, code);
		} else {
			while (c < 256 && charset_code(to, (unsigned char)c) != code)
				c++;
			if (c == 256)
				return false;
			buf_addc(b, (char)c);
		}
	}
	return true;
}

static int hex_digit(char c)
{
	c = ascii_upper(c);
	return ascii_is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool q_decode(struct arena *a, struct str s, struct str *out)
{
	char *p = arena_alloc(a, s.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.len; i++) {
		if (s.p[i] == '=') {
			int high = i + 2 < s.len + 0u ? hex_digit(s.p[i + 1]) : -1, low = i + 2 < s.len ? hex_digit(s.p[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			p[n++] = (char)(high << 4 | low);
			i += 2;
		} else {
			p[n++] = s.p[i] == '_' ? ' ' : s.p[i];
		}
	}
	*out = (struct str){ p, n, s.tainted };
	return true;
}

/* Where the text of a word ends, which what is coded in this way may be; -1: it is none. Another word's start ends the search, however long
 * what follows is. */
static ptrdiff_t coded_end(struct str s, char how)
{
	for (uint32_t i = 0; i + 1 < s.len; i++) {
		char c = s.p[i];

		if (c == '?' && s.p[i + 1] == '=')
			return (ptrdiff_t)i;
		if ((unsigned char)c <= ' ' || (how == 'B' && !ascii_is_alnum(c) && c != '+' && c != '/' && c != '='))
			return -1;
		if (how == 'Q' && c == '=' && (i + 2 >= s.len || hex_digit(s.p[i + 1]) < 0 || hex_digit(s.p[i + 2]) < 0))
			return -1;
	}
	return -1;
}

/* "=?charset?Q?text?=" at the start of s, decoded into b; its length, 0 if it is none. */
static uint32_t word_decode(struct arena *a, struct str s, enum charset to, struct buf *b)
{
	struct str charset, text, raw;
	enum charset from;
	size_t before = b->len;
	ptrdiff_t q1, q2, end;
	char how;
	struct str rest;

	if (!str_begins(s, "=?"))
		return 0;
	rest = str_from(s, 2);
	q1 = str_find(rest, '?');
	if (q1 < 1 || q1 > 60)
		return 0;
	charset = str_sub(rest, 0, (size_t)q1);
	rest = str_from(rest, (size_t)q1 + 1);
	q2 = str_find(rest, '?');
	if (q2 != 1)
		return 0;
	how = ascii_upper(rest.p[0]);
	rest = str_from(rest, 2);
	end = coded_end(rest, how);
	if (end < 0)
		return 0;
	text = str_sub(rest, 0, (size_t)end);
	if (how == 'B' ? !text_base64_decode(a, text, &raw) : how == 'Q' ? !q_decode(a, text, &raw) : true)
		return 0;
	from = to == CHARSET_NONE ? CHARSET_ASIS : charset_find(charset);
	if (from == CHARSET_NONE || !text_convert(raw, from, to == CHARSET_NONE ? CHARSET_ASIS : to, b)) {
		b->len = before;
		return 0;
	}
	return (uint32_t)(rest.p + end + 2 - s.p);
}

struct str header_decode_words(struct arena *a, struct str s, const char *charset)
{
	enum charset to = charset ? charset_find(str_of(charset)) : CHARSET_NONE;
	struct buf b = BUF_LIMIT(4 * (size_t)HEADER_VALUE_MAX);
	struct str out;
	uint32_t blanks_from = 0, i = 0;
	bool after_word = false;

	if (charset && to == CHARSET_NONE)
		to = CHARSET_ASIS;
	if (str_find_str(s, STR_LIT("=?")) < 0)
		return s;
	while (i < s.len) {
		uint32_t k;

		/* Blanks between two encoded words are no text. */
		if (after_word && ascii_is_space(s.p[i])) {
			i++;
			continue;
		}
		if (after_word && i > blanks_from && !str_begins(str_from(s, i), "=?")) {
			buf_add_str(&b, str_sub(s, blanks_from, i - blanks_from));
			after_word = false;
		}
		{
			size_t before = b.len;

			if (after_word && i > blanks_from) {
				/* It may yet turn out to be no word: then the blanks stay. */
				struct buf probe = BUF_LIMIT(4 * (size_t)HEADER_VALUE_MAX);

				k = word_decode(a, str_from(s, i), to, &probe);
				if (k)
					buf_add_str(&b, buf_str(&probe));
				else
					buf_add_str(&b, str_sub(s, blanks_from, i - blanks_from));
				buf_clear(&probe);
			} else {
				k = word_decode(a, str_from(s, i), to, &b);
				if (!k)
					b.len = before;
			}
		}
		after_word = k != 0;
		if (!k)
			buf_addc(&b, s.p[i++]);
		i += k;
		blanks_from = i;
	}
	if (after_word)
		buf_add_str(&b, str_from(s, blanks_from));
	out = str_dup(a, buf_str(&b));
	out.tainted = s.tainted;
	buf_clear(&b);
	return out;
}

struct str header_encode_words(struct arena *a, struct str s, const char *charset)
{
	static const char special[] = "?=()<>@,;:\\\".[]_";
	struct buf b = BUF_LIMIT(16 * (size_t)EVAL_LENGTH_MAX);
	size_t line = 0;
	bool plain = true;
	struct str out;

	for (uint32_t i = 0; plain && i < s.len; i++)
		plain = s.p[i] == ' ' ? true : (unsigned char)s.p[i] > ' ' && (unsigned char)s.p[i] < 0x7f && !strchr(special, s.p[i]);
	if (plain)
		return s;
	for (uint32_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		/* A UTF-8 sequence is never split over two words. */
		bool starts = (c & 0xc0) != 0x80;

		if (!b.len || (line > 60 && starts)) {
			line = b.len ? 1 : 0;
			buf_printf(&b, "%s=?%s?Q?", b.len ? "?= " : "", charset);
			line += strlen(charset) + 5;
		}
		if (c == ' ') {
			buf_addc(&b, '_');
			line++;
		} else if (c < ' ' || c >= 0x7f || strchr(special, (char)c)) {
			buf_printf(&b, "=%02X", c);
			line += 3;
		} else {
			buf_addc(&b, (char)c);
			line++;
		}
	}
	buf_adds(&b, "?=");
	out = str_dup(a, buf_str(&b));
	buf_clear(&b);
	return out;
}
