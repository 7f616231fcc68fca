/* SPDX-License-Identifier: ISC */
#include "common/tls/tls_shelf.h"

#include <string.h>

enum { FILE_ANCHORS, FILE_CRL, FILE_DH, FILES };

struct tls_entry {
	struct str key;
	struct tls_ctx *ctx;
	uint64_t looked_ms, used_ms;
	uint64_t versions[TLS_CERTS_MAX + FILES];
};

/* What a context is made of, while it is made. */
struct making {
	struct tls_keyd *keyd;
	const struct tls_files *f;
	struct tls_options o;
	struct arena arena;
	uint64_t versions[TLS_CERTS_MAX + FILES];
};

/* ---- keyd ---- */

static enum status cert_fetch(struct making *k, unsigned i, struct err *err)
{
	const struct tls_trio *t = &k->f->certs[i];
	struct tls_keyd_cert cert;
	enum status st = tls_keyd_cert(k->keyd, &k->arena, t->cert, t->key, t->ocsp, &cert, err);

	k->versions[i] = cert.version;
	k->o.certs[i] = (struct tls_cert){ .chain_pem = cert.chain_pem, .ocsp_der = cert.ocsp_der, .sign = tls_keyd_sign, .sign_ctx = k->keyd, .key = cert.key };
	return st;
}

static enum status file_fetch(struct making *k, unsigned i, struct err *err)
{
	const struct str files[] = { [FILE_ANCHORS] = k->f->anchors, [FILE_CRL] = k->f->crl, [FILE_DH] = k->f->dh };
	struct str *const wants[] = { [FILE_ANCHORS] = &k->o.ca_pem, [FILE_CRL] = &k->o.crl_pem, [FILE_DH] = &k->o.dhparam };
	enum status st;

	if (!files[i].len)
		return ST_OK;
	st = tls_keyd_file(k->keyd, &k->arena, files[i], &k->versions[TLS_CERTS_MAX + i], wants[i], err);
	if (i == FILE_ANCHORS) /* their names are told for a file only (specification, tls_verify_certificates) */
		k->o.ca_names = !k->keyd->directory && !str_is(files[i], "system");
	return st;
}

/* before: versions of the copies that are there already; their files are not sent again. */
static enum status all_fetch(struct making *k, const uint64_t *before, struct err *err)
{
	enum status st = ST_OK;

	for (unsigned i = 0; !st && i < k->f->n_certs && i < TLS_CERTS_MAX; i++)
		st = cert_fetch(k, i, err);
	for (unsigned i = 0; !st && i < FILES; i++) {
		k->versions[TLS_CERTS_MAX + i] = before ? before[TLS_CERTS_MAX + i] : 0;
		st = file_fetch(k, i, err);
	}
	k->o.n_certs = k->f->n_certs;
	return st;
}

/* ---- entries ---- */

static void entry_free(struct tls_entry *e)
{
	tls_ctx_unref(e->ctx);
	mem_free((void *)(uintptr_t)e->key.p);
	mem_free(e);
}

static void entry_drop(struct tls_shelf *s, struct tls_entry *e)
{
	hash_remove(&s->by_key, e->key);
	entry_free(e);
}

static void entries_drop(struct tls_shelf *s)
{
	struct tls_entry *e;
	uint32_t pos = 0;

	while ((e = hash_next(&s->by_key, &pos, NULL)))
		entry_drop(s, e);
}

static void entries_shrink(struct tls_shelf *s)
{
	struct tls_entry *e, *oldest = NULL;
	uint32_t pos = 0;

	if (s->by_key.used < TLS_SHELF_MAX)
		return;
	while ((e = hash_next(&s->by_key, &pos, NULL)))
		if (!oldest || e->used_ms < oldest->used_ms)
			oldest = e;
	entry_drop(s, oldest);
}

static void tickets_give(const struct tls_shelf *s, struct tls_ctx *ctx)
{
	if (s->tickets_made)
		tls_ctx_ticket_keys(ctx, s->tickets[0], s->tickets_before ? s->tickets[1] : NULL);
}

static void key_text(struct buf *b, struct str text)
{
	buf_printf(b, " %u:", (unsigned)text.len);
	buf_add_str(b, text);
}

