/* SPDX-License-Identifier: ISC */
/* The reader: what a text gives, and what is said of a text that is wrong, each with its place. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf/read.h"

/* All problems, one a line. */
static void problems_text(const struct conf *conf, struct buf *out)
{
	struct arena a = ARENA_INIT;

	for (uint32_t i = 0; i < conf->n_problems; i++) {
		struct str s = conf_problem_format(conf, &conf->problems[i], &a);
		buf_printf(out, "%.*s\n", STR_FMT(s));
	}
	arena_clear(&a);
}

static struct conf *read_text(const char *text, const struct conf_define *defines, uint32_t n_defines)
{
	const struct conf_source source = { .path = "t", .text = text, .text_len = strlen(text), .defines = defines, .n_defines = n_defines };
	struct conf *conf;

	conf_read(&source, &conf);
	return conf;
}

/* ---- values ---- */

static const struct {
	const char *text, *option, *want; /* want NULL: unset */
} values[] = {
	{ "", "smtp_accept_max", "20" },
	{ "smtp_accept_max = 100", "smtp_accept_max", "100" },
	{ "smtp_accept_max=0x10", "smtp_accept_max", "16" },
	{ "  smtp_accept_max =\t5  ", "smtp_accept_max", "5" },
	{ "message_size_limit = 1G\r\n", "message_size_limit", "1G" },
	{ "queue_only", "queue_only", "true" },
	{ "no_perl_at_start\nperl_at_start = false\nhosts_xclient =\nsmtp_banner = x", "smtp_banner", "x" },
	{ "no_accept_8bitmime", "accept_8bitmime", "false" },
	{ "not_accept_8bitmime", "accept_8bitmime", "false" },
	{ "accept_8bitmime = no", "accept_8bitmime", "false" },
	{ "accept_8bitmime = TRUE", "accept_8bitmime", "true" },
	{ "queue_only_load = 2.5", "queue_only_load", "2.500" },
	{ "", "queue_only_load", NULL },
	{ "auto_thaw = 1w2d", "auto_thaw", "1w2d" },
	{ "hide smtp_banner = secret words", "smtp_banner", "secret words" },
	{ "# comment\n\n  # another\nsmtp_banner = x # no comment", "smtp_banner", "x # no comment" },
	{ "trusted_users = uucp:\\\n   # dropped\n   mail", "trusted_users", "uucp:mail" },
	{ "trusted_users = a : \\  \n\tb", "trusted_users", "a : b" },
	{ "trusted_users = a \\\n\nsmtp_accept_max = 7", "trusted_users", "a" },
	{ "trusted_users = a \\\n\nsmtp_accept_max = 7", "smtp_accept_max", "7" },
	{ "trusted_users = a \\", "trusted_users", "a" },
	{ "smtp_banner = \"a\\tb \\\n   c\"", "smtp_banner", "a\tb c" },
	{ "smtp_banner = \"\"", "smtp_banner", "" },
	{ "smtp_banner =", "smtp_banner", "" },
	{ "smtp_banner = a \"quote\" inside", "smtp_banner", "a \"quote\" inside" },
	{ "daemon_smtp_port = 2525", "daemon_smtp_ports", "2525" },
	{ "primary_hostname = a.example", "qualify_recipient", "a.example" },
	{ "primary_hostname = a.example\nqualify_domain = b.example", "qualify_recipient", "b.example" },
	{ "primary_hostname = a.example\nspool_directory = /s/$primary_hostname/x\nrun_directory = ${spool_directory}/r", "run_directory", "/s/a.example/x/r" },
	{ "primary_hostname = a.example", "dsn_from", "Mail Delivery System <Mailer-Daemon@a.example>" },
	{ "primary_hostname = a.example\ndsn_from = $qualify_domain ${if x}", "dsn_from", "a.example ${if x}" },
	/* macros */
	{ "AA = one\nsmtp_banner = AA AAB xAAx", "smtp_banner", "one oneB xonex" },
	{ "AA = one\nAA == AA two\nsmtp_banner = AA", "smtp_banner", "one two" },
	{ "ABCD_XYZ = long\nABCD = short\nsmtp_banner = ABCD ABCD_XYZ", "smtp_banner", "short long" },
	{ "FIRST = a SECOND\nSECOND = b\nsmtp_banner = FIRST", "smtp_banner", "a b" },
	{ "FIRST = a\nSECOND = b FIRST\nsmtp_banner = SECOND", "smtp_banner", "b a" },
	{ "EMPTY =\nEMPTY\nsmtp_banner = x", "smtp_banner", "x" },
	{ "HASH = #\nHASH smtp_banner = x\nsmtp_banner = y", "smtp_banner", "y" },
	{ "LINES = a \\\n  b\nsmtp_banner = LINES", "smtp_banner", "a b" },
	{ "OPT = spool_directory = /x\n OPT", "spool_directory", "/x" },
	{ "smtp_banner = AA\nAA = late", "smtp_banner", "AA" },
	/* conditions */
	{ "AAA = 1\n.ifdef AAA\nsmtp_banner = yes\n.else\nsmtp_banner = no\n.endif", "smtp_banner", "yes" },
	{ ".ifdef AAA\nsmtp_banner = yes\n.else\nsmtp_banner = no\n.endif of it", "smtp_banner", "no" },
	{ ".ifndef AAA\nsmtp_banner = yes\n.endif", "smtp_banner", "yes" },
	{ "A = 1\n.ifdef AAA\nsmtp_banner = yes\n.endif", "smtp_banner", "yes" },
	{ "B = 1\n.ifdef XX or B\nsmtp_banner = yes\n.endif", "smtp_banner", "yes" },
	{ "B = 1\n.ifdef XX\nsmtp_banner = x\n.elifdef B\nsmtp_banner = b\n.elifdef B\nsmtp_banner = c\n.else\nsmtp_banner = d\n.endif",
		"smtp_banner", "b" },
	{ "B = 1\n.ifdef B\nsmtp_banner = b\n.elifndef XX\nsmtp_banner = x\n.endif", "smtp_banner", "b" },
	{ ".ifdef XX\n.ifdef YY\n.else\nsmtp_banner = inner\n.endif\n.else\nsmtp_banner = outer\n.endif", "smtp_banner", "outer" },
	{ ".ifdef XX\n.ifdef YY\n.elifndef ZZ\nsmtp_banner = inner\n.endif\nnonsense here\n.include /nonexistent\n.endif\nsmtp_banner = z", "smtp_banner", "z" },
	{ ".ifdef _OPT_MAIN_QUEUE_FAST_RAMP\nsmtp_banner = ramp\n.endif", "smtp_banner", "ramp" },
	{ ".ifdef _DRIVER_ROUTER_DNSLOOKUP\nsmtp_banner = dns\n.endif", "smtp_banner", "dns" },
	{ ".ifdef _DRIVER_ROUTER_IPLOOKUP\nsmtp_banner = iplookup\n.else\nsmtp_banner = none\n.endif", "smtp_banner", "none" },
	{ ".ifdef _HAVE_IPV6\nsmtp_banner = six\n.endif", "smtp_banner", "six" },
	{ ".ifdef _HAVE_TLS_RESUME\nsmtp_banner = resume\n.endif", "smtp_banner", "resume" },
	{ ".ifdef _HAVE_DANE\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_I18N\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_OPENSSL\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_PIPE_CONNECT\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_PRDR\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_PROXY\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_SOCKS\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_TCP_FASTOPEN\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_TLS\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_TLS1_3\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_TLS_OCSP\nsmtp_banner = have\n.endif", "smtp_banner", "have" },
	{ ".ifdef _HAVE_GNUTLS\nsmtp_banner = x\n.else\nsmtp_banner = y\n.endif", "smtp_banner", "y" },
	{ "smtp_banner = A_RESUME_DECODE", "smtp_banner", "A_RESUME_DECODE" },
	{ ".ifdef _OPT_TRANSPORT_SMTP_MAX_RCPT\nsmtp_banner = rcpt\n.endif", "smtp_banner", "rcpt" },
	{ ".ifdef _LOG_SUBJECT\nsmtp_banner = log\n.endif", "smtp_banner", "log" },
	{ ".ifdef _OPT_MAIN_NOSUCH\nsmtp_banner = x\n.else\nsmtp_banner = y\n.endif", "smtp_banner", "y" },
};

