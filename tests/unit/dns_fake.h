/* SPDX-License-Identifier: ISC */
/* dns_fake.h - a name server in a thread, for tests: answers from lines of a zone file.
 * Names that begin with "servfail", "refused", "silent", "cut" (UDP says truncated), "liar" (first a forged answer with another id) or
 * "noedns" (FORMERR to EDNS) are treated so. Answers carry AD when the name ends in "secure.example", AA when it begins with "own". */
#ifndef TESTS_DNS_FAKE_H
#define TESTS_DNS_FAKE_H

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/dns/dns.h"

struct dns_fake {
	int udp, tcp, stop[2];
	unsigned port;
	pthread_t thread;
	ldns_rr *rows[256];
	size_t n;
	unsigned asked, asked_tcp; /* questions seen */
};

static bool fake_owner_is(const ldns_rr *rr, const ldns_rdf *name)
{
	return ldns_dname_compare(ldns_rr_owner(rr), name) == 0;
}

static void fake_fill(struct dns_fake *f, ldns_pkt *answer, const ldns_rdf *asked, ldns_rr_type type)
{
	ldns_rdf *name = ldns_rdf_clone(asked);
	bool known = false;

	for (int links = 0; links < 20; links++) {
		const ldns_rr *alias = NULL;
		bool found = false;
		for (size_t i = 0; i < f->n; i++) {
			if (!fake_owner_is(f->rows[i], name))
				continue;
			known = true;
			if (ldns_rr_get_type(f->rows[i]) == type) {
				ldns_pkt_push_rr(answer, LDNS_SECTION_ANSWER, ldns_rr_clone(f->rows[i]));
				found = true;
			} else if (ldns_rr_get_type(f->rows[i]) == LDNS_RR_TYPE_CNAME) {
				alias = f->rows[i];
			}
		}
		if (found || !alias)
			break;
		ldns_pkt_push_rr(answer, LDNS_SECTION_ANSWER, ldns_rr_clone(alias));
		ldns_rdf_deep_free(name);
		name = ldns_rdf_clone(ldns_rr_rdf(alias, 0));
		known = false;
	}
	ldns_rdf_deep_free(name);
	if (!known)
		ldns_pkt_set_rcode(answer, LDNS_RCODE_NXDOMAIN);
	if (!ldns_pkt_ancount(answer) || !known) {
		ldns_rr *soa = NULL;
		ldns_rr_new_frm_str(&soa, "example. 60 IN SOA ns.example. h.example. 1 2 3 4 60", 0, NULL, NULL);
		ldns_pkt_push_rr(answer, LDNS_SECTION_AUTHORITY, soa);
	}
}

/* The octets of the answer; 0: silence. */
static size_t fake_answer(struct dns_fake *f, const uint8_t *in, size_t n, bool tcp, uint8_t **out, bool *liar)
{
	ldns_pkt *question = NULL, *answer;
	const ldns_rr *q;
	char *name;
	size_t len = 0;

	*out = NULL;
	*liar = false;
	if (ldns_wire2pkt(&question, in, n) != LDNS_STATUS_OK)
		return 0;
	q = ldns_rr_list_rr(ldns_pkt_question(question), 0);
	name = ldns_rdf2str(ldns_rr_owner(q));
	answer = ldns_pkt_new();
	ldns_pkt_set_id(answer, ldns_pkt_id(question));
	ldns_pkt_set_qr(answer, true);
	ldns_pkt_set_ra(answer, true);
	ldns_pkt_push_rr(answer, LDNS_SECTION_QUESTION, ldns_rr_clone(q));
	ldns_pkt_set_ad(answer, strlen(name) > 15 && !strcmp(name + strlen(name) - 15, "secure.example."));
	ldns_pkt_set_aa(answer, !strncmp(name, "own", 3));
	*liar = !strncmp(name, "liar", 4);
	if (!strncmp(name, "servfail", 8))
		ldns_pkt_set_rcode(answer, LDNS_RCODE_SERVFAIL);
	else if (!strncmp(name, "refused", 7))
		ldns_pkt_set_rcode(answer, LDNS_RCODE_REFUSED);
	else if (!strncmp(name, "noedns", 6) && ldns_pkt_edns(question))
		ldns_pkt_set_rcode(answer, LDNS_RCODE_FORMERR);
	else if (!strncmp(name, "cut", 3) && !tcp)
		ldns_pkt_set_tc(answer, true);
	else if (strncmp(name, "silent", 6) != 0)
		fake_fill(f, answer, ldns_rr_owner(q), ldns_rr_get_type(q));
	if (strncmp(name, "silent", 6) != 0)
		ldns_pkt2wire(out, answer, &len);
	ldns_pkt_free(answer);
	ldns_pkt_free(question);
	free(name);
	return len;
}

