/* SPDX-License-Identifier: ISC */
/* XCLIENT, as Postfix has it: a proxy or filter of ours (hosts_xclient) says for whom it speaks. From then on the session is that of the
 * client, and begins anew with the greeting. Who may say so is decided by who really connected, once. */
#include <arpa/inet.h>
#include <string.h>

#include "smtpd/session_priv.h"

enum { ATTRIBUTE_MAX = 255 };

/* What a command said. Nothing changes before all of it has been read. */
struct said {
	struct str name, helo, login;
	uint8_t ip[16], dest[16];
	uint16_t port, dest_port;
	bool has_ip, ipv6, has_dest, dest_ipv6, has_port, has_dest_port, esmtp;
	bool unnamed, name_deferred, logged_out, helo_unknown;
};

static bool unavailable(struct str value)
{
	return str_isi(value, "[UNAVAILABLE]");
}

static bool ip_parse(struct str value, uint8_t ip[16], bool *ipv6)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	char text[INET6_ADDRSTRLEN];

	*ipv6 = str_beginsi(value, "IPV6:");
	if (*ipv6)
		value = str_from(value, 5);
	if (!value.len || value.len >= sizeof text)
		return false;
	memcpy(text, value.p, value.len);
	text[value.len] = 0;
	if (inet_pton(*ipv6 ? AF_INET6 : AF_INET, text, ip) != 1)
		return false;
	if (*ipv6 && !memcmp(ip, mapped, sizeof mapped)) { /* an IPv4 client */
		memmove(ip, ip + 12, 4);
		*ipv6 = false;
	}
	return true;
}

static bool port_parse(struct str value, uint16_t *port)
{
	uint64_t n = 0;

	if (value.len > 5 || !str_u64(value, UINT16_MAX, &n))
		return false;
	*port = (uint16_t)n;
	return true;
}

static bool take_name(struct session *s, struct said *x, struct str value)
{
	(void)s;
	x->name_deferred = str_isi(value, "[TEMPUNAVAIL]");
	x->unnamed = x->name_deferred || unavailable(value);
	x->name = x->unnamed ? STR_NULL : value;
	return x->unnamed || address_hostname_valid(value);
}

/* An address that is not known leaves the speaker as the client. */
static bool take_addr(struct session *s, struct said *x, struct str value)
{
	(void)s;
	if (unavailable(value))
		return true;
	x->has_ip = true;
	return ip_parse(value, x->ip, &x->ipv6);
}

static bool take_port(struct session *s, struct said *x, struct str value)
{
	(void)s;
	x->has_port = true;
	return unavailable(value) || port_parse(value, &x->port);
}

static bool take_proto(struct session *s, struct said *x, struct str value)
{
	(void)s;
	x->esmtp = str_isi(value, "ESMTP");
	return x->esmtp || str_isi(value, "SMTP");
}

static bool take_helo(struct session *s, struct said *x, struct str value)
{
	x->helo_unknown = unavailable(value);
	x->helo = x->helo_unknown ? STR_NULL : value;
	return x->helo_unknown || helo_valid(s, value);
}

static bool take_login(struct session *s, struct said *x, struct str value)
{
	(void)s;
	x->logged_out = unavailable(value);
	x->login = x->logged_out ? STR_NULL : value;
	return true;
}

static bool take_destaddr(struct session *s, struct said *x, struct str value)
{
	(void)s;
	if (unavailable(value))
		return true;
	x->has_dest = true;
	return ip_parse(value, x->dest, &x->dest_ipv6);
}

static bool take_destport(struct session *s, struct said *x, struct str value)
{
	(void)s;
	x->has_dest_port = !unavailable(value);
	return !x->has_dest_port || port_parse(value, &x->dest_port);
}

static const struct {
	const char *name;
	bool (*take)(struct session *s, struct said *x, struct str value);
} attributes[] = {
	{ "NAME", take_name }, { "ADDR", take_addr }, { "PORT", take_port }, { "PROTO", take_proto }, { "HELO", take_helo }, { "LOGIN", take_login },
	{ "DESTADDR", take_destaddr }, { "DESTPORT", take_destport },
};
enum { ATTRIBUTES = sizeof attributes / sizeof *attributes };

struct str xclient_text(struct session *s)
{
	struct buf b = BUF_LIMIT(256);
	struct str text;

	for (size_t i = 0; i < ATTRIBUTES; i++)
		buf_printf(&b, " %s", attributes[i].name);
	text = str_dup(&s->server->scratch, buf_str(&b));
	buf_clear(&b);
	return text;
}

bool xclient_offered(const struct session *s)
{
	return s->xclient_may && !s->local;
}

void xclient_decide(struct session *s)
{
	if (!s->xclient_used)
		s->xclient_may = session_client(s)->flags & CLIENT_XCLIENT && !s->proxy.n;
}

