/* SPDX-License-Identifier: ISC */
/* The session's states, its input and its end. */
#include "smtpd/session.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/mail/date.h"
#include "smtpd/session_priv.h"

static size_t command_input(struct session *s, const char *p, size_t n);
static size_t closing_input(struct session *s, const char *p, size_t n);
static void command_late(struct session *s);
static void policy_late(struct session *s);
static void qmgr_late(struct session *s);
static void closing_late(struct session *s);

enum timeout_class { TIMEOUT_NONE, TIMEOUT_CLIENT, TIMEOUT_POLICY, TIMEOUT_QMGR, TIMEOUT_LINGER };

/* One row a state. A state without input takes none: the client's octets wait. */
static const struct state_row {
	const char *name;
	const char *doing;                /* for the log: "... while DOING" */
	enum timeout_class timeout;
	size_t (*input)(struct session *s, const char *p, size_t n);
	void (*late)(struct session *s);
} states[SESSION_STATES] = {
	[SESSION_CONNECT] = { "connect", "being checked at connection", TIMEOUT_POLICY, NULL, policy_late },
	[SESSION_PROXY] = { "proxy", "waiting for the proxy's header", TIMEOUT_NONE, NULL, proxy_late },
	[SESSION_COMMAND] = { "command", "reading SMTP command", TIMEOUT_CLIENT, command_input, command_late },
	[SESSION_AUTH] = { "auth", "reading SMTP command", TIMEOUT_CLIENT, auth_input, command_late },
	[SESSION_AUTH_ASK] = { "auth-ask", "authenticating", TIMEOUT_POLICY, NULL, auth_late },
	[SESSION_ASK] = { "ask", "waiting for the policy", TIMEOUT_POLICY, NULL, policy_late },
	[SESSION_DELAY] = { "delay", "a reply was held back", TIMEOUT_NONE, NULL, session_on_delay },
	[SESSION_FILE] = { "file", "waiting for a file", TIMEOUT_QMGR, NULL, qmgr_late },
	[SESSION_DATA] = { "data", "reading message data", TIMEOUT_CLIENT, data_input, data_late },
	[SESSION_COMMIT] = { "commit", "the message was being made durable", TIMEOUT_QMGR, NULL, qmgr_late },
	[SESSION_TLS] = { "tls", "in the TLS handshake", TIMEOUT_CLIENT, NULL, tls_late },
	[SESSION_CHUNK] = { "chunk", "reading message data", TIMEOUT_CLIENT, bdat_input, data_late },
	[SESSION_CLOSING] = { "closing", "closing", TIMEOUT_LINGER, closing_input, closing_late },
	[SESSION_CLOSED] = { "closed", "closed", TIMEOUT_NONE, NULL, NULL },
};

/* Stands for the client's settings as long as the connect stage is not through. */
static const struct client_settings no_client = { .refs = 1, .flags = CLIENT_DEFAULT, .size_limit = 52428800, .max_per_connection = 1000,
	.receive_timeout_ms = 300000 };

struct client_settings *session_client(const struct session *s)
{
	return s->client ? s->client : (struct client_settings *)(uintptr_t)&no_client;
}

const char *session_state_name(const struct session *s)
{
	return states[s->state].name;
}

size_t session_size(void)
{
	return sizeof(struct session);
}

void session_ip_format(bool ipv6, const uint8_t *ip, char *out)
{
	if (!inet_ntop(ipv6 ? AF_INET6 : AF_INET, ip, out, 64))
		strcpy(out, "?");
}

struct str session_hostname(const struct session *s)
{
	return s->client && s->client->active_hostname ? str_of(s->client->active_hostname) : s->server->settings.hostname;
}

void session_init(struct session *s, struct server *server)
{
	memset(s, 0, sizeof *s);
	s->server = server;
	s->state = SESSION_CONNECT;
	s->number = ++server->last_session;
	s->started_ms = server->now_ms;
	s->helo_free = s->rset_free = s->starttls_free = true;
}

void session_vars_set(struct vars *vars, const struct ipc_pair *v, uint32_t n)
{
	arena_clear(&vars->arena);
	vars->v = NULL;
	vars->n = 0;
	if (!n)
		return;
	vars->v = arena_alloc(&vars->arena, n * sizeof *v);
	for (uint32_t i = 0; i < n; i++)
		vars->v[i] = (struct ipc_pair){ str_dup(&vars->arena, v[i].name), str_dup(&vars->arena, v[i].value), v[i].tainted };
	vars->n = n;
}

