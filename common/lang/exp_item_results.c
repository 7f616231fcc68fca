/* SPDX-License-Identifier: ISC */
/* Items on what was found out of the peer: authresults (RFC 8601), certextract. */
#include "common/lang/expand_tree.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "common/lang/exp_text.h"

enum { CERT_MAX = 256 * 1024 /* octets of a certificate */ };

/* ---- authresults ---- */

static void method_add(struct buf *b, const char *text, struct str s)
{
	buf_adds(b, ";\n\t");
	buf_adds(b, text);
	buf_add_str(b, s);
}

/* A value that a stranger gave (RFC 8601, section 2.2): as it is if it looks like a name or an address, else a quoted string, so that it ends
 * where it ends and says nothing of other methods. */
static void pvalue_add(struct buf *b, struct str s)
{
	bool plain = s.len != 0;

	for (uint32_t i = 0; plain && i < s.len; i++)
		plain = ascii_is_alnum(s.p[i]) || (s.p[i] && strchr("!#$%&'*+-/=?^_`{|}~.@", s.p[i])) || (unsigned char)s.p[i] > 0x7f;
	if (plain) {
		buf_add_str(b, s);
		return;
	}
	buf_addc(b, '"');
	for (uint32_t i = 0; i < s.len; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_addc(b, '\\');
		buf_addc(b, (unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i]);
	}
	buf_addc(b, '"');
}

/* The same within a comment. */
static void comment_add(struct buf *b, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		if (s.p[i] && strchr("()\\", s.p[i]))
			buf_addc(b, '\\');
		buf_addc(b, (unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i]);
	}
}

static void iprev_add(struct eval *ev, struct buf *b)
{
	const struct ipc_facts *f = ev->facts;

	if (ev->client_name.len) {
		method_add(b, "iprev=pass (", STR_NULL);
		comment_add(b, ev->client_name);
		buf_addc(b, ')');
	} else if (ev->name_looked && f->client_ip.len) {
		method_add(b, ev->name_deferred ? "iprev=temperror" : "iprev=fail", STR_NULL);
	} else {
		return;
	}
	buf_adds(b, " smtp.remote-ip=");
	buf_add_str(b, f->client_ip);
}

static void auth_add(struct eval *ev, struct buf *b)
{
	const struct ipc_facts *f = ev->facts;

	if (f->auth_method.len) {
		method_add(b, "auth=pass (", STR_NULL);
		comment_add(b, f->auth_method);
		buf_adds(b, ")");
		if (f->auth_id.len) {
			buf_adds(b, " smtp.auth=");
			pvalue_add(b, f->auth_id);
		}
		if (f->auth_sender.len) {
			buf_adds(b, " smtp.mailfrom=");
			pvalue_add(b, f->auth_sender);
		}
	} else if (f->auth_failed) {
		method_add(b, "auth=fail smtp.auth=", STR_NULL);
		pvalue_add(b, f->auth_fail_id);
	}
}

/* The other methods' parts are made by who does the check: results of these names are texts such as "dkim=pass header.d=example.org",
 * several of them with ";\n\t" between. */
static enum status item_authresults(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	static const char *const made[] = { "authres_spf", "authres_dkim", "authres_dmarc", "authres_arc" };
	struct buf b = BUF_LIMIT(EVAL_LENGTH_MAX);
	uint32_t before;

	(void)call;
	(void)err;
	ev->deps |= DEP_SESSION;
	buf_adds(&b, "Authentication-Results: ");
	buf_add_str(&b, args[0]);
	before = b.len;
	iprev_add(ev, &b);
	auth_add(ev, &b);
	for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
		struct str s = eval_result(ev, made[i]);

		if (s.len)
			method_add(&b, "", s);
	}
	/* RFC 8601 section 2.2: something must follow. */
	if (b.len == before)
		buf_adds(&b, "; none");
	out->text = str_dup(ev->arena, buf_str(&b));
	out->text.tainted = args[0].tainted || (b.len != before && !str_ends(out->text, "; none"));
	buf_clear(&b);
	return ST_OK;
}

/* ---- certextract ---- */

struct cert_mods {
	struct str word;      /* a type label, "int" ... */
	char sep;
};

static struct str bio_take(struct eval *ev, BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	struct str s = str_taint(str_dup(ev->arena, str_make(p, n > 0 ? (size_t)n : 0)));

	BIO_free(bio);
	return s;
}

