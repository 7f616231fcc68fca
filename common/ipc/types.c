/* SPDX-License-Identifier: ISC */
/* types.c - the descriptor tables that messages.def becomes. */
#include "common/ipc/codec.h"

#define U64(field, tag, limit, what) ROW(field, IPC_U64, tag, limit, what, 0, NULL)
#define I64(field, tag, what) ROW(field, IPC_I64, tag, 0, what, 0, NULL)
#define FLAG(field, tag, what) ROW(field, IPC_FLAG, tag, 0, what, 0, NULL)
#define STR(field, tag, limit, what) ROW(field, IPC_STR, tag, limit, what, 0, NULL)
#define STRS(field, tag, limit, what) ROW(field, IPC_STRS, tag, limit, what, 0, NULL)
#define SUB(field, tag, part, what) ROW(field, IPC_SUB, tag, 0, what, 0, &ipc_type_##part)
#define LIST(field, tag, part, limit, what) ROW(field, IPC_LIST, tag, limit, what, offsetof(CURRENT, n_##field), &ipc_type_##part)
#define ROW(field, kind, tag, limit, what, count, part) \
	{ #field, what, kind, tag, limit, offsetof(CURRENT, field), count, part },

/* offsetof() wants the struct's name: each table is opened by a typedef of it, in a block of its own. */
#define STRUCT(name, what) TABLE(name)
#define MESSAGE(name, number, fds, what) TABLE(name)
#define TABLE(name) \
	static const struct ipc_field *ipc_fields_of_##name(size_t *n_out) { \
		typedef struct ipc_##name CURRENT; \
		static const struct ipc_field fields[] = {
#define END(name) \
			{ NULL, NULL, IPC_FLAG, 0, 0, 0, 0, NULL } \
		}; \
		(void)sizeof(CURRENT); /* a message may have no rows */ \
		*n_out = sizeof fields / sizeof *fields - 1; \
		return fields; \
	}
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE
#undef TABLE
#undef END
#undef ROW
#undef U64
#undef I64
#undef FLAG
#undef STR
#undef STRS
#undef SUB
#undef LIST

#define END(name)
#define U64(field, tag, limit, what)
#define I64(field, tag, what)
#define FLAG(field, tag, what)
#define STR(field, tag, limit, what)
#define STRS(field, tag, limit, what)
#define SUB(field, tag, part, what)
#define LIST(field, tag, part, limit, what)

#define STRUCT(name, what) const struct ipc_type ipc_type_##name = { #name, what, sizeof(struct ipc_##name), 0, 0, ipc_fields_of_##name };
#define MESSAGE(name, number, fds, what) \
	const struct ipc_type ipc_type_##name = { #name, what, sizeof(struct ipc_##name), number, fds, ipc_fields_of_##name }; \
	_Static_assert(number > 0 && number < IPC_MESSAGES_END && fds <= IPC_FDS_MAX, #name);
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE

static const struct ipc_type *const ipc_by_number[IPC_MESSAGES_END] = {
#define STRUCT(name, what)
#define MESSAGE(name, number, fds, what) [number] = &ipc_type_##name,
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE
};

static const struct ipc_type *const ipc_all[] = {
#define STRUCT(name, what) &ipc_type_##name,
#define MESSAGE(name, number, fds, what) &ipc_type_##name,
#include "common/ipc/messages.def"
};

const struct ipc_type *ipc_type_find(unsigned number)
{
	return number < IPC_MESSAGES_END ? ipc_by_number[number] : NULL;
}

const struct ipc_type *ipc_type_at(size_t i)
{
	return i < sizeof ipc_all / sizeof *ipc_all ? ipc_all[i] : NULL;
}