static void fake_udp(struct dns_fake *f)
{
	struct sockaddr_in from;
	socklen_t from_len = sizeof from;
	uint8_t in[2048], *out;
	ssize_t n = recvfrom(f->udp, in, sizeof in, 0, (struct sockaddr *)&from, &from_len);
	bool liar;
	size_t len;

	if (n <= 0)
		return;
	f->asked++;
	len = fake_answer(f, in, (size_t)n, false, &out, &liar);
	if (len && liar) {
		out[0] ^= 0x55;
		sendto(f->udp, out, len, 0, (struct sockaddr *)&from, from_len);
		out[0] ^= 0x55;
	}
	if (len)
		sendto(f->udp, out, len, 0, (struct sockaddr *)&from, from_len);
	free(out);
}

static void fake_tcp(struct dns_fake *f)
{
	int c = accept(f->tcp, NULL, NULL);
	uint8_t in[2048], *out = NULL, head[2];
	size_t n, len;
	bool liar;

	f->asked_tcp++;
	if (c >= 0 && recv(c, head, 2, MSG_WAITALL) == 2 && (n = (size_t)head[0] << 8 | head[1]) <= sizeof in &&
		recv(c, in, n, MSG_WAITALL) == (ssize_t)n && (len = fake_answer(f, in, n, true, &out, &liar)) > 0) {
		head[0] = (uint8_t)(len >> 8);
		head[1] = (uint8_t)len;
		send(c, head, 1, 0); /* in pieces */
		send(c, head + 1, 1, 0);
		send(c, out, len, 0);
	}
	free(out);
	close(c);
}

static void *fake_run(void *arg)
{
	struct dns_fake *f = arg;

	for (;;) {
		struct pollfd p[3] = { { f->udp, POLLIN, 0 }, { f->tcp, POLLIN, 0 }, { f->stop[0], POLLIN, 0 } };
		poll(p, 3, -1);
		if (p[2].revents)
			return NULL;
		if (p[0].revents)
			fake_udp(f);
		if (p[1].revents)
			fake_tcp(f);
	}
}

/* zone: lines of a zone file, NULL behind the last. */
static struct dns_fake *dns_fake_start(const char *const *zone)
{
	struct dns_fake *f = mem_new(sizeof *f);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;

	for (; *zone; zone++)
		if (ldns_rr_new_frm_str(&f->rows[f->n], *zone, 300, NULL, NULL) == LDNS_STATUS_OK)
			f->n++;
		else
			fprintf(stderr, "bad line of the test's zone: %s\n", *zone);
	f->udp = socket(AF_INET, SOCK_DGRAM, 0);
	f->tcp = socket(AF_INET, SOCK_STREAM, 0);
	for (int tries = 0; tries < 50; tries++) {
		at.sin_port = 0;
		if (bind(f->udp, (struct sockaddr *)&at, sizeof at))
			continue;
		getsockname(f->udp, (struct sockaddr *)&at, &len);
		if (!bind(f->tcp, (struct sockaddr *)&at, sizeof at))
			break;
		close(f->udp);
		f->udp = socket(AF_INET, SOCK_DGRAM, 0);
	}
	f->port = ntohs(at.sin_port);
	if (listen(f->tcp, 10) || pipe(f->stop) || pthread_create(&f->thread, NULL, fake_run, f))
		return NULL;
	return f;
}

static void dns_fake_stop(struct dns_fake *f)
{
	if (write(f->stop[1], "x", 1) == 1)
		pthread_join(f->thread, NULL);
	for (size_t i = 0; i < f->n; i++)
		ldns_rr_free(f->rows[i]);
	close(f->udp);
	close(f->tcp);
	close(f->stop[0]);
	close(f->stop[1]);
	mem_free(f);
}

#endif
