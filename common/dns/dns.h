/* SPDX-License-Identifier: ISC */
/* dns.h - questions to name servers, with a cache.
 * Used by:    router's workers (routing, dnsdb, host lists), policyd's workers (content checks); the command's checks.
 * Owns:       a struct dns owns its sockets, server list and cache; one thread at a time uses it. Answers are in the caller's
 *             arena. Everything blocks, within dns_query_max_ms().
 * Invariant:  "no such name", "name without such rows" and "cannot know now" are never confused. Names in answers are in lower
 *             case, without the final dot, and hold no octet but letters, digits, hyphen, underscore and dot, unless
 *             DNS_ANY_NAME was asked for (odd octets are then \ddd). An answer's address, id and question were compared with
 *             what was asked before anything in it is believed.
 * Errors:     ST_FAIL: a definite no, answer->found says which; ST_DEFER: time-out, SERVFAIL (also how a validating resolver
 *             reports bogus data), REFUSED, malformed answers: answer->trouble says which; ST_ERROR: no name server.
 * Standards:  RFC 1035, 2308 (negative answers), 4035 section 3.2.3 and 6840 section 5.7 (AD), 6891 (EDNS), 7505 (null MX),
 *             7766 (TCP), 5452 (spoofing). */
#ifndef DNS_DNS_H
#define DNS_DNS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum {
	DNS_NAME_MAX = 253,        /* octets of a name as text, RFC 1035 section 3.1 */
	DNS_LABEL_MAX = 63,
	DNS_SERVERS_MAX = 8,
	DNS_ROWS_MAX = 512,        /* rows kept of one answer; more are dropped and `cut` is set */
	DNS_DATA_MAX = 65535,      /* octets of one row's data */
	DNS_CNAMES_MAX = 10,       /* links of a chain of CNAMEs, over several questions */
	DNS_UDP_SIZE = 1232,       /* announced by EDNS: fits any path unfragmented */
	DNS_TTL_MAX_S = 3600,      /* an answer is not kept longer */
	DNS_TTL_NEG_MAX_S = 300,   /* nor a "no" */
	DNS_TTL_TROUBLE_S = 5,     /* nor a failure: a dead server is not asked anew for each recipient */
	DNS_CACHE_MAX = 20000,     /* entries, unless dns_config says less */
	DNS_CACHE_OCTETS_MAX = 16 * 1024 * 1024,
	DNS_SLOW_MS = 2000,          /* what takes longer is slow: see dns_config.slow */
	DNS_QUESTION_MAX_MS = 30000, /* one question, over all servers and rounds */
	DNS_SERVER_REST_MS = 10000, /* a server that did not answer is asked last for so long */
};

/* Numbers as on the wire. Any other number may be asked too; its rows then carry raw data. */
enum dns_type {
	DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_SRV = 33,
	DNS_TLSA = 52, DNS_SPF = 99,
};
const char *dns_type_name(unsigned type);              /* "MX"; "TYPE65280" has no name here: NULL */
unsigned dns_type_find(struct str name);               /* 0: none */

enum dns_found { DNS_ROWS = 0, DNS_NODATA, DNS_NXDOMAIN, DNS_BAD_NAME /* never asked: it can't be a name */ };
enum dns_trouble {
	DNS_NO_TROUBLE = 0, DNS_TIMEOUT, DNS_SERVFAIL, DNS_REFUSED /* also FORMERR, NOTIMP */, DNS_MALFORMED, DNS_CNAME_LOOP, DNS_UNREACHABLE,
};

struct dns_row {
	struct str owner;
	uint16_t type;
	uint32_t ttl;
	/* A, AAAA: the address as text. NS, CNAME, PTR, MX, SRV: the name (empty: the root). TXT, SPF: the strings put together.
	 * TLSA: association data, raw octets. SOA: primary name server. Others: raw octets. Always tainted. */
	struct str data;
	/* MX: preference. SRV: priority, weight, port. TLSA: usage, selector, matching. SOA: serial, refresh, retry, expire, minimum. */
	uint32_t n[5];
	struct str mail;           /* SOA: responsible person, as a name */
	struct str *parts;         /* TXT, SPF: each string */
	uint32_t n_parts;
	uint8_t addr[16];          /* A (4 octets), AAAA (16): network order */
};

struct dns_answer {
	enum dns_found found;
	enum dns_trouble trouble;  /* with ST_DEFER */
	unsigned rcode;            /* as the server said, 0 when it said nothing */
	bool secure;               /* validated by a resolver that we trust, over the whole chain of CNAMEs */
	bool authoritative;        /* AA: the server answers for the zone itself */
	bool cut;                  /* there were more rows than DNS_ROWS_MAX */
	bool cached;
	struct str name;           /* at the end of the chain of CNAMEs */
	unsigned cnames;           /* links followed */
	uint32_t ttl;              /* of the whole answer, seconds */
	struct dns_row *rows;      /* of the type asked, owner = name, in the order received */
	uint32_t n;
};

enum dns_flag {
	DNS_ANY_NAME = 1,          /* the question's name is not compared with the pattern, odd names in answers are kept */
	DNS_NO_CACHE = 2,          /* neither read nor filled */
	DNS_NO_CNAME = 4,          /* chains are not followed: NODATA at a CNAME */
	DNS_SURE = 8,              /* the again_nonexist list is not used (TLSA never uses it) */
};

