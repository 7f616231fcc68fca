/* SPDX-License-Identifier: ISC */
#include "common/mail/delivery.h"

#include "common/mail/date.h"

enum { ENVELOPE_TO_MAX = 512 }; /* addresses named */

static void address_add(struct buf *b, struct str addr)
{
	for (uint32_t i = 0; i < addr.len; i++) {
		unsigned char ch = (unsigned char)addr.p[i];

		buf_addc(b, ch < ' ' || ch == 0x7f ? '?' : (char)ch);
	}
}

static struct str field_take(struct arena *a, struct buf *b)
{
	struct str s;

	buf_adds(b, "\r\n");
	s = str_dup(a, buf_str(b));
	buf_reset(b);
	return s;
}

uint32_t delivery_fields_make(const struct delivery_fields *f, struct arena *a, struct str out[DELIVERY_FIELDS_MAX])
{
	struct buf b = BUF_INIT;
	uint32_t n = 0;

	if (f->return_path) {
		buf_adds(&b, "Return-path: <");
		address_add(&b, f->sender);
		buf_addc(&b, '>');
		out[n++] = field_take(a, &b);
	}
	if (f->envelope_to && f->n_recipients) {
		buf_adds(&b, "Envelope-to: ");
		for (uint32_t i = 0; i < f->n_recipients && i < ENVELOPE_TO_MAX; i++) {
			const struct ipc_recipient *r = &f->recipients[i];

			if (i)
				buf_adds(&b, ",\r\n ");
			address_add(&b, r->parent.len ? r->parent : r->addr);
		}
		out[n++] = field_take(a, &b);
	}
	if (f->delivery_date) {
		char date[DATE_TEXT];
		size_t len = date_format(date, f->now_s, false);

		buf_adds(&b, "Delivery-date: ");
		buf_add(&b, date, len);
		out[n++] = field_take(a, &b);
	}
	buf_clear(&b);
	return n;
}
