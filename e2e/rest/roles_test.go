// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// label is a prefix for names of roles and tokens.
func label(prefix string) string { return strings.NewReplacer("/", "-", "_", "-").Replace(prefix) }

// TestManageRoles is a role's life by REST.
func TestManageRoles(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin, name := shared.AdminToken, label(prefix)+"pay"
		path := "/v1/roles/" + name
		a := want(t, 201, node, admin, "POST", "/v1/roles", fmt.Sprintf(`{"name":%q,"description":"pays","permissions":[{"action":"read","path":"pay/*"},{"action":"list","path":"*"}]}`, name))
		rules := `"permissions":[{"action":"list","path":"*"},{"action":"read","path":"pay/*"}]`
		if a.header.Get("Location") != path || a.field("name") != name || a.field("description") != "pays" || a.fields["is_admin"] != false ||
			a.field("created_at") == "" || !strings.Contains(a.text, rules) {
			t.Errorf("created: %s %v", a.text, a.header)
		}
		want(t, 409, node, admin, "POST", "/v1/roles", fmt.Sprintf(`{"name":%q,"permissions":[]}`, name))
		if a := want(t, 200, node, admin, "GET", path, ""); !strings.Contains(a.text, rules) {
			t.Errorf("read: %s", a.text)
		}
		if a := want(t, 200, node, admin, "GET", "/v1/roles", ""); !strings.Contains(a.text, `"name":"`+name+`"`) || !strings.Contains(a.text, `"name":"admin"`) {
			t.Errorf("listed: %s", a.text)
		}
		if a := want(t, 200, node, admin, "PUT", path+"/permissions", `{"permissions":[{"action":"*","path":"new/*"}]}`); !strings.Contains(a.text, `"permissions":[{"action":"*","path":"new/*"}]`) || a.field("description") != "pays" {
			t.Errorf("changed: %s", a.text)
		}
		want(t, 201, node, admin, "POST", "/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, name+"-t", name))
		if a := want(t, 409, node, admin, "DELETE", path, ""); a.field("code") != "in_use" {
			t.Errorf("with a token: %s", a.text)
		}
		want(t, 204, node, admin, "DELETE", "/v1/tokens/"+name+"-t", "")
		want(t, 204, node, admin, "DELETE", path, "")
		for _, c := range [][2]string{{"GET", path}, {"DELETE", path}, {"GET", "/v1/roles/"}, {"GET", "/v1/roles/%FF"}, {"GET", "/v1/roles/a%00b"}, {"DELETE", "/v1/roles/a%2Fb"}} {
			want(t, 404, node, admin, c[0], c[1], "")
		}
		want(t, 404, node, admin, "PUT", path+"/permissions", `{"permissions":[]}`)

		// The built-in one.
		if a := want(t, 200, node, admin, "GET", "/v1/roles/admin", ""); a.fields["is_admin"] != true || a.fields["created_at"] != nil {
			t.Errorf("admin: %s", a.text)
		}
		want(t, 400, node, admin, "DELETE", "/v1/roles/admin", "")
		want(t, 400, node, admin, "PUT", "/v1/roles/admin/permissions", `{"permissions":[]}`)
		want(t, 400, node, admin, "POST", "/v1/roles", `{"name":"admin","permissions":[]}`)

		for _, body := range []string{
			`{}`, `{"name":"x"}`, `{"permissions":[]}`, `{"name":"a/b","permissions":[]}`, `{"name":"..","permissions":[]}`, `{"name":"é","permissions":[]}`, `{"name":"","permissions":[]}`,
			`{"name":"x","permissions":{}}`, `{"name":"x","permissions":[{"action":"own","path":"a"}]}`, `{"name":"x","permissions":[{"action":"read","path":"../a"}]}`,
			`{"name":"x","permissions":[{"action":"read"}]}`, `{"name":"x","permissions":[{"action":"read","path":"a","more":1}]}`, `{"name":"x","permissions":[],"is_admin":1}`,
			`{"name":"x","permissions":[],"color":"red"}`, `{"name":"ip","is_admin":true}`, `{"name":"x","permissions":[],"description":"` + strings.Repeat("d", 4097) + `"}`,
			`{"name":"x","permissions":[` + strings.Repeat(`{"action":"read","path":"a"},`, 256) + `{"action":"read","path":"a"}]}`,
		} {
			want(t, 400, node, admin, "POST", "/v1/roles", body)
		}
		want(t, 400, node, admin, "PUT", path+"/permissions", `{}`)
		want(t, 415, node, admin, "POST", "/v1/roles", `{}`, "Content-Type", "text/plain")
		want(t, 400, node, admin, "GET", "/v1/roles?color=red", "")
	})
}

