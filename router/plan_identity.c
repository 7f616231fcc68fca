/* SPDX-License-Identifier: ISC */
/* plan_identity.c - what makes two deliveries the same: they may share a connection, or a run of a command. */
#include <openssl/sha.h>
#include <stdlib.h>

#include "router/plan_impl.h"

enum { KEY_HEX = 32, NAME_MAX_OUT = 500 };

void plan_identity_add(struct making *m, struct str name, struct str value)
{
	buf_printf(&m->identity, "\n%.*s=%u:", STR_FMT(name), value.len);
	buf_add_str(&m->identity, value);
}

static int host_compare(const void *x, const void *y)
{
	const struct ipc_host *p = x, *q = y;
	int c;

	if (p->group != q->group)
		return p->group < q->group ? -1 : 1;
	c = str_cmp(p->name, q->name);
	if (!c)
		c = str_cmp(p->ip, q->ip);
	return c ? c : (p->port > q->port) - (p->port < q->port);
}

/* Hosts of equal preference come in random order; the identity must not depend on it. Their names are part of it: a connection whose certificate was
 * for one name is none for another name of the same address, which anybody can make up; nor is a name that is sure (RFC 8689) one that is not. */
static void hosts_identity(struct making *m, struct str *first_out, uint16_t *port_out)
{
	struct ipc_host *v = arena_memdup(m->rt->a, m->plan.hosts, m->plan.n_hosts * sizeof *v);

	qsort(v, m->plan.n_hosts, sizeof *v, host_compare);
	for (uint32_t i = 0; i < m->plan.n_hosts; i++) {
		buf_printf(&m->identity, "\n%u %.*s %.*s %u%s", (unsigned)v[i].group, STR_FMT(v[i].name), STR_FMT(v[i].ip), (unsigned)v[i].port,
			v[i].secure_name ? " sure" : "");
		plan_tlsa_identity(m, &v[i]);
		for (uint32_t k = 0; k < v[i].n_options; k++)
			plan_identity_add(m, v[i].options[k].name, v[i].options[k].value);
	}
	*first_out = v[0].name;
	*port_out = (uint16_t)v[0].port;
}

enum status plan_identity(struct making *m, struct err *err)
{
	static const char hex[] = "0123456789abcdef";
	struct arena *a = m->rt->a;
	struct str first = m->store.p ? m->store : m->addr->text, batch = STR_NULL;
	uint8_t digest[SHA256_DIGEST_LENGTH];
	char text[KEY_HEX];
	uint16_t port = 0;
	bool got;
	enum status st = plan_expand(m, m->t->batch_id, "batch_id", &batch, &got, err);

	if (st != ST_OK)
		return st;
	if (m->t->pipe && m->t->pipe->batch_max > 1)
		first = m->plan.argv.v[0]; /* recipients that may share a run */
	if (got)
		plan_identity_add(m, STR_LIT("batch_id"), batch);
	if (m->t->multi_domain) {
		bool multi = true;
		st = expand_bool(m->rt->ev, m->t->multi_domain, &multi, err);
		if (st != ST_OK && st != ST_FAIL)
			return err_prefix(err, "multi_domain");
		if (!multi)
			plan_identity_add(m, STR_LIT("domain"), m->addr->domain);
	}
	if (m->plan.n_hosts)
		hosts_identity(m, &first, &port);
	if (m->store.p)
		plan_identity_add(m, STR_LIT("store"), m->store);
	buf_printf(&m->identity, "\n%llx", (unsigned long long)(m->rt->facts->flags & (MSG_REQUIRETLS | MSG_TLS_OPTIONAL))); /* RFC 8689 */
	buf_printf(&m->identity, "\n%llu %llu", (unsigned long long)m->plan.uid, (unsigned long long)m->plan.gid);
	if (m->plan.initgroups)
		plan_identity_add(m, STR_LIT("groups"), m->plan.user);
	SHA256((const unsigned char *)m->identity.p, m->identity.len, digest);
	for (int i = 0; i < KEY_HEX; i++)
		text[i] = hex[i & 1 ? digest[i / 2] & 15 : digest[i / 2] >> 4];
	m->plan.key = str_printf(a, "%.*s/%.*s", STR_FMT(m->plan.transport), KEY_HEX, text);
	first = str_sub(first, 0, NAME_MAX_OUT);
	m->plan.destination = port && port != 25 ? str_printf(a, "%.*s:%u", STR_FMT(first), port) : first;
	return ST_OK;
}
