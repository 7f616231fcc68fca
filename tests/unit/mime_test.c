/* SPDX-License-Identifier: ISC */
/* MIME: parameters, encodings, the parts of a message, and the limits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/mail/mime.h"

static struct arena arena;

/* ---- parameters ---- */

static const struct { const char *value, *name, *want; /* NULL: it has none */ } params[] = {
	{ "text/plain; charset=utf-8", "charset", "utf-8" },
	{ "text/plain;charset=utf-8;name=x", "name", "x" },
	{ "text/plain; CHARSET = \"utf-8\" ", "charset", "utf-8" },
	{ "text/plain", "charset", NULL },
	{ "", "charset", NULL },
	{ ";", "charset", NULL },
	{ ";;;charset=a", "charset", "a" },
	{ "x; charset", "charset", "" },
	{ "x; charset=", "charset", "" },
	{ "x; xcharset=1; charset=2", "charset", "2" },
	{ "x; charset2=1; charset=2", "charset", "2" },
	{ "x; charset=1; charset=2", "charset", "1" },
	{ "x; name=\"a;b\"; charset=c", "charset", "c" },
	{ "x; name=\"a;b\"; charset=c", "name", "a;b" },
	{ "x; name=\"a \\\"q\\\" b\\\\c\"", "name", "a \"q\" b\\c" },
	{ "x; name=\"open; charset=c", "name", "open; charset=c" },
	{ "x; name=\"open\\", "name", "open\\" },
	{ "x; name=two words ; charset=c", "name", "two words" },
	{ "x; name=a\"b c\"d", "name", "ab cd" },
	{ "x; name=\" a \" ", "name", " a " },
	{ "x (c; name=no) ; (c) name=(c)y(e)s(", "name", "ys" },
	{ "x; name=a(b(c)d)e", "name", "ae" },
	{ "x; name=a(b\\)c)e", "name", "ae" },
	{ "x (\"; name=no\"); name=yes", "name", "yes" },
	{ "\"quoted; name=no\"; name=yes", "name", "yes" },
	/* RFC 2231 */
	{ "x; name*=utf-8''a%20b", "name", "a b" },
	{ "x; name*=utf-8'en'a%2", "name", "a%2" },
	{ "x; name*=''plain", "name", "plain" },
	{ "x; name*=noquotes%41", "name", "noquotesA" },
	{ "x; name=plain; name*=utf-8''star", "name", "star" },
	{ "x; name*0=a; name*1=b; name*2=\"c d\"", "name", "abc d" },
	{ "x; name*1=b; name*0=a", "name", "ab" },
	{ "x; name*0*=utf-8''%61; name*1=%62; name*2*=%63", "name", "a%62c" },
	{ "x; name*0=a; name*2=c", "name", "a" },
	{ "x; name*1=b", "name", NULL },
	{ "x; name*1=b; name=p", "name", "p" },
	{ "x; name*99=z; name*100=y; name*0=a", "name", "a" },
	{ "x; name*0=a; name*0=b; name*1=c; name*1=d", "name", "ac" },
	{ "x; name**=a; name*x=b; name*-1=c; name*=d", "name", "d" },
};

static void parameters(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
		struct str got = STR_NULL;
		bool has = mime_param(&arena, str_of(params[i].value), params[i].name, &got);

		if (has != (params[i].want != NULL) || (has && !str_is(got, params[i].want)))
			fail_msg("%s of \"%s\": got %s\"%.*s\", want \"%s\"", params[i].name, params[i].value, has ? "" : "none ", STR_FMT(got),
				params[i].want ? params[i].want : "(none)");
	}
}

/* ---- encodings ---- */

