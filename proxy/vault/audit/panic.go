// SPDX-License-Identifier: GPL-3.0-or-later

package audit

// errPanicked is the fault of a spool that has met a panic.
var errPanicked error = failed("append", "", ErrPanic)

// die ends the spool but not the process: after a panic nobody knows what it holds in
// memory, so nothing more is written, and nothing opened. What was written stays where
// the next start looks for it. The caller has the turn.
func (s *Spool) die(p any) {
	s.fault, s.lost, s.distrust = errPanicked, true, true
	if s.group != nil {
		s.group.err, s.group = errPanicked, nil
	}
	s.note()
	if !s.died {
		s.died = true
		close(s.dead)
		s.o.Log.Error("the audit spool is of no use until a restart: nothing is opened")
	}
	s.o.Panicked(p)
}

// give gives the turn back to whoever comes next, and makes an error of a panic.
func (s *Spool) give(err *error) {
	defer func() { <-s.turn }()
	if p := recover(); p != nil {
		s.die(p)
		*err = errPanicked
	}
}

// handOn gives the turn of the spool's goroutine to whoever comes next, who finds a spool
// that is dead if this is a panic.
func (s *Spool) handOn() {
	defer func() { <-s.turn }()
	if p := recover(); p != nil {
		s.die(p)
		panic(p) // see rescue
	}
}

// rescue keeps a panic within the spool's goroutine, and waits for its end.
func (s *Spool) rescue() {
	p := recover()
	if p == nil {
		return
	}
	s.turn <- struct{}{}
	if !s.died { // by handOn
		s.die(p)
	}
	<-s.turn
	s.syncLast()
	<-s.stop
}

// syncLast does what can be done for records that were appended in batch mode.
func (s *Spool) syncLast() {
	defer func() { _ = recover() }() // it may be the same panic
	_ = s.open.Sync()                // as above
}
