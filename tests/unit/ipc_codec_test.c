/* SPDX-License-Identifier: ISC */
/* Every message and part of messages.def: filled at random, encoded, decoded, dumped and compared; then each limit broken. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ipc/channel.h"
#include "common/ipc/enums.h"

static unsigned seed = 20261121;

static unsigned rnd(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

static struct str random_text(struct arena *a, uint32_t limit)
{
	uint32_t n = rnd(limit < 40 ? limit + 1 : 40);
	char *p = arena_alloc(a, n + 1);

	for (uint32_t i = 0; i < n; i++)
		p[i] = (char)rnd(256);
	return str_make(p, n);
}

static void fill(const struct ipc_type *type, void *obj, struct arena *a, int depth)
{
	size_t n;
	const struct ipc_field *f = type->fields(&n);

	for (; n; n--, f++) {
		void *at = (char *)obj + f->offset;

		if (!rnd(4))
			continue;
		switch (f->kind) {
		case IPC_U64:
			*(uint64_t *)at = f->limit ? rnd(f->limit) + 1 : ((uint64_t)rnd(1u << 31) << 33) + rnd(99);
			break;
		case IPC_I64:
			*(int64_t *)at = (int64_t)rnd(1u << 31) * (rnd(2) ? 1 : -4000000000LL);
			break;
		case IPC_FLAG:
			*(bool *)at = true;
			break;
		case IPC_STR:
			*(struct str *)at = random_text(a, f->limit);
			break;
		case IPC_STRS: {
			struct ipc_strs *v = at;

			v->n = rnd(4);
			v->v = arena_alloc(a, 4 * sizeof *v->v);
			for (uint32_t i = 0; i < v->n; i++)
				v->v[i] = random_text(a, IPC_STRS_ITEM_MAX);
			break;
		}
		case IPC_SUB:
		case IPC_LIST: {
			uint32_t k = f->kind == IPC_SUB ? 1 : rnd(3);
			char *v = arena_alloc(a, 2 * f->type->size);

			if (depth > 3 || !k)
				break;
			for (uint32_t i = 0; i < k; i++)
				fill(f->type, v + i * f->type->size, a, depth + 1);
			*(void **)at = v;
			if (f->kind == IPC_LIST)
				*(uint32_t *)(void *)((char *)obj + f->count_offset) = k;
			break;
		}
		}
	}
}

static void test_round_trip(void **state)
{
	(void)state;
	for (size_t t = 0; ipc_type_at(t); t++)
		for (int round = 0; round < 30; round++) {
			const struct ipc_type *type = ipc_type_at(t);
			struct arena a = ARENA_INIT;
			struct buf wire = BUF_INIT, want = BUF_INIT, got = BUF_INIT;
			struct err err = ERR_INIT;
			void *obj = arena_alloc(&a, type->size), *back = arena_alloc(&a, type->size), *copy = arena_alloc(&a, type->size);

			fill(type, obj, &a, 0);
			assert_int_equal(ipc_encode(type, obj, &wire, &err), ST_OK);
			if (ipc_decode(type, buf_str(&wire), &a, back, &err))
				fail_msg("%s: %s", type->name, err.text);
			ipc_dump(type, obj, &want);
			ipc_dump(type, back, &got);
			assert_string_equal(buf_cstr(&got), buf_cstr(&want));
			ipc_copy(type, back, copy, &a);
			buf_reset(&got);
			ipc_dump(type, copy, &got);
			assert_string_equal(buf_cstr(&got), buf_cstr(&want));
			/* Cut off anywhere, it is refused or is a shorter valid message: never more, never a crash. */
			for (size_t cut = 0; cut < wire.len; cut += 1 + rnd(7)) {
				char *part = malloc(cut ? cut : 1);

				memcpy(part, wire.p, cut);
				ipc_decode(type, str_make(part, cut), &a, back, &err);
				free(part);
			}
			buf_clear(&wire);
			buf_clear(&want);
			buf_clear(&got);
			arena_clear(&a);
		}
}

