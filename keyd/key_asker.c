/* SPDX-License-Identifier: ISC */
#include "keyd/key_asker.h"

#include <string.h>

#include "common/base/mem.h"

/* Whether the option may have come to that path. */
static bool text_fits(const struct conf_text *option, struct str path)
{
	struct str text = str_trim(option->text);
	uint32_t plain = 0;

	while (plain < text.len && text.p[plain] != '$' && text.p[plain] != '\\')
		plain++;
	if (plain == text.len)
		return str_eq(text, path);
	return str_begins(path, "/") && path.len >= plain && str_eq(str_sub(path, 0, plain), str_sub(text, 0, plain)) &&
		str_find_str(path, STR_LIT("/../")) < 0;
}

bool key_asker_may(const struct conf *conf, const char *peer, const struct ipc_cert_ask *ask)
{
	const struct conf_instances *t = &conf->of[CONF_TRANSPORTS];

	if (strcmp(peer, "smtp-out") != 0)
		return true;
	for (uint32_t i = 0; i < t->n && ask->cert.len && !ask->ocsp.len; i++) {
		const struct conf_opts_transport_smtp *o = t->v[i].driver ? CONF_OWN(&t->v[i], transport_smtp) : NULL;

		if (o && text_fits(&o->tls_certificate, str_trim(ask->cert)) && text_fits(&o->tls_privatekey, str_trim(ask->key)))
			return true;
	}
	return false;
}

void key_asker_give(struct key_asker *a, uint64_t key)
{
	if (key_asker_has(a, key))
		return;
	if (a->n == a->room) {
		a->room = a->room * 2 + 8;
		a->keys = mem_resize(a->keys, a->room * sizeof *a->keys);
	}
	a->keys[a->n++] = key;
}

bool key_asker_has(const struct key_asker *a, uint64_t key)
{
	for (size_t i = 0; a && i < a->n; i++)
		if (a->keys[i] == key)
			return true;
	return false;
}

void key_asker_clear(struct key_asker *a)
{
	mem_free(a->keys);
	*a = (struct key_asker){ .n = 0 };
}
