/* SPDX-License-Identifier: ISC */
/* Reports: when a round of a message is over, what is due is put together by kind and addressee, written into the spool as
 * messages of our own, and only when those are durable does the round close. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/dsn/dsn.h"
#include "common/mail/address.h"
#include "common/mail/edit.h"
#include "common/spool/fs.h"

enum {
	RETURN_HEADER_MAX = 256 * 1024,       /* octets of a header that are returned */
	RETURN_MEMORY_MAX = 16 * 1024 * 1024, /* octets of a message that are returned whole, whatever the options say */
	EXPAND_DEADLINE_MS = 60000,
};

/* ---- delays ---- */

uint32_t report_next_warning(const struct qmgr *q, const struct message *m)
{
	const struct settings *s = q->set;
	uint64_t at;

	if (!s->n_warn || m->null_sender || m->flags & (MSG_FAKE_REJECT | MSG_FAKE_DEFER))
		return TRY_NEVER;
	if (m->warned < s->n_warn) {
		at = s->warn_at[m->warned];
	} else { /* on with the last interval of the list */
		uint64_t last = s->warn_at[s->n_warn - 1], step = s->n_warn > 1 ? last - s->warn_at[s->n_warn - 2] : last;

		at = last + (uint64_t)(m->warned - s->n_warn + 1) * (step ? step : 1);
	}
	at += m->received;
	return at >= TRY_NEVER ? TRY_NEVER : (uint32_t)at;
}

bool report_warning_due(struct qmgr *q, struct message *m)
{
	return report_next_warning(q, m) <= qmgr_now(q);
}

static bool text_is_true(struct str s)
{
	s = str_trim(s);
	return s.len && !str_is(s, "0") && !str_isi(s, "no") && !str_isi(s, "false");
}

/* Counts the warning, and makes it due for those that still wait. */
static void warning_decide(struct qmgr *q, struct active *a, bool wanted)
{
	struct ipc_spool_record rec = { .kind = SPOOL_WARNED, .reported = wanted };
	struct message *m = a->m;

	a->warn = wanted ? WARN_DONE : WARN_NO;
	while (m->warned < UINT8_MAX && report_warning_due(q, m)) /* one report for all that were missed */
		m->warned++;
	for (uint32_t i = 0; wanted && i < a->n_rcpt; i++)
		if (a->rcpt[i].state == R_DEFERRED)
			delay_add(q, a, &a->rcpt[i]);
	record_add(q, a, &rec);
}

static void warning_on_answer(void *arg, struct ipc_in *in, const struct err *err)
{
	struct active *a = arg;
	struct qmgr *q = a->q;
	const struct ipc_expand_answer *answer = in && in->type == &ipc_type_expand_answer ? in->msg : NULL;

	(void)err;
	if (q->stopped)
		return;
	a->questions--;
	if (!answer || (answer->status != ST_OK && answer->status != ST_FAIL))
		a->warn = WARN_LATER;
	else
		warning_decide(q, a, answer->status == ST_OK && text_is_true(answer->text));
	active_step(q, a);
}

/* What expansions about the message know, its content included. */
static void facts_fill(struct qmgr *q, const struct active *a, struct ipc_facts *facts)
{
	const struct ipc_spool_envelope *env = a->env;

	if (env->facts)
		*facts = *env->facts;
	facts->house = &q->house;
	facts->message_id = str_of(a->m->file->id);
	facts->has_sender = true;
	facts->size = env->content;
	facts->body_offset = env->header_size;
	facts->received_us = env->received_us;
	facts->offset = SPOOL_CONTENT_OFFSET;
	facts->edits = env->edits;
	facts->n_edits = env->n_edits > 256 ? 256 : env->n_edits;
	facts->n_results = facts->n_results > 64 ? 64 : facts->n_results;
}

/* $domain, where all that waits is for one. */
static void domain_fill(const struct active *a, struct ipc_pair *out)
{
	*out = (struct ipc_pair){ .name = STR_LIT("domain"), .tainted = true };
	for (uint32_t i = 0; i < a->n_rcpt; i++) {
		struct str addr = a->rcpt[i].r->addr, domain = str_from(addr, (size_t)(str_rfind(addr, '@') + 1));

		if (a->rcpt[i].state != R_DEFERRED)
			continue;
		if (out->value.len && !str_eqi(out->value, domain)) {
			out->value = STR_NULL;
			return;
		}
		out->value = domain;
	}
}

