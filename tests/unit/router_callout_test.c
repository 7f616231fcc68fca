/* SPDX-License-Identifier: ISC */
/* What the callout cache decides, how its records are written, and what a verification makes of a server's answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "common/lang/verify_options.h"
#include "router/callout_cache.h"
#include "router/hints.h"
#include "router/router.h"

/* ---- decisions ---- */

enum { NOW = 1000000 };

/* Facts: T taken, R refused, N null sender refused, then the age in seconds; "" nothing. Expiry: domain 100 negative, 1000 positive; address 10, 200. */
static const struct decide_case {
	const char *wish;      /* n null sender, r random, p postmaster */
	const char *calls, *random, *postmaster, *address;
	const char *want;      /* "ask" and what is left to ask, or the status, and the word */
} decides[] = {
	{ "n", "", "", "", "", "ask" },
	{ "nrp", "", "", "", "", "ask r p" },
	{ "n", "T0", "", "", "T0", "ok -" },
	{ "n", "T0", "", "", "T199", "ok -" },
	{ "n", "T0", "", "", "T200", "ask" },
	{ "n", "T0", "", "", "R9", "fail recipient" },
	{ "n", "T0", "", "", "R10", "ask" },
	{ "n", "", "", "", "T5", "ok -" },
	{ "n", "R99", "", "", "T5", "fail mail" },
	{ "n", "R100", "", "", "T5", "ok -" },
	{ "n", "N99", "", "", "", "fail mail" },
	{ "", "N99", "", "", "", "ask" },
	{ "", "R99", "", "", "", "fail mail" },
	{ "n", "T0", "T0", "", "R0", "fail recipient" },
	{ "nr", "T0", "T999", "", "R0", "ok random" },
	{ "nr", "T0", "T1000", "", "R0", "ask r" },
	{ "nr", "T0", "R999", "", "R0", "fail recipient" },
	{ "nr", "T0", "R500", "", "T0", "ok -" },
	{ "nr", "T0", "", "", "T0", "ask r" },
	{ "nr", "R0", "T0", "", "", "fail mail" },
	{ "np", "T0", "", "R99", "T0", "fail postmaster" },
	{ "np", "T0", "", "R100", "T0", "ask p" },
	{ "np", "T0", "", "T999", "T0", "ok -" },
	{ "np", "T0", "", "T999", "", "ask" },
	{ "np", "T0", "", "", "T0", "ask p" },
	{ "np", "T0", "", "", "R0", "fail recipient" },
	{ "n", "T0", "", "R0", "T0", "ok -" },
	{ "nrp", "T0", "T0", "R0", "", "ok random" },
	{ "nrp", "T0", "R0", "R0", "T0", "fail postmaster" },
	{ "n", "T0", "", "", "T-5000", "ask" },  /* from the future */
};

static struct callout_fact fact(const char *s)
{
	static const char letters[] = " TRN";

	if (!*s)
		return (struct callout_fact){ KNOWN_NOTHING, 0 };
	return (struct callout_fact){ (enum callout_known)(strchr(letters, *s) - letters), NOW - atoi(s + 1) };
}

static void test_decide(void **state)
{
	static const struct callout_expire expire = { 100, 1000, 10, 200 };
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < sizeof decides / sizeof *decides; i++) {
		const struct decide_case *c = &decides[i];
		struct callout_wish wish = { strchr(c->wish, 'n') != NULL, strchr(c->wish, 'r') != NULL, strchr(c->wish, 'p') != NULL };
		struct callout_domain domain = { fact(c->calls), fact(c->random), fact(c->postmaster) };
		struct callout_fact address = fact(c->address);
		struct callout_decision d;
		char got[64];

		callout_cache_decide(&wish, &domain, &address, &expire, NOW, &d);
		if (d.decided)
			snprintf(got, sizeof got, "%s %s", d.status == ST_OK ? "ok" : "fail", d.failure ? d.failure : "-");
		else
			snprintf(got, sizeof got, "ask%s%s", d.random ? " r" : "", d.postmaster ? " p" : "");
		if (strcmp(got, c->want)) {
			print_error("%s calls %s random %s postmaster %s address %s: got \"%s\", want \"%s\"\n", c->wish, c->calls, c->random, c->postmaster,
				c->address, got, c->want);
			bad++;
		}
	}
	assert_int_equal(bad, 0);
}

