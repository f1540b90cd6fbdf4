// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A Scanner looks for canaries in whatever it is given and keeps what it finds.
// It is not safe for concurrent use.
type Scanner struct {
	needles  []needle
	byPrefix map[uint32][]int // by their first four bytes
	filter   []uint64         // one bit for each hash of four bytes that a needle begins with
	longest  int
	buffer   []byte

	// Findings are what was found, the first one of each needle and place.
	Findings []Finding
	// Files and Bytes count what was looked through: nothing found in nothing
	// says nothing.
	Files, Bytes int64
}

type needle struct {
	canary *Canary
	text   []byte
}

// A Finding is a canary where it must not be.
type Finding struct {
	Canary *Canary
	// Place is a file's path, or the name that Read was given.
	Place string
	// Form is what was seen: a part of the value, or an encoding of it.
	Form string
	// Offset counts bytes from the place's beginning.
	Offset int64
}

// String never shows more than what was found; the value is a canary's.
func (f Finding) String() string {
	return fmt.Sprintf("%s: at byte %d: %q (door %q)", f.Place, f.Offset, f.Form, f.Canary.Door)
}

const (
	filterBits = 18
	chunk      = 1 << 20
)

// NewScanner looks for all forms of the canaries.
func NewScanner(canaries []*Canary) *Scanner {
	s := &Scanner{byPrefix: map[uint32][]int{}, filter: make([]uint64, 1<<filterBits/64)}
	for _, c := range canaries {
		for _, text := range c.needles() {
			prefix := binary.LittleEndian.Uint32(text)
			s.byPrefix[prefix] = append(s.byPrefix[prefix], len(s.needles))
			h := hash(prefix)
			s.filter[h/64] |= 1 << (h % 64)
			s.needles = append(s.needles, needle{c, text})
			s.longest = max(s.longest, len(text))
		}
	}
	return s
}

func hash(prefix uint32) uint32 { return prefix * 2654435761 >> (32 - filterBits) }

// Read looks through r, which findings call place.
func (s *Scanner) Read(place string, r io.Reader) error {
	s.Files++
	seen := map[int]bool{}
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
		keep := min(len(buf), s.longest-1)
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

func (s *Scanner) look(place string, buf []byte, base int64, seen map[int]bool) {
	if len(buf) < 4 {
		return
	}
	window := binary.LittleEndian.Uint32(buf)
	for i := 0; ; i++ {
		h := hash(window)
		if s.filter[h/64]&(1<<(h%64)) != 0 {
			for _, n := range s.byPrefix[window] {
				if !seen[n] && bytes.HasPrefix(buf[i:], s.needles[n].text) {
					seen[n] = true
					s.Findings = append(s.Findings, Finding{s.needles[n].canary, place, string(s.needles[n].text), base + int64(i)})
				}
			}
		}
		if i+4 >= len(buf) {
			return
		}
		window = window>>8 | uint32(buf[i+4])<<24
	}
}

// Text looks through a text.
func (s *Scanner) Text(place, text string) {
	_ = s.Read(place, bytes.NewReader([]byte(text))) // a reader over memory does not fail
}

// Tree looks through every regular file below dir, names included. A file that
// goes away meanwhile is no error: a living server removes some.
func (s *Scanner) Tree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		if err != nil {
			return err
		}
		s.look("name of "+path, []byte(path), 0, map[int]bool{})
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path) //nolint:gosec // the caller chooses what is looked through
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
