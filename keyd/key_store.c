/* SPDX-License-Identifier: ISC */
#include "keyd/key_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "keyd/key_pss.h"

#define SYSTEM_ANCHORS "/etc/ssl/certs/ca-certificates.crt"

enum { READ_BLOCK = 65536, PATH_SIZE = 4096 };

/* How a file was when it was read. */
struct seen {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

struct cert {
	char *name;                /* the three paths, separated by LF */
	struct seen seen[3];
	uint64_t looked_ms, version, key;
	char *chain, *ocsp;
	size_t chain_len, ocsp_len;
	time_t ocsp_until;         /* wall clock */
};

struct file {
	char *name, *text;
	size_t len;
	bool directory;
	struct seen seen;
	uint64_t looked_ms, version;
};

struct key_store {
	struct hash certs, files;  /* by name */
	EVP_PKEY **keys;           /* number - first */
	size_t n_keys, room;
	uint64_t first, versions;  /* begin at random: another process has other numbers, and what it gave is never taken for one of these */
	void (*on_trouble)(void *arg, const char *text);
	void *trouble_arg;
	struct str self_chain;
	uint64_t self_key;
	struct store_count count;
	struct arena arena;        /* of the self-signed one */
};

static const char serves[] = "what was read before goes on serving";

/* A file has changed, and cannot be used. */
static void trouble(const struct key_store *s, const struct err *err, const char *then)
{
	char text[ERR_TEXT_MAX + 64];

	snprintf(text, sizeof text, "%s; %s", err->text, then);
	if (s->on_trouble)
		s->on_trouble(s->trouble_arg, text);
}

/* ---- files ---- */

static enum status openssl_error(struct err *err, struct str path, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_set(err, ST_ERROR, "%.*s: %s%s%s", STR_FMT(path), what, reason ? ": " : "", reason ? reason : "");
}

static bool seen_same(const struct seen *a, const struct seen *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
		a->changed.tv_nsec == b->changed.tv_nsec;
}

static void seen_take(struct seen *out, const struct stat *st)
{
	*out = (struct seen){ st->st_dev, st->st_ino, st->st_size, st->st_ctim };
}

static bool path_is_fine(struct str path)
{
	return path.len && path.len < PATH_SIZE && *path.p == '/' && !memchr(path.p, '\0', path.len) && !memchr(path.p, '\n', path.len);
}

/* Is it as it was? A file that was not there is the same while it is not. */
static bool file_is_same(struct str path, const struct seen *before)
{
	char name[PATH_SIZE];
	struct seen now;
	struct stat st;

	if (!path.len)
		return true;
	memcpy(name, path.p, path.len);
	name[path.len] = '\0';
	if (stat(name, &st) < 0)
		return !before->ino && errno == ENOENT;
	seen_take(&now, &st);
	return seen_same(&now, before);
}

static enum status file_read(struct str path, struct buf *out, struct seen *seen, struct err *err)
{
	char name[PATH_SIZE];
	struct stat st;
	ssize_t n = 0;
	char *room;
	int fd;

	if (!path_is_fine(path))
		return err_set(err, ST_ERROR, "\"%.*s\" is no absolute path", STR_FMT(str_sub(path, 0, 100)));
	memcpy(name, path.p, path.len);
	name[path.len] = '\0';
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_set(err, errno == ENOENT ? ST_FAIL : ST_ERROR, "%s: %s%s", name, strerror(errno),
			errno == ENOENT ? " (keyd sees the directories of tls_directories)" : errno == EACCES ? " (keyd's user must be allowed to read it)" : "");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > STORE_FILE_MAX) {
		close(fd);
		return err_set(err, ST_ERROR, "%s: no file, or larger than %d octets", name, STORE_FILE_MAX);
	}
	seen_take(seen, &st);
	while ((room = buf_room(out, READ_BLOCK)) && (n = read(fd, room, READ_BLOCK)) > 0)
		out->len += (size_t)n;
	close(fd);
	if (out->full || out->len > STORE_FILE_MAX)
		return err_set(err, ST_ERROR, "%s: larger than %d octets", name, STORE_FILE_MAX);
	return n < 0 ? err_set(err, ST_ERROR, "%s: %s", name, strerror(errno)) : ST_OK;
}

/* ---- what is public ---- */

