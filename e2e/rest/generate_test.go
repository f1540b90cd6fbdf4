// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// An attempt is what one connection sends.
type attempt struct {
	text    string
	limited bool // a token that may read hostile/open is in it
	whole   bool // all of it was sent: an answer comes without more
}

// generator makes requests that nobody should send, most of them nearly right.
type generator struct {
	*rand.Rand
	admin, limited, other string // tokens

	odds int // one in so many is not as it should be
}

// generate makes the i-th attempt of a seed, whatever came before.
func generate(seed uint64, i int, g generator) attempt {
	g.Rand = rand.New(rand.NewPCG(seed, uint64(i)))
	g.odds = []int{3, 20, 100}[g.IntN(3)]
	e := attempt{whole: true}
	n := 1
	if g.IntN(10) == 0 {
		n = 2 + g.IntN(3)
	}
	for k := range n {
		e.text += g.request(&e, k == n-1)
	}
	if g.odd() {
		e.text, e.whole = g.damage(e.text), false
	}
	return e
}

func (g generator) of(list ...string) string { return list[g.IntN(len(list))] }

// seldom is one of the list, but most often the first.
func (g generator) seldom(list ...string) string {
	if !g.odd() {
		return list[0]
	}
	return g.of(list...)
}

func (g generator) odd() bool { return g.IntN(g.odds) == 0 }

func (g generator) bytes(most int) string {
	b := make([]byte, g.IntN(most+1))
	for i := range b {
		b[i] = byte(g.UintN(256))
	}
	return string(b)
}

func (g generator) request(e *attempt, last bool) string {
	who, name := g.who(e)
	method, path, body, kind := g.sensible(name)
	if g.odds == 3 || g.odd() {
		method, path = g.target(name)
	}
	if g.odds == 3 || g.odd() {
		body, kind = g.body(name)
	}
	var b strings.Builder
	b.WriteString(method + g.seldom(" ", "  ", "\t") + path + " " + g.seldom("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1.1", "") + "\r\n")
	b.WriteString("Host: " + g.seldom("127.0.0.1", "localhost", "[::1]:8200", "evil.example", "", "127.0.0.1:0", "[", "a:b:c", "127.0.0.1\r\nHost: localhost") + "\r\n" + who + g.headers())
	if kind != "" {
		b.WriteString("Content-Type: " + kind + "\r\n")
	}
	if last {
		b.WriteString(g.seldom("Connection: close\r\n", "Connection: Close, x\r\n"))
	}
	switch {
	case g.odd(): // another length than it has
		e.whole = false
		b.WriteString("Content-Length: " + g.of("-1", "x", "", "1e3", "0x10", "99999999999999999999", "4294967297", strconv.Itoa(len(body)+1), "+"+strconv.Itoa(len(body)), strconv.Itoa(len(body))+"\r\nContent-Length: 1") + "\r\n\r\n" + body)
	case g.IntN(8) == 0: // in pieces
		broken := g.odd()
		e.whole = e.whole && !broken
		b.WriteString("Transfer-Encoding: " + g.seldom("chunked", "Chunked", "chunked, chunked", "gzip, chunked", "identity", "xchunked", " chunked\r\nContent-Length: 3") + "\r\n\r\n" + g.chunks(body, broken))
	default:
		if body != "" || g.IntN(2) == 0 {
			b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
		}
		b.WriteString("\r\n" + body)
	}
	return b.String()
}

// who says who asks, and which secret he asks for: an administrator's requests do
// no harm to those that others must not see.
func (g generator) who(e *attempt) (header, name string) {
	name = g.of("hostile/open", "hostile/private", "hostile/pair", "hostile/bytes", "hostile/none", "x", "")
	bearer := g.seldom("Authorization: Bearer ", "authorization: bearer ", "Authorization:Bearer\t", "Authorization: Basic ", "Authorization: Bearer Bearer ", "Authorization: ")
	switch g.IntN(8) {
	case 0, 1:
		e.limited = true
		return bearer + g.limited + g.seldom("\r\n", " \r\n", "x\r\n", "\r\nAuthorization: Bearer "+g.other+"\r\n"), name
	case 2, 3:
		name = "scratch/" + g.of("a", "b", "c", "d/e", "f.g")
		return bearer + g.admin + g.seldom("\r\n", " \r\n", "x\r\n"), name
	case 4:
		return bearer + g.other + "\r\n", name
	case 5:
		return bearer + g.of("", "x", "hvt_", strings.Repeat("h", 600), g.printable(60), g.limited[:len(g.limited)-1], strings.ToUpper(g.limited)) + "\r\n", name
	}
	return "", name
}

