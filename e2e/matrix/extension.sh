#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Inside a root: builds the extension in a directory for a major of PostgreSQL that
# the root has, without a warning, installs it below STAGED, if that is named, and
# unless SERVER=no for the server; unless SUITES=no it runs the extension's suites.
set -euo pipefail

source=$1
export PG_CONFIG=/usr/lib/postgresql/$2/bin/pg_config

# A copy: each major has objects of its own.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
chmod 755 "$build"
cp -a "$source/." "$build"
make -s -C "$build" clean
make -s -C "$build" all
[ -z "${STAGED:-}" ] || make -s -C "$build" install DESTDIR="$STAGED"
[ "${SERVER:-yes}" = yes ] || exit 0
# What another run has installed is not today's.
rm -f "$("$PG_CONFIG" --sharedir)"/extension/hyperion_vault*
make -s -C "$build" install
[ "${SUITES:-yes}" = no ] || "$build/test/run.sh"
