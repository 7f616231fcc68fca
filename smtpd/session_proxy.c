/* SPDX-License-Identifier: ISC */
/* Connections that come through a proxy: hosts_proxy is asked about the peer; then the header makes the client the client. */
#include <string.h>

#include "smtpd/session_priv.h"

/* What $proxy_... and the log say. A header that failed leaves nothing but that one was due. */
static void facts_keep(struct session *s, const struct proxy_header *h)
{
	struct arena *a = &s->server->scratch;
	struct ipc_pair v[5];
	char peer[64], target[64];
	uint32_t n = 0;

	v[n++] = (struct ipc_pair){ .name = STR_LIT("session"), .value = STR_LIT("yes") };
	if (h) {
		session_ip_format(s->ipv6, s->client_ip, peer);
		v[n++] = (struct ipc_pair){ .name = STR_LIT("local_address"), .value = str_of(peer) };
		v[n++] = (struct ipc_pair){ .name = STR_LIT("local_port"), .value = str_printf(a, "%u", s->client_port) };
	}
	if (h && !h->none) {
		session_ip_format(h->ipv6, h->target, target);
		v[n++] = (struct ipc_pair){ .name = STR_LIT("external_address"), .value = str_taint(str_of(target)) };
		v[n++] = (struct ipc_pair){ .name = STR_LIT("external_port"), .value = str_taint(str_printf(a, "%u", h->target_port)) };
	}
	for (uint32_t i = 0; i < n; i++)
		v[i].tainted = v[i].value.tainted;
	session_vars_set(&s->proxy, v, n);
}

/* An IPv4 client of a proxy that speaks IPv6 is an IPv4 client. */
static void client_take(struct session *s, const struct proxy_header *h)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	memset(s->client_ip, 0, sizeof s->client_ip);
	s->ipv6 = h->ipv6 && memcmp(h->source, mapped, sizeof mapped) != 0;
	if (s->ipv6 || !h->ipv6)
		memcpy(s->client_ip, h->source, s->ipv6 ? 16 : 4);
	else
		memcpy(s->client_ip, h->source + 12, 4);
	s->client_port = h->source_port;
	client_settings_unref(s->client);
	s->client = NULL;
	s->server->ops->client_changed(s);
}

void session_on_proxy(struct session *s, const struct proxy_header *h, const char *why)
{
	if (s->state != SESSION_PROXY)
		return;
	session_enter(s, SESSION_CONNECT);
	if (!h) {
		session_logf(s, LOG_MAIN, "%.*s proxy header refused: %s", STR_FMT(log_host(s)), why);
		s->server->stats.rejects++;
		s->proxy_failed = true;
	}
	facts_keep(s, h);
	if (h && !h->none)
		client_take(s, h);
	session_client_known(s);
}

void proxy_late(struct session *s)
{
	session_on_proxy(s, NULL, "it did not come in time");
}

static void proxy_told(struct session *s, const struct ipc_acl_answer *answer)
{
	bool due = false;

	if (!answer || answer->verdict != ACL_ACCEPT) {
		session_logf(s, LOG_MAIN, "%.*s hosts_proxy: %.*s", STR_FMT(log_host(s)), STR_FMT(answer ? answer->log_text : STR_NULL));
		session_drop(s, 421, "4.3.0", "Temporary local problem - please try later");
		return;
	}
	for (uint32_t i = 0; i < answer->n_settings; i++)
		due |= str_is(answer->settings[i].name, "hosts_proxy") && str_is(answer->settings[i].value, "yes");
	if (!due) {
		session_enter(s, SESSION_CONNECT);
		session_client_known(s);
		return;
	}
	session_enter(s, SESSION_PROXY);
	s->deadline_ms = s->server->now_ms + s->server->settings.proxy_timeout_ms;
}

void proxy_ask(struct session *s)
{
	policy_ask(s, (enum acl_stage)ASK_PROXY, proxy_told);
}

/* After a header that failed nothing is obeyed but QUIT. */
bool proxy_refuses(struct session *s, const struct verb *v)
{
	if (!s->proxy_failed || v->check == verb_quit)
		return false;
	reply(s, 503, "5.5.1", STR_LIT("Command refused, required Proxy negotiation failed"));
	return true;
}
