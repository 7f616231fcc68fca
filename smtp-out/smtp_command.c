/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_command.h"

#include <inttypes.h>

#include "common/mail/address.h"
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

static bool str_is_ascii(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] > 0x7f)
			return false;
	return true;
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

	buf_printf(out, "MAIL FROM:<%.*s>", STR_FMT(t->sender));
	if ((c->offers & SMTP_O_SIZE) && c->profile->size_addition >= 0 && !t->probe)
		buf_printf(out, " SIZE=%" PRIu64, t->size + (uint64_t)c->profile->size_addition);
	if (smtp_prdr_wanted(c))
		buf_adds(out, " PRDR");
	if ((c->offers & SMTP_O_8BITMIME) && t->eightbit)
		buf_adds(out, " BODY=8BITMIME");
	if ((c->offers & SMTP_O_SMTPUTF8) && t->utf8)
		buf_adds(out, " SMTPUTF8");
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

void smtp_command_rcpt(const struct smtp_client *c, const struct smtp_rcpt *r, struct buf *out)
{
	buf_add(out, "RCPT TO:<", 9);
	buf_add_str(out, r->addr);
	buf_addc(out, '>');
	if (c->offers & SMTP_O_DSN) {
		notify_add(out, r->notify);
		if (param_is_safe(r->orcpt))
			buf_printf(out, " ORCPT=%.*s", STR_FMT(r->orcpt));
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

void smtp_offers_read(struct smtp_client *c)
{
	struct str line, word;
	size_t at = 0;

	c->offers = SMTP_O_ESMTP;
	c->peer_size = 0;
	buf_reset(&c->mechanisms);
	for (unsigned n = 0; smtp_reply_line(&c->reply, &at, &line); n++) {
		if (!n) /* the peer's name */
			continue;
		word = STR_NULL;
		str_split(&line, ' ', &word);
		c->offers |= (uint16_t)smtp_offer_find(word);
		if (str_isi(word, "AUTH") && c->mechanisms.len + line.len < MECHANISMS_MAX)
			buf_printf(&c->mechanisms, " %.*s", STR_FMT(line));
		if (str_isi(word, "SIZE") && !str_u64(str_trim(line), UINT64_MAX, &c->peer_size))
			c->peer_size = 0;
	}
	c->offered = c->offers;
	smtp_offers_limit(c);
}

void smtp_txn_check(struct smtp_client *c)
{
	struct smtp_txn *t = c->txn;
	struct smtp_verdict v = { .result = DELIVERY_FAILED, .error = RETRY_OTHER, .stage = "MAIL FROM" };
	bool ascii = str_is_ascii(t->sender);

	if (!smtp_address_is_safe(t->sender)) {
		v.status = STR_LIT("5.1.7");
		v.text = STR_LIT("the sender's address can't be sent in an SMTP command");
		smtp_verdict_give_all(t, &v);
	} else if (c->peer_size && t->size > c->peer_size) {
		v.code = 552;
		v.status = STR_LIT("5.3.4");
		v.text = str_printf(t->arena, "message is too big for the remote host: %" PRIu64 " octets, it takes %" PRIu64, t->size, c->peer_size);
		smtp_verdict_give_all(t, &v);
	}
	v.stage = "RCPT TO";
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct smtp_rcpt *r = &t->rcpts[i];

		if (r->skip)
			continue;
		if (!smtp_address_is_safe(r->addr) || !r->addr.len) {
			v.code = 0;
			v.status = STR_LIT("5.1.3");
			v.text = STR_LIT("the address can't be sent in an SMTP command");
			smtp_verdict_give(r, &v);
		} else if (t->utf8 && !(c->offers & SMTP_O_SMTPUTF8) && (!ascii || !str_is_ascii(r->addr))) {
			v.code = 0;
			v.status = STR_LIT("5.6.7");
			v.text = STR_LIT("utf8 support required but not offered for forwarding");
			smtp_verdict_give(r, &v);
		}
		if (r->result)
			r->skip = true;
	}
}
