// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
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
		if got := scan(t, []byte("before "+form+" after"), c); len(got) != want {
			t.Errorf("%s: got %d findings, want %d: %v", name, len(got), want, got)
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
	if got := scan(t, []byte(`E'\x41\x42\x43\x44'`), c); len(got) != 1 || got[0].Form != `\x41\x42\x43\x44` {
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
	if err := s.Tree(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a directory that does not exist passes as clean")
	}
}
