#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a root with one major of PostgreSQL, by debootstrap, with all that the
# tests need there, unless it is there already, and prints its path. It has the
# majors before as well, to upgrade from.
set -euo pipefail

major=$1
here=$(cd "$(dirname "$0")" && pwd)
roots=${MATRIX_ROOTS:-/var/tmp/hyperion-vault-matrix}
mirror=${MATRIX_MIRROR:-http://deb.debian.org/debian}
root=$roots/$major

# Debian's release with that major, and the script of debootstrap that can make it.
case $major in
15) suite=bookworm script=bookworm before=() ;;
17) suite=trixie script=trixie before=(15) ;;
18) suite=forky script=sid before=(15 17) ;;
*)
	echo "no release of Debian is known to have PostgreSQL $major" >&2
	exit 1
	;;
esac
declare -A suites=([15]=bookworm [17]=trixie)

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
command -v debootstrap >/dev/null || {
	echo "no debootstrap: apt-get install debootstrap" >&2
	exit 1
}
mkdir -p "$roots"
[ -x "$root/usr/bin/apt-get" ] || debootstrap --variant=minbase \
	--include=ca-certificates,git,procps,util-linux "$suite" "$root" "$mirror" "$script" >&2
sources "$suite" >"$root/etc/apt/sources.list"
# A mirror that stands still is good enough for tests.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/50matrix"
for old in "${before[@]}"; do
	release=${suites[$old]}
	sources "$release" >"$root/etc/apt/sources.list.d/$release.list"
	printf 'Package: *\nPin: release n=%s*\nPin-Priority: 100\n' "$release" >"$root/etc/apt/preferences.d/$release"
done
for wanted in "$major" "${before[@]}"; do
	enter env "PG_MAJOR=$wanted" "$(realpath "$here/../../.ci/deps")" >&2
done
touch "$root/.made"
echo "$root"
