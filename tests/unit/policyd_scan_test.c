/* SPDX-License-Identifier: ISC */
/* Scanners: what the options name, and what answers mean. */
#include "tests/unit/lang_util.h"

#include "common/lang/scan_server.h"
#include "policyd/scan.h"

static struct arena arena;

/* ---- options. want: "SOCKET|HOST:PORT[-LAST] [pN] [wN] [FROM-UNTIL] [rMS] [tMS] [rspamd]; ..." or the error ---- */

static const struct { bool spam; const char *text, *want; } lists[] = {
	{ false, "clamd:/run/clamd.ctl", "/run/clamd.ctl" },
	{ false, "clamd", "/tmp/clamd" },
	{ false, "clamd:", "/tmp/clamd" },
	{ false, "clamd : 192.0.2.3 1234", "192.0.2.3:1234" },
	{ false, "clamd:192.0.2.3 1234:local", "192.0.2.3:1234" },
	{ false, "clamd:192.0.2.3 1234 retry=10s:av.example 99", "192.0.2.3:1234 r10000; av.example:99" },
	{ false, "<; clamd ; ::1 3310", "::1:3310" },
	{ false, "clamd:::1 3310", "!unknown scanner \"clamd:\": did you mean \"clamd\"?" },
	{ false, "clamd:/a:/b", "!a Unix socket can't be one of several servers" },
	{ false, "clamd:/a:127.0.0.1 1", "!a Unix socket can't be one of several servers" },
	{ false, "clamd:127.0.0.1", "!\"127.0.0.1\": ADDRESS PORT or the path of a socket must stand here" },
	{ false, "clamd:127.0.0.1 0", "!\"127.0.0.1 0\": ADDRESS PORT" },
	{ false, "clamd:127.0.0.1 70000", "!\"127.0.0.1 70000\": ADDRESS PORT" },
	{ false, "clamd:127.0.0.1 1 pri=3", "!unknown option \"pri=3\"; there are retry" },
	{ false, "clamd:127.0.0.1 1 retry=x", "!\"retry=x\": this value can't be" },
	{ false, "clamd:127.0.0.1 1 retry=5m", "!\"retry=5m\": this value can't be" },
	{ false, "sophie:/var/run/sophie", "!scanner \"sophie\" is known to Exim, not implemented: clamd is" },
	{ false, "sock:127.0.0.1 6001:%s:(SPAM|VIRUS):(.*)$", "!scanner \"sock\" is known to Exim, not implemented: clamd is" },
	{ false, "cmdline:/bin/x %s:a:b", "!scanner \"cmdline\" is known to Exim, not implemented: clamd is" },
	{ false, "clamdd:/x", "!unknown scanner \"clamdd\": did you mean \"clamd\"?" },
	{ false, "quux", "!unknown scanner \"quux\": clamd is implemented" },
	{ false, "", "!no scanner is named" },
	{ true, "127.0.0.1 783", "127.0.0.1:783" },
	{ true, "localhost 783-790", "localhost:783-790" },
	{ true, "/run/spamd : 192.0.2.1 783 pri=2 weight=3 time=8.30-17.00.30 retry=2s tmo=1m", "/run/spamd; 192.0.2.1:783 p2 w3 30600-61230 r2000 t60000" },
	{ true, "127.0.0.1 11333 variant=rspamd", "127.0.0.1:11333 rspamd" },
	{ true, "127.0.0.1 783 variant=spamassassin", "127.0.0.1:783" },
	{ true, "127.0.0.1   783  tmo=9s", "127.0.0.1:783 t9000" },
	{ true, "<; <, ::1, 783, pri=2; 127.0.0.1 1", "::1:783 p2; 127.0.0.1:1" },
	{ true, "127.0.0.1 790-783", "!\"127.0.0.1 790-783\"" },
	{ true, "127.0.0.1 783 variant=other", "!\"variant=other\": this value can't be" },
	{ true, "127.0.0.1 783 time=25-26", "!\"time=25-26\"" },
	{ true, "127.0.0.1 783 time=24.1-3", "!\"time=24.1-3\"" },
	{ true, "127.0.0.1 783 time=1.2.3.4-5", "!\"time=1.2.3.4-5\"" },
	{ true, "127.0.0.1 783 weight=0", "!\"weight=0\"" },
	{ true, "127.0.0.1 783 tmo=5m", "!\"tmo=5m\"" },
	{ true, "127.0.0.1 783 shiny", "!unknown option \"shiny\"; there are pri, weight, time, retry, tmo and variant" },
	{ true, " : ", "!no server is named" },
	{ true, "/1:/2:/3:/4:/5:/6:/7:/8:/9:/10:/11:/12:/13:/14:/15:/16:/17:/18:/19:/20:/21:/22:/23:/24:/25:/26:/27:/28:/29:/30:/31:/32:/33", "!more than 32 servers" },
};