static bool name_text(struct eval *ev, const X509_NAME *name, const struct cert_mods *mods, struct str *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct buf b = BUF_INIT;

	if (!bio)
		return false;
	if (!mods->word.len) {
		X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
		*out = bio_take(ev, bio);
		return true;
	}
	BIO_free(bio);
	for (int i = 0; i < X509_NAME_entry_count(name); i++) {
		const X509_NAME_ENTRY *e = X509_NAME_get_entry(name, i);
		const ASN1_STRING *v = X509_NAME_ENTRY_get_data(e);
		unsigned char *utf8;
		int len;

		if (!str_isi(mods->word, OBJ_nid2sn(OBJ_obj2nid(X509_NAME_ENTRY_get_object(e)))))
			continue;
		len = ASN1_STRING_to_UTF8(&utf8, v);
		if (len < 0)
			continue;
		lang_split_add(&b, mods->sep, str_make((char *)utf8, (size_t)len), !b.len);
		OPENSSL_free(utf8);
	}
	*out = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return out->len;
}

static bool field_subject(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	return name_text(ev, X509_get_subject_name(x), mods, out);
}

static bool field_issuer(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	return name_text(ev, X509_get_issuer_name(x), mods, out);
}

static bool field_version(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	(void)mods;
	*out = str_taint(str_printf(ev->arena, "%ld", X509_get_version(x) + 1));
	return true;
}

static bool field_serial(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	BIO *bio = BIO_new(BIO_s_mem());

	(void)mods;
	if (!bio)
		return false;
	i2a_ASN1_INTEGER(bio, X509_get0_serialNumber(x));
	*out = str_taint(str_lower(ev->arena, bio_take(ev, bio)));
	return true;
}

static bool time_text(struct eval *ev, const ASN1_TIME *at, const struct cert_mods *mods, struct str *out)
{
	char text[64];
	struct tm tm;
	time_t t;

	if (!ASN1_TIME_to_tm(at, &tm))
		return false;
	t = timegm(&tm);
	if (str_is(mods->word, "int")) {
		*out = str_printf(ev->arena, "%lld", (long long)t);
	} else {
		localtime_r(&t, &tm);
		*out = str_dup(ev->arena, str_make(text, strftime(text, sizeof text, "%b %e %T %Y %Z", &tm)));
	}
	out->tainted = true;
	return true;
}

static bool field_notbefore(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	return time_text(ev, X509_get0_notBefore(x), mods, out);
}

static bool field_notafter(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	return time_text(ev, X509_get0_notAfter(x), mods, out);
}

static bool field_sig_algorithm(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	const X509_ALGOR *alg;
	const ASN1_OBJECT *o;

	(void)mods;
	X509_get0_signature(NULL, &alg, x);
	X509_ALGOR_get0(&o, NULL, NULL, alg);
	*out = str_taint(str_dup(ev->arena, str_of(OBJ_nid2ln(OBJ_obj2nid(o)))));
	return true;
}

static bool field_signature(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	const ASN1_BIT_STRING *sig;
	struct buf b = BUF_INIT;

	(void)mods;
	X509_get0_signature(&sig, NULL, x);
	for (int i = 0; i < sig->length; i++)
		buf_printf(&b, "%s%02x", i ? ":" : "", sig->data[i]);
	*out = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return true;
}

static bool field_altname(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	static const struct { int type; const char *word, *tag; } kinds[] = {
		{ GEN_DNS, "dns", "DNS" }, { GEN_URI, "uri", "URI" }, { GEN_EMAIL, "mail", "MAIL" },
	};
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	struct buf b = BUF_INIT;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		const ASN1_STRING *v = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

		for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
			struct str one;

			if (kinds[k].type != type || (mods->word.len && !str_isi(mods->word, kinds[k].word)))
				continue;
			one = str_make((const char *)ASN1_STRING_get0_data(v), (size_t)ASN1_STRING_length(v));
			if (!mods->word.len)
				one = str_printf(ev->arena, "%s=%.*s", kinds[k].tag, STR_FMT(one));
			lang_split_add(&b, mods->sep, one, !b.len);
		}
	}
	GENERAL_NAMES_free(names);
	*out = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return out->len;
}

static void uri_add(struct buf *b, const GENERAL_NAME *name, char sep)
{
	int type;
	const ASN1_STRING *v = GENERAL_NAME_get0_value(name, &type);

	if (type == GEN_URI)
		lang_split_add(b, sep, str_make((const char *)ASN1_STRING_get0_data(v), (size_t)ASN1_STRING_length(v)), !b->len);
}

