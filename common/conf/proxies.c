/* SPDX-License-Identifier: ISC */
#include "common/conf/proxies.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/conf/option.h"

enum { PORT_USUAL = 1080, TMO_USUAL = 5, TMO_MAX = 3600, RANK_MAX = 1000000 };

/* ---- words of one proxy ---- */

/* Blanks stand in rows between words; another separator is doubled for itself, as in all lists. */
static bool word_next(struct conf_list_walk *w, struct arena *a, struct str *out)
{
	uint32_t n = 0;

	if (!w->sep && !(w->rest.len > 1 && w->rest.p[0] == '<'))
		w->sep = ' ';
	if (w->sep != ' ')
		return conf_list_next(w, a, out);
	w->rest = str_trim(w->rest);
	while (n < w->rest.len && !ascii_is_space(w->rest.p[n]))
		n++;
	*out = str_sub(w->rest, 0, n);
	w->rest = str_from(w->rest, n);
	return n > 0;
}

static bool host_take(struct str s, struct arena *a, struct conf_proxy *p)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char octets[16];
	uint32_t digits = 0;
	int family = AF_INET;

	if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']')
		s = str_sub(s, 1, s.len - 2);
	if (!s.len || s.len > 255)
		return false;
	if (s.len < sizeof text) {
		memcpy(text, s.p, s.len);
		text[s.len] = '\0';
		if (inet_pton(family, text, octets) == 1 || inet_pton(family = AF_INET6, text, octets) == 1) {
			inet_ntop(family, octets, text, sizeof text);
			p->host = str_dup(a, str_of(text));
			return true;
		}
	}
	for (uint32_t i = 0; i < s.len; i++)
		if (!ascii_is_alnum(s.p[i]) && !strchr("-._", s.p[i]))
			return false;
	/* What ends in a number looks like an address and is none: a mistake, and no name. */
	while (digits < s.len && ascii_is_digit(s.p[s.len - 1 - digits]))
		digits++;
	p->named = digits < s.len && (!digits || s.p[s.len - 1 - digits] != '.');
	p->host = str_dup(a, s);
	return p->named;
}

static enum status number_take(struct str value, uint64_t min, uint64_t max, uint32_t scale, uint32_t *out, struct err *err)
{
	uint64_t n;

	if (!str_u64(value, max, &n) || n < min)
		return err_set(err, ST_ERROR, "a number from %llu to %llu is wanted", (unsigned long long)min, (unsigned long long)max);
	*out = (uint32_t)n * scale;
	return ST_OK;
}

static enum status option_auth(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	(void)all;
	p->login = str_is(value, "name");
	return p->login || str_is(value, "none") ? ST_OK : err_set(err, ST_ERROR, "none or name is wanted");
}

static enum status login_take(struct str value, struct str *out, struct err *err)
{
	*out = value;
	return value.len <= CONF_PROXY_LOGIN_MAX ? ST_OK : err_set(err, ST_ERROR, "longer than %d octets", CONF_PROXY_LOGIN_MAX);
}

static enum status option_name(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	(void)all;
	return login_take(value, &p->user, err);
}

static enum status option_pass(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	(void)all;
	return login_take(value, &p->pass, err);
}

static enum status option_port(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	uint32_t n = 0;
	enum status st = number_take(value, 1, 65535, 1, &n, err);

	(void)all;
	p->port = (uint16_t)n;
	return st;
}

static enum status option_tmo(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	(void)all;
	return number_take(value, 1, TMO_MAX, 1000, &p->tmo_ms, err);
}

static enum status option_pri(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	all->ranked = true;
	return number_take(value, 0, RANK_MAX, 1, &p->priority, err);
}

static enum status option_weight(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err)
{
	all->ranked = true;
	return number_take(value, 0, RANK_MAX, 1, &p->weight, err);
}

