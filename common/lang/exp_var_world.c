/* SPDX-License-Identifier: ISC */
/* Variables of this host and its configuration, and the time. */
#include "common/lang/expand_tree.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/version.h"
#include "common/lang/lang_priv.h"
#include "common/mail/date.h"

static enum status var_primary_hostname(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = lang_primary_hostname(ev->lang);
	return ST_OK;
}

static enum status var_qualify_domain(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = lang_qualify_domain(ev->lang);
	return ST_OK;
}

static enum status var_qualify_recipient(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = lang_qualify_recipient(ev->lang);
	return ST_OK;
}

static enum status var_smtp_active_hostname(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	const struct conf *conf = ev->lang->conf;
	enum status st = ST_OK;

	(void)name;
	if (conf && conf->main.smtp_active_hostname.text.p)
		st = expand_text(ev, conf->main.smtp_active_hostname.text, out, err);
	if (st == ST_FAIL || (!st && !out->len)) {
		*out = lang_primary_hostname(ev->lang);
		st = ST_OK;
	}
	return st;
}

static enum status var_spool_directory(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->lang->conf)
		*out = ev->lang->conf->main.spool_directory.text;
	return ST_OK;
}

static enum status var_bounce_size(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->lang->conf)
		*out = str_printf(ev->arena, "%lld", (long long)ev->lang->conf->main.bounce_return_size_limit);
	return ST_OK;
}

static enum status var_config_file(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->lang->conf && ev->lang->conf->n_files)
		*out = ev->lang->conf->files[0];
	return ST_OK;
}

static enum status var_config_dir(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	enum status st = var_config_file(ev, name, out, err);
	ptrdiff_t slash = str_rfind(*out, '/');

	*out = slash > 0 ? str_sub(*out, 0, (size_t)slash) : STR_NULL;
	return st;
}

static enum status var_pid(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%d", (int)getpid());
	return ST_OK;
}

static enum status var_version(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)ev;
	(void)name;
	(void)err;
	*out = STR_LIT(BULKHEAD_VERSION);
	return ST_OK;
}

/* ---- time ---- */

static enum status var_tod_full(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	char text[DATE_TEXT];
	size_t n = date_format(text, clock_wall(), false);

	(void)name;
	(void)err;
	*out = str_dup(ev->arena, str_make(text, n));
	return ST_OK;
}

#define VAR_TOD(name_, format, utc) \
	static enum status var_##name_(struct eval *ev, struct str name, struct str *out, struct err *err) \
	{ \
		char text[CLOCK_TEXT]; \
		time_t now = (time_t)clock_wall(); \
		struct tm tm; \
		(void)name; \
		(void)err; \
		if (utc) \
			gmtime_r(&now, &tm); \
		else \
			localtime_r(&now, &tm); \
		*out = str_dup(ev->arena, str_make(text, strftime(text, sizeof text, format, &tm))); \
		return ST_OK; \
	}
VAR_TOD(tod_log, "%Y-%m-%d %H:%M:%S", false)
VAR_TOD(tod_logfile, "%Y%m%d", false)
VAR_TOD(tod_zone, "%z", false)
VAR_TOD(tod_zulu, "%Y%m%d%H%M%SZ", true)
VAR_TOD(tod_bsdinbox, "%a %b %e %H:%M:%S %Y", false)

static enum status var_tod_epoch(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%lld", (long long)clock_wall());
	return ST_OK;
}

static enum status var_tod_epoch_l(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%lld", (long long)clock_wall_us());
	return ST_OK;
}

