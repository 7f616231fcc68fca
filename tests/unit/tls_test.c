/* SPDX-License-Identifier: ISC */
/* Both sides of a TLS connection over a socket pair: certificates and names, keys that are elsewhere, resumption, SNI, DANE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/tls/tls_priv.h"

/* ---- certificates ---- */

struct pair {
	EVP_PKEY *key;
	X509 *cert;
	struct str cert_pem, key_pem;
};

static struct arena arena = ARENA_INIT;
static struct pair ca, rsa, ec;

static struct str pem_text(BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	struct str s = str_dup(&arena, str_make(p, (size_t)n));

	BIO_free(bio);
	return s;
}

static void extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	X509_add_ext(cert, e, -1);
	X509_EXTENSION_free(e);
}

static struct pair pair_make(EVP_PKEY *key, const char *cn, const char *san, const struct pair *issuer)
{
	struct pair p = { .key = key, .cert = X509_new() };
	X509_NAME *name = X509_get_subject_name(p.cert);
	BIO *bio;

	X509_set_version(p.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(p.cert), issuer ? 2 : 1);
	X509_gmtime_adj(X509_getm_notBefore(p.cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(p.cert), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(p.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	X509_set_pubkey(p.cert, key);
	extension(p.cert, issuer ? issuer->cert : p.cert, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
	if (san)
		extension(p.cert, issuer->cert, NID_subject_alt_name, san);
	X509_sign(p.cert, issuer ? issuer->key : key, EVP_sha256());
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, p.cert);
	p.cert_pem = pem_text(bio);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	p.key_pem = pem_text(bio);
	return p;
}

static int setup(void **state)
{
	(void)state;
	ca = pair_make(EVP_EC_gen("P-256"), "Test CA", NULL, NULL);
	rsa = pair_make(EVP_RSA_gen(2048), "cn.example.com", "DNS:mail.example.com,DNS:*.wild.example.com,IP:192.0.2.1", &ca);
	ec = pair_make(EVP_EC_gen("P-256"), "only.example.com", NULL, &ca);
	return 0;
}

static int teardown(void **state)
{
	struct pair *all[] = { &ca, &rsa, &ec };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		EVP_PKEY_free(all[i]->key);
		X509_free(all[i]->cert);
	}
	arena_clear(&arena);
	return 0;
}

/* ---- two ends ---- */

static unsigned signed_elsewhere;

/* What a key's keeper does. */
static enum status sign_elsewhere(void *ctx, struct str key, bool raw, struct str octets, struct buf *signature, struct err *err)
{
	struct pair *p = ctx;
	EVP_PKEY_CTX *k = EVP_PKEY_CTX_new(p->key, NULL);
	size_t n = 0;
	char *room;

	(void)err;
	assert_true(str_is(key, "the key"));
	assert_int_equal(EVP_PKEY_sign_init(k), 1);
	if (EVP_PKEY_get_base_id(p->key) == EVP_PKEY_RSA)
		EVP_PKEY_CTX_set_rsa_padding(k, raw ? RSA_NO_PADDING : RSA_PKCS1_PADDING);
	assert_int_equal(EVP_PKEY_sign(k, NULL, &n, (const uint8_t *)octets.p, octets.len), 1);
	room = buf_room(signature, n);
	assert_int_equal(EVP_PKEY_sign(k, (uint8_t *)room, &n, (const uint8_t *)octets.p, octets.len), 1);
	signature->len += n;
	EVP_PKEY_CTX_free(k);
	signed_elsewhere++;
	return ST_OK;
}

struct ends {
	int fd[2];
	struct tls_conn *server, *client;
	enum tls_io server_io, client_io;
	struct err server_err, client_err;
	struct tls_facts server_facts, client_facts;
	struct buf der;
	struct tls_session session;  /* the last one that the client was given */
	unsigned sessions;           /* so many */
};

static void on_session(void *arg, const struct tls_session *session)
{
	struct ends *e = arg;

	e->sessions++;
	e->session = *session;
	buf_reset(&e->der);
	buf_add_str(&e->der, session->der);
	e->session.der = buf_str(&e->der);
}

static enum tls_io step(struct tls_conn *c, enum tls_io before, struct err *err)
{
	return before == TLS_DONE || before == TLS_FAILED ? before : tls_handshake(c, err);
}

/* Records without data have a turn each. */
static enum tls_io data_read(struct tls_conn *c, char *p, size_t n, size_t *n_out)
{
	enum tls_io io = TLS_WANT_READ;

	for (unsigned i = 0; i < 10 && io == TLS_WANT_READ; i++)
		io = tls_read(c, p, n, n_out, NULL);
	return io;
}

/* Both ends up to the end of the handshake, then some octets both ways. */
static void run(struct ends *e, const struct tls_options *so, const struct tls_options *co, const struct tls_peer *peer, struct tls_ctx *server_ctx)
{
	struct tls_ctx *sctx = server_ctx, *cctx;
	struct err err = ERR_INIT;
	char block[100];
	size_t n;

	memset(e, 0, sizeof *e);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, e->fd), 0);
	if (!sctx && tls_ctx_new(so, &sctx, &err))
		fail_msg("server: %s", err.text);
	if (tls_ctx_new(co, &cctx, &err))
		fail_msg("client: %s", err.text);
	e->server = tls_conn_new(sctx, e->fd[0], NULL, &err);
	assert_non_null(e->server);
	e->client = tls_conn_new(cctx, e->fd[1], peer, &e->client_err);
	if (!server_ctx)
		tls_ctx_unref(sctx);
	tls_ctx_unref(cctx);
	if (!e->client) {
		e->client_io = TLS_FAILED;
		return;
	}
	tls_conn_on_session(e->client, on_session, e);
	for (unsigned i = 0; i < 20 && !((e->client_io == TLS_DONE || e->client_io == TLS_FAILED) && (e->server_io == TLS_DONE || e->server_io == TLS_FAILED)); i++) {
		e->client_io = step(e->client, e->client_io, &e->client_err);
		if (e->client_io == TLS_FAILED)
			shutdown(e->fd[1], SHUT_WR);
		e->server_io = step(e->server, e->server_io, &e->server_err);
	}
	if (e->client_io != TLS_DONE || e->server_io != TLS_DONE)
		return;
	assert_int_equal(tls_write(e->server, "hello", 5, &n, &err), TLS_DONE);
	assert_int_equal(data_read(e->client, block, 2, &n), TLS_DONE);
	assert_true(tls_pending(e->client) > 0);
	assert_int_equal(tls_read(e->client, block + 2, sizeof block - 2, &n, &err), TLS_DONE);
	assert_memory_equal(block, "hello", 5);
	assert_int_equal(tls_read(e->client, block, 1, &n, &err), TLS_WANT_READ);
	tls_facts_get(e->server, &arena, &e->server_facts);
	tls_facts_get(e->client, &arena, &e->client_facts);
}

