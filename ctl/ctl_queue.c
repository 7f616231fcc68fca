/* SPDX-License-Identifier: ISC */
/* ctl_queue.c - the queue's verbs: one table, one question to qmgr, rows printed as they come. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/queue.h"

enum { ROW_WAIT_MS = 60 * 1000, IDS_MAX = 1024 };

static const struct queue_verb {
	const char *name, *arguments, *what;
	bool changes;       /* wants ids or a selector, or --all */
	bool one;           /* wants exactly one id (or file) */
} queue_verbs[] = {
	{ "list", "[SELECTOR...]", "the messages, oldest first", false, false },
	{ "show", "ID", "envelope, state, edits and content of a message", false, true },
	{ "retry", "[ID...] [SELECTOR...]", "try again now; nothing given: everything that waits", false, false },
	{ "hold", "ID... | SELECTOR...", "hold back until released", true, false },
	{ "release", "ID... | SELECTOR...", "release held and thaw frozen messages", true, false },
	{ "remove", "ID... | SELECTOR...", "delete, without a report to the sender", true, false },
	{ "bounce", "ID... | SELECTOR...", "give up: report to the sender, then delete", true, false },
	{ "export", "ID [FILE]", "write the message with its envelope and state to FILE (standard output)", false, true },
	{ "import", "FILE", "take in what export wrote, in the state that it had", false, true },
	{ "stats", "", "counters: messages by state, destination, age", false, false },
	{ "count", "[SELECTOR...]", "how many messages", false, false },
	{ NULL, NULL, NULL, false, false }
};

static int queue_help(FILE *to)
{
	fputs("usage: bulkhead queue VERB ...\n\n", to);
	for (const struct queue_verb *v = queue_verbs; v->name; v++)
		fprintf(to, "  %-9s %-24s %s\n", v->name, v->arguments, v->what);
	fputs("\nSelectors: --sender PATTERN --recipient PATTERN --destination NAME --older TIME --younger TIME (30s, 5m, 2h, 1d)\n"
		"  --state active|deferred|frozen|held --limit N --all --json; * in a pattern stands for anything.\n", to);
	return to == stdout ? CTL_OK : CTL_USAGE;
}

/* "90", "5m", "2h30m", "1d": seconds. */
bool queue_time_parse(const char *s, uint64_t *out)
{
	uint64_t sum = 0;

	if (!*s)
		return false;
	while (*s) {
		uint64_t v = 0, unit;
		const char *start = s;

		for (; ascii_is_digit(*s); s++)
			if (v > UINT32_MAX)
				return false;
			else
				v = v * 10 + (uint64_t)(*s - '0');
		if (s == start)
			return false;
		unit = *s == 's' || !*s ? 1 : *s == 'm' ? 60 : *s == 'h' ? 3600 : *s == 'd' ? 86400 : *s == 'w' ? 604800 : 0;
		if (!unit)
			return false;
		sum += v * unit;
		if (*s)
			s++;
	}
	*out = sum;
	return true;
}

static bool selector_take(struct ipc_queue_ask *ask, const char *name, const char *value)
{
	uint64_t n;

	if (!strcmp(name, "--sender"))
		ask->sender = str_of(value);
	else if (!strcmp(name, "--recipient"))
		ask->recipient = str_of(value);
	else if (!strcmp(name, "--destination"))
		ask->destination = str_of(value);
	else if (!strcmp(name, "--state"))
		ask->state = str_of(value);
	else if (!strcmp(name, "--older"))
		return queue_time_parse(value, &ask->older_s);
	else if (!strcmp(name, "--younger"))
		return queue_time_parse(value, &ask->younger_s);
	else if (!strcmp(name, "--limit") && str_u64(str_of(value), UINT32_MAX, &n))
		ask->limit = n;
	else
		return false;
	return true;
}

/* ---- printing ---- */

