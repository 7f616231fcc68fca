/* SPDX-License-Identifier: ISC */
/* proxy_header.h - the header that a proxy sends before its client's octets (PROXY protocol, versions 1 and 2).
 * Used by:    conn_proxy.c, which reads it.
 * Owns:       nothing.
 * Invariant:  as long as a header is incomplete all octets seen belong to it, so whoever reads on PROXY_MORE takes none of the client's.
 * Errors:     PROXY_BAD with a word why; nothing is guessed.
 * Standards:  "The PROXY protocol, versions 1 & 2" of HAProxy, sections 2.1, 2.2; RFC 3309 for CRC-32C. */
#ifndef SMTPD_PROXY_HEADER_H
#define SMTPD_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROXY_V1_MAX = 107,          /* octets of the line with CR LF */
	PROXY_V2_HEAD = 16,
	PROXY_PAYLOAD_MAX = 65535,   /* addresses and TLVs of version 2 */
	PROXY_HEADER_MAX = PROXY_V2_HEAD + PROXY_PAYLOAD_MAX,
};

enum proxy_verdict { PROXY_MORE, PROXY_DONE, PROXY_BAD };

struct proxy_header {
	size_t size;                 /* octets of it, once PROXY_DONE */
	bool none;                   /* UNKNOWN, LOCAL, a Unix socket, unspecified: the connection is the proxy's own */
	bool ipv6;
	uint8_t source[16], target[16]; /* 4 octets, or 16 with ipv6: the client; what it had connected to */
	uint16_t source_port, target_port;
	const char *why;             /* of PROXY_BAD */
};

enum proxy_verdict proxy_header_parse(const uint8_t *p, size_t n, struct proxy_header *out);

#endif
