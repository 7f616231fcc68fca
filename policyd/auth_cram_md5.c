/* SPDX-License-Identifier: ISC */
/* The cram_md5 authenticator (specification, chapter 35; RFC 2195). */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/base/clock.h"
#include "policyd/policyd_auth.h"

enum { DIGEST = 16, DIGEST_HEX = 2 * DIGEST };

static bool is_server(const struct conf_instance *conf)
{
	return CONF_OWN(conf, authenticator_cram_md5)->server_secret.set;
}

static enum status cram_compile(struct policyd *p, struct auth_inst *inst, struct err *err)
{
	const struct conf_text *t = &CONF_OWN(inst->conf, authenticator_cram_md5)->server_secret;

	return lang_compile(p->lang, t->text, t->place, &inst->own[0], err);
}

static enum auth_result challenge_make(struct auth_step *s, struct err *err)
{
	unsigned char random[8];
	unsigned long long number;

	if (RAND_bytes(random, sizeof random) != 1) {
		err_set(err, ST_DEFER, "no random numbers");
		return AUTH_DEFER;
	}
	memcpy(&number, random, sizeof number);
	s->out->challenge = str_sub(str_printf(s->ev->arena, "<%llu.%lld@%.*s>", number, (long long)clock_wall(),
		STR_FMT(lang_primary_hostname(s->p->lang))), 0, 1024);
	s->out->state = s->out->challenge;
	return AUTH_CHALLENGE;
}

static bool digest_make(struct str secret, struct str challenge, char hex[DIGEST_HEX + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!HMAC(EVP_md5(), secret.len ? secret.p : "", (int)secret.len, (const unsigned char *)challenge.p, challenge.len, digest, &n) || n != DIGEST)
		return false;
	for (unsigned i = 0; i < DIGEST; i++) {
		hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	OPENSSL_cleanse(digest, sizeof digest);
	return true;
}

static enum auth_result cram_step(struct auth_step *s, struct err *err)
{
	struct str data = s->ask->data, secret;
	char hex[DIGEST_HEX + 1] = "";
	enum auth_result r;
	ptrdiff_t blank;

	if (!s->ask->step)
		return s->ask->has_data ? AUTH_NO_INITIAL : challenge_make(s, err);
	blank = str_rfind(data, ' ');
	if (blank < 0)
		return AUTH_FAIL;
	auth_string_set(s->ev, 1, str_sub(data, 0, (size_t)blank));
	r = auth_expand(s, s->inst->own[0], "server_secret", &secret, err);
	if (r != AUTH_OK)
		return r;
	if (!digest_make(secret, s->ask->state, hex)) {
		err_set(err, ST_DEFER, "MD5 is not available");
		return AUTH_DEFER;
	}
	data = str_lower(s->ev->arena, str_from(data, (size_t)blank + 1));
	r = data.len == DIGEST_HEX && CRYPTO_memcmp(data.p, hex, DIGEST_HEX) == 0 ? AUTH_OK : AUTH_FAIL;
	OPENSSL_cleanse(hex, sizeof hex);
	return r == AUTH_OK ? auth_condition(s, err) : r;
}

const struct auth_driver auth_cram_md5 = {
	.table = &conf_table_authenticator_cram_md5, .smtp = true, .is_server = is_server, .compile = cram_compile, .step = cram_step,
};
