/* SPDX-License-Identifier: ISC */
/* ctl_expand.c - expand strings as the configuration's daemons would: one answer a line, the expansion or "Failed: reason". */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/ipc/codec.h"
#include "common/spool/format.h"
#include "ctl/offline.h"
#include "ctl/queue.h"

enum { SETS_MAX = 60, RECIPIENTS_SHOWN = 64 };

/* What the strings are expanded with. */
struct world {
	struct ipc_facts facts;
	struct ipc_house house;
	struct ipc_pair sets[SETS_MAX];
	uint32_t n_sets;
	int message;               /* -1: none */
	struct offline router;
	unsigned failed;
};

/* ---- macros ---- */

static struct str macro_apply(struct ctl *ctl, struct str line, struct str name, struct str value)
{
	struct buf b = BUF_INIT;
	ptrdiff_t at = name.len ? str_find_str(line, name) : -1;

	if (at < 0)
		return line;
	for (; at >= 0; at = str_find_str(line, name)) {
		buf_add_str(&b, str_sub(line, 0, (size_t)at));
		buf_add_str(&b, value);
		line = str_from(line, (size_t)at + name.len);
	}
	buf_add_str(&b, line);
	line = str_dup(&ctl->arena, buf_str(&b));
	buf_clear(&b);
	return line;
}

/* The configuration's macros, those of -D among them, in the order of their definition. */
static struct str macros_apply(struct ctl *ctl, struct str line)
{
	for (uint32_t i = 0; i < ctl->conf->n_macros; i++)
		line = macro_apply(ctl, line, ctl->conf->macros[i].name, ctl->conf->macros[i].value);
	return line;
}

/* ---- the facts ---- */

/* As for a message that the caller of the command submits. */
static void facts_local(struct ctl *ctl, struct world *w)
{
	const struct passwd *pw = getpwuid(getuid());
	const struct conf_opts_main *conf = &ctl->conf->main;

	w->facts = (struct ipc_facts){ .local = true, .uid = (uint64_t)getuid() + 1, .gid = (uint64_t)getgid() + 1 };
	if (!pw)
		return;
	w->facts.ident = w->facts.auth_id = str_dup(&ctl->arena, str_of(pw->pw_name));
	w->facts.sender = str_printf(&ctl->arena, "%s@%.*s", pw->pw_name, STR_FMT(conf->qualify_domain.text));
	w->facts.auth_sender = w->facts.sender;
	w->facts.has_sender = true;
}

/* Free space of a file's file system, as qmgr would tell it; nothing where the caller may not look. */
static void space_look(struct ctl *ctl, struct str path, uint64_t *kb_out, uint64_t *inodes_out)
{
	struct statvfs vfs;

	if (!str_begins(path, "/") || statvfs(str_cstr(&ctl->arena, path), &vfs))
		return;
	*kb_out = (uint64_t)vfs.f_bavail * vfs.f_frsize / 1024 + 1;
	*inodes_out = vfs.f_files ? (uint64_t)vfs.f_favail + 1 : 0;
}

/* The queue itself is not asked: $queue_size stays empty. */
static void facts_house(struct ctl *ctl, struct world *w)
{
	struct conf_list_walk walk = CONF_LIST_WALK(ctl->conf->main.log_file_path.text);
	struct str item;

	space_look(ctl, ctl->conf->main.spool_directory.text, &w->house.spool_space, &w->house.spool_inodes);
	while (!w->house.log_space && conf_list_next(&walk, &ctl->arena, &item)) {
		ptrdiff_t slash = str_rfind(item, '/');

		if (slash > 0)
			space_look(ctl, str_sub(item, 0, (size_t)slash), &w->house.log_space, &w->house.log_inodes);
	}
	w->facts.house = &w->house;
}