/* Copies the PEM blocks of these kinds; returns how many, 0 also where a block is broken: the file may be half written. */
static unsigned public_copy(struct str text, const char *const *kinds, struct buf *out)
{
	BIO *in = BIO_new_mem_buf(text.p ? text.p : "", (int)text.len), *to = BIO_new(BIO_s_mem());
	char *name = NULL, *header = NULL, *p;
	unsigned char *data = NULL;
	unsigned found = 0;
	long n, len;

	while (PEM_read_bio(in, &name, &header, &data, &n) == 1) {
		for (const char *const *k = kinds; *k; k++)
			if (!strcmp(name, *k)) {
				PEM_write_bio(to, name, "", data, n);
				found++;
			}
		OPENSSL_cleanse(data, (size_t)n);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
		name = header = NULL;
		data = NULL;
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		found = 0;
	len = BIO_get_mem_data(to, &p);
	buf_add(out, p, len > 0 ? (size_t)len : 0);
	BIO_free(in);
	BIO_free(to);
	ERR_clear_error();
	return found;
}

static const char *const cert_kinds[] = { "CERTIFICATE", "X509 CERTIFICATE", NULL };
static const char *const file_kinds[] = { "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CRL", "DH PARAMETERS", "X9.42 DH PARAMETERS", NULL };

static OCSP_RESPONSE *ocsp_parse(struct str text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	OCSP_RESPONSE *r;
	BIO *in;

	if (!str_begins(text, "-----"))
		return text.len ? d2i_OCSP_RESPONSE(NULL, &p, (long)text.len) : NULL;
	in = BIO_new_mem_buf(text.p, (int)text.len);
	r = PEM_ASN1_read_bio((d2i_of_void *)d2i_OCSP_RESPONSE, "OCSP RESPONSE", in, NULL, NULL, NULL);
	BIO_free(in);
	return r;
}

/* Until when all that it says is good; 0: nothing, or it does not say. */
static time_t ocsp_end(OCSP_BASICRESP *basic)
{
	time_t end = 0;

	for (int i = 0; i < OCSP_resp_count(basic); i++) {
		ASN1_GENERALIZEDTIME *made, *from, *until = NULL;
		struct tm tm;
		time_t t;

		OCSP_single_get0_status(OCSP_resp_get0(basic, i), NULL, &made, &from, &until);
		if (!until || !ASN1_TIME_to_tm(until, &tm))
			return 0;
		t = timegm(&tm);
		end = !end || t < end ? t : end;
	}
	return end;
}

/* An answer that is missing or of no use is no reason to do without the certificate: NULL, and it is told. */
static OCSP_RESPONSE *ocsp_take(struct key_store *s, struct str path, struct seen *seen, time_t *until)
{
	struct buf text = BUF_LIMIT(STORE_FILE_MAX + READ_BLOCK);
	struct err err = ERR_INIT;
	enum status st = file_read(path, &text, seen, &err);
	OCSP_RESPONSE *r = st || text.len > STORE_CHAIN_MAX ? NULL : ocsp_parse(buf_str(&text));
	OCSP_BASICRESP *basic = r && OCSP_response_status(r) == OCSP_RESPONSE_STATUS_SUCCESSFUL ? OCSP_response_get1_basic(r) : NULL;

	*until = basic ? ocsp_end(basic) : 0;
	if (!st && !basic)
		err_set(&err, ST_ERROR, "%.*s: no OCSP answer, in DER or PEM", STR_FMT(path));
	else if (!st && *until <= time(NULL))
		err_set(&err, ST_ERROR, "%.*s: the OCSP answer is out of date, or does not say until when it is good", STR_FMT(path));
	if (err.status) {
		trouble(s, &err, "the certificate goes without");
		OCSP_RESPONSE_free(r);
		r = NULL;
	}
	OCSP_BASICRESP_free(basic);
	buf_clear(&text);
	ERR_clear_error();
	return r;
}

/* ---- keys ---- */

/* Takes the key. One that is there already (read again with a new OCSP answer, say) keeps its number. */
static enum status key_keep(struct key_store *s, EVP_PKEY *key, uint64_t *number, struct err *err)
{
	for (size_t i = s->n_keys; i-- > 0; )
		if (EVP_PKEY_eq(s->keys[i], key) == 1) {
			EVP_PKEY_free(key);
			*number = s->first + i;
			return ST_OK;
		}
	if (s->n_keys == STORE_KEYS_MAX) {
		EVP_PKEY_free(key);
		return err_set(err, ST_ERROR, "more than %d keys have been read", STORE_KEYS_MAX);
	}
	if (s->n_keys == s->room) {
		s->room = s->room * 2 + 16;
		s->keys = mem_resize(s->keys, s->room * sizeof *s->keys);
	}
	*number = s->first + s->n_keys;
	s->keys[s->n_keys++] = key;
	return ST_OK;
}

static int no_password(char *out, int size, int writing, void *arg)
{
	(void)out, (void)size, (void)writing, (void)arg;
	return -1;
}

static enum status key_take(struct key_store *s, struct str path, struct str text, struct str chain, uint64_t *number, struct err *err)
{
	BIO *in = BIO_new_mem_buf(text.p ? text.p : "", (int)text.len), *certs = BIO_new_mem_buf(chain.p, (int)chain.len);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
	X509 *leaf = PEM_read_bio_X509(certs, NULL, NULL, NULL);
	enum status st = ST_OK;

	BIO_free(in);
	BIO_free(certs);
	if (!key)
		st = openssl_error(err, path, "no private key that can be read");
	else if (!leaf || X509_check_private_key(leaf, key) != 1)
		st = openssl_error(err, path, "the key does not fit the certificate");
	else if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA && EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
		st = err_set(err, ST_ERROR, "%.*s: the key must be RSA or ECDSA", STR_FMT(path));
	X509_free(leaf);
	ERR_clear_error();
	if (st)
		EVP_PKEY_free(key);
	return st ? st : key_keep(s, key, number, err);
}

enum status store_sign(struct key_store *s, uint64_t number, bool raw, struct str octets, struct buf *signature, struct err *err)
{
	EVP_PKEY *key = number >= s->first && number - s->first < s->n_keys ? s->keys[number - s->first] : NULL;
	EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
	size_t n = 0;
	char *room = NULL;
	bool rsa, done;

	if (!key) {
		s->count.refused++;
		return err_set(err, ST_FAIL, "there is no key %llu", (unsigned long long)number);
	}
	rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
	done = ctx && (!rsa || !raw || key_pss_padded(octets, (unsigned)EVP_PKEY_get_bits(key))) && EVP_PKEY_sign_init(ctx) == 1 &&
		(!rsa || EVP_PKEY_CTX_set_rsa_padding(ctx, raw ? RSA_NO_PADDING : RSA_PKCS1_PADDING) == 1) &&
		EVP_PKEY_sign(ctx, NULL, &n, (const unsigned char *)octets.p, octets.len) == 1 && (room = buf_room(signature, n)) &&
		EVP_PKEY_sign(ctx, (unsigned char *)room, &n, (const unsigned char *)octets.p, octets.len) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	if (!done) {
		s->count.refused++;
		return err_set(err, ST_ERROR, "key %llu does not sign that", (unsigned long long)number);
	}
	signature->len += n;
	s->count.signatures++;
	return ST_OK;
}

/* ---- the self-signed one ---- */

static struct str bio_take(struct arena *a, BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	struct str s = str_dup(a, str_make(p, n > 0 ? (size_t)n : 0));

	BIO_free(bio);
	return s;
}

static void self_make(struct key_store *s, struct str host)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	BIO *bio = BIO_new(BIO_s_mem());
	X509_EXTENSION *alt;
	char cn[65];

	snprintf(cn, sizeof cn, "%.*s", STR_FMT(str_sub(host, 0, 64)));
	X509_set_version(cert, 2);
	ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), (uint64_t)time(NULL));
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_time_adj_ex(X509_getm_notAfter(cert), 3650, 0, NULL);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, arena_printf(&s->arena, "DNS:%.*s", STR_FMT(str_sub(host, 0, 253))));
	if (alt)
		X509_add_ext(cert, alt, -1);
	X509_EXTENSION_free(alt);
	X509_sign(cert, key, EVP_sha256());
	PEM_write_bio_X509(bio, cert);
	s->self_chain = bio_take(&s->arena, bio);
	X509_free(cert);
	ERR_clear_error();
	key_keep(s, key, &s->self_key, NULL);
}

