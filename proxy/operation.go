// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "context"

// An operation is a call of the core that a cancel request may interrupt. Its
// context serves the next one too, unless it was interrupted.
type operation struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running bool
}

// operate begins a call of the core; operated ends it.
func (ss *session) operate(who int) context.Context {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	o := &ss.ops[who]
	if o.ctx == nil || o.ctx.Err() != nil {
		o.ctx, o.cancel = context.WithCancel(ss.srv.ctx)
	}
	if o.running = true; ss.ended {
		o.cancel()
	}
	return o.ctx
}

func (ss *session) operated(who int) {
	ss.mu.Lock()
	ss.ops[who].running = false
	ss.mu.Unlock()
}

const (
	opFront = iota
	opBack
)
