// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

func TestClientAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"http://127.0.0.1:8200": "http://127.0.0.1:8200", "https://vault.example/": "https://vault.example", "http://[::1]:8200": "http://[::1]:8200",
		"": "", "127.0.0.1:8200": "", "vault.example": "", "ftp://x": "", "http://": "", "http://:8200": "", "http://u:p@x": "", "http://x/v1": "", "http://x?a": "", "http://x#a": "", "http://x:port": "", "unix:///tmp/x": "",
	} {
		u, err := (&restClient{Addr: addr}).base()
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %s", addr, u)
		case want != "" && (err != nil || u.String() != want):
			t.Errorf("%q: got %v, %v", addr, u, err)
		}
	}
}

func TestClientToken(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const name, inFile = tokenVariable + "=", tokenVariable + "_FILE="
	for _, c := range []struct {
		environ []string
		want    string
		fails   bool
	}{
		{nil, "", false},
		{[]string{name}, "", false},
		{[]string{name + "hvt_x"}, "hvt_x", false},
		{[]string{"HYPERION_VAULT_TOKENS=x", name + "a=b"}, "a=b", false},
		{[]string{inFile + file("good", "hvt_x\n", 0o600)}, "hvt_x", false},
		{[]string{inFile + file("windows", "hvt_x\r\n", 0o400)}, "hvt_x", false},
		{[]string{inFile + file("group", "hunter2", 0o660)}, "", true},
		{[]string{inFile + file("others", "hunter2", 0o604)}, "", true},
		{[]string{inFile + file("empty", "", 0o600)}, "", true},
		{[]string{inFile + dir}, "", true},
		{[]string{inFile + "/none"}, "", true},
		{[]string{name + "hunter2", inFile + file("both", "hunter2", 0o600)}, "", true},
		{[]string{name + "hunter2 x"}, "", true},
		{[]string{name + "hunter2\nX: y"}, "", true},
		{[]string{inFile + file("lines", "hunter2\nhunter2\n", 0o600)}, "", true},
	} {
		got, err := clientToken(c.environ)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%q: got %q, %v", c.environ, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows it: %v", c.environ, err)
		}
	}
}

func TestValueOf(t *testing.T) {
	for answer, want := range map[string]string{
		`{"format":"opaque","value":"a\"\n\u00e9"}`:                       "a\"\né",
		`{"format":"opaque","value":""}`:                                  "",
		`{"format":"opaque","value_base64":"AP8="}`:                       "\x00\xff",
		`{"format":"userpass","username":"u","password":"p\"","value":0}`: "-",
		`{"format":"userpass","username":"u","password":"p\""}`:           `{"username":"u","password":"p\""}`,
		`{}`: "-", `[]`: "-", ``: "-", `{"value_base64":"hunter2!"}`: "-", `{"value":["hunter2"]}`: "-",
	} {
		value, err := valueOf([]byte(answer))
		if want == "-" {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: got %q, %v", answer, value, err)
			}
			continue
		}
		if err != nil || string(value) != want {
			t.Errorf("%s: got %q, %v", answer, value, err)
		}
	}
}

// TestWord: a text of anybody's is one word of a line, and acts on no terminal.
func TestWord(t *testing.T) {
	for text, want := range map[string]string{
		"a/b.c-d@e+f_g": "a/b.c-d@e+f_g", "a b": `"a b"`, "": "-", "-": `"-"`,
		"é": "é", "a\x1b[2J": `"a\x1b[2J"`, `a\x1b`: `"a\\x1b"`, "a\u202eb": `"a\u202eb"`, `a"b`: `"a\"b"`,
	} {
		if got := word(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// A list ends, whatever a node says.
func TestPages(t *testing.T) {
	var asked []string
	err := pages(func(after string) (string, bool, error) {
		asked = append(asked, after)
		return map[string]string{"": "a", "a": "b", "b": "b"}[after], true, nil
	})
	if got := strings.Join(asked, ","); err != nil || got != ",a,b" {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestErrorsActOnNoTerminal: an error may quote whoever answers.
func TestErrorsActOnNoTerminal(t *testing.T) {
	var said strings.Builder
	fail(&streams{err: &said}, exitFault, errors.New("no:\x1b[2J\nde"))
	if want := "hyperion-vault: no:\\x1b[2J\nhyperion-vault: de\n"; said.String() != want {
		t.Errorf("got %q, want %q", said.String(), want)
	}
}

// TestTokenCommands against a node that says what it likes: times have their zone,
// nothing steers the terminal, and a token given for its name is neither sent nor said.
func TestTokenCommands(t *testing.T) {
	var asked int
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"no such token","code":"missing"}`)
			return
		}
		_, _ = io.WriteString(w, `[{"name":"a\u001b[2J","role":"admin","created_at":"2026-01-02T03:04:05.6+01:00"}]`)
	}))
	defer node.Close()
	want := "NAME      ROLE   CREATED               LAST USED  REVOKED\na\\x1b[2J  admin  2026-01-02T02:04:05Z  -          -\n"
	if got := commandWorks(t, "token", "list", "--addr", node.URL); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if code, _, errs := command(t, "", "token", "revoke", "ci", "--addr", node.URL); code != exitFault || !strings.Contains(errs, "no such token, or it was revoked already (404 missing)") {
		t.Errorf("a second revoke: got %d, %s", code, errs)
	}
	before := asked
	token := string(vault.NewToken())
	for _, what := range []string{"create", "revoke"} {
		code, _, errs := command(t, "", "token", what, token, "--addr", node.URL)
		if code != exitUsage || asked != before || strings.Contains(errs, token) || !strings.Contains(errs, "the name of one") {
			t.Errorf("%s of a token: got %d, %s; %d requests", what, code, errs, asked-before)
		}
	}
}
