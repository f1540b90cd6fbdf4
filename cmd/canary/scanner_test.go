// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"
)

func scan(t *testing.T, content []byte, canaries ...*Canary) []Finding {
	t.Helper()
	s := NewScanner(canaries)
	if err := s.Read("test", bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return s.Findings
}

func TestFormsAreFound(t *testing.T) {
	c := New("door", "run").With("-")
	forms := map[string]string{
		"plain": c.Value(),
		"head":  c.Head,
		"tail":  c.Tail,
		"hex":   hex.EncodeToString([]byte(c.Value())),
		"HEX":   strings.ToUpper(hex.EncodeToString([]byte(c.Value()))),
		"bytes": strings.Trim(fmt.Sprint([]byte("1"+c.Value()+"2")), "[]"),
	}
	for name, order := range map[string]binary.AppendByteOrder{"UTF-16LE": binary.LittleEndian, "UTF-16BE": binary.BigEndian} {
		var b []byte
		for _, unit := range utf16.Encode([]rune(c.Value())) {
			b = order.AppendUint16(b, unit)
		}
		forms[name] = string(b)
	}
	for before := range 8 { // of pglz: a byte 0 and eight bytes that stand for themselves
		text := strings.Repeat("~", before) + c.Value() + strings.Repeat("~", 8)
		var b []byte
		for len(text) >= 8 {
			b = append(append(b, 0), text[:8]...)
			text = text[8:]
		}
		forms[fmt.Sprintf("pglz %d", before)] = string(b)
	}
	for shift := range 3 {
		padded := []byte(strings.Repeat("\xff", shift) + c.Value() + "\xfb\xff")
		forms[fmt.Sprintf("base64 %d", shift)] = base64.StdEncoding.EncodeToString(padded)
		forms[fmt.Sprintf("base64url %d", shift)] = base64.RawURLEncoding.EncodeToString(padded)
	}
	for name, form := range forms {
		want := 2
		if name == "head" || name == "tail" {
			want = 1
		}
		for shift := range maxStride {
			got := scan(t, []byte(strings.Repeat("x", shift)+"before "+form+" after"), c)
			if len(got) != want {
				t.Errorf("%s, %d further: got %d findings, want %d: %v", name, shift, len(got), want, got)
			}
			if strings.Contains(fmt.Sprint(got), c.Head[:4]) {
				t.Errorf("%s: %v shows the value", name, got)
			}
		}
	}
	other := New("other", "run").With("-")
	if got := scan(t, []byte("before "+other.Value()+" after"), c); len(got) != 0 {
		t.Errorf("another canary: got %v, want nothing", got)
	}
}

func TestSpellingIsFound(t *testing.T) {
	c := New("door", "run")
	c.Spelled(`\x41\x42\x43\x44`)
	if got := scan(t, []byte(`E'\x41\x42\x43\x44'`), c); len(got) != 1 || got[0].Form != "its door's own spelling" {
		t.Errorf("got %v, want the spelling", got)
	}
}

// TestChunkBoundary moves a canary over the end of the scanner's buffer.
func TestChunkBoundary(t *testing.T) {
	c := New("door", "run")
	for shift := -len(c.Value()) - 2; shift <= 2; shift++ {
		content := append(bytes.Repeat([]byte{'x'}, chunk+shift), c.Value()...)
		content = append(content, bytes.Repeat([]byte{'x'}, chunk)...)
		got := scan(t, content, c)
		if len(got) != 2 {
			t.Fatalf("at %d: got %v, want head and tail", chunk+shift, got)
		}
		if want := int64(chunk + shift); got[0].Offset != want {
			t.Errorf("offset: got %d, want %d", got[0].Offset, want)
		}
	}
}

func TestReaderOfSingleBytes(t *testing.T) {
	c := New("door", "run")
	s := NewScanner([]*Canary{c})
	if err := s.Read("test", iotest.OneByteReader(strings.NewReader("a"+c.Value()))); err != nil {
		t.Fatal(err)
	}
	if len(s.Findings) != 2 {
		t.Errorf("got %v, want head and tail", s.Findings)
	}
	if err := s.Read("test", iotest.ErrReader(os.ErrPermission)); err == nil {
		t.Error("a place that cannot be read passes as clean")
	}
}

func TestTree(t *testing.T) {
	c := New("door", "run")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", c.Tail), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "b"), []byte(c.Head), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewScanner([]*Canary{c})
	if err := s.Tree(dir); err != nil {
		t.Fatal(err)
	}
	if len(s.Findings) != 2 {
		t.Errorf("got %v, want the file's content and the directory's name", s.Findings)
	}
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "segment"), []byte(c.Tail), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"pg_wal", "pg_tblspc"} { // twice to the same place, and one back, and one to nowhere
		if err := os.Symlink(elsewhere, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(dir, filepath.Join(elsewhere, "back")), os.Symlink("/nowhere", filepath.Join(dir, "nowhere"))); err != nil {
		t.Fatal(err)
	}
	s = NewScanner([]*Canary{c})
	if err := s.Tree(dir); err != nil {
		t.Fatal(err)
	}
	if len(s.Findings) != 3 || s.Files != 2 {
		t.Errorf("with links: got %v in %d files, want what is behind the link once more", s.Findings, s.Files)
	}
	if err := s.Tree(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a directory that does not exist passes as clean")
	}
}
