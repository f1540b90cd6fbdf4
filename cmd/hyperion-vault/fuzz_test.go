// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfig reads a file of settings: a line of a name that is known gives its
// value, everything else is a fault of one line, and no fault and no warning
// shows a secret.
func FuzzConfig(f *testing.F) {
	f.Add("VAULT_LOCAL_MASTER_KEY", testKey, "VAULT_PROXY_LISTEN=127.0.0.1:6432\n# a comment\n\nVAULT_DRAIN_SECS = 5\r\n")
	f.Add("VAULT_PG_PASSWORD", "s3cr3t", "VAULT_PG_SSLMODE=verify-full\nVAULT_PG_HOSTS=a,b:5433,[::1]:1,/run\n=x")
	f.Add("VAULT_PG_PASSWORD", "x", "VAULT_API_LISTEN=tcp://10.0.0.1:8200\nVAULT_ALLOWED_IPS=10.0.0.0/8,::1\nnothing")
	f.Fuzz(func(t *testing.T, name, secret, text string) {
		path := filepath.Join(t.TempDir(), "node.conf")
		if len(secret) < 12 || strings.Contains(text, secret) || strings.Contains(path, secret) || strings.ContainsAny(secret, "\n\r") {
			return // short ones are in any message by chance
		}
		// The secret's own line, whether its name is one or not.
		if err := os.WriteFile(path, []byte(text+"\n"+name+"="+secret), 0o600); err != nil {
			t.Fatal(err)
		}
		var s settings
		v, warnings, err := load(&s, nil, path)
		said := strings.Join(warnings, "\n")
		if err == nil {
			_, err = v.check()
		}
		if err != nil {
			said += err.Error()
		}
		for _, st := range settingList() {
			if st.secret && st.name == strings.TrimSpace(name) && strings.Contains(said, strings.TrimSpace(secret)) {
				t.Fatalf("%s is shown: %s", name, said)
			}
		}
	})
}
