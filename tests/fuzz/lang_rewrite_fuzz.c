/* SPDX-License-Identifier: ISC */
/* Rewriting rules on strangers' addresses: the argument of MAIL or RCPT, envelope addresses, and a whole header. What comes out of a field
 * must be one field still. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/conf/read.h"
#include "common/lang/rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char rules[] =
	"primary_hostname = mx.example\nbegin rewrite\n"
	"*@*.old.example  $1@$2.new.example\n"
	"*@loop.example  x$1@loop.example R\n"
	"\\N^(?i)([a-z]+)\\.([a-z]+)@names\\.example$\\N  \"${quote_local_part:$2 $1}@names.example\"\n"
	"*@empty.example  \"\" F\n"
	"*@bad.example  no_address\n"
	"*@stop.example  ${sg{$1}{\\\\W}{}}@stopped.example q\n"
	"*@whole.example  \"${rfc2047:$1 \\xc3\\xa4} <$1@w.example>\" hw\n"
	"*@fail.example  \"${if eq{$1}{a}{a@b.example}fail}\"\n"
	"*  ${lc:$0} ET\n"
	"\\N^<.*!(.*)>$\\N  $1@bang.example SEFTsfctbr\n";

static void field_check(struct str field)
{
	for (uint32_t i = 0; i + 1 < field.len; i++)
		bug_on(field.p[i] == '\n' && field.p[i + 1] != ' ' && field.p[i + 1] != '\t');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum rewrite_kind kinds[] = { REWRITE_ENV_FROM, REWRITE_ENV_TO, REWRITE_SMTP_FROM, REWRITE_SMTP_TO, REWRITE_FROM, REWRITE_REPLY_TO };
	static struct conf *conf;
	static struct lang *lang;
	const struct rewrite *compiled;
	struct arena a = ARENA_INIT;
	struct err err = ERR_INIT;
	struct str text, item;
	struct ipc_edit *edits;
	struct eval ev;
	uint32_t n = 0;

	if (!lang) {
		const struct conf_source source = { .path = "fuzz", .text = rules, .text_len = sizeof rules - 1, .isolated = true };

		bug_on(conf_read(&source, &conf) != ST_OK);
		lang = lang_new(conf, NULL);
	}
	if (size < 2 || size > 1 << 16)
		return 0;
	bug_on(rewrite_rules(lang, &compiled, &err) != ST_OK);
	text = str_taint(str_make((const char *)data + 1, size - 1));
	eval_init(&ev, lang, &a);
	switch (data[0] % 7) {
	case 0: case 1:
		rewrite_address(&ev, kinds[data[0] % 7], text);
		break;
	case 2: case 3:
		rewrite_smtp(&ev, kinds[data[0] % 7], text);
		break;
	case 4: case 5:
		rewrite_item(&ev, compiled, kinds[data[0] % 7], text, STR_LIT("q.example"), &item);
		break;
	default:
		edits = rewrite_headers(&ev, compiled, text, data[0] & 64, data[0] & 128, &n);
		for (uint32_t i = 0; i < n; i++)
			field_check(str_from(edits[i].text, (size_t)(str_find(edits[i].text, ' ') + 1)));
	}
	eval_clear(&ev);
	arena_clear(&a);
	return 0;
}