/* False: the condition is being asked for. */
static bool warning_round(struct qmgr *q, struct active *a)
{
	struct ipc_facts facts = { 0 };
	struct ipc_expand_ask ask = { .text = q->set->warning_condition, .facts = &facts };
	struct channel *ch = route_router(q);
	struct ipc_pair domain;
	struct err err = ERR_INIT;
	bool waits = false;
	int fd;

	for (uint32_t i = 0; i < a->n_rcpt && !waits; i++)
		waits = a->rcpt[i].state == R_DEFERRED;
	if (!waits || a->warn != WARN_UNDECIDED || a->want || a->parked || !report_warning_due(q, a->m))
		return true;
	if (!ask.text.len || str_find(ask.text, '$') < 0) {
		warning_decide(q, a, !ask.text.len || text_is_true(ask.text));
		return true;
	}
	fd = ch ? spool_open_reader(q->spool, a->m->file, &err) : -1;
	if (fd < 0) {
		a->warn = WARN_LATER;
		return true;
	}
	facts_fill(q, a, &facts);
	domain_fill(a, &domain);
	ask.variables = &domain;
	ask.n_variables = domain.value.len > 0;
	a->q = q;
	a->questions++;
	channel_ask(ch, &ipc_type_expand_ask, &ask, &fd, 1, &ipc_type_expand_answer, EXPAND_DEADLINE_MS, warning_on_answer, a);
	return false;
}

/* ---- what is returned ---- */

struct returned {
	struct buf header;
	struct buf body;
	bool all, limited;
};

static bool read_content(struct qmgr *q, struct active *a, uint64_t from, uint64_t n, struct buf *out, struct err *err)
{
	int fd = spool_open_reader(q->spool, a->m->file, err);
	char *p;
	bool ok;

	if (fd < 0)
		return false;
	p = buf_room(out, (size_t)n);
	ok = p && !spool_fs_read(&spool_fs_real, fd, p, (size_t)n, (off_t)(SPOOL_CONTENT_OFFSET + from));
	close(fd);
	if (ok)
		out->len += (size_t)n;
	else
		err_set(err, ST_DEFER, "the message can't be read");
	return ok;
}

static bool returned_header(struct qmgr *q, struct active *a, struct buf *out)
{
	const struct ipc_spool_envelope *env = a->env;
	uint64_t n = env->header_size < RETURN_HEADER_MAX ? env->header_size : RETURN_HEADER_MAX;
	struct buf raw = BUF_INIT;
	struct edit_input in = { .edits = env->edits, .n_edits = env->n_edits, .fd = -1, .flags = env->flags };
	struct err err = ERR_INIT;
	struct str text;
	bool ok = !n || read_content(q, a, 0, n, &raw, &err);

	if (ok) {
		if (n < env->header_size) /* whole lines only */
			while (raw.len && raw.p[raw.len - 1] != '\n')
				raw.len--;
		in.header = raw.len ? buf_str(&raw) : STR_LIT("");
		in.header_size = raw.len;
		if (edit_text(&in, &a->arena, &text, &err))
			text = in.header;
		dsn_header_add(out, text, q->set->return_line_max ? q->set->return_line_max : DSN_LINE_MAX);
	}
	buf_clear(&raw);
	return ok;
}

/* How much of the message goes back: what the sender asked for, unless the options say less. */
static void returned_choose(struct qmgr *q, struct active *a, enum due_kind kind, struct returned *ret)
{
	const struct ipc_spool_envelope *env = a->env;
	const struct settings *s = q->set;
	bool forbidden = !s->return_body || (s->return_size_max && env->content > s->return_size_max) || env->content > RETURN_MEMORY_MAX ||
		(s->return_line_max && env->longest_line > s->return_line_max);

	/* RFC 8689 section 5: of a message that must not be read on its way only the header goes back. */
	if (kind != DUE_FAILED || str_isi(env->ret, "HDRS") || a->m->flags & MSG_REQUIRETLS)
		return;
	ret->all = !forbidden;
	ret->limited = forbidden;
}

static bool returned_read(struct qmgr *q, struct active *a, struct returned *ret, struct err *err)
{
	const struct ipc_spool_envelope *env = a->env;

	returned_header(q, a, &ret->header);
	if (!ret->all || env->content <= env->header_size)
		return true;
	return read_content(q, a, env->header_size, env->content - env->header_size, &ret->body, err);
}

/* ---- one report ---- */

