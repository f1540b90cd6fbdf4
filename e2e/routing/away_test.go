// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestNoPrimary: while there is none, reads go on, a write is refused in bounded
// time, and a block that might write begins here with a warning.
func TestNoPrimary(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 1, NodeEnv: map[string]string{"VAULT_PRIMARY_WAIT": "1s"}})
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE public.t (a int)")
	cluster.Exec(t, super, "GRANT ALL ON public.t TO PUBLIC")
	c.WaitReplayed(t, 1)
	moved := dial(t, c.DSN(1, c.User))
	moved.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO public.t VALUES (1)"))
	lostPrimary(t, c, moved)
	moved = dial(t, c.DSN(1, c.User))
	cluster.Eventually(t, "the primary after its crash", func() bool {
		if err := moved.Send(rawpg.Query("DELETE FROM public.t WHERE a = 2")); err != nil {
			t.Fatal(err)
		}
		return slices.Contains(moved.Answers(t), "C(DELETE_0)")
	})
	if err := c.Nodes[0].KillServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, err := moved.Receive(); err == nil && m.Type != 'E' {
		t.Errorf("the session whose server was killed got %v", m)
	}
	s := dial(t, c.DSN(1, c.User))
	s.Ask(t, "E(25006) Z(I)", rawpg.Query("INSERT INTO public.t VALUES (1)"))
	s.Ask(t, "E(25006) Z(I)", rawpg.Parse("", "INSERT INTO public.t VALUES (1)"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	if err := s.Send(rawpg.Query("BEGIN")); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Receive(); err != nil || m.Type != 'N' {
		t.Fatalf("got %v, %v; want a warning", m, err)
	}
	s.Expect(t, "C(BEGIN) Z(T)")
	s.Ask(t, "T(a:23) D(1) C(SELECT_1) Z(T)", rawpg.Query("TABLE public.t"))
	s.Ask(t, "E(25006) Z(E)", rawpg.Query("INSERT INTO public.t VALUES (1)"))
	s.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))

	// The standby becomes the primary: the same session writes.
	local := c.Connect(t, c.SuperDSN(1))
	cluster.Exec(t, local, "SELECT pg_promote(true)")
	cluster.Eventually(t, "a write after the promotion", func() bool {
		if err := s.Send(rawpg.Query("INSERT INTO public.t VALUES (2)")); err != nil {
			t.Fatal(err)
		}
		return slices.Contains(s.Answers(t), "C(INSERT_0_1)")
	})
	if got := cluster.Text(t, local, "SELECT count(*)::text FROM public.t WHERE a = 2"); got != "1" {
		t.Errorf("%s rows of one insert", got)
	}
}

