// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "testing"

// TestTrialIsKept: once the primary runs a statement, what the client has had of its
// answer is needed to the end, and the client's next message waits for that.
func TestTrialIsKept(t *testing.T) {
	for name, row := range map[string]struct {
		trial      trial
		left, long bool
	}{
		"the standby runs it":          {trial{open: true}, false, false},
		"the standby has refused it":   {trial{open: true, refused: []byte{0}}, true, true},
		"the primary runs it":          {trial{echo: []byte{0}}, true, false},
		"the unnamed one, refused":     {trial{open: true, before: true, refused: []byte{0}}, true, true},
		"the unnamed one, run already": {trial{before: true, echo: []byte{0}}, true, false},
	} {
		ss := &session{srv: &Server{}}
		ss.standby = true // as the unnamed statement is kept there alone
		ss.trial = &row.trial
		if row.trial.before {
			ss.keepUnnamed([]byte("\x00SELECT 1\x00\x00\x00"))
		} else {
			ss.spoilTrial()
		}
		if left := ss.trial != nil; left != row.left || left && ss.trial.long != row.long {
			t.Errorf("%s: %+v", name, ss.trial)
		}
		ss.standby = false
		ss.queue.push(owed{kind: oweSync})
		if got := ss.inFlight(); got != row.left {
			t.Errorf("%s: the next message waits: %v", name, got)
		}
	}
}
