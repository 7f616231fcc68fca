/* SPDX-License-Identifier: ISC */
#include "policyd/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/lang/lang_header.h"
#include "common/lang/scan_server.h"
#include "common/mail/header.h"
#include "common/mail/received.h"
#include "policyd/stream.h"

enum { CHUNK = 32768, MULTIPLE_MAX = 16 /* addresses of a server's name that are tried */ };

/* ---- for the protocols ---- */

enum status scan_send(struct scan_talk *t, struct str octets, struct err *err)
{
	return stream_send(t->fd, octets, t->until_ms, err);
}

static enum status piece_send(struct scan_talk *t, struct str piece, bool chunks, struct err *err)
{
	const char size[4] = { (char)(piece.len >> 24), (char)(piece.len >> 16), (char)(piece.len >> 8), (char)piece.len };
	enum status st = chunks ? scan_send(t, str_make(size, sizeof size), err) : ST_OK;

	return st ? st : scan_send(t, piece, err);
}

static enum status body_send(struct scan_talk *t, bool chunks, struct err *err)
{
	const struct scan_content *c = &t->content;
	char *p = arena_alloc(t->arena, CHUNK);
	uint64_t done = 0;
	enum status st = ST_OK;

	while (!st && done < c->len) {
		ssize_t n = pread(c->fd, p, c->len - done < CHUNK ? (size_t)(c->len - done) : CHUNK, (off_t)(c->from + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, ST_DEFER, "the message could not be read: %s", n ? strerror(errno) : "it is shorter than it was");
		st = piece_send(t, str_make(p, (size_t)n), chunks, err);
		done += (uint64_t)n;
	}
	return st;
}

enum status scan_send_content(struct scan_talk *t, bool chunks, struct err *err)
{
	enum status st = t->content.head.len ? piece_send(t, t->content.head, chunks, err) : ST_OK;

	if (!st)
		st = body_send(t, chunks, err);
	if (!st && chunks)
		st = piece_send(t, STR_NULL, true, err);
	if (!st && !chunks)
		shutdown(t->fd, SHUT_WR);
	return st;
}

enum status scan_read_all(struct scan_talk *t, bool to_nul, struct str *out, struct err *err)
{
	struct buf b = BUF_LIMIT(SCAN_ANSWER_MAX);
	char *p = arena_alloc(t->arena, CHUNK);
	enum status st;
	size_t n;

	do {
		st = stream_read(t->fd, p, CHUNK, &n, t->until_ms, err);
		if (!st)
			buf_add(&b, p, n);
		if (!st && b.full)
			st = err_set(err, ST_DEFER, "its answer is longer than %d octets", SCAN_ANSWER_MAX);
		if (!st && clock_ms() >= t->until_ms)
			st = err_set(err, ST_DEFER, "timeout");
	} while (!st && !(to_nul && memchr(p, '\0', n)));
	*out = str_taint(str_dup(t->arena, buf_str(&b)));
	if (to_nul && str_find(*out, '\0') >= 0)
		out->len = (uint32_t)str_find(*out, '\0');
	buf_clear(&b);
	if (st == ST_FAIL && out->len) /* closed: that was all */
		return ST_OK;
	return st == ST_FAIL ? err_set(err, ST_DEFER, "it closed the connection without an answer") : st;
}

/* ---- what is shown ---- */

static void received_add(struct policyd *p, struct eval *ev, struct buf *b)
{
	const struct ipc_facts *f = ev->facts;
	const struct conf_opts_main *m = &p->conf->main;
	struct received r = { .facts = f, .hostname = m->primary_hostname.text, .software = STR_LIT("Bulkhead " BULKHEAD_VERSION),
		.message_id = f->message_id, .recipient = f->recipients.n == 1 && f->rcpt_accepted == 1 ? f->recipients.v[0] : STR_NULL,
		.wall_s = clock_wall(), .utc = str_isi(m->timezone.text, "UTC") };
	struct str text = policyd_received_text(p, ev);

	if (text.len)
		buf_add_str(b, received_given(ev->arena, text, r.wall_s, r.utc));
	else if (!m->received_header_text.set || m->received_header_text.text.len)
		buf_add_str(b, received_format(ev->arena, &r));
}

static void envelope_add(struct eval *ev, struct buf *b)
{
	const struct ipc_facts *f = ev->facts;
	struct str line = str_printf(ev->arena, "X-Envelope-From: <%.*s>\r\n", STR_FMT(f->sender));

	if (header_text_valid(line))
		buf_add_str(b, line);
	line = STR_LIT("X-Envelope-To:");
	for (uint32_t i = 0; i < f->recipients.n; i++)
		line = str_printf(ev->arena, "%.*s%s%.*s", STR_FMT(line), i ? ", " : " ", STR_FMT(f->recipients.v[i]));
	line = str_printf(ev->arena, "%.*s\r\n", STR_FMT(line));
	if (header_text_valid(line))
		buf_add_str(b, line);
}

static enum status content_make(struct policyd *p, struct eval *ev, struct scan_content *out, struct err *err)
{
	struct buf b = BUF_LIMIT(2 * EVAL_HEADER_MAX);
	struct str fields;
	enum status st = header_whole(ev, &fields, err);

