/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_command.h"

#include <inttypes.h>

#include "common/mail/address.h"
#include "common/mail/alabel.h"
#include "smtp-out/smtp_result.h"

enum { MECHANISMS_MAX = 2000 };

/* No blank and no control octet: fit for a parameter's value. */
static bool param_is_safe(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
			return false;
	return s.len > 0;
}

bool smtp_address_is_safe(struct str addr)
{
	bool quoted = false;

	for (uint32_t i = 0; i < addr.len; i++) {
		unsigned char ch = (unsigned char)addr.p[i];

		if (ch < ' ' || ch == 0x7f)
			return false;
		if (quoted && ch == '\\') {
			if (++i == addr.len || (unsigned char)addr.p[i] < ' ' || addr.p[i] == 0x7f)
				return false;
		} else if (ch == '"') {
			quoted = !quoted;
		} else if (!quoted && (ch == ' ' || ch == '<' || ch == '>')) {
			return false;
		}
	}
	return !quoted;
}

bool smtp_prdr_wanted(const struct smtp_client *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->txn->n_rcpts; i++)
		n += !c->txn->rcpts[i].skip;
	return (c->offers & SMTP_O_PRDR) && n > 1 && !c->txn->probe;
}

void smtp_command_mail(const struct smtp_client *c, struct buf *out)
{
	const struct smtp_txn *t = c->txn;

	buf_printf(out, "MAIL FROM:<%.*s>", STR_FMT(t->sender_ascii.p ? t->sender_ascii : t->sender));
	if ((c->offers & SMTP_O_SIZE) && c->profile->size_addition >= 0 && !t->probe)
		buf_printf(out, " SIZE=%" PRIu64, t->size + (uint64_t)c->profile->size_addition);
	if (smtp_prdr_wanted(c))
		buf_adds(out, " PRDR");
	if ((c->offers & SMTP_O_8BITMIME) && t->eightbit)
		buf_adds(out, " BODY=8BITMIME");
	if (t->utf8_said)
		buf_adds(out, " SMTPUTF8");
	if (t->requiretls && c->tls && (c->offers & SMTP_O_REQUIRETLS))
		buf_adds(out, " REQUIRETLS");
	if (c->profile->auth_sender.len && (c->authenticated || c->profile->auth_sender_force))
		buf_printf(out, " AUTH=%.*s", STR_FMT(address_xtext_encode(t->arena, c->profile->auth_sender)));
	if (c->offers & SMTP_O_DSN) {
		if (str_isi(t->ret, "FULL") || str_isi(t->ret, "HDRS"))
			buf_printf(out, " RET=%.*s", STR_FMT(t->ret));
		if (param_is_safe(t->envid))
			buf_printf(out, " ENVID=%.*s", STR_FMT(t->envid));
	}
}

static void notify_add(struct buf *out, unsigned notify)
{
	static const struct { unsigned bit; const char *name; } bits[] = {
		{ DSN_SUCCESS, "SUCCESS" }, { DSN_FAILURE, "FAILURE" }, { DSN_DELAY, "DELAY" },
	};
	const char *comma = " NOTIFY=";

	if (notify & DSN_NEVER) {
		buf_adds(out, " NOTIFY=NEVER");
		return;
	}
	for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
		if (notify & bits[i].bit) {
			buf_adds(out, comma);
			buf_adds(out, bits[i].name);
			comma = ",";
		}
}

/* RFC 6533 section 3: of an address of type utf-8 a peer with SMTPUTF8 gets the characters, another their ASCII form. */
static void orcpt_add(const struct smtp_client *c, struct str orcpt, struct buf *out)
{
	struct arena *a = c->txn->arena;
	struct str addr;

	if (!param_is_safe(orcpt))
		return;
	if (str_beginsi(orcpt, "utf-8;")) {
		if (!address_unitext_decode(a, str_from(orcpt, 6), &addr))
			return;
		orcpt = str_printf(a, "utf-8;%.*s", STR_FMT(address_unitext_encode(a, addr, !c->txn->utf8_said)));
	}
	if (address_is_ascii(orcpt) || c->txn->utf8_said)
		buf_printf(out, " ORCPT=%.*s", STR_FMT(orcpt));
}

void smtp_command_rcpt(const struct smtp_client *c, const struct smtp_rcpt *r, struct buf *out)
{
	buf_add(out, "RCPT TO:<", 9);
	buf_add_str(out, r->ascii.p ? r->ascii : r->addr);
	buf_addc(out, '>');
	if (c->offers & SMTP_O_DSN) {
		notify_add(out, r->notify);
		orcpt_add(c, r->orcpt, out);
	}
	if (c->profile->ignore_quota && (c->offers & SMTP_O_IGNOREQUOTA))
		buf_adds(out, " IGNOREQUOTA");
}

