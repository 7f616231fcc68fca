/* SPDX-License-Identifier: ISC */
/* dns.c - the resolver's front: configuration, cache, chains of CNAMEs over several questions. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/dns/dns_impl.h"

#include <arpa/inet.h>
#include <pcre2.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/dns/find.h"

enum { PORT_DNS = 53, RETRANS_MS = 3000, RETRIES = 3 };

/* ---- configuration ---- */

static bool address_parse_text(struct str host, unsigned port, struct dns_server *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&out->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->addr;
	char text[INET6_ADDRSTRLEN];

	memset(out, 0, sizeof *out);
	if (!host.len || host.len >= sizeof text || !port || port > 65535)
		return false;
	memcpy(text, host.p, host.len);
	text[host.len] = 0;
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		out->len = sizeof *v4;
		out->trusted = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		return false;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	out->len = sizeof *v6;
	out->trusted = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
	return true;
}

/* ADDR, ADDR#PORT, [ADDR], [ADDR]:PORT, ADDR:PORT and ADDR.PORT (IPv4). */
static bool server_split(struct str item, struct str *host, uint64_t *port)
{
	struct str tail = STR_NULL;
	ptrdiff_t at;
	unsigned dots = 0;

	*port = PORT_DNS;
	if (item.len && item.p[0] == '[') {
		at = str_find(item, ']');
		if (at < 0)
			return false;
		*host = str_sub(item, 1, (size_t)at - 1);
		tail = str_from(item, (size_t)at + 1);
		if (!tail.len)
			return true;
		return (tail.p[0] == ':' || tail.p[0] == '.' || tail.p[0] == '#') && str_u64(str_from(tail, 1), 65535, port);
	}
	*host = item;
	at = str_find(item, '#');
	if (at < 0 && str_find(item, ':') >= 0 && str_find(item, ':') == str_rfind(item, ':'))
		at = str_find(item, ':');
	for (uint32_t i = 0; i < item.len; i++)
		dots += item.p[i] == '.';
	if (at < 0 && dots == 4 && str_find(item, ':') < 0)
		at = str_rfind(item, '.');
	if (at < 0)
		return true;
	*host = str_sub(item, 0, (size_t)at);
	return str_u64(str_from(item, (size_t)at + 1), 65535, port);
}

enum status dns_config_server(struct dns_config *config, struct str item, struct err *err)
{
	struct dns_server server;
	struct str host;
	uint64_t port;

	item = str_trim(item);
	if (!server_split(item, &host, &port) || !address_parse_text(host, (unsigned)port, &server))
		return err_set(err, ST_ERROR, "\"%.*s\" is no address of a name server (as in 192.0.2.1, [192.0.2.1]:5353, 2001:db8::1)", STR_FMT(item));
	if (config->n_servers == DNS_SERVERS_MAX)
		return err_set(err, ST_ERROR, "more than %d name servers", DNS_SERVERS_MAX);
	config->servers[config->n_servers++] = server;
	return ST_OK;
}

static bool word_next(struct str *line, struct str *word)
{
	uint32_t n = 0;

	*line = str_trim(*line);
	while (n < line->len && line->p[n] != ' ' && line->p[n] != '\t')
		n++;
	*word = str_sub(*line, 0, n);
	*line = str_from(*line, n);
	return n > 0;
}

static void resolv_option(struct dns_config *config, struct str word)
{
	uint64_t n;

	if (str_begins(word, "timeout:") && str_u64(str_from(word, 8), 60, &n) && n)
		config->retrans_ms = (uint32_t)n * 1000;
	else if (str_begins(word, "attempts:") && str_u64(str_from(word, 9), 10, &n) && n)
		config->retry = (unsigned)n;
	else if (str_is(word, "trust-ad"))
		config->trust_ad = true;
}

void dns_config_resolv(struct dns_config *config, struct str text)
{
	struct str line, word;

	while (str_split(&text, '\n', &line)) {
		if (!word_next(&line, &word))
			continue;
		if (str_is(word, "nameserver") && word_next(&line, &word))
			dns_config_server(config, word, NULL);
		else if (str_is(word, "options"))
			while (word_next(&line, &word))
				resolv_option(config, word);
		else if (str_is(word, "search") || str_is(word, "domain")) /* the last of them holds */
			config->search = str_trim(line);
	}
	if (!config->n_servers)
		dns_config_server(config, STR_LIT("127.0.0.1"), NULL);
}