/* All that a context is made of but the content of files. */
static void key_make(struct buf *b, const struct tls_options *o, const struct tls_files *f)
{
	const struct str texts[] = {
		o->ciphers, o->eccurve, o->dhparam, o->openssl_options, o->alpn, o->ca_pem, o->ca_path, o->crl_pem, f->anchors, f->crl, f->dh,
	};

	buf_printf(b, "%d %d %d %d %d %u", o->server, o->verify, o->tickets, o->ask_sni, o->ca_system, o->dh_max_bits);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		key_text(b, texts[i]);
	for (unsigned i = 0; i < f->n_certs; i++) {
		key_text(b, f->certs[i].cert);
		key_text(b, f->certs[i].key);
		key_text(b, f->certs[i].ocsp);
	}
}

static bool entry_fresh(struct tls_shelf *s, struct tls_entry *e, const struct tls_options *o, const struct tls_files *f, uint64_t now_ms)
{
	struct making k = { .keyd = s->keyd, .f = f, .o = *o };
	struct err err = ERR_INIT;
	bool same;

	if (now_ms < e->looked_ms + TLS_SHELF_LOOK_MS)
		return true;
	e->looked_ms = now_ms;
	same = all_fetch(&k, e->versions, &err) || !memcmp(k.versions, e->versions, sizeof k.versions);
	arena_clear(&k.arena);
	return same;
}

static struct tls_entry *entry_make(struct tls_shelf *s, const struct tls_options *o, const struct tls_files *f, struct err *err)
{
	struct making k = { .keyd = s->keyd, .f = f, .o = *o };
	struct tls_ctx *ctx = NULL;
	struct tls_entry *e = NULL;

	if (!all_fetch(&k, NULL, err) && !tls_ctx_new(&k.o, &ctx, err)) {
		e = mem_new(sizeof *e);
		e->ctx = ctx;
		memcpy(e->versions, k.versions, sizeof e->versions);
		if (o->server)
			tickets_give(s, ctx);
	}
	arena_clear(&k.arena);
	return e;
}

/* ---- the shelf ---- */

struct tls_ctx *tls_shelf_get(struct tls_shelf *s, const struct tls_options *o, const struct tls_files *f, uint64_t now_ms, struct err *err)
{
	struct buf key = BUF_INIT;
	struct tls_entry *e;

	if (s->opened != s->keyd->opened) /* another keyd: it knows none of the keys' numbers */
		entries_drop(s);
	s->opened = s->keyd->opened;
	key_make(&key, o, f);
	e = hash_get(&s->by_key, buf_str(&key));
	if (e && !entry_fresh(s, e, o, f, now_ms)) {
		entry_drop(s, e);
		e = NULL;
	}
	if (!e && (e = entry_make(s, o, f, err))) {
		entries_shrink(s);
		e->looked_ms = now_ms;
		e->key = str_make(mem_memdup(key.p, key.len), key.len);
		hash_put(&s->by_key, e->key, e);
	}
	buf_clear(&key);
	if (!e)
		return NULL;
	e->used_ms = now_ms;
	return e->ctx;
}

void tls_shelf_tickets(struct tls_shelf *s, struct str now, struct str before)
{
	struct tls_entry *e;
	uint32_t pos = 0;

	if (now.len != TLS_TICKET_KEY || (before.len && before.len != TLS_TICKET_KEY))
		return;
	memcpy(s->tickets[0], now.p, TLS_TICKET_KEY);
	s->tickets_made = true;
	s->tickets_before = before.len > 0;
	if (before.len)
		memcpy(s->tickets[1], before.p, TLS_TICKET_KEY);
	while ((e = hash_next(&s->by_key, &pos, NULL)))
		tickets_give(s, e->ctx);
}

void tls_shelf_init(struct tls_shelf *s, struct tls_keyd *keyd)
{
	*s = (struct tls_shelf){ .keyd = keyd };
}

void tls_shelf_clear(struct tls_shelf *s)
{
	entries_drop(s);
	hash_clear(&s->by_key);
	explicit_bzero(s->tickets, sizeof s->tickets);
}