static struct dsn_recipient dsn_recipient_of(const struct active *a, const struct due *d)
{
	(void)a;
	return (struct dsn_recipient){ .addr = d->addr, .parent = d->parent, .orcpt = d->rcpt->r->orcpt, .action = d->action, .status = d->status,
		.host = d->host, .ip = d->ip, .port = d->port, .diagnostic = d->diagnostic, .error = d->error, .greeting = d->greeting,
		.helo = d->helo, .note = d->note, .output = d->output, .retry_until = d->retry_until };
}

static const enum dsn_kind report_kinds[] = { 0, DSN_FAILED_REPORT, DSN_SUCCESS_REPORT, DSN_DELAYED_REPORT };

static bool is_8bit(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] > 127)
			return true;
	return false;
}

static void report_format(struct qmgr *q, struct active *a, const struct due *group, const struct dsn_recipient *rcpt, size_t n, const char *own_id,
	const struct ipc_report_answer *words, const struct returned *ret, struct buf *out, size_t *header_out)
{
	const struct ipc_spool_envelope *env = a->env;
	struct dsn_report r = { .kind = report_kinds[group->kind], .id = str_of(a->m->file->id), .own_id = str_of(own_id), .host = q->set->host,
		.from = q->dsn_from, .reply_to = q->set->errors_reply_to, .to = group->to, .envid = env->envid, .text = q->set->bounce_text,
		.arrived = env->received_us / 1000000, .now = qmgr_now(q), .what = ret->all ? DSN_RETURN_ALL : DSN_RETURN_HEADERS,
		.limited = ret->limited, .extra = q->set->extra_info, .utf8 = (a->m->flags & MSG_SMTPUTF8) != 0 || is_8bit(group->to),
		.eightbit = env->content_8bit, .header_8bit = is_8bit(buf_str(&ret->header)),
		.head = words->head, .intro = words->intro, .last = words->last, .rcpt = rcpt, .n_rcpt = n };

	if (env->header_message_id.len)
		r.references = str_printf(&a->arena, "<%.*s>", STR_FMT(env->header_message_id));
	if (group->kind != DUE_FAILED)
		r.text = STR_NULL;
	dsn_report_begin(&r, out, header_out);
	buf_add(out, ret->header.p ? ret->header.p : "", ret->header.len);
	if (ret->all) {
		buf_adds(out, "\r\n");
		buf_add(out, ret->body.p ? ret->body.p : "", ret->body.len);
	}
	dsn_report_end(&r, out);
}

static uint64_t longest_line(const struct buf *b)
{
	uint64_t most = 0, line = 0;

	for (size_t i = 0; i < b->len; i++) {
		if (b->p[i] == '\n') {
			most = line > most ? line : most;
			line = 0;
		} else if (b->p[i] != '\r') {
			line++;
		}
	}
	return line > most ? line : most;
}

struct submitted {
	struct qmgr *q;
	struct active *about;    /* waits for it; NULL: nobody does */
	struct message *m;
};

static void report_on_durable(void *arg, struct spool_msg *file, enum status status, const struct err *err)
{
	struct submitted *s = arg;
	struct qmgr *q = s->q;
	struct active *about = s->about;

	if (status) {
		log_line(q->log, LOG_MAIN | LOG_PANIC, "%s report could not be kept: %s%s", about ? about->m->file->id : file->id, err->text,
			about ? "; once more in a while" : "");
		if (about)
			about->report_failed = true;
		message_free(q, s->m);
		spool_abort(q->spool, file);
	} else {
		q->counts.reports++;
		log_arrival(q, s->m, s->m->active->env);
		message_arrived(q, s->m);
	}
	mem_free(s);
	if (about) {
		about->reports--;
		active_step(q, about);
	}
	qmgr_pump(q);
}

/* The addressee, and those that get copies: hidden from each other. */
static void envelope_recipients(struct active *a, struct ipc_spool_envelope *env, struct str to, const struct ipc_strs *copies)
{
	env->recipients = arena_alloc(&a->arena, (copies->n + 1) * sizeof *env->recipients);
	for (uint32_t i = 0; i <= copies->n; i++) {
		struct str addr = i ? copies->v[i - 1] : to;
		struct address parsed;

		if (i && (str_has_ctl(addr) || address_parse(addr, ADDR_LITERALS | ADDR_UTF8, &parsed, NULL) != ST_OK))
			continue;
		env->recipients[env->n_recipients] = (struct ipc_recipient){ .addr = str_dup(&a->arena, addr), .index = env->n_recipients,
			.notify = DSN_NEVER }; /* nobody is told of a report's fate */
		env->n_recipients++;
	}
}

