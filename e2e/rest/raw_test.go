// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial connects to who serves REST at an address, for as long as a test may take.
func dial(t *testing.T, base string) net.Conn {
	t.Helper()
	conn, err := connect(t, base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func connect(t *testing.T, base string) (net.Conn, error) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(40 * time.Second))
}

// exchange sends bytes and returns what comes back until the connection is closed. Many
// may do it at once.
func exchange(t *testing.T, base, request string) string {
	t.Helper()
	conn, err := connect(t, base)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, request) // it may close before it has read all
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the same
	}
	text, _ := io.ReadAll(conn) // what came counts
	return string(text)
}

// dialFrom dials from an address of this host, on which others listen as well.
func dialFrom(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(to)
		if err != nil {
			return nil, err
		}
		server := "127.0.0.1"
		if strings.Contains(address, ":") {
			server = "::1"
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		return d.DialContext(ctx, network, net.JoinHostPort(server, port))
	}
}

// clientFrom is a client that asks from an address of this host.
func clientFrom(address string) http.Client {
	return http.Client{Timeout: client.Timeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialFrom(address)}}
}
