/* SPDX-License-Identifier: ISC */
/* MAIL and RCPT: the envelope and its parameters. */
#include <string.h>

#include "smtpd/session_priv.h"

/* ---- the transaction ---- */

struct txn *txn_new(struct session *s)
{
	struct txn *t = mem_new(sizeof *t);

	t->received_us = s->server->wall_us;
	if (s->local)
		t->flags |= MSG_LOCAL;
	s->txn = t;
	return t;
}

void txn_free(struct session *s)
{
	struct txn *t = s->txn;

	if (!t)
		return;
	if (t->file == FILE_ASKED || t->file == FILE_OPEN)
		s->server->ops->forget(s, t->id);
	if (t->scanning)
		data_scan_clear(&t->scan);
	buf_clear(&t->pending);
	buf_clear(&t->carry);
	buf_clear(&t->prdr_places);
	arena_clear(&t->arena);
	mem_free(t);
	s->txn = NULL;
}

void txn_edit_add(struct txn *t, uint64_t op, struct str text)
{
	t->edits_size += text.len + 16;
	if (txn_edits_full(t))
		return;
	if (t->n_edits == t->edits_room) {
		struct ipc_edit *more = arena_alloc(&t->arena, (t->edits_room = t->edits_room ? 2 * t->edits_room : 8) * sizeof *more);

		if (t->n_edits)
			memcpy(more, t->edits, t->n_edits * sizeof *more);
		t->edits = more;
	}
	t->edits[t->n_edits++] = (struct ipc_edit){ op, str_dup(&t->arena, text) };
}

bool txn_edits_full(const struct txn *t)
{
	return t->edits_size > SESSION_EDITS_MAX || t->n_edits >= 500;
}

void txn_file_want(struct session *s)
{
	struct txn *t = s->txn;
	struct ipc_msg_begin begin = { .size = t->declared };

	if (t->file != FILE_NONE && t->file != FILE_LOST)
		return;
	t->file = FILE_ASKED;
	s->server->ops->begin(s, &begin);
}

/* ---- parameters: rows for MAIL and RCPT ---- */

struct param {
	const char *name;
	bool rcpt;                      /* of RCPT, else of MAIL */
	bool value;                     /* must have one; otherwise must have none */
	uint32_t client;                /* enum client_flag that offers it; 0: always with EHLO */
	/* NULL when all is well, else the text for 501 */
	const char *(*set)(struct session *s, struct str value);
	bool (*offered)(const struct session *s); /* NULL: `client` tells */
};

/* RFC 1870 section 4: 1 to 20 digits. More than we can count is more than we take. */
static const char *param_size(struct session *s, struct str value)
{
	for (uint32_t i = 0; i < value.len; i++)
		if (!ascii_is_digit(value.p[i]) || i >= 20)
			return "malformed SIZE";
	if (!str_u64(value, UINT64_MAX / 2, &s->txn->declared))
		s->txn->declared = UINT64_MAX / 2;
	return NULL;
}

static const char *param_body(struct session *s, struct str value)
{
	if (!s->server->settings.eightbit)
		return "BODY is not offered";
	if (str_isi(value, "8BITMIME"))
		s->txn->flags |= MSG_EIGHTBIT;
	else if (!str_isi(value, "7BIT"))
		return "unknown BODY type";
	return NULL;
}

static const char *param_ret(struct session *s, struct str value)
{
	if (!str_isi(value, "FULL") && !str_isi(value, "HDRS"))
		return "malformed RET";
	s->txn->ret = str_upper(&s->txn->arena, value);
	return NULL;
}

/* RFC 3461 sections 4.2 and 4.4: what is encoded is printable ASCII, since it is to stand in a report. */
static bool xtext_printable(struct session *s, struct str value)
{
	struct str plain;

	if (!address_xtext_decode(&s->server->scratch, value, &plain))
		return false;
	for (uint32_t i = 0; i < plain.len; i++)
		if ((unsigned char)plain.p[i] < 32 || (unsigned char)plain.p[i] > 126)
			return false;
	return true;
}

static const char *param_envid(struct session *s, struct str value)
{
	if (value.len > 100 || !xtext_printable(s, value))
		return "malformed ENVID";
	s->txn->envid = str_dup(&s->txn->arena, value);
	return NULL;
}

