/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_early.h"

#include <inttypes.h>
#include <string.h>

#include "common/mail/address.h"
#include "smtp-out/smtp_auth.h"
#include "smtp-out/smtp_command.h"

/* ---- the memory as text ---- */

static const char memory_version[] = "1";

void smtp_memory_format(const struct smtp_memory *m, struct buf *out)
{
	buf_printf(out, "%s %" PRId64, memory_version, m->since_s);
	for (size_t i = 0; i < 2; i++) {
		const struct smtp_memory_part *p = &m->part[i];
		const char *comma = " ";

		if (!p->known) {
			buf_adds(out, " -");
			continue;
		}
		for (uint32_t bit = 1; bit; bit <<= 1) {
			const char *name = p->offers & bit ? smtp_offer_name(bit) : NULL;

			if (!name)
				continue;
			buf_printf(out, "%s%s", comma, name);
			comma = ",";
			if (bit == SMTP_O_SIZE && p->size)
				buf_printf(out, "=%" PRIu64, p->size);
			if (bit == SMTP_O_AUTH) {
				const char *sign = "=";

				for (const char *at = p->mechanisms; *at; at += strspn(at, " ")) {
					size_t n = strcspn(at, " ");

					buf_printf(out, "%s%.*s", sign, (int)n, at);
					sign = "+";
					at += n;
				}
				if (p->more)
					buf_printf(out, "%s*", sign);
			}
		}
		if (p->mails || p->rcpts || p->domains) {
			buf_printf(out, "%sLIMITS=%" PRIu32 "+%" PRIu32 "+%" PRIu32, comma, p->mails, p->rcpts, p->domains);
			comma = ",";
		}
		if (*comma == ' ')
			buf_adds(out, " ESMTP"); /* it was taken, and that is all */
	}
}

/* A mechanism's name (RFC 4422 section 3.1). */
static bool mechanism_is_valid(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!ascii_is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_')
			return false;
	return s.len > 0 && s.len <= 20;
}

static bool mechanism_add(struct smtp_memory_part *p, struct str name)
{
	size_t n = strlen(p->mechanisms);

	if (!mechanism_is_valid(name))
		return false;
	if (n + name.len + 2 > sizeof p->mechanisms) {
		p->more = true;
		return true;
	}
	if (n)
		p->mechanisms[n++] = ' ';
	memcpy(p->mechanisms + n, name.p, name.len);
	p->mechanisms[n + name.len] = '\0';
	return true;
}

static bool mechanisms_parse(struct smtp_memory_part *p, struct str text)
{
	struct str name;

	while (text.len && str_split(&text, '+', &name)) {
		if (str_is(name, "*"))
			p->more = true;
		else if (!mechanism_add(p, name))
			return false;
	}
	return true;
}

static bool limits_parse(struct smtp_memory_part *p, struct str text)
{
	uint32_t *const slots[] = { &p->mails, &p->rcpts, &p->domains };
	struct str word;
	uint64_t v;

	for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
		if (!str_split(&text, '+', &word) || !str_u64(word, UINT32_MAX, &v))
			return false;
		*slots[i] = (uint32_t)v;
	}
	return !text.len;
}

static bool part_parse(struct str text, struct smtp_memory_part *p)
{
	struct str word, name;

	if (str_is(text, "-"))
		return true;
	p->known = true;
	p->offers = SMTP_O_ESMTP;
	while (text.len && str_split(&text, ',', &word)) {
		uint32_t bit;

		str_split(&word, '=', &name);
		if (str_is(name, "LIMITS") && !limits_parse(p, word))
			return false;
		bit = smtp_offer_find(name);
		if (!bit && !str_is(name, "ESMTP"))
			continue; /* of a later version */
		p->offers |= bit;
		if (bit == SMTP_O_SIZE && word.len && !str_u64(word, UINT64_MAX, &p->size))
			return false;
		if (bit == SMTP_O_AUTH && !mechanisms_parse(p, word))
			return false;
	}
	return true;
}

bool smtp_memory_parse(struct str text, struct smtp_memory *out)
{
	struct str version, since, clear, tls;
	uint64_t s;

	*out = (struct smtp_memory){ 0 };
	if (text.len > SMTP_MEMORY_TEXT_MAX || !str_split(&text, ' ', &version) || !str_is(version, memory_version))
		return false;
	if (!str_split(&text, ' ', &since) || !str_u64(since, INT64_MAX, &s) || !str_split(&text, ' ', &clear) || !str_split(&text, ' ', &tls) || text.len)
		return false;
	out->since_s = (int64_t)s;
	if (clear.len && tls.len && part_parse(clear, &out->part[0]) && part_parse(tls, &out->part[1]))
		return true;
	*out = (struct smtp_memory){ 0 };
	return false;
}

/* ---- what it allows ---- */

