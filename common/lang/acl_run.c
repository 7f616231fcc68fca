/* SPDX-License-Identifier: ISC */
/* Running ACLs (specification, sections 44.12 to 44.21).
 *
 * A statement's conditions and modifiers are taken in order until a condition does not hold. What then happens is the verb's:
 *
 *   verb      all hold    one fails                       one can't be known
 *   accept    accept      next, or behind endpass: deny   defer
 *   discard   discard     next, or behind endpass: deny   defer
 *   deny      deny        next                            defer
 *   drop      deny+close  next                            defer
 *   defer     defer       next                            defer
 *   require   next        deny                            defer
 *   warn      next        next                            next
 *
 * The end of an ACL is deny. `message` and `log_message` count for the outcome that ends the statement when they have been reached. */
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"
#include "common/mail/received.h"

enum acl_rc acl_rc_of(enum status st)
{
	switch (st) {
	case ST_OK:
		return RC_OK;
	case ST_FAIL:
		return RC_FAIL;
	case ST_DEFER:
		return RC_DEFER;
	case ST_ERROR:
		break;
	}
	return RC_ERROR;
}

void acl_log(struct acl_state *s, unsigned targets, struct str text)
{
	const struct lang_services *services = &s->ev->lang->services;
	ptrdiff_t end = str_find(text, '\n');

	if (services->log)
		services->log(services->ctx, targets, end < 0 ? text : str_sub(text, 0, (size_t)end));
}

void acl_result_set(struct acl_state *s, const char *name, struct str value)
{
	for (uint32_t i = 0; i < s->n_results; i++)
		if (str_is(s->results[i].name, name)) {
			s->results[i].value = value;
			s->results[i].tainted = value.tainted;
			return;
		}
	if (s->n_results == s->results_room) {
		struct ipc_pair *v = arena_alloc(s->ev->arena, sizeof *v * (s->results_room + 8));

		if (s->n_results)
			memcpy(v, s->results, sizeof *v * s->n_results);
		s->results = v;
		s->results_room += 8;
	}
	s->results[s->n_results++] = (struct ipc_pair){ .name = str_of(name), .value = value, .tainted = value.tainted };
	s->ev->results = s->results;
	s->ev->n_results = s->n_results;
}

struct str acl_result_get(const struct acl_state *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_results; i++)
		if (str_is(s->results[i].name, name))
			return s->results[i].value;
	for (uint32_t i = 0; i < s->ev->facts->n_results; i++)
		if (str_is(s->ev->facts->results[i].name, name))
			return s->ev->facts->results[i].value;
	return STR_NULL;
}

void acl_trace(struct acl_state *s, const char *fmt, ...)
{
	struct str text, line;
	va_list ap;

	if (!s->ev->trace)
		return;
	va_start(ap, fmt);
	text = str_of(arena_vprintf(s->ev->arena, fmt, ap));
	va_end(ap);
	while (str_split(&text, '\n', &line))
		acl_log(s, LOG_MAIN, str_printf(s->ev->arena, ">>> %.*s", STR_FMT(line)));
}

/* ---- one item ---- */

static const char *stage_words(enum acl_stage stage)
{
	const char *name = acl_stage_name(stage);

	return name ? name : "no";
}

static enum acl_rc item_run(struct acl_state *s, const struct acl_item *item, struct err *err)
{
	struct str text = STR_NULL;
	enum status st;

	if (s->stage && !(item->stages & STAGE(s->stage))) {
		err_set(err, ST_ERROR, "cannot use \"%s\" in the %s ACL; %s", item->what ? item->what : item->row->name, stage_words(s->stage),
			acl_stages_words(s->ev->arena, item->stages));
		return RC_ERROR;
	}
	if (item->row->shape == SHAPE_TEXT) {
		st = expansion_run(s->ev, item->x, &text, err);
		/* A forced failure: as if the item were not there. */
		if (st == ST_FAIL)
			return RC_OK;
		if (st) {
			err_prefix(err, "%s", item->row->name);
			return acl_rc_of(st);
		}
		if (s->ev->trace && !str_eq(text, item->text))
			acl_trace(s, "      = %.*s", STR_FMT(text));
	}
	return item->row->fn(s, item, text, err);
}

