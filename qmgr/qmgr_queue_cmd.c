/* SPDX-License-Identifier: ISC */
/* `bulkhead queue ...`: looking at the queue and changing it, in slices, so that a listing of a million messages holds up no mail. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	SLICE = 200,                     /* messages looked at in one turn */
	SLICE_LOADS = 50,                /* of them read back from disk */
	QUEUED_MAX = 4 * 1024 * 1024,    /* octets that wait for a slow reader before the listing pauses */
	PAUSE_MS = 20,
	ROW_RCPT = 512,                  /* recipients in one row, as queue_row declares */
};

struct verb;
/* A question being worked off. */
struct cmd {
	struct list node;                /* q->ctls */
	struct qmgr *q;
	struct daemon_link *link;
	struct arena arena;              /* the question */
	struct arena arena_rows;         /* rows of a slice */
	struct ipc_queue_ask ask;
	const struct verb *verb;         /* NULL: nothing to do */
	uint64_t request;
	struct message cursor;           /* its place in q->messages */
	uint32_t next_id;
	uint64_t count, rows;
	uint64_t waiting;                /* imports under way */
	bool walked, needs_file;
	int import_fd;                   /* -1: none */
	struct err err;
	struct loop_timer timer;
};

/* A message as a verb sees it. */
struct sight {
	struct message *m;
	struct spool_loaded file;        /* envelope NULL: not loaded */
	struct active *a;                /* a scratch one, filled from the file */
};

struct verb {
	const char *name;
	bool loads;                      /* needs the file even without selectors that do */
	void (*fn)(struct cmd *c, struct sight *s);
};

static void cmd_slice(void *arg);

/* ---- answers ---- */

static void cmd_send(struct cmd *c, const struct ipc_type *type, const void *msg, int fd)
{
	if (!c->link || !c->link->channel)
		return;
	if (c->request)
		channel_answer(c->link->channel, c->request, type, msg, &fd, fd >= 0 ? 1 : 0);
	else
		channel_send(c->link->channel, type, msg, &fd, fd >= 0 ? 1 : 0);
}

static void cmd_end(struct cmd *c)
{
	struct ipc_queue_end end = { .status = c->err.status, .text = str_of(c->err.text), .count = c->count };
	struct ipc_pair counters[40];
	char numbers[40][24];

	if (!c->verb || !c->walked || c->waiting)
		return;
	if (!strcmp(c->verb->name, "stats")) {
		const char *name;

		for (unsigned i = M_READY; i < M_STATES; i++)
			end.count += c->q->n_state[i];
		end.counters = counters;
		for (unsigned i = 0; i < 40; i++) {
			uint64_t v = qmgr_counter(c->q, i, &name);

			if (!name)
				break;
			counters[i] = (struct ipc_pair){ .name = str_of(name) };
			snprintf(numbers[i], sizeof numbers[i], "%llu", (unsigned long long)v);
			counters[i].value = str_of(numbers[i]);
			end.n_counters = i + 1;
		}
	}
	if (!strcmp(c->verb->name, "retry") && !c->ask.ids.n && c->q->set->log & LOG_SEL(queue_run))
		log_line(c->q->log, LOG_MAIN, "End queue run: pid=%d", (int)getpid());
	list_remove(&c->cursor.node);
	c->verb = NULL;
	cmd_send(c, &ipc_type_queue_end, &end, -1);
	arena_reset(&c->arena);
}

static void row_fill(const struct sight *s, struct ipc_queue_row *row)
{
	const struct message *m = s->m;
	const struct ipc_spool_envelope *env = s->file.envelope;

	*row = (struct ipc_queue_row){ .id = str_of(m->file->id), .sender = env->facts ? env->facts->sender : STR_NULL, .received = m->received,
		.size = env->content, .state = str_of(message_state_name(m)), .tries = m->tries, .flags = m->flags,
		.next_try = m->state == M_DEFERRED && m->next_try != TRY_NEVER ? m->next_try : 0 };
}

