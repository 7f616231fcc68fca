#!/bin/bash
# SPDX-License-Identifier: ISC
# The whole comparison, in sections: bench/run.sh [section...]. Sections: relay big tls idle many queue loss syncs.
# $REPEATS: default 3. Needs root; builds Bulkhead and the peers' roots if they are missing. Peers are interleaved within a
# repeat. Slow peers get fewer messages, so that a cell takes seconds; rates are per message and every cell reports its count.
# Tables at the end; all results are in $WORKDIR/results.jsonl (default /var/tmp/bulkhead-bench).
set -euo pipefail
cd "$(dirname "$0")"
export WORKDIR=${WORKDIR:-/var/tmp/bulkhead-bench}
REPEATS=${REPEATS:-3}
mkdir -p "$WORKDIR"
case $(stat -f -c %T "$WORKDIR") in
tmpfs|ramfs) echo "WORKDIR is in memory: fsync would be free; set WORKDIR" >&2; exit 1 ;;
esac
make -s -C .. -j"$(nproc)" all build/bench/tlsload
../tests/peers/setup.sh
certificate() {
	[ -e "$WORKDIR/$1.crt" ] || openssl req -x509 -newkey "${@:2}" -nodes -days 3650 -subj /CN=bench.invalid \
		-keyout "$WORKDIR/$1.key" -out "$WORKDIR/$1.crt" 2>/dev/null
}
certificate rsa rsa:2048
certificate ec ec -pkeyopt ec_paramgen_curve:P-256
b() { timeout 900 /usr/bin/python3 bench.py "$@" --repeats 1 || echo "failed: $*" >&2; }

relay() {
	b relay --peers bulkhead,postfix --count 5000 --count1 2000
	b relay --peers exim --nodirect --keep n --sessions 1 --count 50
	b relay --peers exim --nodirect --keep n --sessions 10,50 --count 1000
	b relay --peers exim --nodirect --keep d --count 1000
	b relay --peers opensmtpd --nodirect --acceptonly --keep n --sessions 1,10,50 --count 300
	b relay --peers opensmtpd --nodirect --acceptonly --keep d --count 2000
}
big() {
	b relay --size 102400 --count 500 --sessions 20 --peers bulkhead,postfix,exim
	b relay --size 102400 --count 500 --sessions 20 --nodirect --acceptonly --peers opensmtpd
}
tls() {
	b tls --peers bulkhead,postfix --sessions 20 --count 1000
	b tls --peers exim --sessions 20 --count 200
}
many() { b many --conns 10000 --count 2000; }
idle() { b idle --peers bulkhead,postfix,exim,opensmtpd; }
queue() {
	b queue --peers bulkhead,postfix --count 20000
	b queue --peers bulkhead --count 100000
}
loss() { b loss --peers bulkhead,postfix --count 2000; }
syncs() { [ "$1" != 0 ] || b syncs --peers bulkhead,postfix,exim,opensmtpd; }

for section in ${*:-relay big tls idle many queue loss syncs}; do
	for ((i = 0; i < REPEATS; i++)); do
		"$section" "$i"
	done
done
python3 report.py
