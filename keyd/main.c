/* SPDX-License-Identifier: ISC */
#include <openssl/crypto.h>

#include "keyd/keyd.h"

int main(int argc, char **argv)
{
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL); /* before the jail, where the machine's openssl.cnf is not to be seen */
	return daemon_main(&keyd_spec, argc, argv);
}
