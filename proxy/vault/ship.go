// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// ShipMode is which records go to the vault.
type ShipMode int

// The modes.
const (
	ShipAll    ShipMode = iota // all
	ShipWrites                 // all, but of what only looks nothing than the links of the chain
	ShipOff                    // none
)

const (
	// shipRows is how many records a statement carries: about a MB, 8 MB at most. The server
	// prepares for each statement as much as for some hundred records.
	shipRows = 4000

	// shipLeast is how many it carries after errors, of which one may be that many take too long.
	shipLeast = 250

	// shipEvery is how long records wait for others at most.
	shipEvery = time.Second

	// shipBelieve is how long the vault's word is taken while records follow one another: then
	// what it has is read back.
	shipBelieve = time.Second

	// shipConfirm is how often a node that has nothing to ship asks whether the vault
	// still has what it had: it may have been restored.
	shipConfirm = 10 * time.Second

	shipRetryMin = time.Second
	shipRetryMax = 10 * time.Second

	// shipEnd is for what is left when the node ends; the next start ships the rest.
	shipEnd = time.Second
)

// KeepShipping brings the spool's records to vault.audit_log, in order, each once, and
// returns when stop is closed and what there was then is shipped, or could not be.
// Nothing of it is in memory but one batch, however long the primary is away.
func (v *Vault) KeepShipping(ctx context.Context, spool *audit.Spool, mode ShipMode, stop <-chan struct{}) {
	if mode == ShipOff {
		return
	}
	s := newShipper(&shipLog{v}, spool, mode, v.log, v.metrics.shipFailed)
	s.timeline, s.state, s.rescue = v.Timeline, &v.shipping, v.rescue
	defer s.leave()
	if at, err := (&shipLog{v}).here(ctx, s.node); err == nil { // else the primary is asked in any case
		s.meet(ctx, at)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-stop:
			time.AfterFunc(shipEnd, end)
		case <-ctx.Done():
		}
	}()
	s.keep(ctx, stop)
}

// A shipper follows the chain with a cursor. One goroutine.
//
// It asks the vault where that stands, goes on from there, and believes only what it
// read back in a transaction of its own. Whatever fails, it asks again: so a commit
// of which nobody knows, a failover that lost rows and a restore are all the same.
type shipper struct {
	to       auditLog
	spool    *audit.Spool
	node     audit.NodeID
	mode     ShipMode
	log      *slog.Logger
	failed   func(cause string)
	timeline func() uint32
	state    *shipState
	rescue   func(ctx context.Context, where string, then func())

	rows     int            // of a batch: fewer on a way that is too slow for many
	cursor   *audit.Cursor  // nil: the vault is to be asked where it stands
	at       audit.Position // what the cursor has brought to the vault
	gap      bool           // the vault has not what is before the cursor
	noted    audit.Position // the last gap that was recorded begins there,
	notedTo  uint64         // and ends there
	met      bool           // the vault was asked once
	refusing bool

	on    uint32    // the timeline of the last answer
	asked time.Time // when that came
}

func newShipper(to auditLog, spool *audit.Spool, mode ShipMode, log *slog.Logger, failed func(string)) *shipper {
	node, _, _ := spool.Identity()
	return &shipper{
		to: to, spool: spool, node: node, mode: mode, log: log, failed: failed,
		timeline: func() uint32 { return 0 }, state: new(shipState), rescue: func(context.Context, string, func()) {}, noted: audit.Position{Seq: noGap},
		rows: shipRows,
	}
}

// noGap is no record's number.
const noGap = 1<<64 - 1

