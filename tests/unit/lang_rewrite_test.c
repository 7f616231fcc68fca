/* SPDX-License-Identifier: ISC */
/* Rewriting rules: addresses, items, whole header fields, a transport's rules. */
#include "common/lang/rewrite.h"
#include "tests/unit/lang_util.h"

static const struct rewrite_case {
	const char *rules;
	enum rewrite_kind kind;
	const char *in, *want;
	const char *log;         /* part of what is logged; NULL: nothing */
} cases[] = {
	{ "*@a.example $1@b.example", REWRITE_ENV_TO, "Joe@A.Example", "Joe@b.example", NULL },
	{ "*@a.example $1@b.example f", REWRITE_ENV_TO, "joe@a.example", "joe@a.example", NULL },
	{ "*@a.example $1@b.example E", REWRITE_ENV_FROM, "joe@a.example", "joe@b.example", NULL },
	{ "*q@*.x.example $1.$2@b.example", REWRITE_FROM, "heart-q@w.x.example", "heart-.w@b.example", NULL },
	{ "a.example ${local_part}x@b.example", REWRITE_TO, "joe@a.example", "joex@b.example", NULL },
	{ "*@a.example <> F", REWRITE_ENV_FROM, "joe@a.example", "", NULL },
	{ "*@a.example <>", REWRITE_ENV_TO, "joe@a.example", "joe@a.example", "unparseable address" },
	{ "*@a.example bare", REWRITE_FROM, "joe@a.example", "joe@a.example", "unqualified address" },
	{ "*@a.example bare Q", REWRITE_FROM, "joe@a.example", "bare@r.example", NULL },
	{ "*@a.example x$1@a.example R", REWRITE_FROM, "j@a.example", "xxxxxxxxxxxj@a.example", "ignored after 10 times" },
	{ "j@a.example *\n*@a.example n@b.example", REWRITE_FROM, "j@a.example", "j@a.example", NULL },
	{ "j@a.example \"${if eq{a}{b}{x}fail}\"\n*@a.example n@b.example", REWRITE_FROM, "j@a.example", "n@b.example", NULL },
	{ "j@a.example \"${if eq{a}{b}{x}fail}\" q\n*@a.example n@b.example", REWRITE_FROM, "j@a.example", "j@a.example", NULL },
	{ "*@a.example n@b.example", REWRITE_FROM, "", "", NULL },
	{ "*@a.example n@b.example", REWRITE_FROM, "joe", "joe", NULL },
};

static struct fake fake;

static struct lang *lang_of(const char *rules, struct conf **conf_out)
{
	static char text[4096];
	struct lang_services services = { .ctx = &fake, .log = fake_log };

	snprintf(text, sizeof text, "primary_hostname = h.example\nqualify_domain = q.example\nqualify_recipient = r.example\nbegin rewrite\n%s\n", rules);
	memset(&fake, 0, sizeof fake);
	*conf_out = test_conf(text);
	return lang_new(*conf_out, &services);
}

static void test_address(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct rewrite_case *c = &cases[i];
		struct arena a = ARENA_INIT;
		struct conf *conf;
		struct lang *lang;
		struct eval ev;
		struct str got;

		lang = lang_of(c->rules, &conf);
		eval_init(&ev, lang, &a);
		got = rewrite_address(&ev, c->kind, str_of(c->in));
		if (!str_is(got, c->want) && (got.len || *c->want))
			fail_msg("%s: %s: got \"%.*s\", want \"%s\"", c->rules, c->in, STR_FMT(got), c->want);
		if (c->log ? !strstr(fake.log, c->log) : fake.log[0] != 0)
			fail_msg("%s: %s: logged \"%s\"", c->rules, c->in, fake.log);
		eval_clear(&ev);
		lang_free(lang);
		conf_free(conf);
		arena_clear(&a);
	}
}

static const struct { const char *field, *want; } fields[] = {
	{ "From: \"A, (x)\" <j@a.example> (note)\r\n", "From: \"A, (x)\" <j@b.example> (note)\r\n" },
	{ "To: G: j@a.example,\r\n k@a.example ;, l@c.example\r\n", "To: G: j@b.example,\r\n k@b.example ;, l@c.example\r\n" },
	{ "Resent-Cc: (c) j@a.example (d)\r\n", "Resent-Cc: (c) j@b.example (d)\r\n" },
	{ "Subject: j@a.example\r\n", NULL },
	{ "From: j@c.example\r\n", NULL },
	{ "From: broken <j@a.example\r\n", NULL },
	{ "From: joe\r\n", "From: joe@q.example\r\n" },
	{ "Cc: joe, x@c.example\r\n", "Cc: joe@r.example, x@c.example\r\n" },
};

static void test_fields(void **state)
{
	struct arena a = ARENA_INIT;
	const struct rewrite *rules;
	struct conf *conf;
	struct lang *lang = lang_of("*@a.example $1@b.example", &conf);
	struct eval ev;

	(void)state;
	assert_int_equal(rewrite_rules(lang, &rules, NULL), ST_OK);
	eval_init(&ev, lang, &a);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		struct str got;
		bool changed = rewrite_header(&ev, rules, str_of(fields[i].field), true, true, &got);

		if (changed != (fields[i].want != NULL) || (changed && !str_is(got, fields[i].want)))
			fail_msg("%s: got \"%.*s\"", fields[i].field, STR_FMT(got));
	}
	eval_clear(&ev);
	lang_free(lang);
	conf_free(conf);
	arena_clear(&a);
}

static void test_transport_rules(void **state)
{
	struct arena a = ARENA_INIT;
	const struct rewrite *rules;
	struct err err = ERR_INIT;
	struct conf *conf;
	struct lang *lang = lang_of("", &conf);

	(void)state;
	assert_int_equal(rewrite_compile(lang, &a, STR_LIT("*@a.example $1@b.example ft : *@c.example x@b.example"), (struct conf_place){ 0 }, &rules, &err), ST_OK);
	assert_int_equal(rewrite_kinds(rules), REWRITE_HEADERS);
	assert_int_equal(rewrite_compile(lang, &a, STR_LIT("*@a.example $1@b.example F"), (struct conf_place){ 0 }, &rules, &err), ST_ERROR);
	lang_free(lang);
	conf_free(conf);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_address), cmocka_unit_test(test_fields), cmocka_unit_test(test_transport_rules) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
