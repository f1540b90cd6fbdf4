// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{nil, "\x00\x00\x00\x01d"},
		{[]string{""}, "\x00\x00\x00\x01d\x00\x00\x00\x00"},
		{[]string{"ab", "c"}, "\x00\x00\x00\x01d\x00\x00\x00\x02ab\x00\x00\x00\x01c"},
		{[]string{"a", "bc"}, "\x00\x00\x00\x01d\x00\x00\x00\x01a\x00\x00\x00\x02bc"},
	} {
		var fields [][]byte
		for _, f := range c.fields {
			fields = append(fields, []byte(f))
		}
		if got := string(envelope.Encode("d", fields...)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.fields, got, c.want)
		}
	}
}