static json_t *row_json(const struct ipc_queue_row *r)
{
	json_t *o = json_object(), *v = json_array();

	json_object_set_new(o, "id", ctl_json_str(r->id));
	json_object_set_new(o, "sender", ctl_json_str(r->sender));
	json_object_set_new(o, "received", json_integer((json_int_t)r->received));
	json_object_set_new(o, "size", json_integer((json_int_t)r->size));
	json_object_set_new(o, "state", ctl_json_str(r->state));
	json_object_set_new(o, "next_try", r->next_try ? json_integer((json_int_t)r->next_try) : json_null());
	json_object_set_new(o, "tries", json_integer((json_int_t)r->tries));
	json_object_set_new(o, "trouble", r->text.len ? ctl_json_str(r->text) : json_null());
	for (uint32_t i = 0; i < r->n_recipients; i++) {
		json_t *to = json_object();

		json_object_set_new(to, "address", ctl_json_str(r->recipients[i].addr));
		json_object_set_new(to, "state", ctl_json_str(r->recipients[i].state));
		json_object_set_new(to, "destination", r->recipients[i].destination.len ? ctl_json_str(r->recipients[i].destination) : json_null());
		json_object_set_new(to, "trouble", r->recipients[i].text.len ? ctl_json_str(r->recipients[i].text) : json_null());
		json_array_append_new(v, to);
	}
	json_object_set_new(o, "recipients", v);
	return o;
}

/* The form of Exim's -bp, which scripts read; trouble is shown behind the address. "F": given up, and told to the sender. */
static void row_print(struct ctl *ctl, const struct ipc_queue_row *r, bool more)
{
	if (!more)
		printf("%3s %5s %.*s <%.*s>%s\n", ctl_age(&ctl->arena, time(NULL) - r->received), ctl_size(&ctl->arena, r->size), STR_FMT(r->id),
			STR_FMT(r->sender), str_is(r->state, "frozen") ? " *** frozen ***" : str_is(r->state, "held") ? " *** held ***" : "");
	for (uint32_t i = 0; i < r->n_recipients; i++) {
		const struct ipc_queue_rcpt *to = &r->recipients[i];

		printf("        %s %.*s\n", str_is(to->state, "delivered") ? "D" : str_is(to->state, "failed") ? "F" : " ", STR_FMT(to->addr));
		if (to->text.len)
			printf("              (%.*s)\n", STR_FMT(to->text));
	}
}

static int end_print(struct ctl *ctl, const struct queue_verb *v, const struct ipc_queue_end *end, json_t *rows)
{
	if (end->status) {
		json_decref(rows);
		return ctl_fail(CTL_FAILED, "%.*s", STR_FMT(end->text));
	}
	if (ctl->json) {
		json_t *o = json_object(), *counters = json_object();

		for (uint32_t i = 0; i < end->n_counters; i++) {
			uint64_t n;

			json_object_set_new(counters, str_cstr(&ctl->arena, end->counters[i].name),
				str_u64(end->counters[i].value, INT64_MAX, &n) ? json_integer((json_int_t)n) : ctl_json_str(end->counters[i].value));
		}
		json_object_set_new(o, "count", json_integer((json_int_t)end->count));
		json_object_set_new(o, "counters", counters);
		json_object_set_new(o, "messages", rows);
		ctl_json_print(o);
		return CTL_OK;
	}
	json_decref(rows);
	for (uint32_t i = 0; i < end->n_counters; i++)
		printf("%-32.*s %.*s\n", STR_FMT(end->counters[i].name), STR_FMT(end->counters[i].value));
	if (!strcmp(v->name, "count"))
		printf("%llu\n", (unsigned long long)end->count);
	else if (v->changes || !strcmp(v->name, "retry"))
		printf("%llu message%s\n", (unsigned long long)end->count, end->count == 1 ? "" : "s");
	if (end->text.len)
		printf("%.*s\n", STR_FMT(end->text));
	return CTL_OK;
}

/* ---- asking ---- */

static int queue_channel(struct ctl *ctl, struct err *err)
{
	struct ipc_cmd_answer answer;
	int fd = -1;

	if (!ctl_ask(ctl, "channel", "qmgr", &answer, &fd, 10000, err) && fd < 0)
		err_set(err, ST_ERROR, "master sent no channel to qmgr");
	return fd;
}