static enum acl_rc item_negate(enum acl_rc rc)
{
	if (rc == RC_OK)
		return RC_FAIL;
	return rc == RC_FAIL || rc == RC_FAIL_DROP ? RC_OK : rc;
}

/* Whether a forced failure made the item vanish: then negation does not turn it around. */
static bool item_forced(struct acl_state *s, const struct acl_item *item, enum acl_rc rc, const struct err *err)
{
	(void)s;
	return rc == RC_OK && item->row->shape == SHAPE_TEXT && err->status == ST_FAIL;
}

/* ---- messages ---- */

struct said {
	const struct acl_item *message, *log_message;
	bool endpass;
};

static bool message_counts(enum acl_verb verb, enum acl_rc rc, bool endpass)
{
	switch (verb) {
	case VERB_ACCEPT:
	case VERB_DISCARD:
		return rc == RC_OK || (endpass && (rc == RC_FAIL || rc == RC_FAIL_DROP));
	case VERB_DEFER:
	case VERB_DENY:
	case VERB_DROP:
	case VERB_WARN:
		return rc == RC_OK;
	case VERB_REQUIRE:
		return rc == RC_FAIL || rc == RC_FAIL_DROP;
	case VERBS:
		break;
	}
	return false;
}

/* The text of message or log_message; empty when there is none, or when it does not expand, which is logged unless it was meant. */
static struct str said_expand(struct acl_state *s, const struct acl_item *item, struct str before)
{
	struct err err = ERR_INIT;
	struct str text = STR_NULL;
	enum status st;

	if (!item)
		return STR_NULL;
	eval_set(s->ev, EV_acl_verify_message, before);
	st = expansion_run(s->ev, item->x, &text, &err);
	eval_set(s->ev, EV_acl_verify_message, STR_NULL);
	if (st) {
		if (st != ST_FAIL)
			acl_log(s, LOG_MAIN | LOG_PANIC, str_printf(s->ev->arena, "failed to expand ACL message \"%.*s\": %s", STR_FMT(str_sub(item->x->text, 0, 200)),
				err.text));
		return STR_NULL;
	}
	return text;
}

static void said_apply(struct acl_state *s, const struct said *said, enum acl_verb verb, enum acl_rc rc)
{
	struct str user_before = s->user_text, log_before = s->log_text.len ? s->log_text : s->user_text, text;

	if (!message_counts(verb, rc, said->endpass))
		return;
	/* What conditions said on the way to success is no reply. */
	if (rc == RC_OK && (verb == VERB_WARN || verb == VERB_ACCEPT || verb == VERB_DISCARD))
		s->user_text = s->log_text = STR_NULL;
	/* With endpass, message is for refusals. */
	text = said->endpass && rc == RC_OK ? STR_NULL : said_expand(s, said->message, user_before);
	if (text.len)
		s->user_text = text;
	text = said_expand(s, said->log_message, log_before);
	if (text.len)
		s->log_text = s->log_text.len ? str_printf(s->ev->arena, "%.*s: %.*s", STR_FMT(text), STR_FMT(s->log_text)) : text;
	if (!s->log_text.len)
		s->log_text = s->user_text;
}

/* ---- one statement ---- */

static enum acl_rc conditions_run(struct acl_state *s, const struct acl_statement *statement, struct said *said, struct err *err)
{
	enum acl_rc rc = RC_OK;