// lostPrimary: a session whose backend at the primary ends without a word is told so, and whether
// something was under way. The server ends all others, too, which warns them.
func lostPrimary(t *testing.T, c *cluster.Cluster, idle *rawpg.Conn) {
	t.Helper()
	busy := dial(t, c.DSN(1, c.User))
	busy.Ask(t, "C(DELETE_0) Z(I)", rawpg.Query("DELETE FROM public.t WHERE a = 2"))
	home := dial(t, c.DSN(0, c.User))
	if err := busy.Send(rawpg.Query("SELECT pg_sleep(601)")); err != nil {
		t.Fatal(err)
	}
	super := c.Connect(t, c.SuperDSN(0))
	var pid int
	cluster.Eventually(t, "the statement at the primary", func() bool {
		return super.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(601)' AND state = 'active'").Scan(&pid) == nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		what string
		*rawpg.Conn
		want string // empty: the bare end
	}{{"busy", busy, "E(08007)"}, {"idle", idle, "E(08006)"}, {"at the server itself", home, ""}} {
		m, err := s.Receive()
		for err == nil && m.Type == 'N' {
			m, err = s.Receive()
		}
		switch {
		case s.want == "" && errors.Is(err, io.EOF):
		case err != nil || m.String() != s.want:
			t.Errorf("%s: got %v, %v, want %q", s.what, m, err, s.want)
		}
	}
}

// TestCancelWhileMoving: a primary that does not answer holds up a session only
// until its client cancels, or the bound has passed.
func TestCancelWhileMoving(t *testing.T) {
	schema(t)
	insert := rawpg.Query("INSERT INTO r.t (v) VALUES ('x')")
	known := standby(t) // makes the node know the primary
	known.Ask(t, "C(INSERT_0_1) Z(I)", insert)
	shared.Nodes[0].FreezeServer(t)
	defer shared.Nodes[0].ThawServer(t)
	for _, sql := range []string{insert.String, "SELECT r.w('x')", "BEGIN"} {
		s := standby(t)
		if err := s.Send(rawpg.Query(sql)); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		ended := make(chan struct{})
		go func() { // whenever it comes, it counts
			defer close(ended)
			for {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
				s.Cancel(ctx) //nolint:errcheck // comes again
				cancel()
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
		for _, m := range s.Answers(t) {
			if m[0] == 'E' && m != "E(57014)" {
				t.Errorf("%s: got %s, want 57014", sql, m)
			}
		}
		close(stop)
		<-ended
		where(t, s, false)
	}
	shared.Nodes[0].ThawServer(t)
	standby(t).Ask(t, "C(INSERT_0_1) Z(I)", insert)
}

// TestCancelAndTerminateAfterTheMove: both reach the backend at the primary.
func TestCancelAndTerminateAfterTheMove(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	s := standby(t)
	s.Ask(t, "C(INSERT_0_1) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('moved')"))
	if err := s.Send(rawpg.Query("SELECT pg_sleep(600)")); err != nil {
		t.Fatal(err)
	}
	sleeps := "SELECT count(*)::text FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
	cluster.Eventually(t, "the statement at the primary", func() bool { return cluster.Text(t, super, sleeps) == "1" })
	if err := s.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Expect(t, "T(pg_sleep:2278) E(57014) Z(I)")
	pid := cluster.Text(t, super, "SELECT pid::text FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'")
	cluster.Exec(t, super, "SELECT pg_terminate_backend($1::int)", pid)
	s.Expect(t, "E(57P01)")
	if _, err := s.Receive(); err == nil {
		t.Error("the session goes on")
	}
}

// TestReplaced: a promotion while the old primary goes on as if nothing had
// happened. Sessions that write there end, none begins, nothing of it is read by REST,
// and the node beside the standby goes to the new primary.
func TestReplaced(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 1})
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE public.t (a int)")
	cluster.Exec(t, super, "GRANT ALL ON public.t TO PUBLIC")
	const addToken = "SELECT vault.add_token($1, 'admin', sha256($1::text::bytea))"
	cluster.Exec(t, super, addToken, "revoked")
	cluster.Exec(t, super, addToken, "writer")
	if status, text := rest(t, c.Nodes[0], "writer", "POST", "/v1/secrets", `{"name":"a","kind":"manual","value":"old"}`); status != 201 {
		t.Fatalf("got %d %s", status, text)
	}
	c.WaitReplayed(t, 1)
	insert := rawpg.Query("INSERT INTO public.t VALUES (1)")
	moved, local := dial(t, c.DSN(1, c.User)), dial(t, c.DSN(0, c.User))
	for _, s := range []*rawpg.Conn{moved, local} {
		s.Ask(t, "C(INSERT_0_1) Z(I)", insert)
	}
	if err := c.Nodes[1].Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*rawpg.Conn{moved, local} {
		s.Expect(t, "E(57P01)") // without a word of the client's
		if _, err := s.Receive(); err == nil {
			t.Error("the session goes on")
		}
	}
	if _, err := rawpg.Dial(t.Context(), c.DSN(0, c.User)); err == nil || !strings.Contains(err.Error(), "57P03") {
		t.Errorf("a log-in at the node beside the old primary: %v", err)
	}
	next := dial(t, c.DSN(1, c.User))
	next.Ask(t, "C(INSERT_0_1) Z(I)", insert)
	where(t, next, true)
	super = c.Connect(t, c.SuperDSN(1))
	if got := cluster.Text(t, super, "SELECT count(*)::text FROM public.t"); got != "3" {
		t.Errorf("%s rows at the new primary, want 3", got)
	}
	cluster.Exec(t, super, "UPDATE vault.admin_tokens SET revoked_at = now() WHERE name = 'revoked'")
	cluster.Exec(t, super, addToken, "new")
	for _, r := range []struct {
		node                      int
		token, method, path, body string
		want                      int
		says                      string
	}{
		{0, "revoked", "GET", "/v1/secrets/a", "", 503, "another server has replaced"},
		{0, c.AdminToken, "GET", "/v1/secrets/a", "", 503, "another server has replaced"},
		{0, c.AdminToken, "GET", "/v1/secrets/b", "", 503, "another server has replaced"},
		{0, c.AdminToken, "GET", "/v1/secrets", "", 503, "another server has replaced"},
		{0, c.AdminToken, "POST", "/v1/secrets/a/verify", `{"value":"old"}`, 503, "another server has replaced"},
		{0, "", "GET", "/v1/secrets/a", "", 503, "another server has replaced"},
		{0, "new", "GET", "/v1/secrets/a", "", 503, "another server has replaced"},
		{0, "writer", "GET", "/v1/secrets/a", "", 200, "old"}, // what it wrote is read at the primary
		{0, "revoked", "PUT", "/v1/secrets/a", `{"value":"none"}`, 401, "revoked"},
		{0, c.AdminToken, "PUT", "/v1/secrets/a", `{"value":"next"}`, 200, `"version":2`},
		{0, c.AdminToken, "GET", "/v1/secrets/a", "", 200, "next"},
		{1, "revoked", "GET", "/v1/secrets/a", "", 401, "revoked"},
		{1, "new", "GET", "/v1/secrets/a", "", 200, "next"},
	} {
		if status, text := rest(t, c.Nodes[r.node], r.token, r.method, r.path, r.body); status != r.want || !strings.Contains(text, r.says) {
			t.Errorf("%s %s at node %d as %q: got %d %s; want %d, %s", r.method, r.path, r.node, r.token, status, text, r.want, r.says)
		}
	}
}