void session_transaction_end(struct session *s)
{
	txn_free(s);
	session_vars_set(&s->acl_m, NULL, 0);
}

static void line_drop(struct session *s)
{
	mem_free(s->line);
	s->line = NULL;
}

static void tls_forget(struct session *s)
{
	session_vars_set(&s->tls, NULL, 0);
	if (s->tls_own)
		client_tls_clear(s->tls_own);
	mem_free(s->tls_own);
	s->tls_own = NULL;
}

void session_clear(struct session *s)
{
	session_transaction_end(s);
	if (s->state == SESSION_ASK || s->state == SESSION_AUTH_ASK)
		s->server->ops->ask_cancel(s);
	s->state = SESSION_CLOSED;
	session_auth_reset(s);
	line_drop(s);
	session_vars_set(&s->acl_c, NULL, 0);
	session_vars_set(&s->results, NULL, 0);
	session_vars_set(&s->proxy, NULL, 0);
	tls_forget(s);
	arena_clear(&s->held_arena);
	client_settings_unref(s->client);
	s->client = NULL;
	mem_free(s->helo);
	mem_free(s->end_text);
	mem_free(s->end_esc);
	s->end_text = s->end_esc = NULL;
	mem_free(s->client_name);
	mem_free(s->ident);
	mem_free(s->gecos);
	mem_free(s->connection_id);
	s->helo = s->client_name = s->ident = s->gecos = s->connection_id = NULL;
	if (s->counted)
		s->server->stats.open--;
	s->counted = false;
}

static uint32_t client_timeout(const struct session *s)
{
	return session_client(s)->receive_timeout_ms;
}

void session_enter(struct session *s, enum session_state state)
{
	static const uint32_t waits[] = { [TIMEOUT_NONE] = 0, [TIMEOUT_CLIENT] = 0, [TIMEOUT_POLICY] = SESSION_POLICY_WAIT_MS,
		[TIMEOUT_QMGR] = SESSION_QMGR_WAIT_MS, [TIMEOUT_LINGER] = SESSION_LINGER_MS };
	uint32_t wait = states[state].timeout == TIMEOUT_CLIENT ? client_timeout(s) : waits[states[state].timeout];

	if (s->state == SESSION_CLOSED || (s->state == SESSION_CLOSING && state != SESSION_CLOSED))
		return;
	if (state == SESSION_CLOSING)
		s->dropped = 0;
	s->state = (uint8_t)state;
	s->deadline_ms = wait ? s->server->now_ms + wait : 0;
	s->line_ms = 0;
}

bool session_wants_input(const struct session *s)
{
	return states[s->state].input != NULL;
}

void session_close(struct session *s)
{
	session_transaction_end(s);
	auth_clear(s);
	session_enter(s, SESSION_CLOSING);
}

static void drop_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str text = str_of(s->end_text);

	if (answer && answer->text.len && s->end_code)
		text = answer->text;
	if (s->end_code)
		reply(s, s->end_code, s->end_esc, text);
	session_close(s);
}

/* code 0: the client has been told. */
static void end_ask(struct session *s, const char *reason, unsigned code, const char *esc, const char *text)
{
	session_transaction_end(s);
	s->notquit_asked = true;
	s->end_reason = reason;
	s->end_code = (uint16_t)code;
	mem_free(s->end_text);
	mem_free(s->end_esc);
	s->end_text = text ? mem_strdup(text) : NULL;
	s->end_esc = esc ? mem_strdup(esc) : NULL;
	policy_ask(s, ACL_NOTQUIT, drop_proceed);
}

void session_end_without_quit(struct session *s, const char *reason)
{
	if (s->notquit_asked || !policy_has(s, ACL_NOTQUIT))
		session_close(s);
	else
		end_ask(s, reason, 0, NULL, NULL);
}

void session_drop_for(struct session *s, const char *reason, unsigned code, const char *esc, const char *text)
{
	if (s->state == SESSION_CLOSING || s->state == SESSION_CLOSED)
		return;
	if (s->notquit_asked || !policy_has(s, ACL_NOTQUIT)) {
		session_drop(s, code, esc, text);
		return;
	}
	log_incomplete(s);
	if (code == 421)
		text = arena_printf(&s->server->scratch, "%.*s %s", STR_FMT(session_hostname(s)), text);
	end_ask(s, reason, code, esc, text);
}

