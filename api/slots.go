// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	// smallBody is what a body may have without a slot: no more than its connection
	// costs anyway.
	smallBody = 4 << 10

	// maxBodies bounds how many larger bodies are held at once, maxShare how many of
	// them are one client's: who sends his slowly keeps nobody else waiting.
	maxBodies = 64
	maxShare  = 8

	// slotWait is how long a body waits for a slot.
	slotWait = 5 * time.Second
)

// slots hands out so many at once, and of them so many to one client. Safe for
// concurrent use.
type slots struct {
	all  chan struct{}
	each int
	mu   sync.Mutex
	by   map[string]*share
}

// A share is one client's slots.
type share struct {
	taken chan struct{}
	users int // holders and those who wait; guarded by slots.mu
}

func newSlots(all, each int) *slots {
	return &slots{all: make(chan struct{}, all), each: each, by: map[string]*share{}}
}

var errNoSlot = &problem{http.StatusServiceUnavailable, "busy", "this node is reading as many large bodies as it may; try again in a moment"}

// take waits for a slot until ctx ends. The caller gives it back.
func (s *slots) take(ctx context.Context, client string) (giveBack func(), err error) {
	mine := s.join(client)
	select {
	case mine.taken <- struct{}{}:
	case <-ctx.Done():
		s.leave(client, mine)
		return nil, errNoSlot
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		<-mine.taken
		s.leave(client, mine)
		return nil, errNoSlot
	}
	return func() {
		<-s.all
		<-mine.taken
		s.leave(client, mine)
	}, nil
}

func (s *slots) join(client string) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.by[client]
	if mine == nil {
		mine = &share{taken: make(chan struct{}, s.each)}
		s.by[client] = mine
	}
	mine.users++
	return mine
}

// leave forgets a client of whom nothing is held.
func (s *slots) leave(client string, mine *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(s.by, client)
	}
}
