/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_dane.h"

#include "common/tls/tls_tlsa.h"

/* The table, by what the DNS said: with DANE tried, and with DANE required. A host that fails makes its recipients fail only where every
 * other host does too. */
static const struct row {
	uint8_t tried, required;              /* enum out_dane */
	const char *deferred, *failed, *behind; /* failed: the host's name follows, then behind */
} rows[TLSA_STATES_END] = {
	[TLSA_NOT_ASKED] = { OUT_DANE_NO, OUT_DANE_FAIL, NULL, "DANE error: ", " lookup not DNSSEC" },
	[TLSA_USABLE] = { OUT_DANE_VERIFY, OUT_DANE_VERIFY, "DANE error: No usable TLSA records", NULL, NULL },
	[TLSA_NONE] = { OUT_DANE_NO, OUT_DANE_FAIL, NULL, "DANE error: tlsa lookup FAIL: ", " has no TLSA records" },
	[TLSA_INSECURE] = { OUT_DANE_NO, OUT_DANE_FAIL, NULL, "DANE error: TLSA lookup for ", " not DNSSEC" },
	[TLSA_FAILED] = { OUT_DANE_DEFER, OUT_DANE_DEFER, "DANE error: tlsa lookup DEFER", NULL, NULL },
	[TLSA_REFUSED] = { OUT_DANE_DEFER, OUT_DANE_FAIL, "DANE error: tlsa lookup DEFER", "DANE error: tlsa lookup FAIL: refused for ", "" },
	[TLSA_UNUSABLE] = { OUT_DANE_DEFER, OUT_DANE_DEFER, "DANE error: No usable TLSA records", NULL, NULL },
	[TLSA_HOST_INSECURE] = { OUT_DANE_NO, OUT_DANE_FAIL, NULL, "DANE error: ", " lookup not DNSSEC" },
};

/* What another version may say, and we do not know, is no reason to go on without. */
static const struct row *row_of(const struct ipc_host *h)
{
	return &rows[h->tlsa_state < TLSA_STATES_END ? h->tlsa_state : TLSA_FAILED];
}

static unsigned records_parse(const struct ipc_host *h, struct tls_tlsa *v)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < h->tlsa.n && n < TLS_TLSA_MAX; i++)
		n += tls_tlsa_parse(h->tlsa.v[i], &v[n]);
	return n;
}

void out_dane_decide(const struct out_tls_options *o, const struct ipc_host *h, struct out_tls_host *out)
{
	struct tls_tlsa v[TLS_TLSA_MAX];

	out->dane = !h ? OUT_DANE_NO : h->dane_required ? row_of(h)->required : row_of(h)->tried;
	if (out->dane != OUT_DANE_VERIFY)
		return;
	out->dane_usages = (uint8_t)tls_tlsa_usages(v, records_parse(h, v));
	if (!out->dane_usages) {
		out->dane = OUT_DANE_DEFER;
		return;
	}
	out->want = out->want_callout = SMTP_TLS_MUST;
	out->verify = TLS_VERIFY_NONE; /* by anchors of ours */
	out->check_name = out->clear_if_refused = out->clear_if_failed = false;
	/* A key that stands in the zone itself has no other status; who writes the option down may have it otherwise. */
	if (!o->request_ocsp_set && out->dane_usages != 1 << TLSA_DANE_TA)
		out->ask_ocsp = out->require_ocsp;
}

bool out_dane_refuses(const struct ipc_host *h, const struct out_tls_host *t, struct arena *a, struct smtp_verdict *v)
{
	bool fails = t->dane == OUT_DANE_FAIL;
	const struct row *row;

	if (t->dane != OUT_DANE_DEFER && !fails)
		return false;
	row = row_of(h);
	if (fails)
		*v = smtp_verdict_unfit(STR_LIT("5.7.5"), str_printf(a, "%s%.*s%s", row->failed, STR_FMT(h->name), row->behind));
	else
		*v = (struct smtp_verdict){ .result = DELIVERY_DEFERRED, .error = RETRY_LOOKUP, .host_error = true, .status = STR_LIT("4.7.5"),
			.text = str_of(row->deferred) };
	v->stage = "initial connection";
	return true;
}

void out_dane_waive(const struct ipc_host *h, struct out_tls_host *t)
{
	if (h && !h->dane_required)
		t->dane = OUT_DANE_NO;
}

void out_dane_peer_fill(const struct ipc_host *h, struct arena *a, struct tls_peer *peer)
{
	struct tls_tlsa *v = arena_alloc(a, TLS_TLSA_MAX * sizeof *v);

	peer->n_tlsa = records_parse(h, v);
	peer->tlsa = v;
	peer->sni = peer->name = h->tlsa_base.len ? h->tlsa_base : h->name;
	peer->names = h->tlsa_names.v;
	peer->n_names = h->tlsa_names.n;
}

const char *out_dane_remark(const struct ipc_host *h, const struct out_tls_host *t, struct arena *a)
{
	if (h && h->tlsa_state == TLSA_INSECURE)
		return arena_printf(a, "DANE error: TLSA lookup for %.*s not DNSSEC", STR_FMT(h->name));
	if (t->dane == OUT_DANE_VERIFY && t->require_ocsp && t->dane_usages == 1 << TLSA_DANE_EE)
		return arena_printf(a, "DANE: the TLSA records of %.*s name its own key: a status by OCSP, which hosts_require_ocsp demands, adds nothing to that",
			STR_FMT(h->name));
	return NULL;
}
