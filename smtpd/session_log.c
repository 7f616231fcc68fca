/* SPDX-License-Identifier: ISC */
/* The session's log lines, in Exim's forms (specification, chapter 53). */
#include <stdio.h>
#include <string.h>

#include "common/mail/received.h"
#include "smtpd/session_priv.h"

enum {
	LOG_INPUT_MAX = 150,       /* octets of a client's line that are shown */
	LOG_HEADER_MAX = 16 * 1024, /* octets of a refused message's header */
	LOG_RCPT_MAX = 50,         /* recipients of one */
};

struct str log_peer(struct session *s)
{
	struct arena *a = &s->server->scratch;
	struct ipc_facts f = { 0 };
	char ip[64], server_ip[64];
	struct str host;

	if (s->local)
		return str_printf(a, "local user %s", s->ident ? s->ident : "?");
	session_ip_format(s->ipv6, s->client_ip, ip);
	f.client_ip = str_of(ip);
	f.client_port = s->client_port;
	f.client_name = str_of(s->client_name);
	f.helo = str_of(s->helo);
	f.helo_verified = s->helo_verified;
	host = str_dup(a, received_fullhost(a, &f, s->server->settings.log & LOG_SEL(incoming_port)));
	if (s->server->settings.log & LOG_SEL(incoming_interface)) {
		session_ip_format(s->server_ipv6, s->server_ip, server_ip);
		host = str_printf(a, "%.*s I=[%s]:%u", STR_FMT(host), server_ip, s->server_port);
	}
	return host;
}

struct str log_host(struct session *s)
{
	if (s->local)
		return str_printf(&s->server->scratch, "U=%s", s->ident ? s->ident : "?");
	return str_printf(&s->server->scratch, "H=%.*s", STR_FMT(log_peer(s)));
}

void session_logf(struct session *s, unsigned targets, const char *fmt, ...)
{
	va_list ap;
	struct str line;

	va_start(ap, fmt);
	line = str_of(arena_vprintf(&s->server->scratch, fmt, ap));
	va_end(ap);
	if ((targets & LOG_REJECT) && !s->server->settings.reject_log)
		targets &= ~(unsigned)LOG_REJECT;
	s->server->ops->log(s, targets, line);
}

struct str log_printable(struct session *s, struct str text)
{
	if (text.len <= LOG_INPUT_MAX)
		return text;
	return str_printf(&s->server->scratch, "%.*s...", LOG_INPUT_MAX, text.p);
}

struct str log_duration(struct session *s)
{
	uint64_t t = (s->server->now_ms - s->started_ms) / 1000;
	struct arena *a = &s->server->scratch;

	if (t >= 3600)
		return str_printf(a, "D=%lluh%llum%llus", (unsigned long long)t / 3600, (unsigned long long)t / 60 % 60, (unsigned long long)t % 60);
	if (t >= 60)
		return str_printf(a, "D=%llum%llus", (unsigned long long)t / 60, (unsigned long long)t % 60);
	return str_printf(a, "D=%llus", (unsigned long long)t);
}

void log_rejection(struct session *s, const char *what, struct str subject, bool temporary, struct str text, bool reject_log)
{
	struct arena *a = &s->server->scratch;
	struct txn *t = s->txn;
	bool sender = t && t->accepted, id = sender && t->scanning && t->id[0];

	text = str_dup(a, text);
	for (size_t i = 0; i < text.len; i++)
		if (text.p[i] == '\n')
			((char *)(uintptr_t)text.p)[i] = ' ';
	session_logf(s, s->reject_targets ? s->reject_targets : LOG_MAIN | (reject_log ? LOG_REJECT : 0), "%s%s%.*s%.*s%s%.*s%s%s%s%s%s %srejected %s%s%.*s%s%.*s", id ? t->id : "", id ? " " : "", STR_FMT(log_host(s)), STR_FMT(tls_log(s)),
		sender ? " F=<" : "", sender ? (int)t->sender.len : 0, sender ? t->sender.p : "", sender ? ">" : "", sender && s->auth_method ? " A=" : "",
		sender && s->auth_method ? s->auth_method : "", sender && s->auth_method && s->auth_id ? ":" : "",
		sender && s->auth_method && s->auth_id ? s->auth_id : "", temporary ? "temporarily " : "",
		what, subject.len ? " " : "", STR_FMT(subject), text.len ? ": " : "", STR_FMT(text));
	s->server->stats.rejects++;
}

void log_incomplete(struct session *s)
{
	struct txn *t = s->txn;
	struct buf b = BUF_LIMIT(4096);

	if (!t || !t->accepted || !(s->server->settings.log & LOG_SEL(smtp_incomplete_transaction)))
		return;
	for (uint32_t i = 0; i < t->n_rcpts && !b.full; i++)
		buf_printf(&b, " %.*s", STR_FMT(t->rcpts[i].addr));
	session_logf(s, LOG_MAIN | LOG_REJECT, "%.*s incomplete transaction from <%.*s>%s%.*s", STR_FMT(log_host(s)), STR_FMT(t->sender), b.len ? " for" : "",
		STR_FMT(buf_str(&b)));
	buf_clear(&b);
}

void log_closed(struct session *s, const char *how)
{
	if ((s->server->settings.log & LOG_SEL(smtp_connection)) && !(session_client(s)->flags & CLIENT_NOLOG))
		session_logf(s, LOG_MAIN, "SMTP connection from %.*s %s %.*s", STR_FMT(log_peer(s)), how, STR_FMT(log_duration(s)));
	if (!s->mail_done && (s->server->settings.log & LOG_SEL(smtp_no_mail)))
		session_logf(s, LOG_MAIN, "no MAIL in SMTP connection from %.*s %.*s", STR_FMT(log_peer(s)), STR_FMT(log_duration(s)));
}

/* The header section of a refused message, a line of the reject log for each of its lines. */
void log_rejected_header(struct session *s)
{
	struct txn *t = s->txn;
	uint64_t size;
	struct str text, line;
	char *p;

	if (!t || !t->scanning || t->file != FILE_OPEN || !t->scan.done || !(s->server->settings.log & LOG_SEL(rejected_header)))
		return;
	size = t->scan.header_size < LOG_HEADER_MAX ? t->scan.header_size : LOG_HEADER_MAX;
	p = arena_alloc(&s->server->scratch, size + 1);
	session_logf(s, LOG_REJECT, "%s Envelope-from: <%.*s>", t->id, STR_FMT(t->sender));
	for (uint32_t i = 0; i < t->n_rcpts && i < LOG_RCPT_MAX; i++)
		session_logf(s, LOG_REJECT, "%s Envelope-to: <%.*s>", t->id, STR_FMT(t->rcpts[i].addr));
	if (!size || s->server->ops->read(s, p, size, 0, NULL))
		return;
	text = str_make(p, size);
	while (str_split(&text, '\n', &line)) {
		if (line.len && line.p[line.len - 1] == '\r')
			line.len--;
		if (line.len)
			session_logf(s, LOG_REJECT, "%s   %.*s", t->id, STR_FMT(line));
	}
}