static void row_recipients(struct cmd *c, const struct sight *s, struct ipc_queue_rcpt *out, struct str *last_trouble)
{
	const struct active *a = s->a;

	for (uint32_t i = 0; i < a->n_rcpt; i++)
		out[i] = (struct ipc_queue_rcpt){ .addr = a->rcpt[i].r->addr,
			.state = a->rcpt[i].state == R_DONE ? STR_LIT("delivered") : STR_LIT("pending") };
	for (uint32_t i = 0; i < s->file.n_records; i++) {
		const struct ipc_spool_record *rec = &s->file.records[i];

		if (rec->recipient >= a->n_rcpt)
			continue;
		if (rec->kind == SPOOL_RETRY) {
			out[rec->recipient].destination = rec->destination;
			out[rec->recipient].text = *last_trouble = str_sub(rec->text, 0, 1024);
		} else if (rec->kind == SPOOL_RESULT && rec->outcome && rec->outcome->result == DELIVERY_FAILED) {
			out[rec->recipient].text = str_sub(rec->outcome->stage, 0, 1024);
			if (a->rcpt[rec->recipient].state == R_DONE)
				out[rec->recipient].state = STR_LIT("failed");
		}
	}
	(void)c;
}

/* fd: given away with the first row; -1: none. */
static void row_send(struct cmd *c, const struct sight *s, int fd)
{
	uint32_t n = s->a->n_rcpt;
	struct ipc_queue_rcpt *rcpt = arena_alloc(&c->arena_rows, (n + 1) * sizeof *rcpt);
	struct ipc_queue_row row;
	uint32_t at = 0;

	row_fill(s, &row);
	row_recipients(c, s, rcpt, &row.text);
	do {
		uint32_t k = n - at < ROW_RCPT ? n - at : ROW_RCPT;
		size_t room = 100000;

		for (uint32_t i = 0; i < k; i++) { /* a frame has its limit too */
			size_t size = rcpt[at + i].addr.len + rcpt[at + i].text.len + rcpt[at + i].destination.len + 64;

			if (size > room)
				k = i;
			else
				room -= size;
		}
		row.recipients = rcpt + at;
		row.n_recipients = k;
		cmd_send(c, &ipc_type_queue_row, &row, fd);
		fd = -1;
		at += k;
	} while (at < n);
	c->rows++;
}

/* ---- verbs ---- */

static void verb_list(struct cmd *c, struct sight *s) { row_send(c, s, -1); }
static void verb_nothing(struct cmd *c, struct sight *s) { (void)c, (void)s; }

/* Takes the message out of whatever it waits in. False: it is being worked on. */
static bool message_take_out(struct qmgr *q, struct message *m)
{
	if (m->state == M_ACTIVE || m->state == M_LEAVING)
		return false;
	timer_set(q, m, TRY_NEVER);
	dest_unwait(q, m);
	list_remove(&m->queue);
	return true;
}

static void message_want(struct qmgr *q, struct message *m, enum want want)
{
	if (m->state != M_ACTIVE)
		return;
	m->active->want = (uint8_t)want;
	if (want != WANT_NOTHING)
		active_withdraw(q, m->active);
	active_step(q, m->active);
}

static struct str cmd_by(const struct cmd *c) { return c->ask.by.len ? c->ask.by : STR_LIT("the administrator"); }

static void verb_retry(struct cmd *c, struct sight *s)
{
	struct message *m = s->m;

	if (m->state == M_FROZEN && c->ask.ids.n) {
		m->flags &= ~(uint64_t)(MSG_FREEZE | MSG_FROZEN_ADMIN);
		message_flags_record(c->q, m, cmd_by(c));
		log_message(c->q, m, "Unfrozen by forced delivery");
		m->forced = true;
		message_ready(c->q, m, false);
	} else if (m->state == M_READY || m->state == M_ACTIVE) {
		m->forced = true;
	} else {
		message_wake(c->q, m, true);
	}
}

