/* SPDX-License-Identifier: ISC */
/* The macros that exist before the file is read (specification, section 6.9): made from the tables, so that a
 * configuration may ask what this build knows. */
#include "common/conf/log_selector.h"
#include "common/conf/reader.h"

#include <string.h>

static const char *const have[] = {
	"BULKHEAD", "CONTENT_SCANNING", "CRYPTEQ", "DANE", "DNSSEC", "I18N", "IPV6", "LMDB", "MAILDIR", "NATIVE_SRS", "OCSP", "OPENSSL",
	"PIPE_CONNECT", "PRDR", "PROXY", "SOCKS", "SRS", "TCP_FASTOPEN", "TLS", "TLS1_3", "TLS_ALPN", "TLS_CA_CACHE", "TLS_OCSP",
	"TLS_OCSP_LIST", "TLS_RESUME", "TRANSPORT_APPEND_MAILDIR", "TRANSPORT_APPENDFILE", "TRANSPORT_LMTP", "TRANSPORT_SMTP", NULL
};

static void add(struct hash *set, struct arena *a, const char *prefix, const char *middle, const char *name)
{
	struct str s = str_printf(a, "%s%s%s", prefix, middle, name);
	char *p = (char *)s.p;

	for (uint32_t i = 0; i < s.len; i++)
		p[i] = ascii_upper(p[i]);
	hash_put(set, s, (void *)(uintptr_t)"y");
}

/* What $tls_in_resumption says, by bits 1 to 4: a ticket was asked for, a session offered, a ticket given, the session resumed. Bit 0, which
 * is always set, changes nothing. */
static const char *const resumption[] = {
	"no ticket, no session", "client requested ticket, server provided none", "client offered session, not resumed",
	"client offered session and requested ticket, neither given", "server provided ticket unrequested", "client requested new ticket, server provided",
	"client offered session, not resumed, server provided ticket unrequested", "client offered session, not resumed, also new ticket",
	"session resumed unoffered", "session resumed unoffered", "session resumed", "session resumed", "session resumed unoffered, also new ticket",
	"session resumed unoffered, also new ticket", "session resumed, also new ticket", "session resumed, also new ticket",
};

/* A list for ${listextract}: item value + 1. */
static void resume_decode_add(struct hash *set, struct arena *a)
{
	struct str list = STR_LIT("");

	for (unsigned i = 0; i < 32; i++)
		list = str_printf(a, "%.*s%s%s", STR_FMT(list), i ? " : " : "", resumption[i / 2]);
	hash_put(set, STR_LIT("_RESUME_DECODE"), (void *)(uintptr_t)str_cstr(a, list));
}

void conf_predefined_fill(struct hash *set, struct arena *a, const struct conf_macro_family *families)
{
	static const char *const driver_prefix[CONF_CLASSES] = { "_DRIVER_ROUTER_", "_DRIVER_TRANSPORT_", "_DRIVER_AUTHENTICATOR_" };

	for (unsigned i = 0; have[i]; i++)
		add(set, a, "_HAVE_", "", have[i]);
	for (const struct conf_driver *d = conf_drivers; d->name; d++)
		if (!d->later)
			add(set, a, driver_prefix[d->class], "", d->name);
	for (unsigned t = 0; conf_tables[t]; t++)
		for (const struct conf_option *o = conf_tables[t]->rows; o->name; o++)
			if (!(o->flags & F_LATER) && (o->flags & F_PENDING) != F_PENDING)
				add(set, a, "_OPT_", arena_printf(a, "%s_", conf_tables[t]->family), o->name);
	for (unsigned i = 0; i < LOG_SELECTORS; i++)
		add(set, a, "_LOG_", "", log_selector_name(i));
	resume_decode_add(set, a);
	add(set, a, "_LOG_", "", "all");
	add(set, a, "_LOG_", "", "rejected_headers");
	add(set, a, "_CRYPTO_HASH_", "", "sha3");
	for (; families && families->prefix; families++)
		for (unsigned i = 0; families->names[i]; i++)
			add(set, a, families->prefix, "", families->names[i]);
}
