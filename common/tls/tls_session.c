/* SPDX-License-Identifier: ISC */
#include "common/tls/tls_session.h"

#include "common/tls/tls.h"

#define TIME_MAX_S (INT64_MAX / 2) /* sums of times don't overflow */
enum { VERIFIED = 1, DANE = 2, ONCE = 4, FLAGS_END = 8 };

bool tls_session_serves(const struct tls_session *s, const struct tls_session_need *need, int64_t now)
{
	if (!s->der.len || now >= s->until || now >= s->born + TLS_SESSION_TIME || now < s->born)
		return false;
	if ((need->verified && !s->verified) || (need->dane && !s->dane))
		return false;
	/* A status that has run out is asked for anew, by a whole handshake, even where none is demanded. */
	if (s->ocsp == TLS_OCSP_VERIFIED && now >= s->ocsp_until)
		return false;
	return !need->ocsp || s->ocsp == TLS_OCSP_VERIFIED;
}

/* "1 BORN UNTIL OCSP_UNTIL OCSP FLAGS\n" and the DER. */
void tls_session_format(struct buf *out, const struct tls_session *s)
{
	unsigned flags = (s->verified ? VERIFIED : 0u) | (s->dane ? DANE : 0u) | (s->once ? ONCE : 0u);

	buf_printf(out, "1 %lld %lld %lld %u %u\n", (long long)s->born, (long long)s->until, (long long)s->ocsp_until, s->ocsp, flags);
	buf_add_str(out, s->der);
}

bool tls_session_parse(struct str text, struct tls_session *out)
{
	static const uint64_t most[] = { 1, TIME_MAX_S, TIME_MAX_S, TIME_MAX_S, TLS_OCSP_VERIFIED, FLAGS_END - 1 };
	uint64_t v[6];
	struct str line, word;

	*out = (struct tls_session){ .until = 0 };
	if (str_find(text, '\n') < 0 || !str_split(&text, '\n', &line) || !text.len || text.len > TLS_SESSION_MAX)
		return false;
	for (unsigned i = 0; i < 6; i++)
		if (!str_split(&line, ' ', &word) || !str_u64(word, most[i], &v[i]))
			return false;
	if (line.len || v[0] != 1)
		return false;
	*out = (struct tls_session){
		.der = text, .born = (int64_t)v[1], .until = (int64_t)v[2], .ocsp_until = (int64_t)v[3], .ocsp = (unsigned)v[4], .verified = v[5] & VERIFIED,
		.dane = v[5] & DANE, .once = v[5] & ONCE,
	};
	return true;
}
