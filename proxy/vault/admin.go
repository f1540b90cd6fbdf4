// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// MaxPermissions is how many rules a role may have: all of them come with each
// request of its tokens.
const MaxPermissions = 256

// Role is a role of REST.
type Role struct {
	Name        string
	Description *string
	Admin       bool // may do everything
	Permissions []Permission
	CreatedAt   *time.Time // nil: the built-in role
}

// Permission is one rule of a role: an action, "write" or "*", on a name, on a
// prefix with * behind it, or on "*".
type Permission struct {
	Action string `json:"action"`
	Path   string `json:"path"`
}

// Token is what is known of a token, which is not the token.
type Token struct {
	Name       string
	Role       *string // nil: it is gone
	CreatedAt  time.Time
	LastUsedAt *time.Time
	RevokedAt  *time.Time
}

// Every statement about roles and tokens. The server asks once more whether the
// caller is an administrator.
const (
	sqlRestAdmin  = `SELECT vault.rest_admin($1, $2, $3, $4)::pg_catalog.text`
	sqlRestRoles  = `SELECT r.name, r.description, r.is_admin, r.permissions, r.created_at FROM vault.rest_roles($1, $2, $3, $4) r`
	sqlRestTokens = `SELECT t.* FROM vault.rest_tokens($1, $2, $3) t` //nolint:gosec // it has the word, no token
)

// PermitAdmin says whether this one may manage roles and tokens. Errors are *Error.
func (v *Vault) PermitAdmin(ctx context.Context, a *Access, action Action, name string) error {
	var err *Error
	switch {
	case !a.token:
		err = needsToken()
	case !a.admin:
		err = &Error{Kind: KindDenied, reason: byAdmin, Msg: fmt.Sprintf("role %q is no administrator's", a.Role), Hint: "Roles and tokens are managed by administrators."}
	default:
		return nil
	}
	return v.refuse(ctx, a, action, name, err)
}

// CreateRole makes a role; a name that exists is KindExists. Errors are *Error.
func (v *Vault) CreateRole(ctx context.Context, a *Access, r Role) (made Role, err error) {
	defer v.ended(ctx, a, audit.ActionRoleCreate, r.Name, &err)
	if err := r.check(); err != nil {
		return Role{}, err
	}
	return v.changeRole(ctx, a, audit.ActionRoleCreate, "create_role", r.Name,
		map[string]any{"description": r.Description, "is_admin": r.Admin, "permissions": append([]Permission{}, r.Permissions...)})
}

// SetPermissions replaces a role's rules. Errors are *Error.
func (v *Vault) SetPermissions(ctx context.Context, a *Access, name string, rules []Permission) (r Role, err error) {
	defer v.ended(ctx, a, audit.ActionRoleUpdate, name, &err)
	if err := checkPermissions(rules); err != nil {
		return Role{}, err
	}
	return v.changeRole(ctx, a, audit.ActionRoleUpdate, "set_permissions", name, map[string]any{"permissions": append([]Permission{}, rules...)})
}

// changeRole returns the role as it is afterwards.
func (v *Vault) changeRole(ctx context.Context, a *Access, action audit.Action, change, name string, detail any) (r Role, err error) {
	err = v.administer(ctx, a, action, change, name, detail, func(ctx context.Context, tx pgx.Tx) error {
		list, err := v.roles(ctx, tx, a, &name, "", 1)
		if err == nil && len(list) == 1 {
			r = list[0]
		}
		return err
	})
	return r, err
}

// DeleteRole removes a role that no living token has; KindInUse: one has it. Errors
// are *Error.
func (v *Vault) DeleteRole(ctx context.Context, a *Access, name string) error {
	return v.administer(ctx, a, audit.ActionRoleDelete, "delete_role", name, struct{}{}, nil)
}

// Roles returns at most limit roles whose names come after a name, in byte order.
// more: there are others behind them. Errors are *Error.
func (v *Vault) Roles(ctx context.Context, a *Access, after string, limit int) (list []Role, more bool, err error) {
	q, done, err := v.listing(ctx, a, audit.ActionRoleList, "", after)
	if err != nil {
		return nil, false, err
	}
	defer done()
	if list, err = v.roles(ctx, q, a, nil, after, limit+1); err != nil {
		return nil, false, v.adminError(ctx, err)
	}
	return list[:min(limit, len(list))], len(list) > limit, nil
}

