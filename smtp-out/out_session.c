/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_session.h"

#include <openssl/evp.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/tls/tls_seal.h"
#include "smtp-out/out_hint.h"
#include "smtp-out/out_tls.h"

enum { DIGEST = 32, MACHINE_MAX = 255 };

struct out_session {
	struct out_hint *ask;        /* NULL: not asked, or answered */
	struct tls_session offered;  /* der empty: none */
	struct arena arena;
	struct buf given;            /* what a handshake gave that has not ended, as an entry */
	int64_t given_until;
	char key[2 * DIGEST];        /* hex */
	bool off;                    /* nothing is kept nor offered: which machine it is can't be said */
	bool shaken;
};

/* ---- the key ---- */

static void key_add(struct buf *b, struct str text)
{
	buf_printf(b, "%u:", (unsigned)text.len);
	buf_add_str(b, text);
}

/* The name of a machine behind a load balancer, which would know nothing of another's sessions: as Outlook's say it behind 250 in their reply
 * to EHLO. */
static struct str machine_name(struct str host, struct str ehlo)
{
	struct str name;
	uint32_t n = 0;

	if (!str_endsi(host, ".outlook.com") || !str_begins(ehlo, "250-"))
		return STR_NULL;
	name = str_from(ehlo, 4);
	while (n < name.len && (ascii_is_alnum(name.p[n]) || name.p[n] == '_' || name.p[n] == '.'))
		n++;
	return n && n < name.len && n <= MACHINE_MAX && ascii_is_space(name.p[n]) ? str_sub(name, 0, n) : STR_NULL;
}

static void peer_add(struct buf *b, const struct tls_peer *peer)
{
	key_add(b, peer->sni);
	key_add(b, peer->name);
	buf_printf(b, "%d %d %d %u %u ", peer->ask_ocsp, peer->require_ocsp, peer->require_alpn, peer->dh_min_bits, peer->n_tlsa);
	for (unsigned i = 0; i < peer->n_tlsa; i++) {
		buf_printf(b, "%u %u %u ", peer->tlsa[i].usage, peer->tlsa[i].selector, peer->tlsa[i].matching);
		key_add(b, peer->tlsa[i].data);
	}
	for (unsigned i = 0; i < peer->n_names; i++)
		key_add(b, peer->names[i]);
}

static void key_make(struct out_conn *conn, struct str machine, char out[2 * DIGEST])
{
	static const char hex[] = "0123456789abcdef";
	const struct out_options *o = conn->to->options;
	const struct ipc_host *h = conn->to->host;
	const struct str texts[] = {
		machine, h->name, h->ip, str_of(conn->local_ip), conn->so->openssl_options, o->tls.ciphers, o->tls.dane_ciphers,
		o->tls.alpn,
		o->tls.certificate, o->tls.privatekey, o->tls.anchors, o->tls.crl,
	};
	uint8_t digest[DIGEST];
	struct buf b = BUF_INIT;
	struct tls_peer peer;

	buf_printf(&b, "1 %u %u ", (unsigned)(h->port ? h->port : o->port), conn->demand.verify);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		key_add(&b, texts[i]);
	out_tls_peer_fill(conn, &peer);
	peer_add(&b, &peer);
	EVP_Digest(b.p, b.len, digest, NULL, EVP_sha256(), NULL);
	buf_clear(&b);
	for (unsigned i = 0; i < DIGEST; i++) {
		out[2 * i] = hex[digest[i] >> 4];
		out[2 * i + 1] = hex[digest[i] & 15];
	}
}

static struct str key_of(const struct out_session *s)
{
	return str_make(s->key, sizeof s->key);
}

/* ---- out of the store ---- */

static struct tls_session_need need_of(const struct out_conn *conn)
{
	struct tls_peer peer;

	out_tls_peer_fill((struct out_conn *)(uintptr_t)conn, &peer);
	return (struct tls_session_need){ .verified = conn->demand.verify == TLS_VERIFY_MUST, .dane = peer.n_tlsa > 0, .ocsp = conn->demand.require_ocsp };
}

