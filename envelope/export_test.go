// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

// AAD is the additional data under which sub's value is sealed.
func AAD(sub Subject, commitment []byte) []byte { return appendAAD(nil, &sub, commitment) }

// CacheKey is the cache key of r.
func CacheKey(r *Record) [32]byte { return recordCacheKey(r) }

// Derive returns the two keys of a data key, one after the other.
func Derive(dek []byte) ([]byte, error) {
	var k keys
	err := derive(dek, &k)
	return k[:], err
}

// SealNonce is Seal with a nonce of the test's choice.
func (k *DEK) SealNonce(sub Subject, plain, nonce []byte) (Sealed, error) {
	return k.seal(sub, plain, nonce)
}

// Keys are the keys that k holds now.
func (k *DEK) Keys() []byte { return k.keys[:] }

// Slots is a copy of the cache's memory.
func (s *Sealer) Slots() []byte {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return append([]byte(nil), s.cache.arena.mem...)
}
