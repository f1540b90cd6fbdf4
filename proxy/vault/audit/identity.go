// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"time"
)

// The small files beside the segments. Each is replaced as a whole, and read only
// if it is exactly what would be written.
const (
	identityFile = "identity" // the node's id and private key
	shippedFile  = "shipped"  // up to where the chain is in the vault

	maxSmallFile = 4 << 10
)

// identity is who writes a chain. The key never leaves it.
type identity struct {
	node NodeID
	key  ed25519.PrivateKey
}

func newIdentity() *identity {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never returns an error, see crypto/rand
	defer clear(seed)
	return &identity{newNodeID(), ed25519.NewKeyFromSeed(seed)}
}

func (id *identity) public() ed25519.PublicKey {
	return ed25519.PublicKey(id.key[ed25519.SeedSize:]) // as Public would return it, without a type to assert
}

// sign makes a head.
func (id *identity) sign(p Position, now time.Time) Head {
	h := Head{Node: id.node, Position: p, At: now.Truncate(time.Microsecond).UTC()}
	copy(h.Key[:], id.public())
	copy(h.Signature[:], ed25519.Sign(id.key, h.signed()))
	return h
}

const identityHead = "hyperion-vault audit identity 1\n"

func (id *identity) text() []byte {
	b := append([]byte(identityHead), "node "+id.node.String()+"\nkey "...)
	b = base64.StdEncoding.AppendEncode(b, id.key[:ed25519.SeedSize])
	return append(b, '\n')
}

func readIdentity(sys system, dir string) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := readFile(sys, path, maxSmallFile, true)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	lines := bytes.Split(b, []byte("\n"))
	wrong := damaged(path, -1, "it is not the identity of a node")
	if len(lines) != 4 {
		return nil, wrong
	}
	node, err := ParseNodeID(string(bytes.TrimPrefix(lines[1], []byte("node "))))
	if err != nil {
		return nil, wrong
	}
	seed := make([]byte, base64.StdEncoding.DecodedLen(len(lines[2])))
	defer clear(seed)
	n, err := base64.StdEncoding.Decode(seed, bytes.TrimPrefix(lines[2], []byte("key ")))
	if err != nil || n != ed25519.SeedSize {
		return nil, wrong // the decoder's error would quote the key
	}
	id := &identity{node, ed25519.NewKeyFromSeed(seed[:n])}
	again := id.text()
	defer clear(again)
	if !bytes.Equal(again, b) {
		return nil, wrong
	}
	return id, nil
}

const shippedFormat = "hyperion-vault audit shipped 1\nseq %d\nhash %x\n"

func shippedText(p Position) []byte { return fmt.Appendf(nil, shippedFormat, p.Seq, p.Hash[:]) }

func readShipped(sys system, dir string) (p Position, err error) {
	path := filepath.Join(dir, shippedFile)
	b, err := readFile(sys, path, maxSmallFile, false)
	if err != nil {
		return p, err
	}
	var hash []byte
	if _, err := fmt.Sscanf(string(b), shippedFormat, &p.Seq, &hash); err == nil {
		copy(p.Hash[:], hash)
	}
	if !bytes.Equal(shippedText(p), b) {
		return Position{}, damaged(path, -1, "it is not a mark of what was shipped")
	}
	return p, nil
}
