/* SPDX-License-Identifier: ISC */
/* Variables of the message: envelope, counts, header and body; ACL variables. */
#include "common/lang/expand_tree.h"

#include "common/base/clock.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_priv.h"
#include "common/mail/address.h"
#include "common/mail/header.h"

#define FACT(field) offsetof(struct ipc_facts, field)

static enum status var_sender_part(struct eval *ev, bool domain, struct str *out)
{
	struct str l, d;

	if (address_split(ev->facts->sender, &l, &d))
		*out = str_taint(domain ? str_lower(ev->arena, d) : l);
	else if (!domain)
		*out = str_taint(ev->facts->sender);
	return ST_OK;
}

static enum status var_sender_domain(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	return var_sender_part(ev, true, out);
}

static enum status var_sender_local_part(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	return var_sender_part(ev, false, out);
}

/* -1 before the data when the client gave no SIZE=. */
static enum status var_message_size(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->stage == ACL_MAIL || ev->stage == ACL_RCPT || ev->stage == ACL_PREDATA)
		*out = ev->facts->size ? str_printf(ev->arena, "%llu", (unsigned long long)ev->facts->size) : STR_LIT("-1");
	else
		*out = str_printf(ev->arena, "%llu", (unsigned long long)ev->facts->size);
	return ST_OK;
}

static enum status var_prdr_requested(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->facts->flags & MSG_PRDR ? STR_LIT("yes") : STR_LIT("no");
	return ST_OK;
}

static struct str recipients_text(struct eval *ev, bool list)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	struct str s;

	for (uint32_t i = 0; i < ev->facts->recipients.n; i++) {
		struct str r = ev->facts->recipients.v[i];

		if (list) {
			lang_split_add(&b, ':', r, !i);
		} else {
			if (i)
				buf_adds(&b, ", ");
			buf_add_str(&b, r);
		}
	}
	s = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return s;
}

static enum status var_recipients(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = recipients_text(ev, false);
	return ST_OK;
}

static enum status var_recipients_list(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = recipients_text(ev, true);
	return ST_OK;
}

static enum status var_received_for(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	if (ev->facts->recipients.n == 1)
		*out = str_taint(ev->facts->recipients.v[0]);
	return ST_OK;
}

static enum status var_received_time(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = str_printf(ev->arena, "%lld", (long long)(ev->facts->received_us / 1000000));
	return ST_OK;
}

static enum status var_message_age(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	int64_t age = ev->message_age_s;

	(void)name;
	(void)err;
	if (!age && ev->facts->received_us)
		age = (clock_wall_us() - ev->facts->received_us) / 1000000;
	*out = str_printf(ev->arena, "%lld", (long long)(age > 0 ? age : 0));
	return ST_OK;
}

static enum status var_smtputf8(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = ev->facts->smtputf8 ? STR_LIT("yes") : STR_LIT("no");
	return ST_OK;
}

static enum status var_requiretls(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	(void)err;
	*out = (ev->facts->flags | ev->flags) & MSG_REQUIRETLS ? STR_LIT("yes") : STR_LIT("no");
	return ST_OK;
}

/* ---- header and body ---- */

/* Without the blanks at the end of fields, and without the last line end. */
static struct str fields_trim(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.len + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < s.len; i++) {
		bool end = s.p[i] == '\n' && (i + 1 == s.len || !ascii_is_space(s.p[i + 1]));

		while (end && n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
			n--;
		if (s.p[i] != '\n' || i + 1 < s.len)
			p[n++] = s.p[i];
	}
	return (struct str){ p, n, s.tainted };
}

static enum status var_headers(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	enum status st = header_whole(ev, out, err);

	(void)name;
	if (!st)
		*out = header_decode_words(ev->arena, fields_trim(ev->arena, *out), NULL); /* as bheader */
	return st;
}

static enum status var_headers_raw(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	return header_whole(ev, out, err);
}

static enum status var_received_count(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	struct str whole;
	enum status st = header_whole(ev, &whole, err);

	(void)name;
	if (!st)
		*out = str_printf(ev->arena, "%u", header_count(whole, "Received"));
	return st;
}

