/* SPDX-License-Identifier: ISC */
/* site_impl.h - what the files that build the site share.
 * Used by:    router/site*.c. */
#ifndef ROUTER_SITE_IMPL_H
#define ROUTER_SITE_IMPL_H

#include "router/site.h"

enum status site_transport_make(struct site *site, const struct conf_instance *conf, struct site_transport *out, struct err *err);
void site_shadows_make(struct site *site);
enum status site_auths_make(struct site *site, const struct conf *conf, struct err *err);
bool site_reads_message(const struct conf_table *table, const void *opts);
/* Adds the items of a list, each compiled by itself; sep where the text does not name another. */
enum status site_items(struct site *site, struct str text, struct conf_place place, char sep, uint32_t max, struct site_texts *out, struct err *err);
enum status site_items_all(struct site *site, const struct conf_texts *t, char sep, uint32_t max, struct site_texts *out, struct err *err);

#endif
