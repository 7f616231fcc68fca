/* SPDX-License-Identifier: ISC */
/* The client against servers whose every answer is drawn by lot, but given in order: nobody's message is lost, nobody's comes twice, and nothing
 * of it is said where TLS must be, or REQUIRETLS. A number says which server failed; it is the same one again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp-out/smtp_early.h"
#include "smtp-out/smtp_result.h"

enum { ROUNDS = 60000, RCPTS = 4, STEPS = 4000, CONNECTIONS = 8 };

static const char content[] = "Subject: x\r\n\r\nMAIL FROM:<smuggled@x>\r\nRCPT TO:<r0@a.example>\r\n";

static uint64_t chance;

static uint64_t draw(uint64_t n)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (chance >> 11) % n;
}

static bool lot(unsigned percent)
{
	return draw(100) < percent;
}

/* ---- the server ---- */

enum { READ_COMMAND, READ_DATA, READ_CHUNK };

struct server {
	struct buf in, out;
	bool tls, shaking, greeted, mail, lmtp, mail_requiretls, prdr, closed, last, chunk_bad;
	uint32_t offers;
	unsigned reading, n_to, rcptmax;
	size_t left, wanted;
	unsigned to[64];
	struct buf body;
	/* over all connections */
	unsigned got[RCPTS];         /* so many times it has the message for them */
	bool said[RCPTS];            /* the reply that says so has not arrived yet */
	bool unsure[RCPTS];          /* it never will: the connection is lost */
	const char *wrong;
	bool must_tls, must_requiretls;
	unsigned nasty;              /* percent of answers that are no good */
};

static void say(struct server *s, const char *text)
{
	buf_adds(&s->out, text);
	buf_adds(&s->out, "\r\n");
}

/* Good, or one of those that are not. */
static bool answer(struct server *s, const char *good)
{
	static const char *const bad[] = { "450 later", "550-never\r\n550 ever", "421 going", "500 what" };
	unsigned which = (unsigned)draw(4);

	if (s->closed)
		return false;
	if (!lot(s->nasty)) {
		say(s, good);
		return true;
	}
	say(s, bad[which]);
	s->closed |= which == 2;
	return false;
}

static void has_it(struct server *s, unsigned i)
{
	if (!str_is(buf_str(&s->body), content))
		s->wrong = "other content";
	s->got[s->to[i]]++;
	s->said[s->to[i]] = true;
}

static void txn_clear(struct server *s)
{
	s->mail = s->mail_requiretls = s->prdr = false;
	s->n_to = 0;
	buf_reset(&s->body);
}

static void content_end(struct server *s)
{
	bool good[64], all;

	s->reading = READ_COMMAND;
	if (s->lmtp) {
		for (unsigned i = 0; i < s->n_to; i++)
			if (answer(s, "250 taken"))
				has_it(s, i);
	} else if (s->prdr && lot(80)) {
		say(s, "353 each");
		for (unsigned i = 0; i < s->n_to && !s->closed; i++)
			good[i] = answer(s, "250 this one");
		all = answer(s, "250 all");
		for (unsigned i = 0; i < s->n_to && all; i++)
			if (good[i])
				has_it(s, i);
	} else if (answer(s, "250 taken")) {
		for (unsigned i = 0; i < s->n_to; i++)
			has_it(s, i);
	}
	txn_clear(s);
}

static const struct { uint32_t bit; const char *line; } lines[] = {
	{ SMTP_O_PIPELINING, "PIPELINING" }, { SMTP_O_PIPECONNECT, "PIPECONNECT" }, { SMTP_O_SIZE, "SIZE" }, { SMTP_O_CHUNKING, "CHUNKING" }, { SMTP_O_PRDR, "PRDR" },
	{ SMTP_O_STARTTLS, "STARTTLS" }, { SMTP_O_REQUIRETLS, "REQUIRETLS" }, { SMTP_O_8BITMIME, "8BITMIME" },
};

static uint32_t offers_draw(bool tls)
{
	uint32_t offers = 0;

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		offers |= lot(75) ? lines[i].bit : 0;
	return tls ? offers & ~(uint32_t)SMTP_O_STARTTLS : offers & ~(uint32_t)SMTP_O_REQUIRETLS;
}

