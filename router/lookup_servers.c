/* SPDX-License-Identifier: ISC */
#include "router/lookup_servers.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/dns/find.h"
#include "common/lang/lang_list.h"

/* ---- which servers ---- */

/* The item of the list that begins with the name. */
static struct str server_named(struct str all, struct arena *a, struct str name)
{
	struct lang_split split = LANG_SPLIT(all);
	struct str one;

	while (all.len && lang_split_next(&split, a, &one))
		if (one.len > name.len && str_eq(str_sub(one, 0, name.len), name) && strchr(":/([", one.p[name.len]))
			return one;
	return name;
}

enum status servers_of_query(const char *type, struct str all, struct str options, struct arena *a, struct str *query, struct servers *out,
	struct err *err)
{
	struct str own = lookup_option_value(options, "servers"), list, one;
	struct lang_split split;
	ptrdiff_t semicolon;

	if (!own.len && str_begins(*query, "servers=") && (semicolon = str_find(*query, ';')) > 8) {
		own = str_trim(str_sub(*query, 8, (size_t)semicolon - 8));
		*query = str_trim(str_from(*query, (size_t)semicolon + 1));
	}
	list = own.len ? own : all;
	split = LANG_SPLIT(list);
	out->n = 0;
	while (list.len && lang_split_next(&split, a, &one)) {
		if (!one.len)
			continue;
		if (out->n == SERVERS_MAX)
			return err_set(err, ST_ERROR, "%s: more than %d servers", type, SERVERS_MAX);
		out->v[out->n++] = own.len && str_find(one, '/') < 0 ? server_named(all, a, one) : one;
	}
	return out->n ? ST_OK : err_set(err, ST_ERROR, "%s: no servers: %s_servers is not set", type, type);
}

static bool server_part(struct str *rest, bool last, struct str *out)
{
	ptrdiff_t slash = last ? -1 : str_find(*rest, '/');

	if (last) {
		*out = *rest;
		return true;
	}
	if (slash < 0)
		return false;
	*out = str_sub(*rest, 0, (size_t)slash);
	*rest = str_from(*rest, (size_t)slash + 1);
	return true;
}

/* "(...)" or "[...]" at the end of the host's part. */
static struct str bracket_take(struct str *host, char open, char close)
{
	ptrdiff_t at = str_find(*host, open);
	struct str inside;

	if (at < 0 || !host->len || host->p[host->len - 1] != close)
		return STR_NULL;
	inside = str_sub(*host, (size_t)at + 1, host->len - (size_t)at - 2);
	*host = str_sub(*host, 0, (size_t)at);
	return inside;
}

enum status server_parse(const char *type, struct str spec, bool user, struct arena *a, struct server *out, struct err *err)
{
	ptrdiff_t close = str_find(spec, '(') >= 0 ? str_find(spec, ')') : -1, colon;
	struct str host, rest = spec;
	size_t from = close > 0 ? (size_t)close : 0;
	ptrdiff_t slash = str_find(str_from(spec, from), '/');
	uint64_t port = 0;

	*out = (struct server){ 0 };
	host = str_sub(spec, 0, slash < 0 ? spec.len : from + (size_t)slash);
	rest = str_from(spec, slash < 0 ? spec.len : from + (size_t)slash + 1);
	if (slash < 0 || !server_part(&rest, false, &out->database) || (user && !server_part(&rest, false, &out->user)) ||
	    !server_part(&rest, true, &out->password))
		return err_set(err, ST_ERROR, "incomplete %s server data: \"%.*s/...\": %s", type, STR_FMT(str_sub(host, 0, 80)),
			user ? "three slashes are required, as in HOST/DATABASE/USER/PASSWORD"
			     : "two slashes are required, as in 127.0.0.1/10/ (HOST/DATABASE/PASSWORD)");
	out->shown = str_printf(a, "%.*s/%.*s", STR_FMT(host), STR_FMT(out->database));
	out->name = arena_printf(a, "%s %.*s %.*s %016llx", type, STR_FMT(out->shown), STR_FMT(out->user),
		(unsigned long long)hash_bytes(out->password.p ? out->password.p : "", out->password.len));
	if (host.len && host.p[0] != '[')
		out->group = bracket_take(&host, '[', ']');
	out->socket = bracket_take(&host, '(', ')');
	if (host.len && host.p[0] == '[' && (close = str_find(host, ']')) > 0) {
		out->host = str_sub(host, 1, (size_t)close - 1);
		host = str_from(host, (size_t)close + 1);
		colon = host.len && host.p[0] == ':' ? 0 : -1;
	} else {
		colon = str_find(host, ':');
		out->host = colon < 0 ? host : str_sub(host, 0, (size_t)colon);
	}
	if (colon >= 0 && !str_u64(str_from(host, (size_t)colon + 1), 65535, &port))
		return err_set(err, ST_ERROR, "%s server \"%.*s\": the port is no number", type, STR_FMT(str_sub(out->host, 0, 80)));
	out->port = (unsigned)port;
	return ST_OK;
}

enum status server_ips(struct lookup_env *env, const struct server *s, struct arena *a, struct str out[SERVER_IPS_MAX], unsigned *n_out, struct err *err)
{
	static const struct find_options options = { .flags = FIND_KEEP_ORDER };
	struct find_result found;
	enum status st;