static enum status var_reply_address(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	enum status st = header_value(ev, STR_LIT("Reply-To"), HEADER_DECODED, out, err);

	(void)name;
	if (!st && !out->len)
		st = header_value(ev, STR_LIT("From"), HEADER_DECODED, out, err);
	return st;
}

/* NULs and, unless message_body_newlines is set, line ends become blanks. */
static enum status body_text(struct eval *ev, bool end, struct str *out, struct err *err)
{
	const struct conf *conf = ev->lang->conf;
	enum status st = body_part(ev, conf ? (uint32_t)conf->main.message_body_visible : 500, end, out, err);
	bool newlines = conf && conf->main.message_body_newlines;
	char *p;
	uint32_t n = 0;

	if (st || !out->len)
		return st;
	p = arena_alloc(ev->arena, out->len + 1);
	for (uint32_t i = 0; i < out->len; i++) {
		char c = out->p[i];

		if (c == '\r' && i + 1 < out->len && out->p[i + 1] == '\n')
			continue;
		p[n++] = !c || (c == '\n' && !newlines) ? ' ' : c;
	}
	*out = (struct str){ p, n, true };
	return ST_OK;
}

static enum status var_body(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	return body_text(ev, false, out, err);
}

static enum status var_body_end(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)name;
	return body_text(ev, true, out, err);
}

static enum status var_body_size(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	uint64_t size;
	enum status st = body_size(ev, &size, err);

	(void)name;
	if (!st)
		*out = str_printf(ev->arena, "%llu", (unsigned long long)size);
	return st;
}

#define VAR_COUNT(name_, field) \
	static enum status var_##name_(struct eval *ev, struct str name, struct str *out, struct err *err) \
	{ \
		struct message_counts n; \
		enum status st = message_count(ev, &n, err); \
		(void)name; \
		if (!st) \
			*out = str_printf(ev->arena, "%llu", (unsigned long long)n.field); \
		return st; \
	}
VAR_COUNT(body_linecount, body_lines)
VAR_COUNT(body_zerocount, body_zeros)
VAR_COUNT(message_linecount, lines)
VAR_COUNT(max_received_linelength, longest)

static enum status var_headers_added(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);

	(void)name;
	(void)err;
	for (uint32_t i = 0; i < ev->n_edits; i++)
		if (ev->edits[i].op != EDIT_REMOVE) {
			struct str s = ev->edits[i].text;

			while (s.len && (s.p[s.len - 1] == '\n' || s.p[s.len - 1] == '\r'))
				s.len--;
			if (b.len)
				buf_addc(&b, '\n');
			buf_add_str(&b, s);
		}
	*out = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return ST_OK;
}

/* ---- ACL variables and those that routers set ---- */

static enum status vars_value(struct eval *ev, const struct eval_vars *vars, struct str key, struct str name, struct str *out, struct err *err)
{
	if (!eval_var_get(vars, key, out) && ev->lang->conf && ev->lang->conf->main.strict_acl_vars)
		return err_set(err, ST_ERROR, "variable \"$%.*s\" was never set (strict_acl_vars)", STR_FMT(name));
	return ST_OK;
}

static enum status var_acl_c(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	return vars_value(ev, &ev->acl_c, str_from(name, 4), name, out, err);
}

static enum status var_acl_m(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	return vars_value(ev, &ev->acl_m, str_from(name, 4), name, out, err);
}

static enum status var_r(struct eval *ev, struct str name, struct str *out, struct err *err)
{
	(void)err;
	eval_var_get(&ev->r, str_from(name, 2), out);
	return ST_OK;
}

