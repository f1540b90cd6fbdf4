// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// run is the spool's one goroutine. It alone syncs, begins segments and deletes
// them.
func (s *Spool) run() {
	defer close(s.stopped)
	defer s.rescue()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	due := time.NewTimer(tick) // of the next sync, while armed
	defer due.Stop()
	armed := false
	always := make(chan struct{})
	close(always)
	var prune <-chan struct{} // always, while there may be segments to be deleted
	sync := func(work func()) {
		began := time.Now()
		work()
		if after, more := s.pending(); more {
			due.Reset(max(0, after-time.Since(began)))
			armed = true
		} else {
			armed = false
		}
		if s.Status().Durable >= s.signed+headEvery {
			s.signHead()
		}
	}
	for {
		select {
		case <-s.hurry:
			sync(s.sync)
		case <-s.kick:
			if !armed {
				due.Reset(syncDelay)
				armed = true
			}
		case <-due.C:
			if armed {
				sync(s.sync)
			}
		case <-ticker.C:
			sync(s.housekeep)
			prune = always
		case <-prune:
			sync(s.sync) // what came during the last one does not wait for them all
			if !s.prune() {
				prune = nil
				s.look() // there is more space now
			}
		case <-s.stop:
			s.finish()
			return
		}
	}
}

// pending says how long after the last sync began there has to be another one.
func (s *Spool) pending() (after time.Duration, more bool) {
	s.turn <- struct{}{}
	defer s.handOn()
	if s.fault != nil {
		return repairDelay, true
	}
	return syncDelay, len(s.unsynced) > 0
}

// finish leaves nothing unsynced, and a head over all of it.
func (s *Spool) finish() {
	s.sync()
	s.signHead()
	s.sync()
}

// housekeep does what is due from time to time.
func (s *Spool) housekeep() {
	s.checkClock()
	s.sync()
	s.signHead()
	s.look()
	s.turn <- struct{}{}
	if len(s.unsynced) == 0 && cap(s.unsynced) > idleMemory {
		s.unsynced = nil
	}
	<-s.turn
}

// sync makes durable what is written, repairs what has failed, and answers those
// who wait.
func (s *Spool) sync() {
	r, f, target, end := s.turnOver()
	try := f != nil

	var err error
	if try {
		err = s.flush(f, end)
	}

	s.turn <- struct{}{}
	defer s.handOn()
	s.under = nil
	s.writeGroup()
	switch {
	case !try:
	case err != nil:
		s.fault, s.distrust, s.lost = err, true, s.lost || errors.Is(err, ErrReplaced)
	default:
		n := copy(s.unsynced, s.unsynced[end-s.synced:])
		s.unsynced = s.unsynced[:n]
		s.durable, s.synced = target, end
	}
	known := s.told
	err = nil
	if s.fault != nil || s.due() {
		err = s.begin()
	}
	s.note() // who is answered may look
	if s.fault != nil {
		s.fail(r, known)
	} else {
		r.end(nil)
		if err != nil { // the full one goes on
			s.full = s.elapsed() + tick
			s.o.Log.Error("a new segment of the audit spool cannot be begun", "error", err.Error())
		}
		if known != nil {
			s.o.Log.Info("the audit spool can be written again")
		}
	}
	s.told = s.fault
	s.note()
}

// turnOver begins a sync: of which file, up to which record and place. nil: there is
// nothing to be synced, or no use in it.
func (s *Spool) turnOver() (r *round, f file, target Position, end int64) {
	s.turn <- struct{}{}
	defer s.handOn()
	s.writeGroup()
	r, s.round = s.round, newRound()
	s.under = r
	if s.synced < s.off && !s.distrust {
		f = s.open
	}
	return r, f, s.last, s.off
}

// fail answers those who wait while there is a fault.
func (s *Spool) fail(r *round, known error) {
	r.end(s.fault)
	s.round.end(s.fault) // they wrote, or came, while the sync was under way
	s.round = newRound()
	if s.o.Sync == SyncAlways { // nobody was told that these are in the chain
		s.last, s.off, s.unsynced = s.durable, s.synced, s.unsynced[:0]
	}
	if known == nil {
		s.o.Log.Error("the audit spool cannot be written: nothing is opened", "error", s.fault.Error())
	}
}

// flush syncs the open segment and sees that it is still the file that a later
// start will find.
func (s *Spool) flush(f file, end int64) error {
	segment := s.current() // only this goroutine changes it
	if err := f.Sync(); err != nil {
		return failed("sync", segment.path, err)
	}
	switch info, err := s.sys.Stat(segment.path); {
	case errors.Is(err, fs.ErrNotExist), err == nil && (!info.same(segment.info) || info.size < end):
		return failed("check", segment.path, ErrReplaced)
	case err != nil:
		return failed("stat", segment.path, err)
	}
	return nil
}

