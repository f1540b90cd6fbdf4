// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// post returns a request with a body, from an address.
func post(t *testing.T, body io.Reader, from string) *request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
	r.Header.Set("Content-Type", "application/json")
	return &request{Request: r, access: &vault.Access{Actor: vault.Actor{Via: vault.ViaREST, Addr: netip.MustParseAddr(from)}}}
}

// TestMediaType: a body is what its headers say, or it is not read.
func TestMediaType(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   bool
	}{
		"JSON":                 {http.Header{"Content-Type": {"application/json"}}, true},
		"in UTF-8":             {http.Header{"Content-Type": {"application/json; charset=UTF-8"}}, true},
		"in quotes":            {http.Header{"Content-Type": {`Application/JSON;charset="utf-8"`}}, true},
		"as it is":             {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {""}}, true},
		"nothing":              {http.Header{}, false},
		"empty":                {http.Header{"Content-Type": {""}}, false},
		"text":                 {http.Header{"Content-Type": {"text/plain"}}, false},
		"a form":               {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, false},
		"something like JSON":  {http.Header{"Content-Type": {"application/jsonp"}}, false},
		"another charset":      {http.Header{"Content-Type": {"application/json; charset=latin1"}}, false},
		"two charsets":         {http.Header{"Content-Type": {"application/json; charset=utf-8; charset=latin1"}}, false},
		"two types":            {http.Header{"Content-Type": {"application/json", "application/json"}}, false},
		"compressed":           {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, false},
		"compressed, in a way": {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"", "gzip"}}, false},
	} {
		if got := isJSON(c.header); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// TestReadBody: bodies of any length come whole, or are refused.
func TestReadBody(t *testing.T) {
	h := &Handler{bodies: newMemory(allBodies, eachBodies)}
	for _, n := range []int{0, 1, smallBody - 1, smallBody, smallBody + 1, 2*smallBody + 2, 2*smallBody + 3, 100_000, maxBody - 1, maxBody} {
		sent := strings.Repeat("x", n)
		for _, length := range []int64{int64(n), -1} {
			r := post(t, strings.NewReader(sent), "10.0.0.1")
			r.ContentLength = length
			if got, err := h.readBody(r); err != nil || string(got) != sent {
				t.Errorf("%d bytes, announced %d: got %d, %v", n, length, len(got), err)
			}
			if want := perBody * n; h.bodies.held != want && want > smallHold || h.bodies.held != 0 && want <= smallHold {
				t.Errorf("%d bytes, announced %d: %d are held for it", n, length, h.bodies.held)
			}
			r.body.free()
		}
	}
	for _, length := range []int64{maxBody + 1, -1} {
		r := post(t, strings.NewReader(strings.Repeat("x", maxBody+1)), "10.0.0.1")
		r.ContentLength = length
		_, err := h.readBody(r)
		r.body.free()
		var p *problem
		if !errors.As(err, &p) || p.status != 413 {
			t.Errorf("too much, announced %d: %v", length, err)
		}
	}
	broken := io.MultiReader(strings.NewReader(strings.Repeat("x", smallBody+10)), failing{})
	r := post(t, broken, "10.0.0.1")
	if _, err := h.readBody(r); err == nil || strings.Contains(err.Error(), "EOF") {
		t.Errorf("half a body: %v", err)
	}
	r.body.free()
	wantFree(t, h.bodies)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// slow is a body of which more than smallBody has come. It says when more is waited
// for, and ends when it is told.
func slow(waits chan<- struct{}, more <-chan struct{}) io.Reader {
	return io.MultiReader(strings.NewReader(`{"value":"`+strings.Repeat("x", smallBody)), waiting{waits, more}, strings.NewReader(`"}`))
}

type waiting struct {
	waits chan<- struct{}
	more  <-chan struct{}
}

func (w waiting) Read([]byte) (int, error) {
	w.waits <- struct{}{}
	<-w.more
	return 0, io.EOF
}

// TestSlowShare: who sends large bodies slowly keeps himself waiting, and nobody
// else; small ones wait for nobody.
func TestSlowShare(t *testing.T) {
	h := &Handler{bodies: newMemory(allBodies, eachBodies)}
	waits, more, done := make(chan struct{}), make(chan struct{}), make(chan error)
	decode := func(r *request) error {
		var v []byte
		defer r.body.free() // as behind every operation
		return h.decode(r, map[string]any{"value": &v})
	}
	go func() { done <- decode(post(t, slow(waits, more), "10.0.0.1")) }() // of unknown length: all of a share
	<-waits
	large := `{"value":"` + strings.Repeat("x", 10*smallBody) + `"}`
	if err := decode(post(t, strings.NewReader(large), "10.0.0.2")); err != nil {
		t.Errorf("another one's: %v", err)
	}
	if err := decode(post(t, strings.NewReader(`{"value":"x"}`), "10.0.0.1")); err != nil {
		t.Errorf("its own small one: %v", err)
	}
	r := post(t, strings.NewReader(large), "10.0.0.1")
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	r.Request = r.WithContext(ctx)
	var p *problem
	if err := decode(r); !errors.As(err, &p) || p.status != 503 || p.code != "busy" {
		t.Errorf("its own large one: %v", err)
	}
	close(more)
	if err := <-done; err != nil {
		t.Errorf("what came slowly: %v", err)
	}
	wantFree(t, h.bodies)
}
