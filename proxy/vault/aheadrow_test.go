// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

func appendNumbers(b []byte, numbers ...int32) []byte {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return b
}

func appendColumn(b []byte, value []byte) []byte {
	if value == nil {
		return appendNumbers(b, 25, -1)
	}
	return append(appendNumbers(b, 25, int32(len(value))), value...)
}

// pairs is an array of texts with two dimensions, as the server sends it.
func pairs(texts ...string) []byte {
	b := appendNumbers(nil, 2, 0, 25, int32(len(texts)/2), 1, 2, 1)
	for _, text := range texts {
		b = append(appendNumbers(b, int32(len(text))), text...)
	}
	return b
}

func tokenReadRow(columns ...[]byte) []byte {
	b := appendNumbers(nil, int32(len(columns)))
	for _, column := range columns {
		b = appendColumn(b, column)
	}
	return b
}

func TestTokenReadRow(t *testing.T) {
	created := binary.BigEndian.AppendUint64(nil, uint64(1500000))
	rules := pairs("read", "app/*", "*", "")
	whole := tokenReadRow([]byte("boss"), []byte(""), []byte{1}, rules, []byte("hv1.x"), created, []byte("manual"))
	got, err := parseTokenRead(whole)
	if err != nil || string(got.token) != "boss" || got.role == nil || len(got.role) != 0 || got.admin[0] != 1 || string(got.record) != "hv1.x" || string(got.kind) != "manual" {
		t.Errorf("%+v, %v", got, err)
	}
	if at, finite := parseTime(got.created); !finite || !at.Equal(time.Date(2000, 1, 1, 0, 0, 1, 5e8, time.UTC)) {
		t.Errorf("created at %v", at)
	}
	if list, err := parseRules(got.rules); err != nil || !slices.Equal(list, []rule{{"read", "app/*"}, {"*", ""}}) {
		t.Errorf("rules %v, %v", list, err)
	}
	if got, err := parseTokenRead(tokenReadRow(nil, nil, nil, nil, nil, nil, nil)); err != nil || got.role != nil || got.record != nil {
		t.Errorf("nobody: %+v, %v", got, err)
	}
	for n := range whole {
		if _, err := parseTokenRead(whole[:n]); err == nil {
			t.Errorf("its first %d bytes are read", n)
		}
	}
	for n := range rules {
		if _, err := parseRules(rules[:n]); err == nil {
			t.Errorf("the first %d bytes of its rules are read", n)
		}
	}
	if _, err := parseTokenRead(append(bytes.Clone(whole), 0)); err == nil {
		t.Error("what is behind it is not seen")
	}
	if _, err := parseRules(append(bytes.Clone(rules), 0)); err == nil {
		t.Error("what is behind its rules is not seen")
	}
	if _, finite := parseTime([]byte{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); finite {
		t.Error("infinity is a time")
	}
	if list, err := parseRules(appendNumbers(nil, 0, 0, 25)); err != nil || len(list) > 0 {
		t.Errorf("an array of nothing: %v, %v", list, err)
	}
	for what, b := range map[string][]byte{
		"one dimension":            appendNumbers(nil, 1, 0, 25, 2, 1, 0, 0),
		"three in each":            appendNumbers(nil, 2, 0, 25, 1, 1, 3, 1, 0, 0, 0),
		"more than there is":       appendNumbers(nil, 2, 0, 25, 1<<30, 1, 2, 1, 0, 0),
		"less than nothing":        appendNumbers(nil, 2, 0, 25, -1, 1, 2, 1),
		"a NULL":                   appendNumbers(nil, 2, 1, 25, 1, 1, 2, 1, 0, -1),
		"a length below nothing":   appendNumbers(nil, 2, 0, 25, 1, 1, 2, 1, 0, -2),
		"a length beyond the end ": appendNumbers(nil, 2, 0, 25, 1, 1, 2, 1, 0, 1),
	} {
		if list, err := parseRules(b); err == nil {
			t.Errorf("%s: %v", what, list)
		}
	}
}

func FuzzTokenReadRow(f *testing.F) {
	f.Add(tokenReadRow([]byte("boss"), []byte("admin"), []byte{1}, pairs("read", "*"), []byte("hv1.x"), make([]byte, 8), []byte("manual")))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if got, err := parseTokenRead(b); err == nil {
			_, _ = parseRules(got.rules) // neither may panic
		}
	})
}
