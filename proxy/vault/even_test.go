// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"testing"
	"time"
)

// However long the work takes, an answer leaves at a whole step: never before it.
func TestEven(t *testing.T) {
	for _, work := range []time.Duration{0, verifyStep / 2, verifyStep + verifyStep/2} {
		start := now()
		wait := even()
		sleepUntil(start + work)
		wait()
		if took := now() - start; took < (work/verifyStep+1)*verifyStep {
			t.Errorf("%v of work: answered after %v", work, took)
		}
	}
}
