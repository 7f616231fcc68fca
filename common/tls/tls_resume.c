/* SPDX-License-Identifier: ISC */
/* Sessions as the client: what of a handshake is kept, and what a resumed one inherits. */
#include <time.h>

#include "common/base/clock.h"
#include "common/tls/tls_priv.h"

void tls_session_offer(struct tls_conn *c, const struct tls_session *s)
{
	const uint8_t *p = (const uint8_t *)s->der.p;
	SSL_SESSION *session = d2i_SSL_SESSION(NULL, &p, (long)s->der.len);

	if (session && SSL_SESSION_is_resumable(session) && SSL_set_session(c->ssl, session) == 1) {
		c->resumption |= TLS_RES_SESSION_OFFERED;
		c->offered = *s;
		c->offered.der = STR_NULL;
	}
	SSL_SESSION_free(session);
	ERR_clear_error();
}

void tls_session_resumed(struct tls_conn *c)
{
	c->resumption |= TLS_RES_RESUMED;
	if (c->ctx->server)
		return;
	c->ocsp = (uint8_t)c->offered.ocsp;
	c->ocsp_until = c->offered.ocsp_until;
}

/* When the server's certificate ends, seconds since 1970. */
static int64_t cert_until(X509 *cert)
{
	struct tm tm;

	return cert && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
}

void tls_session_given(struct tls_conn *c, SSL_SESSION *session)
{
	uint64_t lifetime = SSL_SESSION_get_ticket_lifetime_hint(session);
	struct tls_session s = { .once = SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION };
	int64_t now = clock_wall(), end;
	struct arena a = ARENA_INIT;
	struct tls_facts facts;
	uint8_t *der = NULL;
	int n;

	c->resumption |= TLS_RES_TICKET_GIVEN;
	/* A lifetime of 0 means "at once" in TLS 1.3 and nothing before it. */
	if (!c->on_session || c->sessions == TLS_SESSIONS_MAX || !SSL_SESSION_is_resumable(session) || (s.once && !lifetime) || (n = i2d_SSL_SESSION(session, &der)) <= 0)
		return;
	if (SSL_session_reused(c->ssl) && !(c->resumption & TLS_RES_RESUMED))
		tls_session_resumed(c); /* within the handshake */
	tls_facts_get(c, &a, &facts);
	s.der = str_make((const char *)der, (size_t)n);
	s.verified = facts.verified;
	s.dane = facts.dane;
	s.ocsp = c->ocsp;
	s.ocsp_until = c->ocsp_until;
	s.born = SSL_session_reused(c->ssl) ? c->offered.born : now;
	s.until = now + (int64_t)(!lifetime ? TLS_SESSION_TIME_UNSAID : lifetime < TLS_SESSION_TIME ? lifetime : TLS_SESSION_TIME);
	end = cert_until(SSL_get0_peer_certificate(c->ssl));
	if (end > s.born + TLS_SESSION_TIME)
		end = s.born + TLS_SESSION_TIME;
	if (s.until > end)
		s.until = end;
	if (s.der.len <= TLS_SESSION_MAX && s.until > now) {
		c->sessions++;
		c->on_session(c->on_session_arg, &s);
	}
	OPENSSL_clear_free(der, (size_t)n);
	arena_clear(&a);
}
