// SPDX-License-Identifier: GPL-3.0-or-later

// Package load is well-behaved clients: each does a bit of everything that a
// client does, with values of its own, and compares all that it reads with what
// it must be. The soak runs hundreds of them, the hostile tests a few beside
// their attackers.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Spec says who the clients are.
type Spec struct {
	DSN      string
	Clients  int
	Secrets  int           // how many of them put and read secrets
	Pace     time.Duration // between two pieces of work of one client; 0: none
	Ramp     time.Duration // in which the clients come, one after the other
	Prefix   string        // of the names of secrets
	Lifetime int           // pieces of work before a client connects anew; 0: 40
}

// A Fleet is running clients.
type Fleet struct {
	spec Spec
	wg   sync.WaitGroup
	stop context.CancelFunc

	// Sessions are open now, Statements answered, Pieces of work done so far.
	Sessions, Statements, Pieces atomic.Int64

	mu   sync.Mutex
	errs []error
	lost int // errors beyond maxErrors
}

const (
	maxErrors       = 20
	defaultLifetime = 40
)

// Start lets the clients work until Stop.
func Start(ctx context.Context, spec Spec) *Fleet {
	if spec.Lifetime == 0 {
		spec.Lifetime = defaultLifetime
	}
	ctx, stop := context.WithCancel(ctx)
	f := &Fleet{spec: spec, stop: stop}
	for i := range spec.Clients {
		c := &client{fleet: f, id: i, secrets: i*spec.Secrets/spec.Clients != (i+1)*spec.Secrets/spec.Clients}
		f.wg.Go(func() { c.run(ctx) })
	}
	return f
}

// Stop ends all clients and returns when the last connection is closed.
func (f *Fleet) Stop() {
	f.stop()
	f.wg.Wait()
}

// Err is what went wrong so far; nil: every answer was right.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost > 0 {
		return errors.Join(append(f.errs[:len(f.errs):len(f.errs)], fmt.Errorf("and %d more", f.lost))...)
	}
	return errors.Join(f.errs...)
}

// Errors is how many there were.
func (f *Fleet) Errors() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.errs) + f.lost
}

func (f *Fleet) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) < maxErrors {
		f.errs = append(f.errs, err)
	} else {
		f.lost++
	}
}

// A client is one of the fleet.
type client struct {
	fleet   *Fleet
	id      int
	secrets bool
	conn    *pgx.Conn
	done    int    // pieces of work
	secret  string // the value that its secret has now
}

// run connects, works, and connects anew, until ctx ends.
func (c *client) run(ctx context.Context) {
	if !c.pause(ctx, time.Duration(c.id)*c.fleet.spec.Ramp/time.Duration(c.fleet.spec.Clients)) {
		return
	}
	for ctx.Err() == nil {
		if err := c.session(ctx); err != nil && ctx.Err() == nil {
			c.fleet.failed(fmt.Errorf("client %d, piece %d: %w", c.id, c.done, err))
			c.pause(ctx, time.Second)
		}
	}
}

const (
	connectTimeout = 5 * time.Minute
	pieceTimeout   = 2 * time.Minute
	closeTimeout   = 5 * time.Second
)

// session is one connection's life. The end of ctx is heeded between two pieces
// of work, so that each session ends in order.
func (c *client) session(ctx context.Context) (err error) {
	config, err := pgx.ParseConfig(c.fleet.spec.DSN)
	if err != nil {
		return errors.New("a DSN that does not parse") // its error would show the password
	}
	config.ConnectTimeout = connectTimeout // the machine may be slow
	if c.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.fleet.Sessions.Add(1)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, c.conn.Close(ctx))
		c.fleet.Sessions.Add(-1)
	}()
	if err := c.exec(context.WithoutCancel(ctx), "CREATE TEMP TABLE own (id int, t text)"); err != nil {
		return err
	}
	for range c.fleet.spec.Lifetime {
		if ctx.Err() != nil {
			return nil
		}
		if err := c.piece(ctx); err != nil {
			return err
		}
		if !c.pause(ctx, c.fleet.spec.Pace) {
			return nil
		}
	}
	return nil
}

// piece does one piece of work.
func (c *client) piece(ctx context.Context) error {
	work := plain[(c.id+c.done)%len(plain)]
	if c.secrets && c.done%2 == 0 {
		work = withSecrets[(c.id+c.done/2)%len(withSecrets)]
	}
	c.done++
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pieceTimeout)
	defer cancel()
	if err := work.do(c, ctx); err != nil {
		return fmt.Errorf("%s: %w", work.name, err)
	}
	c.fleet.Pieces.Add(1)
	return nil
}

// pause waits; false: ctx has ended.
func (c *client) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *client) exec(ctx context.Context, sql string, args ...any) error {
	_, err := c.conn.Exec(ctx, sql, args...)
	if err == nil {
		c.fleet.Statements.Add(1)
	}
	return err
}