static void test_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		struct arena a = ARENA_INIT;
		struct conf *conf = read_text(values[i].text, NULL, 0);
		const struct conf_option *o = conf_option_find(&conf_table_main, str_of(values[i].option));
		struct str got = STR_NULL;
		bool is_set = conf_opts_get(o, &conf->main, &a, &got);
		struct buf problems = BUF_INIT;
		problems_text(conf, &problems);
		if (is_set != (values[i].want != NULL) || (is_set && !str_is(got, values[i].want)) ||
		    conf->n_errors)
			fail_msg("case %zu: %s: got \"%.*s\", want \"%s\"\n%s", i, values[i].text, STR_FMT(got), values[i].want ? values[i].want : "(unset)",
				buf_cstr(&problems));
		buf_clear(&problems);
		conf_free(conf);
		arena_clear(&a);
	}
}

/* ---- problems ---- */

static const struct {
	const char *text, *want;
} problems[] = {
	{ "smtp_accept_maks = 5", "t:1: unknown option \"smtp_accept_maks\": did you mean \"smtp_accept_max\"?\n" },
	{ "\n\nxyzzyplugh = 5", "t:3: unknown option \"xyzzyplugh\"\n" },
	{ "smtp_accept_max = many", "t:1: option \"smtp_accept_max\": value \"many\": not an integer: write digits, or 0x and hexadecimal digits, and K, M, G or T behind them\n" },
	{ "smtp_accept_max = -3", "t:1: option \"smtp_accept_max\": value \"-3\": out of range: 0 to 1000000\n" },
	{ "smtp_accept_max", "t:1: option \"smtp_accept_max\": \"=\" and a value must follow the name (integer)\n" },
	{ "no_smtp_accept_max", "t:1: unknown option \"no_smtp_accept_max\": did you mean \"smtp_accept_max\"?\n" },
	{ "no_queue_only = true", "t:1: option \"queue_only\": no value may follow no_ and not_\n" },
	{ "queue_only = maybe", "t:1: option \"queue_only\": value \"maybe\": not a boolean value: write true, yes, false or no\n" },
	{ "queue_only maybe", "t:1: option \"queue_only\": \"=\" and a value must follow the name (boolean)\n" },
	{ "smtp_accept_max = 1\n\nhide smtp_accept_max = 2", "t:3: option \"smtp_accept_max\": set a second time (first at t:1)\n" },
	{ "daemon_smtp_port = 25\ndaemon_smtp_ports = 26",
		"t:1: warning: option \"daemon_smtp_port\": an older name of \"daemon_smtp_ports\"\n"
		"t:2: option \"daemon_smtp_ports\": set a second time (first at t:1)\n" },
	{ "perl_at_start\nacl_smtp_atrn = x", "t:1: option \"perl_at_start\": known to Exim, not implemented in this build\n"
		"t:2: option \"acl_smtp_atrn\": known to Exim, not implemented in this build\n" },
	{ "bi_command = /x", "t:1: option \"bi_command\": known to Exim, not implemented in this build\n" },
	{ "split_spool_directory", "t:1: warning: option \"split_spool_directory\": has no effect here (subdirectories in the spool)\n" },
	{ "auto_thaw = 5", "t:1: option \"auto_thaw\": value \"5\": not a time: write numbers with w, d, h, m or s behind each, like 1h30m\n" },
	{ "hide auto_thaw = 5", "t:1: option \"auto_thaw\": value \"(not displayed)\": not a time: write numbers with w, d, h, m or s behind each, like 1h30m\n" },
	{ "smtp_banner = \"x", "t:1: option \"smtp_banner\": the quote at the start has no quote at the end\n" },
	{ "smtp_banner = \"x\" y", "t:1: option \"smtp_banner\": nothing may follow the quote at the end\n" },
	{ "log_file_path = /x/$tod_log",
		"t:1: option \"log_file_path\": is read at start, when only $primary_hostname, $qualify_domain, $qualify_recipient, $spool_directory, "
		"$config_file and $config_dir are known\n" },
	{ "= 5", "t:1: \"= 5\": an option must stand here: a name of lower-case letters and underscores\n" },
	{ "smtp_banner = a \\\n  b\nnosuchthingatall = 1", "t:3: unknown option \"nosuchthingatall\"\n" },
	{ "domainlist a = b\nhostlist a = c\ndomainlist a = d", "t:3: named list \"a\": defined a second time (first at t:1)\n" },
	{ "domainlist = b",
		"t:1: a named list must be written as NAME = items, its name beginning with a letter and of at most 64 letters, digits and underscores\n" },
	/* macros and conditions */
	{ "AB = 1\nXABY = 2", "t:2: macro \"XABY\" can never be used: its name contains that of the earlier macro \"AB\"\n" },
	{ "AB = 1\nAB = 2", "t:2: macro \"AB\" is defined already: write == to give it another value\n" },
	{ "AB == 1", "t:1: macro \"AB\" is not yet defined: write = for its first value\n" },
	{ ".endif", "t:1: .endif without an .ifdef in the same file\n" },
	{ ".else", "t:1: .else without an .ifdef in the same file\n" },
	{ ".ifdef A\n.else\n.else\n.endif", "t:3: .else after .else\n" },
	{ "\n.ifdef A\n", "t:2: .ifdef without an .endif in the same file\n" },
	{ ".include /nonexistent/file", "t:1: .include: /nonexistent/file: No such file or directory\n" },
	{ ".include_if_exists /nonexistent/file", "" },
	{ ".include", "t:1: .include: the name of a file must follow\n" },
	/* sections */
	{ "begin router", "t:1: begin: unknown section \"router\": did you mean \"routers\"?\n" },
	{ "begin acl\nbegin acl", "t:2: begin acl: a second time (first at t:1)\n" },
	{ "begin local_scan\nx = y", "t:1: begin local_scan: known to Exim, not implemented in this build\n" },
	/* drivers */
	{ "begin routers\na:\n  driver = accept\na:\n  driver = accept", "t:4: router \"a\": defined a second time (first at t:2)\n" },
	{ "begin routers\na:\n  driver = dnslokup", "t:3: router a: unknown router driver \"dnslokup\": did you mean \"dnslookup\"?\n" },
	{ "begin routers\na:\n  driver = iplookup\n  hosts = x", "t:3: router a: driver \"iplookup\": known to Exim, not implemented in this build\n" },
	{ "begin routers\na:\n  domains = x\nb:\n  driver = accept", "t:2: router a: has no usable \"driver = ...\"\n" },
	{ "begin routers\na:\n  mx_domains = x\n  driver = dnslookup",
		"t:3: router a: option \"mx_domains\": \"driver = ...\" must come before it, as it is an option of router driver dnslookup\n" },
	{ "begin routers\na:\n  driver = accept\n  mx_domains = x",
		"t:4: router a: option \"mx_domains\" belongs to router driver dnslookup, not to router driver accept\n" },
	{ "begin routers\na:\n  driver = accept\n  domians = x", "t:4: router a: unknown option \"domians\": did you mean \"domains\"?\n" },
	{ "begin routers\na:\n  driver = accept\n  domains = x\n  domains = y", "t:5: router a: option \"domains\": set a second time (first at t:4)\n" },
	{ "begin routers\na:\n  driver = accept\n  condition = x\n  condition = y\n  set = r_a = b\n  set = r_c = d", "" },
	{ "begin routers\n  driver = accept", "t:2: \"driver = accept\": a router must begin here: its name and a colon\n" },
	{ "begin routers\n9a:\n  driver = accept", "t:2: router name \"9a\": must begin with a letter and have at most 64 octets\n" },
	{ "begin routers\na:\n  driver = accept\nX = y\n  verify_only", "t:5: \"verify_only\": a router must begin here: its name and a colon\n" },
	{ "begin transports\nt:\n  driver = appendfile\n  mode = 0888",
		"t:4: transport t: option \"mode\": value \"0888\": not an octal number: write digits 0 to 7\n" },
	/* ACLs */
	{ "begin acl\na:\n  acept hosts = x", "t:3: ACL a: unknown ACL verb \"acept\": did you mean \"accept\"?\n" },
	{ "begin acl\na:\n  accept\nhosts x", "t:4: ACL a: unknown ACL verb \"hosts\"\n" },
	{ "begin acl\n  accept", "t:2: \"accept\": an ACL must begin here: its name and a colon\n" },
	{ "begin acl\na:\n  accept\na:\n  deny", "t:4: ACL \"a\": defined a second time (first at t:2)\n" },
	{ "begin acl\na:\n  warn set acl_m_x", "t:3: ACL a: \"set\": the name of a variable, \"=\" and its value must follow\n" },
	{ "begin acl\na:\n  deny = x", "t:3: ACL a: \"deny\": a verb has no value: conditions follow it\n" },
	/* retry, rewrite */
	{ "begin retry\n*  *  F,2h,15m; G,16h,1h,1.5; F,4d,6h\n*  rcpt_45x senders=: F,1h,10m\nx quota_7d", "" },
	{ "begin retry\n* timout F,1h,5m", "t:2: retry rule: unknown error name \"timout\": did you mean \"timeout\"?\n" },
	{ "begin retry\n*", "t:2: retry rule: the name of an error or * must follow the pattern\n" },
	{ "begin retry\n* * F,1h", "t:2: retry rule: F: write F,CUTOFF,INTERVAL\n" },
	{ "begin retry\n* * G,1h,5m", "t:2: retry rule: G: write G,CUTOFF,INTERVAL,FACTOR\n" },
	{ "begin retry\n* * G,1h,5m,0.5", "t:2: retry rule: G: the factor must be 1 or more\n" },
	{ "begin retry\n* rcpt_5xx F,1h,5m", "t:2: retry rule: unknown error name \"rcpt_5xx\": did you mean \"rcpt_4xx\"?\n" },
	{ "begin retry\n* * F,2h,5m; F,1h,5m", "t:2: warning: retry rule: a step's cutoff is not later than that of the step before: it is never used\n" },
	{ "begin rewrite\n*@a.example $1@b.example bctfrF\n\\N^x\\N \"a b\" Sq", "" },
	{ "begin rewrite\n*@a $1@b Z", "t:2: rewriting rule: unknown flag \"Z\": there are E F T b c f h r s t S q Q R w\n" },
	{ "begin rewrite\n*@a $1@b S", "t:2: rewriting rule: flag S needs a regular expression as pattern: it begins with ^\n" },
	{ "begin rewrite\n*@a", "t:2: rewriting rule: a replacement must follow the pattern; * for none\n" },
};

