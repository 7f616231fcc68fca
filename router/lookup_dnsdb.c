/* SPDX-License-Identifier: ISC */
/* lookup_dnsdb.c - the DNS as a database. Specification, sections 9.10 to 9.13. */
#include <arpa/inet.h>
#include <string.h>

#include "common/conf/option.h"
#include "router/lookup_drivers.h"

enum defer_mode { DEFER_LAX, DEFER_STRICT, DEFER_NEVER };
enum dnssec_mode { DNSSEC_LAX, DNSSEC_STRICT, DNSSEC_NEVER };
enum pseudo { PSEUDO_NONE, PSEUDO_MXH, PSEUDO_ZNS, PSEUDO_A_PLUS, PSEUDO_CSA };
enum { RETRANS_MAX_S = 60, RETRY_MAX = 20, CSA_PARENTS = 5 };

static const struct dnsdb_type {
	const char *name;
	unsigned type;
	enum pseudo pseudo;
} types[] = {
	{ "a", DNS_A, PSEUDO_NONE }, { "aaaa", DNS_AAAA, PSEUDO_NONE }, { "a+", DNS_AAAA, PSEUDO_A_PLUS }, { "csa", DNS_SRV, PSEUDO_CSA }, { "cname", DNS_CNAME, PSEUDO_NONE },
	{ "mx", DNS_MX, PSEUDO_NONE }, { "mxh", DNS_MX, PSEUDO_MXH }, { "ns", DNS_NS, PSEUDO_NONE }, { "ptr", DNS_PTR, PSEUDO_NONE },
	{ "soa", DNS_SOA, PSEUDO_NONE }, { "spf", DNS_SPF, PSEUDO_NONE }, { "srv", DNS_SRV, PSEUDO_NONE }, { "tlsa", DNS_TLSA, PSEUDO_NONE },
	{ "txt", DNS_TXT, PSEUDO_NONE }, { "zns", DNS_NS, PSEUDO_ZNS }, { NULL, 0, PSEUDO_NONE },
};

struct query {
	const struct dnsdb_type *type;
	char sep;                      /* between rows */
	char field_sep;                /* 0: the type's own way */
	bool join;                     /* ";" as field separator: parts of a text without anything between */
	enum defer_mode defer;
	enum dnssec_mode dnssec;
	uint32_t retrans_ms;           /* 0: as the resolver is told */
	unsigned retry;
	struct str names;
};

/* A separator as written: one character, or \n and \t. */
static char separator_take(struct str *s)
{
	char c;

	if (!s->len)
		return 0;
	c = s->p[0];
	*s = str_from(*s, 1);
	if (c == '\\' && s->len && (s->p[0] == 'n' || s->p[0] == 't')) {
		c = s->p[0] == 'n' ? '\n' : '\t';
		*s = str_from(*s, 1);
	}
	return c;
}

/* retrans_TIME, retry_NUMBER. ST_FAIL: neither. */
static enum status patience_take(struct query *q, struct str word, struct err *err)
{
	uint64_t n;
	int64_t s;

	if (str_beginsi(word, "retrans_")) {
		if (conf_time_parse(str_from(word, 8), &s, NULL) || s < 1 || s > RETRANS_MAX_S)
			return err_set(err, ST_ERROR, "dnsdb: \"%.*s\" is no time from 1s to %ds", STR_FMT(str_sub(word, 0, 40)), RETRANS_MAX_S);
		q->retrans_ms = (uint32_t)s * 1000;
		return ST_OK;
	}
	if (!str_beginsi(word, "retry_"))
		return ST_FAIL;
	if (!str_u64(str_from(word, 6), RETRY_MAX, &n))
		return err_set(err, ST_ERROR, "dnsdb: \"%.*s\" is no number up to %d", STR_FMT(str_sub(word, 0, 40)), RETRY_MAX);
	q->retry = (unsigned)n;
	return ST_OK;
}

static bool modifier_take(struct query *q, struct str word)
{
	static const struct { const char *name; int defer, dnssec; } words[] = {
		{ "defer_lax", DEFER_LAX, -1 }, { "defer_strict", DEFER_STRICT, -1 }, { "defer_never", DEFER_NEVER, -1 },
		{ "dnssec_lax", -1, DNSSEC_LAX }, { "dnssec_strict", -1, DNSSEC_STRICT }, { "dnssec_never", -1, DNSSEC_NEVER },
	};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (!str_isi(word, words[i].name))
			continue;
		if (words[i].defer >= 0)
			q->defer = (enum defer_mode)words[i].defer;
		else
			q->dnssec = (enum dnssec_mode)words[i].dnssec;
		return true;
	}
	return false;
}

static enum status query_parse(struct str text, struct query *q, struct err *err)
{
	ptrdiff_t eq;

