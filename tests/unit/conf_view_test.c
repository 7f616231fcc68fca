/* SPDX-License-Identifier: ISC */
/* Views: every option of every table set, sent to every daemon, and compared; what a daemon may not see is not in its octets. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "common/conf/read.h"
#include "common/conf/view.h"

static unsigned mark; /* a new one for each value, so that it can be found in octets */

/* A value that differs from the default and is right for the row. */
static struct str value_for(const struct conf_option *o, const void *opts, struct arena *a)
{
	struct str text = STR_NULL, word, rest;

	mark++;
	switch (o->kind) {
	case CONF_BOOL:
		return *(const bool *)((const char *)opts + o->offset) ? STR_LIT("false") : STR_LIT("true");
	case CONF_INT:
		return str_printf(a, "%lld", (long long)(o->max ? o->max : 1048577));
	case CONF_OCTAL:
		return STR_LIT("0123");
	case CONF_FIXED:
		return STR_LIT("7.125");
	case CONF_TIME:
		return str_printf(a, "%llds", (long long)(o->max ? o->max : 1048577));
	case CONF_WORD:
		for (rest = str_of(o->words); str_split(&rest, '|', &word);)
			if (!str_ends(word, "*") && !(o->fallback && str_is(word, o->fallback)))
				text = word;
		return text;
	case CONF_TIMES:
		return str_printf(a, "1h:%uh", mark + 2);
	case CONF_XBOOL:
	case CONF_XINT:
	case CONF_XTIME:
	case CONF_XFIXED:
		return str_printf(a, "$mark-%06u", mark);
	case CONF_TEXT:
	case CONF_LIST:
	case CONF_DOMAINS:
	case CONF_HOSTS:
	case CONF_ADDRS:
	case CONF_LOCALS:
	case CONF_KINDS:
		break;
	}
	return str_printf(a, "/mark-%06u", mark);
}

static void table_fill(const struct conf_table *table, void *opts, struct conf_meta *meta, struct arena *a)
{
	for (uint32_t i = 0; i < table->n; i++) {
		const struct conf_option *o = &table->rows[i];
		struct err err = ERR_INIT;
		if (o->offset == CONF_NO_FIELD || !strcmp(o->name, "driver"))
			continue;
		for (unsigned k = 0; k < (o->flags & F_REPEAT ? 2 : 1); k++)
			if (conf_opts_set(table, opts, a, str_of(o->name), value_for(o, opts, a), &err) != ST_OK)
				fail_msg("%s: %s: %s", table->name, o->name, err.text);
		meta[i].set = true;
		meta[i].hide |= i % 3 == 0;
		meta[i].place = (struct conf_place){ 0, i + 1 };
	}
}

static struct conf *conf_full(void)
{
	static const char text[] =
		"domainlist_cache d = dom-mark\nhide hostlist h = host-mark\nlocalpartlist l = a\naddresslist a = b\n"
		"begin acl\nacl1:\n deny ! hosts = acl-mark\n endpass\n set acl_m_x = y\nacl2:\n accept\n"
		"begin retry\nretry-mark rcpt_45x senders=: F,1h,5m; G,2h,1h,1.5\n* quota_3d\n* refused_MX F,1h,1m\n"
		"begin rewrite\nrewrite-mark $1@x EF\n"
		"begin routers\nr1:\n driver = dnslookup\nr2:\n driver = redirect\nr3:\n driver = manualroute\nr4:\n driver = accept\nr5:\n driver = ipliteral\n"
		"begin transports\nt1:\n driver = smtp\nt2:\n driver = lmtp\nt3:\n driver = appendfile\n";
	const struct conf_source source = { .path = "/etc/view-test", .text = text, .text_len = sizeof text - 1 };
	struct conf *conf;

	assert_int_equal(conf_read(&source, &conf), ST_OK);
	conf->generation = 77;
	mark = 0;
	table_fill(&conf_table_main, &conf->main, conf->main_meta, &conf->arena);
	for (unsigned class = 0; class < CONF_CLASSES; class++)
		for (uint32_t i = 0; i < conf->of[class].n; i++) {
			struct conf_instance *in = &conf->of[class].v[i];
			table_fill(conf_class_table((enum conf_class)class), in->generic, in->generic_meta, &conf->arena);
			table_fill(in->driver->table, in->own, in->own_meta, &conf->arena);
		}
	return conf;
}

static bool contains(struct str octets, struct str what)
{
	return what.len && memmem(octets.p, octets.len, what.p, what.len);
}

