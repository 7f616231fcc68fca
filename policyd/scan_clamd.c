/* SPDX-License-Identifier: ISC */
/* clamd: zINSTREAM, the content in chunks, an answer that ends in NUL: "stream: OK", "stream: NAME FOUND" or "... ERROR". */
#include "policyd/scan.h"

enum status scan_clamd_read(struct str text, struct lang_scan_answer *out, struct err *err)
{
	ptrdiff_t colon;
	struct str rest;

	text = str_trim(text);
	colon = str_find(text, ':');
	rest = colon < 0 ? text : str_trim(str_from(text, (size_t)colon + 1));
	if (colon >= 0 && str_is(rest, "OK"))
		return ST_OK;
	if (colon >= 0 && str_ends(rest, " FOUND")) {
		out->name = str_trim(str_sub(rest, 0, rest.len - 6)); /* not empty: rest has no blank at its beginning */
		out->found = true;
		return ST_OK;
	}
	return err_set(err, ST_DEFER, "malformed result \"%.*s\"", STR_FMT(str_sub(text, 0, 200)));
}

enum status scan_clamd(struct scan_talk *t, struct lang_scan_answer *out, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct str text;
	enum status st = scan_send(t, str_make("zINSTREAM", sizeof "zINSTREAM"), err);

	if (!st)
		st = scan_send_content(t, true, err);
	/* One that has had enough says so before it closes. */
	if (st == ST_FAIL && scan_read_all(t, true, &text, &ignored) == ST_OK)
		st = ST_OK;
	else if (!st)
		st = scan_read_all(t, true, &text, err);
	return st ? st : scan_clamd_read(text, out, err);
}
