/* SPDX-License-Identifier: ISC */
/* keyd's store: files and pairs of files, what is given out of them, what happens when they change. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "keyd/key_pss.h"
#include "keyd/key_store.h"

static char dir[] = "/tmp/keyd-test-XXXXXX";
static char *cert_pem[3], *key_pem[3];   /* RSA, ECDSA, a second ECDSA */
static EVP_PKEY *keys[3];
static X509 *certs[3];
static uint64_t now_ms = 1000;
static char told[1024];

static char *bio_text(BIO *bio)
{
	char *p, *copy;
	long n = BIO_get_mem_data(bio, &p);

	copy = mem_memdup(p, (size_t)n);
	BIO_free(bio);
	return copy;
}

static struct str path(const char *name)
{
	static char text[8][200];
	static unsigned at;
	char *p = text[at++ % 8];

	snprintf(p, sizeof text[0], "%s/%s", dir, name);
	return str_of(p);
}

/* Beside it, then moved: as an administrator's tool does. */
static void put_octets(const char *name, const void *p, size_t n)
{
	char file[200], fresh[210];
	FILE *f;

	snprintf(file, sizeof file, "%s", path(name).p);
	snprintf(fresh, sizeof fresh, "%s.new", file);
	f = fopen(fresh, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	fclose(f);
	assert_int_equal(rename(fresh, file), 0);
}

static void put(const char *name, const char *text, const char *more)
{
	char *all = mem_new(strlen(text) + strlen(more) + 1);

	sprintf(all, "%s%s", text, more);
	put_octets(name, all, strlen(all));
	mem_free(all);
}

/* An answer for a certificate that its own key signs; until: seconds from now, 0: it says no time. */
static void ocsp_put(const char *name, unsigned i, long until, bool pem)
{
	OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
	OCSP_CERTID *id = OCSP_cert_to_id(NULL, certs[i], certs[i]);
	ASN1_TIME *from = X509_gmtime_adj(NULL, -7200), *to = X509_gmtime_adj(NULL, until);
	OCSP_RESPONSE *response;
	BIO *bio = BIO_new(BIO_s_mem());
	char *p;
	long n;

	OCSP_basic_add1_status(basic, id, V_OCSP_CERTSTATUS_GOOD, 0, NULL, from, until ? to : NULL);
	assert_int_equal(OCSP_basic_sign(basic, certs[i], keys[i], EVP_sha256(), NULL, 0), 1);
	response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	if (pem)
		PEM_ASN1_write_bio((i2d_of_void *)i2d_OCSP_RESPONSE, "OCSP RESPONSE", bio, response, NULL, NULL, 0, NULL, NULL);
	else
		i2d_OCSP_RESPONSE_bio(bio, response);
	n = BIO_get_mem_data(bio, &p);
	put_octets(name, p, (size_t)n);
	BIO_free(bio);
	OCSP_RESPONSE_free(response);
	OCSP_BASICRESP_free(basic);
	OCSP_CERTID_free(id);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	for (unsigned i = 0; i < 3; i++) {
		EVP_PKEY *key = keys[i] = i ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
		X509 *cert = certs[i] = X509_new();
		BIO *bio = BIO_new(BIO_s_mem());

		X509_set_version(cert, 2);
		ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)i + 1);
		X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
		X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"mx.example", -1, -1, 0);
		X509_set_issuer_name(cert, X509_get_subject_name(cert));
		X509_set_pubkey(cert, key);
		X509_sign(cert, key, EVP_sha256());
		PEM_write_bio_X509(bio, cert);
		cert_pem[i] = bio_text(bio);
		bio = BIO_new(BIO_s_mem());
		PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
		key_pem[i] = bio_text(bio);
	}
	return 0;
}

static int teardown(void **state)
{
	char line[100];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		mem_free(cert_pem[i]);
		mem_free(key_pem[i]);
		EVP_PKEY_free(keys[i]);
		X509_free(certs[i]);
	}
	snprintf(line, sizeof line, "rm -rf %s", dir);
	return system(line);
}

