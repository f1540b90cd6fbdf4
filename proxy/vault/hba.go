// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/proxy/hba"
)

const (
	sqlRules = `SELECT pg_catalog.json_agg(r ORDER BY r.ordinality)::pg_catalog.text FROM vault.hba_rules() WITH ORDINALITY AS r`

	// sqlFacts answers hba.Questions in one round trip. Membership as for
	// pg_hba.conf: direct or not, with INHERIT or without, and no superuser is
	// in a role that he was not put into, so pg_has_role() is no answer.
	sqlFacts = `WITH RECURSIVE belongs(oid) AS (
	SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $1::pg_catalog.text
	UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN belongs b ON m.member = b.oid)
SELECT pg_catalog.json_build_object(
	'roles', (SELECT pg_catalog.json_agg(r.rolname) FROM belongs b JOIN pg_catalog.pg_roles r ON r.oid = b.oid
		WHERE r.rolname = ANY ($2::pg_catalog.text[])),
	'matches', (SELECT pg_catalog.json_agg(p.name COLLATE pg_catalog."C" ~ p.expression ORDER BY p.n)
		FROM ROWS FROM (pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[])) WITH ORDINALITY AS p(name, expression, n)))::pg_catalog.text`
)

// rulesRetry is how long an extension without hba_rules() is believed to stay
// so: an upgrade gives no sign.
const rulesRetry = 10 * time.Second

// rulesRounds bounds how often one log-in waits for rules that are out of date
// again when they come.
const rulesRounds = 5

// hbaRules keeps the lines of the local server's pg_hba.conf. They are asked
// for again when the server has loaded its configuration anew, which each
// log-in learns with the verifier.
type hbaRules struct {
	loaded atomic.Int64 // latest time of a load that was heard of, in microseconds
	kept   atomic.Pointer[keptRules]
}

// keptRules are what one asking gave.
type keptRules struct {
	rules *hba.Rules // nil: the extension has no hba_rules()
	fault string     // why the file was not taken and earlier lines stay; empty: it was
	seen  int64      // all loads up to then are in them
	asked time.Time
}

// note hears of a load. Each server process has a time of its own for one and
// the same load, some milliseconds apart: the latest counts.
func (r *hbaRules) note(loaded time.Time) {
	at := loaded.UnixMicro()
	for {
		before := r.loaded.Load()
		if at <= before || r.loaded.CompareAndSwap(before, at) {
			return
		}
	}
}

// current returns what is kept if it can still be used.
func (r *hbaRules) current() *keptRules {
	k := r.kept.Load()
	if k == nil || k.seen < r.loaded.Load() || k.rules == nil && time.Since(k.asked) > rulesRetry {
		return nil
	}
	return k
}

// Admits applies the local server's pg_hba.conf to a client, after
// [Vault.LoginVerifier] has told of its last load. With an extension of before
// hba_rules() everybody is admitted, and the log says so. If the rules cannot be
// had the error is an *Error of KindServer, and nobody is.
func (v *Vault) Admits(ctx context.Context, c hba.Client) (hba.Verdict, error) {
	rules, err := v.HBA(ctx)
	if err != nil {
		return hba.Verdict{}, err
	}
	if rules == nil {
		return hba.Verdict{Outcome: hba.Admitted}, nil
	}
	facts, err := v.facts(ctx, c.User, rules.Ask(c))
	if err != nil {
		return hba.Verdict{}, v.serverError(err)
	}
	return rules.Decide(c, facts), nil
}

// HBA returns the rules that hold now; nil with an extension that has no
// hba_rules(). Many callers ask the server once.
func (v *Vault) HBA(ctx context.Context) (*hba.Rules, error) {
	for range rulesRounds {
		if k := v.rules.current(); k != nil {
			return k.rules, nil
		}
		asked := v.askShared(ctx, "pg_hba.conf", loginTimeout, func(ctx context.Context) (any, error) { return nil, v.readRules(ctx) })
		select {
		case answer := <-asked:
			if answer.Err != nil {
				return nil, v.serverError(answer.Err)
			}
		case <-ctx.Done():
			return nil, v.serverError(ctx.Err())
		}
	}
	return nil, v.serverError(errRulesMove)
}

