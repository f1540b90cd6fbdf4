// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// headsIn are the records over which the files have heads.
func headsIn(t *testing.T, sys system) (over []uint64) {
	t.Helper()
	r, err := openReader(testRoot, sys)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		_, head, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return over
		case err != nil:
			t.Fatal(err)
		case head == nil:
			continue
		case !head.Valid():
			t.Errorf("the head over record %d has a wrong signature", head.Seq)
		}
		over = append(over, head.Seq)
	}
}

// A head is signed over the 1,024th durable record behind the last one, and every 10 s
// if there is any.
func TestHeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := newMemSystem()
		began := time.Now()
		s := openMem(t, sys, Options{})
		var want []uint64
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			if got := headsIn(t, sys); !slices.Equal(got, want) {
				t.Errorf("%s: heads over %v, want %v", when, got, want)
			}
		}
		upTo := func(last uint64) {
			t.Helper()
			for s.Status().Durable < last {
				mustAppend(t, s, slices.Repeat([]Record{read("a")}, int(min(100, last-s.Status().Durable)))...)
				if err := settle(s); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, due := range []uint64{1024, 2048} {
			upTo(due - 1)
			check("a record too few")
			upTo(due)
			want = append(want, due)
			check("enough records")
		}
		upTo(2049)
		<-time.After(9*time.Second - time.Since(began))
		check("too early")
		<-time.After(time.Second + syncDelay) // and its sync
		want = append(want, 2049)
		check("10 s later")
		<-time.After(100 * time.Second)
		check("idle")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want = append(want, 2050) // the record of the stop
		check("closed")
	})
}