static const struct { enum mime_encoding encoding; const char *in, *want; bool broken; } codes[] = {
	{ MIME_IDENTITY, "a\r\nb\nc\rd\r\r\n", "a\nb\nc\rd\r\n", false },
	{ MIME_IDENTITY, "a\r", "a\r", false },
	{ MIME_IDENTITY, "=41", "=41", false },
	{ MIME_BASE64, "aGFsbG8=\r\n", "hallo", false },
	{ MIME_BASE64, "aG\r\nFs\nbG8=", "hallo", false },
	{ MIME_BASE64, "aGFsbG8", "hallo", true },
	{ MIME_BASE64, "aGFsbG8gd29ybGQ=", "hallo world", false },
	{ MIME_BASE64, "aGFs bG8=", "hallo", true },
	{ MIME_BASE64, "a!G*Fs", "hal", true },
	{ MIME_BASE64, "YQ==\r\nYg==", "ab", false },
	{ MIME_BASE64, "YWJjZ", "abc", true },
	{ MIME_BASE64, "=", "", true },
	{ MIME_BASE64, "YQ=", "a", false },
	{ MIME_BASE64, "", "", false },
	{ MIME_BASE64, "DQo=", "\r\n", false },
	{ MIME_QUOTED_PRINTABLE, "a=3Db=3db", "a=b=b", false },
	{ MIME_QUOTED_PRINTABLE, "a=\r\nb=\nc= \t\r\nd", "abcd", false },
	{ MIME_QUOTED_PRINTABLE, "a =\r\n", "a ", false },
	{ MIME_QUOTED_PRINTABLE, "a\r\nb", "a\nb", false },
	{ MIME_QUOTED_PRINTABLE, "=ZZ", "=ZZ", true },
	{ MIME_QUOTED_PRINTABLE, "=4", "=4", true },
	{ MIME_QUOTED_PRINTABLE, "=4Z", "=4Z", true },
	{ MIME_QUOTED_PRINTABLE, "==41", "=A", true },
	{ MIME_QUOTED_PRINTABLE, "= x", "=x", true },
	{ MIME_QUOTED_PRINTABLE, "=0D=0A", "\r\n", false },
};

static void decoding(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		for (size_t cut = 0; cut <= strlen(codes[i].in); cut++) { /* in two pieces, cut anywhere */
			struct mime_decoder d = { .encoding = codes[i].encoding };
			char out[256];
			size_t n = mime_decode(&d, codes[i].in, cut, out);

			n += mime_decode(&d, codes[i].in + cut, strlen(codes[i].in) - cut, out + n);
			n += mime_decode_end(&d, out + n);
			if (n != strlen(codes[i].want) || memcmp(out, codes[i].want, n) != 0 || d.broken != codes[i].broken)
				fail_msg("\"%s\" cut at %zu: got \"%.*s\" broken %d, want \"%s\" %d", codes[i].in, cut, (int)n, out, d.broken, codes[i].want, codes[i].broken);
		}
}

/* ---- parts ---- */

