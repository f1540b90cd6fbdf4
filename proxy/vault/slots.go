// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
)

// Slots is how many connections the local server takes, and how many of them it
// keeps for superusers; zero as long as it has not been asked. It does no I/O.
func (v *Vault) Slots() (most, reserved int) {
	if s := v.slots.Load(); s != nil {
		return s.most, s.reserved
	}
	return 0, 0
}

// A slotCount is the answer of sqlSlots.
type slotCount struct{ most, reserved int }

// readSlots asks for what changes only when the server starts anew. If that
// fails what was known before stays.
func (v *Vault) readSlots(ctx context.Context) {
	out, err := v.store.text(ctx, sqlSlots)
	if err != nil || out == nil {
		return
	}
	var s slotCount
	if n, err := fmt.Sscan(*out, &s.most, &s.reserved); err == nil && n == 2 && s.most > 0 && s.reserved >= 0 && s.reserved < s.most {
		v.slots.Store(&s)
	}
}
