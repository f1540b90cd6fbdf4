// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// What room is made for is what is written: an answer is never moved, and takes no
// more than it needs.
func TestEscapedLen(t *testing.T) {
	for c := range 128 {
		text := strings.Repeat(string(rune(c)), 9) + "é\U0001F600"
		want := len(vault.AppendJSON(nil, []byte(text))) - 2
		got := 0
		for i := range len(text) {
			got += escapedLen(text[i])
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", rune(c), got, want)
		}
	}
}
