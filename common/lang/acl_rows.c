/* SPDX-License-Identifier: ISC */
/* The registries of the ACL engine. */
#include "common/lang/acl_row.h"
#include "common/lang/lang_priv.h"

static const struct acl_item_row *const files[] = { acl_items_address, acl_items_session, acl_items_message, acl_items_verify, acl_items_control, acl_items_rate, acl_items_dnslists, acl_items_regex,
	acl_items_content, acl_items_mime, acl_items_udpsend, acl_items_pending, acl_items_later };
#define FILES (sizeof files / sizeof *files)

static const struct lang_row verbs[] = {
	{ "accept", "accepts when all conditions hold", false },
	{ "defer", "refuses for now when all conditions hold", false },
	{ "deny", "refuses when all conditions hold", false },
	{ "discard", "accepts, and throws away, when all conditions hold", false },
	{ "drop", "refuses and closes the connection when all conditions hold", false },
	{ "require", "refuses when a condition does not hold", false },
	{ "warn", "never decides; logs and adds headers when all conditions hold", false },
};

void lang_acl_index(struct lang *lang)
{
	for (size_t f = 0; f < FILES; f++)
		for (const struct acl_item_row *r = files[f]; r->name; r++)
			hash_put(&lang->acl_items, str_of(r->name), (void *)r);
	for (const struct acl_control_row *r = acl_controls; r->name; r++)
		hash_put(&lang->acl_controls, str_of(r->name), (void *)r);
}

bool acl_condition_at(size_t i, struct lang_row *out)
{
	for (size_t f = 0; f < FILES; f++)
		for (const struct acl_item_row *r = files[f]; r->name; r++)
			if (!i--) {
				*out = (struct lang_row){ r->name, r->what, r->later || files[f] == acl_items_pending };
				return true;
			}
	return false;
}

bool acl_control_at(size_t i, struct lang_row *out)
{
	for (const struct acl_control_row *r = acl_controls; r->name; r++)
		if (!i--) {
			*out = (struct lang_row){ r->name, r->what, r->later || r->pending };
			return true;
		}
	return false;
}

bool acl_verb_at(size_t i, struct lang_row *out)
{
	if (i >= VERBS)
		return false;
	*out = verbs[i];
	return true;
}

static bool page_item(bool modifier, size_t i, struct acl_page_row *out)
{
	for (size_t f = 0; f < FILES; f++)
		for (const struct acl_item_row *r = files[f]; r->name; r++)
			if (r->modifier == modifier && !i--) {
				*out = (struct acl_page_row){ r->name, r->what, NULL, r->stages, r->later };
				return true;
			}
	return false;
}

static bool page_control(size_t i, struct acl_page_row *out)
{
	for (const struct acl_control_row *r = acl_controls; r->name; r++)
		if (!i--) {
			*out = (struct acl_page_row){ r->name, r->what, r->pending, r->stages, r->later };
			return true;
		}
	return false;
}

bool acl_page_at(enum acl_page page, size_t i, struct acl_page_row *out)
{
	struct lang_row verb;

	switch (page) {
	case ACL_PAGE_VERBS:
		if (!acl_verb_at(i, &verb))
			return false;
		*out = (struct acl_page_row){ .name = verb.name, .what = verb.what };
		return true;
	case ACL_PAGE_CONDITIONS:
		return page_item(false, i, out);
	case ACL_PAGE_MODIFIERS:
		return page_item(true, i, out);
	case ACL_PAGE_CONTROLS:
		return page_control(i, out);
	case ACL_PAGE_VERIFY:
		return acl_verify_at(i, out);
	case ACL_PAGES:
		break;
	}
	return false;
}