/* A message of the queue: its file, as qmgr gives it or as it was exported. */
static int facts_spooled(struct ctl *ctl, struct world *w)
{
	struct spool_file file;
	struct err err = ERR_INIT;
	struct str *v;
	uint32_t n;

	if (spool_file_read(&spool_fs_real, w->message, false, &ctl->arena, &file, &err) || !file.envelope->facts)
		return ctl_fail(CTL_DATA, "the message's file: %s", err.text[0] ? err.text : "it has no facts");
	w->facts = *file.envelope->facts;
	w->facts.message_id = file.envelope->id;
	w->facts.edits = file.envelope->edits;
	w->facts.n_edits = file.envelope->n_edits;
	w->facts.flags = file.envelope->flags;
	w->facts.received_us = file.envelope->received_us;
	w->facts.size = file.head.content;
	w->facts.body_offset = file.envelope->header_size;
	w->facts.offset = SPOOL_CONTENT_OFFSET;
	n = file.envelope->n_recipients < RECIPIENTS_SHOWN ? file.envelope->n_recipients : RECIPIENTS_SHOWN;
	v = arena_alloc(&ctl->arena, (n + 1) * sizeof *v);
	for (uint32_t i = 0; i < n; i++)
		v[i] = file.envelope->recipients[i].addr;
	w->facts.recipients = (struct ipc_strs){ v, n };
	return CTL_OK;
}

static int message_open(struct world *w, const char *path)
{
	struct stat sb;

	w->message = open(path, O_RDONLY | O_CLOEXEC);
	if (w->message >= 0 && !fstat(w->message, &sb))
		w->facts.size = (uint64_t)sb.st_size;
	return w->message < 0 ? ctl_fail(CTL_DATA, "%s: %s", path, strerror(errno)) : CTL_OK;
}

/* Variables that are facts of the session or the envelope; all others that can be set travel by name. */
static const struct { const char *name; size_t offset; } fact_names[] = {
	{ "sender_host_address", offsetof(struct ipc_facts, client_ip) }, { "sender_host_name", offsetof(struct ipc_facts, client_name) },
	{ "interface_address", offsetof(struct ipc_facts, server_ip) }, { "received_ip_address", offsetof(struct ipc_facts, server_ip) },
	{ "sender_helo_name", offsetof(struct ipc_facts, helo) }, { "received_protocol", offsetof(struct ipc_facts, protocol) },
	{ "authenticated_id", offsetof(struct ipc_facts, auth_id) }, { "sender_host_authenticated", offsetof(struct ipc_facts, auth_method) },
	{ "authenticated_sender", offsetof(struct ipc_facts, auth_sender) }, { "sender_ident", offsetof(struct ipc_facts, ident) },
	{ "smtp_command", offsetof(struct ipc_facts, command) }, { "message_id", offsetof(struct ipc_facts, message_id) },
	{ "message_exim_id", offsetof(struct ipc_facts, message_id) }, { "sender_address", offsetof(struct ipc_facts, sender) },
	{ "connection_id", offsetof(struct ipc_facts, connection_id) },
};

static bool settable(struct str name)
{
	static const char *const slots[] = {
#define SLOT(name, what) #name,
#include "common/lang/slots.def"
#undef SLOT
	};

	for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
		if (str_is(name, slots[i]))
			return true;
	return (str_begins(name, "acl_c") || str_begins(name, "acl_m")) ? name.len > 5 : str_begins(name, "r_") && name.len > 2;
}

static int variable_set(struct world *w, const char *text)
{
	const char *eq = strchr(text, '=');
	struct str name = str_make(text, eq ? (size_t)(eq - text) : 0);

	if (!eq || !name.len)
		return ctl_fail(CTL_USAGE, "expand: --set wants NAME=VALUE");
	for (size_t i = 0; i < sizeof fact_names / sizeof *fact_names; i++)
		if (str_is(name, fact_names[i].name)) {
			*(struct str *)(void *)((char *)&w->facts + fact_names[i].offset) = str_of(eq + 1);
			return CTL_OK;
		}
	if (!settable(name))
		return ctl_fail(CTL_USAGE, "expand: $%.*s can't be set", STR_FMT(name));
	if (w->n_sets == SETS_MAX)
		return ctl_fail(CTL_USAGE, "expand: more than %d variables to set", SETS_MAX);
	w->sets[w->n_sets++] = (struct ipc_pair){ .name = name, .value = str_of(eq + 1) };
	return CTL_OK;
}

