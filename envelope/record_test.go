// SPDX-License-Identifier: GPL-3.0-or-later

package envelope_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// sampleRecord is a record that can be encoded; it was never sealed.
func sampleRecord() envelope.Record {
	return envelope.Record{
		Subject: envelope.Subject{Vault: testVault, Secret: envelope.UUID{2}, Name: "app/x", Version: 3, Format: envelope.FormatBytes},
		Sealed: envelope.Sealed{
			KeyID: "arn:aws:kms:eu-central-1:111122223333:key/0", WrappedDEK: []byte{1, 2, 3},
			Nonce: bytes.Repeat([]byte{4}, 24), Ciphertext: bytes.Repeat([]byte{5}, 49),
		},
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")},
	}
}

func TestAppendTextRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		field envelope.Field
		edit  func(r *envelope.Record)
	}{
		"version 0":          {envelope.FieldVersion, func(r *envelope.Record) { r.Version = 0 }},
		"version -1":         {envelope.FieldVersion, func(r *envelope.Record) { r.Version = -1 }},
		"no name":            {envelope.FieldName, func(r *envelope.Record) { r.Name = "" }},
		"bad name":           {envelope.FieldName, func(r *envelope.Record) { r.Name = "a b" }},
		"no value format":    {envelope.FieldValueFormat, func(r *envelope.Record) { r.Format = 0 }},
		"other value format": {envelope.FieldValueFormat, func(r *envelope.Record) { r.Format = 4 }},
		"no key id":          {envelope.FieldKeyID, func(r *envelope.Record) { r.KeyID = "" }},
		"long key id":        {envelope.FieldKeyID, func(r *envelope.Record) { r.KeyID = string(make([]byte, 2049)) }},
		"no wrapped key":     {envelope.FieldWrappedDEK, func(r *envelope.Record) { r.WrappedDEK = nil }},
		"long wrapped key":   {envelope.FieldWrappedDEK, func(r *envelope.Record) { r.WrappedDEK = make([]byte, 6145) }},
		"short nonce":        {envelope.FieldNonce, func(r *envelope.Record) { r.Nonce = r.Nonce[1:] }},
		"short ciphertext":   {envelope.FieldCiphertext, func(r *envelope.Record) { r.Ciphertext = r.Ciphertext[1:] }},
		"long ciphertext":    {envelope.FieldCiphertext, func(r *envelope.Record) { r.Ciphertext = make([]byte, 32+envelope.MaxValue+17) }},
		"invalid network":    {envelope.FieldCIDRs, func(r *envelope.Record) { r.AllowedCIDRs[0] = netip.Prefix{} }},
		"host bits":          {envelope.FieldCIDRs, func(r *envelope.Record) { r.AllowedCIDRs[0] = netip.MustParsePrefix("10.0.0.1/8") }},
		"too many networks":  {envelope.FieldCIDRs, func(r *envelope.Record) { r.AllowedCIDRs = make([]netip.Prefix, 65) }},
	} {
		r := sampleRecord()
		c.edit(&r)
		got, err := r.AppendText([]byte("dst"))
		var e *envelope.RecordError
		if !errors.As(err, &e) || e.Field != c.field || e.Fault != envelope.FaultValue || !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("%s: got %v, want a fault of %v", name, err, c.field)
		}
		if string(got) != "dst" {
			t.Errorf("%s: got %q, want dst as it was", name, got)
		}
	}
}

func TestLargestText(t *testing.T) {
	r := sampleRecord()
	r.Name = string(bytes.Repeat([]byte("n"), envelope.MaxName))
	r.KeyID = string(bytes.Repeat([]byte("k"), envelope.MaxKeyID))
	r.WrappedDEK = make([]byte, envelope.MaxWrappedDEK)
	r.Ciphertext = make([]byte, 32+envelope.MaxValue+16)
	r.AllowedCIDRs = nil
	for i := range envelope.MaxCIDRs {
		r.AllowedCIDRs = append(r.AllowedCIDRs, netip.PrefixFrom(netip.AddrFrom16([16]byte{byte(i)}), 8))
	}
	text, err := r.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(text), 712059; got != want || got > envelope.MaxText {
		t.Errorf("got %d bytes, want %d", got, want)
	}
	if _, err := envelope.ParseRecord(text); err != nil {
		t.Error(err)
	}
}

// TestParseReuse: a record and a buffer used again hold the new record only.
func TestParseReuse(t *testing.T) {
	first, second := sampleRecord(), sampleRecord()
	second.Name, second.KeyID, second.AllowedCIDRs, second.Ciphertext = "b", "k", nil, second.Ciphertext[:49:49]
	var r envelope.Record
	var buf []byte
	for range 2 {
		for _, want := range []envelope.Record{first, second} {
			text, err := want.AppendText(nil)
			if err != nil {
				t.Fatal(err)
			}
			if buf, err = r.Parse(text, buf); err != nil {
				t.Fatal(err)
			}
			if again, err := r.AppendText(nil); err != nil || !bytes.Equal(again, text) {
				t.Errorf("got %s, want %s (%v)", again, text, err)
			}
		}
	}
	text, err := first.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	parse := func() {
		if buf, err = r.Parse(text, buf); err != nil {
			t.Fatal(err)
		}
	}
	parse()
	if n := testing.AllocsPerRun(100, parse); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
	// A field of a record cannot be appended to into the next one.
	if cap(r.Nonce) != len(r.Nonce) {
		t.Errorf("the nonce has room for %d bytes more", cap(r.Nonce)-len(r.Nonce))
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		envelope.FormatUserpass.String():  "userpass",
		envelope.ValueFormat(9).String():  "format 9",
		envelope.FieldWrappedDEK.String(): "wrapped dek",
		envelope.Field(99).String():       "unknown field",
		envelope.Field(-1).String():       "unknown field",
		envelope.FaultTrailing.String():   "bytes after the last field",
		envelope.Fault(0).String():        "unknown fault",
		envelope.KMSThrottled.String():    "throttled",
		envelope.KMSErrorKind(0).String(): "unknown",
		(&envelope.RecordError{Fault: envelope.FaultTruncated, Field: envelope.FieldNonce}).Error(): "malformed sealed record: nonce: truncated",
		(&envelope.KMSError{Kind: envelope.KMSDenied}).Error():                                      "kms: access denied",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
