#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a root with one major of PostgreSQL, by debootstrap, with all that the
# tests need there, unless it is there already, and prints its path. That of 18 has
# 15 as well, to upgrade from.
set -euo pipefail

major=$1
here=$(cd "$(dirname "$0")" && pwd)
roots=${MATRIX_ROOTS:-/var/tmp/hyperion-vault-matrix}
mirror=${MATRIX_MIRROR:-http://deb.debian.org/debian}
root=$roots/$major

# Debian's release with that major, and the script of debootstrap that can make it.
case $major in
15) suite=bookworm script=bookworm ;;
17) suite=trixie script=trixie ;;
18) suite=forky script=sid ;;
*)
	echo "no release of Debian is known to have PostgreSQL $major" >&2
	exit 1
	;;
esac

# From a directory that is there as well.
enter() { (cd / && "$here/enter.sh" "$root" "$@"); }

# sources SUITE: a release's packages with its security updates.
sources() {
	echo "deb $mirror $1 main"
	[ "$1" = forky ] || echo "deb $mirror-security $1-security main"
}

if [ -e "$root/.made" ]; then
	echo "$root"
	exit
fi
mkdir -p "$roots"
[ -x "$root/usr/bin/apt-get" ] || debootstrap --variant=minbase \
	--include=ca-certificates,git,procps,util-linux "$suite" "$root" "$mirror" "$script" >&2
sources "$suite" >"$root/etc/apt/sources.list"
# A mirror that stands still is good enough for tests.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/50matrix"
if [ "$major" = 18 ]; then
	sources bookworm >"$root/etc/apt/sources.list.d/bookworm.list"
	printf 'Package: *\nPin: release n=bookworm*\nPin-Priority: 100\n' >"$root/etc/apt/preferences.d/bookworm"
fi
enter env "PG_MAJOR=$major" "$(realpath "$here/../../.ci/deps")" >&2
if [ "$major" = 18 ]; then
	enter env PG_MAJOR=15 "$(realpath "$here/../../.ci/deps")" >&2
fi
touch "$root/.made"
echo "$root"