/* "NUMBER[@ATTACHED][c][t] TYPE BODY": c a cover letter, t typed; LF is written as /. */
static const struct { const char *message, *want; } messages[] = {
	{ "A: b\n\nbody\n", "0c  body/" },
	{ "Content-Type: text/plain\n\nbody\n", "0ct text/plain body/" },
	{ "Content-Type: text/plain", "0ct text/plain " },
	{ "", "0c  " },
	{ "\nbody", "0c  body" },
	{ "Content-Type: multipart/mixed; boundary=B\n\npre\n--B\n\none\n--B\nContent-Type: A/B; x\n\ntwo\n--B--\nepi\n",
		"0ct multipart/mixed pre/--B//one/--B/Content-Type: A/B; x//two/--B--/epi/|1c  one/|2t a/b two/" },
	{ "Content-Type: multipart/mixed; boundary=B\n\n--B\n\none", "0ct multipart/mixed --B//one|1c  one" },
	{ "Content-Type: multipart/mixed\n\n--B\n\none\n--B--\n", "0ct multipart/mixed --B//one/--B--/" },
	{ "Content-Type: multipart/mixed; boundary=B\n\n--B--\n--B\n\nlate\n", "0ct multipart/mixed --B--/--B//late/" },
	{ "Content-Type: multipart/alternative; boundary=B\n\n--B\n\na\n--B\n\nb\n--B--\n", "0ct multipart/alternative --B//a/--B//b/--B--/|1c  a/|2c  b/" },
	{ "Content-Type: multipart/mixed; boundary=B\n\n--B \t\n\na\n--Bx\n--B\nX: y", "0ct multipart/mixed --B \t//a/--Bx/--B/X: y|1c  a/--Bx/|2  " },
	{ "Content-Type: multipart/mixed; boundary=B\n\n--B\n\na\n--B--x\n", "0ct multipart/mixed --B//a/--B--x/|1c  a/" },
	{ "Content-Type: multipart/mixed; boundary=O\n\n--O\nContent-Type: multipart/mixed; boundary=I\n\n--I\n\na\n--O\n\nb\n--O--\n",
		"0ct multipart/mixed --O/Content-Type: multipart/mixed; boundary=I//--I//a/--O//b/--O--/|1ct multipart/mixed --I//a/|2c  a/|3  b/" },
	{ "Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: message/rfc822\n\nS: x\nContent-Type: text/html\n\nin\n--B\n\nout\n--B--\n",
		"0ct multipart/mixed --B/Content-Type: message/rfc822//S: x/Content-Type: text/html//in/--B//out/--B--/"
		"|1ct message/rfc822 S: x/Content-Type: text/html//in/|2  out/|0@1ct text/html in/" },
	{ "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nUzogeAoKaW4=\n", "0ct message/rfc822 S: x//in|0@1c  in" },
	{ "content-TYPE:text/HTML\nContent-Type : text/x-last\n\n", "0ct text/x-last " },
	{ "no field\nContent-Type: text/x\n\n", "0ct text/x " },
	{ " folded: first\nContent-Type: text/x\n\n", "0ct text/x " },
};

static struct str with_crlf(const char *text)
{
	struct buf b = BUF_INIT;
	struct str s;

	for (; *text; text++)
		buf_adds(&b, *text == '\n' ? "\r\n" : (char[]){ *text, '\0' });
	s = str_dup(&arena, buf_str(&b));
	buf_clear(&b);
	return s;
}

static void tree_show(const struct mime_tree *t, struct buf *out)
{
	for (const struct mime_part *p = t->first; p; p = p->next) {
		struct buf body = BUF_LIMIT(4096);
		enum mime_anomaly anomaly;
		struct err err = ERR_INIT;
		uint64_t size;

		buf_printf(out, "%s%u", p == t->first ? "" : "|", p->number);
		if (p->attached)
			buf_printf(out, "@%u", p->attached);
		buf_printf(out, "%s%s %.*s ", p->cover_letter ? "c" : "", p->typed ? "t" : "", STR_FMT(p->type));
		assert_int_equal(mime_part_decode(p, &body, &size, &anomaly, &err), ST_OK);
		assert_int_equal(size, body.len);
		for (size_t i = 0; i < body.len; i++)
			buf_addc(out, body.p[i] == '\n' ? '/' : body.p[i]);
		buf_clear(&body);
	}
}

static void parts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
		for (int way = 0; way < 3; way++) { /* LF; CR LF; from a descriptor, behind other octets */
			struct str text = way ? with_crlf(messages[i].message) : str_of(messages[i].message);
			struct mime_source source = { .fd = -1, .memory = text.p, .size = text.len };
			struct buf got = BUF_INIT;
			struct err err = ERR_INIT;
			struct mime_tree t;

			if (way == 2) {
				source = (struct mime_source){ .fd = memfd_create("mime", 0), .offset = 5, .size = text.len };
				assert_int_equal(pwrite(source.fd, text.p, text.len, 5), (ssize_t)text.len);
				assert_int_equal(pwrite(source.fd, "tail", 4, 5 + (off_t)text.len), 4);
			}
			assert_int_equal(mime_parse(&t, &arena, &source, &err), ST_OK);
			tree_show(&t, &got);
			if (strcmp(buf_cstr(&got), messages[i].want) != 0)
				fail_msg("case %zu, way %d:\n got %s\nwant %s", i, way, buf_cstr(&got), messages[i].want);
			mime_clear(&t);
			buf_clear(&got);
			if (source.fd >= 0)
				close(source.fd);
		}
}

