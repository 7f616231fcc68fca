/* SPDX-License-Identifier: ISC */
/* Values of socks_proxy: what is read, and that it is read again as it is written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/conf/proxies.h"

/* want: "host port tmo login priority weight;" for each, a "!" in front where they are ranked; or the error. */
static const struct {
	const char *text, *want;
} cases[] = {
	{ "", "" },
	{ " : ", "" },
	{ "192.0.2.1", "192.0.2.1 1080 5000 - 1 1;" },
	{ "192.0.2.1 auth=name name=u pass=p port=1081 tmo=3 : 192.0.2.2", "192.0.2.1 1081 3000 u/p 1 1;192.0.2.2 1080 5000 - 1 1;" },
	{ "192.0.2.1   auth=none\tport=1 ", "192.0.2.1 1 5000 - 1 1;" },
	{ "192.0.2.1 name=u pass=p", "192.0.2.1 1080 5000 - 1 1;" },
	{ "192.0.2.1 pri=2 weight=7:192.0.2.2", "!192.0.2.1 1080 5000 - 2 7;192.0.2.2 1080 5000 - 1 1;" },
	{ "192.0.2.1 weight=0", "!192.0.2.1 1080 5000 - 1 0;" },
	{ "2001::db8::::1 port=9", "2001:db8::1 9 5000 - 1 1;" },
	{ "<; 2001:DB8:0::1 ; [::1] port=7", "2001:db8::1 1080 5000 - 1 1;::1 7 5000 - 1 1;" },
	{ "<; <, 192.0.2.1, auth=name, name=a b, pass=x,,y ; proxy.example.org", "192.0.2.1 1080 5000 a b/x,y 1 1;=proxy.example.org 1080 5000 - 1 1;" },
	{ "proxy1 : socks_1.example.org port=65535", "=proxy1 1080 5000 - 1 1;=socks_1.example.org 65535 5000 - 1 1;" },
	{ "192.0.2.1 auth=name name=u pass=a::b", "192.0.2.1 1080 5000 u/a:b 1 1;" },
	{ "192.0.2.1 auth=name name=u pass=a=b", "192.0.2.1 1080 5000 u/a=b 1 1;" },
	{ "192.0.2.300", "proxy 1 of the list: the first word must be an address or a name" },
	{ "192.0.2.1 : 10.1", "proxy 2 of the list: the first word must be an address or a name" },
	{ "port=1080", "proxy 1 of the list: the first word must be an address or a name" },
	{ "192.0.2.1 secret", "proxy 192.0.2.1: what follows the address must have the form name=value" },
	{ "192.0.2.1 =secret", "proxy 192.0.2.1: what follows the address must have the form name=value" },
	{ "192.0.2.1 user=x", "proxy 192.0.2.1: there is no option \"user=\" (there are auth, name, pass, port, tmo, pri and weight)" },
	{ "192.0.2.1 auth=gssapi", "proxy 192.0.2.1: auth=: none or name is wanted" },
	{ "192.0.2.1 port=0", "proxy 192.0.2.1: port=: a number from 1 to 65535 is wanted" },
	{ "192.0.2.1 port=65536", "proxy 192.0.2.1: port=: a number from 1 to 65535 is wanted" },
	{ "192.0.2.1 port=socks", "proxy 192.0.2.1: port=: a number from 1 to 65535 is wanted" },
	{ "192.0.2.1 tmo=0", "proxy 192.0.2.1: tmo=: a number from 1 to 3600 is wanted" },
	{ "192.0.2.1 tmo=5s", "proxy 192.0.2.1: tmo=: a number from 1 to 3600 is wanted" },
	{ "192.0.2.1 pri=-1", "proxy 192.0.2.1: pri=: a number from 0 to 1000000 is wanted" },
	{ "192.0.2.1 weight=1.5", "proxy 192.0.2.1: weight=: a number from 0 to 1000000 is wanted" },
	{ "192.0.2.1 auth=name", "proxy 192.0.2.1: auth=name needs name= and pass=" },
	{ "192.0.2.1 auth=name name=u", "proxy 192.0.2.1: auth=name needs name= and pass=" },
	{ "192.0.2.1 auth=name name=u pass=", "proxy 192.0.2.1: auth=name needs name= and pass=" },
	{ "<; 192.0.2.1 auth=name name=u pass=hid\001den", "proxy 192.0.2.1: pass=: a control character" },
	{ "192.0.2.1 auth=name name=u pass=a:%secret", "proxy 2 of the list: the first word must be an address or a name" },
};

static void text_of(const struct conf_proxies *all, struct buf *b)
{
	if (all->ranked)
		buf_addc(b, '!');
	for (uint32_t i = 0; i < all->n; i++) {
		const struct conf_proxy *p = &all->v[i];

		buf_printf(b, "%s%.*s %u %u ", p->named ? "=" : "", STR_FMT(p->host), p->port, p->tmo_ms);
		if (p->login)
			buf_printf(b, "%.*s/%.*s", STR_FMT(p->user), STR_FMT(p->pass));
		else
			buf_addc(b, '-');
		buf_printf(b, " %u %u;", p->priority, p->weight);
	}
}

static void check(const char *input, struct str text, const char *want, struct arena *a)
{
	struct conf_proxies all;
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;

	if (conf_proxies_parse(text, a, &all, &err))
		buf_adds(&b, err.text);
	else
		text_of(&all, &b);
	if (strcmp(buf_cstr(&b), want))
		print_error("%s\n", input);
	assert_string_equal(buf_cstr(&b), want);
	buf_clear(&b);
	if (err.status)
		assert_int_equal(err.status, ST_ERROR);
}

static void test_values(void **state)
{
	struct arena a = ARENA_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check(cases[i].text, str_of(cases[i].text), cases[i].want, &a);
	arena_clear(&a);
}

static void test_written_again(void **state)
{
	struct arena a = ARENA_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct conf_proxies all;

		if (conf_proxies_parse(str_of(cases[i].text), &a, &all, NULL) == ST_OK)
			check(cases[i].text, conf_proxies_format(&all, &a), cases[i].want, &a);
	}
	arena_clear(&a);
}

static void test_limits(void **state)
{
	struct arena a = ARENA_INIT;
	struct buf b = BUF_INIT;
	struct conf_proxies all;
	struct err err = ERR_INIT;

	(void)state;
	for (unsigned i = 0; i < CONF_PROXIES_MAX; i++)
		buf_printf(&b, "192.0.2.%u:", i);
	assert_int_equal(conf_proxies_parse(buf_str(&b), &a, &all, &err), ST_OK);
	assert_int_equal(all.n, CONF_PROXIES_MAX);
	buf_adds(&b, "192.0.2.99");
	assert_int_equal(conf_proxies_parse(buf_str(&b), &a, &all, &err), ST_ERROR);
	assert_string_equal(err.text, "more than 32 proxies");
	for (unsigned n = CONF_PROXY_LOGIN_MAX; n <= CONF_PROXY_LOGIN_MAX + 1; n++) {
		buf_reset(&b);
		buf_adds(&b, "192.0.2.1 auth=name name=u pass=");
		for (unsigned i = 0; i < n; i++)
			buf_addc(&b, 'x');
		assert_int_equal(conf_proxies_parse(buf_str(&b), &a, &all, &err), n == CONF_PROXY_LOGIN_MAX ? ST_OK : ST_ERROR);
	}
	assert_string_equal(err.text, "proxy 192.0.2.1: pass=: longer than 255 octets");
	buf_clear(&b);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_written_again),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
