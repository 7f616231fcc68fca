/* SPDX-License-Identifier: ISC */
/* Conditions on addresses: domains, local_parts, recipients, senders, sender_domains. */
#include "common/lang/acl_row.h"
#include "common/mail/address.h"

/* The data of a match goes into a variable; what an earlier test left there goes when this one fails. */
static enum acl_rc data_keep(struct acl_state *s, enum status st, const struct lang_list_match *m, enum eval_slot slot)
{
	if (st == ST_OK)
		s->ev->slot[slot] = m->data;
	return acl_rc_of(st);
}

static enum acl_rc cond_domains(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_list_match m;

	(void)text;
	s->ev->deps |= DEP_SESSION;
	return data_keep(s, lang_domain_match(s->ev, item->list, s->ev->slot[EV_domain], &m, err), &m, EV_domain_data);
}

static enum acl_rc cond_local_parts(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_list_match m;

	(void)text;
	s->ev->deps |= DEP_SESSION;
	return data_keep(s, lang_local_part_match(s->ev, item->list, s->ev->slot[EV_local_part], false, &m, err), &m, EV_local_part_data);
}

static enum acl_rc cond_recipients(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_list_match m;

	(void)text;
	s->ev->deps |= DEP_SESSION;
	return data_keep(s, lang_address_match(s->ev, item->list, str_taint(s->ev->facts->recipient), &m, err), &m, EV_recipient_data);
}

static enum acl_rc cond_senders(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct lang_list_match m;

	(void)text;
	s->ev->deps |= DEP_SESSION;
	return data_keep(s, lang_address_match(s->ev, item->list, str_taint(s->ev->facts->sender), &m, err), &m, EV_sender_data);
}

static enum acl_rc cond_sender_domains(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	struct str local, domain;

	(void)text;
	s->ev->deps |= DEP_SESSION;
	if (!address_split(s->ev->facts->sender, &local, &domain))
		domain = STR_NULL;
	return acl_rc_of(lang_domain_match(s->ev, item->list, str_taint(domain), NULL, err));
}

const struct acl_item_row acl_items_address[] = {
	{ "domains", false, SHAPE_LIST, STAGES_RCPT, LIST_DOMAIN, cond_domains, NULL, false, "the recipient's domain is in the list" },
	{ "local_parts", false, SHAPE_LIST, STAGES_RCPT, LIST_LOCALPART, cond_local_parts, NULL, false, "the recipient's local part is in the list" },
	{ "recipients", false, SHAPE_LIST, STAGES_RCPT, LIST_ADDRESS, cond_recipients, NULL, false, "the recipient is in the list" },
	{ "senders", false, SHAPE_LIST, STAGES_MESSAGE, LIST_ADDRESS, cond_senders, NULL, false, "the envelope sender is in the list" },
	{ "sender_domains", false, SHAPE_LIST, STAGES_MESSAGE, LIST_DOMAIN, cond_sender_domains, NULL, false,
		"the domain of the envelope sender is in the list" },
	{ NULL }
};
