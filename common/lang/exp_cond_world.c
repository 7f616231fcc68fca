/* SPDX-License-Identifier: ISC */
/* Conditions on the world outside: files, the delivery, passwords. */
#include "common/lang/expand_tree.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/lang/exp_text.h"
#include "common/lang/lang_ask.h"

static enum status cond_exists(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str what;
	enum status st = args[0].len ? lang_ask_stat(ev, args[0], &what, err) : ST_FAIL;

	(void)c;
	*yes = st == ST_OK;
	return st == ST_FAIL ? ST_OK : st;
}

static enum status cond_first_delivery(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)c;
	(void)args;
	(void)err;
	*yes = ev->first_delivery;
	ev->deps |= DEP_SESSION;
	return ST_OK;
}

static enum status cond_queue_running(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	(void)c;
	(void)args;
	(void)err;
	*yes = ev->queue_running;
	ev->deps |= DEP_SESSION;
	return ST_OK;
}

/* ---- passwords ---- */

/* The digest in base64 or, by its length, in hexadecimal digits. */
static bool digest_fits(struct eval *ev, const EVP_MD *md, struct str password, struct str want)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	struct str made;
	unsigned len;

	if (!EVP_Digest(password.p ? password.p : "", password.len, sum, &len, md, NULL))
		return false;
	made = text_base64(ev->arena, str_make((char *)sum, len));
	if (want.len == made.len)
		return !CRYPTO_memcmp(made.p, want.p, made.len);
	made = text_hex(ev->arena, sum, len, false);
	want = str_lower(ev->arena, want);
	return want.len == made.len && !CRYPTO_memcmp(made.p, want.p, made.len);
}

static bool crypt_fits(struct eval *ev, struct str password, struct str want)
{
	struct crypt_data *data;
	const char *made;
	bool fits;

	if (!want.len || memchr(password.p ? password.p : "", 0, password.len) || memchr(want.p, 0, want.len))
		return false;
	data = mem_new(sizeof *data);
	memset(data, 0, sizeof *data);
	made = crypt_rn(str_cstr(ev->arena, password), str_cstr(ev->arena, want), data, sizeof *data);
	fits = made && str_is(want, made); /* NULL: no such method, or a bad salt */
	mem_free(data);
	return fits;
}

static enum status cond_crypteq(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct str want = args[1], kind = STR_NULL;
	ptrdiff_t end = want.len && want.p[0] == '{' ? str_find(want, '}') : -1;

	(void)c;
	if (end > 0) {
		kind = str_sub(want, 1, (size_t)end - 1);
		want = str_from(want, (size_t)end + 1);
	}
	if (str_isi(kind, "md5"))
		*yes = digest_fits(ev, EVP_md5(), args[0], want);
	else if (str_isi(kind, "sha1"))
		*yes = digest_fits(ev, EVP_sha1(), args[0], want);
	else if (!want.len || (end < 0 && want.p[0] != '{') || str_isi(kind, "crypt"))
		*yes = crypt_fits(ev, args[0], want);
	else
		return err_set(err, ST_ERROR, "crypteq: unknown encryption {%.*s}: md5, sha1 and crypt are known", STR_FMT(expand_quote(ev, end > 0 ? kind : want)));
	return ST_OK;
}

const struct cond_row exp_conds_world[] = {
	{ "exists", COND_ARGS, 1, cond_exists, 0, false, "there is a file or directory of this name" },
	{ "first_delivery", COND_NONE, 0, cond_first_delivery, 0, false, "the message is tried for the first time" },
	{ "crypteq", COND_ARGS, 2, cond_crypteq, 0, false,
		"the first text is the password of the second: {md5} or {sha1} in base64 or hexadecimal digits, {crypt} or nothing: crypt(3)" },
	{ "queue_running", COND_NONE, 0, cond_queue_running, 0, false, "a queue run started the delivery" },
	{ NULL }
};

const struct cond_row exp_conds_later[] = {
	{ "ldapauth", COND_ARGS, 1, NULL, 0, true, "LDAP accepts user and password" },
	{ "pam", COND_ARGS, 1, NULL, 0, true, "PAM accepts user and password" },
	{ "pwcheck", COND_ARGS, 1, NULL, 0, true, "the pwcheck daemon accepts user and password" },
	{ "radius", COND_ARGS, 1, NULL, 0, true, "RADIUS accepts user and password" },
	{ "saslauthd", COND_ARGS, 1, NULL, 0, true, "saslauthd accepts user and password" },
	{ NULL }
};
