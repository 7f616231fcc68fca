/* SPDX-License-Identifier: ISC */
#include "policyd/policyd_auth.h"
#include "policyd/scan.h"

#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common//lang/lang_list.h"

static const struct auth_driver *const drivers[] = { &auth_plaintext, &auth_cram_md5, &auth_external, &auth_tls, &auth_dovecot };

/* ---- at load ---- */

static enum status text_compile(struct policyd *p, const struct conf_text *t, struct expansion **out, struct err *err)
{
	*out = NULL;
	return t->text.p && t->set ? lang_compile(p->lang, t->text, t->place, out, err) : ST_OK;
}

static enum status inst_compile(struct policyd *p, const struct conf_instance *conf, const struct auth_driver *driver, struct err *err)
{
	const struct conf_opts_authenticator *o = CONF_AUTHENTICATOR(conf);
	struct policyd_auth *all = p->auth;
	struct auth_inst *inst = &all->v[all->n];
	const struct { const struct conf_text *t; struct expansion **x; const char *name; } texts[] = {
		{ &o->server_advertise_condition, &inst->advertise, "server_advertise_condition" }, { &o->server_condition, &inst->condition, "server_condition" },
		{ &o->server_set_id, &inst->set_id, "server_set_id" }, { &o->server_debug_print, &inst->debug, "server_debug_print" },
		{ &o->server_mail_auth_condition, &inst->mail_condition, "server_mail_auth_condition" },
	};

	inst->conf = conf;
	inst->driver = driver;
	inst->name = conf->name;
	inst->public_name = o->public_name.text.len ? o->public_name.text : conf->name;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (text_compile(p, texts[i].t, texts[i].x, err))
			return err_prefix(err, "authenticator %.*s: %s", STR_FMT(conf->name), texts[i].name);
	if (driver->compile && driver->compile(p, inst, err))
		return err_prefix(err, "authenticator %.*s", STR_FMT(conf->name));
	all->n++;
	if (!driver->smtp) {
		if (all->tls)
			return err_set(err, ST_ERROR, "authenticator %.*s: there may be one of driver tls", STR_FMT(conf->name));
		all->tls = inst;
	}
	return ST_OK;
}

enum status policyd_auth_compile(struct policyd *p, struct err *err)
{
	const struct conf_instances *all = &p->conf->of[CONF_AUTHENTICATORS];
	const struct conf_text *hosts = &p->conf->main.auth_advertise_hosts;
	struct arena *a = lang_arena(p->lang);

	p->auth = arena_alloc(a, sizeof *p->auth);
	p->auth->v = arena_alloc(a, (all->n + 1) * sizeof *p->auth->v);
	if (lang_list_compile(p->lang, LIST_HOST, hosts->text, hosts->place, &p->auth->hosts, err))
		return err_prefix(err, "auth_advertise_hosts");
	for (uint32_t i = 0; i < all->n; i++)
		for (size_t k = 0; k < sizeof drivers / sizeof *drivers; k++)
			if (all->v[i].driver && all->v[i].driver->table == drivers[k]->table && drivers[k]->is_server(&all->v[i]) &&
			    inst_compile(p, &all->v[i], drivers[k], err))
				return err->status;
	return ST_OK;
}

void policyd_auth_stop(struct policyd *p)
{
	for (uint32_t i = 0; p->auth && i < p->auth->n; i++)
		if (p->auth->v[i].driver->stop)
			p->auth->v[i].driver->stop(&p->auth->v[i]);
}

/* ---- what is offered ---- */

/* Empty, 0, no and false are false (specification, section 33.1). */
static bool text_is_false(struct str s)
{
	return !s.len || str_is(s, "0") || str_isi(s, "no") || str_isi(s, "false");
}

