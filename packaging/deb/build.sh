#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# build.sh [node] [extension]: builds Debian packages into dist/: hyperion-vault,
# and postgresql-N-hyperion-vault for each server that PG_CONFIGS names. The same
# commit gives the same bytes (SOURCE_DATE_EPOCH, PACKAGE_VERSION set otherwise).
# The extension alone needs no Go: so it is built where Debian has that server.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- node extension
for tool in dpkg-shlibdeps dpkg-architecture strip; do
  command -v "$tool" >/dev/null || { echo "no $tool: apt-get install dpkg-dev binutils" >&2; exit 1; }
done

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
# A tag's version, or one that is older than every release and newer than those
# of the commits before.
if [ -z "${PACKAGE_VERSION:-}" ]; then
  PACKAGE_VERSION=$(git describe --tags --exact-match 2>/dev/null | sed 's/^v//; s/-/~/' ||
    echo "0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$(git rev-parse --short=12 HEAD)")
  git diff-index --quiet HEAD || PACKAGE_VERSION+=+dirty
fi
ARCH=$(dpkg-architecture -q DEB_HOST_ARCH)
export PACKAGE_VERSION ARCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=packaging/deb/pack.sh
. packaging/deb/pack.sh

# shlibdeps FILE: the packages, with versions, whose libraries the file needs.
shlibdeps() {
  local any=$work/shlibs/debian/any
  rm -rf "$any"
  mkdir -p "$any/DEBIAN"
  printf 'Source: any\n\nPackage: any\nArchitecture: any\n' > "$work/shlibs/debian/control"
  cp "$1" "$any/file"
  (cd "$work/shlibs" && dpkg-shlibdeps --warnings=0 -O debian/any/file) | sed -n 's/^shlibs:Depends=//p'
}

# notices prints the licences of all that is linked into the program.
notices() {
  echo "hyperion-vault contains these Go modules, and Go's own library."
  {
    printf 'go\t%s\t%s\n' "$(go env GOVERSION)" "$(go env GOROOT)"
    go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}}	{{.Version}}	{{.Dir}}{{end}}{{end}}' ./cmd/hyperion-vault | sort -u
  } | while IFS=$'\t' read -r path version dir; do
    for file in "$dir"/LICENSE* "$dir"/NOTICE* "$dir"/COPYING*; do
      [ -f "$file" ] || continue
      printf '\n==== %s %s: %s\n\n' "$path" "$version" "${file##*/}"
      cat "$file"
    done
  done
}

node_package() {
  local stage=$work/node
  mkdir -p "$stage"
  # As Debian hardens what it builds; PIE because the parser is C.
  CGO_CFLAGS='-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2' \
    CGO_LDFLAGS='-O2 -Wl,-z,relro -Wl,-z,now' \
    go build -buildvcs=false -buildmode=pie -tags netgo,osusergo \
    -ldflags "-s -w -linkmode=external -X main.version=$PACKAGE_VERSION" \
    -o "$stage/hyperion-vault" ./cmd/hyperion-vault
  cp packaging/deb/hyperion-vault.{service,conf,postinst,prerm,postrm} packaging/completions/* "$stage"
  cp packaging/monitoring/hyperion-vault.{rules.yml,json} "$stage"
  gzip -9n < packaging/man/hyperion-vault.1 > "$stage/hyperion-vault.1.gz"
  documents hyperion-vault "$stage/doc"
  cp docs/*.md "$stage/doc"
  notices | gzip -9n > "$stage/doc/NOTICES.gz"
  SHLIBS=$(shlibdeps "$stage/hyperion-vault")
  export SHLIBS
  pack "$stage" hyperion-vault
}

# extension_package PG_CONFIG, built away from the sources: they may be built for another server.
extension_package() {
  # No older server of that major: its headers may call functions that it lacks.
  PG_VERSION=$("$1" --version | sed -E 's/^PostgreSQL ([0-9.]+).*/\1/')
  PG_MAJOR=${PG_VERSION%%.*}
  export PG_VERSION PG_MAJOR
  local stage=$work/pg$PG_MAJOR library
  git ls-files extension | tar -c -T - | tar -x -C "$work"
  library=$stage$("$1" --pkglibdir)/hyperion_vault.so
  make -s -C "$work/extension" PG_CONFIG="$1" COPT="-ffile-prefix-map=$work=." all
  make -s -C "$work/extension" PG_CONFIG="$1" DESTDIR="$stage" install
  rm -rf "$work/extension"
  strip --remove-section=.comment --remove-section=.note --strip-unneeded "$library"
  chmod 0644 "$library"
  documents "postgresql-$PG_MAJOR-hyperion-vault" "$stage/usr/share/doc/postgresql-$PG_MAJOR-hyperion-vault"
  SHLIBS=$(shlibdeps "$library")
  export SHLIBS
  pack "$stage" postgresql-hyperion-vault
}

for what in "$@"; do
  case $what in
  node) node_package ;;
  extension) for pg_config in $PG_CONFIGS; do extension_package "$pg_config"; done ;;
  *) echo "$0: $what is neither node nor extension" >&2; exit 2 ;;
  esac
done
(cd "$dist" && ls -l -- *"_${PACKAGE_VERSION}_$ARCH.deb")