void session_drop(struct session *s, unsigned code, const char *esc, const char *text)
{
	if (s->state == SESSION_CLOSING || s->state == SESSION_CLOSED)
		return;
	if (code == 421)
		replyf(s, code, esc, "%.*s %s", STR_FMT(session_hostname(s)), text);
	else
		replyf(s, code, esc, "%s", text);
	log_incomplete(s);
	session_close(s);
}

/* ---- the connection ---- */

static void connection_log(struct session *s)
{
	if ((s->server->settings.log & LOG_SEL(smtp_connection)) && !(session_client(s)->flags & CLIENT_NOLOG))
		session_logf(s, LOG_MAIN, "SMTP connection from %.*s%s%u%s", STR_FMT(log_peer(s)), s->local ? "" : " (TCP/IP connection count = ",
			s->server->stats.open, s->local ? "" : ")");
}

/* policyd leaves the time to us, so that its answer holds for other connections, too. */
static struct str banner_dated(struct session *s, struct str text)
{
	static const struct str names[] = { STR_LIT("$tod_full"), STR_LIT("${tod_full}") };
	char date[DATE_TEXT];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		ptrdiff_t at = str_find_str(text, names[i]);

		if (at < 0)
			continue;
		date_format(date, s->server->wall_us / 1000000, s->server->settings.utc);
		return str_printf(&s->server->scratch, "%.*s%s%.*s", (int)at, text.p, date, STR_FMT(str_from(text, (size_t)at + names[i].len)));
	}
	return text;
}

bool session_sync_wanted(const struct session *s)
{
	return (s->server->settings.enforce_sync || (s->flags & MSG_ENFORCE_SYNC)) && !(s->flags & MSG_NO_ENFORCE_SYNC);
}

static bool sync_enforced(const struct session *s)
{
	return session_sync_wanted(s) && !s->pretended;
}

static void greet(struct session *s, struct str text)
{
	struct client_settings *c = session_client(s);

	/* Local submitters may write at once: nobody can impersonate them by it. */
	if (sync_enforced(s) && !s->local && s->server->ops->input_waiting(s) && (s->proxy_failed || !early_greeting(s))) {
		session_logf(s, LOG_MAIN | LOG_REJECT,
			"SMTP protocol synchronization error (input sent without waiting for greeting): rejected connection from %.*s", STR_FMT(log_peer(s)));
		s->server->stats.rejects++;
		session_drop_for(s, "synchronization-error", 554, "5.5.0", "SMTP synchronization error");
		return;
	}
	connection_log(s);
	if (!text.len && c->banner)
		text = str_of(c->banner);
	if (!text.len)
		text = str_printf(&s->server->scratch, "%.*s ESMTP %.*s $tod_full", STR_FMT(session_hostname(s)), STR_FMT(s->server->settings.software));
	early_begin(s);
	reply(s, 220, NULL, banner_dated(s, text));
	session_enter(s, SESSION_COMMAND);
}

static bool client_refused(struct session *s)
{
	if (!(session_client(s)->flags & CLIENT_REJECT) || s->local)
		return false;
	if (s->server->settings.log & LOG_SEL(connection_reject))
		session_logf(s, LOG_MAIN | LOG_REJECT, "refused connection from %.*s (host_reject_connection)", STR_FMT(log_peer(s)));
	s->server->stats.rejects++;
	session_drop(s, 554, "5.7.1", "SMTP service not available");
	return true;
}

static bool client_over(struct session *s)
{
	struct client_settings *c = session_client(s);
	struct settings *set = &s->server->settings;
	const char *why = NULL, *load = NULL;

	if (c->max_per_host && s->host_connections > c->max_per_host)
		why = "too many connections from that IP address";
	else if (set->accept_max && set->accept_reserve && s->server->stats.open + set->accept_reserve > set->accept_max && !(c->flags & CLIENT_RESERVED))
		why = "too many connections";
	else if (s->server->load > set->load_reserve && !(c->flags & CLIENT_RESERVED))
		load = why = "the load is too high";
	if (!why)
		return false;
	if (set->log & LOG_SEL(connection_reject))
		session_logf(s, LOG_MAIN, "Connection from %.*s refused: %s", STR_FMT(log_peer(s)), why);
	s->server->stats.rejects++;
	session_drop(s, 421, "4.3.2", load ? "Too much load; please try again later" : "Too many concurrent SMTP connections; please try again later");
	return true;
}