static void verb_hold(struct cmd *c, struct sight *s)
{
	struct message *m = s->m;

	if (m->flags & MSG_HELD)
		return;
	m->flags |= MSG_HELD;
	message_flags_record(c->q, m, cmd_by(c));
	log_message(c->q, m, "held by %.*s", STR_FMT(cmd_by(c)));
	if (message_take_out(c->q, m))
		message_hold(c->q, m);
	else
		message_want(c->q, m, WANT_HOLD);
}

static void verb_release(struct cmd *c, struct sight *s)
{
	struct message *m = s->m;

	if (!(m->flags & (MSG_HELD | MSG_FREEZE)))
		return;
	m->flags &= ~(uint64_t)(MSG_HELD | MSG_FREEZE | MSG_FROZEN_ADMIN);
	message_flags_record(c->q, m, cmd_by(c));
	log_message(c->q, m, "released by %.*s", STR_FMT(cmd_by(c)));
	if (m->state == M_ACTIVE)
		message_want(c->q, m, WANT_NOTHING);
	else if (m->state == M_HELD || m->state == M_FROZEN)
		message_ready(c->q, m, false);
}

static void verb_remove(struct cmd *c, struct sight *s)
{
	log_message(c->q, s->m, "removed by %.*s", STR_FMT(cmd_by(c)));
	if (message_take_out(c->q, s->m))
		message_complete(c->q, s->m);
	else
		message_want(c->q, s->m, WANT_REMOVE);
	s->m = NULL;
}

static void verb_bounce(struct cmd *c, struct sight *s)
{
	struct message *m = s->m;

	log_message(c->q, m, "cancelled by %.*s", STR_FMT(cmd_by(c)));
	m->flags &= ~(uint64_t)(MSG_HELD | MSG_FREEZE | MSG_FROZEN_ADMIN);
	message_flags_record(c->q, m, cmd_by(c));
	if (!message_take_out(c->q, m)) {
		message_want(c->q, m, WANT_BOUNCE);
		return;
	}
	m->cancel = CANCEL_ADMIN;
	message_ready(c->q, m, false);
}

/* Row and file: everything that is known of it, wherever it is now. */
static void verb_show(struct cmd *c, struct sight *s)
{
	struct err err = ERR_INIT;
	int fd = spool_export(c->q->spool, s->m->file, &err);

	if (fd < 0)
		err_set(&c->err, err.status, "%s: %s", s->m->file->id, err.text);
	else
		row_send(c, s, fd);
}

/* It is held while it is copied; `remove` takes it away once the other side has it. */
static void verb_export(struct cmd *c, struct sight *s)
{
	if (s->m->state == M_ACTIVE) {
		message_want(c->q, s->m, WANT_HOLD);
		if (s->m->state == M_ACTIVE) {
			c->count--;
			err_set(&c->err, ST_DEFER, "%s is being delivered, try again", s->m->file->id);
			return;
		}
	}
	if (!(s->m->flags & MSG_HELD))
		verb_hold(c, s);
	verb_show(c, s);
}

static const struct verb verbs[] = {
	{ "list", true, verb_list },
	{ "show", true, verb_show },
	{ "retry", false, verb_retry },
	{ "hold", false, verb_hold },
	{ "release", false, verb_release },
	{ "remove", false, verb_remove },
	{ "bounce", false, verb_bounce },
	{ "export", true, verb_export },
	{ "import", false, verb_nothing },
	{ "stats", false, verb_nothing },
	{ "count", false, verb_nothing },
	{ NULL, false, NULL },
};

/* ---- selecting ---- */

/* "*" stands for any octets; ASCII caseless. Bounded: the last star alone is gone back to. */
bool queue_wild_match(struct str pattern, struct str text)
{
	uint32_t p = 0, t = 0, star = UINT32_MAX, back = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.p[p] == '*') {
			star = p++;
			back = t;
		} else if (p < pattern.len && ascii_lower(pattern.p[p]) == ascii_lower(text.p[t])) {
			p++;
			t++;
		} else if (star != UINT32_MAX) {
			p = star + 1;
			t = ++back;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.p[p] == '*')
		p++;
	return p == pattern.len;
}