static void test_problems(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
		struct conf *conf = read_text(problems[i].text, NULL, 0);
		struct buf got = BUF_INIT;
		problems_text(conf, &got);
		if (strcmp(buf_cstr(&got), problems[i].want))
			fail_msg("case %zu:\n%s\ngot:\n%swant:\n%s", i, problems[i].text, buf_cstr(&got), problems[i].want);
		buf_clear(&got);
		conf_free(conf);
	}
}

static void test_zero_octet(void **state)
{
	static const char text[] = "smtp_banner = a\0b\nsmtp_accept_max = 3\n";
	const struct conf_source source = { .path = "t", .text = text, .text_len = sizeof text - 1 };
	struct conf *conf;

	(void)state;
	assert_int_equal(conf_read(&source, &conf), ST_ERROR);
	assert_int_equal(conf->n_errors, 1);
	assert_int_equal(conf->problems[0].place.line, 1);
	assert_int_equal(conf->main.smtp_accept_max, 3);
	conf_free(conf);
}

static void test_many_problems(void **state)
{
	struct buf text = BUF_INIT;
	struct conf *conf;

	(void)state;
	for (unsigned i = 0; i < CONF_PROBLEMS_MAX + 20; i++)
		buf_adds(&text, "nosuch\n");
	conf = read_text(buf_cstr(&text), NULL, 0);
	assert_int_equal(conf->n_problems, CONF_PROBLEMS_MAX);
	assert_int_equal(conf->n_errors, CONF_PROBLEMS_MAX + 20);
	conf_free(conf);
	buf_clear(&text);
}