static void on_trouble(void *arg, const char *text)
{
	(void)arg;
	snprintf(told, sizeof told, "%s", text);
}

static struct key_store *store_make(void)
{
	struct key_store *s = store_new(STR_LIT("self.example"));

	told[0] = '\0';
	store_on_trouble(s, on_trouble, NULL);
	return s;
}

/* Does the number's key sign for this certificate, as TLS asks it? */
static void signs(struct key_store *s, uint64_t number, unsigned i)
{
	struct buf sig = BUF_LIMIT(2048);
	uint8_t digest[32];
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(keys[i], NULL);
	struct err err = ERR_INIT;

	SHA256((const uint8_t *)"text", 4, digest);
	if (store_sign(s, number, false, str_make((const char *)digest, sizeof digest), &sig, &err))
		fail_msg("%s", err.text);
	EVP_PKEY_verify_init(ctx);
	assert_int_equal(EVP_PKEY_verify(ctx, (const uint8_t *)sig.p, sig.len, digest, sizeof digest), 1);
	EVP_PKEY_CTX_free(ctx);
	buf_clear(&sig);
}

static void given(void **state)
{
	struct key_store *s = store_make(), *other = store_make();
	struct store_cert c, d;
	struct store_count n;
	struct err err = ERR_INIT;

	(void)state;
	put("rsa.pem", cert_pem[0], cert_pem[1]);
	put("rsa.key", key_pem[0], "");
	put("both.pem", cert_pem[1], key_pem[1]);
	assert_int_equal(store_cert(s, path("rsa.pem"), path("rsa.key"), STR_NULL, now_ms, &c, &err), ST_OK);
	assert_true(str_find_str(c.chain, str_of(cert_pem[0])) == 0 && str_find_str(c.chain, str_of(cert_pem[1])) > 0);
	assert_int_equal(c.ocsp.len, 0);
	signs(s, c.key, 0);
	/* The key lies in the same file, and stays there. */
	assert_int_equal(store_cert(s, path("both.pem"), STR_NULL, STR_NULL, now_ms, &d, &err), ST_OK);
	assert_true(str_is(d.chain, cert_pem[1]));
	assert_int_equal(str_find_str(d.chain, STR_LIT("PRIVATE")), -1);
	assert_int_not_equal(c.key, d.key);
	signs(s, d.key, 1);
	/* The self-signed one; the numbers of one process are nothing to another. */
	assert_int_equal(store_cert(s, STR_NULL, STR_NULL, STR_NULL, now_ms, &d, &err), ST_OK);
	assert_true(d.chain.len > 0 && d.key);
	assert_int_equal(store_sign(other, d.key, false, STR_LIT("x"), &(struct buf)BUF_LIMIT(2048), &err), ST_FAIL);
	assert_int_equal(store_sign(other, c.key, false, STR_LIT("x"), &(struct buf)BUF_LIMIT(2048), &err), ST_FAIL);
	assert_int_equal(store_sign(s, 0, false, STR_LIT("x"), &(struct buf)BUF_LIMIT(2048), &err), ST_FAIL);
	store_count(s, &n);
	assert_int_equal(n.certs, 2);
	assert_int_equal(n.keys, 3);
	assert_int_equal(n.refused, 1);
	store_free(s);
	store_free(other);
}

/* What padding makes of a digest, found by undoing a signature. */
static size_t pss_octets(EVP_PKEY *key, const EVP_MD *md, int salt, uint8_t *out)
{
	uint8_t digest[64] = "digest", sig[512];
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL), *back = EVP_PKEY_CTX_new(key, NULL);
	size_t n = sizeof sig, len = 512;

	assert_true(EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
		EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 && EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt) == 1);
	assert_int_equal(EVP_PKEY_sign(ctx, sig, &n, digest, (size_t)EVP_MD_get_size(md)), 1);
	assert_true(EVP_PKEY_encrypt_init(back) == 1 && EVP_PKEY_CTX_set_rsa_padding(back, RSA_NO_PADDING) == 1 &&
		EVP_PKEY_encrypt(back, out, &len, sig, n) == 1);
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_CTX_free(back);
	return len;
}

