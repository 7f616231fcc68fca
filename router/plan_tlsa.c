/* SPDX-License-Identifier: ISC */
/* plan_tlsa.c - the TLSA records of a plan's hosts (RFC 6698, 7671, 7672): asked here, judged by smtp-out. */
#include "common/dns/dns.h"
#include "common/tls/tls_tlsa.h"
#include "router/plan_impl.h"

enum {
	PLAN_TLSA_OCTETS = 32 * 1024, /* records of all hosts: a zone must not make the plan too large to be carried */
	TLSA_DATA_MAX = 8 * 1024,     /* a longer one cannot travel, and is passed over */
};

struct tlsa_ask {
	struct making *m;
	struct ipc_host *h;
	struct str base[2];        /* names to ask below, the first that has records counts */
	unsigned n_base;
};

/* Whether a list has the host. */
static enum status listed(struct making *m, const struct lang_list *list, const struct ipc_host *h, const char *option, bool *yes, struct err *err)
{
	const struct list_subject subject = { .text = h->ip, .host_name = h->name, .no_client = true };
	enum status st;

	*yes = false;
	if (!list)
		return ST_OK;
	eval_set(m->rt->ev, EV_host, h->name);
	eval_set(m->rt->ev, EV_host_address, h->ip);
	st = lang_list_match(m->rt->ev, list, &subject, NULL, err);
	if (st != ST_OK && st != ST_FAIL)
		return err_prefix(err, "%s", option);
	err_clear(err);
	*yes = st == ST_OK;
	return ST_OK;
}

/* RFC 7672 section 2.2.2: of an alias all of whose links are secure, the name at its end, then the alias; of one whose end is not, the
 * alias alone, if its own link is secure. */
static void bases_find(struct tlsa_ask *ask)
{
	const struct ipc_host *h = ask->h;
	struct making *m = ask->m;
	bool alias = h->tlsa_base.len && !str_eq(h->tlsa_base, h->name);
	struct dns_answer x;

	if (h->secure) {
		if (alias)
			ask->base[ask->n_base++] = h->tlsa_base;
		ask->base[ask->n_base++] = h->name;
	} else if (alias && h->secure_name) {
		if (dns_query(m->rt->r->dns, m->rt->a, h->name, DNS_CNAME, DNS_NO_CNAME, &x, NULL) == ST_OK && x.secure)
			ask->base[ask->n_base++] = h->name;
	}
}

/* The answer's rows as octets, those that can be used, in an order that is always the same. */
static void records_take(struct tlsa_ask *ask, const struct dns_answer *x)
{
	struct making *m = ask->m;
	struct ipc_strs *out = &ask->h->tlsa;
	struct str *v = arena_alloc(m->rt->a, (x->n + 1) * sizeof *v);
	unsigned n = 0, fit;

	for (uint32_t i = 0; i < x->n; i++) {
		const struct dns_row *row = &x->rows[i];
		const struct tls_tlsa t = { (uint8_t)row->n[0], (uint8_t)row->n[1], (uint8_t)row->n[2], row->data };

		if (row->data.len <= TLSA_DATA_MAX - 3 && tls_tlsa_usable(&t))
			v[n++] = tls_tlsa_format(m->rt->a, &t);
	}
	fit = tls_tlsa_sort(v, n);
	if (n > TLS_TLSA_MAX)
		router_log(m->rt->r, LOG_MAIN, "DANE: %.*s has %u TLSA records: %u of them are used", STR_FMT(ask->h->name), n, fit);
	*out = (struct ipc_strs){ v, fit };
}

static enum tlsa_state answer_state(struct tlsa_ask *ask, enum status st, const struct dns_answer *x)
{
	if (st != ST_OK && st != ST_FAIL)
		return x->trouble == DNS_REFUSED ? TLSA_REFUSED : TLSA_FAILED;
	if (x->found == DNS_BAD_NAME)
		return TLSA_NONE; /* too long to exist */
	if (!x->secure)
		return TLSA_INSECURE;
	if (st == ST_FAIL)
		return TLSA_NONE;
	records_take(ask, x);
	return ask->h->tlsa.n ? TLSA_USABLE : TLSA_UNUSABLE;
}

static void records_ask(struct tlsa_ask *ask)
{
	struct making *m = ask->m;
	struct ipc_host *h = ask->h;

	bases_find(ask);
	h->tlsa_state = TLSA_HOST_INSECURE;
	for (unsigned i = 0; i < ask->n_base; i++) {
		struct str name = str_printf(m->rt->a, "_%u._tcp.%.*s", (unsigned)h->port, STR_FMT(ask->base[i]));
		struct dns_answer x;
		enum status st = dns_query(m->rt->r->dns, m->rt->a, name, DNS_TLSA, DNS_ANY_NAME, &x, NULL);

		h->tlsa_state = answer_state(ask, st, &x);
		h->tlsa_base = ask->base[i];
		route_trace(m->rt, "TLSA of %.*s: %s", STR_FMT(name), tlsa_state_name(h->tlsa_state));
		if (h->tlsa_state != TLSA_NONE && h->tlsa_state != TLSA_INSECURE)
			break;
	}
}

