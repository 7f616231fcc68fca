/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "ctl/ctl.h"

const struct ctl_verb ctl_verbs[] = {
	{ "start", "[-f]", "start the daemons (-f: stay in the foreground)", ctl_start },
	{ "stop", "", "finish what is under way, then stop", ctl_stop },
	{ "reload", "", "read the configuration again; no connection is dropped", ctl_reload },
	{ "restart", "DAEMON", "restart one daemon: smtpd, policyd, router, qmgr, smtp-out, local", ctl_restart },
	{ "status", "[--json]", "what runs, under which uid, in which root, and its counters", ctl_status },
	{ "logs", "", "open the log files again (after they were moved away)", ctl_logs },
	{ "check-config", "[--exim FILE]", "report errors and surprises of the configuration; or what an Exim configuration means here", ctl_check_config },
	{ "config", "show ...", "the configuration's effective values, for all or for one daemon", ctl_config },
	{ "route", "[-v] [-s SENDER] [--verify-recipient|--verify-sender] [--json] ADDRESS...", "where mail for an address would go", ctl_route },
	{ "expand", "[-D MACRO=VALUE] [--message FILE | --queue-id ID] [--set NAME=VALUE] [STRING...]", "expand strings, or standard input line by line", ctl_expand },
	{ "session", "[--trace] [--interface IP.PORT] [--helo NAME] IP", "a fake SMTP session from this address; nothing is delivered", ctl_session },
	{ "rewrite", "ADDRESS...", "what the rewriting rules make of an address, wherever it may stand", ctl_rewrite },
	{ "retry-rule", "[-f SENDER] ADDRESS|HOST [DOMAIN] [ERROR]", "the retry rule that holds", ctl_retry_rule },
	{ "tlsa", "--cert FILE [--port NUMBER] [HOST...]", "the TLSA records to publish for a certificate", ctl_tlsa },
	{ "queue", "VERB ...", "list, show, change the queue; `bulkhead queue help` has the verbs", ctl_queue },
	{ "hints", "forget HOST...", "forget what hosts said to EHLO: the next connection to them does not begin early", ctl_hints },
	{ "trace", "ID", "one message's whole life, from the log", ctl_trace },
	{ NULL, NULL, NULL, NULL }
};

void ctl_verbs_show(FILE *to, const struct ctl_verb *verbs, const char *program)
{
	fprintf(to, "usage: %s [-C CONFIG] [-D MACRO=VALUE]... [--run DIR] [--json] VERB ...\n\n", program);
	for (; verbs->name; verbs++)
		fprintf(to, "  %-13s %-26s %s\n", verbs->name, verbs->arguments, verbs->what);
	fputs("\nSee bulkhead(1).\n", to);
}

int ctl_verb_run(struct ctl *ctl, const struct ctl_verb *verbs, const char *program, int argc, char **argv)
{
	const struct ctl_verb *near = NULL;
	unsigned best = 4;

	for (const struct ctl_verb *v = verbs; v->name; v++) {
		unsigned d = str_distance(v->name, argv[0]);

		if (!d)
			return v->fn(ctl, argc, argv);
		if (d < best) {
			best = d;
			near = v;
		}
	}
	return ctl_fail(CTL_USAGE, "\"%s\" is no verb of %s%s%s%s; `%s help` shows them", argv[0], program, near ? ", did you mean \"" : "",
		near ? near->name : "", near ? "\"" : "", program);
}
