// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// An Audit is what the primary's vault has, and what the program says of it.
type Audit struct {
	Rows     []audit.Row            `json:"-"`
	Changes  map[int64]audit.Change `json:"-"`
	Compared int                    `json:"changes_compared"`
	Nodes    []AuditNode
	Findings []AuditFinding
	Notes    []AuditFinding
}

// An AuditNode is how much there is of a node's chain.
type AuditNode struct {
	Node                string
	First, Last, Proven uint64
}

// An AuditFinding is one thing that is wrong, or to be known.
type AuditFinding struct {
	Kind   audit.Kind
	Node   string
	Seq    uint64
	Change int64
	Detail string
}

// Trust is what nodes have said of themselves at their first starts, in the order of
// their logs: lines for audit verify, and the nodes' ids.
func Trust(tb testing.TB, logs ...string) (lines string, ids []string) {
	tb.Helper()
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var said struct {
				Msg, Trust string
				ID         string `json:"node_id"`
			}
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "audit identity" {
				lines, ids = lines+said.Trust+"\n", append(ids, said.ID)
			}
		}
	}
	if len(ids) < len(logs) {
		tb.Fatalf("%d nodes have said who they are, want %d", len(ids), len(logs))
	}
	return lines, ids
}

// Audit has the program verify all that the primary's vault has, of nodes with these
// logs, and read it.
func (c *Cluster) Audit(tb testing.TB, logs ...string) *Audit {
	tb.Helper()
	return c.AuditBy(tb, nil, logs...)
}

// AuditBy is Audit with more flags of audit verify.
func (c *Cluster) AuditBy(tb testing.TB, flags []string, logs ...string) *Audit {
	tb.Helper()
	lines, _ := Trust(tb, logs...)
	trust := filepath.Join(tb.TempDir(), "trust")
	if err := os.WriteFile(trust, []byte(lines), 0o600); err != nil {
		tb.Fatal(err)
	}
	var found struct {
		Audit

		OK   bool
		More int `json:"more_findings"`
	}
	out, code := c.auditCommand(tb, append([]string{"verify", "--trust", trust, "--grace", "0s", "--json"}, flags...)...)
	if err := json.Unmarshal(out, &found); err != nil || found.OK != (len(found.Findings)+found.More == 0) || found.OK != (code == 0) || code > 1 {
		tb.Fatalf("audit verify: exit code %d, %v: %s", code, err, out)
	}
	out, code = c.auditCommand(tb, "export")
	e, err := audit.ReadExport(bytes.NewReader(out))
	if err != nil || code != 0 {
		tb.Fatalf("audit export: exit code %d, %v", code, err)
	}
	for row, err := range e.Rows {
		if err != nil {
			tb.Fatal(err)
		}
		found.Rows = append(found.Rows, row)
	}
	found.Changes = map[int64]audit.Change{}
	for change, err := range e.Changes {
		if err != nil {
			tb.Fatal(err)
		}
		found.Changes[change.ID] = change
	}
	return &found.Audit
}

// auditCommand runs one on the primary's server.
func (c *Cluster) auditCommand(tb testing.TB, args ...string) (out []byte, code int) {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := Command(tb, c.Libpq(tb, c.PrimaryNode().Postgres, c.Superuser), binary, append([]string{"audit"}, args...)...)
	var exit *exec.ExitError
	if out, err = cmd.Output(); errors.As(err, &exit) {
		if code = exit.ExitCode(); code > 1 {
			tb.Logf("audit %s: %s", args[0], exit.Stderr)
		}
	} else if err != nil {
		tb.Fatal(err)
	}
	return out, code
}