/* ---- the strings ---- */

static int line_expand(struct ctl *ctl, struct world *w, struct str line)
{
	struct ipc_expand_ask ask = { .text = macros_apply(ctl, line), .facts = &w->facts, .variables = w->sets, .n_variables = w->n_sets };
	struct ipc_expand_answer answer;
	struct err err = ERR_INIT;
	int fd = w->message >= 0 ? dup(w->message) : -1; /* sending gives it away */
	enum status st = offline_call(ctl, &w->router, &ipc_type_expand_ask, &ask, &fd, fd >= 0, &ipc_type_expand_answer, &answer, &err);

	if (st)
		return ctl_fail(CTL_SOFTWARE, "expand: %s", err.text);
	if (answer.status) {
		fputs("Failed: ", stdout);
		w->failed++;
	}
	fwrite(answer.text.p ? answer.text.p : "", 1, answer.text.len, stdout);
	putchar('\n');
	return CTL_OK;
}

static int input_expand(struct ctl *ctl, struct world *w)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int code = CTL_OK;

	while (!code && (n = getline(&line, &size, stdin)) > 0) {
		if (line[n - 1] == '\n')
			n--;
		code = line_expand(ctl, w, str_dup(&ctl->arena, str_make(line, (size_t)n)));
		fflush(stdout);
	}
	free(line);
	return code;
}

int ctl_expand(struct ctl *ctl, int argc, char **argv)
{
	const char *message = NULL, *id = NULL, *sets[SETS_MAX];
	struct world *w = arena_alloc(&ctl->arena, sizeof *w);
	struct err err = ERR_INIT;
	unsigned n_sets = 0;
	int code = CTL_OK, first = 1;

	w->message = -1;
	/* -C and -D may stand behind the verb too; after -- the rest is the string. */
	while (first < argc && argv[first][0] == '-' && argv[first][1]) {
		const char *o = argv[first], *value = first + 1 < argc ? argv[first + 1] : NULL;

		if (!strcmp(o, "--")) {
			first++;
			break;
		}
		if (value && !strcmp(o, "-D") && ctl->n_macros < CTL_MACROS_MAX)
			ctl->macros[ctl->n_macros++] = value;
		else if (value && !strcmp(o, "-C"))
			ctl->conf_path = value;
		else if (value && !strcmp(o, "--message"))
			message = value;
		else if (value && !strcmp(o, "--queue-id"))
			id = value;
		else if (value && !strcmp(o, "--set") && n_sets < SETS_MAX)
			sets[n_sets++] = value;
		else
			return ctl_fail(CTL_USAGE, "expand: option %s is not known, or lacks its value; -C FILE, -D MACRO=VALUE, --message FILE, --queue-id ID and"
				" --set NAME=VALUE are", o);
		first += 2;
	}
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	facts_local(ctl, w);
	if (id) {
		w->message = queue_fetch(ctl, str_of(id));
		code = w->message < 0 ? CTL_FAILED : facts_spooled(ctl, w);
	} else if (message) {
		code = message_open(w, message);
	}
	for (unsigned i = 0; !code && i < n_sets; i++)
		code = variable_set(w, sets[i]);
	if (code)
		return code;
	facts_house(ctl, w);
	if (offline_start(ctl, &w->router, &err))
		return ctl_fail(CTL_SOFTWARE, "expand: %s", err.text);
	if (first == argc)
		code = input_expand(ctl, w);
	for (int i = first; i < argc && !code; i++)
		code = line_expand(ctl, w, str_of(argv[i]));
	offline_stop(&w->router);
	if (w->message >= 0)
		close(w->message);
	return code ? code : first < argc && w->failed ? CTL_FAILED : CTL_OK;
}
