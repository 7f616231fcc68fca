/* SPDX-License-Identifier: ISC */
#include "router/callout.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/mail/address.h"
#include "router/callout_cache.h"

enum { GRACE_MS = 5000, REPLY_MAX = 2000, SMTP_PORT = 25 };

struct cached {
	struct callout_domain domain;
	struct callout_fact address;
	struct str domain_key, address_key;
};

/* ---- the cache ---- */

static void expire_read(const struct router *r, struct callout_expire *out)
{
	const struct conf_opts_main *o = &r->conf->main;

	*out = (struct callout_expire){ o->callout_domain_negative_expire, o->callout_domain_positive_expire, o->callout_negative_expire,
		o->callout_positive_expire };
}

static struct str hint_get(const struct callout *c, struct str key)
{
	struct ipc_hint_ask ask = { .op = HINT_GET, .space = STR_LIT("callout"), .key = key };
	struct ipc_hint_answer answer;

	router_hint(c->r, c->a, &ask, &answer);
	return answer.status == ST_OK ? answer.value : STR_NULL;
}

static void hint_put(const struct callout *c, struct str key, struct str value, int64_t lasts_s)
{
	struct ipc_hint_ask ask = { .op = HINT_PUT, .space = STR_LIT("callout"), .key = key, .value = value, .expire_s = (uint64_t)lasts_s };
	struct ipc_hint_answer answer;

	if (lasts_s > 0)
		router_hint(c->r, c->a, &ask, &answer);
}

static struct str domain_of(const struct callout *c)
{
	struct str local, domain;

	return address_split(c->addr, &local, &domain) ? str_lower(c->a, domain) : STR_NULL;
}

static void cache_read(const struct callout *c, struct cached *out)
{
	struct str local, domain;

	memset(out, 0, sizeof *out);
	if (!address_split(c->addr, &local, &domain))
		return;
	out->domain_key = str_printf(c->a, "d:%.*s", STR_FMT(domain_of(c)));
	out->address_key = str_printf(c->a, "a:%.*s@%.*s", STR_FMT(local), STR_FMT(domain_of(c)));
	if (c->mail_from.len)
		out->address_key = str_printf(c->a, "%.*s/<%.*s>", STR_FMT(out->address_key), STR_FMT(c->mail_from));
	if (c->options->no_cache)
		return;
	callout_domain_parse(hint_get(c, out->domain_key), &out->domain);
	callout_fact_parse(hint_get(c, out->address_key), &out->address);
}

static bool fact_take(struct callout_fact *f, uint64_t answer, int64_t now)
{
	if (!answer)
		return false;
	*f = (struct callout_fact){ answer == 1 ? KNOWN_TAKEN : KNOWN_REFUSED, now };
	return true;
}

/* Whether the domain can be called at all. With a sender of ours accepted nothing is known of the empty one. */
static bool calls_take(const struct callout *c, struct callout_fact *f, const struct ipc_callout_answer *answer, int64_t now)
{
	bool null_sender = !c->mail_from.len;

	if (answer->stage >= CALLOUT_RANDOM) {
		if (!null_sender && f->known == KNOWN_NULL_REFUSED)
			return false;
		*f = (struct callout_fact){ KNOWN_TAKEN, now };
	} else if (answer->code && answer->stage < CALLOUT_MAIL) {
		*f = (struct callout_fact){ KNOWN_REFUSED, now };
	} else if (answer->code && null_sender) {
		*f = (struct callout_fact){ KNOWN_NULL_REFUSED, now };
	} else {
		return false;
	}
	return true;
}

/* Only definite answers are kept. */
static void cache_write(const struct callout *c, struct cached *cached, const struct ipc_callout_answer *answer)
{
	int64_t now = clock_wall();
	struct callout_expire expire;
	bool changed;

	if (c->options->no_cache || answer->status > ST_FAIL || !cached->domain_key.len)
		return;
	if (answer->status == ST_FAIL && !answer->code)
		return; /* nobody was asked */
	expire_read(c->r, &expire);
	changed = calls_take(c, &cached->domain.calls, answer, now);
	changed |= fact_take(&cached->domain.random, answer->random, now);
	changed |= fact_take(&cached->domain.postmaster, answer->postmaster, now);
	if (changed)
		hint_put(c, cached->domain_key, callout_domain_format(c->a, &cached->domain),
			expire.domain_negative_s > expire.domain_positive_s ? expire.domain_negative_s : expire.domain_positive_s);
	if (fact_take(&cached->address, answer->recipient, now))
		hint_put(c, cached->address_key, callout_fact_format(c->a, &cached->address),
			cached->address.known == KNOWN_TAKEN ? expire.positive_s : expire.negative_s);
}

