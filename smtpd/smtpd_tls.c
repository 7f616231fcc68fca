/* SPDX-License-Identifier: ISC */
/* Contexts: one for each set of names that policyd has given, kept for as long as keyd says that the files are as they were. */
#include <stdio.h>
#include <string.h>

#include "common/conf/conf.h"
#include "smtpd/smtpd.h"

enum {
	CONTEXTS_MAX = 512,
	LOOK_MS = 1000,                  /* keyd is asked no oftener whether files have changed */
	FILES_MAX = 3,                   /* trust anchors, revoked certificates, Diffie-Hellman group */
};

/* A set of certificate, key and OCSP answer. */
struct trio {
	struct str cert, key, ocsp;
};

struct tls_entry {
	char *key;
	struct tls_ctx *ctx;
	uint64_t looked_ms, used_ms;
	uint64_t versions[TLS_CERTS_MAX + FILES_MAX];
};

/* What a context is made of, while it is made. */
struct making {
	struct smtpd *m;
	struct arena arena;
	struct tls_options o;
	struct trio trios[TLS_CERTS_MAX];
	struct str files[FILES_MAX];
	uint64_t versions[TLS_CERTS_MAX + FILES_MAX];
};

enum { FILE_ANCHORS, FILE_CRL, FILE_DH };

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

static enum status trios_take(struct making *k, const struct client_tls *t, struct err *err)
{
	struct str certs[TLS_CERTS_MAX + 1], keys[TLS_CERTS_MAX + 1], ocsp[TLS_CERTS_MAX + 1];
	unsigned n = list_take(&k->arena, t->v[TLS_N_CERTIFICATE], certs, TLS_CERTS_MAX + 1);
	unsigned n_keys = list_take(&k->arena, t->v[TLS_N_PRIVATEKEY], keys, TLS_CERTS_MAX + 1);
	unsigned n_ocsp = list_take(&k->arena, t->v[TLS_N_OCSP_FILE], ocsp, TLS_CERTS_MAX + 1);

	if (n > TLS_CERTS_MAX)
		return err_set(err, ST_ERROR, "tls_certificate: more than %d files", TLS_CERTS_MAX);
	if (n && n_keys && n_keys != n)
		return err_set(err, ST_ERROR, "tls_privatekey: %u files for the %u of tls_certificate", n_keys, n);
	for (unsigned i = 0; i < n; i++)
		k->trios[i] = (struct trio){ certs[i], n_keys ? keys[i] : STR_NULL, i < n_ocsp ? format_skip(ocsp[i]) : STR_NULL };
	k->o.n_certs = n ? n : 1; /* the self-signed one */
	return ST_OK;
}

static void names_take(struct making *k, const struct client_tls *t, const struct settings *set)
{
	struct str anchors = str_of(t->v[TLS_N_VERIFY_CERTIFICATES]), dh = str_of(t->v[TLS_N_DHPARAM]);

	k->o.server = true;
	k->o.verify = t->flags & TLS_F_VERIFY ? TLS_VERIFY_MUST : t->flags & TLS_F_TRY_VERIFY ? TLS_VERIFY_TRY : TLS_VERIFY_NONE;
	k->o.tickets = t->flags & TLS_F_RESUME;
	k->o.ciphers = str_of(t->v[TLS_N_CIPHERS]);
	k->o.eccurve = str_of(t->v[TLS_N_ECCURVE]);
	k->o.alpn = str_of(t->v[TLS_N_ALPN]);
	k->o.openssl_options = set->openssl_options;
	k->o.dh_max_bits = set->tls_dh_max_bits;
	if (k->o.verify) {
		k->files[FILE_ANCHORS] = anchors.len ? anchors : STR_LIT("system");
		k->files[FILE_CRL] = str_of(t->v[TLS_N_CRL]);
	}
	if (str_begins(dh, "/"))
		k->files[FILE_DH] = dh;
	else
		k->o.dhparam = dh;
}

/* ---- keyd ---- */

