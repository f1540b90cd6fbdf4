# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by run.sh and walk.sh: bare Debian 12 that systemd runs, a signed
# repository of our packages, and what docs/OPERATIONS.md has an operator type.
# It needs root: debootstrap, systemd-nspawn. Nothing of this host is changed; the
# bare Debian's packages are fetched once and kept in dist/test. Who sources it sets
# name, its own; repository, its address as the guests see it; primary, a guest.
# shellcheck disable=SC2154 # set there
export LC_ALL=C

[ "$(id -u)" -eq 0 ] || { echo "$0 needs root" >&2; exit 1; }
needed=(debootstrap:debootstrap systemd-nspawn:systemd-container apt-ftparchive:apt-utils lintian:lintian gpg:gnupg dpkg-shlibdeps:dpkg-dev
  ip:iproute2 python3:python3 ssh-keygen:openssh-client)
for tool in "${needed[@]}"; do
  command -v "${tool%%:*}" >/dev/null || { echo "no ${tool%%:*}: apt-get install ${needed[*]##*:}" >&2; exit 1; }
done

cache=$PWD/dist/test
work=$(mktemp -d)
declare -A leader nspawn # of each guest: its systemd, and the process around it
finish() {
  code=$?
  for guest in "${!nspawn[@]}"; do
    [ "$code" -eq 0 ] || { echo "== $guest"; on "$guest" 'journalctl --no-pager -n 40'; } || true
    kill "${nspawn[$guest]}" 2>/dev/null || true
    wait "${nspawn[$guest]}" 2>/dev/null || true
  done
  leave
  rm -rf "$work"
  [ "$code" -eq 0 ] || echo "$name: failed" >&2
}
leave() { :; } # what a test has made besides
trap finish EXIT
step() { echo "== $*"; }
fail() { echo "$name: $*" >&2; exit 1; }

# on GUEST SCRIPT: run by bash in the guest; fails as it does. The operator knows
# where the repository is, and has noted the token.
on() {
  nsenter --target "${leader[$1]}" --all -- /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive REPOSITORY="$repository" TOKEN="${token:-}" bash -euo pipefail -c "$2"
}

# expect GUEST TEXT SCRIPT: the script prints just this.
expect() {
  local got
  got=$(on "$1" "$3")
  [ "$got" = "$2" ] || fail "$1: want \"$2\", got \"$got\": $3"
}

# documented SECTION GUEST...: runs what docs/OPERATIONS.md has an operator type
# there, each block where its first line says (on the only guest, if it says
# nothing), and compares what it prints with what the document shows. With between
# set, that command is run behind each.
documented() {
  local section=$1 blocks block named host
  shift
  blocks=$(mktemp -d -p "$work")
  awk -v section="$section" -v blocks="$blocks" '
    /^##+ / { title = $0; sub(/^##+ /, "", title); here = title == section }
    /^```$/ { file = "" }
    file { print > file }
    /^<!-- doccheck: packages -->$/ { kind = "sh" }
    /^<!-- doccheck: output -->$/ { kind = "out" }
    here && /^```sh$/ && kind == "sh" { file = sprintf("%s/%03d.sh", blocks, ++n) }
    here && /^```text$/ && kind == "out" { file = sprintf("%s/%03d.out", blocks, n) }
    /^```/ { kind = "" }' docs/OPERATIONS.md
  [ -e "$blocks/001.sh" ] || fail "docs/OPERATIONS.md has no section $section"
  for block in "$blocks"/*.sh; do
    named=$(hosts_of "$block" "$@") || fail "$section"
    for host in $named; do
      step "$host: $section, block $(basename "$block" .sh)"
      on "$host" "set -x; cd /; $(cat "$block")" > "$blocks/printed" || { cat "$blocks/printed"; fail "$section"; }
      cat "$blocks/printed"
      noticed "$blocks/printed"
      [ ! -e "${block%.sh}.out" ] || same "$blocks/printed" "${block%.sh}.out" || fail "$section: the document shows $(cat "${block%.sh}.out")"
      [ -z "${between:-}" ] || "$between"
    done
  done
}

# hosts_of BLOCK GUEST...: those of the guests that its first line names.
hosts_of() {
  local said guest
  said=$(head -n 1 "$1")
  shift
  for guest; do
    case $said in
    "# on every host"*) echo "$guest" ;;
    "# on the primary"*) [ "$guest" != "$primary" ] || echo "$guest" ;;
    "# on "*) ! grep -qw "$guest" <<<"$said" || echo "$guest" ;;
    *) [ $# -eq 1 ] || { echo "on which host? $said" >&2; exit 1; }; echo "$guest" ;;
    esac
  done
}

# noticed FILE: what an operator keeps of what he sees.
noticed() {
  local shown
  shown=$(sed -n 's/^admin token, shown only now: //p' "$1")
  [ -z "$shown" ] || token=$shown
}

# same PRINTED SHOWN: equal but for blanks at the ends of lines, and empty lines at
# the end; … is anything.
same() {
  local got want line
  mapfile -t got <<<"$(sed 's/ *$//' "$1")"
  # shellcheck disable=SC2016 # an expression of sed's
  mapfile -t want <<<"$(sed 's/ *$//; s/[][\\.*^$()+?{}|]/\\&/g; s/…/.*/g' "$2")"
  [ "${#got[@]}" -eq "${#want[@]}" ] || return 1
  for line in "${!want[@]}"; do
    [[ ${got[line]} =~ ^${want[line]}$ ]] || return 1
  done
}

