/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_options.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/conf/dscp.h"
#include "common/conf/option.h"

enum { TEXT_MAX = 256 };

/* ---- words to numbers ---- */

static bool port_read(struct str s, uint16_t *out)
{
	/* The empty root of the daemon has no /etc/services. */
	static const struct { const char *name; uint16_t port; } services[] = {
		{ "smtp", 25 }, { "submission", 587 }, { "submissions", 465 }, { "smtps", 465 }, { "ssmtp", 465 }, { "lmtp", 24 },
	};
	uint64_t n;

	for (size_t i = 0; i < sizeof services / sizeof *services; i++)
		if (str_isi(s, services[i].name)) {
			*out = services[i].port;
			return true;
		}
	if (!str_u64(s, 65535, &n) || !n)
		return false;
	*out = (uint16_t)n;
	return true;
}

/* ---- host lists ---- */

static bool list_item(struct str *rest, char *sep, struct str *item)
{
	if (!*sep) {
		*sep = ':';
		*rest = str_trim(*rest);
		if (rest->len > 1 && rest->p[0] == '<') {
			*sep = rest->p[1];
			*rest = str_from(*rest, 2);
		}
	}
	/* An IPv6 address in a list with colons is written with each of them doubled; most write another separator. */
	if (!str_split(rest, *sep, item))
		return false;
	*item = str_trim(*item);
	return true;
}

static bool cstr_make(struct str s, char out[TEXT_MAX])
{
	if (s.len >= TEXT_MAX)
		return false;
	memcpy(out, s.p, s.len);
	out[s.len] = '\0';
	return true;
}

static int address_read(struct str s, unsigned char out[16])
{
	char text[TEXT_MAX];

	if (!s.len || !cstr_make(s, text))
		return AF_UNSPEC;
	if (inet_pton(AF_INET, text, out) == 1)
		return AF_INET;
	return inet_pton(AF_INET6, text, out) == 1 ? AF_INET6 : AF_UNSPEC;
}

static bool address_matches(struct str item, struct str ip)
{
	unsigned char a[16], b[16];
	ptrdiff_t slash = str_find(item, '/');
	int family = address_read(slash < 0 ? item : str_sub(item, 0, (size_t)slash), a);
	uint64_t bits = family == AF_INET ? 32 : 128;

	if (family == AF_UNSPEC || family != address_read(ip, b))
		return false;
	if (slash >= 0 && !str_u64(str_from(item, (size_t)slash + 1), bits, &bits))
		return false;
	if (memcmp(a, b, bits / 8))
		return false;
	return !(bits % 8) || !((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8));
}

static bool item_matches(struct str item, struct str name, struct str ip)
{
	if (str_is(item, "*") || str_is(item, "yes") || str_is(item, "true"))
		return true;
	if (item.len && item.p[0] == '*')
		return name.len >= item.len - 1 && str_eqi(str_from(name, name.len - (item.len - 1)), str_from(item, 1));
	return str_eqi(item, name) || address_matches(item, ip);
}

bool out_host_matches(struct str list, struct str name, struct str ip)
{
	struct str item;
	char sep = 0;
	bool negated = false;

	while (list_item(&list, &sep, &item)) {
		if (!item.len)
			continue;
		negated = item.p[0] == '!';
		if (negated)
			item = str_trim(str_from(item, 1));
		if (item_matches(item, name, ip))
			return !negated;
	}
	return negated; /* a list that ends in a negated item goes on with "everything else" */
}

struct str out_interface_for(struct str list, int family)
{
	unsigned char octets[16];
	struct str item;
	char sep = 0;

	if (address_read(str_trim(list), octets) == family) /* one IPv6 address, undoubled */
		return str_trim(list);
	while (list_item(&list, &sep, &item))
		if (address_read(item, octets) == family)
			return item;
	return STR_NULL;
}

/* ---- reading ---- */

static uint64_t ms_of(int64_t seconds)
{
	enum { YEAR = 366 * 24 * 3600 };

	return (uint64_t)(seconds < 0 ? 0 : seconds > YEAR ? YEAR : seconds) * 1000;
}

