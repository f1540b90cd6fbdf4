// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Manager decides which server is primary, as an operator or a program does.
type Manager interface {
	// Lose kills a node's server (-9), with all that would start it again.
	Lose(tb testing.TB, n *Node)
	// Failover returns when another server is primary and takes writes; the old
	// one was lost, or does not answer. The other standbys follow the new one.
	Failover(tb testing.TB) *Node
	// Switchover makes another server primary while all are well; the old primary
	// is a standby when it returns.
	Switchover(tb testing.TB) *Node
	// Rejoin makes a server that was primary and was lost a standby.
	Rejoin(tb testing.TB, n *Node)
	// Whole returns when all standbys have what the primary has, and the next fault
	// may come.
	Whole(tb testing.TB)
}

// Plain is the Manager of those who have none: pg_promote, and pg_rewind for who
// was primary. Its cluster needs the Settings of PlainSettings.
type Plain struct{ Cluster *Cluster }

// PlainSettings let servers change roles, and standbys look for their primary more
// often than every 5 s.
func PlainSettings() map[string]string {
	return map[string]string{"wal_log_hints": "on", "wal_retrieve_retry_interval": "100ms"}
}

// Synchronous has commits acknowledged, whoever is primary, when one other server
// has them on disk.
func (c *Cluster) Synchronous(tb testing.TB) {
	tb.Helper()
	for _, n := range c.Nodes { // the primary first: it waits for standbys that are there by now
		conn := c.Connect(tb, c.AddressDSN(n.Postgres, c.Superuser))
		Exec(tb, conn, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
		Exec(tb, conn, "SELECT pg_catalog.pg_reload_conf()")
	}
}

// PrimaryNode is the node whose server is the primary, as far as we were told.
func (c *Cluster) PrimaryNode() *Node { return c.find(c.Primary().Name) }

// Others are all nodes but one.
func (c *Cluster) Others(but *Node) []*Node {
	var others []*Node
	for _, n := range c.Nodes {
		if n != but {
			others = append(others, n)
		}
	}
	return others
}

func (c *Cluster) find(name string) *Node {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Lose implements Manager.
func (p Plain) Lose(tb testing.TB, n *Node) {
	tb.Helper()
	if err := n.KillServer(tb.Context()); err != nil {
		tb.Fatalf("lose %s: %v", n.Name, err)
	}
}

// Failover implements Manager: of the standbys it takes the one that has received
// most, so that what was acknowledged by one is there.
func (p Plain) Failover(tb testing.TB) *Node {
	tb.Helper()
	c := p.Cluster
	standbys := c.Others(c.PrimaryNode())
	for _, n := range standbys { // what a primary that still lives sends would come after the question
		if err := n.Detach(tb.Context()); err != nil {
			tb.Fatalf("detach %s: %v", n.Name, err)
		}
	}
	var next *Node
	var most uint64
	for _, n := range standbys {
		Eventually(tb, n.Name+" streams no more", func() bool {
			var receivers int
			return c.ask(tb.Context(), n, "SELECT count(*) FROM pg_catalog.pg_stat_wal_receiver", &receivers) == nil && receivers == 0
		})
		received, err := c.received(tb.Context(), n)
		if err != nil {
			tb.Fatalf("%s: %v", n.Name, err)
		}
		if next == nil || received > most {
			next, most = n, received
		}
	}
	p.promote(tb, next)
	return next
}

// promote makes a standby primary; the other standbys follow it.
func (p Plain) promote(tb testing.TB, next *Node) {
	tb.Helper()
	c := p.Cluster
	old := c.PrimaryNode()
	if err := next.Promote(tb.Context()); err != nil {
		tb.Fatalf("promote %s: %v", next.Name, err)
	}
	for _, n := range c.Others(next) {
		if n == old {
			continue
		}
		if err := n.Follow(tb.Context()); err != nil {
			tb.Fatalf("%s follows %s: %v", n.Name, next.Name, err)
		}
	}
}

// Switchover implements Manager.
func (p Plain) Switchover(tb testing.TB) *Node {
	tb.Helper()
	old := p.Cluster.PrimaryNode()
	if err := old.StopServer(tb.Context()); err != nil {
		tb.Fatalf("stop %s: %v", old.Name, err)
	}
	next := p.Failover(tb)
	p.Rejoin(tb, old)
	return next
}

// Rejoin implements Manager. A server that still runs, cut off or resumed, is
// ended first.
func (p Plain) Rejoin(tb testing.TB, n *Node) {
	tb.Helper()
	if err := n.StopServer(tb.Context()); err != nil {
		tb.Fatalf("stop %s: %v", n.Name, err)
	}
	if err := n.Rejoin(tb.Context()); err != nil {
		tb.Fatalf("rejoin: %v", err)
	}
}

// Whole implements Manager.
func (p Plain) Whole(tb testing.TB) { tb.Helper(); p.Cluster.WaitStreaming(tb) }

// received is the position up to which a standby has its primary's log.
func (c *Cluster) received(ctx context.Context, n *Node) (uint64, error) {
	var text string
	err := c.ask(ctx, n, "SELECT coalesce(pg_catalog.pg_last_wal_receive_lsn(), '0/0')::text", &text)
	if err != nil {
		return 0, err
	}
	return position(text)
}

// ask asks a server, as its superuser, for one row.
func (c *Cluster) ask(ctx context.Context, n *Node, sql string, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := n.ConnectServer(ctx, c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // its result was read
	return conn.QueryRow(ctx, sql).Scan(into...)
}

// position reads a place in the log.
func position(text string) (uint64, error) {
	high, low, found := strings.Cut(text, "/")
	if !found {
		return 0, fmt.Errorf("position %q", text)
	}
	upper, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, err
	}
	lower, err := strconv.ParseUint(low, 16, 32)
	return upper<<32 | lower, err
}

// Fork is where the new primary's timeline left the one before, whose number it
// returns, too: what lies behind it on the old one is lost.
func (c *Cluster) Fork(tb testing.TB, primary *Node) (timeline int, at uint64) {
	tb.Helper()
	var file string
	const current = `SELECT pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)`
	if err := c.ask(tb.Context(), primary, current, &file); err != nil {
		tb.Fatalf("%s: timeline: %v", primary.Name, err)
	}
	var history string
	if err := c.ask(tb.Context(), primary, "SELECT pg_catalog.pg_read_file('pg_wal/"+file+".history')", &history); err != nil {
		tb.Fatalf("%s: history: %v", primary.Name, err)
	}
	lines := strings.Split(strings.TrimSpace(history), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(fields) < 2 {
		tb.Fatalf("%s: a history of %q", primary.Name, history)
	}
	timeline, err := strconv.Atoi(fields[0])
	if err != nil {
		tb.Fatalf("%s: a history of %q", primary.Name, history)
	}
	if at, err = position(fields[1]); err != nil {
		tb.Fatalf("%s: a history of %q", primary.Name, history)
	}
	return timeline, at
}

// WaitStreaming returns when every other server streams from the primary and has
// replayed what that has written so far.
func (c *Cluster) WaitStreaming(tb testing.TB) {
	tb.Helper()
	primary := c.PrimaryNode()
	Eventually(tb, "all standbys stream from "+primary.Name, func() bool {
		var streaming int
		err := c.ask(tb.Context(), primary, "SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE state = 'streaming'", &streaming)
		return err == nil && streaming == len(c.Nodes)-1
	})
	for i, n := range c.Nodes {
		if n != primary {
			c.WaitReplayed(tb, i)
		}
	}
}

// WaitReady returns when every node says that it is ready.
func (c *Cluster) WaitReady(tb testing.TB) {
	tb.Helper()
	for _, n := range c.Nodes {
		Eventually(tb, n.Name+"'s readiness", func() bool { return ready(tb, n.REST) })
	}
}