/* ---- certificates ---- */

static void cert_free(struct cert *c)
{
	mem_free(c->name);
	mem_free(c->chain);
	mem_free(c->ocsp);
	mem_free(c);
}

static enum status cert_read(struct key_store *s, struct cert *c, struct str cert, struct str key, struct str ocsp, struct err *err)
{
	struct buf text = BUF_LIMIT(STORE_FILE_MAX + READ_BLOCK), key_text = BUF_LIMIT(STORE_FILE_MAX + READ_BLOCK), chain = BUF_LIMIT(STORE_CHAIN_MAX);
	OCSP_RESPONSE *answer = NULL;
	unsigned char *der = NULL;
	int der_len;
	enum status st = file_read(cert, &text, &c->seen[0], err);

	if (!st && (!public_copy(buf_str(&text), cert_kinds, &chain) || chain.full))
		st = err_set(err, ST_ERROR, "%.*s: no certificate, or too many", STR_FMT(cert));
	if (!st && key.len)
		st = file_read(key, &key_text, &c->seen[1], err);
	if (!st)
		st = key_take(s, key.len ? key : cert, buf_str(key.len ? &key_text : &text), buf_str(&chain), &c->key, err);
	if (!st) {
		memset(&c->seen[2], 0, sizeof c->seen[2]);
		answer = ocsp.len ? ocsp_take(s, ocsp, &c->seen[2], &c->ocsp_until) : NULL;
		der_len = answer ? i2d_OCSP_RESPONSE(answer, &der) : 0;
		mem_free(c->chain);
		mem_free(c->ocsp);
		c->chain = mem_memdup(chain.p, c->chain_len = chain.len);
		c->ocsp = der_len > 0 ? mem_memdup(der, (size_t)der_len) : NULL;
		c->ocsp_len = der_len > 0 ? (size_t)der_len : 0;
		OPENSSL_free(der);
		OCSP_RESPONSE_free(answer);
		c->version = ++s->versions;
	}
	if (key_text.p)
		explicit_bzero(key_text.p, key_text.cap);
	if (text.p)
		explicit_bzero(text.p, text.cap);
	buf_clear(&text);
	buf_clear(&key_text);
	buf_clear(&chain);
	return st;
}

