/* SPDX-License-Identifier: ISC */
/* What can be known of a configuration as a whole: references, relations between options, surprising settings. */
#include "common/conf/command.h"
#include "common/conf/hints_url.h"
#include "common/conf/dscp.h"
#include "common/conf/listen.h"
#include "common/conf/log_selector.h"
#include "common/conf/proxies.h"
#include "common/conf/reader.h"
#include "common/conf/slowing.h"

#include <string.h>

struct check {
	struct conf *conf;
	const struct conf_checks *above;
	struct arena scratch;
	bool *transport_used;
};

/* ---- every option of every table ---- */

/* A text option and whose it is ("router dnslookup1", "" for main). */
typedef void text_visit(struct check *c, const struct conf_option *o, const char *owner, const struct conf_text *text);

static void table_visit(struct check *c, const struct conf_table *table, const void *opts, const char *owner, text_visit *visit)
{
	for (const struct conf_option *o = table->rows; o->name; o++) {
		const void *field = conf_field(o, opts);
		const struct conf_texts *all = field;
		if (o->offset == CONF_NO_FIELD || o->kind < CONF_TEXT)
			continue;
		if (!(o->flags & F_REPEAT) && ((const struct conf_text *)field)->text.p)
			visit(c, o, owner, field);
		for (uint32_t i = 0; o->flags & F_REPEAT && i < all->n; i++)
			visit(c, o, owner, &all->v[i]);
	}
}

static void all_visit(struct check *c, text_visit *visit)
{
	table_visit(c, &conf_table_main, &c->conf->main, "", visit);
	for (unsigned class = 0; class < CONF_CLASSES; class++)
		for (uint32_t i = 0; i < c->conf->of[class].n; i++) {
			const struct conf_instance *in = &c->conf->of[class].v[i];
			const char *owner = arena_printf(&c->scratch, "%s %.*s", conf_class_name((enum conf_class)class), STR_FMT(in->name));
			table_visit(c, conf_class_table((enum conf_class)class), in->generic, owner, visit);
			if (in->driver)
				table_visit(c, in->driver->table, in->own, owner, visit);
		}
}

/* ---- references ---- */

static bool is_literal(struct str s)
{
	return s.len && str_find(s, '$') < 0 && str_find(s, '\\') < 0;
}

static const char *instance_nearest(const struct conf *conf, enum conf_class class, struct str name)
{
	char word[65];
	struct conf_nearest near;

	conf_nearest_begin(&near, word, sizeof word, name);
	for (uint32_t i = 0; i < conf->of[class].n; i++)
		conf_nearest_pick(&near, conf->of[class].v[i].name.p);
	return near.found;
}

static const char *owner_prefix(struct check *c, const char *owner)
{
	return *owner ? arena_printf(&c->scratch, "%s: ", owner) : "";
}

static void instance_refer(struct check *c, enum conf_class class, const struct conf_option *o, const char *owner, const struct conf_text *text)
{
	const struct conf_instance *found = conf_instance_find(c->conf, class, text->text);

	if (found && class == CONF_TRANSPORTS)
		c->transport_used[found->index] = true;
	if (!found)
		conf_problem_add(c->conf, CONF_ERROR, text->place, "%soption \"%s\": %s \"%.*s\" is not defined%s", owner_prefix(c, owner), o->name,
			conf_class_name(class), STR_FMT(text->text), conf_hint(c->conf, instance_nearest(c->conf, class, text->text)));
}

/* An ACL option holds a name, a file, or an ACL in line. */
static void acl_refer(struct check *c, const struct conf_option *o, const char *owner, const struct conf_text *text)
{
	struct str s = str_trim(text->text), rest = s;
	struct conf_acl inline_acl;
	struct err err = ERR_INIT;
	struct conf_nearest near;
	char word[65];

	if (*s.p == '/' || conf_acl_find(c->conf, s))
		return;
	(void)conf_name_take(&rest);
	if (conf_acl_parse(c->conf, &c->scratch, s, text->place, &inline_acl, &err) == ST_OK)
		return;
	if (rest.len && *rest.p != '-') {
		conf_problem_add(c->conf, CONF_ERROR, text->place, "%soption \"%s\": %s", owner_prefix(c, owner), o->name, err.text);
		return;
	}
	conf_nearest_begin(&near, word, sizeof word, s);
	for (uint32_t i = 0; i < c->conf->n_acls; i++)
		conf_nearest_pick(&near, c->conf->acls[i].name.p);
	conf_problem_add(c->conf, CONF_ERROR, text->place, "%soption \"%s\": ACL \"%s\" is not defined%s", owner_prefix(c, owner), o->name, word,
		conf_hint(c->conf, near.found));
}

