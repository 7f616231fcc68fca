/* SPDX-License-Identifier: ISC */
/* slowing.h - smtp_ratelimit_mail and smtp_ratelimit_rcpt: "2,0.5s,1.05,4m", a client that is slowed down more and more.
 * Used by:    the check of a configuration, smtpd.
 * Owns:       nothing.
 * Errors:     ST_ERROR with what would be right. */
#ifndef CONF_SLOWING_H
#define CONF_SLOWING_H

#include "common/base/err.h"
#include "common/base/str.h"

struct conf_slowing {
	uint32_t after;       /* commands that are not slowed down */
	double first_ms;      /* delay of the first that is */
	double factor;        /* each further one */
	double max_ms;        /* at most an hour */
	bool on;
};

enum status conf_slowing_parse(struct str text, struct conf_slowing *out, struct err *err); /* empty: off */
/* Milliseconds by which the nth command (from 1) is delayed. */
uint32_t conf_slowing_delay(const struct conf_slowing *s, uint32_t n);

#endif
