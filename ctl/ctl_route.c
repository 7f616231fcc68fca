/* SPDX-License-Identifier: ISC */
/* ctl_route.c - where mail for an address would go, as `exim -bt` says it; whether it verifies, as -bv and -bvs do. */
#include <string.h>

#include <pwd.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/ipc/enums.h"
#include "common/mail/addrlist.h"
#include "common/tls/tls_tlsa.h"
#include "ctl/offline.h"

enum { ADDRESSES_MAX = 64 };

static void host_print(const struct ipc_host *h)
{
	printf("  host %.*s", STR_FMT(h->name));
	if (h->ip.len)
		printf(" [%.*s]", STR_FMT(h->ip));
	if (h->port)
		printf(" port=%llu", (unsigned long long)h->port);
	if (h->group >= HOST_GROUP_FALLBACK)
		printf(" fallback");
	else if (h->mx)
		printf(" MX");
	fputs(h->secure ? " dnssec" : "", stdout);
	if (h->tlsa_state == TLSA_USABLE)
		printf(" dane");
	else if (h->tlsa_state != TLSA_NOT_ASKED && h->tlsa_state != TLSA_NONE && h->tlsa_state != TLSA_HOST_INSECURE)
		printf(" tlsa=%s", tlsa_state_name(h->tlsa_state) ? tlsa_state_name(h->tlsa_state) : "?");
	puts("");
}

/* What DANE goes by; the records as in a zone. */
static void tlsa_json(json_t *host, const struct ipc_host *h)
{
	json_t *records = json_array(), *names = json_array();
	const char *state = tlsa_state_name(h->tlsa_state);

	json_object_set_new(host, "tlsa", json_string(state ? state : "?"));
	if (h->dane_required)
		json_object_set_new(host, "dane_required", json_true());
	for (uint32_t i = 0; i < h->tlsa.n; i++) {
		struct buf b = BUF_INIT;

		tls_tlsa_show(h->tlsa.v[i], &b);
		json_array_append_new(records, ctl_json_str(buf_str(&b)));
		buf_clear(&b);
	}
	json_array_append_new(names, ctl_json_str(h->tlsa_base));
	for (uint32_t i = 0; i < h->tlsa_names.n; i++)
		json_array_append_new(names, ctl_json_str(h->tlsa_names.v[i]));
	if (h->tlsa.n) {
		json_object_set(host, "tlsa_records", records);
		json_object_set(host, "tlsa_names", names);
	}
	json_decref(records);
	json_decref(names);
}

static bool leaf_is_path(const struct ipc_leaf *l)
{
	return l->parents.len && l->addr.len && (l->addr.p[0] == '|' || l->addr.p[0] == '/') &&
		(l->outcome == ROUTE_DELIVER || l->outcome == ROUTE_DISCARD);
}

/* "PARENT -> /path" for what is delivered to a file or program, else the address. */
static void leaf_name_print(const struct ipc_leaf *l)
{
	ptrdiff_t at = str_rfind(l->parents, '\n');

	if (leaf_is_path(l))
		printf("%.*s -> ", STR_FMT(str_from(l->parents, (size_t)(at + 1))));
	printf("%.*s", STR_FMT(l->addr));
}

/* The youngest first. */
static void parents_print(struct str parents, bool skip_first)
{
	while (parents.len) {
		ptrdiff_t at = str_rfind(parents, '\n');

		if (!skip_first)
			printf("    <-- %.*s\n", STR_FMT(str_from(parents, (size_t)(at + 1))));
		skip_first = false;
		parents = str_sub(parents, 0, at < 0 ? 0 : (size_t)at);
	}
}

static void plan_print(const struct ipc_leaf *l, const struct ipc_plan *p)
{
	printf("  router = %.*s, transport = %.*s\n", STR_FMT(l->router.len ? l->router : p->router), STR_FMT(p->transport));
	for (uint32_t i = 0; i < p->n_options; i++)
		if (!p->n_hosts)
			printf("  %.*s = %.*s\n", STR_FMT(p->options[i].name), STR_FMT(p->options[i].value));
	for (uint32_t i = 0; i < p->n_hosts; i++)
		host_print(&p->hosts[i]);
}

