/* SPDX-License-Identifier: ISC */
/* Who may have which certificate of keyd, and which key's signatures. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/conf/read.h"
#include "keyd/key_asker.h"

static const char text[] =
	"begin transports\n"
	"plain:\n driver = smtp\n tls_certificate = /c/one.pem\n tls_privatekey = /c/one.key\n"
	"same:\n driver = smtp\n tls_certificate = /c/both.pem\n"
	"by_host:\n driver = smtp\n tls_certificate = /c/hosts/$primary_hostname.pem\n tls_privatekey = /c/keys/$primary_hostname.key\n"
	"none:\n driver = smtp\n"
	"box:\n driver = appendfile\n file = /var/mail/x\n user = mail\n";

static const struct { const char *peer, *cert, *key, *ocsp; bool may; } cases[] = {
	{ "smtpd", "/c/server.pem", "/c/server.key", "/c/o.der", true }, { "smtpd", "", "", "", true },
	{ "smtp-out", "/c/one.pem", "/c/one.key", "", true }, { "smtp-out", "/c/both.pem", "", "", true },
	{ "smtp-out", "/c/one.pem", "", "", false }, { "smtp-out", "/c/one.pem", "/c/server.key", "", false }, { "smtp-out", "/c/one.pem", "/c/one.key", "/c/o.der", false },
	{ "smtp-out", "/c/both.pem", "/c/one.key", "", false }, { "smtp-out", "/c/server.pem", "/c/server.key", "", false }, { "smtp-out", "", "", "", false },
	{ "smtp-out", "/c/hosts/a.pem", "/c/keys/a.key", "", true }, { "smtp-out", "/c/hosts/../server.pem", "/c/keys/a.key", "", false },
	{ "smtp-out", "/c/hosts/a.pem", "/c/keys/../server.key", "", false }, { "smtp-out", "/c/host", "/c/keys/a.key", "", false },
};

static void test_may(void **state)
{
	struct conf_source source = { .path = "test", .text = text, .text_len = sizeof text - 1 };
	struct conf *conf;
	unsigned wrong = 0;

	(void)state;
	conf_read(&source, &conf);
	assert_int_equal(conf->of[CONF_TRANSPORTS].n, 5);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ipc_cert_ask ask = { .cert = str_of(cases[i].cert), .key = str_of(cases[i].key), .ocsp = str_of(cases[i].ocsp) };

		if (key_asker_may(conf, cases[i].peer, &ask) != cases[i].may) {
			print_error("row %zu: not %d\n", i, cases[i].may);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
	conf_free(conf);
}

static void test_keys(void **state)
{
	struct key_asker a = { .n = 0 };

	(void)state;
	for (uint64_t k = 100; k < 140; k += 2) {
		key_asker_give(&a, k);
		key_asker_give(&a, k);
	}
	assert_int_equal(a.n, 20);
	for (uint64_t k = 98; k < 142; k++)
		assert_int_equal(key_asker_has(&a, k), k >= 100 && k < 140 && !(k & 1));
	assert_false(key_asker_has(NULL, 100));
	key_asker_clear(&a);
	assert_false(key_asker_has(&a, 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_may), cmocka_unit_test(test_keys) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
