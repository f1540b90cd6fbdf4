// SPDX-License-Identifier: GPL-3.0-or-later

// Package envelope seals and opens secret versions: one data key per version,
// made and unwrapped by a KMS; XChaCha20-Poly1305 with key commitment; and the
// hv1 text in which a sealed version travels. docs/ENVELOPE.md has every byte.
//
// It knows no SQL and does no I/O but the KMS's. Nothing that it returns in an
// error holds a key or a value.
package envelope

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// Errors of this package, beside ErrMalformed, ErrName and *KMSError.
var (
	// ErrTampered: the record is not what was sealed under its subject, or it is
	// another vault's or under another key's than this node may use. One error
	// for every forgery.
	ErrTampered = errors.New("sealed record refused: tampered with, or not of this vault")
	// ErrSubject: a data key is used for another vault or name than it was made for.
	ErrSubject = errors.New("envelope: data key and subject do not belong together")
	// ErrValue: a value is empty or longer than MaxValue.
	ErrValue = errors.New("envelope: a value must have 1 byte to 512 KiB")
	// ErrSpent: a data key seals once.
	ErrSpent = errors.New("envelope: data key used twice")
	// ErrClosed: the Sealer was closed.
	ErrClosed = errors.New("envelope: sealer closed")
)

// Public facts that need no key to see; they help an operator and no forger.
var (
	errForeignVault = fmt.Errorf("%w: it carries another vault id", ErrTampered)
	errForeignKey   = fmt.Errorf("%w: its kms key id is not among those configured", ErrTampered)
)

// Defaults of Config.
const (
	DefaultCacheEntries  = 16384 // 1 MiB of locked memory, within any system's usual limit
	DefaultFlightTimeout = 15 * time.Second
	DefaultMaxInflight   = 64
	maxCacheEntries      = 1 << 20
)

// Config is what a Sealer needs. KMS, Vault and KeyID have no default.
type Config struct {
	KMS           KMS
	Vault         UUID
	KeyID         string        // wraps new data keys; as the KMS answers it, no alias
	DecryptKeyIDs []string      // further keys whose records are opened
	CacheTTL      time.Duration // from the unwrap, not from use; 0: nothing is cached
	CacheEntries  int           // at most; less if less memory can be locked
	FlightTimeout time.Duration // of a KMS call with its retries and its wait for a turn
	MaxInflight   int           // KMS calls at one time
	AllowUnlocked bool          // start even if no memory can be locked
}

// Sealer seals and opens under one vault and one KMS. Safe for concurrent use.
type Sealer struct {
	kms     KMS
	vault   UUID
	keyID   string
	opens   []string // key ids whose records may be opened, keyID first
	timeout time.Duration
	cache   *cache // nil: CacheTTL is 0
	flights *flights
	closed  atomic.Bool

	hits, misses, opened, sealed, failures, kmsCalls, kmsFailures, kmsOutages atomic.Uint64
}

