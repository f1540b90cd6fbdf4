#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the extension's suites and the end-to-end tests with each major of PostgreSQL
# that is named, in a root of its own, and writes docs/COMPATIBILITY.md's table. What
# it saw is in e2e/out/matrix, a file a package. MATRIX_PACKAGES are the packages to
# test, or the word extension: what was seen of the others stays. MATRIX_RUN are the
# tests (as for go test -run), and what was seen of all stays.
set -euo pipefail

[ "$(id -u)" = 0 ] || {
	echo "a root is made and entered by root" >&2
	exit 1
}
repo=$(cd "$(dirname "$0")/../.." && pwd)
cd "$repo"
here=$repo/e2e/matrix
read -ra majors <<<"${*:-15 17 18}"
# As `make e2e`, but for what is of the versions of others' programs.
packages=(./e2e/matrix ./rewrite ./proxy ./proxy/vault/... ./cmd/devcluster/... ./cmd/hyperion-vault/...)
mapfile -t -O "${#packages[@]}" packages < <(go list -tags e2e,matrix ./e2e/... | grep -v '/e2e/reporting$')
suites=yes
if [ -n "${MATRIX_PACKAGES:-}" ]; then
	read -ra packages <<<"${MATRIX_PACKAGES//extension/}"
	[[ $MATRIX_PACKAGES = *extension* ]] || suites=no
fi
[ "${#packages[@]}" = 0 ] || mapfile -t packages < <(go list -tags e2e,matrix -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "${packages[@]}")
module=$(go list -m)

# The last source that knew nothing of today's version of the extension.
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" extension/hyperion_vault.control)
added=$(git log -1 --format=%H --diff-filter=A -- "extension/sql/hyperion_vault--*--$version.sql")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
mkdir "$scratch/source"
git archive "${added:-HEAD}${added:+^}" | tar x -C "$scratch/source"
(cd "$scratch/source" && go build -tags netgo,osusergo -o "$scratch/hyperion-vault" ./cmd/hyperion-vault)
export MATRIX_OLDER=$scratch/hyperion-vault

# Roots have no way of their own to modules.
(cd e2e/drivers/pq && go mod download)

status=0
for major in "${majors[@]}"; do
	root=$("$here/root.sh" "$major")
	seen=$repo/e2e/out/matrix/$major
	[ -n "${MATRIX_PACKAGES:-}${MATRIX_RUN:-}" ] || rm -rf "$seen"
	mkdir -p "$seen/out"
	export MATRIX_OUT=$seen/out
	enter() { (cd / && "$here/enter.sh" "$root" "$@"); }

	echo "== PostgreSQL $major: extension"
	export MATRIX_EXTENSIONS=$scratch/$major
	mkdir "$MATRIX_EXTENSIONS"
	# The source of before need not name each header that this major wants.
	enter env SERVER=no STAGED="$MATRIX_EXTENSIONS/older" PG_CPPFLAGS="-include postgres.h -include utils/array.h" "$here/extension.sh" "$scratch/source/extension" "$major"
	enter env SUITES="$suites" STAGED="$MATRIX_EXTENSIONS/today" "$here/extension.sh" "$repo/extension" "$major" >"$scratch/extension.txt" 2>&1 || {
		status=1
		tail -n 40 "$scratch/extension.txt"
	}
	[ "$suites" = no ] || {
		enter env STAGED="$MATRIX_EXTENSIONS/today" "$here/package.sh" "$repo" "$major" >>"$scratch/extension.txt" 2>&1 || {
			status=1
			tail -n 20 "$scratch/extension.txt"
		}
		mv "$scratch/extension.txt" "$seen"
	}
	for older in "$root"/usr/lib/postgresql/*/bin/pg_config; do
		older=$(basename "${older%/bin/pg_config}")
		[ "$older" = "$major" ] || enter env SUITES=no "$here/extension.sh" "$repo/extension" "$older"
	done

	# One package at a time: limits are for a machine that does nothing else.
	for package in "${packages[@]}"; do
		name=${package#"$module/"}
		echo "== PostgreSQL $major: $name"
		tests=$scratch/${name//\//+}.test
		[ -e "$tests" ] || go test -c -vet=off -ldflags='-s -w' -tags e2e,matrix -o "$tests" "$package"
		(cd "$repo/$name" && go tool test2json -t -p "$package" "$here/enter.sh" "$root" "$tests" \
			-test.v=test2json -test.timeout=30m -test.run="${MATRIX_RUN:-}") >"$scratch/e2e.json" || {
			status=1
			sed -n 's/.*"Action":"fail".*"Test":"\([^"]*\)".*/failed: \1/p' "$scratch/e2e.json"
		}
		[ -n "${MATRIX_RUN:-}" ] || mv "$scratch/e2e.json" "$seen/${name//\//+}.json"
	done
	[ -n "${MATRIX_PACKAGES:-}${MATRIX_RUN:-}" ] || touch "$seen/whole"
done
[ -n "${MATRIX_RUN:-}" ] || go test -tags compatibility -count=1 ./e2e/matrix || status=1
exit "$status"
