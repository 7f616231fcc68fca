/* SPDX-License-Identifier: ISC */
/* lang.h - the language: what all its evaluations stand on. One struct lang for each worker and configuration.
 * Used by:    policyd, router (which evaluate), the command and master (which check).
 * Owns:       all that was compiled with it, in its arena, until lang_free(); the configuration is lent and must outlive it.
 *             Caches of regular expressions and of texts met at run time, bounded.
 * Invariant:  no globals: two struct lang know nothing of each other. One is used by one thread at a time.
 * Errors:     compiling gives ST_ERROR with "column N: what". Services give the four outcomes; ST_DEFER stays ST_DEFER.
 *
 *     struct lang *lang = lang_new(conf, &services);
 *     lang_compile(lang, option.text, option.place, &x, &err);             once, at load
 *     eval_init(&ev, lang, &arena); ev.facts = facts; ...                  for each message, address or ACL run (eval.h)
 *     status = expand(&ev, x, &text, &err);                                as often as needed (expand.h)
 *     eval_clear(&ev);
 */
#ifndef LANG_LANG_H
#define LANG_LANG_H

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/conf/conf.h"
#include "common/conf/read.h"
#include "common/ipc/codec.h"

enum {
	LANG_FILE_MAX = 4 * 1024 * 1024,  /* octets of a file named in a list, by readfile, or holding an ACL */
	LANG_TEXTS_MAX = 1024,            /* texts compiled at run time that are kept */
	LANG_REGEX_MAX = 1024,            /* regular expressions that are kept */
};

struct lang;
struct eval;
struct expansion;   /* expand.h */
struct lang_list;   /* lang_list.h */
struct acl;         /* acl.h */

struct lang_file {
	struct str content;     /* untainted; in the arena */
};

/* malware, spam: the message shown to a scanner. */
struct lang_scan {
	bool spam;              /* else malware */
	struct str servers;     /* av_scanner or spamd_address, expanded */
	struct str user;        /* spam */
	uint64_t timeout_ms;    /* 0: the server's own, or SCAN_TIMEOUT_MS */
	struct eval *ev;        /* whose message it is */
};

struct lang_scan_answer {
	bool found;             /* malware; or the score reaches the threshold */
	struct str name;        /* of the malware */
	struct str score, action, report; /* spam: "3.4"; may be empty */
	int64_t score_int;      /* score times ten */
	struct str address;     /* which was asked */
};

/* What evaluation needs of the world. A NULL function: ST_ERROR "not available here" (false for ip_is_local). Answers go into the arena. */
struct lang_services {
	void *ctx;
	enum status (*lookup)(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err);
	/* The verified names of an address: ST_FAIL when it has none. */
	enum status (*name)(void *ctx, struct arena *a, struct str ip, struct ipc_name_answer *out, struct err *err);
	/* Addresses of a name (type "A") or hosts of a domain (type "MX", group is the preference): ST_FAIL when there are none. */
	enum status (*host)(void *ctx, struct arena *a, struct str name, const char *type, struct ipc_host_answer *out, struct err *err);
	enum status (*verify)(void *ctx, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out, struct err *err);
	/* An absolute path, untainted, whole: ST_FAIL when there is no such file. lang_file_read() reads it from this process' disk. */
	enum status (*file)(void *ctx, struct arena *a, struct str path, struct lang_file *out, struct err *err);
	/* "mode=0644 smode=-rw-r--r-- inode=...": as the stat operator gives it. lang_file_stat() asks this process' disk. */
	enum status (*stat)(void *ctx, struct arena *a, struct str path, struct str *out, struct err *err);
	bool (*ip_is_local)(void *ctx, struct str ip);                       /* an address of one of our interfaces */
	void (*log)(void *ctx, unsigned targets, struct str text);           /* enum log_target; logwrite and warnings of ACLs */
	/* ratelimit, seen: one operation on the hints. ST_DEFER: they are out of reach. */
	enum status (*hint)(void *ctx, struct arena *a, const struct ipc_hint_ask *ask, struct ipc_hint_answer *out, struct err *err);
	/* ST_OK: the scanner has given an answer; else it has not, and why. out->address is set as soon as one was connected to. */
	enum status (*scan)(void *ctx, struct arena *a, const struct lang_scan *ask, struct lang_scan_answer *out, struct err *err);
	/* ${run}: a program of run_commands, under run_user. ST_OK: there is an answer, which says how it ended. */
	enum status (*run)(void *ctx, struct arena *a, const struct ipc_program_ask *ask, struct ipc_program_answer *out, struct err *err);
};

struct lang *lang_new(const struct conf *conf /* NULL: no named lists, no ACLs */, const struct lang_services *services /* copied; NULL: none */);
void lang_free(struct lang *lang);
const struct conf *lang_conf(const struct lang *lang);
const struct lang_services *lang_services(const struct lang *lang);
struct arena *lang_arena(struct lang *lang);

/* Compiles all named lists and ACLs, for a worker's start; the first error. Without it they are compiled when first used. */
enum status lang_load(struct lang *lang, struct err *err);
/* Is the path one of these directories (or files), or below one? Such an option is a list. */
bool lang_path_covered(struct str directories, struct str path, struct arena *a);
/* For conf_check(): every expanded option, list, ACL and rule is compiled, problems are added to the configuration. */
void lang_checks(struct lang *lang, struct conf_checks *out);

/* Names of items, operators, conditions, variables, ACL conditions and controls, for conf_source.families; in the arena. */
const struct conf_macro_family *lang_macro_families(struct arena *a);

/* The text of a main option that is known at start: primary_hostname, qualify_domain ... */
struct str lang_primary_hostname(const struct lang *lang);
struct str lang_qualify_domain(const struct lang *lang);
struct str lang_qualify_recipient(const struct lang *lang);

/* Services over this process' own files, for those daemons that have some: for lang_services.file and .stat. ctx is not used. */
enum status lang_file_read(void *ctx, struct arena *a, struct str path, struct lang_file *out, struct err *err);
enum status lang_file_stat(void *ctx, struct arena *a, struct str path, struct str *out, struct err *err);

#endif