static void test_defines(void **state)
{
	static const struct conf_define defines[] = { { "PORT", "2525" }, { "EXTRA", "" } };
	struct conf *conf = read_text("PORT = 25\nPORT == 26\nOTHER = x\ndaemon_smtp_ports = PORT\nEXTRA", defines, 2);

	(void)state;
	assert_int_equal(conf->n_errors, 0);
	assert_true(str_is(conf->main.daemon_smtp_ports.text, "2525"));
	conf_free(conf);
}

/* ---- the parts ---- */

static const char whole[] =
	"primary_hostname = mx.a.example\n"
	"domainlist local_domains = a.example : \\\n"
	"                           b.example\n"
	"hide hostlist_cache relays = <; 192.0.2.0/24 ; ::1\n"
	"begin retry\n"
	"\"*@a.example\" timeout_connect_MX senders=\"x@y : z\" F,2h,15m; h,16h,1h,1.5;\n"
	"begin acl\n"
	"LATER = text\n"
	"check:\n"
	"  accept hosts = :\n"
	"  deny   ! verify = sender\n"
	"         message = LATER, \\\n"
	"                   more\n"
	"  warn   set acl_m_x = a = b\n"
	"         endpass\n"
	"second:\n"
	"  require verify = recipient\n"
	"begin transports\n"
	"out:\n"
	"  driver = smtp\n"
	"  hide helo_data = x.example\n"
	"out2:\n"
	"  driver = smtp\n"
	"begin routers\n"
	"r-1:\n"
	"  debug_print = early\n"
	"  driver = dnslookup\n"
	"  headers_add = X-A: 1\n"
	"  headers_add = X-B: 2\n"
	"  mx_domains = +local_domains\n"
	"  transport = out\n"
	"begin rewrite\n"
	"*@a.example  \"$1 @b\"  E f\n";

