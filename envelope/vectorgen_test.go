// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// makeVectors makes every vector from scratch, always the same.
func makeVectors(tb testing.TB) []*vector {
	tb.Helper()
	vs := goodVectors(tb)
	vs = append(vs, tamperedVectors(tb)...)
	vs = append(vs, textVectors(tb)...)
	vs = append(vs, lengthVectors(tb)...)
	return append(vs, contentVectors(tb)...)
}

// writeVectors replaces the files by vs.
func writeVectors(tb testing.TB, vs []*vector) {
	tb.Helper()
	if err := os.RemoveAll(vectorDir); err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll(vectorDir, 0o755); err != nil {
		tb.Fatal(err)
	}
	for _, v := range vs {
		if err := os.WriteFile(filepath.Join(vectorDir, v.name+".txt"), v.file(), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

// node adds what a node must be configured with to try the payload.
func (v *vector) node(tb testing.TB, s *refSealing) {
	tb.Helper()
	v.add("vault", refUUID(seed("vault", 16)))
	v.add("key-id", refKeyID(tb, s.master))
	v.addHex("master", s.master)
}

func goodVectors(tb testing.TB) (vs []*vector) {
	tb.Helper()
	good := func(name, comment string, edit func(s *refSealing), cidrs ...string) {
		s := refSample(tb, name)
		for _, c := range cidrs {
			s.record.cidrs = append(s.record.cidrs, refCIDR(netip.MustParsePrefix(c))...)
		}
		if edit != nil {
			edit(s)
		}
		s.seal(tb)
		vs = append(vs, goodVector(tb, name, comment, s, cidrs))
	}
	good("ok-text", "a text value", nil)
	good("ok-bytes", "a binary value", func(s *refSealing) {
		s.record.value, s.plain = []byte{2}, []byte{0, 0xff, 0x80, '\n', 0}
	})
	good("ok-userpass", "a user name with a password", func(s *refSealing) {
		s.record.value, s.plain = []byte{3}, []byte(`{"username":"app","password":"s3cr3t"}`)
	})
	good("ok-cidrs", "networks of both families, in the order given", nil,
		"10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32", "0.0.0.0/0", "::/0", "::1/128")
	good("ok-cidrs-mapped", "a v4-mapped network stays family 6", nil, "::ffff:192.0.2.0/120")
	var many []string
	for i := range 64 {
		many = append(many, fmt.Sprintf("2001:db8:%x::/48", i))
	}
	good("ok-cidrs-64", "as many networks as there may be", nil, many...)
	good("ok-min", "the shortest of everything, the highest version", func(s *refSealing) {
		s.record.name, s.plain, s.record.version = []byte("a"), []byte("v"), be32(1<<31-1)
	})
	good("ok-version-1", "the first version", func(s *refSealing) { s.record.version = be32(1) })
	good("ok-name-255", "the longest name", func(s *refSealing) { s.record.name = bytes.Repeat([]byte("n"), 255) })
	good("ok-name-characters", "every character that a name may have", func(s *refSealing) {
		s.record.name = []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ/abcdefghijklmnopqrstuvwxyz/0123456789._@+-/.../rotate/x")
	})
	good("ok-value-524288", "the longest value", func(s *refSealing) { s.plain = bytes.Repeat([]byte("v"), 512<<10) })
	good("ok-key-id-2048", "the longest key id and wrapped key, which only the text can show", func(s *refSealing) {
		s.record.keyID = bytes.Repeat([]byte("k"), 2048)
		s.record.wrapped = bytes.Repeat([]byte{0xee}, 6144)
	})
	return vs
}

func goodVector(tb testing.TB, name, comment string, s *refSealing, cidrs []string) *vector {
	tb.Helper()
	r := &s.record
	v := &vector{name: name, payload: refText(r.binary())}
	v.add("comment", comment)
	v.add("expect", "ok")
	v.node(tb, s)
	if v.get("key-id") != string(r.keyID) {
		v.header[1][1] = "parse" // no KMS of ours has that key
		v.add("record-key-id", string(r.keyID))
	}
	v.add("secret-id", refUUID(r.secret))
	v.add("version", fmt.Sprint(binary.BigEndian.Uint32(r.version)))
	v.add("name", string(r.name))
	v.add("format", []string{1: "text", 2: "bytes", 3: "userpass"}[r.value[0]])
	v.addHex("dek", s.dek)
	v.addHex("nonce", s.nonce)
	for _, c := range cidrs {
		v.add("cidr", c)
	}
	v.addHex("context", s.context)
	v.addHex("wrapped-dek", r.wrapped)
	v.addHex("encryption-key", s.encryption)
	v.addHex("commitment", s.commitment)
	v.addHex("aad", s.aad)
	v.addHex("cache-key", s.cache)
	h := sha256.Sum256([]byte(v.payload))
	v.addHex("text-sha256", h[:])
	if len(s.plain) > 1024 { // described instead of shown
		v.add("value-repeat", fmt.Sprintf("%s %d", hex.EncodeToString(s.plain[:1]), len(s.plain)))
		v.payload = ""
	} else {
		v.addHex("value", s.plain)
	}
	return v
}

func refCIDR(p netip.Prefix) []byte {
	family := byte(6)
	if p.Addr().Is4() {
		family = 4
	}
	return append([]byte{family, byte(p.Bits())}, p.Addr().AsSlice()...)
}

// tamperedVectors are well-formed records that must not open.
func tamperedVectors(tb testing.TB) (vs []*vector) {
	tb.Helper()
	bad := func(name, comment string, before, after func(s *refSealing)) {
		s := refSample(tb, name)
		if before != nil {
			before(s)
		}
		s.seal(tb)
		if after != nil {
			after(s)
		}
		v := &vector{name: "tampered-" + name, payload: refText(s.record.binary())}
		v.add("comment", comment)
		v.add("expect", "tampered")
		v.node(tb, s)
		vs = append(vs, v)
	}
	flip := func(b []byte, i int) { b[(i+len(b))%len(b)] ^= 1 }
	other := func() *refSealing { o := refSample(tb, "other"); o.seal(tb); return o }

	bad("name", "sealed for another name, whose context does not unwrap", nil, func(s *refSealing) { s.record.name = []byte("app/db/passwore") })
	bad("name-same-key", "another name in the AAD, though the wrapped key is under the right context", nil, func(s *refSealing) {
		s.record.name = []byte("app/other")
		s.record.wrapped = refWrap(tb, s.master, seed("rewrap", 24), s.dek, refContext(s.record.vault, "app/other"))
	})
	bad("version", "an old value under a newer version", nil, func(s *refSealing) { s.record.version = be32(8) })
	bad("secret-id", "a secret deleted and made anew", nil, func(s *refSealing) { flip(s.record.secret, 0) })
	bad("vault-id", "another vault's", nil, func(s *refSealing) { flip(s.record.vault, 0) })
	bad("vault-id-resealed", "whole and right, but another vault's", func(s *refSealing) { s.record.vault = seed("vault 2", 16) }, nil)
	bad("value-format", "text shown as bytes", nil, func(s *refSealing) { s.record.value = []byte{2} })
	bad("nonce", "a bit of the nonce", nil, func(s *refSealing) { flip(s.record.nonce, 23) })
	bad("commitment", "a bit of the commitment", nil, func(s *refSealing) { flip(s.record.ciphertext, 0) })
	bad("commitment-other", "another data key's commitment", nil, func(s *refSealing) { copy(s.record.ciphertext, other().commitment) })
	bad("ciphertext", "a bit of the ciphertext", nil, func(s *refSealing) { flip(s.record.ciphertext, 32) })
	bad("tag", "a bit of the tag", nil, func(s *refSealing) { flip(s.record.ciphertext, -1) })
	bad("ciphertext-shorter", "the last byte cut off", nil, func(s *refSealing) {
		s.record.ciphertext = s.record.ciphertext[:len(s.record.ciphertext)-1]
	})
	bad("ciphertext-longer", "a byte added", nil, func(s *refSealing) { s.record.ciphertext = append(s.record.ciphertext, 0) })
	bad("ciphertext-other", "another record's ciphertext and nonce", nil, func(s *refSealing) {
		s.record.ciphertext, s.record.nonce = other().record.ciphertext, other().record.nonce
	})
	bad("wrapped-dek", "a bit of the wrapped key", nil, func(s *refSealing) { flip(s.record.wrapped, -1) })
	bad("wrapped-dek-nonce", "a bit of the wrapped key's nonce", nil, func(s *refSealing) { flip(s.record.wrapped, 0) })
	bad("wrapped-dek-shorter", "the wrapped key cut off", nil, func(s *refSealing) { s.record.wrapped = s.record.wrapped[:71] })
	bad("wrapped-dek-tiny", "a wrapped key of one byte", nil, func(s *refSealing) { s.record.wrapped = []byte{0} })
	bad("wrapped-dek-other", "another record's wrapped key", nil, func(s *refSealing) { s.record.wrapped = other().record.wrapped })
	bad("wrapped-dek-context", "the data key wrapped under another secret's context", func(s *refSealing) {
		s.record.wrapped = refWrap(tb, s.master, seed("wrap", 24), s.dek, refContext(s.record.vault, "app/other"))
	}, nil)
	bad("key-id", "another key's id on this key's record", nil, func(s *refSealing) {
		s.record.keyID = []byte("local:00000000000000000000000000000000")
	})
	bad("key-id-resealed", "whole and right, but under a key that is not configured", func(s *refSealing) {
		m := seed("master 2", 32)
		s.record.keyID = []byte(refKeyID(tb, m))
		s.record.wrapped = refWrap(tb, m, seed("wrap", 24), s.dek, refContext(s.record.vault, string(s.record.name)))
	}, nil)
	reaad := func(s *refSealing, aad []byte) {
		s.record.ciphertext = append(s.record.ciphertext[:32:32], refXSeal(tb, s.encryption, s.nonce, s.plain, aad)...)
	}
	bad("aad-algorithm", "sealed for algorithm 2", nil, func(s *refSealing) {
		r := &s.record
		reaad(s, lp([]byte("hv/aad/1"), r.format, []byte{2}, r.vault, r.secret, r.version, r.name, r.value, s.commitment))
	})
	bad("aad-no-commitment", "the AAD has no commitment", nil, func(s *refSealing) {
		r := &s.record
		reaad(s, lp([]byte("hv/aad/1"), r.format, []byte{1}, r.vault, r.secret, r.version, r.name, r.value))
	})
	bad("aad-domain", "the AAD has another domain", nil, func(s *refSealing) {
		r := &s.record
		reaad(s, lp([]byte("hv/aad/2"), r.format, []byte{1}, r.vault, r.secret, r.version, r.name, r.value, s.commitment))
	})
	bad("dek-as-key", "encrypted under the data key itself", nil, func(s *refSealing) { s.encryption = s.dek; reaad(s, s.aad) })
	return vs
}

// malformed makes a vector of a text that is no record.
func malformed(tb testing.TB, name, comment, fault, field, text string) *vector {
	tb.Helper()
	v := &vector{name: "malformed-" + name, payload: text}
	v.add("comment", comment)
	v.add("expect", "malformed")
	v.add("fault", fault)
	v.add("field", field)
	v.node(tb, refSample(tb, name))
	return v
}

// textVectors are damaged as texts.
func textVectors(tb testing.TB) (vs []*vector) {
	tb.Helper()
	s := refSample(tb, "text")
	s.plain = []byte("12") // so that the last digit has bits to spare
	s.seal(tb)
	b := s.record.binary()
	text := refText(b)
	if len(text)%4 != 2 && len(text)%4 != 3 {
		tb.Fatalf("text of %d bytes has no spare bits", len(text))
	}
	bad := func(name, comment, fault, text string) {
		vs = append(vs, malformed(tb, name, comment, fault, "record", text))
	}
	const prefix, b64 = "does not begin with hv1.", "not strict base64url"
	bad("empty", "no text", prefix, "")
	bad("prefix-cut", "only part of the prefix", prefix, "hv1")
	bad("prefix-missing", "no prefix", prefix, text[4:])
	bad("prefix-case", "the prefix in capitals", prefix, "HV1."+text[4:])
	bad("prefix-version", "an unknown version of the text", prefix, "hv2."+text[4:])
	bad("prefix-space", "a space in front", prefix, " "+text)
	bad("too-long", "more than 737280 bytes", "too long", text)
	vs[len(vs)-1].header = append(vs[len(vs)-1].header, [2]string{"payload-pad", fmt.Sprintf("41 %d", 720<<10+1-len(text))})
	at := strings.IndexAny(text[4:], "-_") + 4
	if at < 4 {
		tb.Fatal("text has neither - nor _")
	}
	bad("base64-alphabet", "a digit of the other base64 alphabet", b64, text[:at]+map[byte]string{'-': "+", '_': "/"}[text[at]]+text[at+1:])
	bad("base64-padding", "padded", b64, text+strings.Repeat("=", 4-(len(text)-4)%4))
	bad("base64-lf", "a line feed inside", b64, text[:40]+"\n"+text[40:])
	bad("base64-cr", "a carriage return inside", b64, text[:40]+"\r"+text[40:])
	bad("base64-crlf-end", "a line break at the end", b64, text+"\r\n")
	bad("base64-space-end", "a space at the end", b64, text+" ")
	bad("base64-nul", "a zero byte at the end", b64, text+"\x00")
	bad("base64-length", "a length that no base64 has", b64, text+strings.Repeat("A", (5-(len(text)-4)%4)%4))
	bad("base64-stray-bits", "another last digit, for the same bytes", b64, text[:len(text)-1]+string(nextDigit(text[len(text)-1])))
	bad("trailing-byte", "a byte behind the last field", "bytes after the last field", refText(append(bytes.Clone(b), 0)))
	bad("trailing-field", "a field behind the last field", "bytes after the last field", refText(append(bytes.Clone(b), 0, 0, 0, 0)))
	return vs
}

func nextDigit(d byte) byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return digits[strings.IndexByte(digits, d)+1]
}

var refFieldNames = []string{
	"format", "vault id", "secret id", "version", "name", "value format",
	"kms key id", "wrapped dek", "nonce", "ciphertext", "allowed cidrs",
}

// lengthVectors cut off in every field, and give every field a length that is
// just out of its bounds.
func lengthVectors(tb testing.TB) (vs []*vector) {
	tb.Helper()
	least := []int{1, 16, 16, 4, 1, 1, 1, 1, 24, 49, 0}
	most := []int{1, 16, 16, 4, 255, 1, 2048, 6144, 24, 32 + 512<<10 + 16, 64 * 18}
	s := refSample(tb, "length")
	s.record.cidrs = refCIDR(netip.MustParsePrefix("10.0.0.0/8"))
	s.seal(tb)
	at := 0
	for i, f := range s.record.fields() {
		field, slug := refFieldNames[i], strings.ReplaceAll(refFieldNames[i], " ", "-")
		whole := s.record.binary()
		bad := func(name, comment, fault string, b []byte) {
			vs = append(vs, malformed(tb, name+"-"+slug, comment, fault, field, refText(b)))
		}
		bad("truncated", "the last byte of this field and all behind it is missing", "truncated", whole[:at+4+len(*f)-1])
		bad("truncated-length", "the length of this field is cut off", "truncated", whole[:at+3])
		if least[i] > 0 {
			bad("short", "this field is a byte too short", "length out of bounds",
				append(append(whole[:at:at], lp((*f)[:least[i]-1])...), whole[at+4+len(*f):]...))
		}
		bad("long", "this field claims a byte too many; the bound holds before the bytes are looked for", "length out of bounds",
			append(append(whole[:at:at], be32(uint32(most[i]+1))...), *f...))
		bad("huge", "this field claims 4 GiB", "length out of bounds", append(append(whole[:at:at], be32(1<<32-1)...), *f...))
		at += 4 + len(*f)
	}
	return vs
}

// contentVectors have fields of the right length with content that is not allowed.
func contentVectors(tb testing.TB) (vs []*vector) {
	tb.Helper()
	bad := func(name, comment, field string, edit func(r *refRecord)) {
		s := refSample(tb, name)
		s.seal(tb)
		edit(&s.record)
		vs = append(vs, malformed(tb, name, comment, "value not allowed", field, refText(s.record.binary())))
	}
	bad("format-0", "no format", "format", func(r *refRecord) { r.format = []byte{0} })
	bad("format-2", "an unknown format", "format", func(r *refRecord) { r.format = []byte{2} })
	bad("version-0", "versions begin with 1", "version", func(r *refRecord) { r.version = be32(0) })
	bad("version-negative", "more than PostgreSQL's integer", "version", func(r *refRecord) { r.version = be32(1 << 31) })
	bad("value-format-0", "no value format", "value format", func(r *refRecord) { r.value = []byte{0} })
	bad("value-format-4", "an unknown value format", "value format", func(r *refRecord) { r.value = []byte{4} })
	for slug, name := range map[string]string{
		"space": "a b", "nul": "a\x00b", "utf-8": "caf\u00e9", "percent": "a%2fb", "backslash": `a\b`,
		"slash-first": "/a", "slash-last": "a/", "slash-only": "/", "segment-empty": "a//b", "segment-dot": "a/./b", "segment-dotdot": "a/../b",
		"dot": ".", "dotdot": "..", "rotate": "a/rotate", "verify": "verify", "versions": "a/versions",
	} {
		bad("name-"+slug, "a name that is not allowed", "name", func(r *refRecord) { r.name = []byte(name) })
	}
	bad("key-id-space", "a space in the key id", "kms key id", func(r *refRecord) { r.keyID = []byte("local: 1") })
	bad("key-id-control", "a control character in the key id", "kms key id", func(r *refRecord) { r.keyID = []byte("local:\x1b[2J") })
	bad("key-id-utf-8", "a byte outside ASCII in the key id", "kms key id", func(r *refRecord) { r.keyID = []byte("cl\u00e9") })
	v4 := []byte{4, 8, 10, 0, 0, 0}
	for slug, b := range map[string][]byte{
		"host-bits-4":  {4, 8, 10, 0, 0, 1},
		"host-bits-6":  append([]byte{6, 32, 0x20, 1, 0xd, 0xb8}, append(make([]byte, 11), 1)...),
		"bits-33":      {4, 33, 10, 0, 0, 0},
		"bits-129":     append([]byte{6, 129}, make([]byte, 16)...),
		"family-0":     {0, 8, 10, 0, 0, 0},
		"family-5":     append([]byte{5, 8}, make([]byte, 16)...),
		"cut-family":   append(bytes.Clone(v4), 4),
		"cut-bits":     append(bytes.Clone(v4), 4, 8),
		"cut-address":  v4[:5],
		"cut-address6": append([]byte{6, 0}, make([]byte, 15)...),
		"65":           bytes.Repeat(v4, 65),
	} {
		bad("cidr-"+slug, "a network that is not allowed", "allowed cidrs", func(r *refRecord) { r.cidrs = b })
	}
	return vs
}