static const char *const list_words[CONF_LIST_KINDS] = {
	[CONF_LIST_DOMAIN] = "domain list", [CONF_LIST_HOST] = "host list", [CONF_LIST_ADDRESS] = "address list",
	[CONF_LIST_LOCALPART] = "local part list",
};

/* "+name" in a list of that kind; what is no list at all is told apart by the specification, sections 10.14 and 10.20. */
static void list_refer(struct check *c, enum conf_list_kind kind, const char *where, const struct conf_text *text)
{
	static const char *const magic[] = { "include_unknown", "ignore_unknown", "include_defer", "ignore_defer", "caseful" };
	struct conf_list_walk walk = CONF_LIST_WALK(text->text);
	struct conf_nearest near;
	char word[65];
	struct str item;

	if (!is_literal(text->text))
		return;
	while (conf_list_next(&walk, &c->scratch, &item)) {
		bool known = false;
		if (item.len && *item.p == '!')
			item = str_trim(str_from(item, 1));
		if (!item.len || *item.p != '+')
			continue;
		item = str_from(item, 1);
		for (unsigned i = 0; i < sizeof magic / sizeof *magic; i++)
			known |= str_is(item, magic[i]);
		if (known || conf_list_find(c->conf, kind, item))
			continue;
		conf_nearest_begin(&near, word, sizeof word, item);
		for (uint32_t i = 0; i < c->conf->n_lists; i++)
			if (c->conf->lists[i].kind == kind)
				conf_nearest_pick(&near, c->conf->lists[i].name.p);
		conf_problem_add(c->conf, CONF_ERROR, text->place, "%s: %s \"+%s\" is not defined%s", where, list_words[kind], word,
			conf_hint(c->conf, near.found));
	}
}

static bool list_kind_of(enum conf_kind kind, enum conf_list_kind *out)
{
	if (kind < CONF_DOMAINS || kind > CONF_LOCALS)
		return false;
	*out = (enum conf_list_kind)(kind - CONF_DOMAINS);
	return true;
}
_Static_assert(CONF_LOCALS - CONF_DOMAINS == (int)CONF_LIST_LOCALPART && CONF_HOSTS - CONF_DOMAINS == (int)CONF_LIST_HOST &&
	CONF_ADDRS - CONF_DOMAINS == (int)CONF_LIST_ADDRESS, "list_kind_of() counts on the order");

static void text_refer(struct check *c, const struct conf_option *o, const char *owner, const struct conf_text *text)
{
	enum conf_list_kind kind;

	if (list_kind_of(o->kind, &kind))
		list_refer(c, kind, arena_printf(&c->scratch, "%soption \"%s\"", owner_prefix(c, owner), o->name), text);
	if (is_literal(text->text)) {
		if (o->flags & F_TRANSPORT)
			instance_refer(c, CONF_TRANSPORTS, o, owner, text);
		if (o->flags & F_NAMED_ROUTER)
			instance_refer(c, CONF_ROUTERS, o, owner, text);
		if (o->flags & F_ACL && str_trim(text->text).len)
			acl_refer(c, o, owner, text);
	} else if (o->flags & F_TRANSPORT && text->text.len) {
		memset(c->transport_used, true, c->conf->of[CONF_TRANSPORTS].n); /* which, is known only at run time */
	}
}

static void acl_lists_refer(struct check *c, const struct conf_acl *acl)
{
	static const struct {
		const char *name;
		enum conf_list_kind kind;
	} rows[] = {
		{ "domains", CONF_LIST_DOMAIN }, { "sender_domains", CONF_LIST_DOMAIN }, { "hosts", CONF_LIST_HOST },
		{ "senders", CONF_LIST_ADDRESS }, { "recipients", CONF_LIST_ADDRESS }, { "local_parts", CONF_LIST_LOCALPART },
	};

	for (uint32_t i = 0; i < acl->n; i++)
		for (uint32_t k = 0; k < acl->statements[i].n; k++)
			for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++) {
				const struct conf_acl_item *item = &acl->statements[i].items[k];
				if (str_is(item->name, rows[r].name))
					list_refer(c, rows[r].kind, arena_printf(&c->scratch, "ACL %.*s: \"%s\"", STR_FMT(acl->name), rows[r].name), &item->value);
			}
}

