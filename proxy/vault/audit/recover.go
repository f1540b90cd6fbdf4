// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

const (
	lockFile  = "audit.lock"
	spoolDir  = "audit"
	newSuffix = ".new" // of a spool that is being made

	// checkedSegments is how many of the segments that were not shipped are read as a
	// whole at a start: a second or two. Older ones are checked as they are shipped.
	checkedSegments = 16
)

// How a spool was left, as the record of a start says.
const (
	leftFirst   = "first"            // there is none before
	leftClean   = "clean"            // it was closed
	leftKilled  = "killed"           // its process ended: nothing that was appended is missing
	leftCrashed = "crashed"          // the machine did, and what was appended was durable
	leftWindow  = "crashed in batch" // the machine did: what was appended in the last 50 ms and the time of three syncs may be missing
)

// Open takes the spool in a node's directory, which it makes if need be. A torn
// end is cut off, and the first record of the new segment says so; anything else
// that is not as it was left is ErrDamaged, and nothing is touched. Errors are
// *Error.
func Open(root string, o Options) (_ *Spool, err error) {
	o.setDefaults()
	s := &Spool{
		o: o, sys: o.sys, root: root, dir: filepath.Join(root, spoolDir), boot: o.sys.BootID(), link: newLinker(), round: newRound(),
		turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		dead: make(chan struct{}), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := s.sys.Mkdir(root); err != nil {
		return nil, failed("create", root, err)
	}
	if s.lockFile, err = s.sys.Lock(filepath.Join(root, lockFile)); err != nil {
		return nil, failed("lock", filepath.Join(root, lockFile), err)
	}
	defer func() {
		if err != nil {
			if s.open != nil {
				_ = s.open.Close() // what it has is durable, or the error says otherwise
			}
			_ = s.lockFile.Close() // as above
		}
	}()
	if err := s.anchor(); err != nil {
		return nil, err
	}
	if err := s.take(); err != nil {
		return nil, err
	}
	s.wall, s.steady = s.sys.Now()
	s.note()
	s.look()
	go s.run()
	return s, nil
}

// anchor makes durable that the node's directory is there, and what is in it: an
// earlier start may have made or renamed it and then failed.
func (s *Spool) anchor() error {
	for _, dir := range []string{s.root, filepath.Dir(s.root)} {
		err := s.sys.SyncDir(dir)
		if err != nil && (dir == s.root || !errors.Is(err, fs.ErrPermission)) { // the parent is not ours
			return failed("sync", dir, err)
		}
	}
	return nil
}

// take makes the spool's state that of the directory, and begins a segment.
func (s *Spool) take() error {
	_, err := s.sys.Stat(s.dir)
	if err == nil && s.o.NewIdentity {
		if err := s.retire(); err != nil {
			return err
		}
		err = fs.ErrNotExist
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.make()
	case err != nil:
		return failed("stat", s.dir, err)
	}
	left, err := s.recover()
	if err != nil {
		return err
	}
	return s.start(left)
}

// retire sets the directory's spool aside.
func (s *Spool) retire() error {
	now, _ := s.sys.Now()
	return moveFile(s.sys, s.dir, fmt.Sprintf("%s.retired-%d", s.dir, now.UnixMicro()), s.root)
}

// make makes a spool under another name and then gives it its own: it has an
// identity and a segment, or it is not there.
func (s *Spool) make() error {
	final := s.dir
	s.dir += newSuffix
	if err := s.sys.Mkdir(s.dir); err != nil {
		return failed("create", s.dir, err)
	}
	names, err := s.sys.ReadDir(s.dir)
	if err != nil {
		return failed("read", s.dir, err)
	}
	for _, name := range names { // of a start that did not come to its end
		if err := s.sys.Remove(filepath.Join(s.dir, name)); err != nil {
			return failed("remove", filepath.Join(s.dir, name), err)
		}
	}
	s.id, s.first = newIdentity(), true
	if err := replaceFile(s.sys, s.dir, filepath.Join(s.dir, identityFile), s.id.text()); err != nil {
		return err
	}
	if err := s.start(leftFirst); err != nil {
		return err
	}
	if err := moveFile(s.sys, s.dir, final, s.root); err != nil {
		return err
	}
	s.dir = final
	s.current().path = filepath.Join(final, segmentName(s.current().number))
	return nil
}

// start begins this process's first segment with the record of its start.
func (s *Spool) start(left string) error {
	if s.o.Remark != "" {
		left += remarkMark + s.o.Remark
	}
	if err := s.encode([]Record{nodeRecord(ActionStart, left)}); err != nil {
		return err
	}
	if err := s.remark(); err != nil {
		return err
	}
	return s.begin()
}

// recover reads what an earlier process left, and says how it did.
func (s *Spool) recover() (left string, err error) {
	if s.id, err = readIdentity(s.sys, s.dir); err != nil {
		return "", err
	}
	if s.shipped, err = readShipped(s.sys, s.dir); errors.Is(err, fs.ErrNotExist) {
		err = nil // nothing was
	}
	if err == nil {
		err = s.list()
	}
	if err != nil {
		return "", err
	}
	for i := range s.segments {
		if err := s.readHeader(i); err != nil {
			return "", err
		}
	}
	return s.readRecords()
}

// list finds the segments.
func (s *Spool) list() error {
	names, err := s.sys.ReadDir(s.dir)
	if err != nil {
		return failed("read", s.dir, err)
	}
	for _, name := range names {
		path := filepath.Join(s.dir, name)
		if strings.HasSuffix(name, tmpSuffix) && !s.peek { // it never got its name
			if err := s.sys.Remove(path); err != nil {
				return failed("remove", path, err)
			}
		}
		if n, ok := segmentNumber(name); ok {
			s.segments = append(s.segments, segment{header: header{number: n}, path: path})
		}
	}
	if len(s.segments) == 0 {
		return damaged(s.dir, -1, "it has no segment")
	}
	slices.SortFunc(s.segments, func(a, b segment) int { return cmp.Compare(a.number, b.number) })
	return nil
}

// readHeader reads segment i's header, and checks it against the one before.
func (s *Spool) readHeader(i int) error {
	g := &s.segments[i]
	f, err := s.sys.Open(g.path)
	if err != nil {
		return failed("open", g.path, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return failed("stat", g.path, err)
	}
	if info.size < headerSize {
		return damaged(g.path, info.size, "its header is not whole")
	}
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return failed("read", g.path, err)
	}
	number := g.number
	if g.header, err = decodeHeader(b); err != nil {
		return damaged(g.path, 0, "%w", err)
	}
	g.end = info.size
	switch {
	case g.node != s.id.node || g.number != number:
		return damaged(g.path, 0, "it is segment %d of node %v", g.number, g.node)
	case i == 0 && g.start.Seq > s.shipped.Seq:
		return damaged(s.dir, -1, "records %d to %d were not shipped, and are missing", s.shipped.Seq+1, g.start.Seq)
	case i == 0 && number == 1 && (g.start != Position{} || g.prevEnd != 0):
		return damaged(g.path, 0, "the first segment begins behind record %d", g.start.Seq)
	case i == 0:
		return nil
	}
	before := &s.segments[i-1]
	switch {
	case before.number+1 != number:
		return damaged(s.dir, -1, "segment %d is missing, with records from %d to %d at most", before.number+1, before.start.Seq+1, g.start.Seq)
	case g.prevEnd < headerSize || g.prevEnd > before.end:
		return damaged(before.path, before.end, "it ends here, and by the next segment's header at %d", g.prevEnd)
	case g.start.Seq < before.start.Seq:
		return damaged(g.path, 0, "it begins behind record %d, the one before behind %d", g.start.Seq, before.start.Seq)
	}
	before.end = g.prevEnd
	return nil
}

// readRecords checks what was not shipped, and the end.
func (s *Spool) readRecords() (left string, err error) {
	n := len(s.segments)
	from := max(0, n-2)
	for from > 0 && s.segments[from+1].start == s.segments[from].start {
		from-- // to one with a record, which says how the chain was left
	}
	for from > 0 && s.segments[from].start.Seq > s.shipped.Seq && n-from < checkedSegments {
		from--
	}
	var last Row
	for i := from; i < n-1; i++ {
		if err := s.readSegment(i, &last); err != nil {
			return "", err
		}
	}
	cut, err := s.readEnd(&last)
	if err != nil {
		return "", err
	}
	if s.shipped.Seq > s.last.Seq {
		return "", damaged(s.current().path, s.current().end,
			"the chain ends with record %d, but record %d was shipped: this is an older state of the directory", s.last.Seq, s.shipped.Seq)
	}
	left = s.left(&last)
	if cut > 0 {
		left += fmt.Sprintf("; cut %d bytes behind record %d", cut, s.last.Seq)
	}
	return left, nil
}

// left says how the process before ended.
func (s *Spool) left(last *Row) string {
	switch {
	case last.Face == FaceNode && last.Action == ActionStop:
		return leftClean
	case !s.cacheLost():
		return leftKilled
	case s.current().mode == SyncAlways:
		return leftCrashed
	}
	return leftWindow
}

// cacheLost reports whether the machine may have been started anew since the last
// segment was begun.
func (s *Spool) cacheLost() bool { return s.boot == bootID{} || s.boot != s.current().boot }

// readSegment checks segment i, which is not the last, from end to end.
func (s *Spool) readSegment(i int, last *Row) error {
	f, scan, err := s.scan(i)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written
	err = s.readAll(scan, last)
	switch {
	case errors.Is(err, errNoFrame):
		return damaged(scan.name, scan.pos, "record %d is not whole", scan.last.Seq+1)
	case err != nil:
		return err
	case scan.last != s.segments[i+1].start:
		return damaged(s.segments[i+1].path, 0, "it does not continue the chain, which the segment before leaves at record %d", scan.last.Seq)
	}
	return nil
}

// readEnd checks the last segment and says how many bytes of it are torn. What is
// not known to be durable is taken into memory, for the next segment: whether an
// earlier process's sync of it failed nobody can tell.
func (s *Spool) readEnd(last *Row) (cut int64, err error) {
	i := len(s.segments) - 1
	f, scan, err := s.scan(i)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	if err := s.readAll(scan, last); errors.Is(err, errNoFrame) {
		if err := scan.torn(s.cacheLost()); err != nil {
			return 0, err
		}
	} else if err != nil {
		return 0, err
	}
	known := newScanner(f, scan.name, &s.segments[i].header, scan.pos)
	for known.last.Seq < min(scan.synced, scan.last.Seq) {
		if _, _, err := known.next(); err != nil {
			return 0, err
		}
	}
	s.unsynced = make([]byte, scan.pos-known.pos)
	if n, err := f.ReadAt(s.unsynced, known.pos); n < len(s.unsynced) {
		return 0, &Error{"read", scan.name, known.pos, err}
	}
	s.last, s.durable, s.synced = scan.last, known.last, known.pos
	return s.segments[i].end - scan.pos, nil
}

func (s *Spool) scan(i int) (file, *scanner, error) {
	g := &s.segments[i]
	f, err := s.sys.Open(g.path)
	if err != nil {
		return nil, nil, failed("open", g.path, err)
	}
	return f, newScanner(f, g.path, &g.header, g.end), nil
}

// readAll reads to the end, and leaves the last record in last.
func (s *Spool) readAll(scan *scanner, last *Row) error {
	recent := map[uint64]Hash{} // since the last head
	for {
		at := scan.pos
		row, head, err := scan.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case head == nil:
			*last = row
			recent[row.Seq] = row.Hash
			if row.Seq == s.shipped.Seq && row.Hash != s.shipped.Hash {
				return damaged(scan.name, at, "record %d is not the one that was shipped", row.Seq)
			}
			continue
		}
		if hash, ok := recent[head.Seq]; head.Fingerprint() != fingerprint(s.id.public()) || ok && hash != head.Hash {
			return damaged(scan.name, at, "a head over record %d is not this node's, or of another chain", head.Seq)
		}
		s.signed = max(s.signed, head.Seq)
		maps.DeleteFunc(recent, func(seq uint64, _ Hash) bool { return seq <= head.Seq })
	}
}
