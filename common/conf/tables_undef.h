/* SPDX-License-Identifier: ISC */
/* tables_undef.h - clears the row macros between two inclusions of tables.def. No include guard: it is meant to repeat. */
#undef TABLE
#undef TABLE_END
#undef BOOL
#undef NUM
#undef TXT
#undef WORD
#undef TXTS
#undef LATER
#undef IGNORED
#undef ALIAS