static void references_check(struct check *c)
{
	for (uint32_t i = 0; i < c->conf->n_lists; i++)
		list_refer(c, c->conf->lists[i].kind, arena_printf(&c->scratch, "named list \"%.*s\"", STR_FMT(c->conf->lists[i].name)),
			&c->conf->lists[i].value);
	for (uint32_t i = 0; i < c->conf->n_acls; i++)
		acl_lists_refer(c, &c->conf->acls[i]);
	all_visit(c, text_refer);
}

/* ---- routers and transports ---- */

static void queryprogram_check(struct check *c, const struct conf_instance *r, const struct conf_opts_router_queryprogram *o)
{
	struct err err = ERR_INIT;
	struct str user = str_trim(o->command_user.text);
	struct command_words words;
	uint64_t uid;

	if (c->transport_used)
		memset(c->transport_used, true, c->conf->of[CONF_TRANSPORTS].n); /* the program may name any */
	if (!str_trim(o->command.text).len)
		conf_problem_add(c->conf, CONF_ERROR, r->place, "router %.*s: command must be set", STR_FMT(r->name));
	else if (command_split(o->command.text, &c->scratch, &words, &err) != ST_OK)
		conf_problem_add(c->conf, CONF_ERROR, o->command.place, "router %.*s: option \"command\": %s", STR_FMT(r->name), err.text);
	else if (words.v[0].p[0] != '/' || str_find(words.v[0], '$') >= 0)
		conf_problem_add(c->conf, CONF_ERROR, o->command.place,
			"router %.*s: option \"command\": the program must be written out, as an absolute path", STR_FMT(r->name));
	if (!user.len)
		conf_problem_add(c->conf, CONF_ERROR, r->place, "router %.*s: command_user must be set", STR_FMT(r->name));
	else if (str_find(user, '$') >= 0)
		conf_problem_add(c->conf, CONF_ERROR, o->command_user.place, "router %.*s: option \"command_user\" is not expanded: write the login",
			STR_FMT(r->name));
	else if (str_u64(user, UINT32_MAX, &uid) && !o->command_group.text.len)
		conf_problem_add(c->conf, CONF_ERROR, o->command_user.place, "router %.*s: command_user is a number, so command_group must be set",
			STR_FMT(r->name));
}

static void router_check(struct check *c, const struct conf_instance *r)
{
	const struct conf_opts_router *g = r->generic;
	const struct conf_opts_router_manualroute *manual = CONF_OWN(r, router_manualroute);
	const struct conf_opts_router_redirect *redirect = CONF_OWN(r, router_redirect);
	const struct conf_opts_router_queryprogram *query = CONF_OWN(r, router_queryprogram);
	const struct conf_instance *pass = g->pass_router.text.len ? conf_instance_find(c->conf, CONF_ROUTERS, g->pass_router.text) : NULL;

	if (pass && pass->index <= r->index)
		conf_problem_add(c->conf, CONF_ERROR, g->pass_router.place, "router %.*s: option \"pass_router\": router \"%.*s\" must stand below this one",
			STR_FMT(r->name), STR_FMT(pass->name));
	if (query)
		queryprogram_check(c, r, query);
	if (!redirect && !manual && !query && !g->transport.text.len && !g->verify_only && !g->fail_verify)
		conf_problem_add(c->conf, CONF_ERROR, r->place, "router %.*s: has no transport: it needs \"transport = ...\", or verify_only",
			STR_FMT(r->name));
	if (redirect && g->transport.set)
		conf_problem_add(c->conf, CONF_ERROR, g->transport.place,
			"router %.*s: a redirect router has no transport; for files and pipes there are file_transport and others", STR_FMT(r->name));
	if (redirect && redirect->data.set == redirect->file.set)
		conf_problem_add(c->conf, CONF_ERROR, r->place, "router %.*s: %s of data and file must be set", STR_FMT(r->name),
			redirect->data.set ? "only one" : "one");
	if (manual && manual->route_list.set == manual->route_data.set)
		conf_problem_add(c->conf, CONF_ERROR, r->place, "router %.*s: %s of route_list and route_data must be set", STR_FMT(r->name),
			manual->route_list.set ? "only one" : "one");
	if (!c->transport_used || !manual || !(manual->route_list.set || manual->route_data.set))
		return;
	for (uint32_t i = 0; i < c->conf->of[CONF_TRANSPORTS].n; i++) /* a route may name its transport */
		c->transport_used[i] |= str_find_str(manual->route_list.set ? manual->route_list.text : manual->route_data.text,
			c->conf->of[CONF_TRANSPORTS].v[i].name) >= 0;
}