static enum status cert_fetch(struct making *k, unsigned i, struct err *err)
{
	struct tls_keyd *keyd = &k->m->tls.keyd;
	struct tls_keyd_cert cert;
	enum status st = tls_keyd_cert(keyd, &k->arena, k->trios[i].cert, k->trios[i].key, k->trios[i].ocsp, &cert, err);

	k->versions[i] = cert.version;
	k->o.certs[i] = (struct tls_cert){ .chain_pem = cert.chain_pem, .ocsp_der = cert.ocsp_der, .sign = tls_keyd_sign, .sign_ctx = keyd, .key = cert.key };
	return st;
}

static enum status file_fetch(struct making *k, unsigned i, struct err *err)
{
	struct str *const wants[] = { [FILE_ANCHORS] = &k->o.ca_pem, [FILE_CRL] = &k->o.crl_pem, [FILE_DH] = &k->o.dhparam };

	enum status st;

	if (!k->files[i].len)
		return ST_OK;
	st = tls_keyd_file(&k->m->tls.keyd, &k->arena, k->files[i], &k->versions[TLS_CERTS_MAX + i], wants[i], err);
	if (i == FILE_ANCHORS) /* their names are told for a file only (specification, tls_verify_certificates) */
		k->o.ca_names = !k->m->tls.keyd.directory && !str_is(k->files[i], "system");
	return st;
}

/* before: versions of the copies that are there already; their files are not sent again. */
static enum status all_fetch(struct making *k, const uint64_t *before, struct err *err)
{
	enum status st = ST_OK;

	for (unsigned i = 0; !st && i < k->o.n_certs; i++)
		st = cert_fetch(k, i, err);
	for (unsigned i = 0; !st && i < FILES_MAX; i++) {
		k->versions[TLS_CERTS_MAX + i] = before ? before[TLS_CERTS_MAX + i] : 0;
		st = file_fetch(k, i, err);
	}
	return st;
}

void tls_keyd_opened(struct daemon_link *link)
{
	struct smtpd *m = link->daemon->state;

	tls_keyd_open(&m->tls.keyd, link->fd);
	link->fd = -1;
}

/* ---- the contexts ---- */

static void entry_free(struct tls_entry *e)
{
	tls_ctx_unref(e->ctx);
	mem_free(e->key);
	mem_free(e);
}

static void entries_drop(struct tls_cache *cache)
{
	struct tls_entry *e;
	uint32_t pos = 0;

	while ((e = hash_next(&cache->by_key, &pos, NULL))) {
		hash_remove(&cache->by_key, str_of(e->key));
		entry_free(e);
	}
}

static void entries_shrink(struct tls_cache *cache)
{
	struct tls_entry *e, *oldest = NULL;
	uint32_t pos = 0;

	if (cache->by_key.used < CONTEXTS_MAX)
		return;
	while ((e = hash_next(&cache->by_key, &pos, NULL)))
		if (!oldest || e->used_ms < oldest->used_ms)
			oldest = e;
	hash_remove(&cache->by_key, str_of(oldest->key));
	entry_free(oldest);
}

static void tickets_give(const struct tls_cache *cache, struct tls_ctx *ctx)
{
	if (cache->tickets_made)
		tls_ctx_ticket_keys(ctx, cache->tickets[0], cache->tickets_before ? cache->tickets[1] : NULL);
}

void tls_tickets_take(struct daemon *d, struct str now, struct str before)
{
	struct smtpd *m = d->state;
	struct tls_cache *cache = &m->tls;
	struct tls_entry *e;
	uint32_t pos = 0;

	if (now.len != TLS_TICKET_KEY || (before.len && before.len != TLS_TICKET_KEY))
		return;
	memcpy(cache->tickets[0], now.p, TLS_TICKET_KEY);
	cache->tickets_made = true;
	cache->tickets_before = before.len > 0;
	if (before.len)
		memcpy(cache->tickets[1], before.p, TLS_TICKET_KEY);
	while ((e = hash_next(&cache->by_key, &pos, NULL)))
		tickets_give(cache, e->ctx);
}

