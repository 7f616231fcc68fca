/* SPDX-License-Identifier: ISC */
/* dns_packet.c - questions to octets, octets to answers. Resource records are taken apart by ldns; what belongs to the question,
 * and how much of it is kept, is decided here. */
#include "common/dns/dns_impl.h"

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <string.h>

enum { HEAD = 12, FLAG_QR = 0x8000, FLAG_AA = 0x0400, FLAG_TC = 0x0200, FLAG_RD = 0x0100, FLAG_RA = 0x0080, FLAG_AD = 0x0020,
	OPCODE = 0x7800, RCODE = 0x000f, TYPE_OPT = 41, CLASS_IN = 1,
	RECORDS_MAX = 2048 /* records looked at in one packet */ };

static const struct { const char *name; unsigned type; } types[] = {
	{ "A", DNS_A }, { "NS", DNS_NS }, { "CNAME", DNS_CNAME }, { "SOA", DNS_SOA }, { "PTR", DNS_PTR }, { "MX", DNS_MX },
	{ "TXT", DNS_TXT }, { "AAAA", DNS_AAAA }, { "SRV", DNS_SRV }, { "TLSA", DNS_TLSA }, { "SPF", DNS_SPF },
};

const char *dns_type_name(unsigned type)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (types[i].type == type)
			return types[i].name;
	return NULL;
}

unsigned dns_type_find(struct str name)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (str_isi(name, types[i].name))
			return types[i].type;
	return 0;
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

size_t dns_question_build(uint8_t *out, size_t max, uint16_t id, struct str name, unsigned type, bool edns, bool ad)
{
	size_t n;

	if (max < HEAD + 256 + 4 + 11)
		return 0;
	memset(out, 0, HEAD);
	put16(out, id);
	put16(out + 2, FLAG_RD | (ad ? FLAG_AD : 0));
	put16(out + 4, 1);
	put16(out + 10, edns);
	n = dns_name_to_wire(out + HEAD, 255, name);
	if (!n)
		return 0;
	n += HEAD;
	put16(out + n, type);
	put16(out + n + 2, CLASS_IN);
	n += 4;
	if (edns) {
		memset(out + n, 0, 11);
		put16(out + n + 1, TYPE_OPT);
		put16(out + n + 3, DNS_UDP_SIZE);
		n += 11;
	}
	return n;
}

/* ---- one record ---- */

static bool record_name(struct arena *a, const ldns_rdf *rdf, enum dns_name_form form, struct str *out)
{
	return rdf && ldns_rdf_get_type(rdf) == LDNS_RDF_TYPE_DNAME && dns_name_from_wire(a, ldns_rdf_data(rdf), ldns_rdf_size(rdf), form, out);
}

static bool record_number(const ldns_rdf *rdf, uint32_t *out)
{
	const uint8_t *p = rdf ? ldns_rdf_data(rdf) : NULL;

	switch (rdf ? ldns_rdf_size(rdf) : 0) {
	case 1: *out = p[0]; return true;
	case 2: *out = get16(p); return true;
	case 4: *out = get32(p); return true;
	default: return false;
	}
}

static bool row_address(const ldns_rr *rr, struct arena *a, struct dns_row *row)
{
	char text[INET6_ADDRSTRLEN];
	const ldns_rdf *rdf = ldns_rr_rdf(rr, 0);
	size_t want = row->type == DNS_A ? 4 : 16;

	if (!rdf || ldns_rdf_size(rdf) != want)
		return false;
	memcpy(row->addr, ldns_rdf_data(rdf), want);
	inet_ntop(want == 4 ? AF_INET : AF_INET6, row->addr, text, sizeof text);
	row->data = str_of(arena_strdup(a, text));
	return true;
}

