// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestKeys: what was sealed under a key that was in use before still opens where
// that key is named, and elsewhere the KMS is not even asked.
func TestKeys(t *testing.T) {
	loose := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_KMS_KEY_ID": cluster.KMSOldKey, "VAULT_KMS_DECRYPT_KEY_IDS": ""})
	old := shared.Connect(t, shared.AddressDSN(loose.Proxy, shared.User))
	put(t, old, "keys/old")
	now := shared.Connect(t, shared.DSN(0, shared.User))
	read(t, now, "keys/old")
	put(t, now, "keys/new")
	super := shared.Connect(t, shared.SuperDSN(0))
	const keys = "SELECT string_agg(v.kms_key_id, ' ' ORDER BY s.name) FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id WHERE s.name LIKE 'keys/%'"
	if got, want := cluster.Text(t, super, keys), cluster.KMSKey+" "+cluster.KMSOldKey; got != want {
		t.Errorf("got keys %s, want %s", got, want)
	}

	before.count()
	_, err := old.Exec(t.Context(), "SELECT vault.read_secret('keys/new')")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "XX001" {
		t.Errorf("a record under another key: got %v, want XX001", err)
	}
	before.mu.Lock()
	defer before.mu.Unlock()
	for _, c := range before.sent {
		if strings.Contains(string(c.body), "keys/new") {
			t.Errorf("the KMS was asked: %s", c.body)
		}
	}
}