	*n_out = 0;
	if (!env->dns || str_isi(s->host, "localhost")) {
		out[(*n_out)++] = str_isi(s->host, "localhost") ? STR_LIT("127.0.0.1") : s->host;
		if (env->dns)
			out[(*n_out)++] = STR_LIT("::1");
		return ST_OK;
	}
	st = find_addresses(env->dns, a, s->host, &options, &found, err);
	if (st)
		return err_set(err, st == ST_ERROR ? ST_ERROR : ST_DEFER, "no address for %.*s", STR_FMT(str_sub(s->host, 0, 80)));
	for (uint32_t i = 0; i < found.n && *n_out < SERVER_IPS_MAX; i++)
		out[(*n_out)++] = found.v[i].ip;
	return ST_OK;
}

/* ---- connections ---- */

struct conn {
	struct list recent;
	char *name;
	void *conn;
	void (*close)(void *conn);
	uint64_t used_ms;
};

struct conns {
	struct list recent;        /* first: the one to go */
	unsigned n;
};

struct conns *conns_new(void)
{
	struct conns *c = mem_new(sizeof *c);

	list_init(&c->recent);
	return c;
}

static void conn_close(struct conns *conns, struct conn *c)
{
	list_remove(&c->recent);
	conns->n--;
	c->close(c->conn);
	mem_free(c->name);
	mem_free(c);
}

void conns_free(struct conns *conns)
{
	if (!conns)
		return;
	list_each_safe(&conns->recent, n)
		conn_close(conns, list_entry(n, struct conn, recent));
	mem_free(conns);
}

static struct conn *conn_find(struct conns *conns, const char *name)
{
	list_each(&conns->recent, n)
		if (!strcmp(list_entry(n, struct conn, recent)->name, name))
			return list_entry(n, struct conn, recent);
	return NULL;
}

void *conns_get(struct conns *conns, const char *name)
{
	struct conn *c = conn_find(conns, name);

	if (!c)
		return NULL;
	c->used_ms = clock_ms();
	list_remove(&c->recent);
	list_push(&conns->recent, &c->recent);
	return c->conn;
}

void conns_put(struct conns *conns, const char *name, void *conn, void (*close)(void *conn))
{
	struct conn *c = mem_new(sizeof *c);

	conns_drop(conns, name);
	while (conns->n >= CONNS_MAX)
		conn_close(conns, list_entry(list_first(&conns->recent), struct conn, recent));
	*c = (struct conn){ .name = mem_strdup(name), .conn = conn, .close = close, .used_ms = clock_ms() };
	list_push(&conns->recent, &c->recent);
	conns->n++;
}

void conns_drop(struct conns *conns, const char *name)
{
	struct conn *c = conn_find(conns, name);

	if (c)
		conn_close(conns, c);
}

bool conns_tidy(struct conns *conns, uint64_t now_ms)
{
	while (conns->n) {
		struct conn *c = list_entry(list_first(&conns->recent), struct conn, recent);

		if (now_ms - c->used_ms < CONNS_IDLE_MS)
			break;
		conn_close(conns, c);
	}
	return conns->n != 0;
}

bool conn_is_dead(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return fd < 0 || poll(&p, 1, 0) != 0;
}

/* ---- results of SQL ---- */

void rows_next(struct rows *rows)
{
	if (rows->n++)
		buf_addc(&rows->text, '\n');
}

void rows_field(struct rows *rows, const char *name, struct str value, bool alone)
{
	struct buf *b = &rows->text;
	bool quote = !value.len;

	if (alone) {
		buf_add_str(b, value);
		return;
	}
	for (uint32_t i = 0; i < value.len && !quote; i++)
		quote = ascii_is_space(value.p[i]) || (!i && value.p[i] == '"');
	buf_printf(b, "%s=", name);
	if (quote)
		buf_addc(b, '"');
	for (uint32_t i = 0; i < value.len; i++) {
		if (quote && (value.p[i] == '"' || value.p[i] == '\\'))
			buf_addc(b, '\\');
		buf_addc(b, value.p[i]);
	}
	buf_adds(b, quote ? "\" " : " ");
}

enum status rows_end(struct rows *rows, const char *type, struct arena *a, struct lookup_result *out, struct err *err)
{
	enum status st = ST_OK;

	if (rows->text.full)
		st = err_set(err, ST_DEFER, "%s: a result of more than %d octets", type, LOOKUP_VALUE_MAX);
	else if (!rows->n)
		st = ST_FAIL;
	else
		out->value = str_dup(a, buf_str(&rows->text));
	buf_clear(&rows->text);
	return st;
}

bool query_reads(struct str query)
{
	return str_beginsi(str_trim(query), "select") && str_find_str(query, STR_LIT(";")) < 0;
}

enum status sql_find(struct lookup_env *env, const char *type, struct str all, sql_ask_fn *ask, struct str query, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct rows rows = { .text = BUF_LIMIT(LOOKUP_VALUE_MAX) };
	struct servers servers;
	struct server s;
	enum status st = servers_of_query(type, all, options, a, &query, &servers, err);

	out->ttl_s = query_reads(query);
	for (unsigned i = 0; i < servers.n && (!i || st == ST_DEFER); i++) {
		if (server_parse(type, servers.v[i], true, a, &s, err)) {
			buf_clear(&rows.text);
			return ST_ERROR;
		}
		buf_reset(&rows.text);
		rows.n = 0;
		st = ask(env, &s, query, a, &rows, err);
	}
	if (st) {
		buf_clear(&rows.text);
		return st;
	}
	return rows_end(&rows, type, a, out, err);
}
