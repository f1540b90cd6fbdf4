// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestMemoryREST is TestMemory for REST: of requests and answers no value is left, in
// whatever form, neither where a connection stays open nor where it ends. What is
// left of tokens is told.
func TestMemoryREST(t *testing.T) {
	n := shared.Nodes[0]
	readable(t, n.PID)
	before.count()
	secret := "hvt_" + rand.Text() + rand.Text()
	cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "SELECT vault.add_token('memory', NULL, sha256($1::text::bytea))", secret)
	h, tokens := newHaystack(), newHaystack()
	tokens.add("the token", []byte(secret))
	open := &http.Client{Transport: &http.Transport{}}
	closing := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range *operations / 2 {
		client := open
		if i%2 == 0 {
			client = closing
		}
		r := &restUser{t, client, n.REST, secret}
		name := fmt.Sprintf("memoryrest/%d", i)
		for what, value := range r.life(name, i) {
			h.add(what+" of "+name, []byte(value[:32]))
			h.add("the end of "+what+" of "+name, []byte(value[len(value)-11:]))
		}
	}
	h.addKeys(t)
	if found := tokens.search(t, n.PID); found == "" {
		t.Error("the token was not found while it is in use: the search finds nothing")
	}
	h.nothingLeft(t, n.PID)
	open.CloseIdleConnections()
	t.Logf("of the token there are %d copies", strings.Count(tokens.search(t, n.PID), "\n"))
	h.nothing(t, n.PID)
	wireShapes(t)
}

// nothing is for when all is flushed.
func (h *haystack) nothing(t *testing.T, pid int) {
	t.Helper()
	if found := h.search(t, pid); found != "" {
		t.Errorf("the node's memory holds again\n%s", found)
	}
}

// restUser sends requests with a token.
type restUser struct {
	t      *testing.T
	client *http.Client
	node   string
	token  string
}

// life is a secret's, small or large; it returns every value that came along.
func (r *restUser) life(name string, i int) map[string]string {
	value := func(what string) string {
		one := fmt.Sprintf("%x", sha256.Sum256([]byte(name+what)))
		if i%10 < 2 { // beyond all buffers, and just so
			one += strings.Repeat(fmt.Sprintf("%x", sha256.Sum256([]byte(what+name))), 1+100*(i%10))
		}
		return one
	}
	all := map[string]string{"the value": value("1"), "the second value": value("2"), "a wrong value": value("3"), "the password": value("4"), "a value without right": value("5"), "a value cut short": value("6")}
	path := "/v1/secrets/" + name
	r.ask(201, "POST", "/v1/secrets", `{"name":"`+name+`","kind":"automatic","value":"`+all["the value"]+`","grace_period_secs":60}`)
	r.ask(200, "GET", path, "")
	r.ask(200, "PUT", path, `{"value":"`+all["the second value"]+`"}`)
	r.ask(200, "POST", path+"/verify", `{"value":"`+all["the value"]+`"}`)
	r.ask(200, "POST", path+"/verify", `{"value":"`+all["a wrong value"]+`"}`)
	r.ask(200, "POST", "/v1/batch/secrets", `{"names":["`+name+`"]}`)
	r.ask(201, "POST", "/v1/secrets", `{"name":"`+name+`/pair","kind":"manual","username":"u","password":"`+all["the password"]+`"}`)
	r.ask(200, "GET", path+"/pair", "")
	var made struct{ Value string }
	if err := json.Unmarshal(r.ask(200, "POST", path+"/rotate", ""), &made); err != nil || len(made.Value) != 43 {
		r.t.Fatalf("rotate: %v", err)
	}
	all["the rotated value"] = made.Value
	r.ask(400, "PUT", path, `{"value":"`+all["a value cut short"]+`"`)
	stranger := *r
	stranger.token = ""
	stranger.ask(401, "PUT", path, `{"value":"`+all["a value without right"]+`"}`)
	return all
}

// ask is try, with the status that the answer should have.
func (r *restUser) ask(status int, method, path, body string) []byte {
	r.t.Helper()
	got, text := r.try(method, path, body)
	if got != status {
		r.t.Fatalf("%s %s: got %d %.200s, want %d", method, path, got, text, status)
	}
	return text
}

// try returns status 0 where there was no answer: then the test has failed.
func (r *restUser) try(method, path, body string) (status int, text []byte) {
	r.t.Helper()
	status, _, text = r.exchange(method, path, body)
	return status, text
}

// exchange is try, with the answer's header.
func (r *restUser) exchange(method, path, body string) (status int, header http.Header, text []byte) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.node+path, strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return 0, nil, nil
	}
	request.Header.Set("Content-Type", "application/json")
	if r.token != "" {
		request.Header.Set("Authorization", "Bearer "+r.token)
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Error(err)
		return 0, nil, nil
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	if text, err = io.ReadAll(response.Body); err != nil {
		r.t.Error(err)
		return 0, nil, nil
	}
	return response.StatusCode, response.Header, text
}
