/* SPDX-License-Identifier: ISC */
/* Stapled OCSP answers, judged as the client (RFC 6960). */
#include <time.h>

#include <openssl/ocsp.h>

#include "common/tls/tls_priv.h"

enum { OCSP_SKEW_S = 300 };

/* Seconds since 1970; 0: none is said. */
static int64_t time_of(const ASN1_GENERALIZEDTIME *t)
{
	struct tm tm;

	return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* *until_out: when the answer must be renewed. */
static bool ocsp_good(SSL *ssl, OCSP_BASICRESP *basic, int64_t *until_out)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	X509_STORE *store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
	ASN1_GENERALIZEDTIME *made, *from, *until;
	X509 *leaf = SSL_get0_peer_certificate(ssl), *issuer = NULL;
	OCSP_CERTID *id = NULL;
	int status = V_OCSP_CERTSTATUS_UNKNOWN;
	bool good = false;

	if (!leaf)
		return false;
	for (int i = 0; chain && !issuer && i < sk_X509_num(chain); i++)
		if (X509_check_issued(sk_X509_value(chain, i), leaf) == X509_V_OK && X509_up_ref(sk_X509_value(chain, i)))
			issuer = sk_X509_value(chain, i);
	if (!issuer) {
		X509_STORE_CTX *search = X509_STORE_CTX_new();

		if (!X509_STORE_CTX_init(search, store, leaf, chain) || X509_STORE_CTX_get1_issuer(&issuer, search, leaf) != 1)
			issuer = NULL;
		X509_STORE_CTX_free(search);
	}
	if (issuer && (id = OCSP_cert_to_id(NULL, leaf, issuer)) && OCSP_basic_verify(basic, chain, store, 0) > 0 &&
		OCSP_resp_find_status(basic, id, &status, NULL, &made, &from, &until) == 1 && status == V_OCSP_CERTSTATUS_GOOD)
		good = OCSP_check_validity(from, until, OCSP_SKEW_S, -1) == 1;
	*until_out = good ? time_of(until) : 0;
	OCSP_CERTID_free(id);
	X509_free(issuer);
	return good;
}

/* 1 goes on, 0 fails the handshake. */
int tls_ocsp_check(SSL *ssl, struct tls_conn *c)
{
	const unsigned char *p;
	long n;
	OCSP_RESPONSE *response;
	OCSP_BASICRESP *basic;

	/* Nothing is stapled then; what was verified when the session was made holds: whether it does still, tls_session_serves() has seen. */
	if (SSL_session_reused(ssl)) {
		tls_session_resumed(c);
		return c->ocsp == TLS_OCSP_VERIFIED || !c->require_ocsp;
	}
	n = SSL_get_tlsext_status_ocsp_resp(ssl, &p);
	response = n > 0 ? d2i_OCSP_RESPONSE(NULL, &p, n) : NULL;
	basic = response && OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL ? OCSP_response_get1_basic(response) : NULL;

	if (n > 0)
		c->ocsp = basic && ocsp_good(ssl, basic, &c->ocsp_until) ? TLS_OCSP_VERIFIED : TLS_OCSP_FAILED;
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	ERR_clear_error();
	if (c->ocsp == TLS_OCSP_VERIFIED || !c->require_ocsp)
		return 1;
	err_set(&c->trouble, ST_ERROR, n > 0 ? "the certificate's status (OCSP) is not good" : "the server gave no certificate status (OCSP), which is required");
	return 0;
}
