#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs hyperion-vault by apt from the repository that has this script at its
# top: curl -fsSL URL/install.sh | sh -s -- URL
# It adds two files, the repository's key and its entry in sources.list.d, then
# installs the node, and the extension for each PostgreSQL server of this host.
set -eu

keyring=/usr/share/keyrings/hyperion-vault-archive-keyring.gpg
sources=/etc/apt/sources.list.d/hyperion-vault.sources

key() {
	base64 -d <<-'END'
@KEY@
	END
}

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

# Called by the last line: half of this script does nothing.
main() {
	# apt reads the keyring as a user of its own, whatever root's umask is.
	umask 022
	[ $# -eq 1 ] || fail "usage: install.sh URL, the URL being the repository's"
	[ "$(id -u)" -eq 0 ] || fail "this needs root"
	command -v apt-get >/dev/null || fail "this needs a Debian (apt-get)"
	[ "$(dpkg --print-architecture)" = amd64 ] || fail "there are packages for amd64 only"

	# The keyring's package may know better by now.
	if ! dpkg-query -W -f '${db:Status-Status}' hyperion-vault-archive-keyring 2>/dev/null | grep -qx installed; then
		key >"$keyring.new"
		mv "$keyring.new" "$keyring"
	fi
	cat >"$sources" <<-END
		Types: deb
		URIs: $1
		Suites: stable
		Components: main
		Signed-By: $keyring
	END

	apt-get update
	packages="hyperion-vault hyperion-vault-archive-keyring"
	for server in /usr/lib/postgresql/*/bin/postgres; do
		[ -x "$server" ] || continue
		major=${server#/usr/lib/postgresql/}
		extension=postgresql-${major%%/*}-hyperion-vault
		if apt-cache show "$extension" >/dev/null 2>&1; then
			packages="$packages $extension"
		else
			echo "install.sh: there is no extension for PostgreSQL ${major%%/*}, which is here: left out"
		fi
	done
	# shellcheck disable=SC2086 # a list
	apt-get install -y $packages
	case $packages in
	*postgresql*) ;;
	*) echo "install.sh: no extension was installed: no PostgreSQL server is here that there is one for" ;;
	esac
}

main "$@"
