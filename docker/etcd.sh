#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# One of the three in which the Patronis agree on who is primary: by version 2 of
# its protocol, as server.sh says why.
set -euo pipefail
name=$(hostname)
exec etcd --name "$name" --data-dir /var/lib/etcd/data --log-level warn \
  --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls "http://$name:2379" \
  --listen-peer-urls http://0.0.0.0:2380 --initial-advertise-peer-urls "http://$name:2380" \
  --initial-cluster etcd1=http://etcd1:2380,etcd2=http://etcd2:2380,etcd3=http://etcd3:2380 \
  --enable-v2 --pre-vote --heartbeat-interval 250 --election-timeout 2500
