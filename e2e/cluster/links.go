// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// The legs that a breakable cluster's links are for.
const (
	LegNode        = devcluster.LegNode
	LegReplication = devcluster.LegReplication
)

// links are all of a cluster's.
type links struct {
	ctx context.Context // reach has none: links live as long as the cluster

	mu   sync.Mutex
	made map[leg]*Link
	err  error // the first that making one met
}

type leg struct {
	kind     devcluster.Leg
	from, to string
}

func newLinks(ctx context.Context) *links {
	return &links{ctx: context.WithoutCancel(ctx), made: map[leg]*Link{}}
}

// reach is devcluster's question where to connect; it makes a link when it is
// asked first. An address that leads nowhere tells of a failure.
func (ls *links) reach(kind devcluster.Leg, from, to *devcluster.Node) string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	key := leg{kind, from.Name, to.Name}
	l := ls.made[key]
	if l == nil {
		var err error
		if l, err = NewLink(ls.ctx, to.Postgres); err != nil {
			ls.err = errors.Join(ls.err, err)
			return "127.0.0.1:1"
		}
		ls.made[key] = l
	}
	return l.Address
}

// Link is the way from a node, or from its standby, to another node's server. It
// is whole again when the test ends.
func (c *Cluster) Link(tb testing.TB, kind devcluster.Leg, from, to *Node) *Link {
	tb.Helper()
	if c.links == nil {
		tb.Fatal("the cluster's Spec is not Breakable")
	}
	c.links.reach(kind, from.Node, to.Node)
	c.links.mu.Lock()
	l, err := c.links.made[leg{kind, from.Name, to.Name}], c.links.err
	c.links.mu.Unlock()
	if err != nil {
		tb.Fatalf("links: %v", err)
	}
	tb.Cleanup(func() {
		if err := l.Heal(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("heal a link: %v", err)
		}
	})
	return l
}
