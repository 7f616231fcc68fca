/* SPDX-License-Identifier: ISC */
/* key_store.h - certificates, their keys, and other public files, read when first asked for and again when they have changed.
 * Used by:    keyd.c, tests.
 * Owns:       everything it gives is lent until the next call of store_cert() or store_file().
 * Invariant:  no octet of a private key leaves: chains and files are the PEM blocks of public kinds only, and a key signs for those who
 *             named a certificate that it fits. A number of a key is never used again for another, nor by another process.
 * Errors:     ST_FAIL: there is no such file; ST_ERROR: it cannot be read, or is not what it should be; the text names it. */
#ifndef KEYD_KEY_STORE_H
#define KEYD_KEY_STORE_H

#include "common/base/err.h"
#include "common/base/str.h"

enum {
	STORE_FILE_MAX = 4 * 1024 * 1024, /* octets of a file */
	STORE_CHAIN_MAX = 65536,          /* octets of a chain as PEM, or of an OCSP answer */
	STORE_CERTS_MAX = 4096,           /* pairs of files that are remembered */
	STORE_KEYS_MAX = 8192,            /* keys that are held, those of files that have changed included */
	STORE_DIRECTORY_MAX = 2000,       /* files of a directory that are read */
	STORE_LOOK_MS = 1000,             /* a file is looked at no oftener */
};

struct key_store;
/* host: what the self-signed certificate is for. */
struct key_store *store_new(struct str host);
void store_free(struct key_store *store);
/* Told when files that serve have changed and cannot be used: the copy of before goes on serving. */
void store_on_trouble(struct key_store *store, void (*fn)(void *arg, const char *text), void *arg);

struct store_cert {
	struct str chain;      /* PEM, leaf first */
	struct str ocsp;       /* DER; empty: none */
	uint64_t key;          /* number, never 0 */
	uint64_t version;
};
/* now_ms: monotonic. cert empty: the self-signed one; key empty: it is in the certificate's file. */
enum status store_cert(struct key_store *store, struct str cert, struct str key, struct str ocsp, uint64_t now_ms, struct store_cert *out,
	struct err *err);
struct store_file {
	struct str text;       /* PEM */
	uint64_t version;
	bool directory;
};
/* The public blocks of a file, or of the files in a directory; "system": the system's trust anchors. */
enum status store_file(struct key_store *store, struct str file, uint64_t now_ms, struct store_file *out, struct err *err);
/* RSA: octets are padded already (raw; as PSS, nothing else: the same operation would decrypt) or are to be padded as PKCS #1 v1.5; ECDSA:
 * they are a digest. ST_FAIL: no such key. */
enum status store_sign(struct key_store *store, uint64_t key, bool raw, struct str octets, struct buf *signature, struct err *err);

struct store_count {
	uint64_t certs, files, keys, signatures, refused;
};
void store_count(const struct key_store *store, struct store_count *out);

#endif
