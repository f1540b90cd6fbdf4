// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

// domainRecord keeps a record's hash from being one of anything else.
const domainRecord = "hv/audit/1"

// maxSeq is the last number: a bigint holds it.
const maxSeq = 1<<63 - 1

// NodeID is the identity of one node's chain, a uuid. It is made at the first
// start, and anew by a start with a new identity.
type NodeID [16]byte

// newNodeID returns a random one (version 4).
func newNodeID() (id NodeID) {
	_, _ = rand.Read(id[:]) // never returns an error, see crypto/rand
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (id NodeID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// ParseNodeID reads what String writes.
func ParseNodeID(s string) (id NodeID, err error) {
	if len(s) == 36 {
		_, err = hex.Decode(id[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
		if err == nil && id.String() == s {
			return id, nil
		}
	}
	return NodeID{}, errors.New("a node id is a uuid in lower case with hyphens")
}

// Hash is a record's, over its content and the hash of the record before.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Position is a place in a chain: behind the record of that number, whose hash
// stands for everything up to it. The zero Position is before the first record.
type Position struct {
	Seq  uint64
	Hash Hash
}

// Row is a record in its place.
type Row struct {
	Node NodeID
	Seq  uint64 // 1 and up, without a gap
	Prev Hash   // of the record before; zero: there is none
	Hash Hash
	Record
}

// Position is the place behind the row.
func (r *Row) Position() Position { return Position{r.Seq, r.Hash} }

// linker computes hashes in memory that it keeps.
type linker struct {
	buf    []byte    // the fields domain and prev, then the body
	digest hash.Hash // by the profile for the compiler sha256.Sum256 allocates one
	sum    Hash
}

const linkPrefix = 4 + len(domainRecord) + 4 + sha256.Size

func newLinker() linker {
	b := appendField(make([]byte, 0, linkPrefix+maxBody), domainRecord)
	return linker{buf: appendField(b, make([]byte, sha256.Size)), digest: sha256.New()}
}

// begin sets the hash before; the body is to be appended to what it returns.
func (l *linker) begin(prev Hash) []byte {
	copy(l.buf[linkPrefix-sha256.Size:linkPrefix], prev[:])
	return l.buf[:linkPrefix]
}

// record returns a clean record's canonical bytes, valid until the next call,
// and its hash.
func (l *linker) record(r *Record, node NodeID, seq uint64, prev Hash) ([]byte, Hash) {
	l.buf = r.appendBody(l.begin(prev), node, seq)
	return l.buf[linkPrefix:], l.end()
}

// body returns the hash of a record of which there are the canonical bytes.
func (l *linker) body(body []byte, prev Hash) Hash {
	l.buf = append(l.begin(prev), body...)
	return l.end()
}

// end hashes what is in buf.
func (l *linker) end() Hash {
	l.digest.Reset()
	_, _ = l.digest.Write(l.buf) // never returns an error
	l.digest.Sum(l.sum[:0])
	return l.sum
}
