/* SPDX-License-Identifier: ISC */
/* ctl_route.c - where mail for an address would go, as `exim -bt` says it. */
#include <string.h>

#include "common/ipc/enums.h"
#include "ctl/offline.h"

enum { ADDRESSES_MAX = 64 };

static void host_print(const struct ipc_host *h)
{
	printf("  host %.*s", STR_FMT(h->name));
	if (h->ip.len)
		printf(" [%.*s]", STR_FMT(h->ip));
	if (h->port)
		printf(" port=%llu", (unsigned long long)h->port);
	if (h->group)
		printf(" MX=%llu", (unsigned long long)h->group);
	puts(h->secure ? " dnssec" : "");
}

static void leaf_print(const struct ipc_route_answer *r, const struct ipc_leaf *l)
{
	struct str parents = l->parents, parent;

	printf("%.*s", STR_FMT(l->addr));
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
	putchar('\n');
	while (parents.len && str_split(&parents, '\n', &parent))
		printf("    <-- %.*s\n", STR_FMT(parent));
	if (l->outcome == ROUTE_DELIVER && l->plan < r->n_plans) {
		const struct ipc_plan *p = &r->plans[l->plan];

		printf("  router = %.*s, transport = %.*s\n", STR_FMT(l->router.len ? l->router : p->router), STR_FMT(p->transport));
		for (uint32_t i = 0; i < p->n_options; i++)
			if (!p->n_hosts)
				printf("  %.*s = %.*s\n", STR_FMT(p->options[i].name), STR_FMT(p->options[i].value));
		for (uint32_t i = 0; i < p->n_hosts; i++)
			host_print(&p->hosts[i]);
	} else if (l->router.len) {
		printf("  router = %.*s\n", STR_FMT(l->router));
	}
}

static json_t *leaf_json(const struct ipc_route_answer *r, const struct ipc_leaf *l)
{
	json_t *o = json_object(), *hosts = json_array(), *options = json_object();

	json_object_set_new(o, "address", ctl_json_str(l->addr));
	json_object_set_new(o, "outcome", json_string(route_outcome_name(l->outcome) ? route_outcome_name(l->outcome) : "?"));
	json_object_set_new(o, "router", ctl_json_str(l->router));
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
	json_t *rows;
	bool failed, deferred;
};

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
		else
			leaf_print(r, &r->leaves[i]);
	}
}

static enum status answers_read(struct route_run *run, int fd, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	bool more = true;
	enum status st = ST_OK;

	while (!st && more) {
		struct ipc_in in;

		st = ipc_recv(fd, &packet, OFFLINE_ASK_MS, err);
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

int ctl_route(struct ctl *ctl, int argc, char **argv)
{
	struct ipc_recipient rcpts[ADDRESSES_MAX] = { 0 };
	struct ipc_facts facts = { .has_sender = true, .local = true };
	struct ipc_route_ask ask = { .facts = &facts, .recipients = rcpts, .testing = true };
	struct route_run run = { .ctl = ctl, .rows = json_array() };
	struct err err = ERR_INIT;
	struct offline o;
	enum status st;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-v"))
			ask.trace = true;
		else if (!strcmp(argv[i], "--json"))
			ctl->json = true;
		else if (!strcmp(argv[i], "-f") && i + 1 < argc)
			facts.sender = str_of(argv[++i]);
		else if (argv[i][0] == '-')
			return ctl_fail(CTL_USAGE, "route: option %s is not known; -v, -f SENDER and --json are", argv[i]);
		else if (ask.n_recipients < ADDRESSES_MAX)
			rcpts[ask.n_recipients++] = (struct ipc_recipient){ .addr = str_of(argv[i]), .index = ask.n_recipients };
		else
			return ctl_fail(CTL_USAGE, "route: more than %d addresses at once", ADDRESSES_MAX);
	}
	if (!ask.n_recipients)
		return ctl_fail(CTL_USAGE, "route wants addresses");
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	st = offline_start(ctl, &o, &err);
	if (!st)
		st = ipc_send(o.channel, &ipc_type_route_ask, 1, false, &ask, NULL, 0, OFFLINE_ASK_MS, &err);
	if (!st)
		st = answers_read(&run, o.channel, &err);
	offline_stop(&o);
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