static void test_parts(void **state)
{
	struct conf *conf = read_text(whole, NULL, 0);
	const struct conf_list *list;
	const struct conf_acl *acl;
	const struct conf_instance *r, *t;
	struct arena a = ARENA_INIT;

	(void)state;
	assert_int_equal(conf->n_problems, 0);
	list = conf_list_find(conf, CONF_LIST_DOMAIN, STR_LIT("local_domains"));
	assert_non_null(list);
	assert_true(str_is(list->value.text, "a.example : b.example"));
	assert_int_equal(list->value.place.line, 2);
	assert_false(list->cache || list->hide);
	list = conf_list_find(conf, CONF_LIST_HOST, STR_LIT("relays"));
	assert_true(list && list->cache && list->hide);
	assert_null(conf_list_find(conf, CONF_LIST_DOMAIN, STR_LIT("relays")));

	acl = conf_acl_find(conf, STR_LIT("check"));
	assert_non_null(acl);
	assert_int_equal(acl->n, 3);
	assert_true(str_is(acl->statements[0].verb, "accept"));
	assert_true(str_is(acl->statements[0].items[0].value.text, ":"));
	assert_int_equal(acl->statements[1].n, 2);
	assert_true(acl->statements[1].items[0].negated);
	assert_true(str_is(acl->statements[1].items[1].value.text, "text, more"));
	assert_int_equal(acl->statements[1].items[1].place.line, 12);
	assert_true(str_is(acl->statements[2].items[0].name, "set"));
	assert_true(str_is(acl->statements[2].items[0].argument, "acl_m_x"));
	assert_true(str_is(acl->statements[2].items[0].value.text, "a = b"));
	assert_true(str_is(acl->statements[2].items[1].name, "endpass"));
	assert_false(acl->statements[2].items[1].value.set);
	assert_int_equal(conf_acl_find(conf, STR_LIT("second"))->n, 1);

	r = conf_instance_find(conf, CONF_ROUTERS, STR_LIT("r-1"));
	assert_non_null(r);
	assert_int_equal(r->place.line, 25);
	assert_true(str_is(CONF_ROUTER(r)->debug_print.text, "early"));
	assert_int_equal(CONF_ROUTER(r)->headers_add.n, 2);
	assert_true(str_is(CONF_ROUTER(r)->headers_add.v[1].text, "X-B: 2"));
	assert_int_equal(CONF_ROUTER(r)->headers_add.v[1].place.line, 29);
	assert_true(str_is(CONF_OWN(r, router_dnslookup)->mx_domains.text, "+local_domains"));
	assert_null(CONF_OWN(r, router_redirect));
	assert_true(CONF_OWN(r, router_dnslookup)->rewrite_headers);
	assert_true(str_is(conf_place_format(conf, CONF_ROUTER(r)->transport.place, &a), "t:31"));
	t = conf_instance_find(conf, CONF_TRANSPORTS, STR_LIT("out2"));
	assert_true(t->own_meta[CONF_INDEX(transport_smtp, helo_data)].hide);
	assert_false(t->own_meta[CONF_INDEX(transport_smtp, helo_data)].set);

	assert_int_equal(conf->n_retry, 1);
	assert_true(str_is(conf->retry[0].pattern.text, "*@a.example"));
	assert_int_equal(conf->retry[0].error, RETRY_TIMEOUT_CONNECT);
	assert_int_equal(conf->retry[0].via, 'M');
	assert_true(str_is(conf->retry[0].senders.text, "x@y : z"));
	assert_int_equal(conf->retry[0].n, 2);
	assert_int_equal(conf->retry[0].steps[1].kind, 'H');
	assert_int_equal(conf->retry[0].steps[1].factor, 1500);
	assert_int_equal(conf->n_rewrite, 1);
	assert_true(str_is(conf->rewrite[0].replacement.text, "$1 @b"));
	assert_true(str_is(conf->rewrite[0].flags, "Ef"));
	arena_clear(&a);
	conf_free(conf);
}

static void test_retry_codes(void **state)
{
	static const struct {
		const char *name;
		enum retry_error error;
		unsigned min, max;
	} cases[] = {
		{ "rcpt_4xx", RETRY_RCPT_4XX, 400, 499 }, { "rcpt_45x", RETRY_RCPT_4XX, 450, 459 }, { "mail_452", RETRY_MAIL_4XX, 452, 452 },
		{ "data_4xx", RETRY_DATA_4XX, 400, 499 }, { "*", RETRY_NONE, 0, 0 }, { "refused", RETRY_REFUSED, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[80];
		struct conf *conf;
		snprintf(text, sizeof text, "begin retry\n* %s F,1h,5m", cases[i].name);
		conf = read_text(text, NULL, 0);
		assert_int_equal(conf->n_retry, 1);
		if (conf->retry[0].error != cases[i].error || conf->retry[0].code_min != cases[i].min || conf->retry[0].code_max != cases[i].max)
			fail_msg("%s: got %d %u-%u", cases[i].name, conf->retry[0].error, conf->retry[0].code_min, conf->retry[0].code_max);
		conf_free(conf);
	}
}

static void test_inline_acl(void **state)
{
	struct conf *conf = conf_new();
	struct arena a = ARENA_INIT;
	struct conf_acl acl;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(conf_acl_parse(conf, &a, STR_LIT("deny\n hosts = 1.2.3.4\n# no\naccept"), (struct conf_place){ 0, 5 }, &acl, &err), ST_OK);
	assert_int_equal(acl.n, 2);
	assert_int_equal(acl.statements[0].n, 1);
	assert_int_equal(conf_acl_parse(conf, &a, STR_LIT("acl_name"), (struct conf_place){ 0, 5 }, &acl, &err), ST_ERROR);
	assert_int_equal(conf_acl_parse(conf, &a, STR_LIT(""), (struct conf_place){ 0, 5 }, &acl, &err), ST_ERROR);
	arena_clear(&a);
	conf_free(conf);
}

/* ---- files ---- */

static char dir[] = "/tmp/conf_read_test.XXXXXX";

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(path, 0644);
}

