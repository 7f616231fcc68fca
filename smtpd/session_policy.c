/* SPDX-License-Identifier: ISC */
/* Questions to policyd: the facts, the answers, what is remembered of them. */
#include <stdio.h>
#include <string.h>

#include "smtpd/session_priv.h"

enum { FACTS_RECIPIENTS = 64 }; /* as messages.def says */

/* Per stage: the code of a refusal, and how the log names the stage. */
static const struct { uint16_t code; const char *esc; } stage_rows[ACL_STAGES_END] = {
	[ACL_CONNECT] = { 554, "5.7.1" }, [ACL_VRFY] = { 252, "2.5.2" }, [ACL_EXPN] = { 550, "5.7.1" },
	[ACL_ETRN] = { 458, "4.7.1" },
};

bool policy_has(const struct session *s, enum acl_stage stage)
{
	return stage < ACL_STAGES_END && s->server->settings.acl_stages >> stage & 1;
}

static struct str ip_text(struct session *s, bool ipv6, const uint8_t ip[16])
{
	char text[64];

	session_ip_format(ipv6, ip, text);
	return str_of(arena_strdup(&s->server->scratch, text));
}

static const char *protocol_plain(const struct session *s)
{
	static const char *const names[][2] = { { "esmtp", "esmtpa" }, { "esmtps", "esmtpsa" }, { "esmtpS", "esmtpSa" } };
	bool marked = s->txn && s->txn->flags & MSG_REQUIRETLS;

	if (s->local)
		return s->helo ? s->esmtp ? "local-esmtp" : "local-smtp" : "local";
	if (!s->esmtp)
		return s->tls_active ? "smtps" : "smtp";
	return names[!s->tls_active ? 0 : marked ? 2 : 1][s->auth_method != NULL];
}

/* As Exim has it; "UTF8SMTP" of the registry is not used. */
static struct str protocol(struct session *s)
{
	bool utf8 = s->txn && s->txn->flags & MSG_SMTPUTF8;

	return utf8 ? str_printf(&s->server->scratch, "utf8%s", protocol_plain(s)) : str_of(protocol_plain(s));
}

static void txn_facts(const struct txn *t, struct ipc_facts *f, struct session *s)
{
	f->message_id = str_of(t->id);
	f->sender = t->sender;
	if (t->auth_sender.len)
		f->auth_sender = t->auth_sender;
	f->has_sender = true;
	f->full_name = t->full_name;
	f->recipient = t->recipient;
	f->rcpt_count = t->rcpt_count;
	f->rcpt_accepted = t->n_rcpts; /* those discarded are not among $recipients either */
	f->rcpt_deferred = t->rcpt_deferred;
	f->rcpt_failed = t->rcpt_failed;
	f->size = t->declared;
	f->eightbit = t->flags & MSG_EIGHTBIT;
	f->smtputf8 = t->flags & MSG_SMTPUTF8;
	f->received_us = t->received_us;
	f->edits = t->edits;
	f->n_edits = t->n_edits > 256 ? 256 : t->n_edits;
	f->flags |= t->flags;
	if (t->scanning) {
		f->size = t->scan.kept;
		f->body_offset = t->scan.header_size;
	}
	if (s->stage == ACL_PREDATA || s->stage == ACL_DATA || s->stage == ACL_PRDR || s->stage == ACL_NOTSMTP) {
		f->recipients.n = t->n_rcpts < FACTS_RECIPIENTS ? t->n_rcpts : FACTS_RECIPIENTS;
		f->recipients.v = arena_alloc(&s->server->scratch, (f->recipients.n + 1) * sizeof *f->recipients.v);
		for (uint32_t i = 0; i < f->recipients.n; i++)
			f->recipients.v[i] = t->rcpts[i].addr;
	}
}

static struct str command_history(struct session *s)
{
	char text[256];
	size_t n = 0;

	for (size_t i = 0; i < SESSION_VERBS; i++) {
		const char *name = s->verbs[i] ? session_verbs[s->verbs[i] - 1].name : "";
		size_t len = strlen(name);

		if (!len || n + len + 1 > sizeof text)
			continue;
		if (n)
			text[n++] = ',';
		memcpy(text + n, name, len);
		n += len;
	}
	return n ? str_make(arena_memdup(&s->server->scratch, text, n), n) : STR_NULL;
}