	for (uint32_t i = 0; i < statement->n; i++) {
		const struct acl_item *item = &statement->items[i];

		err->status = ST_OK;
		s->at = item;
		if (!strcmp(item->row->name, "message")) {
			said->message = item;
			continue;
		}
		if (!strcmp(item->row->name, "log_message")) {
			said->log_message = item;
			continue;
		}
		if (item->row->shape == SHAPE_NONE) {
			said->endpass = true;
			continue;
		}
		acl_trace(s, "%s%s%s%.*s = %.*s", item->row->modifier ? "" : "check ", item->negated ? "!" : "", item->row->name,
			item->argument.len ? (int)item->argument.len + 1 : 0, item->argument.len ? arena_printf(s->ev->arena, " %.*s", STR_FMT(item->argument)) : "",
			STR_FMT(item->text));
		rc = item_run(s, item, err);
		if (item->negated && !item_forced(s, item, rc, err))
			rc = item_negate(rc);
		if (rc == RC_NEVER) {
			rc = statement->verb == VERB_REQUIRE ? RC_OK : RC_FAIL;
			break;
		}
		if (rc == RC_DISCARD && statement->verb != VERB_ACCEPT && statement->verb != VERB_DISCARD) {
			err_set(err, ST_ERROR, "nested ACL gave \"discard\", which only accept and discard can pass on");
			rc = RC_ERROR;
		}
		if (rc != RC_OK)
			break;
	}
	said_apply(s, said, statement->verb, rc);
	return rc;
}

/* "H=name (helo) [ip]", as in the log. */
struct str acl_client_words(struct acl_state *s)
{
	struct ipc_facts facts = *s->ev->facts;

	facts.client_name = s->ev->client_name;
	if (!facts.client_ip.len)
		return facts.ident.len ? str_printf(s->ev->arena, "U=%.*s", STR_FMT(facts.ident)) : STR_LIT("H=(local)");
	return str_printf(s->ev->arena, "H=%.*s", STR_FMT(received_fullhost(s->ev->arena, &facts, false)));
}

static void warn_log(struct acl_state *s)
{
	struct acl_warned *w;

	for (w = s->warned; w; w = w->next)
		if (str_eq(w->text, s->log_text))
			return;
	w = arena_alloc(s->ev->arena, sizeof *w);
	*w = (struct acl_warned){ s->warned, s->log_text };
	s->warned = w;
	acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "%.*s Warning: %.*s", STR_FMT(acl_client_words(s)), STR_FMT(s->log_text)));
}

/* warn with all conditions true: log_message is logged, message is a header field (an old use). */
static void warn_act(struct acl_state *s, const struct said *said)
{
	struct err err = ERR_INIT;

	if (said->log_message && s->log_text.len)
		warn_log(s);
	if (said->message && s->user_text.len && STAGE(s->stage) & STAGES_MESSAGE)
		acl_headers_add(s, s->user_text, &err);
}

static void place_prefix(struct acl_state *s, struct err *err)
{
	const struct conf *conf = s->ev->lang->conf;

	if (s->at && s->at->place.line && conf)
		err_prefix(err, "%.*s", STR_FMT(conf_place_format(conf, s->at->place, s->ev->arena)));
}

/* Decides by the table above; *next_out: on to the next statement. */
static enum acl_rc statement_run(struct acl_state *s, const struct acl_statement *statement, bool *next_out, struct err *err)
{
	struct said said = { 0 };
	enum acl_rc rc;

	s->user_text = s->log_text = STR_NULL;
	eval_set(s->ev, EV_acl_verify_message, STR_NULL);
	*next_out = false;
	rc = conditions_run(s, statement, &said, err);
	if (rc == RC_DEFER && statement->verb == VERB_WARN) {
		acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "%.*s Warning: ACL \"warn\" statement skipped: condition test deferred%s%s",
			STR_FMT(acl_client_words(s)), err->text[0] ? ": " : "", err->text));
		*next_out = true;
		return rc;
	}
	if (rc == RC_DEFER || rc == RC_ERROR) {
		if (rc == RC_ERROR)
			place_prefix(s, err);
		return rc;
	}
	switch (statement->verb) {
	case VERB_ACCEPT:
		*next_out = rc != RC_OK && rc != RC_DISCARD && !said.endpass;
		return rc;
	case VERB_DISCARD:
		*next_out = rc != RC_OK && rc != RC_DISCARD && !said.endpass;
		return rc == RC_OK ? RC_DISCARD : rc;
	case VERB_DEFER:
		*next_out = rc != RC_OK;
		if (rc == RC_OK)
			err->text[0] = '\0';
		return rc == RC_OK ? RC_DEFER : rc;
	case VERB_DENY:
		*next_out = rc != RC_OK;
		return rc == RC_OK ? RC_FAIL : rc;
	case VERB_DROP:
		*next_out = rc != RC_OK;
		return rc == RC_OK ? RC_FAIL_DROP : rc;
	case VERB_REQUIRE:
		*next_out = rc == RC_OK;
		return rc;
	case VERB_WARN:
		if (rc == RC_OK)
			warn_act(s, &said);
		*next_out = true;
		return rc;
	case VERBS:
		break;
	}
	return RC_ERROR;
}

