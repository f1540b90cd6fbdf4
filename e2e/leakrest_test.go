// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// A restDoor is one way in which a value can come to a node by REST. In its texts
// stand %v for the value, %n for a secret's name, %b for the value in base64, and
// %e for the value with each character escaped.
type restDoor struct {
	name         string
	method, path string
	headers      string // of lines
	body         string
	status       int
	keeps        bool // the value can be read afterwards
	quotes       bool // the answer has it, for who has sent it
}

const jsonBody = "Content-Type: application/json\n"

// restDoors put, compare, and misplace values.
func restDoors() []restDoor {
	create := func(name, body string) restDoor {
		return restDoor{name, "POST", "/v1/secrets", jsonBody, `{"name":"%n",` + body + `}`, 201, true, true}
	}
	put := func(name, body string) restDoor {
		return restDoor{name, "PUT", "/v1/secrets/%n", jsonBody, body, 200, true, false}
	}
	refused := func(name, body string) restDoor {
		return restDoor{name, "PUT", "/v1/secrets/%n", jsonBody, body, 400, false, false}
	}
	verify := func(name, body string) restDoor {
		return restDoor{name, "POST", "/v1/secrets/%n/verify", jsonBody, body, 200, false, false}
	}
	head := func(name, method, path, headers string, status int) restDoor {
		return restDoor{name, method, path, headers, "", status, false, false}
	}
	return []restDoor{
		create("create", `"kind":"manual","value":"%v"`),
		create("create, escaped", `"kind":"manual","value":"%e"`),
		create("create, automatic", `"kind":"automatic","value":"%v"`),
		create("create, binary", `"kind":"manual","value_base64":"%b"`),
		create("create, password", `"kind":"manual","username":"u","password":"%v"`),
		create("create, user name", `"kind":"manual","username":"%v","password":"p"`),
		{"create, twice", "POST", "/v1/secrets", jsonBody, `{"name":"leakrest/there","kind":"manual","value":"%v"}`, 409, false, false},
		put("put", `{"value":"%v"}`),
		put("put, grace", `{"value":"%v","grace_period_secs":60}`),
		put("put, binary", `{"value_base64":"%b"}`),
		{"put, another version", "PUT", "/v1/secrets/%n", jsonBody + "If-Match: \"9\"\n", `{"value":"%v"}`, 412, false, false},
		{"put, no such secret", "PUT", "/v1/secrets/leakrest/none", jsonBody, `{"value":"%v"}`, 404, false, false},
		{"put, no token", "PUT", "/v1/secrets/%n", jsonBody + "Authorization:\n", `{"value":"%v"}`, 401, false, false},
		verify("verify, wrong", `{"value":"%v"}`),
		verify("verify, binary", `{"value_base64":"%b"}`),
		{"verify, no such secret", "POST", "/v1/secrets/leakrest/none/verify", jsonBody, `{"value":"%v"}`, 200, false, false},
		refused("cut short", `{"value":"%v`),
		refused("cut in an escape", `{"value":"%v\u00`),
		refused("more behind it", `{"value":"%v"}%v`),
		refused("a field's name", `{"%v":"x"}`),
		refused("a field twice", `{"value":"%v","value":"%v"}`),
		refused("another field", `{"value":"%v","valu":"%v"}`),
		refused("another type", `{"value":["%v"]}`),
		refused("NUL", `{"value":"%v\u0000"}`),
		refused("no UTF-8", "{\"value\":\"%v\xff\"}"),
		refused("not base64", `{"value_base64":"%v "}`),
		refused("a network", `{"allowed_cidrs":["%v"]}`),
		refused("too long", `{"value":"%v`+strings.Repeat("x", 512<<10)+`%v"}`),
		{"a kind", "POST", "/v1/secrets", jsonBody, `{"name":"leakrest/kind","kind":"%v","value":"x"}`, 400, false, false},
		{"a name", "POST", "/v1/secrets", jsonBody, `{"name":"%v %v","kind":"manual","value":"x"}`, 400, false, false},
		{"names of a batch", "POST", "/v1/batch/secrets", jsonBody, `{"names":["%v!"]}`, 400, false, false},
		{"not JSON", "PUT", "/v1/secrets/%n", "Content-Type: text/plain\n", "%v", 415, false, false},
		{"a form", "POST", "/v1/secrets", "Content-Type: application/x-www-form-urlencoded\n", "value=%v", 415, false, false},
		{"too large", "PUT", "/v1/secrets/%n", jsonBody, `{"value":"%v` + strings.Repeat("x", 4<<20) + `"}`, 413, false, false},
		{"no such path", "POST", "/v1/secret/data/x", jsonBody, `{"data":{"x":"%v"}}`, 404, false, false},
		{"no such method", "PATCH", "/v1/secrets/%n", jsonBody, `{"value":"%v"}`, 405, false, false},
		head("in the path", "GET", "/v1/secrets/%v%20x", "", 400),
		head("in another path", "GET", "/%v", "", 404),
		head("in the query", "GET", "/v1/secrets/%n?value=%v", "", 400),
		head("as version", "GET", "/v1/secrets/%n?version=%v", "", 400),
		head("as prefix", "GET", "/v1/secrets?prefix=%v%20", "", 400),
		head("as a token", "GET", "/v1/secrets/%n", "Authorization: Bearer %v\n", 401),
		head("as a password", "GET", "/v1/secrets/%n", "Authorization: Basic %b\n", 401),
		head("in If-Match", "DELETE", "/v1/secrets/%n", "If-Match: \"%v\"\n", 400),
		head("in Origin", "GET", "/v1/secrets/%n", "Origin: http://%v.example\n", 403),
		head("in Host", "GET", "/v1/secrets/%n", "Host: %v.example\n", 403),
		head("in a cookie", "DELETE", "/v1/secrets/leakrest/none", "Cookie: %v=%v\n", 404),
		head("in its id", "DELETE", "/v1/secrets/leakrest/none", "X-Request-Id: %v %v\n", 404),
	}
}

