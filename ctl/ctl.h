/* SPDX-License-Identifier: ISC */
/* ctl.h - what the files of the command share: its options, talking to master, printing.
 * Used by:    ctl/ only.
 * Owns:       struct ctl owns its arena, in which everything lives until the command ends.
 * Errors:     a verb returns an exit code: 0, or one of enum ctl_exit; the reason has been printed on stderr. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>
#include <stdio.h>

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/ipc/channel.h"

/* sysexits.h numbers, since sendmail's callers know them. */
enum ctl_exit {
	CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 64, CTL_DATA = 65, CTL_NOUSER = 67, CTL_UNAVAILABLE = 69, CTL_SOFTWARE = 70, CTL_OSERR = 71,
	CTL_IOERR = 74, CTL_TEMPFAIL = 75, CTL_NOPERM = 77, CTL_CONFIG = 78,
};

enum { CTL_MACROS_MAX = 64 };

struct conf;

struct ctl {
	struct arena arena;
	const char *conf_path;
	const char *macros[CTL_MACROS_MAX]; /* NAME=VALUE */
	unsigned n_macros;
	const char *run_directory;          /* as given; NULL: the configuration's */
	bool json;
	struct conf *conf;                  /* once ctl_conf() has read it */
	struct conf *conf_any;              /* ... ctl_conf_any() */
};

struct ctl_verb {
	const char *name, *arguments, *what;
	int (*fn)(struct ctl *ctl, int argc, char **argv); /* argv[0] is the verb */
};

extern const struct ctl_verb ctl_verbs[];           /* ended by a NULL name */
int ctl_verb_run(struct ctl *ctl, const struct ctl_verb *verbs, const char *program, int argc, char **argv);
void ctl_verbs_show(FILE *to, const struct ctl_verb *verbs, const char *program);

/* The configuration, read once; NULL after printing its errors. */
const struct conf *ctl_conf(struct ctl *ctl);
/* The same with its errors, if it has any; NULL: the usual file may not be read by who calls. Nothing is printed. */
const struct conf *ctl_conf_any(struct ctl *ctl);
const char *ctl_run_directory(struct ctl *ctl);
/* Where the daemons' executables are: next to the command in the build tree, else where they were installed. */
const char *ctl_libexec(struct ctl *ctl);

/* ---- talking to a running master ---- */
int ctl_connect(struct ctl *ctl, struct err *err);  /* the control socket, or -1 */
/* One question to master; the answer is in the arena. A descriptor that came with it goes to *fd_out (or is closed if NULL). */
enum status ctl_ask(struct ctl *ctl, const char *verb, const char *argument, struct ipc_cmd_answer *out, int *fd_out, int timeout_ms,
	struct err *err);

/* ---- printing ---- */
int ctl_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* "bulkhead: ..." on stderr; returns code */
void ctl_json_print(json_t *json);                  /* takes the reference */
json_t *ctl_json_str(struct str s);                 /* never NULL: octets that are no UTF-8 become U+FFFD */
const char *ctl_age(struct arena *a, int64_t seconds);    /* "25m", "3h", "2d" */
const char *ctl_size(struct arena *a, uint64_t octets);   /* "2.9K" */
const char *ctl_time(struct arena *a, int64_t wall);      /* "2026-11-21 07:44:02" */

/* ---- verbs, by file ---- */
int ctl_start(struct ctl *ctl, int argc, char **argv);
int ctl_stop(struct ctl *ctl, int argc, char **argv);
int ctl_reload(struct ctl *ctl, int argc, char **argv);
int ctl_restart(struct ctl *ctl, int argc, char **argv);
int ctl_status(struct ctl *ctl, int argc, char **argv);
int ctl_logs(struct ctl *ctl, int argc, char **argv);
int ctl_check_config(struct ctl *ctl, int argc, char **argv);
int ctl_config(struct ctl *ctl, int argc, char **argv);
int ctl_route(struct ctl *ctl, int argc, char **argv);
int ctl_tlsa(struct ctl *ctl, int argc, char **argv);
int ctl_expand(struct ctl *ctl, int argc, char **argv);
int ctl_session(struct ctl *ctl, int argc, char **argv);
int ctl_rewrite(struct ctl *ctl, int argc, char **argv);
int ctl_retry_rule(struct ctl *ctl, int argc, char **argv);
int ctl_queue(struct ctl *ctl, int argc, char **argv);
int ctl_mailq(struct ctl *ctl, int argc, char **argv);
int ctl_hints(struct ctl *ctl, int argc, char **argv);
int ctl_trace(struct ctl *ctl, int argc, char **argv);
int ctl_sendmail(struct ctl *ctl, int argc, char **argv);

#endif
