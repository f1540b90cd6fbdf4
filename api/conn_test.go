// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestSendValueHead: the HTTP server would drop the value, from a buffer that nobody
// erases.
func TestSendValueHead(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodHead, "/v1/secrets/a", nil)
	sendValue(w, r, http.StatusOK, []byte(`{"value":"hunter2"}`))
	if got := w.Body.Len(); got != 0 {
		t.Errorf("%d bytes of the answer to HEAD were written", got)
	}
	if got := w.Result().Header.Get("Content-Length"); got != "19" {
		t.Errorf("Content-Length: got %q, want 19", got)
	}
}