// keep ships until stop is closed or ctx ends.
func (s *shipper) keep(ctx context.Context, stop <-chan struct{}) {
	tick := time.NewTicker(shipEvery)
	defer tick.Stop()
	var retry time.Duration // nonzero: the last round failed
	var due time.Time
	for {
		more, err := s.round(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(ctx, err)
		on := s.timeline()
		switch {
		case err != nil:
			retry = min(max(2*retry, shipRetryMin), shipRetryMax)
			due = time.Now().Add(jittered(retry))
		case more:
			continue
		default:
			retry, due = 0, s.asked.Add(shipConfirm)
		}
		for waiting := true; waiting; {
			select {
			case <-tick.C:
				st := s.spool.Status()
				s.state.wait(st.Durable > st.Shipped)
				waiting = time.Now().Before(due) && s.timeline() == on && (retry > 0 || !s.behind())
			case <-stop:
				_ = s.spool.Sync(ctx) // what is durable is shipped in any case
				for more, err := true, error(nil); more && err == nil; {
					more, err = s.round(ctx)
				}
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// behind reports whether there is something that the vault has not.
func (s *shipper) behind() bool { return s.spool.Status().Durable > s.at.Seq }

// round ships a batch. more: there may be another one at once.
func (s *shipper) round(ctx context.Context) (more bool, err error) {
	defer s.rescue(ctx, "shipping audit records", func() {
		s.leave()
		err = errPanic
	})
	if s.cursor == nil || s.timeline() != s.on || time.Since(s.asked) >= shipConfirm {
		if err := s.resume(ctx); err != nil {
			s.leave()
			return false, err
		}
	}
	batch, err := s.cursor.Next(s.rows)
	if err != nil {
		s.leave()
		return false, err
	}
	if batch.N == 0 {
		return false, nil
	}
	if more, err = s.bring(ctx, &batch); err != nil {
		s.rows = max(s.rows/2, shipLeast)
		s.leave()
		return false, err
	}
	s.rows = min(s.rows*2, shipRows)
	return more, nil
}

// errElsewhere is a vault that stands somewhere else than it was left: it is asked
// again.
var errElsewhere = errors.New("the vault has other audit records than before")

// bring stores a batch, and reads back that it is there, or if more follows at once, that
// this and what followed is, a little later.
func (s *shipper) bring(ctx context.Context, batch *audit.Batch) (more bool, err error) {
	last := batch.Head.Position
	at, err := s.to.append(ctx, batch, s.mode, s.gap)
	switch {
	case err != nil:
		return false, err
	case at != last:
		return false, errElsewhere
	}
	s.at, s.gap = last, false
	if more = batch.N == s.rows && s.behind(); more && time.Since(s.asked) < shipBelieve {
		return true, nil
	}
	if at, err = s.ask(ctx); err != nil {
		return false, err
	}
	if at != last {
		return false, errElsewhere
	}
	return more, s.cursor.Shipped(last)
}

// ask asks up to where the vault has the chain.
func (s *shipper) ask(ctx context.Context) (audit.Position, error) {
	at, err := s.to.position(ctx, s.node)
	if err == nil {
		s.asked, s.on = time.Now(), s.timeline()
	}
	return at, err
}

// resume puts the cursor where the vault stands.
func (s *shipper) resume(ctx context.Context) error {
	before := s.on
	at, err := s.ask(ctx)
	if err != nil {
		return err
	}
	if s.cursor != nil && (s.gap || at == s.at && s.spool.Status().Shipped == at.Seq) {
		return nil // else that the vault has it is still to be stored
	}
	s.leave()
	cursor, err := s.spool.Cursor(at)
	s.gap = errors.Is(err, audit.ErrGone)
	if s.gap {
		cursor, at, err = s.over(ctx, at, before)
	}
	s.refuse(ctx, err)
	if err != nil {
		return err
	}
	if !s.gap && at.Seq < s.at.Seq {
		s.log.WarnContext(ctx, "the vault has lost audit records, which are shipped again", "from", at.Seq+1, "to", s.at.Seq)
	}
	s.cursor, s.at = cursor, at
	return nil
}

// over records that the vault will never have what it needs next, since that is not
// kept here, and goes on behind it.
func (s *shipper) over(ctx context.Context, at audit.Position, timeline uint32) (*audit.Cursor, audit.Position, error) {
	from := s.spool.Oldest()
	if s.noted != at || from.Seq > s.notedTo { // more may have been deleted since, behind the same place
		gap := audit.GapRecord(at.Seq+1, from.Seq, timeline, s.on)
		err := s.spool.Append(ctx, []audit.Record{gap})
		if err != nil {
			return nil, at, err
		}
		s.noted, s.notedTo = at, from.Seq
		s.log.WarnContext(ctx, "the vault has lost audit records that this node keeps no more", "from", at.Seq+1, "to", from.Seq)
	}
	cursor, err := s.spool.Cursor(from)
	return cursor, from, err
}

// meet looks whether the server beside the node proves that this is a copy: as long as
// no primary is there, nobody else can.
func (s *shipper) meet(ctx context.Context, here audit.Position) {
	if here.Seq > s.spool.Status().Durable {
		s.refuse(ctx, fmt.Errorf("%w: the server beside it has %d", audit.ErrForked, here.Seq))
		s.met = false // the primary was not asked
	}
}

// refuse has nothing opened if another node has written under this one's name before
// it started: one of the two is a copy, and what this one records is of no use.
func (s *shipper) refuse(ctx context.Context, err error) {
	forked := errors.Is(err, audit.ErrForked)
	first := !s.met && !s.refusing
	s.met = s.met || err == nil || forked
	switch {
	case first && forked:
		s.refusing = true
		s.spool.Refuse(err)
		s.log.ErrorContext(ctx, "nothing is opened: the vault has audit records of this node that it has not itself", "error", err.Error(),
			"hint", "A node that was cloned or restored from a copy is started once with --new-identity.")
	case s.refusing && err == nil:
		s.refusing = false
		s.spool.Refuse(nil)
	}
}

// leave closes the cursor: the vault is asked before anything else is shipped.
func (s *shipper) leave() {
	if s.cursor != nil {
		s.cursor.Close()
	}
	s.cursor = nil
}