/* Whatever is over a limit is refused by the sender, and by the receiver if a sender did not. */
static void test_limits(void **state)
{
	(void)state;
	for (size_t t = 0; ipc_type_at(t); t++) {
		const struct ipc_type *type = ipc_type_at(t);
		size_t n;
		const struct ipc_field *f = type->fields(&n);

		for (; n; n--, f++) {
			struct arena a = ARENA_INIT;
			struct buf wire = BUF_INIT;
			struct err err = ERR_INIT;
			char *obj = arena_alloc(&a, type->size);

			if (f->kind == IPC_STR)
				*(struct str *)(void *)(obj + f->offset) = str_make(arena_alloc(&a, f->limit + 1), f->limit + 1);
			else if (f->kind == IPC_U64 && f->limit)
				*(uint64_t *)(void *)(obj + f->offset) = (uint64_t)f->limit + 1;
			else if (f->kind == IPC_LIST) {
				*(void **)(void *)(obj + f->offset) = arena_alloc(&a, (f->limit + 1) * f->type->size);
				*(uint32_t *)(void *)(obj + f->count_offset) = f->limit + 1;
			} else {
				arena_clear(&a);
				continue;
			}
			if (ipc_encode(type, obj, &wire, &err) != ST_ERROR || !strstr(err.text, f->name))
				fail_msg("%s.%s: over its limit, got \"%s\"", type->name, f->name, err.text);
			assert_int_equal(wire.len, 0);
			buf_clear(&wire);
			arena_clear(&a);
		}
	}
}

static void test_declarations(void **state)
{
	(void)state;
	for (size_t t = 0; ipc_type_at(t); t++) {
		const struct ipc_type *type = ipc_type_at(t);
		size_t n;
		const struct ipc_field *f = type->fields(&n);
		bool seen[256] = { false };

		if (type->number)
			assert_ptr_equal(ipc_type_find(type->number), type); /* no number twice */
		for (; n; n--, f++) {
			if (!f->tag || seen[f->tag])
				fail_msg("%s.%s: tag %u is zero or used twice", type->name, f->name, f->tag);
			seen[f->tag] = true;
		}
	}
}

static void table_add(struct buf *out, const struct ipc_type *type)
{
	static const char *const kinds[] = { "number", "signed number", "flag", "text", "texts", "part", "list" };
	size_t n;
	const struct ipc_field *f = type->fields(&n);

	if (type->number)
		buf_printf(out, "\n### %u `%s`\n\n%s.", type->number, type->name, type->what);
	else
		buf_printf(out, "\n### `%s`\n\nPart of messages: %s.", type->name, type->what);
	if (type->fds)
		buf_printf(out, " At most %u descriptor%s.", type->fds, type->fds > 1 ? "s" : "");
	buf_adds(out, "\n");
	if (n)
		buf_adds(out, "\n| tag | field | kind | limit | |\n|---|---|---|---|---|\n");
	for (; n; n--, f++) {
		buf_printf(out, "| %u | `%s` | %s%s%s%s | ", f->tag, f->name, kinds[f->kind], f->type ? " `" : "", f->type ? f->type->name : "",
			f->type ? "`" : "");
		if (f->limit)
			buf_printf(out, "%u", f->limit);
		buf_printf(out, " | %s |\n", f->what);
	}
}

/* docs/IPC.md is this table; `BULKHEAD_WRITE_DOCS=1 make unit T=ipc_codec_test` writes it anew. */
static void test_document(void **state)
{
	static const char path[] = "docs/IPC.md";
	struct buf want = BUF_INIT;
	char *got;
	size_t n;
	FILE *f;

	(void)state;
	buf_printf(&want, "# Messages between daemons\n\n"
		"Made from `common/ipc/messages.def`. A frame has a head of %d octets (length, message, descriptors, flags, request) and is at\n"
		"most %d octets long; a text of a list is at most %d. How fields look on the wire: head of `common/ipc/codec.c`.\n",
		IPC_HEAD, IPC_FRAME_MAX, IPC_STRS_ITEM_MAX);
	for (int parts = 0; parts < 2; parts++) {
		buf_adds(&want, parts ? "\n## Parts\n" : "\n## Messages\n");
		for (size_t t = 0; ipc_type_at(t); t++)
			if ((ipc_type_at(t)->number == 0) == (parts != 0))
				table_add(&want, ipc_type_at(t));
	}
	if (getenv("BULKHEAD_WRITE_DOCS")) {
		f = fopen(path, "w");
		assert_non_null(f);
		fwrite(want.p, 1, want.len, f);
		fclose(f);
	}
	f = fopen(path, "r");
	if (!f)
		fail_msg("%s is missing; run the test from the top of the tree", path);
	got = calloc(1, want.len + 2);
	n = fread(got, 1, want.len + 1, f);
	fclose(f);
	if (n != want.len || memcmp(got, want.p, n))
		fail_msg("%s is not what messages.def says: write it anew with BULKHEAD_WRITE_DOCS=1", path);
	free(got);
	buf_clear(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_limits), cmocka_unit_test(test_declarations),
		cmocka_unit_test(test_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
