#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs once: makes the cluster's passwords, and a certificate for its servers by
# an authority that forgets its key.
set -euo pipefail
umask 027
cd /etc/cluster
[ ! -e complete ] || exit 0

for name in superuser replicator patroni; do
  openssl rand -hex 24 > "$name.password"
done
scratch=$(mktemp -d)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 3650 -subj "/CN=a trial's authority" \
  -keyout "$scratch/ca.key" -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj "/CN=a trial's server" \
  -keyout server.key -out "$scratch/server.csr"
openssl x509 -req -in "$scratch/server.csr" -CA ca.crt -CAkey "$scratch/ca.key" -days 3650 \
  -extfile <(echo "subjectAltName=DNS:db1,DNS:db2,DNS:db3") -out server.crt
chmod 0600 server.key
touch complete
