/* SPDX-License-Identifier: ISC */
#include "common/mail/mime.h"

#include <string.h>

#include "common/mail/base64.h"

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* CR LF as LF; a CR that stands alone stays. */
static size_t plain_octet(struct mime_decoder *d, char c, char *out)
{
	size_t n = 0;

	if (d->cr && c != '\n')
		out[n++] = '\r';
	d->cr = c == '\r';
	if (c != '\r')
		out[n++] = c;
	return n;
}

static size_t qp_held_out(struct mime_decoder *d, char *out)
{
	size_t n = d->n_held;

	memcpy(out, d->held, n);
	d->n_held = 0;
	d->broken = true;
	return n;
}

static size_t qp_octet(struct mime_decoder *d, char c, char *out)
{
	size_t n = 0;

	if (d->soft) { /* blanks between = and the line end */
		if (c == '\n')
			d->soft = false;
		if (c == '\n' || c == '\r' || c == ' ' || c == '\t')
			return 0;
		d->soft = false;
		d->broken = true;
		out[n++] = '=';
		return n + qp_octet(d, c, out + n);
	}
	if (!d->n_held) {
		if (c != '=')
			return plain_octet(d, c, out);
		if (d->cr)
			out[n++] = '\r';
		d->cr = false;
		d->held[0] = '=';
		d->n_held = 1;
		return n;
	}
	if (d->n_held == 1 && (c == '\n' || c == '\r' || c == ' ' || c == '\t')) {
		d->n_held = 0;
		d->soft = c != '\n';
		return 0;
	}
	if (d->n_held == 1 && hex_value(c) >= 0) {
		d->held[d->n_held++] = c;
		return 0;
	}
	if (d->n_held == 2 && hex_value(c) >= 0) {
		d->n_held = 0;
		out[0] = (char)(hex_value(d->held[1]) << 4 | hex_value(c));
		return 1;
	}
	n = qp_held_out(d, out);
	return n + qp_octet(d, c, out + n);
}

static size_t base64_octet(struct mime_decoder *d, char c, char *out)
{
	int v = base64_value(c);

	if (c == '=') {
		if (!d->padded && d->n_bits != 2 && d->n_bits != 4)
			d->broken = true;
		d->padded = true;
		d->n_bits = 0;
		return 0;
	}
	if (v < 0) {
		if (c != '\r' && c != '\n')
			d->broken = true;
		return 0;
	}
	d->padded = false; /* more behind a padding: begun anew, as for texts put together */
	d->bits = d->bits << 6 | (uint32_t)v;
	d->n_bits += 6;
	if (d->n_bits < 8)
		return 0;
	d->n_bits -= 8;
	out[0] = (char)(d->bits >> d->n_bits);
	return 1;
}

size_t mime_decode(struct mime_decoder *d, const char *p, size_t n, char *out)
{
	size_t made = 0;

	for (size_t i = 0; i < n; i++)
		switch (d->encoding) {
		case MIME_IDENTITY:
			made += plain_octet(d, p[i], out + made);
			break;
		case MIME_BASE64:
			made += base64_octet(d, p[i], out + made);
			break;
		case MIME_QUOTED_PRINTABLE:
			made += qp_octet(d, p[i], out + made);
			break;
		}
	return made;
}

size_t mime_decode_end(struct mime_decoder *d, char *out)
{
	size_t n = 0;

	if (d->encoding == MIME_BASE64 && d->n_bits)
		d->broken = true;
	if (d->n_held)
		n = qp_held_out(d, out);
	if (d->cr)
		out[n++] = '\r';
	d->cr = false;
	return n;
}
