/* SPDX-License-Identifier: ISC */
/* The verify condition: which kinds there are, helo, reverse_host_lookup, certificate, header_names_ascii, header_syntax. */
#include <string.h>

#include "common/lang/acl_verify.h"
#include "common/lang/lang_ask.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_ip.h"
#include "common/lang/lang_priv.h"
#include "common/mail/addrlist.h"
#include "common/mail/header.h"

struct verify_row {
	const char *name;
	uint32_t stages;
	bool takes_address;         /* =ADDRESS */
	bool takes_options;
	enum verify_kind kind;      /* whose options they are; 0: its own */
	enum acl_rc (*fn)(struct acl_state *s, const struct verify_call *call, struct err *err);
	bool later;
	const char *pending;          /* as in struct acl_item */
	const char *what;
};

/* One option of "a/b/c". */
static bool option_set(struct str options, const char *name)
{
	struct str option;

	while (str_split(&options, '/', &option))
		if (str_is(str_trim(option), name))
			return true;
	return false;
}

static enum acl_rc verify_pending(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	(void)call;
	return acl_pending(s, "verify = arc", err);
}

/* ---- the session ---- */

static enum acl_rc verify_reverse(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	enum status st;

	if (!s->ev->facts->client_ip.len)
		return RC_OK;
	st = eval_client_name(s->ev, err);
	if (st == ST_DEFER && option_set(call->options, "defer_ok"))
		return RC_OK;
	if (st == ST_FAIL)
		s->log_text = STR_LIT("host lookup failed for reverse lookup check");
	return acl_rc_of(st);
}

/* HELO's name is the client's: its address as a literal, its verified name, or a name with that address. */
static enum status helo_compare(struct eval *ev, struct err *err)
{
	const struct ipc_facts *f = ev->facts;
	struct ipc_host_answer answer;
	struct ip ip, other;
	struct str literal = f->helo;
	enum status st;

	if (!f->helo.len || !ip_parse_mapped(f->client_ip, &ip))
		return ST_FAIL;
	if (literal.len > 2 && literal.p[0] == '[' && literal.p[literal.len - 1] == ']') {
		literal = str_sub(literal, 1, literal.len - 2);
		if (str_beginsi(literal, "ipv6:"))
			literal = str_from(literal, 5);
		return ip_parse_mapped(literal, &other) && other.len == ip.len && !memcmp(other.octets, ip.octets, ip.len) ? ST_OK : ST_FAIL;
	}
	st = eval_client_name(ev, err);
	if (st == ST_OK) {
		if (str_eqi(ev->client_name, f->helo))
			return ST_OK;
		for (uint32_t i = 0; i < ev->client_aliases.n; i++)
			if (str_eqi(ev->client_aliases.v[i], f->helo))
				return ST_OK;
	}
	if (!address_hostname_valid(f->helo))
		return ST_FAIL;
	st = lang_ask_hosts(ev, f->helo, "A", &answer, err);
	for (uint32_t i = 0; st == ST_OK && i < answer.n_hosts; i++)
		if (ip_parse_mapped(answer.hosts[i].ip, &other) && other.len == ip.len && !memcmp(other.octets, ip.octets, ip.len))
			return ST_OK;
	return st == ST_OK ? ST_FAIL : st;
}

enum status acl_helo_verify(struct eval *ev, struct err *err)
{
	enum status st = ST_OK;

	ev->deps |= DEP_SESSION;
	if (ev->facts->client_ip.len && !ev->helo_verified)
		st = helo_compare(ev, err);
	ev->helo_verified |= st == ST_OK;
	return st;
}

static enum acl_rc verify_helo(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	(void)call;
	return acl_rc_of(acl_helo_verify(s->ev, err));
}

