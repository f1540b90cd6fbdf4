// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// rotateAtOnce is how many rotations a node has under way: of the connections to
	// the primary the most are for those who wait for an answer.
	rotateAtOnce = 4

	// A listener sees as often as that whether its server is the primary still, and
	// comes again after a while if it is not.
	listenConfirm  = 5 * time.Second
	listenRetryMin = 500 * time.Millisecond
	listenRetryMax = 15 * time.Second

	// wakeEvery is the least time from one look to the next: any role may notify.
	wakeEvery = 250 * time.Millisecond
)

// Rotation is what this node last saw of automatic rotation.
type Rotation struct {
	Err     error // an *Error: why this node cannot rotate now; nil: it can
	Open    int64 // rotations that are due and not done, in the whole vault
	Failing int64 // secrets of which the last attempt failed
}

// Rotation returns what was seen last. It does no I/O.
func (v *Vault) Rotation() Rotation {
	if r := v.rotation.Load(); r != nil {
		return *r
	}
	return Rotation{}
}

// KeepRotating does rotations that are due: as soon as a tick says that there are
// some, and looks for them every so often. Where no tick happens it stands in. It
// returns when stop is closed and what was under way is done, or ended with ctx.
//
// No cache has to follow: versions never change, so neither do their data keys.
func (v *Vault) KeepRotating(ctx context.Context, every time.Duration, stop <-chan struct{}) {
	wake := make(chan struct{}, 1)
	var listener sync.WaitGroup
	defer listener.Wait()
	listening, end := context.WithCancel(ctx)
	defer end()
	listener.Go(func() {
		v.Steadily(listening, "listening for rotations", func(ctx context.Context) {
			v.listenForJobs(ctx, func() {
				select {
				case wake <- struct{}{}:
				default: // it will look anyway
				}
			})
		})
	})
	tick := time.NewTimer(0)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		ticked := false
		select {
		case <-tick.C: // whoever wakes it, however often, does not put this off
			ticked = true
			tick.Reset(jittered(every))
		case <-wake:
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		select {
		case <-rest.C:
			rest.Reset(wakeEvery)
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		v.noteRotation(ctx, v.rotateDue(ctx, ticked, stop))
	}
}

// jittered keeps nodes that were started together apart.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // not for secrets
}

// rotateDue does all that is due. The error is an *Error.
func (v *Vault) rotateDue(ctx context.Context, tick bool, stop <-chan struct{}) (err error) {
	defer v.rescue(ctx, "rotating", func() { err = v.sealerError(nil, "", errPanic) })
	if _, err := v.ready(); err != nil {
		return err
	}
	var late error // what is queued already is done all the same
	if tick {
		late = v.standIn(ctx)
	}
	for {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		jobs, err := v.claimJobs(ctx)
		if err != nil {
			return err
		}
		if len(jobs) == 0 && late != nil {
			return late
		}
		if len(jobs) == 0 {
			return v.countJobs(ctx)
		}
		var doing sync.WaitGroup
		for _, j := range jobs {
			doing.Go(func() { v.rotateJob(ctx, j) })
		}
		doing.Wait()
	}
}

// standIn runs a tick if there was none for three intervals: nobody has preloaded
// the extension at the primary, or its worker looks after another database.
func (v *Vault) standIn(ctx context.Context) error {
	return v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) error {
		var nothing string
		ticked, err := v.one(ctx, tx, []any{&nothing}, sqlStandIn)
		if ticked && err == nil {
			v.metrics.ticks.Inc()
		}
		return err
	})
}

// countJobs keeps what metrics and status show.
func (v *Vault) countJobs(ctx context.Context) error {
	var r Rotation
	err := v.byItself(ctx, "", func(ctx context.Context, tx pgx.Tx) error {
		_, err := v.one(ctx, tx, []any{&r.Open, &r.Failing}, sqlRotationStatus)
		return err
	})
	if err != nil {
		return err
	}
	if last := v.rotation.Swap(&r); last != nil && last.Err != nil {
		v.log.InfoContext(ctx, "this node rotates secrets again")
	}
	return nil
}

// noteRotation keeps why the node cannot rotate, and logs it once.
func (v *Vault) noteRotation(ctx context.Context, err error) {
	last := v.Rotation()
	if err == nil || ctx.Err() != nil {
		return
	}
	next := Rotation{Err: err, Open: last.Open, Failing: last.Failing}
	v.rotation.Store(&next)
	if KindOf(err) != KindNotReady && (last.Err == nil || last.Err.Error() != err.Error()) {
		v.log.LogAttrs(ctx, levelOf(err), "this node rotates no secrets now", errAttrs(err)...)
	}
}

// listenForJobs calls tell whenever a tick has queued rotations, or may have while
// nobody listened, until ctx ends.
func (v *Vault) listenForJobs(ctx context.Context, tell func()) {
	for wait := listenRetryMin; ; {
		heard, err := v.listenOnce(ctx, tell)
		if ctx.Err() != nil {
			return
		}
		v.log.DebugContext(ctx, "listening for rotations ended", "error", err.Error())
		if heard {
			wait = listenRetryMin
		}
		if !pause(ctx, jittered(wait)) {
			return
		}
		wait = min(2*wait, listenRetryMax)
	}
}

// listenOnce listens at the primary until that is it no more, or ctx ends. heard: it
// did for a while.
func (v *Vault) listenOnce(ctx context.Context, tell func()) (heard bool, err error) {
	p, err := v.AwaitPrimary(ctx, v.primaryWait)
	if err != nil {
		return false, err
	}
	config, err := v.store.config(p.Server)
	if err != nil {
		return false, err
	}
	config.Password = *v.store.password.Load()
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { tell() }
	begin, begun := context.WithTimeout(ctx, storeTimeout)
	defer begun()
	conn, err := pgconn.ConnectConfig(begin, config)
	if err != nil {
		v.DoubtPrimary(p)
		return false, err
	}
	defer func() { _ = conn.Conn().Close() }() // without a goodbye, which could wait
	if err := v.stillPrimary(ctx, conn, p); err != nil {
		return false, err
	}
	if _, err := conn.Exec(begin, "LISTEN vault_rotation").ReadAll(); err != nil {
		return false, err
	}
	tell() // of what was queued before
	for confirm := time.Now().Add(listenConfirm); ; {
		for time.Now().Before(confirm) {
			waiting, waited := context.WithDeadline(ctx, confirm)
			err := conn.WaitForNotification(waiting)
			waited()
			if err != nil && (ctx.Err() != nil || !pgconn.Timeout(err)) {
				return heard, err
			}
		}
		if err := v.stillPrimary(ctx, conn, p); err != nil {
			return heard, err
		}
		heard, confirm = true, time.Now().Add(listenConfirm)
	}
}

// stillPrimary asks a server, which is the primary as far as this node knows,
// whether it is.
func (v *Vault) stillPrimary(ctx context.Context, conn *pgconn.PgConn, p Primary) error {
	known, err := v.Primary(ctx)
	if err != nil || known.Server != p.Server {
		return errors.Join(ErrNoPrimary, err)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	answer := conn.ExecParams(ctx, SQLClaim, nil, nil, nil, nil).Read()
	if answer.Err != nil {
		return answer.Err
	}
	if len(answer.Rows) != 1 || len(answer.Rows[0]) != 1 {
		return ErrNoPrimary
	}
	if timeline, ok := p.Confirm(string(answer.Rows[0][0])); !ok || timeline < v.Timeline() {
		return ErrNoPrimary
	}
	return nil
}
