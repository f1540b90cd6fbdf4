// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A description is what a node says of its API.
type description struct {
	root     map[string]any
	compiler *jsonschema.Compiler
	seen     map[string]bool // operations with the statuses that were answered
}

const describedAt = "mem:///openapi.json"

func describe(t *testing.T) *description {
	t.Helper()
	text := want(t, 200, 0, "", "GET", "/openapi.json", "").text
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{compiler: jsonschema.NewCompiler(), seen: map[string]bool{}}
	d.root, _ = parsed.(map[string]any)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(describedAt, parsed); err != nil {
		t.Fatal(err)
	}
	return d
}

// at returns what a path of keys leads to, and where that stands behind references.
func (d *description) at(keys ...string) (v any, pointer string) {
	v = d.root
	for i, key := range append(keys, "") {
		m, _ := v.(map[string]any)
		if ref, ok := m["$ref"].(string); ok {
			pointer = strings.TrimPrefix(ref, "#")
			v, _ = d.at(strings.Split(strings.TrimPrefix(pointer, "/"), "/")...)
			m, _ = v.(map[string]any)
		}
		if i == len(keys) {
			return v, pointer
		}
		v = m[key]
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(key)
	}
	return v, pointer
}

func (d *description) object(keys ...string) map[string]any {
	v, _ := d.at(keys...)
	m, _ := v.(map[string]any)
	return m
}

// validate checks a value against what stands at a path of keys.
func (d *description) validate(t *testing.T, what string, value any, keys ...string) {
	t.Helper()
	_, pointer := d.at(keys...)
	s, err := d.compiler.Compile(describedAt + "#" + pointer)
	if err == nil {
		err = s.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: %v: %v", what, err, value)
	}
}

// An operation is one that is described.
type operation struct {
	id, path, method string
	fields           map[string]any
}

func (d *description) operations() map[string]operation {
	found := map[string]operation{}
	for path, item := range d.object("paths") {
		methods, _ := item.(map[string]any)
		for method, fields := range methods {
			if o, ok := fields.(map[string]any); ok && method != "parameters" {
				id, _ := o["operationId"].(string)
				found[id] = operation{id, path, method, o}
			}
		}
	}
	return found
}

// target is the path with the examples of its parameters.
func (d *description) target(t *testing.T, o operation) string {
	t.Helper()
	path := o.path
	for _, where := range [][]string{{"paths", o.path, o.method, "parameters"}, {"paths", o.path, "parameters"}} {
		v, _ := d.at(where...)
		list, _ := v.([]any)
		for _, p := range list {
			m, _ := p.(map[string]any)
			if ref, ok := m["$ref"].(string); ok {
				m = d.object(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
			if m["in"] == "path" {
				path = strings.ReplaceAll(path, fmt.Sprintf("{%v}", m["name"]), strings.ReplaceAll(fmt.Sprint(m["example"]), "/", "%2F"))
			}
		}
	}
	if strings.Contains(path, "{") {
		t.Fatalf("%s: an example is missing: %s", o.id, path)
	}
	return path
}

// bodies are the examples of what is sent.
func (d *description) bodies(t *testing.T, o operation) map[string]string {
	t.Helper()
	content := []string{"paths", o.path, o.method, "requestBody", "content", "application/json"}
	examples := d.object(append(content, "examples")...)
	if o.fields["requestBody"] == nil {
		return map[string]string{"": ""}
	}
	bodies := map[string]string{}
	for name, e := range examples {
		m, _ := e.(map[string]any)
		text, err := json.Marshal(m["value"])
		if err != nil {
			t.Fatal(err)
		}
		bodies[name] = string(text)
		d.validate(t, o.id+" "+name, m["value"], append(content, "schema")...)
	}
	if len(bodies) == 0 {
		t.Fatalf("%s: no example", o.id)
	}
	return bodies
}

// told are the headers of which the description says where they are.
var told = []string{"ETag", "Location", "Link", "Retry-After", "Vault-Read-After", "WWW-Authenticate", "Allow", "X-Request-Id"}

// answered checks an answer against its description.
func (d *description) answered(t *testing.T, o operation, what string, a answer) {
	t.Helper()
	status := fmt.Sprint(a.status)
	what = fmt.Sprintf("%s %s: %s", o.id, what, status)
	d.seen[o.id+" "+status] = true
	response := []string{"paths", o.path, o.method, "responses", status}
	if d.object(response...) == nil {
		t.Errorf("%s is not described: %s", what, a.text)
		return
	}
	d.checkHeaders(t, what, a.header, response)
	switch content := d.object(append(response, "content", "application/json")...); {
	case content == nil && a.text != "":
		t.Errorf("%s: a body that is not described: %s", what, a.text)
	case content != nil:
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(a.text))
		if err != nil {
			t.Errorf("%s: %v: %s", what, err, a.text)
			return
		}
		d.validate(t, what, value, append(response, "content", "application/json", "schema")...)
		if got := a.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %s", what, got)
		}
	}
}

func (d *description) checkHeaders(t *testing.T, what string, header http.Header, response []string) {
	t.Helper()
	described := d.object(append(response, "headers")...)
	for _, name := range told {
		sent := header.Values(name)
		if described[name] == nil {
			if len(sent) > 0 && described != nil {
				t.Errorf("%s: header %s is not described", what, name)
			}
			continue
		}
		at := append(append([]string{}, response...), "headers", name)
		if required, _ := d.at(append(at, "required")...); required == true && len(sent) == 0 {
			t.Errorf("%s: no header %s", what, name)
		}
		for _, value := range sent {
			d.validate(t, what+" "+name, value, append(at, "schema")...)
		}
	}
}

