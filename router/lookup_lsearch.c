/* SPDX-License-Identifier: ISC */
/* lookup_lsearch.c - text files of keys and data: lsearch (indexed once, whatever its name says) and iplsearch.
 * Specification, section 9.3. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "router/lookup_drivers.h"

/* ---- the file's form ---- */

static bool line_take(struct str *text, struct str *line_out)
{
	ptrdiff_t at;

	if (!text->len)
		return false;
	at = str_find(*text, '\n');
	*line_out = at < 0 ? *text : str_sub(*text, 0, (size_t)at);
	*text = str_from(*text, at < 0 ? text->len : (size_t)at + 1);
	if (line_out->len && line_out->p[line_out->len - 1] == '\r')
		line_out->len--;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static unsigned digits_take(const struct str *s, uint32_t *at, unsigned base, uint32_t max, unsigned *value_out)
{
	unsigned n = 0, v = 0;

	for (; n < max && *at < s->len; n++, (*at)++) {
		char c = ascii_lower(s->p[*at]);
		unsigned d = ascii_is_digit(c) ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 99;

		if (d >= base)
			break;
		v = v * base + d;
	}
	*value_out = v;
	return n;
}

/* A key in double quotes, with the escapes of section 6.17; *rest_out is what stands behind the closing quote. */
static struct str key_unquote(struct str line, struct arena *a, struct str *rest_out)
{
	char *out = arena_alloc(a, line.len + 1);
	uint32_t at = 1, n = 0;

	while (at < line.len && line.p[at] != '"') {
		char c = line.p[at++];
		unsigned v;

		if (c != '\\' || at >= line.len) {
			out[n++] = c;
			continue;
		}
		c = line.p[at];
		if (c >= '0' && c <= '7' && digits_take(&line, &at, 8, 3, &v)) {
			out[n++] = (char)v;
			continue;
		}
		at++;
		if (c == 'x' && digits_take(&line, &at, 16, 2, &v))
			out[n++] = (char)v;
		else
			out[n++] = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
	}
	*rest_out = str_from(line, at < line.len ? at + 1 : at);
	return str_make(out, n);
}

static struct str key_take(struct str line, struct arena *a, struct str *value_out)
{
	struct str key, rest;

	if (line.p[0] == '"') {
		key = key_unquote(line, a, &rest);
	} else {
		uint32_t n = 0;

		while (n < line.len && line.p[n] != ':' && !is_blank(line.p[n]))
			n++;
		key = str_sub(line, 0, n);
		rest = str_from(line, n);
	}
	rest = str_trim(rest);
	if (rest.len && rest.p[0] == ':')
		rest = str_trim(str_from(rest, 1));
	*value_out = rest;
	return key;
}

void text_table_each(struct str text, struct arena *a, text_entry_fn *fn, void *arg)
{
	struct str line, key = STR_NULL, value = STR_NULL;
	struct buf joined = BUF_INIT;
	bool have = false, long_value = false, go = true;

	while (go && line_take(&text, &line)) {
		struct str trimmed = str_trim(line);

		/* Empty lines and comments count for nothing, even in the middle of an item. */
		if (!trimmed.len || line.p[0] == '#')
			continue;
		if (is_blank(line.p[0])) {
			if (!have)
				continue;
			if (!long_value) {
				buf_reset(&joined);
				buf_add_str(&joined, value);
				long_value = true;
			}
			if (joined.len)
				buf_addc(&joined, ' ');
			buf_add_str(&joined, trimmed);
			continue;
		}
		if (have)
			go = fn(arg, key, long_value ? str_dup(a, buf_str(&joined)) : value);
		key = key_take(line, a, &value);
		have = true;
		long_value = false;
	}
	if (have && go)
		fn(arg, key, long_value ? str_dup(a, buf_str(&joined)) : value);
	buf_clear(&joined);
}

enum status text_table_read(struct str path, struct arena *a, struct str *text_out, struct lookup_stamp *stamp_out, struct err *err)
{
	char *name = str_cstr(a, path), *text;
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	size_t at = 0;

	if (fd < 0)
		return err_set(err, ST_DEFER, "failed to open %s: %s", name, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > TEXT_TABLE_MAX || !lookup_stamp_get(fd, stamp_out)) {
		close(fd);
		return err_set(err, ST_DEFER, "%s is no regular file of at most %d octets", name, TEXT_TABLE_MAX);
	}
	text = arena_alloc(a, (size_t)st.st_size + 1);
	while (at < (size_t)st.st_size) {
		ssize_t n = read(fd, text + at, (size_t)st.st_size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_set(err, ST_DEFER, "reading %s: %s", name, strerror(errno));
			close(fd);
			return ST_DEFER;
		}
		if (n == 0)
			break;
		at += (size_t)n;
	}
	close(fd);
	*text_out = str_make(text, at);
	return ST_OK;
}

/* ---- lsearch ---- */

struct entry {
	struct str key, value;
	struct entry *next;        /* iplsearch: in the order of the file */
};

struct table {
	struct arena arena;
	char *path;
	struct lookup_stamp stamp;
	struct hash by_key;
	struct entry *first, **last;
};

static bool table_add(void *arg, struct str key, struct str value)
{
	struct table *t = arg;
	struct entry *e = arena_alloc(&t->arena, sizeof *e);

	e->key = key;
	e->value = value;
	if (!hash_get(&t->by_key, key)) /* the first occurrence is the one that counts */
		hash_put(&t->by_key, key, e);
	*t->last = e;
	t->last = &e->next;
	return true;
}

static void table_close(void *handle)
{
	struct table *t = handle;

	hash_clear(&t->by_key);
	arena_clear(&t->arena);
	mem_free(t);
}

static enum status table_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct table *t = mem_new(sizeof *t);
	struct str text;
	enum status st;

	(void)env;
	t->by_key = (struct hash)HASH_CASELESS;
	t->last = &t->first;
	t->path = str_cstr(&t->arena, file);
	st = text_table_read(file, &t->arena, &text, &t->stamp, err);
	if (st) {
		table_close(t);
		return st;
	}
	text_table_each(text, &t->arena, table_add, t);
	*handle_out = t;
	return ST_OK;
}