const struct var_row exp_vars_message[] = {
	{ "message_id", VAR_FACT, DEP_SESSION, FACT(message_id), true, NULL, NULL, "id of the message" },
	{ "message_exim_id", VAR_FACT, DEP_SESSION, FACT(message_id), true, NULL, NULL, "id of the message" },
	{ "sender_address", VAR_FACT, DEP_SESSION, FACT(sender), false, NULL, NULL, "envelope sender; empty for reports" },
	{ "sender_address_domain", VAR_FN, DEP_SESSION, 0, false, NULL, var_sender_domain, "domain of the envelope sender" },
	{ "sender_address_local_part", VAR_FN, DEP_SESSION, 0, false, NULL, var_sender_local_part, "local part of the envelope sender" },
	{ "rcpt_count", VAR_FACT_U64, DEP_SESSION, FACT(rcpt_count), true, NULL, NULL, "RCPT commands so far" },
	{ "recipients_count", VAR_FACT_U64, DEP_SESSION, FACT(rcpt_accepted), true, NULL, NULL, "recipients accepted" },
	{ "rcpt_defer_count", VAR_FACT_U64, DEP_SESSION, FACT(rcpt_deferred), true, NULL, NULL, "recipients deferred" },
	{ "rcpt_fail_count", VAR_FACT_U64, DEP_SESSION, FACT(rcpt_failed), true, NULL, NULL, "recipients refused" },
	{ "recipients", VAR_FN, DEP_SESSION, 0, false, NULL, var_recipients, "the envelope recipients, with commas" },
	{ "recipients_list", VAR_FN, DEP_SESSION, 0, false, NULL, var_recipients_list, "the envelope recipients, as a list" },
	{ "received_for", VAR_FN, DEP_SESSION, 0, false, NULL, var_received_for, "the recipient, when there is just one" },
	{ "received_time", VAR_FN, DEP_SESSION, 0, false, NULL, var_received_time, "when the message was received, seconds since 1970" },
	{ "message_age", VAR_FN, DEP_SESSION | DEP_TIME, 0, false, NULL, var_message_age, "seconds since the message was received" },
	{ "prdr_requested", VAR_FN, DEP_SESSION, 0, false, NULL, var_prdr_requested, "yes when the client asked for an answer for each recipient (PRDR)", NULL },
	{ "message_size", VAR_FN, DEP_SESSION, 0, false, NULL, var_message_size, "octets of the message" },
	{ "requiretls", VAR_FN, DEP_SESSION, 0, false, NULL, var_requiretls, "yes when the message must be passed on over verified TLS only (RFC 8689), else no" },
	{ "message_smtputf8", VAR_FN, DEP_SESSION, 0, false, NULL, var_smtputf8, "yes for an SMTPUTF8 message, else no" },
	{ "message_headers", VAR_FN, DEP_SESSION, 0, false, NULL, var_headers, "the whole header, encoded words decoded but not converted to UTF-8" },
	{ "message_headers_raw", VAR_FN, DEP_SESSION, 0, false, NULL, var_headers_raw, "the whole header, as it came" },
	{ "message_body", VAR_FN, DEP_SESSION, 0, false, NULL, var_body, "the first octets of the body (message_body_visible)" },
	{ "message_body_end", VAR_FN, DEP_SESSION, 0, false, NULL, var_body_end, "the last octets of the body" },
	{ "message_body_size", VAR_FN, DEP_SESSION, 0, false, NULL, var_body_size, "octets of the body" },
	{ "body_linecount", VAR_FN, DEP_SESSION, 0, false, NULL, var_body_linecount, "lines of the body" },
	{ "body_zerocount", VAR_FN, DEP_SESSION, 0, false, NULL, var_body_zerocount, "NUL octets in the body" },
	{ "message_linecount", VAR_FN, DEP_SESSION, 0, false, NULL, var_message_linecount, "lines of header and body" },
	{ "max_received_linelength", VAR_FN, DEP_SESSION, 0, false, NULL, var_max_received_linelength, "octets of the longest line received, its end apart" },
	{ "received_count", VAR_FN, DEP_SESSION, 0, false, NULL, var_received_count, "number of Received: fields" },
	{ "reply_address", VAR_FN, DEP_SESSION, 0, false, NULL, var_reply_address, "Reply-To: or else From:" },
	{ "headers_added", VAR_FN, DEP_SESSION, 0, false, NULL, var_headers_added, "header fields added by this ACL so far" },
	{ "acl_c", VAR_FAMILY, DEP_SESSION, 0, false, NULL, var_acl_c, "acl_c0, acl_c_...: variables of the connection that ACLs set" },
	{ "acl_m", VAR_FAMILY, DEP_SESSION, 0, false, NULL, var_acl_m, "acl_m0, acl_m_...: variables of the message that ACLs set" },
	{ "r_", VAR_FAMILY, DEP_SESSION, 0, false, NULL, var_r, "r_...: variables that routers set" },
	{ NULL }
};
