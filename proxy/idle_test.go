// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// A client whose value is being sealed waits for the node, which has asked the
// server for nothing yet.
func TestSealingIsNotIdle(t *testing.T) {
	ss := &session{srv: &Server{ctx: t.Context()}}
	ss.state = wire.Idle
	past := time.Now()
	now := past.Add(time.Hour)
	ss.active.Store(stamp(past))
	ss.operate(opFront)
	if ss.overdue(time.Minute, now) || ss.ended {
		t.Fatal("it is idle while the KMS works for it")
	}
	ss.operated(opFront)
	if ss.overdue(time.Minute, now) {
		t.Error("the time of the operation counts")
	}
	ss.working = true // as while a write waits for a primary
	if ss.overdue(time.Minute, now.Add(2*time.Minute)) || ss.ended {
		t.Fatal("it is idle while its message is being looked at")
	}
	ss.working = false
	ss.operate(opBack)
	if ss.overdue(time.Minute, now.Add(4*time.Minute)) || ss.ended {
		t.Fatal("it is idle while it is on its way to the primary")
	}
	ss.operated(opBack)
	now = now.Add(4 * time.Minute)
	if !ss.overdue(time.Minute, now.Add(2*time.Minute)) {
		t.Error("it is not idle afterwards")
	}
}
