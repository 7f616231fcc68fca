/* SPDX-License-Identifier: ISC */
/* Commands outside a mail transaction, and the table of all commands. */
#include <arpa/inet.h>
#include <string.h>

#include "smtpd/session_priv.h"

enum { LIMIT_MAX = 999999 /* six digits */ };

const struct verb session_verbs[] = {
	{ "MAIL", VERB_UTF8 | VERB_MAIL | VERB_SYNC_PLAIN, verb_mail, "MAIL FROM:<sender> [parameters]" },
	{ "RCPT", VERB_UTF8 | VERB_MAIL | VERB_SYNC_PLAIN, verb_rcpt, "RCPT TO:<recipient> [parameters]" },
	{ "DATA", VERB_MAIL | VERB_SYNC, verb_data, "DATA" },
	{ "BDAT", VERB_MAIL, verb_bdat, "BDAT octets [LAST]" },
	{ "EHLO", VERB_UTF8 | VERB_SYNC | VERB_BEFORE_HELO, verb_ehlo, "EHLO name" },
	{ "HELO", VERB_UTF8 | VERB_SYNC | VERB_BEFORE_HELO, verb_helo, "HELO name" },
	{ "STARTTLS", VERB_SYNC | VERB_LAST, verb_starttls, "STARTTLS" },
	{ "AUTH", VERB_SYNC, verb_auth, "AUTH mechanism [initial response]" },
	{ "RSET", VERB_SYNC_PLAIN | VERB_BEFORE_HELO, verb_rset, "RSET" },
	{ "NOOP", VERB_SYNC | VERB_BEFORE_HELO, verb_noop, "NOOP" },
	{ "QUIT", VERB_BEFORE_HELO, verb_quit, "QUIT" },
	{ "VRFY", VERB_UTF8 | VERB_SYNC, verb_vrfy, "VRFY address" },
	{ "EXPN", VERB_UTF8 | VERB_SYNC, verb_expn, "EXPN address" },
	{ "ETRN", VERB_SYNC, verb_etrn, "ETRN #text or @domain" },
	{ "XCLIENT", VERB_SYNC | VERB_BEFORE_HELO, verb_xclient, "XCLIENT attribute=value ..." },
	{ "HELP", VERB_BEFORE_HELO, verb_help, "HELP" },
	{ NULL, 0, NULL, NULL },
};

/* ---- HELO and EHLO ---- */

/* RFC 5321 section 4.1.1.1, and what helo_allow_chars adds. A bare address is no name, but too common to be refused. */
bool helo_valid(struct session *s, struct str name)
{
	struct str more = s->server->settings.helo_allow_chars;
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char ip[16];

	if (!name.len || name.len > ADDR_DOMAIN_MAX)
		return false;
	if (!address_utf8_valid(name))
		return false;
	if (address_hostname_valid(name) || address_literal_valid(name) || utf8_helo_valid(s, name))
		return true;
	if (name.len < sizeof text) {
		memcpy(text, name.p, name.len);
		text[name.len] = 0;
		if (inet_pton(AF_INET6, text, ip) == 1)
			return true;
	}
	if (session_client(s)->flags & CLIENT_HELO_JUNK)
		return true;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.p[i];

		if (!ascii_is_alnum(c) && c != '-' && c != '.' && !(more.len && memchr(more.p, c, more.len)))
			return false;
	}
	/* Dots and hyphens in odd places pass only together with the option. */
	return more.len > 0;
}

/* RFC 9422: what is configured, and can be said in six digits. */
static struct str limits_text(struct session *s)
{
	const struct { const char *name; uint32_t value; } rows[] = {
		{ "MAILMAX", session_client(s)->max_per_connection }, { "RCPTMAX", s->server->settings.recipients_max },
	};
	struct buf b = BUF_LIMIT(128);
	struct str text;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].value && rows[i].value <= LIMIT_MAX)
			buf_printf(&b, " %s=%u", rows[i].name, rows[i].value);
	text = str_dup(&s->server->scratch, buf_str(&b));
	buf_clear(&b);
	return text;
}

