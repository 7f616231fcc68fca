/* SPDX-License-Identifier: ISC */
/* Addresses within header fields: the rest of the field stays as it was written. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/lang/rewrite_priv.h"
#include "common/mail/addrlist.h"
#include "common/mail/edit.h"
#include "common/mail/header.h"

static const struct { const char *name; unsigned kind; } fields[] = {
	{ "Sender", REWRITE_SENDER }, { "From", REWRITE_FROM }, { "To", REWRITE_TO }, { "Cc", REWRITE_CC }, { "Bcc", REWRITE_BCC },
	{ "Reply-To", REWRITE_REPLY_TO },
};

unsigned rewrite_field_kind(struct str name)
{
	if (str_beginsi(name, "Resent-"))
		name = str_from(name, 7);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		if (str_isi(name, fields[i].name))
			return fields[i].kind;
	return 0;
}

/* Past a quoted string or a comment that begins at i. */
static uint32_t enclosed_end(struct str s, uint32_t i)
{
	char open = s.p[i];
	unsigned depth = 1;

	for (i++; i < s.len && depth; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (open == '"' ? s.p[i] == '"' : s.p[i] == ')')
			depth--;
		else if (open == '(' && s.p[i] == '(')
			depth++;
	}
	return i < s.len ? i : s.len;
}

/* Where the working part of an item stands: within its brackets, or what is left without blanks and comments at its ends. */
static void working_part(struct str item, uint32_t *from_out, uint32_t *to_out)
{
	uint32_t from = item.len, to = 0;

	for (uint32_t i = 0; i < item.len;) {
		char c = item.p[i];

		if (c == '<') {
			ptrdiff_t end = str_rfind(item, '>');

			*from_out = i + 1;
			*to_out = end > (ptrdiff_t)i ? (uint32_t)end : item.len;
			return;
		}
		if (c == '(') {
			i = enclosed_end(item, i);
			continue;
		}
		if (ascii_is_space(c)) {
			i++;
			continue;
		}
		if (from == item.len)
			from = i;
		i = c == '"' ? enclosed_end(item, i) : i + 1;
		to = i;
	}
	*from_out = from;
	*to_out = to > from ? to : from;
}

struct str rewrite_item_put(struct arena *a, struct str item, struct str address)
{
	uint32_t from, to;
	struct str out;

	working_part(item, &from, &to);
	out = str_printf(a, "%.*s%.*s%.*s", STR_FMT(str_sub(item, 0, from)), STR_FMT(address), STR_FMT(str_from(item, to)));
	out.tainted = true;
	return out;
}

/* The address with the domain that routers took in place of its own. */
static bool domain_change(struct eval *ev, const struct rewrite_wish *wish, struct str *address)
{
	bool changed = false;

	for (uint32_t i = 0; i < wish->n_changes; i++) {
		ptrdiff_t at = str_rfind(*address, '@');

		if (at < 0 || !str_eqi(str_from(*address, (size_t)at + 1), wish->changes[i].from))
			continue;
		*address = str_taint(str_printf(ev->arena, "%.*s@%.*s", STR_FMT(str_sub(*address, 0, (size_t)at)), STR_FMT(wish->changes[i].to)));
		changed = true;
	}
	return changed;
}

static bool item_rewrite(struct eval *ev, const struct rewrite_wish *wish, enum rewrite_kind kind, struct str raw, struct str address,
	struct str domain, struct str *out)
{
	struct str whole;
	bool changed = domain_change(ev, wish, &address);

	if (address.len && str_find(address, '@') < 0 && domain.len) {
		address = str_printf(ev->arena, "%.*s@%.*s", STR_FMT(address), STR_FMT(domain));
		address.tainted = true;
		changed = true;
	}
	whole = STR_NULL;
	changed |= wish->rules && rewrite_run(ev, wish->rules, kind, address, &address, &whole);
	if (changed)
		*out = whole.len ? whole : rewrite_item_put(ev->arena, raw, address);
	return changed;
}

