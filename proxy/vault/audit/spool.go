// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// Sync is when records are durable.
type Sync byte

// The two ways.
const (
	// SyncBatch: written before Append returns, durable at most 50 ms and the time of
	// three syncs later: of one that is under way, of the directory, if behind that a
	// segment is begun or deleted, and of its own. While the disk fails, when it does no
	// longer.
	SyncBatch Sync = iota
	// SyncAlways: durable before Append returns.
	SyncAlways
)

func (s Sync) String() string {
	if s == SyncAlways {
		return "always"
	}
	return "batch"
}

// Defaults of the Options.
const (
	DefaultKeep         = 168 * time.Hour
	DefaultSegmentBytes = 64 << 20  // a node that starts reads one
	DefaultLowSpace     = 256 << 20 // a million records
)

const (
	// syncDelay leaves a fifth of the 50 ms that batch promises, beside the syncs, to the
	// scheduler.
	syncDelay = 40 * time.Millisecond
	// repairDelay is how long a spool with a fault waits before it tries again, unless
	// somebody appends.
	repairDelay = time.Second
	// tick is how often a spool looks after itself, whether or not there is work.
	tick = 10 * time.Second
	// headEvery is how many records go without a head at most, while there is traffic.
	headEvery = 1024
	// maxUnsynced is how many bytes may wait for the disk in memory before who appends
	// waits for it too, and leaves no more there if he gives up.
	maxUnsynced = 4 << 20
	// idleMemory is what is kept for them between bursts.
	idleMemory = 256 << 10
	// segmentAge ends a segment that does not get full, or it could never be deleted.
	segmentAge = 24 * time.Hour
	// clockStep is how far the clock may go from a steady one within a tick.
	clockStep = time.Second
)

// Options of a Spool; the zero value is what a node has by default.
type Options struct {
	Sync         Sync
	Keep         time.Duration // how long shipped segments stay; 0: DefaultKeep
	SegmentBytes int64         // a segment that has as many is ended; 0: DefaultSegmentBytes
	LowSpace     uint64        // with fewer bytes free Status says Low; 0: DefaultLowSpace
	// NewIdentity sets what the directory has aside and begins a chain under a new
	// node id: for a node that was cloned or restored.
	NewIdentity bool
	// Remark ends the reason of the record of this start, behind "; ". Empty: none, and
	// Batch.Withhold leaves all as it is.
	Remark string
	Log    *slog.Logger // nil: nothing is logged
	// Panicked is called with what a panic was about, where it is caught. nil: it is
	// not told anybody.
	Panicked func(p any)

	sys system // nil: the real one
}

