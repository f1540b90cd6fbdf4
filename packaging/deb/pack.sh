# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What all packages have in common; sourced by build.sh and ../apt/repository.sh
# in the repository's directory, with PACKAGE_VERSION and SOURCE_DATE_EPOCH set.

umask 022
export LC_ALL=C TZ=UTC
nfpm=${NFPM:?}
root=$PWD
dist=${DIST:-$root/dist}
mkdir -p "$dist"

# documents PACKAGE DIR: what policy wants in every package.
documents() {
  mkdir -p "$2"
  cp "$root/packaging/deb/copyright" "$2/copyright"
  cat > "$2/changelog" <<END
$1 ($PACKAGE_VERSION) stable; urgency=medium

  * What is new: CHANGELOG.md in /usr/share/doc/hyperion-vault, and at
    https://github.com/hyperiondb/hyperion-vault

 -- HyperionDB <hyperiondb@users.noreply.github.com>  $(date -R -d "@$SOURCE_DATE_EPOCH")
END
  gzip -9n "$2/changelog"
}

# pack STAGE CONFIG: what the stage holds becomes a package.
pack() {
  find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$1" && "$nfpm" package --config "$root/packaging/deb/$2.yaml" --packager deb --target "$dist")
}