static enum status generic_take(const struct conf_opts_transport *g, struct out_options *out, struct err *err)
{
	out->headers_only = g->headers_only;
	out->body_only = g->body_only;
	out->return_path_add = g->return_path_add;
	out->delivery_date_add = g->delivery_date_add;
	out->envelope_to_add = g->envelope_to_add;
	if (out->headers_only && out->body_only)
		return err_set(err, ST_ERROR, "headers_only and body_only are both set");
	return ST_OK;
}

static bool downconvert_read(struct str s, int8_t *out)
{
	*out = !s.len ? OUT_DOWNCONVERT_MESSAGE : str_is(s, "1") ? 1 : str_is(s, "0") ? 0 : -1;
	return *out >= 0 || str_is(s, "-1");
}

static void tls_take(const struct conf_opts_transport_smtp *o, struct out_tls_options *out)
{
	*out = (struct out_tls_options){
		.avoid = o->hosts_avoid_tls.text, .verify_avoid = o->hosts_verify_avoid_tls.text, .require = o->hosts_require_tls.text,
		.verify = o->tls_verify_hosts.text, .try_verify = o->tls_try_verify_hosts.text, .check_names = o->tls_verify_cert_hostnames.text,
		.request_ocsp = o->hosts_request_ocsp.text, .request_ocsp_set = o->hosts_request_ocsp.set,
		.require_ocsp = o->hosts_require_ocsp.text, .require_alpn = o->hosts_require_alpn.text,
		.machine = !o->host_name_extract.set ? STR_NULL : o->host_name_extract.text.p ? o->host_name_extract.text : STR_LIT(""), .resume = o->tls_resumption_hosts.text,
		.requiretls_unauthenticated = o->hosts_requiretls_unauthenticated.text, .nopass = o->hosts_nopass_tls.text, .noproxy = o->hosts_noproxy_tls.text,
		.certificate = o->tls_certificate.text, .privatekey = o->tls_privatekey.text, .anchors = o->tls_verify_certificates.text, .crl = o->tls_crl.text,
		.sni = o->tls_sni.text, .ciphers = o->tls_require_ciphers.text, .dane_ciphers = o->dane_require_tls_ciphers.text, .alpn = o->tls_alpn.text,
		.dh_min_bits = (uint32_t)o->tls_dh_min_bits, .tempfail_tryclear = o->tls_tempfail_tryclear, .first = str_isi(o->protocol.text, "smtps"),
	};
}

static enum status smtp_take(const struct conf_opts_transport_smtp *o, struct arena *a, struct out_options *out, struct err *err)
{
	struct str port = o->port.text;

	out->lmtp = str_isi(o->protocol.text, "lmtp");
	out->port = out->lmtp ? 24 : str_isi(o->protocol.text, "smtps") ? 465 : 25;
	if (port.len && !port_read(port, &out->port))
		return err_set(err, ST_ERROR, "port: \"%.*s\" is neither a number nor a known service", STR_FMT(port));
	out->tos = -1;
	if (o->dscp.text.len && conf_dscp_parse(o->dscp.text, &out->tos, err))
		return err_prefix(err, "dscp");
	if (conf_proxies_parse(o->socks_proxy.text, a, &out->proxies, err))
		return err_prefix(err, "socks_proxy");
	out->connect_ms = ms_of(o->connect_timeout);
	out->command_ms = ms_of(o->command_timeout);
	out->data_ms = ms_of(o->data_timeout);
	out->final_ms = ms_of(o->final_timeout);
	out->idle_ms = ms_of(o->connection_idle_timeout);
	out->hosts_max_try = o->hosts_max_try > 0 ? (uint32_t)o->hosts_max_try : 0;
	out->hosts_max_try_hardlimit = o->hosts_max_try_hardlimit > 0 ? (uint32_t)o->hosts_max_try_hardlimit : 0;
	out->max_messages = o->connection_max_messages > 0 ? (uint32_t)o->connection_max_messages : 0;
	out->helo = str_find(o->helo_data.text, '$') < 0 ? o->helo_data.text : STR_NULL; /* the default, which the router leaves out */
	out->interface = o->interface.text;
	out->avoid_esmtp = o->hosts_avoid_esmtp.text;
	out->avoid_pipelining = o->hosts_avoid_pipelining.text;
	out->try_chunking = o->hosts_try_chunking.text;
	out->try_prdr = o->hosts_try_prdr.text;
	out->pipe_connect = o->hosts_pipe_connect.text;
	out->try_fastopen = o->hosts_try_fastopen.text;
	out->try_auth = o->hosts_try_auth.text;
	out->require_auth = o->hosts_require_auth.text;
	out->auth_sender_force = o->authenticated_sender_force;
	out->size_addition = o->size_addition;
	if (!downconvert_read(str_trim(o->utf8_downconvert.text), &out->utf8_downconvert))
		return err_set(err, ST_ERROR, "utf8_downconvert: \"%.*s\" is none of 1, 0, -1 and nothing", STR_FMT(o->utf8_downconvert.text));
	out->keepalive = o->keepalive;
	out->ignore_quota = o->lmtp_ignore_quota;
	tls_take(o, &out->tls);
	return ST_OK;
}

