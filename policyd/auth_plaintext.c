/* SPDX-License-Identifier: ISC */
/* The plaintext authenticator: strings from the client, put into $auth1 ..., and a condition on them (specification, chapter 34). */
#include <string.h>

#include "policyd/policyd_auth.h"

static bool is_server(const struct conf_instance *conf)
{
	return CONF_AUTHENTICATOR(conf)->server_condition.set;
}

static enum status plaintext_compile(struct policyd *p, struct auth_inst *inst, struct err *err)
{
	const struct conf_opts_authenticator_plaintext *o = CONF_OWN(inst->conf, authenticator_plaintext);

	return o->server_prompts.set ? lang_compile(p->lang, o->server_prompts.text, o->server_prompts.place, &inst->own[0], err) : ST_OK;
}

/* The state is all that the client has sent, each response with a NUL behind it; within a response NULs separate strings. */
static bool state_add(struct auth_step *s)
{
	uint32_t before = s->ask->state.len;
	char *v;

	if (before + s->ask->data.len >= AUTH_STATE_MAX)
		return false;
	v = arena_alloc(s->ev->arena, before + s->ask->data.len + 1);
	if (before)
		memcpy(v, s->ask->state.p, before);
	if (s->ask->data.len)
		memcpy(v + before, s->ask->data.p, s->ask->data.len);
	v[before + s->ask->data.len] = '\0';
	s->out->state = str_taint(str_make(v, before + s->ask->data.len + 1));
	return true;
}

static unsigned strings_set(struct auth_step *s)
{
	struct str rest = s->out->state, part;
	unsigned n = 0;

	while (rest.len && str_split(&rest, '\0', &part)) {
		n++;
		if (n <= AUTH_STRINGS_MAX)
			auth_string_set(s->ev, n, part);
	}
	return n;
}

/* The prompt for string number n, from 0; false: there is none. */
static bool prompt_find(struct arena *a, struct str prompts, unsigned n, struct str *out)
{
	struct conf_list_walk walk = CONF_LIST_WALK(prompts);

	for (unsigned i = 0; conf_list_next(&walk, a, out); i++)
		if (i == n)
			return true;
	return false;
}

static enum auth_result plaintext_step(struct auth_step *s, struct err *err)
{
	struct str prompts, prompt;
	enum auth_result r;
	unsigned n;

	if (s->ask->has_data && !state_add(s)) {
		err_set(err, ST_FAIL, "the client sent too much");
		return AUTH_FAIL;
	}
	n = strings_set(s);
	r = auth_expand(s, s->inst->own[0], "server_prompts", &prompts, err);
	if (r == AUTH_FAIL)
		err_set(err, ST_DEFER, "server_prompts: forced failure");
	if (r != AUTH_OK)
		return AUTH_DEFER;
	if (prompt_find(s->ev->arena, prompts, n, &prompt)) {
		s->out->challenge = str_sub(prompt, 0, 8192);
		return AUTH_CHALLENGE;
	}
	s->out->state = STR_NULL;
	return auth_condition(s, err);
}

const struct auth_driver auth_plaintext = {
	.table = &conf_table_authenticator_plaintext, .smtp = true, .is_server = is_server, .compile = plaintext_compile, .step = plaintext_step,
};
