// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWritten: how many seconds ago the primary had what the local server shows,
// with a sample a second of a primary that has written as much as is given.
func TestWritten(t *testing.T) {
	busy := func(second int) uint64 { return uint64(100 * second) }
	idle := func(int) uint64 { return 100 }
	for _, c := range []struct {
		name    string
		seconds int
		written func(second int) uint64
		r       replayed
		want    int // -1: nobody knows
		atMost  int // 0: as want
	}{
		{name: "nobody was asked", r: replayed{position: 1, timeline: 1}, want: -1},
		{name: "all is replayed", seconds: 9, written: busy, r: replayed{position: 900, timeline: 1}},
		{name: "and more", seconds: 9, written: busy, r: replayed{position: 950, timeline: 1}},
		{name: "all but the last", seconds: 9, written: busy, r: replayed{position: 899, timeline: 1}, want: 1},
		{name: "the first", seconds: 9, written: busy, r: replayed{position: 100, timeline: 1}, want: 8},
		{name: "less than the first", seconds: 9, written: busy, r: replayed{position: 99, timeline: 1}, want: -1},
		{name: "idle", seconds: 500, written: idle, r: replayed{position: 100, timeline: 1}},
		{name: "idle, and all is there but the last word", seconds: 500, written: idle, r: replayed{position: 99, timeline: 1}, want: -1},
		{name: "another timeline", seconds: 9, written: busy, r: replayed{position: 900, timeline: 2}, want: -1},
		{name: "far behind, which is known roughly", seconds: 5000, written: busy, r: replayed{position: 1000, timeline: 1}, want: 4990, atMost: 4999},
		{name: "little behind, after long", seconds: 5000, written: busy, r: replayed{position: 499_900, timeline: 1}, want: 1, atMost: 256},
	} {
		var w written
		start := time.Now()
		for s := 1; s <= c.seconds; s++ {
			w.add(sample{at: start.Add(time.Duration(s) * time.Second), position: c.written(s), timeline: 1})
		}
		at, ok := w.shown(&c.r)
		switch age := int(start.Add(time.Duration(c.seconds) * time.Second).Sub(at).Seconds()); {
		case !ok && c.want < 0:
		case !ok || age < c.want || age > max(c.want, c.atMost):
			t.Errorf("%s: %d s, %v; want %d", c.name, age, ok, c.want)
		}
		if len(w.samples) > maxSamples {
			t.Errorf("%s: %d samples are kept", c.name, len(w.samples))
		}
	}
}

// What was seen to be replayed stays known however long replay stands still, and
// what follows as well.
func TestWrittenForgetsOnlyWhatIsOld(t *testing.T) {
	var w written
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	paused := &replayed{position: 500, timeline: 1}
	for s := 1; s <= 10_000; s++ {
		w.add(sample{at(s), uint64(100 * s), 1})
		if got, ok := w.shown(paused); s > 5 && (!ok || got != at(5)) {
			t.Fatalf("after %d s: %v, %v", s, got.Sub(start), ok)
		}
	}
	if got, ok := w.shown(&replayed{position: 1_000_000, timeline: 1}); !ok || got != at(10_000) {
		t.Errorf("when it goes on: %v, %v", got.Sub(start), ok)
	}
	if got, ok := w.shown(paused); ok { // a server that was set back
		t.Errorf("what is older is known as well: %v", got.Sub(start))
	}
	w.add(sample{at(10_001), 1_000_100, 2})
	if got, ok := w.shown(&replayed{position: 1_000_050, timeline: 1}); !ok || got != at(10_000) || w.newest().timeline != 2 {
		t.Errorf("on the way over a promotion: %v, %v", got.Sub(start), ok)
	}
	if got, ok := w.shown(&replayed{position: 1_000_100, timeline: 2}); !ok || got != at(10_001) {
		t.Errorf("after it: %v, %v", got.Sub(start), ok)
	}
}

func TestParseSample(t *testing.T) {
	p := Primary{System: "7", Timeline: 2}
	for text, want := range map[string]sample{
		"7 000000020000000000000003 0/3000100 256":  {position: 0x3000100, timeline: 2},
		"7 0000001A0000000000000003 0/3000028 40":   {position: 0x3000000, timeline: 26},
		"7 000000020000000000000003 0/3002018 8216": {position: 0x3002000, timeline: 2},
	} {
		if got, ok := parseSample(p, time.Time{}, text); !ok || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, ok, want)
		}
	}
	for _, bad := range []string{
		"", "7", "8 000000020000000000000003 0/3000100 256", "7 000000010000000000000003 0/3000100 256", "7 0000000 0/3000100 256",
		"7 0000000x0000000000000003 0/3000100 256", "7 000000020000000000000003 0/3000100", "7 000000020000000000000003 x 256",
	} {
		if got, ok := parseSample(p, time.Time{}, bad); ok {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

// What was seen of the local server is not believed for long.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.MaxStaleness = 5 * time.Second })
		wait := func(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // of the test's own clock
		want := func(age time.Duration, known bool) {
			t.Helper()
			if gotAge, gotKnown := v.Staleness(); gotAge != age && known || gotKnown != known {
				t.Errorf("got %v, %v; want %v, %v", gotAge, gotKnown, age, known)
			}
		}
		want(0, false)
		v.written.add(sample{time.Now(), 100, 1})
		wait(time.Second)
		v.replay.Store(&replayed{at: time.Now(), position: 100, timeline: 1})
		want(time.Second, true)
		wait(replayTTL)
		want(time.Second+replayTTL, true)
		if err := v.checkFresh(t.Context(), testActor); err != nil {
			t.Errorf("within the bound: %v", err)
		}
		later := testActor
		later.Since = time.Now()
		if err := v.checkFresh(t.Context(), later); err == nil {
			t.Error("what the server showed before it crashed counts after it")
		}
		wait(1)
		want(0, false)
		v.replay.Store(&replayed{at: time.Now(), primary: true})
		want(0, true)
		v.localReplaced.Store(true)
		want(0, false)
	})
}

// With a bound and a server that does not say what it shows nothing of it is
// opened, and nothing of it is verified.
func TestStaleOpensNothing(t *testing.T) {
	v, kms, sink := newTestVault(t, func(c *Config, _ *testKMS) { c.MaxStaleness = time.Second })
	text := [][]byte{sealText(t, v, "a/b", 1, "s3cret")}
	v.Flush()
	_, err := v.OpenSealed(t.Context(), testActor, true, text)
	wantKind(t, err, KindStale)
	if records, _ := sink.last(); len(records) != 1 || records[0].Secret != "a/b" || records[0].Reason != "stale" {
		t.Errorf("the audit has %+v", records)
	}
	_, err = v.Match(t.Context(), testActor, "a/b", text, []byte("s3cret"))
	wantKind(t, err, KindStale)
	_, err = v.Match(t.Context(), testActor, "not/here", nil, []byte("s3cret"))
	wantKind(t, err, KindStale)
	if n := kms.unwraps.Load(); n != 0 {
		t.Errorf("the KMS was asked %d times", n)
	}
	moved := testActor
	moved.Moved = true
	plains, err := v.OpenSealed(t.Context(), moved, true, text)
	if err != nil {
		t.Errorf("at the primary: %v", err)
	}
	ZeroAll(plains)
	if _, err := v.Match(t.Context(), moved, "not/here", nil, []byte("s3cret")); err != nil {
		t.Errorf("a name that the primary does not have: %v", err)
	}
}
