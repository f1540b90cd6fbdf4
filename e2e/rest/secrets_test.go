// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// both runs a test at the node beside the primary, and at the one beside the standby.
func both(t *testing.T, f func(t *testing.T, node int, prefix string)) {
	t.Helper()
	for node, name := range []string{"primary", "standby"} {
		t.Run(name, func(t *testing.T) { f(t, node, strings.ToLower(t.Name())+"/") })
	}
}

// readerAt is who reads: nobody has to say who he is; beside the standby only who
// wrote something sees it at once.
func readerAt(node int) string {
	if node == 0 {
		return ""
	}
	return shared.AdminToken
}

// TestLife is a secret's life: each step sees the ones before at once, at either
// node.
func TestLife(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		name, path := prefix+"a.b+c@d-e_f", "/v1/secrets/"+prefix+"a.b+c@d-e_f"
		escaped := "/v1/secrets/" + strings.ReplaceAll(name, "/", "%2F")
		admin, reader := shared.AdminToken, readerAt(node)

		a := want(t, 201, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":%q,"kind":"manual","value":"rest canary 1","description":"about it"}`, name))
		if a.field("value") != "rest canary 1" || a.field("name") != name || a.field("kind") != "manual" || a.field("format") != "opaque" ||
			a.header.Get("Location") != path || a.header.Get("ETag") != `"1"` {
			t.Errorf("created: %s %v", a.text, a.header)
		}
		for _, p := range []string{path, escaped, path + "?version=1"} {
			if a := want(t, 200, node, reader, "GET", p, ""); a.field("value") != "rest canary 1" || a.header.Get("ETag") != `"1"` {
				t.Errorf("%s: got %s", p, a.text)
			}
		}
		want(t, 409, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":%q,"kind":"manual","value":"x"}`, name))

		a = want(t, 200, node, admin, "PUT", escaped, `{"value":"rest canary 2\n\u00e9\ud83d\ude00","grace_period_secs":3600}`, "If-Match", `"1"`)
		if a.fields["version"] != 2.0 || a.field("description") != "about it" || a.fields["grace_period_secs"] != 3600.0 || strings.Contains(a.text, "canary") {
			t.Errorf("updated: %s", a.text)
		}
		want(t, 412, node, admin, "PUT", path, `{"value":"x"}`, "If-Match", `"1"`)
		want(t, 412, node, admin, "DELETE", path, "", "If-Match", `"1"`)
		want(t, 400, node, admin, "PUT", path, `{"value":"x"}`, "If-Match", `W/"2"`)
		want(t, 400, node, admin, "PUT", path, `{"value":"x"}`, "If-Match", `"1", "2"`)
		if a := want(t, 200, node, reader, "GET", path, ""); a.field("value") != "rest canary 2\n\u00e9\U0001F600" {
			t.Errorf("read: got %s", a.text)
		}
		if a := want(t, 200, node, reader, "GET", path+"?version=1", ""); a.field("value") != "rest canary 1" {
			t.Errorf("in grace: got %s", a.text)
		}
		a = want(t, 200, node, admin, "GET", path+"/versions", "")
		if strings.Count(a.text, `"version"`) != 2 || strings.Index(a.text, `"stage":"current"`) > strings.Index(a.text, `"stage":"previous"`) {
			t.Errorf("versions: %s", a.text)
		}
		for value, version := range map[string]any{`"rest canary 1"`: 1.0, `"rest canary 2\n\u00e9\ud83d\ude00"`: 2.0, `"rest canary 3"`: nil} {
			a := want(t, 200, node, reader, "POST", path+"/verify", `{"value":`+value+`}`)
			if a.fields["version"] != version || a.fields["valid"] != (version != nil) {
				t.Errorf("verify %s: %s", value, a.text)
			}
		}
		want(t, 400, node, admin, "POST", path+"/rotate", "")
		want(t, 404, node, reader, "GET", path+"?version=9", "")

		// The SQL face has the same secret.
		conn := shared.Connect(t, shared.DSN(node, shared.User))
		if got := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name); got != "rest canary 2\n\u00e9\U0001F600" {
			t.Errorf("by SQL: got %q", got)
		}
		cluster.Text(t, conn, "SELECT vault.put_secret($1, $2)::text", name, "rest canary 4")
		if node == 0 {
			if a := want(t, 200, node, reader, "GET", path, ""); a.field("value") != "rest canary 4" {
				t.Errorf("after a put by SQL: got %s", a.text)
			}
		}

		want(t, 204, node, admin, "DELETE", path, "")
		want(t, 404, node, admin, "GET", path, "")
		want(t, 404, node, admin, "GET", path+"/versions", "")
		want(t, 404, node, admin, "PUT", path, `{"value":"x"}`)
		want(t, 404, node, admin, "POST", path+"/rotate", "")
		want(t, 404, node, admin, "DELETE", path, "")
		a = want(t, 201, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":%q,"kind":"manual","value":"rest canary 5"}`, name))
		if a.fields["version"] != 4.0 {
			t.Errorf("a name's versions go on: %s", a.text)
		}
	})
	for _, canary := range []string{"rest canary"} {
		shared.NeverSent(t, canary)
		for _, n := range shared.Nodes {
			log, err := os.ReadFile(n.Log)
			if err != nil || strings.Contains(string(log), canary) || strings.Contains(string(log), shared.AdminToken) {
				t.Errorf("the log of %s: %v, or it has a value or a token", n.Name, err)
			}
		}
	}
	shared.NeverSent(t, shared.AdminToken)
}

