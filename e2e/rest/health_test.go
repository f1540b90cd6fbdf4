// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"net/http"
	"strings"
	"testing"
)

// plainly asks without a token and returns the status.
func plainly(t *testing.T, method, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
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