struct listing {
	struct ctl *ctl;
	const struct queue_verb *verb;
	json_t *rows;
	char last[33];      /* id of the row before: one with the same goes on with its recipients */
	const char *export_to;
};

static int row_take(struct listing *l, struct ipc_in *in)
{
	const struct ipc_queue_row *r = in->msg;
	bool more = str_is(r->id, l->last);

	snprintf(l->last, sizeof l->last, "%.*s", STR_FMT(r->id));
	if (!strcmp(l->verb->name, "export"))
		return in->fds[0] < 0 ? ctl_fail(CTL_SOFTWARE, "qmgr sent no file") : queue_export(r, in->fds[0], l->export_to);
	if (l->ctl->json) {
		json_t *row = row_json(r), *last = json_array_get(l->rows, json_array_size(l->rows) - 1);

		if (more && last) {
			json_array_extend(json_object_get(last, "recipients"), json_object_get(row, "recipients"));
			json_decref(row);
		} else {
			json_array_append_new(l->rows, row);
		}
		return CTL_OK;
	}
	row_print(l->ctl, r, more);
	return !strcmp(l->verb->name, "show") && in->fds[0] >= 0 ? queue_show(l->ctl, r, in->fds[0]) : CTL_OK;
}

static int queue_answers(struct listing *l, int fd)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	int code = -1;

	while (code < 0) {
		enum status st = ipc_recv(fd, &packet, ROW_WAIT_MS, &err);
		struct ipc_in in;

		if (st) {
			code = ctl_fail(CTL_UNAVAILABLE, "qmgr: %s", err.text);
			break;
		}
		while (code < 0 && (st = ipc_packet_next(&packet, &a, &in, &err)) == ST_OK) {
			if (in.type == &ipc_type_queue_row) {
				int row = row_take(l, &in);

				code = row ? row : -1;
			} else if (in.type == &ipc_type_queue_end) {
				code = end_print(l->ctl, l->verb, in.msg, l->rows);
				l->rows = NULL;
			}
			for (int i = 0; i < IPC_FDS_MAX; i++)
				if (in.fds[i] >= 0)
					close(in.fds[i]);
			arena_reset(&a);
		}
		if (st == ST_ERROR)
			code = ctl_fail(CTL_SOFTWARE, "qmgr: %s", err.text);
	}
	json_decref(l->rows);
	ipc_packet_clear(&packet);
	arena_clear(&a);
	return code;
}

static int queue_run(struct ctl *ctl, const struct queue_verb *v, const struct ipc_queue_ask *ask, int file, const char *export_to)
{
	struct listing l = { .ctl = ctl, .verb = v, .rows = json_array(), .export_to = export_to };
	struct err err = ERR_INIT;
	int fd = queue_channel(ctl, &err), code;

	if (fd < 0) {
		json_decref(l.rows);
		return ctl_fail(err.status == ST_DEFER ? CTL_UNAVAILABLE : CTL_FAILED, "%s", err.text);
	}
	if (ipc_send(fd, &ipc_type_queue_ask, 1, false, ask, &file, file >= 0 ? 1 : 0, ROW_WAIT_MS, &err)) {
		json_decref(l.rows);
		code = ctl_fail(CTL_UNAVAILABLE, "qmgr: %s", err.text);
	} else {
		code = queue_answers(&l, fd);
	}
	close(fd);
	return code;
}