// TestExamples sends the requests that the description has as examples, and compares
// the answers with it.
func TestExamples(t *testing.T) {
	d := describe(t)
	operations := d.operations()
	admin := shared.AdminToken
	for _, name := range []string{"db/password", "api/key", "db/app", "tls/key.der", "db/admin"} {
		call(t, shared.Nodes[0].REST, admin, "DELETE", "/v1/secrets/"+name, "") // another test's
	}
	order := []string{
		"createRole", "listRoles", "readRole", "setPermissions", "createToken", "listTokens",
		"createSecret", "listSecrets", "readSecret", "updateSecret", "listVersions", "verifySecret", "readSecrets", "rotateSecret", "deleteSecret",
		"revokeToken", "deleteRole", "health", "ready", "primary", "replica", "describe",
	}
	if got := slices.Sorted(maps.Keys(operations)); !slices.Equal(got, slices.Sorted(slices.Values(order))) {
		t.Fatalf("described are %v", got)
	}
	for _, id := range order {
		o := operations[id]
		for name, body := range d.bodies(t, o) {
			if strings.HasPrefix(o.path, "/v1/") || id == "describe" {
				a := call(t, shared.Nodes[0].REST, admin, strings.ToUpper(o.method), d.target(t, o), body)
				d.answered(t, o, name, a)
				if a.status >= 300 {
					t.Errorf("%s %s: got %d %s", id, name, a.status, a.text)
				}
			}
			if id == "deleteSecret" {
				d.errors(t, operations) // while there are roles and tokens
			}
		}
	}
	// What an example cannot bring about: too many of something, a fault, a part away.
	// Where other tests do, described compares the answers.
	for id, o := range operations {
		responses, _ := o.fields["responses"].(map[string]any)
		for status := range responses {
			if strings.HasPrefix(o.path, "/v1/") && !d.seen[id+" "+status] && !slices.Contains([]string{"429", "500", "503"}, status) {
				t.Errorf("%s is described to answer %s, and was not seen to", id, status)
			}
		}
	}
}

// errors makes each operation fail in the ways that are described.
func (d *description) errors(t *testing.T, operations map[string]operation) {
	t.Helper()
	admin, nobody := shared.AdminToken, token(t)
	create := `{"name":"db/password","kind":"manual","value":"s3cr3t"}`
	d.answered(t, operations["createSecret"], "again", want(t, 201, 0, admin, "POST", "/v1/secrets", create))
	for id, o := range operations {
		if !strings.HasPrefix(o.path, "/v1/") {
			continue
		}
		method, path := strings.ToUpper(o.method), d.target(t, o)
		body := ""
		for _, body = range d.bodies(t, o) {
			break // any
		}
		try := func(what, token, path, body string, headers ...string) answer {
			t.Helper()
			a := call(t, shared.Nodes[0].REST, token, method, path, body, headers...)
			d.answered(t, o, what, a)
			return a
		}
		try("an unknown token", "hvt_none", path, body)
		try("a token without rights", nobody, path, body)
		try("another Host", admin, path, body, "Host", "evil.example")
		try("a parameter", admin, path+"?color=red", body)
		try("a position", admin, path, body, readAfter, "x")
		if responses, _ := o.fields["responses"].(map[string]any); responses["404"] != nil && strings.Contains(o.path, "{name}") {
			none := strings.Replace(path, strings.Split(strings.TrimPrefix(path, strings.Split(o.path, "{")[0]), "/")[0], "none", 1)
			try("a name that there is not", admin, none, body)
		}
		if o.fields["requestBody"] != nil {
			try("another type", admin, path, body, "Content-Type", "text/plain")
			try("too much", admin, path, `{"value":"`+strings.Repeat("x", 4<<20)+`"}`)
			try("another field", admin, path, `{"color":"red"}`)
			for field := range d.object("paths", o.path, o.method, "requestBody", "content", "application/json", "schema", "properties") {
				a := try(field, admin, path, fmt.Sprintf(`{%q:{}}`, field))
				if a.status != 400 || !strings.Contains(a.text, "another type") {
					t.Errorf("%s: %s is described, and not known: %d %s", id, field, a.status, a.text)
				}
			}
		}
		if method == "PUT" || method == "DELETE" {
			if strings.HasPrefix(o.path, "/v1/secrets") {
				if a := try("another version", admin, path, body, "If-Match", `"999"`); a.status != 412 {
					t.Errorf("%s: got %d", id, a.status)
				}
			}
		}
	}
	d.answered(t, operations["createSecret"], "twice", want(t, 409, 0, admin, "POST", "/v1/secrets", create))
	d.answered(t, operations["createRole"], "twice", want(t, 409, 0, admin, "POST", "/v1/roles", `{"name":"ci","permissions":[]}`))
	d.answered(t, operations["createToken"], "twice", want(t, 409, 0, admin, "POST", "/v1/tokens", `{"name":"deploy","role":"ci"}`))
	d.answered(t, operations["deleteRole"], "with tokens", want(t, 409, 0, admin, "DELETE", "/v1/roles/ci", ""))
	d.answered(t, operations["readSecret"], "stale", want(t, 503, 0, admin, "GET", "/v1/secrets/db/password", "", readAfter, "4294967295/0/0"))
}