/* NULL: all is well. */
static const char *said_parse(struct session *s, struct str args, struct said *x)
{
	unsigned seen = 0;
	struct str word, value;

	while (str_split(&args, ' ', &word)) {
		ptrdiff_t equals = str_find(word, '=');
		size_t i = 0;

		if (!word.len)
			continue;
		if (equals < 0 || !address_xtext_decode(&s->server->scratch, str_from(word, (size_t)equals + 1), &value) || !value.len ||
			value.len > ATTRIBUTE_MAX || str_has_ctl(value))
			return "XCLIENT needs attributes with values in xtext";
		word = str_sub(word, 0, (size_t)equals);
		while (i < ATTRIBUTES && !str_isi(word, attributes[i].name))
			i++;
		if (i == ATTRIBUTES || seen & 1u << i)
			return i == ATTRIBUTES ? "unknown XCLIENT attribute" : "an XCLIENT attribute is there twice";
		seen |= 1u << i;
		if (!attributes[i].take(s, x, str_taint(str_dup(&s->server->scratch, value))))
			return "malformed value of an XCLIENT attribute";
	}
	return seen ? NULL : "XCLIENT needs attributes with values in xtext";
}

/* $proxy_... and the log: who really speaks. */
static void facts_keep(struct session *s, const struct said *x)
{
	struct arena *a = &s->server->scratch;
	struct ipc_pair v[5];
	char peer[64], dest[64];
	uint32_t n = 0;

	if (s->proxy.n && !x->has_dest && !x->has_dest_port) /* said before, and nothing new */
		return;
	session_ip_format(s->ipv6, s->client_ip, peer);
	v[n++] = (struct ipc_pair){ .name = STR_LIT("session"), .value = STR_LIT("yes") };
	for (uint32_t i = 0; i < s->proxy.n; i++)
		if (str_begins(s->proxy.v[i].name, "local_"))
			v[n++] = (struct ipc_pair){ .name = str_dup(a, s->proxy.v[i].name), .value = str_dup(a, s->proxy.v[i].value) };
	if (n == 1) {
		v[n++] = (struct ipc_pair){ .name = STR_LIT("local_address"), .value = str_of(peer) };
		v[n++] = (struct ipc_pair){ .name = STR_LIT("local_port"), .value = str_printf(a, "%u", s->client_port) };
	}
	if (x->has_dest) {
		session_ip_format(x->dest_ipv6, x->dest, dest);
		v[n++] = (struct ipc_pair){ .name = STR_LIT("external_address"), .value = str_taint(str_of(dest)), .tainted = true };
	}
	if (x->has_dest_port)
		v[n++] = (struct ipc_pair){ .name = STR_LIT("external_port"), .value = str_taint(str_printf(a, "%u", x->dest_port)), .tainted = true };
	session_vars_set(&s->proxy, v, n);
}

static void text_set(char **slot, struct str value)
{
	mem_free(*slot);
	*slot = value.len ? mem_memdup(value.p, value.len) : NULL;
}

/* What belongs to the client that was is forgotten; what was counted is not. */
static void client_become(struct session *s, const struct said *x)
{
	s->xclient_used = true;
	facts_keep(s, x);
	if (x->has_ip) {
		memset(s->client_ip, 0, sizeof s->client_ip);
		memcpy(s->client_ip, x->ip, x->ipv6 ? 16 : 4);
		s->ipv6 = x->ipv6;
		s->client_port = 0;
	}
	if (x->has_port)
		s->client_port = x->port;
	if (x->has_ip || x->name.len || x->unnamed) {
		text_set(&s->client_name, x->name);
		s->name_looked = x->name.len || x->unnamed;
		s->name_deferred = x->name_deferred;
	}
	session_auth_reset(s);
	s->auth_failed = false;
	text_set(&s->auth_fail_id, STR_NULL);
	if (x->login.len) {
		text_set(&s->auth_id, x->login);
		text_set(&s->auth_method, STR_LIT("xclient"));
	}
	text_set(&s->helo, x->helo);
	s->esmtp = x->helo.len && x->esmtp;
	s->helo_verified = s->tls_advertised = s->auth_advertised = false;
	s->helo_free = s->rset_free = true;
	s->flags = 0;
	session_vars_set(&s->acl_c, NULL, 0);
	session_vars_set(&s->acl_m, NULL, 0);
	session_vars_set(&s->results, NULL, 0);
	tls_names_check(s);
}

void verb_xclient(struct session *s, struct str args)
{
	struct said x = { 0 };
	const char *wrong;

	if (!xclient_offered(s)) {
		log_rejection(s, "XCLIENT", STR_NULL, false, STR_LIT("not in hosts_xclient"), true);
		reply(s, 550, "5.7.0", STR_LIT("insufficient authorization"));
		return;
	}
	if (s->txn) {
		reply_protocol(s, 503, "5.5.1", "mail transaction in progress", false);
		return;
	}
	wrong = said_parse(s, args, &x);
	if (wrong) {
		reply_syntax(s, 501, "5.5.4", wrong);
		return;
	}
	client_become(s, &x);
	client_settings_unref(s->client);
	s->client = NULL;
	s->server->ops->client_changed(s);
	client_settings_unref(s->client); /* remembered of an address whose name was looked up */
	s->client = NULL;
	session_client_new(s);
}