/* A boundary is found wherever it lies in what is read at once. */
static void places(void **state)
{
	static const char head[] = "Content-Type: multipart/mixed; boundary=B\r\n\r\n", mark[] = "\r\n--B\r\nContent-Type: text/x-found\r\n\r\nin\r\n--B--\r\n";
	char *text = malloc(40000);

	(void)state;
	for (size_t fill = 32768 - 120; fill < 32768 + 20; fill++) {
		size_t n = sizeof head - 1;
		struct mime_source source = { .fd = -1, .memory = text };
		struct err err = ERR_INIT;
		struct mime_tree t;

		memcpy(text, head, n);
		memset(text + n, 'x', fill);
		memcpy(text + n + fill, mark, sizeof mark - 1);
		source.size = n + fill + sizeof mark - 1;
		assert_int_equal(mime_parse(&t, &arena, &source, &err), ST_OK);
		if (t.n != 2 || !str_is(t.last->type, "text/x-found") || t.last->end - t.last->body != 4)
			fail_msg("%zu octets before the boundary: %u parts", fill, t.n);
		mime_clear(&t);
		arena_reset(&arena);
	}
	free(text);
}

static void fields(void **state)
{
	static const char text[] = "CONTENT-TYPE: Text/HTML; charset=UTF-8;\n name=\"a\n b\"\nContent-Disposition: Attachment; filename=f.txt (c)\n"
		"Content-Transfer-Encoding: BASE64 (c)\nContent-Description: Some Text\nContent-ID: <A@B>\n\nx!\n";
	struct mime_source source = { .fd = -1, .memory = text, .size = sizeof text - 1 };
	struct mime_tree t;
	struct err err = ERR_INIT;
	const struct mime_part *p;
	struct buf keep = BUF_LIMIT(10);
	enum mime_anomaly anomaly;
	uint64_t size;

	(void)state;
	assert_int_equal(mime_parse(&t, &arena, &source, &err), ST_OK);
	p = t.first;
	assert_true(str_is(p->type, "text/html") && str_is(p->charset, "UTF-8") && str_is(p->type_name, "a b") && str_is(p->filename, "f.txt"));
	assert_true(str_is(p->disposition, "attachment") && str_is(p->transfer_encoding, "base64") && p->encoding == MIME_BASE64);
	assert_true(str_is(p->description, "sometext") && str_is(p->id, "<a@b>"));
	assert_true(p->type.tainted && p->filename.tainted && p->charset.tainted);
	assert_int_equal(mime_part_decode(p, &keep, &size, &anomaly, &err), ST_OK);
	assert_int_equal(anomaly, MIME_BROKEN_BASE64);
	buf_clear(&keep);
	mime_clear(&t);
}

/* ---- limits: what is beyond is said, what was found is there ---- */

static void nested(struct buf *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		buf_printf(b, "Content-Type: multipart/mixed; boundary=%04u\n\n--%04u\n", i, i);
}

static void attached(struct buf *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		buf_adds(b, "Content-Type: message/rfc822\n\n");
}

static void flat(struct buf *b, unsigned n)
{
	buf_adds(b, "Content-Type: multipart/mixed; boundary=B\n\n");
	for (unsigned i = 0; i < n; i++)
		buf_adds(b, "--B\n\nx\n");
}

static void long_header(struct buf *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		buf_adds(b, "X-Filler: 0123456789\n");
	buf_adds(b, "Content-Type: text/x\n\nbody");
}

static void long_boundary(struct buf *b, unsigned n)
{
	buf_adds(b, "Content-Type: multipart/mixed; boundary=");
	for (unsigned i = 0; i < n; i++)
		buf_addc(b, 'b');
	buf_adds(b, "\n\n");
}

