/* SPDX-License-Identifier: ISC */
/* eval.h - the context of an evaluation: the facts, the variables, the limits. One for each ACL run, address or message.
 * Used by:    policyd, router, the command; expand.h, lang_list.h and acl.h work on it.
 * Owns:       regular expressions built from strangers' text, until eval_clear(). Facts, arena and message descriptor are
 *             lent by the caller; results go into the arena.
 * Errors:     a limit that is passed gives ST_ERROR. */
#ifndef LANG_EVAL_H
#define LANG_EVAL_H

#include "common/ipc/codec.h"
#include "common/ipc/enums.h"
#include "common/lang/lang.h"

enum {
	EVAL_NUMS = 21,                  /* $0 to $20 */
	EVAL_DEPTH_MAX = 60,             /* nested evaluations: expand, acl, lists in lists */
	EVAL_LENGTH_MAX = 1024 * 1024,   /* octets of one result */
	EVAL_STEPS_MAX = 2000000,        /* nodes evaluated and list items looked at in one context */
	EVAL_MEMORY_MAX = 256 * 1024 * 1024, /* octets that the context's arena may grow by */
	EVAL_LOOKUP_STEPS = 500,         /* what a lookup counts for */
	EVAL_HEADER_MAX = 1024 * 1024,   /* octets of a message's header that are read */
	EVAL_VARS_MAX = 512,             /* variables of one family (acl_c, acl_m, r_) */
};

enum eval_slot {
#define SLOT(name, what) EV_##name,
#include "common/lang/slots.def"
#undef SLOT
	EVAL_SLOTS
};

/* What an evaluation looked at: decides how long a result holds. */
enum eval_dep {
	DEP_CLIENT = 1,    /* the client's address or name */
	DEP_SESSION = 2,   /* anything else of the session or its message, our address and port too */
	DEP_TIME = 4,
	DEP_WORLD = 8,     /* a lookup, a file, the DNS, a random number */
};

/* Named values: acl_c..., acl_m..., r_... (names without that prefix, as in struct ipc_facts). */
struct eval_vars {
	struct ipc_pair *v;
	uint32_t n, room;
	bool changed;
};

struct header_cache;
struct regex_chain;
struct list_memo;
struct lookup_memo;
struct content_state;

struct eval {
	struct lang *lang;
	struct arena *arena;
	const struct ipc_facts *facts;       /* never NULL after eval_init(): empty facts */
	enum acl_stage stage;                /* 0 outside of ACLs */
	int message_fd;                      /* read-only, content from facts->offset on; -1: no message. Read with pread() only */
	uint64_t body_offset;                /* where the body begins; 0: facts->body_offset, or found by reading */
	const char *const *headers_add;      /* reserved for agents: unused when NULL */
	bool caseful_local_part;             /* for local part lists and $local_part */
	bool first_delivery, queue_running;
	bool trace;                          /* ACLs say in the log what they do */
	int64_t message_age_s;

	struct str slot[EVAL_SLOTS];         /* by eval_set() and eval_get() */
	struct str num[EVAL_NUMS];           /* $0 ... */
	int n_num;                           /* highest set + 1 */
	struct eval_vars acl_c, acl_m, r;    /* begin as the facts' */

	/* The client's name: looked up when first needed. */
	struct str client_name;
	struct ipc_strs client_aliases;
	bool name_looked, name_deferred;
	bool helo_verified;

	unsigned deps;                       /* enum eval_dep, gathered */
	uint32_t depth, steps;
	size_t memory_from;                  /* of the arena's octets when the work began */
	uint64_t flags, flags_off;           /* enum msg_flag set and unset by controls */
	struct ipc_edit *edits;              /* made by this run */
	uint32_t n_edits, edits_room;
	const struct ipc_pair *results;      /* made by this run: they come before those of the facts */
	uint32_t n_results;

	/* private */
	struct header_cache *headers;
	struct regex_chain *regexes;
	struct list_memo *memos;
	struct lookup_memo *lookups;
	uint32_t n_lookups;
	void *acl_state;                     /* of the ACL being run */
	struct content_state *content;       /* acl_content.h: the MIME part at hand, what scanners have said */
	const char *leave;                   /* variable that expand_leaving() leaves */
	uint32_t leave_depth;
};

void eval_init(struct eval *ev, struct lang *lang, struct arena *arena);
void eval_facts(struct eval *ev, const struct ipc_facts *facts);  /* takes variables, name and flags from them too */
void eval_clear(struct eval *ev);

static inline void eval_set(struct eval *ev, enum eval_slot slot, struct str value) { ev->slot[slot] = value; }
static inline struct str eval_get(const struct eval *ev, enum eval_slot slot) { return ev->slot[slot]; }
/* $local_part and $domain from an address: split at its last @, domain in lower case; original_* when they are empty. */
void eval_set_address(struct eval *ev, struct str address);

/* A variable of a family; absent: STR_NULL and false. */
bool eval_var_get(const struct eval_vars *vars, struct str name, struct str *value_out);
/* ST_ERROR beyond EVAL_VARS_MAX. Name and value are lent: they must live as long as the context's arena. */
enum status eval_var_set(struct eval *ev, struct eval_vars *vars, struct str name, struct str value, struct err *err);

/* A result of a check, of this run or of an earlier one ($spf_result and its kin); absent: STR_NULL. */
struct str eval_result(const struct eval *ev, const char *name);

/* The client's verified name, looked up on demand: ST_FAIL when it has none. */
enum status eval_client_name(struct eval *ev, struct err *err);

/* Other work begins: its steps and octets count from here. */
void eval_work_begin(struct eval *ev);
/* Counts work; ST_ERROR when there was too much of it. */
enum status eval_step(struct eval *ev, uint32_t steps, struct err *err);

#endif
