// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

func TestCheckName(t *testing.T) {
	const (
		length  = "it must have 1 to 255 bytes"
		char    = "only A-Z a-z 0-9 . _ / @ + - are allowed"
		slash   = "it may not start or end with /"
		segment = "no part between slashes may be empty, a dot or two dots"
		verb    = "the last part may not be rotate, verify or versions"
	)
	for name, want := range map[string]string{
		"a": "", "app/db/password": "", "A-Z_0.9@x+y": "", "...": "", ".a/..b/c.": "", strings.Repeat("n", 255): "",
		"rotate/a": "", "versions/verify/x": "", "rotated": "", "Rotate": "",
		"": length, strings.Repeat("n", 256): length,
		"a b": char, "a\x00": char, "caf\u00e9": char, "a%2f": char, "\xff\xfe": char, "a\n": char, "a~": char,
		"/": slash, "/a": slash, "a/": slash,
		"a//b": segment, ".": segment, "..": segment, "a/./b": segment, "../a": segment, "a/..": segment,
		"rotate": verb, "a/verify": verb, "a/b/versions": verb,
	} {
		err := envelope.CheckName(name)
		if want == "" {
			if err != nil {
				t.Errorf("%q: got %v, want none", name, err)
			}
			continue
		}
		if !errors.Is(err, envelope.ErrName) || err.Error() != "invalid secret name: "+want {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = envelope.CheckName("app/db/password") }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