static void padded(void **state)
{
	static const unsigned sizes[] = { 1024, 1025, 1029, 1032, 2048 };
	const EVP_MD *digests[] = { EVP_sha256(), EVP_sha384(), EVP_sha512() };
	uint8_t em[512];

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		EVP_PKEY *key = EVP_RSA_gen(sizes[i]);

		for (size_t k = 0; k < 3; k++) {
			size_t n = sizes[i] < 1040 && k == 2 ? 0 : pss_octets(key, digests[k], RSA_PSS_SALTLEN_DIGEST, em);

			if (!n) /* no room for it */
				continue;
			if (!key_pss_padded(str_make((char *)em, n), sizes[i]))
				fail_msg("%u bits, digest %zu", sizes[i], k);
			assert_false(key_pss_padded(str_make((char *)em, n - 1), sizes[i]));
			for (size_t at = sizes[i] == 1025 ? 1 : 0; at < n; at += 7) { /* any change breaks it, but to the salt within */
				em[at] ^= 0x40;
				if (at + 1 + 2 * (size_t)EVP_MD_get_size(digests[k]) < n || at + 1 + (size_t)EVP_MD_get_size(digests[k]) >= n)
					assert_false(key_pss_padded(str_make((char *)em, n), sizes[i]));
				em[at] ^= 0x40;
			}
		}
		/* Not as TLS has it. */
		assert_false(key_pss_padded(str_make((char *)em, pss_octets(key, EVP_sha256(), 0, em)), sizes[i]));
		EVP_PKEY_free(key);
	}
	memset(em, 0, sizeof em);
	for (unsigned n = 0; n < 300; n++)
		assert_false(key_pss_padded(str_make((char *)em, n), 8 * n));
}

/* The operation that signs would decrypt as well: not for us. */
static void decrypts_nothing(void **state)
{
	struct key_store *s = store_make();
	struct buf out = BUF_LIMIT(2048);
	struct store_cert c;
	struct err err = ERR_INIT;
	uint8_t octets[512];
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(keys[0], NULL);
	size_t n = sizeof octets;

	(void)state;
	put("rsa.pem", cert_pem[0], "");
	put("rsa.key", key_pem[0], "");
	assert_int_equal(store_cert(s, path("rsa.pem"), path("rsa.key"), STR_NULL, now_ms, &c, &err), ST_OK);
	assert_true(EVP_PKEY_encrypt_init(ctx) == 1 && EVP_PKEY_encrypt(ctx, octets, &n, (const uint8_t *)"a secret", 8) == 1);
	assert_int_equal(store_sign(s, c.key, true, str_make((char *)octets, n), &out, &err), ST_ERROR);
	assert_int_equal(out.len, 0);
	n = pss_octets(keys[0], EVP_sha384(), RSA_PSS_SALTLEN_DIGEST, octets);
	assert_int_equal(store_sign(s, c.key, true, str_make((char *)octets, n), &out, &err), ST_OK);
	assert_int_equal(out.len, 256);
	EVP_PKEY_CTX_free(ctx);
	buf_clear(&out);
	store_free(s);
}

