#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Prepares the cluster once all servers answer: a role and a database to play
# with, and the vault. What is there stays, so it may run again.
set -euo pipefail
umask 077

export PGUSER=postgres PGSSLMODE=verify-full PGSSLROOTCERT=/etc/cluster/ca.crt PGPASSFILE=/tmp/pgpass
echo "*:*:*:postgres:$(cat /etc/cluster/superuser.password)" > "$PGPASSFILE"
sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "host=db1,db2,db3 target_session_attrs=read-write dbname=$1"; }

# Easy to type, as of `hyperion-vault dev`: the ports are this machine's alone.
sql postgres <<'END'
SELECT 'CREATE ROLE app LOGIN PASSWORD ''app''' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') \gexec
SELECT 'CREATE DATABASE app OWNER app' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'app') \gexec
END

# The standbys replay that a moment later; init would refuse meanwhile.
for host in db1 db2 db3; do
  for _ in {1..60}; do
    psql --no-psqlrc "host=$host dbname=app connect_timeout=2" < /dev/null 2> /dev/null && break
    sleep 1
  done
done

# Into a file at once, since the admin token is shown this once; never into the log. What
# a run that failed has printed counts, unless the next one prints another.
made=/var/lib/vault-admin/init.json
keep() { if grep -qs '"admin_token"' "$made.new"; then mv "$made.new" "$made"; fi; }
keep
hyperion-vault init --hosts db1,db2,db3 --database app --service-password-file /etc/hyperion-vault/service.password --json > "$made.new"
keep
if [ -e "$made" ]; then
  sed -E 's/.*"admin_token":"([^"]*)".*/\1/' "$made" > /var/lib/vault-admin/token
fi
cp "$PGSSLROOTCERT" /etc/hyperion-vault/ca.crt

sql app <<'END' > /dev/null
SELECT vault.grant_access('app', '*', '*');
END
echo "the vault is ready: docker compose exec or run as README says"