// New returns a Sealer; Close it. ErrUnlocked if no memory can be locked for the
// cache and c does not allow that.
func New(c Config) (*Sealer, error) {
	switch {
	case c.KMS == nil:
		return nil, errors.New("envelope: no KMS")
	case c.Vault == UUID{}:
		return nil, errors.New("envelope: no vault id")
	case c.CacheTTL < 0 || c.CacheEntries < 0 || c.FlightTimeout < 0 || c.MaxInflight < 0:
		return nil, errors.New("envelope: negative setting")
	}
	opens := append([]string{c.KeyID}, c.DecryptKeyIDs...)
	for _, id := range opens {
		if !validKeyID(id) {
			return nil, errors.New("envelope: a kms key id must have 1 to 2048 printable characters")
		}
	}
	if c.CacheEntries == 0 {
		c.CacheEntries = DefaultCacheEntries
	}
	if c.FlightTimeout == 0 {
		c.FlightTimeout = DefaultFlightTimeout
	}
	if c.MaxInflight == 0 {
		c.MaxInflight = DefaultMaxInflight
	}
	s := &Sealer{
		kms: c.KMS, vault: c.Vault, keyID: c.KeyID, opens: opens, timeout: c.FlightTimeout,
		flights: newFlights(c.FlightTimeout, c.MaxInflight),
	}
	if c.CacheTTL > 0 {
		var err error
		if s.cache, err = newCache(min(c.CacheEntries, maxCacheEntries), c.CacheTTL, c.AllowUnlocked); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Vault is the id of the vault that this Sealer serves.
func (s *Sealer) Vault() UUID { return s.vault }

// KeyID is the KMS key under which it seals.
func (s *Sealer) KeyID() string { return s.keyID }

// MaxInflight is how many KMS calls it makes at one time.
func (s *Sealer) MaxInflight() int { return cap(s.flights.slots) }

// Close ends the KMS calls of flights, waits for them, zeroes the cache and
// returns its memory. What comes later gets ErrClosed. It may be called twice.
func (s *Sealer) Close() {
	if s.closed.Swap(true) {
		return
	}
	s.flights.close()
	if s.cache != nil {
		s.cache.close()
	}
}

// Flush empties the cache and forgets remembered failures. A flight in progress
// still answers those who wait for it, but its key is not kept.
func (s *Sealer) Flush() {
	s.flights.forget()
	if s.cache != nil {
		s.cache.flush()
	}
}

// Open appends the value of r to dst, which must not overlap r's memory. The
// error is ErrTampered for every forgery (errors.Is; look for it first), a
// *KMSError if the KMS could not be asked, ctx's if ctx ended first, ErrClosed, or another
// if the KMS's code panicked; dst is then returned as it was. The appended bytes are the
// caller's to zero.
func (s *Sealer) Open(ctx context.Context, r *Record, dst []byte) ([]byte, error) {
	out, err := s.open(ctx, r, dst)
	if err != nil {
		s.failures.Add(1)
		return dst, err
	}
	s.opened.Add(1)
	return out, nil
}

func (s *Sealer) open(ctx context.Context, r *Record, dst []byte) (out []byte, err error) {
	switch {
	case s.closed.Load():
		return nil, ErrClosed
	case r.Vault != s.vault:
		return nil, errForeignVault
	case !slices.Contains(s.opens, r.KeyID):
		return nil, errForeignKey
	case !r.openable():
		return nil, ErrTampered
	}
	id := recordCacheKey(r)
	if s.cache != nil {
		hit := false
		erase.Do(func() {
			var k keys
			if hit = s.cache.get(&id, &k); hit {
				out, err = openWith(&k, r, dst)
				k.zero()
			}
		})
		if hit {
			s.hits.Add(1)
			return out, err
		}
	}
	s.misses.Add(1)
	f, err := s.unwrap(ctx, id, r, s.cache)
	if err != nil {
		return nil, err
	}
	erase.Do(func() { out, err = openWith(&f.keys, r, dst) })
	s.flights.release(f)
	return out, err
}

// recordCacheKey hashes what decides the key: KMS key, context, wrapped key.
func recordCacheKey(r *Record) cacheKey {
	d := digests.Get().(*digest) //nolint:errcheck,forcetypeassert // the pool's New makes nothing else
	defer digests.Put(d)
	b := AppendField(d.fields[:0], domainCache)
	b = AppendField(b, r.KeyID)
	b = appendContextField(b, Context{Vault: r.Vault, Secret: r.Name})
	d.fields = AppendField(b, r.WrappedDEK)
	d.hash.Reset()
	_, _ = d.hash.Write(d.fields) // never returns an error
	return cacheKey(d.hash.Sum(d.sum[:0]))
}

// digest is memory for a hash; nothing in it is secret. Of whoever calls sha256.Sum256
// in a program that is compiled by a profile the digest is on the heap, which is dear
// inside of erase.Do.
type digest struct {
	hash   hash.Hash
	fields []byte
	sum    cacheKey
}

var digests = sync.Pool{New: func() any { return &digest{hash: sha256.New()} }}

// unwrap returns the flight that has the keys of r; release it. They are sought and kept
// in a cache, unless that is nil.
func (s *Sealer) unwrap(ctx context.Context, id cacheKey, r *Record, in *cache) (*flight, error) {
	// The flight outlives this call and with it the buffer that r refers to.
	keyID, wrapped := r.KeyID, slices.Clone(r.WrappedDEK)
	c := Context{Vault: r.Vault, Secret: r.Name}
	var begun time.Time
	return s.flights.wait(ctx, &job{
		id:     id,
		cached: func(k *keys) bool { return in != nil && in.get(&id, k) },
		unwrap: func(ctx context.Context, k *keys) error {
			begun = time.Now()
			return s.askUnwrap(ctx, keyID, wrapped, c, k)
		},
		store: func(k *keys) {
			if in != nil {
				in.put(&id, k, begun)
			}
		},
	})
}

// askUnwrap makes the KMS call. What the KMS refuses as invalid, or unwraps to
// what is no data key, was not wrapped by us under this context: a forgery.
func (s *Sealer) askUnwrap(ctx context.Context, keyID string, wrapped []byte, c Context, k *keys) error {
	s.kmsCalls.Add(1)
	plain, err := s.kms.Unwrap(ctx, keyID, wrapped, c)
	defer erase.Zero(plain)
	if err == nil {
		err = derive(plain, k)
	}
	if err == nil {
		return nil
	}
	e := s.failed(err)
	if e.Kind == KMSInvalid {
		return fmt.Errorf("%w: %w", ErrTampered, e)
	}
	return e
}

// failed counts a failure of the KMS.
func (s *Sealer) failed(err error) *KMSError {
	s.kmsFailures.Add(1)
	e := kmsError(err)
	if e.Kind != KMSInvalid {
		s.kmsOutages.Add(1)
	}
	return e
}

// Stats counts since New. Opens and Failures together are all calls of Open.
type Stats struct {
	Hits, Misses          uint64 // cache lookups of Open
	Opens, Failures       uint64 // Open's outcomes
	Seals                 uint64
	KMSCalls, KMSFailures uint64 // a retrying KMS's retries count as one call
	KMSOutages            uint64 // failures that say something of the KMS, not of what it was given
	Cached, Capacity      int    // keys held now, and at most
	Locked                bool   // the cache's memory is locked
}

// Stats returns the counters as they stand.
func (s *Sealer) Stats() Stats {
	st := Stats{
		Hits: s.hits.Load(), Misses: s.misses.Load(), Opens: s.opened.Load(), Failures: s.failures.Load(),
		Seals: s.sealed.Load(), KMSCalls: s.kmsCalls.Load(), KMSFailures: s.kmsFailures.Load(), KMSOutages: s.kmsOutages.Load(),
	}
	if s.cache != nil {
		st.Cached, st.Capacity, st.Locked = s.cache.stats()
	}
	return st
}
