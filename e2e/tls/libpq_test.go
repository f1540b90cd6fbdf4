// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestLibpqModes has libpq's own sslmode words in front of a node with a
// certificate, and of one without.
func TestLibpqModes(t *testing.T) {
	node, clear := secure(t, nil), shared.Nodes[0].Proxy
	stranger := newAuthority(t, "another")
	for _, c := range []struct {
		options, host, roots string
		secured, clear       bool // in?
	}{
		{"sslmode=disable", "localhost", node.own.File, true, true},
		{"sslmode=allow", "localhost", node.own.File, true, true},
		{"sslmode=prefer", "localhost", node.own.File, true, true},
		{"sslmode=require", "localhost", "none", true, false},
		{"sslmode=verify-ca", "localhost", node.own.File, true, false},
		{"sslmode=verify-ca", "localhost", stranger.File, false, false},
		{"sslmode=verify-full", "localhost", node.own.File, true, false},
		{"sslmode=verify-full", "another.example", node.own.File, false, false},
		{"sslmode=verify-ca", "another.example", node.own.File, true, false},
		{"sslmode=require channel_binding=require", "localhost", "none", true, false},
		{"sslmode=disable channel_binding=require", "localhost", "none", false, false},
		{"sslmode=prefer gssencmode=prefer", "localhost", node.own.File, true, true},
	} {
		t.Run(c.options+" "+c.host, func(t *testing.T) {
			for address, want := range map[string]bool{node.address: c.secured, clear: c.clear} {
				_, port, _ := strings.Cut(address, ":")
				cmd := exec.CommandContext(t.Context(), "psql", "-XAtc", "SELECT 'in'", "host="+c.host+" hostaddr=127.0.0.1 port="+port+
					" user="+shared.User+" dbname="+shared.Database+" sslrootcert="+c.roots+" "+c.options)
				cmd.Env = append(os.Environ(), "PGPASSWORD="+shared.Password, "HOME="+t.TempDir())
				out, err := cmd.CombinedOutput()
				if got := err == nil && strings.TrimSpace(string(out)) == "in"; got != want {
					t.Errorf("port %s: in %v, want %v: %s", port, got, want, out)
				}
			}
		})
	}
}