static void envelope_fill(struct qmgr *q, struct active *about, struct active *a, const struct due *group, const struct ipc_strs *copies, const char *id,
	const struct buf *content, size_t header)
{
	struct ipc_spool_envelope *env = arena_alloc(&a->arena, sizeof *env);
	bool eightbit = is_8bit(buf_str(content));

	env->id = str_of(arena_strdup(&a->arena, id));
	env->received_us = qmgr_now_us(q);
	env->facts = arena_alloc(&a->arena, sizeof *env->facts);
	env->facts->has_sender = env->facts->local = true;
	env->facts->protocol = STR_LIT("local");
	env->facts->ident = STR_LIT("bulkhead");
	env->facts->received_us = env->received_us;
	env->facts->auth_sender = str_dup(&a->arena, q->set->bounce_auth);
	envelope_recipients(a, env, group->to, copies);
	env->content = content->len;
	env->header_size = header;
	env->flags = MSG_LOCAL | MSG_BOUNCE | (eightbit ? MSG_EIGHTBIT : 0) | (about->m->flags & (MSG_SMTPUTF8 | MSG_REQUIRETLS)) |
		(is_8bit(group->to) ? MSG_SMTPUTF8 : 0);
	env->content_8bit = eightbit;
	env->longest_line = longest_line(content);
	env->header_message_id = str_printf(&a->arena, "E%s@%.*s", id, STR_FMT(q->set->host));
	env->about = str_of(arena_strdup(&a->arena, about->m->file->id));
	a->env = env;
}

struct message *own_message_new(struct qmgr *q)
{
	struct spool_msg blank = { .id = "" };
	struct message *m = message_new(q, &blank); /* until the spool has made the file */

	m->file = NULL;
	m->active = active_new(q, m);
	m->state = M_COMMITTING;
	q->n_state[M_INTAKE]--;
	q->n_state[M_COMMITTING]++;
	return m;
}

bool own_message_submit(struct qmgr *q, struct active *about, struct message *m, const char *id, struct str content)
{
	struct submitted *s = mem_new(sizeof *s);
	struct spool_msg *file = NULL;
	struct err err = ERR_INIT;

	*s = (struct submitted){ q, about, m };
	if (spool_submit(q->spool, id, content, m->active->env, &file, report_on_durable, s, &err)) {
		log_line(q->log, LOG_MAIN | LOG_PANIC, "%s report could not be written: %s%s", about ? about->m->file->id : id, err.text,
			about ? "; once more in a while" : "");
		if (about)
			about->report_failed = true;
		message_free(q, m);
		mem_free(s);
		return false;
	}
	m->file = file;
	file->owner = m;
	if (about)
		about->reports++;
	return true;
}

/* Hands the finished report to the spool. */
static void report_submit(struct qmgr *q, struct active *about, const struct due *group, const struct ipc_strs *copies, const char *id,
	const struct buf *content, size_t header)
{
	struct message *m = own_message_new(q);

	envelope_fill(q, about, m->active, group, copies, id, content, header);
	own_message_submit(q, about, m, id, buf_str(content));
}

/* Takes all that belong with the first one off the list. */
static uint32_t group_take(struct due **list, struct due **group_out, uint32_t most)
{
	struct due *first = *list, **at = list, **last = group_out;
	uint32_t n = 0;

	while (*at && n < most) {
		struct due *d = *at;

		if (d->kind == first->kind && str_eq(d->to, first->to)) {
			*at = d->next;
			*last = d;
			last = &d->next;
			n++;
		} else {
			at = &d->next;
		}
	}
	*last = NULL;
	return n;
}

static void report_make(struct qmgr *q, struct active *a, struct due *group, uint32_t n, const struct ipc_report_answer *words)
{
	struct dsn_recipient *rcpt = mem_new(n * sizeof *rcpt);
	struct returned ret = { .header = BUF_INIT, .body = BUF_INIT };
	struct buf content = BUF_INIT;
	struct err err = ERR_INIT;
	char id[MSGID_SIZE];
	size_t header = 0;
	uint32_t i = 0;

	for (struct due *d = group; d; d = d->next)
		rcpt[i++] = dsn_recipient_of(a, d);
	returned_choose(q, a, group->kind, &ret);
	if (!returned_read(q, a, &ret, &err)) { /* better a report without the text than none */
		ret.all = false;
		ret.limited = true;
	}
	msgid_next(&q->ids, qmgr_now_us(q), id);
	report_format(q, a, group, rcpt, n, id, words, &ret, &content, &header);
	report_submit(q, a, group, &words->copies, id, &content, header);
	buf_clear(&content);
	buf_clear(&ret.header);
	buf_clear(&ret.body);
	mem_free(rcpt);
}

