// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Reader reads the files of a spool as they are: without its lock and its key, and
// without changing anything, whether or not a node is at work there. It is for one
// goroutine.
type Reader struct {
	sys      system
	dir      string
	segments []segment // as of the last Look
	i        int       // which one is being read
	f        file
	scan     *scanner // nil: it is not open yet
	beyond   bool     // more of the segment was read than counts now
	begun    bool     // something was read
	settled  uint64   // up to this record the chain was seen to be durable
	loose    map[uint64]Hash
}

// OpenReader reads a node's directory, or one that a new identity has set aside.
// Errors are *Error.
func OpenReader(dir string) (*Reader, error) { return openReader(dir, osSystem{began: time.Now()}) }

func openReader(dir string, sys system) (*Reader, error) {
	r := &Reader{sys: sys, dir: filepath.Join(dir, spoolDir)}
	if _, err := sys.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
		r.dir = dir
	}
	if err := r.Look(); err != nil {
		return nil, err
	}
	r.Rewind()
	return r, nil
}

// Close closes the file that is being read.
func (r *Reader) Close() {
	if r.f != nil {
		_ = r.f.Close() // nothing was written
	}
	r.f, r.scan = nil, nil
}

// Node is whose spool it is.
func (r *Reader) Node() NodeID { return r.segments[0].node }