static bool is_true(struct str s)
{
	return str_is(s, "true") || str_is(s, "yes") || str_find(s, '$') >= 0; /* perhaps */
}

static bool is_false(struct str s)
{
	return str_is(s, "false") || str_is(s, "no");
}

/* Takes every address that comes by, and keeps it: nothing below is reached while `only` leaves it alone. */
static bool router_is_end(const struct conf_instance *r)
{
	const struct conf_opts_router *g = r->generic;
	bool conditions = g->domains.text.len || g->local_parts.text.len || g->senders.text.len || g->condition.n || g->require_files.text.len ||
		g->check_local_user || g->local_part_prefix.text.len || g->local_part_suffix.text.len || g->verify_only || !g->address_test || !g->expn ||
		!g->verify_recipient || !g->verify_sender;
	bool takes_all = str_is(str_of(r->driver->name), "accept") && g->transport.text.len;

	return !conditions && !is_true(g->unseen.text) && !g->pass_router.text.len && (takes_all || is_false(g->more.text));
}

static void routers_reach_check(struct check *c)
{
	const struct conf_instances *all = &c->conf->of[CONF_ROUTERS];
	uint32_t end = 0;

	while (end < all->n && !(all->v[end].driver && router_is_end(&all->v[end])))
		end++;
	for (uint32_t i = end + 1; i < all->n; i++) {
		bool named = false;

		for (uint32_t k = 0; k < all->n && !named; k++) {
			const struct conf_opts_router *g = all->v[k].generic;
			named = str_eq(g->redirect_router.text, all->v[i].name) || str_eq(g->pass_router.text, all->v[i].name);
		}
		if (named) /* whoever jumps there goes on from there */
			return;
		conf_problem_add(c->conf, CONF_WARNING, all->v[i].place, "router %.*s: is never reached: router %.*s, above, has no condition and passes nothing on",
			STR_FMT(all->v[i].name), STR_FMT(all->v[end].name));
	}
}

/* What is handed over is the message as it lies in the queue: nothing that transports do to one is done. */
static void queuefile_check(struct check *c, const struct conf_instance *t)
{
	const struct conf_opts_transport_queuefile *o = CONF_OWN(t, transport_queuefile);

	if (!o->directory.text.len)
		conf_problem_add(c->conf, CONF_ERROR, t->place, "transport %.*s: option \"directory\" must be set", STR_FMT(t->name));
	for (uint32_t i = 0; i < conf_table_transport.n; i++)
		if (t->generic_meta[i].set && strcmp(conf_table_transport.rows[i].name, "driver") != 0)
			conf_problem_add(c->conf, CONF_WARNING, t->generic_meta[i].place, "transport %.*s: option \"%s\" means nothing to queuefile",
				STR_FMT(t->name), conf_table_transport.rows[i].name);
}

/* Known only to the agent: by itself, not within ${...}. */
static void late_check(struct check *c, const struct conf_instance *t, const char *option, const char *variable, const char *when, const struct conf_text *text)
{
	struct str marked;

	if (!text->set || conf_late_mark(text->text, variable, &c->scratch, &marked))
		return;
	if (conf_late_guarded(text->text, variable, &c->scratch))
		conf_problem_add(c->conf, CONF_WARNING, text->place, "transport %.*s: option \"%s\": def:%s is false: it is known only %s", STR_FMT(t->name), option,
			variable, when);
	else
		conf_problem_add(c->conf, CONF_ERROR, text->place, "transport %.*s: option \"%s\": $%s is known only %s: it can stand by itself, but not "
			"within ${...}", STR_FMT(t->name), option, variable, when);
}

