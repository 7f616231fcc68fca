/* SPDX-License-Identifier: ISC */
#include "common/mail/scram.h"

#include <bsd/stdlib.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "common/mail/base64.h"

struct key {
	uint8_t v[SCRAM_DIGEST_MAX];
	unsigned len;
};

const char *scram_digest(struct str mechanism)
{
	return str_isi(mechanism, "SCRAM-SHA-256") ? "SHA256" : str_isi(mechanism, "SCRAM-SHA-1") ? "SHA1" : NULL;
}

static void wipe(struct buf *b)
{
	if (b->p)
		OPENSSL_cleanse(b->p, b->cap);
	buf_clear(b);
}

/* ---- the client's first message ---- */

/* saslname: comma and equals sign are written otherwise. */
static void name_add(struct buf *out, struct str name)
{
	for (uint32_t i = 0; i < name.len; i++)
		if (name.p[i] == ',')
			buf_adds(out, "=2C");
		else if (name.p[i] == '=')
			buf_adds(out, "=3D");
		else
			buf_addc(out, name.p[i]);
}

void scram_begin(struct scram *s, const char *digest, struct str user, struct str authz, struct str nonce)
{
	uint8_t octets[SCRAM_NONCE_OCTETS];

	scram_clear(s);
	s->digest = digest;
	if (nonce.len) {
		buf_add_str(&s->nonce, nonce);
	} else {
		arc4random_buf(octets, sizeof octets);
		base64_encode(&s->nonce, str_make((char *)octets, sizeof octets));
	}
	buf_adds(&s->header, "n,");
	if (authz.len)
		buf_adds(&s->header, "a=");
	name_add(&s->header, authz);
	buf_addc(&s->header, ',');
	buf_adds(&s->first, "n=");
	name_add(&s->first, user);
	buf_adds(&s->first, ",r=");
	buf_add(&s->first, s->nonce.p, s->nonce.len);
}

void scram_first(const struct scram *s, struct buf *out)
{
	buf_add(out, s->header.p, s->header.len);
	buf_add(out, s->first.p, s->first.len);
}

/* ---- the proof ---- */

struct server_first {
	struct str nonce;
	struct buf salt;
	uint64_t iterations;
};

/* "X=" value, up to a comma. */
static bool attribute_take(struct str *rest, char name, struct str *value)
{
	struct str part;

	if (!str_split(rest, ',', &part) || part.len < 2 || part.p[0] != name || part.p[1] != '=')
		return false;
	*value = str_from(part, 2);
	return true;
}

/* Extensions behind the three are allowed, and mean nothing to us; one that must be known comes first, as m=. */
static enum status server_first_read(const struct scram *s, struct str message, struct server_first *out, struct err *err)
{
	struct str salt, iterations;

	if (message.len > SCRAM_MESSAGE_MAX || !attribute_take(&message, 'r', &out->nonce) || !attribute_take(&message, 's', &salt) ||
		!attribute_take(&message, 'i', &iterations))
		return err_set(err, ST_FAIL, "the server's first message is none of SCRAM");
	if (out->nonce.len <= s->nonce.len || memcmp(out->nonce.p, s->nonce.p, s->nonce.len))
		return err_set(err, ST_FAIL, "the server's nonce does not begin with ours");
	for (uint32_t i = 0; i < out->nonce.len; i++)
		if (out->nonce.p[i] <= ' ' || out->nonce.p[i] > '~')
			return err_set(err, ST_FAIL, "the server's nonce is not printable");
	if (!base64_decode(&out->salt, salt) || !out->salt.len || out->salt.len > SCRAM_SALT_MAX)
		return err_set(err, ST_FAIL, "the server's salt can't be used");
	if (!str_u64(iterations, SCRAM_ITERATIONS_MAX, &out->iterations) || out->iterations < SCRAM_ITERATIONS_MIN)
		return err_set(err, ST_FAIL, "the server's iteration count is not between %d and %d", SCRAM_ITERATIONS_MIN, SCRAM_ITERATIONS_MAX);
	return ST_OK;
}

