/* SPDX-License-Identifier: ISC */
#include "smtpd/settings.h"

#include <string.h>

#include "common/base/load.h"
#include "common/conf/conf.h"
#include "common/mail/address.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0.1"
#endif

void settings_init(struct settings *s)
{
	*s = (struct settings){
		.hostname = STR_LIT("localhost"), .qualify_domain = STR_LIT("localhost"), .qualify_recipient = STR_LIT("localhost"),
		.software = STR_LIT("Bulkhead " BULKHEAD_VERSION),
		.accept_max = 20, .queue_per_connection = 10, .max_nonmail = 10, .max_synprot = 3, .max_unknown = 3, .recipients_max = 50000,
		.received_max = 30, .line_max = 2048, .queue_load = LOAD_NO_LIMIT, .load_reserve = LOAD_NO_LIMIT, .queue_load_latch = true, .header_max = 1 << 20, .command_timeout_ms = 300000, .data_timeout_ms = 3600000, .min_rate = 100,
		.enforce_sync = true, .strict = true, .eightbit = true, .check_space = true, .remove_return_path = true, .remove_envelope_to = true,
		.remove_delivery_date = true, .from_check = true, .reject_log = true, .nodelay = true, .keepalive = true,
	};
	log_selector_parse(STR_NULL, &s->log, NULL);
}

/* ---- from the view ---- */