var (
	errRulesMove   = errors.New("pg_hba.conf is loaded anew again and again")
	errRulesAnswer = errors.New("vault.hba_rules() returned what this node cannot read")
)

// readRules asks for the rules. Those of a file that the server itself could
// not load change nothing: it goes on with what it has, too.
func (v *Vault) readRules(ctx context.Context) error {
	k := &keptRules{seen: v.rules.loaded.Load(), asked: time.Now()} // before the file is read: what comes later is asked for later
	before := v.rules.kept.Load()
	out, err := v.store.textWithin(ctx, loginTimeout, sqlRules)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "42883":
		if before == nil || before.rules != nil {
			v.log.WarnContext(ctx, "pg_hba.conf is not applied to the addresses of clients: the extension is older than 1.1; run ALTER EXTENSION hyperion_vault UPDATE")
		}
		v.rules.kept.Store(k)
		return nil
	case err != nil:
		return err
	}
	var rows []struct {
		hba.Row
		LoadedAt time.Time `json:"loaded_at"`
	}
	if out != nil && json.Unmarshal([]byte(*out), &rows) != nil {
		return errRulesAnswer
	}
	plain := make([]hba.Row, len(rows))
	for i := range rows {
		plain[i] = rows[i].Row
		k.seen = max(k.seen, rows[i].LoadedAt.UnixMicro())
	}
	if k.rules, err = hba.Parse(plain); err != nil {
		if before == nil || before.rules == nil {
			return err
		}
		k.rules, k.fault = before.rules, err.Error()
		if k.fault != before.fault { // each process of the server may make us look anew
			v.log.ErrorContext(ctx, "the server cannot load its pg_hba.conf: the lines of before are kept", "error", k.fault)
		}
	}
	v.rules.kept.Store(k)
	return nil
}

// facts answers questions; without any it asks nobody.
func (v *Vault) facts(ctx context.Context, user string, q hba.Questions) (f hba.Facts, err error) {
	if q.Interfaces {
		if f.Interfaces, err = interfacesOf(v.local); err != nil {
			return f, err
		}
	}
	if len(q.Roles) == 0 && len(q.Matches) == 0 {
		return f, nil
	}
	names, expressions := make([]string, len(q.Matches)), make([]string, len(q.Matches))
	for i, p := range q.Matches {
		names[i], expressions[i] = p.Text, p.Expression
	}
	if q.Roles == nil {
		q.Roles = []string{} // NULL is no array
	}
	out, err := v.store.textWithin(ctx, loginTimeout, sqlFacts, user, q.Roles, names, expressions)
	if err != nil {
		return f, err
	}
	var answer struct {
		Roles   []string `json:"roles"`
		Matches []bool   `json:"matches"`
	}
	if out == nil || json.Unmarshal([]byte(*out), &answer) != nil || len(answer.Matches) != len(q.Matches) {
		return f, errRulesAnswer
	}
	f.Roles, f.Matches = map[string]bool{}, map[hba.Pattern]bool{}
	for _, role := range q.Roles {
		f.Roles[role] = false
	}
	for _, role := range answer.Roles {
		f.Roles[role] = true
	}
	for i, p := range q.Matches {
		f.Matches[p] = answer.Matches[i]
	}
	return f, nil
}

// interfacesOf returns the addresses of the server's host if that is this one,
// else nil.
func interfacesOf(server Server) ([]netip.Prefix, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("the addresses of this host: %w", err)
	}
	ours := make([]netip.Prefix, 0, len(list))
	here := server.local()
	host, _, _ := net.SplitHostPort(server.Addr) // of a socket's path nothing
	at, _ := netip.ParseAddr(host)               // of a name nothing
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue // no IP
		}
		ours = append(ours, p)
		here = here || p.Addr() == at
	}
	if !here {
		return nil, nil
	}
	return ours, nil
}