static bool condition_holds(struct policyd *p, struct eval *ev, const struct auth_inst *inst, const struct expansion *x, const char *option)
{
	struct err err = ERR_INIT;
	struct str text;
	enum status st;

	if (!x)
		return true;
	st = expand(ev, x, &text, &err);
	if (st == ST_ERROR && p->worker)
		worker_log(p->worker, LOG_MAIN | LOG_PANIC, "authenticator %.*s: %s: %s", STR_FMT(inst->name), option, err.text);
	return st == ST_OK && !text_is_false(str_trim(text));
}

struct str policyd_auth_offer(struct policyd *p, struct eval *ev, bool *later)
{
	struct buf b = BUF_LIMIT(AUTH_OFFER_MAX);
	struct err err = ERR_INIT;
	unsigned deps = ev->deps;
	struct str out;
	bool any = false;

	ev->deps = 0;
	*later = p->auth->tls != NULL;
	for (uint32_t i = 0; i < p->auth->n; i++)
		any |= p->auth->v[i].driver->smtp;
	if (any && lang_client_match(ev, p->auth->hosts, NULL, &err) == ST_OK)
		for (uint32_t i = 0; i < p->auth->n; i++) {
			const struct auth_inst *inst = &p->auth->v[i];

			if (!inst->driver->smtp || !condition_holds(p, ev, inst, inst->advertise, "server_advertise_condition"))
				continue;
			if (inst->driver->offers) {
				ev->deps |= DEP_WORLD;
				if (!inst->driver->offers(inst))
					continue;
			}
			buf_printf(&b, "%s%.*s", b.len ? " " : "", STR_FMT(inst->public_name));
		}
	*later |= (ev->deps & DEP_SESSION) != 0;
	ev->deps = (ev->deps & ~(unsigned)DEP_SESSION) | deps; /* that it must be asked again is told by *later */
	out = str_upper(ev->arena, buf_str(&b));
	buf_clear(&b);
	return out;
}

/* As at EHLO: by its mechanism, and only if it is offered. */
static const struct auth_inst *inst_find(struct policyd *p, struct eval *ev, struct str mechanism)
{
	for (uint32_t i = 0; i < p->auth->n; i++) {
		const struct auth_inst *inst = &p->auth->v[i];

		if (inst->driver->smtp && str_eqi(inst->public_name, mechanism) &&
		    condition_holds(p, ev, inst, inst->advertise, "server_advertise_condition"))
			return inst;
	}
	return NULL;
}

/* ---- for the drivers ---- */

void auth_string_set(struct eval *ev, unsigned n, struct str value)
{
	value.tainted = true;
	if (n >= 1 && n <= 3)
		eval_set(ev, n == 1 ? EV_auth1 : n == 2 ? EV_auth2 : EV_auth3, value);
	if (n < EVAL_NUMS) {
		ev->num[n] = value;
		if (ev->n_num <= (int)n)
			ev->n_num = (int)n + 1;
	}
}

enum auth_result auth_expand(struct auth_step *s, const struct expansion *x, const char *option, struct str *out, struct err *err)
{
	enum status st;

	*out = STR_NULL;
	if (!x)
		return AUTH_OK;
	st = expand(s->ev, x, out, err);
	if (st == ST_FAIL) {
		err_clear(err);
		return AUTH_FAIL;
	}
	if (st)
		err_prefix(err, "%s", option);
	return st ? AUTH_DEFER : AUTH_OK;
}

enum auth_result auth_condition(struct auth_step *s, struct err *err)
{
	struct str text;
	enum auth_result r;

	if (!s->inst->condition)
		return AUTH_OK;
	r = auth_expand(s, s->inst->condition, "server_condition", &text, err);
	if (r != AUTH_OK)
		return r;
	text = str_trim(text);
	if (text_is_false(text))
		return AUTH_FAIL;
	if (str_is(text, "1") || str_isi(text, "yes") || str_isi(text, "true"))
		return AUTH_OK;
	s->out->text = str_sub(text, 0, 1024);
	return AUTH_DEFER;
}

/* ---- a step ---- */

