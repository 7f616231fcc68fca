/* SPDX-License-Identifier: ISC */
/* plan_message.c - what a delivery does to the message: header fields, return path; and whether it is too large. */
#include <string.h>

#include "common/lang/rewrite.h"
#include "router/plan_impl.h"

/* Fields with CRLF ends; what is no field would break the message. */
static enum status field_format(struct making *m, struct str text, struct str *out, struct err *err)
{
	struct buf b = BUF_INIT;
	ptrdiff_t colon = str_find(text, ':');
	bool ok = colon > 0;

	for (ptrdiff_t i = 0; i < colon; i++)
		ok = ok && (unsigned char)text.p[i] > ' ' && (unsigned char)text.p[i] < 0x7f;
	if (!ok)
		return err_set(err, ST_ERROR, "headers_add: \"%.*s\" is no header field", STR_FMT(str_sub(text, 0, 100)));
	for (uint32_t i = 0; i < text.len; i++) {
		if (text.p[i] == '\n')
			buf_addc(&b, '\r');
		if (text.p[i] != '\r' && text.p[i] != 0)
			buf_addc(&b, text.p[i]);
	}
	buf_adds(&b, "\r\n");
	*out = str_dup(m->rt->a, buf_str(&b));
	buf_clear(&b);
	return ST_OK;
}

/* One expansion may give several fields: a line that begins with no blank begins another. */
static bool field_next(struct str *rest, struct str *out)
{
	uint32_t i = 0;

	if (!rest->len)
		return false;
	while (i < rest->len && !(rest->p[i] == '\n' && i + 1 < rest->len && rest->p[i + 1] != ' ' && rest->p[i + 1] != '\t'))
		i++;
	*out = str_trim(str_sub(*rest, 0, i));
	*rest = str_from(*rest, i + 1);
	return true;
}

static enum status fields_add(struct making *m, struct str value, struct str *v, uint32_t *n, struct err *err)
{
	struct str field;

	while (field_next(&value, &field)) {
		if (!field.len)
			continue;
		if (*n == SITE_HEADERS_MAX)
			return err_set(err, ST_ERROR, "headers_add: more than %d fields", SITE_HEADERS_MAX);
		if (field_format(m, field, &v[(*n)++], err) != ST_OK)
			return err->status;
	}
	return ST_OK;
}

enum status plan_fields_added(struct making *m, struct err *err)
{
	const struct site_texts *own = &m->t->headers_add;
	struct str *v, value;
	uint32_t n = 0;
	bool got;
	enum status st = ST_OK;

	if (!m->addr->n_add && !own->n)
		return ST_OK;
	v = arena_alloc(m->rt->a, SITE_HEADERS_MAX * sizeof *v);
	for (uint32_t i = 0; st == ST_OK && i < m->addr->n_add; i++)
		st = fields_add(m, m->addr->headers_add[i], v, &n, err);
	for (uint32_t i = 0; st == ST_OK && i < own->n; i++) {
		st = plan_expand(m, own->v[i], "headers_add", &value, &got, err);
		if (st == ST_OK && got)
			st = fields_add(m, str_trim(value), v, &n, err);
	}
	m->plan.headers_add = (struct ipc_strs){ v, n };
	return st;
}

enum status plan_fields_removed(struct making *m, struct err *err)
{
	const struct site_texts *own = &m->t->headers_remove;
	struct str *v, value;
	uint32_t n = m->addr->n_remove;
	bool got;

	if (!n && !own->n)
		return ST_OK;
	v = arena_alloc(m->rt->a, (n + own->n) * sizeof *v);
	if (n)
		memcpy(v, m->addr->headers_remove, n * sizeof *v);
	for (uint32_t i = 0; i < own->n; i++) {
		enum status st = plan_expand(m, own->v[i], "headers_remove", &value, &got, err);
		if (st != ST_OK)
			return st;
		value = str_trim(value);
		if (!got || !value.len)
			continue;
		if (n == SITE_REMOVES_MAX)
			return err_set(err, ST_ERROR, "headers_remove: more than %d fields", SITE_REMOVES_MAX);
		v[n++] = value;
	}
	m->plan.headers_remove = (struct ipc_strs){ v, n };
	return ST_OK;
}

/* What changed domains and headers_rewrite make of this message's fields. */
enum status plan_rewrites(struct making *m, struct err *err)
{
	const struct rewrite_wish wish = { .changes = m->rt->changes, .n_changes = m->rt->n_changes, .rules = m->t->rewrite };
	struct str header;
	enum status st;

	if (!wish.rules && !wish.n_changes)
		return ST_OK;
	st = rewrite_header_read(m->rt->ev, &header, err);
	if (st == ST_OK && header.len)
		m->plan.rewrites = rewrite_outgoing(m->rt->ev, &wish, header, &m->plan.n_rewrites);
	return st ? err_prefix(err, wish.rules ? "headers_rewrite" : "rewriting header fields") : ST_OK;
}

enum status plan_return_path(struct making *m, struct err *err)
{
	struct str value = m->addr->errors_to;
	bool got;
	enum status st = plan_expand(m, m->t->return_path, "return_path", &value, &got, err);

	if (st != ST_OK || (!got && !m->addr->has_errors_to))
		return st;
	value = str_trim(value);
	if (value.len > 2 && value.p[0] == '<' && value.p[value.len - 1] == '>')
		value = str_sub(value, 1, value.len - 2);
	if (value.len > 1024 || str_has_ctl(value))
		return err_set(err, ST_ERROR, "return_path: not an address");
	m->plan.has_return_path = true;
	m->plan.return_path = str_is(value, "<>") ? STR_NULL : value;
	return ST_OK;
}

enum status plan_size_check(struct making *m, struct err *err)
{
	int64_t limit;
	enum status st;

	if (!m->t->size_limit || route_is_verify(m->rt))
		return ST_OK;
	st = expand_int(m->rt->ev, m->t->size_limit, &limit, err);
	if (st != ST_OK)
		return st == ST_FAIL ? ST_OK : err_prefix(err, "message_size_limit");
	if (limit <= 0 || m->rt->facts->size <= (uint64_t)limit)
		return ST_OK;
	return err_set(err, ST_FAIL, "message is too big (transport limit = %lld)", (long long)limit);
}