int queue_fetch(struct ctl *ctl, struct str id)
{
	struct ipc_queue_ask ask = { .verb = STR_LIT("export"), .ids = { &id, 1 } };
	struct ipc_packet packet = { .data = BUF_INIT };
	struct err err = ERR_INIT;
	int fd = queue_channel(ctl, &err), file = -1;
	bool ended = fd < 0;
	enum status st = ended ? ST_ERROR : ipc_send(fd, &ipc_type_queue_ask, 1, false, &ask, NULL, 0, ROW_WAIT_MS, &err);

	while (!st && !ended) {
		struct ipc_in in;

		st = ipc_recv(fd, &packet, ROW_WAIT_MS, &err);
		while (!st && !ended && (st = ipc_packet_next(&packet, &ctl->arena, &in, &err)) == ST_OK) {
			ended = in.type == &ipc_type_queue_end;
			for (int i = 0; i < IPC_FDS_MAX; i++)
				if (in.fds[i] >= 0 && file < 0)
					file = in.fds[i];
				else if (in.fds[i] >= 0)
					close(in.fds[i]);
		}
		if (st == ST_FAIL)
			st = ST_OK; /* the packet is empty */
	}
	if (fd >= 0)
		close(fd);
	ipc_packet_clear(&packet);
	if (file < 0)
		ctl_fail(CTL_FAILED, "message %.*s: %s", STR_FMT(id), err.text[0] ? err.text : "not in the queue");
	return file;
}

static const struct queue_verb *verb_find(const char *name)
{
	for (const struct queue_verb *v = queue_verbs; v->name; v++)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

int ctl_queue(struct ctl *ctl, int argc, char **argv)
{
	const struct queue_verb *v = argc > 1 ? verb_find(argv[1]) : NULL;
	struct str ids[IDS_MAX];
	struct ipc_queue_ask ask = { .ids = { ids, 0 } };
	bool selected = false;
	int file = -1;

	if (!v)
		return argc > 1 && strcmp(argv[1], "help") && strcmp(argv[1], "--help")
			? ctl_fail(CTL_USAGE, "\"%s\" is no verb of the queue; `bulkhead queue help` shows them", argv[1])
			: queue_help(argc > 1 ? stdout : stderr);
	ask.verb = str_of(v->name);
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			ctl->json = true;
		} else if (!strcmp(argv[i], "--all")) {
			selected = true;
		} else if (argv[i][0] == '-' && argv[i][1]) {
			if (i + 1 >= argc || !selector_take(&ask, argv[i], argv[i + 1]))
				return ctl_fail(CTL_USAGE, "selector %s is not known, or its value is wrong; `bulkhead queue help` shows them", argv[i]);
			selected = true;
			i++;
		} else if (ask.ids.n < IDS_MAX) {
			ids[ask.ids.n++] = str_of(argv[i]);
		} else {
			return ctl_fail(CTL_USAGE, "more than %d ids at once", IDS_MAX);
		}
	}
	if (v->changes && !selected && !ask.ids.n)
		return ctl_fail(CTL_USAGE, "%s wants message ids, a selector, or --all", v->name);
	if (!strcmp(v->name, "import")) {
		if (ask.ids.n != 1)
			return ctl_fail(CTL_USAGE, "import wants one file");
		file = open(argv[2], O_RDONLY | O_CLOEXEC);
		if (file < 0)
			return ctl_fail(CTL_DATA, "%s: %s", argv[2], strerror(errno));
		ask.ids.n = 0;
	} else if (v->one && (!ask.ids.n || ask.ids.n > 1u + !strcmp(v->name, "export"))) {
		return ctl_fail(CTL_USAGE, "%s wants one message id", v->name);
	}
	if (!strcmp(v->name, "export") && ask.ids.n == 2) {
		ask.ids.n = 1;
		return queue_run(ctl, v, &ask, -1, argv[argc - 1]);
	}
	return queue_run(ctl, v, &ask, file, NULL);
}

int ctl_mailq(struct ctl *ctl, int argc, char **argv)
{
	static const struct ipc_queue_ask ask = { .verb = { "list", 4, false } };

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			ctl->json = true;
		else if (!strcmp(argv[i], "-C") && i + 1 < argc)
			ctl->conf_path = argv[++i];
		else
			return ctl_fail(CTL_USAGE, "mailq: \"%s\" is not known, or wants a value; usage: mailq [-C FILE] [--json]", argv[i]);
	}
	return queue_run(ctl, verb_find("list"), &ask, -1, NULL);
}
