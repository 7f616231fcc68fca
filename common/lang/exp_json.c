/* SPDX-License-Identifier: ISC */
/* JSON for extract and forany_json: jansson reads it, strictly; results are texts again. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/lang/exp_text.h"

enum { JSON_TEXT_MAX = 1024 * 1024 /* octets read; nesting is bounded by jansson itself */ };

static json_t *json_read(struct str text, struct err *err)
{
	json_error_t why;
	json_t *root;

	if (text.len > JSON_TEXT_MAX) {
		err_set(err, ST_ERROR, "JSON longer than %d octets", JSON_TEXT_MAX);
		return NULL;
	}
	root = json_loadb(text.p ? text.p : "", text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (!root)
		err_set(err, ST_ERROR, "not JSON: %s at octet %d", why.text, why.position);
	return root;
}

static struct str json_text(struct eval *ev, const json_t *value, bool bare, bool tainted)
{
	struct str out = STR_NULL;
	char *p;

	if (bare && json_is_string(value)) {
		out = str_make(arena_memdup(ev->arena, json_string_value(value), json_string_length(value)), json_string_length(value));
	} else {
		p = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		if (p)
			out = str_dup(ev->arena, str_of(p));
		free(p);
	}
	out.tainted = tainted;
	return out;
}

enum status text_json(struct eval *ev, struct str text, struct str key, const int64_t *number, bool bare, struct str *out, bool *found, struct err *err)
{
	json_t *root = json_read(text, err), *value = NULL;

	*found = false;
	if (!root)
		return ST_ERROR;
	if (number ? *number < 1 : !json_is_object(root)) {
		json_decref(root);
		return number ? err_set(err, ST_ERROR, "elements of a JSON array are counted from 1") : err_set(err, ST_ERROR, "a JSON object expected");
	}
	if (number) {
		value = json_array_get(root, (size_t)*number - 1);
	} else if (!memchr(key.p, 0, key.len)) {
		value = json_object_get(root, str_cstr(ev->arena, key));
	}
	if (value) {
		*found = true;
		*out = json_text(ev, value, bare, text.tainted);
	}
	json_decref(root);
	return ST_OK;
}

enum status text_json_each(struct eval *ev, struct str text, bool bare, bool (*fn)(void *arg, struct str element), void *arg, struct err *err)
{
	json_t *root = json_read(text, err);
	enum status st = ST_OK;

	if (!root)
		return ST_ERROR;
	if (!json_is_array(root))
		st = err_set(err, ST_ERROR, "a JSON array expected");
	for (size_t i = 0; !st && i < json_array_size(root); i++)
		if (!fn(arg, json_text(ev, json_array_get(root, i), bare, text.tainted)))
			break;
	json_decref(root);
	return st;
}
