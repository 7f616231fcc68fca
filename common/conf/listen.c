/* SPDX-License-Identifier: ISC */
#include "common/conf/listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>

enum status conf_port_parse(struct str s, uint16_t *port_out, struct err *err)
{
	static const struct {
		const char *name;
		uint16_t port;
	} known[] = { { "smtp", 25 }, { "smtps", 465 }, { "submissions", 465 }, { "ssmtp", 465 }, { "submission", 587 }, { "lmtp", 24 } };
	struct arena a = ARENA_INIT;
	struct servent *service;
	uint64_t n;

	if (s.len && ascii_is_digit(*s.p)) {
		if (!str_u64(s, 65535, &n) || !n)
			return err_set(err, ST_ERROR, "\"%.*s\": not a port: 1 to 65535", STR_FMT(s));
		*port_out = (uint16_t)n;
		return ST_OK;
	}
	for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
		if (str_is(s, known[i].name)) {
			*port_out = known[i].port;
			return ST_OK;
		}
	service = s.len ? getservbyname(str_cstr(&a, s), "tcp") : NULL;
	arena_clear(&a);
	if (!service)
		return err_set(err, ST_ERROR, "\"%.*s\": neither a port nor a name in /etc/services", STR_FMT(s));
	*port_out = ntohs((uint16_t)service->s_port);
	return ST_OK;
}

static bool address_parse(struct str s, struct arena *a, struct str *ip_out, bool *v6_out)
{
	struct in6_addr addr;
	char text[INET6_ADDRSTRLEN];
	const char *z = str_cstr(a, s);

	if (s.len >= sizeof text)
		return false;
	*v6_out = str_find(s, ':') >= 0;
	if (inet_pton(*v6_out ? AF_INET6 : AF_INET, z, &addr) != 1)
		return false;
	inet_ntop(*v6_out ? AF_INET6 : AF_INET, &addr, text, sizeof text);
	*ip_out = str_of(arena_strdup(a, text));
	return true;
}

enum status conf_endpoint_parse(struct str s, struct arena *a, struct str *ip_out, bool *v6_out, uint16_t *port_out, struct err *err)
{
	struct str ip = s, port = STR_NULL;
	uint64_t n = 0;
	ptrdiff_t at;

	if (s.len && *s.p == '[') {
		at = str_find(s, ']');
		ip = str_sub(s, 1, at > 0 ? (size_t)at - 1 : 0);
		port = at > 0 ? str_from(s, (size_t)at + 1) : STR_NULL;
		if (at < 0 || (port.len && *port.p != ':'))
			ip = STR_NULL;
		port = str_from(port, 1);
	} else if (!address_parse(s, a, ip_out, v6_out)) {
		at = str_rfind(s, '.');
		ip = at > 0 ? str_sub(s, 0, (size_t)at) : STR_NULL;
		port = at > 0 ? str_from(s, (size_t)at + 1) : STR_NULL;
		if (!port.len)
			ip = STR_NULL;
	}
	if (!ip.len || !address_parse(ip, a, ip_out, v6_out) || (port.len && (!str_u64(port, 65535, &n) || !n)))
		return err_set(err, ST_ERROR, "\"%.*s\": write an IP address, or IP.PORT, or [IP]:PORT", STR_FMT(s));
	*port_out = (uint16_t)n;
	return ST_OK;
}

struct ports {
	uint16_t v[64];
	unsigned n;
};

static enum status ports_get(const struct conf_text *text, const char *option, struct arena *a, struct ports *out, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(text->text);
	struct str item;

	out->n = 0;
	while (conf_list_next(&walk, a, &item)) {
		if (out->n == sizeof out->v / sizeof *out->v)
			return err_set(err, ST_ERROR, "option \"%s\": more than %u ports", option, out->n);
		if (conf_port_parse(item, &out->v[out->n++], err) != ST_OK)
			return err_prefix(err, "option \"%s\"", option);
	}
	return ST_OK;
}

static bool ports_have(const struct ports *p, uint16_t port)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->v[i] == port)
			return true;
	return false;
}

static enum status listener_add(struct conf_listener *v, uint32_t *n, struct conf_listener one, struct err *err)
{
	for (uint32_t i = 0; i < *n; i++)
		if (v[i].port == one.port && str_eq(v[i].ip, one.ip))
			return err_set(err, ST_ERROR, "local_interfaces, daemon_smtp_ports: port %u of %.*s is named twice", one.port, STR_FMT(one.ip));
	if (*n == CONF_LISTENERS_MAX)
		return err_set(err, ST_ERROR, "local_interfaces, daemon_smtp_ports: more than %d sockets to listen on", CONF_LISTENERS_MAX);
	v[(*n)++] = one;
	return ST_OK;
}

enum status conf_listeners_get(const struct conf *conf, struct arena *a, struct conf_listener **v_out, uint32_t *n_out, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(conf->main.local_interfaces.text);
	struct conf_listener *v = arena_alloc(a, CONF_LISTENERS_MAX * sizeof *v);
	struct ports ports, tls;
	struct str item;
	uint32_t n = 0;

	if (ports_get(&conf->main.daemon_smtp_ports, "daemon_smtp_ports", a, &ports, err) != ST_OK ||
	    ports_get(&conf->main.tls_on_connect_ports, "tls_on_connect_ports", a, &tls, err) != ST_OK)
		return ST_ERROR;
	while (conf_list_next(&walk, a, &item)) {
		struct conf_listener one = { 0 };
		if (conf_endpoint_parse(item, a, &one.ip, &one.v6, &one.port, err) != ST_OK)
			return err_prefix(err, "option \"local_interfaces\"");
		if (one.v6 && conf->main.disable_ipv6)
			continue;
		if (one.port) {
			one.tls = ports_have(&tls, one.port);
			if (listener_add(v, &n, one, err) != ST_OK)
				return ST_ERROR;
			continue;
		}
		for (unsigned i = 0; i < ports.n; i++) {
			one.port = ports.v[i];
			one.tls = ports_have(&tls, one.port);
			if (listener_add(v, &n, one, err) != ST_OK)
				return ST_ERROR;
		}
	}
	*v_out = v;
	*n_out = n;
	return ST_OK;
}