static const char *param_notify(struct session *s, struct str value)
{
	static const struct { const char *name; unsigned bit; } words[] = {
		{ "NEVER", DSN_NEVER }, { "SUCCESS", DSN_SUCCESS }, { "FAILURE", DSN_FAILURE }, { "DELAY", DSN_DELAY },
	};
	struct str word;

	while (str_split(&value, ',', &word)) {
		unsigned bit = 0;

		for (size_t i = 0; i < sizeof words / sizeof *words; i++)
			if (str_isi(word, words[i].name))
				bit = words[i].bit;
		if (!bit)
			return "malformed NOTIFY";
		s->txn->rcpt.notify |= bit;
	}
	return (s->txn->rcpt.notify & DSN_NEVER) && s->txn->rcpt.notify != DSN_NEVER ? "NEVER stands alone in NOTIFY" : NULL;
}

static const char *param_orcpt(struct session *s, struct str value)
{
	ptrdiff_t semicolon = str_find(value, ';');
	bool utf8 = str_beginsi(value, "utf-8;");
	struct str plain;

	if (semicolon <= 0 || value.len > 500)
		return "malformed ORCPT";
	/* RFC 6533 section 3: this type has forms of its own, and only one of them is ASCII */
	if (!utf8 ? !xtext_printable(s, str_from(value, (size_t)semicolon + 1)) :
		!address_unitext_decode(&s->server->scratch, str_from(value, (size_t)semicolon + 1), &plain))
		return "malformed ORCPT";
	if (!address_is_ascii(value) && !(s->txn->flags & MSG_SMTPUTF8))
		return "an ORCPT that is not ASCII needs SMTPUTF8";
	for (ptrdiff_t i = 0; i < semicolon; i++) /* an atom */
		if (!ascii_is_alnum(value.p[i]) && !strchr("!#$%&'*+-/=?^_`{|}~", value.p[i]))
			return "malformed ORCPT";
	s->txn->rcpt.orcpt = str_dup(&s->txn->arena, value);
	return NULL;
}

/* A malformed value is an error, "<>" says nothing (specification, section 33.2). */
static const char *param_auth(struct session *s, struct str value)
{
	struct str plain;

	if (!address_xtext_decode(&s->server->scratch, value, &plain) || str_has_ctl(plain) || plain.len > 1024)
		return "invalid data for AUTH";
	if (!str_is(plain, "<>"))
		s->txn->auth_sender = str_taint(str_dup(&s->txn->arena, plain));
	return NULL;
}

/* Ours, between the command and smtpd: the full name that the submitter wants (sendmail -F). */
static const char *param_name(struct session *s, struct str value)
{
	struct str plain;

	if (!s->local || s->helo || !address_xtext_decode(&s->server->scratch, value, &plain) || str_has_ctl(plain) || plain.len > 1024)
		return "invalid data for XNAME";
	s->txn->full_name = str_taint(str_dup(&s->txn->arena, plain));
	return NULL;
}

static const struct param params[] = {
	{ "XNAME", false, true, 0, param_name, NULL },
	{ "AUTH", false, true, 0, param_auth, NULL },
	{ "SIZE", false, true, 0, param_size, NULL },
	{ "BODY", false, true, 0, param_body, NULL },
	{ "SMTPUTF8", false, false, 0, utf8_param, NULL },
	{ "REQUIRETLS", false, false, 0, requiretls_param, requiretls_offered },
	{ "PRDR", false, false, 0, param_prdr, prdr_offered },
	{ "RET", false, true, CLIENT_DSN, param_ret, NULL },
	{ "ENVID", false, true, CLIENT_DSN, param_envid, NULL },
	{ "NOTIFY", true, true, CLIENT_DSN, param_notify, NULL },
	{ "ORCPT", true, true, CLIENT_DSN, param_orcpt, NULL },
};

static bool param_offered(const struct session *s, const struct param *p)
{
	if (!s->esmtp && !s->local)
		return false;
	return p->offered ? p->offered(s) : !p->client || session_client(s)->flags & p->client;
}