/* The answer may hold for more than this session. */
static void settings_remember(struct session *s, const struct ipc_acl_answer *answer)
{
	struct server *server = s->server;

	if (answer->cache_scope == CACHE_EVERYONE) {
		client_settings_unref(server->everyone);
		server->everyone = client_settings_ref(s->client);
		server->everyone_until_ms = answer->cache_ms ? server->now_ms + answer->cache_ms : 0;
	} else if (answer->cache_scope == CACHE_CLIENT && answer->cache_ms && !s->xclient_used) {
		server->ops->remember(s, answer->cache_ms);
	}
}

static void connect_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str text = STR_NULL;

	if (answer) {
		if (!policy_accepts(s, answer, "connection", STR_LIT("in \"connect\" ACL"))) {
			if (s->state != SESSION_ASK) /* not if another ACL runs because of it */
				session_close(s);
			return;
		}
		if (!s->client) {
			s->client = client_settings_new();
			client_settings_parse(s->client, answer->settings, answer->n_settings);
			if (answer->name_looked) {
				s->client->name_looked = true;
				s->client->name = s->client_name ? mem_strdup(s->client_name) : NULL;
			}
			settings_remember(s, answer);
		}
		text = answer->text;
	} else if (s->client->name_looked && !s->name_looked) {
		/* Found for an earlier session of the same client. */
		s->name_looked = true;
		s->client_name = s->client->name ? mem_strdup(s->client->name) : NULL;
	}
	xclient_decide(s);
	if (!client_refused(s) && !client_over(s))
		greet(s, text);
}

void session_begin(struct session *s)
{
	if (s->client)
		connect_proceed(s, NULL);
	else
		policy_ask(s, ACL_CONNECT, connect_proceed);
}

static void everyones_take(struct session *s)
{
	struct server *server = s->server;

	if (!s->client && server->everyone && (!server->everyone_until_ms || server->now_ms < server->everyone_until_ms))
		s->client = client_settings_ref(server->everyone);
}

void session_client_new(struct session *s)
{
	everyones_take(s);
	session_begin(s);
}

void session_client_known(struct session *s)
{
	everyones_take(s);
	if (s->tls_on_connect)
		tls_begin(s);
	else
		session_begin(s);
}

void session_start(struct session *s)
{
	struct server *server = s->server;

	server->stats.sessions++;
	server->stats.open++;
	s->counted = true;
	s->connections = server->stats.open;
	if (server->settings.accept_queue && server->stats.open > server->settings.accept_queue)
		s->queue_only = true;
	if (s->local) {
		s->client = client_settings_new();
		s->client->flags &= ~(uint32_t)(CLIENT_REQUIRE_HELO | CLIENT_NONMAIL);
		s->client->flags |= CLIENT_SENDER_UNQUALIFIED | CLIENT_RCPT_UNQUALIFIED | CLIENT_HELO_JUNK | CLIENT_DSN;
		s->client->max_per_connection = 0;
		if (server->everyone)
			s->client->size_limit = server->everyone->size_limit;
		greet(s, STR_NULL);
		return;
	}
	if (server->settings.proxies && !s->pretended)
		proxy_ask(s);
	else
		session_client_known(s);
}

/* ---- commands ---- */

bool session_pipelining(const struct session *s)
{
	return s->esmtp && (session_client(s)->flags & CLIENT_PIPELINING) && !(s->flags & MSG_NO_PIPELINING);
}

static const struct verb *verb_find(struct str line, struct str *args_out)
{
	size_t n = 0;
	struct str name;

	while (n < line.len && ascii_is_alpha(line.p[n]))
		n++;
	name = str_sub(line, 0, n);
	if (n < line.len && line.p[n] != ' ')
		return NULL;
	while (n < line.len && line.p[n] == ' ')
		n++;
	*args_out = str_from(line, n);
	for (const struct verb *v = session_verbs; v->name; v++)
		if (str_isi(name, v->name))
			return v;
	return NULL;
}

