/* SPDX-License-Identifier: ISC */
/* AUTH: the command, the responses, policyd's answers (RFC 4954; specification, section 33.3).
 *
 *     COMMAND --AUTH--> ASK (acl_smtp_auth) --> AUTH_ASK --334--> AUTH --response--> AUTH_ASK ... --235, 435, 5xx--> COMMAND
 *
 * The mechanisms are policyd's affair; here is only what goes over the wire. What the client sends is never logged, and is overwritten
 * when policyd has it. */
#include <string.h>
#include <strings.h>

#include "common/mail/base64.h"
#include "smtpd/session_priv.h"

enum { AUTH_LINE_MAX = 12288 /* octets with CRLF, RFC 4954 section 4 */ };

struct auth {
	char *mechanism, *driver;        /* driver: NULL until policyd has named it */
	char *state;
	struct buf data;                 /* what the client sent, decoded */
	uint32_t state_len, step;
	bool has_data, malformed;
	uint8_t attempts;                /* workers lost with it */
};

static void secret_free(char *p, size_t n)
{
	if (p)
		explicit_bzero(p, n);
	mem_free(p);
}

static void data_wipe(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	buf_clear(b);
}

void auth_clear(struct session *s)
{
	struct auth *auth = s->auth;

	if (!auth)
		return;
	mem_free(auth->mechanism);
	mem_free(auth->driver);
	secret_free(auth->state, auth->state_len);
	data_wipe(&auth->data);
	mem_free(auth);
	s->auth = NULL;
	s->server->ops->auth_forget(s);
}

/* Who somebody claims to be, and whether they are, is forgotten too: at the session's end, and where TLS begins. */
void session_auth_reset(struct session *s)
{
	auth_clear(s);
	mem_free(s->auth_offer);
	mem_free(s->auth_method);
	mem_free(s->auth_id);
	mem_free(s->auth_fail_id);
	s->auth_offer = s->auth_method = s->auth_id = s->auth_fail_id = NULL;
	s->auth_advertised = s->auth_condition = s->auth_failed = false;
}

/* ---- what is offered ---- */

struct str auth_offer(const struct session *s)
{
	const char *own = s->auth_offer, *client = session_client(s)->auth;

	return s->local || s->auth_method ? STR_NULL : str_of(own ? own : client);
}

/* policyd's word at EHLO. */
void auth_helo(struct session *s, const struct ipc_acl_answer *answer)
{
	for (uint32_t i = 0; answer && i < answer->n_settings; i++)
		if (str_is(answer->settings[i].name, "auth")) {
			mem_free(s->auth_offer);
			s->auth_offer = mem_memdup(answer->settings[i].value.p, answer->settings[i].value.len);
		}
	if (answer && answer->auth_method.len && !s->auth_method) {
		s->auth_method = mem_memdup(answer->auth_method.p, answer->auth_method.len);
		s->auth_id = mem_memdup(answer->auth_id.p, answer->auth_id.len);
	}
}

static bool is_offered(const struct session *s, struct str mechanism)
{
	struct str rest = auth_offer(s), name;

	while (rest.len && str_split(&rest, ' ', &name))
		if (str_eqi(name, mechanism))
			return true;
	return false;
}

/* ---- ends of an exchange ---- */

/* "plain authenticator failed for (helo) [ip]: 535 Incorrect authentication data (set_id=user): more" */
static void failure_log(struct session *s, unsigned code, const char *text, struct str id, struct str more)
{
	const char *name = s->auth->driver ? s->auth->driver : s->auth->mechanism;

	session_logf(s, LOG_MAIN | LOG_REJECT, "%s authenticator failed for %.*s: %u %s%s%.*s%s%s%.*s", name, STR_FMT(log_peer(s)), code, text,
		id.len ? " (set_id=" : "", STR_FMT(id), id.len ? ")" : "", more.len ? ": " : "", STR_FMT(more));
	s->server->stats.rejects++;
}

/* Replies; one failure too many ends the session with the same reply. */
static void failure(struct session *s, unsigned code, const char *esc, const char *text, struct str id, struct str told, struct str more)
{
	struct arena *a = &s->server->scratch;
	const char *reply_text = told.len ? arena_printf(a, "%s: %.*s", text, STR_FMT(told)) : text;

	failure_log(s, code, text, id, more.len ? more : told);
	auth_clear(s);
	session_enter(s, SESSION_COMMAND);
	if (code / 100 == 4 || ++s->auth_failures < SESSION_AUTH_TRIES) {
		replyf(s, code, esc, "%s", reply_text);
		return;
	}
	session_logf(s, LOG_MAIN, "SMTP call from %.*s dropped: too many authentication failures", STR_FMT(log_peer(s)));
	session_drop(s, code, esc, arena_printf(a, "%s\nToo many authentication failures", reply_text));
}

static void id_keep(char **slot, struct str id)
{
	mem_free(*slot);
	*slot = id.len ? mem_memdup(id.p, id.len) : NULL;
}

