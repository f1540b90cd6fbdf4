// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

// A bound ends with its parent, when it is ended, and in time, whether somebody has
// asked to be woken before, asks then, or never does.
func TestBound(t *testing.T) {
	type key struct{}
	for _, asked := range []string{"before", "then", "never"} {
		for what, want := range map[string]error{"parent": context.Canceled, "end": context.Canceled, "time": context.DeadlineExceeded, "parent's time": context.DeadlineExceeded} {
			parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, what))
			until := time.Now().Add(time.Hour)
			switch what {
			case "time":
				until = time.Now().Add(50 * time.Millisecond)
			case "parent's time":
				var cancelTime context.CancelFunc
				parent, cancelTime = context.WithTimeout(parent, 50*time.Millisecond)
				defer cancelTime()
			}
			b := &bound{parent: parent, until: until}
			var child context.Context
			if asked == "before" {
				select {
				case <-b.Done():
					if until.After(time.Now()) && parent.Err() == nil {
						t.Errorf("%s: it ends at once", what)
					}
				default:
				}
				var cancelChild context.CancelFunc
				child, cancelChild = context.WithCancel(b)
				defer cancelChild()
			}
			if at, ok := b.Deadline(); !ok || at.After(until) || what == "parent's time" && !at.Before(until) {
				t.Errorf("%s: its deadline is %v", what, at)
			}
			switch what {
			case "parent":
				cancel()
			case "end":
				b.end()
			case "time":
				<-time.After(time.Until(until))
			default:
				<-parent.Done()
			}
			if asked != "never" {
				<-b.Done()
			}
			if child != nil {
				<-child.Done()
			}
			if err := b.Err(); !errors.Is(err, want) {
				t.Errorf("%s, asked %s: got %v, want %v", what, asked, err, want)
			}
			if b.Value(key{}) != what {
				t.Errorf("%s, asked %s: the parent's values are gone", what, asked)
			}
			b.end()
			cancel()
		}
	}
}

// Package context knows a bound for one of its own, and needs no goroutine to wait for
// it.
func TestBoundNeedsNoGoroutine(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &bound{parent: parent, until: time.Now().Add(time.Hour)}
	defer b.end()
	before := runtime.NumGoroutine()
	for range 100 {
		defer context.AfterFunc(b, func() {})()
	}
	if n := runtime.NumGoroutine() - before; n > 50 {
		t.Errorf("%d goroutines wait", n)
	}
}
