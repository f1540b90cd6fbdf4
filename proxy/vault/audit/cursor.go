// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// Cursor hands out what is durable of the chain, in order, to be shipped. It is for
// one goroutine; Close it before the Spool.
type Cursor struct {
	s      *Spool
	number uint64 // of the segment
	f      file
	scan   *scanner
	steps  int
	given  []Position // by the last Next
	buf    []byte     // of the last Next
}

// Batch is a piece of the chain, and a head over its last record. Its records are valid
// until the next one is asked for.
type Batch struct {
	Node    NodeID
	After   Position // behind which they follow
	N       int
	Records []byte // of each its canonical bytes, and its hash behind
	Head    Head   // over the last

	since uint64 // see Spool
}

// Rows are the records.
func (b *Batch) Rows() (rows []Row, err error) {
	prev, rest := b.After, b.Records
	var t texts
	for range b.N {
		n := bodySize(rest)
		row, err := decodeBody(rest[:n], &t)
		if err != nil {
			return nil, failed("ship", "", err)
		}
		row.Prev, row.Hash = prev.Hash, Hash(rest[n:])
		prev, rest = row.Position(), rest[n+len(Hash{}):]
		rows = append(rows, row)
	}
	return rows, nil
}

// Withhold leaves nothing of records that only look but their places in the chain. Those
// of processes whose start did not say so stay whole: who verifies the chain would take
// them for hidden by somebody else.
func (b *Batch) Withhold() error {
	rows, err := b.Rows()
	if err != nil {
		return err
	}
	b.Records = nil
	for i := range rows {
		r := &rows[i]
		if r.Seq >= b.since && r.Looks() {
			r.Record = Record{At: r.At, Action: ActionWithheld}
		}
		b.Records = append(r.appendBody(b.Records, r.Node, r.Seq), r.Hash[:]...)
	}
	return nil
}

// Cursor returns one that goes on behind a record: the last one that the vault has
// of this node, or the zero Position. What is behind it counts as not shipped from
// now on, also if more was before: the vault may have been restored to an earlier
// state.
//
// ErrForked: this chain has another record there, or none yet, so another node
// writes under this one's name, or this one was restored. ErrGone: the records that
// the vault needs next were deleted, as shipped.
func (s *Spool) Cursor(after Position) (*Cursor, error) {
	c := &Cursor{s: s}
	s.turn <- struct{}{}
	durable := s.durable
	i := len(s.segments) - 1
	for i > 0 && s.segments[i].start.Seq > after.Seq {
		i--
	}
	g := s.segments[i]
	<-s.turn
	switch {
	case after.Seq > durable.Seq:
		return nil, failed("ship", "", fmt.Errorf("%w: the vault has %d records of this node, which itself has %d", ErrForked, after.Seq, durable.Seq))
	case after.Seq < g.start.Seq:
		return nil, failed("ship", "", fmt.Errorf("%w: %d to %d", ErrGone, after.Seq+1, g.start.Seq))
	}
	err := c.enter(g.number)
	for err == nil && c.scan.last.Seq < after.Seq {
		_, _, err = c.step()
	}
	if err == nil && c.scan.last.Hash != after.Hash {
		err = failed("ship", "", fmt.Errorf("%w %d", ErrForked, after.Seq))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	s.mark(after)
	return c, nil
}

// Oldest is behind which record the records begin that are kept.
func (s *Spool) Oldest() Position {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.segments[0].start
}

// Close closes the file that is being read.
func (c *Cursor) Close() {
	if c.f != nil {
		_ = c.f.Close() // nothing was written
	}
	c.f = nil
}

// Next returns the next records that are durable, at most so many; none: everything
// was handed out. An error leaves the cursor of no use.
func (c *Cursor) Next(most int) (b Batch, err error) {
	c.given, c.buf = c.given[:0], c.buf[:0]
	b.Node, b.After, b.since = c.s.id.node, c.scan.last, c.s.since
	for len(c.given) < most {
		f, head, err := c.step()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Batch{}, err
		}
		if head == nil {
			c.buf = append(append(c.buf, f.body...), f.tail...)
			c.given = append(c.given, c.scan.last)
		}
	}
	if b.N, b.Records = len(c.given), c.buf; b.N > 0 {
		now, _ := c.s.sys.Now()
		b.Head = c.s.id.sign(c.given[b.N-1], now)
	}
	return b, nil
}

