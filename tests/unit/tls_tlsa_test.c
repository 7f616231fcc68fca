/* SPDX-License-Identifier: ISC */
/* TLSA records: which can be used, what they match, what makes no difference. Each case shakes hands over a socket pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/tls/tls_tlsa.h"

enum { HOST = 0, EXPIRED, SELF, CERTS };

struct made {
	EVP_PKEY *key;
	X509 *cert;
	struct str pem, key_pem;
};

static struct arena arena = ARENA_INIT;
static struct made ca, certs[CERTS];

static struct str bio_text(BIO *bio)
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
	X509_add_ext(cert, e, -1);
	X509_EXTENSION_free(e);
}

static struct made make(const char *cn, const char *san, const struct made *issuer, long from_s, long until_s)
{
	struct made m = { .key = EVP_EC_gen("P-256"), .cert = X509_new() };
	X509_NAME *name = X509_get_subject_name(m.cert);
	BIO *bio = BIO_new(BIO_s_mem());

	X509_set_version(m.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(m.cert), issuer ? 2 : 1);
	X509_gmtime_adj(X509_getm_notBefore(m.cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(m.cert), until_s);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(m.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	X509_set_pubkey(m.cert, m.key);
	extension(m.cert, issuer ? issuer->cert : m.cert, NID_basic_constraints, san ? "CA:FALSE" : "critical,CA:TRUE");
	if (san)
		extension(m.cert, issuer ? issuer->cert : m.cert, NID_subject_alt_name, san);
	X509_sign(m.cert, issuer ? issuer->key : m.key, EVP_sha256());
	PEM_write_bio_X509(bio, m.cert);
	m.pem = bio_text(bio);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, m.key, NULL, NULL, 0, NULL, NULL);
	m.key_pem = bio_text(bio);
	return m;
}

static int setup(void **state)
{
	(void)state;
	ca = make("Anchor", NULL, NULL, -3600, 3600);
	certs[HOST] = make("x", "DNS:mx.example.com,DNS:*.wild.example.com", &ca, -3600, 3600);
	certs[EXPIRED] = make("x", "DNS:mx.example.com", &ca, -7200, -3600);
	certs[SELF] = make("mx.example.com", "DNS:mx.example.com", NULL, -3600, 3600);
	return 0;
}

static int teardown(void **state)
{
	struct made *all[] = { &ca, &certs[HOST], &certs[EXPIRED], &certs[SELF] };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		EVP_PKEY_free(all[i]->key);
		X509_free(all[i]->cert);
	}
	arena_clear(&arena);
	return 0;
}

/* One handshake: true when the client is content; *err says why not. */
static bool shake(const struct made *server, bool send_anchor, const struct tls_peer *peer, struct tls_facts *facts, struct err *err)
{
	struct tls_options so = { .server = true, .n_certs = 1 }, co = { .verify = TLS_VERIFY_NONE };
	enum tls_io cio = TLS_WANT_READ, sio = TLS_WANT_READ;
	struct tls_conn *c, *s;
	struct tls_ctx *ctx;
	struct err none = ERR_INIT;
	int fd[2];

	*facts = (struct tls_facts){ .dane = false };
	so.certs[0] = (struct tls_cert){ .key_pem = server->key_pem,
		.chain_pem = send_anchor ? str_printf(&arena, "%.*s%.*s", STR_FMT(server->pem), STR_FMT(ca.pem)) : server->pem };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(tls_ctx_new(&so, &ctx, &none), ST_OK);
	s = tls_conn_new(ctx, fd[0], NULL, &none);
	tls_ctx_unref(ctx);
	assert_int_equal(tls_ctx_new(&co, &ctx, &none), ST_OK);
	c = tls_conn_new(ctx, fd[1], peer, err);
	tls_ctx_unref(ctx);
	for (unsigned i = 0; c && i < 20 && cio != TLS_FAILED && cio != TLS_DONE; i++) {
		cio = tls_handshake(c, err);
		if (sio == TLS_WANT_READ || sio == TLS_WANT_WRITE)
			sio = tls_handshake(s, &none);
	}
	if (cio == TLS_DONE)
		tls_facts_get(c, &arena, facts);
	tls_conn_free(c);
	tls_conn_free(s);
	close(fd[0]);
	close(fd[1]);
	return cio == TLS_DONE;
}

