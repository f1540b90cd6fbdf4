// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"fmt"
	"regexp"
	"testing"
)

func TestKinds(t *testing.T) {
	state := regexp.MustCompile(`^[0-9A-Z]{5}$`)
	names := map[string]Kind{}
	for k := KindInternal; k < kindCount; k++ {
		if !state.MatchString(k.SQLState()) {
			t.Errorf("kind %d has SQLSTATE %q", k, k.SQLState())
		}
		if k != KindInternal && k.SQLState() == KindInternal.SQLState() {
			t.Errorf("kind %v has no SQLSTATE of its own", k)
		}
		if other, twice := names[k.String()]; twice {
			t.Errorf("kinds %d and %d are both called %q", other, k, k.String())
		}
		names[k.String()] = k
	}
	if got := KindOf(fmt.Errorf("wrapped: %w", &Error{Kind: KindDenied})); got != KindDenied {
		t.Errorf("KindOf a wrapped error: %v", got)
	}
	denied := &Error{Kind: KindDenied, reason: byCIDRs, Msg: "no"}
	if got := reasonOf(fmt.Errorf("wrapped: %w", denied)); got != "cidrs" || denied.Error() != "no" {
		t.Errorf("the rule is %q, and told in %q", got, denied)
	}
	if got := reasonOf(&Error{Kind: KindLimited}) + " " + reasonOf(errors.New("x")); got != "limited internal" {
		t.Errorf("reasons without a rule: %s", got)
	}
	if got := KindOf(errors.New("x")); got != KindInternal {
		t.Errorf("KindOf a foreign error: %v", got)
	}
}
