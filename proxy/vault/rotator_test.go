// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"testing"
	"time"
)

func TestJittered(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := jittered(10 * time.Second)
		if d < 9*time.Second || d > 11*time.Second {
			t.Fatalf("10 s became %v", d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d different waits of 1,000", len(seen))
	}
}

// TestRotationBounds: who has claimed a job has ended before the claim does, and has
// said so.
func TestRotationBounds(t *testing.T) {
	const claimed = 15 * time.Second // extension/sql
	if all := rotateTimeout + rotateFailTimeout; all >= claimed || rotateKeyTimeout >= rotateTimeout {
		t.Errorf("a rotation may take %v, and asking the KMS %v of it; the claim lasts %v", all, rotateKeyTimeout, claimed)
	}
}
