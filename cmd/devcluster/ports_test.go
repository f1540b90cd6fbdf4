// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"net"
	"strconv"
	"testing"
)

func TestReserve(t *testing.T) {
	first, err := reserve(t.Context(), loopback, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.release()
	own := ownRange()
	if first.Port < own.first || first.Port >= own.first+own.count || own.first < firstPort || own.first+own.count > lastPort {
		t.Errorf("port %d: want one of %+v", first.Port, own)
	}
	if l, err := net.Listen("unix", own.held.Addr().String()); err == nil {
		_ = l.Close()
		t.Error("another process could take our part of the ports")
	}
	second, err := reserve(t.Context(), loopback, first.Port)
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	if second.Port == first.Port {
		t.Errorf("port %d was given twice", first.Port)
	}
	first.release()
	first.release() // a second time does nothing
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(first.Port)))
	if err != nil {
		t.Fatalf("a released port cannot be used: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := reserve(t.Context(), "192.0.2.1", 0); err == nil { // TEST-NET-1: nobody's address
		t.Error("a port on an address that this machine does not have: no error")
	}
}

func TestQuoting(t *testing.T) {
	for _, test := range []struct{ text, conn, conf, sql string }{
		{`plain`, `'plain'`, `'plain'`, `E'plain'`},
		{`it's`, `'it\'s'`, `'it''s'`, `E'it''s'`},
		{`back\slash`, `'back\\slash'`, `'back\\slash'`, `E'back\\slash'`},
		{``, `''`, `''`, `E''`},
	} {
		if got := quote(test.text); got != test.conn {
			t.Errorf("quote(%q): got %s, want %s", test.text, got, test.conn)
		}
		if got := quoteConf(test.text); got != test.conf {
			t.Errorf("quoteConf(%q): got %s, want %s", test.text, got, test.conf)
		}
		if got := literal(test.text); got != test.sql {
			t.Errorf("literal(%q): got %s, want %s", test.text, got, test.sql)
		}
	}
}

// TestPick: no port comes twice before all have come.
func TestPick(t *testing.T) {
	r := (&portRange{first: 100, count: 7}).begin()
	for range 3 {
		seen := map[int]bool{}
		for range r.count {
			port := r.pick()
			if port < 100 || port > 106 || seen[port] {
				t.Errorf("%d, behind %v", port, seen)
			}
			seen[port] = true
		}
	}
}