static bool selected_early(const struct cmd *c, const struct message *m)
{
	uint32_t now = qmgr_now(c->q), age = now > m->received ? now - m->received : 0;
	const struct ipc_queue_ask *ask = &c->ask;

	if (ask->older_s && age < ask->older_s)
		return false;
	if (ask->younger_s && age > ask->younger_s)
		return false;
	return !ask->state.len || str_is(ask->state, message_state_name(m));
}

/* "@domain" takes the domain and its subdomains. */
static bool recipient_matches(struct str pattern, struct str addr)
{
	struct str domain = str_from(addr, (size_t)(str_rfind(addr, '@') + 1));

	if (pattern.p[0] != '@')
		return queue_wild_match(pattern, addr);
	pattern = str_from(pattern, 1);
	return str_eqi(domain, pattern) || (domain.len > pattern.len && domain.p[domain.len - pattern.len - 1] == '.' &&
		str_eqi(str_from(domain, domain.len - pattern.len), pattern));
}

static bool selected_recipient(const struct cmd *c, const struct sight *s)
{
	for (uint32_t i = 0; i < s->a->n_rcpt; i++)
		if (s->a->rcpt[i].state != R_DONE && recipient_matches(c->ask.recipient, s->a->rcpt[i].r->addr))
			return true;
	return false;
}

static bool selected_destination(const struct cmd *c, const struct sight *s)
{
	if (s->m->dest && queue_wild_match(c->ask.destination, s->m->dest->name))
		return true;
	for (uint32_t i = 0; i < s->file.n_records; i++)
		if (s->file.records[i].kind == SPOOL_RETRY && s->file.records[i].recipient < s->a->n_rcpt &&
			s->a->rcpt[s->file.records[i].recipient].state != R_DONE && queue_wild_match(c->ask.destination, s->file.records[i].destination))
			return true;
	return false;
}

static bool selected_file(const struct cmd *c, const struct sight *s)
{
	const struct ipc_facts *f = s->file.envelope->facts;
	struct str sender = f ? f->sender : STR_NULL;

	if (c->ask.sender.len && !queue_wild_match(c->ask.sender, str_is(c->ask.sender, "<>") && !sender.len ? STR_LIT("<>") : sender))
		return false;
	if (c->ask.recipient.len && !selected_recipient(c, s))
		return false;
	return !c->ask.destination.len || selected_destination(c, s);
}

static void cmd_message(struct cmd *c, struct message *m)
{
	struct arena arena = ARENA_INIT;
	struct message scratch;
	struct sight s = { .m = m };
	struct err err = ERR_INIT;
	bool fits = selected_early(c, m);

	if (fits && c->needs_file) {
		if (spool_load(c->q->spool, m->file, &arena, &s.file, &err)) {
			err_set(&c->err, err.status, "%s: %s", m->file->id, err.text);
			fits = false;
		} else {
			scratch = *m;
			s.a = active_new(c->q, &scratch);
			s.a->env = s.file.envelope;
			active_fill(s.a, s.file.records, s.file.n_records);
			fits = selected_file(c, &s);
		}
	}
	if (fits) {
		c->count++;
		c->verb->fn(c, &s);
	}
	if (s.a)
		active_free(c->q, s.a);
	arena_clear(&arena);
}

/* ---- walking ---- */

static bool cmd_is_full(const struct cmd *c) { return c->ask.limit && c->count >= c->ask.limit; }

static void walk_ids(struct cmd *c, unsigned budget)
{
	for (; c->next_id < c->ask.ids.n && budget; c->next_id++, budget--) {
		struct str id = c->ask.ids.v[c->next_id];
		struct spool_msg *file = spool_find(c->q->spool, id);
		struct message *m = file ? file->owner : NULL;

		if (!m || m->state <= M_COMMITTING)
			err_set(&c->err, ST_FAIL, "%.*s: no such message", STR_FMT(id));
		else
			cmd_message(c, m);
	}
	c->walked = c->next_id == c->ask.ids.n;
}

