// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// auditedServer is a server whose audit was shipped by two nodes.
type auditedServer struct {
	cluster  *devcluster.Cluster
	env      []string
	conn     *pgx.Conn // the superuser's
	spools   []*audit.Spool
	dirs     []string
	last     [2]uint64 // of each spool
	trust    string    // a file
	accepted []string  // more of audit verify's flags
}

func startAudited(t *testing.T) *auditedServer {
	t.Helper()
	c, env := serversOnly(t, devcluster.Config{
		Binary: os.Args[0], Standbys: 1, ServerSettings: map[string]string{"hyperion_vault.audit_min_age": "0"},
	})
	a := &auditedServer{cluster: c, env: env}
	var err error
	a.conn, err = connectTo(t.Context(), c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.conn.Close(t.Context()) })
	var trust strings.Builder
	for range 2 {
		dir := t.TempDir()
		s, err := audit.Open(dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		node, key, _ := s.Identity()
		fmt.Fprintf(&trust, "%v %s\n", node, key)
		a.spools, a.dirs = append(a.spools, s), append(a.dirs, dir)
	}
	a.trust = auditFile(t, "trust", trust.String())
	return a
}

func (a *auditedServer) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := a.conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// append has a node record n operations and ships them.
func (a *auditedServer) append(t *testing.T, spool, n int, change int64) {
	t.Helper()
	s := a.spools[spool]
	for i := range n {
		r := audit.Record{
			Actor: "ann", SessionRole: "app_rw", Face: audit.FaceSQL, Database: "app", Action: audit.ActionUpdate, Secret: fmt.Sprintf("Größe/%d\x1b", i),
			Version: 7, Outcome: audit.OutcomeOK, Direct: i%2 == 0, Statement: 1<<64 - 1 - uint64(i),
		}
		switch i % 3 {
		case 0:
			r.Addr = netip.MustParseAddr("192.0.2.7")
		case 1:
			r.Addr = netip.MustParseAddr("2001:db8::1")
		}
		if r.Change = change; change != 0 {
			change++
		}
		if err := s.Append(t.Context(), []audit.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	if a.last[spool] == 0 {
		n++ // the start
	}
	a.last[spool] += uint64(n)
	eventually(t, "everything is durable", func() bool { return s.Status().Durable == a.last[spool] })
	a.ship(t, s)
}

// ship ships what is durable, as a node does.
func (a *auditedServer) ship(t *testing.T, s *audit.Spool) {
	t.Helper()
	a.shipFrom(t, s, a.position(t, s), false)
}

// position is where the table stands.
func (a *auditedServer) position(t *testing.T, s *audit.Spool) (at audit.Position) {
	t.Helper()
	node, _, _ := s.Identity()
	var hash []byte
	if err := a.conn.QueryRow(t.Context(), "SELECT seq, hash FROM vault.audit_position($1)", [16]byte(node)).Scan(&at.Seq, &hash); err != nil {
		t.Fatal(err)
	}
	copy(at.Hash[:], hash)
	return at
}

func (a *auditedServer) shipFrom(t *testing.T, s *audit.Spool, at audit.Position, gap bool) {
	t.Helper()
	node, _, _ := s.Identity()
	c, err := s.Cursor(at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := c.Next(10_000)
	if err != nil || b.N == 0 {
		t.Fatalf("nothing to ship: %v", err)
	}
	var seq uint64
	err = a.conn.QueryRow(t.Context(), "SELECT seq FROM vault.audit_append($1, $2, $3, $4, $5, $6, $7, $8, $9)", [16]byte(node), b.After.Seq+1, b.N, b.After.Hash[:], gap,
		b.Records, b.Head.At, b.Head.Key[:], b.Head.Signature[:]).Scan(&seq)
	if err != nil || seq != b.Head.Seq {
		t.Fatalf("shipped up to %d, want %d: %v", seq, b.Head.Seq, err)
	}
}
