/* SPDX-License-Identifier: ISC */
/* lang_util.h - what the tests of the language share: a configuration, and services that answer from tables.
 * Used by:    lang_*_test.c, policyd_test.c. */
#ifndef TESTS_LANG_UTIL_H
#define TESTS_LANG_UTIL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/conf/read.h"
#include "common/lang/expand.h"
#include "common/lang/lang_list.h"
#include "common/lang/lookup.h"

struct fake {
	unsigned lookups, names, hosts, verifies;   /* how often each was asked */
	char log[4096];                             /* lines logged, each with LF */
	char verified[2048];                        /* questions: "R addr options;" */
	char hinted[2048];          /* questions: "op key value unique;" */
};

static inline struct conf *test_conf(const char *text)
{
	struct conf_source source = { .path = "test", .text = text, .text_len = strlen(text) };
	struct conf *conf;

	if (conf_read(&source, &conf)) {
		struct arena a = ARENA_INIT;

		for (uint32_t i = 0; i < conf->n_problems; i++)
			print_error("%.*s\n", STR_FMT(conf_problem_format(conf, &conf->problems[i], &a)));
		arena_clear(&a);
		fail_msg("the test's configuration has errors");
	}
	return conf;
}

/* ---- a table behind a driver: file, key, value ---- */

static const char *const fake_table[][3] = {
	{ "/t/users", "alice", "Alice A." }, { "/t/users", "bob", "" }, { "/t/users", "*", "anybody" }, { "/t/users", "*@x.example", "all of x" },
	{ "/t/domains", "a.example", "data a" }, { "/t/domains", "*.b.example", "data b" }, { "/t/domains", "*", "star" },
	{ "/t/nets", "10.0.0.0/8", "ten" }, { "/t/nets", "192.0.2.1", "one" }, { "/t/nets", "2001:0db8:0000:0000:0000:0000:0000:0001", "colons" },
	{ "/t/nets", "2001.0db8.0000.0000.0000.0000.0000.0001", "dots" },
	{ "/t/names", "client.example", "named" },
	{ "/t/locals", "at.example", "!postmaster : *x : >more" }, { "/t/locals", "more", "zed" }, { "/t/locals", "loop.example", ">loop.example" },
	{ "/t/addresses", "u@x.example", "hit" }, { "/t/addresses", "*@y.example", "hit y" },
	{ "", "get key", "redis value" }, { "", "get a\\ b", "quoted" }, { "", "a=h.example", "192.0.2.7" },
	{ "", "defer_strict,a=1.2.0.192.dnsbl.example", "127.0.0.2\n127.0.0.3" }, { "", "defer_strict,txt=1.2.0.192.dnsbl.example", "listed" },
	{ "", "defer_strict,a=name.example.dnsbl.example", "127.0.0.7" }, { "", "defer_strict,a=1.2.0.192.part.example", "127.0.0.9" },
	{ "", "defer_strict,txt=1.2.0.192.part.example", "part" }, { "", "defer_strict,a=9.9.9.9.dnsbl.example", "10.0.0.1" },
};

static inline enum status fake_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	(void)env;
	(void)handle;
	(void)options;
	if (str_is(file, "/t/broken"))
		return err_set(err, ST_DEFER, "the table is broken");
	for (size_t i = 0; i < sizeof fake_table / sizeof *fake_table; i++)
		if (str_is(file, fake_table[i][0]) && str_is(key, fake_table[i][1])) {
			out->value = str_dup(a, str_of(fake_table[i][2]));
			out->ttl_s = 1;
			return ST_OK;
		}
	return ST_FAIL;
}

static inline enum status fake_lookup(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err)
{
	static const struct lookup_driver driver = { .name = "fake", .find = fake_find };
	struct fake *fake = ctx;
	struct lookup_spec spec;
	enum status st;

	fake->lookups++;
	if (str_is(ask->type, LOOKUP_ASK_PACKET)) {
		size_t n = strlen(fake->verified);

		snprintf(fake->verified + n, sizeof fake->verified - n, "sent %.*s:%.*s <%.*s>;", STR_FMT(ask->file), STR_FMT(ask->options), STR_FMT(ask->key));
		return str_is(ask->options, "7") ? err_set(err, ST_FAIL, "Message too long") : ST_OK;
	}
	st = lookup_spec_parse(ask->type, &spec, err);
	return st ? st : lookup_search(&driver, NULL, NULL, &spec, ask->file, ask->key, a, out, err);
}

