/* SPDX-License-Identifier: ISC */
/* check_dane.c - DANE that is wanted, and cannot come about: nothing is secure that is not asked for as such. */
#include "common/conf/read.h"
#include "common/conf/reader.h"

static bool is_all(const struct conf_text *t)
{
	return !t->set || str_is(str_trim(t->text), "*");
}

/* The option by which a transport asks for it in so many words; the default of hosts_try_dane does not. NULL: none. */
static const struct conf_text *wanted(const struct conf_opts_transport_smtp *o, const char **name)
{
	*name = "hosts_require_dane";
	if (str_trim(o->hosts_require_dane.text).len)
		return &o->hosts_require_dane;
	*name = "hosts_try_dane";
	return o->hosts_try_dane.set && str_trim(o->hosts_try_dane.text).len ? &o->hosts_try_dane : NULL;
}

/* An address of a list begins like that: nothing of an address stands in front. */
static bool list_begins(struct str list, struct str address)
{
	for (uint32_t i = 0; i + address.len <= list.len; i++) {
		char before = i ? list.p[i - 1] : ' ';

		if (str_eq(str_sub(list, i, address.len), address) && !ascii_is_alnum(before) && before != '.' && before != ':')
			return true;
	}
	return false;
}

static bool resolver_near(const struct conf_opts_main *m)
{
	struct str list = m->dns_resolvers.text;

	if (!str_trim(list).len || str_trim(m->dns_trust_aa.text).len)
		return true; /* resolv.conf says who is asked; or zones that are trusted as they are */
	return list_begins(list, STR_LIT("127.")) || list_begins(list, STR_LIT("::1"));
}

static void transport_check(struct conf *conf, const struct conf_instance *t, const struct conf_opts_transport_smtp *o)
{
	const char *name;
	const struct conf_text *text = wanted(o, &name);

	if (!text)
		return;
	if (conf->main.dns_dnssec_ok == 0)
		conf_problem_add(conf, CONF_WARNING, text->place, "transport %.*s: option \"%s\": there is no DANE with dns_dnssec_ok = 0, since no answer "
			"is secure", STR_FMT(t->name), name);
	if (!resolver_near(&conf->main))
		conf_problem_add(conf, CONF_WARNING, text->place, "transport %.*s: option \"%s\": none of dns_resolvers is on this machine, and no other is "
			"believed that an answer is secure; run a validating resolver here", STR_FMT(t->name), name);
	if (o->hosts.text.len && !is_all(&o->dnssec_request_domains))
		conf_problem_add(conf, CONF_WARNING, o->dnssec_request_domains.place, "transport %.*s: option \"%s\": there is no DANE for hosts that "
			"dnssec_request_domains does not have", STR_FMT(t->name), name);
	for (uint32_t i = 0; i < conf->of[CONF_ROUTERS].n; i++) {
		const struct conf_instance *r = &conf->of[CONF_ROUTERS].v[i];
		const struct conf_opts_router *g = r->generic;

		if (str_eq(str_trim(g->transport.text), t->name) && !is_all(&g->dnssec_request_domains))
			conf_problem_add(conf, CONF_WARNING, g->dnssec_request_domains.place, "router %.*s: option \"dnssec_request_domains\": transport %.*s wants "
				"DANE (%s), and there is none for domains that are not listed here", STR_FMT(r->name), STR_FMT(t->name), name);
	}
}

void conf_check_dane(struct conf *conf)
{
	for (uint32_t i = 0; i < conf->of[CONF_TRANSPORTS].n; i++) {
		const struct conf_instance *t = &conf->of[CONF_TRANSPORTS].v[i];
		const struct conf_opts_transport_smtp *o = t->driver ? CONF_OWN(t, transport_smtp) : NULL;

		if (o)
			transport_check(conf, t, o);
	}
}