// create makes a secret of what stands in a request behind its name.
func create(t *testing.T, status, node int, name, rest string) answer {
	t.Helper()
	return want(t, status, node, shared.AdminToken, "POST", "/v1/secrets", fmt.Sprintf(`{"name":%q,%s}`, name, rest))
}

// TestKinds is what a secret can be made of: a random value, which is rotated, or any
// bytes.
func TestKinds(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin, reader, path := shared.AdminToken, readerAt(node), "/v1/secrets/"+prefix
		// Made by the node, and rotated.
		a := create(t, 201, node, prefix+"auto", `"kind":"automatic","rotation_interval_secs":86400,"grace_period_secs":60`)
		first := a.field("value")
		if raw, err := base64.RawURLEncoding.DecodeString(first); err != nil || len(raw) != 32 {
			t.Errorf("made: %s", a.text)
		}
		second := want(t, 200, node, admin, "POST", path+"auto/rotate", "").field("value")
		if got := want(t, 200, node, reader, "GET", path+"auto", "").field("value"); got != second || got == first {
			t.Errorf("rotated: read %q, answered %q, before %q", got, second, first)
		}
		if a := want(t, 200, node, reader, "POST", path+"auto/verify", fmt.Sprintf(`{"value":%q}`, first)); a.fields["version"] != 1.0 {
			t.Errorf("in grace: %s", a.text)
		}

		// When it is rotated next: an interval from now, or as is said.
		a = want(t, 200, node, admin, "PUT", path+"auto", `{"rotation_interval_secs":3600,"next_rotation_at":"2031-02-03T04:05:06+01:00"}`)
		if a.field("next_rotation_at") != "2031-02-03T03:05:06Z" || a.fields["rotation_interval_secs"] != 3600.0 {
			t.Errorf("rescheduled: %s", a.text)
		}
		a = want(t, 200, node, admin, "PUT", path+"auto", `{"rotation_interval_secs":7200}`)
		if next, err := time.Parse(time.RFC3339, a.field("next_rotation_at")); err != nil || time.Until(next) < 105*time.Minute || time.Until(next) > 121*time.Minute {
			t.Errorf("an interval from now: %s", a.text)
		}
		want(t, 400, node, admin, "PUT", path+"auto", `{"next_rotation_at":"tomorrow"}`)
		want(t, 400, node, admin, "PUT", path+"auto", `{"next_rotation_at":"9999-12-31T23:59:59-01:00"}`) // 10000
		cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "UPDATE vault.secrets SET next_rotation_at = 'infinity' WHERE name = '"+prefix+"auto'")
		if a = want(t, 200, node, admin, "PUT", path+"auto", `{"description":"dated by a superuser"}`); a.fields["next_rotation_at"] != nil {
			t.Errorf("a date that JSON cannot say: %s", a.text)
		}
		want(t, 200, node, admin, "GET", "/v1/secrets?prefix="+prefix, "")
		want(t, 400, node, admin, "PUT", path+"auto", `{"password":"x"}`)

		// Any bytes.
		binary := base64.StdEncoding.EncodeToString([]byte("rest\x00\xff\xfe"))
		create(t, 201, node, prefix+"bin", fmt.Sprintf(`"kind":"manual","value_base64":%q`, binary))
		if a := want(t, 200, node, reader, "GET", path+"bin", ""); a.field("value_base64") != binary || a.fields["value"] != nil {
			t.Errorf("bytes: %s", a.text)
		}
		if a := want(t, 200, node, reader, "POST", path+"bin/verify", fmt.Sprintf(`{"value_base64":%q}`, binary)); a.fields["version"] != 1.0 {
			t.Errorf("bytes: %s", a.text)
		}
		large := strings.Repeat("x", 512<<10)
		create(t, 201, node, prefix+"large", `"kind":"manual","value":"`+large+`"`)
		if a := want(t, 200, node, reader, "GET", path+"large", ""); a.field("value") != large {
			t.Errorf("the largest value: %d bytes came", len(a.field("value")))
		}
	})
}