const (
	// spell is after how many frames a cursor lets others run, which is half a
	// millisecond: it would keep a node's one processor from all sessions.
	spell = 1024
	// breath is a wait, for a goroutine that yields runs again before Go looks whether
	// something has come from the network. With nobody else to run it is a millisecond.
	breath = 10 * time.Microsecond
)

// step returns what is next, in whichever segment it is. io.EOF: no more is
// durable.
func (c *Cursor) step() (frame, *Head, error) {
	if c.steps++; c.steps%spell == 0 {
		time.Sleep(breath) //nolint:forbidigo // nothing is waited for
	}
	for {
		f, head, err := c.scan.frame()
		switch {
		case errors.Is(err, errNoFrame):
			return f, nil, damaged(c.scan.name, c.scan.pos, "record %d is not whole", c.scan.last.Seq+1)
		case !errors.Is(err, io.EOF):
			return f, head, err
		}
		end, ended, err := c.end() // those who append hold it up: not for each record
		switch {
		case err != nil:
			return f, nil, err
		case end > c.scan.end:
			c.scan.end = end
			continue
		case !ended:
			return f, nil, io.EOF
		}
		last := c.scan.last
		if err := c.enter(c.number + 1); err != nil {
			return f, nil, err
		}
		if c.scan.last != last {
			return f, nil, damaged(c.scan.name, 0, "it does not continue the chain, which the segment before leaves at record %d", last.Seq)
		}
	}
}

// end is up to where the cursor's segment is durable, and whether another follows.
func (c *Cursor) end() (end int64, ended bool, err error) {
	c.s.turn <- struct{}{}
	defer func() { <-c.s.turn }()
	if g := c.s.current(); g.number == c.number {
		return c.s.synced, false, nil
	}
	for i := range c.s.segments {
		if c.s.segments[i].number == c.number {
			return c.s.segments[i].end, true, nil
		}
	}
	return 0, false, failed("ship", c.scan.name, ErrGone)
}

// enter opens a segment.
func (c *Cursor) enter(number uint64) error {
	c.Close()
	path := filepath.Join(c.s.dir, segmentName(number))
	f, err := c.s.sys.Open(path)
	if err != nil {
		return failed("open", path, err)
	}
	c.f, c.number = f, number
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return failed("read", path, err)
	}
	h, err := decodeHeader(b)
	if err != nil {
		return damaged(path, 0, "%w", err)
	}
	if h.node != c.s.id.node || h.number != number {
		return damaged(path, 0, "it is segment %d of node %v", h.number, h.node)
	}
	c.scan = newScanner(f, path, &h, headerSize)
	return nil
}

// Shipped says that the vault has the chain up to one of the rows that the last
// Next returned: it was read back, with this hash. ErrForked: the hash is not the
// row's.
func (c *Cursor) Shipped(p Position) error {
	if !slices.Contains(c.given, p) {
		return failed("ship", "", fmt.Errorf("%w: record %d was not shipped as it was read back", ErrForked, p.Seq))
	}
	c.s.mark(p)
	return nil
}

// mark stores up to where the vault has the chain. If that cannot be, as on a full disk,
// nothing more is deleted, and what is durable is shipped all the same: where the vault
// stands it says itself.
func (s *Spool) mark(p Position) {
	s.turn <- struct{}{}
	known := s.shipped == p
	s.asked = true
	if p.Seq < s.shipped.Seq {
		s.shipped = p // nothing behind it is deleted from now on, whatever becomes of the file
		s.note()
	}
	<-s.turn
	if known {
		return
	}
	err := replaceFile(s.sys, s.dir, filepath.Join(s.dir, shippedFile), shippedText(p))

	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if err != nil {
		if !s.unmarked {
			s.o.Log.Warn("up to where the vault has the audit cannot be stored: nothing more of the spool is deleted", "error", err.Error())
		}
		s.unmarked = true
		return
	}
	s.shipped, s.unmarked = p, false
	s.note()
}
