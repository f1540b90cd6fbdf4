// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Change is what REST says of a secret. What is nil is not said. Values stay the
// caller's to zero.
type Change struct {
	Value    []byte // text or, with Binary, any bytes
	Binary   bool
	Username []byte // of a userpass; with Password or, if there is one already, alone
	Password []byte

	Description      *string
	RotationInterval *int64 // seconds; 0: none
	GracePeriod      *int64 // seconds
	NextRotationAt   *time.Time
	AllowedCIDRs     *[]string
}

// Every statement of REST that writes.
const (
	sqlNextVersion = `SELECT n.secret_id::pg_catalog.text, n.version, n.kind, n.format, n.current_version FROM vault.node_next_version($1, $2, $3) n`
	sqlNodeWrite   = `SELECT vault.node_write($1, $2, $3, $4), pg_catalog.now()`
	sqlNodeUpdate  = `SELECT vault.node_update($1, pg_catalog.make_interval(secs => $2), pg_catalog.make_interval(secs => $3), $4, $5::pg_catalog.text[]::pg_catalog.cidr[], $6)::pg_catalog.text`
	sqlReschedule  = `SELECT vault.node_reschedule($1, $2::pg_catalog.timestamptz, $3)::pg_catalog.text` // extension 1.5
	sqlNodeDelete  = `SELECT vault.node_delete($1, $2)`
)

// The longest interval that the extension takes, and description.
const (
	maxSeconds     = 100 * 365 * 24 * 3600
	maxDescription = 4096
)

// reserved is a version that a transaction may write.
type reserved struct {
	id      string
	version int32
	kind    string
	format  string
	current int32
	job     *job // the rotation that it is for; nil: somebody asked for it
}

func (v *Vault) reserve(ctx context.Context, tx *changing, a *Access, name string, action audit.Action) (r reserved, err error) {
	_, err = v.one(ctx, tx, []any{&r.id, &r.version, &r.kind, &r.format, &r.current}, sqlNextVersion, name, string(action), a.Name)
	tx.record.Version = r.version
	return r, err
}

// Create makes a secret; a name that exists is KindExists. Without a value, or with
// a user name alone, an automatic one gets a random value. The caller zeroes the
// result. Errors are *Error.
func (v *Vault) Create(ctx context.Context, a *Access, name string, automatic bool, c Change) (s Secret, err error) {
	defer v.ended(ctx, a, audit.ActionCreate, name, &err)
	if err := c.check(name); err != nil {
		return Secret{}, err
	}
	if err := c.checkNew(automatic); err != nil {
		return Secret{}, err
	}
	if err := v.authorize(ctx, a, audit.ActionCreate, name); err != nil {
		return Secret{}, err
	}
	s = Secret{Name: name, Kind: "manual"}
	if automatic {
		s.Kind = "automatic"
	}
	s.Format, s.Value = v.newValue(&c)
	key, err := v.NewKey(ctx, a.Actor, name)
	if err != nil {
		s.Value.Zero()
		return Secret{}, err
	}
	err = v.write(ctx, a, audit.ActionCreate, name, func(ctx context.Context, tx *changing) error {
		r, err := v.reserve(ctx, tx, a, name, audit.ActionCreate)
		if err != nil {
			return err
		}
		if err := v.storeVersion(ctx, tx, a, key, r, audit.ActionCreate, &s); err != nil {
			return err
		}
		return v.describe(ctx, tx, a, name, c)
	})
	if err != nil {
		key.Destroy()
		s.Value.Zero()
		return Secret{}, err
	}
	return s, nil
}

// newValue returns a copy of the value of a new version, or makes one.
func (v *Vault) newValue(c *Change) (f Format, p Plain) {
	switch {
	case c.Username != nil && c.Password != nil:
		return FormatUserpass, pairOf(c.Username, c.Password)
	case c.Username != nil:
		made := v.GenerateValue()
		defer erase.Zero(made)
		return FormatUserpass, pairOf(c.Username, made)
	case c.Value == nil:
		return FormatText, Plain{v.GenerateValue()}
	}
	f = FormatText
	if c.Binary {
		f = FormatBytes
	}
	erase.Do(func() { p.b = append(make([]byte, 0, len(c.Value)), c.Value...) })
	return f, p
}

