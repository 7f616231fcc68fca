/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_socks.h"

#include <arpa/inet.h>
#include <bsd/stdlib.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "smtp-out/socks5.h"

enum { WHY_MAX = 1500 };

struct out_socks {
	struct loop *loop;
	const struct out_options *o;
	struct socks5_target target;
	struct socks5 core;
	uint8_t order[CONF_PROXIES_MAX];
	uint32_t tried;               /* the present one is order[tried - 1] */
	int fd;
	uint32_t failures;
	bool connected;
	bool by_target;               /* the verdict is about the target: that proxies failed before is of no matter */
	struct loop_fd watch;
	struct loop_timer timer;
	struct smtp_verdict verdict;  /* of the last one that failed */
	struct buf why;               /* of all of them */
	out_socks_done *done;
	void *arg;
	struct arena arena;
};

static void attempt_next(struct out_socks *s);

/* ---- order ---- */

static uint32_t random_draw(void *arg, uint32_t n)
{
	(void)arg;
	return arc4random_uniform(n);
}

/* Which of left[0..n) comes next: of the highest priority, by weight; all of weight 0: the first. */
static uint32_t draw(const struct conf_proxies *proxies, const uint8_t *left, uint32_t n, uint32_t (*random)(void *arg, uint32_t n), void *arg)
{
	uint32_t top = 0, sum = 0, at, first = n;

	for (uint32_t i = 0; i < n; i++)
		if (proxies->v[left[i]].priority > top)
			top = proxies->v[left[i]].priority;
	for (uint32_t i = 0; i < n; i++)
		if (proxies->v[left[i]].priority == top) {
			sum += proxies->v[left[i]].weight;
			first = first == n ? i : first;
		}
	if (!sum)
		return first;
	at = random(arg, sum);
	for (uint32_t i = 0; i < n; i++) {
		const struct conf_proxy *p = &proxies->v[left[i]];

		if (p->priority != top)
			continue;
		if (at < p->weight)
			return i;
		at -= p->weight;
	}
	return first;
}

void out_socks_order(const struct conf_proxies *proxies, uint32_t (*random)(void *arg, uint32_t n), void *arg, uint8_t order[CONF_PROXIES_MAX])
{
	uint8_t left[CONF_PROXIES_MAX];
	uint32_t n = proxies->n;

	for (uint32_t i = 0; i < n; i++)
		order[i] = left[i] = (uint8_t)i;
	for (uint32_t i = 0; proxies->ranked && n; i++) {
		uint32_t k = draw(proxies, left, n, random, arg);

		order[i] = left[k];
		memmove(left + k, left + k + 1, n - k - 1);
		n--;
	}
}

/* ---- one proxy ---- */

const struct conf_proxy *out_socks_proxy(const struct out_socks *s)
{
	return &s->o->proxies.v[s->order[s->tried ? s->tried - 1 : 0]];
}

static struct str proxy_text(const struct out_socks *s, struct arena *a)
{
	const struct conf_proxy *p = out_socks_proxy(s);

	return str_printf(a, "proxy [%.*s]:%u", STR_FMT(p->host), p->port);
}

static void attempt_close(struct out_socks *s)
{
	loop_timer_stop(&s->timer);
	if (s->fd < 0)
		return;
	loop_fd_clear(&s->watch);
	close(s->fd);
	s->fd = -1;
	socks5_clear(&s->core);
}

static void over(struct out_socks *s, int fd)
{
	s->done(s->arg, fd);
}

/* This one is of no use. */
static void attempt_failed(struct out_socks *s, const struct smtp_verdict *v)
{
	struct str proxy = proxy_text(s, &s->arena);

	attempt_close(s);
	s->verdict = *v;
	s->failures++;
	if (s->why.len < WHY_MAX)
		buf_printf(&s->why, "%s%.*s: %.*s", s->why.len ? "; " : "", STR_FMT(proxy), STR_FMT(v->text));
	attempt_next(s);
}

static void attempt_failed_by(struct out_socks *s, int error, struct str text)
{
	struct smtp_verdict v = out_connect_verdict(&s->arena, error);

	if (text.len)
		v.text = text;
	attempt_failed(s, &v);
}

static void target_failed(struct out_socks *s, int error, const char *why)
{
	struct str proxy = proxy_text(s, &s->arena);

	attempt_close(s);
	s->by_target = true;
	s->verdict = out_connect_verdict(&s->arena, error);
	s->verdict.text = str_printf(&s->arena, "%s, says the %.*s", why, STR_FMT(proxy));
	over(s, -1);
}

static void attempt_late(void *arg)
{
	struct out_socks *s = arg;
	const struct conf_proxy *p = out_socks_proxy(s);

	if (socks5_asked(&s->core))
		target_failed(s, ETIMEDOUT, "no connection in time");
	else if (s->connected)
		attempt_failed_by(s, ETIMEDOUT, str_printf(&s->arena, "no answer within %u seconds (%s)", p->tmo_ms / 1000, socks5_doing(&s->core)));
	else
		attempt_failed_by(s, ETIMEDOUT, STR_NULL);
}

/* False: it has failed. */
static bool attempt_flush(struct out_socks *s)
{
	struct socks5 *core = &s->core;

	while (core->out_at < core->out_len) {
		ssize_t n = send(s->fd, core->out + core->out_at, (size_t)(core->out_len - core->out_at), MSG_NOSIGNAL);

		if (n > 0)
			socks5_sent(core, (size_t)n);
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR) {
			attempt_failed_by(s, errno, STR_NULL);
			return false;
		}
	}
	loop_fd_set(&s->watch, LOOP_READ | (core->out_at < core->out_len ? LOOP_WRITE : 0));
	return true;
}