static void leaf_print(const struct ipc_route_answer *r, const struct ipc_leaf *l)
{
	if (l->outcome == ROUTE_DISCARD && !leaf_is_path(l))
		printf("mail to ");
	leaf_name_print(l);
	switch ((enum route_outcome)l->outcome) {
	case ROUTE_FAIL:
		printf(" is undeliverable: %.*s", STR_FMT(l->text.len ? l->text : STR_LIT("Unrouteable address")));
		break;
	case ROUTE_DEFER:
		printf(" cannot be resolved at this time: %.*s", STR_FMT(l->text));
		break;
	case ROUTE_DISCARD:
		printf(" is discarded");
		break;
	case ROUTE_DELIVER:
	case ROUTE_OUTCOMES_END:
		break;
	}
	if (l->unseen)
		printf("   [an extra copy]");
	putchar('\n');
	parents_print(l->parents, leaf_is_path(l));
	if (l->outcome == ROUTE_DELIVER && l->plan < r->n_plans)
		plan_print(l, &r->plans[l->plan]);
	else if (l->router.len)
		printf("  router = %.*s\n", STR_FMT(l->router));
}

static void verified_print(const struct ipc_leaf *l, struct str asked)
{
	switch ((enum route_outcome)l->outcome) {
	case ROUTE_FAIL:
		printf("%.*s failed to verify: %.*s\n", STR_FMT(asked), STR_FMT(l->text.len ? l->text : STR_LIT("Unrouteable address")));
		break;
	case ROUTE_DEFER:
		printf("%.*s cannot be resolved at this time: %.*s\n", STR_FMT(asked), STR_FMT(l->text));
		break;
	case ROUTE_DISCARD:
	case ROUTE_DELIVER:
	case ROUTE_OUTCOMES_END:
		printf("%.*s verified\n", STR_FMT(asked));
		break;
	}
}

static json_t *parents_json(struct str parents)
{
	json_t *v = json_array();
	struct str one;

	while (parents.len && str_split(&parents, '\n', &one))
		json_array_append_new(v, ctl_json_str(one));
	return v;
}

static json_t *leaf_json(const struct ipc_route_answer *r, const struct ipc_leaf *l)
{
	json_t *o = json_object(), *hosts = json_array(), *options = json_object();

	json_object_set_new(o, "address", ctl_json_str(l->addr));
	json_object_set_new(o, "outcome", json_string(route_outcome_name(l->outcome) ? route_outcome_name(l->outcome) : "?"));
	json_object_set_new(o, "router", ctl_json_str(l->router));
	json_object_set_new(o, "parents", parents_json(l->parents));
	if (l->status.len)
		json_object_set_new(o, "status", ctl_json_str(l->status));
	if (l->freeze)
		json_object_set_new(o, "freeze", json_true());
	if (l->unseen)
		json_object_set_new(o, "unseen", json_true());
	if (l->one_time)
		json_object_set_new(o, "one_time", json_true());
	if (l->has_errors_to)
		json_object_set_new(o, "errors_to", ctl_json_str(l->errors_to));
	json_object_set_new(o, "text", l->text.len ? ctl_json_str(l->text) : json_null());
	if (l->outcome == ROUTE_DELIVER && l->plan < r->n_plans) {
		const struct ipc_plan *p = &r->plans[l->plan];

		json_object_set_new(o, "transport", ctl_json_str(p->transport));
		for (uint32_t i = 0; i < p->n_hosts; i++) {
			json_t *h = json_object();

			json_object_set_new(h, "name", ctl_json_str(p->hosts[i].name));
			json_object_set_new(h, "ip", ctl_json_str(p->hosts[i].ip));
			json_object_set_new(h, "port", json_integer((json_int_t)p->hosts[i].port));
			json_object_set_new(h, "dnssec", json_boolean(p->hosts[i].secure));
			tlsa_json(h, &p->hosts[i]);
			json_array_append_new(hosts, h);
		}
		for (uint32_t i = 0; i < p->n_options; i++) {
			char name[257];

			snprintf(name, sizeof name, "%.*s", STR_FMT(p->options[i].name));
			json_object_set_new(options, name, ctl_json_str(p->options[i].value));
		}
	}
	json_object_set_new(o, "hosts", hosts);
	json_object_set_new(o, "options", options);
	return o;
}