const struct var_row exp_vars_world[] = {
	{ "primary_hostname", VAR_FN, 0, 0, false, NULL, var_primary_hostname, "name of this host" },
	{ "qualify_domain", VAR_FN, 0, 0, false, NULL, var_qualify_domain, "domain put to unqualified senders" },
	{ "qualify_recipient", VAR_FN, 0, 0, false, NULL, var_qualify_recipient, "domain put to unqualified recipients" },
	{ "smtp_active_hostname", VAR_FN, 0, 0, false, NULL, var_smtp_active_hostname, "name by which this host speaks in the session" },
	{ "spool_directory", VAR_FN, 0, 0, false, NULL, var_spool_directory, "where messages are kept" },
	{ "bounce_return_size_limit", VAR_FN, 0, 0, false, NULL, var_bounce_size, "octets of a returned message" },
	{ "return_size_limit", VAR_FN, 0, 0, false, NULL, var_bounce_size, "older name of bounce_return_size_limit" },
	{ "config_file", VAR_FN, 0, 0, false, NULL, var_config_file, "the configuration file" },
	{ "config_dir", VAR_FN, 0, 0, false, NULL, var_config_dir, "its directory" },
	{ "pid", VAR_FN, DEP_TIME, 0, false, NULL, var_pid, "process that evaluates" },
	{ "version_number", VAR_FN, 0, 0, false, NULL, var_version, "version of this software" },
	{ "tod_full", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_full, "date and time as in a message" },
	{ "tod_log", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_log, "date and time as in the log" },
	{ "tod_logfile", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_logfile, "date as in the name of a daily file" },
	{ "tod_zone", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_zone, "offset of the local time" },
	{ "tod_zulu", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_zulu, "date and time in UTC, digits and Z" },
	{ "tod_bsdinbox", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_bsdinbox, "date and time as a mailbox separates messages" },
	{ "tod_epoch", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_epoch, "seconds since 1970" },
	{ "tod_epoch_l", VAR_FN, DEP_TIME, 0, false, NULL, var_tod_epoch_l, "microseconds since 1970" },
	{ NULL }
};

