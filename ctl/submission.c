/* SPDX-License-Identifier: ISC */
/* submission.c - the client side of local submission: a small blocking SMTP client, with the header work of -t. */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/mail/addrlist.h"
#include "ctl/sendmail.h"

enum {
	REPLY_LINE_MAX = 4096,
	REPLY_WAIT_MS = 600 * 1000, /* the server's ACLs and durability may take their time */
	READ_SIZE = 65536,
};

/* ---- the text ---- */

/* Old programs put the separator of a mailbox in front: "From someone Sat Nov 21 16:00:00 2026". It is no header field. */
static struct str fromline_drop(struct str text)
{
	ptrdiff_t nl = str_begins(text, "From ") || str_begins(text, ">From ") ? str_find(text, '\n') : -1;

	return nl < 0 ? text : str_from(text, (size_t)nl + 1);
}

static bool field_is(struct str line, const char *name)
{
	size_t n = strlen(name);
	struct str rest = str_from(line, n);

	if (!str_isi(str_sub(line, 0, n), name))
		return false;
	while (rest.len && (rest.p[0] == ' ' || rest.p[0] == '\t'))
		rest = str_from(rest, 1);
	return rest.len && rest.p[0] == ':';
}

/* Takes a line with its end off the text; *line_out is without CRLF or LF. */
static bool line_take(struct str *text, struct str *line_out)
{
	ptrdiff_t at;

	if (!text->len)
		return false;
	at = str_find(*text, '\n');
	*line_out = at < 0 ? *text : str_sub(*text, 0, (size_t)at);
	*text = at < 0 ? str_from(*text, text->len) : str_from(*text, (size_t)at + 1);
	if (at >= 0 && line_out->len && line_out->p[line_out->len - 1] == '\r')
		*line_out = str_sub(*line_out, 0, line_out->len - 1);
	return true;
}

static void line_put(struct buf *out, struct str line)
{
	if (line.len && line.p[0] == '.')
		buf_addc(out, '.');
	for (;;) {
		ptrdiff_t cr = str_find(line, '\r');

		buf_add_str(out, cr < 0 ? line : str_sub(line, 0, (size_t)cr));
		buf_adds(out, "\r\n");
		if (cr < 0)
			return;
		line = str_from(line, (size_t)cr + 1); /* a lone CR ends a line, as good as its writer meant it */
		if (line.len && line.p[0] == '.')
			buf_addc(out, '.');
	}
}

void submission_convert(struct str text, bool dot_ends, bool drop_bcc, struct buf *out, size_t *end_out)
{
	struct str rest = text, line;
	bool header = true, dropping = false;

	while (line_take(&rest, &line)) {
		if (dot_ends && str_is(line, "."))
			break;
		if (header && !line.len)
			header = false;
		if (header && drop_bcc) {
			bool folded = line.p[0] == ' ' || line.p[0] == '\t';

			if (!folded)
				dropping = field_is(line, "bcc") || field_is(line, "resent-bcc");
			if (dropping)
				continue;
		}
		line_put(out, line);
	}
	*end_out = text.len - rest.len;
}

static enum status addresses_parse(struct arena *a, struct str text, struct ipc_strs *out, struct err *err)
{
	struct addrlist list;
	enum status st = addrlist_parse(text, ADDR_LENIENT | ADDR_UTF8, a, &list, err);

	if (st)
		return st;
	out->v = arena_alloc(a, list.n * sizeof *out->v);
	for (out->n = 0; out->n < list.n; out->n++)
		out->v[out->n] = list.v[out->n].addr;
	return ST_OK;
}

enum status submission_addresses(struct arena *a, struct str text, struct ipc_strs *out, struct err *err)
{
	static const char *const names[2][3] = { { "to", "cc", "bcc" }, { "resent-to", "resent-cc", "resent-bcc" } };
	struct buf fields[2] = { BUF_INIT, BUF_INIT };
	struct str line;
	int in_set = -1;
	enum status st;
	bool resent;

	while (line_take(&text, &line) && line.len) {
		if (line.p[0] != ' ' && line.p[0] != '\t') {
			in_set = -1;
			for (int set = 0; set < 2; set++)
				for (int i = 0; i < 3; i++)
					if (field_is(line, names[set][i]))
						in_set = set;
			if (in_set >= 0) {
				if (fields[in_set].len)
					buf_addc(&fields[in_set], ',');
				line = str_from(line, (size_t)str_find(line, ':') + 1);
			}
		}
		if (in_set >= 0) {
			buf_addc(&fields[in_set], ' ');
			buf_add_str(&fields[in_set], line);
		}
	}
	resent = fields[1].len > 0;
	st = addresses_parse(a, str_dup(a, buf_str(&fields[resent])), out, err);
	if (st)
		err_prefix(err, resent ? "Resent-To:, Resent-Cc: or Resent-Bcc:" : "To:, Cc: or Bcc:");
	buf_clear(&fields[0]);
	buf_clear(&fields[1]);
	return st;
}

/* ---- the dialogue ---- */