static struct conf *read_file(const char *name, enum status want)
{
	char path[256];
	struct conf_source source = { .path = path };
	struct conf *conf;
	enum status st;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	st = conf_read(&source, &conf);
	if (st != want) {
		struct buf text = BUF_INIT;
		problems_text(conf, &text);
		fail_msg("%s: %s\n%s", name, status_name(st), buf_cstr(&text));
	}
	return conf;
}

static void test_include(void **state)
{
	struct conf *conf;
	struct buf text = BUF_INIT;
	char want[256];

	(void)state;
	assert_non_null(mkdtemp(dir));
	put("main", "NAME = part\ntrusted_users = a : \\\n  .include NAME\n  : c\n.include \"part2\"\n.include_if_exists none\nsmtp_accept_max = 7\n");
	put("part", "b \\\n");
	put("part2", "# comment\nqueue_only\n.ifdef X\n.endif\n");
	conf = read_file("main", ST_OK);
	assert_true(str_is(conf->main.trusted_users.text, "a : b : c"));
	assert_true(conf->main.queue_only);
	assert_int_equal(conf->main.smtp_accept_max, 7);
	assert_int_equal(conf_main_meta(conf, queue_only)->place.line, 2);
	assert_int_equal(conf_main_meta(conf, queue_only)->place.file, 2);
	assert_int_equal(conf_main_meta(conf, smtp_accept_max)->place.line, 7);
	assert_int_equal(conf_main_meta(conf, smtp_accept_max)->place.file, 0);
	conf_free(conf);

	put("loop", "queue_only = no\n.include loop\n");
	conf = read_file("loop", ST_ERROR);
	problems_text(conf, &text);
	assert_non_null(strstr(buf_cstr(&text), "does a file include itself?"));
	conf_free(conf);

	put("half", ".ifdef X\n");
	put("outer", ".include half\nnosuch = 1\n.endif\n");
	conf = read_file("outer", ST_ERROR);
	buf_reset(&text);
	problems_text(conf, &text);
	snprintf(want, sizeof want, "%s/half:1: .ifdef without an .endif in the same file\n%s/outer:2: unknown option \"nosuch\"\n"
		"%s/outer:3: .endif without an .ifdef in the same file\n", dir, dir, dir);
	assert_string_equal(buf_cstr(&text), want);
	conf_free(conf);

	put("open", "queue_only\n");
	snprintf(want, sizeof want, "%s/open", dir);
	chmod(want, 0666);
	conf_free(read_file("open", ST_ERROR));
	conf_free(read_file("missing", ST_ERROR));
	conf_free(read_file(".", ST_ERROR));
	buf_clear(&text);
	snprintf(want, sizeof want, "rm -r %s", dir);
	assert_int_equal(system(want), 0);
}

/* ---- checks ---- */