static bool hmac(const EVP_MD *md, const struct key *k, struct str text, struct key *out)
{
	return HMAC(md, k->v, (int)k->len, (const unsigned char *)(text.p ? text.p : ""), text.len, out->v, &out->len) != NULL;
}

/* RFC 5802, section 3: the proof, and what the server must answer. */
static bool keys_make(struct scram *s, const struct server_first *first, struct str password, struct str auth_message, struct key *proof)
{
	const EVP_MD *md = EVP_get_digestbyname(s->digest);
	struct key salted = { .len = md ? (unsigned)EVP_MD_get_size(md) : 0 }, client, stored, signature, server, confirmed;
	bool ok = md && PKCS5_PBKDF2_HMAC(password.p ? password.p : "", (int)password.len, (const unsigned char *)first->salt.p, (int)first->salt.len,
		(int)first->iterations, md, (int)salted.len, salted.v) == 1;

	ok = ok && hmac(md, &salted, STR_LIT("Client Key"), &client) && EVP_Digest(client.v, client.len, stored.v, &stored.len, md, NULL) == 1 &&
		hmac(md, &stored, auth_message, &signature) && hmac(md, &salted, STR_LIT("Server Key"), &server) && hmac(md, &server, auth_message, &confirmed);
	if (ok) {
		proof->len = client.len;
		for (unsigned i = 0; i < client.len; i++)
			proof->v[i] = client.v[i] ^ signature.v[i];
		memcpy(s->signature, confirmed.v, confirmed.len);
	}
	OPENSSL_cleanse(&salted, sizeof salted);
	OPENSSL_cleanse(&client, sizeof client);
	OPENSSL_cleanse(&stored, sizeof stored);
	OPENSSL_cleanse(&server, sizeof server);
	return ok;
}

enum status scram_prove(struct scram *s, struct str message, struct str password, struct buf *out, struct err *err)
{
	struct server_first first = { .salt = BUF_INIT };
	struct buf final = BUF_INIT, auth = BUF_INIT;
	struct key proof = { .len = 0 };
	enum status st = ST_OK;

	if (s->step != SCRAM_BEGUN)
		return err_set(err, ST_FAIL, "the server's first message comes twice");
	st = server_first_read(s, message, &first, err);
	if (!st) {
		buf_adds(&final, "c=");
		base64_encode(&final, buf_str(&s->header));
		buf_printf(&final, ",r=%.*s", STR_FMT(first.nonce));
		buf_printf(&auth, "%.*s,", STR_FMT(buf_str(&s->first)));
		buf_add_str(&auth, message);
		buf_addc(&auth, ',');
		buf_add(&auth, final.p, final.len);
		if (!keys_make(s, &first, password, buf_str(&auth), &proof))
			st = err_set(err, ST_FAIL, "%s is not to be had on this machine", s->digest);
	}
	if (!st) {
		s->step = SCRAM_PROVED;
		buf_adds(&final, ",p=");
		base64_encode(&final, str_make((char *)proof.v, proof.len));
		buf_add(out, final.p, final.len);
	}
	buf_clear(&final);
	buf_clear(&auth);
	buf_clear(&first.salt);
	return st;
}

/* ---- the server's proof ---- */

enum status scram_confirm(struct scram *s, struct str message, struct err *err)
{
	const EVP_MD *md = EVP_get_digestbyname(s->digest);
	struct buf signature = BUF_INIT;
	struct str value;
	bool same;

	if (s->step != SCRAM_PROVED || message.len > SCRAM_MESSAGE_MAX || !attribute_take(&message, 'v', &value))
		return err_set(err, ST_FAIL, "the server's last message is none of SCRAM");
	same = md && base64_decode(&signature, value) && signature.len == (size_t)EVP_MD_get_size(md) &&
		CRYPTO_memcmp(signature.p, s->signature, signature.len) == 0;
	buf_clear(&signature);
	if (!same)
		return err_set(err, ST_FAIL, "the server does not know the password");
	s->step = SCRAM_CONFIRMED;
	return ST_OK;
}

void scram_clear(struct scram *s)
{
	wipe(&s->header);
	wipe(&s->first);
	wipe(&s->nonce);
	OPENSSL_cleanse(s, sizeof *s);
}
