/* SPDX-License-Identifier: ISC */
#include "smtp-out/socks5.h"

#include <errno.h>
#include <string.h>

enum { VERSION = 5, METHOD_NONE = 0, METHOD_LOGIN = 2, METHOD_REFUSED = 0xff, LOGIN_VERSION = 1, CONNECT = 1 };
enum { ADDRESS_4 = 1, ADDRESS_NAME = 3, ADDRESS_6 = 4 };
enum { PORT_LEN = 2, HEAD_LEN = 4 };

/* Replies of RFC 1928, section 6. */
static const struct {
	uint8_t code;
	bool target;
	int error_no;
	const char *text;
} replies[] = {
	{ 1, false, 0, "general failure" },
	{ 2, false, 0, "connection not allowed by its rules" },
	{ 3, true, ENETUNREACH, "network unreachable" },
	{ 4, true, EHOSTUNREACH, "host unreachable" },
	{ 5, true, ECONNREFUSED, "connection refused" },
	{ 6, true, 0, "TTL expired" },
	{ 7, false, 0, "command not supported" },
	{ 8, false, 0, "address type not supported" },
};

/* ---- out ---- */

static void out_octet(struct socks5 *s, unsigned octet)
{
	s->out[s->out_len++] = (uint8_t)octet;
}

static void out_octets(struct socks5 *s, const void *p, size_t n)
{
	memcpy(s->out + s->out_len, p, n);
	s->out_len = (uint16_t)(s->out_len + n);
}

static void out_text(struct socks5 *s, struct str t)
{
	out_octet(s, t.len);
	out_octets(s, t.p, t.len);
}

static void out_begin(struct socks5 *s)
{
	explicit_bzero(s->out, s->out_len);
	s->out_len = s->out_at = 0;
}

static void part_await(struct socks5 *s, enum socks5_state state, unsigned octets)
{
	s->state = (uint8_t)state;
	s->need = (uint16_t)octets;
	s->got = 0;
}

static void request_say(struct socks5 *s)
{
	out_begin(s);
	out_octet(s, VERSION);
	out_octet(s, CONNECT);
	out_octet(s, 0);
	out_octet(s, s->target.v6 ? ADDRESS_6 : ADDRESS_4);
	out_octets(s, s->target.address, s->target.v6 ? 16 : 4);
	out_octet(s, s->target.port >> 8);
	out_octet(s, s->target.port & 0xff);
	part_await(s, SOCKS5_HEAD, HEAD_LEN);
}

static void login_say(struct socks5 *s)
{
	out_begin(s);
	out_octet(s, LOGIN_VERSION);
	out_text(s, s->user);
	out_text(s, s->pass);
	part_await(s, SOCKS5_LOGIN, 2);
}

void socks5_begin(struct socks5 *s, const struct socks5_target *target, struct str user, struct str pass)
{
	memset(s, 0, sizeof *s);
	s->target = *target;
	s->user = user;
	s->pass = pass;
	out_octet(s, VERSION);
	out_octet(s, 1);
	out_octet(s, user.len ? METHOD_LOGIN : METHOD_NONE);
	part_await(s, SOCKS5_METHOD, 2);
}

void socks5_sent(struct socks5 *s, size_t n)
{
	s->out_at = (uint16_t)(s->out_at + n);
}

/* ---- in ---- */

static void end(struct socks5 *s, enum socks5_result result, const char *why)
{
	s->result = (uint8_t)result;
	s->why = why;
	s->state = SOCKS5_END;
	s->need = s->got = 0;
}

static void method_take(struct socks5 *s)
{
	unsigned wanted = s->user.len ? METHOD_LOGIN : METHOD_NONE;

	if (s->in[0] != VERSION)
		end(s, SOCKS5_PROXY_FAILED, "it does not speak SOCKS5");
	else if (s->in[1] == METHOD_REFUSED)
		end(s, SOCKS5_PROXY_FAILED, s->user.len ? "it takes no user name and password" : "it wants authentication");
	else if (s->in[1] != wanted)
		end(s, SOCKS5_PROXY_FAILED, "it chose a method that was not offered");
	else if (wanted == METHOD_LOGIN)
		login_say(s);
	else
		request_say(s);
}

static void login_take(struct socks5 *s)
{
	if (s->in[0] != LOGIN_VERSION)
		end(s, SOCKS5_PROXY_FAILED, "its answer to the login is none");
	else if (s->in[1])
		end(s, SOCKS5_PROXY_FAILED, "it refused user name or password");
	else
		request_say(s);
}

static void refusal_take(struct socks5 *s)
{
	for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
		if (replies[i].code == s->in[1]) {
			s->error_no = replies[i].error_no;
			end(s, replies[i].target ? SOCKS5_TARGET_FAILED : SOCKS5_PROXY_FAILED, replies[i].text);
			return;
		}
	end(s, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5");
}

static void head_take(struct socks5 *s)
{
	if (s->in[0] != VERSION)
		end(s, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5");
	else if (s->in[1])
		refusal_take(s);
	else if (s->in[3] == ADDRESS_4)
		part_await(s, SOCKS5_BOUND, 4 + PORT_LEN);
	else if (s->in[3] == ADDRESS_6)
		part_await(s, SOCKS5_BOUND, 16 + PORT_LEN);
	else if (s->in[3] == ADDRESS_NAME)
		part_await(s, SOCKS5_NAME, 1);
	else
		end(s, SOCKS5_PROXY_FAILED, "its reply is none of SOCKS5");
}

static void name_take(struct socks5 *s)
{
	part_await(s, SOCKS5_BOUND, s->in[0] + PORT_LEN);
}

/* Where the proxy connects from is of no use to us. */
static void bound_take(struct socks5 *s)
{
	end(s, SOCKS5_THROUGH, NULL);
}

static const struct {
	void (*take)(struct socks5 *s);
	const char *doing;
} states[] = {
	[SOCKS5_METHOD] = { method_take, "the choice of a method" },
	[SOCKS5_LOGIN] = { login_take, "the login" },
	[SOCKS5_HEAD] = { head_take, "the reply to CONNECT" },
	[SOCKS5_NAME] = { name_take, "the reply to CONNECT" },
	[SOCKS5_BOUND] = { bound_take, "the reply to CONNECT" },
	[SOCKS5_END] = { NULL, "the end" },
};

size_t socks5_wants(const struct socks5 *s)
{
	return (size_t)(s->need - s->got);
}

enum socks5_result socks5_input(struct socks5 *s, const uint8_t *p, size_t n)
{
	bug_on(n > socks5_wants(s));
	memcpy(s->in + s->got, p, n);
	s->got = (uint16_t)(s->got + n);
	if (n && s->got == s->need)
		states[s->state].take(s);
	return (enum socks5_result)s->result;
}

enum socks5_result socks5_closed(struct socks5 *s)
{
	if (s->result != SOCKS5_BUSY)
		return (enum socks5_result)s->result;
	/* Some say only why, and close. */
	if (s->state == SOCKS5_HEAD && s->got >= 2 && s->in[0] == VERSION && s->in[1])
		refusal_take(s);
	else
		end(s, SOCKS5_PROXY_FAILED, "it closed the connection");
	return (enum socks5_result)s->result;
}

const char *socks5_doing(const struct socks5 *s)
{
	return states[s->state].doing;
}

bool socks5_asked(const struct socks5 *s)
{
	return s->state >= SOCKS5_HEAD && s->state < SOCKS5_END;
}

void socks5_clear(struct socks5 *s)
{
	explicit_bzero(s, sizeof *s);
}