static struct tls_tlsa record(const struct made *of, uint8_t usage, uint8_t selector, uint8_t matching, bool spoilt)
{
	struct err err = ERR_INIT;
	struct tls_tlsa t;

	assert_int_equal(tls_tlsa_make(of->pem, 0, usage, selector, matching, &arena, &t, &err), ST_OK);
	if (spoilt && matching) /* a digest of nothing that there is */
		((char *)(uintptr_t)t.data.p)[0] ^= 1;
	else if (spoilt)
		assert_int_equal(tls_tlsa_make(certs[SELF].pem, 0, usage, selector, matching, &arena, &t, &err), ST_OK);
	return t;
}

/* All that a record can be, with all that a server may show: usage 3 asks for the key (or certificate) alone, usage 2 for a chain to the
 * anchor, which must be sent or be in the record, a name, and dates. */
static void matrix(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 1 << 6; bits++)
		for (uint8_t matching = 0; matching < 3; matching++) {
			bool anchor = bits & 1, spoilt = bits & 4, named = bits & 8, expired = bits & 16, sent = bits & 32;
			const struct made *server = &certs[expired ? EXPIRED : HOST];
			struct tls_tlsa t = record(anchor ? &ca : server, anchor ? TLSA_DANE_TA : TLSA_DANE_EE, bits >> 1 & 1, matching, spoilt);
			struct tls_peer peer = { .name = named ? STR_LIT("mx.example.com") : STR_LIT("other.example.com"), .tlsa = &t, .n_tlsa = 1 };
			bool want = anchor ? !spoilt && named && !expired && (sent || matching == TLSA_FULL) : !spoilt;
			struct err err = ERR_INIT;
			struct tls_facts facts;
			bool got = shake(server, sent, &peer, &facts, &err);

			if (got != want || facts.dane != want || facts.verified != want || (!want && !err.text[0]))
				fail_msg("%u %u %u%s%s%s%s: %s, dane %d, \"%s\"", t.usage, t.selector, t.matching, spoilt ? " spoilt" : "",
					named ? "" : " other name", expired ? " expired" : "", sent ? " anchor sent" : "", got ? "done" : "failed", facts.dane, err.text);
		}
}

