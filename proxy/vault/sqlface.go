// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"encoding/base64"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

const (
	// slowOpen is how long an opening takes only if the KMS was asked: from
	// then on the rest of the buffer is opened side by side. A cached key
	// takes about a microsecond, and half a millisecond for the largest value.
	slowOpen = time.Millisecond

	// Scratch memory up to these sizes is kept for the next buffer; the garbage
	// collector takes what is not used again.
	maxKeptBytes   = 8 << 20
	maxKeptRecords = 16 << 10

	// overhead is what a ciphertext has beyond its value: commitment and tag.
	overhead = 32 + 16
)

// OpenSealed opens the records of one outgoing buffer, in order. All of it is
// one decision: on any error nothing is opened, and what was is zeroed. The
// audit records are appended, in one call, before it returns. direct: the
// statement's own text names a vault function. The plaintext of a userpass is
// its JSON text {"username":…,"password":…}: that is what format 3 seals.
// The caller zeroes the result. Errors are *Error.
func (v *Vault) OpenSealed(ctx context.Context, a Actor, direct bool, texts [][]byte) ([]Plain, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	o := newOpening(len(texts))
	defer o.release()
	return v.openBuffer(ctx, a, o, direct, texts, false)
}

// openBuffer is OpenSealed with scratch memory; binary: also what is not text.
func (v *Vault) openBuffer(ctx context.Context, a Actor, o *opening, direct bool, texts [][]byte, binary bool) ([]Plain, error) {
	at, err := v.open(ctx, a, o, texts, binary)
	if err == nil {
		err = v.append(ctx, o.auditRecords(a, direct))
	} else {
		err = v.recordFailure(ctx, o.failure(a, audit.ActionRead, direct, at, err), err)
	}
	v.metrics.open(err, len(texts))
	if err != nil {
		ZeroAll(o.plains)
		return nil, err
	}
	return o.plains, nil
}

// opening is the state of one OpenSealed or Match.
type opening struct {
	*scratch
	plains []Plain
	name   string // of the secret whose records these must be; empty: any
}

// scratch is what openings reuse. It holds ciphertext and names, no value.
type scratch struct {
	records []envelope.Record
	binary  []byte // what the records' slices refer to
	audits  []audit.Record
	blank   []byte // for values; each byte of it is given out once
}

// blankBytes is what is allocated for values at a time: the collector has to
// remember each piece of memory that it must erase.
const blankBytes = 4 << 10

// space returns n zero bytes for values. To be called inside erase.Do: what is
// allocated there is erased even if a caller forgets to zero it.
func (s *scratch) space(n int) []byte {
	if len(s.blank) < n {
		s.blank = make([]byte, max(n, blankBytes))
	}
	space := s.blank[:n:n]
	s.blank = s.blank[n:]
	return space
}

var scratches sync.Pool // of *scratch

func newOpening(n int) *opening {
	s, ok := scratches.Get().(*scratch)
	if !ok {
		s = new(scratch)
	}
	if cap(s.records) < n {
		s.records = make([]envelope.Record, n)
	}
	s.records = s.records[:n]
	return &opening{scratch: s, plains: make([]Plain, n)}
}

// release gives the scratch memory back. The plains are the caller's.
func (o *opening) release() {
	if cap(o.binary) <= maxKeptBytes && cap(o.records) <= maxKeptRecords {
		clear(o.audits)
		scratches.Put(o.scratch)
	}
	o.scratch = nil
}

// open parses, checks and opens all texts. On an error it returns the index of
// the record at fault; plains may then hold some values.
func (v *Vault) open(ctx context.Context, a Actor, o *opening, texts [][]byte, binary bool) (int, error) {
	s, err := v.ready()
	if err != nil {
		return 0, err
	}
	at, err := v.parse(s, o, texts)
	if refused := v.checkAddr(a); refused != nil { // after parsing: the audit wants the name
		return 0, refused
	}
	if err != nil {
		return at, err
	}
	if stale := v.checkFresh(ctx, a); stale != nil {
		return 0, stale
	}
	total := 0
	for i := range o.records {
		r := &o.records[i]
		if o.name != "" && r.Name != o.name { // the server sent another secret's record
			return i, tampered(o.name, errOtherName)
		}
		if r.Format == envelope.FormatBytes && !binary {
			return i, &Error{
				Kind: KindBinary, Secret: r.Name, Msg: "secret \"" + r.Name + "\" is binary and cannot be read as text",
				Hint: "Read it by REST, which returns value_base64.",
			}
		}
		if refused := v.checkCIDRs(a, r.Name, r.AllowedCIDRs); refused != nil {
			return i, refused
		}
		total += len(r.Ciphertext) - overhead
	}
	return v.openAll(ctx, s, o, total)
}

