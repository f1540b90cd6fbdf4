// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package rest tests the HTTP face of running nodes, beside the primary and beside
// a standby.
package rest

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // those that are parallel mostly wait
		panic(err)
	}
	// Tests send unknown tokens, all from one address.
	cluster.Main(m, cluster.Spec{Standbys: 1, Settings: cluster.LogAll(), NodeEnv: map[string]string{"VAULT_AUTH_LOCKOUT_SECS": "0"}}, &shared)
}

// answer is what a node answered.
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

// client keeps no connections, so that no answer is one of a node that has died.
var client = http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// call sends a request to whoever serves REST at an address. headers are names and
// values in turn; a body is JSON unless they say otherwise. Many may call at once;
// status 0: there was no answer, and the test has failed.
func call(t *testing.T, base, token, method, path, body string, headers ...string) answer {
	t.Helper()
	return send(t, client, base, token, method, path, body, headers...)
}

// send is call with a client of one's own.
func send(t *testing.T, client http.Client, base, token, method, path, body string, headers ...string) answer {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, reader)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	a := answer{status: response.StatusCode, header: response.Header, text: string(text)}
	if strings.HasPrefix(a.text, "{") {
		a.fields = fields(t, a.text)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s %s: headers %v", method, path, a.header)
	}
	if a.status >= 400 && (a.field("error") == "" || a.field("code") == "" || len(a.fields) != 2) {
		t.Errorf("%s %s: an error of another form: %s", method, path, text)
	}
	described(t, method, path, a)
	return a
}

// fields are those of a JSON object.
func fields(t *testing.T, text string) (f map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	return f
}

// wantAt is call, with the status that the answer should have.
func wantAt(t *testing.T, status int, base, token, method, path, body string, headers ...string) answer {
	t.Helper()
	a := call(t, base, token, method, path, body, headers...)
	if a.status != status {
		t.Errorf("%s %s at %s: got %d %s, want %d", method, path, base, a.status, a.text, status)
	}
	return a
}

// want is wantAt for a node of the shared cluster.
func want(t *testing.T, status int, node int, token, method, path, body string, headers ...string) answer {
	t.Helper()
	return wantAt(t, status, shared.Nodes[node].REST, token, method, path, body, headers...)
}

// token makes a token of a role that has these rules: actions and patterns in turn.
// Both nodes know it when it returns.
func token(t *testing.T, rules ...string) string {
	t.Helper()
	super := shared.Connect(t, shared.SuperDSN(0))
	name, secret := "t"+rand.Text(), "hvt_"+rand.Text()
	cluster.Exec(t, super, "INSERT INTO vault.roles (name) VALUES ($1)", name)
	for i := 0; i < len(rules); i += 2 {
		cluster.Exec(t, super, "INSERT INTO vault.role_permissions SELECT id, $2, $3 FROM vault.roles WHERE name = $1", name, rules[i], rules[i+1])
	}
	cluster.Exec(t, super, "SELECT vault.add_token($1, $1, sha256($2::text::bytea))", name, secret)
	shared.WaitReplayed(t, 1)
	return secret
}
