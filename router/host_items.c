/* SPDX-License-Identifier: ISC */
/* host_items.c - lists of hosts as administrators write them (specification, section 20.5). */
#include <arpa/inet.h>
#include <string.h>

#include "common/lang/lang_list.h"
#include "router/site.h"

static bool is_address(struct str s)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t octets[16];

	if (!s.len || s.len >= sizeof text)
		return false;
	memcpy(text, s.p, s.len);
	text[s.len] = 0;
	return inet_pton(AF_INET, text, octets) == 1 || inet_pton(AF_INET6, text, octets) == 1;
}

static bool port_take(struct str text, uint16_t *out)
{
	uint64_t n;

	if (!str_u64(text, 65535, &n) || !n)
		return false;
	*out = (uint16_t)n;
	return true;
}

static bool name_is_plain(struct str s)
{
	if (!s.len || s.len > 255)
		return false;
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f || strchr("/:[]\"\\,", s.p[i]))
			return false;
	return true;
}

/* NAME, NAME:PORT, NAME/MX, NAME/MX:PORT, ADDRESS, [ADDRESS], [ADDRESS]:PORT. */
static bool item_parse(struct str s, struct host_item *out)
{
	ptrdiff_t at;

	if (str_is(s, "+")) {
		out->border = true;
		return true;
	}
	if (s.len && s.p[0] == '[') {
		at = str_find(s, ']');
		if (at < 0)
			return false;
		out->name = str_sub(s, 1, (size_t)at - 1);
		s = str_from(s, (size_t)at + 1);
		return is_address(out->name) && (!s.len || (s.p[0] == ':' && port_take(str_from(s, 1), &out->port)));
	}
	out->name = s;
	if (is_address(s))
		return true;
	at = str_rfind(s, ':');
	if (at >= 0) {
		if (!port_take(str_from(s, (size_t)at + 1), &out->port))
			return false;
		s = str_sub(s, 0, (size_t)at);
	}
	if (str_endsi(s, "/mx")) {
		out->mx = true;
		s = str_sub(s, 0, s.len - 3);
	}
	out->name = s;
	return is_address(s) ? !out->mx : name_is_plain(s);
}

enum status host_items_parse(struct str list, struct arena *a, struct host_items *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(list);
	struct str item;
	uint32_t room = list.len < HOST_ITEMS_MAX ? list.len + 1 : HOST_ITEMS_MAX;

	*out = (struct host_items){ NULL, 0 };
	while (lang_split_next(&split, a, &item)) {
		struct host_item one = { .name = STR_NULL };
		if (!item.len)
			continue;
		if (out->n == HOST_ITEMS_MAX)
			return err_set(err, ST_ERROR, "more than %d hosts in a list", HOST_ITEMS_MAX);
		if (!item_parse(item, &one))
			return err_set(err, ST_ERROR, "\"%.*s\" is no host (as in mail.example.org, mail.example.org::25 or </ [2001:db8::1]:25)", STR_FMT(item));
		if (!out->v)
			out->v = arena_alloc(a, room * sizeof *out->v);
		out->v[out->n++] = one;
	}
	return ST_OK;
}
