#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Inside a root: builds the extension's package for a major of PostgreSQL that the
# root has, has lintian look at it, and installs it by apt, and below STAGED, in place of
# what extension.sh has installed: the tests that follow have the package's files.
set -euo pipefail

cd "$1"
name=postgresql-$2-hyperion-vault
pg_config=/usr/lib/postgresql/$2/bin/pg_config
dist=$(mktemp -d)
trap 'rm -rf "$dist"' EXIT
chmod 755 "$dist"

{ command -v lintian && command -v dpkg-shlibdeps; } >/dev/null ||
	{ apt-get update && apt-get install -y --no-install-recommends dpkg-dev lintian; } >"$dist/log" 2>&1 || { cat "$dist/log"; exit 1; }
PG_CONFIGS=$pg_config DIST=$dist PACKAGE_VERSION=0~matrix packaging/deb/build.sh extension
lintian --allow-root --fail-on error,warning "$dist/$name"_*.deb
rm -f "$("$pg_config" --sharedir)"/extension/hyperion_vault* "$("$pg_config" --pkglibdir)/hyperion_vault.so"
apt-get install -y --reinstall --allow-downgrades "$dist/$name"_*.deb >"$dist/log" 2>&1 || { cat "$dist/log"; exit 1; }
dpkg --verify "$name"
rm -rf "${STAGED:?}"
dpkg-deb --extract "$dist/$name"_*.deb "$STAGED"
echo "package $name: built, without a complaint of lintian's, installed by apt"