/* Input that is shown in the log, unless an AUTH command may be in it, or the response to one. */
static struct str next_shown(struct session *s, const struct verb *v, struct str next)
{
	bool hide = v->check == verb_auth;

	for (size_t i = 0; !hide && i + 5 <= next.len; i++)
		hide = str_beginsi(str_from(next, i), "AUTH ");
	return hide ? str_printf(&s->server->scratch, "(%u octets, not shown)", next.len) : str_sub(next, 0, 100);
}

/* More than this command lies in the buffer although it must be the last of its group. */
static bool sync_broken(struct session *s, const struct verb *v, struct str next)
{
	if (next.len && v->flags & VERB_LAST && s->tls_advertised) {
		session_on_tls_injected(s);
		return true;
	}
	if (early_permits(s, v, next.len > 0))
		return false;
	if (!next.len || !sync_enforced(s) || s->local)
		return false;
	if (!(v->flags & VERB_SYNC) && (!(v->flags & VERB_SYNC_PLAIN) || session_pipelining(s)))
		return false;
	next = next_shown(s, v, next);
	s->wipe = true;
	session_logf(s, LOG_MAIN | LOG_REJECT,
		"SMTP protocol synchronization error (next input sent too soon: pipelining was%s advertised): rejected \"%.*s\" %.*s next input=\"%.*s\"",
		session_pipelining(s) ? "" : " not", STR_FMT(log_printable(s, str_of(s->line))), STR_FMT(log_host(s)), STR_FMT(next));
	s->server->stats.rejects++;
	session_drop_for(s, "synchronization-error", 554, "5.5.0", "SMTP synchronization error");
	return true;
}

/* Commands outside transactions; those that clients may rightly repeat are not counted once between messages. */
static bool nonmail_over(struct session *s, const struct verb *v)
{
	bool *free_once = v->check == verb_rset ? &s->rset_free : v->check == verb_helo || v->check == verb_ehlo ? &s->helo_free :
		v->check == verb_starttls ? &s->starttls_free : NULL;

	if ((v->flags & VERB_MAIL) || v->check == verb_quit)
		return false;
	if (free_once && *free_once) {
		*free_once = false;
		return false;
	}
	if (++s->nonmail <= s->server->settings.max_nonmail || !(session_client(s)->flags & CLIENT_NONMAIL) || !s->server->settings.max_nonmail)
		return false;
	session_logf(s, LOG_MAIN, "SMTP call from %.*s dropped: too many nonmail commands (last was \"%s\")", STR_FMT(log_peer(s)), v->name);
	session_drop_for(s, "bad-commands", 421, "4.7.0", "Too many non-mail commands");
	return true;
}

static void unknown_command(struct session *s)
{
	struct settings *set = &s->server->settings;

	if (set->log & LOG_SEL(smtp_syntax_error))
		session_logf(s, LOG_MAIN, "SMTP syntax error in \"%.*s\" %.*s unrecognized command", STR_FMT(log_printable(s, str_of(s->line))),
			STR_FMT(log_host(s)));
	if (++s->unknown > set->max_unknown && set->max_unknown && !s->local) {
		session_logf(s, LOG_MAIN, "SMTP call from %.*s dropped: too many unrecognized commands (last was \"%.*s\")", STR_FMT(log_peer(s)),
			STR_FMT(log_printable(s, str_of(s->line))));
		session_drop_for(s, "bad-commands", 500, "5.5.2", "Too many unrecognized commands");
		return;
	}
	reply(s, 500, "5.5.2", STR_LIT("unrecognized command"));
}

static void verb_remember(struct session *s, const struct verb *v)
{
	memmove(s->verbs, s->verbs + 1, sizeof s->verbs - 1);
	s->verbs[SESSION_VERBS - 1] = (uint8_t)(v - session_verbs + 1);
}