// Look takes notice of what came since the last time.
func (r *Reader) Look() error {
	names, err := r.sys.ReadDir(r.dir)
	if err != nil {
		return failed("read", r.dir, err)
	}
	var last uint64
	if n := len(r.segments); n > 0 {
		last = r.segments[n-1].number
	}
	var numbers []uint64
	for _, name := range names {
		if n, ok := segmentNumber(name); ok && n > last {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if err := r.learn(n); err != nil {
			return err
		}
	}
	if len(r.segments) == 0 {
		return damaged(r.dir, -1, "it has no segment")
	}
	return r.measure()
}

// learn reads a segment's header, which says where the one before ends.
func (r *Reader) learn(number uint64) error {
	path := filepath.Join(r.dir, segmentName(number))
	f, err := r.sys.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !r.begun {
		r.segments = r.segments[:0] // deleted meanwhile, and so are those before
		return nil
	}
	if err != nil {
		return failed("open", path, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if errors.Is(err, io.EOF) {
			return damaged(path, int64(n), "its header is not whole")
		}
		return failed("read", path, err)
	}
	g := segment{path: path}
	if g.header, err = decodeHeader(b); err != nil {
		return damaged(path, 0, "%w", err)
	}
	if g.number != number {
		return damaged(path, 0, "it is segment %d", g.number)
	}
	if n := len(r.segments); n > 0 {
		before := &r.segments[n-1]
		switch {
		case before.number+1 != number:
			return damaged(r.dir, -1, "segment %d is missing", before.number+1)
		case g.node != before.node || g.start.Seq < before.start.Seq || g.prevEnd < headerSize:
			return damaged(path, 0, "it does not follow the segment before")
		}
		before.end = g.prevEnd
	}
	r.segments = append(r.segments, g)
	return nil
}

// measure says how much of the segments there is to read.
func (r *Reader) measure() error {
	last := &r.segments[len(r.segments)-1]
	info, err := r.sys.Stat(last.path)
	if err != nil {
		return failed("stat", last.path, err)
	}
	last.end = info.size
	if r.scan != nil {
		r.scan.end, r.scan.buf = r.segments[r.i].end, nil // what was not whole may be now
		if r.beyond = r.scan.pos > r.scan.end; r.beyond {
			r.scan.pos = r.scan.end
		}
	}
	return nil
}

// Rewind goes back to the first record.
func (r *Reader) Rewind() { r.to(0) }

func (r *Reader) to(i int) {
	r.Close()
	r.i, r.begun, r.beyond, r.settled, r.loose = i, false, false, r.segments[i].start.Seq, map[uint64]Hash{}
}

// Back goes to a place behind which are the last n records, and maybe more.
func (r *Reader) Back(n uint64) {
	last := len(r.segments) - 1
	i := last
	for i > 0 && r.segments[last].start.Seq-r.segments[i].start.Seq < n {
		i--
	}
	r.to(i)
}

// Next returns what comes next: a row, or a head. io.EOF: that is all there was at
// the last Look. ErrDamaged: the files are not as a node leaves them.
func (r *Reader) Next() (Row, *Head, error) {
	for {
		if err := r.enter(); err != nil {
			return Row{}, nil, err
		}
		row, head, err := r.scan.next()
		last := r.i == len(r.segments)-1
		switch {
		case errors.Is(err, io.EOF) && !last:
			if next := &r.segments[r.i+1]; !r.beyond && r.scan.last != next.start {
				return Row{}, nil, damaged(next.path, 0, "it does not continue the chain, which the segment before leaves at record %d", r.scan.last.Seq)
			}
			r.settle(r.segments[r.i+1].start.Seq)
			r.Close()
			r.i, r.beyond = r.i+1, false
			continue
		case errors.Is(err, errNoFrame) && last:
			return Row{}, nil, cmp.Or(r.scan.torn(r.cacheLost()), io.EOF)
		case errors.Is(err, errNoFrame):
			return Row{}, nil, damaged(r.scan.name, r.scan.pos, "record %d is not whole", r.scan.last.Seq+1)
		case err != nil || head != nil:
			return Row{}, head, err
		}
		if r.fresh(&row) {
			return row, nil, nil
		}
	}
}

// cacheLost reports whether what was written may have come to the disk in any order:
// the machine has been started anew since.
func (r *Reader) cacheLost() bool {
	boot := r.sys.BootID()
	return boot == bootID{} || boot != r.segments[r.i].boot
}

// enter opens the segment that is next. The first ones may have been deleted
// meanwhile.
func (r *Reader) enter() error {
	for r.scan == nil {
		g := &r.segments[r.i]
		f, err := r.sys.Open(g.path)
		switch {
		case err == nil:
			r.f, r.scan, r.begun = f, newScanner(f, g.path, &g.header, g.end), true
		case errors.Is(err, fs.ErrNotExist) && !r.begun && r.i < len(r.segments)-1:
			r.i++
			r.settled = r.segments[r.i].start.Seq
		default:
			return failed("open", g.path, err)
		}
	}
	return nil
}

// fresh reports whether a row was not handed out yet: a segment begins with what was
// not durable in the one before.
func (r *Reader) fresh(row *Row) bool {
	for durable := min(r.scan.synced, row.Seq); r.settled < durable; {
		r.settled++
		delete(r.loose, r.settled)
	}
	if hash, ok := r.loose[row.Seq]; ok && hash == row.Hash {
		return false
	}
	if row.Seq > r.settled {
		r.loose[row.Seq] = row.Hash
	}
	return true
}

// settle forgets what cannot come again: the segment that is next begins behind it,
// whatever the frames of this one say to be durable.
func (r *Reader) settle(seq uint64) {
	r.settled = max(r.settled, seq)
	maps.DeleteFunc(r.loose, func(n uint64, _ Hash) bool { return n <= seq })
}

// Evidence is all that there is in the directory, which is read twice. Of the heads
// it has the last of each segment and of each key: one is over all records before.
// The Reader is closed when the rows were read.
func (r *Reader) Evidence(ctx context.Context) (*Evidence, error) {
	now, _ := r.sys.Now()
	e := &Evidence{At: now}
	if err := r.heads(ctx, e); err != nil {
		return nil, err
	}
	e.Rows = func(yield func(Row, error) bool) {
		r.Rewind()
		defer r.Close()
		for {
			row, head, err := r.Next()
			switch {
			case errors.Is(err, io.EOF):
				return
			case head != nil:
				continue
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
	return e, nil
}

// heads reads as far as there is no damage: the rows show that.
func (r *Reader) heads(ctx context.Context, e *Evidence) error {
	var last *Head
	segment := 0
	keep := func() error {
		if last != nil {
			if len(e.Heads) == MaxHeads {
				return damaged(r.dir, -1, "it has more than %d heads", MaxHeads)
			}
			e.Heads = append(e.Heads, *last)
			last = nil
		}
		return nil
	}
	for {
		_, head, err := r.Next()
		err = cmp.Or(err, ctx.Err())
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, ErrDamaged):
			return keep()
		case err != nil:
			return err
		case head == nil:
			continue
		case last != nil && (r.i != segment || head.Key != last.Key):
			if err := keep(); err != nil {
				return err
			}
		}
		last, segment = head, r.i
	}
}
