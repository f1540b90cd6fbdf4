// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"net/http"
	"strings"
	"testing"
)

// TestErrorShowsNoValue: a node that cannot be asked is told without the path, which may
// have the value.
func TestErrorShowsNoValue(t *testing.T) {
	one := New("in the path", "run")
	r := &RESTClient{Base: "http://127.0.0.1:1", HTTP: &http.Client{}}
	for _, path := range []string{"/v1/secrets/" + one.Value(), "/v1/%zz" + one.Value()} {
		if _, _, err := r.Do(t.Context(), "GET", path, "", ""); err == nil || strings.Contains(err.Error(), one.Head) {
			t.Errorf("got %v", err)
		}
	}
}