/* ---- the administrator's words ---- */

/* A report that waits for the router's answer; in the active part's arena. */
struct wording {
	struct qmgr *q;
	struct active *a;
	struct due *group;
	uint32_t n;
	uint8_t attempt;
};

static const struct ipc_report_answer usual_words;

static bool wording_ask(struct wording *w);

static void wording_on_answer(void *arg, struct ipc_in *in, const struct err *err)
{
	struct wording *w = arg;
	struct qmgr *q = w->q;
	struct active *a = w->a;
	const struct ipc_report_answer *answer = in && in->type == &ipc_type_report_answer ? in->msg : NULL;

	(void)err;
	if (q->stopped)
		return;
	a->questions--;
	if (answer && answer->text.len)
		log_line(q->log, LOG_MAIN | LOG_PANIC, "%s its report: %.*s", a->m->file->id, STR_FMT(answer->text));
	if (answer && answer->status == ST_DEFER) {
		a->report_failed = true; /* what is due stands in the file: once more, later */
	} else if (answer) {
		report_make(q, a, w->group, w->n, answer);
	} else if (++w->attempt >= LOST_MAX || !wording_ask(w)) {
		log_message(q, a->m, "the router had no words for its report: the usual ones");
		report_make(q, a, w->group, w->n, &usual_words);
	}
	active_step(q, a);
}

/* How long the message has been delayed, as delay_warning counts: the last of its times that has passed. */
static uint64_t delay_counted(struct qmgr *q, const struct message *m)
{
	struct message before = { .received = m->received, .warned = (uint8_t)(m->warned ? m->warned - 1 : 0) };
	uint32_t at = report_next_warning(q, &before);

	return at == TRY_NEVER || at < m->received ? 0 : at - m->received;
}

static bool wording_ask(struct wording *w)
{
	struct qmgr *q = w->q;
	struct active *a = w->a;
	struct channel *ch = route_router(q);
	struct ipc_facts facts = { 0 };
	struct ipc_report_ask ask = { .kind = w->group->kind == DUE_FAILED ? REPORT_FAILURE : REPORT_DELAY, .facts = &facts, .to = str_sub(w->group->to, 0, 1024) };
	struct err err = ERR_INIT;
	int fd = ch ? spool_open_reader(q->spool, a->m->file, &err) : -1;

	if (fd < 0)
		return false;
	facts_fill(q, a, &facts);
	if (ask.kind == REPORT_DELAY)
		ask.delay_s = delay_counted(q, a->m);
	a->questions++;
	channel_ask(ch, &ipc_type_report_ask, &ask, &fd, 1, &ipc_type_report_answer, EXPAND_DEADLINE_MS, wording_on_answer, w);
	return true;
}

/* Now, or when the router has answered. */
static void report_begin(struct qmgr *q, struct active *a, struct due *group, uint32_t n)
{
	struct wording *w;

	if (!(group->kind == DUE_FAILED ? q->set->ask_failure : group->kind == DUE_DELAY && q->set->ask_delay)) {
		report_make(q, a, group, n, &usual_words);
		return;
	}
	w = arena_alloc(&a->arena, sizeof *w);
	*w = (struct wording){ q, a, group, n, 0 };
	if (wording_ask(w))
		return;
	if (group->kind == DUE_FAILED)
		a->report_failed = true; /* it stands in the file: once more, later */
	else
		report_make(q, a, group, n, &usual_words);
}

/* ---- the round ---- */

bool report_round(struct qmgr *q, struct active *a)
{
	struct ipc_spool_record note = { .kind = SPOOL_NOTE, .text = STR_LIT("reported"), .recipient = UINT32_MAX };

	if (!warning_round(q, a))
		return false;
	if (!a->due || a->report_failed) {
		if (a->reported && !a->report_failed)
			record_add(q, a, &note);
		return true;
	}
	a->reported = true;
	while (a->due) {
		struct due *group = NULL;
		uint32_t n = group_take(&a->due, &group, REPORT_RCPT_MAX);

		report_begin(q, a, group, n);
	}
	a->due_last = &a->due;
	if (a->reports || a->questions)
		return false;
	return true; /* none could be written */
}
