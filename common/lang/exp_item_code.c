/* SPDX-License-Identifier: ISC */
/* Items of cryptography: hmac, prvs, prvscheck. */
#include "common/lang/expand_tree.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/lang/exp_text.h"
#include "common/mail/address.h"

enum { PRVS_DAYS = 7 /* a signed address is good for */, PRVS_DIGITS = 6, DAY_S = 86400 };

static bool hmac_of(const EVP_MD *md, struct str key, struct str text, unsigned char out[EVP_MAX_MD_SIZE], unsigned *len_out)
{
	return HMAC(md, key.p ? key.p : "", (int)key.len, (const unsigned char *)(text.p ? text.p : ""), text.len, out, len_out) != NULL;
}

static enum status item_hmac(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	static const struct { const char *name; const EVP_MD *(*md)(void); } known[] = {
		{ "md5", EVP_md5 }, { "sha1", EVP_sha1 }, { "sha256", EVP_sha256 }, { "sha512", EVP_sha512 },
	};
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len;

	(void)call;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (str_is(args[0], known[i].name)) {
			if (!hmac_of(known[i].md(), args[1], args[2], digest, &len))
				return err_set(err, ST_ERROR, "hmac: OpenSSL refuses %s", known[i].name);
			out->text = text_hex(ev->arena, digest, len, false);
			return ST_OK;
		}
	return err_set(err, ST_ERROR, "hmac: unknown hash \"%.*s\" (md5, sha1, sha256, sha512)", STR_FMT(str_sub(args[0], 0, 40)));
}

/* KDDDSSSSSS: key number, day modulo 1000, the first three octets of the signature over "KDDDlocal@domain". */
static bool prvs_sign(struct arena *a, struct str address, struct str secret, char key, unsigned day, char out[PRVS_DIGITS + 1])
{
	struct str signed_text = str_printf(a, "%c%03u%.*s", key, day, STR_FMT(address));
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len;
	struct str hex;

	if (!hmac_of(EVP_sha1(), secret, signed_text, digest, &len))
		return false;
	hex = text_hex(a, digest, PRVS_DIGITS / 2, false);
	memcpy(out, hex.p, PRVS_DIGITS);
	out[PRVS_DIGITS] = '\0';
	return true;
}

static unsigned prvs_day(unsigned ahead)
{
	return (unsigned)((clock_wall() / DAY_S + ahead) % 1000);
}

static enum status item_prvs(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str local, domain;
	char key = '0', sum[PRVS_DIGITS + 1];
	unsigned day = prvs_day(PRVS_DAYS);

	(void)call;
	if (!args[0].len || memchr(args[0].p, 0, args[0].len) || !address_split(args[0], &local, &domain) || !domain.len)
		return err_set(err, ST_ERROR, "prvs: the first argument must be an address with a domain");
	if (args[2].len) {
		if (args[2].len != 1 || !ascii_is_digit(args[2].p[0]))
			return err_set(err, ST_ERROR, "prvs: the key number must be one digit");
		key = args[2].p[0];
	}
	if (!prvs_sign(ev->arena, args[0], args[1], key, day, sum))
		return err_set(err, ST_ERROR, "prvs: OpenSSL refuses SHA-1");
	out->text = str_printf(ev->arena, "prvs=%c%03u%s=%.*s@%.*s", key, day, sum, STR_FMT(local), STR_FMT(domain));
	out->text.tainted = args[0].tainted;
	ev->deps |= DEP_TIME;
	return ST_OK;
}

/* prvs=KDDDSSSSSS=local@domain taken apart; false when it has not that form. */
static bool prvs_parse(struct arena *a, struct str s, char *key, unsigned *day, struct str *sum, struct str *address)
{
	struct str local, domain, head;
	uint64_t n;

	if (!address_split(s, &local, &domain) || !str_beginsi(local, "prvs="))
		return false;
	head = str_sub(local, 5, 10);
	if (local.len < 17 || head.len != 10 || local.p[15] != '=' || !ascii_is_digit(head.p[0]) || !str_u64(str_sub(head, 1, 3), 999, &n))
		return false;
	*key = head.p[0];
	*day = (unsigned)n;
	*sum = str_sub(head, 4, PRVS_DIGITS);
	*address = str_printf(a, "%.*s@%.*s", STR_FMT(str_from(local, 16)), STR_FMT(domain));
	address->tainted = s.tainted;
	return true;
}

static enum status item_prvscheck(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct str s, sum, address, secret, third = STR_NULL;
	char key, want[PRVS_DIGITS + 1];
	unsigned day, today = prvs_day(0);
	enum status st = expansion_run(ev, call->arg[0], &s, err);

	(void)args;
	ev->deps |= DEP_TIME;
	if (st || !prvs_parse(ev->arena, s, &key, &day, &sum, &address))
		return st;
	ev->slot[EV_prvscheck_address] = address;
	ev->slot[EV_prvscheck_keynum] = str_printf(ev->arena, "%c", key);
	st = expansion_run(ev, call->arg[1], &secret, err);
	if (!st && !prvs_sign(ev->arena, address, secret, key, day, want))
		st = err_set(err, ST_ERROR, "prvscheck: OpenSSL refuses SHA-1");
	if (!st) {
		/* Good until its day; the count of days comes around after 1000. */
		bool fresh = (day + 1000 - today) % 1000 <= PRVS_DAYS;

		ev->slot[EV_prvscheck_result] = fresh && str_isi(sum, want) ? STR_LIT("1") : STR_NULL;
		if (call->n > 2)
			st = expansion_run(ev, call->arg[2], &third, err);
		out->text = third.len ? third : address;
	}
	ev->slot[EV_prvscheck_address] = STR_NULL;
	ev->slot[EV_prvscheck_keynum] = STR_NULL;
	return st;
}

const struct item_row exp_items_code[] = {
	{ "hmac", 3, 3, 0, item_hmac, NULL,
		"the keyed hash of a text (RFC 2104), in hexadecimal digits; the hash is md5, sha1, sha256 or sha512",
		.usage = "{hash}{secret}{text}" },
	{ "prvs", 2, 3, 0, item_prvs, NULL,
		"the address signed against false bounces (BATV); the key number is one digit, 0 if it is not given",
		.usage = "{address}{secret}{key number}" },
	{ "prvscheck", 2, 3, ITEM_LAZY, item_prvscheck, NULL,
		"nothing if the address is not signed; else the text, or the address inside, with $prvscheck_address, $prvscheck_keynum and $prvscheck_result (1 when genuine) set",
		.usage = "{address}{secret}{text}" },
	{ NULL }
};

const struct item_row exp_items_later[] = {
	{ "dlfunc", 0, 0, ITEM_LATER, NULL, NULL, "a function of a loaded library",
		"no foreign code is loaded into policyd and router; a lookup can ask a database" },
	{ "perl", 0, 0, ITEM_LATER, NULL, NULL, "a function in Perl",
		"no foreign code is loaded into policyd and router; a lookup can ask a database" },
	{ "readsocket", 0, 0, ITEM_LATER, NULL, NULL, "what a socket answers",
		"use a lookup (redis, sqlite, dnsdb ...) for what a service knows" },
	{ NULL }
};
