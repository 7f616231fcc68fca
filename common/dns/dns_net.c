/* SPDX-License-Identifier: ISC */
/* dns_net.c - a question goes out, an answer comes in: UDP from a port of its own, TCP after truncation, several servers. */
#include "common/dns/dns_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { SLOW_AGAIN_MS = 200 /* for each question of a piece of work that may not be slow */, PACKET_MAX = 65535, FOREIGN_MAX = 100 /* packets that are no answer to us before a socket is given up */ };

struct ask {
	struct str name;
	unsigned type, flags;
	struct arena *a;
	struct dns_answer *out;
	bool *open_out;
	bool edns;
	uint16_t id;
	uint8_t question[512];
	size_t len;
};

uint64_t dns_net_slow_at(const struct dns_net *net)
{
	bool place = !net->slow || net->slow(net->ctx, DNS_SLOW_PLACE);

	return clock_ms() + (place ? net->slow_ms : net->slow_ms / 6);
}

/* Until when to wait now; 0: no longer. */
static uint64_t patience(struct dns_net *net, uint64_t now, uint64_t until_ms)
{
	if (now >= until_ms || net->gave_up)
		return 0;
	if (!net->slow || net->is_slow || until_ms <= net->slow_at)
		return until_ms;
	if (now < net->slow_at)
		return net->slow_at;
	net->is_slow = net->slow(net->ctx, DNS_SLOW_BEGIN);
	net->gave_up = !net->is_slow;
	return net->is_slow ? until_ms : 0;
}

static enum dns_trouble wait_for(struct dns_net *net, int fd, short events, uint64_t until_ms)
{
	for (;;) {
		uint64_t now = clock_ms(), end = patience(net, now, until_ms);
		struct pollfd p = { .fd = fd, .events = events };
		int n;
		if (!end)
			return DNS_TIMEOUT;
		n = poll(&p, 1, (int)(end - now));
		if (n > 0)
			return DNS_NO_TROUBLE;
		if (n < 0 && errno != EINTR)
			return DNS_UNREACHABLE;
	}
}