static struct str size_text(struct session *s)
{
	uint64_t limit = session_client(s)->size_limit;

	return limit ? str_printf(&s->server->scratch, " %llu", (unsigned long long)limit) : STR_NULL;
}

static struct str auth_text(struct session *s)
{
	return str_printf(&s->server->scratch, " %.*s", STR_FMT(auth_offer(s)));
}

/* The keywords of the EHLO reply; a row each. */
static bool offers_size(const struct session *s) { (void)s; return true; }
static bool offers_8bit(const struct session *s) { return s->server->settings.eightbit; }
static bool offers_pipelining(const struct session *s) { return session_pipelining(s); }
static bool offers_early(const struct session *s) { return early_offered(s); }
static bool offers_auth(const struct session *s) { return auth_offer(s).len > 0; }
static bool offers_tls(const struct session *s) { return tls_offered(s); }
static bool offers_etrn(const struct session *s) { return policy_has(s, ACL_ETRN) && !s->local; }
static bool offers_chunking(const struct session *s) { return session_client(s)->flags & CLIENT_CHUNKING; }
static bool offers_requiretls(const struct session *s) { return requiretls_offered(s); }
static bool offers_utf8(const struct session *s) { return utf8_offered(s); }
static bool offers_limits(const struct session *s)
{
	uint32_t mails = session_client(s)->max_per_connection, rcpts = s->server->settings.recipients_max;

	return session_client(s)->flags & CLIENT_LIMITS && !s->local && ((mails && mails <= LIMIT_MAX) || (rcpts && rcpts <= LIMIT_MAX));
}
static bool offers_dsn(const struct session *s) { return session_client(s)->flags & CLIENT_DSN; }
static const struct {
	const char *keyword;
	bool (*offers)(const struct session *s);
	struct str (*arguments)(struct session *s); /* with the blank in front; NULL: none */
} extensions[] = {
	{ "SIZE", offers_size, size_text },
	{ "8BITMIME", offers_8bit, NULL },
	{ "DSN", offers_dsn, NULL },
	{ "ETRN", offers_etrn, NULL },
	{ "PIPELINING", offers_pipelining, NULL },
	{ "PIPECONNECT", offers_early, NULL },
	{ "CHUNKING", offers_chunking, NULL },
	{ "PRDR", prdr_offered, NULL },
	{ "AUTH", offers_auth, auth_text },
	{ "STARTTLS", offers_tls, NULL },
	{ "REQUIRETLS", offers_requiretls, NULL },
	{ "SMTPUTF8", offers_utf8, NULL },
	{ "LIMITS", offers_limits, limits_text },
	{ "XCLIENT", xclient_offered, xclient_text },
	{ "ENHANCEDSTATUSCODES", offers_size, NULL },
	{ "HELP", offers_size, NULL },
};

static struct str greeting(struct session *s)
{
	struct arena *a = &s->server->scratch;
	char ip[64];

	if (s->local)
		return str_printf(a, "%.*s Hello %s", STR_FMT(session_hostname(s)), s->ident);
	session_ip_format(s->ipv6, s->client_ip, ip);
	if (s->client_name)
		return str_printf(a, "%.*s Hello %s [%s]", STR_FMT(session_hostname(s)), s->client_name, ip);
	return str_printf(a, "%.*s Hello %s [%s]", STR_FMT(session_hostname(s)), s->helo, ip);
}

static void ehlo_reply(struct session *s, struct str text)
{
	struct buf b = BUF_LIMIT(8192);

	buf_add_str(&b, text);
	for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
		if (!extensions[i].offers(s))
			continue;
		buf_printf(&b, "\n%s", extensions[i].keyword);
		if (extensions[i].arguments)
			buf_add_str(&b, extensions[i].arguments(s));
	}
	reply(s, 250, NULL, buf_str(&b));
	buf_clear(&b);
	s->auth_advertised = offers_auth(s);
	s->tls_advertised = offers_tls(s);
}

