// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestPlainIsNotPrinted(t *testing.T) {
	p := Plain{b: []byte("s3cret")}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%v"} {
		if verb == "%T%v" {
			fmt.Fprintf(&out, verb, p, p)
			continue
		}
		fmt.Fprintf(&out, verb, p)
		fmt.Fprintf(&out, verb, &p)
		fmt.Fprintf(&out, verb, []Plain{p})
		fmt.Fprintf(&out, verb, struct{ P Plain }{p})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "p", p, "s", []Plain{p})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "p", p, "s", struct{ P Plain }{p})
	if err := json.NewEncoder(&out).Encode(map[string]any{"p": p, "q": &p}); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"s3cret", fmt.Sprintf("%x", "s3cret"), "115 51 99 114 101 116", "czNjcmV0"} {
		if strings.Contains(strings.ToLower(out.String()), leak) {
			t.Errorf("printed as %q: %s", leak, out.String())
		}
	}
}

func TestPlainZero(t *testing.T) {
	b := []byte("s3cret")
	ps := []Plain{{b: b[:3]}, {b: b[3:]}, {}}
	ZeroAll(ps)
	if !bytes.Equal(b, make([]byte, 6)) {
		t.Errorf("left %q", b)
	}
	if ps[0].Len() != 0 || ps[0].Bytes() != nil {
		t.Error("a zeroed Plain still refers to its memory")
	}
}
