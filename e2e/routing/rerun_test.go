// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestPipelinedBehindARerun: what a client sends while the primary runs what the standby
// has refused waits for that one's answer, a part of which it may have had already.
func TestPipelinedBehindARerun(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, `CREATE FUNCTION r.locked(v text) RETURNS text LANGUAGE plpgsql AS
 $$ BEGIN INSERT INTO r.t (v) VALUES (v); PERFORM pg_advisory_xact_lock(77); RETURN v; END $$`)
	shared.WaitReplayed(t, 1)
	parse := rawpg.Parse("", "SELECT r.locked('behind') AS w")
	run := []pgproto3.FrontendMessage{rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()}
	for name, c := range map[string]struct {
		before, first, next []pgproto3.FrontendMessage
		told, want          string
	}{
		"the unnamed statement of before": {
			before: []pgproto3.FrontendMessage{parse, rawpg.Sync()}, told: "1 Z(I)", first: run,
			next: append([]pgproto3.FrontendMessage{rawpg.Parse("", "SELECT 1 AS n")}, run...),
			want: "2 D(behind) C(SELECT_1) Z(I) 1 2 D(1) C(SELECT_1) Z(I)",
		},
		"a long Bind": {
			first: append([]pgproto3.FrontendMessage{parse}, run...),
			next:  []pgproto3.FrontendMessage{rawpg.Parse("", "SELECT length($1) AS n"), rawpg.Bind("", "", long), rawpg.Execute("", 0), rawpg.Sync()},
			want:  "1 2 D(behind) C(SELECT_1) Z(I) 1 2 D(100000) C(SELECT_1) Z(I)",
		},
		"a Flush": {
			first: append([]pgproto3.FrontendMessage{parse}, run...),
			next:  append([]pgproto3.FrontendMessage{rawpg.Flush(), rawpg.Parse("", "SELECT 1 AS n")}, run...),
			want:  "1 2 D(behind) C(SELECT_1) Z(I) 1 2 D(1) C(SELECT_1) Z(I)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster.Exec(t, super, "SELECT pg_advisory_lock(77)")
			s := standby(t)
			if c.before != nil {
				s.Ask(t, c.told, c.before...)
			}
			if err := s.Send(c.first...); err != nil {
				t.Fatal(err)
			}
			cluster.Eventually(t, "the primary at work", func() bool {
				return cluster.Text(t, super, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "1"
			})
			if err := s.Send(c.next...); err != nil {
				t.Fatal(err)
			}
			standby(t).Rows(t, "SELECT 1") // the node has read something by then
			cluster.Exec(t, super, "SELECT pg_advisory_unlock(77)")
			s.Expect(t, c.want)
			s.Settled(t, "I")
		})
	}
	if got := rows(t, "behind"); got != "3" {
		t.Errorf("%s rows, want 3", got)
	}
}

// TestUnnamedBehindARerun: the unnamed statement of a batch that the primary has run goes
// back to the standby with the session.
func TestUnnamedBehindARerun(t *testing.T) {
	schema(t)
	node := shared.Nodes[1].StartLoose(t, map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"})
	s := dial(t, shared.AddressDSN(node.Proxy, shared.User))
	s.Ask(t, "1 Z(I)", rawpg.Parse("r", "SELECT pg_is_in_recovery() AS s"), rawpg.Sync())
	s.Ask(t, "1 2 D(unnamed) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT r.w($1)"), rawpg.Bind("", "", "unnamed"), rawpg.Execute("", 0), rawpg.Sync())
	cluster.Eventually(t, "the session at its standby", func() bool { // no Query, which drops the unnamed statement
		if err := s.Send(rawpg.Bind("", "r"), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
			t.Fatal(err)
		}
		return slices.Contains(s.Answers(t), "D(t)")
	})
	s.Ask(t, "2 D(unnamed) C(SELECT_1) Z(I)", rawpg.Bind("", "", "unnamed"), rawpg.Execute("", 0), rawpg.Sync())
}

// TestHeldBackAtHalfClose: a client that writes no more, and has sent no Sync, hears why
// the standby has refused its statement, and the session ends.
func TestHeldBackAtHalfClose(t *testing.T) {
	schema(t)
	const refused = "cannot execute INSERT in a read-only transaction"
	s := standby(t)
	before := strings.Count(shared.ServerLog(t, 1), refused)
	if err := s.Send(rawpg.Parse("", "SELECT r.w('held')"), rawpg.Bind("", ""), rawpg.Execute("", 0)); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the standby's error", func() bool { return strings.Count(shared.ServerLog(t, 1), refused) > before })
	if err := s.Net.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // rawpg dials TCP
		t.Fatal(err)
	}
	s.Expect(t, "1 2 E(25006)")
	if m, err := s.Receive(); err == nil {
		t.Errorf("the session goes on: %v", m)
	}
}