static void line_handle(struct session *s, struct str line, struct str next)
{
	struct str args = STR_NULL;
	const struct verb *v;

	while (line.len && line.p[line.len - 1] == ' ') /* RFC 5321 section 4.1.1: blanks at the end are tolerated */
		line.len--;
	line_drop(s);
	line = auth_line_split(s, line);
	s->line = mem_memdup(line.p, line.len);
	line = str_taint(str_make(s->line, line.len));
	v = verb_find(line, &args);
	for (size_t i = 0; i < line.len; i++) {
		if ((unsigned char)line.p[i] < 32 || line.p[i] == 127 || ((unsigned char)line.p[i] > 127 && !(v && v->flags & VERB_UTF8))) {
			if (bdat_line_lost(s, line))
				return;
			reply_syntax(s, 500, "5.5.2", (unsigned char)line.p[i] > 127 ? "8-bit characters are not permitted in commands" :
				"control characters are not permitted in commands");
			return;
		}
	}
	if (!v) {
		if (!bdat_line_lost(s, line))
			unknown_command(s);
		return;
	}
	if (sync_broken(s, v, next) || nonmail_over(s, v) || proxy_refuses(s, v))
		return;
	s->verb = v;
	s->pipelined |= next.len && session_pipelining(s);
	verb_remember(s, v);
	v->check(s, args);
	s->early_group = s->early_group && next.len;
	s->secret = STR_NULL;
}

static void line_too_long(struct session *s, struct str line)
{
	line_drop(s);
	s->line = mem_strdup("(too long)");
	if (bdat_line_lost(s, line))
		return;
	s->skip_line = true;
	reply_syntax(s, 500, "5.5.2", "line too long");
}

/* A lone LF ends nothing. It is answered at once, since a client that knows no better would wait for ever, and all up to the next
 * CR LF is dropped unread, so that what stands behind it is never taken for a command. */
static void line_bare_lf(struct session *s, struct str line)
{
	line_drop(s);
	s->line = mem_strdup("(bare LF)");
	if (bdat_line_lost(s, line))
		return;
	s->skip_line = true;
	reply_syntax(s, 500, "5.5.2", "bare line feed: lines must end in CR LF");
}

static size_t line_skip(struct session *s, const char *p, size_t n)
{
	const char *end = memmem(p, n, "\r\n", 2);

	if (end) {
		s->skip_line = false;
		s->line_ms = 0;
		s->dropped = 0;
		return (size_t)(end - p) + 2;
	}
	if ((s->dropped += (uint32_t)n) > SESSION_DROPPED_MAX) {
		session_logf(s, LOG_MAIN, "SMTP call from %.*s dropped: a command line without an end", STR_FMT(log_peer(s)));
		session_drop_for(s, "bad-commands", 421, "4.7.0", "line too long");
		return n;
	}
	return p[n - 1] == '\r' ? n - 1 : n;
}

/* One line. Returns the octets taken; 0: more must come. */
static size_t command_input(struct session *s, const char *p, size_t n)
{
	size_t max = auth_line_max(s, p, n);
	const char *nl;

	if (s->skip_line)
		return line_skip(s, p, n);
	nl = memchr(p, '\n', n < max ? n : max);
	if (!nl) {
		if (!s->line_ms)
			s->line_ms = s->server->now_ms;
		if (n < max)
			return 0;
		line_too_long(s, str_make(p, n < max ? n : max));
		return max - 1;
	}
	if (nl == p || nl[-1] != '\r') {
		line_bare_lf(s, str_make(p, (size_t)(nl - p)));
		return (size_t)(nl - p) + 1;
	}
	if (s->deadline_ms)
		s->deadline_ms = s->server->now_ms + client_timeout(s);
	s->line_ms = 0;
	line_handle(s, str_taint(str_make(p, (size_t)(nl - p) - 1)), str_make(nl + 1, n - (size_t)(nl - p) - 1));
	if (s->state == SESSION_COMMAND)
		line_drop(s);
	return (size_t)(nl - p) + 1;
}

/* Read and dropped, so that the last reply is not lost by a reset; but not for ever. */
static size_t closing_input(struct session *s, const char *p, size_t n)
{
	(void)p;
	if ((s->dropped += (uint32_t)n) > SESSION_DROPPED_MAX)
		s->state = SESSION_CLOSED;
	return n;
}

size_t session_input(struct session *s, const char *p, size_t n)
{
	size_t at = 0, taken;

	while (at < n && states[s->state].input) {
		taken = states[s->state].input(s, p + at, n - at);
		at += taken;
		if (!taken)
			break;
	}
	/* A line that does not end has a deadline of its own: a client that dribbles does not move it. */
	if ((s->state == SESSION_COMMAND || s->state == SESSION_AUTH) && (s->line_ms || s->skip_line)) {
		uint64_t end;

		if (!s->line_ms)
			s->line_ms = s->server->now_ms;
		end = s->line_ms + s->server->settings.command_timeout_ms;
		if (!s->deadline_ms || end < s->deadline_ms)
			s->deadline_ms = end;
	}
	return at;
}