struct dialogue {
	int fd;
	bool verbose;
	struct buf in;
	int code;             /* of the last reply */
	char text[REPLY_LINE_MAX];
};

static bool dialogue_write(struct dialogue *d, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(d->fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

/* Reads one reply, all its lines; the last line's text is kept. */
static bool dialogue_reply(struct dialogue *d)
{
	for (;;) {
		char *end = d->in.len ? memchr(d->in.p, '\n', d->in.len) : NULL;
		struct pollfd p = { d->fd, POLLIN, 0 };
		ssize_t n;

		if (end) {
			size_t len = (size_t)(end - d->in.p);
			bool last;

			if (len < 3)
				return false;
			d->code = (d->in.p[0] - '0') * 100 + (d->in.p[1] - '0') * 10 + (d->in.p[2] - '0');
			last = len < 4 || d->in.p[3] != '-';
			snprintf(d->text, sizeof d->text, "%.*s", (int)(len && d->in.p[len - 1] == '\r' ? len - 1 : len), d->in.p);
			if (d->verbose)
				fprintf(stderr, "<<< %s\n", d->text);
			buf_drop(&d->in, len + 1);
			if (last)
				return true;
			continue;
		}
		if (d->in.len > REPLY_LINE_MAX || poll(&p, 1, REPLY_WAIT_MS) <= 0)
			return false;
		n = recv(d->fd, buf_room(&d->in, REPLY_LINE_MAX), REPLY_LINE_MAX, 0);
		if (n <= 0)
			return false;
		d->in.len += (size_t)n;
	}
}

static bool dialogue_ask(struct dialogue *d, const char *line)
{
	if (d->verbose)
		fprintf(stderr, ">>> %s\n", line);
	return dialogue_write(d, line, strlen(line)) && dialogue_write(d, "\r\n", 2) && dialogue_reply(d);
}

/* `rcpt`: a recipient was refused, not the message. */
static int dialogue_exit(const struct dialogue *d, bool alive, bool rcpt)
{
	if (!alive)
		return ctl_fail(CTL_TEMPFAIL, "sendmail: the connection to smtpd was lost; the message was not accepted");
	fprintf(stderr, "sendmail: %s\n", d->text);
	return d->code / 100 == 4 ? CTL_TEMPFAIL : rcpt && d->code == 550 ? CTL_NOUSER : CTL_UNAVAILABLE;
}

static bool line_safe(const char *s)
{
	return !str_has_ctl(str_of(s)) && strlen(s) < 900;
}

static int envelope_send(struct ctl *ctl, const struct submission *s, struct dialogue *d, const struct ipc_strs *to)
{
	const struct passwd *pw = s->sender ? NULL : getpwuid(getuid());
	/* Without -f it is the caller's name, which smtpd qualifies; it knows who we are and believes only those it trusts. */
	const char *from = s->sender ? s->sender : pw ? pw->pw_name : arena_printf(&ctl->arena, "uid%u", (unsigned)getuid());
	struct str name = address_xtext_encode(&ctl->arena, str_sub(str_of(s->full_name), 0, 200));
	bool alive;

	if (!strcmp(from, "<>"))
		from = "";
	if (!line_safe(from) || strpbrk(from, "<> "))
		return ctl_fail(CTL_DATA, "sendmail: \"%s\" is no address", from);
	alive = dialogue_ask(d, arena_printf(&ctl->arena, "MAIL FROM:<%s>%s%s%s%s%s%s%.*s", from, s->utf8 ? " SMTPUTF8" : "", s->ret ? " RET=" : "", s->ret ? s->ret : "",
		s->envid ? " ENVID=" : "", s->envid ? s->envid : "", name.len ? " XNAME=" : "", STR_FMT(name)));
	if (!alive || d->code != 250)
		return dialogue_exit(d, alive, false);
	for (uint32_t i = 0; i < to->n; i++) {
		const char *addr = str_cstr(&ctl->arena, to->v[i]);

		if (!line_safe(addr))
			return ctl_fail(CTL_DATA, "sendmail: recipient %u is no address", i + 1);
		alive = dialogue_ask(d, arena_printf(&ctl->arena, "RCPT TO:<%s>%s%s", addr, s->notify ? " NOTIFY=" : "", s->notify ? s->notify : ""));
		if (!alive || d->code / 100 != 2)
			return dialogue_exit(d, alive, true);
	}
	alive = dialogue_ask(d, "DATA");
	return !alive || d->code != 354 ? dialogue_exit(d, alive, false) : CTL_OK;
}

/* errno ETIMEDOUT: nothing came for receive_timeout. */
static bool message_read(struct ctl *ctl, struct buf *text)
{
	const struct conf *conf = ctl_conf_any(ctl);
	int64_t limit = conf ? conf->main.receive_timeout : 0;
	struct pollfd p = { STDIN_FILENO, POLLIN, 0 };

	for (;;) {
		ssize_t n;

		if (limit > 0 && poll(&p, 1, (int)(limit > 2000000 ? 2000000 : limit) * 1000) == 0) {
			errno = ETIMEDOUT;
			return false;
		}
		n = read(STDIN_FILENO, buf_room(text, READ_SIZE), READ_SIZE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0;
		text->len += (size_t)n;
	}
}

static bool address_listed(const struct ipc_strs *list, struct arena *a, struct str addr)
{
	for (uint32_t i = 0; i < list->n; i++)
		if (address_same(a, list->v[i], addr))
			return true;
	return false;
}

/* -t with addresses on the command line: these get nothing, or get it, too (extract_addresses_remove_arguments). */
static void recipients_combine(struct ctl *ctl, const struct ipc_strs *given, struct ipc_strs *to)
{
	const struct conf *conf = ctl_conf_any(ctl);
	bool away = !conf || conf->main.extract_addresses_remove_arguments;
	struct ipc_strs all = { arena_alloc(&ctl->arena, (to->n + given->n + 1) * sizeof *all.v), 0 };

	for (uint32_t i = 0; i < to->n; i++)
		if (!away || !address_listed(given, &ctl->arena, to->v[i]))
			all.v[all.n++] = to->v[i];
	for (uint32_t i = 0; !away && i < given->n; i++)
		if (!address_listed(to, &ctl->arena, given->v[i]))
			all.v[all.n++] = given->v[i];
	*to = all;
}

static enum status recipients_make(struct ctl *ctl, const struct submission *s, struct str text, struct ipc_strs *to, struct err *err)
{
	struct buf list = BUF_INIT;
	enum status st;

	for (size_t i = 0; i < s->n_recipients; i++)
		buf_printf(&list, "%s%s", i ? ", " : "", s->recipients[i]);
	/* The arena's copy outlives the list: addresses lend from it. */
	st = list.len ? addresses_parse(&ctl->arena, str_dup(&ctl->arena, buf_str(&list)), to, err) : ST_OK;
	if (!st && s->from_header) {
		struct ipc_strs given = *to;

		*to = (struct ipc_strs){ NULL, 0 };
		st = submission_addresses(&ctl->arena, text, to, err);
		if (!st && given.n)
			recipients_combine(ctl, &given, to);
	}
	if (!st && !to->n)
		st = err_set(err, ST_FAIL, "%s", !s->from_header ? "no recipients given" : s->n_recipients ? "-t: nobody is left of the header's To:, Cc: and Bcc:" : "-t: the header has no To:, Cc: or Bcc:");
	buf_clear(&list);
	return st;
}

int submission_send(struct ctl *ctl, const struct submission *s, int fd)
{
	struct dialogue d = { .fd = fd, .verbose = s->verbose, .in = BUF_INIT };
	struct buf text = BUF_INIT, wire = BUF_INIT;
	struct ipc_strs to = { NULL, 0 };
	struct err err = ERR_INIT;
	int code = CTL_OK;
	size_t end;
	bool alive;

	/* All is read before anything is said: the server's time limits are not the writer's. */
	if (!message_read(ctl, &text))
		code = ctl_fail(CTL_IOERR, "sendmail: reading the message: %s", strerror(errno));
	else if (recipients_make(ctl, s, fromline_drop(buf_str(&text)), &to, &err) || to.n > SUBMISSION_RCPT_MAX)
		code = ctl_fail(err.status == ST_FAIL && !s->from_header && !s->n_recipients ? CTL_USAGE : CTL_DATA, "sendmail: %s",
			err.text[0] ? err.text : "too many recipients");
	if (!code) {
		/* No EHLO: by that smtpd knows a message handed over (protocol "local", ACLs for local messages) from a session (-bs). */
		alive = dialogue_reply(&d);
		if (!alive || d.code != 220)
			code = dialogue_exit(&d, alive, false);
	}
	if (!code)
		code = envelope_send(ctl, s, &d, &to);
	if (!code) {
		submission_convert(fromline_drop(buf_str(&text)), s->dot_ends, s->from_header, &wire, &end);
		buf_adds(&wire, ".\r\n");
		alive = dialogue_write(&d, wire.p, wire.len) && dialogue_reply(&d);
		if (!alive || d.code != 250)
			code = dialogue_exit(&d, alive, false);
		else
			dialogue_ask(&d, "QUIT");
	}
	buf_clear(&text);
	buf_clear(&wire);
	buf_clear(&d.in);
	return code;
}

bool submission_relay(int fd, int in, int out)
{
	struct pollfd p[2] = { { in, POLLIN, 0 }, { fd, POLLIN, 0 } };
	struct dialogue d = { .fd = fd };
	char b[READ_SIZE];

	for (;;) {
		ssize_t n;

		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return false;
		}
		if (p[0].revents) {
			n = read(in, b, sizeof b);
			if (n > 0 && !dialogue_write(&d, b, (size_t)n))
				return false;
			if (n <= 0) {
				shutdown(fd, SHUT_WR);
				p[0].fd = -1;
			}
		}
		if (p[1].revents) {
			n = recv(fd, b, sizeof b, 0);
			if (n <= 0)
				return n == 0;
			for (ssize_t at = 0, k; at < n; at += k)
				if ((k = write(out, b + at, (size_t)(n - at))) <= 0)
					return false;
		}
	}
}
