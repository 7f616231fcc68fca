/* SPDX-License-Identifier: ISC */
/* Names: what a certificate is called, and whether it is for a host (RFC 6125, with the limits of features: a wildcard is the whole leftmost
 * label of three or more). */
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/mail/alabel.h"
#include "common/tls/tls_priv.h"

void tls_dn_print(BIO *bio, X509 *cert)
{
	X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, (XN_FLAG_RFC2253 & ~XN_FLAG_DN_REV) | ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB);
}

/* An address is looked for among the certificate's addresses only, a name among its names. OpenSSL compares with lengths, so a NUL within a
 * name of the certificate is an octet that no host has; a dot in front would ask it for all names below. */
bool tls_name_matches(X509 *cert, const char *name)
{
	ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);

	ASN1_OCTET_STRING_free(ip);
	ERR_clear_error();
	if (ip)
		return X509_check_ip_asc(cert, name, 0) == 1;
	return *name && *name != '.' && X509_check_host(cert, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

bool tls_name_keep(char *out, size_t size, struct str name)
{
	struct arena a = ARENA_INIT;
	struct str ascii = name;
	bool kept = false;

	if (name.len > 2 && name.p[0] == '[' && name.p[name.len - 1] == ']')
		ascii = str_sub(name, 1, name.len - 2);
	else if (name.len > 1 && name.p[name.len - 1] == '.')
		ascii = str_sub(name, 0, name.len - 1);
	if (!alabel_domain_encode(&a, ascii, &ascii, NULL))
		kept = tls_text_keep(out, size, ascii);
	arena_clear(&a);
	return kept;
}

bool tls_cert_names(struct str pem, struct str name)
{
	BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.len);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	char text[256];
	bool found = cert && name.len && tls_name_keep(text, sizeof text, name) && tls_name_matches(cert, text);

	X509_free(cert);
	BIO_free(bio);
	ERR_clear_error();
	return found;
}