void session_facts(struct session *s, struct ipc_facts *f)
{
	memset(f, 0, sizeof *f);
	if (!s->local) {
		f->client_ip = ip_text(s, s->ipv6, s->client_ip);
		f->server_ip = ip_text(s, s->server_ipv6, s->server_ip);
		f->client_port = s->client_port;
		f->server_port = s->server_port;
	}
	f->proxy = s->proxy.v;
	f->n_proxy = s->proxy.n;
	f->client_name = str_of(s->client_name);
	f->name_looked = s->name_looked;
	f->name_deferred = s->name_deferred;
	f->helo = str_of(s->helo);
	f->tls = s->tls.v;
	f->n_tls = s->tls.n;
	f->esmtp = s->esmtp;
	f->helo_verified = s->helo_verified;
	f->protocol = protocol(s);
	f->ident = str_of(s->ident);
	f->gecos = str_of(s->gecos);
	f->auth_method = str_of(s->auth_method);
	f->auth_id = str_of(s->auth_id);
	f->auth_fail_id = str_of(s->auth_fail_id);
	f->auth_failed = s->auth_failed;
	if (s->local) { /* the kernel has said who it is (specification, section 33.5) */
		f->auth_id = f->ident;
		f->auth_sender = str_printf(&s->server->scratch, "%s@%.*s", s->ident ? s->ident : "", STR_FMT(s->server->settings.qualify_domain));
	}
	f->house = &s->server->house;
	f->command_history = command_history(s);
	f->connections = s->local ? 0 : s->connections;
	f->local = s->local;
	f->uid = s->uid;
	f->gid = s->gid;
	f->trusted = s->trusted;
	f->pretended = s->pretended;
	f->connection_id = str_printf(&s->server->scratch, "%llx-%x-%llx", (unsigned long long)(s->server->wall_us / 1000000), s->server->process,
		(unsigned long long)s->number);
	if (s->connection_id)
		f->connection_id = str_of(s->connection_id);
	else
		s->connection_id = mem_strdup(f->connection_id.p);
	f->command = str_sub(str_of(s->line), 0, 1024);
	f->acl_c = s->acl_c.v;
	f->n_acl_c = s->acl_c.n;
	f->acl_m = s->acl_m.v;
	f->n_acl_m = s->acl_m.n;
	f->results = s->results.v;
	f->n_results = s->results.n;
	f->flags = s->flags;
	if (s->txn)
		txn_facts(s->txn, f, s);
}

/* Why there was no QUIT: rides along as a result. */
static void notquit_fact(struct session *s, struct ipc_facts *f)
{
	struct ipc_pair *v = arena_alloc(&s->server->scratch, (f->n_results + 1) * sizeof *v);

	if (f->n_results)
		memcpy(v, f->results, f->n_results * sizeof *v);
	v[f->n_results] = (struct ipc_pair){ .name = STR_LIT("notquit_reason"), .value = str_of(s->end_reason ? s->end_reason : "connection-lost") };
	f->results = v;
	f->n_results += f->n_results < 64;
}

static void ask_send(struct session *s)
{
	struct ipc_facts f;
	struct ipc_acl_ask ask = { .stage = s->stage, .facts = &f, .attempt = s->attempts, .argument = s->argument, .trace = s->trace || (s->flags & MSG_DEBUG) };
	bool reader = s->txn && s->txn->scanning && s->txn->file == FILE_OPEN;

	session_facts(s, &f);
	if (s->stage == ACL_NOTQUIT)
		notquit_fact(s, &f);
	s->server->stats.asked++;
	s->server->ops->ask(s, &ask, reader);
}

void session_ask_again(struct session *s)
{
	if (s->state == SESSION_ASK)
		ask_send(s);
	else if (s->state == SESSION_AUTH_ASK)
		auth_ask_again(s);
}

/* May the client's name be wanted, or is HELO to be verified? policyd tells for sure. */
static bool helo_looked_at(const struct session *s)
{
	const struct settings *set = &s->server->settings;

	if (session_client(s)->flags & (CLIENT_HELO_VERIFY | CLIENT_HELO_TRY) || (set->helo_lookup && !s->name_looked))
		return true;
	return set->helo_lookup_ours && !s->name_looked && s->helo && (s->helo[0] == '[' || str_isi(set->hostname, s->helo));
}

/* Stages without an ACL at which policyd has something else to say. */
static bool policy_needed(const struct session *s, enum acl_stage stage)
{
	if (s->local)
		return false;
	return stage == ACL_CONNECT || (unsigned)stage == ASK_TLS || (unsigned)stage == ASK_PROXY || (stage == ACL_HELO && ((s->esmtp && session_client(s)->flags & CLIENT_AUTH_LATER) || helo_looked_at(s))) ||
		(stage == ACL_MAILAUTH && s->auth_condition);
}