struct route_run {
	struct ctl *ctl;
	const struct ipc_route_ask *ask;
	json_t *rows;
	bool failed, deferred;
};

/* The address as it was given, with its domain where the answer has one and it is the same address. */
static struct str leaf_asked(const struct route_run *run, const struct ipc_leaf *l)
{
	ptrdiff_t at = str_find(l->parents, '\n');

	if (l->parents.len)
		return str_sub(l->parents, 0, at < 0 ? l->parents.len : (size_t)at);
	if (l->addr.len)
		return l->addr;
	return l->recipient < run->ask->n_recipients ? run->ask->recipients[l->recipient].addr : STR_NULL;
}

static void answer_take(struct route_run *run, const struct ipc_route_answer *r)
{
	for (uint32_t i = 0; i < r->trace.n; i++)
		if (!run->ctl->json)
			printf("%.*s\n", STR_FMT(r->trace.v[i]));
	for (uint32_t i = 0; i < r->n_leaves; i++) {
		run->failed = run->failed || r->leaves[i].outcome == ROUTE_FAIL;
		run->deferred = run->deferred || r->leaves[i].outcome == ROUTE_DEFER;
		if (run->ctl->json)
			json_array_append_new(run->rows, leaf_json(r, &r->leaves[i]));
		else if (run->ask->verify)
			verified_print(&r->leaves[i], leaf_asked(run, &r->leaves[i]));
		else
			leaf_print(r, &r->leaves[i]);
	}
}

static enum status answers_read(struct route_run *run, struct offline *o, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	bool more = true;
	enum status st = ST_OK;

	while (!st && more) {
		struct ipc_in in;

		st = offline_wait(run->ctl, o, OFFLINE_ASK_MS, err);
		if (!st)
			st = ipc_recv(o->channel, &packet, OFFLINE_ASK_MS, err);
		while (!st && (st = ipc_packet_next(&packet, &run->ctl->arena, &in, err)) == ST_OK) {
			const struct ipc_route_answer *r = in.msg;

			if (in.type != &ipc_type_route_answer) {
				st = err_set(err, ST_ERROR, "the router answered with %s", in.type->name);
				break;
			}
			answer_take(run, r);
			more = r->more;
		}
		if (st == ST_FAIL)
			st = packet.data.len ? ST_OK : err_set(err, ST_ERROR, "the router ended");
	}
	ipc_packet_clear(&packet);
	return st;
}

static int args_read(struct ctl *ctl, int argc, char **argv, struct ipc_route_ask *ask, struct ipc_facts *facts, const char **given, unsigned *n_given)
{
	bool plain = false;

	for (int i = 1; i < argc; i++) {
		if (!plain && !strcmp(argv[i], "--"))
			plain = true;
		else if (!plain && !strcmp(argv[i], "-v"))
			ask->trace = true;
		else if (!plain && !strcmp(argv[i], "--json"))
			ctl->json = true;
		else if (!plain && (!strcmp(argv[i], "-s") || !strcmp(argv[i], "-f")) && i + 1 < argc)
			facts->sender = str_is(str_of(argv[i + 1]), "<>") ? str_of("") : str_of(argv[i + 1]), i++;
		else if (!plain && (!strcmp(argv[i], "--verify-recipient") || !strcmp(argv[i], "--verify-sender")))
			ask->verify = true, ask->testing = false, ask->verify_sender = !strcmp(argv[i], "--verify-sender");
		else if (!plain && argv[i][0] == '-')
			return ctl_fail(CTL_USAGE, "route: option %s is not known; -v, -s SENDER, --verify-recipient, --verify-sender and --json are", argv[i]);
		else if (*n_given < ADDRESSES_MAX)
			given[(*n_given)++] = argv[i];
		else
			return ctl_fail(CTL_USAGE, "route: more than %d addresses at once", ADDRESSES_MAX);
	}
	return *n_given ? CTL_OK : ctl_fail(CTL_USAGE, "route wants addresses");
}