/* RFC 5321 section 4.1.1.11: 555 for what is not known. None may be there twice. */
static bool params_take(struct session *s, struct str rest, bool rcpt)
{
	unsigned seen = 0;
	struct str word;

	rest = str_trim(rest);
	while (rest.len && str_split(&rest, ' ', &word)) {
		struct str value = STR_NULL;
		ptrdiff_t equals = str_find(word, '=');
		const struct param *p = NULL;
		const char *wrong;

		if (!word.len)
			continue;
		if (equals >= 0) {
			value = str_from(word, (size_t)equals + 1);
			word = str_sub(word, 0, (size_t)equals);
		}
		for (size_t i = 0; i < sizeof params / sizeof *params; i++)
			if (params[i].rcpt == rcpt && str_isi(word, params[i].name))
				p = &params[i];
		if (!p || !param_offered(s, p)) {
			reply_syntax(s, 555, "5.5.4", arena_printf(&s->server->scratch, p ? "unadvertised %s option: %s" : "unrecognized parameter in %s command",
				rcpt ? "RCPT" : "MAIL", p ? p->name : ""));
			return false;
		}
		if (p->value ? !value.len : equals >= 0)
			wrong = p->value ? "parameter without a value" : "parameter with a value";
		else
			wrong = seen & 1u << (p - params) ? "parameter given twice" : p->set(s, value);
		seen |= 1u << (p - params);
		if (wrong) {
			reply_syntax(s, 501, "5.5.4", wrong);
			return false;
		}
	}
	return true;
}

/* ---- addresses ---- */

/* "FROM:" or "TO:" in front of a path; blanks before the path are forgiven, they are no part of the address. */
static bool keyword_take(struct str *args, const char *keyword)
{
	if (!str_beginsi(*args, keyword))
		return false;
	*args = str_from(*args, strlen(keyword));
	while (args->len && args->p[0] == ' ')
		*args = str_from(*args, 1);
	return true;
}

static unsigned path_flags(const struct session *s)
{
	return (s->server->settings.strict ? 0 : ADDR_LENIENT) | (s->server->settings.literals ? ADDR_LITERALS : 0) | ADDR_UNQUALIFIED | ADDR_UTF8;
}

/* 501 with the reason; the address is named as the client wrote it, in ASCII for those who did not say SMTPUTF8. */
static void address_refused(struct session *s, struct str written, const char *esc, const char *why)
{
	written = str_dup(&s->server->scratch, str_trim(written));
	if (!s->txn || !(s->txn->flags & MSG_SMTPUTF8) || !address_utf8_valid(written))
		for (uint32_t i = 0; i < written.len; i++)
			if ((unsigned char)written.p[i] > 127)
				((char *)(uintptr_t)written.p)[i] = '?';
	reply_syntax(s, 501, esc, arena_printf(&s->server->scratch, "%.*s: %s", (int)(written.len > 300 ? 300 : written.len), written.p ? written.p : "", why));
}

/* May its octets over 127 be there? False: replied. The parameters have been read. */
static bool address_octets(struct session *s, const struct address *addr, const char *esc)
{
	const char *why = utf8_address_wrong(s, addr, &esc);

	if (why)
		address_refused(s, addr->text, esc, why);
	return !why;
}

/* An address without domain gets one where the client may do that; "postmaster" always is ours. False: replied. */
static bool address_qualify(struct session *s, const struct address *addr, struct str domain, bool may, const char *what, struct str *out)
{
	if (addr->domain.p || !addr->text.len) {
		*out = addr->text;
		return true;
	}
	if (!may && !str_isi(addr->local, "postmaster")) {
		address_refused(s, addr->text, what[0] == 's' ? "5.1.7" : "5.1.3",
			arena_printf(&s->server->scratch, "%s address must contain a domain", what));
		return false;
	}
	*out = str_printf(&s->txn->arena, "%.*s@%.*s", STR_FMT(addr->local), STR_FMT(domain));
	out->tainted = true;
	return true;
}

/* Is the word behind the path a parameter? A path may be anything before it has been rewritten. */
static bool word_is_param(struct str word)
{
	ptrdiff_t equals = str_find(word, '=');

	if (equals < 0)
		return str_isi(word, "SMTPUTF8") || str_isi(word, "PRDR") || str_isi(word, "REQUIRETLS");
	for (ptrdiff_t i = 0; i < equals; i++)
		if (!ascii_is_alnum(word.p[i]) && word.p[i] != '-')
			return false;
	return equals > 0;
}

/* The path in front of the parameters, which are at the end. */
static struct str path_alone(struct str args)
{
	for (args = str_trim(args);;) {
		ptrdiff_t blank = str_rfind(args, ' ');

		if (blank <= 0 || !word_is_param(str_from(args, (size_t)blank + 1)))
			return args;
		args = str_trim(str_sub(args, 0, (size_t)blank));
	}
}