// rest sends a request by REST.
func rest(t *testing.T, n *cluster.Node, token, method, path, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, n.REST+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	all, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(all)
}

// TestOwnNotification: a client tells its own notifications by its process id, of
// which it knows the one that it was given.
func TestOwnNotification(t *testing.T) {
	s := standby(t)
	s.Rows(t, "LISTEN own")
	where(t, s, true)
	if err := s.Send(rawpg.Query("NOTIFY own, 'x'")); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == 'A' {
			if pid := binary.BigEndian.Uint32(m.Body); pid != s.PID {
				t.Errorf("from process %d, want %d", pid, s.PID)
			}
			return
		}
	}
}

// TestReplacedWhileItStandsStill: a write on its way to a primary that stands still goes
// to the one that replaces that.
func TestReplacedWhileItStandsStill(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 2, NodeEnv: map[string]string{"VAULT_PRIMARY_WAIT": "30s"}})
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE public.t (a int)")
	cluster.Exec(t, super, "GRANT ALL ON public.t TO PUBLIC")
	c.WaitReplayed(t, 1)
	c.WaitReplayed(t, 2)
	insert := rawpg.Query("INSERT INTO public.t VALUES (1)")
	dial(t, c.DSN(2, c.User)).Ask(t, "C(INSERT_0_1) Z(I)", insert) // the node knows the primary
	s := dial(t, c.DSN(2, c.User))
	c.Nodes[0].FreezeServer(t)
	if err := s.Send(insert); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[1].Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Expect(t, "C(INSERT_0_1) Z(I)")
}
