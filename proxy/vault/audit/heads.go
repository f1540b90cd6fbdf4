// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// domainHead keeps a head's signature from being one of anything else.
const domainHead = "hv/audit-head/1"

const headBody = 5*4 + 16 + 8 + sha256.Size + 8 + ed25519.PublicKeySize

// Head is a node's signed word that its chain had this record at this place. Who
// has one can find out later that the chain was cut off or written anew.
type Head struct {
	Node NodeID
	Position
	At        time.Time // when it was signed, to the microsecond
	Key       [ed25519.PublicKeySize]byte
	Signature [ed25519.SignatureSize]byte
}

// appendBody appends the canonical bytes, without the signature.
func (h *Head) appendBody(b []byte) []byte {
	b = appendField(b, h.Node[:])
	b = appendUint64(b, h.Seq)
	b = appendField(b, h.Hash[:])
	b = appendUint64(b, uint64(h.At.UnixMicro()))
	return appendField(b, h.Key[:])
}

// signed is what the signature is over.
func (h *Head) signed() []byte {
	return h.appendBody(appendField(make([]byte, 0, 4+len(domainHead)+headBody), domainHead))
}

// Valid reports whether the head was signed by the key that it names. Whether
// that is the node's key is another question: see [Trust].
func (h *Head) Valid() bool { return ed25519.Verify(h.Key[:], h.signed(), h.Signature[:]) }

// Fingerprint is the key's.
func (h *Head) Fingerprint() Fingerprint { return fingerprint(h.Key[:]) }

func decodeHead(body, signature []byte) (h Head, err error) {
	d := fields{rest: body}
	node := d.next(16, 16)
	h.Seq = d.uint64()
	hash := d.next(sha256.Size, sha256.Size)
	micros := d.uint64()
	key := d.next(ed25519.PublicKeySize, ed25519.PublicKeySize)
	if d.bad || len(d.rest) != 0 || h.Seq < 1 || h.Seq > maxSeq || micros > maxMicros {
		return Head{}, errors.New("not a head of an audit chain")
	}
	h.Node, h.Hash = NodeID(node), Hash(hash)
	h.At = time.UnixMicro(int64(micros)).UTC()
	copy(h.Key[:], key)
	copy(h.Signature[:], signature)
	return h, nil
}

// Fingerprint names a node's public key: "SHA256:" and the hash in base64.
type Fingerprint string

func fingerprint(key ed25519.PublicKey) Fingerprint {
	sum := sha256.Sum256(key)
	return Fingerprint("SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]))
}

// Trust is which keys may speak for which node.
type Trust map[NodeID][]Fingerprint

// ParseTrust reads lines of a node id and a fingerprint, as a node prints them at
// its first start. Empty lines and lines that begin with # are skipped.
func ParseTrust(text string) (Trust, error) {
	t := Trust{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) != 2 {
			return nil, fmt.Errorf("line %d: want a node id and a fingerprint", number)
		}
		id, err := ParseNodeID(words[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		sum, ok := strings.CutPrefix(words[1], "SHA256:")
		raw, err := base64.RawStdEncoding.Strict().DecodeString(sum)
		if !ok || err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("line %d: a fingerprint is SHA256: and 43 digits of base64", number)
		}
		t[id] = append(t[id], Fingerprint(words[1]))
	}
	return t, nil
}

// trusts reports whether the head's key may speak for its node.
func (t Trust) trusts(h *Head) bool {
	for _, f := range t[h.Node] {
		if f == h.Fingerprint() {
			return true
		}
	}
	return false
}