// sensible is a request as it should be.
func (g generator) sensible(name string) (method, path, body, kind string) {
	one, json := "/v1/secrets/"+name, "application/json"
	value := `{"value":"` + hostileCanary + g.of("", "1", "2", strings.Repeat("v", g.IntN(6000))) + `"}`
	switch g.IntN(13) {
	case 0:
		return "PUT", one, value, json
	case 1:
		return "PUT", one, `{"description":"d","grace_period_secs":` + strconv.Itoa(g.IntN(100)) + `}`, json
	case 2:
		return "DELETE", one, "", ""
	case 3:
		return "POST", one + "/rotate", "", ""
	case 4:
		return "GET", one + "/versions", "", ""
	case 5, 6:
		return "POST", one + "/verify", value, json
	case 7:
		return "GET", "/v1/secrets?limit=5&prefix=" + name, "", ""
	case 8:
		return "POST", "/v1/batch/secrets", `{"names":["` + name + `","x"]}`, json
	case 9:
		return "POST", "/v1/secrets", `{"name":"` + name + `","kind":"automatic"}`, json
	case 10:
		return "POST", "/v1/secrets", `{"name":"` + name + `","kind":"manual",` + value[1:], json
	case 11:
		return "PUT", one, strings.TrimSuffix(value, "}") + `,"allowed_cidrs":["127.0.0.0/8"]}`, json
	}
	return "GET", one, "", ""
}

func (g generator) target(name string) (method, path string) {
	switch g.IntN(6) {
	case 0, 1:
		name = strings.ReplaceAll(name, "/", g.of("%2F", "%2f", "//", "/./", "/../", "%252F", "\\", "%5C", "/%2e%2e/"))
	case 2:
		name = g.of(g.printable(20), strings.Repeat("n", g.IntN(300)), "%"+g.printable(3), "%c0%ae%c0%ae/"+name, "a%00"+name, name+";v=1", "é", strings.Repeat("a/", g.IntN(4000)), "..", ".", "*", "verify", name+"%20", "%F0%9F%98%80")
	}
	verb := g.of("", "", "", "/verify", "/rotate", "/versions", "/verify/", "/VERIFY", "/verify/verify", "%2Fverify", "/")
	path = g.seldom("/v1/secrets/"+name+verb, "/v1/secrets", "/v1/batch/secrets", "/v1/roles", "/v1/roles/"+name, "/v1/tokens/"+name, "/healthz", "/readyz", "/", "*", "", "/v1/secrets/../secrets/"+name, "//v1/secrets/"+name,
		"http://127.0.0.1/v1/secrets/"+name, "http://evil.example/v1/secrets/"+name, "/v1/sys/health", "/v1/secret/data/"+name, "/debug/pprof/heap", "/metrics", "127.0.0.1:80")
	path += g.seldom("", "?version=1", "?version=-1", "?version=2147483648", "?version=1&version=2", "?limit=1", "?limit=0", "?after="+name, "?prefix="+name, "?prefix=%00", "?"+g.printable(40), "?", "#x", "?"+strings.Repeat("a=b&", g.IntN(200)), "?require=kms,primary", "?a;b")
	method = g.of("GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "", g.printable(10))
	if fits := map[string]string{"/verify": "POST", "/rotate": "POST", "/versions": "GET"}[verb]; fits != "" && g.IntN(3) > 0 {
		method = fits
	}
	return method, path
}

// printable is text that can stand in a request's line.
func (g generator) printable(most int) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '%'
		}
		return r
	}, g.bytes(most))
}

func (g generator) headers() string {
	var b strings.Builder
	if g.IntN(20) == 0 {
		b.WriteString("If-Match: \"" + g.of("1", "2", "99") + "\"\r\n")
	}
	for g.odd() {
		b.WriteString(g.of(
			`If-Match: "1"`, `If-Match: *`, `If-Match: W/"1"`, `If-Match: "1", "2"`, `If-Match: "99999999999"`, "If-Match: ", "If-Match: \""+g.printable(8),
			"Origin: null", "Origin: http://evil.example", "Origin: http://127.0.0.1", "Origin: %", "Sec-Fetch-Site: cross-site", "X-Request-Id: "+g.printable(80), "X-Request-Id: a\r\nX-Request-Id: b",
			"X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: ::ffff:10.0.0.1, evil", "Forwarded: for=10.0.0.1", "X-Real-Ip: 10.0.0.1", "X-HTTP-Method-Override: DELETE", "X-Original-Url: /v1/secrets/hostile/private",
			"Content-Encoding: gzip", "Accept-Encoding: gzip", "Accept: text/html", "Range: bytes=0-1", "Cookie: "+g.printable(200), "TE: trailers", "Trailer: Authorization", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "Upgrade: websocket",
			"Expect: 100-continue", "Expect: "+g.printable(9), "Transfer-Encoding: identity", "Keep-Alive: timeout=9", strings.Repeat("X", 1+g.IntN(300))+": "+strings.Repeat("x", g.IntN(3000)), strings.Repeat("a: b\r\n", g.IntN(200))+"c: d", "X: "+strings.Repeat("y", g.IntN(40000)),
			": x", "no colon", " folded", "X : y", "X:\x00y", "X: \x7f\xff", "X: a\n Y: b", "X: "+g.bytes(20)) + "\r\n")
	}
	return b.String()
}

