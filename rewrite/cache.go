// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "sync"

// planCache remembers plans by blanked text and options. It is bounded by
// bytes in two generations: when the young one is full it becomes the old one,
// whose own entries are forgotten, and a hit among the old moves up. So what
// is used stays, and nothing has to be ordered.
//
// Keys hold no literal's content and plans in it no name: see fill.
type planCache struct {
	mu         sync.Mutex
	young, old map[string]*Plan
	bytes      int // of young
	limit      int // of one generation
}

// planBytes is about what an entry costs besides its key: the plan, its few
// slices, and its place in the map.
const planBytes = 1 << 10

func newPlanCache(bytes int) *planCache {
	return &planCache{young: map[string]*Plan{}, limit: bytes / 2}
}

// get returns the plan for the key; it may be nil: nothing of ours.
func (c *planCache) get(key []byte) (*Plan, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.young[string(key)]; ok {
		return p, true
	}
	p, ok := c.old[string(key)]
	if ok {
		c.add(string(key), p)
	}
	return p, ok
}

// put remembers a plan, unless it is so large that it would drive out too much.
func (c *planCache) put(key []byte, p *Plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(string(key), p)
}

func (c *planCache) add(key string, p *Plan) {
	cost := len(key) + planBytes
	if p != nil {
		cost += 256 * (len(p.Calls) + len(p.Stmts) + len(p.Edits))
	}
	if cost > c.limit/8 {
		return
	}
	if c.bytes+cost > c.limit {
		c.old, c.young, c.bytes = c.young, map[string]*Plan{}, 0
	}
	if _, ok := c.young[key]; !ok {
		c.bytes += cost
	}
	c.young[key] = p
}