func (o *Options) setDefaults() {
	if o.Keep <= 0 {
		o.Keep = DefaultKeep
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.LowSpace == 0 {
		o.LowSpace = DefaultLowSpace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Panicked == nil {
		o.Panicked = func(any) {}
	}
	if o.sys == nil {
		o.sys = osSystem{began: time.Now()}
	}
}

// Spool is this node's chain of records on disk, a [Sink]. Make it with [Open] and
// Close it after all its users.
//
// Its life: Open checks what is there and begins a segment. Append writes to it, or has
// it written; one goroutine syncs, signs heads, begins further segments and deletes shipped
// ones. After an error of the disk nothing is appended until that goroutine has
// begun a new segment, to which it also writes again what had not become durable in
// the old one: a file whose sync has failed once is never trusted with anything.
type Spool struct {
	o        Options
	sys      system
	root     string // the node's directory
	dir      string // the spool's in it; constant after Open
	id       *identity
	boot     bootID
	lockFile io.Closer
	first    bool   // this Open made the identity
	peek     bool   // nothing is to be changed, see Peek
	since    uint64 // from the start with this number on all have had the same remark as this one; constant after Open

	// turn is taken by whoever touches the fields up to the empty line, and given back
	// whatever happens: a panic ends the spool, and not those who wait for it.
	turn     chan struct{}
	died     bool
	link     linker
	last     Position // encoded, and written but for the group
	durable  Position // synced; what is shipped and signed
	off      int64    // where in the segment the next frame goes
	synced   int64    // up to where the segment is durable
	unsynced []byte   // the frames between the two, and those of the group
	group    *group   // what is to be written next
	idle     *group   // one to be used again; nil: none
	alone    int      // how many groups in a row had one member
	segments []segment
	open     file  // the last of segments
	fault    error // nothing is appended until a new segment is begun
	refused  error // nothing is appended until Refuse says otherwise
	distrust bool  // a sync of the open segment has failed
	closed   bool
	round    *round // the next sync
	under    *round // the one under way; nil: none is
	shipped  Position
	asked    bool // since Open the vault has said what it has: it may have been restored before
	unmarked bool // what it said last could not be stored

	// The syncing goroutine's own.
	told   error         // the fault that was logged
	lost   bool          // the open segment was taken away: only a restart helps
	full   time.Duration // before that no full segment is ended: it has just failed
	signed uint64        // the last head's record
	wall   time.Time
	steady time.Duration

	kick, hurry chan struct{} // there is something to sync: soon, now
	dead        chan struct{} // closed by a panic, see die
	stop        chan struct{}
	stopped     chan struct{}
	seen        atomic.Pointer[Status]
}

// segment is one on disk.
type segment struct {
	header
	path string
	info fileInfo // of the open one
	end  int64    // what it holds of the chain; the open one: see Spool.synced
}

// round is one sync, for those who wait for it.
type round struct {
	done chan struct{}
	err  error // valid once done is closed
}

func newRound() *round { return &round{done: make(chan struct{})} }

func (r *round) end(err error) {
	r.err = err
	close(r.done)
}

func (s *Spool) wait(ctx context.Context, r *round) error {
	select {
	case <-r.done:
		return r.err
	case <-s.dead:
		return errPanicked
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Append adds records to the chain, all or none, and returns when they are
// written (SyncBatch) or durable (SyncAlways). Without an error they survive the end of the
// process, and with SyncAlways that of the machine. After one nothing of what they
// stand for may happen, though they may be in the chain nevertheless. The error is
// an *Error, ErrRecord, or the context's if waiting became too long; a context that
// has ended keeps nothing from being recorded for which nobody has to wait.
func (s *Spool) Append(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	g, r, err := s.enter(ctx, records)
	if err != nil {
		return err
	}
	if s.o.Sync == SyncAlways {
		poke(s.hurry) // the spool's goroutine writes what has come together, and syncs it
		if err := s.wait(ctx, r); err != nil {
			return err
		}
		return g.err
	}
	if g.waits {
		runtime.Gosched() // whoever else is about to append joins the group: it is one write
	}
	return s.written(ctx, g)
}

// enter joins a group. The round is of the sync that makes it durable.
func (s *Spool) enter(ctx context.Context, records []Record) (g *group, r *round, err error) {
	if err := s.ready(ctx); err != nil {
		return nil, nil, err
	}
	defer s.give(&err)
	g, err = s.join(records)
	return g, s.round, err
}

// written has a group written.
func (s *Spool) written(ctx context.Context, g *group) (err error) {
	if err := s.await(ctx); err != nil {
		poke(s.kick) // it is in the chain already: the next sync writes it, if nobody else does
		return err
	}
	defer s.give(&err)
	s.writeGroup()
	err = g.err
	s.leave(g)
	return err
}

// await takes the turn. A context that has ended matters only if somebody else has it.
func (s *Spool) await(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sync returns when what was appended so far is durable. The error is as Append's.
func (s *Spool) Sync(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	r, pending := s.round, len(s.unsynced) > 0
	<-s.turn
	if !pending {
		return nil
	}
	poke(s.hurry)
	return s.wait(ctx, r)
}

// ready takes the turn once there is a segment to write to, and room for what waits for
// the disk.
func (s *Spool) ready(ctx context.Context) error {
	for {
		if err := s.await(ctx); err != nil {
			return err
		}
		if s.closed {
			<-s.turn
			return failed("append", "", ErrClosed)
		}
		if s.refused != nil {
			err := failed("append", "", s.refused)
			<-s.turn
			return err
		}
		if s.fault == nil && len(s.unsynced) <= maxUnsynced {
			return nil
		}
		r := cmp.Or(s.under, s.round) // its end makes room, and repairs
		<-s.turn
		poke(s.hurry)
		if err := s.wait(ctx, r); err != nil {
			return err
		}
	}
}

func (s *Spool) current() *segment { return &s.segments[len(s.segments)-1] }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // somebody has
	}
}

// Close makes durable what was appended, with a record that says so, and gives the
// directory free. What is appended later is refused. The error says that records
// may be missing from the disk.
func (s *Spool) Close() error {
	s.turn <- struct{}{}
	if s.closed {
		<-s.turn
		return nil
	}
	if s.fault == nil {
		_ = s.put([]Record{nodeRecord(ActionStop, "")}) // its error is the spool's fault, see below
	}
	s.closed = true
	<-s.turn
	close(s.stop)
	<-s.stopped
	err := s.fault // nobody else is left
	if cerr := s.open.Close(); err == nil && cerr != nil {
		err = failed("close", s.current().path, cerr)
	}
	_ = s.lockFile.Close() // nothing was written
	clear(s.id.key)
	return err
}

func nodeRecord(action Action, reason string) Record {
	return Record{Face: FaceNode, Action: action, Outcome: OutcomeOK, Reason: reason}
}

// Identity is who writes the chain, and whether this Open made it: then the two
// are to be shown to the operator, who keeps them as a line of a [Trust].
func (s *Spool) Identity() (node NodeID, key Fingerprint, first bool) {
	return s.id.node, fingerprint(s.id.public()), s.first
}

// Refuse has every Append fail with an error, until it is called with nil: what is
// recorded under this identity would be worth nothing.
func (s *Spool) Refuse(err error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.refused = err
	s.note()
}

// Status is how a spool is.
type Status struct {
	Err      error  // why nothing can be appended; nil: it can
	Last     uint64 // the last record
	Durable  uint64 // the last one that is synced
	Shipped  uint64 // the last one that was read back from the vault
	Segments int
	Free     uint64 // bytes that are left on the disk, as of the last look
	Low      bool   // they are few
}

// Status never waits for the disk: it is as of the last sync.
func (s *Spool) Status() Status { return *s.seen.Load() }

// Ready says why nothing can be appended, as Status does.
func (s *Spool) Ready() error { return s.seen.Load().Err }

// note keeps what Status says. The caller has the turn.
func (s *Spool) note() {
	st := Status{
		Err: cmp.Or(s.fault, s.refused), Last: s.last.Seq, Durable: s.durable.Seq, Shipped: s.shipped.Seq, Segments: len(s.segments),
	}
	if before := s.seen.Load(); before != nil {
		st.Free, st.Low = before.Free, before.Low
	}
	s.seen.Store(&st)
}

// look asks how much space is left.
func (s *Spool) look() {
	free, err := s.sys.Free(s.dir)
	if err != nil {
		s.o.Log.Warn("the audit spool's free space is not known", "error", err.Error())
		return
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	st := s.Status()
	st.Free, st.Low = free, free < s.o.LowSpace
	s.seen.Store(&st)
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + "s"
}