/* What is said before the connection is there can't depend on the address that it comes from. */
static void early_check(struct check *c, const struct conf_instance *t, const struct conf_opts_transport_smtp *o)
{
	static const char variable[] = "sending_ip_address";

	if (o->hosts_pipe_connect.set && !o->interface.set && str_find_str(o->helo_data.text, STR_LIT("sending_ip_address")) >= 0 &&
		!conf_late_guarded(o->helo_data.text, variable, &c->scratch))
		conf_problem_add(c->conf, CONF_WARNING, o->helo_data.place, "transport %.*s: option \"helo_data\": with $%s and without interface there is no early "
			"pipelining: hosts_pipe_connect has no effect", STR_FMT(t->name), variable);
}

static bool is_remote(const struct conf_instance *t)
{
	return t->driver && (t->driver->table == &conf_table_transport_smtp || t->driver->table == &conf_table_transport_lmtp);
}

/* Only what delivers on this machine has a shadow, and only such a transport is one. */
static void shadow_check(struct check *c, const struct conf_instance *t)
{
	const struct conf_text *name = &((const struct conf_opts_transport *)t->generic)->shadow_transport;
	const struct conf_instance *shadow = name->set ? conf_instance_find(c->conf, CONF_TRANSPORTS, name->text) : NULL;

	if (!name->set)
		return;
	if (is_remote(t))
		conf_problem_add(c->conf, CONF_ERROR, name->place, "transport %.*s: option \"shadow_transport\": only for local transports", STR_FMT(t->name));
	else if (shadow && is_remote(shadow))
		conf_problem_add(c->conf, CONF_ERROR, name->place, "transport %.*s: option \"shadow_transport\": transport %.*s is none that delivers on "
			"this machine", STR_FMT(t->name), STR_FMT(shadow->name));
}

/* What is read once it is expanded, by now where there is nothing to expand. */
static void smtp_check(struct check *c, const struct conf_instance *t, const struct conf_opts_transport_smtp *o)
{
	struct conf_proxies proxies;
	struct err err = ERR_INIT;
	int16_t tos;

	late_check(c, t, "helo_data", "sending_ip_address", "when the connection is open", &o->helo_data);
	if (is_literal(o->socks_proxy.text) && conf_proxies_parse(o->socks_proxy.text, &c->scratch, &proxies, &err))
		conf_problem_add(c->conf, CONF_ERROR, o->socks_proxy.place, "transport %.*s: option \"socks_proxy\": %s", STR_FMT(t->name), err.text);
	if (is_literal(o->dscp.text) && conf_dscp_parse(o->dscp.text, &tos, &err))
		conf_problem_add(c->conf, CONF_ERROR, o->dscp.place, "transport %.*s: option \"dscp\": %s", STR_FMT(t->name), err.text);
}

static void transport_check(struct check *c, const struct conf_instance *t)
{
	const struct conf_opts_transport_appendfile *append = CONF_OWN(t, transport_appendfile);
	const struct conf_opts_transport_smtp *smtp = CONF_OWN(t, transport_smtp);
	const struct conf_opts_transport_lmtp *lmtp = CONF_OWN(t, transport_lmtp);

	if (append && append->file.set && append->directory.set)
		conf_problem_add(c->conf, CONF_ERROR, append->file.place, "transport %.*s: only one of file and directory may be set", STR_FMT(t->name));
	if (append && append->file.set && append->maildir_format)
		conf_problem_add(c->conf, CONF_ERROR, append->file.place, "transport %.*s: a maildir is a directory: set directory, not file",
			STR_FMT(t->name));
	if (append && append->file.set && !append->use_fcntl_lock && !append->use_flock_lock && !append->use_lockfile)
		conf_problem_add(c->conf, CONF_ERROR, t->place, "transport %.*s: one of use_fcntl_lock, use_flock_lock and use_lockfile must be set",
			STR_FMT(t->name));
	if (smtp)
		smtp_check(c, t, smtp);
	if (smtp)
		early_check(c, t, smtp);
	if (append) {
		late_check(c, t, "maildir_tag", "message_size", "when the message has been written", &append->maildir_tag);
		late_check(c, t, "directory_file", "inode", "when the message has been written", &append->directory_file);
	}
	if (lmtp && !lmtp->socket.text.len)
		conf_problem_add(c->conf, CONF_ERROR, t->place, "transport %.*s: option \"socket\" must be set", STR_FMT(t->name));
	if (t->driver && t->driver->table == &conf_table_transport_queuefile)
		queuefile_check(c, t);
	shadow_check(c, t);
	if (!c->transport_used[t->index])
		conf_problem_add(c->conf, CONF_WARNING, t->place, "transport %.*s: no router uses it", STR_FMT(t->name));
}