/* Several records; names beside the first. */
static void sets(void **state)
{
	static const struct {
		const char *what;
		struct { uint8_t usage, selector, matching; bool spoilt; } v[3]; /* usage 9: none */
		const char *name, *other;
		bool done;
		const char *error;
	} cases[] = {
		{ "of one usage and selector only the strongest digest counts", { { 3, 1, 1, false }, { 3, 1, 2, true }, { 9, 0, 0, false } }, "mx.example.com", "", false, "no matching DANE TLSA" },
		{ "and it is enough", { { 3, 1, 1, true }, { 3, 1, 2, false }, { 9, 0, 0, false } }, "mx.example.com", "", true, "" },
		{ "another selector is by itself", { { 3, 0, 2, true }, { 3, 1, 1, false }, { 9, 0, 0, false } }, "mx.example.com", "", true, "" },
		{ "so is the whole thing", { { 3, 1, 0, false }, { 3, 1, 2, true }, { 9, 0, 0, false } }, "mx.example.com", "", true, "" },
		{ "so is another usage", { { 2, 1, 2, true }, { 3, 1, 1, false }, { 9, 0, 0, false } }, "other.example.com", "", true, "" },
		{ "anchor right, key wrong", { { 2, 0, 1, false }, { 3, 1, 1, true }, { 9, 0, 0, false } }, "mx.example.com", "", true, "" },
		{ "both wrong", { { 2, 0, 1, true }, { 3, 1, 1, true }, { 9, 0, 0, false } }, "mx.example.com", "", false, "no matching DANE TLSA" },
		{ "the key right, the name of neither", { { 2, 0, 1, false }, { 3, 1, 1, false }, { 9, 0, 0, false } }, "other.example.com", "", true, "" },
		{ "usages 0 and 1 are passed over", { { 0, 0, 1, false }, { 1, 1, 1, false }, { 3, 1, 1, false } }, "mx.example.com", "", true, "" },
		{ "and do not verify", { { 0, 0, 1, false }, { 1, 1, 1, false }, { 9, 0, 0, false } }, "mx.example.com", "", false, "No usable TLSA records" },
		{ "nor make good what does not fit", { { 1, 1, 1, false }, { 3, 1, 1, true }, { 9, 0, 0, false } }, "mx.example.com", "", false, "no matching DANE TLSA" },
		{ "a further name", { { 2, 1, 1, false }, { 9, 0, 0, false }, { 9, 0, 0, false } }, "other.example.com", "mx.example.com", true, "" },
		{ "a wildcard", { { 2, 1, 1, false }, { 9, 0, 0, false }, { 9, 0, 0, false } }, "a.wild.example.com", "", true, "" },
		{ "not two labels", { { 2, 1, 1, false }, { 9, 0, 0, false }, { 9, 0, 0, false } }, "a.b.wild.example.com", "", false, "ostname mismatch" },
		{ "no name of them", { { 2, 1, 1, false }, { 9, 0, 0, false }, { 9, 0, 0, false } }, "a.example.com", "b.example.com", false, "ostname mismatch" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str other = str_of(cases[i].other);
		struct tls_tlsa v[3];
		struct tls_peer peer = { .name = str_of(cases[i].name), .tlsa = v, .names = &other, .n_names = other.len > 0 };
		struct err err = ERR_INIT;
		struct tls_facts facts;

		for (; peer.n_tlsa < 3 && cases[i].v[peer.n_tlsa].usage != 9; peer.n_tlsa++) {
			unsigned k = peer.n_tlsa;
			uint8_t usage = cases[i].v[k].usage;

			v[k] = record(usage == 0 || usage == 2 ? &ca : &certs[HOST], usage, cases[i].v[k].selector, cases[i].v[k].matching, cases[i].v[k].spoilt);
		}
		if (shake(&certs[HOST], true, &peer, &facts, &err) != cases[i].done || facts.dane != cases[i].done || !strstr(err.text, cases[i].error))
			fail_msg("%s: dane %d, \"%s\"", cases[i].what, facts.dane, err.text);
	}
}

/* A certificate that nobody signed but itself will do for usage 3. */
static void self_signed(void **state)
{
	struct tls_tlsa t = record(&certs[SELF], 3, 0, 0, false);
	struct tls_peer peer = { .name = STR_LIT("elsewhere.example"), .sni = STR_LIT("elsewhere.example"), .tlsa = &t, .n_tlsa = 1 };
	struct err err = ERR_INIT;
	struct tls_facts facts;

	(void)state;
	assert_true(shake(&certs[SELF], false, &peer, &facts, &err));
	assert_true(facts.dane && str_is(facts.sni, "elsewhere.example"));
}

static void usable(void **state)
{
	static const char zeros[128];
	static const struct { uint8_t usage, selector, matching; unsigned len; bool want; } cases[] = {
		{ 3, 1, 1, 32, true }, { 3, 0, 1, 32, true }, { 2, 0, 1, 32, true }, { 2, 1, 2, 64, true }, { 3, 1, 2, 64, true },
		{ 0, 1, 1, 32, false }, { 1, 1, 1, 32, false }, { 4, 1, 1, 32, false }, { 255, 1, 1, 32, false },
		{ 3, 2, 1, 32, false }, { 3, 255, 1, 32, false }, { 3, 1, 3, 32, false }, { 3, 1, 255, 32, false },
		{ 3, 1, 1, 31, false }, { 3, 1, 1, 33, false }, { 3, 1, 1, 0, false }, { 3, 1, 2, 32, false }, { 3, 1, 2, 63, false },
		{ 3, 1, 0, 0, false }, { 3, 1, 0, 32, false }, { 3, 0, 0, 128, false }, { 2, 0, 0, 64, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tls_tlsa t = { cases[i].usage, cases[i].selector, cases[i].matching, str_make(zeros, cases[i].len) };

		if (tls_tlsa_usable(&t) != cases[i].want)
			fail_msg("%u %u %u with %u octets", t.usage, t.selector, t.matching, t.data.len);
	}
	for (uint8_t selector = 0; selector < 2; selector++) {
		struct tls_tlsa t = record(&certs[HOST], 3, selector, 0, false);
		struct tls_tlsa longer = t, other = t;

		assert_true(tls_tlsa_usable(&t));
		longer.data = str_make(arena_memdup(&arena, t.data.p, t.data.len + 1), t.data.len + 1);
		assert_false(tls_tlsa_usable(&longer)); /* something behind it */
		other.selector = !selector;
		assert_false(tls_tlsa_usable(&other)); /* a key where a certificate should be, and the other way round */
	}
}

static void octets(void **state)
{
	struct str v[TLS_TLSA_MAX + 30];
	struct tls_tlsa t;
	struct buf b = BUF_INIT;
	unsigned n = 0;

	(void)state;
	assert_false(tls_tlsa_parse(STR_NULL, &t));
	assert_false(tls_tlsa_parse(str_make("\3\1", 2), &t));
	assert_true(tls_tlsa_parse(str_make("\3\1\1ab", 5), &t));
	assert_true(t.usage == 3 && t.selector == 1 && t.matching == 1 && str_is(t.data, "ab"));
	assert_true(str_eq(tls_tlsa_format(&arena, &t), str_make("\3\1\1ab", 5)));
	tls_tlsa_show(str_make("\3\1\1ab", 5), &b);
	assert_true(str_is(buf_str(&b), "3 1 1 6162"));
	buf_clear(&b);

	/* backwards, each twice, and some that can't be used: sorted, each once, the first forty */
	for (unsigned i = 0; i < TLS_TLSA_MAX + 5; i++) {
		char data[32] = { (char)(200 - i) };

		t = (struct tls_tlsa){ 3, 1, 1, str_make(data, sizeof data) };
		v[n] = tls_tlsa_format(&arena, &t);
		n++;
		if (i < 20) {
			v[n] = v[n - 1];
			n++;
		}
	}
	v[n++] = str_make("\3\1\1short", 8);
	v[n++] = str_make("\1", 1);
	n = tls_tlsa_sort(v, n);
	assert_int_equal(n, TLS_TLSA_MAX);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal((unsigned char)v[i].p[3], 200 - (TLS_TLSA_MAX + 4) + i);
	assert_int_equal(tls_tlsa_sort(v, 0), 0);
}

static void usages(void **state)
{
	static const char zeros[32];
	const struct tls_tlsa v[] = { { 3, 1, 1, { zeros, 32, false } }, { 2, 1, 1, { zeros, 32, false } }, { 1, 1, 1, { zeros, 32, false } }, { 3, 1, 1, { zeros, 31, false } } };

	(void)state;
	assert_int_equal(tls_tlsa_usages(v, 0), 0);
	assert_int_equal(tls_tlsa_usages(v, 1), 8);
	assert_int_equal(tls_tlsa_usages(v + 1, 1), 4);
	assert_int_equal(tls_tlsa_usages(v, 4), 12);
	assert_int_equal(tls_tlsa_usages(v + 2, 2), 0);
}

static void no_certificate(void **state)
{
	struct err err = ERR_INIT;
	struct tls_tlsa t;

	(void)state;
	assert_int_equal(tls_tlsa_make(STR_LIT("-----BEGIN CERTIFICATE-----\nxyz\n"), 0, 3, 1, 1, &arena, &t, &err), ST_ERROR);
	assert_string_equal(err.text, "no certificate (PEM)");
	assert_int_equal(tls_tlsa_make(STR_NULL, 0, 3, 1, 1, &arena, &t, &err), ST_ERROR);
	assert_int_equal(tls_tlsa_make(ca.pem, 1, 3, 1, 1, &arena, &t, &err), ST_ERROR); /* there is but one */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matrix), cmocka_unit_test(sets), cmocka_unit_test(self_signed), cmocka_unit_test(usable), cmocka_unit_test(octets),
		cmocka_unit_test(usages), cmocka_unit_test(no_certificate),
	};

	return cmocka_run_group_tests_name("tls_tlsa", tests, setup, teardown);
}