#define BASE "primary_hostname = m.a.example\nacl_smtp_rcpt = check\nbegin acl\ncheck:\n  deny\nbegin retry\n* * F,1h,5m\n"
static const struct {
	const char *text, *want;
} checks[] = {
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n", "" },
	/* DANE, wanted in so many words */
	{ BASE "begin routers\na:\n  driver = dnslookup\n  transport = out\n  dnssec_request_domains = a.example\nbegin transports\nout:\n  driver = smtp\n", "" },
	{ BASE "begin routers\na:\n  driver = dnslookup\n  transport = out\n  dnssec_request_domains = *\nbegin transports\nout:\n  driver = smtp\n"
		"  hosts_try_dane = *\n  dnssec_request_domains =\n", "" },
	{ BASE "begin routers\na:\n  driver = dnslookup\n  transport = out\n  dnssec_request_domains =\nbegin transports\nout:\n  driver = smtp\n"
		"  hosts_try_dane = *.example\n",
		"t:12: warning: router a: option \"dnssec_request_domains\": transport out wants DANE (hosts_try_dane), and there is none for domains that are "
		"not listed here\n" },
	{ BASE "begin routers\na:\n  driver = dnslookup\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  hosts_try_dane = *\n"
		"  dnssec_request_domains = a.example\n  hosts = b.example\n",
		"t:16: warning: transport out: option \"hosts_try_dane\": there is no DANE for hosts that dnssec_request_domains does not have\n" },
	{ "dns_dnssec_ok = 0\ndns_resolvers = 192.0.2.127\n" BASE "begin routers\na:\n  driver = dnslookup\n  transport = out\nbegin transports\nout:\n"
		"  driver = smtp\n  hosts_try_dane = *\n",
		"t:17: warning: transport out: option \"hosts_try_dane\": there is no DANE with dns_dnssec_ok = 0, since no answer is secure\n"
		"t:17: warning: transport out: option \"hosts_try_dane\": none of dns_resolvers is on this machine, and no other is believed that an answer "
		"is secure; run a validating resolver here\n" },
	{ "dns_resolvers = 192.0.2.1 : [127.0.0.1]:53\n" BASE "begin routers\na:\n  driver = dnslookup\n  transport = out\nbegin transports\nout:\n"
		"  driver = smtp\n  hosts_try_dane = *\n", "" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = ouf\nbegin transports\nout:\n  driver = smtp\n",
		"t:11: router a: option \"transport\": transport \"ouf\" is not defined: did you mean \"out\"?\n"
		"t:13: warning: transport out: no router uses it\n" },
	{ BASE "begin routers\na:\n  driver = accept\n", "t:9: router a: has no transport: it needs \"transport = ...\", or verify_only\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n", "t:9: router a: one of data and file must be set\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\n  file = /x\n", "t:9: router a: only one of data and file must be set\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\n  redirect_router = b\n",
		"t:12: router a: option \"redirect_router\": router \"b\" is not defined\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\n  pass_router = a\n",
		"t:12: router a: option \"pass_router\": router \"a\" must stand below this one\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\n  domains = a : ! +locals : +caseful\n",
		"t:12: router a: option \"domains\": domain list \"+locals\" is not defined\n" },
	{ BASE "begin routers\na:\n  driver = manualroute\n  route_list = * host.example out\nbegin transports\nout:\n  driver = smtp\n", "" },
	{ "domainlist local = a\n" BASE "begin routers\na:\n  driver = redirect\n  data = x\n  domains = +locl\n",
		"t:13: router a: option \"domains\": domain list \"+locl\" is not defined: did you mean \"local\"?\n" },
	{ "primary_hostname = m.a.example\nacl_smtp_rcpt = chekc\nbegin acl\ncheck:\n  deny hosts = +no\nbegin retry\n* * F,1h,5m\nbegin routers\na:\n driver = redirect\n data = x",
		"t:2: option \"acl_smtp_rcpt\": ACL \"chekc\" is not defined: did you mean \"check\"?\n"
		"t:5: ACL check: \"hosts\": host list \"+no\" is not defined\n" },
	{ "primary_hostname = m.a.example\nacl_smtp_rcpt = deny\nbegin routers\na:\n driver = accept\n transport = out\nb:\n driver = redirect\n data = x\n"
		"begin transports\nout:\n driver = smtp\nbegin retry\n* * F,1h,5m",
		"t:7: warning: router b: is never reached: router a, above, has no condition and passes nothing on\n" },
	{ "primary_hostname = m.a.example\nacl_smtp_rcpt = deny\nbegin routers\na:\n driver = redirect\n data = x\n no_more\n unseen\nb:\n driver = redirect\n"
		" data = x\n no_more\n domains = a\nc:\n driver = redirect\n data = x\n no_more\nd:\n driver = redirect\n data = x\nbegin retry\n* * F,1h,5m",
		"t:18: warning: router d: is never reached: router c, above, has no condition and passes nothing on\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\n", "" },
	{ "hosts_proxy = *\n" BASE "begin routers\na:\n  driver = redirect\n  data = x\n",
		"t:1: warning: option \"hosts_proxy\": programs of this machine that connect to 127.0.0.1 or ::1 must send a PROXY header, too, and get 503 without; put ! 127.0.0.0/8 in front, unless the proxy is here\n" },
	{ "hosts_proxy = <; 192.0.2.1 ; ::1\n" BASE "begin routers\na:\n  driver = redirect\n  data = x\n",
		"t:1: warning: option \"hosts_proxy\": programs of this machine that connect to 127.0.0.1 or ::1 must send a PROXY header, too, and get 503 without; put ! 127.0.0.0/8 in front, unless the proxy is here\n" },
	{ "hosts_proxy = ! 127.0.0.0/8 : *\n" BASE "begin routers\na:\n  driver = redirect\n  data = x\n", "" },
	{ "hosts_proxy = 192.0.2.1\n" BASE "begin routers\na:\n  driver = redirect\n  data = x\n", "" },
	{ "primary_hostname = bare\nacl_smtp_rcpt = deny\nlocal_interfaces = 127.0.0.1 : 127.0.0.1.25",
		"warning: there are no routers: nothing can be delivered\n"
		"t:1: warning: the name of this host, \"bare\", has no domain: others may refuse its mail; set primary_hostname\n"
		"t:3: local_interfaces, daemon_smtp_ports: port 25 of 127.0.0.1 is named twice\n" },
	{ "primary_hostname = m.a.example\nacl_smtp_rcpt = deny\nrouter_workers_max = 1\nlog_selector = +subjct\nhints = sqlite\nlocal_sender_retain",
		"warning: there are no routers: nothing can be delivered\n"
		"t:3: option \"router_workers_min\" (2) is more than \"router_workers_max\" (1)\n"
		"t:4: option \"log_selector\": unknown log selector \"subjct\": did you mean \"subject\"?\n"
		"t:5: option \"hints\": write lmdb, or redis://[:PASSWORD@]HOST[:PORT][/DB]\n"
		"t:6: option \"local_sender_retain\": needs no_local_from_check, too\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = appendfile\n  file = /x\n  shadow_transport = sh\n"
		"sh:\n  driver = smtp\n",
		"t:16: transport out: option \"shadow_transport\": transport sh is none that delivers on this machine\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  shadow_transport = sh\n"
		"sh:\n  driver = appendfile\n  file = /x\n", "t:15: transport out: option \"shadow_transport\": only for local transports\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = appendfile\n  directory = /x\n  shadow_transport = sh\n"
		"  maildir_tag = ,S=$message_size,W=${message_size}\n  directory_file = ${lc:A}$inode\nsh:\n  driver = pipe\n  command = /bin/cat\n", "" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  dscp = af21\n  socks_proxy = 192.0.2.1 port=1081\n", "" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  dscp = ${if eq{a}{b}{af99}}\n  socks_proxy = ${if eq{a}{b}{x y}}\n", "" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  dscp = af44\n  socks_proxy = 192.0.2.1 auth=name name=u\n",
		"t:15: transport out: option \"dscp\": \"af44\" is neither a number from 0 to 0x3f nor one of the names af11 to af43, cs0 to cs7, ef, lowcost, "
		"lowdelay, mincost, reliability and throughput\n"
		"t:16: transport out: option \"socks_proxy\": proxy 192.0.2.1: auth=name needs name= and pass=\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\nbegin authenticators\nx:\n  driver = gsasl\n  public_name = SCRAM-SHA-256\n  client_username = u\n  client_password = p\n", "" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\nbegin authenticators\nx:\n  driver = gsasl\n  public_name = DIGEST-MD5\n  client_username = u\n",
		"t:13: authenticator x: driver gsasl has no mechanism DIGEST-MD5 in this build: it has SCRAM-SHA-1 and SCRAM-SHA-256\n"
		"t:13: authenticator x: driver gsasl needs client_username and client_password\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  helo_data = ${if eq{$sending_ip_address}{x}{y}}\n",
		"t:15: transport out: option \"helo_data\": $sending_ip_address is known only when the connection is open: it can stand by itself, but "
		"not within ${...}\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n"
		"  helo_data = ${if def:sending_ip_address {${uc:$sending_ip_address}}{$primary_hostname}}\n",
		"t:15: warning: transport out: option \"helo_data\": def:sending_ip_address is false: it is known only when the connection is open\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  hosts_pipe_connect = *\n"
		"  helo_data = [$sending_ip_address]\n",
		"t:16: warning: transport out: option \"helo_data\": with $sending_ip_address and without interface there is no early pipelining: "
		"hosts_pipe_connect has no effect\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = smtp\n  hosts_pipe_connect = *\n"
		"  helo_data = [$sending_ip_address]\n  interface = 192.0.2.1\n", "" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = out\nbegin transports\nout:\n  driver = appendfile\n  directory = /x\n"
		"  maildir_tag = ,S=${eval:$message_size+1}\n  directory_file = ${lc:$inode}\n",
		"t:16: transport out: option \"maildir_tag\": $message_size is known only when the message has been written: it can stand by itself, "
		"but not within ${...}\n"
		"t:17: transport out: option \"directory_file\": $inode is known only when the message has been written: it can stand by itself, "
		"but not within ${...}\n" },
	{ BASE "begin routers\na:\n  driver = redirect\n  data = x\nbegin authenticators\nx:\n  driver = dovecot\n  public_name = X\n"
		"y:\n  driver = cram_md5\n  public_name = Y\n  client_secret = s\nz:\n  driver = plaintext\n  public_name = Z\n  server_prompts = :\n"
		"w:\n  driver = plaintext\n  public_name = W\n  server_condition = yes\n",
		"t:13: warning: authenticator x: does nothing: to serve clients it needs server_socket\n"
		"t:20: warning: authenticator z: does nothing: to serve clients it needs server_condition, towards servers client_send\n" },
	{ BASE "begin routers\na:\n  driver = accept\n  transport = ${if x {out}}\nbegin transports\nout:\n  driver = appendfile\n  file = /x\n  directory = /y\n",
		"t:15: transport out: only one of file and directory may be set\n" },
};

