// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// A document is the description, read.
type document struct {
	root     map[string]any
	compiler *jsonschema.Compiler
}

const documentURL = "mem:///openapi.json"

func readDocument(t *testing.T) *document {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(description))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{compiler: jsonschema.NewCompiler()}
	d.root = object(t, parsed)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, parsed); err != nil {
		t.Fatal(err)
	}
	return d
}

func object(t *testing.T, v any) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%v should be an object", v)
	}
	return m
}

// at returns what stands at a path of keys, behind any reference; nil: nothing.
func (d *document) at(t *testing.T, keys ...string) any {
	t.Helper()
	var v any = d.root
	for _, key := range keys {
		m, ok := d.follow(t, v).(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return d.follow(t, v)
}

// follow returns what a reference means, and anything else as it is.
func (d *document) follow(t *testing.T, v any) any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	ref, ok := m["$ref"].(string)
	if !ok {
		return v
	}
	target := d.at(t, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	if target == nil {
		t.Fatalf("%s leads nowhere", ref)
	}
	return target
}

// schema compiles what stands at a path of keys, none of which is a reference.
func (d *document) schema(t *testing.T, keys ...string) *jsonschema.Schema {
	t.Helper()
	var pointer strings.Builder
	for _, key := range keys {
		pointer.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(key))
	}
	s, err := d.compiler.Compile(documentURL + "#" + pointer.String())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check validates a JSON text.
func check(t *testing.T, s *jsonschema.Schema, what string, text []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = s.Validate(v)
	}
	if err != nil {
		t.Errorf("%s: %v: %s", what, err, text)
	}
}

// operations calls f for each operation that is described.
func (d *document) operations(t *testing.T, f func(path, method string, op map[string]any)) {
	t.Helper()
	paths := object(t, d.root["paths"])
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := object(t, paths[path])
		for _, method := range slices.Sorted(maps.Keys(item)) {
			if method != "parameters" {
				f(path, method, object(t, item[method]))
			}
		}
	}
}

