/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_plan.h"

#include "common/conf/option.h"

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
		st = out_options_read(&p->plan, &p->arena, &p->options, err);
	if (st) {
		plan_free(p);
		return st;
	}
	if (helo_is_safe(p->options.helo))
		helo = p->options.helo;
	else
		helo = str_dup(&p->arena, helo);
	for (unsigned i = 0; i < 16; i++)
		p->profiles[i] = (struct smtp_profile){
			.helo = helo, .lmtp = p->options.lmtp, .avoid_esmtp = i & 2, .avoid_pipelining = i & 1,
			.auth = p->plan.auth, .n_auth = p->plan.n_auth, .auth_try = i & 4, .auth_require = i & 8,
			.auth_sender = p->plan.has_auth_sender ? p->plan.auth_sender : STR_NULL, .auth_sender_force = p->options.auth_sender_force,
			.ignore_quota = p->options.ignore_quota, .size_addition = p->options.size_addition,
		};
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

const struct smtp_profile *out_plan_profile(const struct out_plan *p, const struct ipc_host *host)
{
	unsigned i = 0;

	if (host && out_host_matches(p->options.avoid_esmtp, host->name, host->ip))
		i |= 2;
	if (host && out_host_matches(p->options.avoid_pipelining, host->name, host->ip))
		i |= 1;
	if (host && out_host_matches(p->options.try_auth, host->name, host->ip))
		i |= 4;
	if (host && out_host_matches(p->options.require_auth, host->name, host->ip))
		i |= 8;
	return &p->profiles[i];
}
