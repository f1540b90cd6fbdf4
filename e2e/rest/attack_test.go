// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestTexts: what the database cannot hold is the client's fault, and told so.
func TestTexts(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"texts/a","kind":"manual","value":"x"}`)
	for _, body := range []string{`{"description":"a\u0000b"}`, `{"value":"y","description":"\u0000"}`} {
		if a := want(t, 400, 0, shared.AdminToken, "PUT", "/v1/secrets/texts/a", body); a.field("code") != "invalid" {
			t.Errorf("%s: got %s", body, a.text)
		}
		want(t, 400, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"texts/b","kind":"manual","value":"x",`+body[1:])
	}
	if a := want(t, 200, 0, shared.AdminToken, "GET", "/v1/secrets/texts/a", ""); a.fields["version"] != 1.0 {
		t.Errorf("got %s", a.text)
	}
	want(t, 404, 0, shared.AdminToken, "GET", "/v1/secrets/texts/b", "")
}

// TestHeldName: many who want to write a name that somebody holds keep nobody from
// writing another.
func TestHeldName(t *testing.T) {
	for _, name := range []string{"held/a", "held/b"} {
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"`+name+`","kind":"manual","value":"x"}`)
	}
	holder := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, holder, "BEGIN")
	cluster.Exec(t, holder, "SELECT vault.put_secret('held/a', 'mine')")
	var writers sync.WaitGroup
	statuses := make(chan int, 40)
	for range cap(statuses) {
		writers.Go(func() {
			statuses <- call(t, shared.Nodes[0].REST, shared.AdminToken, "PUT", "/v1/secrets/held/a", `{"description":"mine"}`).status
		})
	}
	super := shared.Connect(t, shared.SuperDSN(0))
	waiting := func() string {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'vault_service' AND wait_event_type = 'Lock'")
	}
	cluster.Eventually(t, "somebody to wait for the name", func() bool { return waiting() != "0" })
	const patience = 5 * time.Second // of who waits for a name (hyperion_vault.lock_wait)
	for i := range 10 {
		began := time.Now()
		want(t, 200, 0, shared.AdminToken, "PUT", "/v1/secrets/held/b", `{"value":"x"}`)
		if took := time.Since(began); took > patience-time.Second { // else it has waited for one of them
			t.Errorf("write %d of another name took %v", i, took)
		}
	}
	if n := waiting(); n != "1" && n != "0" {
		t.Errorf("%s connections wait for one name", n)
	}
	cluster.Exec(t, holder, "COMMIT")
	writers.Wait()
	close(statuses)
	seen := map[int]int{}
	for s := range statuses {
		seen[s]++
	}
	if seen[200] == 0 || seen[200]+seen[503] != cap(statuses) {
		t.Errorf("those who waited: %v", seen)
	}
}

// TestHeldNames: who writes many names that somebody holds keeps no other token from
// writing another one.
func TestHeldNames(t *testing.T) {
	busy, other := token(t, "*", "heldmany/*"), token(t, "*", "heldmany/*")
	const names = 30
	name := func(i int) string { return fmt.Sprintf("heldmany/%d", i) }
	holder := shared.Connect(t, shared.DSN(0, shared.User))
	for i := range names + 1 {
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"`+name(i)+`","kind":"manual","value":"x"}`)
	}
	cluster.Exec(t, holder, "BEGIN")
	for i := range names {
		cluster.Exec(t, holder, "SELECT vault.put_secret('"+name(i)+"', 'mine')")
	}
	var writers sync.WaitGroup
	var enough atomic.Bool
	for i := range names {
		writers.Go(func() {
			for !enough.Load() && !t.Failed() {
				a := call(t, shared.Nodes[0].REST, busy, "PUT", "/v1/secrets/"+name(i), `{"description":"mine"}`)
				if a.status != 200 && !(a.status == 503 && a.field("code") == "busy") {
					t.Errorf("a write that waits: got %d %s", a.status, a.text)
				}
			}
		})
	}
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "some to wait for their names", func() bool {
		return cluster.Text(t, super, "SELECT (count(*) >= 4)::text FROM pg_stat_activity WHERE usename = 'vault_service' AND wait_event_type = 'Lock'") == "true"
	})
	for i := range 10 {
		began := time.Now()
		want(t, 200, 0, other, "PUT", "/v1/secrets/"+name(names), `{"value":"x"}`)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("write %d of another token took %v", i, took)
		}
	}
	enough.Store(true)
	cluster.Exec(t, holder, "COMMIT")
	writers.Wait()
}

