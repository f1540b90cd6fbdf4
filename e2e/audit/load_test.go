// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// A count is what became of the reads, or the writes, of one secret.
type count struct{ asked, received int }

// A load is clients that read and write secrets of their own, and count.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	reads  map[string]*count
	writes map[string]*count
	wrong  string
	all    int // values received
}

const secretsEach = 5

func secretOf(client, i int) string { return fmt.Sprintf("load/%d/%d", client, i) }

// startLoad has clients work, each at a node and, when its session ends, at the next.
func (w *world) startLoad(t *testing.T, clients int) *load {
	t.Helper()
	var names []string
	for c := range clients {
		for i := range secretsEach {
			names = append(names, secretOf(c, i))
		}
	}
	w.put(t, names...)
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, reads: map[string]*count{}, writes: map[string]*count{}}
	for c := range clients {
		l.done.Go(func() {
			for turn := c; ctx.Err() == nil; turn++ {
				l.work(ctx, w.dsn(w.c.Nodes[turn%len(w.c.Nodes)]), c)
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

// received is how many values clients have got.
func (l *load) received() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

func (l *load) note(of map[string]*count, name string, asked, received int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of[name] == nil {
		of[name] = &count{}
	}
	of[name].asked += asked
	of[name].received += received
	if received > 0 {
		l.all++
	}
}

// work is one session's, until it breaks.
func (l *load) work(ctx context.Context, dsn string, client int) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // some sessions end by themselves
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its result is counted
	for i := 0; err == nil && ctx.Err() == nil; i++ {
		name := secretOf(client, i%secretsEach)
		switch {
		case i%9 == 4:
			l.note(l.writes, name, 1, 0)
			if _, err = conn.Exec(ctx, "SELECT vault.put_secret($1, $2)", name, valueOf(name)); err == nil {
				l.note(l.writes, name, 0, 1)
			}
		case i%9 == 8:
			err = l.readAll(ctx, conn, client)
		default:
			err = l.readOne(ctx, conn, name)
		}
	}
}

func (l *load) readOne(ctx context.Context, conn *pgx.Conn, name string) error {
	l.note(l.reads, name, 1, 0)
	var value string
	if err := conn.QueryRow(ctx, "SELECT vault.read_secret($1)", name).Scan(&value); err != nil {
		return err
	}
	l.got(name, value)
	return nil
}

// readAll reads all of a client's in one statement.
func (l *load) readAll(ctx context.Context, conn *pgx.Conn, client int) error {
	var names []string
	for i := range secretsEach {
		names = append(names, secretOf(client, i))
		l.note(l.reads, names[i], 1, 0)
	}
	rows, err := conn.Query(ctx, "SELECT n, vault.read_secret(n) FROM unnest($1::text[]) n", names)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		l.got(name, value)
	}
	return rows.Err()
}

func (l *load) got(name, value string) {
	l.note(l.reads, name, 0, 1)
	if value != valueOf(name) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wrong = fmt.Sprintf("%s: got %q", name, value)
	}
}

// compare sees that there is a record for all that clients received, and none for what
// nobody asked for.
func (l *load) compare(t *testing.T, rows []chain.Row) {
	t.Helper()
	l.end()
	reads, writes := map[string]int{}, map[string]int{}
	for i := range rows {
		if r := &rows[i]; r.Outcome == chain.OutcomeOK && r.Face == chain.FaceSQL {
			switch r.Action {
			case chain.ActionRead:
				reads[r.Secret]++
			case chain.ActionCreate, chain.ActionUpdate:
				writes[r.Secret]++
			default:
			}
		}
	}
	if l.wrong != "" {
		t.Error(l.wrong)
	}
	total := 0
	for name, c := range l.reads {
		total += c.received
		if n := reads[name]; n < c.received || n > c.asked {
			t.Errorf("%s: %d records, want at least the %d values received, at most the %d asked for", name, n, c.received, c.asked)
		}
	}
	for name, c := range l.writes {
		if n := writes[name] - 1; n < c.received || n > c.asked { // one was before the load
			t.Errorf("%s: %d records of writes, want at least %d, at most %d", name, n, c.received, c.asked)
		}
	}
	if total == 0 {
		t.Error("no client received anything")
	}
	t.Logf("%d values received", total)
}