static const struct {
	const char *name;
	enum status (*take)(struct conf_proxies *all, struct conf_proxy *p, struct str value, struct err *err);
} options[] = {
	{ "auth", option_auth }, { "name", option_name }, { "pass", option_pass }, { "port", option_port },
	{ "tmo", option_tmo }, { "pri", option_pri }, { "weight", option_weight },
};

/* A word without "=" is not repeated in the error: it may be half of a password. */
static enum status option_take(struct conf_proxies *all, struct conf_proxy *p, struct str word, struct err *err)
{
	ptrdiff_t at = str_find(word, '=');
	struct str name = str_sub(word, 0, at < 0 ? 0 : (size_t)at);

	if (at <= 0)
		return err_set(err, ST_ERROR, "what follows the address must have the form name=value");
	if (str_has_ctl(word))
		return err_set(err, ST_ERROR, "%.*s=: a control character", STR_FMT(name));
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (str_is(name, options[i].name))
			return options[i].take(all, p, str_from(word, (size_t)at + 1), err) ? err_prefix(err, "%s=", options[i].name) : ST_OK;
	return err_set(err, ST_ERROR, "there is no option \"%.*s=\" (there are auth, name, pass, port, tmo, pri and weight)", STR_FMT(name));
}

static enum status proxy_take(struct conf_proxies *all, struct str text, struct arena *a, struct err *err)
{
	struct conf_proxy *p = &all->v[all->n];
	struct conf_list_walk walk = CONF_LIST_WALK(text);
	struct str word = STR_NULL;

	*p = (struct conf_proxy){ .port = PORT_USUAL, .tmo_ms = TMO_USUAL * 1000, .priority = 1, .weight = 1 };
	/* Not repeated, either: where a colon in a password is not doubled, the rest of it stands here. */
	if (!word_next(&walk, a, &word) || !host_take(word, a, p))
		return err_set(err, ST_ERROR, "proxy %u of the list: the first word must be an address or a name", (unsigned)all->n + 1);
	while (word_next(&walk, a, &word))
		if (word.len && option_take(all, p, word, err))
			return err_prefix(err, "proxy %.*s", STR_FMT(p->host));
	if (p->login && (!p->user.len || !p->pass.len))
		return err_set(err, ST_ERROR, "proxy %.*s: auth=name needs name= and pass=", STR_FMT(p->host));
	all->n++;
	return ST_OK;
}

/* ---- all of them ---- */

enum status conf_proxies_parse(struct str text, struct arena *a, struct conf_proxies *out, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(str_trim(text));
	struct str item;

	*out = (struct conf_proxies){ .v = NULL };
	while (conf_list_next(&walk, a, &item)) {
		if (!item.len)
			continue;
		if (!out->v)
			out->v = arena_alloc(a, CONF_PROXIES_MAX * sizeof *out->v);
		if (out->n == CONF_PROXIES_MAX)
			return err_set(err, ST_ERROR, "more than %d proxies", CONF_PROXIES_MAX);
		if (proxy_take(out, item, a, err))
			return ST_ERROR;
	}
	return ST_OK;
}

struct str conf_proxies_format(const struct conf_proxies *proxies, struct arena *a)
{
	struct buf b = BUF_INIT;
	struct str out;

	buf_adds(&b, "<\n");
	for (uint32_t i = 0; i < proxies->n; i++) {
		const struct conf_proxy *p = &proxies->v[i];

		buf_printf(&b, "%s<\t%.*s\tport=%u\ttmo=%u", i ? "\n" : "", STR_FMT(p->host), p->port, p->tmo_ms / 1000);
		if (p->login)
			buf_printf(&b, "\tauth=name\tname=%.*s\tpass=%.*s", STR_FMT(p->user), STR_FMT(p->pass));
		if (proxies->ranked)
			buf_printf(&b, "\tpri=%u\tweight=%u", p->priority, p->weight);
	}
	out = proxies->n ? str_dup(a, buf_str(&b)) : STR_NULL;
	if (b.p)
		explicit_bzero(b.p, b.len);
	buf_clear(&b);
	return out;
}