#define LATER(name, what) { name, VAR_LATER, 0, 0, false, NULL, NULL, what }
const struct var_row exp_vars_later[] = {
	LATER("auth4", "fourth string of an authentication exchange"),
	LATER("av_failed", "1 when the virus scanner could not be asked"),
	LATER("body_linecount", "lines of the body"),
	LATER("body_zerocount", "NUL octets of the body"),
	LATER("compile_date", "when this software was built"),
	LATER("compile_number", "number of the build"),
	LATER("csa_status", "result of a client SMTP authorization"),
	LATER("dkim_algo", "algorithm of a DKIM signature"),
	LATER("dkim_bodylength", "length of a DKIM signature's body"),
	LATER("dkim_canon_body", "canonicalization of a DKIM signature's body"),
	LATER("dkim_canon_headers", "canonicalization of a DKIM signature's header"),
	LATER("dkim_copiedheaders", "copied header fields of a DKIM signature"),
	LATER("dkim_created", "time of a DKIM signature"),
	LATER("dkim_cur_signer", "domain of the DKIM signature being checked"),
	LATER("dkim_domain", "domain of a DKIM signature"),
	LATER("dkim_expires", "end of a DKIM signature"),
	LATER("dkim_headernames", "header fields of a DKIM signature"),
	LATER("dkim_identity", "identity of a DKIM signature"),
	LATER("dkim_key_granularity", "g= of a DKIM key"),
	LATER("dkim_key_length", "bits of a DKIM key"),
	LATER("dkim_key_nosubdomains", "flag of a DKIM key"),
	LATER("dkim_key_notes", "notes of a DKIM key"),
	LATER("dkim_key_srvtype", "service of a DKIM key"),
	LATER("dkim_key_testing", "flag of a DKIM key"),
	LATER("dkim_selector", "selector of a DKIM signature"),
	LATER("dkim_signers", "domains of the DKIM signatures"),
	LATER("dkim_verify_reason", "why a DKIM signature is bad"),
	LATER("dkim_verify_signers", "domains whose signatures are asked for"),
	LATER("dkim_verify_status", "result of a DKIM check"),
	LATER("dmarc_alignment_dkim", "DMARC alignment of DKIM"),
	LATER("dmarc_alignment_spf", "DMARC alignment of SPF"),
	LATER("dmarc_domain_policy", "DMARC policy of the domain"),
	LATER("dmarc_status", "result of DMARC"),
	LATER("dmarc_status_text", "result of DMARC, for people"),
	LATER("dmarc_used_domain", "domain of the DMARC policy"),
	LATER("arc_domains", "domains of the ARC chain"),
	LATER("arc_oldest_pass", "oldest ARC instance that passes"),
	LATER("arc_state", "result of ARC"),
	LATER("arc_state_reason", "why ARC failed"),
	LATER("exim_gid", "gid of the mail system"),
	LATER("exim_path", "path of the mail system"),
	LATER("exim_uid", "uid of the mail system"),
	LATER("exim_version", "version of Exim"),
	LATER("initial_cwd", "directory that the command was started in"),
	LATER("inode", "inode of a file being delivered to"),
	LATER("ldap_dn", "name that the last LDAP lookup found"),
	LATER("load_average", "load of the machine"),
	LATER("local_scan_data", "text of the local scan function"),
	LATER("localhost_number", "number of this host"),
	LATER("log_inodes", "free inodes for logs"),
	LATER("log_space", "free space for logs"),
	LATER("lookup_dnssec_authenticated", "whether the last dnsdb lookup was validated"),
	LATER("mailstore_basename", "name of a mailstore file"),
	LATER("malware_name", "virus that was found"),
	LATER("max_received_linelength", "longest line received"),
	LATER("message_linecount", "lines of the message"),
	LATER("mime_anomaly_level", "anomaly of a MIME part"),
	LATER("mime_anomaly_text", "anomaly of a MIME part"),
	LATER("mime_boundary", "boundary of a MIME part"),
	LATER("mime_charset", "charset of a MIME part"),
	LATER("mime_content_description", "description of a MIME part"),
	LATER("mime_content_disposition", "disposition of a MIME part"),
	LATER("mime_content_id", "id of a MIME part"),
	LATER("mime_content_size", "size of a MIME part"),
	LATER("mime_content_transfer_encoding", "encoding of a MIME part"),
	LATER("mime_content_type", "type of a MIME part"),
	LATER("mime_decoded_filename", "file that a MIME part was decoded to"),
	LATER("mime_filename", "file name of a MIME part"),
	LATER("mime_is_coverletter", "whether a MIME part is the cover letter"),
	LATER("mime_is_multipart", "whether a MIME part is a multipart"),
	LATER("mime_is_rfc822", "whether a MIME part is a message"),
	LATER("mime_part_count", "number of a MIME part"),
	LATER("n0", "number set by a filter"),
	LATER("pipe_addresses", "addresses of a pipe"),
	LATER("prdr_requested", "whether PRDR was asked for"),
	LATER("queue_size", "messages on the queue"),
	LATER("regex1", "group of a content match"),
	LATER("sender_helo_dnssec", "whether the HELO name was validated"),
	LATER("sender_host_dnssec", "whether the client's name was validated"),
	LATER("sending_ip_address", "our address of an outgoing connection"),
	LATER("sending_port", "our port of an outgoing connection"),
	LATER("smtp_command_history", "the last commands of the session"),
	LATER("smtp_count_at_connection_start", "connections when this one began"),
	LATER("sn0", "number set by the system filter"),
	LATER("spam_action", "what the spam scanner advises"),
	LATER("spam_bar", "score of the spam scanner"),
	LATER("spam_report", "report of the spam scanner"),
	LATER("spam_score", "score of the spam scanner"),
	LATER("spam_score_int", "score of the spam scanner times ten"),
	LATER("spf_guess", "result of the SPF guess"),
	LATER("spf_header_comment", "SPF comment for a header field"),
	LATER("spf_received", "Received-SPF: field"),
	LATER("spf_result", "result of SPF"),
	LATER("spf_result_guessed", "whether the SPF result is a guess"),
	LATER("spf_smtp_comment", "SPF comment for a reply"),
	LATER("spool_inodes", "free inodes of the spool"),
	LATER("spool_space", "free space of the spool"),
	LATER("tls_in_cipher_std", "standard name of tls_in_cipher"),
	LATER("tls_in_ocsp", "OCSP state of the client's certificate"),
	LATER("tls_in_ourcert", "our certificate"),
	LATER("tls_in_peercert", "the client's certificate"),
	LATER("tls_in_resumption", "whether the session was resumed"),
	LATER("tls_out_bits", "key length of an outgoing connection"),
	LATER("tls_out_certificate_verified", "whether the server's certificate was verified"),
	LATER("tls_out_cipher_std", "its standard name"),
	LATER("tls_out_dane", "DANE state of an outgoing connection"),
	LATER("tls_out_ocsp", "OCSP state of an outgoing connection"),
	LATER("tls_out_ourcert", "our certificate of an outgoing connection"),
	LATER("tls_out_peercert", "the server's certificate"),
	LATER("tls_out_peerdn", "distinguished name of the server's certificate"),
	LATER("tls_out_resumption", "whether the outgoing session was resumed"),
	LATER("tls_out_sni", "server name that we ask for"),
	LATER("tls_out_tlsa_usage", "TLSA usages that matched"),
	LATER("tls_out_ver", "TLS version of an outgoing connection"),
	{ NULL }
};
