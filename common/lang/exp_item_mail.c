/* SPDX-License-Identifier: ISC */
/* Items and conditions on addresses and folders: srs_encode, inbound_srs, imapfolder. */
#include "common/lang/expand_tree.h"

#include "common/base/clock.h"
#include "common/lang/exp_text.h"
#include "common/mail/srs.h"

enum { DAY_S = 86400 };

static enum status item_srs_encode(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	(void)call;
	ev->deps |= DEP_TIME;
	if (srs_native_encode(ev->arena, args[0], args[1], args[2], clock_wall() / DAY_S, &out->text, err))
		return err_prefix(err, "srs_encode");
	return ST_OK;
}

static enum status cond_inbound_srs(struct eval *ev, const struct cond *c, const struct str *args, bool *yes, struct err *err)
{
	struct err why = ERR_INIT;
	struct str address;
	enum status st = srs_native_decode(ev->arena, args[1], args[0], clock_wall() / DAY_S, &address, &why);

	(void)c;
	ev->deps |= DEP_TIME;
	*yes = st == ST_OK;
	if (*yes)
		ev->slot[EV_srs_recipient] = address;
	return st == ST_ERROR ? err_set(err, ST_ERROR, "inbound_srs: %s", why.text) : ST_OK;
}

/* ---- imapfolder: modified UTF-7 of RFC 3501 section 5.1.3, "/" or the separator given becomes "." ---- */

/* A run of what is not plain: UTF-16 in base64, without padding, "," for "/". */
static void utf7_run_end(struct eval *ev, struct buf *run, struct buf *b)
{
	struct str s;

	if (!run->len)
		return;
	s = text_base64(ev->arena, buf_str(run));
	buf_addc(b, '&');
	for (uint32_t i = 0; i < s.len && s.p[i] != '='; i++)
		buf_addc(b, s.p[i] == '/' ? ',' : s.p[i]);
	buf_addc(b, '-');
	buf_reset(run);
}

static void utf16_add(struct buf *run, uint32_t code)
{
	if (code >= 0x10000) {
		code -= 0x10000;
		utf16_add(run, 0xd800 + (code >> 10));
		code = 0xdc00 + (code & 0x3ff);
	}
	buf_addc(run, (char)(code >> 8));
	buf_addc(run, (char)code);
}

static enum status folder_encode(struct eval *ev, struct str s, char sep, struct str specials, struct buf *b, struct buf *run, struct err *err)
{
	for (uint32_t i = 0; i < s.len;) {
		uint32_t code, n = text_utf8(str_from(s, i), &code);
		char c = s.p[i];

		if (!n)
			return err_set(err, ST_ERROR, "imapfolder: the name is not valid UTF-8");
		i += n;
		if (c != sep && (code < ' ' || code > '~' || str_find(specials, c) >= 0)) {
			utf16_add(run, code);
			continue;
		}
		utf7_run_end(ev, run, b);
		if (c == sep)
			buf_addc(b, '.');
		else if (c == '.' || c == '/')
			return err_set(err, ST_ERROR, "imapfolder: illegal character '%c'", c);
		else if (c == '&')
			buf_adds(b, "&-");
		else
			buf_addc(b, c);
	}
	utf7_run_end(ev, run, b);
	return ST_OK;
}

static enum status item_imapfolder(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX), run = BUF_LIMIT(EVAL_LENGTH_MAX);
	enum status st;

	if (call->n > 1 && args[1].len != 1)
		return err_set(err, ST_ERROR, "imapfolder: the separator must be one character, not \"%.*s\"", STR_FMT(expand_quote(ev, args[1])));
	st = folder_encode(ev, args[0], call->n > 1 ? args[1].p[0] : '/', args[2], &b, &run, err);
	if (!st && (b.full || run.full))
		st = err_set(err, ST_ERROR, "imapfolder: longer than %d octets", EVAL_LENGTH_MAX);
	if (!st) {
		out->text = str_dup(ev->arena, buf_str(&b));
		out->text.tainted = args[0].tainted;
	}
	buf_clear(&b);
	buf_clear(&run);
	return st;
}

const struct item_row exp_items_mail[] = {
	{ "imapfolder", 1, 3, 0, item_imapfolder, NULL,
		"the name of an IMAP folder as Maildir servers write it: modified UTF-7, \".\" between levels",
		.usage = "{name}{separator}{specials}" },
	{ "srs_encode", 3, 3, 0, item_srs_encode, NULL,
		"an envelope sender rewritten for forwarding (SRS, in the form of native Exim), good for ten days; empty for an empty one",
		.usage = "{secret}{return path}{domain}" },
	{ NULL }
};

const struct cond_row exp_conds_mail[] = {
	{ "inbound_srs", COND_ARGS, 2, cond_inbound_srs, 0, false,
		"the local part is an SRS address made with the secret and not too old (with an empty secret: well-formed); sets $srs_recipient" },
	{ NULL }
};
