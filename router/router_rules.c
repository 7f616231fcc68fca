/* SPDX-License-Identifier: ISC */
/* router_rules.c - what the rewriting rules make of an address, and which retry rule holds: the answers that the command prints, in
 * the words of `exim -brw` and `exim -brt`. */
#include <string.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "common/lang/rewrite.h"
#include "common/mail/addrlist.h"
#include "router/route.h"

enum { LINES_MAX = 32 };

struct lines {
	struct arena *a;
	struct str v[LINES_MAX];
	uint32_t n;
};

static void line_add(struct lines *l, struct str text)
{
	if (l->n < LINES_MAX)
		l->v[l->n++] = str_sub(text, 0, 8000);
}

/* ---- rewriting ---- */

static const struct { enum rewrite_kind kind; const char *label; } places[] = {
	{ REWRITE_SENDER, "  sender:" }, { REWRITE_FROM, "    from:" }, { REWRITE_TO, "      to:" }, { REWRITE_CC, "      cc:" }, { REWRITE_BCC, "     bcc:" },
	{ REWRITE_REPLY_TO, "reply-to:" }, { REWRITE_ENV_FROM, "env-from:" }, { REWRITE_ENV_TO, "  env-to:" },
};

static enum status rules_rewrite(struct eval *ev, struct str written, struct lines *out)
{
	struct addrlist_item item;
	struct err err = ERR_INIT;
	const struct rewrite *rules;
	struct str smtp;

	if (rewrite_rules(ev->lang, &rules, &err)) {
		line_add(out, str_of(arena_strdup(ev->arena, err.text)));
		return ST_ERROR;
	}
	if (!rules) {
		line_add(out, STR_LIT("No rewrite rules are defined"));
		return ST_OK;
	}
	smtp = rewrite_smtp(ev, REWRITE_SMTP_FROM, written);
	if (!smtp.len && written.len)
		smtp = STR_LIT("<>");
	if (!str_eq(smtp, written))
		line_add(out, str_printf(ev->arena, "    SMTP: %.*s", STR_FMT(smtp)));
	if (str_find(written, '@') < 0)
		written = str_printf(ev->arena, "%.*s@%.*s", STR_FMT(written), STR_FMT(lang_qualify_recipient(ev->lang)));
	if (addrlist_item_parse(written, ADDR_LENIENT | ADDR_UTF8, ev->arena, &item, &err)) {
		line_add(out, str_printf(ev->arena, "Syntax error in %.*s", STR_FMT(written)));
		line_add(out, str_of(arena_strdup(ev->arena, err.text)));
		return ST_OK;
	}
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		struct str text = written;

		if (places[i].kind & REWRITE_ENVELOPE)
			text = rewrite_address(ev, places[i].kind, item.addr);
		else
			rewrite_item(ev, rules, places[i].kind, written, STR_NULL, &text);
		line_add(out, str_printf(ev->arena, "%s %.*s", places[i].label, STR_FMT(text.len ? text : STR_LIT("<>"))));
	}
	return ST_OK;
}

/* ---- retry ---- */

/* How the rule's error is printed: those that are told apart by a reply's code, and a few more, as "*", as exim -brt has it. */
static void error_print(struct buf *b, const struct conf_retry *rule)
{
	const char *via = rule->via == 'A' ? "_A" : rule->via == 'M' ? "_MX" : "";
	char time[32];

	switch (rule->error) {
	case RETRY_QUOTA:
		buf_adds(b, "quota");
		if (rule->quota_age > 0) {
			conf_time_format(time, rule->quota_age);
			buf_printf(b, "_%s", time);
		}
		break;
	case RETRY_REFUSED:
		buf_printf(b, "refused%s", via);
		break;
	case RETRY_TIMEOUT:
		buf_printf(b, "timeout%s", via);
		break;
	case RETRY_TIMEOUT_CONNECT:
		buf_printf(b, "timeout_connect%s", via);
		break;
	case RETRY_AUTH_FAILED:
		buf_adds(b, "auth_failed");
		break;
	case RETRY_NONE: case RETRY_OTHER: case RETRY_DATA_4XX: case RETRY_MAIL_4XX: case RETRY_RCPT_4XX: case RETRY_LOOKUP:
	case RETRY_LOST_CONNECTION: case RETRY_TLS_REQUIRED: case RETRY_ERRORS_END:
		buf_addc(b, '*');
		break;
	}
}

