/* SPDX-License-Identifier: ISC */
/* tls_tlsa.h - TLSA records: which can be used, in what order they are kept, which fit a certificate.
 * Used by:    router (what comes from the DNS), smtp-out (what comes with the plan), the command (`bulkhead tlsa`).
 * Owns:       nothing: records lend the octets they were parsed from.
 * Errors:     a record that cannot be used is none; it never spoils the others (RFC 7671 section 5).
 * Standards:  RFC 6698, 7218 (names of the fields), 7671, 7672 section 3.1 (usages 0 and 1 do not count with SMTP). */
#ifndef TLS_TLS_TLSA_H
#define TLS_TLS_TLSA_H

#include "common/tls/tls.h"

enum tlsa_usage { TLSA_PKIX_TA, TLSA_PKIX_EE, TLSA_DANE_TA, TLSA_DANE_EE };
enum tlsa_selector { TLSA_CERT, TLSA_SPKI };
enum tlsa_matching { TLSA_FULL, TLSA_SHA2_256, TLSA_SHA2_512 };

/* From the octets of the record's data (RFC 6698 section 2.1); false: fewer than three. */
bool tls_tlsa_parse(struct str wire, struct tls_tlsa *out);
struct str tls_tlsa_format(struct arena *a, const struct tls_tlsa *t); /* back to octets */
void tls_tlsa_show(struct str wire, struct buf *out); /* as in a zone: "3 1 1 0123..." */
/* Usage 2 or 3, a selector and a matching type that we know, data of the right length, or a certificate or key that can be read. */
bool tls_tlsa_usable(const struct tls_tlsa *t);
/* $tls_out_tlsa_usage: bit n for usage n, over usable records. */
unsigned tls_tlsa_usages(const struct tls_tlsa *v, unsigned n);
/* Octets of usable records: sorted, each once, the first TLS_TLSA_MAX; returns how many. A zone cannot choose which ones by their order. */
unsigned tls_tlsa_sort(struct str *wire, unsigned n);

/* What a record for one certificate of several (PEM, from 0 on) has to say. ST_ERROR: there is none. */
enum status tls_tlsa_make(struct str pem, unsigned which, uint8_t usage, uint8_t selector, uint8_t matching, struct arena *a, struct tls_tlsa *out, struct err *err);

#endif