	if (!st)
		st = body_place(ev, &out->from, &out->len, err);
	if (st)
		return st;
	envelope_add(ev, &b);
	received_add(p, ev, &b);
	buf_add_str(&b, header_crlf(ev->arena, fields));
	buf_adds(&b, "\r\n");
	out->fd = ev->message_fd;
	out->head = str_dup(ev->arena, buf_str(&b));
	if (b.full)
		st = err_set(err, ST_DEFER, "the message's header is too long");
	buf_clear(&b);
	return st;
}

/* ---- servers ---- */

struct scan {
	struct policyd *policyd;
	struct arena *arena;
	const struct lang_scan *ask;
	struct scan_servers servers;
	bool tried[SCAN_SERVERS_MAX];
	uint64_t until_ms;               /* for all servers */
};

static bool server_is_on(const struct scan_server *s)
{
	time_t now = (time_t)clock_wall();
	struct tm tm;
	int64_t day_s;

	if (s->from_s == 0 && s->until_s == 86400)
		return true;
	localtime_r(&now, &tm);
	day_s = tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec;
	return day_s >= s->from_s && day_s < s->until_s;
}

/* One of the highest priority among those that are left, by weight; -1: none. */
static int server_pick(struct scan *x)
{
	unsigned best = 0;
	uint32_t sum = 0, r;

	for (unsigned i = 0; i < x->servers.n; i++)
		if (!x->tried[i] && server_is_on(&x->servers.v[i]) && x->servers.v[i].priority > best)
			best = x->servers.v[i].priority;
	for (unsigned i = 0; i < x->servers.n; i++)
		if (!x->tried[i] && x->servers.v[i].priority == best && server_is_on(&x->servers.v[i]))
			sum += x->servers.v[i].weight;
	if (!sum)
		return -1;
	r = arc4random_uniform(sum);
	for (unsigned i = 0; i < x->servers.n; i++)
		if (!x->tried[i] && x->servers.v[i].priority == best && server_is_on(&x->servers.v[i])) {
			if (r < x->servers.v[i].weight)
				return (int)i;
			r -= x->servers.v[i].weight;
		}
	return -1;
}

/* Addresses of a server, none for a socket; n_out 0 and ST_OK then. */
static enum status server_addresses(struct scan *x, const struct scan_server *s, struct str *out, unsigned *n_out, struct err *err)
{
	const struct lang_services *services = lang_services(x->policyd->lang);
	struct ipc_host_answer found = { 0 };
	struct ip ip;
	enum status st;

	*n_out = 0;
	if (s->path.len)
		return ST_OK;
	if (ip_parse(s->host, &ip) || str_isi(s->host, "localhost")) {
		out[(*n_out)++] = str_isi(s->host, "localhost") ? STR_LIT("127.0.0.1") : s->host;
		return ST_OK;
	}
	st = services->host ? services->host(services->ctx, x->arena, s->host, "A", &found, err) : err_set(err, ST_ERROR, "names can't be looked up here");
	for (uint32_t i = 0; !st && i < found.n_hosts && *n_out < MULTIPLE_MAX; i++)
		out[(*n_out)++] = found.hosts[i].ip;
	return st ? st : *n_out ? ST_OK : err_set(err, ST_DEFER, "it has no address");
}

static struct str server_words(struct arena *a, const struct scan_server *s)
{
	return s->path.len ? s->path : str_printf(a, "[%.*s]:%u", STR_FMT(s->host), s->port);
}

static enum status server_try(struct scan *x, const struct scan_server *s, struct str ip, uint16_t port, int *fd_out, struct str *address_out, struct err *err)
{
	uint64_t until = clock_ms() + SCAN_CONNECT_MS;

	*address_out = s->path.len ? s->path : str_printf(x->arena, "[%.*s]:%u", STR_FMT(ip), port);
	return stream_open(s->path, ip, port, until < x->until_ms ? until : x->until_ms, fd_out, err);
}

static enum status server_connect_once(struct scan *x, const struct scan_server *s, int *fd_out, struct str *address_out, struct err *err)
{
	struct str ips[MULTIPLE_MAX];
	unsigned n;
	enum status st = server_addresses(x, s, ips, &n, err);

