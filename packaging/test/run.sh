#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs the packages by apt from a signed repository in a bare Debian 12,
# upgrades them with data, removes and purges them, and has lintian look at them.
# What an operator types is run as docs/OPERATIONS.md has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
name='packages-test'
# shellcheck source=packaging/test/guest.sh
. packaging/test/guest.sh

repository=http://127.0.0.1:8000
primary=db1
guest=$work/root
in_guest() { on db1 "$1"; }
expected() { expect db1 "$@"; }

shop="PGPASSWORD=shop-password psql -XAtq 'host=127.0.0.1 port=6432 dbname=app user=shop'"

build() {
  local commit
  commit=$(git log -1 --format=%ct)
  previous=0~test1 version=0~test2
  step "build $previous and $version, and $version again elsewhere"
  PACKAGE_VERSION=$previous DIST=$work/dist packaging/deb/build.sh >/dev/null
  PACKAGE_VERSION=$version DIST=$work/dist packaging/deb/build.sh >/dev/null
  mkdir "$work/elsewhere"
  git ls-files | tar -c -T - | tar -x -C "$work/elsewhere"
  (
    cd "$work/elsewhere"
    git init -q && git add -A
    export GOCACHE=$work/cache # nothing of the first build
    SOURCE_DATE_EPOCH=$commit PACKAGE_VERSION=$version DIST=$work/again packaging/deb/build.sh >/dev/null
  )
  diff <(cd "$work/dist" && sha256sum -- *"_${version}_"*) <(cd "$work/again" && sha256sum -- *) || fail "two builds differ"
  step "lintian"
  lintian --allow-root --fail-on error,warning "$work"/again/*.deb
}

# deliver VERSION: publishes it, and puts the repository into the guest.
deliver() {
  publish "$1"
  mkdir -p "$guest/srv/hyperion-vault"
  cp -r "$work/apt/." "$guest/srv/hyperion-vault"
}

# web hands out the repository, in the guest.
web() {
  in_guest 'apt-get update && apt-get install -y --no-install-recommends python3' >/dev/null
  in_guest 'systemd-run --quiet --unit=web -p DynamicUser=yes python3 -u -m http.server --bind 127.0.0.1 --directory /srv/hyperion-vault 8000'
  # shellcheck disable=SC2016 # for the guest
  in_guest 'for i in $(seq 60); do (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null && exit 0; sleep 0.5; done; exit 1'
}

install() {
  step "install $previous"
  documented "Install" db1
  expected "$previous" "dpkg-query -W -f '\${Version}' hyperion-vault"
  expected inactive 'systemctl is-active hyperion-vault || true'
  expected disabled 'systemctl is-enabled hyperion-vault || true'
  expected "700 hyperion-vault" 'stat -c "%a %U" /var/lib/hyperion-vault'
  expected "hyperion-vault-archive-keyring: /usr/share/keyrings/hyperion-vault-archive-keyring.gpg" \
    'dpkg -S /usr/share/keyrings/hyperion-vault-archive-keyring.gpg'
  step "again from nothing, by a root with umask 077"
  # shellcheck disable=SC2016 # for the guest
  in_guest 'dpkg --purge hyperion-vault-archive-keyring; rm -r /var/lib/apt/lists/*
    umask 077; sh /srv/hyperion-vault/install.sh "$REPOSITORY"' >/dev/null
  in_guest 'apt-get install -y zsh fish man-db >/dev/null'
  in_guest 'systemd-analyze verify hyperion-vault.service'
  in_guest 'systemd-analyze security --threshold=20 hyperion-vault.service' | tail -n 1
  in_guest 'zsh -n /usr/share/zsh/vendor-completions/_hyperion-vault
    fish -n /usr/share/fish/vendor_completions.d/hyperion-vault.fish; bash -n /usr/share/bash-completion/completions/hyperion-vault'
  [ -z "$(in_guest 'man --warnings -l /usr/share/man/man1/hyperion-vault.1.gz 2>&1 >/dev/null')" ] || fail "man has warnings"
}

# A repository that somebody has changed is refused.
tampered() {
  step "a changed repository is refused"
  local release=$guest/srv/hyperion-vault/dists/stable/InRelease
  sed -i 's/^Suite: stable/Suite: Stable/' "$release"
  in_guest 'rm -rf /var/lib/apt/lists/*; { apt-get update 2>&1 || true; } | grep -m 1 -F BADSIG' || fail "apt takes a changed Release file"
  cp "$work/apt/dists/stable/InRelease" "$release"
  in_guest 'apt-get update >/dev/null'
}

single_node() {
  step "a single node"
  documented "The first node" db1
  expected active 'systemctl is-active hyperion-vault'
  expected "2" "$shop -c \"SELECT vault.put_secret('shop/key', 's3cr3t')\""
  expected "s3cr3t" "$shop -c \"SELECT vault.read_secret('shop/key')\""
  expected "in no file" 'sync; grep -rlF s3cr3t /var/lib/postgresql /var/log /var/lib/hyperion-vault || echo in no file'
  step "what the unit gives the node"
  # shellcheck disable=SC2016 # for the guest
  in_guest 'pid=$(systemctl show -P MainPID hyperion-vault)
    grep -E "^(Uid|CapBnd|NoNewPrivs|Seccomp|VmLck):" /proc/$pid/status
    grep -qx "CapBnd:.0000000000000000" /proc/$pid/status && grep -qx "NoNewPrivs:.1" /proc/$pid/status && grep -qx "Seccomp:.2" /proc/$pid/status
    [ "$(awk "/^VmLck:/ { print \$2 }" /proc/$pid/status)" -gt 0 ]
    grep -Ex "Max core file size +0 +0 +bytes *" /proc/$pid/limits'
  # What it asks for; a test machine whose root may not raise limits gives less.
  expected "268435456" 'systemctl show -P LimitMEMLOCK hyperion-vault'
  in_guest 'journalctl -u hyperion-vault -o cat --no-pager' | grep -F '"level":"WARN"' && fail "the log warns"
  step "reload"
  in_guest 'sed -i "s/^VAULT_ALLOWED_IPS=.*/VAULT_ALLOWED_IPS=/" /etc/hyperion-vault/hyperion-vault.conf; systemctl reload hyperion-vault'
  in_guest "$shop -c \"SELECT vault.read_secret('shop/key')\"" && fail "a reload has no effect"
  in_guest 'sed -i "s/^VAULT_ALLOWED_IPS=.*/VAULT_ALLOWED_IPS=loopback/" /etc/hyperion-vault/hyperion-vault.conf; systemctl reload hyperion-vault'
  expected "s3cr3t" "$shop -c \"SELECT vault.read_secret('shop/key')\""
  expected active 'systemctl is-active hyperion-vault'
  step "a node that is killed or crashes comes back; one with a wrong setting does not begin"
  local signal
  for signal in KILL ABRT; do # a Go program that gets SIGABRT ends as one that panics does
    # shellcheck disable=SC2016 # for the guest
    in_guest 'was=$(systemctl show -P MainPID hyperion-vault); systemctl kill --kill-who=main -s '$signal' hyperion-vault
      for i in $(seq 60); do now=$(systemctl show -P MainPID hyperion-vault)
        [ "$now" != 0 ] && [ "$now" != "$was" ] && systemctl is-active --quiet hyperion-vault && exit 0; sleep 0.5; done; exit 1'
  done
  in_guest 'cp -p /etc/hyperion-vault/hyperion-vault.conf /root/good.conf; echo VAULT_LOG_LEVEL=loud >> /etc/hyperion-vault/hyperion-vault.conf'
  in_guest 'systemctl restart hyperion-vault 2>/dev/null' && fail "it starts with a wrong setting"
  expected "failed" 'systemctl is-failed hyperion-vault'
  expected "78" 'systemctl show -P ExecMainStatus hyperion-vault'
  in_guest 'cp -p /root/good.conf /etc/hyperion-vault/hyperion-vault.conf; systemctl reset-failed hyperion-vault; systemctl start hyperion-vault'
}

