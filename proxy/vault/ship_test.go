// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	lose    bool    // the next append is answered, and lost
	calls   int
}

func newMemLog() *memLog { return &memLog{rows: map[uint64]audit.Row{}, planted: map[uint64]bool{}} }

func (m *memLog) next() error {
	m.calls++
	if len(m.fail) == 0 {
		return nil
	}
	err := m.fail[0]
	m.fail = m.fail[1:]
	return err
}

func (m *memLog) position(context.Context, audit.NodeID) (audit.Position, error) {
	return m.head, m.next()
}

func (m *memLog) append(_ context.Context, b *audit.Batch, _ ShipMode, gap bool) (audit.Position, error) {
	if err := m.next(); err != nil {
		return audit.Position{}, err
	}
	first := b.Rows[0]
	if first.Seq != m.head.Seq+1 || first.Prev != m.head.Hash {
		if !gap || first.Seq <= m.head.Seq+1 {
			return m.head, nil
		}
	}
	for _, r := range b.Rows {
		if m.planted[r.Seq] {
			return audit.Position{}, errConflict
		}
	}
	at := b.Rows[len(b.Rows)-1].Position()
	if m.lose {
		m.lose = false
		return at, nil
	}
	for _, r := range b.Rows {
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

// read appends as many records.
func (w *shipWorld) read(n int) {
	w.t.Helper()
	for i := range n {
		r := audit.Record{Face: audit.FaceSQL, Action: audit.ActionRead, Outcome: audit.OutcomeOK, Secret: fmt.Sprintf("s/%d", i), Actor: "app"}
		if err := w.spool.Append(w.t.Context(), []audit.Record{r}); err != nil {
			w.t.Fatal(err)
		}
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

func TestShipAll(t *testing.T) {
	w := newShipWorld(t)
	w.read(3)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
	w.read(2*shipRows + 5) // more than one batch, and segment
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
	w.stop()
	w.start(audit.Options{})
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
}

// TestShipFaults: whatever call fails, and whether or not the vault has done what it
// was asked, each record arrives once.
func TestShipFaults(t *testing.T) {
	away := &Error{Kind: KindPrimary, Msg: "away"}
	for _, test := range []struct {
		name string
		hurt func(*memLog)
		want string
	}{
		{"the vault does not say where it stands", func(m *memLog) { m.fail = []error{away} }, shipPrimary},
		{"it does not take the batch", func(m *memLog) { m.fail = []error{nil, away} }, shipPrimary},
		{"it took it, and does not say so", func(m *memLog) { m.fail = []error{nil, nil, away} }, shipPrimary},
		{"it lost it at once", func(m *memLog) { m.lose = true }, shipMoved},
		{"it is old", func(m *memLog) { m.fail = []error{errOldExtension} }, shipExtension},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newShipWorld(t)
			w.read(3)
			test.hurt(w.log)
			if err := w.ship(); shipKind(err) != test.want {
				t.Fatalf("got %v (%s), want %s", err, shipKind(err), test.want)
			}
			if got := w.spool.Status().Shipped; got != 0 {
				t.Errorf("%d count as shipped, which nobody has read back", got)
			}
			if err := w.ship(); err != nil {
				t.Fatal(err)
			}
			w.shipped(0)
			if got := w.causes; len(got) != 1 || got[0] != test.want {
				t.Errorf("counted: got %v, want %s", got, test.want)
			}
		})
	}
}

// TestShipAgain: what the vault lost is shipped again.
func TestShipAgain(t *testing.T) {
	for _, to := range []uint64{0, 1, 40, 99} {
		w := newShipWorld(t)
		w.read(100)
		if err := w.ship(); err != nil {
			t.Fatal(err)
		}
		w.log.restore(to)
		w.read(1)
		if err := w.ship(); err != nil {
			t.Fatal(err)
		}
		w.shipped(0)
		if !strings.Contains(w.said.String(), fmt.Sprintf("from=%d to=101", to+1)) {
			t.Errorf("it says %s", w.said.String())
		}
	}
}

// TestShipGap: what neither has any more is one record of the node's.
func TestShipGap(t *testing.T) {
	w := newShipWorld(t)
	w.shipper.timeline = func() uint32 { return 3 }
	w.read(100)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.dropSegments(2)
	w.start(audit.Options{})
	timeline := uint32(3)
	w.shipper.timeline = func() uint32 { return timeline }
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	oldest := w.spool.Oldest().Seq
	w.log.restore(5)
	timeline = 4
	w.log.fail = []error{nil, errors.New("the vault cannot be reached")} // after the gap was recorded
	if err := w.ship(); err == nil {
		t.Fatal("no error")
	}
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(1)
	var reasons []string
	for _, r := range w.log.rows {
		if r.Action == audit.ActionGap {
			reasons = append(reasons, r.Reason)
		}
	}
	want := fmt.Sprintf("records 6 to %d; timeline 3 to 4", oldest)
	if len(reasons) != 1 || reasons[0] != want {
		t.Errorf("recorded: got %q, want %q", reasons, want)
	}
	w.read(1)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(1)
	w.stop()
	w.start(audit.Options{})
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(1)
}

// dropSegments deletes the oldest files, as their age would.
func (w *shipWorld) dropSegments(n int) {
	w.t.Helper()
	all, err := filepath.Glob(filepath.Join(w.dir, "audit", "*.seg"))
	if err != nil || len(all) < n+2 {
		w.t.Fatalf("%d segments, %v", len(all), err)
	}
	slices.Sort(all)
	for _, path := range all[:n] {
		if err := os.Remove(path); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestShipPlanted: a row that somebody else has written in the node's name stops it,
// and loses nothing.
func TestShipPlanted(t *testing.T) {
	w := newShipWorld(t)
	w.read(3)
	w.log.planted[3] = true
	for range 3 {
		if err := w.ship(); !errors.Is(err, errConflict) {
			t.Fatalf("got %v, want %v", err, errConflict)
		}
	}
	if st := w.state.read(time.Now()); !st.Alarm {
		t.Errorf("no alarm: %+v", st)
	}
	if n := strings.Count(w.said.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times: %s", n, w.said.String())
	}
	w.read(1) // nothing is refused for it
	delete(w.log.planted, 3)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
	if st := w.state.read(time.Now()); st.Alarm || st.Err != nil {
		t.Errorf("the alarm goes on: %+v", st)
	}
}

// TestShipForked: what another node has written under this one's name stops it; if
// that was before it started, nothing is opened.
func TestShipForked(t *testing.T) {
	w := newShipWorld(t)
	w.read(3)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	own := w.log.head
	w.log.head = audit.Position{Seq: 100, Hash: audit.Hash{1}}
	if err := w.ship(); !errors.Is(err, audit.ErrForked) {
		t.Fatalf("got %v, want %v", err, audit.ErrForked)
	}
	w.read(1)

	w.stop()
	w.start(audit.Options{})
	if err := w.ship(); !errors.Is(err, audit.ErrForked) {
		t.Fatalf("got %v, want %v", err, audit.ErrForked)
	}
	r := audit.Record{Face: audit.FaceSQL, Action: audit.ActionRead, Outcome: audit.OutcomeOK}
	if err := w.spool.Append(t.Context(), []audit.Record{r}); !errors.Is(err, audit.ErrForked) {
		t.Errorf("an append: got %v, want %v", err, audit.ErrForked)
	}
	w.log.head = own
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.read(1)

	w.log.head.Seq = 100
	w.stop()
	w.start(audit.Options{NewIdentity: true})
	w.log.head = audit.Position{} // of another node id
	w.log.rows = map[uint64]audit.Row{}
	w.read(1)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
}

// TestKeepShipping: records arrive by themselves, and the last ones when it ends.
func TestKeepShipping(t *testing.T) {
	w := newShipWorld(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w.keep(t.Context(), stop)
	}()
	w.read(10)
	for w.spool.Status().Shipped < 11 {
		select {
		case <-done:
			t.Fatal("it ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	w.read(1)
	close(stop)
	<-done
	w.shipped(0)
}

// TestWithheld: of what only looks, the vault gets the links of the chain.
func TestWithheld(t *testing.T) {
	row := func(action audit.Action, outcome audit.Outcome) audit.Row {
		return audit.Row{Seq: 7, Hash: audit.Hash{7}, Record: audit.Record{
			At: time.Unix(1, 0), Face: audit.FaceSQL, Action: action, Outcome: outcome, Actor: "a", SessionRole: "r", Database: "d",
			Secret: "s", Version: 1, Direct: true, Reason: "x", Change: 2, Statement: 1 << 63,
		}}
	}
	for _, test := range []struct {
		mode     ShipMode
		action   audit.Action
		outcome  audit.Outcome
		withheld bool
	}{
		{ShipAll, audit.ActionRead, audit.OutcomeOK, false},
		{ShipWrites, audit.ActionRead, audit.OutcomeOK, true},
		{ShipWrites, audit.ActionVerify, audit.OutcomeMismatch, true},
		{ShipWrites, audit.ActionList, audit.OutcomeOK, true},
		{ShipWrites, audit.ActionTokenList, audit.OutcomeOK, true},
		{ShipWrites, audit.ActionRead, audit.OutcomeDenied, false},
		{ShipWrites, audit.ActionRead, audit.OutcomeFailed, false},
		{ShipWrites, audit.ActionVerify, audit.OutcomeLockedOut, false},
		{ShipWrites, audit.ActionUpdate, audit.OutcomeOK, false},
		{ShipWrites, audit.ActionTokenCreate, audit.OutcomeOK, false},
		{ShipWrites, audit.ActionStart, audit.OutcomeOK, false},
	} {
		c, r := newColumns(1), row(test.action, test.outcome)
		c.add(&r, test.mode)
		nothing := c.actor[0] == nil && c.role[0] == nil && c.database[0] == nil && c.secret[0] == nil && c.version[0] == nil && !c.direct[0] &&
			c.reason[0] == nil && c.change[0] == nil && c.statement[0] == nil && *c.face[0] == "" && *c.outcome[0] == "" && *c.action[0] == "withheld"
		all := c.actor[0] != nil && *c.statement[0] == -1<<63 && *c.action[0] == string(test.action)
		if nothing != test.withheld || all == test.withheld || !c.at[0].Equal(r.At) || string(c.hash[0]) != string(r.Hash[:]) {
			t.Errorf("%v %s %s: withheld %v, whole %v; want withheld %v", test.mode, test.action, test.outcome, nothing, all, test.withheld)
		}
	}
}