static enum status pattern_compile(struct dns *dns, struct err *err)
{
	struct str p = dns->config.check_names;
	PCRE2_SIZE at;
	PCRE2_UCHAR text[128];
	int code;

	if (!p.len)
		return ST_OK;
	dns->pattern = pcre2_compile((PCRE2_SPTR)p.p, p.len, 0, &code, &at, NULL);
	if (dns->pattern)
		return ST_OK;
	pcre2_get_error_message(code, text, sizeof text);
	return err_set(err, ST_ERROR, "dns_check_names_pattern: %s at offset %zu", (const char *)text, (size_t)at);
}

void dns_patience_set(struct dns *dns, uint32_t retrans_ms, unsigned retry)
{
	const struct dns_config *c = &dns->config;

	dns->net.retrans_ms = retrans_ms ? retrans_ms : c->retrans_ms ? c->retrans_ms : RETRANS_MS;
	dns->net.retry = retry ? retry : c->retry ? c->retry : RETRIES;
}

struct dns *dns_new(const struct dns_config *config, struct err *err)
{
	struct dns *dns = mem_new(sizeof *dns);
	struct dns_net *net = &dns->net;

	dns->config = *config;
	dns->config.check_names = str_dup(&dns->own, config->check_names);
	dns_cache_init(&dns->cache, config->cache_max ? config->cache_max : DNS_CACHE_MAX);
	net->n = config->n_servers;
	memcpy(net->servers, config->servers, sizeof net->servers);
	for (unsigned i = 0; i < net->n; i++)
		net->servers[i].trusted |= config->trust_ad;
	dns_patience_set(dns, 0, 0);
	net->timeout_ms = config->timeout_ms ? config->timeout_ms : DNS_QUESTION_MAX_MS;
	net->slow = config->slow;
	net->ctx = config->ctx;
	net->slow_ms = config->slow_ms ? config->slow_ms : DNS_SLOW_MS;
	net->edns = config->edns != 0;
	net->ad = config->dnssec != 0;
	net->packet = mem_new(65536);
	dns->hosts = hosts_file_parse(config->hosts_file);
	dns->config.hosts_file = STR_NULL;
	if (pattern_compile(dns, err) != ST_OK) {
		dns_free(dns);
		return NULL;
	}
	return dns;
}

void dns_free(struct dns *dns)
{
	if (!dns)
		return;
	dns_cache_clear(&dns->cache);
	hosts_file_free(dns->hosts);
	pcre2_code_free(dns->pattern);
	mem_free(dns->net.packet);
	arena_clear(&dns->own);
	mem_free(dns);
}

void dns_cache_drop(struct dns *dns)
{
	uint32_t max = dns->cache.max;

	dns_cache_clear(&dns->cache);
	dns_cache_init(&dns->cache, max);
}

uint64_t dns_query_max_ms(const struct dns *dns)
{
	return (uint64_t)dns->net.timeout_ms * (DNS_CNAMES_MAX + 1);
}

bool dns_deadline_begin(struct dns *dns, uint64_t at_ms)
{
	if (dns->net.deadline)
		return false;
	dns->net.deadline = at_ms;
	dns->net.slow_at = dns_net_slow_at(&dns->net);
	return true;
}

void dns_deadline_end(struct dns *dns, bool begun)
{
	if (!begun)
		return;
	dns->net.deadline = 0;
	if (dns->net.is_slow)
		dns->net.slow(dns->net.ctx, DNS_SLOW_END);
	dns->net.is_slow = false;
}

/* ---- questions ---- */

/* Names of these types hold labels that are no host's ("_25._tcp", "0/25"), so the pattern does not apply. */
static bool type_is_free(unsigned type)
{
	return type == DNS_PTR || type == DNS_TXT || type == DNS_SRV || type == DNS_TLSA || type == DNS_SPF;
}

static bool pattern_matches(const struct dns *dns, struct str name)
{
	pcre2_match_data *m;
	int rc;

	if (!dns->pattern)
		return true;
	m = pcre2_match_data_create_from_pattern(dns->pattern, NULL);
	rc = pcre2_match(dns->pattern, (PCRE2_SPTR)name.p, name.len, 0, 0, m, NULL);
	pcre2_match_data_free(m);
	return rc >= 0;
}

static enum status answer_status(const struct dns_answer *x, unsigned type, struct err *err)
{
	const char *type_name = dns_type_name(type);

