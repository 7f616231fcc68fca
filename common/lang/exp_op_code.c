/* SPDX-License-Identifier: ISC */
/* Operators of encoding and hashing. */
#include "common/lang/expand_tree.h"

#include <openssl/evp.h>
#include <string.h>

#include "common/lang/exp_text.h"
#include "common/mail/address.h"

struct str text_hex(struct arena *a, const unsigned char *p, size_t n, bool upper)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char *out = arena_alloc(a, 2 * n + 1);

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	return str_make(out, 2 * n);
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct str text_base64(struct arena *a, struct str s)
{
	const unsigned char *in = (const unsigned char *)s.p;
	char *out = arena_alloc(a, ((size_t)s.len + 2) / 3 * 4 + 1), *p = out;
	uint32_t i = 0;

	for (; i + 2 < s.len; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];

		for (int k = 18; k >= 0; k -= 6)
			*p++ = base64_digits[v >> k & 63];
	}
	if (i < s.len) {
		uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < s.len ? (uint32_t)in[i + 1] << 8 : 0);

		*p++ = base64_digits[v >> 18];
		*p++ = base64_digits[v >> 12 & 63];
		*p++ = i + 1 < s.len ? base64_digits[v >> 6 & 63] : '=';
		*p++ = '=';
	}
	return (struct str){ out, (uint32_t)(p - out), s.tainted };
}

bool text_base64_decode(struct arena *a, struct str s, struct str *out)
{
	char *to = arena_alloc(a, (size_t)s.len / 4 * 3 + 4);
	uint32_t n = 0, v = 0, k = 0, pad = 0;

	for (uint32_t i = 0; i < s.len; i++) {
		const char *digit = s.p[i] ? strchr(base64_digits, s.p[i]) : NULL;

		if (ascii_is_space(s.p[i]))
			continue;
		if (s.p[i] == '=') {
			pad++;
			continue;
		}
		if (!digit || pad)
			return false;
		v = v << 6 | (uint32_t)(digit - base64_digits);
		if (++k == 4) {
			to[n++] = (char)(v >> 16);
			to[n++] = (char)(v >> 8);
			to[n++] = (char)v;
			v = k = 0;
		}
	}
	/* What is left over must be the octets that the padding says. */
	if (k == 1 || pad > 2 || ((pad || k) && (k + pad) != 4))
		return false;
	if (k >= 2)
		to[n++] = (char)(k == 2 ? v >> 4 : v >> 10);
	if (k == 3)
		to[n++] = (char)(v >> 2);
	*out = (struct str){ to, n, s.tainted };
	return true;
}

static enum status op_base64(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	(void)err;
	*out = text_base64(ev->arena, in);
	return ST_OK;
}

static enum status op_base64d(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	if (text_base64_decode(ev->arena, in, out))
		return ST_OK;
	return err_set(err, ST_ERROR, "%s: text is not base64", n->op->name);
}

static int hex_digit(char c)
{
	c = ascii_lower(c);
	return ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum status op_hex2b64(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	char *p = arena_alloc(ev->arena, in.len / 2 + 1);

	(void)n;
	if (in.len % 2)
		return err_set(err, ST_ERROR, "hex2b64: an odd number of digits");
	for (uint32_t i = 0; i < in.len; i++) {
		int v = hex_digit(in.p[i]);

		if (v < 0)
			return err_set(err, ST_ERROR, "hex2b64: \"%.*s\" is not hexadecimal", STR_FMT(expand_quote(ev, in)));
		p[i / 2] = (char)(p[i / 2] << 4 | v);
	}
	*out = text_base64(ev->arena, (struct str){ p, in.len / 2, in.tainted });
	return ST_OK;
}

/* ---- hashes ---- */

static enum status digest(struct eval *ev, const EVP_MD *md, struct str in, bool upper, struct str *out, struct err *err)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len;

	if (!md || !EVP_Digest(in.p ? in.p : "", in.len, sum, &len, md, NULL))
		return err_set(err, ST_ERROR, "OpenSSL has no such hash");
	*out = text_hex(ev->arena, sum, len, upper);
	return ST_OK;
}

static enum status op_md5(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	return digest(ev, EVP_md5(), in, false, out, err);
}

static enum status op_sha1(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	return digest(ev, EVP_sha1(), in, true, out, err);
}

static enum status op_sha2(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	if (!n->has_op_arg || str_is(n->op_arg, "256"))
		return digest(ev, EVP_sha256(), in, true, out, err);
	if (str_is(n->op_arg, "384"))
		return digest(ev, EVP_sha384(), in, true, out, err);
	if (str_is(n->op_arg, "512"))
		return digest(ev, EVP_sha512(), in, true, out, err);
	return err_set(err, ST_ERROR, "sha2_%.*s: 256, 384 and 512 are known", STR_FMT(str_sub(n->op_arg, 0, 20)));
}