static enum acl_rc verify_certificate(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	(void)call;
	(void)err;
	s->ev->deps |= DEP_SESSION;
	for (uint32_t i = 0; i < s->ev->facts->n_tls; i++)
		if (str_is(s->ev->facts->tls[i].name, "certificate_verified") && str_is(s->ev->facts->tls[i].value, "1"))
			return RC_OK;
	s->user_text = STR_LIT("no verified certificate");
	return RC_FAIL;
}

/* ---- the header ---- */

static enum acl_rc verify_names_ascii(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	struct header_scan scan;
	struct header_field f;
	struct str whole;
	enum status st = header_whole(s->ev, &whole, err);

	(void)call;
	if (st)
		return acl_rc_of(st);
	header_scan_init(&scan, whole);
	while (header_scan_next(&scan, &f))
		if (!header_name_valid(f.name)) {
			s->user_text = s->log_text = str_printf(s->ev->arena, "Invalid character in header \"%.*s\" found", STR_FMT(expand_quote(s->ev, f.name)));
			return RC_FAIL;
		}
	return RC_OK;
}

static enum acl_rc verify_header_syntax(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	static const char *const names[] = { "From", "Reply-To", "Sender", "To", "Cc", "Bcc", "Resent-From", "Resent-Reply-To", "Resent-Sender", "Resent-To",
		"Resent-Cc", "Resent-Bcc" };
	struct header_scan scan;
	struct header_field f;
	struct str whole;
	enum status st = header_whole(s->ev, &whole, err);

	(void)call;
	for (size_t i = 0; !st && i < sizeof names / sizeof *names; i++) {
		header_scan_init(&scan, whole);
		while (header_scan_next(&scan, &f)) {
			struct err why = ERR_INIT;
			struct addrlist list;

			if (!str_isi(f.name, names[i]))
				continue;
			if (addrlist_parse(f.value, ADDR_UTF8, s->ev->arena, &list, &why)) {
				s->user_text = s->log_text = str_printf(s->ev->arena, "%s: failing address in \"%s:\" header is: %.*s", why.text, names[i],
					STR_FMT(expand_quote(s->ev, str_trim(f.value))));
				return RC_FAIL;
			}
		}
	}
	return acl_rc_of(st);
}

/* Every recipient stands in To: or Cc:. */
static bool in_list(struct acl_state *s, const struct addrlist *list, struct str recipient, bool caseless)
{
	for (uint32_t i = 0; i < list->n; i++)
		if (caseless ? str_eqi(list->v[i].addr, recipient) : address_same(s->ev->arena, list->v[i].addr, recipient))
			return true;
	return false;
}

static enum status visible_collect(struct acl_state *s, struct addrlist *all, struct err *err)
{
	static const char *const names[] = { "To", "Cc", "Resent-To", "Resent-Cc" };
	struct header_scan scan;
	struct header_field f;
	struct str whole;
	uint32_t room = 0;
	enum status st = header_whole(s->ev, &whole, err);

	*all = (struct addrlist){ 0 };
	header_scan_init(&scan, whole);
	while (!st && header_scan_next(&scan, &f)) {
		struct err why = ERR_INIT;
		struct addrlist list;
		bool named = false;

		for (size_t i = 0; !named && i < sizeof names / sizeof *names; i++)
			named = str_isi(f.name, names[i]);
		if (!named || addrlist_parse(f.value, ADDR_LENIENT | ADDR_UTF8, s->ev->arena, &list, &why) || !list.n)
			continue; /* who stands in a broken field is not visible */
		if (all->n + list.n > room) {
			struct addrlist_item *v = arena_alloc(s->ev->arena, (room = 2 * (all->n + list.n)) * sizeof *v);

			if (all->n)
				memcpy(v, all->v, all->n * sizeof *v);
			all->v = v;
		}
		memcpy(all->v + all->n, list.v, list.n * sizeof *list.v);
		all->n += list.n;
		st = eval_step(s->ev, list.n, err);
	}
	return st;
}

