// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// What requests may hold together, of each sort, and of that one client's: who reads or
// sends slowly keeps others waiting for nothing that is not of his sort and size.
// docs/CONFIG.md adds it up.
const (
	allBodies, eachBodies = 64 << 20, 2 * maxBody
	allValues, eachValues = 64 << 20, 16 << 20  // of one secret
	allMany, eachMany     = 128 << 20, 64 << 20 // of many, or of many versions

	// smallHold is not counted: it is no more than a connection costs anyway.
	smallHold = 48 << 10

	// perRecord is what a byte of a sealed record costs: itself, what it decodes to, the
	// value, and most answers.
	perRecord = 3

	// perBody is what a byte of a body costs: itself, and what it decodes to.
	perBody = 2

	// holdWait is how long a request waits for memory.
	holdWait = 5 * time.Second
)

// memory is how many bytes requests may hold together, and of them how many those of
// one client. Safe for concurrent use. Make it with newMemory.
type memory struct {
	all, each int

	mu      sync.Mutex
	held    int
	by      map[string]int // by client; who holds nothing is not in it
	waiting []*waiter      // who came first is first
}

// A waiter is given n bytes by whoever gives some back.
type waiter struct {
	client string
	n      int
	given  chan struct{} // closed then
}

func newMemory(all, each int) *memory { return &memory{all: all, each: each, by: map[string]int{}} }

// try takes n bytes more for a client, if there are so many. It does not stand behind
// those who wait: they wait for more.
func (m *memory) try(client string, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.take(client, n)
}

// take is try; mu is held.
func (m *memory) take(client string, n int) bool {
	if m.held+n > m.all || m.by[client]+n > m.each {
		return false
	}
	m.held += n
	m.by[client] += n
	return true
}

// give gives n bytes of a client's back, to those who wait.
func (m *memory) give(client string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held -= n
	if m.by[client] -= n; m.by[client] == 0 {
		delete(m.by, client)
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(w *waiter) bool {
		if !m.take(w.client, w.n) {
			return false
		}
		close(w.given)
		return true
	})
}

// queue takes n bytes for a client as soon as there are so many; false: ctx ended before.
func (m *memory) queue(ctx context.Context, client string, n int) bool {
	w := &waiter{client, n, make(chan struct{})}
	m.mu.Lock()
	if m.take(client, n) {
		m.mu.Unlock()
		return true
	}
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()
	select {
	case <-w.given:
		return true
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.waiting, w)
	if i < 0 {
		return true // both at once
	}
	m.waiting = slices.Delete(m.waiting, i, i+1)
	return false
}

// own says whether a client's own requests leave no room for n bytes more.
func (m *memory) own(client string, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.by[client]+n > m.each
}

// A hold is what one request holds of a memory; without one it has no bound. Free it.
type hold struct {
	of     *memory
	access *vault.Access // whose it is
	client string        // the same; empty as long as nothing was taken
	n      int
}

func (h *hold) owner() string {
	if h.client == "" {
		h.client = h.access.Client()
	}
	return h.client
}

// resize makes it n bytes, if there are so many now.
func (h *hold) resize(n int) bool {
	if h.of == nil {
		return true
	}
	if n <= smallHold {
		n = 0
	}
	switch {
	case n > h.n:
		if !h.of.try(h.owner(), n-h.n) {
			return false
		}
	case n < h.n:
		h.of.give(h.client, h.n-n)
	}
	h.n = n
	return true
}

// wait gives back what there is and waits for n bytes. Whose own requests it is that it
// waits for keeps the node waiting: he would take the places of others by that.
func (h *hold) wait(ctx context.Context, n int) bool {
	h.free()
	ctx, cancel := context.WithTimeout(ctx, holdWait)
	defer cancel()
	if c := connOf(ctx); c != nil && h.of.own(h.owner(), n) {
		defer c.keepWaiting()()
	}
	if !h.of.queue(ctx, h.owner(), n) {
		return false
	}
	h.n = n
	return true
}

func (h *hold) free() {
	if h.n > 0 {
		h.of.give(h.client, h.n)
		h.n = 0
	}
}

// Fits implements [vault.Room].
func (h *hold) Fits(n int) bool { return h.resize(max(h.n, perRecord*n)) }

// Await implements [vault.Room].
func (h *hold) Await(ctx context.Context, n int) error {
	if h.wait(ctx, perRecord*n) {
		return nil
	}
	return noRoom()
}

func noRoom() error {
	return &vault.Error{Kind: vault.KindBusy, Msg: "this node is answering with as many large values as it may", Hint: "Try again in a moment."}
}