// TestManageTokens is a token's life by REST: what its role may, until it is revoked,
// at this node and, as soon as the servers show it, at the other.
func TestManageTokens(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin, name := shared.AdminToken, label(prefix)+"t"
		want(t, 201, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%sa","kind":"manual","value":"rest token canary"}`, prefix))
		want(t, 201, node, admin, "POST", "/v1/roles", fmt.Sprintf(`{"name":%q,"permissions":[{"action":"read","path":"%s*"}]}`, name, prefix))
		a := want(t, 201, node, admin, "POST", "/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, name, name))
		made := a.field("token")
		if a.header.Get("Location") != "/v1/tokens/"+name || a.field("name") != name || a.field("role") != name || !strings.HasPrefix(made, "hvt_") || len(made) != 47 {
			t.Errorf("created: %s %v", a.text, a.header)
		}
		a = want(t, 200, node, admin, "GET", "/v1/tokens", "") // its own write, though the standby may not have it yet
		if !strings.Contains(a.text, fmt.Sprintf(`{"name":%q,"role":%q,`, name, name)) || strings.Contains(a.text, "hvt_") || strings.Contains(a.text, "sha256") {
			t.Errorf("listed: %s", a.text)
		}
		shared.WaitReplayed(t, 1)
		for at := range shared.Nodes {
			want(t, 200, at, made, "GET", "/v1/secrets/"+prefix+"a", "")
			for _, c := range [][3]string{
				{"GET", "/v1/roles", ""},
				{"GET", "/v1/roles/" + name, ""},
				{"POST", "/v1/roles", `{"name":"mine","is_admin":true}`},
				{"PUT", "/v1/roles/" + name + "/permissions", `{"permissions":[{"action":"*","path":"*"}]}`},
				{"DELETE", "/v1/roles/" + name, ""},
				{"GET", "/v1/tokens", ""},
				{"POST", "/v1/tokens", `{"name":"mine","role":"admin"}`},
				{"DELETE", "/v1/tokens/" + name, ""},
			} {
				want(t, 403, at, made, c[0], c[1], c[2])
				want(t, 401, at, "", c[0], c[1], c[2])
				want(t, 401, at, "hvt_none", c[0], c[1], c[2])
			}
		}
		want(t, 409, node, admin, "POST", "/v1/tokens", fmt.Sprintf(`{"name":%q,"role":"admin"}`, name))
		for _, body := range []string{
			`{}`, `{"name":"x"}`, `{"role":"admin"}`, `{"name":"x","role":"none"}`, `{"name":"x","role":""}`, `{"name":"ip","role":"admin"}`, `{"name":"a/b","role":"admin"}`,
			`{"name":"x","role":"admin","token":"mine"}`, `{"name":"x","role":["admin"]}`,
		} {
			want(t, 400, node, admin, "POST", "/v1/tokens", body)
		}

		want(t, 204, node, admin, "DELETE", "/v1/tokens/"+name, "")
		want(t, 404, node, admin, "DELETE", "/v1/tokens/"+name, "")
		want(t, 404, node, admin, "DELETE", "/v1/tokens/", "")
		shared.WaitReplayed(t, 1)
		for at := range shared.Nodes {
			want(t, 401, at, made, "GET", "/v1/secrets/"+prefix+"a", "")
		}
		revoked := regexp.MustCompile(fmt.Sprintf(`{"name":%q,"role":%q,"created_at":"[^"]+","last_used_at":[^,]+,"revoked_at":"2`, name, name))
		if a := want(t, 200, node, admin, "GET", "/v1/tokens", ""); !revoked.MatchString(a.text) {
			t.Errorf("listed: %s", a.text)
		}
		want(t, 409, node, admin, "POST", "/v1/tokens", fmt.Sprintf(`{"name":%q,"role":"admin"}`, name)) // a name is one token's for ever
		// By mistake, in the place of something else: what it says goes nowhere either.
		for _, c := range [][3]string{
			{"GET", "/v1/roles?after=" + made, ""},
			{"GET", "/v1/tokens?after=" + made, ""},
			{"GET", "/v1/secrets?after=" + made, ""},
			{"GET", "/v1/secrets?prefix=" + made, ""},
			{"POST", "/v1/tokens", fmt.Sprintf(`{"name":"x","role":%q}`, made)},
			{"POST", "/v1/roles", fmt.Sprintf(`{"name":"x","permissions":[{"action":"read","path":%q}]}`, made)},
			{"PUT", "/v1/roles/x/permissions", fmt.Sprintf(`{"permissions":[{"action":"read","path":%q}]}`, made)},
		} {
			if a := want(t, 400, node, admin, c[0], c[1], c[2]); strings.Contains(a.text, made) {
				t.Errorf("%s %s: %s", c[0], c[1], a.text)
			}
		}
		shared.NeverSent(t, made)
	})
}

