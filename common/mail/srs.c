/* SPDX-License-Identifier: ISC */
#include "common/mail/srs.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "common/mail/address.h"

enum { HASH_DIGITS = 4 };

static const char day_digits[] = "abcdefghijklmnopqrstuvwxyz234567";

/* The first hexadecimal digits of HMAC-MD5 over the address in lower case. */
static bool native_hash(struct arena *a, struct str secret, struct str address, char out[HASH_DIGITS + 1])
{
	static const char hex[] = "0123456789abcdef";
	struct str text = str_lower(a, address);
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len;

	if (!HMAC(EVP_md5(), secret.p ? secret.p : "", (int)secret.len, (const unsigned char *)(text.p ? text.p : ""), text.len, sum, &len))
		return false;
	for (int i = 0; i < HASH_DIGITS; i++)
		out[i] = hex[sum[i / 2] >> (i % 2 ? 0 : 4) & 15];
	out[HASH_DIGITS] = '\0';
	return true;
}

enum status srs_native_encode(struct arena *a, struct str secret, struct str address, struct str domain, int64_t days, struct str *out, struct err *err)
{
	unsigned day = (unsigned)(days % SRS_DAYS_ROUND);
	struct str local, from, coded;
	char hash[HASH_DIGITS + 1];

	*out = (struct str){ "", 0, address.tainted };
	if (!address.len)
		return ST_OK;
	if (!address_split(address, &local, &from) || !from.len)
		return err_set(err, ST_ERROR, "\"%.*s\" is no address with a domain", STR_FMT(str_sub(address, 0, 100)));
	if (!native_hash(a, secret, address, hash))
		return err_set(err, ST_ERROR, "OpenSSL refuses MD5");
	local = address_local_unquote(a, local);
	coded = str_printf(a, "SRS0=%s=%c%c=%.*s=%.*s", hash, day_digits[day >> 5], day_digits[day & 31], STR_FMT(from), STR_FMT(local));
	coded = address_local_quote(a, coded);
	*out = str_printf(a, "%.*s@%.*s", STR_FMT(coded), STR_FMT(domain));
	out->tainted = address.tainted || domain.tainted;
	return ST_OK;
}

static int day_digit(char c)
{
	const char *p = c ? strchr(day_digits, ascii_lower(c)) : NULL;

	return p ? (int)(p - day_digits) : -1;
}

static enum status no_srs(struct err *err)
{
	return err_set(err, ST_FAIL, "not an SRS address");
}

enum status srs_native_decode(struct arena *a, struct str secret, struct str local_part, int64_t days, struct str *out, struct err *err)
{
	struct str rest = local_part, hash, stamp, domain, address;
	char want[HASH_DIGITS + 1];
	unsigned day;

	*out = STR_NULL;
	if (!str_beginsi(rest, "SRS0") || rest.len < 5 || !strchr("=+-", rest.p[4]))
		return no_srs(err);
	rest = str_from(rest, 5);
	if (!str_split(&rest, '=', &hash) || !hash.len || !str_split(&rest, '=', &stamp) || stamp.len != 2 || day_digit(stamp.p[0]) < 0
		|| day_digit(stamp.p[1]) < 0 || str_find(rest, '=') < 0 || !str_split(&rest, '=', &domain) || !domain.len || !rest.len)
		return no_srs(err);
	address = str_printf(a, "%.*s@%.*s", STR_FMT(address_local_quote(a, rest)), STR_FMT(domain));
	address = str_lower(a, address);
	if (secret.len) {
		if (!native_hash(a, secret, address, want))
			return err_set(err, ST_ERROR, "OpenSSL refuses MD5");
		if (!str_isi(hash, want))
			return err_set(err, ST_FAIL, "wrong hash");
		day = (unsigned)(day_digit(stamp.p[0]) << 5 | day_digit(stamp.p[1]));
		if ((unsigned)((days - day) % SRS_DAYS_ROUND + SRS_DAYS_ROUND) % SRS_DAYS_ROUND > SRS_NATIVE_DAYS)
			return err_set(err, ST_FAIL, "too old");
	}
	*out = address;
	out->tainted = local_part.tainted;
	return ST_OK;
}
