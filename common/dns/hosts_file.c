/* SPDX-License-Identifier: ISC */
/* hosts_file.c - names and addresses as /etc/hosts has them. */
#include <arpa/inet.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/dns/find.h"

enum { HOSTS_LINES_MAX = 100000 };

struct hosts_line {
	struct str ip, name;           /* the first name of the line */
};

struct hosts_name {
	struct str ip;
	struct hosts_name *next;       /* another address of the same name, in the file's order */
};

struct hosts_file {
	struct hash by_name;           /* struct hosts_name */
	struct hash by_ip;             /* struct hosts_line */
	struct arena arena;
};

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

/* The address as inet_ntop() writes it, so that equal ones compare equal. */
static bool ip_normal(struct arena *a, struct str ip, struct str *out)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t octets[16];
	int family = str_find(ip, ':') >= 0 ? AF_INET6 : AF_INET;

	if (!ip.len || ip.len >= sizeof text)
		return false;
	memcpy(text, ip.p, ip.len);
	text[ip.len] = 0;
	if (inet_pton(family, text, octets) != 1)
		return false;
	inet_ntop(family, octets, text, sizeof text);
	*out = str_of(arena_strdup(a, text));
	return true;
}

static void name_add(struct hosts_file *h, struct str name, struct str ip)
{
	struct hosts_name *n = arena_alloc(&h->arena, sizeof *n);
	struct hosts_name *first = hash_get(&h->by_name, name);

	n->ip = ip;
	if (!first) {
		hash_put(&h->by_name, name, n);
		return;
	}
	while (first->next)
		first = first->next;
	first->next = n;
}

static void line_add(struct hosts_file *h, struct str line)
{
	struct str ip, word;
	struct hosts_line *entry = NULL;
	ptrdiff_t comment = str_find(line, '#');

	if (comment >= 0)
		line = str_sub(line, 0, (size_t)comment);
	if (!word_next(&line, &word) || !ip_normal(&h->arena, word, &ip))
		return;
	while (word_next(&line, &word)) {
		struct str name;
		if (dns_name_normal(&h->arena, word, true, &name, NULL) != ST_OK)
			continue;
		name = str_dup(&h->arena, name);
		if (!entry) {
			entry = arena_alloc(&h->arena, sizeof *entry);
			entry->ip = ip;
			entry->name = name;
			if (!hash_get(&h->by_ip, ip))
				hash_put(&h->by_ip, ip, entry);
		}
		name_add(h, name, ip);
	}
}

struct hosts_file *hosts_file_parse(struct str text)
{
	struct hosts_file *h = mem_new(sizeof *h);
	struct str line;

	for (int n = 0; n < HOSTS_LINES_MAX && str_split(&text, '\n', &line); n++)
		line_add(h, line);
	return h;
}

void hosts_file_free(struct hosts_file *h)
{
	if (!h)
		return;
	hash_clear(&h->by_name);
	hash_clear(&h->by_ip);
	arena_clear(&h->arena);
	mem_free(h);
}

unsigned hosts_file_addresses(const struct hosts_file *h, struct str name, struct str *out, unsigned max)
{
	unsigned n = 0;

	for (const struct hosts_name *e = hash_get(&h->by_name, name); e && n < max; e = e->next)
		out[n++] = e->ip;
	return n;
}

struct str hosts_file_name(const struct hosts_file *h, struct str ip)
{
	const struct hosts_line *e = hash_get(&h->by_ip, ip);

	return e ? e->name : STR_NULL;
}
