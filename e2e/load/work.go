// SPDX-License-Identifier: GPL-3.0-or-later

package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// work is one kind of piece.
type work struct {
	name string
	do   func(*client, context.Context) error
}

var (
	plain = []work{
		{"simple", (*client).simple},
		{"extended", (*client).extended},
		{"prepared", (*client).prepared},
		{"pipeline", (*client).pipeline},
		{"copy", (*client).copies},
		{"cursor", (*client).cursor},
		{"failure", (*client).failure},
		{"cancel", (*client).cancel},
		{"rows", (*client).rows},
	}
	withSecrets = []work{
		{"put", (*client).put},
		{"read", (*client).read},
		{"read simple", (*client).readSimple},
		{"read batch", (*client).readBatch},
		{"read in a block", (*client).readInBlock},
	}
)

// mark is a text that nobody else has.
func (c *client) mark() string {
	return fmt.Sprintf("client %d piece %d of %s", c.id, c.done, c.fleet.spec.Prefix)
}

// want compares.
func want(got, wanted string) error {
	if got != wanted {
		return fmt.Errorf("WRONG ANSWER: got %q, want %q", got, wanted)
	}
	return nil
}

// ask runs a query of one text and compares.
func (c *client) ask(ctx context.Context, wanted, sql string, args ...any) error {
	var got string
	if err := c.conn.QueryRow(ctx, sql, args...).Scan(&got); err != nil {
		return err
	}
	c.fleet.Statements.Add(1)
	return want(got, wanted)
}

func (c *client) simple(ctx context.Context) error {
	return c.ask(ctx, c.mark(), "SELECT '"+c.mark()+"'", pgx.QueryExecModeSimpleProtocol)
}

func (c *client) extended(ctx context.Context) error {
	return c.ask(ctx, c.mark(), "SELECT $1::text", pgx.QueryExecModeExec, c.mark())
}

func (c *client) prepared(ctx context.Context) error {
	return c.ask(ctx, c.mark()+"!", "SELECT $1::text || '!'", c.mark())
}

const pipelined = 20

func (c *client) pipeline(ctx context.Context) error {
	var b pgx.Batch
	for i := range pipelined {
		b.Queue("SELECT $1::int + $2::int, $3::text", i, c.id, c.mark())
	}
	r := c.conn.SendBatch(ctx, &b)
	for i := range pipelined {
		var n int
		var text string
		if err := r.QueryRow().Scan(&n, &text); err != nil {
			return errors.Join(err, r.Close())
		}
		c.fleet.Statements.Add(1)
		if err := errors.Join(want(strconv.Itoa(n), strconv.Itoa(i+c.id)), want(text, c.mark())); err != nil {
			return errors.Join(err, r.Close())
		}
	}
	return r.Close()
}

const copied = 300

// copies sends rows in by COPY and gets them back by COPY.
func (c *client) copies(ctx context.Context) error {
	if err := c.exec(ctx, "TRUNCATE own"); err != nil {
		return err
	}
	var sent bytes.Buffer
	for i := range copied {
		fmt.Fprintf(&sent, "%d\t%s\n", i, c.mark())
	}
	tag, err := c.conn.PgConn().CopyFrom(ctx, bytes.NewReader(sent.Bytes()), "COPY own FROM STDIN")
	if err != nil {
		return err
	}
	var back bytes.Buffer
	if _, err := c.conn.PgConn().CopyTo(ctx, &back, "COPY own TO STDOUT"); err != nil {
		return err
	}
	c.fleet.Statements.Add(2)
	return errors.Join(want(tag.String(), "COPY "+strconv.Itoa(copied)), want(back.String(), sent.String()))
}