static bool table_changed(void *handle)
{
	struct table *t = handle;

	return lookup_stamp_differs(t->path, &t->stamp);
}

static enum status lsearch_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	const struct entry *e = hash_get(&((struct table *)handle)->by_key, key);

	(void)env, (void)file, (void)options, (void)err;
	if (!e)
		return ST_FAIL;
	*out = (struct lookup_result){ str_dup(a, e->value), str_dup(a, e->key), false, LOOKUP_TTL_FILE };
	return ST_OK;
}

const struct lookup_driver lookup_driver_lsearch = { "lsearch", table_open, table_changed, lsearch_find, table_close, NULL };

/* ---- iplsearch ---- */

struct net {
	uint8_t addr[16];
	bool v6;
	unsigned bits;
};

static bool net_parse(struct str s, bool mask_too, struct net *out)
{
	ptrdiff_t slash = str_find(s, '/');
	struct str ip = slash < 0 ? s : str_sub(s, 0, (size_t)slash);
	char text[INET6_ADDRSTRLEN + 1];
	uint64_t bits;

	if (ip.len > INET6_ADDRSTRLEN || (slash >= 0 && !mask_too))
		return false;
	memcpy(text, ip.p, ip.len);
	text[ip.len] = '\0';
	out->v6 = str_find(ip, ':') >= 0;
	if (inet_pton(out->v6 ? AF_INET6 : AF_INET, text, out->addr) != 1)
		return false;
	bits = out->v6 ? 128 : 32;
	if (slash >= 0 && !str_u64(str_from(s, (size_t)slash + 1), bits, &bits))
		return false;
	out->bits = (unsigned)bits;
	return true;
}

static bool net_holds(const struct net *n, const struct net *ip)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (n->v6 != ip->v6 || memcmp(n->addr, ip->addr, whole))
		return false;
	return !rest || (n->addr[whole] ^ ip->addr[whole]) >> (8 - rest) == 0;
}

static enum status iplsearch_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct net ip, net;

	(void)env, (void)options;
	if (str_is(key, "*"))
		return lsearch_find(env, handle, file, key, options, a, out, err);
	if (!net_parse(key, false, &ip))
		return err_set(err, ST_ERROR, "iplsearch: the key \"%.*s\" is no IP address", STR_FMT(str_sub(key, 0, 100)));
	for (const struct entry *e = ((struct table *)handle)->first; e; e = e->next)
		if (net_parse(e->key, true, &net) && net_holds(&net, &ip)) {
			*out = (struct lookup_result){ str_dup(a, e->value), str_dup(a, e->key), false, LOOKUP_TTL_FILE };
			return ST_OK;
		}
	return ST_FAIL;
}

const struct lookup_driver lookup_driver_iplsearch = { "iplsearch", table_open, table_changed, iplsearch_find, table_close, NULL };
