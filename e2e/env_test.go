// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// client is a driver's connection through the shared node.
func client(t *testing.T) *pgx.Conn {
	t.Helper()
	return shared.Connect(t, shared.DSN(0, shared.User))
}

// super is the superuser's connection to the shared server's own port.
func super(t *testing.T) *pgx.Conn {
	t.Helper()
	return shared.Connect(t, shared.SuperDSN(0))
}

// raw is a connection of raw messages through the shared node.
func raw(t *testing.T) *rawpg.Conn {
	t.Helper()
	return dial(t, shared.DSN(0, shared.User))
}

func dial(t *testing.T, dsn string) *rawpg.Conn {
	t.Helper()
	c, err := rawpg.Dial(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// put stores secrets, given as name and value in turn.
func put(t *testing.T, pairs ...string) {
	t.Helper()
	conn := client(t)
	for i := 0; i < len(pairs); i += 2 {
		cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", pairs[i], pairs[i+1])
	}
}

// spoil stores a secret and damages its ciphertext, so that opening it fails.
func spoil(t *testing.T, name string) {
	t.Helper()
	put(t, name, "never seen")
	cluster.Exec(t, super(t), `UPDATE vault.secret_versions v SET ciphertext = set_byte(ciphertext, 40, get_byte(ciphertext, 40) # 1)
		FROM vault.secrets s WHERE s.id = v.secret_id AND s.name = $1`, name)
}

// version is the current version of a secret, 0 if it does not exist.
func version(t *testing.T, name string) string {
	t.Helper()
	return cluster.Text(t, super(t), "SELECT coalesce(max(current_version), 0)::text FROM vault.secrets WHERE name = $1", name)
}
