/* SPDX-License-Identifier: ISC */
/* The variables that whoever evaluates sets himself: rows come from slots.def. */
#include "common/lang/expand_tree.h"

const struct var_row exp_vars_slots[] = {
#define SLOT(name, what) { #name, VAR_SLOT, 0, EV_##name, false, NULL, NULL, what },
#include "common/lang/slots.def"
#undef SLOT
	{ NULL }
};