upgrade() {
  step "upgrade to $version, with data"
  deliver "$version"
  documented "Upgrade" db1
  in_guest 'journalctl -u web -o cat --no-pager' > "$work/requests"
  grep -q 'GET .*/by-hash/SHA256/' "$work/requests" || fail "apt asks for nothing by hash"
  ! grep '" 404 ' "$work/requests" || fail "the repository lacks what apt asks for"
  expected "$version" "dpkg-query -W -f '\${Version}' postgresql-15-hyperion-vault"
  expected "hyperion-vault $version" "hyperion-vault version | sed 's/,.*//'"
  expected active 'systemctl is-active hyperion-vault'
  expected enabled 'systemctl is-enabled hyperion-vault'
  in_guest "hyperion-vault status || true" | grep -F "$version" || fail "the node that runs is not the new one"
  ready
  expected "s3cr3t" "$shop -c \"SELECT vault.read_secret('shop/key')\""
  expected "3" "$shop -c \"SELECT vault.put_secret('shop/key', 'n3w-s3cr3t')\""
  expected "VAULT_PG_DBNAME=app" 'grep ^VAULT_PG_DBNAME= /etc/hyperion-vault/hyperion-vault.conf'
  in_guest "apt-get install -y --allow-downgrades hyperion-vault=$previous >/dev/null"
  ready
  expected "n3w-s3cr3t" "$shop -c \"SELECT vault.read_secret('shop/key')\""
}