/* Names that usage 2 may match, beside the base; for usage 3 none matters, and none need be told. */
static void names_choose(struct making *m, struct ipc_host *h, struct str canonical)
{
	struct str *v = arena_alloc(m->rt->a, (h->tlsa_names.n + 2) * sizeof *v);
	bool anchors = false;
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->tlsa.n; i++)
		anchors |= h->tlsa.v[i].p[0] == TLSA_DANE_TA;
	if (anchors) {
		if (!str_eq(h->name, h->tlsa_base))
			v[n++] = h->name;
		else if (h->secure && canonical.len && !str_eq(canonical, h->name))
			v[n++] = canonical;
		for (uint32_t i = 0; i < h->tlsa_names.n; i++)
			v[n++] = h->tlsa_names.v[i];
	}
	h->tlsa_names = (struct ipc_strs){ v, n };
}

static bool same_host(const struct ipc_host *x, const struct ipc_host *y)
{
	return str_eq(x->name, y->name) && x->port == y->port && x->secure == y->secure && x->mx == y->mx;
}

/* The same name at another address: asked once. */
static bool records_copy(const struct ipc_host *done, uint32_t n, const struct ipc_host *were, struct ipc_host *h)
{
	for (uint32_t i = n; i-- > 0;)
		if (done[i].tlsa_state && same_host(&were[i], h)) {
			h->tlsa = done[i].tlsa;
			h->tlsa_state = done[i].tlsa_state;
			h->tlsa_base = done[i].tlsa_base;
			h->tlsa_names = done[i].tlsa_names;
			return true;
		}
	return false;
}

/* The octets that a host adds to the plan; past the limit it waits, as if the question had failed: never without what it publishes. */
static void budget_take(struct making *m, struct ipc_host *h, size_t *octets)
{
	for (uint32_t i = 0; i < h->tlsa.n; i++)
		*octets += h->tlsa.v[i].len;
	if (*octets <= PLAN_TLSA_OCTETS)
		return;
	router_log(m->rt->r, LOG_MAIN, "DANE: the TLSA records of all hosts of %.*s are more than %d octets: %.*s is put off", STR_FMT(m->addr->domain),
		PLAN_TLSA_OCTETS, STR_FMT(h->name));
	h->tlsa_state = TLSA_FAILED;
	h->tlsa.n = 0;
}

/* Only what smtp-out goes by travels. */
static void fields_clear(struct ipc_host *h)
{
	if (h->tlsa_state == TLSA_USABLE)
		return;
	h->tlsa = (struct ipc_strs){ NULL, 0 };
	h->tlsa_names = (struct ipc_strs){ NULL, 0 };
	h->tlsa_base = STR_NULL;
}

static enum status host_fill(struct making *m, struct ipc_host *v, const struct ipc_host *were, uint32_t i, size_t *octets, struct err *err)
{
	const struct site_transport *t = m->t;
	struct ipc_host *h = &v[i];
	struct tlsa_ask ask = { .m = m, .h = h };
	bool tried = t->try_dane_all;

	if (listed(m, t->require_dane, h, "hosts_require_dane", &h->dane_required, err) != ST_OK)
		return err->status;
	if (!tried && !h->dane_required && listed(m, t->try_dane, h, "hosts_try_dane", &tried, err) != ST_OK)
		return err->status;
	h->tlsa_state = TLSA_NOT_ASKED;
	if ((tried || h->dane_required) && !records_copy(v, i, were, h)) {
		records_ask(&ask);
		if (h->tlsa_state == TLSA_USABLE)
			names_choose(m, h, were[i].tlsa_base);
	}
	if (h->tlsa_state == TLSA_USABLE)
		budget_take(m, h, octets);
	fields_clear(h);
	return ST_OK;
}

enum status plan_tlsa(struct making *m, struct err *err)
{
	const struct ipc_host *were = m->plan.hosts;
	struct ipc_host *v;
	size_t octets = 0;
	enum status st = ST_OK;

	if (!m->t->smtp || !m->plan.n_hosts)
		return ST_OK;
	v = arena_memdup(m->rt->a, were, m->plan.n_hosts * sizeof *v); /* they may be shared with other transports of this question */
	for (uint32_t i = 0; st == ST_OK && i < m->plan.n_hosts; i++)
		st = host_fill(m, v, were, i, &octets, err);
	m->plan.hosts = v;
	return st;
}

struct str plan_tlsa_usage(const struct ipc_host *h)
{
	bool anchor = false, key = false;

	for (uint32_t i = 0; i < h->tlsa.n; i++) {
		anchor |= h->tlsa.v[i].p[0] == TLSA_DANE_TA;
		key |= h->tlsa.v[i].p[0] == TLSA_DANE_EE;
	}
	return anchor && key ? STR_LIT("12") : anchor ? STR_LIT("4") : key ? STR_LIT("8") : STR_LIT("0");
}

/* A connection made on the word of some records is not for who has others. */
void plan_tlsa_identity(struct making *m, const struct ipc_host *h)
{
	static const struct str name = { "tlsa", 4, false };

	buf_printf(&m->identity, " %u%s", (unsigned)h->tlsa_state, h->dane_required ? "!" : "");
	if (h->tlsa_state != TLSA_USABLE)
		return;
	plan_identity_add(m, name, h->tlsa_base);
	for (uint32_t i = 0; i < h->tlsa_names.n; i++)
		plan_identity_add(m, name, h->tlsa_names.v[i]);
	for (uint32_t i = 0; i < h->tlsa.n; i++)
		plan_identity_add(m, name, h->tlsa.v[i]);
}