static void step_print(struct buf *b, const struct conf_retry_step *s)
{
	char cutoff[32], interval[32];
	int digits = 3;
	unsigned fraction = (unsigned)(s->factor % 1000);

	conf_time_format(cutoff, s->cutoff);
	conf_time_format(interval, s->interval);
	buf_printf(b, "%c,%s,%s", s->kind, cutoff, interval);
	if (s->kind == 'G') {
		while (digits > 1 && fraction % 10 == 0) {
			fraction /= 10;
			digits--;
		}
		buf_printf(b, ",%u.%0*u", (unsigned)(s->factor / 1000), digits, fraction);
	}
	buf_adds(b, "; ");
}

static bool error_fits(const struct conf_retry *rule, const struct conf_retry *fault)
{
	if (rule->error == RETRY_NONE)
		return true;
	if (rule->error != fault->error && !(rule->error == RETRY_TIMEOUT && fault->error == RETRY_TIMEOUT_CONNECT))
		return false;
	if (rule->code_min && (fault->code_min < rule->code_min || fault->code_max > rule->code_max))
		return false;
	if (rule->via && rule->via != fault->via)
		return false;
	return rule->quota_age < 0 || fault->quota_age >= rule->quota_age;
}

struct subject { struct str local, domain; };

static void subject_set(struct arena *a, struct subject *s, struct str text)
{
	if (!address_split(text, &s->local, &s->domain))
		*s = (struct subject){ STR_NULL, text };
	s->domain = str_lower(a, s->domain);
}

static const struct conf_retry *rule_find(struct router *r, struct eval *ev, const struct subject *s, unsigned n, const struct conf_retry *fault,
	const struct ipc_rules_ask *ask)
{
	const struct site *site = r->site;

	for (uint32_t i = 0; i < site->n_retry; i++) {
		const struct site_retry *rule = &site->retry[i];
		bool fits = false;

		if (!error_fits(&r->conf->retry[i], fault) || (rule->senders && (!ask->has_sender || !retry_sender_fits(ev, rule, ask->sender))))
			continue;
		for (unsigned k = 0; k < n && !fits; k++)
			fits = retry_pattern_fits(ev, rule, s[k].local, s[k].domain);
		if (fits)
			return &r->conf->retry[i];
	}
	return NULL;
}

static enum status rules_retry(struct router *r, struct eval *ev, const struct ipc_rules_ask *ask, struct lines *out)
{
	struct conf_retry fault = { .error = RETRY_OTHER, .quota_age = -1 };
	const struct conf_retry *rule;
	struct err err = ERR_INIT;
	struct subject s[2];
	unsigned n = 1;
	uint32_t at = 1;
	struct buf b = BUF_INIT;

	subject_set(ev->arena, &s[0], ask->args.v[0]);
	if (str_find(ask->args.v[0], '@') < 0 && str_find(ask->args.v[0], '.') < 0) {
		line_add(out, str_printf(ev->arena, "Warning: \"%.*s\" contains no '@' and no '.' characters. It is being ", STR_FMT(ask->args.v[0])));
		line_add(out, STR_LIT("treated as a one-component domain, not as a local part."));
		line_add(out, STR_LIT(""));
	}
	if (at < ask->args.n && str_find(ask->args.v[at], '.') >= 0)
		subject_set(ev->arena, &s[n++], ask->args.v[at++]);
	if (at < ask->args.n && conf_retry_error_parse(ask->args.v[at], &fault, &err)) {
		line_add(out, str_of(arena_strdup(ev->arena, err.text)));
		return ST_FAIL;
	}
	rule = rule_find(r, ev, s, n, &fault, ask);
	if (!rule) {
		line_add(out, STR_LIT("No retry information found"));
		return ST_OK;
	}
	buf_printf(&b, "Retry rule: %.*s  ", STR_FMT(rule->pattern.text));
	error_print(&b, rule);
	buf_adds(&b, "  ");
	for (uint32_t i = 0; i < rule->n; i++)
		step_print(&b, &rule->steps[i]);
	line_add(out, str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return ST_OK;
}

void router_rules(struct router *r, struct arena *a, const struct ipc_rules_ask *ask, struct ipc_rules_answer *out)
{
	static const struct ipc_facts nothing;
	struct lines *lines = arena_alloc(a, sizeof *lines);
	struct eval ev;

	memset(out, 0, sizeof *out);
	lines->a = a;
	eval_init(&ev, r->lang, a);
	eval_facts(&ev, &nothing);
	r->program_until_ms = clock_ms() + ROUTER_PROGRAM_MS;
	if (!ask->args.n) {
		out->status = ST_ERROR;
		line_add(lines, STR_LIT("an address is missing"));
	} else if (ask->what == RULES_REWRITE) {
		out->status = rules_rewrite(&ev, ask->args.v[0], lines);
	} else {
		out->status = rules_retry(r, &ev, ask, lines);
	}
	out->lines = (struct ipc_strs){ lines->v, lines->n };
	eval_clear(&ev);
}
