/* SPDX-License-Identifier: ISC */
/* The modifier udpsend: a datagram to whoever counts. Router sends it, since policyd has no network (specification, section 44.21). */
#include "common/base/log.h"
#include "common/lang/acl_row.h"
#include "common/lang/expand_tree.h"
#include "common/lang/lang_ask.h"
#include "common/lang/lang_ip.h"
#include "common/lang/lang_list.h"
#include "common/lang/lang_priv.h"

enum { UDP_PAYLOAD_MAX = 65507 /* octets, over IPv4 */ };

/* Whether server or port, as written, hold an expansion: then no stranger's text may be in it. */
static bool is_expanded(struct str raw)
{
	char sep = lang_split_separator(raw);
	unsigned seps = 0;

	raw = str_trim(raw);
	if (raw.len > 2 && raw.p[0] == '<' && raw.p[1] == sep)
		raw = str_from(raw, 2);
	for (uint32_t i = 0; i < raw.len && seps < 2; i++) {
		if (raw.p[i] == '$')
			return true;
		seps += raw.p[i] == sep;
	}
	return false;
}

static enum acl_rc wrong(struct err *err, enum acl_rc rc, const char *what)
{
	err_set(err, rc == RC_DEFER ? ST_DEFER : ST_ERROR, "%s in \"udpsend\" modifier", what);
	return rc;
}

static enum acl_rc address_find(struct acl_state *s, struct str *server, struct err *err)
{
	struct ipc_host_answer found;
	struct ip ip;

	if (ip_parse(*server, &ip))
		return RC_OK;
	if (lang_ask_hosts(s->ev, *server, "A", &found, err) || !found.n_hosts)
		return wrong(err, RC_DEFER, "DNS lookup failed");
	*server = found.hosts[0].ip;
	return RC_OK;
}

static enum acl_rc mod_udpsend(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct lang_services *services = lang_services(s->ev->lang);
	struct lang_split split = LANG_SPLIT(text);
	struct str server = STR_NULL, port = STR_NULL;
	struct ipc_lookup_answer answer;
	struct ipc_lookup_ask ask;
	uint64_t number;
	enum acl_rc rc;
	enum status st;

	if (text.tainted && is_expanded(item->text)) {
		err_set(err, ST_ERROR, "udpsend: a stranger's text may be in the server or the port: write these as they are");
		return RC_ERROR;
	}
	if (!lang_split_next(&split, s->ev->arena, &server) || !server.len)
		return wrong(err, RC_ERROR, "missing destination host");
	if (!lang_split_next(&split, s->ev->arena, &port) || !port.len)
		return wrong(err, RC_ERROR, "missing destination port");
	if (!str_u64(port, 65535, &number) || !number)
		return wrong(err, RC_ERROR, "bad destination port");
	rc = address_find(s, &server, err);
	if (rc != RC_OK)
		return rc;
	if (s->ev->facts->pretended) {
		acl_trace(s, "udpsend [%.*s]:%.*s %u octets: not sent, since the session is a pretended one", STR_FMT(server), STR_FMT(port), split.rest.len);
		return RC_OK;
	}
	if (!services->lookup)
		return wrong(err, RC_ERROR, "nothing can be sent from here,");
	ask = (struct ipc_lookup_ask){ .type = STR_LIT(LOOKUP_ASK_PACKET), .file = server, .options = port, .key = split.rest };
	st = split.rest.len > UDP_PAYLOAD_MAX ? err_set(err, ST_FAIL, "%u octets are too many", split.rest.len)
		: services->lookup(services->ctx, s->ev->arena, &ask, &answer, err);
	if (st == ST_DEFER)
		return RC_DEFER;
	if (st != ST_OK) { /* nobody's mail waits for what is only counted */
		acl_log(s, LOG_MAIN, str_printf(s->ev->arena, "udpsend to [%.*s]:%.*s: %s", STR_FMT(server), STR_FMT(port), str_cstr(s->ev->arena, str_of(err->text))));
		err_clear(err);
	}
	return RC_OK;
}

const struct acl_item_row acl_items_udpsend[] = {
	{ "udpsend", true, SHAPE_TEXT, STAGES_ALL, 0, mod_udpsend, NULL, false, "sends a UDP packet: a list of server, port and, as it stands, content" },
	{ NULL }
};