enum status store_cert(struct key_store *s, struct str cert, struct str key, struct str ocsp, uint64_t now_ms, struct store_cert *out,
	struct err *err)
{
	struct arena a = ARENA_INIT;
	struct err why = ERR_INIT;
	struct str name;
	struct cert *c;
	enum status st = ST_OK;

	*out = (struct store_cert){ 0 };
	if (!cert.len) {
		*out = (struct store_cert){ .chain = s->self_chain, .key = s->self_key, .version = s->first };
		return ST_OK;
	}
	if (!path_is_fine(cert) || (key.len && !path_is_fine(key)) || (ocsp.len && !path_is_fine(ocsp)))
		return err_set(err, ST_ERROR, "\"%.*s\", \"%.*s\", \"%.*s\": files must have absolute paths", STR_FMT(str_sub(cert, 0, 80)),
			STR_FMT(str_sub(key, 0, 80)), STR_FMT(str_sub(ocsp, 0, 80)));
	name = str_printf(&a, "%.*s\n%.*s\n%.*s", STR_FMT(cert), STR_FMT(key), STR_FMT(ocsp));
	c = hash_get(&s->certs, name);
	if (!c && s->count.certs >= STORE_CERTS_MAX) {
		st = err_set(err, ST_ERROR, "more than %d certificates", STORE_CERTS_MAX);
	} else if (!c) {
		c = mem_new(sizeof *c);
		st = cert_read(s, c, cert, key, ocsp, err);
		if (st) {
			cert_free(c);
		} else {
			c->name = mem_memdup(name.p, name.len);
			c->looked_ms = now_ms;
			hash_put(&s->certs, str_of(c->name), c);
			s->count.certs++;
		}
	} else if (now_ms >= c->looked_ms + STORE_LOOK_MS) {
		c->looked_ms = now_ms;
		if (c->ocsp_len && c->ocsp_until <= time(NULL))
			memset(&c->seen[2], 0, sizeof c->seen[2]); /* read anew, and said */
		/* While new files are half written the old ones serve. */
		if ((!file_is_same(cert, &c->seen[0]) || !file_is_same(key, &c->seen[1]) || !file_is_same(ocsp, &c->seen[2])) &&
		    cert_read(s, c, cert, key, ocsp, &why))
			trouble(s, &why, serves);
	}
	if (!st)
		*out = (struct store_cert){ .chain = str_make(c->chain, c->chain_len), .ocsp = c->ocsp_len ? str_make(c->ocsp, c->ocsp_len) : STR_NULL, .key = c->key,
			.version = c->version };
	arena_clear(&a);
	return st;
}

/* ---- other files ---- */

static enum status public_add(struct str path, struct seen *seen, struct buf *public, struct err *err)
{
	struct buf text = BUF_LIMIT(STORE_FILE_MAX + READ_BLOCK);
	enum status st = file_read(path, &text, seen, err);

	if (!st && (!public_copy(buf_str(&text), file_kinds, public) || public->full))
		st = err_set(err, ST_ERROR, "%.*s: nothing in it that is public and in PEM form", STR_FMT(path));
	if (text.p)
		explicit_bzero(text.p, text.cap);
	buf_clear(&text);
	return st;
}

