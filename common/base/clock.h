/* SPDX-License-Identifier: ISC */
/* clock.h - what time it is.
 * Used by:    everybody; protocol cores get the time as an argument instead.
 * Errors:     none. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_ms(void);       /* monotonic, milliseconds: for deadlines and intervals */
uint64_t clock_us(void);       /* monotonic, microseconds */
int64_t clock_wall_us(void);   /* microseconds since 1970: for stamps that outlive the process */
int64_t clock_wall(void);      /* seconds since 1970 */

enum { CLOCK_TEXT = 64 };
/* "2026-11-21 07:44:02" (".123" behind it with millisec, " +0000" with zone), local time unless utc; writes at most CLOCK_TEXT, returns the length. */
size_t clock_log_format(char *out, int64_t wall_us, int millisec, int zone, int utc);

#endif