bool rewrite_item(struct eval *ev, const struct rewrite *rules, enum rewrite_kind kind, struct str item, struct str domain, struct str *out)
{
	const struct rewrite_wish wish = { .rules = rules };
	struct addrlist_item parsed;

	*out = item;
	if (addrlist_item_parse(item, ADDR_LENIENT | ADDR_UTF8, ev->arena, &parsed, NULL))
		return false;
	return item_rewrite(ev, &wish, kind, item, parsed.addr, domain, out);
}

static bool field_rewrite(struct eval *ev, const struct rewrite_wish *wish, const struct header_field *field, unsigned kind, struct str domain,
	struct str *out)
{
	struct addrlist list;
	struct buf b = BUF_INIT;
	const char *at = field->raw.p;
	bool changed = false;

	/* A field that can't be understood stays as it is: nobody knows what in it would be an address. */
	if (addrlist_parse(field->value, ADDR_LENIENT | ADDR_UTF8 | ADDR_EMPTY, ev->arena, &list, NULL))
		return false;
	for (uint32_t i = 0; i < list.n; i++) {
		struct str made;

		/* Each address may be looked up. What is beyond the limit stays as it is, without a line in the log for each. */
		if (eval_step(ev, 1, NULL))
			break;
		if (!item_rewrite(ev, wish, (enum rewrite_kind)kind, list.v[i].raw, list.v[i].addr, domain, &made))
			continue;
		buf_add(&b, at, (size_t)(list.v[i].raw.p - at));
		buf_add_str(&b, made);
		at = list.v[i].raw.p + list.v[i].raw.len;
		changed = true;
	}
	if (changed) {
		buf_add(&b, at, (size_t)(field->raw.p + field->raw.len - at));
		*out = str_taint(header_crlf(ev->arena, str_dup(ev->arena, buf_str(&b))));
		changed = header_text_valid(*out) && out->len < 65000;
		if (!changed && lang_services(ev->lang)->log)
			lang_services(ev->lang)->log(lang_services(ev->lang)->ctx, LOG_MAIN | LOG_PANIC, str_printf(ev->arena,
				"rewriting the field %.*s: gave what can't stand in a header; it stays as it was", STR_FMT(field->name)));
	}
	buf_clear(&b);
	return changed;
}

static bool field_one(struct eval *ev, const struct rewrite_wish *wish, const struct header_field *field, bool qualify_sender,
	bool qualify_recipient, struct str *out)
{
	unsigned kind = rewrite_field_kind(field->name);
	bool recipient = kind & (REWRITE_TO | REWRITE_CC | REWRITE_BCC);
	struct str domain = STR_NULL;

	if (!kind)
		return false;
	if (recipient ? qualify_recipient : qualify_sender)
		domain = recipient ? lang_qualify_recipient(ev->lang) : lang_qualify_domain(ev->lang);
	if (!domain.len && !wish->n_changes && !(rewrite_kinds(wish->rules) & kind))
		return false;
	return field_rewrite(ev, wish, field, kind, domain, out);
}

bool rewrite_header(struct eval *ev, const struct rewrite *rules, struct str text, bool qualify_sender, bool qualify_recipient, struct str *out)
{
	const struct rewrite_wish wish = { .rules = rules };
	struct header_scan scan;
	struct header_field field;

	*out = text;
	header_scan_init(&scan, text);
	return header_scan_next(&scan, &field) && field_one(ev, &wish, &field, qualify_sender, qualify_recipient, out);
}

struct ipc_edit *rewrite_headers(struct eval *ev, const struct rewrite *rules, struct str header, bool qualify_sender, bool qualify_recipient,
	uint32_t *n_out)
{
	const struct rewrite_wish wish = { .rules = rules };
	struct ipc_edit *v = NULL;
	struct header_scan scan;
	struct header_field field;
	struct str made;

	*n_out = 0;
	header_scan_init(&scan, header);
	while (*n_out < REWRITE_EDITS_MAX && header_scan_next(&scan, &field)) {
		if (!field_one(ev, &wish, &field, qualify_sender, qualify_recipient, &made))
			continue;
		if (!v)
			v = arena_alloc(ev->arena, REWRITE_EDITS_MAX * sizeof *v);
		v[*n_out].op = EDIT_REPLACE;
		v[(*n_out)++].text = str_taint(str_printf(ev->arena, "%zu %.*s", field.at, STR_FMT(made)));
	}
	return v;
}