/* The arguments with the path that policyd gave for theirs. */
static struct str args_rewritten(struct session *s, const char *keyword, const struct ipc_acl_answer *answer)
{
	struct str line = str_taint(str_of(s->line)), args = str_from(line, 4), path, out;

	while (args.len && ascii_is_space(args.p[0]))
		args = str_from(args, 1);
	keyword_take(&args, keyword);
	if (!answer || !answer->rewritten.len)
		return args;
	path = path_alone(args);
	out = str_printf(&s->server->scratch, "%.*s%.*s", STR_FMT(answer->rewritten), STR_FMT(str_from(args, (size_t)(path.p - args.p) + path.len)));
	out.tainted = true;
	return out;
}

/* ---- MAIL ---- */

static bool mail_order(struct session *s)
{
	struct client_settings *c = session_client(s);

	if (!s->helo && (c->flags & (CLIENT_REQUIRE_HELO | CLIENT_HELO_VERIFY))) {
		reply_protocol(s, 503, "5.5.1", "HELO or EHLO required", false);
		return false;
	}
	if (s->txn) {
		reply_protocol(s, 503, "5.5.1", "sender already given", false);
		return false;
	}
	if (c->max_per_connection && s->mails >= c->max_per_connection) {
		session_drop(s, 421, "4.7.0", "too many messages in this connection");
		return false;
	}
	return true;
}

/* Room for the message: limits, qmgr's word. */
static bool mail_room(struct session *s)
{
	struct server *server = s->server;
	uint64_t limit = session_client(s)->size_limit, declared = s->txn->declared;

	if (limit && declared > limit) {
		if (server->settings.log & LOG_SEL(size_reject))
			log_rejection(s, "MAIL", str_printf(&server->scratch, "<%.*s>", STR_FMT(s->txn->sender)), false,
				str_printf(&server->scratch, "message too big: size%s=%llu max=%llu", "", (unsigned long long)declared, (unsigned long long)limit), true);
		reply(s, 552, "5.3.4", STR_LIT("Message size exceeds maximum permitted"));
		return false;
	}
	if (server->intake_closed) {
		reply(s, server->intake_code / 100 == 4 ? server->intake_code : 452, "4.3.1",
			server->intake_text[0] ? str_of(server->intake_text) : STR_LIT("space shortage, please try later"));
		return false;
	}
	if (server->settings.check_space && server->intake_space_kb && declared / 1024 > server->intake_space_kb) {
		reply(s, 452, "4.3.1", STR_LIT("space shortage, please try later"));
		return false;
	}
	return true;
}

/* An untrusted local submitter is the sender, whatever was said; only the null sender may be asked for. */
static void sender_force(struct session *s)
{
	struct txn *t = s->txn;

	if (!s->local || s->trusted || !t->sender.len || s->server->settings.untrusted_any)
		return;
	t->sender = str_printf(&t->arena, "%.*s@%.*s", STR_FMT(address_local_quote(&t->arena, str_of(s->ident))), STR_FMT(s->server->settings.qualify_domain));
}

/* The message, once it is taken, waits for the next queue run. */
static bool delivery_waits(struct session *s)
{
	const struct settings *set = &s->server->settings;
	bool high = s->server->load > set->queue_load;

	if (high && !s->queue_load && set->log & LOG_SEL(delay_delivery))
		session_logf(s, LOG_MAIN, "no immediate delivery: load average %u.%02u", s->server->load / 1000, s->server->load % 1000 / 10);
	s->queue_load = high && set->queue_load_latch ? true : s->queue_load;
	return high || s->queue_load || s->queue_only || (set->queue_per_connection && s->messages >= set->queue_per_connection && !s->local);
}

static void mail_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct txn *t = s->txn;

	if (!policy_accepts(s, answer, "MAIL", str_printf(&s->server->scratch, "<%.*s>", STR_FMT(t->sender)))) {
		session_transaction_end(s);
		return;
	}
	t->accepted = true;
	s->helo_free = s->rset_free = true;
	if (answer && answer->verdict == ACL_DISCARD) {
		t->discarded = true;
		t->discard_text = str_dup(&t->arena, answer->log_text);
	}
	if (policy_rewritten(answer))
		t->sender = str_dup(&t->arena, answer->rewritten);
	if (delivery_waits(s))
		t->flags |= MSG_QUEUE;
	reply(s, policy_code(answer, 250), "2.1.0", answer && answer->text.len ? answer->text :
		t->flags & MSG_PRDR ? STR_LIT("OK, PRDR Requested") : STR_LIT("OK"));
}