static bool field_ocsp_uri(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	AUTHORITY_INFO_ACCESS *ways = X509_get_ext_d2i(x, NID_info_access, NULL, NULL);
	struct buf b = BUF_INIT;

	for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(ways); i++) {
		const ACCESS_DESCRIPTION *way = sk_ACCESS_DESCRIPTION_value(ways, i);

		if (OBJ_obj2nid(way->method) == NID_ad_OCSP)
			uri_add(&b, way->location, mods->sep);
	}
	AUTHORITY_INFO_ACCESS_free(ways);
	*out = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return out->len;
}

static bool field_crl_uri(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out)
{
	CRL_DIST_POINTS *points = X509_get_ext_d2i(x, NID_crl_distribution_points, NULL, NULL);
	struct buf b = BUF_INIT;

	for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
		const DIST_POINT *point = sk_DIST_POINT_value(points, i);

		if (point->distpoint && point->distpoint->type == 0)
			for (int k = 0; k < sk_GENERAL_NAME_num(point->distpoint->name.fullname); k++)
				uri_add(&b, sk_GENERAL_NAME_value(point->distpoint->name.fullname, k), mods->sep);
	}
	CRL_DIST_POINTS_free(points);
	*out = str_taint(str_dup(ev->arena, buf_str(&b)));
	buf_clear(&b);
	return out->len;
}

static const struct {
	const char *name;
	bool (*fn)(struct eval *ev, X509 *x, const struct cert_mods *mods, struct str *out);
} cert_fields[] = {
	{ "version", field_version }, { "serial_number", field_serial }, { "subject", field_subject }, { "issuer", field_issuer },
	{ "notbefore", field_notbefore }, { "notafter", field_notafter }, { "sig_algorithm", field_sig_algorithm }, { "signature", field_signature },
	{ "subj_altname", field_altname }, { "ocsp_uri", field_ocsp_uri }, { "crl_uri", field_crl_uri },
};

/* Of a certificate that is encrypted; OpenSSL's own would ask on a terminal. */
static int no_password(char *room, int size, int writing, void *arg)
{
	(void)room, (void)size, (void)writing, (void)arg;
	return -1;
}

static X509 *cert_read(struct eval *ev, struct str text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	BIO *bio;
	X509 *x;

	if (text.len > CERT_MAX)
		return NULL;
	if (str_find_str(text, STR_LIT("-----BEGIN")) < 0)
		return d2i_X509(NULL, &p, (long)text.len);
	bio = BIO_new_mem_buf(str_cstr(ev->arena, text), (int)text.len);
	x = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
	BIO_free(bio);
	return x;
}

/* "subject,CN,>;": the field, then modifiers. */
static struct str mods_parse(struct str field, struct cert_mods *mods)
{
	struct str name = STR_NULL, part;

	*mods = (struct cert_mods){ STR_NULL, '\n' };
	if (!str_split(&field, ',', &name))
		return name;
	while (str_split(&field, ',', &part)) {
		part = str_trim(part);
		if (part.len && part.p[0] == '>')
			mods->sep = part.len > 1 ? part.p[1] : '\n';
		else if (part.len)
			mods->word = part;
	}
	return str_trim(name);
}

static enum status item_certextract(struct eval *ev, const struct call *call, const struct str *args, struct item_value *out, struct err *err)
{
	struct cert_mods mods;
	struct str name = mods_parse(args[0], &mods);
	X509 *x;

	(void)call;
	if (!args[1].len)
		return ST_OK;
	x = cert_read(ev, args[1]);
	if (!x)
		return err_set(err, ST_ERROR, "the second argument of \"certextract\" is no certificate");
	for (size_t i = 0; i < sizeof cert_fields / sizeof *cert_fields; i++)
		if (str_isi(name, cert_fields[i].name)) {
			out->found = cert_fields[i].fn(ev, x, &mods, &out->text);
			X509_free(x);
			return ST_OK;
		}
	X509_free(x);
	return err_set(err, ST_ERROR, "\"%.*s\" is no field of \"certextract\"", STR_FMT(expand_quote(ev, name)));
}

const struct item_row exp_items_results[] = {
	{ "authresults", 1, 1, 0, item_authresults, NULL,
		"an Authentication-Results: field (RFC 8601) with what the checks of this session found",
		.usage = "{server name}" },
	{ "certextract", 2, 2, ITEM_YES_NO, item_certextract, NULL,
		"a field of a certificate: version, serial_number, subject, issuer, notbefore, notafter, sig_algorithm, signature, subj_altname, ocsp_uri or crl_uri, with modifiers behind commas",
		.usage = "{field}{certificate}{yes}{no}" },
	{ NULL }
};