// parse reads the texts into o.records. Another vault's record is refused here,
// before the KMS could be asked.
func (v *Vault) parse(s *envelope.Sealer, o *opening, texts [][]byte) (int, error) {
	total := 0
	for _, t := range texts {
		total += base64.RawURLEncoding.DecodedLen(len(t))
	}
	if cap(o.binary) < total {
		o.binary = make([]byte, total)
	}
	rest := o.binary[:total]
	for i, t := range texts {
		n := base64.RawURLEncoding.DecodedLen(len(t))
		r := &o.records[i]
		if _, err := r.Parse(t, rest[:n:n]); err != nil {
			r.Name, r.Version = "", 0 // undefined after an error
			return i, tampered("", err)
		}
		if r.Vault != s.Vault() {
			return i, tampered(r.Name, ErrForeignVault)
		}
		rest = rest[n:]
	}
	return 0, nil
}

// openAll opens o.records into o.plains: one after the other as long as the
// keys are at hand, side by side from the first one that had to wait.
func (v *Vault) openAll(ctx context.Context, s *envelope.Sealer, o *opening, total int) (at int, err error) {
	next := 0
	var space []byte
	// All of it in one Do: those inside Open then cost next to nothing.
	erase.Do(func() {
		space = o.space(total)
		for start := time.Now(); next < len(o.records); {
			at = next
			if err = v.openOne(ctx, s, o, next, &space); err != nil {
				return
			}
			next++
			now := time.Now()
			if now.Sub(start) > slowOpen {
				return
			}
			start = now
		}
	})
	if err != nil || next == len(o.records) {
		return at, err
	}
	return v.openRest(ctx, s, o, next, space)
}

// openOne opens record i into the beginning of space, which it shortens.
func (v *Vault) openOne(ctx context.Context, s *envelope.Sealer, o *opening, i int, space *[]byte) error {
	r := &o.records[i]
	n := len(r.Ciphertext) - overhead
	value, err := s.Open(ctx, r, (*space)[:0:n])
	if err != nil {
		return v.sealerError(ctx.Err(), r.Name, err)
	}
	*space = (*space)[n:]
	o.plains[i] = Plain{b: value}
	return nil
}

// openRest opens the records from next on: as many at a time as the KMS may be
// asked at once, and fewer the more others do the same, for who waits there is
// counted.
func (v *Vault) openRest(ctx context.Context, s *envelope.Sealer, o *opening, next int, space []byte) (at int, err error) {
	spaces := make([][]byte, len(o.records)-next)
	for i := range spaces {
		n := len(o.records[next+i].Ciphertext) - overhead
		spaces[i], space = space[:n:n], space[n:]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		taken   atomic.Int64
		workers sync.WaitGroup
		first   sync.Once // the first error counts; others come of its cancel
	)
	work := func() {
		for {
			i := int(taken.Add(1)) - 1
			if i >= len(spaces) {
				return
			}
			if e := v.openOne(ctx, s, o, next+i, &spaces[i]); e != nil {
				first.Do(func() { at, err = next+i, e })
				cancel()
				return
			}
		}
	}
	share := max(1, s.MaxInflight()/int(v.waiting.Add(1)))
	defer v.waiting.Add(-1)
	for range min(share, len(spaces)) {
		workers.Go(func() {
			defer v.rescue(ctx, "opening", func() {
				first.Do(func() { at, err = next, v.sealerError(nil, o.records[next].Name, errPanic) })
				cancel()
			})
			erase.Do(work)
		})
	}
	workers.Wait()
	return at, err
}

// auditRecords returns a record for each opened one.
func (o *opening) auditRecords(a Actor, direct bool) []audit.Record {
	r := a.record(time.Now(), audit.ActionRead, audit.OutcomeOK)
	r.Direct = direct
	o.audits = o.audits[:0]
	for i := range o.records {
		r.Secret, r.Version = o.records[i].Name, o.records[i].Version
		o.audits = append(o.audits, r)
	}
	return o.audits
}

// failure returns the record of a refusal at record i.
func (o *opening) failure(a Actor, action audit.Action, direct bool, i int, err error) audit.Record {
	kind := KindOf(err)
	r := a.record(time.Now(), kind.recorded(action), kind.outcome())
	r.Secret, r.Version, r.Direct, r.Reason = o.records[i].Name, o.records[i].Version, direct, reasonOf(err)
	return r
}