/* Further lines would be taken for extensions. */
static struct str helo_line(struct session *s, struct str text)
{
	ptrdiff_t end = str_find(text, '\n');

	if (end < 0)
		return text;
	session_logf(s, LOG_MAIN | LOG_PANIC, "the HELO ACL's message has more than one line: the first one is sent");
	return str_sub(text, 0, (size_t)end);
}

static void helo_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str text;

	if (!policy_accepts(s, answer, "EHLO or HELO", str_of(s->helo))) {
		mem_free(s->helo);
		s->helo = NULL;
		s->esmtp = false;
		return;
	}
	auth_helo(s, answer);
	s->auth_advertised = s->tls_advertised = false;
	text = answer && answer->text.len ? helo_line(s, answer->text) : greeting(s);
	if (s->esmtp)
		ehlo_reply(s, text);
	else
		reply(s, 250, NULL, text);
}

static void helo_common(struct session *s, struct str name, bool esmtp)
{
	if (!helo_valid(s, name)) {
		log_rejection(s, "EHLO or HELO", name, false, STR_LIT("syntactically invalid argument(s)"), true);
		reply_syntax(s, 501, "5.5.4", "Syntactically invalid HELO or EHLO argument(s)");
		return;
	}
	session_transaction_end(s);
	mem_free(s->helo);
	s->helo = mem_memdup(name.p, name.len);
	s->esmtp = esmtp;
	s->helo_verified = false;
	tls_names_check(s);
	policy_ask(s, ACL_HELO, helo_proceed);
}

void verb_helo(struct session *s, struct str args)
{
	helo_common(s, args, false);
}

void verb_ehlo(struct session *s, struct str args)
{
	helo_common(s, args, true);
}

/* ---- the small ones ---- */

void verb_rset(struct session *s, struct str args)
{
	if (args.len) {
		reply_syntax(s, 501, "5.5.4", "RSET has no argument");
		return;
	}
	log_incomplete(s);
	session_transaction_end(s);
	reply(s, 250, "2.0.0", STR_LIT("Reset OK"));
}

void verb_noop(struct session *s, struct str args)
{
	(void)args; /* RFC 5321 section 4.1.1.9: an argument is to be ignored */
	reply(s, 250, "2.0.0", STR_LIT("OK"));
}

void verb_help(struct session *s, struct str args)
{
	struct buf b = BUF_LIMIT(2048);

	(void)args;
	buf_adds(&b, "Commands supported:\n");
	for (const struct verb *v = session_verbs; v->name; v++)
		buf_printf(&b, "%s%s", v->name, v[1].name ? " " : "");
	reply(s, 214, "2.0.0", buf_str(&b));
	buf_clear(&b);
}

static void quit_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	log_incomplete(s);
	if (answer && answer->text.len && answer->verdict == ACL_ACCEPT)
		reply(s, 221, "2.0.0", answer->text);
	else
		replyf(s, 221, "2.0.0", "%.*s closing connection", STR_FMT(session_hostname(s)));
	log_closed(s, "closed by QUIT");
	session_close(s);
}

void verb_quit(struct session *s, struct str args)
{
	if (args.len) {
		reply_syntax(s, 501, "5.5.4", "QUIT has no argument");
		return;
	}
	s->quit = true;
	policy_ask(s, ACL_QUIT, quit_proceed);
}

/* ---- VRFY and EXPN: denied without an ACL; behind it, policyd says what the router knows ---- */

static const char *enhanced_of(unsigned code)
{
	return code == 501 ? "5.1.3" : code == 252 ? "2.5.2" : code / 100 == 5 ? "5.1.1" : code / 100 == 4 ? "4.3.0" : "2.1.5";
}

