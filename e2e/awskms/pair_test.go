// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHalfAPair: while the KMS is asked for what is to be kept of a user name and
// password, the name is not locked.
func TestHalfAPair(t *testing.T) {
	admin := &restUser{t, http.DefaultClient, shared.Nodes[0].REST, shared.AdminToken}
	admin.ask(201, "POST", "/v1/secrets", `{"name":"half/a","kind":"automatic","username":"u","password":"old"}`)
	for name, change := range map[string][3]string{
		"the password":  {"PUT", "/v1/secrets/half/a", `{"password":"new"}`},
		"the user name": {"PUT", "/v1/secrets/half/a", `{"username":"v"}`},
		"rotate":        {"POST", "/v1/secrets/half/a/rotate", ""},
	} {
		flush(t)
		asked := make(chan struct{}, 1)
		before.suffer(t, func(w http.ResponseWriter, r *http.Request, released <-chan struct{}, next http.Handler) {
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if err == nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Decrypt") && strings.Contains(string(body), "half/a") {
				select {
				case asked <- struct{}{}:
				default:
				}
				select {
				case <-released:
				case <-r.Context().Done():
				}
			}
			next.ServeHTTP(w, r)
		})
		done := make(chan int)
		go func() {
			status, _ := admin.try(change[0], change[1], change[2])
			done <- status
		}()
		<-asked
		if status, text := admin.try("PUT", "/v1/secrets/half/a", `{"description":"written meanwhile"}`); status != 200 {
			t.Errorf("%s: another write meanwhile: got %d %s", name, status, text)
		}
		before.heal()
		if status := <-done; status != 200 {
			t.Errorf("%s: got %d", name, status)
		}
	}
	if text := string(admin.ask(200, "GET", "/v1/secrets/half/a", "")); !strings.Contains(text, `"username":"v"`) || !strings.Contains(text, `"version":4`) {
		t.Errorf("got %s", text)
	}
}