static void success(struct session *s, const struct ipc_auth_answer *answer)
{
	id_keep(&s->auth_method, answer->driver);
	id_keep(&s->auth_id, answer->auth_id);
	s->auth_condition = answer->mail_condition;
	auth_clear(s);
	session_enter(s, SESSION_COMMAND);
	reply(s, 235, "2.7.0", STR_LIT("Authentication succeeded"));
}

static void challenge(struct session *s, const struct ipc_auth_answer *answer)
{
	struct auth *auth = s->auth;
	struct buf b = BUF_INIT;

	id_keep(&auth->driver, answer->driver);
	secret_free(auth->state, auth->state_len);
	auth->state = answer->state.len ? mem_memdup(answer->state.p, answer->state.len) : NULL;
	auth->state_len = answer->state.len;
	data_wipe(&auth->data);
	auth->has_data = false;
	auth->step++;
	buf_adds(&b, "334 ");
	base64_encode(&b, answer->challenge);
	buf_adds(&b, "\r\n");
	s->server->ops->output(s, b.p, b.len);
	buf_clear(&b);
	session_enter(s, SESSION_AUTH);
}

/* ---- asking policyd ---- */

static void auth_send(struct session *s)
{
	struct auth *auth = s->auth;
	struct ipc_facts f;
	struct ipc_auth_ask ask = {
		.mechanism = str_of(auth->mechanism), .data = buf_str(&auth->data), .has_data = auth->has_data, .step = auth->step,
		.state = str_make(auth->state, auth->state_len), .facts = &f, .attempt = auth->attempts, .trace = s->trace,
	};

	session_facts(s, &f);
	s->server->stats.asked++;
	s->server->ops->auth_ask(s, &ask);
}

void auth_ask_again(struct session *s)
{
	auth_send(s);
}

static void auth_step(struct session *s)
{
	session_enter(s, SESSION_AUTH_ASK);
	auth_send(s);
}

void auth_late(struct session *s)
{
	s->server->ops->ask_cancel(s);
	session_on_auth(s, NULL, false, "no answer in time");
}

void session_on_auth(struct session *s, const struct ipc_auth_answer *answer, bool lost, const char *why)
{
	static const struct { unsigned code; const char *esc, *text; } rows[AUTH_RESULTS_END] = {
		[AUTH_FAIL] = { 535, "5.7.8", "Incorrect authentication data" }, [AUTH_DEFER] = { 435, "4.7.0", "Unable to authenticate at present" },
		[AUTH_BAD_DATA] = { 501, "5.5.2", "Invalid authentication data" }, [AUTH_NO_INITIAL] = { 553, "5.5.4", "Initial data not expected" },
		[AUTH_UNKNOWN] = { 504, "5.5.4", "authentication mechanism not supported" },
	};
	struct ipc_auth_answer none = { .result = AUTH_DEFER, .log_text = str_of(why ? why : "no answer") };

	if (s->state != SESSION_AUTH_ASK)
		return;
	/* A connection to Dovecot that went with the question was lost with it. */
	if (lost && !s->auth->step && ++s->auth->attempts < SESSION_ASK_MAX) {
		s->server->stats.asked_again++;
		auth_send(s);
		return;
	}
	if (!answer || !answer->result || answer->result >= AUTH_RESULTS_END)
		answer = &none;
	if (answer->driver.len)
		id_keep(&s->auth->driver, answer->driver);
	if (answer->result == AUTH_CHALLENGE) {
		challenge(s, answer);
	} else if (answer->result == AUTH_OK && answer->driver.len) {
		success(s, answer);
	} else {
		unsigned r = answer->result == AUTH_OK ? AUTH_DEFER : (unsigned)answer->result;

		s->auth_failed = true;
		id_keep(&s->auth_fail_id, answer->auth_id);
		failure(s, rows[r].code, rows[r].esc, rows[r].text, answer->auth_id, answer->text, answer->log_text);
	}
}

/* ---- the command ---- */

static bool data_take(struct auth *auth, struct str text)
{
	auth->has_data = true;
	return str_is(text, "=") || base64_decode(&auth->data, text);
}

static void acl_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct auth *auth = s->auth;

	if (!policy_accepts(s, answer, "AUTH", str_of(auth->mechanism))) {
		auth_clear(s);
		return;
	}
	if (!(s->flags & MSG_AUTH_UNADVERTISED) && !is_offered(s, str_of(auth->mechanism))) {
		reply_protocol(s, 504, "5.5.4", arena_printf(&s->server->scratch, "%.64s authentication mechanism not supported", auth->mechanism), false);
		auth_clear(s);
		return;
	}
	if (auth->malformed)
		failure(s, 501, "5.5.2", "Invalid base64 data", STR_NULL, STR_NULL, STR_NULL);
	else
		auth_step(s);
}