static void hello(struct server *s, bool esmtp)
{
	struct buf b = BUF_INIT;

	txn_clear(s);
	s->offers = esmtp ? s->offers : 0;
	buf_adds(&b, s->offers || s->rcptmax ? "250-me" : "250 me");
	for (size_t i = 0; esmtp && i < sizeof lines / sizeof *lines; i++)
		if (s->offers & lines[i].bit)
			buf_printf(&b, "\r\n250-%s", lines[i].line);
	if (s->rcptmax)
		buf_printf(&b, "\r\n250-LIMITS RCPTMAX=%u", s->rcptmax);
	if (s->offers || s->rcptmax)
		buf_adds(&b, "\r\n250 HELP");
	s->greeted = answer(s, buf_cstr(&b));
	if (!s->greeted)
		s->offers = 0;
	buf_clear(&b);
}

static void mail(struct server *s, struct str line)
{
	if (s->must_tls && !s->tls)
		s->wrong = "MAIL in clear";
	if (s->must_requiretls && (!(s->offers & SMTP_O_REQUIRETLS) || str_find_str(line, STR_LIT(" REQUIRETLS")) < 0))
		s->wrong = "MAIL without REQUIRETLS";
	if (s->mail) {
		say(s, "503 again");
		return;
	}
	s->mail = answer(s, "250 sender");
	s->prdr = s->offers & SMTP_O_PRDR && str_find_str(line, STR_LIT(" PRDR")) >= 0;
}

static void rcpt(struct server *s, struct str line)
{
	ptrdiff_t at = str_find_str(line, STR_LIT("<r"));

	if (!s->mail) {
		say(s, "503 no sender");
		return;
	}
	if (s->rcptmax && s->n_to >= s->rcptmax) /* the memory did not know */
		say(s, "452 too many");
	else if (answer(s, "250 recipient") && at >= 0 && s->n_to < 64)
		s->to[s->n_to++] = (unsigned)(line.p[at + 2] - '0');
}

static void bdat(struct server *s, struct str line)
{
	s->left = s->wanted = strtoul(line.p + 5, NULL, 10);
	s->last = str_endsi(line, "LAST");
	s->chunk_bad = !s->n_to || !(s->offers & SMTP_O_CHUNKING);
	s->reading = READ_CHUNK;
}

static void command(struct server *s, struct str line)
{
	if (str_begins(line, "EHLO") || str_begins(line, "LHLO") || str_begins(line, "HELO")) {
		hello(s, line.p[0] != 'H');
	} else if (str_begins(line, "MAIL")) {
		mail(s, line);
	} else if (str_begins(line, "RCPT")) {
		rcpt(s, line);
	} else if (str_begins(line, "BDAT")) {
		bdat(s, line);
	} else if (str_begins(line, "DATA")) {
		if (!s->n_to && lot(70))
			say(s, "554 nobody");
		else if (answer(s, "354 go"))
			s->reading = READ_DATA;
	} else if (str_begins(line, "STARTTLS")) {
		if (!(s->offers & SMTP_O_STARTTLS))
			say(s, "503 no");
		else
			s->shaking = answer(s, "220 go");
	} else if (str_begins(line, "RSET")) {
		txn_clear(s);
		say(s, "250 forgotten");
	} else if (str_begins(line, "QUIT")) {
		say(s, "221 bye");
		s->closed = true;
	} else {
		s->wrong = "no command of ours";
	}
}

static void chunk_end(struct server *s)
{
	s->reading = READ_COMMAND;
	if (s->chunk_bad) {
		say(s, s->n_to ? "503 not offered" : "554 nobody");
	} else if (s->last) {
		content_end(s);
	} else if (!answer(s, "250 more")) {
		txn_clear(s);
	}
}

/* Takes one piece; false: there is none. */
static bool server_read(struct server *s)
{
	struct str in = buf_str(&s->in);
	ptrdiff_t end = str_find_str(in, STR_LIT("\r\n"));
	struct str line;

	if (s->reading == READ_CHUNK) {
		size_t n = s->left < in.len ? s->left : in.len;

		if (!s->chunk_bad)
			buf_add(&s->body, in.p, n);
		buf_drop(&s->in, n);
		s->left -= n;
		if (s->left)
			return n > 0;
		chunk_end(s);
		return true;
	}
	if (end < 0 || s->closed || s->shaking)
		return false;
	line = str_sub(in, 0, (size_t)end);
	if (s->reading == READ_COMMAND) {
		command(s, line);
	} else if (str_is(line, ".")) {
		content_end(s);
	} else {
		buf_add(&s->body, in.p, (size_t)end + 2);
	}
	buf_drop(&s->in, (size_t)end + 2);
	return true;
}

