#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs `make installcheck` against a scratch server that has the installed
# extension preloaded, then test/cluster.sh on the same server. PG_CONFIG chooses
# the server. As root the server runs as postgres (or PGTEST_USER).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
pg_config=${PG_CONFIG:-pg_config}
bindir=$("$pg_config" --bindir)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/hyperion-vault-regress.XXXXXX")
user=$(id -un)
as_user=()
if [ "$(id -u)" = 0 ]; then
	user=${PGTEST_USER:-postgres}
	as_user=(runuser -u "$user" --)
	chown "$user" "$scratch"
fi

cleanup() {
	for data in data standby; do # the second is cluster.sh's, if it did not come to its end
		(cd / && "${as_user[@]}" "$bindir/pg_ctl" -D "$scratch/$data" -m immediate -w stop) >/dev/null 2>&1 || true
	done
	rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The socket alone: no port of the machine is taken. It is in a directory that
# only this user (and root) can enter.
cd "$scratch"
"${as_user[@]}" "$bindir/initdb" -D "$scratch/data" -U postgres -A trust --no-sync \
	--encoding=UTF8 --locale=C >"$scratch/initdb.log" 2>&1 || { cat "$scratch/initdb.log" >&2; exit 1; }
"${as_user[@]}" tee -a "$scratch/data/postgresql.conf" >/dev/null <<EOF
listen_addresses = ''
unix_socket_directories = '$scratch'
shared_preload_libraries = 'hyperion_vault'
fsync = off
max_prepared_transactions = 2
log_statement = none
log_min_error_statement = error
log_min_messages = warning
hyperion_vault.scan_interval_secs = 1
EOF
"${as_user[@]}" "$bindir/pg_ctl" -D "$scratch/data" -l "$scratch/log" -w start >/dev/null ||
	{ cat "$scratch/log" >&2; exit 1; }

export PGHOST=$scratch PGPORT=5432 PGUSER=postgres PG_CONFIG=$pg_config
unset PGDATABASE PGSERVICE PGOPTIONS
out=$here/..
status=0
make -C "$out" --no-print-directory installcheck || status=$?
if [ "$status" != 0 ]; then
	for d in "$out"/regression.diffs "$out"/output_iso/regression.diffs; do
		[ ! -f "$d" ] || cat "$d"
	done
	echo "server log:" >&2
	grep -E 'PANIC|FATAL|terminated by signal' "$scratch/log" >&2 || true
	exit "$status"
fi

SERVER_LOG=$scratch/log BINDIR=$bindir SCRATCH=$scratch "$here/cluster.sh" "${as_user[@]}"
