// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"net/netip"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// LoginAudit says which log-ins are recorded: those by SQL, and by REST those that are
// nobody's.
type LoginAudit int

// The values of VAULT_AUDIT_LOGINS. A stranger can make as many failed ones as he
// likes.
const (
	LoginsOff    LoginAudit = iota
	LoginsFailed            // those that are refused
	LoginsAll
)

// NoteLogin records a log-in as far as that is wanted. One that cannot be recorded
// stands all the same: traffic that does not concern the vault goes on without it.
func (v *Vault) NoteLogin(ctx context.Context, a Actor, outcome Outcome, reason string) {
	if v.logins == LoginsOff || v.logins == LoginsFailed && outcome == audit.OutcomeOK {
		return
	}
	r := a.Record(audit.ActionLogin, outcome)
	r.Reason = reason
	if outcome == audit.OutcomeOK {
		v.refused(ctx, r)
		return
	}
	v.refused(ctx, v.strangers.records(r)...)
}

// NoteStranger is NoteLogin for a request by REST whose sender nobody can tell.
func (v *Vault) NoteStranger(ctx context.Context, addr netip.Addr, reason string) {
	v.NoteLogin(ctx, Actor{Via: ViaREST, Addr: addr, Database: v.store.database}, audit.OutcomeDenied, reason)
}