static void walk_all(struct cmd *c, unsigned budget)
{
	struct qmgr *q = c->q;

	while (budget-- && !cmd_is_full(c)) {
		struct list *n = c->cursor.node.next;

		if (n == &q->messages) {
			c->walked = true;
			return;
		}
		list_remove(&c->cursor.node); /* behind it, whatever becomes of it */
		list_insert_after(n, &c->cursor.node);
		if (list_entry(n, struct message, node)->state > M_COMMITTING)
			cmd_message(c, list_entry(n, struct message, node));
	}
	c->walked = c->walked || cmd_is_full(c);
}

static void cmd_slice(void *arg)
{
	struct cmd *c = arg;
	unsigned budget = c->needs_file || c->verb->loads ? SLICE_LOADS : SLICE;

	if (c->link && (!c->link->channel || !channel_is_open(c->link->channel)))
		return;
	if (c->link && channel_queued(c->link->channel) > QUEUED_MAX) {
		loop_timer_start(&c->timer, c->q->loop, PAUSE_MS, cmd_slice, c);
		return;
	}
	if (c->ask.ids.n)
		walk_ids(c, budget);
	else
		walk_all(c, budget);
	arena_reset(&c->arena_rows);
	if (c->walked)
		cmd_end(c);
	else
		loop_timer_start(&c->timer, c->q->loop, 0, cmd_slice, c);
}

/* ---- import ---- */

static void imported(void *arg, struct spool_msg *file, enum status status, const struct err *err)
{
	struct cmd *c = arg;
	struct qmgr *q = c->q;
	struct arena arena = ARENA_INIT;
	struct spool_loaded loaded;
	struct err why = ERR_INIT;

	c->waiting--;
	if (c->import_fd >= 0)
		close(c->import_fd);
	c->import_fd = -1;
	if (status) {
		err_set(&c->err, status, "%s", err->text);
		spool_abort(q->spool, file);
	} else if (spool_load(q->spool, file, &arena, &loaded, &why)) {
		err_set(&c->err, why.status, "%s", why.text);
	} else {
		c->count = 1;
		log_line(q->log, LOG_MAIN, "%s imported by %.*s", file->id, STR_FMT(cmd_by(c)));
		err_set(&c->err, ST_OK, "imported as %s, in the state that it had (a held message stays held)", file->id);
		message_scanned(q, &loaded);
	}
	arena_clear(&arena);
	if (c->link) {
		cmd_end(c);
	} else {
		arena_clear(&c->arena);
		mem_free(c);
	}
}

static void cmd_import(struct cmd *c, struct ipc_in *in)
{
	struct qmgr *q = c->q;
	struct str wanted = c->ask.ids.n ? c->ask.ids.v[0] : STR_NULL;
	struct spool_msg *file;
	char id[SPOOL_ID_MAX + 1];

	c->walked = true;
	if (in->fds[0] < 0) {
		err_set(&c->err, ST_ERROR, "no file came with the question");
		return;
	}
	if (wanted.len && msgid_valid(wanted) && !spool_find(q->spool, wanted))
		snprintf(id, sizeof id, "%.*s", STR_FMT(wanted));
	else
		msgid_next(&q->ids, qmgr_now_us(q), id);
	c->import_fd = in->fds[0];
	in->fds[0] = -1;
	c->waiting++;
	if (spool_import(q->spool, id, c->import_fd, &file, imported, c, &c->err)) {
		c->waiting--;
		close(c->import_fd);
		c->import_fd = -1;
	}
}

/* ---- the question ---- */