static bool same_fact(const struct callout_fact *a, const struct callout_fact *b)
{
	return a->known == b->known && a->when_s == b->when_s;
}

static void test_records(void **state)
{
	static const char *const broken[] = { "", "1", "2 1 5", "1 9 5", "1 1", "1 1 x", "1 1 5 6", "1 1 -5", "1 1 99999999999999999999" };
	struct callout_domain d = { { KNOWN_NULL_REFUSED, 7 }, { KNOWN_NOTHING, 0 }, { KNOWN_REFUSED, 1795272346 } }, e;
	struct callout_fact f = { KNOWN_TAKEN, 12 }, g;
	struct arena a = ARENA_INIT;

	(void)state;
	callout_domain_parse(callout_domain_format(&a, &d), &e);
	assert_true(same_fact(&d.calls, &e.calls) && same_fact(&d.random, &e.random) && same_fact(&d.postmaster, &e.postmaster));
	callout_fact_parse(callout_fact_format(&a, &f), &g);
	assert_true(same_fact(&f, &g));
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		memset(&e, 1, sizeof e);
		memset(&g, 1, sizeof g);
		callout_fact_parse(str_of(broken[i]), &g);
		callout_domain_parse(str_of(broken[i]), &e);
		assert_int_equal(g.known, KNOWN_NOTHING);
		assert_int_equal(e.calls.known, KNOWN_NOTHING);
	}
	arena_clear(&a);
}

/* ---- options ---- */

static const struct {
	enum verify_kind kind;
	const char *text, *want;   /* an error, or what was understood */
} options[] = {
	{ VERIFY_RECIPIENT, "", "30 30 120" },
	{ VERIFY_RECIPIENT, "callout", "callout 30 30 120" },
	{ VERIFY_RECIPIENT, " defer_ok / callout = 10s , defer_ok ", "defer_ok callout callout_defer_ok 10 10 40" },
	{ VERIFY_RECIPIENT, "callout=5s,connect=1s,maxwait=30s,random,no_cache", "callout random no_cache 5 1 30" },
	{ VERIFY_RECIPIENT, "callout=1m,connect = 2m", "callout 60 120 240" },
	{ VERIFY_RECIPIENT, "callout=use_sender,hold", "callout use_sender 30 30 120" },
	{ VERIFY_RECIPIENT, "callout=use_postmaster", "callout use_postmaster 30 30 120" },
	{ VERIFY_SENDER, "callout=postmaster", "callout postmaster<> 30 30 120" },
	{ VERIFY_SENDER, "callout=fullpostmaster", "callout postmaster<> full 30 30 120" },
	{ VERIFY_SENDER, "callout=postmaster_mailfrom=<a@b>", "callout postmaster<a@b> 30 30 120" },
	{ VERIFY_SENDER, "callout=postmaster_mailfrom=a@b,postmaster", "callout postmaster<> 30 30 120" },
	{ VERIFY_SENDER, "callout=postmaster,postmaster_mailfrom=a@b", "callout postmaster<a@b> 30 30 120" },
	{ VERIFY_SENDER, "callout_defer_ok/check_postmaster", "callout callout_defer_ok postmaster<> 30 30 120" },
	{ VERIFY_SENDER, "success_on_redirect/no_details", "success no_details 30 30 120" },
	{ VERIFY_HEADER, "callout=mailfrom=p@q", "callout from<p@q> 30 30 120" },
	{ VERIFY_SENDER, "callout=mailfrom=p@q", "callout: option \"mailfrom\" is not for this kind of verification" },
	{ VERIFY_SENDER, "callout=use_sender", "callout: option \"use_sender\" is not for this kind of verification" },
	{ VERIFY_RECIPIENT, "quota", "option \"quota\" is known to Exim, not implemented" },
	{ VERIFY_RECIPIENT, "callout=0s", "callout: \"0s\" is no time from a second to a day" },
	{ VERIFY_RECIPIENT, "callout=9z", "callout: \"9z\" is no time from a second to a day" },
	{ VERIFY_RECIPIENT, "callout=5s=3", "callout: \"5s=3\" is no time" },
	{ VERIFY_RECIPIENT, "callout=maxwait", "callout: option \"maxwait\" needs a value" },
	{ VERIFY_RECIPIENT, "callout=random=1", "callout: option \"random\" takes no value" },
	{ VERIFY_RECIPIENT, "callout=postmaster_mailfrom=a b", "callout: postmaster_mailfrom: \"a b\" is no address" },
	{ VERIFY_RECIPIENT, "surely", "unknown option \"surely\"" },
};