	*q = (struct query){ .sep = '\n' };
	text = str_trim(text);
	if (text.len && text.p[0] == '>') {
		text = str_from(text, 1);
		q->sep = separator_take(&text);
		if (text.len && (text.p[0] == ',' || text.p[0] == ';')) {
			q->join = text.p[0] == ';';
			text = str_from(text, 1);
			if (!q->join)
				q->field_sep = separator_take(&text);
		}
		text = str_trim(text);
	}
	for (;;) {
		ptrdiff_t comma = str_find(text, ',');
		struct str word = str_trim(str_sub(text, 0, comma < 0 ? 0 : (size_t)comma));
		enum status st;

		if (comma < 0)
			break;
		st = patience_take(q, word, err);
		if (st == ST_ERROR)
			return st;
		if (st == ST_FAIL && !modifier_take(q, word))
			break;
		text = str_trim(str_from(text, (size_t)comma + 1));
	}
	q->type = &types[0];
	eq = str_find(text, '=');
	for (q->type = types; q->type->name; q->type++)
		if (eq < 0 ? q->type->type == DNS_TXT : str_isi(str_trim(str_sub(text, 0, (size_t)eq)), q->type->name))
			break;
	if (!q->type->name)
		return err_set(err, ST_ERROR, "dnsdb: type \"%.*s\" is not known; a, aaaa, a+, cname, csa, mx, mxh, ns, ptr, soa, spf, srv, tlsa, txt and zns are",
			STR_FMT(str_sub(text, 0, eq > 40 ? 40 : (size_t)eq)));
	q->names = str_trim(eq < 0 ? text : str_from(text, (size_t)eq + 1));
	return ST_OK;
}

/* ---- what a row becomes ---- */

static void parts_add(struct buf *b, const struct dns_row *row, const struct query *q)
{
	bool all = q->join || q->field_sep || row->type == DNS_SPF;

	for (uint32_t i = 0; i < row->n_parts && (i == 0 || all); i++) {
		if (i && q->field_sep)
			buf_addc(b, q->field_sep);
		buf_add_str(b, row->parts[i]);
	}
}

static void row_add(struct buf *b, const struct dns_row *row, const struct query *q)
{
	char gap = q->field_sep ? q->field_sep : ' ';

	switch (row->type) {
	case DNS_MX:
		if (q->type->pseudo != PSEUDO_MXH)
			buf_printf(b, "%u%c", row->n[0], gap);
		buf_add_str(b, row->data);
		break;
	case DNS_SRV:
		buf_printf(b, "%u%c%u%c%u%c", row->n[0], gap, row->n[1], gap, row->n[2], gap);
		buf_add_str(b, row->data);
		break;
	case DNS_TLSA:
		buf_printf(b, "%u%c%u%c%u%c", row->n[0], gap, row->n[1], gap, row->n[2], gap);
		for (uint32_t i = 0; i < row->data.len; i++)
			buf_printf(b, "%02x", (unsigned char)row->data.p[i]);
		break;
	case DNS_SOA:
		buf_add_str(b, row->data);
		if (q->field_sep || q->join) {
			buf_printf(b, "%c%.*s", gap, STR_FMT(row->mail));
			for (int i = 0; i < 5; i++)
				buf_printf(b, "%c%u", gap, row->n[i]);
		}
		break;
	case DNS_TXT:
	case DNS_SPF:
		parts_add(b, row, q);
		break;
	default:
		buf_add_str(b, row->data);
	}
}

/* ---- asking ---- */

struct sum {
	struct buf text;
	bool found, deferred, secure;
	uint32_t ttl;
	struct err trouble;
};

static bool name_up(struct str *name)
{
	ptrdiff_t dot = str_find(*name, '.');

	if (dot < 0)
		return false;
	*name = str_from(*name, (size_t)dot + 1);
	return name->len > 0;
}

static void ask_one(struct lookup_env *env, const struct query *q, struct str name, unsigned type, struct arena *a, struct sum *sum)
{
	struct dns_answer answer;
	enum status st;

	if (type == DNS_PTR) {
		struct str reverse = dns_name_reverse(a, name);

		if (reverse.p)
			name = reverse;
	}
	do
		st = dns_query(env->dns, a, name, type, DNS_ANY_NAME, &answer, &sum->trouble);
	while (st == ST_FAIL && (q->type->pseudo == PSEUDO_ZNS || type == DNS_SOA) && name_up(&name));
	if (st == ST_OK && q->dnssec == DNSSEC_STRICT && !answer.secure)
		st = err_set(&sum->trouble, ST_DEFER, "dnsdb: the answer for %.*s is not authenticated (dnssec_strict)", STR_FMT(name));
	if (st == ST_FAIL)
		return;
	if (st) {
		sum->deferred = true;
		return;
	}
	if (!sum->found || answer.ttl < sum->ttl)
		sum->ttl = answer.ttl;
	sum->secure = (!sum->found || sum->secure) && answer.secure;
	for (uint32_t i = 0; i < answer.n; i++) {
		if (sum->found)
			buf_addc(&sum->text, q->sep);
		sum->found = true;
		row_add(&sum->text, &answer.rows[i], q);
	}
}

