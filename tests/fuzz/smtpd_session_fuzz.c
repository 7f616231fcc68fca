/* SPDX-License-Identifier: ISC */
/* A hostile client and late, wrong or missing answers. The input is the client's octets; octets from 0xf0 on are events in between:
 * an answer, an answer of hostile content, a lost worker, a lost file, time, the end. */
#include <stdint.h>
#include <stdio.h>

#include "tests/unit/smtpd_mock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hostile_answer(struct mock *m, uint8_t x)
{
	struct ipc_pair pairs[] = { { .name = STR_LIT("x"), .value = STR_LIT("1\r\n2") } };
	struct ipc_edit edits[] = { { EDIT_ADD_END, STR_LIT("X: y\r\n") }, { EDIT_REMOVE, STR_LIT("Subject") } };
	struct ipc_acl_answer answer = { .verdict = x % 8, .code = x * 5u, .text = STR_LIT("9.9.9 a\nb\r\n\r\nc"), .log_text = STR_LIT("log\ntext"),
		.acl_c = pairs, .n_acl_c = x & 1, .acl_m = pairs, .n_acl_m = x >> 1 & 1, .results = pairs, .n_results = x >> 2 & 1, .edits = edits,
		.n_edits = x % 3, .flags = (uint64_t)x << (x % 16), .delay_ms = x & 16 ? 10 : 0, .client_name = STR_LIT("a b\r\n"),
		.rewritten = x & 32 ? STR_LIT("new@x.example") : STR_LIT("<bad>\r\n"), .rcpt_facts = pairs, .n_rcpt_facts = x & 1 };

	if (!m->asked)
		return;
	m->asked = false;
	session_on_acl(&m->session, &answer, false, NULL);
}

static void event(struct mock *m, uint8_t e)
{
	struct session *s = &m->session;

	switch (e & 15) {
	case 0:
	case 1:
	case 2:
		mock_answer(m);
		break;
	case 3:
	case 4:
	case 5:
		hostile_answer(m, (uint8_t)(m->asks * 37 + e));
		break;
	case 6:
		if (m->asked) {
			m->asked = false;
			session_on_acl(s, NULL, true, "lost");
		} else if (m->auth_asked) {
			m->auth_asked = false;
			session_on_auth(s, NULL, true, "lost");
		}
		break;
	case 7:
		session_on_file_lost(s);
		break;
	case 8:
		m->server.now_ms += 40000;
		session_on_deadline(s);
		break;
	case 9:
		if (s->state == SESSION_TLS && !s->tls_started) {
			if (m->asks & 1 && !s->tls_on_connect)
				session_on_tls_injected(s);
			else
				session_on_tls_unavailable(s, "no file");
		}
		if (m->begun && s->txn) {
			m->begun = false;
			session_on_file(s, ST_DEFER, STR_NULL, STR_LIT("no room"));
		}
		break;
	case 10:
		session_on_commit(s, ST_ERROR, true, STR_LIT("no"));
		break;
	case 11:
		m->write_fails = ST_DEFER;
		break;
	case 12:
		session_on_drain(s);
		break;
	case 13:
		session_on_eof(s, "reset");
		break;
	default:
		m->write_fails = ST_OK;
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mock m;
	size_t from = 1, to = 1;

	if (size < 1 || size > 20000)
		return 0;
	mock_init(&m);
	m.server.settings.acl_stages = data[0] & 1 ? ~0u : 1u << ACL_RCPT;
	m.server.settings.enforce_sync = data[0] & 2;
	m.server.settings.strict = !(data[0] & 4);
	m.server.settings.recipients_max = data[0] & 8 ? 2 : 50000;
	m.server.everyone->size_limit = data[0] & 16 ? 50 : 0;
	m.server.everyone->flags |= CLIENT_DSN | CLIENT_XCLIENT;
	m.server.settings.prdr = true;
	m.server.settings.utf8_domains = data[0] & 4;
	m.server.everyone->auth = mem_strdup("PLAIN LOGIN");
	m.server.everyone->tls.flags = TLS_F_ADVERTISE | (data[0] & 64 ? TLS_F_SNI : 0);
	m.tls_answers = true;
	m.session.tls_on_connect = data[0] & 128;
	if (data[0] & 32) {
		m.session.local = true;
		m.session.ident = mem_strdup("ann");
	}
	session_start(&m.session);
	while (from < size && m.session.state != SESSION_CLOSED) {
		size_t taken = 0;

		if (to < size && data[to] >= 0xf0 && from == to) {
			event(&m, data[to++]);
			from = to;
			continue;
		}
		while (to < size && data[to] < 0xf0)
			to++;
		if (session_wants_input(&m.session)) {
			char *copy = mem_memdup(data + from, to - from);

			taken = session_input(&m.session, copy, to - from);
			bug_on(taken > to - from);
			mem_free(copy);
		}
		arena_reset(&m.server.scratch);
		from += taken;
		if (!taken && to < size)
			event(&m, data[to]); /* what was not taken comes again after it */
		if (!taken && to == size && !mock_answer(&m))
			break;
		if (!taken && to < size)
			from = to = to + 1;
		buf_reset(&m.log);
	}
	/* Every octet that went out is a reply line. */
	for (size_t i = 0; i < m.out.len; i++)
		bug_on(m.out.p[i] == '\n' && (!i || m.out.p[i - 1] != '\r'));
	bug_on(m.out.len && m.out.p[m.out.len - 1] != '\n');
	mock_clear(&m);
	return 0;
}