static enum status op_sha3(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	if (!n->has_op_arg || str_is(n->op_arg, "256"))
		return digest(ev, EVP_sha3_256(), in, true, out, err);
	if (str_is(n->op_arg, "224"))
		return digest(ev, EVP_sha3_224(), in, true, out, err);
	if (str_is(n->op_arg, "384"))
		return digest(ev, EVP_sha3_384(), in, true, out, err);
	if (str_is(n->op_arg, "512"))
		return digest(ev, EVP_sha3_512(), in, true, out, err);
	return err_set(err, ST_ERROR, "sha3_%.*s: 224, 256, 384 and 512 are known", STR_FMT(str_sub(n->op_arg, 0, 20)));
}

/* ---- numbers to other bases ---- */

static const char base62_digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char base32_digits[] = "abcdefghijklmnopqrstuvwxyz234567";

static enum status to_base(struct eval *ev, const struct node *n, struct str in, const char *digits, unsigned base, unsigned width, struct str *out,
	struct err *err)
{
	char text[72];
	unsigned at = sizeof text, len = 0;
	uint64_t v;

	while (in.len && ascii_is_space(in.p[0]))
		in = str_from(in, 1);
	if (!in.len)
		v = 0;
	else if (!str_u64(in, UINT64_MAX, &v))
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is no decimal number", n->op->name, STR_FMT(expand_quote(ev, in)));
	for (; v || len < width; v /= base, len++)
		text[--at] = digits[v % base];
	*out = str_dup(ev->arena, str_make(text + at, len));
	return ST_OK;
}

static enum status from_base(struct eval *ev, const struct node *n, struct str in, const char *digits, unsigned base, struct str *out, struct err *err)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < in.len; i++) {
		const char *d = in.p[i] ? strchr(digits, in.p[i]) : NULL;

		if (!d || v > (UINT64_MAX - base) / base)
			return err_set(err, ST_ERROR, "%s: \"%.*s\" is no number to base %u", n->op->name, STR_FMT(expand_quote(ev, in)), base);
		v = v * base + (uint64_t)(d - digits);
	}
	*out = str_printf(ev->arena, "%llu", (unsigned long long)v);
	return ST_OK;
}

static enum status op_base62(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	return to_base(ev, n, in, base62_digits, 62, 6, out, err);
}

static enum status op_base62d(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	return from_base(ev, n, in, base62_digits, 62, out, err);
}

static enum status op_base32(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	return to_base(ev, n, in, base32_digits, 32, 0, out, err);
}

static enum status op_base32d(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	return from_base(ev, n, in, base32_digits, 32, out, err);
}

static enum status op_xtextd(struct eval *ev, const struct node *n, struct str in, struct str *out, struct err *err)
{
	(void)n;
	if (!address_xtext_decode(ev->arena, in, out))
		return err_set(err, ST_ERROR, "xtextd: \"%.*s\" is not xtext", STR_FMT(expand_quote(ev, in)));
	out->tainted = in.tainted;
	return ST_OK;
}

const struct op_row exp_ops_code[] = {
	{ "base64", op_base64, false, false, "the text encoded in base64" },
	{ "str2b64", op_base64, false, false, "older name of base64: the text encoded in base64" },
	{ "base64d", op_base64d, false, false, "the octets that a base64 text stands for" },
	{ "hex2b64", op_hex2b64, false, false, "hexadecimal digits to base64" },
	{ "md5", op_md5, false, false, "the MD5 hash of the text, in lower case digits" },
	{ "sha1", op_sha1, false, false, "the SHA-1 hash of the text, in upper case digits" },
	{ "sha256", op_sha2, false, false, "the SHA-256 hash of the text, in upper case digits" },
	{ "sha2", op_sha2, true, false, "a SHA-2 hash of the text, in upper case digits: sha2_256, sha2_384, sha2_512" },
	{ "sha3", op_sha3, true, false, "a SHA-3 hash of the text, in upper case digits: sha3_224, sha3_256, sha3_384, sha3_512" },
	{ "base62", op_base62, false, false, "a number to base 62, six digits" },
	{ "base62d", op_base62d, false, false, "back from base 62" },
	{ "base32", op_base32, false, false, "a number to base 32" },
	{ "base32d", op_base32d, false, false, "back from base 32" },
	{ "xtextd", op_xtextd, false, false, "decoded from xtext (RFC 3461)" },
	{ NULL }
};