static void end(struct ends *e)
{
	tls_conn_free(e->client);
	tls_conn_free(e->server);
	close(e->fd[0]);
	close(e->fd[1]);
	buf_clear(&e->der);
}

static struct tls_options server_options(const struct pair *p)
{
	struct tls_options o = { .server = true, .n_certs = 1, .tickets = true };

	o.certs[0] = (struct tls_cert){ .chain_pem = p->cert_pem, .key_pem = p->key_pem };
	return o;
}

/* ---- tests ---- */

static void names(void **state)
{
	static const struct { const char *name; bool ec; enum tls_verify verify; bool trusted, done, verified; const char *error; } cases[] = {
		{ "mail.example.com", false, TLS_VERIFY_MUST, true, true, true, "" },
		{ "MAIL.example.COM", false, TLS_VERIFY_MUST, true, true, true, "" },
		{ "other.example.com", false, TLS_VERIFY_MUST, true, false, false, "name mismatch: DN=" },
		{ "other.example.com", false, TLS_VERIFY_TRY, true, true, false, "" },
		{ "other.example.com", false, TLS_VERIFY_NONE, true, true, false, "" },
		{ "cn.example.com", false, TLS_VERIFY_MUST, true, false, false, "name mismatch: DN=" },  /* there are alternative names */
		{ "only.example.com", true, TLS_VERIFY_MUST, true, true, true, "" },                     /* there are none */
		{ "a.wild.example.com", false, TLS_VERIFY_MUST, true, true, true, "" },
		{ "a.b.wild.example.com", false, TLS_VERIFY_MUST, true, false, false, "name mismatch: DN=" },
		{ "wild.example.com", false, TLS_VERIFY_MUST, true, false, false, "name mismatch: DN=" },
		{ "192.0.2.1", false, TLS_VERIFY_MUST, true, true, true, "" },
		{ "192.0.2.2", false, TLS_VERIFY_MUST, true, false, false, "name mismatch: DN=" },
		{ "", false, TLS_VERIFY_MUST, true, true, true, "" },
		{ "mail.example.com", false, TLS_VERIFY_MUST, false, false, false, "unable to get local issuer" },
		{ "mail.example.com", false, TLS_VERIFY_TRY, false, true, false, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tls_options so = server_options(cases[i].ec ? &ec : &rsa);
		struct tls_options co = { .ca_pem = cases[i].trusted ? ca.cert_pem : STR_NULL, .verify = cases[i].verify };
		struct tls_peer peer = { .name = str_of(cases[i].name), .sni = STR_LIT("mail.example.com") };
		struct ends e;

		run(&e, &so, &co, &peer, NULL);
		if ((e.client_io == TLS_DONE) != cases[i].done || e.client_facts.verified != cases[i].verified || !strstr(e.client_err.text, cases[i].error))
			fail_msg("case %zu, %s: io %d, verified %d, \"%s\"", i, cases[i].name, e.client_io, e.client_facts.verified, e.client_err.text);
		if (cases[i].done) {
			assert_true(str_begins(e.client_facts.cipher, "TLS1.3:TLS_AES_256_GCM_SHA384:256"));
			assert_true(str_is(e.client_facts.peerdn, cases[i].ec ? "CN=only.example.com" : "CN=cn.example.com"));
			assert_true(str_is(e.server_facts.sni, "mail.example.com"));
			assert_int_equal(e.server_facts.peercert_pem.len, 0);
		}
		end(&e);
	}
}

static void names_of_clients(void **state)
{
	static const struct { const char *name; bool ec, want; } cases[] = {
		{ "mail.example.com", false, true }, { "MAIL.example.com", false, true }, { "mail.example.org", false, false }, { ".example.com", false, false }, { "mail.example.com.", false, true }, { "", false, false },
		{ "a.wild.example.com", false, true }, { "a.b.wild.example.com", false, false }, { "[192.0.2.1]", false, true }, { "192.0.2.1", false, true },
		{ "[192.0.2.2]", false, false }, { "cn.example.com", false, false }, { "only.example.com", true, true }, { "[]", true, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (tls_cert_names(cases[i].ec ? ec.cert_pem : rsa.cert_pem, str_of(cases[i].name)) != cases[i].want)
			fail_msg("%s", cases[i].name);
	assert_false(tls_cert_names(STR_LIT("no certificate"), STR_LIT("mail.example.com")));
}

/* One dNSName (or none), and one CN, octet by octet. */
static struct str trick_pem(struct str dns, struct str cn)
{
	X509 *cert = X509_new();
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	BIO *bio = BIO_new(BIO_s_mem());
	struct str pem;

	X509_set_version(cert, 2);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	if (cn.len)
		X509_NAME_add_entry_by_NID(X509_get_subject_name(cert), NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)cn.p, (int)cn.len, -1, 0);
	if (dns.len) {
		GENERAL_NAME *g = GENERAL_NAME_new();
		ASN1_IA5STRING *text = ASN1_IA5STRING_new();

		ASN1_STRING_set(text, dns.p, (int)dns.len);
		GENERAL_NAME_set0_value(g, GEN_DNS, text);
		sk_GENERAL_NAME_push(names, g);
		X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0);
	}
	X509_set_pubkey(cert, ec.key);
	X509_sign(cert, ec.key, EVP_sha256());
	PEM_write_bio_X509(bio, cert);
	pem = pem_text(bio);
	GENERAL_NAMES_free(names);
	X509_free(cert);
	return pem;
}

#define OCTETS(text) { text, sizeof text - 1, false }

static void names_of_tricksters(void **state)
{
	static const struct { struct str dns, cn; const char *host; bool want; } tricks[] = {
		{ OCTETS("mail.example.com"), OCTETS("x"), "mail.example.com", true },
		{ OCTETS("mail.example.com\0.evil.example"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("mail.example.com\0"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS(""), OCTETS("mail.example.com\0.evil.example"), "mail.example.com", false },
		{ OCTETS(""), OCTETS("mail.example.com"), "mail.example.com", true },
		{ OCTETS("other.example"), OCTETS("mail.example.com"), "mail.example.com", false },
		{ OCTETS("*"), OCTETS("x"), "localhost", false },
		{ OCTETS("*"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("*.com"), OCTETS("x"), "example.com", false },
		{ OCTETS("*.example.com"), OCTETS("x"), "mail.example.com", true },
		{ OCTETS("*.*.com"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("mail.*.com"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("m*.example.com"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("*l.example.com"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("**.example.com"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("*.example.com"), OCTETS("x"), ".example.com", false },
		{ OCTETS("*.example.com"), OCTETS("x"), "a.b.example.com", false },
		{ OCTETS(".example.com"), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("*.0.2.1"), OCTETS("x"), "192.0.2.1", false },
		{ OCTETS("192.0.2.1"), OCTETS("192.0.2.1"), "192.0.2.1", false },
		{ OCTETS(""), OCTETS("192.0.2.1"), "[192.0.2.1]", false },
		{ OCTETS("*.xn--bcher-kva.example"), OCTETS("x"), "m.b\xc3\xbc""cher.example", true },
		{ OCTETS("xn--*.example.com"), OCTETS("x"), "xn--a.example.com", false },
		{ OCTETS("mail.example.com."), OCTETS("x"), "mail.example.com", false },
		{ OCTETS("mail.example.com "), OCTETS("x"), "mail.example.com", false },
	};
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof tricks / sizeof *tricks; i++)
		if (tls_cert_names(trick_pem(tricks[i].dns, tricks[i].cn), str_of(tricks[i].host)) != tricks[i].want) {
			print_error("row %zu: \"%s\", \"%s\" for %s: not %d\n", i, tricks[i].dns.p, tricks[i].cn.p, tricks[i].host, tricks[i].want);
			wrong++;
		}
	assert_int_equal(wrong, 0);
}

static void keys_elsewhere(void **state)
{
	static const struct { const char *options; bool ec; } cases[] = { { "", false }, { "+no_tlsv1_3", false }, { "", true }, { "+no_tlsv1_3", true } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pair *p = cases[i].ec ? &ec : &rsa;
		struct tls_options so = server_options(p), co = { .ca_pem = ca.cert_pem, .verify = TLS_VERIFY_MUST, .openssl_options = str_of(cases[i].options) };
		struct tls_peer peer = { .name = STR_NULL };
		struct ends e;

		so.certs[0].key_pem = STR_NULL;
		so.certs[0].sign = sign_elsewhere;
		so.certs[0].sign_ctx = p;
		so.certs[0].key = STR_LIT("the key");
		signed_elsewhere = 0;
		run(&e, &so, &co, &peer, NULL);
		if (e.client_io != TLS_DONE)
			fail_msg("case %zu: %s / %s", i, e.client_err.text, e.server_err.text);
		assert_int_equal(signed_elsewhere, 1);
		assert_true(str_begins(e.client_facts.version, *cases[i].options ? "TLS1.2" : "TLS1.3"));
		end(&e);
	}
}

/* A ticket of one server process serves another one, for as long as the key is known. */
static void resumption(void **state)
{
	uint8_t keys[3][TLS_TICKET_KEY];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		memset(keys[i], 'a' + (int)i, TLS_TICKET_KEY);
	for (unsigned round = 0; round < 2; round++) {
		struct tls_options so = server_options(&rsa);
		struct tls_options co = { .ca_pem = ca.cert_pem, .verify = TLS_VERIFY_MUST, .tickets = true, .openssl_options = round ? STR_LIT("+no_tlsv1_3") : STR_NULL };
		static const struct { int now, before; bool resumed; } steps[] = { { 0, -1, true }, { 1, 0, true }, { 2, 1, false } };
		struct tls_peer peer = { .name = STR_LIT("mail.example.com") };
		struct tls_ctx *ctx[4];
		struct ends first, e;

		for (unsigned i = 0; i < 4; i++) {
			int now = i ? steps[i - 1].now : 0, before = i ? steps[i - 1].before : -1;

			assert_int_equal(tls_ctx_new(&so, &ctx[i], NULL), ST_OK);
			tls_ctx_ticket_keys(ctx[i], keys[now], before < 0 ? NULL : keys[before]);
		}
		run(&first, &so, &co, &peer, ctx[0]);
		assert_int_equal(first.client_io, TLS_DONE);
		assert_true(first.session.der.len > 0 && first.session.verified && !first.session.dane);
		assert_int_equal(first.session.once, !round);
		assert_true(tls_session_serves(&first.session, &(struct tls_session_need){ .verified = true }, first.session.born + 3000));
		assert_false(tls_session_serves(&first.session, &(struct tls_session_need){ .verified = true }, first.session.born + 3601)); /* the certificate ends */
		assert_int_equal(first.client_facts.resumption & TLS_RES_RESUMED, 0);
		assert_int_equal(first.server_facts.resumption, TLS_RES_SUPPORTED | TLS_RES_TICKET_ASKED | TLS_RES_TICKET_GIVEN);
		peer.session = &first.session;
		first.session.born -= 100; /* a while ago: what is given on resumption is as old */
		for (unsigned i = 0; i < 3; i++) {
			run(&e, &so, &co, &peer, ctx[i + 1]);
			assert_int_equal(e.client_io, TLS_DONE);
			assert_int_equal(!!(e.client_facts.resumption & TLS_RES_RESUMED), steps[i].resumed);
			assert_int_equal(!!(e.server_facts.resumption & TLS_RES_RESUMED), steps[i].resumed);
			assert_true(e.server_facts.resumption & TLS_RES_SESSION_OFFERED);
			assert_true(e.client_facts.verified);
			if (e.session.der.len && steps[i].resumed)
				assert_int_equal(e.session.born, first.session.born);
			end(&e);
		}
		end(&first);
		for (unsigned i = 0; i < 4; i++)
			tls_ctx_unref(ctx[i]);
	}
}

/* A server may send tickets for ever: each has a turn of its own, and after some they are no longer kept. */
static void tickets_without_end(void **state)
{
	enum { TICKETS = 60 };
	struct tls_options so = server_options(&rsa), co = { .tickets = true };
	struct tls_peer peer = { .name = STR_NULL };
	struct err err = ERR_INIT;
	struct ends e;
	unsigned turns = 0;
	char block[100];
	size_t n;

	(void)state;
	run(&e, &so, &co, &peer, NULL);
	assert_int_equal(e.client_io, TLS_DONE);
	assert_int_equal(e.sessions, 1);
	for (unsigned i = 0; i < TICKETS; i++) {
		assert_int_equal(SSL_new_session_ticket(e.server->ssl), 1);
		assert_int_equal(SSL_do_handshake(e.server->ssl), 1);
	}
	assert_int_equal(tls_write(e.server, "end", 3, &n, &err), TLS_DONE);
	while (tls_read(e.client, block, sizeof block, &n, &err) == TLS_WANT_READ && turns < 1000)
		turns++;
	assert_int_equal(n, 3);
	assert_in_range(turns, TICKETS, 999);
	assert_int_equal(e.sessions, TLS_SESSIONS_MAX);
	end(&e);
}

/* What a session brings along is what was known when it was made; one that is damaged, or is none, is a whole handshake. */
static void resumption_of_little(void **state)
{
	static const struct str nonsense[] = { STR_LIT(""), STR_LIT("x"), STR_LIT("0\202\377\377") };

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		struct tls_options so = server_options(&rsa);
		struct tls_options co = { .tickets = true, .openssl_options = round ? STR_LIT("+no_tlsv1_3") : STR_NULL };
		struct tls_peer peer = { .name = STR_NULL };
		struct tls_session s;
		struct tls_ctx *ctx;
		struct ends first, e;
		char der[TLS_SESSION_MAX];

		assert_int_equal(tls_ctx_new(&so, &ctx, NULL), ST_OK);
		run(&first, &so, &co, &peer, ctx);
		assert_true(first.session.der.len && !first.session.verified);
		peer.session = &first.session;
		run(&e, &so, &co, &peer, ctx);
		assert_true(e.client_facts.resumption & TLS_RES_RESUMED && !e.client_facts.verified);
		end(&e);
		/* Though all is made to look better than it was: the verdict is the entry's, so the entry is sealed where it is kept. */
		s = first.session;
		s.der = str_make(der, first.session.der.len);
		peer.session = &s;
		for (size_t i = 0; i < s.der.len; i += 7) {
			memcpy(der, first.session.der.p, s.der.len);
			der[i] ^= 0x20;
			run(&e, &so, &co, &peer, ctx);
			if (e.client_io == TLS_DONE && e.client_facts.resumption & TLS_RES_RESUMED)
				assert_false(e.client_facts.verified);
			end(&e);
		}
		for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
			s.der = nonsense[i];
			run(&e, &so, &co, &peer, ctx);
			assert_int_equal(e.client_io, TLS_DONE);
			assert_int_equal(e.client_facts.resumption & (TLS_RES_RESUMED | TLS_RES_SESSION_OFFERED), 0);
			end(&e);
		}
		end(&first);
		tls_ctx_unref(ctx);
	}
}

/* What one context has verified is nothing to another with other anchors, or with none, though they share their ticket keys. */
static void demands(void **state)
{
	uint8_t key[TLS_TICKET_KEY];
	struct tls_options so[3];

	(void)state;
	memset(key, 'k', sizeof key);
	for (unsigned i = 0; i < 3; i++) {
		so[i] = server_options(&ec);
		so[i].verify = TLS_VERIFY_TRY;
		so[i].ca_pem = i == 1 ? rsa.cert_pem : ca.cert_pem;
	}
	so[2].verify = TLS_VERIFY_NONE;
	for (unsigned from = 0; from < 3; from++) {
		for (unsigned to = 0; to < 3; to++) {
			for (unsigned round = 0; round < 2; round++) {
				struct tls_options co = server_options(&rsa);
				struct tls_peer peer = { .name = STR_NULL };
				struct tls_ctx *one, *two;
				struct ends first, second;

				co.server = false;
				co.openssl_options = round ? STR_LIT("+no_tlsv1_3") : STR_NULL;
				assert_int_equal(tls_ctx_new(&so[from], &one, NULL), ST_OK);
				assert_int_equal(tls_ctx_new(&so[to], &two, NULL), ST_OK);
				tls_ctx_ticket_keys(one, key, NULL);
				tls_ctx_ticket_keys(two, key, NULL);
				run(&first, NULL, &co, &peer, one);
				assert_int_equal(first.server_io, TLS_DONE);
				assert_int_equal(first.server_facts.verified, from == 0);
				peer.session = &first.session;
				run(&second, NULL, &co, &peer, two);
				if (second.server_io == TLS_DONE && (second.server_facts.verified != (to == 0) ||
					!!(second.server_facts.resumption & TLS_RES_RESUMED) != (from == to)))
					fail_msg("%u to %u: verified %d, resumption %u", from, to, second.server_facts.verified, second.server_facts.resumption);
				assert_int_equal(second.server_io, TLS_DONE);
				end(&first);
				end(&second);
				tls_ctx_unref(one);
				tls_ctx_unref(two);
			}
		}
	}
}

static void server_chooses(void **state)
{
	struct tls_options first = server_options(&rsa), second = server_options(&ec), co = { .ca_pem = ca.cert_pem, .verify = TLS_VERIFY_MUST };
	struct tls_peer peer = { .sni = STR_LIT("only.example.com"), .name = STR_LIT("only.example.com") };
	struct tls_ctx *ctx, *other, *cctx;
	struct tls_conn *server, *client;
	struct err err = ERR_INIT;
	enum tls_io cio, sio;
	int fd[2];

	(void)state;
	first.ask_sni = true;
	assert_int_equal(tls_ctx_new(&first, &ctx, NULL), ST_OK);
	assert_int_equal(tls_ctx_new(&second, &other, NULL), ST_OK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(tls_ctx_new(&co, &cctx, NULL), ST_OK);
	client = tls_conn_new(cctx, fd[1], &peer, &err);
	server = tls_conn_new(ctx, fd[0], NULL, &err);
	cio = tls_handshake(client, &err);
	sio = tls_handshake(server, &err);
	assert_int_equal(sio, TLS_WANT_CTX);
	assert_true(str_is(tls_sni(server), "only.example.com"));
	tls_conn_ctx(server, other);
	for (unsigned k = 0; k < 10 && (cio != TLS_DONE || sio != TLS_DONE); k++) {
		sio = sio == TLS_DONE ? sio : tls_handshake(server, &err);
		cio = cio == TLS_DONE ? cio : tls_handshake(client, &err);
	}
	if (cio != TLS_DONE)
		fail_msg("%s", err.text);
	tls_conn_free(client);
	tls_conn_free(server);
	tls_ctx_unref(cctx);
	close(fd[0]);
	close(fd[1]);
	tls_ctx_unref(ctx);
	tls_ctx_unref(other);
}

static void dane(void **state)
{
	static const struct { uint8_t usage, selector, matching; bool of_ca, spoil; const char *name; bool done; const char *error; } cases[] = {
		{ 3, 1, 1, false, false, "mail.example.com", true, "" },
		{ 3, 1, 1, false, false, "wrong.example.com", true, "" },     /* usage 3 needs no name */
		{ 3, 0, 1, false, false, "mail.example.com", true, "" },
		{ 3, 1, 2, false, false, "mail.example.com", true, "" },
		{ 3, 1, 1, false, true, "mail.example.com", false, "verification failed" },
		{ 0, 1, 1, false, false, "mail.example.com", false, "No usable TLSA" },
		{ 3, 7, 1, false, false, "mail.example.com", false, "No usable TLSA" },
		{ 2, 1, 1, true, false, "mail.example.com", true, "" },
		{ 2, 1, 1, true, false, "wrong.example.com", false, "verification failed" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tls_options so = server_options(&rsa), co = { .verify = TLS_VERIFY_NONE };
		X509 *of = cases[i].of_ca ? ca.cert : rsa.cert;
		uint8_t *der = NULL, digest[64];
		int n = cases[i].selector ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(of), &der) : i2d_X509(of, &der);
		struct tls_tlsa t = { cases[i].usage, cases[i].selector, cases[i].matching, STR_NULL };
		struct tls_peer peer = { .name = str_of(cases[i].name), .tlsa = &t, .n_tlsa = 1 };
		struct ends e;

		if (cases[i].matching == 2)
			SHA512(der, (size_t)n, digest);
		else
			SHA256(der, (size_t)n, digest);
		digest[0] ^= cases[i].spoil;
		t.data = str_make((const char *)digest, cases[i].matching == 2 ? 64 : 32);
		/* The anchor must be sent for usage 2. */
		so.certs[0].chain_pem = str_printf(&arena, "%.*s%.*s", STR_FMT(rsa.cert_pem), STR_FMT(ca.cert_pem));
		run(&e, &so, &co, &peer, NULL);
		if ((e.client_io == TLS_DONE) != cases[i].done || e.client_facts.dane != cases[i].done || !strstr(e.client_err.text, cases[i].error))
			fail_msg("case %zu: io %d, dane %d, \"%s\"", i, e.client_io, e.client_facts.dane, e.client_err.text);
		end(&e);
		OPENSSL_free(der);
	}
}

static void refused(void **state)
{
	static const struct { const char *what; struct tls_options o; const char *want; } cases[] = {
		{ "ciphers", { .ciphers = { "NOSUCHCIPHER", 12, false } }, "tls_require_ciphers: no cipher match" },
		{ "option", { .openssl_options = { "+nonsense", 9, false } }, "\"+nonsense\" is unknown" },
		{ "sign", { .openssl_options = { "no_ticket", 9, false } }, "+ or - must stand in front" },
		{ "groups", { .eccurve = { "nosuch", 6, false } }, "tls_eccurve" },
		{ "anchors", { .ca_pem = { "xyz", 3, false } }, "no certificate among" },
		{ "certificate", { .server = true, .n_certs = 1, .certs = { { .chain_pem = { "xyz", 3, false } } } }, "certificate: no start line" },
		{ "crl", { .crl_pem = { "xyz", 3, false } }, "no list of revoked" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err = ERR_INIT;
		struct tls_ctx *ctx;

		assert_int_equal(tls_ctx_new(&cases[i].o, &ctx, &err), ST_ERROR);
		assert_null(ctx);
		if (!strstr(err.text, cases[i].want))
			fail_msg("%s: \"%s\"", cases[i].what, err.text);
	}
}

/* ---- what a client demands ---- */

/* An answer of the authority about `of`, valid from..until seconds from now. */
static struct str ocsp_answer(const struct pair *signer, const struct pair *issuer, const struct pair *of, int status, long from, long until)
{
	OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
	OCSP_CERTID *id = OCSP_cert_to_id(NULL, of->cert, issuer->cert);
	ASN1_TIME *begin = X509_gmtime_adj(NULL, from), *over = X509_gmtime_adj(NULL, until), *revoked = X509_gmtime_adj(NULL, -60);
	OCSP_RESPONSE *answer;
	uint8_t *der = NULL;
	struct str text;
	int n;

	assert_non_null(OCSP_basic_add1_status(basic, id, status, OCSP_REVOKED_STATUS_NOSTATUS, status == V_OCSP_CERTSTATUS_REVOKED ? revoked : NULL, begin, over));
	assert_int_equal(OCSP_basic_sign(basic, signer->cert, signer->key, EVP_sha256(), NULL, 0), 1);
	answer = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	n = i2d_OCSP_RESPONSE(answer, &der);
	text = str_dup(&arena, str_make((const char *)der, (size_t)n));
	OPENSSL_free(der);
	OCSP_RESPONSE_free(answer);
	OCSP_BASICRESP_free(basic);
	OCSP_CERTID_free(id);
	ASN1_TIME_free(begin);
	ASN1_TIME_free(over);
	ASN1_TIME_free(revoked);
	return text;
}

static void ocsp(void **state)
{
	struct pair stranger = pair_make(EVP_EC_gen("P-256"), "Stranger", NULL, NULL);
	const struct { const char *name; struct str answer; enum tls_ocsp want; } cases[] = {
		{ "good", ocsp_answer(&ca, &ca, &rsa, V_OCSP_CERTSTATUS_GOOD, -3600, 3600), TLS_OCSP_VERIFIED },
		{ "none", STR_NULL, TLS_OCSP_NO_ANSWER },
		{ "revoked", ocsp_answer(&ca, &ca, &rsa, V_OCSP_CERTSTATUS_REVOKED, -3600, 3600), TLS_OCSP_FAILED },
		{ "unknown", ocsp_answer(&ca, &ca, &rsa, V_OCSP_CERTSTATUS_UNKNOWN, -3600, 3600), TLS_OCSP_FAILED },
		{ "out of date", ocsp_answer(&ca, &ca, &rsa, V_OCSP_CERTSTATUS_GOOD, -7200, -3600), TLS_OCSP_FAILED },
		{ "not yet", ocsp_answer(&ca, &ca, &rsa, V_OCSP_CERTSTATUS_GOOD, 3600, 7200), TLS_OCSP_FAILED },
		{ "clocks differ a little", ocsp_answer(&ca, &ca, &rsa, V_OCSP_CERTSTATUS_GOOD, -3600, -60), TLS_OCSP_VERIFIED },
		{ "of another certificate", ocsp_answer(&ca, &ca, &ca, V_OCSP_CERTSTATUS_GOOD, -3600, 3600), TLS_OCSP_FAILED },
		{ "signed by a stranger", ocsp_answer(&stranger, &ca, &rsa, V_OCSP_CERTSTATUS_GOOD, -3600, 3600), TLS_OCSP_FAILED },
		{ "signed by the certificate itself", ocsp_answer(&rsa, &ca, &rsa, V_OCSP_CERTSTATUS_GOOD, -3600, 3600), TLS_OCSP_FAILED },
		{ "no answer at all", STR_LIT("what is this"), TLS_OCSP_FAILED },
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		bool require = i % 2, want = cases[i / 2].want == TLS_OCSP_VERIFIED || !require;
		struct tls_options so = server_options(&rsa), co = { .ca_pem = ca.cert_pem, .verify = TLS_VERIFY_MUST };
		struct tls_peer peer = { .name = STR_LIT("mail.example.com"), .ask_ocsp = true, .require_ocsp = require };
		struct ends e;

		so.certs[0].ocsp_der = cases[i / 2].answer;
		run(&e, &so, &co, &peer, NULL);
		if ((e.client_io == TLS_DONE) != want || (want && e.client_facts.ocsp != cases[i / 2].want) || (!want && !strstr(e.client_err.text, "(OCSP)")))
			fail_msg("%s, required %d: io %d, ocsp %u, \"%s\"", cases[i / 2].name, require, e.client_io, e.client_facts.ocsp, e.client_err.text);
		end(&e);
	}
	EVP_PKEY_free(stranger.key);
	X509_free(stranger.cert);
}

/* ALPN and the size of a group, which OpenSSL leaves to us; and what is told of a certificate that failed. */
static void demands_of_clients(void **state)
{
	static const struct { const char *server_alpn, *client_alpn; bool require, done; unsigned bits, min_bits; const char *error; } cases[] = {
		{ "smtp", "smtp", true, true, 0, 0, "" }, { "", "smtp", true, false, 0, 0, "(ALPN)" }, { "", "smtp", false, true, 0, 0, "" },
		{ "", "", true, false, 0, 0, "(ALPN)" }, { "", "", false, true, 2048, 2048, "" }, { "", "", false, false, 2048, 3072, "tls_dh_min_bits" },
		{ "", "", false, true, 2048, 0, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tls_options so = server_options(&rsa), co = { .ca_pem = ca.cert_pem, .verify = TLS_VERIFY_TRY };
		struct tls_peer peer = { .name = STR_LIT("other.example.com"), .require_alpn = cases[i].require, .dh_min_bits = cases[i].min_bits };
		struct tls_fault fault;
		struct ends e;

		so.alpn = str_of(cases[i].server_alpn);
		co.alpn = str_of(cases[i].client_alpn);
		if (cases[i].bits) {
			so.openssl_options = STR_LIT("+no_tlsv1_3");
			so.ciphers = STR_LIT("DHE-RSA-AES256-GCM-SHA384");
		}
		run(&e, &so, &co, &peer, NULL);
		if ((e.client_io == TLS_DONE) != cases[i].done || !strstr(e.client_err.text, cases[i].error))
			fail_msg("case %zu: io %d, \"%s\", server \"%s\"", i, e.client_io, e.client_err.text, e.server_err.text);
		assert_true(tls_fault_get(e.client, &arena, &fault));
		assert_true(fault.name && !fault.depth && str_is(fault.dn, "CN=cn.example.com"));
		end(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(ocsp), cmocka_unit_test(demands_of_clients),
		cmocka_unit_test(names_of_clients), cmocka_unit_test(names_of_tricksters), cmocka_unit_test(keys_elsewhere), cmocka_unit_test(resumption), cmocka_unit_test(resumption_of_little), cmocka_unit_test(demands), cmocka_unit_test(server_chooses),
		cmocka_unit_test(dane), cmocka_unit_test(tickets_without_end), cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests_name("tls", tests, setup, teardown);
}