// rest sends a canary by each of REST's doors, to either node, and has one made.
func (r *leakRun) rest(t *testing.T) {
	t.Helper()
	r.request(t, 0, "POST", "/v1/secrets", jsonBody, `{"name":"leakrest/there","kind":"manual","value":"x"}`)
	for node := range r.c.Nodes {
		for _, d := range restDoors() {
			one := canary.New(fmt.Sprintf("%s at node %d", d.name, node), "rest")
			r.canaries = append(r.canaries, one)
			r.openREST(t, node, &d, one)
		}
		r.generated(t, node)
	}
}

func (r *leakRun) openREST(t *testing.T, node int, d *restDoor, one *canary.Canary) {
	t.Helper()
	if strings.Contains(d.path, "%n") {
		r.request(t, node, "POST", "/v1/secrets", jsonBody, `{"name":"`+one.Secret+`","kind":"manual","value":"x"}`)
	}
	value := one.Value()
	var escaped strings.Builder
	for _, c := range value {
		fmt.Fprintf(&escaped, `\u%04x`, c)
	}
	fill := strings.NewReplacer("%v", value, "%n", one.Secret, "%b", base64.StdEncoding.EncodeToString([]byte(value)), "%e", escaped.String())
	status, text := r.request(t, node, d.method, fill.Replace(d.path), fill.Replace(d.headers), fill.Replace(d.body))
	if status != d.status {
		t.Errorf("door %q: got %d %.300s, want %d", d.name, status, text, d.status)
	}
	if !d.quotes {
		r.seen = append(r.seen, shown{"the answer to door " + one.Door, text})
	}
	// Read, read many and compared once more, so that it was in all kinds of answers.
	_, text = r.request(t, node, "GET", "/v1/secrets/"+one.Secret, "", "")
	if there := strings.Contains(text, value) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(value))); there != d.keeps {
		t.Errorf("door %q: the value can be read: got %t, want %t", one.Door, there, d.keeps)
	}
	r.request(t, node, "POST", "/v1/batch/secrets", jsonBody, `{"names":["`+one.Secret+`"]}`)
	r.request(t, node, "POST", "/v1/secrets/"+one.Secret+"/verify", jsonBody, `{"value":"`+value+`"}`)
}

// generated has the node make a value, and another one: what it answers is a canary.
func (r *leakRun) generated(t *testing.T, node int) {
	t.Helper()
	name := fmt.Sprintf("leakrest/made%d", node)
	for _, request := range [][3]string{{"POST", "/v1/secrets", `{"name":"` + name + `","kind":"automatic"}`}, {"POST", "/v1/secrets/" + name + "/rotate", ""}} {
		_, text := r.request(t, node, request[0], request[1], jsonBody, request[2])
		var made struct{ Value string }
		if err := json.Unmarshal([]byte(text), &made); err != nil || len(made.Value) != 43 {
			t.Fatalf("%s: %v: %s", request[1], err, text)
		}
		r.canaries = append(r.canaries, &canary.Canary{Door: "made at " + request[1], Secret: name, Head: made.Value[:20], Tail: made.Value[23:]})
	}
}

// request sends one as the administrator, unless its headers say otherwise.
func (r *leakRun) request(t *testing.T, node int, method, path, headers, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.c.Nodes[node].REST+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.c.AdminToken)
	for line := range strings.Lines(headers) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); {
		case value == "":
			request.Header.Del(name)
		case name == "Host":
			request.Host = value
		default:
			request.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
