/* SPDX-License-Identifier: ISC */
/* openssl_options by Exim's names, and the texts of errors. */
#include <string.h>

#include "common/tls/tls_priv.h"

enum status tls_error(struct err *err, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_set(err, ST_ERROR, "%s: %s", what, reason ? reason : "failed");
}

static const struct {
	const char *name;
	uint64_t bits;
} options[] = {
	{ "all", SSL_OP_ALL },
	{ "allow_no_dhe_kex", SSL_OP_ALLOW_NO_DHE_KEX },
	{ "cipher_server_preference", SSL_OP_CIPHER_SERVER_PREFERENCE },
	{ "cryptopro_tlsext_bug", SSL_OP_CRYPTOPRO_TLSEXT_BUG },
	{ "dont_insert_empty_fragments", SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS },
	{ "enable_middlebox_compat", SSL_OP_ENABLE_MIDDLEBOX_COMPAT },
	{ "ignore_unexpected_eof", SSL_OP_IGNORE_UNEXPECTED_EOF },
	{ "legacy_server_connect", SSL_OP_LEGACY_SERVER_CONNECT },
	{ "no_anti_replay", SSL_OP_NO_ANTI_REPLAY },
	{ "no_compression", SSL_OP_NO_COMPRESSION },
	{ "no_encrypt_then_mac", SSL_OP_NO_ENCRYPT_THEN_MAC },
	{ "no_renegotiation", SSL_OP_NO_RENEGOTIATION },
	{ "no_session_resumption_on_renegotiation", SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION },
	{ "no_sslv2", 0 },
	{ "no_sslv3", SSL_OP_NO_SSLv3 },
	{ "no_ticket", SSL_OP_NO_TICKET },
	{ "no_tlsv1", SSL_OP_NO_TLSv1 },
	{ "no_tlsv1_1", SSL_OP_NO_TLSv1_1 },
	{ "no_tlsv1_2", SSL_OP_NO_TLSv1_2 },
	{ "no_tlsv1_3", SSL_OP_NO_TLSv1_3 },
	{ "prioritize_chacha", SSL_OP_PRIORITIZE_CHACHA },
	{ "safari_ecdhe_ecdsa_bug", SSL_OP_SAFARI_ECDHE_ECDSA_BUG },
	{ "single_dh_use", 0 },
	{ "single_ecdh_use", 0 },
	{ "tls_rollback_bug", SSL_OP_TLS_ROLLBACK_BUG },
	{ "tlsext_padding", SSL_OP_TLSEXT_PADDING },
};

enum status tls_openssl_options(struct str text, uint64_t *set, uint64_t *clear, struct err *err)
{
	struct str word;

	*set = *clear = 0;
	while (str_split(&text, ' ', &word)) {
		size_t i = 0;

		word = str_trim(word);
		if (!word.len)
			continue;
		if (*word.p != '+' && *word.p != '-')
			return err_set(err, ST_ERROR, "openssl_options: \"%.*s\": + or - must stand in front", STR_FMT(str_sub(word, 0, 60)));
		while (i < sizeof options / sizeof *options && !str_is(str_from(word, 1), options[i].name))
			i++;
		if (i == sizeof options / sizeof *options)
			return err_set(err, ST_ERROR, "openssl_options: \"%.*s\" is unknown", STR_FMT(str_sub(word, 0, 60)));
		if (*word.p == '+') {
			*set |= options[i].bits;
			*clear &= ~options[i].bits;
		} else {
			*clear |= options[i].bits;
			*set &= ~options[i].bits;
		}
	}
	return ST_OK;
}

enum status tls_text_check(const char *option, struct str text, struct err *err)
{
	bool ciphers = !strcmp(option, "tls_require_ciphers") || !strcmp(option, "dane_require_tls_ciphers");
	enum status st = ST_OK;
	SSL_CTX *ctx;
	char *words;

	if (!ciphers && (strcmp(option, "tls_eccurve") || str_is(text, "auto")))
		return ST_OK;
	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		return ST_OK; /* not the text's fault */
	words = mem_memdup(text.p, text.len);
	if (ciphers ? SSL_CTX_set_cipher_list(ctx, words) != 1 : SSL_CTX_set1_groups_list(ctx, words) != 1)
		st = err_set(err, ST_ERROR, "OpenSSL finds no %s", ciphers ? "cipher in it (GnuTLS writes its lists otherwise)" : "group in it, or not all");
	mem_free(words);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return st;
}
