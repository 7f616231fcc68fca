/* SPDX-License-Identifier: ISC */
/* smtpd_mock.h - a world for one SMTP session: policyd, qmgr and the client as far as the session sees them.
 * Used by:    smtpd_session_test.c and the fuzz target.
 * Owns:       what the session put out. Questions are answered by mock_answer(), never from within. */
#ifndef TESTS_SMTPD_MOCK_H
#define TESTS_SMTPD_MOCK_H

#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/tls/tls.h"
#include "smtpd/session.h"

struct mock {
	struct server server;
	struct session session;
	struct buf out, content, log, edits, recipients;
	struct ipc_auth_ask auth;     /* data and state are gone, their lengths are not */
	char auth_data[128], auth_mechanism[80];
	bool auth_asked;
	unsigned tls_starts;
	bool tls_chosen, tls_answers; /* answers: mock_answer() plays the handshake */
	bool asked, begun, committed, input_waits, forgot;
	unsigned stage, asks, begins;
	char subject[256];            /* what the open question is about */
	struct ipc_msg_commit commit; /* numbers only */
	uint64_t facts_flags;
	char sender[300];
	enum status write_fails;
};

static struct mock *mock_of(struct session *s) { return s->shell; }
static void mock_output(struct session *s, const char *p, size_t n) { buf_add(&mock_of(s)->out, p, n); }
static void mock_ask(struct session *s, const struct ipc_acl_ask *ask, bool reader)
{
	struct mock *m = mock_of(s);

	(void)reader;
	bug_on(m->asked);
	m->asked = true;
	m->asks++;
	m->stage = (unsigned)ask->stage;
	snprintf(m->subject, sizeof m->subject, "%.*s", STR_FMT(ask->stage == ACL_MAIL ? ask->facts->sender : ask->stage == ACL_HELO ? ask->facts->helo :
		ask->facts->recipient));
}
static void mock_ask_cancel(struct session *s) { mock_of(s)->asked = mock_of(s)->auth_asked = false; }
static void mock_begin(struct session *s, const struct ipc_msg_begin *begin)
{
	(void)begin;
	bug_on(mock_of(s)->begun);
	mock_of(s)->begun = true;
	mock_of(s)->begins++;
	buf_reset(&mock_of(s)->content);
}
static void mock_recipients(struct session *s, const struct ipc_msg_recipients *more)
{
	for (uint32_t i = 0; i < more->n_recipients; i++)
		buf_printf(&mock_of(s)->recipients, "%.*s ", STR_FMT(more->recipients[i].addr));
}
static void mock_commit(struct session *s, const struct ipc_msg_commit *commit)
{
	struct mock *m = mock_of(s);

	m->committed = true;
	m->commit = *commit;
	snprintf(m->sender, sizeof m->sender, "%.*s", STR_FMT(commit->facts->sender));
	for (uint32_t i = 0; i < commit->n_recipients; i++)
		buf_printf(&m->recipients, "%.*s ", STR_FMT(commit->recipients[i].addr));
	for (uint32_t i = 0; i < commit->n_edits; i++)
		buf_printf(&m->edits, "%d:%.*s|", (int)commit->edits[i].op, STR_FMT(commit->edits[i].text));
	bug_on(m->content.len != commit->content);
}
static void mock_forget(struct session *s, const char *id)
{
	(void)id;
	mock_of(s)->begun = false;
	mock_of(s)->forgot = true;
	buf_reset(&mock_of(s)->content);
}
static enum status mock_write(struct session *s, const struct iovec *iov, unsigned n, uint64_t offset, struct err *err)
{
	struct mock *m = mock_of(s);

