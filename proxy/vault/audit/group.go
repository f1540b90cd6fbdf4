// SPDX-License-Identifier: GPL-3.0-or-later

package audit

// group is the records that are written together: whoever appends encodes his own, and
// the first who comes back writes them all, or with SyncAlways the spool's goroutine. A
// system call for each record would cost more than all the rest of it.
type group struct {
	from    Position // behind which its records follow
	members int      // who have not left; with SyncAlways nobody does, for err is read without the turn
	waits   bool     // for others to join; constant
	err     error    // valid once written
}

const (
	// lonely is after how many groups of one member the next ones do not wait for others.
	lonely = 16
	// tryEvery is which of them do nevertheless.
	tryEvery = 8
)

// put writes records. The caller has the turn.
func (s *Spool) put(records []Record) error {
	g, err := s.join(records)
	if err != nil {
		return err
	}
	s.writeGroup()
	err = g.err
	s.leave(g)
	return err
}

// join adds records to the group. The caller has the turn, and with SyncBatch leaves the
// group later.
func (s *Spool) join(records []Record) (*group, error) {
	before := s.last
	if err := s.encode(records); err != nil {
		return nil, err
	}
	if s.group == nil {
		if s.group, s.idle = s.idle, nil; s.group == nil {
			s.group = new(group)
		}
		*s.group = group{from: before, waits: s.alone < lonely || s.alone%tryEvery == 0}
	}
	s.group.members++
	return s.group, nil
}

// encode appends the records' frames to unsynced. After an error all is as before.
func (s *Spool) encode(records []Record) error {
	before, at := s.last, len(s.unsynced)
	now, _ := s.sys.Now()
	for i := range records {
		r := records[i]
		if err := r.clean(now); err != nil {
			s.last, s.unsynced = before, s.unsynced[:at]
			return err
		}
		body, hash := s.link.record(&r, s.id.node, s.last.Seq+1, s.last.Hash)
		s.unsynced = appendFrame(s.unsynced, frameRecord, s.durable.Seq, body, hash[:])
		s.last = Position{s.last.Seq + 1, hash}
	}
	return nil
}

// writeGroup writes the group, if there is one. The caller has the turn; whoever looks
// at what is written calls it first.
func (s *Spool) writeGroup() {
	g := s.group
	if g == nil {
		return
	}
	s.group, g.err = nil, errPanicked // unless it comes back
	if s.alone++; g.members > 1 {
		s.alone = 0
	}
	if g.err = s.write(int(s.off - s.synced)); g.err != nil {
		s.last = g.from
	}
}

// leave ends a membership in a group that was written. The caller has the turn.
func (s *Spool) leave(g *group) {
	if g.members--; g.members == 0 {
		s.idle = g
	}
}

// write writes the frames that unsynced has from at on. After an error it has them
// no longer, and the segment is done with: how much of them is in the file nobody
// knows.
func (s *Spool) write(at int) error {
	if err := writeAll(s.open, s.unsynced[at:]); err != nil {
		s.unsynced = s.unsynced[:at]
		s.fault = failed("write", s.current().path, err)
		poke(s.hurry)
		return s.fault
	}
	s.off += int64(len(s.unsynced) - at)
	if at == 0 {
		poke(s.kick)
	}
	return nil
}