static void known_tell(struct session *s, const struct ipc_acl_answer *answer, const char *what, const char *unknown)
{
	struct str subject = str_from(str_of(s->line), 5);
	unsigned code = answer && answer->text.len ? answer->code ? (unsigned)answer->code : 250 : 252;

	if (code / 100 > 2 && code != 501)
		session_logf(s, LOG_MAIN, "%s failed for %.*s %.*s%s%.*s", what, STR_FMT(subject), STR_FMT(log_host(s)), answer->log_text.len ? ": " : "",
			STR_FMT(answer->log_text));
	reply(s, code, enhanced_of(code), code == 252 && !(answer && answer->text.len) ? str_of(unknown) : answer->text);
}

static void vrfy_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	if (policy_accepts(s, answer, "VRFY", str_from(str_of(s->line), 5)))
		known_tell(s, answer, "VRFY", "Cannot VRFY user, but will accept message and attempt delivery");
}

void verb_vrfy(struct session *s, struct str args)
{
	if (!args.len) {
		reply_syntax(s, 501, "5.5.4", "VRFY needs an address");
	} else if (!utf8_argument_valid(s, args)) {
		return;
	} else if (!policy_has(s, ACL_VRFY)) {
		log_rejection(s, "VRFY", args, false, STR_NULL, true);
		reply(s, 252, "2.5.2", STR_LIT("Administrative prohibition"));
	} else {
		policy_ask(s, ACL_VRFY, vrfy_proceed);
	}
}

static void expn_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	if (policy_accepts(s, answer, "EXPN", str_from(str_of(s->line), 5)))
		known_tell(s, answer, "EXPN", "Lists are not expanded for clients");
}

void verb_expn(struct session *s, struct str args)
{
	if (!args.len) {
		reply_syntax(s, 501, "5.5.4", "EXPN needs an address");
	} else if (!utf8_argument_valid(s, args)) {
		return;
	} else if (!policy_has(s, ACL_EXPN)) {
		log_rejection(s, "EXPN", args, false, STR_NULL, true);
		reply(s, 550, "5.7.1", STR_LIT("Administrative prohibition"));
	} else {
		policy_ask(s, ACL_EXPN, expn_proceed);
	}
}

/* ---- ETRN (RFC 1985): mail that waits for somebody who is in now ---- */

static void etrn_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str arg = str_trim(str_from(str_of(s->line), 4));
	struct ipc_etrn etrn = { .part = str_from(arg, 1), .by = log_peer(s), .domain = arg.len && arg.p[0] == '@' };

	if (!policy_accepts(s, answer, "ETRN", arg))
		return;
	if (arg.len < 2 || (arg.p[0] != '#' && !etrn.domain) || arg.len > 200)
		reply_syntax(s, 501, "5.5.4", "argument must begin with # or @");
	else if (etrn.domain && !address_hostname_valid(etrn.part))
		reply_syntax(s, 501, "5.5.4", "argument is no domain");
	else if (str_find(arg, '*') >= 0) /* no wildcard: the text itself is looked for */
		reply_syntax(s, 501, "5.5.4", "argument is no part of an address");
	else if (!s->pretended && !s->server->ops->etrn(s, &etrn))
		reply(s, 458, "4.3.0", STR_LIT("Unable to queue messages now"));
	else
		reply(s, policy_code(answer, 250), "2.0.0", answer && answer->text.len ? answer->text : STR_LIT("OK"));
}

void verb_etrn(struct session *s, struct str args)
{
	if (s->server->settings.log & LOG_SEL(etrn))
		session_logf(s, LOG_MAIN, "ETRN %.*s received from %.*s", STR_FMT(log_printable(s, args)), STR_FMT(log_peer(s)));
	if (!policy_has(s, ACL_ETRN)) {
		log_rejection(s, "ETRN", args, false, STR_NULL, true);
		reply(s, 458, "4.7.1", STR_LIT("Administrative prohibition"));
	} else {
		policy_ask(s, ACL_ETRN, etrn_proceed);
	}
}
