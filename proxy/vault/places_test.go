// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"testing"
)

// TestPlaces: however many names a client waits for, another one finds a place, and those
// who read do.
func TestPlaces(t *testing.T) {
	for connections, want := range map[int]map[string]int{
		1: {"a": 1, "b": 0, "c": 0}, 3: {"a": 1, "b": 0, "c": 0}, 4: {"a": 1, "b": 1, "c": 0}, 8: {"a": 4, "b": 2, "c": 0}, 100: {"a": 50, "b": 48, "c": 0},
	} {
		p := newPlaces(connections)
		var taken []func()
		take := func(client string) error {
			now, cancel := context.WithTimeout(t.Context(), 1) // or never
			defer cancel()
			done, err := p.take(now, client, "n")
			if err == nil {
				taken = append(taken, done)
			}
			return err
		}
		for _, client := range []string{"a", "b", "c"} {
			for n := range want[client] {
				for tries := 0; take(client) != nil; tries++ { // its time may be over before it looks
					if tries == 1000 {
						t.Fatalf("of %d connections %s has %d, want %d", connections, client, n, want[client])
					}
				}
			}
			for range 20 {
				wantKind(t, take(client), KindBusy)
			}
		}
		for _, done := range taken {
			done()
		}
		if len(p.all) != 0 || len(p.own.by) != 0 {
			t.Errorf("%d places of %d clients are taken still", len(p.all), len(p.own.by))
		}
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	p := newPlaces(1)
	p.all <- struct{}{}
	if _, err := p.take(left, "a", "n"); KindOf(err) != KindCanceled {
		t.Errorf("who left: %v", err)
	}
}