/* All files of a directory, of which one or the other may be something else. A change is seen when one comes or goes. */
static enum status directory_add(struct str path, struct seen *seen, struct buf *public, struct err *err)
{
	struct arena a = ARENA_INIT;
	DIR *dir = opendir(str_cstr(&a, path));
	struct dirent *entry;
	struct seen one;
	struct stat st;
	unsigned n = 0;

	if (dir && !fstat(dirfd(dir), &st))
		seen_take(seen, &st);
	while (dir && !public->full && n < STORE_DIRECTORY_MAX && (entry = readdir(dir)))
		if (entry->d_name[0] != '.') {
			public_add(str_printf(&a, "%.*s/%s", STR_FMT(path), entry->d_name), &one, public, NULL);
			n++;
		}
	if (dir)
		closedir(dir);
	arena_clear(&a);
	return public->len && !public->full ? ST_OK :
		err_set(err, ST_ERROR, "%.*s: no file in it with anything that is public and in PEM form, or too much", STR_FMT(path));
}

static bool path_is_directory(struct str path)
{
	char name[PATH_SIZE];
	struct stat st;

	memcpy(name, path.p, path.len);
	name[path.len] = '\0';
	return stat(name, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum status public_read(struct key_store *s, struct file *f, struct str path, struct err *err)
{
	struct buf public = BUF_LIMIT(STORE_FILE_MAX);
	bool directory = path_is_directory(path);
	enum status st = directory ? directory_add(path, &f->seen, &public, err) : public_add(path, &f->seen, &public, err);

	if (!st) {
		mem_free(f->text);
		f->text = mem_memdup(public.p, f->len = public.len);
		f->version = ++s->versions;
		f->directory = directory;
	}
	buf_clear(&public);
	return st;
}

enum status store_file(struct key_store *s, struct str name, uint64_t now_ms, struct store_file *out, struct err *err)
{
	struct str path = str_is(name, "system") ? STR_LIT(SYSTEM_ANCHORS) : name;
	struct err why = ERR_INIT;
	struct file *f;
	enum status st = ST_OK;

	if (!path_is_fine(path))
		return err_set(err, ST_ERROR, "\"%.*s\" is no absolute path", STR_FMT(str_sub(path, 0, 100)));
	f = hash_get(&s->files, path);
	if (!f && s->count.files >= STORE_CERTS_MAX)
		return err_set(err, ST_ERROR, "more than %d files", STORE_CERTS_MAX);
	if (!f) {
		f = mem_new(sizeof *f);
		st = public_read(s, f, path, err);
		if (st) {
			mem_free(f);
			return st;
		}
		f->name = mem_memdup(path.p, path.len);
		f->looked_ms = now_ms;
		hash_put(&s->files, str_of(f->name), f);
		s->count.files++;
	} else if (now_ms >= f->looked_ms + STORE_LOOK_MS) {
		f->looked_ms = now_ms;
		if (!file_is_same(path, &f->seen) && public_read(s, f, path, &why))
			trouble(s, &why, serves);
	}
	*out = (struct store_file){ str_make(f->text, f->len), f->version, f->directory };
	return ST_OK;
}

/* ---- life ---- */

struct key_store *store_new(struct str host)
{
	struct key_store *s = mem_new(sizeof *s);

	if (RAND_bytes((unsigned char *)&s->first, sizeof s->first) != 1)
		s->first = (uint64_t)time(NULL) << 20;
	s->first >>= 1; /* room to count */
	s->first += !s->first;
	s->versions = s->first;
	self_make(s, host);
	return s;
}

void store_on_trouble(struct key_store *s, void (*fn)(void *arg, const char *text), void *arg)
{
	s->on_trouble = fn;
	s->trouble_arg = arg;
}

void store_free(struct key_store *s)
{
	struct str name;
	struct cert *c;
	struct file *f;
	uint32_t pos;

	if (!s)
		return;
	for (pos = 0; (c = hash_next(&s->certs, &pos, &name)); )
		cert_free(c);
	for (pos = 0; (f = hash_next(&s->files, &pos, &name)); ) {
		mem_free(f->name);
		mem_free(f->text);
		mem_free(f);
	}
	hash_clear(&s->certs);
	hash_clear(&s->files);
	for (size_t i = 0; i < s->n_keys; i++)
		EVP_PKEY_free(s->keys[i]);
	mem_free(s->keys);
	arena_clear(&s->arena);
	mem_free(s);
}

void store_count(const struct key_store *s, struct store_count *out)
{
	*out = s->count;
	out->keys = s->n_keys;
}
