// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// FuzzParseRecord: what is accepted has one spelling and takes no more memory
// than its text; all else is ErrMalformed. A mutation seldom leaves base64 whole,
// so the input is also taken as the binary form.
func FuzzParseRecord(f *testing.F) {
	for _, v := range readVectors(f) {
		text := v.text(f)
		if len(text) > 16<<10 {
			continue
		}
		f.Add(text, false)
		if b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(string(text), "hv1.")); err == nil {
			f.Add(b, true)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, binary bool) {
		if binary {
			text = []byte(refText(text))
		}
		fuzzParse(t, text)
	})
}

func fuzzParse(t *testing.T, text []byte) {
	t.Helper()
	kept := bytes.Clone(text)
	r, err := envelope.ParseRecord(text)
	if !bytes.Equal(text, kept) {
		t.Fatal("the text was written to")
	}
	if err != nil {
		if !errors.Is(err, envelope.ErrMalformed) {
			t.Fatalf("got %v, want ErrMalformed", err)
		}
		return
	}
	again, err := r.AppendText(nil)
	if err != nil || !bytes.Equal(again, text) {
		t.Fatalf("got another text back (%v)", err)
	}
	held := len(r.Name) + len(r.KeyID) + cap(r.WrappedDEK) + cap(r.Nonce) + cap(r.Ciphertext)
	if held > len(text) {
		t.Fatalf("%d bytes held for a text of %d", held, len(text))
	}
	if err := envelope.CheckName(r.Name); err != nil {
		t.Fatal(err)
	}
}

// FuzzName: a name is accepted by the rule as the documents put it, and an error
// never repeats it.
func FuzzName(f *testing.F) {
	for _, s := range []string{"app/db/password", "a", "", "/", "a//b", "a/../b", "a/rotate", "rotate/a", "caf\u00e9", strings.Repeat("n", 256), "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := envelope.CheckName(name)
		if got, want := err == nil, plainName(name); got != want {
			t.Fatalf("got %v for %q, want accepted: %v", err, name, want)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, envelope.ErrName) || !utf8.ValidString(err.Error()) {
			t.Fatalf("got %v, want ErrName", err)
		}
	})
}

// plainName is the rule of a name, written the slow way.
func plainName(name string) bool {
	const set = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/@+-"
	if len(name) < 1 || len(name) > 255 || strings.Trim(name, set) != "" {
		return false
	}
	for _, c := range []byte(name) {
		if !strings.Contains(set, string(rune(c))) {
			return false
		}
	}
	parts := strings.Split(name, "/")
	for _, p := range parts {
		if p == "" || p == "." || p == ".." {
			return false
		}
	}
	last := parts[len(parts)-1]
	return last != "rotate" && last != "verify" && last != "versions"
}

// TestMalformedAllocates: a text that claims much gets little.
func TestMalformedAllocates(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.get("expect") != "malformed" {
			continue
		}
		text := v.text(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 16 {
			if _, err := envelope.ParseRecord(text); err == nil {
				t.Errorf("%s: no error", v.name)
			}
		}
		runtime.ReadMemStats(&after)
		if got, most := (after.TotalAlloc-before.TotalAlloc)/16, uint64(len(text)+8192); got > most {
			t.Errorf("%s: %d bytes allocated for a text of %d", v.name, got, len(text))
		}
	}
	long := bytes.Repeat([]byte("A"), 64<<20)
	copy(long, "hv1.")
	if n := testing.AllocsPerRun(10, func() { _, _ = envelope.ParseRecord(long) }); n > 1 {
		t.Errorf("an over-long text: %v allocations, want the error only", n)
	}
}