/* The first of two names for the same is the one that is written. */
static const struct { const char *name; enum smtp_offer offer; } offer_rows[] = {
	{ "PIPELINING", SMTP_O_PIPELINING }, { "SIZE", SMTP_O_SIZE }, { "8BITMIME", SMTP_O_8BITMIME }, { "DSN", SMTP_O_DSN },
	{ "SMTPUTF8", SMTP_O_SMTPUTF8 }, { "IGNOREQUOTA", SMTP_O_IGNOREQUOTA }, { "STARTTLS", SMTP_O_STARTTLS },
	{ "CHUNKING", SMTP_O_CHUNKING }, { "PRDR", SMTP_O_PRDR }, { "AUTH", SMTP_O_AUTH }, { "REQUIRETLS", SMTP_O_REQUIRETLS },
	{ "PIPECONNECT", SMTP_O_PIPECONNECT }, { "X_PIPE_CONNECT", SMTP_O_PIPECONNECT },
};
enum { LIMIT_DIGITS = 6 };
enum { OFFER_ROWS = sizeof offer_rows / sizeof *offer_rows };

uint32_t smtp_offer_find(struct str name)
{
	for (size_t i = 0; i < OFFER_ROWS; i++)
		if (str_isi(name, offer_rows[i].name))
			return offer_rows[i].offer;
	return 0;
}

const char *smtp_offer_name(uint32_t offer)
{
	for (size_t i = 0; i < OFFER_ROWS; i++)
		if ((uint32_t)offer_rows[i].offer == offer)
			return offer_rows[i].name;
	return NULL;
}

void smtp_offers_limit(struct smtp_client *c)
{
	if (c->profile->avoid_pipelining)
		c->offers &= (uint16_t)~SMTP_O_PIPELINING;
	if (!c->profile->try_chunking)
		c->offers &= (uint16_t)~SMTP_O_CHUNKING;
	if (!c->profile->try_prdr || c->profile->lmtp)
		c->offers &= (uint16_t)~SMTP_O_PRDR;
}

/* RFC 9422: a value that is malformed says nothing; of two for the same the smaller one holds. */
static void limits_read(struct smtp_client *c, struct str line)
{
	const struct { const char *name; uint32_t *slot; } rows[] = {
		{ "MAILMAX", &c->limit_mails }, { "RCPTMAX", &c->limit_rcpts }, { "RCPTDOMAINMAX", &c->limit_domains },
	};
	struct str word;

	while (str_split(&line, ' ', &word)) {
		ptrdiff_t equals = str_find(word, '=');
		struct str digits = equals < 0 ? STR_NULL : str_from(word, (size_t)equals + 1);
		uint64_t value = 0;

		if (!digits.len || digits.len > LIMIT_DIGITS || digits.p[0] == '0' || !str_u64(digits, UINT32_MAX, &value))
			continue;
		word = str_sub(word, 0, (size_t)equals);
		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
			if (str_isi(word, rows[i].name) && (!*rows[i].slot || value < *rows[i].slot))
				*rows[i].slot = (uint32_t)value;
	}
}

void smtp_offers_read(struct smtp_client *c)
{
	struct str line, word;
	size_t at = 0;

	c->offers = SMTP_O_ESMTP;
	c->peer_size = 0;
	c->limit_mails = c->limit_rcpts = c->limit_domains = 0;
	buf_reset(&c->mechanisms);
	for (unsigned n = 0; smtp_reply_line(&c->reply, &at, &line); n++) {
		if (!n) /* the peer's name */
			continue;
		word = STR_NULL;
		str_split(&line, ' ', &word);
		c->offers |= (uint16_t)smtp_offer_find(word);
		if (str_isi(word, "AUTH") && c->mechanisms.len + line.len < MECHANISMS_MAX)
			buf_printf(&c->mechanisms, " %.*s", STR_FMT(line));
		if (str_isi(word, "LIMITS"))
			limits_read(c, line);
		if (str_isi(word, "SIZE") && !str_u64(str_trim(line), UINT64_MAX, &c->peer_size))
			c->peer_size = 0;
	}
	c->offered = c->offers;
	smtp_offers_limit(c);
}

/* ---- SMTPUTF8 (RFC 6531) ---- */

/* local@domain with A-labels, where there is something to convert. False: there is no such form. */
static bool address_to_ascii(struct arena *a, struct str addr, struct str *out)
{
	struct str local, domain;

	*out = STR_NULL;
	if (address_is_ascii(addr))
		return true;
	if (!address_split(addr, &local, &domain) || alabel_local_encode(a, address_local_unquote(a, local), &local, NULL) ||
		alabel_domain_encode(a, domain, &domain, NULL))
		return false;
	*out = str_printf(a, "%.*s@%.*s", STR_FMT(address_local_quote(a, local)), STR_FMT(domain));
	return smtp_address_is_safe(*out) && address_is_ascii(*out);
}

/* A further host may have SMTPUTF8: the recipient fails where none is left. */
static struct smtp_verdict utf8_verdict(const struct smtp_txn *t)
{
	return (struct smtp_verdict){ .result = DELIVERY_DEFERRED, .refused = true, .error = RETRY_OTHER, .stage = "RCPT TO", .status = STR_LIT("5.6.7"),
		.text = t->probe ? STR_LIT("response to \"EHLO\" did not include SMTPUTF8") : STR_LIT("utf8 support required but not offered for forwarding") };
}