// TestAdminRole: a role that is an administrator's manages, itself too.
func TestAdminRole(t *testing.T) {
	want(t, 201, 1, shared.AdminToken, "POST", "/v1/roles", `{"name":"bosses","is_admin":true}`)
	boss := want(t, 201, 1, shared.AdminToken, "POST", "/v1/tokens", `{"name":"boss","role":"bosses"}`).field("token")
	shared.WaitReplayed(t, 1)
	for at := range shared.Nodes {
		want(t, 200, at, boss, "GET", "/v1/roles", "")
	}
	want(t, 201, 0, boss, "POST", "/v1/tokens", `{"name":"boss2","role":"bosses"}`)
	want(t, 204, 1, boss, "DELETE", "/v1/tokens/boss", "")
	// The standby may let it in for a moment still; the primary, which writes, does not.
	want(t, 401, 0, boss, "GET", "/v1/roles", "")
	want(t, 401, 1, boss, "POST", "/v1/tokens", `{"name":"boss3","role":"bosses"}`)
	want(t, 204, 0, shared.AdminToken, "DELETE", "/v1/tokens/boss2", "")
	want(t, 204, 0, shared.AdminToken, "DELETE", "/v1/roles/bosses", "")
}

// TestRevokedBehind: while the standby does not show yet that an administrator's token
// was revoked, that token changes nothing.
func TestRevokedBehind(t *testing.T) {
	want(t, 201, 1, shared.AdminToken, "POST", "/v1/tokens", `{"name":"behind","role":"admin"}`)
	late := want(t, 201, 1, shared.AdminToken, "POST", "/v1/tokens", `{"name":"late","role":"admin"}`).field("token")
	shared.WaitReplayed(t, 1)
	defer pauseReplay(t)()
	want(t, 204, 0, shared.AdminToken, "DELETE", "/v1/tokens/late", "")
	want(t, 401, 1, late, "POST", "/v1/tokens", `{"name":"later","role":"admin"}`)
	want(t, 401, 1, late, "DELETE", "/v1/tokens/behind", "")
	want(t, 401, 1, late, "PUT", "/v1/roles/x/permissions", `{"permissions":[]}`)
}

