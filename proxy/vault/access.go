// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// ReadAuth says what REST asks of who reads and verifies.
type ReadAuth int32

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
	token bool   // it has one
	hash  []byte // of that
	admin bool
	rules rules
	asked time.Time // when the local server was, who it is

	ahead   *ahead         // nil: nothing came along
	room    Room           // nil: no bound
	after   Position       // its reads see what is before it
	onWrite func(Position) // nil: nobody wants to know
}

// rule is one permission of a role: an action, "write" or "*", on names.
type rule struct{ action, pattern string }

// rules are read from an array of pairs.
type rules []rule

var errRules = errors.New("the rules of a role are not what they should be")

// SetDimensions implements [pgtype.ArraySetter].
func (r *rules) SetDimensions(d []pgtype.ArrayDimension) error {
	switch {
	case len(d) == 0:
		*r = nil
	case len(d) == 2 && d[1].Length == 2:
		*r = make(rules, d[0].Length)
	default:
		return errRules
	}
	return nil
}

// ScanIndex implements [pgtype.ArraySetter].
func (r *rules) ScanIndex(i int) any {
	of := &(*r)[i/2]
	if i%2 == 0 {
		return &of.action
	}
	return &of.pattern
}

// ScanIndexType implements [pgtype.ArraySetter].
func (*rules) ScanIndexType() any { return new(string) }

const (
	sqlBearer = `SELECT r.token, r.role, r.is_admin, r.rules, 0 FROM vault.token_role($1) r` //nolint:gosec // it has the word, no token

	// Of who bears none the lock, if another node has locked the network.
	sqlBearerOrLock = `SELECT r.token, r.role, r.is_admin, r.rules, CASE WHEN r.role IS NULL THEN vault.lockout($2, NULL) END FROM (SELECT) one LEFT JOIN vault.token_role($1) r ON true` //nolint:gosec // as above
)

// Authenticate finds out who bears a token; without one ("") it is the role ip. Of
// the token only the SHA-256 leaves this call: it is what the database knows, and
// no part of it tells how near a guess was. Nothing is remembered: a token that was
// revoked is unknown as soon as the local server shows it. Unknown ones are counted
// by address; a locked address's are KindLimited, and its valid ones are let in.
// want is what will be read, if that is known; nil: it is not. Errors are *Error.
func (v *Vault) Authenticate(ctx context.Context, token string, addr netip.Addr, want *Wanted) (*Access, error) {
	a := &Access{
		Actor: Actor{Name: nobody, Via: ViaREST, Addr: addr.Unmap().WithZone(""), Database: v.store.database},
		token: token != "", asked: time.Now(),
	}
	listed := v.way() == ReadByAddress && v.checkAddr(a.Actor) == nil
	if !a.token && !listed {
		return a, nil // may do nothing: a stranger costs no query
	}
	if a.token {
		sum := sha256.Sum256([]byte(token))
		a.hash = sum[:]
	}
	known, left, err := v.whoBears(ctx, a, want)
	switch {
	case err != nil:
		return nil, v.restError(ctx, "", err)
	case known:
		return a, nil
	}
	if replaced := v.checkReplaced(); replaced != nil { // the new primary may know the token
		return nil, replaced
	}
	a.Name = ""
	return nil, v.unknownToken(ctx, a, left)
}

// whoBears asks the local server, and for the record along with it if it may.
func (v *Vault) whoBears(ctx context.Context, a *Access, want *Wanted) (known bool, left time.Duration, err error) {
	switch {
	case v.readsAhead(a, want):
		return v.bearerAhead(ctx, a, want)
	case a.token && v.lockoutsShared():
		return v.bearer(ctx, v.store.rest, a, sqlBearerOrLock, []any{a.hash, networkOf(a.Addr).String()})
	}
	return v.bearer(ctx, v.store.rest, a, sqlBearer, []any{a.hash})
}

