// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// MaxNames is how many secrets are read at once.
const MaxNames = 256

// maxRecords is how long the records may be that one request opens: 8 MiB of values
// and what is sealed with them, in base64.
const maxRecords = (8<<20 + 64<<10) / 3 * 4

const sqlNodeReadMany = `SELECT n.name, r.record, r.version, r.created_at, r.kind FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY n(name, at),
 LATERAL vault.node_read(n.name, NULL, $2) r WHERE r.record IS NOT NULL ORDER BY n.at`

// CheckNames says whether these can be read at once. The error is an *Error.
func CheckNames(names []string) error {
	if len(names) > MaxNames {
		return invalid("", fmt.Sprintf("at most %d names are read at once", MaxNames))
	}
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	return nil
}

// ReadMany opens the current versions of secrets, each once. Those that do not exist,
// or that this one may not read, are left out alike; an address or a missing token
// refuses all. The caller zeroes the result. Errors are *Error.
func (v *Vault) ReadMany(ctx context.Context, a *Access, names []string) (list []Secret, err error) {
	defer v.ended(ctx, a, audit.ActionRead, "", &err)
	if err := CheckNames(names); err != nil {
		return nil, err
	}
	if err := v.stillKnown(ctx, a, audit.ActionRead, ""); err != nil {
		return nil, err
	}
	if err := v.admit(a, audit.ActionRead); err != nil {
		return nil, v.refuse(ctx, a, audit.ActionRead, "", err)
	}
	var mine []string
	var texts [][]byte
	var actor Actor
	err = v.reading(ctx, a, audit.ActionRead, "", func(q *pgxpool.Pool, as Actor) (err error) {
		actor, mine = as, v.permitted(ctx, a, names)
		list, texts, err = v.recordsOf(ctx, q, a, mine)
		return err
	})
	if err != nil {
		return nil, err
	}
	v.noteMissing(ctx, a, mine, list)
	return v.openMany(ctx, a, actor, list, texts)
}

// recordsOf reads the records of secrets. The error is an *Error, or noRoom.
func (v *Vault) recordsOf(ctx context.Context, q querier, a *Access, names []string) (list []Secret, texts [][]byte, err error) {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := v.query(asking, q, sqlNodeReadMany, names, a.Name)
	if err != nil {
		return nil, nil, v.restError(ctx, "", err)
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		var s Secret
		var record []byte
		if err := rows.Scan(&s.Name, &record, &s.Version, &s.CreatedAt, &s.Kind); err != nil {
			return nil, nil, v.restError(ctx, "", err)
		}
		if size += len(record); size > maxRecords {
			cancel() // what it would still send is not waited for
			return nil, nil, invalid("", "these are more than 8 MiB of values: ask for fewer at once")
		}
		if !a.fits(size) {
			cancel()
			return nil, nil, noRoom(maxRecords)
		}
		list, texts = append(list, s), append(texts, record)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, v.restError(ctx, "", err)
	}
	return list, texts, nil
}

// noteMissing records those names that were asked for and are no secret's.
func (v *Vault) noteMissing(ctx context.Context, a *Access, asked []string, found []Secret) {
	var none []audit.Record
	for _, name := range asked {
		if !slices.ContainsFunc(found, func(s Secret) bool { return s.Name == name }) {
			none = append(none, a.refusal(audit.ActionRead, name, missing(name)))
		}
	}
	v.refusedAs(ctx, a, none...)
}

// openMany opens those records whose own list of addresses allows it.
func (v *Vault) openMany(ctx context.Context, a *Access, actor Actor, list []Secret, texts [][]byte) ([]Secret, error) {
	if len(list) == 0 {
		return nil, nil
	}
	s, err := v.ready()
	if err != nil {
		return nil, err
	}
	o := newOpening(len(texts))
	defer o.release()
	if at, err := v.parse(s, o, texts); err != nil {
		return nil, v.refuse(ctx, a, audit.ActionRead, list[at].Name, tampered(list[at].Name, err))
	}
	n := 0
	for i := range list {
		r := &o.records[i]
		if r.Name != list[i].Name {
			return nil, v.refuse(ctx, a, audit.ActionRead, list[i].Name, tampered(list[i].Name, errOtherName))
		}
		if err := v.checkCIDRs(actor, r.Name, r.AllowedCIDRs); err != nil {
			_ = v.refuse(ctx, a, audit.ActionRead, r.Name, err) // as if it did not exist
			continue
		}
		list[n], texts[n] = list[i], texts[i]
		list[n].Format, list[n].Version = r.Format, r.Version
		n++
	}
	if n == 0 {
		return nil, nil
	}
	again := newOpening(n)
	defer again.release()
	plains, err := v.openBuffer(ctx, actor, again, true, texts[:n], true)
	if err != nil {
		return nil, err
	}
	for i := range plains {
		list[i].Value = plains[i]
	}
	return list[:n], nil
}
