/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "common/mail/base64.h"
#include "common/mail/scram.h"

void smtp_auth_prepare(void)
{
	unsigned char key[SCRAM_DIGEST_MAX];

	HMAC(EVP_md5(), "", 0, (const unsigned char *)"", 0, NULL, NULL);
	PKCS5_PBKDF2_HMAC("", 0, (const unsigned char *)"salt", 4, 1, EVP_get_digestbyname("SHA1"), 20, key);
	PKCS5_PBKDF2_HMAC("", 0, (const unsigned char *)"salt", 4, 1, EVP_get_digestbyname("SHA256"), 32, key);
}

const struct ipc_client_auth *smtp_auth_current(const struct smtp_client *c)
{
	return c->auth < c->profile->n_auth ? &c->profile->auth[c->auth] : NULL;
}

static bool is_offered(const struct smtp_client *c, struct str mechanism)
{
	struct str rest = buf_str(&c->mechanisms), name;

	while (rest.len && str_split(&rest, ' ', &name))
		if (name.len && str_eqi(name, mechanism))
			return true;
	return false;
}

bool smtp_auth_find(struct smtp_client *c)
{
	const struct ipc_client_auth *a;

	for (; (a = smtp_auth_current(c)); c->auth++)
		if ((c->tls ? a->tls : a->clear) && is_offered(c, a->mechanism)) {
			c->auth_sent = 0;
			c->auth_cancelled = false;
			return true;
		}
	return false;
}

static bool is_cram(const struct ipc_client_auth *a)
{
	return str_is(a->driver, "cram_md5");
}

static bool is_scram(const struct ipc_client_auth *a)
{
	return str_is(a->driver, "gsasl") && a->send.n == 3 && scram_digest(a->mechanism);
}

/* ---- SCRAM ---- */

static void scram_command(struct smtp_client *c, const struct ipc_client_auth *a, struct buf *out)
{
	struct buf first = BUF_INIT;

	if (!c->scram)
		c->scram = mem_new(sizeof *c->scram);
	scram_begin(c->scram, scram_digest(a->mechanism), a->send.v[0], a->send.v[2], STR_NULL);
	scram_first(c->scram, &first);
	buf_addc(out, ' ');
	base64_encode(out, buf_str(&first));
	buf_clear(&first);
}

static bool scram_answer(struct smtp_client *c, const struct ipc_client_auth *a, struct str challenge, struct buf *out)
{
	struct buf plain = BUF_INIT;
	struct err err = ERR_INIT;
	enum status st = c->scram->step == SCRAM_BEGUN ? scram_prove(c->scram, challenge, a->send.v[1], &plain, &err) :
		scram_confirm(c->scram, challenge, &err);

	if (!st)
		base64_encode(out, buf_str(&plain));
	else
		snprintf(c->auth_why, sizeof c->auth_why, "%s", err.text);
	buf_clear(&plain);
	return st == ST_OK;
}

const char *smtp_auth_distrust(const struct smtp_client *c)
{
	const struct ipc_client_auth *a = smtp_auth_current(c);

	if (!a || !is_scram(a))
		return NULL;
	if (c->auth_why[0])
		return c->auth_why;
	return c->reply.code / 100 == 2 && c->scram->step != SCRAM_CONFIRMED ? "the server has not proved that it knows the password" : NULL;
}

void smtp_auth_clear(struct smtp_client *c)
{
	if (!c->scram)
		return;
	scram_clear(c->scram);
	mem_free(c->scram);
	c->scram = NULL;
}

/* ---- all mechanisms ---- */

void smtp_auth_command(struct smtp_client *c, struct buf *out)
{
	const struct ipc_client_auth *a = smtp_auth_current(c);
	bool external = str_is(a->driver, "external");

	buf_printf(out, "AUTH %.*s", STR_FMT(a->mechanism));
	c->auth_why[0] = '\0';
	if (is_scram(a)) {
		scram_command(c, a, out);
		return;
	}
	if (is_cram(a) || !a->send.n)
		return;
	c->auth_sent = 1;
	if (a->send.v[0].len) {
		buf_addc(out, ' ');
		base64_encode(out, a->send.v[0]);
	} else if (external) {
		buf_adds(out, " =");
	}
}

static void cram_answer(const struct ipc_client_auth *a, struct str challenge, struct buf *out)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct buf plain = BUF_INIT;
	unsigned n = 0;

	buf_printf(&plain, "%.*s ", STR_FMT(a->send.v[0]));
	if (HMAC(EVP_md5(), a->send.v[1].len ? a->send.v[1].p : "", (int)a->send.v[1].len, (const unsigned char *)(challenge.p ? challenge.p : ""),
		challenge.len, digest, &n))
		for (unsigned i = 0; i < n; i++)
			buf_printf(&plain, "%02x", digest[i]);
	base64_encode(out, buf_str(&plain));
	OPENSSL_cleanse(digest, sizeof digest);
	buf_clear(&plain);
}

bool smtp_auth_respond(struct smtp_client *c, struct buf *out)
{
	const struct ipc_client_auth *a = smtp_auth_current(c);
	struct buf challenge = BUF_INIT;
	struct str text = STR_NULL;
	size_t at = 0;
	bool going;

	smtp_reply_line(&c->reply, &at, &text);
	text = str_trim(text);
	going = base64_decode(&challenge, text) || a->ignore_base64;
	if (is_scram(a)) {
		going = scram_answer(c, a, buf_str(&challenge), out); /* no base64: an empty one, which is none of SCRAM */
	} else if (going && is_cram(a)) {
		going = a->send.n == 2 && !c->auth_sent;
		if (going)
			cram_answer(a, buf_str(&challenge), out);
	} else if (going) {
		going = c->auth_sent < a->send.n;
		if (going)
			base64_encode(out, a->send.v[c->auth_sent]);
	}
	c->auth_sent++;
	buf_clear(&challenge);
	if (!going) {
		buf_addc(out, '*');
		c->auth_cancelled = true;
	}
	return going;
}