// bearing is what a server says of who bears a token. All is NULL if nobody does, but
// for how many seconds its network is locked.
type bearing struct {
	name, role pgtype.Text
	admin      pgtype.Bool
	rules      rules
	locked     pgtype.Int4
}

// bearer fills a in with who it is. Not known: left is how long its network is locked.
func (v *Vault) bearer(ctx context.Context, q querier, a *Access, sql string, args []any) (known bool, left time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var b bearing
	found, err := v.one(ctx, q, []any{&b.name, &b.role, &b.admin, &b.rules, &b.locked}, sql, args...)
	if err != nil || !found || !b.role.Valid || !b.admin.Valid {
		return false, time.Duration(b.locked.Int32) * time.Second, err
	}
	if a.token && b.name.Valid {
		a.Name = b.name.String
	}
	a.Role, a.admin, a.rules = b.role.String, b.admin.Bool, b.rules
	return true, 0, nil
}

// way is what reading and verifying ask for now.
func (v *Vault) way() ReadAuth { return ReadAuth(v.readAuth.Load()) }

// Client is whose requests count together: the token's, without one the address's, of
// IPv6 its network's.
func (a *Access) Client() string {
	if a.token {
		return a.Name
	}
	return a.misser()
}

// knownFor is how old an answer of the local server's may be when a request's body has
// come.
const knownFor = time.Second

// stillKnown asks the local server again who bears a token, and by which rules, if that
// is long ago: who is about to read may have sent his body slowly, or waited for his turn.
// The error is an *Error.
func (v *Vault) stillKnown(ctx context.Context, a *Access, action audit.Action, name string) error {
	if time.Since(a.asked) < knownFor {
		return nil
	}
	a.asked = time.Now()
	switch known, _, err := v.bearer(ctx, v.store.rest, a, sqlBearer, []any{a.hash}); {
	case err != nil:
		return v.restError(ctx, name, err)
	case !known:
		return v.refuse(ctx, a, action, name, notKnown())
	}
	return nil
}

// stillMay asks the primary what the local server has said of who writes: that may be
// behind, for as long as it likes, and a token revoked meanwhile.
func (v *Vault) stillMay(ctx context.Context, q querier, a *Access, action audit.Action, name string) error {
	now := &Access{Actor: a.Actor, token: a.token, hash: a.hash}
	switch known, _, err := v.bearer(ctx, q, now, sqlBearer, []any{a.hash}); {
	case err != nil:
		return err
	case !known:
		return v.refuse(ctx, a, action, name, notKnown())
	}
	return v.authorize(ctx, now, action, name)
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
func (v *Vault) Permit(ctx context.Context, a *Access, action Action, name string) (err error) {
	defer v.ended(ctx, a, action, name, &err)
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
		Kind: KindDenied, Secret: name, reason: byRole,
		Msg:  fmt.Sprintf("role %q may not %s this secret", a.Role, action),
		Hint: "An administrator gives a role its permissions.",
	}
}

// admit is the part of it that does not depend on the name.
func (v *Vault) admit(a *Access, action audit.Action) *Error {
	tokenOnly := true
	if action == audit.ActionRead || action == audit.ActionVerify {
		if err := v.checkAddr(a.Actor); err != nil {
			return err
		}
		tokenOnly = v.way() != ReadByAddress
	}
	if tokenOnly && !a.token {
		return needsToken()
	}
	return nil
}

// checkRESTAddr is checkAddr for REST.
func (v *Vault) checkRESTAddr(a Actor) *Error {
	if v.way() == ReadByToken || v.restAllowed.Load().Contains(a.Addr) {
		return nil
	}
	return &Error{
		Kind: KindDenied, reason: byAddress,
		Msg:  "secrets are not read from " + addrText(a.Addr),
		Hint: fmt.Sprintf("Add the address to VAULT_ALLOWED_IPS of node %q.", v.node),
	}
}