// Role returns one. Errors are *Error.
func (v *Vault) Role(ctx context.Context, a *Access, name string) (Role, error) {
	q, done, err := v.listing(ctx, a, audit.ActionRoleList, name, "")
	if err != nil {
		return Role{}, err
	}
	defer done()
	list, err := v.roles(ctx, q, a, &name, "", 1)
	switch {
	case err != nil:
		return Role{}, v.adminError(ctx, err)
	case len(list) == 0:
		return Role{}, &Error{Kind: KindMissing, Msg: "no such role for tokens"}
	}
	return list[0], nil
}

func (v *Vault) roles(ctx context.Context, q querier, a *Access, only *string, after string, limit int) ([]Role, error) {
	rows, err := v.query(ctx, q, sqlRestRoles, a.hash, only, after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Role, err error) {
		var rules [][]string
		err = row.Scan(&r.Name, &r.Description, &r.Admin, &rules, &r.CreatedAt)
		for _, rule := range rules {
			r.Permissions = append(r.Permissions, Permission{rule[0], rule[1]})
		}
		return r, err
	})
}

// CreateToken makes a token of a role and returns it, the only time: of it the
// database gets the SHA-256. The caller zeroes it. Errors are *Error.
func (v *Vault) CreateToken(ctx context.Context, a *Access, name, role string) (token []byte, err error) {
	defer v.ended(ctx, a, audit.ActionTokenCreate, name, &err)
	if name == nobody {
		return nil, invalid("", "ip is who comes without a token")
	}
	if err := checkLabel(name); err != nil {
		return nil, err
	}
	if checkSent(role) != nil {
		return nil, invalid("", "no role has such a name")
	}
	token = NewToken()
	sum := sha256.Sum256(token)
	err = v.administer(ctx, a, audit.ActionTokenCreate, "create_token", name,
		map[string]string{"role": role, "sha256": hex.EncodeToString(sum[:])}, nil)
	if err != nil {
		erase.Zero(token)
		return nil, err
	}
	return token, nil
}

// tokenPrefix marks our tokens, for those who look for them where none should be.
const tokenPrefix = "hvt_"

// HoldsToken says whether a text holds one of ours, or so much of one that the rest
// could be guessed: it stands there by mistake, and must not get into the audit.
func HoldsToken(text string) bool {
	for {
		_, rest, found := strings.Cut(text, tokenPrefix)
		if !found {
			return false
		}
		if len(rest)-len(strings.TrimLeft(rest, base64Characters)) >= tokenTold {
			return true
		}
		text = rest
	}
}

const (
	base64Characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	tokenTold        = 16 // of 43 characters
)

// NewToken returns a token that nobody has guessed: hvt_ and 32 random bytes in
// base64url. The caller zeroes it.
func NewToken() []byte {
	secret := randomText()
	defer erase.Zero(secret)
	return append(append(make([]byte, 0, len(tokenPrefix)+len(secret)), tokenPrefix...), secret...)
}

// RevokeToken takes a token back; it is unknown as soon as a server shows that.
// Errors are *Error.
func (v *Vault) RevokeToken(ctx context.Context, a *Access, name string) error {
	return v.administer(ctx, a, audit.ActionTokenRevoke, "revoke_token", name, struct{}{}, nil)
}

// Tokens is Roles for tokens, of which those that were revoked are there still.
func (v *Vault) Tokens(ctx context.Context, a *Access, after string, limit int) (list []Token, more bool, err error) {
	q, done, err := v.listing(ctx, a, audit.ActionTokenList, "", after)
	if err != nil {
		return nil, false, err
	}
	defer done()
	rows, err := v.query(ctx, q, sqlRestTokens, a.hash, after, limit+1)
	if err == nil {
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Token])
	}
	if err != nil {
		return nil, false, v.adminError(ctx, err)
	}
	return list[:min(limit, len(list))], len(list) > limit, nil
}