// storeVersion seals a secret's value for a reserved version and stores it.
func (v *Vault) storeVersion(ctx context.Context, tx *changing, a *Access, key *Key, r reserved, action audit.Action, s *Secret) error {
	record, err := v.sealAs(key, s.Format, s.Name, r.id, r.version, s.Value.Bytes())
	if err != nil {
		return err
	}
	if r.job != nil {
		return tx.do(ctx, []any{&s.Version, &s.CreatedAt}, sqlCompleteJob, r.job.ID, r.job.Token, r.job.Seen, string(record))
	}
	return tx.do(ctx, []any{&s.Version, &s.CreatedAt}, sqlNodeWrite, string(record), string(action), s.Kind, a.Name)
}

// describe stores what a change says beside the value, if anything.
func (v *Vault) describe(ctx context.Context, tx *changing, a *Access, name string, c Change) error {
	var done *string
	if c.Description != nil || c.RotationInterval != nil || c.GracePeriod != nil || c.AllowedCIDRs != nil {
		var cidrs []string
		if c.AllowedCIDRs != nil {
			cidrs = append([]string{}, *c.AllowedCIDRs...)
		}
		if err := tx.do(ctx, []any{&done}, sqlNodeUpdate, name, float(c.RotationInterval), float(c.GracePeriod), c.Description, cidrs, a.Name); err != nil {
			return err
		}
	}
	if c.NextRotationAt == nil {
		return nil
	}
	return tx.do(ctx, []any{&done}, sqlReschedule, name, *c.NextRotationAt, a.Name) // last: a new interval counts from now
}

// float is what make_interval takes for seconds.
func float(n *int64) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

// Update changes a living secret; one that is missing is KindMissing. A value makes
// a new version, and the one before stays valid for the grace period, the new one if
// it is changed as well. ifVersion, unless 0, is the version that the caller has
// seen: another one is KindChanged. Errors are *Error.
func (v *Vault) Update(ctx context.Context, a *Access, name string, ifVersion int32, c Change) (m Meta, err error) {
	defer v.ended(ctx, a, audit.ActionUpdate, name, &err)
	if err := c.check(name); err != nil {
		return m, err
	}
	if err := v.authorize(ctx, a, audit.ActionUpdate, name); err != nil {
		return m, err
	}
	var key *Key
	if c.Value != nil || c.Username != nil || c.Password != nil {
		if key, err = v.NewKey(ctx, a.Actor, name); err != nil {
			return m, err
		}
		defer key.Destroy()
	}
	if (c.Username == nil) != (c.Password == nil) {
		v.fetchKey(ctx, a, name)
	}
	err = v.write(ctx, a, audit.ActionUpdate, name, func(ctx context.Context, tx *changing) error {
		r, err := v.reserve(ctx, tx, a, name, audit.ActionUpdate)
		if err != nil {
			return err
		}
		if ifVersion != 0 && ifVersion != r.current {
			return changed(name, r.current)
		}
		if err := c.checkFormat(name, r.format); err != nil {
			return err
		}
		if key == nil {
			tx.record.Version = r.current
		}
		if err := v.describe(ctx, tx, a, name, c); err != nil {
			return err
		}
		if key != nil {
			if err := v.replace(ctx, tx, a, key, r, name, c); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, sqlNodeList, name, "", 1)
		if err != nil {
			return err
		}
		m, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Meta])
		return err
	})
	if err != nil {
		return Meta{}, err
	}
	return m, nil
}

// replace stores a new version of a secret whose row is locked.
func (v *Vault) replace(ctx context.Context, tx *changing, a *Access, key *Key, r reserved, name string, c Change) error {
	if r.format == "userpass" && (c.Username == nil || c.Password == nil) {
		username, password, err := v.currentPair(ctx, tx, a, name)
		if err != nil {
			return err
		}
		defer erase.Zero(username)
		defer erase.Zero(password)
		if c.Username == nil {
			c.Username = username
		}
		if c.Password == nil {
			c.Password = password
		}
	}
	s := Secret{Name: name, Kind: r.kind}
	s.Format, s.Value = v.newValue(&c)
	defer s.Value.Zero()
	return v.storeVersion(ctx, tx, a, key, r, audit.ActionUpdate, &s)
}

