// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// countingLog takes what follows, keeps nothing of it, and looks at the heap meanwhile.
type countingLog struct {
	head  audit.Position
	away  bool
	bytes int    // of the records that came
	most  uint64 // bytes in use, ever
	calls int
}

func (l *countingLog) position(context.Context, audit.NodeID) (audit.Position, error) {
	if l.away {
		return audit.Position{}, &Error{Kind: KindPrimary, Msg: "away"}
	}
	return l.head, nil
}

func (l *countingLog) append(_ context.Context, b *audit.Batch, _ ShipMode, _ bool) (audit.Position, error) {
	if b.After == l.head {
		l.head = b.Head.Position
		l.bytes += len(b.Records)
	}
	if l.calls++; l.calls%10 == 1 {
		l.most = max(l.most, heapInUse())
	}
	return l.head, nil
}

// heapInUse is how many bytes are still referred to.
func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestShipBacklog: however many records wait for the primary, a node holds no more than a
// batch of them in memory, neither while they wait nor while they are shipped.
func TestShipBacklog(t *testing.T) {
	const records, atOnce, bound = 300_000, 3000, 24 << 20
	spool, err := audit.Open(t.TempDir(), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = spool.Close() }) // it is looked at before
	to := &countingLog{away: true}
	s := newShipper(to, spool, ShipAll, slog.New(slog.DiscardHandler), func(string) {})
	defer s.leave()
	buffer := make([]audit.Record, atOnce)
	for i := range buffer {
		buffer[i] = audit.Record{Face: audit.FaceSQL, Action: audit.ActionRead, Outcome: audit.OutcomeOK, Secret: strings.Repeat("s", 200), Actor: "app"}
	}
	before := heapInUse()
	for range records / atOnce {
		if err := spool.Append(t.Context(), buffer); err != nil {
			t.Fatal(err)
		}
		if _, err := s.round(t.Context()); KindOf(err) != KindPrimary {
			t.Fatalf("the primary is away, and shipping says %v", err)
		}
	}
	if err := spool.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting := heapInUse()

	to.away = false
	for more := true; more; {
		if more, err = s.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	st := spool.Status()
	if st.Shipped != st.Durable || to.head.Seq < records || to.bytes < 4*bound {
		t.Fatalf("%d of %d shipped, %d bytes: no backlog to speak of", st.Shipped, st.Durable, to.bytes)
	}
	for when, got := range map[string]uint64{"waiting": waiting, "shipped": to.most} {
		if got > before+bound {
			t.Errorf("while %d MB of records are %s, memory grows by %d MB, want at most %d", to.bytes>>20, when, (got-before)>>20, bound>>20)
		}
	}
	t.Logf("%d MB of records; memory %d KB, %d KB while they waited, at most %d KB while they were shipped", to.bytes>>20, before>>10, waiting>>10, to.most>>10)
}