static const char *acl_words(struct acl_state *s, const struct acl *acl)
{
	return acl->name.len ? arena_printf(s->ev->arena, "ACL \"%.*s\"", STR_FMT(acl->name)) : "ACL in line";
}

static const char *place_words(struct acl_state *s, struct conf_place place)
{
	const struct conf *conf = s->ev->lang->conf;

	return conf && place.line ? str_cstr(s->ev->arena, conf_place_format(conf, place, s->ev->arena)) : "in line";
}

static const char *const verdict_words[] = { [RC_OK] = "ACCEPT", [RC_FAIL] = "DENY", [RC_FAIL_DROP] = "DROP", [RC_DISCARD] = "DISCARD",
	[RC_DEFER] = "DEFER", [RC_ERROR] = "ERROR" };
static const char *const rc_words[] = { [RC_OK] = "succeeded", [RC_FAIL] = "failed", [RC_FAIL_DROP] = "failed", [RC_DISCARD] = "yielded \"discard\"",
	[RC_DEFER] = "deferred", [RC_ERROR] = "error" };

static void statement_trace(struct acl_state *s, const struct acl *acl, const struct acl_statement *statement, enum acl_rc rc, bool next,
	const char *verb, const struct err *err)
{
	/* A verdict looks like a condition's result for verbs that refuse; what goes on to the next statement gave none. */
	bool ends = !next && ((rc == RC_FAIL && statement->verb == VERB_DENY) || (rc == RC_FAIL_DROP && statement->verb == VERB_DROP) ||
		(rc == RC_DEFER && statement->verb == VERB_DEFER && !err->text[0]) || (rc == RC_DISCARD && statement->verb == VERB_DISCARD));

	acl_trace(s, "%s: condition test %s in %s", verb, ends ? "succeeded" : rc_words[rc], acl_words(s, acl));
	if (err->text[0] && (rc == RC_DEFER || rc == RC_ERROR))
		acl_trace(s, "  %s", err->text);
	if (s->user_text.len)
		acl_trace(s, "  message: %.*s", STR_FMT(s->user_text));
	if (s->log_text.len && !str_eq(s->log_text, s->user_text))
		acl_trace(s, "  log_message: %.*s", STR_FMT(s->log_text));
}

enum acl_rc acl_statements_run(struct acl_state *s, const struct acl *acl, struct err *err)
{
	acl_trace(s, "using %s", acl_words(s, acl));
	for (uint32_t i = 0; i < acl->n; i++) {
		const struct acl_statement *statement = &acl->statements[i];
		struct lang_row verb = { 0 };
		bool next;
		enum acl_rc rc;

		if (eval_step(s->ev, 1, err))
			return RC_ERROR;
		acl_verb_at(statement->verb, &verb);
		acl_trace(s, "processing \"%s\" (%s)", verb.name, place_words(s, statement->place));
		err->text[0] = '\0';
		rc = statement_run(s, statement, &next, err);
		statement_trace(s, acl, statement, rc, next, verb.name, err);
		if (!next) {
			acl_trace(s, "end of %s: %s", acl_words(s, acl), verdict_words[rc]);
			return rc;
		}
	}
	acl_trace(s, "end of %s: implicit DENY", acl_words(s, acl));
	s->user_text = s->log_text = STR_NULL;
	return RC_FAIL;
}

/* ---- ACLs called by ACLs and expansions ---- */

enum acl_rc acl_run_nested(struct acl_state *s, const struct acl *acl, const struct str *args, uint32_t n, struct err *err)
{
	struct str before[ACL_ARGS_MAX + 1];
	const struct acl_item *at = s->at;
	enum acl_rc rc;