/* ---- the plan ---- */

static enum status plan_encode(const struct callout *c, struct str *out, struct err *err)
{
	struct ipc_plan plan = *c->plan;
	struct ipc_pair *v = arena_alloc(c->a, (plan.n_options + 2) * sizeof *v);
	bool lmtp = str_is(plan.driver, "lmtp");
	struct buf octets = BUF_INIT;
	uint32_t n = 0;
	enum status st;

	for (uint32_t i = 0; i < plan.n_options; i++)
		if (!str_is(plan.options[i].name, "connect_timeout") && !str_is(plan.options[i].name, "command_timeout") &&
			!str_is(plan.options[i].name, "timeout"))
			v[n++] = plan.options[i];
	v[n++] = (struct ipc_pair){ .name = lmtp ? STR_LIT("timeout") : STR_LIT("command_timeout"), .value = str_printf(c->a, "%us", c->options->command_s) };
	if (!lmtp)
		v[n++] = (struct ipc_pair){ .name = STR_LIT("connect_timeout"), .value = str_printf(c->a, "%us", c->options->connect_s) };
	plan.options = v;
	plan.n_options = n;
	st = ipc_encode(&ipc_type_plan, &plan, &octets, err);
	*out = st == ST_OK ? str_dup(c->a, buf_str(&octets)) : STR_NULL;
	buf_clear(&octets);
	return st;
}

void callout_plan_bare(struct route *rt, const struct driver_out *hosts, struct ipc_plan *out)
{
	struct ipc_host *v = arena_memdup(rt->a, hosts->hosts, hosts->n_hosts * sizeof *v);
	struct ipc_pair *helo = arena_alloc(rt->a, sizeof *helo);

	for (uint32_t i = 0; i < hosts->n_hosts; i++)
		if (!v[i].port)
			v[i].port = SMTP_PORT;
	*out = (struct ipc_plan){ .driver = STR_LIT("smtp"), .hosts = v, .n_hosts = hosts->n_hosts };
	helo->name = STR_LIT("helo_data");
	if (expand_text(rt->ev, STR_LIT("$smtp_active_hostname"), &helo->value, NULL) == ST_OK && helo->value.len) {
		out->options = helo;
		out->n_options = 1;
	}
}

/* ---- the question ---- */

static enum status ask_fill(const struct callout *c, const struct callout_decision *todo, struct ipc_callout_ask *out, struct err *err)
{
	const struct verify_options *o = c->options;
	struct str local;

	*out = (struct ipc_callout_ask){ .sender = c->mail_from, .addr = c->addr, .client_ip = c->client_ip, .of_sender = c->sender,
		.utf8 = c->utf8, .requiretls = c->requiretls, .fullpostmaster = o->fullpostmaster,
		.maxwait_ms = (uint64_t)o->maxwait_s * 1000, .end_ms = (uint64_t)verify_callout_limit_s(o) * 1000 };
	if (out->maxwait_ms > out->end_ms)
		out->maxwait_ms = out->end_ms;
	if (todo->random) {
		if (!c->r->site->random_local_part)
			return err_set(err, ST_ERROR, "callout_random_local_part is empty");
		if (expand(c->ev, c->r->site->random_local_part, &local, err) != ST_OK)
			return err_prefix(err, "callout_random_local_part");
		out->random = str_printf(c->a, "%.*s@%.*s", STR_FMT(str_sub(str_trim(local), 0, 500)), STR_FMT(domain_of(c)));
	}
	if (todo->postmaster) {
		out->postmaster = str_printf(c->a, "postmaster@%.*s", STR_FMT(domain_of(c)));
		out->postmaster_sender = o->postmaster_mailfrom;
	}
	return plan_encode(c, &out->plan, err);
}

/* ---- the result ---- */

static struct str one_line(struct arena *a, struct str s)
{
	struct buf b = BUF_INIT;
	struct str out;