static void question_begin(struct session *s, enum acl_stage stage, struct str argument,
	void (*proceed)(struct session *s, const struct ipc_acl_answer *answer))
{
	s->argument = argument;
	s->stage = stage;
	s->attempts = 0;
	s->proceed = proceed;
	session_enter(s, SESSION_ASK);
	ask_send(s);
}

void policy_ask(struct session *s, enum acl_stage stage, void (*proceed)(struct session *s, const struct ipc_acl_answer *answer))
{
	if (!policy_has(s, stage) && !policy_needed(s, stage) && !policy_rewrites(s, stage)) {
		proceed(s, NULL);
		return;
	}
	question_begin(s, stage, STR_NULL, proceed);
}

void policy_ask_argument(struct session *s, enum acl_stage stage, struct str argument,
	void (*proceed)(struct session *s, const struct ipc_acl_answer *answer))
{
	question_begin(s, stage, argument, proceed);
}

bool policy_rewrites(const struct session *s, enum acl_stage stage)
{
	const struct settings *set = &s->server->settings;

	if (stage == ACL_RCPT)
		return set->rewrites_rcpt;
	if ((stage != ACL_DATA && stage != ACL_NOTSMTP) || !s->txn)
		return false;
	/* Names and ids of what is submitted, and our own Received:, come from there, too. */
	return set->rewrites_data || s->txn->unqualified || set->received_own || s->local || s->txn->flags & MSG_SUBMISSION;
}

/* What came is checked like any address that comes from outside. */
bool policy_rewritten(const struct ipc_acl_answer *answer)
{
	struct address addr;

	return answer && answer->rewritten.len && (str_is(answer->rewritten, "<>") || address_parse(answer->rewritten, ADDR_LITERALS | ADDR_LENIENT | ADDR_UTF8, &addr, NULL) == ST_OK);
}

static size_t pairs_size(const struct ipc_pair *v, uint32_t n)
{
	size_t size = 0;

	for (uint32_t i = 0; i < n; i++)
		size += v[i].name.len + v[i].value.len;
	return size;
}

static void results_merge(struct session *s, const struct ipc_pair *v, uint32_t n)
{
	struct arena *a = &s->server->scratch;
	struct ipc_pair *all = arena_alloc(a, (s->results.n + n + 1) * sizeof *all);
	uint32_t k = 0;

	for (uint32_t i = 0; i < s->results.n; i++) {
		bool replaced = false;

		for (uint32_t j = 0; j < n; j++)
			replaced |= str_eq(s->results.v[i].name, v[j].name);
		if (!replaced)
			all[k++] = s->results.v[i];
	}
	for (uint32_t j = 0; j < n && k < 64; j++)
		all[k++] = v[j];
	for (uint32_t i = 0; i < k; i++) { /* the old set's memory goes */
		all[i].name = str_dup(a, all[i].name);
		all[i].value = str_dup(a, all[i].value);
	}
	session_vars_set(&s->results, all, k);
}

/* Keeps what the answer says to keep. False: more than a session may hold. */
static bool answer_keep(struct session *s, const struct ipc_acl_answer *a)
{
	uint64_t *flags = s->txn ? &s->txn->flags : &s->flags;
	uint64_t lasting = a->flags & MSG_OF_CONNECTION, gone = a->flags_off & MSG_OF_CONNECTION;

	if (pairs_size(a->acl_c, a->n_acl_c) > SESSION_VARS_MAX || pairs_size(a->acl_m, a->n_acl_m) > SESSION_VARS_MAX)
		return false;
	session_vars_set(&s->acl_c, a->acl_c, a->n_acl_c);
	session_vars_set(&s->acl_m, a->acl_m, a->n_acl_m);
	if (a->n_results)
		results_merge(s, a->results, a->n_results);
	*flags = (*flags | (a->flags & ~lasting)) & ~a->flags_off;
	s->flags = (s->flags | lasting) & ~gone;
	s->helo_verified |= a->helo_verified;
	if (a->name_looked)
		s->name_looked = true;
	if (a->client_name.len && address_hostname_valid(a->client_name)) {
		mem_free(s->client_name);
		s->client_name = mem_memdup(a->client_name.p, a->client_name.len);
		tls_names_check(s);
	}
	if (s->txn)
		for (uint32_t i = 0; i < a->n_edits; i++)
			txn_edit_add(s->txn, a->edits[i].op, a->edits[i].text);
	return !s->txn || !txn_edits_full(s->txn);
}