// TestRevokedReads: beside a standby that no longer replays, VAULT_MAX_STALENESS bounds
// how long a revoked token has values shown or compared. It bounds no list of names.
func TestRevokedReads(t *testing.T) {
	late, path := token(t, "*", "reads/*"), "/v1/secrets/reads/a"
	wrote := want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"reads/a","kind":"manual","value":"x"}`)
	shared.WaitReplayed(t, 1)
	node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_MAX_STALENESS": "2s"}).REST
	wantAt(t, 200, node, late, "GET", path, "")
	resume := pauseReplay(t)
	defer resume()
	withdraw(t, late, false)
	cluster.Eventually(t, "the bound to pass", func() bool { return call(t, node, late, "GET", path, "").field("code") == "stale" })
	wantAt(t, 503, node, late, "GET", path, "")
	wantAt(t, 503, node, late, "POST", path+"/verify", `{"value":"x"}`)
	wantAt(t, 503, node, late, "POST", "/v1/batch/secrets", `{"names":["reads/a"]}`)
	wantAt(t, 200, node, late, "GET", "/v1/secrets?prefix=reads/", "")
	// What the standby will not show for long is read at the primary, which knows.
	timeline, _, _ := strings.Cut(wrote.header.Get(readAfter), "/")
	ahead := timeline + "/FFFFFFFF/FFFFFFFF"
	wantAt(t, 200, node, shared.AdminToken, "GET", path, "", readAfter, ahead)
	wantAt(t, 401, node, late, "GET", path, "", readAfter, ahead)
	wantAt(t, 401, node, late, "POST", path+"/verify", `{"value":"x"}`, readAfter, ahead)
	wantAt(t, 401, node, late, "POST", "/v1/batch/secrets", `{"names":["reads/a"]}`, readAfter, ahead)
	resume()
	cluster.Eventually(t, "the standby to show it", func() bool { return call(t, node, late, "GET", path, "").status == 401 })
}

// TestNarrowIP: a role named ip is what narrows who comes without a token.
func TestNarrowIP(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin := shared.AdminToken
		for _, name := range []string{"open", "shut"} {
			want(t, 201, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%s%s","kind":"manual","value":"x"}`, prefix, name))
		}
		want(t, 201, node, admin, "POST", "/v1/roles", fmt.Sprintf(`{"name":"ip","permissions":[{"action":"read","path":"%sopen"}]}`, prefix))
		shared.WaitReplayed(t, 1)
		for at := range shared.Nodes {
			want(t, 200, at, "", "GET", "/v1/secrets/"+prefix+"open", "")
			want(t, 403, at, "", "GET", "/v1/secrets/"+prefix+"shut", "")
		}
		want(t, 204, node, admin, "DELETE", "/v1/roles/ip", "")
		shared.WaitReplayed(t, 1)
		want(t, 200, node, "", "GET", "/v1/secrets/"+prefix+"shut", "")
	})
}

// TestHostileNames: no spelling of a name gets past a role's rules.
func TestHostileNames(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin := shared.AdminToken
		for _, name := range []string{"in/a", "inside", "out"} {
			want(t, 201, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%s%s","kind":"automatic","value":"rest hostile canary"}`, prefix, name))
		}
		role := label(prefix)
		want(t, 201, node, admin, "POST", "/v1/roles", fmt.Sprintf(`{"name":"%sin","permissions":[{"action":"read","path":"%sin/*"}]}`, role, prefix))
		reader := want(t, 201, node, admin, "POST", "/v1/tokens", fmt.Sprintf(`{"name":"%sin","role":"%sin"}`, role, role)).field("token")
		shared.WaitReplayed(t, 1)
		for name, status := range map[string]int{
			"in/a": 200, "in%2Fa": 200, "%69n/a": 200, "in%2fa": 200,
			"out": 403, "inside": 403, "in": 403, "IN/a": 403, "In/a": 403, "in/none": 404,
			"in/../out": 400, "in%2F..%2Fout": 400, "in/%2e%2e/out": 400, "in%2F%2E%2E%2Fout": 400, "in/./a": 400, "in//a": 400, "in/": 400, "in%2F": 400,
			"in/*": 400, "*": 400, "in*": 400, "in%252Fa": 400, "in%5Ca": 400, "in/a%00": 400, "in%00/a": 400, "in/a%20": 400, "%20in/a": 400,
			"in%E2%88%95a": 400, "%EF%BD%89n/a": 400, "i%E2%80%8Bn/a": 400, "in%C0%AFa": 400, "in/a%0d%0aX:y": 400,
			"in/a/rotate": 405, "in%2Fa%2Frotate": 405,
		} {
			if a := want(t, status, node, reader, "GET", "/v1/secrets/"+prefix+name, ""); status != 200 && strings.Contains(a.text, "canary") {
				t.Errorf("%s: %s", name, a.text)
			}
		}
		body := fmt.Sprintf(`{"names":["%sin/a","%sinside","%sout","%sIN/a"]}`, prefix, prefix, prefix, prefix)
		if a := want(t, 200, node, reader, "POST", "/v1/batch/secrets", body); strings.Count(a.text, "canary") != 1 {
			t.Errorf("many: %s", a.text)
		}
		want(t, 403, node, reader, "POST", "/v1/secrets/"+prefix+"in/a/rotate", "")
		want(t, 403, node, reader, "DELETE", "/v1/secrets/"+prefix+"in/a", "")
	})
}

