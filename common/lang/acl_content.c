/* SPDX-License-Identifier: ISC */
/* malware and spam: what scanners say of the whole message (specification, sections 45.1 to 45.3). Here are the conditions and their
 * variables; whoever evaluates does the talking (lang_services.scan). */
#include "common/lang/acl_content.h"

#include <string.h>

#include "common/base/log.h"
#include "common/lang/acl_row.h"
#include "common/conf/option.h"
#include "common/lang/lang_priv.h"
#include "common/lang/scan_server.h"

enum { SPAM_BAR_MAX = 50 };

/* An answer that holds for the rest of the question. */
struct content_scan {
	struct content_scan *next;
	bool spam;
	struct str user;
	struct lang_scan_answer answer;
};

/* "WORD / defer_ok / tmo=10s" */
struct scan_argument {
	struct str word;
	bool defer_ok;
	int64_t timeout_s;
};

static enum status argument_parse(struct arena *a, struct str text, bool spam, struct scan_argument *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(str_trim(text));
	struct str word;

	*out = (struct scan_argument){ .word = STR_NULL };
	if (!str_begins(split.rest, "<"))
		split.sep = '/';
	if (!lang_split_next(&split, a, &out->word))
		return ST_OK;
	while (lang_split_next(&split, a, &word)) {
		if (str_is(word, "defer_ok"))
			out->defer_ok = true;
		else if (str_begins(word, "tmo=") && !spam && !conf_time_parse(str_from(word, 4), &out->timeout_s, NULL) && out->timeout_s > 0 &&
			 out->timeout_s <= SCAN_TIMEOUT_MAX_MS / 1000)
			continue;
		else if (word.len)
			return err_set(err, ST_ERROR, "\"%.*s\": defer_ok%s may stand behind the slash", STR_FMT(str_sub(word, 0, 100)),
				spam ? "" : " and tmo=TIME, up to 4m,");
	}
	return ST_OK;
}

/* What can be known of the value before it is expanded. */
static enum status argument_check(struct acl_compiler *c, struct str text, bool spam, struct err *err)
{
	struct scan_argument arg;

	return str_find(text, '$') >= 0 || str_find(text, '\\') >= 0 ? ST_OK : argument_parse(c->arena, text, spam, &arg, err);
}

static bool word_is_no(struct str word) { return !word.len || str_is(word, "0") || str_isi(word, "false"); }

/* ---- asking ---- */

static struct content_scan *scan_kept(struct eval *ev, bool spam, struct str user)
{
	for (struct content_scan *k = ev->content ? ev->content->scans : NULL; k; k = k->next)
		if (k->spam == spam && str_eq(k->user, user))
			return k;
	return NULL;
}

static void scan_keep(struct eval *ev, bool spam, struct str user, const struct lang_scan_answer *answer)
{
	struct content_state *c = content_state(ev);
	struct content_scan *k = arena_alloc(ev->arena, sizeof *k);

	*k = (struct content_scan){ c->scans, spam, str_dup(ev->arena, user), *answer };
	c->scans = k;
}

/* Asks, unless it has been asked: an option that is expanded may mean another scanner each time. */
static enum status scan_ask(struct acl_state *s, const struct conf_text *option, bool spam, const struct scan_argument *arg, struct lang_scan_answer *out,
	struct err *err)
{
	struct eval *ev = s->ev;
	const struct lang_services *services = &ev->lang->services;
	struct lang_scan ask = { .spam = spam, .user = spam ? arg->word : STR_NULL, .timeout_ms = (uint64_t)arg->timeout_s * 1000, .ev = ev,
		.servers = option->text };
	bool keep = !scan_text_expands(option->text);
	struct content_scan *kept = keep ? scan_kept(ev, spam, ask.user) : NULL;
	enum status st = ST_OK;

	*out = (struct lang_scan_answer){ 0 };
	if (kept) {
		*out = kept->answer;
		return ST_OK;
	}
	if (ev->message_fd < 0)
		return err_set(err, ST_DEFER, "there is no message to look at");
	if (!services->scan)
		return err_set(err, ST_ERROR, "scanners are not available here");
	if (!keep && (st = expand_text(ev, option->text, &ask.servers, err)))
		return err_set(err, ST_DEFER, "%s: %s", spam ? "spamd_address" : "av_scanner", err->text[0] ? err->text : "forced failure");
	if (ask.servers.tainted)
		return err_set(err, ST_ERROR, "%s: tainted text can't name a scanner", spam ? "spamd_address" : "av_scanner");
	st = services->scan(services->ctx, ev->arena, &ask, out, err);
	eval_set(ev, EV_callout_address, out->address);
	if (!st && keep)
		scan_keep(ev, spam, ask.user, out);
	return st;
}

