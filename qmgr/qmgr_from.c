/* SPDX-License-Identifier: ISC */
/* dsn_from: whom reports come from. The router expands it, once for each view of the configuration. */
#include "qmgr/qmgr.h"

enum { FROM_DEADLINE_MS = 60000 };

/* The two variables that the default names are known here. */
static void from_replace(struct buf *out, struct str text, const char *name, struct str value)
{
	struct str needle = str_of(name);
	ptrdiff_t at;

	while ((at = str_find_str(text, needle)) >= 0) {
		buf_add(out, text.p, (size_t)at);
		buf_add_str(out, value);
		text = str_from(text, (size_t)at + needle.len);
	}
	buf_add_str(out, text);
}

static void from_set(struct qmgr *q, struct str text)
{
	mem_free((char *)(uintptr_t)q->dsn_from.p);
	text = str_trim(text);
	q->dsn_from = str_make(mem_memdup(text.p ? text.p : "", text.len), text.len);
}

static void from_on_answer(void *arg, struct ipc_in *in, const struct err *err)
{
	struct qmgr *q = arg;
	const struct ipc_expand_answer *answer = in && in->type == &ipc_type_expand_answer ? in->msg : NULL;

	(void)err;
	if (answer && answer->status == ST_OK && answer->text.len && !str_has_ctl(answer->text))
		from_set(q, answer->text);
}

void report_view(struct qmgr *q)
{
	struct str text = q->set->dsn_from.len ? q->set->dsn_from : STR_LIT("Mail Delivery System <Mailer-Daemon@$qualify_domain>");
	struct buf one = BUF_INIT, two = BUF_INIT;
	struct ipc_expand_ask ask = { 0 };
	struct channel *ch = route_router(q);

	from_replace(&one, text, "$qualify_domain", q->set->qualify_domain);
	from_replace(&two, buf_str(&one), "$primary_hostname", q->set->host);
	if (str_find(buf_str(&two), '$') < 0) {
		from_set(q, buf_str(&two));
	} else {
		if (!q->dsn_from.len)
			from_set(q, str_printf(&q->set->arena, "Mail Delivery System <Mailer-Daemon@%.*s>", STR_FMT(q->set->qualify_domain)));
		ask.text = text;
		if (ch)
			channel_ask(ch, &ipc_type_expand_ask, &ask, NULL, 0, &ipc_type_expand_answer, FROM_DEADLINE_MS, from_on_answer, q);
	}
	buf_clear(&one);
	buf_clear(&two);
}
