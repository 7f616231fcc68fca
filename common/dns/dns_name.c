/* SPDX-License-Identifier: ISC */
/* dns_name.c - names: as people write them, as they are asked, as they come in packets. */
#include "common/dns/dns_impl.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <string.h>

static bool host_octet(char c)
{
	return ascii_is_alnum(c) || c == '-' || c == '_';
}

/* What a label may hold when the name is no host's: all that prints and means nothing in text form. */
static bool plain_octet(char c)
{
	return c > ' ' && c < 0x7f && c != '\\' && c != '"' && c != '.';
}

static enum status name_check(struct str name, bool strict, struct err *err)
{
	size_t label = 0;

	if (!name.len || name.len > DNS_NAME_MAX)
		return err_set(err, ST_FAIL, "%s", name.len ? "domain name too long" : "empty domain name");
	for (uint32_t i = 0; i < name.len; i++) {
		char c = name.p[i];
		if (c == '.') {
			if (!label)
				return err_set(err, ST_FAIL, "empty label in a domain name");
			label = 0;
			continue;
		}
		if (!(strict ? host_octet(c) : plain_octet(c)))
			return err_set(err, ST_FAIL, "illegal character in a domain name");
		if (++label > DNS_LABEL_MAX)
			return err_set(err, ST_FAIL, "label too long in a domain name");
	}
	return label ? ST_OK : err_set(err, ST_FAIL, "empty label in a domain name");
}

static enum status name_to_alabels(struct arena *a, struct str name, struct str *out, struct err *err)
{
	uint8_t *ascii = NULL;
	int rc;

	if (name.len > 4 * DNS_NAME_MAX || memchr(name.p, 0, name.len))
		return err_set(err, ST_FAIL, "domain name too long");
	rc = idn2_lookup_u8((const uint8_t *)str_cstr(a, name), &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (rc != IDN2_OK)
		return err_set(err, ST_FAIL, "not an internationalised domain name: %s", idn2_strerror(rc));
	*out = str_dup(a, str_of((const char *)ascii));
	out->tainted = name.tainted;
	idn2_free(ascii);
	return ST_OK;
}

enum status dns_name_normal(struct arena *a, struct str name, bool strict, struct str *out, struct err *err)
{
	enum status st;

	for (uint32_t i = 0; i < name.len; i++)
		if ((unsigned char)name.p[i] > 0x7f) {
			st = name_to_alabels(a, name, &name, err);
			if (st != ST_OK)
				return st;
			break;
		}
	if (name.len > 1 && name.p[name.len - 1] == '.')
		name.len--;
	st = name_check(name, strict, err);
	if (st != ST_OK)
		return st;
	*out = str_lower(a, name);
	return ST_OK;
}

struct str dns_name_utf8(struct arena *a, struct str name)
{
	uint8_t *utf8 = NULL;
	struct str out = name;

	if (name.len > DNS_NAME_MAX || str_find_str(name, STR_LIT("xn--")) < 0)
		return name;
	if (idn2_to_unicode_8z8z(str_cstr(a, name), (char **)&utf8, 0) == IDN2_OK) {
		out = str_dup(a, str_of((const char *)utf8));
		out.tainted = name.tainted;
	}
	idn2_free(utf8);
	return out;
}

struct str dns_name_reverse(struct arena *a, struct str ip)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t b[16];
	struct buf out = BUF_INIT;
	struct str name;

	if (ip.len >= sizeof text)
		return STR_NULL;
	if (ip.len)
		memcpy(text, ip.p, ip.len);
	text[ip.len] = 0;
	if (inet_pton(AF_INET, text, b) == 1)
		return str_printf(a, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
	if (inet_pton(AF_INET6, text, b) != 1)
		return STR_NULL;
	for (int i = 15; i >= 0; i--)
		buf_printf(&out, "%x.%x.", b[i] & 15u, b[i] >> 4);
	buf_adds(&out, "ip6.arpa");
	name = str_dup(a, buf_str(&out));
	buf_clear(&out);
	return name;
}

bool dns_name_from_wire(struct arena *a, const uint8_t *wire, size_t len, enum dns_name_form form, struct str *out)
{
	char text[4 * 256];
	size_t n = 0, at = 0;

	while (at < len && wire[at]) {
		size_t label = wire[at++];
		if (label > DNS_LABEL_MAX || at + label > len || n + 4 * label + 1 >= sizeof text)
			return false;
		if (n)
			text[n++] = '.';
		for (size_t i = 0; i < label; i++) {
			char c = ascii_lower((char)wire[at + i]);
			if (form == DNS_FORM_HOST ? host_octet(c) : plain_octet(c)) {
				text[n++] = c;
			} else if (form == DNS_FORM_ANY) {
				unsigned u = (unsigned char)c;
				text[n++] = '\\';
				text[n++] = (char)('0' + u / 100);
				text[n++] = (char)('0' + u / 10 % 10);
				text[n++] = (char)('0' + u % 10);
			} else {
				return false;
			}
		}
		at += label;
	}
	if (at >= len || (form != DNS_FORM_ANY && n > DNS_NAME_MAX))
		return false;
	*out = str_taint(n ? str_make(arena_memdup(a, text, n), n) : str_make("", 0));
	return true;
}

size_t dns_name_to_wire(uint8_t *out, size_t max, struct str name)
{
	size_t n = 0;
	struct str label;

	while (str_split(&name, '.', &label)) {
		if (!label.len || label.len > DNS_LABEL_MAX || n + label.len + 2 > max)
			return 0;
		out[n++] = (uint8_t)label.len;
		memcpy(out + n, label.p, label.len);
		n += label.len;
	}
	if (!n || n > 254 || n + 1 > max)
		return 0;
	out[n++] = 0;
	return n;
}