static void table_compare(const struct conf_table *table, const void *a_opts, const struct conf_meta *a_meta, const void *b_opts,
	const struct conf_meta *b_meta, uint32_t see, struct str octets)
{
	struct arena a = ARENA_INIT;
	void *defaults = mem_new(table->size + 1);

	conf_opts_init(table, defaults);
	for (uint32_t i = 0; i < table->n; i++) {
		const struct conf_option *o = &table->rows[i];
		bool seen = o->see & see || see & (V_MASTER | V_CTL), has_a, has_b;
		struct str x = STR_NULL, y = STR_NULL;
		if (o->offset == CONF_NO_FIELD)
			continue;
		conf_opts_get(o, a_opts, &a, &x);
		if (!seen && o->kind >= CONF_TEXT && x.len > 10 && str_find_str(x, STR_LIT("mark-")) >= 0 && contains(octets, x))
			fail_msg("%s %s: \"%.*s\" is in a view of 0x%x that may not see it", table->name, o->name, STR_FMT(x), see);
		has_a = conf_opts_get(o, seen ? a_opts : defaults, &a, &x);
		has_b = conf_opts_get(o, b_opts, &a, &y);
		if (has_a != has_b || (has_a && !str_eq(x, y)))
			fail_msg("%s %s for 0x%x: got \"%.*s\", want \"%.*s\"", table->name, o->name, see, STR_FMT(y), STR_FMT(x));
		if (b_meta[i].unseen == seen || (seen && (a_meta[i].set != b_meta[i].set || (a_meta[i].set && (a_meta[i].hide != b_meta[i].hide ||
		    (!(o->flags & F_REPEAT) && a_meta[i].place.line != b_meta[i].place.line))))))
			fail_msg("%s %s for 0x%x: its place and marks", table->name, o->name, see);
		if (seen && o->flags & F_REPEAT) {
			const struct conf_texts *p = (const void *)((const char *)a_opts + o->offset), *q = (const void *)((const char *)b_opts + o->offset);
			assert_int_equal(p->n, q->n);
			assert_true(str_eq(p->v[1].text, q->v[1].text));
		}
	}
	arena_clear(&a);
	mem_free(defaults);
}

static void compare(const struct conf *a, const struct conf *b, uint32_t see, struct str octets)
{
	bool lang = see & (V_LANG | V_MASTER | V_CTL), retry = see & (V_QMGR | V_ROUTER | V_MASTER | V_CTL);

	assert_int_equal(b->seen_by, see);
	assert_int_equal(b->generation, 77);
	assert_true(str_eq(a->files[0], b->files[0]));
	table_compare(&conf_table_main, &a->main, a->main_meta, &b->main, b->main_meta, see, octets);
	assert_int_equal(b->n_lists, lang ? a->n_lists : 0);
	assert_int_equal(b->n_acls, lang ? a->n_acls : 0);
	assert_int_equal(b->n_retry, retry ? a->n_retry : 0);
	assert_int_equal(b->n_rewrite, lang ? a->n_rewrite : 0);
	if (!lang && (contains(octets, STR_LIT("host-mark")) || contains(octets, STR_LIT("acl-mark")) || contains(octets, STR_LIT("rewrite-mark"))))
		fail_msg("lists, ACLs or rewriting rules in a view of 0x%x", see);
	if (!retry && contains(octets, STR_LIT("retry-mark")))
		fail_msg("retry rules in a view of 0x%x", see);
	if (lang) {
		const struct conf_list *h = conf_list_find(b, CONF_LIST_HOST, STR_LIT("h"));
		const struct conf_acl *acl = conf_acl_find(b, STR_LIT("acl1"));
		assert_true(h && h->hide && !h->cache && str_is(h->value.text, "host-mark") && h->value.place.line == 2);
		assert_true(conf_list_find(b, CONF_LIST_DOMAIN, STR_LIT("d"))->cache);
		assert_int_equal(acl->n, 1);
		assert_int_equal(acl->statements[0].n, 3);
		assert_true(acl->statements[0].items[0].negated && str_is(acl->statements[0].items[0].value.text, "acl-mark"));
		assert_true(!acl->statements[0].items[1].value.set && str_is(acl->statements[0].items[2].argument, "acl_m_x"));
		assert_true(str_is(b->rewrite[0].flags, "EF"));
	}
	if (retry) {
		assert_int_equal(b->retry[0].n, 2);
		assert_int_equal(b->retry[0].code_max, 459);
		assert_int_equal(b->retry[0].steps[1].factor, 1500);
		assert_true(b->retry[0].senders.set);
		assert_int_equal(b->retry[1].quota_age, 3 * 86400);
		assert_int_equal(b->retry[2].via, 'M');
	}
	for (unsigned class = 0; class < CONF_CLASSES; class++)
		for (uint32_t i = 0; i < b->of[class].n; i++) {
			const struct conf_instance *x = &a->of[class].v[i], *y = &b->of[class].v[i];
			assert_true(str_eq(x->name, y->name) && x->driver == y->driver && x->place.line == y->place.line);
			assert_ptr_equal(conf_instance_find(b, (enum conf_class)class, x->name), y);
			table_compare(conf_class_table((enum conf_class)class), x->generic, x->generic_meta, y->generic, y->generic_meta, see, octets);
			table_compare(x->driver->table, x->own, x->own_meta, y->own, y->own_meta, see, octets);
		}
}