// hostileCanary is in bodies, where values are: no server and no log may see it.
const hostileCanary = "body canary 7uQ2xWmZ"

// body is a body and its type.
func (g generator) body(name string) (body, kind string) {
	kind = g.seldom("application/json", "application/json; charset=utf-8", "application/json; charset=latin1", "text/plain", "", "\"", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; a=b; a=c", "application/"+g.printable(5))
	value := g.of(hostileCanary, hostileCanary, hostileCanary+`\u0000`, hostileCanary+`\n`, hostileCanary+`\ud83d\ude00`, hostileCanary+`\ud83d`, hostileCanary+"\xff", hostileCanary+"é", "", strings.Repeat("v", g.IntN(2000)), g.bytes(30))
	body = g.of("", `{}`, `[]`, `null`, `{"value":"%v"}`, `{"value":"%v"}`, `{"value":"%v","grace_period_secs":60}`, `{"value_base64":"Ym9keSBjYW5hcnkgN3VRMnhXbVo="}`, `{"value_base64":"%v"}`, `{"username":"u","password":"%v"}`, `{"password":"%v"}`,
		`{"names":["%n"]}`, `{"names":["hostile/open","hostile/private","hostile/pair","hostile/none"]}`, `{"names":[`+strings.Repeat(`"%n",`, g.IntN(300))+`"x"]}`, `{"names":["%v"]}`, `{"names":null}`,
		`{"name":"%n","kind":"manual","value":"%v"}`, `{"name":"%n","kind":"automatic"}`, `{"name":"%n","kind":"automatic","rotation_interval_secs":3600,"grace_period_secs":%d}`, `{"name":"%n","kind":"manual","username":"u","password":"%v"}`, `{"name":"%v","kind":"manual","value":"x"}`, `{"name":"%n","kind":"%v","value":"x"}`,
		`{"description":"d\u0000"}`, `{"description":"`+strings.Repeat("d", 4000+g.IntN(200))+`"}`, `{"description":"é\ud83d\ude00"}`, `{"allowed_cidrs":["10.0.0.0/8","fd00::/8"]}`, `{"allowed_cidrs":["%v"]}`, `{"allowed_cidrs":["::ffff:10.0.0.0/104","0.0.0.0/0"]}`, `{"allowed_cidrs":[`+strings.Repeat(`"10.0.0.0/8",`, g.IntN(80))+`"::/0"]}`,
		`{"grace_period_secs":%d}`, `{"rotation_interval_secs":%d}`, `{"value":"%v","value":"%v"}`, `{"value":{"a":"%v"}}`, `{"value":["%v"]}`, strings.Repeat(`[`, g.IntN(5000)), strings.Repeat(`{"a":`, g.IntN(2000)), `{"value":"%v"}{"value":"%v"}`, "\xef\xbb\xbf{}", `{"value":"%v`, `{"val`, g.bytes(200))
	body = strings.NewReplacer("%v", value, "%n", name, "%d", g.of("0", "1", "-1", "3600", "3153600000", "3153600001", "999999999999999999", "1.5", "1e9", "\"1\"", "0.0")).Replace(body)
	if strings.HasPrefix(name, "scratch/") {
		body = strings.ReplaceAll(body, "hostile/", "scratch/")
	}
	switch g.IntN(400) {
	case 0:
		body = `{"value":"` + strings.Repeat("v", 1<<19+g.IntN(3)-1) + `"}`
	case 1:
		body = `{"value":"` + strings.Repeat(`\u0001`, 1<<17) + `"}`
	case 2:
		body = strings.Repeat("x", 4<<20+g.IntN(3)-1)
	}
	if g.IntN(4) == 0 && len(body) < 10_000 {
		body = g.damage(body)
	}
	return body, kind
}

func (g generator) chunks(body string, broken bool) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 1+g.IntN(1+len(body)))
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, g.seldom("", ";ext=1", "; "+g.printable(10)), body[:n])
		body = body[n:]
	}
	end := "0\r\n" + g.seldom("", "Authorization: Bearer x\r\n", "X: y\r\n") + "\r\n"
	if broken {
		end = g.of("", "0\r\n", "-1\r\n\r\n", "ffffffffffffffff\r\n", "x\r\n\r\n", "00000000000000000000\r\n\r\n")
	}
	return b.String() + end
}

// damage changes a text in a few places.
func (g generator) damage(text string) string {
	b := []byte(text)
	for range 1 + g.IntN(3) {
		if len(b) == 0 {
			return g.bytes(10)
		}
		at := g.IntN(len(b))
		to := min(len(b), at+1+g.IntN(8))
		switch g.IntN(5) {
		case 0:
			b[at] ^= 1 << g.UintN(8)
		case 1:
			b = append(b[:at:at], b[to:]...)
		case 2:
			b = append(b[:at:at], append([]byte(g.bytes(8)), b[at:]...)...)
		case 3:
			b = append(b[:to:to], b[at:]...)
		case 4:
			b = b[:at]
		}
	}
	return string(b)
}
