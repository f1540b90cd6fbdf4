// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// withdraw revokes a token, or takes all rules of its role.
func withdraw(t *testing.T, token string, rules bool) {
	t.Helper()
	super := shared.Connect(t, shared.SuperDSN(0))
	if rules {
		cluster.Exec(t, super, "DELETE FROM vault.role_permissions WHERE role_id = (SELECT role_id FROM vault.admin_tokens WHERE token_sha256 = sha256($1::text::bytea))", token)
		return
	}
	cluster.Exec(t, super, "UPDATE vault.admin_tokens SET revoked_at = now() WHERE token_sha256 = sha256($1::text::bytea)", token)
}

// TestRevokedWhileItWaits: a write that waits for a name somebody holds is not done if its
// token, or the right, is gone by the time the name is free.
func TestRevokedWhileItWaits(t *testing.T) {
	revoked, narrowed := token(t, "*", "gone/*"), token(t, "*", "gone/*")
	tries := []struct {
		status             int
		token              string
		method, verb, body string
	}{
		{401, revoked, "POST", "/rotate", ""},
		{401, revoked, "PUT", "", `{"value":"written"}`},
		{401, revoked, "DELETE", "", ""},
		{403, narrowed, "POST", "/rotate", ""},
		{403, narrowed, "PUT", "", `{"value":"written"}`},
	}
	path := func(i int) string { return fmt.Sprintf("/v1/secrets/gone/%d", i) }
	holder := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, holder, "BEGIN")
	for i := range tries {
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"gone/%d","kind":"automatic","value":"first"}`, i))
		cluster.Exec(t, holder, fmt.Sprintf("SELECT vault.put_secret('gone/%d', 'held')", i))
	}
	var writers sync.WaitGroup
	for i, c := range tries {
		writers.Go(func() {
			if a := call(t, shared.Nodes[i%2].REST, c.token, c.method, path(i)+c.verb, c.body); a.status != c.status {
				t.Errorf("%s%s: got %d %s, want %d", c.method, c.verb, a.status, a.text, c.status)
			}
		})
	}
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "all to wait for their names", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'vault_service' AND wait_event_type = 'Lock'") == fmt.Sprint(len(tries))
	})
	withdraw(t, revoked, false)
	withdraw(t, narrowed, true)
	cluster.Exec(t, holder, "ROLLBACK")
	writers.Wait()
	for i := range tries {
		if a := want(t, 200, 0, shared.AdminToken, "GET", path(i), ""); a.field("value") != "first" {
			t.Errorf("%s: got %s", path(i), a.text)
		}
	}
}

// TestRevokedWhileItSends: who sends a body slowly reads and verifies nothing by a token, or
// a right, that is gone when the body is there.
func TestRevokedWhileItSends(t *testing.T) {
	revoked, narrowed := token(t, "*", "late/*"), token(t, "*", "late/*")
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"late/a","kind":"manual","value":"late"}`)
	batch, guess := `{"names":["late/a"]}`, `{"value":"late"}`
	tries := []struct {
		status            int
		token, path, body string
	}{
		{401, revoked, "/v1/batch/secrets", batch},
		{401, revoked, "/v1/secrets/late/a/verify", guess},
		{200, narrowed, "/v1/batch/secrets", batch}, // of what it may not read there is none
		{403, narrowed, "/v1/secrets/late/a/verify", guess},
	}
	conns, answers := make([]net.Conn, len(tries)), make([]*bufio.Reader, len(tries))
	for i, c := range tries {
		conns[i] = dial(t, shared.Nodes[0].REST)
		answers[i] = bufio.NewReader(conns[i])
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
			c.path, c.token, len(c.body))
		if _, err := io.WriteString(conns[i], head); err != nil {
			t.Fatal(err)
		}
		// The node wants the body when it has let the request in.
		a, err := http.ReadResponse(answers[i], nil)
		if err != nil || a.StatusCode != http.StatusContinue {
			t.Fatalf("%s: got %v, %v, want to go on", c.path, a, err)
		}
		defer a.Body.Close()
		if _, err := conns[i].Write([]byte(c.body[:1])); err != nil {
			t.Fatal(err)
		}
	}
	withdraw(t, revoked, false)
	withdraw(t, narrowed, true)
	time.Sleep(time.Second) //nolint:forbidigo // for less a node believes what it has asked
	for i, c := range tries {
		if _, err := conns[i].Write([]byte(c.body[1:])); err != nil {
			t.Fatal(err)
		}
		a, err := http.ReadResponse(answers[i], nil)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if a.StatusCode != c.status || c.status == 200 && a.ContentLength != int64(len("[]\n")) {
			t.Errorf("%s: got %d and %d bytes, want %d", c.path, a.StatusCode, a.ContentLength, c.status)
		}
	}
}
