// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// ask asks a handler that has no vault: what gets past the guard and finds a
// resource would panic.
func ask(t *testing.T, method, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host = "127.0.0.1:8200"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	New(Config{Hosts: []string{"vault.example."}}).ServeHTTP(w, r)
	return w
}

// TestPanic: a panic ends its connection, and its text is not logged.
func TestPanic(t *testing.T) {
	var log strings.Builder
	h := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil)), Draining: func() bool { panic("panic canary") }})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/secrets/a", nil)
	r.Host = "localhost"
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("net/http would log %v", err)
		}
		if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, "internal error") || !strings.Contains(got, "at=github.com/hyperiondb/hyperion-vault/api.TestPanic") {
			t.Errorf("got %s", got)
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), r)
	t.Error("it did not panic")
}

func TestHosts(t *testing.T) {
	for host, want := range map[string]int{
		"127.0.0.1:8200": 404, "10.1.2.3": 404, "[::1]:8200": 404, "[fd00::1]": 404, "localhost:8200": 404, "LOCALHOST": 404,
		"vault.example:8200": 404, "Vault.Example.": 404,
		"": 403, "evil.example": 403, "127.0.0.1.evil.example:8200": 403, "localhost.evil.example": 403, "vault.example.evil": 403, "[evil]:1": 403,
	} {
		w := ask(t, http.MethodGet, "/", func(r *http.Request) { r.Host = host })
		if w.Code != want {
			t.Errorf("Host %q: got %d, want %d", host, w.Code, want)
		}
	}
}

func TestCrossSite(t *testing.T) {
	for name, c := range map[string]struct {
		header, value string
		want          int
	}{
		"no browser":           {"", "", 404},
		"the same origin":      {"Origin", "http://127.0.0.1:8200", 404},
		"another origin":       {"Origin", "http://evil.example", 403},
		"another port":         {"Origin", "http://127.0.0.1:1", 403},
		"no origin to name":    {"Origin", "null", 403},
		"a page of ours":       {"Sec-Fetch-Site", "same-origin", 404},
		"typed by the user":    {"Sec-Fetch-Site", "none", 404},
		"a page of others":     {"Sec-Fetch-Site", "cross-site", 403},
		"a page of a neighbor": {"Sec-Fetch-Site", "same-site", 403},
	} {
		w := ask(t, http.MethodGet, "/", func(r *http.Request) { r.Header.Set(c.header, c.value) })
		if w.Code != c.want {
			t.Errorf("%s: got %d, want %d", name, w.Code, c.want)
		}
	}
	for name, header := range map[string]http.Header{
		"two origins":     {"Origin": {"http://127.0.0.1:8200", "http://evil.example"}},
		"one twice":       {"Origin": {"http://127.0.0.1:8200", "http://127.0.0.1:8200"}},
		"two sites":       {"Sec-Fetch-Site": {"same-origin", "cross-site"}},
		"nothing to read": {"Sec-Fetch-Site": {""}},
	} {
		if w := ask(t, http.MethodGet, "/", func(r *http.Request) { r.Header = header }); w.Code != 403 {
			t.Errorf("%s: got %d, want 403", name, w.Code)
		}
	}
}

