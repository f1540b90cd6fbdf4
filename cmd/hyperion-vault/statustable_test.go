// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// hostile would clear a screen, by one escape and by a C1 control, and turn a line around.
const hostile = "a\x1b[2J\u009b2J\u202eb\tc\nd"

// TestHostileStatus: what servers and clients name themselves steers no terminal, and is
// what it was for scripts.
func TestHostileStatus(t *testing.T) {
	s := nodeStatus{
		Node: hostile, Version: hostile, VaultID: hostile, Extension: hostile, Primary: hostile,
		readiness: readiness{Status: "degraded", Role: hostile, Parts: map[string]string{"server": hostile, "audit": hostile, "node": hostile}},
		Servers: []serverStatus{
			{Address: hostile, Error: hostile, Role: hostile, Version: hostile},
			{Address: "x", Role: "replaced"},
		},
		AuditNodes: []auditNodeStatus{{AuditNode: vault.AuditNode{ID: hostile, At: hostile}}},
		KMS:        kmsStatus{Mode: hostile, Key: hostile, Error: hostile},
		Rotation:   rotationStatus{Enabled: true, Error: hostile},
		Audit:      auditStatus{NodeID: hostile, Key: hostile, Error: hostile, Depth: 1},
		Sessions:   []proxy.SessionInfo{{Role: hostile, Database: hostile, Client: hostile, Server: hostile, Why: hostile, State: hostile}},
	}
	var out strings.Builder
	if err := s.print(&out, true); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	text := shownJSON(string(raw))
	for what, shown := range map[string]string{"the table": out.String(), "JSON": text} {
		if i := strings.IndexFunc(shown, func(r rune) bool { return r == '\x1b' || r == '\u009b' || r == '\u202e' || r == '\t' }); i >= 0 {
			t.Errorf("%s holds %q", what, shown[i:min(len(shown), i+10)])
		}
	}
	if got, want := strings.Count(out.String(), "\n"), len(strings.Split(strings.TrimRight(out.String(), "\n"), "\n")); got != want || strings.Contains(out.String(), "\nd") {
		t.Errorf("a value begins a line:\n%s", out.String())
	}
	var back nodeStatus
	if err := json.Unmarshal([]byte(text), &back); err != nil || back.Sessions[0].Role != hostile || back.Servers[0].Address != hostile {
		t.Errorf("read back: %v, %+v", err, back)
	}
}

func TestShownJSON(t *testing.T) {
	for in, want := range map[string]string{
		"{\"a\": \"ü\"}\n":      "{\"a\": \"ü\"}\n",
		"\"\u009b\"":            `"\u009b"`,
		"\"\U000e0001\"":        `"\udb40\udc01"`,
		"\"\u007f \u2028 \\n\"": `"\u007f \u2028 \n"`,
	} {
		if got := shownJSON(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