static void server_show(struct buf *b, const struct scan_server *s)
{
	if (s->path.len)
		buf_add_str(b, s->path);
	else
		buf_printf(b, "%.*s:%u", STR_FMT(s->host), s->port);
	if (s->port_last != s->port)
		buf_printf(b, "-%u", s->port_last);
	if (s->priority != 1)
		buf_printf(b, " p%u", s->priority);
	if (s->weight != 1)
		buf_printf(b, " w%u", s->weight);
	if (s->from_s || s->until_s != 86400)
		buf_printf(b, " %lld-%lld", (long long)s->from_s, (long long)s->until_s);
	if (s->retry_ms)
		buf_printf(b, " r%llu", (unsigned long long)s->retry_ms);
	if (s->timeout_ms != SCAN_TIMEOUT_MS)
		buf_printf(b, " t%llu", (unsigned long long)s->timeout_ms);
	buf_adds(b, s->rspamd ? " rspamd" : "");
}

static void servers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		struct scan_servers found;
		struct err err = ERR_INIT;
		struct buf b = BUF_INIT;
		enum status st = scan_servers_parse(&arena, str_of(lists[i].text), lists[i].spam, &found, &err);
		bool good;

		for (unsigned k = 0; !st && k < found.n; k++) {
			buf_adds(&b, k ? "; " : "");
			server_show(&b, &found.v[k]);
		}
		if (st)
			buf_printf(&b, "!%s", err.text);
		good = st ? strstr(buf_cstr(&b), lists[i].want) != NULL : !strcmp(buf_cstr(&b), lists[i].want);
		if (!good)
			fail_msg("\"%s\": got %s, want %s", lists[i].text, buf_cstr(&b), lists[i].want);
		buf_clear(&b);
	}
}

/* ---- answers. want: NULL: none ---- */

static const struct { const char *text, *name; bool good; } clamd[] = {
	{ "stream: OK", NULL, true }, { "stream: OK\n", NULL, true }, { "stream:OK", NULL, true }, { ": OK", NULL, true },
	{ "stream: Eicar FOUND", "Eicar", true }, { "stream: a b: c FOUND\r\n", "a b: c", true }, { "/x/y: W FOUND", "W", true },
	{ "stream: FOUND", NULL, false }, { "stream:  FOUND", NULL, false }, { "OK", NULL, false }, { "Eicar FOUND", NULL, false },
	{ "INSTREAM size limit exceeded. ERROR", NULL, false }, { "stream: x ERROR", NULL, false }, { "", NULL, false }, { ":", NULL, false },
	{ "stream: NOT OK", NULL, false }, { "UNKNOWN COMMAND", NULL, false },
};

static void clamd_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof clamd / sizeof *clamd; i++) {
		struct lang_scan_answer a = { 0 };
		struct err err = ERR_INIT;
		enum status st = scan_clamd_read(str_of(clamd[i].text), &a, &err);

		if (st != (clamd[i].good ? ST_OK : ST_DEFER) || a.found != (clamd[i].name != NULL) || (a.found && !str_is(a.name, clamd[i].name)))
			fail_msg("\"%s\": got %d found %d \"%.*s\"", clamd[i].text, st, a.found, STR_FMT(a.name));
	}
}