func TestEveryAnswer(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/v1", 404, ""},
		{"GET", "/v1/sys/health", 404, ""},
		{"GET", "/v1/secret/a", 404, ""},
		{"GET", "/v1/batch/secrets/", 404, ""},
		{"GET", "//v1/secrets", 404, ""},
		{"GET", "/v1//secrets", 404, ""},
		{"GET", "/V1/secrets", 404, ""},
		{"POST", "/v1/secrets/../roles", 405, "DELETE, GET, HEAD, OPTIONS, PUT"}, // a name, that would be refused
		{"POST", "/v1/secrets/%2e%2e/roles", 405, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{"BREW", "/v1/secrets", 405, "GET, HEAD, OPTIONS, POST"},
		{"TRACE", "/v1/secrets", 405, "GET, HEAD, OPTIONS, POST"},
		{"get", "/v1/secrets", 405, "GET, HEAD, OPTIONS, POST"},
		{"DELETE", "/v1/secrets", 405, "GET, HEAD, OPTIONS, POST"},
		{"POST", "/v1/secrets/a/b", 405, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{"PATCH", "/v1/secrets/a", 405, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{"PATCH", "/v1/secrets/", 405, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{"HEAD", "/v1/secrets/a/verify", 405, "OPTIONS, POST"},
		{"GET", "/v1/secrets/a/verify", 405, "OPTIONS, POST"},
		{"GET", "/v1/secrets/a%2Frotate", 405, "OPTIONS, POST"},
		{"POST", "/v1/secrets/a/b/versions", 405, "GET, HEAD, OPTIONS"},
		{"POST", "/v1/secrets/a/permissions", 405, "DELETE, GET, HEAD, OPTIONS, PUT"}, // a name
		{"GET", "/v1/batch/secrets", 405, "OPTIONS, POST"},
		{"PUT", "/v1/roles", 405, "GET, HEAD, OPTIONS, POST"},
		{"DELETE", "/v1/roles/a%2Fpermissions", 405, "OPTIONS, PUT"},
		{"POST", "/v1/roles/permissions", 405, "DELETE, GET, HEAD, OPTIONS"},
		{"PUT", "/v1/tokens", 405, "GET, HEAD, OPTIONS, POST"},
		{"PUT", "/v1/roles/a", 405, "DELETE, GET, HEAD, OPTIONS"},
		{"POST", "/v1/roles/a/permissions", 405, "OPTIONS, PUT"},
		{"GET", "/v1/tokens/a", 405, "DELETE, OPTIONS"},
		{"PUT", "/openapi.json", 405, "GET, HEAD, OPTIONS"},
	} {
		w := ask(t, c.method, c.path, nil)
		h := w.Header()
		if w.Code != c.status || h.Get("Allow") != c.allow {
			t.Errorf("%s %s: got %d, Allow %q, want %d, %q", c.method, c.path, w.Code, h.Get("Allow"), c.status, c.allow)
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" || len(h.Get("X-Request-Id")) != 24 || !strings.HasPrefix(w.Body.String(), `{"code":"`) {
			t.Errorf("%s %s: got %v %s", c.method, c.path, h, w.Body)
		}
	}
}

// TestOptions: what a path takes is told to who asks, without a token.
func TestOptions(t *testing.T) {
	for path, allow := range map[string]string{
		"/v1/secrets": "GET, HEAD, OPTIONS, POST", "/v1/secrets/a": "DELETE, GET, HEAD, OPTIONS, PUT", "/v1/secrets/a/rotate": "OPTIONS, POST", "/openapi.json": "GET, HEAD, OPTIONS",
	} {
		w := ask(t, http.MethodOptions, path, nil)
		if w.Code != 204 || w.Header().Get("Allow") != allow || w.Body.Len() != 0 || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: got %d %v", path, w.Code, w.Header())
		}
	}
	if w := ask(t, http.MethodOptions, "/v1/secrets", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); w.Code != 403 {
		t.Errorf("of another site: got %d", w.Code)
	}
	if w := ask(t, http.MethodOptions, "/none", nil); w.Code != 404 {
		t.Errorf("an unknown path: got %d", w.Code)
	}
}

// TestDraining: a node that ends begins nothing.
func TestDraining(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/secrets/a", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	New(Config{Draining: func() bool { return true }}).ServeHTTP(w, r)
	if h := w.Header(); w.Code != 503 || h.Get("Connection") != "close" || h.Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"not_ready"`) {
		t.Errorf("got %d %v %s", w.Code, h, w.Body)
	}
}

// TestReadAfter: what is no position is told apart from none.
func TestReadAfter(t *testing.T) {
	for _, sent := range [][]string{{""}, {"x"}, {"0/0/1"}, {"5/0/3000148 "}, {"5/0/3000148", "5/0/3000148"}, {"5/0/3000148, 5/0/1"}, {strings.Repeat("9", 1000)}} {
		p, err := readAfter(sent)
		if wrong, ok := errors.AsType[*problem](err); !ok || wrong.status != 400 || wrong.code != "invalid" || p != (vault.Position{}) {
			t.Errorf("%q: got %v, %v", sent, p, err)
		}
	}
	if p, err := readAfter(nil); err != nil || p != (vault.Position{}) {
		t.Errorf("none: %v, %v", p, err)
	}
	if p, err := readAfter([]string{"5/0/3000148"}); err != nil || p.String() != "5/0/3000148" {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestRequestID(t *testing.T) {
	for sent, kept := range map[string]bool{"abc-1.2_Z": true, "": false, "a b": false, "a\"b": false, strings.Repeat("a", 65): false, "é": false, "hvt_" + strings.Repeat("a", 43): false} {
		w := ask(t, http.MethodGet, "/", func(r *http.Request) { r.Header.Set("X-Request-Id", sent) })
		if got := w.Header().Get("X-Request-Id"); (got == sent) != kept {
			t.Errorf("%q: got %q", sent, got)
		}
	}
}

func TestBearer(t *testing.T) {
	for _, c := range []struct {
		sent  []string
		token string
		ok    bool
	}{
		{nil, "", true},
		{[]string{"Bearer hvt_x"}, "hvt_x", true},
		{[]string{"bearer  hvt_x "}, "hvt_x", true},
		{[]string{"Bearer"}, "", false},
		{[]string{"Bearer "}, "", false},
		{[]string{""}, "", false},
		{[]string{"Basic aHZ0X3g="}, "aHZ0X3g=", false},
		{[]string{"Bearer a", "Bearer b"}, "a", false},
		{[]string{"Bearer " + strings.Repeat("a", 513)}, strings.Repeat("a", 513), false},
	} {
		token, ok := bearer(c.sent)
		if token != c.token || ok != c.ok {
			t.Errorf("%q: got %q, %v, want %q, %v", c.sent, token, ok, c.token, c.ok)
		}
	}
}

func TestSplitVerb(t *testing.T) {
	verbs := map[string]resource{"": {}, "rotate": {}, "verify": {}, "versions": {}}
	for path, want := range map[string][2]string{
		"a": {"a", ""}, "a/b": {"a/b", ""}, "a/verify": {"a", "verify"}, "a/b/rotate": {"a/b", "rotate"}, "verify": {"verify", ""}, "/verify": {"", "verify"},
		"a/versions/": {"a/versions/", ""}, "a/verify/verify": {"a/verify", "verify"}, "": {"", ""}, "a/Verify": {"a/Verify", ""}, "a/permissions": {"a/permissions", ""},
	} {
		name, verb := splitVerb(path, verbs)
		if name != want[0] || verb != want[1] {
			t.Errorf("%q: got %q, %q", path, name, verb)
		}
	}
}

// Each kind has a status.
func TestStatus(t *testing.T) {
	for kind, want := range map[vault.Kind]int{
		vault.KindInternal: 500, vault.KindTampered: 500, vault.KindInvalid: 400, vault.KindDenied: 403, vault.KindUnknown: 401, vault.KindMissing: 404,
		vault.KindExists: 409, vault.KindInUse: 409, vault.KindChanged: 412, vault.KindLimited: 429, vault.KindKMS: 503, vault.KindServer: 503, vault.KindPrimary: 503, vault.KindAudit: 503, vault.KindStale: 503,
	} {
		if got := status(kind); got != want {
			t.Errorf("%v: got %d, want %d", kind, got, want)
		}
	}
}

// TestGrumbles: what fails for whoever asks is logged now and then, what a client brings
// about not at all, and what the log is said to have always.
func TestGrumbles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for kind, want := range map[vault.Kind]int{
			vault.KindServer: 11, vault.KindKMS: 11, vault.KindBusy: 0, vault.KindStale: 0, vault.KindCanceled: 0, vault.KindMissing: 0, vault.KindTampered: 200, vault.KindInternal: 200,
		} {
			var log strings.Builder
			h := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			for i := range 200 {
				if i == 100 {
					<-time.After(time.Second) // by the clock of synctest
				}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/secrets/a", nil)
				h.fail(httptest.NewRecorder(), r, netip.Addr{}, &vault.Error{Kind: kind})
			}
			if got := strings.Count(log.String(), "a request failed"); got != want {
				t.Errorf("%v: %d lines, want %d", kind, got, want)
			}
		}
	})
}
