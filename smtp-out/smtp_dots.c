/* SPDX-License-Identifier: ISC */
#include "smtp-out/smtp_dots.h"

#include <string.h>

static void crlf_add(struct smtp_dots *d, struct buf *out)
{
	buf_add(out, "\r\n", 2);
	d->bol = true;
}

void smtp_dots_add(struct smtp_dots *d, const char *p, size_t n, struct buf *out)
{
	const char *end = p + n, *span = p; /* [span, p) is as it should be and not yet copied */
	const char *lf = NULL;

	if (!n)
		return;
	if (d->cr) {
		d->cr = false;
		crlf_add(d, out);
		if (*p == '\n')
			span = ++p;
	}
	while (p < end) {
		const char *stop, *cr;

		if (d->bol && *p == '.' && !d->plain) {
			buf_add(out, span, (size_t)(p - span));
			buf_addc(out, '.');
			span = p;
		}
		if (!lf || lf < p)
			lf = memchr(p, '\n', (size_t)(end - p));
		stop = lf ? lf : end;
		cr = memchr(p, '\r', (size_t)(stop - p));
		if (!lf)
			lf = end; /* there is no further one: don't look again */
		if (cr && cr + 1 == stop && stop < end) { /* a line as it should be */
			p = stop + 1;
			d->bol = true;
			continue;
		}
		if (cr && cr + 1 == end) {
			buf_add(out, span, (size_t)(cr - span));
			d->cr = true;
			d->bol = false;
			return;
		}
		if (!cr && stop == end) {
			d->bol = false;
			p = end;
			break;
		}
		if (!cr)
			cr = stop; /* a bare LF; else a bare CR */
		buf_add(out, span, (size_t)(cr - span));
		crlf_add(d, out);
		span = p = cr + 1;
	}
	buf_add(out, span, (size_t)(p - span));
}

void smtp_dots_end(struct smtp_dots *d, struct buf *out)
{
	if (d->cr || !d->bol)
		crlf_add(d, out);
	d->cr = false;
	if (!d->plain)
		buf_add(out, ".\r\n", 3);
}