static inline enum status fake_name(void *ctx, struct arena *a, struct str ip, struct ipc_name_answer *out, struct err *err)
{
	struct fake *fake = ctx;

	fake->names++;
	if (str_is(ip, "192.0.2.9"))
		return err_set(err, ST_DEFER, "no answer for now");
	if (!str_is(ip, "192.0.2.1"))
		return err_set(err, ST_FAIL, "no name");
	out->name = STR_LIT("client.example");
	out->aliases.v = arena_alloc(a, sizeof *out->aliases.v);
	out->aliases.v[0] = STR_LIT("alias.example");
	out->aliases.n = 1;
	return ST_OK;
}

static inline enum status fake_host(void *ctx, struct arena *a, struct str name, const char *type, struct ipc_host_answer *out, struct err *err)
{
	static const struct { const char *name, *type, *host, *ip; unsigned group; } rows[] = {
		{ "client.example", "A", "client.example", "192.0.2.1", 0 }, { "other.example", "A", "other.example", "192.0.2.77", 0 },
		{ "mail.example.test", "A", "mail.example.test", "192.0.2.200", 0 },
		{ "prim.example", "MX", "mail.example.test", "192.0.2.200", 10 }, { "prim.example", "MX", "other.example", "192.0.2.77", 20 },
		{ "sec.example", "MX", "other.example", "192.0.2.77", 10 }, { "sec.example", "MX", "mail.example.test", "192.0.2.200", 20 },
		{ "none.example", "MX", "other.example", "192.0.2.77", 10 },
	};
	struct fake *fake = ctx;

	fake->hosts++;
	if (str_is(name, "defer.example"))
		return err_set(err, ST_DEFER, "no answer for now");
	out->hosts = arena_alloc(a, sizeof *out->hosts * 4);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (str_isi(name, rows[i].name) && !strcmp(type, rows[i].type))
			out->hosts[out->n_hosts++] = (struct ipc_host){ .name = str_of(rows[i].host), .ip = str_of(rows[i].ip), .group = rows[i].group };
	return out->n_hosts ? ST_OK : err_set(err, ST_FAIL, "no such host");
}

static inline enum status fake_verify(void *ctx, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out, struct err *err)
{
	static const struct { const char *begins; enum status status; const char *failure, *text; } callouts[] = {
		{ "nobounce", ST_FAIL, "mail", "Called: x" }, { "nopm", ST_FAIL, "postmaster", "Called: y" }, { "gone", ST_FAIL, "recipient", "Called: z" },
		{ "busy", ST_DEFER, NULL, "Could not complete verify callout" }, { "any", ST_OK, "random", NULL }, { "there", ST_OK, NULL, NULL },
	};
	struct fake *fake = ctx;
	size_t n = strlen(fake->verified);

	(void)a;
	fake->verifies++;
	snprintf(fake->verified + n, sizeof fake->verified - n, "%c %.*s %.*s;", ask->sender ? 'S' : 'R', STR_FMT(ask->addr), STR_FMT(ask->options));
	if (str_begins(ask->addr, "bad")) {
		out->text = STR_LIT("no such user");
		return err_set(err, ST_FAIL, "no such user");
	}
	for (size_t i = 0; i < sizeof callouts / sizeof *callouts; i++)
		if (str_begins(ask->addr, callouts[i].begins)) {
			*out = (struct ipc_verify_answer){ .callout = true, .status = callouts[i].status, .failure = str_of(callouts[i].failure),
				.text = str_of(callouts[i].text), .log_text = str_of(callouts[i].text), .callout_address = STR_LIT("[192.0.2.9]:25") };
			return callouts[i].status ? err_set(err, callouts[i].status, "%s", callouts[i].text) : ST_OK;
		}
	if (str_begins(ask->addr, "wait"))
		return err_set(err, ST_DEFER, "router is thinking");
	out->address_data = STR_LIT("adata");
	return ST_OK;
}