	for (uint32_t i = 0; i < s.len; i++)
		if (s.p[i] == '\n')
			buf_adds(&b, "\\n");
		else if (s.p[i] != '\r')
			buf_addc(&b, s.p[i]);
	out = str_dup(a, str_sub(buf_str(&b), 0, 3000));
	buf_clear(&b);
	return out;
}

static const char *failure_of(uint64_t stage)
{
	return stage <= CALLOUT_MAIL ? "mail" : stage == CALLOUT_POSTMASTER ? "postmaster" : "recipient";
}

static const char *kind_of(const struct callout *c)
{
	return c->sender ? "sender" : "recipient";
}

static void out_defer(const struct callout *c, struct str why, struct ipc_verify_answer *out)
{
	out->status = ST_DEFER;
	out->text = str_printf(c->a, "Could not complete %s verify callout", kind_of(c));
	out->log_text = str_printf(c->a, "%.*s: %.*s", STR_FMT(out->text), STR_FMT(why));
}

/* $domain_data and $local_part_data, of an address that a server has taken. */
static void out_data(const struct callout *c, struct ipc_verify_answer *out)
{
	struct str local, domain;

	if (c->sender || !address_split(c->addr, &local, &domain))
		return;
	out->domain_data = str_lower(c->a, domain);
	out->local_part_data = local;
}

static void out_answered(const struct callout *c, const struct ipc_callout_answer *answer, struct ipc_verify_answer *out)
{
	struct str reply = str_sub(answer->reply, 0, REPLY_MAX), where, why;

	where = answer->ip.len ? str_printf(c->a, "%.*s [%.*s]", STR_FMT(answer->host), STR_FMT(answer->ip)) : answer->host;
	why = str_printf(c->a, "%.*s%s%.*s", STR_FMT(where), where.len ? " : " : "", STR_FMT(one_line(c->a, answer->text)));
	if (answer->ip.len)
		out->callout_address = str_printf(c->a, "[%.*s]:%u", STR_FMT(str_sub(answer->ip, 0, 46)), (unsigned)answer->port);
	if (answer->status == ST_OK) {
		if (answer->random == 1)
			out->failure = STR_LIT("random");
		else
			out_data(c, out);
		return;
	}
	if (answer->status != ST_FAIL) {
		out_defer(c, why, out);
		return;
	}
	out->status = ST_FAIL;
	out->failure = str_of(failure_of(answer->stage));
	out->log_text = why;
	out->code = answer->own;
	if (!reply.len)
		reply = one_line(c->a, answer->text);
	out->text = c->sender
		? str_printf(c->a, "Called:   %.*s\nSent:     %.*s\nResponse: %.*s", STR_FMT(answer->ip.len ? answer->ip : answer->host),
			STR_FMT(str_sub(answer->sent, 0, 1000)), STR_FMT(reply))
		: str_printf(c->a, "Callout verification failed:\n%.*s", STR_FMT(reply));
}

static void out_cached(const struct callout *c, const struct callout_decision *d, struct ipc_verify_answer *out)
{
	out->status = d->status;
	out->failure = str_of(d->failure);
	out->text = str_of(d->text);
	out->log_text = STR_NULL;
	if (d->status == ST_OK && !d->failure)
		out_data(c, out);
}

void callout_verify(const struct callout *c, struct ipc_verify_answer *out)
{
	struct callout_wish wish = { .null_sender = !c->mail_from.len, .random = c->options->random, .postmaster = c->options->postmaster };
	struct ipc_callout_answer answer = { .status = ST_DEFER };
	struct callout_decision todo;
	struct callout_expire expire;
	struct ipc_callout_ask ask;
	struct cached cached;
	struct err err = ERR_INIT;

	out->callout = true;
	cache_read(c, &cached);
	expire_read(c->r, &expire);
	callout_cache_decide(&wish, &cached.domain, &cached.address, &expire, clock_wall(), &todo);
	if (todo.decided) {
		out_cached(c, &todo, out);
		return;
	}
	if (ask_fill(c, &todo, &ask, &err) == ST_OK && !c->r->callout)
		err_set(&err, ST_DEFER, "callouts can't be made here");
	if (!err.status)
		c->r->callout(c->r->callout_ctx, &ask, &answer, (int)ask.end_ms + GRACE_MS, &err);
	if (err.status) {
		out_defer(c, str_of(arena_strdup(c->a, err.text)), out);
		return;
	}
	cache_write(c, &cached, &answer);
	out_answered(c, &answer, out);
}
