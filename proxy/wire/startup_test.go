// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

func TestReadStartup(t *testing.T) {
	for name, c := range map[string]struct {
		in     []byte
		err    error
		params []Param
	}{
		"3.0":                {in: packet(Version30, "user\x00app\x00database\x00d\x00\x00"), params: []Param{{"user", "app"}, {"database", "d"}}},
		"3.2 and duplicates": {in: packet(Version32, "user\x00a\x00user\x00b\x00\x00"), params: []Param{{"user", "a"}, {"user", "b"}}},
		"greased 3.9999":     {in: packet(3<<16|9999, "user\x00a\x00_pq_.x\x001\x00\x00"), params: []Param{{"user", "a"}, {"_pq_.x", "1"}}},
		"no parameters":      {in: packet(Version30, "\x00")},
		"no terminator":      {in: packet(Version30, "user\x00app\x00"), err: ErrStartupLayout},
		"value missing":      {in: packet(Version30, "user\x00"), err: ErrStartupLayout},
		"bytes after":        {in: packet(Version30, "user\x00app\x00\x00x"), err: ErrStartupLayout},
		"too short":          {in: []byte{0, 0, 0, 7, 0, 3, 0}, err: ErrStartupLength},
		"negative length":    {in: []byte{0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0}, err: ErrStartupLength},
		"too long":           {in: packet(Version30, strings.Repeat("x", MaxStartup-3)), err: ErrStartupLength},
		"cut":                {in: packet(Version30, "user\x00app\x00\x00")[:12], err: io.ErrUnexpectedEOF},
		"nothing":            {in: nil, err: io.EOF},
		"SSL with a tail":    {in: packet(CodeSSL, "x"), err: ErrStartupLength},
		"cancel too short":   {in: packet(CodeCancel, "1234567"), err: ErrStartupLength},
		"cancel too long":    {in: packet(CodeCancel, strings.Repeat("x", 261)), err: ErrStartupLength},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ReadStartup(bytes.NewReader(c.in), MaxStartup)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if c.err != nil {
				return
			}
			if len(s.Params) != len(c.params) {
				t.Fatalf("got %v, want %v", s.Params, c.params)
			}
			for i := range c.params {
				if s.Params[i] != c.params[i] {
					t.Errorf("parameter %d: got %v, want %v", i, s.Params[i], c.params[i])
				}
			}
		})
	}
}

func TestStartupReadsNotOneByteMore(t *testing.T) {
	r := bytes.NewReader(append(packet(CodeSSL, ""), "stuffed"...))
	if _, err := ReadStartup(r, MaxStartup); err != nil {
		t.Fatal(err)
	}
	if r.Len() != len("stuffed") {
		t.Errorf("%d bytes left, want %d: what follows belongs to TLS", r.Len(), len("stuffed"))
	}
}

func TestCancelKeyOf32Bytes(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	s, err := ReadStartup(bytes.NewReader(AppendCancel(nil, 42, secret)), MaxStartup)
	if err != nil {
		t.Fatal(err)
	}
	if s.Code != CodeCancel || s.PID != 42 || !bytes.Equal(s.Secret, secret) {
		t.Errorf("got %+v", s)
	}
}

func TestAppendStartupKeepsOrderAndLeavesOptionsOut(t *testing.T) {
	in := []Param{{"user", "a"}, {"_pq_.x", "1"}, {"options", `-c a=b\ c`}, {"user", "b"}}
	s, err := ReadStartup(bytes.NewReader(AppendStartup(nil, in)), MaxStartup)
	if err != nil {
		t.Fatal(err)
	}
	want := []Param{in[0], in[2], in[3]}
	if len(s.Params) != 3 || s.Params[0] != want[0] || s.Params[1] != want[1] || s.Params[2] != want[2] {
		t.Errorf("got %v, want %v", s.Params, want)
	}
	if s.Get("user") != "b" {
		t.Errorf("the last duplicate wins: got %q", s.Get("user"))
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(packet(Version30, "user\x00app\x00\x00"))
	f.Add(packet(CodeCancel, "\x00\x00\x00\x01abcd"))
	f.Add(packet(CodeSSL, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadStartup(bytes.NewReader(b), MaxStartup)
		if err != nil || s.Code>>16 != 3 {
			return
		}
		again, err := ReadStartup(bytes.NewReader(AppendStartup(nil, s.Params)), MaxStartup)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if len(again.Params)+len(s.Options()) != len(s.Params) {
			t.Fatalf("parameters changed: %v, %v", s.Params, again.Params)
		}
	})
}