// TestManyInGrace: however many versions are valid, a verify holds no more of them
// than a batch does.
func TestManyInGrace(t *testing.T) {
	path := "/v1/secrets/grace/a"
	value := func(i int) string { return fmt.Sprintf("%04d%s", i, strings.Repeat("v", 512<<10-4)) }
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"grace/a","kind":"manual","value":"`+value(0)+`","grace_period_secs":86400}`)
	const versions = 20 // 10 MiB
	for i := range versions - 1 {
		want(t, 200, 0, shared.AdminToken, "PUT", path, `{"value":"`+value(i+1)+`"}`)
		if i == 9 {
			if a := want(t, 200, 0, shared.AdminToken, "POST", path+"/verify", `{"value":"`+value(1)+`"}`); a.fields["version"] != 2.0 {
				t.Errorf("got %.100s", a.text)
			}
		}
	}
	for range 3 {
		if a := want(t, 400, 0, shared.AdminToken, "POST", path+"/verify", `{"value":"`+value(1)+`"}`); a.field("code") != "invalid" {
			t.Errorf("got %.100s", a.text)
		}
	}
	want(t, 200, 0, shared.AdminToken, "GET", path, "")
	want(t, 204, 0, shared.AdminToken, "DELETE", path, "")
}

// TestOneNameManyTimes: a name counts once, however often it stands in a batch.
func TestOneNameManyTimes(t *testing.T) {
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"times/a","kind":"manual","value":"`+strings.Repeat("x", 512<<10)+`"}`)
	a := want(t, 200, 0, shared.AdminToken, "POST", "/v1/batch/secrets", `{"names":["times/a"`+strings.Repeat(`,"times/a"`, 255)+`]}`)
	if n := strings.Count(a.text, `"name"`); n != 1 {
		t.Errorf("got it %d times", n)
	}
}