static enum acl_rc verify_not_blind(struct acl_state *s, const struct verify_call *call, struct err *err)
{
	const struct ipc_facts *f = s->ev->facts;
	struct addrlist visible;
	bool caseless = str_is(str_trim(call->options), "case_insensitive");
	enum status st;

	if (call->options.len && !caseless) {
		err_set(err, ST_ERROR, "verify = not_blind: unknown option \"%.*s\"", STR_FMT(expand_quote(s->ev, call->options)));
		return RC_ERROR;
	}
	s->ev->deps |= DEP_SESSION;
	st = visible_collect(s, &visible, err);
	if (st)
		return acl_rc_of(st);
	/* Of a long list the first recipients are known here; the others must at least find room in the header. */
	for (uint32_t i = 0; i < f->recipients.n; i++)
		if (!in_list(s, &visible, f->recipients.v[i], caseless)) {
			s->log_text = str_printf(s->ev->arena, "bcc recipient detected");
			s->user_text = s->log_text;
			return RC_FAIL;
		}
	return f->rcpt_accepted > f->recipients.n && visible.n < f->rcpt_accepted ? RC_FAIL : RC_OK;
}

/* ---- the condition ---- */

static const struct verify_row verify_rows[] = {
	{ "recipient", STAGE(ACL_RCPT) | STAGE(ACL_VRFY) | STAGE(ACL_PRDR), false, true, VERIFY_RECIPIENT, acl_verify_recipient, false, NULL,
		"the recipient can be delivered to, as the routers say" },
	{ "sender", STAGES_MESSAGE, true, true, VERIFY_SENDER, acl_verify_sender, false, NULL,
		"the sender, or the address behind =, can be delivered to; true for the null sender" },
	{ "header_sender", STAGES_CONTENT, false, true, VERIFY_HEADER, acl_verify_header_sender, false, NULL,
		"at least one address of Sender:, Reply-To: and From: can be delivered to" },
	{ "helo", STAGES_SMTP & ~STAGE(ACL_CONNECT), false, false, 0, verify_helo, false, NULL,
		"the name of HELO or EHLO is the client's" },
	{ "reverse_host_lookup", STAGES_ALL, false, true, 0, verify_reverse, false, NULL,
		"the client's address has a name that leads back to it" },
	{ "certificate", STAGES_SMTP, false, false, 0, verify_certificate, false, NULL,
		"the client has shown a certificate that was verified" },
	{ "header_names_ascii", STAGES_CONTENT, false, false, 0, verify_names_ascii, false, NULL,
		"the names of the header's fields are ASCII" },
	{ "header_syntax", STAGES_CONTENT, false, false, 0, verify_header_syntax, false, NULL,
		"the header's addresses are well-formed" },
	{ "not_blind", STAGES_CONTENT, false, true, 0, verify_not_blind, false, NULL,
		"each recipient stands in To: or Cc:; with /case_insensitive in whatever letters" },
	{ "arc", STAGES_CONTENT, false, true, 0, verify_pending, false, "defers the statement",
		"the ARC chain's result is in the list" },
	{ "csa", STAGES_SMTP, false, false, 0, NULL, true, NULL,
		"the client's name says that it may send mail" },
	{ NULL }
};

bool acl_verify_at(size_t i, struct acl_page_row *out)
{
	if (i >= sizeof verify_rows / sizeof *verify_rows - 1)
		return false;
	*out = (struct acl_page_row){ verify_rows[i].name, verify_rows[i].what, verify_rows[i].pending, verify_rows[i].stages, verify_rows[i].later };
	return true;
}

struct verify_words {
	struct str name, address, options;
	bool has_address;
};