/* Each rdf is one string: its length, then its octets. */
static bool row_strings(const ldns_rr *rr, struct arena *a, struct dns_row *row)
{
	size_t n = ldns_rr_rd_count(rr), total = 0;
	char *p;

	for (size_t i = 0; i < n; i++) {
		const ldns_rdf *rdf = ldns_rr_rdf(rr, i);
		if (!ldns_rdf_size(rdf) || ldns_rdf_data(rdf)[0] != ldns_rdf_size(rdf) - 1)
			return false;
		total += ldns_rdf_size(rdf) - 1;
	}
	if (!n || total > DNS_DATA_MAX)
		return false;
	row->parts = arena_alloc(a, n * sizeof *row->parts);
	row->n_parts = (uint32_t)n;
	p = arena_alloc(a, total + 1);
	row->data = str_make(p, total);
	for (size_t i = 0; i < n; i++) {
		const ldns_rdf *rdf = ldns_rr_rdf(rr, i);
		size_t len = ldns_rdf_size(rdf) - 1;
		if (len)
			memcpy(p, ldns_rdf_data(rdf) + 1, len);
		row->parts[i] = str_taint(str_make(p, len));
		p += len;
	}
	return true;
}

static bool row_raw(const ldns_rr *rr, struct arena *a, struct dns_row *row)
{
	size_t total = 0, n = ldns_rr_rd_count(rr);
	char *p;

	for (size_t i = 0; i < n; i++)
		total += ldns_rdf_size(ldns_rr_rdf(rr, i));
	if (total > DNS_DATA_MAX)
		return false;
	p = arena_alloc(a, total + 1);
	row->data = str_make(p, total);
	for (size_t i = 0; i < n; i++) {
		const ldns_rdf *rdf = ldns_rr_rdf(rr, i);
		if (ldns_rdf_size(rdf))
			memcpy(p, ldns_rdf_data(rdf), ldns_rdf_size(rdf));
		p += ldns_rdf_size(rdf);
	}
	return true;
}

/* Numbers first, then a name (MX, SRV) or octets (TLSA). */
static bool row_numbers(const ldns_rr *rr, size_t n, struct dns_row *row)
{
	for (size_t i = 0; i < n; i++)
		if (!record_number(ldns_rr_rdf(rr, i), &row->n[i]))
			return false;
	return true;
}

static bool row_tlsa(const ldns_rr *rr, struct arena *a, struct dns_row *row)
{
	const ldns_rdf *rdf = ldns_rr_rdf(rr, 3);

	if (!row_numbers(rr, 3, row) || !rdf)
		return false;
	row->data = str_make(arena_memdup(a, ldns_rdf_data(rdf), ldns_rdf_size(rdf)), ldns_rdf_size(rdf));
	return true;
}

static bool row_soa(const ldns_rr *rr, struct arena *a, struct dns_row *row)
{
	if (!record_name(a, ldns_rr_rdf(rr, 0), DNS_FORM_ANY, &row->data) || !record_name(a, ldns_rr_rdf(rr, 1), DNS_FORM_ANY, &row->mail))
		return false;
	for (size_t i = 0; i < 5; i++)
		if (!record_number(ldns_rr_rdf(rr, i + 2), &row->n[i]))
			return false;
	return true;
}

/* The data of a record; false when it is not what its type says, or a name in it is none that we take. */
static bool row_fill(const ldns_rr *rr, unsigned flags, struct arena *a, struct dns_row *row)
{
	enum dns_name_form form = flags & DNS_ANY_NAME ? DNS_FORM_ANY : DNS_FORM_HOST;
	bool ok;

	switch (row->type) {
	case DNS_A:
	case DNS_AAAA:
		ok = row_address(rr, a, row);
		break;
	case DNS_NS:
	case DNS_PTR:
		ok = record_name(a, ldns_rr_rdf(rr, 0), form, &row->data);
		break;
	case DNS_CNAME:
		ok = record_name(a, ldns_rr_rdf(rr, 0), flags & DNS_ANY_NAME ? DNS_FORM_ANY : DNS_FORM_PLAIN, &row->data);
		break;
	case DNS_MX:
		ok = row_numbers(rr, 1, row) && record_name(a, ldns_rr_rdf(rr, 1), form, &row->data);
		break;
	case DNS_SRV:
		ok = row_numbers(rr, 3, row) && record_name(a, ldns_rr_rdf(rr, 3), form, &row->data);
		break;
	case DNS_TXT:
	case DNS_SPF:
		ok = row_strings(rr, a, row);
		break;
	case DNS_TLSA:
		ok = row_tlsa(rr, a, row);
		break;
	case DNS_SOA:
		ok = row_soa(rr, a, row);
		break;
	default:
		ok = row_raw(rr, a, row);
		break;
	}
	row->data.tainted = true;
	return ok;
}

