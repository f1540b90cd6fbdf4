#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# For machines that reach no registry of images: makes those that docker/Dockerfile
# begins with, under the same names, of Debian's packages and of the Go that is
# installed here. An image that is there already stays. Needs root and debootstrap.
set -euo pipefail

mirror=${MIRROR:-http://deb.debian.org/debian}
security=${SECURITY_MIRROR:-http://deb.debian.org/debian-security}
debian=debian:bookworm-slim
golang=golang:1.26-bookworm

here() { docker image inspect "$1" >/dev/null 2>&1; }

if ! here "$debian"; then
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase bookworm "$root" "$mirror"
  cat > "$root/etc/apt/sources.list" <<END
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb $security bookworm-security main
END
  # Whom this machine trusts besides: a proxy between it and the Go modules, perhaps.
  install -d "$root/usr/local/share/ca-certificates"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$root/usr/local/share/ca-certificates" {} +
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
  tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$debian"
fi

if ! here "$golang"; then
  version=$(go env GOVERSION)
  [[ $version == go1.26* ]] || { echo "$golang needs Go 1.26, here is $version" >&2; exit 1; }
  docker build --network host --tag "$golang" --file - "$(go env GOROOT)" <<END
FROM $debian
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ gcc git libc6-dev make pkg-config && rm -rf /var/lib/apt/lists/*
COPY . /usr/local/go
ENV GOTOOLCHAIN=local GOPATH=/go PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /go
END
fi
