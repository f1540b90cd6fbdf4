// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var timing = flag.Int("timing", 0, "calls of verify that TestTiming measures; 0: none")

// TestTiming: how long a verify takes tells neither how much of the value is right,
// nor its length, nor whether there is such a secret. Calls of all kinds come in
// random order on one connection that stays open; no two kinds may differ by more
// than chance explains. `make timing` runs it: nothing else may run meanwhile.
func TestTiming(t *testing.T) {
	if *timing == 0 {
		t.Skip("NOT TESTED: it measures time; make timing runs it")
	}
	short := strings.Repeat("v", 32)
	long := strings.Repeat("v", 128<<10)
	change := func(value string, at int) string { return value[:at] + "x" + value[at+1:] }
	create := func(name, value string) {
		t.Helper()
		want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", fmt.Sprintf(`{"name":%q,"kind":"manual","value":%q}`, name, value))
	}
	create("timing/short", short)
	create("timing/long", long)
	node := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_AUTH_MAX_FAILURES": "10000", "VAULT_AUTH_WINDOW_SECS": "1"})
	compare(t, node, *timing, []verifying{
		{"right", "timing/short", short, true},
		{"wrong from the first byte", "timing/short", change(short, 0), false},
		{"wrong in the last byte", "timing/short", change(short, 31), false},
		{"another length", "timing/short", short[:16], false},
		{"no such secret", "timing/shirt", short, false},
	})
	// Long enough for a comparison byte by byte to show.
	compare(t, node, *timing/2, []verifying{
		{"128 KiB, right", "timing/long", long, true},
		{"128 KiB, wrong from the first byte", "timing/long", change(long, 0), false},
		{"128 KiB, wrong in the last byte", "timing/long", change(long, len(long)-1), false},
		{"128 KiB, no such secret", "timing/lung", long, false},
	})
}

// verifying is one kind of call.
type verifying struct {
	what, name, value string
	valid             bool
}

// compare measures n calls, and compares each two kinds of them.
func compare(t *testing.T, node *cluster.Loose, n int, kinds []verifying) {
	t.Helper()
	conn := dial(t, node.REST)
	if err := conn.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	requests := make([]string, len(kinds))
	for i, k := range kinds {
		body := `{"value":"` + k.value + `"}`
		requests[i] = fmt.Sprintf("POST /v1/secrets/%s/verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", k.name, len(body), body)
	}
	call := func(i int) time.Duration {
		began := time.Now()
		if _, err := io.WriteString(conn, requests[i]); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		took := time.Since(began)
		if closed := response.Body.Close(); err != nil || closed != nil || response.StatusCode != 200 || strings.Contains(string(text), "true") != kinds[i].valid {
			t.Fatalf("%s: %v, got %d %s", kinds[i].what, err, response.StatusCode, text)
		}
		return took
	}
	for i := range 20 * len(kinds) { // keys are cached then, and code is warm
		call(i % len(kinds))
	}
	took := make([][]float64, len(kinds))
	for range n / len(kinds) {
		for _, i := range rand.Perm(len(kinds)) {
			took[i] = append(took[i], call(i).Seconds()*1e6)
		}
	}
	for i, k := range kinds {
		t.Logf("%-36s %6d calls, quartiles %7.0f %7.0f %7.0f µs", k.what, len(took[i]), quantile(took[i], 0.25), quantile(took[i], 0.5), quantile(took[i], 0.75))
	}
	for i := range kinds {
		for j := range i {
			d := difference(took[i], took[j])
			text := fmt.Sprintf("%s, %s: effect %+.3f (%+.1f standard errors), largest distance %.3f (critical %.3f)", kinds[i].what, kinds[j].what, d.effect, d.errors, d.distance, d.critical)
			t.Log(text)
			if d.found() {
				t.Errorf("they can be told apart: %s", text)
			}
		}
	}
}