// TestPairs is a user name and a password, of which the one or the other changes.
func TestPairs(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin, reader, path := shared.AdminToken, readerAt(node), "/v1/secrets/"+prefix
		a := create(t, 201, node, prefix+"pair", `"kind":"automatic","username":"u","password":"rest pair \"1\""`)
		if a.field("format") != "userpass" || a.field("username") != "u" || a.field("password") != `rest pair "1"` || a.fields["value"] != nil {
			t.Errorf("pair: %s", a.text)
		}
		want(t, 200, node, admin, "PUT", path+"pair", `{"password":"rest pair 2"}`)
		want(t, 200, node, admin, "PUT", path+"pair", `{"username":"v"}`)
		if a = want(t, 200, node, reader, "GET", path+"pair", ""); a.field("username") != "v" || a.field("password") != "rest pair 2" {
			t.Errorf("pair: %s", a.text)
		}
		if a := want(t, 200, node, reader, "POST", path+"pair/verify", `{"value":"rest pair 2"}`); a.fields["version"] != 3.0 {
			t.Errorf("a pair's password: %s", a.text)
		}
		if a = want(t, 200, node, admin, "POST", path+"pair/rotate", ""); a.field("username") != "v" || len(a.field("password")) != 43 {
			t.Errorf("pair rotated: %s", a.text)
		}
		want(t, 400, node, admin, "PUT", path+"pair", `{"value":"x"}`)
		a = create(t, 201, node, prefix+"made", `"kind":"automatic","username":"u"`)
		if len(a.field("password")) != 43 {
			t.Errorf("a pair's password is made: %s", a.text)
		}
	})
	shared.NeverSent(t, "rest pair")
}

// TestRefusedBodies: what a secret cannot be made of is told, and not quoted.
func TestRefusedBodies(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin, reader, path := shared.AdminToken, readerAt(node), "/v1/secrets/"+prefix
		large := strings.Repeat("x", 512<<10)
		create(t, 201, node, prefix+"auto", `"kind":"automatic"`)
		for _, rest := range []string{
			`"kind":"manual"`, `"kind":"manual","value":"s3cret","next_rotation_at":"2031-02-03T04:05:06Z"`, `"kind":"other","value":"s3cret"`, `"value":"s3cret"`, `"kind":"manual","value":"s3cret","value_base64":"eA=="`,
			`"kind":"manual","value":"s3cret","username":"u"`, `"kind":"manual","password":"s3cret"`, `"kind":"manual","username":"u"`,
			`"kind":"manual","value":""`, `"kind":"manual","value_base64":""`, `"kind":"manual","value_base64":"s3cret!"`, `"kind":"manual","value":"s3cret\u0000"`,
			`"kind":"manual","value":"s3cret","rotation_interval_secs":60`, `"kind":"automatic","rotation_interval_secs":-1`, `"kind":"manual","value":"s3cret","grace_period_secs":4000000000`,
			`"kind":"manual","value":"s3cret","allowed_cidrs":["s3cret"]`, `"kind":"manual","value":"s3cret","allowed_cidrs":["10.0.0.1/8"]`,
			`"kind":"manual","value":"s3cret","description":"` + strings.Repeat("d", 4097) + `"`,
			`"kind":"manual","value":"` + large + `x"`, `"kind":"manual","value":"s3cret","color":"red"`,
		} {
			if a := create(t, 400, node, prefix+"none", rest); strings.Contains(a.text, "s3cret") {
				t.Errorf("%.60s: the answer quotes it: %s", rest, a.text)
			}
		}
		want(t, 404, node, reader, "GET", path+"none", "")
		want(t, 404, node, admin, "PUT", path+"none", `{"description":"x"}`)
		want(t, 413, node, admin, "PUT", path+"auto", `{"value":"`+strings.Repeat("x", 4<<20)+`"}`)
		want(t, 415, node, admin, "PUT", path+"auto", `{"value":"x"}`, "Content-Type", "text/plain")
		want(t, 415, node, admin, "PUT", path+"auto", `{"value":"x"}`, "Content-Encoding", "gzip")
		want(t, 400, node, admin, "PUT", path+"auto", `{"value":"x"`)
		want(t, 400, node, admin, "PUT", path+"auto?color=red", `{"value":"x"}`)
		want(t, 400, node, reader, "GET", path+"auto?version=0", "")
		want(t, 400, node, reader, "GET", path+"auto?version=1&version=2", "")
		want(t, 400, node, reader, "POST", path+"auto/verify", `{}`)
		for _, name := range []string{"..", "a//b", "a/", "a%00b", "a%252Fb", "%E9", "*", "a%2F..%2Fb", strings.Repeat("n", 256)} {
			want(t, 400, node, reader, "GET", "/v1/secrets/"+name, "")
			want(t, 400, node, admin, "PUT", "/v1/secrets/"+name, `{"value":"x"}`)
		}
	})
}