static void test_options(void **state)
{
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		struct verify_options o;
		struct err err = ERR_INIT;
		char got[400];

		if (verify_options_parse(str_of(options[i].text), options[i].kind, &o, &err))
			snprintf(got, sizeof got, "%s", err.text);
		else
			snprintf(got, sizeof got, "%s%s%s%s%s%s%s%s%s%s%.*s%s%s%s%.*s%s%u %u %u", o.defer_ok ? "defer_ok " : "", o.success_on_redirect ? "success " : "",
				o.no_details ? "no_details " : "", o.callout ? "callout " : "", o.callout_defer_ok ? "callout_defer_ok " : "", o.random ? "random " : "",
				o.no_cache ? "no_cache " : "", o.use_sender ? "use_sender " : "", o.use_postmaster ? "use_postmaster " : "", o.postmaster ? "postmaster<" : "",
				STR_FMT(o.postmaster_mailfrom), o.postmaster ? "> " : "", o.fullpostmaster ? "full " : "", o.mailfrom.len ? "from<" : "",
				STR_FMT(o.mailfrom), o.mailfrom.len ? "> " : "", o.command_s, o.connect_s, o.maxwait_s);
		if (strcmp(got, options[i].want)) {
			print_error("%s: got \"%s\", want \"%s\"\n", options[i].text, got, options[i].want);
			bad++;
		}
	}
	assert_int_equal(bad, 0);
}

static void test_limit(void **state)
{
	struct verify_options o = { .command_s = 30, .connect_s = 30, .maxwait_s = 120 };

	(void)state;
	assert_int_equal(verify_callout_limit_s(&o), 150);
	o.connect_s = 60;
	assert_int_equal(verify_callout_limit_s(&o), 180);
	o.maxwait_s = 86400;
	assert_int_equal(verify_callout_limit_s(&o), CALLOUT_TIME_MAX_S);
}

/* ---- verifications, with a server's answer put in ---- */

static const char conf_text[] =
	"primary_hostname = here.example\ncallout_random_local_part = nobody\nbegin routers\n"
	"out:\n driver = manualroute\n route_list = * 192.0.2.7\n transport = smtp\n"
	"begin transports\nsmtp:\n driver = smtp\n command_timeout = 7m\n helo_data = me.example\n";

struct world {
	struct ipc_callout_answer answer;   /* what smtp-out says */
	struct ipc_callout_ask ask;         /* what it was asked last */
	struct arena arena;
	unsigned asked;
};

static enum status fake_callout(void *ctx, const struct ipc_callout_ask *ask, struct ipc_callout_answer *out, int timeout_ms, struct err *err)
{
	struct world *w = ctx;

	(void)timeout_ms;
	w->asked++;
	ipc_copy(&ipc_type_callout_ask, ask, &w->ask, &w->arena);
	if (w->answer.status == ST_ERROR)
		return err_set(err, ST_DEFER, "too many callouts at once");
	*out = w->answer;
	return ST_OK;
}

#define REPLY(s, st, c, sent_) .status = s, .stage = st, .code = c, .sent = { sent_, sizeof sent_ - 1, true }, .reply = STR_LIT("550 no"), \
	.text = STR_LIT("what happened"), .host = STR_LIT("h.example"), .ip = STR_LIT("192.0.2.7"), .port = 25

