// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// An apiModel is AWS's own description of the service, of which its SDKs are made.
type apiModel struct {
	Metadata struct {
		TargetPrefix, JSONVersion string
	}
	Operations map[string]struct {
		HTTP          struct{ Method, RequestURI string }
		Input, Output struct{ Shape string }
	}
	Shapes map[string]apiShape
}

type apiShape struct {
	Type               string
	Members            map[string]struct{ Shape string }
	Required, Enum     []string
	Pattern            string
	Min, Max           *int
	Key, Value, Member struct{ Shape string }
}

// kmsModel reads it from a module that the KMS endpoint is built with, as
// e2e/kms/go.sum has it.
func kmsModel(t *testing.T) *apiModel {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	find := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/aws/aws-sdk-go")
	find.Dir = filepath.Join(root, "e2e", "kms")
	found, err := find.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, found)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(found, &module); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "models", "apis", "kms", "2014-11-01", "api-2.json"))
	if err != nil {
		t.Fatal(err)
	}
	m := &apiModel{}
	if err := json.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// request says what is wrong with a call.
func (m *apiModel) request(c call) []string {
	operation, ok := m.Operations[c.operation]
	if !ok {
		return []string{fmt.Sprintf("no operation %q", c.operation)}
	}
	var wrong []string
	for what, pair := range map[string][2]string{
		"target":       {c.header.Get("X-Amz-Target"), m.Metadata.TargetPrefix + "." + c.operation},
		"content type": {c.header.Get("Content-Type"), "application/x-amz-json-" + m.Metadata.JSONVersion},
		"method":       {c.method, operation.HTTP.Method},
		"path":         {c.path, operation.HTTP.RequestURI},
	} {
		if pair[0] != pair[1] {
			wrong = append(wrong, fmt.Sprintf("%s: got %q, want %q", what, pair[0], pair[1]))
		}
	}
	return append(wrong, m.document(operation.Input.Shape, c.body)...)
}

// answer says what is wrong with the answer to a call.
func (m *apiModel) answer(c call) []string {
	return m.document(m.Operations[c.operation].Output.Shape, c.body)
}

func (m *apiModel) document(shape string, body []byte) []string {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return []string{"not one JSON text"}
	}
	return m.value(shape, shape, v)
}

// value says what is wrong with a value of a shape.
func (m *apiModel) value(at, shape string, v any) []string {
	s, ok := m.Shapes[shape]
	if !ok {
		return []string{at + ": no shape " + shape}
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type == "map" {
			return slices.Concat(s.size(at, len(v)), m.entries(at, s, v))
		}
		if s.Type == "structure" {
			return m.structure(at, s, v)
		}
	case []any:
		if s.Type == "list" {
			wrong := s.size(at, len(v))
			for i, e := range v {
				wrong = append(wrong, m.value(fmt.Sprintf("%s[%d]", at, i), s.Member.Shape, e)...)
			}
			return wrong
		}
	case string:
		if s.Type == "string" || s.Type == "blob" {
			return s.text(at, v)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil && (s.Type == "integer" || s.Type == "long") {
			return s.size(at, int(n))
		}
	case bool:
		if s.Type == "boolean" {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s: %T is no %s", at, v, s.Type)}
}

func (m *apiModel) structure(at string, s apiShape, v map[string]any) (wrong []string) {
	for name, e := range v {
		member, ok := s.Members[name]
		if !ok {
			wrong = append(wrong, at+": no member "+name)
			continue
		}
		wrong = append(wrong, m.value(at+"."+name, member.Shape, e)...)
	}
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			wrong = append(wrong, at+": "+name+" is missing")
		}
	}
	return wrong
}

func (m *apiModel) entries(at string, s apiShape, v map[string]any) (wrong []string) {
	for key, e := range v {
		wrong = slices.Concat(wrong, m.value(at+", a key", s.Key.Shape, key), m.value(at+"."+key, s.Value.Shape, e))
	}
	return wrong
}

func (s apiShape) text(at, v string) (wrong []string) {
	if s.Type == "blob" {
		bytes, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return []string{at + ": not base64"}
		}
		return s.size(at, len(bytes))
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		wrong = append(wrong, fmt.Sprintf("%s: %q is none of %v", at, v, s.Enum))
	}
	if s.Pattern != "" && !regexp.MustCompile("^(?:"+s.Pattern+")$").MatchString(v) {
		wrong = append(wrong, fmt.Sprintf("%s: %q is not as %s", at, v, s.Pattern))
	}
	return append(wrong, s.size(at, utf8.RuneCountInString(v))...)
}

// size judges a length, or a number.
func (s apiShape) size(at string, n int) []string {
	if s.Min != nil && n < *s.Min || s.Max != nil && n > *s.Max {
		return []string{fmt.Sprintf("%s: %d is too little or too much", at, n)}
	}
	return nil
}