static void mail_ask(struct session *s)
{
	policy_ask(s, s->txn->local_message ? ACL_NOTSMTP_START : ACL_MAIL, mail_proceed);
}

/* asked: policyd has seen the path, and who may use it. */
static void mail_take(struct session *s, struct str args, bool asked)
{
	struct settings *set = &s->server->settings;
	struct err err = ERR_INIT;
	struct address addr;
	struct str rest;
	struct txn *t;

	if (address_path_parse(args, path_flags(s) | ADDR_EMPTY, &addr, &rest, &err)) {
		address_refused(s, args, "5.1.7", err.text);
		return;
	}
	t = txn_new(s);
	session_vars_set(&s->acl_m, NULL, 0); /* what the connect and HELO ACLs put there goes */
	t->local_message = s->local && !s->helo;
	if (!address_qualify(s, &addr, set->qualify_domain, session_client(s)->flags & CLIENT_SENDER_UNQUALIFIED, "sender", &t->sender) ||
	    !params_take(s, rest, false) || !address_octets(s, &addr, "5.1.7")) {
		session_transaction_end(s);
		return;
	}
	t->sender = str_dup(&t->arena, t->sender);
	if (!t->sender.p)
		t->sender.p = "";
	if (!asked || !s->server->settings.untrusted_asks)
		sender_force(s);
	if (!mail_room(s)) {
		session_transaction_end(s);
		return;
	}
	auth_mail(s, mail_ask);
}

static void mail_argument(struct session *s, const struct ipc_acl_answer *answer)
{
	if (policy_accepts(s, answer, "MAIL", STR_NULL))
		mail_take(s, args_rewritten(s, "FROM:", answer), true);
}

static void mail_begin(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str args = args_rewritten(s, "FROM:", NULL);

	(void)answer;
	if ((s->server->settings.rewrites_args || (s->local && !s->trusted && s->server->settings.untrusted_asks)) && path_alone(args).len &&
		path_alone(args).len <= 1024)
		policy_ask_argument(s, ACL_MAIL, path_alone(args), mail_argument);
	else
		mail_take(s, args, false);
}

void verb_mail(struct session *s, struct str args)
{
	if (!mail_order(s))
		return;
	s->mail_done = true;
	if (!keyword_take(&args, "FROM:")) {
		reply_syntax(s, 501, "5.5.2", "MAIL must have an address operand: MAIL FROM:<address>");
		return;
	}
	s->mails++;
	policy_wait(s, conf_slowing_delay(&s->server->settings.slow_mail, s->mails), mail_begin);
}

/* ---- RCPT ---- */

static void rcpt_keep(struct session *s, const struct ipc_acl_answer *answer)
{
	struct txn *t = s->txn;
	struct ipc_recipient *r;

	if (t->n_rcpts == t->rcpts_room) {
		r = arena_alloc(&t->arena, (t->rcpts_room = t->rcpts_room ? 2 * t->rcpts_room : 4) * sizeof *r);
		if (t->n_rcpts)
			memcpy(r, t->rcpts, t->n_rcpts * sizeof *r);
		t->rcpts = r;
	}
	r = &t->rcpts[t->n_rcpts];
	*r = t->rcpt;
	r->addr = t->recipient;
	r->index = t->n_rcpts++;
	if (policy_rewritten(answer)) {
		r->parent = r->addr;
		r->addr = str_dup(&t->arena, answer->rewritten);
	}
	if (answer && answer->n_rcpt_facts) {
		r->facts = arena_alloc(&t->arena, answer->n_rcpt_facts * sizeof *r->facts);
		for (uint32_t i = 0; i < answer->n_rcpt_facts; i++)
			r->facts[r->n_facts++] = (struct ipc_pair){ str_dup(&t->arena, answer->rcpt_facts[i].name),
				str_dup(&t->arena, answer->rcpt_facts[i].value), answer->rcpt_facts[i].tainted };
	}
	txn_file_want(s);
}

static void discard_log(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str why = answer ? answer->log_text : s->txn->discard_text;

	session_logf(s, LOG_MAIN | LOG_REJECT, "%.*s F=<%.*s> RCPT <%.*s>: discarded by %s ACL%s%.*s", STR_FMT(log_host(s)), STR_FMT(s->txn->sender),
		STR_FMT(s->txn->recipient), answer ? "RCPT" : "MAIL", why.len ? ": " : "", STR_FMT(why));
}

