// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// ReadAuth says what REST asks of who reads and verifies.
type ReadAuth int

// The ways. A token's role decides wherever a token is sent; without one it is the
// role ip.
const (
	ReadByAddress ReadAuth = iota // an allowlisted address; a token may be sent
	ReadByToken                   // a token, whatever the address
	ReadByBoth                    // an allowlisted address and a token
)

// nobody is the name of who comes without a token, and of its role.
const nobody = "ip"

// Access is who asks by REST, and what its role lets it do. [Vault.Authenticate]
// makes one for each request.
type Access struct {
	Actor
	token bool // it has one
	admin bool
	rules []rule
}

// rule is one permission of a role: an action, "write" or "*", on names.
type rule struct{ action, pattern string }

const sqlBearer = `SELECT coalesce(r.token, ''), r.role, r.is_admin, r.rules FROM vault.token_role($1) r` //nolint:gosec // it has the word, no token

// Authenticate finds out who bears a token; without one ("") it is the role ip. Of
// the token only the SHA-256 leaves this call: it is what the database knows, and
// no part of it tells how near a guess was. Nothing is remembered: a token that was
// revoked is unknown as soon as the local server shows it. Errors are *Error.
func (v *Vault) Authenticate(ctx context.Context, token string, addr netip.Addr) (*Access, error) {
	a := &Access{Actor: Actor{Name: nobody, Via: ViaREST, Addr: addr.Unmap().WithZone(""), Database: v.store.database}, token: token != ""}
	if !a.token && (v.readAuth != ReadByAddress || v.checkAddr(a.Actor) != nil) {
		return a, nil // may do nothing: a stranger costs no query
	}
	var hash []byte
	if a.token {
		sum := sha256.Sum256([]byte(token))
		hash = sum[:]
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rows, err := v.query(ctx, v.store.rest, sqlBearer, hash)
	if err != nil {
		return nil, v.restError(ctx, "", err)
	}
	defer rows.Close()
	found := rows.Next()
	var name string
	var rules [][]string
	if found {
		err = rows.Scan(&name, &a.Role, &a.admin, &rules)
	}
	if rows.Close(); err == nil {
		err = rows.Err()
	}
	switch {
	case err != nil:
		return nil, v.restError(ctx, "", err)
	case !found:
		a.Name = ""
		return nil, v.refuse(ctx, a, audit.ActionRead, "", &Error{Kind: KindUnknown, Msg: "the token is not known, or was revoked"})
	case a.token:
		a.Name = name
	}
	for _, r := range rules {
		if len(r) == 2 {
			a.rules = append(a.rules, rule{r[0], r[1]})
		}
	}
	return a, nil
}

// Public says what an operator may want to be warned of: who comes without a token
// may read every secret, from whatever address is listed.
func (a *Access) Public() bool { return !a.token && a.may(audit.ActionRead, "*") }

// may says whether the role's rules allow an action on a name. Both are compared
// byte by byte: a pattern is a name, a prefix with * behind it, or * alone.
func (a *Access) may(action audit.Action, name string) bool {
	if a.admin {
		return true
	}
	for _, r := range a.rules {
		if r.allows(action) && matches(r.pattern, name) {
			return true
		}
	}
	return false
}

func (r rule) allows(action audit.Action) bool {
	switch r.action {
	case "*":
		return true
	case "write":
		return action == audit.ActionCreate || action == audit.ActionUpdate
	}
	return r.action == string(action)
}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// Permit asks the policy before a request is read any further; the operation itself
// asks again. An empty name: it is in what is still to be read, so that no rule is
// asked for. Errors are *Error.
func (v *Vault) Permit(ctx context.Context, a *Access, action Action, name string) error {
	if name != "" {
		if err := CheckName(name); err != nil {
			return err
		}
		return v.authorize(ctx, a, action, name)
	}
	if err := v.admit(a, action); err != nil {
		return v.refuse(ctx, a, action, "", err)
	}
	return nil
}

// authorize is the whole policy of REST: from where, with a token or without, by
// which rule. It is asked before anything is looked up, so that no refusal tells
// whether a secret exists; the secret's own allowed_cidrs come with its record. A
// refusal is recorded.
func (v *Vault) authorize(ctx context.Context, a *Access, action audit.Action, name string) error {
	if err := v.permit(a, action, name); err != nil {
		return v.refuse(ctx, a, action, name, err)
	}
	return nil
}

func (v *Vault) permit(a *Access, action audit.Action, name string) *Error {
	if err := v.admit(a, action); err != nil {
		return err
	}
	if a.may(action, name) {
		return nil
	}
	return &Error{
		Kind: KindDenied, Secret: name,
		Msg:  fmt.Sprintf("role %q may not %s this secret", a.Role, action),
		Hint: "An administrator gives a role its permissions.",
	}
}

// admit is the part of it that does not depend on the name.
func (v *Vault) admit(a *Access, action audit.Action) *Error {
	needsToken := true
	if action == audit.ActionRead || action == audit.ActionVerify {
		if err := v.checkAddr(a.Actor); err != nil {
			return err
		}
		needsToken = v.readAuth != ReadByAddress
	}
	if needsToken && !a.token {
		return &Error{Kind: KindUnknown, Msg: "this needs a token", Hint: "Send the header Authorization: Bearer TOKEN."}
	}
	return nil
}

// checkRESTAddr is checkAddr for REST.
func (v *Vault) checkRESTAddr(a Actor) *Error {
	if v.readAuth == ReadByToken || v.restAllowed.Load().Contains(a.Addr) {
		return nil
	}
	return &Error{
		Kind: KindDenied,
		Msg:  "secrets are not read from " + addrText(a.Addr),
		Hint: fmt.Sprintf("Add the address to VAULT_ALLOWED_IPS of node %q.", v.node),
	}
}

// refuse records a refusal and returns it: it stands, whether or not it can be
// recorded.
func (v *Vault) refuse(ctx context.Context, a *Access, action audit.Action, name string, err *Error) error {
	r := a.record(time.Now(), action, err.Kind.outcome())
	r.Secret, r.Direct, r.Reason = name, true, err.Kind.String()
	_ = v.append(ctx, []audit.Record{r}) // nothing leaves
	return err
}
