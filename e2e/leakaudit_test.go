// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// auditTexts has the audit's commands write all that they show, of the vault's table
// and of each node's spool, into files of dir.
func auditTexts(t *testing.T, c *cluster.Cluster, dir string) {
	t.Helper()
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, args ...string) {
		t.Helper()
		text := cluster.Output(t, c.Libpq(t, c.Nodes[0].Postgres, c.Superuser), binary, append([]string{"audit"}, args...)...)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("audit-export", "export")
	write("audit-tail", "tail", "-n", "100000")
	for _, n := range c.Nodes {
		write("spool-export-"+n.Name, "export", "--spool", n.AuditDir)
		write("spool-tail-"+n.Name, "tail", "-n", "100000", "--spool", n.AuditDir)
	}
}

// auditPlaces are parts of the names of places where a name that was recorded at the
// first node must be found.
func auditPlaces(c *cluster.Cluster) []string {
	n := c.Nodes[0]
	return []string{"/audit-export", "/audit-tail", "/spool-export-" + n.Name, "/spool-tail-" + n.Name, n.AuditDir + "/"}
}

// plantRecord stores a secret whose name is the canary's value, as nobody should, and
// waits until the vault has the record.
func plantRecord(t *testing.T, c *cluster.Cluster, one *canary.Canary) {
	t.Helper()
	cluster.Exec(t, c.Connect(t, c.DSN(0, c.User)), "SELECT vault.put_secret($1, 'x')", one.Value())
	conn := c.Connect(t, c.SuperDSN(0))
	cluster.Eventually(t, "the record of the planted name", func() bool {
		return cluster.Text(t, conn, "SELECT count(*)::text FROM vault.audit_log WHERE secret_name = '"+one.Value()+"'") != "0"
	})
}

// TestLeakMisplaced gives values and tokens where a name belongs. The server may log
// them, which is told that they are names; nodes and the audit must not.
func TestLeakMisplaced(t *testing.T) {
	c := shared
	r := &leakRun{c: c}
	var all []*canary.Canary
	value := func(door string) string {
		one := canary.New(door, "misplaced").With("xyz")
		all = append(all, one)
		return one.Value()
	}
	for node := range c.Nodes {
		conn := c.Connect(t, c.DSN(node, c.User))
		refused := func(sql string, args ...any) {
			t.Helper()
			_, err := conn.Exec(t.Context(), sql, args...)
			var e *pgconn.PgError
			if !errors.As(err, &e) && !strings.Contains(sql, "delete_secret") { // which answers false
				t.Errorf("%s: got %v, want a refusal", sql, err)
			}
		}
		for _, call := range []string{"read_secret(%)", "delete_secret(%)", "rotate_secret(%)"} {
			refused("SELECT vault." + strings.ReplaceAll(call, "%", "'hvt_"+value("a token as a name, "+call)+"'"))
			refused("SELECT vault." + strings.ReplaceAll(call, "%", "'"+value("no name at all, "+call)+" !'"))
		}
		refused("SELECT vault.read_secret($1)", "hvt_"+value("a token as a parameter"))
		refused("SELECT vault.read_secret($1)", value("no name as a parameter")+" !")
		refused("SELECT vault.put_secret($1, 'x')", strings.Repeat(value("a name that is too long"), 10))
		for _, name := range []string{"hvt_" + value("a token by REST"), value("no name by REST") + " !"} {
			for _, request := range [][3]string{{"GET", "", ""}, {"PUT", "", `{"value":"x"}`}, {"DELETE", "", ""}, {"POST", "/rotate", ""}} {
				if status, _ := r.request(t, node, request[0], "/v1/secrets/"+url.PathEscape(name)+request[1], "Content-Type: application/json\n", request[2]); status < 400 {
					t.Errorf("%s of a name that is none: got %d", request[0], status)
				}
			}
		}
	}
	conn := c.Connect(t, c.SuperDSN(0))
	cluster.Eventually(t, "records of both nodes' refusals", func() bool {
		return cluster.Text(t, conn, `SELECT count(DISTINCT node_id)::text FROM vault.audit_log
			WHERE outcome <> 'ok' AND secret_name IS NULL AND face = 'rest'`) == "2"
	})
	scanner := canary.NewScanner(all)
	dir := t.TempDir()
	auditTexts(t, c, dir)
	places := []string{dir}
	for _, n := range c.Nodes {
		places = append(places, n.AuditDir, n.Log)
		if !strings.HasPrefix(n.Log, c.Dir()) || !strings.HasPrefix(n.AuditDir, c.Dir()) {
			t.Errorf("%s and %s are not where TestLeak looks", n.Log, n.AuditDir)
		}
	}
	for _, place := range places {
		if err := scanner.Tree(place); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range scanner.Findings {
		t.Errorf("leak: %s", f)
	}
}
