// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

package docker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// answer is what a node answered by REST.
type answer struct {
	status int
	header http.Header
	text   string
	fields map[string]any // of an object
}

func (a answer) field(name string) string {
	s, _ := a.fields[name].(string)
	return s
}

// version is that of a secret; 0: the answer has none.
func (a answer) version() int {
	n, _ := a.fields["version"].(float64)
	return int(n)
}

// client keeps no connections, so that no answer is one of a node that has died.
var client = http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ask sends a request to the node of a host; headers are names and values in turn.
func ask(ctx context.Context, host int, token, method, path, body string, headers ...string) (a answer, err error) {
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", 8199+host, path), strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return a, err
	}
	a = answer{status: response.StatusCode, header: response.Header, text: string(text)}
	if strings.HasPrefix(a.text, "{") {
		err = json.Unmarshal(text, &a.fields)
	}
	return a, err
}

// want is ask as the administrator, with the status that the answer should have.
func want(t *testing.T, status, host int, method, path, body string, headers ...string) answer {
	t.Helper()
	return wantAs(t, shared.token, status, host, method, path, body, headers...)
}

func wantAs(t *testing.T, token string, status, host int, method, path, body string, headers ...string) answer {
	t.Helper()
	a, err := ask(t.Context(), host, token, method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s at node%d: %v", method, path, host, err)
	}
	if a.status != status {
		t.Fatalf("%s %s at node%d: got %d %s, want %d", method, path, host, a.status, a.text, status)
	}
	return a
}

// put makes a version of a secret, and the secret if there is none; written is what
// a read has to send to see it.
func put(ctx context.Context, host int, name, value string) (written string, err error) {
	body, err := json.Marshal(map[string]string{"value": value})
	if err != nil {
		return "", err
	}
	a, err := ask(ctx, host, shared.token, "PUT", "/v1/secrets/"+name, string(body))
	if err == nil && a.status == http.StatusNotFound {
		if body, err = json.Marshal(map[string]string{"name": name, "kind": "manual", "value": value}); err == nil {
			a, err = ask(ctx, host, shared.token, "POST", "/v1/secrets", string(body))
		}
	}
	if err == nil && a.status >= 300 {
		err = fmt.Errorf("%d %s", a.status, a.text)
	}
	return a.header.Get(readAfter), err
}

const readAfter = "Vault-Read-After"

// wantValue reads a secret by REST at a node.
func wantValue(t *testing.T, host int, name, value string, headers ...string) {
	t.Helper()
	if a := want(t, 200, host, "GET", "/v1/secrets/"+name, "", headers...); a.field("value") != value {
		t.Errorf("%s at node%d: got %s, want %q", name, host, a.text, value)
	}
}

// connect is a session of the user's through the node of a host.
func connect(ctx context.Context, host int) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgresql://app:app@127.0.0.1:%d/app?sslmode=disable&connect_timeout=10", 6431+host))
}

func session(t *testing.T, host int) *pgx.Conn {
	t.Helper()
	conn, err := connect(t.Context(), host)
	if err != nil {
		t.Fatalf("node%d: %v", host, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // its results were read
	return conn
}

// sql asks a question with one answer, as text.
func sql(t *testing.T, conn *pgx.Conn, text string, args ...any) (got string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), text, args...).Scan(&got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

// canary is a value that stands nowhere else.
func canary() string { return "canary-" + rand.Text() }