static void test_checks(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
		struct conf *conf = read_text(checks[i].text, NULL, 0);
		struct buf got = BUF_INIT;
		conf_check(conf, NULL);
		problems_text(conf, &got);
		if (strcmp(buf_cstr(&got), checks[i].want))
			fail_msg("case %zu:\n%s\ngot:\n%swant:\n%s", i, checks[i].text, buf_cstr(&got), checks[i].want);
		buf_clear(&got);
		conf_free(conf);
	}
}

struct seen {
	unsigned values, lists, acls, retry, rewrite;
	bool owner;
};

static void see_value(void *ctx, struct conf *conf, const struct conf_option *o, const char *owner, const struct conf_text *text)
{
	struct seen *s = ctx;

	(void)text;
	s->values++;
	if (!strcmp(owner, "router r-1") && !strcmp(o->name, "mx_domains")) {
		s->owner = true;
		conf_problem_add(conf, CONF_ERROR, text->place, "from above");
	}
}

static void see_list(void *ctx, struct conf *conf, const struct conf_list *list)
{
	(void)conf, (void)list;
	((struct seen *)ctx)->lists++;
}

static void see_acl(void *ctx, struct conf *conf, const struct conf_acl *acl)
{
	(void)conf, (void)acl;
	((struct seen *)ctx)->acls++;
}

static void see_retry(void *ctx, struct conf *conf, const struct conf_retry *rule)
{
	(void)conf, (void)rule;
	((struct seen *)ctx)->retry++;
}

static void see_rewrite(void *ctx, struct conf *conf, const struct conf_rewrite *rule)
{
	(void)conf, (void)rule;
	((struct seen *)ctx)->rewrite++;
}

static void test_checks_above(void **state)
{
	struct conf *conf = read_text(whole, NULL, 0);
	struct seen seen = { 0 };
	const struct conf_checks above = { &seen, see_value, see_list, see_acl, see_retry, see_rewrite };

	(void)state;
	assert_int_equal(conf_check(conf, &above), ST_ERROR);
	assert_int_equal(conf->n_errors, 1);
	assert_true(seen.owner && seen.values > 10);
	assert_int_equal(seen.lists, 2);
	assert_int_equal(seen.acls, 2);
	assert_int_equal(seen.retry, 1);
	assert_int_equal(seen.rewrite, 1);
	conf_free(conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values), cmocka_unit_test(test_problems), cmocka_unit_test(test_zero_octet), cmocka_unit_test(test_many_problems),
		cmocka_unit_test(test_defines), cmocka_unit_test(test_parts), cmocka_unit_test(test_retry_codes), cmocka_unit_test(test_inline_acl),
		cmocka_unit_test(test_include), cmocka_unit_test(test_checks), cmocka_unit_test(test_checks_above),
	};

	return cmocka_run_group_tests_name("conf_read", tests, NULL, NULL);
}