/* ---- ends ---- */

static void notquit_done(struct session *s, const struct ipc_acl_answer *answer)
{
	(void)answer;
	session_enter(s, SESSION_CLOSED);
}

/* The client is not there any more; policyd may want to know. */
static void session_lost(struct session *s)
{
	log_incomplete(s);
	session_transaction_end(s);
	if (s->state == SESSION_ASK || s->state == SESSION_AUTH_ASK)
		s->server->ops->ask_cancel(s);
	auth_clear(s);
	s->proceed = NULL;
	if (!s->notquit_asked && policy_has(s, ACL_NOTQUIT) && s->state != SESSION_CONNECT && !s->quit) {
		s->notquit_asked = true;
		s->state = SESSION_COMMAND;
		s->end_reason = "connection-lost";
		policy_ask(s, ACL_NOTQUIT, notquit_done);
		return;
	}
	s->state = SESSION_CLOSED;
}

void session_on_eof(struct session *s, const char *why)
{
	bool data = s->state == SESSION_DATA || s->state == SESSION_CHUNK;

	if (s->state == SESSION_CLOSED || (s->state == SESSION_ASK && s->notquit_asked))
		return;
	if (s->state == SESSION_CLOSING) {
		s->state = SESSION_CLOSED;
		return;
	}
	s->server->stats.lost++;
	if (data)
		session_logf(s, LOG_MAIN, "SMTP connection from %.*s lost while reading message data%s %.*s", STR_FMT(log_peer(s)),
			s->txn && s->txn->scan.in_header ? " (header)" : "", STR_FMT(log_duration(s)));
	else if (s->server->settings.log & LOG_SEL(lost_incoming_connection))
		session_logf(s, LOG_MAIN, "unexpected disconnection while %s from %.*s%s%s%s %.*s", states[s->state].doing, STR_FMT(log_peer(s)),
			why ? " (" : "", why ? why : "", why ? ")" : "", STR_FMT(log_duration(s)));
	session_lost(s);
}

static void command_late(struct session *s)
{
	s->server->stats.timeouts++;
	session_logf(s, LOG_MAIN, "SMTP command timeout on connection from %.*s %.*s", STR_FMT(log_peer(s)), STR_FMT(log_duration(s)));
	session_drop_for(s, "command-timeout", 421, "4.4.2", "SMTP command timeout - closing connection");
}

void data_late(struct session *s)
{
	s->server->stats.timeouts++;
	session_logf(s, LOG_MAIN, "SMTP data timeout (message abandoned) on connection from %.*s F=<%.*s> %.*s", STR_FMT(log_peer(s)),
		STR_FMT(s->txn ? s->txn->sender : STR_NULL), STR_FMT(log_duration(s)));
	session_drop_for(s, "data-timeout", 421, "4.4.2", "SMTP data timeout - closing connection");
}

static void policy_late(struct session *s)
{
	s->server->ops->ask_cancel(s);
	session_on_acl(s, NULL, false, "no answer in time");
}

static void qmgr_late(struct session *s)
{
	struct txn *t = s->txn;

	if (s->state == SESSION_FILE) {
		t->file = FILE_REFUSED;
		t->file_status = ST_DEFER;
		s->server->ops->forget(s, "");
		data_file_ready(s);
	} else {
		session_logf(s, LOG_MAIN, "%s no answer from qmgr in time", t->id);
		data_committed(s, ST_DEFER, false, STR_NULL);
	}
}

static void closing_late(struct session *s)
{
	s->state = SESSION_CLOSED;
}

void session_on_deadline(struct session *s)
{
	if (!s->deadline_ms || s->server->now_ms < s->deadline_ms || !states[s->state].late)
		return;
	s->deadline_ms = 0;
	states[s->state].late(s);
}

void session_on_drain(struct session *s)
{
	if (s->state == SESSION_COMMAND && !s->line_ms)
		session_drop_for(s, "signal-exit", 421, "4.3.2", "service closing transmission channel");
}
