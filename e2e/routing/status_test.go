// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestStatus asks the node beside the standby about its sessions.
func TestStatus(t *testing.T) {
	schema(t)
	moved, held := standby(t), standby(t)
	moved.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('status')"))
	held.Rows(t, "DECLARE held CURSOR WITH HOLD FOR SELECT 1")
	held.Ask(t, "E(25006) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('status')"))
	out := status(t, "--sessions")
	for _, want := range []string{"primary", shared.Nodes[0].Postgres, shared.Nodes[1].Postgres, "cursor WITH HOLD held", "idle"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	var all struct {
		Sessions []struct {
			Role, Server, State string
			Moved               bool
			Backend             int
		}
	}
	if err := json.Unmarshal([]byte(status(t, "--json")), &all); err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for _, s := range all.Sessions {
		if s.Role == shared.User && s.State == "idle" && s.Backend > 0 && s.Moved == (s.Server == shared.Nodes[0].Postgres) {
			at[s.Server]++
		}
	}
	if at[shared.Nodes[0].Postgres] == 0 || at[shared.Nodes[1].Postgres] == 0 {
		t.Errorf("sessions by server: %v", at)
	}
	if moved := regexp.MustCompile(`, [1-9][0-9]* of them gone`); !moved.MatchString(out) {
		t.Errorf("status does not say how many have gone:\n%s", out)
	}
	if got := shared.Nodes[1].Run(t, []string{"VAULT_AUDIT_DIR=" + shared.Nodes[0].AuditDir}, "status"); !strings.Contains(got, ", 0 of them gone") {
		t.Errorf("with VAULT_AUDIT_DIR of the other node: got %s", got)
	}
	if info, err := os.Stat(filepath.Join(shared.Nodes[1].AuditDir, "control.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the control socket: %v, %v", info, err)
	}
}

// status runs the command for the node beside the standby.
func status(t *testing.T, args ...string) string {
	t.Helper()
	out, code := shared.Nodes[1].Status(t, args...)
	if code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	return out
}
