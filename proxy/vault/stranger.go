// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Whoever reaches a port is refused as often as he likes, and each record takes space
// without which no secret is opened: half a gigabyte a day at this rate.
const (
	strangersPerSecond = 20
	strangersAtOnce    = 1000
)

// strangers bounds the records of refusals of who is nobody: by REST without a token
// or with an unknown one, by SQL before the log-in. Safe for concurrent use.
type strangers struct {
	limit *rate.Limiter
	more  atomic.Int64 // that were left out
}

func newStrangers() *strangers {
	return &strangers{limit: rate.NewLimiter(strangersPerSecond, strangersAtOnce)}
}

// records returns what is to be recorded of one refusal: it, with a word on how many
// were left out before it, or nothing.
func (s *strangers) records(r audit.Record) []audit.Record {
	if !s.limit.Allow() {
		s.more.Add(1)
		return nil
	}
	n := s.more.Swap(0)
	if n == 0 {
		return []audit.Record{r}
	}
	more := audit.Record{At: r.At, Face: r.Face, Action: r.Action, Outcome: audit.OutcomeDenied, Reason: fmt.Sprintf("and_more %d", n)}
	return []audit.Record{more, r}
}

// isStranger reports whether a is nobody that can be named.
func (a *Access) isStranger() bool { return a.Via == ViaREST && (!a.token || a.Name == "") }

// refusedAs is Refused for a's request.
func (v *Vault) refusedAs(ctx context.Context, a *Access, refusals ...audit.Record) {
	var records []audit.Record
	for _, r := range refusals {
		r.Secret = recordable(r.Secret)
		if a.isStranger() {
			records = append(records, v.strangers.records(r)...)
		} else {
			records = append(records, r)
		}
	}
	v.refused(ctx, records...)
}
