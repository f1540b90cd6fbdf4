// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"errors"
	"io"
)

// scanChunk is how much of a segment is read at a time.
const scanChunk = 256 << 10

// errNoFrame: at the scanner's place is no whole frame with a right checksum. The
// end was torn, or what is there was damaged; see scanner.torn.
var errNoFrame = errors.New("no whole record")

// scanner reads a segment's frames and checks that they continue the chain.
type scanner struct {
	f    io.ReaderAt
	name string
	end  int64 // nothing behind is looked at
	pos  int64 // of the next frame
	node NodeID
	last Position // behind which the next record follows

	synced uint64 // of the last frame
	link   linker
	texts  texts
	buf    []byte
	bufAt  int64 // where in the file buf begins
}

func newScanner(f io.ReaderAt, name string, h *header, end int64) *scanner {
	return &scanner{f: f, name: name, end: end, pos: headerSize, node: h.node, last: h.start, link: newLinker()}
}

// next returns the next row or head. io.EOF: the end was reached, with nothing
// left over. An *Error with errNoFrame: what is there is not a frame; with
// ErrDamaged: it is one, but not of this chain.
func (s *scanner) next() (row Row, head *Head, err error) {
	at, prev := s.pos, s.last.Hash
	f, head, err := s.frame()
	if err != nil || head != nil {
		return row, head, err
	}
	row, err = decodeBody(f.body, &s.texts)
	if err != nil {
		return row, nil, damaged(s.name, at, "%w", err)
	}
	row.Prev, row.Hash = prev, s.last.Hash
	return row, nil, nil
}

// frame is next for who needs a record's bytes alone, which are valid until the next
// call: that they continue the chain was seen.
func (s *scanner) frame() (f frame, head *Head, err error) {
	if s.pos == s.end {
		return f, nil, io.EOF
	}
	b, err := s.peek()
	if err != nil {
		return f, nil, err
	}
	f, ok := parseFrame(b)
	if !ok {
		return f, nil, &Error{"check", s.name, s.pos, errNoFrame}
	}
	if f.kind == frameHead {
		h, err := decodeHead(f.body, f.tail)
		switch {
		case err != nil:
			return f, nil, s.damaged("%w", err)
		case h.Node != s.node || h.Seq > s.last.Seq || !h.Valid():
			return f, nil, s.damaged("a head is not one of this chain")
		}
		head = &h
	} else {
		node, seq, err := place(f.body)
		hash := Hash(f.tail)
		switch {
		case err != nil:
			return f, nil, s.damaged("%w", err)
		case node != s.node || seq != s.last.Seq+1:
			return f, nil, s.damaged("record %d is where record %d should be", seq, s.last.Seq+1)
		case s.link.body(f.body, s.last.Hash) != hash:
			return f, nil, s.damaged("record %d does not continue the chain", seq)
		}
		s.last = Position{seq, hash}
	}
	s.synced = f.synced
	s.pos += int64(f.size)
	return f, head, nil
}

func (s *scanner) damaged(format string, args ...any) error {
	return damaged(s.name, s.pos, format, args...)
}

// peek returns what is at pos: maxFrame bytes, or as many as there are.
func (s *scanner) peek() ([]byte, error) {
	have := s.bufAt + int64(len(s.buf)) - s.pos
	if want := min(maxFrame, s.end-s.pos); have < want {
		if s.buf == nil {
			s.buf = make([]byte, 0, min(scanChunk, s.end-s.pos))
		}
		b := s.buf[:min(int64(cap(s.buf)), s.end-s.pos)]
		if int64(len(b)) < want {
			b = make([]byte, min(scanChunk, s.end-s.pos))
		}
		if n, err := s.f.ReadAt(b, s.pos); n < len(b) {
			s.buf = s.buf[:0]
			if errors.Is(err, io.EOF) {
				return nil, s.damaged("the file ends at offset %d, before %d", s.pos+int64(n), s.end)
			}
			return nil, &Error{"read", s.name, s.pos, err}
		}
		s.buf, s.bufAt = b, s.pos
	}
	return s.buf[s.pos-s.bufAt:], nil
}

// torn looks behind a place without a frame. A record that was being written when
// its process ended has nothing behind it. If the page cache was lost with the
// machine, pages may have got to the disk in any order, but only those that were
// not yet synced: a whole frame behind the place that says that they were proves
// damage. damage is what was found to prove it; nil: the end is torn.
func (s *scanner) torn(cacheLost bool) (damage error) {
	at, missing, probe := s.pos, s.last.Seq+1, *s
	probe.buf = nil // s keeps its own
	for ; probe.pos < probe.end; probe.pos++ {
		b, err := probe.peek()
		if err != nil {
			return err
		}
		f, ok := parseFrame(b)
		if ok && (!cacheLost || f.synced >= missing) {
			return damaged(s.name, at, "record %d is not whole, but what was written after it is there at offset %d", missing, probe.pos)
		}
	}
	return nil
}