/* ---- authenticators ---- */

static void gsasl_check(struct check *c, const struct conf_instance *a, const struct conf_opts_authenticator_gsasl *o)
{
	const struct conf_opts_authenticator *g = a->generic;
	struct str mechanism = g->public_name.text.len ? g->public_name.text : a->name;

	if (!str_isi(mechanism, "SCRAM-SHA-1") && !str_isi(mechanism, "SCRAM-SHA-256"))
		conf_problem_add(c->conf, CONF_ERROR, a->place, "authenticator %.*s: driver gsasl has no mechanism %.*s in this build: it has SCRAM-SHA-1 and "
			"SCRAM-SHA-256", STR_FMT(a->name), STR_FMT(mechanism));
	if (g->server_condition.set)
		conf_problem_add(c->conf, CONF_ERROR, g->server_condition.place, "authenticator %.*s: driver gsasl does not serve clients in this build; "
			"driver dovecot does, with SCRAM too", STR_FMT(a->name));
	if (!o->client_username.set || !o->client_password.set)
		conf_problem_add(c->conf, CONF_ERROR, a->place, "authenticator %.*s: driver gsasl needs client_username and client_password", STR_FMT(a->name));
}

/* Each driver serves when one option is set, and is used towards servers when another is; with neither it does nothing, in silence. */
static void authenticator_check(struct check *c, const struct conf_instance *a)
{
	const struct conf_opts_authenticator *g = a->generic;
	const struct conf_opts_authenticator_cram_md5 *cram = CONF_OWN(a, authenticator_cram_md5);
	const struct conf_opts_authenticator_dovecot *dovecot = CONF_OWN(a, authenticator_dovecot);
	const struct conf_opts_authenticator_plaintext *plaintext = CONF_OWN(a, authenticator_plaintext);
	const struct conf_opts_authenticator_external *external = CONF_OWN(a, authenticator_external);
	const struct conf_opts_authenticator_gsasl *gsasl = CONF_OWN(a, authenticator_gsasl);
	bool serves = cram ? cram->server_secret.set : dovecot ? dovecot->server_socket.set : g->server_condition.set;
	bool used = (cram && cram->client_secret.set) || (plaintext && plaintext->client_send.set) || (external && external->client_send.set);

	if (gsasl)
		gsasl_check(c, a, gsasl);
	else if (!serves && !used)
		conf_problem_add(c->conf, CONF_WARNING, a->place, "authenticator %.*s: does nothing: to serve clients it needs %s%s", STR_FMT(a->name),
			cram ? "server_secret" : dovecot ? "server_socket" : "server_condition",
			cram ? ", towards servers client_secret" : plaintext || external ? ", towards servers client_send" : "");
}

/* ---- the main section ---- */

static void order_check(struct check *c, const char *low_name, int64_t low, const struct conf_meta *low_meta, const char *high_name, int64_t high,
	const struct conf_meta *high_meta)
{
	const struct conf_meta *later = low_meta->set ? low_meta : high_meta;

	if (low > high)
		conf_problem_add(c->conf, CONF_ERROR, later->place, "option \"%s\" (%lld) is more than \"%s\" (%lld)", low_name, (long long)low, high_name,
			(long long)high);
}