sign() {
  step "sign the repository"
  export GNUPGHOME=$work/gnupg
  mkdir -m 0700 "$GNUPGHOME"
  gpg --batch --quiet --passphrase '' --quick-generate-key "$name <test@localhost>" ed25519 sign never
  key=$(gpg --batch --with-colons --list-keys | awk -F: '/^fpr:/ { print $10; exit }')
}

# publish VERSION: adds its packages to the repository.
publish() {
  packaging/apt/repository.sh "$work/apt" "$key" "$work"/dist/*"_$1_"*.deb >/dev/null
}

# bare_debian DIRECTORY. It has no way to the Internet: what is to be installed of
# Debian's is put beside it.
bare_debian() {
  local debian=http://deb.debian.org/debian fresh=$work/fresh tar
  local packages=(curl postgresql ssl-cert adduser ca-certificates zsh fish man-db python3 openssh-server openssh-client)
  tar=$cache/bookworm-$(echo "${packages[*]}" | cksum | cut -d ' ' -f 1).tar
  if [ ! -f "$tar" ]; then
    step "debootstrap (once)"
    mkdir -p "$cache"
    debootstrap --variant=minbase --include=systemd,systemd-sysv bookworm "$fresh" "$debian" >/dev/null
    printf 'deb %s bookworm main\ndeb %s-security bookworm-security main\n' "$debian" "$debian" > "$fresh/etc/apt/sources.list"
    chroot "$fresh" apt-get -q update >/dev/null
    chroot "$fresh" apt-get -q -y install --download-only "${packages[@]}" >/dev/null
    mkdir "$fresh/srv/debian"
    mv "$fresh"/var/cache/apt/archives/*.deb "$fresh/srv/debian"
    (cd "$fresh/srv/debian" && apt-ftparchive packages . > Packages)
    echo 'deb [trusted=yes] file:/srv/debian ./' > "$fresh/etc/apt/sources.list"
    rm -rf "$fresh"/var/lib/apt/lists/*
    tar -C "$fresh" -cf "$tar.new" .
    mv "$tar.new" "$tar"
    rm -rf "$fresh"
  fi
  mkdir "$1"
  tar -C "$1" -xpf "$tar"
}

# boot GUEST DIRECTORY NETWORK: starts it; NETWORK is an argument of systemd-nspawn's.
boot() {
  echo "$1" > "$2/etc/hostname"
  # nspawn would refuse mlock, which a host does not.
  systemd-nspawn --quiet --directory "$2" --machine "$name-$$-$1" --boot --register=no --keep-unit \
    "$3" --system-call-filter=@memlock --console=pipe </dev/null >"$work/$1.console" 2>&1 &
  nspawn[$1]=$!
}

# booted GUEST waits until it has started.
booted() {
  step "boot $1"
  for _ in {1..240}; do
    leader[$1]=$(pgrep -P "${nspawn[$1]}" | head -n 1) || true
    if [ -n "${leader[$1]}" ] && [[ $(on "$1" 'systemctl is-system-running' 2>/dev/null || true) == running ]]; then
      return
    fi
    kill -0 "${nspawn[$1]}" 2>/dev/null || { cat "$work/$1.console" >&2; fail "systemd-nspawn ended"; }
    sleep 0.5
  done
  cat "$work/$1.console" >&2
  fail "$1 did not start within two minutes"
}
