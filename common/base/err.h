/* SPDX-License-Identifier: ISC */
/* err.h - the four outcomes of every function that can fail, and the text that goes with them.
 * Used by:    everybody.
 * Owns:       nothing; struct err is the caller's, on its stack or in its object.
 * Errors:     the innermost function writes the text, each caller may put its place in front. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

/* ST_DEFER ("cannot know now") is never folded into ST_FAIL ("a definite no"): that is how mail gets lost. */
enum status {
	ST_OK = 0,
	ST_FAIL,  /* a definite no; in an expansion: forced failure */
	ST_DEFER, /* cannot know now; ask again later */
	ST_ERROR, /* somebody must repair something */
};

enum { ERR_TEXT_MAX = 512 };

struct err {
	enum status status;
	char text[ERR_TEXT_MAX]; /* zero-terminated, printable, cut with "..." if longer */
};

#define ERR_INIT { ST_OK, "" }

/* Sets status and text, returns status, so that a function may `return err_set(err, ST_DEFER, "...")`. err may be NULL. */
enum status err_set(struct err *err, enum status status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
enum status err_vset(struct err *err, enum status status, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
/* Puts "PREFIX: " in front of the text and returns the status unchanged. */
enum status err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *err);
const char *status_name(enum status status);

/* For what no input can cause. If a peer, a message or a file can reach it, it is a defect. */
#define bug_on(cond) do { if (__builtin_expect(!!(cond), 0)) bug_stop(__FILE__, __LINE__, #cond); } while (0)
_Noreturn void bug_stop(const char *file, int line, const char *what);

#endif