static void id_make(struct auth_step *s)
{
	struct err err = ERR_INIT;
	struct str id;

	/* Spec: if it can't be expanded it is ignored. */
	if (!s->inst->set_id || expand(s->ev, s->inst->set_id, &id, &err) != ST_OK)
		return;
	id = str_dup(s->ev->arena, str_sub(id, 0, 1024));
	/* Who only claims to be somebody is named in header fields and logs, too: on one line. */
	for (uint32_t i = 0; i < id.len; i++)
		if ((unsigned char)id.p[i] < ' ' || id.p[i] == 0x7f)
			((char *)(uintptr_t)id.p)[i] = '?';
	s->out->auth_id = id;
}

static void debug_print(struct auth_step *s)
{
	struct err err = ERR_INIT;
	struct str text;

	if (!s->inst->debug || !s->ask->trace || !s->p->worker)
		return;
	if (expand(s->ev, s->inst->debug, &text, &err))
		text = str_of(err.text);
	worker_log(s->p->worker, LOG_MAIN, "%.*s authenticator server_debug_print: %.*s", STR_FMT(s->inst->name), STR_FMT(text));
}

static enum auth_result step_run(struct auth_step *s, struct err *err)
{
	enum auth_result r;

	if (s->ask->step > AUTH_STEPS_MAX) {
		err_set(err, ST_FAIL, "more than %d responses", AUTH_STEPS_MAX);
		return AUTH_FAIL;
	}
	r = s->inst->driver->step(s, err);
	if (r == AUTH_CHALLENGE)
		return r;
	debug_print(s);
	if (r == AUTH_OK || r == AUTH_FAIL || r == AUTH_DEFER)
		id_make(s);
	s->out->mail_condition = s->inst->mail_condition != NULL;
	return r;
}

void policyd_auth_step(struct policyd *p, struct arena *a, const struct ipc_auth_ask *ask, int *fd, struct ipc_auth_answer *out)
{
	static const struct ipc_facts no_facts;
	struct eval ev;
	struct err err = ERR_INIT;
	struct auth_step s = { .p = p, .ev = &ev, .ask = ask, .out = out, .fd = *fd };

	*out = (struct ipc_auth_answer){ .result = AUTH_UNKNOWN };
	*fd = -1;
	p->scans_until_ms = clock_ms() + SCAN_ALL_MS;
	eval_init(&ev, p->lang, a);
	eval_facts(&ev, ask->facts ? ask->facts : &no_facts);
	s.inst = inst_find(p, &ev, ask->mechanism);
	if (s.inst) {
		out->result = step_run(&s, &err);
		out->driver = s.inst->name;
		out->log_text = str_dup(a, str_of(err.text));
	}
	if (out->result == AUTH_CHALLENGE)
		*fd = s.fd;
	else if (s.fd >= 0)
		close(s.fd);
	eval_clear(&ev);
}

void policyd_auth_tls(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	struct ipc_auth_ask ask = { .step = 0 };
	struct ipc_auth_answer answer = { .result = 0 };
	struct err err = ERR_INIT;
	struct auth_step s = { .p = p, .inst = p->auth->tls, .ev = ev, .ask = &ask, .out = &answer, .fd = -1 };
	enum auth_result r;

	if (!s.inst || !ev->facts->n_tls || ev->facts->auth_method.len)
		return;
	r = step_run(&s, &err);
	if (r == AUTH_OK) {
		out->auth_method = s.inst->name;
		out->auth_id = answer.auth_id;
	} else if (r == AUTH_DEFER && p->worker) {
		worker_log(p->worker, LOG_MAIN, "%.*s authenticator: %s%.*s", STR_FMT(s.inst->name), err.text, STR_FMT(answer.text));
	}
}

bool policyd_auth_mail(struct policyd *p, struct eval *ev)
{
	for (uint32_t i = 0; i < p->auth->n; i++)
		if (str_eq(p->auth->v[i].name, ev->facts->auth_method))
			return condition_holds(p, ev, &p->auth->v[i], p->auth->v[i].mail_condition, "server_mail_auth_condition");
	return true; /* not authenticated: the ACL alone decides */
}