// TestPages: lists of roles and tokens go on where they ended.
func TestPages(t *testing.T) {
	for i := range 5 {
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/roles", fmt.Sprintf(`{"name":"page-%d","permissions":[]}`, i))
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/tokens", fmt.Sprintf(`{"name":"page-%d","role":"page-%d"}`, i, i))
	}
	for _, list := range []string{"/v1/roles", "/v1/tokens"} {
		var got []string
		for path := list + "?limit=2&after=page"; path != ""; {
			a := want(t, 200, 0, shared.AdminToken, "GET", path, "")
			var page []struct{ Name string }
			if err := json.Unmarshal([]byte(a.text), &page); err != nil || len(page) == 0 || len(page) > 2 {
				t.Fatalf("%v: %s", err, a.text)
			}
			for _, r := range page {
				if strings.HasPrefix(r.Name, "page-") {
					got = append(got, r.Name)
				}
			}
			path = strings.TrimSuffix(strings.TrimPrefix(a.header.Get("Link"), "<"), `>; rel="next"`)
		}
		if s := strings.Join(got, " "); s != "page-0 page-1 page-2 page-3 page-4" {
			t.Errorf("%s: got %s", list, s)
		}
		for _, query := range []string{"?limit=0", "?limit=x", "?prefix=p", "?after=a&after=b"} {
			want(t, 400, 0, shared.AdminToken, "GET", list+query, "")
		}
	}
}

// TestAtOnce: of many who make one name one does; and no role goes while a token of
// it is made.
func TestAtOnce(t *testing.T) {
	admin := shared.AdminToken
	statuses := make([]int, 16)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() {
			statuses[i] = call(t, shared.Nodes[i%2].REST, admin, "POST", "/v1/roles", `{"name":"once","permissions":[{"action":"read","path":"once"}]}`).status
		})
	}
	wg.Wait()
	made := 0
	for _, s := range statuses {
		if s == http.StatusCreated {
			made++
		} else if s != http.StatusConflict {
			t.Errorf("got %d", s)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	for i := range 20 {
		role := fmt.Sprintf("race-%d", i)
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/roles", fmt.Sprintf(`{"name":%q,"permissions":[]}`, role))
		var token, gone int
		wg.Go(func() {
			token = call(t, shared.Nodes[0].REST, admin, "POST", "/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, role, role)).status
		})
		wg.Go(func() { gone = call(t, shared.Nodes[1].REST, admin, "DELETE", "/v1/roles/"+role, "").status })
		wg.Wait()
		if !(token == 201 && gone == 409 || token == 400 && gone == 204) {
			t.Errorf("token %d, role gone %d", token, gone)
		}
	}
	super := shared.Connect(t, shared.SuperDSN(0))
	if n := cluster.Text(t, super, `SELECT count(*)::text FROM vault.admin_tokens t WHERE revoked_at IS NULL AND role_id IS NOT NULL
		AND NOT EXISTS (SELECT FROM vault.roles r WHERE r.id = t.role_id)`); n != "0" {
		t.Errorf("%s tokens have a role that is gone", n)
	}
}