void verb_auth(struct session *s, struct str args)
{
	const char *wrong = NULL;
	struct auth *auth;
	uint32_t n = 0;

	while (n < args.len && args.p[n] != ' ')
		n++;
	if (!s->auth_advertised && !(s->flags & MSG_AUTH_UNADVERTISED))
		wrong = "AUTH command used when not advertised";
	else if (s->auth_method)
		wrong = "already authenticated";
	else if (s->txn)
		wrong = "not permitted in mail transaction";
	if (wrong) {
		reply_protocol(s, 503, "5.5.1", wrong, false);
		return;
	}
	if (!n || n > 64) {
		reply_syntax(s, 501, "5.5.4", "AUTH needs the name of a mechanism");
		return;
	}
	auth = s->auth = mem_new(sizeof *auth);
	auth->data = (struct buf)BUF_LIMIT(AUTH_LINE_MAX);
	auth->mechanism = mem_memdup(args.p, n);
	if (s->secret.len)
		auth->malformed = !data_take(auth, s->secret);
	policy_ask(s, ACL_AUTH, acl_proceed);
}

/* The initial response of an AUTH command is taken off its line, before anything may log it. The line is in the caller's buffer. */
struct str auth_line_split(struct session *s, struct str line)
{
	uint32_t n = 5;

	if (!str_beginsi(line, "AUTH "))
		return line;
	s->wipe = true;
	while (n < line.len && line.p[n] == ' ')
		n++;
	while (n < line.len && line.p[n] != ' ')
		n++;
	s->secret = str_from(line, n);
	while (s->secret.len && s->secret.p[0] == ' ')
		s->secret = str_from(s->secret, 1);
	return str_sub(line, 0, n);
}

size_t auth_line_max(const struct session *s, const char *p, size_t n)
{
	size_t max = s->server->settings.line_max;

	return n >= 5 && strncasecmp(p, "AUTH ", 5) == 0 && max < AUTH_LINE_MAX ? AUTH_LINE_MAX : max;
}

/* ---- a response ---- */

static void response_refuse(struct session *s, unsigned code, const char *text)
{
	failure(s, code, code == 501 ? "5.7.0" : "5.5.6", text, STR_NULL, STR_NULL, STR_NULL);
}

static void response_take(struct session *s, struct str line)
{
	while (line.len && line.p[line.len - 1] == ' ')
		line.len--;
	if (str_is(line, "*"))
		response_refuse(s, 501, "Authentication cancelled");
	else if (!data_take(s->auth, str_is(line, "=") ? STR_LIT("====") : line))
		failure(s, 501, "5.5.2", "Invalid base64 data", STR_NULL, STR_NULL, STR_NULL);
	else
		auth_step(s);
}

size_t auth_input(struct session *s, const char *p, size_t n)
{
	const char *nl = memchr(p, '\n', n < AUTH_LINE_MAX ? n : AUTH_LINE_MAX);

	s->wipe = true;
	if (!nl) {
		if (!s->line_ms)
			s->line_ms = s->server->now_ms;
		if (n < AUTH_LINE_MAX)
			return 0;
		s->skip_line = true;
		response_refuse(s, 500, "Authentication exchange line too long");
		return AUTH_LINE_MAX - 1;
	}
	s->line_ms = 0;
	if (nl == p || nl[-1] != '\r') {
		s->skip_line = true;
		response_refuse(s, 500, "bare line feed: lines must end in CR LF");
		return (size_t)(nl - p) + 1;
	}
	response_take(s, str_taint(str_make(p, (size_t)(nl - p) - 1)));
	return (size_t)(nl - p) + 1;
}

/* ---- AUTH= of MAIL (specification, section 33.2) ---- */

static void mail_ignored(struct session *s, const char *why)
{
	session_logf(s, LOG_MAIN, "ignoring AUTH=%.*s from %.*s (%s)", STR_FMT(log_printable(s, s->txn->auth_sender)), STR_FMT(log_host(s)), why);
	s->txn->auth_sender = STR_NULL;
}

static void mail_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	void (*next)(struct session *) = s->auth_next;

	if (answer && answer->verdict == ACL_DEFER) {
		policy_accepts(s, answer, "MAIL AUTH", s->txn->auth_sender);
		session_transaction_end(s);
		return;
	}
	if (answer && answer->verdict != ACL_ACCEPT)
		mail_ignored(s, "refused by acl_smtp_mailauth");
	else if (answer && answer->auth_sender_refused)
		mail_ignored(s, "server_mail_auth_condition");
	else if (!s->auth_method && !policy_has(s, ACL_MAILAUTH))
		mail_ignored(s, "client not authenticated");
	next(s);
}

void auth_mail(struct session *s, void (*next)(struct session *s))
{
	if (!s->txn->auth_sender.len) {
		next(s);
		return;
	}
	s->auth_next = next;
	policy_ask(s, ACL_MAILAUTH, mail_proceed);
}
