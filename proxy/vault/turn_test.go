// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTurns(t *testing.T) {
	var turns turns
	first, err := turns.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := turns.take(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := turns.take(gone, "a"); KindOf(err) != KindCanceled {
		t.Errorf("who left: %v", err)
	}
	late, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := turns.take(late, "a"); KindOf(err) != KindBusy {
		t.Errorf("who has waited long enough: %v", err)
	}
	first()

	var writers sync.WaitGroup
	var inside, done atomic.Int32
	for range 50 {
		writers.Go(func() {
			end, err := turns.take(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two at once")
			}
			done.Add(1)
			inside.Add(-1)
			end()
		})
	}
	writers.Wait()
	if done.Load() != 50 || len(turns.by) != 0 {
		t.Errorf("%d were done, %d names are kept", done.Load(), len(turns.by))
	}
}