// due reports whether the open segment has records and is full or old. The caller
// has the turn.
func (s *Spool) due() bool {
	now, steady := s.sys.Now()
	c := s.current()
	return s.last.Seq > c.start.Seq && steady >= s.full && (s.synced >= s.o.SegmentBytes || now.Sub(c.created) > segmentAge)
}

func (s *Spool) elapsed() time.Duration {
	_, steady := s.sys.Now()
	return steady
}

// begin begins a segment behind the last durable record, with all that is not
// durable yet, and makes it durable. The caller has the turn. After an error there
// is either no trace of the new one, and all is as before; or there may be one, and
// then the old one is done with: the fault says so.
func (s *Spool) begin() error {
	if s.lost {
		return s.fault
	}
	now, _ := s.sys.Now()
	next := segment{header: header{node: s.id.node, number: 1, start: s.durable, boot: s.boot, created: now, mode: s.o.Sync}}
	if len(s.segments) > 0 {
		next.number, next.prevEnd = s.current().number+1, s.synced
	}
	next.path = filepath.Join(s.dir, segmentName(next.number))
	content := append(next.header.append(make([]byte, 0, headerSize+len(s.unsynced))), s.unsynced...)
	f, err := createFile(s.sys, next.path+tmpSuffix, content)
	if err != nil {
		return s.broken(err)
	}
	if next.info, err = f.Stat(); err != nil {
		_ = f.Close()                           // nothing in it is needed
		_ = s.sys.Remove(next.path + tmpSuffix) // best effort
		return s.broken(failed("stat", next.path, err))
	}
	if err := moveFile(s.sys, next.path+tmpSuffix, next.path, s.dir); err != nil {
		_ = f.Close() // the next try begins anew
		s.fault = err
		return err
	}
	if len(s.segments) > 0 {
		s.current().end = s.synced
	}
	if s.open != nil {
		_ = s.open.Close() // what counts of it is durable
	}
	s.segments, s.open = append(s.segments, next), f
	s.durable, s.synced, s.off, s.unsynced = s.last, int64(len(content)), int64(len(content)), s.unsynced[:0]
	s.fault, s.distrust = nil, false
	return nil
}

// broken replaces the fault, if there is one, by the latest.
func (s *Spool) broken(err error) error {
	if s.fault != nil {
		s.fault = err
	}
	return err
}

// signHead writes a head over what is durable, if there is more than at the last.
func (s *Spool) signHead() {
	s.turn <- struct{}{}
	p := s.durable
	<-s.turn
	if p.Seq <= s.signed {
		return
	}
	now, _ := s.sys.Now()
	h := s.id.sign(p, now)

	s.turn <- struct{}{}
	defer s.handOn()
	s.writeGroup()
	if s.fault != nil {
		return
	}
	at := len(s.unsynced)
	s.unsynced = appendFrame(s.unsynced, frameHead, s.durable.Seq, h.appendBody(nil), h.Signature[:])
	if s.write(at) == nil { // else sync takes care of it
		s.signed = p.Seq
	}
}

// checkClock records that the clock was set.
func (s *Spool) checkClock() {
	wall, steady := s.sys.Now()
	step := wall.Sub(s.wall) - (steady - s.steady)
	s.wall, s.steady = wall, steady
	if step.Abs() <= clockStep {
		return
	}
	s.o.Log.Warn("the clock was set", "by", step.String())
	s.turn <- struct{}{}
	defer s.handOn()
	if s.fault == nil {
		_ = s.put([]Record{nodeRecord(ActionClock, seconds(step))}) // sync takes care of an error
	}
}

// prune deletes the first segment if its records were shipped and it is old enough: a
// gap would look like damage. Whether it did: then the next one may be due.
func (s *Spool) prune() bool {
	now, _ := s.sys.Now()
	s.turn <- struct{}{}
	old := s.segments[0].path
	due := s.asked && len(s.segments) > 1 && s.segments[1].start.Seq <= s.shipped.Seq && now.Sub(s.segments[1].created) > s.o.Keep
	<-s.turn
	if !due {
		return false
	}
	err := s.sys.Remove(old)
	if err == nil || errors.Is(err, fs.ErrNotExist) { // by an earlier try
		err = s.sys.SyncDir(s.dir)
	}
	if err != nil {
		s.o.Log.Warn("a segment of the audit spool that was shipped cannot be deleted", "error", err.Error())
		return false
	}
	s.turn <- struct{}{}
	defer s.handOn()
	s.segments = s.segments[1:]
	s.note()
	return true
}
