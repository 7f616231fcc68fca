/* SPDX-License-Identifier: ISC */
/* ctl_expand.c - expand strings as the configuration's daemons would: one answer a line, the expansion or "Failed: reason". */
#include <stdlib.h>
#include <string.h>

#include "ctl/offline.h"

/* Macros given with -D apply to the line, as in `exim -be`; those of the file have been applied to the file only. */
static struct str macros_apply(struct ctl *ctl, struct str line)
{
	for (unsigned i = 0; i < ctl->n_macros; i++) {
		const char *eq = strchr(ctl->macros[i], '=');
		struct str name = eq ? str_make(ctl->macros[i], (size_t)(eq - ctl->macros[i])) : str_of(ctl->macros[i]);
		struct buf b = BUF_INIT;
		ptrdiff_t at;

		if (!name.len)
			continue;
		while ((at = str_find_str(line, name)) >= 0) {
			buf_add_str(&b, str_sub(line, 0, (size_t)at));
			buf_adds(&b, eq ? eq + 1 : "");
			line = str_from(line, (size_t)at + name.len);
		}
		buf_add_str(&b, line);
		line = str_dup(&ctl->arena, buf_str(&b));
		buf_clear(&b);
	}
	return line;
}

static int line_expand(struct ctl *ctl, struct offline *o, struct str line)
{
	struct ipc_facts facts = { .local = true };
	struct ipc_expand_ask ask = { .text = macros_apply(ctl, line), .facts = &facts };
	struct ipc_expand_answer answer;
	struct err err = ERR_INIT;
	enum status st = ipc_call(o->channel, &ipc_type_expand_ask, &ask, NULL, 0, &ipc_type_expand_answer, &ctl->arena, &answer, OFFLINE_ASK_MS, &err);

	if (st)
		return ctl_fail(CTL_SOFTWARE, "expand: %s", err.text);
	if (answer.status)
		fputs("Failed: ", stdout);
	fwrite(answer.text.p ? answer.text.p : "", 1, answer.text.len, stdout);
	putchar('\n');
	return CTL_OK;
}

int ctl_expand(struct ctl *ctl, int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct offline o;
	int code = CTL_OK, first = 1;

	/* -D may stand behind the verb too; after -- the rest is the string. */
	for (; first < argc && argv[first][0] == '-' && argv[first][1]; first++) {
		if (!strcmp(argv[first], "--")) {
			first++;
			break;
		}
		if (strcmp(argv[first], "-D") || first + 1 >= argc || ctl->n_macros == CTL_MACROS_MAX)
			return ctl_fail(CTL_USAGE, "expand: option %s is not known; -D MACRO=VALUE is", argv[first]);
		ctl->macros[ctl->n_macros++] = argv[++first];
	}
	if (!ctl_conf(ctl))
		return CTL_CONFIG;
	if (offline_start(ctl, &o, &err))
		return ctl_fail(CTL_SOFTWARE, "expand: %s", err.text);
	if (first < argc) {
		for (int i = first; i < argc && !code; i++)
			code = line_expand(ctl, &o, str_of(argv[i]));
	} else {
		char *line = NULL;
		size_t size = 0;
		ssize_t n;

		while (!code && (n = getline(&line, &size, stdin)) > 0) {
			if (line[n - 1] == '\n')
				n--;
			code = line_expand(ctl, &o, str_dup(&ctl->arena, str_make(line, (size_t)n)));
			fflush(stdout);
		}
		free(line);
	}
	offline_stop(&o);
	return code;
}
