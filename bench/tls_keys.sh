#!/bin/bash
# SPDX-License-Identifier: ISC
# Handshakes with the key in the server's process and with the key in keyd: tls_keys.sh TLS_BENCH [HANDSHAKES]. Three turns of each.
set -euo pipefail
bench=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=bench.invalid -keyout "$dir/rsa.key" -out "$dir/rsa.crt" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=bench.invalid -keyout "$dir/ec.key" -out "$dir/ec.crt" 2>/dev/null
printf 'certificate\tkey in\thandshakes/s\tus of server\tus of keyd\n'
for turn in 1 2 3; do
	for kind in rsa ec; do
		"$bench" "$dir/$kind.key" "$dir/$kind.crt" "${2:-2000}" | sed "s/^/$kind\t/"
	done
done
