/* SPDX-License-Identifier: ISC */
/* Contexts: what policyd has said of a client, in the terms of common/tls. */
#include "common/conf/conf.h"
#include "smtpd/smtpd.h"

/* ---- names ---- */

static unsigned list_take(struct arena *a, const char *text, struct str *v, unsigned max)
{
	struct conf_list_walk walk = CONF_LIST_WALK(str_of(text));
	struct str item;
	unsigned n = 0;

	while (text && n < max && conf_list_next(&walk, a, &item))
		if (item.len)
			v[n++] = item;
	return n;
}

/* "PEM file", "DER file": keyd sees by itself which it is. */
static struct str format_skip(struct str file)
{
	return str_begins(file, "PEM ") || str_begins(file, "DER ") ? str_trim(str_from(file, 4)) : file;
}

static enum status certs_take(struct arena *a, const struct client_tls *t, struct tls_files *f, struct err *err)
{
	struct str certs[TLS_CERTS_MAX + 1], keys[TLS_CERTS_MAX + 1], ocsp[TLS_CERTS_MAX + 1];
	unsigned n = list_take(a, t->v[TLS_N_CERTIFICATE], certs, TLS_CERTS_MAX + 1);
	unsigned n_keys = list_take(a, t->v[TLS_N_PRIVATEKEY], keys, TLS_CERTS_MAX + 1);
	unsigned n_ocsp = list_take(a, t->v[TLS_N_OCSP_FILE], ocsp, TLS_CERTS_MAX + 1);

	if (n > TLS_CERTS_MAX)
		return err_set(err, ST_ERROR, "tls_certificate: more than %d files", TLS_CERTS_MAX);
	if (n && n_keys && n_keys != n)
		return err_set(err, ST_ERROR, "tls_privatekey: %u files for the %u of tls_certificate", n_keys, n);
	for (unsigned i = 0; i < n; i++)
		f->certs[i] = (struct tls_trio){ certs[i], n_keys ? keys[i] : STR_NULL, i < n_ocsp ? format_skip(ocsp[i]) : STR_NULL };
	f->n_certs = n ? n : 1; /* the self-signed one */
	return ST_OK;
}

static void names_take(const struct client_tls *t, const struct settings *set, struct tls_options *o, struct tls_files *f)
{
	struct str anchors = str_of(t->v[TLS_N_VERIFY_CERTIFICATES]), dh = str_of(t->v[TLS_N_DHPARAM]);

	o->server = true;
	o->verify = t->flags & TLS_F_VERIFY ? TLS_VERIFY_MUST : t->flags & TLS_F_TRY_VERIFY ? TLS_VERIFY_TRY : TLS_VERIFY_NONE;
	o->tickets = t->flags & TLS_F_RESUME;
	o->ciphers = str_of(t->v[TLS_N_CIPHERS]);
	o->eccurve = str_of(t->v[TLS_N_ECCURVE]);
	o->alpn = str_of(t->v[TLS_N_ALPN]);
	o->openssl_options = set->openssl_options;
	o->dh_max_bits = set->tls_dh_max_bits;
	if (o->verify) {
		f->anchors = anchors.len ? anchors : STR_LIT("system");
		f->crl = str_of(t->v[TLS_N_CRL]);
	}
	if (str_begins(dh, "/"))
		f->dh = dh;
	else
		o->dhparam = dh;
}

/* ---- keyd, and what it is asked for ---- */

void tls_keyd_opened(struct daemon_link *link)
{
	struct smtpd *m = link->daemon->state;

	tls_keyd_open(&m->tls.keyd, link->fd);
	link->fd = -1;
}

void tls_tickets_take(struct daemon *d, struct str now, struct str before)
{
	struct smtpd *m = d->state;

	tls_shelf_tickets(&m->tls.shelf, now, before);
}

struct tls_ctx *tls_cache_get(struct smtpd *m, const struct client_tls *t, bool hello, struct err *err)
{
	struct tls_options o = { .server = true, .ask_sni = t->flags & TLS_F_SNI && !hello };
	struct tls_files f = { .n_certs = 0 };

	if (t->v[TLS_N_TROUBLE]) {
		err_set(err, ST_ERROR, "%s", t->v[TLS_N_TROUBLE]);
		return NULL;
	}
	if (tls_keyd_wanted(&m->tls.keyd))
		daemon_need_any(m->daemon, "keyd", 0);
	names_take(t, &m->server.settings, &o, &f);
	if (certs_take(&m->server.scratch, t, &f, err))
		return NULL;
	return tls_shelf_get(&m->tls.shelf, &o, &f, m->server.now_ms, err);
}

/* ---- life ---- */

void tls_cache_init(struct smtpd *m)
{
	m->tls.keyd = (struct tls_keyd)TLS_KEYD_INIT;
	tls_shelf_init(&m->tls.shelf, &m->tls.keyd);
}

void tls_cache_clear(struct smtpd *m)
{
	tls_shelf_clear(&m->tls.shelf);
	tls_keyd_close(&m->tls.keyd);
}