static void on_entry(void *arg, struct str value)
{
	struct out_conn *conn = arg;
	struct out_session *s = conn->session;
	struct tls_session_need need = need_of(conn);
	struct tls_session found;
	int64_t now = clock_wall();
	struct str plain;

	s->ask = NULL;
	if (value.p && tls_unseal(conn->so->session_key, key_of(s), value, &s->arena, &plain) && tls_session_parse(plain, &found) &&
		tls_session_serves(&found, &need, now)) {
		s->offered = found;
		if (!found.once)
			out_hint_put(conn->so, "tls", key_of(s), value, (uint64_t)(found.until - now));
	}
	out_conn_wake(conn);
}

static void entry_ask(struct out_conn *conn, struct str machine)
{
	struct out_session *s = conn->session;

	key_make(conn, machine, s->key);
	s->ask = out_hint_take(conn->so, "tls", key_of(s), on_entry, conn);
}

static void on_machine(void *arg, struct str name)
{
	struct out_conn *conn = arg;
	struct out_session *s = conn->session;

	s->ask = NULL;
	s->off = !name.p || name.len > MACHINE_MAX;
	if (!s->off)
		entry_ask(conn, name);
	if (!s->ask)
		out_conn_wake(conn);
}

static void session_begin(struct out_conn *conn)
{
	const struct ipc_host *h = conn->to->host;
	struct str rule = conn->to->options->tls.machine, ehlo = buf_str(&conn->client.ehlo);
	struct out_session *s = conn->session;

	if (!rule.p || !rule.len) {
		entry_ask(conn, rule.p ? STR_NULL : machine_name(h->name, ehlo));
		return;
	}
	s->ask = out_hint_expand(conn->so, rule, h, ehlo, on_machine, conn);
	s->off = !s->ask;
}

bool out_session_look(struct out_conn *conn)
{
	if (!conn->to->tls.resume || !conn->so->session_key_known)
		return false;
	if (!conn->session) {
		conn->session = mem_new(sizeof *conn->session);
		session_begin(conn);
	}
	return conn->session->ask != NULL;
}

bool out_session_wanted(const struct out_conn *conn)
{
	return conn->session && !conn->session->off;
}

const struct tls_session *out_session_offered(struct out_conn *conn)
{
	return conn->session && conn->session->offered.der.len ? &conn->session->offered : NULL;
}

/* ---- into the store ---- */

static void given_put(struct out_conn *conn)
{
	struct out_session *s = conn->session;
	int64_t now = clock_wall();
	struct arena a = ARENA_INIT;
	struct str sealed;

	if (s->given.len && s->given_until > now && tls_seal(conn->so->session_key, key_of(s), buf_str(&s->given), &a, &sealed))
		out_hint_put(conn->so, "tls", key_of(s), sealed, (uint64_t)(s->given_until - now));
	buf_clear(&s->given);
	arena_clear(&a);
}

static void on_given(void *arg, const struct tls_session *session)
{
	struct out_conn *conn = arg;
	struct out_session *s = conn->session;

	buf_reset(&s->given);
	tls_session_format(&s->given, session);
	s->given_until = session->until;
	if (s->shaken)
		given_put(conn);
}

void out_session_begun(struct out_conn *conn)
{
	if (out_session_wanted(conn))
		tls_conn_on_session(conn->tls, on_given, conn);
}

void out_session_shaken(struct out_conn *conn, bool done)
{
	struct out_session *s = conn->session;

	if (!s)
		return;
	s->shaken = done;
	if (done)
		given_put(conn);
	else if (s->offered.der.len)
		out_hint_remove(conn->so, "tls", key_of(s)); /* a server that chokes on it shall not do so again */
}

void out_session_end(struct out_conn *conn)
{
	struct out_session *s = conn->session;

	if (!s)
		return;
	out_hint_cancel(s->ask);
	buf_clear(&s->given);
	arena_clear(&s->arena);
	mem_free(s);
	conn->session = NULL;
}
