// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// BenchmarkOpen opens with a cached key.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{32, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			kms := newLocal(b, 1)
			s := newSealer(b, kms, kms.KeyID(), nil)
			r := seal(b, s, "app/db/password", bytes.Repeat([]byte("v"), size))
			dst := make([]byte, 0, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := s.Open(b.Context(), r, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	kms := newLocal(b, 1)
	s := newSealer(b, kms, kms.KeyID(), nil)
	text, err := seal(b, s, "app/db/password", make([]byte, 32)).AppendText(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ParseRecord", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := envelope.ParseRecord(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Parse", func(b *testing.B) {
		var r envelope.Record
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			if buf, err = r.Parse(text, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