bool smtp_early_recall(struct smtp_client *c)
{
	const uint32_t needed = SMTP_O_PIPELINING | SMTP_O_PIPECONNECT;
	const struct smtp_memory_part *p = c->memory ? &c->memory->part[c->tls] : NULL;

	if (!p || !p->known || (p->offers & needed) != needed || c->profile->lmtp || c->profile->avoid_esmtp || c->profile->avoid_pipelining)
		return false;
	c->offers = (uint16_t)p->offers;
	c->peer_size = p->size;
	c->limit_mails = p->mails;
	c->limit_rcpts = p->rcpts;
	c->limit_domains = p->domains;
	buf_reset(&c->mechanisms);
	buf_adds(&c->mechanisms, p->mechanisms);
	smtp_offers_limit(c);
	return true;
}

/* Of the mechanisms only those count that we could use: others may come and go. */
static void part_fill(const struct smtp_client *c, struct smtp_memory_part *p)
{
	struct str rest = buf_str(&c->mechanisms), name;

	memset(p, 0, sizeof *p); /* it is compared as a whole */
	p->known = true;
	p->offers = c->offered;
	p->size = c->peer_size;
	p->mails = c->limit_mails;
	p->rcpts = c->limit_rcpts;
	p->domains = c->limit_domains;
	while (rest.len && str_split(&rest, ' ', &name))
		for (uint32_t i = 0; name.len && i < c->profile->n_auth; i++)
			if (str_eqi(name, c->profile->auth[i].mechanism)) {
				mechanism_add(p, name);
				break;
			}
}

bool smtp_early_learn(struct smtp_client *c)
{
	const uint32_t needed = SMTP_O_PIPELINING | SMTP_O_PIPECONNECT;
	struct smtp_memory_part *p = &c->memory->part[c->tls], now;

	part_fill(c, &now);
	if ((now.offers & needed) != needed) {
		c->forget |= p->known;
		memset(p, 0, sizeof *p);
		return false;
	}
	if (memcmp(&now, p, sizeof now) != 0)
		c->learned = true;
	*p = now;
	return true;
}

static bool address_is_fit(struct str addr)
{
	return smtp_address_is_safe(addr) && address_utf8_valid(addr);
}

/* Nothing in it on which only the host itself can decide. */
static bool txn_fits(struct smtp_client *c)
{
	const struct smtp_txn *t = c->txn;
	uint32_t n = 0;

	if (t->requiretls || !address_is_fit(t->sender) || (c->peer_size && t->size > c->peer_size) || (t->utf8 && !(c->offers & SMTP_O_SMTPUTF8)))
		return false;
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		const struct smtp_rcpt *r = &t->rcpts[i];

		if (r->skip)
			continue;
		n++;
		if (!r->addr.len || !address_is_fit(r->addr))
			return false;
	}
	if ((c->limit_rcpts && n > c->limit_rcpts) || (c->limit_domains && n > c->limit_domains))
		return false;
	return n > 0 && smtp_utf8_fits(c);
}

enum smtp_step smtp_early_next(struct smtp_client *c)
{
	const struct smtp_profile *f = c->profile;

	if (!c->tls && c->tls_want != SMTP_TLS_NO) {
		if (c->offers & SMTP_O_STARTTLS)
			return SMTP_STARTTLS;
		if (c->tls_want == SMTP_TLS_MUST)
			return SMTP_WAIT;
	}
	c->auth = 0;
	if (f->auth_try || f->auth_require) {
		if (c->memory && c->memory->part[c->tls].more)
			return SMTP_WAIT;
		if (smtp_auth_find(c))
			return smtp_auth_current(c)->failed.len ? SMTP_WAIT : SMTP_AUTH;
		if (f->auth_require)
			return SMTP_WAIT;
	}
	return c->txn && txn_fits(c) ? SMTP_MAIL : SMTP_WAIT;
}

static bool has_dsn(const struct smtp_txn *t)
{
	if (t->ret.len || t->envid.len)
		return true;
	for (uint32_t i = 0; i < t->n_rcpts; i++)
		if (!t->rcpts[i].skip && (t->rcpts[i].notify || t->rcpts[i].orcpt.len))
			return true;
	return false;
}

uint32_t smtp_early_uses(const struct smtp_client *c)
{
	const struct smtp_txn *t = c->txn;
	uint32_t uses = SMTP_O_PIPELINING;

	if (!t->probe)
		uses |= (c->profile->size_addition >= 0 ? SMTP_O_SIZE : 0u) | (c->body_ahead ? SMTP_O_CHUNKING : 0u) | (smtp_prdr_wanted(c) ? SMTP_O_PRDR : 0u);
	uses |= t->eightbit ? SMTP_O_8BITMIME : 0u;
	uses |= t->utf8_said ? SMTP_O_SMTPUTF8 : 0u;
	uses |= has_dsn(t) ? SMTP_O_DSN : 0u;
	return uses & c->offers;
}
