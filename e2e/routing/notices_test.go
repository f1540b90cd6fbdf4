// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// chatty logs in with all that the server has to say, and returns whether it was told
// something before it was in.
func chatty(t *testing.T, address string) (c *rawpg.Conn, noticed bool) {
	t.Helper()
	c, err := rawpg.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Write(rawpg.Startup(3<<16, "user", shared.User, "database", shared.Database, "options", "-c client_min_messages=debug5")); err != nil {
		t.Fatal(err)
	}
	got, err := c.LogIn(&rawpg.Scram{Password: shared.Password})
	if err != nil {
		t.Fatal(err)
	}
	return c, slices.ContainsFunc(got, func(m rawpg.Message) bool { return m.Type == 'N' })
}

// TestNoticesOfTheLogIn: what a server has to say before ReadyForQuery reaches the
// client, and disturbs no log-in: not the client's, nor that of its session at the primary.
func TestNoticesOfTheLogIn(t *testing.T) {
	schema(t)
	if _, noticed := chatty(t, shared.Nodes[0].Postgres); !noticed {
		t.Fatal("the server itself has nothing to say during the log-in")
	}
	for _, n := range shared.Nodes {
		c, noticed := chatty(t, n.Proxy)
		if !noticed {
			t.Errorf("%s: no notice before ReadyForQuery", n.Name)
		}
		for _, s := range []struct{ sql, want string }{
			{"SELECT 1 AS n", "T(n:23) D(1) C(SELECT_1) Z(I)"},
			{"SELECT vault.put_secret('notices/a', 's3cr3t') IS NULL AS v", "T(v:16) D(f) C(SELECT_1) Z(I)"},
			{"INSERT INTO r.t (v) VALUES ('noticed')", "C(INSERT_0_1) Z(I)"},
			{"SELECT vault.read_secret('notices/a') AS pw", "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)"},
		} {
			if err := c.Send(rawpg.Query(s.sql)); err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(c.Answers(t), func(m string) bool { return strings.HasPrefix(m, "N(") })
			if got := strings.Join(got, " "); got != s.want {
				t.Errorf("%s: %s: got %s, want %s", n.Name, s.sql, got, s.want)
			}
		}
	}
}