// listing returns where an administrator's list, or what has a name, is read, recorded.
// Call done after reading.
func (v *Vault) listing(ctx context.Context, a *Access, action audit.Action, name, after string) (q querier, done func(), err error) {
	if err := v.PermitAdmin(ctx, a, action, name); err != nil {
		return nil, nil, err
	}
	if err := checkSent(name); err != nil {
		return nil, nil, err
	}
	if checkSent(after) != nil {
		return nil, nil, v.refuse(ctx, a, action, "", invalid("", "after should be the name of a role or token"))
	}
	pool, _, over, err := v.reader(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	defer func() { // also after a panic, which would keep the turn
		if done == nil {
			over()
		}
	}()
	if err := v.note(ctx, a, action, name); err != nil {
		return nil, nil, err
	}
	return pool, over, nil
}

// administer carries a change out, and then what reads it back, if anything does.
func (v *Vault) administer(ctx context.Context, a *Access, action audit.Action, change, name string, detail any, then func(context.Context, pgx.Tx) error) (err error) {
	defer v.ended(ctx, a, action, name, &err)
	if err := v.PermitAdmin(ctx, a, action, name); err != nil {
		return err
	}
	if err := checkSent(name); err != nil {
		return err
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return &Error{Kind: KindInternal, Msg: "the vault failed unexpectedly", Err: err}
	}
	if err := v.AuditReady(); err != nil {
		return err
	}
	work := func(ctx context.Context, tx *changing) error {
		var done *string
		err := tx.do(ctx, []any{&done}, sqlRestAdmin, a.hash, change, name, string(text))
		if err == nil && then != nil {
			err = then(ctx, tx)
		}
		if known := authorityError(err); known != nil {
			if change == "create_token" && known.Kind == KindMissing {
				known.Kind = KindInvalid // the request says it, not its path
			}
			return known
		}
		return err
	}
	leave, err := v.places.take(ctx, a.Client(), "")
	if err != nil {
		return err
	}
	defer leave()
	return v.transact(ctx, "", nil, func(ctx context.Context, tx pgx.Tx) error { return v.change(ctx, tx, a, action, name, work) }, v.wroteBy(a))
}

// authorityError is what the extension says of roles and tokens, in its own words;
// nil: it is something else.
func authorityError(err error) *Error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return nil
	}
	e := &Error{Err: err, Msg: pg.Message}
	switch pg.Code {
	case "0L000": // invalid_grantor: who was one when the local server was asked
		e.Kind, e.reason = KindUnknown, byAdmin
	case "42710":
		e.Kind = KindExists
	case "42704":
		e.Kind = KindMissing
	case "55006":
		e.Kind = KindInUse
	case "22023":
		e.Kind = KindInvalid
	default:
		return nil
	}
	return e
}

// adminError says what a list failed with.
func (v *Vault) adminError(ctx context.Context, err error) *Error {
	if known := authorityError(err); known != nil {
		return known
	}
	return v.restError(ctx, "", err)
}

func (r *Role) check() error {
	if r.Name == nobody && r.Admin {
		return invalid("", "the role ip is never an administrator's")
	}
	if err := checkDescription("", r.Description); err != nil {
		return err
	}
	if err := checkLabel(r.Name); err != nil {
		return err
	}
	return checkPermissions(r.Permissions)
}

// labelCharacters are those of names of roles and tokens; a secret's may have a / too.
const labelCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@+-"

// checkLabel is for names of new roles and tokens, which stand in paths and logs.
func checkLabel(name string) error {
	if name == "" || len(name) > envelope.MaxName || strings.Trim(name, labelCharacters) != "" || name == "." || name == ".." {
		return invalid("", "a role or token is named by 1 to 255 of the characters A-Z a-z 0-9 . _ @ + -, and not . or ..")
	}
	if HoldsToken(name) {
		return invalid("", "a token is not its name")
	}
	return nil
}

// checkSent is for names that are looked for: a superuser may have made them of
// anything that a text can hold.
func checkSent(name string) error {
	if HoldsToken(name) || len(name) > envelope.MaxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return &Error{Kind: KindMissing, Msg: "nothing has such a name"}
	}
	return nil
}

func checkPermissions(rules []Permission) error {
	if len(rules) > MaxPermissions {
		return invalid("", fmt.Sprintf("a role has at most %d permissions", MaxPermissions))
	}
	for _, p := range rules {
		if !slices.Contains(ruleActions, p.Action) {
			return invalid("", "the action of a permission is one of "+strings.Join(ruleActions, ", "))
		}
		if !validPattern(p.Path) {
			return invalid("", "the path of a permission is a name, the beginning of one with * behind it, or *")
		}
		if HoldsToken(p.Path) {
			return invalid("", "a token is not the path of a permission")
		}
	}
	return nil
}

// validPattern is the extension's vault.valid_pattern().
func validPattern(pattern string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	if !open {
		return envelope.CheckName(pattern) == nil
	}
	return len(prefix) <= envelope.MaxName && strings.Trim(prefix, labelCharacters+"/") == ""
}

// ruleActions are what a rule may allow.
var ruleActions = []string{"read", "verify", "list", "create", "update", "rotate", "delete", "write", "*"}
