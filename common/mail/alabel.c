/* SPDX-License-Identifier: ISC */
#include "common/mail/alabel.h"

#include <idn2.h>
#include <stdlib.h>
#include <string.h>
#include <uninorm.h>
#include <unistr.h>

/* RFC 3492 section 5. */
enum { BASE = 36, TMIN = 1, TMAX = 26, SKEW = 38, DAMP = 700, BIAS = 72, FIRST = 0x80, CODE_MAX = 0x10ffff };
enum { NFC_TEXT_MAX = 65536 };

static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";

static bool is_ascii(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] > 0x7f)
			return false;
	return true;
}

static uint32_t adapt(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / DAMP : delta / 2;
	delta += delta / points;
	for (; delta > (BASE - TMIN) * TMAX / 2; k += BASE)
		delta /= BASE - TMIN;
	return k + (BASE - TMIN + 1) * delta / (delta + SKEW);
}

static uint32_t threshold(uint32_t k, uint32_t bias)
{
	return k <= bias + TMIN ? TMIN : k >= bias + TMAX ? TMAX : k - bias;
}

/* Code points of UTF-8; count, or -1. */
static int utf8_points(struct str s, uint32_t *out)
{
	int n = 0;

	for (uint32_t i = 0; i < s.len;) {
		unsigned char c = (unsigned char)s.p[i];
		uint32_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 9;
		uint32_t code = more ? c & (0x3fu >> more) : c;

		if (more == 9 || i + more >= s.len)
			return -1;
		for (uint32_t k = 1; k <= more; k++) {
			if (((unsigned char)s.p[i + k] & 0xc0) != 0x80)
				return -1;
			code = code << 6 | ((unsigned char)s.p[i + k] & 0x3f);
		}
		if (code > CODE_MAX || (code >= 0xd800 && code < 0xe000) || (more == 2 && code < 0x800) || (more == 3 && code < 0x10000))
			return -1;
		out[n++] = code;
		i += more + 1;
	}
	return n;
}

static void utf8_add(struct buf *b, uint32_t c)
{
	if (c < 0x80) {
		buf_addc(b, (char)c);
	} else if (c < 0x800) {
		buf_addc(b, (char)(0xc0 | c >> 6));
		buf_addc(b, (char)(0x80 | (c & 0x3f)));
	} else {
		if (c < 0x10000) {
			buf_addc(b, (char)(0xe0 | c >> 12));
		} else {
			buf_addc(b, (char)(0xf0 | c >> 18));
			buf_addc(b, (char)(0x80 | (c >> 12 & 0x3f)));
		}
		buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_addc(b, (char)(0x80 | (c & 0x3f)));
	}
}

static void number_add(struct buf *b, uint32_t q, uint32_t bias)
{
	for (uint32_t k = BASE;; k += BASE) {
		uint32_t t = threshold(k, bias);

		if (q < t)
			break;
		buf_addc(b, digits[t + (q - t) % (BASE - t)]);
		q = (q - t) / (BASE - t);
	}
	buf_addc(b, digits[q]);
}

/* RFC 3492 section 6.3. The text is at most ALABEL_TEXT_MAX points, so that nothing overflows 64 bits. */
static void punycode_encode(struct buf *b, const uint32_t *points, uint32_t n)
{
	uint32_t code = FIRST, bias = BIAS, basic = 0, done;
	uint64_t delta = 0;

	for (uint32_t i = 0; i < n; i++)
		if (points[i] < 0x80) {
			buf_addc(b, (char)points[i]);
			basic++;
		}
	if (basic)
		buf_addc(b, '-');
	for (done = basic; done < n; delta++, code++) {
		uint32_t next = CODE_MAX + 1;

		for (uint32_t i = 0; i < n; i++)
			if (points[i] >= code && points[i] < next)
				next = points[i];
		delta += (uint64_t)(next - code) * (done + 1);
		code = next;
		for (uint32_t i = 0; i < n; i++) {
			if (points[i] < code)
				delta++;
			if (points[i] == code) {
				number_add(b, (uint32_t)delta, bias);
				bias = adapt((uint32_t)delta, done + 1, done == basic);
				delta = 0;
				done++;
			}
		}
	}
}

/* RFC 3492 section 6.2. */
static bool punycode_decode(struct str s, struct buf *b)
{
	uint32_t points[ALABEL_TEXT_MAX], n = 0, code = FIRST, bias = BIAS, at = 0;
	ptrdiff_t dash = str_rfind(s, '-');
	uint64_t i = 0;

	for (; (ptrdiff_t)at < dash; at++)
		points[n++] = (unsigned char)s.p[at];
	if (dash >= 0)
		at++;
	while (at < s.len) {
		uint64_t before = i, weight = 1;

		for (uint32_t k = BASE;; k += BASE) {
			const char *d = at < s.len && s.p[at] ? strchr(digits, ascii_lower(s.p[at])) : NULL;
			uint32_t t = threshold(k, bias), v = d ? (uint32_t)(d - digits) : 0;

			if (!d)
				return false;
			at++;
			i += v * weight;
			if (i > UINT32_MAX)
				return false;
			if (v < t)
				break;
			weight *= BASE - t;
			if (weight > UINT32_MAX)
				return false;
		}
		bias = adapt((uint32_t)(i - before), n + 1, !before);
		if (i / (n + 1) > CODE_MAX - code)
			return false;
		code += (uint32_t)(i / (n + 1));
		i %= n + 1;
		if (code >= 0xd800 && code < 0xe000)
			return false;
		memmove(points + i + 1, points + i, (n - i) * sizeof *points);
		points[i++] = code;
		n++;
	}
	for (uint32_t k = 0; k < n; k++)
		utf8_add(b, points[k]);
	return true;
}

