/* SPDX-License-Identifier: ISC */
/* TLS: STARTTLS, sessions that begin with it, and what is known afterwards (RFC 3207; RFC 8314; specification, chapter 43).
 *
 * Nothing that was said before the handshake counts behind it: neither what lies in a buffer nor what the session has learned of the
 * client. The handshake itself is the shell's. */
#include <string.h>

#include "common/tls/tls.h"
#include "smtpd/session_priv.h"

const struct client_tls *session_tls(const struct session *s)
{
	return s->tls_own ? s->tls_own : &session_client(s)->tls;
}

bool tls_offered(const struct session *s)
{
	return !s->local && !s->pretended && !s->tls_started && session_tls(s)->flags & TLS_F_ADVERTISE;
}

/* ---- facts ---- */

static void fact_add(struct ipc_pair *v, uint32_t *n, const char *name, struct str value)
{
	if (value.len)
		v[(*n)++] = (struct ipc_pair){ .name = str_of(name), .value = value, .tainted = value.tainted };
}

/* The certificate that we showed is the last: spool files do without it. */
static void facts_keep(struct session *s, const struct tls_facts *f)
{
	struct arena *a = &s->server->scratch;
	struct ipc_pair v[16];
	uint32_t n = 0;
	bool star = f->resumption & TLS_RES_RESUMED && s->server->settings.log & LOG_SEL(tls_resumption);

	fact_add(v, &n, "cipher", f->cipher);
	fact_add(v, &n, "cipher_std", f->cipher_std);
	fact_add(v, &n, "ver", f->version);
	fact_add(v, &n, "bits", str_printf(a, "%u", f->bits));
	fact_add(v, &n, "certificate_verified", f->verified ? STR_LIT("1") : STR_LIT("0"));
	fact_add(v, &n, "peerdn", f->peerdn);
	fact_add(v, &n, "sni", f->sni);
	fact_add(v, &n, "ocsp", str_printf(a, "%u", f->ocsp));
	fact_add(v, &n, "resumption", str_printf(a, "%u", f->resumption));
	fact_add(v, &n, "X", str_printf(a, "%.*s%s", STR_FMT(f->cipher), star ? "*" : ""));
	fact_add(v, &n, "on_connect", s->tls_on_connect ? STR_LIT("tls_on_connect") : STR_NULL);
	fact_add(v, &n, "CV", f->verified ? STR_LIT("yes") : STR_LIT("no"));
	fact_add(v, &n, "DN", f->peerdn);
	fact_add(v, &n, "SNI", f->sni);
	fact_add(v, &n, "peercert", f->peercert_pem);
	fact_add(v, &n, "ourcert", f->ourcert_pem);
	session_vars_set(&s->tls, v, n);
}

static struct str *fact_find(struct session *s, const char *name)
{
	for (uint32_t i = 0; i < s->tls.n; i++)
		if (str_is(s->tls.v[i].name, name))
			return &s->tls.v[i].value;
	return NULL;
}

/* Authorities vouch for names; whether the client is the one that it names is another question, asked of those that the list has. */
void tls_names_check(struct session *s)
{
	struct str *verified = fact_find(s, "certificate_verified"), *log = fact_find(s, "CV"), *cert = fact_find(s, "peercert");
	bool names;

	if (!s->tls_active || !s->tls_verified || !(session_tls(s)->flags & TLS_F_NAMES) || !verified || !log || !cert)
		return;
	names = tls_cert_names(*cert, str_of(s->helo)) || tls_cert_names(*cert, str_of(s->client_name));
	*verified = names ? STR_LIT("1") : STR_LIT("0");
	*log = names ? STR_LIT("yes") : STR_LIT("no");
}

struct str tls_log(struct session *s)
{
	static const struct { const char *name; uint64_t bit; bool quoted; } rows[] = {
		{ "X", LOG_SEL(tls_cipher), false }, { "CV", LOG_SEL(tls_certificate_verified), false }, { "DN", LOG_SEL(tls_peerdn), true },
		{ "SNI", LOG_SEL(tls_sni), true },
	};
	struct buf b = BUF_LIMIT(4096);
	struct str text;

	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
		for (uint32_t i = 0; i < s->tls.n && s->server->settings.log & rows[k].bit; i++)
			if (str_is(s->tls.v[i].name, rows[k].name))
				buf_printf(&b, rows[k].quoted ? " %s=\"%.*s\"" : " %s=%.*s", rows[k].name, STR_FMT(s->tls.v[i].value));
	text = str_dup(&s->server->scratch, buf_str(&b));
	buf_clear(&b);
	return text;
}

/* ---- the beginning ---- */

static void enter(struct session *s)
{
	uint32_t limit = s->server->settings.command_timeout_ms;

	/* However the client dribbles, the whole handshake has the time of one command. */
	session_enter(s, SESSION_TLS);
	if (s->state == SESSION_TLS && limit && (!s->deadline_ms || s->deadline_ms > s->server->now_ms + limit))
		s->deadline_ms = s->server->now_ms + limit;
}

static void starttls_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	if (!policy_accepts(s, answer, "STARTTLS", STR_NULL))
		return;
	/* RFC 3207 section 4.2: what the client has said is forgotten; a message that had begun, too. */
	log_incomplete(s);
	session_transaction_end(s);
	enter(s);
	s->server->ops->tls_start(s);
}

