#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Inside a root: builds the extension of a directory for the root's PostgreSQL,
# without a warning, installs it and runs its own suites. What the suites print
# goes to the given file too. SUITES=no only installs.
set -euo pipefail

source=$1 out=$2
export PG_CONFIG=/usr/lib/postgresql/$3/bin/pg_config

# A copy: each major has objects of its own.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
chmod 755 "$build"
cp -a "$source/." "$build"
make -s -C "$build" clean
make -s -C "$build" all install
[ "${SUITES:-yes}" = yes ] || exit 0
"$build/test/run.sh" 2>&1 | tee "$out"