/* ---- the packet ---- */

struct section {
	ldns_rr **v;
	size_t n;
};

static void section_free(struct section *s)
{
	for (size_t i = 0; i < s->n; i++)
		ldns_rr_free(s->v[i]);
	mem_free(s->v);
}

static bool section_read(const uint8_t *packet, size_t len, size_t *at, unsigned count, struct section *out)
{
	*out = (struct section){ NULL, 0 };
	if (!count)
		return true;
	if (count > RECORDS_MAX || count > (len - *at) / 11) /* a record takes eleven octets at least */
		return false;
	out->v = mem_new(count * sizeof *out->v);
	for (unsigned i = 0; i < count; i++) {
		ldns_rr *rr = NULL;
		if (*at >= len || ldns_wire2rr(&rr, packet, len, at, LDNS_SECTION_ANSWER) != LDNS_STATUS_OK || !rr)
			return false;
		out->v[out->n++] = rr;
	}
	return true;
}

static bool owner_is(struct arena *a, const ldns_rr *rr, struct str name, struct str *owner_out)
{
	return record_name(a, ldns_rr_owner(rr), DNS_FORM_ANY, owner_out) && str_eq(*owner_out, name);
}

/* The record of a type at an owner, NULL: none. */
static const ldns_rr *section_find(struct section *s, struct arena *a, struct str owner, unsigned type)
{
	struct str got;

	for (size_t i = 0; i < s->n; i++)
		if (ldns_rr_get_type(s->v[i]) == (ldns_rr_type)type && ldns_rr_get_class(s->v[i]) == LDNS_RR_CLASS_IN && owner_is(a, s->v[i], owner, &got))
			return s->v[i];
	return NULL;
}

static void ttl_lower(uint32_t *ttl, uint32_t to)
{
	if (to < *ttl)
		*ttl = to;
}

/* Follows the chain in the packet. False: a loop, or longer than allowed. */
static bool chain_follow(struct section *answer, struct arena *a, unsigned flags, struct dns_answer *out)
{
	for (;;) {
		const ldns_rr *rr = section_find(answer, a, out->name, DNS_CNAME);
		struct dns_row row = { .type = DNS_CNAME };
		if (!rr)
			return true;
		if (++out->cnames > DNS_CNAMES_MAX || !row_fill(rr, flags, a, &row) || str_eq(row.data, out->name))
			return false;
		ttl_lower(&out->ttl, ldns_rr_ttl(rr));
		out->name = row.data;
	}
}

static void rows_collect(struct section *answer, struct arena *a, unsigned type, unsigned flags, struct dns_answer *out)
{
	size_t room = answer->n < DNS_ROWS_MAX ? answer->n : DNS_ROWS_MAX;

	out->rows = room ? arena_alloc(a, room * sizeof *out->rows) : NULL;
	for (size_t i = 0; i < answer->n; i++) {
		const ldns_rr *rr = answer->v[i];
		struct dns_row row = { .type = (uint16_t)type, .ttl = ldns_rr_ttl(rr) };
		if (ldns_rr_get_type(rr) != (ldns_rr_type)type || ldns_rr_get_class(rr) != LDNS_RR_CLASS_IN ||
			!owner_is(a, rr, out->name, &row.owner) || !row_fill(rr, flags, a, &row))
			continue;
		if (out->n == room) {
			out->cut = true;
			return;
		}
		ttl_lower(&out->ttl, row.ttl);
		out->rows[out->n++] = row;
	}
}

