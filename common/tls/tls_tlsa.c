/* SPDX-License-Identifier: ISC */
#include "common/tls/tls_tlsa.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "common/tls/tls_priv.h"

enum { WIRE_HEAD = 3 };

bool tls_tlsa_parse(struct str wire, struct tls_tlsa *out)
{
	if (wire.len < WIRE_HEAD)
		return false;
	*out = (struct tls_tlsa){ (uint8_t)wire.p[0], (uint8_t)wire.p[1], (uint8_t)wire.p[2], str_from(wire, WIRE_HEAD) };
	return true;
}

struct str tls_tlsa_format(struct arena *a, const struct tls_tlsa *t)
{
	char *p = arena_alloc(a, WIRE_HEAD + t->data.len);

	p[0] = (char)t->usage;
	p[1] = (char)t->selector;
	p[2] = (char)t->matching;
	if (t->data.len)
		memcpy(p + WIRE_HEAD, t->data.p, t->data.len);
	return str_taint(str_make(p, WIRE_HEAD + t->data.len));
}

void tls_tlsa_show(struct str wire, struct buf *out)
{
	struct tls_tlsa t;

	if (!tls_tlsa_parse(wire, &t))
		return;
	buf_printf(out, "%u %u %u ", t.usage, t.selector, t.matching);
	for (uint32_t i = 0; i < t.data.len; i++)
		buf_printf(out, "%02x", (unsigned char)t.data.p[i]);
}

/* The whole thing in the record: all of it must be one certificate with a key that is known, or one such key. */
static bool whole_readable(uint8_t selector, struct str data)
{
	const unsigned char *p = (const unsigned char *)data.p, *end = p + data.len;
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	bool ok;

	if (selector == TLSA_CERT) {
		cert = d2i_X509(NULL, &p, (long)data.len);
		ok = cert && X509_get0_pubkey(cert);
	} else {
		key = d2i_PUBKEY(NULL, &p, (long)data.len);
		ok = key != NULL;
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok && p == end;
}

bool tls_tlsa_usable(const struct tls_tlsa *t)
{
	if ((t->usage != TLSA_DANE_TA && t->usage != TLSA_DANE_EE) || t->selector > TLSA_SPKI || !t->data.len)
		return false;
	switch (t->matching) {
	case TLSA_FULL:
		return whole_readable(t->selector, t->data);
	case TLSA_SHA2_256:
		return t->data.len == SHA256_DIGEST_LENGTH;
	case TLSA_SHA2_512:
		return t->data.len == SHA512_DIGEST_LENGTH;
	default:
		return false;
	}
}

unsigned tls_tlsa_usages(const struct tls_tlsa *v, unsigned n)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < n; i++)
		if (tls_tlsa_usable(&v[i]))
			bits |= 1u << v[i].usage;
	return bits;
}

static int wire_compare(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

unsigned tls_tlsa_sort(struct str *wire, unsigned n)
{
	unsigned kept = 0;

	qsort(wire, n, sizeof *wire, wire_compare);
	for (unsigned i = 0; i < n && kept < TLS_TLSA_MAX; i++) {
		struct tls_tlsa t;

		if (tls_tlsa_parse(wire[i], &t) && tls_tlsa_usable(&t) && (!kept || !str_eq(wire[kept - 1], wire[i])))
			wire[kept++] = wire[i];
	}
	return kept;
}

enum status tls_tlsa_make(struct str pem, unsigned which, uint8_t usage, uint8_t selector, uint8_t matching, struct arena *a, struct tls_tlsa *out,
	struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.len);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	uint8_t *der = NULL, digest[SHA512_DIGEST_LENGTH];
	int n;

	for (; which && cert; which--) {
		X509_free(cert);
		cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (!cert)
		return err_set(err, ST_ERROR, "no certificate (PEM)");
	n = selector == TLSA_SPKI ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : i2d_X509(cert, &der);
	*out = (struct tls_tlsa){ usage, selector, matching, STR_NULL };
	if (n > 0) {
		const char *p = (const char *)der;
		size_t len = (size_t)n;

		if (matching == TLSA_SHA2_256 || matching == TLSA_SHA2_512) {
			p = (const char *)(matching == TLSA_SHA2_256 ? SHA256(der, len, digest) : SHA512(der, len, digest));
			len = matching == TLSA_SHA2_256 ? SHA256_DIGEST_LENGTH : SHA512_DIGEST_LENGTH;
		}
		out->data = str_dup(a, str_make(p, len));
	}
	OPENSSL_free(der);
	X509_free(cert);
	return n > 0 ? ST_OK : err_set(err, ST_ERROR, "the certificate cannot be encoded");
}

/* ---- verification, which is OpenSSL's: digest agility, chains to an anchor of a record, names for usage 2 alone ---- */

enum status tls_dane_begin(struct tls_conn *c, const struct tls_peer *peer, struct err *err)
{
	unsigned usable = 0;

	if (SSL_dane_enable(c->ssl, c->name[0] ? c->name : NULL) != 1)
		return tls_error(err, "DANE");
	/* RFC 7672 section 3.1.1: with usage 3 the key alone counts, whatever name and dates the certificate has. */
	SSL_dane_set_flags(c->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	for (unsigned i = 0; i < peer->n_names; i++) {
		char name[256];

		if (tls_name_keep(name, sizeof name, peer->names[i]) && name[0])
			SSL_add1_host(c->ssl, name);
	}
	for (unsigned i = 0; i < peer->n_tlsa && i < TLS_TLSA_MAX; i++) {
		const struct tls_tlsa *t = &peer->tlsa[i];

		if (tls_tlsa_usable(t))
			usable += SSL_dane_tlsa_add(c->ssl, t->usage, t->selector, t->matching, (const uint8_t *)t->data.p, t->data.len) > 0;
	}
	ERR_clear_error();
	if (!usable)
		return err_set(err, ST_DEFER, "No usable TLSA records");
	c->dane = true;
	SSL_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
	return ST_OK;
}

/* By this handshake; of a session that is resumed tls_session.h tells. */
bool tls_dane_verified(const struct tls_conn *c)
{
	return c->dane && SSL_get_verify_result(c->ssl) == X509_V_OK && SSL_get0_dane_authority(c->ssl, NULL, NULL) >= 0;
}