static const struct answer_case {
	bool sender;
	const char *options;
	struct ipc_callout_answer answer;
	const char *want;      /* status, failure, text, log */
	const char *again;     /* the second time, from the cache; NULL: it is asked again */
} answers[] = {
	{ false, "callout", { .status = ST_OK, .stage = CALLOUT_RCPT, .recipient = 1, .ip = STR_LIT("192.0.2.7"), .port = 26 }, "0 - | ", "0 - | " },
	{ false, "callout", { REPLY(ST_FAIL, CALLOUT_RCPT, 550, "RCPT"), .recipient = 2 }, "1 recipient Callout verification failed:/550 no|h.example [192.0.2.7] : what happened",
		"1 recipient Previous (cached) callout verification failure| " },
	{ true, "callout", { REPLY(ST_FAIL, CALLOUT_RCPT, 550, "RCPT TO:<u@far.example>"), .recipient = 2 },
		"1 recipient Called:   192.0.2.7/Sent:     RCPT TO:<u@far.example>/Response: 550 no|h.example [192.0.2.7] : what happened",
		"1 recipient Previous (cached) callout verification failure| " },
	{ false, "callout=no_cache", { REPLY(ST_FAIL, CALLOUT_RCPT, 550, "RCPT"), .recipient = 2 },
		"1 recipient Callout verification failed:/550 no|h.example [192.0.2.7] : what happened", NULL },
	{ false, "callout", { REPLY(ST_FAIL, CALLOUT_MAIL, 550, "MAIL") }, "1 mail Callout verification failed:/550 no|h.example [192.0.2.7] : what happened",
		"1 mail (result of an earlier callout reused).| " },
	{ false, "callout", { REPLY(ST_FAIL, CALLOUT_CONNECT, 554, "initial connection") }, "1 mail Callout verification failed:/550 no|h.example [192.0.2.7] : what happened",
		"1 mail (result of an earlier callout reused).| " },
	{ false, "callout=use_postmaster", { REPLY(ST_FAIL, CALLOUT_MAIL, 550, "MAIL") },
		"1 mail Callout verification failed:/550 no|h.example [192.0.2.7] : what happened", NULL },
	{ false, "callout", { .status = ST_FAIL, .stage = CALLOUT_CONNECT, .text = STR_LIT("no UTF-8") }, "1 mail Callout verification failed:/no UTF-8|no UTF-8", NULL },
	{ false, "callout=random", { .status = ST_OK, .stage = CALLOUT_RANDOM, .random = 1 }, "0 random | ", "0 random | " },
	{ false, "callout=postmaster", { REPLY(ST_FAIL, CALLOUT_POSTMASTER, 550, "RCPT"), .recipient = 1, .postmaster = 2 },
		"1 postmaster Callout verification failed:/550 no|h.example [192.0.2.7] : what happened", "1 postmaster (result of earlier verification reused).| " },
	{ false, "callout", { REPLY(ST_DEFER, CALLOUT_RCPT, 450, "RCPT") },
		"2 - Could not complete recipient verify callout|Could not complete recipient verify callout: h.example [192.0.2.7] : what happened", NULL },
	{ true, "callout", { .status = ST_ERROR }, "2 - Could not complete sender verify callout|Could not complete sender verify callout: too many callouts at once", NULL },
};

static void verify_show(struct router *r, struct arena *a, const struct answer_case *c, char *out, size_t room)
{
	static const struct ipc_facts facts = { .sender = STR_LIT("s@from.example"), .has_sender = true };
	struct ipc_facts own = facts;
	struct ipc_verify_ask ask = { .addr = STR_LIT("u@far.example"), .sender = c->sender, .facts = &own, .options = str_of(c->options) };
	struct ipc_verify_answer v;

	router_verify(r, a, &ask, &v);
	assert_true(v.callout);
	snprintf(out, room, "%u %.*s%s %.*s|%.*s%s", (unsigned)v.status, STR_FMT(v.failure), v.failure.len ? "" : "-", STR_FMT(v.text), STR_FMT(v.log_text),
		v.log_text.len ? "" : " ");
	for (char *p = out; *p; p++)
		if (*p == '\n')
			*p = '/';
}

static void router_begin(struct router *r, struct conf **conf, struct world *w, const char *directory)
{
	struct conf_source source = { .path = "test.conf", .text = conf_text, .text_len = sizeof conf_text - 1 };
	static const struct router_files files = { "/dev/null", "/dev/null", "/dev/null", "/dev/null" };
	struct err err = ERR_INIT;

	assert_int_equal(conf_read(&source, conf), ST_OK);
	(*conf)->main.hints_directory.text = str_of(directory);
	if (router_open(r, *conf, NULL, &files, &err))
		fail_msg("%s", err.text);
	r->callout = fake_callout;
	r->callout_ctx = w;
}

