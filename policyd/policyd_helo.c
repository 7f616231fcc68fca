/* SPDX-License-Identifier: ISC */
/* What is looked at when HELO comes, before its ACL: whether the client's name is wanted, and whether the name it gives is true. */
#include "policyd/policyd.h"

#include "common/lang/lang_list.h"

enum status policyd_helo_compile(struct policyd *p, struct err *err)
{
	const struct conf_text *domains = &p->conf->main.helo_lookup_domains;

	if (lang_list_compile(p->lang, LIST_DOMAIN, domains->text, domains->place, &p->helo_lookup, err) != ST_OK)
		return err_prefix(err, "helo_lookup_domains");
	return ST_OK;
}

static bool client_is_us(const struct eval *ev)
{
	return !ev->facts->client_ip.len;
}

/* RFC 5321 section 4.1.4 forbids to refuse a message for this; who sets helo_verify_hosts wants it. */
bool policyd_helo_run(struct policyd *p, struct eval *ev, struct ipc_acl_answer *out)
{
	struct err err = ERR_INIT;
	enum status st;

	if (client_is_us(ev))
		return true;
	if (lang_domain_match(ev, p->helo_lookup, ev->facts->helo, NULL, &err) == ST_OK)
		eval_client_name(ev, &err);
	if (!policyd_setting_yes(p, ev, "helo_verify_hosts")) {
		if (policyd_setting_yes(p, ev, "helo_try_verify_hosts"))
			acl_helo_verify(ev, &err);
		return true;
	}
	st = acl_helo_verify(ev, &err);
	if (st == ST_OK)
		return true;
	*out = (struct ipc_acl_answer){ .verdict = st == ST_FAIL ? ACL_DENY : ACL_DEFER, .text = STR_LIT("argument does not match calling host"),
		.acl_c = ev->acl_c.v, .n_acl_c = ev->acl_c.n, .acl_m = ev->acl_m.v, .n_acl_m = ev->acl_m.n, .client_name = ev->client_name,
		.name_looked = ev->name_looked && !ev->name_deferred };
	out->log_text = st == ST_FAIL ? out->text : str_printf(ev->arena, "%.*s: %s", STR_FMT(out->text), err.text);
	return false;
}
