// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"errors"
	"fmt"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// keysSize is what the cache holds for one data key: encryption key, commitment.
const keysSize = 64

// keys are the two keys derived from a data key.
type keys [keysSize]byte

func (k *keys) encryption() []byte { return k[:32] }
func (k *keys) commitment() []byte { return k[32:] }
func (k *keys) zero()              { erase.Zero(k[:]) }

// ErrUnlocked is reported if the system lets this process lock no memory at all.
var ErrUnlocked = errors.New("envelope: no memory can be locked")

// minSlots is one page of 4 KiB: less is not worth a cache.
const minSlots = 4096 / keysSize

// arena is memory for fixed slots of keys that is neither swapped nor dumped.
type arena struct {
	mem    []byte
	slots  int
	locked bool
}

// newArena locks memory for want slots, or for as many as the limit on locked
// memory (RLIMIT_MEMLOCK) leaves. What else the process has locked counts
// against that limit too, so it is found by trying lock.
func newArena(want int, allowUnlocked bool, lock func(n int) ([]byte, error)) (*arena, error) {
	want = max(want, minSlots)
	slots := want
	for {
		mem, err := lock(slots * keysSize)
		if err == nil {
			return &arena{mem: mem, slots: slots, locked: true}, nil
		}
		if slots == minSlots {
			if !allowUnlocked {
				return nil, fmt.Errorf("%w: %w", ErrUnlocked, err)
			}
			break
		}
		slots = max(slots/2, minSlots)
	}
	mem, err := mapUnlocked(want * keysSize)
	if err != nil {
		return nil, err
	}
	return &arena{mem: mem, slots: want}, nil
}

func (a *arena) slot(i int32) *keys {
	return (*keys)(a.mem[int(i)*keysSize : (int(i)+1)*keysSize])
}

// close zeroes and returns the memory. No slot may be used afterwards.
func (a *arena) close() error {
	erase.Zero(a.mem)
	err := unmap(a.mem)
	a.mem = nil
	return err
}