func (c *client) cursor(ctx context.Context) error {
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // it was committed, or failed for a reason that is told
	if err := c.exec(ctx, "DECLARE c CURSOR FOR SELECT i || ' "+c.mark()+"' FROM generate_series(1, 100) i"); err != nil {
		return err
	}
	for from := 1; from <= 100; from += 25 {
		rows, err := tx.Query(ctx, "FETCH 25 FROM c", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		c.fleet.Statements.Add(1)
		for i, text := range got {
			if err := want(text, fmt.Sprintf("%d %s", from+i, c.mark())); err != nil {
				return err
			}
		}
		if err := want(strconv.Itoa(len(got)), "25"); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// failure fails inside a savepoint and goes on.
func (c *client) failure(ctx context.Context) error {
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // as above
	if err := c.exec(ctx, "SAVEPOINT s"); err != nil {
		return err
	}
	var pe *pgconn.PgError
	if err := c.exec(ctx, "SELECT 1/$1::int", 0); !errors.As(err, &pe) || pe.Code != "22012" {
		return fmt.Errorf("a division by zero gave %w", err)
	}
	if err := c.exec(ctx, "ROLLBACK TO s"); err != nil {
		return err
	}
	if err := c.ask(ctx, c.mark(), "SELECT $1::text", c.mark()); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// cancel interrupts a statement of its own, and only that.
func (c *client) cancel(ctx context.Context) error {
	failed := make(chan error, 1)
	begun, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(failed)
		tick := time.NewTicker(100 * time.Millisecond) // until one meets the statement
		defer tick.Stop()
		for range 100 {
			select {
			case <-begun.Done():
				return
			case <-tick.C:
			}
			if err := c.conn.PgConn().CancelRequest(ctx); err != nil {
				failed <- err
				return
			}
		}
	}()
	r := c.conn.PgConn().Exec(ctx, "SELECT pg_sleep(60)")
	_, err := r.ReadAll()
	cancel()
	if other := <-failed; other != nil {
		return fmt.Errorf("the cancel request: %w", other)
	}
	for range failed { // the last request has been answered
	}
	if err == nil {
		return errors.New("a statement was not cancelled, in ten seconds of asking for it")
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "57014" {
		return fmt.Errorf("a cancelled statement gave %w", err)
	}
	c.fleet.Statements.Add(1)
	return c.ask(ctx, c.mark(), "SELECT $1::text", c.mark())
}

// rows reads a result of some hundred kilobytes.
func (c *client) rows(ctx context.Context) error {
	rows, err := c.conn.Query(ctx, "SELECT i, repeat($1, 3) FROM generate_series(1, 2000) i", c.mark())
	if err != nil {
		return err
	}
	defer rows.Close()
	n, wanted := 0, strings.Repeat(c.mark(), 3)
	for rows.Next() {
		var i int
		var text string
		if err := rows.Scan(&i, &text); err != nil {
			return err
		}
		n++
		if err := errors.Join(want(strconv.Itoa(i), strconv.Itoa(n)), want(text, wanted)); err != nil {
			return err
		}
	}
	c.fleet.Statements.Add(1)
	return errors.Join(rows.Err(), want(strconv.Itoa(n), "2000"))
}

func (c *client) secretName() string { return fmt.Sprintf("%s/%d", c.fleet.spec.Prefix, c.id) }

func (c *client) put(ctx context.Context) error {
	value := "value of " + c.mark()
	var version int
	if err := c.conn.QueryRow(ctx, "SELECT vault.put_secret($1, $2)", c.secretName(), value).Scan(&version); err != nil {
		return err
	}
	c.fleet.Statements.Add(1)
	c.secret = value
	return nil
}

// stored makes sure that there is something to read.
func (c *client) stored(ctx context.Context) error {
	if c.secret != "" {
		return nil
	}
	return c.put(ctx)
}

func (c *client) read(ctx context.Context) error {
	if err := c.stored(ctx); err != nil {
		return err
	}
	return c.ask(ctx, c.secret, "SELECT vault.read_secret($1)", c.secretName())
}

func (c *client) readSimple(ctx context.Context) error {
	if err := c.stored(ctx); err != nil {
		return err
	}
	return c.ask(ctx, c.secret, "SELECT vault.read_secret('"+c.secretName()+"')", pgx.QueryExecModeSimpleProtocol)
}

func (c *client) readBatch(ctx context.Context) error {
	if err := c.stored(ctx); err != nil {
		return err
	}
	var b pgx.Batch
	const times = 5
	for range times {
		b.Queue("SELECT vault.read_secret($1)", c.secretName())
		b.Queue("SELECT $1::text", c.mark())
	}
	r := c.conn.SendBatch(ctx, &b)
	for range times {
		var secret, text string
		if err := errors.Join(r.QueryRow().Scan(&secret), r.QueryRow().Scan(&text)); err != nil {
			return errors.Join(err, r.Close())
		}
		c.fleet.Statements.Add(2)
		if err := errors.Join(want(secret, c.secret), want(text, c.mark())); err != nil {
			return errors.Join(err, r.Close())
		}
	}
	return r.Close()
}

// readInBlock puts and reads in one transaction, and takes the put back.
func (c *client) readInBlock(ctx context.Context) error {
	if err := c.stored(ctx); err != nil {
		return err
	}
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // as above
	other := "never stored by " + c.mark()
	if err := c.exec(ctx, "SELECT vault.put_secret($1, $2)", c.secretName(), other); err != nil {
		return err
	}
	if err := c.ask(ctx, other, "SELECT vault.read_secret($1)", c.secretName()); err != nil {
		return err
	}
	if err := tx.Rollback(ctx); err != nil {
		return err
	}
	return c.ask(ctx, c.secret, "SELECT vault.read_secret($1)", c.secretName())
}