static void answer_proceed(struct session *s, const struct ipc_acl_answer *answer)
{
	void (*proceed)(struct session *, const struct ipc_acl_answer *) = s->proceed;

	s->proceed = NULL;
	session_enter(s, SESSION_COMMAND);
	proceed(s, answer);
}

/* The session goes on with it when the time is over. */
static void answer_hold(struct session *s, const struct ipc_acl_answer *answer, uint64_t ms)
{
	s->held = arena_alloc(&s->held_arena, sizeof *s->held);
	ipc_copy(&ipc_type_acl_answer, answer, s->held, &s->held_arena);
	session_enter(s, SESSION_DELAY);
	s->deadline_ms = s->server->now_ms + ms;
}

unsigned policy_code(const struct ipc_acl_answer *a, unsigned code)
{
	return a && a->code / 100 == code / 100 ? (unsigned)a->code : code;
}

struct str policy_kept(const struct session *s, const char *name)
{
	for (uint32_t i = 0; i < s->acl_m.n; i++)
		if (str_is(s->acl_m.v[i].name, name))
			return s->acl_m.v[i].value;
	return STR_NULL;
}

void session_on_acl(struct session *s, const struct ipc_acl_answer *answer, bool lost, const char *why)
{
	struct ipc_acl_answer defer = { .verdict = ACL_DEFER, .log_text = str_of(why ? why : "no answer") };

	if (s->state != SESSION_ASK)
		return;
	if (lost && ++s->attempts < SESSION_ASK_MAX) {
		s->server->stats.asked_again++;
		ask_send(s);
		return;
	}
	if (lost)
		session_logf(s, LOG_MAIN, "%.*s policy question at stage %s given up: %d workers were lost with it (%s)", STR_FMT(log_host(s)),
			acl_stage_name(s->stage), s->attempts, why ? why : "");
	if (!answer || !answer->verdict || answer->verdict >= ACL_VERDICTS_END) {
		answer = &defer;
	} else if (!answer_keep(s, answer)) {
		defer.log_text = STR_LIT("policyd wants more kept than a session may hold");
		answer = &defer;
	}
	if (answer->delay_ms && answer != &defer && !s->server->draining && !s->pretended)
		answer_hold(s, answer, answer->delay_ms);
	else
		answer_proceed(s, answer);
}

void policy_wait(struct session *s, uint64_t ms, void (*proceed)(struct session *s, const struct ipc_acl_answer *answer))
{
	static const struct ipc_acl_answer nothing = { .verdict = ACL_ACCEPT };

	s->proceed = proceed;
	if (ms && session_client(s)->flags & CLIENT_SLOWED && !s->server->draining && !s->pretended)
		answer_hold(s, &nothing, ms);
	else
		answer_proceed(s, NULL);
}

/* The delay is over. */
void session_on_delay(struct session *s)
{
	struct ipc_acl_answer *held = s->held;
	struct arena arena = s->held_arena;

	s->held = NULL;
	s->held_arena = (struct arena)ARENA_INIT;
	answer_proceed(s, held);
	arena_clear(&arena);
}

bool policy_accepts(struct session *s, const struct ipc_acl_answer *a, const char *what, struct str subject)
{
	bool defer, details = s->server->settings.return_details;
	unsigned stage = s->stage, code, fallback;
	struct str text, log_text;

	if (!a || a->verdict == ACL_ACCEPT || a->verdict == ACL_DISCARD)
		return true;
	defer = a->verdict == ACL_DEFER;
	fallback = defer ? stage == ACL_CONNECT ? 421 : 451 : stage < ACL_STAGES_END && stage_rows[stage].code ? stage_rows[stage].code : 550;
	code = a->code && a->code / 100 == (defer ? 4 : 5) ? (unsigned)a->code : fallback;
	log_text = a->log_text.len ? a->log_text : a->text;
	text = a->text.len ? a->text : details && a->log_text.len ? a->log_text : defer ? STR_LIT("Temporary local problem - please try later") :
		STR_LIT("Administrative prohibition");
	s->reject_targets = (uint8_t)a->reject_targets;
	if (!a->no_reject_log)
		log_rejection(s, what, subject, defer, log_text, true);
	s->reject_targets = 0;
	if (!a->no_reject_log && (!a->reject_targets || a->reject_targets & LOG_REJECT))
		log_rejected_header(s);
	if (a->verdict == ACL_DROP) {
		reply(s, code, "5.7.1", text);
		log_incomplete(s);
		session_end_without_quit(s, "acl-drop");
		return false;
	}
	reply(s, code, defer ? "4.3.0" : code / 100 == 2 ? "2.5.2" : code / 100 == 4 ? "4.7.1" : "5.7.1", text);
	return false;
}
