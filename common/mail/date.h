/* SPDX-License-Identifier: ISC */
/* date.h - dates in header fields.
 * Used by:    Received: and Date: fields, reports, $tod_full, header checks.
 * Owns:       nothing.
 * Errors:     false when the text is no date.
 * Standards:  RFC 5322 section 3.3 and, when parsing, the obsolete forms of section 4.3. */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

enum { DATE_TEXT = 48 };
/* "Sat, 21 Nov 2026 08:30:00 +0000", zero-terminated; local time unless utc; returns the length. */
size_t date_format(char out[DATE_TEXT], int64_t wall_s, bool utc);
bool date_parse(struct str text, int64_t *wall_s_out);
/* Seconds since 1970 of a UTC date and time: any year from 1 to 9999, month 1-12. */
int64_t date_from_civil(int64_t year, unsigned month, unsigned day, unsigned hour, unsigned minute, unsigned second);

#endif
