/* SPDX-License-Identifier: ISC */
/* Settings of TLS with a client: names of files, ciphers and groups, and host lists. They go out with the settings of the connect stage;
 * those that name $tls_in_sni wait for the handshake, in which smtpd asks again (ASK_TLS). */
#include "policyd/policyd.h"

#include <string.h>

#include "common/lang/lang_list.h"

#define SETTING(option, kind) { #option, offsetof(struct conf_opts_main, option), kind }

enum tls_kind {
	TLS_LIST,      /* host list: yes or no */
	TLS_TEXT,
	TLS_FILES,     /* file names: what strangers say is not taken for one */
};

static const struct tls_row {
	const char *name;
	size_t offset;
	enum tls_kind kind;
} rows[] = {
	SETTING(tls_advertise_hosts, TLS_LIST),
	SETTING(tls_verify_hosts, TLS_LIST),
	SETTING(tls_try_verify_hosts, TLS_LIST),
	SETTING(tls_resumption_hosts, TLS_LIST),
	SETTING(hosts_require_alpn, TLS_LIST),
	SETTING(tls_verify_client_hostnames, TLS_LIST),
	SETTING(tls_require_ciphers, TLS_TEXT),
	SETTING(tls_eccurve, TLS_TEXT),
	SETTING(tls_alpn, TLS_TEXT),
	SETTING(tls_dhparam, TLS_FILES),
	/* these may depend on the server name that the client asks for */
	SETTING(tls_certificate, TLS_FILES),
	SETTING(tls_privatekey, TLS_FILES),
	SETTING(tls_ocsp_file, TLS_FILES),
	SETTING(tls_verify_certificates, TLS_FILES),
	SETTING(tls_crl, TLS_FILES),
};
enum { ROWS = sizeof rows / sizeof *rows, ROWS_FIXED = 10 };
_Static_assert(ROWS + 2 <= POLICYD_TLS_MAX, "settings, and two more");

struct policyd_tls {
	struct expansion *x[ROWS];
	struct lang_list *list[ROWS];
	bool sni;
};

static const struct conf_text *row_text(const struct conf *conf, size_t i)
{
	return (const struct conf_text *)(const void *)((const char *)&conf->main + rows[i].offset);
}

enum status policyd_tls_compile(struct policyd *p, struct err *err)
{
	struct policyd_tls *t = p->tls = arena_alloc(lang_arena(p->lang), sizeof *t);
	enum status st = ST_OK;

	for (size_t i = 0; !st && i < ROWS; i++) {
		const struct conf_text *text = row_text(p->conf, i);

		if (rows[i].kind == TLS_LIST)
			st = lang_list_compile(p->lang, LIST_HOST, text->text, text->place, &t->list[i], err);
		else if (text->text.len)
			st = lang_compile(p->lang, text->text, text->place, &t->x[i], err);
		if (st)
			err_prefix(err, "%s", rows[i].name);
		if (i >= ROWS_FIXED)
			t->sni |= str_find_str(text->text, STR_LIT("tls_in_sni")) >= 0 || str_find_str(text->text, STR_LIT("tls_sni")) >= 0;
	}
	return st;
}

static enum status row_run(struct policyd *p, struct eval *ev, size_t i, struct str *value, struct err *err)
{
	struct policyd_tls *t = p->tls;
	enum status st;

	*value = STR_NULL;
	if (rows[i].kind == TLS_LIST) {
		st = ev->facts->client_ip.len ? lang_client_match(ev, t->list[i], NULL, err) : ST_FAIL;
		*value = st ? STR_LIT("no") : STR_LIT("yes");
		return st == ST_FAIL ? ST_OK : st;
	}
	st = t->x[i] ? expand(ev, t->x[i], value, err) : ST_OK;
	if (st) {
		*value = STR_NULL;
		return st == ST_FAIL ? ST_OK : st; /* a forced failure: as if not set */
	}
	if (rows[i].kind == TLS_FILES && value->tainted)
		return err_set(err, ST_ERROR, "the name of the file comes from strangers (a lookup makes it harmless)");
	return ST_OK;
}

static void row_add(struct ipc_pair *v, uint32_t *n, const char *name, struct str value)
{
	v[(*n)++] = (struct ipc_pair){ .name = str_of(name), .value = value, .tainted = value.tainted };
}

bool policyd_tls_run(struct policyd *p, struct eval *ev, bool hello, struct ipc_pair *v, uint32_t *n)
{
	bool later = p->tls->sni && !hello;

	row_add(v, n, "tls_sni_wanted", later ? STR_LIT("yes") : STR_LIT("no"));
	for (size_t i = 0; i < (later ? ROWS_FIXED : ROWS); i++) {
		struct err err = ERR_INIT;
		struct str value;

		/* Without the one there is no TLS at all: the default in its place would not be what was meant. */
		if (row_run(p, ev, i, &value, &err)) {
			row_add(v, n, "tls_trouble", str_printf(ev->arena, "%s: %s", rows[i].name, err.text));
			return false;
		}
		if (value.len)
			row_add(v, n, rows[i].name, value);
	}
	return true;
}

void policyd_tls_answer(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	bool hello = false;

	for (uint32_t i = 0; i < ev->facts->n_tls; i++)
		hello |= str_is(ev->facts->tls[i].name, "sni");
	*out = (struct ipc_acl_answer){ .verdict = ACL_ACCEPT, .acl_c = ev->acl_c.v, .n_acl_c = ev->acl_c.n, .acl_m = ev->acl_m.v, .n_acl_m = ev->acl_m.n };
	out->settings = arena_alloc(ev->arena, POLICYD_TLS_MAX * sizeof *out->settings);
	policyd_tls_run(p, ev, hello, out->settings, &out->n_settings);
}
