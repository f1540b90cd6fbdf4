// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

package docker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestCRUD(t *testing.T) {
	value, next := canary(), canary()
	made := want(t, 201, 1, "POST", "/v1/secrets", `{"name":"crud/rest","kind":"manual","value":"`+value+`"}`)
	if made.version() != 1 || made.field("value") != value {
		t.Errorf("created: got %s", made.text)
	}
	want(t, 409, 1, "POST", "/v1/secrets", `{"name":"crud/rest","kind":"manual","value":"x"}`)
	wantValue(t, 1, "crud/rest", value)
	want(t, 200, 1, "PUT", "/v1/secrets/crud/rest", `{"value":"`+next+`","description":"by REST"}`)
	wantValue(t, 1, "crud/rest", next)
	if list := want(t, 200, 1, "GET", "/v1/secrets?prefix=crud/", ""); !strings.Contains(list.text, `"crud/rest"`) || strings.Contains(list.text, next) {
		t.Errorf("list: got %s", list.text)
	}
	want(t, 204, 1, "DELETE", "/v1/secrets/crud/rest", "")
	want(t, 404, 1, "GET", "/v1/secrets/crud/rest", "")

	conn := session(t, 1)
	for i, v := range []string{value, next} {
		if got, want := sql(t, conn, "SELECT vault.put_secret('crud/sql', $1)::text", v), strconv.Itoa(i+1); got != want {
			t.Errorf("put: got version %s, want %s", got, want)
		}
		if got := sql(t, conn, "SELECT vault.read_secret('crud/sql')"); got != v {
			t.Errorf("read: got %q, want %q", got, v)
		}
	}
	if got := sql(t, conn, "SELECT vault.delete_secret('crud/sql')::text"); got != "true" {
		t.Errorf("delete: got %s", got)
	}
	wantCode(t, conn.QueryRow(t.Context(), "SELECT vault.read_secret('crud/sql')").Scan(new(string)), "P0002")
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// TestAuth sends few wrong tokens: more would lock this machine out.
func TestAuth(t *testing.T) {
	if _, err := put(t.Context(), 1, "auth/secret", "s"); err != nil {
		t.Fatal(err)
	}
	wantAs(t, "", 401, 1, "GET", "/v1/secrets", "")
	wantAs(t, "", 401, 1, "GET", "/v1/secrets/auth/secret", "")
	wantAs(t, "hvt_wrong", 401, 1, "GET", "/v1/secrets/auth/secret", "")

	want(t, 201, 1, "POST", "/v1/roles", `{"name":"auth-reader","permissions":[{"action":"read","path":"auth/*"}]}`)
	made := want(t, 201, 1, "POST", "/v1/tokens", `{"name":"auth-reader","role":"auth-reader"}`)
	reader := made.field("token")
	wait(t, "every node knows the token", time.Minute, func() error {
		for host := 1; host <= hosts; host++ {
			if a, err := ask(t.Context(), host, reader, "GET", "/v1/secrets/auth/secret", ""); err != nil || a.status != 200 {
				return fmt.Errorf("node%d: %d %s: %w", host, a.status, a.text, err)
			}
		}
		return nil
	})
	wantAs(t, reader, 403, 1, "PUT", "/v1/secrets/auth/secret", `{"value":"x"}`)
	wantAs(t, reader, 403, 1, "GET", "/v1/tokens", "")
	want(t, 204, 1, "DELETE", "/v1/tokens/auth-reader", "")

	for user, code := range map[string]string{"app:wrong": "28P01", "nobody:app": "28P01", "postgres:app": "28P01", "vault_service:app": "28P01"} {
		conn, err := pgx.Connect(t.Context(), "postgresql://"+user+"@127.0.0.1:6432/app?sslmode=disable")
		if err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%s came in", user)
			continue
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != code && pg.Code != "28000" {
			t.Errorf("%s: got %v, want %s", user, err, code)
		}
	}
}

// TestReplicated: each node serves from the server beside it, two of which are
// standbys; and none of the three keeps or says a value.
func TestReplicated(t *testing.T) {
	value := canary()
	written, err := put(t.Context(), 1, "replicated/secret", value)
	if err != nil {
		t.Fatal(err)
	}
	standbys := 0
	for host := 1; host <= hosts; host++ {
		wantValue(t, host, "replicated/secret", value, readAfter, written)
		conn := session(t, host)
		if got := sql(t, conn, "SELECT vault.read_secret('replicated/secret')"); got != value {
			t.Errorf("node%d: got %q", host, got)
		}
		if sql(t, conn, "SELECT pg_is_in_recovery()::text") == "true" {
			standbys++
		}
	}
	if standbys != hosts-1 {
		t.Errorf("standbys that served: got %d, want %d", standbys, hosts-1)
	}

	primary := shared.wantPrimary(t)
	if _, err := shared.server(t.Context(), primary, "CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	for host := 1; host <= hosts; host++ {
		db := shared.id(t, fmt.Sprintf("db%d", host))
		files := func(text string) string { // files may go away meanwhile
			return docker(t, "exec", db, "sh", "-c", `grep --recursive --files-with-matches --text --no-messages "$1" /var/lib/postgresql || true`, "sh", text)
		}
		if found := files(value); found != "" {
			t.Errorf("db%d has the value in %s", host, found)
		}
		if files("replicated/secret") == "" {
			t.Errorf("db%d has not even the name: was it looked at?", host)
		}
	}
	if out, err := shared.run(t.Context(), "logs", "--no-color"); err != nil || strings.Contains(out, value) || strings.Contains(out, shared.token) {
		t.Errorf("a value or the token is in a log (%v)", err)
	}
}

func TestWritesFromAnyNode(t *testing.T) {
	version := 0
	for host := 1; host <= hosts; host++ {
		rest, bySQL := canary(), canary()
		written, err := put(t.Context(), host, "anywhere/secret", rest)
		if err != nil {
			t.Fatalf("node%d: %v", host, err)
		}
		version++
		for reader := 1; reader <= hosts; reader++ {
			wantValue(t, reader, "anywhere/secret", rest, readAfter, written)
		}
		conn := session(t, host)
		version++
		if got, want := sql(t, conn, "SELECT vault.put_secret('anywhere/secret', $1)::text", bySQL), strconv.Itoa(version); got != want {
			t.Errorf("node%d: got version %s, want %s", host, got, want)
		}
		if got := sql(t, conn, "SELECT vault.read_secret('anywhere/secret')"); got != bySQL {
			t.Errorf("node%d: the session does not see what it wrote: got %q", host, got)
		}
	}
}

func TestRotation(t *testing.T) {
	made := want(t, 201, 1, "POST", "/v1/secrets", `{"name":"rotation/due","kind":"automatic","rotation_interval_secs":2,"grace_period_secs":3600}`)
	first := made.field("value")
	if len(first) < 40 {
		t.Errorf("a value of its own: got %s", made.text)
	}
	wait(t, "the third version", 2*time.Minute, func() error {
		a, err := ask(t.Context(), 2, shared.token, "GET", "/v1/secrets/rotation/due", "")
		if err == nil && (a.version() < 3 || a.field("value") == first) {
			err = errors.New(a.text)
		}
		return err
	})
	want(t, 200, 2, "PUT", "/v1/secrets/rotation/due", `{"rotation_interval_secs":0}`)
}

func TestVerifyInGrace(t *testing.T) {
	made := want(t, 201, 1, "POST", "/v1/secrets", `{"name":"grace/secret","kind":"automatic","rotation_interval_secs":86400,"grace_period_secs":3600}`)
	rotated := want(t, 200, 2, "POST", "/v1/secrets/grace/secret/rotate", "")
	written := rotated.header.Get(readAfter)
	verify := func(host int, value string) (valid bool, version int) {
		a := want(t, 200, host, "POST", "/v1/secrets/grace/secret/verify", `{"value":"`+value+`"}`, readAfter, written)
		valid, _ = a.fields["valid"].(bool)
		return valid, a.version()
	}
	for host := 1; host <= hosts; host++ {
		if valid, version := verify(host, made.field("value")); !valid || version != 1 {
			t.Errorf("node%d, the value before: got %v, version %d", host, valid, version)
		}
		if valid, version := verify(host, rotated.field("value")); !valid || version != 2 {
			t.Errorf("node%d, the value: got %v, version %d", host, valid, version)
		}
		if valid, _ := verify(host, "another"); valid {
			t.Errorf("node%d takes any value", host)
		}
	}
	want(t, 200, 1, "PUT", "/v1/secrets/grace/secret", `{"grace_period_secs":1}`)
	last := want(t, 200, 1, "POST", "/v1/secrets/grace/secret/rotate", "")
	written = last.header.Get(readAfter)
	wait(t, "the end of the grace", time.Minute, func() error {
		if valid, _ := verify(3, rotated.field("value")); valid {
			return errors.New("it is valid still")
		}
		return nil
	})
}
