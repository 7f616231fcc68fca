/* SPDX-License-Identifier: ISC */
/* Parameters of MAIL and RCPT. The first octet chooses what is offered; then a line for MAIL, a line for RCPT. What was taken must be
 * what the standards allow: RFC 1870, 3461, 6531, whatever the client wrote. */
#include <stdint.h>
#include <stdio.h>

#include "common/mail/address.h"
#include "smtpd/session_priv.h"
#include "tests/unit/smtpd_mock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says a line; true when it was answered by 250 and the session is where it was. */
static bool say(struct mock *m, const char *verb, const uint8_t *p, size_t n)
{
	struct buf line = BUF_INIT;
	bool yes;

	buf_reset(&m->out);
	buf_adds(&line, verb);
	buf_add(&line, p, n);
	buf_adds(&line, "\r\n");
	for (size_t at = 0; at < line.len && m->session.state != SESSION_CLOSED;) {
		size_t taken = session_wants_input(&m->session) ? session_input(&m->session, line.p + at, line.len - at) : 0;

		arena_reset(&m->server.scratch);
		at += taken;
		if (!taken && !mock_answer(m))
			break;
	}
	while (mock_answer(m))
		;
	buf_clear(&line);
	yes = m->out.len > 4 && !memcmp(m->out.p, "250 ", 4);
	return yes && m->session.state == SESSION_COMMAND;
}

/* A value that goes into commands and reports as it is. */
static void value_check(struct str value, size_t max, bool utf8)
{
	bug_on(value.len > max);
	for (uint32_t i = 0; i < value.len; i++)
		bug_on((unsigned char)value.p[i] <= ' ' || value.p[i] == 127 || (!utf8 && (unsigned char)value.p[i] > 127));
}

static void xtext_check(struct str value)
{
	struct arena a = ARENA_INIT;
	struct str plain;

	bug_on(!address_xtext_decode(&a, value, &plain));
	for (uint32_t i = 0; i < plain.len; i++)
		bug_on((unsigned char)plain.p[i] < ' ' || (unsigned char)plain.p[i] > 126);
	arena_clear(&a);
}

static void mail_check(const struct txn *t, const uint8_t *p, size_t n)
{
	bool said = memmem(p, n, "=", 1) != NULL;

	bug_on(!said && (t->declared || t->envid.len || t->ret.len));
	bug_on(t->ret.len && !str_is(t->ret, "FULL") && !str_is(t->ret, "HDRS"));
	value_check(t->envid, 100, false);
	xtext_check(t->envid);
	bug_on(str_has_ctl(t->auth_sender));
}

static void rcpt_check(const struct txn *t)
{
	const struct ipc_recipient *r;
	ptrdiff_t semicolon;

	if (!t->n_rcpts)
		return;
	r = &t->rcpts[t->n_rcpts - 1];
	bug_on((r->notify & DSN_NEVER) && r->notify != DSN_NEVER);
	value_check(r->orcpt, 500, t->flags & MSG_SMTPUTF8);
	if (!r->orcpt.len)
		return;
	semicolon = str_find(r->orcpt, ';');
	bug_on(semicolon <= 0);
	if (!str_beginsi(r->orcpt, "utf-8;"))
		xtext_check(str_from(r->orcpt, (size_t)semicolon + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mock m;
	const uint8_t *end;
	size_t n;

	if (size < 2 || size > 4000)
		return 0;
	mock_init(&m);
	m.server.settings.acl_stages = 1u << ACL_RCPT;
	m.server.settings.max_synprot = 10;
	m.server.everyone->size_limit = 1000000;
	m.server.everyone->flags |= data[0] & 1 ? CLIENT_DSN : 0;
	m.server.everyone->flags |= data[0] & 2 ? CLIENT_UTF8 : 0;
	m.server.settings.prdr = data[0] & 4;
	session_start(&m.session);
	while (mock_answer(&m))
		;
	say(&m, "EHLO c.example", NULL, 0);
	data++;
	size--;
	end = memchr(data, '\n', size);
	n = end ? (size_t)(end - data) : size;
	if (say(&m, "MAIL FROM:<a@b.example>", data, n) && m.session.txn) {
		mail_check(m.session.txn, data, n);
		bug_on(m.session.txn->declared > 1000000);
		data += end ? n + 1 : n;
		size -= end ? n + 1 : n;
		end = memchr(data, '\n', size);
		if (say(&m, "RCPT TO:<r@x.example>", data, end ? (size_t)(end - data) : size) && m.session.txn)
			rcpt_check(m.session.txn);
	}
	mock_clear(&m);
	return 0;
}