	if (m->write_fails)
		return err_set(err, m->write_fails, "No space left on device");
	bug_on(offset != m->content.len);
	for (unsigned i = 0; i < n; i++)
		buf_add(&m->content, iov[i].iov_base, iov[i].iov_len);
	return ST_OK;
}
static enum status mock_read(struct session *s, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct mock *m = mock_of(s);

	if (offset + n > m->content.len)
		return err_set(err, ST_DEFER, "too short");
	memcpy(p, m->content.p + offset, n);
	return ST_OK;
}
static bool mock_input_waiting(struct session *s) { return mock_of(s)->input_waits; }
static void mock_remember(struct session *s, uint64_t ms) { (void)s, (void)ms; }
static void mock_log(struct session *s, unsigned targets, struct str line)
{
	(void)targets;
	if (mock_of(s)->log.len < 1 << 16)
		buf_printf(&mock_of(s)->log, "%.*s\n", STR_FMT(line));
}
static void mock_auth_ask(struct session *s, const struct ipc_auth_ask *ask)
{
	struct mock *m = mock_of(s);

	m->auth_asked = true;
	m->auth = *ask;
	snprintf(m->auth_mechanism, sizeof m->auth_mechanism, "%.*s", STR_FMT(ask->mechanism));
	snprintf(m->auth_data, sizeof m->auth_data, "%.*s", STR_FMT(ask->data));
}
static void mock_auth_forget(struct session *s) { (void)s; }
static bool mock_etrn(struct session *s, const struct ipc_etrn *etrn) { (void)s; return etrn->part.len > 0; }
/* As the shell does: the address is one whose settings are remembered. */
static void mock_client_changed(struct session *s) { s->client = client_settings_new(); }
static void mock_tls_start(struct session *s) { mock_of(s)->tls_starts++; }
static void mock_tls_go_on(struct session *s) { mock_of(s)->tls_chosen = true; }
static const struct session_ops mock_ops = { mock_output, mock_ask, mock_ask_cancel, mock_begin, mock_recipients, mock_commit, mock_forget, mock_write,
	mock_read, mock_input_waiting, mock_remember, mock_log, mock_auth_ask, mock_etrn, mock_client_changed, mock_auth_forget, mock_tls_start, mock_tls_go_on };

static void mock_init(struct mock *m)
{
	static const uint8_t ip[4] = { 192, 0, 2, 1 };

	memset(m, 0, sizeof *m);
	settings_init(&m->server.settings);
	m->server.settings.hostname = m->server.settings.qualify_domain = m->server.settings.qualify_recipient = STR_LIT("mx.example");
	m->server.settings.enforce_sync = false;
	m->server.settings.acl_stages = 1u << ACL_RCPT;
	m->server.ops = &mock_ops;
	m->server.now_ms = 1000000;
	m->server.wall_us = 1795249800000000;
	m->server.everyone = client_settings_new();
	session_init(&m->session, &m->server);
	m->session.shell = m;
	memcpy(m->session.client_ip, ip, 4);
	m->session.client_port = 1234;
}

static void mock_clear(struct mock *m)
{
	session_clear(&m->session);
	bug_on(m->server.everyone && m->server.everyone->refs != 1); /* the session has let go of all that it held */
	client_settings_unref(m->server.everyone);
	arena_clear(&m->server.scratch);
	buf_clear(&m->out);
	buf_clear(&m->content);
	buf_clear(&m->log);
	buf_clear(&m->edits);
	buf_clear(&m->recipients);
}