/* RFC 2308 section 5: a "no" holds as long as the SOA and its last field say. False: there is no SOA. */
static bool negative_ttl(struct section *authority, struct dns_answer *out)
{
	for (size_t i = 0; i < authority->n; i++) {
		const ldns_rr *rr = authority->v[i];
		uint32_t minimum;
		if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_SOA || !record_number(ldns_rr_rdf(rr, 6), &minimum))
			continue;
		ttl_lower(&out->ttl, ldns_rr_ttl(rr));
		ttl_lower(&out->ttl, minimum);
		return true;
	}
	return false;
}

static bool has_referral(struct section *authority)
{
	for (size_t i = 0; i < authority->n; i++)
		if (ldns_rr_get_type(authority->v[i]) == LDNS_RR_TYPE_NS)
			return true;
	return false;
}

static bool question_same(const uint8_t *packet, size_t len, size_t *at, struct arena *a, struct str name, unsigned type)
{
	ldns_rr *rr = NULL;
	struct str got;
	bool same;

	if (*at >= len || ldns_wire2rr(&rr, packet, len, at, LDNS_SECTION_QUESTION) != LDNS_STATUS_OK)
		return false;
	same = owner_is(a, rr, name, &got) && ldns_rr_get_type(rr) == (ldns_rr_type)type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN;
	ldns_rr_free(rr);
	return same;
}

static enum dns_parse sections_parse(struct section *answer, struct section *authority, unsigned head, unsigned type, unsigned flags,
	struct arena *a, struct dns_answer *out, bool *open_out)
{
	bool soa;

	out->ttl = DNS_TTL_MAX_S;
	if (type != DNS_CNAME && !(flags & DNS_NO_CNAME) && !chain_follow(answer, a, flags, out))
		return DNS_PARSE_MALFORMED;
	rows_collect(answer, a, type, flags, out);
	if (out->n) {
		out->found = DNS_ROWS;
		return DNS_PARSE_OK;
	}
	soa = negative_ttl(authority, out);
	if (!soa)
		ttl_lower(&out->ttl, DNS_TTL_TROUBLE_S);
	ttl_lower(&out->ttl, DNS_TTL_NEG_MAX_S);
	out->found = out->rcode == 3 ? DNS_NXDOMAIN : DNS_NODATA;
	if (out->rcode == 3 || soa)
		return DNS_PARSE_OK;
	if (out->cnames)
		*open_out = true;
	else if (!(head & FLAG_AA) && has_referral(authority))
		out->trouble = DNS_REFUSED; /* a referral: this server does not resolve for us */
	return DNS_PARSE_OK;
}

enum dns_parse dns_answer_parse(const uint8_t *packet, size_t len, uint16_t id, struct str name, unsigned type, unsigned flags, struct arena *a,
	struct dns_answer *out, bool *chain_open_out)
{
	struct section answer = { NULL, 0 }, authority = { NULL, 0 };
	enum dns_parse result;
	unsigned head;
	size_t at = HEAD;

	memset(out, 0, sizeof *out);
	*chain_open_out = false;
	out->name = name;
	if (len < HEAD || get16(packet) != id)
		return DNS_PARSE_FOREIGN;
	head = get16(packet + 2);
	if (!(head & FLAG_QR) || head & OPCODE)
		return DNS_PARSE_FOREIGN;
	out->rcode = head & RCODE;
	if (get16(packet + 4) == 0 && out->rcode != 0 && out->rcode != 3)
		return DNS_PARSE_OK; /* some servers refuse without repeating the question */
	if (get16(packet + 4) != 1 || !question_same(packet, len, &at, a, name, type))
		return DNS_PARSE_FOREIGN;
	if (head & FLAG_TC)
		return DNS_PARSE_TRUNCATED;
	if (out->rcode != 0 && out->rcode != 3)
		return DNS_PARSE_OK;
	out->secure = head & FLAG_AD;
	out->authoritative = head & FLAG_AA;
	if (section_read(packet, len, &at, get16(packet + 6), &answer) && section_read(packet, len, &at, get16(packet + 8), &authority))
		result = sections_parse(&answer, &authority, head, type, flags, a, out, chain_open_out);
	else
		result = DNS_PARSE_MALFORMED;
	section_free(&answer);
	section_free(&authority);
	return result;
}
