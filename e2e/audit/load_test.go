// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// did is what leaves records.
type did struct {
	face   chain.Face
	action chain.Action
	name   string
}

// A count is how often it was asked for, and how often the client got its answer.
type count struct{ asked, received int }

// A load is clients that use secrets of their own in every way, and count.
type load struct {
	w    *world
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	counts map[did]*count
	wrong  string
	all    int // answers
	grants int
}

const (
	secretsEach = 5
	loadPrefix  = "load/" // of the names of all that it touches
)

func secretOf(client, i int) string { return fmt.Sprintf(loadPrefix+"%d/%d", client, i) }

// startLoad has clients work, each at a node and, when its session ends, at the next.
func (w *world) startLoad(t *testing.T, clients int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{w: w, stop: stop, counts: map[did]*count{}}
	var names []string
	for c := range clients {
		for i := range secretsEach {
			names = append(names, secretOf(c, i))
		}
		names = append(names, restSecret(c))
	}
	w.put(t, names...)
	for _, name := range names {
		l.note(did{chain.FaceSQL, chain.ActionUpdate, name}, 1, 1)
	}
	for c := range clients {
		l.done.Go(func() {
			for turn := c; ctx.Err() == nil; turn++ {
				l.session(ctx, w.c.Nodes[turn%len(w.c.Nodes)], c, turn)
				select {
				case <-time.After(20 * time.Millisecond): // whatever is away
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// end stops the clients.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// received is how many answers clients have got.
func (l *load) received() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// working returns when clients have got some more answers.
func (l *load) working(t *testing.T) {
	t.Helper()
	more := l.received() + 300
	cluster.Eventually(t, "clients at work", func() bool { return l.received() >= more })
}

func (l *load) note(of did, asked, received int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[of] == nil {
		l.counts[of] = &count{}
	}
	l.counts[of].asked += asked
	l.counts[of].received += received
	if received > 0 {
		l.all++
	}
}

// session is one, until it breaks.
func (l *load) session(ctx context.Context, n *cluster.Node, number, turn int) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // some sessions end by themselves
	defer cancel()
	conn, err := pgx.Connect(ctx, l.w.dsn(n))
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its result is counted
	c := &client{load: l, conn: conn, node: n, number: number}
	for i := 7 * turn; err == nil && ctx.Err() == nil; i++ {
		err = c.work(ctx, i)
	}
}

// untold is how often something was asked for of whose end the client does not know.
func (l *load) untold() map[did]int {
	untold := map[did]int{}
	if l == nil {
		return untold
	}
	for of, c := range l.counts {
		untold[of] = c.asked - c.received
	}
	return untold
}

// compare sees that there is a record for all that clients know to be done, and none
// for what nobody asked for.
func (l *load) compare(t *testing.T, a *cluster.Audit) {
	t.Helper()
	l.end()
	if l.wrong != "" {
		t.Error(l.wrong)
	}
	records := map[did]int{}
	for i := range a.Rows {
		if r := &a.Rows[i]; r.Outcome == chain.OutcomeOK {
			records[did{r.Face, r.Action, r.Secret}]++
		}
	}
	total := map[chain.Action]int{}
	for of, c := range l.counts {
		total[of.action] += c.received
		least := c.received
		if of.action == chain.ActionRevoke {
			least = 0 // of a grant that was lost by a failover there is nothing to revoke
		}
		if n := records[of]; n < least || n > c.asked {
			t.Errorf("%v: %d records, want at least the %d known to be done, at most the %d asked for", of, n, least, c.asked)
		}
		delete(records, of)
	}
	for of, n := range records {
		if strings.HasPrefix(strings.TrimPrefix(of.name, l.w.c.User+" "), loadPrefix) { // a grant's begins with whose it is
			t.Errorf("%v: %d records of what nobody has asked for", of, n)
		}
	}
	for _, action := range []chain.Action{chain.ActionRead, chain.ActionUpdate, chain.ActionDelete, chain.ActionGrant, chain.ActionCreate} {
		if total[action] == 0 {
			t.Errorf("no client has done a %s", action)
		}
	}
	t.Logf("known to be done: %v", total)
}