static void test_answers(void **state)
{
	unsigned bad = 0;

	(void)state;
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		const struct answer_case *c = &answers[i];
		struct world w = { .answer = c->answer };
		char got[600], directory[] = "/tmp/callout-test-XXXXXX", path[80];
		struct arena a = ARENA_INIT;
		struct conf *conf;
		struct router r;

		assert_non_null(mkdtemp(directory));
		router_begin(&r, &conf, &w, directory);
		verify_show(&r, &a, c, got, sizeof got);
		if (strcmp(got, c->want)) {
			print_error("%zu: got \"%s\"\n  want \"%s\"\n", i, got, c->want);
			bad++;
		}
		verify_show(&r, &a, c, got, sizeof got);
		if (strcmp(got, c->again ? c->again : c->want) || w.asked != (c->again ? 1u : 2u)) {
			print_error("%zu again: asked %u, got \"%s\"\n  want \"%s\"\n", i, w.asked, got, c->again ? c->again : c->want);
			bad++;
		}
		router_close(&r);
		conf_free(conf);
		arena_clear(&a);
		arena_clear(&w.arena);
		snprintf(path, sizeof path, "rm -rf %s", directory);
		assert_int_equal(system(path), 0);
	}
	assert_int_equal(bad, 0);
}

/* What smtp-out is asked: the delivery's plan with the callout's time-outs. */
static void test_question(void **state)
{
	struct world w = { .answer = { .status = ST_OK, .stage = CALLOUT_RCPT } };
	struct ipc_verify_ask ask = { .addr = STR_LIT("U@Far.Example"), .options = STR_LIT("callout=5s,connect=2s,random,fullpostmaster,no_cache") };
	struct ipc_verify_answer v;
	struct arena a = ARENA_INIT;
	struct ipc_plan plan;
	struct err err = ERR_INIT;
	struct conf *conf;
	struct router r;
	unsigned seen = 0;

	(void)state;
	router_begin(&r, &conf, &w, "/nonexistent");
	router_verify(&r, &a, &ask, &v);
	assert_int_equal(w.asked, 1);
	assert_true(str_is(w.ask.addr, "U@Far.Example"));
	assert_true(str_is(w.ask.random, "nobody@far.example"));
	assert_true(str_is(w.ask.postmaster, "postmaster@far.example"));
	assert_true(w.ask.fullpostmaster);
	assert_int_equal(w.ask.sender.len, 0);
	assert_int_equal(w.ask.maxwait_ms, 20000);
	assert_int_equal(w.ask.end_ms, 25000);
	assert_int_equal(ipc_decode(&ipc_type_plan, w.ask.plan, &a, &plan, &err), ST_OK);
	assert_int_equal(plan.n_hosts, 1);
	assert_int_equal(plan.hosts[0].port, 25);
	for (uint32_t i = 0; i < plan.n_options; i++) {
		const struct ipc_pair *o = &plan.options[i];

		if (str_is(o->name, "command_timeout"))
			seen += str_is(o->value, "5s") ? 1 : 100;
		if (str_is(o->name, "connect_timeout"))
			seen += str_is(o->value, "2s") ? 10 : 100;
	}
	assert_int_equal(seen, 11);
	router_close(&r);
	conf_free(conf);
	arena_clear(&a);
	arena_clear(&w.arena);
}

/* What has expired goes as fast as new entries come, however fast that is. */
static void test_cache_stays_bounded(void **state)
{
	char directory[] = "/tmp/callout-test-XXXXXX", text[80];
	struct world w = { .asked = 0 };
	struct arena a = ARENA_INIT;
	struct conf *conf;
	struct router r;

	(void)state;
	assert_non_null(mkdtemp(directory));
	router_begin(&r, &conf, &w, directory);
	r.hints_expire_ms = UINT64_MAX;
	for (int i = 0; i < 400; i++) {
		struct ipc_hint_ask ask = { .op = HINT_PUT, .space = STR_LIT("callout"), .value = STR_LIT("1 1 1"), .expire_s = i < 200 ? 1 : 3600 };
		struct ipc_hint_answer answer;

		if (i == 200)
			usleep(2100000);
		snprintf(text, sizeof text, "a:%d@far.example", i);
		ask.key = str_of(text);
		router_hint(&r, &a, &ask, &answer);
		assert_int_equal(answer.status, ST_OK);
		r.hints_expire_ms = UINT64_MAX;
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(hints_expire(r.hints, clock_wall()), 0);
	router_close(&r);
	conf_free(conf);
	arena_clear(&a);
	snprintf(text, sizeof text, "rm -rf %s", directory);
	assert_int_equal(system(text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decide), cmocka_unit_test(test_records), cmocka_unit_test(test_options), cmocka_unit_test(test_limit),
		cmocka_unit_test(test_answers), cmocka_unit_test(test_question), cmocka_unit_test(test_cache_stays_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
