// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"sync"

	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// owedKind is a message to the server that is owed an answer.
type owedKind byte

const (
	oweParse          owedKind = iota // 1
	oweBind                           // 2
	oweDescribe                       // of a statement: t, then T or n
	oweDescribePortal                 // T or n
	oweExecute                        // rows, then C, I or s; or a copy
	oweClose                          // 3
	oweSync                           // Z
	oweQuery                          // anything, then Z
	oweCall                           // V, then Z
	oweCopy                           // nothing: the client's copy data stood here
)

// endsBatch reports whether ReadyForQuery answers the message.
func (k owedKind) endsBatch() bool { return k == oweSync || k == oweQuery || k == oweCall }

// owed is one answer that the server owes. The zero task means that the client
// sent the message and gets the answer as it is.
type owed struct {
	kind   owedKind
	named  bool       // of a named statement or portal
	begun  bool       // something of the answer has come
	copyIn bool       // the server has asked for copy data
	ends   int32      // of oweCopy: how many copies the client has ended there
	stmt   *statement // parsed, described, bound; nil for a plain unnamed one
	prev   *statement // what the name stood for before (Parse, Close, Query)
	portal *portal    // bound, described, executed: nil for the unnamed one; closed: that, nil for all others
	prevP  *portal
	task   *task
}

// A task is what the node wants with an answer.
type task struct {
	swallow bool      // the client did not send the message: it gets no answer
	poison  bool      // it is meant to fail
	fail    *sqlError // answers in place of the server's error
	pre     *prelude  // collects the answer
	group   int       // of the prelude
	last    bool      // of the prelude's messages
	joined  bool      // the CommandComplete of sent.Prefix came
	plan    *rewrite.Plan
	sql     string // the client's text, for error positions, until it is answered
	sent    rewrite.Sent
	reads   bool // the text calls read_secret
	direct  bool // the text names a prepared statement or cursor that calls the vault
	noticed bool // sealed text was left in place and said so

	prepares []string // names that SQL prepares by it, and the server has not said so yet
	run      uint64   // frontState.runs when it was sent
}

// replyQueue is the answers owed, oldest first: a ring, and behind it what a long
// pipeline has more than that has room for.
type replyQueue struct {
	ring     []owed // length a power of two, maxRing at most
	head     int
	inRing   int      // not 0 unless n is
	more     []*chunk // full ones, but for the last
	n        int
	ends     int  // how many entries ReadyForQuery answers
	copied   int  // how many copies' ends are in it
	skipping bool // the server skips to the next Sync, which is not queued yet
	spare    int  // Syncs that a failed copy may have left: each may yet be answered

	// While skip calls undo: the first entry that stays, and next's index.
	kept  int
	later map[string]*owed
}

// len is how much is owed. Copy data at the front stands for nothing: what asked
// for it has been answered, or it came when nobody asked.
func (q *replyQueue) len() int {
	q.front()
	return q.n
}

func (q *replyQueue) at(i int) *owed {
	if i < q.inRing {
		return &q.ring[(q.head+i)&(len(q.ring)-1)]
	}
	i -= q.inRing
	return &q.more[i/len(chunk{})][i%len(chunk{})]
}

// maxRing bounds the ring. One that grew with the longest pipeline would be
// copied while others wait, and stay for the life of the session.
const maxRing = 1 << 10

// A chunk is memory for a part of a long pipeline: all sessions share it.
type chunk [512]owed

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// push appends an entry. While the server skips to Sync it owes nothing but
// that.
func (q *replyQueue) push(e owed) {
	if q.skipping {
		if e.kind != oweSync {
			return
		}
		q.skipping = false
	}
	switch {
	case q.inRing == q.n && (q.n < len(q.ring) || q.grow()):
		q.inRing++
	case (q.n-q.inRing)%len(chunk{}) == 0:
		q.more = append(q.more, chunks.Get().(*chunk)) //nolint:errcheck,forcetypeassert // the pool's New makes nothing else
	}
	q.n++
	*q.at(q.n - 1) = e
	if e.kind.endsBatch() {
		q.ends++
	}
}

