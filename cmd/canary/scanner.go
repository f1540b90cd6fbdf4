// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
)

// A Scanner looks for canaries in whatever it is given and keeps what it finds.
// It is not safe for concurrent use.
type Scanner struct {
	needles []needle
	// Of each needle the windows that begin at its first stride bytes are known.
	// One of them begins wherever a multiple of stride falls into the needle: so
	// only these places of a text are looked at.
	stride  int
	windows map[uint32]int32 // the first sight of each window of four bytes
	sights  []sight
	filter  []uint64 // one bit for each hash of a window
	bits    int
	longest int
	buffer  []byte

	// Findings are what was found, the first one of each needle and place.
	Findings []Finding
	// Files and Bytes count what was looked through: nothing found in nothing
	// says nothing.
	Files, Bytes int64
}

// A sight is a place in a needle that has a window.
type sight struct{ needle, at, next int32 }

// A Finding is a canary where it must not be. None of its texts shows the value.
type Finding struct {
	Canary *Canary
	// Place is a file's path, or the name that Read was given.
	Place string
	// Form says what was seen: a part of the value, or an encoding of it.
	Form string
	// Offset counts bytes from the place's beginning.
	Offset int64
}

// String is a line about it.
func (f Finding) String() string {
	return fmt.Sprintf("%s: at byte %d: %s of the value of door %q", f.Place, f.Offset, f.Form, f.Canary.Door)
}

const (
	window    = 4
	maxStride = 16
	chunk     = 1 << 20
)

// NewScanner looks for all forms of the canaries.
func NewScanner(canaries []*Canary) *Scanner {
	s := &Scanner{windows: map[uint32]int32{}, stride: maxStride}
	for _, c := range canaries {
		s.needles = append(s.needles, c.needles()...)
	}
	for _, n := range s.needles {
		s.longest = max(s.longest, len(n.text))
		s.stride = min(s.stride, len(n.text)-window+1)
	}
	s.bits = bits.Len(uint(len(s.needles)*s.stride)) + 5
	s.filter = make([]uint64, max(1, 1<<s.bits/64))
	for i, n := range s.needles {
		for at := range s.stride {
			w := binary.LittleEndian.Uint32(n.text[at:])
			next, known := s.windows[w]
			if !known {
				next = -1
			}
			s.windows[w] = int32(len(s.sights)) //nolint:gosec // millions at most
			s.sights = append(s.sights, sight{int32(i), int32(at), next})
			h := s.hash(w)
			s.filter[h/64] |= 1 << (h % 64)
		}
	}
	return s
}

func (s *Scanner) hash(w uint32) uint32 { return w * 2654435761 >> (32 - s.bits) }

// Read looks through r, which findings call place.
func (s *Scanner) Read(place string, r io.Reader) error {
	s.Files++
	seen := map[int32]bool{}
	if s.buffer == nil {
		s.buffer = make([]byte, chunk+s.longest)
	}
	buf := s.buffer[:0]
	var base int64 // offset of buf[0]
	for {
		n, err := io.ReadFull(r, buf[len(buf):len(buf)+chunk])
		s.Bytes += int64(n)
		buf = buf[:len(buf)+n]
		s.look(place, buf, base, seen)
		// What a needle may begin with stays for the next turn.
		keep := min(len(buf), max(0, s.longest-1))
		base += int64(len(buf) - keep)
		buf = append(buf[:0], buf[len(buf)-keep:]...)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", place, err)
		}
	}
}

func (s *Scanner) look(place string, buf []byte, base int64, seen map[int32]bool) {
	for i := 0; i+window <= len(buf); i += s.stride {
		w := binary.LittleEndian.Uint32(buf[i:])
		if h := s.hash(w); s.filter[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		next, known := s.windows[w]
		for known && next >= 0 {
			at := s.sights[next]
			next = at.next
			begin := i - int(at.at)
			n := &s.needles[at.needle]
			if begin >= 0 && !seen[at.needle] && bytes.HasPrefix(buf[begin:], n.text) {
				seen[at.needle] = true
				s.Findings = append(s.Findings, Finding{n.canary, place, n.name, base + int64(begin)})
			}
		}
	}
}

// Text looks through a text.
func (s *Scanner) Text(place, text string) {
	_ = s.Read(place, bytes.NewReader([]byte(text))) // a reader over memory does not fail
}

// Name looks through the name of a file.
func (s *Scanner) Name(path string) {
	s.look("name of "+path, []byte(path), 0, map[int32]bool{})
}

// Tree looks through every file below dir, names included, and follows links. A file
// that goes away meanwhile is no error: a living server removes some.
func (s *Scanner) Tree(dir string) error {
	return Walk(dir, func(path string, d fs.FileInfo) error {
		s.Name(path)
		if !d.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read from
		return s.Read(path, f)
	})
}
