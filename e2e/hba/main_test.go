// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package hba asks a server and a node beside it about the same clients, under
// the same pg_hba.conf: clients with addresses of their own, in network
// namespaces, so that the server sees them too.
package hba

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

// sockets has a directory for the server's socket and one for the node's.
var sockets struct{ server, node string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hba")
	if err != nil {
		panic(fmt.Sprintf("sockets: %v", err))
	}
	defer func() { _ = os.RemoveAll(dir) }() // of sockets only
	sockets.server, sockets.node = filepath.Join(dir, "s"), filepath.Join(dir, "n")
	for _, path := range []string{dir, sockets.server, sockets.node} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			panic(fmt.Sprintf("sockets: %v", err))
		}
		if err := os.Chmod(path, 0o777); err != nil {
			panic(fmt.Sprintf("sockets: %v", err))
		}
	}
	cluster.Main(m, cluster.Spec{
		Listen: "0.0.0.0", // with a certificate
		Settings: map[string]string{
			"listen_addresses": "*", "unix_socket_directories": sockets.server,
			"log_connections": "on",
		},
	}, &shared)
}