	if (x->found == DNS_ROWS)
		return ST_OK;
	if (x->found == DNS_NXDOMAIN)
		return err_set(err, ST_FAIL, "%.*s does not exist", STR_FMT(x->name));
	return err_set(err, ST_FAIL, "%.*s has no %s record", STR_FMT(x->name), type_name ? type_name : "such");
}

/* Follows a chain out of the packet: asks on at its end. */
static enum status chain_ask(struct dns *dns, struct arena *a, struct str name, unsigned type, unsigned flags, struct dns_answer *out, struct err *err)
{
	bool open, secure = true;
	unsigned links = 0;
	uint32_t ttl = DNS_TTL_MAX_S;

	for (;;) {
		enum status st = dns_net_ask(&dns->net, name, type, flags, a, out, &open, err);
		if (st != ST_OK)
			return st;
		if (out->authoritative && !out->secure && dns->config.listed)
			out->secure = dns->config.listed(dns->config.ctx, DNS_LIST_TRUST_AA, name);
		links += out->cnames;
		out->secure = secure = secure && out->secure;
		out->ttl = ttl = out->ttl < ttl ? out->ttl : ttl;
		out->cnames = links;
		if (!open)
			return answer_status(out, type, err);
		if (links > DNS_CNAMES_MAX) {
			out->trouble = DNS_CNAME_LOOP;
			return err_set(err, ST_DEFER, "%.*s: too many CNAMEs", STR_FMT(name));
		}
		name = out->name;
	}
}

static void cache_answer(struct dns *dns, struct str key, enum status st, const struct dns_answer *x, const struct err *err)
{
	uint32_t ttl = x->ttl;
	uint64_t now = clock_ms();

	if (st == ST_DEFER) {
		if (dns->net.gave_up || (dns->net.deadline && dns->net.deadline <= now))
			return; /* it was our own haste */
		ttl = DNS_TTL_TROUBLE_S;
	}
	if (ttl)
		dns_cache_put(&dns->cache, key, now + (uint64_t)ttl * 1000, st, x, err);
}

static enum status cached_ask(struct dns *dns, struct arena *a, struct str name, unsigned type, unsigned flags, struct dns_answer *out, struct err *err)
{
	char room[DNS_NAME_MAX + 8];
	struct str key;
	enum status st;
	size_t n = 0;

	room[n++] = (char)(type >> 8);
	room[n++] = (char)type;
	room[n++] = (char)(flags & (DNS_ANY_NAME | DNS_NO_CNAME));
	memcpy(room + n, name.p, name.len);
	key = str_make(room, n + name.len);
	if (!(flags & DNS_NO_CACHE) && dns_cache_get(&dns->cache, key, clock_ms(), a, &st, out, err))
		return st;
	st = chain_ask(dns, a, name, type, flags, out, err);
	if (!(flags & DNS_NO_CACHE) && st != ST_ERROR)
		cache_answer(dns, key, st, out, err);
	return st;
}

enum status dns_query(struct dns *dns, struct arena *a, struct str name, unsigned type, unsigned flags, struct dns_answer *out, struct err *err)
{
	struct err own = ERR_INIT;
	enum status st;

	if (!err)
		err = &own;
	memset(out, 0, sizeof *out);
	out->name = name;
	if (!dns->net.n)
		return err_set(err, ST_ERROR, "no name server is configured");
	st = dns_name_normal(a, name, false, &name, err);
	if (st == ST_OK && !type_is_free(type) && !(flags & DNS_ANY_NAME) && !pattern_matches(dns, name))
		st = err_set(err, ST_FAIL, "%.*s is no host name (dns_check_names_pattern)", STR_FMT(name));
	if (st != ST_OK) {
		out->found = DNS_BAD_NAME;
		return st;
	}
	out->name = name;
	if (type == DNS_AAAA && dns->config.no_ipv6) {
		out->found = DNS_NODATA;
		return answer_status(out, type, err);
	}
	st = cached_ask(dns, a, name, type, flags, out, err);
	if (st == ST_DEFER && type != DNS_TLSA && !(flags & DNS_SURE) && dns->config.listed &&
		dns->config.listed(dns->config.ctx, DNS_LIST_AGAIN_NONEXIST, name)) {
		out->found = DNS_NXDOMAIN;
		out->trouble = DNS_NO_TROUBLE;
		return err_set(err, ST_FAIL, "%.*s does not exist (dns_again_means_nonexist)", STR_FMT(name));
	}
	return st;
}
