/* SPDX-License-Identifier: ISC */
#include "local/local_text.h"

#include <string.h>

void local_text_init(struct local_text *t, struct str check, struct str escape, bool crlf)
{
	*t = (struct local_text){ .check = str_sub(check, 0, LOCAL_CHECK_MAX), .escape = escape, .crlf = crlf, .bol = true };
}

/* A run of octets of one line, line ends as in the store. */
static void text_out(struct local_text *t, const char *p, size_t n, struct buf *out)
{
	while (n && t->bol && t->check.len) {
		if (*p != t->check.p[t->held]) {
			buf_add(out, t->check.p, t->held);
			t->held = 0;
			t->bol = false;
			break;
		}
		p++;
		n--;
		if (++t->held == t->check.len) {
			buf_add_str(out, t->escape);
			t->held = 0;
			t->bol = t->check.p[t->check.len - 1] == '\n';
			break;
		}
	}
	if (!n)
		return;
	buf_add(out, p, n);
	t->bol = p[n - 1] == '\n';
}

static void line_end(struct local_text *t, struct buf *out)
{
	if (t->crlf)
		text_out(t, "\r\n", 2, out);
	else
		text_out(t, "\n", 1, out);
}

void local_text_add(struct local_text *t, const char *p, size_t n, struct buf *out)
{
	const char *end = p + n;

	if (!n)
		return;
	if (t->cr) {
		t->cr = false;
		if (*p != '\n')
			text_out(t, "\r", 1, out);
	}
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		const char *stop = lf ? lf : end;

		if (stop > p && stop[-1] == '\r') {
			text_out(t, p, (size_t)(stop - 1 - p), out);
			t->cr = !lf;
		} else {
			text_out(t, p, (size_t)(stop - p), out);
		}
		if (lf)
			line_end(t, out);
		p = lf ? lf + 1 : end;
	}
}

void local_text_end(struct local_text *t, struct buf *out)
{
	bool open = !t->bol || t->held || t->cr;

	if (t->held)
		buf_add(out, t->check.p, t->held);
	t->held = 0;
	t->bol = !open;
	if (open) { /* a CR at the very end is the first half of a line end */
		buf_adds(out, t->crlf ? "\r\n" : "\n");
		t->bol = true;
	}
	t->cr = false;
}