// TestHungryClients: who asks for much and does not read it costs the node little,
// and keeps nobody else waiting, for one secret or for many.
func TestHungryClients(t *testing.T) {
	names := []string{}
	for i := range 15 {
		names = append(names, fmt.Sprintf(`"hungry/%d"`, i))
		// A control character is one byte of the value and six of the answer.
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":`+names[i]+`,"kind":"manual","value":"`+strings.Repeat(`\u0001`, 512<<10)+`"}`)
	}
	n := shared.Nodes[0]
	before := n.Resident(t)
	body := `{"names":[` + strings.Join(names, ",") + `]}`
	request := fmt.Sprintf("POST /v1/batch/secrets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	const clients = 40
	for range clients {
		if _, err := io.WriteString(dial(t, shared.Nodes[0].REST), request); err != nil {
			t.Fatal(err)
		}
	}
	// What these names take is not kept until there is room for an answer: they are refused before.
	for _, names := range []string{`".."`, strings.Repeat(`"a",`, 256) + `"a"`} {
		want(t, 400, 0, "", "POST", "/v1/batch/secrets", `{"names":[`+names+`]}`)
	}
	const patience = 15 * time.Second // of the node with who does not read (answerTime)
	began := time.Now()
	want(t, 200, 0, shared.AdminToken, "POST", "/v1/batch/secrets", `{"names":["hungry/1"]}`)
	if took := time.Since(began); took > patience*2/3 {
		t.Errorf("another client's batch took %v", took)
	}
	most := before
	for range 30 {
		began := time.Now()
		want(t, 200, 0, "", "GET", "/v1/secrets/hungry/1?version=1", "")
		if took := time.Since(began); took > patience*2/3 {
			t.Errorf("one secret took %v", took)
		}
		most = max(most, n.Resident(t))
	}
	t.Logf("%d clients that do not read: %d MB more", clients, (most-before)>>20)
	if most-before > 1<<30 {
		t.Errorf("%d clients that do not read took %d MB", clients, (most-before)>>20)
	}
}

// afar is dial for a client that does not take much unread: segments are as long as in a
// network, or the system takes megabytes of an answer off the node.
func afar(t *testing.T, base string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1000)
		})
		return errors.Join(err, failed)
	}}
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestHungryReaders is TestHungryClients for one secret at a time, of many connections.
func TestHungryReaders(t *testing.T) {
	hungry, other := token(t, "*", "thirsty/*"), token(t, "*", "thirsty/*")
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"thirsty/a","kind":"manual","value":"`+strings.Repeat(`\u0001`, 512<<10)+`"}`)
	n := shared.Nodes[0]
	before := n.Resident(t)
	const clients = 300
	most := before
	for i := range clients {
		if _, err := io.WriteString(afar(t, n.REST), "GET /v1/secrets/thirsty/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+hungry+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			cluster.Eventually(t, "another one's to be answered", func() bool { return call(t, n.REST, other, "GET", "/v1/secrets/thirsty/a", "").status == 200 })
			most = max(most, n.Resident(t))
		}
	}
	t.Logf("%d clients that do not read: %d MB more", clients, (most-before)>>20)
	if most-before > 400<<20 {
		t.Errorf("%d clients that do not read took %d MB", clients, (most-before)>>20)
	}
}

// TestRaces has many write one secret at once, beside both nodes: create, update,
// rotate, delete. A version has one value, whoever is asked and whenever; of those
// who have seen the same version one at most changes it.
func TestRaces(t *testing.T) {
	r := &races{values: map[float64]string{}, changed: map[string]int{}}
	var actors sync.WaitGroup
	least, most := time.Now().Add(3*time.Second), time.Now().Add(20*time.Second)
	for i := range 8 {
		actors.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(i), 7))
			for k := 0; (time.Now().Before(least) || !r.enough() && time.Now().Before(most)) && !t.Failed(); k++ {
				r.step(t, dice, i%2, fmt.Sprintf("race %d of %d", k, i))
			}
		})
	}
	actors.Wait()
	if !r.enough() {
		t.Errorf("only %d versions and %d changes by If-Match", len(r.values), len(r.changed))
	}
	t.Logf("%d versions, %d changes by If-Match", len(r.values), len(r.changed))
}

type races struct {
	mu      sync.Mutex
	values  map[float64]string
	changed map[string]int // by what was in If-Match
}

// enough says whether something can be told from what was seen.
func (r *races) enough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.values) >= 50 && len(r.changed) >= 3
}

const racePath = "/v1/secrets/races/a"

func (r *races) step(t *testing.T, dice *rand.Rand, node int, value string) {
	t.Helper()
	admin := shared.AdminToken
	switch dice.IntN(8) {
	case 0:
		r.saw(t, call(t, shared.Nodes[node].REST, admin, "POST", "/v1/secrets", `{"name":"races/a","kind":"automatic","value":"`+value+`","grace_period_secs":60}`), "", 201, 409)
	case 1:
		if dice.IntN(4) == 0 {
			r.saw(t, call(t, shared.Nodes[node].REST, admin, "DELETE", racePath, ""), "", 204, 404)
		}
	case 2:
		r.saw(t, call(t, shared.Nodes[node].REST, admin, "POST", racePath+"/rotate", ""), "", 200, 404)
	case 3, 4:
		a := call(t, shared.Nodes[node].REST, admin, "GET", racePath, "")
		r.saw(t, a, "", 200, 404)
		if match := a.header.Get("ETag"); match != "" {
			put := call(t, shared.Nodes[node].REST, admin, "PUT", racePath, `{"value":"`+value+`"}`, "If-Match", match)
			r.saw(t, put, value, 200, 404, 412)
			if put.status == 200 {
				r.mu.Lock()
				if r.changed[match]++; r.changed[match] > 1 {
					t.Errorf("version %s was changed %d times by who had seen it", match, r.changed[match])
				}
				r.mu.Unlock()
			}
		}
	case 5:
		r.saw(t, call(t, shared.Nodes[node].REST, admin, "PUT", racePath, `{"value":"`+value+`"}`), value, 200, 404)
	case 6:
		a := call(t, shared.Nodes[node].REST, admin, "POST", "/v1/batch/secrets", `{"names":["races/a","races/none"]}`)
		if strings.HasPrefix(a.text, "[{") {
			var list answer
			list.status, list.text = a.status, strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(a.text), "["), "]")
			list.fields = fields(t, list.text)
			r.saw(t, list, "", http.StatusOK)
		}
	default:
		r.saw(t, call(t, shared.Nodes[node].REST, "", "GET", racePath, ""), "", 200, 404)
	}
}

// saw keeps which value a version has. written is what the client itself wrote,
// whose answer has none.
func (r *races) saw(t *testing.T, a answer, written string, statuses ...int) {
	t.Helper()
	fits := false
	for _, s := range statuses {
		fits = fits || a.status == s
	}
	if !fits {
		t.Errorf("got %d %s, want one of %v", a.status, a.text, statuses)
	}
	version, ok := a.fields["version"].(float64)
	if !ok {
		return
	}
	value := a.field("value") + written
	r.mu.Lock()
	defer r.mu.Unlock()
	if had, known := r.values[version]; known && had != value {
		t.Errorf("version %v was %q, and is %q", version, had, value)
	}
	r.values[version] = value
}

// TestHalfClosed: a client that closes its half behind its question hears how the node
// is, not that it left.
func TestHalfClosed(t *testing.T) {
	var asking sync.WaitGroup
	for range 8 { // so that some wait for others
		asking.Go(func() {
			for range 50 {
				text := exchange(t, shared.Nodes[0].REST, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
				if !strings.HasPrefix(text, "HTTP/1.1 200 ") {
					t.Errorf("got %q", text)
				}
			}
		})
	}
	asking.Wait()
}
