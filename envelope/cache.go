// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"sync"
	"time"
)

// cacheKey is the hash of all that decides what a wrapped key unwraps to.
type cacheKey [32]byte

// sweepPause is how long after an expiry its slot may keep its bytes (a lookup
// never returns them). It keeps ten thousand expiries from being as many timers.
const sweepPause = time.Second

// sweepMost is how long a sweep is put off. Its timer stands still while the machine is
// suspended, and what has expired meanwhile is in memory until it comes.
const sweepMost = 10 * time.Second

// entry describes one slot. Entries are linked in the order of their unwraps,
// which is that of their expiry, whatever is looked up in between.
type entry struct {
	id           cacheKey
	expires      time.Time
	wall         int64 // the same by the calendar's clock, which goes on while the machine is suspended
	older, newer int32 // slot numbers; none at the ends
	visited      bool  // since the hand last passed
}

const none = int32(-1)

// expired goes by either clock.
func (e *entry) expired(now time.Time) bool {
	return !now.Before(e.expires) || now.UnixNano() >= e.wall
}

// cache holds the derived keys of recently unwrapped data keys in locked memory:
// never a data key, never a value. When full it evicts by SIEVE: a hand walks
// from old to new, spares once what was looked up since, and a hit only sets a
// bit, so that the order stays that of expiry. A slot is zeroed when its entry
// goes. Safe for concurrent use.
type cache struct {
	ttl time.Duration

	mu             sync.Mutex // guards all below
	arena          *arena     // nil once closed
	index          map[cacheKey]int32
	entries        []entry
	used           int32   // slots ever used; those above are fresh
	free           []int32 // slots used before
	oldest, newest int32
	hand           int32 // none: start at the oldest
	sweeper        *time.Timer
}

func newCache(slots int, ttl time.Duration, allowUnlocked bool) (*cache, error) {
	a, err := newArena(slots, allowUnlocked, mapLocked)
	if err != nil {
		return nil, err
	}
	n := min(slots, a.slots)
	// All sized now: what grew inside erase.Do would have to be erased.
	return &cache{
		ttl: ttl, arena: a, index: make(map[cacheKey]int32, n), entries: make([]entry, n), free: make([]int32, 0, n),
		oldest: none, newest: none, hand: none,
	}, nil
}

// get copies the keys of id into out. Call it inside erase.Do.
func (c *cache) get(id *cacheKey, out *keys) bool {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.index[*id]
	if !ok {
		return false
	}
	e := &c.entries[i]
	if e.expired(now) {
		c.drop(i)
		return false
	}
	e.visited = true
	*out = *c.arena.slot(i)
	return true
}

// put stores keys whose unwrap began at the given time. Call it inside erase.Do.
func (c *cache) put(id *cacheKey, k *keys, unwrapped time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expires := unwrapped.Add(c.ttl)
	if c.arena == nil || !time.Now().Before(expires) {
		return
	}
	if i, ok := c.index[*id]; ok {
		c.drop(i)
	}
	i := c.slot()
	*c.arena.slot(i) = *k
	c.index[*id] = i
	c.link(i, entry{id: *id, expires: expires, wall: expires.UnixNano()})
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(min(time.Until(expires), sweepMost), c.sweep)
	}
}

// slot returns the number of a slot to fill, evicting if there is none.
func (c *cache) slot() int32 {
	if len(c.free) == 0 && int(c.used) == len(c.entries) {
		c.evict()
	}
	if n := len(c.free); n > 0 {
		i := c.free[n-1]
		c.free = c.free[:n-1]
		return i
	}
	c.used++
	return c.used - 1
}

// evict drops the first entry from the hand on that was not looked up since the
// hand last passed it. It ends: the hand clears every bit it passes.
func (c *cache) evict() {
	i := c.hand
	for {
		if i == none {
			i = c.oldest
		}
		e := &c.entries[i]
		if !e.visited {
			break
		}
		e.visited = false
		i = e.newer
	}
	c.hand = i
	c.drop(i) // moves the hand on
}

// link makes slot i's entry e the newest. Unwraps that overlap can end in
// another order than they began, so it may have to go behind a few.
func (c *cache) link(i int32, e entry) {
	older := c.newest
	for older != none && c.entries[older].expires.After(e.expires) {
		older = c.entries[older].older
	}
	e.older, e.newer = older, c.oldest
	if older != none {
		e.newer = c.entries[older].newer
	}
	c.entries[i] = e
	c.join(e.older, i)
	c.join(i, e.newer)
}

// join makes two slots neighbours; none stands for either end of the list.
func (c *cache) join(older, newer int32) {
	if older == none {
		c.oldest = newer
	} else {
		c.entries[older].newer = newer
	}
	if newer == none {
		c.newest = older
	} else {
		c.entries[newer].older = older
	}
}

// drop zeroes slot i and forgets its entry.
func (c *cache) drop(i int32) {
	c.arena.slot(i).zero()
	e := &c.entries[i]
	if c.hand == i {
		c.hand = e.newer
	}
	c.join(e.older, e.newer)
	delete(c.index, e.id)
	*e = entry{}
	c.free = append(c.free, i)
}

// sweep drops what has expired and sets the timer for what will.
func (c *cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweeper = nil
	if c.arena == nil {
		return
	}
	now := time.Now()
	for c.oldest != none && c.entries[c.oldest].expired(now) {
		c.drop(c.oldest)
	}
	if c.oldest != none {
		next := min(max(c.entries[c.oldest].expires.Sub(now), sweepPause), sweepMost)
		c.sweeper = time.AfterFunc(next, c.sweep)
	}
}

// flush drops everything.
func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.arena != nil && c.oldest != none {
		c.drop(c.oldest)
	}
}

// stats returns the number of entries (expired ones included until they are
// swept), the bound on it, and whether the memory is locked.
func (c *cache) stats() (n, most int, locked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.index), len(c.entries), c.arena != nil && c.arena.locked
}

// close zeroes all and returns the memory; later gets miss, later puts do nothing.
func (c *cache) close() {
	c.flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arena == nil {
		return
	}
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
	_ = c.arena.close() // unmapping what was mapped cannot fail
	c.arena = nil
}