	if (s->depth >= ACL_NESTING_MAX) {
		err_set(err, ST_ERROR, "ACLs nested deeper than %d", ACL_NESTING_MAX);
		return RC_ERROR;
	}
	for (uint32_t i = 0; i < ACL_ARGS_MAX; i++) {
		before[i] = s->ev->slot[EV_acl_arg1 + i];
		s->ev->slot[EV_acl_arg1 + i] = i < n ? args[i] : STR_NULL;
	}
	before[ACL_ARGS_MAX] = s->ev->slot[EV_acl_narg];
	s->ev->slot[EV_acl_narg] = str_printf(s->ev->arena, "%u", n);
	s->depth++;
	rc = acl_statements_run(s, acl, err);
	s->depth--;
	for (uint32_t i = 0; i < ACL_ARGS_MAX; i++)
		s->ev->slot[EV_acl_arg1 + i] = before[i];
	s->ev->slot[EV_acl_narg] = before[ACL_ARGS_MAX];
	if (rc != RC_ERROR)
		s->at = at;
	return rc;
}

enum status acl_call(struct eval *ev, const struct str *args, uint32_t n, bool *yes_out, struct str *message_out, struct err *err)
{
	struct acl_state own = { .ev = ev, .stage = ev->stage }, *s = ev->acl_state ? ev->acl_state : &own;
	struct str user = s->user_text, log = s->log_text;
	struct err inner = ERR_INIT;
	struct acl *acl;
	enum acl_rc rc;

	*yes_out = false;
	*message_out = STR_NULL;
	if (acl_find(ev, args[0], &acl, err))
		return ST_ERROR;
	ev->acl_state = s;
	rc = acl_run_nested(s, acl, args + 1, n - 1, &inner);
	if (s == &own)
		ev->acl_state = NULL;
	*message_out = s->user_text;
	s->user_text = user;
	s->log_text = log;
	switch (rc) {
	case RC_OK:
	case RC_FAIL:
		*yes_out = rc == RC_OK;
		return ST_OK;
	case RC_DEFER:
		return err_set(err, ST_FAIL, "ACL \"%.*s\" defers", STR_FMT(expand_quote(ev, args[0])));
	case RC_FAIL_DROP:
	case RC_DISCARD:
	case RC_ERROR:
	case RC_NEVER:
		break;
	}
	return err_set(err, ST_ERROR, "ACL \"%.*s\": %s", STR_FMT(expand_quote(ev, args[0])), inner.text[0] ? inner.text : "neither accepts nor denies");
}

static enum acl_verdict verdict_of(enum acl_rc rc)
{
	switch (rc) {
	case RC_OK:
		return ACL_ACCEPT;
	case RC_FAIL:
		return ACL_DENY;
	case RC_FAIL_DROP:
		return ACL_DROP;
	case RC_DISCARD:
		return ACL_DISCARD;
	case RC_DEFER:
	case RC_ERROR:
	case RC_NEVER:
		break;
	}
	return ACL_DEFER;
}

enum acl_verdict acl_run(struct eval *ev, const struct acl *acl, struct str *message_out, struct str *log_out, struct err *err)
{
	struct acl_state s = { .ev = ev, .stage = ev->stage };
	struct err own = ERR_INIT;
	enum acl_rc rc;

	ev->acl_state = &s;
	rc = acl_statements_run(&s, acl, err ? err : &own);
	ev->acl_state = NULL;
	*message_out = s.user_text;
	*log_out = s.log_text;
	return verdict_of(rc);
}

/* ---- a stage ---- */

/* Without an ACL: these are refused, all others accepted. */
static bool stage_denies(enum acl_stage stage)
{
	return stage == ACL_RCPT || stage == ACL_VRFY || stage == ACL_EXPN || stage == ACL_ETRN;
}

