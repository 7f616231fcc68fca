/* SPDX-License-Identifier: ISC */
/* route_auth.c - how smtp-out is to authenticate: the client's options of the authenticators, compiled at load, expanded for each plan of
 * a transport that has hosts_try_auth or hosts_require_auth (specification, section 33.5).
 *
 * They are expanded once for a plan, with $host and $host_address of its first host. What the server says can't be known here: $auth1 to
 * $auth3 are empty in client_send, and client_condition is asked twice, with $tls_out_cipher empty and set. */
#include <string.h>

#include "router/route.h"
#include "router/site_impl.h"

enum { SEND_MAX = 16 /* as messages.def has it */, AUTHS_MAX = 16 };

/* ---- at load ---- */

/* Unlike in other lists an empty string counts: with the first one empty nothing goes along with AUTH. */
static enum status strings_make(struct site *site, const struct conf_text *t, struct site_texts *out, struct err *err)
{
	struct conf_list_walk walk = CONF_LIST_WALK(t->text);
	struct conf_text item = { .place = t->place, .set = true };

	out->v = arena_alloc(&site->arena, SEND_MAX * sizeof *out->v);
	while (conf_list_next(&walk, &site->arena, &item.text)) {
		if (out->n == SEND_MAX)
			return err_set(err, ST_ERROR, "client_send: more than %d strings", SEND_MAX);
		if (item.text.len && site_text(site, &item, &out->v[out->n], err))
			return err->status;
		out->n++;
	}
	return ST_OK;
}

static enum status client_make(struct site *site, const struct conf_instance *conf, struct site_auth *out, bool *is_client, struct err *err)
{
	const struct conf_opts_authenticator_plaintext *plaintext = CONF_OWN(conf, authenticator_plaintext);
	const struct conf_opts_authenticator_cram_md5 *cram = CONF_OWN(conf, authenticator_cram_md5);
	const struct conf_opts_authenticator_external *external = CONF_OWN(conf, authenticator_external);
	const struct conf_opts_authenticator_gsasl *gsasl = CONF_OWN(conf, authenticator_gsasl);
	enum status st = ST_OK;

	*is_client = true;
	if (plaintext && plaintext->client_send.set) {
		out->ignore_base64 = plaintext->client_ignore_invalid_base64;
		return strings_make(site, &plaintext->client_send, &out->send, err);
	}
	if (cram && cram->client_secret.set) {
		out->send.v = arena_alloc(&site->arena, 2 * sizeof *out->send.v);
		out->send.n = 2;
		st = site_text(site, &cram->client_name, &out->send.v[0], err);
		return st ? st : site_text(site, &cram->client_secret, &out->send.v[1], err);
	}
	if (external && external->client_send.set) {
		out->send.v = arena_alloc(&site->arena, sizeof *out->send.v);
		out->send.n = 1;
		return site_text(site, &external->client_send, &out->send.v[0], err);
	}
	if (gsasl && gsasl->client_password.set) {
		out->send.v = arena_alloc(&site->arena, 3 * sizeof *out->send.v);
		out->send.n = 3;
		st = site_text(site, &gsasl->client_username, &out->send.v[0], err);
		if (!st)
			st = site_text(site, &gsasl->client_password, &out->send.v[1], err);
		return st ? st : site_text(site, &gsasl->client_authz, &out->send.v[2], err);
	}
	*is_client = false;
	return ST_OK;
}

enum status site_auths_make(struct site *site, const struct conf *conf, struct err *err)
{
	const struct conf_instances *all = &conf->of[CONF_AUTHENTICATORS];

	site->auths = arena_alloc(&site->arena, (all->n + 1) * sizeof *site->auths);
	for (uint32_t i = 0; i < all->n; i++) {
		struct site_auth *a = &site->auths[site->n_auths];
		const struct conf_opts_authenticator *o = CONF_AUTHENTICATOR(&all->v[i]);
		bool is_client;

		if (client_make(site, &all->v[i], a, &is_client, err))
			return err_prefix(err, "authenticator %.*s", STR_FMT(all->v[i].name));
		if (!is_client)
			continue;
		a->conf = &all->v[i];
		a->mechanism = o->public_name.text.len ? o->public_name.text : all->v[i].name;
		if (site_text(site, &o->client_condition, &a->condition, err) || site_text(site, &o->client_set_id, &a->set_id, err))
			return err_prefix(err, "authenticator %.*s", STR_FMT(all->v[i].name));
		site->n_auths++;
	}
	return ST_OK;
}

/* ---- for a plan ---- */

/* Single circumflexes become NULs, doubled ones circumflexes (specification, section 34.7). */
static struct str circumflexes(struct arena *a, struct str s)
{
	char *v = arena_alloc(a, s.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.len; i++) {
		bool two = s.p[i] == '^' && i + 1 < s.len && s.p[i + 1] == '^';

		v[n++] = s.p[i] == '^' && !two ? '\0' : s.p[i];
		i += two;
	}
	return str_make(v, n);
}