/* NAME[=ADDRESS][/option...]; a slash in the address is doubled. */
static void verify_split(struct arena *a, struct str text, struct verify_words *out)
{
	struct buf b = BUF_LIMIT(4096);
	uint32_t at = 0;

	*out = (struct verify_words){ 0 };
	text = str_trim(text);
	while (at < text.len && text.p[at] != '/' && text.p[at] != '=' && !ascii_is_space(text.p[at]))
		at++;
	out->name = str_sub(text, 0, at);
	while (at < text.len && ascii_is_space(text.p[at]))
		at++;
	if (at < text.len && text.p[at] == '=') {
		out->has_address = true;
		for (at++; at < text.len; at++) {
			if (text.p[at] == '/') {
				if (at + 1 >= text.len || text.p[at + 1] != '/')
					break;
				at++;
			}
			buf_addc(&b, text.p[at]);
		}
		out->address = str_trim(str_dup(a, buf_str(&b)));
		out->address.tainted = text.tainted;
		buf_clear(&b);
	}
	if (at < text.len && text.p[at] == '/')
		out->options = str_from(text, at + 1);
}

static enum status verify_find(const struct verify_words *w, const struct verify_row **out, struct err *err)
{
	for (const struct verify_row *r = verify_rows; r->name; r++) {
		if (!str_is(w->name, r->name))
			continue;
		*out = r;
		if (r->later)
			return err_set(err, ST_ERROR, "\"%s\" is known to Exim, not implemented", r->name);
		if (w->has_address && !r->takes_address)
			return err_set(err, ST_ERROR, "\"%s\" takes no address", r->name);
		if (w->options.len && !r->takes_options)
			return err_set(err, ST_ERROR, "\"%s\" takes no options", r->name);
		return ST_OK;
	}
	return err_set(err, ST_ERROR, "expected \"sender[=address]\", \"recipient\", \"header_sender\", \"helo\", \"header_syntax\", \"header_names_ascii\", "
		"\"reverse_host_lookup\", \"not_blind\" or \"certificate\", not \"%.*s\"", STR_FMT(str_sub(w->name, 0, 40)));
}

static enum status options_parse(const struct verify_row *row, struct str options, struct verify_options *out, struct err *err)
{
	enum status st = verify_options_parse(options, row->kind, out, err);

	return st ? err_prefix(err, "verify = %s", row->name) : ST_OK;
}

static enum status compile_verify(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	const struct verify_row *row;
	struct verify_options options;
	struct verify_words w;
	enum status st;

	if (from->value.text.len && from->value.text.p[0] == '$')
		return ST_OK;
	verify_split(c->arena, from->value.text, &w);
	st = verify_find(&w, &row, err);
	if (!st) {
		item->stages &= row->stages;
		item->pending = row->pending;
	}
	/* Options that come of an expansion are looked at when it is made. */
	if (!st && row->kind && str_find(w.options, '$') < 0)
		st = options_parse(row, w.options, &options, err);
	return st;
}

static enum acl_rc cond_verify(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	const struct verify_row *row;
	struct verify_words w;
	struct verify_call call = { 0 };
	enum acl_rc rc;

	(void)item;
	verify_split(s->ev->arena, text, &w);
	if (verify_find(&w, &row, err))
		return RC_ERROR;
	if (s->stage && !(row->stages & STAGE(s->stage))) {
		err_set(err, ST_ERROR, "cannot use \"verify = %s\" in the %s ACL; %s", row->name, acl_stage_name(s->stage),
			acl_stages_words(s->ev->arena, row->stages));
		return RC_ERROR;
	}
	call.address = w.address;
	call.has_address = w.has_address;
	call.options = w.options;
	if (row->kind && options_parse(row, w.options, &call.parsed, err))
		return RC_ERROR;
	rc = row->fn(s, &call, err);
	if (rc == RC_FAIL || rc == RC_DEFER)
		eval_set(s->ev, EV_acl_verify_message, s->user_text);
	return rc;
}

const struct acl_item_row acl_items_verify[] = {
	{ "verify", false, SHAPE_TEXT, STAGES_ALL, 0, cond_verify, compile_verify, false, "an address, the client or the message is found good" },
	{ NULL }
};