/* One open question is answered: by what stands at the start of the address. False when none is open. */
static bool mock_answer(struct mock *m)
{
	static const struct { const char *begins; enum acl_verdict verdict; } words[] = {
		{ "deny", ACL_DENY }, { "defer", ACL_DEFER }, { "drop", ACL_DROP }, { "discard", ACL_DISCARD },
	};
	struct session *s = &m->session;

	if (m->asked) {
		struct ipc_acl_answer answer = { .verdict = ACL_ACCEPT };
		/* With PRDR "pdeny" is refused behind the data. */
		const char *subject = m->subject + (m->stage == ACL_PRDR && m->subject[0] == 'p');

		for (size_t i = 0; i < sizeof words / sizeof *words; i++)
			if (!strncmp(subject, words[i].begins, strlen(words[i].begins)))
				answer.verdict = words[i].verdict;
		if (!strncmp(subject, "delay", 5))
			answer.delay_ms = 5000;
		m->asked = false;
		if (!strncmp(subject, "lost", 4))
			session_on_acl(s, NULL, true, "killed");
		else
			session_on_acl(s, &answer, false, NULL);
		return true;
	}
	if (m->auth_asked) { /* LOGIN has two steps; what is sent last decides */
		static const struct { const char *data; enum auth_result result; } results[] = {
			{ "good", AUTH_OK }, { "later", AUTH_DEFER }, { "odd", AUTH_BAD_DATA }, { "unknown", AUTH_UNKNOWN }, { "initial", AUTH_NO_INITIAL },
		};
		struct ipc_auth_answer answer = { .result = AUTH_FAIL, .driver = STR_LIT("drv"), .auth_id = STR_LIT("joe"), .mail_condition = true };
		bool login = str_isi(str_of(m->auth_mechanism), "LOGIN");

		m->auth_asked = false;
		if (!strcmp(m->auth_data, "lost")) {
			session_on_auth(s, NULL, true, "killed");
			return true;
		}
		for (size_t i = 0; i < sizeof results / sizeof *results; i++)
			if (!strcmp(m->auth_data, results[i].data))
				answer.result = results[i].result;
		if (m->auth.step < (login ? 2 : 1) && !(m->auth.has_data && !login)) {
			answer = (struct ipc_auth_answer){ .result = AUTH_CHALLENGE, .driver = STR_LIT("drv"), .challenge = m->auth.step ? STR_LIT("Password:") :
				STR_LIT("Username:"), .state = STR_LIT("state") };
			bug_on(m->auth.step && m->auth.state.len != 5);
		}
		session_on_auth(s, &answer, false, NULL);
		return true;
	}
	if (m->begun && s->txn) {
		m->begun = false;
		session_on_file(s, ST_OK, STR_LIT("16IOWa-00019l-00"), STR_NULL);
		return true;
	}
	if (s->state == SESSION_TLS && m->tls_answers) {
		static const struct tls_facts facts = { .cipher = STR_LIT("TLS1.3:X:256"), .version = STR_LIT("TLS1.3"), .bits = 256 };

		if (!s->tls_started)
			session_on_tls_ready(s);
		if (m->tls_starts % 3 == 0)
			session_on_tls_failed(s, "SSL_accept: broken");
		else if (m->tls_starts % 3 == 1 && !m->tls_chosen)
			session_on_tls_hello(s, STR_LIT("a.example"));
		else
			session_on_tls_done(s, &facts);
		return true;
	}
	if (s->state == SESSION_COMMIT) {
		session_on_commit(s, ST_OK, false, STR_NULL);
		return true;
	}
	if (s->state == SESSION_DELAY) {
		m->server.now_ms = s->deadline_ms;
		session_on_deadline(s);
		return true;
	}
	return false;
}

/* Feeds in[0..n) in pieces of `chunk` octets, as a shell would: what is not taken comes again. */
static inline void mock_feed(struct mock *m, const char *in, size_t n, size_t chunk, bool late)
{
	size_t from = 0, to = 0;

	for (;;) {
		size_t taken = 0;

		if (session_wants_input(&m->session) && from < to) {
			char *copy = mem_memdup(in + from, to - from); /* a heap copy, so that reading too far is seen */

			taken = session_input(&m->session, copy, to - from);
			mem_free(copy);
		}
		from += taken;
		arena_reset(&m->server.scratch);
		if (taken)
			continue;
		if ((!late || to == n) && mock_answer(m))
			continue;
		if (to == n)
			break;
		to = n - to < chunk ? n : to + chunk;
	}
	while (mock_answer(m))
		;
}

#endif