static const struct {
	const char *what;
	void (*make)(struct buf *b, unsigned n);
	unsigned n, parts;
	enum status st;
	enum mime_anomaly anomaly;
} limits[] = {
	{ "depth", nested, MIME_DEPTH_MAX, MIME_DEPTH_MAX + 1, ST_OK, MIME_FINE },
	{ "depth", nested, MIME_DEPTH_MAX + 1, MIME_DEPTH_MAX + 1, ST_FAIL, MIME_FINE },
	{ "depth", nested, 5000, MIME_DEPTH_MAX + 1, ST_FAIL, MIME_FINE },
	{ "attached", attached, MIME_ATTACHED_MAX, MIME_ATTACHED_MAX + 1, ST_OK, MIME_FINE },
	{ "attached", attached, MIME_ATTACHED_MAX + 1, MIME_ATTACHED_MAX + 1, ST_FAIL, MIME_FINE },
	{ "attached", attached, 20000, MIME_ATTACHED_MAX + 1, ST_FAIL, MIME_FINE },
	{ "parts", flat, MIME_PARTS_MAX - 1, MIME_PARTS_MAX, ST_OK, MIME_FINE },
	{ "parts", flat, MIME_PARTS_MAX, MIME_PARTS_MAX, ST_FAIL, MIME_FINE },
	{ "header", long_header, 100, 1, ST_OK, MIME_FINE },
	{ "header", long_header, MIME_HEADER_MAX / 20, 1, ST_OK, MIME_BROKEN_HEADER },
	{ "boundary", long_boundary, MIME_BOUNDARY_MAX, 1, ST_OK, MIME_FINE },
	{ "boundary", long_boundary, MIME_BOUNDARY_MAX + 1, 1, ST_OK, MIME_BROKEN_HEADER },
};

static void bounds(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct buf b = BUF_INIT;
		struct mime_source source = { .fd = -1 };
		struct err err = ERR_INIT;
		struct mime_tree t;
		enum status st;

		limits[i].make(&b, limits[i].n);
		source.memory = b.p;
		source.size = b.len;
		st = mime_parse(&t, &arena, &source, &err);
		if (st != limits[i].st || t.n != limits[i].parts || t.first->anomaly != limits[i].anomaly)
			fail_msg("%s %u: got %d \"%s\", %u parts, anomaly %d; want %d, %u, %d", limits[i].what, limits[i].n, st, err.text, t.n, t.first->anomaly,
				limits[i].st, limits[i].parts, limits[i].anomaly);
		mime_clear(&t);
		buf_clear(&b);
		arena_reset(&arena);
	}
}

/* Encoded messages in encoded messages: their memory is bounded in sum. */
static void unpacked(void **state)
{
	static const char head[] = "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n";
	size_t n = 96u << 20;
	char *text = malloc(sizeof head - 1 + n);
	struct mime_source source = { .fd = -1, .memory = text, .size = sizeof head - 1 + n };
	struct mime_tree t;
	struct err err = ERR_INIT;

	(void)state;
	memcpy(text, head, sizeof head - 1);
	memset(text + sizeof head - 1, 'A', n);
	assert_int_equal(mime_parse(&t, &arena, &source, &err), ST_FAIL);
	assert_int_equal(t.n, 1);
	mime_clear(&t);
	free(text);
}

static void unreadable(void **state)
{
	struct mime_source source = { .fd = 999, .size = 10 };
	struct mime_tree t;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(mime_parse(&t, &arena, &source, &err), ST_DEFER);
	mime_clear(&t);
	/* shorter than it was said to be */
	source = (struct mime_source){ .fd = memfd_create("mime", 0), .size = 1000 };
	assert_int_equal(write(source.fd, "A: b\n\nc", 7), 7);
	assert_int_equal(mime_parse(&t, &arena, &source, &err), ST_OK);
	assert_int_equal(t.first->end, 7);
	mime_clear(&t);
	close(source.fd);
}

static int teardown(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parameters), cmocka_unit_test(decoding), cmocka_unit_test(parts), cmocka_unit_test(places), cmocka_unit_test(fields),
		cmocka_unit_test(bounds), cmocka_unit_test(unpacked), cmocka_unit_test(unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