const struct conf_text *acl_option(const struct conf *conf, enum acl_stage stage)
{
	static const struct conf_text unset;

	switch (stage) {
	case ACL_CONNECT: return &conf->main.acl_smtp_connect;
	case ACL_HELO: return &conf->main.acl_smtp_helo;
	case ACL_STARTTLS: return &conf->main.acl_smtp_starttls;
	case ACL_AUTH: return &conf->main.acl_smtp_auth;
	case ACL_MAIL: return &conf->main.acl_smtp_mail;
	case ACL_MAILAUTH: return &conf->main.acl_smtp_mailauth;
	case ACL_RCPT: return &conf->main.acl_smtp_rcpt;
	case ACL_PREDATA: return &conf->main.acl_smtp_predata;
	case ACL_MIME: return &conf->main.acl_smtp_mime;
	case ACL_DKIM: return &conf->main.acl_smtp_dkim;
	case ACL_DATA: return &conf->main.acl_smtp_data;
	case ACL_PRDR: return &conf->main.acl_smtp_data_prdr;
	case ACL_QUIT: return &conf->main.acl_smtp_quit;
	case ACL_NOTQUIT: return &conf->main.acl_smtp_notquit;
	case ACL_VRFY: return &conf->main.acl_smtp_vrfy;
	case ACL_EXPN: return &conf->main.acl_smtp_expn;
	case ACL_ETRN: return &conf->main.acl_smtp_etrn;
	case ACL_NOTSMTP: return &conf->main.acl_not_smtp;
	case ACL_NOTSMTP_START: return &conf->main.acl_not_smtp_start;
	case ACL_NOTSMTP_MIME: return &conf->main.acl_not_smtp_mime;
	case ACL_STAGES_END:
		break;
	}
	return &unset;
}

struct str acl_reply_split(struct str text, char want_first, unsigned *code_out, bool *wrong_out)
{
	*code_out = 0;
	*wrong_out = false;
	if (text.len < 4 || !ascii_is_digit(text.p[0]) || !ascii_is_digit(text.p[1]) || !ascii_is_digit(text.p[2]) || !ascii_is_space(text.p[3]))
		return text;
	if (text.p[0] == want_first)
		*code_out = (unsigned)((text.p[0] - '0') * 100 + (text.p[1] - '0') * 10 + (text.p[2] - '0'));
	else
		*wrong_out = true;
	text = str_from(text, 3);
	while (text.len && ascii_is_space(text.p[0]))
		text = str_from(text, 1);
	return text;
}

/* No octet but LF that could end or forge a line goes into a reply. */
static struct str reply_clean(struct arena *a, struct str text)
{
	char *p;

	text = str_dup(a, str_sub(str_trim(text), 0, ACL_REPLY_MAX));
	p = (char *)text.p;
	for (uint32_t i = 0; i < text.len; i++)
		if (((unsigned char)p[i] < ' ' && p[i] != '\n' && p[i] != '\t') || p[i] == 0x7f)
			p[i] = '?';
	return text;
}

static char reply_class(enum acl_verdict verdict, enum acl_stage stage)
{
	switch (verdict) {
	case ACL_ACCEPT:
	case ACL_DISCARD:
		return stage == ACL_PREDATA ? '3' : '2';
	case ACL_DEFER:
		return '4';
	case ACL_DENY:
	case ACL_DROP:
	case ACL_VERDICTS_END:
		break;
	}
	return '5';
}

static struct str first_line(struct str text)
{
	ptrdiff_t end = str_find(text, '\n');

	return end < 0 ? text : str_sub(text, 0, (size_t)end);
}

/* The client hears why an address is not verified as a sender once a message: the recipients that follow are refused for the same. The first line
 * names the address. */
static bool sender_told(struct acl_state *s)
{
	int64_t message = s->ev->facts->received_us;
	struct str mark = str_printf(s->ev->arena, "%lld %.*s", (long long)message, STR_FMT(str_sub(first_line(s->verify_lines), 0, 400)));

	if (!message)
		return false;
	if (str_eq(acl_result_get(s, "sender_told"), mark))
		return true;
	acl_result_set(s, "sender_told", mark);
	return false;
}

