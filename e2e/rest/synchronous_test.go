// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestReadsWithoutSynchronousStandby: while the primary waits for a standby that is away,
// reads there do not; that a token was used is noted all the same.
func TestReadsWithoutSynchronousStandby(t *testing.T) {
	t.Parallel() // where it fails it waits
	c := cluster.Start(t, cluster.Spec{})
	base, super := c.Nodes[0].REST, c.Connect(t, c.SuperDSN(0))
	wantAt(t, 201, base, c.AdminToken, "POST", "/v1/secrets", `{"name":"a","kind":"manual","value":"one"}`)
	tries := []struct{ method, path, body string }{
		{"GET", "/v1/secrets/a", ""},
		{"GET", "/v1/secrets", ""},
		{"GET", "/v1/tokens", ""},
		{"POST", "/v1/secrets/a/verify", `{"value":"one"}`},
		{"POST", "/v1/batch/secrets", `{"names":["a"]}`},
	}
	unused := make([]string, len(tries)) // the use of each is to be noted
	for i := range tries {
		unused[i] = wantAt(t, 201, base, c.AdminToken, "POST", "/v1/tokens", fmt.Sprintf(`{"name":"t%d","role":"admin"}`, i)).field("token")
	}
	cluster.Exec(t, super, "CREATE TABLE public.t (a int)")
	cluster.Exec(t, super, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	cluster.Exec(t, super, "SELECT pg_reload_conf()")
	cluster.Eventually(t, "a commit to wait", func() bool {
		conn := c.Connect(t, c.SuperDSN(0))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := conn.Exec(ctx, "INSERT INTO public.t VALUES (1)")
		return err != nil
	})
	for i, r := range tries {
		wantAt(t, 200, base, unused[i], r.method, r.path, r.body)
	}
	if got := cluster.Text(t, super, "SELECT count(*)::text FROM vault.admin_tokens WHERE name LIKE 't_' AND last_used_at IS NOT NULL"); got != fmt.Sprint(len(tries)) {
		t.Errorf("the use of %s tokens was noted, want %d", got, len(tries))
	}
}
