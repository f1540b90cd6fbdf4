// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// controls are values that are where they can be seen, on purpose: a place where the
// scan does not find one says nothing of the others. They are random texts as the
// others, and nobody's secret.
type controls struct {
	stored *canary.Canary // in a row of an ordinary table
	said   *canary.Canary // in a statement of the role that opens the doors
	named  *canary.Canary // as the name of a secret, for the audit
	turned *canary.Canary // as the role of a log-in that is refused, for the node's log
}

func (c *controls) all() []*canary.Canary {
	return []*canary.Canary{c.stored, c.said, c.named, c.turned}
}

// plant puts the controls into place, behind all doors: what came by these was
// written before.
func (p *prover) plant(ctx context.Context) error {
	p.say("the controls")
	p.controls = controls{
		canary.New("control: stored", p.id), canary.New("control: said", p.id), canary.New("control: named", p.id), canary.New("control: turned away", p.id),
	}
	for _, which := range []canary.Login{canary.Owner, canary.OnStandby} {
		if p.logins[which] == nil {
			continue
		}
		if err := p.plantAt(ctx, which); err != nil {
			return fmt.Errorf("the controls: %w", err)
		}
	}
	return p.store(ctx)
}

// plantAt says one as a name, at a log-in, and in a session that stays, so that the
// views show it.
func (p *prover) plantAt(ctx context.Context, which canary.Login) error {
	name := "canary/" + p.id + "/" + p.controls.named.Value()
	p.removeLater(name)
	session, err := p.dial(ctx, which)
	if err != nil {
		return err
	}
	if err := session.ExecParams(ctx, "SELECT vault.put_secret($1, 'control')", [][]byte{[]byte(name)}, nil, nil, nil).Read().Err; err != nil {
		p.report.fault("the %s's control cannot be made a secret's name: %s", which, oneLine(err))
	}
	if err := session.Close(ctx); err != nil {
		return err
	}
	nobody := p.logins[which].Copy()
	nobody.User, nobody.Password = p.controls.turned.Value(), "of nobody"
	conn, err := pgconn.ConnectConfig(ctx, nobody)
	if err == nil {
		return errors.Join(errors.New("a role that does not exist was let in"), conn.Close(ctx))
	}
	// Another one: what has written is at the primary.
	if session, err = p.dial(ctx, which); err != nil {
		return err
	}
	p.later("a session", session.Close)
	if which == canary.Owner { // with its tables it stays where values were sent
		if err := canary.Prepare(ctx, session); err != nil {
			return err
		}
	}
	// By a CTE's name pg_stat_statements tells it from other statements; by a comment it would not.
	said := `"` + p.controls.said.Value() + `"`
	_, err = session.Exec(ctx, "WITH "+said+" AS (SELECT 1) SELECT * FROM "+said).ReadAll()
	return err
}

// store puts one into a table of its own, at the primary or, where that was not
// named, through the node. Without the right to, no file shows a control.
func (p *prover) store(ctx context.Context) error {
	exec := func(ctx context.Context, sql string, args ...string) error {
		session, err := p.dial(ctx, canary.Owner)
		if err != nil {
			return err
		}
		defer func() { _ = session.Close(ctx) }() // its result was read
		values := make([][]byte, len(args))
		for i, arg := range args {
			values[i] = []byte(arg)
		}
		return session.ExecParams(ctx, sql, values, nil, nil, nil).Read().Err
	}
	if primary := p.primary(); primary != nil {
		exec = func(ctx context.Context, sql string, args ...string) error {
			values := make([]any, len(args))
			for i, arg := range args {
				values[i] = arg
			}
			err := primary.again(ctx)
			if err == nil {
				_, err = primary.conn.Exec(ctx, sql, values...)
			}
			return err
		}
	}
	schema := "hyperion_vault_prove_" + p.id
	p.later("schema "+schema, func(ctx context.Context) error { return exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE") })
	if err := exec(ctx, "CREATE SCHEMA "+schema); err != nil {
		p.report.fault("no control can be stored: %s", oneLine(err))
		return nil
	}
	if err := exec(ctx, "CREATE TABLE "+schema+".control (value pg_catalog.text)"); err != nil {
		return err
	}
	return exec(ctx, "INSERT INTO "+schema+".control VALUES ($1)", p.controls.stored.Value())
}

// settle has servers write to their files what they have in memory, the primary
// first: a standby's own checkpoint follows one that it has replayed.
func (p *prover) settle(ctx context.Context) error {
	primary := p.primary()
	var position string
	if primary != nil {
		p.say("checkpoint at %s", primary.name)
		if _, err := primary.conn.Exec(ctx, "CHECKPOINT"); err != nil {
			return err
		}
		// A record of its own: a position at a page's start is never replayed to.
		if _, err := primary.conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'hyperion-vault', 'prove')"); err != nil {
			return err
		}
		if err := primary.conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&position); err != nil {
			return err
		}
	}
	for _, s := range p.servers {
		if s.conn == nil || !s.standby {
			continue
		}
		if position != "" {
			err := poll(ctx, settleTimeout, func() (replayed bool, err error) {
				err = s.conn.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)", position).Scan(&replayed)
				return replayed, err
			})
			if errors.Is(err, errLate) {
				p.report.fault("%s: it has not replayed within %v what the primary has written", s.name, settleTimeout)
			} else if err != nil {
				return err
			}
		}
		p.say("checkpoint at %s", s.name)
		if _, err := s.conn.Exec(ctx, "CHECKPOINT"); err != nil {
			return err
		}
	}
	return nil
}