// parameters of an operation, its path's included, by where they are.
func (d *document) parameters(t *testing.T, path string, op map[string]any, in string) []string {
	t.Helper()
	item := object(t, d.at(t, "paths", path))
	var names []string
	for _, from := range []any{item["parameters"], op["parameters"]} {
		list, _ := from.([]any) // nil: none
		for _, p := range list {
			if m := object(t, d.follow(t, p)); m["in"] == in {
				name, _ := m["name"].(string)
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestDescribedPaths: what is served is described, and nothing else is. Those that
// the node itself serves are compared where it does.
func TestDescribedPaths(t *testing.T) {
	d := readDocument(t)
	want, got := []string{"get /openapi.json"}, []string{}
	for path, res := range (&Handler{}).paths() {
		for method := range res {
			want = append(want, strings.ToLower(method)+" "+path)
		}
	}
	ids := map[any]bool{}
	d.operations(t, func(path, method string, op map[string]any) {
		if strings.HasPrefix(path, "/v1/") || path == descriptionPath {
			got = append(got, method+" "+path)
		}
		if id := op["operationId"]; id == nil || ids[id] {
			t.Errorf("%s %s: operationId %v", method, path, id)
		} else {
			ids[id] = true
		}
		var inPath []string
		for part := range strings.SplitSeq(path, "{") {
			if name, _, ok := strings.Cut(part, "}"); ok {
				inPath = append(inPath, name)
			}
		}
		if declared := d.parameters(t, path, op, "path"); !slices.Equal(declared, inPath) {
			t.Errorf("%s: parameters %v", path, declared)
		}
	})
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("described:\n%s\nserved:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDescribedReferences: each leads somewhere, and what nothing refers to is what
// belongs to no operation.
func TestDescribedReferences(t *testing.T) {
	d := readDocument(t)
	used := map[string]bool{"responses/NoPath": true, "responses/Method": true, "securitySchemes/bearer": true}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				d.follow(t, v)
				used[strings.TrimPrefix(ref, "#/components/")] = true
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(d.root)
	for kind, list := range object(t, d.root["components"]) {
		for name := range object(t, list) {
			if !used[kind+"/"+name] {
				t.Errorf("nothing refers to %s/%s", kind, name)
			}
		}
	}
}

// TestDescribedExamples: each is what its schema says.
func TestDescribedExamples(t *testing.T) {
	d := readDocument(t)
	n := 0
	try := func(what string, keys ...string) {
		content, ok := d.at(t, keys...).(map[string]any)
		if !ok {
			return
		}
		examples, _ := content["examples"].(map[string]any) // nil: none
		for name, e := range examples {
			text, err := json.Marshal(object(t, e)["value"])
			if err != nil {
				t.Fatal(err)
			}
			check(t, d.schema(t, append(keys, "schema")...), what+" "+name, text)
			n++
		}
	}
	d.operations(t, func(path, method string, op map[string]any) {
		try(path, "paths", path, method, "requestBody", "content", "application/json")
		for status, r := range object(t, op["responses"]) {
			if object(t, r)["$ref"] == nil {
				try(path+" "+status, "paths", path, method, "responses", status, "content", "application/json")
			}
		}
	})
	if n < 20 {
		t.Errorf("only %d examples were tried", n)
	}
}

// TestDescribedErrors: each status and code that there can be is described, and no
// other. What of it comes from the text of the handlers is in described_test.go.
func TestDescribedErrors(t *testing.T) {
	d := readDocument(t)
	got := map[string]bool{}
	names := map[string]string{} // of the responses, by status
	d.operations(t, func(_, _ string, op map[string]any) {
		for status, r := range object(t, op["responses"]) {
			if ref, ok := object(t, r)["$ref"].(string); ok {
				names[strings.TrimPrefix(ref, "#/components/responses/")] = status
			}
		}
	})
	names["NoPath"], names["Method"] = "404", "405"
	for name := range object(t, d.at(t, "components", "responses")) {
		for _, code := range d.codes(t, "components", "responses", name) {
			got[names[name]+" "+code] = true
		}
	}
	want := readSource(t).problems("")
	for k := vault.KindInternal; k == vault.KindInternal || k.String() != vault.KindInternal.String(); k++ {
		want[strconv.Itoa(status(k))+" "+k.String()] = true
	}
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Errorf("described:\n%s\nwhat there can be:\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
}

// codes of an error that is described.
func (d *document) codes(t *testing.T, keys ...string) (codes []string) {
	t.Helper()
	all, _ := d.at(t, append(keys, "content", "application/json", "schema", "allOf")...).([]any) // nil: no error
	for _, part := range all {
		list, _ := d.enum(part)
		for _, code := range list {
			codes = append(codes, fmt.Sprint(code))
		}
	}
	return codes
}

func (d *document) enum(part any) (list []any, ok bool) {
	m, _ := part.(map[string]any)
	p, _ := m["properties"].(map[string]any)
	c, _ := p["code"].(map[string]any)
	list, ok = c["enum"].([]any)
	return list, ok
}

// TestDescribedAnswers: what the handlers write is what is described, with no field
// more and none less.
func TestDescribedAnswers(t *testing.T) {
	d := readDocument(t)
	now := time.Now()
	text, secs := "t", int64(1)
	version := int32(7)
	for schema, values := range map[string][]any{
		"SecretMeta": {
			metaOf(&vault.Meta{Name: "a/b", Kind: "manual", Format: "opaque", Version: 1, CreatedAt: now, UpdatedAt: now}),
			metaOf(&vault.Meta{
				Name: "a", Kind: "automatic", Format: "userpass", Version: 1, Description: &text, RotationInterval: &secs, GracePeriod: &secs,
				NextRotationAt: &now, AllowedCIDRs: []string{"10.0.0.0/8"}, CreatedAt: now, UpdatedAt: now,
			}),
		},
		"Role":        {roleOf(&vault.Role{Name: "a"}), roleOf(&vault.Role{Name: "a", Description: &text, Admin: true, Permissions: []vault.Permission{{Action: "read", Path: "*"}}, CreatedAt: &now})},
		"Permission":  {vault.Permission{Action: "read", Path: "*"}},
		"TokenMeta":   {tokenMeta{Name: "a", CreatedAt: now}, tokenMeta{Name: "a", Role: &text, CreatedAt: now, LastUsedAt: &now, RevokedAt: &now}},
		"VersionMeta": {versionMeta{Version: 1, Stage: "current", CreatedAt: now}, versionMeta{Version: 1, Stage: "previous", CreatedAt: now, ExpiresAt: &now}},
		"Verdict":     {verdict{}, verdict{Valid: true, Version: &version}},
	} {
		s := d.schema(t, "components", "schemas", schema)
		for _, v := range values {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			check(t, s, schema, text)
		}
		var fields []string
		for f := range reflect.TypeOf(values[0]).Fields() {
			fields = append(fields, f.Tag.Get("json"))
		}
		d.sameFields(t, schema, fields)
	}
	for schema, function := range map[string]string{"Secret": "appendSecret", "Token": "createToken"} {
		if got, want := slices.Sorted(maps.Keys(object(t, d.at(t, "components", "schemas", schema, "properties")))), readSource(t).written(function); !slices.Equal(got, want) {
			t.Errorf("%s: described are %v, written are %v", schema, got, want)
		}
	}
	read := keys(readSource(t)["parser.permissions"])
	slices.Sort(read)
	d.sameFields(t, "Permission", read)
}

// sameFields: a schema has these properties, all of them required.
func (d *document) sameFields(t *testing.T, schema string, fields []string) {
	t.Helper()
	s := object(t, d.at(t, "components", "schemas", schema))
	var required []string
	list, _ := s["required"].([]any) // nil: none
	for _, name := range list {
		required = append(required, fmt.Sprint(name))
	}
	slices.Sort(fields)
	slices.Sort(required)
	if properties := slices.Sorted(maps.Keys(object(t, s["properties"]))); !slices.Equal(properties, fields) || !slices.Equal(required, fields) || s["additionalProperties"] != false {
		t.Errorf("%s: described are %v, required %v; written are %v", schema, properties, required, fields)
	}
}

// TestDescribe: it is there for everybody who calls the node by a name of its.
func TestDescribe(t *testing.T) {
	w := ask(t, http.MethodGet, "/openapi.json", nil)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || !bytes.Equal(w.Body.Bytes(), description) {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	if w := ask(t, http.MethodPost, "/openapi.json", nil); w.Code != 405 {
		t.Errorf("POST: got %d", w.Code)
	}
	if w := ask(t, http.MethodGet, "/openapi.json", func(r *http.Request) { r.Host = "evil.example" }); w.Code != 403 {
		t.Errorf("another Host: got %d", w.Code)
	}
}
