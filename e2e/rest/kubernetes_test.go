// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A manifest is what the document has of Kubernetes' and of External Secrets' kinds.
type manifest struct {
	Kind       string
	Metadata   struct{ Name string }
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Provider       struct{ Webhook webhook }
		SecretStoreRef struct{ Name string } `yaml:"secretStoreRef"`
		Data           []struct {
			SecretKey string            `yaml:"secretKey"`
			RemoteRef map[string]string `yaml:"remoteRef"`
		}
	}
}

type webhook struct {
	URL, Method, Body string
	Headers           map[string]string
	Result            struct {
		JSONPath string `yaml:"jsonPath"`
	}
	Secrets []struct {
		Name      string
		SecretRef struct{ Name string } `yaml:"secretRef"`
	}
}

// manifests are all of a document's YAML.
func manifests(t *testing.T, path string) (found []manifest) {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for d := yaml.NewDecoder(strings.NewReader(block)); ; {
			var m manifest
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v in\n%s", path, err, block)
			}
			found = append(found, m)
		}
	}
	return found
}

// render fills in a template as the webhook provider does.
func render(t *testing.T, text string, data map[string]map[string]string) string {
	t.Helper()
	parsed, err := template.New("webhook").Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestExternalSecrets makes the requests that External Secrets would make of what
// docs/KUBERNETES.md says, and takes out of the answers what it would.
func TestExternalSecrets(t *testing.T) {
	var store *webhook
	var external *manifest
	credentials := map[string]map[string]string{}
	for _, m := range manifests(t, "docs/KUBERNETES.md") {
		switch m.Kind {
		case "SecretStore":
			store = &m.Spec.Provider.Webhook
		case "ExternalSecret":
			external = &m
		case "Secret":
			credentials[m.Metadata.Name] = m.StringData
		}
	}
	if store == nil || external == nil || len(external.Spec.Data) == 0 {
		t.Fatal("the document has no SecretStore or no ExternalSecret")
	}
	reader := token(t, "read", "reporting/*")
	for _, data := range credentials {
		for key, value := range data {
			if value != "hvt_…" {
				t.Errorf("%s: %q should be a place for a token", key, value)
			}
			data[key] = reader
		}
	}
	admin := shared.AdminToken
	want(t, 201, 0, admin, "POST", "/v1/secrets", `{"name":"reporting/password","kind":"manual","value":"rest \"external\" 1"}`)
	want(t, 201, 0, admin, "POST", "/v1/secrets", `{"name":"reporting/app","kind":"manual","username":"app","password":"rest external 2"}`)
	shared.WaitReplayed(t, 1)

	got := map[string]string{}
	for _, d := range external.Spec.Data {
		raw, escaped := map[string]map[string]string{}, map[string]map[string]string{}
		raw["remoteRef"], escaped["remoteRef"] = map[string]string{}, map[string]string{}
		for _, key := range []string{"key", "version", "property"} {
			raw["remoteRef"][key], escaped["remoteRef"][key] = d.RemoteRef[key], url.QueryEscape(d.RemoteRef[key])
		}
		for _, s := range store.Secrets {
			if credentials[s.SecretRef.Name] == nil {
				t.Fatalf("there is no secret %s", s.SecretRef.Name)
			}
			raw[s.Name], escaped[s.Name] = credentials[s.SecretRef.Name], credentials[s.SecretRef.Name]
		}
		asked, err := url.Parse(render(t, store.URL, escaped))
		if err != nil {
			t.Fatal(err)
		}
		if asked.Scheme != "https" {
			t.Errorf("the token would travel in clear: %s", asked)
		}
		method := store.Method
		if method == "" {
			method = "GET"
		}
		var headers []string
		for name, value := range store.Headers {
			headers = append(headers, name, render(t, value, raw))
		}
		a := call(t, shared.Nodes[1].REST, "", method, asked.RequestURI(), render(t, store.Body, raw), headers...)
		if a.status != 200 {
			t.Errorf("%s %s: got %d %s", method, asked, a.status, a.text)
		}
		got[d.SecretKey] = at(t, a.text, render(t, store.Result.JSONPath, raw))
	}
	for key, value := range map[string]string{"password": `rest "external" 1`, "app-username": "app", "app-password": "rest external 2", "first-password": `rest "external" 1`} {
		if got[key] != value {
			t.Errorf("%s: got %q, want %q", key, got[key], value)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v", got)
	}
}

// at is what a JSONPath of one step finds: more than that the document does not need.
func at(t *testing.T, text, path string) string {
	t.Helper()
	field, ok := strings.CutPrefix(path, "$.")
	if !ok || strings.ContainsAny(field, ".[*@ ") {
		t.Fatalf("the path %s", path)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal(err)
	}
	value, _ := fields[field].(string)
	return value
}
