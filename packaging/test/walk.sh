#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The way from nothing to a cluster, to its next version, and through a switchover
# and a failover: three bare Debian 12 that systemd runs, on a network of their own,
# in which nothing is done but what docs/OPERATIONS.md has an operator type, where it
# says so; between its sections the secret is read and written through every node.
# What the document takes for granted is here too: names for the hosts, ssh from the
# first one.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=walk
# shellcheck source=packaging/test/guest.sh
. packaging/test/guest.sh

hosts=(db1 db2 db3)
repository=http://192.0.2.1:8000
switch=walk-$$ # the network; each host's is walk-PID-HOST
primary=db1
value=s3cr3t

leave() {
  local host
  kill "${web:-}" 2>/dev/null || true
  for host in "" "${hosts[@]/#/-}"; do
    ip netns del "$switch$host" 2>/dev/null || true
  done
}

# The version before is this one without the extension's last step.
build() {
  local newest last older
  previous=0~walk1 version=0~walk2
  step "build $previous and $version"
  newest=$(sed -n "s/^default_version = '\(.*\)'/\1/p" extension/hyperion_vault.control)
  last=$(echo extension/sql/hyperion_vault--*--"$newest".sql)
  older=${last#*--} older=${older%--*}
  extension=$newest extension_before=$older
  mkdir "$work/before"
  git ls-files | tar -c -T - | tar -x -C "$work/before"
  rm "$work/before/$last"
  sed -i "s/^default_version = .*/default_version = '$older'/" "$work/before/extension/hyperion_vault.control"
  (cd "$work/before" && git init -q && git add -A &&
    SOURCE_DATE_EPOCH=1 PACKAGE_VERSION=$previous DIST=$work/dist packaging/deb/build.sh extension >/dev/null)
  PACKAGE_VERSION=$previous DIST=$work/dist packaging/deb/build.sh node >/dev/null
  PACKAGE_VERSION=$version DIST=$work/dist packaging/deb/build.sh >/dev/null
}

# network joins the hosts by a bridge that only they are on, and the repository.
network() {
  local n
  ip netns add "$switch"
  ip -n "$switch" link add hub type bridge
  ip -n "$switch" addr add 192.0.2.1/24 dev hub
  ip -n "$switch" link set hub up
  for n in 1 2 3; do
    ip netns add "$switch-db$n"
    ip -n "$switch" link add "db$n" type veth peer name host0 netns "$switch-db$n"
    ip -n "$switch" link set "db$n" master hub up
    ip -n "$switch-db$n" addr add "192.0.2.1$n/24" dev host0
    ip -n "$switch-db$n" link set host0 up
    ip -n "$switch-db$n" link set lo up
  done
  ip netns exec "$switch" python3 -m http.server --bind 192.0.2.1 --directory "$work/apt" 8000 >/dev/null 2>&1 &
  web=$!
}

# machines boots the hosts, and gives root of db1 the way into all by ssh.
machines() {
  local host
  ssh-keygen -q -t ed25519 -N '' -f "$work/ssh"
  for host in "${hosts[@]}"; do
    bare_debian "$work/$host"
    printf '127.0.0.1 localhost\n192.0.2.11 db1\n192.0.2.12 db2\n192.0.2.13 db3\n' > "$work/$host/etc/hosts"
    install -D -m 0600 "$work/ssh.pub" "$work/$host/root/.ssh/authorized_keys"
    boot "$host" "$work/$host" "--network-namespace-path=/run/netns/$switch-$host"
  done
  for host in "${hosts[@]}"; do booted "$host"; done
  at_once on HOST 'apt-get update && apt-get install -y openssh-server openssh-client' >/dev/null
  install -m 0600 "$work/ssh" "$work/db1/root/.ssh/id_ed25519"
  on db1 'ssh-keyscan -t ed25519 db1 db2 db3 > /root/.ssh/known_hosts 2>/dev/null'
}

# at_once COMMAND...: for each of the hosts in the place of HOST, all at one time.
at_once() {
  local host running=()
  for host in "${hosts[@]}"; do
    "${@/#HOST/$host}" &
    running+=($!)
  done
  for host in "${running[@]}"; do wait "$host"; done
}

# readable: the secret is what it was last put to, through every node.
readable() {
  local host
  for host in "${hosts[@]}"; do
    [ "${leader[$host]:-}" ] || continue
    expect "$host" "$value" "for i in \$(seq 60); do
        got=\$($shop -c \"SELECT vault.read_secret('shop/key')\" 2>&1) && [ \"\$got\" = '$value' ] && break; sleep 0.5
      done; echo \"\$got\""
  done
}
shop="PGPASSWORD=shop-password psql -XAtq 'host=127.0.0.1 port=6432 dbname=app user=shop'"

# put HOST VALUE: through that host's node, once it has a primary.
put() {
  value=$2
  on "$1" "for i in \$(seq 60); do $shop -c \"SELECT vault.put_secret('shop/key', '$value')\" && exit 0; sleep 0.5; done; exit 1"
  readable
}

versions() {
  expect "$1" "$2" "dpkg-query -W -f '\${Version}' hyperion-vault"
  on "$1" 'hyperion-vault status || true' | grep -F "$2" >/dev/null || fail "$1: the node that runs is not $2"
}

export PG_CONFIGS=/usr/lib/postgresql/15/bin/pg_config
build
sign
publish "$previous"
network
machines

at_once documented "Install" HOST
documented "The first node" db1
documented "Three hosts" "${hosts[@]}"
for host in "${hosts[@]}"; do versions "$host" "$previous"; done
put db1 s3cr3t-1
put db3 s3cr3t-2

publish "$version"
expect db1 "$extension_before" "runuser -u postgres -- psql -XAtc \"SELECT extversion FROM pg_extension WHERE extname = 'hyperion_vault'\" app"
between=readable documented "Upgrade" db2 db3 db1 # standbys first
for host in "${hosts[@]}"; do
  versions "$host" "$version"
  put "$host" "s3cr3t-on-$host"
done
expect db1 "$extension" "runuser -u postgres -- psql -XAtc \"SELECT extversion FROM pg_extension WHERE extname = 'hyperion_vault'\" app"
for host in "${hosts[@]}"; do put "$host" "s3cr3t-after-$host"; done

step "all audit records are shipped"
for host in "${hosts[@]}"; do
  # shellcheck disable=SC2016 # for the guest
  on "$host" 'for i in $(seq 60); do hyperion-vault status | grep -E "^audit +ok" | grep -v " wait, " && exit 0; sleep 0.5; done; hyperion-vault status; exit 1'
done
documented "Audit" "${hosts[@]}"
step "in no file of any host"
for host in "${hosts[@]}"; do
  expect "$host" "in no file" 'sync; grep -rlF s3cr3t- /var/lib/postgresql /var/log /var/lib/hyperion-vault || echo in no file'
done

documented "A switchover by hand" "${hosts[@]}"
primary=db2
put db1 s3cr3t-3
put db2 s3cr3t-4

step "the primary dies"
# shellcheck disable=SC2016 # for the guest
on db2 'kill -KILL "$(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)"'
documented "A failover by hand" "${hosts[@]}"
primary=db3
put db2 s3cr3t-5
put db3 s3cr3t-6

step "what the nodes say"
for host in "${hosts[@]}"; do expect "$host" ok "hyperion-vault status | awk '\$1 == \"status\" { print \$2 }'"; done
echo "walk: passed in $SECONDS s"