static uint32_t number(int64_t v)
{
	return v < 0 ? 0 : v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static uint32_t milliseconds(int64_t seconds)
{
	return number(seconds < 0 ? 0 : seconds > 4000000 ? UINT32_MAX : seconds * 1000);
}

static uint32_t share(int64_t limit, int64_t processes)
{
	return limit <= 0 ? 0 : number((limit + processes - 1) / (processes < 1 ? 1 : processes));
}

void settings_from_conf(struct settings *s, const struct conf *conf)
{
	const struct conf_opts_main *m = &conf->main;
	const struct { enum acl_stage stage; const struct conf_text *text; } acls[] = {
		{ ACL_CONNECT, &m->acl_smtp_connect }, { ACL_HELO, &m->acl_smtp_helo }, { ACL_STARTTLS, &m->acl_smtp_starttls }, { ACL_AUTH, &m->acl_smtp_auth },
		{ ACL_MAIL, &m->acl_smtp_mail }, { ACL_MAILAUTH, &m->acl_smtp_mailauth }, { ACL_RCPT, &m->acl_smtp_rcpt },
		{ ACL_PREDATA, &m->acl_smtp_predata }, { ACL_DATA, &m->acl_smtp_data }, { ACL_PRDR, &m->acl_smtp_data_prdr }, { ACL_DATA, &m->acl_smtp_mime }, { ACL_DATA, &m->acl_smtp_dkim },
		{ ACL_QUIT, &m->acl_smtp_quit }, { ACL_NOTQUIT, &m->acl_smtp_notquit }, { ACL_VRFY, &m->acl_smtp_vrfy }, { ACL_EXPN, &m->acl_smtp_expn },
		{ ACL_ETRN, &m->acl_smtp_etrn }, { ACL_NOTSMTP, &m->acl_not_smtp }, { ACL_NOTSMTP, &m->acl_not_smtp_mime },
		{ ACL_NOTSMTP_START, &m->acl_not_smtp_start },
	};

	settings_init(s);
	if (m->primary_hostname.text.len)
		s->hostname = s->qualify_domain = m->primary_hostname.text;
	if (m->qualify_domain.text.len)
		s->qualify_domain = m->qualify_domain.text;
	s->qualify_recipient = m->qualify_recipient.text.len ? m->qualify_recipient.text : s->qualify_domain;
	s->helo_allow_chars = m->helo_allow_chars.text;
	for (size_t i = 0; i < sizeof acls / sizeof *acls; i++)
		if (acls[i].text->text.len)
			s->acl_stages |= 1u << acls[i].stage;
	log_selector_parse(m->log_selector.text, &s->log, NULL);
	s->accept_max = share(m->smtp_accept_max, m->smtpd_processes);
	s->accept_reserve = share(m->smtp_accept_reserve, m->smtpd_processes);
	s->accept_queue = share(m->smtp_accept_queue, m->smtpd_processes);
	s->queue_per_connection = number(m->smtp_accept_queue_per_connection);
	s->queue_load = conf_main_meta(conf, queue_only_load)->set ? number(m->queue_only_load) : LOAD_NO_LIMIT;
	s->load_reserve = conf_main_meta(conf, smtp_load_reserve)->set ? number(m->smtp_load_reserve) : LOAD_NO_LIMIT;
	s->queue_load_latch = m->queue_only_load_latch;
	s->max_nonmail = number(m->smtp_accept_max_nonmail);
	s->max_synprot = number(m->smtp_max_synprot_errors);
	s->max_unknown = number(m->smtp_max_unknown_commands);
	s->recipients_max = number(m->recipients_max);
	s->line_max = number(m->smtp_line_max);
	s->received_max = number(m->received_headers_max);
	s->header_max = (uint64_t)(m->header_maxsize < 0 ? 0 : m->header_maxsize);
	s->header_line_max = (uint64_t)(m->header_line_maxsize < 0 ? 0 : m->header_line_maxsize);
	s->command_timeout_ms = milliseconds(m->smtp_command_timeout);
	s->data_timeout_ms = milliseconds(m->smtp_data_timeout);
	s->min_rate = number(m->smtp_min_data_rate);
	s->enforce_sync = m->smtp_enforce_sync;
	s->strict = m->strict_addresses;
	s->literals = m->allow_domain_literals;
	s->utf8_domains = m->allow_utf8_domains;
	s->eightbit = m->accept_8bitmime;
	s->prdr = m->prdr_enable;
	s->recipients_reject = m->recipients_max_reject;
	s->check_space = m->smtp_check_spool_space;
	s->return_details = m->smtp_return_error_details;
	s->remove_return_path = m->return_path_remove;
	s->remove_envelope_to = m->envelope_to_remove;
	s->remove_delivery_date = m->delivery_date_remove;
	s->from_check = m->local_from_check;
	s->sender_retain = m->local_sender_retain;
	conf_slowing_parse(m->smtp_ratelimit_mail.text, &s->slow_mail, NULL);
	conf_slowing_parse(m->smtp_ratelimit_rcpt.text, &s->slow_rcpt, NULL);
	s->proxies = m->hosts_proxy.set && m->hosts_proxy.text.len;
	s->proxy_timeout_ms = milliseconds(m->proxy_protocol_timeout);
	s->helo_lookup = m->helo_lookup_domains.set && m->helo_lookup_domains.text.len;
	s->helo_lookup_ours = !m->helo_lookup_domains.set;
	s->received_none = m->received_header_text.set && !m->received_header_text.text.len;
	s->received_own = m->received_header_text.set && m->received_header_text.text.len;
	s->from_prefixes = m->local_from_prefix.text;
	s->from_suffixes = m->local_from_suffix.text;
	s->utc = str_isi(m->timezone.text, "UTC");
	s->rewrites_args = conf->rewrites_args;
	s->rewrites_rcpt = conf->rewrites_rcpt;
	s->rewrites_data = conf->rewrites_data;
	s->tls_remember_esmtp = m->tls_remember_esmtp;
	s->tls_dh_max_bits = number(m->tls_dh_max_bits);
	s->openssl_options = m->openssl_options.text;
	s->reject_log = m->write_rejectlog;
	s->nodelay = m->tcp_nodelay;
	s->keepalive = m->smtp_accept_keepalive;
	s->untrusted_any = str_is(str_trim(m->untrusted_set_sender.text), "*");
	s->untrusted_asks = m->untrusted_set_sender.text.len && !s->untrusted_any;
}

/* ---- what policyd says of a client ---- */

static const struct { const char *name; uint32_t bit; } client_lists[] = {
	{ "host_reject_connection", CLIENT_REJECT }, { "hosts_require_helo", CLIENT_REQUIRE_HELO }, { "helo_accept_junk_hosts", CLIENT_HELO_JUNK },
	{ "sender_unqualified_hosts", CLIENT_SENDER_UNQUALIFIED }, { "recipient_unqualified_hosts", CLIENT_RCPT_UNQUALIFIED },
	{ "pipelining_advertise_hosts", CLIENT_PIPELINING }, { "pipelining_connect_advertise_hosts", CLIENT_PIPECONNECT },
	{ "smtp_accept_max_nonmail_hosts", CLIENT_NONMAIL },
	{ "hosts_connection_nolog", CLIENT_NOLOG }, { "smtp_reserve_hosts", CLIENT_RESERVED }, { "dsn_advertise_hosts", CLIENT_DSN },
	{ "helo_verify_hosts", CLIENT_HELO_VERIFY }, { "helo_try_verify_hosts", CLIENT_HELO_TRY }, { "ignore_fromline_hosts", CLIENT_FROMLINE },
	{ "smtp_ratelimit_hosts", CLIENT_SLOWED }, { "chunking_advertise_hosts", CLIENT_CHUNKING },
	{ "limits_advertise_hosts", CLIENT_LIMITS }, { "hosts_xclient", CLIENT_XCLIENT },
	{ "smtputf8_advertise_hosts", CLIENT_UTF8 }, { "tls_advertise_requiretls", CLIENT_REQUIRETLS },
	 { "auth_later", CLIENT_AUTH_LATER },
};

struct client_settings *client_settings_new(void)
{
	struct client_settings *c = mem_new(sizeof *c);

	*c = (struct client_settings){ .refs = 1, .flags = CLIENT_DEFAULT, .size_limit = 50 << 20, .max_per_connection = 1000,
		.receive_timeout_ms = 300000 };
	return c;
}

static void text_set(char **slot, struct str value)
{
	mem_free(*slot);
	*slot = value.len ? mem_memdup(value.p, value.len) : NULL;
}

static const struct { const char *name; uint32_t bit; } tls_lists[] = {
	{ "tls_advertise_hosts", TLS_F_ADVERTISE }, { "tls_verify_hosts", TLS_F_VERIFY }, { "tls_try_verify_hosts", TLS_F_TRY_VERIFY },
	{ "tls_resumption_hosts", TLS_F_RESUME }, { "hosts_require_alpn", TLS_F_ALPN }, { "tls_verify_client_hostnames", TLS_F_NAMES },
	 { "tls_sni_wanted", TLS_F_SNI },
};
static const char *const tls_names[TLS_NAMES] = {
	[TLS_N_CERTIFICATE] = "tls_certificate", [TLS_N_PRIVATEKEY] = "tls_privatekey", [TLS_N_OCSP_FILE] = "tls_ocsp_file",
	[TLS_N_VERIFY_CERTIFICATES] = "tls_verify_certificates", [TLS_N_CRL] = "tls_crl", [TLS_N_CIPHERS] = "tls_require_ciphers",
	[TLS_N_DHPARAM] = "tls_dhparam", [TLS_N_ECCURVE] = "tls_eccurve", [TLS_N_ALPN] = "tls_alpn", [TLS_N_TROUBLE] = "tls_trouble",
};

void client_tls_parse(struct client_tls *t, const struct ipc_pair *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct str value = str_trim(v[i].value);

		for (size_t k = 0; k < sizeof tls_lists / sizeof *tls_lists; k++)
			if (str_is(v[i].name, tls_lists[k].name))
				t->flags = str_isi(value, "yes") ? t->flags | tls_lists[k].bit : t->flags & ~tls_lists[k].bit;
		for (size_t k = 0; k < TLS_NAMES; k++)
			if (str_is(v[i].name, tls_names[k]))
				text_set(&t->v[k], value);
	}
}