static void syntax_print(struct route_run *run, const char *given, const char *why)
{
	json_t *o;

	run->failed = true;
	if (!run->ctl->json) {
		printf("syntax error: %s: %s\n", given, why);
		return;
	}
	o = json_pack("{s:s, s:s, s:[], s:s, s:o, s:[], s:{}}", "address", given, "outcome", "fail", "parents", "router", "", "text", json_null(), "hosts",
		"options");
	json_object_set_new(o, "text", json_sprintf("syntax error: %s", why));
	json_array_append_new(run->rows, o);
}

/* Each as it may stand in a header field: "Name <a@b>", comments. What is none is said at once. */
static void addresses_take(struct route_run *run, struct ipc_route_ask *ask, const char *const *given, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct addrlist_item item;
		struct err err = ERR_INIT;

		if (addrlist_item_parse(str_of(given[i]), ADDR_LENIENT | ADDR_UTF8 | ADDR_LITERALS, &run->ctl->arena, &item, &err) != ST_OK || !item.addr.len)
			syntax_print(run, given[i], err.text[0] ? err.text : "no address");
		else
			ask->recipients[ask->n_recipients++] = (struct ipc_recipient){ .addr = item.addr, .index = ask->n_recipients };
	}
}

/* The sender where none is given: the person who asks. */
static struct str sender_own(struct ctl *ctl)
{
	const struct passwd *pw = getpwuid(getuid());
	struct str domain = ctl->conf->main.qualify_domain.text;

	if (!pw || !domain.len || str_find(domain, '$') >= 0)
		return STR_NULL;
	return str_printf(&ctl->arena, "%s@%.*s", pw->pw_name, STR_FMT(domain));
}

static enum status routed(struct ctl *ctl, struct route_run *run, const struct ipc_route_ask *ask, struct err *err)
{
	struct offline o;
	enum status st = offline_start(ctl, &o, err);

	if (!st)
		st = ipc_send(o.channel, &ipc_type_route_ask, 1, false, ask, NULL, 0, OFFLINE_ASK_MS, err);
	if (!st)
		st = answers_read(run, &o, err);
	offline_stop(&o);
	return st;
}

int ctl_route(struct ctl *ctl, int argc, char **argv)
{
	struct ipc_recipient rcpts[ADDRESSES_MAX] = { 0 };
	struct ipc_facts facts = { .has_sender = true, .local = true };
	struct ipc_route_ask ask = { .facts = &facts, .recipients = rcpts, .testing = true };
	struct route_run run = { .ctl = ctl, .ask = &ask };
	struct err err = ERR_INIT;
	const char *given[ADDRESSES_MAX];
	unsigned n_given = 0;
	enum status st = ST_OK;
	int rc;

	facts.sender.p = NULL;
	rc = args_read(ctl, argc, argv, &ask, &facts, given, &n_given);
	if (rc != CTL_OK)
		return rc;
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	if (!facts.sender.p)
		facts.sender = sender_own(ctl);
	run.rows = json_array();
	addresses_take(&run, &ask, given, n_given);
	if (ask.n_recipients)
		st = routed(ctl, &run, &ask, &err);
	if (st) {
		json_decref(run.rows);
		return ctl_fail(CTL_SOFTWARE, "route: %s", err.text);
	}
	if (ctl->json)
		ctl_json_print(run.rows);
	else
		json_decref(run.rows);
	return run.failed ? 2 : run.deferred ? 1 : CTL_OK; /* as exim -bt */
}
