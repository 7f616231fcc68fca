#!/bin/bash
# SPDX-License-Identifier: ISC
# Makes one small Debian root a peer (Postfix, Exim, OpenSMTPD: they can't be installed side by side), for the tests and
# for bench/. Needs root, mmdebstrap and Debian's packages. Safe to run again: what exists is kept.
#   tests/peers/setup.sh [PEER...]     roots go to $BULKHEAD_PEERS (default /var/tmp/bulkhead-peers)
set -euo pipefail
peers=${BULKHEAD_PEERS:-/var/tmp/bulkhead-peers}
mkdir -p "$peers"
exec 9>"$peers/.lock"
flock 9

# The machine's own package sources serve for the roots too.
sources=()
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
	[ -s "$f" ] && sources+=("$f")
done

build_root() { # name package...
	local name=$1 root=$peers/$1
	shift
	[ -e "$root/.complete" ] && return 0
	rm -rf --one-file-system "$root"
	echo "peers: making a root for $name" >&2
	local list=$*
	mmdebstrap --quiet --variant=minbase --include="${list// /,}" \
		--essential-hook='echo "postfix postfix/main_mailer_type select No configuration" | chroot "$1" debconf-set-selections' \
		--essential-hook='echo "opensmtpd opensmtpd/mailname string peer.example" | chroot "$1" debconf-set-selections' \
		bookworm "$root" "${sources[@]}" </dev/null
	touch "$root/.complete"
}
for peer in "${@:-postfix exim opensmtpd}"; do
	for p in $peer; do
		case $p in
		postfix) build_root postfix postfix ssl-cert ;;
		exim) build_root exim exim4-daemon-heavy ssl-cert ;;
		opensmtpd) build_root opensmtpd opensmtpd ssl-cert ;;
		*) echo "peers: no recipe for $p" >&2; exit 1 ;;
		esac
	done
done