	if (!st && !n)
		return server_try(x, s, STR_NULL, 0, fd_out, address_out, err);
	for (unsigned port = s->port; !st && port <= s->port_last; port++)
		for (unsigned i = 0; i < n; i++) {
			if (clock_ms() >= x->until_ms)
				return err_set(err, ST_DEFER, "timeout");
			if (server_try(x, s, ips[i], (uint16_t)port, fd_out, address_out, err) == ST_OK)
				return ST_OK;
		}
	return st ? ST_DEFER : err->status;
}

static enum status server_connect(struct scan *x, const struct scan_server *s, int *fd_out, struct str *address_out, struct err *err)
{
	enum status st = server_connect_once(x, s, fd_out, address_out, err);
	uint64_t wait = s->retry_ms;

	if (!st || !wait || clock_ms() + wait >= x->until_ms)
		return st;
	nanosleep(&(struct timespec){ (time_t)(wait / 1000), (long)(wait % 1000) * 1000000 }, NULL);
	return server_connect_once(x, s, fd_out, address_out, err);
}

/* Any server that can be connected to. When another is tried instead, the log says so. */
static enum status connect_any(struct scan *x, const struct scan_server **out, int *fd_out, struct str *address_out, struct err *err)
{
	const struct lang_services *services = lang_services(x->policyd->lang);
	enum status st = err_set(err, ST_DEFER, "no server is to be used at this time");
	int i, next = server_pick(x);

	while ((i = next) >= 0) {
		const struct scan_server *s = &x->servers.v[i];

		x->tried[i] = true;
		*out = s;
		st = server_connect(x, s, fd_out, address_out, err);
		if (!st)
			return ST_OK;
		st = err_set(err, ST_DEFER, "%.*s: connection failed (%s)", STR_FMT(server_words(x->arena, s)), str_cstr(x->arena, str_of(arena_strdup(x->arena, err->text))));
		next = server_pick(x);
		if (next >= 0 && clock_ms() >= x->until_ms)
			break;
		if (next >= 0 && services->log)
			services->log(services->ctx, LOG_MAIN, str_printf(x->arena, "%s acl condition: %s", x->ask->spam ? "spam" : "malware", err->text));
	}
	return st;
}

static enum status scan_run(struct scan *x, struct lang_scan_answer *out, struct err *err)
{
	struct scan_talk talk = { .arena = x->arena, .ask = x->ask };
	const struct scan_server *server = NULL;
	scan_protocol_fn *protocol;
	uint64_t until;
	enum status st = content_make(x->policyd, x->ask->ev, &talk.content, err);

	if (!st)
		st = connect_any(x, &server, &talk.fd, &out->address, err);
	if (st)
		return st;
	until = clock_ms() + (x->ask->timeout_ms ? x->ask->timeout_ms : server->timeout_ms);
	talk.until_ms = until < x->until_ms ? until : x->until_ms;
	protocol = !x->ask->spam ? scan_clamd : server->rspamd ? scan_rspamd : scan_spamd;
	st = protocol(&talk, out, err);
	close(talk.fd);
	return st ? err_set(err, ST_DEFER, "%.*s: %s", STR_FMT(out->address), arena_strdup(x->arena, err->text)) : ST_OK;
}

/* So many workers may wait for scanners at a time; the others are for all else that is asked. */
static unsigned scans_most(const struct conf *conf)
{
	unsigned workers = (unsigned)conf->main.policyd_workers_max;

	return workers < 4 ? workers : workers - workers / 4;
}

enum status policyd_scan(void *ctx, struct arena *a, const struct lang_scan *ask, struct lang_scan_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	struct scan *x = arena_alloc(a, sizeof *x);
	uint64_t now = clock_ms(), longest = ask->timeout_ms;
	enum status st;

	*x = (struct scan){ .policyd = p, .arena = a, .ask = ask };
	if (!scan_wanted(p->conf, ask->spam)) /* the filter of system calls would end us */
		return err_set(err, ST_ERROR, "an ACL that is not in the configuration file needs %s to be set", ask->spam ? "spamd_address" : "av_scanner");
	st = scan_servers_parse(a, ask->servers, ask->spam, &x->servers, err);
	if (st)
		return err_prefix(err, "%s", ask->spam ? "spamd_address" : "av_scanner");
	for (unsigned i = 0; !ask->timeout_ms && i < x->servers.n; i++)
		if (x->servers.v[i].timeout_ms > longest)
			longest = x->servers.v[i].timeout_ms;
	x->until_ms = now + longest < p->scans_until_ms ? now + longest : p->scans_until_ms;
	if (now >= x->until_ms)
		return err_set(err, ST_DEFER, "earlier scans have taken all the time that there is");
	if (p->worker) {
		if (!worker_slow_begin(p->worker, scans_most(p->conf)))
			return err_set(err, ST_DEFER, "too many scans at once");
		worker_allow(p->worker, x->until_ms - now + POLICYD_ASK_MS);
	}
	st = scan_run(x, out, err);
	if (p->worker)
		worker_slow_end(p->worker);
	return st;
}
