// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// A second, plain implementation of docs/ENVELOPE.md. It shares no code with the
// package, writes what it is told to, right or wrong, and makes the vectors.

// lp is the length-prefixed encoding of its arguments.
func lp(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// seed makes n test bytes from a label.
func seed(label string, n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		h := sha256.Sum256([]byte(label + " " + string(rune('0'+i))))
		b = append(b, h[:]...)
	}
	return b[:n]
}

func refHKDF(tb testing.TB, ikm []byte, salt, info string, n int) []byte {
	tb.Helper()
	out, err := hkdf.Key(sha256.New, ikm, []byte(salt), info, n)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func refXSeal(tb testing.TB, key, nonce, plain, aad []byte) []byte {
	tb.Helper()
	a, err := chacha20poly1305.NewX(key)
	if err != nil {
		tb.Fatal(err)
	}
	return a.Seal(nil, nonce, plain, aad)
}

func refKeyID(tb testing.TB, master []byte) string {
	tb.Helper()
	return "local:" + hex.EncodeToString(refHKDF(tb, master, "hyperion-vault/local-kms/1", "key id", 16))
}

func refUUID(u []byte) string {
	h := hex.EncodeToString(u)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func refContext(vault []byte, name string) []byte {
	return lp([]byte("hv/ctx/1"), []byte("secret"), []byte(name), []byte("vault"), []byte(refUUID(vault)))
}

func refWrap(tb testing.TB, master, nonce, dek, context []byte) []byte {
	tb.Helper()
	key := refHKDF(tb, master, "hyperion-vault/local-kms/1", "wrap", 32)
	return append(append([]byte(nil), nonce...), refXSeal(tb, key, nonce, dek, lp([]byte("hv/local-wrap/1"), context))...)
}

// refRecord is the eleven fields of a record, each as its bytes.
type refRecord struct {
	format, vault, secret, version, name, value, keyID, wrapped, nonce, ciphertext, cidrs []byte
}

func (r *refRecord) fields() []*[]byte {
	return []*[]byte{
		&r.format, &r.vault, &r.secret, &r.version, &r.name, &r.value,
		&r.keyID, &r.wrapped, &r.nonce, &r.ciphertext, &r.cidrs,
	}
}

func (r refRecord) binary() []byte {
	var all [][]byte
	for _, f := range r.fields() {
		all = append(all, *f)
	}
	return lp(all...)
}

func refText(b []byte) string { return "hv1." + base64.RawURLEncoding.EncodeToString(b) }

// refSealing is all that goes into a record, and what comes of it on the way.
type refSealing struct {
	master, dek, nonce, plain                   []byte
	record                                      refRecord // all but wrapped, ciphertext given
	context, encryption, commitment, aad, cache []byte
}

// seal fills in what is derived.
func (s *refSealing) seal(tb testing.TB) {
	tb.Helper()
	r := &s.record
	s.context = refContext(r.vault, string(r.name))
	if r.wrapped == nil {
		r.wrapped = refWrap(tb, s.master, seed("wrap "+string(s.dek), 24), s.dek, s.context)
	}
	okm := refHKDF(tb, s.dek, "hyperion-vault/envelope/1", "\x01\x01", 64)
	s.encryption, s.commitment = okm[:32], okm[32:]
	s.aad = lp([]byte("hv/aad/1"), r.format, []byte{1}, r.vault, r.secret, r.version, r.name, r.value, s.commitment)
	r.nonce = s.nonce
	r.ciphertext = append(append([]byte(nil), s.commitment...), refXSeal(tb, s.encryption, s.nonce, s.plain, s.aad)...)
	h := sha256.Sum256(lp([]byte("hv/cache/1"), r.keyID, s.context, r.wrapped))
	s.cache = h[:]
}

// refSample is a sealing that the vectors vary.
func refSample(tb testing.TB, label string) *refSealing {
	tb.Helper()
	master := seed("master", 32)
	return &refSealing{
		master: master, dek: seed("dek "+label, 32), nonce: seed("nonce "+label, 24), plain: []byte("s3cr3t, not in any log"),
		record: refRecord{
			format: []byte{1}, vault: seed("vault", 16), secret: seed("secret "+label, 16), version: be32(7),
			name: []byte("app/db/password"), value: []byte{1}, keyID: []byte(refKeyID(tb, master)),
		},
	}
}