static void server_begin(struct server *s)
{
	buf_reset(&s->in);
	buf_reset(&s->out);
	txn_clear(s);
	s->tls = s->shaking = s->greeted = s->closed = false;
	s->reading = READ_COMMAND;
	s->offers = offers_draw(false);
	answer(s, "220 hello");
}

/* ---- between the two ---- */

struct world {
	struct server server;
	struct smtp_client c;
	struct smtp_memory memory;
	bool remembers, abrupt;
};

static void content_send(struct world *w)
{
	size_t n = sizeof content - 1, first = draw(n);

	if (!w->c.txn->chunked) {
		buf_add(&w->c.out, content, n);
		buf_adds(&w->c.out, ".\r\n");
	} else {
		if (first) {
			smtp_client_chunk(&w->c, first, false);
			buf_add(&w->c.out, content, first);
		}
		smtp_client_chunk(&w->c, n - first, true);
		buf_add(&w->c.out, content + first, n - first);
	}
	smtp_client_body_sent(&w->c);
}

static void shake(struct world *w)
{
	struct server *s = &w->server;

	if (!s->shaking)
		s->wrong = "a handshake that nobody asked for";
	s->shaking = false;
	if (lot(s->nasty)) {
		smtp_client_tls_failed(&w->c, "no", lot(30));
		return;
	}
	s->tls = true;
	txn_clear(s);
	s->offers = offers_draw(true);
	smtp_client_tls_done(&w->c);
}

static void client_reads(struct world *w)
{
	struct server *s = &w->server;
	size_t n = 1 + draw(s->out.len);
	char piece[4096];

	n = n < sizeof piece ? n : sizeof piece;
	memcpy(piece, s->out.p, n);
	buf_drop(&s->out, n);
	smtp_client_input(&w->c, piece, n);
	if (!s->out.len)
		memset(s->said, 0, sizeof s->said);
}

static void chunk_early(struct world *w)
{
	if (!w->c.chunk_wanted)
		return;
	smtp_client_chunk_early(&w->c, sizeof content - 1);
	buf_add(&w->c.out, content, sizeof content - 1);
}

/* One turn of the loop; false: nothing happens any more. */
static bool turn(struct world *w)
{
	struct server *s = &w->server;
	struct smtp_client *c = &w->c;

	if (c->phase == SMTP_SHAKE && !c->out.len && !s->out.len) {
		if (!server_read(s))
			shake(w);
		return true;
	}
	chunk_early(w);
	if (c->phase == SMTP_BODY && lot(50)) {
		content_send(w);
		return true;
	}
	if (c->out.len && lot(50)) {
		size_t n = 1 + draw(c->out.len);

		buf_add(&s->in, c->out.p, n);
		smtp_client_sent(c, n);
		return true;
	}
	if (s->out.len && lot(50)) {
		client_reads(w);
		return true;
	}
	if (w->abrupt && lot(1)) {
		buf_reset(&s->out);
		for (unsigned i = 0; i < RCPTS; i++)
			s->unsure[i] |= s->said[i];
		s->closed = true;
		smtp_client_lost(c, SMTP_LOST_ERROR, "reset");
		return true;
	}
	if (server_read(s) || c->out.len || s->out.len || c->phase == SMTP_BODY)
		return true;
	if (!s->closed)
		return false;
	smtp_client_lost(c, SMTP_LOST_CLOSED, NULL);
	return true;
}

/* Until the transaction is through, or the connection. */
static void talk(struct world *w)
{
	for (unsigned i = 0; i < STEPS && w->c.txn && w->c.phase != SMTP_OVER && w->c.phase != SMTP_READY && !w->server.wrong; i++)
		if (!turn(w)) {
			w->server.wrong = "both wait";
			return;
		}
	if (w->c.txn && w->c.phase != SMTP_OVER && w->c.phase != SMTP_READY)
		w->server.wrong = w->server.wrong ? w->server.wrong : "it does not end";
}

static void memory_draw(struct smtp_memory *m)
{
	memset(m, 0, sizeof *m);
	for (int i = 0; i < 2; i++)
		if (lot(80)) {
			m->part[i].known = true;
			m->part[i].offers = SMTP_O_ESMTP | offers_draw(i) | SMTP_O_PIPELINING | SMTP_O_PIPECONNECT;
		}
}