/* ---- CSA: the SRV record of _client._smtp.NAME says whether that host may send; that of a parent, whether its subdomains must say so ---- */

static void csa_say(struct sum *sum, const struct query *q, char code, struct str target, const struct dns_answer *answer)
{
	if (sum->found)
		buf_addc(&sum->text, q->sep);
	buf_printf(&sum->text, "%c %.*s", code, STR_FMT(target));
	sum->ttl = !sum->found || answer->ttl < sum->ttl ? answer->ttl : sum->ttl;
	sum->secure = (!sum->found || sum->secure) && answer->secure;
	sum->found = true;
}

static void ask_csa(struct lookup_env *env, const struct query *q, struct str name, struct arena *a, struct sum *sum)
{
	struct str reverse;

	if (name.len > 2 && name.p[0] == '[' && name.p[name.len - 1] == ']')
		name = str_sub(name, 1, name.len - 2);
	reverse = dns_name_reverse(a, name);
	if (reverse.p)
		name = reverse;
	for (int depth = 0; depth <= CSA_PARENTS && str_find(name, '.') > 0; depth++) {
		struct dns_answer answer;
		enum status st = dns_query(env->dns, a, str_printf(a, "_client._smtp.%.*s", STR_FMT(name)), DNS_SRV, DNS_ANY_NAME, &answer, &sum->trouble);

		if (st == ST_OK && q->dnssec == DNSSEC_STRICT && !answer.secure)
			st = err_set(&sum->trouble, ST_DEFER, "dnsdb: the answer for %.*s is not authenticated (dnssec_strict)", STR_FMT(name));
		if (st == ST_DEFER || st == ST_ERROR) {
			sum->deferred = true;
			return;
		}
		for (uint32_t i = 0; st == ST_OK && i < answer.n; i++) {
			const struct dns_row *row = &answer.rows[i];

			if (row->n[0] != 1) /* the priority is the version of all this, the weight the say, the port holds flags */
				continue;
			if (depth)
				csa_say(sum, q, row->n[2] & 1 ? 'X' : '?', row->data, &answer);
			else
				csa_say(sum, q, row->n[1] < 2 ? 'N' : row->n[1] == 2 ? 'Y' : '?', row->data, &answer);
			return;
		}
		name_up(&name);
	}
}

static bool is_ipv6(struct arena *a, struct str s)
{
	uint8_t addr[16];

	return inet_pton(AF_INET6, str_cstr(a, s), addr) == 1;
}

static enum status dnsdb_find(void *arg, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	struct lookup_env *env = arg;
	struct sum sum = { .text = BUF_LIMIT(LOOKUP_VALUE_MAX) };
	struct query q;
	struct str rest, name;
	char sep = ':';
	enum status st = query_parse(key, &q, err);

	(void)handle, (void)file, (void)options;
	if (st)
		return st;
	if (!env->dns)
		return err_set(err, ST_DEFER, "dnsdb: there is no resolver");
	rest = q.names;
	if (rest.len > 1 && rest.p[0] == '<') {
		sep = rest.p[1];
		rest = str_from(rest, 2);
	} else if (q.type->type == DNS_PTR && is_ipv6(a, rest)) {
		sep = '\0'; /* one IPv6 address is no list */
	}
	dns_patience_set(env->dns, q.retrans_ms, q.retry);
	while (str_split(&rest, sep, &name)) {
		name = str_trim(name);
		if (!name.len)
			continue;
		if (q.type->pseudo == PSEUDO_CSA)
			ask_csa(env, &q, name, a, &sum);
		else
			ask_one(env, &q, name, q.type->type, a, &sum);
		if (q.type->pseudo == PSEUDO_A_PLUS)
			ask_one(env, &q, name, DNS_A, a, &sum);
		if (sum.deferred && q.defer == DEFER_STRICT)
			break;
	}
	dns_patience_set(env->dns, 0, 0);
	if (sum.deferred && (q.defer == DEFER_STRICT || (q.defer == DEFER_LAX && !sum.found)))
		st = err_set(err, ST_DEFER, "dnsdb: %s", sum.trouble.text);
	else if (!sum.found)
		st = ST_FAIL;
	else if (sum.text.full)
		st = err_set(err, ST_DEFER, "dnsdb: an answer of more than %d octets", LOOKUP_VALUE_MAX);
	else
		*out = (struct lookup_result){ .value = str_dup(a, buf_str(&sum.text)), .dnssec = sum.secure && q.dnssec != DNSSEC_NEVER,
			.ttl_s = sum.ttl };
	buf_clear(&sum.text);
	return st;
}

const struct lookup_driver lookup_driver_dnsdb = { "dnsdb", NULL, NULL, dnsdb_find, NULL, NULL };
