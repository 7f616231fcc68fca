/* SPDX-License-Identifier: ISC */
/* How fast the expander is, alone: each line of standard input is expanded again and again for a time, compiled once as the
 * daemons have it, then with its compilation.
 *   lang_bench [MILLISECONDS] <lines
 * Prints for each line, with tabs: expansions a second, the same with compilation each time, the line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/conf/read.h"
#include "common/lang/expand.h"

static const char conf_text[] = "primary_hostname = mail.example.test\nqualify_domain = example.test\n"
	"domainlist dl = a.example : *.b.example : !x.c.example : *.c.example\n";

static const struct ipc_facts facts = { .client_ip = STR_LIT("192.0.2.1"), .client_port = 4711, .client_name = STR_LIT("client.example"),
	.helo = STR_LIT("helo.example"), .protocol = STR_LIT("esmtp"), .sender = STR_LIT("sender@from.example"), .has_sender = true };

static bool once(struct lang *lang, struct arena *a, const struct expansion *x, struct str text)
{
	struct expansion *made;
	struct err err = ERR_INIT;
	struct eval ev;
	struct str out;
	enum status st = ST_OK;

	if (!x) {
		st = expansion_compile(lang, a, text, &made, &err);
		x = made;
	}
	eval_init(&ev, lang, a);
	eval_facts(&ev, &facts);
	eval_set(&ev, EV_local_part, str_taint(STR_LIT("user")));
	eval_set(&ev, EV_domain, str_taint(STR_LIT("y.b.example")));
	if (!st)
		st = expand(&ev, x, &out, &err);
	eval_clear(&ev);
	arena_reset(a);
	return !st;
}

/* Expansions a second; x NULL: compiled each time. 0: it fails. */
static double rate(struct lang *lang, const struct expansion *x, struct str text, int64_t ms)
{
	struct arena a = ARENA_INIT;
	uint64_t begin = clock_us(), end = begin + (uint64_t)ms * 1000, now = begin;
	unsigned long n = 0;
	bool good = true;

	while (good && now < end) {
		for (int i = 0; good && i < 100; i++, n++)
			good = once(lang, &a, x, text);
		now = clock_us();
	}
	arena_clear(&a);
	return good ? (double)n * 1e6 / (double)(now - begin) : 0;
}

int main(int argc, char **argv)
{
	struct conf_source source = { .path = "bench", .text = conf_text, .text_len = sizeof conf_text - 1, .isolated = true };
	int64_t ms = argc > 1 ? atoll(argv[1]) : 200;
	struct conf *conf;
	struct lang *lang;
	char line[4096];
	int bad = 0;

	if (conf_read(&source, &conf))
		return 1;
	lang = lang_new(conf, NULL);
	while (fgets(line, sizeof line, stdin)) {
		struct err err = ERR_INIT;
		struct expansion *x;
		struct arena a = ARENA_INIT;
		struct str text;

		line[strcspn(line, "\n")] = '\0';
		text = str_of(line);
		if (expansion_compile(lang, &a, text, &x, &err)) {
			fprintf(stderr, "%s: %s\n", line, err.text);
			bad = 1;
		} else {
			printf("%.0f\t%.0f\t%s\n", rate(lang, x, text, ms), rate(lang, NULL, text, ms), line);
		}
		arena_clear(&a);
	}
	lang_free(lang);
	conf_free(conf);
	return bad;
}
