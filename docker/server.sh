#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A PostgreSQL server under Patroni. The passwords are put into its configuration
# here, in memory, since Patroni reads none from files.
set -euo pipefail
umask 077
name=$(hostname)
secret() { cat "/etc/cluster/$1.password"; }

cat > /tmp/patroni.yml <<END
scope: trial
name: $name
# Not etcd3: by that, Patroni 3.0.2 believes what a member says that was cut off
# with it, that it is primary still, and overwrites who has become it meanwhile.
# By version 2 it takes the lock only from itself.
etcd:
  hosts: etcd1:2379,etcd2:2379,etcd3:2379
restapi:
  listen: 0.0.0.0:8008
  connect_address: $name:8008
  authentication: # of requests that change something
    username: patroni
    password: $(secret patroni)
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 5
    retry_timeout: 5
    synchronous_mode: true # a failover loses nothing that was confirmed
    postgresql:
      use_pg_rewind: true
      parameters:
        shared_preload_libraries: hyperion_vault
        hyperion_vault.database: app
        wal_keep_size: 256MB
  initdb:
    - data-checksums
    - encoding: UTF8
    - locale: C.UTF-8
    - auth-local: peer
    - auth-host: scram-sha-256
postgresql:
  listen: 0.0.0.0:5432
  connect_address: $name:5432
  data_dir: /var/lib/postgresql/data
  bin_dir: /usr/lib/postgresql/15/bin
  pgpass: /tmp/pgpass
  use_unix_socket: true
  use_unix_socket_repl: true
  authentication:
    superuser: &superuser
      username: postgres
      password: $(secret superuser)
      sslmode: verify-full
      sslrootcert: /etc/cluster/ca.crt
    rewind: *superuser
    replication:
      username: replicator
      password: $(secret replicator)
      sslmode: verify-full
      sslrootcert: /etc/cluster/ca.crt
  parameters:
    unix_socket_directories: /run/postgresql
    password_encryption: scram-sha-256
    ssl: 'on'
    ssl_cert_file: /etc/cluster/server.crt
    ssl_key_file: /etc/cluster/server.key
  pg_hba:
    - local all postgres peer
    - local all all scram-sha-256
    - local replication replicator scram-sha-256
    - hostssl replication replicator samenet scram-sha-256
    - hostssl all postgres,vault_service samenet scram-sha-256
    - host app app all scram-sha-256 # clients of nodes too: docs/CONFIG.md, VAULT_PROXY_HBA
END
exec patroni /tmp/patroni.yml
