// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// A RESTDoor is one way in which a value can come to a node by REST.
type RESTDoor struct {
	// Name says what is special about it.
	Name string
	// In these texts stand %v for the value, %n for a secret's name, %b for the value
	// in base64, and %e for the value with each character escaped.
	method, path string
	headers      string // of lines
	body         string
	// Status is the one of the answer.
	Status int
	// Keeps says that the value can be read afterwards.
	Keeps bool
	// Quotes says that the answer has it, for who has sent it.
	Quotes bool
}

// A RESTClient asks a node as who has a token.
type RESTClient struct {
	Base, Token string
	HTTP        *http.Client
}

const (
	jsonBody = "Content-Type: application/json\n"
	// maxAnswer is more than any door is answered.
	maxAnswer = 4 << 20
)

// RESTDoors put, compare, and misplace values.
func RESTDoors() []RESTDoor {
	create := func(name, body string) RESTDoor {
		return RESTDoor{name, "POST", "/v1/secrets", jsonBody, `{"name":"%n",` + body + `}`, 201, true, true}
	}
	put := func(name, body string) RESTDoor {
		return RESTDoor{name, "PUT", "/v1/secrets/%n", jsonBody, body, 200, true, false}
	}
	refused := func(name, body string) RESTDoor {
		return RESTDoor{name, "PUT", "/v1/secrets/%n", jsonBody, body, 400, false, false}
	}
	verify := func(name, body string) RESTDoor {
		return RESTDoor{name, "POST", "/v1/secrets/%n/verify", jsonBody, body, 200, false, false}
	}
	head := func(name, method, path, headers string, status int) RESTDoor {
		return RESTDoor{name, method, path, headers, "", status, false, false}
	}
	return []RESTDoor{
		create("create", `"kind":"manual","value":"%v"`),
		create("create, escaped", `"kind":"manual","value":"%e"`),
		create("create, automatic", `"kind":"automatic","value":"%v"`),
		create("create, binary", `"kind":"manual","value_base64":"%b"`),
		create("create, password", `"kind":"manual","username":"u","password":"%v"`),
		create("create, user name", `"kind":"manual","username":"%v","password":"p"`),
		{"create, twice", "POST", "/v1/secrets", jsonBody, `{"name":"%n-there","kind":"manual","value":"%v"}`, 409, false, false},
		put("put", `{"value":"%v"}`),
		put("put, grace", `{"value":"%v","grace_period_secs":60}`),
		put("put, binary", `{"value_base64":"%b"}`),
		{"put, another version", "PUT", "/v1/secrets/%n", jsonBody + "If-Match: \"9\"\n", `{"value":"%v"}`, 412, false, false},
		{"put, no such secret", "PUT", "/v1/secrets/%n-none", jsonBody, `{"value":"%v"}`, 404, false, false},
		{"put, no token", "PUT", "/v1/secrets/%n", jsonBody + "Authorization:\n", `{"value":"%v"}`, 401, false, false},
		verify("verify, wrong", `{"value":"%v"}`),
		verify("verify, binary", `{"value_base64":"%b"}`),
		{"verify, no such secret", "POST", "/v1/secrets/%n-none/verify", jsonBody, `{"value":"%v"}`, 200, false, false},
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
		{"a kind", "POST", "/v1/secrets", jsonBody, `{"name":"%n-kind","kind":"%v","value":"x"}`, 400, false, false},
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
		head("in a cookie", "DELETE", "/v1/secrets/%n-none", "Cookie: %v=%v\n", 404),
		head("in its id", "DELETE", "/v1/secrets/%n-none", "X-Request-Id: %v %v\n", 404),
	}
}

// Names are the secrets that a door may have made for a canary.
func (d *RESTDoor) Names(c *Canary) []string {
	return []string{c.Secret, c.Secret + "-there", c.Secret + "-none", c.Secret + "-kind"}
}

// Open sends the canary and returns what the node answered.
func (d *RESTDoor) Open(ctx context.Context, r *RESTClient, c *Canary) (status int, answer string, err error) {
	for _, name := range d.Names(c)[:2] { // what the door is about, if there must be something
		if there := name != c.Secret; strings.Contains(d.path, "%n") && !there || strings.Contains(d.body, "%n-there") && there {
			if _, _, err := r.Do(ctx, "POST", "/v1/secrets", jsonBody, `{"name":"`+name+`","kind":"manual","value":"x"}`); err != nil {
				return 0, "", err
			}
		}
	}
	value := c.Value()
	fill := strings.NewReplacer("%v", value, "%n", c.Secret, "%b", base64.StdEncoding.EncodeToString([]byte(value)), "%e", escape(value, `\u%04x`))
	return r.Do(ctx, d.method, fill.Replace(d.path), fill.Replace(d.headers), fill.Replace(d.body))
}

// ReadBack has the value in all kinds of answers, and says whether it can be read.
func (r *RESTClient) ReadBack(ctx context.Context, c *Canary) (bool, error) {
	_, text, err := r.Do(ctx, "GET", "/v1/secrets/"+c.Secret, "", "")
	if err != nil {
		return false, err
	}
	for _, body := range [][2]string{{"/v1/batch/secrets", `{"names":["` + c.Secret + `"]}`}, {"/v1/secrets/" + c.Secret + "/verify", `{"value":"` + c.Value() + `"}`}} {
		if _, _, err := r.Do(ctx, "POST", body[0], jsonBody, body[1]); err != nil {
			return false, err
		}
	}
	return strings.Contains(text, c.Value()) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(c.Value()))), nil
}

// Generate has the node make a secret and its value, and another one.
func (r *RESTClient) Generate(ctx context.Context, name string) ([]*Canary, error) {
	var all []*Canary
	for _, request := range [][2]string{{"/v1/secrets", `{"name":"` + name + `","kind":"automatic"}`}, {"/v1/secrets/" + name + "/rotate", ""}} {
		_, text, err := r.Do(ctx, "POST", request[0], jsonBody, request[1])
		if err != nil {
			return all, err
		}
		var made struct{ Value string }
		if json.Unmarshal([]byte(text), &made) != nil || len(made.Value) != 43 {
			return all, errors.New("the node has made no value of 32 bytes")
		}
		all = append(all, &Canary{Door: "REST: made by the node", Secret: name, Head: made.Value[:20], Tail: made.Value[23:]})
	}
	return all, nil
}

// Do sends a request with the token, unless its headers say otherwise.
func (r *RESTClient) Do(ctx context.Context, method, path, headers, body string) (status int, answer string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, r.Base+path, strings.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("%s: the request cannot be made", method) // the cause would show the value
	}
	request.Header.Set("Authorization", "Bearer "+r.Token)
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
	response, err := r.HTTP.Do(request)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) { // its text has the path, which may have the value
			err = of.Err
		}
		return 0, "", fmt.Errorf("%s: %w", method, err)
	}
	defer func() { _ = response.Body.Close() }() // read as far as it counts
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, string(text), err
}
