// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tls

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestNewCA: SIGHUP reads again who may sign the servers' certificates, for sessions and for
// the service role's connections, which have to be made anew one day.
func TestNewCA(t *testing.T) {
	old, next := newAuthority(t, "old"), newAuthority(t, "next")
	serveTLS(t, 0, old, tomorrow(), "")
	_, port, _ := strings.Cut(shared.Nodes[0].Postgres, ":")
	node := shared.Nodes[0].StartLoose(t, map[string]string{
		"VAULT_LOCAL_PG": "localhost:" + port, "VAULT_PG_HOSTS": "localhost:" + port, "VAULT_PG_SSLMODE": "verify-full", "VAULT_PG_SSLROOTCERT": old.File,
	})
	if got := verdict(t, node.Proxy); got != inTLS {
		t.Fatalf("by the old CA: got %q, want %q", got, inTLS)
	}
	serveTLS(t, 0, next, tomorrow(), "")
	cluster.Eventually(t, "the server's new certificate", func() bool { return verdict(t, node.Proxy) != inTLS })

	var both []byte
	for _, a := range []*authority{old, next} {
		pem, err := os.ReadFile(a.File)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, pem...)
	}
	if err := os.WriteFile(old.File, both, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(node.PID, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'vault_service'")
	cluster.Eventually(t, "sessions by both CAs", func() bool { return verdict(t, node.Proxy) == inTLS })
}