static void answer_texts(struct acl_state *s, enum acl_rc rc, const struct err *err, struct ipc_acl_answer *out)
{
	struct arena *a = s->ev->arena;
	unsigned code;
	bool wrong;

	out->text = acl_reply_split(s->user_text, reply_class(out->verdict, s->stage), &code, &wrong);
	out->code = code;
	if (wrong)
		acl_log(s, LOG_MAIN | LOG_PANIC, str_printf(a, "configured error code starts with incorrect digit (expected %c) in \"%.*s\"",
			reply_class(out->verdict, s->stage), STR_FMT(expand_quote(s->ev, s->user_text))));
	out->log_text = first_line(s->log_text);
	/* Why something can't be known is for the log, not for strangers. */
	if ((rc == RC_DEFER || rc == RC_ERROR) && err->text[0])
		out->log_text = out->log_text.len ? str_printf(a, "%.*s: %s", STR_FMT(out->log_text), err->text) : str_dup(a, str_of(err->text));
	if (rc == RC_ERROR)
		out->text = STR_NULL;
	if (out->text.len && s->verify_lines.len && (out->verdict == ACL_DENY || out->verdict == ACL_DROP) && !sender_told(s))
		out->text = str_printf(a, "%.*s\n%.*s", STR_FMT(s->verify_lines), STR_FMT(out->text));
	out->text = reply_clean(a, out->text);
	out->log_text = str_sub(out->log_text, 0, ACL_REPLY_MAX);
}

static enum acl_rc stage_run(struct acl_state *s, struct err *err)
{
	const struct conf *conf = s->ev->lang->conf;
	const struct conf_text *option = conf ? acl_option(conf, s->stage) : NULL;
	struct str value = STR_NULL;
	struct acl *acl;
	enum status st = ST_OK;
	enum acl_rc rc;

	if (option && option->text.len)
		st = expand_text(s->ev, option->text, &value, err);
	if (st == ST_FAIL)
		st = ST_OK;
	if (!st && !str_trim(value).len)
		return stage_denies(s->stage) ? RC_FAIL : RC_OK;
	if (!st)
		st = acl_find(s->ev, value, &acl, err);
	if (st) {
		err_prefix(err, "acl_smtp_%s", stage_words(s->stage));
		return st == ST_DEFER ? RC_DEFER : RC_ERROR;
	}
	rc = acl_statements_run(s, acl, err);
	if (rc == RC_DISCARD && (!(STAGE(s->stage) & STAGES_MESSAGE) || s->stage == ACL_PREDATA)) {
		err_set(err, ST_ERROR, "\"discard\" is not allowed in the %s ACL", stage_words(s->stage));
		rc = RC_ERROR;
	}
	return rc;
}

void acl_stage_run(struct eval *ev, struct ipc_acl_answer *out)
{
	/* What the MIME stage has found out goes on with the data stage. */
	struct acl_state s = { .ev = ev, .stage = ev->stage, .results = (struct ipc_pair *)ev->results, .n_results = ev->n_results,
		.results_room = ev->n_results };
	struct err err = ERR_INIT;
	enum acl_rc rc;

	*out = (struct ipc_acl_answer){ 0 };
	ev->acl_state = &s;
	rc = stage_run(&s, &err);
	ev->acl_state = NULL;
	out->verdict = verdict_of(rc);
	if (rc == RC_ERROR)
		acl_log(&s, LOG_MAIN | LOG_PANIC, str_printf(ev->arena, "%.*s ACL error: %s", STR_FMT(acl_client_words(&s)), err.text));
	answer_texts(&s, rc, &err, out);
	out->acl_c = ev->acl_c.v;
	out->n_acl_c = ev->acl_c.n;
	out->acl_m = ev->acl_m.v;
	out->n_acl_m = ev->acl_m.n;
	out->results = s.results;
	out->n_results = s.n_results;
	out->edits = ev->edits;
	out->n_edits = ev->n_edits;
	out->flags = ev->flags;
	out->flags_off = ev->flags_off;
	out->delay_ms = s.delay_ms < ACL_DELAY_MAX_MS ? s.delay_ms : ACL_DELAY_MAX_MS;
	out->client_name = ev->client_name;
	/* A name that could not be known now is asked for again. */
	out->name_looked = ev->name_looked && !ev->name_deferred;
	out->helo_verified = ev->helo_verified;
	out->no_reject_log = s.no_reject_log;
	out->reject_targets = s.reject_targets;
}
