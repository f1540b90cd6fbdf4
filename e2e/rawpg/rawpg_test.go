// SPDX-License-Identifier: GPL-3.0-or-later

package rawpg

import (
	"errors"
	"net"
	"testing"
)

// TestDialTLS: who demands TLS is not connected in clear.
func TestDialTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil { // so that who connects is refused at once
		t.Fatal(err)
	}
	for mode, refused := range map[string]bool{
		"disable": false, "allow": false, "prefer": false, "require": true, "verify-full": true,
	} {
		c, err := Dial(t.Context(), "host="+host+" port="+port+" user=x sslmode="+mode)
		if err == nil {
			t.Fatal("connected to nobody", c.Close())
		}
		if errors.Is(err, errTLS) != refused {
			t.Errorf("%s: got %v", mode, err)
		}
	}
}