static void cmd_begin(struct cmd *c, const struct verb *verb, const struct ipc_queue_ask *ask)
{
	arena_reset(&c->arena);
	ipc_copy(&ipc_type_queue_ask, ask, &c->ask, &c->arena);
	c->verb = verb;
	c->next_id = 0;
	c->count = c->rows = 0;
	c->walked = false;
	c->err = (struct err)ERR_INIT;
	c->needs_file = verb->loads || ask->sender.len || ask->recipient.len || ask->destination.len;
	list_remove(&c->cursor.node);
	list_push_front(&c->q->messages, &c->cursor.node);
	if (!strcmp(verb->name, "retry") && !ask->ids.n && c->q->set->log & LOG_SEL(queue_run))
		log_line(c->q->log, LOG_MAIN, "Start queue run: pid=%d", (int)getpid());
}

static void on_queue_ask(void *owner, struct ipc_in *in)
{
	struct daemon_link *link = owner;
	struct cmd *c = link->state;
	const struct ipc_queue_ask *ask = in->msg;
	const struct verb *verb = verbs;
	struct ipc_queue_end end = { .status = ST_ERROR };

	while (verb->name && !str_is(ask->verb, verb->name))
		verb++;
	if (!c || c->verb || c->waiting || !verb->name) {
		end.text = !verb->name ? STR_LIT("unknown verb") : STR_LIT("one question at a time");
		if (in->request)
			channel_answer(in->channel, in->request, &ipc_type_queue_end, &end, NULL, 0);
		else
			channel_send(in->channel, &ipc_type_queue_end, &end, NULL, 0);
		return;
	}
	c->request = in->request;
	cmd_begin(c, verb, ask);
	if (!strcmp(verb->name, "import")) {
		cmd_import(c, in);
		cmd_end(c);
	} else if (!strcmp(verb->name, "stats")) {
		c->walked = true;
		cmd_end(c);
	} else {
		cmd_slice(c);
	}
}

const struct ipc_handler queue_cmd_handlers[] = {
	{ IPC_queue_ask, on_queue_ask },
	{ 0, NULL },
};

static struct cmd *cmd_new(struct qmgr *q, struct daemon_link *link)
{
	struct cmd *c = mem_new(sizeof *c);

	c->q = q;
	c->link = link;
	c->import_fd = -1;
	c->cursor.state = M_CURSOR;
	list_push(&q->ctls, &c->node);
	return c;
}

void queue_cmd_opened(struct qmgr *q, struct daemon_link *link)
{
	link->state = cmd_new(q, link);
}

static void cmd_free(struct cmd *c)
{
	loop_timer_stop(&c->timer);
	list_remove(&c->cursor.node);
	list_remove(&c->node);
	c->link = NULL;
	c->verb = NULL;
	arena_clear(&c->arena_rows);
	if (c->waiting)
		return; /* the last answer of the spool frees it */
	arena_clear(&c->arena);
	mem_free(c);
}

/* ---- clients of smtpd ---- */

bool queue_etrn(struct qmgr *q, struct str part, bool domain, struct str by)
{
	const struct verb *verb = verbs;
	struct arena a = ARENA_INIT;
	struct ipc_queue_ask ask = { .by = by };

	if (!q->etrn)
		q->etrn = cmd_new(q, NULL);
	/* Each reads the files of the queue: one at a time. */
	if (q->etrn->verb || !part.len || str_find(part, '*') >= 0)
		return false;
	while (strcmp(verb->name, "retry"))
		verb++;
	ask.recipient = str_printf(&a, domain ? "@%.*s" : "*%.*s*", STR_FMT(part));
	cmd_begin(q->etrn, verb, &ask);
	arena_clear(&a);
	cmd_slice(q->etrn);
	return true;
}

void queue_etrn_stop(struct qmgr *q)
{
	if (q->etrn)
		cmd_free(q->etrn);
	q->etrn = NULL;
}

void queue_cmd_closed(struct daemon_link *link)
{
	struct cmd *c = link->state;

	link->state = NULL;
	if (c)
		cmd_free(c);
}
