/* SPDX-License-Identifier: ISC */
/* lookup_json.c - a file that holds one JSON value; the key is the way into it. Specification, section 9.3. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/lang/lang_list.h"
#include "router/lookup_drivers.h"

enum { JSON_FILE_MAX = 64 * 1024 * 1024 };

struct json_file {
	char *path;
	struct lookup_stamp stamp;
	json_t *root;
};

static void json_file_close(void *handle)
{
	struct json_file *f = handle;

	json_decref(f->root);
	mem_free(f->path);
	mem_free(f);
}

enum status lookup_json_parse(struct str text, void **handle_out, struct err *err)
{
	struct json_file *f;
	json_error_t why;
	json_t *root;

	if (text.len > JSON_FILE_MAX)
		return err_set(err, ST_DEFER, "more than %d octets", JSON_FILE_MAX);
	root = json_loadb(text.p ? text.p : "", text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (!root)
		return err_set(err, ST_DEFER, "line %d, column %d: %s", why.line, why.column, why.text);
	f = mem_new(sizeof *f);
	f->root = root;
	*handle_out = f;
	return ST_OK;
}

static enum status json_file_open(void *env, struct str file, void **handle_out, struct err *err)
{
	struct arena a = ARENA_INIT;
	struct lookup_stamp stamp;
	struct str text;
	enum status st = lookup_file_read(file, &a, &text, &stamp, err);

	(void)env;
	if (!st) {
		st = lookup_json_parse(text, handle_out, err);
		if (st)
			err_prefix(err, "json: %.*s", STR_FMT(file));
	}
	if (!st) {
		struct json_file *f = *handle_out;

		f->path = mem_memdup(file.p, file.len);
		f->stamp = stamp;
	}
	arena_clear(&a);
	return st;
}

static bool json_file_changed(void *handle)
{
	struct json_file *f = handle;

	return lookup_stamp_differs(f->path, &f->stamp);
}

/* One step: the number of an element of an array, the name of a member of an object. */
static const json_t *json_step(const json_t *at, struct str selector)
{
	uint64_t n;

	if (json_is_array(at))
		return str_u64(selector, UINT32_MAX, &n) ? json_array_get(at, (size_t)n) : NULL;
	return json_object_getn(at, selector.p ? selector.p : "", selector.len);
}

/* As text; false: too long. null is an empty text, as the expansion item "extract json" has it. */
static bool json_text(const json_t *v, struct arena *a, struct str *out)
{
	char *text = NULL;
	size_t n;

	switch (json_typeof(v)) {
	case JSON_STRING:
		n = json_string_length(v);
		if (n > LOOKUP_VALUE_MAX)
			return false;
		*out = str_make(arena_memdup(a, json_string_value(v), n), n);
		return true;
	case JSON_NULL:
		*out = STR_LIT("");
		return true;
	case JSON_TRUE: case JSON_FALSE: case JSON_INTEGER: case JSON_REAL: case JSON_OBJECT: case JSON_ARRAY:
		break;
	}
	text = json_dumps(v, JSON_ENCODE_ANY);
	if (!text || strlen(text) > LOOKUP_VALUE_MAX) {
		free(text);
		return false;
	}
	*out = str_of(arena_strdup(a, text));
	free(text);
	return true;
}

static enum status json_find(void *env, void *handle, struct str file, struct str key, struct str options, struct arena *a,
	struct lookup_result *out, struct err *err)
{
	const json_t *at = ((struct json_file *)handle)->root;
	struct lang_split split = LANG_SPLIT(key);
	struct str selector;

	(void)env, (void)options;
	out->ttl_s = LOOKUP_TTL_FILE;
	while (at && lang_split_next(&split, a, &selector))
		at = json_step(at, selector);
	if (!at)
		return ST_FAIL;
	return json_text(at, a, &out->value) ? ST_OK : err_set(err, ST_DEFER, "json: %.*s: a value of more than %d octets", STR_FMT(file), LOOKUP_VALUE_MAX);
}

const struct lookup_driver lookup_driver_json = { "json", json_file_open, json_file_changed, json_find, json_file_close, NULL };