static inline enum status fake_file(void *ctx, struct arena *a, struct str path, struct lang_file *out, struct err *err)
{
	static const char *const files[][2] = {
		{ "/f/list", "# comment\none.example # more\n!two.example\n*.two.example\n\n" }, { "/f/locals", "a#b\nc #d\n" }, { "/f/text", "line 1\nline 2\n" },
		{ "/f/wild", "*.w.example: tail\n\"\\\\N^(\\\\d)x$\\\\N\": digit\n\"${lc:UP}\": expanded\nlsearch;/t/domains nested\n$local_part var\n!known rest\n" },
		{ "/f/nwild", "*tail one\n^\\d+$ two\n$plain three\n" }, { "/f/badwild", "${nosuch} x\n" },
		{ "/f/nets", "10.0.0.0/8\n!192.0.2.1\n192.0.2.0/24\n" }, { "/f/acl", "# an ACL\ndeny message = from \\\n    a file\n" },
	};

	(void)ctx;
	(void)a;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		if (str_is(path, files[i][0])) {
			out->content = str_of(files[i][1]);
			return ST_OK;
		}
	return err_set(err, ST_FAIL, "no such file");
}

static inline enum status fake_stat(void *ctx, struct arena *a, struct str path, struct str *out, struct err *err)
{
	(void)ctx;
	(void)a;
	*out = STR_LIT("mode=0644 smode=-rw-r--r-- size=14");
	return str_begins(path, "/f/") ? ST_OK : err_set(err, ST_FAIL, "no such file");
}

static inline bool fake_local(void *ctx, struct str ip)
{
	(void)ctx;
	return str_is(ip, "192.0.2.200") || str_is(ip, "2001:db8::200") || str_is(ip, "127.0.0.1");
}

static inline void fake_log(void *ctx, unsigned targets, struct str text)
{
	struct fake *fake = ctx;
	size_t n = strlen(fake->log);

	snprintf(fake->log + n, sizeof fake->log - n, "%u %.*s\n", targets, STR_FMT(text));
}

/* Rates are what the count says, over at the limit; of what was seen, "old" has its time in 1970. */
static inline enum status fake_hint(void *ctx, struct arena *a, const struct ipc_hint_ask *ask, struct ipc_hint_answer *out, struct err *err)
{
	struct fake *fake = ctx;
	size_t n = strlen(fake->hinted);

	if (str_ends(ask->key, "broken"))
		return err_set(err, ST_DEFER, "the hints are out of reach");
	snprintf(fake->hinted + n, sizeof fake->hinted - n, "%s %.*s %.*s%s%.*s;", hint_op_name(ask->op), STR_FMT(ask->key),
		STR_FMT(ask->op == HINT_PUT ? STR_LIT("now") : ask->value), ask->unique.len ? " " : "", STR_FMT(ask->unique));
	if (ask->op == HINT_RATE) {
		struct str rest = ask->value;

		str_split(&rest, ' ', &out->value);
		out->value = str_dup(a, out->value);
	}
	if (ask->op == HINT_GET && !str_is(ask->key, "old"))
		return err_set(err, ST_FAIL, "no such key");
	if (ask->op == HINT_GET)
		out->value = STR_LIT("1000");
	return ST_OK;
}

/* Programs: /bin/words tells its words and the time it has, /bin/exits N. */
static inline enum status fake_run(void *ctx, struct arena *a, const struct ipc_program_ask *ask, struct ipc_program_answer *out, struct err *err)
{
	struct str program = ask->argv.v[0], words = STR_NULL;
	uint64_t code = 0;

	(void)ctx;
	if (str_is(program, "/bin/nobody"))
		return err_set(err, ST_DEFER, "nobody answers");
	for (uint32_t i = 0; i < ask->argv.n; i++)
		words = str_printf(a, "%.*s[%.*s]", STR_FMT(words), STR_FMT(ask->argv.v[i]));
	*out = (struct ipc_program_answer){ .output = STR_LIT("said\n"), .too_late = str_is(program, "/bin/late"), .too_much = str_is(program, "/bin/much"),
		.signal = str_is(program, "/bin/killed") ? 9 : 0, .text = str_is(program, "/bin/refused") ? STR_LIT("because") : STR_NULL };
	if (str_is(program, "/bin/exits") && str_u64(ask->argv.v[1], 255, &code))
		out->code = code;
	if (str_is(program, "/bin/words"))
		out->output = str_printf(a, "%.*s%u\n", STR_FMT(words), (unsigned)ask->limit_s);
	out->output = str_taint(out->output); /* as it comes through a channel */
	return ST_OK;
}

static inline struct lang_services fake_services(struct fake *fake)
{
	return (struct lang_services){ fake, fake_lookup, fake_name, fake_host, fake_verify, fake_file, fake_stat, fake_local, fake_log, fake_hint,
		.run = fake_run };
}

#endif
