// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

func TestShipAll(t *testing.T) {
	w := newShipWorld(t)
	w.read(3)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
	w.readAtOnce(2*shipRows + 5) // more than one batch
	w.read(100)                  // more than one segment
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
			if err := w.ship(); shipCause(err) != test.want {
				t.Fatalf("got %v (%s), want %s", err, shipCause(err), test.want)
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
		if said := w.said.String(); strings.Count(said, "has lost") != 1 || !strings.Contains(said, fmt.Sprintf("from=%d to=101", to+1)) {
			t.Errorf("it says %s", said)
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
	if said := w.said.String(); strings.Count(said, "has lost") != 1 || !strings.Contains(said, "keeps no more") {
		t.Errorf("it says %s", said)
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

// TestShipGapGrows: of a vault that was restored to the same place again, when still more
// is gone, the node says so again.
func TestShipGapGrows(t *testing.T) {
	w := newShipWorld(t)
	w.read(100)
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for range 2 {
		noted, to := w.noted, w.notedTo
		w.stop()
		w.dropSegments(1)
		w.start(audit.Options{})
		w.noted, w.notedTo = noted, to // as if it had not ended
		if err := w.ship(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time nothing more is gone
			w.log.restore(5)
			if err := w.ship(); err != nil {
				t.Fatal(err)
			}
			w.shipped(1)
		}
		want = append(want, fmt.Sprintf("records 6 to %d; timeline 0 to 0", w.spool.Oldest().Seq))
	}
	var got []string
	for _, seq := range sortedSeqs(w.log.rows) {
		if r := w.log.rows[seq]; r.Action == audit.ActionGap {
			got = append(got, r.Reason)
		}
	}
	if !slices.Equal(got, want) || want[0] == want[1] {
		t.Errorf("recorded: got %q, want %q", got, want)
	}
}

// TestShipUnmarked: a directory that takes no writes keeps nothing that is durable from the
// vault. What that has is written down as soon as it can be, also if nothing more comes.
func TestShipUnmarked(t *testing.T) {
	w := newShipWorld(t)
	w.read(3)
	obstacle := filepath.Join(w.dir, "audit", "shipped.tmp")
	if err := os.MkdirAll(filepath.Join(obstacle, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.ship(); err != nil {
			t.Fatal(err)
		}
		if st := w.spool.Status(); w.log.head.Seq != st.Durable || st.Shipped != 0 {
			t.Errorf("the vault is at %d, the mark at %d, want %d and 0", w.log.head.Seq, st.Shipped, st.Durable)
		}
	}
	if err := os.RemoveAll(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
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
	for _, other := range []uint64{100, 1} {
		w.log.head = audit.Position{Seq: other, Hash: audit.Hash{1}}
		if err := w.ship(); !errors.Is(err, audit.ErrForked) {
			t.Fatalf("got %v, want %v", err, audit.ErrForked)
		}
	}
	if said := w.said.String(); strings.Contains(said, "has lost") {
		t.Errorf("it says %s", said)
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

// TestShippingPanics: a panic is one more way to fail; what it kept from the vault
// arrives later, once.
func TestShippingPanics(t *testing.T) {
	w := newShipWorld(t)
	v := &Vault{log: w.shipper.log, metrics: newMetrics()}
	w.rescue = v.rescue
	for calls := range 3 {
		w.read(3)
		w.log.panicAt = w.log.calls + calls + 1
		if err := w.ship(); shipCause(err) != shipInternal || !w.state.read(time.Now()).Alarm {
			t.Errorf("call %d: got %v (%s), want %s and an alarm", calls, err, shipCause(err), shipInternal)
		}
		if err := w.ship(); err != nil || w.state.read(time.Now()).Alarm {
			t.Errorf("call %d: then got %v", calls, err)
		}
		w.shipped(0)
	}
	if got := testutil.ToFloat64(v.metrics.panics); got != 3 {
		t.Errorf("%v panics counted, want 3", got)
	}
	if said := w.said.String(); strings.Contains(said, "canary") || !strings.Contains(said, "(*memLog).next") {
		t.Errorf("logged was\n%s", said)
	}
}

// TestShipBurst: while more follows at once nothing is read back, and then all of it.
func TestShipBurst(t *testing.T) {
	for _, n := range []int{shipRows, 2*shipRows + 7, 3 * shipRows} {
		w := newShipWorld(t)
		w.readAtOnce(n - 1) // behind the record of the start
		for more := true; more; {
			var err error
			if more, err = w.round(t.Context()); err != nil {
				t.Fatal(err)
			}
			if more {
				w.asked = time.Now().Add(time.Hour) // however long that took
				if got := w.spool.Status().Shipped; got != 0 {
					t.Errorf("%d count as shipped, which nobody has read back", got)
				}
			}
		}
		w.shipped(0)
		asked := (n+shipRows-1)/shipRows + 2 // the appends, where it stands, and the reading back
		if w.log.calls != asked {
			t.Errorf("%d records: %d calls, want %d", n, w.log.calls, asked)
		}
	}
}

// TestShipSmaller: a batch that did not arrive goes on as smaller ones.
func TestShipSmaller(t *testing.T) {
	w := newShipWorld(t)
	w.readAtOnce(shipRows - 1)
	for want := shipRows / 2; want >= shipLeast; want /= 2 {
		w.log.fail = []error{nil, errors.New("the time is up")} // it says where it stands
		if err := w.ship(); err == nil {
			t.Fatal("no error")
		}
		if w.rows != want {
			t.Errorf("%d records in a batch, want %d", w.rows, want)
		}
	}
	if err := w.ship(); err != nil {
		t.Fatal(err)
	}
	w.shipped(0)
	if w.rows != shipRows {
		t.Errorf("%d records in a batch, want %d", w.rows, shipRows)
	}
}

// TestShipWaits: records that nobody has read back are waiting, whoever took them.
func TestShipWaits(t *testing.T) {
	w := newShipWorld(t)
	w.read(3)
	w.log.always = errors.New("the vault cannot be reached") // after it took them
	ctx, end := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { w.keep(ctx, nil) })
	deadline := time.Now().Add(time.Minute)
	for w.state.read(time.Now()).Waited == 0 && time.Now().Before(deadline) {
		<-time.After(time.Millisecond)
	}
	waited := w.state.read(time.Now()).Waited
	end()
	all.Wait()
	if waited == 0 {
		t.Error("nothing waits")
	}
}