/* want: "SCORE INT found|less ACTION: REPORT" */
static const struct { bool rspamd; const char *text, *want; } spamd[] = {
	{ false, "SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 15.06 / 5.0\r\n\r\nA\r\nB\n\nC\n\n", "15.1 150 found reject: A\n B\n \n C" },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: False ; -3.46 / 5.0\r\nContent-length: 0\r\n\r\n", "-3.5 -34 less no action: " },
	{ false, "SPAMD/1.5 0 EX_OK\nSpam: True ; 5 / 5\n\nx", "5.0 50 found reject: x" },
	{ false, "SPAMD/1.1 0 EX_OK\r\nspam: True ; .5 / 0.49\r\n\r\n", "0.5 5 found reject: " },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; -0.04 / 5\r\n\r\n", "0.0 0 less no action: " },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 0.9999 / 0.9995\r\n\r\n", "1.0 9 found reject: " },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5", "9.0 90 found reject: " },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5\r\nSpam: True ; 1 / 5\r\n\r\n", "9.0 90 found reject: " },
	{ false, "SPAMD/1.1 0 EX_OK\r\n\r\nSpam: True ; 9 / 5\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True 9 / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.2.3 / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1e3 / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5x\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9999999 / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 0 EX_OK\r\nSpam: True ; inf / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 1 EX_USAGE\r\nSpam: True ; 9 / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1 70 EX_SOFTWARE\r\nSpam: True ; 9 / 5\r\n\r\n", NULL },
	{ false, "SPAMD/1.1", NULL },
	{ false, "RSPAMD/1.3 0 EX_OK\r\nSpam: True ; 9 / 5\r\n\r\n", NULL },
	{ false, "", NULL },
	{ true, "RSPAMD/1.3 0 EX_OK\r\nMetric: default; True; 15.06 / 5.0 / 7.0\r\nAction: reject\r\nSymbol: A(1.00)\r\n\r\n",
		"15.1 150 found reject: Action: reject\n Symbol: A(1.00)" },
	{ true, "RSPAMD/1.3 0 EX_OK\r\nContent-Length: 9\r\n\r\nMetric: default; False; 1.00 / 5.0 / 7.0\r\nSymbol: A\r\nAction: no action\r\n",
		"1.0 10 less no action: Symbol: A\n Action: no action" },
	{ true, "RSPAMD/1.3 0 EX_OK\r\nMetric: default; False; 1.00 / 5.0\r\n", "1.0 10 less : " },
	{ true, "RSPAMD/1.3 0 EX_OK\r\nAction: reject\r\n", NULL },
	{ true, "RSPAMD/1.3 0 EX_OK\r\nMetric: default\r\n", NULL },
	{ true, "RSPAMD/1.3 0 EX_OK", NULL },
	{ true, "SPAMD/1.1 0 EX_OK\r\nMetric: default; False; 1.00 / 5.0\r\n", NULL },
};

static void spamd_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof spamd / sizeof *spamd; i++) {
		struct lang_scan_answer a = { 0 };
		struct err err = ERR_INIT;
		enum status st = scan_spamd_read(&arena, str_of(spamd[i].text), spamd[i].rspamd, &a, &err);
		const char *got = st ? NULL : arena_printf(&arena, "%.*s %lld %s %.*s: %.*s", STR_FMT(a.score), (long long)a.score_int, a.found ? "found" : "less",
			STR_FMT(a.action), STR_FMT(a.report));

		if (st == ST_DEFER && !spamd[i].want && err.text[0])
			continue;
		if (st || !spamd[i].want || strcmp(got, spamd[i].want) != 0)
			fail_msg("\"%s\":\n got %s\nwant %s", spamd[i].text, got ? got : err.text, spamd[i].want ? spamd[i].want : "none");
	}
}

static int teardown(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(servers), cmocka_unit_test(clamd_answers), cmocka_unit_test(spamd_answers) };

	return cmocka_run_group_tests(tests, NULL, teardown);
}