static void refused(void **state)
{
	static const struct { const char *cert, *key; enum status want; const char *text; } cases[] = {
		{ "none.pem", "ec.key", ST_FAIL, "No such file" },
		{ "ec.pem", "none.key", ST_FAIL, "No such file" },
		{ "ec.pem", "rsa.key", ST_ERROR, "does not fit" },
		{ "ec.pem", "", ST_ERROR, "no private key" },
		{ "ec.key", "ec.key", ST_ERROR, "no certificate" },
		{ "empty", "ec.key", ST_ERROR, "no certificate" },
		{ "broken.pem", "ec.key", ST_ERROR, "no certificate" },
		{ "locked.pem", "locked.key", ST_ERROR, "no private key" },
		{ ".", "ec.key", ST_ERROR, "no file" },
	};
	struct key_store *s = store_make();
	struct store_cert c;
	BIO *bio = BIO_new(BIO_s_mem());
	char *locked, half[2000];
	struct err err = ERR_INIT;
	struct store_file file;

	(void)state;
	PEM_write_bio_PKCS8PrivateKey(bio, keys[1], EVP_aes_128_cbc(), "word", 4, NULL, NULL);
	locked = bio_text(bio);
	put("ec.pem", cert_pem[1], "");
	put("locked.pem", cert_pem[1], "");
	put("ec.key", key_pem[1], "");
	put("rsa.key", key_pem[0], "");
	put("locked.key", locked, "");
	put("empty", "", "");
	snprintf(half, sizeof half, "%s%.*s", cert_pem[1], (int)strlen(cert_pem[0]) / 2, cert_pem[0]); /* is being written */
	put("broken.pem", half, "");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		err_clear(&err);
		if (store_cert(s, path(cases[i].cert), *cases[i].key ? path(cases[i].key) : STR_NULL, STR_NULL, now_ms, &c, &err) != cases[i].want ||
		    !strstr(err.text, cases[i].text) || c.key)
			fail_msg("%s, %s: \"%s\"", cases[i].cert, cases[i].key, err.text);
	}
	assert_int_equal(store_cert(s, STR_LIT("relative.pem"), STR_NULL, STR_NULL, now_ms, &c, &err), ST_ERROR);
	assert_int_equal(store_cert(s, STR_LIT("/a\nb"), STR_NULL, STR_NULL, now_ms, &c, &err), ST_ERROR);
	/* Public files: of a file of secrets there is nothing to give. */
	assert_int_equal(store_file(s, path("ec.key"), now_ms, &file, &err), ST_ERROR);
	assert_int_equal(store_file(s, STR_LIT("/etc/hostname"), now_ms, &file, &err), ST_ERROR);
	put("mixed.pem", key_pem[0], cert_pem[0]);
	assert_int_equal(store_file(s, path("mixed.pem"), now_ms, &file, &err), ST_OK);
	assert_true(str_is(file.text, cert_pem[0]) && !file.directory);
	mem_free(locked);
	store_free(s);
}

/* A file that changes is seen a second later; what can't be used does not replace what can. */
static void changes(void **state)
{
	struct key_store *s = store_make();
	struct store_cert c, before;
	struct store_count n;
	struct err err = ERR_INIT;
	struct store_file file;
	uint64_t key, version;
	char sub[200];

	(void)state;
	put("c.pem", cert_pem[1], "");
	put("c.key", key_pem[1], "");
	assert_int_equal(store_cert(s, path("c.pem"), path("c.key"), STR_NULL, now_ms, &before, &err), ST_OK);
	key = before.key;
	put("c.pem", cert_pem[2], "");
	assert_int_equal(store_cert(s, path("c.pem"), path("c.key"), STR_NULL, now_ms + STORE_LOOK_MS - 1, &c, &err), ST_OK);
	assert_int_equal(c.version, before.version);
	now_ms += STORE_LOOK_MS;
	/* The key is still the old one. */
	assert_int_equal(store_cert(s, path("c.pem"), path("c.key"), STR_NULL, now_ms, &c, &err), ST_OK);
	assert_int_equal(c.version, before.version);
	assert_true(str_is(c.chain, cert_pem[1]));
	assert_non_null(strstr(told, "does not fit"));
	assert_non_null(strstr(told, "goes on serving"));
	put("c.key", key_pem[2], "");
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("c.pem"), path("c.key"), STR_NULL, now_ms, &c, &err), ST_OK);
	assert_int_not_equal(c.version, before.version);
	assert_true(str_is(c.chain, cert_pem[2]));
	signs(s, c.key, 2);
	signs(s, key, 1); /* handshakes that began before */
	/* The same key again keeps its number, however often its file changes. */
	key = c.key;
	for (int i = 0; i < 5; i++) {
		put("c.key", key_pem[2], "");
		now_ms += STORE_LOOK_MS;
		assert_int_equal(store_cert(s, path("c.pem"), path("c.key"), STR_NULL, now_ms, &c, &err), ST_OK);
		assert_int_equal(c.key, key);
	}
	store_count(s, &n);
	assert_int_equal(n.keys, 3);
	/* Gone. */
	unlink(path("c.pem").p);
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("c.pem"), path("c.key"), STR_NULL, now_ms, &c, &err), ST_OK);
	signs(s, c.key, 2);
	/* Other files. */
	put("ca.pem", cert_pem[0], "");
	assert_int_equal(store_file(s, path("ca.pem"), now_ms, &file, &err), ST_OK);
	version = file.version;
	put("ca.pem", cert_pem[0], cert_pem[1]);
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_file(s, path("ca.pem"), now_ms, &file, &err), ST_OK);
	assert_int_not_equal(file.version, version);
	assert_true(file.text.len == strlen(cert_pem[0]) + strlen(cert_pem[1]));
	/* A directory: what is public in it, whatever else lies there. */
	snprintf(sub, sizeof sub, "%s/anchors", dir);
	assert_int_equal(mkdir(sub, 0755), 0);
	assert_int_equal(store_file(s, str_of(sub), now_ms, &file, &err), ST_ERROR);
	put("anchors/key", key_pem[0], "");
	put("anchors/one.pem", cert_pem[0], "");
	assert_int_equal(store_file(s, str_of(sub), now_ms, &file, &err), ST_OK);
	assert_true(file.directory && str_is(file.text, cert_pem[0]));
	put("anchors/two.pem", cert_pem[1], "");
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_file(s, str_of(sub), now_ms, &file, &err), ST_OK);
	assert_true(file.text.len == strlen(cert_pem[0]) + strlen(cert_pem[1]));
	store_free(s);
}

