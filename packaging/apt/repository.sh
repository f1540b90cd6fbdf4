#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# repository.sh DIRECTORY KEY PACKAGE...: adds packages to the signed apt
# repository in the directory, or begins it. What is there already stays: older
# versions can be installed, and a client that reads while this is written finds
# what its Release file names (by-hash). KEY is one of gpg's secret keys.
set -euo pipefail
export LC_ALL=C
[ $# -ge 2 ] || { sed -n '3,6s/^# //p' "$0" >&2; exit 2; }
for tool in apt-ftparchive gpg xz; do
  command -v "$tool" >/dev/null || { echo "no $tool: apt-get install apt-utils gnupg xz-utils" >&2; exit 1; }
done
mkdir -p "$1"
repository=$(realpath "$1") key=$2
shift 2
packages=()
for package; do packages+=("$(realpath "$package")"); done
cd "$(dirname "$0")/../.."

suite=stable component=main
dists=$repository/dists/$suite
index=$component/binary-amd64
pool=$repository/pool/$component
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The keyring's version is the time of the key's newest signature of itself: a new
# date of expiry, or a second key, is a new version.
gpg --batch --export "$key" > "$work/hyperion-vault-archive-keyring.gpg"
[ -s "$work/hyperion-vault-archive-keyring.gpg" ] || { echo "gpg has no key $key" >&2; exit 1; }
SOURCE_DATE_EPOCH=$(gpg --batch --with-colons --list-sigs "$key" | awk -F: '/^(pub|sub|sig):/ && $6 > newest { newest = $6 } END { print newest }')
PACKAGE_VERSION=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S)
export SOURCE_DATE_EPOCH PACKAGE_VERSION DIST=$work/dist
# shellcheck source=packaging/deb/pack.sh
. packaging/deb/pack.sh
mkdir "$work/keyring"
cp "$work/hyperion-vault-archive-keyring.gpg" "$work/keyring"
documents hyperion-vault-archive-keyring "$work/keyring/doc"
pack "$work/keyring" hyperion-vault-archive-keyring

mkdir -p "$pool" "$dists/$index/by-hash/SHA256" "$work/new/$index"
cp --no-clobber "$work"/dist/*.deb "${packages[@]}" "$pool" # what was published does not change

# One kind of hash: a client asks by-hash for the strongest that Release has.
hashes=(-o APT::FTPArchive::MD5=false -o APT::FTPArchive::SHA1=false -o APT::FTPArchive::SHA512=false)
(cd "$repository" && apt-ftparchive "${hashes[@]}" --arch amd64 packages "pool/$component") > "$work/new/$index/Packages"
gzip -9nk "$work/new/$index/Packages"
xz -9k "$work/new/$index/Packages"
apt-ftparchive "${hashes[@]}" -o APT::FTPArchive::Release::Origin=hyperion-vault -o APT::FTPArchive::Release::Label=hyperion-vault \
  -o APT::FTPArchive::Release::Suite=$suite -o APT::FTPArchive::Release::Codename=$suite \
  -o APT::FTPArchive::Release::Architectures=amd64 -o APT::FTPArchive::Release::Components=$component \
  -o APT::FTPArchive::Release::Acquire-By-Hash=yes \
  release "$work/new" > "$work/Release"
sign() { gpg --batch --yes --local-user "$key" --digest-algo SHA512 "$@"; }
sign --clearsign --output "$work/InRelease" "$work/Release"
sign --armor --detach-sign --output "$work/Release.gpg" "$work/Release"

# What the new Release names is there before it is.
for file in "$work/new/$index"/*; do
  cp "$file" "$dists/$index/by-hash/SHA256/$(sha256sum "$file" | cut -d ' ' -f 1)"
  mv "$file" "$dists/$index"
done
mv "$work/Release" "$work/Release.gpg" "$work/InRelease" "$dists"

sed "s#^@KEY@\$#$(base64 -w 0 "$work/hyperion-vault-archive-keyring.gpg")#" packaging/apt/install.sh > "$repository/install.sh"