struct dns_server {
	struct sockaddr_storage addr;
	socklen_t len;
	bool trusted;              /* its AD bit is believed: loopback, or trust_ad */
};

/* Lists of domains that the resolver must ask about: matching is the language's business, so it is a call. */
enum dns_list { DNS_LIST_AGAIN_NONEXIST /* dns_again_means_nonexist */, DNS_LIST_IPV4 /* dns_ipv4_lookup */, DNS_LIST_TRUST_AA /* dns_trust_aa */ };

enum dns_slow { DNS_SLOW_PLACE /* whether there is one */, DNS_SLOW_BEGIN /* and it is taken */, DNS_SLOW_END };

struct dns_config {
	struct dns_server servers[DNS_SERVERS_MAX];
	unsigned n_servers;
	uint32_t retrans_ms;       /* dns_retrans: first wait for an answer; 0: 3000. Doubles with each round */
	unsigned retry;            /* dns_retry: rounds over all servers; 0: 3 */
	uint32_t timeout_ms;       /* dns_timeout: one question with all its tries; 0: DNS_QUESTION_MAX_MS */
	int edns;                  /* dns_use_edns0: -1 and 1 yes, 0 no */
	int dnssec;                /* dns_dnssec_ok: 0 never ask; -1, 1 ask for AD */
	bool trust_ad;             /* the servers and the way to them are trusted */
	bool no_ipv6;              /* disable_ipv6: AAAA is never asked */
	struct str check_names;    /* dns_check_names_pattern, expanded; empty: none */
	struct str hosts_file;     /* its content; empty: none */
	struct str search;         /* domains that complete a name (resolv.conf: search, domain), blanks between them; the caller's to use */
	uint32_t cache_max;        /* entries; 0: DNS_CACHE_MAX */
	bool (*listed)(void *ctx, enum dns_list list, struct str domain); /* NULL: never */
	/* Asked before the questions of one piece of work wait longer than slow_ms in all (or a sixth of that, where there was no place when it
	 * began): false: they must not, since too many do already. NULL: as long as they like. */
	bool (*slow)(void *ctx, enum dns_slow what);
	uint32_t slow_ms;          /* 0: DNS_SLOW_MS */
	void *ctx;
};

/* One server: an address, with a port behind "#", or "[ADDR]:PORT", or the form "127.0.0.1.53". ST_ERROR. */
enum status dns_config_server(struct dns_config *config, struct str item, struct err *err);
/* What resolv.conf's text says of name servers and options (timeout, attempts, trust-ad); unknown words are skipped. Nothing there:
 * 127.0.0.1. */
void dns_config_resolv(struct dns_config *config, struct str text);

struct dns *dns_new(const struct dns_config *config, struct err *err); /* texts are copied; NULL: the pattern does not compile */
void dns_free(struct dns *dns);
void dns_cache_drop(struct dns *dns);
uint64_t dns_query_max_ms(const struct dns *dns);      /* the longest that one question may take */
/* A piece of work begins: none of its questions waits beyond this moment (clock_ms()). False: another one is under way, whose end counts. */
bool dns_deadline_begin(struct dns *dns, uint64_t at_ms);
void dns_deadline_end(struct dns *dns, bool begun);

/* First wait and number of rounds of the questions from here on; 0: as configured. */
void dns_patience_set(struct dns *dns, uint32_t retrans_ms, unsigned retry);

/* A question. The name may be UTF-8 (converted to A-labels) and may end in a dot. */
enum status dns_query(struct dns *dns, struct arena *a, struct str name, unsigned type, unsigned flags, struct dns_answer *out, struct err *err);

/* The form that a name is asked in: lower case, A-labels, no final dot; ST_FAIL when it can't be a name. strict: host name syntax
 * only (letters, digits, hyphen, underscore). */
enum status dns_name_normal(struct arena *a, struct str name, bool strict, struct str *out, struct err *err);
struct str dns_name_utf8(struct arena *a, struct str name); /* back, for people; the same where it can't be */
/* "4.3.2.1.in-addr.arpa" or the ip6.arpa form; STR_NULL if it is no address. */
struct str dns_name_reverse(struct arena *a, struct str ip);

/* ---- the pure part, for tests and the fuzzer ---- */

/* Octets of a question; returns the length, 0 if it does not fit or the name is bad. */
size_t dns_question_build(uint8_t *out, size_t max, uint16_t id, struct str name, unsigned type, bool edns, bool ad);
enum dns_parse { DNS_PARSE_OK = 0, DNS_PARSE_FOREIGN /* not the answer to this question: wait on */, DNS_PARSE_TRUNCATED, DNS_PARSE_MALFORMED };
/* One packet. Rows that belong to the chain that starts at `name` come out; *out is complete only with DNS_PARSE_OK: out->found is
 * DNS_NODATA with cnames > 0 and `chain_open_out` true when the chain leads out of the packet and must be asked on. */
enum dns_parse dns_answer_parse(const uint8_t *packet, size_t len, uint16_t id, struct str name, unsigned type, unsigned flags, struct arena *a,
	struct dns_answer *out, bool *chain_open_out);

#endif