void client_tls_clear(struct client_tls *t)
{
	for (size_t i = 0; i < TLS_NAMES; i++)
		mem_free(t->v[i]);
	*t = (struct client_tls){ 0 };
}

void client_settings_parse(struct client_settings *c, const struct ipc_pair *v, uint32_t n)
{
	client_tls_parse(&c->tls, v, n);
	for (uint32_t i = 0; i < n; i++) {
		struct str value = str_trim(v[i].value);
		int64_t x = 0;

		for (size_t k = 0; k < sizeof client_lists / sizeof *client_lists; k++)
			if (str_is(v[i].name, client_lists[k].name))
				c->flags = str_isi(value, "yes") ? c->flags | client_lists[k].bit : c->flags & ~client_lists[k].bit;
		if (str_is(v[i].name, "smtp_banner"))
			text_set(&c->banner, value);
		else if (str_is(v[i].name, "auth"))
			text_set(&c->auth, value);
		else if (str_is(v[i].name, "smtp_active_hostname") && address_hostname_valid(value))
			text_set(&c->active_hostname, value);
		else if (str_is(v[i].name, "message_size_limit") && (!value.len || conf_int_parse(value, &x, NULL) == ST_OK))
			c->size_limit = x < 0 ? 0 : (uint64_t)x;
		else if (str_is(v[i].name, "smtp_accept_max_per_host") && (!value.len || conf_int_parse(value, &x, NULL) == ST_OK))
			c->max_per_host = number(x);
		else if (str_is(v[i].name, "smtp_accept_max_per_connection") && (!value.len || conf_int_parse(value, &x, NULL) == ST_OK))
			c->max_per_connection = number(x);
		else if (str_is(v[i].name, "smtp_receive_timeout") && (!value.len || conf_time_parse(value, &x, NULL) == ST_OK))
			c->receive_timeout_ms = milliseconds(x);
	}
}

struct client_settings *client_settings_ref(struct client_settings *c)
{
	c->refs++;
	return c;
}

void client_settings_unref(struct client_settings *c)
{
	if (!c || --c->refs)
		return;
	mem_free(c->banner);
	mem_free(c->auth);
	mem_free(c->active_hostname);
	mem_free(c->name);
	client_tls_clear(&c->tls);
	mem_free(c);
}