certificate() {
  step "a new certificate, as documented"
  documented "Certificates and passwords" db1
  # shellcheck disable=SC2016 # for the guest
  expected same 'shown=$(openssl s_client -starttls postgres -connect 127.0.0.1:6432 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint)
    [ "$shown" = "$(openssl x509 -in /etc/ssl/certs/ssl-cert-snakeoil.pem -noout -fingerprint)" ] && echo same'
}

backup() {
  step "dump and restore, as documented"
  documented "Backup and restore" db1
  ready
  expected "n3w-s3cr3t" "$shop -c \"SELECT vault.read_secret('shop/key')\""
  expected "4" "$shop -c \"SELECT vault.put_secret('shop/key', 'n3w-s3cr3t')\""
  in_guest 'grep -cF s3cr3t /var/backups/hyperion-vault/app.dump' && fail "a value is in the dump"
  # shellcheck disable=SC2016 # for the guest
  in_guest 'for i in $(seq 60); do hyperion-vault status | grep -E "^audit +ok" && exit 0; sleep 0.5; done; hyperion-vault status; exit 1'
}

# ready waits until the node has its server again.
ready() {
  in_guest 'curl -sS --retry 30 --retry-delay 1 --retry-all-errors --fail -o /dev/null http://127.0.0.1:8200/readyz'
}

removal() {
  step "remove, and back again"
  in_guest 'apt-get remove -y hyperion-vault >/dev/null'
  expected "inactive" 'systemctl is-active hyperion-vault || true'
  # shellcheck disable=SC2016 # for the guest
  in_guest '[ -f /etc/hyperion-vault/hyperion-vault.conf ] && [ -n "$(ls -A /var/lib/hyperion-vault)" ]'
  in_guest "apt-get install -y hyperion-vault >/dev/null; systemctl start hyperion-vault"
  expected enabled 'systemctl is-enabled hyperion-vault'
  ready
  expected "n3w-s3cr3t" "$shop -c \"SELECT vault.read_secret('shop/key')\""
  step "remove and purge, as documented"
  documented "Remove" db1
  expected "" "dpkg-query -W -f '\${Package}' hyperion-vault postgresql-15-hyperion-vault 2>/dev/null || true"
  in_guest '[ ! -e /var/lib/hyperion-vault ] && [ ! -e /etc/hyperion-vault/hyperion-vault.conf ] && [ ! -e /etc/systemd/system/hyperion-vault.service ]'
  in_guest '[ ! -e /etc/systemd/system/multi-user.target.wants/hyperion-vault.service ] && [ ! -e /run/hyperion-vault ]'
  expected "600 hyperion-vault" 'stat -c "%a %U" /etc/hyperion-vault/master.key'
  expected "1" "runuser -u postgres -- psql -XAtc 'SELECT 1' app"
}

export PG_CONFIGS=/usr/lib/postgresql/15/bin/pg_config
build
bare_debian "$guest"
sign
deliver "$previous"
lintian --allow-root --fail-on error,warning "$work"/apt/pool/main/hyperion-vault-archive-keyring*.deb
boot db1 "$guest" --private-network
booted db1
web
install
tampered
single_node
certificate
upgrade
backup
removal
echo "packages-test: passed in $SECONDS s"
