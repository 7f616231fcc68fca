/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_plan.h"

#include "common/conf/option.h"
#include "common/mail/alabel.h"

static bool helo_is_safe(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (s.p[i] != CONF_LATE_MARK && ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f))
			return false;
	return s.len > 0 && s.len <= 255;
}

static void plan_free(struct out_plan *p)
{
	struct arena a = p->arena;

	arena_clear(&a);
	mem_free(p);
}

static void host_profile(struct out_plan *p, struct out_host *h, struct str helo)
{
	const struct out_options *o = h->options;
	struct smtp_profile *f = &h->profile;

	*f = (struct smtp_profile){
		.helo = alabel_domain_canonical(&p->arena, helo_is_safe(o->helo) ? o->helo : helo), .lmtp = o->lmtp, .auth = p->plan.auth, .n_auth = p->plan.n_auth,
		.auth_sender = p->plan.has_auth_sender ? p->plan.auth_sender : STR_NULL, .auth_sender_force = o->auth_sender_force,
		.ignore_quota = o->ignore_quota, .size_addition = o->size_addition,
	};
	f->is_host = h->host != NULL;
	if (!h->host)
		return;
	f->avoid_esmtp = out_host_matches(o->avoid_esmtp, h->host->name, h->host->ip);
	f->avoid_pipelining = out_host_matches(o->avoid_pipelining, h->host->name, h->host->ip);
	f->try_chunking = out_host_matches(o->try_chunking, h->host->name, h->host->ip);
	f->try_prdr = out_host_matches(o->try_prdr, h->host->name, h->host->ip);
	f->auth_try = out_host_matches(o->try_auth, h->host->name, h->host->ip);
	f->auth_require = out_host_matches(o->require_auth, h->host->name, h->host->ip);
}

static enum status hosts_fill(struct out_plan *p, struct str helo, struct err *err)
{
	helo = str_dup(&p->arena, helo);
	p->hosts = arena_alloc(&p->arena, (p->plan.n_hosts + 1) * sizeof *p->hosts);
	for (uint32_t i = 0; i <= p->plan.n_hosts; i++) {
		struct out_host *h = &p->hosts[i];

		h->host = i < p->plan.n_hosts ? &p->plan.hosts[i] : NULL;
		h->options = &p->options;
		if (h->host && h->host->n_options) {
			struct out_options *own = arena_alloc(&p->arena, sizeof *own);
			enum status st = out_options_read(&p->plan, h->host, &p->arena, own, err);

			if (st)
				return st;
			h->options = own;
		}
		host_profile(p, h, helo);
		out_tls_decide(h->options, h->host, &h->tls);
	}
	return ST_OK;
}

enum status out_plan_get(struct hash *cache, struct str encoded, struct str helo, struct out_plan **out, struct err *err)
{
	struct out_plan *p = hash_get(cache, encoded);
	enum status st;

	if (p) {
		*out = out_plan_hold(p);
		return ST_OK;
	}
	p = mem_new(sizeof *p);
	p->encoded = str_dup(&p->arena, encoded);
	st = ipc_decode(&ipc_type_plan, p->encoded, &p->arena, &p->plan, err);
	if (!st)
		st = out_options_read(&p->plan, NULL, &p->arena, &p->options, err);
	if (!st)
		st = hosts_fill(p, helo, err);
	if (st) {
		plan_free(p);
		return st;
	}
	p->refs = 1;
	p->cache = cache;
	hash_put(cache, p->encoded, p);
	*out = p;
	return ST_OK;
}

struct out_plan *out_plan_hold(struct out_plan *p)
{
	p->refs++;
	return p;
}

void out_plan_drop(struct out_plan *p)
{
	if (!p || --p->refs)
		return;
	hash_remove(p->cache, p->encoded);
	plan_free(p);
}

const struct out_host *out_plan_host(const struct out_plan *p, uint32_t host)
{
	return &p->hosts[host < p->plan.n_hosts ? host : p->plan.n_hosts];
}
