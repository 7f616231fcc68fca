/* SPDX-License-Identifier: ISC */
/* The external and tls authenticators: something outside of SMTP, mostly a certificate, says who the client is (specification,
 * chapters 41 and 42). */
#include "policyd/policyd_auth.h"

static bool has_condition(const struct conf_instance *conf)
{
	return CONF_AUTHENTICATOR(conf)->server_condition.set;
}

static enum status params_compile(struct policyd *p, struct auth_inst *inst, const struct conf_text *const t[3], struct err *err)
{
	for (unsigned i = 0; i < 3; i++)
		if (t[i] && t[i]->set && lang_compile(p->lang, t[i]->text, t[i]->place, &inst->own[i], err))
			return err_prefix(err, "server_param%u", i + 1);
	return ST_OK;
}

static enum status external_compile(struct policyd *p, struct auth_inst *inst, struct err *err)
{
	const struct conf_opts_authenticator_external *o = CONF_OWN(inst->conf, authenticator_external);
	const struct conf_text *const t[3] = { NULL, &o->server_param2, &o->server_param3 };

	return params_compile(p, inst, t, err);
}

static enum status tls_compile(struct policyd *p, struct auth_inst *inst, struct err *err)
{
	const struct conf_opts_authenticator_tls *o = CONF_OWN(inst->conf, authenticator_tls);
	const struct conf_text *const t[3] = { &o->server_param1, &o->server_param2, &o->server_param3 };

	return params_compile(p, inst, t, err);
}

static enum auth_result params_set(struct auth_step *s, struct err *err)
{
	for (unsigned i = 0; i < 3; i++) {
		struct str text;
		enum auth_result r;

		if (!s->inst->own[i])
			continue;
		r = auth_expand(s, s->inst->own[i], "server_param", &text, err);
		if (r != AUTH_OK)
			return r;
		auth_string_set(s->ev, i + 1, text);
	}
	return auth_condition(s, err);
}

static enum auth_result external_step(struct auth_step *s, struct err *err)
{
	struct str first;

	if (!s->ask->has_data)
		return AUTH_CHALLENGE; /* an empty one */
	if (!str_split(&(struct str){ s->ask->data.p, s->ask->data.len, true }, '\0', &first))
		first = STR_NULL;
	auth_string_set(s->ev, 1, first);
	return params_set(s, err);
}

const struct auth_driver auth_external = {
	.table = &conf_table_authenticator_external, .smtp = true, .is_server = has_condition, .compile = external_compile, .step = external_step,
};

/* Without a condition it would let everybody in: then it is no server (Exim takes a parameter to be enough). */
const struct auth_driver auth_tls = {
	.table = &conf_table_authenticator_tls, .is_server = has_condition, .compile = tls_compile, .step = params_set,
};
