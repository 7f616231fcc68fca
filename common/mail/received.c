/* SPDX-License-Identifier: ISC */
#include "common/mail/received.h"

#include "common/mail/address.h"
#include "common/mail/alabel.h"
#include "common/mail/date.h"
#include "common/mail/header.h"

/* Texts of strangers have been checked where they came in; what has control octets nevertheless is left out here. */
static bool usable(struct str s)
{
	return s.len && !str_has_ctl(s);
}

static struct str host_ip(struct arena *a, const struct ipc_facts *f, bool log_port)
{
	if (log_port && f->client_port)
		return str_printf(a, "[%.*s]:%u", STR_FMT(f->client_ip), (unsigned)f->client_port);
	return str_printf(a, "[%.*s]", STR_FMT(f->client_ip));
}

/* HELO says something new: neither our own "[ip]" nor the name that was found. */
static bool helo_shows(const struct ipc_facts *f)
{
	struct str helo = f->helo;

	if (!usable(helo))
		return false;
	if (helo.len > 2 && helo.p[0] == '[' && str_eqi(str_sub(helo, 1, helo.len - 2), f->client_ip))
		return false;
	return !f->client_name.len || !str_eqi(helo, f->client_name);
}

struct str received_fullhost(struct arena *a, const struct ipc_facts *f, bool log_port)
{
	struct str ip = host_ip(a, f, log_port);

	if (!f->client_ip.len)
		return STR_NULL;
	if (f->client_name.len && helo_shows(f))
		return str_printf(a, "%.*s (%.*s) %.*s", STR_FMT(f->client_name), STR_FMT(f->helo), STR_FMT(ip));
	if (f->client_name.len)
		return str_printf(a, "%.*s %.*s", STR_FMT(f->client_name), STR_FMT(ip));
	if (helo_shows(f) && f->helo_verified)
		return str_printf(a, "%.*s %.*s", STR_FMT(f->helo), STR_FMT(ip));
	if (helo_shows(f))
		return str_printf(a, "(%.*s) %.*s", STR_FMT(f->helo), STR_FMT(ip));
	return ip;
}

struct str received_rcvhost(struct arena *a, const struct ipc_facts *f, bool log_port)
{
	struct str ip = host_ip(a, f, log_port);
	bool helo = helo_shows(f), ident = usable(f->ident);
	struct str said;

	if (!f->client_ip.len)
		return STR_NULL;
	said = str_printf(a, "%s%.*s%s%s%.*s", helo ? "helo=" : "", helo ? (int)f->helo.len : 0, helo ? f->helo.p : "", helo && ident ? " " : "",
		ident ? "ident=" : "", ident ? (int)f->ident.len : 0, ident ? f->ident.p : "");
	if (f->client_name.len)
		return str_printf(a, "%.*s (%.*s%s%.*s)", STR_FMT(f->client_name), STR_FMT(ip), said.len ? " " : "", STR_FMT(said));
	return said.len ? str_printf(a, "%.*s (%.*s)", STR_FMT(ip), STR_FMT(said)) : ip;
}

static struct str pair_value(const struct ipc_pair *v, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (str_is(v[i].name, name))
			return v[i].value;
	return STR_NULL;
}

/* RFC 6531 section 3.7.3: names of hosts are A-labels here. */
static struct ipc_facts facts_ascii(struct arena *a, const struct ipc_facts *f)
{
	struct ipc_facts out = *f;

	if (!address_is_ascii(f->helo) && alabel_domain_encode(a, f->helo, &out.helo, NULL))
		out.helo = STR_NULL;
	return out;
}

struct str received_format(struct arena *a, const struct received *r)
{
	const struct ipc_facts facts = facts_ascii(a, r->facts), *f = &facts;
	struct buf b = BUF_INIT;
	struct str tls, cipher, s;
	char date[DATE_TEXT];

	buf_adds(&b, "Received: ");
	if (f->client_ip.len) {
		buf_adds(&b, "from ");
		buf_add_str(&b, received_rcvhost(a, f, r->log_port));
		buf_adds(&b, "\r\n\t");
	} else {
		if (usable(f->ident))
			buf_printf(&b, "from %.*s ", STR_FMT(address_local_quote(a, f->ident)));
		if (usable(f->helo))
			buf_printf(&b, "(helo=%.*s)\r\n\t", STR_FMT(f->helo));
	}
	buf_printf(&b, "by %.*s ", STR_FMT(r->hostname));
	if (f->protocol.len)
		buf_printf(&b, "with %.*s ", STR_FMT(f->protocol));
	tls = pair_value(f->tls, f->n_tls, "ver");
	cipher = pair_value(f->tls, f->n_tls, "cipher_std");
	if (usable(tls))
		buf_printf(&b, " (%.*s)", STR_FMT(tls));
	if (usable(cipher))
		buf_printf(&b, " tls %.*s\r\n\t", STR_FMT(cipher));
	buf_printf(&b, "(%.*s)\r\n\t", STR_FMT(r->software));
	if (usable(f->sender) && (r->utf8 || address_is_ascii(f->sender)))
		buf_printf(&b, "(envelope-from <%.*s>)\r\n\t", STR_FMT(f->sender));
	buf_printf(&b, "id %.*s", STR_FMT(r->message_id));
	if (usable(r->recipient) && (r->utf8 || address_is_ascii(r->recipient)))
		buf_printf(&b, "\r\n\tfor %.*s", STR_FMT(r->recipient));
	date_format(date, r->wall_s, r->utc);
	buf_printf(&b, ";\r\n\t%s\r\n", date);
	s = str_dup(a, buf_str(&b));
	buf_clear(&b);
	return s;
}

struct str received_given(struct arena *a, struct str text, int64_t wall_s, bool utc)
{
	char date[DATE_TEXT];

	date_format(date, wall_s, utc);
	text = header_crlf(a, str_printf(a, "%.*s;\n\t%s\n", STR_FMT(str_trim(text)), date));
	return header_text_valid(text) ? text : STR_LIT("Received: (received_header_text gave no header field)\r\n");
}