// TestList is metadata page by page, of what the role may list.
func TestList(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		for i := range 5 {
			want(t, 201, node, shared.AdminToken, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%s%d/x","kind":"manual","value":"v"}`, prefix, i))
		}
		got, path := []string{}, "/v1/secrets?limit=2&prefix="+prefix
		for pages := 0; path != "" && pages < 10; pages++ {
			a := want(t, 200, node, shared.AdminToken, "GET", path, "")
			for _, part := range strings.Split(a.text, `"name":"`)[1:] {
				name, _, _ := strings.Cut(part, `"`)
				got = append(got, strings.TrimPrefix(name, prefix))
			}
			link := a.header.Get("Link")
			path = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		}
		if s := strings.Join(got, " "); s != "0/x 1/x 2/x 3/x 4/x" {
			t.Errorf("got %s", s)
		}
		some := token(t, "list", prefix+"1/*", "list", prefix+"3/x", "read", prefix+"*")
		a := want(t, 200, node, some, "GET", "/v1/secrets", "")
		if strings.Count(a.text, `"name"`) != 2 || !strings.Contains(a.text, prefix+"1/x") || !strings.Contains(a.text, prefix+"3/x") {
			t.Errorf("filtered: %s", a.text)
		}
		// An exact name that is not there, with others behind it that are listed by their own rule.
		behind := token(t, "list", prefix+"4/x", "list", prefix+"4")
		for _, query := range []string{"", "?limit=1"} {
			if a := want(t, 200, node, behind, "GET", "/v1/secrets"+query, ""); strings.Count(a.text, `"name"`) != 1 || a.header.Get("Link") != "" {
				t.Errorf("%q: %s, and then %q", query, a.text, a.header.Get("Link"))
			}
		}
		if a := want(t, 200, node, token(t), "GET", "/v1/secrets", ""); a.text != "[]\n" {
			t.Errorf("no rule: %s", a.text)
		}
		want(t, 403, node, some, "GET", "/v1/secrets/"+prefix+"2/x/versions", "")
		want(t, 401, node, "", "GET", "/v1/secrets", "")
		for _, query := range []string{"limit=0", "limit=x", "prefix=%00", "after=*", "color=red", "limit=1&limit=2", "%zz"} {
			want(t, 400, node, shared.AdminToken, "GET", "/v1/secrets?"+query, "")
		}
	})
}

// TestMany: what can be read of a list of names; nothing tells why another is not
// there.
func TestMany(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		for name, more := range map[string]string{
			"a": `"value":"rest many 1"`, "b": `"username":"u","password":"rest many 2"`, "c": `"value_base64":"/wA="`, "d": `"value":"x","allowed_cidrs":["10.0.0.0/8"]`, "e": `"value":"x"`,
		} {
			want(t, 201, node, shared.AdminToken, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%s%s","kind":"manual",%s}`, prefix, name, more))
		}
		shared.WaitReplayed(t, 1)
		some := token(t, "read", prefix+"a", "read", prefix+"b", "read", prefix+"c", "read", prefix+"d", "read", prefix+"none")
		body := strings.ReplaceAll(`{"names":["P/c","P/none","P/a","P/d","P/e","P/b"]}`, "P/", prefix)
		a := want(t, 200, node, some, "POST", "/v1/batch/secrets", body)
		var got []map[string]any
		if err := json.Unmarshal([]byte(a.text), &got); err != nil || len(got) != 3 || got[0]["value_base64"] != "/wA=" || got[1]["value"] != "rest many 1" || got[2]["password"] != "rest many 2" {
			t.Errorf("%v: %s", err, a.text)
		}
		if a := want(t, 200, node, shared.AdminToken, "POST", "/v1/batch/secrets", `{"names":[]}`); a.text != "[]\n" {
			t.Errorf("none: %s", a.text)
		}
		want(t, 400, node, shared.AdminToken, "POST", "/v1/batch/secrets", `{}`)
		want(t, 400, node, shared.AdminToken, "POST", "/v1/batch/secrets", `{"names":[".."]}`)
		want(t, 400, node, shared.AdminToken, "POST", "/v1/batch/secrets", `{"names":["`+strings.Repeat(`a","`, 256)+`a"]}`)
	})
	shared.NeverSent(t, "rest many")
}

// TestMethods: what a path does not take, it says.
func TestMethods(t *testing.T) {
	if a := want(t, 405, 0, shared.AdminToken, "PATCH", "/v1/secrets/a", ""); a.header.Get("Allow") != "DELETE, GET, HEAD, OPTIONS, PUT" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	want(t, 404, 0, shared.AdminToken, "GET", "/v1/secret/data/a", "")
	want(t, 403, 0, "", "GET", "/v1/secrets/a", "", "Origin", "http://evil.example")
	want(t, 403, 0, "", "GET", "/v1/secrets/a", "", "Host", "evil.example")
}