void verb_starttls(struct session *s, struct str args)
{
	if (!s->tls_advertised || !tls_offered(s))
		reply_protocol(s, 503, "5.5.1", "STARTTLS command used when not advertised", false);
	else if (args.len)
		reply_syntax(s, 501, "5.5.4", "STARTTLS has no argument");
	else
		policy_ask(s, ACL_STARTTLS, starttls_proceed);
}

static void own_settings(struct session *s, const struct ipc_acl_answer *answer)
{
	struct client_tls *own = mem_new(sizeof *own);

	own->flags = session_tls(s)->flags;
	client_tls_parse(own, answer->settings, answer->n_settings);
	if (s->tls_own)
		client_tls_clear(s->tls_own);
	mem_free(s->tls_own);
	s->tls_own = own;
}

static void connect_settings(struct session *s, const struct ipc_acl_answer *answer)
{
	enter(s);
	if (!answer || answer->verdict != ACL_ACCEPT) {
		session_on_tls_unavailable(s, "the settings of TLS can't be told now");
		return;
	}
	own_settings(s, answer);
	s->server->ops->tls_start(s);
}

void tls_begin(struct session *s)
{
	if (!s->client) {
		policy_ask(s, (enum acl_stage)ASK_TLS, connect_settings);
		return;
	}
	enter(s);
	s->server->ops->tls_start(s);
}

/* ---- what the shell says ---- */

void session_on_tls_ready(struct session *s)
{
	s->tls_started = true;
	if (!s->tls_on_connect)
		reply(s, 220, "2.0.0", STR_LIT("TLS go ahead"));
}

void session_on_tls_injected(struct session *s)
{
	session_logf(s, LOG_MAIN | LOG_REJECT, "SMTP protocol synchronization error (input behind STARTTLS before the handshake): dropped connection from %.*s",
		STR_FMT(log_peer(s)));
	s->server->stats.rejects++;
	session_drop_for(s, "synchronization-error", 554, "5.5.0", "Security failure: input sent behind STARTTLS");
}

/* "TLS error on connection from (helo) [ip] (SSL_accept): reason", as Exim has it. */
static void error_log(struct session *s, const char *text)
{
	static const char step[] = "SSL_accept: ";
	bool shake = !strncmp(text, step, sizeof step - 1);

	s->server->stats.tls_failed++;
	session_logf(s, LOG_MAIN, "TLS error on connection from %.*s %s%s", STR_FMT(log_peer(s)), shake ? "(SSL_accept): " : "",
		shake ? text + sizeof step - 1 : text);
}

void session_on_tls_unavailable(struct session *s, const char *text)
{
	error_log(s, text);
	if (s->tls_on_connect) { /* nothing that could be said in clear */
		session_end_without_quit(s, "tls-failed");
		return;
	}
	session_enter(s, SESSION_COMMAND);
	reply(s, 454, "4.7.0", STR_LIT("TLS currently unavailable"));
}

static void hello_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	session_vars_set(&s->tls, NULL, 0);
	enter(s);
	if (!answer || answer->verdict != ACL_ACCEPT) {
		session_on_tls_failed(s, "the settings of TLS can't be told now");
		return;
	}
	own_settings(s, answer);
	s->server->ops->tls_go_on(s);
}

void session_on_tls_hello(struct session *s, struct str sni)
{
	struct ipc_pair v = { .name = STR_LIT("sni"), .value = sni, .tainted = true };

	session_vars_set(&s->tls, &v, 1);
	policy_ask(s, (enum acl_stage)ASK_TLS, hello_proceed);
}

static void session_forget(struct session *s)
{
	session_auth_reset(s);
	s->helo_free = true;
	s->tls_advertised = false;
	if (s->server->settings.tls_remember_esmtp)
		return;
	mem_free(s->helo);
	s->helo = NULL;
	s->esmtp = s->helo_verified = false;
}

void session_on_tls_done(struct session *s, const struct tls_facts *facts)
{
	if (session_tls(s)->flags & TLS_F_ALPN && !facts->alpn.len) {
		session_on_tls_failed(s, "no ALPN name was negotiated (hosts_require_alpn)");
		return;
	}
	facts_keep(s, facts);
	s->server->stats.tls++;
	s->server->stats.tls_resumed += (facts->resumption & TLS_RES_RESUMED) != 0;
	s->tls_active = true;
	s->tls_verified = facts->verified;
	tls_names_check(s);
	if (s->tls_on_connect) {
		session_enter(s, SESSION_CONNECT);
		session_begin(s);
		return;
	}
	session_forget(s);
	session_enter(s, SESSION_COMMAND);
	early_begin(s);
}

/* The line is neither clear nor encrypted now: nothing more is said. */
void session_on_tls_failed(struct session *s, const char *text)
{
	error_log(s, text);
	session_vars_set(&s->tls, NULL, 0);
	s->quit = true; /* no reply and no lingering */
	session_end_without_quit(s, "tls-failed");
}

void tls_late(struct session *s)
{
	s->server->stats.timeouts++;
	session_on_tls_failed(s, "SSL_accept: timed out");
}
