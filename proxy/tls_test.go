// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// Who asks a server that stands still for TLS gives up when nobody waits for him any
// more, not only when his time is over: the end of the node waits for him.
func TestAskingForTLSEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	up := &upstream{Server: vault.Server{Network: "tcp", Addr: l.Addr().String()}, tls: &ServerTLS{Mode: SSLPrefer}}
	srv := &Server{}
	srv.SetLimits(Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	time.AfterFunc(100*time.Millisecond, cancel)
	begun := time.Now()
	if nc, err := up.dial(ctx, srv, up.mode()); err == nil {
		nc.Close()
		t.Fatal("it has answered")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it gave up after %v", took)
	}
}

// A server that has no TLS, and says so, is spoken to in clear on the same connection;
// one that says anything else gets another.
func TestPreferGoesOnInClear(t *testing.T) {
	for answer, connections := range map[byte]int{'N': 1, 'E': 2} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		heard := make(chan int, 1)
		go func() { heard <- untilInClear(l, answer) }()
		up := &upstream{Server: vault.Server{Network: "tcp", Addr: l.Addr().String()}, tls: &ServerTLS{Mode: SSLPrefer}}
		srv := &Server{}
		srv.SetLimits(Limits{})
		nc, err := up.dial(t.Context(), srv, up.mode())
		if err != nil {
			t.Fatalf("%c: %v", answer, err)
		}
		defer nc.Close()
		if _, err := nc.Write([]byte("in clear")); err != nil {
			t.Fatal(err)
		}
		if n := <-heard; n != connections {
			t.Errorf("%c: got %d connections, want %d", answer, n, connections)
		}
	}
}

// untilInClear answers each SSLRequest, and returns on which connection something else came.
func untilInClear(l net.Listener, answer byte) int {
	first := make([]byte, 8)
	for n := 1; ; n++ {
		nc, err := l.Accept()
		if err != nil {
			return 0
		}
		defer nc.Close()
		for {
			if _, err := io.ReadFull(nc, first); err != nil {
				break
			}
			if string(first) == "in clear" {
				return n
			}
			if _, err := nc.Write([]byte{answer}); err != nil {
				break
			}
		}
	}
}