/* What out_conn.c does with connections: another one after a group in vain, or in clear; further transactions on the same one. */
static void deliver(struct world *w, const struct smtp_profile *profile, struct smtp_txn *t, enum smtp_tls want)
{
	struct smtp_client *c = &w->c;
	bool early = true;

	for (unsigned i = 0; i < CONNECTIONS; i++) {
		bool again;

		smtp_client_init(c, profile, t);
		c->tls_want = (uint8_t)want;
		c->clear_if_refused = c->clear_if_failed = want == SMTP_TLS_TRY && lot(50);
		c->memory = w->remembers ? &w->memory : NULL;
		server_begin(&w->server);
		if (!early)
			memset(&w->memory, 0, sizeof w->memory);
		if (w->remembers)
			smtp_client_early(c);
		talk(w);
		while (!w->server.wrong && c->phase == SMTP_READY && t->n_later) {
			smtp_txn_rest(t);
			smtp_client_begin(c, t);
			talk(w);
		}
		again = (c->early_failed || c->again_clear) && !w->server.wrong;
		early = !c->early_failed;
		if (c->again_clear)
			want = SMTP_TLS_NO;
		smtp_client_clear(c);
		if (!again || !smtp_txn_again(t))
			return;
	}
	w->server.wrong = "connections without end";
}

static const char *judge(const struct server *s, const struct smtp_rcpt *r)
{
	if (s->wrong)
		return s->wrong;
	for (unsigned i = 0; i < RCPTS; i++) {
		if (!r[i].result)
			return "no result";
		if (r[i].result == DELIVERY_OK && !s->got[i])
			return "lost";
		if (s->got[i] > 1 && !s->unsure[i])
			return "twice";
		if (s->got[i] && r[i].result != DELIVERY_OK && !s->unsure[i])
			return "taken, and to be sent again";
	}
	return NULL;
}

static const char *one(uint64_t number)
{
	static const char *const names[RCPTS] = { "r0@a.example", "r1@a.example", "r2@b.example", "r3@c.example" };
	struct arena a = ARENA_INIT;
	struct smtp_rcpt rcpts[RCPTS] = { { .skip = false } };
	struct smtp_txn t = { .arena = &a, .sender = STR_LIT("a@b.example"), .size = sizeof content - 1, .rcpts = rcpts, .n_rcpts = RCPTS };
	struct world w = { .abrupt = false };
	struct smtp_profile profile = { .helo = STR_LIT("me"), .is_host = true, .size_addition = 10 };
	enum smtp_tls want;
	const char *wrong;

	chance = (number + 1) * 0x9e3779b97f4a7c15u;
	for (int i = 0; i < 10; i++)
		draw(2);
	for (unsigned i = 0; i < RCPTS; i++)
		rcpts[i].addr = str_of(names[i]);
	profile.lmtp = w.server.lmtp = lot(10);
	profile.try_chunking = lot(80);
	profile.try_prdr = lot(80);
	profile.avoid_pipelining = lot(10);
	t.requiretls = t.requiretls_must = !profile.lmtp && lot(15);
	t.eightbit = lot(50);
	want = profile.lmtp ? SMTP_TLS_NO : t.requiretls ? SMTP_TLS_MUST : (enum smtp_tls)draw(3);
	w.server.must_tls = want == SMTP_TLS_MUST;
	w.server.must_requiretls = t.requiretls_must;
	w.server.nasty = (unsigned)draw(4) * 5;
	w.server.rcptmax = lot(30) ? 1 + (unsigned)draw(3) : 0;
	w.remembers = lot(70);
	w.abrupt = lot(20);
	memory_draw(&w.memory);
	deliver(&w, &profile, &t, want);
	wrong = judge(&w.server, rcpts);
	buf_clear(&w.server.in);
	buf_clear(&w.server.out);
	buf_clear(&w.server.body);
	arena_clear(&a);
	return wrong;
}

static void test_servers(void **state)
{
	const char *only = getenv("BULKHEAD_ROUND");
	uint64_t first = only ? strtoull(only, NULL, 10) : 0, rounds = only ? 1 : ROUNDS;
	unsigned wrong = 0;

	(void)state;
	for (uint64_t i = 0; i < rounds && wrong < 20; i++) {
		const char *text = one(first + i);

		if (text) {
			print_error("BULKHEAD_ROUND=%llu: %s\n", (unsigned long long)(first + i), text);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_servers) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
