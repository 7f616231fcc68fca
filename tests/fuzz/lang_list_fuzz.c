/* SPDX-License-Identifier: ISC */
/* Lists of every kind: the text as written, and as content of a file that a list names, matched with what stands behind the first NUL. */
#include <stdint.h>
#include <string.h>

#include "common/lang/lang_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status lookup(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err)
{
	const struct str *s = ctx;

	(void)a;
	(void)err;
	out->value = *s;
	out->matched = ask->key;
	return s->len % 5 ? ST_OK : ST_FAIL;
}

static enum status file(void *ctx, struct arena *a, struct str path, struct lang_file *out, struct err *err)
{
	const struct str *s = ctx;

	(void)a;
	(void)path;
	(void)err;
	out->content = *s;
	return ST_OK;
}

static enum status host(void *ctx, struct arena *a, struct str name, const char *type, struct ipc_host_answer *out, struct err *err)
{
	(void)ctx;
	(void)type;
	out->hosts = arena_alloc(a, sizeof *out->hosts);
	out->hosts[0].name = name;
	out->hosts[0].ip = STR_LIT("192.0.2.1");
	out->n_hosts = 1;
	return name.len % 3 ? ST_OK : err_set(err, ST_FAIL, "none");
}

static void match(struct lang *lang, struct arena *a, enum lang_list_kind kind, struct str list_text, struct str subject_text)
{
	struct list_subject subject = { .text = str_taint(subject_text), .no_client = true };
	struct lang_list_match m;
	struct err err = ERR_INIT;
	struct lang_list *list;
	struct eval ev;

	if (lang_list_build(lang, a, kind, list_text, false, &list, &err))
		return;
	eval_init(&ev, lang, a);
	lang_list_match(&ev, list, &subject, &m, &err);
	eval_clear(&ev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = ARENA_INIT;
	struct str text = { (const char *)data, (uint32_t)size, false }, subject;
	struct lang_services services = { .ctx = &text, .lookup = lookup, .file = file, .host = host };
	struct lang *lang;
	ptrdiff_t zero;

	if (size > 4096)
		return 0;
	zero = str_find(text, '\0');
	subject = zero < 0 ? text : str_from(text, (size_t)zero + 1);
	if (zero >= 0)
		text.len = (uint32_t)zero;
	lang = lang_new(NULL, &services);
	for (int kind = 0; kind < LANG_LIST_KINDS; kind++) {
		match(lang, &arena, (enum lang_list_kind)kind, text, subject);
		match(lang, &arena, (enum lang_list_kind)kind, STR_LIT("/file : !@@lsearch;/x"), subject);
		arena_reset(&arena);
	}
	lang_free(lang);
	arena_clear(&arena);
	return 0;
}
