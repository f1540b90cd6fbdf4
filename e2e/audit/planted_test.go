// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// readyz is what a node says of its audit.
func readyz(t *testing.T, rest string) (status, part string) {
	t.Helper()
	text := get(t, rest+"/readyz", "")
	for _, s := range []string{"ok", "degraded", "unavailable"} {
		if strings.Contains(text, `"status":"`+s+`"`) {
			status = s
		}
	}
	_, part, _ = strings.Cut(text, `"audit":"`)
	part, _, _ = strings.Cut(part, `"`)
	return status, part
}

func get(t *testing.T, url, token string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestPlanted: who writes a row in a node's name stops its shipping, which all are told
// of, and nothing else. audit verify says which row it is.
func TestPlanted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Spec{})
	n := w.c.Nodes[0]
	w.arrived(t, n)
	super := w.c.Connect(t, w.c.SuperDSN(0))
	cluster.Exec(t, super, `INSERT INTO vault.audit_log (node_id, seq, at, face, action, outcome, direct, prev_hash, hash)
 SELECT node_id, seq + 3, now(), 'sql', 'read', 'ok', false, hash, sha256('planted') FROM vault.audit_heads`)
	conn := w.c.Connect(t, w.dsn(n))
	for range 6 {
		read(t, conn, marker)
	}
	tried := func() float64 { return n.Metric(t, "hyperion_vault_audit_ship_failures_total", `cause="conflict"`) }
	cluster.Eventually(t, "the alarm", func() bool {
		status, _ := readyz(t, n.REST)
		return status == "degraded" && tried() > 0
	})
	if _, part := readyz(t, n.REST); part != "records are not shipped; see the node's log" {
		t.Errorf("readyz says %q", part)
	}
	// Those before the planted one may have gone ahead of the rest.
	before, failed := n.Metric(t, "hyperion_vault_audit_shipped_record"), tried()
	read(t, conn, marker)
	cluster.Eventually(t, "one more attempt", func() bool { return tried() > failed })
	if now := n.Metric(t, "hyperion_vault_audit_shipped_record"); now != before {
		t.Errorf("record %v is shipped, want %v", now, before)
	}
	w.planted(t, super)
	cluster.Exec(t, super, `DELETE FROM vault.audit_log WHERE hash = sha256('planted')`)
	cluster.Eventually(t, "all to be well", func() bool { status, _ := readyz(t, n.REST); return status == "ok" })
	w.arrived(t, n)
	w.sound(t, n.Log)
}

// planted sees that audit verify finds the planted row, and wrong nothing else than what
// it stands in the way of.
func (w *world) planted(t *testing.T, super *pgx.Conn) {
	t.Helper()
	at := cluster.Text(t, super, "SELECT seq::text FROM vault.audit_log WHERE hash = sha256('planted')")
	said := false
	found := w.c.Audit(t, w.logs()...).Findings
	for _, f := range found {
		if strconv.FormatUint(f.Seq, 10) != at {
			t.Errorf("found: %v", f)
		}
		said = said || f.Kind == chain.Changed && f.Detail == "record "+at+" is not what its hash says"
	}
	if !said {
		t.Errorf("found is %v, want that record %s is not what its hash says", found, at)
	}
}
