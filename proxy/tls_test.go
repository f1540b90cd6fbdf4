// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
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