static enum status taken(struct arena *a, struct buf *b, bool tainted, struct str *out)
{
	*out = str_dup(a, buf_str(b));
	out->tainted = tainted;
	buf_clear(b);
	return ST_OK;
}

static enum status too_long(struct err *err)
{
	return err_set(err, ST_ERROR, "text longer than %d octets", ALABEL_TEXT_MAX);
}

enum status alabel_domain_encode(struct arena *a, struct str domain, struct str *out, struct err *err)
{
	uint8_t *ascii = NULL;
	int rc;

	*out = domain;
	if (is_ascii(domain))
		return ST_OK;
	if (domain.len > ALABEL_TEXT_MAX || memchr(domain.p, 0, domain.len))
		return too_long(err);
	rc = idn2_lookup_u8((const uint8_t *)str_cstr(a, domain), &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (rc != IDN2_OK)
		return err_set(err, ST_ERROR, "no domain name: %s", idn2_strerror(rc));
	*out = str_dup(a, str_of((const char *)ascii));
	out->tainted = domain.tainted;
	idn2_free(ascii);
	return ST_OK;
}

enum status alabel_domain_decode(struct arena *a, struct str domain, struct str *out, struct err *err)
{
	struct buf b = BUF_INIT;
	struct str rest = domain, label;
	bool first = true;

	*out = domain;
	if (domain.len > ALABEL_TEXT_MAX)
		return too_long(err);
	while (str_split(&rest, '.', &label)) {
		if (!first)
			buf_addc(&b, '.');
		first = false;
		if (!str_beginsi(label, "xn--")) {
			buf_add_str(&b, label);
		} else if (!is_ascii(label) || !punycode_decode(str_from(label, 4), &b)) {
			buf_clear(&b);
			return err_set(err, ST_ERROR, "\"%.*s\" is no A-label", STR_FMT(str_sub(label, 0, 100)));
		}
	}
	return taken(a, &b, domain.tainted, out);
}

enum status alabel_local_encode(struct arena *a, struct str local, struct str *out, struct err *err)
{
	uint32_t points[ALABEL_TEXT_MAX];
	struct buf b = BUF_INIT;
	int n;

	*out = local;
	if (is_ascii(local))
		return ST_OK;
	if (local.len > ALABEL_TEXT_MAX)
		return too_long(err);
	n = utf8_points(local, points);
	if (n < 0)
		return err_set(err, ST_ERROR, "not UTF-8");
	buf_adds(&b, "xn--");
	punycode_encode(&b, points, (uint32_t)n);
	return taken(a, &b, local.tainted, out);
}

enum status alabel_local_decode(struct arena *a, struct str local, struct str *out, struct err *err)
{
	struct buf b = BUF_INIT;

	*out = local;
	if (local.len > ALABEL_TEXT_MAX)
		return too_long(err);
	if (!str_beginsi(local, "xn--") || !is_ascii(local) || !punycode_decode(str_from(local, 4), &b)) {
		buf_clear(&b);
		return err_set(err, ST_ERROR, "\"%.*s\" is no A-label", STR_FMT(str_sub(local, 0, 100)));
	}
	return taken(a, &b, local.tainted, out);
}

struct str alabel_domain_canonical(struct arena *a, struct str domain)
{
	struct str out;

	return is_ascii(domain) || alabel_domain_encode(a, domain, &out, NULL) ? domain : str_lower(a, out);
}

static bool has_alabel(struct str domain)
{
	struct str label;

	while (str_split(&domain, '.', &label))
		if (str_beginsi(label, "xn--"))
			return true;
	return false;
}

bool alabel_domain_other(struct arena *a, struct str domain, struct str *out)
{
	struct str back;

	if (!is_ascii(domain))
		return alabel_domain_encode(a, domain, out, NULL) == ST_OK;
	/* Only what IDNA would make of it again: other texts in Punycode are no names. */
	return has_alabel(domain) && !alabel_domain_decode(a, domain, out, NULL) && !alabel_domain_encode(a, *out, &back, NULL) && str_eqi(back, domain);
}

struct str utf8_nfc(struct arena *a, struct str text)
{
	uint8_t *made;
	struct str out;
	size_t n = 0;

	if (is_ascii(text) || text.len > NFC_TEXT_MAX || u8_check((const uint8_t *)text.p, text.len))
		return text;
	made = u8_normalize(UNINORM_NFC, (const uint8_t *)text.p, text.len, NULL, &n);
	if (!made || (n == text.len && !memcmp(made, text.p, n))) {
		free(made);
		return text;
	}
	out = str_make(arena_memdup(a, made, n), n);
	out.tainted = text.tainted;
	free(made);
	return out;
}
