/* SPDX-License-Identifier: ISC */
/* ctl_tlsa.c - the TLSA records to publish for a certificate: 3 1 1, and 2 1 1 for the authority that issued it (RFC 7672 section 3.1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf/conf.h"
#include "common/tls/tls_tlsa.h"
#include "ctl/ctl.h"

enum { CERT_FILE_MAX = 1024 * 1024, PORT_SMTP = 25 };

struct tlsa_wish {
	const char *cert;
	uint16_t port;
};

static enum status file_read(struct ctl *ctl, const char *path, struct str *out, struct err *err)
{
	FILE *f = fopen(path, "re");
	struct buf b = BUF_LIMIT(CERT_FILE_MAX);
	char block[8192];
	size_t n;

	if (!f)
		return err_set(err, ST_ERROR, "%s: %s", path, strerror(errno));
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		buf_add(&b, block, n);
	fclose(f);
	*out = str_dup(&ctl->arena, buf_str(&b));
	buf_clear(&b);
	return ST_OK;
}

static int record_print(struct ctl *ctl, const struct tlsa_wish *w, struct str host, const struct tls_tlsa *t)
{
	struct str octets = tls_tlsa_format(&ctl->arena, t);
	struct buf b = BUF_INIT;

	tls_tlsa_show(octets, &b);
	printf("_%u._tcp.%.*s. IN TLSA %.*s\n", w->port, STR_FMT(host), STR_FMT(buf_str(&b)));
	buf_clear(&b);
	return CTL_OK;
}

static int records_print(struct ctl *ctl, const struct tlsa_wish *w, struct str pem, struct str host)
{
	struct err err = ERR_INIT;
	struct tls_tlsa t;

	if (tls_tlsa_make(pem, 0, TLSA_DANE_EE, TLSA_SPKI, TLSA_SHA2_256, &ctl->arena, &t, &err))
		return ctl_fail(CTL_DATA, "tlsa: %s: %s", w->cert, err.text);
	record_print(ctl, w, host, &t);
	if (!tls_tlsa_make(pem, 1, TLSA_DANE_TA, TLSA_SPKI, TLSA_SHA2_256, &ctl->arena, &t, &err))
		return record_print(ctl, w, host, &t);
	fprintf(stderr, "bulkhead: tlsa: %s has no certificate of the authority behind the host's own: no record 2 1 1\n", w->cert);
	return CTL_OK;
}

static int arguments_read(struct tlsa_wish *w, int argc, char **argv, int *first)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		uint64_t port;

		if (!strcmp(argv[i], "--cert") && i + 1 < argc)
			w->cert = argv[++i];
		else if (!strcmp(argv[i], "--port") && i + 1 < argc && str_u64(str_of(argv[i + 1]), 65535, &port) && port) {
			w->port = (uint16_t)port;
			i++;
		} else
			return ctl_fail(CTL_USAGE, "tlsa: option %s is not known or lacks its value; --cert FILE and --port NUMBER are", argv[i]);
	}
	*first = i;
	return w->cert ? CTL_OK : ctl_fail(CTL_USAGE, "tlsa wants --cert FILE: the certificate that the server shows, those of its authorities behind it");
}

/* Without names on the line: ours. */
static struct str own_name(struct ctl *ctl)
{
	const struct conf *conf = ctl_conf_any(ctl);
	char name[256] = "";

	if (conf && conf->main.primary_hostname.text.len)
		return conf->main.primary_hostname.text;
	gethostname(name, sizeof name - 1);
	return str_dup(&ctl->arena, str_of(name));
}

int ctl_tlsa(struct ctl *ctl, int argc, char **argv)
{
	struct tlsa_wish w = { .port = PORT_SMTP };
	struct err err = ERR_INIT;
	struct str pem;
	int first = 1, code = arguments_read(&w, argc, argv, &first);

	if (code)
		return code;
	if (file_read(ctl, w.cert, &pem, &err))
		return ctl_fail(CTL_IOERR, "tlsa: %s", err.text);
	if (first == argc)
		return records_print(ctl, &w, pem, own_name(ctl));
	for (int i = first; i < argc && !code; i++)
		code = records_print(ctl, &w, pem, str_of(argv[i]));
	return code;
}