/* No answer: deferred, or with defer_ok as if all were well. */
static enum acl_rc scan_failed(struct acl_state *s, const char *what, bool defer_ok, enum status st, struct err *err)
{
	err_prefix(err, "%s acl condition", what);
	if (!defer_ok)
		return st == ST_ERROR ? RC_ERROR : RC_DEFER;
	acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "%s", err->text));
	return RC_FAIL;
}

/* ---- malware ---- */

static enum acl_rc malware_test(struct acl_state *s, struct str word, const struct lang_scan_answer *answer, struct err *err)
{
	struct regex_match m;
	struct regex *re;

	if (!answer->found)
		return RC_FAIL;
	acl_result_set(s, "malware_name", str_taint(answer->name));
	if (str_is(word, "*") || str_is(word, "1") || str_isi(word, "true"))
		return RC_OK;
	if (eval_regex(s->ev, word, 0, &re, err))
		return RC_ERROR;
	return acl_rc_of(regex_match(re, str_taint(answer->name), 0, &m, err));
}

static enum acl_rc cond_malware(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct conf_text *option = &s->ev->lang->conf->main.av_scanner;
	struct lang_scan_answer answer;
	struct scan_argument arg;
	enum status st;

	(void)item;
	if (argument_parse(s->ev->arena, text, false, &arg, err))
		return RC_ERROR;
	if (word_is_no(arg.word))
		return RC_FAIL;
	s->ev->deps |= DEP_SESSION | DEP_WORLD;
	st = scan_ask(s, option, false, &arg, &answer, err);
	if (!st)
		return malware_test(s, arg.word, &answer, err);
	acl_result_set(s, "av_failed", STR_LIT("1"));
	return scan_failed(s, "malware", arg.defer_ok, st, err);
}

/* Whoever does not run ACLs of messages need not see the option. */
static enum status compile_malware(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	const struct conf *conf = c->lang->conf;

	(void)item;
	return !conf || !(conf->seen_by & V_POLICYD) || conf->main.av_scanner.text.len ? argument_check(c, from->value.text, false, err) :
		err_set(err, ST_ERROR, "the option av_scanner must say which scanner to ask");
}

/* ---- spam ---- */

static struct str spam_bar(struct arena *a, int64_t score_int)
{
	int64_t n = score_int / 10;
	char bar[SPAM_BAR_MAX + 1] = "/";
	size_t len = (size_t)(n < 0 ? -n : n);

	if (len > SPAM_BAR_MAX)
		len = SPAM_BAR_MAX;
	if (n) {
		memset(bar, n < 0 ? '-' : '+', len);
		bar[len] = '\0';
	}
	return str_of(arena_strdup(a, bar));
}

static void spam_variables(struct acl_state *s, const struct lang_scan_answer *answer)
{
	struct arena *a = s->ev->arena;

	acl_result_set(s, "spam_score", str_taint(answer->score));
	acl_result_set(s, "spam_score_int", str_printf(a, "%lld", (long long)answer->score_int));
	acl_result_set(s, "spam_bar", spam_bar(a, answer->score_int));
	acl_result_set(s, "spam_report", str_taint(answer->report));
	acl_result_set(s, "spam_action", str_taint(answer->action));
}

static enum status compile_spam(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	(void)item;
	return argument_check(c, from->value.text, true, err);
}

static enum acl_rc cond_spam(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct conf_text *option = &s->ev->lang->conf->main.spamd_address;
	struct lang_scan_answer answer;
	struct scan_argument arg;
	ptrdiff_t colon;
	bool always;
	enum status st;

	(void)item;
	if (argument_parse(s->ev->arena, text, true, &arg, err))
		return RC_ERROR;
	colon = str_find(arg.word, ':');
	always = colon >= 0 && str_isi(str_from(arg.word, (size_t)colon + 1), "true");
	if (colon >= 0)
		arg.word = str_trim(str_sub(arg.word, 0, (size_t)colon));
	if (word_is_no(arg.word))
		return RC_FAIL;
	s->ev->deps |= DEP_SESSION | DEP_WORLD;
	st = scan_ask(s, option, true, &arg, &answer, err);
	if (st)
		return scan_failed(s, "spam", arg.defer_ok, st, err);
	spam_variables(s, &answer);
	return always || answer.found ? RC_OK : RC_FAIL;
}

enum { STAGES_SCAN = STAGE(ACL_DATA) | STAGE(ACL_DKIM) | STAGE(ACL_PRDR) | STAGE(ACL_NOTSMTP) };

const struct acl_item_row acl_items_content[] = {
	{ "malware", false, SHAPE_TEXT, STAGES_SCAN, 0, cond_malware, compile_malware, false,
		"the scanner of av_scanner has found malware, whose name matches; /defer_ok, /tmo=TIME" },
	{ "spam", false, SHAPE_TEXT, STAGES_SCAN, 0, cond_spam, compile_spam, false,
		"the scanner of spamd_address takes the message for spam, by the profile of the user named; /defer_ok" },
	{ NULL }
};