// Delete removes a secret with all its versions. ifVersion as for Update. Errors are
// *Error.
func (v *Vault) Delete(ctx context.Context, a *Access, name string, ifVersion int32) (err error) {
	defer v.ended(ctx, a, audit.ActionDelete, name, &err)
	if err := CheckName(name); err != nil {
		return err
	}
	if err := v.authorize(ctx, a, audit.ActionDelete, name); err != nil {
		return err
	}
	return v.write(ctx, a, audit.ActionDelete, name, func(ctx context.Context, tx *changing) error {
		r, err := v.reserve(ctx, tx, a, name, audit.ActionUpdate) // locks, and says which version there is
		if err != nil {
			return err
		}
		if ifVersion != 0 && ifVersion != r.current {
			return changed(name, r.current)
		}
		tx.record.Version = r.current
		var gone bool
		if err := tx.do(ctx, []any{&gone}, sqlNodeDelete, name, a.Name); err != nil {
			return err
		}
		if !gone {
			return missing(name)
		}
		return nil
	})
}

// check is what holds for every change. Whether it fits the secret is known later.
func (c *Change) check(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if c.Value != nil && (c.Username != nil || c.Password != nil) {
		return invalid(name, "a secret is a value, or a user name and a password")
	}
	if c.Binary && (len(c.Value) == 0 || len(c.Value) > envelope.MaxValue) {
		return invalidValue(name)
	}
	for _, text := range [][]byte{c.Value, c.Username, c.Password} {
		if text != nil && !c.Binary {
			if err := CheckValue(text); err != nil {
				return err
			}
		}
	}
	if len(c.Username)+len(c.Password) > envelope.MaxValue/8 { // JSON may take six bytes for one
		return invalidValue(name)
	}
	for _, n := range []*int64{c.RotationInterval, c.GracePeriod} {
		if n != nil && (*n < 0 || *n > maxSeconds) {
			return invalid(name, "an interval is 0 seconds to 100 years")
		}
	}
	if err := checkDescription(name, c.Description); err != nil {
		return err
	}
	if c.AllowedCIDRs != nil {
		return checkCIDRTexts(name, *c.AllowedCIDRs)
	}
	return nil
}

func checkDescription(name string, text *string) error {
	if text != nil && (len(*text) > maxDescription || strings.ContainsRune(*text, 0)) {
		return invalid(name, "the description is too long, or has a zero byte")
	}
	return nil
}

func checkCIDRTexts(name string, list []string) error {
	if len(list) > envelope.MaxCIDRs {
		return invalid(name, fmt.Sprintf("allowed_cidrs has at most %d networks", envelope.MaxCIDRs))
	}
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return invalid(name, "allowed_cidrs has networks as 10.0.0.0/8 and fd00::/8")
		}
	}
	return nil
}

// checkNew is what holds for a new secret besides.
func (c *Change) checkNew(automatic bool) error {
	switch {
	case c.Password != nil && c.Username == nil:
		return invalid("", "a password comes with a user name")
	case !automatic && c.Value == nil && c.Password == nil:
		return invalid("", "a manual secret needs a value")
	case !automatic && c.RotationInterval != nil:
		return invalid("", "a manual secret has no rotation_interval")
	case !automatic && c.NextRotationAt != nil:
		return invalid("", "a manual secret has no next_rotation_at")
	}
	return nil
}

// checkFormat: what a secret is made of is fixed when it is created.
func (c *Change) checkFormat(name, format string) error {
	switch {
	case format == "userpass" && c.Value != nil:
		return invalid(name, "this secret is a user name and a password")
	case format != "userpass" && (c.Username != nil || c.Password != nil):
		return invalid(name, "this secret is a value")
	}
	return nil
}