/* The proxy is at work for the target: its own time is over. */
static void attempt_asked(struct out_socks *s)
{
	if (s->o->connect_ms)
		loop_timer_stop(&s->timer);
	else
		loop_timer_start(&s->timer, s->loop, SOCKS_ASKED_MS, attempt_late, s);
}

static void attempt_through(struct out_socks *s)
{
	int fd = s->fd;

	loop_fd_clear(&s->watch);
	s->fd = -1;
	attempt_close(s);
	socks5_clear(&s->core);
	over(s, fd);
}

/* As much as is there, part by part. */
static void attempt_read(struct out_socks *s)
{
	bool asked = socks5_asked(&s->core);

	for (;;) {
		uint8_t octets[SOCKS5_IN_MAX];
		ssize_t n = recv(s->fd, octets, socks5_wants(&s->core), 0);
		enum socks5_result result = SOCKS5_BUSY;

		if (n > 0)
			result = socks5_input(&s->core, octets, (size_t)n);
		else if (n == 0)
			result = socks5_closed(&s->core);
		else if (errno == EAGAIN || errno == EINTR)
			break;
		else {
			attempt_failed_by(s, errno, STR_NULL);
			return;
		}
		switch (result) {
		case SOCKS5_BUSY:
			break;
		case SOCKS5_THROUGH:
			attempt_through(s);
			return;
		case SOCKS5_PROXY_FAILED:
			attempt_failed_by(s, ECONNREFUSED, str_of(s->core.why));
			return;
		case SOCKS5_TARGET_FAILED:
			target_failed(s, s->core.error_no, s->core.why);
			return;
		}
	}
	if (!asked && socks5_asked(&s->core))
		attempt_asked(s);
	attempt_flush(s);
}

static void attempt_event(void *arg, unsigned ready)
{
	struct out_socks *s = arg;
	struct smtp_verdict v;

	if (!s->connected) {
		if (!out_connect_end(s->fd, &s->arena, &v)) {
			attempt_failed(s, &v);
			return;
		}
		s->connected = true;
		attempt_flush(s);
	} else if (ready & LOOP_READ) {
		attempt_read(s);
	} else {
		attempt_flush(s);
	}
}

/* ---- all of them ---- */

static void none_left(void *arg)
{
	over(arg, -1);
}

static void attempt_next(struct out_socks *s)
{
	while (s->tried < s->o->proxies.n) {
		const struct conf_proxy *p;
		struct smtp_verdict v;

		s->tried++;
		p = out_socks_proxy(s);
		s->connected = false;
		s->fd = out_connect_to(s->o, p->host, p->port, NULL, &s->arena, &v);
		if (s->fd < 0) {
			attempt_failed(s, &v); /* which goes on with the next one */
			return;
		}
		socks5_begin(&s->core, &s->target, p->login ? p->user : STR_NULL, p->pass);
		loop_fd_init(&s->watch, s->loop, s->fd, attempt_event, s);
		loop_fd_set(&s->watch, LOOP_WRITE);
		loop_timer_start(&s->timer, s->loop, p->tmo_ms, attempt_late, s);
		return;
	}
	/* Not within out_socks_start(), whose caller does not know us yet. */
	loop_timer_start(&s->timer, s->loop, 0, none_left, s);
}

struct out_socks *out_socks_start(struct loop *loop, const struct out_options *o, struct str ip, uint16_t port, out_socks_done *done, void *arg)
{
	struct out_socks *s = mem_new(sizeof *s);
	char text[INET6_ADDRSTRLEN];

	s->loop = loop;
	s->o = o;
	s->done = done;
	s->arg = arg;
	s->fd = -1;
	s->target.port = port;
	out_socks_order(&o->proxies, random_draw, NULL, s->order);
	if (ip.len < sizeof text) {
		memcpy(text, ip.p, ip.len);
		text[ip.len] = '\0';
		s->target.v6 = inet_pton(AF_INET, text, s->target.address) != 1;
		if (!s->target.v6 || inet_pton(AF_INET6, text, s->target.address) == 1) {
			attempt_next(s);
			return s;
		}
	}
	s->by_target = true;
	s->verdict = out_connect_verdict(&s->arena, EADDRNOTAVAIL);
	s->verdict.text = STR_LIT("this is no address");
	loop_timer_start(&s->timer, s->loop, 0, none_left, s);
	return s;
}

void out_socks_free(struct out_socks *s)
{
	if (!s)
		return;
	attempt_close(s);
	buf_clear(&s->why);
	arena_clear(&s->arena);
	mem_free(s);
}

uint32_t out_socks_failures(const struct out_socks *s)
{
	return s->failures;
}

struct smtp_verdict out_socks_verdict(const struct out_socks *s, struct arena *a)
{
	struct smtp_verdict v = s->verdict;

	v.text = str_dup(a, s->by_target ? v.text : buf_str(&s->why));
	return v;
}

struct smtp_verdict out_socks_late(const struct out_socks *s, struct arena *a)
{
	struct smtp_verdict v = out_connect_verdict(a, ETIMEDOUT);
	struct str proxy = proxy_text(s, a);

	v.text = str_printf(a, "no connection within connect_timeout; the last was the %.*s", STR_FMT(proxy));
	return v;
}