static void test_round_trip(void **state)
{
	struct conf *conf = conf_full();

	(void)state;
	for (unsigned bit = 0; bit < 11; bit++) {
		struct buf octets = BUF_INIT;
		struct conf *view;
		struct err err = ERR_INIT;
		int fd;
		assert_int_equal(conf_view_encode(conf, 1u << bit, &octets, &err), ST_OK);
		assert_int_equal(conf_view_make(conf, 1u << bit, &fd, &err), ST_OK);
		if (conf_view_load(fd, &view, &err) != ST_OK)
			fail_msg("0x%x: %s", 1u << bit, err.text);
		compare(conf, view, 1u << bit, buf_str(&octets));
		if (write(fd, "x", 1) == 1 || !ftruncate(fd, 0))
			fail_msg("a view can be changed");
		close(fd);
		conf_free(view);
		buf_clear(&octets);
	}
	conf_free(conf);
}

static void test_secret(void **state)
{
	static const char text[] = "redis_servers = host/0/s3cret-word\nhints = redis://:s3cret-too@host";
	const struct conf_source source = { .path = "t", .text = text, .text_len = sizeof text - 1 };
	struct conf *conf;

	(void)state;
	assert_int_equal(conf_read(&source, &conf), ST_OK);
	assert_true(conf_main_meta(conf, redis_servers)->hide);
	for (unsigned bit = 0; bit < 8; bit++) {
		struct buf octets = BUF_INIT;
		assert_int_equal(conf_view_encode(conf, 1u << bit, &octets, NULL), ST_OK);
		if (contains(buf_str(&octets), STR_LIT("s3cret")) != (1u << bit == V_ROUTER))
			fail_msg("0x%x", 1u << bit);
		buf_clear(&octets);
	}
	conf_free(conf);
}

/* Every prefix, and every octet changed: refused or accepted, never a fault (run it with sanitizers). */
static void test_damaged(void **state)
{
	struct conf *conf = conf_full(), *view;
	struct buf octets = BUF_INIT;
	unsigned accepted = 0;

	(void)state;
	assert_int_equal(conf_view_encode(conf, V_ROUTER, &octets, NULL), ST_OK);
	for (size_t n = 0; n < octets.len; n += n < 4000 ? 1 : 97) {
		char *copy = mem_memdup(octets.p, n);
		if (conf_view_decode(str_make(copy, n), &view, NULL) == ST_OK)
			fail_msg("%zu octets of %zu were taken", n, octets.len);
		mem_free(copy);
	}
	for (size_t n = 0; n < octets.len; n += n < 4000 ? 1 : 97) {
		octets.p[n] = (char)(octets.p[n] ^ 0x81);
		if (conf_view_decode(buf_str(&octets), &view, NULL) == ST_OK) {
			accepted++;
			conf_free(view);
		}
		octets.p[n] = (char)(octets.p[n] ^ 0x81);
	}
	assert_true(accepted > 0);
	buf_clear(&octets);
	conf_free(conf);
}

static void test_no_view(void **state)
{
	struct conf *view;
	struct err err = ERR_INIT;
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(conf_view_load(fd, &view, &err), ST_ERROR);
	assert_int_equal(conf_view_load(-1, &view, &err), ST_ERROR);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_secret), cmocka_unit_test(test_damaged), cmocka_unit_test(test_no_view),
	};

	return cmocka_run_group_tests_name("conf_view", tests, NULL, NULL);
}