static int server_socket(const struct dns_server *s, int kind)
{
	int fd = socket(s->addr.ss_family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&s->addr, s->len) && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

static enum dns_parse answer_take(struct ask *ask, const uint8_t *packet, size_t len)
{
	return dns_answer_parse(packet, len, ask->id, ask->name, ask->type, ask->flags, ask->a, ask->out, ask->open_out);
}

static bool question_make(struct ask *ask, bool edns, bool ad)
{
	ask->id = (uint16_t)arc4random();
	ask->edns = edns;
	ask->len = dns_question_build(ask->question, sizeof ask->question, ask->id, ask->name, ask->type, edns, ad);
	return ask->len > 0;
}

/* Sends and waits; packets that answer something else are passed over (the kernel has compared address and port). */
static enum dns_trouble udp_ask(struct dns_net *net, const struct dns_server *s, struct ask *ask, uint64_t until_ms, bool *truncated_out)
{
	int fd = server_socket(s, SOCK_DGRAM);
	enum dns_trouble t = DNS_UNREACHABLE;

	*truncated_out = false;
	if (fd < 0)
		return t;
	if (send(fd, ask->question, ask->len, MSG_NOSIGNAL) == (ssize_t)ask->len)
		for (int foreign = 0; foreign < FOREIGN_MAX; foreign++) {
			enum dns_parse parsed;
			ssize_t n;
			t = wait_for(net, fd, POLLIN, until_ms);
			if (t)
				break;
			n = recv(fd, net->packet, PACKET_MAX, 0);
			if (n < 0 && (errno == EAGAIN || errno == EINTR))
				continue;
			if (n < 0) {
				t = DNS_UNREACHABLE;
				break;
			}
			parsed = answer_take(ask, net->packet, (size_t)n);
			t = parsed == DNS_PARSE_MALFORMED ? DNS_MALFORMED : DNS_NO_TROUBLE;
			*truncated_out = parsed == DNS_PARSE_TRUNCATED;
			if (parsed != DNS_PARSE_FOREIGN)
				break;
			t = DNS_MALFORMED;
		}
	close(fd);
	return t;
}

static enum dns_trouble tcp_write(struct dns_net *net, int fd, const struct ask *ask, uint64_t until_ms)
{
	uint8_t head[2] = { (uint8_t)(ask->len >> 8), (uint8_t)ask->len };
	size_t done = 0, total = ask->len + 2;

	while (done < total) {
		struct iovec v[2] = { { head, 2 }, { (void *)(uintptr_t)ask->question, ask->len } };
		struct iovec *from = v;
		int count = 2;
		ssize_t n;
		enum dns_trouble t = wait_for(net, fd, POLLOUT, until_ms);
		if (t)
			return t;
		if (done >= 2) {
			from = v + 1;
			count = 1;
			v[1].iov_base = (uint8_t *)v[1].iov_base + (done - 2);
			v[1].iov_len -= done - 2;
		} else {
			v[0].iov_base = head + done;
			v[0].iov_len -= done;
		}
		n = writev(fd, from, count);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return DNS_UNREACHABLE;
		if (n > 0)
			done += (size_t)n;
	}
	return DNS_NO_TROUBLE;
}

static enum dns_trouble tcp_read(struct dns_net *net, int fd, uint8_t *out, size_t want, uint64_t until_ms)
{
	for (size_t done = 0; done < want;) {
		enum dns_trouble t = wait_for(net, fd, POLLIN, until_ms);
		ssize_t n;
		if (t)
			return t;
		n = read(fd, out + done, want - done);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return DNS_UNREACHABLE;
		if (n > 0)
			done += (size_t)n;
	}
	return DNS_NO_TROUBLE;
}

static enum dns_trouble tcp_ask(struct dns_net *net, const struct dns_server *s, struct ask *ask, uint64_t until_ms)
{
	uint8_t head[2];
	size_t len;
	int fd = server_socket(s, SOCK_STREAM);
	enum dns_trouble t;

	if (fd < 0)
		return DNS_UNREACHABLE;
	t = tcp_write(net, fd, ask, until_ms);
	if (!t)
		t = tcp_read(net, fd, head, 2, until_ms);
	if (!t) {
		len = (size_t)head[0] << 8 | head[1];
		t = tcp_read(net, fd, net->packet, len, until_ms);
		if (!t && answer_take(ask, net->packet, len) != DNS_PARSE_OK)
			t = DNS_MALFORMED;
	}
	close(fd);
	return t;
}

/* What the answer's code means for whoever asks: 0, or why another server should be asked. */
static enum dns_trouble rcode_trouble(const struct dns_answer *x)
{
	switch (x->rcode) {
	case 0:
	case 3: return x->trouble;
	case 2: return DNS_SERVFAIL;
	default: return DNS_REFUSED;
	}
}

static enum dns_trouble server_ask(struct dns_net *net, const struct dns_server *s, struct ask *ask, uint64_t until_ms)
{
	bool edns = net->edns;

	for (;;) {
		bool truncated;
		enum dns_trouble t;
		memset(ask->out, 0, sizeof *ask->out);
		if (!question_make(ask, edns, net->ad))
			return DNS_MALFORMED;
		t = udp_ask(net, s, ask, until_ms, &truncated);
		if (!t && truncated)
			t = tcp_ask(net, s, ask, until_ms);
		if (t)
			return t;
		/* an old server or a bad middle box does not know EDNS: once more without */
		if (edns && (ask->out->rcode == 1 || ask->out->rcode == 4)) {
			edns = false;
			continue;
		}
		if (!s->trusted)
			ask->out->secure = false;
		return rcode_trouble(ask->out);
	}
}

/* Servers that rest (they did not answer lately) come last. */
static void servers_order(const struct dns_net *net, unsigned order[DNS_SERVERS_MAX])
{
	uint64_t now = clock_ms();
	unsigned n = 0;

	for (unsigned i = 0; i < net->n; i++)
		if (net->rest_until[i] <= now)
			order[n++] = i;
	for (unsigned i = 0; i < net->n; i++)
		if (net->rest_until[i] > now)
			order[n++] = i;
}

static const char *trouble_text(enum dns_trouble t)
{
	switch (t) {
	case DNS_TIMEOUT: return "no answer from the name servers";
	case DNS_SERVFAIL: return "server failure (SERVFAIL)";
	case DNS_REFUSED: return "refused by the name servers";
	case DNS_MALFORMED: return "malformed answer";
	case DNS_CNAME_LOOP: return "too many CNAMEs";
	case DNS_UNREACHABLE: return "the name servers can't be reached";
	case DNS_NO_TROUBLE: break;
	}
	return "no trouble";
}

/* A refusal tells more than a silence. */
static int trouble_rank(enum dns_trouble t)
{
	static const enum dns_trouble order[] = { DNS_NO_TROUBLE, DNS_UNREACHABLE, DNS_TIMEOUT, DNS_MALFORMED, DNS_REFUSED, DNS_SERVFAIL };
	int rank = 0;

	for (int i = 0; i < (int)(sizeof order / sizeof *order); i++)
		if (order[i] == t)
			rank = i;
	return rank;
}

/* A question that is no part of a larger piece of work. */
static void slow_end(struct dns_net *net)
{
	if (net->is_slow && !net->deadline) {
		net->slow(net->ctx, DNS_SLOW_END);
		net->is_slow = false;
	}
}

enum status dns_net_ask(struct dns_net *net, struct str name, unsigned type, unsigned flags, struct arena *a, struct dns_answer *out,
	bool *open_out, struct err *err)
{
	struct ask ask = { .name = name, .type = type, .flags = flags, .a = a, .out = out, .open_out = open_out };
	uint64_t end = clock_ms() + net->timeout_ms;
	enum dns_trouble worst = DNS_UNREACHABLE;
	unsigned order[DNS_SERVERS_MAX], rcode = 0;
	bool silent = true; /* a server said nothing yet: another round may help */

	if (net->deadline && net->deadline < end)
		end = net->deadline;
	net->gave_up = false;
	if (!net->deadline)
		net->slow_at = dns_net_slow_at(net);
	else if (net->slow_at < clock_ms() + SLOW_AGAIN_MS)
		net->slow_at = clock_ms() + SLOW_AGAIN_MS;
	servers_order(net, order);
	for (unsigned round = 0; round < net->retry && silent && clock_ms() < end; round++) {
		silent = false;
		for (unsigned i = 0; i < net->n && !net->gave_up; i++) {
			uint64_t until = clock_ms() + ((uint64_t)net->retrans_ms << round);
			enum dns_trouble t = server_ask(net, &net->servers[order[i]], &ask, until < end ? until : end);
			if (!t) {
				slow_end(net);
				return ST_OK;
			}
			if (net->gave_up)
				break;
			if (t == DNS_TIMEOUT || t == DNS_UNREACHABLE) {
				silent |= t == DNS_TIMEOUT;
				net->rest_until[order[i]] = clock_ms() + DNS_SERVER_REST_MS;
			}
			if (trouble_rank(t) >= trouble_rank(worst)) {
				worst = t;
				rcode = out->rcode;
			}
		}
	}
	memset(out, 0, sizeof *out);
	out->name = name;
	out->trouble = worst;
	out->rcode = rcode;
	slow_end(net);
	return err_set(err, ST_DEFER, "%.*s: %s", STR_FMT(name), net->gave_up ? "too many questions to slow name servers at once" : trouble_text(worst));
}