/* Who can't be sent gets the verdict, if there is one to give; false: there are such. The header is never converted: where it is not ASCII,
 * converting the envelope does not help. */
static bool utf8_prepare(struct smtp_client *c, const struct smtp_verdict *v)
{
	struct smtp_txn *t = c->txn;
	bool offered = c->offers & SMTP_O_SMTPUTF8, header = t->utf8 && t->utf8_header, converts = t->downconvert > 0 || (t->downconvert && !offered);
	bool sender_fits, envelope, all = true;

	t->sender_ascii = STR_NULL;
	sender_fits = converts ? address_to_ascii(t->arena, t->sender, &t->sender_ascii) : address_is_ascii(t->sender);
	envelope = !sender_fits;
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct smtp_rcpt *r = &t->rcpts[i];
		bool fits;

		r->ascii = STR_NULL;
		if (r->skip || r->result)
			continue;
		fits = converts ? address_to_ascii(t->arena, r->addr, &r->ascii) : address_is_ascii(r->addr);
		if (!fits)
			r->ascii = STR_NULL;
		envelope |= !fits;
		if (offered || (!header && sender_fits && fits))
			continue;
		all = false;
		if (v)
			smtp_verdict_give(r, v);
	}
	if (!sender_fits)
		t->sender_ascii = STR_NULL;
	/* A body with octets over 127 may have parts whose headers need it. */
	t->utf8_said = offered && (header || envelope || (t->utf8 && t->eightbit && t->downconvert <= 0));
	return all;
}

bool smtp_utf8_fits(struct smtp_client *c)
{
	return utf8_prepare(c, NULL);
}

static struct str domain_of(struct str addr)
{
	return str_from(addr, (size_t)(str_rfind(addr, '@') + 1));
}

/* Who is beyond the peer's limits waits for a further transaction. */
static void limits_check(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_verdict v = { .result = DELIVERY_DEFERRED, .error = RETRY_RCPT_4XX, .stage = "RCPT TO", .status = STR_LIT("4.5.3"),
		.text = STR_LIT("the remote host takes no more recipients at a time") };
	struct str *domains = arena_alloc(t->arena, (c->limit_domains ? t->n_rcpts : 1) * sizeof *domains);
	uint32_t n = 0, n_domains = 0;

	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct smtp_rcpt *r = &t->rcpts[i];
		struct str domain = domain_of(r->addr);
		uint32_t k = 0;

		if (r->skip || r->result)
			continue;
		while (c->limit_domains && k < n_domains && !str_eqi(domains[k], domain))
			k++;
		if ((c->limit_rcpts && n == c->limit_rcpts) || (c->limit_domains && k == c->limit_domains)) {
			smtp_verdict_give(r, &v);
			r->later = true;
			t->n_later++;
			continue;
		}
		n++;
		if (c->limit_domains && k == n_domains)
			domains[n_domains++] = domain;
	}
}

void smtp_txn_check(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_verdict v = { .result = DELIVERY_FAILED, .error = RETRY_OTHER, .stage = "MAIL FROM" }, utf8 = utf8_verdict(t);

	if (!smtp_address_is_safe(t->sender) || !address_utf8_valid(t->sender)) {
		v.status = STR_LIT("5.1.7");
		v.text = STR_LIT("the sender's address can't be sent in an SMTP command");
		smtp_verdict_give_all(t, &v);
	} else if (c->peer_size && t->size > c->peer_size) {
		v.code = 552;
		v.status = STR_LIT("5.3.4");
		v.text = str_printf(t->arena, "message is too big for the remote host: %" PRIu64 " octets, it takes %" PRIu64, t->size, c->peer_size);
		smtp_verdict_give_all(t, &v);
	}
	if (t->requiretls_must && c->profile->is_host && !(c->tls && (c->offers & SMTP_O_REQUIRETLS))) {
		struct smtp_verdict unfit = smtp_verdict_unfit(STR_LIT("5.7.30"), STR_LIT("REQUIRETLS support required"));

		smtp_verdict_give_all(t, &unfit);
	}
	v.stage = "RCPT TO";
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct smtp_rcpt *r = &t->rcpts[i];

		if (r->skip)
			continue;
		if (!smtp_address_is_safe(r->addr) || !r->addr.len || !address_utf8_valid(r->addr)) {
			v.code = 0;
			v.status = STR_LIT("5.1.3");
			v.text = STR_LIT("the address can't be sent in an SMTP command");
			smtp_verdict_give(r, &v);
		}
	}
	utf8_prepare(c, &utf8);
	if (c->limit_rcpts || c->limit_domains)
		limits_check(c);
	for (uint32_t i = 0; i < t->n_rcpts; i++)
		t->rcpts[i].skip |= t->rcpts[i].result != 0;
}