static void relations_check(struct check *c)
{
	const struct conf_opts_main *m = &c->conf->main;
#define ORDER(low, high) \
	order_check(c, #low, m->low, conf_main_meta(c->conf, low), #high, m->high, conf_main_meta(c->conf, high))
	ORDER(policyd_workers_min, policyd_workers_max);
	ORDER(router_workers_min, router_workers_max);
	ORDER(local_workers_min, local_workers_max);
	ORDER(destination_concurrency_start, destination_concurrency);
	if (m->smtp_accept_max)
		ORDER(smtp_accept_reserve, smtp_accept_max);
#undef ORDER
	if (m->local_sender_retain && m->local_from_check)
		conf_problem_add(c->conf, CONF_ERROR, conf_main_meta(c->conf, local_sender_retain)->place,
			"option \"local_sender_retain\": needs no_local_from_check, too");
}

static void slowing_check(struct check *c)
{
	const struct conf_opts_main *m = &c->conf->main;
	const struct { const char *name; const struct conf_text *text; } rows[] = {
		{ "smtp_ratelimit_mail", &m->smtp_ratelimit_mail }, { "smtp_ratelimit_rcpt", &m->smtp_ratelimit_rcpt },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct conf_slowing slowing;
		struct err err = ERR_INIT;

		if (conf_slowing_parse(rows[i].text->text, &slowing, &err) != ST_OK)
			conf_problem_add(c->conf, CONF_ERROR, rows[i].text->place, "option \"%s\": %s", rows[i].name, err.text);
	}
}

/* A login that is not expanded, and a group where it has none of its own. */
static void run_check(struct check *c)
{
	const struct conf_opts_main *m = &c->conf->main;
	struct conf_list_walk walk = CONF_LIST_WALK(m->run_commands.text);
	struct str path, user = str_trim(m->run_user.text);
	uint64_t uid;

	if (!m->run_commands.text.len)
		return;
	while (conf_list_next(&walk, &c->scratch, &path))
		if (path.len && (path.p[0] != '/' || str_find(path, '$') >= 0))
			conf_problem_add(c->conf, CONF_ERROR, m->run_commands.place, "option \"run_commands\": \"%.*s\" must be an absolute path, written out",
				STR_FMT(path));
	if (!user.len)
		conf_problem_add(c->conf, CONF_ERROR, m->run_commands.place, "option \"run_commands\": run_user must be set, too");
	else if (str_find(user, '$') >= 0)
		conf_problem_add(c->conf, CONF_ERROR, m->run_user.place, "option \"run_user\" is not expanded: write the login");
	else if (str_u64(user, UINT32_MAX, &uid) && !m->run_group.text.len)
		conf_problem_add(c->conf, CONF_ERROR, m->run_user.place, "run_user is a number, so run_group must be set");
}

enum { TICKET_SECRET_MIN = 16 };

static void hints_check(struct check *c)
{
	const struct conf_opts_main *m = &c->conf->main;
	struct err err = ERR_INIT;
	struct conf_hints hints;

	if (conf_hints_parse(m->hints.text, &hints, &err) != ST_OK) {
		conf_problem_add(c->conf, CONF_ERROR, m->hints.place, "option \"hints\": %s", err.text);
		return;
	}
	if (m->tls_ticket_secret.text.len && m->tls_ticket_secret.text.len < TICKET_SECRET_MIN)
		conf_problem_add(c->conf, CONF_ERROR, m->tls_ticket_secret.place, "option \"tls_ticket_secret\": at least %d octets, by chance, are wanted",
			TICKET_SECRET_MIN);
	else if (m->tls_ticket_secret.text.len && !hints.redis)
		conf_problem_add(c->conf, CONF_WARNING, m->tls_ticket_secret.place,
			"option \"tls_ticket_secret\" does nothing: keys are shared through hints in Redis");
}

static void main_check(struct check *c)
{
	const struct conf_opts_main *m = &c->conf->main;
	struct conf_listener *listeners;
	struct err err = ERR_INIT;
	uint64_t bits;
	uint32_t n;

	relations_check(c);
	slowing_check(c);
	run_check(c);
	if (conf_listeners_get(c->conf, &c->scratch, &listeners, &n, &err) != ST_OK)
		conf_problem_add(c->conf, CONF_ERROR, m->local_interfaces.set ? m->local_interfaces.place : m->daemon_smtp_ports.place, "%s", err.text);
	if (log_selector_parse(m->log_selector.text, &bits, &err) != ST_OK)
		conf_problem_add(c->conf, CONF_ERROR, m->log_selector.place, "option \"log_selector\": %s", err.text);
	hints_check(c);
	if (m->primary_hostname.text.len && str_find(m->primary_hostname.text, '.') < 0)
		conf_problem_add(c->conf, CONF_WARNING, m->primary_hostname.place,
			"the name of this host, \"%.*s\", has no domain: others may refuse its mail; set primary_hostname", STR_FMT(m->primary_hostname.text));
	if (m->disable_fsync)
		conf_problem_add(c->conf, CONF_WARNING, conf_main_meta(c->conf, disable_fsync)->place,
			"option \"disable_fsync\": a power cut will lose accepted mail");
}

static void surprises_check(struct check *c)
{
	const struct conf_place nowhere = { 0, 0 };

	if (!c->conf->main.acl_smtp_rcpt.text.len)
		conf_problem_add(c->conf, CONF_WARNING, nowhere, "acl_smtp_rcpt is not set: no mail will be accepted by SMTP");
	if (!c->conf->of[CONF_ROUTERS].n)
		conf_problem_add(c->conf, CONF_WARNING, nowhere, "there are no routers: nothing can be delivered");
	if (!c->conf->n_retry && c->conf->of[CONF_TRANSPORTS].n)
		conf_problem_add(c->conf, CONF_WARNING, nowhere, "there are no retry rules: a temporary failure will be final");
	if (c->conf->main.spool_directory.text.len && str_eq(c->conf->main.spool_directory.text, c->conf->main.run_directory.text))
		conf_problem_add(c->conf, CONF_ERROR, c->conf->main.run_directory.place, "option \"run_directory\": must differ from spool_directory");
}

/* ---- what the layers above check ---- */

static void text_above(struct check *c, const struct conf_option *o, const char *owner, const struct conf_text *text)
{
	enum conf_list_kind kind;

	if (o->flags & F_EXPANDED || o->kind == CONF_LIST || list_kind_of(o->kind, &kind))
		c->above->value(c->above->ctx, c->conf, o, *owner ? owner : "main", text);
}

static void above_check(struct check *c)
{
	const struct conf_checks *up = c->above;

	if (!up)
		return;
	if (up->value)
		all_visit(c, text_above);
	for (uint32_t i = 0; up->list && i < c->conf->n_lists; i++)
		up->list(up->ctx, c->conf, &c->conf->lists[i]);
	for (uint32_t i = 0; up->acl && i < c->conf->n_acls; i++)
		up->acl(up->ctx, c->conf, &c->conf->acls[i]);
	for (uint32_t i = 0; up->retry && i < c->conf->n_retry; i++)
		up->retry(up->ctx, c->conf, &c->conf->retry[i]);
	for (uint32_t i = 0; up->rewrite && i < c->conf->n_rewrite; i++)
		up->rewrite(up->ctx, c->conf, &c->conf->rewrite[i]);
}

/* By file and line, as people read; those of one line stay as they were found. */
static void problems_sort(struct conf *conf)
{
	for (uint32_t i = 1; i < conf->n_problems; i++) {
		const struct conf_problem p = conf->problems[i];
		uint32_t k = i;

		for (; k && (conf->problems[k - 1].place.file > p.place.file ||
			(conf->problems[k - 1].place.file == p.place.file && conf->problems[k - 1].place.line > p.place.line)); k--)
			conf->problems[k] = conf->problems[k - 1];
		conf->problems[k] = p;
	}
}

enum status conf_check(struct conf *conf, const struct conf_checks *checks)
{
	struct check c = { .conf = conf, .above = checks };

	c.transport_used = arena_alloc(&c.scratch, conf->of[CONF_TRANSPORTS].n + 1);
	references_check(&c);
	for (uint32_t i = 0; i < conf->of[CONF_ROUTERS].n; i++)
		if (conf->of[CONF_ROUTERS].v[i].driver)
			router_check(&c, &conf->of[CONF_ROUTERS].v[i]);
	routers_reach_check(&c);
	for (uint32_t i = 0; i < conf->of[CONF_TRANSPORTS].n; i++)
		if (conf->of[CONF_TRANSPORTS].v[i].driver)
			transport_check(&c, &conf->of[CONF_TRANSPORTS].v[i]);
	for (uint32_t i = 0; i < conf->of[CONF_AUTHENTICATORS].n; i++)
		if (conf->of[CONF_AUTHENTICATORS].v[i].driver)
			authenticator_check(&c, &conf->of[CONF_AUTHENTICATORS].v[i]);
	main_check(&c);
	conf_check_dane(conf);
	conf_check_proxy(conf);
	surprises_check(&c);
	above_check(&c);
	problems_sort(conf);
	arena_clear(&c.scratch);
	return conf->n_errors ? ST_ERROR : ST_OK;
}
