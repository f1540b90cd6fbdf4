// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// A server, or its superuser, may say that schema vault is another extension's: in the
// database where the vault is to be no value is sent on that word.
func TestForeignVault(t *testing.T) {
	srv := &Server{
		cfg:     Config{Analyzer: rewrite.NewAnalyzer(rewrite.Config{CheckName: envelope.CheckName}), Database: "app"},
		metrics: newMetrics(),
	}
	for database, want := range map[string]string{"app": stateNoSchema, "other": ""} {
		ss := &session{srv: srv, database: database}
		ss.catalog.foreign = true
		plan, e := ss.analyse("SELECT vault.put_secret('a', 'canary')", rewrite.Options{StdStrings: true})
		got := ""
		if e != nil {
			got = e.code
		}
		if plan != nil || got != want {
			t.Errorf("in %s: plan %v, error %q, want %q", database, plan, got, want)
		}
	}
}