static void ocsp(void **state)
{
	struct key_store *s = store_make();
	struct store_cert c;
	struct err err = ERR_INIT;
	uint64_t version;
	size_t len;

	(void)state;
	put("o.pem", cert_pem[1], key_pem[1]);
	/* Not there yet: the certificate serves without. */
	assert_int_equal(store_cert(s, path("o.pem"), STR_NULL, path("o.ocsp"), now_ms, &c, &err), ST_OK);
	assert_int_equal(c.ocsp.len, 0);
	assert_non_null(strstr(told, "o.ocsp"));
	version = c.version;
	ocsp_put("o.ocsp", 1, 3600, false);
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("o.pem"), STR_NULL, path("o.ocsp"), now_ms, &c, &err), ST_OK);
	if (c.ocsp.len < 100 || c.version == version)
		fail_msg("%u octets: %s", c.ocsp.len, told);
	len = c.ocsp.len;
	/* PEM is seen to be PEM. */
	ocsp_put("o.ocsp", 1, 3600, true);
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("o.pem"), STR_NULL, path("o.ocsp"), now_ms, &c, &err), ST_OK);
	assert_in_range(c.ocsp.len, len - 4, len + 4);
	/* Out of date, without a date, no answer at all: left out, and said. */
	ocsp_put("o.ocsp", 1, -60, false);
	told[0] = '\0';
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("o.pem"), STR_NULL, path("o.ocsp"), now_ms, &c, &err), ST_OK);
	assert_int_equal(c.ocsp.len, 0);
	assert_non_null(strstr(told, "out of date"));
	ocsp_put("o.ocsp", 1, 0, false);
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("o.pem"), STR_NULL, path("o.ocsp"), now_ms, &c, &err), ST_OK);
	assert_int_equal(c.ocsp.len, 0);
	put("o.ocsp", "nonsense", "");
	now_ms += STORE_LOOK_MS;
	assert_int_equal(store_cert(s, path("o.pem"), STR_NULL, path("o.ocsp"), now_ms, &c, &err), ST_OK);
	assert_int_equal(c.ocsp.len, 0);
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(given), cmocka_unit_test(padded), cmocka_unit_test(decrypts_nothing), cmocka_unit_test(refused), cmocka_unit_test(changes), cmocka_unit_test(ocsp),
	};

	return cmocka_run_group_tests_name("keyd_store", tests, setup, teardown);
}
