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
	if !ss.overdue(time.Minute, now.Add(2*time.Minute)) {
		t.Error("it is not idle afterwards")
	}
}
