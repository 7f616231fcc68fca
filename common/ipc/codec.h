/* SPDX-License-Identifier: ISC */
/* codec.h - from structs to frames and back, by the declarations in messages.def.
 * Used by:    channel.h, the spool (which keeps encoded parts), views.
 * Owns:       decoding allocates from the caller's arena; texts are copied into it (the frame may go), zero-terminated.
 * Invariant:  a decoded struct is within every declared limit; encode refuses what decode would.
 * Errors:     ST_ERROR with the message's and field's name. Unknown tags are skipped, a repeated tag of a scalar is refused,
 *             so are a wrong kind, a length beyond the frame, nesting deeper than 8, trailing octets. */
#ifndef IPC_CODEC_H
#define IPC_CODEC_H

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum {
	IPC_FRAME_MAX = 180 * 1024,    /* octets of one frame with its head; below the socket buffer that a user may have */
	IPC_STRS_ITEM_MAX = 8192,      /* octets of one text of a list */
	IPC_FDS_MAX = 5,
	IPC_HEAD = 16,                 /* frame head: u32 length with head, u16 message, u8 descriptors, u8 flags, u64 request; little endian */
};

#define IPC_NO_FDS { [0 ... IPC_FDS_MAX - 1] = -1 }

struct ipc_strs {
	struct str *v;
	uint32_t n;
};

/* struct ipc_NAME for every STRUCT and MESSAGE: tentatively declared, then defined. */
#define STRUCT(name, what) struct ipc_##name;
#define MESSAGE(name, number, fds, what) struct ipc_##name;
#define END(name)
#define U64(field, tag, limit, what)
#define I64(field, tag, what)
#define FLAG(field, tag, what)
#define STR(field, tag, limit, what)
#define STRS(field, tag, limit, what)
#define SUB(field, tag, type, what)
#define LIST(field, tag, type, limit, what)
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE
#undef END
#undef U64
#undef I64
#undef FLAG
#undef STR
#undef STRS
#undef SUB
#undef LIST

#define STRUCT(name, what) struct ipc_##name {
#define MESSAGE(name, number, fds, what) struct ipc_##name {
#define END(name) };
#define U64(field, tag, limit, what) uint64_t field;
#define I64(field, tag, what) int64_t field;
#define FLAG(field, tag, what) bool field;
#define STR(field, tag, limit, what) struct str field;
#define STRS(field, tag, limit, what) struct ipc_strs field;
#define SUB(field, tag, type, what) struct ipc_##type *field;
#define LIST(field, tag, type, limit, what) struct ipc_##type *field; uint32_t n_##field;
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE
#undef END
#undef U64
#undef I64
#undef FLAG
#undef STR
#undef STRS
#undef SUB
#undef LIST

/* IPC_acl_ask = 20 ... */
enum ipc_message {
#define STRUCT(name, what)
#define MESSAGE(name, number, fds, what) IPC_##name = number,
#define END(name)
#define U64(field, tag, limit, what)
#define I64(field, tag, what)
#define FLAG(field, tag, what)
#define STR(field, tag, limit, what)
#define STRS(field, tag, limit, what)
#define SUB(field, tag, type, what)
#define LIST(field, tag, type, limit, what)
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE
#undef END
#undef U64
#undef I64
#undef FLAG
#undef STR
#undef STRS
#undef SUB
#undef LIST
	IPC_MESSAGES_END = 256
};

enum ipc_kind { IPC_U64, IPC_I64, IPC_FLAG, IPC_STR, IPC_STRS, IPC_SUB, IPC_LIST };

struct ipc_type;
struct ipc_field {
	const char *name, *what;
	enum ipc_kind kind;
	uint8_t tag;
	uint32_t limit;
	size_t offset;              /* of the field; IPC_LIST: of the pointer */
	size_t count_offset;        /* IPC_LIST: of n_FIELD */
	const struct ipc_type *type; /* IPC_SUB, IPC_LIST */
};
struct ipc_type {
	const char *name, *what;
	size_t size;
	uint16_t number;            /* 0 for a part */
	uint16_t fds;
	const struct ipc_field *(*fields)(size_t *n_out); /* its rows, in the order of the declaration */
};

/* ipc_type_NAME for every STRUCT and MESSAGE. */
#define STRUCT(name, what) extern const struct ipc_type ipc_type_##name;
#define MESSAGE(name, number, fds, what) extern const struct ipc_type ipc_type_##name;
#define END(name)
#define U64(field, tag, limit, what)
#define I64(field, tag, what)
#define FLAG(field, tag, what)
#define STR(field, tag, limit, what)
#define STRS(field, tag, limit, what)
#define SUB(field, tag, type, what)
#define LIST(field, tag, type, limit, what)
#include "common/ipc/messages.def"
#undef STRUCT
#undef MESSAGE
#undef END
#undef U64
#undef I64
#undef FLAG
#undef STR
#undef STRS
#undef SUB
#undef LIST

const struct ipc_type *ipc_type_find(unsigned number);        /* NULL: no such message */
const struct ipc_type *ipc_type_at(size_t i);                 /* all, parts too, for tests and docs; NULL at the end */

/* Appends the encoded fields of obj (no head) to out. ST_ERROR if a limit is broken; out is then as before. */
enum status ipc_encode(const struct ipc_type *type, const void *obj, struct buf *out, struct err *err);
/* Fills obj (type->size octets, zeroed first). Texts come out tainted. */
enum status ipc_decode(const struct ipc_type *type, struct str data, struct arena *a, void *obj, struct err *err);
/* A deep copy within an arena, for keeping a message longer than its frame. */
void ipc_copy(const struct ipc_type *type, const void *from, void *to, struct arena *a);
/* "acl_ask{stage=7 facts={client_ip=\"127.0.0.1\" ...}}" for traces and tests; secrets are not known here: never dump views. */
void ipc_dump(const struct ipc_type *type, const void *obj, struct buf *out);

#endif
