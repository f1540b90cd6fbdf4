// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// memLog stands in for vault.audit_log of one node.
type memLog struct {
	rows    map[uint64]audit.Row
	head    audit.Position
	planted map[uint64]bool
	fail    []error // of the next calls; nil: it works
	always  error   // of each question behind the first append
	lose    bool    // the next append is answered, and lost
	calls   int
	panicAt int // this call does; 0: none
}

func newMemLog() *memLog { return &memLog{rows: map[uint64]audit.Row{}, planted: map[uint64]bool{}} }

func (m *memLog) next() error {
	if m.calls++; m.calls == m.panicAt {
		panic("panic canary")
	}
	if len(m.fail) == 0 {
		return nil
	}
	err := m.fail[0]
	m.fail = m.fail[1:]
	return err
}

func (m *memLog) position(context.Context, audit.NodeID) (audit.Position, error) {
	if m.always != nil && len(m.rows) > 0 {
		return audit.Position{}, m.always
	}
	return m.head, m.next()
}

func (m *memLog) append(_ context.Context, b *audit.Batch, _ ShipMode, gap bool) (audit.Position, error) {
	if err := m.next(); err != nil {
		return audit.Position{}, err
	}
	rows, err := b.Rows()
	if err != nil {
		return audit.Position{}, err
	}
	first := rows[0]
	if first.Seq != m.head.Seq+1 || first.Prev != m.head.Hash {
		if !gap || first.Seq <= m.head.Seq+1 {
			return m.head, nil
		}
	}
	for _, r := range rows {
		if m.planted[r.Seq] {
			return audit.Position{}, errConflict
		}
	}
	at := b.Head.Position
	if m.lose {
		m.lose = false
		return at, nil
	}
	for _, r := range rows {
		if _, twice := m.rows[r.Seq]; twice {
			return audit.Position{}, fmt.Errorf("record %d comes twice", r.Seq)
		}
		m.rows[r.Seq] = r
	}
	m.head = at
	return at, nil
}

// restore takes the log back to a record.
func (m *memLog) restore(seq uint64) {
	for n := range m.rows {
		if n > seq {
			delete(m.rows, n)
		}
	}
	m.head = audit.Position{}
	if seq > 0 {
		r := m.rows[seq]
		m.head = r.Position()
	}
}

// shipWorld is a spool, a log, and what ships from one to the other.
type shipWorld struct {
	t     *testing.T
	dir   string
	spool *audit.Spool
	log   *memLog
	*shipper
	said   strings.Builder
	causes []string
}

func newShipWorld(t *testing.T) *shipWorld {
	t.Helper()
	w := &shipWorld{t: t, dir: t.TempDir(), log: newMemLog()}
	w.start(audit.Options{})
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts the node.
func (w *shipWorld) start(o audit.Options) {
	w.t.Helper()
	o.Sync, o.SegmentBytes = audit.SyncAlways, 4<<10
	spool, err := audit.Open(w.dir, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.spool = spool
	w.shipper = newShipper(w.log, spool, ShipAll, slog.New(slog.NewTextHandler(&w.said, nil)), func(cause string) { w.causes = append(w.causes, cause) })
}

func (w *shipWorld) stop() {
	w.t.Helper()
	w.leave()
	if err := w.spool.Close(); err != nil {
		w.t.Error(err)
	}
}

// read appends as many records, one after the other.
func (w *shipWorld) read(n int) {
	w.t.Helper()
	for range n {
		w.readAtOnce(1)
	}
}

// readAtOnce appends as many records as one.
func (w *shipWorld) readAtOnce(n int) {
	w.t.Helper()
	records := make([]audit.Record, n)
	for i := range records {
		records[i] = audit.Record{Face: audit.FaceSQL, Action: audit.ActionRead, Outcome: audit.OutcomeOK, Secret: fmt.Sprintf("s/%d", i), Actor: "app"}
	}
	if err := w.spool.Append(w.t.Context(), records); err != nil {
		w.t.Fatal(err)
	}
}

// ship goes on until there is nothing more, or an error. The vault is asked first.
func (w *shipWorld) ship() error {
	w.t.Helper()
	w.asked = time.Time{}
	for {
		more, err := w.round(w.t.Context())
		w.note(w.t.Context(), err)
		if !more {
			return err
		}
	}
}

// shipped sees that the vault has all of it, and that it is one chain but for gaps.
func (w *shipWorld) shipped(gaps int) {
	w.t.Helper()
	st := w.spool.Status()
	if w.log.head.Seq != st.Durable || st.Shipped != st.Durable {
		w.t.Errorf("the vault is at %d, the mark at %d, want both at %d", w.log.head.Seq, st.Shipped, st.Durable)
	}
	var before audit.Position
	for _, seq := range sortedSeqs(w.log.rows) {
		r := w.log.rows[seq]
		if r.Prev != before.Hash {
			gaps--
		}
		before = r.Position()
	}
	if gaps != 0 {
		w.t.Errorf("gaps: %d more or less than there should be", gaps)
	}
}

func sortedSeqs(rows map[uint64]audit.Row) []uint64 {
	var all []uint64
	for seq := range rows {
		all = append(all, seq)
	}
	slices.Sort(all)
	return all
}
