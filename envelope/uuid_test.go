// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

func TestUUID(t *testing.T) {
	const want = "00112233-4455-6677-8899-aabbccddeeff"
	for _, s := range []string{want, strings.ToUpper(want)} {
		u, err := envelope.ParseUUID(s)
		if err != nil || u.String() != want || u[0] != 0 || u[15] != 0xff {
			t.Errorf("%s: got %v, %v", s, u, err)
		}
	}
	for _, s := range []string{
		"", want[1:], want + "0", "{" + want + "}", "urn:uuid:" + want, strings.ReplaceAll(want, "-", ""),
		strings.Replace(want, "0", "g", 1), strings.Replace(want, "-", "0", 1), "0011223344556677-8899-aabbccddeeff----",
		want[:35] + "-", want[:35] + "\x00", "-0112233-4455-6677-8899-aabbccddeeff",
	} {
		if u, err := envelope.ParseUUID(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, u)
		} else if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%q: the error repeats it", s)
		}
	}
	a, b := envelope.NewUUID(), envelope.NewUUID()
	if a == b || a[6]>>4 != 4 || a[8]>>6 != 2 {
		t.Errorf("got %v and %v, want two of version 4", a, b)
	}
}
