/* SPDX-License-Identifier: ISC */
#include "keyd/key_pss.h"

#include <openssl/evp.h>
#include <string.h>

enum { KEY_OCTETS = 2048, TRAILER = 0xbc };

/* Takes MGF1's mask off (RFC 8017, appendix B.2.1). */
static bool unmask(uint8_t *db, size_t n, const uint8_t *seed, size_t seed_len, const EVP_MD *md)
{
	uint8_t block[EVP_MAX_MD_SIZE], input[EVP_MAX_MD_SIZE + 4];

	memcpy(input, seed, seed_len);
	for (size_t at = 0; at < n; at += seed_len) {
		uint32_t count = (uint32_t)(at / seed_len);

		for (unsigned i = 0; i < 4; i++)
			input[seed_len + i] = (uint8_t)(count >> (24 - 8 * i));
		if (EVP_Digest(input, seed_len + 4, block, NULL, md, NULL) != 1)
			return false;
		for (size_t i = 0; i < seed_len && at + i < n; i++)
			db[at + i] ^= block[i];
	}
	return true;
}

/* em: zeros, 1 and the salt, all that masked; the digest; 0xbc. */
static bool padded_with(const uint8_t *em, size_t n, unsigned bits, const EVP_MD *md)
{
	size_t digest = (size_t)EVP_MD_get_size(md), db_len, zeros;
	uint8_t db[KEY_OCTETS];

	if (n < 2 * digest + 2)
		return false;
	db_len = n - digest - 1;
	zeros = db_len - digest - 1;
	memcpy(db, em, db_len);
	if ((bits & 7) && db[0] >> (bits & 7))
		return false;
	if (!unmask(db, db_len, em + db_len, digest, md))
		return false;
	if (bits & 7)
		db[0] &= (uint8_t)(0xff >> (8 - (bits & 7)));
	for (size_t i = 0; i < zeros; i++)
		if (db[i])
			return false;
	return db[zeros] == 1;
}

bool key_pss_padded(struct str octets, unsigned bits)
{
	const EVP_MD *digests[] = { EVP_sha256(), EVP_sha384(), EVP_sha512() };
	const uint8_t *em = (const uint8_t *)octets.p;
	size_t n = octets.len;

	if (bits < 1024 || n != (bits + 7) / 8 || n > KEY_OCTETS || em[n - 1] != TRAILER)
		return false;
	bits--; /* what is padded is shorter than the modulus */
	if (!(bits & 7) && (n--, *em++)) /* by a whole octet, which is zero then */
		return false;
	for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
		if (padded_with(em, n, bits, digests[i]))
			return true;
	return false;
}
