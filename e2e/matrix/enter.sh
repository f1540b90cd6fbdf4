#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs a command in a root that root.sh made, in the same working directory, with
# the repository, Go and /tmp where they are outside. So `go test -exec` can use
# it: the tests are built here, once, and run there. What they leave in e2e/out
# goes to MATRIX_OUT.
set -euo pipefail

root=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$here/e2e/out"
export ROOT=$root CWD=$PWD OUT=$here/e2e/out MATRIX_OUT=${MATRIX_OUT:-$here/e2e/out}
BINDS="$here $(go env GOROOT) $(go env GOMODCACHE) $(go env GOCACHE) /tmp /dev /sys"
export BINDS

# Its own mounts end with it, however it ends.
# shellcheck disable=SC2016 # the inner shell's
exec unshare --mount bash -c '
	set -eu
	mount --bind "$ROOT" "$ROOT" # ip netns wants / to be a mount
	mount -t proc proc "$ROOT/proc"
	for dir in $BINDS; do
		mkdir -p "$ROOT$dir"
		mount --rbind "$dir" "$ROOT$dir"
	done
	mount --bind "$MATRIX_OUT" "$ROOT$OUT"
	mount --bind /etc/resolv.conf "$ROOT/etc/resolv.conf"
	exec chroot "$ROOT" bash -c "cd \"\$0\" && exec \"\$@\"" "$CWD" "$@"' enter "$@"
