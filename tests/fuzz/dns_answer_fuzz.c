/* SPDX-License-Identifier: ISC */
/* Answers of name servers: the first octets choose the question, the rest is the packet. */
#include <stddef.h>
#include <string.h>

#include "common/dns/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned types[] = { DNS_A, DNS_NS, DNS_CNAME, DNS_SOA, DNS_PTR, DNS_MX, DNS_TXT, DNS_AAAA, DNS_SRV, DNS_TLSA, 65280 };
	static const struct str name = { "example.org", 11, false };
	struct arena a = ARENA_INIT;
	struct dns_answer x;
	uint8_t packet[8192], head[512];
	bool open;
	size_t n;
	unsigned type;

	if (size < 3)
		return 0;
	type = types[data[0] % (sizeof types / sizeof *types)];
	/* the question is put in front, so that what follows is looked at */
	n = dns_question_build(head, sizeof head, 0x1234, name, type, false, false);
	memcpy(packet, head, n);
	packet[2] |= 0x80;
	packet[3] = data[1] & 0x2f;
	packet[7] = data[2] & 0x0f;
	packet[9] = data[2] >> 4;
	data += 3;
	size -= 3;
	if (size > sizeof packet - n)
		size = sizeof packet - n;
	if (size)
		memcpy(packet + n, data, size);
	dns_answer_parse(packet, n + size, 0x1234, name, type, 0, &a, &x, &open);
	dns_answer_parse(packet, n + size, 0x1234, name, type, DNS_ANY_NAME | DNS_NO_CNAME, &a, &x, &open);
	dns_answer_parse(data, size, 0x1234, name, type, 0, &a, &x, &open);
	arena_clear(&a);
	return 0;
}