static enum status lmtp_take(const struct conf_opts_transport_lmtp *o, struct out_options *out, struct err *err)
{
	out->lmtp = true;
	out->socket = o->socket.text;
	out->ignore_quota = o->ignore_quota;
	out->connect_ms = out->command_ms = out->data_ms = out->final_ms = ms_of(o->timeout);
	out->idle_ms = 5000;
	out->hosts_max_try = out->hosts_max_try_hardlimit = 1;
	out->max_messages = 500;
	out->size_addition = out->utf8_downconvert = -1;
	out->tos = -1;
	if (!out->socket.len || out->socket.p[0] != '/')
		return err_set(err, ST_ERROR, "socket: \"%.*s\" is no absolute path", STR_FMT(out->socket));
	return ST_OK;
}

struct reading {
	const struct conf_table *driver, *generic;
	union {
		struct conf_opts_transport_smtp smtp;
		struct conf_opts_transport_lmtp lmtp;
	} own;
	struct conf_opts_transport all;
	struct arena *a;
	bool line_limit;
};

static enum status pairs_take(struct reading *r, const struct ipc_pair *v, uint32_t n, struct err *err)
{
	enum status st = ST_OK;

	for (uint32_t i = 0; !st && i < n; i++) {
		/* The default, 998, refuses mail that was accepted; it holds where somebody wrote it down. */
		r->line_limit |= str_is(v[i].name, "message_linelength_limit");
		st = conf_opts_set(r->driver, &r->own, r->a, v[i].name, v[i].value, err);
		if (st == ST_FAIL) {
			err_clear(err); /* not its own */
			st = conf_opts_set(r->generic, &r->all, r->a, v[i].name, v[i].value, err);
		}
	}
	return st;
}

enum status out_options_read(const struct ipc_plan *plan, const struct ipc_host *host, struct arena *a, struct out_options *out, struct err *err)
{
	const struct conf_driver *driver = conf_driver_find(CONF_TRANSPORTS, plan->driver);
	struct reading r = { .generic = conf_class_table(CONF_TRANSPORTS), .a = a };
	bool smtp = driver && driver->table == &conf_table_transport_smtp;
	enum status st;

	if (!smtp && (!driver || driver->table != &conf_table_transport_lmtp))
		return err_set(err, ST_ERROR, "driver %.*s is not delivered by SMTP or LMTP", STR_FMT(plan->driver));
	memset(out, 0, sizeof *out);
	r.driver = driver->table;
	conf_opts_init(r.generic, &r.all);
	conf_opts_init(r.driver, &r.own);
	st = pairs_take(&r, plan->options, plan->n_options, err);
	if (!st && host)
		st = pairs_take(&r, host->options, host->n_options, err);
	if (!st)
		st = generic_take(&r.all, out, err);
	if (!st)
		st = smtp ? smtp_take(&r.own.smtp, a, out, err) : lmtp_take(&r.own.lmtp, out, err);
	if (st)
		return err_prefix(err, "transport %.*s", STR_FMT(plan->transport));
	if (r.line_limit && smtp)
		out->line_max = (uint64_t)r.own.smtp.message_linelength_limit;
	return ST_OK;
}
