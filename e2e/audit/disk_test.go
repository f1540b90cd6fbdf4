// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestFullDisk: readyz tells before the spool's disk is full; then secrets are neither
// read nor written, at once and with a reason, and all else goes on. When there is
// room again, so do secrets.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	cluster.NeedAlone(t)
	w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_LOW_SPACE": "1048576"}})
	n := w.c.Nodes[0]
	disk := n.SmallAuditDisk(t, 3<<20)
	conn := w.c.Connect(t, w.dsn(n))
	read(t, conn, marker)
	if status, part := readyz(t, n.REST); status != "ok" || part != "ok" {
		t.Fatalf("readyz says %s, %s", status, part)
	}

	disk.Leave(t, 512<<10)
	cluster.Eventually(t, "readyz to tell of little space", func() bool {
		status, part := readyz(t, n.REST)
		return status == "degraded" && part == "there is little space left for records"
	})
	read(t, conn, marker)

	disk.Fill(t)
	var err error
	cluster.Eventually(t, "a read to be refused", func() bool { // there is room in what the file has already
		_, err = within(t, func() (string, error) { return ask(t, conn, "SELECT vault.read_secret($1)", marker) })
		return err != nil
	})
	refused(t, "a read", err)
	_, err = within(t, func() (string, error) { return ask(t, conn, "SELECT vault.put_secret($1, 'other')::text", marker) })
	refused(t, "a write", err)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		status, text := 0, ""
		if _, err := within(t, func() (string, error) {
			status, text = call(t, method, n.REST+"/v1/secrets/"+marker, w.c.AdminToken)
			return "", nil
		}); err != nil {
			t.Error(err)
		}
		if status != http.StatusServiceUnavailable || !strings.Contains(text, `"code":"audit"`) || !strings.Contains(text, "audit") {
			t.Errorf("%s: got %d %s", method, status, text)
		}
	}
	for range 100 {
		if got, err := ask(t, conn, "SELECT 'untouched'"); err != nil || got != "untouched" {
			t.Fatalf("what does not concern the vault: got %q, %v", got, err)
		}
	}
	if status, part := readyz(t, n.REST); status != "degraded" || part != "records cannot be written: no secret is opened" {
		t.Errorf("readyz says %s, %s", status, part)
	}
	for query, want := range map[string]int{"": http.StatusOK, "?require=server,kms,primary": http.StatusOK, "?require=audit": http.StatusServiceUnavailable} {
		if code, text := call(t, http.MethodGet, n.REST+"/readyz"+query, ""); code != want {
			t.Errorf("readyz%s: got %d %s, want %d", query, code, text, want)
		}
	}

	disk.Free(t)
	cluster.Eventually(t, "secrets to be read again", func() bool {
		_, err := ask(t, conn, "SELECT vault.read_secret($1)", marker)
		return err == nil
	})
	read(t, conn, marker)
	cluster.Eventually(t, "readyz to be well", func() bool { status, _ := readyz(t, n.REST); return status == "ok" })
	w.arrived(t, n)
	w.sound(t, n.Log)
}

// within sees that something takes less than a second.
func within(t *testing.T, f func() (string, error)) (string, error) {
	t.Helper()
	began := time.Now()
	text, err := f()
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	return text, err
}

func ask(t *testing.T, conn *pgx.Conn, sql string, args ...any) (text string, err error) {
	t.Helper()
	return text, conn.QueryRow(t.Context(), sql, args...).Scan(&text)
}

// refused sees that an error says that it is the audit.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "58030" || !strings.Contains(pg.Message, "audit") {
		t.Errorf("%s: got %v, want 58030 and that it is the audit", what, err)
	}
}

// call asks REST; a PUT writes another value.
func call(t *testing.T, method, url, token string) (status int, text string) {
	t.Helper()
	var body io.Reader
	if method == http.MethodPut {
		body = strings.NewReader(`{"value":"other"}`)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(all)
}
