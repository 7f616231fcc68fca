/* SPDX-License-Identifier: ISC */
/* exp_text.h - work on texts that items and operators share. Inside of the expander. */
#ifndef LANG_EXP_TEXT_H
#define LANG_EXP_TEXT_H

#include "common/lang/eval.h"

struct str text_substr(struct str s, int64_t start, int64_t len, bool has_len);
enum status text_hash(struct eval *ev, struct str s, int64_t len, int64_t chars, struct str *out, struct err *err);
enum status text_nhash(struct eval *ev, struct str s, int64_t n, int64_t m /* -1: one number */, struct str *out, struct err *err);
/* The numbered field between separators, from 1, from the end when negative; 0: all. */
bool text_field(struct str text, struct str seps, int64_t number, struct str *out);
/* "key = value key=\"quoted value\"": caseless. */
bool text_keyed(struct eval *ev, struct str text, struct str key, struct str *out);
/* A member of a JSON object by key, or an element of an array by number (from 1); bare: strings without their quotes. */
enum status text_json(struct eval *ev, struct str text, struct str key, const int64_t *number, bool bare, struct str *out, bool *found, struct err *err);
/* Calls fn for each element of a JSON array until it returns false. */
enum status text_json_each(struct eval *ev, struct str text, bool bare, bool (*fn)(void *arg, struct str element), void *arg, struct err *err);
/* Length of the valid UTF-8 sequence at the start of a text that is not empty, 0 if there is none; *code_out its number. */
uint32_t text_utf8(struct str s, uint32_t *code_out);
struct str text_base64(struct arena *a, struct str s);
bool text_base64_decode(struct arena *a, struct str s, struct str *out);
struct str text_hex(struct arena *a, const unsigned char *p, size_t n, bool upper);

#endif
