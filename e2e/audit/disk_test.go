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
// room again, so do secrets. No value shows in what a node writes meanwhile.
func TestFullDisk(t *testing.T) {
	cluster.NeedAlone(t)
	for _, mode := range []string{"batch", "always"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_AUDIT_LOW_SPACE": "1048576", "VAULT_AUDIT_SYNC": mode}})
			n := w.c.Nodes[0]
			disk := n.SmallAuditDisk(t, 3<<20)
			f := &fullDisk{world: w, n: n, conn: w.c.Connect(t, w.dsn(n))}
			f.well(t, valueOf(marker))

			disk.Leave(t, 512<<10)
			cluster.Eventually(t, "readyz to tell of little space", func() bool {
				status, part := readyz(t, n.REST)
				return status == "degraded" && part == "there is little space left for records"
			})
			read(t, f.conn, marker)

			disk.Fill(t)
			f.full(t)

			disk.Free(t)
			cluster.Eventually(t, "secrets to be read again", func() bool {
				_, err := ask(t, f.conn, "SELECT vault.read_secret($1)", marker)
				return err == nil
			})
			f.again(t)
			w.arrived(t, n)
			w.sound(t, n.Log)
			w.noLeak(t)
		})
	}
}

// A fullDisk is a node whose spool's disk will be full, and a session of a client.
type fullDisk struct {
	*world

	n    *cluster.Node
	conn *pgx.Conn
}

// other is what is to be stored while that cannot be.
const other = "other"

// well sees that the marker has a value, and the node no complaints.
func (f *fullDisk) well(t *testing.T, value string) {
	t.Helper()
	if got := cluster.Text(t, f.conn, "SELECT vault.read_secret($1)", marker); got != value {
		t.Errorf("read_secret: got %q, want %q", got, value)
	}
	if status, text := f.rest(t, http.MethodGet); status != http.StatusOK || !strings.Contains(text, value) {
		t.Errorf("GET: got %d %s, want %q", status, text, value)
	}
	cluster.Eventually(t, "readyz to be well", func() bool {
		status, part := readyz(t, f.n.REST)
		return status == "ok" && part == "ok"
	})
}

// rest reads the marker, or gives it another value.
func (f *fullDisk) rest(t *testing.T, method string) (status int, text string) {
	t.Helper()
	return call(t, method, f.n.REST+"/v1/secrets/"+marker, f.c.AdminToken, valueOf(other))
}

// full sees what is refused and what goes on while no record can be written.
func (f *fullDisk) full(t *testing.T) {
	t.Helper()
	var err error
	cluster.Eventually(t, "a read to be refused", func() bool { // there is room in what the file has already
		_, err = within(t, func() (string, error) { return ask(t, f.conn, "SELECT vault.read_secret($1)", marker) })
		return err != nil
	})
	refused(t, "a read", err)
	const put = "SELECT vault.put_secret($1, $2)::text"
	_, err = within(t, func() (string, error) { return ask(t, f.conn, put, marker, valueOf(other)) })
	refused(t, "a write", err)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		status, text := 0, ""
		if _, err := within(t, func() (string, error) {
			status, text = f.rest(t, method)
			return "", nil
		}); err != nil {
			t.Error(err)
		}
		if status != http.StatusServiceUnavailable || !strings.Contains(text, `"code":"audit"`) || !strings.Contains(text, "audit") {
			t.Errorf("%s: got %d %s", method, status, text)
		}
	}
	for range 100 {
		if got, err := ask(t, f.conn, "SELECT 'untouched'"); err != nil || got != "untouched" {
			t.Fatalf("what does not concern the vault: got %q, %v", got, err)
		}
	}
	if status, part := readyz(t, f.n.REST); status != "degraded" || part != "records cannot be written: no secret is opened" {
		t.Errorf("readyz says %s, %s", status, part)
	}
	for query, want := range map[string]int{"": http.StatusOK, "?require=server,kms,primary": http.StatusOK, "?require=audit": http.StatusServiceUnavailable} {
		if code, text := call(t, http.MethodGet, f.n.REST+"/readyz"+query, "", ""); code != want {
			t.Errorf("readyz%s: got %d %s, want %d", query, code, text, want)
		}
	}
}

// again does what was refused once more.
func (f *fullDisk) again(t *testing.T) {
	t.Helper()
	f.well(t, valueOf(marker)) // what was refused was not stored either
	if status, text := f.rest(t, http.MethodPut); status != http.StatusOK {
		t.Errorf("PUT: got %d %s", status, text)
	}
	f.well(t, valueOf(other))
	f.put(t, marker)
	f.well(t, valueOf(marker))
}

// within sees that something does not wait: for room it would for ever, for a server that
// does not answer 5 s and more.
func within(t *testing.T, f func() (string, error)) (string, error) {
	t.Helper()
	began := time.Now()
	text, err := f()
	if took := time.Since(began); took > 4*time.Second {
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

// call asks REST; a PUT writes a value.
func call(t *testing.T, method, url, token, value string) (status int, text string) {
	t.Helper()
	var body io.Reader
	if method == http.MethodPut {
		body = strings.NewReader(`{"value":"` + value + `"}`)
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
