// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"slices"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
)

var update = flag.Bool("update", false, "write testdata/vectors anew")

// TestVectorFiles holds the files to the second implementation of ref_test.go.
func TestVectorFiles(t *testing.T) {
	made := makeVectors(t)
	if *update {
		writeVectors(t, made)
	}
	files := make(map[string][]byte)
	for _, v := range readVectors(t) {
		files[v.name] = v.file()
	}
	for _, v := range made {
		if got, want := files[v.name], v.file(); !bytes.Equal(got, want) {
			t.Errorf("%s: the file differs from what -update writes", v.name)
		}
		delete(files, v.name)
	}
	for name := range files {
		t.Errorf("%s: -update does not write this file", name)
	}
}

// TestVectors holds the package to the files.
func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			switch v.get("expect") {
			case "ok", "parse":
				checkGood(t, v)
			case "tampered":
				checkTampered(t, v)
			case "malformed":
				checkMalformed(t, v)
			default:
				t.Errorf("expect: %q", v.get("expect"))
			}
		})
	}
}

// vectorSealer is a node as the vector's header has it.
func vectorSealer(t *testing.T, v *vector) *envelope.Sealer {
	t.Helper()
	kms, err := localkms.New(v.hex(t, "master"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := kms.KeyID(), v.get("key-id"); got != want {
		t.Errorf("got key id %s, want %s", got, want)
	}
	vault, err := envelope.ParseUUID(v.get("vault"))
	if err != nil {
		t.Fatal(err)
	}
	return newSealer(t, kms, kms.KeyID(), func(c *envelope.Config) { c.Vault = vault })
}

func checkMalformed(t *testing.T, v *vector) {
	t.Helper()
	r, err := envelope.ParseRecord(v.text(t))
	var e *envelope.RecordError
	if !errors.Is(err, envelope.ErrMalformed) || !errors.As(err, &e) {
		t.Fatalf("got %v, want ErrMalformed", err)
	}
	if e.Fault.String() != v.get("fault") || e.Field.String() != v.get("field") {
		t.Errorf("got %v in %v, want %s in %s", e.Fault, e.Field, v.get("fault"), v.get("field"))
	}
	if r.Name != "" || r.Ciphertext != nil {
		t.Errorf("got a record beside the error: %+v", r)
	}
}

func checkTampered(t *testing.T, v *vector) {
	t.Helper()
	r, err := envelope.ParseRecord(v.text(t))
	if err != nil {
		t.Fatal(err)
	}
	s := vectorSealer(t, v)
	for range 2 { // the second from memory
		got, err := s.Open(t.Context(), &r, []byte("dst"))
		if !errors.Is(err, envelope.ErrTampered) || string(got) != "dst" {
			t.Errorf("got %q, %v; want ErrTampered", got, err)
		}
	}
}

// fixedKMS generates the data key of a vector.
type fixedKMS struct {
	envelope.KMS
	dek, wrapped []byte
	keyID        string
}

func (k fixedKMS) Generate(context.Context, envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	return bytes.Clone(k.dek), k.wrapped, k.keyID, nil
}

func checkGood(t *testing.T, v *vector) {
	t.Helper()
	s := vectorSealer(t, v)
	want := goodRecord(t, v, s)
	value := v.hex(t, "value")
	if v.get("value-repeat") != "" {
		value = v.repeat(t, "value-repeat")
	}

	keyID := v.get("key-id")
	if id := v.get("record-key-id"); id != "" {
		keyID = id
	}
	fixed := newSealer(t, fixedKMS{dek: v.hex(t, "dek"), wrapped: v.hex(t, "wrapped-dek"), keyID: keyID}, keyID,
		func(c *envelope.Config) { c.Vault = s.Vault() })
	k, err := fixed.NewKey(t.Context(), want.Name)
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Keys(); !bytes.Equal(got, append(v.hex(t, "encryption-key"), v.hex(t, "commitment")...)) {
		t.Errorf("got keys %x", got)
	}
	if want.Sealed, err = k.SealNonce(want.Subject, value, v.hex(t, "nonce")); err != nil {
		t.Fatal(err)
	}
	text, err := want.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:], v.hex(t, "text-sha256")) || v.payload != "" && v.payload != string(text) {
		t.Fatal("sealed and encoded, it is another text")
	}

	got, err := envelope.ParseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != want.Subject || got.KeyID != want.KeyID || !bytes.Equal(got.WrappedDEK, want.WrappedDEK) ||
		!bytes.Equal(got.Nonce, want.Nonce) || !bytes.Equal(got.Ciphertext, want.Ciphertext) || !slices.Equal(got.AllowedCIDRs, want.AllowedCIDRs) {
		t.Errorf("parsed, it is another record: %+v", got)
	}
	if again, err := got.AppendText(nil); err != nil || !bytes.Equal(again, text) {
		t.Errorf("encoded again, it is another text (%v)", err)
	}
	if aad := envelope.AAD(got.Subject, got.Ciphertext[:32]); !bytes.Equal(aad, v.hex(t, "aad")) {
		t.Errorf("got aad %x", aad)
	}
	if c := (envelope.Context{Vault: got.Vault, Secret: got.Name}).AppendCanonical(nil); !bytes.Equal(c, v.hex(t, "context")) {
		t.Errorf("got context %x", c)
	}
	if key := envelope.CacheKey(&got); !bytes.Equal(key[:], v.hex(t, "cache-key")) {
		t.Errorf("got cache key %x", key)
	}
	if v.get("expect") == "parse" {
		return
	}
	if plain, err := s.Open(t.Context(), &got, nil); err != nil || !bytes.Equal(plain, value) {
		t.Errorf("got a value of %d bytes, %v", len(plain), err)
	}
}

// goodRecord is the record of a vector's header, without what is sealed.
func goodRecord(t *testing.T, v *vector, s *envelope.Sealer) envelope.Record {
	t.Helper()
	secret, err := envelope.ParseUUID(v.get("secret-id"))
	if err != nil {
		t.Fatal(err)
	}
	r := envelope.Record{Subject: envelope.Subject{Vault: s.Vault(), Secret: secret, Name: v.get("name"), Version: atoi32(t, v.get("version"))}}
	for f := envelope.FormatText; f.Valid(); f++ {
		if f.String() == v.get("format") {
			r.Format = f
		}
	}
	for _, c := range v.all("cidr") {
		r.AllowedCIDRs = append(r.AllowedCIDRs, parsePrefix(t, c))
	}
	return r
}
