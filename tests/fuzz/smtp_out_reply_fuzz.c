/* SPDX-License-Identifier: ISC */
/* What a server says, in whatever pieces, against the client core. The first octet chooses the kind of client, the second how
 * the rest is cut up; 0xff octets stand for events: sent content, loss, quitting, another transaction. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/err.h"
#include "smtp-out/smtp_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RCPTS = 3 };

static void txn_set(struct smtp_txn *t, struct smtp_rcpt *r, struct arena *a, unsigned kind)
{
	memset(r, 0, RCPTS * sizeof *r);
	for (unsigned i = 0; i < RCPTS; i++)
		r[i].addr = STR_LIT("r@example.org");
	r[1].skip = kind & 16;
	r[1].result = kind & 16 ? DELIVERY_OK : 0;
	*t = (struct smtp_txn){ .arena = a, .sender = STR_LIT("s@example.org"), .size = 1000, .eightbit = true, .rcpts = r, .n_rcpts = RCPTS };
}

/* Nothing that goes out may hold a bare CR or LF, or NUL. */
static void out_check(struct smtp_client *c)
{
	for (size_t i = 0; i < c->out.len; i++) {
		bug_on(c->out.p[i] == '\n' && (!i || c->out.p[i - 1] != '\r'));
		bug_on(c->out.p[i] == '\r' && (i + 1 == c->out.len || c->out.p[i + 1] != '\n'));
		bug_on(!c->out.p[i]);
	}
	smtp_client_sent(c, c->out.len);
}

static void event(struct smtp_client *c, struct smtp_txn *t, struct smtp_rcpt *r, struct arena *a, unsigned what, unsigned kind)
{
	if (what == 0 && c->phase == SMTP_BODY) {
		if (t->chunked)
			smtp_client_chunk(c, 9, true);
		smtp_client_body_sent(c);
	} else if (what == 7 && c->phase == SMTP_BODY && t->chunked)
		smtp_client_chunk(c, 10, false);
	else if (what == 1 && c->phase == SMTP_READY)
		smtp_client_quit(c);
	else if (what == 2 && c->phase == SMTP_READY) {
		txn_set(t, r, a, kind);
		smtp_client_begin(c, t);
	} else if (what >= 3 && what <= 6)
		smtp_client_lost(c, (enum smtp_loss)(what - 3), "words");
	else if (what == 7 && c->phase == SMTP_READY)
		smtp_client_trim(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_profile profile = { .helo = STR_LIT("me.example.org"), .size_addition = 1024 };
	struct smtp_rcpt rcpts[RCPTS];
	struct smtp_client c;
	struct smtp_txn t;
	struct arena a = ARENA_INIT;
	unsigned kind, cut;

	if (size < 2)
		return 0;
	kind = data[0];
	cut = data[1] ? data[1] : 1;
	data += 2;
	size -= 2;
	profile.lmtp = kind & 1;
	profile.avoid_esmtp = kind & 2;
	profile.avoid_pipelining = kind & 4;
	profile.ignore_quota = kind & 8;
	txn_set(&t, rcpts, &a, kind);
	smtp_client_init(&c, &profile, &t);
	profile.try_chunking = kind & 32;
	profile.try_prdr = kind & 64;
	while (size && c.phase != SMTP_OVER && a.used < 1000000) {
		const uint8_t *mark = memchr(data, 0xff, size);
		size_t n = mark ? (size_t)(mark - data) : size;

		if (!n) {
			event(&c, &t, rcpts, &a, size > 1 ? data[1] % 8 : 0, kind);
			n = size > 1 ? 2 : 1;
		} else {
			n = n > cut ? cut : n;
			smtp_client_input(&c, (const char *)data, n);
		}
		data += n;
		size -= n;
		out_check(&c);
		bug_on((c.phase == SMTP_READY || c.phase == SMTP_OVER) && c.txn);
		bug_on((c.phase == SMTP_BODY) && (!c.txn || !t.n_accepted));
	}
	smtp_client_lost(&c, SMTP_LOST_CLOSED, NULL);
	for (unsigned i = 0; i < RCPTS; i++)
		bug_on(!rcpts[i].result || (!rcpts[i].skip && (!rcpts[i].stage || !rcpts[i].status.len)));
	smtp_client_clear(&c);
	arena_clear(&a);
	return 0;
}
