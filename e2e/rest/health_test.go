// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// plainly asks without a token and returns the status.
func plainly(t *testing.T, method, url string) int {
	t.Helper()
	status, _ := plainText(t, method, url)
	return status
}

func plainText(t *testing.T, method, url string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(all)
}

// TestHealth is what load balancers ask for, as Patroni answers it.
func TestHealth(t *testing.T) {
	for path, wanted := range map[string][2]int{ // at the primary, at the standby
		"/healthz": {200, 200}, "/readyz": {200, 200}, "/readyz?require=primary,kms": {200, 200}, "/readyz?require=server": {200, 200}, "/readyz?require=": {200, 200},
		"/primary": {200, 503}, "/replica": {503, 200},
		"/readyz?require=kmss": {400, 400}, "/readyz?require=kms,,x": {400, 400},
		"/primary/": {404, 404}, "/master": {404, 404},
	} {
		for i, n := range shared.Nodes {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				if got := plainly(t, method, n.REST+path); got != wanted[i] {
					t.Errorf("%s %s at node %d: got %d, want %d", method, path, i, got, wanted[i])
				}
			}
			if got := plainly(t, "POST", n.REST+path); got != 405 && wanted[i] != 404 {
				t.Errorf("POST %s: got %d", path, got)
			}
		}
	}
	// HAProxy's check says neither a version nor a name.
	if text := exchange(t, shared.Nodes[0].REST, "OPTIONS /primary HTTP/1.0\r\n\r\n"); !strings.HasPrefix(text, "HTTP/1.0 200") || !strings.Contains(text, `"role":"primary"`) {
		t.Errorf("HAProxy's check: %s", text)
	}
}

// degraded sees that a node names a part that others share, and that without it the
// node gets no clients only if that is asked for.
func degraded(t *testing.T, base, part string) {
	t.Helper()
	for query, want := range map[string]struct {
		code   int
		status string
	}{
		"": {200, "degraded"}, "?require=server": {200, "degraded"}, "?require=server," + part: {503, "unavailable"},
	} {
		code, text := plainText(t, "GET", base+"/readyz"+query)
		if code != want.code || !strings.Contains(text, `"status":"`+want.status+`"`) || !strings.Contains(text, `"`+part+`":"`) || strings.Contains(text, `"`+part+`":"ok"`) {
			t.Errorf("readyz%s: got %d %s, want %d, %s and what is wrong with %s", query, code, text, want.code, want.status, part)
		}
	}
}