enum status rewrite_header_read(struct eval *ev, struct str *out, struct err *err)
{
	uint64_t size = ev->facts->body_offset;
	char *p;
	size_t got = 0;

	*out = STR_NULL;
	if (ev->message_fd < 0 || !size)
		return ST_OK;
	if (size > EVAL_HEADER_MAX)
		return err_set(err, ST_ERROR, "header of %llu octets", (unsigned long long)size);
	p = arena_alloc(ev->arena, size + 1);
	while (got < size) {
		ssize_t n = pread(ev->message_fd, p + got, size - got, (off_t)(ev->facts->offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, ST_DEFER, "reading the header: %s", n ? strerror(errno) : "the file is too short");
		got += (size_t)n;
	}
	*out = str_taint(str_make(p, size));
	return ST_OK;
}

/* What the message's own edits have made of a field of the content. */
static struct str field_now(const struct ipc_facts *facts, const struct header_field *field)
{
	struct str now = field->raw, text;
	uint64_t at;
	bool added;

	for (uint32_t i = 0; i < facts->n_edits; i++)
		if (facts->edits[i].op == EDIT_REPLACE && edit_replace_parse(facts->edits[i].text, &added, &at, &text) && !added && at == field->at)
			now = text;
	return now;
}

/* What `before` has for that field; false: nothing. */
static bool before_find(const struct rewrite_wish *wish, bool is_added, uint64_t where, struct str *out)
{
	struct str text;
	uint64_t at;
	bool added;

	for (uint32_t i = 0; i < wish->n_before; i++)
		if (edit_replace_parse(wish->before[i].text, &added, &at, &text) && added == is_added && at == where) {
			*out = text;
			return true;
		}
	return false;
}

/* False: the field leaves as it is. */
static bool outgoing_one(struct eval *ev, const struct rewrite_wish *wish, bool added, uint64_t where, struct str now, struct str *out)
{
	struct header_scan scan;
	struct header_field field;
	bool known = before_find(wish, added, where, &now);

	*out = now;
	header_scan_init(&scan, now);
	return (header_scan_next(&scan, &field) && field_one(ev, wish, &field, false, false, out)) || known;
}

struct ipc_edit *rewrite_outgoing(struct eval *ev, const struct rewrite_wish *wish, struct str header, uint32_t *n_out)
{
	const struct ipc_facts *facts = ev->facts;
	struct ipc_edit *v = arena_alloc(ev->arena, 2 * REWRITE_EDITS_MAX * sizeof *v);
	struct header_scan scan;
	struct header_field field;
	struct str made;
	uint32_t n = 0;

	header_scan_init(&scan, header);
	while (n < REWRITE_EDITS_MAX && header_scan_next(&scan, &field))
		if (rewrite_field_kind(field.name) && outgoing_one(ev, wish, false, field.at, field_now(facts, &field), &made)) {
			v[n].op = EDIT_REPLACE;
			v[n++].text = str_printf(ev->arena, "%zu %.*s", field.at, STR_FMT(made));
		}
	for (uint32_t i = 0; i < facts->n_edits && n < 2 * REWRITE_EDITS_MAX; i++)
		if (facts->edits[i].op != EDIT_REMOVE && facts->edits[i].op != EDIT_REPLACE &&
		    outgoing_one(ev, wish, true, i, facts->edits[i].text, &made)) {
			v[n].op = EDIT_REPLACE;
			v[n++].text = str_printf(ev->arena, "e%u %.*s", i, STR_FMT(made));
		}
	*n_out = n;
	return v;
}