static const char *key_make(struct arena *a, const struct client_tls *t, bool hello)
{
	struct buf b = BUF_INIT;
	const char *key;

	buf_printf(&b, "%x %d", (unsigned)(t->flags & (TLS_F_VERIFY | TLS_F_TRY_VERIFY | TLS_F_RESUME | TLS_F_SNI)), hello);
	for (size_t i = 0; i < TLS_NAMES; i++)
		buf_printf(&b, "\n%s", t->v[i] ? t->v[i] : "");
	key = arena_strdup(a, buf_cstr(&b));
	buf_clear(&b);
	return key;
}

static enum status making_begin(struct making *k, const struct client_tls *t, bool hello, struct err *err)
{
	names_take(k, t, &k->m->server.settings);
	k->o.ask_sni = t->flags & TLS_F_SNI && !hello;
	return trios_take(k, t, err);
}

static bool entry_fresh(struct smtpd *m, struct tls_entry *e, const struct client_tls *t, bool hello)
{
	struct making k = { .m = m };
	struct err err = ERR_INIT;
	bool same;

	if (m->server.now_ms < e->looked_ms + LOOK_MS)
		return true;
	e->looked_ms = m->server.now_ms;
	/* Trouble with a file that was fine is keyd's to tell; what is here serves on. */
	same = making_begin(&k, t, hello, &err) || all_fetch(&k, e->versions, &err) || !memcmp(k.versions, e->versions, sizeof k.versions);
	arena_clear(&k.arena);
	return same;
}

static struct tls_entry *entry_make(struct smtpd *m, const struct client_tls *t, bool hello, struct err *err)
{
	struct making k = { .m = m };
	struct tls_ctx *ctx = NULL;
	struct tls_entry *e = NULL;

	if (!making_begin(&k, t, hello, err) && !all_fetch(&k, NULL, err) && !tls_ctx_new(&k.o, &ctx, err)) {
		e = mem_new(sizeof *e);
		e->ctx = ctx;
		e->looked_ms = m->server.now_ms;
		memcpy(e->versions, k.versions, sizeof e->versions);
		tickets_give(&m->tls, ctx);
	}
	arena_clear(&k.arena);
	return e;
}

struct tls_ctx *tls_cache_get(struct smtpd *m, const struct client_tls *t, bool hello, struct err *err)
{
	struct tls_cache *cache = &m->tls;
	const char *key = key_make(&m->server.scratch, t, hello);
	struct tls_entry *e;

	if (t->v[TLS_N_TROUBLE]) {
		err_set(err, ST_ERROR, "%s", t->v[TLS_N_TROUBLE]);
		return NULL;
	}
	if (tls_keyd_wanted(&cache->keyd))
		daemon_need_any(m->daemon, "keyd", 0);
	if (cache->opened != cache->keyd.opened)
		entries_drop(cache);
	cache->opened = cache->keyd.opened;
	e = hash_get(&cache->by_key, str_of(key));
	if (e && !entry_fresh(m, e, t, hello)) {
		hash_remove(&cache->by_key, str_of(e->key));
		entry_free(e);
		e = NULL;
	}
	if (!e) {
		entries_shrink(cache);
		e = entry_make(m, t, hello, err);
		if (!e)
			return NULL;
		e->key = mem_strdup(key);
		hash_put(&cache->by_key, str_of(e->key), e);
	}
	e->used_ms = m->server.now_ms;
	return e->ctx;
}

/* ---- life ---- */

void tls_cache_init(struct smtpd *m)
{
	m->tls.keyd = (struct tls_keyd)TLS_KEYD_INIT;
}

void tls_cache_clear(struct smtpd *m)
{
	entries_drop(&m->tls);
	hash_clear(&m->tls.by_key);
	tls_keyd_close(&m->tls.keyd);
	explicit_bzero(m->tls.tickets, sizeof m->tls.tickets);
}