// grow makes the ring larger, unless it is as large as it may be.
func (q *replyQueue) grow() bool {
	if len(q.ring) == maxRing {
		return false
	}
	ring := make([]owed, max(8, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
	return true
}

// refill moves what stands behind the empty ring into it. The ring has room for
// a chunk.
func (q *replyQueue) refill() {
	c := q.more[0]
	q.head, q.inRing = 0, min(q.n, len(c))
	copy(q.ring, c[:q.inRing])
	clear(c[:q.inRing])
	chunks.Put(c)
	q.more[0] = nil
	if q.more = q.more[1:]; len(q.more) == 0 {
		q.more = nil
	}
}

// front returns the oldest entry that is owed an answer, or nil.
func (q *replyQueue) front() *owed {
	for q.n > 0 {
		e := q.at(0)
		if e.kind != oweCopy {
			return e
		}
		q.pop()
	}
	return nil
}

// pop drops the oldest entry.
func (q *replyQueue) pop() owed {
	e := *q.at(0)
	*q.at(0) = owed{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.inRing--
	q.n--
	q.copied -= int(e.ends)
	if e.kind.endsBatch() {
		q.ends--
	}
	if q.inRing == 0 && q.n > 0 {
		q.refill()
	}
	return e
}

// eatCopy drops each Sync that the server read, from an entry on, while it took
// copy data: it ignored them up to the data's end. If the copy failed nobody
// knows how far it read: a statement's trigger may fail it before all data. A Sync
// behind the last data was not read, for what fails a copy is no Sync. doubt: of some
// that are dropped nobody knows.
func (q *replyQueue) eatCopy(from int, failed bool) (doubt bool) {
	end := from
	for i := from; i < q.n; i++ {
		e := q.at(i)
		if e.kind == oweCopy {
			end = i
		} else if e.kind != oweSync {
			break
		}
		if e.ends > 0 {
			e.ends--
			q.copied--
			break
		}
	}
	for i := from; i < end; i++ {
		if e := q.at(i); e.kind == oweSync {
			*e = owed{kind: oweCopy}
			if q.ends--; failed {
				q.spare++
				doubt = true
			}
		}
	}
	return doubt
}

// next is the first entry behind those being skipped that gives a statement's
// name another meaning: it remembers the one before. The empty name is the
// unnamed statement's. All are looked up at once: a client may have a long
// pipeline skipped with another one behind it.
func (q *replyQueue) next(name string) *owed {
	if q.later == nil {
		q.later = map[string]*owed{}
		for i := q.n - 1; i >= q.kept; i-- {
			if e := q.at(i); e.renames() {
				q.later[e.statementName()] = e
			} else if e.kind == oweBind && e.portal == nil {
				q.later[unnamedBind] = e
			}
		}
	}
	return q.later[name]
}

// unnamedBind stands in next for the unnamed portal: no statement has such a name.
const unnamedBind = "\x00"

// renames reports whether a statement's name stands for something else from the
// message on.
func (e *owed) renames() bool {
	switch e.kind {
	case oweQuery:
		return true // drops the unnamed one
	case oweParse:
		return !e.named || e.stmt != nil
	case oweClose:
		return e.named && e.prev != nil
	default:
		return false
	}
}

// statementName is the name that a message which renames gives another meaning.
func (e *owed) statementName() string {
	switch {
	case e.kind == oweParse && e.named:
		return e.stmt.name
	case e.kind == oweClose:
		return e.prev.name
	default:
		return ""
	}
}

// skip drops the entries that the server skips after an error, newest first
// handed to undo, up to the Sync that ends it. more: than copy data stood behind
// the oldest.
func (q *replyQueue) skip(undo func(*owed)) (more bool) {
	n := 0
	for n < q.n && q.at(n).kind != oweSync {
		more = more || n > 0 && q.at(n).kind != oweCopy
		n++
	}
	q.skipping, q.kept = n == q.n, n
	for i := n - 1; i >= 0; i-- {
		undo(q.at(i))
	}
	q.kept, q.later = 0, nil
	for range n {
		q.pop()
	}
	return more
}