static enum status condition_ask(struct route *rt, const struct site_auth *sa, const char *cipher, bool *out, struct err *err)
{
	struct str text;
	enum status st;

	*out = true;
	if (!sa->condition)
		return ST_OK;
	eval_set(rt->ev, EV_tls_out_cipher, str_of(cipher));
	st = route_expand(rt, sa->condition, &text, err);
	eval_set(rt->ev, EV_tls_out_cipher, STR_NULL);
	text = str_trim(text);
	*out = st == ST_OK && !str_is(text, "0") && !str_isi(text, "no") && !str_isi(text, "false") && text.len;
	return st == ST_FAIL ? ST_OK : st;
}

/* ST_FAIL: an expansion was forced to fail, the next authenticator is to be tried. */
static enum status auth_expand(struct route *rt, const struct site_auth *sa, struct ipc_client_auth *out, struct err *err)
{
	bool circumflex = CONF_OWN(sa->conf, authenticator_plaintext) != NULL;
	enum status st;

	st = condition_ask(rt, sa, NULL, &out->clear, err);
	if (!st)
		st = condition_ask(rt, sa, "TLS", &out->tls, err);
	if (st)
		return err_prefix(err, "client_condition");
	if (!out->clear && !out->tls)
		return ST_FAIL;
	out->send.v = arena_alloc(rt->a, (sa->send.n + 1) * sizeof *out->send.v);
	for (uint32_t i = 0; i < sa->send.n; i++) {
		struct str text = STR_NULL;

		if (sa->send.v[i] && (st = route_expand(rt, sa->send.v[i], &text, err)) != ST_OK)
			return st == ST_FAIL ? st : err_prefix(err, "client_send");
		out->send.v[out->send.n++] = circumflex ? circumflexes(rt->a, text) : text;
	}
	if (sa->set_id && route_expand(rt, sa->set_id, &out->id, err) != ST_OK) {
		out->id = STR_NULL; /* for the log only */
		err_clear(err);
	}
	out->id = str_sub(out->id, 0, 1024);
	return ST_OK;
}

static void identity_add(struct buf *identity, struct str s)
{
	buf_printf(identity, "\n%u:", s.len);
	buf_add_str(identity, s);
}

static bool is_wanted(const struct ipc_plan *plan, bool *forced)
{
	bool wanted = *forced = false;

	for (uint32_t i = 0; i < plan->n_options; i++) {
		wanted |= str_is(plan->options[i].name, "hosts_try_auth") || str_is(plan->options[i].name, "hosts_require_auth");
		*forced |= str_is(plan->options[i].name, "authenticated_sender_force") && str_is(plan->options[i].value, "true");
	}
	return wanted;
}

enum status route_auth(struct route *rt, const struct site_transport *t, struct ipc_plan *plan, struct buf *identity, struct err *err)
{
	const struct site *site = rt->site;
	bool forced, wanted = t->smtp && is_wanted(plan, &forced);
	enum status st;

	if (!t->smtp || (!wanted && !forced) || !plan->n_hosts)
		return ST_OK;
	eval_set(rt->ev, EV_host, plan->hosts[0].name);
	eval_set(rt->ev, EV_host_address, plan->hosts[0].ip);
	plan->auth = arena_alloc(rt->a, AUTHS_MAX * sizeof *plan->auth);
	for (uint32_t i = 0; wanted && i < site->n_auths && plan->n_auth < AUTHS_MAX; i++) {
		const struct site_auth *sa = &site->auths[i];
		struct ipc_client_auth *a = &plan->auth[plan->n_auth];
		struct err why = ERR_INIT;

		*a = (struct ipc_client_auth){ .name = sa->conf->name, .driver = str_of(sa->conf->driver->name), .mechanism = sa->mechanism,
			.ignore_base64 = sa->ignore_base64 };
		st = auth_expand(rt, sa, a, &why);
		if (st == ST_FAIL)
			continue;
		if (st) {
			a->send.n = 0;
			a->clear = a->tls = true;
			a->failed = str_sub(str_dup(rt->a, str_of(why.text)), 0, 512);
		}
		plan->n_auth++;
		identity_add(identity, a->name);
		for (uint32_t k = 0; k < a->send.n; k++) /* other credentials, another connection */
			identity_add(identity, a->send.v[k]);
	}
	plan->auth_sender = str_taint(rt->facts->auth_sender);
	if (t->auth_sender) {
		struct str text;

		st = route_expand(rt, t->auth_sender, &text, err);
		if (st != ST_OK && st != ST_FAIL)
			return err_prefix(err, "authenticated_sender");
		if (st == ST_OK && text.len)
			plan->auth_sender = text;
		else
			forced = false;
	}
	plan->auth_sender = str_sub(plan->auth_sender, 0, 1024);
	plan->has_auth_sender = plan->auth_sender.len > 0 && (wanted || (forced && t->auth_sender));
	identity_add(identity, plan->auth_sender);
	return ST_OK;
}
