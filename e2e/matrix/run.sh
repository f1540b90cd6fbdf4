#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the extension's suites and the end-to-end tests with each major of PostgreSQL
# that is named, in a root of its own, and writes docs/COMPATIBILITY.md's table. What
# it saw is in e2e/out/matrix. MATRIX_PACKAGES are the packages to test, MATRIX_RUN
# the tests (as for go test -run).
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
packages=(./rewrite ./proxy ./proxy/vault/... ./cmd/devcluster/... ./cmd/hyperion-vault/...)
mapfile -t -O "${#packages[@]}" packages < <(go list -tags e2e,matrix ./e2e/... | grep -v '/e2e/reporting$')
[ -z "${MATRIX_PACKAGES:-}" ] || read -ra packages <<<"$MATRIX_PACKAGES"

# The last program that knew nothing of today's version of the extension.
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" extension/hyperion_vault.control)
before=$(git log -1 --format=%H --diff-filter=A -- "extension/sql/hyperion_vault--*--$version.sql")^
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
mkdir "$scratch/source"
git archive "$before" | tar x -C "$scratch/source"
(cd "$scratch/source" && go build -tags netgo,osusergo -o "$scratch/hyperion-vault" ./cmd/hyperion-vault)
export MATRIX_OLDER=$scratch/hyperion-vault

# Roots have no way of their own to modules.
(cd e2e/drivers/pq && go mod download)

status=0
for major in "${majors[@]}"; do
	root=$("$here/root.sh" "$major")
	seen=$repo/e2e/out/matrix/$major
	rm -rf "$seen"
	mkdir -p "$seen/out"
	export MATRIX_OUT=$seen/out
	enter() { (cd / && "$here/enter.sh" "$root" "$@"); }

	echo "== PostgreSQL $major: extension"
	enter "$here/extension.sh" "$repo/extension" "$major" >"$seen/extension.txt" 2>&1 || {
		status=1
		tail -n 40 "$seen/extension.txt"
	}
	[ "$major" != 18 ] || enter env SUITES=no "$here/extension.sh" "$repo/extension" 15

	echo "== PostgreSQL $major: end to end"
	# One package at a time: limits are for a machine that does nothing else.
	go test -exec "$here/enter.sh $root" -json -count=1 -p 1 -timeout 20m -tags e2e,matrix -run "${MATRIX_RUN:-}" \
		"${packages[@]}" >"$seen/e2e.json" || status=1
done
go test -tags compatibility -count=1 ./e2e/matrix || status=1
exit "$status"