static void rcpt_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	struct txn *t = s->txn;

	if (!policy_accepts(s, answer, "RCPT", str_printf(&s->server->scratch, "<%.*s>", STR_FMT(t->recipient)))) {
		if (s->txn)
			*(answer->verdict == ACL_DEFER ? &t->rcpt_deferred : &t->rcpt_failed) += 1;
		return;
	}
	t->rcpt_accepted++;
	prdr_accepted(t, !t->discarded && !(answer && answer->verdict == ACL_DISCARD));
	if (t->discarded || (answer && answer->verdict == ACL_DISCARD))
		discard_log(s, answer);
	else
		rcpt_keep(s, answer);
	s->server->stats.recipients++;
	reply(s, policy_code(answer, 250), "2.1.5", answer && answer->text.len ? answer->text : STR_LIT("Accepted"));
}

static bool rcpt_order(struct session *s)
{
	if (s->txn && s->txn->chunked) {
		reply_protocol(s, 503, "5.5.1", "RCPT must come before BDAT", false);
		return false;
	}
	if (s->txn && s->txn->accepted)
		return true;
	reply_protocol(s, 503, "5.5.1", "sender not yet given", s->mail_done && session_pipelining(s));
	return false;
}

static void rcpt_take(struct session *s, struct str args)
{
	struct settings *set = &s->server->settings;
	struct err err = ERR_INIT;
	struct address addr;
	struct str rest;
	struct txn *t = s->txn;

	if (address_path_parse(args, path_flags(s), &addr, &rest, &err)) {
		t->rcpt_failed++;
		address_refused(s, args, "5.1.3", err.text);
		return;
	}
	t->rcpt = (struct ipc_recipient){ 0 };
	if (!address_qualify(s, &addr, set->qualify_recipient, session_client(s)->flags & CLIENT_RCPT_UNQUALIFIED, "recipient", &t->recipient) ||
	    !params_take(s, rest, true) || !address_octets(s, &addr, "5.1.3")) {
		if (s->txn) /* not if that error was one too many */
			t->rcpt_failed++;
		return;
	}
	t->recipient = str_dup(&t->arena, t->recipient);
	if ((t->local_message && !policy_rewrites(s, ACL_RCPT)) || t->discarded) { /* what MAIL's ACL discarded needs no other */
		rcpt_proceed(s, NULL);
	} else if (!policy_has(s, ACL_RCPT) && !s->local) { /* specification, section 44.8: refused where there is no ACL */
		t->rcpt_failed++;
		log_rejection(s, "RCPT", str_printf(&s->server->scratch, "<%.*s>", STR_FMT(t->recipient)), false, STR_LIT("no acl_smtp_rcpt"), true);
		reply(s, 550, "5.7.1", STR_LIT("Administrative prohibition"));
	} else {
		policy_ask(s, ACL_RCPT, rcpt_proceed);
	}
}

static void rcpt_argument(struct session *s, const struct ipc_acl_answer *answer)
{
	if (policy_accepts(s, answer, "RCPT", STR_NULL))
		rcpt_take(s, args_rewritten(s, "TO:", answer));
	else if (s->txn)
		s->txn->rcpt_deferred++;
}

static void rcpt_begin(struct session *s, const struct ipc_acl_answer *answer)
{
	struct str args = args_rewritten(s, "TO:", NULL);

	(void)answer;
	if (s->server->settings.rewrites_args && path_alone(args).len && path_alone(args).len <= 1024)
		policy_ask_argument(s, ACL_RCPT, path_alone(args), rcpt_argument);
	else
		rcpt_take(s, args);
}

void verb_rcpt(struct session *s, struct str args)
{
	struct settings *set = &s->server->settings;
	struct txn *t = s->txn;

	if (!rcpt_order(s))
		return;
	if (!keyword_take(&args, "TO:")) {
		reply_syntax(s, 501, "5.5.2", "RCPT must have an address operand: RCPT TO:<address>");
		return;
	}
	t->rcpt_count++;
	if (set->recipients_max && t->rcpt_accepted >= set->recipients_max) {
		t->rcpt_over++;
		t->rcpt_deferred++;
		reply(s, set->recipients_reject ? 552 : 452, set->recipients_reject ? "5.5.3" : "4.5.3", STR_LIT("too many recipients"));
		return;
	}
	policy_wait(s, conf_slowing_delay(&set->slow_rcpt, t->rcpt_count), rcpt_begin);
}
